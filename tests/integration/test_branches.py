"""Branches, restore, export and import: through the command, compared by .sha3sum."""

import json
import math
import os
import random
import re
import shlex
import signal
import sqlite3
import subprocess
import threading
import time

from lib.cluster import BIN, NODES, PAGESERVER, SLOWER, check, popen, run, tell, until
from lib.registry import test

SALES = """
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE, price REAL);
WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 3000)
  INSERT INTO item SELECT x * 2, 'item ' || x || hex(x * 7919), x * 1.25 FROM i;
"""


def corallite(cluster, *args, ok=True, timeout=60):
    """The command; what it printed."""
    done = run([os.path.join(BIN, "corallite"), *args], "", timeout, cluster.env())
    if ok:
        check(done.returncode == 0, f"corallite {' '.join(args)}: {done.stderr.strip()[-400:]}")
    return done


def sha3(cluster, db):
    return cluster.shell(".sha3sum", db=db).stdout.strip()


def plain_sha3(path):
    return run(["sqlite3", "-batch", "-init", "/dev/null", path], ".sha3sum\n", 60).stdout.strip()


def pasted(cluster, line):
    """A line that was printed to be pasted."""
    words = shlex.split(line)
    check(words[0] == "corallite", f"'{line}' is no line of ours")
    return corallite(cluster, *words[1:])


@test("a branch that is written changes neither its parent nor a sibling; a branch of a moment keeps it; "
      "dropping a parent leaves .sha3sum of its children, also after a restart of the pageserver", 120)
def branches_are_apart(t):
    with t.cluster() as c:
        c.shell(SALES)
        first = sha3(c, "shop")
        corallite(c, "branch", "create", "shop/a")
        corallite(c, "branch", "create", "shop/b")
        c.shell("UPDATE item SET price = 0 WHERE id % 3 = 0; CREATE TABLE mine(x);", db="shop/a")
        of_a = sha3(c, "shop/a")
        check(of_a != first, "the branch was not written")
        check(sha3(c, "shop") == first, "writing a branch changed its parent")
        check(sha3(c, "shop/b") == first, "writing a branch changed its sibling")
        corallite(c, "branch", "create", "shop/a1", "--from", "a")
        c.shell("DELETE FROM item WHERE id > 4000;", db="shop/a1")
        of_a1 = sha3(c, "shop/a1")
        c.shell("DELETE FROM item;")
        check(sha3(c, "shop/b") == first, "writing the parent changed a branch")
        corallite(c, "branch", "drop", "shop/a", "--yes")
        check(sha3(c, "shop/a1") == of_a1, "dropping the parent changed its child")
        check(sha3(c, "shop/b") == first, "dropping a branch changed its sibling")
        done = c.shell("SELECT 1 FROM item;", db="shop/a", ok=False)
        check(done.returncode != 0, "a dropped branch opens")
        c.restart("pageserver")
        check(sha3(c, "shop/a1") == of_a1, "the child of a dropped branch after a restart")
        check(sha3(c, "shop/b") == first, "the branch after a restart")
        check(c.shell("PRAGMA integrity_check;", db="shop/a1").stdout.strip() == "ok", "integrity")


@test("DROP TABLE, then the README's line, then the table is there; then the line that it printed", 60)
def drop_table_restore_undo(t):
    with t.cluster() as c:
        c.shell(SALES)
        before = sha3(c, "shop")
        back_s = math.ceil(2 * SLOWER)
        time.sleep(back_s + 0.1)
        c.shell("DROP TABLE item;")
        after = sha3(c, "shop")
        check(before != after, "DROP TABLE did nothing")
        readme = open(os.path.join(os.path.dirname(__file__), "..", "..", "README.md")).read()
        line = re.search(r"^\s*(corallite restore shop --to \S+)", readme, re.M)
        check(line, "the README has no line that restores")
        # The README goes back a minute; this test has not waited so long.
        out = pasted(c, line[1].replace("-1m", f"-{back_s}s") + " --yes").stdout
        check(sha3(c, "shop") == before, "the table is not what it was")
        undo = re.search(r"^undo: +(.*)$", out, re.M)
        check(undo, f"no line that undoes it: {out}")
        pasted(c, undo[1])
        check(sha3(c, "shop") == after, "undo did not bring back what was replaced")
        c.shell("CREATE TABLE again(x);")


def make_file(path, page_size, wal, encoding, vacuum):
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(f"PRAGMA page_size = {page_size}; PRAGMA encoding = '{encoding}';"
                     f"PRAGMA auto_vacuum = {vacuum}; PRAGMA journal_mode = {'WAL' if wal else 'DELETE'};"
                     + SALES + "DELETE FROM item WHERE id < 100; CREATE TABLE empty(a, b);"
                     "CREATE INDEX by_price ON item(price); INSERT INTO empty VALUES('Zürich', x'00ff');"
                     "PRAGMA user_version = 77; PRAGMA application_id = 1234567;")
    return db


def form(db):
    return [db.execute(f"PRAGMA {p}").fetchone()[0] for p in
            ("page_size", "encoding", "auto_vacuum", "user_version", "application_id", "page_count")]


def check_sqldiff(one, two, what):
    """sqldiff between two files prints nothing, by rows and by definitions."""
    for options in ([], ["--primarykey"], ["--schema"]):
        done = run(["sqldiff", *options, one, two], "", 60)
        check(done.returncode == 0 and done.stdout + done.stderr == "",
              f"sqldiff {options}: {done.stdout[:300]}{done.stderr}: {what}")


@test("export of an import equals the file by sqldiff, .sha3sum, page size, encoding, auto_vacuum and ids: pages "
      "of 512, 4096, 65536, WAL (open in another program) and rollback, UTF-16, auto_vacuum", 180)
def import_export(t):
    t.needs("sqldiff")
    with t.cluster() as c:
        n = 0
        for page_size in (512, 4096, 65536):
            for vacuum in ("NONE", "FULL", "INCREMENTAL"):
                # Each page size and each auto_vacuum meets WAL and rollback, and each encoding.
                wal, encoding = n % 2 == 1, ("UTF-8", "UTF-16le", "UTF-16be")[(n + n // 3) % 3]
                n += 1
                path, copy = os.path.join(t.dir, f"f{n}.db"), os.path.join(t.dir, f"g{n}.db")
                what = f"page size {page_size}, WAL {wal}, {encoding}, auto_vacuum {vacuum}"
                db = make_file(path, page_size, wal, encoding, vacuum)  # open: its WAL is not in it
                corallite(c, "import", path, f"f{n}")
                corallite(c, "export", f"f{n}", "-o", copy)
                check_sqldiff(path, copy, what)
                check(plain_sha3(copy) == plain_sha3(path), f"another content: {what}")
                other = sqlite3.connect(copy)
                check(form(other) == form(db), f"{form(other)} and not {form(db)}: {what}")
                check(other.execute("PRAGMA integrity_check").fetchone()[0] == "ok", what)
                rows = "SELECT rowid, * FROM item"
                check(other.execute(rows).fetchall() == db.execute(rows).fetchall(), f"rows: {what}")
                other.close()
                c.shell("INSERT INTO empty VALUES(1, 2); PRAGMA integrity_check;", db=f"f{n}")
                db.close()


def make_hot(path):
    """A file whose writer ended within a transaction that had reached the file."""
    code = ("import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "db.executescript('PRAGMA cache_size = 5; PRAGMA cache_spill = 5; CREATE TABLE t(a);"
            "BEGIN; INSERT INTO t VALUES(randomblob(400000))'); os._exit(0)")
    run(["/usr/bin/python3", "-c", code, path], "", 20)
    check(os.path.getsize(path + "-journal") > 0, "there is no hot journal")


def make_damaged(path, cut=None, at=None):
    make_file(path, 4096, False, "UTF-8", "NONE").close()
    with open(path, "r+b") as f:
        if cut:
            f.truncate(cut)
        else:
            f.seek(at)
            f.write(b"\xaa" * 512)


@test("import refuses a file with a hot journal, a damaged one, one that is cut off, an encrypted one (with and "
      "without a plain header): a sentence each, and no name is left", 60)
def import_refuses(t):
    with t.cluster() as c:
        path = {name: os.path.join(t.dir, f"{name}.db")
                for name in ("hot", "damaged", "cut", "cipher", "header", "empty")}
        make_hot(path["hot"])
        make_damaged(path["damaged"], at=4096 * 5)
        make_damaged(path["cut"], cut=4096 * 7 + 100)
        with open(path["cipher"], "wb") as f:
            f.write(os.urandom(64 * 1024))
        with open(path["header"], "wb") as f:
            f.write(b"SQLite format 3\0" + os.urandom(64 * 1024 - 16))
        open(path["empty"], "wb").close()
        for name, words in (("hot", "has a hot journal"), ("damaged", "is damaged"), ("cut", "is damaged"),
                            ("cipher", "or it is encrypted"), ("header", "or it is encrypted"),
                            ("empty", "is empty")):
            done = corallite(c, "import", path[name], name, ok=False)
            lines = done.stderr.splitlines()
            check(done.returncode == 1 and len(lines) == 1 and words in lines[0],
                  f"{name}: exit {done.returncode}: {done.stdout}{done.stderr}")
            check(path[name] in lines[0], f"the sentence does not name the file: {lines[0]}")
        check(corallite(c, "db", "list", "--json").stdout.strip() == "[]", "a name is left")
        # What the sentence about the hot journal proposes.
        run(["sqlite3", path["hot"], "SELECT 1 FROM sqlite_schema"], "", 20)
        corallite(c, "import", path["hot"], "hot")
        check(c.shell("SELECT count(*) FROM t;", db="hot").stdout.strip() == "0", "the rolled back table")


@test("an import that is killed leaves no half database, and can be repeated; SIGTERM leaves no name; while "
      "the source is written the copy is one moment of it; nothing is left in $TMPDIR", 120)
def import_interrupted(t):
    with t.cluster() as c:
        path, aside = os.path.join(t.dir, "big.db"), os.path.join(t.dir, "aside")
        os.mkdir(aside)
        db = sqlite3.connect(path, isolation_level=None)
        db.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t(a, b); CREATE TABLE n(x); "
                         "INSERT INTO n VALUES(0);"
                         "WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 60000)"
                         " INSERT INTO t SELECT x, randomblob(600) FROM i; PRAGMA wal_checkpoint;")
        for number in (signal.SIGTERM, signal.SIGKILL):
            process = popen([os.path.join(BIN, "corallite"), "import", path, "big"], env=c.env(),
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            until(lambda: '"big"' in corallite(c, "db", "list", "--json").stdout or
                  process.poll() is not None, 20, "the import has begun")
            check(process.poll() is None, "the import ended before it could be interrupted")
            process.send_signal(number)
            said = process.communicate(timeout=20)[1]
            listed = corallite(c, "db", "list", "--json").stdout
            if number == signal.SIGTERM:
                check(process.returncode == 1 and "interrupted" in said, f"SIGTERM: {said}")
                check('"big"' not in listed, "SIGTERM left the name")
            elif '"big"' in listed:
                check(c.shell("SELECT count(*) FROM sqlite_schema;", db="big").stdout.strip() == "0",
                      "half a database has the name")
        writing = popen([os.path.join(BIN, "corallite"), "import", path, "big"], env=c.env(TMPDIR=aside),
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        n = 0
        while writing.poll() is None:
            n += 1
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE n SET x = ?", (n,))
            db.execute("UPDATE t SET a = -? WHERE rowid = ?", (n, n % 60000 + 1))
            db.execute("COMMIT")
            time.sleep(0.002)
        check(writing.returncode == 0, f"the import failed: {writing.stderr.read()}")
        got = c.shell("SELECT x, (SELECT count(*) FROM t WHERE a < 0), (SELECT count(*) FROM t) FROM n; "
                      "PRAGMA integrity_check;", db="big").stdout.split()
        x, changed, rows = map(int, got[0].split("|"))
        check(not os.listdir(aside), f"copies are left behind: {os.listdir(aside)}")
        check(x == changed and rows == 60000 and got[1] == "ok", f"no moment of the source: {got}")
        t.note(f"{n} commits to the source while it was imported; the copy has the first {x}")


def copying(process):
    """Is it writing a copy of its source? By its descriptors."""
    fds = f"/proc/{process.pid}/fd"
    try:
        return any("/corallite-import-" in os.readlink(f"{fds}/{fd}") and os.stat(f"{fds}/{fd}").st_size > 0
                   for fd in os.listdir(fds))
    except FileNotFoundError:  # one that was closed, or the process, meanwhile
        return False


@test("an import of a file whose WAL has content copies it first; killed while it does, it leaves nothing in $TMPDIR", 60)
def import_copies_killed(t):
    with t.cluster() as c:
        path, aside = os.path.join(t.dir, "source.db"), os.path.join(t.dir, "aside")
        os.mkdir(aside)
        db = sqlite3.connect(path, isolation_level=None)
        db.executescript("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(a, b);"
                         "WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 60000)"
                         " INSERT INTO t SELECT x, randomblob(1200) FROM i;")
        command = [os.path.join(BIN, "corallite"), "import", path, "big"]
        kills = 0
        for _ in range(20):
            process = popen(command, env=c.env(TMPDIR=aside), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while process.poll() is None and not copying(process):
                pass
            if process.poll() is not None:
                break
            process.kill()
            process.wait()
            kills += 1
            check(not os.listdir(aside), f"left behind: {os.listdir(aside)}")
            if kills == 3:
                break
        check(kills, "it was never seen to copy")
        corallite(c, "db", "drop", "big", "--yes", ok=False)
        done = run(command, "", 60, c.env(TMPDIR=aside))
        check(done.returncode == 0, done.stderr)
        check(c.shell("SELECT count(*), count(DISTINCT a) FROM t; PRAGMA integrity_check;", db="big").stdout.split() ==
              ["60000|60000", "ok"], "another content")
        check(not os.listdir(aside), f"left behind: {os.listdir(aside)}")
        db.close()
        t.note(f"killed {kills} times while it copied")


def content(cluster, db):
    return cluster.shell(".sha3sum --schema", db=db, timeout=120).stdout


@test("an import that is killed -9 again and again goes on where it was, at a commit, and ends with the content of the "
      "source; what changed in the source meanwhile is written anew; another file is refused or takes its place", 120)
def import_goes_on(t):
    with t.cluster() as c:
        path = os.path.join(t.dir, "source.db")
        db = sqlite3.connect(path, isolation_level=None)
        db.executescript("PRAGMA page_size = 8192; CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
                         "WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 30000)"
                         " INSERT INTO t SELECT x, randomblob(800) FROM i;")

        def pages():
            listed = json.loads(corallite(c, "branch", "list", "big", "--json", ok=False).stdout or "[]")
            return max([b["pages"] or 0 for b in listed if b["branch"] == "importing"], default=0)

        kept, kills = 0, 0
        for _ in range(3):
            process = popen([os.path.join(BIN, "corallite"), "import", path, "big"], env=c.env(),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            until(lambda: pages() > kept or process.poll() is not None, 30, "it goes on")
            if process.poll() is not None:
                break
            process.kill()
            process.wait()
            kept, kills = pages(), kills + 1
            check(c.shell("SELECT count(*) FROM sqlite_schema;", db="big").stdout.strip() == "0",
                  "half a database has the name")
            other = c.shell("CREATE TABLE mine(x);", db="big", ok=False)
            check(other.returncode != 0, "somebody else could write what is being imported")
        check(kills >= 1, "it ended before it could be killed")
        db.execute("UPDATE t SET b = 'changed' WHERE a IN (1, 7, 15000)")
        said = corallite(c, "import", path, "big", timeout=120).stdout
        check("were there already" in said, f"nothing was kept of {kept} pages: {said}")
        check(c.shell("PRAGMA integrity_check;", db="big").stdout.strip() == "ok", "integrity")
        plain = run(["sqlite3", path, ".sha3sum --schema"], "", 120).stdout
        check(content(c, "big") == plain and plain, "the content differs from the source's")
        again = corallite(c, "import", path, "big", ok=False)
        check(again.returncode != 0 and "exists already" in again.stderr, f"taken: {again.stderr}")
        t.note(f"killed {kills} times, the last time with {kept} of {os.path.getsize(path) // 8192} pages; "
               + said.splitlines()[0])
        # What was begun with pages of another size.
        process = popen([os.path.join(BIN, "corallite"), "import", path, "other"], env=c.env(),
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: any(b["pages"] for b in json.loads(corallite(c, "branch", "list", "other", "--json",
              ok=False).stdout or "[]")) or process.poll() is not None, 30, "it has begun")
        check(process.poll() is None, "it ended before it could be killed")
        process.kill()
        process.wait()
        small = os.path.join(t.dir, "small.db")
        sqlite3.connect(small).executescript("CREATE TABLE s(x); INSERT INTO s VALUES (1);")
        refused = corallite(c, "import", small, "other", ok=False)
        check(refused.returncode != 0 and "8192" in refused.stderr, f"another page size: {refused.stderr}")
        db.close()


DIFF_A = """
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE UNIQUE, price REAL, blobby);
INSERT INTO item VALUES(1,'one',1.5,x'00ff'),(2,'two',2.1,NULL),(3,'three',1e300,'a%s''q'),(4,'four',0.1,7);
CREATE TABLE plain(a,b); INSERT INTO plain VALUES(1,2),(1,2),(3,4);
CREATE TABLE wr(a TEXT, b TEXT, c, PRIMARY KEY(b,a)) WITHOUT ROWID; INSERT INTO wr VALUES('x','y',1),('z','w',2);
CREATE TABLE gen(a, b AS (a*2), c AS (a+1) STORED); INSERT INTO gen VALUES(5);
CREATE TABLE log(x); CREATE TRIGGER tr AFTER INSERT ON item BEGIN INSERT INTO log VALUES(new.id); END;
CREATE VIRTUAL TABLE ft USING fts5(t); INSERT INTO ft VALUES('hello');
CREATE TABLE gone(a); CREATE TABLE alt(a PRIMARY KEY); INSERT INTO alt VALUES(9); CREATE INDEX altx ON alt(a); CREATE VIEW v AS SELECT * FROM item;
"""

DIFF_B = """
UPDATE item SET name='ONE' WHERE id=1;
UPDATE item SET name='tmp' where id=2;
UPDATE item SET name='two' where id=3;
UPDATE item SET name='three' WHERE id=2;
UPDATE item SET price=CAST(0.1 AS TEXT)||'x' WHERE id=4;
INSERT INTO item VALUES(10,'ten'||char(0)||'z',NULL,1);
DELETE FROM plain WHERE rowid=2;
INSERT INTO plain VALUES(1,2.0);
UPDATE plain SET b=2.0 WHERE rowid=1;
UPDATE wr SET c='1' WHERE a='x';
UPDATE gen SET a=6;
DROP TABLE gone;
ALTER TABLE alt ADD COLUMN z DEFAULT 4;
CREATE TABLE fresh(q);
INSERT INTO fresh VALUES('Zürich');
CREATE TRIGGER tr2 AFTER DELETE ON item BEGIN INSERT INTO log VALUES(-old.id);
END;
"""


@test("diff: each kind of difference is told, as text and JSON; what --sql prints makes B of A, triggers, "
      "swapped UNIQUE values, WITHOUT ROWID, generated columns, changed tables; 0 same, 1 different", 60)
def diff_and_patch(t):
    with t.cluster() as c:
        c.shell(DIFF_A)
        corallite(c, "branch", "create", "shop/b")
        done = corallite(c, "diff", "shop", "shop/b")
        check(done.stdout == "", f"the same differs: {done.stdout}")
        c.shell(DIFF_B, db="shop/b")
        done = corallite(c, "diff", "shop", "shop/b", ok=False)
        check(done.returncode == 1, f"exit {done.returncode}: {done.stderr}")
        for line in ("table alt: changed", "table gone: removed", "table fresh: added", "trigger tr2: added",
                     "  ~ id=1  name: 'one' -> 'ONE'", "  ~ rowid=1  b: 2 -> 2.0", "  - rowid=2  a=1, b=2",
                     "  ~ a='x', b='y'  c: 1 -> '1'", "  ~ rowid=1  a: 5 -> 6"):
            check(line in done.stdout.splitlines(), f"'{line}' is not in {done.stdout}")
        told = json.loads(corallite(c, "diff", "shop", "shop/b", "--json", ok=False).stdout)
        check(told["same"] is False and told["tables"]["item"]["added"][0]["id"] == 10, str(told)[:300])
        patch = corallite(c, "diff", "shop", "shop/b", "--sql", ok=False).stdout
        c.shell(patch)
        check(corallite(c, "diff", "shop", "shop/b").stdout == "", "the patched A is not B")
        check(sha3(c, "shop") == sha3(c, "shop/b"), "the patched A is not B by .sha3sum")
        order = "SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2;"
        check(c.shell(order).stdout == c.shell(order, db="shop/b").stdout, "another schema")


@test("log of more commits than three answers hold: each once, newest first, from any moment", 60)
def log_pages(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a); PRAGMA synchronous = OFF;\n" +
                "\n".join(f"INSERT INTO t VALUES({n});" for n in range(2300)))
        lsns = [e["lsn"] for e in json.loads(corallite(c, "log", "shop", "--json").stdout)]
        check(len(lsns) == 2301, f"{len(lsns)} commits and not 2301")
        check(all(a > b for a, b in zip(lsns, lsns[1:])), "a commit is told twice or out of order")
        older = json.loads(corallite(c, "log", f"shop@lsn:{lsns[1200]}", "-n", "150", "--json").stdout)
        check([e["lsn"] for e in older] == lsns[1200:1350], "the log from a moment")
        begin = time.monotonic()
        corallite(c, "log", "shop", "-n", "1")
        t.note(f"newest of 2301 in {(time.monotonic() - begin) * 1000:.0f} ms")


def stored(c):
    """Bytes of the pageserver's store."""
    return os.stat(os.path.join(c.data(PAGESERVER), "store", "data.mdb")).st_size


def timed(times, function):
    began = time.monotonic()
    value = function()
    times.append((time.monotonic() - began) * 1000)
    return value


@test("what a branch costs at 10 MB (1 GB with --slow): made, first read, first write; the store grows by under "
      "64 KiB for each", 900)
def branch_costs(t):
    rounds, rows = (50, 1000000) if t.slow() else (10, 10000)
    made, start, process, read, write = [], [], [], [], []
    with t.cluster() as c:
        db = c.connect()
        db.execute("CREATE TABLE big(k INTEGER PRIMARY KEY, v BLOB)")
        for first in range(0, rows, 10000):
            db.execute("BEGIN")
            db.executemany("INSERT INTO big VALUES(?, ?)",
                           ((k, os.urandom(960)) for k in range(first, first + 10000)))
            db.execute("COMMIT")
        pages, size = (db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("page_count", "page_size"))
        db.close()
        client = popen([os.path.join(BIN, "tests", "branch-client"), c.server()], stdin=subprocess.PIPE,
                       stdout=subprocess.PIPE, text=True)
        tell(client, "shop first")  # is answered when everything has been ingested
        client.stdout.readline()
        before = stored(c)
        for n in range(rounds):
            tell(client, f"shop b{n}")
            made.append(int(client.stdout.readline()) / 1000)
        grown = stored(c) - before
        for n in range(rounds):
            timed(start, lambda: corallite(c, "version"))
            timed(process, lambda: corallite(c, "branch", "create", f"shop/p{n}"))
            branch = c.connect(f"shop/b{n}")
            row = timed(read, lambda: branch.execute("SELECT length(v) FROM big WHERE k = ?", (n * 7,)).fetchone())
            check(row == (960,), "the row")
            timed(write, lambda: branch.execute("UPDATE big SET v = x'00' WHERE k = ?", (n * 7,)))
            branch.close()
        both = stored(c) - before
        median = {name: sorted(times)[len(times) // 2] for name, times in
                  (("made", made), ("start", start), ("process", process), ("read", read), ("write", write))}
        t.note(f"{pages * size / 1e6:.0f} MB, medians of {rounds} in ms: made {median['made']:.1f} over an open "
               f"connection; {median['process']:.1f} as a command, of which a process that does nothing takes "
               f"{median['start']:.1f}; first read {median['read']:.1f}, first write {median['write']:.1f}")
        t.note(f"the store grew by {grown} bytes for {rounds} branches, by {both} for {2 * rounds} and a write "
               f"to {rounds} of them")
        check(grown < 65536 * rounds, f"{grown / rounds:.0f} bytes a branch")
        client.stdin.close()
        check(client.wait(10) == 0, "the client of branches failed")


def reads(client, branch, n):
    """Microseconds a page of n pages of a branch, each asked for by itself."""
    tell(client, f"shop {branch} read {n}")
    return int(client.stdout.readline()) / n


@test("200 branches (10,000 with --slow), and a line of 64 ancestors: what they cost a read of main, a read at the "
      "depth, and how fast they are made; with --slow at most 1.1, and 1.5 times a read of main without them", 3600)
def many_branches(t):
    count, pages, rounds = (10000, 2000, 15) if t.slow() else (200, 300, 3)
    count = int(os.environ.get("BRANCHES", count))
    with t.cluster() as c:
        db = c.connect()
        db.execute("CREATE TABLE big(k INTEGER PRIMARY KEY, v BLOB)")
        db.execute("BEGIN")
        db.executemany("INSERT INTO big VALUES(?, ?)", ((k, os.urandom(900)) for k in range(4000)))
        db.execute("COMMIT")
        client = popen([os.path.join(BIN, "tests", "branch-client"), c.server()], stdin=subprocess.PIPE,
                       stdout=subprocess.PIPE, text=True)
        tell(client, "shop d1")
        client.stdout.readline()
        for depth in range(2, 65):
            branch = c.connect(f"shop/d{depth - 1}")  # written, so that the next one grows from it
            branch.execute("INSERT INTO big VALUES(?, x'00')", (10000 + depth,))
            branch.close()
            tell(client, f"shop d{depth} d{depth - 1}")
            client.stdout.readline()
        deep, flat = [], []
        for _ in range(rounds):
            deep.append(reads(client, "d64", pages))
            flat.append(reads(client, "main", pages))
        ratio = min(deep) / min(flat)
        t.note(f"a page at depth 64: {min(deep):.0f} us, of main {min(flat):.0f} us, {ratio:.2f}x (least of {rounds} "
               f"rounds of {pages} pages)")
        began = time.monotonic()
        for n in range(count):
            tell(client, f"shop b{n}")
            client.stdout.readline()
        made = time.monotonic() - began
        many = [reads(client, "main", pages) for _ in range(rounds)]
        slower = min(many) / min(flat)
        t.note(f"{count} branches more, made in {made:.1f} s ({count / made:.0f}/s, one after the other); a page of "
               f"main: {min(many):.0f} us, {slower:.2f}x")
        if t.slow():
            check(ratio <= 1.5, f"a read at depth 64 takes {ratio:.2f}x")
            check(slower <= 1.1, f"{count} branches make a read of main take {slower:.2f}x")
        client.stdin.close()
        check(client.wait(10) == 0, "the client of branches failed")


@test("60 small databases (200 with --slow: at rest a safekeeper has closed those that nobody uses); after kill -9 of "
      "everything each is there, and a statement is done within 5 s", 120)
def many_databases(t):
    import many
    n = 200 if t.slow() else 60
    with t.cluster() as c:
        seconds = many.make(c, n)
        t.note(f"{n} made, {n / seconds:.0f} a second")
        until(lambda: all(c.metrics(node)["corallite_safekeeper_open_timelines"] <= 128 for node in NODES), 30,
              "what nobody uses is closed")
        t.note(many.told(many.state(c)))
        opened = many.use(c, n)
        c.kill9_everything()
        for db in opened:
            db.close()
        up, done = many.start(c, n)
        t.note(f"after kill -9 ready within {up:.2f} s, a statement done after {done:.2f} s")
        check(done <= 5 * SLOWER, f"a statement was done only after {done:.1f} s")
        for k in range(n):
            db = c.connect(f"db{k}", timeout=30)
            rows = db.execute("SELECT count(*), min(y) FROM t WHERE y <> 'again'").fetchone()
            check(rows == (1, f"of database {k}"), f"db{k} has {rows}")
            again = db.execute("SELECT count(*) FROM t WHERE y = 'again'").fetchone()[0]
            check(again == (k in many.used(n)), f"db{k} has {again} rows more")
            db.close()


class Names:
    """What has been acknowledged of one database and its branches: rows of each, by what they are called."""

    def __init__(self, c, db):
        self.c, self.db, self.rows = c, db, {}

    def command(self, *args):
        return corallite(self.c, *args, ok=False, timeout=60).returncode == 0

    def insert(self, branch, row):
        name = self.db if branch == "main" else f"{self.db}/{branch}"
        done = self.c.shell(f"CREATE TABLE IF NOT EXISTS t(x); INSERT INTO t VALUES({row});", db=name, ok=False)
        return done.returncode == 0

    def have(self, branch):
        """The rows of a branch, or None: there is no such branch."""
        name = self.db if branch == "main" else f"{self.db}/{branch}"
        done = self.c.shell("SELECT x FROM t ORDER BY x;", db=name, ok=False, mode="ro")
        if done.returncode == 0:
            return [int(x) for x in done.stdout.split()]
        check(re.search("there is no|was dropped|does not exist|no such|unknown|not known|no branch|no database", done.stderr),
              f"{name}: {done.stderr.strip()[-300:]}")
        return None


def life_of_names(n, k):
    """Steps: (what is done, what holds afterwards); each may be repeated until it is acknowledged."""
    yield "create and write", lambda: n.insert("main", k), {"main": {k}}
    yield "branch create", lambda: n.command("branch", "create", f"{n.db}/b"), {"main": {k}, "b": {k}}
    yield "write to the branch", lambda: n.insert("b", k + 1), {"main": {k}, "b": {k, k + 1}}
    yield "restore", lambda: n.command("restore", n.db, "--to", f"{n.db}/b", "--keep-as", "before", "--yes"), \
        {"main": {k, k + 1}, "b": {k, k + 1}, "before": {k}}
    yield "branch drop", lambda: n.command("branch", "drop", f"{n.db}/b", "--yes"), \
        {"main": {k, k + 1}, "b": None, "before": {k}}
    yield "drop and purge", lambda: n.command("db", "drop", n.db, "--purge", "--yes"), \
        {"main": None, "b": None, "before": None}


@test("kill -9 of the pageserver or a safekeeper (or SIGTERM) within create, write, branch, restore, drop and purge: what was "
      "acknowledged holds after everything is back, and what was not can be asked for again; 6 kills, 90 with --slow", 900)
def killed_while_names_change(t):
    rng = random.Random(os.environ.get("KILL_SEED", time.time_ns()))
    rounds, kills, failed = (15 if t.slow() else 1), 0, 0
    with t.cluster() as c:
        for r in range(rounds):
            n = Names(c, f"life{r}")
            for what, step, after in life_of_names(n, 10 * r):
                node = rng.choice((PAGESERVER, PAGESERVER) + tuple(NODES))
                clean = rng.random() < 0.25
                result = []
                worker = threading.Thread(target=lambda: result.append(step()))
                worker.start()
                time.sleep(rng.random() * 0.12)
                if clean:
                    c.stop(node, 20)
                else:
                    c.kill9(node)
                kills += 1
                time.sleep(rng.random() * (0.1 if node == PAGESERVER else 1.0))
                c.start(node)
                worker.join(90)  # a purge waits until the files are gone everywhere
                check(not worker.is_alive() and result, f"{what} did not end")
                until(lambda: many_ready(c), 20, "everything is back")
                if not result[0]:
                    failed += 1
                    until(lambda: step() or settled(n, after), 60, f"{what} can be asked for again")
                for branch, rows in after.items():
                    have = n.have(branch)
                    check((None if have is None else set(have)) == rows,
                          f"after '{what}' with {node} {'stopped' if clean else 'killed'}: {branch} has {have}, not {rows}")
        t.note(f"{kills} kills and stops, {failed} steps were not acknowledged and then repeated")


def settled(n, after):
    """It was done although it was not acknowledged."""
    return all((None if have is None else set(have)) == rows
               for have, rows in ((n.have(branch), rows) for branch, rows in after.items()))


def many_ready(c):
    import many
    return all(many.ready(c, node) for node in NODES + (PAGESERVER,))
