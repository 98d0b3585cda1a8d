/*
 * client.c - a compute: the proposer core, its shell, and a workload.
 *
 * It leads, commits transactions with unique ids in a pipeline, loses leaderships, asks what became
 * of open commits, reads strictly and by its lease, releases, abandons, dies and comes back. What
 * it needs to know across a crash (open commits) is kept by the simulator, as a client program
 * would keep its commit ids.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "proto/qhist.h"
#include "tests/sim/sim.h"

static void step(struct sim *s, struct client *c, struct pr_event *e);

/* ---- records that are kept beside the core ------------------------------------------------------
 */

static void spilled_clear(struct client *c)
{
    while (c->n_spilled > 0) {
        co_buf_free(&c->spilled[--c->n_spilled].bytes);
    }
}

static void spilled_add(struct client *c, uint64_t id, struct co_buf *record)
{
    if (c->n_spilled == c->cap_spilled) {
        c->cap_spilled = c->cap_spilled ? 2 * c->cap_spilled : 16;
        c->spilled = realloc(c->spilled, c->cap_spilled * sizeof *c->spilled);
        co_assert(c->spilled);
    }
    c->spilled[c->n_spilled++] = (struct spilled){id, *record};
    *record = (struct co_buf){0};
}

static struct spilled *spilled_find(struct sim *s, struct client *c, uint64_t id)
{
    for (uint32_t i = 0; i < c->n_spilled; i++) {
        if (c->spilled[i].id == id) {
            return &c->spilled[i];
        }
    }
    violation(s, "c%u: its core names a record that it gave back", c->id);
}

static void spilled_forget(struct sim *s, struct client *c, uint64_t id)
{
    struct spilled *r = spilled_find(s, c, id);
    co_buf_free(&r->bytes);
    *r = c->spilled[--c->n_spilled];
}

static uint32_t who(const struct client *c)
{
    return N_SK + c->id;
}

/* ---- life --------------------------------------------------------------------------------------
 */

void client_start(struct sim *s, struct client *c)
{
    if (!co_mutated(NONCE_REUSED) || co_id_is_zero(&c->nonce)) {
        for (unsigned i = 0; i < sizeof c->nonce.b; i += 8) {
            co_put64(c->nonce.b + i, rnd(s, R_WORK));
        }
        co_put32(c->nonce.b + 12, 0);
    }
    struct pr_options o = {.cluster = s->cluster,
                           .timeline = s->timeline,
                           .nonce = c->nonce,
                           .seed = rnd(s, R_WORK),
                           .config = s->config,
                           .lease_us = s->w.lease_us,
                           .renew_us = s->w.lease_us / 3,
                           .resend_us = s->w.resend_us,
                           .progress_us = s->w.progress_us,
                           .batch_bytes = s->w.batch_bytes,
                           .fragment_bytes = s->w.fragment_bytes,
                           .window_bytes = s->w.window_bytes,
                           .tail_bytes = s->w.tail_bytes,
                           .want_received = s->w.want_received};
    if (pr_new(&o, &c->pr)) {
        violation(s, "c%u: no proposer: %s", c->id, co_sentence());
    }
    c->up = true;
    c->incarnation++;
    c->timer_at = NEVER;
    c->timer_queued = 0;
    c->wants = c->leads = c->releasing = c->contested = false;
    c->n_inflight = c->n_reads = 0;
    memset(c->open_req, 0, sizeof c->open_req);
    memset(c->conn, 0, sizeof c->conn);
    for (uint32_t k = 0; k < s->w.n_sk; k++) {
        push(s, (struct event){.t = s->now + 100 + below(s, R_NET, 20000),
                               .kind = E_CONNECT,
                               .a = c->id,
                               .b = k,
                               .n = c->incarnation});
    }
    push(s, (struct event){.t = s->now + below(s, R_WORK, s->w.tick_us),
                           .kind = E_TICK,
                           .a = c->id,
                           .n = c->incarnation});
}

static void to_open(struct sim *s, struct client *c)
{
    for (uint32_t i = 0; i < c->n_inflight; i++) {
        co_assert(c->n_open < MAX_OPEN);
        s->txn[c->inflight[i]].state = T_UNKNOWN;
        s->st->unknown++;
        c->open_req[c->n_open] = 0;
        c->open[c->n_open++] = c->inflight[i];
    }
    c->n_inflight = 0;
}

void client_crash(struct sim *s, struct client *c)
{
    if (!c->up) {
        return;
    }
    trace(s, "fault: c%u dies", c->id);
    c->up = false;
    to_open(s, c);
    pr_free(c->pr);
    c->pr = NULL;
    spilled_clear(c);
    c->paused_until = 0;
    for (uint32_t k = 0; k < s->w.n_sk; k++) {
        conn_lost(s, c->id, k, true);
        c->conn[k] = 0;
    }
    push(s, (struct event){.t = s->now + 5000 + below(s, R_NEMESIS, 500000),
                           .kind = E_CLIENT_RESTART,
                           .a = c->id});
}

void client_free(struct client *c)
{
    pr_free(c->pr);
    spilled_clear(c);
    free(c->spilled);
    pr_actions_free(&c->actions);
    memset(c, 0, sizeof *c);
}

/* ---- transactions ------------------------------------------------------------------------------
 */

static void commit_one(struct sim *s, struct client *c)
{
    static const uint8_t empty[512];
    uint8_t page[512] = {0};
    uint64_t id = ++s->n_txns;
    bool parts = s->w.fragment_bytes < 4096;
    uint32_t pages = parts && below(s, R_WORK, 2) ? 1 + below(s, R_WORK, 6) : 1;
    uint32_t len = 8 + below(s, R_WORK, below(s, R_WORK, 4) ? 24 : 300);
    if (id >= MAX_TXNS || c->n_inflight >= INFLIGHT || c->n_open + INFLIGHT >= MAX_OPEN) {
        s->n_txns--;
        return;
    }
    for (uint32_t i = 0; i + 8 <= len; i += 8) {
        co_put64(page + i, id * 0x9e3779b97f4a7c15ull + i);
    }
    struct wal_stamp stamp = {.cluster = s->cluster,
                              .timeline = s->timeline,
                              .term = c->term,
                              .begin_lsn = c->tip,
                              .sealed_lsn = c->durable,
                              .time_us = s->now,
                              .prev_digest = c->digest,
                              .db_pages = 8};
    co_put64(stamp.commit_uuid.b, id);
    co_put64(stamp.commit_uuid.b + 8, c->snapshot);
    struct co_buf record;
    wal_builder_reset(s->builder, 512);
    for (uint32_t i = 1; i <= pages; i++) {
        if (wal_builder_page(s->builder, i, page, empty, LSN_FIRST)) {
            violation(s, "c%u: no record: %s", c->id, co_sentence());
        }
    }
    struct txn *t = &s->txn[id];
    wal_builder_seal(s->builder, &stamp, &record, &t->digest);
    t->state = T_OPEN;
    t->client = c->id;
    t->term = c->term;
    t->begin = c->tip;
    t->end = c->tip + record.len;
    if (c->n_inflight == 0) {
        c->oldest_since = s->now;
    }
    c->inflight[c->n_inflight++] = id;
    c->tip = c->snapshot = t->end;
    c->digest = t->digest;
    c->plan -= c->plan > 0;
    s->st->txns++;
    trace(s, "c%u commits txn %llu at %llu..%llu in term %llu", c->id, (unsigned long long)id,
          (unsigned long long)t->begin, (unsigned long long)t->end, (unsigned long long)t->term);
    struct pr_event e = {.kind = PR_EV_APPEND, .record = &record};
    struct pr_spilled spill = {.id = id};
    if (parts && below(s, R_WORK, 2)) {
        int rc = wal_check(co_buf_span(&record), &spill.header);
        co_assert(rc == 0);
        spilled_add(c, id, &record);
        e.spilled = &spill;
    }
    step(s, c, &e);
    co_assert(record.data == NULL);
}

static void commit_some(struct sim *s, struct client *c)
{
    uint32_t n = 1 + below(s, R_WORK, s->w.pipeline);
    while (n-- > 0 && c->up && c->leads && !c->releasing && c->n_inflight < s->w.pipeline) {
        commit_one(s, c);
    }
}

static void release(struct sim *s, struct client *c)
{
    trace(s, "c%u releases", c->id);
    c->releasing = true;
    c->wants = false;
    struct pr_event e = {.kind = PR_EV_RELEASE};
    step(s, c, &e);
}

/* ---- actions -----------------------------------------------------------------------------------
 */

static void on_ready(struct sim *s, struct client *c, const struct pr_action *a)
{
    trace(s, "c%u READY in term %llu at %llu", c->id, (unsigned long long)a->term,
          (unsigned long long)a->lsn);
    see_ready(s, c, a->term, a->lsn);
    s->st->regained += c->contested && a->lsn == c->lost_tip;
    c->contested = false;
    c->leads = true;
    c->releasing = false;
    c->term = a->term;
    c->tip = c->durable = a->lsn;
    c->digest = a->digest;
    if (!co_mutated(STALE_SNAPSHOT) || c->snapshot == 0) {
        c->snapshot = a->lsn;
    }
    c->lead_since = s->now;
    c->think_until = s->now + below(s, R_WORK, 3000);
    c->plan = s->w.alternate ? 1 + below(s, R_WORK, 4) : 1 + below(s, R_WORK, 80);
}

static void on_durable(struct sim *s, struct client *c, const struct pr_action *a)
{
    see_durable(s, c, a->term, a->lsn);
    c->durable = a->lsn;
    uint32_t n = 0;
    while (n < c->n_inflight && s->txn[c->inflight[n]].end <= a->lsn) {
        see_ack(s, c->inflight[n++]);
    }
    if (n > 0) {
        c->n_inflight -= n;
        memmove(c->inflight, c->inflight + n, c->n_inflight * sizeof *c->inflight);
        c->oldest_since = s->now;
        c->think_until = s->now + below(s, R_WORK, 4000);
    }
}

static void on_lost(struct sim *s, struct client *c, const struct pr_action *a)
{
    trace(s, "c%u lost term %llu: %s", c->id, (unsigned long long)a->term,
          a->reason ? a->reason : "?");
    c->leads = c->wants = c->releasing = false;
    to_open(s, c);
    c->think_until = s->now + below(s, R_WORK, 150000);
    s->st->contested += a->contested;
    c->contested = a->contested;
    c->lost_tip = c->durable;
}

static void on_position(struct sim *s, struct client *c, const struct pr_action *a)
{
    for (uint32_t i = 0; i < c->n_reads; i++) {
        if (c->reads[i].req == a->req) {
            see_position(s, a->lsn, c->reads[i].floor, "strict read");
            s->st->strict_reads++;
            if (s->healed) {
                c->healed_reads++;
            }
            c->reads[i] = c->reads[--c->n_reads];
            return;
        }
    }
}

static void on_resolved(struct sim *s, struct client *c, const struct pr_action *a)
{
    for (uint32_t i = 0; i < c->n_open; i++) {
        if (c->open_req[i] == a->req) {
            see_verdict(s, c->open[i], a->verdict);
            c->n_open--;
            c->open[i] = c->open[c->n_open];
            c->open_req[i] = c->open_req[c->n_open];
            return;
        }
    }
}

static void set_timer(struct sim *s, struct client *c, uint64_t at)
{
    c->timer_at = global_time(s, who(c), at);
    if (c->timer_queued <= s->now || c->timer_at < c->timer_queued) {
        c->timer_queued = c->timer_at;
        push(s, (struct event){
                    .t = c->timer_at, .kind = E_CLIENT_TIMER, .a = c->id, .n = c->incarnation});
    }
}

/* What the shell reads from where it keeps the record. */
static void send_spilled(struct sim *s, struct client *c, const struct pr_action *a)
{
    const struct spilled *r = spilled_find(s, c, a->spilled);
    struct q_msg m = a->msg;
    if (m.fragment_at + m.payload.len > r->bytes.len) {
        violation(s, "c%u: its core sends more of a record than there is", c->id);
    }
    m.payload.data = r->bytes.data + m.fragment_at;
    net_to_sk(s, c->id, a->node - 1, &m);
}

static void perform(struct sim *s, struct client *c, const struct pr_action *a)
{
    switch (a->kind) {
    case PR_SEND:
        if (a->msg.type == FRAME_ELECTED) {
            see_elected(s, c, &a->msg);
        }
        if (a->spilled) {
            send_spilled(s, c, a);
            return;
        }
        net_to_sk(s, c->id, a->node - 1, &a->msg);
        return;
    case PR_FORGET:
        spilled_forget(s, c, a->spilled);
        return;
    case PR_PROGRESS:
        return;
    case PR_READY:
        on_ready(s, c, a);
        return;
    case PR_DURABLE:
        on_durable(s, c, a);
        return;
    case PR_RECEIVED:
        return;
    case PR_LOST:
        on_lost(s, c, a);
        return;
    case PR_REFUSED:
        trace(s, "c%u refused: %s", c->id, a->reason);
        return;
    case PR_POSITION:
        on_position(s, c, a);
        return;
    case PR_RESOLVED:
        on_resolved(s, c, a);
        return;
    case PR_CONFIG:
        s->st->finished += a->config.n_new == 0 && a->lsn > LSN_FIRST && a->config.version > 1;
        return;
    case PR_CHANGE_REFUSED:
        s->st->refused_changes++;
        return;
    case PR_WAITER:
        if (c->leads && !c->releasing) {
            c->plan = below(s, R_WORK, 3);
        }
        return;
    case PR_RELEASED:
        c->leads = c->releasing = false;
        return;
    case PR_TIMER:
        set_timer(s, c, a->at_us);
        return;
    }
}

static void step(struct sim *s, struct client *c, struct pr_event *e)
{
    e->now_us = local_clock(s, who(c));
    e->wall_us = s->now;
    if (pr_step(c->pr, e, &c->actions)) {
        violation(s, "c%u: a step failed: %s", c->id, co_sentence());
    }
    /* No action calls back into the core, so the list stays as it is. */
    for (uint32_t i = 0; i < c->actions.n; i++) {
        perform(s, c, &c->actions.a[i]);
    }
}

static void lease_read(struct sim *s, struct client *c)
{
    struct pr_view v;
    pr_view(c->pr, &v);
    if (v.state == PR_LEADER && local_clock(s, who(c)) < v.lease_until_us) {
        see_position(s, v.commit_lsn, s->acked_lsn, "lease read");
        s->st->lease_reads++;
    }
}

void client_event(struct sim *s, struct client *c, struct pr_event *e)
{
    if (c->leads && below(s, R_WORK, 8) == 0) {
        lease_read(s, c); /* before the event tells what changed */
    }
    step(s, c, e);
    if (c->up && c->leads && !c->releasing && c->plan > 0 && s->now >= c->think_until &&
        c->n_inflight < s->w.pipeline && below(s, R_WORK, 2)) {
        commit_some(s, c);
    }
}

void client_timer(struct sim *s, struct client *c)
{
    if (!c->up || c->timer_at == NEVER || c->timer_queued > s->now) {
        return; /* in the last case it is one of before, and the next one is in the heap */
    }
    if (c->timer_at > s->now) {
        c->timer_queued = c->timer_at;
        push(s, (struct event){
                    .t = c->timer_at, .kind = E_CLIENT_TIMER, .a = c->id, .n = c->incarnation});
        return;
    }
    c->timer_at = NEVER;
    struct pr_event e = {.kind = PR_EV_TIMER};
    client_event(s, c, &e);
}

/* ---- members ------------------------------------------------------------------------------------
 */

static bool was_ever_member(const struct sim *s, uint32_t node)
{
    for (uint32_t i = 0; i < s->n_gold; i++) {
        if (s->gold[i].config && (s->gold[i].named >> node & 1)) {
            return true;
        }
    }
    return false;
}

/* One member out, another node in. The product never takes a node a second time, for its id is used
 * up: with a history that was collapsed meanwhile its log would look older than it is. Some of the
 * seeds without a floor do, as it is, and without the refusal of votes by those that have left. */
static struct wal_config other_members(struct sim *s, const struct wal_config *from)
{
    struct wal_config to = {.n = from->n};
    uint32_t in = 1 + below(s, R_WORK, s->w.n_sk), out = below(s, R_WORK, from->n), at = 0;
    if (q_is_member(from, in) || (!s->w.come_back && was_ever_member(s, in))) {
        in = 0;
    }
    for (uint32_t id = 1; id <= s->w.n_sk && at < to.n; id++) {
        if (id == in || (q_in_group(from->members, from->n, id) &&
                         (in == 0 || from->members[out].node_id != id))) {
            to.members[at++].node_id = id;
        }
    }
    return to;
}

static const char *config_text(const struct wal_config *c, char out[64])
{
    int at = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        at += snprintf(out + at, 64 - (size_t)at, "%u ", c->members[i].node_id);
    }
    for (uint32_t i = 0; i < c->n_new; i++) {
        at +=
            snprintf(out + at, 64 - (size_t)at, "%s%u", i ? " " : "+ ", c->new_members[i].node_id);
    }
    return out;
}

/* What the tool does, by one who may die at any moment: a step towards other members; when one is
 * under way the next step of it, now and then the way back. */
static void change_members(struct sim *s, struct client *c)
{
    struct pr_view v;
    pr_view(c->pr, &v);
    struct wal_config to = {0};
    if (v.config.n_new == 0) {
        to = other_members(s, &v.config);
    } else if (below(s, R_WORK, 4)) {
        to.n = v.config.n_new;
        memcpy(to.members, v.config.new_members, sizeof to.members);
    } else {
        to.n = v.config.n;
        memcpy(to.members, v.config.members, sizeof to.members);
    }
    struct pr_event e = {.kind = PR_EV_CHANGE, .config = &to};
    step(s, c, &e);
    pr_view(c->pr, &v);
    if (c->up && c->leads && v.tip_lsn > c->tip) {
        s->st->changes++;
        c->tip = c->snapshot = v.tip_lsn;
        c->digest = v.tip_digest;
        char text[64];
        trace(s, "c%u puts configuration %u in its log, up to %llu: %s", c->id, v.config.version,
              (unsigned long long)v.tip_lsn, config_text(&v.config, text));
    }
}

static void maybe_change_members(struct sim *s, struct client *c)
{
    while (c->up && c->leads && !c->releasing && !s->healed && chance(s, R_WORK, s->w.change_ppm)) {
        do {
            change_members(s, c);
        } while (c->up && c->leads && below(s, R_WORK, 2)); /* at once again: mostly refused */
    }
}

/* ---- workload ----------------------------------------------------------------------------------
 */

static void strict_read(struct sim *s, struct client *c)
{
    struct pr_event e = {.kind = PR_EV_POSITION, .req = ++c->next_req};
    c->reads[c->n_reads++] = (struct read){.req = e.req, .floor = s->acked_lsn, .since = s->now};
    step(s, c, &e);
}

static void ask_outcomes(struct sim *s, struct client *c)
{
    for (uint32_t i = 0; i < c->n_open && c->up; i++) {
        if (c->open_req[i] == 0 && (s->healed || below(s, R_WORK, 2) == 0)) {
            struct txn *t = &s->txn[c->open[i]];
            c->open_req[i] = ++c->next_req;
            struct pr_event e = {.kind = PR_EV_RESOLVE,
                                 .req = c->open_req[i],
                                 .resolve_term = t->term,
                                 .resolve_lsn = t->begin};
            step(s, c, &e);
        } else if (c->open_req[i] != 0 && !s->healed && below(s, R_WORK, 200) == 0) {
            struct pr_event e = {.kind = PR_EV_CANCEL, .req = c->open_req[i]};
            c->open_req[i] = 0;
            step(s, c, &e);
        }
    }
}

/* A term was lost, and its lease perhaps not: who has a transaction open wants it again. */
static void contest(struct sim *s, struct client *c)
{
    struct pr_event e = {.kind = PR_EV_ABANDON};
    c->wants = below(s, R_WORK, 2) && c->n_open + INFLIGHT < MAX_OPEN;
    if (!c->wants) {
        c->contested = false;
        step(s, c, &e);
    }
}

static void lead_or_let_go(struct sim *s, struct client *c)
{
    if (c->contested && !c->wants && !c->leads) {
        contest(s, c);
    }
    if (!c->leads) {
        bool room = c->n_open + INFLIGHT < MAX_OPEN;
        if (!c->wants && room && s->now >= c->think_until && below(s, R_WORK, 4) == 0) {
            trace(s, "c%u wants to lead", c->id);
            c->wants = true;
            c->releasing = false;
            struct pr_event e = {.kind = PR_EV_LEAD};
            step(s, c, &e);
        } else if (c->wants && below(s, R_WORK, 300) == 0) {
            c->wants = false;
            struct pr_event e = {.kind = PR_EV_ABANDON};
            step(s, c, &e);
        }
        return;
    }
    if (c->releasing) {
        return;
    }
    if (c->n_inflight > 0 && s->now - c->oldest_since > 30000 && fault(s, F_ABANDON)) {
        trace(s, "c%u abandons term %llu", c->id, (unsigned long long)c->term);
        struct pr_event e = {.kind = PR_EV_ABANDON};
        step(s, c, &e);
        return;
    }
    if (c->plan == 0 && (s->w.alternate || chance(s, R_WORK, s->w.release_ppm))) {
        release(s, c);
    } else if (c->plan == 0) {
        c->plan = 1 + below(s, R_WORK, 40);
    } else if (s->now >= c->think_until) {
        commit_some(s, c);
    }
}

void client_tick(struct sim *s, struct client *c)
{
    push(s, (struct event){.t = s->now + s->w.tick_us + below(s, R_WORK, s->w.tick_us),
                           .kind = E_TICK,
                           .a = c->id,
                           .n = c->incarnation});
    lead_or_let_go(s, c);
    if (c->leads && below(s, R_WORK, 8) == 0) {
        step(s, c, &(struct pr_event){.kind = PR_EV_WRITING});
    }
    maybe_change_members(s, c);
    lease_read(s, c);
    if (c->n_reads < MAX_READS && chance(s, R_WORK, s->healed ? 300000 : s->w.read_ppm)) {
        strict_read(s, c);
    }
    if (c->n_reads == MAX_READS && !s->healed && s->now - c->reads[0].since > 2000000) {
        struct pr_event e = {.kind = PR_EV_CANCEL, .req = c->reads[0].req};
        c->reads[0] = c->reads[--c->n_reads];
        step(s, c, &e);
    }
    ask_outcomes(s, c);
    lease_read(s, c);
}

/* After the healing: nothing open, and it has read. */
bool client_settled(const struct client *c)
{
    return c->up && c->n_open == 0 && c->healed_reads > 0;
}
