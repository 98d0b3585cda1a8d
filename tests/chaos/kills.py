#!/usr/bin/python3
"""kills.py [--kills N] [--each N] [--minutes M] - kill -9, again and again, and how long until a COMMIT succeeds again.

By turns a writer (one that is in COMMIT at that moment), a safekeeper, the pageserver; 3 writers and 2 readers meanwhile. A
kill's recovery is the time from it to the return of the first COMMIT of a transaction that was begun after it. What was
killed is started again at once, and the next kill comes when it answers and five more commits are done. After each 500
kills (--each) the history is judged by checker.py, and the next database begins on the same daemons, which live through all
of it. Fails when the checker finds anything, when a process ended by itself, and when p99 is 2 s or more.
"""

import argparse
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "integration")]

from lib.cluster import NODES, PAGESERVER, Cluster, Failure, check, until  # noqa: E402
import checker  # noqa: E402
import history  # noqa: E402
import match  # noqa: E402

TURNS = tuple(v for node in NODES for v in ("writer", node, PAGESERVER))
COMMITS_BETWEEN = 5
GIVE_UP_S = 60
P99_S = 2.0


class Here(Cluster):
    """On this host, without proxies."""

    spokes = {"here": None}
    db = "chaos"

    def client_env(self, place):
        del place  # all are here
        return self.env(CORALLITE_LOG="off", CHAOS_DB=self.db)


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


def told(name, seconds):
    return (f"{name} {len(seconds)}: p50 {quantile(seconds, 0.5) * 1000:.1f}, p99 {quantile(seconds, 0.99) * 1000:.0f}, "
            f"max {max(seconds) * 1000:.0f} ms") if seconds else f"{name} 0"


class Killer:
    def __init__(self, cluster, clients, recoveries):
        self.cluster, self.clients, self.recoveries = cluster, clients, recoveries

    def commits(self):
        return sum(self.clients.board.get(self.clients.number[p])[2] for p in self.clients.writers())

    def recovered(self, killed):
        """Seconds from the kill to the end of the first COMMIT that was begun after it."""
        def first():
            lines = [self.clients.board.get(self.clients.number[p]) for p in self.clients.writers()]
            return min((end for begin, end, _, _ in lines if begin >= killed), default=None)
        end = time.monotonic() + GIVE_UP_S
        while True:
            found = first()
            if found:
                return (found - killed) / 1e9
            check(time.monotonic() < end, f"no COMMIT for {GIVE_UP_S} s")
            time.sleep(0.0005)

    def kill(self, victim):
        kind = {"writer": "writer", PAGESERVER: PAGESERVER}.get(victim, "safekeeper")
        if kind == "writer":
            place = self.clients.in_commit()
            killed = time.monotonic_ns()
            self.clients.replace(place)
        else:
            check(self.cluster.process[victim].poll() is None,
                  f"{victim} had ended by itself: {self.cluster.last_words(victim)}")
            killed = time.monotonic_ns()
            self.cluster.kill9(victim)
            self.cluster.start(victim, wait=False)
        try:
            self.recoveries[kind].append(self.recovered(killed))
        except Failure as e:
            raise Failure(f"after the kill of {victim}: {e}") from None
        if kind != "writer":
            until(lambda: self.cluster.is_up(victim), GIVE_UP_S, f"{victim} answers")
        before = self.commits()
        until(lambda: self.commits() >= before + COMMITS_BETWEEN, GIVE_UP_S, f"commits go on after {victim}")


def round_of(cluster, number, kills, seed, recoveries, deadline):
    """So many kills on a database of its own, and what the checker says. (kills, description)"""
    directory = tempfile.mkdtemp(prefix="corallite-kills-")
    try:
        cluster.db = f"chaos{number}"
        clients = match.Clients(cluster, directory, seed, writers=3, readers=2)
        clients.go_on(60)
        killer, done = Killer(cluster, clients, recoveries), 0
        while done < kills and time.monotonic() < deadline:
            killer.kill(TURNS[done % len(TURNS)])
            done += 1
        clients.go_on(60)
        clients.stop()
        match.final(cluster, directory)
        match.sound(cluster)
        h = history.load(directory)
        found, figures = checker.check(h)
        check(not found, f"{len(found)} anomalies: " + " | ".join(f"{a.name}: {a.text}"[:500] for a in found[:3]))
    except BaseException:
        print(f"# kept: {directory}")
        raise
    shutil.rmtree(directory)
    return done, checker.describe(h, figures)


def main():
    parse = argparse.ArgumentParser(prog="kills.py", description=__doc__.split("\n\n")[0])
    parse.add_argument("--kills", type=int, default=10000)
    parse.add_argument("--each", type=int, default=500)
    parse.add_argument("--minutes", type=float, default=24 * 60)
    parse.add_argument("--p99", type=float, default=P99_S, help="seconds")
    args = parse.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    seed = random.SystemRandom().randrange(1 << 32)
    began, done, number = time.monotonic(), 0, 0
    deadline = began + args.minutes * 60
    recoveries = {"writer": [], "safekeeper": [], PAGESERVER: []}
    directory = tempfile.mkdtemp(prefix="corallite-kills-cluster-")
    try:
        with Here(directory) as cluster:
            while done < args.kills and time.monotonic() < deadline:
                number += 1
                n, text = round_of(cluster, number, min(args.each, args.kills - done), seed + number, recoveries, deadline)
                done += n
                print(f"# {done} kills, {done / (time.monotonic() - began):.2f} a second; {text}", flush=True)
                print("#   " + "; ".join(told(k, v) for k, v in recoveries.items()), flush=True)
        every = [s for v in recoveries.values() for s in v]
        print(f"# {told('kills', every)}; {(time.monotonic() - began) / 60:.1f} minutes")
        check(quantile(every, 0.99) < args.p99, f"p99 of the recovery is {quantile(every, 0.99):.2f} s")
        if done < args.kills:
            print(f"# {args.minutes:g} minutes were over before {args.kills} kills")
        print(f"ok kills: {done}, nothing lost\n1 passed, 0 failed, 0 skipped")
        status = 0
    except Failure as e:
        print(f"not ok kills: after {sum(map(len, recoveries.values()))}: {e}\n0 passed, 1 failed, 0 skipped")
        status = 1
        print(f"# kept: {directory}")
        return status
    shutil.rmtree(directory)
    return status


if __name__ == "__main__":
    if not hasattr(sqlite3.Connection, "enable_load_extension") and sys.executable != "/usr/bin/python3":
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])
    sys.exit(main())
