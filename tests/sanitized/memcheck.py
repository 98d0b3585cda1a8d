#!/usr/bin/python3
"""memcheck.py [PART...] - unit tests, simulator and a cluster with a program under valgrind's memcheck.

$B is a build directory without sanitizers, whose unit tests have the shim in Criterion's place. Parts: canary unit sim
cluster. A report with a frame of ours fails the step that it came in. A step of `unit` is a suite of a module; RESUME=yes
leaves out what has passed with this build (steps.py). Prints `N passed, N failed, N skipped`.
"""

import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "tests", "integration")]
os.environ.setdefault("SLOWER", "20")
from lib import cluster  # noqa: E402
import steps  # noqa: E402

B = os.environ.get("B", "build/valgrind")
BIN = os.path.join(ROOT, B)
PARTS = ("canary", "unit", "sim", "cluster")
OURS = re.compile(r"\((?:\w+\.[ch]):\d+\)|corallite")
SUITE = re.compile(r"^Test\(\s*(\w+)", re.M)


def valgrind(log):
    return ["valgrind", "-q", "--error-exitcode=0", "--leak-check=full", "--show-leak-kinds=definite", "--trace-children=no",
            "--num-callers=20", f"--log-file={log}.%p"]


def reports(log):
    """The reports of all processes with this log; the files are removed."""
    out = []
    folder = os.path.dirname(log)
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if not path.startswith(log + "."):
            continue
        with open(path, errors="replace") as f:
            text = re.sub(r"^==\d+== ?", "", f.read(), flags=re.M)
        os.unlink(path)
        out += [b for b in text.split("\n\n") if re.match(
            r"(Invalid|Conditional|Use of|Mismatched|Source and|Syscall|[\d,]+ (\(.*\) )?bytes in .* (definitely|indirectly) lost)",
            b) and OURS.search(b)]
    return out


def suites_of(module):
    """The suites that the sources of a module's unit tests define."""
    folder, found = os.path.join(ROOT, "tests", "unit", module), set()
    for name in os.listdir(folder):
        if name.endswith(".c"):
            with open(os.path.join(folder, name)) as f:
                found.update(m[1] for m in SUITE.finditer(f.read()) if m[1])
    return sorted(found)


class Run:
    def __init__(self, room):
        self.log, self.passed, self.failed = os.path.join(room, "vg"), 0, 0
        self.steps = steps.Steps(BIN, "memcheck")

    def told(self, what, good, text=""):
        found = reports(self.log)
        good = good and not found
        self.passed, self.failed = self.passed + good, self.failed + (not good)
        self.steps.note(what, good, len(found))
        print(f"{'ok' if good else 'not ok'} {what}{f' ({len(found)} reports)' if found else ''}", flush=True)
        for report in found[:3]:
            print(report[:2500])
        if not good and not found:
            print(text[-1500:], flush=True)

    def had(self, what):
        if not self.steps.passed_before(what):
            return False
        self.passed += 1
        print(f"ok before: {what}", flush=True)
        return True

    def step(self, what, command, seconds=5400):
        if self.had(what):
            return
        done = subprocess.run([*valgrind(self.log), *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=seconds, env=dict(os.environ, CORALLITE_BIN_DIR=BIN))
        self.told(what, done.returncode == 0, done.stdout.decode(errors="replace"))

    def canary(self):
        subprocess.run([*valgrind(self.log), os.path.join(BIN, "tests/sanitized/canary"), "leak"], timeout=120, check=False,
                       capture_output=True)
        found = any("4,711 bytes" in r for r in reports(self.log))
        self.passed, self.failed = self.passed + found, self.failed + (not found)
        print(f"{'ok' if found else 'not ok'} canary: a leak is reported", flush=True)

    def unit(self):
        for module in ("common", "proto", "safekeeper", "pageserver", "compute-vfs", "cli"):
            for suite in suites_of(module):
                self.step(f"unit {module}/{suite}", [os.path.join(BIN, f"tests/unit-{module}"), suite + "/"])

    def sim(self):
        self.step("sim, 20 seeds", [os.path.join(BIN, "tests/sim"), "--seed", "1", "--runs", "20"])

    def cluster(self):
        """Four daemons and a program of threads, all under valgrind; a clean stop."""
        what = "cluster: four daemons and a program of four threads"
        if self.had(what):
            return
        with tempfile.TemporaryDirectory(prefix="corallite-memcheck-") as room:
            c = cluster.Cluster(os.path.join(room, "c"), start=False)
            for node in cluster.NODES + (cluster.PAGESERVER,):
                c.start(node, wait=False, command=[*valgrind(self.log), *c.command(node)])
            try:
                c.wait_ready(seconds=20)
                process = cluster.popen([*valgrind(self.log), os.path.join(BIN, "tests/integration/crowd"), cluster.EXTENSION,
                                         c.uri("bank"), "2", "2", "10"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True)
                text = process.communicate(timeout=600)[0]
                good = process.returncode == 0 and "wrong" not in text
                for node in cluster.NODES + (cluster.PAGESERVER,):
                    c.stop(node, 20)
                time.sleep(0.5)
            finally:
                c.close()
            self.told(what, good, text)


def main(parts):
    with tempfile.TemporaryDirectory(prefix="corallite-memcheck-") as room:
        run = Run(room)
        for part in parts or PARTS:
            getattr(run, part)()
    print(f"{run.passed} passed, {run.failed} failed, 0 skipped")
    return 0 if run.failed == 0 and run.passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
