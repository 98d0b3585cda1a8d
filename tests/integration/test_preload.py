"""LD_PRELOAD and the default VFS: programs that load no extension and know plain paths only."""

import os
import shutil
import sqlite3
import subprocess
import sys

from lib.cluster import BIN, EXTENSION, check, popen, preload_of, run
from lib.registry import test

CORALLITE = os.path.join(BIN, "corallite")


def corallite(c, *words, text="", timeout=60, ok=True, cwd=None):
    process = popen([CORALLITE, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE, text=True, env=c.env(), cwd=cwd or c.dir)
    out, err = process.communicate(text, timeout=timeout)
    check(not ok or process.returncode == 0, f"corallite {' '.join(words)}: {err[-600:]}")
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def preloaded(c, globs, *command, ok=True, options=(), cwd=None):
    """A program under `corallite exec`; its CompletedProcess."""
    default = ("--default", globs) if globs else ()
    return corallite(c, "exec", *default, *options, "--", *command, ok=ok, cwd=cwd)


def name_of(c, path):
    return corallite(c, "db", "name", path).stdout.strip()


def shell(path, sql):
    return "sqlite3", "-batch", "-bail", "-init", "/dev/null", path, sql


@test("LD_PRELOAD: the VFS registers itself at the first open and not before (sqlite3_config works); "
      "open, open16 and open_v2; after sqlite3_shutdown; explicit VFSs are left alone", 60)
def preload_registers_by_itself(t):
    with t.cluster() as c:
        path, other = os.path.join(c.dir, "app.db"), os.path.join(c.dir, "other.sqlite")
        done = preloaded(c, "*.db", os.path.join(BIN, "tests/integration/plain_app"), path, other,
                         ok=False)
        check(done.returncode == 0, f"{done.stdout} {done.stderr[-500:]}")
        check(done.stdout.splitlines()[-1] == "ok all", done.stdout)
        check(not os.path.exists(path), "a file where the database should have been")
        with open(other, "rb") as f:
            check(f.read(15) == b"SQLite format 3", "the other path is no ordinary file")
        rows = c.shell("SELECT count(*) FROM t", db=name_of(c, path)).stdout.strip()
        check(rows == "4", f"{rows} rows where four were written")


@test("a process that is preloaded and opens nothing, a program without SQLite: as ever", 30)
def preload_does_no_harm(t):
    with t.cluster() as c:
        done = preloaded(c, "*", "sh", "-c", "echo $((6 * 7)); exit 3", ok=False)
        check((done.returncode, done.stdout, done.stderr) == (3, "42\n", ""), str(done))
        # SQLite's library is there, and nothing is opened: no word, no socket.
        done = preloaded(c, "*", "/usr/bin/python3", "-c", "import sqlite3; print(1)")
        check((done.stdout, done.stderr) == ("1\n", ""), str(done))


@test("paths that match are databases and never files, nor their -journal, -wal, -shm; all other paths "
      "are ordinary files; relative, doubled and linked paths are one database", 60)
def default_paths(t):
    with t.cluster() as c:
        work = os.path.join(c.dir, "work")
        os.makedirs(os.path.join(work, "sub"))
        os.symlink("sub", os.path.join(work, "link"))
        script = ("PRAGMA journal_mode=DELETE; CREATE TABLE t(a); INSERT INTO t VALUES(1);\n"
                  "ATTACH 'plain.sqlite' AS p; CREATE TABLE p.u(a);\n"
                  "BEGIN; INSERT INTO t VALUES(2); INSERT INTO u VALUES(3);\n"
                  ".shell ls . sub\n"
                  "COMMIT; SELECT sum(a) FROM (SELECT a FROM t UNION ALL SELECT a FROM u);\n")
        done = corallite(c, "exec", "--default", "*.db", "--", "sqlite3", "-batch", "-bail", "-init",
                         "/dev/null", "sub/a.db", text=script, cwd=work)
        check(done.stdout.split() == ["wal", ".:", "link", "plain.sqlite", "plain.sqlite-journal",
                                      "sub", "sub:", "6"], done.stdout)
        check(sorted(os.listdir(work)) == ["link", "plain.sqlite", "sub"], str(os.listdir(work)))
        check(os.listdir(os.path.join(work, "sub")) == [], "a file beside the database")
        for path in ("sub/a.db", "./sub//../sub/a.db", "link/a.db", os.path.join(work, "sub/a.db")):
            done = preloaded(c, "*.db", *shell(path, "SELECT count(*) FROM t"), cwd=work)
            check(done.stdout == "2\n", f"{path}: {done.stdout!r}")
        check(name_of(c, os.path.join(work, "link/a.db")) == name_of(c, os.path.join(work, "sub/a.db")),
              "db name does not follow the link")
        db = sqlite3.connect(os.path.join(work, "plain.sqlite"))
        check(db.execute("SELECT a FROM u").fetchall() == [(3,)], "the plain file")
        db.close()
        # A URI with parameters of its own; mode=ro is SQLite's and holds.
        code = ("import sqlite3\ndb = sqlite3.connect('file:sub/a.db?mode=ro&own=1&_x=2', uri=True)\n"
                "print(db.execute('SELECT count(*) FROM t').fetchone()[0])\n"
                "try: db.execute('DELETE FROM t')\nexcept sqlite3.OperationalError as e: print(e)\n")
        done = preloaded(c, "*.db", "/usr/bin/python3", "-c", code, cwd=work)
        check(done.stdout.splitlines() == ["2", "attempt to write a readonly database"],
              f"{done.stdout} {done.stderr}")
        # Patterns are compared with whole paths where they have a slash.
        done = preloaded(c, "*/sub/*.db", *shell("sub/a.db", "SELECT count(*) FROM t"), cwd=work)
        check(done.stdout == "2\n", done.stdout)
        preloaded(c, "/nowhere/*.db", *shell("sub/a.db", "CREATE TABLE v(a)"), cwd=work)
        check(os.path.exists(os.path.join(work, "sub/a.db")), "an ordinary file was wanted")


@test("a file with content at a path that matches is refused with a sentence; an empty one stays empty; "
      "existence checks see no file; removing the path removes no data", 60)
def default_and_files(t):
    with t.cluster() as c:
        path = os.path.join(c.dir, "app.db")
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE t(a)")
        db.execute("INSERT INTO t VALUES(7)")
        db.commit()
        db.close()
        done = preloaded(c, "*.db", *shell(path, "SELECT a FROM t"), ok=False)
        name = name_of(c, path)
        check(done.returncode != 0 and f"corallite import {path} {name}" in done.stderr, done.stderr)
        corallite(c, "import", path, name)
        done = preloaded(c, "*.db", *shell(path, "SELECT a FROM t"), ok=False)
        check(done.returncode != 0 and "move it away" in done.stderr, "two contents for one path")
        os.rename(path, path + ".old")
        check(preloaded(c, "*.db", *shell(path, "SELECT a FROM t")).stdout == "7\n", "after the import")
        look = ("import os, sqlite3, sys\np = sys.argv[1]\n"
                "print(os.path.exists(p))\ndb = sqlite3.connect(p)\n"
                "db.execute('INSERT INTO t VALUES(8)')\ndb.commit()\nprint(os.path.exists(p))\n"
                "open(p, 'w').close()\nprint(db.execute('SELECT count(*) FROM t').fetchone()[0])\n"
                "db.execute('INSERT INTO t VALUES(9)')\ndb.commit()\nprint(os.path.getsize(p))\n"
                "os.unlink(p)\nprint(sqlite3.connect(p).execute('SELECT sum(a) FROM t').fetchone()[0])")
        done = preloaded(c, "*.db", "/usr/bin/python3", "-c", look, path)
        check(done.stdout.split() == ["False", "False", "2", "0", "24"], f"{done.stdout} {done.stderr}")


@test("corallite exec --branch and --at: the same program on a branch, and in the past", 60)
def default_branch_and_moment(t):
    with t.cluster() as c:
        path = os.path.join(c.dir, "app.db")
        preloaded(c, "*.db", *shell(path, "CREATE TABLE t(a); INSERT INTO t VALUES('old')"))
        name = name_of(c, path)
        corallite(c, "pin", "create", name, "before")
        corallite(c, "branch", "create", f"{name}/try")
        preloaded(c, "*.db", *shell(path, "UPDATE t SET a = 'try'"), options=("--branch", "try"))
        preloaded(c, "*.db", *shell(path, "UPDATE t SET a = 'new'"))
        seen = {options: preloaded(c, "*.db", *shell(path, "SELECT a FROM t"), options=options).stdout
                for options in ((), ("--branch", "try"), ("--at", "pin:before"))}
        check([s.strip() for s in seen.values()] == ["new", "try", "old"], str(seen))
        done = preloaded(c, "*.db", *shell(path, "DELETE FROM t"), options=("--at", "pin:before"),
                         ok=False)
        check("readonly" in done.stderr, done.stderr)
        done = preloaded(c, "*.db", *shell(path, "SELECT 1 FROM t"), options=("--branch", "nosuch"),
                         ok=False)
        check(done.returncode != 0 and "nosuch" in done.stderr, f"{done.stdout} {done.stderr}")


@test("without preload: CORALLITE_DEFAULT or corallite_default() makes plain names databases, and a URI "
      "that a driver takes for a path is understood; wrong ones get a sentence", 60)
def default_by_extension(t):
    with t.cluster() as c:
        code = ("import os, sqlite3, sys\n"
                "def attempt(f):\n"
                "    try: return f()\n"
                "    except sqlite3.Error as e:\n"
                "        return e, loader.execute('SELECT corallite_last_error()').fetchone()[0]\n"
                "loader = sqlite3.connect(':memory:')\nloader.enable_load_extension(True)\n"
                "loader.load_extension(sys.argv[1])\n"
                "if sys.argv[2]: print(loader.execute('SELECT corallite_default(?)', "
                "sys.argv[2:3]).fetchone()[0])\n"
                "db = sqlite3.connect('a.db')\ndb.execute('CREATE TABLE IF NOT EXISTS t(a)')\n"
                "db.execute('INSERT INTO t VALUES(1)')\ndb.commit()\n"
                "print(db.execute('SELECT count(*) FROM t').fetchone()[0])\n"
                # What a driver makes of a URI that it takes for a relative path.
                "there = os.getcwd() + '/file:shop?vfs=corallite'\n"
                "sqlite3.connect(there).execute('CREATE TABLE IF NOT EXISTS s(a)')\n"
                "there = os.getcwd() + '/file:shop/main?vfs=corallite&at=-1%20hour'\n"
                "print(attempt(lambda: sqlite3.connect(there).execute('SELECT * FROM s')))\n"
                "print(attempt(lambda: sqlite3.connect(there + '&mode=ro').execute('SELECT 1')))\n"
                "print(attempt(lambda: loader.execute(\"SELECT corallite_default('x/*.db')\")))\n")

        def python(globs, **env):
            return run(["/usr/bin/python3", "-c", code, EXTENSION, globs], "", 60, c.env(**env))

        os.chdir(t.dir)
        done = python("", CORALLITE_DEFAULT="*.db")
        lines = done.stdout.splitlines()
        check(lines[0] == "1", f"{done.stdout} {done.stderr[-300:]}")
        check("no such table" in lines[1], lines[1])
        check("server= and at= only: leave mode= out" in lines[2], lines[2])
        check("write '*/x/*.db'" in lines[3], lines[3])
        done = python("*.db")
        check(done.stdout.splitlines()[:2] == ["*.db", "2"], f"{done.stdout} {done.stderr[-300:]}")
        check(not os.path.exists("a.db"), "a file where the database should be")
        check([f for f in os.listdir(".") if f.startswith("file:")] == [], "a file named by the URI")
        done = run(["/usr/bin/python3", "-c", code, EXTENSION, ""], "", 60,
                   c.env(CORALLITE_DEFAULT="x/*.db"))
        check(done.returncode != 0 and "CORALLITE_DEFAULT in the environment" in done.stderr,
              done.stderr)


@test("preloaded with something wrong (pattern, SQLite too old) no plain file is written in the place of "
      "the database; SQLite too old for the extension: a sentence", 60)
def preload_refuses(t):
    t.needs("cc")
    with t.cluster() as c:
        os.chdir(t.dir)
        stub = "old.so"
        with open("old.c", "w") as f:
            f.write("int sqlite3_libversion_number(void) { return 3038005; }\n"
                    "const char *sqlite3_libversion(void) { return \"3.38.5\"; }\n")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", stub, "old.c"], check=True)
        preload = os.path.join(BIN, "corallite.so")
        wanted = "Corallite needs SQLite 3.39.0 or newer; this is 3.38.5"
        python = ("import sqlite3, sys\ndb = sqlite3.connect(':memory:')\n"
                  "db.enable_load_extension(True)\ndb.load_extension(sys.argv[1])\n")
        done = run(["/usr/bin/python3", "-c", python, EXTENSION], "", 30,
                   c.env(LD_PRELOAD=preload_of(os.path.abspath(stub))))
        check(done.returncode != 0 and wanted in done.stderr, done.stderr)
        opens = "import sqlite3\nsqlite3.connect('app.db').execute('CREATE TABLE t(a)')\n"
        done = run(["/usr/bin/python3", "-c", opens], "", 30,
                   c.env(LD_PRELOAD=preload_of(preload, os.path.abspath(stub)), CORALLITE_DEFAULT="*.db"))
        check(done.returncode != 0 and wanted in done.stderr, done.stderr)
        done = run(["/usr/bin/python3", "-c", opens], "", 30,
                   c.env(LD_PRELOAD=preload_of(preload), CORALLITE_DEFAULT="x/*.db"))
        check(done.returncode != 0 and "CORALLITE_DEFAULT in the environment" in done.stderr,
              done.stderr)
        check(not os.path.exists("app.db"), "an ordinary file was written")
        for words, says in ((("--default", "x/*.db"), "write"), (("--at", "-1h"), "--default"),
                            (("--default", "*", "--branch", "a b"), "a-b"),
                            (("--default", "*", "--at", "when?"), "when")):
            done = corallite(c, "exec", *words, "--", "true", ok=False)
            check(done.returncode == 2 and says in done.stderr, f"{words}: {done.stderr}")
        done = corallite(c, "exec", "--", "/nowhere/program", ok=False)
        check(done.returncode == 1 and "/nowhere/program" in done.stderr, done.stderr)


@test("a connection that is Corallite's loads extensions as any other", 30)
def extension_on_a_corallite_connection(t):
    with t.cluster() as c:
        db = c.connect("shop")
        db.enable_load_extension(True)
        db.load_extension(EXTENSION)
        check(db.execute("SELECT corallite_last_error() IS NULL OR 1").fetchone() == (1,), "a function")
        try:
            db.load_extension("/nowhere/x")
            check(False, "it loaded nothing from nowhere")
        except sqlite3.OperationalError as e:
            check("/nowhere/x" in str(e), str(e))


@test("a Python whose sqlite3 cannot load extensions, preloaded", 30)
def preload_python_without_load_extension(t):
    """Where there is none, Debian's stands in: preloaded, it is not asked to load anything."""
    program = shutil.which("python3") or "/usr/bin/python3"
    probe = subprocess.run([program, "-c", "import sqlite3; print(hasattr(sqlite3.Connection, "
                            "'enable_load_extension'))"], capture_output=True, text=True)
    can = probe.stdout.strip() != "False"
    t.note(f"{program} {'can' if can else 'cannot'} load extensions")
    with t.cluster() as c:
        code = ("import sqlite3\ndb = sqlite3.connect('file:shop?vfs=corallite', uri=True)\n"
                "db.execute('CREATE TABLE t(a)')\ndb.execute('INSERT INTO t VALUES(5)')\n"
                "db.commit()\nprint(db.execute('SELECT a FROM t').fetchone()[0])\n")
        done = preloaded(c, None, program if not can else sys.executable, "-c", code)
        check(done.stdout == "5\n", f"{done.stdout} {done.stderr}")
        check(c.shell("SELECT a FROM t").stdout == "5\n", "seen from elsewhere")
