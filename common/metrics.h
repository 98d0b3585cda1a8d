/*
 * metrics.h - counters and gauges, rendered as Prometheus text.
 *
 * A module defines its metrics as static objects and registers them once at start. Updating is a
 * relaxed atomic; any thread. Names end in the unit (_bytes, _total, _seconds).
 */
#ifndef CORALLITE_COMMON_METRICS_H
#define CORALLITE_COMMON_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/bytes.h"

enum co_metric_kind { CO_COUNTER, CO_GAUGE };

struct co_metric {
    const char *name; /* "corallite_safekeeper_syncs_total" */
    const char *help;
    enum co_metric_kind kind;
    _Atomic uint64_t value;
    struct co_metric *next; /* of the registry */
};

void co_metric_register(struct co_metric *metric); /* static storage; once */

static inline void co_metric_add(struct co_metric *m, uint64_t n)
{
    atomic_fetch_add_explicit(&m->value, n, memory_order_relaxed);
}
static inline void co_metric_set(struct co_metric *m, uint64_t v)
{
    atomic_store_explicit(&m->value, v, memory_order_relaxed);
}
static inline uint64_t co_metric_get(struct co_metric *m)
{
    return atomic_load_explicit(&m->value, memory_order_relaxed);
}

/* Appends all registered metrics in the text exposition format 0.0.4. */
CO_MUST_CHECK int co_metrics_render(struct co_buf *out);

#endif
