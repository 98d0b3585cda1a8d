/*
 * log_file.h - the records of a timeline's log, over segment_file.h.
 *
 * Keeps in memory what the log's end needs (LSN, digest), a mark (LSN, digest) about every MiB, so
 * that the digest at any record boundary is found by a short walk, and the CONFIG records, which
 * are few.
 *
 * Invariants
 *   R1 marks ascend and stand on record boundaries; the first is the start of the timeline.
 *   R2 flushed_lsn <= end_lsn; below flushed_lsn everything is on the disk.
 *   R3 bytes handed out were checked (CRC, identity, place): rot is an error, never data.
 *
 * Threads: one user at a time.
 */
#ifndef CORALLITE_SAFEKEEPER_LOG_FILE_H
#define CORALLITE_SAFEKEEPER_LOG_FILE_H

#include "proto/qmsg.h"
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
    lsn_t start_lsn, end_lsn, flushed_lsn;
    struct wal_digest end_digest;
    struct sk_mark *marks;
    uint32_t n_marks, cap_marks;
    struct sk_log_config *configs;
    uint32_t n_configs, cap_configs;
    uint64_t records; /* appended since it was opened */
};

/* An empty log. */
CO_MUST_CHECK int sk_log_create(const char *dir, const struct sk_owner *owner, lsn_t start_lsn,
                                const struct wal_digest *digest, struct sk_log *out);
void sk_log_close(struct sk_log *log);

/* Appends whole, checked records at end_lsn: in the page cache of this host, not durable yet. */
CO_MUST_CHECK int sk_log_append(struct sk_log *log, lsn_t lsn, struct co_span records);
/* Makes everything appended durable: flushed_lsn == end_lsn. */
CO_MUST_CHECK int sk_log_sync(struct sk_log *log);
/* Ends the log at a record boundary, durably; what lay behind reads as zeros. CO_ERR_BUG if lsn is
 * none of its boundaries. */
CO_MUST_CHECK int sk_log_truncate(struct sk_log *log, lsn_t lsn);

/* Appends to `out` whole records from `from` on, below `to`: as many as fit in max_bytes, at least
 * one (none if that one ends above `to`). CO_ERR_INVAL: `from` is not a record boundary;
 * CO_ERR_CORRUPT names file and LSN. */
CO_MUST_CHECK int sk_log_read(struct sk_log *log, lsn_t from, lsn_t to, uint64_t max_bytes,
                              struct co_buf *out);
/* Chain digest and configuration in force at a record boundary (config->version 0: none in the log
 * so far). Errors as sk_log_read. */
CO_MUST_CHECK int sk_log_at(struct sk_log *log, lsn_t lsn, struct wal_digest *digest,
                            struct wal_config *config);

/* For the scan at start: takes notice of a record that was found sound and live at the end. */
CO_MUST_CHECK int sk_log_note(struct sk_log *log, struct co_span record,
                              const struct wal_header *header);

/* "timeline ... LSN ... in FILE at offset N", for sentences; a static buffer of the thread. */
const char *sk_log_place(const struct sk_log *log, lsn_t lsn);

#endif
