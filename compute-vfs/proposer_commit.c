/*
 * proposer_commit.c - what safekeepers acknowledge, and what follows from it: what is committed
 * (R3), how long a lease is ours (S5).
 *
 * R3: match counts only from an ACK of this term, nonce and connection, that is after adoption; q
 * is the largest LSN that a quorum has; it is committed only from our own start on.
 *
 * Together. What one safekeeper says after its disk went back in time must not complete what others
 * said before: in between it may have elected somebody else, and has forgotten that. A disk goes
 * back only while its safekeeper is down, so what counts with one that has come up since was asked
 * after that: one of the others has heard of whoever was elected, and would have said so.
 */
#include "compute-vfs/proposer_core.h"

#include "common/mutation.h"

static bool has_match(const struct pr_proposer *pr, const struct pr_node *n, uint64_t lsn)
{
    (void)pr;
    return n->adopted && n->match_lsn >= lsn;
}

static bool has_written(const struct pr_proposer *pr, const struct pr_node *n, uint64_t lsn)
{
    (void)pr;
    return n->adopted && (n->match_lsn >= lsn || n->written_lsn >= lsn);
}

/* Have those for which `has` holds a quorum of `config`, when only those count together that have
 * acknowledged something sent since the last of them came up? */
static bool quorum_together(const struct pr_proposer *pr, const struct wal_config *config,
                            bool (*has)(const struct pr_proposer *, const struct pr_node *,
                                        uint64_t),
                            uint64_t arg)
{
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        uint64_t last_up_us = pr->nodes[i].up_us;
        uint32_t set[PR_NODES_MAX], n = 0;
        if (!has(pr, &pr->nodes[i], arg)) {
            continue;
        }
        for (uint32_t k = 0; k < pr->n_nodes; k++) {
            const struct pr_node *one = &pr->nodes[k];
            bool then = one->up_us <= last_up_us && one->acked_us >= last_up_us;
            if (has(pr, one, arg) && (then || co_mutated(ACKS_OF_BEFORE))) {
                set[n++] = one->node;
            }
        }
        if (q_is_quorum(config, set, n)) {
            return true;
        }
    }
    return false;
}

static bool has_lease(const struct pr_proposer *pr, const struct pr_node *n, uint64_t until)
{
    (void)pr;
    return n->lease_until_us >= until;
}

/* End of the lease that a quorum gives us; 0: none. */
uint64_t pr_lease_until(const struct pr_proposer *pr)
{
    if (co_mutated(READ_WITHOUT_LEASE)) {
        return PR_NEVER;
    }
    uint64_t best = 0;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        uint64_t t = pr->nodes[i].lease_until_us;
        if (t > best && quorum_together(pr, &pr->config, has_lease, t)) {
            best = t;
        }
    }
    return best;
}

void pr_announce(struct pr_proposer *pr)
{
    if (pr->announced || !pr->want_lead) {
        return; /* only an open question wanted it */
    }
    pr->announced = true;
    struct pr_action *a = pr_emit(pr, PR_READY);
    a->term = pr->term;
    a->lsn = pr->tip_lsn;
    a->digest = pr->tip_digest;
    a->config = pr->config;
    a->time_us = pr->time_us;
}

/* What counts for quorums. */
static const struct wal_config *config_in_force(const struct pr_proposer *pr)
{
    bool early = co_mutated(CONFIG_ONCE_COMMITTED) && pr->commit_lsn < pr->config_lsn &&
                 pr->config_before.n > 0 && pr->config_lsn > pr->start_lsn;
    return early ? &pr->config_before : &pr->config;
}

void pr_advance(struct pr_proposer *pr, uint64_t now)
{
    lsn_t received = pr->received_lsn;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_node *n = &pr->nodes[i];
        if (!n->adopted) {
            continue;
        }
        if (n->match_lsn >= pr->quorum_lsn &&
            quorum_together(pr, config_in_force(pr), has_match, n->match_lsn)) {
            pr->quorum_lsn = n->match_lsn;
        }
        lsn_t w = pr_larger(n->match_lsn, n->written_lsn);
        if (w > received && quorum_together(pr, config_in_force(pr), has_written, w)) {
            received = w;
        }
    }
    bool own = pr->quorum_lsn >= pr->start_lsn || co_mutated(COMMIT_OLD_TERM);
    if (own && pr->quorum_lsn > pr->commit_lsn) {
        pr->commit_lsn = pr->quorum_lsn;
        pr->commit_moved_us = now;
        if (pr->announced) {
            struct pr_action *a = pr_emit(pr, PR_DURABLE);
            a->term = pr->term;
            a->lsn = pr->commit_lsn;
        }
    }
    pr_members_committed(pr);
    if (pr->state == PR_RECOVER && pr->quorum_lsn >= pr->ready_lsn && !pr->finish_due) {
        if (pr_members_due(pr)) {
            pr->finish_due = true; /* in this step, by pr_step, which knows the wall clock */
        } else {
            pr->state = PR_LEADER;
            pr_announce(pr);
        }
    }
    if (received > pr->received_lsn) {
        pr->received_lsn = received;
        if (pr->announced && received > pr->commit_lsn) { /* else DURABLE says it */
            struct pr_action *a = pr_emit(pr, PR_RECEIVED);
            a->term = pr->term;
            a->lsn = received;
        }
    }
}

static lsn_t at_most(lsn_t lsn, lsn_t limit)
{
    return lsn < limit ? lsn : limit;
}

static void count_lease(struct pr_proposer *pr, struct pr_node *n, uint64_t sent_us, uint64_t now)
{
    uint64_t span = pr->o.lease_us - pr->o.lease_us / 100;
    span = span > 2000 ? span - 2000 : 0;
    if (sent_us > now) {
        return; /* not a time of ours */
    }
    uint64_t until = co_mutated(LEASE_FROM_ACK) ? now + pr->o.lease_us : sent_us + span;
    if (until > n->lease_until_us) {
        n->lease_until_us = until;
    }
}

/* It has so much of the record at match_lsn on its disk. A bound against nonsense, and against what
 * was said of a record before: nothing lies behind the tip. */
static void note_staged(struct pr_proposer *pr, struct pr_node *n, uint64_t bytes, uint64_t now)
{
    if (bytes >= pr->tip_lsn - n->match_lsn) {
        bytes = 0;
    }
    if (bytes > n->part_have) {
        n->progress_us = pr->moved_us = now;
        if (pr->announced) {
            pr_emit(pr, PR_PROGRESS)->term = pr->term;
        }
    }
    n->part_have = bytes; /* less than before: it dropped what was staged */
}

/* What it has need not be sent. */
static void skip_what_it_has(struct pr_node *n)
{
    if (n->sent_lsn < n->match_lsn) {
        n->sent_lsn = n->match_lsn;
        n->part_sent = 0;
        n->fetch_node = 0;
    }
    if (n->sent_lsn == n->match_lsn && n->part_sent < n->part_have) {
        n->part_sent = n->part_have;
        n->fetch_node = 0;
    }
}

void pr_on_ack(struct pr_proposer *pr, struct pr_node *n, const struct q_msg *m, uint64_t now)
{
    if (!pr_leads(pr) || m->term != pr->term || !co_id_eq(&m->nonce, &pr->nonce) || n->broken) {
        return;
    }
    lsn_t flush = at_most(m->flush_lsn, pr->tip_lsn);
    lsn_t written = at_most(m->write_lsn, pr->tip_lsn);
    n->base_lsn = m->base_lsn;
    if (m->sent_us <= now && m->sent_us > n->acked_us) {
        n->acked_us = m->sent_us;
    }
    if (!n->adopted) {
        n->adopted = true;
        n->match_lsn = n->sent_lsn = flush;
        n->part_sent = n->part_have = 0;
        n->progress_us = pr->moved_us = now;
    } else if (flush > n->match_lsn) {
        n->match_lsn = flush;
        n->part_have = 0;
        n->progress_us = pr->moved_us = now;
    }
    if (m->write_lsn == n->match_lsn) {
        note_staged(pr, n, m->staged_bytes, now);
    }
    skip_what_it_has(n);
    n->written_lsn = pr_larger(n->written_lsn, written);
    if (n->up) {
        count_lease(pr, n, m->sent_us, now);
    }
    pr_advance(pr, now);
    if (m->waiters > 0 && pr->announced) {
        pr_emit(pr, PR_WAITER);
    }
}
