#include "tests/unit/proto/peer_fixture.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "proto/limits.h"
#include "tests/unit/slower.h"

/* -- The server -------------------------------------------------------------------------------- */

static int on_hello(void *owner, struct peer *peer, const Corallite__Hello *hello,
                    const Corallite__HelloOk *ok)
{
    struct served *s = owner;
    (void)ok;
    if (hello->program && strcmp(hello->program, "stranger") == 0)
        return co_fail(CO_ERR_CLUSTER, "strangers are not served here");
    s->hellos++;
    s->local = peer_is_local(peer);
    Corallite__HelloOk answer = CORALLITE__HELLO_OK__INIT;
    answer.has_protocol = answer.has_node = 1;
    answer.protocol = CO_PROTOCOL_VERSION;
    answer.node = 2;
    peer_send(peer, FRAME_HELLO_OK, 0, &answer.base, (struct co_span){0});
    return 0;
}

static int on_frame(void *owner, struct peer *peer, const struct frame_header *frame,
                    struct co_span body)
{
    struct served *s = owner;
    struct co_buf big = {0};
    s->frames++;
    switch (frame->type) {
    case FRAME_APPEND:
        if (co_buf_append(&big, body.data, body.len))
            return CO_ERR_NOMEM;
        peer_send_take(peer, FRAME_DATA, frame->request_id, NULL, &big);
        return 0;
    case FRAME_DATA:
        if (frame_append(&big, FRAME_DATA, frame->request_id, (struct co_span){0}, body))
            return CO_ERR_NOMEM;
        peer_send_raw(peer, &big);
        return 0;
    case FRAME_DROP:
        (void)co_fail(CO_ERR_NOT_FOUND, "there is no such thing here");
        peer_send_error(peer, frame->request_id, CO_ERR_NOT_FOUND);
        return 0;
    case FRAME_DB_LIST:
        for (int i = 0; i < 100; i++)
            peer_send(peer, FRAME_PONG, 0, NULL, (struct co_span){0});
        peer_send(peer, FRAME_DB_LISTED, frame->request_id, NULL, (struct co_span){0});
        return 0;
    case FRAME_STREAM:
        (void)co_fail(CO_ERR_CLOSED, "goodbye");
        peer_send_error(peer, frame->request_id, CO_ERR_CLOSED);
        peer_close(peer, "it wanted to");
        return 0;
    case FRAME_RELEASE:
        return co_fail(CO_ERR_INVAL, "that was one too many");
    case FRAME_FREE:
        peer_server_close(s->server);
        s->server = NULL;
        return 0;
    case FRAME_GET_PAGES:
        if (co_buf_append_zeros(&big, BIG_ANSWER_BYTES))
            return CO_ERR_NOMEM;
        peer_send_take(peer, FRAME_PAGES, frame->request_id, NULL, &big);
        return 0;
    default:
        return 0;
    }
}

static void on_close(void *owner, struct peer *peer, const char *reason)
{
    struct served *s = owner;
    (void)peer;
    pthread_mutex_lock(&s->lock);
    snprintf(s->reason, sizeof s->reason, "%s", reason);
    pthread_mutex_unlock(&s->lock);
    s->closes++;
}

static void on_stop(uv_async_t *handle)
{
    struct served *s = handle->data;
    if (s->server)
        peer_server_close(s->server);
    uv_close((uv_handle_t *)handle, NULL);
}

static void *serve(void *arg)
{
    struct served *s = arg;
    uv_run(&s->loop, UV_RUN_DEFAULT);
    s->left_open = uv_loop_close(&s->loop);
    return NULL;
}

void served_start(struct served *s)
{
    struct peer_handler handler = {s, on_hello, on_frame, on_close};
    co_log_set_level(CO_LOG_ERROR);
    pthread_mutex_init(&s->lock, NULL);
    cr_assert_eq(uv_loop_init(&s->loop), 0);
    cr_assert_eq(uv_async_init(&s->loop, &s->stop, on_stop), 0);
    s->stop.data = s;
    cr_assert_eq(peer_listen(&s->loop, "127.0.0.1", 0, &handler, &s->server), 0, "%s",
                 co_sentence());
    s->port = peer_server_port(s->server);
    cr_assert_eq(pthread_create(&s->thread, NULL, serve, s), 0);
    s->started = true;
}

void served_stop(struct served *s)
{
    if (!s->started)
        return;
    uv_async_send(&s->stop);
    pthread_join(s->thread, NULL);
    s->started = false;
    cr_assert_eq(s->left_open, 0, "every handle is closed");
    cr_assert_eq(s->hellos, s->closes, "every accepted peer is told of once");
}

bool reached(_Atomic unsigned *counter, unsigned n)
{
    for (int i = 0; i < 2500 * (int)slower() && *counter < n; i++)
        usleep(2000);
    return *counter >= n;
}

/* -- The naked socket -------------------------------------------------------------------------- */

int naked_connect(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval patience = {.tv_sec = 5};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_geq(fd, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

void naked_send(int fd, const void *data, size_t len)
{
    cr_assert_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static bool receive(int fd, void *data, size_t len)
{
    for (size_t got = 0; got < len;) {
        ssize_t n = recv(fd, (char *)data + got, len - got, 0);
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

bool naked_frame(int fd, struct frame_header *frame, struct co_buf *body)
{
    uint8_t head[FRAME_HEADER_BYTES];
    if (!receive(fd, head, sizeof head))
        return false;
    cr_assert_eq(frame_parse(head, frame), 0, "%s", co_sentence());
    *body = (struct co_buf){0};
    cr_assert_eq(co_buf_append_zeros(body, frame->body_bytes), 0);
    if (!receive(fd, body->data, body->len))
        return false;
    cr_assert_eq(frame_verify(head, co_buf_span(body)), 0, "%s", co_sentence());
    return true;
}

bool naked_ended(int fd)
{
    char some[4096];
    for (;;) {
        ssize_t n = recv(fd, some, sizeof some, 0);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return true;
        if (n < 0)
            return false;
    }
}

bool naked_error(int fd, int code, const char *within)
{
    struct frame_header frame;
    struct co_buf body;
    if (!naked_frame(fd, &frame, &body) || frame.type != FRAME_ERROR)
        return false;
    Corallite__Error *e = peer_unpack(&corallite__error__descriptor, co_buf_span(&body));
    co_buf_free(&body);
    cr_assert(e);
    bool as_wanted = e->code == code && strstr(e->sentence, within) != NULL;
    if (!as_wanted)
        fprintf(stderr, "got %d \"%s\"\n", e->code, e->sentence);
    corallite__error__free_unpacked(e, NULL);
    return as_wanted;
}

void naked_greet(int fd)
{
    Corallite__Hello hello = some_hello();
    uint8_t packed[256];
    struct co_buf out = {0};
    struct frame_header frame;
    struct co_buf body;
    size_t n = corallite__hello__pack(&hello, packed);
    cr_assert_eq(frame_append(&out, FRAME_HELLO, 0, co_span_of(packed, n), (struct co_span){0}), 0);
    naked_send(fd, out.data, out.len);
    co_buf_free(&out);
    cr_assert(naked_frame(fd, &frame, &body));
    cr_assert_eq(frame.type, FRAME_HELLO_OK);
    co_buf_free(&body);
}

Corallite__Hello some_hello(void)
{
    static char program[] = "test";
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    hello.has_protocol_min = hello.has_protocol_max = hello.has_role = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    hello.role = CORALLITE__ROLE__ROLE_TOOL;
    hello.program = program;
    return hello;
}

uint64_t in_ms(uint64_t ms)
{
    return co_now_us() + ms * 1000;
}
