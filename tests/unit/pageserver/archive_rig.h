/* archive_rig.h - what the tests of whole rounds of an archiver begin with: a directory for the
 * archive, a store with one branch, and a log of it that grows. One test, one rig: each test is a
 * process. */
#ifndef CORALLITE_TEST_ARCHIVE_RIG_H
#define CORALLITE_TEST_ARCHIVE_RIG_H

#include "pageserver/archiver_int.h"
#include "tests/unit/pageserver/ps_util.h"

#define RIG_PAGES 40u

struct rig {
    char dir[64], path[96], archive[96], url[120]; /* archive is in dir, path that of the store */
    struct ps_archiver a;
    struct ps_archive_task task;
    struct ps_archive_line tline; /* the branch, as a round is told of it */
    struct ps_store *store;
    struct ps_txn *wr;
    struct ps_line line; /* the same branch, as it is ingested */
    struct ps_chain chain;
    struct ps_partial partial;
    struct ps_scribe scribe;
    uint64_t seed; /* transactions so far */
};
extern struct rig rig;

void rig_begin(void);
void rig_end(void);

/* A process with an archiver begins, which knows nothing; rig_begin has begun the first. */
void rig_process_begins(void);
void rig_process_ends(void);

/* What the archiver knows of the branch. */
struct ps_archived *rig_archived(void);

/* A transaction: all pages the first time, then n of them; behind every third a configuration. It
 * is ingested; `records`, empty before, has it. */
void rig_write(uint32_t n, struct co_buf *records);
/* The log reaches so far, here and in the archive. */
void rig_reached(void);

/* An object of a snapshot with this in it, as of a round of another generation. */
void rig_put_snap(const struct co_id *timeline, const struct ar_snap_name *of, const char *text);

/* Every part of the snapshot is there and sound. */
void rig_expect_snapshot(struct ar_store *s, const struct ar_snap *snap);

#endif
