"""A cluster of `corallite up` whose daemons change: spares, replacements, a second pageserver."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

from lib.cluster import BIN, Failure, check, free_ports, popen, run, until
from lib.registry import test

TOOL = os.path.join(BIN, "corallite")


class Local:
    def __init__(self, directory):
        self.dir = os.path.join(directory, "local")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("CORALLITE_")}
        self.env["CORALLITE_DIR"] = self.dir
        self.base = next(p for p in (random.choice(free_ports(1)) for _ in range(1000)) if p < 65000)

    def tool(self, *words, code=0, timeout=90, env=None):
        done = run([TOOL, *words], "", timeout, env or self.env)
        check(code is None or done.returncode == code,
              f"corallite {' '.join(words)} ended with {done.returncode}: {done.stdout[-300:]} {done.stderr[-500:]}")
        return done

    def json(self, *words, **more):
        return json.loads(self.tool(*words, "--json", **more).stdout)

    def sql(self, text, ref="shop", **more):
        return self.tool("sql", ref, text, **more).stdout.strip()

    def up(self, *words):
        return {d["name"]: d for d in self.json("up", *words)["daemons"]}

    def pid(self, name):
        with open(os.path.join(self.dir, "run", name + ".pid")) as f:
            return int(f.read().split()[0])

    def kill9(self, name):
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not os.path.exists(f"/proc/{pid}") or open(f"/proc/{pid}/stat").read().split(") ")[1][0] == "Z",
              10, f"{name} is dead")

    def names(self):
        status = self.json("status", code=None)
        down = [n for n in status["safekeepers"] + status["pageservers"] if not n["up"]]
        check(not down, f"not all are up: {down}")
        return {n["name"] for n in status["safekeepers"] + status["pageservers"]}

    def __enter__(self):
        self.up("--port-base", str(self.base))
        return self

    def __exit__(self, *_):
        if os.path.isdir(self.dir):
            self.tool("down", "--purge", "--yes")


FIRST = {"safekeeper-1", "safekeeper-2", "safekeeper-3", "pageserver"}


@test("a cluster of `up`: a spare is added and takes a safekeeper's place, here or told from elsewhere; `up`, `down`, "
      "`status` know the new ones, also after a crash between the steps; what has left is stopped", 120)
def local_safekeeper_replaced(t):
    with Local(t.dir) as c:
        c.sql("CREATE TABLE t(a); INSERT INTO t VALUES(1)")
        check(c.names() == FIRST, "the first four")
        spare = c.json("safekeeper", "add")
        check(spare["name"] == "safekeeper-4" and spare["node"] == 4, f"{spare}")
        c.up()  # a spare is no one who has left
        check(c.names() == FIRST | {"safekeeper-4"}, f"with a spare: {c.names()}")
        done = c.tool("safekeeper", "replace", "2", spare["address"])
        check("safekeeper-2 is stopped" in done.stderr, done.stderr)
        until(lambda: all(b["lag_bytes"] == 0 for b in c.json("status")["timelines"]), 10,
              "the pageserver has the records of the new members, and the status says so")
        check(not os.path.exists(os.path.join(c.dir, "run", "safekeeper-2.pid")), "it runs still")
        want = (FIRST | {"safekeeper-4"}) - {"safekeeper-2"}
        check(c.names() == want, f"after it was replaced: {c.names()}")
        shutil.rmtree(os.path.join(c.dir, "safekeeper-2"))

        # From elsewhere, which knows nothing of the directory: the next `up` finds out.
        spare = c.json("safekeeper", "add")
        check(spare["node"] == 5, f"a node id is used once: {spare}")
        elsewhere = {k: v for k, v in c.env.items() if k != "CORALLITE_DIR"}
        elsewhere["HOME"] = t.dir
        c.tool("safekeeper", "replace", "1", spare["address"], "--server", f"127.0.0.1:{c.base}", env=elsewhere)
        for name in want | {"safekeeper-5"}:  # as after a loss of power
            c.kill9(name)
        up = c.up()
        want = (want | {"safekeeper-5"}) - {"safekeeper-1"}
        check(set(up) == want, f"after a start: {set(up)}")
        check(c.names() == want, f"status: {c.names()}")
        check(c.sql("SELECT count(*) FROM t") == "1", "rows")
        roles = {n["node"]: n["role"] for n in c.json("safekeeper", "list")["safekeepers"]}
        check(roles == {3: "member", 4: "member", 5: "member"}, f"{roles}")
        c.tool("down")
        check(set(c.up()) == want, "after down and up")
        c.sql("INSERT INTO t VALUES(2)")
        c.tool("check")
        # An older build would start the first three.
        with open(os.path.join(c.dir, "cluster")) as f:
            check(f.readline() == "corallite-cluster 2\n", "its format")
        c.tool("pageserver", "promote", code=2)
        # One that fills the place of one that is lost, by the same two commands.
        c.kill9("safekeeper-3")
        shutil.rmtree(os.path.join(c.dir, "safekeeper-3"))
        spare = c.json("safekeeper", "add")
        c.tool("safekeeper", "replace", "3", spare["address"])
        check(c.names() == {"safekeeper-4", "safekeeper-5", "safekeeper-6", "pageserver"}, f"{c.names()}")
        c.tool("check")


def fill(c, rows):
    c.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, b);"
          f"WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < {rows}) "
          "INSERT INTO t SELECT x, randomblob(900) FROM i")


def reader(c, server):
    """Reads pages that its cache does not hold, for ever; says how long the longest statement took."""
    program = f"""
import sys; sys.path.insert(0, {os.path.join(os.path.dirname(os.path.abspath(__file__)))!r})
from lib.cluster import load_extension
import random, select, sqlite3, time
load_extension()
db = sqlite3.connect("file:shop?vfs=corallite&cache_mb=1&server={server}", uri=True, isolation_level=None)
db.execute("PRAGMA cache_size = 10")
longest, n = 0.0, 0
print("open", flush=True)
while True:
    if select.select([sys.stdin], [], [], 0.002)[0]:
        if not sys.stdin.readline(): break
        print(longest, n, flush=True); longest, n = 0.0, 0
    begin = time.monotonic()
    assert db.execute("SELECT length(b) FROM t WHERE id = ?", (random.randrange(3000) + 1,)).fetchone() == (900,)
    longest = max(longest, time.monotonic() - begin); n += 1
"""
    process = popen(["/usr/bin/python3", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE, text=True, env=c.env)
    said = process.stdout.readline().strip()
    if said != "open":
        raise Failure(f"the reader: {process.stderr.read()[-500:]}")
    return process


def since(r, some=True):
    """The longest statement since the last call; of which there have to be some."""
    r.stdin.write("?\n")
    r.stdin.flush()
    text = r.stdout.readline().split()
    if len(text) != 2:
        raise Failure(f"a reader failed: {r.stderr.read()[-600:]}")
    check(not some or int(text[1]) > 0, "a reader came to a stop")
    return float(text[0])


@test("`up --pageservers 2`: the connect line names both, `check` compares them, `status`, `down`, `pageserver list` and "
      "`logs` know both; kill -9 of either under reads: no error; one command promotes the second, with the first "
      "dead or alive", 120)
def local_second_pageserver(t):
    with Local(t.dir) as c:
        fill(c, 3000)
        check(set(c.up("--pageservers", "2")) == FIRST | {"pageserver-2"}, "two pageservers")
        a, b = f"127.0.0.1:{c.base}", f"127.0.0.1:{c.base + 2}"
        check(f"CORALLITE_SERVER={a},{b}" in c.tool("env").stdout, c.tool("env").stdout)
        check(f"server={a},{b}" in c.tool("connect", "shop", "--lang", "python").stdout, "the connect line")
        until(lambda: {p["role"] for p in c.json("pageserver", "list")["pageservers"]} == {"owner", "follower"}, 20,
              "both are known")

        def compared():
            found = c.json("check")
            return found["sound"] and [p["address"] for p in found["pageservers"] if p["answered"]] == [b] \
                and found["pageservers"][0]["pages"] >= 700
        until(compared, 30, "check compares both")
        check("are the same there" in c.tool("check").stdout, "check in words")
        check(c.tool("logs", "pageserver-2").stdout, "logs of the second")
        r = reader(c, f"{a},{b}")
        longest = {}
        for name in ("pageserver", "pageserver-2"):
            since(r, some=False)
            c.kill9(name)
            time.sleep(1.5)
            longest[name] = since(r)
            found = c.json("check") if name == "pageserver-2" else None
            check(not found or found["sound"] and not found["pageservers"][0]["answered"], f"{found}")
            c.up()
        check(max(longest.values()) < 1.0, f"longest reads: {longest}")
        # Alive, then dead with its disk lost.
        answer = c.json("pageserver", "promote")
        check(answer["name"] == "pageserver-2", f"{answer}")
        check(c.tool("env").stdout.startswith(f"export CORALLITE_SERVER={b},{a}"), "the owner is named first")
        c.tool("branch", "create", "shop/one")
        c.kill9("pageserver-2")
        shutil.rmtree(os.path.join(c.dir, "pageserver-2"))
        answer = c.json("pageserver", "promote", "pageserver")
        check(answer["name"] == "pageserver", f"{answer}")
        c.tool("branch", "create", "shop/two")
        until(lambda: since(r, some=False) > 0, 20, "the reader goes on")
        until(lambda: c.names() == FIRST | {"pageserver-2"}, 20, "all are there")
        r.stdin.close()
        check(r.wait(20) == 0, "the reader failed at its end")
        t.note(f"longest read when the owner was killed {longest['pageserver'] * 1000:.0f} ms, the follower "
               f"{longest['pageserver-2'] * 1000:.0f} ms")
        c.tool("down")
        check(set(c.up()) == FIRST | {"pageserver-2"}, "after down and up")
        c.tool("check")
        c.tool("pageserver", "remove", "pageserver", code=2)
        c.tool("pageserver", "remove")
        check(c.names() == FIRST, "one is removed")


def options_of(c, name):
    with open(f"/proc/{c.pid(name)}/cmdline") as f:
        words = f.read().split("\0")
    return {a: b for a, b in zip(words, words[1:]) if a.startswith("--")}


@test("`up --archive`: safekeepers keep 256 MiB of each log, or what --keep-log says, and drop what the archive has; `--archive "
      "none` says what that means, and nothing more is dropped; a second pageserver that begins empty reads the archive", 150)
def local_keep_log(t):
    c = Local(t.dir)
    archive = "dir:" + os.path.join(t.dir, "archive")
    with c:
        check("--keep-log" not in options_of(c, "safekeeper-1"), "without an archive something may go")
        done = c.tool("up", "--keep-log", "64M", code=1)
        check("the safekeepers in" in done.stderr and "--keep-log can be another" in done.stderr, done.stderr)
        c.tool("down")
        done = c.tool("up", "--keep-log", "64M")
        check("does nothing without an archive" in done.stderr, done.stderr)
        check("--keep-log" not in options_of(c, "safekeeper-1"), "without an archive something may go")
        c.tool("down")
        for wrong in ("1000", "x", "64"):
            c.tool("up", "--keep-log", wrong, code=2)
        done = c.tool("up", "--archive", archive, "--keep-log", "1M")
        check(done.stderr == "", done.stderr)
        for name in ("safekeeper-1", "safekeeper-2", "safekeeper-3"):
            check(options_of(c, name)["--keep-log"] == "1M", f"{options_of(c, name)}")
        c.sql("CREATE TABLE t(a, b)")
        for i in range(11):
            c.sql(f"INSERT OR REPLACE INTO t(rowid, a, b) VALUES ({i % 3 + 1}, {i}, randomblob(2 << 20))")
        main = next(b["timeline"] for b in c.json("branch", "list", "shop"))

        def kept(name):
            return os.path.exists(os.path.join(c.dir, name, "timelines", main, "log", "0" * 16 + ".seg"))
        for name in ("safekeeper-1", "safekeeper-2", "safekeeper-3"):
            until(lambda: not kept(name), 40, f"{name} drops the log's begin")

        def old():
            log = c.json("log", "shop", "-n", "6")
            return [c.sql("SELECT a, length(b), hex(substr(b, 99, 20)) FROM t ORDER BY a", ref=f"shop@lsn:{x['lsn']}")
                    for x in (log if isinstance(log, list) else log["commits"])]
        before = old()
        c.up("--pageservers", "2")
        until(lambda: c.json("check", "--deep", code=None)["sound"], 60, "both pageservers have the same pages")
        c.tool("down")
        done = c.tool("up", "--archive", "none")
        check(archive in done.stderr and "keep that" in done.stderr, done.stderr)
        check("--keep-log" not in options_of(c, "safekeeper-1"), "without an archive something may go")
        check(before == old(), "old moments are others")
        c.tool("down")
        done = c.tool("up", "--archive", archive, "--keep-log", "all")
        check(options_of(c, "safekeeper-1")["--keep-log"] == "all" and done.stderr == "", done.stderr)
    with c:
        c.tool("down")
        c.tool("up", "--archive", archive)
        check(options_of(c, "safekeeper-1")["--keep-log"] == "256M", f"{options_of(c, 'safekeeper-1')}")
