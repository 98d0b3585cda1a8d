"""The one table, as text, as JSON and for docs/PERFORMANCE.md."""

import json
import time

KEYS = ("per_s", "p50_us", "p99_us")
# In the JSON only.
HIDDEN = KEYS + ("n", "all_n", "all_sum", "wall_s", "began_s", "ended_s", "least_n", "most_n", "p90_us")


def number(value):
    """Four digits at most that mean something."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def columns(rows, left):
    """Lines of equal columns; the first `left` of them to the left."""
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    return ["  ".join(c.ljust(w) if i < left else c.rjust(w)
                      for i, (c, w) in enumerate(zip(r, widths))).rstrip() for r in rows]


class Report:
    def __init__(self, machine, size, given, work, left_out, goals, results, absent, titles, took_s):
        self.machine, self.size, self.rounds = machine, size, given.rounds
        self.work = sorted(work, key=lambda w: w.row)
        self.results, self.absent, self.titles = results, absent, titles
        self.took_s, self.when = took_s, time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
        rows = {w.row for w in work}
        self.goals = sorted((g for g in goals if g.row in rows), key=lambda g: g.row)
        self.whole_rows = rows - {w.row for w in left_out}
        self.systems = [s for s in titles if any((w.name, s) in results.rounds for w in work)]

    def judged(self):
        """(goal, value or None, met or None)"""
        for goal in self.goals:
            value = goal.value(self.results)
            yield goal, value, None if value is None else goal.met(value)

    def blind(self):
        """Goals without a figure though every workload of their row was run, on every system."""
        if self.results.failures:
            return []
        holes = {w.row for w in self.work if w.name in self.absent or set(w.systems) & set(self.absent)}
        return [g for g, value, _ in self.judged() if value is None and g.row in self.whole_rows - holes]

    def measured(self):
        """(workload, system, {figure: median})"""
        for w in self.work:
            for system in w.systems:
                rounds = self.results.rounds.get((w.name, system))
                if not rounds:
                    continue
                names = sorted({k for f in rounds.values() for k in f})
                yield w, system, {k: self.results.median(w.name, system, k) for k in names}

    def setting(self):
        m = self.machine
        lines = [f"{self.when}, {self.rounds} rounds, {self.took_s:.0f} s, sizes: {self.size}, sources: "
                 f"{m['sources']}",
                 f"{m['processor']}, {m['processors']} processors, {m['memory_mib']} MiB, Linux "
                 f"{m['kernel']}, {m['file_system']}; load before the run {m['load']}",
                 "every process, of a system or a client, may use the processors "
                 f"{','.join(map(str, m['used']))} and no others; one disk; loopback"]
        lines += [f"{name}: {self.titles[name]}" for name in self.systems]
        lines += [f"{name}: NOT MEASURED, {why}" for name, why in self.absent.items()]
        return lines

    def goal_rows(self):
        rows = [("row", "goal", "bound", "measured", "")]
        for goal, value, met in self.judged():
            rows.append((str(goal.row), goal.what, f"{goal.sense} {number(goal.bound)}{goal.unit}",
                         "-" if value is None else number(value) + goal.unit,
                         "not measured" if met is None else "met" if met else "NOT MET"))
        return rows

    def figure_rows(self):
        rows = [("row", "workload", "system", "a second", "", "p50 us", "p99 us", "of local", "others")]
        for w, system, found in self.measured():
            against = self.results.ratio((w.name, system), (w.name, "local"), "per_s") \
                if system != "local" else None
            more = ", ".join(f"{k} {number(v)}" for k, v in found.items() if k not in HIDDEN)
            rate, p50, p99 = (found.get(k) for k in KEYS)
            rows.append((str(w.row), w.title, system, number(rate), w.unit if rate else "", number(p50),
                         number(p99), number(against) + ("x" if against else ""), more))
        return rows

    def text(self):
        lines = ["Corallite's benchmark", ""] + self.setting() + [""]
        lines += columns(self.figure_rows(), 3) + [""]
        lines += columns(self.goal_rows(), 3) + [""]
        judged = list(self.judged())
        lines.append(f"{sum(1 for _, _, m in judged if m)} of {len(judged)} goals met, "
                     f"{sum(1 for _, _, m in judged if m is False)} not met, "
                     f"{sum(1 for _, _, m in judged if m is None)} not measured")
        for name, system, rnd, why in self.results.failures:
            lines.append(f"FAIL {name} on {system}, round {rnd}: {why}")
        return "\n".join(lines) + "\n"

    def markdown(self):
        """For the page."""
        lines = ["- " + line for line in self.setting()] + [""]

        def table(rows):
            out = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
            return out + ["| " + " | ".join(r) + " |" for r in rows[1:]] + [""]
        lines += table(self.goal_rows()) + table(self.figure_rows())
        for name, system, rnd, why in self.results.failures:
            lines.append(f"Failed: {name} on {system}, round {rnd}: {why}")
        return "\n".join(lines).rstrip() + "\n"

    def json(self):
        return json.dumps({
            "when": self.when, "took_s": round(self.took_s, 1), "rounds": self.rounds,
            "size": self.size, "machine": self.machine, "absent": self.absent,
            "systems": {s: self.titles[s] for s in self.systems},
            "measured": [{"row": w.row, "workload": w.name, "title": w.title, "unit": w.unit,
                          "system": system, "median": found,
                          "rounds": self.results.rounds[(w.name, system)]}
                         for w, system, found in self.measured()],
            "goals": [{"row": g.row, "what": g.what, "sense": g.sense, "bound": g.bound, "unit": g.unit,
                       "value": value, "met": met} for g, value, met in self.judged()],
            "failures": [dict(zip(("workload", "system", "round", "why"), f))
                         for f in self.results.failures],
            "markdown": self.markdown()}, indent=1) + "\n"
