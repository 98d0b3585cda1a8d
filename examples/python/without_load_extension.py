#!/usr/bin/env python3
"""Corallite in a Python whose sqlite3 module was built without load_extension (pyenv's, for one).

SQLite itself can load extensions all the same: ctypes asks it to, once, and the VFS stays for the
process. What it needs is that the module uses a shared libsqlite3.so.0; where SQLite was built into
Python itself nothing helps but another Python.

    eval "$(corallite env)" && python3 examples/python/without_load_extension.py
"""
import ctypes
import os
import sqlite3
import subprocess
import sys

name = sys.argv[1] if len(sys.argv) > 1 else "example-ctypes"


def load_corallite(extension):
    library = ctypes.CDLL("libsqlite3.so.0")  # the very one that the sqlite3 module uses
    handle, message = ctypes.c_void_p(), ctypes.c_char_p()
    if library.sqlite3_open(b":memory:", ctypes.byref(handle)) != 0:
        raise RuntimeError("SQLite cannot be started")
    library.sqlite3_enable_load_extension(handle, 1)
    if library.sqlite3_load_extension(handle, extension.encode(), None, ctypes.byref(message)) != 0:
        raise RuntimeError((message.value or b"the extension cannot be loaded").decode())
    return handle  # stays open


load_corallite(os.environ["CORALLITE_EXTENSION"])

# From here on as in example.py.
db = sqlite3.connect(f"file:{name}?vfs=corallite", uri=True, timeout=5)
with db:
    db.execute("CREATE TABLE IF NOT EXISTS item(name TEXT PRIMARY KEY, price REAL)")
    db.execute("INSERT OR REPLACE INTO item VALUES(?, ?)", ("shell", 2.5))
lsn = db.execute("PRAGMA corallite_lsn").fetchone()[0]
with db:
    db.execute("UPDATE item SET price = 3.0 WHERE name = 'shell'")
show = "SELECT name || ' ' || price FROM item"
print("now    ", db.execute(show).fetchone()[0])
branch = f"try-{os.getpid()}"
subprocess.run(["corallite", "branch", "create", f"{name}/{branch}"], check=True,
               stdout=subprocess.DEVNULL)
other = sqlite3.connect(f"file:{name}/{branch}?vfs=corallite", uri=True, timeout=5)
with other:
    other.execute("UPDATE item SET price = 9.9 WHERE name = 'shell'")
print("branch ", other.execute(show).fetchone()[0])
print("now    ", db.execute(show).fetchone()[0])
before = sqlite3.connect(f"file:{name}?vfs=corallite&at={lsn}", uri=True)
print("past   ", before.execute(show).fetchone()[0])
