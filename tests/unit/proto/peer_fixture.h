/*
 * peer_fixture.h - a framed server on a thread of its own, and a naked socket to be rude to it
 * with.
 *
 * What the server does with a frame:
 *   APPEND      DATA with the same payload (peer_send_take)
 *   DATA        DATA with the same payload (peer_send_raw)
 *   DROP        Error NOT_FOUND "there is no such thing here"
 *   DB_LIST     100 empty PONGs with id 0, then DB_LISTED
 *   STREAM      Error CLOSED "goodbye", then closes the peer
 *   RELEASE     on_frame fails: CO_ERR_INVAL "that was one too many"
 *   FREE        closes the whole server
 *   READ_POS    no answer
 *   GET_PAGES   PAGES with 256 KiB of payload
 * A Hello with the program "stranger" is refused with CO_ERR_CLUSTER.
 */
#ifndef CORALLITE_TESTS_PEER_FIXTURE_H
#define CORALLITE_TESTS_PEER_FIXTURE_H

#include <pthread.h>
#include <stdatomic.h>

#include "proto/peer_uv.h"

#define BIG_ANSWER_BYTES ((size_t)256 << 10)

struct served {
    uv_loop_t loop;
    uv_async_t stop;
    pthread_t thread;
    struct peer_server *server;
    uint16_t port;
    bool started;
    _Atomic unsigned hellos, frames, closes;
    _Atomic int left_open; /* uv_loop_close at the end */
    _Atomic bool local;
    pthread_mutex_t lock;
    char reason[CO_SENTENCE_MAX]; /* of the last on_close; under lock */
};

void served_start(struct served *s);
/* Closes the server and joins; asserts that every peer was told and every handle closed. */
void served_stop(struct served *s);
/* Waits (5 s at most) until *counter has come to `n`. */
bool reached(_Atomic unsigned *counter, unsigned n);

/* A connected socket that blocks for at most 5 s. */
int naked_connect(uint16_t port);
void naked_send(int fd, const void *data, size_t len);
/* Hello, and the HELLO_OK received. */
void naked_greet(int fd);
/* Receives one frame; false when the connection ended instead. *body is the test's. */
bool naked_frame(int fd, struct frame_header *frame, struct co_buf *body);
/* Receives until the end; true when it came within 5 s. */
bool naked_ended(int fd);
/* The next frame is an Error with this code, and this within its sentence. */
bool naked_error(int fd, int code, const char *within);

Corallite__Hello some_hello(void);
uint64_t in_ms(uint64_t ms); /* a deadline */

#endif
