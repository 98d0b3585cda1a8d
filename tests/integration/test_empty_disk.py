"""An empty directory is started in the place of a lost disk: it has the number, and knows nothing of what was acknowledged
under it. Beside a third safekeeper that lagged it must never pass for a majority."""

import os
import shutil
import subprocess

from lib import frames
from lib.cluster import BIN, PAGESERVER, check, line, popen, run, tell, until
from lib.openapi import Api
from lib.proxy import Proxy
from lib.registry import test
from test_members import catch_up, count, listed, new_node, refused, replace, replace_args, sound, tool

TOOL = os.path.join(BIN, "corallite")
TIMELINE_PUT, TIMELINE_PUT_OK, TIMELINE_LIST, TIMELINE_LISTED = 42, 43, 44, 45


def fields(message):
    """(number, value) of each field of a message, of which none is fixed32 or fixed64."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        value = varint()
        if key & 7 == 2:
            value, at = message[at:at + value], at + value
        yield key >> 3, value


def greeted(c, node):
    peer = frames.Rude((c.host, c.port[node]))
    check(peer.greet(cluster=bytes.fromhex(c.id)) == frames.HELLO_OK, f"hello of {node}")
    return peer


def hand_over(c, giver, taker):
    """The taker is told of all timelines of the giver, as by a pageserver that takes it for what its number says."""
    peer = greeted(c, giver)
    peer.send(frames.frame(TIMELINE_LIST))
    kind, body = peer.receive()
    check(kind == TIMELINE_LISTED, f"{giver} answered {kind}")
    timelines = [value for number, value in fields(body) if number == 1]
    peer.close()
    peer = greeted(c, taker)
    for timeline in timelines:
        peer.send(frames.frame(TIMELINE_PUT, frames.field(1, timeline)))
        kind, body = peer.receive()
        check(kind == TIMELINE_PUT_OK, f"{taker} answered {kind}: {body}")
    peer.close()
    return len(timelines)


def empty_in_place_of(c, node):
    """The disk of a safekeeper is lost, and an operator starts it again, as it was started before."""
    if c.process[node].poll() is None:
        c.kill9(node)
    shutil.rmtree(c.data(node))
    c.start(node)


def made_and_known(c, db="shop"):
    """All have heard of it, and nobody has written to it: so nobody knows of another one's starts."""
    tool(c, "db", "create", db)
    until(lambda: all(n["timelines"] == 1 for n in listed(c).values()), 20, "all have heard of it")


def told(c, node):
    """Whoever looks sees that it counts for nothing, and what to do."""
    for words in (("status",), ("safekeeper", "list"), ("check",)):
        said = tool(c, *words, ok=False).stdout
        for word in (f"safekeeper {node} has data directory", "counts for nothing", f"safekeeper replace {node}"):
            check(word in said, f"{words}: no '{word}' in: {said}")
    shown = Api(c).get("/status")
    one = next(k for k in shown["safekeepers"] if k["node"] == node)
    check(not shown["all_up"] and not one["up"] and not one["connected"] and "counts for nothing" in one["trouble"], f"{one}")


def not_read(c):
    """A new program finds no majority: who is there under the number of the lost disk is none of it."""
    done = c.shell("SELECT count(*) FROM t;", ok=False, timeout=90)
    check("unable to open" in done.stderr, f"it reads without what was acknowledged: {done.stdout} {done.stderr[-500:]}")
    check("data directory" in done.stderr, f"no sentence: {done.stderr[-500:]}")


ROWS = "CREATE TABLE t(a); INSERT INTO t VALUES('1'), ('2'), ('3');"


@test("safekeeper replace beside an empty directory that was started in the place of the lost disk: it waits for a majority "
      "that knows what was acknowledged, and says so; nothing is lost", 120)
def replace_beside_an_empty_disk(t):
    with t.cluster() as c:
        made_and_known(c)
        c.stop(3)
        c.shell(ROWS)
        c.stop(2)
        empty_in_place_of(c, 1)
        c.start(3)
        hand_over(c, 3, 1)
        address = new_node(c, 4)
        done = run(replace_args(c, 1, address), "", 60)
        check(done.returncode != 0, "it did not wait for safekeeper 2")
        for word in ("majority", "safekeeper 1", "another one answers there", "safekeeper 2"):
            check(word in done.stderr, f"no '{word}' in: {done.stderr[-400:]}")
        t.note(done.stderr.strip())
        c.start(2)
        replace(c, 1, address)
        check(count(c) == 3, "rows are missing")
        sound(c)


@test("safekeeper catch-up beside an empty directory that was started in the place of a lost disk: it does not lead the log with "
      "it, and says why; nothing is lost", 120)
def catch_up_beside_an_empty_disk(t):
    with t.cluster() as c:
        made_and_known(c)
        c.stop(1)
        c.shell("CREATE TABLE t(a);")  # 3 knows that this is committed, and nothing of 1
        c.stop(3)
        c.start(1)
        c.shell("INSERT INTO t VALUES('1'), ('2'), ('3');")
        c.stop(2)
        empty_in_place_of(c, 1)
        c.start(3)
        hand_over(c, 3, 1)
        done = run([TOOL, "safekeeper", "catch-up", "--server", c.server()], "", 60)
        check(done.returncode != 0, f"it did something: {done.stdout}")
        for word in ("safekeeper 1", "data directory", "safekeeper replace 1", "majority"):
            check(word in done.stderr, f"no '{word}' in: {done.stderr[-400:]}")
        t.note(done.stderr.strip())
        c.start(2)
        check(count(c) == 3, "rows are missing")
        told(c, 1)
        catch_up(c)
        check(count(c) == 3, "rows are missing")


def lose_the_newcomer(c):
    """4 has come for 1, and an empty directory is started in the place of its disk; 3 lags, 2 is away."""
    made_and_known(c)
    replace(c, 1, new_node(c, 4))
    c.kill9(1)
    c.stop(3)
    c.shell(ROWS)
    c.stop(2)
    empty_in_place_of(c, 4)
    c.start(3)
    hand_over(c, 3, 4)


@test("safekeeper replace: the lost disk is one that came by an earlier replacement, and which the log's birth does not name", 120)
def replace_beside_an_empty_newcomer(t):
    with t.cluster() as c:
        lose_the_newcomer(c)
        address = new_node(c, 5)
        done = run(replace_args(c, 4, address), "", 60)
        check(done.returncode != 0, "it did not wait for safekeeper 2")
        check("safekeeper 4" in done.stderr and "another one answers" in done.stderr, done.stderr[-400:])
        c.start(2)
        replace(c, 4, address)
        check(count(c) == 3, "rows are missing")
        sound(c)


@test("a program that is started after a replacement does not take an empty directory for the new safekeeper, whose disk was lost", 120)
def program_beside_an_empty_newcomer(t):
    with t.cluster() as c:
        lose_the_newcomer(c)
        not_read(c)
        c.start(2)
        check(count(c) == 3, "rows are missing")


@test("a branch that is made of the head while a safekeeper lags and another one's disk was lost and an empty directory started in "
      "its place: every commit that was acknowledged is in it", 120)
def branch_beside_an_empty_disk(t):
    with t.cluster() as c:
        made_and_known(c)
        writer = c.worker("commit_on_demand")
        check(line(writer) == "open", "open")
        c.shell("CREATE TABLE t(a);")
        tell(writer, "0")
        check(line(writer) == "ok", "a commit")
        c.stop(3)
        c.stop(PAGESERVER)
        tell(writer, "1")
        told = line(writer)
        check(told == "ok", f"a commit without the pageserver: {told}")
        writer.kill()
        c.stop(2)
        empty_in_place_of(c, 1)
        c.start(3)
        c.start(PAGESERVER)
        hand_over(c, 3, 1)
        done = tool(c, "branch", "create", "shop/b", ok=False)
        check(done.returncode != 0, f"a branch was made: {done.stdout}")
        t.note(done.stderr.strip())
        c.start(2)
        tool(c, "branch", "create", "shop/b")
        check(count(c) == 2 and count(c, "shop/b") == 2, f"rows are missing: {count(c)}, {count(c, 'shop/b')} in the branch")


@test("a new pageserver beside a safekeeper that was away when a database was made, and an empty directory in the place of one that "
      "had it: it waits for the third, and does not make the name anew", 120)
def catalog_beside_an_empty_disk(t):
    with t.cluster() as c:
        tool(c, "db", "create", "other")
        until(lambda: all(n["timelines"] == 1 for n in listed(c).values()), 20, "all have heard of it")
        c.stop(3)
        c.shell(ROWS)
        c.stop(2)
        empty_in_place_of(c, 1)
        c.kill9(PAGESERVER)
        shutil.rmtree(c.data(PAGESERVER))
        c.start(3)
        c.start(PAGESERVER, command=c.command(PAGESERVER) + ["--take-over"])
        done = tool(c, "db", "create", "shop", ok=False)
        check(done.returncode != 0, "the database was made anew")
        t.note(done.stderr.strip())
        c.start(2)
        until(lambda: c.shell("SELECT 1 FROM t", ok=False).returncode == 0, 30, "shop is known")
        check(count(c) == 3, "rows are missing")


@test("a database that was made while a safekeeper was away knows that one's disk as soon as it is back", 120)
def disk_that_was_away_at_the_birth(t):
    with t.cluster() as c:
        for node in (1, PAGESERVER):
            c.stop(node)
        c.start(PAGESERVER)
        tool(c, "db", "create", "shop")
        c.start(1)
        until(lambda: all(n["timelines"] == 1 for n in listed(c).values()), 20, "all have heard of it")
        until(lambda: c.knows_all(), 20, "the pageserver has connections to all three")
        c.stop(3)
        c.shell(ROWS)
        c.stop(2)
        c.kill9(PAGESERVER)
        empty_in_place_of(c, 1)
        c.start(3)
        c.start(PAGESERVER)
        hand_over(c, 3, 1)
        not_read(c)
        c.start(2)
        check(count(c) == 3, "rows are missing")


@test("the disk of the new safekeeper is lost before its replacement is done, and an empty directory started in its place: it does "
      "not go on as the lost one, and another one takes its place", 120)
def newcomer_lost_on_its_way(t):
    with t.cluster() as c:
        c.shell(ROWS)
        for i in range(5):
            tool(c, "branch", "create", f"shop/b{i}")
        new_node(c, 4)
        with Proxy(c.port[4]) as slow:
            slow.do("delay 200")
            address = f"127.0.0.1:{slow.port}"
            process = popen(replace_args(c, 2, address), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            said = ""
            while "registry" not in said and "timelines" not in said and "lacks" not in said:
                said = process.stderr.readline()
                check(said, "the tool ended without a word")
            process.kill()
            process.wait(10)
            check(listed(c)[4]["role"] == "joining", f"{listed(c)[4]}")
            c.shell("INSERT INTO t VALUES('4');")
            refused(c, 2, new_node(c, 5), "under way", f"replace 2 {address}")
            empty_in_place_of(c, 4)
            refused(c, 2, address, "node id 4", "another disk", "--node")
            done = replace(c, 2, f"{c.host}:{c.port[5]}")
        check(done["by"] == 5 and set(listed(c)) == {1, 3, 5}, f"{done} {listed(c)}")
        for node in (2, 4):
            c.kill9(node)
        for away in (1, 3):
            c.kill9(away)
            check(count(c) == 4 and all(count(c, f"shop/b{i}") == 3 for i in range(5)), f"rows are missing without {away}")
            c.shell("PRAGMA busy_timeout=20000; INSERT INTO t VALUES('5'); DELETE FROM t WHERE a = '5';")
            c.start(away)
        sound(c)
