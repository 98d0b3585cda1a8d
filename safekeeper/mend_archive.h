/*
 * mend_archive.h - a timeline's log as an archive has it, in the pieces in which a member would
 * stream it: for --mend, when no member has what is damaged here.
 *
 * What a manifest tells of is committed, so N1 of mend.h holds for it as for a member's answer;
 * each object is compared with the sum in its name before a byte of it is used. Blocking, as
 * archive/store.h.
 */
#ifndef CORALLITE_SAFEKEEPER_MEND_ARCHIVE_H
#define CORALLITE_SAFEKEEPER_MEND_ARCHIVE_H

#include "archive/read.h"

struct sk_mend_archive {
    const char *url; /* borrowed; NULL: there is none */
    struct ar_store *store;
    struct co_id cluster, timeline; /* of which the rest is; zero: of none yet */
    lsn_t end;                      /* the manifest tells of the log up to here */
    struct ar_chunk *chunks;
    uint32_t n;
    struct ar_chunk held; /* the object whose bytes are in memory; end 0: none */
    struct co_buf bytes;
};

/* Committed records from `lsn` on, whole ones and at most CO_BATCH_BYTES; where a larger one begins
 * there (*fragment) the next bytes of it, from `at` on. Nothing: the archive has no more. Appended
 * to `out`. CO_ERR_CORRUPT, CO_ERR_NOT_FOUND, CO_ERR_CONNECT with a sentence. */
CO_MUST_CHECK int sk_mend_archive_read(struct sk_mend_archive *a, const struct co_id *cluster,
                                       const struct co_id *timeline, lsn_t lsn, uint64_t at,
                                       struct co_buf *out, bool *fragment);
void sk_mend_archive_close(struct sk_mend_archive *a);

#endif
