/*
 * peer_uv.h - framed connections on a libuv loop, for the two daemons.
 *
 * A peer is one TCP connection. Incoming frames are checked (frame.h: bounds before allocation,
 * CRC) and handed to `on_frame` whole. Outgoing frames are collected and written once a loop
 * iteration (one uv_write a peer and iteration, with one iovec per queued buffer). Loop thread
 * only, no locks.
 *
 * A server's peers must send Hello within CO_HELLO_TIMEOUT_MS; `on_hello` decides. A frame that was
 * begun must go on within CO_FRAME_TIMEOUT_MS. A peer whose queued output passes
 * CO_OUTPUT_MAX_BYTES is closed; long before that, its requests are left unread until it has taken
 * in answers (CO_OUTPUT_PAUSE_BYTES). How many connections there may be, and how slow, and what all
 * of them may hold: peer_guard_uv.c.
 *
 * What peer_uv does by itself: it answers PING; it refuses a Hello of another protocol, and as a
 * client an answer from another cluster, node or disk than the Hello asked for; a client that is
 * refused, or sent bytes that cannot be used, gets an Error with the sentence before the end.
 * SIGPIPE is set to be ignored by peer_listen and peer_connect, unless the program handles it.
 */
#ifndef CORALLITE_PROTO_PEER_UV_H
#define CORALLITE_PROTO_PEER_UV_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "proto/corallite.pb-c.h"
#include "proto/frame.h"

struct peer;
struct peer_server;

struct peer_handler {
    void *owner;
    /* Server side: the Hello of a new peer. 0 accepts (peer_uv answers nothing: the handler sends
     * HELLO_OK itself with peer_send, request id 0); an error is sent as Error with co_sentence(),
     * then the connection is closed. Client side: called with the HelloOk as `ok`, hello NULL; an
     * error closes the connection. Messages are borrowed for the call. */
    int (*on_hello)(void *owner, struct peer *peer, const Corallite__Hello *hello,
                    const Corallite__HelloOk *ok);
    /* A whole frame after Hello; body borrowed for the call. An error closes the connection; a
     * server sends it as Error with co_sentence() before. May close any peer or server, this one
     * too. */
    int (*on_frame)(void *owner, struct peer *peer, const struct frame_header *frame,
                    struct co_span body);
    /* The connection is gone; the peer is freed after this returns. reason: a sentence. Called
     * once, from the loop, never from within a call into peer_uv: on the server side for every peer
     * whose on_hello returned 0, on the client side for every peer_connect that returned 0. After
     * peer_close nothing but this is called. */
    void (*on_close)(void *owner, struct peer *peer, const char *reason);
};

/* Listens on host:port (port 0: any; see peer_server_port). CO_ERR_IO with a sentence ("port in
 * use"). */
CO_MUST_CHECK int peer_listen(uv_loop_t *loop, const char *host, uint16_t port,
                              const struct peer_handler *handler, struct peer_server **out);
uint16_t peer_server_port(const struct peer_server *server);
/* Stops listening and closes every peer of it, what was queued being sent as far as the other side
 * takes it within a second; freed on the loop later. */
void peer_server_close(struct peer_server *server);

/* Connects, sends `hello` (copied), waits for HelloOk. Failure is told by on_close, that of the
 * connection within CO_CONNECT_TIMEOUT_MS. Frames may be queued at once; they follow the Hello. */
CO_MUST_CHECK int peer_connect(uv_loop_t *loop, const char *host, uint16_t port,
                               const Corallite__Hello *hello, const struct peer_handler *handler,
                               struct peer **out);

/* Queues one frame: message (protobuf, may be NULL) and payload, copied. After a close: dropped. */
void peer_send(struct peer *peer, unsigned type, uint64_t request_id,
               const ProtobufCMessage *message, struct co_span payload);
/* As peer_send, but takes `payload` (emptied) instead of copying it. */
void peer_send_take(struct peer *peer, unsigned type, uint64_t request_id,
                    const ProtobufCMessage *message, struct co_buf *payload);
/* Queues bytes that are whole frames already (qmsg_encode); takes them. */
void peer_send_raw(struct peer *peer, struct co_buf *frames);
/* Answers with Error{code, co_sentence()}. */
void peer_send_error(struct peer *peer, uint64_t request_id, int code);
/* What was queued is still sent, if the other side takes it within a second. */
void peer_close(struct peer *peer, const char *reason);

uint64_t peer_id(const struct peer *peer);   /* unique in the process, never reused, not 0 */
bool peer_is_local(const struct peer *peer); /* the other end is on this host */
const char *peer_address(const struct peer *peer);
Corallite__Role peer_role(const struct peer *peer); /* after Hello */
/* Why it closes, as a code: CO_ERR_CONNECT, CO_ERR_CLOSED, a refusal's, ... 0 while it does not. */
int peer_code(const struct peer *peer);
void peer_set_data(struct peer *peer, void *data);
void *peer_data(const struct peer *peer);
uint64_t peer_bytes_in(const struct peer *peer);
uint64_t peer_bytes_out(const struct peer *peer);
size_t peer_queued_bytes(const struct peer *peer);

/* Unpacks with a byte budget (no amplification); NULL and a sentence on malformed input. Free with
 * protobuf_c_message_free_unpacked(m, NULL). */
void *peer_unpack(const ProtobufCMessageDescriptor *type, struct co_span message);

/* The bounds that are in force, from limits.h; tests make them small. Of the whole process. */
struct peer_limits {
    uint64_t connect_ms, hello_ms, frame_ms, linger_ms;
    size_t connections, output_bytes, pause_bytes;
    size_t reserved, per_address, greeting; /* connections */
    uint64_t pressed_ms, grace_ms, rate;    /* rate: bytes a second */
    uint64_t sweep_ms;                      /* how often it is looked after them */
    size_t output_all_bytes;
};
extern struct peer_limits peer_limits;

#endif
