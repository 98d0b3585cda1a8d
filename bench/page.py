#!/usr/bin/python3
"""page.py BENCH.JSON PAGE.MD - puts the tables and the chart of a run into a page, between its two markers.

What stands between `<!-- bench: begin -->` and `<!-- bench: end -->` is replaced; the rest is kept. The chart, BENCH.svg, is
copied beside the page.
"""

import json
import os
import shutil
import sys

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def main(source, page):
    with open(source) as f:
        run = json.load(f)
    if run["size"] == "smoke":
        sys.exit(f"page.py: {source} is of a smoke run, whose times mean nothing; run make bench")
    with open(page) as f:
        text = f.read()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        sys.exit(f"page.py: {page} has no place for the tables: {BEGIN} and {END}, once each, in this order")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    chart = os.path.join(os.path.dirname(page), "performance.svg")
    shutil.copyfile(os.path.splitext(source)[0] + ".svg", chart)
    with open(page, "w") as f:
        f.write(f"{before}{BEGIN}\n\n{run['markdown']}\n![The same as a chart]({os.path.basename(chart)})\n\n{END}{after}")
    print(f"{page}: the run of {run['when']}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__.split("\n")[0])
    main(sys.argv[1], sys.argv[2])
