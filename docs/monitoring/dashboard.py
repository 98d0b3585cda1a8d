#!/usr/bin/python3
"""Writes corallite-dashboard.json, the dashboard for Grafana (9 or later), from the table below.

    python3 docs/monitoring/dashboard.py > docs/monitoring/corallite-dashboard.json

A panel is a line: its title, its unit as Grafana calls it, and the expressions with their legends. `test_monitoring.py`
looks that the file is what this prints, that every metric in it exists, and that every metric of docs/monitoring.md is in
it or named there as left off.
"""

import json

RATE = "[$__rate_interval]"


def rate(metric, by="instance", labels=""):
    return f"sum by ({by}) (rate({metric}{labels}{RATE}))", "{{" + "}} {{".join(by.split(", ")) + "}}"


def each(metric, legend="{{instance}}", labels=""):
    return f"{metric}{labels}", legend


def quantiles(histogram):
    return [(f"histogram_quantile({q}, sum by (le, instance) (rate({histogram}_bucket{RATE})))", f"{{{{instance}}}} {name}")
            for q, name in ((0.5, "median"), (0.99, "p99"))] + [
        (f"sum by (instance) (rate({histogram}_sum{RATE})) / sum by (instance) (rate({histogram}_count{RATE}))",
         "{{instance}} mean")]


JOBS = '{job=~"corallite-.*"}'
PS, SK = "corallite_pageserver_", "corallite_safekeeper_"

# (row, [(title, unit, [(expression, legend)])])
ROWS = [
    ("Is it well?", [
        ("Daemons that answer", "none", [each("up", "{{instance}}", JOBS)]),
        ("Safekeepers that the pageserver has", "none", [
            each(PS + "safekeepers_connected", "all"), each(PS + "safekeeper_connected", "safekeeper {{node}}"),
            each(PS + "ready", "ready"), each(PS + "store_open", "store open")]),
        ("Followers, and how long their owner is silent", "s", [
            each(PS + "follows", "{{instance}} follows"), each(PS + "owner_silent_seconds", "{{instance}} has heard nothing for")]),
        ("Halted timelines", "none", [each(SK + "halted_timelines"), each(PS + "halted_timelines_total")]),
        ("Kept branches whose end is not settled", "none", [
            each(PS + "sealed_open"), each(PS + "sealed_ends_total", "{{instance}} found out")]),
        ("Disks gone back in time", "none", [each(SK + "regressed")]),
        ("Errors answered", "ops", [rate("corallite_request_errors_total", "instance, class")]),
        ("Log that is not ingested yet", "bytes", [
            each(PS + "last_record_lag_bytes", "furthest behind"), each(PS + "ingest_pending_bytes", "in memory"),
            ("topk(5, " + PS + "timeline_lag_bytes)", "{{database}}/{{branch}}")]),
        ("Damage and lag met by reads", "ops", [
            (f"rate({PS}corrupt_pages_total{RATE})", "corrupt pages"), (f"rate({PS}lag_errors_total{RATE})", "deadline passed")]),
    ]),
    ("Commits: the safekeepers", [
        ("Records appended", "ops", [rate(SK + "records_total")]),
        ("Log appended", "Bps", [rate(SK + "log_bytes_total")]),
        ("How long a sync takes", "s", quantiles(SK + "sync_duration_seconds") + [each(SK + "sync_max_seconds", "{{instance}} longest")]),
        ("Appends a sync", "none", [(f"sum by (instance) (rate({SK}appends_total{RATE})) / sum by (instance) (rate({SK}syncs_total{RATE}))",
                                     "{{instance}}")]),
        ("Syncs, and rounds of the loop thread", "ops", [
            (f"rate({SK}syncs_total{RATE})", "{{instance}} syncs"), (f"rate({SK}direct_rounds_total{RATE})", "{{instance}} direct")]),
        ("Votes and control writes", "ops", [
            (f"rate({SK}votes_total{RATE})", "{{instance}} votes"), (f"rate({SK}control_writes_total{RATE})", "{{instance}} control"),
            (f"rate({SK}acks_total{RATE})", "{{instance}} acks")]),
        ("Sent to pageservers", "Bps", [rate(SK + "streamed_bytes_total")]),
        ("Reads of segments for streams", "ops", [rate(SK + "stream_reads_total")]),
        ("Timelines", "none", [each(SK + "timelines", "{{instance}} known"), each(SK + "open_timelines", "{{instance}} open")]),
        ("Free on the disk", "bytes", [each(SK + "disk_free_bytes")]),
        ("Log on the disk", "bytes", [each(SK + "log_stored_bytes")]),
        ("Log kept, and not archived", "bytes", [each(SK + "kept_log_bytes", "{{instance}} kept"),
                                                 each(SK + "unarchived_log_bytes", "{{instance}} not archived")]),
        ("Segments dropped", "ops", [rate(SK + "segments_dropped_total")]),
        ("Disk full, appends refused", "none", [
            each(SK + "disk_full", "{{instance}} full"), (f"rate({SK}refused_appends_total{RATE})", "{{instance}} refused a second")]),
    ]),
    ("Reads: the pageserver", [
        ("Pages", "ops", [(f"rate({PS}page_requests_total{RATE})", "requests"), (f"rate({PS}pages_served_total{RATE})", "pages"),
                          (f"rate({PS}handed_over_total{RATE})", "handed to the main loop")]),
        ("Reads that wait for the log", "ops", [(f"rate({PS}waits_total{RATE})", "waited"), each(PS + "waiting_requests", "wait now")]),
        ("How long they wait", "s", quantiles(PS + "wait_duration_seconds")),
        ("Records and batches ingested", "ops", [
            (f"rate({PS}ingest_records_total{RATE})", "records"), (f"rate({PS}ingest_batches_total{RATE})", "batches")]),
        ("Log ingested", "Bps", [(f"rate({PS}ingest_bytes_total{RATE})", "log")]),
        ("How long a write to the store takes", "s", quantiles(PS + "store_write_duration_seconds")),
        ("Page store", "bytes", [each(PS + "lmdb_used_bytes", "used"), each(PS + "lmdb_map_bytes", "map"),
                                 each(PS + "disk_free_bytes", "free on the disk")]),
        ("Garbage", "ops", [(f"rate({PS}gc_runs_total{RATE})", "runs"), (f"rate({PS}gc_versions_total{RATE})", "versions")]),
        ("Garbage freed", "Bps", [(f"rate({PS}gc_bytes_total{RATE})", "freed")]),
        ("Branches, pins, sessions", "none", [each(PS + "timelines", "branches"), each(PS + "pins", "pins"), each(PS + "sessions", "sessions"),
                                               each(PS + "loops", "loops that read pages")]),
        ("How long requests of /v1 take", "s", quantiles("corallite_http_request_duration_seconds")),
    ]),
    ("The archive", [
        ("Not in the archive yet", "bytes", [each(PS + "archive_lag_bytes", "committed, and not there")]),
        ("Behind for", "s", [each(PS + "archive_behind_seconds", "since all was there")]),
        ("Put there", "Bps", [(f"rate({PS}archive_bytes_total{RATE})", "log")]),
        ("Objects, and rounds that failed", "ops", [
            (f"rate({PS}archive_objects_total{RATE})", "objects"), (f"rate({PS}archive_failures_total{RATE})", "failed"),
            each(PS + "archive_ok", "the newest round went well")]),
        ("To replay behind the snapshots", "bytes", [each(PS + "archive_replay_bytes", "log")]),
        ("Snapshots", "Bps", [(f"rate({PS}archive_snapshot_bytes_total{RATE})", "put there"),
                              (f"rate({PS}archive_snapshots_total{RATE})", "a second"),
                              (f"rate({PS}archive_loads_total{RATE})", "read back, a second")]),
    ]),
    ("Connections and processes", [
        ("Requests", "ops", [rate("corallite_requests_total", "instance, type")]),
        ("Connections", "none", [each("corallite_connections", "{{instance}}"), each(SK + "connections", "{{instance}} after Hello"),
                                 each("corallite_http_connections", "{{instance}} HTTP")]),
        ("Connections refused or cut", "ops", [rate("corallite_connections_refused_total", "instance, reason"),
                                               (f"rate(corallite_http_late_connections_total{RATE})", "{{instance}} HTTP, late")]),
        ("Received and sent", "Bps", [(f"rate(corallite_received_bytes_total{RATE})", "{{instance}} in"),
                                      (f"rate(corallite_sent_bytes_total{RATE})", "{{instance}} out")]),
        ("HTTP requests", "ops", [rate("corallite_http_requests_total", "instance, code")]),
        ("Processor", "percentunit", [rate("process_cpu_seconds_total", "instance", JOBS)]),
        ("Memory", "bytes", [each("process_resident_memory_bytes", "{{instance}}", JOBS)]),
        ("Descriptors", "percentunit", [(f"process_open_fds{JOBS} / process_max_fds{JOBS}", "{{instance}}")]),
        ("Running for", "s", [(f"time() - process_start_time_seconds{JOBS}", "{{instance}}")]),
        ("Version", "none", [("sum by (version) (corallite_build_info)", "{{version}}")]),
    ]),
]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panels():
    number, y = 0, 0
    for title, members in ROWS:
        number += 1
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "panels": [],
               "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}}
        y += 1
        for i, (name, unit, targets) in enumerate(members):
            number += 1
            yield {"id": number, "type": "timeseries", "title": name, "datasource": SOURCE,
                   "gridPos": {"h": 8, "w": 8, "x": i % 3 * 8, "y": y + i // 3 * 8},
                   "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                   "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
                   "targets": [{"refId": chr(ord("A") + k), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
                               for k, (expr, legend) in enumerate(targets)]}
        y += (len(members) + 2) // 3 * 8


print(json.dumps({
    "uid": "corallite", "title": "Corallite", "tags": ["corallite"], "schemaVersion": 37, "editable": True,
    "refresh": "30s", "time": {"from": "now-3h", "to": "now"},
    "templating": {"list": [{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]},
    "panels": list(panels())}, indent=1))
