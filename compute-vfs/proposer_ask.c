/*
 * proposer_ask.c - the two questions: where does the log end (strict position), and was the record
 * that began at b in term t committed (resolve).
 *
 * Both are asked in rounds of READ_POS; one round serves every question that was there when it
 * began. The first round for a position goes to the quorum that answered fastest lately, and to the
 * others only if that takes long: a quorum is enough, and who need not answer has more time for
 * commits. Rounds that repeat, and those that ask for histories, go to all.
 *
 * Position. Of the answers of a quorum the most advanced, by (last log term, flush LSN), bounds the
 * log: P. Every commit acknowledged before the round began is at or below P. The answer is a commit
 * LSN at or above P that some safekeeper reports. Not the largest commit LSN: a commit may have
 * been acknowledged that no safekeeper knows to be one yet. And a flush LSN that a quorum has is
 * not taken for committed: a lease holder may not know so much yet.
 *
 * Resolve, given a log that is known to be committed up to C, with its history:
 *   1  C > b and its term at b is t            committed
 *   2  C > b and its term at b is another      not committed, and never will be
 *   3  C <= b, but a term t' > t that starts at or below b is itself committed: we lead it and a
 *      quorum has adopted it, or a quorum of POS says term == last log term == t' for one and the
 *      same t'                                 not committed, and never will be
 *   else it is open. Less than that is no evidence: a newer term on one safekeeper, or different
 *   newer terms on several, can be overtaken by a third that has the record.
 *
 * A question that stays open for a lease (or that nobody's lease stands against) is settled by an
 * election of our own.
 */
#include "compute-vfs/proposer_core.h"

#include <stdlib.h>

#include "common/assert.h"
#include "common/mutation.h"

/* ---- the list ----------------------------------------------------------------------------------
 */

int pr_ask_add(struct pr_proposer *pr, const struct pr_event *event)
{
    if (pr->n_asks == pr->cap_asks) {
        uint32_t cap = pr->cap_asks ? 2 * pr->cap_asks : 8;
        struct pr_ask *a = realloc(pr->asks, cap * sizeof *a);
        if (!a) {
            return co_fail(CO_ERR_NOMEM, "no memory for one more question to the quorum");
        }
        pr->asks = a;
        pr->cap_asks = cap;
    }
    pr->asks[pr->n_asks++] = (struct pr_ask){.req = event->req,
                                             .resolve = event->kind == PR_EV_RESOLVE,
                                             .term = event->resolve_term,
                                             .lsn = event->resolve_lsn,
                                             .since_us = event->now_us,
                                             .min_round = pr->round + 1};
    pr->next_round_us = event->now_us;
    pr->reask_us = PR_REASK_US;
    return 0;
}

void pr_ask_cancel(struct pr_proposer *pr, uint64_t req)
{
    for (uint32_t i = 0; i < pr->n_asks; i++) {
        if (pr->asks[i].req == req) {
            pr->asks[i--] = pr->asks[--pr->n_asks];
        }
    }
}

/* ---- rounds ------------------------------------------------------------------------------------
 */

static uint64_t round_patience_us(const struct pr_proposer *pr)
{
    uint64_t t = pr->o.resend_us / 4;
    return t < 10000 ? 10000 : t;
}

void pr_ask_node(struct pr_proposer *pr, struct pr_node *n, uint64_t now)
{
    struct q_msg *m = pr_send(pr, n, FRAME_READ_POS);
    n->asked = true;
    n->asked_us = now;
    if (m) {
        m->term = 0;
        m->read_id = pr->round;
        m->want_history = pr->round_histories;
    }
}

static bool is_asked(const struct pr_proposer *pr, const struct pr_node *n, uint64_t arg)
{
    (void)pr;
    (void)arg;
    return n->asked;
}

static struct pr_node *fastest_unasked(struct pr_proposer *pr)
{
    struct pr_node *best = NULL;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        struct pr_node *n = &pr->nodes[i];
        if (n->up && !n->asked && q_is_member(&pr->hint, n->node) &&
            (!best || n->answer_us < best->answer_us)) {
            best = n;
        }
    }
    return best;
}

static void ask_rest(struct pr_proposer *pr, uint64_t now)
{
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        struct pr_node *n = &pr->nodes[i];
        if (!n->asked) {
            pr_ask_node(pr, n, now);
        } else if (pr->round_rest && n->pos.round < pr->round) {
            n->answer_us = now - n->asked_us; /* at least */
        }
    }
    pr->round_rest = false;
}

static void begin_round(struct pr_proposer *pr, uint64_t now)
{
    bool again = pr->reask_us > PR_REASK_US;
    pr->round = now > pr->round ? now : pr->round + 1;
    pr->round_open = true;
    pr->round_us = now;
    pr->round_rest = pr->round_histories = false;
    for (uint32_t i = 0; i < pr->n_asks; i++) {
        pr->round_histories |= pr->asks[i].resolve;
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        pr->nodes[i].asked = false;
    }
    while (!again && !pr->round_histories && !pr->round_rest) {
        struct pr_node *n = fastest_unasked(pr);
        if (!n) {
            break; /* no quorum is connected: whoever comes up is asked then */
        }
        pr_ask_node(pr, n, now);
        pr->round_rest = pr_quorum(pr, &pr->hint, is_asked, 0);
    }
    if (!pr->round_rest) {
        ask_rest(pr, now);
    }
}

int pr_on_pos(struct pr_proposer *pr, struct pr_node *n, const struct q_msg *m, uint64_t now)
{
    n->lease_info_us = now;
    n->lease_held = m->lease_held;
    if (!m->lease_held) {
        pr->in_use_until_us = 0;
    }
    if (pr->state == PR_CAMPAIGN && pr->phase == PR_PHASE_ASK && m->lease_held) {
        pr_send_vote(pr, n, now); /* refused, and so put on the list */
    }
    for (uint32_t i = 0; i < pr->n_asks; i++) {
        if (m->commit_lsn > pr->asks[i].max_commit) {
            pr->asks[i].max_commit = m->commit_lsn;
        }
    }
    if (m->suspect_lsn && !co_mutated(SUSPECT_COUNTS)) {
        if (m->read_id > n->pos.doubt_round && m->read_id <= pr->round) {
            n->pos.doubt_round = m->read_id;
        }
        return 0; /* it may have forgotten what was committed with its help */
    }
    if (m->read_id == 0 || m->read_id < n->pos.round || m->read_id > pr->round) {
        return 0;
    }
    bool with_history = m->history.n > 0 && q_history_valid(&m->history);
    if (with_history) {
        int rc = pr_history_set(&n->pos.history, &m->history, 0);
        if (rc) {
            return rc;
        }
    }
    if (m->read_id == pr->round && n->pos.round < pr->round) {
        n->answer_us = now - n->asked_us;
    }
    n->pos.known = true;
    n->pos.with_history = with_history;
    n->pos.round = m->read_id;
    n->pos.term = m->term;
    n->pos.last_log_term = m->last_log_term;
    n->pos.flush_lsn = m->flush_lsn;
    n->pos.commit_lsn = m->commit_lsn;
    n->pos.lease_held = m->lease_held;
    n->pos.config = m->config;
    n->pos.known_commit = m->known_commit;
    return 0;
}

/* A round's number is when it began, or a little more. Answers to rounds that lie further apart
 * than a lease do not count together: one may be of before its node heard of a commit, the other of
 * after its disk went back behind that. */
static uint64_t recent(const struct pr_proposer *pr, uint64_t round, uint64_t now)
{
    uint64_t oldest = now > pr->o.lease_us ? now - pr->o.lease_us : 0;
    return round > oldest ? round : oldest;
}

/* Answers to `round` or a later one. They need not be of one and the same: each was given after the
 * question came. */
static bool answered(const struct pr_proposer *pr, const struct pr_node *n, uint64_t round)
{
    (void)pr;
    return n->pos.known && n->pos.round >= round;
}

static bool answered_or_doubts(const struct pr_proposer *pr, const struct pr_node *n,
                               uint64_t round)
{
    return answered(pr, n, round) || n->pos.doubt_round >= round;
}

static bool answered_no_lease(const struct pr_proposer *pr, const struct pr_node *n, uint64_t round)
{
    return answered(pr, n, round) && !n->pos.lease_held;
}

static const struct wal_config *config_of(const struct pr_proposer *pr, const struct pr_pos *p)
{
    return p->config.version ? &p->config : &pr->hint;
}

/* The most advanced of the answers since `round`, when they are a quorum's; NULL: not yet. */
static const struct pr_pos *quorum_since(const struct pr_proposer *pr, uint64_t round)
{
    const struct pr_pos *best = NULL;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_pos *p = &pr->nodes[i].pos;
        if (answered(pr, &pr->nodes[i], round) &&
            (!best || p->last_log_term > best->last_log_term ||
             (p->last_log_term == best->last_log_term && p->flush_lsn > best->flush_lsn))) {
            best = p;
        }
    }
    return best && pr_quorum(pr, config_of(pr, best), answered, round) ? best : NULL;
}

/* Nor may it end below what one of them, or this proposer itself, knows to be committed, though its
 * own log does, or is another one there: the one who acknowledged that may be the other, whose disk
 * went back in time since. */
static lsn_t beyond(const struct pr_proposer *pr, uint64_t round, lsn_t lsn)
{
    if (!pr_known_reaches(pr, lsn)) {
        lsn = q_known_commit(pr->known, pr->n_known);
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_node *n = &pr->nodes[i];
        if (answered(pr, n, round) && n->pos.known_commit > lsn) {
            lsn = n->pos.known_commit;
        }
    }
    return lsn;
}

/* Now it is known for each question how far the log may have reached when it came. */
static void learn_bounds(struct pr_proposer *pr, uint64_t now)
{
    for (uint32_t i = 0; i < pr->n_asks; i++) {
        struct pr_ask *a = &pr->asks[i];
        uint64_t since = recent(pr, a->min_round, now);
        const struct pr_pos *top = a->resolve ? NULL : quorum_since(pr, since);
        lsn_t p = top ? beyond(pr, since, top->flush_lsn) : 0;
        if (top && (!a->have_p || p < a->p)) {
            a->have_p = true;
            a->p = p;
        }
    }
}

static void close_round(struct pr_proposer *pr, uint64_t now)
{
    pr->round_open = false;
    pr->closed_round = pr->round;
    pr->next_round_us = now + pr->reask_us;
    if (pr->reask_us < PR_REASK_MAX_US) {
        pr->reask_us *= 2;
    }
    for (uint32_t i = 0; i < pr->n_asks; i++) {
        if (pr->asks[i].min_round > pr->round) {
            pr->next_round_us = now; /* it came too late for this one */
        }
    }
}

/* ---- position ----------------------------------------------------------------------------------
 */

static bool try_position(struct pr_proposer *pr, const struct pr_ask *a, uint64_t now)
{
    lsn_t at = a->max_commit;
    if (pr->state == PR_LEADER && now < pr_lease_until(pr)) {
        at = pr->commit_lsn;
    } else if (co_mutated(READ_MAX_COMMIT) && a->have_p) {
        /* the mistake: without asking whether it reaches P */
    } else {
        if (pr->state == PR_LEADER && pr->commit_lsn > at) {
            at = pr->commit_lsn;
        }
        if (!a->have_p || at < a->p) {
            return false;
        }
    }
    struct pr_action *out = pr_emit(pr, PR_POSITION);
    out->req = a->req;
    out->lsn = at;
    return true;
}

/* ---- resolve -----------------------------------------------------------------------------------
 */

static struct q_history history_of(const struct pr_history *h)
{
    return (struct q_history){h->n, h->e};
}

/* Rules 1 and 2, for a history that is committed beyond b. false: it does not reach back so far. */
static bool by_history(const struct pr_ask *a, const struct q_history *h, enum pr_verdict *out)
{
    if (h->n == 0 || h->e[0].start > a->lsn) {
        return false;
    }
    *out = q_term_at(h, a->lsn) == a->term ? PR_COMMITTED : PR_NOT_COMMITTED;
    return true;
}

/* Does the history name `term`, starting at or below lsn? */
static bool starts_by(const struct q_history *h, term_t term, lsn_t lsn)
{
    for (uint32_t i = 0; i < h->n; i++) {
        if (h->e[i].term == term) {
            return h->e[i].start <= lsn;
        }
    }
    return false;
}

/* Rule 3 from POS answers: a quorum says term == last log term == t' for the same t' > t. */
static bool by_adoption(struct pr_proposer *pr, const struct pr_ask *a, term_t newer)
{
    uint32_t set[PR_NODES_MAX], n = 0;
    const struct pr_pos *witness = NULL;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_pos *p = &pr->nodes[i].pos;
        struct q_history h = history_of(&p->history);
        if (p->known && p->with_history && p->term == newer && p->last_log_term == newer &&
            starts_by(&h, newer, a->lsn)) {
            set[n++] = pr->nodes[i].node;
            witness = p;
        }
    }
    return witness && q_is_quorum(config_of(pr, witness), set, n);
}

/* The tempting ones: any newer term below b in one history, or in the histories of a quorum. */
static bool by_mistake(struct pr_proposer *pr, const struct pr_ask *a)
{
    uint32_t set[PR_NODES_MAX], n = 0;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_pos *p = &pr->nodes[i].pos;
        struct q_history h = history_of(&p->history);
        bool newer = false;
        for (uint32_t k = 0; p->known && p->with_history && k < h.n; k++) {
            newer |= h.e[k].term > a->term && h.e[k].start <= a->lsn;
        }
        if (newer) {
            set[n++] = pr->nodes[i].node;
        }
    }
    return n > 0 && (co_mutated(RESOLVE_FROM_ONE) || q_is_quorum(&pr->hint, set, n));
}

static bool tell(struct pr_proposer *pr, const struct pr_ask *a, enum pr_verdict verdict,
                 const char *reason)
{
    struct pr_action *out = pr_emit(pr, PR_RESOLVED);
    out->req = a->req;
    out->verdict = verdict;
    out->reason = reason;
    return true;
}

static const char too_old[] = "the commit is older than the history that the safekeepers keep";

static bool resolve_as_leader(struct pr_proposer *pr, const struct pr_ask *a)
{
    struct q_history h = history_of(&pr->history);
    enum pr_verdict v;
    if (pr->commit_lsn > a->lsn) {
        return by_history(a, &h, &v) ? tell(pr, a, v, NULL) : tell(pr, a, PR_UNKNOWN, too_old);
    }
    if (pr->term > a->term && pr->start_lsn <= a->lsn) {
        return tell(pr, a, PR_NOT_COMMITTED, NULL);
    }
    return false;
}

static bool reaches_back(const struct pr_proposer *pr, const struct pr_node *n, uint64_t lsn)
{
    (void)pr;
    return n->pos.known && n->pos.with_history && n->pos.commit_lsn > lsn &&
           n->pos.history.e[0].start > lsn;
}

static bool try_resolve(struct pr_proposer *pr, const struct pr_ask *a)
{
    enum pr_verdict v;
    if (pr->state == PR_LEADER && resolve_as_leader(pr, a)) {
        return true;
    }
    if (co_mutated(UNKNOWN_IS_FAILED) ||
        ((co_mutated(RESOLVE_FROM_ONE) || co_mutated(RESOLVE_HISTORIES)) && by_mistake(pr, a))) {
        return tell(pr, a, PR_NOT_COMMITTED, NULL);
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_pos *p = &pr->nodes[i].pos;
        struct q_history h = history_of(&p->history);
        if (!p->known || !p->with_history) {
            continue;
        }
        if (p->commit_lsn > a->lsn && by_history(a, &h, &v)) {
            return tell(pr, a, v, NULL);
        }
        if (p->commit_lsn <= a->lsn && p->last_log_term > a->term &&
            by_adoption(pr, a, p->last_log_term)) {
            return tell(pr, a, PR_NOT_COMMITTED, NULL);
        }
    }
    if (pr_quorum(pr, &pr->hint, reaches_back, a->lsn)) {
        return tell(pr, a, PR_UNKNOWN, too_old);
    }
    return false;
}

/* ---- all of it, after every event --------------------------------------------------------------
 */

static void answer(struct pr_proposer *pr, uint64_t now)
{
    for (uint32_t i = 0; i < pr->n_asks; i++) {
        const struct pr_ask *a = &pr->asks[i];
        if (a->resolve ? try_resolve(pr, a) : try_position(pr, a, now)) {
            pr->asks[i--] = pr->asks[--pr->n_asks];
        }
    }
}

/* The tail is open, or a log is in doubt without which there is no majority: who can close it, or
 * make it whole? If nobody does for long, we do. */
static void settle(struct pr_proposer *pr, const struct wal_config *config, uint64_t since,
                   uint64_t now)
{
    if (pr->state != PR_FOLLOW) {
        return;
    }
    uint64_t patience = pr->o.lease_us;
    if (pr_quorum(pr, config, answered_no_lease, since)) {
        patience /= 8;
    }
    for (uint32_t i = 0; i < pr->n_asks; i++) {
        if (now - pr->asks[i].since_us >= patience) {
            pr->settling = true;
            pr_campaign(pr, now, pr_random(pr, pr->o.resend_us / 8));
            return;
        }
    }
}

/* Nobody asks any more: the lease that was only for that goes back. */
static void end_settling(struct pr_proposer *pr, uint64_t now)
{
    pr->settling = false;
    if (pr->want_lead) {
        return;
    }
    if (pr->state == PR_LEADER) {
        pr->releasing = true;
        pr_try_release(pr, now);
    } else if (pr->state != PR_FOLLOW) {
        pr_step_down(pr, "released");
    }
}

void pr_ask_tick(struct pr_proposer *pr, uint64_t now)
{
    if (pr->n_asks > 0) {
        uint64_t since = recent(pr, pr->closed_round + 1, now);
        const struct pr_pos *top = pr->round_open ? quorum_since(pr, since) : NULL;
        if (top) {
            learn_bounds(pr, now);
            close_round(pr, now);
        }
        answer(pr, now);
        if (pr->n_asks > 0 && top) {
            settle(pr, config_of(pr, top), since, now);
        } else if (pr->n_asks > 0 && pr->round_open &&
                   pr_quorum(pr, &pr->hint, answered_or_doubts, since)) {
            settle(pr, &pr->hint, since, now);
        }
    }
    if (pr->n_asks == 0) {
        pr->round_open = false;
        pr->closed_round = pr->round;
        if (pr->settling) {
            end_settling(pr, now);
        }
        return;
    }
    if (pr->round_open ? now >= pr->round_us + round_patience_us(pr) : now >= pr->next_round_us) {
        begin_round(pr, now);
    } else if (pr->round_open && pr->round_rest && now >= pr->round_us + PR_REST_US) {
        ask_rest(pr, now);
    }
}

uint64_t pr_ask_deadline(const struct pr_proposer *pr)
{
    if (pr->n_asks == 0) {
        return PR_NEVER;
    }
    if (pr->round_open && pr->round_rest) {
        return pr->round_us + PR_REST_US;
    }
    return pr->round_open ? pr->round_us + round_patience_us(pr) : pr->next_round_us;
}
