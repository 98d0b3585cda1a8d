/*
 * walbuf.h - the private WAL of one connection: bytes in memory, beyond CV_WALBUF_MEMORY in an
 * unlinked temporary file. Nothing in it outlives the connection, so nothing is ever synced.
 *
 * The layout is SQLite's: 32 bytes of header, then frames of {24 bytes of header, one page}.
 */
#ifndef CORALLITE_COMPUTE_VFS_WALBUF_H
#define CORALLITE_COMPUTE_VFS_WALBUF_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"

#define CV_WALBUF_MEMORY    (8u << 20)
#define CV_WAL_HEADER_BYTES 32u
#define CV_WAL_FRAME_HEADER 24u

struct cv_walbuf {
    struct co_buf memory; /* the first CV_WALBUF_MEMORY bytes */
    uint64_t len;
    int fd; /* of the rest, at their own offsets; -1: none yet */
    uint64_t limit;
};

void cv_walbuf_init(struct cv_walbuf *w);
void cv_walbuf_free(struct cv_walbuf *w);
/* CO_ERR_NOMEM, CO_ERR_FULL, CO_ERR_IO. */
CO_MUST_CHECK int cv_walbuf_write(struct cv_walbuf *w, uint64_t at, const void *data, size_t len);
/* Bytes beyond the end read as zeros; *short_read tells that there were some. */
CO_MUST_CHECK int cv_walbuf_read(struct cv_walbuf *w, uint64_t at, void *data, size_t len,
                                 bool *short_read);
void cv_walbuf_truncate(struct cv_walbuf *w, uint64_t len);

static inline uint64_t cv_frame_at(uint32_t frame, uint32_t page_size)
{
    return CV_WAL_HEADER_BYTES + (uint64_t)(frame - 1) * (CV_WAL_FRAME_HEADER + page_size);
}

#endif
