/*
 * quorum_nodes_sock.c - links follow the members. The pageserver names the safekeepers when the
 * database is opened; when the log names another one later, because one was replaced, any
 * safekeeper that is connected is asked where that is (NODES). So a program goes on through a
 * replacement without the pageserver, and without being started again.
 *
 * Who asked nothing meanwhile did not hear of the changes, and may find none of those it knows.
 * Then the owner has asked the pageserver anew, and what that names takes the places of whoever is
 * gone.
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

static struct cv_link *new_place(struct cv_quorum *q)
{
    if (q->n_links == CO_MEMBERS_MAX)
        return NULL;
    struct cv_link *l = &q->link[q->n_links++];
    l->s.fd = -1;
    return l;
}

static void put(struct cv_quorum *q, struct cv_link *l, const struct cv_safekeeper *sk)
{
    uint64_t generation = l->generation;

    cv_link_close(l);
    cv_link_init(l, sk, &q->view.config);
    l->generation = generation + 1;
    pthread_cond_broadcast(&q->changed);
}

static bool is_found(const struct cv_quorum *q, uint32_t node)
{
    for (uint32_t i = 0; i < q->n_found; i++) {
        if (q->found[i].node == node)
            return true;
    }
    return false;
}

/* The place of one that is not connected, and that the pageserver does not name; or a free one. */
static struct cv_link *place_of_gone(struct cv_quorum *q)
{
    for (uint32_t i = 0; i < q->n_links; i++) {
        if (q->link[i].state != CV_LINK_UP && !is_found(q, q->link[i].sk.node))
            return &q->link[i];
    }
    return new_place(q);
}

static void take_found(struct cv_quorum *q)
{
    for (uint32_t i = 0; i < q->n_found; i++) {
        const struct cv_safekeeper *sk = &q->found[i];
        struct cv_link *l = link_to(q, sk->node);

        if (l != NULL && (l->state == CV_LINK_UP ||
                          (l->sk.port == sk->port && strcmp(l->sk.host, sk->host) == 0)))
            continue;
        if (l == NULL)
            l = place_of_gone(q);
        if (l != NULL)
            put(q, l, sk);
    }
    q->n_found = 0;
}

void cv_nodes_found(struct cv_log *log, const struct cv_safekeeper *at, uint32_t n)
{
    struct cv_quorum *q = cv_quorum_enter(log);

    if (q == NULL)
        return;
    q->n_found = n < CO_MEMBERS_MAX ? n : CO_MEMBERS_MAX;
    memcpy(q->found, at, q->n_found * sizeof *at);
    cv_quorum_kick(q);
    cv_quorum_leave(q);
}

uint64_t cv_nodes_tick(struct cv_quorum *q, uint64_t now_us)
{
    const struct wal_config *c = &q->view.config;
    Corallite__Nodes ask = CORALLITE__NODES__INIT;

    if (q->n_found > 0) {
        take_found(q);
        return now_us;
    }
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
    struct cv_link *free_one = new_place(q);

    if (free_one != NULL)
        return free_one;
    for (uint32_t i = 0; i < q->n_links; i++) {
        struct cv_link *l = &q->link[i];
        if (l->state == CV_LINK_IDLE && !q_is_member(&q->view.config, l->sk.node))
            return l;
    }
    return NULL;
}

static void know_disk(struct cv_safekeeper *sk, const struct wal_member *members, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (members[i].node_id == sk->node)
            sk->disk = members[i].disk_uuid;
    }
}

static void add(struct cv_quorum *q, const struct nodes *nodes, const struct node_address *a)
{
    struct cv_safekeeper sk = {.node = a->node, .port = a->port};
    struct cv_link *l = place(q);

    if (l == NULL)
        return;
    snprintf(sk.host, sizeof sk.host, "%s", a->host);
    know_disk(&sk, nodes->config.members, nodes->config.n);
    know_disk(&sk, nodes->config.new_members, nodes->config.n_new);
    put(q, l, &sk);
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
            add(q, &nodes, &nodes.at[i]);
    }
    return rc;
}
