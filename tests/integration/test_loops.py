"""Pages are read on several loops (--loops) while everything that can happen to a timeline happens."""

import copy
import json
import os
import random
import threading
import time

from lib.cluster import BIN, PAGESERVER, SLOWER, check, run, until
from lib.frames import COMPUTE, ERROR, GET_PAGES, Rude, field, frame, hello
from lib.registry import test

PAGES_ANSWER, PAGE = 73, 4096
LOOPS = 3
READERS = 6
FILL = ("CREATE TABLE t(id INTEGER PRIMARY KEY, b); WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i "
        "WHERE x < 150) INSERT INTO t SELECT x, randomblob(3000) FROM i;")
CHANGE = "UPDATE t SET b = randomblob(3000) WHERE id % 7 = {};"


def corallite(c, *args):
    done = run([os.path.join(BIN, "corallite"), *args], "", 60, c.env())
    check(done.returncode == 0, f"corallite {' '.join(args)}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


class Moment:
    """A timeline at an LSN, and the bytes that it has there, from an export."""

    def __init__(self, c, ref, lsn=None):
        branch = ref.split("@")[0]
        name = branch.split("/")[1] if "/" in branch else "main"
        row = next(b for b in json.loads(corallite(c, "branch", "list", branch.split("/")[0], "--json")) if b["branch"] == name)
        self.timeline = bytes.fromhex(row["timeline"])
        self.lsn = int(lsn or row["head_lsn"], 16)
        self.what = f"{branch} at {self.lsn:x}"
        path = os.path.join(c.dir, "truth.db")
        corallite(c, "export", f"{branch}@lsn:{self.lsn:016x}", "-o", path)
        with open(path, "rb") as f:
            self.bytes = f.read()
        os.unlink(path)
        self.going = self.gone = False  # its drop, or the cut, has begun; it is done

    def request(self, rng, request):
        """Page 1 is left out: an export counts in it."""
        pages = [rng.randrange(2, len(self.bytes) // PAGE + 1) for _ in range(rng.choice((1, 1, 4, 16)))]
        message = (field(1, self.timeline) + field(2, self.lsn) + field(4, 20000)
                   + b"".join(field(5, p) for p in pages))
        return frame(GET_PAGES, message, request=request), b"".join(self.bytes[(p - 1) * PAGE:p * PAGE] for p in pages)


class Readers:
    """Threads with a connection each, that ask for pages of any moment there is and compare every answer."""

    def __init__(self, c, moments):
        self.c = c
        self.moments = moments
        self.may_break = threading.Event()  # the pageserver is being stopped or killed
        self.over = threading.Event()
        self.wrong = []
        self.answers = [0] * READERS
        self.refused = 0
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(READERS)]
        for thread in self.threads:
            thread.start()

    def fail(self, text):
        self.wrong.append(text)
        self.over.set()

    def run(self, no):
        rng = random.Random(no)
        while not self.over.is_set():
            try:
                self.connection(no, rng)
            except (OSError, TimeoutError) as e:
                if not self.may_break.is_set():
                    self.fail(f"a reader's connection: {e}")
                time.sleep(0.02)

    def connection(self, no, rng):
        s = Rude(("127.0.0.1", self.c.port[PAGESERVER]), timeout=40 * SLOWER)
        try:
            s.send(hello(COMPUTE))
            if s.receive() is None:
                raise OSError("no greeting")
            while not self.over.is_set():
                self.ask(no, rng, s)
        finally:
            s.close()

    def ask(self, no, rng, s):
        """A few requests at a time; one that waits for the log does not hold up the others."""
        wanted = {}
        for request in range(1, rng.choice((1, 1, 8)) + 1):
            m = rng.choice(self.moments)
            bytes_, truth = m.request(rng, request)
            wanted[request] = (m, m.gone, truth)
            s.send(bytes_)
        while wanted:
            answer = s.receive_of()
            if answer is None:
                raise OSError("the connection ended")
            kind, request, body = answer
            m, gone, truth = wanted.pop(request)
            if kind == ERROR:
                self.refused += 1
                if not m.going and not self.may_break.is_set():
                    self.fail(f"{m.what} was refused: {body[:200]!r}")
            elif kind != PAGES_ANSWER or body[-len(truth):] != truth:
                self.fail(f"{m.what}: frame {kind} with other bytes")
            elif gone:
                self.fail(f"{m.what} was answered after it was gone")
            self.answers[no] += 1

    def check(self):
        check(not self.wrong, "; ".join(self.wrong[:3]))

    def some(self, n=30):
        """Until each of them has read on for a while."""
        before = list(self.answers)
        until(lambda: self.wrong or all(a >= b + n for a, b in zip(self.answers, before)), 60, "all readers read on")
        self.check()

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join(60 * SLOWER)
        self.check()


def gone(readers, moments, action):
    """What makes moments unreadable: until it is done they may be refused, then they must be."""
    for m in moments:
        m.going = True
    action()
    for m in moments:
        m.gone = True
    readers.some(10)
    readers.moments = [m for m in readers.moments if m not in moments]


def a_round(c, readers, n):
    """Commits, a branch, its restore and its drop; a database of a name that was purged."""
    c.shell(CHANGE.format(n % 7))
    readers.moments.append(Moment(c, "shop"))
    past = random.choice([m for m in readers.moments if m.what.startswith("shop at")])
    corallite(c, "branch", "create", f"shop/b{n}", "--at", f"lsn:{past.lsn:016x}")
    readers.moments.append(Moment(c, f"shop/b{n}"))
    c.shell(CHANGE.format((n + 3) % 7), db=f"shop/b{n}")
    old = Moment(c, f"shop/b{n}")
    readers.moments.append(old)
    readers.some()
    corallite(c, "restore", f"shop/b{n}", "--to", f"lsn:{past.lsn:016x}", "--keep-as", f"kept{n}", "--yes")
    readers.moments.append(Moment(c, f"shop/b{n}"))
    readers.some()
    of_b = [m for m in readers.moments if m.timeline == readers.moments[-1].timeline]
    gone(readers, of_b, lambda: corallite(c, "branch", "drop", f"shop/b{n}", "--yes"))
    c.shell(FILL, db="temporary")
    temporary = Moment(c, "temporary")
    readers.moments.append(temporary)
    readers.some()
    gone(readers, [temporary], lambda: corallite(c, "db", "drop", "temporary", "--purge", "--yes"))


def metrics_add_up(c):
    """Each request is counted once, on whatever loop; those that have gone count no more."""
    rng = random.Random(1)
    m = Moment(c, "shop")
    until(lambda: c.metrics()["corallite_pageserver_sessions"] == 0, 20, "no session is left")
    before = c.metrics()["corallite_pageserver_page_requests_total"]
    clients = [Rude(("127.0.0.1", c.port[PAGESERVER]), timeout=40 * SLOWER) for _ in range(6)]
    for s in clients:
        s.greet(COMPUTE)
    for _ in range(20):
        for s in clients:
            s.send(m.request(rng, 9)[0])
        for s in clients:
            check(s.receive()[0] == PAGES_ANSWER, "a quiet request was refused")
    found = c.metrics()
    check(found["corallite_pageserver_page_requests_total"] - before == 120, "120 requests are counted as "
          f"{found['corallite_pageserver_page_requests_total'] - before:.0f}")
    check(found["corallite_pageserver_sessions"] == 6, f"{found['corallite_pageserver_sessions']} sessions instead of 6")
    check(found["corallite_pageserver_loops"] == LOOPS, "the number of loops is not told")
    for s in clients:
        s.close()
    until(lambda: c.metrics()["corallite_pageserver_sessions"] == 0, 20, "the sessions are gone")


@test("readers on several loops get every page right, of the past too, while branches are made, restored and dropped, databases "
      "purged, garbage collected, and the pageserver is stopped and killed; what is gone is refused; the metrics add up", 240)
def pages_on_several_loops(t):
    with t.cluster() as c:
        plain = c.command
        c.command = lambda node: plain(node) + (["--loops", str(LOOPS)] if node == PAGESERVER else [])
        for db in ("shop", "aged"):
            c.shell(FILL, db=db)
        for n in range(3):
            c.shell(CHANGE.format(n), db="aged")
        c.stop(PAGESERVER)  # and so nobody is known to have read the past of "aged"
        c.start(PAGESERVER)
        began = time.monotonic()
        until(c.knows_all, 20, "the pageserver has its connections")
        readers = Readers(c, [Moment(c, "shop"), Moment(c, "aged")])
        n = 0
        while time.monotonic() - began < 65:  # before that nothing is collected (docs/retention.md)
            a_round(c, readers, n)
            n += 1
            readers.moments = readers.moments[:12] + readers.moments[12:][-6:]
        handed = c.metrics()["corallite_pageserver_handed_over_total"]
        check(handed > 0, "no connection had moved to another loop")

        # The past of "aged" goes, which nobody has read; its newest moment is read meanwhile.
        log = json.loads(corallite(c, "log", "aged", "-n", "3", "--json"))
        newest = next(m for m in readers.moments if m.what.startswith("aged"))
        old = [copy.copy(newest) for _ in log[1:]]
        for m, row in zip(old, log[1:]):
            m.lsn = int(row["lsn"], 16)
            m.what = f"collected aged at {m.lsn:x}"
        corallite(c, "gc", "aged", "--before", log[0]["time"], "--yes")
        check(c.metrics()["corallite_pageserver_gc_versions_total"] > 0, "nothing was collected")
        gone(readers, old, lambda: readers.moments.extend(old))
        readers.some()

        for how in ("SIGTERM", "kill -9", "SIGTERM", "kill -9"):
            readers.may_break.set()
            if how == "SIGTERM":
                c.stop(PAGESERVER, 20)
            else:
                c.kill9(PAGESERVER)
            c.start(PAGESERVER)
            until(c.knows_all, 20, "the pageserver has its connections again")
            readers.some()
            readers.may_break.clear()
            readers.some()
            a_round(c, readers, n)
            n += 1
        total = sum(readers.answers)
        readers.end()
        metrics_add_up(c)
        t.note(f"{n} rounds, {total} requests answered, {readers.refused} of them with a refusal, {handed:.0f} handed to the main loop before the restarts")
