#!/usr/bin/python3
"""suite.py address|thread [PART...] - the whole suite under a sanitizer, in a build directory $B made with it.

Parts: canary unit sim integration cli sqlite (default: all; `unit` of thread has
tests/sanitized/shim in Criterion's place). ONLY="name name" limits `integration`. Stock programs get the sanitizer's library preloaded. A
report with a frame of ours fails the step that it came in (reports.py); what stock programs do by themselves is counted
and told. A test that fails without a report fails here too: it may have been too slow. Each step is noted (steps.py); RESUME=yes
leaves out what has passed with this build. Prints `N passed, N failed, N skipped`.
"""

import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import reports  # noqa: E402
import steps  # noqa: E402

B = os.environ.get("B", "build/sanitize")
LIBRARY = {"address": "libasan.so", "thread": "libtsan.so"}
CANARY = {"address": ("leak", r"leak of 4711 byte"), "thread": ("race", "data race")}
SLOWER = {"address": "4", "thread": "8"}
PARTS = ("canary", "unit", "sim", "integration", "cli", "sqlite")
# Integration tests that a sanitizer cannot run, each with the reason.
NOT_WITH = {
    "address": {
        "memory_runs_out": "it replaces malloc",
        "durable_write_at_two_safekeepers": "strace and LeakSanitizer both want ptrace",
    },
    "thread": {
        "memory_runs_out": "it replaces malloc",
        "durable_write_at_two_safekeepers": "strace and ThreadSanitizer's background thread: it is waited for in vain",
    },
}
COUNTS = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", re.M)


class Run:
    def __init__(self, kind, room):
        self.kind, self.log = kind, os.path.join(room, "report")
        self.passed = self.failed = self.skipped = self.foreign = self.before = 0
        self.steps = steps.Steps(os.path.join(ROOT, B), kind)
        common = f"log_path={self.log}:log_exe_name=1"
        self.env = dict(os.environ, B=B, SLOWER=SLOWER[kind], LSAN_OPTIONS="exitcode=0",
                        ASAN_OPTIONS=f"{common}:detect_leaks=1:allocator_may_return_null=1",
                        UBSAN_OPTIONS=f"{common}:print_stacktrace=1",
                        TSAN_OPTIONS=f"{common}:history_size=4:die_after_fork=0:exitcode=0:allocator_may_return_null=1")

    def preloaded(self):
        library = subprocess.run(["gcc", f"-print-file-name={LIBRARY[self.kind]}"], capture_output=True, text=True,
                                 check=True).stdout.strip()
        return dict(self.env, LD_PRELOAD=os.path.realpath(library))

    def told(self, name, good, text=""):
        ours, foreign = reports.collect(self.log)
        self.foreign += foreign
        good = good and not ours
        self.passed, self.failed = self.passed + good, self.failed + (not good)
        self.steps.note(name, good, len(ours))
        print(f"{'ok' if good else 'not ok'} {name}{f' ({len(ours)} reports)' if ours else ''}", flush=True)
        for report in ours[:3]:
            print(report[:3000])
        if not good and not ours:
            why = [line[:400] for line in text.splitlines() if line.startswith("not ok") or "FAIL" in line]
            print("\n".join(f"# {line}" for line in why[:8] or text[-1500:].splitlines()), flush=True)

    def step(self, name, command, env=None, seconds=3600):
        if self.steps.passed_before(name):
            self.passed, self.before = self.passed + 1, self.before + 1
            print(f"ok before: {name}", flush=True)
            return ""
        try:
            done = subprocess.run(command, cwd=ROOT, env=env or self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=seconds)
            good, text = done.returncode == 0, done.stdout.decode(errors="replace")
        except subprocess.TimeoutExpired as e:
            good, text = False, f"not finished after {seconds} s\n" + (e.stdout or b"").decode(errors="replace")
        self.told(name, good, text)
        return text

    # -- parts ----------------------------------------------------------------------------------

    def canary(self):
        """Its report must come, and by the same way as all others."""
        what, pattern = CANARY[self.kind]
        extension = os.path.join(os.path.abspath(os.path.join(ROOT, B)), "tests/sanitized/canaryextension.so")
        for where, command in (("a program", [os.path.join(B, "tests/sanitized/canary"), what]),
                               ("an extension of the stock shell", ["sqlite3", ":memory:", f".load {extension}"])):
            subprocess.run(command, cwd=ROOT, env=self.preloaded(), timeout=60, capture_output=True)
            ours, _ = reports.collect(self.log)
            found = any(re.search(pattern, report) for report in ours)
            self.passed, self.failed = self.passed + found, self.failed + (not found)
            print(f"{'ok' if found else 'not ok'} canary: a {what} in {where} is reported", flush=True)

    def unit(self):
        for module in ("common", "proto", "safekeeper", "pageserver", "compute-vfs", "cli"):
            if self.kind == "thread":  # with tests/sanitized/shim in Criterion's place
                self.step(f"unit {module}", [os.path.join(B, f"tests/unit-{module}")],
                          dict(self.env, CORALLITE_BIN_DIR=os.path.abspath(os.path.join(ROOT, B))), 5400)
                continue
            env = dict(self.env, CORALLITE_BIN_DIR=os.path.abspath(os.path.join(ROOT, B)), UNIT_TIMEOUT_S="900")
            self.step(f"unit {module}", ["tests/unit/run", os.path.join(B, f"tests/unit-{module}")], env)

    def sim(self):
        self.step("sim, 30 s", [os.path.join(B, "tests/sim"), "--seconds", "30"])

    def integration(self):
        listed = subprocess.run(["/usr/bin/python3", "tests/integration/run.py", "--list"], cwd=ROOT, env=self.env,
                                capture_output=True, text=True, check=True).stdout
        names = [line.split()[0].rstrip(":") for line in listed.splitlines() if line.strip()]
        only = os.environ.get("ONLY", "").split()
        for name in only or names:
            why = NOT_WITH[self.kind].get(name)
            if why:
                self.skipped += 1
                print(f"skip {name}: {why}", flush=True)
                continue
            text = self.step(name, ["/usr/bin/python3", "tests/integration/run.py", "--only", name], self.preloaded(), 1800)
            count = COUNTS.search(text)
            if count and count[3] != "0":
                self.passed, self.skipped = self.passed - 1, self.skipped + 1
                print(f"# skipped by itself: {name}", flush=True)

    def cli(self):
        # man keeps its helpers from opening files, the sanitizer's log among them, unless it is told not to.
        self.step("cli", ["tests/cli/run", B], dict(self.preloaded(), MAN_DISABLE_SECCOMP="1"))

    def sqlite(self):
        """SQLite's own scripts: its test program is made by tests/sqlite with the same flags."""
        self.step("sqlite quarter", ["make", "--no-print-directory", "sqlite-quarter", f"B={B}"], self.preloaded(), 5400)


def main(kind, parts):
    if not all(p in PARTS for p in parts):
        print(f"suite.py: the parts are {' '.join(PARTS)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="corallite-sanitized-") as room:
        run = Run(kind, room)
        for part in parts or PARTS:
            getattr(run, part)()
    print(f"# {run.foreign} reports without a frame of ours (stock programs); {run.before} steps had passed before with this build")
    print(f"{run.passed} passed, {run.failed} failed, {run.skipped} skipped")
    return 0 if run.failed == 0 and run.passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
