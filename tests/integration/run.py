#!/usr/bin/python3
"""Tests on real processes and the stock SQLite.

    run.py [--only NAME]... [--jobs N] [--list] [--slow] [--languages]

One line a test: `ok NAME (s)`, `not ok NAME: why`, `skip NAME: why`; what a test measured follows it
as `#` lines. Ends with `N passed, N failed, N skipped`; exit status 1 when a test failed. Each test
runs in a process of its own, within its time limit, in a directory of its own that is removed.
$B names the build directory. --slow gives the long tests the time that they have outside CI;
--languages runs the tests of programs of others (preloaded, examples) instead of all the rest.
"""

import argparse
import importlib
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

# An interpreter whose sqlite3 cannot load extensions is of no use; Debian's can.
if not hasattr(sqlite3.Connection, "enable_load_extension") and sys.executable != "/usr/bin/python3":
    os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])

from lib import cluster, registry  # noqa: E402

MODULES = ("test_shell", "test_failures", "test_writers", "test_figures", "test_scans", "test_wrong_input",
           "test_differential", "test_proxy", "test_chaos", "test_gc", "test_pace", "test_edges", "test_branches",
           "test_moments",
           "test_concurrency", "test_http", "test_diff", "test_stock", "test_pragmas", "test_sizes",
           "test_large", "test_limits", "test_lease", "test_outcome", "test_members", "test_empty_disk", "test_disk", "test_image",
           "test_archive", "test_snapshots", "test_truncate", "test_prune", "test_monitoring", "test_archive_s3", "test_pair", "test_damage",
           "test_local", "test_loops", "test_cache_dir")
# Programs of others: `make languages`, and those whose packages are large.
LANGUAGES = ("test_preload", "test_application", "test_examples")
TOOLCHAINS = ("test_toolchains",)
# A real store for archives: `make ceph`.
STORES = ("test_ceph",)


def run_in_child(test, directory, out):
    """The child: the test itself. Exit status 0 passed, 1 failed, 3 skipped; the reason in `out`."""
    os.makedirs(directory)
    with open(os.path.join(directory, "test.log"), "wb") as log:
        os.dup2(log.fileno(), 2)  # what the extension says in this process
    status = 1
    try:
        test.function(registry.Context(directory, out))
        status = 0
    except cluster.Skip as why:
        out.write(f"REASON {why}\n")
        status = 3
    except cluster.Failure as why:
        out.write("REASON " + " ".join(str(why).split()) + "\n")
        frame = traceback.extract_tb(sys.exc_info()[2])
        at = [f for f in frame if os.path.basename(f.filename).startswith("test_")]
        if at:
            out.write(f"# at {os.path.basename(at[-1].filename)}:{at[-1].lineno}\n")
    except BaseException:  # noqa: B902 - whatever it is, it is the test's failure
        text = traceback.format_exc().strip().splitlines()
        out.write(f"REASON {text[-1]}\n")
        out.write("".join(f"# {line}\n" for line in text))
    out.flush()
    cluster.kill_all()
    os._exit(status)


def logs_of(directory, lines=4):
    for folder, _, files in os.walk(directory):
        for name in sorted(files):
            if name.endswith(".log") and os.path.dirname(os.path.join(folder, name)):
                with open(os.path.join(folder, name), errors="replace") as f:
                    for line in f.read().splitlines()[-lines:]:
                        yield f"# {name}: {line[:300]}"


class Running:
    """A test in its process and its directory."""

    def __init__(self, test):
        self.test = test
        self.directory = tempfile.mkdtemp(prefix="corallite-test-")
        self.note = os.path.join(self.directory, "note")
        self.began = time.monotonic()
        self.status = None  # of waitpid; stays None where the time was over
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            with open(self.note, "w") as out:
                run_in_child(test, os.path.join(self.directory, "cluster"), out)

    def over(self):
        """Has it ended? One whose time is over is killed, and with it what it started."""
        done, status = os.waitpid(self.pid, os.WNOHANG)
        if done:
            self.status = status
        elif time.monotonic() < self.began + self.test.seconds * cluster.SLOWER:
            return False
        else:
            self.kill()
        return True

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def told(self):
        """One of "ok", "not ok", "skip", and prints the lines of the test."""
        test, status, took = self.test, self.status, time.monotonic() - self.began
        with open(self.note) as f:
            lines = f.read().splitlines()
        reason = " ".join(line[7:] for line in lines if line.startswith("REASON "))
        notes = [line for line in lines if line.startswith("#")]
        if status is None:
            result, text = "not ok", f"not ok {test.name}: not finished after {test.seconds} s"
        elif os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            result, text = "ok", f"ok {test.name} ({took:.1f} s)"
        elif os.WIFEXITED(status) and os.WEXITSTATUS(status) == 3:
            result, text = "skip", f"skip {test.name}: {reason}"
        elif os.WIFEXITED(status):
            result, text = "not ok", f"not ok {test.name}: {reason or 'no reason given'}"
        else:
            result, text = "not ok", f"not ok {test.name}: killed by signal {os.WTERMSIG(status)}"
        print(text)
        print("".join(line + "\n" for line in notes), end="")
        if result == "not ok":
            print("\n".join(logs_of(self.directory)))
        sys.stdout.flush()
        if os.environ.get("KEEP") and result == "not ok":
            print(f"# kept: {self.directory}")
        else:
            self.remove()
        return result

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)


def run_all(tests, jobs):
    """What each came to, as many as `jobs` at a time."""
    results, running, waiting = [], [], list(tests)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(Running(waiting.pop(0)))
            time.sleep(0.02)
            for r in [r for r in running if r.over()]:
                running.remove(r)
                results.append(r.told())
    finally:
        for r in running:  # interrupted
            r.kill()
            r.remove()
    return results


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this test; may be given again")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many tests at a time (1)")
    for flag in ("--list", "--slow", "--languages"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args(argv)
    only = options.only
    registry.SLOW = options.slow
    modules = LANGUAGES if options.languages else MODULES
    if only or options.list:
        modules = MODULES + LANGUAGES + TOOLCHAINS + STORES
    for module in modules:
        importlib.import_module(module)
    unknown = [name for name in only if name not in registry.TESTS]
    if unknown:
        print(f"there is no test {', '.join(unknown)}; see --list", file=sys.stderr)
        return 2
    tests = [t for t in registry.TESTS.values() if not only or t.name in only]
    if options.list:
        for test in tests:
            print(f"{test.name:45} {test.shows}")
        return 0
    missing = [p for p in ("corallite-safekeeper", "corallite-pageserver", "corallite.so")
               if not os.path.exists(os.path.join(cluster.BIN, p))]
    if missing:
        for test in tests:
            print(f"not ok {test.name}: {', '.join(missing)} not in {cluster.BIN}; run make")
        print(f"0 passed, {len(tests)} failed, 0 skipped")
        return 1
    results = run_all(tests, options.jobs)
    passed, failed, skipped = (results.count(w) for w in ("ok", "not ok", "skip"))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
