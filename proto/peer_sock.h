/*
 * peer_sock.h - framed connections on plain sockets, for guests in somebody's process (the VFS) and
 * for the CLI: no loop, no thread of its own (but net_sock.h's, while a host *name* is looked
 * up), no signal (MSG_NOSIGNAL), close-on-exec. The socket never blocks; the calls that wait do so
 * in poll(2), and never beyond their deadline.
 *
 * TCP_NODELAY; a peer that went away without a word is noticed within about 10 s (TCP_USER_TIMEOUT
 * for what was sent, keepalive otherwise).
 *
 * One user at a time: a struct psock is not thread-safe.
 */
#ifndef CORALLITE_PROTO_PEER_SOCK_H
#define CORALLITE_PROTO_PEER_SOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/corallite.pb-c.h"
#include "proto/frame.h"
#include "proto/frame_reader.h"

struct psock {
    int fd;                 /* -1: closed */
    char address[300];      /* HOST:PORT for sentences */
    struct frame_reader in; /* received, not yet handed out */
    struct co_buf out;      /* to send (non-blocking use) */
    size_t out_sent;
    uint64_t bytes_in, bytes_out;
    uint64_t next_request;
};

/* Splits "HOST:PORT", "[V6]:PORT", or "HOST" (default_port). CO_ERR_INVAL with a sentence. */
CO_MUST_CHECK int psock_split_address(const char *text, uint16_t default_port, char host[256],
                                      uint16_t *port);

/* Connects and says Hello, all before deadline_us (co_now_us clock); the connection alone takes at
 * most CO_CONNECT_TIMEOUT_MS. *s need not be prepared; after a failure it is closed. *ok (may be
 * NULL) is the caller's to free with corallite__hello_ok__free_unpacked. CO_ERR_CONNECT names the
 * address and what to do. An Error answer becomes its code and sentence. An answer from another
 * cluster, node or disk than `hello` asks for is refused here too (CO_ERR_CLUSTER, CO_ERR_NODE).
 * Sentences call the other side "safekeeper N" when hello->expect_node is set, else "the
 * pageserver". */
CO_MUST_CHECK int psock_connect(struct psock *s, const char *host, uint16_t port,
                                const Corallite__Hello *hello, uint64_t deadline_us,
                                Corallite__HelloOk **ok);
/* Of a closed one: nothing. */
void psock_close(struct psock *s);

/* Blocking use: sends a request and waits for the frame that echoes its id. *body (caller frees)
 * holds the whole body; frame->message_bytes splits it. An Error frame becomes its code and
 * sentence (*error, may be NULL, gets the unpacked message, the caller's). CO_ERR_TIMEOUT,
 * CO_ERR_CLOSED, CO_ERR_PROTOCOL of the connection itself leave the socket closed (s->fd < 0).
 * Frames that nobody asked for (id 0) are dropped; so this does not mix with the non-blocking calls
 * on one connection. */
CO_MUST_CHECK int psock_call(struct psock *s, unsigned type, const ProtobufCMessage *message,
                             struct co_span payload, uint64_t deadline_us,
                             struct frame_header *frame, struct co_buf *body,
                             Corallite__Error **error);

/* Non-blocking use. queue: appends to s->out and tries to send at once. pump_out: sends what it
 * can. pump_in: receives what there is. next: hands out the next whole frame (body borrowed from
 * s->in until the next pump_in or next), CO_ERR_AGAIN when there is none yet; a PING it answers
 * itself. Errors: CO_ERR_CLOSED, CO_ERR_PROTOCOL, CO_ERR_NOMEM.
 *
 * The end of a connection is told by pump_in, after all that arrived before it; sending into a
 * connection that the other side has ended is no error of its own (poll(2) reports such a socket
 * readable). So the sentence with which a server takes its leave is read. */
CO_MUST_CHECK int psock_queue(struct psock *s, struct co_span frames);
CO_MUST_CHECK int psock_pump_out(struct psock *s);
CO_MUST_CHECK int psock_pump_in(struct psock *s);
CO_MUST_CHECK int psock_next(struct psock *s, struct frame_header *frame, struct co_span *body);
static inline bool psock_wants_out(const struct psock *s)
{
    return s->out.len > s->out_sent;
}

#endif
