/*
 * gc_lmdb.h - what may go, goes: small steps through the store.
 *
 * Threads: the writer's, in a write transaction that the caller began and commits.
 */
#ifndef CORALLITE_PAGESERVER_GC_LMDB_H
#define CORALLITE_PAGESERVER_GC_LMDB_H

#include "pageserver/gc.h"
#include "pageserver/store_lmdb.h"

#define PS_GC_TXN_BYTES                                                                            \
    (2 * CO_MIB) /* that one step may dirty: some 10 ms of the writer's time                       \
                  */

/* From where on a timeline is read: nothing below it is, but for pins and branch points. Durable
 * before anything goes. 0: from its begin. */
CO_MUST_CHECK int ps_cutoff_put(struct ps_txn *txn, tlno_t no, lsn_t cutoff);
CO_MUST_CHECK int ps_cutoff_get(struct ps_txn *txn, tlno_t no, lsn_t *cutoff);

struct ps_gc_found {
    uint64_t pages; /* looked at */
    uint64_t versions, bytes, commits;
};

/* One run of a plan. Zeroed but for plan and dry at its begin. */
struct ps_gc_run {
    const struct ps_gc_plan *plan;
    bool dry; /* only count; `bytes` is then an estimate */
    bool done;
    struct ps_gc_found found; /* so far */
    /* where it is */
    uint32_t line;
    bool commits;
    pgno_t pgno;
    lsn_t below;
};

/* Goes on by at most `max` groups or commits. On an error the caller aborts its
 * transaction and gives the run up; what it did before stays. */
CO_MUST_CHECK int ps_gc_step(struct ps_txn *txn, struct ps_gc_run *run, uint32_t max);

#endif
