/*
 * puller_uv.c - a feed for each timeline that has something new: asks a safekeeper for the
 * committed records that come next, hands them to the writer, and says how far the timeline is.
 *
 *   STREAM (long poll) --> STREAM_DATA --> pending --> the writer's job --> chain, waits woken
 *
 * `received` is the end of what has come, `chain.last_lsn` the end of what is durable; in between
 * lie the batch that is being ingested and `pending`. Of a large record, which comes in fragments,
 * `part` bytes behind `received` have come; they are ingested like everything else. The next STREAM
 * goes out as soon as an answer is in, unless FEED_PENDING_MAX bytes wait: that bounds the memory
 * of a feed to what one answer adds. All feeds together have FEEDING_MAX; beyond it they ask one
 * after another, as there is room, and what was asked before that may still come in. While commits
 * are small and nobody waits for them it goes out GATHER_MS later, so that a busy writer costs a
 * transaction of the store every few milliseconds and not one a commit.
 *
 * Where from: one safekeeper, until it goes away, stalls (no answer within the poll's time and
 * STALL_MS), answers with nothing (then another has its turn: the source may be cut off from the
 * writer), or sends what cannot be used. When a reader waits for more than has come, the others are
 * asked too, after HEDGE_MS. Answers from several overlap harmlessly: LSNs are byte positions, and
 * what is there already is skipped.
 *
 * What no safekeeper keeps any more (they answer TRUNCATED) comes from the archive
 * (puller_archive_uv.c): while that lasts none of them is asked.
 *
 * Of ten thousand databases few are written to. A feed whose poll brought nothing ends, and the
 * timeline rests: the safekeepers tell when a commit LSN moves (TIMELINE_LISTED with news), with
 * their list at the begin of a connection how far each is, and a reader who wants more than there
 * is begins a feed by himself. As long as a connected safekeeper does not tell, feeds go on.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/puller_int_uv.h"
#include "proto/message.h"
#include "proto/unpack.h"

#define MODULE        "pageserver/puller"
#define POLL_MS       10000u
#define POLL_MAX_MS   60000u
#define HEDGE_POLL_MS 1000u
#define STALL_MS      3000u
#define HEDGE_MS      30u
#define EMPTY_MIN_MS  50u           /* an empty answer sooner than this is answered with a pause */
#define FEEDING_MAX   (64 * CO_MIB) /* pending and being ingested, of all timelines */
#define FEEDING_MS    20u           /* after so long a feed looks again whether there is room */
#define GATHER_MS     5u
#define GATHER_BYTES  (64 * CO_KIB) /* an answer of so much is not a small one */

struct batch {
    struct ps_job job;
    struct ps_feed *feed;
    struct ps_line line;
    struct ps_chain chain;
    struct co_buf bytes;
    uint64_t end; /* of the bytes: a place in the log, also within a record */
    uint32_t n_records;
};

int ps_feed_take_bytes(struct ps_feed *f, const uint8_t *bytes, size_t n)
{
    int rc = co_buf_append(&f->pending, bytes, n);
    if (!rc)
        f->s->feeding_bytes += n;
    return rc;
}

static void drop_pending(struct ps_feed *f)
{
    f->s->feeding_bytes -= f->pending.len;
    f->pending.len = 0;
}

/* -- Asking ------------------------------------------------------------------------------------ */

/* Will a connected safekeeper tell what is new? */
static bool news_told(const struct ps_server *s)
{
    for (uint32_t i = 0; i < s->reg.n_nodes; i++)
        if (s->nodes[i].ready && s->reg.listed[i] && !s->nodes[i].tells)
            return false;
    return true;
}

/* Where idle timelines go on to poll, many do so more rarely: polls alone are no load. */
static uint32_t poll_ms(const struct ps_server *s)
{
    uint64_t ms = POLL_MS + (news_told(s) ? 0 : (uint64_t)s->reg.n * 5);
    return (uint32_t)(ms < POLL_MAX_MS ? ms : POLL_MAX_MS);
}

static void ask(struct ps_feed *f, uint32_t node, uint32_t wait_ms)
{
    struct ps_server *s = f->s;
    Corallite__Stream stream = CORALLITE__STREAM__INIT;
    stream.has_timeline = stream.has_from_lsn = stream.has_max_bytes = 1;
    stream.has_wait_ms = stream.has_durable_lsn = 1;
    stream.timeline = msg_bytes16(f->tl->meta.id.b);
    stream.from_lsn = f->received;
    stream.max_bytes = CO_BATCH_BYTES;
    stream.wait_ms = wait_ms;
    stream.has_fragment_at = f->part != 0;
    stream.fragment_at = f->part;
    stream.durable_lsn = f->tl->durable;
    f->request[node] = ++s->last_request;
    f->asked_ms[node] = uv_now(&s->loop);
    peer_send(s->nodes[node].peer, FRAME_STREAM, s->last_request, &stream.base,
              co_span_of(NULL, 0));
}

bool ps_feed_usable(const struct ps_feed *f, uint32_t node)
{
    return f->s->nodes[node].ready && f->s->reg.listed[node] && f->tl->held[node] != 0;
}

/* The next usable safekeeper after the source; the source itself when it is the only one. */
bool ps_feed_turn(struct ps_feed *f)
{
    uint32_t n = f->s->reg.n_nodes;
    for (uint32_t i = 1; i <= n; i++)
        if (ps_feed_usable(f, (f->source + i) % n)) {
            f->source = (f->source + i) % n;
            return true;
        }
    return false;
}

static void on_timer(uv_timer_t *timer)
{
    struct ps_feed *f = timer->data;
    if (!f->pausing && f->request[f->source]) {
        char id[CO_ID_TEXT];
        co_warn(MODULE, "stalled timeline=%s node=%u", co_id_format(&f->tl->meta.id, id),
                f->s->nodes[f->source].id);
        f->request[f->source] = 0; /* a late answer is not missed: another poll asks from there */
        ps_feed_turn(f);
    }
    f->pausing = f->gathering = false;
    if (f->pending.len && !f->ingesting)
        ps_feed_submit(f);
    ps_feed_poll(f);
}

void ps_feed_pause(struct ps_feed *f, uint64_t ms)
{
    f->pausing = true;
    f->gathering = false;
    uv_timer_start(&f->timer, on_timer, ms, 0);
}

void ps_feed_poll(struct ps_feed *f)
{
    if (f->closed || f->halted || f->pausing || f->refilling || f->request[f->source] ||
        f->pending.len >= FEED_PENDING_MAX)
        return;
    if (!ps_feed_usable(f, f->source) && !ps_feed_turn(f)) {
        uv_timer_stop(&f->timer); /* ps_feeds_node goes on */
        return;
    }
    if (f->request[f->source])
        return;
    if (f->s->feeding_bytes >= FEEDING_MAX) {
        ps_feed_pause(f, FEEDING_MS);
        return;
    }
    uint32_t ms = poll_ms(f->s);
    ask(f, f->source, ms);
    uv_timer_start(&f->timer, on_timer, ms + STALL_MS, 0);
}

/* Somebody waits for more than there is. */
static bool is_wanted(const struct ps_timeline *tl)
{
    return tl->waits || tl->wanted > tl->chain.last_lsn;
}

static bool is_awaited(const struct ps_feed *f)
{
    return is_wanted(f->tl);
}

static void on_hedge(uv_timer_t *timer)
{
    struct ps_feed *f = timer->data;
    if (f->closed || f->halted || !is_awaited(f))
        return;
    if (!f->ingesting && !f->pausing && !f->refilling)
        for (uint32_t i = 0; i < f->s->reg.n_nodes; i++)
            if (i != f->source && ps_feed_usable(f, i) && !f->request[i])
                ask(f, i, HEDGE_POLL_MS);
    uv_timer_start(&f->hedge, on_hedge, HEDGE_POLL_MS + HEDGE_MS, 0);
}

bool ps_feed_due(const struct ps_server *s, const struct ps_timeline *tl)
{
    return tl->news || is_wanted(tl) || !news_told(s);
}

void ps_feed_ensure(struct ps_server *s, struct ps_timeline *tl)
{
    if (!tl->feed && tl->based && ps_timeline_fed(tl))
        ps_feed_open(s, tl);
}

void ps_feed_wanted(struct ps_server *s, struct ps_timeline *tl)
{
    ps_feed_ensure(s, tl);
    struct ps_feed *f = tl->feed;
    if (f && f->gathering && is_awaited(f)) {
        f->pausing = f->gathering = false;
        if (f->pending.len && !f->ingesting)
            ps_feed_submit(f);
        ps_feed_poll(f);
    }
    if (f && !f->closed && !f->halted && !uv_is_active((uv_handle_t *)&f->hedge))
        uv_timer_start(&f->hedge, on_hedge, HEDGE_MS, 0);
}

/* -- Ingesting --------------------------------------------------------------------------------- */

static int batch_run(struct ps_job *job, struct ps_txn *txn)
{
    struct batch *b = (struct batch *)job;
    return ps_ingest_store(txn, &b->line, &b->chain, &b->feed->partial, co_buf_span(&b->bytes),
                           &b->n_records);
}

/* What was received beyond the chain is asked for again, elsewhere, a little later. */
void ps_feed_start_over(struct ps_feed *f)
{
    f->refilling = false;
    drop_pending(f);
    f->received = f->tl->chain.last_lsn;
    f->part = f->part_total = 0;
    ps_partial_reset(&f->partial);
    for (uint32_t i = 0; i < f->s->reg.n_nodes; i++)
        f->request[i] = 0;
    ps_feed_turn(f);
    uint64_t ms = FEED_RETRY_MS << (f->failures < 6 ? f->failures : 6);
    f->failures++;
    ps_feed_pause(f, ms < FEED_RETRY_MAX_MS ? ms : FEED_RETRY_MAX_MS);
}

static void halt(struct ps_feed *f, const char *why)
{
    f->halted = true;
    drop_pending(f);
    snprintf(f->why, sizeof f->why, "%s", why);
    co_metric_add(&ps_m_halted, 1);
    co_error(MODULE, "%s", why);
    uv_timer_stop(&f->timer);
    uv_timer_stop(&f->hedge);
}

static void free_feed(struct ps_feed *f)
{
    if (f->handles || f->ingesting)
        return;
    drop_pending(f);
    co_buf_free(&f->pending);
    ps_partial_free(&f->partial);
    free(f);
}

static void batch_done(struct ps_job *job)
{
    struct batch *b = (struct batch *)job;
    struct ps_feed *f = b->feed;
    struct ps_timeline *tl = f->tl;
    char id[CO_ID_TEXT];
    f->ingesting = false;
    f->s->feeding_bytes -= b->bytes.len;
    if (!f->closed) {
        /* One ingest behind: the newest one is durable for sure only with the next. */
        if (!job->rc && tl->chain.last_lsn > tl->durable)
            tl->durable = tl->chain.last_lsn;
        co_metric_add(&ps_m_ingest_bytes, b->chain.last_lsn - tl->chain.last_lsn);
        co_metric_add(&ps_m_records, b->n_records);
        co_metric_add(&ps_m_batches, 1);
        tl->chain = b->chain;
        if (job->rc == CO_ERR_HALTED) {
            halt(f, job->why);
        } else if (job->rc) {
            co_warn(MODULE, "ingest failed, is tried again timeline=%s code=%s: %s",
                    co_id_format(&tl->meta.id, id), co_error_name(job->rc), job->why);
            ps_feed_start_over(f);
        } else if (b->end > f->progress) { /* what is taken in again is no progress */
            f->failures = 0;
            f->progress = b->end;
        }
        ps_pages_wake(f->s, tl);
        if (f->s->n_unbased)
            ps_lineage_settle(f->s);
        if (f->s->moments)
            ps_serve_asks(f->s);
        if (f->pending.len && !f->pausing)
            ps_feed_submit(f);
        ps_feed_poll(f);
        if (f->refilling)
            ps_refill_take(f->s);
    }
    co_buf_free(&b->bytes);
    free(b);
    if (f->closed)
        free_feed(f);
}

void ps_feed_submit(struct ps_feed *f)
{
    struct batch *b = calloc(1, sizeof *b);
    if (!b) {
        ps_feed_pause(f, FEED_RETRY_MS);
        return;
    }
    b->job.run = batch_run;
    b->job.done = batch_done;
    b->feed = f;
    b->line = f->tl->line;
    b->chain = f->tl->chain;
    b->bytes = f->pending;
    b->end = f->received + f->part;
    f->pending = (struct co_buf){0};
    f->ingesting = true;
    ps_writer_give(f->s->writer, &b->job);
}

/* -- Answers ----------------------------------------------------------------------------------- */

/* A fragment of the record at f->received. What is not the continuation is dropped: another answer
 * brings it. */
static int take_fragment(struct ps_feed *f, uint32_t node, const Corallite__StreamData *data,
                         struct co_span bytes)
{
    struct wal_header h;
    uint64_t at = data->fragment_at;
    if (f->halted || f->closed || f->refilling || data->from_lsn != f->received || at > f->part ||
        bytes.len <= f->part - at)
        return 0;
    if (f->part == 0) {
        if (wal_peek(bytes, &h) || h.begin_lsn != f->received)
            return co_fail(CO_ERR_PROTOCOL, "a fragment came that is not the begin of its record");
        f->part_total = h.total_bytes;
    }
    size_t skip = (size_t)(f->part - at), n = bytes.len - skip;
    if (n > f->part_total - f->part)
        return co_fail(CO_ERR_PROTOCOL, "more of a record came than it has");
    int rc = ps_feed_take_bytes(f, bytes.data + skip, n);
    if (rc)
        return rc;
    f->part += n;
    if (f->part == f->part_total) {
        f->received += f->part_total;
        f->part = f->part_total = 0;
    }
    f->source = node;
    if (!f->ingesting && !f->pausing)
        ps_feed_submit(f);
    return 0;
}

static int take_data(struct ps_feed *f, uint32_t node, const Corallite__StreamData *data,
                     struct co_span records)
{
    if (data->commit_lsn > f->commit[node])
        f->commit[node] = data->commit_lsn;
    lsn_t end = data->from_lsn + records.len;
    if (data->fragment)
        return take_fragment(f, node, data, records);
    if (f->halted || f->closed || f->refilling || f->part || data->from_lsn > f->received ||
        end <= f->received)
        return 0;
    f->truncated = 0;
    size_t skip = (size_t)(f->received - data->from_lsn);
    int rc = ps_feed_take_bytes(f, records.data + skip, records.len - skip);
    if (rc)
        return rc;
    f->received = end;
    f->source = node; /* it is ahead of the one that was asked first, or is that one */
    if (!f->ingesting && !f->pausing)
        ps_feed_submit(f);
    return 0;
}

/* A poll brought nothing: is there anything left to ask for? */
static bool may_rest(const struct ps_feed *f)
{
    return news_told(f->s) && !f->pausing && !f->ingesting && !f->pending.len && !f->part &&
           !is_awaited(f) && ps_feed_lag(f->s, f->tl) == 0;
}

static void next_poll(struct ps_feed *f, uint32_t node, size_t bytes)
{
    if (f->halted || f->closed || node != f->source)
        return; /* a poll beside the source's ends here */
    if (bytes > 0 && bytes < GATHER_BYTES && !f->pausing && !is_awaited(f)) {
        ps_feed_pause(f, GATHER_MS);
        f->gathering = true;
        return;
    }
    if (bytes == 0 && !f->pausing) {
        bool soon = uv_now(&f->s->loop) - f->asked_ms[node] < EMPTY_MIN_MS;
        if (!soon && may_rest(f)) {
            f->tl->news = false;
            ps_feed_close(f->tl);
            return;
        }
        ps_feed_turn(f);
        if (soon) {
            ps_feed_pause(f, EMPTY_MIN_MS);
            return;
        }
    }
    ps_feed_poll(f);
}

int ps_feed_data(struct ps_server *s, uint32_t node, const struct frame_header *frame,
                 struct co_span body)
{
    struct co_span records =
        co_span_of(body.data + frame->message_bytes, body.len - frame->message_bytes);
    struct co_id id;
    Corallite__StreamData *data = message_unpack(&corallite__stream_data__descriptor,
                                                 co_span_of(body.data, frame->message_bytes));
    if (!data)
        return CO_ERR_PROTOCOL;
    int rc = msg_get16("timeline", data->has_timeline, &data->timeline, id.b);
    struct ps_timeline *tl = rc ? NULL : ps_reg_find(&s->reg, &id);
    struct ps_feed *f = tl ? tl->feed : NULL;
    /* Not what is being waited for: the answer to a poll that was given up. */
    if (f && f->request[node] == frame->request_id) {
        f->request[node] = 0;
        rc = take_data(f, node, data, records);
        if (!rc)
            next_poll(f, node, records.len);
    }
    protobuf_c_message_free_unpacked(&data->base, NULL);
    return rc;
}

bool ps_feed_error(struct ps_server *s, uint32_t node, uint64_t request, int code)
{
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next) {
        struct ps_feed *f = tl->feed;
        if (!f || !request || f->request[node] != request)
            continue;
        f->request[node] = 0;
        if (code == CO_ERR_NOT_FOUND) {
            tl->held[node] = 0; /* it lost the timeline, or never had it: put there again */
            ps_catalog_drive(s, tl);
        }
        if (node == f->source && code == CO_ERR_TRUNCATED && !f->halted && !f->closed) {
            ps_feed_truncated(f);
        } else if (node == f->source && !f->halted && !f->closed) {
            ps_feed_turn(f);
            ps_feed_pause(f, FEED_RETRY_MS);
        }
        return true;
    }
    return false;
}

/* -- Life -------------------------------------------------------------------------------------- */

void ps_feed_open(struct ps_server *s, struct ps_timeline *tl)
{
    if (tl->feed || s->closing || tl->rebuilding)
        return;
    struct ps_feed *f = calloc(1, sizeof *f);
    if (!f) {
        co_error(MODULE, "no memory to pull a timeline with");
        return;
    }
    f->s = s;
    f->tl = tl;
    f->received = tl->chain.last_lsn;
    f->source = (uint32_t)(co_get32(tl->meta.id.b) % s->reg.n_nodes); /* spread over all */
    int rc = uv_timer_init(&s->loop, &f->timer) | uv_timer_init(&s->loop, &f->hedge);
    co_assert(rc == 0);
    f->timer.data = f->hedge.data = f;
    f->handles = 2;
    tl->feed = f;
    ps_feed_poll(f);
}

static void on_closed(uv_handle_t *handle)
{
    struct ps_feed *f = handle->data;
    f->handles--;
    free_feed(f);
}

void ps_feed_close(struct ps_timeline *tl)
{
    struct ps_feed *f = tl->feed;
    if (!f)
        return;
    tl->feed = NULL;
    f->closed = true;
    uv_close((uv_handle_t *)&f->timer, on_closed);
    uv_close((uv_handle_t *)&f->hedge, on_closed);
}

void ps_feed_news(struct ps_server *s, uint32_t node, struct ps_timeline *tl, lsn_t commit)
{
    if (tl->meta.state == PS_DROPPED || (commit && commit <= tl->chain.last_lsn))
        return;
    tl->news = true;
    ps_feed_ensure(s, tl);
    struct ps_feed *f = tl->feed;
    if (f && commit > f->commit[node])
        f->commit[node] = commit;
}

void ps_feeds_node(struct ps_server *s, uint32_t node, bool ready)
{
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next) {
        struct ps_feed *f = tl->feed;
        if (!f)
            continue;
        if (!ready)
            f->request[node] = 0;
        ps_feed_poll(f);
    }
}
