/* peer_metrics.h - what a daemon's port is asked, counted: requests by type, errors by class,
 * bytes. Only of connections that others made to it. Pure; any thread counts, one registers. */
#ifndef CORALLITE_PROTO_PEER_METRICS_H
#define CORALLITE_PROTO_PEER_METRICS_H

#include "common/bytes.h"

#define PEER_METRICS_TYPES 24u

/* Once, at start: the types that this daemon takes; all others count as "other". */
void peer_metrics_register(const unsigned *types, unsigned n);

/* Connections that others made, and that were not taken or were cut, by reason. */
enum peer_refusal {
    PEER_REFUSED_FULL,     /* CO_CONNECTIONS_MAX, or only the reserved places were left */
    PEER_REFUSED_ADDRESS,  /* CO_CONNECTIONS_PER_ADDRESS_MAX */
    PEER_REFUSED_NO_HELLO, /* none came in time */
    PEER_REFUSED_FRAME,    /* bytes that are no frame, or a damaged one */
    PEER_REFUSED_SLOW,     /* a frame did not go on, or too slowly */
    PEER_REFUSED_READER,   /* answers were not taken, or too slowly */
    PEER_REFUSALS
};
void peer_count_refused(enum peer_refusal reason);
void peer_count_connections(int64_t more); /* open ones */

void peer_count_request(unsigned type);
void peer_count_error(int code);
void peer_count_received(uint64_t bytes);
void peer_count_sent(uint64_t bytes);

#endif
