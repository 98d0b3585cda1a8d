/*
 * acceptor_vote.c - who leads: S1 vote, and S2 elected, by which a leader's history becomes ours
 * and what its log has not goes.
 *
 * As in acceptor.c: decide, change, persist, answer. What is known to be committed is never cut.
 */
#include "safekeeper/acceptor_core.h"

#include <stdlib.h>

#include "common/assert.h"
#include "common/mutation.h"
#include "proto/qhist.h"

static void new_term(struct sk_acceptor *sk, term_t term, const struct co_id *nonce)
{
    co_assert(term >= sk->d.term); /* I2 */
    if (term > sk->d.term) {
        sk->leader_commit = 0;
        sk->ack_due = false;
    }
    /* What another candidate of the same term gave back is not what its leader has. */
    sk->released = false;
    sk->d.term = term;
    sk->d.voted_nonce = *nonce;
}

/* ---- S1 vote ----------------------------------------------------------------------------------
 */

/* What a leader compares with its own history: the part that has records below `end`. Of a log in
 * doubt all of it: it was a prefix of the log of the newest term in it, and still is. */
static struct q_history known_history(const struct sk_acceptor *sk, lsn_t end)
{
    struct q_history h = sk_history(sk);
    return sk->d.suspect_lsn ? h : q_history_cut(&h, end);
}

static void send_voted(struct sk_acceptor *sk, const struct sk_event *ev, bool granted,
                       struct sk_actions *out)
{
    struct q_history h = sk_history(sk);
    struct q_msg *m = sk_emit_send(sk, out, ev->conn, FRAME_VOTED);
    m->nonce = ev->msg->nonce;
    m->granted = granted;
    m->lease_held = !granted && sk_lease_blocks(sk, &ev->msg->nonce, ev->now_us);
    m->flush_lsn = sk->flush_lsn;
    m->commit_lsn = sk->commit_lsn;
    m->floor_lsn = sk->d.floor_lsn;
    m->start_lsn = sk->start_lsn;
    m->base_lsn = sk->d.base.lsn;
    m->config = *sk_config(sk);
    if (sk->flush_lsn == sk->write_lsn) {
        m->digest = sk->digest;
    }
    m->history = known_history(sk, sk->flush_lsn);
    if (sk->d.suspect_lsn) {
        m->suspect_lsn = sk->d.suspect_lsn;
        m->suspect_term = q_last_log_term(&h, sk->d.suspect_lsn);
    }
    sk_witness_tell(sk, m);
}

void sk_on_vote(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    const struct q_msg *m = ev->msg;
    bool again = m->term == sk->d.term && co_id_eq(&m->nonce, &sk->d.voted_nonce) && m->term > 0;

    if (sk->left || (m->config_version != 0 && m->config_version < sk_config(sk)->version)) {
        sk_emit_send(sk, out, ev->conn, FRAME_REJECT_CONFIG)->config = *sk_config(sk); /* S21 */
        return;
    }
    if (sk_lease_blocks(sk, &m->nonce, ev->now_us)) {
        send_voted(sk, ev, false, out);
        sk_lease_wait(sk, ev, out);
        return;
    }
    if (m->term <= sk->d.term && !again) {
        send_voted(sk, ev, false, out);
        return;
    }
    sk_flush_now(sk, out);
    if (!again) {
        new_term(sk, m->term, &m->nonce);
        if (!co_mutated(VOTE_NOT_PERSISTED)) {
            sk_persist(sk, out, false);
        }
    }
    sk_lease_hold_vote(sk, ev);
    send_voted(sk, ev, true, out);
}

/* ---- S2 elected -------------------------------------------------------------------------------
 */

/* A leader's history becomes ours, less what M16 lets us forget. `copy` has room for it. */
static void take_history(struct sk_acceptor *sk, const struct q_history *h, struct q_term *copy)
{
    lsn_t floor = sk->floor_hint < sk->commit_lsn ? sk->floor_hint : sk->commit_lsn;
    uint32_t first = q_history_index(h, floor);
    while (first > 0 && h->e[first].term > sk->floor_term) {
        first--; /* terms without a record: not every member has this one */
    }
    uint32_t most = h->n > sk->history_keep ? h->n - sk->history_keep : 0;
    first = first < most ? first : most;
    memcpy(copy, h->e + first, (h->n - first) * sizeof *copy);

    free(sk->retired);
    sk->retired = sk->d.history; /* an earlier PERSIST of this list may show it */
    sk->d.history = copy;
    sk->d.n_history = h->n - first;
    if (copy[0].start > sk->d.floor_lsn) {
        sk->d.floor_lsn = copy[0].start;
    }
    sk_settle_doubt(sk);
}

/* Is this ELECTED one that a leader can send? */
static bool elected_sound(const struct sk_acceptor *sk, const struct q_msg *m)
{
    return m->history.n > 0 && m->history.n <= CO_HISTORY_MAX && q_history_valid(&m->history) &&
           m->history.e[m->history.n - 1].term == m->term &&
           m->history.e[0].start >= sk->start_lsn && m->history.e[0].term > 0;
}

static void cut_log(struct sk_acceptor *sk, lsn_t lsn, struct sk_actions *out)
{
    if (lsn >= sk->write_lsn) {
        if (!co_mutated(FRAGMENT_OLD_TERM)) {
            sk_drop_staged(sk, out); /* the fragments of an older term are no part of this one */
        }
        return;
    }
    sk_emit(out, SK_TRUNCATE)->lsn = lsn;
    sk_unstage(sk);
    sk->write_lsn = sk->flush_lsn = lsn;
    if (sk->told_lsn > lsn) {
        sk->told_lsn = lsn;
    }
    sk->digest_known = false; /* TRUNCATED brings it, as the next event */
    sk_seen_cut(sk, lsn);
}

static void adopt(struct sk_acceptor *sk, const struct sk_event *ev, lsn_t part,
                  struct q_term *copy, struct sk_actions *out)
{
    const struct q_msg *m = ev->msg;
    take_history(sk, &m->history, copy);
    sk->witness.fresh = false;
    if (!co_mutated(MARK_NOT_CLEARED)) {
        sk->d.no_lease = false;
    }
    if (co_mutated(HISTORY_NOT_PERSISTED)) {
        cut_log(sk, part, out);
    } else if (co_mutated(HISTORY_BEFORE_CUT)) {
        sk_persist(sk, out, true);
        cut_log(sk, part, out);
    } else if (co_mutated(TAIL_NOT_TRUNCATED)) {
        sk_persist(sk, out, true);
    } else {
        cut_log(sk, part, out);
        sk_persist(sk, out, true);
    }
    sk_lease_extend(sk, ev, out);
    sk_send_ack(sk, ev->conn, &m->nonce, m->sent_us, out);
}

int sk_on_elected(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    const struct q_msg *m = ev->msg;
    lsn_t part;

    if (m->term < sk->d.term) {
        sk_emit_send(sk, out, ev->conn, FRAME_REJECT);
        return 0;
    }
    if (!elected_sound(sk, m)) {
        sk->refused++;
        return 0;
    }
    if (sk_history_term(sk) == m->term) {
        if (!co_id_eq(&m->nonce, &sk->d.voted_nonce)) {
            sk->refused++; /* a second leader of this term: there cannot be one */
            return 0;
        }
        if (co_mutated(ELECTED_AGAIN) && m->start_lsn >= sk->commit_lsn) {
            cut_log(sk, m->start_lsn, out);
        }
        sk_lease_extend(sk, ev, out);
        sk_send_ack(sk, ev->conn, &m->nonce, m->sent_us, out);
        return 0;
    }

    struct q_history mine = known_history(sk, sk->write_lsn); /* as it will be after the flush */
    int rc = q_diverge(&m->history, UINT64_MAX, &mine, sk->write_lsn, sk->start_lsn, sk->commit_lsn,
                       &part);
    bool cuts = rc == 0 && part == m->start_lsn;
    if (cuts && part < sk->commit_lsn) {
        sk_halt(sk, out, "an elected leader asks to truncate below what is known to be committed");
        return 0;
    }
    if (rc) {
        sk_halt(sk, out, "one term begins at different places in our history and in a leader's");
        return 0;
    }
    struct q_term *copy = cuts ? malloc(m->history.n * sizeof *copy) : NULL;
    if (cuts && !copy) {
        return co_fail(CO_ERR_NOMEM, "no memory for a history of %u terms", m->history.n);
    }
    sk_flush_now(sk, out);
    if (m->term > sk->d.term || !co_id_eq(&m->nonce, &sk->d.voted_nonce)) {
        /* The elected leader is the only one of its term, so its nonce replaces a vote for another
         * candidate. The term is durable before the tail goes. */
        new_term(sk, m->term, &m->nonce);
        if (!cuts || part < sk->write_lsn) {
            sk_persist(sk, out, false);
        }
    }
    if (cuts) {
        adopt(sk, ev, part, copy, out);
    } else {
        send_voted(sk, ev, true, out);
    }
    return 0;
}
