"""Databases of unusual form and size, beside a plain file of the same form. In CI they are small; `make sizes`
gives them their full size."""

import random

from lib.cluster import check
from lib.registry import test
from test_pragmas import Pair

LOCK_PAGE_AT = 1 << 30
MIB = 1 << 20
ALIKE = ("PRAGMA page_size", "PRAGMA auto_vacuum", "PRAGMA page_count", "PRAGMA freelist_count",
         "SELECT count(*), sum(a), sum(length(b)) FROM t", "PRAGMA integrity_check")


def same(pair, *statements):
    for sql in statements:
        plain, ours = pair.both(sql)
        check(plain == ours, f"{pair.name}: {sql}: {ours[1][:200]}, of a plain file {plain[1][:200]}")


def born(t, c, name, page_size, auto_vacuum=0, **parameters):
    return Pair(t, c, name, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)",
                (f"PRAGMA page_size = {page_size}", f"PRAGMA auto_vacuum = {auto_vacuum}"), **parameters)


def seen_by_another(c, pair, *statements):
    """By another connection."""
    other = c.connect(pair.name)
    for sql in statements:
        wanted = pair.plain.execute(sql).fetchall()
        got = other.execute(sql).fetchall()
        check(got == wanted, f"{pair.name}, another connection: {sql}: {got}, {wanted}")
    other.close()


@test("page sizes 512 to 65536, auto_vacuum in each mode: filled, emptied, vacuumed, filled again, as a plain "
      "file", 600)
def page_sizes(t):
    sizes = [512 << i for i in range(8)]
    forms = [(s, v) for i, s in enumerate(sizes) for v in range(3) if t.slow() or v == i % 3]
    rows = 4000 if t.slow() else 600
    with t.cluster() as c:
        for size, vacuum in forms:
            pair = born(t, c, f"p{size}-{vacuum}", size, vacuum)
            fill = ("WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i LIMIT "
                    f"{rows}) INSERT OR REPLACE INTO t SELECT x, zeroblob(x * 7 % 3000) FROM i")
            same(pair, fill, "INSERT INTO t(b) VALUES(zeroblob(400000))", *ALIKE,
                 "DELETE FROM t WHERE a % 4 <> 0", *ALIKE, "PRAGMA incremental_vacuum(11)", *ALIKE,
                 "BEGIN", "PRAGMA incremental_vacuum", "ROLLBACK", *ALIKE, "PRAGMA incremental_vacuum",
                 "VACUUM", *ALIKE, fill, *ALIKE, "DELETE FROM t", "VACUUM", "PRAGMA page_count", fill,
                 f"PRAGMA auto_vacuum = {(vacuum + 1) % 3}", "VACUUM", *ALIKE)
            seen_by_another(c, pair, *ALIKE)
            pair.close()
    t.note(f"{len(forms)} forms, {rows} rows")


def cross(t, c, page_size, step_bytes, back):
    """Small transactions up to beyond the page that SQLite never uses; and back, which reads all of it."""
    pair = born(t, c, f"lock-{page_size}", page_size)
    limit, n = LOCK_PAGE_AT // page_size, 0
    while pair.plain.execute("PRAGMA page_count").fetchone()[0] < limit + 16:
        left = (limit - pair.plain.execute("PRAGMA page_count").fetchone()[0]) * page_size
        size = step_bytes if left > 2 * step_bytes else max(page_size, min(left // 2, step_bytes))
        n += 1
        same(pair, f"INSERT INTO t VALUES({n}, zeroblob({size}))")
    same(pair, "PRAGMA page_count", "INSERT INTO t VALUES(1000000, 'beyond it')",
         "CREATE TABLE u(a, b)", "CREATE INDEX ui ON u(b)", "INSERT INTO u VALUES(1, randomblob(0))",
         "SELECT a, length(b) FROM t ORDER BY a DESC LIMIT 20", "SELECT name, rootpage FROM sqlite_schema")
    check(limit < pair.ours.execute("SELECT max(rootpage) FROM sqlite_schema").fetchone()[0],
          "nothing lies beyond the lock page")
    seen_by_another(c, pair, "SELECT * FROM t WHERE a = 1000000", "SELECT count(*), sum(length(b)) FROM t",
                    "PRAGMA page_count")
    got = c.shell("SELECT b FROM t WHERE a = 1000000; SELECT count(*) FROM u;", pair.name).stdout.split("\n")
    check(got[:2] == ["beyond it", "1"], f"a process that has nothing in its cache: {got}")
    if not back:
        same(pair, "DELETE FROM t WHERE a = 1000000", "PRAGMA freelist_count")
        pair.close()
        t.note(f"pages of {page_size}: {n} transactions to page {limit + 16}")
        return
    same(pair, "PRAGMA integrity_check")
    same(pair, f"DELETE FROM t WHERE a BETWEEN 3 AND {n} - 2", "PRAGMA freelist_count",
         "INSERT INTO t VALUES(2000000, zeroblob(3000000))", "PRAGMA freelist_count")
    same(pair, "VACUUM", "PRAGMA page_count", "PRAGMA integrity_check", "SELECT a, length(b) FROM t")
    seen_by_another(c, pair, "SELECT a, length(b) FROM t", "PRAGMA page_count", "PRAGMA integrity_check")
    pair.close()
    t.note(f"pages of {page_size}: {n} transactions to page {limit + 16}, and back")


@test("a database that crosses the 1 GiB lock page in small transactions: used beyond it, shrunk and grown again",
      1800)
def lock_page(t):
    with t.cluster() as c:
        cross(t, c, 65536, 64 * MIB, back=t.slow())
        if t.slow():
            cross(t, c, 4096, 64 * MIB, back=True)
            cross(t, c, 512, 16 * MIB, back=False)


@test("many tables: made, listed, used, also by a process that has nothing in its cache", 600)
def many_tables(t):
    n = 10000 if t.slow() else 1000
    with t.cluster() as c:
        pair = Pair(t, c, "tables", "")
        for db in (pair.ours, pair.plain):
            for first in range(0, n, 500):
                db.execute("BEGIN")
                for i in range(first, first + 500):
                    db.execute(f"CREATE TABLE t{i}(a INTEGER PRIMARY KEY, b DEFAULT 'x')")
                    if i % 7 == 0:
                        db.execute(f"INSERT INTO t{i}(a) VALUES({i})")
                db.execute("COMMIT")
        some = [random.randrange(n) for _ in range(20)]
        same(pair, "SELECT count(*), sum(rootpage) FROM sqlite_schema", "PRAGMA page_count",
             *(f"SELECT * FROM t{i}" for i in some), "PRAGMA integrity_check",
             f"DROP TABLE t{some[0]}", f"ALTER TABLE t{n - 1} ADD COLUMN c", "SELECT count(*) FROM sqlite_schema")
        got = c.shell(f"SELECT count(*) FROM sqlite_schema; INSERT INTO t{n - 1}(b) VALUES('y');"
                      f"SELECT b FROM t{n - 1} ORDER BY a DESC LIMIT 1;", "tables").stdout.split()
        check(got == [str(n - 1), "y"], f"another process: {got}")
        pair.close()
        t.note(f"{n} tables")


@test("a row of many megabytes that no codec can shrink: written, read, changed in place, deleted", 900)
def large_row(t):
    size = 500 * MIB if t.slow() else 8 * MIB
    piece = MIB
    with t.cluster() as c:
        # One record: no part of it counts as progress before all of it is there.
        pair = born(t, c, "row", 4096, commit_timeout="15m")
        for db in (pair.ours, pair.plain):
            db.execute("BEGIN")
            db.execute("INSERT INTO t VALUES(1, zeroblob(?))", (size,))
            content = random.Random(7)
            with db.blobopen("t", "b", 1) as blob:
                for _ in range(size // piece):
                    blob.write(content.randbytes(piece))
            db.execute("COMMIT")
        reader = c.connect("row")
        content = random.Random(7)
        with reader.blobopen("t", "b", 1, readonly=True) as blob:
            for i in range(size // piece):
                check(blob.read(piece) == content.randbytes(piece), f"the row differs in MiB {i}")
        same(pair, "PRAGMA page_count", "UPDATE t SET a = 2", "SELECT a, length(b), hex(substr(b, -20)) FROM t")
        for db in (pair.ours, pair.plain):
            with db.blobopen("t", "b", 2) as blob:
                blob.seek(size // 2)
                blob.write(b"in the middle")
        same(pair, f"SELECT substr(b, {size // 2 + 1}, 13) FROM t", "BEGIN", "DELETE FROM t", "ROLLBACK",
             "SELECT length(b) FROM t", "DELETE FROM t", "PRAGMA freelist_count", "VACUUM", "PRAGMA page_count",
             "PRAGMA integrity_check")
        check(reader.execute("SELECT count(*) FROM t").fetchone() == (0,), "the reader")
        reader.close()
        pair.close()
        t.note(f"a row of {size // MIB} MiB")
