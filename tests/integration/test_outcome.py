"""Outcome unknown: what corallite_commit_status says right after every kind of failover."""

import json
import os
import re
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from lib.cluster import BIN, NODES, PAGESERVER, SLOWER, check, line, run, tell, until
from lib.registry import test
from test_chaos import ChaosCluster

PATIENCE = 10 * SLOWER  # seconds within which an outcome is told once a majority is there


def commit_in_doubt(c, name, way):
    """A writer whose COMMIT ends without an answer. way "out": every safekeeper has the record, what it
    says is lost; "in": none of them hears of it. (the writer, the commit's id)"""
    w = c.worker("commit_on_demand", "400ms")
    check(line(w) == "open", "open")
    tell(w, f"begin {name}")
    check(line(w) == "ok", f"BEGIN of {name}")
    for node in NODES:
        c.proxy[node].do(f"cut {way}")
    tell(w, "commit")
    said = line(w)
    check(said.startswith("error SQLITE_IOERR_FSYNC "), f"{name}: COMMIT without an answer: {said}")
    found = re.search(r"corallite_commit_status\('(\d+:[0-9a-f]{16})'\)", said)
    check(found, f"no commit id in: {said}")
    return w, found[1]


def heal(c):
    for node in NODES:
        c.proxy[node].do("resume")


class Asker:
    """Another process than the writer's, by a connection that it has had all the time."""

    def __init__(self, c):
        self.db = c.connect(timeout=20.0)
        self.db.execute("SELECT count(*) FROM t").fetchone()

    def ask(self, commit_id):
        return self.db.execute("SELECT corallite_commit_status(?)", (commit_id,)).fetchone()[0]

    def rows(self):
        return [r[0] for r in self.db.execute("SELECT a FROM t ORDER BY rowid")]


def nothing(c, w, asker):
    heal(c)


def one_killed(c, w, asker):
    c.kill9(1)
    heal(c)


def two_killed_and_back(c, w, asker):
    """They are away when the question is asked: it waits for them and guesses nothing."""
    c.kill9(2)
    c.kill9(3)
    heal(c)
    return lambda: [c.start(node, wait=False) for node in (2, 3)]


def all_killed_and_back(c, w, asker):
    for node in NODES:
        c.kill9(node)
    heal(c)
    for node in NODES:
        c.start(node)


def another_process_leads(c, w, asker):
    heal(c)
    asker.db.execute("INSERT INTO t VALUES('of another leader')")


def pageserver_restarted(c, w, asker):
    heal(c)
    c.restart(PAGESERVER)


def writer_killed(c, w, asker):
    w.kill()
    heal(c)


def the_writer_asks(c, w, asker):
    heal(c)


FAILOVERS = (nothing, one_killed, two_killed_and_back, another_process_leads, pageserver_restarted,
             writer_killed, the_writer_asks)


def told(ask):
    """(the outcome, seconds until it was told, how often "unknown" was said before)"""
    began, unknown = time.monotonic(), 0
    while True:
        word = ask()
        took = time.monotonic() - began
        if word != "unknown":
            return word, took, unknown
        unknown += 1
        check(took < PATIENCE, f"still unknown after {took:.1f} s")


def one_round(c, asker, name, way, failover):
    """(the commit's id, what was told, seconds, unknowns before it)"""
    w, commit_id = commit_in_doubt(c, name, way)
    later = failover(c, w, asker)

    def by_the_writer():
        tell(w, f"status {commit_id}")
        return line(w)

    def by_another():
        return asker.ask(commit_id)

    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(told, by_the_writer if failover is the_writer_asks else by_another)
        if later:
            time.sleep(0.5)
            check(not answer.done(), f"{name}: an outcome is told without a majority")
            later()
        word, took, unknown = answer.result()
    check(word == ("committed" if way == "out" else "not committed"), f"{name}: {commit_id} is told to be {word}")
    check((name in asker.rows()) == (word == "committed"), f"{name} was told to be {word}, rows: {asker.rows()}")
    w.kill()
    for node in NODES:
        if c.process[node].poll() is not None:
            c.start(node)
    return commit_id, word, took, unknown


@test("an unknown outcome is told, and right, straight after every kind of failover: safekeepers killed, another "
      "leader, pageserver restarted, writer killed; of records that all have, and that nobody has (--slow: both for "
      "each)", 180)
def outcome_after_every_failover(t):
    with ChaosCluster(t.dir) as c:
        c.shell("CREATE TABLE t(a);")
        asker, outcomes, longest, unknowns = Asker(c), {}, Counter(), 0
        for i, failover in enumerate(FAILOVERS + (all_killed_and_back,) * t.slow()):
            for way in ("out", "in") if i == 0 or t.slow() else ("out", "in")[i % 2:i % 2 + 1]:
                name = f"{failover.__name__}-{way}"
                commit_id, word, took, unknown = one_round(c, asker, name, way, failover)
                outcomes[name] = (commit_id, word)
                longest[failover.__name__] = max(longest[failover.__name__], took)
                unknowns += unknown
        words = Counter(word for _, word in outcomes.values())
        t.note(f"{words['committed']} committed, {words['not committed']} not committed, all right; \"unknown\" was said "
               f"{unknowns} times before; told after at most " +
               ", ".join(f"{name} {took:.2f} s" for name, took in longest.items()))
        check(words["committed"] > 0 and words["not committed"] > 0, f"verdicts: {words}")

        c.kill9_everything()
        c.start_everything()
        sql = "".join(f"SELECT corallite_commit_status('{i}');" for i, _ in outcomes.values())
        got = c.shell(f"SELECT count(*) FROM t; {sql}", timeout=60).stdout.splitlines()[1:]
        check(got == [word for _, word in outcomes.values()], f"after every process was restarted: {got}")
        rows = asker.rows()
        check(sorted(r for r in rows if r in outcomes) ==
              sorted(name for name, (_, word) in outcomes.items() if word == "committed"), f"rows: {rows}")


@test("a record that only one safekeeper has, and that one is away: told to be not committed, and its return "
      "changes nothing", 60)
def outcome_of_a_minority(t):
    with ChaosCluster(t.dir) as c:
        c.shell("CREATE TABLE t(a);")
        asker = Asker(c)
        w = c.worker("commit_on_demand", "500ms")
        check(line(w) == "open", "open")
        tell(w, "begin lost")
        check(line(w) == "ok", "BEGIN")
        for node in (2, 3):
            c.proxy[node].do("cut in")
        tell(w, "commit")
        commit_id = re.search(r"corallite_commit_status\('(\d+:[0-9a-f]{16})'\)", line(w))[1]
        c.kill9(1)
        heal(c)
        word, took, unknown = told(lambda: asker.ask(commit_id))
        check(word == "not committed", f"told to be {word}")
        c.start(1)
        for _ in range(2):
            check(asker.ask(commit_id) == word and asker.rows() == [], f"after its return: {asker.rows()}")
            asker.db.execute("DELETE FROM t")
        t.note(f"{word}, told after {took:.2f} s, \"unknown\" {unknown} times before")


def corallite(c, *words):
    done = run([os.path.join(BIN, "corallite"), *words, "--server", c.server()], "", 30)
    check(done.returncode == 0, f"{words}: {done.stderr}")


@test("a commit id stays that of one commit: behind a restore, a drop of the branch and a drop of the database, what was there before is "
      "'not committed' under the old name, and what the moment had is 'committed'", 60)
def ids_outlive_the_branch(t):
    with ChaosCluster(t.dir) as c:
        c.shell("CREATE TABLE t(a);")

        def commits(db, n):
            return [c.shell("INSERT INTO t VALUES(1); PRAGMA corallite_last_commit;", db=db).stdout.strip()
                    for _ in range(n)]

        def verdicts(db, ids):
            sql = "".join(f"SELECT corallite_commit_status('{i}');" for i in ids)
            return set(c.shell(sql, db=db, timeout=60).stdout.split("\n")) - {""}
        before = commits("shop", 2)
        corallite(c, "branch", "create", "shop/b")
        had, gone = before + commits("shop/b", 1), []
        corallite(c, "pin", "create", "shop/b", "one")
        for way in ("restored", "dropped", "dropped with all"):
            gone += commits("shop/b", 3)
            if way == "restored":
                corallite(c, "restore", "shop/b", "--to", "pin:one", "--keep-as", "kept", "--yes")
                check(verdicts("shop/kept", gone) == {"committed"}, f"where they are kept: {verdicts('shop/kept', gone)}")
            elif way == "dropped":
                corallite(c, "branch", "drop", "shop/b", "--yes")
                corallite(c, "branch", "create", "shop/b", "--from", "kept")
                had += gone[:3]
                gone = gone[3:]
            else:
                corallite(c, "db", "drop", "shop", "--yes")
                c.shell("CREATE TABLE t(a);")
                corallite(c, "branch", "create", "shop/b")
                had = []
            if had:
                check(verdicts("shop/b", had) == {"committed"}, f"{way}, what was before it: {verdicts('shop/b', had)}")
            again = commits("shop/b", 3)  # as long as those that are gone
            check(verdicts("shop/b", again) == {"committed"}, f"{way}, those that came after it")
            check(not set(again) & set(gone), f"{way}: ids are given twice: {gone}, then {again}")
            check(verdicts("shop/b", gone) == {"not committed"}, f"{way}, what is gone: {verdicts('shop/b', gone)}")
            gone += again
        t.note(f"{len(gone)} ids, the last {gone[-1]}")


@test("an outcome is told to a connection whose branch was renamed, put aside or dropped since, whose database came into being after it, in a "
      "child of fork, and without the pageserver; another branch's commit is 'not committed' at once", 60)
def ids_need_no_names(t):
    with ChaosCluster(t.dir) as c:
        def commit(con):
            con.execute("INSERT INTO t VALUES(1)")
            con.commit()
            return con.execute("PRAGMA corallite_last_commit").fetchone()[0]

        def told(con, *ids):
            return [con.execute("SELECT corallite_commit_status(?)", (i,)).fetchone()[0] for i in ids]
        early = c.connect(timeout=20)  # nobody has made it yet
        made = c.shell("CREATE TABLE t(a); PRAGMA corallite_last_commit;").stdout.strip()
        check(told(early, made) == ["committed"], f"made by another process: {told(early, made)}")
        main = c.connect(timeout=20)
        ids, branches, parent = [commit(main)], {}, "main"
        for name in ("renamed", "restored", "dropped"):
            corallite(c, "branch", "create", f"shop/{name}", "--from", parent)
            branches[name] = c.connect(db=f"shop/{name}", timeout=20)
            ids.append(commit(branches[name]))
            parent = name
        began = time.monotonic()
        check(told(main, *ids) == ["committed"] + ["not committed"] * 3, f"of its branches: {told(main, *ids)}")
        check(time.monotonic() - began < 2 * SLOWER, "it takes long to say that another branch's commit is not here")
        corallite(c, "branch", "rename", "shop/renamed", "other")
        corallite(c, "branch", "create", "shop/renamed")
        corallite(c, "restore", "shop/restored", "--to", f"lsn:{ids[1].split(':')[1]}", "--keep-as", "kept", "--yes")
        corallite(c, "branch", "drop", "shop/dropped", "--yes")
        for n, con in enumerate(branches.values(), 2):
            check(told(con, *ids) == ["committed"] * n + ["not committed"] * (4 - n), f"{n} of {ids}: {told(con, *ids)}")
        c.kill9(PAGESERVER)
        for n, con in enumerate(branches.values(), 2):
            check(told(con, *ids[:n]) == ["committed"] * n, f"without the pageserver: {told(con, *ids[:n])}")
        c.start(PAGESERVER)
        child = os.fork()
        if child == 0:
            try:
                fine = told(branches["renamed"], ids[3]) == ["not committed"] and told(main, ids[0]) == ["committed"]
            except Exception:
                fine = False
            os._exit(0 if fine else 1)
        check(os.waitpid(child, 0)[1] == 0, "a child of fork is not told")


def flushed(c):
    """How far each safekeeper has the log of shop, on its disk."""
    status = json.loads(run([os.path.join(BIN, "corallite"), "status", "shop/main", "--json", "--server", c.server()], "", 30).stdout)
    return {s["node"]: s["flush_lsn"] for s in status["timelines"][0]["safekeepers"] if s["known"]}


def put_aside(c, name, deaf):
    """Everything but a commit that `deaf` did not hear of is restored away; its writer is dead and told nobody of it."""
    w = c.worker("commit_on_demand", "400ms")
    check(line(w) == "open", "open")
    for word in ("begin before", "commit", f"begin {name}"):
        tell(w, word)
        check(line(w) == "ok", f"{word}, before {name}")
    until(lambda: len(set(flushed(c).values())) == 1, 20, "all have what was committed")
    before = flushed(c)[1]
    for node in NODES:
        c.proxy[node].do("cut in" if node in deaf else "cut out")
    tell(w, "commit")
    check(line(w).startswith("error SQLITE_IOERR_FSYNC "), f"{name}: COMMIT has an answer")
    w.kill()
    w.wait()
    heal(c)
    until(lambda: all((flushed(c).get(node, "") > before) == (node not in deaf) for node in NODES), 20, f"{name}: who has it")
    if name == "on two, one of them away":
        c.stop(3)
    kept = name.replace(",", "").replace(" ", "-")
    done = run([os.path.join(BIN, "corallite"), "restore", "shop", "--to", "pin:one", "--keep-as", kept, "--yes",
                "--server", c.server()], "", 30)
    check(done.returncode == 0, f"{name}: {done.stderr}")
    return kept


def rows_kept(c, kept):
    return int(c.shell("SELECT count(*) FROM t;", db=f"shop/{kept}").stdout)


def pinned(t):
    """A cluster with an empty table, and a pin there."""
    c = ChaosCluster(t.dir)
    c.shell("CREATE TABLE t(a);")
    corallite(c, "pin", "create", "shop", "one")
    return c


@test("a branch is restored when its last commit is on safekeepers whom nobody told that it is committed: the branch that was put aside has "
      "it, by itself, if a majority has it, and not before that is known; a reader at once has no less than one that comes later", 90)
def kept_branch_ends_with_what_a_majority_has(t):
    with pinned(t) as c:
        everybody, nobody = put_aside(c, "on all", ()), put_aside(c, "on one", (2, 3))
        until(lambda: rows_kept(c, everybody) == 2, 20, "the commit that all have is shown")
        check(rows_kept(c, nobody) == 1, "a commit is shown that one has")
        two = put_aside(c, "on two, one of them away", (2,))
        check((rows_kept(c, two), rows_kept(c, nobody)) == (1, 1), "a commit is shown that a majority may not have")
        c.start(3)
        until(lambda: rows_kept(c, two) == 2, 30, "the commit that two have is shown")
        check((rows_kept(c, everybody), rows_kept(c, nobody)) == (2, 1), "what was found out changed")
        for again in range(2):
            done = run([os.path.join(BIN, "corallite"), "safekeeper", "catch-up", "--server", c.server(), "--json"], "", 60)
            answer = json.loads(done.stdout)
            check(answer["left"] == [] and answer["lagged"] * again == 0, f"catch-up, {again}: {answer}")
        check((rows_kept(c, everybody), rows_kept(c, two), rows_kept(c, nobody)) == (2, 2, 1), "catch-up found more, or less")
        # Every copy of the branches that were put aside is whole.
        corallite(c, "check")


@test("of a branch that was put aside with an open end the pageserver is killed before it finds out, and a disk that had the end is lost once "
      "it has: the commit is there, fetched from those that are left", 120)
def kept_end_outlives_pageserver_and_disk(t):
    with pinned(t) as c:
        two = put_aside(c, "on two, one of them away", (2,))
        c.kill9(PAGESERVER)
        c.start(3)
        c.start(PAGESERVER)
        until(lambda: c.metrics()["corallite_pageserver_sealed_ends_total"] == 1, 30, "it is found out and told")
        for node in (3, PAGESERVER):
            c.kill9(node)
            c.start(node)
        until(lambda: rows_kept(c, two) == 2, 30, "and is, after both were killed")
        for node in (1, PAGESERVER):
            c.kill9(node)
            shutil.rmtree(c.data(node))
        c.start(PAGESERVER, command=[*c.command(PAGESERVER), "--take-over"])
        until(lambda: rows_kept(c, two) == 2, 30, "the one that is left has it and knows that it is committed")
