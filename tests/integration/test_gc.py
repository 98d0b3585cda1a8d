"""What is dropped leaves the disks; what can be undone stays."""

import json
import os
import random
import signal
import time

from lib.cluster import BIN, KEPT, NODES, PAGESERVER, SLOWER, check, run, until
from lib.registry import test


def corallite(cluster, *args, ok=True, timeout=60):
    done = run([os.path.join(BIN, "corallite"), *args], "", timeout, cluster.env())
    if ok:
        check(done.returncode == 0, f"corallite {' '.join(args)}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done


def logs(cluster, node):
    """The timelines whose files a safekeeper has."""
    return set(os.listdir(os.path.join(cluster.data(node), "timelines")))


@test("a purged database has no file left on any safekeeper when the command ends; one that was away, or was killed "
      "before it removed them, does so when it is back; a branch that undoes a restore stays, also in the registry", 60)
def files_of_the_dropped(t):
    with t.cluster() as c:
        fill = "CREATE TABLE t(x); INSERT INTO t SELECT randomblob(1000) FROM generate_series(1, 300);"
        fill = fill.replace("FROM generate_series(1, 300)",
                            "FROM (WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 300) "
                            "SELECT x FROM i)")
        for db in ("kept", "one", "two"):
            c.shell(fill, db=db)
        c.shell("DELETE FROM t", db="kept")
        corallite(c, "branch", "create", "kept/b")
        c.shell("INSERT INTO t VALUES (1)", db="kept/b")
        corallite(c, "restore", "kept", "--to", "kept/b", "--keep-as", "undo", "--yes")
        before = logs(c, 1)
        check(len(before) == 5, f"{len(before)} timelines instead of main, b, the restored, one and two")

        corallite(c, "db", "drop", "one", "--purge", "--yes")
        for node in NODES:
            until(lambda: len(logs(c, node)) == 4, 5, f"safekeeper {node} removes the files of 'one'")

        c.kill9(3)
        away = logs(c, 3)
        corallite(c, "db", "drop", "two", "--yes")
        for node in (1, 2):
            until(lambda: len(logs(c, node)) == 3, 10, f"safekeeper {node} removes the files of 'two'")
        check(logs(c, 3) == away, "a safekeeper that is not there changed its files")
        c.start(3)
        until(lambda: len(logs(c, 3)) == 3, 10, "the safekeeper that was away removes the files of 'two'")

        # A crash between the tombstone and the removal: the directory is there again at the start.
        gone = next(iter(away - logs(c, 3)))
        c.kill9(3)
        os.makedirs(os.path.join(c.data(3), "timelines", gone, "log"))
        c.start(3)
        check(gone not in logs(c, 3), "the start did not remove what a crash had left")

        check(c.shell("SELECT count(*) FROM t", db="kept/undo").stdout.strip() == "0", "what undoes the restore is lost")
        check(c.shell("SELECT count(*) FROM t", db="kept").stdout.strip() == "1", "the restored branch is lost")
        c.kill9_everything()
        c.start_everything()
        check(c.shell("SELECT count(*) FROM t", db="kept/undo").stdout.strip() == "0", "lost with a restart")
        for node in NODES:
            check(len(logs(c, node)) == 3, f"safekeeper {node} has {len(logs(c, node))} timelines after a restart")
        gone = c.shell("SELECT 1 FROM t", db="one", ok=False)
        check("no such table" in gone.stderr, f"a purged name is free: {gone.stderr}")


@test("a retention is told, refused when shorter than two minutes, and inherited by a new branch; the command says why "
      "nothing is collected in the first minute, and what would be", 30)
def the_words(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(x); INSERT INTO t VALUES (1);")
        out = corallite(c, "retention", "set", "shop", "7d").stdout
        check("shop/main keeps its history for 7 d" in out, out)
        corallite(c, "branch", "create", "shop/b")
        out = corallite(c, "retention", "show", "shop/b").stdout
        check("7 d" in out and "its begin" in out and "main" not in out, out)
        out = corallite(c, "retention", "set", "shop", "forever").stdout
        check("shop/main keeps its history for ever" in out, out)
        done = corallite(c, "retention", "set", "shop", "60s", ok=False)
        check(done.returncode != 0 and "at least 120 s" in done.stderr, done.stderr)
        done = corallite(c, "gc", "shop", ok=False)
        check(done.returncode == 1 and "was started a moment ago" in done.stderr, done.stderr)
        out = corallite(c, "gc", "--dry-run").stdout
        check("would collect 0 versions" in out, out)
        done = corallite(c, "gc", "--before", "-1d", "--yes", ok=False)
        check(done.returncode != 0 and "say of which database" in done.stderr, done.stderr)
        check(c.metrics(PAGESERVER)["corallite_pageserver_gc_runs_total"] == 0, "a dry run counts as none")


def anonymous_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))


def catches_up(c, t, writer, rows, lsn, how):
    """From here on the log is there: it is taken in, and an old moment is served meanwhile. Bounded memory."""
    reads, behind, peak = 0, 0, 0
    began = time.monotonic()
    while time.monotonic() - began < 60 * SLOWER:
        at = c.connect(at=f"lsn:{lsn}", timeout=20)
        check(at.execute("SELECT count(*) FROM t").fetchone() == (1,), "the old moment has other content")
        at.close()
        reads += 1
        peak = max(peak, anonymous_kib(c.pid(PAGESERVER)))
        here = json.loads(corallite(c, "status", "shop", "--json").stdout)["timelines"][0]["lag_bytes"]
        behind = max(behind, here)
        if here == 0:
            break
    check(here == 0, f"{how}: still {here} bytes behind after 60 s")
    fresh = c.connect(timeout=20)
    check(fresh.execute("SELECT count(*) FROM t").fetchone() == (rows,), f"{how}: rows are missing")
    fresh.close()
    check(writer.execute("SELECT count(*) FROM t").fetchone() == (rows,), f"{how}: the writer misses rows")
    check(peak < 100 * 1024 * KEPT, f"{how}: {peak} KiB of memory")
    t.note(f"{how}: up to {behind} bytes behind, caught up in {time.monotonic() - began:.1f} s beside {reads} reads of an "
           f"old moment; {peak / 1024:.0f} MiB of memory")


@test("a pageserver that is stopped, and one that is gone, holds no commit up; back again it takes the log in with "
      "bounded memory and serves old moments meanwhile; the lag is told", 120)
def pageserver_away(t):
    with t.cluster() as c:
        writer = c.connect(timeout=20)
        writer.execute("CREATE TABLE t(x)")
        writer.execute("INSERT INTO t VALUES (0)")
        lsn = json.loads(corallite(c, "log", "shop", "-n", "1", "--json").stdout)[0]["lsn"]
        until(lambda: json.loads(corallite(c, "status", "shop", "--json").stdout)["timelines"][0]["lag_bytes"] == 0,
              20, "no lag before it begins")
        rows = 1
        for how in ("stopped", "gone"):
            if how == "stopped":
                os.kill(c.pid(PAGESERVER), signal.SIGSTOP)
            else:
                c.kill9(PAGESERVER)
            began = time.monotonic()
            for _ in range(20):
                writer.execute("INSERT INTO t VALUES (randomblob(2000000))")
                rows += 1
            took = time.monotonic() - began
            check(took < 60 * SLOWER, f"{how}: 40 MB took {took:.0f} s")
            if how == "stopped":
                os.kill(c.pid(PAGESERVER), signal.SIGCONT)
            else:
                c.start(PAGESERVER)
            catches_up(c, t, writer, rows, lsn, how)
        writer.close()


@test("a pageserver is gone for long (5 s; --slow: an hour) while a program commits 20 to 30 times a second: no commit waits "
      "for it; back again it is served as above", 4500)
def pageserver_away_for_long(t):
    seconds = 3600 if t.slow() else 5
    with t.cluster() as c:
        writer = c.connect(timeout=20)
        writer.execute("CREATE TABLE t(x)")
        writer.execute("INSERT INTO t VALUES (0)")
        lsn = json.loads(corallite(c, "log", "shop", "-n", "1", "--json").stdout)[0]["lsn"]
        c.kill9(PAGESERVER)
        rows, longest, end = 1, 0.0, time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            writer.execute("INSERT INTO t VALUES (randomblob(?))", (random.randrange(1, 20000),))
            longest = max(longest, time.monotonic() - began)
            rows += 1
            time.sleep(0.03)
        check(longest < 2 * SLOWER, f"a commit took {longest:.1f} s")
        t.note(f"{seconds} s: {rows - 1} commits, the longest {longest * 1000:.0f} ms")
        c.start(PAGESERVER)
        catches_up(c, t, writer, rows, lsn, "gone")
        writer.close()
