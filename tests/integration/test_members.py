"""Safekeepers are replaced while applications commit: members change, nothing fails, nothing is lost."""

import json
import os
import random
import shutil
import subprocess
import time

from lib import frames, hosts
from lib.cluster import BIN, PAGESERVER, Cluster, check, free_ports, line, popen, run, until
from lib.crc32c import crc32c
from lib.proxy import Proxy
from lib.registry import test

TOOL = os.path.join(BIN, "corallite")


def new_node(c, node, port=None):
    """A safekeeper with an empty directory and a fresh id, started."""
    ports = free_ports(2)
    c.port[node], c.http[node] = port or ports[0], ports[1]
    c.start(node)
    return f"{c.host}:{c.port[node]}"


def replace_args(c, old, address):
    return [TOOL, "safekeeper", "replace", str(old), address, "--server", c.server(), "--json"]


def replace(c, old, address, timeout=60):
    done = run(replace_args(c, old, address), "", timeout)
    check(done.returncode == 0, f"replace failed: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def refused(c, old, address, *words):
    done = run(replace_args(c, old, address), "", 60)
    check(done.returncode != 0, f"replace {old} {address} was not refused")
    for word in words:
        check(word in done.stderr, f"no '{word}' in: {done.stderr[-400:]}")


def listed(c):
    done = run([TOOL, "safekeeper", "list", "--server", c.server(), "--json"], "", 20)
    check(done.returncode == 0, f"list failed: {done.stderr[-300:]}")
    return {n["node"]: n for n in json.loads(done.stdout)["safekeepers"]}


class Writers:
    """Processes that commit on one branch, and never may fail."""

    def __init__(self, c, n):
        self.workers = [c.worker("commit_without_a_failure", i) for i in range(n)]
        for w in self.workers:
            check(line(w) == "open", "open")

    def counts(self):
        for w in self.workers:
            w.stdin.write("?\n")
            w.stdin.flush()
        return [int(line(w, 40)) for w in self.workers]

    def go_on(self, what):
        before = self.counts()
        until(lambda: all(a > b for a, b in zip(self.counts(), before)), 30,
              f"all writers commit {what}")

    def end(self):
        for w in self.workers:
            w.stdin.close()
        words = [line(w, 40).split() for w in self.workers]
        for w in words:
            check(w[0] == "done", f"a writer failed: {' '.join(w)}")
        return [(int(w[1]), float(w[2])) for w in words]


def sound(c):
    done = run([TOOL, "check", "--server", c.server()], "", 60)
    check(done.returncode == 0, f"check: {done.stdout[-300:]} {done.stderr[-300:]}")


def count(c, db="shop"):
    return int(c.shell("SELECT count(*) FROM t;", db=db).stdout)


def catch_up(c, code=0):
    done = run([TOOL, "safekeeper", "catch-up", "--server", c.server(), "--json"], "", 60)
    check(done.returncode == code, f"catch-up ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}")
    return json.loads(done.stdout), done.stderr


def checked(c):
    done = run([TOOL, "check", "--server", c.server(), "--json"], "", 60)
    check(done.returncode == 0, f"check: {done.stdout[-500:]}")
    told = json.loads(done.stdout)
    return sorted(d["copies"] for d in told["databases"]), " ".join(told["notes"])


@test("safekeeper catch-up: logs that nobody writes and that a safekeeper missed the end of, one of them sealed, one of records in "
      "fragments, get their third copy; who is away is named; a second time there is nothing to do", 90)
def safekeeper_catches_up(t):
    with t.cluster() as c:
        for db in ("shop", "large", "same"):
            c.shell("CREATE TABLE t(a); INSERT INTO t VALUES(1);", db=db)
        done = run([TOOL, "pin", "create", "shop", "one", "--server", c.server()], "", 20)
        check(done.returncode == 0, done.stderr)
        catch_up(c)  # a program ends when a majority has its commit, and the third may lack that
        answer, _ = catch_up(c)
        check(answer["lagged"] == 0 and answer["timelines"] == 3, f"{answer}")
        c.stop(3)
        for i in range(20):
            c.shell(f"INSERT INTO t VALUES({i})")
        c.shell("INSERT INTO t VALUES(zeroblob(3000000)), (randomblob(9000000))", db="large")
        tool(c, "restore", "shop", "--to", "pin:one", "--keep-as", "old", "--yes")
        c.shell("INSERT INTO t VALUES(2)")
        answer, said = catch_up(c)
        check(answer["lagged"] == 0 and "safekeeper 3 is not there" in said, f"{answer} {said}")

        c.start(3)
        until(lambda: listed(c)[3]["timelines"] == 4, 30, "it has heard of the restored branch")
        until(lambda: checked(c)[0] == [2, 2, 2, 3], 20, f"two copies of three logs: {checked(c)}")
        check("catch-up" in checked(c)[1], f"check tells how to mend that: {checked(c)[1]}")
        answer, _ = catch_up(c)
        check(answer["lagged"] == answer["caught_up"] == 3 and answer["left"] == [] and answer["bytes"] > 9000000, f"{answer}")
        until(lambda: checked(c)[0] == [3, 3, 3, 3], 20, f"three copies: {checked(c)}")
        check(catch_up(c)[0]["lagged"] == 0, "there is something left")

        c.stop(1)
        shutil.rmtree(c.data(1))
        c.stop(2)
        c.start(2)  # 2 and 3 have all
        check(count(c) == 2 and count(c, "large") == 3 and count(c, "same") == 1, "rows are missing")
        c.shell("INSERT INTO t VALUES(3)")
        check(int(c.shell("SELECT count(*) FROM t;", db="shop/old").stdout) == 21, "rows of the kept branch are missing")


@test("safekeeper catch-up beside writers: none of them fails, and what they write is not held up", 60)
def catch_up_beside_writers(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a, b);")
        c.shell("CREATE TABLE t(a);", db="idle")
        c.kill9(3)
        c.shell("INSERT INTO t VALUES(1);", db="idle")
        writers = Writers(c, 2)
        c.start(3)
        for _ in range(5):
            catch_up(c)
            writers.go_on("beside it")
        check(all(copies == 3 for copies in checked(c)[0]), f"copies: {checked(c)}")
        for commits, longest in writers.end():
            t.note(f"{commits} commits, the longest {longest * 1000:.0f} ms")


@test("safekeeper catch-up: one that was away gets its part over a slow link while two others write", 120)
def catch_up_behind_a_slow_link(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a, b);")
        new_node(c, 4)
        with Proxy(c.port[4]) as slow:
            replace(c, 3, f"127.0.0.1:{slow.port}")
            c.kill9(4)
            c.shell("INSERT INTO t(b) VALUES(randomblob(100000));")
            slow.do("delay 50")
            writers = Writers(c, 2)
            c.start(4)
            answer, _ = catch_up(c)
            writers.go_on("beside it")
            ended = writers.end()
            t.note(f"lagged: {answer['lagged']}, {sum(e[0] for e in ended)} commits meanwhile, "
                   f"the longest {max(e[1] for e in ended):.2f} s")


@test("safekeeper replace: 4 writers commit without a failure while the tool is killed at random, the "
      "old one comes back, all start again", 150)
def safekeeper_replaced_under_load(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a, b);")
        c.shell("CREATE TABLE t(a); INSERT INTO t VALUES(1);", db="other")
        done = run([TOOL, "branch", "create", "shop/idle", "--server", c.server()], "", 20)
        check(done.returncode == 0, done.stderr)
        address = new_node(c, 4)
        writers = Writers(c, 4)
        kills = 0
        for _ in range(6):
            tool = popen(replace_args(c, 2, address), stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
            try:
                tool.wait(random.uniform(0.02, 0.8))
            except subprocess.TimeoutExpired:
                tool.kill()
                tool.wait(5)
                kills += 1
        writers.go_on("after the tool was killed")
        answer = replace(c, 2, address)
        again = replace(c, 2, address)
        check(again["version"] == answer["version"], "the finished command changed something")
        check({n: v["role"] for n, v in listed(c).items()} ==
              {1: "member", 3: "member", 4: "member"}, f"list: {listed(c)}")
        c.kill9(2)
        writers.go_on("without the old one")
        c.start(2)
        writers.go_on("with the old one back")
        c.kill9(1)
        writers.go_on("with the new one needed")
        c.start(1)
        ended = writers.end()
        n, longest = sum(e[0] for e in ended), max(e[1] for e in ended)
        t.note(f"tool killed {kills} times; {n} commits, 0 failed, the longest {longest:.2f} s")
        check(count(c) == n, f"{count(c)} rows of {n} acknowledged")
        until(lambda: listed(c)[4].get("behind_bytes") == 0, 20, "the new one has all")
        sound(c)
        c.kill9_everything()
        for node in (1, 2, 3, 4, PAGESERVER):  # the pageserver with the list that it always had
            c.start(node, wait=False)
        c.wait_ready((1, 2, 3, 4, PAGESERVER))
        check(count(c) == n, "rows are missing after the restart")
        check(count(c, "other") == 1 and count(c, "shop/idle") == 0, "other branches")
        c.kill9(3)  # the new one is needed for a majority of each, the idle ones too
        for db in ("shop", "other", "shop/idle"):
            c.shell("PRAGMA busy_timeout=20000; INSERT INTO t(a) VALUES(7);", db=db)


def tool(c, *words, ok=True):
    done = run([TOOL, *words, "--server", c.server()], "", 60)
    check(not ok or done.returncode == 0, f"{' '.join(words)}: {done.stderr[-400:]}")
    return done


def put_aside(c, value):
    """shop with one row, and shop/aside, which a restore kept, with another one of this value."""
    lsn = c.shell("CREATE TABLE t(a); INSERT INTO t VALUES(1); PRAGMA corallite_lsn;").stdout.split()[-1]
    c.shell(f"INSERT INTO t VALUES({value});")
    tool(c, "restore", "shop", "--to", f"lsn:{lsn}", "--keep-as", "aside", "--yes")


def sealed_history(c):
    """A branch that a restore kept, one that it kept without anything of its own, and one that was dropped and is kept
    for the branch that grew from it; then some more. {ref: rows}."""
    c.shell("CREATE TABLE t(a, b);" + "INSERT INTO t VALUES(1, randomblob(3000));" * 20)
    tool(c, "branch", "create", "shop/mid")
    c.shell("INSERT INTO t(a) VALUES(2);", db="shop/mid")
    tool(c, "branch", "create", "shop/leaf", "--from", "mid")
    c.shell("INSERT INTO t(a) VALUES(3);", db="shop/leaf")
    tool(c, "branch", "drop", "shop/mid", "--yes")
    lsn = json.loads(tool(c, "log", "shop", "-n", "1", "--json").stdout)[0]["lsn"]
    c.shell("INSERT INTO t VALUES(9, zeroblob(3 << 20)); DELETE FROM t WHERE a = 1;")
    tool(c, "restore", "shop", "--to", f"lsn:{lsn}", "--keep-as", "kept", "--yes")
    tool(c, "restore", "shop", "--to", "shop/kept", "--keep-as", "empty", "--yes")
    c.shell("INSERT INTO t(a) VALUES(4), (5);")
    return {"shop": 3, "shop/kept": 1, "shop/empty": 20, "shop/leaf": 22}


def all_there(c, want, what):
    for ref, rows in want.items():
        done = c.shell("SELECT count(*) FROM t; PRAGMA integrity_check;", db=ref, ok=False, timeout=30)
        check(done.stdout.split() == [str(rows), "ok"], f"{what}: {ref}: {done.stdout} {done.stderr[-300:]}")


def put_in_doubt(c, node):
    """Its logs may have reached further than they do (safekeeper/control_file.h), as a start finds that finds a record
    damaged that was perhaps acknowledged."""
    timelines = os.path.join(c.data(node), "timelines")
    for one in os.listdir(timelines):
        with open(os.path.join(timelines, one, "control"), "r+b") as f:
            for begin in (0, 4096):
                f.seek(begin)
                slot = bytearray(f.read(4096))
                if slot[:8] != b"CORALCTL":
                    continue
                slot[8] = max(slot[8], 2)
                slot[704:712] = (int.from_bytes(slot[128:136], "little") + 4096).to_bytes(8, "little")
                slot[712:720] = slot[72:80]
                slot[4092:] = crc32c(bytes(slot[:4092])).to_bytes(4, "little")
                f.seek(begin)
                f.write(slot)


@test("a copy of a sealed log that is in doubt counts for nothing until safekeeper catch-up has made it whole; then it and another "
      "one are enough for a replacement", 90)
def sealed_copy_in_doubt_is_made_whole(t):
    with t.cluster() as c:
        want = sealed_history(c)
        catch_up(c)
        c.stop(2)
        put_in_doubt(c, 2)
        c.start(2)
        for ref in ("shop", "shop/leaf"):
            c.shell("UPDATE t SET b = 1", db=ref)  # those that are written are made whole by whoever writes
        catch_up(c)
        c.kill9(3)
        answer = replace(c, 1, new_node(c, 4), timeout=30)
        check(answer["sealed"] == 3, f"{answer}")
        c.start(3)
        c.kill9(1)
        all_there(c, want, "without 1")


@test("safekeeper replace moves what a restore sealed, and what is kept for branches: afterwards any two of the members "
      "are enough for every branch, the old machine is gone with its disk, and a new pageserver is filled from them; "
      "the tool is killed on its way; a second replacement after it", 150)
def replace_moves_sealed(t):
    with t.cluster() as c:
        want = sealed_history(c)
        all_there(c, want, "before")
        address = new_node(c, 4)
        for _ in range(5):
            process = popen(replace_args(c, 2, address), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(random.uniform(0.05, 0.5))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        answer = replace(c, 2, address)
        again = replace(c, 2, address)
        check(again["version"] == answer["version"], "the finished command changed something")
        t.note(f"{answer['timelines']} timelines, {answer['sealed']} of them sealed, in {answer['seconds']:.1f} s")
        check(answer["sealed"] == 3 or answer["timelines"] == 0, f"sealed: {answer}")  # 0: one was killed too late
        c.kill9(2)
        shutil.rmtree(c.data(2))
        sound(c)
        for away in (1, 3, 4):
            c.kill9(away)
            all_there(c, want, f"without {away}")
            c.start(away)
        done = replace(c, 1, new_node(c, 5))
        check(done["sealed"] == 3, f"the second time: {done}")
        c.kill9(1)
        shutil.rmtree(c.data(1))
        # The two that were filled are all that is left, and the pageserver has lost its disk.
        c.kill9(3)
        all_there(c, want, "with 4 and 5")
        c.kill9(PAGESERVER)
        shutil.rmtree(c.data(PAGESERVER))
        pageserver = c.command(PAGESERVER)
        at = pageserver.index("--safekeepers") + 1
        pageserver[at] = ",".join(f"{n}={c.host}:{c.port[n]}" for n in (3, 4, 5))
        c.start(PAGESERVER, command=pageserver + ["--take-over"])
        until(lambda: run(c.shell_args(), "SELECT 1;", 30, c.env()).returncode == 0, 30, "a new pageserver")
        all_there(c, want, "of a new pageserver")
        c.start(3)
        until(lambda: listed(c)[3].get("up", listed(c)[3].get("reachable")), 20, "it is back")
        sound(c)


@test("a branch is reset again and again while a safekeeper is replaced: nothing is lost, all of it moves", 120)
def replace_while_branches_are_sealed(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a, b); INSERT INTO t(a) VALUES(1);")
        for i in range(4):
            tool(c, "branch", "create", f"shop/b{i}")
        address = new_node(c, 4)
        process = popen(replace_args(c, 2, address), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        n = 0
        while n < 6 and (process.poll() is None or n < 2):
            c.shell("PRAGMA busy_timeout=20000; INSERT INTO t(a) VALUES(2);", db=f"shop/b{n % 4}")
            tool(c, "branch", "reset", f"shop/b{n % 4}", "--keep-as", f"was{n}", "--yes")
            n += 1
        out, err = process.communicate(timeout=60)
        check(process.returncode == 0, f"replace failed: {err[-400:]}")
        done = replace(c, 2, address)
        c.kill9(2)
        shutil.rmtree(c.data(2))
        c.kill9(1)
        for i in range(n):
            rows = c.shell("SELECT count(*) FROM t;", db=f"shop/was{i}", timeout=30).stdout.strip()
            check(rows == "2", f"shop/was{i} has {rows} rows")
        t.note(f"{n} resets meanwhile; {json.loads(out)['sealed']} sealed timelines were seen, {done['version']}")


@test("safekeeper replace from a third host, an idle branch (--slow: 1,000) and one that another host writes", 900)
def replace_from_a_third_host(t):
    t.needs("ip")
    more = 999 if t.slow() else 3
    with hosts.star(2) as (here, there, third):
        with t.cluster(host=here.address) as c:
            c.shell("CREATE TABLE t(a, b);")
            tool(c, "branch", "create", "shop/idle")
            for i in range(more):
                tool(c, "branch", "create", f"shop/b{i}")
            writer = c.worker("commit_without_a_failure", 0, host=there)
            check(line(writer) == "open", "open")
            address = new_node(c, 4)
            process = popen(replace_args(c, 2, address), host=third, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)
            out, err = process.communicate(timeout=700)
            check(process.returncode == 0, f"replace from a third host: {err[-400:]}")
            check(json.loads(out)["timelines"] == more + 2, out)
            writer.stdin.write("?\n")
            writer.stdin.flush()
            before = int(line(writer, 40))
            c.kill9(2)
            shutil.rmtree(c.data(2))
            c.kill9(1)
            for ref in ("shop/idle", *random.sample([f"shop/b{i}" for i in range(more)], 3)):
                c.shell("PRAGMA busy_timeout=20000; INSERT INTO t(a) VALUES(7);", db=ref)
            writer.stdin.close()
            words = line(writer, 60).split()
            check(words[0] == "done" and int(words[1]) >= before, f"the writer: {words}")
            check(count(c) == int(words[1]), f"{count(c)} rows of {words[1]} acknowledged")
            t.note(f"{more + 2} timelines in {json.loads(out)['seconds']:.1f} s from the third host; {words[1]} commits meanwhile and after "
                   f"with two of the new members, 0 failed, the longest {float(words[2]):.2f} s")


@test("a lost disk is built anew by one command, at the same address, while commits go on; the "
      "pageserver's disk too is then filled from it", 120)
def lost_disk_built_anew(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a, b);")
        writers = Writers(c, 2)
        c.kill9(2)
        shutil.rmtree(c.data(2))
        writers.go_on("without the lost one")
        answer = replace(c, 2, new_node(c, 5, port=c.port[2]))
        check(answer["by"] == 5 and answer["port"] == c.port[2], f"{answer}")
        writers.go_on("with the new disk")
        n = sum(e[0] for e in writers.end())
        until(lambda: listed(c)[5].get("behind_bytes") == 0, 20, "the new disk has all")
        t.note(f"{n} commits, 0 failed, replaced in {answer['seconds']:.2f} s")
        c.kill9(1)
        c.kill9(PAGESERVER)
        shutil.rmtree(c.data(PAGESERVER))
        c.start(PAGESERVER, command=c.command(PAGESERVER) + ["--take-over"])
        until(lambda: run(c.shell_args(), "SELECT 1;", 30, c.env()).returncode == 0, 30, "a new pageserver")
        check(count(c) == n, "rows are missing from the new disk")


@test("what a restore put aside is read to its end when two of its members have left for good", 60)
def sealed_branch_outlives_its_members(t):
    with t.cluster() as c:
        put_aside(c, "2")
        for old, new in ((1, 4), (2, 5)):
            replace(c, old, new_node(c, new))
            c.kill9(old)
        check(count(c) == 1, "the restored branch")
        began = time.monotonic()
        check(count(c, "shop/aside") == 2, "the branch that was put aside")
        t.note(f"opened after {time.monotonic() - began:.1f} s")


@test("safekeeper replace over a slow link: a record of 12 MB in a sealed log takes longer than a turn of the tool", 120)
def replace_over_a_slow_link(t):
    with t.cluster() as c:
        put_aside(c, "randomblob(12000000)")
        new_node(c, 4)
        with Proxy(c.port[4]) as slow:
            slow.do("delay 250")
            answer = replace(c, 2, f"{c.host}:{slow.port}", 90)
            t.note(f"{answer['seconds']:.1f} s")
            slow.do("resume")
            c.kill9(2)
            c.kill9(1)
            check(count(c, "shop/aside") == 2, "the branch that was put aside, of 3 and 4")


@test("a program that asked nothing while every safekeeper was replaced finds the new ones", 90)
def idle_program_outlives_all_members(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a); INSERT INTO t VALUES('0');")
        idle, reader = c.worker("commit_on_demand"), c.worker("commit_on_demand")

        def ask(worker, words):
            worker.stdin.write(words + "\n")
            worker.stdin.flush()
            return line(worker, 40).strip()

        check(line(idle) == "open" and line(reader) == "open", "open")
        check(ask(idle, "1") == "ok" and ask(reader, "?") == "rows 0 1", "before")
        for old, new in ((1, 4), (2, 5), (3, 6)):
            replace(c, old, new_node(c, new))
            c.kill9(old)
        began = time.monotonic()
        told = ask(reader, "?")
        check(told == "rows 0 1", f"who reads: {told}")
        told = ask(idle, "2")
        check(told == "ok", f"who writes: {told}")
        t.note(f"both after {time.monotonic() - began:.1f} s")


@test("safekeeper replace refuses with sentences: no member, not empty, another cluster, no majority, "
      "another one under way", 90)
def replace_refuses(t):
    with t.cluster() as c, Cluster(os.path.join(c.dir, "elsewhere")) as other:
        c.shell("CREATE TABLE t(a);")
        other.shell("CREATE TABLE t(a);")
        address = new_node(c, 4)
        refused(c, 9, address, "not a member", "1, 2, 3")
        refused(c, 2, f"{c.host}:{c.port[3]}", "is a member already")
        refused(c, 2, f"{other.host}:{other.port[2]}", "cluster")
        refused(c, 2, f"{c.host}:{free_ports(1)[0]}", "cannot")
        check(listed(c)[4 if 4 in listed(c) else 1]["role"] != "joining", "something was begun")
        tool = popen(replace_args(c, 2, address), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: listed(c).get(4, {}).get("role") in ("joining", "member"), 20, "begun")
        tool.kill()
        tool.wait(5)
        if listed(c)[4]["role"] == "joining":
            refused(c, 3, new_node(c, 6), "under way", f"replace 2 {address}")
        replace(c, 2, address)
        refused(c, 3, f"{c.host}:{c.port[2]}", "holds", "empty")
        c.kill9(2)
        shutil.rmtree(c.data(2))
        refused(c, 3, new_node(c, 2), "node id 2", "--node 5")
        fresh = new_node(c, 7)
        c.kill9(1)
        c.kill9(3)
        refused(c, 4, fresh, "majority", "safekeeper 1", "safekeeper 3")


def half_replaced(c, old, address, stored_by):
    """A replacement that is killed when that safekeeper has the new list."""
    process = popen(replace_args(c, old, address), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: os.path.exists(os.path.join(c.data(stored_by), "nodes")), 20, "the list is stored")
    process.kill()
    process.wait(5)


@test("two replacements that were broken off, each where the other did not come: the one that a majority has goes on", 90)
def replacements_that_do_not_know_of_each_other(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a); INSERT INTO t VALUES(1);")
        four, five = new_node(c, 4), new_node(c, 5)
        c.kill9(2)
        half_replaced(c, 2, four, 1)
        for node in (1, 3, 4, PAGESERVER):  # as if it had been killed before it came to safekeeper 3
            c.stop(node)
        aside = os.path.join(c.data(1), "nodes")
        with open(aside, "rb") as f:
            alone = f.read()
        for node in (1, 3, 4):
            if os.path.exists(os.path.join(c.data(node), "nodes")):
                os.unlink(os.path.join(c.data(node), "nodes"))
        for node in (2, 3, 4, PAGESERVER):
            c.start(node)
        half_replaced(c, 3, five, 5)
        with open(aside, "wb") as f:
            f.write(alone)
        c.start(1)
        refused(c, 2, four, "under way", f"replace 3 {five}")
        check(replace(c, 3, five)["by"] == 5, "the one that a majority has")
        check(set(listed(c)) == {1, 2, 5}, f"{listed(c)}")
        c.kill9(3)
        replace(c, 1, new_node(c, 6))
        c.shell("INSERT INTO t VALUES(2);")
        check(count(c) == 2, "rows are missing")
        sound(c)


@test("a replacement that one safekeeper alone knows to be done: the same command tells the others before it says so", 90)
def replaced_as_one_says(t):
    # As after a tool that was killed, or found no majority, in its last step: who asks sees the newest list.
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a);")
        address = new_node(c, 4)
        replace(c, 2, address)
        for node in (3, 4):
            c.stop(node)
            os.unlink(os.path.join(c.data(node), "nodes"))
            c.start(node)
        check(replace(c, 2, address)["by"] == 4, "it is done")
        for node in (3, 4):
            check(os.path.exists(os.path.join(c.data(node), "nodes")), f"safekeeper {node} was not told")
        c.kill9(1)
        replace(c, 1, new_node(c, 5))
        check(set(listed(c)) == {3, 4, 5}, f"{listed(c)}")
        c.shell("INSERT INTO t VALUES(1);")
        sound(c)


@test("safekeeper replace refuses nobody by a list that may be an old one: it says who cannot be reached", 90)
def replace_by_an_old_list(t):
    # Level B, seed 13757543: `safekeeper 6 is not a member`, which it was.
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a);")
        replace(c, 2, new_node(c, 4))
        c.kill9(1)
        replace(c, 3, new_node(c, 5))
        for node in (2, 3, 4, 5):
            c.kill9(node)
        c.start(1)
        six = new_node(c, 6)
        refused(c, 5, six, "cannot be reached", "safekeeper 4")
        for node in (4, 5):
            c.start(node)
        check(replace(c, 5, six)["by"] == 6, "it goes on")
        refused(c, 5, new_node(c, 7), "safekeeper 5 is not a member", "1, 4, 6")
        sound(c)


def put_by_hand(c, on, name, members, new_members=()):
    """A database whose making was broken off, with these members, as these safekeepers have it."""
    def group(number, nodes):
        return b"".join(frames.field(number, frames.field(1, n)) for n in nodes)
    config = frames.field(1, 1 if not new_members else 2) + group(2, members) + group(3, new_members)
    timeline = (frames.field(1, random.randbytes(16)) + frames.field(2, random.randbytes(16)) +
                frames.field(3, name.encode()) + frames.field(4, b"main") + frames.field(8, 4096) +
                frames.field(9, config) + frames.field(10, 1) + frames.field(11, 1) +
                frames.field(12, int(time.time() * 1e6)))
    for node in on:
        peer = frames.Rude((c.host, c.port[node]))
        check(peer.greet(cluster=bytes.fromhex(c.id)) == frames.HELLO_OK, f"hello of {node}")
        peer.send(frames.frame(42, frames.field(1, timeline)))
        answer = peer.receive()
        check(answer and answer[0] == 43, f"safekeeper {node} does not take {name}: {answer}")
        peer.close()


@test("safekeeper replace takes along what was born with members of an earlier replacement, or in the middle of one", 90)
def replace_takes_stragglers_along(t):
    names = ("late", "half", "written")
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a);")
        replace(c, 1, new_node(c, 4))
        put_by_hand(c, (2, 3, 4), "late", (1, 2, 3))
        put_by_hand(c, (2, 3, 4), "half", (1, 2, 3), (2, 3, 4))
        put_by_hand(c, (2, 3, 4), "written", (1, 2, 3))
        c.kill9(PAGESERVER)
        c.start(PAGESERVER)
        until(lambda: run(c.shell_args("written"), "CREATE TABLE t(a);", 30, c.env()).returncode == 0, 20,
              "the pageserver drives them on")
        c.kill9(1)
        answer = replace(c, 2, new_node(c, 5))
        check(answer["timelines"] == 4, f"{answer}")
        c.kill9(2)
        c.kill9(3)  # 4 and 5 are needed, and enough
        for name in names:
            c.shell("PRAGMA busy_timeout=20000; CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES(1);", db=name)
            check(count(c, name) == 1, name)
        c.start(3)
        sound(c)


@test("safekeeper replace waits for nothing that one safekeeper alone knows: the pageserver hears of it and makes it", 60)
def replace_with_a_creation_at_a_minority(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a);")
        put_by_hand(c, (3,), "late", (1, 2, 3))  # by a pageserver that is no more, after this one had asked
        answer = replace(c, 2, new_node(c, 4), timeout=30)
        check(answer["timelines"] == 2, f"{answer}")
        c.kill9(1)
        c.shell("CREATE TABLE t(a); INSERT INTO t VALUES(1);", db="late")
        check(count(c, "late") == 1, "late")


@test("safekeeper replace says which safekeepers a branch waits for, and what they say", 60)
def replace_says_what_it_waits_for(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a);")
        replace(c, 1, new_node(c, 4))
        put_by_hand(c, (2, 3, 4), "late", (1, 2, 3))
        c.kill9(PAGESERVER)
        c.start(PAGESERVER)
        until(lambda: c.shell("CREATE TABLE t(a);", db="late", timeout=30).returncode == 0, 20, "late is made")
        c.kill9(1)
        address = new_node(c, 5)
        c.kill9(2)  # of late only 3 is left: nothing can be done before 2 is back
        process = popen(replace_args(c, 2, address), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        said = ""
        while "waiting for late/main" not in said:
            said = process.stderr.readline()
            check(said, "the tool ended without a word")
        check("safekeeper 1" in said and "safekeeper 2" in said and "not reached" in said, said)
        c.start(2)
        out, err = process.communicate(timeout=40)
        check(process.returncode == 0, f"{err[-400:]}")
        t.note(said.strip())


@test("safekeeper replace: a large transaction reaches a new safekeeper behind a slow link, whether others "
      "write meanwhile or nobody does", 120)
def replace_behind_a_slow_link(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a, b); INSERT INTO t(b) VALUES(randomblob(3000000));")
        for old, new, n in ((1, 4, 0), (2, 6, 2)):
            new_node(c, new)
            with Proxy(c.port[new]) as slow:
                slow.do("delay 250")
                writers = Writers(c, n)
                answer = replace(c, old, f"127.0.0.1:{slow.port}", timeout=60)
                ended = writers.end()
                t.note(f"{n} writers: {answer['seconds']:.1f} s, {sum(e[0] for e in ended)} commits meanwhile, "
                       f"the longest {max([e[1] for e in ended], default=0):.2f} s")
                check(listed(c)[new]["behind_bytes"] == 0 or n, "it has all")
                replace(c, new, new_node(c, new + 1))  # the slow one leaves again
                sound(c)


@test("safekeeper replace with many branches (--slow: 1,000) while one of them is written", 900)
def replace_with_many_branches(t):
    n = 1000 if t.slow() else 10
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a, b);")
        for i in range(n - 1):
            done = run([TOOL, "branch", "create", f"shop/b{i}", "--server", c.server()], "", 30)
            check(done.returncode == 0, done.stderr)
        address = new_node(c, 4)
        writers = Writers(c, 1)
        answer = replace(c, 2, address, timeout=700)
        check(answer["timelines"] == n, f"{answer}")
        writers.go_on("afterwards")
        (done, longest), = writers.end()
        t.note(f"{n} branches in {answer['seconds']:.1f} s; {done} commits meanwhile, 0 failed, the "
               f"longest {longest:.2f} s")
        c.kill9(1)
        for i in random.sample(range(n - 1), min(10, n - 1)):
            c.shell("PRAGMA busy_timeout=20000; INSERT INTO t(a) VALUES(1);", db=f"shop/b{i}")
