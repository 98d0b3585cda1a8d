"""Programs that use SQLite's C interface as anybody does (stock_*.c): on a plain WAL file and on
Corallite they are told the same, but for the rows of "Differences" in docs/pragmas.md."""

import os
import random
import shutil
import sqlite3
import subprocess
import time

from lib import pragmas_doc
from lib.cluster import (BIN, EXTENSION, NODES, PAGESERVER, SLOWER, Failure, check, last_error, load_extension,
                         popen, socket_bytes)
from lib.registry import test
from test_branches import corallite

PROGRAMS = ("stock_calls", "stock_transactions")
SECONDS = 120  # of a case


# What a sanitizer cannot run (tests/sanitized/kinds.py has the reason).
WITHOUT = os.environ.get("STOCK_WITHOUT", "").split()


def cases(program):
    out = subprocess.run([program, "--list"], capture_output=True, text=True, timeout=10, check=True)
    return out.stdout.split()


def start(program, side, folder, case, env):
    return popen([program, side, folder, case], env=env, stdin=subprocess.DEVNULL,
                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def transcript(process, what, seconds=SECONDS):
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Failure(f"{what}: not finished after {seconds} s") from None
    lines = out.decode(errors="replace").splitlines()
    if process.returncode != 0 or not lines or lines[-1] != "end":
        raise Failure(f"{what}: status {process.returncode}: {lines[-2:]} {err.decode()[-300:]}")
    return lines


def split(lines):
    """What has to be the same, and {key: answer} of what may differ."""
    answers = {}
    for line in lines:
        if line.startswith("! "):
            key, _, answer = line[2:].rpartition(": ")
            answers[key] = answer
    return [line for line in lines if not line.startswith("! ")], answers


def compare(program, case, c, folder, seen, **more):
    """The number of equal lines."""
    env = c.env(CORALLITE_EXTENSION=EXTENSION, CORALLITE_LOG="off", **more)
    path = os.path.join(BIN, "tests", "integration", program)
    sides = [start(path, side, folder, case, env) for side in ("plain", "corallite")]
    (plain, theirs), (ours, mine) = (
        split(transcript(p, f"{case}, {side}"))
        for p, side in zip(sides, ("plain file", "Corallite")))
    for i in range(max(len(plain), len(ours))):
        a, b = (side[i] if i < len(side) else "(nothing)" for side in (plain, ours))
        if a != b:
            raise Failure(f"{program} {case}, line {i + 1}, after {plain[i - 1] if i else ''!r}: "
                          f"a plain file says {a.strip()!r}, Corallite {b.strip()!r}")
    check(set(theirs) == set(mine), f"{case}: keys {sorted(set(theirs) ^ set(mine))}")
    for key in mine:
        seen[key] = (theirs[key], mine[key])
    return len(ours)


@test("programs of the C interface (hooks, backup, blobs, fork, threads, checkpoints, shared cache, ATTACH, "
      "shutdown ...) are told the same on Corallite as on a plain WAL file", 600)
def stock_programs(t):
    documented = pragmas_doc.differences()
    seen, wrong, lines, slowest = {}, [], 0, (0.0, "")
    with t.cluster() as c:
        for program in PROGRAMS:
            for case in cases(os.path.join(BIN, "tests", "integration", program)):
                if case in WITHOUT:
                    t.note(f"{case} is left out")
                    continue
                folder = os.path.join(t.dir, f"plain-{case}")
                os.makedirs(folder)
                began = time.monotonic()
                try:
                    lines += compare(program, case, c, folder, seen)
                except Failure as e:
                    wrong.append(str(e))
                slowest = max(slowest, (time.monotonic() - began, case))
    t.note(f"{lines} answers the same, {len(seen)} documented differences; "
           f"slowest {slowest[1]}: {slowest[0]:.1f} s")
    for key, answers in seen.items():
        if key not in documented:
            wrong.append(f"'{key}' is not in docs/pragmas.md: {answers}")
        elif documented[key] != answers:
            wrong.append(f"'{key}': docs/pragmas.md says {documented[key]}, seen {answers}")
    if not wrong and not WITHOUT:
        wrong += [f"'{key}' of docs/pragmas.md was not seen" for key in documented if key not in seen]
    check(not wrong, " || ".join(wrong))


@test("every allocation fails, in whatever thread, once or from there on: the call says so, the database is as "
      "before or as after, the connection goes on, nothing leaks", 300)
def memory_runs_out(t):
    with t.cluster() as c:
        env = c.env(CORALLITE_EXTENSION=EXTENSION, CORALLITE_LOG="off")
        if t.slow():
            env["STOCK_ALL"] = "1"  # each of them, and not a sample
        process = start(os.path.join(BIN, "tests", "integration", "stock_memory"), "corallite", t.dir,
                        "memory", env)
        lines = transcript(process, "stock_memory", 290)
        for line in lines[:-1]:
            t.note(line)
        check(len(lines) > 10, "almost nothing was tried")


@test("calls in an order drawn from a seed, on five connections with open statements, blobs and backups: the same "
      "answers as on a plain file", 24 * 3600)
def calls_in_any_order(t):
    only = os.environ.get("CALLS_SEED")
    seconds = float(os.environ.get("CALLS_SECONDS", 120 if t.slow() else 6))
    calls = os.environ.get("STOCK_CALLS", "400")
    program, end, lines, n = "stock_random", time.monotonic() + seconds, 0, 0
    with t.cluster() as c:
        while n == 0 or (time.monotonic() < end and not only):
            seed = only or str(random.SystemRandom().randrange(1 << 32))
            folder = os.path.join(t.dir, f"plain-{n}")
            os.makedirs(folder)
            more = {"STOCK_SEED": seed, "STOCK_CALLS": calls, "STOCK_TAG": f"-{n}"}
            try:
                lines += compare(program, "any-order", c, folder, {}, **more)
            except Failure as e:
                raise Failure(f"CALLS_SEED={seed} STOCK_CALLS={calls} repeats it: {e}") from None
            shutil.rmtree(folder)
            n += 1
    t.note(f"{n} seeds of {calls} calls, {lines} answers the same")


@test("stock and own parameters of the URI: what each does, and the sentence for what is wrong", 120)
def uri_parameters(t):
    sentences = {pragmas_doc.code(row[0]): row[1] for row in pragmas_doc.tables("URI parameters", 1)}
    check(len(sentences) > 15, "the table of sentences")
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a); INSERT INTO t VALUES(1);")
        for parameter, words in sentences.items():
            message = refused(f"file:shop?vfs=corallite&server={c.server()}&{parameter}"
                              if not parameter.startswith("server=")
                              else f"file:shop?vfs=corallite&{parameter}")
            check(words in message, f"{parameter}: {message}")
        full = f"corallite://{c.server()}/shop/main"
        check("are two" in refused(f"file:{full}?vfs=corallite&server=127.0.0.1:1"), "two servers")
        lsn = c.shell("PRAGMA corallite_lsn;").stdout.strip()
        check("are two" in refused(f"file:{full}@{lsn}?vfs=corallite&at=latest"), "two moments")
        db = c.connect()
        fixed = c.connect(immutable=1)
        shared = [c.connect(cache="shared") for _ in range(2)]
        db.execute("INSERT INTO t VALUES(2)")
        check(fixed.execute("SELECT count(*) FROM t").fetchone() == (1,), "immutable=1 moved")
        for n, parameters in ((2, {"psow": 0}), (2, {"psow": 1}), (2, {"mode": "ro"}), (2, {"mode": "rwc"}),
                              (2, {"cache": "private"}), (2, {"modeof": "/nowhere"}),
                              (2, {"mode": "rw", "immutable": 1}), (2, {"mode": "rw", "at": "latest"})):
            other = c.connect(**parameters)
            check(other.execute("SELECT count(*) FROM t").fetchone() == (n,), f"{parameters}")
            readonly = parameters.get("mode") == "ro" or "at" in parameters or "immutable" in parameters
            try:
                other.execute("INSERT INTO t VALUES(3)")
                other.execute("DELETE FROM t WHERE a = 3")
                check(not readonly, f"{parameters}: written")
            except sqlite3.OperationalError as e:
                check(readonly and e.sqlite_errorname.startswith("SQLITE_READONLY"), f"{parameters}: {e}")
            other.close()
        memory = c.connect(mode="memory")
        memory.execute("CREATE TABLE only_here(a)")
        check(db.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (1,), "mode=memory wrote")
        shared[0].execute("BEGIN IMMEDIATE")
        shared[0].execute("INSERT INTO t VALUES(9)")
        check(code_of(shared[1], "SELECT * FROM t") == "SQLITE_LOCKED_SHAREDCACHE", "cache=shared")
        check(code_of(db, "SELECT * FROM t") is None, "a private cache beside it")
        shared[0].execute("ROLLBACK")


@test("ATTACH to the build's limit of databases, branches, moments and files, of a database and of a plain file; "
      "one more is refused", 120)
def attach_of_every_kind(t):
    with t.cluster() as c:
        db = c.connect()
        db.execute("CREATE TABLE t(a)")
        db.execute("INSERT INTO t VALUES('first')")
        lsn = db.execute("PRAGMA corallite_lsn").fetchone()[0]
        corallite(c, "branch", "create", "shop/dev")
        db.execute("INSERT INTO t VALUES('second')")
        c.shell("CREATE TABLE t(a); INSERT INTO t VALUES('of the other');", "other")
        path = os.path.join(t.dir, "a.db")
        plain = sqlite3.connect(f"file:{path}?vfs=unix", uri=True, isolation_level=None)
        plain.execute("CREATE TABLE t(a)")
        plain.execute("INSERT INTO t VALUES('of a file')")
        server = f"vfs=corallite&server={c.server()}"
        kinds = (("shop/dev", "", ["first"]), ("shop", f"&at=lsn:{lsn}", ["first"]),
                 ("other", "", ["of the other"]), (None, "", ["of a file"]),
                 ("shop", "&at=latest", ["first", "second"]))
        limit = db.getlimit(sqlite3.SQLITE_LIMIT_ATTACHED)
        for main in (db, plain):
            for i in range(limit):
                name, at, rows = kinds[i % len(kinds)]
                uri = f"file:{name}?{server}{at}" if name else f"file:{path}?vfs=unix"
                main.execute("ATTACH ? AS ?", (uri, f"x{i}"))
                got = [row[0] for row in main.execute(f"SELECT a FROM x{i}.t")]
                check(got == rows, f"{uri}: {got}")
            message = code_of(main, f"ATTACH 'file:other?{server}' AS more")
            check(message == "SQLITE_ERROR", f"one more than {limit}: {message}")
            check(code_of(main, "INSERT INTO x1.t VALUES(1)") == "SQLITE_READONLY", "a moment was written")
            main.execute("CREATE TEMP TABLE seen AS SELECT a FROM x0.t UNION ALL SELECT a FROM x2.t UNION ALL "
                         "SELECT a FROM x3.t")
            check(main.execute("SELECT count(*) FROM seen").fetchone() == (3,), "over all of them")
            # A transaction over a database, a branch and a file, given up and kept.
            for end, more in (("ROLLBACK", 0), ("COMMIT", 1)):
                main.execute("BEGIN")
                for schema in ("x0", "x2", "x3"):
                    main.execute(f"INSERT INTO {schema}.t VALUES('more')")
                main.execute(end)
                for schema in ("x0", "x2", "x3", "x5", "x7", "x8"):
                    n = main.execute(f"SELECT count(*) FROM {schema}.t").fetchone()[0]
                    check(n == 1 + more, f"{schema} after {end}: {n}")
            for i in range(limit):
                main.execute(f"DETACH x{i}")
            for schema, uri in (("b", f"file:shop/dev?{server}"), ("o", f"file:other?{server}"),
                                ("f", f"file:{path}?vfs=unix")):
                main.execute("ATTACH ? AS ?", (uri, schema))
                main.execute(f"DELETE FROM {schema}.t WHERE a = 'more'")
                main.execute(f"DETACH {schema}")
        t.note(f"limit {limit}")
        check(db.execute("SELECT count(*) FROM t").fetchone() == (2,), "main is as it was")
        plain.close()
        db.close()


@test("staleness=MS: reads send nothing to anybody, counted by the kernel, and are no older than that; "
      "corallite_wait() gives read-your-writes", 120)
def staleness(t):
    t.needs("ss")
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a); INSERT INTO t VALUES('first');")
        stale = c.connect(staleness="1h")
        check(stale.execute("SELECT count(*) FROM t").fetchone() == (1,), "read")
        before = sent(c)
        for _ in range(300):
            stale.execute("SELECT a FROM t").fetchall()
        after = sent(c)
        check(sum(before.values()) > 0, f"nothing was ever sent: {before}")
        # A sign of life to a daemon may fall in between.
        check(sum(after.values()) - sum(before.values()) < 300 * SLOWER, f"300 stale reads sent: {before}, {after}")
        shell = c.shell("INSERT INTO t VALUES('second'); PRAGMA corallite_last_commit; PRAGMA corallite_lsn;")
        commit, lsn = shell.stdout.split()
        check(stale.execute("SELECT count(*) FROM t").fetchone() == (1,), "staleness=1h has asked")
        check(stale.execute("SELECT corallite_wait(?)", (commit,)).fetchone() == (commit,), "wait")
        check(stale.execute("SELECT count(*) FROM t").fetchone() == (2,), "its own write was not seen")
        check(stale.execute("SELECT corallite_wait(?)", (lsn,)).fetchone() == (lsn,), "wait for an LSN")
        stale.close()
        young = c.connect(staleness="200")
        for i in range(3, 7):
            young.execute("SELECT a FROM t").fetchall()
            c.shell(f"INSERT INTO t VALUES({i});")
            time.sleep(0.21)
            check(young.execute("SELECT count(*) FROM t").fetchone() == (i,), "older than it may be")
        young.close()


def sent(c):
    """Bytes that this process has sent to each daemon, for ever."""
    return {node: sum(n for n, _ in socket_bytes(os.getpid(), c.port[node]).values())
            for node in NODES + (PAGESERVER,)}


def refused(uri):
    """The sentence of an open that has to fail."""
    load_extension()
    try:
        sqlite3.connect(uri, uri=True).execute("SELECT 1 FROM sqlite_schema")
    except sqlite3.OperationalError as e:
        check(e.sqlite_errorname == "SQLITE_CANTOPEN", f"{uri}: {e.sqlite_errorname}")
        return last_error()
    raise Failure(f"{uri} was opened")


def code_of(db, sql):
    try:
        db.execute(sql).fetchall()
    except sqlite3.Error as e:
        return e.sqlite_errorname
    return None
