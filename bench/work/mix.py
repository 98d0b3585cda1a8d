"""Row 14: speedtest1, and a mix of orders. Row 16: when something fails."""

import json
import os
import re
import secrets
import time

from lib.goals import Goal, Workload, figure, ratio
from lib.place import Missing, finish, same

from .commits import checked

BOTH = ("local", "corallite")
ORDER = 1 << 40


def speedtest1(bench, system):
    """SQLite's own program, on the VFS as its default one; the build has it (tests/sqlite/build)."""
    if not bench.place.has("speedtest1"):
        raise Missing("speedtest1 was not built: make bench-speedtest does it from Debian's source of SQLite")
    directory = bench.place.subdir("speedtest1")
    env = system.environment()
    hidden = bench.place.subdir("speedtest1/hidden")
    env.update(HARNESS_BACKEND="none" if system.name == "local" else "corallite",
               HARNESS_NAME="speedtest-" + secrets.token_hex(4), HARNESS_COUNTS=directory + "/n",
               HARNESS_HIDDEN=hidden)
    began = time.monotonic()
    said = bench.place.run([bench.place.program("speedtest1"), "--size", bench.amount(2, 100), "--verify",
                            "--journal", "wal", os.path.join(directory, "test.db")], 600, env)
    took = time.monotonic() - began
    mark = re.search(r"Verification Hash: (.*)", said)
    same("the verification hash of speedtest1", mark and mark[1],
         bench.kept.setdefault("speedtest1", mark and mark[1]))
    return {"took_s": took}


def orders(bench, system):
    size = {"warehouses": bench.amount(1, 10), "items": bench.amount(100, 10000)}
    if bench.next("orders" + system.name) == 1:
        system.rows("make", db="orders", program="orders", timeout=300, **size)

    def count():
        found = system.rows("check", db="orders", program="orders", timeout=300)
        return found["orders"], found["paid"]
    n, paid = count()
    found = system.rows("run", db="orders", program="orders", seconds=bench.seconds(4.0), threads=8,
                        warm=0.5, **size)
    after, after_paid = count()
    same(f"orders on {system.name}", after - n, found["all_sum"] // ORDER)
    same(f"cents paid on {system.name}", after_paid - paid, found["all_sum"] % ORDER)
    return found


def safekeeper_killed(bench, system):
    """8 connections; one safekeeper is killed in the middle, and started again afterwards."""
    seconds = bench.amount(0.5, 3.0)

    def work():
        running = system.start_rows("insert", threads=8, seconds=seconds)
        time.sleep(0.3 + seconds / 2)
        system.cluster.kill9(2)
        try:
            return json.loads(finish(running, "rows", 60))
        finally:
            system.cluster.start(2)
    return checked(system, work)


def take_over(release):
    def run(bench, system):
        name = f"take{bench.next('take')}"
        found = system.rows("take", db=name, program="second", release=release)
        same("rows", system.counted(name, check=1)[0], 2051)
        return {"ms": found["p50_us"] / 1000}
    return run


WORK = [
    Workload("speedtest1", 14, "speedtest1, size 100", BOTH, speedtest1, rounds=1),
    Workload("orders", 14, "orders and payments, 10 warehouses, 8 connections, FULL", BOTH, orders,
             "transactions/s", smoke=True),
    Workload("safekeeper-killed", 16, "8 connections, a safekeeper is killed meanwhile", ("corallite",),
             safekeeper_killed),
    Workload("writer-killed", 16, "first commit of another process, writer killed", ("corallite",),
             take_over(0), smoke=True),
    Workload("writer-closed", 16, "first commit of another process, writer closed", ("corallite",),
             take_over(1)),
]

GOALS = [
    Goal(14, "speedtest1, time of local WAL's",
         ratio(("speedtest1", "corallite"), ("speedtest1", "local"), "took_s"), "<=", 1.6),
    Goal(14, "orders and payments, of local FULL's",
         ratio(("orders", "corallite"), ("orders", "local"), "per_s"), ">=", 1.5),
    Goal(16, "slowest commit while a safekeeper is killed",
         figure("safekeeper-killed", "corallite", "max_us"), "<=", 1e6, " us"),
    Goal(16, "first commit after the writer was killed (lease 3 s + 50 ms)",
         figure("writer-killed", "corallite", "ms"), "<=", 3050, " ms"),
    Goal(16, "first commit after the writer closed", figure("writer-closed", "corallite", "ms"), "<=", 5,
         " ms"),
]
