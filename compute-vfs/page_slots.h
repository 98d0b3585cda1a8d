/*
 * page_slots.h - how pages lie in the file of cache_dir, and which of them may be believed. Pure.
 *
 * A file belongs to one timeline and is shared by all processes of the host without any lock. It is
 * a table of sets, each of CV_SLOT_WAYS slots; page P lies in set P mod n_sets. A slot says: this
 * is page P from the commit that ends at `from` to the one that ends at `known_to`. Three things
 * are between that word and its being believed:
 *
 *   CRC        It covers format, timeline, slot and page: what is torn, mixed by two writers,
 * rotten, of another timeline or of another format is a miss. history    Only what is committed is
 * ever written down, so no lost term can make it wrong (M8). But a cluster can be made anew of a
 * copy, or of an archive that lacks the newest commits, and LSNs come again then. So a slot names
 * the commit at known_to by its time, too. Who reads it has to know that this very commit is part
 * of the log: then all that its session has written down up to there is true. A session is one
 * database object of one process. knowledge  What comes after known_to is for the reader to know,
 * out of its own gapless knowledge of changes (M13).
 *
 *   0                   head: 64 bytes
 *   4096                n_sets times CV_SLOT_WAYS slots of 48 bytes
 *   next multiple       pages: those of way 0 of all sets, then of way 1, ...; so the pages of a
 *    of 4096            database that is smaller than the file lie in order
 *
 *   head: "coraPAGE", u32 format, page_size, n_sets, 0, u64 base, next, 16 bytes timeline, u32 CRC
 *         of what is before it, 0
 *   slot: u32 pgno (0: empty), page_size, u64 from, known_to, known_us, session, u32 CRC, 0
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
#define CV_SLOT_BYTES      48u
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
    lsn_t from, known_to; /* ends of transactions, from <= known_to */
    uint64_t known_us;    /* the time of the one at known_to */
    uint64_t session;
    uint32_t crc;
};

/* What a reader wants, and knows; all of it committed. */
struct cv_want {
    pgno_t pgno;
    lsn_t lsn;
    lsn_t newest; /* the page has not changed after it, as far as anything is known; beyond `lsn`:
                     it may have */
    lsn_t known;  /* end of the newest transaction that is known to be committed, >= lsn, */
    uint64_t known_us; /* and its time */
};

/* What is known of the histories that sessions stood for. All zero: nothing. */
#define CV_PROOFS 256u
struct cv_proofs {
    struct cv_proof {
        uint64_t session;
        lsn_t good_to;  /* true up to here */
        lsn_t bad_from; /* of another history from here on; 0: nothing is */
    } of[CV_PROOFS];
    uint32_t n; /* ever; the table holds the last ones */
};

enum cv_proven {
    CV_PROVEN,
    CV_UNPROVEN, /* nobody has asked yet */
    CV_REFUTED,
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

/* The commit that the slot names is part of the log, or is not. */
void cv_proofs_note(struct cv_proofs *p, const struct cv_slot *slot, bool good);
enum cv_proven cv_proofs_find(const struct cv_proofs *p, const struct cv_slot *slot);

/* Is it, by its own word, what the reader wants? */
bool cv_slot_serves(const struct cv_slot *slot, const struct cv_want *want, uint32_t page_size);
/* Which way of a page's set takes the new slot: that of the same version, or of an older one of the
 * page; else an empty one, one of a time that is not there yet, or what was of use longest ago. */
uint32_t cv_slots_choose(const struct cv_slots *s, const struct cv_slot set[CV_SLOT_WAYS],
                         const struct cv_slot *fresh);

#endif
