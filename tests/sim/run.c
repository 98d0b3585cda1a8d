/* run.c - one seed: faults until heal_us, then everything must get well within a bound. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "tests/sim/sim.h"

static void clear(struct sim *s)
{
    for (uint32_t i = 0; i < s->n_heap; i++) {
        flight_free(s->event[s->heap[i].at].flight);
        s->idle[s->n_idle++] = s->heap[i].at;
    }
    s->n_heap = 0;
    for (uint32_t i = 0; i < N_SK; i++) {
        sk_acceptor_free(s->node[i].sk);
        s->node[i].sk = NULL;
        s->node[i].up = false;
    }
    for (uint32_t i = 0; i < N_CLIENTS; i++) {
        pr_free(s->client[i].pr);
        s->client[i].pr = NULL;
        while (s->client[i].n_spilled > 0) {
            co_buf_free(&s->client[i].spilled[--s->client[i].n_spilled].bytes);
        }
    }
}

void sim_free(struct sim *s)
{
    clear(s);
    for (uint32_t i = 0; i < N_SK; i++) {
        node_free(&s->node[i]);
    }
    for (uint32_t i = 0; i < N_CLIENTS; i++) {
        client_free(&s->client[i]);
    }
    wal_builder_free(s->builder);
    qmsg_scratch_free(&s->scratch);
    co_buf_free(&s->wire);
    image_free(s);
    free(s->heap);
    free(s->event);
    free(s->idle);
    free(s->gold);
    free(s->configs);
    free(s->content);
}

static void birth(struct sim *s)
{
    s->now = 1000000;
    s->seq = s->events = s->faults = 0;
    s->hash = 14695981039346656037ull;
    s->healed = false;
    s->next_conn = 0;
    s->n_gold = 0;
    s->acked_lsn = LSN_FIRST;
    s->archived = s->followed = LSN_FIRST;
    s->n_configs = 0;
    s->n_txns = 0;
    s->n_marks = 0;
    s->acked = s->acked_after_heal = 0;
    s->healed_end = 0;
    s->why[0] = 0;
    memset(s->by_fault, 0, sizeof s->by_fault);
    memset(s->cut, 0, sizeof s->cut);
    memset(s->clog_from, 0, sizeof s->clog_from);
    memset(s->clog_until, 0, sizeof s->clog_until);
    memset(s->half_open, 0, sizeof s->half_open);
    memset(s->fifo_at, 0, sizeof s->fifo_at);
    memset(s->sk_closed, 0, sizeof s->sk_closed);
    memset(s->leader, 0, sizeof s->leader);
    memset(s->txn, 0, sizeof s->txn);
    if (!s->builder) {
        int rc = wal_builder_new(&s->builder);
        co_assert(rc == 0);
        s->content = calloc(CONTENT_SLOTS, sizeof *s->content);
        co_assert(s->content);
        memset(s->cluster.b, 0xc1, sizeof s->cluster.b);
        memset(s->timeline.b, 0x71, sizeof s->timeline.b);
        s->config.version = 1;
        s->config.n = N_MEMBERS;
        for (uint32_t i = 0; i < N_MEMBERS; i++) {
            s->config.members[i].node_id = i + 1;
        }
    }
    s->content_epoch++;
    rng_init(s);
    draw_swarm(s);
    image_birth(s);
    if (s->until_us < s->w.heal_us) {
        s->w.heal_us = s->until_us;
    }
    for (uint32_t i = 0; i < s->w.n_sk; i++) {
        s->node[i].id = i;
        node_birth(s, &s->node[i]);
        node_start(s, &s->node[i]);
    }
    for (uint32_t i = 0; i < N_CLIENTS; i++) {
        struct client *c = &s->client[i];
        c->id = i;
        c->up = false;
        memset(c->conn, 0, sizeof c->conn);
        c->local = i < 2;
        c->nonce = (struct co_id){{0}};
        c->incarnation = 0;
        c->snapshot = 0;
        c->n_open = 0;
        c->next_req = c->healed_reads = c->think_until = 0;
        c->paused_until = 0;
        if (i < s->w.n_clients) {
            client_start(s, c);
        }
    }
    push(s, (struct event){.t = s->now + 50000, .kind = E_NEMESIS});
}

static uint64_t paused(const struct sim *s, const struct event *e)
{
    switch (e->kind) {
    case E_TO_SK:
    case E_CLOSED:
        return s->node[e->b].paused_until;
    case E_SYNCED:
    case E_SK_TIMER:
        return s->node[e->a].paused_until;
    case E_TO_CLIENT:
    case E_CLIENT_TIMER:
    case E_CONNECT:
    case E_DOWN:
    case E_TICK:
        return s->client[e->a].paused_until;
    default:
        return 0;
    }
}

static void to_sk(struct sim *s, const struct event *e)
{
    struct node *n = &s->node[e->b];
    if (n->up && e->flight->conn > s->sk_closed[e->a][e->b]) {
        struct sk_event ev = {.kind = SK_EV_MSG, .conn = e->flight->conn, .msg = &e->flight->m};
        trace(s, "c%u -> sk%u %s term %llu", e->a, e->b + 1, frame_type_name(e->flight->m.type),
              (unsigned long long)e->flight->m.term);
        node_event(s, n, &ev);
    }
}

static void to_client(struct sim *s, const struct event *e)
{
    struct client *c = &s->client[e->a];
    if (c->up && c->conn[e->b] == e->flight->conn) {
        struct pr_event ev = {.kind = PR_EV_MSG, .node = e->b + 1, .msg = &e->flight->m};
        trace(s, "sk%u -> c%u %s term %llu flush %llu commit %llu", e->b + 1, e->a,
              frame_type_name(e->flight->m.type), (unsigned long long)e->flight->m.term,
              (unsigned long long)e->flight->m.flush_lsn,
              (unsigned long long)e->flight->m.commit_lsn);
        client_event(s, c, &ev);
    }
}

static void deliver(struct sim *s, const struct event *e)
{
    struct client *c = &s->client[e->a < N_CLIENTS ? e->a : 0];
    switch (e->kind) {
    case E_TO_SK:
        to_sk(s, e);
        return;
    case E_TO_CLIENT:
        to_client(s, e);
        return;
    case E_SYNCED:
        node_synced(s, &s->node[e->a], e);
        return;
    case E_SK_TIMER:
        if (e->n == s->node[e->a].boots) {
            node_timer(s, &s->node[e->a]);
        }
        return;
    case E_CLIENT_TIMER:
        if (c->up && e->n == c->incarnation) {
            client_timer(s, c);
        }
        return;
    case E_SK_RESTART:
        node_start(s, &s->node[e->a]);
        return;
    case E_CLIENT_RESTART:
        client_start(s, c);
        return;
    case E_CONNECT:
        if (c->up && e->n == c->incarnation) {
            conn_try(s, e->a, e->b);
        }
        return;
    case E_CLOSED:
        if (s->node[e->b].up && e->n > s->sk_closed[e->a][e->b]) {
            struct sk_event ev = {.kind = SK_EV_CLOSED, .conn = e->n, .local = e->flag};
            s->sk_closed[e->a][e->b] = e->n;
            node_event(s, &s->node[e->b], &ev);
        }
        return;
    case E_DOWN:
        conn_down(s, e->a, e->b, e->n);
        return;
    case E_TICK:
        if (c->up && e->n == c->incarnation) {
            client_tick(s, c);
        }
        return;
    case E_NEMESIS:
        if (!s->healed) {
            push(s, (struct event){.t = s->now + 15000 + below(s, R_NEMESIS, 40000),
                                   .kind = E_NEMESIS});
            nemesis(s);
        }
        return;
    }
}

/* Everything is well again, and has shown it. */
static bool settled(const struct sim *s)
{
    for (uint32_t i = 0; i < s->w.n_clients; i++) {
        if (!client_settled(&s->client[i])) {
            return false;
        }
    }
    return s->acked_after_heal >= 3 || s->n_txns + 64 > MAX_TXNS;
}

/* Some log is nearer than ever to the longest one that there was when all was healed. In fragments
 * of a few hundred bytes over a slow link that takes as long as it takes. */
static bool catches_up(struct sim *s)
{
    bool any = false;
    for (uint32_t k = 0; k < s->w.n_sk; k++) {
        lsn_t at = s->node[k].written < s->healed_end ? s->node[k].written : s->healed_end;
        any = any || at > s->reached[k];
        s->reached[k] = at > s->reached[k] ? at : s->reached[k];
    }
    return any;
}

static void live(struct sim *s)
{
    uint64_t heal_at = 1000000 + s->w.heal_us;
    /* Leases and quiet times run out, then elections, catch-up and questions. */
    uint64_t patience = 10 * s->w.lease_us + 20000000;
    uint64_t bound = heal_at + patience;
    while (s->n_heap > 0) {
        struct event e = pop(s);
        s->now = e.t;
        if (!s->healed && s->now >= heal_at) {
            heal(s);
            for (uint32_t k = 0; k < s->w.n_sk; k++) {
                s->reached[k] = s->node[k].written;
                s->healed_end = s->reached[k] > s->healed_end ? s->reached[k] : s->healed_end;
            }
        }
        uint64_t wake = paused(s, &e);
        if (wake > s->now) {
            e.t = wake + 1;
            push(s, e);
            continue;
        }
        s->events++;
        fold(s, e.t << 8 ^ (uint64_t)e.kind << 4 ^ e.a << 2 ^ e.b);
        deliver(s, &e);
        flight_free(e.flight);
        if (s->healed && (s->events & 15) == 0 && settled(s)) {
            return;
        }
        if (s->healed && (s->events & 15) == 0 && catches_up(s)) {
            bound = s->now + patience;
        }
        if (s->now > bound) {
            uint32_t open = 0;
            for (uint32_t i = 0; i < N_CLIENTS; i++) {
                open += s->client[i].n_open;
            }
            violation(s, "no liveness: %llu commits and %u open outcomes long after the healing",
                      (unsigned long long)s->acked_after_heal, open);
        }
    }
}

static struct sim *running;

/* An assertion of a core is a finding like any other. */
static void on_abort(int sig)
{
    (void)sig;
    snprintf(running->why, sizeof running->why, "an assertion of the product failed");
    siglongjmp(running->bad, 2);
}

int run(struct sim *s, uint64_t seed, uint64_t fault_limit, uint32_t fault_mask, uint64_t until_us)
{
    s->seed = seed;
    s->fault_limit = fault_limit;
    s->fault_mask = fault_mask;
    s->until_us = until_us;
    running = s;
    signal(SIGABRT, on_abort);
    int bad = sigsetjmp(s->bad, 1);
    if (bad == 0) {
        birth(s);
        live(s);
        see_end(s);
    } else if (bad == 2) {
        /* A core stopped in the middle of a step: its memory is left alone. */
        for (uint32_t i = 0; i < N_CLIENTS; i++) {
            s->client[i].pr = NULL;
        }
        for (uint32_t i = 0; i < N_SK; i++) {
            s->node[i].sk = NULL;
        }
    }
    signal(SIGABRT, SIG_DFL);
    struct stats *st = s->st;
    st->seeds++;
    st->faults += s->faults;
    st->acked += s->acked;
    st->events += s->events;
    st->failures += bad != 0;
    for (unsigned i = 0; i < N_FAULTS; i++) {
        st->by_fault[i] += s->by_fault[i];
    }
    clear(s);
    return bad != 0;
}
