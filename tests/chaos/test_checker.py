#!/usr/bin/python3
"""The checker: sound histories pass, and each anomaly is found and named.

Small histories by hand, one a name; then made-up ones of many transactions, which pass as they are, and in which each
harm of doctor.py is found. CHECKER_RUNS=n: of so many seeds (20); CHECKER_SEED=n: from this one on.
"""

import os
import random
import subprocess
import sys
import tempfile
import json
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import checker  # noqa: E402
import doctor  # noqa: E402
import history  # noqa: E402
import made_up  # noqa: E402

META = {"e": "meta", "accounts": 2, "each": 10}


def txn(c, n, begin, end, *ops, outcome="ok", **more):
    """A transaction that writes; outcome None: its client was killed."""
    out = [{"e": "invoke", "c": c, "n": n, "k": 1, "t": begin, "ops": [list(op) for op in ops]}]
    if outcome:
        out.append({"e": outcome, "c": c, "n": n, "t": end, **more})
    return out


def read(c, n, begin, end, *ops, **more):
    return [{"e": "read", "c": c, "n": n, "k": 1, "t": begin, "end": end, "ops": [list(op) for op in ops], **more}]


def final(*ops):
    return read(99, 1, 10**9, 10**9 + 1, *ops, final=True)


def names(*parts):
    found, _ = checker.check(history.from_events([META] + [e for part in parts for e in part]))
    return {a.name for a in found}


class ByHand(unittest.TestCase):
    def test_sound(self):
        """Each outcome, both ways where there are two, and reads that overlap a COMMIT: nothing is said."""
        self.assertEqual(names(
            txn(1, 1, 10, 20, ("a", "x", 1), ("sa", "s", 2)),
            txn(1, 2, 30, 40, ("r", "x", [1]), ("a", "x", 3), ("r", "x", [1, 3])),
            txn(2, 1, 30, 45, ("a", "x", 4), outcome="fail"),
            txn(3, 1, 30, None, ("a", "x", 5), outcome=None),
            txn(4, 1, 30, None, ("a", "y", 6), outcome=None),
            txn(5, 1, 30, 50, ("a", "y", 7), outcome="unknown", id="1:7"),
            txn(5, 2, 60, 70, ("a", "y", 8), outcome="unknown", id="1:8"),
            [{"e": "status", "id": "1:7", "t": 55, "answer": "unknown"},
             {"e": "status", "id": "1:7", "t": 56, "answer": "committed"},
             {"e": "status", "id": "1:8", "t": 75, "answer": "not committed"}],
            txn(6, 1, 10, 20, ("br", 0, 0, 10, 0), ("bw", 0, 1, 7), ("br", 1, 0, 10, 0), ("bw", 1, 1, 13),
                ("sa", "t", 9)),
            read(7, 1, 15, 35, ("r", "x", [1]), ("sr", "s", [2])), read(8, 1, 15, 35, ("r", "x", []), ("sr", "s", [])),
            final(("r", "x", [1, 3, 5]), ("r", "y", [7]), ("sr", "s", [2]), ("sr", "t", [9]),
                  ("br", 0, 1, 7, history.uid(6, 1)), ("br", 1, 1, 13, history.uid(6, 1)))), set())

    def test_stale_within_its_bound_is_sound(self):
        self.assertEqual(names(
            txn(1, 1, 10, 20, ("a", "x", 1)), read(2, 1, 1000, 1010, ("r", "x", []), stale_ms=1),
            read(2, 2, 1020, 1030, ("r", "x", [1]), stale_ms=1), final(("r", "x", [1]))), set())

    def test_lost(self):
        """An append was acknowledged and is missing."""
        self.assertIn("lost", names(txn(1, 1, 10, 20, ("a", "x", 1)), final(("r", "x", []))))

    def test_lost_though_read(self):
        """What was read can no longer be lost, whoever wrote it."""
        self.assertIn("lost", names(txn(1, 1, 10, None, ("a", "x", 1), outcome=None),
                                    read(2, 1, 30, 40, ("r", "x", [1])), final(("r", "x", []))))

    def test_lost_account(self):
        self.assertIn("lost", names(
            txn(1, 1, 10, 20, ("br", 0, 0, 10, 0), ("bw", 0, 1, 10), ("sa", "s", 1)), final(("br", 0, 0, 10, 0), ("sr", "s", [1]))))

    def test_twice(self):
        self.assertIn("twice", names(txn(1, 1, 10, 20, ("a", "x", 1)), final(("r", "x", [1, 1]))))

    def test_undead_at_the_end(self):
        """COMMIT said "not committed", and it is there."""
        self.assertIn("undead", names(txn(1, 1, 10, 20, ("a", "x", 1), outcome="fail"), final(("r", "x", [1]))))

    def test_undead_read(self):
        """A value of a transaction that failed was read."""
        self.assertIn("undead", names(txn(1, 1, 10, 20, ("a", "x", 1), outcome="fail"),
                                      read(2, 1, 12, 14, ("r", "x", [1])), final(("r", "x", []))))

    def test_nobodys(self):
        self.assertIn("nobodys", names(final(("r", "x", [1]))))
        self.assertIn("nobodys", names(final(("br", 0, 1, 10, history.uid(1, 1)))))

    def test_partial(self):
        """One of two appends of a transaction is there; a reader saw one of two."""
        two = txn(1, 1, 10, 20, ("a", "x", 1), ("a", "y", 2))
        self.assertIn("partial", names(two, final(("r", "x", [1]), ("r", "y", []))))
        both = txn(1, 1, 10, 20, ("a", "x", 1), ("a", "x", 2))
        self.assertIn("partial", names(both, read(2, 1, 12, 15, ("r", "x", [1])), final(("r", "x", [1, 2]))))
        members = txn(1, 1, 10, 20, ("sa", "s", 1), ("sa", "s", 2))
        self.assertIn("partial", names(members, read(2, 1, 12, 15, ("sr", "s", [1])), final(("sr", "s", [1, 2]))))

    def test_lost_update(self):
        self.assertIn("lost-update", names(
            txn(1, 1, 10, 20, ("br", 0, 0, 10, 0), ("bw", 0, 1, 10), ("sa", "s", 1)),
            txn(2, 1, 10, 20, ("br", 0, 0, 10, 0), ("bw", 0, 1, 10), ("sa", "s", 2)),
            final(("br", 0, 1, 10, history.uid(1, 1)), ("sr", "s", [1, 2]))))

    def test_lost_update_of_lists(self):
        """Two transactions read the same list and both appended: a cycle of one that missed the other."""
        self.assertTrue({"read-skew", "write-skew"} & names(
            txn(1, 1, 10, 20, ("r", "x", []), ("a", "x", 1)), txn(2, 1, 10, 20, ("r", "x", []), ("a", "x", 2)),
            final(("r", "x", [1, 2]))))

    def test_incompatible_order(self):
        self.assertIn("incompatible-order", names(
            txn(1, 1, 10, 20, ("a", "x", 1)), txn(2, 1, 10, 20, ("a", "x", 2)),
            read(3, 1, 15, 25, ("r", "x", [2])), final(("r", "x", [1, 2]))))

    def test_wrong_total(self):
        self.assertIn("wrong-total", names(read(1, 1, 10, 20, ("br", 0, 0, 10, 0), ("br", 1, 0, 11, 0)), final()))

    def test_internal(self):
        self.assertIn("internal", names(txn(1, 1, 10, 20, ("a", "x", 1), ("r", "x", [1]), ("a", "x", 2), ("r", "x", [1])),
                                        final(("r", "x", [1, 2]))))
        self.assertIn("internal", names(read(1, 1, 10, 20, ("br", 0, 0, 10, 0), ("br", 0, 0, 11, 0)), final()))

    def test_wrong_status(self):
        unknown = txn(1, 1, 10, 20, ("a", "x", 1), outcome="unknown", id="1:1")
        for answer, there in (("committed", []), ("not committed", [1])):
            status = [{"e": "status", "id": "1:1", "t": 30, "answer": answer}]
            self.assertIn("wrong-status", names(unknown, status, final(("r", "x", there))))
        both = [{"e": "status", "id": "1:1", "t": t, "answer": a} for t, a in ((30, "committed"), (31, "not committed"))]
        self.assertIn("wrong-status", names(unknown, both, final(("r", "x", [1]))))

    def test_unresolved(self):
        unknown = txn(1, 1, 10, 20, ("a", "x", 1), outcome="unknown", id="1:1")
        self.assertIn("unresolved", names(unknown, final(("r", "x", []))))
        self.assertIn("unresolved", names(unknown, [{"e": "status", "id": "1:1", "t": 30, "answer": "unknown"}],
                                          final(("r", "x", []))))

    def test_stale_read(self):
        """A strict read began after a COMMIT had returned and did not see it."""
        self.assertEqual(names(txn(1, 1, 10, 20, ("a", "x", 1)), read(2, 1, 21, 30, ("r", "x", [])),
                               final(("r", "x", [1]))), {"stale-read"})
        self.assertEqual(names(txn(1, 1, 10, 20, ("sa", "s", 1)), read(2, 1, 21, 30, ("sr", "s", [])),
                               final(("sr", "s", [1]))), {"stale-read"})

    def test_stale_after_its_status_was_told(self):
        """A commit whose outcome was unknown is to be seen from when it was said to be committed."""
        self.assertEqual(names(
            txn(1, 1, 10, 20, ("a", "x", 1), outcome="unknown", id="1:1"),
            [{"e": "status", "id": "1:1", "t": 30, "answer": "committed"}],
            read(2, 1, 31, 35, ("r", "x", [])), final(("r", "x", [1]))), {"stale-read"})

    def test_stale_beyond_its_bound(self):
        self.assertEqual(names(
            txn(1, 1, 10, 20, ("a", "x", 1)), read(2, 1, 1000021, 1000030, ("r", "x", []), stale_ms=1),
            final(("r", "x", [1]))), {"stale-read"})

    def test_stale_and_not_one_state(self):
        """With staleness too a transaction sees one state: a later append without an earlier one is none."""
        self.assertIn("read-skew", names(
            txn(1, 1, 10, 20, ("a", "x", 1)), txn(1, 2, 30, 40, ("r", "x", [1]), ("a", "y", 2)),
            read(2, 1, 50, 60, ("r", "x", []), ("r", "y", [2]), stale_ms=1000),
            final(("r", "x", [1]), ("r", "y", [2]))))

    def test_session(self):
        """A connection with staleness never goes back."""
        self.assertEqual(names(
            txn(1, 1, 10, 20, ("a", "x", 1)), read(2, 1, 30, 40, ("r", "x", [1]), stale_ms=1000),
            read(2, 2, 50, 60, ("r", "x", []), stale_ms=1000), final(("r", "x", [1]))), {"session"})

    def test_reordered(self):
        """One append ended before the other began, and comes after it."""
        self.assertEqual(names(txn(1, 1, 10, 20, ("a", "x", 1)), txn(2, 1, 30, 40, ("a", "x", 2)),
                               final(("r", "x", [2, 1]))), {"reordered"})

    def test_write_skew(self):
        self.assertEqual(names(
            txn(1, 1, 10, 20, ("r", "x", []), ("a", "y", 1)), txn(2, 1, 10, 20, ("r", "y", []), ("a", "x", 2)),
            final(("r", "x", [2]), ("r", "y", [1]))), {"write-skew"})

    def test_cycle(self):
        self.assertEqual(names(
            txn(1, 1, 10, 20, ("a", "x", 1), ("a", "y", 2)), txn(2, 1, 10, 20, ("a", "x", 3), ("a", "y", 4)),
            final(("r", "x", [1, 3]), ("r", "y", [4, 2]))), {"cycle"})

    def test_never(self):
        self.assertEqual(names([{"e": "never", "c": 1, "t": 5, "text": "SQLITE_CORRUPT"}], final()), {"never"})

    def test_what_is_no_history(self):
        for events, says in (([META], "lacks the final state"), (final(), "lacks the meta line"),
                             ([META, {"e": "what"}], "not 'what'"), ([META, {"e": "ok", "c": 1, "n": 1}], "has no t"),
                             ([META, {"e": "ok", "c": 1, "n": 1, "t": 1}], "never invoked"),
                             ([META] + txn(1, 1, 10, 5, ("a", "x", 1)) + final(), "ends before it begins"),
                             ([META] + txn(1, 1, 1, 5, ("z", "x", 1)) + final(), "no such operation"),
                             ([META] + txn(1, 1, 1, 5, ("a", "x", 1)) * 2 + final(), "invoked twice"),
                             ([META] + txn(1, 1, 1, 5, ("bw", 0, 1, 5)) + final(), "adds to no list and no set")):
            with self.assertRaisesRegex(history.Malformed, says):
                history.from_events(events)
        with self.assertRaisesRegex(history.Malformed, "value 1 is written by"):
            names(txn(1, 1, 1, 5, ("a", "x", 1)), txn(2, 1, 1, 5, ("a", "y", 1)), final())


class MadeUp(unittest.TestCase):
    runs = int(os.environ.get("CHECKER_RUNS", 20))
    first = int(os.environ.get("CHECKER_SEED", random.SystemRandom().randrange(1 << 30)))

    def seeds(self):
        return range(self.first, self.first + self.runs)

    def test_sound_ones_pass(self):
        for seed in self.seeds():
            h = history.from_events(made_up.events(random.Random(seed)))
            found, figures = checker.check(h)
            self.assertEqual(found, [], f"seed {seed}")
            self.assertGreater(figures["edges"], 100)

    def test_the_program(self):
        """Exit status 0, 1 and 2, from files of which a kill has cut the last line."""
        events = made_up.events(random.Random(self.first))
        harmed = doctor.doctored(events, doctor.acknowledged_is_missing, random.Random(1))
        for given, status, says in ((events, 0, "\n0 anomalies"), (harmed, 1, "lost: T"), ([], 2, "no history")):
            with tempfile.TemporaryDirectory(prefix="corallite-checker-") as d:
                if given:
                    with open(os.path.join(d, "1.jsonl"), "w") as f:
                        f.write("".join(json.dumps(e) + "\n" for e in given) + '{"e": "inv')
                done = subprocess.run([sys.executable, os.path.join(HERE, "checker.py"), d], capture_output=True,
                                      text=True, timeout=60)
            self.assertEqual(done.returncode, status, done.stdout + done.stderr)
            self.assertIn(says, done.stdout + done.stderr)


def harmed(harm, wanted):
    def test(self):
        done = 0
        for seed in self.seeds():
            r = random.Random(seed)
            events = doctor.doctored(made_up.events(r), harm, r)
            if events:
                done += 1
                found, _ = checker.check(history.from_events(events))
                self.assertTrue({a.name for a in found} & wanted, f"seed {seed}: found {found[:3]}")
        self.assertGreater(done, 0, "no history had anything to do it to")
    test.__doc__ = (harm.__doc__ or harm.__name__).split("\n")[0]
    return test


for one, wanted in doctor.HARM.items():
    setattr(MadeUp, f"test_harm_{one.__name__}", harmed(one, wanted))


if __name__ == "__main__":
    print(f"# made-up histories: seeds {MadeUp.first} to {MadeUp.first + MadeUp.runs - 1}")
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2 if "-v" in sys.argv else 1).run(suite)
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad} passed, {bad} failed, 0 skipped")
    sys.exit(1 if bad or not result.testsRun else 0)
