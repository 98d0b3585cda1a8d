/* stream_uv.c - streams of a timeline: long polls of the pageserver for committed records (H3). */
#include "safekeeper/timeline.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "common/metrics.h"
#include "proto/message.h"

static struct co_metric m_streamed = {.name = "corallite_safekeeper_streamed_bytes_total",
                                      .help = "Bytes of records sent to pageservers.",
                                      .kind = CO_COUNTER};
static struct co_metric m_stream_disk = {.name = "corallite_safekeeper_stream_reads_total",
                                         .help = "Streams that were served from segment files.",
                                         .kind = CO_COUNTER};

void sk_register_stream_metrics(void)
{
    co_metric_register(&m_streamed);
    co_metric_register(&m_stream_disk);
}

static void unlink_stream(struct sk_stream *s)
{
    struct sk_stream **p = &s->t->streams;
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

static void answer_stream(struct sk_stream *s, struct co_buf *records, const struct sk_part *part)
{
    struct sk_timeline *t = s->t;
    struct sk_view v;
    struct peer *peer = t->host.find(t->host.owner, s->conn);
    uint64_t now = co_now_us();
    sk_view(t->acceptor, now, &v);
    co_metric_add(&m_streamed, records->len);
    if (records->len && s->deadline_us > now)
        t->streamed_us = now;
    if (peer) {
        Corallite__StreamData data = CORALLITE__STREAM_DATA__INIT;
        data.has_timeline = data.has_from_lsn = data.has_commit_lsn = data.has_flush_lsn = 1;
        data.timeline = msg_bytes16(t->birth.owner.timeline.b);
        data.from_lsn = s->from;
        data.commit_lsn = v.commit_lsn;
        data.flush_lsn = v.flush_lsn;
        data.has_fragment = data.has_fragment_at = part && part->fragment;
        data.fragment = data.has_fragment;
        data.fragment_at = data.has_fragment ? part->at : 0;
        peer_send_take(peer, FRAME_STREAM_DATA, s->request_id, &data.base, records);
    }
    co_buf_free(records);
    unlink_stream(s);
}

static void on_stream_read(struct sk_job *job)
{
    struct sk_stream *s = job->owner;
    struct sk_timeline *t = s->t;
    s->reading = false;
    t->jobs--;
    if (s->gone || t->refuse_code || t->closing) {
        unlink_stream(s);
    } else if (job->rc) {
        co_warn("safekeeper/stream", "cannot serve a stream: %s", job->sentence);
        sk_answer_error(t, s->conn, s->request_id, job->rc, job->sentence);
        unlink_stream(s);
    } else {
        struct co_buf records = job->out;
        job->out = (struct co_buf){0};
        answer_stream(s, &records, &job->out_part);
    }
    sk_finish_close(t);
}

static void read_for_stream(struct sk_stream *s, lsn_t to)
{
    s->reading = true;
    s->t->jobs++;
    s->job = (struct sk_job){.kind = SK_JOB_READ,
                             .timeline = s->t->stored,
                             .lsn = s->from,
                             .to_lsn = to,
                             .fragment_at = s->fragment_at,
                             .max_bytes = s->max_bytes,
                             .done = on_stream_read,
                             .owner = s};
    co_metric_add(&m_stream_disk, 1);
    sk_store_submit(s->t->store, &s->job);
}

static void on_stream_timer(uv_timer_t *timer)
{
    sk_serve_streams(timer->data);
}

static void arm_stream_timer(struct sk_timeline *t, uint64_t now)
{
    uint64_t first = UINT64_MAX;
    for (struct sk_stream *s = t->streams; s; s = s->next) {
        uint64_t at = s->gathers ? t->streamed_us + SK_STREAM_GATHER_US : s->deadline_us;
        if (!s->reading && at < first)
            first = at;
    }
    if (first == UINT64_MAX)
        uv_timer_stop(&t->stream_timer);
    else
        uv_timer_start(&t->stream_timer, on_stream_timer,
                       first > now ? (first - now) / 1000 + 1 : 0, 0);
}

/* Is it to wait for more than there is? Not one who wants an answer at once. */
static bool gathers(const struct sk_stream *s, lsn_t to, uint64_t now)
{
    uint64_t due = s->t->streamed_us + SK_STREAM_GATHER_US;
    return now < due && due < s->deadline_us && to - s->from < SK_STREAM_GATHER_BYTES;
}

void sk_serve_streams(struct sk_timeline *t)
{
    if (t->state != SK_SERVING || !t->streams)
        return;
    struct sk_view v;
    uint64_t now = co_now_us();
    sk_view(t->acceptor, now, &v);
    lsn_t to = stream_limit(&v);
    for (struct sk_stream *s = t->streams, *next; s; s = next) {
        next = s->next;
        struct co_buf records = {0};
        if (s->reading)
            continue;
        if (s->from >= to) {
            if (now >= s->deadline_us)
                answer_stream(s, &records, NULL);
        } else if ((s->gathers = gathers(s, to, now))) {
            continue;
        } else if (s->fragment_at == 0 &&
                   sk_recent_read(&t->recent, s->from, to, s->max_bytes, &records)) {
            answer_stream(s, &records, NULL);
        } else {
            co_buf_free(&records);
            read_for_stream(s, to);
        }
    }
    arm_stream_timer(t, now);
}

void sk_end_streams(struct sk_timeline *t, int code, const char *sentence)
{
    for (struct sk_stream *s = t->streams, *next; s; s = next) {
        next = s->next;
        if (code && !s->gone)
            sk_answer_error(t, s->conn, s->request_id, code, sentence);
        s->gone = true;
        if (!s->reading)
            unlink_stream(s);
    }
}

void sk_forget_streams(struct sk_timeline *t, sk_conn_t conn)
{
    for (struct sk_stream *s = t->streams, *next; s; s = next) {
        next = s->next;
        if (s->conn != conn)
            continue;
        s->gone = true;
        if (!s->reading)
            unlink_stream(s);
    }
}

/* What is asked for lies below where the log begins here: that, and where it begins, is the answer.
 */
static bool answer_truncated(struct sk_timeline *t, struct peer *peer, uint64_t request_id,
                             lsn_t from)
{
    struct sk_view v;
    char text[CO_SENTENCE_MAX], id[CO_ID_TEXT], want[LSN_TEXT], have[LSN_TEXT];
    Corallite__Error error = CORALLITE__ERROR__INIT;
    if (!sk_timeline_view(t, &v) || from >= v.base_lsn)
        return false;
    snprintf(text, sizeof text,
             "safekeeper %u keeps the log of timeline %s from LSN %s on, and LSN %s was asked for: "
             "what lies below is in the archive",
             t->birth.owner.node, co_id_format(&t->birth.owner.timeline, id),
             lsn_format(v.base_lsn, have), lsn_format(from, want));
    error.has_code = error.has_wanted_lsn = error.has_have_lsn = 1;
    error.code = CO_ERR_TRUNCATED;
    error.sentence = text;
    error.wanted_lsn = from;
    error.have_lsn = v.base_lsn;
    peer_send(peer, FRAME_ERROR, request_id, &error.base, (struct co_span){0});
    return true;
}

void sk_timeline_stream(struct sk_timeline *t, struct peer *peer, uint64_t request_id,
                        const Corallite__Stream *request)
{
    sk_conn_t conn = peer_id(peer);
    t->used_us = co_now_us();
    lsn_t from = request->has_from_lsn ? request->from_lsn : 0;
    if (t->refuse_code) {
        sk_answer_error(t, conn, request_id, t->refuse_code, t->refusal);
        return;
    }
    if (from < t->birth.start_lsn || from % LSN_ALIGN) {
        char text[CO_SENTENCE_MAX];
        snprintf(text, sizeof text,
                 "a stream of this timeline begins at LSN %016llx or later, at the begin of a "
                 "record; %016llx was asked for",
                 (unsigned long long)t->birth.start_lsn, (unsigned long long)from);
        sk_answer_error(t, conn, request_id, CO_ERR_INVAL, text);
        return;
    }
    if (answer_truncated(t, peer, request_id, from))
        return;
    struct sk_stream *s = t->n_streams < SK_STREAMS_MAX ? calloc(1, sizeof *s) : NULL;
    if (!s) {
        sk_answer_error(t, conn, request_id, CO_ERR_BUSY,
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
    s->fragment_at = request->has_fragment_at ? request->fragment_at : 0;
    s->deadline_us = t->used_us + wait_ms * 1000;
    s->max_bytes =
        request->has_max_bytes && request->max_bytes && request->max_bytes < CO_BATCH_BYTES
            ? request->max_bytes
            : (uint32_t)CO_BATCH_BYTES;
    s->next = t->streams;
    t->streams = s;
    t->n_streams++;
    sk_serve_streams(t);
}
