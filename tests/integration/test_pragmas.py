"""Every PRAGMA of the SQLite that is there, on Corallite and on a plain WAL file, against docs/pragmas.md:
its row says whether the answers are the same; those that are not stand word for word in a table."""

import os
import sqlite3

from lib import pragmas_doc
from lib.cluster import Failure, check, load_extension
from lib.registry import test

SCHEMA = """
BEGIN;
CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT DEFAULT 'x', c AS (a + 1));
CREATE INDEX i ON t(b);
CREATE TABLE k(a REFERENCES t(a), b);
INSERT INTO t(b) VALUES('one'), ('two'), ('three');
INSERT INTO k VALUES(1, 'there'), (99, 'not there');
CREATE TABLE d AS SELECT zeroblob(50000) AS z;
DROP TABLE d;
COMMIT;
"""
SWITCH = ("{p}", "{p} = 1", "{p}", "{p} = off", "{p}", "main.{p}")
FORMS = {  # what is tried; a PRAGMA that is not named here is a switch
    "analysis_limit": ("{p}", "{p} = 100", "{p}"),
    "application_id": ("{p}", "{p} = 7", "{p}", "temp.{p}"),
    "auto_vacuum": ("{p}", "{p} = full", "{p}", "{p} = incremental", "{p}"),
    "busy_timeout": ("{p}", "{p} = 77", "{p}"),
    "cache_size": ("{p}", "{p} = 50", "{p}", "{p} = -100", "{p}"),
    "cache_spill": ("{p}", "{p} = 0", "{p}", "{p} = 20", "{p}"),
    "case_sensitive_like": ("{p}", "{p} = 1"),
    "collation_list": ("{p}",),
    "compile_options": ("{p}",),
    "data_version": ("{p}", "{p} = 5", "{p}"),
    "database_list": ("{p}",),
    "default_cache_size": ("{p}", "{p} = 30", "{p}"),
    "encoding": ("{p}", "{p} = 'UTF-16le'", "{p}", "{p} = 'EBCDIC'"),
    "foreign_key_check": ("{p}", "{p}(k)", "{p}(nosuch)"),
    "foreign_key_list": ("{p}(k)", "{p}(nosuch)"),
    "freelist_count": ("{p}", "main.{p}"),
    "function_list": ("{p}",),
    "hard_heap_limit": ("{p}",),
    "incremental_vacuum": ("{p}", "{p}(3)"),
    "index_info": ("{p}(i)", "{p}(nosuch)"),
    "index_list": ("{p}(t)",),
    "index_xinfo": ("{p}(i)",),
    "integrity_check": ("{p}", "{p}(1)", "{p}(t)", "main.{p}"),
    "journal_mode": ("{p}", "main.{p}", "{p} = wal", "{p} = nonsense", "{p} = delete",
                     "{p} = truncate", "{p} = persist", "{p} = memory", "{p} = off", "{p} = mem", "{p} = wal", "{p}"),
    "journal_size_limit": ("{p}", "{p} = 1000", "{p}", "{p} = -1"),
    "locking_mode": ("{p}", "{p} = exclusive", "{p} = normal", "{p}", "{p} = nonsense"),
    "max_page_count": ("{p}", "{p} = 5000", "{p}", "{p} = 1", "{p}"),
    "mmap_size": ("{p}", "{p} = 1000000", "{p}", "{p} = 0", "{p}"),
    "module_list": ("{p}",),
    "optimize": ("{p}", "{p}(0xffff)"),
    "page_count": ("{p}", "main.{p}"),
    "page_size": ("{p}", "{p} = 8192", "{p}", "{p} = 77", "{p}"),
    "pragma_list": ("{p}",),
    "quick_check": ("{p}", "{p}(t)"),
    "schema_version": ("{p}", "{p} = 99", "{p}"),
    "secure_delete": ("{p}", "{p} = fast", "{p}", "{p} = 0", "{p}"),
    "shrink_memory": ("{p}",),
    "soft_heap_limit": ("{p}",),
    "synchronous": ("{p}", "{p} = off", "{p}", "{p} = normal", "{p}", "{p} = full", "{p}", "{p} = extra",
                    "{p}", "{p} = nonsense", "{p}", "{p} = 7", "{p}", "{p} = 2", "{p}"),
    "table_info": ("{p}(t)", "{p}(nosuch)"),
    "table_list": ("{p}", "{p}(t)"),
    "table_xinfo": ("{p}(t)",),
    "temp_store": ("{p}", "{p} = memory", "{p}", "{p} = file", "{p}"),
    "temp_store_directory": ("{p}", "{p} = '/nonexistent'"),
    "threads": ("{p}", "{p} = 2", "{p}"),
    "user_version": ("{p}", "{p} = 5", "{p}", "main.{p}", "temp.{p}"),
    "wal_autocheckpoint": ("{p}", "{p} = 10", "{p}", "{p} = 0", "{p}"),
    "wal_checkpoint": ("{p}", "{p}(passive)", "{p}(full)", "{p}(restart)", "{p}(truncate)", "main.{p}",
                       "temp.{p}"),
}
OF_WRITING = ("user_version", "application_id", "synchronous", "schema_version", "auto_vacuum", "encoding",
              "journal_mode", "locking_mode", "page_size", "wal_checkpoint", "incremental_vacuum")
LIFE = (  # of a new database that has been given its form
    "PRAGMA page_size", "PRAGMA auto_vacuum", "PRAGMA encoding", "CREATE TABLE t(a)",
    "INSERT INTO t VALUES(zeroblob(200000))", "PRAGMA page_size = 1024", "PRAGMA auto_vacuum = 0",
    "PRAGMA page_size", "PRAGMA auto_vacuum", "PRAGMA page_count", "DELETE FROM t",
    "PRAGMA freelist_count", "PRAGMA incremental_vacuum(2)", "PRAGMA freelist_count", "PRAGMA page_count",
    "PRAGMA user_version = 3", "PRAGMA application_id = 4", "PRAGMA user_version", "PRAGMA application_id",
    "PRAGMA data_version", "PRAGMA schema_version", "PRAGMA integrity_check")


def ask(db, sql):
    """(column names, text of the answer)."""
    try:
        cursor = db.execute(sql)
        rows = cursor.fetchall()
        names = [d[0] for d in cursor.description or ()]
        return names, "; ".join("|".join(map(str, row)) for row in rows) or "nothing"
    except sqlite3.Error as e:
        return [], f"{e.sqlite_errorname}: {e}"


class Pair:
    """The same database on both sides."""

    def __init__(self, t, c, name, schema=SCHEMA, birth=(), **parameters):
        self.name, self.path = name, os.path.join(t.dir, name + ".plain")
        self.server = f"//{c.server()}/"  # not the usual one of this process
        self.ours = c.connect(name, **parameters)
        self.plain = sqlite3.connect(self.path, isolation_level=None)
        for sql in birth:
            self.ours.execute(sql)
            self.plain.execute(sql)
        self.plain.execute("PRAGMA journal_mode = wal")
        for db in (self.ours, self.plain):
            db.executescript(schema)

    def both(self, sql):
        """The answers of both, with what has to differ taken out: how a database is called, and how many
        frames a WAL has."""
        answers = []
        for db in (self.plain, self.ours):
            names, text = ask(db, sql)
            text = text.replace(self.path, "FILE").replace(self.name, "DB").replace(self.server, "")
            if "wal_checkpoint" in sql:
                words = text.split("|")
                if len(words) == 3 and words[1] == words[2]:
                    text = f"{words[0]}|n|n"
            answers.append((names, text))
        return answers

    def close(self):
        self.ours.close()
        self.plain.close()


def statements(name):
    """What is tried of a PRAGMA, alone and in a transaction that has written."""
    tried = [f"PRAGMA {form.format(p=name)}" for form in FORMS.get(name, SWITCH)]
    if name in OF_WRITING:
        tried += ["BEGIN", "INSERT INTO k VALUES(2, 'more')", f"PRAGMA {name}", f"PRAGMA {name} = 1",
                  "COMMIT", f"PRAGMA {name}", "SELECT count(*) FROM k"]
    return tried


def compare(t, c, name, seen):
    """What happens to one PRAGMA: unchanged, answered or refused."""
    pair = Pair(t, c, f"p-{name}".replace("_", "-"))
    kind = "unchanged"
    for sql in statements(name):
        (names, plain), (our_names, ours) = pair.both(sql)
        if plain == ours:
            check(names == our_names, f"{sql}: columns {our_names}, of a plain file {names}")
            continue
        kind = "refused" if ours.startswith("SQLITE_") else "answered"
        check(seen.get(sql, (plain, ours)) == (plain, ours),
              f"{sql}: two answers: {seen.get(sql)}, {(plain, ours)}")
        seen[sql] = (plain, ours)
    pair.plain.execute("PRAGMA journal_mode = wal")
    pair.plain.execute("PRAGMA locking_mode = normal")
    for sql in ("PRAGMA max_page_count = 100000", "PRAGMA query_only = 0", "INSERT INTO k VALUES(1, 'goes on')",
                "SELECT * FROM k ORDER BY rowid", "PRAGMA integrity_check"):
        plain, ours = pair.both(sql)
        check(plain == ours, f"{name}, then {sql}: {ours}, of a plain file {plain}")
    pair.close()
    return kind


@test("every PRAGMA of pragma_list, read and written, in a transaction and outside: as docs/pragmas.md says "
      "of it", 300)
def every_pragma(t):
    rows = {pragmas_doc.code(row[0]): row[1] for row in pragmas_doc.tables("PRAGMAs")}
    table = {pragmas_doc.code(row[0]): (pragmas_doc.code(row[1]), pragmas_doc.code(row[2]))
             for row in pragmas_doc.tables("Answered differently")}
    load_extension()
    listed = sorted(row[0] for row in sqlite3.connect(":memory:").execute("PRAGMA pragma_list"))
    check(len(listed) > 50, f"pragma_list: {listed}")
    wrong, seen, kinds = [], {}, {}
    with t.cluster() as c:
        for name in listed:
            if name not in rows:
                wrong.append(f"PRAGMA {name} has no row in docs/pragmas.md")
                continue
            try:
                kinds[name] = compare(t, c, name, seen)
            except Failure as e:
                wrong.append(str(e))
                continue
            if kinds[name] != rows[name].split()[0].strip("*"):
                wrong.append(f"PRAGMA {name} is {kinds[name]}; docs/pragmas.md says {rows[name]}")
    for sql, answers in seen.items():
        if table.get(sql) != answers:
            wrong.append(f"'{sql}': plain {answers[0]!r}, Corallite {answers[1]!r}; docs/pragmas.md: {table.get(sql)}")
    wrong += [f"'{sql}' of docs/pragmas.md was not seen" for sql in table if sql not in seen]
    wrong += [f"PRAGMA {name} of docs/pragmas.md is none" for name in rows
              if name not in listed and not name.startswith("corallite_")]
    t.note(f"{len(kinds)} PRAGMAs: " + ", ".join(
        f"{list(kinds.values()).count(k)} {k}" for k in ("unchanged", "answered", "refused")))
    check(not wrong, " || ".join(wrong))


@test("page_size, auto_vacuum and encoding before the first write decide the form of a new database, as on "
      "a new file", 300)
def form_of_a_new_database(t):
    with t.cluster() as c:
        n = 0
        for size in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536):
            for vacuum, encoding in enumerate(("UTF-8", "UTF-16le", "UTF-16be")):
                pair = Pair(t, c, f"n{n}", "", (f"PRAGMA page_size = {size}", f"PRAGMA auto_vacuum = {vacuum}",
                                                f"PRAGMA encoding = '{encoding}'"))
                n += 1
                for sql in LIFE:
                    plain, ours = pair.both(sql)
                    check(plain == ours, f"{size}, {vacuum}: {sql}: {ours}, of a plain file {plain}")
                other = c.connect(pair.name)
                form = [other.execute(f"PRAGMA {p}").fetchone()[0]
                        for p in ("page_size", "auto_vacuum", "encoding", "user_version")]
                check(form == [size, vacuum, encoding, 3], f"another connection: {form}")
                other.close()
                pair.close()
        t.note(f"{n} forms")
