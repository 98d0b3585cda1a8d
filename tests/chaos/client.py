#!/usr/bin/python3
"""client.py KIND NUMBER DIRECTORY SEED BEGAN [WINDOW] - one client: a stock SQLite that writes, or reads, until SIGTERM.

A transaction of a writer takes some of these, all within one BEGIN: a transfer between two accounts (bank), appends to
lists and looks at them (append), additions to sets (set; always one, so that the end shows whether the transaction is
there). Readers look at accounts, lists and sets of now and a little ago. What happens goes to DIRECTORY/NUMBER.jsonl in
the form of history.py, a line a write, which a kill -9 cannot take back. Keys are those of the WINDOW (1 s) in which
they are used, counted from BEGAN (CLOCK_MONOTONIC, ns), so that no list grows for ever.

KIND is writer (and a thread that only reads beside it, which while the writer has the lease asks nobody), reader, or stale-reader (staleness=STALE_MS). CORALLITE_SERVER says where, CHAOS_DB which database.
"""

import json
import os
import random
import re
import signal
import sqlite3
import sys
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "integration")]

from lib import cluster  # noqa: E402
import history  # noqa: E402
from board import Board  # noqa: E402

DB = os.environ.get("CHAOS_DB", "chaos")
ACCOUNTS, EACH = 12, 1000
LISTS, SETS = 10, 12  # of one window
STALE_MS = 500
COMMIT_TIMEOUTS = ("300ms", "1s", "3s")
BUSY_S = 2.0
BESIDE = 30000  # the number of a writer's own reader is so much higher
# A damaged database, a wrong use of the library, a row that was not to be: no fault of ours explains these.
NEVER = ("CORRUPT", "NOTADB", "INTERNAL", "MISUSE", "PROTOCOL", "CONSTRAINT", "ERROR")

SCHEMA = ("CREATE TABLE account(id INTEGER PRIMARY KEY, balance INT, n INT, last INT, pad TEXT)",
          "CREATE TABLE list(k INTEGER PRIMARY KEY, v TEXT)",
          "CREATE TABLE member(id INTEGER PRIMARY KEY, k INT, v INT, pad BLOB)",
          "CREATE INDEX member_k ON member(k, v)",
          f"WITH RECURSIVE i(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM i WHERE x < {ACCOUNTS - 1}) "
          f"INSERT INTO account SELECT x, {EACH}, 0, 0, printf('%0300d', x) FROM i")


def read_list(db, key):
    row = db.execute("SELECT v FROM list WHERE k = ?", (key,)).fetchone()
    return ["r", key, [int(v) for v in row[0].split(",")] if row else []]


def read_set(db, key):
    return ["sr", key, [v for v, in db.execute("SELECT v FROM member WHERE k = ? ORDER BY v", (key,))]]


def read_accounts(db):
    return [["br", *row] for row in db.execute("SELECT id, n, balance, last FROM account ORDER BY id")]


class Client:
    stale_ms = 0

    def __init__(self, number, directory, seed, began, window_s):
        self.number, self.began, self.window_ns = number, began, int(window_s * 1e9)
        self.random = random.Random(f"{seed} {number}")
        self.out = os.open(os.path.join(directory, f"{number}.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.board = Board(os.path.join(directory, "board"))
        self.db, self.connection, self.n = None, 0, 0
        self.words = None
        self.pending, self.asked = [], 0.0  # commit ids whose outcome is not known; when we last asked
        self.going = True

    def sentence(self):
        """Behind the last failure of this thread, on a connection of its own."""
        if not self.words:
            self.words = sqlite3.connect(":memory:")
        return self.words.execute("SELECT corallite_last_error()").fetchone()[0] or ""

    def say(self, kind, **fields):
        event = {"e": kind, "c": self.number, **fields}
        os.write(self.out, (json.dumps(event, separators=(",", ":")) + "\n").encode())

    def error(self, e):
        code = getattr(e, "sqlite_errorname", type(e).__name__)
        text = " ".join(self.sentence().split()) if code.startswith("SQLITE_") else ""
        self.say("error", t=time.monotonic_ns(), code=code, text=f"{e}: {text}"[:300])
        if code.split("_")[1:2] and code.split("_")[1] in NEVER:
            self.say("never", t=time.monotonic_ns(), text=f"client {self.number} was told {code}: {e}: {text[:300]}")

    def connect(self):
        if self.db and self.random.random() < 0.01:
            self.db.close()
            self.db = None
        if not self.db:
            stale = f"&staleness={self.stale_ms}" if self.stale_ms else ""
            self.db = sqlite3.connect(f"file:{DB}?vfs=corallite&commit_timeout={self.random.choice(COMMIT_TIMEOUTS)}{stale}", uri=True,
                                      isolation_level=None, timeout=BUSY_S)
            self.connection += 1

    def key(self, of_one_window):
        """One of the present window, or now and then of the one before."""
        window = max(0, (time.monotonic_ns() - self.began) // self.window_ns - (self.random.random() < 0.2))
        return window * of_one_window + self.random.randrange(of_one_window)

    def ask(self):
        """What became of commits whose outcome was unknown: until there is an answer."""
        if not self.pending or time.monotonic() - self.asked < 0.2:
            return
        self.asked = time.monotonic()
        for n, commit in list(self.pending):
            answer, = self.db.execute("SELECT corallite_commit_status(?)", (commit,)).fetchone()
            self.say("status", n=n, id=commit, t=time.monotonic_ns(), answer=answer)
            if answer != "unknown":
                self.pending.remove((n, commit))

    def guarded(self):
        """A client that ends by itself ends the process, which the nemesis notices."""
        try:
            self.forever()
        except BaseException:  # noqa: B902
            traceback.print_exc()
            os._exit(1)

    def forever(self):
        while self.going:
            try:
                self.connect()
                self.ask()
                self.n += 1
                self.once(time.monotonic_ns())
            except sqlite3.Error as e:
                self.error(e)
                time.sleep(0.02)
            try:
                if self.db and self.db.in_transaction:
                    self.db.execute("ROLLBACK")
            except sqlite3.Error as e:
                self.error(e)


class Writer(Client):
    def once(self, begin):
        r, db = self.random, self.db
        me, ops, values = history.uid(self.number, self.n), [], 0
        db.execute(r.choice(("BEGIN IMMEDIATE", "BEGIN IMMEDIATE", "BEGIN")))
        work = {w for w in ("bank", "append", "look") if r.random() < 0.45}
        if "look" in work:
            ops.append(read_set(db, self.key(SETS)))
            ops.append(read_list(db, self.key(LISTS)))
        if "bank" in work:
            self.transfer(ops, me)
        for _ in range(r.randint(1, 3) if "append" in work else 0):
            key, value = self.key(LISTS), me * 8 + values
            values += 1
            if r.random() < 0.5:
                ops.append(read_list(db, key))
            db.execute("INSERT INTO list VALUES(?1, ?2) ON CONFLICT DO UPDATE SET v = v || ',' || ?2", (key, str(value)))
            ops.append(["a", key, value])
            if r.random() < 0.2:
                ops.append(read_list(db, key))
        if r.random() < 0.05:
            db.execute("SAVEPOINT s")
            db.execute("UPDATE account SET balance = 0, n = n + 1, last = 1")
            db.execute("ROLLBACK TO s")
        if r.random() < 0.01:
            time.sleep(r.random() * 0.2)
        key = self.key(SETS)
        db.execute("INSERT INTO member(k, v, pad) VALUES(?, ?, zeroblob(?))",
                   (key, me * 8 + values, r.choice((0, 0, 100, 5000))))
        ops.append(["sa", key, me * 8 + values])
        self.say("invoke", n=self.n, k=self.connection, t=begin, ops=ops)
        self.board.committing(self.number, True)
        try:
            db.execute("COMMIT")
        except sqlite3.Error as e:
            self.failed(e, time.monotonic_ns())
            self.board.committing(self.number, False)
            return
        self.say("ok", n=self.n, t=time.monotonic_ns())
        self.board.succeeded(self.number, begin)

    def transfer(self, ops, me):
        source, target = self.random.sample(range(ACCOUNTS), 2)
        for account, amount in ((source, -1), (target, 1)):
            n, balance, last = self.db.execute("SELECT n, balance, last FROM account WHERE id = ?",
                                               (account,)).fetchone()
            ops.append(["br", account, n, balance, last])
            ops.append(["bw", account, n + 1, balance + amount])
            self.db.execute("UPDATE account SET balance = ?, n = ?, last = ? WHERE id = ?",
                            (balance + amount, n + 1, me, account))

    def failed(self, e, now):
        code, text = e.sqlite_errorname, self.sentence()
        if code in ("SQLITE_IOERR_WRITE", "SQLITE_FULL", "SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT"):
            self.say("fail", n=self.n, t=now, why=code)
        elif code == "SQLITE_IOERR_FSYNC":
            found = re.search(r"corallite_commit_status\('(\d+:[0-9a-f]{16})'\)", text)
            self.say("unknown", n=self.n, t=now, id=found[1] if found else "none")
            if found:
                self.pending.append((self.n, found[1]))
                self.asked = 0.0
            else:
                self.say("never", t=now, text=f"unknown without a commit id: {text[:300]}")
        else:
            self.say("never", t=now, text=f"COMMIT answered {code}: {e}: {text[:300]}")
        self.error(e)


class Reader(Client):
    def once(self, begin):
        r, db, ops = self.random, self.db, []
        db.execute("BEGIN")
        if r.random() < 0.6:
            ops += read_accounts(db)
        for _ in range(r.randint(1, 3)):
            ops.append(read_list(db, self.key(LISTS)))
            if r.random() < 0.5:
                ops.append(read_set(db, self.key(SETS)))
        if r.random() < 0.1:
            time.sleep(r.random() * 0.1)
            ops += read_accounts(db)
        db.execute("COMMIT")
        stale = {"stale_ms": self.stale_ms} if self.stale_ms else {}
        self.say("read", n=self.n, k=self.connection, t=begin, end=time.monotonic_ns(), ops=ops, **stale)
        self.board.succeeded(self.number, begin)
        time.sleep(0.01)


class StaleReader(Reader):
    stale_ms = STALE_MS


def main(kind, number, directory, seed, began, window="1"):
    cluster.load_extension()
    make = {"writer": Writer, "reader": Reader, "stale-reader": StaleReader}[kind]
    clients = [make(int(number), directory, seed, int(began), float(window))]
    if kind == "writer":
        clients.append(Reader(int(number) + BESIDE, directory, seed, int(began), float(window)))

    def stop(*_):
        for c in clients:
            c.going = False

    signal.signal(signal.SIGTERM, stop)
    threads = [threading.Thread(target=c.guarded) for c in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # the kernel may give SIGTERM to another thread, and this one would not wake for it


if __name__ == "__main__":
    main(*sys.argv[1:])
