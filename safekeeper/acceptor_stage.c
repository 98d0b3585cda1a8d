/*
 * acceptor_stage.c - S3 for a record that comes in fragments.
 *
 * Fragments are staged: they go to the log's file behind its end, one after the other without a
 * gap, and are checked as they come (proto/wal_stream.h). The record is one when its last byte was
 * checked: then write_lsn moves, and flush_lsn when that byte is durable. Until then nothing of it
 * counts, for flush_lsn, votes or commit: what we say to anybody is where whole records end.
 *
 * Staged bytes belong to the leader whose fragments they are. A new history, a cut, a record that
 * does not hold what it promised, or a restart drops them: behind the end every byte is zero again.
 */
#include "safekeeper/acceptor_core.h"

#include "common/assert.h"
#include "common/mutation.h"

void sk_drop_staged(struct sk_acceptor *sk, struct sk_actions *out)
{
    if (sk->staged == 0) {
        return;
    }
    sk_flush_now(sk, out);
    sk_emit(out, SK_TRUNCATE)->lsn = sk->write_lsn;
    sk->digest_known = false; /* TRUNCATED brings it, as the next event */
    sk_unstage(sk);
}

void sk_unstage(struct sk_acceptor *sk)
{
    sk->staged = sk->staged_flushed = 0;
}

/* Ours, in its place, live and chained? What sk_take_records asks of a whole record. */
static bool belongs(const struct sk_acceptor *sk, const struct wal_header *r)
{
    struct q_history h = sk_history(sk);
    return r->begin_lsn == sk->write_lsn && co_id_eq(&r->cluster, &sk->cluster) &&
           co_id_eq(&r->timeline, &sk->timeline) &&
           memcmp(r->prev_digest.b, sk->digest.b, sizeof r->prev_digest.b) == 0 &&
           (r->begin_lsn < sk->d.floor_lsn || q_term_at(&h, r->begin_lsn) == r->term);
}

/* Checks the next bytes of the record. *whole: it is sound, and they were its last. */
static bool check_piece(struct sk_acceptor *sk, struct co_span piece, bool *whole)
{
    enum wal_stream_step step;
    struct wal_entry entry;
    *whole = false;
    if (sk->staged == 0) {
        wal_stream_reset(sk->staging);
    }
    if (wal_stream_feed(sk->staging, piece) ||
        (sk->staged == 0 && !belongs(sk, wal_stream_header(sk->staging)))) {
        return false;
    }
    do {
        if (wal_stream_next(sk->staging, &step, &entry)) {
            return false;
        }
    } while (step == WAL_STREAM_ENTRY);
    *whole = step == WAL_STREAM_END;
    return true;
}

/* The record is whole: from here on it is one of the log. */
static void complete(struct sk_acceptor *sk, struct sk_action *a)
{
    sk->completed = *wal_stream_header(sk->staging);
    a->record = &sk->completed;
    sk->write_lsn = sk->completed.end_lsn;
    sk->digest = sk->completed.digest;
    sk_seen_add(sk, &sk->completed);
    sk_unstage(sk);
}

static bool take_piece(struct sk_acceptor *sk, struct co_span piece, struct sk_actions *out)
{
    bool whole;
    if (!check_piece(sk, piece, &whole)) {
        sk->refused++;
        sk_drop_staged(sk, out); /* the sender begins again */
        return false;
    }
    struct sk_action *a = sk_emit(out, SK_APPEND);
    a->lsn = sk->write_lsn;
    a->fragment = true;
    a->fragment_at = sk->staged;
    a->bytes = piece;
    sk->staged += piece.len;
    if (whole) {
        complete(sk, a);
    }
    return true;
}

#ifdef CO_MUTATIONS
/* The three mistakes of fragments, which a sound check of the record would hide: bytes are taken as
 * they come, and the record counts as whole when there are enough of them. */
static bool take_unchecked(struct sk_acceptor *sk, const struct q_msg *m, struct sk_actions *out)
{
    struct wal_header h;
    struct co_span piece = m->payload;
    if (sk->staged == 0) {
        if (m->fragment_at != 0 || wal_peek(piece, &h) || !belongs(sk, &h)) {
            return true;
        }
        sk->completed = h;
    }
    uint64_t left = sk->completed.total_bytes - sk->staged;
    if (piece.len > left) {
        piece.len = (size_t)left;
    }
    struct sk_action *a = sk_emit(out, SK_APPEND);
    a->lsn = sk->write_lsn;
    a->fragment = true;
    a->fragment_at = sk->staged;
    a->bytes = piece;
    sk->staged += piece.len;
    if (sk->staged == sk->completed.total_bytes) {
        memcpy(sk->completed.digest.b, piece.data + piece.len - WAL_TRAILER_BYTES, 16);
        a->record = &sk->completed;
        sk->write_lsn = sk->completed.end_lsn;
        sk->digest = sk->completed.digest;
        sk_unstage(sk);
    }
    return true;
}
#endif

int sk_take_fragment(struct sk_acceptor *sk, const struct q_msg *m, struct sk_actions *out,
                     bool *taken)
{
    *taken = true;
    if (!sk->staging) {
        int rc = wal_stream_new(&sk->staging);
        if (rc) {
            return rc;
        }
    }
    /* Of a record that we have, or that lies behind a gap: the answer says where we are. */
    if (m->begin_lsn != sk->write_lsn) {
        return 0;
    }
#ifdef CO_MUTATIONS
    if ((co_mutated(FRAGMENT_GAP) && m->fragment_at >= sk->staged) ||
        (co_mutated(FRAGMENT_OLD_TERM) && m->fragment_at == sk->staged)) {
        *taken = take_unchecked(sk, m, out);
        return 0;
    }
#endif
    if (m->fragment_at > sk->staged || sk->staged - m->fragment_at >= m->payload.len) {
        return 0;
    }
    size_t have = (size_t)(sk->staged - m->fragment_at);
    *taken = take_piece(sk, co_span_of(m->payload.data + have, m->payload.len - have), out);
    return 0;
}
