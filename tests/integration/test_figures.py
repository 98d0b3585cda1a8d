"""What is counted: pages of a point query, bytes of a commit, durable writes of a batch."""

import json
import os
import random
import re
import signal
import time

from lib.cluster import (BIN, NODES, PAGESERVER, Skip, check, line, popen, run, socket_bytes, tell,
                         until)
from lib.registry import test


def status(c):
    done = run([os.path.join(BIN, "corallite"), "status", "--json"], "", 10, env=c.env())
    check(done.returncode == 0, f"corallite status: {done.stderr[-300:]}")
    return json.loads(done.stdout)


@test("200 MB, a fresh process with an empty cache: a point query fetches under 20 pages and 1 MB",
      240)
def point_query_in_200_mb(t):
    n, width = 205000, 900
    with t.cluster() as c:
        db = c.connect()
        db.execute("CREATE TABLE big(k INTEGER PRIMARY KEY, v BLOB)")
        began = time.monotonic()
        for first in range(0, n, 5000):
            db.execute("BEGIN")
            db.executemany("INSERT INTO big VALUES(?, ?)",
                           ((k, random.randbytes(width)) for k in range(first, first + 5000)))
            db.execute("COMMIT")
        pages, size = (db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("page_count", "page_size"))
        db.close()
        took = time.monotonic() - began
        t.note(f"{pages * size / 1e6:.0f} MB loaded in {took:.1f} s")
        check(pages * size >= 200e6, f"the database has only {pages * size} bytes")
        before = c.metrics()
        began = time.monotonic()
        w = c.worker("point_query", n // 2 + 1)
        check(line(w) == str(width), "the row")
        took = time.monotonic() - began
        while line(w) != ".":
            pass
        after = c.metrics()
        received = sum(r for _, r in socket_bytes(w.pid, c.port[PAGESERVER]).values())
        fetched = after["corallite_pageserver_pages_served_total"] - \
            before["corallite_pageserver_pages_served_total"]
        tell(w, "end")
        t.note(f"point query: {fetched:.0f} pages, {received} bytes from the pageserver (ss), "
               f"{took * 1000:.0f} ms with the start of the process")
        check(0 < fetched < 20, f"{fetched} pages")
        check(1000 < received < 1e6, f"{received} bytes")


@test("bytes sent a one-row commit in a warm table, over 1,000 commits, counted by ss: under 1 KiB a "
      "safekeeper; corallite status agrees within 5 %", 120)
def bytes_of_a_one_row_commit(t):
    t.needs("ss")
    commits = 1000
    with t.cluster() as c:
        db = c.connect()
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, n INT)")
        db.execute("WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 20000) "
                   "INSERT INTO t SELECT x, 'name of ' || x, x * 7 FROM i")
        for i in range(50):
            db.execute("INSERT INTO t(name, n) VALUES(?, ?)", (f"warm {i}", i))
        until(lambda: len(all_sent(c)) == 3, 10, "connections to all three")
        time.sleep(0.3)
        before, told_before = all_sent(c), told(c)
        began = time.monotonic()
        for i in range(commits):
            db.execute("INSERT INTO t(name, n) VALUES(?, ?)", (f"customer {i}", i))
        took = time.monotonic() - began
        time.sleep(0.3)
        after, told_after = all_sent(c), told(c)
        for node in NODES:
            sent = after[node] - before[node]
            says = told_after[node] - told_before[node]
            t.note(f"safekeeper {node}: {sent / commits:.0f} bytes a commit (ss), "
                   f"{says / commits:.0f} (corallite status)")
            check(sent / commits < 1024, f"{sent / commits:.0f} bytes a commit to {node}")
            check(sent / commits > 100, f"{sent / commits:.0f} bytes a commit cannot be")
            check(abs(says - sent) <= 0.05 * sent, f"corallite status says {says}, ss {sent}")
        t.note(f"{commits / took:.0f} commits/s by one connection")


def all_sent(c):
    """Bytes sent by this process to each safekeeper."""
    sent = {node: sum(s for s, _ in socket_bytes(os.getpid(), c.port[node]).values())
            for node in NODES}
    return {node: n for node, n in sent.items() if n}


def told(c):
    (timeline,) = status(c)["timelines"]
    return {copy["node"]: copy["bytes_in"] for copy in timeline["safekeepers"]}


def syncs_of(file):
    """(begin, end) of each fdatasync in an strace -ttt -T log; unfinished and resumed ones joined."""
    found, begun = [], {}
    with open(file) as f:
        for text in f:
            m = re.match(r"(\d+) +(\d+\.\d+) (.*)", text)
            if not m:
                continue
            pid, at, call = m[1], float(m[2]), m[3]
            if "unfinished" in call:
                begun[pid] = at
                continue
            ends = re.search(r"= (-?\d+).*<(\d+\.\d+)>$", call)
            if not ends or ends[1] != "0":
                continue
            start = begun.pop(pid, at) if "resumed" in call else at
            found.append((start, start + float(ends[2])))
    return found


@test("strace shows a durable write at two safekeepers or more for each acknowledged batch", 90)
def durable_write_at_two_safekeepers(t):
    t.needs("strace")
    commits = 100
    with t.cluster() as c:
        db = c.connect()
        db.execute("CREATE TABLE t(a)")
        for i in range(20):
            db.execute("INSERT INTO t VALUES(?)", (i,))
        tracers, files = [], {}
        for node in NODES:
            files[node] = os.path.join(t.dir, f"strace-{node}")
            tracer = popen(["strace", "-f", "-ttt", "-T", "-e", "trace=fdatasync,fsync", "-o",
                            files[node], "-p", str(c.pid(node))], stderr=-1, text=True)
            tracers.append(tracer)
            words = tracer.stderr.readline()
            if "not permitted" in words:
                raise Skip("strace may not attach to a process here")
            check("attached" in words, f"strace: {words.strip()}")
        time.sleep(0.3)
        acknowledged = []
        for i in range(commits):
            began = time.time()
            db.execute("INSERT INTO t VALUES(?)", (i,))
            acknowledged.append((began, time.time()))
            time.sleep(0.002)
        for tracer in tracers:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(10)
        syncs = {node: syncs_of(files[node]) for node in NODES}
        counts = [sum(any(begin >= a and end <= b + 0.0002 for begin, end in syncs[node])
                      for node in NODES) for a, b in acknowledged]
        t.note(f"{commits} commits, one at a time; durable writes within the COMMIT at 3 "
               f"safekeepers: {counts.count(3)}, at 2: {counts.count(2)}; fdatasync calls: "
               + ", ".join(f"{node}: {len(s)}" for node, s in syncs.items()))
        few = [n for n in counts if n < 2]
        check(not few, f"{len(few)} commits were acknowledged with fewer than two durable writes")
