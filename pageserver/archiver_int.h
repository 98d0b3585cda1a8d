/* archiver_int.h - what the files of the archiver share; everything here is its thread's. */
#ifndef CORALLITE_PAGESERVER_ARCHIVER_INT_H
#define CORALLITE_PAGESERVER_ARCHIVER_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "archive/read.h"
#include "pageserver/archiver.h"
#include "proto/peer_sock.h"

#define AR_CHUNK_BYTES (16 * CO_MIB)

/* A timeline as the archive has it. */
struct ps_archived {
    struct co_id id;
    lsn_t end, stands;
    struct wal_digest digest;
    uint64_t time_us;
    bool listed; /* `chunks` are known, and what lies beyond `end` was taken away */
    struct ar_chunk *chunks;
    uint32_t n, cap;
    struct ar_snap snap; /* that manifests tell of; lsn 0: none */
    struct ar_snap old;  /* that the one before told of, to be taken away (V6) */
    struct ar_kept kept; /* where the log begins, for the next manifest; lsn 0: at its start */
    lsn_t kept_told;  /* a manifest told so, and we were the last to claim: what is below may go */
    bool kept_tried;  /* it could not be moved: not in this prune again */
    bool wanted;      /* the task has it, and not as dropped (archiver_prune.c) */
    lsn_t snap_tried; /* making one failed when the log ended here */
    struct ps_archived *next;
};

struct ps_making;

struct ps_archiver {
    const char *url;
    struct ps_store *pages;
    uint64_t snapshot_every;
    struct ps_txn *read;      /* of `pages`; NULL: none yet */
    bool later;               /* one is due and cannot be made in this round */
    struct ps_making *making; /* the snapshot under way, or done and not told of yet */
    struct co_id cluster, disk, nonce;
    pthread_t thread;
    pthread_mutex_t mutex; /* task, done, stop; store, where stop() looks at it */
    pthread_cond_t cond;
    struct ps_archive_task *task, *done;
    bool stop;
    atomic_bool stopping, hurry;
    struct ar_store *store; /* NULL: not open */
    uint64_t generation;    /* 0: none claimed */
    uint64_t sequence;
    bool unbegun;         /* there was no manifest when it was claimed, and none was put yet */
    bool at_archive;      /* the newest error of a pull came from the archive, not a safekeeper */
    uint32_t written_crc; /* of the newest manifest but for time and number */
    bool written;
    uint64_t manifest_us, manifest_mono_us;
    struct ps_archived **by_id; /* N_BUCKETS */
    struct ps_pruned *pruning;  /* counts what goes; NULL: nobody asked */
    struct psock sock;          /* fd -1: none */
    uint32_t node;              /* of the task, that `sock` goes to */
};

/* archiver_pull_sock.c: 0 when the archive has the line up to `last`, CO_ERR_AGAIN without a
 * sentence: no safekeeper that answers has so much yet. */
CO_MUST_CHECK int ps_archive_pull(struct ps_archiver *a, const struct ps_archive_line *line,
                                  struct ps_archived *t);

/* archiver_chunks.c */
/* Knows what is there, and takes away what is beyond the end (V4), and below the begin (V7). */
CO_MUST_CHECK int ps_chunks_list(struct ps_archiver *a, struct ps_archived *t);
/* Puts bytes of the log that begin at `begin`. */
CO_MUST_CHECK int ps_chunks_put(struct ps_archiver *a, struct ps_archived *t, lsn_t begin,
                                struct co_span bytes);
/* Makes one larger chunk of small ones, when there are many. */
CO_MUST_CHECK int ps_chunks_merge(struct ps_archiver *a, struct ps_archived *t);
/* Removes all of a timeline. */
CO_MUST_CHECK int ps_chunks_remove(struct ps_archiver *a, const struct co_id *timeline);

/* archiver_snap.c */
/* A round begins: what was done in the one before is told of from now on, if it may be (V5). */
void ps_snaps_adopt(struct ps_archiver *a);
/* A manifest is there: what it replaced goes (V6). */
CO_MUST_CHECK int ps_snaps_replaced(struct ps_archiver *a);
/* Goes on with the one that is under way, or begins the next that is due; some seconds at most. */
CO_MUST_CHECK int ps_snaps_work(struct ps_archiver *a);
/* Removes all of a timeline. */
CO_MUST_CHECK int ps_snaps_remove(struct ps_archiver *a, const struct co_id *timeline);
/* Is it an object of the snapshot that is under way? */
bool ps_snaps_is_making(const struct ps_archiver *a, const struct co_id *timeline,
                        const struct ar_snap_name *at);
void ps_snaps_free(struct ps_archiver *a);

/* archiver_prune.c: both do nothing unless the task asks for it. Before the manifest: where logs
 * begin from now on. After it: what nobody needs goes. */
CO_MUST_CHECK int ps_prune_plan(struct ps_archiver *a);
CO_MUST_CHECK int ps_prune_carry_out(struct ps_archiver *a);

/* archiver_file.c */
/* Of the newest names below a prefix all but the last `keep` go, 32 at most; *n (may be NULL): so
 * many. */
CO_MUST_CHECK int ps_archive_clear_old(struct ps_archiver *a, const char *prefix, uint32_t keep,
                                       uint64_t *n);
struct ps_archived *ps_archived_find(struct ps_archiver *a, const struct co_id *id, bool make);
void ps_archived_unwant(struct ps_archiver *a); /* none is `wanted` */
void ps_archived_forget(struct ps_archiver *a); /* frees all */
/* One round with a->task; claims a generation first if there is none. */
CO_MUST_CHECK int ps_archive_work(struct ps_archiver *a);
/* V3: CO_ERR_STALE_TERM when somebody has claimed a later generation. */
CO_MUST_CHECK int ps_archive_still_ours(struct ps_archiver *a);
/* A manifest now, if there is anything new; what it tells is there (V1). */
CO_MUST_CHECK int ps_archive_manifest(struct ps_archiver *a);

#endif
