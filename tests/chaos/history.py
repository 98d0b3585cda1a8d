"""What clients have written down, read back and judged only for its form.

A history is a directory of *.jsonl files; each line is one event of one client. Times are nanoseconds of
CLOCK_MONOTONIC, which all processes of a machine share.

  {"e": "meta", "accounts": A, "each": M}               A accounts with M each to begin with
  {"e": "invoke", "c": C, "n": N, "k": K, "t": T, "ops": [...]}
                                                        transaction N of client C, begun at T, is about to COMMIT
  {"e": "ok" | "fail" | "unknown", "c", "n", "t"}       what COMMIT said, when; unknown has "id": TERM:LSN
  {"e": "status", "id", "t", "answer"}                  what corallite_commit_status said: t when it was told
  {"e": "read", "c", "n", "k", "t", "end", "ops"[, "stale_ms"]}    a transaction that only read, and its COMMIT
                                                        returned; "final": true is the state at the end
  {"e": "error", "c", "t", "code", "text"}              any other failure: that transaction was never committed
  {"e": "never", "c", "t", "text"}                      what no client may ever see

"k" is the connection. A transaction that has an invoke and no outcome is one whose client was killed. Operations, in
their order:

  ["r", KEY, [VALUE...]]  ["a", KEY, VALUE]             read a list whole; append to it
  ["sr", KEY, [VALUE...]] ["sa", KEY, VALUE]            read a set; add to it
  ["br", ACCOUNT, VERSION, BALANCE, LAST]               read an account; LAST is the transaction that wrote VERSION
  ["bw", ACCOUNT, VERSION, BALANCE]                     write it; VERSION is the one that was read, and one

Values are written once in the whole history, and each transaction that writes adds one to a list or a set: by that it
is known to be there. A transaction is named by uid(C, N).
"""

import glob
import json
import os

FOREVER = 1 << 62

FIELDS = {"meta": ("accounts", "each"), "invoke": ("c", "n", "k", "t", "ops"), "ok": ("c", "n", "t"),
          "fail": ("c", "n", "t"), "unknown": ("c", "n", "t", "id"), "status": ("id", "t", "answer"),
          "read": ("c", "n", "k", "t", "end", "ops"), "error": ("t", "code"), "never": ("t", "text")}
OPS = {"r": 3, "a": 3, "sr": 3, "sa": 3, "br": 5, "bw": 4}
WRITES = ("a", "sa", "bw")


class Malformed(Exception):
    """The history is none: nothing can be said of it."""


def uid(client, n):
    return client << 24 | n


def name(u):
    return f"{u >> 24}.{u & 0xffffff}" if u else "0"


class Txn:
    """One transaction. outcome: ok, fail, unknown (then id), crashed; read for one that only read."""

    def __init__(self, event):
        self.client, self.n, self.conn = event["c"], event["n"], event["k"]
        self.uid = uid(self.client, self.n)
        self.ops = event["ops"]
        self.begin, self.end = event["t"], FOREVER
        self.outcome = "crashed"
        self.id = None
        self.stale_ns = int(event.get("stale_ms", 0)) * 1000000
        self.final = bool(event.get("final"))

    def __str__(self):
        return f"T{name(self.uid)}"

    def writes(self):
        return any(op[0] in WRITES for op in self.ops)


class History:
    def __init__(self):
        self.accounts = self.each = None
        self.txns = {}      # uid -> Txn, those that write
        self.reads = []     # Txn
        self.final = None   # Txn
        self.status = {}    # id -> [(time, answer)]
        self.never = []
        self.errors = {}    # code -> how often
        self.words = {}     # code -> what the first one said

    def add(self, event, where):
        kind = event.get("e")
        if kind not in FIELDS:
            raise Malformed(f"{where}: an event is one of {', '.join(FIELDS)}, not '{kind}'")
        missing = [f for f in FIELDS[kind] if f not in event]
        if missing:
            raise Malformed(f"{where}: '{kind}' has no {', '.join(missing)}")
        for op in event.get("ops", ()):
            if not op or op[0] not in OPS or len(op) != OPS[op[0]]:
                raise Malformed(f"{where}: no such operation: {op}")
        getattr(self, "add_" + (kind if kind not in ("ok", "fail", "unknown") else "outcome"))(event, where)

    def add_meta(self, event, where):
        if self.accounts is not None:
            raise Malformed(f"{where}: a second meta line")
        self.accounts, self.each = event["accounts"], event["each"]

    def add_invoke(self, event, where):
        txn = Txn(event)
        if txn.uid in self.txns:
            raise Malformed(f"{where}: {txn} is invoked twice")
        if not any(op[0] in ("a", "sa") for op in txn.ops):
            raise Malformed(f"{where}: {txn} adds to no list and no set: nobody could tell whether it is there")
        self.txns[txn.uid] = txn

    def add_outcome(self, event, where):
        txn = self.txns.get(uid(event["c"], event["n"]))
        if not txn or txn.outcome != "crashed":
            raise Malformed(f"{where}: an outcome of {event['c']}.{event['n']}, which "
                            + ("has one already" if txn else "was never invoked"))
        if event["t"] < txn.begin:
            raise Malformed(f"{where}: {txn} ends before it begins")
        txn.outcome, txn.id = event["e"], event.get("id")
        if txn.outcome == "ok":
            txn.end = event["t"]

    def add_read(self, event, where):
        txn = Txn(event)
        txn.outcome, txn.end = "read", event["end"]
        if txn.end < txn.begin or txn.writes():
            raise Malformed(f"{where}: {txn} is no transaction that only reads, or ends before it begins")
        self.reads.append(txn)
        if txn.final:
            if self.final:
                raise Malformed(f"{where}: a second final state")
            self.final = txn

    def add_status(self, event, where):
        self.status.setdefault(event["id"], []).append((event["t"], event["answer"]))

    def add_error(self, event, where):
        self.errors[event["code"]] = self.errors.get(event["code"], 0) + 1
        self.words.setdefault(event["code"], event.get("text", ""))

    def add_never(self, event, where):
        self.never.append(event["text"])

    def complete(self):
        if self.accounts is None or not self.final:
            raise Malformed("a history has one meta line and one final state; this one lacks "
                            + ("the final state" if self.accounts is not None else "the meta line"))
        return self


def from_events(events):
    """Of events of one client after the other; order within a client counts."""
    history = History()
    for i, event in enumerate(events, 1):
        history.add(event, f"event {i}")
    return history.complete()


def events_of(directory):
    """Each event, with where it stands. A last line that a kill has cut is left out."""
    files = sorted(glob.glob(os.path.join(directory, "*.jsonl")))
    if not files:
        raise Malformed(f"there is no *.jsonl in {directory}")
    for path in files:
        with open(path, encoding="ascii") as f:
            lines = f.read().split("\n")
        for i, line in enumerate(lines[:-1], 1):
            try:
                yield json.loads(line), f"{os.path.basename(path)}:{i}"
            except ValueError as e:
                raise Malformed(f"{os.path.basename(path)}:{i}: {e}") from None


def load(directory):
    history = History()
    for event, where in events_of(directory):
        history.add(event, where)
    return history.complete()
