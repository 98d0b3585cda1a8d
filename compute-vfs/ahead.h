/*
 * ahead.h - what to ask for beside a page that is missed: a guess at what will be read next, from
 * what this connection has read and missed before. One request then takes the place of up to
 * CV_AHEAD_MAX. Of three guesses one is believed:
 *
 *   siblings.h  it is a child of an inner page that is known, and so was the one before: the next
 *               ones, exactly
 *   chain.h     the page before names it, or a record may go on in it: more of the chain
 *   run.h       it follows the one before in the file: so may the next ones. Before a chain, where
 *               the run is longer: small chains that were written one after the other
 *
 * Single reads ask for single pages.
 *
 * Pure. Belongs to one connection; the caller serialises.
 */
#ifndef CORALLITE_COMPUTE_VFS_AHEAD_H
#define CORALLITE_COMPUTE_VFS_AHEAD_H

#include "compute-vfs/chain.h"
#include "compute-vfs/run.h"
#include "compute-vfs/siblings.h"
#include "proto/wal.h"

#define CV_AHEAD_MAX       64u
#define CV_AHEAD_MAX_BYTES (256 * 1024u)

/* All zero: nothing was read yet. */
struct cv_ahead {
    struct cv_run run;
    struct cv_siblings siblings;
    struct cv_chain chain;
    pgno_t never; /* SQLite's lock page: no page of anybody's. Set by the owner; 0: none */
};

/* Beside the page itself; with it at most CV_AHEAD_MAX and CV_AHEAD_MAX_BYTES. */
struct cv_wish {
    pgno_t also[CV_AHEAD_MAX]; /* pages of the database, in the order in which they will be read */
    uint32_t n;
    uint32_t chain; /* or so many pages of the chain behind it */
};

void cv_ahead_free(struct cv_ahead *a);

/* A page was read, from wherever: the version of that LSN, of a database of so many pages. */
void cv_ahead_saw(struct cv_ahead *a, pgno_t pgno, lsn_t version, const uint8_t *data,
                  uint32_t page_size, uint32_t db_pages);
/* A page is missed. */
void cv_ahead_missed(struct cv_ahead *a, pgno_t pgno, uint32_t db_pages, uint32_t page_size,
                     struct cv_wish *out);

#endif
