#!/usr/bin/python3
"""What takes too long for each run: slow.py B [TEST...], by `make cli-slow`. Prints figures; judges none of them
but for bounds on memory."""

import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import lib  # noqa: E402
from lib import CORALLITE, check, matches, test  # noqa: E402

COMMITS = int(os.environ.get("COMMITS", "100000"))


def resident(pid):
    """KiB at most until now. (What wait4 tells counts this process too, as it was at the fork.)"""
    with open(f"/proc/{pid}/status") as f:
        found = re.search(r"^VmHWM:\s+(\d+) kB", f.read(), re.M)
    return int(found[1]) if found else 0


def usage_of(room, args, lines):
    """(seconds to the first line, seconds to the end, KiB at most, lines) of a process."""
    begin = time.monotonic()
    p = subprocess.Popen([CORALLITE, *args], stdout=subprocess.PIPE, env=room.env)
    first, n, kib = None, 0, 0
    for _ in p.stdout:
        n += 1
        first = first or time.monotonic() - begin
        if n % 5000 == 1:
            kib = max(kib, resident(p.pid))
        if lines and n == lines:  # what a pager does that has seen enough
            p.stdout.close()
            break
    p.wait()
    return first, time.monotonic() - begin, kib, n


@test
def a_log_of_many_commits(room):
    db = room.connect("long")
    db.execute("CREATE TABLE t(a)")
    db.execute("PRAGMA synchronous = OFF")
    begin = time.monotonic()
    for i in range(COMMITS):
        db.execute("INSERT INTO t VALUES (?)", (i,))
    db.execute("PRAGMA synchronous = FULL")
    db.execute("INSERT INTO t VALUES (0)")
    print(f"# {COMMITS} commits in {time.monotonic() - begin:.0f} s")
    db.close()
    room.ok("log", "long", "-n", "1")  # it has been ingested
    for form in ([], ["--json"]):
        first, total, kib, n = usage_of(room, ["log", "long", *form], 0)
        print(f"# log {' '.join(form)}: first line after {first * 1000:.0f} ms, {n} lines in {total:.1f} s, "
              f"at most {kib / 1024:.1f} MiB")
        check("every commit is told", n == COMMITS + (4 if form else 3), str(n))
        check("memory does not grow with the log", kib < 64 * 1024, f"{kib} KiB")
    first, total, kib, n = usage_of(room, ["log", "long"], 20)
    print(f"# log | head -n 20: first line after {first * 1000:.0f} ms, ended after {total * 1000:.0f} ms")
    begin = time.monotonic()
    rows = room.sql("long", "SELECT count(*) FROM (SELECT * FROM corallite_log LIMIT 10)")
    print(f"# SELECT ... FROM corallite_log LIMIT 10: {(time.monotonic() - begin) * 1000:.0f} ms, the whole process")
    check("ten rows", rows == "10")


@test
def sixty_four_deep(room):
    db = room.connect("deep")
    db.execute("CREATE TABLE t(a)")
    db.execute("INSERT INTO t VALUES (0)")
    db.close()
    parent = "main"
    for depth in range(1, 65):
        room.ok("branch", "create", f"deep/d{depth}", "--from", parent)
        parent = f"d{depth}"
        if depth % 16 == 0:
            db = room.connect(f"deep/{parent}")
            db.execute("INSERT INTO t VALUES (?)", (depth,))
            db.close()
    check("the 64th has what each wrote", room.sql("deep/d64", "SELECT group_concat(a) FROM t") == "0,16,32,48,64")
    done = room.run("branch", "create", "deep/d65", "--from", "d64")
    check("the 65th is refused", done.returncode == 1, str(done.returncode))
    matches("and told why", "64 ancestors, the most a branch may have", done.stderr)
    room.ok("branch", "drop", "deep/d40", "--yes")
    check("below a dropped one", room.sql("deep/d64", "SELECT count(*) FROM t") == "5")
    matches("the tree is told", "`- d64 ", room.ok("branch", "list", "deep"))


if __name__ == "__main__":
    sys.exit(lib.main())
