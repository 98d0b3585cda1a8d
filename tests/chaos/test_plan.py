#!/usr/bin/python3
"""The mixes and their schedules: the same again from the same seed, dense enough, and described as they are."""

import os
import re
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "integration")]

import nemesis  # noqa: E402


class Plan(unittest.TestCase):
    def test_the_same_seed_gives_the_same_schedule(self):
        for mix in nemesis.MIXES:
            self.assertEqual(nemesis.plan(mix, 7, 60), nemesis.plan(mix, 7, 60))
            if mix != "none":
                self.assertNotEqual(nemesis.plan(mix, 7, 60), nemesis.plan(mix, 8, 60))

    def test_every_schedule_has_more_than_20_faults_a_minute(self):
        for mix in nemesis.MIXES:
            for seed in range(200 if mix != "none" else 0):
                steps = nemesis.plan(mix, seed, 30)
                self.assertGreaterEqual(len(steps), 10, f"{mix}, seed {seed}")
                self.assertEqual(sorted(s.at for s in steps), [s.at for s in steps])

    def test_a_minute_of_a_mix_has_each_of_its_steps(self):
        for mix, steps in nemesis.MIXES.items():
            done = {s.what for s in nemesis.plan(mix, 3, 60)}
            self.assertEqual(done, {s.__name__ for s in steps})

    def test_every_step_can_be_done(self):
        for steps in nemesis.MIXES.values():
            for step in steps:
                self.assertTrue(callable(getattr(nemesis.Nemesis, step.__name__)))

    def test_the_readme_lists_the_mixes(self):
        with open(os.path.join(HERE, "README.md")) as f:
            listed = re.findall(r"^\| `([a-z-]+)` \|", f.read(), re.M)
        self.assertEqual(listed, list(nemesis.MIXES))
        self.assertEqual(len(listed), 14)


if __name__ == "__main__":
    result = unittest.TextTestRunner(stream=sys.stdout).run(
        unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"]))
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad} passed, {bad} failed, 0 skipped")
    sys.exit(1 if bad or not result.testsRun else 0)
