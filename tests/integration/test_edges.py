"""What lies at the edges: waiting for another process, dropping what is open, asking late."""

import os
import re
import shutil
import sqlite3
import subprocess
import time

from lib.cluster import BIN, PAGESERVER, SLOWER, check, last_error, line, tell, until
from lib.registry import test
from lib.sides import log_has_hole
from test_failures import caught_up

TERMS_KEPT = 1024  # that a safekeeper remembers in any case (SK_HISTORY_KEEP)
LEASE = 4  # seconds that a first write may wait for the lease of somebody else


def expect(db, sql, code):
    """The seconds it took to fail so."""
    began = time.monotonic()
    try:
        db.execute(sql)
    except sqlite3.Error as e:
        check(e.sqlite_errorname == code, f"{sql}: {e.sqlite_errorname}: {last_error()}")
        return time.monotonic() - began
    check(False, f"{sql} succeeded")


@test("another process has a transaction open: busy_timeout ends the wait, within the time of a lease "
      "and three times its own", 60)
def busy_timeout_across_processes(t):
    with t.cluster() as c:
        db = c.connect(timeout=1.0)
        db.execute("CREATE TABLE t(a)")
        w = c.worker("commit_on_demand")
        check(line(w) == "open", "open")
        tell(w, "begin other")
        check(line(w) == "ok", "BEGIN")
        took = expect(db, "INSERT INTO t VALUES('mine')", "SQLITE_BUSY")
        t.note(f"busy_timeout of 1 s: {took:.1f} s")
        check(took < LEASE + (3 + 2) * SLOWER, f"SQLITE_BUSY after {took:.1f} s")
        tell(w, "commit")
        check(line(w) == "ok", "COMMIT")
        db.execute("INSERT INTO t VALUES('mine')")
        rows = db.execute("SELECT a FROM t ORDER BY rowid").fetchall()
        check(rows == [("other",), ("mine",)], f"rows: {rows}")


@test("a database dropped while it is open: a transaction in flight fails at once and for sure, the "
      "name can be used again", 60)
def dropped_while_open(t):
    with t.cluster() as c:
        db = c.connect()
        db.execute("CREATE TABLE t(a)")
        reader = c.connect()
        reader.execute("BEGIN")
        check(reader.execute("SELECT count(*) FROM t").fetchone() == (0,), "read")
        w = c.worker("commit_on_demand")
        check(line(w) == "open", "open")
        tell(w, "begin late")
        check(line(w) == "ok", "BEGIN")
        done = subprocess.run([f"{BIN}/corallite", "db", "drop", "--yes", "shop"], env=c.env(),
                              capture_output=True, text=True, timeout=20)
        check(done.returncode == 0, f"drop: {done.stderr}")
        began = time.monotonic()
        tell(w, "commit")
        answer = line(w, 50)
        took = time.monotonic() - began
        t.note(f"COMMIT after the drop: {took:.2f} s: {answer}")
        check(answer.startswith("error SQLITE_IOERR_WRITE "), f"COMMIT: {answer}")
        check(took < 5 * SLOWER, f"COMMIT took {took:.1f} s")
        reader.execute("COMMIT")
        for sql in ("SELECT * FROM t", "INSERT INTO t VALUES(1)"):
            check(expect(db, sql, "SQLITE_IOERR") < 5 * SLOWER, sql)
            check("was dropped" in last_error(), f"the sentence: {last_error()}")
        got = c.shell("CREATE TABLE t(b); INSERT INTO t VALUES('new'); SELECT * FROM t;").stdout
        check(got == "new\n", f"the new one: {got!r}")
        expect(db, "INSERT INTO t VALUES('old')", "SQLITE_IOERR")
        db.close()
        reader.close()
        db = c.connect()
        check(db.execute("SELECT b FROM t").fetchall() == [("new",)], "opened anew")


def in_doubt(c, db, row, killed):
    """The commit id of a transaction that nobody acknowledged; its writer has closed."""
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO t VALUES(?)", (row,))
    for node in killed:
        c.kill9(node)
    expect(db, "COMMIT", "SQLITE_IOERR_FSYNC")
    found = re.search(r"\b(\d+:[0-9a-f]{16})\b", last_error())
    check(found, f"no commit id in: {last_error()}")
    return found[1]


@test("the outcome of a commit in doubt can still be learned when its term is history", 120)
def outcome_learned_late(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a); INSERT INTO t VALUES('first');")
        ids = {}
        db = c.connect(commit_timeout="1s", timeout=20.0)
        for i in range(4):  # one safekeeper has it: an election settles it this way or that
            word = f"doubt{i}"
            ids[word] = in_doubt(c, db, word, (1, 2))
            c.start(1)
            c.start(2)
            db.execute("INSERT INTO t VALUES('sure')")
        ids["lost"] = in_doubt(c, db, "lost", (1, 2))
        c.kill9(3)  # the only one that has it
        db.close()
        c.start(1)
        c.start(2)
        c.shell("INSERT INTO t VALUES('instead, and longer than the one in doubt');", timeout=40)
        c.start(3)
        # Two names of the server are two computes: each write is a term of its own.
        one = c.connect(timeout=20.0)
        two = c.connect(timeout=20.0, server=f"localhost:{c.port[PAGESERVER]}")
        began = time.monotonic()
        for _ in range(TERMS_KEPT // 2 + 50):
            one.execute("INSERT INTO t VALUES(1)")
            two.execute("INSERT INTO t VALUES(2)")
        t.note(f"{TERMS_KEPT + 100} terms in {time.monotonic() - began:.1f} s")

        def write_and_look():  # what one lacks comes with a write
            one.execute("INSERT INTO t VALUES(1)")
            return caught_up(c)

        until(write_and_look, 20, "all three have everything")
        c.shell("INSERT INTO t VALUES(3);")
        rows = c.shell("SELECT a FROM t;").stdout.split("\n")
        told = {word: one.execute("SELECT corallite_commit_status(?)", (i,)).fetchone()[0]
                for word, i in ids.items()}
        t.note(f"{told}")
        for word in ids:
            wanted = "committed" if word in rows else "not committed"
            check(told[word] == wanted, f"{ids[word]}: '{told[word]}', it should be '{wanted}'")
        check("lost" not in rows, "what only a dead safekeeper had is there")


def spill_and_go_back(db):
    """A transaction that spills, writes frames over, goes back to a savepoint before them and goes on; then another one."""
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    db.execute("WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i LIMIT 2000) INSERT INTO t SELECT x, zeroblob(200) FROM i")
    db.execute("PRAGMA cache_size = 10")
    db.execute("BEGIN")
    change = "UPDATE t SET b = randomblob(200) WHERE a BETWEEN ? AND ?"
    db.execute(change, (1, 300))
    db.execute("SAVEPOINT s")
    db.execute(change, (300, 700))
    db.execute(change, (500, 700))
    db.execute("ROLLBACK TO s")
    db.execute(change, (1000, 1100))
    db.execute("COMMIT")
    db.execute("CREATE TABLE after AS SELECT sum(length(b)) n, total(b <> zeroblob(200)) changed FROM t")


@test("a transaction that spilled and went back to a savepoint, and the one after it, are there for another process; the "
      "log of a plain file of SQLite 3.40 ends before both", 60)
def spilled_and_back(t):
    asked = "SELECT n || ' ' || changed FROM after"
    with t.cluster() as c:
        db = c.connect()
        db.execute("PRAGMA page_size = 512")
        spill_and_go_back(db)
        there = c.shell(asked).stdout.strip()
        check(there == "400000 401.0", f"another process sees {there!r}")
        check(c.shell("PRAGMA integrity_check").stdout.strip() == "ok", "integrity_check")

    path = os.path.join(t.dir, "plain")
    plain = sqlite3.connect(path, isolation_level=None)
    plain.execute("PRAGMA page_size = 512")
    plain.execute("PRAGMA journal_mode = wal")
    spill_and_go_back(plain)
    for part in ("", "-wal"):  # as they are after kill -9
        shutil.copy(path + part, path + "-copy" + part)
    try:
        kept = sqlite3.connect(path + "-copy").execute(asked).fetchone()[0]
    except sqlite3.OperationalError as e:
        kept = e
    t.note(f"a plain file of SQLite {sqlite3.sqlite_version} after kill -9: {kept}")
    check(log_has_hole(path + "-wal") == isinstance(kept, Exception), "a hole in the log is what loses them")
