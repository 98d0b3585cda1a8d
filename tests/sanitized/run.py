#!/usr/bin/python3
"""run.py thread|address - daemons, extension and a stock program of many threads under a sanitizer.

$B is a build directory in which all of them were made with it. First the canary of this folder must be
reported; then a cluster runs: 8 writers and 8 readers, two processes at once, a safekeeper and the
pageserver killed and started again in the middle, a clean stop. Any report of any process is a failure.
Prints `N passed, N failed, N skipped`.
"""

import glob
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "integration"))
from lib import cluster  # noqa: E402

BIN = os.path.join(cluster.BIN, "tests")
CANARY = {"thread": ("race", "data race"), "address": ("leak", "detected memory leaks")}


def options(log):
    return {"TSAN_OPTIONS": f"log_path={log} history_size=4",
            "ASAN_OPTIONS": f"log_path={log}:detect_leaks=1",
            "UBSAN_OPTIONS": f"log_path={log}:print_stacktrace=1"}


def reports(log):
    texts = []
    for name in sorted(glob.glob(log + ".*")):
        with open(name, errors="replace") as f:
            texts.append(f.read())
        os.unlink(name)
    return "\n".join(texts)


def canary(kind, log):
    what, report = CANARY[kind]
    done = subprocess.run([os.path.join(BIN, "sanitized", "canary"), what], capture_output=True, text=True,
                          timeout=60)
    found = report in reports(log) + done.stderr
    print(f"{'ok' if found else 'not ok'} canary: a {what} is reported")
    return found


def crowd(c, writers, readers, seconds):
    return cluster.popen([os.path.join(BIN, "integration", "crowd"), cluster.EXTENSION, c.uri("bank"),
                          str(writers), str(readers), str(seconds)], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)


def ended(process, seconds):
    out, err = process.communicate(timeout=seconds)
    cluster.check(process.returncode == 0 and "wrong" not in out, f"{process.returncode}: {out[-300:]} {err[-300:]}")


def many_threads(c):
    ended(crowd(c, 8, 8, 8), 120)


def two_processes(c):
    for process in [crowd(c, 2, 2, 6) for _ in range(2)]:
        ended(process, 120)


def killed_and_back(c):
    process = crowd(c, 2, 2, 8)
    time.sleep(1)
    for node in (1, cluster.PAGESERVER):
        c.kill9(node)
        time.sleep(0.5)
        c.start(node)
    ended(process, 120)


def clean_stop(c):
    for node in (1, 2, 3, cluster.PAGESERVER):
        c.stop(node, 30)


def main(kind):
    with tempfile.TemporaryDirectory(prefix="corallite-sanitized-") as room:
        log = os.path.join(room, "report")
        os.environ.update(options(log))
        results = [canary(kind, log)]
        with cluster.Cluster(os.path.join(room, "cluster")) as c:
            for step in (many_threads, two_processes, killed_and_back, clean_stop):
                try:
                    step(c)
                    why = ""
                except (cluster.Failure, subprocess.TimeoutExpired) as e:
                    why = str(e)
                text = reports(log)
                results.append(not why and not text)
                print(f"{'ok' if results[-1] else 'not ok'} {step.__name__} {why}", flush=True)
                print(text[:6000], end="")
    passed = sum(results)
    print(f"{passed} passed, {len(results) - passed} failed, 0 skipped")
    return 0 if passed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
