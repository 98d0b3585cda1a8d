/* metrics.c - what the pageserver counts. */
#include "pageserver/metrics.h"

#define P "corallite_pageserver_"
#define C(var, metric, text)                                                                       \
    struct co_metric var = {.name = P metric, .help = text, .kind = CO_COUNTER}
#define G(var, metric, text)                                                                       \
    struct co_metric var = {.name = P metric, .help = text, .kind = CO_GAUGE}

C(ps_m_pages, "pages_served_total", "Pages sent to computes.");
C(ps_m_page_requests, "page_requests_total", "GET_PAGES requests.");
C(ps_m_waits, "waits_total", "Requests that had to wait for the log.");
C(ps_m_lag_errors, "lag_errors_total", "Requests whose deadline passed before the log came.");
C(ps_m_corrupt_pages, "corrupt_pages_total", "Pages that were asked for and are damaged.");
C(ps_m_records, "ingest_records_total", "WAL records ingested.");
C(ps_m_batches, "ingest_batches_total", "Batches of records ingested.");
C(ps_m_ingest_bytes, "ingest_bytes_total", "Bytes of WAL ingested.");
C(ps_m_halted, "halted_timelines_total", "Timelines halted because their log contradicts itself.");
C(ps_m_bytes_in, "received_bytes_total", "Bytes received from computes and tools.");
C(ps_m_bytes_out, "sent_bytes_total", "Bytes sent to computes and tools.");
G(ps_m_timelines, "timelines", "Timelines that can be opened.");
G(ps_m_lag_bytes, "last_record_lag_bytes",
  "Committed bytes known but not ingested, worst timeline.");
G(ps_m_safekeepers, "safekeepers_connected", "Safekeepers connected.");
G(ps_m_sessions, "sessions", "Connections of computes and tools.");
G(ps_m_map_used, "lmdb_used_bytes", "Bytes of the LMDB map in use, free pages in it included.");
G(ps_m_map_size, "lmdb_map_bytes", "Size of the LMDB map.");
G(ps_m_store_ok, "store_open", "1 while the page store is open.");

void ps_metrics_register(void)
{
    struct co_metric *all[] = {&ps_m_pages,      &ps_m_page_requests, &ps_m_waits,
                               &ps_m_lag_errors, &ps_m_corrupt_pages, &ps_m_records,
                               &ps_m_batches,    &ps_m_ingest_bytes,  &ps_m_halted,
                               &ps_m_bytes_in,   &ps_m_bytes_out,     &ps_m_timelines,
                               &ps_m_lag_bytes,  &ps_m_safekeepers,   &ps_m_sessions,
                               &ps_m_map_used,   &ps_m_map_size,      &ps_m_store_ok};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        co_metric_register(all[i]);
}
