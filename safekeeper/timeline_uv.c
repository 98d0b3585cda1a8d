#include "safekeeper/timeline_uv.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "common/metrics.h"
#include "proto/message.h"
#include "safekeeper/recent.h"

struct queued {
    enum sk_event_kind kind;
    sk_conn_t conn;
    bool local;
    struct sk_message *message;
    struct queued *next;
};

/* A waiting STREAM request. `reading`: its job is with the store, it must not be freed. */
struct stream {
    struct sk_timeline *t;
    sk_conn_t conn;
    uint64_t request_id, deadline_us;
    lsn_t from;
    uint32_t max_bytes;
    bool reading, gone;
    struct sk_job job;
    struct stream *next;
};

struct append_job {
    struct sk_job job;
    struct sk_timeline *t;
    struct sk_message *message;
};

struct sk_timeline {
    struct sk_host host;
    struct sk_store *store;
    struct sk_stored *stored;
    struct sk_birth birth;
    struct wal_config birth_config;
    enum sk_timeline_state state;
    int refuse_code; /* 0, or what every request is answered with */
    char refusal[CO_SENTENCE_MAX];

    struct sk_acceptor *acceptor;
    struct sk_actions actions;
    uint32_t at;                /* next action of the list */
    struct sk_message *current; /* the message that the list came from */
    bool asleep, pumping, closing, settled;
    struct sk_job job;      /* of the sleeping list, of opening and of closing */
    struct sk_files *files; /* result of opening, until attached */

    struct queued *head, **tail;
    uint64_t queued_bytes, store_bytes;
    uint32_t jobs;     /* of appends and streams that the store has */
    lsn_t flushed_lsn; /* pending FLUSHED, 0: none */
    bool truncated;    /* pending TRUNCATED */
    struct sk_event truncated_event;
    bool timer_due;
    uv_timer_t timer, stream_timer;
    uint32_t handles; /* to be closed */

    struct stream *streams;
    uint32_t n_streams;
    struct sk_recent recent;
    uint64_t bytes_in, records, used_us;
};

static struct co_metric m_acks = {.name = "corallite_safekeeper_acks_total",
                                  .help = "Acknowledgements sent to writers.",
                                  .kind = CO_COUNTER};
static struct co_metric m_votes = {
    .name = "corallite_safekeeper_votes_total", .help = "Answers to VOTE.", .kind = CO_COUNTER};
static struct co_metric m_halted = {.name = "corallite_safekeeper_halted_timelines",
                                    .help = "Timelines that are not served because of damage.",
                                    .kind = CO_GAUGE};
static struct co_metric m_streamed = {.name = "corallite_safekeeper_streamed_bytes_total",
                                      .help = "Bytes of records sent to pageservers.",
                                      .kind = CO_COUNTER};
static struct co_metric m_stream_disk = {.name = "corallite_safekeeper_stream_reads_total",
                                         .help = "Streams that were served from segment files.",
                                         .kind = CO_COUNTER};

void sk_timeline_register_metrics(void)
{
    struct co_metric *all[] = {&m_acks, &m_votes, &m_halted, &m_streamed, &m_stream_disk};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        co_metric_register(all[i]);
}

static void pump(struct sk_timeline *t);
static void serve_streams(struct sk_timeline *t);
static void on_stream_timer(uv_timer_t *timer);
static void finish_close(struct sk_timeline *t);

/* -- Answers -------------------------------------------------------------------------------------
 */

static void answer_error(struct sk_timeline *t, sk_conn_t conn, uint64_t request_id, int code,
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
    if (qmsg_encode(msg, &frame)) {
        co_buf_free(&frame);
        peer_close(peer, co_sentence());
        return;
    }
    peer_send_raw(peer, &frame);
}

/* -- Streams -------------------------------------------------------------------------------------
 */

static void unlink_stream(struct stream *s)
{
    struct stream **p = &s->t->streams;
    while (*p != s)
        p = &(*p)->next;
    *p = s->next;
    s->t->n_streams--;
    co_buf_free(&s->job.out);
    free(s);
}

static lsn_t stream_limit(const struct sk_view *v)
{
    return v->commit_lsn < v->flush_lsn ? v->commit_lsn : v->flush_lsn;
}

static void answer_stream(struct stream *s, struct co_buf *records)
{
    struct sk_timeline *t = s->t;
    struct sk_view v;
    struct peer *peer = t->host.find(t->host.owner, s->conn);
    sk_view(t->acceptor, co_now_us(), &v);
    co_metric_add(&m_streamed, records->len);
    if (peer) {
        Corallite__StreamData data = CORALLITE__STREAM_DATA__INIT;
        data.has_timeline = data.has_from_lsn = data.has_commit_lsn = data.has_flush_lsn = 1;
        data.timeline = msg_bytes16(t->birth.owner.timeline.b);
        data.from_lsn = s->from;
        data.commit_lsn = v.commit_lsn;
        data.flush_lsn = v.flush_lsn;
        peer_send_take(peer, FRAME_STREAM_DATA, s->request_id, &data.base, records);
    }
    co_buf_free(records);
    unlink_stream(s);
}

static void on_stream_read(struct sk_job *job)
{
    struct stream *s = job->owner;
    struct sk_timeline *t = s->t;
    s->reading = false;
    t->jobs--;
    if (s->gone || t->refuse_code || t->closing) {
        unlink_stream(s);
    } else if (job->rc) {
        co_warn("safekeeper/stream", "cannot serve a stream: %s", job->sentence);
        answer_error(t, s->conn, s->request_id, job->rc, job->sentence);
        unlink_stream(s);
    } else {
        struct co_buf records = job->out;
        job->out = (struct co_buf){0};
        answer_stream(s, &records);
    }
    finish_close(t);
}

static void read_for_stream(struct stream *s, lsn_t to)
{
    s->reading = true;
    s->t->jobs++;
    s->job = (struct sk_job){.kind = SK_JOB_READ,
                             .timeline = s->t->stored,
                             .lsn = s->from,
                             .to_lsn = to,
                             .max_bytes = s->max_bytes,
                             .done = on_stream_read,
                             .owner = s};
    co_metric_add(&m_stream_disk, 1);
    sk_store_submit(s->t->store, &s->job);
}

static void arm_stream_timer(struct sk_timeline *t, uint64_t now)
{
    uint64_t first = UINT64_MAX;
    for (struct stream *s = t->streams; s; s = s->next)
        if (!s->reading && s->deadline_us < first)
            first = s->deadline_us;
    if (first == UINT64_MAX)
        uv_timer_stop(&t->stream_timer);
    else
        uv_timer_start(&t->stream_timer, on_stream_timer,
                       first > now ? (first - now) / 1000 + 1 : 0, 0);
}

static void serve_streams(struct sk_timeline *t)
{
    if (t->state != SK_SERVING || !t->streams)
        return;
    struct sk_view v;
    uint64_t now = co_now_us();
    sk_view(t->acceptor, now, &v);
    lsn_t to = stream_limit(&v);
    for (struct stream *s = t->streams, *next; s; s = next) {
        next = s->next;
        struct co_buf records = {0};
        if (s->reading)
            continue;
        if (s->from >= to) {
            if (now >= s->deadline_us)
                answer_stream(s, &records);
        } else if (sk_recent_read(&t->recent, s->from, to, s->max_bytes, &records)) {
            answer_stream(s, &records);
        } else {
            co_buf_free(&records);
            read_for_stream(s, to);
        }
    }
    arm_stream_timer(t, now);
}

static void on_stream_timer(uv_timer_t *timer)
{
    serve_streams(timer->data);
}

/* Ends all streams: with an error when there is a code. */
static void end_streams(struct sk_timeline *t, int code, const char *sentence)
{
    for (struct stream *s = t->streams, *next; s; s = next) {
        next = s->next;
        if (code && !s->gone)
            answer_error(t, s->conn, s->request_id, code, sentence);
        s->gone = true;
        if (!s->reading)
            unlink_stream(s);
    }
}

void sk_timeline_stream(struct sk_timeline *t, struct peer *peer, uint64_t request_id,
                        const Corallite__Stream *request)
{
    sk_conn_t conn = peer_id(peer);
    t->used_us = co_now_us();
    lsn_t from = request->has_from_lsn ? request->from_lsn : 0;
    if (t->refuse_code) {
        answer_error(t, conn, request_id, t->refuse_code, t->refusal);
        return;
    }
    if (from < t->birth.start_lsn || from % LSN_ALIGN) {
        char text[CO_SENTENCE_MAX];
        snprintf(text, sizeof text,
                 "a stream of this timeline begins at LSN %016llx or later, at the begin of a "
                 "record; %016llx was asked for",
                 (unsigned long long)t->birth.start_lsn, (unsigned long long)from);
        answer_error(t, conn, request_id, CO_ERR_INVAL, text);
        return;
    }
    struct stream *s = t->n_streams < SK_STREAMS_MAX ? calloc(1, sizeof *s) : NULL;
    if (!s) {
        answer_error(t, conn, request_id, CO_ERR_BUSY,
                     "too many streams of this timeline wait already; ask again later");
        return;
    }
    uint64_t wait_ms = request->has_wait_ms ? request->wait_ms : 0;
    if (wait_ms > SK_STREAM_WAIT_MS)
        wait_ms = SK_STREAM_WAIT_MS;
    s->t = t;
    s->conn = conn;
    s->request_id = request_id;
    s->from = from;
    s->deadline_us = t->used_us + wait_ms * 1000;
    s->max_bytes =
        request->has_max_bytes && request->max_bytes && request->max_bytes < CO_BATCH_BYTES
            ? request->max_bytes
            : (uint32_t)CO_BATCH_BYTES;
    s->next = t->streams;
    t->streams = s;
    t->n_streams++;
    serve_streams(t);
}

/* -- The event queue -----------------------------------------------------------------------------
 */

static int enqueue(struct sk_timeline *t, const struct queued *event)
{
    struct queued *q = malloc(sizeof *q);
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

static bool dequeue(struct sk_timeline *t, struct queued *out)
{
    struct queued *q = t->head;
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

static void lost_event(struct sk_timeline *t)
{
    t->host.failed(t->host.owner, "there is no memory for an event of a timeline; a safekeeper "
                                  "that loses one must not go on");
}

static void refuse_queue(struct sk_timeline *t)
{
    struct queued q;
    while (dequeue(t, &q)) {
        if (q.message)
            answer_error(t, q.conn, q.message->frame.request_id, t->refuse_code, t->refusal);
        sk_message_drop(q.message);
    }
}

void sk_timeline_message(struct sk_timeline *t, struct peer *peer, struct sk_message *m)
{
    struct queued q = {.kind = SK_EV_MSG, .conn = peer_id(peer), .message = m};
    t->used_us = co_now_us();
    t->bytes_in += FRAME_HEADER_BYTES + m->body.len;
    if (t->refuse_code) {
        answer_error(t, q.conn, m->frame.request_id, t->refuse_code, t->refusal);
        goto drop;
    }
    if (t->closing)
        goto drop;
    if (t->queued_bytes + t->store_bytes + m->body.len > SK_QUEUE_MAX_BYTES) {
        peer_close(peer, "it sends faster than this safekeeper's disk takes it");
        goto drop;
    }
    if (enqueue(t, &q)) {
        peer_close(peer, "this safekeeper has no memory for its message");
        goto drop;
    }
    pump(t);
    return;
drop:
    sk_message_drop(m);
}

void sk_timeline_conn_closed(struct sk_timeline *t, sk_conn_t conn, bool local)
{
    struct queued q = {.kind = SK_EV_CLOSED, .conn = conn, .local = local};
    for (struct stream *s = t->streams, *next; s; s = next) {
        next = s->next;
        if (s->conn != conn)
            continue;
        s->gone = true;
        if (!s->reading)
            unlink_stream(s);
    }
    if (t->refuse_code || t->closing)
        return;
    if (enqueue(t, &q))
        lost_event(t);
    else
        pump(t);
}

/* -- Carrying out --------------------------------------------------------------------------------
 */

static void on_timer(uv_timer_t *timer)
{
    struct sk_timeline *t = timer->data;
    t->timer_due = true;
    pump(t);
}

static void on_appended(struct sk_job *job)
{
    struct append_job *a = job->owner;
    struct sk_timeline *t = a->t;
    t->store_bytes -= a->message->body.len;
    t->jobs--;
    sk_message_drop(a->message);
    free(a);
    finish_close(t);
}

static void do_append(struct sk_timeline *t, const struct sk_action *action)
{
    struct append_job *a = calloc(1, sizeof *a);
    if (!a) {
        lost_event(t);
        return;
    }
    co_assert(t->current);
    a->t = t;
    a->message = sk_message_hold(t->current);
    a->job = (struct sk_job){.kind = SK_JOB_APPEND,
                             .timeline = t->stored,
                             .lsn = action->lsn,
                             .bytes = action->bytes,
                             .done = on_appended,
                             .owner = a};
    t->store_bytes += a->message->body.len;
    t->jobs++;
    t->records += sk_count_records(action->bytes);
    sk_recent_add(&t->recent, t->current, action->lsn, action->bytes, SK_RECENT_BYTES);
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
    finish_close(t);
}

static void become_halted(struct sk_timeline *t, int code, const char *sentence)
{
    char id[CO_ID_TEXT];
    snprintf(t->refusal, sizeof t->refusal, "timeline %s is halted on node %u: %s",
             co_id_format(&t->birth.owner.timeline, id), t->birth.owner.node, sentence);
    t->refuse_code = code;
    t->state = SK_HALTED;
    co_metric_set(&m_halted, co_metric_get(&m_halted) + 1);
    co_error("safekeeper/timeline", "%s", t->refusal);
    refuse_queue(t);
    end_streams(t, code, t->refusal);
}

/* The list wakes when the store is done with its job. */
static void on_done(struct sk_job *job)
{
    struct sk_timeline *t = job->owner;
    struct sk_action *a = &t->actions.a[t->at - 1];
    t->asleep = false;
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
            answer_error(t, a->conn, 0, job->rc, job->sentence);
        } else {
            a->msg.payload = co_buf_span(&job->out);
            send_message(t, a->conn, &a->msg);
        }
        co_buf_free(&job->out);
    }
    pump(t);
    finish_close(t);
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
    if (sk_recent_read(&t->recent, a->lsn, a->to_lsn, CO_BATCH_BYTES, &records)) {
        a->msg.payload = co_buf_span(&records);
        send_message(t, a->conn, &a->msg);
    } else {
        sleep_on(t, &(struct sk_job){.kind = SK_JOB_READ,
                                     .lsn = a->lsn,
                                     .to_lsn = a->to_lsn,
                                     .max_bytes = CO_BATCH_BYTES});
    }
    co_buf_free(&records);
}

static void do_halt(struct sk_timeline *t, const char *reason)
{
    become_halted(t, CO_ERR_HALTED, reason);
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
    case SK_HALT:
        do_halt(t, a->reason);
        break;
    }
}

/* -- Stepping ------------------------------------------------------------------------------------
 */

/* H1: what comes next. false: nothing. */
static bool next_event(struct sk_timeline *t, struct sk_event *out)
{
    struct queued q;
    *out = (struct sk_event){.kind = SK_EV_TIMER};
    if (t->truncated) {
        *out = t->truncated_event;
        t->truncated = false;
    } else if (t->flushed_lsn) {
        out->kind = SK_EV_FLUSHED;
        out->lsn = t->flushed_lsn;
        t->flushed_lsn = 0;
    } else if (t->timer_due) {
        t->timer_due = false;
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

static void pump(struct sk_timeline *t)
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
            lost_event(t);
    }
    t->pumping = false;
    if (t->closing)
        finish_close(t);
    else
        serve_streams(t);
}

static void on_flushed(void *owner, lsn_t lsn)
{
    struct sk_timeline *t = owner;
    t->flushed_lsn = lsn;
    pump(t);
}

/* -- Life ----------------------------------------------------------------------------------------
 */

static int start_acceptor(struct sk_timeline *t, struct sk_files *files)
{
    struct sk_boot boot = {
        .cluster = t->birth.owner.cluster,
        .timeline = t->birth.owner.timeline,
        .durable = {.term = files->control.term,
                    .voted_nonce = files->control.voted_nonce,
                    .commit_lsn = files->control.commit_lsn,
                    .no_lease = files->control.no_lease,
                    .floor_lsn = files->control.floor_lsn,
                    .history = files->history,
                    .n_history = files->n_history},
        .start_lsn = t->birth.start_lsn,
        .start_digest = t->birth.start_digest,
        .flush_lsn = files->log.flushed_lsn,
        .digest = files->log.end_digest,
        .config = files->log.n_configs ? files->log.configs[files->log.n_configs - 1].config
                                       : t->birth_config,
        .now_us = co_now_us(),
        .lease_us = CO_LEASE_US,
    };
    return sk_acceptor_new(&boot, &t->acceptor);
}

/* The files were read: t->files, or job->rc. */
static void take_files(struct sk_timeline *t, int rc, const char *sentence)
{
    struct sk_files *files = t->files;
    t->files = NULL;
    t->state = SK_SERVING;
    if (!rc && files->control.halted[0]) {
        rc = CO_ERR_HALTED;
        sentence = files->control.halted;
    } else if (!rc) {
        rc = start_acceptor(t, files);
        sentence = co_sentence();
    }
    if (!rc) {
        rc = sk_store_attach(t->store, files, on_flushed, t, &t->stored);
        sentence = co_sentence();
    }
    if (rc) {
        become_halted(t, rc, sentence);
        sk_files_close(files);
    }
    t->host.opened(t->host.owner, t);
}

static int open_call(struct sk_job *job)
{
    struct sk_timeline *t = job->owner;
    return sk_files_open(t->host.data_dir, &t->birth, &t->files);
}

static void on_opened(struct sk_job *job)
{
    struct sk_timeline *t = job->owner;
    t->asleep = false;
    take_files(t, job->rc, job->sentence);
    pump(t);
    finish_close(t);
}

static void init_timers(struct sk_timeline *t)
{
    uv_timer_init(t->host.loop, &t->timer);
    uv_timer_init(t->host.loop, &t->stream_timer);
    t->timer.data = t->stream_timer.data = t;
    t->handles = 2;
}

int sk_timeline_new(const struct sk_host *host, struct sk_store *store,
                    const struct sk_birth *birth, const struct wal_config *birth_config,
                    struct sk_files *files, struct sk_timeline **out)
{
    struct sk_timeline *t = calloc(1, sizeof *t);
    if (!t) {
        sk_files_close(files);
        return co_fail(CO_ERR_NOMEM, "no memory to open a timeline");
    }
    t->host = *host;
    t->store = store;
    t->birth = *birth;
    t->birth_config = *birth_config;
    t->tail = &t->head;
    t->used_us = co_now_us();
    *out = t;
    init_timers(t);
    if (files) {
        t->files = files;
        take_files(t, 0, "");
        return 0;
    }
    t->asleep = true;
    t->job = (struct sk_job){.kind = SK_JOB_CALL, .call = open_call, .done = on_opened, .owner = t};
    sk_store_submit(store, &t->job);
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct sk_timeline *t = handle->data;
    if (--t->handles)
        return;
    sk_recent_clear(&t->recent);
    sk_message_drop(t->current);
    sk_actions_free(&t->actions);
    sk_acceptor_free(t->acceptor);
    t->host.closed(t->host.owner, t);
    free(t);
}

static void on_settled(struct sk_job *job)
{
    struct sk_timeline *t = job->owner;
    t->asleep = false;
    t->settled = true;
    finish_close(t);
}

/* Goes on with closing when nothing stands in the way: settle, detach, free. */
static void finish_close(struct sk_timeline *t)
{
    if (!t->closing || t->asleep || t->jobs || t->pumping || t->state == SK_CLOSING ||
        (!t->refuse_code && (t->head || t->truncated || t->at < t->actions.n)))
        return;
    if (!t->settled && t->stored && t->state == SK_SERVING) {
        t->asleep = true;
        t->job = (struct sk_job){
            .kind = SK_JOB_SETTLE, .timeline = t->stored, .done = on_settled, .owner = t};
        sk_store_submit(t->store, &t->job);
        return;
    }
    if (t->state == SK_HALTED)
        co_metric_set(&m_halted, co_metric_get(&m_halted) - 1);
    t->state = SK_CLOSING;
    refuse_queue(t);
    if (t->stored)
        sk_store_detach(t->stored);
    t->stored = NULL;
    uv_close((uv_handle_t *)&t->timer, on_handle_closed);
    uv_close((uv_handle_t *)&t->stream_timer, on_handle_closed);
}

void sk_timeline_close(struct sk_timeline *t)
{
    if (t->closing)
        return;
    struct queued q = {.kind = SK_EV_SHUTDOWN};
    if (!t->refuse_code && t->state != SK_HALTED && enqueue(t, &q))
        lost_event(t);
    end_streams(t, 0, "");
    t->closing = true;
    pump(t);
    finish_close(t);
}

void sk_timeline_refuse(struct sk_timeline *t, int code, const char *sentence)
{
    if (t->refuse_code)
        return;
    snprintf(t->refusal, sizeof t->refusal, "%s", sentence);
    t->refuse_code = code;
    refuse_queue(t);
    end_streams(t, code, sentence);
}

void sk_timeline_rest(struct sk_timeline *t, uint64_t now_us)
{
    if (now_us - t->used_us > SK_IDLE_RELEASE_US && !t->asleep && !t->jobs)
        sk_recent_clear(&t->recent);
}

enum sk_timeline_state sk_timeline_state(const struct sk_timeline *t)
{
    return t->state;
}

const struct co_id *sk_timeline_id(const struct sk_timeline *t)
{
    return &t->birth.owner.timeline;
}

bool sk_timeline_view(const struct sk_timeline *t, struct sk_view *out)
{
    if (!t->acceptor)
        return false;
    sk_view(t->acceptor, co_now_us(), out);
    return true;
}

void sk_timeline_count(const struct sk_timeline *t, uint64_t *bytes_in, uint64_t *records)
{
    *bytes_in = t->bytes_in;
    *records = t->records;
}
