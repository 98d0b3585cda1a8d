/*
 * commit.h - from the frames of a transaction to a record in the log.
 *
 * A large transaction (cv_commit_spill_bytes) is built into a file, and leaves nothing in the cache
 * but the knowledge that its pages changed: memory is bounded whatever its size. Its writer keeps
 * the turn until the record is committed, because nobody could read its pages before that.
 *
 * build    at the frame that commits (rule M3): everything that can fail does so here, and SQLite
 *          then rolls back cleanly. Memory for the record and for the cached versions is had here.
 * publish  at the unlock of slot 0, if SQLite did commit: the record gets its LSN, the cache its
 *          versions. Only a lost term can stop it, and that is a clean loss.
 * ship     the log gets the record: after the turn was given back, so that the next writer is
 *          on his way while it is sent. In order, by whoever is there.
 * wait     in COMMIT_PHASETWO (cv_era_wait), after the turn was given back, so that commits of
 *          several connections share a round trip.
 *
 * A record never depends on anything newer than its own begin: deltas are made against the version
 * valid at the handle's snapshot, which rule (c) has made the tip.
 */
#ifndef CORALLITE_COMPUTE_VFS_COMMIT_H
#define CORALLITE_COMPUTE_VFS_COMMIT_H

#include "compute-vfs/database.h"
#include "compute-vfs/walbuf.h"

struct cv_commit {
    struct wal_builder *builder; /* made at the first use, kept for the next */
    struct cv_version **versions;
    uint32_t n, cap;
    struct cv_spilled *spilled; /* of a large one, instead of versions: the record, */
    pgno_t *pgnos;              /*   and which pages it changes */
    uint32_t n_pgnos;
    uint32_t frame; /* the committing one; 0: nothing is built */
    uint32_t db_pages, page_size;
    struct co_id uuid;
    bool want_received; /* before publish: its COMMIT waits for a majority of memories only */
};

/* Bytes of pages in one transaction: beyond the first it is built into a file, beyond the second it
 * is SQLITE_FULL. Tests lower them. */
extern uint64_t cv_commit_spill_bytes, cv_commit_max_bytes;

/* Of page 1: the highest byte of the schema cookie, which is a number of changes. */
#define CV_SCHEMA_MARK_AT 40u

struct cv_commit_input {
    struct cv_walbuf *wal;
    uint32_t first_frame, last_frame;
    uint32_t page_size, db_pages; /* db_pages: after the commit */
    uint32_t timeout_ms;          /* no quorum for so long: refuse */
    uint8_t schema_mark;          /* is on page 1 (vfs.h), and is not to be committed */
};

void cv_commit_free(struct cv_commit *c);
/* Forgets what was built. */
void cv_commit_discard(struct cv_commit *c);

/* The handle has the turn. CO_ERR_AGAIN: its snapshot is not the tip any more; CO_ERR_NO_QUORUM,
 * CO_ERR_FULL, CO_ERR_NOMEM, CO_ERR_*: refused, with a sentence; nothing has happened. */
CO_MUST_CHECK int cv_commit_build(struct cv_database *db, struct cv_handle *h, struct cv_commit *c,
                                  const struct cv_commit_input *in);
/* Is what was built a large one? */
static inline bool cv_commit_is_large(const struct cv_commit *c)
{
    return c->spilled != NULL;
}
/* *ticket tells what to wait for. CO_ERR_LOST: the term ended before. */
CO_MUST_CHECK int cv_commit_publish(struct cv_database *db, struct cv_handle *h,
                                    struct cv_commit *c, struct cv_ticket *ticket);
/* Gives the log all that was published, or leaves that to the thread that is doing it. */
void cv_commit_ship(struct cv_database *db);

#endif
