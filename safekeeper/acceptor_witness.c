/* acceptor_witness.c - see acceptor_witness.h. */
#include "safekeeper/acceptor_witness.h"

#include "common/mutation.h"
#include "proto/qhist.h"
#include "safekeeper/acceptor_core.h"

void sk_witness_boot(struct sk_acceptor *sk, const struct sk_boot *boot)
{
    struct sk_witness *w = &sk->witness;
    w->starts = boot->starts;
    w->start_id = boot->start_id;
    w->fresh = boot->starts != 0;
    if (co_mutated(WITNESS_FORGETS)) {
        return;
    }
    w->n = boot->known.n < Q_KNOWN_MAX ? boot->known.n : Q_KNOWN_MAX;
    for (uint32_t i = 0; i < w->n; i++) {
        w->known[i] = boot->known.e[i];
    }
}

/* How far the log reaches, or may have reached before it was found damaged. */
static struct q_stand stand(const struct sk_acceptor *sk)
{
    struct q_history h = sk_history(sk);
    lsn_t reach = sk->flush_lsn > sk->d.suspect_lsn ? sk->flush_lsn : sk->d.suspect_lsn;
    return (struct q_stand){.starts = sk->witness.starts,
                            .start_id = sk->witness.start_id,
                            .term = sk->d.term,
                            .log_term = q_last_log_term(&h, reach),
                            .reach = reach};
}

/* The entry of a node; when all are in use that of one that is no member any more. NULL: no room.
 */
static struct q_known *entry(struct sk_acceptor *sk, uint64_t node)
{
    struct sk_witness *w = &sk->witness;
    struct q_known *free_one = w->n < Q_KNOWN_MAX ? &w->known[w->n] : NULL;
    for (uint32_t i = 0; i < w->n; i++) {
        if (w->known[i].node == node) {
            return &w->known[i];
        }
        if (!free_one && !q_is_member(&sk->config, (uint32_t)w->known[i].node)) {
            free_one = &w->known[i];
        }
    }
    if (free_one) {
        w->n += free_one == &w->known[w->n];
        *free_one = (struct q_known){.node = node};
    }
    return free_one;
}

static void regress(struct sk_acceptor *sk, const struct sk_event *ev, const struct q_known *e,
                    struct sk_actions *out)
{
    sk->witness.regressed = true;
    sk->witness.told[0] = *e;
    struct q_msg *m = sk_emit_send(sk, out, ev->conn, FRAME_REGRESSED);
    m->known = (struct q_known_list){1, sk->witness.told};
    struct sk_action *a = sk_emit(out, SK_REGRESSED);
    a->known = m->known;
    a->lsn = sk->flush_lsn;
}

bool sk_witness_hear(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    struct sk_witness *w = &sk->witness;
    const struct q_known_list *said = &ev->msg->known;
    bool ahead = false;
    for (uint32_t i = 0; i < said->n; i++) {
        const struct q_known *e = &said->e[i];
        if (e->node == 0) {
            continue;
        }
        if (e->node == sk->node) {
            const struct q_stand now = stand(sk);
            if (q_known_denies(e, &now) && !co_mutated(IMAGE_VOTES) &&
                !co_mutated(IMAGE_UNNOTICED)) {
                regress(sk, ev, e, out);
                return false;
            }
            continue;
        }
        struct q_known *mine = entry(sk, e->node);
        if (mine && q_known_merge(mine, e)) {
            w->dirty = true;
            ahead |= mine->commit_lsn > sk->write_lsn;
        }
    }
    uint64_t every = ahead ? SK_WITNESS_SOON_US : SK_WITNESS_LAG_US;
    if (w->dirty && (w->written_us == 0 || ev->now_us - w->written_us >= every)) {
        sk_witness_write(sk, ev->now_us, out);
    }
    return true;
}

void sk_witness_write(struct sk_acceptor *sk, uint64_t now_us, struct sk_actions *out)
{
    struct sk_witness *w = &sk->witness;
    if (!w->dirty) {
        return;
    }
    w->dirty = false;
    w->written_us = now_us;
    sk_emit(out, SK_WITNESS)->known = (struct q_known_list){w->n, w->known};
}

void sk_witness_tell(struct sk_acceptor *sk, struct q_msg *voted)
{
    struct sk_witness *w = &sk->witness;
    uint32_t n = 1;
    w->told[0] = (struct q_known){
        .node = sk->node, .starts = w->starts, .start_id = w->start_id, .term = sk->d.term};
    for (uint32_t i = 0; i < w->n && n < Q_KNOWN_MAX; i++) {
        w->told[n++] = w->known[i];
    }
    voted->known = (struct q_known_list){n, w->told};
    voted->fresh = w->fresh;
}

lsn_t sk_witness_beyond(const struct sk_acceptor *sk, term_t *log_term)
{
    lsn_t c = q_known_commit(sk->witness.known, sk->witness.n);
    *log_term = q_known_log_term(sk->witness.known, sk->witness.n);
    return c > sk->commit_lsn ? c : 0;
}
