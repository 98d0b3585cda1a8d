"""Makes a sound history unsound, in known ways: what a checker finds in these is what it can be trusted to find.

Each function takes events (history.py) and a random source, changes a copy, and returns it, or None where the history
has nothing to do it to. HARM names them, with the anomalies of which the checker has to report one.
"""

import copy

from history import uid


def by_transaction(events):
    """uid -> {"invoke": event, "ok": event, ...}"""
    found = {}
    for e in events:
        if e["e"] in ("invoke", "ok", "fail", "unknown"):
            found.setdefault(uid(e["c"], e["n"]), {})[e["e"]] = e
    return found


def every_read(events):
    return [op for e in events if "ops" in e for op in e["ops"] if op[0] in ("r", "sr")]


def pick(r, candidates):
    candidates = list(candidates)
    return r.choice(candidates) if candidates else None


def values(txn):
    return {op[2] for op in txn["invoke"]["ops"] if op[0] in ("a", "sa")}


def acknowledged(events):
    return [t for t in by_transaction(events).values() if "ok" in t and "invoke" in t]


def acknowledged_is_missing(events, r):
    """Nobody has ever seen it, though COMMIT returned OK."""
    txn = pick(r, (t for t in acknowledged(events) if values(t)))
    if not txn:
        return None
    gone = values(txn)
    for op in every_read(events):
        op[2] = [v for v in op[2] if v not in gone]
    return events


def lost_update(events, r):
    """Two transactions read the same version of an account and both wrote the next one."""
    writes = {}
    for t in acknowledged(events):
        for op in t["invoke"]["ops"]:
            if op[0] == "bw":
                writes[(op[1], op[2])] = t
    at = pick(r, ((a, v) for a, v in writes if (a, v - 1) in writes and writes[(a, v)] is not writes[(a, v - 1)]))
    if not at:
        return None
    for op in writes[at]["invoke"]["ops"]:
        if op[0] in ("br", "bw") and op[1] == at[0]:
            op[2] -= 1
    return events


def stale_read(events, r):
    """A strict transaction that only reads is moved behind the COMMIT of one that it did not see."""
    final = [e for e in events if e.get("final")][0]
    last = {op[1]: op[2] for op in final["ops"] if op[0] == "r"}
    writer = {v: t for t in acknowledged(events) for v in values(t)}
    missed = []
    for e in events:
        if e["e"] == "read" and not e.get("final") and not e.get("stale_ms"):
            for op in e["ops"]:
                order = last.get(op[1], ()) if op[0] == "r" else ()
                if order and len(op[2]) < len(order) and order[len(op[2])] in writer:
                    missed.append((e, writer[order[len(op[2])]]))
    found = pick(r, missed)
    if not found:
        return None
    read, txn = found
    took = read["end"] - read["t"]
    read["t"] = max(read["t"], txn["ok"]["t"] + 1)
    read["end"] = read["t"] + took
    return events


def stale_beyond_its_bound(events, r):
    """The same to one with staleness, by more than that."""
    for e in events:
        e["was_stale_ms"] = e.get("stale_ms", 0)
    for e in events:
        if e["e"] == "read":
            # For stale_read() those with a bound are the strict ones.
            e["stale_ms"] = 0 if e["was_stale_ms"] else 1
    before = {id(e): e["t"] for e in events if e["e"] == "read"}
    changed = stale_read(events, r)
    for e in events:
        e["stale_ms"] = e.pop("was_stale_ms")
    if not changed:
        return None
    for e in events:
        if id(e) in before and e["t"] != before[id(e)]:
            e["t"] += e["stale_ms"] * 1000000
            e["end"] += e["stale_ms"] * 1000000
            return events
    return None


def reordered(events, r):
    """Of two appends to one list, the first took effect and yet began only after the second had ended."""
    final = [e for e in events if e.get("final")][0]
    writer = {v: t for t in acknowledged(events) for v in values(t)}
    pairs = [(writer[a], writer[b]) for op in final["ops"] if op[0] == "r" for a, b in zip(op[2], op[2][1:])
             if a in writer and b in writer and writer[a] is not writer[b]]
    pair = pick(r, pairs)
    if not pair:
        return None
    first, second = pair
    took = first["ok"]["t"] - first["invoke"]["t"]
    first["invoke"]["t"] = second["ok"]["t"] + 1
    first["ok"]["t"] = first["invoke"]["t"] + took
    return events


def write_skew(events, r):
    """Two transactions at once, each of which reads a list before the other one appends to it."""
    final = [e for e in events if e.get("final")][0]
    base = max((e["c"] for e in events if "c" in e), default=0) + 1
    begin = r.choice([e for e in events if e["e"] in ("invoke", "read")])["t"]
    keys = (f"skew-{begin}-a", f"skew-{begin}-b")
    for i in (0, 1):
        c, v = base + i, f"skew-{begin}-{i}"
        events.append({"e": "invoke", "c": c, "n": 1, "k": 1, "t": begin + i,
                       "ops": [["r", keys[i], []], ["a", keys[1 - i], v]]})
        events.append({"e": "ok", "c": c, "n": 1, "t": begin + 10 + i})
        final["ops"].append(["r", keys[1 - i], [v]])
    return events


def read_of_a_failed_one(events, r):
    """COMMIT said that it is not committed, and others have read what it wrote."""
    txn = pick(r, (t for t in acknowledged(events) if values(t)))
    if not txn:
        return None
    txn["ok"]["e"] = "fail"
    return events


def applied_twice(events, r):
    final = [e for e in events if e.get("final")][0]
    op = pick(r, (op for op in final["ops"] if op[0] in ("r", "sr") and op[2]))
    if not op:
        return None
    op[2].append(r.choice(op[2]))
    return events


def half_of_one(events, r):
    """A reader sees what a transaction added to a set and not what it appended to a list."""
    writer = {v: t for t in acknowledged(events) for v in values(t)}
    halves = []
    for e in events:
        if e["e"] == "read" and not e.get("final"):
            lists = [op for op in e["ops"] if op[0] == "r" and op[2] and op[2][-1] in writer]
            members = {v for op in e["ops"] if op[0] == "sr" for v in op[2]}
            halves += [op for op in lists if values(writer[op[2][-1]]) & members]
    op = pick(r, halves)
    if not op:
        return None
    gone = values(writer[op[2][-1]])
    op[2] = [v for v in op[2] if v not in gone]
    return events


def wrong_status(events, r):
    """What corallite_commit_status answered is turned round."""
    unknown = {t["unknown"]["id"] for t in by_transaction(events).values() if "unknown" in t}
    turned = {"committed": "not committed", "not committed": "committed"}
    ids = {e["id"] for e in events if e["e"] == "status" and e["answer"] in turned and e["id"] in unknown}
    chosen = pick(r, sorted(ids))
    for e in events:
        if e["e"] == "status" and e["id"] == chosen:
            e["answer"] = turned.get(e["answer"], e["answer"])
    return events if chosen else None


def money_is_made(events, r):
    """A reader that looked at all accounts saw one richer than its last writer left it."""
    meta = [e for e in events if e["e"] == "meta"][0]
    read = pick(r, (e for e in events if e["e"] == "read"
                    and sum(op[0] == "br" for op in e["ops"]) == meta["accounts"]))
    if not read:
        return None
    r.choice([op for op in read["ops"] if op[0] == "br"])[3] += 1
    return events


HARM = {
    acknowledged_is_missing: {"lost"},
    lost_update: {"lost-update"},
    stale_read: {"stale-read", "reordered"},
    stale_beyond_its_bound: {"stale-read", "reordered", "session"},
    reordered: {"reordered", "stale-read"},
    write_skew: {"write-skew"},
    read_of_a_failed_one: {"undead"},
    applied_twice: {"twice"},
    half_of_one: {"read-skew", "write-skew", "stale-read", "reordered", "cycle"},
    wrong_status: {"wrong-status"},
    money_is_made: {"wrong-total"},
}


def doctored(events, harm, r):
    return harm(copy.deepcopy(events), r)
