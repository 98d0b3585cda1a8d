"""The list of tests, and what a test is given."""

import os
import shutil
from dataclasses import dataclass
from typing import Callable

from .cluster import Cluster, Skip

TESTS = {}
SLOW = False


@dataclass
class Test:
    name: str
    shows: str
    seconds: int
    function: Callable


def test(shows, seconds):
    """Registers a test: the line that it shows, and the time that it may take at most."""
    def register(function):
        TESTS[function.__name__] = Test(function.__name__, shows, seconds, function)
        return function
    return register


class Context:
    def __init__(self, directory, out):
        self.dir = directory
        self.out = out
        os.makedirs(directory, exist_ok=True)

    def cluster(self, name="", **kwargs):
        return Cluster(os.path.join(self.dir, name) if name else self.dir, **kwargs)

    def note(self, text):
        """A figure, for people; never judged."""
        self.out.write(f"# {text}\n")
        self.out.flush()

    def slow(self):
        return SLOW

    def needs(self, *programs):
        for program in programs:
            if shutil.which(program) is None:
                raise Skip(f"{program} is not installed")

    def needs_root(self, why):
        if os.geteuid() != 0:
            raise Skip(f"only root can {why}")
