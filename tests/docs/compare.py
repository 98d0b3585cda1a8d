"""Is what was printed what the page says?

Times, positions, ids, addresses and process ids differ each time: on both sides they are replaced by a
word for their kind. A line `...` stands for any lines, `...` within a line for any text; runs of blanks
are one blank.
"""

import re

KINDS = (
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", "<time>"),
    (r"\b\d{8}T\d{6}Z\b", "<time>"),
    (r"\b\d+:[0-9a-f]{16}\b", "<commit id>"),
    (r"\b[0-9a-f]{32}\b", "<id>"),
    (r"\b[0-9a-f]{16}\b", "<lsn>"),
    (r"\b(127\.0\.0\.1|localhost):\d+\b", "<address>"),
    (r"\bpid \d+\b", "pid <n>"),
)


def _plain(line):
    for pattern, kind in KINDS:
        line = re.sub(pattern, kind, line)
    return " ".join(line.split())


def _pattern(line):
    return ".*".join(re.escape(part.strip()) if i else re.escape(part.rstrip())
                     for i, part in enumerate(line.split("...")))


def differs(expected, printed):
    """None, or (number of the expected line from 0, why)."""
    want = [_plain(line) for line in expected.rstrip("\n").split("\n")]
    have = [_plain(line) for line in printed.rstrip("\n").split("\n")]

    def line_matches(i, j):
        if "..." not in want[i]:
            return want[i] == have[j]
        return re.fullmatch(_pattern(want[i]).replace(".*", r"\s*.*\s*"), have[j]) is not None

    # furthest[i]: the positions in `have` that the first i lines of `want` can end at
    ends = {0}
    for i, line in enumerate(want):
        if line == "...":
            ends = set(range(min(ends), len(have) + 1))
        else:
            after = {j + 1 for j in ends if j < len(have) and line_matches(i, j)}
            if not after:
                j = min(ends)
                there = have[j] if j < len(have) else "nothing more"
                return i, f"the page says '{line}', printed was '{there}'"
            ends = after
    if len(have) not in ends:
        return len(want) - 1, f"more was printed than the page says: '{have[min(ends)]}'"
    return None
