"""Many at once: threads, processes, hosts. Who waits for whom, who sees what, and what survives."""

import os
import random
import sqlite3
import statistics
import subprocess
import threading
import time

from lib import hosts
from lib.cluster import BIN, EXTENSION, SLOWER, check, line, popen, run, tell, until
from lib.registry import test

CROWD = os.path.join(BIN, "tests", "integration", "crowd")


def crowd(c, writers, readers, seconds, db="bank", host=None, busy_ms=30000):
    """A process of crowd.c, running."""
    return popen([CROWD, EXTENSION, c.uri(db), str(writers), str(readers), str(seconds), str(busy_ms)],
                 host=host, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=c.env())


def told(process, seconds):
    """What crowd.c printed: its lines, by their first word."""
    out, err = process.communicate(timeout=seconds)
    lines = {"writer": [], "reader": [], "wrong": []}
    for text in out.splitlines():
        word = text.split()
        lines[word[0]].append([int(x) for x in word[1:]] if word[0] != "wrong" else text)
    check(process.returncode == 0 and not lines["wrong"],
          f"crowd: status {process.returncode}: {lines['wrong'][:2]} {err[-400:]}")
    check(sum(w[3] for w in lines["writer"]) == 0,
          f"SQLITE_BUSY within a busy timeout of 30 s: {err[-800:]}")
    return lines


def is_whole(c, db="bank"):
    got = c.shell("SELECT sum(balance) FROM account; PRAGMA integrity_check;", db=db).stdout.split()
    check(got == ["200000", "ok"], f"at the end: {got}")


@test("16 threads with a connection each, 8 writers and 8 readers that never pause: sums hold for every "
      "reader, no busy comes through the busy timeout, the slowest writer has a third of the mean", 900)
def threads_take_fair_turns(t):
    seconds = 600 if t.slow() else 60
    with t.cluster() as c:
        lines = told(crowd(c, 8, 8, seconds), seconds + 90)
        done = [w[1] for w in lines["writer"]]
        looks = [r[1] for r in lines["reader"]]
        check(min(done) * 3 >= statistics.mean(done), f"the turns were not fair: {done}")
        check(min(looks) > 0, f"a reader saw nothing: {looks}")
        t.note(f"{seconds} s: {sum(done) / seconds:.0f} commits/s, slowest writer "
               f"{min(done) / statistics.mean(done):.2f} of the mean, longest transaction "
               f"{max(w[2] for w in lines['writer']) / 1000:.0f} ms; {sum(looks) / seconds:.0f} sums/s, "
               f"longest {max(r[2] for r in lines['reader']) / 1000:.0f} ms")
        one, eight = (sum(w[1] for w in told(crowd(c, n, 0, 4), 90)["writer"]) for n in (1, 8))
        t.note(f"1 writer {one / 4:.0f} commits/s, 8 writers {eight / 4:.0f}: {eight / one:.2f} times")
        is_whole(c)


@test("no reader waits on a writer: readers go on while a write transaction is open", 60)
def readers_do_not_wait(t):
    with t.cluster() as c:
        db = c.connect()
        db.execute("CREATE TABLE t(n INTEGER PRIMARY KEY)")
        db.execute("INSERT INTO t VALUES(1)")
        other = c.connect()
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO t VALUES(2)")
        for _ in range(50):
            check(other.execute("SELECT max(n) FROM t").fetchone() == (1,), "what is not committed")
        db.execute("COMMIT")
        check(other.execute("SELECT max(n) FROM t").fetchone() == (2,), "what was committed")


@test("busy_timeout is honoured: SQLITE_BUSY not before it, and none when the lock comes free within it", 60)
def busy_timeouts_are_honoured(t):
    with t.cluster() as c:
        holder = c.connect()
        holder.execute("CREATE TABLE t(n)")
        waiter = c.connect(timeout=1.0)
        holder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        try:
            waiter.execute("INSERT INTO t VALUES(1)")
            check(False, "two write transactions at once")
        except sqlite3.OperationalError as e:
            took = time.monotonic() - began
            check(e.sqlite_errorname.startswith("SQLITE_BUSY"), f"busy, not {e.sqlite_errorname}")
            check(took > 0.9, f"busy after {took:.3f} s of 1 s")
        threading.Timer(0.5, lambda: holder.execute("COMMIT")).start()
        waiter.execute("INSERT INTO t VALUES(1)")
        t.note(f"busy after {took:.2f} s of 1 s; free after 0.5 s: written")


@test("4 processes on 2 hosts write one database from a cold start: each gets 15 % of the commits", 120)
def processes_on_two_hosts_share(t):
    seconds = 60 if t.slow() else 12
    t.needs("ip")
    with hosts.two() as (here, there):
        with t.cluster(host=here.address) as c:
            told(crowd(c, 1, 0, 0.1), 30)
            processes = [crowd(c, 1, 0, seconds, host=h) for h in (here, here, there, there)]
            done = [told(p, seconds + 60)["writer"][0] for p in processes]
            total = sum(w[1] for w in done)
            shares = [w[1] / total for w in done]
            t.note(f"{seconds} s: {total / seconds:.0f} commits/s, shares "
                   f"{' '.join(f'{s:.0%}' for s in shares)} (two here, two there), longest wait "
                   f"{max(w[2] for w in done) / 1000:.0f} ms")
            check(min(shares) >= 0.15, f"shares of the commits: {shares}")
            is_whole(c)


@test("strict across hosts: a transaction that begins after another process's COMMIT returned sees it", 120)
def strict_across_hosts(t):
    rounds = 2000 if t.slow() else 300
    t.needs("ip")
    with hosts.two() as (here, there):
        with t.cluster(host=here.address) as c:
            db = c.connect(timeout=20.0)
            db.execute("CREATE TABLE t(n INTEGER PRIMARY KEY)")
            readers = [c.worker("reader", host=h) for h in (there, there, here)]
            for r in readers:
                check(line(r) == "open", "open")
            for n in range(1, rounds + 1):
                db.execute("INSERT INTO t VALUES(?)", (n,))
                for r in readers:
                    tell(r, "look")
                for r in readers:
                    check(line(r) == str(n), f"commit {n} was not seen by a transaction begun after it")
            t.note(f"{rounds} commits, each seen at once by two processes on the other host and one here")


@test("staleness=MS: reads cost no question while the last answer is younger, and are never older; "
      "corallite_wait(LSN) gives read-your-writes there", 120)
def staleness_is_bounded(t):
    ms = 1500
    with t.cluster() as c:
        db = c.connect(timeout=20.0)
        db.execute("CREATE TABLE t(n INTEGER PRIMARY KEY)")
        relaxed, strict = c.worker("reader", str(ms)), c.worker("reader")
        for r in (relaxed, strict):
            check(line(r) == "open", "open")

        def ask(r, text):
            tell(r, text)
            return line(r)

        # Not older than it may be: what was committed MS ago is seen, whatever was asked in between.
        oldest = 0.0
        for n in range(1, 9):
            db.execute("INSERT INTO t VALUES(?)", (n,))
            committed = time.monotonic()
            while int(ask(relaxed, "look")) < n:
                oldest = max(oldest, time.monotonic() - committed)
                check(time.monotonic() - committed < ms / 1000 + 1 * SLOWER, f"commit {n} was not seen after "
                      f"{ms} ms and a second")
                time.sleep(0.01)
            check(ask(strict, "look") == str(n), "the strict one")
        # No question: 200 reads within one window ask at most once.
        before, began = int(ask(relaxed, "asked")), time.monotonic()
        for _ in range(200):
            ask(relaxed, "look")
        windows = (time.monotonic() - began) * 1000 / ms + 1
        asked = int(ask(relaxed, "asked")) - before
        check(asked <= windows, f"{asked} questions for 200 reads in {windows:.1f} windows of {ms} ms")
        before = int(ask(strict, "asked"))
        ask(strict, "look")
        check(int(ask(strict, "asked")) > before, "the strict one asks")
        # Read your writes: the token is the LSN of the commit.
        for n in range(100, 110):
            db.execute("INSERT INTO t VALUES(?)", (n,))
            token = db.execute("PRAGMA corallite_lsn").fetchone()[0]
            check(ask(relaxed, f"wait {token}") == token, "corallite_wait answers its LSN")
            check(int(ask(relaxed, "look")) >= n, f"{n} was not seen after corallite_wait")
        t.note(f"staleness={ms}: seen after {oldest * 1000:.0f} ms at the latest; {asked} questions for 200 "
               "reads; 10 of 10 commits seen after corallite_wait")


def killed_while_it_counts(c, level):
    """Kills a writer of this level at a random moment; (last acknowledged, newest that is there)."""
    read_end, write_end = os.pipe()
    writer = c.worker("count_up", level, stdout=write_end)
    os.close(write_end)
    acks = os.fdopen(read_end)
    check(acks.readline().endswith("\n"), "the writer did not start")
    threading.Timer(random.uniform(0.01, 0.3), writer.kill).start()
    last = 0
    for text in acks:
        if text.endswith("\n"):
            last = int(text)
    acks.close()
    writer.wait(10)
    got = c.shell("SELECT coalesce(max(n), 0), count(*) FROM t").stdout.strip().split("|")
    check(got[0] == got[1], f"a gap: {got}")
    return last, int(got[0])


@test("synchronous=NORMAL survives kill -9 of the application at any moment: every acknowledged commit is "
      "there", 240)
def normal_survives_kill9(t):
    kills = 100 if t.slow() else 20
    with t.cluster() as c:
        c.shell("CREATE TABLE t(n INTEGER PRIMARY KEY);")
        more = 0
        for i in range(kills):
            acked, there = killed_while_it_counts(c, "NORMAL")
            check(there >= acked, f"kill {i + 1}: {acked} was acknowledged, {there} is the newest")
            more += there - acked
        t.note(f"{kills} kills, {there} commits, {more} there without having been acknowledged")


class Volume:
    """A file system of its own on a loop device, whose power can be cut."""

    def __init__(self, directory, name):
        self.image = os.path.join(directory, f"{name}.img")
        self.path = os.path.join(directory, name)
        os.makedirs(self.path)
        self.sh("truncate", "-s", "512M", self.image)
        self.sh("mkfs.ext4", "-q", "-F", self.image)
        self.mount()

    @staticmethod
    def sh(*words):
        done = run(list(words), None, 60)
        check(done.returncode == 0, f"{' '.join(words)}: {done.stderr.strip()[-300:]}")

    def mount(self):
        self.sh("mount", "-o", "loop", self.image, self.path)

    def cut_power(self):
        """What was not synced is gone."""
        self.sh("xfs_io", "-x", "-c", "shutdown", self.path)

    def remount(self):
        self.sh("umount", self.path)
        self.mount()

    def close(self):
        run(["umount", "-l", self.path], None, 60)
        os.unlink(self.image)


@test("synchronous=FULL survives power loss of one safekeeper, each in turn, while commits go on; and of all "
      "three at once", 300)
def full_survives_power_loss(t):
    rounds = 12 if t.slow() else 3
    t.needs_root("mount file systems")
    t.needs("xfs_io", "mkfs.ext4", "mount")
    volumes = {n: Volume(t.dir, f"safekeeper-{n}") for n in (1, 2, 3)}
    try:
        with t.cluster(start=False) as c:
            for n in volumes:  # a file system has a lost+found, a safekeeper's directory is its own
                volumes[n].data = os.path.join(volumes[n].path, "data")
            c.data = lambda node: (volumes[node].data if node in volumes
                                   else os.path.join(c.dir, str(node)))
            c.log = lambda node: os.path.join(c.dir, f"{node}.log")
            c.start_everything()
            c.shell("CREATE TABLE t(n INTEGER PRIMARY KEY);")
            db = c.connect(timeout=20.0)
            n = 0

            def commits(k):
                nonlocal n
                for _ in range(k):
                    db.execute("INSERT INTO t VALUES(?)", (n + 1,))
                    n += 1

            for i in range(rounds):
                node = i % 3 + 1
                commits(50)
                volumes[node].cut_power()
                commits(50)  # the other two
                c.kill9(node)
                volumes[node].remount()
                c.start(node)
                commits(50)
                until(lambda: c.metrics(node)["corallite_safekeeper_records_total"] > 0, 20,
                      f"safekeeper {node} is at work again")
            for volume in volumes.values():
                volume.cut_power()
            c.kill9_everything()
            for volume in volumes.values():
                volume.remount()
            c.start_everything()
            got = c.shell("SELECT max(n), count(*) FROM t; PRAGMA integrity_check;").stdout.split()
            check(got == [f"{n}|{n}", "ok"], f"{n} were acknowledged; there is {got}")
            t.note(f"{rounds} power cuts of one safekeeper, one of all three: {n} commits, all there")
    finally:
        for volume in volumes.values():
            volume.close()
