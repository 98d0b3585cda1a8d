/*
 * siblings.h - pages that follow each other in the order of their keys, wherever they lie: which
 * children of an inner page of a b-tree to ask for at the miss of one of them.
 *
 * A connection remembers the children of the inner pages that it read last. Who misses a child and
 * then the next one that is not cached, upwards or downwards, scans: then the ones behind it are
 * asked for too, and each miss that continues asks for twice as many. Never for one beyond the
 * last child of the page, so a scan of the whole fetches what there is and nothing else. The first
 * child of the inner page that follows goes on as the last of this one did.
 *
 * What is remembered is a guess: a page may have another parent by now. Then a page comes along
 * that nobody wants.
 *
 * Pure. Belongs to one connection; the caller serialises.
 */
#ifndef CORALLITE_COMPUTE_VFS_SIBLINGS_H
#define CORALLITE_COMPUTE_VFS_SIBLINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/lsn.h"

#define CV_PARENTS 16u

struct cv_parent {
    pgno_t pgno; /* 0: a free place */
    lsn_t version;
    uint64_t used; /* when it was read, or helped, last */
    pgno_t *child; /* n of them, as they stood in the page: any number */
    uint32_t n, room;
    uint32_t lo, hi; /* these were asked for last; or were read beside them */
    uint32_t asked;  /* so many were to be; 0: none was missed yet */
    uint32_t again;  /* one of them was missed again; UINT32_MAX: none */
    int way;         /* 1 upwards, -1 downwards, 0: one page, no scan so far */
};

/* All zero: nothing was read yet. */
struct cv_siblings {
    struct cv_parent parent[CV_PARENTS];
    struct cv_parent *last; /* of the newest miss; NULL: none */
    uint64_t clock;
};

void cv_siblings_free(struct cv_siblings *s);

/* A page was read. Without memory it is not remembered. */
void cv_siblings_saw(struct cv_siblings *s, pgno_t pgno, lsn_t version, const uint8_t *data,
                     uint32_t page_size);

/* A miss: which pages to ask for beside it, in the order in which they will be wanted: to
 * also[most - 1], their number is returned. They are what the parent says, unchecked. *scan: a scan
 * goes on, though perhaps without a page behind this one. */
uint32_t cv_siblings_missed(struct cv_siblings *s, pgno_t pgno, uint32_t most, pgno_t *also,
                            bool *known, bool *scan);

#endif
