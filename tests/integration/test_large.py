"""Transactions that are larger than memory: in fragments to every place, in bounded memory, and whole
or not at all whoever dies in between."""

import os
import time

from lib.cluster import KEPT, NODES, PAGESERVER, check, line, tell, until
from lib.registry import test

SIZE_MIB = 64
COMPUTE_MIB = 24 * KEPT  # beyond what the process had before; the transaction is 64 MiB
DAEMON_MIB = 48 * KEPT
KILL_MIB = 24  # of the tests that kill somebody


def peak_mib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(text.split()[1]) for text in f if text.startswith("VmHWM:")) / 1024


def rows(c, **more):
    """Rows of table big, their bytes, and whether the database is sound, as another process sees it."""
    out = c.shell("SELECT count(*), coalesce(sum(length(b)), 0) FROM big; PRAGMA integrity_check;",
                  timeout=120, **more).stdout.split()
    check(out[1] == "ok", f"integrity_check: {out[1]}")
    n, size = (int(x) for x in out[0].split("|"))
    check(size == n * 65000, f"{n} rows have {size} bytes")
    return n


def begin(c, megabytes=KILL_MIB):
    """A writer that has written its transaction and waits to commit: the process, its peak before."""
    w = c.worker("large", megabytes)
    said = line(w, 30).split()
    check(said[0] == "open", said)
    return w, int(said[1]) / 1024


def start_commit(w):
    tell(w, "go")
    check(line(w, 120).split()[0] == "written", "the transaction could not be written")


def outcome(w, seconds=120):
    said = line(w, seconds)
    check(said.startswith("ok "), f"COMMIT: {said}")
    return said.split()


@test(f"one transaction of {SIZE_MIB} MB: the writer's memory grows by at most {COMPUTE_MIB} MiB, each "
      f"daemon's by at most {DAEMON_MIB}; every row is there, in the order of commits", 120)
def transaction_larger_than_memory(t):
    with t.cluster() as c:
        w, before = begin(c, SIZE_MIB)
        tell(w, "go")
        idle = {node: peak_mib(c.pid(node)) for node in NODES + (PAGESERVER,)}
        check(line(w, 120).split()[0] == "written", "the transaction could not be written")
        # A reader goes on meanwhile, and sees all of it only afterwards.
        check(rows(c) == 0, "a reader sees a transaction that was not committed")
        said = outcome(w)
        grew = int(said[1]) / 1024 - before
        t.note(f"COMMIT took {said[2]} s, the writer grew by {grew:.1f} MiB")
        check(rows(c) == SIZE_MIB * 16, "rows are missing")
        check(grew <= COMPUTE_MIB, f"the writer grew by {grew:.1f} MiB")
        for node, had in idle.items():
            more = peak_mib(c.pid(node)) - had
            t.note(f"{node} grew by {more:.1f} MiB")
            # What LMDB maps counts as resident; it is the kernel's to take back.
            mapped = mapped_mib(c.pid(node)) if node == PAGESERVER else 0
            check(more - mapped <= DAEMON_MIB, f"{node} grew by {more:.1f} MiB, {mapped:.1f} mapped")
        w.kill()


def wait_for_bytes(c, node, more, seconds=60):
    """Until a safekeeper has taken in so many bytes."""
    until(lambda: taken(c, node) >= more, seconds, f"safekeeper {node} has {more} bytes")


def taken(c, node):
    return c.metrics(node)["corallite_safekeeper_log_bytes_total"]


MIB = 1 << 20
LARGE_BYTES = (KILL_MIB - 2) * MIB  # the record has more


@test("the writer killed -9 between the fragments of its transaction: nothing of it is there, for "
      "whoever writes next and after every process was restarted", 120)
def writer_killed_between_fragments(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE kept(a); INSERT INTO kept VALUES(1);")
        w, _ = begin(c)
        start_commit(w)
        wait_for_bytes(c, 1, 5 * MIB)
        w.kill()
        w.wait(10)
        had = taken(c, 1) / MIB
        check(had < KILL_MIB, "the transaction was whole before the writer died")
        t.note(f"killed when safekeeper 1 had {had:.0f} of {KILL_MIB} MiB")
        c.shell("INSERT INTO kept VALUES(2);", timeout=60)
        check(rows(c) == 0, "half of a transaction is there")
        c.kill9_everything()
        c.start_everything()
        check(rows(c) == 0, "after a restart it is there")
        check(c.shell("SELECT count(*) FROM kept;").stdout.strip() == "2", "small commits are gone")


@test("a safekeeper killed -9 between fragments, another down from the start: COMMIT goes on, the one "
      "that returns is sent what it lacks, and any two of them have every row", 180)
def safekeepers_killed_between_fragments(t):
    with t.cluster() as c:
        w, _ = begin(c)
        c.kill9(3)
        start_commit(w)
        wait_for_bytes(c, 2, 5 * MIB)
        c.kill9(2)
        had = peak_mib(c.pid(1))
        time.sleep(0.3)
        check(w.lines.empty(), "COMMIT returned without a majority")
        c.start(2)
        t.note(f"COMMIT took {outcome(w)[2]} s")
        w.kill()
        # The third gets all of it from the others, through whoever leads next: the new writer never
        # had that record in its memory.
        c.start(3)
        writer = c.worker("commit_on_demand_in", "big")
        check(line(writer) == "open", "open")
        before = peak_mib(writer.pid)
        tell(writer, "1")
        check(line(writer, 60) == "ok", "a small commit")
        until(lambda: taken(c, 3) >= LARGE_BYTES, 90, "safekeeper 3 has all of it")
        grew = peak_mib(writer.pid) - before
        t.note(f"the writer that passed it on grew by {grew:.1f} MiB, safekeeper 1 to "
               f"{peak_mib(c.pid(1)):.1f} from {had:.1f}")
        check(grew <= COMPUTE_MIB, f"the writer that passed it on grew by {grew:.1f} MiB")
        writer.stdin.close()
        writer.wait(30)
        for node in NODES:
            c.kill9(node)
            check(rows(c) == KILL_MIB * 16 + 1, f"without safekeeper {node} rows are missing")
            c.start(node)


@test("the pageserver killed -9 while it takes in a large transaction: it takes it in again, and shows "
      "all of it", 120)
def pageserver_killed_between_pieces(t):
    with t.cluster() as c:
        w, _ = begin(c)
        c.kill9(PAGESERVER)
        start_commit(w)
        outcome(w)
        w.kill()
        killed = 0
        for _ in range(3):
            c.start(PAGESERVER)
            store = os.path.join(c.data(PAGESERVER), "store", "data.mdb")
            size = os.path.getsize(store)
            until(lambda: os.path.getsize(store) > size + 2 * MIB or ingested(c) > 0, 60,
                  "the store grows")
            if ingested(c) > 0:
                break
            c.kill9(PAGESERVER)
            killed += 1
        else:
            c.start(PAGESERVER)
        t.note(f"killed {killed} times within the record")
        check(killed > 0, "it was never killed within the record")
        check(rows(c) == KILL_MIB * 16, "rows are missing")


def ingested(c):
    """Bytes of whole large records that the pageserver has taken in since it was started."""
    try:
        return c.metrics()["corallite_pageserver_ingest_bytes_total"] // LARGE_BYTES
    except OSError:
        return 0


@test("another timeline is not starved: small commits of another database go on while a large "
      "transaction is on its way", 120)
def small_commits_beside_a_large_one(t):
    with t.cluster() as c:
        db = c.connect("other")
        db.execute("CREATE TABLE t(a)")
        w, _ = begin(c, SIZE_MIB)
        start_commit(w)
        wait_for_bytes(c, 1, 4 * MIB)
        n, longest = 0, 0.0
        while w.lines.empty():
            began = time.monotonic()
            db.execute("INSERT INTO t VALUES(1)")
            longest = max(longest, time.monotonic() - began)
            n += 1
        outcome(w)
        t.note(f"{n} commits meanwhile, the longest {longest * 1000:.0f} ms")
        check(n > 0, "no commit of the other database while the large one was on its way")
        check(db.execute("SELECT count(*) FROM t").fetchone()[0] == n, "rows are missing")


def mapped_mib(pid):
    """Resident pages of files."""
    with open(f"/proc/{pid}/status") as f:
        return next(int(text.split()[1]) for text in f if text.startswith("RssFile:")) / 1024
