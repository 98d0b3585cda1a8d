#!/usr/bin/python3
"""Does a cluster stay as it is? make soak [SECONDS=600] [REST=0].

A few threads live the lives of databases over and over: made, written to and read, a branch grown, written to, restored
from, dropped, and the database dropped and purged; beside them a database stays and is written to under a short
retention. Each rests for REST seconds between two lives, so that a long run can go on beside other work. Every SAMPLE_S
memory, descriptors and disk of each daemon are noted. After the first third, which warms up, none may grow: the last
third is compared with the second. What may grow is told apart: a timeline that was dropped stays in the registries for
ever (TOMBSTONE_BYTES of memory and disk each). An archive takes the log, so that the safekeepers drop it; the archive
itself is not looked at. Ends with 1 where something grew, or a statement failed.
"""

import os
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib.cluster import BIN, NODES, PAGESERVER, Failure, check, run  # noqa: E402
from many import descriptors, disk_bytes  # noqa: E402
from test_truncate import Trimmed  # noqa: E402

LIVES = 3  # threads
REST_S = float(os.environ.get("REST") or 0)
SAMPLE_S = 2.0
MEMORY_BYTES, DISK_BYTES, DESCRIPTORS = 8 << 20, 16 << 20, 24  # what the last third may have more
TOMBSTONE_BYTES = 4096
ROWS = 30


def anonymous_bytes(pid):
    """Memory of its own, not of mapped files."""
    with open(f"/proc/{pid}/status") as f:
        return next(int(text.split()[1]) for text in f if text.startswith("RssAnon:")) * 1024


def corallite(c, *args):
    done = run([os.path.join(BIN, "corallite"), *args], "", 60, c.env())
    check(done.returncode == 0, f"corallite {' '.join(args)}: {done.stderr.strip()[-300:]}")


class Load:
    def __init__(self, c):
        self.c, self.stop, self.wrong = c, False, []
        self.timelines = self.commits = 0
        self.lock = threading.Lock()

    def counted(self, timelines, commits):
        with self.lock:
            self.timelines += timelines
            self.commits += commits

    def write(self, name, first):
        db = self.c.connect(name, timeout=30)
        if first == 0:
            db.execute("CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)")
        for k in range(first, first + ROWS):
            db.execute("INSERT INTO t VALUES(?, randomblob(500))", (k,))
        check(db.execute("SELECT count(*) FROM t").fetchone()[0] == first + ROWS, f"{name} has not all rows")
        db.close()

    def life(self, name):
        self.write(name, 0)
        corallite(self.c, "branch", "create", f"{name}/b")
        self.write(f"{name}/b", ROWS)
        corallite(self.c, "restore", name, "--to", f"{name}/b", "--keep-as", "before", "--yes")
        self.write(name, 2 * ROWS)
        corallite(self.c, "branch", "drop", f"{name}/b", "--yes")
        corallite(self.c, "db", "drop", name, "--purge", "--yes")
        self.counted(3, 3 * ROWS + 1)

    def one(self, slot):
        n = 0
        while not self.stop:
            try:
                self.life(f"life{slot}-{n}")
            except Exception as e:  # told at the end
                self.wrong.append(f"life{slot}-{n}: {e}")
                return
            n += 1
            time.sleep(REST_S)

    def steady(self):
        """A database that stays, and is written over."""
        db = self.c.connect("steady", timeout=30)
        k = 0
        while not self.stop:
            try:
                db.execute("INSERT INTO t VALUES(?, randomblob(300)) ON CONFLICT(k) DO UPDATE SET v = excluded.v",
                           (k % 500,))
                if k % 50 == 0:
                    check(db.execute("SELECT count(*) FROM t").fetchone()[0] == min(k + 1, 500), "rows are missing")
            except Exception as e:  # told at the end
                self.wrong.append(f"steady: {e}")
                return
            k += 1
            self.counted(0, 1)
            time.sleep(0.02)
        db.close()

    def run(self, seconds, sample):
        setup = self.c.connect("steady")
        setup.execute("CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)")
        setup.close()
        corallite(self.c, "retention", "set", "steady", "2m")
        threads = [threading.Thread(target=self.one, args=(i,)) for i in range(LIVES)]
        threads.append(threading.Thread(target=self.steady))
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.wrong:
            try:
                sample()
            except Exception as e:  # told when the others have stopped
                self.wrong.append(f"sample: {e}")
            time.sleep(SAMPLE_S)
        self.stop = True
        for thread in threads:
            thread.join()


def third(samples, which, kind, node):
    n = len(samples) // 3
    part = [s[node][kind] for s in samples[which * n:(which + 1) * n]]
    return sum(part) / len(part)


def judge(samples, note):
    """Complaints."""
    bad = []
    made = [s["timelines"] for s in samples]
    n = len(samples) // 3
    tombstones = (sum(made[2 * n:]) / len(made[2 * n:]) - sum(made[n:2 * n]) / n) * TOMBSTONE_BYTES
    allowed = {"memory": MEMORY_BYTES + tombstones, "disk": DISK_BYTES + tombstones, "fds": DESCRIPTORS}
    for node in (PAGESERVER,) + tuple(NODES):
        words = []
        for kind, unit, name in (("memory", 1 << 20, "MiB of memory"), ("disk", 1 << 20, "MiB of disk"),
                                 ("fds", 1, "descriptors")):
            parts = [third(samples, k, kind, node) for k in range(3)]
            words.append(f"{parts[0] / unit:.1f}, {parts[1] / unit:.1f}, {parts[2] / unit:.1f} {name}")
            if parts[2] > parts[1] + allowed[kind]:
                bad.append(f"{node}: {parts[1] / unit:.1f} and then {parts[2] / unit:.1f} {name}")
        note(f"{'pageserver' if node == PAGESERVER else f'safekeeper {node}'}, by thirds: {'; '.join(words)}")
    return bad


def soak(c, seconds, note):
    load, samples = Load(c), []

    def sample():
        now = {"timelines": load.timelines}
        for node in (PAGESERVER,) + tuple(NODES):
            pid = c.pid(node)
            now[node] = {"memory": anonymous_bytes(pid), "fds": descriptors(pid), "disk": disk_bytes(c.data(node))}
        samples.append(now)

    load.run(seconds, sample)
    check(not load.wrong, load.wrong and load.wrong[0])
    check(len(samples) >= 9, f"only {len(samples)} samples")
    note(f"{seconds} s: {load.commits} commits, {load.timelines} timelines made and dropped, {len(samples)} samples")
    bad = judge(samples, note)
    check(not bad, f"grew: {'; '.join(bad)}")


def main():
    directory = tempfile.mkdtemp(prefix="corallite-soak-", dir=os.environ.get("TMPDIR"))
    try:
        with Trimmed(os.path.join(directory, "cluster"), os.path.join(directory, "archive")) as c:
            soak(c, int(os.environ.get("SECONDS_TO_SOAK", "600")), lambda text: print(text, flush=True))
    except Failure as e:
        print(f"FAIL {e}")
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
