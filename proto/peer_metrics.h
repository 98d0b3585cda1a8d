/* peer_metrics.h - what a daemon's port is asked, counted: requests by type, errors by class,
 * bytes. Only of connections that others made to it. Pure; any thread counts, one registers. */
#ifndef CORALLITE_PROTO_PEER_METRICS_H
#define CORALLITE_PROTO_PEER_METRICS_H

#include "common/bytes.h"

#define PEER_METRICS_TYPES 24u

/* Once, at start: the types that this daemon takes; all others count as "other". */
void peer_metrics_register(const unsigned *types, unsigned n);

void peer_count_request(unsigned type);
void peer_count_error(int code);
void peer_count_received(uint64_t bytes);
void peer_count_sent(uint64_t bytes);

#endif
