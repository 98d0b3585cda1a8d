"""What a process that has nothing asks for when it reads in the order of a b-tree, not of the file: requests and pages."""

import json
import random

from lib.cluster import check, line, tell
from lib.registry import test

AHEAD = 64  # CV_AHEAD_MAX


def pages_of(db, *names):
    """Pages that these tables and indexes have."""
    marks = ",".join("?" * len(names))
    return db.execute(f"SELECT count(*) FROM dbstat WHERE name IN ({marks})", names).fetchone()[0]


def cold(t, c, what, needed, sql, wanted, *parameters):
    """One query in a new process: requests for pages, and pages, of the process; ms."""
    before = c.metrics()
    w = c.worker("one_query", sql, json.dumps(parameters))
    value, ms = line(w).rsplit(" ", 1)
    check(value == str(wanted), f"{sql}: {value}, not {wanted}")
    after = c.metrics()
    requests, pages = (int(after[f"corallite_pageserver_{n}_total"] - before[f"corallite_pageserver_{n}_total"])
                       for n in ("page_requests", "pages_served"))
    tell(w, "end")
    w.wait(20)
    t.note(f"{what}: {needed} pages needed, {pages} in {requests} requests, {float(ms):.0f} ms")
    return requests, pages


def is_scan(found, needed, trees):
    """Few requests, hardly a page too many. `trees` are scanned, each with inner pages of its own."""
    requests, pages = found
    check(pages <= 1.2 * needed + 10, f"{pages} pages, {needed} are needed")
    check(requests <= needed / 20 + 40 * trees, f"{requests} requests for {needed} pages")


def fill_in_turn(db, rows, width):
    db.execute("CREATE TABLE a(id INTEGER PRIMARY KEY, v BLOB)")
    db.execute("CREATE TABLE b(id INTEGER PRIMARY KEY, v BLOB)")
    for first in range(1, rows + 1, 1000):
        db.execute("BEGIN")
        for i in range(first, first + 1000):
            for name in "ab":
                db.execute(f"INSERT INTO {name} VALUES(?, ?)", (i, random.randbytes(width)))
        db.execute("COMMIT")


@test("two tables filled in turn, row by row: a cold scan of one, up or down, and a join of both, fetch "
      "their pages, 20 and more a request", 120)
def scans_of_tables_that_grew_together(t):
    rows, width = 12000, 900
    with t.cluster() as c:
        db = c.connect()
        fill_in_turn(db, rows, width)
        a, both = pages_of(db, "a"), pages_of(db, "a", "b")
        db.close()
        total = rows * width
        is_scan(cold(t, c, "scan", a, "SELECT sum(length(v)) FROM a", total), a, 1)
        is_scan(cold(t, c, "scan downwards", a,
                     "SELECT sum(length(v)) FROM (SELECT v FROM a ORDER BY id DESC LIMIT -1)", total), a, 1)
        is_scan(cold(t, c, "join by key", both, "SELECT sum(length(a.v) + length(b.v)) FROM a CROSS JOIN b ON b.id = a.id",
                     2 * total), both, 2)
        part = a // 10
        requests, pages = cold(t, c, "a tenth", part, "SELECT sum(length(v)) FROM a WHERE id BETWEEN ? AND ?", total // 10,
                               rows // 2 + 1, rows // 2 + rows // 10)
        check(pages <= part + AHEAD + 10 and requests <= 20, f"{pages} pages in {requests} requests")
        requests, pages = cold(t, c, "500 keys here and there", 500, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 "
                               "FROM n WHERE i < 500) SELECT count(a.v) FROM n JOIN a ON a.id = 1 + i * 7919 % ?", 500, rows)
        check(pages <= 600, f"{pages} pages for 500 keys")


@test("an index filled in random order: a cold count over it, and over a part, fetch its pages, 15 and more a request", 120)
def scans_of_an_index_in_random_order(t):
    rows = 60000
    with t.cluster() as c:
        db = c.connect()
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT)")
        db.execute("CREATE INDEX t_k ON t(k)")
        keys = [f"{n:08d}-{'x' * 30}" for n in range(rows)]
        random.shuffle(keys)
        for first in range(0, rows, 5000):
            db.execute("BEGIN")
            db.executemany("INSERT INTO t(k) VALUES(?)", ((k,) for k in keys[first:first + 5000]))
            db.execute("COMMIT")
        n = pages_of(db, "t_k")
        db.close()
        is_scan(cold(t, c, "count", n, "SELECT count(k) FROM t INDEXED BY t_k", rows), n, 1)
        requests, pages = cold(t, c, "a fifth", n // 5, "SELECT count(*) FROM t WHERE k BETWEEN ? AND ?", rows // 5,
                               f"{rows // 2:08d}", f"{rows // 2 + rows // 5:08d}")
        check(pages <= n // 5 + AHEAD + 10 and requests <= 30, f"{pages} pages in {requests} requests")


@test("long records whose pages lie apart: a blob of 20 MB, and rows of 20 KB, come 20 pages and more, or a row, a request; of a "
      "row of which the begin is enough no more is fetched", 180)
def chains_of_overflow_pages(t):
    blob = 20 << 20
    with t.cluster() as c:
        db = c.connect()
        fill_in_turn(db, 24000, 900)
        db.execute("DROP TABLE a")  # every other page is free
        db.execute("CREATE TABLE big(id INTEGER PRIMARY KEY, v BLOB)")
        db.execute("INSERT INTO big VALUES(1, ?)", (random.randbytes(blob),))
        db.execute("CREATE TABLE rows(id INTEGER PRIMARY KEY, pad BLOB, n INT, v BLOB)")
        free = db.execute("PRAGMA freelist_count").fetchone()[0]
        check(free > 400, f"{free} pages are free")
        for i in range(70):
            db.execute("INSERT INTO rows VALUES(?, ?, 7, ?)", (i, random.randbytes(4500), random.randbytes(16000)))
        n, m = pages_of(db, "big"), pages_of(db, "rows")
        db.close()
        is_scan(cold(t, c, "20 MB", n, "SELECT length(hex(v)) / 2 FROM big", blob), n, 1)
        requests, pages = cold(t, c, "rows of 20 KB", m, "SELECT sum(length(hex(v))) / 2 FROM rows", 70 * 16000)
        check(pages <= 1.2 * m + 10 and requests <= 70 * 1.5 + 30, f"{pages} pages in {requests} requests")
        requests, pages = cold(t, c, "their begins", 140, "SELECT sum(n) FROM rows", 70 * 7)
        check(pages <= 1.2 * 140 + 10, f"{pages} pages for the begins of 70 rows")
