"""The rows of run.py: one a script, each with the build that it was seen with.

DIR/BACKEND.jsonl is only ever appended to while scripts run; the last row of a script counts, and older ones are
removed when a run begins. So a run that is broken off loses nothing, and a script that is run again replaces its row.

A build is a hash over everything that a result depends on: SQLite's tree with our patch, the harness and, but for the
control, the product. Beside it the commit, for people; `runs` counts how often a script was run with this build, since
who runs a script until it passes should be seen doing so.
"""

import hashlib
import json
import os
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
HARNESS = (".c", ".h", ".tcl", ".patch")
PRODUCT = ("libcommon.a", "libproto.a", "libcompute-vfs.a", "libcli.a", "corallite", "corallite-safekeeper",
           "corallite-pageserver")


def build_of(backend, binaries, tree):
    """{"build": hash, "commit": text} of what is about to be run."""
    other = "backend_corallite.c" if backend == "control" else "backend_control.c"
    files = [os.path.join(HERE, name) for name in sorted(os.listdir(HERE)) if name.endswith(HARNESS) and name != other]
    files.append(os.path.join(HERE, "build"))
    if backend != "control":
        files += [os.path.join(binaries, name) for name in PRODUCT]
    digest = hashlib.sha256(os.path.basename(tree).encode())
    for path in files:
        with open(path, "rb") as f:
            digest.update(os.path.basename(path).encode() + b"\0" + f.read())
    described = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"], cwd=HERE,
                               capture_output=True, text=True, check=False).stdout.strip()
    return {"build": digest.hexdigest()[:12], "commit": described or "unknown"}


def read(directory, backend):
    """{script: its newest row}."""
    newest = {}
    try:
        with open(os.path.join(directory, backend + ".jsonl")) as f:
            for line in f:
                try:
                    row = json.loads(line)
                except ValueError:  # broken off in the middle
                    continue
                newest[row["script"]] = row
    except FileNotFoundError:
        pass
    return newest


class Book:
    """The rows of one backend, being written; `build` is what build_of() says."""

    def __init__(self, directory, backend, build):
        self.file, self.build, self.out = os.path.join(directory, backend + ".jsonl"), build, None
        self.rows = read(directory, backend)

    def keep_only(self, scripts):
        """Drops the rows of scripts that the suite no longer has."""
        scripts = set(scripts)
        self.rows = {s: row for s, row in self.rows.items() if s in scripts}

    def of_this_build(self):
        return {s for s, row in self.rows.items() if row.get("build") == self.build["build"]
                and row["ended"] != "harness"}

    def __enter__(self):
        with open(self.file + ".new", "w") as f:
            f.writelines(json.dumps(row) + "\n" for row in self.rows.values())
        os.replace(self.file + ".new", self.file)
        self.out = open(self.file, "a")
        return self

    def __exit__(self, *_):
        self.out.close()

    def add(self, result):
        before = self.rows.get(result["script"], {})
        again = before.get("runs", 0) if before.get("build") == self.build["build"] else 0
        row = dict(result, **self.build, runs=again + 1, at=time.strftime("%Y-%m-%d %H:%M", time.gmtime()))
        self.rows[result["script"]] = row
        self.out.write(json.dumps(row) + "\n")
        self.out.flush()


def stamp(newest):
    """What a table says of its rows: {"commits", "builds", "from", "to", "again": {script: runs}}."""
    return {"commits": sorted({row.get("commit", "unknown") for row in newest.values()}),
            "builds": sorted({row.get("build", "unknown") for row in newest.values()}),
            "from": min((row.get("at", "unknown") for row in newest.values()), default="never"),
            "to": max((row.get("at", "unknown") for row in newest.values()), default="never"),
            "again": {s: row["runs"] for s, row in sorted(newest.items()) if row.get("runs", 1) > 1}}
