"""Damage of every kind, seeded by tests/damage into the files of stopped daemons: each is found by its name, and what
the log or the other safekeepers have is given back, so that every page of every moment is what it was."""

import hashlib
import json
import os
import random
import shutil
import urllib.request

from lib.cluster import BIN, NODES, PAGESERVER, check, run, until
from lib.registry import test

TOOL = os.path.join(BIN, "tests", "damage")

# Damage to rows: what `check --deep` calls it (all of these), and what mends it. Each is seeded into a database of
# its own, in one store.
ROWS = {
    "page-bit": (["page-damaged"], "rebuild"),
    "pack-bit": (["pack-damaged"], "rebuild"),
    "page-missing": (["version-missing"], "rebuild"),
    "chunk-missing": (["chunk-missing"], "rebuild"),
    "version-extra": (["commit-missing"], "rebuild"),
    "commit-missing": (["commit-missing", "time-dangling"], "rebuild"),
    "commit-cut": (["commit-damaged"], "rebuild"),
    "commit-lacks-page": (["version-unlisted"], "rebuild"),
    "commit-alien-page": (["commit-pages", "version-missing"], "rebuild"),
    "time-missing": (["time-missing"], "rebuild"),
    "time-dangling": (["time-dangling"], "rebuild"),
    "progress-ahead": (["progress-ahead"], "rebuild"),
    "progress-behind": (["progress-behind", "usage-wrong"], "recount"),
    "progress-missing": (["progress-behind", "usage-wrong"], "recount"),
    "progress-digest": (["progress-wrong"], "rebuild"),
    "usage-wrong": (["usage-wrong"], "recount"),
    "timeline-missing": ([], "drop-rows"),
    "pin-dropped": ([], "drop-pin"),
    "cutoff-ahead": (["cutoff-ahead"], "rebuild"),
    "cutoff-above-pin": (["pin-unreadable"], "rebuild"),
}
NAMELESS = {"timeline-missing": "orphan-rows", "pin-dropped": "pin-dangling"}
# What no log brings back by itself: named, and a new store that takes over is whole.
HOPELESS = {"timeline-ancestor": "ancestor-missing", "name-twice": "name-twice"}
# What keeps the pageserver from starting, or the check from going on: words of the sentence.
STORES = {
    "store-torn": ("damaged",),
    "store-cut": ("cut short",),
    "store-meta": ("not an LMDB file",),
    "timeline-damaged": ("a timeline's row is damaged",),
}


def damage(kind, directory, timeline=None, other=None):
    more = ["--timeline", timeline] if timeline else []
    more += ["--other", other] if other else []
    done = run([TOOL, kind, directory, *more], "", 20)
    check(done.returncode == 0, f"{kind} could not be seeded: {done.stderr.strip()}")


def corallite(c, *args, code=0, timeout=60):
    done = run([os.path.join(BIN, "corallite"), *args, "--json"], "", timeout, c.env())
    check(done.returncode == code, f"corallite {' '.join(args)} ended with {done.returncode}, wanted {code}: "
                                   f"{done.stderr.strip()[-400:]} {done.stdout.strip()[-1500:]}")
    check(done.stdout, f"corallite {' '.join(args)} says nothing but: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout)


def fill(c, db, commits=24):
    """Small changes of a few pages, which become packs, and noise that takes an image in two pieces."""
    rng = random.Random(db)
    con = c.connect(db)
    con.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b BLOB)")
    for i in range(commits):
        if i % 6 == 5:
            con.execute("INSERT INTO t(a, b) VALUES (?, ?)", (f"noise {i}", rng.randbytes(9000)))
        else:
            con.execute("INSERT INTO t(a) VALUES (?)", (f"row {i} " + "x" * rng.randrange(60),))
    con.close()


def digest(c, db, branch, at):
    url = f"http://127.0.0.1:{c.http[PAGESERVER]}/v1/databases/{db}/branches/{branch}/export?at={at}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        return hashlib.sha256(answer.read()).hexdigest()


def moments(c, db, n):
    """{(branch, moment): digest of the file as it is exported then}, of the newest n moments of each branch."""
    out = {}
    for branch in corallite(c, "branch", "list", db):
        name = branch["branch"]
        log = corallite(c, "log", f"{db}/{name}", "-n", str(n))
        for commit in log if isinstance(log, list) else log["commits"]:
            at = f"lsn:{commit['lsn']}"
            out[name, at] = digest(c, db, name, at)
    return out


def timeline_of(c, db, branch="main"):
    return next(b["timeline"] for b in corallite(c, "branch", "list", db) if b["branch"] == branch)


class Copies:
    """The directories of a cluster that is stopped, to be brought back before each kind."""

    def __init__(self, c):
        self.c = c
        for node in list(c.process):
            c.stop(node)
        for node in c.process:
            self.copy(c.data(node), c.data(node) + ".kept")

    @staticmethod
    def copy(a, b):
        done = run(["cp", "-a", "--sparse=always", a, b], "", 60)
        check(done.returncode == 0, done.stderr)

    def back(self, *nodes):
        for node in nodes or self.c.process:
            shutil.rmtree(self.c.data(node))
            self.copy(self.c.data(node) + ".kept", self.c.data(node))


def seed_databases(t, c, kinds, more):
    """A database for each kind, in which `more` writes between the old commits and the new ones."""
    n = 60 if t.slow() else 6
    lines, before = {}, {}
    for kind in kinds:
        fill(c, kind)
        if more:
            more(kind)
    corallite(c, "pin", "create", "cutoff-above-pin", "kept")
    for kind in kinds:
        db = c.connect(kind)
        db.execute("UPDATE t SET a = a || '!' WHERE id < 9")
        db.close()
    corallite(c, "branch", "create", "page-bit/child")
    db = c.connect("page-bit/child")
    db.execute("INSERT INTO t(a) VALUES ('of the child')")
    db.close()
    for kind in kinds:
        lines[kind] = timeline_of(c, kind)
        before[kind] = moments(c, kind, n)
    # Below its cut only the pin is to be there.
    before["cutoff-above-pin"] = {("main", at): digest(c, "cutoff-above-pin", "main", at)
                                  for at in ("pin:kept", "latest")}
    return lines, before


def same(c, before, what):
    for db, want in before.items():
        wrong = [f"{branch}@{at}" for (branch, at), sha in want.items() if digest(c, db, branch, at) != sha]
        check(not wrong, f"{what}: {db} differs at {wrong[:4]}")


def kinds_of(found, db):
    return {f["kind"] for f in found["store"]["findings"] if f["name"].split("/")[0] == db}


def rows_come_back(t, c, kinds=None, more=None, ready=lambda: None, timeout=120):
    """Seeds each kind into a database of its own, looks whether each is found by its name, and mends all."""
    kinds = kinds or ROWS
    lines, before = seed_databases(t, c, kinds, more)
    ready()
    check(corallite(c, "check", "--deep", timeout=timeout)["sound"], "it is not sound to begin with")
    c.stop(PAGESERVER)
    for kind in kinds:
        damage(kind, c.data(PAGESERVER), lines[kind])
    c.start(PAGESERVER)
    found = corallite(c, "check", "--deep", code=1, timeout=timeout)
    everything = {f["kind"] for f in found["store"]["findings"]}
    for kind, (want, _) in kinds.items():
        have = kinds_of(found, kind)
        check(set(want) <= have, f"{kind}: found {sorted(have)} instead of {want}")
        if kind in NAMELESS:
            check(NAMELESS[kind] in everything, f"{kind}: nothing is called {NAMELESS[kind]}")
    plan = corallite(c, "repair", "--dry-run", code=1, timeout=timeout)
    check(not any(a["done"] for a in plan["actions"]), "a dry run did something")
    for kind, (_, action) in kinds.items():
        if kind not in NAMELESS:
            have = [a["action"] for a in plan["actions"] if a["name"].split("/")[0] == kind]
            check(action in have, f"{kind}: would {have} instead of {action}")
    again = corallite(c, "check", "--deep", code=1, timeout=timeout)
    check(len(again["store"]["findings"]) == len(found["store"]["findings"]), "a dry run changed something")
    done = corallite(c, "repair", "--yes", timeout=timeout)
    check(all(a["done"] for a in done["actions"]) and done["sound"], f"not all was mended: {done}")
    check(corallite(c, "check", "--deep", timeout=timeout)["sound"], "not sound after the repair")
    same(c, before, "after the repair")
    for kind in kinds:  # and it is written to
        db = c.connect(kind)
        db.execute("INSERT INTO t(a) VALUES ('afterwards')")
        db.close()
    check(corallite(c, "check", "--deep", timeout=timeout)["sound"], "not sound after more was written")
    size = sum(a["log_bytes"] for a in done["actions"])
    t.note(f"{len(found['store']['findings'])} findings, {len(done['actions'])} actions, {size} bytes of log, "
           f"{sum(map(len, before.values()))} moments")
    return done


@test("20 kinds of damage to rows of the pageserver's store, each in a database of its own: each is found and named, "
      "`repair` gives all of it back, every page of every moment is what it was", 240)
def damaged_rows(t):
    with t.cluster() as c:
        rows_come_back(t, c)


# Damage to a safekeeper's files: words of the sentence with which it refuses the timeline, or, if the damage is none of
# one timeline (WHOLE), to start (None: it starts, and says nothing), and whether --mend gives it back.
LOGS = {
    "log-bit": (("is halted", "log is damaged", ".seg"), True),
    "log-hole": (("is halted", "log is damaged", ".seg"), True),
    "segment-missing": (("is halted", "segment", "is missing"), True),
    "segment-header": (("is halted", "first page", ".seg"), True),
    "segment-short": (("is halted", "segment", "bytes instead of"), True),
    "log-tail": (None, False),
    "control-newest": (None, False),
    "control-both": (("is halted", "control", "replace"), False),
    "control-missing": (("is halted", "control"), False),
    "history-bit": (("is halted", "history"), False),
    "registry-bit": (("registry",), False),
    "registry-lacks": (("registry", "older than the data"), False),
    "timeline-lost": (("in the registry", "is missing"), False),
    "identity-swapped": (("belongs to safekeeper 1",), False),
}


WHOLE = ("registry-bit", "registry-lacks", "timeline-lost", "identity-swapped")
LOGS_IN_CI = ("log-bit", "segment-missing", "control-both", "registry-lacks")
STORES_IN_CI = ("name-twice", "store-torn", "timeline-damaged")


def refusal(c, node, words, command=None):
    """The line with which a daemon ends at its start."""
    size = os.path.getsize(c.log(node))
    c.start(node, wait=False, command=command)
    code = c.process[node].wait(20)
    with open(c.log(node), errors="replace") as f:
        f.seek(size)
        text = f.read()
    check(code == 1, f"{node} ended with {code} instead of 1: {text.strip()[-400:]}")
    for line in text.splitlines():
        if all(word.lower() in line.lower() for word in words):
            return line
    check(False, f"nothing says {words}: {text.strip()[-600:]}")


def refused_alone(c, node, words, line):
    """The line with which a daemon refuses one timeline. The others it serves: with the third member away it is
    the one that is needed. (That it neither votes nor acknowledges in the damaged one: tests/unit/safekeeper.)"""
    size = os.path.getsize(c.log(node))
    c.start(node)
    with open(c.log(node), errors="replace") as f:
        f.seek(size)
        text = f.read()
    found = [said for said in text.splitlines() if all(word.lower() in said.lower() for word in words)]
    check(found, f"nothing says {words}: {text.strip()[-600:]}")
    check(c.metrics(node)["corallite_safekeeper_halted_timelines"] == 1, "the metric")
    status = corallite(c, "status")
    copy = next(s for x in status["timelines"] if x["id"] == line for s in x["safekeepers"] if s["node"] == node)
    check(copy["refused"] and words[-1] in copy["refused"].lower(), f"status: {copy}")
    c.kill9(3)
    c.shell("INSERT INTO t VALUES (1)", db="sound", timeout=30)
    c.start(3)
    c.stop(node)
    return found[0]


def starts(c, node):
    """Does it run, and answer?"""
    c.start(node, wait=False)
    until(lambda: c.process[node].poll() is not None or c.is_up(node), 20, f"{node} starts or ends")
    return c.process[node].poll() is None


def mend(c, node, others=None):
    others = others or ",".join(f"{n}=127.0.0.1:{c.port[n]}" for n in NODES if n != node)
    return run([*c.command(node), "--mend", others], "", 60, c.env())


def content(directory):
    """{file: digest} of a data directory; the lock tells which process has it."""
    out = {}
    for folder, _, files in os.walk(directory):
        for name in set(files) - {"lock"}:
            with open(os.path.join(folder, name), "rb") as f:
                out[os.path.join(folder, name)] = hashlib.sha256(f.read()).hexdigest()
    return out


def three_copies(c):
    """Does every safekeeper have the newest commit? What one lacks comes with a write; so each look brings one."""
    c.shell("UPDATE t SET a = 'looked' WHERE id = 1", db="shop")
    done = run([os.path.join(BIN, "corallite"), "check", "--json"], "", 60, c.env())
    found = json.loads(done.stdout)
    return found["sound"] and all(b["copies"] == 3 for b in found["databases"] if b["database"] == "shop")


@test("14 kinds of damage to a safekeeper's files: it says which and refuses that timeline alone, or to start where it is "
      "none of one timeline, or there is nothing to say; what the others have is fetched by --mend, what it promised is "
      "not made up; commits go on", 240)
def damaged_logs(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a)", db="sound")
        fill(c, "shop")
        db = c.connect("shop")
        db.execute("INSERT INTO t(a, b) VALUES ('large', ?)", (random.randbytes(20 << 20),))
        for i in range(8):
            db.execute("INSERT INTO t(a) VALUES (?)", (f"behind it {i}",))
        db.close()
        line = timeline_of(c, "shop")
        check(corallite(c, "check")["sound"], "not sound to begin with")
        until(lambda: three_copies(c), 20, "three copies")
        c.stop(2)
        rows, kept = 33, c.data(2) + ".kept"
        for kind, (words, mends) in LOGS.items():
            if not t.slow() and kind not in LOGS_IN_CI:
                continue
            shutil.rmtree(kept, ignore_errors=True)
            Copies.copy(c.data(2), kept)
            damage(kind, c.data(2), line, c.data(1))
            if words and kind in WHOLE:
                t.note(f"{kind}: " + refusal(c, 2, words)[-230:])
            elif words:
                t.note(f"{kind}: " + refused_alone(c, 2, words, line)[-230:])
            if kind == "log-bit":  # nobody gives the records: it says so, and nothing is changed
                before = content(c.data(2))
                done = mend(c, 2, "1=127.0.0.1:1")
                check(done.returncode == 1 and "safekeeper 1" in done.stdout, f"{done.stdout} {done.stderr}")
                after = content(c.data(2))
                changed = [f for f in before | after if before.get(f) != after.get(f) and line in f]
                check(not changed, f"changed though nothing could be mended: {changed}")
            if mends:
                done = mend(c, 2)
                check(done.returncode == 0, f"{kind}: not mended: {done.stdout} {done.stderr}")
                t.note(f"{kind}: {done.stdout.splitlines()[0]}")
                if kind not in ("segment-missing",):
                    check(os.listdir(os.path.join(c.data(2), "aside")), "what was overwritten was not kept")
            elif words:
                done = mend(c, 2)
                check(done.returncode == 1, f"{kind}: --mend ended with {done.returncode}")
                if kind in WHOLE:
                    refusal(c, 2, words)
            # The third has just been started after a kill -9, and waits out a lease that it may have promised.
            c.shell(f".timeout 15000\nINSERT INTO t(a) VALUES ('while {kind}');", db="shop")
            rows += 1
            if mends or not words:
                check(starts(c, 2), f"{kind}: it does not start")
                c.shell(f"INSERT INTO t(a) VALUES ('after {kind}')", db="shop")
                rows += 1
                until(lambda: three_copies(c), 20, f"three copies after {kind}")
                c.stop(2)
            else:  # what the node did elsewhere stays done: an older copy of all of it would be refused
                part = "" if kind in WHOLE else os.path.join("timelines", line)
                shutil.rmtree(os.path.join(c.data(2), part))
                Copies.copy(os.path.join(kept, part), os.path.join(c.data(2), part))
        have = int(c.shell("SELECT count(*) FROM t", db="shop").stdout)
        check(have == rows, f"{have} rows instead of {rows}")


def take_over(c):
    """The documented way back where the store itself is lost: another one, filled from the safekeepers."""
    data = c.data(PAGESERVER)
    shutil.rmtree(data + ".lost", ignore_errors=True)
    os.rename(data, data + ".lost")
    c.start(PAGESERVER, command=[*c.command(PAGESERVER), "--take-over"])


@test("damage that no rebuild mends: the store's file, a timeline's row, a branch without its ancestor, a name twice; "
      "each is said, and a new store that takes over has every page of every moment", 120)
def damaged_stores(t):
    with t.cluster() as c:
        fill(c, "shop")
        corallite(c, "branch", "create", "shop/child")
        db = c.connect("shop/child")
        db.execute("INSERT INTO t(a) VALUES ('of the child')")
        db.close()
        main, child = timeline_of(c, "shop"), timeline_of(c, "shop", "child")
        before = {"shop": moments(c, "shop", 30 if t.slow() else 4)}
        kept = Copies(c)
        for kind, want in HOPELESS.items():
            if not t.slow() and kind not in STORES_IN_CI:
                continue  # reads of a branch that is not based wait until their time is over
            kept.back()
            damage(kind, c.data(PAGESERVER), child)
            c.start_everything()
            found = corallite(c, "check", "--deep", code=1)
            have = {f["kind"] for f in found["store"]["findings"]}
            check(want in have, f"{kind}: found {sorted(have)} instead of {want}")
            done = corallite(c, "repair", "--yes", code=1)
            check(not done["actions"] and not done["sound"], f"{kind}: {done}")
            if kind == "timeline-ancestor":
                c.stop(PAGESERVER)
                take_over(c)
                same(c, before, kind)
            for node in list(c.process):
                c.stop(node)
        for kind, words in STORES.items():
            if not t.slow() and kind not in STORES_IN_CI:
                continue
            kept.back()
            damage(kind, c.data(PAGESERVER), main)
            for node in NODES:
                c.start(node, wait=False)
            c.wait_ready(NODES)
            t.note(f"{kind}: " + refusal(c, PAGESERVER, words)[-200:])
            take_over(c)
            same(c, before, kind)
            found = corallite(c, "check", "--deep")
            check(found["sound"], f"{kind}: not sound afterwards: {found}")
            for node in list(c.process):
                c.stop(node)
