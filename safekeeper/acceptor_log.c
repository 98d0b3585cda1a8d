/*
 * acceptor_log.c - S3: the records of an APPEND, every byte untrusted.
 *
 * A record is taken when it is sound (wal_check, digest), ours (cluster, timeline), where it says
 * (begin, base), written by the term that the adopted history names for its place (the live-record
 * rule), and chained to the record before. What we have already is skipped, but when we still know
 * what was there and it is something else, one (term, LSN) has two contents: HALT.
 */
#include "safekeeper/acceptor_core.h"

#include "common/assert.h"
#include "common/mutation.h"

void sk_seen_cut(struct sk_acceptor *sk, lsn_t lsn)
{
    for (uint32_t i = 0; i < SK_SEEN_MAX; i++) {
        if (sk->seen[i].begin >= lsn) {
            sk->seen[i] = (struct sk_seen){0};
        }
    }
}

void sk_seen_add(struct sk_acceptor *sk, const struct wal_header *r)
{
    sk->seen[sk->n_seen++ % SK_SEEN_MAX] =
        (struct sk_seen){.begin = r->begin_lsn, .term = r->term, .digest = r->digest};
}

static bool same_digest(const struct wal_digest *a, const struct wal_digest *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

/* false: we know that another record of this term stands there. */
static bool agrees(const struct sk_acceptor *sk, const struct wal_header *r)
{
    for (uint32_t i = 0; i < SK_SEEN_MAX; i++) {
        const struct sk_seen *s = &sk->seen[i];
        if (s->begin == r->begin_lsn && s->term == r->term && s->begin != 0) {
            return same_digest(&s->digest, &r->digest);
        }
    }
    return true;
}

/* Sound, ours, in its place and live? */
static bool acceptable(const struct sk_acceptor *sk, struct co_span bytes, lsn_t at,
                       struct wal_header *r)
{
    if (wal_check(bytes, r) ||
        wal_check_digest(co_span_of(bytes.data, (size_t)r->total_bytes), r)) {
        return false;
    }
    if (r->begin_lsn != at || !co_id_eq(&r->cluster, &sk->cluster) ||
        !co_id_eq(&r->timeline, &sk->timeline)) {
        return false;
    }
    if (co_mutated(APPEND_LOWER_TERM) || co_mutated(LEASE_ONLY_FENCE)) {
        return true;
    }
    struct q_history h = sk_history(sk);
    return at < sk->d.floor_lsn || q_term_at(&h, at) == r->term;
}

struct batch {
    lsn_t end;                /* of the last record looked at */
    struct wal_digest digest; /* at `end`, once beyond write_lsn */
    size_t skip;              /* bytes that we have */
    bool config;              /* a CONFIG record is among the new ones */
    struct wal_config new_config;
    lsn_t config_lsn;
};

enum verdict { TAKE, REFUSE, HALT };

static enum verdict look(const struct sk_acceptor *sk, const struct q_msg *m, struct batch *b)
{
    struct co_span rest = m->payload;
    b->end = m->begin_lsn;
    b->digest = sk->digest;
    while (rest.len > 0) {
        struct wal_header r;
        if (!acceptable(sk, rest, b->end, &r)) {
            return REFUSE;
        }
        struct co_span record = co_span_of(rest.data, (size_t)r.total_bytes);
        if (b->end < sk->write_lsn) {
            if (!agrees(sk, &r) && !co_mutated(APPEND_LOWER_TERM)) {
                return HALT;
            }
            if (r.end_lsn > sk->write_lsn) {
                return REFUSE; /* our log ends within this record: it is another log */
            }
            b->skip += record.len;
        } else {
            if (!same_digest(&r.prev_digest, &b->digest) && !co_mutated(APPEND_LOWER_TERM) &&
                !co_mutated(LEASE_ONLY_FENCE) && !co_mutated(TAIL_NOT_TRUNCATED)) {
                return REFUSE;
            }
            b->digest = r.digest;
            if (r.kind == WAL_CONFIG) {
                if (wal_read_config(record, &r, &b->new_config)) {
                    return REFUSE;
                }
                b->config = true;
                b->config_lsn = r.end_lsn;
            }
        }
        b->end = r.end_lsn;
        rest.data += record.len;
        rest.len -= record.len;
    }
    return TAKE;
}

static void remember_all(struct sk_acceptor *sk, struct co_span bytes)
{
    while (bytes.len > 0) {
        struct wal_header r;
        int rc = wal_peek(bytes, &r);
        co_assert(rc == 0); /* look() went over them */
        memcpy(r.digest.b, bytes.data + r.total_bytes - WAL_TRAILER_BYTES, sizeof r.digest.b);
        sk_seen_add(sk, &r);
        bytes.data += r.total_bytes;
        bytes.len -= (size_t)r.total_bytes;
    }
}

bool sk_take_records(struct sk_acceptor *sk, const struct q_msg *m, struct sk_actions *out)
{
    struct batch b = {0};
    switch (look(sk, m, &b)) {
    case HALT:
        sk_halt(sk, out, "one position of the log was sent twice in one term with other content");
        return false;
    case REFUSE:
        sk->refused++;
        return false;
    case TAKE:
        break;
    }
    struct co_span fresh = {m->payload.data + b.skip, m->payload.len - b.skip};
    if (fresh.len == 0) {
        return true;
    }
    if (sk->staged > 0) {
        /* The record that was staged comes whole after all: from the start, when that is zeros
         * again. The answer says where we are. */
        sk_drop_staged(sk, out);
        return true;
    }
    struct sk_action *a = sk_emit(out, SK_APPEND);
    a->lsn = sk->write_lsn;
    a->bytes = fresh;
    remember_all(sk, fresh);
    sk->write_lsn = b.end;
    sk->digest = b.digest;
    if (b.config) {
        sk_configure(sk, &b.new_config, b.config_lsn);
        sk_flush_now(sk, out);
    }
    return true;
}
