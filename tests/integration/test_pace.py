"""Commits, and a pageserver that does not keep up."""

import os
import signal
import threading
import time

from lib.cluster import PAGESERVER, SLOWER, check
from lib.registry import test

LAG_MB = 16  # hard limit; the soft one is a quarter
ROW = 200000


def stats(db):
    text = db.execute("PRAGMA corallite_status").fetchone()[0]
    return dict(line.split("=", 1) for line in text.split("\n"))


class Stutter(threading.Thread):
    """The pageserver runs for `on` seconds of each `whole`, as if it had that part of a processor."""

    def __init__(self, pid, on, whole):
        super().__init__(daemon=True)
        self.pid, self.on, self.whole, self.over = pid, on, whole, threading.Event()

    def run(self):
        try:
            while not self.over.is_set():
                os.kill(self.pid, signal.SIGSTOP)
                self.over.wait(self.whole - self.on)
                os.kill(self.pid, signal.SIGCONT)
                self.over.wait(self.on)
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def end(self):
        self.over.set()
        self.join()


def commit_for(db, seconds, each=None):
    """Commits of ROW bytes, one after another: (when it ended, how long it took) of each."""
    done, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        db.execute(f"INSERT INTO t VALUES (randomblob({ROW}))")
        done.append((time.monotonic(), time.monotonic() - began))
        if each:
            each()
    return done


def a_slow_one(t, c, db, seconds):
    """Commits come to its rate: the lag stays below the limit, and there is no second without commits."""
    lags, slowed = [], []

    def look():
        now = stats(db)
        lags.append(int(now["pageserver_lag_bytes"]))
        slowed.append(int(now["commits_slowed"]))
        check(now["pageserver"] != "away", "a slow pageserver was taken for one that is away")

    before = int(stats(db)["waits_for_ingest"])
    stutter = Stutter(c.pid(PAGESERVER), 0.02, 0.4)
    stutter.start()
    try:
        done = commit_for(db, seconds, look)
    finally:
        stutter.end()
    check(max(lags) <= LAG_MB * 2**20 + 2 * ROW, f"{max(lags)} bytes behind, {LAG_MB} MiB is the limit")
    check(max(took for _, took in done) < 4 * SLOWER, f"a commit took {max(took for _, took in done):.1f} s")
    t.note(f"slow: {len(done)} commits in {seconds} s, the longest {max(took for _, took in done):.2f} s; at most "
           f"{max(lags) / 2**20:.1f} of {LAG_MB} MiB behind; {int(stats(db)['waits_for_ingest']) - before} were slowed")
    return sum(slowed)


def nobody_waits(t, c, db, how, seconds):
    """After the time that it takes to be sure, commits come as fast as if it were there."""
    began, done = time.monotonic(), []
    while stats(db)["pageserver"] != "away" or time.monotonic() - began < seconds:
        check(time.monotonic() - began < seconds + 15 * SLOWER, f"{how}: it is said to be {stats(db)['pageserver']}")
        done += commit_for(db, 0.2)
    longest = max(took for _, took in done)
    check(longest < 13 * SLOWER, f"{how}: a commit took {longest:.1f} s")
    free = [took for _, took in commit_for(db, 1.5)]
    check(len(free) >= 3 and max(free) < 1.5 * SLOWER, f"{how}: {len(free)} commits in 1.5 s, the longest {max(free):.1f} s")
    t.note(f"{how}: {len(done)} commits in {time.monotonic() - began:.0f} s, the longest {longest:.1f} s; then {len(free)} in 1.5 s")


def comes_near(t, c, db, how):
    """Back, it catches up beside reads and commits that go on."""
    began, reads, writes = time.monotonic(), 0, 0
    owed = int(stats(db)["pageserver_lag_bytes"])
    other = c.connect(timeout=30)
    while stats(db)["pageserver"] != "near":
        check(time.monotonic() - began < (240 if t.slow() else 60), f"{how}: not near: {stats(db)}")
        db.execute("INSERT INTO t VALUES (randomblob(1000))")
        writes += 1
        other.execute("SELECT count(*) FROM t").fetchone()
        reads += 1
    other.close()
    t.note(f"{how}: {owed / 2**20:.0f} MiB made up for in {time.monotonic() - began:.1f} s beside {reads} reads and "
           f"{writes} commits")


@test("a pageserver that is slow slows commits to its rate, within lag_mb and without gaps; for one that is gone (or, with "
      "--slow, stalled) nobody waits after 10 s; back it catches up beside reads and commits; the rows are all there", 400)
def pageserver_slow(t):
    with t.cluster() as c:
        db = c.connect(timeout=30, lag_mb=LAG_MB)
        db.execute("CREATE TABLE t(x)")
        a_slow_one(t, c, db, 20 if t.slow() else 3)
        comes_near(t, c, db, "slow")
        if t.slow():
            os.kill(c.pid(PAGESERVER), signal.SIGSTOP)
            try:
                nobody_waits(t, c, db, "stalled", 0)
            finally:
                os.kill(c.pid(PAGESERVER), signal.SIGCONT)
            comes_near(t, c, db, "stalled")
        c.kill9(PAGESERVER)
        nobody_waits(t, c, db, "gone", 45 if t.slow() else 0)
        c.start(PAGESERVER)
        comes_near(t, c, db, "gone")
        rows = db.execute("SELECT count(*) FROM t").fetchone()
        fresh = c.connect(timeout=30)
        check(fresh.execute("SELECT count(*) FROM t").fetchone() == rows, "a new connection sees other rows")
        check(fresh.execute("PRAGMA integrity_check").fetchone() == ("ok",), "integrity")
        fresh.close()
        db.close()
