"""What may fail, and why (exceptions.txt); and what a run must show so as not to be hollow.

A line of exceptions.txt:  SCRIPT | CLASS | CASES | why
SCRIPT and CASES are patterns (CASES: several, by spaces). Classes:
  journal     needs a rollback journal, or the locks that SQLite has with one
  bytes       reads or writes the bytes of the database file, or of its WAL, from outside
  vfs         is about another VFS, or about what only the unix VFS has
  checkpoint  is about the WAL's growth, its wal-index or its checkpoints
  opens       not a failure: the script itself opens main databases by another VFS
"""

import fnmatch
import os

CLASSES = ("journal", "bytes", "vfs", "checkpoint")
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
            rules.append({"script": parts[0], "class": parts[1], "cases": parts[2].split(),
                          "why": parts[3], "line": number, "used": 0})
    return rules


def rule_for(rules, script, case):
    """The first rule that explains a failing case, or None."""
    for rule in rules:
        if rule["class"] in CLASSES and fnmatch.fnmatchcase(script, rule["script"]) and \
                any(fnmatch.fnmatchcase(case, p) for p in rule["cases"]):
            rule["used"] += 1
            return rule
    return None


def opens_elsewhere(rules, script):
    return [r for r in rules if r["class"] == "opens" and fnmatch.fnmatchcase(script, r["script"])]


def failing(result):
    """Cases that failed; a script that did not come to its end has one more, called END."""
    return result["failed"] + ([] if result["ended"] == "ended" else ["END"])


def complaints(result, rules, clean):
    """What is wrong with a result of the corallite backend: [sentence]."""
    script, counts = result["script"], result["counts"]
    wrong = []
    unexplained = [c for c in failing(result) if not rule_for(rules, script, c)]
    if unexplained:
        wrong.append(f"{len(unexplained)} cases fail without an explanation: "
                     + " ".join(unexplained[:8]) + (" ..." if len(unexplained) > 8 else "")
                     + (f" ({result['why']})" if result.get("why") else ""))
    if not clean and not failing(result):
        wrong.append(f"exit status {result['status']}")
    if clean and result["tests"] == 0:
        wrong.append("no case was run")
    if counts["main"] == 0:
        wrong.append("hollow: it opened no database through the VFS")
    if counts["foreign"] and not opens_elsewhere(rules, script):
        wrong.append(f"{counts['foreign']} main databases were opened by another VFS")
    if counts["commits"] and not result["commits"]:
        wrong.append(f"hollow: SQLite committed {counts['commits']} times, the safekeepers got none")
    if result["commits"] and not result["ingested"]:
        wrong.append(f"hollow: {result['commits']} commits, and the pageserver got none")
    return wrong
