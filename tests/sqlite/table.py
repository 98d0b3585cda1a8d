#!/usr/bin/python3
"""docs/sqlite-conformance.md out of the results of run.py: never typed.

    table.py [--results DIR] [--out FILE]    writes it; exit status 1 when something is unexplained,
                                             when an exception explains nothing any more, when
                                             the control has more clean scripts, or when the rows
                                             of a side come from more than one build
"""

import argparse
import os
import sys

import explain
import rows as book

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FAMILIES = ("select insert update delete trans savepoint index join trigger fkey view alter vacuum "
            "attach incrblob backup wal temptable types where without_rowid upsert with window json "
            "fts3 rtree").split()


def clean(r):
    return r["ended"] == "ended" and r["status"] == 0 and not r["failed"]


def cell(text):
    return text.replace("|", "\\|")


def rows(ours, control, rules, problems):
    """One row a script and reason."""
    lines = []
    for script in sorted(ours):
        r, c = ours[script], control.get(script)
        for complaint in explain.complaints(r, rules, clean(r)):
            problems.append(f"{script}: {complaint}")
        if clean(r):
            continue
        theirs = set(explain.failing(c)) if c else set()
        groups = {}
        for case in explain.failing(r):
            rule = explain.rule_for(rules, script, case)
            groups.setdefault(rule["line"] if rule else 0, (rule, []))[1].append(case)
        for rule, cases in groups.values():
            both = sum(case in theirs for case in cases)
            lines.append(f"| {script} | {len(cases)} of {r['tests']} | {both} | "
                         f"{rule['class'] if rule else '**unexplained**'} | "
                         f"{cell(rule['why']) if rule else ''} | {cell(explain.compact(cases))} |")
    return lines


def families(ours, control):
    lines = []
    for family in FAMILIES:
        of_it = [s for s in ours if s.startswith(family)]
        good = [s for s in of_it if clean(ours[s])]
        theirs = [s for s in of_it if s in control and clean(control[s])]
        rest = sorted(set(of_it) - set(good))
        lines.append(f"| `{family}*` | {len(of_it)} | {len(good)} | {len(theirs)} | "
                     f"{' '.join(rest)} |")
    return lines


def stamps(sides, problems):
    """What was run, of which commit and when; and what was run more than once, which a reader is to know."""
    lines = []
    for name, results in sides.items():
        s = book.stamp(results)
        if len(s["builds"]) > 1:
            problems.append(f"{name}: rows of {len(s['builds'])} builds; make sqlite-conformance ARGS=--resume "
                            "runs what has none of this one")
        again = "".join(f" {script} ({runs} times)" for script, runs in s["again"].items())
        lines.append(f"{name}: commit {', '.join(s['commits'])}, {s['from']} to {s['to']} UTC. Run more than once, "
                     f"the last run counts:{again or ' none'}.")
    return "\n".join(lines)


def total(results, name):
    return sum(r["counts"].get(name, 0) for r in results.values())


def document(ours, control, rules, problems):
    n, m = sum(map(clean, ours.values())), sum(map(clean, control.values()))
    lines = rows(ours, control, rules, problems)
    if n < m:
        problems.append(f"{n} clean scripts, the control has {m}")
    for script in set(control) ^ set(ours):
        problems.append(f"{script} ran on one side only")
    elsewhere = sorted(s for s, r in ours.items() if r["counts"]["foreign"])
    tests = sum(r["tests"] for r in ours.values())
    failed = sum(len(explain.failing(r)) for r in ours.values())
    silent = sorted(s for s, r in ours.items() if not r["commits"])
    return f"""# SQLite's own scripts on Corallite

Made by `make sqlite-conformance` (tests/sqlite/table.py); do not edit. `tests/sqlite/README.md` says how
the scripts are run and what the control is; `tests/sqlite/exceptions.txt` holds the reasons below.

{stamps({"Corallite": ours, "Control": control}, problems)}

| suite `veryquick` | Corallite | control |
|---|---|---|
| scripts | {len(ours)} | {len(control)} |
| clean scripts | {n} | {m} |
| cases | {tests} | {sum(r['tests'] for r in control.values())} |
| cases that fail | {failed} | {sum(len(explain.failing(r)) for r in control.values())} |
| main databases opened by it | {total(ours, 'main')} | {total(control, 'main')} |
| main databases opened by another VFS | {total(ours, 'foreign')} | {total(control, 'foreign')} |
| databases made, dropped | {total(ours, 'created')}, {total(ours, 'dropped')} | {total(control, 'created')}, {total(control, 'dropped')} |
| records at the three safekeepers together | {sum(r['commits'] for r in ours.values())} | - |
| records at the pageserver | {sum(r['ingested'] for r in ours.values())} | - |

Scripts that themselves ask for another VFS (`-vfs unix-dotfile` and the like): {', '.join(elsewhere) or 'none'}.
Scripts that commit nothing to a database file (they compute, use `:memory:`, or skip themselves): {len(silent)}.

## By family

| scripts | there are | clean | in the control | the others |
|---|---|---|---|---|
{chr(10).join(families(ours, control))}

## Every case that fails, and why

*both*: how many of them fail in the control as well. Reasons: *journal* (a rollback journal, or the locks that
come with one), *bytes* (the bytes of the file or of its WAL, from outside), *vfs* (another VFS, or what only the
unix VFS has), *checkpoint* (the WAL's growth, its index, its checkpoints), *ours* (a difference that stays to be removed). END: the script did not come to its end.

| script | cases | both | reason | why | which |
|---|---|---|---|---|---|
{chr(10).join(lines)}
"""


def main():
    p = argparse.ArgumentParser()
    sqlite = os.path.join(ROOT, os.environ.get("B", "build"), "sqlite")
    p.add_argument("--results", default=os.path.join(sqlite, "results"))
    p.add_argument("--out", default=os.path.join(ROOT, "docs", "sqlite-conformance.md"))
    args = p.parse_args()
    rules, problems = explain.load(), []
    ours, control = book.read(args.results, "corallite"), book.read(args.results, "control")
    text = document(ours, control, rules, problems)
    with open(os.path.join(HERE, "failing.txt"), "w") as f:
        f.write("# Made by table.py with docs/sqlite-conformance.md: the cases that fail, and no others.\n")
        for script in sorted(s for s in ours if explain.failing(ours[s])):
            f.write(f"{script}: {explain.compact(explain.failing(ours[script]))}\n")
    for rule in rules:
        if rule["class"] in explain.CLASSES and not rule["used"]:
            problems.append(f"exceptions.txt:{rule['line']}: explains nothing ({' '.join(rule['script'])})")
    with open(args.out, "w") as f:
        f.write("\n".join(line.rstrip() for line in text.splitlines()) + "\n")
    for problem in problems:
        print(problem)
    print(f"{args.out}: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
