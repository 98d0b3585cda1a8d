/*
 * acceptor_base.c - where the log begins, when its begin is kept no more.
 *
 * The base moves in two ways. *Trimmed*: what lies below it may go here, because an archive and
 * every pageserver that follows have it. *Told*: this log ends below what anybody can feed it from,
 * so a leader says where it is to begin. The leader has adopted us by then, so what we have is a
 * part of its log; all that lies below the base is committed, and so nothing of ours is lost that
 * the log does not have. What we acknowledged lies below the base or was ours alone.
 *
 * Both are durable with one REBASE: no answer speaks of a base before it is.
 */
#include "safekeeper/acceptor_core.h"

#include "common/mutation.h"
#include "proto/qhist.h"

lsn_t sk_base_lsn(const struct sk_acceptor *sk)
{
    return sk->d.base.lsn > sk->start_lsn ? sk->d.base.lsn : sk->start_lsn;
}

static lsn_t lesser(lsn_t a, lsn_t b)
{
    return a < b ? a : b;
}

void sk_trim(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    lsn_t limit = sk->commit_lsn;
    if (!co_mutated(TRIM_UNARCHIVED)) {
        limit = lesser(limit, ev->archived_lsn);
    }
    if (!co_mutated(TRIM_UNFOLLOWED)) {
        limit = lesser(limit, ev->followed_lsn);
    }
    if (ev->lsn <= sk_base_lsn(sk) || ev->lsn > limit) {
        return;
    }
    sk->d.base = (struct sk_base){.lsn = ev->lsn, .digest = ev->digest, .config = ev->config};
    /* Not named there, and left: by a configuration below, or by one that comes again. */
    sk->d.base.left = sk->left && !q_is_member(&ev->config, sk->node);
    sk_persist_base(sk, out);
}

void sk_take_base(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    const struct q_msg *m = ev->msg;
    if (m->base_lsn <= sk->write_lsn) {
        return; /* comes late; the answer says where we are */
    }
    if (m->config.n == 0 || (m->commit_lsn < m->base_lsn && !co_mutated(BASE_UNCOMMITTED))) {
        sk->refused++;
        return;
    }
    if (!co_mutated(BASE_WITHOUT_CONFIG)) {
        sk_configure(sk, &m->config, m->base_lsn);
    }
    sk->d.base = (struct sk_base){
        .lsn = m->base_lsn, .digest = m->digest, .config = sk->config, .left = sk->left};
    sk_unstage(sk);
    sk_seen_cut(sk, 0);
    sk->digest = m->digest;
    sk->write_lsn = sk->commit_lsn = m->base_lsn;
    sk_flushed(sk, m->base_lsn, out);
    if (co_mutated(BASE_NOT_PERSISTED)) {
        sk_send_ack(sk, ev->conn, &m->nonce, m->sent_us, out);
    }
    sk_persist_base(sk, out);
    sk_emit(out, SK_COMMIT)->lsn = m->base_lsn;
}

void sk_send_base(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    struct q_msg *m = sk_emit_send(sk, out, ev->conn, FRAME_DATA);
    m->from_lsn = ev->msg->from_lsn;
    m->flush_lsn = sk->flush_lsn;
    m->base_lsn = sk->d.base.lsn;
    m->digest = sk->d.base.digest;
    m->config = sk->d.base.config;
    if (co_mutated(BASE_UNCOMMITTED) && sk->write_lsn == sk->flush_lsn) {
        m->base_lsn = sk->flush_lsn; /* its end, committed or not */
        m->digest = sk->digest;
        m->config = sk->config;
    }
}
