/*
 * change_map.h - page number -> LSN of its newest known change, since knowledge began.
 *
 * Pages that are not in the map have not changed since `began`. The map has a bound: beyond it, or
 * without memory, it forgets everything and begins anew, which costs precision and nothing else.
 * Pure; the caller serialises. Zeroed memory is an empty map that begins at 0.
 */
#ifndef CORALLITE_COMPUTE_VFS_CHANGE_MAP_H
#define CORALLITE_COMPUTE_VFS_CHANGE_MAP_H

#include <stdint.h>

#include "proto/lsn.h"

#define CV_CHANGE_MAP_MAX (4u << 20) /* entries, 16 bytes each */

struct cv_change_map {
    struct cv_change {
        pgno_t pgno; /* 0: empty */
        lsn_t lsn;
    } * slots;
    uint32_t n, cap; /* cap is 0 or a power of two */
    lsn_t began;
    uint64_t noted; /* since then */
};

void cv_change_map_free(struct cv_change_map *m);
/* Forgets everything; knowledge begins at `lsn`. */
void cv_change_map_begin(struct cv_change_map *m, lsn_t lsn);
/* The page changed at `lsn`, which is not below any LSN noted before. */
void cv_change_map_note(struct cv_change_map *m, pgno_t pgno, lsn_t lsn);
/* Newest known change; `began` when there was none since. */
lsn_t cv_change_map_newest(const struct cv_change_map *m, pgno_t pgno);
/* Changes above `lsn` did not happen. What such a page's change before was is not known: `lsn`
 * stands for it, which is never too old. */
void cv_change_map_rollback(struct cv_change_map *m, lsn_t lsn);

#endif
