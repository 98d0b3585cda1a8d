"""Branches through the command: from any LSN or time, at once after a commit, 64 deep, expiry, protection."""

from lib import check, matches, test, until


def count(room, ref):
    return int(room.sql(ref, "SELECT count(*) FROM t"))


@test
def from_any_moment_of_any_branch(room):
    db = room.connect("tree")
    db.execute("CREATE TABLE t(a)")
    for i in range(4):
        db.execute("INSERT INTO t VALUES (?)", (i,))
    log = room.json("log", "tree")
    check("five commits", len(log) == 5, str(len(log)))
    room.ok("branch", "create", "tree/kid")
    kid = room.connect("tree/kid")
    kid.execute("INSERT INTO t VALUES (100)")
    log_of_kid = room.json("log", "tree/kid")
    check("the log of a branch goes on into its parent",
          [c["branch"] for c in log_of_kid] == ["kid"] + ["main"] * 5, str(log_of_kid)[:200])
    for n, commit in enumerate(log_of_kid):  # 5 rows, 4, 3, 2, 1, 0: LSN and time of each, from the branch and main
        wanted = 5 - n
        room.ok("branch", "create", f"tree/l{n}", "--from", "kid", "--at", commit["lsn"])
        room.ok("branch", "create", f"tree/t{n}", "--at", "tree/kid@" + commit["time"])
        for name in (f"l{n}", f"t{n}"):
            got = count(room, f"tree/{name}")
            check(f"a branch at {commit['lsn']} ({name}) has {wanted} rows", got == wanted, str(got))
    grand = room.json("branch", "create", "tree/grand", "--from", "l0")
    check("a branch of a branch", grand["from"] == "l0" and count(room, "tree/grand") == 5)
    text = room.ok("branch", "list", "tree")
    matches("listed as a tree", r"main .*\n(.*\n)*(\|-|`-) kid .*\n(.*\n)*(\|  |   )(\|-|`-) l0 .*\n.*`- grand ", text)
    db.close()
    kid.close()


@test
def at_once_after_a_commit(room):
    """The pageserver need not have it yet: whoever branches from a head has what was acknowledged."""
    db = room.connect("quick")
    db.execute("CREATE TABLE t(a)")
    for i in range(6):
        db.execute("INSERT INTO t VALUES (?)", (i,))
        room.ok("branch", "create", f"quick/b{i}")
    for i in range(6):
        got = count(room, f"quick/b{i}")
        check(f"the branch after commit {i} has it", got == i + 1, str(got))
    db.close()


@test
def expiry_and_protection(room):
    room.ok("db", "create", "life")
    room.sql("life", "CREATE TABLE t(a)")
    told = room.json("branch", "create", "life/short", "--expires", "1s")
    check("it says when", told["expires"] > told["time"])
    room.ok("branch", "create", "life/long", "--expires", "24h")
    room.ok("branch", "protect", "life")
    for verb, args in (("restore", ["life", "--to", "latest", "--yes"]), ("branch drop", ["life/main", "--yes"])):
        done = room.run(*verb.split(), *args)
        check(f"{verb} of a protected branch", done.returncode == 1 and "protected" in done.stderr, done.stderr)
    check("it can be written", room.sql("life", "INSERT INTO t VALUES (1); SELECT count(*) FROM t") == "1")
    room.ok("branch", "protect", "life", "--off")
    room.ok("restore", "life", "--to", "latest", "--yes")
    until(lambda: "short" not in [b["branch"] for b in room.json("branch", "list", "life")], 60,
          "the branch that was to live for a second is gone")
    check("the other is there", "long" in [b["branch"] for b in room.json("branch", "list", "life")])
