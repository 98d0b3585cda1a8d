"""--json of every verb that prints: it parses, and its keys are those of docs/cli.md, both ways."""

import json
import re
import time

from lib import check, page, test


def paths(value, at=""):
    """Every path of keys: "databases[].lsn"."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, f"{at}.{key}" if at else key)
    elif isinstance(value, list):
        if not value:
            yield at + "[]"
        for inner in value:
            yield from paths(inner, at + "[]")
    else:
        yield at


def documented():
    """{verb: set of paths} of the table under "## JSON"."""
    section = page("cli.md").split("\n## JSON\n")[1]
    found = {}
    for row in re.findall(r"^\| (`.*?) \| (.*) \|$", section, re.M):
        keys = set(re.findall(r"`([^`]+)`", row[1].split("; ")[0]))
        for verb in re.findall(r"`([^`]+)`", row[0]):
            found[verb] = keys
    return found


def compare(verb, told, wanted):
    patterns = [re.compile(re.escape(w).replace(r"\*", r"[^.\[\]]+") + r"\Z") for w in wanted]
    # An empty array shows none of the keys of its elements.
    empty = [p for p in told if p.endswith("[]") and any(w.startswith(p + ".") for w in wanted)]
    unknown = {p for p in told if p not in empty and not any(pattern.match(p) for pattern in patterns)}
    check(f"each key of {verb} --json is in docs/cli.md", not unknown, str(unknown))
    missing = {w for w, pattern in zip(wanted, patterns)
               if not any(pattern.match(p) for p in told) and not any(w.startswith(e) for e in empty)
               and not w.endswith(".trouble")}
    check(f"each documented key of {verb} --json is printed", not missing, str(missing))


@test
def keys_as_documented(room):
    table = documented()
    told = {}

    def take(verb, *args, code=0):
        value = room.json(*verb.split(), *args, code=code)
        told.setdefault(verb, set()).update(paths(value))
        return value

    room.sql("js", "CREATE TABLE t(a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, 'x'), (3, 'y')")
    take("up")
    take("status")
    take("logs", "-n", "2")
    take("db create", "js-empty")
    take("db list")
    take("db name", "notes.db")
    take("branch create", "js/side", "--expires", "24h")
    take("branch list", "js")
    take("branch protect", "js/side")
    take("branch unprotect", "js/side")
    take("branch rename", "js/side", "tide")
    room.sql("js/tide", "UPDATE t SET b = 'z' WHERE a = 1; DELETE FROM t WHERE a = 3; INSERT INTO t VALUES (4, 'q');"
                        "CREATE TABLE n(x)")
    take("diff", "js", "js/tide", code=1)
    take("pin create", "js", "good")
    take("pin list", "js")
    take("safekeeper list")
    take("safekeeper catch-up")
    take("pageserver list")
    take("pageserver forget", "0" * 31 + "1")
    take("pin drop", "js", "good")
    take("retention set", "js", "7d")
    take("retention show", "js")
    take("gc", "js", "--dry-run")
    undo = take("branch reset", "js/tide", "--yes")["undo"]
    check("branch reset: the branch is as its parent", room.run("diff", "js", "js/tide").returncode == 0)
    check("branch reset: the undo line", undo.startswith("corallite restore js/tide --to js/tide-before-"), undo)
    room.ok(*undo.split()[1:])
    check("branch reset: undone", room.run("diff", "js", "js/tide").returncode == 1)
    again = room.json("branch", "reset", "js/tide", "--yes")
    check("branch reset: behind a restore the parent is the same", room.run("diff", "js", "js/tide").returncode == 0)
    room.ok(*again["undo"].split()[1:])
    take("restore", "js", "--to", "latest", "--yes")
    take("log", "js/tide")
    take("branch drop", "js/tide", "--yes")
    take("export", "js", "-o", room.path("js.db"))
    take("import", room.path("js.db"), "js-copy")
    take("check", "js", "--deep")
    take("repair", "js", "--yes")
    take("connect", "js", "--lang", "python")
    take("env")
    take("version")
    take("help")
    take("db drop", "js-copy", "--yes")
    # down is told of a cluster of its own
    archive = "dir:" + room.path("archive")
    room.json("up", "--dir", room.path("second"), "--port-base", "auto", "--archive", archive)
    room.ok("db", "create", "kept", "--dir", room.path("second"))
    for _ in range(40):
        if "kept/main" in room.run("archive", "check", archive, "--quick").stdout:
            break
        time.sleep(0.5)
    take("archive check", archive)
    take("archive prune", "--yes", "--dir", room.path("second"))
    with room.safekeeper(room.path("second"), 4) as address:
        take("safekeeper replace", "2", address, "--dir", room.path("second"))
    take("safekeeper add", "--dir", room.path("second"))
    room.json("up", "--dir", room.path("second"), "--pageservers", "2")
    take("pageserver promote", "--dir", room.path("second"))
    take("check", "--deep", "--dir", room.path("second"))
    take("pageserver remove", "--dir", room.path("second"))
    take("down", "--dir", room.path("second"), "--purge", "--yes")
    for verb in sorted(set(table) | set(told)):
        if check(f"{verb} is documented and tried", verb in table and verb in told):
            compare(verb, told[verb], table[verb])
    # what is the same as something else
    one = set(paths(room.json("help", "check")))
    compare("help VERB", one, {k.removeprefix("[].") for k in table["help"]})
    compare("db create --from", set(paths(room.json("db", "create", "js2", "--from", "js"))), table["import"])
    compare("branch protect --off", set(paths(room.json("branch", "protect", "js", "--off"))), table["branch unprotect"])
    for verb in room.json("help"):
        if any(o["name"] == "--json" for o in verb["options"]):
            check(f"--json of {verb['name']} is documented", verb["name"] in table)
        else:
            check(f"{verb['name']} prints nothing that JSON would be better for", verb["name"] in ("sql", "exec", "completion"))


@test
def empty_answers_are_json_too(room):
    room.ok("db", "create", "nothing")
    check("no pins", room.json("pin", "list", "nothing") == [])
    check("no commits", room.json("log", "nothing") == [])
    told = room.json("check", "nothing")
    check("nothing is sound", told["sound"] is True and told["databases"][0]["time"] is None, json.dumps(told))
    for verb, code in (("status", 1), ("check", 1)):
        done = room.run(verb, "nowhere", "--json")
        check(f"{verb} that fails prints no JSON", done.returncode == code and done.stdout == "", done.stdout)
