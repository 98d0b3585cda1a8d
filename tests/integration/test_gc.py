"""What is dropped leaves the disks; what can be undone stays."""

import os

from lib.cluster import BIN, NODES, PAGESERVER, check, run, until
from lib.registry import test


def corallite(cluster, *args, ok=True, timeout=60):
    done = run([os.path.join(BIN, "corallite"), *args], "", timeout, cluster.env())
    if ok:
        check(done.returncode == 0, f"corallite {' '.join(args)}: {done.stderr.strip()[-400:]}")
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
