"""Safekeepers drop what is archived: their disks stay small, and whatever is lost comes back from archive and safekeepers."""

import glob
import json
import os
import shutil
import subprocess
import time

from lib.cluster import NODES, PAGESERVER, check, until
from lib.registry import test
from test_archive import Archived, moments, same, sum_of
from test_damage import ROWS, damage, rows_come_back, timeline_of
from test_members import new_node, replace

SEGMENT = 16 << 20


class Trimmed(Archived):
    """Its safekeepers keep no more of a log than a segment or two, once it is archived."""

    def command(self, node):
        command = super().command(node)
        return command if node == PAGESERVER else command + ["--keep-log", "1M"]

    def segments(self, node):
        """First LSNs of the files of all logs that are there."""
        return sorted(os.path.basename(p) for p in glob.glob(f"{self.data(node)}/timelines/*/log/*.seg"))

    def disk_bytes(self, node):
        out = subprocess.run(["du", "-s", "-B1", self.data(node)], capture_output=True, text=True, timeout=20, check=True)
        return int(out.stdout.split()[0])

    def trimmed(self, nodes=NODES):
        for node in nodes:
            until(lambda: "0" * 16 + ".seg" not in self.segments(node), 40, f"safekeeper {node} drops its first segment")
            until(lambda: len(self.segments(node)) <= 3, 40, f"safekeeper {node} keeps few segments")


def write(c, mib):
    """Updates of the same rows: so much of new log, and a database that does not grow."""
    con = c.connect(timeout=60)
    con.execute("CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, v)")
    for i in range(mib // 2):
        con.execute("WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 40) "
                    "INSERT OR REPLACE INTO t SELECT n, randomblob(50000) FROM i")
    con.close()


@test("a cluster with an archive: segments go, kill -9 of all; a safekeeper's disk is lost and built anew by one command; "
      "the pageserver's disk; with --slow everything: each time all old moments are readable and writing goes on", 180)
def segments_go(t):
    archive = t.dir + "/archive"
    with Trimmed(t.dir + "/a", archive) as c:
        c.shell("CREATE TABLE first(x); INSERT INTO first VALUES ('a'), ('b');")
        c.corallite("pin", "create", "shop", "early")
        write(c, 60 if t.slow() else 40)
        c.archived()
        c.trimmed()
        sizes = [c.disk_bytes(node) for node in NODES]
        check(max(sizes) < 3 * SEGMENT, f"the disks of the safekeepers have {sizes} bytes")
        before = moments(c)
        early = sum_of(c, "shop", at="pin:early")

        c.kill9_everything()
        c.start_everything()
        same(before, c, "after kill -9 of all")
        c.corallite("check")

        c.kill9(2)
        shutil.rmtree(c.data(2))
        replace(c, 2, new_node(c, 4), timeout=90)
        until(lambda: c.segments(4) and "0" * 16 + ".seg" not in c.segments(4), 40, "the new one begins where the log is kept")
        c.kill9(1)  # the new one is needed for a majority
        write(c, 4)
        c.start(1)
        c.archived()
        before = moments(c)

        c.take_over()
        same(before, c, "after the loss of the pageserver's disk")
        check(sum_of(c, "shop", at="pin:early") == early, "the oldest moment is another")
        write(c, 2)
        c.archived()
        before = moments(c)
        c.lose_everything()
    t.note(f"{len(before)} moments; the safekeepers had {max(sizes) >> 20} MiB each of some {60 if t.slow() else 40} MiB of log")
    if not t.slow():
        return
    with c.come_back(t.dir + "/b") as c:
        c.start_everything()
        same(before, c, "restored")
        write(c, 2)


@test("safekeeper replace where the begin of a sealed log is in the archive alone: the new one begins where the log is kept; old "
      "moments of the kept branch are readable without another of those that have it, and after the loss of the pageserver's disk", 120)
def replace_moves_sealed_truncated(t):
    with Trimmed(t.dir + "/s", t.dir + "/archive") as c:
        write(c, 36)
        lsn = json.loads(c.corallite("log", "shop", "-n", "1", "--json").stdout)[0]["lsn"]
        c.corallite("restore", "shop", "--to", f"lsn:{lsn}", "--keep-as", "kept", "--yes")
        c.shell("INSERT INTO t VALUES (1000, 'after');")
        c.archived()
        c.trimmed()
        before, kept = moments(c), sum_of(c, "shop/kept")
        c.kill9(2)
        shutil.rmtree(c.data(2))
        done = replace(c, 2, new_node(c, 4), timeout=60)
        check(done["sealed"] == 1, f"{done}")
        until(lambda: c.segments(4) and "0" * 16 + ".seg" not in c.segments(4), 40, "the new one begins where the log is kept")
        c.kill9(1)
        same(before, c, "with the new one and another")
        c.start(1)
        c.archived()
        c.take_over()
        same(before, c, "after the loss of the pageserver's disk")
        check(sum_of(c, "shop/kept") == kept, "the kept branch is another")


@test("without an archive, and with --keep-log all, nothing goes", 60)
def nothing_goes(t):
    for name, wants in (("none", "1M"), ("all", "all")):
        archive = t.dir + "/archive-" + name

        class Kept(Archived):
            def command(self, node):
                command = super(Archived, self).command(node) if name == "none" else super().command(node)
                return command if node == PAGESERVER else command + ["--keep-log", wants]

        with Kept(t.dir + "/" + name, archive) as c:
            write(c, 20)
            if name == "all":
                c.archived()
            check(c.shell("SELECT count(*) FROM t").stdout.strip() == "40", "all is ingested")
            time.sleep(2.5)  # two looks of the safekeepers at what could go
            for node in NODES:
                files = glob.glob(f"{c.data(node)}/timelines/*/log/{'0' * 16}.seg")
                check(len(files) == 1, f"safekeeper {node} lacks its first segment")
                check(c.metrics(node)["corallite_safekeeper_segments_dropped_total"] == 0, "a segment went")


@test("a damaged page, and no safekeeper keeps the log's begin: repair proves the log from the archive, and fetches it from "
      "there", 120)
def repair_from_the_archive(t):
    with Trimmed(t.dir + "/c", t.dir + "/archive") as c:
        write(c, 36)
        c.archived()
        c.trimmed()
        before = moments(c)
        timeline = timeline_of(c, "shop")
        c.stop(PAGESERVER)
        damage("page-missing", c.data(PAGESERVER), timeline)
        c.start(PAGESERVER)
        until(lambda: c.corallite("status", ok=False).returncode == 0, 20, "the cluster is well")
        done = c.corallite("repair", "shop", "--yes", timeout=120)
        check("rebuil" in done.stdout or "fetch" in done.stdout, done.stdout)
        same(before, c, "repaired")
        with open(c.log(PAGESERVER)) as f:
            check("pageserver/refill: from the archive" in f.read(), "the archive was not read")
        c.corallite("check", "shop", "--deep", timeout=120)


# Of each action, and what the start itself has to take from the archive.
ROWS_IN_CI = ("page-bit", "commit-missing", "progress-missing", "timeline-missing", "cutoff-above-pin")


@test("20 kinds of damage to rows (5 of them in CI) on a cluster whose safekeepers have dropped the logs' begins: each is "
      "found and named, and given back from archive and safekeepers, every page of every moment what it was", 540)
def damaged_rows_truncated(t):
    kinds = {kind: ROWS[kind] for kind in (ROWS if t.slow() else ROWS_IN_CI)}

    def swell(db):
        """More than a segment of log, and a database of a megabyte."""
        con = c.connect(db, timeout=60)
        for _ in range(18):  # the pages of one are free for the next
            con.execute("INSERT INTO t(a, b) VALUES ('swell', randomblob(1 << 20))")
            con.execute("DELETE FROM t WHERE a = 'swell'")
        con.close()

    def truncated():
        c.archived(120)
        for node in NODES:
            # One first segment a log is gone; the child of one of them begins in a later one.
            until(lambda: "0" * 16 + ".seg" not in c.segments(node), 60, f"safekeeper {node} drops the logs' begins")
            until(lambda: c.metrics(node)["corallite_safekeeper_segments_dropped_total"] >= len(kinds), 60, "segments go")

    with Trimmed(t.dir + "/d", t.dir + "/archive") as c:
        done = rows_come_back(t, c, kinds, swell, truncated, timeout=300)
        for a in done["actions"]:
            check(a["action"] != "rebuild" or a["log_bytes"] > SEGMENT or "/child" in a["name"], f"of how much log was it made? {a}")
        with open(c.log(PAGESERVER)) as f:
            n = f.read().count("pageserver/refill: from the archive")
        rebuilt = sum(a["action"] == "rebuild" for a in done["actions"])
        check(n >= rebuilt, f"{rebuilt} timelines were fetched again, and the archive was read {n} times")
        t.note(f"the archive was read {n} times")


class Resting(Trimmed):
    """One idle timeline stays open."""

    def command(self, node):
        command = super().command(node)
        return command if node == PAGESERVER else command + ["--open-timelines", "1"]


@test("a timeline that was closed to rest before the archive had it: its segments go when that is told, though nobody uses it; so "
      "they do after a start; it is closed again", 120)
def trimmed_at_rest(t):
    archive = t.dir + "/archive"
    with Resting(t.dir + "/r", archive) as c:
        c.shell("CREATE TABLE t(x)", db="other")
        c.archived()
        os.rename(archive, archive + ".away")
        write(c, 22)
        main = timeline_of(c, "shop")
        c.shell("INSERT INTO t VALUES (1)", db="other")

        def has_open(node):
            pid, found = c.process[node].pid, False
            for fd in os.listdir(f"/proc/{pid}/fd"):
                try:
                    found |= f"/timelines/{main}/" in os.readlink(f"/proc/{pid}/fd/{fd}")
                except OSError:
                    pass  # closed meanwhile
            return found

        def at_rest():
            c.shell("INSERT INTO t VALUES (1)", db="other")  # which is the one that stays open
            time.sleep(0.5)
            return not any(has_open(node) for node in NODES)

        def kept(node):
            return os.path.exists(f"{c.data(node)}/timelines/{main}/log/{0:016x}.seg")
        until(at_rest, 60, "the one that is not used is closed")
        check(all(kept(node) for node in NODES), "a segment went before the archive had it")
        # Safekeeper 3 hears of it only after its start.
        c.stop(3)
        os.rename(archive + ".away", archive)
        for node in (1, 2):
            until(lambda: not kept(node), 40, f"safekeeper {node} drops a segment of what rests")
        check(kept(3), "a safekeeper that does not run lost a segment")
        c.start(3)
        until(lambda: not kept(3), 40, "safekeeper 3 drops a segment of what rests")
        until(at_rest, 60, "it is closed again")
        check(c.shell("SELECT count(*) FROM t").stdout.strip() == "40", "all is there")
        c.corallite("check")
