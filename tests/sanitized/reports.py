"""What sanitizers and valgrind wrote, and whether it is about us.

Stock programs (python3, sqlite3, curl) run with the sanitizer preloaded, since they load a sanitized corallite.so; what
they leak themselves is theirs. So a report counts when a frame of ours is in it: a source file of this repository, or one
of our binaries. FOREIGN lists, with a reason each, what is no report though a frame of ours is in the stack."""

import glob
import os
import re

# Beginning of a report (with log_exe_name the program stands before the process), and of a leak within the report of LeakSanitizer.
REPORT = re.compile(r"^(?:==(?:[^=\s]+==)?\d+==\s*ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|.*: runtime error: |==\d+== (?:Invalid|Conditional"
                    r"|Use of uninit|Mismatched|Source and dest|Syscall param|Process terminating))", re.M)
LEAK = re.compile(r"^(?:Direct|Indirect) leak of .*?(?=^(?:Direct|Indirect) leak|^SUMMARY|\Z)", re.M | re.S)
OURS = re.compile(r"\b(?:archive|common|proto|safekeeper|pageserver|compute-vfs|cli|tests/[\w/-]+)/[\w.-]+\.[ch]\b|corallite\.so|corallite-"
                  r"(?:pageserver|safekeeper)|sanitized/canary|tests/canary"
                  # Memory had by a module that has been unloaded again: whose it was is not known.
                  r"|#1 0x[0-9a-f]+ +\(<unknown module>\)")
# (pattern of a report, why it is none)
FOREIGN = [
    (r"^\s*#1 .*libcriterion", "Criterion's own 48 bytes after a test that ends by a signal"),
    (r"^SUMMARY: ThreadSanitizer: lock-order-inversion .*libsqlite3.* in sqlite3_backup_init$",
     "SQLite holds source and destination of a backup; a test copies there and back, in one thread"),
    (r"allocator is out of memory|failed to allocate", "a test that asks what happens when there is no memory"),
]
# Programs that load nothing of ours, and a module that they unload again: its memory is not ours. With log_exe_name the
# name of a log ends in PROGRAM.PID.
UNLOADS = {"ld": "the linker's plugin for link-time optimisation"}
UNLOADED = re.compile(r"#1 0x[0-9a-f]+ +\(<unknown module>\)")


def blocks(text):
    """The reports in a text, leaks one by one."""
    leaks = [m[0] for m in LEAK.finditer(text)]
    if leaks:
        yield from leaks
        text = LEAK.sub("", text)
    starts = [m.start() for m in REPORT.finditer(text)]
    for begin, end in zip(starts, starts[1:] + [len(text)]):
        if "detected memory leaks" not in text[begin:begin + 200]:
            yield text[begin:end]


def is_ours(block, name):
    """Whether this report, from a log of this name, counts."""
    if not OURS.search(block) or any(re.search(p, block, re.M) for p, _ in FOREIGN):
        return False
    program = os.path.basename(name).split(".")[-2]
    return program not in UNLOADS or OURS.search(UNLOADED.sub("", block)) is not None


def collect(log):
    """Reads and removes the files log.*: (reports about us, number of foreign ones)."""
    ours, foreign = [], 0
    for name in sorted(glob.glob(log + ".*")):
        with open(name, errors="replace") as f:
            text = f.read()
        os.unlink(name)
        for block in blocks(text):
            if is_ours(block, name):
                ours.append(block)
            else:
                foreign += 1
    return ours, foreign
