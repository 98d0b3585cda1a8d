"""Writers: killed at any instant, many in one process, several processes at once."""

import json
import os
import random
import time

from lib.cluster import BIN, check, line, popen, run, tell
from lib.registry import test

ENDED = "R"  # cv_trace: COMMIT has its answer
BEGUN = "FSW"  # commit frame written, record shipped, waiting for the quorum


def read_all(fd):
    """What is in a pipe whose writers are gone."""
    text = b""
    while True:
        more = os.read(fd, 65536)
        if not more:
            return text.decode()
        text += more


def kill_once(c):
    """A writer killed at a random time. (first number, last number acknowledged, died between commit
    frame and return)"""
    trace_in, trace_out = os.pipe()
    ack_in, ack_out = os.pipe()
    os.set_blocking(trace_in, True)
    writer = c.worker("pairs", stdout=ack_out, pass_fds=(trace_out,),
                      env=c.env(CORALLITE_TRACE_FD=str(trace_out)))
    os.close(trace_out)
    os.close(ack_out)
    acks = os.fdopen(ack_in)
    first = acks.readline()
    check(first.endswith("\n"), "the writer did not start: " + writer_error(writer))
    first = int(first)
    killer = popen(["/usr/bin/python3", os.path.join(os.path.dirname(__file__), "workers.py"),
                    "kill", str(writer.pid), str(random.randint(0, 150000))])
    # This process is the third: it only collects what was acknowledged, until the pipe ends.
    # A line that was begun was acknowledged as well, but nobody has heard it to the end.
    last = first - 1
    for text in acks:
        if text.endswith("\n"):
            check(int(text) == last + 1, f"acknowledged {text.strip()} after {last}")
            last = int(text)
    writer.wait(10)
    check(writer.returncode == -9, f"the writer ended by itself: {writer_error(writer)}")
    killer.wait(10)
    trace = read_all(trace_in)
    os.close(trace_in)
    acks.close()
    return first, last, bool(trace) and trace[-1] in BEGUN


def writer_error(writer):
    return writer.stderr.read()[-500:] if writer.poll() is not None else "(it still runs)"


@test("the writer killed -9 at random times, 20 times: all acknowledged commits are there, none is "
      "partial; at least 5 kills between commit frame and COMMIT's return", 240)
def writer_killed_at_random_times(t):
    kills, within, last, kept = 0, 0, 0, 0
    with t.cluster() as c:
        c.shell("CREATE TABLE one(n INTEGER PRIMARY KEY); CREATE TABLE two(n INTEGER PRIMARY KEY, v);")
        while kills < 20 or (within < 5 and kills < 60):
            first, acked, in_commit = kill_once(c)
            kills += 1
            # A commit that nobody acknowledged may still come to be there when the next writer is
            # elected, also after a reader has not seen it yet: one, and not later.
            check(first in (last + 1, last + 2), f"kill {kills}: after {last} comes {first}")
            within += in_commit
            got = c.shell("SELECT count(*), coalesce(max(n), 0), coalesce(sum(n), 0) FROM one;"
                          "SELECT count(*), coalesce(max(n), 0), coalesce(sum(n), 0) FROM two;"
                          "SELECT count(*) FROM two WHERE length(v) <> n % 3000;"
                          "PRAGMA integrity_check;").stdout.split()
            check(got[0] == got[1], f"kill {kills}: a partial transaction: {got}")
            n, top, total = (int(x) for x in got[0].split("|"))
            check(n == top and total == n * (n + 1) // 2, f"kill {kills}: a gap: {got}")
            check(acked <= top <= acked + 1, f"kill {kills}: acknowledged {acked}, there: {top}")
            check(got[2:] == ["0", "ok"], f"kill {kills}: {got}")
            kept += top - acked
            last = top
        t.note(f"{kills} kills, {within} of them between commit frame and COMMIT's return, "
               f"{last} commits, {kept} there without having been acknowledged")
        check(within >= 5, f"only {within} of {kills} kills landed in a commit")


@test("two processes write the same database at once", 120)
def two_processes_write_at_once(t):
    n = 300
    with t.cluster() as c:
        c.shell("CREATE TABLE t(who, i, PRIMARY KEY(who, i));")
        workers = [c.worker("insert_many", name, n) for name in ("one", "two")]
        for w in workers:
            check(line(w) == "open", "open")
        began = time.monotonic()
        for w in workers:
            tell(w, "go")
        for w in workers:
            check(line(w, 90) == "done", "a writer is not done")
        t.note(f"{2 * n} commits of two processes in {time.monotonic() - began:.2f} s")
        got = c.shell("SELECT who, count(*), sum(i) FROM t GROUP BY who; PRAGMA integrity_check;")
        total = n * (n - 1) // 2
        check(got.stdout.split() == [f"one|{n}|{total}", f"two|{n}|{total}", "ok"],
              f"rows: {got.stdout!r}")


@test("a shell without a busy timeout writes while another process is idle with the lease: no "
      "\"database is locked\"", 120)
def no_database_is_locked(t):
    with t.cluster() as c:
        db = c.connect()
        db.execute("CREATE TABLE t(a)")
        longest = 0
        for i in range(15):
            db.execute("INSERT INTO t VALUES('app')")  # the lease is here now, and idle
            if i % 3 == 0:
                time.sleep(random.uniform(0, 0.1))
            began = time.monotonic()
            done = c.shell("INSERT INTO t VALUES('shell');", ok=False)
            longest = max(longest, time.monotonic() - began)
            check(done.returncode == 0, f"round {i}: {done.stderr.strip()[-400:]}")
        t.note(f"longest run of the shell, hand-over in it: {longest * 1000:.0f} ms")
        got = db.execute("SELECT a, count(*) FROM t GROUP BY a ORDER BY a").fetchall()
        check(got == [("app", 15), ("shell", 15)], f"rows: {got}")


@test("a writer that ends at once leaves all three safekeepers with what it wrote, not only a majority", 120)
def short_writers_leave_nobody_behind(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a);")
        for i in range(10):
            c.shell(f"INSERT INTO t VALUES({i});")
            done = run([os.path.join(BIN, "corallite"), "status", "shop", "--json", "--server", c.server()],
                       None, 20)
            ends = {s["node"]: s["flush_lsn"] for s in json.loads(done.stdout)["timelines"][0]["safekeepers"]}
            check(len(ends) == 3 and len(set(ends.values())) == 1, f"round {i}: ends of the logs {ends}")
