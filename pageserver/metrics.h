/* metrics.h - what the pageserver counts; rendered by common/metrics.h. */
#ifndef CORALLITE_PAGESERVER_METRICS_H
#define CORALLITE_PAGESERVER_METRICS_H

#include "common/metrics.h"

extern struct co_metric ps_m_pages, ps_m_page_requests, ps_m_handed_over, ps_m_loops, ps_m_waits,
    ps_m_lag_errors, ps_m_corrupt_pages, ps_m_records, ps_m_batches, ps_m_ingest_bytes, ps_m_halted,
    ps_m_timelines, ps_m_feeding, ps_m_lag_bytes, ps_m_safekeepers, ps_m_sessions, ps_m_map_used,
    ps_m_map_size, ps_m_store_ok, ps_m_bytes_in, ps_m_bytes_out, ps_m_waiting, ps_m_ready,
    ps_m_pins, ps_m_follows, ps_m_owner_silent, ps_m_disk_free, ps_m_gc_runs, ps_m_gc_versions,
    ps_m_gc_bytes, ps_m_archive_bytes, ps_m_archive_puts, ps_m_archive_failures, ps_m_archive_lag,
    ps_m_archive_behind, ps_m_archive_ok, ps_m_archive_snapshots, ps_m_archive_snapshot_bytes,
    ps_m_archive_replay, ps_m_archive_loads, ps_m_sealed_open, ps_m_sealed_ends;
extern struct co_histogram ps_m_wait_time, ps_m_write_time;
extern struct co_series ps_m_node_up, ps_m_lags;
/* Once, at start. */
void ps_metrics_register(void);

#endif
