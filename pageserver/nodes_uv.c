/*
 * nodes_uv.c - which safekeepers there are. It begins with --safekeepers; each safekeeper that is
 * reached is asked, then and once a second, for its list (proto/nodes.h), and the newest version
 * wins. So a pageserver that is started with an old --safekeepers finds the members through any of
 * them that is one still, and one that runs follows a replacement within a second.
 *
 * A newer list waits for what is being made with the members before (R7 of registry.h), and what is
 * to be made waits for the list: so that ends, at the latest after ps_list_wait_ms: what cannot be
 * made, as where a disk is full, must not keep a safekeeper from being replaced. Then all are asked
 * once more what they hold: a creation that another life of this pageserver had sent to one of them
 * may have arrived since, and whoever replaces a safekeeper waits until it is made.
 *
 * A safekeeper has a slot (its index in s->nodes and in the registry's arrays) from when it is
 * named until it is named no more; then the slot is free for another.
 */
#include <stdio.h>
#include <string.h>

#include "common/assert.h"
#include "common/log.h"
#include "pageserver/server_uv.h"
#include "proto/nodes.h"
#include "proto/qhist.h"
#include "proto/unpack.h"

#define MODULE "pageserver/nodes"

static void set_slot(struct ps_server *s, uint32_t index, uint32_t id, const char *host,
                     uint16_t port)
{
    struct ps_node *node = &s->nodes[index];
    node->id = id;
    node->port = port;
    snprintf(node->host, sizeof node->host, "%s", host);
    node->failures = 0;
    ps_reg_slot(&s->reg, index, id);
}

static void init_slot(struct ps_server *s, uint32_t index)
{
    struct ps_node *node = &s->nodes[index];
    node->s = s;
    node->index = index;
    int rc = uv_timer_init(&s->loop, &node->timer);
    co_assert(rc == 0);
    node->timer.data = node;
}

void ps_nodes_start(struct ps_server *s)
{
    const struct ps_options *o = s->options;
    for (uint32_t i = 0; i < s->reg.n_nodes; i++) {
        init_slot(s, i);
        set_slot(s, i, o->nodes[i].id, o->nodes[i].host, o->nodes[i].port);
        s->reg.config.members[i].node_id = o->nodes[i].id; /* ascending, as the option is */
    }
    s->reg.config.version = 1;
    for (uint32_t i = 0; i < s->reg.n_nodes; i++)
        ps_node_connect(&s->nodes[i]);
}

void ps_nodes_ask(struct ps_node *node)
{
    Corallite__Nodes ask = CORALLITE__NODES__INIT;
    node->nodes_request = ++node->s->last_request;
    peer_send(node->peer, FRAME_NODES, node->nodes_request, &ask.base, co_span_of(NULL, 0));
}

static struct ps_node *slot_of(struct ps_server *s, uint32_t id)
{
    for (uint32_t i = 0; i < s->reg.n_nodes; i++)
        if (s->nodes[i].id == id)
            return &s->nodes[i];
    return NULL;
}

static void hang_up(struct ps_node *node, const char *why)
{
    uv_timer_stop(&node->timer);
    if (node->peer)
        peer_close(node->peer, why);
}

static void retire(struct ps_server *s, struct ps_node *node)
{
    co_info(MODULE, "safekeeper is no member any more node=%u addr=%s:%u", node->id, node->host,
            node->port);
    node->id = 0;
    ps_reg_slot(&s->reg, node->index, 0);
    hang_up(node, "it is no member of the cluster any more");
}

/* A slot whose connection is still being closed is not free yet: the next tick's answers come. */
static bool admit(struct ps_server *s, const struct node_address *a)
{
    uint32_t i = 0;
    while (i < s->reg.n_nodes && (s->nodes[i].id || s->nodes[i].peer))
        i++;
    if (i == CO_MEMBERS_MAX)
        return false;
    if (i == s->reg.n_nodes) {
        init_slot(s, i);
        s->reg.n_nodes++;
    }
    set_slot(s, i, a->node, a->host, a->port);
    co_info(MODULE, "safekeeper joins node=%u addr=%s:%u", a->node, a->host, a->port);
    ps_node_connect(&s->nodes[i]);
    return true;
}

uint32_t ps_list_wait_ms = 10000;

static bool waits_too_long(const struct ps_server *s)
{
    return s->list_waits_ms && uv_now(&s->loop) - s->list_waits_ms >= ps_list_wait_ms;
}

static void adopt(struct ps_server *s, const struct nodes *nodes)
{
    bool all = true;
    for (uint32_t i = 0; i < s->reg.n_nodes; i++)
        if (s->nodes[i].id && !q_is_member(&nodes->config, s->nodes[i].id))
            retire(s, &s->nodes[i]);
    for (uint32_t i = 0; i < nodes->n; i++) {
        const struct node_address *a = &nodes->at[i];
        struct ps_node *node = slot_of(s, a->node);
        if (!q_is_member(&nodes->config, a->node))
            continue;
        if (!node) {
            all = admit(s, a) && all;
        } else if (node->port != a->port || strcmp(node->host, a->host) != 0) {
            node->port = a->port;
            snprintf(node->host, sizeof node->host, "%s", a->host);
            if (node->peer)
                peer_close(node->peer, "it has another address now");
        }
    }
    if (!all)
        return; /* is looked at again with the next answer */
    ps_reg_members(&s->reg, &nodes->config);
    ps_nodes_refuse_others(s);
    s->list_waits_ms = 0;
    co_info(MODULE, "members version=%u n=%u joint=%s", nodes->config.version, nodes->config.n,
            nodes->config.n_new ? "yes" : "no");
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        ps_catalog_drive(s, tl);
    (void)ps_fresh_round(s);
    ps_health_update(s);
    ps_serve_asks(s);
}

int ps_nodes_told(struct ps_node *node, const struct frame_header *frame, struct co_span message)
{
    struct ps_server *s = node->s;
    struct nodes nodes;
    if (frame->request_id != node->nodes_request)
        return 0;
    Corallite__Nodes *m = message_unpack(&corallite__nodes__descriptor, message);
    if (!m)
        return CO_ERR_PROTOCOL;
    int rc = nodes_read(m, &nodes);
    corallite__nodes__free_unpacked(m, NULL);
    if (rc || nodes.config.version <= s->reg.config.version)
        return rc;
    if (!ps_reg_holds_up(&s->reg, &nodes.config) || waits_too_long(s))
        adopt(s, &nodes);
    else if (!s->list_waits_ms)
        s->list_waits_ms = uv_now(&s->loop);
    return 0;
}
