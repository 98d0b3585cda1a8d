/*
 * peer_loops_uv.h - threads, each with a loop of its own, to which a server's connections move.
 *
 * A connection begins on its server's loop, the home: there it is counted, greeted and bounded
 * (peer_guard_uv.c), and there its struct peer stays. When it is moved, the socket goes to another
 * loop for good, with what was read and not handled and what was not sent. From then on each frame
 * is looked at there first, by `answer`; what that does not take is handed to the home loop, where
 * on_frame is called as if nothing had moved: peer_send, peer_close and all the rest work, and what
 * they send goes to the other loop. Frames of a connection are handled in the order in which they
 * came: while one is at home, the next one is not looked at.
 *
 * Threads: every call of this file is the home loop's, but `answer`, which runs on the other
 * threads and must not touch what is the home loop's. A struct peer belongs to one loop: the home's
 * is not the one that `answer` is given, and has its own peer_data.
 */
#ifndef CORALLITE_PROTO_PEER_LOOPS_UV_H
#define CORALLITE_PROTO_PEER_LOOPS_UV_H

#include "proto/peer_uv.h"

#define PEER_LOOPS_MAX 63u /* beside the home loop */

struct peer_loops;

/* On the thread of loop `which` (from 0). true: the frame was answered, with peer_send of `peer`.
 * false: it is the home loop's. The body is borrowed for the call. */
typedef bool (*peer_loops_fn)(void *owner, unsigned which, struct peer *peer,
                              const struct frame_header *frame, struct co_span body);

/* Starts n threads. CO_ERR_NOMEM with a sentence, and none runs. */
CO_MUST_CHECK int peer_loops_start(uv_loop_t *home, unsigned n, peer_loops_fn answer, void *owner,
                                   struct peer_loops **out);
/* Connections on the loop that has fewest of them. */
unsigned peer_loops_fewest(const struct peer_loops *loops);
/* Moves a connection of a server to the loop that has fewest, once what it sends is not being
 * written; to be called from within its on_frame. If it cannot be moved it stays: nobody notices.
 */
void peer_loops_move(struct peer_loops *loops, struct peer *peer);
/* The server is closed (peer_server_close): ends the threads once their connections are gone, which
 * takes a second at most, and frees *loops; the home loop runs until then. */
void peer_loops_close(struct peer_loops *loops);

#endif
