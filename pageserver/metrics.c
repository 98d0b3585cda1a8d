/* metrics.c - what the pageserver counts. */
#include "pageserver/metrics.h"

#include "common/process_file.h"
#include "proto/frame.h"
#include "proto/peer_metrics.h"

#define P "corallite_pageserver_"
#define C(var, metric, text)                                                                       \
    struct co_metric var = {.name = P metric, .help = text, .kind = CO_COUNTER}
#define G(var, metric, text)                                                                       \
    struct co_metric var = {.name = P metric, .help = text, .kind = CO_GAUGE}

C(ps_m_pages, "pages_served_total", "Pages sent to computes.");
C(ps_m_page_requests, "page_requests_total", "GET_PAGES requests.");
C(ps_m_handed_over, "handed_over_total",
  "Requests that another loop gave to the main one (--loops).");
G(ps_m_loops, "loops", "Loops that read pages, each a thread; the main one is one of them.");
C(ps_m_waits, "waits_total", "Requests that had to wait for the log.");
C(ps_m_lag_errors, "lag_errors_total", "Requests whose deadline passed before the log came.");
C(ps_m_corrupt_pages, "corrupt_pages_total", "Pages that were asked for and are damaged.");
C(ps_m_records, "ingest_records_total", "WAL records ingested.");
C(ps_m_batches, "ingest_batches_total", "Batches of records ingested.");
C(ps_m_ingest_bytes, "ingest_bytes_total", "Bytes of WAL ingested.");
C(ps_m_halted, "halted_timelines_total", "Timelines halted because their log contradicts itself.");
G(ps_m_timelines, "timelines", "Timelines that can be opened.");
G(ps_m_feeding, "ingest_pending_bytes",
  "Committed log in memory that is not yet in the page store.");
G(ps_m_lag_bytes, "last_record_lag_bytes",
  "Committed bytes known but not ingested, worst timeline.");
G(ps_m_safekeepers, "safekeepers_connected", "Safekeepers connected.");
G(ps_m_sessions, "sessions", "Connections of computes and tools.");
G(ps_m_map_used, "lmdb_used_bytes", "Bytes of the LMDB map in use, free pages in it included.");
G(ps_m_map_size, "lmdb_map_bytes", "Size of the LMDB map.");
G(ps_m_store_ok, "store_open", "1 while the page store is open.");

G(ps_m_waiting, "waiting_requests", "Requests that wait for the log now.");
G(ps_m_ready, "ready", "1 once a majority of the safekeepers has told what it holds.");
G(ps_m_follows, "follows", "1 while this pageserver follows another one, which owns the catalog.");
G(ps_m_owner_silent, "owner_silent_seconds",
  "Of a pageserver that follows: since the owner of the catalog answered last.");
G(ps_m_pins, "pins", "Named pins.");
G(ps_m_sealed_open, "sealed_open",
  "Branches put aside by a restore of which a safekeeper that is away may know a longer end.");
C(ps_m_sealed_ends, "sealed_ends_total",
  "Times that safekeepers were told of more commits of such a branch than they knew of.");
G(ps_m_disk_free, "disk_free_bytes", "Free bytes of the data directory's disk.");
C(ps_m_gc_runs, "gc_runs_total", "Garbage collections of a database.");
C(ps_m_gc_versions, "gc_versions_total", "Versions of pages that were collected.");
C(ps_m_gc_bytes, "gc_bytes_total", "Bytes of keys and values that these took.");
C(ps_m_archive_bytes, "archive_bytes_total", "Bytes of log put into the archive, merges included.");
C(ps_m_archive_puts, "archive_objects_total", "Objects of log put into the archive.");
C(ps_m_archive_failures, "archive_failures_total", "Rounds of the archiver that failed.");
G(ps_m_archive_lag, "archive_lag_bytes", "Committed bytes known but not in the archive.");
G(ps_m_archive_behind, "archive_behind_seconds",
  "Since when not everything is in the archive; 0: all is.");
G(ps_m_archive_ok, "archive_ok", "1 while there is an archive and its newest round did not fail.");
C(ps_m_archive_snapshots, "archive_snapshots_total",
  "Snapshots of timelines put into the archive.");
C(ps_m_archive_snapshot_bytes, "archive_snapshot_bytes_total", "Bytes of their objects.");
G(ps_m_archive_replay, "archive_replay_bytes",
  "Archived log that a lost pageserver would have to replay behind its snapshots.");
C(ps_m_archive_loads, "archive_loads_total", "Snapshots read back from the archive.");
struct co_histogram ps_m_wait_time = CO_HISTOGRAM_OF(
    P "wait_duration_seconds", "How long requests that had to wait for the log waited.");
struct co_histogram ps_m_write_time =
    CO_HISTOGRAM_OF(P "store_write_duration_seconds", "Writes to the page store, syncs included.");
struct co_series ps_m_node_up = CO_SERIES_OF(
    P "safekeeper_connected", "1 while the pageserver is connected to this safekeeper, else 0.");
struct co_series ps_m_lags =
    CO_SERIES_OF(P "timeline_lag_bytes",
                 "Committed bytes known but not ingested, of the 20 timelines furthest behind.");

/* Of connections that are gone; for SERVER_STATUS (the metrics count as they go). */
struct co_metric ps_m_bytes_in, ps_m_bytes_out;

static const unsigned types[] = {
    FRAME_OPEN,          FRAME_CREATE,        FRAME_DROP,          FRAME_DB_LIST,
    FRAME_GET_PAGES,     FRAME_CHANGES_SINCE, FRAME_RESOLVE,       FRAME_BRANCH_CREATE,
    FRAME_BRANCH_CHANGE, FRAME_BRANCH_LIST,   FRAME_RESTORE,       FRAME_LOG,
    FRAME_PIN,           FRAME_PIN_LIST,      FRAME_SERVER_STATUS, FRAME_GC,
    FRAME_FOLLOW,        FRAME_VERIFY,        FRAME_REPAIR};

void ps_metrics_register(void)
{
    struct co_metric *all[] = {&ps_m_pages,
                               &ps_m_page_requests,
                               &ps_m_handed_over,
                               &ps_m_loops,
                               &ps_m_waits,
                               &ps_m_lag_errors,
                               &ps_m_corrupt_pages,
                               &ps_m_records,
                               &ps_m_batches,
                               &ps_m_ingest_bytes,
                               &ps_m_halted,
                               &ps_m_timelines,
                               &ps_m_feeding,
                               &ps_m_lag_bytes,
                               &ps_m_lags.metric,
                               &ps_m_safekeepers,
                               &ps_m_node_up.metric,
                               &ps_m_sessions,
                               &ps_m_waiting,
                               &ps_m_wait_time.metric,
                               &ps_m_write_time.metric,
                               &ps_m_map_used,
                               &ps_m_map_size,
                               &ps_m_store_ok,
                               &ps_m_ready,
                               &ps_m_pins,
                               &ps_m_follows,
                               &ps_m_owner_silent,
                               &ps_m_gc_runs,
                               &ps_m_gc_versions,
                               &ps_m_gc_bytes,
                               &ps_m_archive_bytes,
                               &ps_m_archive_puts,
                               &ps_m_archive_failures,
                               &ps_m_archive_lag,
                               &ps_m_archive_behind,
                               &ps_m_archive_ok,
                               &ps_m_archive_snapshots,
                               &ps_m_archive_snapshot_bytes,
                               &ps_m_archive_replay,
                               &ps_m_archive_loads,
                               &ps_m_sealed_open,
                               &ps_m_sealed_ends,
                               &ps_m_disk_free};
    co_process_metrics();
    peer_metrics_register(types, sizeof types / sizeof *types);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        co_metric_register(all[i]);
}
