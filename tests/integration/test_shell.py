"""The stock shell, and reading from where nothing of the writer can be seen."""

import os
import random
import subprocess

from lib.cluster import Skip, check, run
from lib.registry import test

SCRIPT = """
CREATE TABLE product(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, price REAL, stock INT DEFAULT 0);
CREATE TABLE sale(id INTEGER PRIMARY KEY AUTOINCREMENT, product INT REFERENCES product, n INT, at TEXT);
CREATE INDEX sale_product ON sale(product, n);
CREATE VIEW turnover AS SELECT name, sum(n * price) AS total FROM product JOIN sale ON product = product.id
  GROUP BY name;
CREATE TABLE journal(what TEXT, who INT);
CREATE TRIGGER sold AFTER INSERT ON sale BEGIN
  UPDATE product SET stock = stock - new.n WHERE id = new.product;
  INSERT INTO journal VALUES('sold', new.product);
END;
WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 2000)
  INSERT INTO product SELECT x, 'product ' || x || hex(x * 7919), x * 1.25, 1000 FROM i;
WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 5000)
  INSERT INTO sale(product, n, at) SELECT 1 + x * 31 % 2000, x % 7, '2026-01-' || (x % 28 + 1) FROM i;
SELECT count(*), sum(total) FROM turnover;
SELECT product.name, sale.n FROM sale JOIN product ON product.id = sale.product WHERE sale.id = 4711;
ALTER TABLE product ADD COLUMN colour TEXT DEFAULT 'grey';
ALTER TABLE journal RENAME TO ledger;
ALTER TABLE sale RENAME COLUMN at TO sold_at;
UPDATE product SET colour = 'red' WHERE id % 3 = 0;
DELETE FROM sale WHERE id % 5 = 0;
SELECT sql FROM sqlite_schema WHERE type = 'trigger';
VACUUM;
PRAGMA integrity_check;
PRAGMA cache_size = 10;
BEGIN;
CREATE TABLE big(k INTEGER PRIMARY KEY, v BLOB);
WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 3000)
  INSERT INTO big SELECT x, printf('%0500d', x) FROM i;
SAVEPOINT one;
UPDATE big SET v = v || 'one' WHERE k % 2 = 0;
SAVEPOINT two;
DELETE FROM big WHERE k > 100;
SELECT count(*) FROM big;
ROLLBACK TO two;
SELECT count(*), sum(length(v)) FROM big;
INSERT INTO big SELECT k + 10000, 'kept' FROM big WHERE k <= 50;
RELEASE two;
ROLLBACK TO one;
SELECT count(*), sum(length(v)) FROM big;
UPDATE big SET v = 'last' WHERE k = 7;
COMMIT;
SELECT count(*), sum(length(v)) FROM big;
BEGIN;
DELETE FROM big;
UPDATE product SET price = 0;
ROLLBACK;
SELECT count(*), sum(price) FROM product;
PRAGMA cache_size = -2000;
PRAGMA user_version = 42;
PRAGMA foreign_key_check;
PRAGMA integrity_check;
"""


def plain_shell(file, sql, *more, timeout=120):
    return run(["sqlite3", "-batch", "-bail", "-init", "/dev/null", file, *more], sql, timeout)


def same(ours, plain, what):
    check(plain.returncode == 0, f"the plain file failed at {what}: {plain.stderr[-300:]}")
    if ours.stdout == plain.stdout:
        return
    for n, (a, b) in enumerate(zip(ours.stdout.splitlines(), plain.stdout.splitlines()), 1):
        check(a == b, f"{what}: line {n} is {a[:150]!r}, of a plain file {b[:150]!r}")
    check(False, f"{what}: {len(ours.stdout)} bytes, of a plain file {len(plain.stdout)}")


@test("stock sqlite3 shell: create, insert, join, index, view, trigger, ALTER, VACUUM, savepoints "
      "across a spilling cache; dump equals that of a plain file", 120)
def stock_shell(t):
    with t.cluster() as c:
        file = os.path.join(t.dir, "plain.db")
        plain = plain_shell(file, SCRIPT)
        same(c.shell(SCRIPT), plain, "the output of the statements")
        check("ok" in plain.stdout.splitlines(), "integrity_check did not say ok")
        same(c.shell(".dump\n"), plain_shell(file, ".dump\n"), "the dump, in a fresh process")
        same(c.shell("PRAGMA integrity_check; PRAGMA user_version;"),
             plain_shell(file, "PRAGMA integrity_check; PRAGMA user_version;"), "a fresh process")


@test(".import of a CSV of 100,000 rows by the stock shell; dump equals that of a plain file", 180)
def import_of_100000_rows(t):
    csv, file = os.path.join(t.dir, "rows.csv"), os.path.join(t.dir, "plain.db")
    with open(csv, "w") as f:
        for i in range(100000):
            f.write(f'{i},"name, {i * 7919 % 100003}",{i * 0.5},{"x" * (i % 60)}\n')
    sql = ("CREATE TABLE r(a INT, b TEXT, c REAL, d TEXT);\n"
           f".import --csv {csv} r\n"
           "CREATE INDEX r_b ON r(b);\nSELECT count(*), sum(a), sum(length(d)) FROM r;\n"
           "PRAGMA integrity_check;\n")
    with t.cluster() as c:
        plain = plain_shell(file, sql)
        same(c.shell(sql, timeout=120), plain, "the output")
        check(plain.stdout.startswith("100000|"), f"plain import: {plain.stdout[:100]!r}")
        same(c.shell(".dump\n", timeout=60), plain_shell(file, ".dump\n"), "the dump")


@test("a process in another mount namespace, that can see none of the writer's files, reads the same "
      "rows", 60)
def another_mount_namespace(t):
    t.needs("unshare")
    t.needs_root("make a mount namespace")
    with t.cluster() as c:
        secret = random.getrandbits(60)
        c.shell(f"CREATE TABLE t(a); INSERT INTO t VALUES({secret}), (2), (3);")
        # $1: what is hidden. The shell then runs with the arguments that follow.
        hide = 'mount -t tmpfs none "$1" && test -z "$(ls -A "$1")" && shift && exec "$@"'
        probe = subprocess.run(["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"],
                               capture_output=True, text=True)
        if probe.returncode != 0:
            raise Skip(f"no mount namespace here: {probe.stderr.strip()}")
        done = c.shell("SELECT a FROM t ORDER BY rowid; PRAGMA integrity_check;",
                       prefix=["unshare", "-m", "sh", "-ec", hide, "sh", c.dir])
        check(done.stdout.split() == [str(secret), "2", "3", "ok"],
              f"read there: {done.stdout!r} {done.stderr[-300:]!r}")
        check(os.path.isdir(c.data(1)), "the writer's side still has its files")
