"""Moments and branches, against plain files that were fed the same statements."""

import os
import random
import re
import sqlite3
import time

from lib.cluster import BIN, SLOWER, Failure, check, last_error, run, until
from lib.registry import test

COMMITS = 20


def corallite(c, *args, ok=True):
    """The command, on the cluster."""
    done = run([os.path.join(BIN, "corallite"), *args, "--server", c.server()], "", 60, c.env())
    if ok and done.returncode != 0:
        raise Failure(f"corallite {' '.join(args)}: {done.returncode}: {done.stderr[-400:]}")
    return done


def sum_of_file(file):
    done = run(["sqlite3", "-batch", "-init", "/dev/null", file], ".sha3sum\n", 60)
    check(done.returncode == 0 and len(done.stdout.split()[0]) >= 56, f".sha3sum: {done.stderr}")
    return done.stdout.split()[0]


def sum_at(c, db="shop", **parameters):
    return c.shell(".sha3sum\n", db, **parameters).stdout.split()[0]


def statements(seed):
    """A fresh script of COMMITS transactions; two of them are VACUUMs."""
    r = random.Random(seed)
    yield ("BEGIN; CREATE TABLE t(id INTEGER PRIMARY KEY, k INT, v TEXT); CREATE INDEX t_k ON t(k); "
           "COMMIT;")
    for n in range(1, COMMITS):
        if n in (7, 15):
            yield "VACUUM;"
            continue
        some = []
        for _ in range(r.randint(1, 6)):
            some.append(r.choice((
                f"INSERT INTO t(k, v) VALUES({r.randint(0, 99)}, hex(zeroblob({r.randint(1, 3000)})));",
                "WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < "
                f"{r.randint(2, 200)}) INSERT INTO t(k, v) SELECT x * 31 % 100, 'v' || x FROM i;",
                f"UPDATE t SET v = v || '{r.getrandbits(30):x}' WHERE k = {r.randint(0, 99)};",
                f"DELETE FROM t WHERE id % {r.randint(2, 9)} = {r.randint(0, 1)};",
                f"CREATE TABLE IF NOT EXISTS t{r.randint(1, 3)} AS SELECT k, count(*) AS n FROM t GROUP BY k;")))
        yield "BEGIN; " + " ".join(some) + f" INSERT INTO t(k, v) VALUES({n}, 'commit {n}'); COMMIT;"


class History:
    """A database and a plain file told the same; the sum after each commit with its LSN and time."""

    def __init__(self, c, directory, seed):
        self.c, self.file = c, os.path.join(directory, f"plain-{seed}.db")
        self.db, self.plain = c.connect(), sqlite3.connect(self.file, isolation_level=None)
        self.points = []

    def do(self, sql):
        self.db.executescript(sql)
        self.plain.executescript(sql)
        self.points.append((self.db.execute("PRAGMA corallite_lsn").fetchone()[0],
                            sum_of_file(self.file)))

    def close(self):
        self.db.close()
        self.plain.close()


@test("at= equals a plain SQLite file fed the same statements: .sha3sum of 20 commits by a fresh seed, "
      "VACUUM among them, at LSNs and times, and after kill -9 of the pageserver", 180)
def moments_equal_a_plain_file(t):
    seed = random.getrandbits(32)
    t.note(f"seed {seed}")
    with t.cluster() as c:
        h = History(c, t.dir, seed)
        for sql in statements(seed):
            h.do(sql)
        check(len({lsn for lsn, _ in h.points}) == COMMITS, "each statement was one commit")
        log = h.db.execute("SELECT lsn, time FROM corallite_log").fetchall()
        check([r[0] for r in log] == [p[0] for p in reversed(h.points)],
              f"corallite_log: {log} instead of {h.points}")
        time_of = dict(log)
        h.close()
        for turn in ("before", "after"):
            for n, (lsn, expected) in enumerate(h.points):
                at = lsn if turn == "before" else time_of[lsn].replace(":", "%3A")
                seen = sum_at(c, at=f"lsn:{lsn}" if at == lsn else f"time:{at}")
                check(seen == expected, f"commit {n} at {at}, {turn} the restart: {seen}, "
                                        f"of the plain file {expected}")
            if turn == "before":
                c.kill9("pageserver")
                c.start("pageserver")


@test("at= across a branch point: parent and child each equal plain files at each commit, and a commit "
      "to one is in no moment of the other;", 180)
def moments_across_a_branch_point(t):
    seed = random.getrandbits(32)
    t.note(f"seed {seed}")
    script = list(statements(seed))
    with t.cluster() as c:
        main = History(c, t.dir, seed)
        for sql in script[:12]:
            main.do(sql)
        point = main.points[8][0]
        corallite(c, "branch", "create", "shop/dev", "--at", f"lsn:{point}")
        dev = History(c, t.dir, f"dev-{seed}")
        dev.db.close()
        for sql in script[:9]:
            dev.plain.executescript(sql)
        dev.points = main.points[:9]
        dev.db = c.connect("shop/dev")
        for sql in script[12:]:
            dev.do(sql)
            main.do(sql.replace("commit", "main"))
        for name, h in (("shop", main), ("shop/dev", dev)):
            h.close()
            for n, (lsn, expected) in enumerate(h.points):
                seen = sum_at(c, name, at=f"lsn:{lsn}")
                check(seen == expected, f"{name}, commit {n}: {seen}, of the plain file {expected}")


@test("ATTACH at=-Ns beside main: the rows of the last seconds; a moment beside a branch beside a plain "
      "file", 60)
def attach_moments(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a); INSERT INTO t VALUES(1), (2);")
        time.sleep(2.5)
        corallite(c, "branch", "create", "shop/dev")
        done = c.shell(
            "INSERT INTO t VALUES(3), (4);\n"
            "ATTACH 'file:shop?vfs=corallite&at=-2s' AS before;\n"
            "SELECT * FROM main.t EXCEPT SELECT * FROM before.t;\n")
        check(done.stdout.split() == ["3", "4"], f"rows of the last seconds: {done.stdout!r}")
        done = c.shell(
            "ATTACH 'file:shop/dev?vfs=corallite' AS dev;\n"
            "ATTACH 'file:shop?vfs=corallite&at=-1 hour' AS empty;\n"
            f"ATTACH 'file:{os.path.join(t.dir, 'plain.db')}?vfs=unix' AS plain;\n"
            "CREATE TABLE plain.t AS SELECT * FROM dev.t;\n"
            "INSERT INTO dev.t VALUES(77);\n"
            "SELECT (SELECT sum(a) FROM main.t), (SELECT sum(a) FROM dev.t), "
            "(SELECT sum(a) FROM plain.t), (SELECT count(*) FROM empty.sqlite_schema);\n"
            ".databases\n")
        lines = done.stdout.splitlines()
        check(lines[0] == "10|80|3|0", f"main, dev, plain, empty: {lines[0]}")
        check("main: corallite:shop/main r/w" in lines, f".databases: {lines}")
        check("dev: corallite:shop/dev r/w" in lines, f".databases: {lines}")
        check(any(re.fullmatch(r"empty: corallite:shop/main@0{16} r/o", x) for x in lines),
              f".databases: {lines}")


@test("PRAGMA corallite_at moves a reading connection; a writing one, a transaction, a time to come and "
      "nonsense are refused with a sentence; writing at a moment is SQLITE_READONLY", 60)
def pragma_corallite_at(t):
    with t.cluster() as c:
        w = c.connect()
        w.execute("CREATE TABLE t(a)")
        lsns = []
        for i in range(5):
            w.execute("INSERT INTO t VALUES(?)", (i,))
            lsns.append(w.execute("PRAGMA corallite_lsn").fetchone()[0])
        r = c.connect(mode="ro")
        for i in (0, 4, 2, 3, 1):
            check(r.execute(f"PRAGMA corallite_at = 'lsn:{lsns[i]}'").fetchone()[0] == lsns[i], "moved")
            check(r.execute("SELECT max(a) FROM t").fetchone()[0] == i, f"row of moment {i}")
        for connection, sql, words in (
                (w, f"PRAGMA corallite_at = 'lsn:{lsns[0]}'", "mode=ro"),
                (r, "PRAGMA corallite_at = '2999-01-01'", "future"),
                (r, "PRAGMA corallite_at = 'once'", "no moment"),
                (r, "PRAGMA corallite_at = 'pin:nosuch'", "nosuch")):
            try:
                connection.execute(sql)
                raise Failure(f"{sql} was taken")
            except sqlite3.OperationalError as e:
                check(words in str(e), f"{sql}: {e}")
        check(r.execute("SELECT max(a) FROM t").fetchone()[0] == 1, "it stands where it stood")
        r.execute("PRAGMA corallite_at = latest")
        w.execute("INSERT INTO t VALUES(99)")
        check(r.execute("SELECT max(a) FROM t").fetchone()[0] == 99, "it follows the head again")
        m = c.connect(at="latest")
        try:
            m.execute("INSERT INTO t VALUES(0)")
            raise Failure("a moment was written")
        except sqlite3.OperationalError as e:
            check("readonly" in str(e), str(e))
        for db in (w, r, m):
            db.close()


@test("a restore under open connections: they read on, a write is SQLITE_READONLY within seconds; "
      "reopened it is the moment wanted; the kept branch has every commit that was acknowledged", 90)
def restore_under_open_connections(t):
    with t.cluster() as c:
        w, idle = c.connect(), c.connect()
        w.execute("CREATE TABLE t(a)")
        w.execute("INSERT INTO t VALUES(1)")
        lsn = w.execute("PRAGMA corallite_lsn").fetchone()[0]
        w.execute("INSERT INTO t VALUES(2)")
        w.execute("INSERT INTO t VALUES(3)")
        check(idle.execute("SELECT count(*) FROM t").fetchone()[0] == 3, "three rows")
        moment = c.connect(at=f"lsn:{lsn}")
        corallite(c, "restore", "shop", "--to", f"lsn:{lsn}", "--keep-as", "kept", "--yes")
        check(w.execute("SELECT count(*) FROM t").fetchone()[0] == 3, "it reads on")
        began = time.monotonic()
        words = []
        for _ in range(3):
            try:
                w.execute("INSERT INTO t VALUES(4)")
                raise Failure("a sealed branch was written")
            except sqlite3.OperationalError as e:
                words.append(f"{e}: {last_error()}")
        took = time.monotonic() - began
        t.note(f"refused after {took:.2f} s: {words[0][:200]}")
        check(all("branch was reset, reopen" in x for x in words), f"the sentences: {words}")
        check("readonly" in words[-1], f"SQLITE_READONLY: {words[-1]}")
        check(took < 8 * SLOWER, f"the writes were refused after {took:.1f} s")
        check(w.execute("SELECT count(*) FROM t").fetchone()[0] == 3, "it still reads on")
        check(idle.execute("SELECT count(*) FROM t").fetchone()[0] == 3, "so does the other")
        check(moment.execute("SELECT count(*) FROM t").fetchone()[0] == 1, "and the moment")
        check(c.shell("SELECT count(*) FROM t;").stdout.strip() == "1", "reopened")
        c.shell("INSERT INTO t VALUES(10);")
        check(c.shell("SELECT group_concat(a) FROM t;", "shop/kept").stdout.strip() == "1,2,3",
              "the kept branch")
        done = c.shell("INSERT INTO t VALUES(5);", "shop/kept", ok=False)
        check(done.returncode != 0 and "readonly" in done.stderr, f"the kept branch: {done.stderr}")
        check(w.execute("SELECT count(*) FROM t").fetchone()[0] == 3, "nor sees what is new")
        for db in (w, idle, moment):
            db.close()


@test("a branch is dropped under an open connection: the next transaction fails with a sentence", 60)
def drop_under_an_open_connection(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a); INSERT INTO t VALUES(1);")
        corallite(c, "branch", "create", "shop/dev")
        r = c.connect("shop/dev", mode="ro")
        check(r.execute("SELECT count(*) FROM t").fetchone()[0] == 1, "one row")
        corallite(c, "branch", "drop", "shop/dev", "--yes")

        def refused():
            try:
                r.execute("SELECT count(*) FROM t").fetchone()
            except sqlite3.OperationalError:
                return last_error()
            return None
        sentence = until(refused, 10, "a dropped branch is read no more")
        check("dropped" in sentence, sentence)
        check(c.shell("SELECT count(*) FROM t;").stdout.strip() == "1", "main is as it was")
        r.close()


@test("corallite_log with a LIMIT asks for what it shows: figures of a log of 2000 commits; "
      "corallite_branches, corallite_wait, corallite_stats", 90)
def tables_and_functions(t):
    with t.cluster() as c:
        w = c.connect()
        w.execute("CREATE TABLE t(a)")
        w.execute("PRAGMA synchronous = OFF")
        for i in range(2000):
            w.execute("INSERT INTO t VALUES(?)", (i,))
        w.execute("PRAGMA synchronous = FULL")
        w.execute("INSERT INTO t VALUES(-1)")
        lsn = w.execute("PRAGMA corallite_lsn").fetchone()[0]
        check(w.execute("SELECT corallite_wait(?, 5000)", (lsn,)).fetchone()[0] == lsn, "waited")
        corallite(c, "branch", "create", "shop/dev")
        r = c.connect(mode="ro")
        r.execute("SELECT 1 FROM t").fetchone()
        before = stats(r)
        newest = r.execute("SELECT lsn, time, db_pages, pages_changed, branch FROM corallite_log "
                           "LIMIT 3").fetchall()
        cost = stats(r)["pageserver_round_trips"] - before["pageserver_round_trips"]
        check(len(newest) == 3 and newest[0][0] == lsn and newest[0][4] == "main", f"{newest}")
        check(cost == 1, f"{cost} round trips for three rows")
        began = time.monotonic()
        n, distinct = r.execute("SELECT count(*), count(DISTINCT lsn) FROM corallite_log").fetchone()
        t.note(f"2002 rows of the log in {(time.monotonic() - began) * 1000:.0f} ms")
        check((n, distinct) == (2002, 2002), f"{n} commits, {distinct} of them different")
        rows = r.execute("SELECT name, parent, parent_lsn FROM corallite_branches ORDER BY name").fetchall()
        check(rows == [("dev", "main", lsn), ("main", None, None)], f"corallite_branches: {rows}")
        r.execute("PRAGMA corallite_stats = reset")
        check(stats(r)["pageserver_round_trips"] == 0, "reset")
        w.close()
        r.close()


def stats(db):
    text = db.execute("PRAGMA corallite_stats").fetchone()[0]
    return {k: int(v) for k, v in (line.split("=") for line in text.splitlines())}
