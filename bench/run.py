#!/usr/bin/python3
"""run.py - every workload on every system, side by side, and one table.

    bench/run.py [--full | --smoke] [--only ROW|NAME]... [--without SYSTEM]...
                 [--rounds 3] [--dir DIR] [--cpus 0,1] [--out DIR]

Rounds are interleaved: round 1 runs each workload on each of its systems, then round 2 again. Figures
are medians over rounds, ratios are medians of the ratios within a round. bench/README.md says how to
read the result. --smoke: sizes and times so small that only the checks of results mean something.
"""

import argparse
import importlib.util
import os
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

from lib.place import Failure, Missing, Place, machine  # noqa: E402

SYSTEM_ORDER = ("floor", "local", "corallite", "postgres", "dqlite", "etcd")


def arguments():
    p = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].strip(), allow_abbrev=False)
    size = p.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_true")
    size.add_argument("--smoke", action="store_true")
    p.add_argument("--only", action="append", default=[])
    p.add_argument("--without", action="append", default=[], metavar="SYSTEM")
    p.add_argument("--rounds", type=int)
    p.add_argument("--dir", default=os.environ.get("TMPDIR", "/var/tmp"))
    p.add_argument("--cpus")
    p.add_argument("--out")
    given = p.parse_args()
    allowed = sorted(os.sched_getaffinity(0))
    given.cpus = {int(c) for c in given.cpus.split(",")} if given.cpus else set(allowed[:2])
    if not given.cpus <= set(allowed):
        p.error(f"--cpus {sorted(given.cpus)}: this process may use {allowed}")
    given.rounds = given.rounds or (1 if given.smoke else 3)
    return given


def load_cluster(binaries):
    """tests/integration/lib/cluster.py, with the daemons of this build."""
    os.environ["B"] = binaries
    spec = importlib.util.spec_from_file_location(
        "lib_cluster", os.path.join(ROOT, "tests", "integration", "lib", "cluster.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["lib_cluster"] = module
    spec.loader.exec_module(module)


class Progress:
    """One line that is written over on a terminal; elsewhere a line for every tenth of the way."""

    def __init__(self, total):
        self.total, self.done, self.began = total, 0, time.monotonic()
        self.terminal = sys.stderr.isatty()
        self.told = -1

    def step(self, what):
        took = time.monotonic() - self.began
        left = took / self.done * (self.total - self.done) if self.done > 4 else None
        text = f"[{self.done}/{self.total}] {took:.0f} s" + \
            (f", about {left:.0f} s to go" if left is not None else "") + f": {what}"
        if self.terminal:
            print(f"\r\033[K{text[:100]}", end="", file=sys.stderr, flush=True)
        elif self.done * 10 // self.total > self.told:
            self.told = self.done * 10 // self.total
            print(text, file=sys.stderr, flush=True)
        self.done += 1

    def end(self):
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class Bench:
    """What a workload is given."""

    def __init__(self, given, place):
        self.place = place
        self.size = "full" if given.full else "smoke" if given.smoke else "usual"
        self.systems = {}
        self.absent = {}  # {system or workload: why}
        self.kept = {}  # of the workloads, from round to round

    def seconds(self, usual):
        """How long a load runs."""
        return 0.15 if self.size == "smoke" else usual

    def amount(self, smoke, usual, full=None):
        """A size, by how much of the bench is wanted."""
        return {"smoke": smoke, "usual": usual, "full": full if full is not None else usual}[self.size]

    def next(self, name):
        """1, 2, 3 ... of a name."""
        self.kept["count of", name] = self.kept.get(("count of", name), 0) + 1
        return self.kept["count of", name]

    def __getitem__(self, name):
        return self.systems[name]


def chosen(given, groups):
    """The workloads that are wanted, those that are left out though they might be run, all goals."""
    every = work = [w for g in groups for w in g.WORK if not w.full_only or given.full]
    if given.smoke and not given.only:
        work = [w for w in work if w.smoke]
    goals = [x for g in groups for x in g.GOALS if not x.full_only or given.full]
    if given.only:
        names = {w.name for w in work} | {str(w.row) for w in work}
        for name in given.only:
            if name not in names:
                sys.exit(f"run.py: --only {name}: there is no such row or workload; there are: " +
                         " ".join(sorted(names)))
        work = [w for w in work if w.name in given.only or str(w.row) in given.only]
    return work, [w for w in every if w not in work], goals


def begin(bench, given, work, classes):
    """Starts what the workloads need; what is not there is named."""
    needed = {name for w in work for name in w.systems}
    for name in SYSTEM_ORDER:
        if name not in needed:
            continue
        why = "--without was given" if name in given.without else classes[name].missing(bench.place)
        if why:
            bench.absent[name] = why
            print(f"run.py: {name} is left out: {why}", file=sys.stderr)
            continue
        system = classes[name](bench.place)
        system.start()
        bench.systems[name] = system


def measure(bench, given, work, results):
    todo = [(r, w, s) for r in range(1, given.rounds + 1) for w in work if r <= (w.rounds or r)
            for s in w.systems if s in bench.systems]
    progress = Progress(len(todo))
    prepared = set()
    for number, w, name in todo:
        progress.step(f"round {number}, {w.name} on {name}")
        try:
            if w.prepare and w.name not in prepared:
                prepared.add(w.name)
                w.prepare(bench)
            results.add(w.name, name, number, w.run(bench, bench.systems[name]))
        except Missing as e:
            bench.absent[w.name] = str(e)
        except Exception as e:  # noqa: B902 - the other workloads are wanted all the same
            results.failures.append((w.name, name, number, f"{type(e).__name__}: {e}"))
    progress.end()
    return time.monotonic() - progress.began


def main():
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    build = os.path.join(ROOT, os.environ.get("B", "build"))
    out = given.out or os.path.join(build, "bench")
    try:
        place = Place(given.dir, given.cpus, build, 0.02 if given.smoke else 0.3)
    except Failure as e:
        sys.exit(f"run.py: {e}")
    load_cluster(place.bin)
    import lib_cluster
    import peers
    import work as groups
    from lib import chart, table
    from lib.goals import Results
    bench, results = Bench(given, place), Results()
    work, left_out, goals = chosen(given, groups.GROUPS)
    here = machine(given.cpus, place.dir)
    try:
        begin(bench, given, work, peers.ALL)
        took = measure(bench, given, work, results)
        for system in bench.systems.values():
            system.stop()
    except Failure as e:
        sys.exit(f"run.py: {e}")
    except KeyboardInterrupt:
        sys.exit("run.py: interrupted; nothing was written")
    finally:
        lib_cluster.kill_all()
        place.close()
    report = table.Report(here, bench.size, given, work, left_out, goals, results, bench.absent,
                          {n: c.title for n, c in peers.ALL.items()}, took)
    os.makedirs(out, exist_ok=True)
    for name, text in (("bench.txt", report.text()), ("bench.json", report.json()),
                       ("bench.svg", chart.svg(report, groups.CURVES))):
        with open(os.path.join(out, name), "w") as f:
            f.write(text)
    print(report.text())
    print(f"written to {os.path.relpath(out)}: bench.txt bench.json bench.svg")
    if bench.size == "smoke":
        return smoke(results, report)
    return 1 if results.failures else 0


def smoke(results, report):
    """The closing line that tools/test counts: a measurement with a right result is a test."""
    failed = len(results.failures)
    passed = sum(len(r) for r in results.rounds.values())
    # A driver that measures nothing, or a goal that looks at a figure that nobody produces, is wrong.
    for goal in report.blind():
        print(f"FAIL goal of row {goal.row}, {goal.what}: no workload gives its figure")
        failed += 1
    print(f"{passed} passed, {failed} failed, {len(report.absent)} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
