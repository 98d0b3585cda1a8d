"""Processes that die, one, two or all of them; commits that fail, and stay failed."""

import re
import signal
import sqlite3
import time

from lib.cluster import NODES, PAGESERVER, SLOWER, check, last_error, line, tell, until
from lib.registry import test


def rows(c, **more):
    return c.shell("SELECT a FROM t ORDER BY rowid;", **more).stdout.split()


@test("one safekeeper killed: commits go on without an error", 90)
def one_safekeeper_killed(t):
    with t.cluster() as c:
        db = c.connect()
        db.execute("CREATE TABLE t(a)")
        n = 0
        for node in NODES:
            longest = 0
            for i in range(60):
                if i == 20:
                    c.kill9(node)
                began = time.monotonic()
                db.execute("INSERT INTO t VALUES(?)", (n,))
                longest = max(longest, time.monotonic() - began)
                n += 1
            t.note(f"safekeeper {node} killed: longest commit {longest * 1000:.1f} ms")
            c.start(node)
            until(lambda: caught_up(c), 20, f"safekeeper {node} caught up")
        check(db.execute("SELECT count(*), sum(a) FROM t").fetchone() == (n, n * (n - 1) // 2),
              "rows are missing")
        check(db.execute("PRAGMA integrity_check").fetchone()[0] == "ok", "integrity_check")
        # Each of them has come back with all of it: any two are enough for all rows.
        db.close()
        for node in NODES:
            c.kill9(node)
            got = c.shell("SELECT count(*) FROM t;").stdout.strip()
            check(got == str(n), f"without safekeeper {node}: {got} of {n} rows")
            c.start(node)


def caught_up(c):
    """All three have logs of one length (of the timeline that grew last)."""
    import json
    import os
    from lib.cluster import BIN, run
    done = run([os.path.join(BIN, "corallite"), "status", "--json"], "", 10, env=c.env())
    if done.returncode not in (0, 1):
        return False
    status = json.loads(done.stdout)
    for timeline in status["timelines"]:
        lsn = {copy.get("flush_lsn") for copy in timeline["safekeepers"]}
        if len(lsn) != 1 or None in lsn:
            return False
    return True


@test("two safekeepers killed: COMMIT waits, and goes on when one returns", 60)
def two_killed_commit_waits(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a);")
        w = c.worker("commit_on_demand")
        check(line(w) == "open", "open")
        tell(w, "before")
        check(line(w) == "ok", "a commit with all three")
        tell(w, "begin during")
        check(line(w) == "ok", "BEGIN")
        c.kill9(1)
        c.kill9(3)
        began = time.monotonic()
        tell(w, "commit")
        time.sleep(2.5)
        check(w.lines.empty(), "COMMIT returned without a majority")
        c.start(3)
        check(line(w, 20) == "ok", "COMMIT failed although a majority returned")
        t.note(f"COMMIT took {time.monotonic() - began:.2f} s, 2.5 s of them without a majority")
        tell(w, "after")
        check(line(w) == "ok", "the next commit")
        check(rows(c) == ["before", "during", "after"], f"rows: {rows(c)}")


@test("two safekeepers killed: after commit_timeout COMMIT fails with its code and a sentence; the "
      "database is as before or as after, and stays so", 120)
def two_killed_commit_times_out(t):
    with t.cluster() as c:
        db = c.connect(commit_timeout="2s")
        db.execute("CREATE TABLE t(a)")
        db.execute("INSERT INTO t VALUES('before')")
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO t VALUES('in doubt')")
        c.kill9(1)
        c.kill9(2)
        began = time.monotonic()
        try:
            db.execute("COMMIT")
            check(False, "COMMIT returned without a majority")
        except sqlite3.OperationalError as e:
            took = time.monotonic() - began
            sentence = last_error()
            t.note(f"{e.sqlite_errorname} after {took:.2f} s: {sentence}")
            check(e.sqlite_errorname == "SQLITE_IOERR_FSYNC", f"code {e.sqlite_errorname}")
            check(1.8 <= took <= 4 * SLOWER, f"after {took:.2f} s, commit_timeout is 2 s")
        found = re.search(r"\b(\d+:[0-9a-f]{16})\b", sentence)
        check(found, f"no commit id in: {sentence}")
        c.start(1)
        c.start(2)
        status = until(lambda: settled(c, found[1]), 30, "the outcome is told")
        t.note(f"corallite_commit_status('{found[1]}') = {status}")
        expected = ["before"] + (["in doubt"] if status == "committed" else [])
        for when in ("now", "after reconnecting", "after every process was restarted"):
            got = c.shell("SELECT a FROM t ORDER BY rowid; PRAGMA integrity_check;")
            got = got.stdout.splitlines()
            check(got.pop() == "ok", "integrity_check")
            check(got == expected, f"{when}: {got}, expected {expected}")
            if when == "after reconnecting":
                db.close()
                c.kill9_everything()
                c.start_everything()
        db = c.connect()
        db.execute("INSERT INTO t VALUES('later')")
        check(rows(c)[-1] == "later", "the next commit")


def settled(c, commit_id):
    done = c.shell(f"SELECT count(*) FROM t; SELECT corallite_commit_status('{commit_id}');",
                   ok=False, timeout=30)
    word = done.stdout.strip().splitlines()[-1:] or [""]
    return word[0] if word[0] in ("committed", "not committed") else None


@test("a failed COMMIT does not come back: not after reconnecting, not after every process was "
      "restarted", 120)
def failed_commit_does_not_come_back(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a); INSERT INTO t VALUES('first');")
        a = c.worker("commit_on_demand")
        check(line(a) == "open", "open")
        tell(a, "second")
        check(line(a) == "ok", "a commit with all three")
        # The commit reaches one safekeeper only; its writer sleeps while another is elected.
        tell(a, "begin lost")
        check(line(a) == "ok", "BEGIN")
        c.kill9(2)
        c.kill9(3)
        tell(a, "commit")
        time.sleep(1.0)
        a.send_signal(signal.SIGSTOP)
        c.kill9(1)
        c.start(2)
        c.start(3)
        c.shell("INSERT INTO t VALUES('other');", timeout=40)
        a.send_signal(signal.SIGCONT)
        answer = line(a, 60)
        t.note(f"COMMIT of the deposed writer: {answer}")
        check(answer.startswith("error SQLITE_IOERR_WRITE "), f"COMMIT returned: {answer}")
        check(len(answer.split()) > 6, "without a sentence")
        tell(a, "?")
        wanted = ["first", "second", "other"]
        check(line(a) == "rows " + " ".join(wanted), "the deposed writer sees something else")
        c.start(1)  # it still has the lost record on its disk
        check(rows(c) == wanted, f"after reconnecting: {rows(c)}")
        tell(a, "again")
        answer = line(a, 30)
        check(answer == "ok", f"the deposed writer cannot write again: {answer}")
        wanted.append("again")
        a.kill()
        for away in NODES:
            c.kill9_everything()
            c.start_everything()
            check(rows(c) == wanted, f"after every process was restarted: {rows(c)}")
            c.kill9(away)
            check(rows(c) == wanted, f"without safekeeper {away}: {rows(c)}")
            c.start(away)


@test("the pageserver killed -9 in a bulk load and restarted: the load ends without an error, every "
      "row is there", 180)
def pageserver_killed_in_a_bulk_load(t):
    total, kills = 150000, 4
    with t.cluster() as c:
        c.shell("CREATE TABLE big(k INTEGER PRIMARY KEY, v TEXT); CREATE INDEX big_v ON big(v);")
        w = c.worker("load", total, 2500)
        killed = 0
        while True:
            done = int(line(w, 90))
            if killed < kills and done >= (killed + 1) * total // (kills + 1):
                c.kill9(PAGESERVER)
                time.sleep(0.7)
                c.start(PAGESERVER)
                killed += 1
            if done == total:
                break
        check(w.wait(30) == 0, f"the load failed: {w.stderr.read()[-500:]}")
        check(killed == kills, "not all kills happened")
        got = c.shell("SELECT count(*), sum(k), count(DISTINCT v) FROM big; PRAGMA integrity_check;",
                      timeout=90).stdout.split()
        check(got == [f"{total}|{total * (total - 1) // 2}|{total}", "ok"], f"read: {got}")


@test("SIGTERM again and again while a daemon stops: it ends by itself, with status 0", 60)
def terminated_again_and_again(t):
    with t.cluster() as c:
        for n in range(5):
            db = c.connect(f"d{n}")
            db.execute("CREATE TABLE t(a)")
            db.execute("INSERT INTO t VALUES(zeroblob(1000000))")
            db.close()
        for node in (PAGESERVER, *NODES):
            process, sent = c.process[node], 0
            while process.poll() is None and sent < 100000:
                process.terminate()
                sent += 1
            check(process.wait(10) == 0, f"{node} ended with status {process.returncode}: {c.last_words(node)}")
            t.note(f"{node}: {sent} times")
