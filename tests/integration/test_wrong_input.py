"""Wrong input, wrong files: a sentence each, never a crash or a wait without end."""

import os
import random
import re
import sqlite3
import time

from lib.cluster import BIN, PAGESERVER, SLOWER, Cluster, check, free_ports, last_error, run, until
from lib.crc32c import crc32c
from lib.registry import test
from test_failures import caught_up


def says(text, *words):
    """The one line of the error channel that has all the words."""
    for one in text.splitlines():
        if all(word.lower() in one.lower() for word in words):
            return one
    check(False, f"nothing says {words}: {text.strip()[-500:]}")


def refuses(t, c, node, *words, command=None):
    """A daemon that ends by itself, with status 1 and a line that has all the words."""
    size = os.path.getsize(c.log(node)) if os.path.exists(c.log(node)) else 0
    c.start(node, wait=False, command=command)
    process = c.process[node]
    process.wait(15)
    with open(c.log(node), errors="replace") as f:
        f.seek(size)
        text = f.read()
    check(process.returncode == 1,
          f"{node} ended with {process.returncode}, wanted 1: {text.strip()[-400:]}")
    sentence = says(text, *words)
    t.note(re.sub(r"^\S+Z \w+ ", "", sentence)[:300])


@test("server not there: a sentence with the address, within 3 s", 30)
def server_not_there(t):
    (port,) = free_ports(1)
    c = Cluster(t.dir, start=False)
    env = c.env(CORALLITE_SERVER=f"127.0.0.1:{port}")
    began = time.monotonic()
    done = c.shell("SELECT * FROM t;", ok=False, timeout=20, env=env)
    took = time.monotonic() - began
    check(done.returncode != 0, "no error")
    t.note(f"after {took:.2f} s: " + says(done.stderr, f"127.0.0.1:{port}", "pageserver"))
    check(took < 3.5 * SLOWER, f"only after {took:.2f} s (0.5 s of it are for starting the shell)")


@test("a bad name: a sentence with a valid proposal, which then works", 30)
def bad_name(t):
    with t.cluster() as c:
        # A shell whose .open fails goes on with a temporary database of its own.
        done = c.shell("SELECT 1;", db="my%20shop!", ok=False)
        says(done.stderr, "unable to open")
        t.note(says(done.stderr, "my shop!", "my-shop"))
        try:
            c.connect("my%20shop!")
            check(False, "opened")
        except sqlite3.OperationalError:
            says(last_error(), "my shop!", "my-shop")
        c.shell("CREATE TABLE t(a);", db="my-shop")


@test("an unknown database with mode=ro: a sentence, and it is not created", 30)
def unknown_database_read_only(t):
    with t.cluster() as c:
        done = c.shell("SELECT 1;", db="nosuch", ok=False, mode="ro")
        says(done.stderr, "unable to open")
        t.note(says(done.stderr, "nosuch"))
        try:
            c.connect("nosuch", mode="ro").execute("SELECT 1 FROM sqlite_schema")
            check(False, "opened")
        except sqlite3.OperationalError:
            says(last_error(), "nosuch")
        done = run([os.path.join(BIN, "corallite"), "db", "list"], "", 10, env=c.env())
        check(done.returncode == 0 and "nosuch" not in done.stdout, f"db list: {done.stdout}")


def first_segment(c, node):
    for folder, _, files in os.walk(os.path.join(c.data(node), "timelines")):
        for name in files:
            if name.endswith(".seg"):
                return os.path.join(folder, name)
    check(False, "no segment")


def fill(c, rows):
    """A table in the logs of all three: a commit waits for two of them, and whoever ends then leaves the third behind."""
    db = c.connect()
    db.execute("CREATE TABLE t(a)")
    for _ in range(rows):
        db.execute("INSERT INTO t VALUES(hex(randomblob(200)))")
    until(lambda: caught_up(c), 20, "all three have the same log")
    db.close()


def flip(file, at):
    with open(file, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 0x40]))


@test("a damaged segment: that safekeeper refuses that timeline and names the place; commits go on", 60)
def damaged_segment(t):
    with t.cluster() as c:
        fill(c, 50)
        c.stop(2)
        segment = first_segment(c, 2)
        with open(segment, "rb") as f:
            data = f.read()
        end = len(data.rstrip(b"\0"))
        check(end > 12000, f"the log has only {end} bytes")
        flip(segment, 4096 + 4096 + (end - 8192) // 2)
        c.start(2)  # it starts, and refuses that timeline alone: test_damage.py has what that means
        t.note(says(open(c.log(2)).read(), "is halted", os.path.basename(segment))[:300])
        c.shell("INSERT INTO t VALUES('more');")
        check(c.shell("SELECT count(*) FROM t;").stdout.strip() == "51", "rows")


@test("a damaged LMDB page: the read that needs it fails with a sentence, others go on", 60)
def damaged_lmdb_page(t):
    with t.cluster() as c:
        secret = random.randbytes(60000)
        db = c.connect()
        db.execute("CREATE TABLE good(a)")
        db.execute("INSERT INTO good VALUES('good')")
        db.execute("CREATE TABLE bad(a BLOB)")
        db.execute("INSERT INTO bad VALUES(?)", (secret,))
        db.close()
        c.shell("SELECT length(a) FROM bad;")  # the pageserver has it all now
        c.stop(PAGESERVER)
        file = os.path.join(c.data(PAGESERVER), "store", "data.mdb")
        if not os.path.exists(file):
            file = next(os.path.join(folder, "data.mdb")
                        for folder, _, files in os.walk(c.data(PAGESERVER)) if "data.mdb" in files)
        with open(file, "rb") as f:
            data = f.read()
        at = data.find(secret[30000:30064])
        check(at > 0, "the blob is not in the store as it is")
        flip(file, at + 10)
        c.start(PAGESERVER)
        done = c.shell("SELECT sum(length(a)), hex(a) FROM bad;", ok=False, timeout=20)
        check(done.returncode != 0, "the damaged page was returned as if it were good")
        t.note(says(done.stderr, "page", "damaged"))
        check(c.shell("SELECT a FROM good;").stdout.strip() == "good", "the other table")
        check(c.process[PAGESERVER].poll() is None, "the pageserver ended")


@test("a damaged LMDB file: the pageserver refuses to start with a sentence", 60)
def damaged_lmdb_file(t):
    with t.cluster() as c:
        c.shell("CREATE TABLE t(a); INSERT INTO t VALUES(1);")
        c.stop(PAGESERVER)
        file = next(os.path.join(folder, "data.mdb")
                    for folder, _, files in os.walk(c.data(PAGESERVER)) if "data.mdb" in files)
        with open(file, "r+b") as f:
            f.write(random.randbytes(8192))
        refuses(t, c, PAGESERVER, c.data(PAGESERVER))


@test("another cluster's directory: refused with a sentence", 60)
def another_clusters_directory(t):
    with t.cluster("a") as a, t.cluster("b") as b:
        for node in (1, PAGESERVER):
            b.stop(node)
            command = b.command(node)
            command[command.index("--cluster") + 1] = a.id
            refuses(t, b, node, b.id, command=command)
        # A safekeeper of b where a's should be: nobody takes it for a's.
        a.shell("CREATE TABLE t(a);")
        a.kill9(3)
        command = b.command(3)
        b.stop(3)
        command[command.index("--listen") + 1] = f"127.0.0.1:{a.port[3]}"
        command[command.index("--http") + 1] = f"127.0.0.1:{a.http[3]}"
        a.start(3, command=command)
        db = a.connect(commit_timeout="2s")
        db.execute("INSERT INTO t VALUES(1)")
        a.kill9(2)
        try:
            db.execute("INSERT INTO t VALUES(2)")
            check(False, "committed by a safekeeper of another cluster")
        except sqlite3.OperationalError:
            t.note(says(last_error(), "majority", "cluster", f":{a.port[2]}", f":{a.port[3]}"))
        db.close()


@test("a port in use: refused with a sentence that names it", 30)
def port_in_use(t):
    with t.cluster() as c:
        for node in (1, PAGESERVER):
            command = c.command(node)
            for option in ("--dir", "--listen", "--http"):
                place = command.index(option) + 1
                if option == "--dir":
                    command[place] += "-second"
                if option == "--http":
                    command[place] = f"127.0.0.1:{free_ports(1)[0]}"
            first = c.process[node]
            refuses(t, c, node, f":{c.port[node]}", "in use", command=command)
            c.process[node] = first
            check(first.poll() is None, "the first one ended")


def raise_version(file, blocks):
    """Format version 9 instead of 1 to 3 in each block (offset, offset of its CRC): sound, but newer. (A
    registry has 2, and a control block in doubt; one whose log has lost its begin 3.)"""
    with open(file, "r+b") as f:
        data = bytearray(f.read())
        for begin, crc_at in blocks:
            check(data[begin + 8:begin + 12] in (b"\1\0\0\0", b"\2\0\0\0", b"\3\0\0\0") or data[begin:begin + 8] == bytes(8),
                  f"{file} has no version 1 to 3 at {begin + 8}")
            if data[begin:begin + 8] == bytes(8):
                continue  # a slot not written yet
            crc = crc32c(bytes(data[begin:begin + crc_at]))
            check(data[begin + crc_at:begin + crc_at + 4] == crc.to_bytes(4, "little"),
                  f"{file}: the CRC is not where it is said to be")
            data[begin + 8] = 9
            crc = crc32c(bytes(data[begin:begin + crc_at]))
            data[begin + crc_at:begin + crc_at + 4] = crc.to_bytes(4, "little")
        f.seek(0)
        f.write(data)


@test("a newer format of each kind of file: refused with a sentence", 90)
def newer_format(t):
    with t.cluster() as c:
        fill(c, 1)
        for node in (1, PAGESERVER):
            c.stop(node)
        timeline = os.path.dirname(os.path.dirname(first_segment(c, 1)))
        kinds = [(1, os.path.join(c.data(1), "identity"), [(0, 124)]),
                 (1, os.path.join(c.data(1), "registry"), [(0, 24)]),
                 (1, os.path.join(timeline, "control"), [(0, 4092), (4096, 4092)]),
                 (1, first_segment(c, 1), [(0, 56)]),
                 (PAGESERVER, os.path.join(c.data(PAGESERVER), "identity"), [(0, 124)])]
        for node, file, blocks in kinds:
            with open(file, "rb") as f:
                whole = f.read()
            raise_version(file, blocks)
            refuses(t, c, node, os.path.dirname(c.data(node)), "newer")
            with open(file, "wb") as f:
                f.write(whole)
        c.start(1)
        store = next(os.path.join(folder, "data.mdb")
                     for folder, _, files in os.walk(c.data(PAGESERVER)) if "data.mdb" in files)
        with open(store, "r+b") as f:
            data = f.read()
            places = [m.start() for m in re.finditer(rb"CORALPS1.\0\0\0", data, re.S)]
            check(places, "the store's magic was not found")
            for place in places:
                f.seek(place + 8)
                f.write(b"\xff")
        refuses(t, c, PAGESERVER, c.data(PAGESERVER), "newer")
