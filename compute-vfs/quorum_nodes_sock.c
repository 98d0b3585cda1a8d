/*
 * quorum_nodes_sock.c - links follow the members. The pageserver names the safekeepers when the
 * database is opened; when the log names another one later, because one was replaced, any
 * safekeeper that is connected is asked where that is (NODES). So a program goes on through a
 * replacement without the pageserver, and without being started again.
 */
#include <stdio.h>
#include <string.h>

#include "common/clock_file.h"
#include "compute-vfs/quorum_int.h"
#include "proto/nodes.h"
#include "proto/unpack.h"

#define CV_NODES_ASK_US 250000u

static struct cv_link *link_to(struct cv_quorum *q, uint32_t node)
{
    for (uint32_t i = 0; i < q->n_links; i++) {
        if (q->link[i].sk.node == node)
            return &q->link[i];
    }
    return NULL;
}

static bool lacks(struct cv_quorum *q, const struct wal_member *members, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (link_to(q, members[i].node_id) == NULL)
            return true;
    }
    return false;
}

uint64_t cv_nodes_tick(struct cv_quorum *q, uint64_t now_us)
{
    const struct wal_config *c = &q->view.config;
    Corallite__Nodes ask = CORALLITE__NODES__INIT;

    if (!lacks(q, c->members, c->n) && !lacks(q, c->new_members, c->n_new))
        return UINT64_MAX;
    if (now_us < q->nodes_asked_us + CV_NODES_ASK_US)
        return q->nodes_asked_us + CV_NODES_ASK_US;
    q->nodes_asked_us = now_us;
    for (uint32_t i = 0; i < q->n_links; i++) {
        struct cv_link *l = &q->link[i];
        if (l->state == CV_LINK_UP && !l->broken &&
            cv_link_queue(q, l, FRAME_NODES, &ask.base) != 0)
            l->broken = true;
    }
    return now_us + CV_NODES_ASK_US;
}

/* A free place, or that of one that is no member any more. */
static struct cv_link *place(struct cv_quorum *q)
{
    if (q->n_links < CO_MEMBERS_MAX)
        return &q->link[q->n_links++];
    for (uint32_t i = 0; i < q->n_links; i++) {
        struct cv_link *l = &q->link[i];
        if (l->state == CV_LINK_IDLE && !q_is_member(&q->view.config, l->sk.node))
            return l;
    }
    return NULL;
}

static void add(struct cv_quorum *q, const struct node_address *a)
{
    struct cv_safekeeper sk = {.node = a->node, .port = a->port};
    struct cv_link *l = place(q);

    if (l == NULL)
        return;
    snprintf(sk.host, sizeof sk.host, "%s", a->host);
    uint64_t generation = l->generation;
    cv_link_init(l, &sk, &q->view.config);
    l->generation = generation + 1;
    pthread_cond_broadcast(&q->changed);
}

int cv_nodes_told(struct cv_quorum *q, struct co_span message)
{
    struct nodes nodes;
    Corallite__Nodes *m = message_unpack(&corallite__nodes__descriptor, message);

    if (m == NULL)
        return CO_ERR_PROTOCOL;
    int rc = nodes_read(m, &nodes);
    corallite__nodes__free_unpacked(m, NULL);
    for (uint32_t i = 0; rc == 0 && i < nodes.n; i++) {
        if (q_is_member(&q->view.config, nodes.at[i].node) && link_to(q, nodes.at[i].node) == NULL)
            add(q, &nodes.at[i]);
    }
    return rc;
}
