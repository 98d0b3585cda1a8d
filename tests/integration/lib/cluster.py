"""A cluster of real processes on loopback: three safekeepers and a pageserver, below one directory.

Nothing is left behind: every process dies with the thread that started it (PR_SET_PDEATHSIG), is
killed by its pid at the end, and the runner removes the directory.
"""

import atexit
import ctypes
import os
import queue
import random
import re
import secrets
import signal
import socket
import subprocess
import threading
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BIN = os.path.join(ROOT, os.environ.get("B", "build"))
# Under a sanitizer everything takes longer: bounds are multiplied by this (tests/sanitized/kinds.py).
SLOWER = float(os.environ.get("SLOWER", "1"))
# A sanitizer keeps for a while what was freed: bounds of memory are multiplied by this.
KEPT = 16 if SLOWER > 1 else 1
if SLOWER != 1:
    # The many waits for a process each have a bound of their own; here all of them learn of it.
    def _patient(wait):
        return lambda self, timeout=None: wait(self, timeout if timeout is None else timeout * SLOWER)

    def _patient_talk(talk):
        return lambda self, input=None, timeout=None: talk(self, input, timeout if timeout is None else timeout * SLOWER)

    subprocess.Popen.wait = _patient(subprocess.Popen.wait)
    subprocess.Popen.communicate = _patient_talk(subprocess.Popen.communicate)
EXTENSION = os.path.join(BIN, "corallite")
NODES = (1, 2, 3)
PAGESERVER = "pageserver"

_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


class Failure(Exception):
    """What a test found to be wrong."""


class Skip(Exception):
    """Why a test cannot be run here."""


def check(condition, message):
    if not condition:
        raise Failure(message)


def die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


_started = []


def popen(args, host=None, **kwargs):
    """A process that ends with us, whatever happens to us. host: what it enters first (hosts.Host)."""
    def before():
        if host:
            host.enter()
        die_with_parent()

    process = subprocess.Popen(args, preexec_fn=before, **kwargs)
    _started.append(process)
    return process


def kill_all():
    for process in _started:
        if process.poll() is None:
            process.kill()
    for process in _started:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            pass


atexit.register(kill_all)


def until(condition, seconds, what):
    """Waits for a condition; its value. No wait without a bound."""
    end = time.monotonic() + seconds * SLOWER
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(0.01)


def _ephemeral_range():
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        low, high = f.read().split()
    return int(low), int(high)


_ours = []


def _reserve(port):
    """While this process lives no other test takes the port, though nobody may listen on it at the moment (a daemon that was
    stopped and will come back). An abstract address: it leaves no file and ends with the process."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        s.bind(f"\0corallite-test-port-{port}")
    except OSError:
        s.close()
        return False
    _ours.append(s)
    return True


def free_ports(n):
    """Ports that nobody listens on or will, outside the range that outgoing connections are given."""
    low, high = _ephemeral_range()
    choice = [p for p in range(15000, 60000) if not low <= p <= high] or list(range(15000, 60000))
    ports = []
    while len(ports) < n:
        port = random.choice(choice)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        if _reserve(port):
            ports.append(port)
    return ports


class Cluster:
    def __init__(self, directory, start=True, host="127.0.0.1", place=None):
        """host: the address of this machine (or of a network namespace) that all daemons listen on.
        place: what each daemon enters before it runs, as with popen."""
        self.dir = directory
        self.place = place
        self.host = host
        self.id = secrets.token_hex(16)
        os.makedirs(directory, exist_ok=True)
        ports = free_ports(8)
        self.port = {PAGESERVER: ports[0], 1: ports[2], 2: ports[4], 3: ports[6]}
        self.http = {PAGESERVER: ports[1], 1: ports[3], 2: ports[5], 3: ports[7]}
        self.process = {}
        if start:
            self.start_everything()
            until(self.knows_all, 20, "the pageserver has connections to all three safekeepers")

    # -- daemons --------------------------------------------------------------------------------

    def data(self, node):
        return os.path.join(self.dir, node if node == PAGESERVER else f"safekeeper-{node}")

    def log(self, node):
        return self.data(node) + ".log"

    def command(self, node):
        listen = f"{self.host}:{self.port[node]}"
        args = ["--dir", self.data(node), "--listen", listen, "--cluster", self.id,
                "--http", f"127.0.0.1:{self.http[node]}"]
        if self.host != "127.0.0.1":
            args.append("--insecure-listen")
        if node == PAGESERVER:
            keepers = ",".join(f"{n}={self.host}:{self.port[n]}" for n in NODES)
            return [os.path.join(BIN, "corallite-pageserver"), *args, "--safekeepers", keepers,
                    "--map-size", os.environ.get("MAP_SIZE", "64G")]
        return [os.path.join(BIN, "corallite-safekeeper"), *args, "--node", str(node)]

    def start(self, node, wait=True, command=None):
        with open(self.log(node), "ab") as log:
            self.process[node] = popen(command or self.command(node), stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, cwd=self.dir,
                                       host=self.place)
        if wait:
            self.wait_ready((node,))

    def wait_ready(self, nodes=NODES + (PAGESERVER,), seconds=20):
        for node in nodes:
            until(lambda: self.is_up(node), seconds, f"{node} answers")

    def is_up(self, node):
        code = self.process[node].poll()
        if code is not None:
            raise Failure(f"{node} ended with status {code}: {self.last_words(node)}")
        try:
            socket.create_connection((self.host, self.port[node]), 0.2).close()
            if self.host == "127.0.0.1":  # HTTP is there a moment later
                socket.create_connection((self.host, self.http[node]), 0.2).close()
            return True
        except OSError:
            return False

    def last_words(self, node, lines=3):
        try:
            with open(self.log(node), errors="replace") as f:
                return " | ".join(f.read().splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def pid(self, node):
        return self.process[node].pid

    def kill9(self, node):
        self.process[node].kill()
        self.process[node].wait(10)

    def stop(self, node, seconds=10):
        """SIGTERM; a clean stop has exit status 0."""
        self.process[node].terminate()
        check(self.process[node].wait(seconds) == 0, f"{node} did not stop cleanly")

    def restart(self, node):
        if self.process[node].poll() is None:
            self.kill9(node)
        self.start(node)

    def kill9_everything(self):
        for node in self.process:
            self.kill9(node)

    def start_everything(self):
        for node in NODES + (PAGESERVER,):
            self.start(node, wait=False)
        self.wait_ready()

    def knows_all(self):
        """What is made earlier is made by two safekeepers, and the third hears of it later."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http[PAGESERVER]}/metrics", timeout=5) as answer:
            found = re.findall(r'^corallite_pageserver_safekeeper_connected\{node="\d+"\} (\d)$', answer.read().decode(), re.M)
        return found.count("1") == 3

    def close(self):
        for process in self.process.values():
            if process.poll() is None:
                process.kill()
            process.wait(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def metrics(self, node=PAGESERVER):
        """{name: value} of a daemon's /metrics."""
        url = f"http://127.0.0.1:{self.http[node]}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
        return {m[1]: float(m[2]) for m in re.finditer(r"^(\w+) ([0-9.e+]+)$", text, re.M)}

    # -- computes -------------------------------------------------------------------------------

    def server(self):
        return f"{self.host}:{self.port[PAGESERVER]}"

    def env(self, **more):
        env = dict(os.environ, CORALLITE_SERVER=self.server())
        env.update(more)
        return env

    def uri(self, db="shop", **parameters):
        """Of a database; for whoever has no CORALLITE_SERVER."""
        parameters = {"vfs": "corallite", "server": self.server(), **parameters}
        return f"file:{db}?" + "&".join(f"{k}={v}" for k, v in parameters.items())

    def shell_args(self, db="shop", **parameters):
        extra = "".join(f"&{k}={v}" for k, v in parameters.items())
        return ["sqlite3", "-batch", "-bail", "-init", "/dev/null", "-cmd", f".load {EXTENSION}",
                "-cmd", f".open file:{db}?vfs=corallite{extra}"]

    def shell(self, sql, db="shop", timeout=60, env=None, ok=True, prefix=(), **parameters):
        """The stock shell, as in the README. Its CompletedProcess."""
        done = run([*prefix, *self.shell_args(db, **parameters)], sql, timeout,
                   env or self.env())
        if ok and done.returncode != 0:
            raise Failure(f"sqlite3 failed ({done.returncode}): {done.stderr.strip()[-600:]}")
        return done

    def connect(self, db="shop", timeout=5.0, **parameters):
        """A connection of this process, autocommit."""
        import sqlite3
        load_extension()
        return sqlite3.connect(self.uri(db, **parameters), uri=True, isolation_level=None,
                               timeout=timeout, check_same_thread=False)

    def worker(self, name, *args, stdout=subprocess.PIPE, pass_fds=(), env=None, host=None):
        """A process that runs one function of workers.py on this cluster (hosts.Host: there)."""
        script = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                              "workers.py")
        process = popen(["/usr/bin/python3", script, name, *map(str, args)],
                        env=env or self.env(), stdin=subprocess.PIPE, stdout=stdout,
                        stderr=subprocess.PIPE, text=True, pass_fds=pass_fds, host=host)
        if stdout == subprocess.PIPE:
            process.lines = queue.Queue()
            threading.Thread(target=_collect, args=(process,), daemon=True).start()
        return process


def _collect(process):
    for text in process.stdout:
        process.lines.put(text.strip())
    process.lines.put(None)


def line(worker, seconds=60):
    """The next line of a worker's output."""
    try:
        text = worker.lines.get(timeout=seconds * SLOWER)
    except queue.Empty:
        raise Failure(f"the worker said nothing for {seconds} s") from None
    if text is None:
        worker.wait(10)
        raise Failure(f"the worker ended: {worker.stderr.read()[-500:]}")
    return text


def tell(worker, text):
    """A line for a worker."""
    worker.stdin.write(text + "\n")
    worker.stdin.flush()


_loaded = []


def load_extension():
    """Once a process; it stays."""
    import sqlite3
    if not _loaded:
        db = sqlite3.connect(":memory:")
        db.enable_load_extension(True)
        db.load_extension(EXTENSION)
        _loaded.append(db)


def last_error():
    """The sentence behind the last failure of this thread."""
    load_extension()
    return _loaded[0].execute("SELECT corallite_last_error()").fetchone()[0]


def preload_of(*libraries):
    """LD_PRELOAD with these behind what is there: a sanitizer's library has to be the first."""
    return " ".join(filter(None, (os.environ.get("LD_PRELOAD"), *libraries)))


def run(args, text, timeout, env=None):
    """A whole process within a bound: input text, output text."""
    process = popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    text=True, env=env)
    try:
        out, err = process.communicate(text, timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise Failure(f"{args[0]} did not end within {timeout} s; it said: {err[-500:]}")
    return subprocess.CompletedProcess(args, process.returncode, out, err)


def socket_bytes(pid, port, side="peer"):
    """Bytes sent and received by a process on its connections to (side peer) or at (side local) a
    port, as the kernel counts them: {local port: (sent, received)}."""
    out = subprocess.run(["ss", "-tinpH", "state", "established"], capture_output=True, text=True,
                         timeout=10, check=True).stdout
    found = {}
    lines = out.splitlines()
    for head, info in zip(lines, lines[1:]):
        if f"pid={pid}," not in head:
            continue
        fields = head.split()
        local, peer = fields[2], fields[3]
        if not (peer if side == "peer" else local).endswith(f":{port}"):
            continue
        sent = re.search(r"bytes_sent:(\d+)", info)
        received = re.search(r"bytes_received:(\d+)", info)
        found[int(local.rsplit(":", 1)[1])] = (int(sent[1]) if sent else 0,
                                               int(received[1]) if received else 0)
    return found
