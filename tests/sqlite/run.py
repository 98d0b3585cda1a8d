#!/usr/bin/python3
"""SQLite's own test scripts with Corallite, or the control, as the default VFS.

    run.py [--backend corallite|control] [--out DIR] [--jobs N] [--timeout S] [--quarter] [--resume] [SCRIPT]...

Each script runs in a process and a directory of its own, never as root, against a cluster of three
safekeepers and a pageserver that a few hundred databases share. A script is clean when it ended by
itself without an error. One line of JSON a script goes to DIR/BACKEND.jsonl (rows.py), in the place of
the one that it had, and what it printed to DIR/BACKEND/SCRIPT.log. SCRIPT: names or patterns. --resume: of these
only the ones that have no row of this very build yet, so a run that was broken off goes on where it was.
$B names the build directory. Ends with `N passed, N failed, N skipped` under --quarter, where a
script passes when exceptions.txt explains each case that fails, and when it was not hollow.
"""

import argparse
import fnmatch
import os
import queue
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))

from lib import cluster as lib  # noqa: E402

import explain  # noqa: E402
import rows  # noqa: E402

SQLITE = os.path.join(lib.BIN, "sqlite")
FIXTURE = os.path.join(SQLITE, "testfixture")
PRELUDE = os.path.join(HERE, "prelude.tcl")
COMMAND = os.path.join(lib.BIN, "corallite")
TREE = None  # SQLite's sources
NOBODY = 65534
COUNTS = ("main", "foreign", "bytes", "created", "dropped", "copied", "commits")
# Seconds for some, in the place of --timeout: two open and close thousands of databases, each with connections of its
# own; the others wait for what never comes, here and in the control.
SECONDS = {"swarmvtab": 1200, "swarmvtab3": 1200, "lock4": 60, "sharedA": 60}
DATABASES_A_CLUSTER = 150  # a dropped database's log stays on the safekeepers' disks


def source_tree():
    for name in os.listdir(os.path.join(SQLITE, "src")):
        if name.startswith("sqlite3-"):
            return os.path.join(SQLITE, "src", name)
    raise SystemExit("there is no source tree; run make sqlite-harness")


def may_all_enter(path):
    while path != "/":
        if not os.stat(path).st_mode & 0o001:
            return False
        path = os.path.dirname(path)
    return True


def where_nobody_may_read(work):
    """A checkout below a directory of root's alone is copied: what runs there is not root."""
    global FIXTURE, PRELUDE, COMMAND, TREE
    TREE = source_tree()
    if os.getuid() != 0 or may_all_enter(HERE) and may_all_enter(SQLITE):
        return
    copy = os.path.join(work, "tree")
    os.makedirs(copy)
    FIXTURE, COMMAND = shutil.copy2(FIXTURE, copy), shutil.copy2(COMMAND, copy)
    PRELUDE = os.path.join(shutil.copytree(HERE, os.path.join(copy, "scripts")), os.path.basename(PRELUDE))
    TREE = shutil.copytree(TREE, os.path.join(copy, os.path.basename(TREE)), symlinks=True)


def as_nobody(args):
    if os.getuid() != 0:
        return args
    # A change of user forgets that it is to die with us.
    return ["setpriv", "--pdeathsig", "KILL", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *args]


def suite(directory, name="veryquick"):
    """All scripts of a suite, by path."""
    done = subprocess.run(as_nobody([FIXTURE, PRELUDE, os.path.join(TREE, "test"), name]),
                          capture_output=True, text=True, cwd=directory, timeout=60,
                          env=dict(os.environ, HARNESS_BACKEND="none"))
    found = [line for line in done.stdout.splitlines() if line.endswith(".test")]
    if not found:
        raise SystemExit(f"no scripts: {done.stdout[-500:]}{done.stderr[-500:]}")
    return found


class Place:
    """Where one worker runs its scripts: a directory, and with Corallite a cluster."""

    def __init__(self, args, number):
        self.args = args
        self.dir = os.path.join(args.work, f"worker-{number}")
        os.makedirs(self.dir)
        os.chmod(self.dir, 0o755)
        self.cluster, self.databases, self.clusters = None, 0, 0

    def ready(self):
        if self.args.backend != "corallite":
            return
        if self.cluster and self.databases >= DATABASES_A_CLUSTER:
            self.end()
        if not self.cluster:
            self.clusters += 1
            self.databases = 0
            where = os.path.join(self.dir, f"cluster-{self.clusters}")
            self.cluster = lib.Cluster(where)

    def end(self):
        if self.cluster:
            self.cluster.close()
            shutil.rmtree(self.cluster.dir, ignore_errors=True)
            self.cluster = None

    def metrics(self):
        """(records at all three safekeepers, records at the pageserver)"""
        if not self.cluster:
            return 0, 0
        kept = sum(self.cluster.metrics(n)["corallite_safekeeper_records_total"]
                   for n in lib.NODES)
        return kept, self.cluster.metrics()["corallite_pageserver_ingest_records_total"]


def read_counts(path):
    try:
        with open(path, "rb") as f:
            data = f.read(8 * len(COUNTS))
        return dict(zip(COUNTS, struct.unpack(f"<{len(COUNTS)}Q", data)))
    except (OSError, struct.error):
        return dict.fromkeys(COUNTS, 0)


def run_bounded(args, cwd, env, out, seconds):
    """Exit status, or None when it had to be ended (with its children: it has a session)."""
    process = subprocess.Popen(args, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out,
                               stderr=out, start_new_session=True, preexec_fn=lib.die_with_parent)
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        status = None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    return status


def run_script(place, path):
    args = place.args
    name = os.path.basename(path)[:-len(".test")]
    place.ready()
    here = os.path.join(place.dir, name)
    hidden = os.path.join(place.dir, f"hidden-{name}")
    counts = os.path.join(place.dir, f"counts-{name}")
    for directory in (here, hidden):
        os.makedirs(directory)
        if os.getuid() == 0:
            os.chown(directory, NOBODY, NOBODY)
    with open(counts, "wb") as f:
        f.write(bytes(8 * len(COUNTS)))
    os.chmod(counts, 0o666)
    env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": here, "LC_ALL": "C.UTF-8",
           "HARNESS_BACKEND": args.backend, "HARNESS_NAME": re.sub(r"[^A-Za-z0-9]", "-", name),
           "HARNESS_COUNTS": counts, "HARNESS_HIDDEN": hidden,
           "HARNESS_COMMAND": COMMAND,
           "CORALLITE_LOG": os.environ.get("CORALLITE_LOG", "off"),
           **{name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")}}
    if place.cluster:
        env["CORALLITE_SERVER"] = place.cluster.server()
    before = place.metrics()
    log = os.path.join(args.out, args.backend, name + ".log")
    began = time.monotonic()
    with open(log, "wb") as out:
        status = run_bounded(
            as_nobody([FIXTURE, PRELUDE, os.path.join(TREE, "test"), "veryquick", path]),
            here, env, out, SECONDS.get(name, args.timeout) * lib.SLOWER)
    seconds = time.monotonic() - began
    result = judge(name, log, status)
    result["seconds"] = round(seconds, 2)
    result["counts"] = read_counts(counts)
    after = place.metrics()
    if after[0] > before[0] and after[1] == before[1]:  # it pulls on its own time
        try:
            lib.until(lambda: place.metrics()[1] > before[1], 3, "ingest")
        except lib.Failure:
            pass
        after = place.metrics()
    result["commits"] = int(after[0] - before[0])
    result["ingested"] = int(after[1] - before[1])
    place.databases += result["counts"]["created"]
    for directory in (here, hidden):
        shutil.rmtree(directory, ignore_errors=True)
    os.unlink(counts)
    return result


def judge(name, log, status):
    """What a script's own output says."""
    with open(log, errors="replace") as f:
        text = f.read()
    total = re.search(r"^(\d+) errors out of (\d+) tests", text, re.M)
    failed = re.search(r"^!Failures on these tests: (.*)$", text, re.M)
    cases = failed[1].split() if failed else []
    if not total:  # it did not come to its end: what failed until then
        cases = sorted(set(re.findall(r"^! (\S+) (?:expected|got):", text, re.M)))
    ended = "timeout" if status is None else "crash" if status < 0 else \
        "aborted" if not total else "ended"
    tests = int(total[2]) if total else len(re.findall(r"^\S+\.\.\. Ok$", text, re.M))
    result = {"script": name, "ended": ended, "status": status, "tests": tests, "failed": cases}
    if ended == "ended" and status != 0 and not cases:
        result["failed"] = [line[:80] for line in text.splitlines()
                            if "left open" in line or "Unfreed memory" in line] or ["exit status"]
    if ended == "aborted":
        result["why"] = " | ".join(text.strip().splitlines()[-3:])[-300:]
    return result


def clean(result):
    return result["ended"] == "ended" and result["status"] == 0 and not result["failed"]


def work_through(args, scripts, tell):
    todo, results, lock = queue.Queue(), [], threading.Lock()
    for path in scripts:
        todo.put(path)

    def worker(number):
        place = Place(args, number)
        try:
            while True:
                try:
                    path = todo.get_nowait()
                except queue.Empty:
                    return
                try:
                    result = run_script(place, path)
                except (lib.Failure, OSError) as why:
                    result = {"script": os.path.basename(path)[:-5], "ended": "harness",
                              "status": None, "tests": 0, "failed": [], "why": str(why),
                              "seconds": 0, "counts": dict.fromkeys(COUNTS, 0), "commits": 0,
                              "ingested": 0}
                    place.end()
                with lock:
                    results.append(result)
                    tell(result)
        finally:
            place.end()

    threads = [threading.Thread(target=worker, args=(n,), daemon=True) for n in range(args.jobs)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--backend", default="corallite", choices=("corallite", "control", "none"))
    p.add_argument("--out", default=os.path.join(SQLITE, "results"))
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--timeout", type=int, default=300)
    p.add_argument("--quarter", action="store_true")
    p.add_argument("--resume", action="store_true", help="only scripts that have no row of this build yet")
    p.add_argument("scripts", nargs="*")
    return p.parse_args()


def choose(args, paths):
    names = args.scripts
    if args.quarter and not names:
        with open(os.path.join(HERE, "quarter.txt")) as f:
            names = f.read().split()
    if not names:
        return paths
    return [p for p in paths
            if any(fnmatch.fnmatch(os.path.basename(p)[:-5], n) for n in names)]


def verdict(results, wanted):
    """The closing lines of a CI run of so many scripts."""
    rules, before = explain.load(), explain.known()
    failed = 0
    for r in sorted(results, key=lambda r: r["script"]):
        wrong = explain.complaints(r, rules, clean(r), before)
        failed += bool(wrong)
        for line in wrong:
            print(f"not ok {r['script']}: {line}")
    missing = wanted - len(results)
    failed += missing
    counts = {name: sum(r["counts"][name] for r in results) for name in COUNTS}
    print(f"# {sum(r['tests'] for r in results)} cases; main databases opened: {counts['main']}, by "
          f"another VFS: {counts['foreign']}; databases made: {counts['created']}, dropped: "
          f"{counts['dropped']}; commits at SQLite: {counts['commits']}, at the safekeepers: "
          f"{sum(r['commits'] for r in results)}, at the pageserver: "
          f"{sum(r['ingested'] for r in results)}")
    print(f"{len(results) + missing - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not results else 0


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of the cleaning up below
    os.makedirs(os.path.join(args.out, args.backend), exist_ok=True)
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    args.work = tempfile.mkdtemp(prefix="corallite-sqlite-", dir=base)
    os.chmod(args.work, 0o755)
    try:
        os.chmod(args.work, 0o777)
        where_nobody_may_read(args.work)
        everything = suite(args.work)
        scripts = {os.path.basename(p)[:-5]: p for p in choose(args, everything)}
        book = rows.Book(args.out, args.backend, rows.build_of(args.backend, lib.BIN, TREE))
        book.keep_only(os.path.basename(p)[:-5] for p in everything)
        if args.resume:
            done = book.of_this_build()
            scripts = {name: path for name, path in scripts.items() if name not in done}
        with book:

            def tell(result):
                book.add(result)
                if not clean(result):
                    print(f"  {result['script']}: {result['ended']}, {len(result['failed'])} of "
                          f"{result['tests']} cases", flush=True)

            results = work_through(args, scripts.values(), tell)
    finally:
        shutil.rmtree(args.work, ignore_errors=True)
    n = sum(map(clean, results))
    print(f"{args.backend}: {n} of {len(results)} scripts clean")
    return verdict(results, len(scripts)) if args.quarter else 0


if __name__ == "__main__":
    sys.exit(main())
