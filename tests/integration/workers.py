"""Processes of the tests: workers.py NAME ARGS... They open the cluster of CORALLITE_SERVER."""

import json
import os
import random
import signal
import sqlite3
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import cluster  # noqa: E402


def connect(db="shop", timeout=10.0, **parameters):
    cluster.load_extension()
    extra = "".join(f"&{k}={v}" for k, v in parameters.items())
    return sqlite3.connect(f"file:{db}?vfs=corallite{extra}", uri=True, isolation_level=None,
                           timeout=timeout)


def say(*words):
    print(*words, flush=True)


def commit_on_demand(commit_timeout=""):
    """`begin ROW` opens a transaction and inserts, `commit` commits it, `ROW` does both, `?` lists the
    rows, `status ID` tells the outcome. Answers `ok`, or `error CODE SENTENCE`."""
    db = connect(**({"commit_timeout": commit_timeout} if commit_timeout else {}))
    say("open")
    for line in sys.stdin:
        value = line.strip()
        try:
            if value == "?":
                say("rows", " ".join(r[0] for r in db.execute("SELECT a FROM t ORDER BY rowid")))
                continue
            if value.startswith("status "):
                say(db.execute("SELECT corallite_commit_status(?)", (value[7:],)).fetchone()[0])
                continue
            if value.startswith("begin "):
                db.execute("BEGIN IMMEDIATE")
                value = value[6:]
            if value == "commit":
                db.execute("COMMIT")
            else:
                db.execute("INSERT INTO t VALUES(?)", (value,))
            say("ok")
        except sqlite3.Error as e:
            say("error", e.sqlite_errorname, " ".join(cluster.last_error().split()))


def commit_without_a_failure(name):
    """Commits as fast as it can until its input ends; `?` asks how many. A failure ends it."""
    import threading
    db = connect(timeout=60.0)
    done, longest, over = 0, 0.0, threading.Event()

    def listen():
        for _ in sys.stdin:
            say(done)
        over.set()

    say("open")
    threading.Thread(target=listen, daemon=True).start()
    try:
        while not over.is_set():
            began = time.monotonic()
            db.execute("INSERT INTO t(a, b) VALUES(?, ?)", (name, done))
            longest = max(longest, time.monotonic() - began)
            done += 1
        say("done", done, longest)
    except sqlite3.Error as e:
        say("error", e.sqlite_errorname, " ".join(cluster.last_error().split()))


def kept_pages(directory, kind):
    """Writes two tables alike, or looks whether they are; with pages in `directory`, opened anew now and then. At the end
    of its input: `right ROUNDS HITS`, or what was wrong."""
    import threading
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
    rounds, hits, wrong, db = 0, 0, "", None
    say("open")
    while not over.is_set() and not wrong:
        if not db:
            db = connect(timeout=60.0, cache_dir=directory, cache_mb=1)
            db.execute("PRAGMA cache_size = 20")
        if kind == "write":
            n = random.randrange(1, 3000)
            db.execute("BEGIN IMMEDIATE")
            for table in "tu":
                db.execute(f"UPDATE {table} SET v = v + 1, pad = zeroblob(?) WHERE id BETWEEN ? AND ?", (n, n, n + 9))
            db.execute("COMMIT")
        else:
            found = db.execute("SELECT (SELECT sum(v * id + length(pad)) FROM t) - (SELECT sum(v * id + length(pad)) FROM u)").fetchone()
            wrong = "" if found[0] == 0 else f"wrong: {found[0]}"
        rounds += 1
        if rounds % 20 == 0 or over.is_set():
            stats = db.execute("PRAGMA corallite_stats").fetchone()[0].split()
            hits += sum(int(text[len("disk_hits="):]) for text in stats if text.startswith("disk_hits="))
            db.close()
            db = None
    say(wrong or f"right {rounds} {hits}")


def commit_on_demand_in(table):
    """Each line is a commit of one row of 65,000 bytes in column b."""
    db = connect()
    say("open")
    for _ in sys.stdin:
        try:
            db.execute(f"INSERT INTO {table}(b) VALUES(?)", (random.randbytes(65000),))
            say("ok")
        except sqlite3.Error as e:
            say("error", e.sqlite_errorname, " ".join(cluster.last_error().split()))


def peak_kib(pid="self"):
    """Largest resident memory so far."""
    with open(f"/proc/{pid}/status") as f:
        return next(int(l.split()[1]) for l in f if l.startswith("VmHWM:"))


def large(megabytes, mode="commit"):
    """`go`: one transaction of so many MiB that do not compress, in table big. Says before and after
    COMMIT: what it has, its peak memory. Mode `import`: rows are there before, all change."""
    n = int(megabytes)
    db = connect()
    db.execute("PRAGMA cache_size = -2048")
    db.execute("CREATE TABLE IF NOT EXISTS big(k INTEGER PRIMARY KEY, b BLOB)")
    db.execute("SELECT count(*) FROM big").fetchone()
    say("open", peak_kib())
    for line in sys.stdin:
        try:
            db.execute("BEGIN IMMEDIATE")
            for _ in range(n * 16):
                db.execute("INSERT INTO big(b) VALUES(?)", (random.randbytes(65000),))
            say("written", peak_kib())
            began = time.monotonic()
            db.execute("COMMIT")
            say("ok", peak_kib(), round(time.monotonic() - began, 3),
                db.execute("PRAGMA corallite_last_commit").fetchone()[0])
        except sqlite3.Error as e:
            say("error", e.sqlite_errorname, " ".join(cluster.last_error().split()))


def load(rows, batch):
    """Rows in transactions of `batch`; says how many are in after each."""
    rows, batch = int(rows), int(batch)
    db = connect()
    for first in range(0, rows, batch):
        db.execute("BEGIN")
        db.executemany("INSERT INTO big VALUES(?, ?)",
                       ((k, random.randbytes(40).hex()) for k in range(first, first + batch)))
        db.execute("COMMIT")
        say(first + batch)


def pairs():
    """Transactions of two rows each, numbered on from what is there, until killed. Says the first
    number, then each number after its COMMIT."""
    db = connect(timeout=20.0)
    db.execute("BEGIN IMMEDIATE")
    n = db.execute("SELECT coalesce(max(n), 0) + 1 FROM one").fetchone()[0]
    db.execute("ROLLBACK")
    say(n)
    while True:
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO one VALUES(?)", (n,))
        db.execute("INSERT INTO two VALUES(?, ?)", (n, "x" * (n % 3000)))
        db.execute("COMMIT")
        say(n)
        n += 1


def kill(pid, delay_us):
    """kill -9 after a while."""
    time.sleep(int(delay_us) / 1e6)
    os.kill(int(pid), signal.SIGKILL)


def insert_many(name, n):
    """n commits of one row."""
    db = connect(timeout=30.0)
    say("open")
    sys.stdin.readline()
    for i in range(int(n)):
        db.execute("INSERT INTO t VALUES(?, ?)", (name, i))
    say("done")


def point_query(key):
    """One row of the big table; then waits until it is told to end."""
    db = connect()
    say(db.execute("SELECT length(v) FROM big WHERE k = ?", (int(key),)).fetchone()[0])
    for name, value in stats(db).items():
        if name.startswith("pageserver_"):
            say(name, value)
    say(".")
    sys.stdin.readline()


def one_query(sql, parameters):
    """The first value of the answer, and how long it took from the open on, ms; then waits until it is told to end."""
    begun = time.monotonic()
    db = connect(timeout=60.0)
    value = db.execute(sql, json.loads(parameters)).fetchone()[0]
    say(value, (time.monotonic() - begun) * 1000)
    sys.stdin.readline()


def stats(db):
    text = "\n".join(r[0] for r in db.execute("PRAGMA corallite_stats"))
    return dict(line.split("=", 1) for line in text.splitlines())


def reader(staleness=""):
    """Answers each line: `look` with the newest n of t, `wait LSN` after corallite_wait, `asked` with the
    number of times that the log's end was asked for, `hold` and `end` around a read transaction."""
    db = connect(**({"staleness": staleness} if staleness else {}))
    db.execute("SELECT max(n) FROM t").fetchone()
    say("open")
    for line in sys.stdin:
        word = line.split()
        try:
            if word[0] == "look":
                say(db.execute("SELECT coalesce(max(n), 0) FROM t").fetchone()[0])
            elif word[0] == "wait":
                say(db.execute("SELECT corallite_wait(?, 5000)", (word[1],)).fetchone()[0])
            elif word[0] == "asked":
                say(stats(db)["positions_asked"])
            else:
                db.execute({"hold": "BEGIN", "end": "COMMIT"}[word[0]])
                say("ok")
        except sqlite3.Error as e:
            say("error", e.sqlite_errorname, " ".join(cluster.last_error().split()))


def count_up(synchronous):
    """Commits 1, 2, 3, ... into t until killed; says each number after its COMMIT."""
    db = connect(timeout=20.0)
    db.execute(f"PRAGMA synchronous={synchronous}")
    n = db.execute("SELECT coalesce(max(n), 0) FROM t").fetchone()[0]
    while True:
        n += 1
        db.execute("INSERT INTO t VALUES(?)", (n,))
        say(n)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
