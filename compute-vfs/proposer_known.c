/*
 * proposer_known.c - what safekeepers have said, beside what they say now: disks that went back in
 * time (proto/known.h, safekeeper/acceptor_witness.c).
 *
 * The proposer remembers over its life what each safekeeper voted and acknowledged, hears with the
 * votes what others remember, and tells all of it to all: with VOTE and ELECTED, and with an APPEND
 * now and then. Whom it concerns finds out by itself that its disk went back. Until it has,
 *   - a vote does not count of one whose log is less than what it is known to have said, and
 *   - nobody is elected whose donor ends below what anybody knows to be committed, or is longer by
 * an older term. Neither can keep a sound cluster from a leader: what is said here was said by the
 * safekeepers themselves, and what is committed a majority has.
 */
#include "common/mutation.h"
#include "compute-vfs/proposer_core.h"

/* How often an APPEND carries it: to one that lags, whose log does not speak for itself; to others.
 */
#define PR_KNOWN_LAG_US 50000u
#define PR_KNOWN_US     1000000u

static struct q_known *entry(struct pr_proposer *pr, uint64_t node)
{
    struct q_known *free_one = pr->n_known < Q_KNOWN_MAX ? &pr->known[pr->n_known] : NULL;
    for (uint32_t i = 0; i < pr->n_known; i++) {
        if (pr->known[i].node == node) {
            return &pr->known[i];
        }
        if (!free_one && !q_is_member(&pr->hint, (uint32_t)pr->known[i].node)) {
            free_one = &pr->known[i];
        }
    }
    if (free_one) {
        pr->n_known += free_one == &pr->known[pr->n_known];
        *free_one = (struct q_known){.node = node};
    }
    return free_one;
}

static void learn(struct pr_proposer *pr, const struct q_known *e)
{
    struct q_known *mine = e->node ? entry(pr, e->node) : NULL;
    if (mine) {
        (void)q_known_merge(mine, e);
    }
}

void pr_known_hear(struct pr_proposer *pr, struct pr_node *n, const struct q_msg *m)
{
    for (uint32_t i = 0; i < m->known.n; i++) {
        const struct q_known *e = &m->known.e[i];
        learn(pr, e);
        if (e->node == n->node && m->type == FRAME_VOTED) {
            n->starts = e->starts;
            n->start_id = e->start_id;
        }
    }
}

/* What a member acknowledged is never cut from where its configuration, that is committed, and the
 * leader's start lie below it. Below that nothing of it has counted, and of one that a change
 * brought along it may be cut: when the change comes to nothing, or when the others had collapsed
 * their histories (M16) beyond it before it came, so that a leader finds nothing in common with it.
 */
void pr_known_collect(struct pr_proposer *pr)
{
    for (uint32_t i = 0; i < pr->n_nodes && pr_leads(pr); i++) {
        const struct pr_node *n = &pr->nodes[i];
        if (!n->adopted) {
            continue;
        }
        bool member = q_in_group(pr->config.members, pr->config.n, n->node);
        lsn_t both = n->match_lsn < pr->commit_lsn ? n->match_lsn : pr->commit_lsn;
        bool counts = member && both >= pr->config_lsn;
        /* Before a majority has adopted the term nobody need ever hear of it again. */
        bool adopted = pr->quorum_lsn >= pr->start_lsn && n->match_lsn >= pr->start_lsn;
        learn(pr, &(struct q_known){.node = n->node,
                                    .term = pr->term,
                                    .flush_lsn = n->match_lsn,
                                    .commit_lsn = counts ? both : 0,
                                    .log_term = counts && adopted ? pr->term : 0});
    }
}

void pr_known_tell(struct pr_proposer *pr, struct pr_node *n, struct q_msg *m, uint64_t now)
{
    pr_known_collect(pr);
    m->known = (struct q_known_list){pr->n_known, pr->known};
    n->known_us = now;
}

void pr_known_append(struct pr_proposer *pr, struct pr_node *n, struct q_msg *m, uint64_t now)
{
    uint64_t every = n->match_lsn < pr->commit_lsn ? PR_KNOWN_LAG_US : PR_KNOWN_US;
    if (n->known_us == 0 || now - n->known_us >= every) {
        pr_known_tell(pr, n, m, now);
    }
}

bool pr_known_denies(const struct pr_proposer *pr, const struct pr_node *n)
{
    const struct q_known *e = q_known_of(pr->known, pr->n_known, n->node);
    const struct pr_state_seen *s = &n->state;
    struct q_stand stand = {.starts = n->starts, .start_id = n->start_id, .term = pr->term};
    if (!e || !n->state_known || co_mutated(IMAGE_VOTES)) {
        return false;
    }
    struct q_history h = {s->history.n, s->history.e};
    stand.reach = s->flush_lsn > s->suspect_lsn ? s->flush_lsn : s->suspect_lsn;
    stand.log_term = q_last_log_term(&h, s->flush_lsn);
    if (s->suspect_lsn && s->suspect_term > stand.log_term) {
        stand.log_term = s->suspect_term;
    }
    return q_known_denies(e, &stand);
}

bool pr_known_reaches(const struct pr_proposer *pr, lsn_t lsn)
{
    return lsn >= q_known_commit(pr->known, pr->n_known) || co_mutated(IMAGE_VOTES);
}

bool pr_known_donor(const struct pr_proposer *pr, const struct pr_node *donor)
{
    struct q_history h = {donor->state.history.n, donor->state.history.e};
    return pr_known_reaches(pr, donor->state.flush_lsn) &&
           (q_last_log_term(&h, donor->state.flush_lsn) >=
                q_known_log_term(pr->known, pr->n_known) ||
            co_mutated(IMAGE_VOTES));
}

void pr_on_regressed(struct pr_proposer *pr, struct pr_node *n, const struct q_msg *m)
{
    pr_known_hear(pr, n, m);
    n->granted = false;
    n->broken = true; /* in this term; in another one it does not vote */
    n->adopted = false;
    n->match_lsn = n->sent_lsn = n->written_lsn = 0;
    n->part_sent = n->part_have = 0;
    n->lease_until_us = 0;
}
