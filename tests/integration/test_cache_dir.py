"""cache_dir: pages that outlive the process are of use to the next one on the host, and never wrong."""

import os
import random
import shutil
import time

from lib.cluster import NODES, PAGESERVER, Skip, check, line, run, tell, until
from lib.registry import test
from test_moments import corallite

ROWS = 3000
TABLE = (f"CREATE TABLE t(id INTEGER PRIMARY KEY, v INT, pad); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
         f"WHERE i < {ROWS}) INSERT INTO t SELECT i, 0, randomblob(1000) FROM n; CREATE INDEX t_v ON t(v);")
LOOK = "PRAGMA integrity_check; SELECT sum(v), count(*), sum(length(pad)) FROM t;"


def pages_of(c, what):
    """Pages that the pageserver served meanwhile, and what came out."""
    before = c.metrics()["corallite_pageserver_pages_served_total"]
    out = what()
    return c.metrics()["corallite_pageserver_pages_served_total"] - before, out


def look(c, db="shop", **parameters):
    return c.shell(LOOK, db, **parameters).stdout.split()


@test("with cache_dir a second process reads a table without asking the pageserver for its pages; what another process changed "
      "meanwhile it reads anew; at= and branches too; and a file that is damaged anywhere is a miss", 90)
def cache_dir(t):
    r = random.Random()
    with t.cluster() as c:
        kept = {"cache_dir": os.path.join(t.dir, "pages")}
        c.shell(TABLE)
        cold, rows = pages_of(c, lambda: look(c, **kept))
        warm, again = pages_of(c, lambda: look(c, **kept))
        t.note(f"pages served: {cold:.0f} to the first process, {warm:.0f} to the second")
        check(rows == again == ["ok", f"0|{ROWS}|{ROWS * 1000}"], f"{rows}, then {again}")
        check(cold > 700 and warm < 8, f"{cold} pages, then {warm}")
        lsn = c.shell("PRAGMA corallite_lsn;").stdout.strip()
        c.shell("UPDATE t SET v = 7 WHERE id IN (5, 1500);")
        few, out = pages_of(c, lambda: look(c, **kept))
        check(out[1].startswith("14|") and 0 < few < 40, f"after a change: {out}, {few} pages")
        # A program that says nothing of it, by the environment.
        done = c.shell(LOOK, env=c.env(CORALLITE_CACHE_DIR=kept["cache_dir"]))
        check(done.stdout.split() == out, done.stdout)
        # The past: some of it is on disk still, all of it is right.
        check(look(c, at="lsn:" + lsn, **kept) == rows, "a moment of the past")
        corallite(c, "branch", "create", "shop/then", "--at", "lsn:" + lsn)
        for _ in range(2):
            check(look(c, "shop/then", **kept) == rows, "a branch")
        c.shell("UPDATE t SET v = 1 WHERE id = 9;", "shop/then", **kept)
        check(look(c, "shop/then", **kept)[1].startswith("1|"), "a branch that was written")
        check(look(c, **kept) == out, "its parent")
        corallite(c, "restore", "shop", "--to", "lsn:" + lsn, "--keep-as", "before", "--yes")
        check(look(c, **kept) == rows and look(c, "shop/before", **kept) == out, "after a restore")
        files = [os.path.join(kept["cache_dir"], n) for n in os.listdir(kept["cache_dir"])]
        check(len(files) == 3 and all(os.stat(f).st_mode & 0o777 == 0o600 for f in files), f"files: {files}")
        for round_ in range(12 if t.slow() else 4):
            for name in files:
                with open(name, "r+b") as f:
                    for _ in range(400):  # the pages lie together behind the slots
                        at = r.choice((r.randrange(100), r.randrange(4096, 600000), r.randrange(8 << 20, 14 << 20)))
                        f.seek(at)
                        f.write(r.randbytes(r.choice((1, 1, 40))))
            check(look(c, **kept) == rows and look(c, "shop/before", **kept) == out, f"damaged, round {round_}")
        warm, again = pages_of(c, lambda: look(c, **kept))
        check(again == rows and warm < 8, f"it is not made good: {warm} pages")


@test("a cluster that was made anew of a copy of its directories has other commits at the same LSNs, and cache_dir knows them apart", 90)
def cache_dir_of_a_copy(t):
    with t.cluster() as c:
        kept = {"cache_dir": os.path.join(t.dir, "pages")}
        c.shell(TABLE)

        def everything(do):
            for node in (PAGESERVER, *NODES):
                c.stop(node)
            do()
            c.start_everything()
            until(c.knows_all, 20, "the pageserver has connections to all three safekeepers")

        def copy():
            for node in (PAGESERVER, *NODES):
                shutil.copytree(c.data(node), c.data(node) + ".copy")

        def put_back():
            for node in (PAGESERVER, *NODES):
                shutil.rmtree(c.data(node))
                shutil.copytree(c.data(node) + ".copy", c.data(node))

        everything(copy)
        lsns = []
        for round_ in range(3):
            for digit in (3, 2):
                c.shell(f"UPDATE t SET v = {digit} WHERE id = 5;", **kept)
                if digit == 2:  # and the log goes on, in one of the rounds
                    c.shell("UPDATE t SET v = v + 1 WHERE id = 900;" * round_, **kept)
                lsns.append(c.shell("PRAGMA corallite_lsn;").stdout)
                found = [look(c, **kept) for _ in range(2)]
                want = digit + (round_ if digit == 2 else 0)
                check(all(f == ["ok", f"{want}|{ROWS}|{ROWS * 1000}"] for f in found), f"round {round_}, {digit}: {found}")
                everything(put_back)
        t.note(f"LSNs: {' '.join(x.strip() for x in lsns)}")


@test("processes that share the files of cache_dir beside a writer, some of them killed, see what is committed", 120)
def cache_dir_shared(t):
    r = random.Random()
    with t.cluster() as c:
        kept = os.path.join(t.dir, "pages")
        c.shell(TABLE + "CREATE TABLE u AS SELECT * FROM t;")
        workers = [c.worker("kept_pages", kept, kind) for kind in ("write", "read", "read")]
        for w in workers:
            line(w)
        end = time.monotonic() + (30 if t.slow() else 8)
        kills = 0
        while time.monotonic() < end:
            time.sleep(r.uniform(0.2, 1.0))
            n = r.randrange(3)
            workers[n].kill()
            workers[n].wait(10)
            workers[n] = c.worker("kept_pages", kept, "read" if n else "write")
            line(workers[n])
            kills += 1
        seen = []
        for w in workers:
            tell(w, "end")
            seen.append(line(w))
        t.note(f"{kills} kills; at the end {', '.join(seen)}")
        for text in seen:
            check(text.startswith("right"), text)
        check(sum(int(text.split()[2]) for text in seen[1:]) > 0, f"nothing came from the disk: {seen}")
        sums = [c.shell(LOOK + "\n.sha3sum\n", **p).stdout for p in ({"cache_dir": kept}, {})]
        check(sums[0] == sums[1] and sums[0].startswith("ok"), f"{sums}")


@test("a disk that is full switches cache_dir off with one sentence, and nothing else happens", 60)
def cache_dir_full(t):
    t.needs_root("mounting a small file system needs root")
    small = os.path.join(t.dir, "small")
    os.makedirs(small)
    done = run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", small], "", 20)
    if done.returncode:
        raise Skip("no file system can be mounted: " + done.stderr.strip()[:100])
    try:
        with t.cluster() as c:
            c.shell(TABLE)
            done = c.shell(LOOK, cache_dir=small)
            check(done.stdout.split()[0] == "ok", done.stdout)
            said = [text for text in done.stderr.splitlines() if "cache_dir" in text]
            check(len(said) == 1 and "No space left" in said[0], f"{done.stderr}")
            c.shell("UPDATE t SET v = 3;", cache_dir=small)
            check(look(c, cache_dir=small)[1].startswith(f"{3 * ROWS}|"), "after an update")
    finally:
        run(["umount", "-l", small], "", 20)
