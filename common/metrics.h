/*
 * metrics.h - counters, gauges and histograms, rendered as Prometheus text.
 *
 * A module defines its metrics as static objects and registers them once at start. Updating is a
 * relaxed atomic; any thread. Names follow Prometheus: the base unit at the end (_bytes, _seconds),
 * counters end in _total. docs/monitoring.md lists each (a test compares).
 */
#ifndef CORALLITE_COMMON_METRICS_H
#define CORALLITE_COMMON_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"

enum co_metric_kind { CO_COUNTER, CO_GAUGE, CO_HISTOGRAM, CO_SERIES };

struct co_metric {
    const char *name; /* "corallite_safekeeper_syncs_total" */
    const char *help;
    enum co_metric_kind kind;
    const char *labels; /* "code=\"2xx\""; NULL: none. Metrics of one name are one family: same help
                           and kind, each other labels */
    bool micros;        /* the value is in us and told in seconds */
    _Atomic uint64_t value;
    struct co_metric *next; /* of the registry */
};

void co_metric_register(struct co_metric *metric); /* static storage; once */

static inline void co_metric_add(struct co_metric *m, uint64_t n)
{
    atomic_fetch_add_explicit(&m->value, n, memory_order_relaxed);
}
static inline void co_metric_sub(struct co_metric *m, uint64_t n)
{
    atomic_fetch_sub_explicit(&m->value, n, memory_order_relaxed);
}
static inline void co_metric_set(struct co_metric *m, uint64_t v)
{
    atomic_store_explicit(&m->value, v, memory_order_relaxed);
}
static inline uint64_t co_metric_get(struct co_metric *m)
{
    return atomic_load_explicit(&m->value, memory_order_relaxed);
}

/* How long something took. The buckets are the same for all: 100 us to 100 s, three a decade. */
#define CO_BUCKETS 19u
struct co_histogram {
    struct co_metric metric; /* name (ends in _seconds), help; kind CO_HISTOGRAM */
    _Atomic uint64_t bucket[CO_BUCKETS + 1], sum_us;
};
#define CO_HISTOGRAM_OF(n, h)                                                                      \
    {                                                                                              \
        .metric = {.name = (n), .help = (h), .kind = CO_HISTOGRAM }                                \
    }
void co_histogram_add(struct co_histogram *histogram, uint64_t us);

/* A family whose labels are known at run time only, and bounded by whoever sets them: all its
 * samples at once, as text. */
struct co_series {
    struct co_metric metric; /* name, help; kind CO_SERIES */
    struct co_buf text;
};
#define CO_SERIES_OF(n, h)                                                                         \
    {                                                                                              \
        .metric = {.name = (n), .help = (h), .kind = CO_SERIES }                                   \
    }
/* Takes `text`: lines that co_series_line wrote. Gauges. */
void co_series_set(struct co_series *series, struct co_buf *text);
/* Appends one sample. The label values are escaped. CO_ERR_NOMEM leaves *text as it was. */
CO_MUST_CHECK int co_series_line(struct co_buf *text, const struct co_series *series,
                                 const char *const labels[][2], unsigned n, uint64_t value);

/* Called before each rendering, on the thread that renders; for values that are looked up. */
void co_metrics_before(void (*fn)(void));

/* Appends all registered metrics in the text exposition format 0.0.4. */
CO_MUST_CHECK int co_metrics_render(struct co_buf *out);

#endif
