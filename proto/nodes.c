/* nodes.c - see nodes.h. */
#include "proto/nodes.h"

#include <stdio.h>
#include <string.h>

#include "common/assert.h"
#include "proto/qhist.h"

const struct node_address *nodes_find(const struct nodes *nodes, uint32_t node)
{
    for (uint32_t i = 0; i < nodes->n; i++)
        if (nodes->at[i].node == node)
            return &nodes->at[i];
    return NULL;
}

static int read_address(const Corallite__Safekeeper *wire, struct nodes *out)
{
    struct node_address *a = &out->at[out->n];
    if (!wire->host || !*wire->host || strlen(wire->host) > CO_HOST_MAX_BYTES || wire->port == 0 ||
        wire->port > UINT16_MAX || wire->node == 0)
        return co_fail(CO_ERR_PROTOCOL, "a safekeeper came without a node id, a host or a port");
    if (nodes_find(out, wire->node))
        return co_fail(CO_ERR_PROTOCOL, "safekeeper %u came with two addresses", wire->node);
    a->node = wire->node;
    a->port = (uint16_t)wire->port;
    snprintf(a->host, sizeof a->host, "%s", wire->host);
    out->n++;
    return 0;
}

static int check_addresses(const struct nodes *nodes)
{
    const struct wal_config *c = &nodes->config;
    for (uint32_t i = 0; i < c->n + c->n_new; i++) {
        uint32_t id = i < c->n ? c->members[i].node_id : c->new_members[i - c->n].node_id;
        if (!nodes_find(nodes, id))
            return co_fail(CO_ERR_PROTOCOL, "safekeeper %u came without its address", id);
    }
    return 0;
}

int nodes_read(const Corallite__Nodes *message, struct nodes *out)
{
    *out = (struct nodes){0};
    int rc = msg_config_read(message->config, &out->config);
    if (!rc && message->n_addresses > NODES_MAX)
        rc = co_fail(CO_ERR_PROTOCOL, "%zu addresses of safekeepers came; the limit is %u",
                     message->n_addresses, NODES_MAX);
    for (size_t i = 0; !rc && i < message->n_addresses; i++)
        rc = read_address(message->addresses[i], out);
    return rc ? rc : check_addresses(out);
}

void nodes_fill(const struct nodes *nodes, struct nodes_message *out)
{
    corallite__nodes__init(&out->pb);
    if (nodes->config.version == 0)
        return;
    msg_config_fill(&nodes->config, &out->config);
    out->pb.config = &out->config.pb;
    for (uint32_t i = 0; i < nodes->n; i++) {
        corallite__safekeeper__init(&out->at[i]);
        out->at[i].has_node = out->at[i].has_port = 1;
        out->at[i].node = nodes->at[i].node;
        out->at[i].host = (char *)(uintptr_t)nodes->at[i].host; /* never written through */
        out->at[i].port = nodes->at[i].port;
        out->list[i] = &out->at[i];
    }
    out->pb.n_addresses = nodes->n;
    out->pb.addresses = out->list;
}
