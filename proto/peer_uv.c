/*
 * peer_uv.c - the life of a connection on a loop: receiving, sending, leaving (peer_impl.h has the
 * states).
 *
 * Sending: frames collect in `pending`. The first one starts the idle handle `flusher`, whose
 * callback runs once before the loop next waits, writes all that has collected by then, and stops
 * itself; an idle handle, because while it is active the loop does not sleep, wherever in an
 * iteration the frame was queued. What the socket does not take at once becomes one uv_write
 * (`flight`); only when that is done the next begins.
 *
 * A connection that the other side has ended is told by the reading side, after the frames that
 * came before the end: so a failed write drops the output and waits for that.
 */
#include "proto/peer_uv.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "common/assert.h"
#include "common/log.h"
#include "proto/hello.h"
#include "proto/limits.h"
#include "proto/peer_impl.h"
#include "proto/unpack.h"

/* Frames are gathered into buffers of about so much; larger payloads travel in their own. */
#define GATHER_BYTES ((size_t)65536)
#define OWN_BYTES    ((size_t)16384)
/* Buffers of one writev. */
#define IOV_N 64
/* A peer is given at most about so much in one turn before the others have theirs. */
#define TURN_BYTES ((size_t)4 << 20)

struct peer_limits peer_limits = {
    .connect_ms = CO_CONNECT_TIMEOUT_MS,
    .hello_ms = CO_HELLO_TIMEOUT_MS,
    .frame_ms = CO_FRAME_TIMEOUT_MS,
    .linger_ms = 1000,
    .connections = CO_CONNECTIONS_MAX,
    .output_bytes = CO_OUTPUT_MAX_BYTES,
    .pause_bytes = PEER_PAUSE_BYTES,
};

static void on_flusher(uv_idle_t *handle);
static void on_timer(uv_timer_t *handle);
static void start_reading(struct peer *p);

/* -- The queue out ----------------------------------------------------------------------------- */

static void queue_free(struct out_queue *q)
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

/* -- Birth and death --------------------------------------------------------------------------- */

void peer_ignore_sigpipe(void)
{
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN); /* uv writes without MSG_NOSIGNAL */
}

struct peer *peer_new(uv_loop_t *loop, const struct peer_handler *handler)
{
    static _Atomic uint64_t last_id;
    struct peer *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->id = ++last_id;
    p->loop = loop;
    p->handler = *handler;
    p->in.body_limit = CO_FRAME_HELLO_MAX_BYTES;
    int rc = uv_idle_init(loop, &p->flusher) | uv_timer_init(loop, &p->timer);
    co_assert(rc == 0); /* neither allocates */
    p->handles = 2;
    p->flusher.data = p->timer.data = p->tcp.data = p;
    return p;
}

void peer_unhold(struct peer *p)
{
    co_assert(p->handles > 0);
    if (--p->handles || p->state != PEER_CLOSED)
        return;
    if (p->owes_close)
        p->handler.on_close(p->handler.owner, p, p->reason);
    if (p->server)
        peer_server_lost(p);
    peer_dial_free(p);
    queue_free(&p->pending);
    queue_free(&p->flight);
    frame_reader_free(&p->in);
    free(p);
}

static void on_closed(uv_handle_t *handle)
{
    peer_unhold(handle->data);
}

static void set_reason(struct peer *p, int code, const char *why)
{
    if (p->code)
        return;
    p->code = code;
    snprintf(p->reason, sizeof p->reason, "%s", why);
}

void peer_abort(struct peer *p, int code, const char *why)
{
    if (p->state == PEER_CLOSED)
        return;
    set_reason(p, code, why);
    p->state = PEER_CLOSED;
    uv_close((uv_handle_t *)&p->flusher, on_closed);
    uv_close((uv_handle_t *)&p->timer, on_closed);
    if (p->tcp_open && !uv_is_closing((uv_handle_t *)&p->tcp))
        uv_close((uv_handle_t *)&p->tcp, on_closed);
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    struct peer *p = req->data;
    if (status)
        peer_abort(p, CO_ERR_CLOSED, "the connection was lost while it was being closed");
}

/* LEAVING: goes on once all that was queued is sent. */
static void leave_on(struct peer *p, bool linger)
{
    if (p->writing || p->pending.n || p->shut)
        return;
    p->shut = true;
    p->shutdown.data = p;
    if (!linger || uv_shutdown(&p->shutdown, (uv_stream_t *)&p->tcp, on_shutdown))
        peer_abort(p, CO_ERR_CLOSED, "closed");
}

void peer_leave(struct peer *p, bool linger, int code, const char *why)
{
    if (p->state >= PEER_LEAVING)
        return;
    set_reason(p, code, why);
    if (p->state == PEER_DIALING || (!p->pending.n && !p->writing)) {
        peer_abort(p, code, why);
        return;
    }
    p->state = PEER_LEAVING;
    p->linger = linger;
    peer_timer(p, peer_limits.linger_ms);
    start_reading(p); /* to meet the other side's end; what comes is forgotten */
}

void peer_close(struct peer *p, const char *reason)
{
    peer_leave(p, true, CO_ERR_CANCELED, reason);
}

/* Ends the connection because of co_sentence(), which a server tells the other side. */
static void refuse(struct peer *p, uint64_t request_id, int code)
{
    char why[CO_SENTENCE_MAX];
    snprintf(why, sizeof why, "%s", co_sentence());
    if (!p->server) {
        peer_abort(p, code, why);
        return;
    }
    if (!p->owes_close) /* nobody else will tell */
        co_info("proto/peer", "refused addr=%s reason=\"%s\"", p->address, why);
    peer_send_error(p, request_id, code);
    peer_leave(p, true, code, why);
}

/* -- Sending ----------------------------------------------------------------------------------- */

static void write_failed(struct peer *p, int uv_code)
{
    char why[400];
    queue_free(&p->pending);
    if (uv_code == UV_EPIPE || uv_code == UV_ECONNRESET) {
        start_reading(p); /* the end is met there, behind what came before it */
        return;
    }
    snprintf(why, sizeof why, "sending to %s failed (%s)", p->address, uv_strerror(uv_code));
    peer_abort(p, CO_ERR_CLOSED, why);
}

static void flush(struct peer *p);

/* All answers have gone: the requests that were left unread have their turn. */
static void unpause(struct peer *p)
{
    if (p->paused && p->state == PEER_OPEN)
        start_reading(p);
}

static void on_written(uv_write_t *req, int status)
{
    struct peer *p = req->data;
    p->writing = false;
    if (status == 0)
        p->bytes_out += p->flight.bytes - p->flight.sent;
    queue_free(&p->flight);
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
        p->bytes_out += (uint64_t)rc;
        turn += (size_t)rc;
    }
    if (p->pending.n)
        write_rest(p);
    else
        unpause(p);
    if (p->state == PEER_LEAVING)
        leave_on(p, p->linger);
}

static void on_flusher(uv_idle_t *handle)
{
    uv_idle_stop(handle);
    flush(handle->data);
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
        uv_idle_start(&p->flusher, on_flusher);
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

void peer_send_error(struct peer *p, uint64_t request_id, int code)
{
    Corallite__Error error = CORALLITE__ERROR__INIT;
    char sentence[CO_SENTENCE_MAX];
    snprintf(sentence, sizeof sentence, "%s", co_sentence());
    error.has_code = 1;
    error.code = code;
    error.sentence = sentence;
    peer_send(p, FRAME_ERROR, request_id, &error.base, (struct co_span){0});
}

/* -- Receiving --------------------------------------------------------------------------------- */

static int check_server_hello(struct peer *p, const Corallite__Hello *hello)
{
    int rc = hello_check_range(hello);
    if (rc)
        return rc;
    bool known = hello->has_role && hello->role >= CORALLITE__ROLE__ROLE_COMPUTE &&
                 hello->role <= CORALLITE__ROLE__ROLE_TOOL;
    p->role = known ? hello->role : CORALLITE__ROLE__ROLE_NONE;
    return p->handler.on_hello(p->handler.owner, p, hello, NULL);
}

static int greet_server(struct peer *p, const struct frame_header *frame, struct co_span message)
{
    if (frame->type != FRAME_HELLO)
        return co_fail(CO_ERR_PROTOCOL, "the first frame must be HELLO; %s came",
                       frame_type_name(frame->type));
    Corallite__Hello *hello = message_unpack(&corallite__hello__descriptor, message);
    if (!hello)
        return CO_ERR_PROTOCOL;
    int rc = check_server_hello(p, hello);
    corallite__hello__free_unpacked(hello, NULL);
    p->owes_close = rc == 0;
    return rc;
}

static int greet_client(struct peer *p, const struct frame_header *frame, struct co_span message)
{
    int rc;
    if (frame->type == FRAME_ERROR) {
        Corallite__Error *error = message_unpack(&corallite__error__descriptor, message);
        if (!error)
            return CO_ERR_PROTOCOL;
        rc = error_take(error, p->address);
        corallite__error__free_unpacked(error, NULL);
        peer_abort(p, rc, co_sentence()); /* nothing to answer: they have refused us */
        return 0;
    }
    if (frame->type != FRAME_HELLO_OK)
        return co_fail(CO_ERR_PROTOCOL, "%s answered HELLO with %s", p->address,
                       frame_type_name(frame->type));
    Corallite__HelloOk *ok = message_unpack(&corallite__hello_ok__descriptor, message);
    if (!ok)
        return CO_ERR_PROTOCOL;
    rc = peer_dial_check(p, ok);
    if (!rc)
        rc = p->handler.on_hello(p->handler.owner, p, NULL, ok);
    corallite__hello_ok__free_unpacked(ok, NULL);
    return rc;
}

static int greet(struct peer *p, const struct frame_header *frame, struct co_span body)
{
    struct co_span message = co_span_of(body.data, frame->message_bytes);
    int rc = p->server ? greet_server(p, frame, message) : greet_client(p, frame, message);
    if (rc == 0 && p->state == PEER_GREETING) {
        p->state = PEER_OPEN;
        p->in.body_limit = 0;
        peer_dial_free(p);
        uv_timer_stop(&p->timer);
    }
    return rc;
}

static int handle_frame(struct peer *p, const struct frame_header *frame, struct co_span body)
{
    if (p->state == PEER_GREETING)
        return greet(p, frame, body);
    if (frame->type != FRAME_PING)
        return p->handler.on_frame(p->handler.owner, p, frame, body);
    peer_send(p, FRAME_PONG, frame->request_id, NULL, (struct co_span){0});
    return 0;
}

static void handle_frames(struct peer *p)
{
    while ((p->state == PEER_GREETING || p->state == PEER_OPEN) && !p->paused) {
        struct frame_header frame = {0};
        struct co_span body;
        int rc = frame_reader_next(&p->in, &frame, &body);
        if (rc == CO_ERR_AGAIN)
            break;
        uint64_t id = rc ? 0 : frame.request_id;
        if (!rc)
            rc = handle_frame(p, &frame, body);
        if (rc)
            refuse(p, id, rc);
        else if (p->state == PEER_OPEN && peer_queued_bytes(p) > peer_limits.pause_bytes) {
            p->paused = true;
            uv_read_stop((uv_stream_t *)&p->tcp);
        }
    }
    if (p->state == PEER_OPEN && frame_reader_partial(&p->in) &&
        !uv_is_active((uv_handle_t *)&p->timer))
        peer_timer(p, peer_limits.frame_ms);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static _Thread_local char forgotten[8192];
    struct peer *p = handle->data;
    uint8_t *at;
    size_t room;
    (void)suggested;
    if (p->state >= PEER_LEAVING) {
        *buf = uv_buf_init(forgotten, sizeof forgotten);
    } else if (frame_reader_space(&p->in, &at, &room)) {
        *buf = uv_buf_init(NULL, 0); /* the read callback gets UV_ENOBUFS */
    } else {
        buf->base = (char *)at;
        buf->len = room;
    }
}

static void read_ended(struct peer *p, int uv_code)
{
    char why[600];
    if (uv_code == UV_EOF)
        snprintf(why, sizeof why, "%s closed the connection%s", p->address,
                 p->state == PEER_GREETING      ? " before it was greeted"
                 : frame_reader_partial(&p->in) ? " in the middle of a frame"
                                                : "");
    else
        snprintf(why, sizeof why, "receiving from %s failed (%s)", p->address,
                 uv_strerror(uv_code));
    peer_abort(p, CO_ERR_CLOSED, why);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct peer *p = stream->data;
    (void)buf;
    if (n < 0) {
        read_ended(p, (int)n);
    } else if (n > 0 && p->state < PEER_LEAVING) {
        frame_reader_commit(&p->in, (size_t)n);
        p->bytes_in += (uint64_t)n;
        p->progress_ms = uv_now(p->loop);
        handle_frames(p);
    }
}

static void start_reading(struct peer *p)
{
    p->paused = false;
    int rc = uv_read_start((uv_stream_t *)&p->tcp, on_alloc, on_read);
    if (rc && rc != UV_EALREADY)
        read_ended(p, rc);
    else
        handle_frames(p); /* those that a pause left behind */
}

/* -- Time -------------------------------------------------------------------------------------- */

void peer_timer(struct peer *p, uint64_t ms)
{
    uv_timer_start(&p->timer, on_timer, ms, 0);
}

static void frame_timeout(struct peer *p)
{
    uint64_t quiet = uv_now(p->loop) - p->progress_ms;
    char why[500];
    if (!frame_reader_partial(&p->in))
        return;
    if (p->paused || quiet < peer_limits.frame_ms) {
        peer_timer(p, p->paused ? peer_limits.frame_ms : peer_limits.frame_ms - quiet);
        return;
    }
    snprintf(why, sizeof why, "%s began a frame and sent no more of it for %llu ms", p->address,
             (unsigned long long)quiet);
    peer_abort(p, CO_ERR_TIMEOUT, why);
}

static void greeting_timeout(struct peer *p)
{
    int rc = co_fail(CO_ERR_TIMEOUT, "no %s came from %s within %llu ms",
                     p->server ? "Hello" : "answer to Hello", p->address,
                     (unsigned long long)peer_limits.hello_ms);
    refuse(p, 0, rc);
}

static void on_timer(uv_timer_t *handle)
{
    struct peer *p = handle->data;
    if (p->state == PEER_DIALING)
        peer_dial_timeout(p);
    else if (p->state == PEER_GREETING)
        greeting_timeout(p);
    else if (p->state == PEER_OPEN)
        frame_timeout(p);
    else if (p->state == PEER_LEAVING)
        peer_abort(p, CO_ERR_TIMEOUT, "closed");
}

void peer_connected(struct peer *p)
{
    uv_os_fd_t fd;
    if (uv_fileno((const uv_handle_t *)&p->tcp, &fd) == 0) {
        net_tune(fd);
        p->local = net_is_local(fd);
    }
    p->state = PEER_GREETING;
    peer_timer(p, peer_limits.hello_ms);
    if (p->pending.n)
        uv_idle_start(&p->flusher, on_flusher);
    start_reading(p);
}

/* -- What it knows ----------------------------------------------------------------------------- */

uint64_t peer_id(const struct peer *p)
{
    return p->id;
}

bool peer_is_local(const struct peer *p)
{
    return p->local;
}

const char *peer_address(const struct peer *p)
{
    return p->address;
}

Corallite__Role peer_role(const struct peer *p)
{
    return p->role;
}

int peer_code(const struct peer *p)
{
    return p->code;
}

void peer_set_data(struct peer *p, void *data)
{
    p->data = data;
}

void *peer_data(const struct peer *p)
{
    return p->data;
}

uint64_t peer_bytes_in(const struct peer *p)
{
    return p->bytes_in;
}

uint64_t peer_bytes_out(const struct peer *p)
{
    return p->bytes_out;
}

void *peer_unpack(const ProtobufCMessageDescriptor *type, struct co_span message)
{
    return message_unpack(type, message);
}
