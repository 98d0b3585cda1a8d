/*
 * acceptor_lease.c - S5 and S9: the lease, who waits for it, and whose turn it is.
 *
 * The lease is a courtesy between computes; terms make writing safe without it. While one runs, a
 * VOTE of another compute is refused and its sender put on the list. When it ends the one that has
 * waited longest has its *turn*: it alone is told (FREE), and for SK_TURN_US the VOTEs of all
 * others are refused and put on the list in their place. Without turns whoever is nearest to the
 * safekeepers would win each time. How long a candidate has waited comes with its VOTE, so that all
 * safekeepers agree on the order though their clocks and the arrival of messages differ. A turn
 * that is not used goes to the next.
 *
 * Nobody is told why the lease is held, but for one thing: a holder whose transaction is open for
 * longer than a hand-over takes says so in a heartbeat, and each that waits hears it. It can then
 * say "busy" to its application and need not wait for the lease to end (M9).
 *
 *   held ----RELEASE, ran out, holder's process gone----> turn of the longest waiting
 *     ^                                                    |  VOTE   | SK_TURN_US without one
 *     |<---------------------------------------------------+         v
 *     |<------------VOTE of anybody----------- free <--- nobody waits
 */
#include "safekeeper/acceptor_core.h"

#include <string.h>

#include "common/mutation.h"

/* The nonces of one compute differ in their last 4 bytes only. */
static bool same_holder(const struct co_id *a, const struct co_id *b)
{
    return memcmp(a->b, b->b, 12) == 0;
}

bool sk_lease_runs(const struct sk_acceptor *sk, uint64_t now)
{
    return sk->lease_until_us > now || sk->quiet_until_us > now;
}

bool sk_lease_taken(const struct sk_acceptor *sk, uint64_t now)
{
    return sk_lease_runs(sk, now) || sk->turn_until_us > now;
}

bool sk_lease_blocks(const struct sk_acceptor *sk, const struct co_id *nonce, uint64_t now)
{
    return (sk->lease_until_us > now && !same_holder(&sk->lease_nonce, nonce)) ||
           (sk->quiet_until_us > now && !same_holder(&sk->d.voted_nonce, nonce)) ||
           (sk->turn_until_us > now && !same_holder(&sk->turn.nonce, nonce));
}

static void forget_waiter(struct sk_acceptor *sk, sk_conn_t conn)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sk->n_waiters; i++) {
        if (sk->waiters[i].conn != conn) {
            sk->waiters[kept++] = sk->waiters[i];
        }
    }
    sk->n_waiters = kept;
}

/* Whose lease it is, and on which connection. What its holder sent on an earlier connection may
 * come late; the end of that connection must not end the lease that it has on a newer one. */
static void note_holder(struct sk_acceptor *sk, const struct sk_event *ev)
{
    if (!same_holder(&sk->lease_nonce, &ev->msg->nonce) || ev->conn > sk->lease_conn) {
        sk->lease_conn = ev->conn;
    }
    sk->lease_nonce = ev->msg->nonce;
}

/* The durable mark "no lease is out" must be gone before one is.
 *
 * Whoever renews has our vote or was followed by us, durably, and a vote is not given while
 * somebody else's lease runs. So a lease that was promised before a restart is its own or is ended
 * by its election, and need not be waited out once it is here: two restarts within one lease would
 * else leave no majority that may vote for the next holder. */
void sk_lease_extend(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    if (sk->released) {
        return;
    }
    if (sk->d.no_lease && !co_mutated(MARK_NOT_CLEARED)) {
        sk->d.no_lease = false;
        sk_persist(sk, out, false);
    }
    note_holder(sk, ev);
    sk->lease_until_us = ev->now_us + sk->lease_us;
    sk->quiet_until_us = 0;      /* it is the one whose lease may have been out before a restart */
    forget_waiter(sk, ev->conn); /* it was refused here, and won with the votes of others */
}

void sk_lease_hold_vote(struct sk_acceptor *sk, const struct sk_event *ev)
{
    uint64_t hold = sk->lease_us < SK_VOTE_HOLD_US ? sk->lease_us : SK_VOTE_HOLD_US;
    if (sk->lease_until_us <= ev->now_us) {
        sk->lease_until_us = ev->now_us + hold; /* once: who votes on and on must not hold it */
    }
    note_holder(sk, ev);
    sk->turn_until_us = 0;
}

/* The lease is free: who has waited longest has his turn. */
static void next_turn(struct sk_acceptor *sk, uint64_t now, struct sk_actions *out)
{
    sk->turn_until_us = 0;
    if (sk->n_waiters == 0) {
        return;
    }
    sk->turn = sk->waiters[0];
    sk->turn_until_us = now + SK_TURN_US;
    forget_waiter(sk, sk->turn.conn);
    sk_emit_send(sk, out, sk->turn.conn, FRAME_FREE);
}

void sk_lease_end(struct sk_acceptor *sk, uint64_t now, struct sk_actions *out)
{
    sk->lease_until_us = 0;
    sk->lease_conn = 0;
    next_turn(sk, now, out);
}

void sk_lease_wait(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    const struct q_msg *m = ev->msg;
    uint64_t waited_us = m->waited_us < ev->now_us ? m->waited_us : ev->now_us;
    struct sk_waiter w = {ev->conn, m->nonce, ev->now_us - waited_us};

    forget_waiter(sk, ev->conn);
    if (sk->n_waiters < SK_WAITERS_MAX) {
        uint32_t i = sk->n_waiters++;
        for (; i > 0 && sk->waiters[i - 1].since_us > w.since_us; i--) {
            sk->waiters[i] = sk->waiters[i - 1];
        }
        sk->waiters[i] = w;
    }
    if (sk->lease_conn && sk->lease_until_us > ev->now_us) {
        sk_emit_send(sk, out, sk->lease_conn, FRAME_WAITER);
    }
}

void sk_lease_writing(struct sk_acceptor *sk, struct sk_actions *out)
{
    for (uint32_t i = 0; i < sk->n_waiters && !sk->released; i++) {
        struct q_msg *m = sk_emit_send(sk, out, sk->waiters[i].conn, FRAME_VOTED);
        m->nonce = sk->waiters[i].nonce;
        m->lease_held = m->writing = true;
    }
}

void sk_lease_closed(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    forget_waiter(sk, ev->conn);
    if (sk->turn_until_us && sk->turn.conn == ev->conn) {
        next_turn(sk, ev->now_us, out);
    }
    if (sk->lease_conn == ev->conn) {
        sk->lease_conn = 0;
        if (ev->local) {
            sk_lease_end(sk, ev->now_us, out);
        }
    }
}

void sk_lease_tick(struct sk_acceptor *sk, uint64_t now, struct sk_actions *out)
{
    if (!sk_lease_taken(sk, now)) {
        next_turn(sk, now, out);
    }
    if (sk->n_waiters == 0) {
        return;
    }
    uint64_t at = sk->lease_until_us > sk->quiet_until_us ? sk->lease_until_us : sk->quiet_until_us;
    if (!sk_lease_runs(sk, now)) {
        at = sk->turn_until_us;
    }
    if (at != sk->timer_us) {
        sk->timer_us = at;
        sk_emit(out, SK_TIMER)->at_us = at;
    }
}
