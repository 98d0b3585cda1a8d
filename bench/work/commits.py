"""Rows 1 to 4: one row a transaction."""

import json
import time

from lib.goals import Goal, Workload, best, figure, ratio
from lib.place import finish, same

EVERY = ("floor", "local", "corallite", "postgres", "dqlite", "etcd")
QUORUM = ("corallite", "postgres", "dqlite", "etcd")
PROCESSES = 4


def checked(system, work, **where):
    """Runs work() and compares what is in the database afterwards with what was acknowledged."""
    n, total = system.counted(**where)
    found = work()
    after_n, after_total = system.counted(**where)
    if n is not None:
        same(f"rows on {system.name}", after_n - n, found["all_n"])
    if total is not None:
        same(f"sum on {system.name}", after_total - total, found["all_sum"])
    return found


def insert(threads):
    def run(bench, system):
        seconds = bench.seconds(2.0)
        return checked(system, lambda: system.insert(threads, seconds))
    return run


def insert_normal(bench, system):
    seconds = bench.seconds(2.0)
    if system.name == "floor":
        return system.insert(1, seconds, sync=False)
    return checked(system, lambda: system.insert(1, seconds, synchronous="normal"))


def insert_processes(bench, system):
    """Several processes on one branch, a connection each, which begin at once; the share of the one that
    got least. The rate is that of all from the first begin to the last end."""
    seconds = bench.seconds(3.0)

    def work():
        start = time.monotonic() + 0.3
        running = [system.start_rows("insert", seconds=seconds, start_at=f"{start:.3f}")
                   for _ in range(PROCESSES)]
        found = [json.loads(finish(p, "rows", 60 + seconds)) for p in running]
        done = sum(f["n"] for f in found)
        took = max(f["ended_s"] for f in found) - min(f["began_s"] for f in found)
        return {"all_n": sum(f["all_n"] for f in found), "all_sum": sum(f["all_sum"] for f in found),
                "per_s": done / took, "least_share": min(f["n"] for f in found) / done,
                "p50_us": sorted(f["p50_us"] for f in found)[PROCESSES // 2],
                "p99_us": max(f["p99_us"] for f in found), "max_us": max(f["max_us"] for f in found)}
    return checked(system, work)


WORK = [
    Workload("insert-1", 1, "one-row insert, 1 connection, FULL", EVERY, insert(1), smoke=True),
    Workload("insert-8", 2, "one-row insert, 8 connections, FULL", QUORUM, insert(8), smoke=True),
    Workload("insert-16", 2, "one-row insert, 16 connections, FULL", QUORUM, insert(16)),
    Workload("insert-4", 2, "one-row insert, 4 connections, FULL", ("local", "corallite"), insert(4),
             smoke=True),
    Workload("insert-4p", 3, "one-row insert, 4 processes, FULL", ("local", "corallite"),
             insert_processes, smoke=True),
    Workload("insert-1-normal", 4, "one-row insert, 1 connection, NORMAL", ("floor", "local", "corallite"),
             insert_normal, smoke=True),
]

OURS_AT_8 = [("insert-8", "corallite"), ("insert-16", "corallite")]

GOALS = [
    Goal(1, "p50, of the floor's", ratio(("insert-1", "corallite"), ("insert-1", "floor"), "p50_us"),
         "<=", 1.25),
    Goal(1, "rate, of PostgreSQL's", ratio(("insert-1", "corallite"), ("insert-1", "postgres"), "per_s"),
         ">=", 1.4),
    Goal(1, "rate, of dqlite's", ratio(("insert-1", "corallite"), ("insert-1", "dqlite"), "per_s"),
         ">=", 3),
    Goal(2, "rate at 8 or 16, of PostgreSQL's at 8",
         best(*(ratio(a, ("insert-8", "postgres"), "per_s") for a in OURS_AT_8)), ">=", 2),
    Goal(2, "rate at 8 or 16, of dqlite's at 8",
         best(*(ratio(a, ("insert-8", "dqlite"), "per_s") for a in OURS_AT_8)), ">=", 15),
    Goal(2, "rate at 8 or 16, of local FULL's at 4 threads",
         best(*(ratio(a, ("insert-4", "local"), "per_s") for a in OURS_AT_8)), ">=", 2),
    Goal(2, "p99, of its p50, 8 connections",
         ratio(("insert-8", "corallite", "p99_us"), ("insert-8", "corallite", "p50_us"), None), "<=", 5),
    Goal(2, "p99, of its p50, 16 connections",
         ratio(("insert-16", "corallite", "p99_us"), ("insert-16", "corallite", "p50_us"), None),
         "<=", 5),
    Goal(3, "4 processes, of 4 threads in one",
         ratio(("insert-4p", "corallite"), ("insert-4", "corallite"), "per_s"), ">=", 0.5),
    Goal(3, "share of the slowest process", figure("insert-4p", "corallite", "least_share"), ">=", 0.15,
         ""),
    Goal(4, "p50, of the floor's without sync",
         ratio(("insert-1-normal", "corallite"), ("insert-1-normal", "floor"), "p50_us"), "<=", 1.5),
]
