"""Row 6: point reads on the lease holder. Row 7: on a second compute."""

from lib.goals import Goal, Workload, best, figure, ratio
from lib.place import same

BOTH = ("local", "corallite")
INSIDE_KIB, BEYOND_KIB = 200000, 400


def fill(bench, system):
    rows = bench.amount(2000, 300000)  # 40 MB: within the 64 MiB that a process caches
    if bench.next("reads" + system.name) == 1:
        system.rows("fill", db="reads", rows=rows, seconds=0, timeout=300)
    return rows


def read(threads, cache_kib, hold=1, **parameters):
    def run(bench, system):
        rows = fill(bench, system)
        found = system.rows("read", db="reads", rows=rows, threads=threads, cache_kib=cache_kib, hold=hold,
                            seconds=bench.seconds(1.5), parameters=parameters)
        same("rows found", found["all_sum"], found["all_n"])  # k is 0 once in 2^40
        return found
    return run


def follow(commits):
    def run(bench, system):
        name = f"follow{bench.next('follow' + system.name)}"
        return system.rows("follow", db=name, program="second", commits=commits,
                           times=bench.amount(50, 1500))
    return run


def round_trip(bench, system):
    return system.insert(1, bench.seconds(1.0), sync=False)


WORK = [
    Workload("read-1", 6, "point read, warm, within SQLite's cache, 1 thread", BOTH, read(1, INSIDE_KIB),
             "reads/s", smoke=True),
    Workload("read-2", 6, "point read, warm, within SQLite's cache, 2 threads", BOTH, read(2, INSIDE_KIB),
             "reads/s"),
    Workload("read-1-beyond", 6, "point read, warm, beyond SQLite's cache, 1 thread", BOTH,
             read(1, BEYOND_KIB), "reads/s"),
    Workload("read-2-beyond", 6, "point read, warm, beyond SQLite's cache, 2 threads", BOTH,
             read(2, BEYOND_KIB), "reads/s"),
    Workload("quorum", 7, "a round trip to two of three processes, nothing synced", ("floor",), round_trip,
             "rounds/s", smoke=True),
    Workload("follow", 7, "second process, strict, nobody commits", BOTH, follow(0), "transactions/s"),
    Workload("follow-commits", 7, "second process, strict, a commit before each read", BOTH, follow(1),
             "transactions/s", smoke=True),
    Workload("stale", 7, "second process, staleness=1000, 1 thread", BOTH,
             read(1, INSIDE_KIB, hold=0, staleness=1000), "reads/s"),
]


def over_local(workload):
    """How many quorum round trips a read takes longer than on a file."""
    def value(results):
        ours, theirs, trip = (results.of(workload, "corallite", "p50_us"),
                              results.of(workload, "local", "p50_us"),
                              results.of("quorum", "floor", "p50_us"))
        found = sorted((ours[n] - theirs[n]) / trip[n] for n in ours if n in theirs and trip.get(n))
        return found[len(found) // 2] if found else None
    return value


def least(*values):
    found = best(*((lambda results, v=v: None if v(results) is None else -v(results)) for v in values))
    return lambda results: None if found(results) is None else -found(results)


GOALS = [
    Goal(6, "reads within the cache, of local's (the lesser of 1 and 2 threads)",
         least(*(ratio((w, "corallite"), (w, "local"), "per_s") for w in ("read-1", "read-2"))), ">=", 0.9),
    Goal(6, "reads beyond the cache, of local's (the lesser of 1 and 2 threads)",
         least(*(ratio((w, "corallite"), (w, "local"), "per_s")
                 for w in ("read-1-beyond", "read-2-beyond"))), ">=", 0.7),
    Goal(7, "strict, nobody committed: round trips over local, p50", over_local("follow"), "<=", 1, ""),
    Goal(7, "strict, somebody committed: round trips over local, p50", over_local("follow-commits"),
         "<=", 2, ""),
    Goal(7, "with staleness, of local's", ratio(("stale", "corallite"), ("stale", "local"), "per_s"),
         ">=", 0.7),
]
