"""The archive: a cluster comes back from it, whole, when every disk is lost; and who loses what meanwhile."""

import glob
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time

from lib.cluster import BIN, NODES, PAGESERVER, Cluster, check, free_ports, run, until
from lib.registry import test


class Archived(Cluster):
    """A cluster whose pageserver archives, twice a second."""

    def __init__(self, directory, archive, cluster=None, start=True):
        self.archive = archive
        self.more = []
        os.makedirs(archive, exist_ok=True)
        super().__init__(directory, start=False)
        if cluster:
            self.id = cluster
        if start:
            self.start_everything()

    def command(self, node):
        command = super().command(node)
        if node == PAGESERVER:
            command += ["--archive", f"dir:{self.archive}", "--archive-every", "500ms", *self.more]
        return command

    def corallite(self, *args, ok=True, timeout=60):
        done = run([os.path.join(BIN, "corallite"), *args], "", timeout, self.env())
        if ok:
            check(done.returncode == 0, f"corallite {' '.join(args)}: {done.stderr.strip()[-400:]}")
        return done

    def archived(self, seconds=30):
        """Waits until everything that is committed now is in the archive, names and pins too."""
        def all_there():
            m = self.metrics()
            return m["corallite_pageserver_archive_behind_seconds"] == 0 and m["corallite_pageserver_archive_ok"] == 1 \
                and m["corallite_pageserver_archive_lag_bytes"] == 0
        # What was committed a moment ago is known to the pageserver at its next tick.
        time.sleep(1.2)
        until(all_there, seconds, "everything is archived")

    def objects(self, kind):
        return sorted(glob.glob(f"{self.archive}/{self.id}/{kind}/**/*", recursive=True), key=os.path.basename)

    def logs(self):
        return [p for p in self.objects("log") if os.path.isfile(p)]


def restore(directory, archive, like=None, nodes=NODES):
    """A cluster of new directories, made of the archive; it does not run. What was said, too."""
    c = Archived(directory, archive, start=False)
    said = None
    for node in nodes:
        done = run([os.path.join(BIN, "corallite-safekeeper"), "--restore", f"dir:{archive}", "--dir", c.data(node),
                    "--node", str(node)], "", 60)
        if done.returncode:
            return None, done
        said = done.stdout
    if like:
        c.id = like.id
    return c, said


def sum_of(c, db, **at):
    """What a moment of a branch holds: a digest over every table's rows."""
    con = c.connect(db=db, timeout=20, **at)
    h = hashlib.sha256()
    for (name,) in con.execute("SELECT name FROM sqlite_master WHERE type='table' ORDER BY 1").fetchall():
        for row in con.execute(f"SELECT rowid, * FROM {name} ORDER BY 1"):
            h.update(repr(row).encode())
    con.close()
    return h.hexdigest()


def branches(c):
    out = set()
    for db in json.loads(c.corallite("db", "list", "--json").stdout):
        for b in json.loads(c.corallite("branch", "list", db["name"], "--json").stdout):
            out.add(f"{db['name']}/{b['branch']}")
    return out


def moments(c):
    """{(branch, lsn): digest} of every branch: its head and at most some 12 commits of its log."""
    out = {}
    for ref in branches(c):
        out[ref, "head"] = sum_of(c, ref)
        commits = json.loads(c.corallite("log", ref, "--json").stdout)
        for commit in commits[:: max(1, len(commits) // 12)]:
            out[ref, commit["lsn"]] = sum_of(c, ref, at=f"lsn:{commit['lsn']}")
    return out


def same(before, c, what):
    names = {ref for ref, _ in before}
    # A pageserver that takes over is ready before it has stored every name.
    until(lambda: branches(c) == names, 20, f"{what}: the branches are {sorted(names)}")
    after = moments(c)
    check(set(before) == set(after), f"{what}: other moments: {sorted(set(before) ^ set(after))[:4]}")
    bad = [k for k in before if before[k] != after[k]]
    check(not bad, f"{what}: {len(bad)} of {len(before)} moments read otherwise, {bad[:3]}")


def fill(c):
    """Databases, branches, a large transaction, a restore with what it replaced, a drop, pins."""
    for i in range(6):
        c.shell(f"CREATE TABLE IF NOT EXISTS t(x, y); INSERT INTO t VALUES ({i}, randomblob(300));")
    c.shell("PRAGMA page_size=1024; CREATE TABLE u(k INTEGER PRIMARY KEY, v); INSERT INTO u(v) VALUES ('a'), ('b');",
            db="other")
    c.corallite("branch", "create", "shop/dev")
    c.shell("DELETE FROM t WHERE x = 3; INSERT INTO t VALUES (100, 'dev')", db="shop/dev")
    c.corallite("branch", "create", "shop/deep", "--from", "dev")
    c.shell("INSERT INTO t VALUES (101, 'deep')", db="shop/deep")
    c.corallite("pin", "create", "shop", "before")
    c.shell("WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 9000) "
            "INSERT INTO t SELECT n, randomblob(2500) FROM i")
    c.shell("DELETE FROM t WHERE x > 50")
    c.corallite("restore", "other", "--to", "other@latest", "--keep-as", "undo", "--yes", ok=False)
    c.shell("INSERT INTO u(v) VALUES ('c')", db="other")
    c.shell("CREATE TABLE gone(x); INSERT INTO gone VALUES (1)", db="gone")
    c.corallite("db", "drop", "gone", "--yes")
    c.corallite("retention", "set", "shop", "7d")


@test("pageserver and all safekeepers are lost: from the archive every branch and every moment of it reads as before, with "
      "pins, retention and names; it is written on, archived on, and lost once more", 100)
def everything_lost(t):
    archive = t.dir + "/archive"
    with Archived(t.dir + "/c-a", archive) as c:
        fill(c)
        before = moments(c)
        pins = c.corallite("pin", "list", "shop", "--json").stdout
        c.archived()
        c.kill9_everything()
        first = c
    shutil.rmtree(first.dir)
    for round_ in ("b", "c"):
        c, said = restore(t.dir + "/c-" + round_, archive, like=first)
        check(c, f"the restore failed: {getattr(said, 'stderr', '')[-500:]}")
        check("shop/main" in said and "may be missing" in said, said)
        check("MISSING" not in said and "NOT THERE" not in said, said)
        c.more = ["--take-over"]
        with c:
            c.start_everything()
            same(before, c, f"restored ({round_})")
            check(c.corallite("pin", "list", "shop", "--json").stdout == pins, "the pins are others")
            check("7 d" in c.corallite("retention", "show", "shop").stdout, "the retention is another")
            check("no such table" in c.shell("SELECT * FROM gone", db="gone", ok=False).stderr, "a dropped name is back")
            c.corallite("check", "shop")
            c.shell(f"INSERT INTO t VALUES (200, '{round_}')")
            c.shell("INSERT INTO t VALUES (201, 'x')", db="shop/deep")
            c.corallite("branch", "create", f"shop/after-{round_}", "--at", "pin:before")
            c.archived()
            before = moments(c)
            pins = c.corallite("pin", "list", "shop", "--json").stdout
            c.kill9_everything()
        shutil.rmtree(c.dir)
    t.note(f"{len(before)} moments compared, twice")
