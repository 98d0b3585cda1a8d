"""A safekeeper whose disk goes back in time: an older copy of its directory is put in its place."""

import os
import shutil

from lib.cluster import BIN, NODES, PAGESERVER, check, run, until
from lib.openapi import Api
from lib.registry import test
from test_members import count, listed, new_node, replace, sound

TOOL = os.path.join(BIN, "corallite")


def copy(c, node):
    """As cp -a makes one: of a node that runs, file by file."""
    aside = c.data(node) + "-copy"
    shutil.copytree(c.data(node), aside)
    return aside


def put_back(c, node, aside):
    shutil.rmtree(c.data(node))
    os.rename(aside, c.data(node))


def regressed(c, node):
    return c.metrics(node).get("corallite_safekeeper_regressed") == 1


def told(c, node):
    """It is told everywhere, with the sentence."""
    text = listed(c)[node].get("regressed", "")
    for word in ("went back in time", f"safekeeper {node}", "safekeeper replace", "older copy"):
        check(word in text, f"no '{word}' in: {text}")
    shown = run([TOOL, "safekeeper", "list", "--server", c.server()], "", 20)
    check("takes no part: " in shown.stdout, f"list: {shown.stdout}")
    status = run([TOOL, "status", "--server", c.server()], "", 20)
    check("went back in time" in status.stdout and status.returncode != 0, f"status: {status.stdout}")
    shown = Api(c).get("/status")
    one = next(k for k in shown["safekeepers"] if k["node"] == node)
    check(one["regressed"] == one["trouble"] == text and not one["up"] and not shown["all_up"], f"/v1/status: {shown}")
    check(all(k["up"] and k["regressed"] is None for k in shown["safekeepers"] if k is not one), f"/v1/status: {shown}")
    check("went back in time" in open(c.log(node), errors="replace").read(), "the log says it")


def rows(c):
    return int(c.shell("SELECT count(*) FROM t").stdout.split()[-1])


def insert(c, i):
    """After a kill of all the leases that they may have promised are waited out."""
    until(lambda: c.shell(f"INSERT INTO t VALUES({i})", ok=False).returncode == 0, 40, "a commit")


def known(c):
    """The other safekeepers have on their disks what was told of each other."""
    for node in NODES:
        for root, _, files in os.walk(os.path.join(c.data(node), "timelines")):
            if "control" in files and "witness" not in files:
                return False
    return True


def cycle(c, together):
    """Commits, a copy of node 1, more commits, the copy put back."""
    c.shell("CREATE TABLE t(a); INSERT INTO t VALUES(1);")
    aside = copy(c, 1)
    for i in range(20):
        c.shell(f"INSERT INTO t VALUES({i})")
    until(lambda: known(c), 20, "what is known is on the disks")
    if together:
        for node in (PAGESERVER, *NODES):
            c.stop(node)
        put_back(c, 1, aside)
        c.start_everything()
    else:
        c.kill9(1)
        put_back(c, 1, aside)
        c.start(1)


def refused_for_good(c):
    c.shell("INSERT INTO t VALUES(100)")
    until(lambda: regressed(c, 1), 20, "node 1 is refused")
    told(c, 1)
    c.shell("INSERT INTO t VALUES(101)")
    check(rows(c) == 23, f"{rows(c)} rows")
    c.restart(1)  # the sentence stays
    c.shell("INSERT INTO t VALUES(102)")
    told(c, 1)


@test("an older copy of a safekeeper's directory: refused with a sentence, told by status, list and a metric; commits "
      "go on with the two; built anew by the one command", 120)
def older_copy(t):
    with t.cluster() as c:
        cycle(c, together=False)
        refused_for_good(c)
        address = new_node(c, 4)
        done = replace(c, 1, address)
        check(done["by"] == 4, f"replaced by {done}")
        c.stop(1)
        c.stop(2)  # 3 and 4 are a majority, and have all
        c.shell("INSERT INTO t VALUES(103)")
        check(rows(c) == 25, f"{rows(c)} rows")
        check(1 not in listed(c), "node 1 is not listed any more")


@test("an older copy of a safekeeper's directory is put back while all were stopped: refused, by what the others have "
      "on their disks", 120)
def older_copy_of_all_stopped(t):
    with t.cluster() as c:
        cycle(c, together=True)
        refused_for_good(c)
        sound(c)


@test("never refused wrongly: kill -9 of each and of all under load, clean restarts, a disk that moved", 120)
def not_an_older_copy(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a);")
        n = 0
        for how in ("kill", "stop", "kill", "all", "move"):
            for i in range(5):
                insert(c, i)
                n += 1
            for node in NODES:
                if how == "kill":
                    c.kill9(node)
                    c.start(node)
                elif how == "stop":
                    c.stop(node)
                    c.start(node)
            if how == "all":
                c.kill9_everything()
                c.start_everything()
            if how == "move":
                c.stop(1)
                put_back(c, 1, copy(c, 1))
                c.start(1)
        insert(c, 1)
        check(rows(c) == n + 1, f"{rows(c)} rows")
        for node in NODES:
            check(not regressed(c, node), f"node {node} is refused wrongly: {c.last_words(node)}")
            check("regressed" not in listed(c)[node], "listed as refused")
