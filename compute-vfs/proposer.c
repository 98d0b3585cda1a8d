/*
 * proposer.c - events, timers and life of the proposer; see proposer.h and proposer_core.h.
 *
 * A step: the event changes the state, then pr_campaign_tick, pr_drive and pr_ask_tick do whatever
 * the state and the time call for, then the one timer is set to the earliest deadline. So no event
 * has to remember what else may have become possible through it.
 *
 * Memory: what an event needs is had before anything is changed. A SEND that cannot be had counts
 * as lost on the way, which every message may be; the timers repeat it.
 */
#include "compute-vfs/proposer_core.h"

#include <stdlib.h>

#include "common/assert.h"
#include "common/mutation.h"

/* Room that a step keeps for what may not be lost: READY, DURABLE, LOST, TIMER... */
#define HEADROOM 16u

/* ---- actions ----------------------------------------------------------------------------------
 */

static bool actions_room(struct pr_actions *out, uint32_t more)
{
    if (out->cap - out->n >= more) {
        return true;
    }
    uint32_t cap = out->cap < 32 ? 32 : out->cap * 2;
    while (cap - out->n < more) {
        cap *= 2;
    }
    struct pr_action *a = realloc(out->a, cap * sizeof *a);
    if (!a) {
        return false;
    }
    out->a = a;
    out->cap = cap;
    return true;
}

void pr_actions_free(struct pr_actions *out)
{
    free(out->a);
    *out = (struct pr_actions){0};
}

struct pr_action *pr_emit(struct pr_proposer *pr, enum pr_action_kind kind)
{
    struct pr_actions *out = pr->out;
    co_assert(actions_room(out, 1));
    struct pr_action *a = &out->a[out->n++];
    *a = (struct pr_action){.kind = kind};
    return a;
}

struct q_msg *pr_send(struct pr_proposer *pr, const struct pr_node *node, enum frame_type type)
{
    if (!node->up || !actions_room(pr->out, HEADROOM + 1)) {
        return NULL;
    }
    struct pr_action *a = pr_emit(pr, PR_SEND);
    a->node = node->node;
    a->msg.type = type;
    a->msg.timeline = pr->o.timeline;
    a->msg.config_version = pr_leads(pr) ? pr->config.version : pr->hint.version;
    a->msg.term = pr->term;
    return &a->msg;
}

/* ---- small things ------------------------------------------------------------------------------
 */

/* splitmix64: only for jitter, so that two computes do not campaign in step. */
uint64_t pr_random(struct pr_proposer *pr, uint64_t below)
{
    uint64_t z = pr->random += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    return below ? z % below : 0;
}

struct pr_node *pr_node_of(struct pr_proposer *pr, uint32_t node)
{
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        if (pr->nodes[i].node == node) {
            return &pr->nodes[i];
        }
    }
    if (pr->n_nodes < PR_NODES_MAX) {
        pr->nodes[pr->n_nodes].node = node;
        return &pr->nodes[pr->n_nodes++];
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        struct pr_node *n = &pr->nodes[i];
        if (!n->up && !q_is_member(&pr->hint, n->node) && !q_is_member(&pr->config, n->node)) {
            free(n->state.history.e); /* it left long ago */
            free(n->pos.history.e);
            *n = (struct pr_node){.node = node};
            return n;
        }
    }
    return NULL;
}

void pr_know_config(struct pr_proposer *pr, const struct wal_config *config)
{
    if (config->version > pr->hint.version && config->n > 0) {
        pr->hint = *config;
    }
    for (uint32_t i = 0; i < config->n; i++) {
        (void)pr_node_of(pr, config->members[i].node_id);
    }
    for (uint32_t i = 0; i < config->n_new; i++) {
        (void)pr_node_of(pr, config->new_members[i].node_id);
    }
}

int pr_history_set(struct pr_history *to, const struct q_history *from, uint32_t room)
{
    uint32_t want = from->n + room;
    if (to->cap < want) {
        struct q_term *e = realloc(to->e, want * sizeof *e);
        if (!e) {
            return co_fail(CO_ERR_NOMEM, "no memory for a history of %u terms", want);
        }
        to->e = e;
        to->cap = want;
    }
    if (from->n) {
        memcpy(to->e, from->e, from->n * sizeof *to->e);
    }
    to->n = from->n;
    return 0;
}

bool pr_quorum(const struct pr_proposer *pr, const struct wal_config *config,
               bool (*has)(const struct pr_proposer *, const struct pr_node *, uint64_t),
               uint64_t arg)
{
    uint32_t set[PR_NODES_MAX], n = 0;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        if (has(pr, &pr->nodes[i], arg)) {
            set[n++] = pr->nodes[i].node;
        }
    }
    return q_is_quorum(config, set, n);
}

bool pr_leads(const struct pr_proposer *pr)
{
    return pr->state == PR_RECOVER || pr->state == PR_LEADER;
}

/* ---- events ------------------------------------------------------------------------------------
 */

static void on_up(struct pr_proposer *pr, struct pr_node *n, uint64_t now)
{
    n->up = true;
    n->up_us = pr->up_us = now;
    pr_rewind(n, true); /* what was on the way before is lost, or will be skipped */
    /* R3: what was acknowledged on another connection is what the disk held then. It is asked anew,
     * by ELECTED at once; so it also learns where its lease holder is now. */
    pr_known_collect(pr);
    n->adopted = false;
    n->elected_us = 0;
    n->sent_us = 0;
    n->fetch_node = 0;
    n->known_us = 0;
    if (pr->round_open) {
        pr_ask_node(pr, n, now);
    }
}

static void on_down(struct pr_proposer *pr, struct pr_node *n)
{
    n->up = false;
    pr_rewind(n, true);
    n->fetch_node = 0;
    n->lease_info_us = 0;
    if (!co_mutated(STALE_CONNECTION_LEASE)) {
        n->lease_until_us = 0; /* a safekeeper of this host has ended it with the connection */
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        if (pr->nodes[i].fetch_node == n->node) {
            pr->nodes[i].fetch_node = 0;
            pr_rewind(&pr->nodes[i], false);
        }
    }
}

static int on_msg(struct pr_proposer *pr, const struct pr_event *ev, struct pr_node *n)
{
    const struct q_msg *m = ev->msg;
    if (!co_id_eq(&m->timeline, &pr->o.timeline)) {
        return 0;
    }
    if (m->term > pr->max_term) {
        pr->max_term = m->term;
    }
    bool newer = m->config.version > pr->hint.version;
    if (newer) {
        pr_know_config(pr, &m->config);
    }
    /* Not from one that is no member: it follows nobody's lease, so it votes for whoever asks. */
    if (pr_leads(pr) && m->term > pr->term && pr_may_be_member(pr, n) &&
        !(co_mutated(APPEND_LOWER_TERM) || co_mutated(LEASE_ONLY_FENCE))) {
        pr_on_newer_term(pr, m->term, ev->now_us); /* R6 */
    }
    switch (m->type) {
    case FRAME_VOTED:
        return pr_on_voted(pr, n, m, ev->now_us, ev->wall_us);
    case FRAME_ACK:
        pr_on_ack(pr, n, m, ev->now_us);
        return 0;
    case FRAME_DATA:
        return pr_on_data(pr, n, m, ev->now_us);
    case FRAME_POS:
        return pr_on_pos(pr, n, m, ev->now_us);
    case FRAME_WAITER:
        if (pr->announced) {
            pr_emit(pr, PR_WAITER)->anew = true;
        }
        return 0;
    case FRAME_FREE:
        pr_on_free(pr, n, ev->now_us);
        return 0;
    case FRAME_REGRESSED:
        pr_on_regressed(pr, n, m);
        return 0;
    case FRAME_REJECT_CONFIG: /* S21: of a VOTE; on_msg has learnt the configuration */
        if (newer) {
            pr_on_reject_config(pr, ev->now_us);
        }
        return 0;
    default:
        return 0; /* REJECT: its term was all it had to say */
    }
}

static void on_lead(struct pr_proposer *pr, uint64_t now)
{
    pr->want_lead = true; /* while a release is under way: a new campaign follows it */
    if (pr->state == PR_FOLLOW) {
        pr_campaign(pr, now, 0);
    } else if (pr->state == PR_LEADER && !pr->releasing) {
        pr_announce(pr); /* led to settle a question until now */
    }
}

static void on_release(struct pr_proposer *pr, uint64_t now)
{
    pr->want_lead = false;
    pr->tell_released = true;
    if (pr->state == PR_LEADER) {
        pr->releasing = true;
        pr_try_release(pr, now);
        return;
    }
    pr_step_down(pr, "released");
}

/* R5: what was sent stays what it is in this term, so giving a commit up is giving the term up. */
static void on_abandon(struct pr_proposer *pr, uint64_t now)
{
    if (co_mutated(LSN_REUSED) && pr->state == PR_LEADER && pr->announced) {
        pr_emit(pr, PR_LOST)->term = pr->term;
        pr->tip_lsn = pr->commit_lsn;
        for (uint32_t i = 0; i < pr->n_chunks; i++) {
            struct pr_chunk *c = &pr->chunks[i];
            size_t keep = pr->tip_lsn > c->begin ? (size_t)(pr->tip_lsn - c->begin) : 0;
            if (keep < c->len) {
                c->len = keep;
            }
        }
        while (pr->n_chunks > 0 &&
               (pr->chunks[pr->n_chunks - 1].len == 0 || pr->chunks[pr->n_chunks - 1].spilled)) {
            free(pr->chunks[--pr->n_chunks].data);
        }
        if (pr->n_chunks > 0) {
            struct pr_chunk *c = &pr->chunks[pr->n_chunks - 1];
            memcpy(pr->tip_digest.b, c->data + c->len - WAL_TRAILER_BYTES, 16);
            struct pr_action *a = pr_emit(pr, PR_READY);
            a->term = pr->term;
            a->lsn = pr->tip_lsn;
            a->digest = pr->tip_digest;
            a->config = pr->config;
            return;
        }
    }
    pr->want_lead = false;
    pr_step_down(pr, "given up");
    (void)now;
}

static int on_event(struct pr_proposer *pr, const struct pr_event *ev)
{
    struct pr_node *n = NULL;
    if (ev->kind == PR_EV_UP || ev->kind == PR_EV_DOWN || ev->kind == PR_EV_MSG) {
        n = pr_node_of(pr, ev->node);
        if (!n) {
            return 0; /* more nodes than any configuration may have */
        }
    }
    switch (ev->kind) {
    case PR_EV_UP:
        on_up(pr, n, ev->now_us);
        return 0;
    case PR_EV_DOWN:
        on_down(pr, n);
        return 0;
    case PR_EV_MSG:
        return on_msg(pr, ev, n);
    case PR_EV_TIMER:
        pr->timer_us = 0;
        return 0;
    case PR_EV_LEAD:
        on_lead(pr, ev->now_us);
        return 0;
    case PR_EV_APPEND:
        return ev->spilled ? pr_tail_add_spilled(pr, ev->spilled, ev->now_us)
                           : pr_tail_add(pr, ev->record, ev->want_received, ev->now_us);
    case PR_EV_CHANGE:
        return pr_change(pr, ev->config, ev->now_us, ev->wall_us);
    case PR_EV_RELEASE:
        on_release(pr, ev->now_us);
        return 0;
    case PR_EV_ABANDON:
        on_abandon(pr, ev->now_us);
        return 0;
    case PR_EV_POSITION:
    case PR_EV_RESOLVE:
        return pr_ask_add(pr, ev);
    case PR_EV_CANCEL:
        pr_ask_cancel(pr, ev->req);
        return 0;
    case PR_EV_WRITING:
        pr_tell_writing(pr, ev->now_us);
        return 0;
    case PR_EV_HURRY:
        pr_hurry(pr, ev->now_us);
        return 0;
    }
    return 0;
}

static void set_timer(struct pr_proposer *pr, uint64_t now)
{
    uint64_t at = pr_ask_deadline(pr), log = pr_log_deadline(pr);
    if (log < at) {
        at = log;
    }
    if (pr->state == PR_CAMPAIGN && pr->phase_until_us < at) {
        at = pr->phase_until_us;
    }
    if (pr->state == PR_CAMPAIGN && pr->grace_until_us && pr->grace_until_us < at) {
        at = pr->grace_until_us;
    }
    if (at == PR_NEVER) {
        return; /* one that still runs finds nothing to do */
    }
    if (at <= now) {
        at = now + 1;
    }
    if (at != pr->timer_us) {
        pr->timer_us = at;
        pr_emit(pr, PR_TIMER)->at_us = at;
    }
}

int pr_step(struct pr_proposer *pr, const struct pr_event *event, struct pr_actions *out)
{
    out->n = 0;
    if (!actions_room(out, HEADROOM)) {
        return co_fail(CO_ERR_NOMEM, "no memory for the actions of a proposer step");
    }
    pr->out = out;
    pr_tail_trim(pr); /* here, because actions of the step before may have borrowed from it */
    int rc = on_event(pr, event);
    if (rc == 0) {
        if (pr->finish_due) {
            pr->finish_due = false;
            pr_members_finish(pr, event->now_us, event->wall_us);
            pr_advance(pr, event->now_us);
        }
        pr_campaign_tick(pr, event->now_us, event->wall_us);
        pr_drive(pr, event->now_us);
        pr_ask_tick(pr, event->now_us);
        set_timer(pr, event->now_us);
    }
    co_assert(!pr_leads(pr) || (pr->start_lsn <= pr->tip_lsn && pr->commit_lsn <= pr->tip_lsn));
    pr->out = NULL;
    return rc;
}

/* ---- life --------------------------------------------------------------------------------------
 */

int pr_new(const struct pr_options *options, struct pr_proposer **out)
{
    if (wal_config_check(&options->config)) {
        return CO_ERR_INVAL;
    }
    struct pr_proposer *pr = calloc(1, sizeof *pr);
    if (!pr) {
        return co_fail(CO_ERR_NOMEM, "no memory for a proposer");
    }
    pr->o = *options;
    if (pr->o.resend_us == 0) {
        pr->o.resend_us = 1000000;
    }
    if (pr->o.renew_us == 0) {
        pr->o.renew_us = pr->o.lease_us / 3 + 1;
    }
    if (pr->o.batch_bytes == 0) {
        pr->o.batch_bytes = (uint32_t)CO_BATCH_BYTES;
    }
    if (pr->o.fragment_bytes == 0) {
        pr->o.fragment_bytes = (uint32_t)CO_BATCH_BYTES;
    }
    if (pr->o.window_bytes == 0) {
        pr->o.window_bytes = 16 * CO_MIB;
    }
    pr->random = options->seed;
    pr->nonce = options->nonce;
    pr_know_config(pr, &options->config);
    *out = pr;
    return 0;
}

void pr_free(struct pr_proposer *pr)
{
    if (!pr) {
        return;
    }
    for (uint32_t i = 0; i < pr->n_chunks; i++) {
        free(pr->chunks[i].data); /* what is spilled the shell knows */
    }
    free(pr->chunks);
    co_buf_free(&pr->fetched);
    free(pr->history.e);
    free(pr->asks);
    for (uint32_t i = 0; i < PR_NODES_MAX; i++) {
        free(pr->nodes[i].state.history.e);
        free(pr->nodes[i].pos.history.e);
    }
    free(pr);
}

void pr_view(const struct pr_proposer *pr, struct pr_view *out)
{
    bool leads = pr_leads(pr);
    *out = (struct pr_view){.state = pr->state, .config = leads ? pr->config : pr->hint};
    if (leads) {
        out->term = pr->term;
        out->start_lsn = pr->start_lsn;
        out->tip_lsn = pr->tip_lsn;
        out->commit_lsn = pr->commit_lsn;
        out->received_lsn = pr->received_lsn;
        out->tip_digest = pr->tip_digest;
    }
    out->in_use_until_us = pr->state == PR_CAMPAIGN ? pr->in_use_until_us : 0;
    if (pr->state == PR_LEADER) {
        out->lease_until_us = pr_lease_until(pr);
    } else if (co_mutated(READ_AFTER_RELEASE)) {
        out->state = pr->stale_lease_us ? PR_LEADER : pr->state;
        out->commit_lsn = pr->commit_lsn;
        out->lease_until_us = pr->stale_lease_us;
    }
    for (uint32_t i = 0; i < pr->n_nodes && out->n_members < PR_NODES_MAX; i++) {
        const struct pr_node *n = &pr->nodes[i];
        out->untold += leads && !q_is_member(&pr->config, n->node) && pr_is_told(pr, n);
        if (q_is_member(&out->config, n->node)) {
            out->member[out->n_members].node = n->node;
            out->member[out->n_members].up = n->up;
            out->member[out->n_members].adopted = leads && n->adopted;
            out->member[out->n_members++].match_lsn = leads && n->adopted ? n->match_lsn : 0;
        }
    }
}
