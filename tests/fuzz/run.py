#!/usr/bin/python3
"""run.py SECONDS [NAME...] - each harness of this folder for so long, as many at a time as there are processors.

$B is a build directory in which they were made. First the list of decoders is compared with the headers (decoders.py), and
the canary's mistake must be found; then each harness reads the regressions and the seeds, and goes on from there. What
it learned stays in $B/corpus/NAME, so that the next run begins with it. Prints `N passed, N failed, N skipped`.
"""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import decoders  # noqa: E402

B = os.path.abspath(os.environ.get("B", "build/fuzz"))
BIN = os.path.join(B, "tests", "fuzz")
NAMES = ["frames", "quorum", "records", "disk", "btree", "text", "archive"]
# Longest input; what a harness does with more it does with less. A unit that takes 20 s hangs.
FLAGS = ["-max_len=16384", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"]
LEAST_RUNS = 50


def told(ok, what):
    print(f"{'ok' if ok else 'not ok'} {what}", flush=True)
    return ok


def fuzz(name, seconds, room):
    """One harness; (exit status, what it printed, directory of inputs that failed)."""
    corpus, found = os.path.join(B, "corpus", name), os.path.join(B, "found", name)
    for path in (corpus, found):
        os.makedirs(path, exist_ok=True)
    more = [os.path.join(room, "seeds", name), found] # what failed last time is tried again
    regressions = os.path.join(HERE, "regressions", name)
    if os.path.isdir(regressions):
        more.append(regressions)
    done = subprocess.run(
        [os.path.join(BIN, name), f"-max_total_time={seconds}", f"-artifact_prefix={found}/", *FLAGS, corpus, *more],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=seconds + 240, env={**os.environ, "TMPDIR": room})
    return done.returncode, done.stderr.decode(errors="replace"), found


def canary(room):
    for path in ("corpus", "found"):
        shutil.rmtree(os.path.join(B, path, "canary"), ignore_errors=True)
    status, text, found = fuzz("canary", 30, room)
    good = status != 0 and "heap-buffer-overflow" in text and len(os.listdir(found)) > 0
    return told(good, "canary: a read of one byte too many is found")


def harness(name, seconds, room):
    try:
        status, text, found = fuzz(name, seconds, room)
    except (subprocess.TimeoutExpired, OSError) as e:
        return told(False, f"{name}: {e}")
    runs = re.findall(r"stat::number_of_executed_units: (\d+)", text)
    edges = re.findall(r"cov: (\d+)", text)
    n = int(runs[-1]) if runs else 0
    good = status == 0 and n >= LEAST_RUNS
    told(good, f"{name}: {n} inputs, {edges[-1] if edges else 0} edges")
    if not good:
        print(text[-6000:])
        for saved in sorted(os.listdir(found)):
            print(f"the input is {os.path.join(found, saved)}; `{os.path.join(BIN, name)} FILE` repeats it; mended, it "
                  f"belongs into tests/fuzz/regressions/{name}/", flush=True)
    return good


def main(seconds, names):
    unknown = [n for n in names if n not in NAMES]
    if unknown:
        print(f"run.py: there is no harness {unknown[0]}; there are: {' '.join(NAMES)}", file=sys.stderr)
        return 2
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="corallite-fuzz-", dir=memory) as room:
        faults = decoders.faults()
        for fault in faults:
            print(fault)
        results = [told(not faults, "every decoder is in the list, and its harness calls it")]
        subprocess.run([os.path.join(BIN, "seeds"), os.path.join(room, "seeds")], check=True, stdout=subprocess.DEVNULL)
        results.append(canary(room))
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
            results += pool.map(lambda name: harness(name, seconds, room), names or NAMES)
    passed = sum(map(bool, results))
    print(f"{passed} passed, {len(results) - passed} failed, 0 skipped")
    return 0 if passed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
