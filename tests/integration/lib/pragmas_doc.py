"""docs/pragmas.md, which the tests hold against what really happens."""

import os
import re

from .cluster import ROOT, Failure

PATH = os.path.join(ROOT, "docs", "pragmas.md")


def tables(title, number=0):
    """The rows of a table below a heading, as lists of cells without the header."""
    with open(PATH) as f:
        text = f.read()
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    if not found:
        raise Failure(f"docs/pragmas.md has no section {title}")
    parts = re.findall(r"(?:^\|.*\n)+", found[1], re.M)
    if number >= len(parts):
        raise Failure(f"docs/pragmas.md, {title}: {len(parts)} tables")
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in parts[number].splitlines()[2:]]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in rows]


def code(cell):
    """What a cell has between back quotes, or the cell."""
    found = re.fullmatch(r"`(.*)`", cell)
    return found[1] if found else cell


def differences():
    """{what: (plain file, Corallite)} of the section Differences."""
    return {code(row[0]): (code(row[1]), code(row[2])) for row in tables("Differences")}
