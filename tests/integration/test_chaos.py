"""Everything at once: writers and readers in several processes, and a nemesis that kills, pauses and
restarts whatever there is while the network between them misbehaves.

CHAOS_SECONDS=n runs for longer; CHAOS_SEED=n repeats the nemesis' choices (not the schedule).
"""

import os
import random
import signal
import sqlite3
import time
from collections import Counter

from lib import bank
from lib.cluster import KEPT, NODES, PAGESERVER, BIN, Cluster, check, popen, until
from lib.proxy import Proxy
from lib.registry import test

WRITERS, THREADS, READERS = 3, 2, 2
COMMIT_TIMEOUT = "1s"
RECOVERY = 20  # seconds after the nemesis' end within which everybody goes on


class ChaosCluster(Cluster):
    """Every connection to a daemon but for the HTTP ones goes through a proxy."""

    def __init__(self, directory):
        super().__init__(directory, start=False)
        self.proxy = {node: Proxy(self.port[node]) for node in NODES + (PAGESERVER,)}
        self.start_everything()

    def command(self, node):
        args = super().command(node)
        if node == PAGESERVER:
            at = args.index("--safekeepers") + 1
            args[at] = ",".join(f"{n}=127.0.0.1:{self.proxy[n].port}" for n in NODES)
        return args

    def server(self):
        return f"127.0.0.1:{self.proxy[PAGESERVER].port}"

    def close(self):
        for proxy in self.proxy.values():
            proxy.close()
        super().close()


class Clients:
    """The processes of bank.py."""

    def __init__(self, c):
        self.c = c
        self.path = os.path.join(c.dir, "board")
        self.out = os.path.join(c.dir, "said")
        self.board = bank.Board(self.path)
        self.next = 1
        self.process = {}  # name -> process
        self.slots = {}
        for i in range(WRITERS):
            self.start(f"writer {i}")
        for i in range(READERS):
            self.start(f"reader {i}")

    def start(self, name):
        kind = name.split()[0]
        slots = [self.next + i for i in range(THREADS if kind == "writer" else 1)]
        self.next += len(slots)
        self.slots[name] = slots
        with open(os.path.join(self.c.dir, f"{name.replace(' ', '-')}.log"), "ab") as log:
            self.process[name] = popen(
                ["/usr/bin/python3", bank.__file__, kind, self.path, self.out, COMMIT_TIMEOUT,
                 *map(str, slots)], env=self.c.env(CORALLITE_LOG="off"), stdout=log, stderr=log)

    def kill(self, name):
        self.process[name].kill()
        self.process[name].wait(10)

    def end(self):
        for name in self.process:
            self.kill(name)

    def alive(self):
        for name, process in self.process.items():
            check(process.poll() is None, f"{name} ended with status {process.poll()}")

    def done(self):
        return {s: self.board.get(s)[1] for slots in self.slots.values() for s in slots}

    def said(self):
        with open(self.out, errors="replace") as f:
            return [line.split() for line in f.read().splitlines()]


class Nemesis:
    """One step after the other; keeps a majority's disks, and heals everything at the end."""

    def __init__(self, t, c, clients, seed):
        self.c, self.clients = c, clients
        self.r = random.Random(seed)
        self.due = []  # (when, what, function)
        self.down, self.stopped = set(), set()
        self.counts = Counter()
        self.diary = open(os.path.join(c.dir, "nemesis.log"), "w", buffering=1)

    def later(self, seconds, function, *args):
        self.due.append((time.monotonic() + seconds, function, args))

    def kill(self, node):
        if node in self.down:
            return
        self.cont(node)
        self.c.kill9(node)
        self.down.add(node)

    def back(self, node):
        if node in self.down:
            self.down.discard(node)
            self.c.start(node, wait=False)

    def stop(self, node):
        if node not in self.down and node not in self.stopped:
            os.kill(self.c.pid(node), signal.SIGSTOP)
            self.stopped.add(node)

    def cont(self, node):
        if node in self.stopped:
            self.stopped.discard(node)
            os.kill(self.c.pid(node), signal.SIGCONT)

    # -- what it does

    def one_killed(self):
        node = self.r.choice(NODES)
        self.kill(node)
        self.later(self.r.random() * 3, self.back, node)

    def two_killed(self):
        for node in self.r.sample(NODES, 2):
            self.kill(node)
            self.later(self.r.random() * 5, self.back, node)

    def one_paused(self):
        node = self.r.choice(NODES)
        self.stop(node)
        self.later(self.r.random() * 4, self.cont, node)

    def two_paused(self):
        for node in self.r.sample(NODES, 2):
            self.stop(node)
            self.later(self.r.random() * 4.5, self.cont, node)

    def safekeeper_restarted(self):
        node = self.r.choice(NODES)
        if node not in self.down | self.stopped and self.c.is_up(node):
            self.c.stop(node)
            self.c.start(node, wait=False)

    def pageserver_killed(self):
        self.kill(PAGESERVER)
        self.later(self.r.random() * 1.5, self.back, PAGESERVER)

    def pageserver_paused(self):
        self.stop(PAGESERVER)
        self.later(self.r.random() * 2, self.cont, PAGESERVER)

    def pageserver_restarted(self):
        if PAGESERVER not in self.down | self.stopped and self.c.is_up(PAGESERVER):
            self.c.stop(PAGESERVER)
            self.c.start(PAGESERVER, wait=False)

    def writer_killed(self):
        name = f"writer {self.r.randrange(WRITERS)}"
        self.clients.kill(name)
        self.clients.start(name)

    def client_paused(self):
        name = self.r.choice(sorted(self.clients.process))
        process = self.clients.process[name]
        process.send_signal(signal.SIGSTOP)
        self.later(self.r.choice((0.5, 2, 5)), process.send_signal, signal.SIGCONT)

    def network(self):
        node = self.r.choice(NODES + NODES + (PAGESERVER,))
        proxy = self.c.proxy[node]
        command = self.r.choice(("delay 20", "delay 300 in", "delay 300 out", "stall", "stall in",
                                 "stall out", "cut in", "cut out", "cut", "corrupt in", "corrupt out",
                                 "halfopen", "refuse", "reset", "reset"))
        self.wrote(node, command)
        proxy.do(command)
        self.later(self.r.random() * 4, proxy.do, "resume")

    STEPS = {one_killed: 4, two_killed: 1.5, one_paused: 3, two_paused: 1, safekeeper_restarted: 2,
             pageserver_killed: 2, pageserver_paused: 1, pageserver_restarted: 1, writer_killed: 2,
             client_paused: 2, network: 8}

    def run_due(self, all_of_them=False):
        now = time.monotonic()
        ready = [d for d in self.due if all_of_them or d[0] <= now]
        self.due = [d for d in self.due if d not in ready]
        for _, function, args in ready:
            self.wrote(function.__name__, *args)
            function(*args)

    def wrote(self, *words):
        self.diary.write(f"{time.time():.3f} {' '.join(map(str, words))}\n")

    def rage(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            step = self.r.choices(list(self.STEPS), list(self.STEPS.values()))[0]
            self.counts[step.__name__] += 1
            self.wrote(step.__name__)
            step(self)
            pause = time.monotonic() + self.r.choice((0.1, 0.5, 1.5))
            while time.monotonic() < pause:
                self.run_due()
                time.sleep(0.02)
            if self.r.random() < 0.1:
                self.calm()

    def calm(self):
        self.run_due(all_of_them=True)
        for node in list(self.stopped):
            self.cont(node)
        for node in list(self.down):
            self.back(node)
        for proxy in self.c.proxy.values():
            proxy.do("resume")


def figures(pid):
    """(descriptors, anonymous memory in MB) of a process."""
    with open(f"/proc/{pid}/status") as f:
        kb = [int(line.split()[1]) for line in f if line.startswith("RssAnon")]
    return len(os.listdir(f"/proc/{pid}/fd")), kb[0] // 1024


def everybody_goes_on(c, clients):
    """Seconds until each client has done something that was begun after now."""
    began = time.monotonic()
    before = clients.done()

    def progress():
        now = clients.done()
        return all(now[s] >= before[s] + 2 for s in now)
    try:
        until(progress, RECOVERY, "everybody goes on")
    except Exception:
        judge_during(clients)
        now = clients.done()
        stuck = [name for name, slots in clients.slots.items()
                 if any(now[s] < before[s] + 2 for s in slots)]
        errors = [" ".join(w) for w in clients.said() if w[0] == "E"][-3:]
        check(False, f"{RECOVERY} s after the nemesis' end these do not go on: {stuck}; "
                     f"last errors: {errors}")
    clients.alive()
    return time.monotonic() - began


def judge_during(clients):
    never = [" ".join(w[1:]) for w in clients.said() if w[0] == "X"]
    check(not never, f"{len(never)} times what must never be: {' | '.join(never[:3])}")


def judge(t, c, clients):
    """What is in the database against what its writers were told."""
    said = clients.said()
    told = {kind: {(int(w[1]), int(w[2])) for w in said if w[0] == kind and len(w) > 2}
            for kind in "SAF"}
    unknown = {(int(w[1]), int(w[2])): w[3] for w in said if w[0] == "U" and len(w) > 3}
    db = c.connect("bank", timeout=20.0)
    db.execute("BEGIN IMMEDIATE")  # settles what a dead writer has left
    db.execute("COMMIT")
    there = set(db.execute("SELECT who, n FROM entry"))
    check(told["A"] <= there, f"lost: {sorted(told['A'] - there)[:5]}")
    check(not told["F"] & there, f"failed and there: {sorted(told['F'] & there)[:5]}")
    check(there <= told["S"], f"nobody's: {sorted(there - told['S'])[:5]}")
    balance = {i: bank.EACH for i in range(1, bank.ACCOUNTS + 1)}
    for source, target, amount in db.execute("SELECT source, target, amount FROM entry"):
        balance[source] -= amount
        balance[target] += amount
    check(dict(db.execute("SELECT id, balance FROM account")) == balance, "a partial transaction")
    for key, commit_id in unknown.items():
        status = db.execute("SELECT corallite_commit_status(?)", (commit_id,)).fetchone()[0]
        wanted = "committed" if key in there else "not committed"
        check(status == wanted, f"commit {commit_id} of {key} is '{status}', it should be '{wanted}'")
    check(db.execute("PRAGMA integrity_check").fetchone()[0] == "ok", "integrity_check")
    db.close()
    silent = len(there) - len(told["A"])
    t.note(f"{len(told['A'])} acknowledged, {len(told['F'])} surely not, {len(unknown)} unknown "
           f"(all resolved), {silent} there unacknowledged; readers: {readers_done(clients)} looks")
    errors = Counter(w[2] for w in said if w[0] == "E" and len(w) > 2)
    t.note("errors that clients went on after: " +
           (", ".join(f"{k} {n}" for k, n in errors.most_common()) or "none"))
    return there


def readers_done(clients):
    return sum(clients.board.get(s)[1] for name, slots in clients.slots.items()
               for s in slots if name.startswith("reader"))


def same_everywhere(c, there):
    """Any two safekeepers are enough, and an empty pageserver fills itself again."""
    import shutil
    for away in NODES:
        c.kill9(away)
        got = c.shell("SELECT count(*) FROM entry; PRAGMA integrity_check;", db="bank").stdout.split()
        check(got == [str(len(there)), "ok"], f"without safekeeper {away}: {got}")
        c.start(away)
    c.kill9(PAGESERVER)
    shutil.rmtree(c.data(PAGESERVER))
    c.start(PAGESERVER, command=[*c.command(PAGESERVER), "--take-over"])
    got = c.shell("SELECT count(*) FROM entry; PRAGMA integrity_check;", db="bank").stdout.split()
    check(got == [str(len(there)), "ok"], f"after the pageserver was made anew: {got}")


@test("three writing and two reading processes while daemons are killed, paused, restarted and the "
      "network misbehaves: no acknowledged commit lost, none partial, every read strict", 24 * 3600)
def chaos(t):
    seconds = float(os.environ.get("CHAOS_SECONDS", 120 if t.slow() else 8))
    seed = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(1 << 32)))
    t.note(f"seed {seed}")
    if not os.path.exists(os.path.join(BIN, "tests", "chaos-proxy")):
        check(False, "chaos-proxy is not built")
    with ChaosCluster(t.dir) as c:
        db = c.connect("bank")
        for sql in bank.SCHEMA:
            db.execute(sql)
        db.close()
        clients = Clients(c)
        everybody_goes_on(c, clients)
        nemesis = Nemesis(t, c, clients, seed)
        end, longest, first = time.monotonic() + seconds, 0, None
        while time.monotonic() < end:
            nemesis.rage(min(15, max(1, end - time.monotonic())))
            nemesis.calm()
            longest = max(longest, everybody_goes_on(c, clients))
            judge_during(clients)
            c.wait_ready()
            use = {node: figures(c.pid(node)) for node in c.process}
            first = first or use
        t.note(f"{sum(nemesis.counts.values())} steps: "
               + ", ".join(f"{k} {n}" for k, n in sorted(nemesis.counts.items())))
        t.note(f"at most {longest:.1f} s until everybody went on; descriptors and MB: first {first}, "
               f"last {use}")
        clients.end()
        judge_during(clients)
        for node, (descriptors, megabytes) in use.items():
            check(descriptors < 300, f"{node} has {descriptors} descriptors open")
            check(megabytes < 1200 * KEPT, f"{node} has {megabytes} MB")
        same_everywhere(c, judge(t, c, clients))
