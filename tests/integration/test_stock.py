"""Programs that use SQLite's C interface as anybody does (stock_*.c): on a plain WAL file and on
Corallite they are told the same, but for the rows of "Differences" in docs/pragmas.md."""

import os
import sqlite3
import subprocess
import time

from lib import pragmas_doc
from lib.cluster import BIN, EXTENSION, Failure, check, last_error, load_extension, popen
from lib.registry import test

PROGRAMS = ("stock_calls", "stock_transactions")
SECONDS = 60  # of a case


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


def compare(program, case, c, folder, seen):
    """The number of equal lines."""
    env = c.env(CORALLITE_EXTENSION=EXTENSION, CORALLITE_LOG="off")
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
      "shutdown ...) are told the same on Corallite as on a plain WAL file", 300)
def stock_programs(t):
    documented = pragmas_doc.differences()
    seen, wrong, lines, slowest = {}, [], 0, (0.0, "")
    with t.cluster() as c:
        for program in PROGRAMS:
            for case in cases(os.path.join(BIN, "tests", "integration", program)):
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
    if not wrong:
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


@test("stock and own parameters of the URI: what each does, and the sentence for what is wrong", 60)
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
