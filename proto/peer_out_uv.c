/*
 * peer_out_uv.c - what a connection on a loop sends.
 *
 * Frames collect in `pending`. The first one starts the idle handle `flusher`, whose callback runs
 * once before the loop next waits, writes all that has collected by then, and stops itself; an idle
 * handle, because while it is active the loop does not sleep, wherever in an iteration the frame
 * was queued. What the socket does not take at once becomes one uv_write (`flight`); only when that
 * is done the next begins.
 *
 * A connection that the other side has ended is told by the reading side, after the frames that
 * came before the end: so a failed write drops the output and waits for that.
 */
#include <stdio.h>
#include <stdlib.h>

#include "proto/peer_impl.h"
#include "proto/peer_metrics.h"

/* Frames are gathered into buffers of about so much; larger payloads travel in their own. */
#define GATHER_BYTES ((size_t)65536)
#define OWN_BYTES    ((size_t)16384)
/* Buffers of one writev. */
#define IOV_N 64
/* A peer is given at most about so much in one turn before the others have theirs. */
#define TURN_BYTES ((size_t)4 << 20)

/* -- The queue out ----------------------------------------------------------------------------- */

void peer_queue_free(struct out_queue *q)
{
    for (size_t i = 0; i < q->n; i++)
        co_buf_free(&q->e[i]);
    free(q->e);
    *q = (struct out_queue){0};
}

/* A new last buffer; NULL: no memory. */
static struct co_buf *queue_slot(struct out_queue *q)
{
    if (q->n == q->cap) {
        size_t cap = q->cap ? 2 * q->cap : 8;
        struct co_buf *e = realloc(q->e, cap * sizeof *e);
        if (!e)
            return NULL;
        q->e = e;
        q->cap = cap;
    }
    q->e[q->n] = (struct co_buf){0};
    return &q->e[q->n++];
}

/* The buffer to gather `more` bytes in: the last one, while it is small, else a new one. */
static struct co_buf *queue_tail(struct out_queue *q, size_t more)
{
    struct co_buf *tail = q->n ? &q->e[q->n - 1] : NULL;
    if (!tail || (tail->cap - tail->len < more && tail->len + more > GATHER_BYTES))
        tail = queue_slot(q);
    return tail && co_buf_reserve(tail, more) == 0 ? tail : NULL;
}

/* `n` bytes at the front have gone. */
static void queue_sent(struct out_queue *q, size_t n)
{
    size_t gone = 0;
    q->sent += n;
    while (gone < q->n && q->sent >= q->e[gone].len) {
        q->sent -= q->e[gone].len;
        q->bytes -= q->e[gone].len;
        co_buf_free(&q->e[gone++]);
    }
    q->n -= gone;
    if (gone && q->n)
        memmove(q->e, q->e + gone, q->n * sizeof *q->e);
}

static size_t queue_iov(const struct out_queue *q, uv_buf_t *iov, size_t max)
{
    size_t n = q->n < max ? q->n : max;
    for (size_t i = 0; i < n; i++) {
        size_t skip = i ? 0 : q->sent;
        iov[i].base = (char *)q->e[i].data + skip;
        iov[i].len = q->e[i].len - skip;
    }
    return n;
}

size_t peer_queued_bytes(const struct peer *p)
{
    size_t flight = p->writing ? uv_stream_get_write_queue_size((const uv_stream_t *)&p->tcp) : 0;
    return p->pending.bytes - p->pending.sent + flight;
}

/* -- Sending ----------------------------------------------------------------------------------- */

static void write_failed(struct peer *p, int uv_code)
{
    char why[400];
    peer_queue_free(&p->pending);
    if (uv_code == UV_EPIPE || uv_code == UV_ECONNRESET) {
        peer_read(p); /* the end is met there, behind what came before it */
        return;
    }
    snprintf(why, sizeof why, "sending to %s failed (%s)", p->address, uv_strerror(uv_code));
    peer_abort(p, CO_ERR_CLOSED, why);
}

/* All answers have gone: the requests that were left unread have their turn. */
static void unpause(struct peer *p)
{
    if (p->paused && !p->held && p->state == PEER_OPEN)
        peer_read(p);
}

static void flush(struct peer *p);

static void sent(struct peer *p, uint64_t bytes)
{
    p->bytes_out += bytes;
    peer_away_count(p);
    if (p->server)
        peer_count_sent(bytes);
}

static void on_written(uv_write_t *req, int status)
{
    struct peer *p = req->data;
    p->writing = false;
    if (status == 0)
        sent(p, p->flight.bytes - p->flight.sent);
    peer_queue_free(&p->flight);
    if (p->state == PEER_CLOSED)
        return;
    if (status)
        write_failed(p, status);
    else
        flush(p);
}

/* All that is pending becomes one write request. */
static void write_rest(struct peer *p)
{
    uv_buf_t few[IOV_N], *iov = few;
    size_t n = p->pending.n;
    if (n > IOV_N)
        iov = malloc(n * sizeof *iov);
    if (!iov) {
        peer_abort(p, CO_ERR_NOMEM, "there was no memory to send with");
        return;
    }
    queue_iov(&p->pending, iov, n);
    p->write.data = p;
    int rc = uv_write(&p->write, (uv_stream_t *)&p->tcp, iov, (unsigned)n, on_written);
    if (iov != few)
        free(iov);
    if (rc) {
        write_failed(p, rc);
        return;
    }
    p->writing = true;
    p->flight = p->pending;
    p->pending = (struct out_queue){0};
}

static void flush(struct peer *p)
{
    uv_buf_t iov[IOV_N];
    size_t turn = 0;
    if (p->state == PEER_AWAY) {
        peer_away_flush(p);
        return;
    }
    if (p->state == PEER_DIALING || p->state == PEER_CLOSED || p->writing)
        return;
    while (p->pending.n && turn < TURN_BYTES) {
        size_t n = queue_iov(&p->pending, iov, IOV_N);
        int rc = uv_try_write((uv_stream_t *)&p->tcp, iov, (unsigned)n);
        if (rc == UV_EAGAIN)
            break;
        if (rc < 0) {
            write_failed(p, rc);
            break;
        }
        queue_sent(&p->pending, (size_t)rc);
        sent(p, (uint64_t)rc);
        turn += (size_t)rc;
    }
    if (p->pending.n)
        write_rest(p);
    else
        unpause(p);
    if (p->state == PEER_LEAVING)
        peer_leave_on(p);
}

static void on_flusher(uv_idle_t *handle)
{
    uv_idle_stop(handle);
    flush(handle->data);
}

void peer_flush_soon(struct peer *p)
{
    uv_idle_start(&p->flusher, on_flusher);
}

/* Something was put in the queue: have it sent before the loop sleeps. */
static void queued(struct peer *p, size_t bytes)
{
    p->pending.bytes += bytes;
    if (peer_queued_bytes(p) > peer_limits.output_bytes) {
        char why[400];
        snprintf(why, sizeof why, "%s takes nothing: %zu bytes wait to be sent to it", p->address,
                 peer_queued_bytes(p));
        peer_abort(p, CO_ERR_CLOSED, why);
    } else if (!p->writing && p->state != PEER_DIALING) {
        peer_flush_soon(p);
    }
}

static void no_memory(struct peer *p)
{
    peer_abort(p, CO_ERR_NOMEM, "there was no memory for what was to be sent");
}

/* Header and message behind what is queued, with room for `tail` bytes more; what was written. */
static struct co_buf *put_head(struct peer *p, unsigned type, uint64_t request_id,
                               const ProtobufCMessage *message, struct co_span payload, size_t tail,
                               size_t *head_bytes)
{
    size_t size = message ? protobuf_c_message_get_packed_size(message) : 0;
    struct co_buf *to = queue_tail(&p->pending, FRAME_HEADER_BYTES + size + tail);
    if (!to)
        return NULL;
    uint8_t *at = to->data + to->len, *body = at + FRAME_HEADER_BYTES;
    if (size)
        protobuf_c_message_pack(message, body);
    frame_write(at, type, request_id, co_span_of(body, size), payload);
    *head_bytes = FRAME_HEADER_BYTES + size;
    to->len += *head_bytes;
    return to;
}

void peer_send(struct peer *p, unsigned type, uint64_t request_id, const ProtobufCMessage *message,
               struct co_span payload)
{
    size_t head;
    if (p->state >= PEER_LEAVING)
        return;
    struct co_buf *to = put_head(p, type, request_id, message, payload, payload.len, &head);
    if (!to || co_buf_append(to, payload.data, payload.len)) {
        no_memory(p);
        return;
    }
    queued(p, head + payload.len);
}

void peer_send_take(struct peer *p, unsigned type, uint64_t request_id,
                    const ProtobufCMessage *message, struct co_buf *payload)
{
    size_t head;
    struct co_span bytes = co_buf_span(payload);
    if (bytes.len < OWN_BYTES || p->state >= PEER_LEAVING) {
        peer_send(p, type, request_id, message, bytes);
        co_buf_free(payload);
        return;
    }
    struct co_buf *own = NULL;
    if (put_head(p, type, request_id, message, bytes, 0, &head))
        own = queue_slot(&p->pending);
    if (!own) {
        co_buf_free(payload);
        no_memory(p);
        return;
    }
    *own = *payload;
    *payload = (struct co_buf){0};
    queued(p, head + bytes.len);
}

void peer_send_raw(struct peer *p, struct co_buf *frames)
{
    struct co_buf taken = *frames;
    *frames = (struct co_buf){0};
    bool own = taken.len >= OWN_BYTES;
    if (p->state >= PEER_LEAVING || !taken.len) {
        co_buf_free(&taken);
        return;
    }
    size_t len = taken.len;
    struct co_buf *to = own ? queue_slot(&p->pending) : queue_tail(&p->pending, len);
    bool ok = to && (own || co_buf_append(to, taken.data, len) == 0);
    if (ok && own)
        *to = taken;
    else
        co_buf_free(&taken);
    if (ok)
        queued(p, len);
    else
        no_memory(p);
}

void peer_send_queue(struct peer *p, struct out_queue *q)
{
    bool ok = true;
    size_t bytes = q->bytes - q->sent;
    if (p->state >= PEER_LEAVING || !q->n) {
        peer_queue_free(q);
        return;
    }
    if (!p->pending.n) {
        peer_queue_free(&p->pending);
        p->pending = *q;
        p->pending.bytes -= bytes; /* queued() adds them */
        *q = (struct out_queue){0};
    }
    for (size_t i = 0; i < q->n && ok; i++) { /* none of it was sent yet */
        struct co_buf *to = queue_slot(&p->pending);
        ok = to != NULL;
        if (ok) {
            *to = q->e[i];
            q->e[i] = (struct co_buf){0};
        }
    }
    peer_queue_free(q);
    if (ok)
        queued(p, bytes);
    else
        no_memory(p);
}

void peer_send_error(struct peer *p, uint64_t request_id, int code)
{
    if (p->server)
        peer_count_error(code);
    Corallite__Error error = CORALLITE__ERROR__INIT;
    char sentence[CO_SENTENCE_MAX];
    snprintf(sentence, sizeof sentence, "%s", co_sentence());
    error.has_code = 1;
    error.code = code;
    error.sentence = sentence;
    peer_send(p, FRAME_ERROR, request_id, &error.base, (struct co_span){0});
}

void peer_out_free(struct peer *p)
{
    peer_queue_free(&p->pending);
    peer_queue_free(&p->flight);
}
