"""The lease between processes: who is told what while somebody else writes, and how fast it changes hands."""

import ctypes
import sqlite3
import threading
import time

from lib.cluster import EXTENSION, check, line, tell
from lib.registry import test

SLACK = 0.7  # what a busy machine may add to a time that was asked for


def timed(f):
    """(seconds, the error's name or None)"""
    began = time.monotonic()
    try:
        f()
        name = None
    except sqlite3.OperationalError as e:
        name = e.sqlite_errorname
    return time.monotonic() - began, name


def insert(db, schema="main"):
    return lambda: db.execute(f"INSERT INTO {schema}.t VALUES('waiter')")


class Handler:
    """A connection with a busy handler of its own, by the C interface: Python's module has none."""

    def __init__(self, uri):
        self.lib = ctypes.CDLL("libsqlite3.so.0")
        self.db = ctypes.c_void_p()
        uri_or_write = 0x2 | 0x4 | 0x40
        check(self.lib.sqlite3_open_v2(uri.encode(), ctypes.byref(self.db), uri_or_write, None) == 0, "open")
        self.asked = 0
        self.answer = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(self.on_busy)
        self.lib.sqlite3_busy_handler(self.db, self.answer, None)

    def on_busy(self, _, count):
        self.asked = count + 1
        time.sleep(0.05)
        return count < 9

    def execute(self, sql):
        return self.lib.sqlite3_exec(self.db, sql.encode(), None, None, None)

    def close(self):
        check(self.lib.sqlite3_close(self.db) == 0, "close")


@test("a busy timeout is honoured against a transaction that is open in another process: 0, 300, 1000 and "
      "5000 ms, a busy handler of one's own, Corallite attached; an idle holder is no reason to be busy", 120)
def busy_timeouts_across_processes(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a);")
        holder = c.worker("commit_on_demand")
        check(line(holder) == "open", "open")

        def holds(text):
            tell(holder, text)
            check(line(holder) == "ok", f"the holder: {text}")

        seen = []
        holds("begin one")
        for ms in (0, 300, 1000, 5000, 0):
            db = c.connect(timeout=ms / 1000)
            took, name = timed(insert(db))
            seen.append(f"{ms} ms: {took:.2f} s")
            check(name == "SQLITE_BUSY", f"busy_timeout={ms}: {name} after {took:.2f} s")
            check(ms / 1000 - 0.05 <= took <= ms / 1000 + SLACK, f"busy_timeout={ms}: busy after {took:.2f} s")
            db.close()

        own = Handler(c.uri("shop"))
        took = time.monotonic()
        code = own.execute("INSERT INTO t VALUES('waiter')")
        took = time.monotonic() - took
        check(code == 5 and own.asked == 10, f"a busy handler was asked {own.asked} times of 10, code {code}")
        check(took <= 0.5 + SLACK, f"a busy handler that gave up after 0.45 s: busy after {took:.2f} s")
        own.close()

        attached = sqlite3.connect("file::memory:", uri=True, isolation_level=None, timeout=1.0)
        attached.execute(f"ATTACH '{c.uri('shop')}' AS shop")
        took2, name = timed(insert(attached, "shop"))
        check(name == "SQLITE_BUSY" and 0.95 <= took2 <= 1 + SLACK, f"attached, 1000 ms: {name} after {took2:.2f} s")
        t.note(f"busy after, of {', '.join(seen)}; own handler of 0.45 s: {took:.2f} s; attached, of 1000 ms: "
               f"{took2:.2f} s")

        threading.Timer(0.5, lambda: tell(holder, "commit")).start()
        db = c.connect(timeout=5.0)
        took, name = timed(insert(db))
        check(line(holder) == "ok", "the holder commits")
        check(name is None and took <= 0.5 + SLACK, f"the holder committed after 0.5 s: {name} after {took:.2f} s")
        db.close()

        holds("two")
        idle = c.connect(timeout=0)
        took2, name = timed(insert(idle))
        check(name is None and took2 <= SLACK, f"the holder was idle: {name} after {took2:.2f} s")
        t.note(f"free after 0.5 s: written after {took:.2f} s; an idle holder, busy_timeout=0: written after "
               f"{took2 * 1000:.0f} ms")
        idle.close()
