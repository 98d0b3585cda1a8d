"""Row 5: many rows at once. Row 13: bytes a commit and a version."""

import os
import sqlite3
import time

from lib.goals import Goal, Workload, figure, ratio
from lib.place import Failure, same, until
from lib_cluster import NODES

from .commits import checked

BOTH = ("local", "corallite")
BATCH = 1000


def batch(bench, system):
    """A database of its own each time: the rounds are to find the same."""
    name = f"batch{bench.next('batch' + system.name)}"
    system.rows("fill", db=name, rows=1, seconds=0)

    def work():
        found = system.rows("batch", db=name, batch=BATCH, seconds=bench.seconds(1.5))
        found["all_n"] *= BATCH
        return found
    found = checked(system, work, db=name, check=1)
    found["rows_per_s"] = found["per_s"] * BATCH
    system.drop(name)
    return found


# -- import -----------------------------------------------------------------------------------------

def make_file(bench):
    """A file of rows of 100 bytes, half of them random, made once."""
    local = bench["local"]
    rows = bench.amount(2000, 7500000, 7500000)  # 130 bytes a row: 1 GB
    made = local.rows("fill", db="source", rows=rows, seconds=0, timeout=600, synchronous="off")
    db = sqlite3.connect(local.path("source"))
    db.execute("PRAGMA wal_checkpoint(truncate)")
    db.close()
    bench.kept["source"] = (made["n"], made["all_sum"])


def mib(path):
    return os.path.getsize(path) / 1e6


def copy(bench, system):
    """The control: the same bytes to three files, each synced. What local has no import for."""
    source, size = system.path("source"), mib(system.path("source"))
    began = time.monotonic()
    for i in range(3):
        with open(source, "rb") as a, open(f"{source}-copy-{i}", "wb") as b:
            while os.sendfile(b.fileno(), a.fileno(), None, 1 << 24):
                pass
            os.fsync(b.fileno())
    took = time.monotonic() - began
    for i in range(3):
        same("bytes copied", os.path.getsize(f"{source}-copy-{i}"), os.path.getsize(source))
        os.unlink(f"{source}-copy-{i}")
    return {"mb_per_s": size / took, "mb": size, "took_s": took}


def import_file(bench, system):
    if system.name == "local":
        return copy(bench, system)
    source = bench["local"].path("source")
    began = time.monotonic()
    system.command("import", source, "imported", seconds=900)
    took = time.monotonic() - began
    until(lambda: system.counted("imported") == bench.kept["source"], 120, "the imported rows are there")
    system.drop("imported")
    return {"mb_per_s": mib(source) / took, "mb": mib(source), "took_s": took}


# -- bytes ------------------------------------------------------------------------------------------

def received(system):
    return [system.cluster.metrics(n)["corallite_received_bytes_total"] for n in NODES]


def bytes_of_commits(bench, system):
    """What each safekeeper receives a one-row commit, messages and all; warm, one connection."""
    rows, most = bench.amount(1000, 20000), bench.amount(200, 3000)
    if bench.next("bytes") == 1:
        system.rows("fill", db="bytes", rows=rows, seconds=0)
    before = received(system)
    found = checked(system, lambda: system.rows("insert", db="bytes", most=most, warm=0, seconds=60),
                    db="bytes")
    # The counting of `checked` sends positions, not records: some hundred bytes in all.
    return {"bytes_a_commit": max(b - a for a, b in zip(before, received(system))) / found["all_n"]}


def ingested(system):
    return system.cluster.metrics()["corallite_pageserver_ingest_records_total"]


def settle(system, seconds=60):
    """Waits until the pageserver has what the safekeepers have."""
    def level():
        have = ingested(system)
        return have >= max(system.cluster.metrics(n)["corallite_safekeeper_records_total"] for n in NODES)
    until(level, seconds, "the pageserver has ingested everything")


def bytes_of_versions(bench, system):
    """Growth of the page store a version, after many one-row updates of one table. In a cluster of its own:
    what was freed in an old store is used again and would hide it."""
    fresh = type(system)(bench.place)
    fresh.start("versions")
    try:
        return grown(bench, fresh)
    finally:
        fresh.stop()


def used_bytes(system):
    """Of the page store, free pages in it included. The pageserver counts them once a second."""
    settle(system)
    time.sleep(1.3)
    return system.cluster.metrics()["corallite_pageserver_lmdb_used_bytes"]


def grown(bench, system):
    rows, most = bench.amount(1000, 100000), bench.amount(300, 40000)
    system.rows("fill", db="versions", rows=rows, seconds=0)
    before = used_bytes(system)
    found = system.rows("update", db="versions", rows=rows, threads=8, most=most // 8, warm=0, seconds=60)
    larger = used_bytes(system) - before
    if found["all_n"] < most // 2:
        raise Failure(f"only {found['all_n']} updates in 60 s")
    return {"bytes_a_version": larger / found["all_n"], "versions": found["all_n"]}


WORK = [
    Workload("batch", 5, "1,000 rows a transaction, 1 connection, FULL", BOTH, batch, "transactions/s", smoke=True),
    Workload("import", 5, "import of a file of 1 GB; local: cp + sync three times", BOTH, import_file,
             rounds=1, prepare=make_file, smoke=True),
    Workload("bytes", 13, "bytes received a one-row commit, largest of three safekeepers", ("corallite",),
             bytes_of_commits, rounds=1),
    Workload("versions", 13, "bytes at rest a version, one-row updates", ("corallite",),
             bytes_of_versions, rounds=1),
]


def import_reached(results):
    """Of the easier one of the two bounds: 100 MB/s, or 0.7 of cp + sync x3."""
    rate = results.median("import", "corallite", "mb_per_s")
    part = results.ratio(("import", "corallite"), ("import", "local"), "mb_per_s")
    return None if rate is None or part is None else max(rate / 100, part / 0.7)


GOALS = [
    Goal(5, "rows a second in batches, of local FULL's",
         ratio(("batch", "corallite"), ("batch", "local"), "rows_per_s"), ">=", 0.5),
    Goal(5, "import, of the lesser of 100 MB/s and 0.7 of cp + sync x3", import_reached, ">=", 1),
    Goal(13, "bytes a one-row commit", figure("bytes", "corallite", "bytes_a_commit"), "<=", 600, " B"),
    Goal(13, "bytes a version at rest", figure("versions", "corallite", "bytes_a_version"), "<=", 300,
         " B"),
]
