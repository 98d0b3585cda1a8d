"""Wrong uses: of each verb in the table, exit code and sentence."""

from lib import check, matches, test

# A right use of each verb; what the table of verbs holds and this does not is a failure.
RIGHT = {
    "up": [], "down": [], "archive check": ["dir:/nope"], "archive prune": ["--dry-run"], "status": ["shop"], "db create": ["books"], "db list": [], "db drop": ["shop", "--yes"],
    "branch create": ["shop/x"], "branch list": ["shop"], "branch rename": ["shop/x", "y"],
    "branch drop": ["shop/x", "--yes"], "branch reset": ["shop/x", "--yes"], "branch protect": ["shop"],
    "branch unprotect": ["shop"], "pin create": ["shop", "p"], "pin list": ["shop"], "pin drop": ["shop", "p"],
    "retention set": ["shop", "7d"], "retention show": ["shop"], "gc": ["shop", "--dry-run"],
    "restore": ["shop", "--to", "latest", "--yes"], "log": ["shop"], "export": ["shop", "-o", "x.db"],
    "import": ["a.db", "b"], "check": ["shop"], "repair": ["shop", "--dry-run"], "diff": ["shop", "shop/x"], "connect": ["shop", "--lang", "c"],
    "sql": ["shop", "SELECT 1"], "exec": ["true"], "db name": ["/a.db"],
    "pageserver list": [], "pageserver forget": ["0" * 32], "pageserver promote": [], "pageserver remove": [],
    "safekeeper list": [], "safekeeper catch-up": [], "safekeeper add": [], "safekeeper replace": ["2", "127.0.0.1:1"],
    "env": [], "logs": [], "completion": ["bash"], "version": [], "help": []}

# Verbs that never speak to a server, though they name one.
TELLS_ONLY = ("connect", "env", "exec")


def wrong(room, args, pattern, code=2, **more):
    done = room.run(*args, **more)
    what = "corallite " + " ".join(args)
    check(f"{what}: exit code {code}", done.returncode == code, f"{done.returncode}: {done.stderr.strip()}")
    matches(what, pattern, done.stderr)
    check(f"{what}: one sentence", done.stderr.startswith("corallite: ") and done.stderr.count("\n") == 1,
          done.stderr)
    check(f"{what}: nothing on standard output", done.stdout == "", done.stdout[:100])


@test
def each_verb_by_its_grammar(room):
    verbs = room.json("help")
    check("each verb has a right use here", {v["name"] for v in verbs} == set(RIGHT),
          str({v["name"] for v in verbs} ^ set(RIGHT)))
    for verb in verbs:
        name, right = verb["name"].split(), RIGHT[verb["name"]]
        if verb["min_arguments"]:
            n = verb["min_arguments"] - 1
            wrong(room, name + ["shop/x"] * n, f"wants {n + 1} argument")
        if verb["max_arguments"] >= 0:
            plain = ["shop"] * (verb["max_arguments"] + 1)
            wrong(room, name + plain, "'shop' is too much for 'corallite " + verb["name"])
        wrong(room, name + ["--nonsense"] + right, "has no option '--nonsense'; see: corallite .* --help")
        near = [o["name"] for o in verb["options"]] + ["--help"]
        wrong(room, name + [near[0] + "s"], f"did you mean '{near[0]}'")
        flags = [o["name"] for o in verb["options"] if o["value"] is None]
        valued = [o["name"] for o in verb["options"] if o["value"]]
        for option in flags[:1]:
            wrong(room, name + [option + "=1"], f"'{option}' takes no value")
        for option in valued:
            wrong(room, name + [option], f"'{option}' needs a value")
        for option in valued[:1]:
            wrong(room, name + [option, "a", option, "b"], "is given twice")
        options = {o["name"] for o in verb["options"]}
        if {"--server", "--dir"} <= options:
            if verb["name"] != "import":  # which looks at the file first
                wrong(room, name + ["--server", "a:1", "--dir", "d"] + right, "both name a cluster")
            if verb["name"] not in TELLS_ONLY + ("import",):
                code = 2 if verb["name"] == "diff" else 1
                done = room.run(*name, "--server", "127.0.0.1:1", *right)
                check(f"{verb['name']} without a server ends with {code}", done.returncode == code, done.stderr)
                matches(f"{verb['name']} without a server names it", r"127\.0\.0\.1:1\b.*refused",
                        done.stdout + done.stderr)
        if "--yes" in options and verb["name"] not in ("down", "repair"):  # repair asks where something is damaged
            there = {"db drop": ["shop"], "branch drop": ["shop/side"], "branch reset": ["shop/side"],
                     "restore": ["shop", "--to", "latest"],
                     "archive prune": [], "gc": ["shop", "--before", "-1s"]}[verb["name"]]
            wrong(room, name + there, "say --yes")
        help_text = room.ok(*name, "--help")
        matches(f"help of {verb['name']}", f"usage: corallite {verb['name']}.*examples:.*exit codes:", help_text)


NO_NAME = "'a-b' would be"
NO_DB, NO_BRANCH, NO_PIN = "no database 'nope'", "no branch.* '?(shop/)?nope", "no pin 'nope'"
FUTURE, BEYOND, VAGUE = "is in the future", "is beyond the head", "does not say from where; write -5m"

# words, exit code, sentence; `shop` is there, with the branch `side`.
TABLE = (
    # names that cannot be, with a proposal
    (2, NO_NAME, ["status", "a b"], ["db create", "a b"], ["db drop", "a b", "--yes"], ["branch list", "a b"],
     ["branch create", "shop/a b"], ["branch create", "shop/x", "--from", "a b"], ["branch rename", "shop/side", "a b"],
     ["branch drop", "shop/a b", "--yes"], ["branch reset", "shop/a b", "--yes"],
     ["branch reset", "shop/side", "--keep-as", "a b", "--yes"], ["branch protect", "a b"],
     ["branch unprotect", "a b"], ["pin create", "a b", "p"], ["pin create", "shop", "a b"], ["pin list", "a b"],
     ["pin drop", "a b", "p"], ["pin drop", "shop", "a b"], ["retention set", "a b", "7d"],
     ["retention show", "a b"], ["gc", "a b"], ["restore", "a b", "--to", "-1s"],
     ["restore", "shop", "--to", "-1s", "--keep-as", "a b"], ["log", "a b"], ["export", "a b", "-o", "x"],
     ["import", "a.db", "a b"], ["check", "a b"], ["repair", "a b"], ["diff", "shop", "a b"], ["connect", "a b", "--lang", "c"],
     ["sql", "a b"]),
    # a database that is not there
    (1, NO_DB, ["status", "nope"], ["db create", "x", "--from", "nope"], ["db drop", "nope", "--yes"],
     ["branch create", "nope/x"], ["branch list", "nope"], ["branch rename", "nope/x", "y"],
     ["branch drop", "nope/x", "--yes"], ["branch reset", "nope/x", "--yes"], ["branch protect", "nope"],
     ["branch unprotect", "nope"], ["pin create", "nope", "p"], ["pin list", "nope"], ["pin drop", "nope", "p"],
     ["retention set", "nope", "7d"], ["retention show", "nope"], ["gc", "nope"],
     ["restore", "nope", "--to", "-1s", "--yes"], ["log", "nope"], ["export", "nope", "-o", "x.db"],
     ["check", "nope"], ["sql", "nope@-1s", "SELECT 1"], ["sql", "nope/x", "SELECT 1"]),
    (2, NO_DB, ["diff", "shop", "nope"]),
    # a branch
    (1, NO_BRANCH, ["status", "shop/nope"], ["db create", "x", "--from", "shop/nope"],
     ["branch create", "shop/x", "--from", "nope"], ["branch create", "shop/x", "--at", "shop/nope@latest"],
     ["branch rename", "shop/nope", "y"], ["branch drop", "shop/nope", "--yes"],
     ["branch reset", "shop/nope", "--yes"], ["branch protect", "shop/nope"], ["branch unprotect", "shop/nope"],
     ["pin create", "shop/nope", "p"], ["retention set", "shop/nope", "7d"], ["retention show", "shop/nope"],
     ["restore", "shop/nope", "--to", "-1s", "--yes"],
     ["restore", "shop", "--to", "shop/nope", "--yes"], ["log", "shop/nope"], ["export", "shop/nope", "-o", "x.db"],
     ["check", "shop/nope"], ["sql", "shop/nope", "SELECT 1"]),
    (2, NO_BRANCH, ["diff", "shop", "shop/nope"]),
    # a pin
    (1, NO_PIN, ["pin drop", "shop", "nope"], ["branch create", "shop/x", "--at", "pin:nope"],
     ["pin create", "shop@pin:nope", "p"], ["restore", "shop", "--to", "pin:nope", "--yes"],
     ["log", "shop@pin:nope"], ["export", "shop@pin:nope", "-o", "x.db"], ["check", "shop@pin:nope"],
     ["sql", "shop@pin:nope", "SELECT 1"], ["db create", "x", "--from", "shop@pin:nope"]),
    (2, NO_PIN, ["diff", "shop", "shop@pin:nope"]),
    # moments that cannot be
    *((2, pattern, ["branch create", "shop/x", "--at", at], ["pin create", "shop@" + at, "p"],
       ["restore", "shop", "--to", at, "--yes"], ["log", "shop@" + at], ["export", "shop@" + at, "-o", "x.db"],
       ["check", "shop@" + at], ["sql", "shop@" + at, "SELECT 1"], ["diff", "shop", "shop@" + at],
       ["db create", "x", "--from", "shop@" + at])
      for at, pattern in (("2999-01-01", FUTURE), ("5m", VAGUE))),
    (2, BEYOND, ["branch create", "shop/x", "--at", "lsn:ffffffffffffff00"],
     ["restore", "shop", "--to", "lsn:ffffffffffffff00", "--yes"], ["log", "shop@lsn:ffffffffffffff00"],
     ["export", "shop@lsn:ffffffffffffff00", "-o", "x.db"], ["check", "shop@lsn:ffffffffffffff00"],
     ["pin create", "shop@lsn:ffffffffffffff00", "p"]),
    (2, "of another database than shop; `corallite db create NAME --from", ["restore", "shop", "--to", "books@-5m"],
     ["branch create", "shop/x", "--at", "books/side@-5m"]),
    (2, "'yesterday' is no moment", ["restore", "shop", "--to", "yesterday"], ["log", "shop@yesterday"]),
    (2, "ends with @", ["log", "shop@"], ["diff", "shop", "shop@"], ["pin create", "shop@", "p"]),
    (2, "leave out '@-1s'", ["branch drop", "shop/side@-1s", "--yes"], ["branch reset", "shop/side@-1s"],
     ["branch protect", "shop@-1s"], ["restore", "shop@-1s", "--to", "-1s"]),
    # a branch is wanted, and a database is named
    (2, "a branch is wanted", ["branch create", "shop"], ["branch rename", "shop", "x"], ["branch drop", "shop"],
     ["branch reset", "shop"]),
    (2, "grew from no branch", ["branch reset", "shop/main", "--yes"]),
    # contradictions
    (2, "contradict", ["db create", "x", "--from-file", "a", "--from", "b"],
     ["branch create", "shop/x", "--from", "side", "--at", "shop/side@-1s"], ["diff", "shop", "shop/side", "--json", "--sql"],
     ["help", "--man", "--json"]),
    (2, "give one of them", ["export", "shop", "-o", "-", "--json"], ["logs", "--follow", "--json"]),
    # numbers, times and words
    (2, "no number of commits", ["log", "shop", "-n", "0"], ["log", "shop", "-n", "many"], ["log", "shop", "-n", "-1"],
     ["log", "shop", "-n", "99999999999999999999"]),
    (2, "is no time to live", ["branch create", "shop/x", "--expires", "soon"],
     ["branch create", "shop/x", "--expires", "0h"], ["branch create", "shop/x", "--expires", "24"]),
    (2, "port from 1024", ["up", "--port-base", "80"], ["up", "--port-base", "many"]),
    (2, "--lines is a number", ["logs", "-n", "many"]),
    (2, "did you mean 'safekeeper-2'", ["logs", "safekeper-2"]),
    (2, "did you mean 'perl'", ["connect", "shop", "--lang", "prel"]),
    (2, "for which language", ["connect", "shop"]),
    (2, "did you mean 'bash'", ["completion", "bsh"]),
    (2, "to where", ["export", "shop"]),
    (2, "to which moment", ["restore", "shop"]),
    # files
    (1, "No such file", ["import", "nowhere.db", "x"], ["db create", "x", "--from-file", "nowhere.db"]),
    (2, "no regular file", ["import", "/", "x"]),
    (1, "already", ["db create", "shop"], ["branch create", "shop/side"]),
    # the first word
    (2, "did you mean 'corallite status'", ["statsu"], ["help", "statsu"]),
    (2, "did you mean 'corallite branch create'", ["branch", "creat"], ["help", "branch", "creat"]),
    (2, "is followed by one of: create, list, drop", ["db"], ["help", "db", "zzzzzz"]),
    (2, "there is no verb 'nonsense'; `corallite help` names them", ["help", "nonsense"], ["nonsense"]),
    (2, "is too much|there is no verb", ["help", "up", "down"]),
    (2, "'--json' stands before the verb, and options stand behind it", ["--json"], ["--json", "db", "list"]),
)


@test
def each_wrong_use_of_the_table(room):
    for code, pattern, *uses in TABLE:
        for use in uses:
            wrong(room, use[0].split() + use[1:], pattern, code)
    done = room.run()
    check("no arguments: exit code 2, and the verbs", done.returncode == 2 and "usage: corallite VERB" in done.stdout)


@test
def help_of_a_family(room):
    for family in ("db", "branch", "pin"):
        names = [v["name"] for v in room.json("help") if v["name"].startswith(family + " ")]
        for args in (["help", family], [family, "--help"], [family, "-h"]):
            text = room.ok(*args)
            check(f"corallite {' '.join(args)} lists its verbs", all(f"  {n} " in text for n in names) and len(names) > 2,
                  text)
