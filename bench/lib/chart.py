"""The chart: for each goal that is a ratio how far it is, and for each workload the rates side by side."""

from html import escape

from .table import number

COLOURS = {"floor": "#9a9a9a", "local": "#5b8def", "corallite": "#e4572e", "postgres": "#336791",
           "dqlite": "#e9a03b", "etcd": "#6fb07f"}
LEFT, BAR, WIDTH, LINE = 440, 400, 1060, 16


def svg(report):
    parts, y = [], 24
    parts.append(text(10, y, "Rates (a second), longest bar = the best of the workload", 14, True))
    y += 24
    for w in report.work:
        rates = [(s, report.results.median(w.name, s, "per_s")) for s in w.systems]
        rates = [(s, r) for s, r in rates if r]
        if not rates:
            continue
        top = max(r for _, r in rates)
        parts.append(text(10, y, f"{w.row}  {w.title}", 12))
        for system, rate in rates:
            parts.append(bar(y, rate / top * BAR, COLOURS[system]))
            parts.append(text(LEFT + rate / top * BAR + 6, y, f"{system} {number(rate)}", 11))
            y += LINE
        y += 8
    y += 16
    parts.append(text(10, y, "Goals: the line is the bound; the bar is how much of it is reached "
                      "(right of the line: met)", 14, True))
    y += 24
    line = LEFT + BAR / 2
    top = y - 12
    for goal, value, met in report.judged():
        parts.append(text(10, y, f"{goal.row}  {goal.what}", 12))
        if value:
            reached = value / goal.bound if goal.sense == ">=" else goal.bound / value
            length = min(reached, 2) * BAR / 2
            parts.append(bar(y, length, "#4c9a57" if met else "#c0392b"))
            parts.append(text(LEFT + BAR + 6, y, f"{number(value)}{goal.unit}, goal {goal.sense} "
                              f"{number(goal.bound)}{goal.unit}", 11))
        else:
            parts.append(text(LEFT, y, "0" if value == 0 else "not measured", 11))
        y += LINE
    parts.append(f'<line x1="{line}" y1="{top}" x2="{line}" y2="{y}" stroke="#333"/>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 10}" '
            f'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>'
            + "\n".join(parts) + "</svg>\n")


def text(x, y, words, size, bold=False):
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.0f}" y="{y}" font-size="{size}"{weight}>{escape(words)}</text>'


def bar(y, length, colour):
    return f'<rect x="{LEFT}" y="{y - 10}" width="{max(length, 1):.0f}" height="12" fill="{colour}"/>'
