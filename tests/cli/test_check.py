"""corallite check: what is sound, and each kind of damage that it must find. Stops daemons: comes last."""

import glob
import hashlib
import json
import os
import random
import signal
import struct

from lib import check, matches, test, until


def pid_of(room, name):
    return next(d["pid"] for d in room.json("up")["daemons"] if d["name"] == name)


def stop(room, *names, number=signal.SIGTERM):
    pids = [pid_of(room, name) for name in names]  # (`up` starts what does not run: all pids first)
    for pid in pids:
        os.kill(pid, number)
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), 20, f"{names} have ended")


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 0x10]))


@test
def sound_and_unsound_structure(room):
    room.sql("sound", "CREATE TABLE t(a INTEGER PRIMARY KEY, b UNIQUE); INSERT INTO t VALUES (1, 'x'), (2, 'y');"
                      "CREATE TABLE c(t REFERENCES t(a)); INSERT INTO c VALUES (1), (7), (8)")
    room.ok("branch", "create", "sound/side")
    told = room.json("check", "sound")
    db = told["databases"][0]
    check("it is sound", told["sound"] and db["sound"] and db["structure_checked"] and not db["problems"], json.dumps(told))
    check("every page was read", db["pages_read"] == db["pages"] > 2, json.dumps(db))
    check("a majority has it", db["copies"] >= 2 and len(told["catalog"]["safekeepers"]) == 3, json.dumps(told))
    check("both branches are compared", told["catalog"]["timelines"] == 2, json.dumps(told["catalog"]))
    check("a foreign key is information", db["foreign_key_violations"] == 2, json.dumps(db))
    matches("as text", "sound +sound at .* pages .*structure looked through.*2 rows violate a foreign key",
            room.ok("check", "sound"))
    # An index that does not fit its table: SQLite finds it, and the moment before is sound.
    lsn = room.json("log", "sound", "-n", "1")[0]["lsn"]
    room.sql("sound", "CREATE TABLE d(a, b); INSERT INTO d VALUES (1, 2), (3, 4); CREATE INDEX i ON d(a);"
                      "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON d(b)' WHERE name = 'i'")
    told = room.json("check", "sound", code=1)
    check("it is no longer sound", not told["sound"], json.dumps(told))
    matches("SQLite's words are told", "row 1 missing from index i|wrong # of entries in index i",
            " ".join(told["databases"][0]["problems"]))
    check("an hour ago it was", room.json("check", f"sound@lsn:{lsn}")["sound"])
    check("and the branch is", room.json("check", "sound/side")["sound"])
    done = room.run("check")
    check("all: one of them is not", done.returncode == 1, done.stdout)
    matches("all: it is named, the others are sound", r"UNSOUND  sound at.*", done.stdout)
    branches = sum(len(d["branches"]) for d in room.json("db", "list"))
    lines = [line for line in done.stdout.split("\n") if line.startswith(("sound  ", "UNSOUND"))]
    check("all: each branch has its line, and the catalog", len(lines) == branches + 1, done.stdout)
    room.ok("db", "drop", "sound", "--yes")
    everything = room.json("check")
    check("all are sound without it", everything["sound"], json.dumps(everything)[:600])


@test
def a_damaged_page(room):
    secret = random.randbytes(60000)
    db = room.connect("bad")
    db.execute("CREATE TABLE good(a)")
    db.execute("CREATE TABLE bad(a BLOB)")
    db.execute("INSERT INTO bad VALUES (?)", (secret,))
    db.close()
    check("it is sound before", room.json("check", "bad")["sound"])
    stop(room, "pageserver")
    file = next(os.path.join(folder, "data.mdb") for folder, _, files in os.walk(os.path.join(room.cluster, "pageserver"))
                if "data.mdb" in files)
    with open(file, "rb") as f:
        at = f.read().find(secret[30000:30064])
    check("the blob is in the store as it is", at > 0)
    flip(file, at + 10)
    room.ok("up")
    done = room.run("check", "bad")
    check("exit code 1", done.returncode == 1, done.stdout + done.stderr)
    matches("the page is named", r"UNSOUND  bad at .*\n +page \d+ is damaged in the pageserver's store", done.stdout)
    told = room.json("check", "bad", code=1)["databases"][0]
    check("one page, and only one", told["n_problems"] == 1 and told["pages_read"] == told["pages"] - 1, json.dumps(told))
    check("the structure was not looked through", not told["structure_checked"], json.dumps(told))
    check("another database is sound", room.json("check", "shop")["sound"])
    flip(file, at + 10)
    stop(room, "pageserver")
    room.ok("up")
    check("repaired by flipping it back", room.json("check", "bad")["sound"])


def last_record(data):
    """(offset of the last record, its bytes) of a segment file: proto/wal.h."""
    at = 4096
    if data[at:at + 4] != b"CWAL":  # LSNs below the first record
        at = data.index(b"CWAL", 4096)
    last = at
    while data[at:at + 4] == b"CWAL":
        last = at
        at += struct.unpack_from("<Q", data, at + 8)[0]
    return last, data[last:at]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0x82F63B78 if crc & 1 else crc >> 1
    return crc ^ 0xFFFFFFFF


def another_content(record):
    """A sound record at the same place, in which a page has another content: its CRC, digest and the record's CRC
    are right, as from a safekeeper whose history is another one."""
    record = bytearray(record)
    n = struct.unpack_from("<I", record, 140)[0]
    at, pages = 144, b""
    for i in range(n):
        pgno, encoding_length, crc = struct.unpack_from("<III", record, at)
        if i == 0:
            crc ^= 1
            struct.pack_into("<I", record, at + 8, crc)
        pages += struct.pack("<II", pgno, crc)
        at += 12 + (12 if encoding_length & 0xFF == 2 else 0) + (encoding_length >> 8)
    digest = hashlib.sha256(bytes(record[120:136]) + bytes(record[:144]) + pages).digest()[:16]
    record[-24:-8] = digest
    record[-8:-4] = struct.pack("<I", crc32c(bytes(record[:-8])))
    return bytes(record)


@test
def safekeepers_that_differ(room):
    db = room.connect("two")
    db.execute("CREATE TABLE t(a)")
    db.execute("INSERT INTO t VALUES (1)")
    # Two are enough for COMMIT; the writer brings the third up while it is there.
    until(lambda: room.json("check", "two")["databases"][0]["copies"] == 3, 20, "all three have it")
    db.close()
    timeline = room.json("branch", "list", "two")[0]["timeline"]
    stop(room, "safekeeper-3", number=signal.SIGKILL)
    told = room.json("check", "two")
    check("two of three are enough", told["sound"] and told["databases"][0]["copies"] == 2, json.dumps(told))
    matches("the third is a note", "safekeeper 3 was not looked at: .*refused", " ".join(told["notes"]))
    room.ok("up")
    # One that holds another record at the same place.
    stop(room, "safekeeper-2")
    segment = sorted(glob.glob(os.path.join(room.cluster, "safekeeper-2", "timelines", timeline, "log", "*.seg")))[-1]
    with open(segment, "rb") as f:
        data = f.read()
    at, record = last_record(data)
    forged = another_content(record)
    check("the forged record is as long", len(forged) == len(record) and forged != record)
    with open(segment, "r+b") as f:
        f.seek(at)
        f.write(forged)
    room.ok("up")
    told = room.json("check", "two", code=1)
    matches("another history is found", r"safekeepers \d and \d have different logs up to LSN [0-9a-f]{16}",
            " ".join(told["databases"][0]["problems"]))
    stop(room, "safekeeper-2")
    with open(segment, "r+b") as f:
        f.seek(at)
        f.write(record)
    room.ok("up")
    check("sound again", room.json("check", "two")["sound"])


@test
def no_majority(room):
    lsn = room.json("log", "shop", "-n", "1")[0]["lsn"]
    stop(room, "safekeeper-1", "safekeeper-2", number=signal.SIGKILL)
    done = room.run("check", f"shop@lsn:{lsn}")  # (where the head is only a majority could tell)
    check("one of three: exit code 1", done.returncode == 1, done.stdout + done.stderr)
    matches("and why", "1 of 3 safekeepers could be looked at, which is no majority", done.stdout)
    matches("the pages are sound all the same", "sound    shop at", done.stdout)
    room.ok("up")
    check("sound again", room.json("check", "shop")["sound"])


@test
def a_safekeeper_that_does_not_start(room):
    stop(room, "safekeeper-2")
    used = {}
    for path in glob.glob(os.path.join(room.cluster, "safekeeper-2", "timelines", "*", "log", "*.seg")):
        with open(path, "rb") as f:
            used[path] = len(f.read().rstrip(b"\0"))
    # Of many logs a start reads the first sixteen by id; the others when they are asked for, as check does.
    path = max(used, key=used.get)
    check("there is a log to damage", used[path] > 12000, str(used[path]))
    at = 8192 + (used[path] - 8192) // 2
    # Damage that is none of one branch.
    timeline = os.path.dirname(os.path.dirname(path))
    os.rename(timeline, timeline + "-aside")
    done = room.run("up")
    check("up says that one is lacking", done.returncode == 1 and "must not take part" in done.stdout + done.stderr,
          done.stdout + done.stderr)
    told = room.json("check", "shop")
    check("check goes on with two, and says why there is no third", told["sound"]
          and any("safekeeper 2 does not run; it said last" in n and "must not take part" in n for n in told["notes"]),
          json.dumps(told["notes"]))
    os.rename(timeline + "-aside", timeline)
    room.ok("up")
    stop(room, "safekeeper-2")
    flip(path, at)
    room.ok("up")  # the damage is of one branch, and refused with it alone
    told = room.json("check", code=1)
    check("check says which branch a safekeeper refuses, and why",
          any("safekeeper 2" in p and "log is damaged" in p for b in told["databases"] for p in b["problems"]),
          json.dumps([b["problems"] for b in told["databases"]])[:600])
    check("status says it too", "refuses it: timeline" in room.run("status").stdout)
    stop(room, "safekeeper-2")
    flip(path, at)
    room.ok("up")
    check("all are there again", not room.json("check", "shop")["notes"])
