/*
 * walk.h - a timeline's log as it comes, in pieces of any length: what its records are, and that
 * they are sound and chain. Pure; every byte is untrusted.
 *
 * A record of at most CO_BATCH_BYTES is given to the sink whole, once it was checked; a larger one
 * piece by piece, and only with the last piece it is known to be sound. `end` stands behind the
 * last whole record.
 */
#ifndef CORALLITE_ARCHIVE_WALK_H
#define CORALLITE_ARCHIVE_WALK_H

#include "proto/wal.h"
#include "proto/wal_stream.h"

struct ar_walk {
    struct co_id cluster, timeline;
    lsn_t end;
    struct wal_digest digest; /* of the chain at `end` */
    uint64_t time_us;         /* of the newest transaction; 0: none */
    term_t term;              /* of the newest record; 0: none */
    uint64_t records;
    struct wal_config config; /* of the newest CONFIG record; version 0: none */
    struct co_buf pending;    /* of a record that is not whole */
    struct wal_stream *stream;
    bool large; /* the record at `end` is on its way through `stream` */
};

struct ar_sink {
    void *owner;
    /* A sound record. May be NULL, like the other. */
    int (*whole)(void *owner, struct co_span record, const struct wal_header *header);
    /* Bytes [at, at + bytes.len) of the record that begins at `lsn`; `last`: it is whole and sound,
     * else NULL. */
    int (*piece)(void *owner, lsn_t lsn, uint64_t at, struct co_span bytes,
                 const struct wal_header *last);
};

/* Zeroed memory may be freed. */
void ar_walk_init(struct ar_walk *w, const struct co_id *cluster, const struct co_id *timeline,
                  lsn_t start, const struct wal_digest *digest);
void ar_walk_free(struct ar_walk *w);
/* The bytes that follow those fed before. CO_ERR_CORRUPT with a sentence that names the LSN: they
 * are no such log, or do not follow; what `sink` (may be NULL) returns other than 0. After an error
 * the walk is only to be freed. */
CO_MUST_CHECK int ar_walk_feed(struct ar_walk *w, struct co_span bytes, const struct ar_sink *sink);
/* Forgets the beginning of a record that is not whole: `end` is fed next. */
void ar_walk_rewind(struct ar_walk *w);
/* Where the next byte belongs. */
lsn_t ar_walk_next(const struct ar_walk *w);

#endif
