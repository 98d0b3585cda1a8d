"""One process of a differential test: it holds connections, open queries and open blobs, and does one
operation at a time. Both sides (Corallite and plain files) run this very program.

Run as a program it serves pickled requests of its standard input; Side is its other end.
"""

import os
import pickle
import select
import sqlite3
import struct
import subprocess
import sys
import time

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from lib import cluster  # noqa: E402

COMMIT_TIMEOUT = "20s"


class Patience:
    """Of the backup API, which Python otherwise tries for ever."""

    def __init__(self):
        self.refusals = 0

    def __call__(self, status, remaining, total):
        self.refusals += status != sqlite3.SQLITE_OK and status != sqlite3.SQLITE_DONE
        if self.refusals > 3:
            raise ValueError(f"refused with {status}")


# -- the process --------------------------------------------------------------------------------

class Process:
    """`where` is a directory for plain files, or "corallite"."""

    def __init__(self, where):
        self.where = where
        self.connections, self.cursors, self.blobs, self.versions = {}, {}, {}, {}
        if where == "corallite":
            cluster.load_extension()

    def name(self, db):
        if self.where == "corallite":
            return f"file:{db}?vfs=corallite&commit_timeout={COMMIT_TIMEOUT}"
        return f"file:{self.where}/{db}"

    def open(self, key, db, mode, cached):
        """A main database that both sides have in WAL mode."""
        name = self.name(db)
        if mode:
            name += ("&" if "?" in name else "?") + f"mode={mode}"
        self.connections[key] = sqlite3.connect(name, uri=True, isolation_level=None, timeout=0,
                                                cached_statements=cached)
        # Checkpoints are made when the test says so: they are seen (docs/pragmas.md).
        self.connections[key].execute("PRAGMA wal_autocheckpoint = 0")

    def birth(self, key, page_size, auto_vacuum, encoding):
        c = self.connections[key]
        c.execute(f"PRAGMA page_size={page_size}")
        c.execute(f"PRAGMA auto_vacuum={auto_vacuum}")
        c.execute(f"PRAGMA encoding='{encoding}'")
        return c.execute("PRAGMA journal_mode=wal").fetchall()

    def close(self, key):
        for kept in (self.cursors, self.blobs):
            for k in [k for k in kept if k[0] == key]:
                kept.pop(k).close()
        self.versions.pop(key, None)
        self.connections.pop(key).close()

    def attach(self, key, db, schema):
        self.connections[key].execute("ATTACH ? AS " + schema, (self.name(db),))

    def attach_file(self, key, path, schema):
        self.connections[key].execute("ATTACH ? AS " + schema, (f"file:{path}?vfs=unix",))

    def execute(self, key, sql, args=()):
        c = self.connections[key]
        cursor = c.execute(sql, args)
        rows = cursor.fetchall()
        return rows, cursor.rowcount, cursor.lastrowid, c.in_transaction

    def quiet(self, key, sql):
        """For what need not answer the same."""
        try:
            self.connections[key].execute(sql).fetchall()
        except sqlite3.Error:
            pass

    def many(self, key, sql, rows):
        cursor = self.connections[key].executemany(sql, rows)
        return cursor.rowcount

    def version(self, key):
        """Whether somebody else changed the database since the last call."""
        now = self.connections[key].execute("PRAGMA data_version").fetchone()[0]
        before = self.versions.get(key)
        self.versions[key] = now
        return before is not None and before != now

    def begin_query(self, key, name, sql, n):
        cursor = self.connections[key].cursor()
        self.cursors[key, name] = cursor
        cursor.execute(sql)
        return cursor.fetchmany(n)

    def more(self, key, name, n):
        return self.cursors[key, name].fetchmany(n)

    def end_query(self, key, name):
        self.cursors.pop((key, name)).close()

    def blob(self, key, name, schema, table, column, row, readonly):
        self.blobs[key, name] = self.connections[key].blobopen(table, column, row, name=schema,
                                                               readonly=readonly)
        return len(self.blobs[key, name])

    def blob_read(self, key, name, at, n):
        b = self.blobs[key, name]
        b.seek(at)
        return b.read(n)

    def blob_write(self, key, name, at, data):
        b = self.blobs[key, name]
        b.seek(at)
        b.write(data)

    def blob_close(self, key, name):
        self.blobs.pop((key, name)).close()

    def copy_out(self, key, pages, schema="main"):
        """The backup API to memory; the image, but for what counts changes and names the mode."""
        to = sqlite3.connect(":memory:")
        self.connections[key].backup(to, pages=pages, name=schema, sleep=0,
                                     progress=Patience())
        image = bytearray(to.serialize())
        to.close()
        if len(image) >= 100:
            image[18:20] = b"\0\0"
            image[24:28] = bytes(4)
            image[92:100] = bytes(8)
        return bytes(image)

    def copy_in(self, key, script, page_size, pages):
        """The backup API from a database of memory."""
        source = sqlite3.connect(":memory:", isolation_level=None)
        source.execute(f"PRAGMA page_size={page_size}")
        source.executescript(script)
        try:
            source.backup(self.connections[key], pages=pages, sleep=0, progress=Patience())
        finally:
            source.close()

    def state(self, key, schema="main"):
        """All that there is, by SQL."""
        c = self.connections[key]
        facts = [c.execute(f"PRAGMA {schema}.{p}").fetchall() for p in
                 ("integrity_check", "page_size", "page_count", "freelist_count", "auto_vacuum",
                  "user_version", "application_id", "encoding", "schema_version")]
        rows = []
        names = c.execute(f"SELECT type, name, sql FROM {schema}.sqlite_master ORDER BY 1, 2").fetchall()
        for kind, name, _ in names:
            if kind == "table":
                rows.append((name, sorted(c.execute(f'SELECT * FROM {schema}."{name}"').fetchall(),
                                          key=repr)))
        return facts, names, rows


def serve(where):
    process = Process(where)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            request = pickle.load(source)
        except EOFError:
            break
        try:
            answer = ("ok", getattr(process, request[0])(*request[1:]))
        except sqlite3.Error as e:
            answer = ("error", getattr(e, "sqlite_errorname", type(e).__name__), str(e))
        except (ValueError, KeyError, OverflowError) as e:
            answer = ("refused", type(e).__name__, str(e))
        pickle.dump(answer, sink)
        sink.flush()


# -- the plain file's log ------------------------------------------------------------------------

def log_has_hole(path):
    """Whether a commit in this WAL lies behind frames without a checksum, and is lost when SQLite recovers the log. SQLite 3.40
    leaves such frames when a transaction spilled, wrote a frame over, went back to a savepoint before it and went on."""
    with open(path, "rb") as f:
        log = f.read()
    if len(log) < 32:
        return False
    page_size, salts = struct.unpack_from(">I", log, 8)[0], log[16:24]
    hole = False
    for at in range(32, len(log) - 24 - page_size + 1, 24 + page_size):
        if log[at + 8:at + 24] == bytes(16):
            hole = True
        elif hole and log[at + 8:at + 16] == salts and log[at + 4:at + 8] != bytes(4):
            return True
    return False


# -- the other end ------------------------------------------------------------------------------

class Side:
    """One such process."""

    def __init__(self, where, env, log):
        self.process = cluster.popen(["/usr/bin/python3", os.path.abspath(__file__), where],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                     env=env)
        self.where, self.taken = where, 0.0

    def ask(self, request):
        pickle.dump(request, self.process.stdin)
        self.process.stdin.flush()

    def answer(self, seconds=90):
        began = time.monotonic()
        ready = select.select([self.process.stdout], [], [], seconds)[0]
        if not ready:
            raise cluster.Failure(f"no answer of {self.where} within {seconds} s")
        try:
            value = pickle.load(self.process.stdout)
        except EOFError:
            code = self.process.wait(10)
            raise cluster.Failure(f"the process ended with status {code}") from None
        self.taken = time.monotonic() - began
        return value

    def end(self, kill=False):
        """By itself, or by kill -9."""
        if kill:
            self.process.kill()
        else:
            self.process.stdin.close()
        status = self.process.wait(60)
        if not kill and status != 0:
            raise cluster.Failure(f"the process ended with status {status}")


if __name__ == "__main__":
    serve(sys.argv[1])
