"""What may fail, and why (exceptions.txt); and what a run must show so as not to be hollow.

A line of exceptions.txt:  SCRIPT | CLASS | CASES | why
SCRIPT and CASES are patterns (several, by spaces). Classes:
  journal     needs a rollback journal, or the locks that SQLite has with one
  bytes       reads or writes the bytes of the database file, or of its WAL, from outside
  vfs         is about another VFS, or about what only the unix VFS has
  checkpoint  is about the WAL's growth, its wal-index or its checkpoints
  ours        none of these: Corallite differs, and should not
  opens       not a failure: the script itself opens main databases by another VFS
"""

import fnmatch
import os
import re

CLASSES = ("journal", "bytes", "vfs", "checkpoint", "ours")
FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "exceptions.txt")


def load(path=FILE):
    rules = []
    with open(path) as f:
        for number, line in enumerate(f, 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            parts = [p.strip() for p in line.split("|")]
            if len(parts) != 4 or parts[1] not in CLASSES + ("opens",) or not parts[3]:
                raise SystemExit(f"{path}:{number}: not SCRIPT | CLASS | CASES | why: {line}")
            rules.append({"script": parts[0].split(), "class": parts[1], "cases": parts[2].split(),
                          "why": parts[3], "line": number, "used": 0})
    return rules


def compact(cases):
    """"a-1.1 a-1.2 a-1.3" as "a-1.1..3": every case, in fewer words."""
    out, run = [], []

    def flush():
        if len(run) > 2:
            out.append(f"{run[0][0]}{run[0][1]}..{run[-1][1]}")
        else:
            out.extend(f"{head}{n}" for head, n in run)
        run.clear()

    for case in cases:
        m = re.fullmatch(r"(.*?)(0|[1-9]\d*)", case)
        if not m:
            flush()
            out.append(case)
            continue
        item = (m[1], int(m[2]))
        if run and (item[0] != run[-1][0] or item[1] != run[-1][1] + 1):
            flush()
        run.append(item)
    flush()
    return " ".join(out)


def expand(text):
    """The other way."""
    cases = []
    for word in text.split():
        m = re.fullmatch(r"(.*?)(0|[1-9]\d*)\.\.(\d+)", word)
        cases += [f"{m[1]}{n}" for n in range(int(m[2]), int(m[3]) + 1)] if m else [word]
    return cases


def known(path=None):
    """{script: the cases that failed when the table was made}, from failing.txt."""
    with open(path or os.path.join(os.path.dirname(FILE), "failing.txt")) as f:
        return {line.split(":", 1)[0]: set(expand(line.split(":", 1)[1])) for line in f
                if line.strip() and not line.startswith("#")}


def rule_for(rules, script, case):
    """The first rule that explains a failing case, or None."""
    for rule in rules:
        if rule["class"] in CLASSES and any(
                fnmatch.fnmatchcase(script, p) for p in rule["script"]) and \
                any(fnmatch.fnmatchcase(case, p) for p in rule["cases"]):
            rule["used"] += 1
            return rule
    return None


def opens_elsewhere(rules, script):
    return [r for r in rules if r["class"] == "opens" and
            any(fnmatch.fnmatchcase(script, p) for p in r["script"])]


def failing(result):
    """Cases that failed; a script that did not come to its end has one more, called END."""
    return result["failed"] + ([] if result["ended"] == "ended" else ["END"])


def complaints(result, rules, clean, before=None):
    """What is wrong with a result of the corallite backend: [sentence]. before: known()."""
    script, counts = result["script"], result["counts"]
    wrong = []
    unexplained = [c for c in failing(result) if not rule_for(rules, script, c)]
    if unexplained:
        wrong.append(f"{len(unexplained)} cases fail without an explanation: "
                     + " ".join(unexplained[:8]) + (" ..." if len(unexplained) > 8 else "")
                     + (f" ({result['why']})" if result.get("why") else ""))
    new = [c for c in failing(result) if before is not None and c not in before.get(script, ())]
    if new and not unexplained:
        wrong.append(f"{len(new)} cases fail that did not: {' '.join(new[:8])}")
    if not clean and not failing(result):
        wrong.append(f"exit status {result['status']}")
    if clean and result["tests"] == 0:
        wrong.append("no case was run")
    if counts["main"] == 0:
        wrong.append("hollow: it opened no database through the VFS")
    if counts["foreign"] and not opens_elsewhere(rules, script):
        wrong.append(f"{counts['foreign']} main databases were opened by another VFS")
    if counts.get("commits") and not result["commits"]:
        wrong.append(f"hollow: SQLite committed {counts['commits']} times, the safekeepers got none")
    if result["commits"] and not result["ingested"]:
        wrong.append(f"hollow: {result['commits']} commits, and the pageserver got none")
    return wrong
