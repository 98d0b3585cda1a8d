/*
 * log_file.h - the records of a timeline's log, over segment_file.h.
 *
 * Keeps in memory what the log's end needs (LSN, digest), a mark (LSN, digest) about every MiB, so
 * that the digest at any record boundary is found by a short walk, and the CONFIG records, which
 * are few.
 *
 * Invariants
 *   R1 marks ascend and stand on record boundaries; the first is where the log begins.
 *   R2 flushed_lsn <= end_lsn; below flushed_lsn everything is on the disk.
 *   R3 bytes handed out were checked (CRC, identity, place): rot is an error, never data. A
 * fragment of a large record is handed out before the whole of it was read: of one reader that goes
 *      through it in order, the last fragment is withheld if the record is unsound.
 *   R4 behind end_lsn lie at most `staged` bytes of a record in the making, and zeros.
 *
 * Threads: one user at a time.
 */
#ifndef CORALLITE_SAFEKEEPER_LOG_FILE_H
#define CORALLITE_SAFEKEEPER_LOG_FILE_H

#include "proto/qmsg.h"
#include "proto/wal_stream.h"
#include "safekeeper/segment_file.h"

struct sk_mark {
    lsn_t lsn;
    struct wal_digest digest; /* of the record that ends at lsn */
};

struct sk_log_config {
    lsn_t end_lsn; /* of the CONFIG record */
    struct wal_config config;
};

struct sk_log {
    struct sk_segments segments;
    lsn_t start_lsn; /* it begins here: the timeline's start, or the base */
    lsn_t end_lsn, flushed_lsn;
    uint64_t staged, staged_flushed; /* bytes behind the end; of them durable */
    struct wal_digest end_digest;
    struct sk_mark *marks;
    uint32_t n_marks, cap_marks;
    struct sk_log_config *configs;
    uint32_t n_configs, cap_configs;
    uint64_t records;           /* appended since it was opened */
    struct wal_stream *reading; /* checks the large record that is read in fragments */
    lsn_t reading_lsn;          /* its begin; 0: none */
};

/* An empty log. */
CO_MUST_CHECK int sk_log_create(const char *dir, const struct sk_owner *owner, lsn_t start_lsn,
                                const struct wal_digest *digest, struct sk_log *out);
void sk_log_close(struct sk_log *log);

/* Appends whole, checked records at end_lsn: in the page cache of this host, not durable yet. */
CO_MUST_CHECK int sk_log_append(struct sk_log *log, lsn_t lsn, struct co_span records);
/* Stages the next fragment of the record that begins at the log's end; `whole` with the last one:
 * what it is, checked by whoever brought the bytes. */
CO_MUST_CHECK int sk_log_stage(struct sk_log *log, lsn_t lsn, uint64_t at, struct co_span bytes,
                               const struct wal_header *whole);
/* Makes everything appended and staged durable: flushed_lsn == end_lsn. */
CO_MUST_CHECK int sk_log_sync(struct sk_log *log);
/* Ends the log at a record boundary, durably; what lay behind, or was staged, is zeros. CO_ERR_BUG
 * if lsn is none of its boundaries. */
CO_MUST_CHECK int sk_log_truncate(struct sk_log *log, lsn_t lsn);

/* Where the log could begin so that whole segments go and nothing at or above `limit` does: a mark.
 * false: no segment would go. */
bool sk_log_trim_point(const struct sk_log *log, lsn_t limit, struct sk_mark *out);
/* The log begins at this record boundary: segments below go. */
CO_MUST_CHECK int sk_log_drop(struct sk_log *log, const struct sk_mark *begin);
/* All of it goes; it is empty and begins there. */
CO_MUST_CHECK int sk_log_empty(struct sk_log *log, const struct sk_mark *begin);

/* What a read found. */
struct sk_part {
    bool fragment;    /* the bytes are a part of the record at `from` */
    uint64_t at;      /*   from this byte of it on */
    lsn_t record_end; /*   and it ends there */
};

/* Appends to `out` whole records from `from` on, below `to`: as many as fit in max_bytes, at least
 * one (none if that one ends above `to`). Of one that is larger than CO_BATCH_BYTES the bytes from
 * `at` on, at most CO_BATCH_BYTES. CO_ERR_INVAL: `from` is not a record boundary, or `at` not in
 * the record; CO_ERR_CORRUPT names file and LSN. */
CO_MUST_CHECK int sk_log_read(struct sk_log *log, lsn_t from, uint64_t at, lsn_t to,
                              uint64_t max_bytes, struct co_buf *out, struct sk_part *part);
/* Chain digest and configuration in force at a record boundary (config->version 0: none in the log
 * so far). Errors as sk_log_read. */
CO_MUST_CHECK int sk_log_at(struct sk_log *log, lsn_t lsn, struct wal_digest *digest,
                            struct wal_config *config);

/* For the scan at start: takes notice of a record that was found sound and live at the end.
 * `record` may be empty for a transaction. */
CO_MUST_CHECK int sk_log_note(struct sk_log *log, struct co_span record,
                              const struct wal_header *header);
/* The same scan, of a record too large for memory: reads it piece by piece. 1: it is sound, digest
 * included, and *header is filled; 0: it is not, *why tells; negative: cannot read. */
CO_MUST_CHECK int sk_log_check_large(struct sk_log *log, struct wal_header *header,
                                     const char **why);

/* "timeline ... LSN ... in FILE at offset N", for sentences; a static buffer of the thread. */
const char *sk_log_place(const struct sk_log *log, lsn_t lsn);

#endif
