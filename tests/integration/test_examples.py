"""The programs of examples/ as their headers say to run them, and what `corallite connect` prints.

Each example prints the same four lines. A language that cannot be had here is skipped with the reason;
tools/deps examples installs those of Debian that are small, test_toolchains.py has the large ones.
"""

import os
import re
import shutil
import subprocess

from lib.cluster import BIN, EXTENSION, ROOT, Skip, check, popen
from lib.registry import test

EXAMPLES = os.path.join(ROOT, "examples")
NPM = os.path.join(BIN, "npm")
CORALLITE = os.path.join(BIN, "corallite")
EXPECTED = "now shell 3.0 branch shell 9.9 now shell 3.0 past shell 2.5"
PHP = ["php", "-d", f"sqlite3.extension_dir={BIN}"]


def source(*parts):
    return os.path.join(EXAMPLES, *parts)


def run(c, words, what, seconds=60, **env):
    """A program with what `corallite env` exports; its output in one line."""
    path = BIN + os.pathsep + os.environ["PATH"]
    process = popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    text=True, cwd=c.dir, env=c.env(CORALLITE_EXTENSION=EXTENSION, PATH=path, **env))
    out, err = process.communicate(timeout=seconds)
    check(process.returncode == 0, f"{what}: {out[-300:]} {err[-600:]}")
    return " ".join(out.split())


def example(t, c, words, name, seconds=60, **env):
    """Runs an example; what it wrote is there for others, the branch too."""
    out = run(c, [*words, name], f"the example {name}", seconds, **env)
    check(out == EXPECTED, f"{name} printed: {out}")
    look = "SELECT name || ' ' || price FROM item"
    check(c.shell(look, db=name).stdout == "shell 3.0\n", "main, seen from the sqlite3 shell")
    branches = run(c, [CORALLITE, "branch", "list", name], "branch list")
    branch = re.search(r"try-\d+", branches)
    check(branch, f"no branch: {branches}")
    check(c.shell(look, db=f"{name}/{branch[0]}").stdout == "shell 9.9\n", "the branch")
    files = [f for f in os.listdir(c.dir) if name in f and not f.startswith("build-")]
    check(files == [], f"files of that name: {files}")


def connect(t, c, language, words, suffix, name, seconds=60, **env):
    """What `connect` prints for the database of the example, run as it says."""
    text = subprocess.run([CORALLITE, "connect", name, "--lang", language, "--server", c.server()],
                          capture_output=True, text=True, check=True).stdout
    path = os.path.join(c.dir, "Try" + suffix)
    with open(path, "w") as f:
        f.write(text)
    out = run(c, [w.replace("FILE", path) for w in words], f"connect --lang {language}", seconds, **env)
    check(out == "2", f"connect --lang {language} printed {out}; item and its index were wanted")


@test("examples: C", 60)
def example_c(t):
    t.needs("cc")
    with t.cluster() as c:
        program = os.path.join(c.dir, "build-c")
        subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", program, source("c/example.c"),
                        "-lsqlite3"], check=True)
        example(t, c, [program], "example-c")
        connect(t, c, "c", ["sh", "-c", f"cc -o {program} FILE -lsqlite3 && {program}"], ".c",
                "example-c")


@test("examples: Python (Debian's)", 60)
def example_python(t):
    with t.cluster() as c:
        words = ["/usr/bin/python3", source("python/example.py")]
        example(t, c, words, "example-python")
        check(run(c, [*words, "example-python"], "a second time") == EXPECTED, "a second time")
        connect(t, c, "python", ["/usr/bin/python3", "FILE"], ".py", "example-python")


@test("examples: a Python built without load_extension, through ctypes", 60)
def example_python_without_load_extension(t):
    """Debian's is always there; where the PATH has one that really cannot, that runs as well."""
    programs = {"/usr/bin/python3", shutil.which("python3") or "/usr/bin/python3"}
    probe = ("import sqlite3, _sqlite3\n"
             "print(hasattr(sqlite3.Connection, 'enable_load_extension'), "
             "open('/proc/self/maps').read().count('libsqlite3.so') > 0)")
    with t.cluster() as c:
        for n, program in enumerate(sorted(programs)):
            can, shared = subprocess.run([program, "-c", probe], capture_output=True, text=True,
                                         check=True).stdout.split()
            t.note(f"{program}: load_extension {can}, SQLite as a shared library {shared}")
            if shared == "True":
                example(t, c, [program, source("python/without_load_extension.py")], f"example-ctypes{n}")


@test("examples: Perl (DBD::SQLite)", 60)
def example_perl(t):
    t.needs("perl")
    if subprocess.run(["perl", "-MDBD::SQLite", "-e", "1"], capture_output=True).returncode:
        raise Skip("libdbd-sqlite3-perl is not installed")
    with t.cluster() as c:
        example(t, c, ["perl", source("perl/example.pl")], "example-perl")
        connect(t, c, "perl", ["perl", "FILE"], ".pl", "example-perl")


@test("examples: PHP (SQLite3 and PDO)", 60)
def example_php(t):
    t.needs("php")
    with t.cluster() as c:
        example(t, c, [*PHP, source("php/example.php")], "example-php")
        connect(t, c, "php", [*PHP, "FILE"], ".php", "example-php")


@test("examples: Ruby", 60)
def example_ruby(t):
    t.needs("ruby")
    with t.cluster() as c:
        example(t, c, ["ruby", source("ruby/example.rb")], "example-ruby")
        connect(t, c, "ruby", ["ruby", "FILE"], ".rb", "example-ruby")


@test("examples: Tcl", 60)
def example_tcl(t):
    t.needs("tclsh")
    with t.cluster() as c:
        example(t, c, ["tclsh", source("tcl/example.tcl")], "example-tcl")
        connect(t, c, "tcl", ["tclsh", "FILE"], ".tcl", "example-tcl")


def from_npm():
    done = subprocess.run([os.path.join(ROOT, "tools/npm-sqlite"), NPM], capture_output=True, text=True)
    if done.returncode == 3:
        raise Skip(done.stderr.strip().splitlines()[-1])
    check(done.returncode == 0, done.stderr[-600:])


@test("examples: Node.js (better-sqlite3, which brings an SQLite of its own)", 400)
def example_node(t):
    t.needs("node")
    from_npm()
    modules = os.path.join(NPM, "node_modules")
    with t.cluster() as c:
        example(t, c, ["node", source("node/example.js")], "example-node", NODE_PATH=modules)
        connect(t, c, "node", ["node", "FILE"], ".js", "example-node", NODE_PATH=modules)


@test("a current SQLite release: C and Python programs, and the unit tests of the VFS that run SQLite", 400)
def current_sqlite(t):
    from_npm()
    lib = os.path.join(NPM, "lib")
    with t.cluster() as c:
        version = "import sqlite3; print(sqlite3.sqlite_version)"
        shown = run(c, ["/usr/bin/python3", "-c", version], "the version", LD_LIBRARY_PATH=lib)
        check(tuple(map(int, shown.split("."))) > (3, 50), f"{shown} is not the current one")
        t.note(f"SQLite {shown}")
        program = os.path.join(c.dir, "build-current")
        subprocess.run(["cc", "-o", program, f"-I{NPM}/include", source("c/example.c"), f"-L{lib}",
                        "-lsqlite3"], check=True)
        for name, words in (("current-c", [program]),
                            ("current-python", ["/usr/bin/python3", source("python/example.py")])):
            out = run(c, [*words, name], name, LD_LIBRARY_PATH=lib)
            check(out == EXPECTED, f"{name} printed: {out}")
        # Written by 3.40.1, read by the current release, and the other way round.
        c.shell("CREATE TABLE old(a); INSERT INTO old VALUES(1);", db="both")
        code = ("import sqlite3, os, sys\nl = sqlite3.connect(':memory:')\nl.enable_load_extension(True)\n"
                "l.load_extension(os.environ['CORALLITE_EXTENSION'])\n"
                "d = sqlite3.connect('file:both?vfs=corallite', uri=True, isolation_level=None)\n"
                "d.execute('INSERT INTO old VALUES(2)')\nprint(d.execute('PRAGMA integrity_check; ')"
                ".fetchone()[0], d.execute('SELECT sum(a) FROM old').fetchone()[0])\n")
        out = run(c, ["/usr/bin/python3", "-c", code], "both", LD_LIBRARY_PATH=lib)
        check(out == "ok 3", out)
        check(c.shell("SELECT sum(a) FROM old", db="both").stdout == "3\n", "back in 3.40.1")
        unit = os.path.join(BIN, "tests/unit-compute-vfs")
        suites = f"@(commit|moments|path|snapshot|stock|surface|turn{'|bank|flows' if t.slow() else ''})/*"
        done = subprocess.run([unit, "--filter", suites], capture_output=True, text=True, timeout=240,
                              env=dict(os.environ, LD_LIBRARY_PATH=lib, CORALLITE_LOG="off"))
        text = done.stdout + done.stderr
        # The runner is Criterion's, or, under some sanitizers, one of ours.
        count = re.search(r"Passing: .*?(\d+) |(\d+) passed, 0 failed", re.sub("\x1b[^m]*m", "", text))
        passed = count and int(count[1] or count[2])
        check(done.returncode == 0 and passed and passed >= 60, text[-500:])
        t.note(f"{passed} unit tests of the VFS pass with it")


@test("two SQLites in one process: the second is refused with a sentence, the first goes on", 400)
def two_sqlites(t):
    from_npm()
    code = ("import ctypes, os, sqlite3, sys\n"
            "loader = sqlite3.connect(':memory:')\nloader.enable_load_extension(True)\n"
            "loader.load_extension(os.environ['CORALLITE_EXTENSION'])\n"
            "other = ctypes.CDLL(sys.argv[1])\nother.sqlite3_libversion.restype = ctypes.c_char_p\n"
            "assert other.sqlite3_libversion().decode() != sqlite3.sqlite_version\n"
            "db, message = ctypes.c_void_p(), ctypes.c_char_p()\n"
            "assert other.sqlite3_open(b':memory:', ctypes.byref(db)) == 0\n"
            "other.sqlite3_enable_load_extension(db, 1)\n"
            "rc = other.sqlite3_load_extension(db, os.environ['CORALLITE_EXTENSION'].encode(), None, "
            "ctypes.byref(message))\nprint(rc, message.value.decode())\n"
            "first = sqlite3.connect('file:shop?vfs=corallite', uri=True, isolation_level=None)\n"
            "first.execute('CREATE TABLE t(a)')\nprint('goes on')\n")
    with t.cluster() as c:
        out = run(c, ["/usr/bin/python3", "-c", code, os.path.join(NPM, "lib/libsqlite3.so.0")], "two")
        check(out.startswith("1 ") and "two SQLite libraries" in out and out.endswith("goes on"), out)
        # Preloaded: a module with an SQLite of another name. Its databases are files, and that is told.
        os.chdir(c.dir)
        with open(os.path.join(NPM, "lib/libsqlite3.so.0"), "rb") as f:
            other = f.read().replace(b"libsqlite3.so.0\0", b"libsqlite9.so.0\0")
        with open("libsqlite9.so.0", "wb") as f:
            f.write(other)
        with open("module.c", "w") as f:
            f.write("#include <sqlite3.h>\nint make(const char *name) { sqlite3 *db;\n"
                    "return sqlite3_open(name, &db) || sqlite3_exec(db, \"CREATE TABLE m(a)\", 0, 0, 0)"
                    " || sqlite3_libversion_number() < 3050000 || sqlite3_close(db); }\n")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", "module.so", "module.c", f"-I{NPM}/include", "-L.",
                        "-l:libsqlite9.so.0", f"-Wl,-rpath,{c.dir}"], check=True)
        code = ("import ctypes, sqlite3\nfirst = sqlite3.connect('first.db', isolation_level=None)\n"
                "first.execute('CREATE TABLE t(a)')\n"
                "module = ctypes.CDLL('./module.so')\nprint(module.make(b'a.db'), module.make(b'b.db'))\n"
                "first.execute('INSERT INTO t VALUES(1)')\nprint('goes on')\n")
        done = subprocess.run([CORALLITE, "exec", "--default", "*.db", "--", "/usr/bin/python3", "-c", code],
                              capture_output=True, text=True, env=c.env())
        check(done.stdout.split() == ["0", "0", "goes", "on"], f"{done.stdout} {done.stderr[-500:]}")
        check(done.stderr.count("second SQLite library") == 1, f"told once: {done.stderr}")
        check(os.path.exists("a.db") and os.path.exists("b.db") and not os.path.exists("first.db"),
              str(os.listdir(".")))


@test("examples: a branch of the production database for each pull request", 60)
def branch_per_pull_request(t):
    with t.cluster() as c:
        out = run(c, [source("branch-per-pull-request/demo")], "the demonstration", DATABASE="demo")
        for text in ("created demo/pr-7", "migrating demo/pr-7: 002-stock.sql", "table stock: added",
                     "~ id=1 price: 2.5 -> 3.5", "pinned demo", "dropped demo/pr-7", "shell|3.5|0"):
            check(text in out, f"{text!r} is not in: {out}")
        changed = out.split("== it is merged")[1].split("table item")[1].split("dropped")[0]
        check(changed.split() == "~ id=1 price: 2.5 -> 3.5 ~ id=3 price: 4.0 -> 5.0 "
              "~ id=4 price: 12.0 -> 13.0".split(), f"the rows that changed: {changed}")
        undo = re.search(r"to take it back: (corallite restore demo --to pin:before-pr-7)", out)
        check(undo, out)
        run(c, ["sh", "-c", undo[1] + " --yes"], "the undo line")
        back = "SELECT group_concat(name || price) FROM item; SELECT count(*) FROM sqlite_schema " \
               "WHERE name = 'stock'; PRAGMA user_version"
        check(c.shell(back, db="demo").stdout.split() == ["shell2.5,reef900.0,polyp4.0,anemone12.0", "0",
                                                          "1"], "production before the merge")
        # A migration that fails leaves the branch as it was.
        os.makedirs(os.path.join(c.dir, "bad"))
        with open(os.path.join(c.dir, "bad/1.sql"), "w") as f:
            f.write("SELECT 1;\n")
        with open(os.path.join(c.dir, "bad/2.sql"), "w") as f:
            f.write("INSERT INTO item(name, price) VALUES('half', 1);\nINSERT INTO nowhere VALUES(1);\n")
        env = {"DATABASE": "demo", "MIGRATIONS": os.path.join(c.dir, "bad")}
        done = subprocess.run([source("branch-per-pull-request/pull-request"), "open", "8"],
                              capture_output=True, text=True,
                              env=c.env(PATH=BIN + os.pathsep + os.environ["PATH"], **env))
        check(done.returncode != 0 and "nowhere" in done.stderr, f"{done.stdout} {done.stderr}")
        check(c.shell("SELECT count(*) FROM item WHERE name = 'half'", db="demo/pr-8").stdout == "0\n",
              "half a migration")


@test("connect has a program for each language that has an example, and no other", 30)
def connect_and_examples_agree(t):
    with t.cluster() as c:
        wrong = subprocess.run([CORALLITE, "connect", "shop"], capture_output=True, text=True).stderr
        languages = set(re.search(r"--lang (.*)", wrong)[1].replace(" or ", ", ").split(", ")) - {"env"}
        folders = {f for f in os.listdir(EXAMPLES) if os.path.isdir(source(f))}
        check(languages == folders - {"branch-per-pull-request"}, f"{languages} and {folders}")
        for language in languages | {"env"}:
            text = run(c, [CORALLITE, "connect", "shop", "--lang", language], language)
            check("@" not in text, f"{language}: {text}")
