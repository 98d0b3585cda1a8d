/*
 * page_tier.h - the pages that outlive the process: a file below cache_dir for each timeline,
 * shared by the processes of the host (page_slots.h has its format and what of it is believed).
 *
 * A cache and nothing else: it is never synced, whatever is wrong with it is a miss, and the first
 * call of the system that fails switches it off for this object, with one sentence.
 *
 * Threads: any. No call is made with the database's lock held: all do I/O.
 */
#ifndef CORALLITE_COMPUTE_VFS_PAGE_TIER_H
#define CORALLITE_COMPUTE_VFS_PAGE_TIER_H

#include "compute-vfs/page_slots.h"

struct cv_tier;

enum cv_found {
    CV_FOUND,
    CV_NOT_FOUND,
    CV_FOUND_UNPROVEN, /* it is believed once the commit that its slot names is known to be part of
                          the log */
};

struct cv_tier_stats {
    uint64_t hits, misses, bytes_read, bytes_written;
};

/* Opens or makes DIR/TIMELINE.pages, of at most so many MiB if it is made. NULL: it cannot be had,
 * and the sentence was told. The directory is made if its parent is there. */
struct cv_tier *cv_tier_open(const char *dir, uint32_t mb, const struct co_id *timeline);
/* NULL is fine. */
void cv_tier_close(struct cv_tier *t);

/* Whose pages they are. */
const struct co_id *cv_tier_timeline(const struct cv_tier *t);
/* Where knowledge of changes may begin; LSN_NONE: nowhere, there are no pages. */
lsn_t cv_tier_base(struct cv_tier *t);
/* This process knows everything up to `lsn`, the end of a committed transaction, by so many changes
 * that it was ever told; `all`: there were too many to tell. page_size 0: not known yet. */
void cv_tier_learned(struct cv_tier *t, uint32_t page_size, lsn_t lsn, uint64_t changes, bool all);

/* Reads the page to out[page_size], and tells what its slot says. What it was of use for is written
 * down if it would be lost otherwise. */
enum cv_found cv_tier_find(struct cv_tier *t, const struct cv_want *want, uint8_t *out,
                           uint32_t page_size, struct cv_slot *slot);
/* So many questions come of CV_FOUND_UNPROVEN; after them such a page counts as not found. */
#define CV_TIER_QUESTIONS CV_PROOFS
/* The commit that the slot names is part of the log, or it is not. */
void cv_tier_prove(struct cv_tier *t, const struct cv_slot *slot, bool good);
/* A page that is to be kept: session and crc of its slot are filled in. */
struct cv_kept {
    struct cv_slot slot;
    const uint8_t *page;
};
#define CV_KEEP_MAX 64u
/* Keeps up to CV_KEEP_MAX pages of one size. What the slots say is committed for good (M8). Those
 * of consecutive numbers are written together. */
void cv_tier_keep(struct cv_tier *t, struct cv_kept *kept, uint32_t n);
/* Is it there by its slot's word, and good beyond the next base? */
bool cv_tier_has(struct cv_tier *t, const struct cv_slot *slot);

void cv_tier_stats(struct cv_tier *t, struct cv_tier_stats *out);

#endif
