#include "fake_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "proto/limits.h"

void fake_send_raw(struct fake_conn *c, struct co_span frames)
{
    for (size_t done = 0; c->fd >= 0 && !c->server->mute && done < frames.len;) {
        ssize_t n = send(c->fd, frames.data + done, frames.len - done, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        done += (size_t)n;
    }
}

void fake_send(struct fake_conn *c, unsigned type, uint64_t request_id,
               const ProtobufCMessage *message, struct co_span payload)
{
    struct co_buf out = {0}, packed = {0};
    size_t size = message != NULL ? protobuf_c_message_get_packed_size(message) : 0;

    co_assert(co_buf_reserve(&packed, size + 1) == 0);
    if (message != NULL)
        packed.len = protobuf_c_message_pack(message, packed.data);
    co_assert(frame_append(&out, type, request_id, co_buf_span(&packed), payload) == 0);
    fake_send_raw(c, co_buf_span(&out));
    co_buf_free(&out);
    co_buf_free(&packed);
}

void fake_send_error(struct fake_conn *c, uint64_t request_id, int code, const char *sentence)
{
    Corallite__Error error = CORALLITE__ERROR__INIT;

    error.has_code = 1;
    error.code = code;
    error.sentence = (char *)sentence;
    fake_send(c, FRAME_ERROR, request_id, &error.base, co_span_of(NULL, 0));
}

void fake_send_lag(struct fake_conn *c, uint64_t request_id, uint64_t progress)
{
    Corallite__Error error = CORALLITE__ERROR__INIT;

    error.has_code = error.has_progress = 1;
    error.code = CO_ERR_LAG;
    error.sentence = (char *)"behind";
    error.progress = progress;
    fake_send(c, FRAME_ERROR, request_id, &error.base, co_span_of(NULL, 0));
}

static void greet(struct fake_conn *c, uint64_t request_id)
{
    Corallite__HelloOk ok = CORALLITE__HELLO_OK__INIT;
    struct fake_server *s = c->server;

    s->hellos++;
    ok.has_protocol = ok.has_cluster = ok.has_node = ok.has_time_us = 1;
    ok.protocol = CO_PROTOCOL_VERSION;
    ok.cluster = (ProtobufCBinaryData){16, s->cluster.b};
    ok.has_disk = !co_id_is_zero(&s->disk);
    ok.disk = (ProtobufCBinaryData){16, s->disk.b};
    ok.node = s->node;
    ok.time_us = (uint64_t)((int64_t)co_wall_us() + s->clock_ahead_us);
    ok.build = (char *)"fake";
    fake_send(c, FRAME_HELLO_OK, request_id, &ok.base, co_span_of(NULL, 0));
}

static bool handle(struct fake_conn *c, const struct frame_header *frame, struct co_span body)
{
    struct fake_server *s = c->server;
    bool go_on = true;

    pthread_mutex_lock(&s->lock);
    if (frame->type == FRAME_HELLO)
        greet(c, frame->request_id);
    else if (frame->type == FRAME_PING)
        fake_send(c, FRAME_PONG, frame->request_id, NULL, co_span_of(NULL, 0));
    else if (!s->mute && s->on_frame != NULL)
        go_on = s->on_frame(s->owner, c, frame, body);
    pthread_mutex_unlock(&s->lock);
    return go_on;
}

static void *serve(void *arg)
{
    struct fake_conn *c = arg;
    bool go_on = true;

    while (go_on) {
        uint8_t *at;
        size_t room;
        struct frame_header frame;
        struct co_span body;
        co_assert(frame_reader_space(&c->in, &at, &room) == 0);
        ssize_t n = recv(c->fd, at, room, 0);
        if (n <= 0)
            break;
        frame_reader_commit(&c->in, (size_t)n);
        while (go_on && frame_reader_next(&c->in, &frame, &body) == 0)
            go_on = handle(c, &frame, body);
    }
    pthread_mutex_lock(&c->server->lock);
    if (c->server->on_close != NULL)
        c->server->on_close(c->server->owner, c);
    shutdown(c->fd, SHUT_RDWR);
    close(c->fd);
    c->fd = -1;
    frame_reader_free(&c->in);
    pthread_mutex_unlock(&c->server->lock);
    return NULL;
}

static void *accept_all(void *arg)
{
    struct fake_server *s = arg;

    for (;;) {
        int fd = accept(s->listen_fd, NULL, NULL);
        if (fd < 0)
            return NULL;
        pthread_mutex_lock(&s->lock);
        struct fake_conn *c = NULL;
        for (unsigned i = 0; i < FAKE_CONNS && c == NULL; i++) {
            if (s->conn[i].fd < 0)
                c = &s->conn[i];
        }
        co_assert(c != NULL);
        if (c->running)
            pthread_join(c->thread, NULL);
        memset(&c->in, 0, sizeof c->in);
        c->server = s;
        c->fd = fd;
        c->running = true;
        co_assert(pthread_create(&c->thread, NULL, serve, c) == 0);
        pthread_mutex_unlock(&s->lock);
    }
}

void fake_server_init(struct fake_server *s)
{
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    s->listen_fd = -1;
    for (unsigned i = 0; i < FAKE_CONNS; i++)
        s->conn[i].fd = -1;
}

void fake_server_start(struct fake_server *s)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons(s->port)};
    socklen_t len = sizeof addr;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

    co_assert(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    co_assert(bind(fd, (struct sockaddr *)&addr, sizeof addr) == 0);
    co_assert(listen(fd, 64) == 0);
    co_assert(getsockname(fd, (struct sockaddr *)&addr, &len) == 0);
    s->port = ntohs(addr.sin_port);
    s->listen_fd = fd;
    co_assert(pthread_create(&s->thread, NULL, accept_all, s) == 0);
}

void fake_server_kick(struct fake_server *s)
{
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < FAKE_CONNS; i++) {
        if (s->conn[i].fd >= 0)
            shutdown(s->conn[i].fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&s->lock);
}

void fake_server_stop(struct fake_server *s)
{
    if (s->listen_fd < 0)
        return;
    shutdown(s->listen_fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listen_fd);
    s->listen_fd = -1;
    fake_server_kick(s);
    for (unsigned i = 0; i < FAKE_CONNS; i++) {
        if (s->conn[i].running)
            pthread_join(s->conn[i].thread, NULL);
        s->conn[i].running = false;
    }
}
