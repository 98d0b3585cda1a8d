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


def build_of(directory, *more):
    """A hash over the products and what else a step runs of the directory."""
    digest = hashlib.sha256()
    for name in (*PROGRAMS, *more):
        with open(os.path.join(directory, name), "rb") as f:
            digest.update(name.encode() + b"\0" + f.read())
    return digest.hexdigest()[:12]


class Steps:
    def __init__(self, directory, kind):
        self.directory, self.file = directory, os.path.join(directory, f"steps-{kind}.jsonl")
        self.builds = {}
        self.commit = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"], cwd=directory,
                                     capture_output=True, text=True, check=False).stdout.strip()
        self.before = self._read() if os.environ.get("RESUME") else {}

    def build(self, *more):
        if more not in self.builds:
            self.builds[more] = build_of(self.directory, *more)
        return self.builds[more]

    def _read(self):
        """{(step, build): its line}; the last one counts."""
        seen = {}
        try:
            with open(self.file) as f:
                for line in f:
                    try:
                        row = json.loads(line)
                    except ValueError:  # broken off in the middle
                        continue
                    seen[row["step"], row["build"]] = row
        except FileNotFoundError:
            pass
        return seen

    def passed_before(self, step, build):
        """The (passed, failed, skipped, seconds) of a step that has passed with this build, or None."""
        row = self.before.get((step, build))
        return (*row["counts"], row["seconds"]) if row and row["passed"] else None

    def note(self, step, build, passed, reports, counts, seconds):
        with open(self.file, "a") as f:
            f.write(json.dumps({"step": step, "passed": bool(passed), "reports": reports, "counts": counts,
                                "seconds": round(seconds, 1), "build": build, "commit": self.commit,
                                "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime())}) + "\n")
