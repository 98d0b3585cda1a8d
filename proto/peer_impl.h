/*
 * peer_impl.h - one connection on a loop, as peer_uv.c (its life), peer_out_uv.c (what it sends),
 * peer_link_uv.c (how it comes to be: accepted or dialled), peer_guard_uv.c (how many, how slow)
 * and peer_loops_uv.c (how it moves to another loop) share it. Nobody else includes this.
 *
 *   DIALING --connected--> GREETING --Hello / HelloOk accepted--> OPEN
 *      |                      |                                     |
 *      |                      +---- refused, bad bytes, closed -----+
 *      |                                        v
 *      |                                     LEAVING   sends what is queued, reads and forgets
 *      v                                        v
 *   CLOSED  <-----------------------------------+      handles are being closed, then freed
 *
 * OPEN becomes AWAY when the socket moves to another loop: there another struct peer is OPEN, and
 * this one stays until that one is gone (`link`).
 */
#ifndef CORALLITE_PROTO_PEER_IMPL_H
#define CORALLITE_PROTO_PEER_IMPL_H

#include "proto/frame_reader.h"
#include "proto/net_sock.h"
#include "proto/peer_uv.h"

enum peer_state { PEER_DIALING, PEER_GREETING, PEER_OPEN, PEER_AWAY, PEER_LEAVING, PEER_CLOSED };

/* Buffers on their way out, in order; of the first, `sent` bytes have gone. */
struct out_queue {
    struct co_buf *e;
    size_t n, cap, sent;
    size_t bytes; /* of all, the sent ones included */
};

struct peer_server {
    uv_loop_t *loop;
    struct peer_handler handler;
    uv_tcp_t listener;
    bool listening; /* the listener's memory is in use */
    bool closing;
    struct peer *peers;
    size_t n_peers;
    size_t n_closing;  /* of them, closed and not freed yet */
    size_t n_programs; /* of them, greeted and no daemons of the cluster */
    uv_timer_t guard;
    bool guarding;            /* the timer's memory is in use */
    bool output_full;         /* CO_OUTPUT_ALL_BYTES was passed */
    bool beyond;              /* of another loop: its peers are counted at home */
    size_t output;            /* of its peers, queued, when the guard last looked */
    struct peer_loops *loops; /* it shares CO_OUTPUT_ALL_BYTES with; NULL: with nobody */
    uint64_t told_ms;         /* when a refusal was last logged */
    uint64_t swept_ms;        /* when the guard last looked */
    char address[300];
    uint16_t port;
};

struct peer_dial; /* peer_link_uv.c */
struct peer_link; /* peer_loops_uv.c */

struct peer {
    uint64_t id;
    uv_loop_t *loop;
    struct peer_handler handler;
    enum peer_state state;
    struct peer_server *server; /* NULL: we dialled */
    struct peer *prev, *next;   /* of the server's */
    bool owes_close;            /* on_close is to be called */
    bool local, paused, writing, linger, shut;
    bool held;        /* one of its frames is with the home loop: the next one waits */
    unsigned handles; /* those of the four below whose memory uv still holds */
    uv_tcp_t tcp;
    uv_idle_t flusher;
    uv_timer_t timer;
    bool tcp_open;

    struct frame_reader in;
    uint64_t progress_ms;    /* uv_now of the last bytes received */
    uint64_t begun_ms;       /* of what is being waited for: the connection, Hello, the frame */
    uint8_t from[16];        /* the other side's address, IPv4 in its IPv6 form */
    uint64_t owing_ms;       /* since then answers wait to be taken; 0: none */
    uint64_t owing_bytes;    /* bytes_out then */
    bool counted_as_program; /* in n_programs */
    struct out_queue pending, flight;
    uv_write_t write;
    uv_shutdown_t shutdown;
    uint64_t bytes_in, bytes_out;

    struct peer_dial *dial;     /* while DIALING and GREETING of a client */
    struct peer_loops *move_to; /* it is to move; NULL: it stays */
    struct peer_link *link;     /* between the two that stand for a connection that moved */
    Corallite__Role role;
    void *data;
    int code;
    char address[300];
    char reason[CO_SENTENCE_MAX];
};

/* Made with flusher and timer; the caller opens tcp. NULL: no memory. */
struct peer *peer_new(uv_loop_t *loop, const struct peer_handler *handler);
/* tcp is connected: options, reading, and the wait for the greeting. */
void peer_connected(struct peer *peer);
/* Closes all at once; `why` is the reason unless there is one already. */
void peer_abort(struct peer *peer, int code, const char *why);
/* One of uv's holds on the memory has ended; frees a closed peer with the last. */
void peer_unhold(struct peer *peer);
/* Ends it in good order: sends what is queued, then FIN; with `linger` waits for the other side's.
 */
void peer_leave(struct peer *peer, bool linger, int code, const char *why);
/* Ends the connection because of co_sentence(), which a server tells the other side. */
void peer_refuse(struct peer *peer, uint64_t request_id, int code);
void peer_timer(struct peer *peer, uint64_t ms);
/* Reading begins, or goes on after a pause. */
void peer_read(struct peer *peer);
/* LEAVING: goes on once all that was queued is sent. */
void peer_leave_on(struct peer *peer);
void peer_ignore_sigpipe(void);

/* peer_out_uv.c */
void peer_flush_soon(struct peer *peer); /* before the loop next waits */
void peer_out_free(struct peer *peer);
void peer_queue_free(struct out_queue *queue);
/* Queues what another queue has; takes it. */
void peer_send_queue(struct peer *peer, struct out_queue *queue);

/* peer_link_uv.c */
int peer_dial_check(struct peer *peer, const Corallite__HelloOk *ok);
void peer_dial_timeout(struct peer *peer);
void peer_dial_free(struct peer *peer); /* gives up a look-up that is under way */
void peer_server_lost(struct peer *peer);
void peer_server_free_if_done(
    struct peer_server *server); /* of a closed one, when nothing is left */

/* It is one of the server's from now on. */
void peer_server_link(struct peer_server *server, struct peer *peer);

/* peer_loops_uv.c */
/* A frame was handled and more may be there: moves the peer if it is to, and can be now. */
void peer_move_if_due(struct peer *peer);
/* AWAY: gives what is pending to the other loop. */
void peer_away_flush(struct peer *peer);
/* It was AWAY: the connection is to end, in good order (`leave`) or at once. */
void peer_away_end(struct peer *peer, bool leave);
/* On the other loop: bytes came or went. */
void peer_away_count(const struct peer *peer);
/* At home: what the other loop has received and sent. */
uint64_t peer_away_bytes_in(const struct peer *peer);
uint64_t peer_away_bytes_out(const struct peer *peer);
/* Queued output of all servers that share the bound, with this one's told; how many share it. */
size_t peer_loops_output(struct peer_server *server, size_t own, unsigned *n);

/* peer_guard_uv.c */
/* Linked to its server and connected: may it stay? If not it was closed, counted and told of. */
bool peer_guard_admits(struct peer *peer);
/* Its Hello came, p->role is known. CO_ERR_CONNECT: only the reserved places are left. */
int peer_guard_greeted(struct peer *peer);
/* Too much waits to be sent to it, or to all, for another request of its to be read. */
bool peer_guard_pauses(const struct peer *peer);
/* It is about to be closed. */
void peer_guard_left(struct peer *peer);
int peer_guard_start(struct peer_server *server);
void peer_guard_stop(struct peer_server *server);

#endif
