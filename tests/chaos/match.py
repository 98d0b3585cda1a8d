"""The clients of a run, and what is read when it is over."""

import glob
import json
import os

import time

from lib import cluster
from lib.cluster import NODES, Failure, check, popen, until
import client
import history
from board import Board

WRITERS, READERS = 4, 4
RECOVERY_S = 40  # after the end of all faults: a strict read that began within them may have 30 s left
STOP_S = 45

class Clients:
    """Numbers 0 to 7 are places: 4 writers, then 4 readers, by turns on the hosts a and b. A process that takes the place
    of a killed one has a number of its own in the history."""

    def __init__(self, field, directory, seed, writers=WRITERS, readers=READERS):
        self.field, self.directory, self.seed = field, directory, seed
        self.began = time.monotonic_ns()
        self.kinds = ["writer"] * writers + ["reader", "stale-reader", "reader", "reader"][:readers]
        self.board = Board(os.path.join(directory, "board"))
        self.process, self.number = {}, {}
        self.next = 1
        db = field.connect(field.db, timeout=20.0)
        for sql in client.SCHEMA:
            db.execute(sql)
        db.close()
        with open(os.path.join(directory, "0.jsonl"), "w") as f:
            f.write(json.dumps({"e": "meta", "accounts": client.ACCOUNTS, "each": client.EACH}) + "\n")
        for place in range(len(self.kinds)):
            self.start(place)

    def start(self, place):
        self.number[place], self.next = self.next, self.next + 1
        host = self.field.spokes[self.host(place)]
        with open(os.path.join(self.directory, f"client-{place}.log"), "ab") as log:
            self.process[place] = popen(
                ["/usr/bin/python3", client.__file__, self.kinds[place], str(self.number[place]), self.directory,
                 str(self.seed), str(self.began)], host=host, env=self.field.client_env(place), stdout=log, stderr=log)

    def last_words(self, place):
        with open(os.path.join(self.directory, f"client-{place}.log"), errors="replace") as f:
            return " | ".join(f.read().splitlines()[-3:])

    def kill(self, place):
        self.process[place].kill()
        self.process[place].wait(10)

    def replace(self, place):
        self.kill(place)
        self.start(place)

    def host(self, place):
        """Its name."""
        return list(self.field.spokes)[place % len(self.field.spokes)]

    def writers(self):
        return [p for p, kind in enumerate(self.kinds) if kind == "writer"]

    def in_commit(self, seconds=0.3):
        """The place of a writer that is in COMMIT now; of the one that was last, if none is so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for place in self.writers():
                if self.board.get(self.number[place])[3]:
                    return place
        return max(self.writers(), key=lambda p: self.board.get(self.number[p])[1])

    def go_on(self, seconds):
        """Seconds until each has succeeded with what it began after now."""
        now, began = time.monotonic_ns(), time.monotonic()

        def behind():
            return [p for p in self.process if self.board.get(self.number[p])[0] < now]
        try:
            until(lambda: not behind(), seconds, "everybody goes on")
        except Failure:
            errors = [e for e, _ in history.events_of(self.directory) if e["e"] == "error"]
            errors = sorted(errors, key=lambda e: e["t"])[-3:]
            raise Failure(f"{seconds} s after the end of all faults these do not go on: "
                          f"{[f'{self.kinds[p]} {self.number[p]}' for p in behind()]}; the last errors: "
                          f"{[(e['c'], e['code'], e['text']) for e in errors]}") from None
        return time.monotonic() - began

    def stop(self):
        for process in self.process.values():
            process.terminate()
        for place, process in self.process.items():
            try:
                check(process.wait(STOP_S) == 0, f"client {self.number[place]} ended with status "
                                                 f"{process.returncode}: {self.last_words(place)}")
            except Exception as e:  # noqa: B902 - TimeoutExpired
                raise e if isinstance(e, Failure) else Failure(f"{self.kinds[place]} {self.number[place]} did not "
                                                               f"end within {STOP_S} s of SIGTERM") from None

def sound(field):
    """No safekeeper has stopped the timeline over a contradiction, and `corallite check` finds pages, catalog and the logs of
    all safekeepers in order: a digest covers each log from its begin."""
    for node in NODES:
        halted = field.metrics(node).get("corallite_safekeeper_halted_timelines")
        check(halted == 0, f"safekeeper {node} has {halted} halted timelines: {field.last_words(node)}")
    done = cluster.run([os.path.join(cluster.BIN, "corallite"), "check", field.db, "--server", field.server()], "", 120)
    check(done.returncode == 0, f"corallite check: {done.stdout[-600:]} {done.stderr[-300:]}")


def final(field, directory):
    """Asks for each outcome that was unknown, and reads everything."""
    db = field.connect(field.db, timeout=20.0)
    db.execute("BEGIN IMMEDIATE")  # settles what a dead writer has left
    db.execute("COMMIT")
    ids = {e["id"] for path in glob.glob(os.path.join(directory, "*.jsonl")) for e in unknown(path)}
    events = []
    for commit in sorted(ids - {"none"}):
        answer, = db.execute("SELECT corallite_commit_status(?)", (commit,)).fetchone()
        events.append({"e": "status", "id": commit, "t": time.monotonic_ns(), "answer": answer})
    begin = time.monotonic_ns()
    db.execute("BEGIN")
    ops = client.read_accounts(db)
    ops += [client.read_list(db, k) for k, in db.execute("SELECT k FROM list").fetchall()]
    sets = {}
    for k, v in db.execute("SELECT k, v FROM member"):
        sets.setdefault(k, []).append(v)
    ops += [["sr", k, v] for k, v in sets.items()]
    db.execute("COMMIT")
    events.append({"e": "read", "c": 0, "n": 1, "k": 1, "t": begin, "end": time.monotonic_ns(), "ops": ops,
                   "final": True})
    whole = " / ".join(r[0] for r in db.execute("PRAGMA integrity_check(5)"))
    db.close()
    with open(os.path.join(directory, "0.jsonl"), "a") as f:
        f.writelines(json.dumps(e) + "\n" for e in events)
    check(whole == "ok", f"integrity_check: {whole}")

def unknown(path):
    with open(path) as f:
        return [json.loads(line) for line in f if line.startswith('{"e":"unknown"') and line.endswith("\n")]

