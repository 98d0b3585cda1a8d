#!/usr/bin/python3
"""run.py [--seconds S] [--mix NAME]... [--seed N] [--ci] [--plan] [--list] - chaos on real processes.

Each mix of nemesis.py for S seconds (30), all of them unless some are named: 4 writers and 4 readers on two hosts, faults
by a schedule that the seed decides, and the whole history judged by checker.py. One line a mix, `ok`, `not ok` or `skip`
with its reason, figures behind `#`; ends with `N passed, N failed, N skipped`. A mix that fails leaves its directory
(history, schedule, logs of the daemons) and says where. --ci takes six mixes; --plan prints schedules and does nothing.
"""

import argparse
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "integration")]

from lib import cluster, hosts  # noqa: E402
from lib.cluster import Failure, Skip, check  # noqa: E402
import checker  # noqa: E402
import doctor  # noqa: E402
import field as fields  # noqa: E402
import history  # noqa: E402
import match  # noqa: E402
import nemesis  # noqa: E402

COMMITS = 10000 / 600 / cluster.SLOWER  # acknowledged commits a second that a run needs, over its mixes together,
EACH = COMMITS / 10    # and each of them
EVENTS = 20 / 60       # faults a second
ALWAYS = ("one-way", "power-loss", "everything")  # of --ci; three more are drawn
EXPECTED = ("SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_IOERR_FSYNC")  # their words are not printed
DOCTORED = 5           # harms that the checker has to find in the history of the run itself


def harmless(h):
    """What there is to say of a history, or the failure that it is."""
    found, figures = checker.check(h)
    check(not found, f"{len(found)} anomalies: " + " | ".join(f"{a.name}: {a.text}"[:700] for a in found[:3]))
    return figures


def harms_are_found(directory, seed):
    """The checker is believed after it has found what a doctor did to this very history."""
    events = [e for e, _ in history.events_of(directory)]
    r, done = random.Random(seed), []
    for harm in r.sample(list(doctor.HARM), len(doctor.HARM)):
        if len(done) == DOCTORED:
            break
        changed = doctor.doctored(events, harm, r)
        if changed:
            found, _ = checker.check(history.from_events(changed))
            check({a.name for a in found} & doctor.HARM[harm],
                  f"the checker did not find {harm.__name__}, but {[a.name for a in found[:5]]}")
            done.append(harm.__name__)
    check(len(done) == DOCTORED, f"only {done} could be done to this history")
    return done


def one(mix, seed, seconds, directory, note, harm):
    """A whole run. harm: a doctor harms its history afterwards, which has to be noticed. Raises Failure or Skip."""
    began = time.monotonic()
    steps = nemesis.plan(mix, seed, seconds)
    with open(os.path.join(directory, "plan"), "w") as f:
        f.writelines(f"{s.at:8.2f} {s.what} {s.who} {s.seconds}\n" for s in steps)
    with hosts.star(2) as (hub, a, b):
        fields.own_mounts()
        where = os.path.join(directory, "field")
        with fields.Field(where, hub, {"a": a, "b": b}, nemesis.needs_disks(mix), nemesis.needs_clocks(mix)) as field:
            clients = match.Clients(field, directory, seed)
            clients.go_on(60)
            ready = time.monotonic() - began
            chaos = nemesis.Nemesis(field, clients, steps, os.path.join(directory, "diary"))
            chaos.run(seconds)
            back = clients.go_on(match.RECOVERY_S)
            chaos.look()
            lasted = time.monotonic() - began - ready
            clients.stop()
            match.final(field, directory)
            match.sound(field)
    h = history.load(directory)
    figures = harmless(h)
    note(f"seed {seed}; {checker.describe(h, figures)}")
    events = sum(n for what, n in chaos.counts.items() if what != "ended by itself")
    note(f"{events} faults: " + (", ".join(f"{k} {n}" for k, n in sorted(chaos.counts.items())) or "none")
         + f"; {ready:.1f} s until all ran, {back:.1f} s until all went on, {time.monotonic() - began:.1f} s in all")
    note("errors that clients went on after: " + (", ".join(f"{k} {n}" for k, n in sorted(h.errors.items())) or "none"))
    for code, words in sorted(h.words.items()):
        if code not in EXPECTED:
            note(f"one {code}: {words}")
    chaos.judge()
    if harm:
        note("found when done to this history: " + ", ".join(harms_are_found(directory, seed)))
    if mix != "none":
        check(events >= EVENTS * seconds, f"{events} faults in {seconds} s are fewer than {EVENTS * 60:.0f} a minute")
    check(figures["ok"] >= EACH * seconds, f"{figures['ok']} acknowledged commits in {lasted:.0f} s are fewer than "
                                           f"{EACH * seconds:.0f}")
    return {k: figures[k] for k in ("ok", "unknown", "unknown, committed", "unknown, not committed")} | {"faults": events}


def in_child(mix, seed, seconds, harm=False):
    """(result, reason, notes, figures): a process of its own, with its own namespaces, within a bound."""
    directory = tempfile.mkdtemp(prefix=f"corallite-chaos-{mix}-")
    out = os.path.join(directory, "result")
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        cluster.die_with_parent()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        status = 1
        with open(out, "w") as f, open(os.path.join(directory, "errors"), "wb") as errors:
            os.dup2(errors.fileno(), 2)
            try:
                figures = one(mix, seed, seconds, directory, lambda text: print("#", text, file=f, flush=True), harm)
                f.writelines(f"FIGURE {n} {k}\n" for k, n in figures.items())
                status = 0
            except Skip as why:
                f.write(f"REASON {why}\n")
                status = 3
            except (Failure, history.Malformed) as why:
                f.write("REASON " + " ".join(str(why).split()) + "\n")
            except BaseException:  # noqa: B902 - whatever it is, the mix has failed
                f.write("".join(f"# {line}\n" for line in traceback.format_exc().splitlines()))
                f.write(f"REASON {sys.exc_info()[1]!r}\n".replace("\n", " ") + "\n")
        cluster.kill_all()
        os._exit(status)
    try:
        status = wait_for(pid, seconds + 240 * cluster.SLOWER)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        shutil.rmtree(directory, ignore_errors=True)
        raise
    with open(out) as f:
        lines = f.read().splitlines()
    reason = " ".join(line[7:] for line in lines if line.startswith("REASON "))
    figures = {k: int(n) for n, k in (line[7:].split(" ", 1) for line in lines if line.startswith("FIGURE "))}
    notes = [line for line in lines if line.startswith("#")]
    result = {0: "ok", 3: "skip"}.get(status, "not ok")
    if status is None:
        reason = f"not finished after {seconds + 240 * cluster.SLOWER:.0f} s"
    if result == "not ok" or os.environ.get("KEEP"):
        for name in os.listdir(os.path.join(directory, "field")) if os.path.isdir(os.path.join(directory, "field")) else ():
            if name.endswith(".img"):
                os.unlink(os.path.join(directory, "field", name))
        notes.append(f"# kept: {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return result, reason, notes, figures


def wait_for(pid, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def both_ways(total, mixes):
    """Of all mixes together: commits of unknown outcome turned out to be there, and not to be there."""
    text = (f"{total['unknown']} unknown, {total['unknown, committed']} turned out to be committed, "
            f"{total['unknown, not committed']} not; {total['ok']} acknowledged, {total['faults']} faults")
    if total["unknown, committed"] and total["unknown, not committed"]:
        return "ok", text
    if len(mixes) < len(nemesis.MIXES):
        return "skip", f"only all mixes together are sure to have both; {text}"
    return "not ok", text


def enough(total, seconds):
    text = f"{total['ok']} acknowledged commits in {seconds:.0f} s; {COMMITS * seconds:.0f} are needed"
    return "ok" if total["ok"] >= COMMITS * seconds else "not ok", text


def own_tests(name):
    """(passed, failed): the checker and the schedules are tested before they are used."""
    done = subprocess.run(["/usr/bin/python3", os.path.join(HERE, name)], capture_output=True, text=True, timeout=300)
    last = re.search(r"^(\d+) passed, (\d+) failed, 0 skipped$", done.stdout, re.M)
    if done.returncode != 0 or not last:
        print(done.stdout + done.stderr)
        return int(last[1]) if last else 0, max(1, int(last[2]) if last else 1)
    print(f"ok {name}: {last[1]} tests", flush=True)
    return int(last[1]), int(last[2])


def few_kills():
    """That `make kills` runs, and loses nothing; its figures are those of a quiet machine."""
    done = subprocess.run(["/usr/bin/python3", os.path.join(HERE, "kills.py"), "--kills", "6", "--p99", "60"],
                          capture_output=True, text=True, timeout=300)
    if done.returncode == 0 and "ok kills: 6, nothing lost" in done.stdout:
        return "ok", "6, nothing lost"
    return "not ok", f"ended with {done.returncode}: {done.stdout[-2000:]} {done.stderr[-2000:]}"


def main():
    parse = argparse.ArgumentParser(prog="run.py", description=__doc__.split("\n\n")[0])
    parse.add_argument("--seconds", type=float, default=30)
    parse.add_argument("--mix", action="append", default=[], choices=list(nemesis.MIXES))
    parse.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    for flag in ("--ci", "--plan", "--list"):
        parse.add_argument(flag, action="store_true")
    args = parse.parse_args()
    if args.list:
        for mix, steps in nemesis.MIXES.items():
            print(f"{mix:20} {' '.join(s.__name__ for s in steps) or 'nothing is done'}")
        return 0
    mixes = args.mix or list(nemesis.MIXES)
    if args.ci:
        others = [m for m in nemesis.MIXES if m not in ALWAYS and m != "none"]
        mixes = [*ALWAYS, *random.Random(args.seed).sample(others, 3)]
    if args.plan:
        for mix in mixes:
            print(f"{mix}, seed {args.seed}")
            for step in nemesis.plan(mix, args.seed, args.seconds):
                print(f"{step.at:8.2f} {step.what} {step.who} {step.seconds}")
        return 0
    print(f"seed {args.seed}: again with make chaos SECONDS={args.seconds:g} SEED={args.seed} [MIX=NAME]")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    results, total = Counter(), Counter()
    for name in ("test_checker.py", "test_plan.py"):
        passed, failed = own_tests(name)
        results.update({"ok": passed, "not ok": failed})
    ran = 0
    for mix in mixes:
        began = time.monotonic()
        result, reason, notes, figures = in_child(mix, args.seed, args.seconds, mix == mixes[0])
        print(f"{result} chaos {mix}" + (f": {reason}" if result != "ok" else f" ({time.monotonic() - began:.1f} s)"))
        print("".join(line + "\n" for line in notes), end="", flush=True)
        results[result] += 1
        ran += result == "ok"
        total.update(figures)
    nothing = ("skip", "no mix was run to its end")
    if args.ci:
        result, text = few_kills()
        print(f"{result} few_kills: {text}", flush=True)
        results[result] += 1
    for name, (result, text) in (("unknown_both_ways", both_ways(total, mixes) if ran else nothing),
                                 ("enough_commits", enough(total, ran * args.seconds) if ran else nothing)):
        print(f"{result} {name}: {text}")
        results[result] += 1
    print(f"{results['ok']} passed, {results['not ok']} failed, {results['skip']} skipped")
    return 1 if results["not ok"] else 0


if __name__ == "__main__":
    if not hasattr(sqlite3.Connection, "enable_load_extension") and sys.executable != "/usr/bin/python3":
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])
    sys.exit(main())
