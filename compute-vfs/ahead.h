/*
 * ahead.h - how many pages to ask for at a miss: one, unless the misses of a connection follow each
 * other. A scan of a b-tree that was filled in order misses page after page, with one of an inner
 * node here and there; each miss that continues the run asks for twice as many as the one before
 * it.
 *
 * A run goes on when a miss lies at its end or up to CV_AHEAD_GAP pages beyond. A miss elsewhere
 * leaves it alone and may begin another one: the next miss decides.
 *
 * Pure. Belongs to one connection; the caller serialises.
 */
#ifndef CORALLITE_COMPUTE_VFS_AHEAD_H
#define CORALLITE_COMPUTE_VFS_AHEAD_H

#include <stdint.h>

#include "proto/lsn.h"
#include "proto/wal.h"

#define CV_AHEAD_MAX       64u
#define CV_AHEAD_MAX_BYTES (256 * 1024u)
#define CV_AHEAD_GAP       2u

/* All zero: nothing was missed yet. */
struct cv_ahead {
    pgno_t end;   /* first page behind the run; 0: none */
    pgno_t other; /* behind a miss that was elsewhere; 0: none */
    pgno_t first; /* of the request under way */
    uint32_t n;   /* pages that the run asked for last */
    pgno_t never; /* SQLite's lock page: no page of anybody's. Set by the owner; 0: none */
};

/* A miss of `pgno` in a database of so many pages: how many to ask for, from it on. 1 or more. */
uint32_t cv_ahead_missed(struct cv_ahead *a, pgno_t pgno, uint32_t db_pages, uint32_t page_size);
/* So many were asked for. */
void cv_ahead_asked(struct cv_ahead *a, uint32_t n);

#endif
