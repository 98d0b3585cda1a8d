"""The chart: for each workload the rates side by side, how cost grows, and for each goal how far it is."""

from html import escape

from .table import number

COLOURS = {"floor": "#9a9a9a", "local": "#5b8def", "corallite": "#e4572e", "postgres": "#336791",
           "dqlite": "#e9a03b", "etcd": "#6fb07f"}
LEFT, BAR, WIDTH, LINE = 440, 400, 1060, 16


def svg(report, curves):
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
    y = growth(report.results, curves, parts, y + 16)
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


def growth(results, curves, parts, y):
    """A curve a measure over sizes, and a point for what is not a size; what was not measured is left out. Answers where
    it ends."""
    curves = [(measure, [(label, value(results)) for label, value in points]) for measure, points in curves.items()]
    curves = [(measure, [p for p in points if p[1]]) for measure, points in curves]
    curves = [(measure, points) for measure, points in curves if len(points) > 1]
    if not curves:
        return y
    parts.append(text(10, y, "How cost grows: 1 is a database of 10 MB; the line is the bound, 1.5", 14, True))
    labels = list(dict.fromkeys(label for _, points in curves for label, _ in points))
    top = max(2.0, *(value for _, points in curves for _, value in points))
    step, high, base = (WIDTH - 120) / len(labels), 160, y + 190

    def at(label, value):
        return 60 + (labels.index(label) + 0.5) * step, base - value / top * high
    for value in (0, 0.5, 1, 1.5, 2):
        level = at(labels[0], value)[1]
        colour, width = ("#333", 1.5) if value == 1.5 else ("#ddd", 1)
        parts.append(f'<line x1="40" y1="{level:.0f}" x2="{WIDTH - 60}" y2="{level:.0f}" stroke="{colour}" '
                     f'stroke-width="{width}"/>')
        parts.append(text(10, round(level) + 4, number(value), 11))
    for label in labels:
        parts.append(text(at(label, 0)[0] - 3 * len(label), base + 16, label, 11))
    for i, ((measure, points), colour) in enumerate(zip(curves, ("#e4572e", "#5b8def", "#4c9a57"))):
        line = " ".join(f"{x:.0f},{h:.0f}" for x, h in (at(*p) for p in points if p[0].endswith("B")))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.0f}" cy="{h:.0f}" r="3" fill="{colour}"/>' for x, h in (at(*p) for p in points)]
        parts.append(f'<rect x="{60 + 160 * i}" y="{base + 26}" width="12" height="12" fill="{colour}"/>')
        parts.append(text(78 + 160 * i, base + 36, measure, 12))
    return base + 56


def text(x, y, words, size, bold=False):
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.0f}" y="{y}" font-size="{size}"{weight}>{escape(words)}</text>'


def bar(y, length, colour):
    return f'<rect x="{LEFT}" y="{y - 10}" width="{max(length, 1):.0f}" height="12" fill="{colour}"/>'
