/*
 * store_uv.h - the store thread: everything that must reach the disk passes through it, in order.
 *
 * The loop thread submits jobs; the store thread takes all that are there, carries them out in the
 * order they came, and reports on the loop thread. An APPEND only writes; after the round every
 * timeline that was written to gets ONE sync, whatever number of appends it covers, and `flushed`
 * tells the new end. While that sync runs the next appends gather: the group commit of the log.
 *
 * A round of small appends to one timeline, while no store of the loop has anything in hand, is
 * done by the loop thread itself at the end of its turn (docs/decisions/0032): waking two threads
 * for it costs as much as the sync. The same functions do it; a slow sync sends the next rounds
 * back.
 *
 * Appends whose writers were answered before the sync (synchronous=NORMAL) are gathered for
 * STORE_UNHURRIED_MS, unless something comes that somebody waits for: then all go (decision 0055).
 *
 * When nothing is at hand for STORE_IDLE_MS the timelines that were written to are tended: seal,
 * second slot, zeros ahead of the log (sk_files_idle).
 *
 * Invariants
 *   Q1 jobs of a timeline are carried out in the order of their submission.
 *   Q2 `flushed` says nothing above what a sync that returned 0 covered, nor above a truncation.
 *   Q3 after the first failed write or sync nothing is done and nothing reported any more but
 * `failed`, once: no acknowledgement can follow it. Q4 a round holds at most what arrived during
 * the one before; a submitter bounds its own queue.
 *
 * Threads: sk_store_* on the loop thread. A struct sk_files belongs to the store from its first job
 * to the completion of its last; there to the store thread, or while `here` is set to the loop
 * thread.
 */
#ifndef CORALLITE_SAFEKEEPER_STORE_UV_H
#define CORALLITE_SAFEKEEPER_STORE_UV_H

#include <uv.h>

#include "safekeeper/timeline_file.h"

#define STORE_IDLE_MS      100
#define STORE_UNHURRIED_MS 5

struct sk_store;
struct sk_stored; /* one timeline as the store knows it */

enum sk_job_kind {
    SK_JOB_APPEND,   /* lsn, bytes, fragment...; no completion but `flushed` */
    SK_JOB_FLUSH,    /* sync now; out_lsn: flushed */
    SK_JOB_TRUNCATE, /* lsn; out_digest, out_config there */
    SK_JOB_PERSIST,  /* durable, history_changed, lsn: seal_max */
    SK_JOB_REBASE,   /* durable, with its base */
    SK_JOB_TRIM,     /* lsn: limit; out_lsn (0: nothing would go), out_digest, out_config there */
    SK_JOB_WITNESS,  /* known: durable when it is done */
    SK_JOB_HALT,     /* reason: noted in the control block */
    SK_JOB_READ,     /* [lsn, to_lsn), fragment_at, max_bytes; out: records, out_part. rc may be an
                        error     without failing */
    SK_JOB_SETTLE,   /* clean stop of this timeline */
    SK_JOB_CALL,     /* call(job): anything else that takes files; rc is its own */
};

/* Owned by the submitter, who keeps it until `done` (loop thread) and then frees or reuses it. */
struct sk_job {
    enum sk_job_kind kind;
    struct sk_stored *timeline; /* NULL for CALL */
    lsn_t lsn, to_lsn;
    uint64_t max_bytes;
    struct co_span bytes; /* borrowed until done */
    bool fragment, whole; /* APPEND: bytes of a record in the making; its last ones */
    bool unhurried;       /* APPEND: its writer was answered before the sync */
    uint64_t fragment_at;
    struct wal_header record;         /* APPEND of the last fragment */
    const struct sk_durable *durable; /* borrowed until done, with its history */
    bool history_changed;
    const char *reason;
    struct q_known_list known; /* WITNESS: borrowed until done */
    int (*call)(struct sk_job *job);

    int rc;
    char sentence[CO_SENTENCE_MAX]; /* when rc */
    lsn_t out_lsn;
    struct wal_digest out_digest;
    struct wal_config out_config;
    struct co_buf out;
    struct sk_part out_part;

    void (*done)(struct sk_job *job);
    void *owner;
    struct sk_job *next; /* of the store */
};

struct sk_store_events {
    void *owner;
    /* A write or sync failed: stop serving. The sentence names the file. */
    void (*failed)(void *owner, const char *sentence);
};

/* sibling: another store of the same loop, or NULL. */
CO_MUST_CHECK int sk_store_new(uv_loop_t *loop, const struct sk_store_events *events,
                               struct sk_store *sibling, struct sk_store **out);
/* Stops after what was submitted; joins the thread. The memory goes when the loop has run the
 * close. */
void sk_store_close(struct sk_store *store);

/* Takes `files`. `flushed` is called on the loop thread: all below lsn is durable, and `staged`
 * bytes of a record in the making behind it. */
CO_MUST_CHECK int sk_store_attach(struct sk_store *store, struct sk_files *files,
                                  void (*flushed)(void *owner, lsn_t lsn, uint64_t staged),
                                  void *owner, struct sk_stored **out);
/* After the completion of the last job. Frees, closes the files (on the store thread). */
void sk_store_detach(struct sk_stored *timeline);
/* Newest commit LSN, for the next lazy control write. Loop thread. */
void sk_store_hint_commit(struct sk_stored *timeline, lsn_t commit_lsn);

void sk_store_submit(struct sk_store *store, struct sk_job *job);
/* Somebody waits for what was gathered without hurry: to the store thread, at once. */
void sk_store_hurry(struct sk_store *store);

/* Metrics of all stores; registered once by main. */
void sk_store_register_metrics(void);
/* Of the segments that were dropped since the start. */
uint64_t sk_store_dropped_bytes(void);
void sk_store_count(uint64_t *records, uint64_t *syncs, uint64_t *bytes);

#endif
