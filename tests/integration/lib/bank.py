"""Clients of the chaos test. Each writer thread moves money between accounts and notes in the same
transaction that it was there; each reader sees that nothing is lost, partial or from the past.

What they learn goes line by line, in one write each, to a file that outlives them:
  S ID N          the transaction N of writer ID is about to be committed
  A ID N          COMMIT returned OK
  F ID N          COMMIT said that it is not in the database and never will be
  U ID N COMMIT   COMMIT said that nobody knows yet
  E WHO CODE TEXT any other error, after which they went on
  X TEXT          something that must never be
Shared memory tells readers at once what was acknowledged, and the test who makes progress.
"""

import mmap
import os
import random
import re
import sqlite3
import struct
import sys
import threading
import time

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from lib import cluster  # noqa: E402

ACCOUNTS, EACH = 60, 1000
SLOTS = 4096  # writers and readers ever
SLOT = struct.Struct("=qqd")  # newest acknowledged N, operations done, when the last one was done

SCHEMA = ("CREATE TABLE account(id INTEGER PRIMARY KEY, balance INT, pad TEXT)",
          "CREATE TABLE entry(who INT, n INT, source INT, target INT, amount INT, pad BLOB, "
          "PRIMARY KEY(who, n)) WITHOUT ROWID",
          "CREATE TABLE counter(who INTEGER PRIMARY KEY, n INT)",
          "CREATE INDEX by_amount ON entry(amount)",
          "WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < %d) "
          "INSERT INTO account SELECT x, %d, printf('%%0300d', x) FROM i" % (ACCOUNTS, EACH))


class Board:
    """The shared memory."""

    def __init__(self, path):
        with open(path, "a+b") as f:
            f.truncate(SLOTS * SLOT.size)
            self.map = mmap.mmap(f.fileno(), SLOTS * SLOT.size)

    def get(self, slot):
        return SLOT.unpack_from(self.map, slot * SLOT.size)

    def put(self, slot, acked, done):
        SLOT.pack_into(self.map, slot * SLOT.size, acked, done, time.monotonic())

    def acknowledged(self):
        """{writer: newest N}"""
        every = (self.get(i)[0] for i in range(SLOTS))
        return {i: n for i, n in enumerate(every) if n > 0}


class Client:
    def __init__(self, slot, board, out, timeout):
        self.slot, self.board, self.out, self.timeout = slot, board, out, timeout
        self.done = 0
        self.db = None
        self.random = random.Random()
        self.words = None  # a connection that only tells this thread's last sentence

    def sentence(self):
        if not self.words:
            self.words = sqlite3.connect(":memory:")
        return self.words.execute("SELECT corallite_last_error()").fetchone()[0] or ""

    def say(self, *words):
        os.write(self.out, (" ".join(map(str, words)) + "\n").encode())

    def error(self, e):
        code = getattr(e, "sqlite_errorname", type(e).__name__)
        text = " ".join(self.sentence().split()) if code.startswith("SQLITE_") else str(e)
        self.say("E", self.slot, code, text[:200])
        if code.split("_")[1] in ("CORRUPT", "NOTADB", "INTERNAL", "MISUSE", "PROTOCOL", "CONSTRAINT"):
            self.say("X", f"{type(self).__name__} {self.slot} was told {code}: {e}: {text[:300]}")

    def connect(self):
        if self.db and self.random.random() < 0.02:
            self.db.close()
            self.db = None
        if not self.db:
            self.db = sqlite3.connect(f"file:bank?vfs=corallite&commit_timeout={self.timeout}",
                                      uri=True, isolation_level=None, timeout=2.0,
                                      check_same_thread=False)

    def forever(self):
        while True:
            try:
                self.connect()
                self.once()
            except sqlite3.Error as e:
                self.error(e)
                time.sleep(0.02)
            try:
                if self.db and self.db.in_transaction:
                    self.db.execute("ROLLBACK")
            except sqlite3.Error as e:
                self.error(e)

    def guarded(self):
        try:
            self.forever()
        except BaseException as e:  # noqa: B902 - the test is to hear of it
            self.say("X", f"client {self.slot} ended: {type(e).__name__} {e}")


class Writer(Client):
    n = 0

    def once(self):
        r, db = self.random, self.db
        source, target = r.sample(range(1, ACCOUNTS + 1), 2)
        amount = r.randint(1, 50)
        self.n += 1
        db.execute(r.choice(("BEGIN IMMEDIATE", "BEGIN IMMEDIATE", "BEGIN")))
        db.execute("UPDATE account SET balance = balance - ? WHERE id = ?", (amount, source))
        if r.random() < 0.1:
            db.execute("SAVEPOINT s")
            db.execute("UPDATE account SET balance = 0")
            db.execute("ROLLBACK TO s")
        db.execute("INSERT INTO entry VALUES(?, ?, ?, ?, ?, zeroblob(?))",
                   (self.slot, self.n, source, target, amount, r.choice((0, 100, 3000))))
        db.execute("INSERT INTO counter VALUES(?1, ?2) ON CONFLICT DO UPDATE SET n = ?2",
                   (self.slot, self.n))
        if r.random() < 0.02:
            time.sleep(r.random() * 0.2)
        db.execute("UPDATE account SET balance = balance + ? WHERE id = ?", (amount, target))
        self.say("S", self.slot, self.n)
        try:
            db.execute("COMMIT")
        except sqlite3.Error as e:
            self.failed(e)
            return
        self.done += 1
        self.board.put(self.slot, self.n, self.done)
        self.say("A", self.slot, self.n)

    def failed(self, e):
        code = e.sqlite_errorname
        if code in ("SQLITE_IOERR_WRITE", "SQLITE_FULL"):
            self.say("F", self.slot, self.n)
        elif code == "SQLITE_IOERR_FSYNC":
            found = re.search(r"corallite_commit_status\('(\d+:[0-9a-f]{16})'\)",
                              self.sentence())
            if found:
                self.say("U", self.slot, self.n, found[1])
            else:
                self.say("X", f"unknown without a commit id: {self.sentence()}")
        elif code in ("SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT"):
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            self.say("F", self.slot, self.n)
        else:
            self.say("X", f"COMMIT answered {code}: {e}: {self.sentence()}")
        self.error(e)


class Reader(Client):
    def __init__(self, *args):
        super().__init__(*args)
        self.seen = {}

    def once(self):
        db = self.db
        acknowledged = self.board.acknowledged()
        db.execute("BEGIN")
        total, count = db.execute("SELECT sum(balance), count(*) FROM account").fetchone()
        if (total, count) != (ACCOUNTS * EACH, ACCOUNTS):
            self.say("X", f"reader {self.slot} saw the sum {total} of {count} accounts")
        counters = dict(db.execute("SELECT who, n FROM counter"))
        entries = dict(db.execute("SELECT who, max(n) FROM entry GROUP BY who"))
        if counters != entries:
            self.say("X", f"reader {self.slot} saw a partial commit: {counters} {entries}")
        for who, n in acknowledged.items():
            if counters.get(who, 0) < n:
                self.say("X", f"reader {self.slot} began after {who} was told of {n} and saw "
                              f"{counters.get(who, 0)}")
        for who, n in self.seen.items():
            if counters.get(who, 0) < n:
                self.say("X", f"reader {self.slot} saw {n} of {who} and later {counters.get(who)}")
        self.seen = counters
        if self.random.random() < 0.05:
            answer = " / ".join(r[0] for r in db.execute("PRAGMA integrity_check(5)"))
            if answer != "ok" and "error code=" not in answer:  # that is a read that failed
                answer = " ".join(answer.split())
                self.say("X", f"integrity_check of {self.slot} said: {answer}; {self.sentence()}")
        db.execute("COMMIT")
        self.done += 1
        self.board.put(self.slot, 0, self.done)
        time.sleep(0.005)


def main(kind, board, out, timeout, *slots):
    """Threads of one process, one a slot."""
    cluster.load_extension()
    board = Board(board)
    out = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    clients = [{"writer": Writer, "reader": Reader}[kind](int(s), board, out, timeout) for s in slots]
    threads = [threading.Thread(target=c.guarded) for c in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
