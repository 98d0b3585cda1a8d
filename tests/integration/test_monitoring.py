"""What watches a cluster: JSON log lines, the dashboard, the alerts (docs/monitoring.md, docs/monitoring/)."""

import json
import os
import re
import socket
import subprocess

from lib.cluster import NODES, PAGESERVER, ROOT, Cluster, check, popen, run, until
from lib.registry import test
from test_http import documented, printed, scrape

FILES = os.path.join(ROOT, "docs", "monitoring")
LEVELS = {"debug", "info", "warn", "error"}


def read(name):
    with open(os.path.join(FILES, name)) as f:
        return f.read()


def unique(pairs):
    keys = [key for key, _ in pairs]
    check(len(keys) == len(set(keys)), f"a key twice: {keys}")
    return dict(pairs)


def events(path):
    """Every line of a log as an object; a line that is none fails."""
    with open(path, "rb") as f:
        data = f.read()
    check(data.endswith(b"\n") or not data, f"{path} ends within a line")
    out = []
    for n, raw in enumerate(data.split(b"\n")[:-1], 1):
        try:
            event = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
        except ValueError as why:
            check(False, f"{path}:{n}: {why}: {raw[:200]!r}")
        check(set(event) - {"fields", "cut"} == {"time", "level", "module", "message"}, f"{path}:{n}: {sorted(event)}")
        check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event["time"]), f"{path}:{n}: {event['time']}")
        check(event["level"] in LEVELS and re.fullmatch(r"[a-z0-9/_-]+", event["module"]), f"{path}:{n}: {raw!r}")
        check(event["message"] or event.get("fields"), f"{path}:{n}: says nothing")
        for key, value in event.get("fields", {}).items():
            check(re.fullmatch(r"[a-z][a-z0-9_]*", key) and isinstance(value, (int, str)), f"{path}:{n}: {key}={value!r}")
        out.append(event)
    return out


class JsonCluster(Cluster):
    """Its daemons log in JSON, in a directory with a space and a quote in its name."""

    def data(self, node):
        return os.path.join(self.dir, 'a "b=c', str(node))

    def log(self, node):
        return os.path.join(self.dir, f"{node}.log")

    def command(self, node):
        return [*super().command(node), "--log-format", "json", "--log-level", "debug"]


@test("with --log-format json every line that the daemons of a cluster write, through commits, branches, kills, strangers "
      "on their ports, damage and a start that fails, is one JSON object with time, level, module and message", 90)
def json_logs(t):
    os.makedirs(os.path.join(t.dir, 'a "b=c'))
    with JsonCluster(t.dir) as c:
        c.shell("CREATE TABLE t(a); INSERT INTO t VALUES(1);")
        for what in (b"GET / HTTP/1.0\r\n\r\n", os.urandom(200), b'{"level":"error"}\n'):
            for node in (PAGESERVER, 1):
                with socket.create_connection(("127.0.0.1", c.port[node]), 5) as s:
                    s.sendall(what)
                    s.settimeout(0.2)
                    try:
                        s.recv(100)
                    except OSError:
                        pass
        c.kill9(2)
        c.shell("INSERT INTO t VALUES(2);")
        c.start(2)
        c.restart(PAGESERVER)
        c.shell("INSERT INTO t VALUES(3);")
        c.shell("CREATE TABLE t(b);", db="other")
        c.stop(3)
        c.start(3)
        # Two of one directory: the second does not start, and says so.
        second = subprocess.run(c.command(1), stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
        check(second.returncode == 1, f"the second ended with {second.returncode}")
        path = os.path.join(t.dir, "second.log")
        with open(path, "wb") as f:
            f.write(second.stderr)
        last = events(path)[-1]
        check(last["level"] == "error" and "cannot start" in last["message"], f"{last}")
        # A log whose control blocks are damaged.
        c.stop(3)
        damaged = 0
        for folder, _, files in os.walk(c.data(3)):
            for name in files:
                if name == "control":
                    with open(os.path.join(folder, name), "r+b") as f:
                        f.write(os.urandom(64))
                    damaged += 1
        c.start(3)
        c.shell("INSERT INTO t VALUES(4);")
        for node in (*NODES, PAGESERVER):
            c.stop(node)
        count, modules, levels = 0, set(), set()
        for node in (*NODES, PAGESERVER):
            said = events(c.log(node))
            check(len(said) >= 3, f"{node} said {len(said)} lines")
            ready = [e for e in said if e["message"].startswith("ready")]
            check(ready and all(e.get("fields") for e in ready), f"{node}: no line says ready")
            count += len(said)
            modules |= {e["module"] for e in said}
            levels |= {e["level"] for e in said}
        dirs = {e["fields"]["dir"] for e in events(c.log(1)) if "dir" in e.get("fields", {})}
        check(dirs == {c.data(1)}, f"the directory is told as {dirs}")
        check({"info", "warn"} <= levels and len(modules) >= 6, f"{levels} {modules}")
        t.note(f"{count} lines of {len(modules)} modules, {damaged} control files damaged")


def rules():
    """[(alert, expression)] of the rules."""
    found = re.findall(r"^ +- alert: (\w+)\n +expr: '(.*)'$", read("corallite-alerts.yml"), re.M)
    return [(name, expr.replace("''", "'")) for name, expr in found]


def rows_of_the_page():
    """{alert: cells} of the table in docs/monitoring.md."""
    with open(os.path.join(ROOT, "docs", "monitoring.md")) as f:
        text = f.read().split("\n## Alerts\n")[1].split("\n## ")[0]
    return {m[1]: m[2] for m in re.finditer(r"^\| `(\w+)` (\|.*\|)$", text, re.M)}


@test("promtool finds the alert rules in order; its unit tests let each fire and each be quiet; each has a row in "
      "docs/monitoring.md with its expression and what to do", 60)
def alert_rules(t):
    t.needs("promtool")
    alerts = rules()
    check(len(alerts) == read("corallite-alerts.yml").count("- alert:") >= 15, f"{len(alerts)} rules are understood")
    for words in (["check", "rules", "corallite-alerts.yml"], ["test", "rules", "corallite-alerts-test.yml"]):
        process = popen(["promtool", *words], cwd=FILES, stdout=-1, stderr=subprocess.STDOUT, text=True)
        out, _ = process.communicate(timeout=30)
        check(process.returncode == 0, f"promtool {' '.join(words)}: {out}")

    cases = re.split(r"^  - name: ", read("corallite-alerts-test.yml"), flags=re.M)[1:]
    by_name = {case.split("\n")[0]: case for case in cases}
    for name, _ in alerts:
        fires, quiet = by_name.get(f"{name} fires", ""), by_name.get(f"{name} is quiet", "")
        check(f"alertname: {name}" in fires and "exp_labels" in fires and "exp_alerts: []" in fires,
              f"no unit test lets {name} fire, and not before its time")
        check(f"alertname: {name}" in quiet and "exp_alerts: []" in quiet and "exp_labels" not in quiet,
              f"no unit test has {name} quiet")
    page = rows_of_the_page()
    check(set(page) == {name for name, _ in alerts}, f"page and rules differ in {set(page) ^ {n for n, _ in alerts}}")
    for name, expr in alerts:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", page[name])[1:-1]]
        check(len(cells) == 3 and all(cells), f"{name}: a cell is empty")
        check(f"`{expr}`" in cells[0].replace("\\|", "|"), f"{name}: the page has another expression than {expr}")

    # They tell a rule that is wrong.
    wrong = {}
    for old, new in (("> 64e6", "> 200e6"), ("== 0", "== 5"), ("for: 5m", "for: 9m")):
        place = os.path.join(t.dir, str(len(wrong)))
        os.mkdir(place)
        check(old in read("corallite-alerts.yml"), f"no rule says {old}")
        for name, text in (("corallite-alerts.yml", read("corallite-alerts.yml").replace(old, new)),
                           ("corallite-alerts-test.yml", read("corallite-alerts-test.yml"))):
            with open(os.path.join(place, name), "w") as f:
                f.write(text)
        wrong[new] = popen(["promtool", "test", "rules", "corallite-alerts-test.yml"], cwd=place, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    for new, process in wrong.items():
        check(process.wait(30) == 1, f"the unit tests do not notice {new}")


METRIC = re.compile(r"\b((?:corallite|process)_[a-z0-9_]+)\b")


def base(name, known):
    for end in ("_bucket", "_sum", "_count"):
        if name not in known and name.endswith(end):
            return name[:-len(end)]
    return name


@test("every metric and label of the dashboard and the alerts is one that a running cluster prints; every metric of "
      "docs/monitoring.md is on the dashboard or named there as left off; Prometheus understands every expression", 60)
def dashboard_metrics(t):
    t.needs("promtool")
    made = subprocess.run(["/usr/bin/python3", os.path.join(FILES, "dashboard.py")], capture_output=True, text=True, timeout=20)
    check(made.stdout == read("corallite-dashboard.json"), "corallite-dashboard.json is not what dashboard.py prints")
    board = json.loads(made.stdout, object_pairs_hook=unique)
    panels = [p for p in board["panels"] if p["type"] != "row"]
    check(len({p["id"] for p in board["panels"]}) == len(board["panels"]), "two panels have one id")
    check(len({p["title"] for p in panels}) == len(panels), "two panels have one title")
    expressions = [(p["title"], target["expr"]) for p in panels for target in p["targets"]]
    check(len(expressions) >= 50 and all("$" not in e.replace("$__rate_interval", "") for _, e in expressions),
          "an expression is of another kind")

    # Prometheus parses each, as a rule.
    path = os.path.join(t.dir, "expressions.yml")
    with open(path, "w") as f:
        f.write("groups:\n- name: g\n  rules:\n" + "".join(
            f"  - {{record: 'x:{n}', expr: {json.dumps(e.replace('$__rate_interval', '5m'))}}}\n"
            for n, (_, e) in enumerate(expressions)))
    done = run(["promtool", "check", "rules", path], "", 30)
    check(done.returncode == 0, f"promtool: {done.stdout}{done.stderr}")

    with t.cluster() as c:
        c.shell("CREATE TABLE t(a); INSERT INTO t VALUES(1);")
        until(lambda: "timeline_lag_bytes{" in scrape(c, PAGESERVER), 10, "lag by branch")
        there = {}
        for node in (PAGESERVER, 1):
            for name, (kind, labels) in printed(scrape(c, node)).items():
                there.setdefault(name, set()).update(labels)
    used = set()
    for where, expr in [*expressions, *rules()]:
        for found in re.finditer(METRIC.pattern + r"(?:\{([^}]*)\})?", expr):
            name = base(found[1], there)
            check(name in there, f"{where}: there is no metric {found[1]}")
            labels = set(re.findall(r"(\w+)[=!]", found[2] or "")) - {"job", "instance"}
            check(labels <= there[name], f"{where}: {name} has no label {labels - there[name]}")
        for group in re.findall(r"by \(([^)]*)\)", expr):
            all_labels = set().union(*(there[base(n, there)] for n in METRIC.findall(expr))) | {"instance", "le"}
            check(set(group.split(", ")) <= all_labels, f"{where}: no such label: {group}")
    for _, expr in expressions:
        used |= {base(name, there) for name in METRIC.findall(expr)}
    listed = set()
    for part in ("Of both daemons", "Of the pageserver", "Of a safekeeper"):
        listed |= set(documented(part))
    with open(os.path.join(ROOT, "docs", "monitoring.md")) as f:
        left = set(re.findall(r"^- `(\w+)`: ", f.read().split("\n### Not on the dashboard\n")[1].split("\n##")[0], re.M))
    check(listed - used == left, f"neither on the dashboard nor named as left off, or both: {(listed - used) ^ left}")
    t.note(f"{len(panels)} panels, {len(expressions)} expressions, {len(used & listed)} of {len(listed)} metrics of the page; {len(rules())} alerts")
