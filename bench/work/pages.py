"""Rows 10 to 12: the pageserver by itself. Row 15: memory."""

import os
import signal
import time

from lib.goals import Goal, Workload, figure, ratio, worst
from lib.place import same, until

from .bulk import ingested, settle, used_bytes

OURS = ("corallite",)


def timeline(system, name):
    return system.json("branch", "list", name)[0]


def table(bench, system):
    """A table of 40 MB; its timeline and its newest LSN in a file."""
    if bench.next("pages") == 1:
        system.rows("fill", db="pages", rows=bench.amount(6000, 300000), seconds=0, timeout=300)
        settle(system)
    branch = timeline(system, "pages")
    path = os.path.join(bench.place.dir, "newest.lsn")
    with open(path, "w") as f:
        f.write(branch["head_lsn"] + "\n")
    os.chmod(path, 0o644)
    return branch, path


def getpages(bench, system, branch, lsns, **options):
    args = [bench.place.program("getpages"), "--server", system.cluster.server(), "--timeline",
            branch["timeline"], "--lsns", lsns, "--pages", branch["pages"], "--seconds",
            bench.seconds(1.5)]
    for name, value in options.items():
        args += ["--" + name, value]
    found = bench.place.figures(args, 60)
    same("pages that came", found["all_sum"], found["all_n"] * options.get("batch", 1))
    found["pages_per_s"] = found["per_s"] * options.get("batch", 1)
    return found


def pages(threads, batch):
    return lambda bench, system: getpages(bench, system, *table(bench, system), threads=threads,
                                          batch=batch)


def loopback(bench, system):
    return bench.place.figures([bench.place.program("floor"), "--dir", bench.place.dir, "--sync", "0",
                                "--receivers", "1", "--bytes", "64", "--seconds", bench.seconds(0.7)], 30)


def versions(past):
    """Reads of a table of 100 pages each of which has 1,000 versions."""
    def run(bench, system):
        rows, commits = bench.amount(50, 2500), bench.amount(20, 1000)
        if bench.next("history") == 1:
            system.rows("fill", db="history", rows=rows, seconds=0)
            path = os.path.join(bench.place.dir, "versions.sql")
            with open(path, "w") as f:
                f.write("PRAGMA synchronous=normal;\n" +
                        f"UPDATE t SET k = k + 1 WHERE id % {bench.amount(5, 25)} = 0;\n" * commits)
            os.chmod(path, 0o644)
            system.command("sql", "history", f".read {path}", seconds=300)
            settle(system)
            log = system.json("log", "history", "-n", str(commits))
            bench.kept["history"] = [r["lsn"] for r in log]
        lsns = bench.kept["history"]
        same("commits in the log", len(lsns), commits)
        path = os.path.join(bench.place.dir, "history.lsn")
        with open(path, "w") as f:
            f.write("\n".join(lsns[::max(1, commits // 100)] if past else lsns[:1]) + "\n")
        os.chmod(path, 0o644)
        return getpages(bench, system, timeline(system, "history"), path, threads=1)
    return run


def ingest(pages_a_record):
    """The pageserver is stopped while records are made, and then goes on: page images a second."""
    def run(bench, system):
        name = f"ingest{pages_a_record}x{bench.next('ingest')}"
        most = bench.amount(20, 24000 // pages_a_record)
        system.rows("fill", db=name, rows=1, seconds=0)
        settle(system)
        before, pid = ingested(system), system.cluster.pid("pageserver")
        # The writer has what it needs of the pageserver once it has committed.
        writer = system.start_rows("blob", db=name, bytes=4000 * pages_a_record - 500, most=most, warm=0.5,
                                   seconds=60, threads=1)
        until(lambda: ingested(system) > before, 10, "the writer has begun")
        os.kill(pid, signal.SIGSTOP)
        try:
            out, err = writer.communicate(timeout=120)
        finally:
            os.kill(pid, signal.SIGCONT)
        began = time.monotonic()
        same(f"status of the writer ({err.strip()[-200:]})", writer.returncode, 0)
        done = ingested(system)
        settle(system, 120)
        took = time.monotonic() - began
        records = ingested(system) - done
        system.drop(name)
        return {"mb_per_s": records * pages_a_record * 4096 / 1e6 / took, "records": records,
                "took_s": took, "per_s": records / took}
    return run


def lag(bench, system):
    """How far the pageserver is behind when 16 connections stop."""
    system.insert(16, bench.seconds(2.0))
    began = time.monotonic()
    settle(system)
    return {"lag_ms": (time.monotonic() - began) * 1000}


def memory(bench, system):
    """At the end of a round: of the daemons in use, and of new ones that have nothing to do."""
    from peers.corallite import Corallite
    idle = Corallite(bench.place)
    idle.start("idle")
    time.sleep(bench.seconds(1.0))
    resting = max(idle.resident_mib(n) for n in (1, 2, 3))
    idle.stop()
    system.insert(16, bench.seconds(2.0))
    return {"idle_mib": resting, "loaded_mib": max(system.resident_mib(n) for n in (1, 2, 3)),
            "pageserver_mib": system.resident_mib("pageserver"),
            "page_store_mib": system.cluster.metrics()["corallite_pageserver_lmdb_used_bytes"] / 2**20}


def million(bench, system):
    """A pageserver that holds a million versions, in a cluster of its own: its memory, and what they take on disk."""
    fresh = type(system)(bench.place)
    fresh.start("million")
    try:
        rows, most = 100000, 1000000
        fresh.rows("fill", db="million", rows=rows, seconds=0)
        before = used_bytes(fresh)
        found = fresh.rows("update", db="million", rows=rows, threads=8, most=most // 8, warm=0, seconds=900,
                           synchronous="normal", timeout=1000)
        larger = used_bytes(fresh) - before
        return {"pageserver_mib": fresh.resident_mib("pageserver"), "versions": found["all_n"],
                "bytes_a_version": larger / found["all_n"]}
    finally:
        fresh.stop()


WORK = [
    Workload("loopback", 10, "a loopback round trip of 64 bytes", ("floor",), loopback, "round trips/s"),
    Workload("getpages-1", 10, "GET_PAGES, one page, 1 client", OURS, pages(1, 1), "requests/s"),
    Workload("getpages-8", 10, "GET_PAGES, one page, 8 clients", OURS, pages(8, 1), "requests/s"),
    Workload("getpages-8-64", 10, "GET_PAGES, 64 pages, 8 clients", OURS, pages(8, 64), "requests/s", smoke=True),
    Workload("newest", 11, "GET_PAGES, 1 client, 1,000 versions a page, newest LSN", OURS, versions(False),
             "requests/s"),
    Workload("past", 11, "GET_PAGES, 1 client, 1,000 versions a page, 100 past LSNs", OURS, versions(True),
             "requests/s", smoke=True),
    Workload("ingest-1", 12, "ingest of records of 1 page", OURS, ingest(1), "records/s", rounds=1),
    Workload("ingest-100", 12, "ingest of records of 100 pages", OURS, ingest(100), "records/s", rounds=1, smoke=True),
    Workload("lag", 12, "the pageserver behind 16 connections, when they stop", OURS, lag),
    Workload("memory", 15, "memory of the daemons, mapped files left out", OURS, memory, rounds=1),
    Workload("million", 15, "a pageserver with 1 million versions, mapped files left out", OURS, million, rounds=1,
             full_only=True),
]

GOALS = [
    Goal(10, "single pages a second, 8 clients", figure("getpages-8", "corallite", "pages_per_s"),
         ">=", 60000, "/s"),
    Goal(10, "pages a second in batches of 64", figure("getpages-8-64", "corallite", "pages_per_s"),
         ">=", 300000, "/s"),
    Goal(10, "p99 of a single page, 1 client, of the p50 of a loopback round trip",
         ratio(("getpages-1", "corallite", "p99_us"), ("loopback", "floor", "p50_us"), None), "<=", 3),
    Goal(11, "past LSNs, of the newest, p50", ratio(("past", "corallite"), ("newest", "corallite"), "p50_us"),
         "<=", 2),
    Goal(12, "page images of records of 1 page", figure("ingest-1", "corallite", "mb_per_s"), ">=", 400,
         " MB/s"),
    Goal(12, "page images of records of 100 pages", figure("ingest-100", "corallite", "mb_per_s"),
         ">=", 400, " MB/s"),
    Goal(12, "lag when 16 connections stop", figure("lag", "corallite", "lag_ms"), "<=", 100, " ms"),
    Goal(15, "safekeeper, idle", figure("memory", "corallite", "idle_mib"), "<=", 20, " MiB"),
    Goal(15, "safekeeper, after 16 connections at once", figure("memory", "corallite", "loaded_mib"),
         "<=", 100, " MiB"),
    Goal(15, "pageserver, after everything above it (full: and with 1 million versions)",
         worst(figure("memory", "corallite", "pageserver_mib"), figure("million", "corallite", "pageserver_mib")),
         "<=", 200, " MiB"),
]
