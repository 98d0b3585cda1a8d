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
 *   V5 a snapshot is told of by a manifest only after all its objects are there, the log up to it
 * is archived, and the loop has said since it was made that nothing had been collected which
 *      somebody sees at or above it.
 *   V6 what a manifest told of is taken away only after a newer manifest does not, and after that
 *      nobody has claimed a later generation: whoever claims one afterwards begins with that newer
 *      manifest. Nothing of a later generation is ever taken away.
 *
 *   V7 what is pruned goes as under V6: first a manifest says where the log begins now, then
 * objects go. The log goes below a snapshot only: one that a manifest tells of, of which every byte
 *      was read, at the end of a log that chains up to its digest, and that keeps all moments
 *      which the store keeps (its cut is not above the store's).
 *
 *   V8 what safekeepers are told to be archived (`stands`) is what a manifest of ours tells, after
 *      which we were still the last to have claimed a generation: whoever claims the next one reads
 *      that manifest, and takes away nothing that it tells of (V4).
 *
 *   V9 the first object behind a claim is a manifest, if there is none. So log without one is an
 *      archive that has lost its manifests: nothing is begun there, and nothing taken away (V4).
 *
 * Threads: the task is the loop's or the thread's, never both. All of the store's calls are on the
 * thread; stop() alone reaches into it.
 */
#ifndef CORALLITE_PAGESERVER_ARCHIVER_H
#define CORALLITE_PAGESERVER_ARCHIVER_H

#include "archive/state.h"
#include "pageserver/store_lmdb.h"

struct ps_archive_line {
    struct ps_meta meta;
    lsn_t last;  /* everything below is committed and ingested */
    lsn_t known; /* so much is known to be committed */
    tlno_t no;   /* in the store; 0: not there */
    lsn_t cutoff;
    bool rebuilding;
    lsn_t end;    /* out: archived; 0: nothing is known of it */
    lsn_t stands; /* out: so much for good (V8); 0: nothing is known */
    lsn_t snap;   /* out: its newest snapshot; 0: none */
    bool removed; /* out: it was DROPPED, and nothing of it is left in the archive */
    void *owner;  /* the loop's */
};

/* What was taken away, or would be. */
enum ps_prune { PS_PRUNE_NONE, PS_PRUNE_DRY, PS_PRUNE_DO };
#define PS_PRUNE_NOTES 8u
struct ps_pruned {
    uint64_t branches;               /* whose log begins later */
    uint64_t log_objects, log_bytes; /* below */
    uint64_t stray_objects, stray_bytes;
    uint64_t manifests;
    char notes[PS_PRUNE_NOTES][400]; /* what stays, and why */
    uint32_t n_notes;
};

struct ps_archive_task {
    enum ps_prune prune;
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
    bool again;       /* a snapshot is not done yet */
    bool prune_again; /* nor is what was to be pruned; `pruned` has what was done */
    struct ps_pruned pruned;
};
void ps_archive_task_free(struct ps_archive_task *task); /* NULL: nothing */

struct ps_archiver;

struct ps_archiver_options {
    const char *url; /* borrowed */
    struct co_id cluster, disk;
    struct ps_store *store;  /* snapshots are read from it; borrowed */
    uint64_t snapshot_every; /* bytes of log; 0: no snapshots are made */
};
CO_MUST_CHECK int ps_archiver_start(const struct ps_archiver_options *options,
                                    struct ps_archiver **out);
/* Takes the task. One at a time. */
void ps_archiver_give(struct ps_archiver *a, struct ps_archive_task *task);
/* The next task is waited for: what can go on in a later round does. */
void ps_archiver_hurry(struct ps_archiver *a);
/* The task that is done, or NULL: it is at work, or has none. */
struct ps_archive_task *ps_archiver_take(struct ps_archiver *a);
/* Ends what it is at, soon, and the thread. NULL: nothing. */
void ps_archiver_stop(struct ps_archiver *a);

/* Snapshots of timelines, as a manifest tells of them: ascending by id. */
struct ps_snapshots {
    struct ps_snapshot {
        struct co_id timeline;
        struct ar_snap snap;
    } * all; /* the caller's to free */
    uint32_t n;
};
/* NULL: there is none. */
const struct ps_snapshot *ps_snapshot_find(const struct ps_snapshots *in, const struct co_id *id);
/* Calls `fn` (may be NULL) with each pin of the newest manifest, and fills `out`. 0 also when there
 * is no manifest yet. */
CO_MUST_CHECK int ps_archive_read(const char *url, const struct co_id *cluster, ps_pin_fn fn,
                                  void *arg, struct ps_snapshots *out);

#endif
