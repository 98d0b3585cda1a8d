/*
 * nodes.h - the safekeepers of a cluster: which of them vote on the catalog, and where each is
 * reached. Every safekeeper keeps a copy; the higher version wins. A cluster whose members were
 * never changed has none, and the pageserver's --safekeepers is all there is.
 *
 * While a safekeeper is being replaced `config` is joint: a change of the catalog (TIMELINE_PUT)
 * then needs a majority of both groups. A node id stands for one disk for ever and is never used
 * again. Pure.
 */
#ifndef CORALLITE_PROTO_NODES_H
#define CORALLITE_PROTO_NODES_H

#include "proto/corallite.pb-c.h"
#include "proto/limits.h"
#include "proto/message.h"

#define NODES_MAX              (2u * CO_MEMBERS_MAX)
#define NODES_PACKED_MAX_BYTES (8 * CO_KIB)

struct node_address {
    uint32_t node;
    char host[CO_HOST_MAX_BYTES + 1];
    uint16_t port;
};

struct nodes {
    struct wal_config config; /* version 0: none */
    uint32_t n;
    struct node_address at[NODES_MAX];
};

/* The message; absent configuration: *out is empty. CO_ERR_PROTOCOL: a bad configuration, a member
 * without an address, an address that is none, one for two nodes. */
CO_MUST_CHECK int nodes_read(const Corallite__Nodes *message, struct nodes *out);

/* The message over memory of its own; it borrows from `nodes`, and must not be moved. */
struct nodes_message {
    Corallite__Nodes pb;
    struct msg_config config;
    Corallite__Safekeeper at[NODES_MAX], *list[NODES_MAX];
};
void nodes_fill(const struct nodes *nodes, struct nodes_message *out);

/* NULL: it is not among them. */
const struct node_address *nodes_find(const struct nodes *nodes, uint32_t node);

#endif
