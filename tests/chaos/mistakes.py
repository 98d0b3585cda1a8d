#!/usr/bin/python3
"""mistakes.py [--only NAME]... [--tries N] - the products with one known mistake built in, under the mix that brings it to
light: the run must fail. What chaos cannot find it is no evidence against.

make chaos-mistakes builds the products that it needs.
"""

import argparse
import os
import random
import shutil
import sys

import run

# The mistake (common/mutation.h) and the mix; each has been found so.
MISTAKES = {
    "ACK_BEFORE_FSYNC": "power-loss",
    "QUORUM_OF_ONE": "partitions",
    "APPEND_LOWER_TERM": "slow",
    "READ_MAX_COMMIT": "partitions",
    "UNKNOWN_IS_FAILED": "one-way",
}


# What a run fails with when the products are at fault, and not a slow machine.
FOUND = (" anomalies: ", "ended that should not have", "do not go on", "integrity_check: ", "halted timelines",
         "corallite check: ")


def main():
    parse = argparse.ArgumentParser(prog="mistakes.py", description=__doc__.split("\n\n")[0])
    parse.add_argument("--only", action="append", default=[], help="also others of common/mutation.h, with --mix")
    parse.add_argument("--mix", choices=list(run.nemesis.MIXES))
    parse.add_argument("--tries", type=int, default=4)
    parse.add_argument("--seconds", type=float, default=25)
    args = parse.parse_args()
    strange = [name for name in args.only if name not in MISTAKES and not args.mix]
    if strange:
        parse.error(f"--mix has to say how {', '.join(strange)} might be found; known are {', '.join(MISTAKES)}")
    passed = failed = 0
    for name in args.only or MISTAKES:
        os.environ["CORALLITE_MISTAKE"] = name
        for n in range(1, args.tries + 1):
            seed, mix = random.SystemRandom().randrange(1 << 32), args.mix or MISTAKES[name]
            result, reason, notes, _ = run.in_child(mix, seed, args.seconds)
            for note in notes:
                if note.startswith("# kept: "):
                    shutil.rmtree(note[8:], ignore_errors=True)
            found = result == "not ok" and any(words in reason for words in FOUND)
            if found:
                break
        passed, failed = passed + found, failed + (not found)
        print(f"ok {name}, found in run {n} of {mix}: {reason[:300]}" if found else
              f"not ok {name}: {args.tries} runs of {mix} for {args.seconds:g} s found nothing ({result}: {reason})",
              flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
