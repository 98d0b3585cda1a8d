"""Snapshots in the archive: a lost pageserver begins with them, and everything reads as before; and what is wrong with them."""

import json
import os
import random
import shutil
import time

from lib.cluster import NODES, PAGESERVER, check, run, until
from lib.registry import test
from test_archive import Archived, moments, pins_of, restore, same
from test_damage import damage, mend, timeline_of


class Snapshots(Archived):
    """A cluster that makes a snapshot of every branch that has 200 KiB of new log."""

    def command(self, node):
        return super().command(node) + (["--snapshot-every", "200K"] if node == PAGESERVER else [])

    def snapshots(self):
        return [p for p in self.objects("snap") if os.path.isfile(p)]

    def settled(self):
        """Waits until everything is archived and no more snapshots are made."""
        seen = -1
        while seen != self.metrics()["corallite_pageserver_archive_snapshots_total"]:
            self.archived()
            seen = self.metrics()["corallite_pageserver_archive_snapshots_total"]
            time.sleep(2)


def grow(c, db="shop", begin=0):
    """Some 300 KiB of log in a few commits, small changes among them."""
    con = c.connect(db=db, timeout=20)
    con.execute("CREATE TABLE IF NOT EXISTS g(k INTEGER PRIMARY KEY, v)")
    for i in range(begin, begin + 20):
        con.execute("INSERT INTO g VALUES (?, randomblob(15000))", (i,))
        con.execute("INSERT INTO g VALUES (?, randomblob(20))", (i + 500,))
    con.close()


def history(c):
    """Branches, one of them hidden, a pin, a restore; each of some hundred KiB."""
    grow(c)
    c.corallite("pin", "create", "shop", "early")
    c.corallite("branch", "create", "shop/dev")
    grow(c, "shop/dev", 1000)
    c.corallite("branch", "create", "shop/deep", "--from", "dev")
    grow(c, begin=2000)
    grow(c, "shop/deep", 3000)
    c.corallite("branch", "drop", "shop/dev", "--yes")
    c.corallite("restore", "shop", "--to", "pin:early", "--keep-as", "undo", "--yes")
    grow(c, begin=4000)
    c.shell("CREATE TABLE u(x); INSERT INTO u VALUES (1)", db="small")


@test("a lost pageserver begins with the archive's snapshots: every branch, moment and pin reads as before, and every checksum is "
      "right; so it does when a snapshot is damaged, cut or missing, by the log", 90)
def lost_pageserver(t):
    most = 12 if t.slow() else 3
    with Snapshots(t.dir + "/c", t.dir + "/archive") as c:
        history(c)
        c.settled()
        before, pins = moments(c, most), pins_of(c, "shop")
        check(len(c.snapshots()) >= 4, f"{len(c.snapshots())} objects of snapshots")
        c.take_over()
        # Killed while it loads: it begins anew.
        for _ in range(8 if t.slow() else 2):
            time.sleep(random.uniform(0, 0.15))
            c.kill9(PAGESERVER)
            c.start(PAGESERVER)
        same(before, c, "from snapshots", most)
        with open(c.log(PAGESERVER)) as f:
            loaded = f.read().count("snapshot loaded")
        check(loaded >= 2, f"{loaded} snapshots were loaded")
        check(pins_of(c, "shop") == pins, "the pins are others")
        c.corallite("check", "--deep")
        grow(c, begin=5000)
        c.settled()
        check("snapshots" in c.corallite("archive", "check", c.url).stdout, "the check tells of none")
        before = moments(c, most)

        # Each kind of damage: named in the log of the daemon, found by the check of the archive, and nothing is missing.
        c.stop(PAGESERVER)
        for path, how in zip(c.snapshots(), ("is damaged", "is cut", "lacks a part")):
            os.chmod(path, 0o600)
            with open(path, "rb") as f:
                data = bytearray(f.read())
            if how == "lacks a part":
                os.unlink(path)
            else:
                data[len(data) // 2] ^= 1
                with open(path, "wb") as f:
                    f.write(data if how == "is damaged" else data[:-9])
        checked = c.corallite("archive", "check", c.url, ok=False)
        check(checked.returncode == 1 and "snap/" in checked.stderr, checked.stderr)
        shutil.rmtree(c.data(PAGESERVER))
        c.start(PAGESERVER)
        same(before, c, "from the log", most)
        with open(c.log(PAGESERVER)) as f:
            check("cannot be used, the log is replayed instead" in f.read(), "no word of it")
        c.archived()  # before, the archive is not looked at: it is still damaged, and nothing else is
        found = json.loads(c.corallite("check", "--deep", "--json", ok=False).stdout)
        wrong = [p for b in found["databases"] for p in b["problems"]] + found["store"]["findings"] + found["catalog"]["problems"]
        check(all("/snap/" in str(p) for p in wrong), f"{wrong}")
    t.note(f"{len(before)} moments")


@test("the log is damaged at the same place on all three safekeepers: each refuses that timeline, --mend alone says that nobody has it, and with "
      "the archive it is back, every moment", 120)
def three_damaged_logs(t):
    with Archived(t.dir + "/c", t.dir + "/archive") as c:
        grow(c)
        c.archived()
        before = moments(c, 3)
        line = timeline_of(c, "shop")
        for node in NODES:
            c.stop(node)
        for node in NODES:
            damage("log-bit", c.data(node), line)
        c.start(1)
        check(c.metrics(1)["corallite_safekeeper_halted_timelines"] == 1, "the damaged timeline is served")
        with open(c.log(1), errors="replace") as f:
            check("log is damaged" in f.read(), "the log does not say why")
        c.stop(1)
        check(mend(c, 1, "2=127.0.0.1:1,3=127.0.0.1:1").returncode == 1, "mended from nobody")
        for node in NODES:
            done = run([*c.command(node), "--mend", "9=127.0.0.1:1", "--mend-archive", c.url], "", 60, c.env())
            check(done.returncode == 0 and "mended shop/main" in done.stdout, f"{done.stdout} {done.stderr}")
        for node in NODES:
            c.start(node)
        same(before, c, "mended", 3)
        c.shell("CREATE TABLE after(x); INSERT INTO after VALUES (1)")
        c.corallite("check", "--deep")


@test("`check` compares the branches with the archive: a log's object or a snapshot's index that is missing is found, with --deep a changed byte "
      "too; an archive that cannot be opened is a note", 90)
def check_sees_the_archive(t):
    with Snapshots(t.dir + "/c", t.dir + "/archive") as c:
        grow(c)
        c.settled()
        snaps, log = c.snapshots(), c.logs()[0]
        index = next(p for p in snaps if "-ffffffff-" in p)
        part = next(p for p in snaps if p != index)

        def looked(*args):
            done = c.corallite("check", "shop", *args, ok=False)
            return done.returncode, done.stdout

        def spoiled(path, *args):
            with open(path, "rb") as f:
                data = f.read()
            os.unlink(path)
            if "--deep" in args:
                with open(path, "wb") as f:
                    f.write(data[:-1] + bytes([data[-1] ^ 1]))
            found = looked(*args)
            with open(path, "wb") as f:
                f.write(data)
            return found

        for args in ((), ("--deep",)):
            code, said = looked(*args)
            check(code == 0 and "archive" not in said, said)
        for path, args, words in ((log, (), "no object has its log from LSN"), (index, (), "lacks a part of a snapshot"),
                                  (log, ("--deep",), "is damaged"), (part, ("--deep",), "is damaged")):
            code, said = spoiled(path, *args)
            check(code == 1 and "archive: " in said and words in said, f"{os.path.basename(path)} {args}: {said}")
        os.rename(c.archive, c.archive + "-aside")
        code, said = looked()
        check(code == 0 and "was not looked at" in said, said)
        os.rename(c.archive + "-aside", c.archive)
        code, said = looked("--deep")
        check(code == 0 and "archive" not in said, said)


# Damage to an archive: what `check --deep` says, and whether a restore has to refuse it.
ARCHIVE = {
    "archive-log-missing": ("lacks a part of", True),
    "archive-log-bit": ("is damaged: its bytes are not", True),
    "archive-log-cut": ("is cut", True),
    "archive-log-foreign": ("is not sound at LSN", True),
    "archive-part-missing": ("lacks a part of a snapshot", False),
    "archive-part-bit": ("is damaged", False),
    "archive-part-cut": ("is cut", False),
    "archive-index-missing": ("lacks a part of a snapshot", False),
    "archive-index-bit": ("is damaged", False),
    "archive-manifest-bit": ("is damaged", True),
    "archive-manifest-cut": ("is cut", True),
    "archive-manifests-missing": ("has no manifest", True),
    "archive-stray": (None, False),
}


@test("13 kinds of damage to an archive, one after the other: `check --deep` and `archive check` name each, a restore refuses "
      "what it cannot use; a pageserver that starts takes nothing away where the manifests are gone", 180)
def damaged_archive(t):
    with Snapshots(t.dir + "/c", t.dir + "/archive") as c:
        grow(c)
        c.settled()
        line, place, good = timeline_of(c, "shop"), os.path.join(c.archive, c.id), t.dir + "/good"
        shutil.copytree(c.archive, good)
        for kind, (words, refused) in ARCHIVE.items():
            damage(kind, place, line)
            done = c.corallite("check", "--deep", ok=False)
            checked = c.corallite("archive", "check", c.url, ok=False)
            if words is None:
                check(done.returncode == 0 and checked.returncode == 0, f"{kind}: {done.stdout} {checked.stderr}")
                check("1 objects that no manifest tells of" in c.corallite("archive", "prune", "--dry-run").stdout, kind)
            else:
                check(done.returncode == 1 and "archive: " in done.stdout and words in done.stdout, f"{kind}: {done.stdout}")
                check(checked.returncode == 1 and words in checked.stderr, f"{kind}: {checked.stderr}")
                said = next(x for x in done.stdout.splitlines() if words in x)
                t.note(f"{kind}: {said.strip()[:160]}")
            restored = restore(Archived(t.dir + "/r", c.archive, start=False), 1)
            check((restored.returncode != 0) == refused, f"{kind}: the restore: {restored.stderr}")
            shutil.rmtree(t.dir + "/r")
            if kind == "archive-manifests-missing":
                c.stop(PAGESERVER)
                c.start(PAGESERVER)
                c.shell("INSERT INTO g VALUES (77777, 'x')")
                until(lambda: "no manifest that tells of it" in c.corallite("status", ok=False).stdout, 20, "it says so")
                check(len(c.logs()) == len(logs), f"{len(logs)} objects of log were there, and {len(c.logs())} are")
                c.stop(PAGESERVER)
            shutil.rmtree(c.archive)
            shutil.copytree(good, c.archive)
            logs = c.logs()
            if kind == "archive-manifests-missing":
                c.start(PAGESERVER)
                c.settled()
                shutil.rmtree(good)
                shutil.copytree(c.archive, good)
        done = c.corallite("check", "--deep")
        check("archive" not in done.stdout, f"not sound afterwards: {done.stdout}")
