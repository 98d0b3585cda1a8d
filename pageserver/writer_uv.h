/*
 * writer_uv.h - the one thread that writes to the store.
 *
 * LMDB binds a write transaction to the thread that began it; so all of them begin and end here.
 * Jobs are carried out in the order in which they were given; `done` is called on the loop thread,
 * in the same order. A job's owner frees it, in `done` or later.
 */
#ifndef CORALLITE_PAGESERVER_WRITER_UV_H
#define CORALLITE_PAGESERVER_WRITER_UV_H

#include <uv.h>

#include "pageserver/store_lmdb.h"

struct ps_job {
    /* On the writer's thread. `txn` is not open: begins and ends it. Returns 0 or CO_ERR_* with a
     * sentence. */
    int (*run)(struct ps_job *job, struct ps_txn *txn);
    /* On the loop thread; rc and why are the outcome. */
    void (*done)(struct ps_job *job);
    int rc;
    char why[CO_SENTENCE_MAX];
    struct ps_job *next;
};

struct ps_writer;

CO_MUST_CHECK int ps_writer_start(uv_loop_t *loop, struct ps_store *store, struct ps_writer **out);
/* Loop thread. Takes the job until done is called. */
void ps_writer_give(struct ps_writer *writer, struct ps_job *job);
/* Finishes what was given, calls every done, ends the thread. The loop has to run once more to
 * close its handle; the memory is freed then. */
void ps_writer_stop(struct ps_writer *writer);

#endif
