/*
 * peer_uv.c - the life of a connection on a loop: birth, receiving, leaving (peer_impl.h has the
 * states; peer_out_uv.c sends, peer_link_uv.c connects).
 */
#include "proto/peer_uv.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "common/log.h"
#include "proto/hello.h"
#include "proto/limits.h"
#include "proto/peer_impl.h"
#include "proto/peer_metrics.h"
#include "proto/unpack.h"

struct peer_limits peer_limits = {
    .connect_ms = CO_CONNECT_TIMEOUT_MS,
    .hello_ms = CO_HELLO_TIMEOUT_MS,
    .frame_ms = CO_FRAME_TIMEOUT_MS,
    .linger_ms = 1000,
    .connections = CO_CONNECTIONS_MAX,
    .output_bytes = CO_OUTPUT_MAX_BYTES,
    .pause_bytes = CO_OUTPUT_PAUSE_BYTES,
    .reserved = CO_CONNECTIONS_RESERVED,
    .per_address = CO_CONNECTIONS_PER_ADDRESS_MAX,
    .greeting = CO_GREETING_MAX,
    .pressed_ms = CO_GREETING_PRESSED_MS,
    .grace_ms = CO_RATE_GRACE_MS,
    .rate = CO_RATE_MIN_BYTES_PER_S,
    .sweep_ms = 1000,
    .output_all_bytes = CO_OUTPUT_ALL_BYTES,
};

static void on_timer(uv_timer_t *handle);

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
    peer_out_free(p);
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
    peer_guard_left(p);
    p->state = PEER_CLOSED;
    uv_close((uv_handle_t *)&p->flusher, on_closed);
    uv_close((uv_handle_t *)&p->timer, on_closed);
    if (p->tcp_open && !uv_is_closing((uv_handle_t *)&p->tcp))
        uv_close((uv_handle_t *)&p->tcp, on_closed);
    if (p->link)
        peer_away_end(p, false);
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    struct peer *p = req->data;
    if (status)
        peer_abort(p, CO_ERR_CLOSED, "the connection was lost while it was being closed");
}

void peer_leave_on(struct peer *p)
{
    if (p->writing || p->pending.n || p->shut)
        return;
    p->shut = true;
    p->shutdown.data = p;
    if (!p->linger || uv_shutdown(&p->shutdown, (uv_stream_t *)&p->tcp, on_shutdown))
        peer_abort(p, CO_ERR_CLOSED, "closed");
}

void peer_leave(struct peer *p, bool linger, int code, const char *why)
{
    if (p->state >= PEER_LEAVING)
        return;
    set_reason(p, code, why);
    if (p->state == PEER_AWAY) {
        p->state = PEER_LEAVING; /* no timer: the other loop has one */
        peer_away_end(p, true);
        return;
    }
    if (p->state == PEER_DIALING || (!p->pending.n && !p->writing)) {
        peer_abort(p, code, why);
        return;
    }
    p->state = PEER_LEAVING;
    p->linger = linger;
    peer_timer(p, peer_limits.linger_ms);
    peer_read(p); /* to meet the other side's end; what comes is forgotten */
}

void peer_close(struct peer *p, const char *reason)
{
    peer_leave(p, true, CO_ERR_CANCELED, reason);
}

void peer_refuse(struct peer *p, uint64_t request_id, int code)
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

/* -- Receiving --------------------------------------------------------------------------------- */

static int check_server_hello(struct peer *p, const Corallite__Hello *hello)
{
    int rc = hello_check_range(hello);
    if (rc)
        return rc;
    bool known = hello->has_role && hello->role >= CORALLITE__ROLE__ROLE_COMPUTE &&
                 hello->role <= CORALLITE__ROLE__ROLE_TOOL;
    p->role = known ? hello->role : CORALLITE__ROLE__ROLE_NONE;
    rc = peer_guard_greeted(p);
    return rc ? rc : p->handler.on_hello(p->handler.owner, p, hello, NULL);
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
        p->begun_ms = uv_now(p->loop);
        peer_dial_free(p);
        uv_timer_stop(&p->timer);
    }
    return rc;
}

static int handle_frame(struct peer *p, const struct frame_header *frame, struct co_span body)
{
    if (p->state == PEER_GREETING)
        return greet(p, frame, body);
    if (p->server)
        peer_count_request(frame->type);
    if (frame->type != FRAME_PING)
        return p->handler.on_frame(p->handler.owner, p, frame, body);
    peer_send(p, FRAME_PONG, frame->request_id, NULL, (struct co_span){0});
    return 0;
}

static void handle_frames(struct peer *p)
{
    while ((p->state == PEER_GREETING || p->state == PEER_OPEN) && !p->paused && !p->held) {
        struct frame_header frame = {0};
        struct co_span body;
        int rc = frame_reader_next(&p->in, &frame, &body);
        if (rc == CO_ERR_AGAIN)
            break;
        uint64_t id = rc ? 0 : frame.request_id;
        p->begun_ms = uv_now(p->loop);
        if (rc && p->server)
            peer_count_refused(PEER_REFUSED_FRAME);
        if (!rc)
            rc = handle_frame(p, &frame, body);
        if (rc)
            peer_refuse(p, id, rc);
        else if (p->state == PEER_OPEN && peer_guard_pauses(p)) {
            p->paused = true;
            uv_read_stop((uv_stream_t *)&p->tcp);
        }
        peer_move_if_due(p);
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
        if (p->state == PEER_OPEN && !frame_reader_partial(&p->in))
            p->begun_ms = uv_now(p->loop);
        frame_reader_commit(&p->in, (size_t)n);
        p->bytes_in += (uint64_t)n;
        peer_away_count(p);
        if (p->server)
            peer_count_received((uint64_t)n);
        p->progress_ms = uv_now(p->loop);
        handle_frames(p);
    }
}

void peer_read(struct peer *p)
{
    p->paused = false;
    p->begun_ms = uv_now(p->loop);
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
    if (p->server)
        peer_count_refused(PEER_REFUSED_SLOW);
    peer_abort(p, CO_ERR_TIMEOUT, why);
}

static void greeting_timeout(struct peer *p)
{
    if (p->server)
        peer_count_refused(PEER_REFUSED_NO_HELLO);
    int rc = co_fail(CO_ERR_TIMEOUT, "no %s came from %s within %llu ms",
                     p->server ? "Hello" : "answer to Hello", p->address,
                     (unsigned long long)peer_limits.hello_ms);
    peer_refuse(p, 0, rc);
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
        net_peer_address(fd, p->from);
    }
    p->state = PEER_GREETING;
    if (p->server && !peer_guard_admits(p))
        return;
    peer_timer(p, peer_limits.hello_ms);
    if (p->pending.n)
        peer_flush_soon(p);
    peer_read(p);
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
    return p->bytes_in + peer_away_bytes_in(p);
}

uint64_t peer_bytes_out(const struct peer *p)
{
    return p->bytes_out + peer_away_bytes_out(p);
}

void *peer_unpack(const ProtobufCMessageDescriptor *type, struct co_span message)
{
    return message_unpack(type, message);
}
