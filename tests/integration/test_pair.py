"""Two pageservers: one owns the catalog, the other follows the same logs and serves the same pages."""

import json
import os
import random
import shutil
import signal
import sqlite3
import threading
import time

from lib.cluster import BIN, PAGESERVER, SLOWER, Cluster, check, free_ports, last_error, run, until
from lib.registry import test

FOLLOWER = "follower"
ROWS = "WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < {}) "


class Pair(Cluster):
    """A cluster with a second pageserver."""

    def __init__(self, directory, follower=True):
        super().__init__(directory)
        self.port[FOLLOWER], self.http[FOLLOWER] = free_ports(2)
        if follower:
            self.start(FOLLOWER)

    def data(self, node):
        return os.path.join(self.dir, node) if node == FOLLOWER else super().data(node)

    def command(self, node, owner=PAGESERVER, promote=False):
        if node not in (PAGESERVER, FOLLOWER):
            return super().command(node)
        args = super().command(PAGESERVER)
        for option, value in (("--dir", self.data(node)), ("--listen", f"{self.host}:{self.port[node]}"),
                              ("--http", f"127.0.0.1:{self.http[node]}")):
            args[args.index(option) + 1] = value
        if promote:
            args.append("--take-over")
        elif node != owner:
            args += ["--follow", f"{self.host}:{self.port[owner]}"]
        return args

    def server(self):
        return f"{self.host}:{self.port[PAGESERVER]},{self.host}:{self.port[FOLLOWER]}"

    def only(self, node):
        return f"{self.host}:{self.port[node]}"

    def silent(self):
        return self.metrics(FOLLOWER)["corallite_pageserver_owner_silent_seconds"]

    def caught_up(self, node=FOLLOWER):
        """Has it all that is committed?"""
        until(lambda: self.metrics(node)["corallite_pageserver_ready"] == 1
              and self.metrics(node)["corallite_pageserver_timelines"] > 0
              and self.metrics(node)["corallite_pageserver_last_record_lag_bytes"] == 0, 20,
              f"{node} has caught up")


def corallite(c, *args, ok=True, server=None, timeout=60):
    done = run([os.path.join(BIN, "corallite"), *args], "", timeout, c.env(CORALLITE_SERVER=server or c.server()))
    if ok:
        check(done.returncode == 0, f"corallite {' '.join(args)}: {done.stderr.strip()[-400:]}")
    return done


class Reader(threading.Thread):
    """Reads pages that its cache does not hold, on and on; how long the longest statement took."""

    def __init__(self, c, uri_db, rows, pause=0.002):
        super().__init__(daemon=True)
        self.db = c.connect(uri_db, cache_mb=1)
        self.db.execute("PRAGMA cache_size = 10")
        self.rows, self.pause = rows, pause
        self.stop, self.error, self.n, self.longest = False, None, 0, 0.0
        self.start()

    def run(self):
        while not self.stop:
            i = random.randrange(self.rows)
            begin = time.monotonic()
            try:
                found = self.db.execute("SELECT length(b) FROM t WHERE id = ?", (i + 1,)).fetchone()
                check(found == (900,), f"row {i + 1}: {found}")
            except Exception as e:  # the test is that there is none
                self.error = e
                return
            self.longest = max(self.longest, time.monotonic() - begin)
            self.n += 1
            time.sleep(self.pause)

    def since(self):
        """Longest statement since the last call, and how many there were."""
        longest, n = self.longest, self.n
        self.longest, self.n = 0.0, 0
        check(self.error is None, f"a reader failed: {self.error}")
        return longest, n


class Writer(threading.Thread):
    def __init__(self, c, db):
        super().__init__(daemon=True)
        self.db = c.connect(db, timeout=30)
        self.db.execute("CREATE TABLE IF NOT EXISTS w(x)")
        self.stop, self.error, self.n = False, None, 0
        self.start()

    def run(self):
        while not self.stop:
            try:
                self.db.execute("INSERT INTO w VALUES (1)")
            except Exception as e:
                self.error = e
                return
            self.n += 1
            time.sleep(0.005)


def fill(c, db="shop", rows=6000):
    """More than the caches of a reader hold (6 MB against 1 MB)."""
    c.shell("CREATE TABLE t(id INTEGER PRIMARY KEY, b);" + ROWS.format(rows)
            + "INSERT INTO t SELECT x, randomblob(900) FROM i;", db=db)
    return rows


def end(*threads):
    for t in threads:
        t.stop = True
    for t in threads:
        t.join(10)
        check(t.error is None, f"{type(t).__name__} failed: {t.error}")


def gap(t, what, seconds, *readers):
    """Lets readers read for a while; the longest that one of them waited."""
    time.sleep(seconds)
    longest = [r.since() for r in readers]
    check(all(n > 0 for _, n in longest), f"{what}: a reader came to a stop")
    worst = max(l for l, _ in longest)
    t.note(f"{what}: longest read {worst * 1000:.0f} ms of {sum(n for _, n in longest)}")
    return worst


@test("two pageservers: kill -9 of the one that owns the catalog, and of the one that follows, under readers and a "
      "writer: no error, no read of 1 s; the same for SIGSTOP; a transaction goes on at its snapshot; what only the "
      "owner can do is refused with a sentence", 90)
def pair_fails_over(t):
    with Pair(t.dir) as c:
        rows = fill(c)
        corallite(c, "branch", "create", "shop/b")
        moment = json.loads(corallite(c, "log", "shop", "--json").stdout)[0]["lsn"]
        c.caught_up()
        readers = [Reader(c, "shop", rows), Reader(c, "shop/b", rows)]
        writer = Writer(c, "other")
        gap(t, "both there", 1, *readers)

        # A read transaction that begins before and ends after.
        held = c.connect("shop", cache_mb=1)
        held.execute("PRAGMA cache_size = 10")
        held.execute("BEGIN")
        check(held.execute("SELECT count(*) FROM t").fetchone() == (rows,), "rows")
        past = c.connect("shop", at=moment)
        c.shell("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, zeroblob(900))")

        c.kill9(PAGESERVER)
        n = writer.n
        worst = gap(t, "owner killed", 2, *readers)
        check(worst < 1.0 * SLOWER, f"a read took {worst:.3f} s when the owner was killed")
        check(writer.n > n, "the writer came to a stop")
        check(held.execute("SELECT sum(length(b)) FROM t").fetchone() == (900 * rows,), "the open transaction")
        check(held.execute("SELECT b = zeroblob(900) FROM t WHERE id = 1").fetchone() == (0,), "sees later rows")
        held.execute("COMMIT")
        check(past.execute("SELECT count(*) FROM t").fetchone() == (rows,), "a past moment")
        check(c.connect("shop").execute("SELECT b = zeroblob(900) FROM t WHERE id = 1").fetchone() == (1,),
              "a new connection sees the newest commit")
        for args, words in (("db create new", "owns the catalog"), ("branch create shop/x", "owns the catalog"),
                            ("db drop shop --yes", "owns the catalog")):
            done = corallite(c, *args.split(), ok=False, server=c.only(FOLLOWER))
            check(done.returncode != 0 and words in done.stderr, f"{args}: {done.returncode} {done.stderr}")
        begin = time.monotonic()
        try:
            c.connect("absent").execute("CREATE TABLE x(y)")
            check(False, "a database was made without the owner")
        except sqlite3.OperationalError:
            check("cannot be reached now; reads go on" in last_error(), last_error())
        check(time.monotonic() - begin < 8 * SLOWER, "that was not told soon")

        c.start(PAGESERVER)
        until(lambda: c.metrics()["corallite_pageserver_page_requests_total"] > 50, 20, "readers are back at the first")
        corallite(c, "db", "create", "new")
        for r in readers:
            r.since()

        c.kill9(FOLLOWER)
        worst = gap(t, "follower killed", 1, *readers)
        check(worst < 1.0 * SLOWER, f"a read took {worst:.3f} s when the follower was killed")
        c.start(FOLLOWER)
        c.caught_up()

        os.kill(c.pid(PAGESERVER), signal.SIGSTOP)
        worst = gap(t, "owner stopped (SIGSTOP)", 3, *readers)
        os.kill(c.pid(PAGESERVER), signal.SIGCONT)
        check(worst < 1.0 * SLOWER, f"a read took {worst:.3f} s when the owner stood still")
        end(*readers, writer)
        check(c.connect("other").execute("SELECT count(*) FROM w").fetchone() == (writer.n,), "commits of the writer")


def listed(c, server=None):
    return {p["address"]: p for p in json.loads(corallite(c, "pageserver", "list", "--json", server=server).stdout)
            ["pageservers"]}


def names(c, server):
    return sorted(d["name"] for d in json.loads(corallite(c, "db", "list", "--json", server=server).stdout))


@test("a database that the lost owner had begun at one safekeeper is made by the one that took over, which was restarted since without the word; "
      "the catalog goes there and back: who took over last owns it, the other refuses, or follows", 90)
def pair_who_took_over_last(t):
    with Pair(t.dir) as c:
        fill(c, rows=10)
        c.caught_up()
        owner, follower = c.only(PAGESERVER), c.only(FOLLOWER)
        c.kill9(1)
        c.kill9(2)
        done = corallite(c, "db", "create", "half", server=owner, ok=False)
        check(done.returncode != 0, "a database was made by one safekeeper of three")
        c.kill9(PAGESERVER)
        c.kill9(FOLLOWER)
        c.kill9(3)
        c.start(1)
        c.start(2)
        c.start(FOLLOWER, command=c.command(FOLLOWER, promote=True))
        check(names(c, follower) == ["shop"], "what only safekeeper 3 knows is known")
        c.kill9(FOLLOWER)
        c.start(FOLLOWER, command=c.command(FOLLOWER, owner=FOLLOWER))
        c.start(3)
        until(lambda: names(c, follower) == ["half", "shop"], 20, "the database is made")
        c.connect("half", server=follower).execute("CREATE TABLE h(x)")

        # And back. The one that is the owner no more took over from this very disk before.
        c.start(PAGESERVER, command=c.command(PAGESERVER, owner=FOLLOWER))
        c.caught_up(PAGESERVER)
        c.stop(FOLLOWER)
        c.stop(PAGESERVER)
        c.start(PAGESERVER, command=c.command(PAGESERVER, promote=True))
        corallite(c, "branch", "create", "shop/back", server=owner)
        c.start(FOLLOWER, wait=False, command=c.command(FOLLOWER, owner=FOLLOWER))
        until(lambda: c.process[FOLLOWER].poll() is not None, 20, "the other one does not start as an owner")
        check("belong to another pageserver" in c.last_words(FOLLOWER), c.last_words(FOLLOWER))
        c.stop(PAGESERVER)
        c.start(PAGESERVER)
        c.start(FOLLOWER)
        c.caught_up()
        corallite(c, "branch", "create", "shop/still", server=owner)
        c.connect("shop/still", server=follower).execute("SELECT count(*) FROM t").fetchone()


@test("a follower that is started late has all history and every branch; it hears of branches, restores, drops and pins "
      "at once; safekeepers keep who follows and how far each is, over their own kill -9; it is promoted with its pins "
      "when the owner is gone, and the old owner follows; a follower's lost disk is made again", 120)
def pair_follower_late_promoted_lost(t):
    with Pair(t.dir, follower=False) as c:
        rows = fill(c, rows=1000)
        owner, follower = c.only(PAGESERVER), c.only(FOLLOWER)
        moment = json.loads(corallite(c, "log", "shop", "--json").stdout)[0]["lsn"]
        corallite(c, "pin", "create", "shop", "before")
        corallite(c, "branch", "create", "shop/b")
        c.shell("UPDATE t SET b = zeroblob(900)", db="shop/b")
        c.shell("DELETE FROM t WHERE id > 10")
        corallite(c, "branch", "create", "shop/deep", "--from", "b")
        c.shell("CREATE TABLE gone(x)", db="gone")
        corallite(c, "db", "drop", "gone", "--yes")

        c.start(FOLLOWER)
        begin = time.monotonic()
        c.caught_up()
        t.note(f"a late follower has caught up after {time.monotonic() - begin:.1f} s")
        for ref, want in (("shop", 10), ("shop/b", rows), ("shop/deep", rows)):
            got = c.connect(ref, server=follower).execute("SELECT count(*) FROM t").fetchone()[0]
            check(got == want, f"{ref} at the follower has {got} rows")
        check(c.connect("shop", server=follower, at=moment).execute("SELECT count(*) FROM t").fetchone()[0] == rows,
              "a past moment at the follower")
        check([d["name"] for d in json.loads(corallite(c, "db", "list", "--json", server=follower).stdout)] == ["shop"],
              "the follower lists a dropped database, or none")

        # A change of the catalog counts at the follower as soon as the owner has answered.
        for i in range(5):
            corallite(c, "branch", "create", f"shop/now{i}", server=owner)
            c.connect(f"shop/now{i}", server=follower).execute("SELECT count(*) FROM t").fetchone()
        corallite(c, "restore", "shop", "--to", moment, "--keep-as", "undo", "--yes", server=owner)
        got = c.connect("shop", server=follower).execute("SELECT count(*) FROM t").fetchone()[0]
        check(got == rows, f"after a restore the follower's shop has {got} rows")
        corallite(c, "branch", "drop", "shop/now0", "--yes", server=owner)
        done = corallite(c, "log", "shop/now0", server=follower, ok=False)
        check(done.returncode != 0 and "now0" in done.stderr, f"a dropped branch is served: {done.stderr}")
        corallite(c, "pin", "create", "shop", "second", server=owner)
        until(lambda: len(json.loads(corallite(c, "pin", "list", "shop", "--json", server=follower).stdout)) == 2, 5,
              "both pins are at the follower")

        status = json.loads(corallite(c, "status", "--json", server=owner).stdout)
        check({p["address"]: p["follows"] for p in status["pageservers"]} == {owner: None, follower: owner},
              f"status: {status['pageservers']}")
        check(f"follows {owner}" in corallite(c, "status").stdout, "status in words")
        check("\n" in corallite(c, "check", "shop", server=follower).stdout, "check at the follower")

        # Who follows, and how far: kept by each safekeeper.
        def kept():
            both = listed(c)
            bad = [(a, at) for a, p in both.items() for at in p["positions"] if int(at["durable_lsn"], 16) == 0]
            return (not bad and set(both) == {owner, follower} and both[owner]["role"] == "owner"
                    and both[follower]["role"] == "follower"
                    and all(p["connected_to"] == p["known_by"] == 3 for p in both.values()))
        until(kept, 20, "both are known with their positions")
        c.kill9(FOLLOWER)
        c.kill9(2)
        c.start(2)
        until(lambda: listed(c)[follower]["known_by"] == 3 and listed(c)[follower]["connected_to"] == 0, 10,
              "a safekeeper that was killed still knows who follows")
        c.start(FOLLOWER)
        c.caught_up()
        done = corallite(c, "pageserver", "forget", listed(c)[follower]["disk"], ok=False)
        check(done.returncode != 0 and "stop it first" in done.stderr, f"forgets one that is connected: {done.stderr}")

        # Wrong starts.
        c.kill9(FOLLOWER)
        for node, command, words in ((FOLLOWER, c.command(FOLLOWER, owner=FOLLOWER), "--follow"),
                                     (FOLLOWER, c.command(FOLLOWER) + ["--take-over"], "contradict")):
            c.start(node, wait=False, command=command)
            until(lambda: c.process[node].poll() is not None, 20, "a wrong start ends")
            check(words in c.last_words(node), f"{words}: {c.last_words(node)}")
        c.start(FOLLOWER)
        c.caught_up()

        # The owner is gone for good: one restart of the follower, with its own store.
        c.kill9(PAGESERVER)
        c.stop(FOLLOWER)
        begin = time.monotonic()
        c.start(FOLLOWER, command=c.command(FOLLOWER, promote=True))
        corallite(c, "branch", "create", "shop/after", server=follower)
        t.note(f"promoted: the first branch after {time.monotonic() - begin:.1f} s")
        pins = {p["name"] for p in json.loads(corallite(c, "pin", "list", "shop", "--json", server=follower).stdout)}
        check(pins == {"before", "second"}, f"pins after the promotion: {pins}")
        check(c.connect("shop", server=follower, at="pin:before").execute("SELECT count(*) FROM t").fetchone()[0]
              == rows, "a pin after the promotion")

        # The old owner comes back: not as an owner, but to follow.
        c.start(PAGESERVER, wait=False)
        until(lambda: c.process[PAGESERVER].poll() is not None, 20, "the old owner does not start as one")
        check("--follow" in c.last_words(PAGESERVER), c.last_words(PAGESERVER))
        c.start(PAGESERVER, command=c.command(PAGESERVER, owner=FOLLOWER))
        c.caught_up(PAGESERVER)
        c.connect("shop/after", server=owner).execute("SELECT count(*) FROM t").fetchone()

        # Its disk is lost: an empty directory, and the old one is forgotten.
        old = listed(c)[owner]["disk"]
        c.kill9(PAGESERVER)
        shutil.rmtree(c.data(PAGESERVER))
        c.start(PAGESERVER, command=c.command(PAGESERVER, owner=FOLLOWER))
        c.caught_up(PAGESERVER)
        check(c.connect("shop", server=owner).execute("SELECT count(*) FROM t").fetchone()[0] == rows, "made again")
        corallite(c, "pageserver", "forget", old)
        check(old not in {p["disk"] for p in listed(c).values()}, "it is still known")


class ArchivedPair(Pair):
    """Both are told of the archive, as those of `corallite up` are."""

    def command(self, node, **more):
        args = super().command(node, **more)
        if node in (PAGESERVER, FOLLOWER):
            args += ["--archive", f"dir:{self.dir}/archive", "--archive-every", "500ms"]
        return args


@test("two pageservers: what the status says of the archive is the owner's word, not the one's that follows", 60)
def pair_archive_status(t):
    os.makedirs(t.dir + "/c/archive")
    with ArchivedPair(t.dir + "/c") as c:
        def told(words):
            return lambda: words in corallite(c, "status").stdout
        c.shell("CREATE TABLE t(x); INSERT INTO t VALUES (1)")
        until(told("has everything that is committed"), 20, "the status says that all is archived")
        os.rename(c.dir + "/archive", c.dir + "/aside")
        c.shell("INSERT INTO t VALUES (2)")
        until(told("not archived, tried again: "), 20, "the status says that the archive is gone")
        said = corallite(c, "status").stdout
        check("of log behind" in said and "has everything" not in said, said)
        check(json.loads(corallite(c, "status", "--json").stdout)["archive"]["behind_us"] > 0, "all is said to be there")
        os.rename(c.dir + "/aside", c.dir + "/archive")
        until(told("has everything that is committed"), 20, "the status says that all is archived again")
        c.caught_up()
        check("the archive" not in corallite(c, "check").stdout, "the owner was asked")
        c.kill9(PAGESERVER)
        said = corallite(c, "check").stdout
        check("the archive, if there is one, was not looked at" in said, said)


@test("a follower that takes over has each pin that was answered, also one that it had not heard of: the archive had it; "
      "it does not begin while that cannot be read", 60)
def pair_pins_of_the_archive(t):
    os.makedirs(t.dir + "/c/archive")
    with ArchivedPair(t.dir + "/c") as c:
        fill(c, rows=10)
        follower = c.only(FOLLOWER)
        corallite(c, "pin", "create", "shop", "heard")

        def pins():
            return [p["name"] for p in json.loads(corallite(c, "pin", "list", "shop", "--json", server=follower).stdout)]
        until(lambda: pins() == ["heard"], 10, "the follower has heard of a pin")
        c.caught_up()
        os.kill(c.pid(FOLLOWER), signal.SIGSTOP)
        corallite(c, "pin", "create", "shop", "unheard", server=c.only(PAGESERVER))
        c.kill9(PAGESERVER)
        c.kill9(FOLLOWER)

        promote = c.command(FOLLOWER, promote=True)
        os.rename(c.dir + "/archive", c.dir + "/aside")
        c.start(FOLLOWER, wait=False, command=promote)
        until(lambda: c.process[FOLLOWER].poll() is not None, 20, "it begins without the pins of the archive")
        check("the pins that the lost pageserver had could not be read" in c.last_words(FOLLOWER), c.last_words(FOLLOWER))
        os.rename(c.dir + "/aside", c.dir + "/archive")
        c.start(FOLLOWER, command=promote)
        check(pins() == ["heard", "unheard"], f"pins after the promotion: {pins()}")
