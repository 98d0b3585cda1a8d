#!/usr/bin/python3
"""One transaction of 2 GB by a process that may have 256 MB: make large [MIB=2048].

The writer runs in a memory cgroup of its own (version 1 or 2), page cache included; without a cgroup
that can be written to, under RLIMIT_DATA. Prints times and the peak of each process; ends with 1 if
anything is not as it should be. Takes about four times its size of disk, and some minutes.
"""

import os
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib.cluster import NODES, PAGESERVER, Cluster, Failure, check, line, tell  # noqa: E402
from test_large import peak_mib  # noqa: E402

LIMIT = 256 << 20
ROW = 65000


class Anonymous(threading.Thread):
    """The most memory of its own (not of mapped files) that each process had, looked at often."""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.pids, self.most = pids, dict.fromkeys(pids, 0.0)

    def run(self):
        while True:
            for name, pid in self.pids.items():
                try:
                    with open(f"/proc/{pid}/status") as f:
                        kib = next(int(t.split()[1]) for t in f if t.startswith("RssAnon:"))
                except (OSError, StopIteration):
                    continue
                self.most[name] = max(self.most[name], kib / 1024)
            time.sleep(0.05)


def group():
    """A memory cgroup with the limit: (its directory, file of its peak); None: there can be none."""
    for root, limit, peak in (("/sys/fs/cgroup", "memory.max", "memory.peak"),
                              ("/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                               "memory.max_usage_in_bytes")):
        path = os.path.join(root, f"corallite-large-{os.getpid()}")
        try:
            os.mkdir(path)
        except OSError:
            continue
        try:
            with open(os.path.join(path, limit), "r+") as f:  # it is there already, or is no limit
                f.write(str(LIMIT))
            return path, os.path.join(path, peak)
        except OSError:
            os.rmdir(path)
    return None


def confine(pid, where):
    if where:
        with open(os.path.join(where[0], "cgroup.procs"), "w") as f:
            f.write(str(pid))
        return f"cgroup {where[0]}, {LIMIT >> 20} MiB with page cache"
    import resource
    resource.prlimit(pid, resource.RLIMIT_DATA, (LIMIT, LIMIT))
    return f"no cgroup can be made here: RLIMIT_DATA {LIMIT >> 20} MiB"


def show(c, mib, where):
    writer = c.worker("large", mib)
    try:
        writer_runs(c, writer, mib, where)
    finally:
        writer.kill()
        writer.wait(30)


def writer_runs(c, writer, mib, where):
    check(line(writer, 30).split()[0] == "open", "open")
    print("limit:", confine(writer.pid, where), flush=True)
    watch = Anonymous({str(n): c.pid(n) for n in NODES + (PAGESERVER,)} | {"writer": writer.pid})
    watch.start()
    began = time.monotonic()
    tell(writer, "go")
    check(line(writer, 1800).split()[0] == "written", "the transaction could not be written")
    written = time.monotonic() - began
    said = line(writer, 3600).split()
    check(said[0] == "ok", " ".join(said))
    print(f"{mib} MiB: statements {written:.1f} s, COMMIT {said[2]} s", flush=True)
    began = time.monotonic()
    rows = c.shell("SELECT count(*), sum(length(b)) FROM big;", timeout=3600).stdout.strip()
    n = mib * 16
    check(rows == f"{n}|{n * ROW}", f"rows: {rows}")
    print(f"all rows read by another process after {time.monotonic() - began:.1f} s more")
    print(f"writer: peak resident {int(said[1]) / 1024:.1f} MiB, own memory "
          f"{watch.most['writer']:.1f} MiB")
    if where:
        with open(where[1]) as f:
            print(f"writer's cgroup: peak {int(f.read()) / (1 << 20):.1f} MiB (page cache included)")
    for node in NODES + (PAGESERVER,):
        name = node if node == PAGESERVER else f"safekeeper {node}"
        print(f"{name}: peak resident {peak_mib(c.pid(node)):.1f} MiB, own memory "
              f"{watch.most[str(node)]:.1f} MiB")
        check(watch.most[str(node)] < 128, f"{name} had {watch.most[str(node)]:.1f} MiB of its own")


def main():
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 2048
    directory = tempfile.mkdtemp(prefix="corallite-large-", dir="/var/tmp")
    where = group()
    status = 0
    try:
        with Cluster(directory) as c:
            show(c, mib, where)
        print("ok")
    except Failure as why:
        print("not ok:", why)
        status = 1
    finally:
        if where:
            time.sleep(0.2)
            os.rmdir(where[0])
        shutil.rmtree(directory, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
