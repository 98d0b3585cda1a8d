/* verify_int_lmdb.h - what the verify_*lmdb.c files share. Included by them only. */
#ifndef CORALLITE_PAGESERVER_VERIFY_INT_LMDB_H
#define CORALLITE_PAGESERVER_VERIFY_INT_LMDB_H

#include "pageserver/store_int_lmdb.h"
#include "pageserver/verify_lmdb.h"

#define COMMIT_HEAD_BYTES 32u
#define NODE_BYTES        8u /* of LMDB, an entry */

/* A step under way. */
struct ps_walk {
    struct ps_txn *txn;
    const struct ps_verify_line *of;
    struct ps_verify_at *at;
    struct ps_verify_step *step;
};

/* A finding; beyond the room of the step it is dropped (ps_verify_full ends the step before). */
CO_PRINTF(5, 6)
void ps_verify_say(struct ps_walk *w, const char *kind, pgno_t pgno, lsn_t lsn, const char *format,
                   ...);
bool ps_verify_full(const struct ps_walk *w);
void ps_verify_next_phase(struct ps_walk *w);
/* Are commit and versions at this LSN to be there, whatever was collected? */
bool ps_verify_strict(const struct ps_walk *w, lsn_t lsn);
int ps_verify_fail(struct ps_walk *w, int rc);
/* The head of a commit's row. CO_ERR_NOT_FOUND: there is no row, or one without a head. */
int ps_verify_commit(struct ps_walk *w, tlno_t no, lsn_t lsn, struct ps_commit *out);

/* The phase of the pages. */
int ps_verify_pages(struct ps_walk *w);

#endif
