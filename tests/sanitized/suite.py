#!/usr/bin/python3
"""suite.py address|thread|memcheck [PART...] - the whole suite under a sanitizer or valgrind's memcheck.

$B is a build directory that was made for it. Parts: canary unit sim simc fullsim integration cli chaos sqlite; what does not
run under a tool, and why, is in kinds.py and is printed. ONLY="name module/suite" limits `integration` and `unit`. Stock programs have the
sanitizer's library preloaded. A report with a frame of ours fails the step that it came in (reports.py); what stock programs
do by themselves is counted and told. A test that fails without a report fails here too. $JOBS (2) steps run at a time; each is noted
(steps.py), and RESUME=yes leaves out what has passed with this build. Ends with `N passed, N failed, N skipped`.
"""

import collections
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import kinds  # noqa: E402
import memcheck  # noqa: E402
import pool  # noqa: E402
import reports  # noqa: E402
import steps  # noqa: E402

PARTS = ("canary", "unit", "sim", "simc", "fullsim", "integration", "cli", "chaos", "sqlite")
ONLY = os.environ.get("ONLY", "").split()
TEST = re.compile(r"^Test\(\s*(\w+)", re.M)


def suites_of(folder):
    """{suite: number of tests} that the sources in a folder define."""
    found = collections.Counter()
    for name in os.listdir(folder):
        if name.endswith(".c"):
            with open(os.path.join(folder, name)) as f:
                found.update(TEST.findall(f.read()))
    return found


class Suite:
    def __init__(self, kind, b, run):
        """b: the build directory, seen from the root; for memcheck the wrapped one."""
        self.kind, self.b, self.run = kind, b, run
        self.bin = os.path.join(ROOT, b)
        self.stock = {**kind.preload(self.bin), "B": b}
        if kind is kinds.MEMCHECK:
            self.stock["PATH"] = os.path.join(self.bin, "path") + ":" + os.environ["PATH"]

    def path(self, name):
        return os.path.join(self.bin, name)

    def canary(self):
        """What must be reported, and by the same way as everything else; what was not is a failure."""
        extension = os.path.join(ROOT, self.b, "tests/sanitized/canaryextension.so")
        tried = [(what, "a program", [self.path("tests/sanitized/canary"), what]) for what in self.kind.canaries]
        tried.append((self.kind.extension, "an extension of the stock shell", ["sqlite3", ":memory:", f".load {extension}"]))
        for what, where, command in tried:
            log = self.run.new_log()
            env = {**self.kind.environment(log), **(self.stock if where != "a program" else {})}
            subprocess.run(command, cwd=ROOT, env=env, timeout=120, capture_output=True, check=False)
            found = any(re.search(self.kind.canaries[what], report) for report in self.run.collect(log)[0])
            self.run.count("canary", found, not found, 0)
            print(f"{'ok' if found else 'not ok'} canary: {what} in {where} is reported", flush=True)

    # -- the steps of each part -------------------------------------------------------------------

    def unit(self):
        unit = os.path.join(ROOT, "tests", "unit")
        env = {"CORALLITE_BIN_DIR": self.bin}
        for module in sorted(m for m in os.listdir(unit) if os.path.isdir(os.path.join(unit, m))):
            binary = self.path(f"tests/unit-{module}")
            for suite, n in sorted(suites_of(os.path.join(unit, module)).items()):
                if ONLY and f"{module}/{suite}" not in ONLY:
                    continue
                # Under ASan these are Criterion's, else shim/ stands in its place.
                which = ["--filter", suite + "/*"] if self.kind is kinds.ADDRESS else [suite + "/"]
                for test, why in self.kind.unit_tests.items():
                    if test.startswith(f"{module}/{suite}/"):
                        which.append("-" + test.removeprefix(module + "/"))
                        n -= 1
                        self.run.count("unit", 0, 0, 1)
                        print(f"skip {test}: {why}", flush=True)
                yield pool.Step("unit", f"unit {module}/{suite}", [binary, *which], env, tests=n,
                                runs=(f"tests/unit-{module}",))

    def sim(self):
        seeds = ["--seed", "1", "--runs", "20"] if self.kind is kinds.MEMCHECK else ["--seconds", "30"]
        yield pool.Step("sim", "sim " + " ".join(seeds), [self.path("tests/sim"), *seeds], runs=("tests/sim",))

    def simc(self):
        how = ["--depth", "1", "--seconds", "1"] if self.kind is kinds.MEMCHECK else ["--depth", "2", "--seconds", "20"]
        yield pool.Step("simc", "simc " + " ".join(how), [self.path("tests/simc"), "--seed", "1", *how], runs=("tests/simc",))

    def fullsim(self):
        for seed in (1, 11):
            how = ["--seed", str(seed), "--runs", "10"]
            yield pool.Step("fullsim", "fullsim " + " ".join(how), [self.path("tests/fullsim"), *how],
                            options=self.kind.options_of("fullsim"), runs=("tests/fullsim",))

    def integration(self):
        listed = subprocess.run(["/usr/bin/python3", "tests/integration/run.py", "--list"], cwd=ROOT, capture_output=True,
                                text=True, check=True).stdout
        names = [line.split()[0].rstrip(":") for line in listed.splitlines() if line.strip()]
        for name in (n for n in names if not ONLY or n in ONLY):
            why = self.kind.tests.get(name)
            if why:
                self.run.count("integration", 0, 0, 1)
                print(f"skip {name}: {why}", flush=True)
            else:
                yield pool.Step("integration", name, ["/usr/bin/python3", "tests/integration/run.py", "--only", name], self.stock,
                                options=self.kind.options_of(name))

    def cli(self):
        # man keeps its helpers from opening files, the tool's log among them, unless it is told not to.
        yield pool.Step("cli", "cli", ["tests/cli/run", self.b], dict(self.stock, MAN_DISABLE_SECCOMP="1"))

    def chaos(self):
        yield pool.Step("chaos", "chaos", ["/usr/bin/python3", "tests/chaos/run.py", "--ci"], self.stock)

    def sqlite(self):
        """SQLite's own scripts. Its test program is as it is; our objects, and so the tool, are linked into it."""
        yield pool.Step("sqlite", "sqlite quarter", ["/usr/bin/python3", "tests/sqlite/run.py", "--quarter", "--out",
                                                     self.path("sqlite/quarter")], {"B": self.b}, 5400, runs=("sqlite/testfixture",))

    # -- all together -----------------------------------------------------------------------------

    def all(self, parts):
        if "canary" in parts:
            self.canary()
        if parts == PARTS:
            for part, why in self.kind.parts.items():
                print(f"# not under {self.kind.name}: {part}: {why}")
        todo = []
        for part in parts:
            if part != "canary" and part not in self.kind.parts:
                todo += getattr(self, part)()
        for name in sorted(set(ONLY) - {step.name.removeprefix("unit ") for step in todo} - set(self.kind.tests)):
            self.run.count("only", 0, 1, 0)
            print(f"not ok {name}: no part has it", flush=True)
        self.run.run_all(todo)


def main(name, parts):
    kind, b = kinds.KINDS[name], os.environ.get("B", "build/sanitize")
    if not all(p in PARTS for p in parts):
        print(f"suite.py: the parts are {' '.join(PARTS)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="corallite-sanitized-") as room:
        os.chmod(room, 0o755)  # SQLite's scripts run as nobody
        noted = steps.Steps(os.path.join(ROOT, b), name)
        wrapped = memcheck.wrapped(ROOT, b) if kind is kinds.MEMCHECK else b
        collect = memcheck.collector(ROOT) if kind is kinds.MEMCHECK else reports.collect
        run = pool.Pool(kind, ROOT, room, noted, collect)
        print(f"# {name}, commit {noted.commit}, build {noted.build()}, everything may take {kind.patience} times as long", flush=True)
        Suite(kind, wrapped, run).all(tuple(parts) or PARTS)
    return run.closing()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
