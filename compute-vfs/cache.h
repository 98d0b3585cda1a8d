/*
 * cache.h - page versions of one timeline in memory, and what is known about changes.
 *
 * A version is valid for the LSNs [from, to): `from` is the end LSN of the record that wrote it,
 * `to` the LSN of the next change of the page, or CV_OPEN while no later change is known. Knowledge
 * is gapless: whoever owns the cache tells it of every change from `began` on, in order, before it
 * looks up at an LSN beyond (rule M13). So an open version is valid at every LSN known so far.
 *
 * A version is in one of four places:
 *   PENDING    written by this process, not yet durable: the pageserver cannot have it. Never
 * evicted. FRESH      durable, the pageserver may not have it yet. Evicted, oldest first, only
 * beyond a budget of its own: then a reader waits for ingest. PROBATION  everything else begins
 * here; evicted first, so that a scan does not empty the cache PROTECTED  hit again while in
 * PROBATION; at most 4/5 of the budget
 *
 * Invariants
 *   C1 two versions of a page never overlap in [from, to).
 *   C2 PENDING versions are exactly those above the durable LSN; rollback() removes all of them.
 *   C3 bytes in PROBATION and PROTECTED never exceed the budget.
 *
 * Pure: no I/O, no clock, no lock. The caller serialises.
 */
#ifndef CORALLITE_COMPUTE_VFS_CACHE_H
#define CORALLITE_COMPUTE_VFS_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "proto/lsn.h"

#define CV_OPEN UINT64_MAX

struct cv_cache;

/* Bytes of one page on their way into the cache. */
struct cv_version;

struct cv_cache_stats {
    uint64_t hits, misses, evicted;
    uint64_t pages, bytes; /* all versions held */
    uint64_t pending, fresh;
};

/* budget: bytes of page data outside PENDING and FRESH; fresh_budget: of FRESH. */
CO_MUST_CHECK int cv_cache_new(uint64_t budget_bytes, uint64_t fresh_budget_bytes,
                               struct cv_cache **out);
void cv_cache_free(struct cv_cache *c);

/* Knowledge begins (again) at `lsn`: no version is held open from before, every change after it
 * will be told. Drops all versions but the PENDING ones. */
void cv_cache_begin(struct cv_cache *c, lsn_t lsn);

/* A version of `pgno`; NULL without memory. Its bytes are the caller's to fill until it is given to
 * the cache. */
struct cv_version *cv_version_new(pgno_t pgno, uint32_t size);
uint8_t *cv_version_data(struct cv_version *v);
pgno_t cv_version_pgno(const struct cv_version *v);
/* Of one that was made for page 0, which is none: whose it is is known now. */
void cv_version_set_pgno(struct cv_version *v, pgno_t pgno);
/* It is valid for [*from, *to). */
void cv_version_range(const struct cv_version *v, lsn_t *from, lsn_t *to);
void cv_version_free(struct cv_version *v);

/* Copies the version valid at `lsn` to out[size] and tells its LSN. false: a miss. */
bool cv_cache_get(struct cv_cache *c, pgno_t pgno, lsn_t lsn, uint8_t *out, uint32_t size,
                  lsn_t *version_lsn);
/* The same, but counted neither as hit nor miss nor moved: for delta bases. */
bool cv_cache_peek(struct cv_cache *c, pgno_t pgno, lsn_t lsn, uint8_t *out, uint32_t size,
                   lsn_t *version_lsn);
/* Is it there? Not counted either. */
bool cv_cache_has(struct cv_cache *c, pgno_t pgno, lsn_t lsn, uint32_t size);

/* Takes a version that this process wrote in the commit that ends at `lsn` (the newest so far).
 * Cannot fail. */
void cv_cache_publish(struct cv_cache *c, struct cv_version *v, lsn_t lsn);
/* Somebody else changed `pgno` in the commit that ends at `lsn`. Cannot fail. */
void cv_cache_change(struct cv_cache *c, pgno_t pgno, lsn_t lsn);
/* Takes a version that was fetched for a reader at `at_lsn`; `version_lsn` <= at_lsn. */
void cv_cache_fetched(struct cv_cache *c, struct cv_version *v, lsn_t version_lsn, lsn_t at_lsn);

/* Everything up to `lsn` is durable: PENDING becomes FRESH. No snapshot below `oldest` is read
 * here: what only such a one could see is dropped with the version that took its place. A page that
 * every commit changes would else fill the budget with what nobody reads. */
void cv_cache_durable(struct cv_cache *c, lsn_t lsn, lsn_t oldest);
/* The pageserver has everything up to `lsn`: FRESH becomes PROBATION. */
void cv_cache_ingested(struct cv_cache *c, lsn_t lsn);
/* Nothing above `lsn` exists any more. */
void cv_cache_rollback(struct cv_cache *c, lsn_t lsn);

/* How far the pageserver must have got to know the page as of `lsn`: its newest known change. */
lsn_t cv_cache_not_modified_since(const struct cv_cache *c, pgno_t pgno, lsn_t lsn);

/* The newest known change of a page; where there was none, where knowledge began. */
lsn_t cv_cache_newest(const struct cv_cache *c, pgno_t pgno);
/* How many changes were told since knowledge began. */
uint64_t cv_cache_told(const struct cv_cache *c);

/* One version after the other, in no order: the first with NULL, and NULL at the end. */
struct cv_version *cv_cache_next(const struct cv_cache *c, struct cv_version *v);

void cv_cache_stats(const struct cv_cache *c, struct cv_cache_stats *out);

#endif
