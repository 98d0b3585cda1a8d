/*
 * run.h - pages that follow each other in the file: how many to ask for at a miss. One, unless the
 * misses of a connection follow each other, as those of a b-tree that was filled in order do, with
 * one of an inner node here and there; each miss that continues the run asks for twice as many as
 * the one before it.
 *
 * A run goes on when a miss lies at its end or up to CV_RUN_GAP pages beyond. A miss elsewhere
 * leaves it alone and may begin another one: the next miss decides.
 *
 * Pure. Belongs to one connection; the caller serialises.
 */
#ifndef CORALLITE_COMPUTE_VFS_RUN_H
#define CORALLITE_COMPUTE_VFS_RUN_H

#include <stdint.h>

#include "proto/lsn.h"

#define CV_RUN_GAP 2u

/* All zero: nothing was missed yet. */
struct cv_run {
    pgno_t end;   /* first page behind the run; 0: none */
    pgno_t other; /* behind a miss that was elsewhere; 0: none */
    uint32_t n;   /* pages that the run asked for last */
};

/* A page was read: one that was cached already is a step of the run like one that was missed. */
void cv_run_saw(struct cv_run *r, pgno_t pgno);
/* A miss of `pgno`: so many are asked for, from it on. 1 to `most`. */
uint32_t cv_run_missed(struct cv_run *r, pgno_t pgno, uint32_t most);

#endif
