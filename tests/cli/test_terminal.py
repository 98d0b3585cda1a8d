"""Manners at a terminal: bars, Ctrl-C, questions, colour, width. On a pseudo-terminal."""

import os
import re
import sqlite3

from lib import check, matches, test, until

NOW = {"CORALLITE_PROGRESS": "0"}  # a bar appears at once


def make_file(path, rows):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB)")
    db.execute("WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < ?) "
               "INSERT INTO t SELECT x, randomblob(3000) FROM i", (rows,))
    db.commit()
    db.close()


def bar_of(room, what, *args):
    t = room.terminal(*args, **NOW)
    code = t.end()
    check(f"{args[0]} on a terminal ends with 0", code == 0, t.text[-300:])
    matches(f"{args[0]} shows a bar", what, t.text)
    left = [line for line in t.screen().split("\n") if "[" in line and "/s" in line]
    check(f"the bar of {args[0]} is gone in the end", not left, repr(left))
    check(f"{args[0]} leaves the terminal as it was", t.same)
    return t


@test
def bars_of_what_takes_long(room):
    path = room.path("wide.db")
    make_file(path, 500)
    bar_of(room, r"importing \[#* *\] [0-9.]+ \w+ of [0-9.]+ MiB, [0-9.]+ \w+/s", "import", path, "wide")
    bar_of(room, r"exporting \[#* *\] .*B of", "export", "wide", "-o", room.path("out.db"))
    bar_of(room, r"pages of wide/main \[#* *\] .*B of", "check", "wide")
    bar_of(room, r"importing \[#* *\] .*B of", "db", "create", "wide-copy", "--from", "wide")
    room.ok("db", "drop", "wide-copy", "--yes")


@test
def no_bar_where_nobody_looks(room):
    for name, more, on_terminal in (("in a pipe", NOW, False), ("with off", {"CORALLITE_PROGRESS": "off"}, True),
                                    ("at a dumb terminal", {**NOW, "TERM": "dumb"}, True),
                                    ("within a second", {"CORALLITE_PROGRESS": "3600000"}, True)):
        if on_terminal:
            t = room.terminal("check", "wide", **more)
            code, text = t.end(), t.text.replace("\r\n", "\n")
        else:
            done = room.run("check", "wide", **more)
            code, text = done.returncode, done.stdout + done.stderr
        check(f"check {name} ends with 0", code == 0, text)
        check(f"no bar {name}", "\r" not in text and "/s" not in text, repr(text[:200]))


@test
def control_c_leaves_a_clean_terminal(room):
    path = room.path("large.db")
    make_file(path, 10000)
    for attempt in range(6):  # it may be done before the key arrives; then it is whole
        t = room.terminal("import", path, f"large{attempt}", **NOW)
        t.wait_for(r"importing \[")
        t.type("\x03")
        code = t.end()
        if code == 0:
            room.ok("db", "drop", f"large{attempt}", "--yes")
            continue
        check("Ctrl-C: exit code 1", code == 1, str(code))
        matches("Ctrl-C: the sentence", "importing was interrupted; nothing was kept|database.*large", t.text)
        check("Ctrl-C: no bar is left", "/s" not in t.screen(), repr(t.screen()))
        check("Ctrl-C: the terminal is as it was", t.same)
        names = [d["name"] for d in room.json("db", "list")]
        check("Ctrl-C: the name is given back", f"large{attempt}" not in names, str(names))
        break
    else:
        check("an import was interrupted", False, "six were done before Ctrl-C arrived")
    os.remove(path)


@test
def questions(room):
    room.ok("db", "create", "asked")
    t = room.terminal("db", "drop", "asked")
    t.wait_for("Drop the database 'asked' with all its history\\? Type yes")
    t.type("no\n")
    check("no: exit code 1", t.end() == 1)
    matches("no: nothing was done", "nothing was done", t.text)
    t = room.terminal("db", "drop", "asked")
    t.wait_for("Type yes")
    t.type("yes\n")
    check("yes: exit code 0", t.end() == 0, t.text)
    matches("yes: it is done", "dropped asked", t.text)
    t = room.terminal("export", "shop", "-o", "-")
    check("a database is nothing for a terminal", t.end() == 2, t.text[:200])


@test
def colour_is_for_terminals(room):
    t = room.terminal("status")
    t.end()
    matches("up is green on a terminal", "\033\\[32mup *\033\\[0m", t.text)
    for name, more in (("NO_COLOR", {"NO_COLOR": "1"}), ("a dumb terminal", {"TERM": "dumb"})):
        t = room.terminal("status", **more)
        t.end()
        check(f"no colour with {name}", "\033" not in t.text and "up" in t.text, repr(t.text[:200]))
    check("no colour in a pipe", "\033" not in room.ok("status"))
    room.sql("shop/side", "UPDATE item SET price = 3 WHERE id = 1")
    t = room.terminal("diff", "shop", "shop/side")
    check("diff: 1", t.end() == 1)
    matches("a changed row is yellow", "\033\\[33m  ~ id=1 .*\033\\[0m", t.text)
    matches("headings are bold", "\033\\[1moptions:\033\\[0m", help_at(room, 80))


def help_at(room, columns):
    t = room.terminal("check", "--help", columns=columns)
    t.end()
    return t.text


@test
def help_fits_the_terminal(room):
    for columns in (60, 80, 200):
        lines = re.sub("\033\\[[0-9;]*m", "", help_at(room, columns)).replace("\r\n", "\n").split("\n")
        widest = max(map(len, lines))
        check(f"help at {columns} columns", widest <= min(columns, 100), f"{widest} wide")
    narrow = room.terminal("check", "wide", columns=40, **NOW)
    narrow.end()
    widest = max(len(part) for part in re.split(r"[\r\n]", re.sub("\033\\[[0-9;]*[mK]", "", narrow.text))
                 if "B of" in part)
    check("a bar never wraps", widest < 40, f"{widest} wide")


@test
def the_output_must_arrive(room):
    done = until(lambda: os.path.exists("/dev/full"), 1, "/dev/full")
    import subprocess
    with open("/dev/full", "w") as full:
        p = subprocess.run(["corallite", "db", "list"], stdout=full, stderr=subprocess.PIPE, text=True, env=room.env)
    check("a full disk behind > is a failure", done and p.returncode == 1 and "cannot be written" in p.stderr, p.stderr)
