#include "proto/peer_sock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/main_file.h"
#include "proto/hello.h"
#include "proto/limits.h"
#include "proto/net_sock.h"
#include "proto/unpack.h"

/* One pump_in takes in at most about so much, so that a fast peer does not hold its caller. */
#define PUMP_IN_BYTES ((size_t)1 << 20)
/* A sent queue that was longer than this gives its memory back. */
#define OUT_KEEP_BYTES ((size_t)1 << 20)

#define PEER_GONE_MS   10000u

int psock_split_address(const char *text, uint16_t default_port, char host[256], uint16_t *port)
{
    return co_split_address("a server's address", text, default_port, host, port);
}

void psock_close(struct psock *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    frame_reader_free(&s->in);
    co_buf_free(&s->out);
    s->out_sent = 0;
}

/* -- Sending and receiving what the socket takes and has --------------------------------------- */

static int send_some(struct psock *s, const uint8_t *data, size_t len, size_t *sent)
{
    *sent = 0;
    while (*sent < len) {
        ssize_t n = send(s->fd, data + *sent, len - *sent, MSG_NOSIGNAL);
        if (n >= 0) {
            *sent += (size_t)n;
            s->bytes_out += (uint64_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return 0;
        } else if (errno == EPIPE || errno == ECONNRESET) {
            *sent = len; /* nobody will read it; pump_in tells, after what came before */
            return 0;
        } else if (errno != EINTR) {
            return co_fail_errno(CO_ERR_CLOSED, errno, "sending to %s failed", s->address);
        }
    }
    return 0;
}

static int closed_already(const struct psock *s)
{
    return co_fail(CO_ERR_CLOSED, "the connection to %s is closed", s->address);
}

int psock_pump_out(struct psock *s)
{
    size_t sent;
    if (s->fd < 0)
        return closed_already(s);
    if (!psock_wants_out(s))
        return 0;
    int rc = send_some(s, s->out.data + s->out_sent, s->out.len - s->out_sent, &sent);
    if (rc)
        return rc;
    s->out_sent += sent;
    if (s->out_sent == s->out.len) {
        s->out_sent = s->out.len = 0;
        if (s->out.cap > OUT_KEEP_BYTES)
            co_buf_free(&s->out);
    } else if (s->out_sent > OUT_KEEP_BYTES && s->out_sent > s->out.len / 2) {
        co_buf_consume(&s->out, s->out_sent); /* moves less than was sent since the last time */
        s->out_sent = 0;
    }
    return 0;
}

int psock_queue(struct psock *s, struct co_span frames)
{
    size_t sent = 0;
    if (s->fd < 0)
        return closed_already(s);
    if (!psock_wants_out(s)) {
        int rc = send_some(s, frames.data, frames.len, &sent);
        if (rc || sent == frames.len)
            return rc;
    }
    if (s->out.len - s->out_sent + frames.len > CO_OUTPUT_MAX_BYTES)
        return co_fail(CO_ERR_CLOSED, "%s takes nothing: %zu bytes wait to be sent to it",
                       s->address, s->out.len - s->out_sent);
    int rc = co_buf_append(&s->out, frames.data + sent, frames.len - sent);
    return rc ? rc : psock_pump_out(s);
}

int psock_pump_in(struct psock *s)
{
    if (s->fd < 0)
        return closed_already(s);
    for (size_t got = 0; got < PUMP_IN_BYTES;) {
        uint8_t *at;
        size_t room;
        int rc = frame_reader_space(&s->in, &at, &room);
        if (rc)
            return rc;
        ssize_t n = recv(s->fd, at, room, 0);
        if (n > 0) {
            frame_reader_commit(&s->in, (size_t)n);
            s->bytes_in += (uint64_t)n;
            got += (size_t)n;
            if ((size_t)n < room)
                return 0; /* drained: the next recv would only say EAGAIN */
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (got || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))) {
            return 0; /* an end that follows data is seen again by the next call */
        } else if (n == 0) {
            return co_fail(CO_ERR_CLOSED, "%s closed the connection%s", s->address,
                           frame_reader_partial(&s->in) ? " in the middle of a frame" : "");
        } else {
            return co_fail_errno(CO_ERR_CLOSED, errno, "receiving from %s failed", s->address);
        }
    }
    return 0;
}

static int answer_ping(struct psock *s, uint64_t request_id)
{
    uint8_t pong[FRAME_HEADER_BYTES];
    frame_write(pong, FRAME_PONG, request_id, (struct co_span){0}, (struct co_span){0});
    return psock_queue(s, co_span_of(pong, sizeof pong));
}

static int frame_error(struct psock *s, int rc)
{
    char why[CO_SENTENCE_MAX];
    if (rc != CO_ERR_PROTOCOL)
        return rc;
    snprintf(why, sizeof why, "%s", co_sentence());
    return co_fail(rc, "%s sent bytes that cannot be used: %s", s->address, why);
}

int psock_next(struct psock *s, struct frame_header *frame, struct co_span *body)
{
    if (s->fd < 0)
        return closed_already(s);
    for (;;) {
        int rc = frame_reader_next(&s->in, frame, body);
        if (rc)
            return frame_error(s, rc);
        if (frame->type != FRAME_PING)
            return 0;
        rc = answer_ping(s, frame->request_id);
        if (rc)
            return rc;
    }
}

/* -- Waiting ----------------------------------------------------------------------------------- */

/* Waits for `events`; 0, or CO_ERR_TIMEOUT without a sentence. */
static int wait_for(int fd, short events, uint64_t deadline_us)
{
    for (;;) {
        uint64_t now = co_now_us();
        uint64_t left_ms = deadline_us > now ? (deadline_us - now + 999) / 1000 : 0;
        struct pollfd p = {.fd = fd, .events = events};
        int n = poll(&p, 1, left_ms > 3600000 ? 3600000 : (int)left_ms);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return co_fail_errno(CO_ERR_IO, errno, "poll failed");
        if (n == 0 && left_ms == 0)
            return CO_ERR_TIMEOUT;
    }
}

/* Sends and receives until a whole frame is there; takes it. */
static int await_frame(struct psock *s, uint64_t deadline_us, struct frame_header *frame,
                       struct co_buf *body)
{
    bool ended = false;
    char why[CO_SENTENCE_MAX] = "";
    for (;;) {
        int rc = frame_reader_take(&s->in, frame, body);
        if (rc != CO_ERR_AGAIN)
            return frame_error(s, rc);
        if (ended)
            return co_fail(CO_ERR_CLOSED, "%s", why);
        rc = wait_for(s->fd, (short)(psock_wants_out(s) ? POLLIN | POLLOUT : POLLIN), deadline_us);
        if (rc == CO_ERR_TIMEOUT)
            return co_fail(rc, "%s did not answer in time", s->address);
        if (!rc)
            rc = psock_pump_out(s);
        if (!rc)
            rc = psock_pump_in(s);
        if (rc == CO_ERR_CLOSED) {
            ended = true;
            snprintf(why, sizeof why, "%s", co_sentence());
        } else if (rc) {
            return rc;
        }
    }
}

/* -- Connecting -------------------------------------------------------------------------------- */

/* Returns the errno of the attempt, 0 when *fd is connected. */
static int connect_one(const struct sockaddr_storage *to, socklen_t len, uint64_t deadline_us,
                       int *fd)
{
    *fd = socket(to->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0)
        return errno;
    net_tune(*fd);
    int err = connect(*fd, (const struct sockaddr *)to, len) == 0 ? 0 : errno;
    if (err == EINPROGRESS || err == EINTR) {
        socklen_t size = sizeof err;
        if (wait_for(*fd, POLLOUT, deadline_us))
            err = ETIMEDOUT;
        else if (getsockopt(*fd, SOL_SOCKET, SO_ERROR, &err, &size))
            err = errno;
    }
    if (err) {
        close(*fd);
        *fd = -1;
    }
    return err;
}

/* Tries the host's addresses in turn; each may take its share of the time that is left. */
static int connect_any(struct psock *s, const char *host, uint16_t port, const char *wanted,
                       uint64_t deadline_us)
{
    struct net_addresses to;
    char reason[128];
    int err = ETIMEDOUT;
    int rc = net_resolve(host, port, deadline_us, &to);
    if (rc) {
        char why[CO_SENTENCE_MAX];
        snprintf(why, sizeof why, "%s", co_sentence());
        return co_fail(CO_ERR_CONNECT, "cannot reach %s at %s: %s", wanted, s->address, why);
    }
    for (unsigned i = 0; i < to.n; i++) {
        uint64_t now = co_now_us(), left = deadline_us > now ? deadline_us - now : 0;
        err = connect_one(&to.at[i], to.len[i], now + left / (to.n - i), &s->fd);
        if (!err)
            return 0;
    }
    return co_fail(CO_ERR_CONNECT,
                   "cannot reach %s at %s (%s); is it running? `corallite status` tells", wanted,
                   s->address, strerror_r(err, reason, sizeof reason));
}

/* Body of HELLO_OK or Error -> *ok or the code. */
static int read_greeting(struct psock *s, const Corallite__Hello *hello,
                         const struct frame_header *frame, const struct co_buf *body,
                         Corallite__HelloOk **ok)
{
    struct co_span message = co_span_of(body->data, frame->message_bytes);
    if (frame->type == FRAME_ERROR) {
        Corallite__Error *error = message_unpack(&corallite__error__descriptor, message);
        if (!error)
            return CO_ERR_PROTOCOL;
        int rc = error_take(error, s->address);
        corallite__error__free_unpacked(error, NULL);
        return rc;
    }
    if (frame->type != FRAME_HELLO_OK)
        return co_fail(CO_ERR_PROTOCOL, "%s answered Hello with a frame %s", s->address,
                       frame_type_name(frame->type));
    Corallite__HelloOk *answer = message_unpack(&corallite__hello_ok__descriptor, message);
    if (!answer)
        return CO_ERR_PROTOCOL;
    int rc = hello_check_answer(hello, answer, s->address);
    if (rc || !ok)
        corallite__hello_ok__free_unpacked(answer, NULL);
    else
        *ok = answer;
    return rc;
}

static int append_message(struct co_buf *out, unsigned type, uint64_t request_id,
                          const ProtobufCMessage *message, struct co_span payload)
{
    struct co_buf packed = {0};
    if (message) {
        size_t size = protobuf_c_message_get_packed_size(message);
        int rc = co_buf_reserve(&packed, size);
        if (rc)
            return rc;
        packed.len = size ? protobuf_c_message_pack(message, packed.data) : 0;
    }
    int rc = frame_append(out, type, request_id, co_buf_span(&packed), payload);
    co_buf_free(&packed);
    return rc;
}

static int say_hello(struct psock *s, const Corallite__Hello *hello, const char *wanted,
                     uint64_t deadline_us, Corallite__HelloOk **ok)
{
    struct frame_header frame;
    struct co_buf body = {0};
    s->in.body_limit = CO_FRAME_CONTROL_MAX_BYTES;
    int rc = append_message(&s->out, FRAME_HELLO, 0, &hello->base, (struct co_span){0});
    if (!rc)
        rc = psock_pump_out(s);
    if (!rc)
        rc = await_frame(s, deadline_us, &frame, &body);
    if (rc == CO_ERR_TIMEOUT)
        rc = co_fail(rc,
                     "%s at %s took the connection but did not answer in time; it may be stopped "
                     "or overloaded, or another program has the port",
                     wanted, s->address);
    if (!rc)
        rc = read_greeting(s, hello, &frame, &body, ok);
    co_buf_free(&body);
    s->in.body_limit = 0;
    return rc;
}

int psock_connect(struct psock *s, const char *host, uint16_t port, const Corallite__Hello *hello,
                  uint64_t deadline_us, Corallite__HelloOk **ok)
{
    char text[32];
    const char *wanted = hello_wanted(hello, text);
    *s = (struct psock){.fd = -1, .next_request = 1};
    if (ok)
        *ok = NULL;
    net_format(host, port, s->address);
    uint64_t now = co_now_us(), connect_by = now + CO_CONNECT_TIMEOUT_MS * 1000ull;
    uint64_t hello_by = now + CO_HELLO_TIMEOUT_MS * 1000ull;
    int rc =
        connect_any(s, host, port, wanted, connect_by < deadline_us ? connect_by : deadline_us);
    if (!rc)
        rc = say_hello(s, hello, wanted, hello_by < deadline_us ? hello_by : deadline_us, ok);
    if (rc)
        psock_close(s);
    return rc;
}

/* -- A call ------------------------------------------------------------------------------------ */

/* The frame that answers `id`, past those that nobody asked for. */
static int await_answer(struct psock *s, uint64_t id, uint64_t deadline_us,
                        struct frame_header *frame, struct co_buf *body)
{
    for (;;) {
        int rc = await_frame(s, deadline_us, frame, body);
        if (rc)
            return rc;
        bool answers = frame->request_id == id && frame->type != FRAME_PING;
        /* An Error that answers nothing in particular is why the connection ends. */
        if (answers || (frame->type == FRAME_ERROR && !frame->request_id))
            return 0;
        co_buf_free(body);
        if (frame->type == FRAME_PING)
            rc = answer_ping(s, frame->request_id);
        else if (frame->request_id)
            rc = co_fail(CO_ERR_PROTOCOL, "%s answered request %llu while %llu was waited for",
                         s->address, (unsigned long long)frame->request_id, (unsigned long long)id);
        if (rc)
            return rc;
    }
}

static int read_error(struct psock *s, const struct frame_header *frame, const struct co_buf *body,
                      Corallite__Error **error)
{
    Corallite__Error *e =
        message_unpack(&corallite__error__descriptor, co_span_of(body->data, frame->message_bytes));
    if (!e) {
        psock_close(s);
        return CO_ERR_PROTOCOL;
    }
    int rc = error_take(e, s->address);
    if (error)
        *error = e;
    else
        corallite__error__free_unpacked(e, NULL);
    if (!frame->request_id)
        psock_close(s);
    return rc;
}

int psock_call(struct psock *s, unsigned type, const ProtobufCMessage *message,
               struct co_span payload, uint64_t deadline_us, struct frame_header *frame,
               struct co_buf *body, Corallite__Error **error)
{
    if (error)
        *error = NULL;
    *body = (struct co_buf){0};
    if (s->fd < 0)
        return closed_already(s);
    uint64_t id = s->next_request++;
    int rc = append_message(&s->out, type, id, message, payload);
    if (rc)
        return rc; /* no memory; nothing was sent */
    rc = psock_pump_out(s);
    if (!rc)
        rc = await_answer(s, id, deadline_us, frame, body);
    if (rc) {
        co_buf_free(body);
        psock_close(s);
        return rc;
    }
    if (frame->type != FRAME_ERROR)
        return 0;
    rc = read_error(s, frame, body, error);
    co_buf_free(body);
    return rc;
}
