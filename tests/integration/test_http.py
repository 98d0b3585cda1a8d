"""The HTTP side of the daemons: /v1 as docs/openapi.json describes it, its bounds, /metrics.

Every answer to lib.openapi.Api is compared with the description.
"""

import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import threading
import time

from lib.cluster import KEPT, NODES, PAGESERVER, ROOT, BIN, Failure, check, popen, run, until
from lib.openapi import Api
from lib.registry import test

from test_branches import SALES, corallite, plain_sha3, sha3

MAIN = "/databases/shop/branches/main"
ID = "0123456789abcdef0123456789abcdef"


def commits(cluster, n, db="shop"):
    """n commits of one row each; their LSNs."""
    con = cluster.connect(db)
    con.execute("CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b)")
    lsns = []
    for i in range(n):
        con.execute("INSERT INTO t(b) VALUES (?)", (f"row {i}",))
        lsns.append(con.execute("PRAGMA corallite_lsn").fetchone()[0])
    con.close()
    return lsns


# -- what it is for --------------------------------------------------------------------------------


@test("/v1: databases and branches are made once by their id, listed, changed, protected, dropped, as the "
      "command sees them; every answer is as docs/openapi.json describes it", 60)
def http_databases_and_branches(t):
    with t.cluster() as c:
        api = Api(c)
        check(api.ask("GET", "/openapi.json").body.decode() == api.description.text,
              "/v1/openapi.json is not docs/openapi.json")
        check(api.get("/databases") == {"databases": []}, "there is a database")
        made = api.post("/databases", {"name": "shop", "id": ID})
        check(made["id"] == ID and made["branches"] == ["main"] and made["bytes"] == 0, f"{made}")
        check(api.post("/databases", {"name": "shop", "id": ID})["id"] == ID, "made again")
        check(api.post("/databases", {"name": "shop"}, 409).code == "EXISTS", "made twice")
        check(api.post("/databases", {"name": "other", "id": ID}, 409).code == "EXISTS", "id twice")
        commits(c, 3)
        until(lambda: api.get("/databases/shop")["positions"]["lag_bytes"] == 0, 10, "no lag")
        shown = api.get("/databases/shop")
        check(shown["bytes"] == 2 * 4096 and shown["last_commit"], f"{shown}")
        check(len(shown["positions"]["safekeepers"]) == 3, f"{shown}")
        check(sum(k["known"] for k in shown["positions"]["safekeepers"]) >= 2, f"{shown}")
        listed = json.loads(corallite(c, "db", "list", "--json").stdout)
        check(listed[0]["id"] == ID, "the command sees another database")

        fields = {"name": "try", "at": "latest", "expires": "24h", "id": "f" * 32}
        first = api.post("/databases/shop/branches", fields)
        check(first["parent"] == "main" and first["expires"], f"{first}")
        check(api.post("/databases/shop/branches", fields)["timeline"] == first["timeline"],
              "the same request made another branch")
        check(api.post("/databases/shop/branches", {"name": "try"}, 409).code == "EXISTS", "twice")
        api.post("/databases/shop/branches", {"name": "b", "from": "try", "expires": None})
        until_date = api.patch("/databases/shop/branches/b", {"expires": "2096-01-02T03:04:05Z"})
        check(until_date["expires"] == "2096-01-02T03:04:05.000000Z", f"{until_date}")
        changed = api.patch("/databases/shop/branches/try",
                            {"name": "kept", "protected": True, "expires": None})
        check((changed["branch"], changed["protected"], changed["expires"]) == ("kept", True, None),
              f"{changed}")
        api.get("/databases/shop/branches/try", 404)
        check(api.get("/databases/shop/branches/kept")["timeline"] == first["timeline"], "another")
        tree = {b["branch"]: b for b in api.get("/databases/shop/branches")["branches"]}
        check({n: b["parent"] for n, b in tree.items()} == {"main": None, "kept": "main", "b": "kept"},
              f"{tree}")
        for b in json.loads(corallite(c, "branch", "list", "shop", "--json").stdout):
            same = {k: tree[b["branch"]][k] for k in b if k not in ("branch_lsn", "head_lsn")}
            check(same == {k: b[k] for k in same}, f"the command shows another branch: {b}")

        # What is protected stays, whoever asks.
        check(api.delete("/databases/shop/branches/kept", 409).code == "READONLY", "dropped")
        check(api.post("/databases/shop/branches/kept/restore", {"at": "-1h"}, 409).code ==
              "READONLY", "restored")
        check(api.delete("/databases/shop", 409).code == "READONLY", "the database was dropped")
        api.patch("/databases/shop/branches/kept", {"protected": False})
        check(api.delete("/databases/shop/branches/kept") == {"dropped": "kept"}, "not dropped")
        check(api.get("/databases/shop/branches/b")["parent"] is None, "a dropped parent is named")
        api.delete("/databases/shop/branches/b")
        check(api.delete("/databases/shop/branches/main", 400).sentence, "the last branch went")
        check(api.delete("/databases/shop") == {"dropped": "shop"}, "not dropped")
        check(api.get("/databases/shop", 404).code == "NOT_FOUND", "it is there")
        check(api.delete("/databases/shop", 404).sentence, "dropped twice")
        status = api.get("/status")
        check(status["all_up"] and len(status["safekeepers"]) == 3, f"{status}")
        c.kill9(2)
        status = api.get("/status")
        down = [k["node"] for k in status["safekeepers"] if not k["up"]]
        check(down == [2] and not status["all_up"] and "safekeeper 2" in
              status["safekeepers"][1]["trouble"], f"{status}")


@test("/v1: moments, the log in pages, pins, changed pages, restore and the undo that it answers; each as "
      "the command, the SQL and the files say", 60)
def http_moments(t):
    with t.cluster() as c:
        api = Api(c)
        con = c.connect("shop")
        con.execute("PRAGMA page_size=1024")
        con.executescript(SALES)
        con.close()
        lsns = commits(c, 30)
        check(api.get(f"{MAIN}/moment")["lsn"] == lsns[-1], "the head is not the newest commit")
        check(api.get(f"{MAIN}/moment", at=f"lsn:{lsns[3]}")["lsn"] == lsns[3], "another moment")
        at = api.get(f"{MAIN}/moment", at=lsns[3])["time"]
        check(api.get(f"{MAIN}/moment", at=at.replace("Z", "+00:00"))["lsn"] == lsns[3],
              "the time of a commit is not that commit")
        check(api.get(f"{MAIN}/moment", at="2001-01-01")["lsn"] is None, "there was something")
        for bad in ("x", "2096-01-01", "5m", "lsn:ffffffffffff0000"):
            check(api.get(f"{MAIN}/moment", 400, at=bad).sentence, bad)

        # The log, page by page, is what SQL and the command tell.
        seen, before = [], None
        while True:
            page = api.get(f"{MAIN}/log", limit=7, **({"before": before} if before else {}))
            check(len(page["commits"]) <= 7, "a page is too long")
            seen += [x["lsn"] for x in page["commits"]]
            before = page["next"]
            if not before:
                break
        told = json.loads(corallite(c, "log", "shop", "--json").stdout)
        check(seen == [x["lsn"] for x in told], "the log is not the command's")
        check(seen[:30] == lsns[::-1], "the log lacks a commit")
        at = api.get(f"{MAIN}/log", at=lsns[5], limit=1)["commits"]
        check([x["lsn"] for x in at] == [lsns[5]], f"{at}")
        for bad in ({"limit": 0}, {"limit": 1001}, {"limit": "1x"}, {"before": "x"}, {"befor": "0/1"}):
            check(api.ask("GET", f"{MAIN}/log", expect=400, **bad).sentence, f"{bad}")

        # A pin holds it; changes are what differs between two files.
        pin = api.post("/databases/shop/pins", {"name": "p", "at": lsns[10]})
        check(api.post("/databases/shop/pins", {"name": "p", "at": lsns[10]}) == pin, "another pin")
        check(api.post("/databases/shop/pins", {"name": "p"}, 409).code == "EXISTS", "it moved")
        check(api.get("/databases/shop/pins") == {"pins": [pin]}, "the pin is not listed")
        check(api.get("/databases/shop/pins/p") == pin and pin["lsn"] == lsns[10], f"{pin}")
        check(api.get(f"{MAIN}/moment", at="pin:p")["lsn"] == lsns[10], "not the pin's moment")
        old, new = (api.ask("GET", f"{MAIN}/export", at=a).body for a in ("pin:p", lsns[20]))
        differ = [i // 1024 + 1 for i in range(0, len(new), 1024)
                  if new[i:i + 1024] != old[i:i + 1024]]
        got = api.get(f"{MAIN}/changes", since="pin:p", upto=lsns[20])
        check(got["commits"] == 10 and not got["all"], f"{got}")
        # A page may have been written and be as it was.
        check(set(differ) <= set(got["changed"]) and len(got["changed"]) <= len(differ) + 1,
              f"{got}, and {differ} differ")
        whole = api.get(f"{MAIN}/changes", since="2001-01-01")
        check(whole["since"] is None and whole["changed"] == list(range(1, whole["pages"] + 1)),
              "not every page is new since the beginning")
        check(api.get(f"{MAIN}/changes", since=lsns[20], upto=lsns[20])["changed"] == [], "changed")
        check(api.get(f"{MAIN}/changes", 400, since=lsns[20], upto=lsns[10]).sentence, "backwards")
        check("since" in api.get(f"{MAIN}/changes", 400).sentence, "since nothing")

        # Restore, and back by what it answered.
        with_all = sha3(c, "shop")
        done = api.post(f"{MAIN}/restore", {"at": "pin:p", "keep_as": "was", "id": ID}, 200)
        check(done["kept_as"] == "was" and done["lsn"] == lsns[10], f"{done}")
        check(sha3(c, "shop") != with_all, "nothing was restored")
        check(api.post(f"{MAIN}/restore", {"at": "pin:p", "keep_as": "was", "id": ID}, 200) == done,
              "the same request restored twice")
        undo = done["undo"]
        back = api.ask(undo["method"], undo["path"].removeprefix("/v1"), undo["body"]).json
        check(sha3(c, "shop") == with_all, "the undo did not bring it back")
        check(back["kept_as"].startswith("main-before-"), f"{back}")
        check("moment" in api.post(f"{MAIN}/restore", {}, 400).sentence, "restored to nothing")
        check(api.post(f"{MAIN}/restore", {"from": "was", "keep_as": "was"}, 409).code == "EXISTS",
              "kept under a name that is taken")
        check(api.delete("/databases/shop/pins/p") == {"dropped": "p"}, "not dropped")
        api.get("/databases/shop/pins/p", 404)
        api.delete("/databases/shop/pins/p", 404)

BIG = """
CREATE TABLE big(b);
WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 100)
  INSERT INTO big SELECT randomblob(200000) FROM i;
"""


def anonymous_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"RssAnon:\s+(\d+)", f.read())[1])


class Reader(threading.Thread):
    """Begins to read an export, and goes on when it is told."""

    def __init__(self, api, path):
        super().__init__()
        self.api, self.path = api, path
        self.began, self.go_on = threading.Event(), threading.Event()
        self.size, self.parts, self.trouble = None, [], None
        self.start()
        until(lambda: self.began.is_set() or not self.is_alive(), 30, "an export begins")
        check(not self.trouble, self.trouble)

    def run(self):
        response = self.api.raw("GET", f"/v1{self.path}")
        if response.status != 200:
            self.trouble = f"{self.path}: {response.status} {response.read()[:300]}"
            return
        self.size = int(response.headers["Content-Length"])
        try:
            while got := response.read(1 << 18):
                self.parts.append(got)
                self.began.set()
                self.go_on.wait(30)
        except (http.client.HTTPException, OSError):
            pass

    def end(self):
        """All that came."""
        self.go_on.set()
        self.join(60)
        return b"".join(self.parts)


@test("/v1 export: any moment as an ordinary file, for every page size, in bounded memory; refused where there "
      "is nothing; cut when it cannot go on, by a drop or the daemon's end", 120)
def http_export(t):
    with t.cluster() as c:
        api = Api(c)
        for size in (512, 4096, 65536):
            db = f"s{size}"
            con = c.connect(db)
            con.execute(f"PRAGMA page_size={size}")
            con.executescript(SALES)
            lsn = con.execute("PRAGMA corallite_lsn").fetchone()[0]
            then = sha3(c, db)
            con.execute("DELETE FROM item WHERE id % 7 = 0")
            con.close()
            for at, wanted in ((lsn, then), (None, sha3(c, db))):
                answer = api.ask("GET", f"/databases/{db}/branches/main/export",
                                 **({"at": at} if at else {}))
                path = os.path.join(t.dir, f"{db}.sqlite")
                with open(path, "wb") as f:
                    f.write(answer.body)
                check(answer.body[18:20] == b"\1\1", "it says WAL")
                check(plain_sha3(path) == wanted, f"{db} at {at} is another")
                plain = sqlite3.connect(path)
                check(plain.execute("PRAGMA integrity_check").fetchone() == ("ok",), "not sound")
                check(plain.execute("PRAGMA page_size").fetchone() == (size,), "another page size")
                plain.close()
                check(not at or answer.headers["Corallite-Lsn"] == lsn, "another moment")
        head = api.ask("HEAD", "/databases/s512/branches/main/export")
        check(int(head.headers["Content-Length"]) > 100000, "HEAD tells no length")

        api.post("/databases", {"name": "empty"})
        api.post("/databases", {"name": "gone"})
        for path in ("/databases/empty/branches/main", "/databases/s512/branches/main"):
            check("nothing" in api.ask("GET", f"{path}/export", expect=404, at="2001-01-01").sentence,
                  f"{path} was something")

        c.shell(BIG, db="gone")
        pid, path = c.pid(PAGESERVER), "/databases/gone/branches/main/export"
        Reader(api, path).end()  # it is all ingested, and every part has had its memory
        before = anonymous_kib(pid)
        readers = [Reader(api, path) for _ in range(4)]
        refused = api.ask("GET", path, expect=503)
        check(refused.code == "AGAIN", f"{refused.body}")
        most = anonymous_kib(pid)
        whole = {reader.end() for reader in readers}
        most = max(most, anonymous_kib(pid)) - before
        check(len(whole) == 1 and len(whole.pop()) == readers[0].size > 20e6, "cut short")
        t.note(f"4 exports of {readers[0].size >> 20} MiB at once: {most / 1024:.1f} MiB more memory")
        check(most < 20 * 1024 * KEPT, "memory grows with what is exported")

        # What cannot go on is cut, and no part passes for the whole.
        reader = Reader(api, path)
        api.delete("/databases/gone")
        came = len(reader.end())
        check(0 < came < reader.size, f"{came} of {reader.size} bytes of a dropped database")
        c.shell(BIG, db="gone")
        reader = Reader(api, path)
        c.stop(PAGESERVER)  # SIGTERM: exit status 0
        came = len(reader.end())
        check(0 < came < reader.size, f"{came} of {reader.size} bytes of a daemon that ended")


# -- what it withstands ----------------------------------------------------------------------------


def talk(port, data, seconds=10):
    """Sends bytes, hears all until the end."""
    with socket.create_connection(("127.0.0.1", port), seconds) as s:
        s.sendall(data)
        heard = b""
        try:
            while got := s.recv(65536):
                heard += got
        except ConnectionResetError:
            pass
        return heard


def request(method, path, body=b"", *headers, host="127.0.0.1"):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@test("/v1 and hostile input: bodies too long, deep, wrong, no JSON; names that are paths; bad escapes; other "
      "types, Hosts and Origins; half requests by the hundred; pipelines: a status and a sentence, nothing changed",
      60)
def http_hostile(t):
    with t.cluster() as c:
        api = Api(c)
        port = api.port
        api.post("/databases", {"name": "shop"})
        js = "Content-Type: application/json"

        def status(data):
            heard = talk(port, data)
            check(heard.startswith(b"HTTP/1.1 "), f"{data[:60]}: {heard[:100]}")
            return int(heard.split()[1])

        bodies = [b"{", b"[" * 60000, b'{"a":' * 10000, b"\xff\xfe", b"null", b'{"name":"x"',
                  b'{"name":["x"]}', b'{"name":"x","id":"' + b"0" * 200 + b'"}', b'{"nam":"x"}',
                  b'{"name":"x","id":"zz"}', b'{"name":"' + b"x" * 64 + b'"}', b'{"name":"../x"}',
                  b'{"name":"x"}{"name":"y"}', b'{"name":"\\ud800"}', b'{"name":"x\\u0000"}',
                  b'{"name":1e400}', b"{}", b'{"name":""}', b'{"name":"x","id":"' + b"0" * 32 + b'"}']
        for body in bodies:
            answer = api.ask("POST", "/databases", body=body, expect=400,
                             headers={"Content-Type": "application/json"})
            check(answer.code in ("INVAL", "NAME") and len(answer.sentence) > 10, f"{body[:40]}")
        api.ask("POST", "/databases", body=b"{" + b" " * 70000, expect=413,
                headers={"Content-Type": "application/json"})
        check(status(request("POST", "/v1/databases", b"", js, "Content-Length: 99999999999")) == 413,
              "a body of 100 GB was waited for")
        for kind in (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
                     "application/jsonx"):
            headers = {"Content-Type": kind} if kind else {}
            answer = api.ask("POST", "/databases", body=b'{"name":"evil"}', expect=415, headers=headers)
            check(answer.code == "MEDIA_TYPE", f"{kind}")
            api.ask("PATCH", MAIN, body=b'{"protected":true}', expect=415, headers=headers)
        api.ask("GET", "/databases", body=b"{}", expect=400)
        api.ask("DELETE", "/databases/shop", body=b'{"x":1}', expect=400,
                headers={"Content-Type": "application/json"})

        # A browser asks before it sends JSON or DELETE to another site, and gets no permission.
        asked = talk(port, request("OPTIONS", "/v1/databases/shop", b"",
                                   "Origin: http://127.0.0.1:8000",
                                   "Access-Control-Request-Method: DELETE"))
        check(b" 405 " in asked and b"access-control" not in asked.lower(), f"{asked}")
        for bad in ("http://evil.example", "null", "https://127.0.0.1"):
            check(status(request("DELETE", "/v1/databases/shop", b"", f"Origin: {bad}")) == 403, bad)
        for bad in ("evil.example", "127.0.0.1.evil.example", "localhost@evil"):
            check(status(request("DELETE", "/v1/databases/shop", host=bad)) == 403, bad)
        check(api.get("/databases/shop")["name"] == "shop", "somebody dropped it")

        for path in ("/databases/..", "/databases/%2e%2e", "/databases/a%2fb", "/databases/%00",
                     "/databases/%zz", "/databases/%", "/databases/%ff", "/databases/a%0ab",
                     "/databases/" + "a" * 5000, "/databases/%C3%A4", "/databases/a'b"):
            api.get(path, 400)
        for path in ("/", "/x", "/databases/", "/databases//branches", "/databases/a/b/c/d/e/f/g/h",
                     "/databases/shop/"):
            check(status(request("GET", f"/v1{path}")) in (400, 404), path)
        check(status(request("GET", "/v1/databases?" + "&".join(f"a{i}" for i in range(100)))) == 400,
              "a hundred arguments")
        check(status(request("GET", "/v1/" + "a" * 60000)) in (414, 431, 400), "a path of 60 kB")
        check(status(request("GET", "/v1/status", b"", *(f"X-{i}: {'y' * 100}" for i in range(1000))))
              in (431, 413, 400), "100 kB of headers")
        for method in ("PUT", "TRACE", "get", "BREW", "DELETE"):
            answer = api.ask(method, "/databases", expect=405)
            check(answer.headers["Allow"] == "GET, HEAD, POST", method)

        # Nothing that is cut off or smuggled behind a refusal is carried out.
        smuggled = request("DELETE", "/v1/databases/shop")
        for first in (request("PATCH", "/v1/databases", b"x" * 20, js)[:-20],
                      request("POST", "/v1/databases", b"", "Transfer-Encoding: chunked",
                              "Content-Length: 3"),
                      request("POST", "/metrics", b"x" * 30)[:-30],
                      request("PUT", "/v1/x", b"", f"Content-Length: {len(smuggled)}", host="evil")):
            talk(port, first.replace(b"Connection: close\r\n", b"") + smuggled +
                 b"x" * 100)
        check(api.get("/databases/shop")["name"] == "shop", "a smuggled request was carried out")

        # 80 half requests hold nothing up; 300 whole ones on one connection are all answered.
        halves = []
        for i in range(80):
            s = socket.create_connection(("127.0.0.1", port), 10)
            s.sendall(request("POST", "/v1/databases", b"x" * 50, js)[:40 + i % 60])
            halves.append(s)
        api.get("/databases")
        check(c.metrics()["corallite_http_connections"] >= 80, "the connections are not counted")
        many = b"GET /v1/databases/shop/pins HTTP/1.1\r\nHost: localhost\r\n\r\n" * 299
        heard = talk(port, many + request("GET", "/v1/databases/shop/pins"), 30)
        check(heard.count(b'{"pins":[]}') == 300, f"{heard.count(b'pins')} of 300 answers")

        # More connections than there may be: the rest wait outside; and whenever all are closed at once,
        # the next one is answered.
        for _ in range(3):
            halves += [socket.create_connection(("127.0.0.1", port), 10) for _ in range(95)]
            time.sleep(0.2)  # it takes what it will take
            ends = run(["ss", "-tnpH", "state", "established", f"( sport = :{port} )"], "", 10).stdout
            held = ends.count(f"pid={c.pid(PAGESERVER)},")
            check(80 < held <= 120, f"{held} connections are held")
            for s in halves:
                s.close()
            c.metrics()
            halves = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(30)]
        for s in halves:
            s.close()
        until(lambda: c.metrics()["corallite_http_connections"] <= 2, 20, "they are gone")
        descriptors = c.metrics()["process_open_fds"]
        check(descriptors < 100, f"{descriptors} descriptors are left open")
        check([d["name"] for d in api.get("/databases")["databases"]] == ["shop"], "something was made")
        check(c.process[PAGESERVER].poll() is None, "the pageserver ended")


@test("requests of /v1 that wait for the safekeepers do not hold up /metrics and /healthz; those beyond the bound "
      "are told so; all that were taken are answered when the safekeepers go on", 60)
def http_waiting(t):
    with t.cluster() as c:
        api = Api(c)
        commits(c, 1)
        answers = []

        def ask():
            answer = api.raw("GET", f"/v1{MAIN}/moment")
            answers.append((answer.status, answer.read()))

        for node in NODES:
            os.kill(c.pid(node), signal.SIGSTOP)
        try:
            threads = [threading.Thread(target=ask) for _ in range(90)]
            for thread in threads:
                thread.start()
            until(lambda: any(status == 503 for status, _ in answers), 20, "too many are refused")
            taken = len(threads) - len(answers)
            for _ in range(5):
                c.metrics()
                probe = http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)
                probe.request("GET", "/healthz")
                check(probe.getresponse().status in (200, 503), "no health")
            check(any(thread.is_alive() for thread in threads), "nothing waits")
        finally:
            for node in NODES:
                os.kill(c.pid(node), signal.SIGCONT)
        for thread in threads:
            thread.join(40)
        good = sum(status == 200 for status, _ in answers)
        t.note(f"90 at once without a quorum: {good} answered afterwards, "
               f"{len(answers) - good} refused at once")
        check(len(answers) == 90 and good >= 60, f"{good} of {taken} that were taken")
        for status, body in answers:
            check(status == 200 or json.loads(body)["error"]["code"] == "BUSY", f"{status} {body}")

        if not t.slow():  # the server waits 8 s before it gives up
            return
        for node in NODES[:2]:
            c.kill9(node)
        answer = api.post("/databases", {"name": "late"}, 503)
        check(answer.code == "NO_QUORUM" and "2 are needed" in answer.sentence, answer.sentence)
        check(answer.headers["Retry-After"] == "1", "no Retry-After")


# -- what watches it -------------------------------------------------------------------------------


def documented(section):
    """{metric: type} of a section's table in docs/monitoring.md."""
    with open(os.path.join(ROOT, "docs", "monitoring.md")) as f:
        text = f.read().split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([a-z_]+)(?:\{([a-z,]+)\})?` \| (\w+) \| ([^|]+) \| ([^|]+) \|$", text, re.M)
    check(len(rows) == text.count("\n| `"), f"{section}: a row is not understood")
    return {name: (kind, set(labels.split(",")) if labels else set())
            for name, labels, kind, _, _ in rows}


def scrape(cluster, node):
    answer = http.client.HTTPConnection("127.0.0.1", cluster.http[node], timeout=10)
    answer.request("GET", "/metrics")
    return answer.getresponse().read().decode()


def printed(text):
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
    labels = {name: set() for name in kinds}
    for name, inner in re.findall(r"^(\w+)\{(.*)\} ", text, re.M):
        labels.setdefault(re.sub("_bucket$", "", name), set()).update(
            label for label in re.findall(r'(\w+)="', inner) if label != "le")
    return {name: (kind, labels[name]) for name, kind in kinds.items()}


@test("docs/monitoring.md lists what /metrics of both daemons prints, both ways, with types and labels; promtool "
      "check metrics says nothing about either, empty and under load", 60)
def metrics_documented(t):
    t.needs("promtool")

    def check_all(c, when):
        for node in (PAGESERVER, *NODES):
            text = scrape(c, node)
            done = run(["promtool", "check", "metrics"], text, 30)
            check(done.returncode == 0 and not done.stdout and not done.stderr,
                  f"{node}, {when}: {done.stdout}{done.stderr}")
        return text

    with t.cluster() as c:
        api = Api(c)
        check_all(c, "empty")
        for name in ("shop", "quo.te"):
            api.post("/databases", {"name": name})
        end = time.monotonic() + 2
        load = threading.Thread(target=lambda: [commits(c, 20) for _ in iter(
            lambda: time.monotonic() < end, False)])
        load.start()
        while load.is_alive():
            api.get(f"{MAIN}/moment")
            api.get("/databases/none", 404)
            check_all(c, "under load")
        for node, section in ((PAGESERVER, "Of the pageserver"), (1, "Of a safekeeper")):
            wanted = documented("Of both daemons") | documented(section)
            until(lambda: "timeline_lag_bytes{" in scrape(c, PAGESERVER), 10, "lag by branch")
            got = printed(scrape(c, node))
            check(set(got) == set(wanted), f"{node}: {set(got) ^ set(wanted)} are not on both sides")
            wrong = {name: (got[name], wanted[name]) for name in got if got[name] != wanted[name]}
            check(not wrong, f"{node}: {wrong}")

        # They count what happened.
        text = scrape(c, PAGESERVER)
        for sample in (r'corallite_http_requests_total\{code="4xx"\} [1-9]',
                       r'corallite_requests_total\{type="RESOLVE"\} [1-9]',
                       r'corallite_requests_total\{type="CREATE"\} [2-9]',
                       r'corallite_pageserver_ingest_bytes_total [1-9]',
                       r'corallite_pageserver_store_write_duration_seconds_count [1-9]',
                       r'corallite_http_request_duration_seconds_count [1-9]',
                       r'process_resident_memory_bytes [1-9]\d{6}',
                       r'corallite_received_bytes_total [1-9]',
                       r'corallite_pageserver_safekeeper_connected\{node="3"\} 1'):
            check(re.search(f"^{sample}", text, re.M), f"there is no {sample}")
        text = scrape(c, 1)
        syncs = int(re.search(r"^corallite_safekeeper_syncs_total (\d+)", text, re.M)[1])
        timed = int(re.search(r"sync_duration_seconds_count (\d+)", text)[1])
        check(0 < timed <= syncs, f"{timed} of {syncs} syncs are timed")
        c.kill9(2)
        until(lambda: 'safekeeper_connected{node="2"} 0' in scrape(c, PAGESERVER), 10,
              "a safekeeper that is gone is told")


# -- what is written about it ----------------------------------------------------------------------


@test("every example of docs/http-api.md, run as it stands", 60)
def http_documentation(t):
    t.needs("curl")
    with open(os.path.join(ROOT, "docs", "http-api.md")) as f:
        blocks = re.findall(r"^```sh\n(.*?)^```$", f.read(), re.M | re.S)
    check(len(blocks) >= 6, "where are the examples?")
    with t.cluster() as c:
        script = "".join(blocks).replace("127.0.0.1:6401", f"127.0.0.1:{c.http[PAGESERVER]}", 1)
        check("6401" not in script, "an example names the port beside the first")
        env = c.env(PATH=f"{BIN}:{os.environ['PATH']}")
        process = popen(["sh", "-eux"], stdin=-1, stdout=-1, stderr=-1, text=True, env=env, cwd=t.dir)
        out, err = process.communicate(script, timeout=50)
        check(process.returncode == 0, f"{err[-600:]}")
        answers = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        asked = len(re.findall(r"^curl(?!.* -o )", script, re.M))
        check(len(answers) == asked, f"{len(answers)} answers to {asked} requests: {out[-600:]}")
        wrong = [a for a in answers if "error" in a]
        check(len(wrong) == 1 and "nothing" in wrong[0]["error"]["sentence"], f"{wrong}")
        check("1|2.5" in out.splitlines(), "the exported file has another row")
        t.note(f"{asked + 1} requests in {len(blocks)} examples")
