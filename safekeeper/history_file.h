/*
 * history_file.h - the term history of a timeline: which term wrote which part of the log.
 *
 * DIR/timelines/<id>/history, two copies of at most 1 MiB, copy i at offset i MiB; the history with
 * sequence s is written to copy s % 2, and only then does the control block name it (sequence,
 * number of entries, digest). A crash between the two leaves the block with the older copy, which
 * is whole.
 *
 *   copy (little-endian)
 *      0   8  magic "CORALHIS"
 *      8   4  format version (1)
 *     12   4  number of entries (<= CO_HISTORY_MAX)
 *     16   8  sequence
 *     24  16  timeline id
 *     40   4  CRC-32C of these 64 bytes with this field zero, then of the entries
 *     44  20  zero
 *     64      entries, 16 bytes each: term, start LSN; terms ascend, starts do not descend
 *
 * Threads: one user a file.
 */
#ifndef CORALLITE_SAFEKEEPER_HISTORY_FILE_H
#define CORALLITE_SAFEKEEPER_HISTORY_FILE_H

#include "proto/qmsg.h"
#include "safekeeper/io_file.h"

#define SK_HISTORY_COPY_BYTES CO_MIB

struct sk_history_file {
    int fd;
    char path[SK_PATH_MAX];
    struct co_id timeline;
};

/* Opens, making an empty file when absent (`create`). */
CO_MUST_CHECK int sk_history_open(const char *path, const struct co_id *timeline, bool create,
                                  struct sk_history_file *file);
void sk_history_close(struct sk_history_file *file);

/* Writes one copy; durable on return. *digest is what the control block must say. */
CO_MUST_CHECK int sk_history_write(struct sk_history_file *file, uint64_t sequence,
                                   const struct q_history *history, struct wal_digest *digest);

/* Reads the history that the control block names: the copy of that sequence, or the other one if it
 * holds the same entries. n == 0: an empty history, nothing is read. *terms is the caller's to
 * free. CO_ERR_CORRUPT, CO_ERR_VERSION. */
CO_MUST_CHECK int sk_history_read(struct sk_history_file *file, uint64_t sequence, uint32_t n,
                                  const struct wal_digest *digest, struct q_term **terms);

#endif
