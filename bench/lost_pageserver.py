#!/usr/bin/python3
"""How long until a lost pageserver serves again: begun with the archive's snapshots, and by replaying the log, side by side.

    lost_pageserver.py [--log MB] [--rows N] [--rounds N] [--retention TIME] [--dir DIR] [--keep FILE]

One cluster of real processes, one database that is filled and then changed until its log has so many MB; everything archived. Then in
turn: the pageserver's directory is removed and a new one takes over, with the archive (snapshots), or without (the log alone). The time is
from the start of the process until a new connection has read every row of the head. The digest of the rows is compared each time.
"""

import argparse
import hashlib
import os
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "integration"))
if sys.executable != "/usr/bin/python3":
    os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])

from lib.cluster import PAGESERVER, until  # noqa: E402
from test_archive import Archived  # noqa: E402


class Bench(Archived):
    with_archive = True

    def command(self, node):
        command = super().command(node)
        if node == PAGESERVER and not self.with_archive:
            at = command.index("--archive")
            del command[at:at + 4]
        return command


def digest(c):
    """Waits for the head, however long its replay takes."""
    until_s = time.monotonic() + 1800
    while True:
        try:
            return digest_once(c)
        except sqlite3.OperationalError:
            if time.monotonic() > until_s:
                raise


def digest_once(c):
    con = c.connect(timeout=600)
    h = hashlib.sha256()
    for row in con.execute("SELECT rowid, * FROM t ORDER BY 1"):
        h.update(repr(row).encode())
    con.close()
    return h.hexdigest()


def fill(c, rows, mb):
    r = random.Random(1)
    con = c.connect(timeout=60)
    con.execute("CREATE TABLE t(k INTEGER PRIMARY KEY, v)")
    con.execute("BEGIN")
    con.executemany("INSERT INTO t VALUES (?, ?)", ((i, r.randbytes(1000)) for i in range(rows)))
    con.execute("COMMIT")
    con.close()
    change(c, rows, mb)


def change(c, rows, mb):
    r = random.Random(2)
    con = c.connect(timeout=60)
    while c.log_mb() < mb:
        con.execute("BEGIN")
        con.executemany("UPDATE t SET v = ? WHERE k = ?", ((r.randbytes(1000), r.randrange(rows)) for _ in range(200)))
        con.execute("COMMIT")
    con.close()


def collect(c, retention):
    """Nothing goes in the first minute after a start."""
    c.corallite("retention", "set", "shop", retention)
    until(lambda: c.metrics()["corallite_pageserver_gc_versions_total"] > 0, 400, "garbage is collected")
    seen = -1
    while seen != c.metrics()["corallite_pageserver_gc_versions_total"]:
        seen = c.metrics()["corallite_pageserver_gc_versions_total"]
        time.sleep(3)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--log", type=int, default=300)
    p.add_argument("--rows", type=int, default=50000)
    p.add_argument("--retention", help="the history that is kept, as in 1s (default: all of it)")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--dir", default=os.environ.get("TMPDIR", "/var/tmp"))
    p.add_argument("--keep", help="where the pageserver's log is copied to")
    a = p.parse_args()
    place = tempfile.mkdtemp(prefix="corallite-bench-", dir=a.dir)
    c = Bench(place + "/c", place + "/archive", start=False)
    c.log_mb = lambda: c.metrics()["corallite_pageserver_ingest_bytes_total"] / 1e6
    try:
        c.start_everything()
        fill(c, a.rows, a.log if not a.retention else a.log // 2)
        if a.retention:
            collect(c, a.retention)
            change(c, a.rows, a.log)
        c.archived(600)
        time.sleep(12)
        c.archived(600)
        want = digest(c)
        m = c.metrics()
        snaps = sum(os.path.getsize(x) for x in c.objects("snap") if os.path.isfile(x))
        print(f"log {c.log_mb():.0f} MB, snapshot {snaps / 1e6:.0f} MB, to replay behind it "
              f"{m['corallite_pageserver_archive_replay_bytes'] / 1e6:.0f} MB")
        c.more = ["--take-over"]
        took = {True: [], False: []}
        for _ in range(a.rounds):
            for with_archive in (True, False):
                c.kill9(PAGESERVER)
                shutil.rmtree(c.data(PAGESERVER))
                c.with_archive = with_archive
                begun = time.monotonic()
                c.start(PAGESERVER)
                got = digest(c)
                took[with_archive].append(time.monotonic() - begun)
                if got != want:
                    sys.exit("FAIL: other rows came back")
        ratios = [b / s for s, b in zip(took[True], took[False])]
        print("with snapshots  " + " ".join(f"{x:.1f}" for x in took[True]) + f" s, median {statistics.median(took[True]):.1f} s")
        print("log alone       " + " ".join(f"{x:.1f}" for x in took[False]) + f" s, median {statistics.median(took[False]):.1f} s")
        print("ratio           " + " ".join(f"{x:.1f}" for x in ratios) + f", median {statistics.median(ratios):.1f}")
        if a.keep:
            shutil.copy(c.log(PAGESERVER), a.keep)
    finally:
        c.kill9_everything()
        shutil.rmtree(place, ignore_errors=True)


main()
