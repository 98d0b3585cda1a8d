"""Rows 8 and 9: a process that has nothing yet. (Row 17, growth.py, has the same where there is more.)"""

import os
import sqlite3

from lib.goals import Goal, Workload, figure, ratio
from lib.place import same

from .bulk import settle

BOTH = ("local", "corallite")
ROW_BYTES = 130  # in the file, of a row of 100


def sizes(bench):
    """Name -> MB."""
    return {"cold-small": bench.amount(1, 10), "cold-large": bench.amount(2, 1000),
            "cold-huge": bench.amount(2, 10000)}


def fill(bench, system, name):
    """Rows, the index for the scan of a part, and the small table for the join; once. Settled."""
    if bench.next(name + system.name) > 1:
        return bench.kept[name, system.name]
    rows = sizes(bench)[name] * 1000000 // ROW_BYTES
    made = system.rows("fill", db=name, rows=rows, seconds=0, timeout=1800)
    if system.name == "corallite":
        settle(system, 600)
    else:
        db = sqlite3.connect(system.path(name))
        db.execute("PRAGMA wal_checkpoint(truncate)")
        db.close()
    bench.kept[name, system.name] = (rows, made["all_sum"])
    return rows, made["all_sum"]


def drop_cache(system, name):
    """The kernel's page cache of a local file; needs no privilege for a file that is synced."""
    with open(system.path(name), "rb") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def served(system):
    m = system.cluster.metrics()
    return (m["corallite_pageserver_pages_served_total"], m["corallite_pageserver_page_requests_total"])


def query(bench, system, name, sql, wanted):
    """One query in a new process with nothing cached; time from opening to the row."""
    if system.name == "local":
        drop_cache(system, name)
        found = system.rows("query", db=name, sql=sql, seconds=0, timeout=900)
    else:
        before = served(system)
        found = system.rows("query", db=name, sql=sql, seconds=0, timeout=900)
        pages, requests = (b - a for a, b in zip(before, served(system)))
        found.update(pages=pages, requests=requests)
    if wanted is not None:
        same(f"the answer of {sql}", found.pop("value"), wanted)
    found["ms"] = found["p50_us"] / 1000
    found["mib"] = found.pop("anonymous_kib") / 1024
    return found


def opening(bench, system, name, rows):
    """From opening to the first row by its key: the median of several processes."""
    found = [query(bench, system, name, f"SELECT id FROM t WHERE id = {key}", key)
             for key in range(1 + rows // 3, 1 + rows // 3 + bench.amount(1, 9))]
    found.sort(key=lambda f: f["p50_us"])
    return found[len(found) // 2]


def start(name):
    def run(bench, system):
        return opening(bench, system, name, fill(bench, system, name)[0])
    return run


def scan(bench, system):
    _, total = fill(bench, system, "cold-large")
    found = query(bench, system, "cold-large", "SELECT sum(k) FROM t", total)
    if system.name == "corallite":
        db_pages = system.json("branch", "list", "cold-large")[0]["pages"]
        found["of_pages"] = found["pages"] / db_pages
    return found


def beyond_cache(results):
    """What the process of the scan has, its 64 MiB of pages (cache_mb) left out, more than one that reads a local file."""
    ours, local = (results.median("cold-scan", system, "mib") for system in ("corallite", "local"))
    return ours - local - 64 if ours and local else None


def part(bench, system):
    """A range of the table's own index: a tenth of the rows."""
    rows, _ = fill(bench, system, "cold-large")
    return query(bench, system, "cold-large",
                 f"SELECT count(v) FROM t WHERE id BETWEEN {rows // 2} AND {rows // 2 + rows // 10}",
                 rows // 10 + 1)


def join(bench, system):
    """2,000 keys spread over the table, each looked up by its key."""
    rows, _ = fill(bench, system, "cold-large")
    n = bench.amount(20, 2000)
    step = rows // (n + 1)
    return query(bench, system, "cold-large", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 "
                 f"FROM n WHERE i < {n}) SELECT count(t.v) FROM n JOIN t ON t.id = n.i * {step}", n)


WORK = [
    Workload("cold-small", 8, "new process, open to first row by key, 10 MB", BOTH, start("cold-small"),
             "opens/s", smoke=True),
    Workload("cold-large", 8, "new process, open to first row by key, 1 GB", BOTH, start("cold-large"),
             "opens/s"),
    Workload("cold-huge", 8, "new process, open to first row by key, 10 GB", ("corallite",), start("cold-huge"),
             "opens/s", full_only=True, rounds=1),
    Workload("cold-range", 9, "cold range of a tenth of 1 GB", BOTH, part, "ranges/s"),
    Workload("cold-join", 9, "cold join, 2,000 keys of 1 GB", BOTH, join, "joins/s"),
    # Last: what it has read the disk's host has at hand for a while, whatever this machine forgets.
    Workload("cold-scan", 9, "cold scan of 1 GB", BOTH, scan, "scans/s"),
]

GOALS = [
    Goal(8, "open to first row, 10 MB", figure("cold-small", "corallite", "ms"), "<=", 5, " ms"),
    Goal(8, "open to first row, 1 GB", figure("cold-large", "corallite", "ms"), "<=", 5, " ms"),
    Goal(8, "open to first row, 10 GB", figure("cold-huge", "corallite", "ms"), "<=", 5, " ms", full_only=True),
    Goal(8, "requests for pages, 1 GB (depth 4, and the schema)",
         figure("cold-large", "corallite", "requests"), "<=", 5, ""),
    Goal(9, "scan, of local's with a dropped cache",
         ratio(("cold-scan", "corallite"), ("cold-scan", "local"), "per_s"), ">=", 0.5),
    Goal(9, "pages fetched by the scan, of those that there are",
         figure("cold-scan", "corallite", "of_pages"), "<=", 1.2),
    Goal(9, "range, of local's with a dropped cache",
         ratio(("cold-range", "corallite"), ("cold-range", "local"), "per_s"), ">=", 0.5),
    Goal(9, "join, of local's with a dropped cache",
         ratio(("cold-join", "corallite"), ("cold-join", "local"), "per_s"), ">=", 0.5),
    Goal(15, "the extension beyond its page cache, after a scan of 1 GB", beyond_cache, "<=", 8, " MiB"),
]
