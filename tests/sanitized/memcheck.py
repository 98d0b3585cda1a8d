"""Everything that a build made, under valgrind's memcheck.

The programs of a build directory get a double each below $B/memcheck, a script that starts the real one under valgrind with
the log that $MEMCHECK_LOG names; so tests that know nothing of valgrind start daemons under it. In $B/memcheck/path the stock
shell has one too, for what the extension does in it. Python does not: it takes minutes to begin, and what it loads of ours the
shell, `crowd` and the stock_* programs load as well.
"""

import os
import re
import shutil
import stat

# Only what is lost for certain is a leak: libuv, SQLite and LMDB keep what they need until the process ends.
VALGRIND = ("valgrind -q --vgdb=no --error-exitcode=0 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite "
            "--num-callers=20 --keep-debuginfo=yes --log-file=${MEMCHECK_LOG:-/tmp/corallite-memcheck}.%p")
STOCK = ("sqlite3",)
# A unit test starts itself as a daemon; what else it starts has a double, or is a tool of the system.
UNIT = "--trace-children=yes '--trace-children-skip=/bin/*,/usr/bin/*,*/memcheck/*'"
REPORT = re.compile(r"(Invalid|Conditional|Use of|Mismatched|Source and|Syscall|Process terminating|"
                    r"[\d,]+ (\(.*\) )?bytes in .* (definitely|indirectly) lost)")
FRAME = re.compile(r"\(([\w.-]+\.[ch]):\d+\)")
MODULES = ("archive", "cli", "common", "compute-vfs", "pageserver", "proto", "safekeeper", "tests")



def write(path, program):
    more = UNIT if os.path.basename(path).startswith("unit-") else "--trace-children=no"
    with open(path, "w") as f:
        f.write(f'#!/bin/sh\nexec {VALGRIND} {more} "{program}" "$@"\n')
    os.chmod(path, 0o755)


def is_program(path):
    if os.path.islink(path) or not os.path.isfile(path) or not os.stat(path).st_mode & stat.S_IXUSR or path.endswith(".so"):
        return False
    with open(path, "rb") as f:
        return f.read(4) == b"\x7fELF"


def wrapped(root, b):
    """The directory of the doubles, seen from the root."""
    real, double = os.path.join(root, b), os.path.join(root, b, "memcheck")
    shutil.rmtree(double, ignore_errors=True)
    for folder in ("", "tests", "tests/integration", "tests/sanitized"):
        os.makedirs(os.path.join(double, folder), exist_ok=True)
        for name in os.listdir(os.path.join(real, folder)):
            path, to = os.path.join(real, folder, name), os.path.join(double, folder, name)
            if is_program(path):
                write(to, path)
            elif name.endswith(".so"):
                os.link(path, to)  # PHP loads none that is a link out of its directory
    os.symlink(os.path.join(real, "npm"), os.path.join(double, "npm"))
    os.makedirs(os.path.join(double, "path"))
    for name in STOCK:
        write(os.path.join(double, "path", name), shutil.which(name))
    return os.path.join(b, "memcheck")


def own_files(root):
    """The names of our sources: a frame says no more than that."""
    return {name for module in MODULES for _, _, files in os.walk(os.path.join(root, module)) for name in files
            if name.endswith((".c", ".h"))}


def collector(root):
    """A function as pool.Pool wants it: reads and removes the files log.*: (reports about us, number of foreign ones)."""
    files = own_files(root)

    def is_ours(block):
        return "corallite" in block or any(name in files for name in FRAME.findall(block))

    def collect(log):
        ours, foreign = [], 0
        folder = os.path.dirname(log)
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if not path.startswith(log + "."):
                continue
            with open(path, errors="replace") as f:
                text = re.sub(r"^==\d+== ?", "", f.read(), flags=re.M)
            os.unlink(path)
            blocks = [b for b in text.split("\n\n") if REPORT.match(b)]
            ours += [b for b in blocks if is_ours(b)]
            foreign += sum(not is_ours(b) for b in blocks)
        return ours, foreign

    return collect
