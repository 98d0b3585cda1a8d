"""What the Python tests of the command share: one cluster for all of them, the command as a process, and
the count of what was checked. A check that fails prints a line and does not end the test."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.join(ROOT, "build")
CORALLITE = os.path.join(BIN, "corallite")
# Under a sanitizer everything takes longer (tests/sanitized/kinds.py).
SLOWER = float(os.environ.get("SLOWER", "1"))
TESTS = []


class Count:
    passed = failed = 0


def test(function):
    TESTS.append(function)
    return function


def check(what, good, detail=""):
    if good:
        Count.passed += 1
    else:
        Count.failed += 1
        print(f"  FAIL  {what}" + (f": {detail}" if detail else ""))
    return bool(good)


def matches(what, pattern, text):
    return check(what, re.search(pattern, text, re.S), f"nothing like /{pattern}/ in: {text.strip()[-500:]}")


def until(condition, seconds, what):
    end = time.monotonic() + seconds * SLOWER
    while not condition():
        if time.monotonic() > end:
            return check(what, False, f"not within {seconds} s")
        time.sleep(0.02)
    return True


def page(name):
    with open(os.path.join(ROOT, "docs", name)) as f:
        return f.read()


class Room:
    """A temporary directory that is HOME as well, and a cluster in it."""

    def __init__(self):
        self.tmp = tempfile.TemporaryDirectory(prefix="corallite-cli-")
        self.dir = self.tmp.name
        self.cluster = os.path.join(self.dir, "cluster")
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith("CORALLITE_") and k not in ("XDG_DATA_HOME", "COLUMNS", "NO_COLOR")}
        self.env.update(HOME=self.dir, PATH=BIN + ":" + os.environ["PATH"], LC_ALL="C.UTF-8",
                        CORALLITE_DIR=self.cluster)

    def __enter__(self):
        done = self.run("up", "--port-base", "auto")
        if done.returncode:
            print(done.stderr)
            raise SystemExit("the cluster did not start")
        self.sql("shop", "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, price REAL);"
                         "INSERT INTO item(name, price) VALUES ('shell', 2.5), ('coral', 7)")
        self.ok("branch", "create", "shop/side")
        return self

    def __exit__(self, *_):
        self.run("down")
        self.tmp.cleanup()

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def run(self, *args, text=None, timeout=60, **env):
        """The command, to its end: returncode, stdout, stderr."""
        return subprocess.run([CORALLITE, *args], input=text, capture_output=True, text=True, timeout=timeout * SLOWER,
                              env={**self.env, **env}, cwd=self.dir,
                              stdin=None if text is not None else subprocess.DEVNULL)

    def ok(self, *args, **more):
        done = self.run(*args, **more)
        check("corallite " + " ".join(args), done.returncode == 0, done.stderr.strip())
        return done.stdout

    def json(self, *args, code=0):
        done = self.run(*args, "--json")
        what = f"corallite {' '.join(args)} --json"
        check(what, done.returncode == code, f"exit code {done.returncode}: {done.stderr}")
        try:
            return json.loads(done.stdout)
        except ValueError as why:
            check(what + " is JSON", False, f"{why}: {done.stdout[:200]}")
            return None

    def sql(self, db, sql, **env):
        return self.ok("sql", db, sql, **env).strip()

    def connect(self, db, **parameters):
        """A connection of this process, autocommit."""
        import sqlite3
        load_extension(self)
        more = "".join(f"&{k}={v}" for k, v in parameters.items())
        return sqlite3.connect(f"file:{db}?vfs=corallite{more}", uri=True, isolation_level=None, timeout=5,
                               check_same_thread=False)

    @contextlib.contextmanager
    def safekeeper(self, cluster, node):
        """A new, empty safekeeper of the cluster in a directory, while it is needed; its address."""
        with open(os.path.join(cluster, "cluster")) as f:
            cluster_id = re.search(r"^id (\w+)$", f.read(), re.M)[1]
        daemon = subprocess.Popen(
            [os.path.join(BIN, "corallite-safekeeper"), "--dir", self.path(f"new-{node}"), "--node", str(node),
             "--cluster", cluster_id, "--listen", "127.0.0.1:0"], stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        try:
            found = None
            while not found:
                line = daemon.stderr.readline()
                if not line:
                    raise SystemExit("a safekeeper did not start")
                found = re.search(r" ready node=\d+ addr=(\S+)", line)
            threading.Thread(target=daemon.stderr.read, daemon=True).start()
            yield found[1]
        finally:
            daemon.kill()
            daemon.wait(10)

    def terminal(self, *args, rows=24, columns=80, **env):
        return Terminal([CORALLITE, *args], {**self.env, "TERM": "xterm", **env}, self.dir, rows, columns)


_loaded = []


def load_extension(room):
    """Once a process; it stays."""
    import sqlite3
    if _loaded:
        return
    env = json.loads(room.run("env", "--json").stdout)
    os.environ["CORALLITE_SERVER"] = env["CORALLITE_SERVER"]
    os.environ["CORALLITE_LOG"] = "off"
    db = sqlite3.connect(":memory:")
    db.enable_load_extension(True)
    db.load_extension(env["CORALLITE_EXTENSION"])
    _loaded.append(db)


def last_error():
    return _loaded[0].execute("SELECT corallite_last_error()").fetchone()[0]


class Terminal:
    """A process on a pseudo-terminal of its own."""

    def __init__(self, args, env, directory, rows, columns):
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.chdir(directory)
            os.execve(args[0], args, env)
        self.before = termios.tcgetattr(self.fd)

    def read(self, seconds=0.0):
        """What came within so long."""
        end = time.monotonic() + seconds
        while True:
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            if not ready:
                return self.text
            try:
                got = os.read(self.fd, 65536)
            except OSError:
                got = b""
            if not got:
                return self.text
            self.text += got.decode(errors="replace")

    def wait_for(self, pattern, seconds=20):
        end = time.monotonic() + seconds * SLOWER
        while not re.search(pattern, self.text, re.S) and time.monotonic() < end:
            self.read(0.05)
        return matches(f"on the terminal comes /{pattern}/", pattern, self.text)

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self, seconds=60):
        """Exit code; everything that was printed is in .text."""
        limit = time.monotonic() + seconds * SLOWER
        while time.monotonic() < limit:
            self.read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.read(0.05)
                self.same = termios.tcgetattr(self.fd) == self.before
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        check("the process on the terminal ends", False, self.text[-300:])
        return None

    def screen(self):
        """What a person sees in the end: \\r and \\033[K carried out, colours left out."""
        lines = []
        for line in re.sub(r"\033\[[0-9;]*m", "", self.text).replace("\r\n", "\n").split("\n"):
            shown, at = "", 0
            for part in re.split(r"(\r|\033\[K)", line):
                if part == "\r":
                    at = 0
                elif part == "\033[K":
                    shown = shown[:at]
                else:
                    shown, at = shown[:at] + part + shown[at + len(part):], at + len(part)
            lines.append(shown)
        return "\n".join(lines)


def main():
    started = time.monotonic()
    only = sys.argv[2:]
    with Room() as room:
        for function in TESTS:
            if only and function.__name__ not in only:
                continue
            began = time.monotonic()
            try:
                function(room)
            except Exception as why:  # noqa: B902 - whatever it is, it is the test's failure
                import traceback
                check(function.__name__, False, "".join(traceback.format_exception(why))[-1500:])
            if os.environ.get("TIMES"):
                print(f"# {function.__name__}: {time.monotonic() - began:.1f} s")
    if os.environ.get("TIMES"):
        print(f"# all: {time.monotonic() - started:.1f} s")
    print(f"{Count.passed} passed, {Count.failed} failed, 0 skipped")
    return 1 if Count.failed or not Count.passed else 0
