/*
 * snapshot.h - a snapshot: all that the pageserver keeps of one timeline at an LSN, so that one
 * that has lost its disk need not replay the log up to there.
 *
 * It is objects that never change: parts, and an index that lists them; a manifest names the index.
 * What the rows in a part mean is the pageserver's (pageserver/snapshot.h).
 *
 * A part
 *      0   8  magic "CORALSNP"
 *      8   4  format version (1)
 *     12   4  CRC-32C of all that follows
 *     16   8  length of the rows
 *     24   8  LSN of the snapshot
 *     32  16  timeline
 *     48   4  number of the part, from 0
 *     52   4  0
 *     56      the rows, compressed (one zstd frame)
 * An index: as a manifest (state.h), with magic "CORALSNI" and the message ArchiveSnapshot.
 *
 * Packing and unpacking are pure; every byte is untrusted. Reading blocks, as store.h.
 */
#ifndef CORALLITE_ARCHIVE_SNAPSHOT_H
#define CORALLITE_ARCHIVE_SNAPSHOT_H

#include "archive/names.h"
#include "proto/corallite.pb-c.h"

#define AR_SNAP_VERSION   1u
#define AR_SNAP_ROWS_MAX  (48 * CO_MIB) /* bytes of rows in a part */
#define AR_SNAP_PARTS_MAX 1000000u

/* Which one; as a manifest tells of it. lsn 0: none. */
struct ar_snap {
    lsn_t lsn;
    uint64_t generation;
    struct wal_digest sum; /* of the index */
    uint64_t bytes;        /* of all its objects */
    lsn_t cutoff;
};

/* Appends the object of a part to `out`. `at`: its LSN and number. CO_ERR_NOMEM. */
CO_MUST_CHECK int ar_snap_pack(const struct co_id *timeline, const struct ar_snap_name *at,
                               struct co_span rows, struct co_buf *out);
/* Appends its rows. CO_ERR_CORRUPT, CO_ERR_VERSION with a sentence that names the object; it is the
 * one of that timeline, LSN and number, or it is damaged. */
CO_MUST_CHECK int ar_snap_unpack(struct co_span bytes, const char *name,
                                 const struct co_id *timeline, const struct ar_snap_name *at,
                                 struct co_buf *rows);
/* Appends the object of an index. */
CO_MUST_CHECK int ar_snap_index_pack(const Corallite__ArchiveSnapshot *index, struct co_buf *out);
/* The caller's to free with corallite__archive_snapshot__free_unpacked. Each part has a sum. */
CO_MUST_CHECK int ar_snap_index_unpack(struct co_span bytes, const char *name,
                                       Corallite__ArchiveSnapshot **out);

/* An object's name of a snapshot: part `number`, or AR_SNAP_INDEX. */
struct ar_snap_name ar_snap_object(const struct ar_snap *snap,
                                   const Corallite__ArchiveSnapshot *index, uint32_t number);

/* The index, checked: it is that of this timeline and this snapshot. */
CO_MUST_CHECK int ar_snap_index_get(struct ar_store *store, const struct co_id *cluster,
                                    const struct co_id *timeline, const struct ar_snap *snap,
                                    Corallite__ArchiveSnapshot **out);
/* Appends the rows of part `number`, checked. */
CO_MUST_CHECK int ar_snap_part_get(struct ar_store *store, const struct co_id *cluster,
                                   const struct co_id *timeline, const struct ar_snap *snap,
                                   const Corallite__ArchiveSnapshot *index, uint32_t number,
                                   struct co_buf *rows);

#endif
