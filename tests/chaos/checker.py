#!/usr/bin/python3
"""checker.py DIRECTORY - judges a history (history.py has its form): is there one order of all transactions that
explains all that was read, agrees with real time, and has every acknowledged one and none that failed?

Prints each anomaly as one line, "NAME: sentence", then the figures. Exit status 0 none, 1 some, 2 no history.

The names, and what each means:

  lost               COMMIT returned OK, and it is not there at the end
  twice              a value is there more often than it was written
  undead             COMMIT said "not committed", and it is there, at the end or in somebody's read
  nobodys            a value or a version that nobody wrote
  partial            some writes of one transaction are there and others are not; or a reader saw it so
  lost-update        two transactions wrote the same version of an account
  incompatible-order a list was read that is no beginning of what it became
  wrong-total        all accounts were read, and their sum is not what it was at the beginning
  internal           a transaction did not see its own writes, or saw one object change within itself
  wrong-status       corallite_commit_status said something else than the end shows, or said two things
  unresolved         nobody could tell at the end whether a transaction whose outcome was unknown is there
  stale-read         a transaction began after another's COMMIT had returned (or, with staleness, that much later),
                     and did not see it
  reordered          two transactions that did not overlap took effect the other way round
  write-skew         a cycle of transactions with two or more that each missed what the next one wrote
  read-skew          a cycle with one such
  cycle              a cycle of writes and reads alone (Adya's G0, G1c)
  session            a connection with staleness went back in time
  never              a client was told what no client may be told (a damaged database, a wrong use)
"""

import sys
from collections import Counter, namedtuple

import history
from graph import Graph

Anomaly = namedtuple("Anomaly", "name text")
PRINTED = 25


class Checker:
    def __init__(self, h):
        self.h = h
        self.found = []
        self.figures = Counter()
        self.writer = {"a": {}, "sa": {}}   # value -> (Txn, key), of lists and of sets
        self.versions = {}                  # account -> {version: Txn}
        self.order = {}                     # list -> [value], as it is at the end
        self.members = {}                   # set -> {value}
        self.there = set()                  # uid of what is there at the end

    def say(self, name, text):
        self.found.append(Anomaly(name, text))

    def run(self):
        for text in self.h.never:
            self.say("never", text)
        self.resolve()
        self.index()
        self.final_state()
        self.presence()
        self.accounts()
        for txn in [t for t in self.h.txns.values() if t.uid in self.there] + self.h.reads:
            self.within(txn)
            self.sees(txn)
        self.cycles()
        return self.found

    # -- outcomes

    def resolve(self):
        """An unknown outcome becomes what corallite_commit_status said of it: from then on it is known."""
        for txn in self.h.txns.values():
            self.figures[txn.outcome] += 1
            if txn.outcome != "unknown":
                continue
            said = sorted(self.h.status.get(txn.id, ()))
            definite = [(t, a) for t, a in said if a != "unknown"]
            answers = {a for _, a in definite}
            if not definite:
                self.say("unresolved", f"{txn}, commit {txn.id}: no answer but "
                                       f"{[a for _, a in said] or 'none at all'}")
            elif len(answers) > 1 or not answers <= {"committed", "not committed"}:
                self.say("wrong-status", f"{txn}, commit {txn.id}, was said to be {' and '.join(sorted(answers))}")
            elif answers == {"committed"}:
                txn.outcome, txn.end = "committed", definite[0][0]
                self.figures["unknown, committed"] += 1
            else:
                txn.outcome = "not committed"
                self.figures["unknown, not committed"] += 1

    def index(self):
        for txn in self.h.txns.values():
            for op in txn.ops:
                if op[0] in self.writer:
                    if op[2] in self.writer[op[0]]:
                        raise history.Malformed(f"value {op[2]} is written by {txn} and by another")
                    self.writer[op[0]][op[2]] = (txn, op[1])

    # -- the end

    def final_state(self):
        for op in self.h.final.ops:
            if op[0] == "r":
                self.order[op[1]] = op[2]
            elif op[0] == "sr":
                self.members[op[1]] = set(op[2])
            for v, times in Counter(op[2]).items() if op[0] in ("r", "sr") else ():
                if times > 1:
                    self.say("twice", f"value {v} is {times} times in {op[1]}")
        for kind, held in (("a", self.order), ("sa", self.members)):
            for key, values in held.items():
                for v in values:
                    txn, where = self.writer[kind].get(v, (None, None))
                    if where != key:
                        self.say("nobodys", f"value {v} is in {key}, where nobody wrote it")
                    else:
                        self.there.add(txn.uid)

    def presence(self):
        order = {k: set(v) for k, v in self.order.items()}
        for txn in self.h.txns.values():
            marks = [(op[2] in (self.members if op[0] == "sa" else order).get(op[1], ()), op)
                     for op in txn.ops if op[0] in self.writer]
            there = [m for m, _ in marks]
            if any(there) and not all(there):
                gone = [op for m, op in marks if not m]
                self.say("partial", f"{txn} ({txn.outcome}) is there, but not its {gone[:3]}")
            if txn.outcome == "ok" and not all(there):
                self.say("lost", f"{txn} was acknowledged at {txn.end} and is not there: "
                                 f"{[op for m, op in marks if not m][:3]}")
            elif txn.outcome == "fail" and any(there):
                self.say("undead", f"{txn} failed and is there")
            elif txn.outcome == "committed" and not all(there):
                self.say("wrong-status", f"{txn}, commit {txn.id}, was said to be committed and is not there")
            elif txn.outcome == "not committed" and any(there):
                self.say("wrong-status", f"{txn}, commit {txn.id}, was said to be not committed and is there")
            elif txn.outcome == "crashed":
                self.figures["killed, there" if any(there) else "killed, not there"] += 1

    def accounts(self):
        """Each version of each account has one writer among those that are there."""
        for txn in self.h.txns.values():
            if txn.uid in self.there:
                for op in txn.ops:
                    if op[0] == "bw":
                        other = self.versions.setdefault(op[1], {}).setdefault(op[2], txn)
                        if other is not txn:
                            self.say("lost-update", f"{other} and {txn} both wrote version {op[2]} of account "
                                                    f"{op[1]}")
        for op in self.h.final.ops:
            if op[0] == "br":
                written = self.versions.get(op[1], {})
                holes = [v for v in range(1, op[2] + 1) if v not in written]
                beyond = [v for v in written if v > op[2]]
                if holes:
                    self.say("nobodys", f"account {op[1]}: nobody wrote its versions {holes[:5]}")
                if beyond:
                    self.say("lost", f"account {op[1]} is at version {op[2]} at the end; {written[min(beyond)]} "
                                     f"wrote {min(beyond)}")

    # -- one transaction

    def within(self, txn):
        """Its own writes are seen, and nothing changes but by them."""
        now = {}
        for op in txn.ops:
            kind = op[0]
            where = ({"a": "r", "sa": "sr", "bw": "br"}.get(kind, kind), op[1])
            if kind in ("r", "sr", "br"):
                value = list(op[2]) if kind == "r" else sorted(op[2]) if kind == "sr" else tuple(op[2:])
                if where in now and now[where] != value:
                    self.say("internal", f"{txn} had {str(now[where])[-120:]} in {where} and read "
                                         f"{str(value)[-120:]}")
                now[where] = value
            elif where in now:
                if kind == "bw":
                    now[where] = (op[2], op[3], txn.uid)
                else:
                    now[where] = now[where] + [op[2]] if kind == "a" else sorted(now[where] + [op[2]])

    def sees(self, txn):
        """What it read was written, by transactions that are there, whole, in the order that is known."""
        own = {op[2] for op in txn.ops if op[0] in self.writer}
        balances = [op[3] for op in txn.ops if op[0] == "br"]
        if len(balances) == self.h.accounts and sum(balances) != self.h.accounts * self.h.each:
            self.say("wrong-total", f"{txn} read a sum of {sum(balances)}, not "
                                    f"{self.h.accounts * self.h.each}")
        for op in txn.ops:
            if op[0] in ("r", "sr"):
                self.sees_values(txn, op, "a" if op[0] == "r" else "sa", own)
            elif op[0] == "br":
                self.sees_account(txn, op)

    def sees_values(self, txn, op, kind, own):
        foreign = [v for v in op[2] if v not in own]
        for v in foreign:
            writer, key = self.writer[kind].get(v, (None, None))
            if key != op[1]:
                self.say("nobodys", f"{txn} read {v} in {op[1]}, where nobody wrote it")
            elif writer.outcome in ("fail", "not committed"):
                self.say("undead", f"{txn} read {v} in {op[1]}, of {writer}, which said that it is not committed")
            elif writer.uid not in self.there:
                self.say("lost", f"{txn} read {v} in {op[1]}, of {writer} ({writer.outcome}), and at the end it "
                                 f"is not there")
        if kind == "a":
            order = self.order.get(op[1], [])
            if foreign != order[:len(foreign)]:
                self.say("incompatible-order", f"{txn} read {foreign[-8:]} at the end of {op[1]}, which became "
                                               f"{order[max(0, len(foreign) - 8):len(foreign) + 1]}")
            if foreign and foreign[-1] in self.writer[kind]:
                last = self.writer[kind][foreign[-1]][0]
                if any(o[0] == "a" and o[1] == op[1] and o[2] not in foreign for o in last.ops):
                    self.say("partial", f"{txn} read {op[1]} in the middle of {last}")
        else:
            seen = set(foreign)
            for v in foreign:
                writer = self.writer[kind].get(v, (None, None))[0]
                if writer and any(o[0] == "sa" and o[1] == op[1] and o[2] not in seen for o in writer.ops):
                    self.say("partial", f"{txn} read {op[1]} in the middle of {writer}")
                    break

    def sees_account(self, txn, op):
        _, account, version, balance, last = op
        if last == txn.uid:
            return  # within() has looked
        if version == 0:
            if (balance, last) != (self.h.each, 0):
                self.say("nobodys", f"{txn} read account {account} at its beginning with {balance}, by "
                                    f"{history.name(last)}")
            return
        writer = self.h.txns.get(last)
        wrote = [o for o in writer.ops if o[0] == "bw" and o[1] == account] if writer else []
        if not wrote or wrote[-1][2:] != [version, balance]:
            self.say("nobodys", f"{txn} read account {account}, version {version}, balance {balance}: "
                                f"{history.name(last)} did not write that")
        elif writer.outcome in ("fail", "not committed"):
            self.say("undead", f"{txn} read account {account} of {writer}, which said that it is not committed")
        elif last not in self.there:
            self.say("lost", f"{txn} read account {account} of {writer} ({writer.outcome}), and at the end that "
                             f"is not there")

    # -- all together

    def cycles(self):
        g = Graph()
        nodes = [t for t in self.h.txns.values() if t.uid in self.there] + self.h.reads
        for txn in nodes:
            g.add(txn)
        self.written_in_order(g)
        for txn in nodes:
            self.read_edges(g, txn)
        self.sessions(g)
        g.real_time()
        self.figures["edges"] = g.edges
        for component in g.components():
            steps = g.cycle(component)
            self.say(self.kind(steps), self.tell(steps))

    def written_in_order(self, g):
        for key, values in self.order.items():
            writers = [self.writer["a"][v][0] for v in values if v in self.writer["a"]]
            for a, b in zip(writers, writers[1:]):
                g.edge(a, b, ("ww", f"appended to {key} before it"))
        for account, written in self.versions.items():
            for version, txn in written.items():
                if version + 1 in written:
                    g.edge(txn, written[version + 1], ("ww", f"wrote account {account} before it"))

    def read_edges(self, g, txn):
        own = {op[2] for op in txn.ops if op[0] in self.writer}
        node = g.node
        for op in txn.ops:
            kind, key = op[0], op[1]
            if kind == "r":
                order, n = self.order.get(key, []), sum(v not in own for v in op[2])
                if n and n <= len(order) and order[n - 1] in self.writer["a"]:
                    g.edge(self.writer["a"][order[n - 1]][0], txn, ("wr", f"was seen by it in {key}"))
                if n < len(order) and order[n] in self.writer["a"]:
                    g.edge(txn, self.writer["a"][order[n]][0], ("rw", f"did not see it in {key}"))
            elif kind == "sr":
                seen = set(op[2])
                for v in self.members.get(key, seen) | seen:
                    writer = self.writer["sa"].get(v, (None,))[0]
                    if writer is None or id(writer) not in node or writer is txn:
                        continue
                    if v in seen:
                        g.edge(writer, txn, ("wr", f"was seen by it in {key}"))
                    else:
                        g.edge(txn, writer, ("rw", f"did not see it in {key}"))
            elif kind == "br" and op[4] != txn.uid:
                written = self.versions.get(key, {})
                if op[2] in written:
                    g.edge(written[op[2]], txn, ("wr", f"was seen by it in account {key}"))
                if op[2] + 1 in written:
                    g.edge(txn, written[op[2] + 1], ("rw", f"did not see it in account {key}"))

    def sessions(self, g):
        """Of one connection, one after the other; for strict ones real time says as much."""
        last = {}
        for txn in sorted((t for t in self.h.reads if t.stale_ns), key=lambda t: t.begin):
            before = last.get((txn.client, txn.conn))
            if before:
                g.edge(before, txn, ("session", "came before it on the same connection"))
            last[(txn.client, txn.conn)] = txn

    @staticmethod
    def kind(steps):
        kinds = Counter(k for _, k, _ in steps)
        if kinds["session"] and not kinds["rt"]:
            return "session"
        if kinds["rt"]:
            misses = [t for t, k, _ in steps if k == "rw"]
            return "stale-read" if len(misses) == 1 and not kinds["ww"] else "reordered"
        return "write-skew" if kinds["rw"] > 1 else "read-skew" if kinds["rw"] else "cycle"

    @staticmethod
    def tell(steps):
        parts = [f"{t} [{t.begin}..{t.end if t.end < history.FOREVER else '?'}] {what}," for t, _, what in steps]
        return " ".join(parts[:12]) + (" ..." if len(parts) > 12 else "") + f" and that is {steps[0][0]}"


def check(h):
    """(anomalies, figures)"""
    checker = Checker(h)
    return checker.run(), checker.figures


def describe(h, figures):
    f = figures
    return (f"{f['ok']} acknowledged, {f['fail']} surely not, {f['unknown']} unknown "
            f"({f['unknown, committed']} committed, {f['unknown, not committed']} not), "
            f"{f['crashed']} killed in COMMIT ({f['killed, there']} there), "
            f"{sum(not t.stale_ns for t in h.reads)} strict and {sum(t.stale_ns > 0 for t in h.reads)} stale reads, "
            f"{f['edges']} edges")


def main(argv):
    if len(argv) != 2 or argv[1].startswith("-"):
        print(__doc__.split("\n\n")[0], file=sys.stderr)
        return 2
    try:
        h = history.load(argv[1])
        found, figures = check(h)
    except history.Malformed as e:
        print(f"checker: this is no history: {e}", file=sys.stderr)
        return 2
    for anomaly in found[:PRINTED]:
        print(f"{anomaly.name}: {anomaly.text}")
    if len(found) > PRINTED:
        print(f"... and {len(found) - PRINTED} more: {dict(Counter(a.name for a in found))}")
    print(describe(h, figures))
    print(f"{len(found)} anomalies")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
