#!/usr/bin/python3
"""speedtest1, kvtest, mptester and threadtest3 of SQLite's source tree, on Corallite and on a local WAL.

    programs.py [--size N] [--only NAME]...

Each runs beside a cluster on the same disk; what it prints is checked, and compared with what the
local run printed. Figures: seconds and the ratio. Ends with `N passed, N failed, N skipped`.
"""

import argparse
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "integration"))

from lib import cluster as lib  # noqa: E402

SQLITE = os.path.join(lib.BIN, "sqlite")
# What these look at is not there: -wal and -shm files, and a WAL that grows.
THREADS_THAT_LOOK_AT_FILES = {"walthread2", "walthread5", "checkpoint_starvation_1"}


class Bench:
    def __init__(self, directory, cluster, args):
        self.dir, self.cluster, self.args = directory, cluster, args

    def run(self, backend, program, *words, seconds=900, ok=(0,)):
        """(seconds, output) of one run in a directory of its own."""
        here = tempfile.mkdtemp(prefix=backend, dir=self.dir)
        os.mkdir(os.path.join(here, "hidden"))
        env = dict(os.environ, HARNESS_BACKEND="none" if backend == "local" else backend,
                   HARNESS_NAME=f"{program}-{secrets.token_hex(3)}", CORALLITE_LOG="off",
                   CORALLITE_SERVER=self.cluster.server(), HARNESS_COUNTS=os.path.join(here, "n"),
                   HARNESS_HIDDEN=os.path.join(here, "hidden"))
        before = self.commits()
        began = time.monotonic()
        out = ""
        for part in " ".join(words).split(" && "):
            done = subprocess.run([os.path.join(SQLITE, program), *part.split()], cwd=here, env=env,
                                  capture_output=True, text=True, timeout=seconds,
                                  stdin=subprocess.DEVNULL, preexec_fn=lib.die_with_parent)
            out += done.stdout + done.stderr
            lib.check(done.returncode in ok, f"{program} on {backend} ended with "
                      f"{done.returncode}: {out.strip()[-400:]}")
        took = time.monotonic() - began
        grown = self.commits() - before
        lib.check((grown > 0) == (backend == "corallite"),
                  f"{program} on {backend}: {grown:.0f} commits at the safekeepers")
        shutil.rmtree(here)
        return took, out

    def commits(self):
        return sum(self.cluster.metrics(n)["corallite_safekeeper_records_total"] for n in lib.NODES)


def speedtest1(b):
    size = str(b.args.size)
    words = ("--size", size, "--verify", "--journal", "wal", "test.db")
    local, one = b.run("local", "speedtest1", *words)
    ours, two = b.run("corallite", "speedtest1", *words)
    hashes = [re.findall(r"^Verification Hash: .*$", text, re.M) for text in (one, two)]
    lib.check(hashes[0] and hashes[0] == hashes[1], f"the results differ: {hashes}")
    return f"size {size}: {ours:.1f} s, local WAL {local:.1f} s, ratio {ours / local:.2f}; same hash"


def kvtest(b):
    words = ("init test.db --count 2000 --size 10000 && stat test.db && "
             "run test.db --count 5000 --random --blob-api --integrity-check && "
             "run test.db --count 500 --random --update && stat test.db",)
    local, one = b.run("local", "kvtest", *words)
    ours, two = b.run("corallite", "kvtest", *words)
    for text in (one, two):
        lib.check(len(re.findall(r"Number of entries: +2000", text)) == 2 and
                  "Integrity-check:    ok" in text, text[-400:])
    return f"{ours:.1f} s, local {local:.1f} s, ratio {ours / local:.2f}"


def mptester(b):
    tree = [d for d in os.listdir(os.path.join(SQLITE, "src")) if d.startswith("sqlite3-")][0]
    told = []
    for script in ("config01", "config02", "multiwrite01", "crash01"):
        words = ("test.db", os.path.join(SQLITE, "src", tree, "mptest", script + ".test"))
        local, one = b.run("control", "mptester", *words, ok=(0, 1))
        ours, two = b.run("corallite", "mptester", *words, ok=(0, 1))
        # In WAL mode no VACUUM changes the page size, which config02 expects: so in the control.
        errors = [sorted(set(re.findall(r"ERROR: (line \d+) of", text))) for text in (one, two)]
        lib.check("Summary:" in two and errors[0] == errors[1],
                  f"{script}: errors at {errors[1]}, in the control at {errors[0]}")
        told.append(f"{script} {ours:.1f} s (control {local:.1f} s; {len(errors[1])} expectations of "
                    f"another mode, in both)")
    return ", ".join(told)


def threadtest3(b):
    told = []
    ours, text = b.run("corallite", "threadtest3", ok=(0, 1))
    names = re.findall(r"^Running (\S+) for", text, re.M)
    lib.check(len(names) == 15, f"{len(names)} tests ran: {names}")
    for part in re.split(r"^Running ", text, flags=re.M)[1:]:
        name = part.split()[0]
        if re.search(r"^Error:", part, re.M):
            lib.check(name in THREADS_THAT_LOOK_AT_FILES, f"{name}: {part[-400:]}")
            told.append(name)
    return f"{ours:.0f} s; {15 - len(told)} of 15 right, the others look at files: {' '.join(told)}"


PROGRAMS = {f.__name__: f for f in (speedtest1, kvtest, mptester, threadtest3)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--size", type=int, default=100)
    p.add_argument("--only", action="append", choices=PROGRAMS)
    args = p.parse_args()
    failed = 0
    directory = tempfile.mkdtemp(prefix="corallite-programs-", dir=SQLITE)
    try:
        with lib.Cluster(os.path.join(directory, "cluster")) as cluster:
            for name in args.only or PROGRAMS:
                try:
                    print(f"ok {name}: {PROGRAMS[name](Bench(directory, cluster, args))}",
                          flush=True)
                except (lib.Failure, subprocess.TimeoutExpired) as why:
                    failed += 1
                    print(f"not ok {name}: {why}", flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{len(args.only or PROGRAMS) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
