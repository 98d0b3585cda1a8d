/*
 * proposer_log.c - a leader's log goes to the safekeepers: APPEND, catch-up, repetition.
 *
 * Every safekeeper has sent_lsn (where the next APPEND to it begins) and match_lsn (what it
 * acknowledged as durable); the difference is bounded by the window. On a lost connection, and when
 * nothing moved for resend_us, sent_lsn goes back to match_lsn. A safekeeper whose sent_lsn lies
 * below the tail is fed from the log of another one that has it: FETCH, DATA, APPEND. When no other
 * keeps its log from there on, what it is handed on is the begin of the log that is kept (its
 * base), once we know that to be committed.
 *
 * A record larger than a fragment goes in fragments: part_sent counts within the record at
 * sent_lsn, part_have what the safekeeper says it has staged of the one at match_lsn. That much
 * need not be sent again; for what is committed it counts for nothing.
 */
#include "compute-vfs/proposer_core.h"

#include "common/assert.h"
#include "common/mutation.h"

/* Where we are with a safekeeper, as one number: how many bytes are on their way to it. */
static uint64_t on_way(const struct pr_node *n)
{
    return n->sent_lsn + n->part_sent - n->match_lsn - n->part_have;
}

void pr_rewind(struct pr_node *n, bool forget)
{
    if (forget) { /* it may have started anew, and then has what is on its disk, nothing staged */
        n->written_lsn = 0;
        n->part_have = 0;
    }
    n->sent_lsn = n->match_lsn;
    n->part_sent = n->part_have;
    n->newest_end = n->before_end = 0; /* those APPENDs count as lost */
}

bool pr_may_be_member(const struct pr_proposer *pr, const struct pr_node *n)
{
    return q_is_member(&pr->config, n->node) ||
           (pr->commit_lsn < pr->config_lsn && q_is_member(&pr->config_before, n->node));
}

/* M16: so far every member of the configuration holds our log, and it is committed. */
static lsn_t history_floor(const struct pr_proposer *pr)
{
    lsn_t floor = pr->commit_lsn;
    if (co_mutated(FLOOR_OF_A_QUORUM)) {
        return floor;
    }
    if (floor < pr->config_lsn && pr->config_before.n == 0) {
        return 0; /* the donor's configuration may come to nothing, and we do not know the one
                     before */
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_node *n = &pr->nodes[i];
        if (pr_may_be_member(pr, n) && (!n->adopted || n->match_lsn < floor)) {
            floor = n->adopted ? n->match_lsn : 0;
        }
    }
    return floor;
}

/* An APPEND to `n`, with all but its records. */
static struct q_msg *begin_append(struct pr_proposer *pr, struct pr_node *n, uint64_t now)
{
    struct q_msg *m = pr_send(pr, n, FRAME_APPEND);
    if (!m) {
        return NULL;
    }
    m->nonce = pr->nonce;
    m->begin_lsn = n->sent_lsn;
    m->commit_lsn = pr->commit_lsn;
    m->floor_lsn = history_floor(pr);
    m->sent_us = now;
    n->sent_us = now;
    n->told_commit = pr->commit_lsn;
    pr_known_append(pr, n, m, now);
    return m;
}

static bool send_append(struct pr_proposer *pr, struct pr_node *n, struct co_span records,
                        uint64_t now)
{
    struct q_msg *m = begin_append(pr, n, now);
    if (!m) {
        return false;
    }
    m->want_received =
        records.len > 0 && (pr->o.want_received || n->sent_lsn < pr->want_received_lsn);
    m->payload = records;
    if (on_way(n) == 0 && records.len > 0) {
        n->progress_us = now;
    }
    n->sent_lsn += records.len;
    if (records.len > 0) {
        n->before_end = n->newest_end;
        n->newest_end = n->sent_lsn;
    }
    return true;
}

void pr_tell_writing(struct pr_proposer *pr, uint64_t now)
{
    for (uint32_t i = 0; i < pr->n_nodes && pr->announced; i++) {
        struct pr_node *n = &pr->nodes[i];
        struct q_msg *m = n->adopted && !n->broken ? begin_append(pr, n, now) : NULL;
        if (m) {
            m->writing = true;
        }
    }
}

void pr_hurry(struct pr_proposer *pr, uint64_t now)
{
    for (uint32_t i = 0; i < pr->n_nodes && pr->announced; i++) {
        struct pr_node *n = &pr->nodes[i];
        if (n->adopted && !n->broken && n->match_lsn < n->sent_lsn) {
            (void)begin_append(pr, n, now); /* lost: the sync comes a little later */
        }
    }
}

/* The next bytes of the record of `total` bytes at n->sent_lsn. */
static bool send_fragment(struct pr_proposer *pr, struct pr_node *n, struct co_span bytes,
                          uint64_t spilled, uint64_t total, uint64_t now)
{
    struct q_msg *m = begin_append(pr, n, now);
    if (!m) {
        return false;
    }
    pr->out->a[pr->out->n - 1].spilled = spilled;
    m->want_received = pr->o.want_received && n->part_sent + bytes.len == total;
    m->fragment = true;
    m->fragment_at = n->part_sent;
    m->payload = bytes;
    if (on_way(n) == 0) {
        n->progress_us = now;
    }
    n->part_sent += bytes.len;
    if (n->part_sent == total) {
        n->sent_lsn += total;
        n->part_sent = 0;
    }
    return true;
}

/* The same from the tail. */
static bool send_part(struct pr_proposer *pr, struct pr_node *n, const struct pr_chunk *c,
                      uint64_t total, uint64_t now)
{
    if (n->part_sent >= total) {
        n->part_sent = n->part_have = 0; /* it claims to have more than there is */
    }
    uint64_t left = total - n->part_sent;
    size_t len = left < pr->o.fragment_bytes ? (size_t)left : pr->o.fragment_bytes;
    const uint8_t *at = c->spilled ? NULL : c->data + (n->sent_lsn - c->begin) + n->part_sent;
    return send_fragment(pr, n, co_span_of(at, len), c->spilled, total, now);
}

/* Is `a` better to ask for what n lacks than `b`? Whoever was asked in vain is the last choice, and
 * one that has dropped that part the one before. */
static bool better_source(const struct pr_node *n, const struct pr_node *a, const struct pr_node *b)
{
    bool vain_a = a->node == n->fetch_node, vain_b = b->node == n->fetch_node;
    bool keeps_a = a->base_lsn <= n->sent_lsn, keeps_b = b->base_lsn <= n->sent_lsn;
    return vain_a != vain_b ? vain_b : keeps_a != keeps_b ? keeps_a : a->match_lsn > b->match_lsn;
}

static void fetch_for(struct pr_proposer *pr, struct pr_node *n, uint64_t now)
{
    if (n->fetch_node != 0 && now - n->fetch_us < pr->o.resend_us) {
        return;
    }
    const struct pr_node *best = NULL;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_node *h = &pr->nodes[i];
        if (h != n && h->up && h->adopted && h->match_lsn > n->sent_lsn &&
            (!best || better_source(n, h, best))) {
            best = h;
        }
    }
    struct q_msg *m = best ? pr_send(pr, best, FRAME_FETCH) : NULL;
    if (!m) {
        return;
    }
    lsn_t to = pr_tail_begin(pr);
    m->from_lsn = n->sent_lsn;
    m->to_lsn = best->match_lsn < to ? best->match_lsn : to;
    m->fragment_at = n->part_sent;
    n->fetch_node = best->node;
    n->fetch_us = now;
    if (on_way(n) == 0) {
        n->progress_us = now;
    }
}

/* Two APPENDs are on their way, one that it syncs and one that it syncs next: a third would wait
 * there. Here it becomes one with what is committed meanwhile. An answer ends it, and so does a
 * rewind, after which none is on its way. What waits here waits for an answer to what was sent, so
 * it is sent again when that does not come. */
static bool gathers(const struct pr_proposer *pr, const struct pr_node *n)
{
    co_assert(n->before_end <= n->newest_end && n->newest_end <= n->sent_lsn);
    return n->before_end > pr_larger(n->match_lsn, n->written_lsn) &&
           n->newest_end == n->sent_lsn && pr->tip_lsn - n->sent_lsn < PR_GATHER_BYTES;
}

/* As much as the window allows. */
static void pump(struct pr_proposer *pr, struct pr_node *n, uint64_t now)
{
    while (n->sent_lsn < pr->tip_lsn && on_way(n) < pr->o.window_bytes) {
        if (n->sent_lsn < pr_tail_begin(pr)) {
            fetch_for(pr, n, now);
            return;
        }
        if (gathers(pr, n)) {
            return;
        }
        const struct pr_chunk *c = pr_tail_chunk(pr, n->sent_lsn);
        uint64_t total = pr_tail_record_bytes(c, n->sent_lsn);
        if (total == 0) {
            n->broken = true;
            n->adopted = false;
            n->match_lsn = n->sent_lsn = n->written_lsn = 0;
            n->part_sent = n->part_have = 0;
            n->lease_until_us = 0;
            return;
        }
        bool parts = c->spilled || n->part_sent > 0 ||
                     pr_tail_is_large(pr, c->data + (n->sent_lsn - c->begin));
        if (parts ? !send_part(pr, n, c, total, now)
                  : !send_append(pr, n, pr_tail_records(pr, c, n->sent_lsn), now)) {
            return;
        }
    }
}

/* A fragment goes on as it is. Whether the record is sound the safekeeper finds out, which checks
 * all of it; here it is only seen to that it is the record of our log at its place. */
static int on_fragment(struct pr_proposer *pr, struct pr_node *from, const struct q_msg *m,
                       uint64_t now)
{
    struct q_history h = {pr->history.n, pr->history.e};
    struct wal_header r;
    if (m->to_lsn <= m->from_lsn || m->to_lsn > pr->tip_lsn ||
        m->fragment_at >= m->to_lsn - m->from_lsn ||
        m->payload.len > m->to_lsn - m->from_lsn - m->fragment_at) {
        return 0;
    }
    if (m->fragment_at == 0 &&
        (wal_peek(m->payload, &r) || r.begin_lsn != m->from_lsn || r.end_lsn != m->to_lsn ||
         (r.begin_lsn >= h.e[0].start && q_term_at(&h, r.begin_lsn) != r.term))) {
        return 0;
    }
    pr->fetched.len = 0;
    int rc = co_buf_append(&pr->fetched, m->payload.data, m->payload.len);
    if (rc) {
        return rc;
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        struct pr_node *n = &pr->nodes[i];
        if (n->fetch_node == from->node && n->adopted && n->sent_lsn == m->from_lsn &&
            n->part_sent == m->fragment_at) {
            n->fetch_node = 0;
            (void)send_fragment(pr, n, co_buf_span(&pr->fetched), 0, m->to_lsn - m->from_lsn, now);
        }
    }
    return 0;
}

/* A safekeeper keeps its log from its base on, and was asked for what lies below. It has adopted
 * our history, so the base is a place of our log; who waits may begin there when it is committed.
 * The one that is told answers with its new end, or is told again as a FETCH would be. */
static void on_base(struct pr_proposer *pr, struct pr_node *from, const struct q_msg *m,
                    uint64_t now)
{
    from->base_lsn = m->base_lsn;
    if (!from->adopted || m->base_lsn > from->match_lsn ||
        (m->base_lsn > pr->commit_lsn && !co_mutated(BASE_UNCOMMITTED))) {
        return;
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        struct pr_node *n = &pr->nodes[i];
        if (n->fetch_node != from->node || !n->adopted || n->sent_lsn != m->from_lsn ||
            n->sent_lsn >= m->base_lsn) {
            continue;
        }
        struct q_msg *append = begin_append(pr, n, now);
        if (append) {
            append->base_lsn = m->base_lsn;
            append->digest = m->digest;
            append->config = m->config;
        }
    }
}

/* What was fetched goes on to whoever waits for it. */
int pr_on_data(struct pr_proposer *pr, struct pr_node *from, const struct q_msg *m, uint64_t now)
{
    if (!pr_leads(pr) || m->term != pr->term) {
        return 0;
    }
    if (m->base_lsn) {
        on_base(pr, from, m, now);
        return 0;
    }
    if (m->payload.len == 0) {
        return 0;
    }
    if (m->fragment) {
        return on_fragment(pr, from, m, now);
    }
    struct q_history h = {pr->history.n, pr->history.e};
    struct wal_header r;
    size_t good = 0;
    while (good < m->payload.len) {
        struct co_span rest = co_span_of(m->payload.data + good, m->payload.len - good);
        if (wal_check(rest, &r) || r.begin_lsn != m->from_lsn + good || r.end_lsn > pr->tip_lsn ||
            (r.begin_lsn >= h.e[0].start && q_term_at(&h, r.begin_lsn) != r.term)) {
            break;
        }
        good += (size_t)r.total_bytes;
    }
    if (good == 0) {
        return 0;
    }
    pr->fetched.len = 0;
    int rc = co_buf_append(&pr->fetched, m->payload.data, good);
    if (rc) {
        return rc;
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        struct pr_node *n = &pr->nodes[i];
        if (n->fetch_node == from->node && n->sent_lsn == m->from_lsn && n->part_sent == 0 &&
            n->adopted) {
            n->fetch_node = 0;
            (void)send_append(pr, n, co_buf_span(&pr->fetched), now);
        }
    }
    return 0;
}

static void drive_node(struct pr_proposer *pr, struct pr_node *n, uint64_t now)
{
    if (n->broken) {
        return;
    }
    if (!n->adopted || (co_mutated(MATCH_FROM_VOTE) && n->elected_us == 0)) {
        if (n->elected_us == 0 || now - n->elected_us >= pr->o.resend_us) {
            pr_send_elected(pr, n, now);
        }
        return;
    }
    if (on_way(n) > 0 && now - n->progress_us >= pr->o.resend_us) {
        pr_rewind(n, false);
        n->fetch_node = 0;
        n->progress_us = now;
    }
    pump(pr, n, now);
    if (n->broken) {
        return;
    }
    bool silent = n->sent_us == 0 || now - n->sent_us >= pr->o.renew_us;
    bool unasked = n->sent_us < pr->up_us; /* since one came up: see proposer_commit.c, Together */
    bool at_once = pr->calm >= PR_CALM && pr->commit_lsn == pr->tip_lsn;
    bool untold =
        n->told_commit < pr->commit_lsn && (at_once || now - pr->commit_moved_us >= PR_TELL_US);
    if (silent || untold || unasked) {
        (void)send_append(pr, n, (struct co_span){0}, now);
    }
}

static bool stuck(const struct pr_proposer *pr)
{
    return pr->state == PR_RECOVER || pr->commit_lsn < pr->tip_lsn;
}

/* In PR_RECOVER nobody waits for a commit, but a candidate that does not get on must let others. */
static uint64_t patience_us(const struct pr_proposer *pr)
{
    return pr->state == PR_LEADER || pr->o.progress_us ? pr->o.progress_us : 4 * pr->o.resend_us;
}

void pr_drive(struct pr_proposer *pr, uint64_t now)
{
    if (!pr_leads(pr)) {
        return;
    }
    uint64_t patience = patience_us(pr);
    if (patience && stuck(pr) && now - pr->moved_us >= patience) { /* R8 */
        bool again = !pr->announced && (pr->want_lead || pr->settling), settling = pr->settling;
        pr_step_down(pr, "no safekeeper acknowledged anything for too long");
        if (again) {
            pr->settling = settling;
            pr_campaign(pr, now, pr_random(pr, pr->o.resend_us));
        }
        return;
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        if (pr_is_driven(pr, &pr->nodes[i])) {
            drive_node(pr, &pr->nodes[i], now);
        }
    }
    pr_try_release(pr, now);
}

uint64_t pr_log_deadline(const struct pr_proposer *pr)
{
    uint64_t at = PR_NEVER;
    if (!pr_leads(pr)) {
        return at;
    }
    if (stuck(pr) && patience_us(pr)) {
        at = pr->moved_us + patience_us(pr);
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_node *n = &pr->nodes[i];
        if (!pr_is_driven(pr, n)) {
            continue;
        }
        uint64_t t;
        if (!n->adopted) {
            t = n->elected_us + pr->o.resend_us;
        } else {
            t = n->sent_us + pr->o.renew_us;
            if (on_way(n) > 0 && n->progress_us + pr->o.resend_us < t) {
                t = n->progress_us + pr->o.resend_us;
            }
            if (n->fetch_node && n->fetch_us + pr->o.resend_us < t) {
                t = n->fetch_us + pr->o.resend_us;
            }
            if (n->told_commit < pr->commit_lsn && pr->commit_moved_us + PR_TELL_US < t) {
                t = pr->commit_moved_us + PR_TELL_US;
            }
        }
        at = t < at ? t : at;
    }
    return at;
}
