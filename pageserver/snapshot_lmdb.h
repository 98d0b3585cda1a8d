/*
 * snapshot_lmdb.h - a snapshot of a timeline (archive/snapshot.h): its rows at an LSN, read out of
 * the store in small steps, and written into another one.
 *
 * It has every version and commit at or below the LSN that the store keeps, as they lie there: so
 * the one who begins at it can read every moment that was readable, not the newest alone. (Table
 * time follows from the commits.)
 *
 * Rows of a part, back to back:
 *    1  table: 1 page, 2 commit
 *       key without the timeline's number: 13 or 10 bytes (keys.h)
 *       varint length of the value, value
 *
 * Between two steps of the reading the store goes on: ingest adds what lies above the LSN, and
 * collecting garbage rewrites groups of versions. So a step ends between two groups only, and what
 * was read is whole if nothing went that somebody sees at or above the LSN: the caller compares the
 * cut of the timeline afterwards (archiver_snap.c).
 */
#ifndef CORALLITE_PAGESERVER_SNAPSHOT_LMDB_H
#define CORALLITE_PAGESERVER_SNAPSHOT_LMDB_H

#include "pageserver/store_lmdb.h"

/* A snapshot on its way out. Zeroed but for the line and the LSN at its begin. */
struct ps_snap_out {
    const struct ps_line *line; /* its ancestors are not looked at */
    lsn_t lsn;
    bool done;
    uint64_t rows; /* so far */
    /* where it is */
    uint8_t table;
    bool begun;
    uint8_t key[PS_PAGE_KEY_BYTES];
};

/* Appends rows: at most `max` bytes, and a group more. CO_ERR_NOT_FOUND: the store does not reach
 * to the LSN (it is being rebuilt). CO_ERR_CORRUPT: a page is damaged; each is looked at. */
CO_MUST_CHECK int ps_snap_read(struct ps_txn *txn, struct ps_snap_out *out, size_t max,
                               struct co_buf *rows);

/* Writes the rows of a part. `rows` is untrusted: CO_ERR_CORRUPT. In an open write transaction; a
 * part fits one. */
CO_MUST_CHECK int ps_snap_write(struct ps_txn *txn, tlno_t no, lsn_t lsn, struct co_span rows);

#endif
