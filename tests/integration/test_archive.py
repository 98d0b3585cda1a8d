"""The archive: a cluster comes back from it, whole, when every disk is lost; and who loses what meanwhile."""

import glob
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time

from lib.cluster import BIN, NODES, PAGESERVER, Cluster, check, free_ports, run, until
from lib.registry import test


class Archived(Cluster):
    """A cluster whose pageserver archives, twice a second; to a directory, or to a bucket (test_archive_s3.py)."""

    def __init__(self, directory, archive, start=True):
        self.archive = archive
        self.more = []
        if isinstance(archive, str):
            os.makedirs(archive, exist_ok=True)
        self.url = f"dir:{archive}" if isinstance(archive, str) else archive.url
        super().__init__(directory, start=start)

    def command(self, node):
        command = super().command(node)
        if node == PAGESERVER:
            command += ["--archive", self.url, "--archive-every", "500ms", *self.more]
        return command

    def corallite(self, *args, ok=True, timeout=60):
        done = run([os.path.join(BIN, "corallite"), *args], "", timeout, self.env())
        if ok:
            check(done.returncode == 0, f"corallite {' '.join(args)}: {done.stderr.strip()[-400:]} {done.stdout.strip()[-400:]}")
        return done

    def archived(self, seconds=30):
        """Waits until everything that is committed now is in the archive, names and pins too."""
        def all_there():
            m = self.metrics()
            return m["corallite_pageserver_archive_behind_seconds"] == 0 and m["corallite_pageserver_archive_ok"] == 1 \
                and m["corallite_pageserver_archive_lag_bytes"] == 0
        # What was committed a moment ago is known to the pageserver at its next tick.
        time.sleep(1.2)
        until(all_there, seconds, "everything is archived")

    def take_over(self, wait=True):
        """The pageserver's disk is lost, and a new one takes over."""
        self.kill9(PAGESERVER)
        shutil.rmtree(self.data(PAGESERVER))
        self.more = ["--take-over"]
        self.start(PAGESERVER, wait=wait)

    def lose_everything(self):
        self.kill9_everything()
        shutil.rmtree(self.dir)

    def come_back(self, directory):
        """A cluster like this one, of new directories, made of the archive; it does not run."""
        back = type(self)(directory, self.archive, start=False)
        back.id = self.id
        back.more = ["--take-over"]
        for node in NODES:
            done = restore(back, node)
            check(done.returncode == 0, f"the restore failed: {done.stderr[-500:]}")
            back.said = done.stdout
        return back

    def objects(self, kind):
        if isinstance(self.archive, str):
            found = glob.glob(f"{self.archive}/{self.id}/{kind}/**/*", recursive=True)
        else:
            found = [key for key in self.archive.objects() if f"/{self.id}/{kind}/" in key]
        return sorted(found, key=os.path.basename)

    def logs(self):
        return [p for p in self.objects("log") if os.path.isfile(p)]


def restore(c, node):
    """Makes the directory of a safekeeper of the archive, and says what was said."""
    return run([os.path.join(BIN, "corallite-safekeeper"), "--restore", c.url, "--dir", c.data(node), "--node", str(node)], "", 60)


def sum_of(c, db, **at):
    """What a moment of a branch holds: a digest over every table's rows."""
    con = c.connect(db=db, timeout=20, **at)
    h = hashlib.sha256()
    for (name,) in con.execute("SELECT name FROM sqlite_master WHERE type='table' ORDER BY 1").fetchall():
        for row in con.execute(f"SELECT rowid, * FROM {name} ORDER BY 1"):
            h.update(repr(row).encode())
    con.close()
    return h.hexdigest()


def pins_of(c, db):
    """In the order of their names: that of their creation does not outlive a restart."""
    return sorted(json.loads(c.corallite("pin", "list", db, "--json").stdout), key=lambda p: p["name"])


def branches(c):
    out = set()
    for db in json.loads(c.corallite("db", "list", "--json").stdout):
        for b in json.loads(c.corallite("branch", "list", db["name"], "--json").stdout):
            out.add(f"{db['name']}/{b['branch']}")
    return out


def moments(c, most=12):
    """{(branch, lsn): digest} of every branch: its head and at most some commits of its log."""
    out = {}
    for ref in branches(c):
        out[ref, "head"] = sum_of(c, ref)
        commits = json.loads(c.corallite("log", ref, "--json").stdout)
        for commit in commits[:: max(1, len(commits) // most)]:
            out[ref, commit["lsn"]] = sum_of(c, ref, at=f"lsn:{commit['lsn']}")
    return out


def same(before, c, what, most=12):
    names = {ref for ref, _ in before}
    # A pageserver that takes over is ready before it has stored every name.
    until(lambda: branches(c) == names, 20, f"{what}: the branches are {sorted(names)}")
    after = moments(c, most)
    check(set(before) == set(after), f"{what}: other moments: {sorted(set(before) ^ set(after))[:4]}")
    bad = [k for k in before if before[k] != after[k]]
    check(not bad, f"{what}: {len(bad)} of {len(before)} moments read otherwise, {bad[:3]}")


def fill(c):
    """Databases, branches, a large transaction, a restore with what it replaced, a drop, pins."""
    for i in range(6):
        c.shell(f"CREATE TABLE IF NOT EXISTS t(x, y); INSERT INTO t VALUES ({i}, randomblob(300));")
    c.shell("PRAGMA page_size=1024; CREATE TABLE u(k INTEGER PRIMARY KEY, v); INSERT INTO u(v) VALUES ('a'), ('b');",
            db="other")
    c.corallite("branch", "create", "shop/dev")
    c.shell("DELETE FROM t WHERE x = 3; INSERT INTO t VALUES (100, 'dev')", db="shop/dev")
    c.corallite("branch", "create", "shop/deep", "--from", "dev")
    c.shell("INSERT INTO t VALUES (101, 'deep')", db="shop/deep")
    c.corallite("pin", "create", "shop", "before")
    c.shell("WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 9000) "
            "INSERT INTO t SELECT n, randomblob(2500) FROM i")
    c.shell("DELETE FROM t WHERE x > 50")
    c.corallite("restore", "other", "--to", "other@latest", "--keep-as", "undo", "--yes", ok=False)
    c.shell("INSERT INTO u(v) VALUES ('c')", db="other")
    c.shell("CREATE TABLE gone(x); INSERT INTO gone VALUES (1)", db="gone")
    c.corallite("db", "drop", "gone", "--yes")
    c.corallite("retention", "set", "shop", "7d")


def refused_with_what_was_left(c, left):
    """A pageserver's directory of before holds what is in no log any more: it is told what to do instead."""
    shutil.move(left, c.data(PAGESERVER))
    for node in NODES + (PAGESERVER,):
        c.start(node, wait=False)

    def told():
        with open(c.log(PAGESERVER)) as f:
            said = f.read()
        return all(f"safekeeper {node} has data directory" in said for node in NODES) and "give it an empty one, with --take-over" in said

    until(told, 20, "a pageserver's directory of before is refused by all, with what to do")
    c.kill9_everything()
    shutil.rmtree(c.data(PAGESERVER))


@test("pageserver and all safekeepers are lost: from the archive every branch and every moment of it reads as before, with "
      "pins, retention and names; it is written on and archived on; a pageserver's directory that was left is refused; with --slow it "
      "is lost once more", 100)
def everything_lost(t):
    archive = t.dir + "/archive"
    with Archived(t.dir + "/c-a", archive) as c:
        fill(c)
        before = moments(c)
        pins = pins_of(c, "shop")
        c.archived()
        c.kill9_everything()
        shutil.move(c.data(PAGESERVER), t.dir + "/left")
        c.lose_everything()
    for round_ in ("b", "c") if t.slow() else ("b",):
        with c.come_back(t.dir + "/c-" + round_) as c:
            check("shop/main" in c.said and "may be missing" in c.said, c.said)
            check("MISSING" not in c.said and "NOT THERE" not in c.said, c.said)
            if round_ == "b":
                refused_with_what_was_left(c, t.dir + "/left")
            c.start_everything()
            same(before, c, f"restored ({round_})")
            check(pins_of(c, "shop") == pins, "the pins are others")
            check("7 d" in c.corallite("retention", "show", "shop").stdout, "the retention is another")
            check("no such table" in c.shell("SELECT * FROM gone", db="gone", ok=False).stderr, "a dropped name is back")
            c.corallite("check", "shop")
            c.shell(f"INSERT INTO t VALUES (200, '{round_}')")
            c.shell("INSERT INTO t VALUES (201, 'x')", db="shop/deep")
            c.corallite("branch", "create", f"shop/after-{round_}", "--at", "pin:before")
            c.archived()
            before = moments(c)
            pins = pins_of(c, "shop")
            c.lose_everything()
    t.note(f"{len(before)} moments compared")


@test("a commit id stays that of one commit when everything is lost: what the archive has is 'committed', and what came after it, "
      "or was of a branch or database that was dropped before, is 'not committed', whatever has come in its place", 100)
def ids_outlive_the_cluster(t):
    archive = t.dir + "/archive"

    def commits(c, db):
        return [c.shell("CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES(1); PRAGMA corallite_last_commit;",
                        db=db).stdout.strip() for _ in range(2)]

    def verdicts(c, db, ids):
        sql = "".join(f"SELECT corallite_commit_status('{i}');" for i in ids)
        return c.shell(sql, db=db, timeout=60).stdout.split("\n")[:-1]
    with Archived(t.dir + "/c-a", archive) as c:
        had = commits(c, "shop")
        for name in ("quiet", "gone"):
            c.corallite("branch", "create", f"shop/{name}")
        lost = {"shop/gone": commits(c, "shop/gone"), "old": commits(c, "old")}
        c.corallite("branch", "drop", "shop/gone", "--yes")
        c.corallite("db", "drop", "old", "--yes")
        c.archived()
        os.rename(archive, archive + "-away")
        c.corallite("branch", "create", "shop/late")
        for ref in ("shop/late", "shop/quiet", "shop"):
            lost[ref] = commits(c, ref)
        c.lose_everything()
    shutil.rmtree(archive, ignore_errors=True)
    os.rename(archive + "-away", archive)
    with c.come_back(t.dir + "/c-b") as c:
        c.start_everything()
        for name in ("gone", "late"):
            c.corallite("branch", "create", f"shop/{name}")
        again = {ref: commits(c, ref) for ref in lost}
        for ref, ids in again.items():
            told = verdicts(c, ref, ids + lost[ref])
            check(told == ["committed"] * 2 + ["not committed"] * 2, f"{ref}: {ids} and the lost {lost[ref]} are {told}")
            if ref != "old":
                told = verdicts(c, ref, had)
                check(told == ["committed"] * 2, f"{ref}, what the archive had: {told}")
    t.note(f"{lost['shop'][-1]} was lost, and {again['shop'][-1]} is in its place")


@test("the pageserver's disk alone is lost: a new one is whole again, every moment, name and pin, and archives on", 60)
def pageserver_lost(t):
    with Archived(t.dir + "/c", t.dir + "/archive") as c:
        for i in range(5):
            c.shell(f"CREATE TABLE IF NOT EXISTS t(x); INSERT INTO t VALUES ({i})")
        c.corallite("branch", "create", "shop/dev", "--at", "-1s", ok=False)
        c.corallite("branch", "create", "shop/dev2")
        c.corallite("pin", "create", "shop", "one")
        c.corallite("pin", "create", "shop", "two")
        c.archived()
        c.corallite("pin", "create", "shop", "three")  # answered when it is in the archive
        state = c.objects("state")[-1]
        with open(state, "rb") as f:
            check(b"three" in f.read(), "a pin was answered that the archive has not")
        before, pins = moments(c), pins_of(c, "shop")
        check([p["name"] for p in pins] == ["one", "three", "two"], pins)
        c.take_over()
        same(before, c, "after the take-over")
        check(pins_of(c, "shop") == pins, "the pins are others")
        c.shell("INSERT INTO t VALUES (9)")
        c.archived()
        check("generation 2" in c.corallite("archive", "check", c.url).stdout, "no generation of its own")

        # Pins that cannot be read are not given up in silence.
        c.kill9(PAGESERVER)
        state = c.objects("state")[-1]
        os.chmod(state, 0o600)
        os.truncate(state, os.path.getsize(state) - 1)
        c.take_over(wait=False)
        check(c.process[PAGESERVER].wait(10) == 1, "it started without the pins")
        check(os.path.basename(state) in c.last_words(PAGESERVER) and "is cut" in c.last_words(PAGESERVER),
              c.last_words(PAGESERVER))


class Writer:
    """Commits rows of several sizes into a table of its own until its end; no commit may fail."""

    def __init__(self, c, table, rng, pause_s=0.01):
        c.shell(f"CREATE TABLE {table}(x, y)")
        self.c, self.table, self.pause_s = c, table, pause_s
        self.sizes = random.Random(rng.random())
        self.rows, self.failed, self.stop = 0, [], threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        con = self.c.connect(timeout=30)
        while not self.stop.is_set():
            try:
                con.execute(f"INSERT INTO {self.table} VALUES (?, randomblob(?))", (self.rows, self.sizes.choice((100, 3000, 30000))))
                self.rows += 1
            except Exception as e:  # noqa: B902 - whatever it is, no commit may fail
                self.failed.append(e)
                return
            self.stop.wait(self.pause_s)
        con.close()

    def end(self):
        self.stop.set()
        self.thread.join()
        check(not self.failed, f"a commit failed: {self.failed}")


@test("the pageserver is killed again and again while it archives; the archive has every commit that it says, and chains", 90)
def killed_while_archiving(t):
    rng = random.Random(t.dir)
    with Archived(t.dir + "/c", t.dir + "/archive") as c:
        writer = Writer(c, "t", rng)
        kills = 8 if t.slow() else 3
        for _ in range(kills):
            time.sleep(rng.choice((0.1, 0.6, 1.1, 1.6)) * rng.uniform(0.8, 1.2))
            c.kill9(PAGESERVER)
            c.start(PAGESERVER)
            checked = c.corallite("archive", "check", c.url, ok=False)
            check(checked.returncode == 0 or "no manifest" in checked.stderr or "nothing of any" in checked.stderr,
                  checked.stderr)
        writer.end()
        c.archived()
        before = moments(c)
        n = len(c.logs())
        c.lose_everything()
    with c.come_back(t.dir + "/d") as c:
        c.start_everything()
        check(c.shell("SELECT count(*) FROM t").stdout.strip() == str(writer.rows), "rows are missing")
        same(before, c, "after the kills")
    t.note(f"{kills} kills, {writer.rows} commits, {n} objects of log")


@test("what is damaged, cut, missing or not of this log in an archive is refused by its name, by the restore and by the "
      "check, and no directory is left", 60)
def damage_is_named(t):
    archive = t.dir + "/archive"
    with Archived(t.dir + "/c", archive) as c:
        c.shell("CREATE TABLE t(x)")
        for i in range(3):
            c.shell(f"INSERT INTO t VALUES ({i})")
            c.archived()
        logs, state = c.logs(), c.objects("state")[-1]
        check(len(logs) >= 3, f"{len(logs)} objects of log instead of three or more")
        c.kill9_everything()

    def spoil(path, how):
        with open(path, "rb") as f:
            data = bytearray(f.read())
        os.chmod(path, 0o600)
        if how == "is cut":
            data = data[:-8]
        elif how == "is damaged":
            data[len(data) // 2] ^= 1
        with open(path, "wb") as f:
            f.write(data)

    shutil.copytree(archive, t.dir + "/good")
    for what, how in ((logs[0], "is cut"), (logs[1], "is damaged"), (logs[-1], "is damaged"), (logs[1], "lacks a part"),
                      (logs[-1], "lacks a part"), (state, "is cut"), (state, "is damaged")):
        shutil.rmtree(archive)
        shutil.copytree(t.dir + "/good", archive)
        if how == "lacks a part":
            os.unlink(what)
            name = os.path.basename(what)[:16]
        else:
            spoil(what, how)
            name = os.path.basename(what)
        done = restore(Archived(t.dir + "/d", archive, start=False), 1)
        check(done.returncode == 1 and how in done.stderr and name in done.stderr, f"{how} {name}: {done.stderr}")
        check(not os.path.exists(t.dir + "/d/safekeeper-1"), "a directory is there")
        shutil.rmtree(t.dir + "/d")
        done = run([os.path.join(BIN, "corallite"), "archive", "check", f"dir:{archive}"], "", 30)
        check(done.returncode == 1 and how in done.stderr and name in done.stderr, f"check: {how} {name}: {done.stderr}")
    # An object under another one's name: each of its bytes is there, but not in that place.
    shutil.rmtree(archive)
    shutil.copytree(t.dir + "/good", archive)
    os.chmod(logs[1], 0o600)
    shutil.copyfile(logs[0], logs[1])
    done = run([os.path.join(BIN, "corallite"), "archive", "check", f"dir:{archive}"], "", 30)
    check(done.returncode == 1 and os.path.basename(logs[1]) in done.stderr, done.stderr)


@test("an archive that is gone, read-only or full holds no commit up; the status says why, and it goes on by itself", 60)
def place_in_trouble(t):
    t.needs_root("mount a small file system")
    archive = t.dir + "/archive"
    os.makedirs(archive)
    check(subprocess.call(["mount", "-t", "tmpfs", "-o", "size=3m", "none", archive]) == 0, "no tmpfs")
    try:
        with Archived(t.dir + "/c", archive + "/a") as c:
            def trouble(words):
                def told():
                    said = c.corallite("status").stdout
                    return "not archived, tried again: " in said and words in said
                return told
            c.shell("CREATE TABLE t(x, y); INSERT INTO t VALUES (1, 1)")
            c.archived()

            os.rename(archive + "/a", archive + "/aside")
            c.shell("INSERT INTO t VALUES (2, 2)")
            until(trouble("cannot be opened"), 10, "the status says that the archive is gone")
            check(c.metrics()["corallite_pageserver_archive_ok"] == 0, "archive_ok is 1")
            check(c.metrics()["corallite_pageserver_archive_lag_bytes"] > 0, "there is no lag")
            os.rename(archive + "/aside", archive + "/a")
            c.archived()

            check(subprocess.call(["mount", "-o", "remount,ro", archive]) == 0, "it cannot be made read-only")
            c.shell("INSERT INTO t VALUES (3, 3)")
            until(trouble("Read-only file system"), 10, "the status says that it is read-only")
            check(subprocess.call(["mount", "-o", "remount,rw", archive]) == 0, "it cannot be made writable")
            c.archived()

            c.shell("INSERT INTO t VALUES (4, randomblob(5000000))")
            until(trouble("No space left on device"), 10, "the status says that it is full")
            c.shell("INSERT INTO t VALUES (5, 5)")
            check(c.shell("SELECT count(*) FROM t").stdout.strip() == "5", "a commit is missing")
            check(subprocess.call(["mount", "-o", "remount,size=40m", archive]) == 0, "it cannot be made larger")
            c.archived()
            check(not os.listdir(archive + "/a/.tmp"), "parts of objects are left")
            c.corallite("archive", "check", f"dir:{archive}/a")
            c.corallite("db", "drop", "shop", "--purge", "--yes")
            check(not c.logs(), "a purged database is still in the archive")
            c.close()
    finally:
        subprocess.call(["umount", "-l", archive])


def one_is_deposed(t, archive):
    with Archived(t.dir + "/c", archive) as c:
        c.shell("CREATE TABLE t(x); INSERT INTO t VALUES (1)")
        c.archived()
        os.kill(c.pid(PAGESERVER), signal.SIGSTOP)
        old, old_log = c.process[PAGESERVER], c.log(PAGESERVER)
        c.port[PAGESERVER], c.http[PAGESERVER] = free_ports(2)
        c.data = lambda node, data=c.data: data(node) + ("-new" if node == PAGESERVER else "")
        c.more = ["--take-over"]
        c.start(PAGESERVER)
        c.shell("INSERT INTO t VALUES (2)")
        c.archived()
        newest = c.objects("state")[-1]
        check(os.path.basename(newest).startswith("0000000000000002-"), newest)
        os.kill(old.pid, signal.SIGCONT)

        def noticed():
            with open(old_log) as f:
                text = f.read()
            return "another pageserver archives this cluster" in text or old.poll() is not None
        c.shell("INSERT INTO t VALUES (3)")
        until(noticed, 20, "the older one notices")
        c.archived()
        check(os.path.basename(c.objects("state")[-1]).startswith("0000000000000002-"), "the older one wrote a manifest")
        old.kill()
        old.wait(10)
        check("sound" in c.corallite("archive", "check", c.url).stdout, "the archive is not sound")


@test("of two pageservers that archive one cluster the older one notices that it was deposed, stops, and has changed nothing", 60)
def deposed(t):
    one_is_deposed(t, t.dir + "/archive")
