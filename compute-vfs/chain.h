/*
 * chain.h - pages that name their successor: a long record goes on in a chain of overflow pages.
 * Only who has one of them knows the next, so the pageserver is told how many more of the chain to
 * send along (pages.h).
 *
 * How many: at the first page of a chain as many as were read of the one before it, so that rows of
 * which the first page is enough get no more; then, at each miss, one more than were read so far.
 *
 * Pure. Belongs to one connection; the caller serialises.
 */
#ifndef CORALLITE_COMPUTE_VFS_CHAIN_H
#define CORALLITE_COMPUTE_VFS_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/lsn.h"

/* All zero: nothing was read yet. */
struct cv_chain {
    pgno_t next;   /* what the page that was read last names; 0: none */
    uint32_t used; /* pages that were read of the newest chain */
    bool inner;    /* what was read last is an inner page: no chain begins behind it */
    bool refused;  /* the pageserver sends no chains */
};

void cv_chain_saw(struct cv_chain *c, pgno_t pgno, const uint8_t *data, uint32_t db_pages);

/* A miss. is_child: of an inner page of a b-tree. So many pages behind it to ask for: less than
 * `most`. */
uint32_t cv_chain_missed(struct cv_chain *c, pgno_t pgno, bool is_child, uint32_t most);

/* The first of them was seen. Of those behind it so many were asked for and came. */
void cv_chain_brought(struct cv_chain *c, uint32_t asked, uint32_t came);

#endif
