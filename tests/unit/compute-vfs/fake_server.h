/*
 * fake_server.h - a server that speaks frames, in threads of the test's process: greets with what
 * the test says and hands every later frame to the test. For everything that a real daemon cannot
 * be made to do: a clock that is wrong, an answer that is a lie, silence.
 */
#ifndef CORALLITE_TESTS_FAKE_SERVER_H
#define CORALLITE_TESTS_FAKE_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/id.h"
#include "proto/corallite.pb-c.h"
#include "proto/frame.h"
#include "proto/frame_reader.h"

#define FAKE_CONNS 64

struct fake_server;
struct fake_conn {
    struct fake_server *server;
    int fd; /* -1: free */
    pthread_t thread;
    bool running;
    struct frame_reader in;
};

struct fake_server {
    /* set by the test before start */
    struct co_id cluster;
    struct co_id disk; /* under `lock`; zero: it does not say */
    _Atomic uint32_t node;
    _Atomic int64_t clock_ahead_us;
    void *owner;
    /* Called under `lock`, on a thread of the connection. false: close the connection. */
    bool (*on_frame)(void *owner, struct fake_conn *conn, const struct frame_header *frame,
                     struct co_span body);
    void (*on_close)(void *owner, struct fake_conn *conn); /* may be NULL; under lock */

    pthread_mutex_t lock;
    int listen_fd;
    uint16_t port; /* kept over stop and start */
    pthread_t thread;
    atomic_bool mute; /* accepts, reads, answers nothing */
    struct fake_conn conn[FAKE_CONNS];
    _Atomic uint64_t hellos;
};

void fake_server_init(struct fake_server *s);
void fake_server_start(struct fake_server *s);
/* Closes everything; the port stays its own for the next start. */
void fake_server_stop(struct fake_server *s);
/* Ends the connections, goes on listening. */
void fake_server_kick(struct fake_server *s);

void fake_send(struct fake_conn *c, unsigned type, uint64_t request_id,
               const ProtobufCMessage *message, struct co_span payload);
void fake_send_raw(struct fake_conn *c, struct co_span frames);
/* LAG, of a pageserver that has got so far. */
void fake_send_lag(struct fake_conn *c, uint64_t request_id, uint64_t progress);
void fake_send_error(struct fake_conn *c, uint64_t request_id, int code, const char *sentence);

#endif
