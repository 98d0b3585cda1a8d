"""Disks of safekeepers that are full, that fail, that are not the ones they were."""

import itertools
import os
import re
import shutil
import sqlite3
import time

from lib.cluster import BIN, NODES, PAGESERVER, check, last_error, run, until
from lib.registry import test
from test_failures import caught_up
from test_wrong_input import first_segment, refuses, says


class SmallDisk:
    """A tmpfs of some MiB as a safekeeper's disk; it can grow."""

    def __init__(self, directory, node, mib):
        self.path = os.path.join(directory, f"disk-{node}")
        self.data = os.path.join(self.path, "data")
        os.makedirs(self.path)
        self.mount("-t", "tmpfs", "-o", f"size={mib}m", "none", self.path)

    @staticmethod
    def mount(*words):
        done = run(["mount", *words], None, 30)
        check(done.returncode == 0, f"mount {' '.join(words)}: {done.stderr.strip()}")

    def grow(self, mib):
        self.mount("-o", f"remount,size={mib}m", self.path)

    def close(self):
        run(["umount", "-l", self.path], None, 30)


def small_disks(t, c, mib, nodes):
    disks = {n: SmallDisk(t.dir, n, mib) for n in nodes}
    data = c.data
    c.data = lambda node: disks[node].data if node in disks else data(node)
    c.log = lambda node: os.path.join(c.dir, f"{node}.log")
    return disks


def fill(db, n, most):
    """Rows of 256 KiB until COMMIT fails; (rows acknowledged, the error)."""
    for i in range(n, n + most):
        try:
            db.execute("INSERT INTO t VALUES(?, randomblob(262144))", (i,))
        except sqlite3.OperationalError as e:
            return i, e
    return n + most, None


@test("one disk full: that safekeeper takes no records, votes and answers; nobody notices; it comes back by itself",
      120)
def one_disk_full(t):
    t.needs_root("mount a small file system")
    with t.cluster(start=False) as c:
        disks = small_disks(t, c, 48, (1,))
        try:
            c.start_everything()
            db = c.connect(timeout=20.0)
            db.execute("CREATE TABLE t(n INTEGER PRIMARY KEY, b BLOB)")
            n, error = fill(db, 0, 240)  # 60 MiB
            check(error is None, f"a commit failed although two disks have room: {error}")
            until(lambda: c.metrics(1)["corallite_safekeeper_disk_full"] == 1, 10, "it says that it is full")
            check(c.process[1].poll() is None, f"it ended: {c.last_words(1)}")
            check(c.metrics(1)["corallite_safekeeper_refused_appends_total"] > 0, "it refused nothing")
            t.note(says(open(c.log(1)).read(), "nearly full", "no records"))
            # With another gone it still votes and tells positions: reads go on, writes say why they cannot.
            db.close()
            c.kill9(3)
            got = c.shell("SELECT count(*) FROM t;", timeout=30).stdout.strip()
            check(got == str(n), f"{got} of {n} rows")
            c.start(3)
            disks[1].grow(160)
            until(lambda: c.metrics(1)["corallite_safekeeper_disk_full"] == 0, 10, "there is room again")
            db = c.connect(timeout=20.0)  # what a safekeeper lacks it gets from a writer's process
            db.execute("INSERT INTO t VALUES(-1, NULL)")
            until(lambda: caught_up(c), 30, "it caught up by itself")
            db.close()
            c.kill9(2)
            got = c.shell("SELECT count(*) FROM t; PRAGMA integrity_check;").stdout.split()
            check(got == [str(n + 1), "ok"], f"without safekeeper 2: {got}")
        finally:
            c.close()
            for disk in disks.values():
                disk.close()


@test("two disks full: SQLITE_FULL with a sentence, reads go on, nothing is lost; commits go on when there is room",
      150)
def two_disks_full(t):
    t.needs_root("mount a small file system")
    with t.cluster(start=False) as c:
        disks = small_disks(t, c, 40, (1, 2))
        try:
            c.start_everything()
            db = c.connect(timeout=20.0, commit_timeout="2s")
            db.execute("CREATE TABLE t(n INTEGER PRIMARY KEY, b BLOB)")
            n, first = fill(db, 0, 400)
            check(first is not None, "two full disks took everything")
            codes = [first.sqlite_errorname]
            acknowledged, unknown = n, [n] if first.sqlite_errorname != "SQLITE_FULL" else []
            # The one that found out may have been on its way; from then on it is known at once.
            refused = None
            for i in range(20):
                began = time.monotonic()
                try:
                    db.execute("INSERT INTO t VALUES(?, randomblob(1000))", (1000 + i,))
                    check(False, "committed although two disks are full")
                except sqlite3.OperationalError as e:
                    codes.append(e.sqlite_errorname)
                    if e.sqlite_errorname == "SQLITE_FULL":
                        refused = last_error()
                        break
                    unknown.append(1000 + i)
            check(refused and codes[-1] == "SQLITE_FULL", f"no SQLITE_FULL: {codes}")
            t.note(f"{codes} after {n} commits; {time.monotonic() - began:.2f} s: {refused}")
            check(re.search("safekeepers 1, 2", refused) and "room" in refused, refused)
            for node in (1, 2):
                check(c.process[node].poll() is None, f"safekeeper {node} ended: {c.last_words(node)}")
            have = [row[0] for row in db.execute("SELECT n FROM t ORDER BY n")]
            check(set(range(acknowledged)) <= set(have), "an acknowledged row is missing while it is full")
            for disk in disks.values():
                disk.grow(160)

            def goes_on():
                try:
                    db.execute("INSERT OR IGNORE INTO t VALUES(5000, NULL)")  # one that timed out may be in
                    return True
                except sqlite3.OperationalError:
                    return False

            until(goes_on, 20, "commits go on when there is room")
            have = {row[0] for row in db.execute("SELECT n FROM t ORDER BY n")}
            check(set(range(acknowledged)) <= have, "an acknowledged row is missing")
            check(have - set(range(acknowledged)) - set(unknown) == {5000}, f"rows from nowhere: {sorted(have)[-5:]}")
            check(db.execute("PRAGMA integrity_check").fetchone()[0] == "ok", "integrity_check")
        finally:
            c.close()
            for disk in disks.values():
                disk.close()


def start_on_bad_disk(t, c, bad):
    """All daemons; the disk of one is bad (lib/fsync_fails.c) while the file is there whose path this returns."""
    flag = os.path.join(t.dir, "the-disk-is-bad")
    shim = os.path.join(BIN, "tests", "integration", "fsync_fails.so")
    check(os.path.exists(shim), f"{shim} is not built")
    for node in NODES + (PAGESERVER,):
        preloaded = ["env", f"LD_PRELOAD={shim}", f"FSYNC_FAILS={flag}", *c.command(node)]
        c.start(node, wait=False, command=preloaded if node == bad else None)
    c.wait_ready()
    return flag


@test("a sync that fails: the safekeeper says so and ends, commits go on; its next start writes the unsealed tail "
      "again", 90)
def sync_fails(t):
    with t.cluster(start=False) as c:
        flag = start_on_bad_disk(t, c, 1)
        db = c.connect(timeout=20.0)
        db.execute("CREATE TABLE t(n INTEGER PRIMARY KEY)")
        numbers = itertools.count()

        def commit():
            db.execute("INSERT INTO t VALUES(?)", (next(numbers),))
            return caught_up(c)

        until(commit, 20, "it follows")  # the two others are a majority without it
        check(c.process[1].poll() is None, "it ended too early")
        open(flag, "w").close()
        for _ in range(50):
            commit()
        check(c.process[1].wait(10) == 1, f"exit status {c.process[1].returncode}")
        t.note(says(open(c.log(1)).read(), ".seg", "could not be made durable"))
        for _ in range(50):
            db.execute("INSERT INTO t VALUES(?)", (next(numbers),))
        os.unlink(flag)
        c.start(1)
        found = re.findall(r"rewritten_bytes=(\d+)", open(c.log(1)).read())
        check(found and int(found[-1]) > 0, f"the tail was not written again: {found}")
        t.note(f"{found[-1]} bytes written again at the start")
        until(lambda: caught_up(c), 20, "it caught up")
        c.kill9(2)
        got = c.shell("SELECT count(*) FROM t;").stdout.strip()
        check(got == str(next(numbers)), f"without safekeeper 2: {got} rows")


@test("the disk does not take LMDB's newest state: the pageserver says so and ends, commits go on, and started again it "
      "has everything", 90)
def store_gives_up(t):
    with t.cluster(start=False) as c:
        flag = start_on_bad_disk(t, c, PAGESERVER)
        db = c.connect(timeout=20.0)
        db.execute("CREATE TABLE t(n INTEGER PRIMARY KEY)")
        db.execute("INSERT INTO t VALUES(0)")
        check(c.shell("SELECT count(*) FROM t;").stdout.strip() == "1", "rows")
        open(flag, "w").close()
        n = 1
        while c.process[PAGESERVER].poll() is None and n < 5000:
            db.execute("INSERT INTO t VALUES(?)", (n,))
            n += 1
            time.sleep(0.01)
        check(c.process[PAGESERVER].wait(10) == 1, f"exit status {c.process[PAGESERVER].returncode}")
        with open(c.log(PAGESERVER), errors="replace") as f:
            log = f.read()
        t.note(says(log, "did not take the page"))
        says(log, "only by a new start", "mend the disk")
        check("file is damaged" not in log, "it calls the file damaged, which it is not")
        for _ in range(20):
            db.execute("INSERT INTO t VALUES(?)", (n,))
            n += 1
        os.unlink(flag)
        c.start(PAGESERVER)
        got = c.shell("SELECT count(*), max(n) FROM t; PRAGMA integrity_check;").stdout.split()
        check(got == [f"{n}|{n - 1}", "ok"], f"{got} of {n}")


@test("not the disk it was: directories swapped, files of another node, control block rotten in one slot and in both",
      90)
def not_the_disk_it_was(t):
    with t.cluster() as c:
        db = c.connect()
        db.execute("CREATE TABLE t(a)")
        db.execute("INSERT INTO t VALUES(1)")
        until(lambda: caught_up(c), 20, "all three have it")
        db.close()
        time.sleep(0.5)  # sealed, and both slots written
        for node in (1, 2):
            c.stop(node)
        one, two = c.data(1), c.data(2)
        os.rename(one, one + "-aside")
        shutil.copytree(two, one)
        refuses(t, c, 1, one, "node")
        shutil.rmtree(one)
        os.rename(one + "-aside", one)
        # The timelines of another node under this one's identity.
        os.rename(os.path.join(one, "timelines"), os.path.join(one, "aside"))
        shutil.copytree(os.path.join(two, "timelines"), os.path.join(one, "timelines"))
        refuses(t, c, 1, "control", "put back the directory")
        shutil.rmtree(os.path.join(one, "timelines"))
        os.rename(os.path.join(one, "aside"), os.path.join(one, "timelines"))
        # A lost directory of a timeline.
        timeline = os.path.dirname(os.path.dirname(first_segment(c, 1)))
        os.rename(timeline, timeline + "-aside")
        refuses(t, c, 1, "is missing", "must not take part")
        os.rename(timeline + "-aside", timeline)
        # Rot of the control block: one slot costs nothing, both are refused.
        control = os.path.join(timeline, "control")
        with open(control, "rb") as f:
            whole = f.read()
        with open(control, "r+b") as f:
            f.seek(80)
            f.write(bytes([whole[80] ^ 255]))
        c.start(1)
        c.stop(1)
        says(open(c.log(1)).read(), "one slot is unsound")
        with open(control, "r+b") as f:
            for at in (80, 4096 + 80):
                f.seek(at)
                byte = f.read(1)
                f.seek(at)
                f.write(bytes([byte[0] ^ 255]))
        c.start(1)  # of that timeline alone
        says(open(c.log(1)).read(), "is halted", control, "both slots", "must not vote")
        c.stop(1)
        with open(control, "wb") as f:
            f.write(whole)
        c.start(1)
        c.start(2)
        got = c.shell("SELECT a FROM t;").stdout.split()
        check(got == ["1"], f"{got}")


@test("the pageserver's disk full: it says so and stays, commits go on, pages that it has are read, those that it cannot "
      "get are refused with a sentence (with --slow); killed and started it is whole; it goes on by itself when there is room", 150)
def pageserver_disk_full(t):
    t.needs_root("mount a small file system")
    with t.cluster(start=False) as c:
        disks = small_disks(t, c, 24, (PAGESERVER,))
        try:
            c.start_everything()
            db = c.connect(timeout=20.0)
            db.execute("CREATE TABLE t(n INTEGER PRIMARY KEY, b BLOB)")
            n, error = fill(db, 0, 60)
            check(error is None, f"a commit failed while the pageserver had room: {error}")
            n, error = fill(db, n, 100)  # 40 MiB in all
            check(error is None, f"a commit failed because the pageserver's disk is full: {error}")
            until(lambda: "the disk is full; reads go on" in open(c.log(PAGESERVER)).read(), 20,
                  "it says that it is full")
            check(c.process[PAGESERVER].poll() is None, f"it ended: {c.last_words(PAGESERVER)}")
            t.note(c.last_words(PAGESERVER, 1))
            # The writer's process has what it wrote; another one is told why it does not get it.
            check(db.execute("SELECT count(*) FROM t").fetchone()[0] == n, "the writer does not see its rows")
            db.execute("INSERT INTO t VALUES(-1, NULL)")
            db.close()
            late = c.shell("SELECT count(*) FROM t;", timeout=60, ok=False) if t.slow() else None
            if late:
                check(late.returncode != 0 or late.stdout.strip() == str(n + 1), f"{late.stdout} of {n + 1} rows")
                t.note(f"a read of what it lacks: {(late.stderr or late.stdout).strip()[-300:]}")
            # A restart changes nothing of that, and finds the store whole.
            c.kill9(PAGESERVER)
            c.start(PAGESERVER)
            time.sleep(1)
            check(c.process[PAGESERVER].poll() is None, f"it ended: {c.last_words(PAGESERVER)}")
            disks[PAGESERVER].grow(200)
            until(lambda: c.shell("SELECT count(*) FROM t;", ok=False).stdout.strip() == str(n + 1), 40,
                  "it goes on when there is room")
            got = c.shell("PRAGMA integrity_check;").stdout.split()
            check(got == ["ok"], f"{got}")
        finally:
            c.close()
            for disk in disks.values():
                disk.close()
