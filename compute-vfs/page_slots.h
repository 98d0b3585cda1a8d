/*
 * page_slots.h - how pages lie in the file of cache_dir, and which of them may be believed. Pure.
 *
 * A file belongs to one timeline and is shared by all processes of the host without any lock. It is
 * a table of sets, each of CV_SLOT_WAYS slots; page P lies in set P mod n_sets. A slot says: this
 * is page P for every LSN in [from, known_to]. Only what is committed is ever written down, so that
 * stays true whatever happens to terms (M8). What comes after known_to is for the reader to know:
 * `want.newest`, out of its own gapless knowledge of changes (M13).
 *
 * Nothing is believed but for its CRC, which covers format, timeline, slot and page: what is torn,
 * mixed by two writers, rotten, of another timeline or of another format is a miss.
 *
 *   0                   head: 64 bytes
 *   4096                n_sets times CV_SLOT_WAYS slots of 32 bytes
 *   next multiple       pages: those of way 0 of all sets, then of way 1, ...; so the pages of a
 *    of 4096            database that is smaller than the file lie in order
 *
 *   head: "coraPAGE", u32 format, page_size, n_sets, 0, u64 base, next, 16 bytes timeline, u32 CRC
 *         of what is before it, 0
 *   slot: u32 pgno (0: empty), page_size, u64 from, known_to, u32 CRC, 0
 *
 * `base` is where a process lets its knowledge begin: it asks which pages changed since. When that
 * becomes much the base moves on to `next`, and `next` to now. Slots that were of use since are
 * good beyond `next`; the others are worth nothing then. Both are hints: any value is right.
 */
#ifndef CORALLITE_COMPUTE_VFS_PAGE_SLOTS_H
#define CORALLITE_COMPUTE_VFS_PAGE_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/id.h"
#include "proto/lsn.h"

#define CV_SLOTS_FORMAT    1u
#define CV_SLOT_WAYS       8u
#define CV_SLOT_BYTES      32u
#define CV_SLOTS_SET_BYTES (CV_SLOT_WAYS * CV_SLOT_BYTES)
#define CV_SLOTS_HEAD      64u
/* The base moves on when so many changes are told since, or one for every fourth slot. */
#define CV_SLOTS_CHANGES 16384u

struct cv_slots {
    uint32_t page_size; /* 0: nothing is there yet */
    uint32_t n_sets;
    lsn_t base, next; /* 0: none */
};

struct cv_slot {
    pgno_t pgno;
    uint32_t page_size;
    lsn_t from, known_to;
    uint32_t crc;
};

/* What a reader wants, and knows; all of it committed. */
struct cv_want {
    pgno_t pgno;
    lsn_t lsn;
    lsn_t newest; /* the page has not changed after it, as far as anything is known; >= `lsn`: it
                     may have */
    lsn_t known;  /* end of what is known to be committed, >= lsn */
};

/* The shape of a file of so many bytes. */
struct cv_slots cv_slots_shape(uint64_t bytes, uint32_t page_size);
uint64_t cv_slots_bytes(const struct cv_slots *s);
/* Where the slots of a page's set are, and where the page of one of its ways is. */
uint64_t cv_slots_set_at(const struct cv_slots *s, pgno_t pgno);
uint64_t cv_slots_page_at(const struct cv_slots *s, pgno_t pgno, uint32_t way);

void cv_slots_put(const struct cv_slots *s, const struct co_id *timeline,
                  uint8_t out[CV_SLOTS_HEAD]);
/* false: it is none of this format and timeline. */
bool cv_slots_get(const uint8_t in[CV_SLOTS_HEAD], const struct co_id *timeline,
                  struct cv_slots *out);
/* So many changes were told up to lsn, or `all`: too many. Whether it was changed. */
bool cv_slots_advance(struct cv_slots *s, lsn_t lsn, uint64_t changes, bool all);

void cv_slot_put(const struct cv_slot *slot, uint8_t out[CV_SLOT_BYTES]);
void cv_slot_get(const uint8_t in[CV_SLOT_BYTES], struct cv_slot *out);
/* Of slot and page; slot->crc does not matter. */
uint32_t cv_slot_crc(const struct cv_slot *slot, const struct co_id *timeline, const uint8_t *page);

/* Is it, by its own word, what the reader wants? */
bool cv_slot_serves(const struct cv_slot *slot, const struct cv_want *want, uint32_t page_size);
/* Which way of a page's set takes the new slot: that of the same version, or of an older one of the
 * page; else an empty one, or what was of use longest ago. -1: nothing there is worth less. */
int cv_slots_choose(const struct cv_slots *s, const struct cv_slot set[CV_SLOT_WAYS],
                    const struct cv_slot *fresh);

#endif
