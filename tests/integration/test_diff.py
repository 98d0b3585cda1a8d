"""`corallite diff`: what it costs, and that what it finds by pages is what reading everything finds."""

import json
import os
import random
import re
import time

from lib.cluster import check, run
from lib.registry import test
from test_branches import corallite, sha3

SERVED = "corallite_pageserver_pages_served_total"


def served(c, *args):
    """The diff of args, and how many pages the pageserver sent for it."""
    before = c.metrics()[SERVED]
    done = corallite(c, "diff", *args, ok=False, timeout=900)
    check(done.returncode in (0, 1), f"diff {args}: {done.stderr}")
    return done, c.metrics()[SERVED] - before


def fill(db, rows):
    """`rows` rows of about a kilobyte, with an index, in transactions of some 10 MB."""
    db.execute("CREATE TABLE big(k INTEGER PRIMARY KEY, name TEXT, v BLOB)")
    db.execute("CREATE INDEX by_name ON big(name)")
    for first in range(0, rows, 10000):
        db.execute("BEGIN")
        db.executemany("INSERT INTO big VALUES(?, ?, ?)",
                       ((k, f"name {k * 7919 % rows}", random.randbytes(960))
                        for k in range(first, min(rows, first + 10000))))
        db.execute("COMMIT")


def lsn(db):
    db.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    return "lsn:" + db.execute("PRAGMA corallite_lsn").fetchone()[0]


@test("diff reads what changed: 10 rows of 50 MB (of 1 GB with --slow) changed, under 200 pages, as many for "
      "a branch; rows added, removed, changed as reading everything tells", 900)
def diff_reads_what_changed(t):
    with t.cluster() as c:
        db = c.connect()
        rows = 1000000 if t.slow() else 52000
        began = time.monotonic()
        fill(db, rows)
        pages, size = (db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("page_count", "page_size"))
        t.note(f"{pages * size / 1e6:.0f} MB loaded in {time.monotonic() - began:.1f} s")
        check(pages * size >= (1e9 if t.slow() else 50e6), f"the database has only {pages * size} bytes")
        before = lsn(db)
        keys = random.sample(range(rows), 10)
        for k in keys:
            db.execute("UPDATE big SET v = randomblob(960) WHERE k = ?", (k,))
        after = lsn(db)
        began = time.monotonic()
        done, n = served(c, f"shop@{before}", f"shop@{after}")
        took = time.monotonic() - began
        told = sorted(int(k) for k in re.findall(r"^  ~ k=(\d+)  v: ", done.stdout, re.M))
        check(told == sorted(keys), f"{told} and not {sorted(keys)}")
        check(len(done.stdout.splitlines()) == 11, f"more lines than rows: {done.stdout[:300]}")
        t.note(f"10 rows of {pages} pages changed: {n:.0f} pages read, {took * 1000:.0f} ms")
        check(0 < n < 200, f"{n} pages")

        corallite(c, "branch", "create", "shop/try")
        branch = c.connect("shop/try")
        gone = random.sample(range(rows), 5)
        for k in gone:
            branch.execute("DELETE FROM big WHERE k = ?", (k,))
        db.execute("INSERT INTO big VALUES(?, 'new', x'00')", (rows + 7,))
        done, n = served(c, f"shop@{before}", "shop/try", "--summary")
        changed = len(set(keys) - set(gone))
        check(done.stdout == f"table big: 5 removed, 0 added, {changed} changed\n", done.stdout)
        t.note(f"with a branch that deleted 5: {n:.0f} pages read")
        check(n < 300, f"{n} pages")
        done, n = served(c, "shop", "shop/try", "--json", "--summary")
        check(json.loads(done.stdout)["tables"] == {"big": {"added": 0, "removed": 6, "changed": 0}}, done.stdout)
        done, n = served(c, "shop", "shop/try", "--schema-only")
        check(done.returncode == 0 and done.stdout == "" and n < 20, f"--schema-only: {n} pages, {done.stdout}")
        corallite(c, "branch", "create", "shop/deeper", "--from", "try")
        corallite(c, "branch", "drop", "shop/try", "--yes")  # kept, for what grew from it
        done, n = served(c, "shop", "shop/deeper", "--summary")
        check(done.stdout == "table big: 6 removed, 0 added, 0 changed\n" and n < 200, f"{n} pages: {done.stdout}")
        corallite(c, "restore", "shop", "--to", before, "--yes")
        done, n = served(c, f"shop@{before}", "shop")
        check(done.stdout == "" and n < 20, f"a restored head and its moment: {n} pages: {done.stdout}")
        if not t.slow():
            done, n = served(c, "shop", "shop/deeper")
            whole, all_pages = served(c, "shop", "shop/deeper", "--whole")
            check(done.stdout == whole.stdout, f"by pages {done.stdout[:300]}, whole {whole.stdout[:300]}")
            check(all_pages > pages, f"--whole read only {all_pages} pages of {pages}")
            t.note(f"{n:.0f} pages, --whole {all_pages:.0f}")


TABLES = {
    "one": "CREATE TABLE one(id INTEGER PRIMARY KEY, a, b)",
    "two": "CREATE TABLE two(a TEXT COLLATE NOCASE PRIMARY KEY, b)",
    "three": "CREATE TABLE three(a, b)",
    "four": "CREATE TABLE four(b, a TEXT, c INT, PRIMARY KEY(a, c DESC)) WITHOUT ROWID",
}
INSERTS = {
    "one": "INSERT OR REPLACE INTO one(id, a, b) VALUES({n}, {n} % 10, {v})",
    "two": "INSERT OR REPLACE INTO two(a, b) VALUES('k{n}', {v})",
    "three": "INSERT INTO three(a, b) VALUES({n} % 50, {v})",
    "four": "INSERT OR REPLACE INTO four(b, a, c) VALUES({v}, 'k{n}', {n} % 3)",
}


class Work:
    """Random statements, by a seed."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def value(self):
        r = self.r
        return r.choice(["NULL", str(r.randrange(1000)), str(r.random()), f"'text {r.randrange(10**6)}'",
                         f"zeroblob({r.randrange(12000)})", f"x'{r.randbytes(r.randrange(1, 400)).hex()}'"])

    def once(self, db):
        r, table = self.r, self.r.choice(list(TABLES))
        if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchone():
            db.execute(TABLES[table])
        kind, n = r.randrange(100), r.randrange(3000)
        some = f"a BETWEEN {n % 10} AND {n % 10 + 1}" if table in ("one", "three") else f"a LIKE 'k{n % 300}%'"
        if kind < 45:
            for i in range(r.choice([1, 1, 3, 30, 200])):
                db.execute(INSERTS[table].format(n=n + i * r.choice([1, 17]), v=self.value()))
        elif kind < 65:
            db.execute(f"UPDATE {table} SET b = {self.value()} WHERE {some}")
        elif kind < 85:
            db.execute(f"DELETE FROM {table} WHERE {some}")
        elif kind < 88:
            db.execute(f"DELETE FROM {table}")
        elif kind < 91:
            db.execute(f"DROP TABLE {table}")
        elif kind < 94:
            db.execute(f"CREATE INDEX IF NOT EXISTS i_{table}_{r.randrange(3)} ON {table}(b)")
        elif kind < 96:
            db.execute("PRAGMA incremental_vacuum")
        elif kind < 97:
            db.execute("VACUUM")
        elif len(db.execute(f"PRAGMA table_info({table})").fetchall()) < 5:
            db.execute(f"ALTER TABLE {table} ADD COLUMN z{r.randrange(1000)} DEFAULT 5")
        else:
            # A long value's tail, where it lies.
            db.execute("UPDATE four SET b = zeroblob(9000) || randomblob(4) WHERE c = 1")

    def some(self, db, times):
        for _ in range(times):
            if self.r.randrange(3) == 0:
                self.once(db)
            else:
                db.execute("BEGIN")
                for _ in range(self.r.randrange(5)):
                    try:
                        self.once(db)
                    except Exception as e:  # VACUUM within a transaction
                        check("VACUUM" in str(e), str(e))
                db.execute("COMMIT")


def patched(t, c, a, b, n):
    """--sql on an export of a gives an export of b, by sqldiff and by its definitions."""
    one, two = (os.path.join(t.dir, f"{name}{n}.db") for name in "ab")
    corallite(c, "export", a, "-o", one)
    corallite(c, "export", b, "-o", two)
    patch = corallite(c, "diff", a, b, "--sql", ok=False).stdout
    done = run(["sqlite3", "-batch", "-bail", "-init", "/dev/null", one], patch, 60)
    check(done.returncode == 0, f"the patch of {a} to {b}: {done.stderr}")
    for options in (["--primarykey"], ["--schema"]):
        done = run(["sqldiff", *options, one, two], "", 60)
        check(done.returncode == 0 and done.stdout == "", f"{a} patched is not {b}: {done.stdout[:500]}")
    os.remove(one)
    os.remove(two)


@test("diff by the pages that changed is diff of everything, as text, JSON and SQL, between moments of two "
      "branches of random work (DIFF_SEED repeats it); the SQL makes the one of the other, by sqldiff", 600)
def diff_equals_whole(t):
    t.needs("sqldiff")
    seed = int(os.environ.get("DIFF_SEED", random.randrange(10**9)))
    t.note(f"DIFF_SEED={seed}")
    rounds, compared, by_pages, different = (40 if t.slow() else 3), 0, 0, 0
    with t.cluster() as c:
        for n in range(rounds):
            work = Work(seed + n)
            name = f"db{n}"
            db = c.connect(name)
            db.execute(f"PRAGMA page_size = {work.r.choice([512, 1024, 4096])}")
            db.execute(f"PRAGMA auto_vacuum = {work.r.randrange(3)}")
            db.execute(f"PRAGMA encoding = '{work.r.choice(['UTF-8', 'UTF-8', 'UTF-16le'])}'")
            for create in TABLES.values():
                db.execute(create)
            work.some(db, 12)
            moments = [f"{name}@{lsn(db)}"]
            work.some(db, 2)
            moments.append(f"{name}@{lsn(db)}")
            corallite(c, "branch", "create", f"{name}/b")
            branch = c.connect(f"{name}/b")
            work.some(db, 2)
            work.some(branch, 2)
            # The last one is of the branch's past before it was one.
            moments += [f"{name}@{lsn(db)}", f"{name}/b@{lsn(branch)}", f"{name}/b{moments[0][len(name):]}"]
            db.close()
            branch.close()
            for a, b in work.r.sample([(a, b) for a in moments for b in moments if a != b], 4):
                form = work.r.choice([[], ["--json"], ["--sql"], ["--summary"]])
                ours, few = served(c, a, b, *form)
                whole, every = served(c, a, b, "--whole", *form)
                check((ours.returncode, ours.stdout) == (whole.returncode, whole.stdout),
                      f"DIFF_SEED={seed + n}: diff {a} {b} {form}: {ours.stdout[:400]} and as a whole "
                      f"{whole.stdout[:400]}")
                compared += 1
                by_pages += few < every
                different += ours.returncode
            patched(t, c, moments[0], moments[3], n)
            patched(t, c, moments[3], moments[2], n)
    t.note(f"{compared} pairs, {different} different; of {by_pages} fewer pages were read than of everything")
    check(different > 0 and by_pages > 0, "nothing was seen")


@test("diff of databases that have nothing in common, of another encoding, of keys with NULL", 60)
def diff_of_others(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE x(a PRIMARY KEY, b); INSERT INTO x VALUES(NULL, 1), (NULL, 2), ('k', 3);")
        c.shell("CREATE TABLE x(a PRIMARY KEY, b); INSERT INTO x VALUES(NULL, 1), (NULL, 5), ('k', 4);", db="other")
        done = corallite(c, "diff", "shop", "other", ok=False)
        check(done.stdout.splitlines() == ["table x", "  ~ a=NULL, rowid=2  b: 2 -> 5", "  ~ a='k'  b: 3 -> 4"],
              done.stdout)
        c.shell(corallite(c, "diff", "shop", "other", "--sql", ok=False).stdout)
        check(sha3(c, "shop") == sha3(c, "other"), "the SQL did not make the one of the other")
        check(corallite(c, "diff", "shop", "other").stdout == "", "they differ still")
        for name in ("wide", "wider"):
            c.shell("PRAGMA encoding = 'UTF-16'; CREATE TABLE x(a PRIMARY KEY, b) WITHOUT ROWID;"
                    f"INSERT INTO x VALUES('Zürich', '{name}');", db=name)
        done = corallite(c, "diff", "wide", "wider", ok=False)
        check(done.stdout.splitlines()[1:] == ["  ~ a='Zürich'  b: 'wide' -> 'wider'"], done.stdout + done.stderr)
        done = corallite(c, "diff", "wide", "shop", ok=False)
        check(done.returncode == 2 and "encoding" in done.stderr, f"{done.returncode}: {done.stderr}")
