#include "proto/peer_metrics.h"

#include <stdio.h>

#include "common/assert.h"
#include "common/metrics.h"
#include "proto/frame.h"

#define CLASS(of)                                                                                  \
    {                                                                                              \
        .name = "corallite_request_errors_total",                                                  \
        .help = "Requests answered with an error, by class of the error.", .kind = CO_COUNTER,     \
        .labels = "class=\"" of "\""                                                               \
    }
static struct co_metric m_errors[] = {
    [CO_CLASS_RETRY] = CLASS("retry"), [CO_CLASS_PEER] = CLASS("peer"),
    [CO_CLASS_INPUT] = CLASS("input"), [CO_CLASS_STORAGE] = CLASS("storage"),
    [CO_CLASS_BUG] = CLASS("bug"),
};
#define REFUSED(of)                                                                                \
    {                                                                                              \
        .name = "corallite_connections_refused_total",                                             \
        .help = "Connections that others made and that were not taken, or cut, by reason.",        \
        .kind = CO_COUNTER, .labels = "reason=\"" of "\""                                          \
    }
static struct co_metric m_refused[PEER_REFUSALS] = {
    [PEER_REFUSED_FULL] = REFUSED("full"),         [PEER_REFUSED_ADDRESS] = REFUSED("address"),
    [PEER_REFUSED_NO_HELLO] = REFUSED("no_hello"), [PEER_REFUSED_FRAME] = REFUSED("bad_frame"),
    [PEER_REFUSED_SLOW] = REFUSED("slow_sender"),  [PEER_REFUSED_READER] = REFUSED("slow_reader"),
};
static struct co_metric m_connections = {
    .name = "corallite_connections",
    .help = "Open connections that others made, greeted or not.",
    .kind = CO_GAUGE,
};
static struct co_metric m_received = {.name = "corallite_received_bytes_total",
                                      .help = "Bytes received on connections that others made.",
                                      .kind = CO_COUNTER};
static struct co_metric m_sent = {.name = "corallite_sent_bytes_total",
                                  .help = "Bytes sent on connections that others made.",
                                  .kind = CO_COUNTER};

/* The last one is "other". */
static struct {
    unsigned type;
    char label[48];
    struct co_metric metric;
} requests[PEER_METRICS_TYPES + 1];
static unsigned n_requests;

static void add_type(unsigned type, const char *name)
{
    struct co_metric *m = &requests[n_requests].metric;
    requests[n_requests].type = type;
    snprintf(requests[n_requests].label, sizeof requests->label, "type=\"%s\"", name);
    m->name = "corallite_requests_total";
    m->help = "Requests received, by type of the frame (docs/PROTOCOL.md).";
    m->kind = CO_COUNTER;
    m->labels = requests[n_requests].label;
    co_metric_register(m);
    n_requests++;
}

void peer_metrics_register(const unsigned *types, unsigned n)
{
    co_assert(n <= PEER_METRICS_TYPES && n_requests == 0);
    for (unsigned i = 0; i < n; i++)
        add_type(types[i], frame_type_name(types[i]));
    add_type(0, "other");
    for (int c = CO_CLASS_RETRY; c <= CO_CLASS_BUG; c++)
        co_metric_register(&m_errors[c]);
    for (unsigned i = 0; i < PEER_REFUSALS; i++)
        co_metric_register(&m_refused[i]);
    co_metric_register(&m_connections);
    co_metric_register(&m_received);
    co_metric_register(&m_sent);
}

void peer_count_refused(enum peer_refusal reason)
{
    co_metric_add(&m_refused[reason], 1);
}

void peer_count_connections(int64_t more)
{
    co_metric_add(&m_connections, (uint64_t)more);
}

void peer_count_request(unsigned type)
{
    unsigned i = 0;
    while (i + 1 < n_requests && requests[i].type != type)
        i++;
    if (n_requests)
        co_metric_add(&requests[i].metric, 1);
}

void peer_count_error(int code)
{
    co_metric_add(&m_errors[co_error_class(code)], 1);
}

void peer_count_received(uint64_t bytes)
{
    co_metric_add(&m_received, bytes);
}

void peer_count_sent(uint64_t bytes)
{
    co_metric_add(&m_sent, bytes);
}
