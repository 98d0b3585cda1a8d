"""Row 17: how cost grows with branches and with history. (With size: cold.py.)"""

from lib.goals import Goal, Workload, ratio

from .bulk import settle
from .commits import checked

OURS = ("corallite",)


def plain(bench, system):
    """The measure: one-row inserts by one connection into a database that is new."""
    name = f"growth{bench.next('growth')}"
    return checked(system, lambda: system.rows("insert", db=name, seconds=bench.seconds(1.0)), db=name)


def branches(bench, system):
    """The same on a branch among many, of one database."""
    many = bench.amount(3, 100, 10000)
    if bench.next("branches") == 1:
        system.rows("fill", db="many", rows=100, seconds=0)
        for i in range(many):
            system.command("branch", "create", f"many/b{i}")
    name = f"many/b{bench.next('many') % many}"
    return checked(system, lambda: system.rows("insert", db=name, seconds=bench.seconds(1.0)), db=name)


def history(bench, system):
    """The same after many commits."""
    commits = bench.amount(100, 30000, 1000000)
    if bench.next("long") == 1:
        system.rows("insert", db="long", threads=8, most=commits // 8, warm=0, seconds=3600, timeout=3600)
        settle(system, 600)
    return checked(system, lambda: system.rows("insert", db="long", seconds=bench.seconds(1.0)), db="long")


WORK = [
    Workload("growth", 17, "one-row insert, a new database", OURS, plain),
    Workload("branches", 17, "one-row insert, one of 100 branches (full: 10,000)", OURS, branches),
    Workload("history", 17, "one-row insert, 30,000 commits of history (full: 1 million)", OURS, history),
]

GOALS = [
    Goal(17, "p50 among many branches, of a new database's",
         ratio(("branches", "corallite"), ("growth", "corallite"), "p50_us"), "<=", 1.5),
    Goal(17, "p50 after a long history, of a new database's",
         ratio(("history", "corallite"), ("growth", "corallite"), "p50_us"), "<=", 1.5),
]
