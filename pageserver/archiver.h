/*
 * archiver.h - the thread that writes the archive (archive/store.h): the committed log of each
 * timeline, pulled from the safekeepers, and manifests that say what is there.
 *
 * The loop gives it a task (what there is now), the thread works it off as a round, the loop takes
 * the task back with what was reached. A round that fails leaves what it did; the next goes on.
 *
 * Invariants
 *   V1 a manifest tells only of objects that were put before it.
 *   V2 what is archived chains: begins at the timeline's start, and each record follows the one
 *      before (archive/walk.h).
 *   V3 a process claims a generation of its own before it writes anything, and only after the
 *      safekeepers have taken it for the cluster's pageserver. Manifests carry it, the greatest
 *      counts: who was deposed cannot undo what its successor wrote. It notices at its next round
 *      and stops for good.
 *   V4 at the first touch of a timeline what lies beyond the manifest is taken away: it was put by
 *      a round that did not come to its manifest, maybe of a log that a restore has left behind.
 *
 *   V5 what safekeepers are told to be archived (`stands`) is what a manifest of ours tells, after
 *      which we were still the last to have claimed a generation: whoever claims the next one reads
 *      that manifest, and takes away nothing that it tells of (V4).
 *
 * Threads: the task is the loop's or the thread's, never both. All of the store's calls are on the
 * thread; stop() alone reaches into it.
 */
#ifndef CORALLITE_PAGESERVER_ARCHIVER_H
#define CORALLITE_PAGESERVER_ARCHIVER_H

#include "archive/store.h"
#include "pageserver/store_lmdb.h"

struct ps_archive_line {
    struct ps_meta meta;
    lsn_t last;   /* everything below is committed and ingested */
    lsn_t known;  /* so much is known to be committed */
    lsn_t end;    /* out: archived; 0: nothing is known of it */
    lsn_t stands; /* out: so much for good (V5); 0: nothing is known */
    bool removed; /* out: it was DROPPED, and nothing of it is left in the archive */
    void *owner;  /* the loop's */
};

struct ps_archive_task {
    uint64_t time_us; /* wall clock when it was made */
    struct ps_archive_line *lines;
    uint32_t n_lines;
    struct ps_pin_row *pins;
    uint32_t n_pins;
    struct {
        uint32_t id;
        char host[256];
        uint16_t port;
    } nodes[CO_MEMBERS_MAX]; /* that are connected */
    uint32_t n_nodes;
    /* out */
    int rc;
    char why[CO_SENTENCE_MAX];
    uint64_t manifest_us; /* wall clock of the newest manifest, 0: none yet by this process */
    bool deposed;
};
void ps_archive_task_free(struct ps_archive_task *task); /* NULL: nothing */

struct ps_archiver;

/* Borrows url. */
CO_MUST_CHECK int ps_archiver_start(const char *url, const struct co_id *cluster,
                                    const struct co_id *disk, struct ps_archiver **out);
/* Takes the task. One at a time. */
void ps_archiver_give(struct ps_archiver *a, struct ps_archive_task *task);
/* The task that is done, or NULL: it is at work, or has none. */
struct ps_archive_task *ps_archiver_take(struct ps_archiver *a);
/* Ends what it is at, soon, and the thread. NULL: nothing. */
void ps_archiver_stop(struct ps_archiver *a);

/* Calls `fn` with each pin of the newest manifest. 0 also when there is no manifest yet. */
CO_MUST_CHECK int ps_archive_pins(const char *url, const struct co_id *cluster, ps_pin_fn fn,
                                  void *arg);

#endif
