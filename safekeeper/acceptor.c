/*
 * acceptor.c - see acceptor.h. The rules: S3 append, S4 commit; S1 vote and S2 elected are in
 * acceptor_vote.c, S5 lease in acceptor_lease.c.
 *
 * What is durable is changed only through persist(), which puts a PERSIST in the list before
 * whatever SEND relies on it. So a function here reads: decide, change, persist, answer.
 *
 * Memory: the actions of a step are had before anything is changed, so a step that fails for want
 * of memory has not happened.
 */
#include "safekeeper/acceptor_core.h"

#include <stdlib.h>

#include "common/assert.h"
#include "common/mutation.h"
#include "proto/qhist.h"

/* The longest list: FREE, WAITER or VOTED to each waiter, and what a message brings about. */
#define ACTIONS_MAX (SK_WAITERS_MAX + 20u)

/* ---- actions ----------------------------------------------------------------------------------
 */

static int actions_begin(struct sk_actions *out)
{
    out->n = 0;
    if (out->cap >= ACTIONS_MAX) {
        return 0;
    }
    struct sk_action *a = realloc(out->a, ACTIONS_MAX * sizeof *a);
    if (!a) {
        return co_fail(CO_ERR_NOMEM, "no memory for the actions of a safekeeper step");
    }
    out->a = a;
    out->cap = ACTIONS_MAX;
    return 0;
}

void sk_actions_free(struct sk_actions *out)
{
    free(out->a);
    *out = (struct sk_actions){0};
}

struct sk_action *sk_emit(struct sk_actions *out, enum sk_action_kind kind)
{
    co_assert(out->n < out->cap);
    struct sk_action *a = &out->a[out->n++];
    *a = (struct sk_action){.kind = kind};
    return a;
}

struct q_msg *sk_emit_send(const struct sk_acceptor *sk, struct sk_actions *out, sk_conn_t conn,
                           enum frame_type type)
{
    struct sk_action *a = sk_emit(out, SK_SEND);
    a->conn = conn;
    a->msg.type = type;
    a->msg.timeline = sk->timeline;
    a->msg.config_version = sk->config.version;
    a->msg.term = sk->d.term;
    return &a->msg;
}

static struct sk_action *persist(struct sk_acceptor *sk, struct sk_actions *out,
                                 enum sk_action_kind kind)
{
    /* Each PERSIST of a list needs a state of its own: a later one must not show through. */
    co_assert(sk->n_snapshots < 2);
    struct sk_durable *d = &sk->snapshot[sk->n_snapshots++];
    sk->d.commit_lsn = sk->commit_lsn;
    *d = sk->d;
    struct sk_action *a = sk_emit(out, kind);
    a->durable = d;
    return a;
}

void sk_persist(struct sk_acceptor *sk, struct sk_actions *out, bool history_changed)
{
    persist(sk, out, SK_PERSIST)->history_changed = history_changed;
}

void sk_persist_base(struct sk_acceptor *sk, struct sk_actions *out)
{
    persist(sk, out, SK_REBASE)->lsn = sk->d.base.lsn;
}

void sk_halt(struct sk_acceptor *sk, struct sk_actions *out, const char *reason)
{
    sk->halted = true;
    sk_emit(out, SK_HALT)->reason = reason;
}

/* ---- state ------------------------------------------------------------------------------------
 */

struct q_history sk_history(const struct sk_acceptor *sk)
{
    return (struct q_history){sk->d.n_history, sk->d.history};
}

term_t sk_history_term(const struct sk_acceptor *sk)
{
    return sk->d.n_history ? sk->d.history[sk->d.n_history - 1].term : 0;
}

/* Doubt about our log ends when it reaches as far as it ever may have, or holds all that was
 * committed before a leader who was elected since: a leader's start lies behind all of that (I11).
 * The disk learns it with the next PERSIST. */
void sk_settle_doubt(struct sk_acceptor *sk)
{
    const struct q_term *last = sk->d.n_history ? &sk->d.history[sk->d.n_history - 1] : NULL;
    if (sk->flush_lsn >= sk->d.suspect_lsn ||
        (last && last->term > sk->d.suspect_term && sk->flush_lsn >= last->start)) {
        sk->d.suspect_lsn = 0;
        sk->d.suspect_term = 0;
    }
}

void sk_flushed(struct sk_acceptor *sk, lsn_t lsn, struct sk_actions *out)
{
    if (lsn > sk->write_lsn) {
        lsn = sk->write_lsn;
    }
    if (lsn > sk->flush_lsn) {
        sk->flush_lsn = lsn;
    }
    sk_settle_doubt(sk);
    sk_commit(sk, sk->leader_commit, out);
}

void sk_flush_now(struct sk_acceptor *sk, struct sk_actions *out)
{
    if (sk->write_lsn > sk->flush_lsn || sk->staged > sk->staged_flushed) {
        sk_emit(out, SK_FLUSH)->lsn = sk->write_lsn;
        sk->staged_flushed = sk->staged;
        sk_flushed(sk, sk->write_lsn, out);
    }
}

/* S4. `lsn` comes from the leader whose history we adopted, so up to flush_lsn our log is its. */
void sk_commit(struct sk_acceptor *sk, lsn_t lsn, struct sk_actions *out)
{
    if (lsn > sk->leader_commit) {
        sk->leader_commit = lsn;
    }
    if (lsn > sk->flush_lsn) {
        lsn = sk->flush_lsn;
    }
    if (lsn > sk->commit_lsn) {
        sk->commit_lsn = lsn;
        sk_emit(out, SK_COMMIT)->lsn = lsn;
    }
}

/* The configuration in force. */
const struct wal_config *sk_config(const struct sk_acceptor *sk)
{
#ifdef CO_MUTATIONS
    if (co_mutated(CONFIG_ONCE_COMMITTED) && sk->commit_lsn < sk->config_lsn) {
        return &sk->config_before;
    }
#endif
    return &sk->config;
}

void sk_configure(struct sk_acceptor *sk, const struct wal_config *config, lsn_t lsn)
{
#ifdef CO_MUTATIONS
    sk->config_before = *sk_config(sk);
    sk->config_lsn = lsn;
#else
    (void)lsn;
#endif
    sk->left = q_left(sk->left, &sk->config, config, sk->node);
    sk->config = *config;
}

void sk_send_ack(struct sk_acceptor *sk, sk_conn_t conn, const struct co_id *nonce,
                 uint64_t sent_us, struct sk_actions *out)
{
    if (sk->write_lsn > sk->told_lsn) {
        sk->told_lsn = sk->write_lsn;
    }
    struct q_msg *m = sk_emit_send(sk, out, conn, FRAME_ACK);
    m->nonce = *nonce;
    m->flush_lsn = co_mutated(ACK_BEFORE_FSYNC) ? sk->write_lsn : sk->flush_lsn;
    m->write_lsn = sk->write_lsn;
    if (co_mutated(STAGED_COUNTS) && sk->staged_flushed > 0) {
        m->flush_lsn = wal_stream_header(sk->staging)->end_lsn;
    }
    m->staged_bytes = sk->staged_flushed;
    m->commit_lsn = sk->commit_lsn;
    m->sent_us = sk->released ? 0 : sent_us; /* 0: no lease comes with it */
    m->waiters = sk->n_waiters;
    m->base_lsn = sk->d.base.lsn;
}

/* ---- S3 append: the message; its records are acceptor_log.c's ---------------------------------
 */

static bool append_allowed(const struct sk_acceptor *sk, const struct sk_event *ev)
{
    const struct q_msg *m = ev->msg;
    if (co_mutated(APPEND_LOWER_TERM) && m->term <= sk->d.term) {
        return true;
    }
    if (co_mutated(LEASE_ONLY_FENCE) && m->term <= sk->d.term &&
        !sk_lease_blocks(sk, &m->nonce, ev->now_us)) {
        return true;
    }
    return m->term == sk->d.term && sk_history_term(sk) == m->term &&
           co_id_eq(&m->nonce, &sk->d.voted_nonce);
}

static int on_append(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    const struct q_msg *m = ev->msg;
    if (!append_allowed(sk, ev)) {
        if (m->term < sk->d.term) {
            sk_emit_send(sk, out, ev->conn, FRAME_REJECT);
        }
        return 0; /* ELECTED has not come yet, or was lost: the sender repeats it */
    }
    lsn_t before = sk->write_lsn;
    uint64_t staged_before = sk->staged;
    bool taken = true;
    if (m->base_lsn) {
        sk_take_base(sk, ev, out);
    } else if (m->payload.len > 0 && m->fragment) {
        int rc = sk_take_fragment(sk, m, out, &taken);
        if (rc) {
            return rc;
        }
    } else if (m->payload.len > 0 && m->begin_lsn <= sk->write_lsn) {
        taken = sk_take_records(sk, m, out);
    }
    if (!taken) {
        return 0;
    }
    sk_lease_extend(sk, ev, out);
    if (m->writing) {
        sk_lease_writing(sk, out);
    }
    if (m->floor_lsn >= sk->floor_hint) {
        sk->floor_hint = m->floor_lsn;
        sk->floor_term = m->term;
    }
    sk_commit(sk, m->commit_lsn, out);

    bool fresh = sk->write_lsn > before || sk->staged > staged_before;
    bool durable = sk->write_lsn == sk->flush_lsn && sk->staged == sk->staged_flushed;
    if (!durable) {
        sk->ack_due = true;
        sk->ack_conn = ev->conn;
        sk->ack_sent_us = m->sent_us;
        sk->ack_nonce = m->nonce;
        sk->ack_term = m->term;
    }
    if (!fresh || durable || m->want_received || co_mutated(ACK_BEFORE_FSYNC)) {
        sk_send_ack(sk, ev->conn, &m->nonce, m->sent_us, out);
        if (co_mutated(APPEND_LOWER_TERM) || co_mutated(LEASE_ONLY_FENCE)) {
            out->a[out->n - 1].msg.term = m->term;
        }
    }
    return 0;
}

/* ---- the rest ---------------------------------------------------------------------------------
 */

static void on_fetch(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    const struct q_msg *m = ev->msg;
    if (m->term < sk->d.term) {
        sk_emit_send(sk, out, ev->conn, FRAME_REJECT);
        return;
    }
    if (m->term > sk->d.term || m->from_lsn < sk->start_lsn || m->from_lsn >= sk->flush_lsn ||
        m->to_lsn <= m->from_lsn) {
        return; /* nothing that we could vouch for; the leader asks somebody else */
    }
    if (m->from_lsn < sk_base_lsn(sk)) {
        sk_send_base(sk, ev, out);
        return;
    }
    struct q_history h = sk_history(sk);
    struct q_msg data = {.type = FRAME_DATA,
                         .timeline = sk->timeline,
                         .config_version = sk->config.version,
                         .term = sk->d.term,
                         .from_lsn = m->from_lsn,
                         .flush_lsn = sk->flush_lsn,
                         .history = q_history_cut(&h, sk->flush_lsn)};
    struct sk_action *a = sk_emit(out, SK_READ);
    a->conn = ev->conn;
    a->lsn = m->from_lsn;
    a->to_lsn = m->to_lsn < sk->flush_lsn ? m->to_lsn : sk->flush_lsn;
    a->fragment_at = m->fragment_at;
    a->msg = data;
}

static void on_release(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    const struct q_msg *m = ev->msg;
    if (m->term != sk->d.term || !co_id_eq(&m->nonce, &sk->d.voted_nonce)) {
        return;
    }
    sk->released = true; /* what of this term still comes in late does not renew it */
    sk->quiet_until_us = 0;
    sk_lease_end(sk, ev->now_us, out);
}

/* Who sent what is durable by now is told. */
static void ack_flushed(struct sk_acceptor *sk, struct sk_actions *out)
{
    sk_send_ack(sk, sk->ack_conn, &sk->ack_nonce, sk->ack_sent_us, out);
    out->a[out->n - 1].msg.term = sk->ack_term;
    sk->ack_due = sk->write_lsn > sk->flush_lsn || sk->staged > sk->staged_flushed;
}

/* S6. What a commit without a sync counts on is made durable first: a reader that comes after it
 * must see it, and must not see what can still be lost. Who wants the history asks what this log
 * has for good, and nothing that is here already may come on top of the answer: of a sealed log it
 * is the last word (proto/sealed_end.h). */
static void on_read_pos(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    if (sk->told_lsn > sk->flush_lsn || ev->msg->want_history) {
        sk_flush_now(sk, out);
        if (sk->ack_due) {
            ack_flushed(sk, out); /* no FLUSHED will bring anything new */
        }
    }
    if (ev->msg->want_history && sk->commit_lsn > sk->d.commit_lsn) {
        sk_persist(sk, out, false); /* nobody tells a sealed log twice how far it is committed */
    }
    struct q_history h = sk_history(sk);
    struct q_msg *m = sk_emit_send(sk, out, ev->conn, FRAME_POS);
    m->read_id = ev->msg->read_id;
    m->last_log_term = q_last_log_term(&h, sk->flush_lsn);
    m->flush_lsn = sk->flush_lsn;
    m->commit_lsn = sk->commit_lsn;
    m->suspect_lsn = sk->d.suspect_lsn;
    m->config = *sk_config(sk);
    m->lease_held = sk_lease_taken(sk, ev->now_us);
    if (ev->msg->want_history) {
        m->history = q_history_cut(&h, sk->flush_lsn);
    }
    m->known_commit = co_mutated(IMAGE_VOTES) ? 0 : sk_witness_beyond(sk, &m->known_log_term);
}

static int on_msg(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    const struct q_msg *m = ev->msg;
    if (!co_id_eq(&m->timeline, &sk->timeline)) {
        sk->refused++;
        return 0;
    }
    if (m->known.n && !sk_witness_hear(sk, ev, out)) {
        return 0;
    }
    switch (m->type) {
    case FRAME_VOTE:
        sk_on_vote(sk, ev, out);
        return 0;
    case FRAME_ELECTED:
        return sk_on_elected(sk, ev, out);
    case FRAME_APPEND:
        return on_append(sk, ev, out);
    case FRAME_FETCH:
        on_fetch(sk, ev, out);
        return 0;
    case FRAME_RELEASE:
        on_release(sk, ev, out);
        return 0;
    case FRAME_READ_POS:
        on_read_pos(sk, ev, out);
        return 0;
    default:
        sk->refused++;
        return 0;
    }
}

static void on_flushed(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    bool moved = ev->lsn > sk->flush_lsn;
    if (moved) {
        sk_flushed(sk, ev->lsn, out);
    }
    if (ev->lsn == sk->write_lsn && ev->staged > sk->staged_flushed && ev->staged <= sk->staged) {
        sk->staged_flushed = ev->staged;
        moved = true;
    }
    if (moved && sk->ack_due) {
        ack_flushed(sk, out);
    }
}

static void on_closed(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    if (sk->ack_conn == ev->conn) {
        sk->ack_due = false;
    }
    sk_lease_closed(sk, ev, out);
}

static void on_shutdown(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out)
{
    sk_flush_now(sk, out);
    sk->d.no_lease = !sk_lease_runs(sk, ev->now_us);
    sk_persist(sk, out, false);
    sk_witness_write(sk, ev->now_us, out);
}

int sk_step(struct sk_acceptor *sk, const struct sk_event *event, struct sk_actions *out)
{
    int rc = actions_begin(out);
    if (rc || sk->halted || sk->witness.regressed) {
        return rc;
    }
    sk->n_snapshots = 0;
    free(sk->retired);
    sk->retired = NULL;
    co_assert(sk->digest_known || event->kind == SK_EV_TRUNCATED);

    switch (event->kind) {
    case SK_EV_MSG:
        rc = on_msg(sk, event, out);
        break;
    case SK_EV_FLUSHED:
        on_flushed(sk, event, out);
        break;
    case SK_EV_TRUNCATED:
        co_assert(event->lsn == sk->write_lsn);
        sk->digest = event->digest;
        sk->config = event->config;
        sk->digest_known = true;
        break;
    case SK_EV_CLOSED:
        on_closed(sk, event, out);
        break;
    case SK_EV_TIMER:
        sk->timer_us = 0;
        break;
    case SK_EV_SHUTDOWN:
        on_shutdown(sk, event, out);
        break;
    case SK_EV_TRIM:
        sk_trim(sk, event, out);
        break;
    }
    if (rc == 0 && !sk->halted && !sk->witness.regressed) {
        sk_lease_tick(sk, event->now_us, out);
        co_assert(sk->start_lsn <= sk_base_lsn(sk) && sk_base_lsn(sk) <= sk->commit_lsn &&
                  sk->commit_lsn <= sk->flush_lsn && sk->flush_lsn <= sk->write_lsn); /* I3 */
        co_assert(sk_history_term(sk) <= sk->d.term);
    }
    return rc;
}

/* ---- life -------------------------------------------------------------------------------------
 */

static int boot_check(const struct sk_boot *boot)
{
    const struct sk_durable *d = &boot->durable;
    struct q_history h = {d->n_history, d->history};
    if (!q_history_valid(&h) || (h.n > 0 && h.e[h.n - 1].term > d->term)) {
        return co_fail(CO_ERR_CORRUPT, "the stored term history does not ascend, or goes beyond "
                                       "the stored term; this copy of the log cannot be used");
    }
    if (d->base.lsn && (d->base.lsn < boot->start_lsn || d->base.lsn > d->commit_lsn)) {
        return co_fail(
            CO_ERR_CORRUPT,
            "the log is kept from %016llx on, which is not between its start and what is "
            "known to be committed, %016llx; this copy of the log cannot be used",
            (unsigned long long)d->base.lsn, (unsigned long long)d->commit_lsn);
    }
    if (boot->flush_lsn < boot->start_lsn || boot->flush_lsn < d->commit_lsn) {
        return co_fail(CO_ERR_CORRUPT,
                       "the log ends at %016llx, but %016llx and below is known to be committed: "
                       "this disk has lost what it had; this copy of the log cannot be used",
                       (unsigned long long)boot->flush_lsn, (unsigned long long)d->commit_lsn);
    }
    return 0;
}

int sk_acceptor_new(const struct sk_boot *boot, struct sk_acceptor **out)
{
    const struct sk_durable *d = &boot->durable;
    int rc = boot_check(boot);
    if (rc) {
        return rc;
    }
    struct sk_acceptor *sk = calloc(1, sizeof *sk);
    struct q_term *history = malloc((d->n_history + 1) * sizeof *history);
    if (!sk || !history) {
        free(sk);
        free(history);
        return co_fail(CO_ERR_NOMEM, "no memory for a timeline with %u terms", d->n_history);
    }
    if (d->n_history) {
        memcpy(history, d->history, d->n_history * sizeof *history);
    }
    sk->cluster = boot->cluster;
    sk->timeline = boot->timeline;
    sk->start_lsn = boot->start_lsn;
    sk->lease_us = boot->lease_us;
    sk->history_keep = boot->history_keep ? boot->history_keep : SK_HISTORY_KEEP;
    sk->d = *d;
    sk->d.history = history;
    sk->write_lsn = sk->flush_lsn = boot->flush_lsn;
    sk->commit_lsn = d->commit_lsn > boot->start_lsn ? d->commit_lsn : boot->start_lsn;
    /* Only what was committed is ever below the floor, though the block may have been written
     * before the commit LSN was; and a damaged log may end below it. */
    lsn_t below_floor = d->floor_lsn < boot->flush_lsn ? d->floor_lsn : boot->flush_lsn;
    if (below_floor > sk->commit_lsn) {
        sk->commit_lsn = below_floor;
    }
    sk->digest = boot->digest;
    sk->digest_known = true;
    sk->config = boot->config;
    sk->node = boot->node;
    sk->left = boot->left;
    sk_witness_boot(sk, boot);
    /* S5: a lease promised before the restart is still honoured, unless there was none (S7). */
    if (!d->no_lease && !co_mutated(LEASE_FORGOTTEN)) {
        sk->quiet_until_us = boot->now_us + boot->lease_us;
    }
    *out = sk;
    return 0;
}

void sk_acceptor_free(struct sk_acceptor *sk)
{
    if (sk) {
        free(sk->d.history);
        free(sk->retired);
        wal_stream_free(sk->staging);
        free(sk);
    }
}

void sk_view(const struct sk_acceptor *sk, uint64_t now_us, struct sk_view *out)
{
    struct q_history h = sk_history(sk);
    *out = (struct sk_view){.term = sk->d.term,
                            .last_log_term = q_last_log_term(&h, sk->flush_lsn),
                            .start_lsn = sk->start_lsn,
                            .write_lsn = sk->write_lsn,
                            .flush_lsn = sk->flush_lsn,
                            .commit_lsn = sk->commit_lsn,
                            .floor_lsn = sk->d.floor_lsn,
                            .base_lsn = sk_base_lsn(sk),
                            .suspect_lsn = sk->d.suspect_lsn,
                            .digest = sk->digest,
                            .staged = sk->staged,
                            .lease_held = sk->lease_until_us > now_us,
                            .halted = sk->halted,
                            .lease_nonce = sk->lease_nonce,
                            .lease_until_us = sk->lease_until_us,
                            .waiters = sk->n_waiters,
                            .refused = sk->refused,
                            .history = h,
                            .config = sk->config,
                            .left = sk->left,
                            .regressed = sk->witness.regressed,
                            .known = {sk->witness.n, sk->witness.known}};
}
