"""The SQL surface: what docs/sql.md lists is what the code registers, both ways; each counter moves."""

import glob
import os
import re
import signal
import sqlite3
import threading
import time

from lib import ROOT, check, last_error, matches, page, test, until


def section(title):
    return re.split(r"^#+ " + re.escape(title) + "$", page("sql.md"), flags=re.M)[1].split("\n#")[0]


def names_in(text, pattern):
    return {n for cell in re.findall(pattern, text, re.M) for n in re.findall(r"`([^`]+)`", cell)}


def compare(what, documented, there):
    check(f"{what}: docs/sql.md and the code", documented == there and there, f"differ in {documented ^ there}")


def lines(db, pragma):
    return dict(line.split("=", 1) for line in db.execute(f"PRAGMA {pragma}").fetchone()[0].split("\n"))


@test
def lists_as_documented(room):
    text = page("sql.md")
    db = room.connect("shop")
    for bad, pattern, documented in (
            ("PRAGMA corallite_nonsense", "known are (.*)", names_in(section("PRAGMAs"), r"^\| (`corallite_\w+`) \|")),):
        try:
            db.execute(bad)
            check("an unknown PRAGMA is an error", False)
        except sqlite3.OperationalError as why:
            compare("PRAGMAs", documented, set(re.search(pattern, str(why))[1].split(", ")))
    try:
        room.connect("shop", nonsense=1)
        check("an unknown parameter is an error", False)
    except sqlite3.OperationalError:
        there = set(re.search("known are: (.*)", last_error())[1].split(", "))
        cells = names_in(section("Opening"), r"^\| (`[a-z].*?) \| ")
        compare("parameters of the URI", {c.split("=")[0] for c in cells}, there)
    functions = {r[0] for r in db.execute("SELECT name FROM pragma_function_list WHERE name LIKE 'corallite%'")}
    compare("functions", {n.split("(")[0] for n in names_in(section("Functions"), r"^\| (`.*?`) \|")}, functions)
    modules = {r[0] for r in db.execute("SELECT name FROM pragma_module_list WHERE name LIKE 'corallite%'")}
    tables = section("Tables")
    compare("tables", set(re.findall(r"^`(corallite_\w+) ", tables, re.M)), modules)
    for module in modules:
        columns = {r[1] for r in db.execute(f"SELECT * FROM pragma_table_xinfo('{module}')")}
        paragraph = re.search(rf"^`{module} .*?\n\n", tables, re.M | re.S)[0]
        named = set(re.findall(r"`([a-z_]+)`", paragraph))
        check(f"columns of {module} are told", columns <= named, str(columns - named))
    compare("lines of corallite_stats", names_in(section("Lines of corallite_stats"), r"^\| (`.*?) \| "),
            {re.sub(r"_\d_", "_N_", n) for n in lines(db, "corallite_stats")})
    status = room.connect("shop", at="latest")
    told = set(lines(status, "corallite_status")) - set(lines(db, "corallite_stats"))
    of_page = {n for n in re.findall(r"`(\w+)`", section("Lines of corallite_status"))}
    compare("lines of corallite_status", of_page - {"writer", "reader", "corallite_lsn"}, told)
    in_code = set()
    for file in glob.glob(os.path.join(ROOT, "compute-vfs", "*.c")):
        with open(file) as f:
            in_code |= set(re.findall(r'"(CORALLITE_[A-Z_]+)"', f.read()))
    compare("environment", set(re.findall(r"^\|.*?`(CORALLITE_[A-Z_]+)`", text, re.M)) |
            set(re.findall(r"\| `(CORALLITE_[A-Z_]+)` \|", text)), in_code)
    db.close()
    status.close()


@test
def databases_shows_the_identity(room):
    matches(".databases", "^main: corallite:shop/main r/w$", room.sql("shop", ".databases"))
    matches(".databases at a moment", r"^main: corallite:shop/main@[0-9a-f]{16} r/o$", room.sql("shop@latest", ".databases"))
    matches(".databases of a branch", "^main: corallite:shop/side r/w$", room.sql("shop/side", ".databases"))


@test
def settings_of_a_connection(room):
    check("environment", room.sql("shop", "PRAGMA corallite_staleness; PRAGMA corallite_durability;"
                                  "PRAGMA corallite_commit_timeout", CORALLITE_STALENESS="2s",
                                  CORALLITE_DURABILITY="off", CORALLITE_COMMIT_TIMEOUT="7s") == "2000\noff\n7000")
    check("page size", room.sql("pages", "CREATE TABLE t(a); PRAGMA page_size", CORALLITE_PAGE_SIZE="1024") == "1024")
    for name, value, pattern in (("PAGE_SIZE", "1000", "power of two"), ("STALENESS", "soon", "not a duration"),
                                 ("DURABILITY", "much", "not one of full"), ("CACHE_MB", "0", "number from"),
                                 ("CREATE", "maybe", "neither 1 nor 0"), ("COMMIT_TIMEOUT", "-1", "not a duration"),
                                 ("SERVER", "x", ".")):
        done = room.run("sql", "shop", "SELECT 1", **{"CORALLITE_" + name: value, "CORALLITE_DIR": room.cluster}
                        if name == "SERVER" else {"CORALLITE_" + name: value})
        check(f"CORALLITE_{name}={value} is refused", done.returncode != 0 and done.stdout == "", done.stdout)
        matches(f"CORALLITE_{name}={value}: a sentence", pattern, done.stderr)
    done = room.run("sql", "nowhere", "CREATE TABLE t(a)", CORALLITE_CREATE="0")
    check("CORALLITE_CREATE=0", done.returncode == 1 and "may not create it" in done.stderr, done.stderr)
    db = room.connect("shop", staleness=0)
    one = lambda sql: db.execute(sql).fetchone()[0]  # noqa: E731
    check("staleness is set", one("PRAGMA corallite_staleness = '3s'") == "3000")
    check("durability is set", one("PRAGMA corallite_durability = normal") == "normal")
    lsn = one("PRAGMA corallite_lsn")
    check("wait for what is there", one(f"PRAGMA corallite_wait = '{lsn}'") == lsn)
    for sql in ("PRAGMA corallite_durability = much", "PRAGMA corallite_staleness = soon", "PRAGMA corallite_wait",
                "PRAGMA corallite_wait = nonsense", "PRAGMA corallite_stats = often",
                "SELECT corallite_wait('ffffffffffffff00', 50)", "SELECT corallite_commit_status('x')"):
        try:
            db.execute(sql).fetchone()
            check(f"{sql} is refused", False)
        except sqlite3.OperationalError as why:
            check(f"{sql}: a sentence", len(str(why)) > 20, str(why))
    db.close()


@test
def staleness_of_a_connection(room):
    """The PRAGMA does what the parameter does: reads within it ask nobody."""
    there, server = room.connect("stale"), os.environ["CORALLITE_SERVER"]
    there.execute("CREATE TABLE t(a)")
    other = room.connect("stale", server="localhost:" + server.split(":")[1])  # a compute of its own
    other.execute("SELECT count(*) FROM t").fetchone()
    other.execute("PRAGMA corallite_staleness = '1h'")
    before = int(lines(other, "corallite_stats")["positions_asked"])
    for i in range(5):
        there.execute("INSERT INTO t VALUES (1)")
        other.execute("SELECT count(*) FROM t").fetchone()
    check("no position was asked for", int(lines(other, "corallite_stats")["positions_asked"]) == before)
    other.execute("PRAGMA corallite_staleness = 0")
    check("strict again", other.execute("SELECT count(*) FROM t").fetchone()[0] == 5)
    check("which asked", int(lines(other, "corallite_stats")["positions_asked"]) > before)
    there.close()
    other.close()


@test
def each_counter_moves(room):
    server = os.environ["CORALLITE_SERVER"]
    a, b = room.connect("count", cache_mb=1), room.connect("count")
    far = room.connect("count", server="localhost:" + server.split(":")[1], cache_mb=1)
    moved = set()

    def stats(db):
        return {k: int(v) for k, v in lines(db, "corallite_stats").items()}

    def moves(what, db, act, *names):
        before = stats(db)
        act()
        after = stats(db)
        for name in names:
            moved.add(name)
            check(f"{what} moves {name}", after.get(name, 0) > before.get(name, 0),
                  f"{before.get(name)} -> {after.get(name)}")

    def fill():
        a.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
        a.execute("WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 700) "
                  "INSERT INTO t SELECT x, randomblob(3000) FROM i")

    moves("the first commit", a, fill, "commits", "read_transactions", "log_records", "log_elections", "log_bytes_in",
          "waits_for_commit", "waited_for_commit_us", "waits_for_lease", "waited_for_lease_us", "safekeepers_connected",
          "safekeeper_1_bytes_out", "safekeeper_2_bytes_out", "safekeeper_3_bytes_out", "pageserver_round_trips",
          "pageserver_bytes_in", "pageserver_bytes_out", "cache_pages", "cache_bytes")
    moves("a first look from afar", far, lambda: far.execute("SELECT count(b) FROM t").fetchone(), "positions_asked",
          "waits_for_position", "waited_for_position_us", "waits_for_pages", "waited_for_pages_us", "cache_misses",
          "cache_evicted", "pageserver_pages", "read_transactions")
    a.execute("UPDATE t SET b = 1 WHERE a = 1")
    moves("a look after somebody's commit", far, lambda: far.execute("SELECT b FROM t WHERE a = 1").fetchone(),
          "records_followed")
    moves("a page that is there", a, lambda: b.execute("SELECT b FROM t WHERE a = 1").fetchone(), "cache_hits")
    a.execute("UPDATE t SET b = randomblob(3000)")  # more than comes along with a position
    moves("a look after a large one", far, lambda: far.execute("SELECT b FROM t WHERE a = 1").fetchone(),
          "gaps_closed", "waits_for_changes", "waited_for_changes_us")

    kept = room.connect("kept", cache_mb=1, cache_dir=os.path.join(room.dir, "pages"))
    kept.execute("PRAGMA cache_size = 10")
    kept.execute("CREATE TABLE t(b)")
    kept.execute("WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 700) "
                 "INSERT INTO t SELECT randomblob(3000) FROM i")

    def look_twice():
        for _ in range(2):
            kept.execute("SELECT count(b) FROM t").fetchone()

    moves("a table that is larger than the cache, read twice", kept, look_twice, "disk_misses", "disk_bytes_written",
          "disk_hits", "disk_bytes_read")
    kept.close()

    def take_turns():
        a.execute("BEGIN IMMEDIATE")
        waiting = threading.Thread(target=lambda: b.execute("UPDATE t SET b = 2 WHERE a = 2"))
        waiting.start()
        time.sleep(0.3)  # it is refused, and comes again
        a.execute("COMMIT")
        waiting.join()

    moves("a writer that waits for another", a, take_turns, "waits_for_turn", "waited_for_turn_us")
    up = room.json("up")
    slow = room.connect("slow", lag_mb=4)
    slow.execute("CREATE TABLE t(b)")
    pageserver = next(d["pid"] for d in up["daemons"] if d["name"] == "pageserver")

    def megabytes(n):
        for _ in range(n):
            slow.execute("INSERT INTO t VALUES (randomblob(1000000))")

    def behind():
        os.kill(pageserver, signal.SIGSTOP)
        try:
            megabytes(3)
        finally:
            slowed.update(stats(slow))
            os.kill(pageserver, signal.SIGCONT)

    def rate_seen():
        """It is asked while it has something to make up for: it is let go on when it is."""
        os.kill(pageserver, signal.SIGSTOP)
        try:
            megabytes(2)
        finally:
            os.kill(pageserver, signal.SIGCONT)
        time.sleep(0.2)
        return stats(slow)["pageserver_bytes_per_s"] > 0

    slowed = {}
    until(rate_seen, 20, "the pageserver's rate was seen")
    moves("a pageserver that is behind", slow, behind, "waits_for_ingest", "waited_for_ingest_us")
    for name in ("pageserver_lag_bytes", "pageserver_bytes_per_s", "commits_slowed"):
        moved.add(name)
        check(f"a pageserver that is behind moves {name}", slowed[name] > 0, str(slowed))
    slow.close()
    pids = [d["pid"] for d in up["daemons"] if d["name"] in ("safekeeper-1", "safekeeper-2")]

    def in_flight():
        a.execute("PRAGMA synchronous = OFF")
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        a.execute("UPDATE t SET b = 3 WHERE a = 3")

    try:
        moves("a commit that nobody has acknowledged", a, in_flight, "inflight_bytes")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    until(lambda: stats(a)["inflight_bytes"] == 0, 20, "it is acknowledged")
    check("each line of corallite_stats was moved", set(stats(a)) == moved, str(set(stats(a)) ^ moved))
    gauges = {"inflight_bytes", "cache_pages", "cache_bytes", "safekeepers_connected",
              "pageserver_lag_bytes", "pageserver_bytes_per_s", "commits_slowed"}
    a.execute("PRAGMA corallite_stats = reset")
    left = {k: v for k, v in stats(b).items() if k not in gauges and v > 1000}
    check("a reset begins again", not left, str(left))
    check("and leaves gauges", stats(a)["safekeepers_connected"] == 3 and stats(a)["cache_pages"] > 0)
    for db in (a, b, far):
        db.close()


def failure(db, sql):
    """(name of the code, sentence) of a statement that must fail."""
    try:
        db.execute(sql).fetchone()
    except sqlite3.OperationalError as why:
        return why.sqlite_errorname, f"{why}: {last_error()}"
    return "SQLITE_OK", ""


@test
def a_branch_goes_away_under_a_connection(room):
    """The table of docs/sql.md, row by row."""
    def branch(name):
        room.ok("branch", "create", f"away/{name}")
        db = room.connect(f"away/{name}")
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO t VALUES (2)")
        idle = room.connect(f"away/{name}")
        check(f"{name}: it reads", idle.execute("SELECT count(*) FROM t").fetchone()[0] == 1)
        return db, idle

    room.sql("away", "CREATE TABLE t(a); INSERT INTO t VALUES (1)")
    lsn = room.json("log", "away", "-n", "1")[0]["lsn"]
    room.sql("away", "INSERT INTO t VALUES (9); DELETE FROM t WHERE a = 9")

    db, idle = branch("dropped")
    room.ok("branch", "drop", "away/dropped", "--yes")
    begin = time.monotonic()
    code, words = failure(db, "COMMIT")
    check("dropped: COMMIT surely fails", code == "SQLITE_IOERR_WRITE" and "dropped" in words, f"{code} {words}")
    check("dropped: at once", time.monotonic() - begin < 10)
    for what, sql in (("read", "SELECT * FROM t"), ("write", "INSERT INTO t VALUES (3)")):
        code, words = failure(idle, sql)
        check(f"dropped: the next {what} fails", code.startswith("SQLITE_IOERR") and "was dropped" in words, f"{code} {words}")
    db.close()
    idle.close()

    room.ok("branch", "create", "away/restored")
    db, idle = room.connect("away/restored"), room.connect("away/restored")
    db.execute("INSERT INTO t VALUES (2)")
    check("restored: two rows", idle.execute("SELECT count(*) FROM t").fetchone()[0] == 2)
    room.ok("restore", "away/restored", "--to", f"lsn:{lsn}", "--keep-as", "kept", "--yes")
    check("restored: reads go on", idle.execute("SELECT count(*) FROM t").fetchone()[0] == 2)
    for _ in range(2):
        code, words = failure(db, "INSERT INTO t VALUES (3)")
    check("restored: writes are SQLITE_READONLY", code.startswith("SQLITE_READONLY") and "branch was reset, reopen" in words,
          f"{code} {words}")
    check("restored: opened again it is the moment", room.sql("away/restored", "SELECT count(*) FROM t") == "1")
    check("restored: the kept one has what was there", room.sql("away/kept", "SELECT count(*) FROM t") == "2")
    db.close()
    idle.close()

    db, idle = branch("old")
    room.ok("branch", "rename", "away/old", "new")
    db.execute("COMMIT")
    check("renamed: its COMMIT is there", room.sql("away/new", "SELECT count(*) FROM t") == "2")
    check("renamed: reads go on", idle.execute("SELECT count(*) FROM t").fetchone()[0] == 2)
    idle.execute("INSERT INTO t VALUES (3)")
    check("renamed: writes go on", room.sql("away/new", "SELECT count(*) FROM t") == "3")
    db.close()
    idle.close()
