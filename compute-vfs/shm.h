/*
 * shm.h - the private wal-index of one connection (SQLite's "shared memory", which nobody shares).
 *
 * Region 0 begins with two copies of a header of 48 bytes, in the machine's byte order:
 *    0  4  3007000             16  4  mxFrame: last committed frame of the private WAL
 *    8  4  change counter      20  4  nPage: database size in pages
 *   12  1  1: initialised      24  8  checksum of the last frame
 *   13  1  big-endian sums     32  8  salt
 *   14  2  page size, 1 = 64K  40  8  checksum of the bytes before
 *   96  4  nBackfill: frames that a reader need not look for, 100 .. 119 five read marks
 *
 * It is born valid, so that SQLite never runs recovery (rule M5). A connection that is to see
 * another state gets its header rewritten: SQLite compares it after taking a read slot, notices,
 * drops its page cache and begins again.
 *
 * One thread at a time, as SQLite uses a connection.
 */
#ifndef CORALLITE_COMPUTE_VFS_SHM_H
#define CORALLITE_COMPUTE_VFS_SHM_H

#include <stdint.h>

#include "common/error.h"

#define CV_SHM_REGIONS_MAX 65536u

struct cv_shm {
    uint8_t **regions;
    uint32_t n, cap, region_bytes;
};

/* Region `i`, made when `extend` is set (region 0 always). *out is NULL when it is absent and not
 * to be made. */
CO_MUST_CHECK int cv_shm_map(struct cv_shm *shm, uint32_t i, uint32_t bytes, int extend,
                             volatile void **out);
void cv_shm_free(struct cv_shm *shm);

/* Makes the header stand for another state: an empty WAL over a database of `db_pages` pages. */
void cv_shm_rewrite(struct cv_shm *shm, uint32_t db_pages, uint32_t page_size);

uint32_t cv_shm_max_frame(const struct cv_shm *shm);
/* Nothing is left to checkpoint; the next reader ignores the WAL, the next writer restarts it. */
void cv_shm_all_backfilled(struct cv_shm *shm);

#endif
