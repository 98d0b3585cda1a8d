"""The same random SQL on Corallite and on plain SQLite files: codes, rows, and in the end every byte.

A seed decides the operations; it is printed. DIFFERENTIAL_SEED=n repeats one run and only that,
DIFFERENTIAL_SECONDS=n runs for longer, DIFFERENTIAL_LOG=file keeps the operations of the last run.
"""

import glob
import os
import random
import time

from lib.cluster import SLOWER, Failure, check
from lib.registry import test
from lib.sides import Side, log_has_hole

TABLES = [f"t{i}" for i in range(5)]
COLUMNS = ("a", "b", "c")
CREATES = (
    "CREATE TABLE {t}(a INTEGER PRIMARY KEY, b, c)",
    "CREATE TABLE {t}(a INTEGER PRIMARY KEY AUTOINCREMENT, b, c DEFAULT 7)",
    "CREATE TABLE {t}(a, b, c)",
    "CREATE TABLE {t}(a PRIMARY KEY, b, c) WITHOUT ROWID",
    "CREATE TABLE {t}(a INT UNIQUE, b TEXT COLLATE NOCASE, c BLOB CHECK(c IS NULL OR length(c) < 90000))",
    "CREATE TABLE {t}(a INTEGER PRIMARY KEY, b REFERENCES {u}(a) ON DELETE CASCADE, c)",
    "CREATE TABLE {t}(a, b, c, PRIMARY KEY(a, b)) WITHOUT ROWID",
    "CREATE TABLE {t} AS SELECT a, b, c FROM {u}",
    "CREATE VIRTUAL TABLE {t} USING fts5(a, b, c)",
    "CREATE VIRTUAL TABLE {t} USING rtree(a, b, c)",
)
DDL = (
    "DROP TABLE {t}", "DROP TABLE IF EXISTS {t}",
    "CREATE INDEX IF NOT EXISTS i_{t}_b ON {t}(b)", "CREATE INDEX i_{t}_cb ON {t}(c, b)",
    "CREATE UNIQUE INDEX i_{t}_u ON {t}(a, b)", "CREATE INDEX i_{t}_p ON {t}(a) WHERE b > 5",
    "CREATE INDEX i_{t}_x ON {t}(length(c))",
    "DROP INDEX IF EXISTS i_{t}_b", "DROP INDEX i_{t}_cb", "DROP INDEX IF EXISTS i_{t}_u",
    "ALTER TABLE {t} RENAME TO {u}", "ALTER TABLE {t} ADD COLUMN d DEFAULT 'long enough to see'",
    "ALTER TABLE {t} DROP COLUMN d", "ALTER TABLE {t} RENAME COLUMN d TO e",
    "CREATE VIEW IF NOT EXISTS v_{t} AS SELECT a, b FROM {t}", "DROP VIEW v_{t}",
    "CREATE TRIGGER IF NOT EXISTS g_{t} AFTER INSERT ON {t} BEGIN "
    "UPDATE {u} SET b = b + 1 WHERE a % 5 = 1; END",
    "DROP TRIGGER IF EXISTS g_{t}", "REINDEX", "REINDEX {t}", "ANALYZE", "ANALYZE {t}",
)
DML = (
    "UPDATE {t} SET b = b + ?1 WHERE a % 7 = ?1 % 7", "UPDATE {t} SET c = ?2 WHERE a = ?1",
    "UPDATE OR IGNORE {t} SET a = a + ?1 WHERE b > ?1", "UPDATE {t} SET c = b, b = c",
    "UPDATE {t} SET c = zeroblob(abs(?1) % 60000) WHERE a % 11 = 3",
    "DELETE FROM {t} WHERE a % 3 = ?1 % 3", "DELETE FROM {t}", "DELETE FROM {t} WHERE a = ?1",
    "INSERT INTO {t}(b, c) SELECT c, b FROM {u} LIMIT 200", "INSERT OR IGNORE INTO {t} SELECT * FROM {u}",
    "INSERT INTO {t}(a, b, c) VALUES(?1, 1, ?2) ON CONFLICT DO UPDATE SET c = excluded.c",
    "REPLACE INTO {t}(a, b, c) VALUES(?1, ?1, ?2)",
    "WITH RECURSIVE i(x) AS (SELECT ?1 UNION ALL SELECT x + 1 FROM i LIMIT 300) "
    "INSERT OR IGNORE INTO {t}(a, b, c) SELECT x, x % 10, printf('%0*d', x % 400, x) FROM i",
    "INSERT INTO {t}(a, b, c) VALUES(?1, 2, ?2) RETURNING a, length(c)",
)
SELECTS = (
    "SELECT * FROM {t}", "SELECT count(*), sum(a), sum(length(c)) FROM {t}",
    "SELECT a, b FROM {t} WHERE b BETWEEN 2 AND 6 ORDER BY c, a LIMIT 50",
    "SELECT x.a, y.b FROM {t} x JOIN {u} y ON x.b = y.b ORDER BY 1, 2 LIMIT 80",
    "SELECT b, count(*), max(c) FROM {t} GROUP BY b ORDER BY b", "SELECT * FROM v_{t}",
    "SELECT name, rootpage, sql FROM sqlite_master ORDER BY name",
    "PRAGMA integrity_check", "PRAGMA quick_check", "PRAGMA foreign_key_check",
    "SELECT * FROM {t} WHERE {t} MATCH '1*'",
)
PRAGMAS = (
    "page_count", "freelist_count", "page_size", "auto_vacuum", "user_version", "schema_version",
    "user_version = {n}", "application_id = {n}", "cache_size = 1", "cache_size = 10",
    "cache_size = 2000", "cache_spill = 1", "synchronous = normal", "synchronous = full",
    "synchronous = off", "secure_delete = on", "secure_delete = off", "foreign_keys = on",
    "foreign_keys = off", "auto_vacuum = {m}", "incremental_vacuum({m})", "incremental_vacuum",
    "temp_store = memory", "temp_store = file", "shrink_memory", "page_size = 2048",
    "max_page_count", "recursive_triggers = on", "optimize",
    "defer_foreign_keys = on", "read_uncommitted = on", "main.journal_mode", "cell_size_check = on",
)
# What both may answer differently and that is no difference: figures of checkpoints and of mmap.
QUIET = ("PRAGMA wal_checkpoint", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_checkpoint(FULL)",
         "PRAGMA wal_autocheckpoint = 3", "PRAGMA mmap_size = 1000000")


class Sides:
    """Processes by twos: one on Corallite, one on plain files. Every request goes to both."""

    def __init__(self, t, c, folder, log):
        self.t, self.c, self.folder, self.log = t, c, folder, log
        self.pairs = {}
        self.n, self.asked, self.failed = 0, 0, 0
        self.checkpointed = False  # in this history
        self.slowest = (0.0, None)
        self.noise = open(os.path.join(folder, "noise.log"), "ab")

    def start(self, p):
        env = self.c.env(CORALLITE_LOG="off")
        self.pairs[p] = (Side("corallite", env, self.noise),
                         Side(self.folder, dict(os.environ), self.noise))

    def end(self, p, kill=False):
        self.note(p, ("end", kill))
        for side in self.pairs.pop(p):
            side.end(kill)

    def note(self, p, request):
        self.n += 1
        self.log.append((self.n, p, request))

    def do(self, p, *request):
        """The answer that both gave."""
        self.note(p, request)
        if request[0] in ("open", "attach"):
            self.parted_by_a_hole()
        ours, plain = self.pairs[p]
        for side in (ours, plain):
            side.ask(request)
        wanted = plain.answer()
        got = ours.answer()
        self.slowest = max(self.slowest, (ours.taken, request[:3]), key=lambda x: x[0])
        self.asked += 1
        self.failed += wanted[0] != "ok"
        self.checkpointed |= request[0] == "quiet" and "checkpoint" in request[2]
        if got != wanted and self.parted_by_a_checkpoint(got, wanted):
            raise Parted(f"operation {self.n}: the plain file was checkpointed (docs/pragmas.md)")
        if got != wanted and not self.moved_by_a_checkpoint(request, got, wanted):
            raise Failure(f"operation {self.n} of process {p}: {short(request)}: "
                          f"Corallite: {difference(got, wanted)}; SQLite: {difference(wanted, got)}")
        return wanted

    def moved_by_a_checkpoint(self, request, got, wanted):
        """docs/pragmas.md: a file's next writer after a checkpoint moves data_version, whether it commits or not."""
        return self.checkpointed and request[0] == "version" and (got, wanted) == (("ok", False), ("ok", True))


    def parted_by_a_checkpoint(self, got, wanted):
        """The same: a file's log that began anew after a checkpoint refuses the write of an open read transaction, though nobody
        has committed since. What follows is not the same any more."""
        return self.checkpointed and got[0] == "ok" and wanted[:2] == ("error", "SQLITE_BUSY_SNAPSHOT")

    def parted_by_a_hole(self):
        """The same: who opens a plain file that nobody has open recovers its log, and that may end before the newest commit."""
        for path in glob.glob(os.path.join(self.folder, "*-wal")):
            if log_has_hole(path):
                raise Parted(f"operation {self.n}: the plain file's log has a hole, its newest commits are not recovered "
                             "(docs/pragmas.md)")


def short(x, n=300):
    x = repr(x)
    return x if len(x) <= n else x[:n] + f"... ({len(x)})"


def difference(x, other):
    """Of two answers the part in which x differs."""
    if type(x) is type(other) and isinstance(x, (tuple, list)) and len(x) == len(other):
        for i, (a, b) in enumerate(zip(x, other)):
            if a != b:
                return f"[{i}] " + difference(a, b)
    if isinstance(x, bytes) and isinstance(other, bytes):
        at = next((i for i in range(min(len(x), len(other))) if x[i] != other[i]), -1)
        return f"{len(x)} bytes, differ at {at}"
    return short(x, 200)


class Run:
    """One random history."""

    def __init__(self, sides, seed, db, folder):
        self.sides, self.db, self.folder = sides, db, folder
        self.r = random.Random(seed)
        # Less than FULL is strict within a process only, as is said in compute-vfs/README.md.
        self.processes = self.r.choice((1, 2))
        self.connections = {}  # key -> process
        self.queries, self.blobs = [], []
        self.attached = {}
        self.open_ones = set()  # in a transaction
        self.next = 0

    # -- parts

    def sql(self, pattern, schema=""):
        t, u = self.r.choice(TABLES), self.r.choice(TABLES)
        return pattern.format(t=t, u=u, n=self.r.randrange(1 << 20), m=self.r.randrange(12))

    def value(self):
        r, kind = self.r, self.r.randrange(10)
        if kind < 3:
            return r.randrange(-1000, 1000)
        if kind < 5:
            return r.random() * 100
        if kind < 7:
            return "text %d " % r.randrange(100) * r.randrange(1, 60)
        if kind < 8:
            return None
        size = r.choice((10, 100, 1000, 5000, 20000, 80000))
        return r.randbytes(r.randrange(size))

    def open(self, p, mode=""):
        key = f"c{self.next}"
        self.next += 1
        if self.sides.do(p, "open", key, self.db, mode, self.r.choice((0, 128)))[0] == "ok":
            self.connections[key] = p
        return key

    def close(self, key):
        p = self.connections.pop(key)
        self.queries = [q for q in self.queries if q[0] != key]
        self.blobs = [b for b in self.blobs if b[0] != key]
        self.attached.pop(key, None)
        self.sides.do(p, "close", key)

    def pick(self):
        """A connection. Seldom one of another process than the one that may be writing: hearing that
        another process writes takes as long as a lease lasts."""
        keys = sorted(self.connections)
        holders = self.open_ones | {b[0] for b in self.blobs}
        writing = {self.connections[k] for k in holders if k in self.connections}
        if len(writing) == 1 and self.r.random() < 0.995:
            keys = [k for k in keys if self.connections[k] in writing]
        return self.r.choice(keys)

    def do(self, key, name, *args):
        answer = self.sides.do(self.connections[key], name, key, *args)
        if name == "execute" and answer[0] == "ok":
            (self.open_ones.add if answer[1][3] else self.open_ones.discard)(key)
        return answer

    def birth(self):
        r = self.r
        self.sides.checkpointed = False
        self.sides.start(0)
        self.sides.start(1)
        sizes = (512, 1024, 4096, 4096, 8192, 16384, 65536)
        encoding = r.choice(("UTF-8", "UTF-8", "UTF-16le", "UTF-16be"))
        self.sides.do(0, "open", "other", self.db + "-other", "", 0)
        self.sides.do(0, "birth", "other", r.choice(sizes), 0, encoding)
        self.sides.do(0, "execute", "other", "CREATE TABLE log(n INTEGER PRIMARY KEY, v)")
        self.sides.do(0, "close", "other")
        key = self.open(0)
        self.do(key, "birth", r.choice(sizes), r.choice((0, 0, 1, 2)), encoding)
        for t in TABLES:
            self.do(key, "execute", r.choice(CREATES[:5]).format(t=t))
        self.do(key, "execute", self.sql("PRAGMA cache_size = 10"))
        for p in (0, 1, 1):
            self.open(p % self.processes)

    # -- operations

    def change(self, key):
        sql = self.sql(self.r.choice(DML))
        values = (self.r.choice((self.r.randrange(40), self.r.randrange(-50, 3000))), self.value())
        self.do(key, "execute", sql, values[:2 if "?2" in sql else 1 if "?1" in sql else 0])

    def op_dml(self):
        key = self.pick()
        for _ in range(self.r.randrange(1, 6)):
            self.change(key)

    def op_insert(self):
        rows = [(self.value(), self.value(), self.value())
                for _ in range(self.r.choice((1, 3, 40)))]
        self.do(self.pick(), "many", self.sql("INSERT OR IGNORE INTO {t}(a, b, c) VALUES(?, ?, ?)"),
                rows)

    def op_select(self):
        self.do(self.pick(), "execute", self.sql(self.r.choice(SELECTS)))

    def op_create(self):
        key = self.pick()
        temp = self.r.random() < 0.15
        sql = self.sql(self.r.choice(CREATES))
        self.do(key, "execute", sql.replace("CREATE TABLE", "CREATE TEMP TABLE") if temp else sql)

    def op_ddl(self):
        self.do(self.pick(), "execute", self.sql(self.r.choice(DDL)))

    def op_pragma(self):
        pragma = self.r.choice(PRAGMAS)
        if self.processes == 1 or not pragma.startswith("synchronous"):
            self.do(self.pick(), "execute", "PRAGMA " + self.sql(pragma))

    def op_quiet(self):
        self.do(self.pick(), "quiet", self.r.choice(QUIET))

    def op_transaction(self):
        key = self.pick()
        self.do(key, "execute", self.r.choice((
            "BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE", "SAVEPOINT a", "SAVEPOINT b",
            "RELEASE a", "RELEASE b", "ROLLBACK TO a", "ROLLBACK TO b")))

    def op_end(self):
        holders = sorted(self.open_ones & set(self.connections))
        key = self.r.choice(holders) if holders and self.r.random() < 0.9 else self.pick()
        self.do(key, "execute", self.r.choice(("COMMIT", "COMMIT", "ROLLBACK")))

    def op_end_all(self):
        """So that nobody is refused for ever."""
        for key in sorted(self.open_ones & set(self.connections)):
            self.do(key, "execute", self.r.choice(("COMMIT", "COMMIT", "ROLLBACK")))

    def op_whole_transaction(self):
        key = self.pick()
        self.do(key, "execute", self.r.choice(("BEGIN", "BEGIN IMMEDIATE")))
        for _ in range(self.r.randrange(1, 5)):
            if self.r.random() < 0.3:
                self.do(key, "execute", self.r.choice(("SAVEPOINT s", "ROLLBACK TO s", "RELEASE s")))
            else:
                self.change(key)
        self.do(key, "execute", self.r.choice(("COMMIT", "COMMIT", "ROLLBACK")))

    def op_vacuum(self):
        key = self.pick()
        if self.r.random() < 0.5:
            self.do(key, "execute", f"PRAGMA auto_vacuum = {self.r.randrange(3)}")
        self.do(key, "execute", "VACUUM")

    def op_version(self):
        self.do(self.pick(), "version")

    def op_query(self):
        if self.queries and self.r.random() < 0.7:
            q = self.r.choice(self.queries)
            if self.r.random() < 0.3:
                self.queries.remove(q)
                self.do(q[0], "end_query", q[1])
            else:
                self.do(q[0], "more", q[1], self.r.randrange(1, 40))
            return
        key, name = self.pick(), f"q{self.next}"
        self.next += 1
        answer = self.do(key, "begin_query", name, self.sql(self.r.choice(SELECTS)),
                         self.r.randrange(1, 10))
        if answer[0] == "ok":
            self.queries.append((key, name))

    def op_blob(self):
        if self.blobs and self.r.random() < 0.7:
            b = self.r.choice(self.blobs)
            if self.r.random() < 0.25:
                self.blobs.remove(b)
                self.do(b[0], "blob_close", b[1])
            elif self.r.random() < 0.5:
                self.do(b[0], "blob_read", b[1], self.r.randrange(b[2] + 1), self.r.randrange(9000))
            else:
                at = self.r.randrange(b[2] + 1)
                self.do(b[0], "blob_write", b[1], at,
                        self.r.randbytes(self.r.randrange(max(1, b[2] - at) + 1)))
            return
        key, name, t = self.pick(), f"b{self.next}", self.r.choice(TABLES)
        self.next += 1
        found = self.do(key, "execute",
                        f"SELECT rowid FROM {t} WHERE typeof(c) = 'blob' ORDER BY 1 LIMIT 20")
        if found[0] != "ok" or not found[1][0]:
            return
        answer = self.do(key, "blob", name, "main", t, "c", self.r.choice(found[1][0])[0],
                         self.r.random() < 0.4)
        if answer[0] == "ok":
            self.blobs.append((key, name, answer[1]))

    def op_attach(self):
        """A plain file or a second database, and transactions over both."""
        key = self.pick()
        schema = self.attached.get(key)
        if not schema:
            if self.r.random() < 0.5:
                schema = "file"
                path = os.path.join(self.folder, f"{self.db}-{{}}-{self.connections[key]}")
                self.sides.note(self.connections[key], ("attach_file", key, path))
                answers = []
                for side, word in zip(self.sides.pairs[self.connections[key]], ("ours", "plain")):
                    side.ask(("attach_file", key, path.format(word), schema))
                    answers.append(side.answer())
                check(answers[0] == answers[1], f"attach a file: {answers}")
                ok = answers[0][0] == "ok"
            else:
                schema = "other"
                ok = self.do(key, "attach", self.db + "-other", schema)[0] == "ok"
            if ok:
                self.attached[key] = schema
            return
        if self.r.random() < 0.15:
            if self.do(key, "execute", f"DETACH {schema}")[0] == "ok":
                del self.attached[key]
            return
        self.do(key, "execute", f"CREATE TABLE IF NOT EXISTS {schema}.log(n INTEGER PRIMARY KEY, v)")
        self.do(key, "execute", self.r.choice(("BEGIN", "SAVEPOINT x")))
        for _ in range(self.r.randrange(1, 4)):
            self.do(key, "execute", f"INSERT INTO {schema}.log(v) VALUES(?)", (self.value(),))
            self.change(key)
            self.do(key, "execute", self.sql(f"INSERT INTO {schema}.log(v) SELECT a FROM {{t}} LIMIT 9"))
        self.do(key, "execute", self.r.choice(("COMMIT", "COMMIT", "ROLLBACK", "RELEASE x")))
        self.do(key, "execute", f"SELECT n, v FROM {schema}.log ORDER BY n DESC LIMIT 20")

    def op_copy_out(self):
        self.do(self.pick(), "copy_out", self.r.choice((-1, 1, 7)))

    def op_copy_in(self):
        size = self.do(self.pick(), "execute", "PRAGMA page_size")
        size = size[1][0][0][0] if size[0] == "ok" and self.r.random() < 0.8 else 2048
        script = "; ".join([self.sql(self.r.choice(CREATES[:4])) for _ in range(2)][:1] + [
            "CREATE TABLE t4(a INTEGER PRIMARY KEY, b, c)",
            f"INSERT INTO t4 VALUES({self.r.randrange(99)}, 3, zeroblob({self.r.randrange(70000)}))"])
        script = script.replace(" t4(", " t4x(").replace("INTO t4 ", "INTO t4x ")
        if " AS SELECT" not in script:
            self.do(self.pick(), "copy_in", script, size, self.r.choice((-1, 2)))

    def op_state(self):
        self.do(self.pick(), "state")

    def op_connect(self):
        if len(self.connections) >= 5 or (len(self.connections) > 2 and self.r.random() < 0.5):
            self.close(self.pick())
        else:
            self.open(self.r.randrange(self.processes), self.r.choice(("", "", "", "rw", "ro")))

    def op_process(self):
        """A fresh process in the place of one; sometimes the old one was killed."""
        p = self.r.randrange(self.processes)
        for key in [k for k, its in self.connections.items() if its == p]:
            if self.r.random() < 0.8:
                self.do(key, "execute", "ROLLBACK")
            del self.connections[key]
            self.attached.pop(key, None)
        self.queries = [q for q in self.queries if q[0] in self.connections]
        self.blobs = [b for b in self.blobs if b[0] in self.connections]
        self.sides.end(p)
        self.sides.start(p)
        self.open(p)
        self.open(self.processes - 1 - p)
        self.op_state()

    OPS = {op_dml: 25, op_insert: 20, op_select: 12, op_create: 8, op_ddl: 8, op_pragma: 8,
           op_quiet: 1, op_transaction: 8, op_end: 8, op_end_all: 14, op_whole_transaction: 12,
           op_vacuum: 1.5, op_version: 4, op_query: 10, op_blob: 10, op_attach: 5,
           op_copy_out: 1, op_copy_in: 0.3, op_state: 0.5, op_connect: 2, op_process: 0.6}

    def go(self, until, most=400):
        self.birth()
        ops, weights = list(self.OPS), list(self.OPS.values())
        for _ in range(most):
            if time.monotonic() > until:
                break
            self.r.choices(ops, weights)[0](self)
        self.finish()

    def finish(self):
        for key in sorted(self.connections):
            self.close(key)
        for p in (0, 1):
            self.sides.end(p)
        self.sides.start(0)
        key = self.open(0)
        self.do(key, "state")
        self.do(key, "copy_out", -1)
        self.close(key)
        self.sides.end(0)


class Parted(Exception):
    """The two histories are different from here on, and may be."""


def one_history(t, c, seed, n, until):
    folder = os.path.join(t.dir, f"plain-{n}")
    os.makedirs(folder)
    log = []
    sides = Sides(t, c, folder, log)
    try:
        Run(sides, seed, f"d{n}", folder).go(until)
    except Parted as e:
        t.note(f"seed {seed} ended at {e}")
    except BaseException as e:
        t.note(f"DIFFERENTIAL_SEED={seed} repeats it")
        for number, p, request in log[-12:]:
            t.note(f"{number} process {p}: {short(request, 160)}")
        if isinstance(e, Failure):
            raise Failure(f"seed {seed}: {e}") from None
        raise
    finally:
        sides.noise.close()
        if os.environ.get("DIFFERENTIAL_LOG"):
            with open(os.environ["DIFFERENTIAL_LOG"], "w") as f:
                f.writelines(f"{line!r}\n" for line in log)
        for pair in sides.pairs.values():
            for side in pair:
                side.process.kill()
    return sides


@test("random SQL on Corallite and on plain files, several connections in two processes: the same codes, "
      "rows and bytes", 24 * 3600)
def differential(t):
    only = os.environ.get("DIFFERENTIAL_SEED")
    seconds = float(os.environ.get("DIFFERENTIAL_SECONDS", 120 if t.slow() else 12 * SLOWER))
    seeds = random.SystemRandom()
    asked = failed = histories = 0
    slowest = (0.0, None)
    end = time.monotonic() + (3600 if only else seconds)
    with t.cluster() as c:
        while time.monotonic() < end and not (only and histories):
            seed = int(only) if only else seeds.randrange(1 << 32)
            sides = one_history(t, c, seed, histories, end)
            histories += 1
            asked += sides.asked
            failed += sides.failed
            slowest = max(slowest, sides.slowest, key=lambda x: x[0])
            if not only and histories == 1:
                t.note(f"first seed {seed}")
    t.note(f"{histories} histories, {asked} operations, {failed} of them refused by both sides alike; "
           f"the slowest took {slowest[0]:.2f} s: {short(slowest[1], 80)}")
    check(asked > 50, "almost nothing was done")
