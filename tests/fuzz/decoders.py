#!/usr/bin/python3
"""decoders.py - is every decoder in the table of README.md, and does its harness call it?

A decoder is a function of a public header that takes bytes or text and whose name says that it reads them. The table
names each with its harness; those that need none are in the second table, with the reason. Prints what is wrong."""

import glob
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MODULES = ["common", "proto", "archive", "safekeeper", "pageserver", "compute-vfs", "cli"]
READS = re.compile(r"(?:^|_)(parse|decode|unpack|verify|check|peek|apply|feed|split|take|unescape|get|get16|read|open|from"
                   r"|match|matches|body|text|values|within|param|name|knows|expiry|next|check_range|check_answer"
                   r"|propose|database|recover)(?:_|$)")
# What carries bytes or text from outside. A text that is an output has its size in brackets.
INPUT = re.compile(r"struct co_span (?!\*)|struct co_span \*rest|const uint8_t \*|const uint8_t \w+\[|const char \*\w+(?:,|$)"
                   r"|char \*\*argv|const Corallite__|const ProtobufCMessage|struct frame_reader \*|struct bt_\w+ \*"
                   r"|sk_\w*file \*|const struct sk_entry|const struct co_http_request \*|const struct sk_recover \*")
DECLARATION = re.compile(r"^(?:CO_MUST_CHECK )?[a-z][\w ]*?[ *]([a-z]\w+)\(([^;{]*)\)(?: CO_PRINTF\([^)]*\))?;", re.M)


def declared():
    """{header: {function: arguments}} of what the headers declare."""
    out = {}
    for path in sorted(p for m in MODULES for p in glob.glob(os.path.join(ROOT, m, "*.h"))):
        with open(path) as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
        out[os.path.relpath(path, ROOT)] = {m[1]: re.sub(r"\s+", " ", m[2]) for m in DECLARATION.finditer(text)}
    return out


def tables():
    """Rows of the two tables: (header, functions, harness), (function, reason)."""
    with open(os.path.join(HERE, "README.md")) as f:
        lines = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in f if line.startswith("| `")]
    rows = [[c.strip() for c in line] for line in lines]
    listed = [(r[0].strip("`"), re.findall(r"`(\w+)`", r[1]), r[2]) for r in rows if len(r) == 3]
    left_out = [(re.findall(r"`(\w+)`", r[0]), r[1]) for r in rows if len(r) == 2]
    return listed, left_out


def faults():
    out, headers = [], declared()
    listed, left_out = tables()
    known = {name for _, names, _ in listed for name in names} | {n for names, _ in left_out for n in names}
    for header, functions in headers.items():
        for name, arguments in functions.items():
            if READS.search(name) and INPUT.search(arguments) and name not in known:
                out.append(f"{header}: {name}() reads bytes or text and is not in tests/fuzz/README.md")
    for header, names, harness in listed:
        source = os.path.join(HERE, f"fuzz_{harness}.c")
        if not os.path.exists(source):
            out.append(f"tests/fuzz/README.md: {header} names the harness {harness}, which there is not")
            continue
        with open(source) as f:
            text = f.read()
        for name in names:
            if name not in headers.get(header, {}):
                out.append(f"tests/fuzz/README.md: {header} does not declare {name}()")
            elif not re.search(rf"\b{name}\(", text):
                out.append(f"tests/fuzz/README.md: fuzz_{harness}.c does not call {name}()")
    everything = {name for functions in headers.values() for name in functions}
    for names, reason in left_out:
        out += [f"tests/fuzz/README.md: there is no {name}()" for name in names if name not in everything]
        if len(reason) < 10:
            out.append(f"tests/fuzz/README.md: {names} are left out without a reason")
    if len(listed) < 20:
        out.append("tests/fuzz/README.md: the table of decoders was not found")
    return out


if __name__ == "__main__":
    wrong = faults()
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)
