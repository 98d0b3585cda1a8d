/*
 * frame_reader.h - puts received bytes together into whole frames; both kinds of peers use it.
 *
 *   frame_reader_space -> recv(2) into it -> frame_reader_commit -> frame_reader_next until AGAIN
 *
 * Invariants
 *   R1 memory follows what has arrived: a begun frame never has more room than twice its received
 *      bytes or READER_CHUNK_BYTES, whatever length its header announces.
 *   R2 a frame longer than a chunk lands in one buffer that ends where the frame ends; its bytes
 *      move only when that buffer grows, so the work is linear in its length.
 *   R3 small frames are handed out by moving an offset; the bytes behind them are moved at most
 *      once a receive, and only the part of one frame that is left.
 *
 * No I/O, no clock. One user at a time. Zeroed memory is an empty reader.
 */
#ifndef CORALLITE_PROTO_FRAME_READER_H
#define CORALLITE_PROTO_FRAME_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/frame.h"

#define READER_CHUNK_BYTES ((size_t)65536)
#define READER_FIRST_BYTES ((size_t)4096) /* room of a connection that has little to say */

struct frame_reader {
    uint8_t *data;
    size_t start, len, cap; /* received and not handed out: data[start, len) */
    uint32_t body_limit;    /* tighter bound of every body, before Hello; 0: none */
    bool filled;            /* the last receive took all the room there was */
};

/* Room for the next receive: at least one byte, in *at until the next call. Frames that were handed
 * out are no longer valid. CO_ERR_NOMEM. */
CO_MUST_CHECK int frame_reader_space(struct frame_reader *r, uint8_t **at, size_t *room);
/* `n` bytes (<= room) were received. */
void frame_reader_commit(struct frame_reader *r, size_t n);
/* The next whole frame, checked; *body borrows until the next call of space or free. CO_ERR_AGAIN
 * (no sentence) when there is none; CO_ERR_PROTOCOL with one: the stream is of no use any more. */
CO_MUST_CHECK int frame_reader_next(struct frame_reader *r, struct frame_header *frame,
                                    struct co_span *body);
/* As next, but *body is an empty buffer that gets bytes of its own. A large frame's memory is
 * passed on, not copied. CO_ERR_NOMEM leaves the frame where it is. */
CO_MUST_CHECK int frame_reader_take(struct frame_reader *r, struct frame_header *frame,
                                    struct co_buf *body);
/* A frame has begun and is not whole. */
static inline bool frame_reader_partial(const struct frame_reader *r)
{
    return r->len > r->start;
}
void frame_reader_free(struct frame_reader *r);

#endif
