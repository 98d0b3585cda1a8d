"""`archive prune`: what no kept moment needs goes from the archive, and everything still comes back from it."""

import json
import os

from lib.cluster import NODES, PAGESERVER, check, until
from lib.registry import test
from test_archive import moments, pins_of, same
from test_damage import damage, timeline_of
from test_truncate import Trimmed, write


class Pruned(Trimmed):
    """Snapshots of what has 2 MiB of new log; safekeepers keep a segment or two."""

    def command(self, node):
        return super().command(node) + (["--snapshot-every", "2M"] if node == PAGESERVER else [])

    def settled(self):
        seen = -1
        while seen != self.metrics()["corallite_pageserver_archive_snapshots_total"]:
            self.archived(60)
            seen = self.metrics()["corallite_pageserver_archive_snapshots_total"]

    def prune(self, *args, ok=True):
        done = self.corallite("archive", "prune", "--json", *args, timeout=120, ok=ok)
        return json.loads(done.stdout) if ok else done

    def log_bytes(self):
        return sum(os.path.getsize(p) for p in self.logs())

    def begins(self, timeline):
        """Where the objects of a timeline's log begin."""
        return sorted(os.path.basename(p).split("-")[0] for p in self.logs() if timeline in p)


def history(c):
    """Pins, a branch of an old moment, one that was dropped and is kept for its child."""
    c.shell("CREATE TABLE first(x); INSERT INTO first VALUES ('a'), ('b');")
    c.corallite("pin", "create", "shop", "early")
    c.corallite("branch", "create", "shop/dev")
    c.shell("INSERT INTO first VALUES ('dev')", db="shop/dev")
    c.corallite("branch", "create", "shop/deep", "--from", "dev")
    write(c, 24)
    c.corallite("branch", "create", "shop/late", "--at", "pin:early")
    c.shell("INSERT INTO first VALUES ('late')", db="shop/late")
    c.corallite("branch", "drop", "shop/dev", "--yes")
    write(c, 12)
    c.shell("INSERT INTO first VALUES ('c')")


@test("archive prune: the log below a snapshot goes, and objects of nobody; every moment, pin and branch comes back: the pageserver's "
      "disk lost, a damaged page, every disk lost; written on and pruned again", 240)
def pruned_archive(t):
    archive = t.dir + "/archive"
    with Pruned(t.dir + "/a", archive) as c:
        history(c)
        c.settled()
        main = timeline_of(c, "shop")
        for node in NODES:
            first = f"{c.data(node)}/timelines/{main}/log/{0:016x}.seg"
            until(lambda: not os.path.exists(first), 40, f"safekeeper {node} drops the begin of main's log")
        before, pins = moments(c), pins_of(c, "shop")
        was = c.log_bytes()
        stray = os.path.join(archive, c.id, "log", "ab" * 16)
        os.mkdir(stray)
        with open(os.path.join(stray, f"{0x1000:016x}-{0x1008:016x}-" + "0" * 32), "wb") as f:
            f.write(b"nobody's")
        would = c.prune("--dry-run")
        check(c.log_bytes() == was + 8 and would["log_bytes"] > 16 << 20 and would["stray_objects"] == 1,
              f"a dry run: {would}")
        did = c.prune("--yes")
        check({**would, "dry_run": False, "manifests": 0} == {**did, "manifests": 0}, f"said {would}, did {did}")
        check(not os.path.exists(stray) or not os.listdir(stray), "nobody's object is still there")
        check(c.log_bytes() == was - did["log_bytes"], "the log has not become smaller by that much")
        check(f"{0x1000:016x}" not in c.begins(main), "the log's begin is still there")  # all may have gone, where the snapshot is that new
        t.note(f"{was >> 10} KiB of log, of which {did['log_bytes'] >> 10} KiB went with {did['log_objects']} objects")
        same(before, c, "after pruning")
        c.corallite("check", "--deep", timeout=120)
        c.corallite("archive", "check", c.url, timeout=120)

        c.stop(PAGESERVER)
        damage("page-missing", c.data(PAGESERVER), main)
        c.start(PAGESERVER)
        until(lambda: c.corallite("status", ok=False).returncode == 0, 20, "the cluster is well")
        c.corallite("repair", "shop", "--yes", timeout=120)
        same(before, c, "repaired")
        with open(c.log(PAGESERVER)) as f:
            text = f.read()
        check("begins with the archive's snapshot" in text and "snapshot loaded" in text, "by what was it repaired?")
        c.corallite("check", "--deep", timeout=120)

        c.take_over()
        same(before, c, "after the loss of the pageserver's disk")
        check(pins_of(c, "shop") == pins, "the pins are others")
        write(c, 2)
        c.settled()
        before = moments(c)
        c.lose_everything()
    with c.come_back(t.dir + "/b") as c:
        c.start_everything()
        same(before, c, "every disk lost")
        check(pins_of(c, "shop") == pins, "the pins are others")
        c.corallite("check", "--deep", timeout=120)
        write(c, 22)  # more than half of what the snapshot takes
        c.settled()
        before = moments(c)
        did = c.prune("--yes")
        check(did["log_bytes"] > 0, f"pruned again: {did}")
        c.kill9_everything()
        c.start_everything()
        same(before, c, "after kill -9 of all")
        c.corallite("check", "--deep", timeout=120)
        for node in NODES:
            check(c.metrics(node)["corallite_safekeeper_halted_timelines"] == 0, f"safekeeper {node} refuses one")


@test("archive prune: a pageserver without an archive, one that follows and one that was replaced say so; a snapshot that is "
      "damaged keeps its log", 90)
def prune_is_refused(t):
    archive = t.dir + "/archive"
    with t.cluster("none") as c:
        done = Pruned.corallite(c, "archive", "prune", "--yes", ok=False)
        check(done.returncode == 1 and "has no archive" in done.stderr, done.stderr)
    with Pruned(t.dir + "/a", archive) as c:
        write(c, 8)
        c.settled()
        before = moments(c)
        parts = [p for p in c.objects("snap") if os.path.isfile(p)]
        with open(parts[0], "r+b") as f:
            f.seek(3000)
            f.write(b"damage")
        was = c.log_bytes()
        did = c.prune("--yes")
        check(did["log_objects"] == 0 and "its log stays" in did["notes"][0], f"{did}")
        check(c.log_bytes() == was, "log went")
        with open(os.path.join(archive, c.id, "writer", f"{99:016x}"), "w") as f:
            f.write("somebody else")
        done = c.prune("--yes", ok=False)
        check(done.returncode == 1 and "another pageserver archives" in done.stderr, done.stderr)
        check(c.log_bytes() == was, "log went")
        same(before, c, "afterwards")


@test("archive prune took all of a log, up to its end, and every disk was lost: check finds the restored cluster sound", 120)
def checked_without_a_log(t):
    with Pruned(t.dir + "/a", t.dir + "/archive") as c:
        for _ in range(6):
            write(c, 4)
            c.settled()
            c.prune("--yes")
            if not c.begins(timeline_of(c, "shop")):
                break
        check(not c.begins(timeline_of(c, "shop")), "the newest snapshot never was at the log's end")
        before = moments(c, 2)
        c.lose_everything()
    with c.come_back(t.dir + "/b") as back:
        back.start_everything()
        same(before, back, "restored", 2)
        said = back.corallite("check").stdout
        check("keeps nothing below LSN" in said, said)
        write(back, 2)
        check("on 3 of 3 safekeepers" in back.corallite("check").stdout, "there is a log to compare now")
