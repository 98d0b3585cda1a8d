#!/usr/bin/python3
"""Corallite from Python: open, write, branch, look back. Debian's /usr/bin/python3, nothing to install.

    eval "$(corallite env)" && /usr/bin/python3 examples/python/example.py
"""
import os
import sqlite3
import subprocess
import sys

name = sys.argv[1] if len(sys.argv) > 1 else "example-python"

# Once a process: any connection loads the extension, and its VFS stays for all.
loader = sqlite3.connect(":memory:")
loader.enable_load_extension(True)
loader.load_extension(os.environ["CORALLITE_EXTENSION"])

# Open and write. The `with` block is a transaction; leaving it returns when a majority of the
# safekeepers has it on disk.
db = sqlite3.connect(f"file:{name}?vfs=corallite", uri=True, timeout=5)
with db:
    db.execute("CREATE TABLE IF NOT EXISTS item(name TEXT PRIMARY KEY, price REAL)")
    db.execute("INSERT OR REPLACE INTO item VALUES(?, ?)", ("shell", 2.5))

# Where are we? Each commit is a place to come back to.
lsn = db.execute("PRAGMA corallite_lsn").fetchone()[0]
with db:
    db.execute("UPDATE item SET price = 3.0 WHERE name = 'shell'")
show = "SELECT name || ' ' || price FROM item"
print("now    ", db.execute(show).fetchone()[0])

# A branch is a database of its own that begins as this one is, in milliseconds.
branch = f"try-{os.getpid()}"
subprocess.run(["corallite", "branch", "create", f"{name}/{branch}"], check=True,
               stdout=subprocess.DEVNULL)
other = sqlite3.connect(f"file:{name}/{branch}?vfs=corallite", uri=True, timeout=5)
with other:
    other.execute("UPDATE item SET price = 9.9 WHERE name = 'shell'")
print("branch ", other.execute(show).fetchone()[0])
print("now    ", db.execute(show).fetchone()[0])

# The past: an LSN, a time, -10m, pin:NAME. Read-only.
before = sqlite3.connect(f"file:{name}?vfs=corallite&at={lsn}", uri=True)
print("past   ", before.execute(show).fetchone()[0])
