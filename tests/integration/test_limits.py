"""What the daemons' ports put up with: senders and readers that trickle or stop, lengths that lie, floods of
connections, hosts that vanish, rubbish in sound frames. The numbers are those of docs/limits.md."""

import re
import resource
import socket
import subprocess
import threading
import time
import urllib.request

from lib import hosts
from lib.cluster import KEPT, NODES, PAGESERVER, SLOWER, Failure, Skip, check, popen, until
from lib.frames import (COMPUTE, ERROR, GET_PAGES, HELLO, HELLO_OK, PAGESERVER as DAEMON, REQUESTS, Rude, announcement,
                        field, frame, hello, rubbish, seed)
from lib.registry import test

CONNECTIONS, RESERVED, PER_ADDRESS = 4096, 32, 1024
MIB = 1 << 20


def refused(c, node):
    """{reason: number} of the connections that a daemon refused or cut."""
    url = f"http://127.0.0.1:{c.http[node]}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(r'^corallite_connections_refused_total\{reason="(\w+)"\} (\d+)$', text, re.M)
    check(len(found) == 6, f"{found}")
    return {reason: int(n) for reason, n in found}


def memory(c, node):
    """Bytes of its own (not of mapped files)."""
    with open(f"/proc/{c.pid(node)}/status") as f:
        return int(re.search(r"^RssAnon:\s+(\d+) kB", f.read(), re.M)[1]) * 1024


def address(c, node):
    return ("127.0.0.1", c.port[node])


def still_serves(c, node):
    one = Rude(address(c, node))
    check(one.greet(COMPUTE, bytes.fromhex(c.id)) == HELLO_OK, f"{node} greets nobody any more")
    one.close()


# -- lengths, damage, rubbish ----------------------------------------------------------------------


def lying_lengths(c, node, t):
    """A length is compared with its bound before memory is taken for it, and memory follows what came."""
    kind = PAGESERVER if node == PAGESERVER else "safekeeper"
    before, bad = memory(c, node), refused(c, node)["bad_frame"]
    told = 0
    for number, largest in REQUESTS[kind].items():
        for body in (largest + 1, 2**31, 2**32 - 1):
            one = Rude(address(c, node))
            check(one.greet() == HELLO_OK, "not greeted")
            one.send(announcement(number, body))
            check("the limit" in (one.sentence() or ""), f"type {number}, {body} bytes: no sentence")
            one.close()
            told += 1
    first = Rude(address(c, node))
    first.send(announcement(HELLO, 4097))
    check("the limit" in (first.sentence() or ""), "a Hello of 4,097 bytes")
    first.close()
    sound = frame(GET_PAGES, b"")
    for data in (frame(200), frame(GET_PAGES, b"", damage=1), sound[:6] + b"\1" + sound[7:], frame(GET_PAGES, b"", b"x")):
        one = Rude(address(c, node))
        one.greet()
        one.send(data)
        check(one.sentence(), "bytes that are no frame got no sentence")
        one.close()
    check(refused(c, node)["bad_frame"] == bad + told + 5, f"{refused(c, node)} after {bad} + {told} + 5")
    # The largest bodies that there may be, announced and never sent.
    largest = max(REQUESTS[kind], key=REQUESTS[kind].get)
    waiting = []
    for _ in range(200):
        one = Rude(address(c, node))
        one.greet()
        one.send(announcement(largest, REQUESTS[kind][largest]) + b"x" * 100)
        waiting.append(one)
    still_serves(c, node)
    grown = memory(c, node) - before
    for one in waiting:
        one.close()
    t.note(f"{node}: 200 x {REQUESTS[kind][largest]} bytes announced: {grown / MIB:.1f} MiB more memory")
    check(grown < 24 * MIB * KEPT, f"{node} took {grown / MIB:.0f} MiB for what was only announced")


def rubbish_in_sound_frames(c, node, rng, connections):
    """Whatever a message says, it is answered or the connection ends; the daemon lives."""
    kind = PAGESERVER if node == PAGESERVER else "safekeeper"
    for _ in range(connections):
        one = Rude(address(c, node), timeout=10)
        check(one.greet(rng.choice((1, 2, 3)), bytes.fromhex(c.id)) == HELLO_OK, "not greeted")
        for _ in range(rng.randrange(1, 12)):
            payload = rng.randbytes(rng.randrange(300)) if rng.random() < 0.3 else b""
            number = rng.choice((*REQUESTS[kind], *range(1, 6)))
            if not one.send(frame(number, rubbish(rng), payload if number == 21 else b"", rng.randrange(2**32))):
                break
        one.close()
    still_serves(c, node)


# -- slow ones, and those who take nothing ------------------------------------------------------------


class Slow(threading.Thread):
    """Begins a frame and sends on byte by byte; when it was cut."""

    def __init__(self, c, node, greet):
        super().__init__(daemon=True)
        self.rude, self.cut, self.began = Rude(address(c, node)), None, time.monotonic()
        if greet:
            check(self.rude.greet() == HELLO_OK, "not greeted")

    def run(self):
        data = frame(GET_PAGES, field(1, b"x" * 16) + field(99, b"y" * 4000))
        for byte in data:
            self.rude.socket.settimeout(0.05)
            try:
                self.rude.socket.sendall(bytes([byte]))
                while self.rude.socket.recv(4096):
                    pass
                break
            except socket.timeout:
                continue
            except OSError:
                break
        self.cut = time.monotonic() - self.began


def takes_nothing(c, timeline, lsn):
    """Connections that ask for 100 MiB each and read none of it."""
    ask = frame(GET_PAGES, field(1, timeline) + field(2, lsn) + field(3, lsn) + field(4, 1000) +
                field(5, b"".join(bytes([1 + i % 100]) for i in range(200))))
    out = []
    for _ in range(8):
        one = Rude(address(c, PAGESERVER), rcvbuf=4096)
        check(one.greet(COMPUTE, bytes.fromhex(c.id)) == HELLO_OK, "not greeted")
        one.socket.settimeout(0.5)
        for _ in range(128):
            if not one.send(ask):
                break
        out.append(one)
    return out


def head(c):
    """Timeline and LSN of a database with 100 pages that do not compress."""
    con = c.connect("shop")
    con.execute("CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b)")
    con.execute("INSERT INTO t(b) SELECT randomblob(4000) FROM (WITH n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n "
                "WHERE i<110) SELECT i FROM n)")
    lsn = int(con.execute("PRAGMA corallite_lsn").fetchone()[0], 16)
    con.close()
    url = f"http://127.0.0.1:{c.http[PAGESERVER]}/v1/databases/shop/branches/main"
    with urllib.request.urlopen(url, timeout=30) as answer:
        listed = answer.read().decode()
    return bytes.fromhex(re.search(r'"timeline":\s*"([0-9a-f]{32})"', listed)[1]), lsn


def flood(c, node):
    """All places taken by connections that say nothing: whoever speaks is served within seconds."""
    before = refused(c, node)
    silent = []
    for _ in range(CONNECTIONS + 100):
        one = socket.socket()
        one.settimeout(5)
        one.connect(address(c, node))
        silent.append(one)
    began = time.monotonic()

    def greeted():
        one = Rude(address(c, node))
        try:
            return one.greet(COMPUTE, bytes.fromhex(c.id)) == HELLO_OK
        except OSError:
            return False
        finally:
            one.close()

    until(greeted, 10, "somebody who says Hello is served in a flood of those who do not")
    served = time.monotonic() - began
    until(lambda: refused(c, node)["no_hello"] - before["no_hello"] >= CONNECTIONS - 128 - 100, 10, "silent ones are cut")
    for one in silent:
        one.close()
    return served


def full_of_programs(c, node):
    """The last places are for daemons of the cluster; a program is told so."""
    taken, told = [], None
    while told is None:
        check(len(taken) <= CONNECTIONS, "there is no bound")
        one = Rude(address(c, node))
        one.send(hello(COMPUTE, bytes.fromhex(c.id)))
        kind, body = one.receive()
        if kind == ERROR:
            told = body.decode("utf-8", "replace")
        taken.append(one)
    check("no more are taken" in told and "daemons" in told, told)
    check(CONNECTIONS - RESERVED - 40 <= len(taken) - 1 <= CONNECTIONS - RESERVED, f"{len(taken)} were taken")
    one = Rude(address(c, node))
    check(one.greet(DAEMON, bytes.fromhex(c.id)) == HELLO_OK, "a daemon of the cluster is not taken")
    taken.append(one)
    check(refused(c, node)["full"] >= 1, "it was not counted")
    memory_each = memory(c, node)
    for one in taken:
        one.close()
    return len(taken) - 2, memory_each


@test("slow senders, lengths that lie, damage, rubbish, readers who take nothing, floods of silent and of greeted "
      "connections: each is cut or bounded, counted and told of, and a program commits all the while", 120)
def hostile_connections(t):
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2 * CONNECTIONS:
        raise Skip(f"it needs {2 * CONNECTIONS} descriptors (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    number, rng = seed()
    t.note(f"LIMITS_SEED={number}")
    with t.cluster() as c:
        timeline, lsn = head(c)
        until(lambda: c.metrics()["corallite_pageserver_last_record_lag_bytes"] == 0, 10, "no lag")
        slow = [Slow(c, node, greet) for node in (PAGESERVER, 2) for greet in (False, True)]
        for one in slow:
            one.start()
        before = memory(c, PAGESERVER)
        idle = takes_nothing(c, timeline, lsn)
        time.sleep(0.5)
        grown = memory(c, PAGESERVER) - before
        t.note(f"8 readers who take nothing of {8 * 100} MiB: {grown / MIB:.1f} MiB")
        check(grown < 8 * 10 * MIB * KEPT, f"{grown / MIB:.0f} MiB wait for 8 readers who take nothing")

        con = c.connect("shop")
        commits, stop, longest = [0], threading.Event(), [0.0]

        def work():
            mine = c.connect("shop")
            while not stop.is_set():
                began = time.monotonic()
                mine.execute("INSERT INTO t(b) VALUES (1)")
                longest[0] = max(longest[0], time.monotonic() - began)
                commits[0] += 1
            mine.close()

        worker = threading.Thread(target=work)
        worker.start()
        for node in (PAGESERVER, 1):
            lying_lengths(c, node, t)
            rubbish_in_sound_frames(c, node, rng, 60)
        for node in (PAGESERVER, 3):
            taken, held = full_of_programs(c, node)
            t.note(f"{node}: {taken} programs were taken; {held / MIB:.0f} MiB then")
            seconds = flood(c, node)
            t.note(f"{node}: served {seconds:.1f} s after {CONNECTIONS + 100} silent connections came")
        for one, (node, greet) in zip(slow, [(n, g) for n in (PAGESERVER, 2) for g in (False, True)]):
            one.join(30)
            check(one.cut is not None and one.cut < (16 if greet else 8) * SLOWER, f"{node}, greeted {greet}: {one.cut}")
        for node in (PAGESERVER, 2):
            check(refused(c, node)["slow_sender"] >= 1, f"{node}: {refused(c, node)}")
        stop.set()
        worker.join(20)
        check(not worker.is_alive() and commits[0] > 20, f"{commits[0]} commits")
        t.note(f"{commits[0]} commits meanwhile, the longest {longest[0]:.2f} s")
        check(con.execute("SELECT count(*) FROM t WHERE b=1").fetchone()[0] == commits[0], "a commit is missing")
        for one in idle:
            one.socket.settimeout(1)
        until(lambda: c.metrics()["corallite_connections"] < 40, 40, "readers who take nothing were cut")
        for node in NODES + (PAGESERVER,):
            check(c.process[node].poll() is None, f"{node} ended: {c.last_words(node)}")
        with open(c.log(3), errors="replace") as f:
            log = f.read()
        check("no more are taken" in log or "its place is wanted" in log, "the log says nothing of the flood")
        # A flood that takes longer than a Hello may is told of line by line: under a sanitizer it does.
        check(log.count("refused addr=") < (200 if SLOWER == 1 else 2 * CONNECTIONS), "the flood filled the log")


@test("an address has its bound of connections and others are served beside it; a host that vanishes without a word "
      "leaves nothing behind", 90)
def hosts_that_flood_or_vanish(t):
    with hosts.two() as (here, there):
        with t.cluster(host=here.address) as c:
            before = {n: c.metrics(n)["corallite_connections"] for n in (PAGESERVER, 1)}
            crowd = popen(["/usr/bin/python3", "-c", CROWD, here.address, str(c.port[PAGESERVER]), str(c.port[1]),
                           str(PER_ADDRESS + 30)], host=there, stdout=subprocess.PIPE, text=True)
            try:
                for node in (PAGESERVER, 1):
                    heard = crowd.stdout.readline().split()
                    check(heard and int(heard[0]) == PER_ADDRESS and int(heard[1]) == 30, f"{node}: {heard}")
                    check(refused(c, node)["address"] == 30, f"{refused(c, node)}")
                    one = Rude((here.address, c.port[node]))
                    check(one.greet(COMPUTE, bytes.fromhex(c.id)) == HELLO_OK, "those of this host are not served")
                    one.close()
                c.shell("CREATE TABLE x(a); INSERT INTO x VALUES (1);")
                hosts.ip("-n", there.name, "link", "set", "v0", "down")  # no FIN, no RST
                began = time.monotonic()
                for node in (PAGESERVER, 1):
                    until(lambda: c.metrics(node)["corallite_connections"] <= before[node] + 4, 30,
                          f"{node} notices that a host is gone")
                t.note(f"{PER_ADDRESS} half-open connections were gone after {time.monotonic() - began:.1f} s")
            except Failure as e:
                raise Failure(f"{e} ({c.last_words(PAGESERVER)})") from None
            finally:
                crowd.kill()
                crowd.wait(10)


# Run on the other host: as many greeted connections as it gets to each port; tells taken and refused.
CROWD = r"""
import socket, struct, sys, time
sys.path.insert(0, %r)
from lib.frames import Rude, HELLO_OK
keep = []
for port in sys.argv[2:4]:
    taken = ended = 0
    for _ in range(int(sys.argv[4])):
        one = Rude((sys.argv[1], int(port)))
        try:
            good = one.greet() == HELLO_OK
        except OSError:
            good = False
        taken += good
        ended += not good
        keep.append(one)
    print(taken, ended, flush=True)
time.sleep(120)
"""
CROWD %= __file__.rsplit("/", 1)[0]
