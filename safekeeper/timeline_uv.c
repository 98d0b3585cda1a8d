#include "safekeeper/timeline.h"

#include <stdlib.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "common/metrics.h"

struct witness_job {
    struct sk_job job;
    struct sk_timeline *t;
    struct q_known known[Q_KNOWN_MAX];
};

struct append_job {
    struct sk_job job;
    struct sk_timeline *t;
    struct sk_message *message;
};

static struct co_metric m_acks = {.name = "corallite_safekeeper_acks_total",
                                  .help = "Acknowledgements sent to writers.",
                                  .kind = CO_COUNTER};
static struct co_metric m_votes = {
    .name = "corallite_safekeeper_votes_total", .help = "Answers to VOTE.", .kind = CO_COUNTER};

void sk_register_shell_metrics(void)
{
    co_metric_register(&m_acks);
    co_metric_register(&m_votes);
}

/* -- Answers ---------------------------------------------------------------------------------- */

void sk_answer_error(struct sk_timeline *t, sk_conn_t conn, uint64_t request_id, int code,
                     const char *sentence)
{
    struct peer *peer = t->host.find(t->host.owner, conn);
    if (!peer)
        return;
    co_fail(code, "%s", sentence);
    peer_send_error(peer, request_id, code);
}

static void send_message(struct sk_timeline *t, sk_conn_t conn, const struct q_msg *msg)
{
    struct peer *peer = t->host.find(t->host.owner, conn);
    struct co_buf frame = {0};
    if (!peer)
        return;
    if (msg->type == FRAME_ACK)
        co_metric_add(&m_acks, 1);
    if (msg->type == FRAME_VOTED)
        co_metric_add(&m_votes, 1);
    struct q_msg copy;
    if ((msg->type == FRAME_ACK || msg->type == FRAME_POS) && atomic_load(t->host.disk_full)) {
        copy = *msg;
        copy.disk_full = true;
        msg = &copy;
    }
    if (qmsg_encode(msg, &frame)) {
        co_buf_free(&frame);
        peer_close(peer, co_sentence());
        return;
    }
    peer_send_raw(peer, &frame);
}

/* -- The event queue -------------------------------------------------------------------------- */

int sk_enqueue(struct sk_timeline *t, const struct sk_queued *event)
{
    struct sk_queued *q = malloc(sizeof *q);
    if (!q)
        return CO_ERR_NOMEM;
    *q = *event;
    q->next = NULL;
    *t->tail = q;
    t->tail = &q->next;
    if (q->message)
        t->queued_bytes += q->message->body.len;
    return 0;
}

static bool dequeue(struct sk_timeline *t, struct sk_queued *out)
{
    struct sk_queued *q = t->head;
    if (!q)
        return false;
    t->head = q->next;
    if (!t->head)
        t->tail = &t->head;
    *out = *q;
    if (q->message)
        t->queued_bytes -= q->message->body.len;
    free(q);
    return true;
}

void sk_lost_event(struct sk_timeline *t)
{
    t->host.failed(
        t->host.owner, CO_ERR_NOMEM,
        "there is no memory for an event of a timeline; a safekeeper that loses one must "
        "not go on");
}

void sk_refuse_queue(struct sk_timeline *t)
{
    struct sk_queued q;
    while (dequeue(t, &q)) {
        if (q.message)
            sk_answer_error(t, q.conn, q.message->frame.request_id, t->refuse_code, t->refusal);
        sk_message_drop(q.message);
    }
}

void sk_timeline_message(struct sk_timeline *t, struct peer *peer, struct sk_message *m)
{
    struct sk_queued q = {.kind = SK_EV_MSG, .conn = peer_id(peer), .message = m};
    t->used_us = co_now_us();
    t->bytes_in += FRAME_HEADER_BYTES + m->body.len;
    if (t->refuse_code) {
        sk_answer_error(t, q.conn, m->frame.request_id, t->refuse_code, t->refusal);
        goto drop;
    }
    if (t->closing)
        goto drop;
    if (t->queued_bytes + t->store_bytes + m->body.len > SK_QUEUE_MAX_BYTES) {
        peer_close(peer, "it sends faster than this safekeeper's disk takes it");
        goto drop;
    }
    if (sk_enqueue(t, &q)) {
        peer_close(peer, "this safekeeper has no memory for its message");
        goto drop;
    }
    bool asks = m->msg.type == FRAME_APPEND && !m->msg.payload.len && !m->msg.want_received;
    sk_pump(t);
    if (asks) /* a heartbeat: its writer may wait for what it sent without hurry before */
        sk_store_hurry(t->store);
    return;
drop:
    sk_message_drop(m);
}

void sk_timeline_conn_closed(struct sk_timeline *t, sk_conn_t conn, bool local)
{
    struct sk_queued q = {.kind = SK_EV_CLOSED, .conn = conn, .local = local};
    sk_forget_streams(t, conn);
    if (t->refuse_code || t->closing)
        return;
    if (sk_enqueue(t, &q))
        sk_lost_event(t);
    else
        sk_pump(t);
}

/* -- Carrying out ----------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    struct sk_timeline *t = timer->data;
    t->timer_due = true;
    sk_pump(t);
}

static void on_appended(struct sk_job *job)
{
    struct append_job *a = job->owner;
    struct sk_timeline *t = a->t;
    t->store_bytes -= a->message->body.len;
    t->jobs--;
    sk_message_drop(a->message);
    free(a);
    sk_finish_close(t);
}

static void do_append(struct sk_timeline *t, const struct sk_action *action)
{
    struct append_job *a = calloc(1, sizeof *a);
    if (!a) {
        sk_lost_event(t);
        return;
    }
    co_assert(t->current);
    a->t = t;
    a->message = sk_message_hold(t->current);
    a->job = (struct sk_job){.kind = SK_JOB_APPEND,
                             .timeline = t->stored,
                             .lsn = action->lsn,
                             .bytes = action->bytes,
                             .fragment = action->fragment,
                             .fragment_at = action->fragment_at,
                             .whole = action->record != NULL,
                             .unhurried = a->message->msg.want_received,
                             .done = on_appended,
                             .owner = a};
    if (action->record)
        a->job.record = *action->record;
    t->store_bytes += a->message->body.len;
    t->jobs++;
    if (action->fragment) {
        t->records += action->record != NULL;
    } else {
        t->records += sk_count_records(action->bytes);
        sk_recent_add(&t->recent, t->current, action->lsn, action->bytes, SK_RECENT_BYTES);
    }
    sk_store_submit(t->store, &a->job);
}

static void do_timer(struct sk_timeline *t, uint64_t at_us)
{
    uint64_t now = co_now_us();
    uv_timer_start(&t->timer, on_timer, at_us > now ? (at_us - now) / 1000 + 1 : 0, 0);
}

static void on_halt_noted(struct sk_job *job)
{
    struct sk_timeline *t = job->owner;
    t->asleep = false;
    sk_finish_close(t);
}

/* The list wakes when the store is done with its job. */
static void on_done(struct sk_job *job)
{
    struct sk_timeline *t = job->owner;
    struct sk_action *a = &t->actions.a[t->at - 1];
    t->asleep = false;
    if (a->kind == SK_REBASE) {
        struct sk_view v;
        sk_view(t->acceptor, co_now_us(), &v);
        if (v.write_lsn == v.base_lsn)
            sk_recent_clear(&t->recent); /* it is from before the gap */
    }
    if (a->kind == SK_FLUSH || a->kind == SK_TRUNCATE) {
        t->flushed_lsn = 0; /* H2 */
    }
    if (a->kind == SK_TRUNCATE) {
        t->truncated = true;
        t->truncated_event = (struct sk_event){.kind = SK_EV_TRUNCATED,
                                               .lsn = job->lsn,
                                               .digest = job->out_digest,
                                               .config = job->out_config.version ? job->out_config
                                                                                 : t->birth_config};
        sk_recent_clear(&t->recent);
    } else if (a->kind == SK_READ) {
        if (job->rc) {
            co_warn("safekeeper/timeline", "cannot serve a FETCH: %s", job->sentence);
            sk_answer_error(t, a->conn, 0, job->rc, job->sentence);
        } else {
            a->msg.payload = co_buf_span(&job->out);
            a->msg.fragment = job->out_part.fragment;
            a->msg.fragment_at = job->out_part.at;
            a->msg.to_lsn = job->out_part.record_end;
            send_message(t, a->conn, &a->msg);
        }
        co_buf_free(&job->out);
    }
    sk_pump(t);
    sk_finish_close(t);
}

static void sleep_on(struct sk_timeline *t, const struct sk_job *job)
{
    t->job = *job;
    t->job.timeline = t->stored;
    t->job.done = on_done;
    t->job.owner = t;
    t->asleep = true;
    sk_store_submit(t->store, &t->job);
}

/* A PERSIST that comes before a TRUNCATE of its list must not seal what that cuts off. */
static lsn_t seal_max(const struct sk_timeline *t)
{
    for (uint32_t i = t->at; i < t->actions.n; i++)
        if (t->actions.a[i].kind == SK_TRUNCATE)
            return t->actions.a[i].lsn;
    return 0;
}

static void do_read(struct sk_timeline *t, struct sk_action *a)
{
    struct co_buf records = {0};
    if (a->fragment_at == 0 &&
        sk_recent_read(&t->recent, a->lsn, a->to_lsn, CO_BATCH_BYTES, &records)) {
        a->msg.payload = co_buf_span(&records);
        send_message(t, a->conn, &a->msg);
    } else {
        sleep_on(t, &(struct sk_job){.kind = SK_JOB_READ,
                                     .lsn = a->lsn,
                                     .to_lsn = a->to_lsn,
                                     .fragment_at = a->fragment_at,
                                     .max_bytes = CO_BATCH_BYTES});
    }
    co_buf_free(&records);
}

static void on_witness(struct sk_job *job)
{
    struct witness_job *w = job->owner;
    struct sk_timeline *t = w->t;
    t->jobs--;
    free(w);
    sk_finish_close(t);
}

/* Nobody waits for it: without memory it is written another time. */
static void do_witness(struct sk_timeline *t, const struct sk_action *action)
{
    struct witness_job *w = calloc(1, sizeof *w);
    if (!w)
        return;
    w->t = t;
    memcpy(w->known, action->known.e, action->known.n * sizeof *w->known);
    w->job = (struct sk_job){.kind = SK_JOB_WITNESS,
                             .timeline = t->stored,
                             .known = {action->known.n, w->known},
                             .done = on_witness,
                             .owner = w};
    t->jobs++;
    sk_store_submit(t->store, &w->job);
}

static void do_regressed(struct sk_timeline *t, const struct sk_action *action)
{
    struct q_known proof = action->known.e[0];
    t->at = t->actions.n = 0;
    t->host.regressed(t->host.owner, t, &proof);
}

static void do_halt(struct sk_timeline *t, const char *reason)
{
    sk_become_halted(t, CO_ERR_HALTED, reason);
    t->at = t->actions.n = 0;
    t->asleep = true;
    t->job = (struct sk_job){.kind = SK_JOB_HALT,
                             .timeline = t->stored,
                             .reason = reason, /* a literal of the core */
                             .done = on_halt_noted,
                             .owner = t};
    sk_store_submit(t->store, &t->job);
}

static void carry_out(struct sk_timeline *t, struct sk_action *a)
{
    switch (a->kind) {
    case SK_FLUSH:
        sleep_on(t, &(struct sk_job){.kind = SK_JOB_FLUSH});
        break;
    case SK_TRUNCATE:
        sleep_on(t, &(struct sk_job){.kind = SK_JOB_TRUNCATE, .lsn = a->lsn});
        break;
    case SK_PERSIST:
        sleep_on(t, &(struct sk_job){.kind = SK_JOB_PERSIST,
                                     .durable = a->durable,
                                     .history_changed = a->history_changed,
                                     .lsn = seal_max(t)});
        break;
    case SK_REBASE:
        sleep_on(t, &(struct sk_job){.kind = SK_JOB_REBASE, .durable = a->durable});
        break;
    case SK_APPEND:
        do_append(t, a);
        break;
    case SK_SEND:
        send_message(t, a->conn, &a->msg);
        break;
    case SK_READ:
        do_read(t, a);
        break;
    case SK_COMMIT:
        sk_store_hint_commit(t->stored, a->lsn);
        break;
    case SK_TIMER:
        do_timer(t, a->at_us);
        break;
    case SK_WITNESS:
        do_witness(t, a);
        break;
    case SK_REGRESSED:
        do_regressed(t, a);
        break;
    case SK_HALT:
        do_halt(t, a->reason);
        break;
    }
}

/* -- Stepping --------------------------------------------------------------------------------- */

/* H1: what comes next. false: nothing. */
static bool next_event(struct sk_timeline *t, struct sk_event *out)
{
    struct sk_queued q;
    *out = (struct sk_event){.kind = SK_EV_TIMER};
    if (t->truncated) {
        *out = t->truncated_event;
        t->truncated = false;
    } else if (t->flushed_lsn) {
        out->kind = SK_EV_FLUSHED;
        out->lsn = t->flushed_lsn;
        out->staged = t->flushed_staged;
        t->flushed_lsn = 0;
    } else if (t->timer_due) {
        t->timer_due = false;
    } else if (t->trim_due) {
        *out = t->trim_event;
        t->trim_due = false;
    } else if (dequeue(t, &q)) {
        out->kind = q.kind;
        out->conn = q.conn;
        out->local = q.local;
        t->current = q.message;
        out->msg = q.message ? &q.message->msg : NULL;
    } else {
        return false;
    }
    out->now_us = co_now_us();
    return true;
}

void sk_pump(struct sk_timeline *t)
{
    if (t->pumping || t->state == SK_OPENING || t->refuse_code)
        return;
    t->pumping = true;
    while (!t->asleep && !t->refuse_code) {
        if (t->at < t->actions.n) {
            carry_out(t, &t->actions.a[t->at++]);
            continue;
        }
        struct sk_event event;
        sk_message_drop(t->current);
        t->current = NULL;
        if (!next_event(t, &event))
            break;
        t->at = t->actions.n = 0;
        if (sk_step(t->acceptor, &event, &t->actions) == 0)
            continue;
        t->actions.n = 0;
        if (event.kind != SK_EV_MSG)
            sk_lost_event(t);
    }
    t->pumping = false;
    if (t->closing)
        sk_finish_close(t);
    else
        sk_serve_streams(t);
}

void sk_on_flushed(void *owner, lsn_t lsn, uint64_t staged)
{
    struct sk_timeline *t = owner;
    t->flushed_lsn = lsn;
    t->flushed_staged = staged;
    sk_pump(t);
}
