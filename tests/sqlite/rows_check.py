#!/usr/bin/python3
"""That a script which is run again replaces its own row, and nothing else does: rows.py, before the quarter."""

import os
import sys
import tempfile

import rows

OLD, NEW = {"build": "old", "commit": "c1"}, {"build": "new", "commit": "c2"}


def result(script, failed=(), ended="ended"):
    return {"script": script, "ended": ended, "failed": list(failed)}


def write(directory, build, *results):
    with rows.Book(directory, "control", build) as book:
        for r in results:
            book.add(r)


def main():
    with tempfile.TemporaryDirectory() as d:
        write(d, OLD, result("a", ["a-1"]), result("b"), result("c"))
        write(d, NEW, result("a"))
        seen = rows.read(d, "control")
        assert seen["a"]["failed"] == [] and seen["a"]["commit"] == "c2", "the new row of a counts"
        assert set(seen) == {"a", "b", "c"} and seen["b"]["commit"] == "c1", "rows of others stay"
        assert rows.stamp(seen)["builds"] == ["new", "old"], "a mixture is seen"
        assert rows.Book(d, "control", NEW).of_this_build() == {"a"}, "--resume has b and c to run"
        with open(os.path.join(d, "control.jsonl"), "a") as f:
            f.write('{"script": "b", "en')  # broken off
        assert rows.read(d, "control")["b"]["build"] == "old", "half a row is none"
        write(d, NEW, result("b"), result("b"), result("c", ended="harness"))
        seen = rows.read(d, "control")
        assert rows.stamp(seen)["again"] == {"b": 2}, "running until it passes is told"
        assert seen["a"]["runs"] == 1, "a run of another build does not count"
        assert rows.Book(d, "control", NEW).of_this_build() == {"a", "b"}, "a harness that failed is no result"
        book = rows.Book(d, "control", NEW)
        book.keep_only(["a", "b"])
        with book:
            pass
        assert set(rows.read(d, "control")) == {"a", "b"}, "what the suite no longer has is dropped"
    print("rows: a script that is run again replaces its row: ok")


if __name__ == "__main__":
    sys.exit(main())
