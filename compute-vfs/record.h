/*
 * record.h - a sealed record between the one who built it and the log: in memory, or, when it is
 * large, spilled: header and last bytes in memory, all between in an unlinked temporary file.
 *
 * Threads: one user at a time; the log's lock once the log has it.
 */
#ifndef CORALLITE_COMPUTE_VFS_RECORD_H
#define CORALLITE_COMPUTE_VFS_RECORD_H

#include "compute-vfs/walbuf.h"
#include "proto/wal.h"

/* A transaction with more bytes of pages than this is built into a file. */
#define CV_SPILL_BYTES (4u << 20)
/* So many bytes of entries are collected before they are written there. */
#define CV_SPILL_STEP_BYTES (256u << 10)

struct cv_spilled {
    struct wal_header header; /* with the digest, once it is sealed */
    uint8_t head[WAL_HEADER_BYTES];
    struct cv_walbuf body; /* the record's bytes from WAL_HEADER_BYTES to rest_at */
    struct co_buf rest;
    uint64_t rest_at;
    uint64_t id; /* the log's */
    struct cv_spilled *next;
};

/* One of both is there. */
struct cv_record {
    struct co_buf bytes;
    struct cv_spilled *spilled;
};

CO_MUST_CHECK int cv_spilled_new(struct cv_spilled **out);
void cv_spilled_free(struct cv_spilled *s);
/* Takes the entries that the builder has collected. CO_ERR_FULL, CO_ERR_IO, CO_ERR_NOMEM. */
CO_MUST_CHECK int cv_spilled_drain(struct cv_spilled *s, struct wal_builder *b);
/* Makes it a record. Cannot fail. */
void cv_spilled_seal(struct cv_spilled *s, struct wal_builder *b, const struct wal_stamp *stamp);
/* Bytes [at, at + len) of the sealed record. CO_ERR_IO. */
CO_MUST_CHECK int cv_spilled_read(struct cv_spilled *s, uint64_t at, uint8_t *out, size_t len);

static inline uint64_t cv_record_bytes(const struct cv_record *r)
{
    return r->spilled ? r->spilled->header.total_bytes : r->bytes.len;
}
void cv_record_free(struct cv_record *r);

#endif
