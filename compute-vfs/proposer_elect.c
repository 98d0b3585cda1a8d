/*
 * proposer_elect.c - R1 and R2: how a proposer becomes the leader, and how it ceases to be.
 *
 *   WAIT  until phase_until_us, then
 *   ASK   READ_POS to whoever has not told about its lease lately. VOTE only once a quorum is heard
 *         that holds no lease for another compute: a candidate that cannot be heard, or would be
 *         refused, must not raise the others' terms (N5). Safekeepers that do hold a lease get the
 *         VOTE at once: they refuse it, and tell us (FREE) when the lease ends.
 *   VOTE  to all; the donor is the granted one with the largest (last log term, flush LSN); elected
 *         when the granted are a quorum of the configuration in the donor's log.
 *   then PR_RECOVER: ELECTED to all; READY when a quorum has adopted our history and start.
 */
#include "compute-vfs/proposer_core.h"

#include <stdlib.h>

#include "common/assert.h"
#include "common/mutation.h"

/* How long a phase waits for answers; longer and longer where the network is slower than that. */
static uint64_t round_us(const struct pr_proposer *pr)
{
    uint64_t t = pr->o.resend_us / 2;
    t = t < 20000 ? 20000 : t > 1000000 ? 1000000 : t;
    return t << (pr->unheard < 3 ? pr->unheard : 3);
}

void pr_campaign(struct pr_proposer *pr, uint64_t now, uint64_t delay_us)
{
    if (pr->state != PR_CAMPAIGN) {
        pr->campaign_since_us = now;
        pr->in_use_until_us = 0;
    }
    pr->state = PR_CAMPAIGN;
    pr->phase = PR_PHASE_WAIT;
    pr->phase_until_us = now + delay_us;
}

static void give_back(struct pr_proposer *pr, term_t term, const struct co_id *nonce)
{
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        struct q_msg *m = pr_send(pr, &pr->nodes[i], FRAME_RELEASE);
        if (m) {
            m->term = term;
            m->nonce = *nonce;
        }
        pr->nodes[i].lease_info_us = 0;
        pr->nodes[i].granted = false; /* and no vote any more: a RELEASE may come late, and twice */
    }
}

static void give_lease_back(struct pr_proposer *pr)
{
    give_back(pr, pr->term, &pr->nonce);
}

/* The votes that were had are of no use any more, and must not keep others waiting. */
static void refused(struct pr_proposer *pr, uint64_t now, uint64_t delay_us, const char *reason)
{
    if (pr->want_lead) {
        pr_emit(pr, PR_REFUSED)->reason = reason;
    }
    bool votes = false;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        votes |= pr->nodes[i].granted;
    }
    if (votes && pr->state == PR_CAMPAIGN) {
        give_lease_back(pr);
    }
    pr_campaign(pr, now, delay_us + pr_random(pr, delay_us + 1));
}

/* ---- WAIT and ASK ------------------------------------------------------------------------------
 */

static bool fresh(const struct pr_node *n, uint64_t now)
{
    return n->up && n->lease_info_us != 0 && n->lease_info_us + PR_FRESH_US > now;
}

static bool is_fresh(const struct pr_proposer *pr, const struct pr_node *n, uint64_t now)
{
    (void)pr;
    return fresh(n, now) || n->granted;
}

static bool is_free(const struct pr_proposer *pr, const struct pr_node *n, uint64_t now)
{
    (void)pr;
    return n->granted || (fresh(n, now) && !n->lease_held);
}

void pr_send_vote(struct pr_proposer *pr, struct pr_node *n, uint64_t now)
{
    struct q_msg *m = pr_send(pr, n, FRAME_VOTE);
    if (m) {
        n->vote_us = n->vote_us ? n->vote_us : now;
        m->nonce = pr->nonce;
        m->waited_us = now - pr->campaign_since_us;
        pr->candidate_used = true;
        pr_known_tell(pr, n, m, now);
    }
}

/* A term that nobody has used, and a nonce that was never used before. */
static void new_candidate(struct pr_proposer *pr)
{
    pr->grace_until_us = 0;
    if (pr->candidate_used && pr->term > pr->max_term) {
        pr->max_term = pr->term;
    }
    pr->term = pr->max_term + 1;
    pr->candidate_used = false;
    co_put32(pr->nonce.b + 12, co_get32(pr->nonce.b + 12) + 1);
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        pr->nodes[i].granted = pr->nodes[i].answered = false;
        pr->nodes[i].state_known = false;
        pr->nodes[i].vote_us = 0;
    }
}

static void begin_ask(struct pr_proposer *pr, uint64_t now)
{
    pr->phase = PR_PHASE_ASK;
    pr->phase_until_us = now + round_us(pr);
    new_candidate(pr);
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        struct pr_node *n = &pr->nodes[i];
        if (!fresh(n, now)) {
            struct q_msg *m = pr_send(pr, n, FRAME_READ_POS);
            if (m) {
                m->term = 0;
            }
        } else if (n->lease_held) {
            pr_send_vote(pr, n, now);
        }
    }
}

static void begin_vote(struct pr_proposer *pr, uint64_t now)
{
    pr->phase = PR_PHASE_VOTE;
    pr->phase_until_us = now + round_us(pr);
    pr->voting_us = now;
    if (pr->max_term >= pr->term) {
        new_candidate(pr);
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        if (!pr->nodes[i].granted) {
            pr_send_vote(pr, &pr->nodes[i], now);
        }
    }
}

static int try_elect(struct pr_proposer *pr, uint64_t now, uint64_t wall_us);

void pr_campaign_tick(struct pr_proposer *pr, uint64_t now, uint64_t wall_us)
{
    if (pr->state != PR_CAMPAIGN) {
        return;
    }
    if (pr->grace_until_us && now >= pr->grace_until_us) {
        pr->grace_until_us = 0;
        int rc =
            try_elect(pr, now, wall_us); /* without memory the phase ends, and another begins */
        if (rc || pr->state != PR_CAMPAIGN) {
            return;
        }
    }
    bool late = now >= pr->phase_until_us;
    if (pr->phase == PR_PHASE_WAIT && late) {
        begin_ask(pr, now);
        late = false;
    }
    if (pr->phase == PR_PHASE_ASK) {
        if (pr_quorum(pr, &pr->hint, is_free, now)) {
            begin_vote(pr, now);
        } else if (late) {
            bool heard = pr_quorum(pr, &pr->hint, is_fresh, now);
            pr->unheard = heard ? 0 : pr->unheard + 1;
            refused(pr, now, round_us(pr) / 4,
                    heard ? "another compute holds the lease of this branch"
                          : "fewer than a majority of the safekeepers answer");
        }
    } else if (pr->phase == PR_PHASE_VOTE && late) {
        pr->unheard++;
        refused(pr, now, round_us(pr) / 4,
                "fewer than a majority of the safekeepers gave their vote");
    }
}

/* The lease that stood against us has ended at one safekeeper. */
void pr_on_free(struct pr_proposer *pr, struct pr_node *n, uint64_t now)
{
    n->lease_held = false;
    pr->in_use_until_us = 0;
    /* Our turn lasts no longer than that; then somebody else may have it. */
    n->lease_info_us = now > PR_FRESH_US ? now - (PR_FRESH_US - PR_TURN_US) : now;
    if (pr->state != PR_CAMPAIGN) {
        return;
    }
    if (pr->phase == PR_PHASE_VOTE) {
        pr_send_vote(pr, n, now);
    } else if (pr->phase == PR_PHASE_WAIT) {
        uint64_t at = now + pr_random(pr, 2000);
        if (at < pr->phase_until_us) {
            pr->phase_until_us = at;
        }
    }
}

void pr_on_reject_config(struct pr_proposer *pr, uint64_t now)
{
    if (pr->state != PR_CAMPAIGN || pr->phase == PR_PHASE_WAIT) {
        return;
    }
    /* With the version that is known now, to all: whoever it names may not have been asked yet. */
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        if (pr->phase == PR_PHASE_VOTE && !pr->nodes[i].granted) {
            pr_send_vote(pr, &pr->nodes[i], now);
        }
    }
}

/* ---- VOTE --------------------------------------------------------------------------------------
 */

static struct q_history history_of(const struct pr_history *h)
{
    return (struct q_history){h->n, h->e};
}

/* Is it a vote, and no word against it? */
static bool is_vote(const struct pr_proposer *pr, const struct pr_node *n)
{
    return n->granted && n->vote_us >= pr->votes_since_us && !pr_known_denies(pr, n);
}

/* A vote of one that may have forgotten what it acknowledged counts only for a donor (the node
 * `arg`) that has all of it: whose log is at least as advanced as the forgotten one was. */
static bool is_granted(const struct pr_proposer *pr, const struct pr_node *n, uint64_t arg)
{
    if (!is_vote(pr, n)) {
        return false;
    }
    if (!n->state.suspect_lsn || co_mutated(SUSPECT_COUNTS)) {
        return true;
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_node *d = &pr->nodes[i];
        if (d->node == arg) {
            struct q_history h = history_of(&d->state.history);
            term_t t = q_last_log_term(&h, d->state.flush_lsn);
            return t > n->state.suspect_term ||
                   (t == n->state.suspect_term && d->state.flush_lsn >= n->state.suspect_lsn);
        }
    }
    return false;
}

static int keep_state(struct pr_node *n, const struct q_msg *m)
{
    struct q_history cut = q_history_cut(&m->history, m->flush_lsn);
    if (!q_history_valid(&m->history) || m->flush_lsn < m->start_lsn) {
        return 0; /* not what a safekeeper says of itself; as if it had not answered */
    }
    /* Of a log in doubt all: it says how far it goes along with ours. */
    int rc = pr_history_set(&n->state.history, m->suspect_lsn ? &m->history : &cut, 0);
    if (rc) {
        return rc;
    }
    n->state.flush_lsn = m->flush_lsn;
    n->state.commit_lsn = m->commit_lsn;
    n->state.start_lsn = m->start_lsn;
    n->state.base_lsn = m->base_lsn;
    n->state.suspect_lsn = m->suspect_lsn;
    n->state.suspect_term = m->suspect_term;
    n->state.digest = m->digest;
    n->state.config = m->config;
    n->state_known = true;
    return 0;
}

static struct pr_node *pick_donor(struct pr_proposer *pr)
{
    struct pr_node *donor = NULL;
    term_t best = 0;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        struct pr_node *n = &pr->nodes[i];
        if (!n->state_known || !is_vote(pr, n)) {
            continue;
        }
        struct q_history h = history_of(&n->state.history);
        term_t t = co_mutated(DONOR_BY_LSN) ? 0 : q_last_log_term(&h, n->state.flush_lsn);
        if (!donor || t > best || (t == best && n->state.flush_lsn > donor->state.flush_lsn)) {
            donor = n;
            best = t;
        }
    }
    return donor;
}

static void reset_node(struct pr_proposer *pr, struct pr_node *n, uint64_t now)
{
    n->adopted = n->broken = false;
    n->match_lsn = n->written_lsn = n->sent_lsn = 0;
    n->acked_us = 0;
    n->part_sent = n->part_have = 0;
    if (!co_mutated(APPENDS_REMEMBERED)) {
        n->newest_end = n->before_end = 0; /* their LSNs come again */
    }
    n->told_commit = 0;
    n->elected_us = n->sent_us = 0;
    n->progress_us = now;
    n->lease_until_us = 0;
    n->fetch_node = 0;
    n->base_lsn = n->granted ? n->state.base_lsn : 0;
    if (n->granted && n->state.commit_lsn > pr->commit_lsn) {
        pr->commit_lsn = n->state.commit_lsn;
    }
    if (co_mutated(MATCH_FROM_VOTE) && n->granted) {
        n->adopted = true;
        n->match_lsn = n->sent_lsn = n->state.flush_lsn;
        n->acked_us = now;
    }
}

static int lead_from(struct pr_proposer *pr, const struct pr_node *donor, uint64_t now,
                     uint64_t wall_us)
{
    struct q_history all = history_of(&donor->state.history);
    struct q_history h = q_history_cut(&all, donor->state.flush_lsn);
    if (h.n >= CO_HISTORY_MAX) {
        refused(pr, now, 1000000,
                "the term history is full: a safekeeper is missing, and must come back first");
        return 0;
    }
    int rc = pr_history_set(&pr->history, &h, 1);
    if (rc) {
        return rc;
    }
    pr->start_lsn = donor->state.flush_lsn;
    pr->history.e[pr->history.n++] = (struct q_term){pr->term, pr->start_lsn};
    pr->config = donor->state.config.version ? donor->state.config : pr->hint;
    pr->config_lsn = pr->start_lsn;
    pr->gone.n = pr->gone.n_new = 0;
    pr->config_before.n = pr->config_before.n_new = 0;
    pr->config_told = pr->finish_due = false;
    pr->tip_lsn = pr->start_lsn;
    pr->tip_digest = donor->state.digest;
    pr->commit_lsn = pr->quorum_lsn = pr->received_lsn = pr->want_received_lsn = 0;
    pr->time_us = 0;
    pr->moved_us = pr->commit_moved_us = now;
    pr->announced = pr->releasing = false;
    pr->held_term = 0;
    pr->unheard = 0;
    pr->state = PR_RECOVER;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        reset_node(pr, &pr->nodes[i], now);
    }
    /* What a voter knows to be committed is in the donor's log; more than that is a lie. */
    if (pr->commit_lsn > pr->start_lsn) {
        pr->commit_lsn = pr->start_lsn;
    }
    if (pr->start_lsn == donor->state.start_lsn) { /* the log begins with its configuration */
        struct wal_config first = pr->config;
        rc = pr_config_append(pr, &first, now, wall_us);
    }
    pr->ready_lsn = pr->tip_lsn;
    if (rc) {
        pr->state = PR_CAMPAIGN; /* the vote stays; the timeout begins anew */
    }
    return rc;
}

/* The votes are enough, but one of them is of a safekeeper that has followed no leader since its
 * start. The others that are connected are heard first, for a moment: one of them may know that its
 * disk went back in time, though none of those who voted does. */
static bool hears_others(struct pr_proposer *pr, const struct wal_config *c, uint64_t now)
{
    bool fresh_vote = false, silent = false;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_node *n = &pr->nodes[i];
        fresh_vote |= n->granted && n->fresh;
        silent |= n->up && !n->answered && q_is_member(c, n->node);
    }
    pr->grace_until_us = pr->voting_us + round_us(pr) / 4;
    if (!fresh_vote || !silent || now >= pr->grace_until_us) {
        pr->grace_until_us = 0;
    }
    return pr->grace_until_us != 0;
}

/* Votes that lie further apart than a lease do not count together, as answers do not
 * (proposer_ask.c): those that were asked for longer ago are asked for again, by the next campaign.
 */
static int try_elect(struct pr_proposer *pr, uint64_t now, uint64_t wall_us)
{
    pr->votes_since_us = now > pr->o.lease_us ? now - pr->o.lease_us : 0;
    struct pr_node *donor = pick_donor(pr);
    if (!donor || !pr_known_donor(pr, donor)) {
        return 0;
    }
    const struct wal_config *c = donor->state.config.version ? &donor->state.config : &pr->hint;
    if (!pr_quorum(pr, c, is_granted, donor->node) || hears_others(pr, c, now)) {
        return 0;
    }
    return lead_from(pr, donor, now, wall_us);
}

/* Not an answer to a VOTE, but a word of whoever holds the lease, passed on. */
static void on_in_use(struct pr_proposer *pr, uint64_t now)
{
    if (pr->state == PR_CAMPAIGN && pr->phase != PR_PHASE_VOTE) {
        pr->in_use_until_us = now + PR_IN_USE_US;
    }
}

int pr_on_voted(struct pr_proposer *pr, struct pr_node *n, const struct q_msg *m, uint64_t now,
                uint64_t wall_us)
{
    if (m->writing) {
        on_in_use(pr, now);
        return 0;
    }
    if (!co_id_eq(&m->nonce, &pr->nonce)) {
        return 0; /* of an earlier campaign */
    }
    pr_known_hear(pr, n, m);
    if (pr->state == PR_CAMPAIGN && pr->phase != PR_PHASE_WAIT) {
        n->lease_info_us = now;
        n->lease_held = m->lease_held;
        n->answered = true;
        n->fresh = m->fresh;
        if (m->granted && m->term == pr->term) {
            n->granted = true;
            int rc = keep_state(n, m);
            return rc ? rc : try_elect(pr, now, wall_us);
        }
        if (!m->granted && !m->lease_held && m->term >= pr->term) {
            refused(pr, now, round_us(pr) / 8, "another compute was faster");
            return 0;
        }
        return pr->grace_until_us ? try_elect(pr, now, wall_us) : 0;
    }
    if (pr_leads(pr) && m->term == pr->term && m->granted && !n->adopted) {
        /* A late vote, or "my log is not what you take it for": tell it where its part begins. */
        int rc = keep_state(n, m);
        if (rc == 0) {
            n->granted = true;
            n->elected_us = 0;
        }
        return rc;
    }
    return 0;
}

/* R2. To one whose state is not known ELECTED is a question: it answers with VOTED. */
void pr_send_elected(struct pr_proposer *pr, struct pr_node *n, uint64_t now)
{
    lsn_t part = 0;
    if (n->state_known) {
        struct q_history ours = history_of(&pr->history), theirs = history_of(&n->state.history);
        lsn_t known =
            n->state.commit_lsn > n->state.start_lsn ? n->state.commit_lsn : n->state.start_lsn;
        if (q_diverge(&ours, UINT64_MAX, &theirs, n->state.flush_lsn, n->state.start_lsn, known,
                      &part)) {
            part = 0; /* it will see the contradiction itself, and halt */
        }
    }
    struct q_msg *m = pr_send(pr, n, FRAME_ELECTED);
    if (m) {
        m->nonce = pr->nonce;
        m->history = history_of(&pr->history);
        m->start_lsn = part;
        m->sent_us = now;
        pr_known_tell(pr, n, m, now);
    }
    n->elected_us = now;
}

/* ---- the end of a leadership -------------------------------------------------------------------
 */

static void tell_lost(struct pr_proposer *pr, const char *reason, bool contested)
{
    struct pr_action *a = pr_emit(pr, PR_LOST);
    a->term = pr->term;
    a->reason = reason;
    a->contested = pr->want_lead = contested;
}

void pr_step_down(struct pr_proposer *pr, const char *reason)
{
    bool had = pr->announced;
    pr_known_collect(pr);
    if (pr->state != PR_FOLLOW && !(pr->state == PR_CAMPAIGN && pr->phase == PR_PHASE_WAIT)) {
        if (co_mutated(READ_AFTER_RELEASE)) {
            pr->stale_lease_us = pr->state == PR_LEADER ? pr_lease_until(pr) : 0;
        }
        give_lease_back(pr);
    }
    if (pr->held_term) { /* for those whom no VOTE of the campaign has reached */
        give_back(pr, pr->held_term, &pr->held_nonce);
    }
    pr->held_term = 0;
    pr->state = PR_FOLLOW;
    pr->announced = pr->releasing = pr->settling = false;
    if (had) {
        tell_lost(pr, reason, false);
    }
    if (pr->tell_released) {
        pr->tell_released = false;
        pr_emit(pr, PR_RELEASED);
    }
}

/* R6. The term is over; the lease need not be. One safekeeper that has voted for somebody else, and
 * nobody follows him, deposes a leader that all others still promise to follow. Were the lease
 * given back now, the next who waits would write before whoever has a transaction open here. So it
 * is kept for a campaign of our own, which it does not stand against; the owner says whether he
 * wants that.
 */
void pr_on_newer_term(struct pr_proposer *pr, term_t term, uint64_t now)
{
    static const char reason[] = "another compute took the lease over";
    bool again = !pr->announced && (pr->want_lead || pr->settling);
    bool settling = pr->settling;
    (void)term;
    if (pr->announced && !pr->releasing) {
        pr_known_collect(pr);
        pr->announced = pr->settling = false;
        pr->held_term = pr->term;
        pr->held_nonce = pr->nonce;
        tell_lost(pr, reason, true);
        pr->state = PR_FOLLOW;
        pr_campaign(pr, now, 0);
        return;
    }
    pr_step_down(pr, reason);
    if (again) {
        pr->settling = settling;
        refused(pr, now, round_us(pr) / 8, "another compute was faster");
    }
}

void pr_try_release(struct pr_proposer *pr, uint64_t now)
{
    if (!pr->releasing || pr->state != PR_LEADER || pr->commit_lsn < pr->tip_lsn) {
        return;
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        struct pr_node *n = &pr->nodes[i];
        if (n->adopted && n->told_commit < pr->commit_lsn) {
            struct q_msg *m = pr_send(pr, n, FRAME_APPEND); /* the last word on what is committed */
            if (m) {
                m->nonce = pr->nonce;
                m->begin_lsn = n->match_lsn;
                m->commit_lsn = pr->commit_lsn;
                m->sent_us = now;
            }
        }
    }
    pr->announced = false; /* given back, not lost */
    pr_step_down(pr, "released");
    if (pr->want_lead) {
        pr_campaign(pr, now, 0);
    }
}
