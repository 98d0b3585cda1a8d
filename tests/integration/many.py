#!/usr/bin/python3
"""Many small databases on one cluster: make many [N=10000].

Makes N databases with a table and a row each, and tells what that costs: how fast they are made, memory, descriptors
and disk of each daemon at rest and with 100 of them in use, and how long after a restart (clean, and kill -9) every
daemon is ready and a first statement is done. Ends with 1 where the promise is not kept: the pageserver under 200 MB,
ready in under 2 s. A machine that does other things at the same time makes it slower; `--no-judge` only tells.
"""

import json
import os
import shutil
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib.cluster import NODES, PAGESERVER, Cluster, Failure, check, until  # noqa: E402

ACTIVE = 100
MEMORY_MIB, READY_S = 200, 2.0
MAKERS = 4


def memory_mib(pid):
    """Memory of its own and its share of what it has in common; without the store's mapped file: (PSS, RSS)."""
    pss = rss = mapped = 0
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for text in f:
            word = text.split()
            if word[0] == "Pss:":
                pss = int(word[1]) / 1024
            elif word[0] == "Rss:":
                rss = int(word[1]) / 1024
            elif word[0] == "Pss_File:":
                mapped = int(word[1]) / 1024
    return {"pss": pss, "rss": rss, "file": mapped}


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def disk_bytes(path):
    total = 0
    for root, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(root, name)).st_blocks * 512
            except FileNotFoundError:  # it has just gone
                pass
    return total


def state(c):
    """What each daemon takes now: {node: {...}}."""
    found = {}
    for node in (PAGESERVER,) + tuple(NODES):
        pid = c.pid(node)
        found[node] = {**memory_mib(pid), "fds": descriptors(pid)}
    return found


def told(now):
    keepers = [now[n] for n in NODES]
    ps = now[PAGESERVER]
    return (f"pageserver {ps['pss']:.0f} MiB (RSS {ps['rss']:.0f}, of it {ps['file']:.0f} mapped files), {ps['fds']} "
            f"descriptors; safekeepers {min(k['pss'] for k in keepers):.0f} to {max(k['pss'] for k in keepers):.0f} MiB, "
            f"at most {max(k['fds'] for k in keepers)} descriptors")


def make_one(c, n):
    db = c.connect(f"db{n}", timeout=30)
    db.execute("CREATE TABLE IF NOT EXISTS t(x INTEGER PRIMARY KEY, y TEXT)")
    db.execute("INSERT OR IGNORE INTO t VALUES(1, ?)", (f"of database {n}",))
    db.close()


def make(c, n):
    """All of them, by a few threads; seconds. One that fails is tried again once: on a machine with many times its
    processors' load an answer may be late."""
    wrong, late, lock, at = [], [], threading.Lock(), [0]

    def maker():
        while not wrong:
            with lock:
                k, at[0] = at[0], at[0] + 1
            if k >= n:
                return
            try:
                make_one(c, k)
            except Exception as first:  # told by the thread that waits
                late.append(k)
                try:
                    make_one(c, k)
                except Exception as e:
                    wrong.append(f"db{k}: {first}; and then: {e}")

    began = time.monotonic()
    threads = [threading.Thread(target=maker) for _ in range(MAKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not wrong, wrong and wrong[0])
    check(len(late) <= 1 + n // 1000, f"{len(late)} of {n} had to be tried twice")
    return time.monotonic() - began


def ready(c, node):
    """Does it say so itself?"""
    path = "readyz" if node == PAGESERVER else "healthz"
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{c.http[node]}/{path}", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def start(c, n):
    """Starts everything; seconds until each daemon says that it is ready, and until a statement was done."""
    began = time.monotonic()
    for node in NODES + (PAGESERVER,):
        c.start(node, wait=False)
    for node in NODES + (PAGESERVER,):
        until(lambda: ready(c, node), 120, f"{node} is ready")
    up = time.monotonic() - began
    db = c.connect(f"db{n // 2}", timeout=30)
    check(db.execute("SELECT y FROM t").fetchone() == (f"of database {n // 2}",), "the row is not there")
    db.close()
    return up, time.monotonic() - began


def used(n):
    """Those that `use` writes to."""
    return {(k * 7919) % n for k in range(min(ACTIVE, n))}


def use(c, n):
    """Writes to 100 of them, and reads them back by a connection that stays."""
    opened = []
    for k in sorted(used(n)):
        db = c.connect(f"db{k}", timeout=30)
        db.execute("INSERT INTO t(y) VALUES('again')")
        check(db.execute("SELECT count(*) FROM t").fetchone()[0] >= 2, "a row is not there")
        opened.append(db)
    return opened


def measure(c, n, note):
    """Carries it out on a fresh cluster; {figure: value}."""
    empty = {node: disk_bytes(c.data(node)) for node in NODES + (PAGESERVER,)}
    seconds = make(c, n)
    note(f"{n} databases made, each with a table and a row: {seconds:.0f} s, {n / seconds:.1f} a second, by {MAKERS} "
         f"threads of one process")
    time.sleep(12)  # longer than what is idle
    at_rest = state(c)
    note(f"at rest: {told(at_rest)}")
    each = {node: (disk_bytes(c.data(node)) - empty[node]) / n / 1024 for node in NODES + (PAGESERVER,)}
    note(f"disk of one at rest: {max(each[k] for k in NODES):.0f} KiB on a safekeeper, {each[PAGESERVER]:.1f} KiB on the "
         f"pageserver")
    for node in (PAGESERVER,) + tuple(NODES):
        c.stop(node, 30)
    clean = start(c, n)
    note(f"after SIGTERM: all ready after {clean[0]:.2f} s, a statement done after {clean[1]:.2f} s")
    note(f"just started: {told(state(c))}")
    opened = use(c, n)
    active = state(c)
    note(f"with {ACTIVE} in use: {told(active)}")
    c.kill9_everything()
    for db in opened:
        db.close()
    killed = start(c, n)
    note(f"after kill -9 of all: all ready after {killed[0]:.2f} s, a statement done after {killed[1]:.2f} s")
    for k in range(0, n, max(1, n // 50)):
        db = c.connect(f"db{k}", timeout=30)
        check(db.execute("SELECT y FROM t WHERE x = 1").fetchone() == (f"of database {k}",), f"db{k}: its row is not there")
        check(db.execute("PRAGMA integrity_check").fetchone() == ("ok",), f"db{k} is not intact")
        db.close()
    return {"rate": n / seconds, "clean": clean, "killed": killed, "rest": at_rest, "active": active,
            "disk_kib": max(each[k] for k in NODES)}


def main():
    n = int(os.environ.get("N", "10000"))
    directory = tempfile.mkdtemp(prefix="corallite-many-", dir=os.environ.get("TMPDIR"))
    try:
        with Cluster(directory) as c:
            found = measure(c, n, lambda text: print(text, flush=True))
        print(json.dumps({"rate": found["rate"], "clean": found["clean"], "killed": found["killed"]}))
        if "--no-judge" not in sys.argv:
            worst = max(found["active"][PAGESERVER]["pss"], found["rest"][PAGESERVER]["pss"])
            check(worst <= MEMORY_MIB, f"the pageserver takes {worst:.0f} MiB, at most {MEMORY_MIB} were promised")
            check(found["clean"][0] <= READY_S and found["killed"][0] <= READY_S,
                  f"ready after {found['clean'][0]:.2f} and {found['killed'][0]:.2f} s, {READY_S} were promised")
    except Failure as e:
        print(f"FAIL {e}")
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
