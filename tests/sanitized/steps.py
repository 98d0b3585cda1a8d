"""Which steps of a long run have passed already, so that it can be broken off and go on.

$B/steps-KIND.jsonl has a line for each step that was run to its end; with $RESUME, what passed there with the very
build that lies in $B is told as "ok before" and not run again. What failed is run again.
"""

import hashlib
import json
import os
import subprocess
import time

PROGRAMS = ("corallite", "corallite-pageserver", "corallite-safekeeper", "corallite.so")


def build_of(directory):
    """A hash over everything executable that the steps run."""
    digest = hashlib.sha256()
    tests = os.path.join(directory, "tests")
    names = [os.path.join(directory, p) for p in PROGRAMS]
    names += [os.path.join(tests, n) for n in sorted(os.listdir(tests)) if n.startswith("unit-") or n == "sim"]
    for name in names:
        if os.path.isfile(name):
            with open(name, "rb") as f:
                digest.update(os.path.basename(name).encode() + b"\0" + f.read())
    return digest.hexdigest()[:12]


class Steps:
    def __init__(self, directory, kind):
        self.file, self.build = os.path.join(directory, f"steps-{kind}.jsonl"), build_of(directory)
        self.commit = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"], cwd=directory,
                                     capture_output=True, text=True, check=False).stdout.strip()
        self.before = self._read() if os.environ.get("RESUME") else {}

    def _read(self):
        """{step: it passed} of this build; the last line of a step counts."""
        seen = {}
        try:
            with open(self.file) as f:
                for line in f:
                    try:
                        row = json.loads(line)
                    except ValueError:  # broken off in the middle
                        continue
                    if row["build"] == self.build:
                        seen[row["step"]] = row["passed"]
        except FileNotFoundError:
            pass
        return seen

    def passed_before(self, step):
        return self.before.get(step, False)

    def note(self, step, passed, reports):
        with open(self.file, "a") as f:
            f.write(json.dumps({"step": step, "passed": bool(passed), "reports": reports, "build": self.build,
                                "commit": self.commit, "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime())}) + "\n")
