/*
 * member_sealed_sock.c - the keepers of a sealed timeline: a new one is filled with what is
 * committed, and one that lacks some of it, or does not know that what it has is, gets that.
 *
 * A sealed timeline takes no record for ever, so its members cannot change in its log. They need
 * not: nobody will vote on it or commit to it again, and what is asked of it (where it ends, its
 * records) is asked of those that the list of safekeepers names. So all that a new one has to have
 * is the committed log, and it is brought here as a leader would bring it: ELECTED, APPEND. The
 * acceptor checks each record as always.
 *
 * Why that is safe: a majority (of both groups of the list) says SEALED before anything is done,
 * and a seal is durable and for ever; nobody can be elected any more, so no real leader has the
 * term that is used, which lies above all that are there, or ever will have. The history is the
 * donor's, cut where the log is committed, and the term begins there: it never writes anything.
 *
 * What is committed: what somebody knows to be, what a branch grew from, and what a majority has
 * alike (sealed_end.h). If the log of one goes on behind that while a lease runs, its writer may be
 * about to say that more is; then this waits, and also where a keeper that does not answer may have
 * it. Else nobody has it but a minority for ever, and it may be cut (decision 53).
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/members.h"
#include "common/clock_file.h"
#include "proto/qhist.h"

#define ASK_US   3000000u
#define SLICE_US 5000000u /* then the others get their turn */
/* A batch of records, over the slowest link that there may be. */
#define BATCH_US (ASK_US + CO_BATCH_BYTES * 1000000ull / CO_RATE_MIN_BYTES_PER_S)

/* What one safekeeper says of the timeline. */
struct told {
    struct member *of;
    term_t term, last_log_term;
    lsn_t flush, commit, known_commit;
    term_t known_log_term;
    bool lease;
    bool doubt;             /* its log may have forgotten something (decision 24) */
    struct q_term *history; /* owned */
    uint32_t n_history;
    struct wal_config config; /* the last one in its log */
};

struct fill {
    struct members *m;
    const struct member_timeline *t;
    struct told told[NODES_MAX];
    uint32_t n_told;
    struct sealed_log log;      /* of those that told and are sealed */
    struct told *donor, *to;    /* to: who is brought on */
    struct member *new;         /* NULL: none of them is */
    lsn_t start, commit, flush; /* flush: what `to` has */
    uint64_t lag;               /* bytes that the sealed ones were not known to have */
    term_t term;
    struct co_id nonce;
    uint64_t read_id;
};

/* -- One message and its answer ------------------------------------------------------------------
 */

static int send_to(struct fill *f, struct member *x, struct q_msg *msg)
{
    int rc = member_connect(f->m, f->t, x);
    if (rc)
        return rc;
    msg->timeline = f->t->id;
    f->m->frame.len = 0;
    rc = qmsg_encode(msg, &f->m->frame);
    return rc ? rc : psock_queue(&x->log.sock, co_buf_span(&f->m->frame));
}

/* The next message of this timeline that `x` sends; it borrows until the next call. An Error is
 * one: what it says of another timeline would be an answer to a question that was given up. */
static int receive(struct fill *f, struct member *x, uint64_t until_us, struct q_msg *out)
{
    for (;;) {
        struct frame_header frame;
        struct co_span body;
        uint64_t now = co_now_us();
        int rc = psock_next(&x->log.sock, &frame, &body);
        if (!rc && frame.type == FRAME_ERROR)
            return co_fail(CO_ERR_BUSY, "safekeeper %u refuses it", x->node);
        if (!rc && (frame.type < FRAME_VOTE || frame.type > FRAME_FREE))
            continue;
        if (!rc)
            rc = qmsg_decode(&frame, body, &f->m->scratch, out);
        if (!rc && co_id_eq(&out->timeline, &f->t->id))
            return 0;
        if (!rc)
            continue; /* of the one before */
        if (rc != CO_ERR_AGAIN)
            return rc;
        if (now >= until_us)
            return co_fail(CO_ERR_TIMEOUT, "safekeeper %u did not answer in time", x->node);
        struct pollfd fd = {.fd = x->log.sock.fd,
                            .events =
                                (short)(POLLIN | (psock_wants_out(&x->log.sock) ? POLLOUT : 0))};
        if (poll(&fd, 1, (int)((until_us - now) / 1000) + 1) < 0 && errno != EINTR)
            return co_fail_errno(CO_ERR_IO, errno, "waiting for a safekeeper failed");
        if (fd.revents & POLLOUT && psock_pump_out(&x->log.sock))
            return CO_ERR_CLOSED;
        rc = fd.revents & (POLLIN | POLLHUP | POLLERR) ? psock_pump_in(&x->log.sock) : 0;
        if (rc && rc != CO_ERR_AGAIN && psock_next(&x->log.sock, &frame, &body) == CO_ERR_AGAIN)
            return rc;
    }
}

/* What is left of an older question must not be taken for the answer to this one. */
static void give_up(struct member *x)
{
    client_close(&x->log);
    x->log.sock.fd = -1;
}

/* -- Where everybody is --------------------------------------------------------------------------
 */

static int keep(struct told *told, const struct q_msg *msg)
{
    told->term = msg->term;
    told->last_log_term = msg->last_log_term;
    told->flush = msg->flush_lsn;
    told->commit = msg->commit_lsn;
    told->known_commit = msg->known_commit;
    told->known_log_term = msg->known_log_term;
    told->lease = msg->lease_held;
    told->doubt = msg->suspect_lsn != 0;
    told->n_history = msg->history.n;
    told->config = msg->config;
    told->history = malloc((msg->history.n + 1) * sizeof *told->history);
    if (!told->history)
        return co_fail(CO_ERR_NOMEM, "no memory for a history of %u terms", msg->history.n);
    if (msg->history.n)
        memcpy(told->history, msg->history.e, msg->history.n * sizeof *told->history);
    return 0;
}

static int ask(struct fill *f, struct member *x)
{
    struct q_msg msg = {.type = FRAME_READ_POS, .read_id = ++f->read_id, .want_history = true};
    uint64_t until = co_now_us() + ASK_US;
    int rc = send_to(f, x, &msg);
    while (!rc) {
        rc = receive(f, x, until, &msg);
        if (!rc && msg.type == FRAME_POS && msg.read_id == f->read_id)
            break;
    }
    if (rc) {
        give_up(x);
        return rc == CO_ERR_NOMEM ? rc : 0; /* the others may be enough */
    }
    f->told[f->n_told].of = x;
    return keep(&f->told[f->n_told++], &msg);
}

static int busy(const struct fill *f, const char *why)
{
    return co_fail(CO_ERR_BUSY, "%s: %.300s", f->t->name, why);
}

static bool is_sealed_by(const struct member_timeline *t, uint32_t node)
{
    for (uint32_t i = 0; i < t->n_sealed_by; i++)
        if (t->sealed_by[i] == node)
            return true;
    return false;
}

static struct sealed_copy copy_of(const struct told *x)
{
    return (struct sealed_copy){
        x->of->node, x->flush, x->commit, {x->n_history, x->history}, &x->config};
}

/* The copies that change no more. One in doubt counts for nothing: all that it may do is get what
 * it lacks. */
static uint32_t gather(struct fill *f, struct told *of[NODES_MAX])
{
    f->log =
        (struct sealed_log){.config = &f->m->book.config, .start = f->start, .read = f->t->read};
    for (uint32_t i = 0; i < f->n_told; i++) {
        struct told *x = &f->told[i];
        sealed_hear(&f->log.known, x->known_commit, x->known_log_term);
        if (x->doubt || !is_sealed_by(f->t, x->of->node))
            continue;
        of[f->log.n] = x;
        f->log.copy[f->log.n++] = copy_of(x);
    }
    return f->log.n;
}

/* CO_ERR_BUSY: it is not known what is committed. */
static int ask_all(struct fill *f)
{
    struct told *sealed[NODES_MAX];
    uint32_t set[NODES_MAX], n = 0, holder;
    lsn_t longest = 0;
    bool lease = false;
    int rc = 0;
    for (uint32_t i = 0; i < f->m->n && !rc; i++)
        if (q_is_member(&f->m->book.config, f->m->at[i].node))
            rc = ask(f, &f->m->at[i]);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < f->n_told; i++) {
        struct told *x = &f->told[i];
        if (!x->doubt)
            set[n++] = x->of->node;
        f->term = x->term > f->term ? x->term : f->term;
        lease |= x->lease && x->of != f->new; /* that one is of who fills it */
        if (x->of == f->new)
            f->to = x;
    }
    if (!q_is_quorum(&f->m->book.config, set, n) || (f->new && !f->to) || !gather(f, sealed))
        return busy(f, "a majority of the safekeepers did not say where it ends");
    rc = sealed_end(&f->log, &f->commit, &holder);
    if (rc)
        return rc;
    f->donor = sealed[holder];
    for (uint32_t i = 0; i < f->log.n; i++)
        longest = f->log.copy[i].flush > longest ? f->log.copy[i].flush : longest;
    for (uint32_t i = 0; i < f->n_told; i++)
        if (is_sealed_by(f->t, f->told[i].of->node) && f->commit > f->told[i].commit)
            f->lag += f->commit - f->told[i].commit;
    if (lease && (longest > f->commit || f->donor->commit < f->commit))
        return busy(f, "its last writer has not said how far it is committed");
    return 0;
}

/* -- Filling -------------------------------------------------------------------------------------
 */

/* Waits for an acknowledgement of at least `lsn` (of a large record: of `staged` bytes behind it).
 */
static int await_ack(struct fill *f, lsn_t lsn, uint64_t staged, uint64_t wait_us)
{
    uint64_t until = co_now_us() + wait_us;
    struct q_msg msg;
    int rc;
    while ((rc = receive(f, f->to->of, until, &msg)) == 0) {
        if (msg.type == FRAME_VOTED || msg.type == FRAME_REJECT)
            return busy(f, "the safekeeper that is brought on has moved on meanwhile");
        if (msg.type != FRAME_ACK || msg.term != f->term || !co_id_eq(&msg.nonce, &f->nonce))
            continue;
        f->flush = msg.flush_lsn;
        if (msg.flush_lsn > lsn || (msg.flush_lsn == lsn && msg.staged_bytes >= staged))
            return 0;
    }
    return rc;
}

/* The donor's history up to what is committed, then the term that only fills. */
static int lead(struct fill *f, lsn_t part)
{
    const struct q_history all = {.n = f->donor->n_history, .e = f->donor->history};
    struct q_history h = sealed_terms(&all, f->commit);
    struct q_term *e = malloc((h.n + 1) * sizeof *e);
    if (!e)
        return co_fail(CO_ERR_NOMEM, "no memory for a history of %u terms", h.n);
    if (h.n)
        memcpy(e, h.e, h.n * sizeof *e);
    e[h.n] = (struct q_term){.term = ++f->term, .start = f->commit};
    f->to->term = f->term;
    f->nonce = co_id_random();
    struct q_msg msg = {.type = FRAME_ELECTED,
                        .term = f->term,
                        .nonce = f->nonce,
                        .history = {.n = h.n + 1, .e = e},
                        .start_lsn = part};
    int rc = send_to(f, f->to->of, &msg);
    free(e);
    return rc ? rc : await_ack(f, part, 0, ASK_US);
}

static int append(struct fill *f, lsn_t lsn, struct co_span bytes, bool fragment, uint64_t at)
{
    struct q_msg msg = {.type = FRAME_APPEND,
                        .term = f->term,
                        .nonce = f->nonce,
                        .begin_lsn = lsn,
                        .commit_lsn = f->commit,
                        .fragment = fragment,
                        .fragment_at = at,
                        .payload = bytes};
    int rc = send_to(f, f->to->of, &msg);
    return rc ? rc
              : await_ack(f, fragment ? lsn : lsn + bytes.len, fragment ? at + bytes.len : 0,
                          bytes.len ? BATCH_US : ASK_US);
}

/* The donor's log begins above f->flush: what lies below is in the archive, and who is filled
 * begins there too (decision 48). */
static int bring_base(struct fill *f)
{
    struct member *from = f->donor->of;
    uint64_t until = co_now_us() + ASK_US;
    struct q_msg msg = {.type = FRAME_FETCH,
                        .term = f->donor->term,
                        .from_lsn = f->flush,
                        .to_lsn = f->flush + LSN_ALIGN};
    int rc = send_to(f, from, &msg);
    while (!rc) {
        rc = receive(f, from, until, &msg);
        if (!rc && msg.type == FRAME_REJECT)
            rc = busy(f, "the safekeeper that has it has moved on meanwhile");
        if (!rc && msg.type == FRAME_DATA && msg.base_lsn > f->flush)
            break;
    }
    if (rc) {
        give_up(from);
        return rc;
    }
    struct q_msg base = {.type = FRAME_APPEND,
                         .term = f->term,
                         .nonce = f->nonce,
                         .begin_lsn = f->flush,
                         .commit_lsn = f->commit,
                         .base_lsn = msg.base_lsn,
                         .digest = msg.digest,
                         .config = msg.config};
    rc = send_to(f, f->to->of, &base);
    return rc ? rc : await_ack(f, base.base_lsn, 0, ASK_US);
}

/* Records from f->flush on, or a piece of a large one. *staged: bytes of it that are there. */
static int bring(struct fill *f, uint64_t *staged)
{
    Corallite__Stream q = CORALLITE__STREAM__INIT;
    Corallite__StreamData *d = NULL;
    struct co_buf records = {0};
    struct co_id id = f->t->id;
    lsn_t from = f->flush;
    q.has_timeline = q.has_from_lsn = q.has_max_bytes = q.has_wait_ms = q.has_fragment_at = 1;
    q.timeline = msg_bytes16(id.b);
    q.from_lsn = from;
    q.fragment_at = *staged;
    q.max_bytes = CO_BATCH_BYTES;
    int rc =
        client_call_payload(&f->donor->of->admin, FRAME_STREAM, &q.base, FRAME_STREAM_DATA,
                            &corallite__stream_data__descriptor, BATCH_US / 1000, &d, &records);
    if (rc == CO_ERR_TRUNCATED) {
        *staged = 0;
        return bring_base(f);
    }
    if (rc)
        return rc;
    bool fragment = d->fragment && d->has_fragment;
    if (!records.len || (fragment ? d->fragment_at != *staged : *staged > 0))
        rc = busy(f, "the safekeeper that has it does not give it now");
    corallite__stream_data__free_unpacked(d, NULL);
    if (!rc)
        rc = append(f, from, co_buf_span(&records), fragment, *staged);
    *staged = !rc && fragment && f->flush == from ? *staged + records.len : 0;
    co_buf_free(&records);
    return rc;
}

/* May the log of who is brought on be cut where it is committed? And when it is in doubt, may that
 * doubt end there? What it has forgotten and another one still has may be committed by the two. */
static int check_cut(struct fill *f)
{
    bool open = false;
    int rc = 0;
    for (uint32_t i = 0; i < f->log.n && !rc && !open; i++)
        if (f->to->doubt || f->log.copy[i].node == f->to->of->node)
            rc = sealed_is_open(&f->log, i, f->commit, &open);
    if (f->to->doubt && !rc && !open) {
        struct sealed_log all = f->log;
        all.copy[all.n++] = copy_of(f->to);
        rc = sealed_is_open(&all, all.n - 1, f->commit, &open);
    }
    return rc || !open ? rc
                       : busy(f, "a safekeeper that does not answer, or whose log is in doubt, may "
                                 "have what lies behind the end that is known");
}

/* Brings f->to to f->commit, for a while. A turn does not end in the middle of a large record: the
 * pieces of it are lost with the term. */
static int fill(struct fill *f, enum member_step *state)
{
    const struct q_history theirs = {.n = f->donor->n_history, .e = f->donor->history};
    const struct q_history own = {.n = f->to->n_history, .e = f->to->history};
    uint64_t until = co_now_us() + SLICE_US, staged = 0;
    struct q_history h = sealed_terms(&theirs, f->commit), mine = sealed_terms(&own, f->to->flush);
    lsn_t part = f->start;
    *state = MEMBER_BUSY;
    if (f->to->commit >= f->commit && !f->to->doubt) {
        *state = MEMBER_DONE;
        return 0;
    }
    if (f->to->commit > f->commit)
        return busy(f, "a safekeeper whose log is in doubt knows more than the others to be "
                       "committed; one of them is missing");
    int rc = check_cut(f);
    if (!rc)
        rc = q_diverge(&h, f->commit, &mine, f->to->flush, f->start, f->to->commit, &part);
    if (!rc)
        rc = lead(f, part);
    if (!rc)
        *state = MEMBER_JOINT;
    while (!rc && f->flush < f->commit && (staged || co_now_us() < until))
        rc = bring(f, &staged);
    if (!rc && f->flush >= f->commit)
        rc = append(f, f->flush, (struct co_span){0}, false, 0); /* it is told the commit LSN */
    if (!rc && f->flush >= f->commit)
        rc = lead(f, f->flush); /* what is known when a history is adopted is durable */
    if (!rc && f->flush >= f->commit) {
        *state = MEMBER_DONE;
        f->to->commit = f->commit;
    }
    return rc;
}

/* Who has it all and does not know that it is committed gives away no more than it knows. */
static int tell_donor(struct fill *f)
{
    struct told *to = f->to;
    enum member_step state;
    f->to = f->donor;
    int rc = fill(f, &state);
    if (!rc && state != MEMBER_DONE)
        rc = busy(f, "the safekeeper that has all of it did not take in how far that is committed");
    if (rc)
        give_up(f->donor->of);
    f->to = to;
    f->flush = 0;
    return rc;
}

/* What can pass by itself is no error of the replacement. */
static bool passes(int rc)
{
    return rc == CO_ERR_BUSY || co_error_class(rc) == CO_CLASS_RETRY;
}

/* A seal is durable and for ever: on the disks that their numbers stand for. */
static bool is_sealed(const struct fill *f)
{
    uint32_t set[NODES_MAX], n = 0;
    for (uint32_t i = 0; i < f->t->n_sealed_by; i++) {
        const struct member *x = members_find(f->m, f->t->sealed_by[i]);
        if (x && !x->other)
            set[n++] = x->node;
    }
    return q_is_quorum(&f->m->book.config, set, n);
}

static int begin(struct fill *f)
{
    co_random_bytes(&f->read_id, sizeof f->read_id);
    f->start = f->t->wire->has_start_lsn ? f->t->wire->start_lsn : 0;
    int rc = is_sealed(f) ? ask_all(f) : busy(f, "it is being sealed");
    return rc ? rc : tell_donor(f);
}

static int end(struct fill *f, int rc, enum member_step *state)
{
    if (rc && f->to)
        give_up(f->to->of);
    if (rc && passes(rc)) {
        *state = MEMBER_BUSY;
        rc = 0;
    }
    for (uint32_t i = 0; i < f->n_told; i++)
        free(f->told[i].history);
    return rc;
}

int member_sealed_step(struct members *m, const struct member_timeline *t, struct member *new,
                       enum member_step *state, uint64_t *behind)
{
    struct fill f = {.m = m, .t = t, .new = new};
    *state = MEMBER_BUSY;
    int rc = begin(&f);
    if (!rc)
        rc = fill(&f, state);
    *behind = f.commit > f.flush ? f.commit - f.flush : 0;
    return end(&f, rc, state);
}

int member_sealed_settle(struct members *m, const struct member_timeline *t,
                         enum member_step *state, uint64_t *behind, uint64_t *lag)
{
    struct fill f = {.m = m, .t = t};
    *state = MEMBER_BUSY;
    *behind = 0;
    int rc = begin(&f);
    if (!rc)
        *state = MEMBER_DONE;
    for (uint32_t i = 0; !rc && *state == MEMBER_DONE && i < f.n_told; i++) {
        f.to = &f.told[i];
        f.flush = 0;
        if (is_sealed_by(t, f.to->of->node))
            rc = fill(&f, state);
        *behind = *state == MEMBER_JOINT ? f.commit - f.flush : 0;
    }
    *lag = f.lag;
    return end(&f, rc, state);
}
