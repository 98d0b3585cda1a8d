/*
 * state.h - a manifest: what an archive holds of a cluster at one moment, as an object.
 *
 *      0   8  magic "CORALARS"
 *      8   4  format version: 1; 2 where a log begins later than its timeline, which an older build
 *             must not overlook
 *     12   4  CRC-32C of the message
 *     16   8  length of the message
 *     24      the message ArchiveState (proto/corallite.proto)
 *
 * Encoding and decoding are pure; every byte is untrusted.
 */
#ifndef CORALLITE_ARCHIVE_STATE_H
#define CORALLITE_ARCHIVE_STATE_H

#include "archive/snapshot.h"
#include "proto/corallite.pb-c.h"

#define AR_STATE_VERSION 2u

/* An object is made in steps, so that a manifest of many timelines needs no second copy of them:
 * begin (`head` without lines and pins) makes an empty `out` its begin, lines and pins are added,
 * seal finishes it. CO_ERR_NOMEM, CO_ERR_TOO_LARGE. */
CO_MUST_CHECK int ar_state_begin(const Corallite__ArchiveState *head, struct co_buf *out);
CO_MUST_CHECK int ar_state_add_line(const Corallite__ArchiveState__Line *line, struct co_buf *out);
CO_MUST_CHECK int ar_state_add_pin(const Corallite__ArchiveState__Pin *pin, struct co_buf *out);
CO_MUST_CHECK int ar_state_seal(struct co_buf *out, bool kept); /* kept: a line has a kept begin */
/* The caller's to free with corallite__archive_state__free_unpacked. CO_ERR_CORRUPT, CO_ERR_VERSION
 * with a sentence that names the object. Of each line there is a timeline with an id, and a digest
 * of the right length. */
CO_MUST_CHECK int ar_state_decode(struct co_span bytes, const char *name,
                                  Corallite__ArchiveState **out);

/* Where an archived log begins whose begin was pruned; lsn 0: it is there from the timeline's
 * start. What lies below is in the snapshot, at or above. */
struct ar_kept {
    lsn_t lsn;
    struct wal_digest digest;
    term_t term;              /* of the newest record below */
    struct wal_config config; /* of the newest CONFIG record below; version 0: none */
    uint64_t time_us;         /* of the newest transaction below; 0: none */
};

/* One line of it, checked. */
struct ar_line {
    const Corallite__Timeline *timeline; /* borrowed */
    struct co_id id, ancestor;           /* ancestor zero: a root */
    lsn_t start, ancestor_lsn, end, known;
    struct wal_digest base, digest;
    uint64_t time_us;
    struct ar_snap snap; /* the newest; lsn 0: none */
    struct ar_kept kept;
    char name[2 * CO_NAME_MAX_BYTES + 2]; /* DB/BRANCH */
};
CO_MUST_CHECK int ar_line_read(const Corallite__ArchiveState__Line *line, struct ar_line *out);
/* Where its log begins in the archive. */
static inline lsn_t ar_line_from(const struct ar_line *line)
{
    return line->kept.lsn ? line->kept.lsn : line->start;
}

#endif
