"""Workloads, and what each row of the table is held against."""

import statistics
from dataclasses import dataclass, field
from typing import Callable, Optional


@dataclass
class Workload:
    """One thing to do. run(bench, system) does it once and answers {figure: number}; it has checked
    the result by then, or raises Failure."""
    name: str
    row: int
    title: str
    systems: tuple
    run: Callable
    unit: str = "commits/s"
    rounds: Optional[int] = None      # fewer than the others, for what takes long
    full_only: bool = False
    smoke: bool = False                # is in the smoke run
    prepare: Optional[Callable] = None  # once, before the first round: prepare(bench)


@dataclass
class Goal:
    """A line of issue "Fast": value(results) against a bound. `sense` is "<=" or ">="."""
    row: int
    what: str
    value: Callable
    sense: str
    bound: float
    unit: str = "x"
    full_only: bool = False

    def met(self, value):
        return value <= self.bound if self.sense == "<=" else value >= self.bound


@dataclass
class Results:
    """{(workload, system): [{figure: number}, one a round]}"""
    rounds: dict = field(default_factory=dict)
    failures: list = field(default_factory=list)  # (workload, system, round, sentence)

    def add(self, workload, system, number, figures):
        self.rounds.setdefault((workload, system), {})[number] = figures

    def of(self, workload, system, figure):
        """{round: number}"""
        return {n: f[figure] for n, f in self.rounds.get((workload, system), {}).items()
                if f.get(figure) is not None}

    def median(self, workload, system, figure):
        found = self.of(workload, system, figure).values()
        return statistics.median(found) if found else None

    def ratio(self, a, b, figure, default=None):
        """The median of a/b over the rounds that have both; a, b: (workload, system[, figure])."""
        left = self.of(a[0], a[1], a[2] if len(a) > 2 else figure)
        right = self.of(b[0], b[1], b[2] if len(b) > 2 else figure)
        both = [left[n] / right[n] for n in left if right.get(n)]
        return statistics.median(both) if both else default


def ratio(a, b, figure):
    """A goal's value: the median of a/b."""
    return lambda results: results.ratio(a, b, figure)


def figure(workload, system, name):
    """A goal's value: the median of one figure."""
    return lambda results: results.median(workload, system, name)


def worst(*values):
    """A goal's value: the largest of several."""
    def value(results):
        found = [v for v in (f(results) for f in values) if v is not None]
        return max(found) if found else None
    return value


best = worst  # of rates the largest is the best
