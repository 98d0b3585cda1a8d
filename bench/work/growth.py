"""Row 17: does it cost more where there is more? Commits (row 2), opening (row 8) and scanning (row 9) where the database is
large, where it has many branches, and where its history is long, each against a database of 10 MB that has none of that."""

from dataclasses import dataclass
from typing import Callable

from lib.goals import Goal, Workload, ratio

from .bulk import settle
from .cold import ROW_BYTES, fill, opening, query
from .commits import checked

OURS = ("corallite",)


@dataclass
class Point:
    """make(bench, system) answers a branch to work on and the rows that it has had from the beginning."""
    name: str
    short: str
    title: str
    make: Callable
    full_only: bool = False


def sized(database):
    """A branch of one of the databases of rows 8 and 9, which stay as they are."""
    def make(bench, system):
        rows, _ = fill(bench, system, database)
        if bench.next("grown of " + database) == 1:
            system.command("branch", "create", f"{database}/grown")
        return f"{database}/grown", rows
    return make


def branches(bench, system):
    """One of many branches, another one each time."""
    rows, many = bench.amount(100, 10000000 // ROW_BYTES), bench.amount(3, 100, 10000)
    if bench.next("branches") == 1:
        system.rows("fill", db="many", rows=rows, seconds=0)
        settle(system, 600)
        for i in range(many):
            system.command("branch", "create", f"many/b{i}")
    return f"many/b{bench.next('many') % many}", rows


def history(bench, system):
    """After many commits of one row."""
    commits = bench.amount(96, 30000, 1000000)
    if bench.next("long") == 1:
        system.rows("insert", db="long", threads=8, most=commits // 8, warm=0, seconds=3600, timeout=3600)
        settle(system, 600)
    return "long", commits // 8 * 8


FIRST = Point("small", "10 MB", "10 MB", sized("cold-small"))
OTHERS = [
    Point("large", "1 GB", "1 GB", sized("cold-large")),
    Point("huge", "10 GB", "10 GB", sized("cold-huge"), full_only=True),
    Point("many", "many branches", "100 branches (full: 10,000)", branches),
    Point("long", "long history", "30,000 commits before (full: 1 million)", history),
]


def commits(point):
    def run(bench, system):
        branch, rows = point.make(bench, system)
        return checked(system, lambda: system.rows("insert", db=branch, threads=8, seconds=bench.seconds(1.0)),
                       db=branch, after=rows)
    return run


def opened(point):
    def run(bench, system):
        return opening(bench, system, *point.make(bench, system))
    return run


def scanned(point):
    def run(bench, system):
        branch, rows = point.make(bench, system)
        found = query(bench, system, branch, f"SELECT count(*) FROM t WHERE id <= {rows}", rows)
        found["us_a_page"] = found["ms"] * 1000 / found["pages"]
        return found
    return run


# (name, what, unit of the rate, the figure that is compared, what does it)
MEASURES = [
    ("commits", "one-row inserts, 8 connections", "commits/s", "p50_us", commits),
    ("open", "open to first row by key", "opens/s", "p50_us", opened),
    ("scan", "cold scan", "scans/s", "us_a_page", scanned),
]


def compared(point, measure, figure_name):
    return ratio((f"{point.name}-{measure}", "corallite"), (f"{FIRST.name}-{measure}", "corallite"), figure_name)


WORK = [Workload(f"{p.name}-{name}", 17, f"{what}: {p.title}", OURS, make(p), unit, full_only=p.full_only,
                 smoke=(p.name, name) == ("many", "scan"))
        for name, what, unit, _, make in MEASURES for p in (FIRST, *OTHERS)]

GOALS = [Goal(17, f"{name}{' a page' if name == 'scan' else ''}, {p.title}, of 10 MB's", compared(p, name, figure_name),
              "<=", 1.5, full_only=p.full_only)
         for name, _, _, figure_name, _ in MEASURES for p in OTHERS]

# For the chart: {measure: [(point, how it compares)]}, the first one 1 by definition.
CURVES = {name: [(p.short, compared(p, name, figure_name)) for p in (FIRST, *OTHERS)]
          for name, _, _, figure_name, _ in MEASURES}
