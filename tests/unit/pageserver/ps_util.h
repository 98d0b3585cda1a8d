/* ps_util.h - what the pageserver's tests share: directories, pages, records, a store. */
#ifndef CORALLITE_TEST_PS_UTIL_H
#define CORALLITE_TEST_PS_UTIL_H

#include "pageserver/ingest.h"
#include "proto/wal.h"

/* A new directory under /tmp, removed by ps_tmp_remove. */
char *ps_tmp(char out[64]);
void ps_tmp_remove(const char *dir);

/* The next of a series of random numbers; *state is not 0. */
uint64_t ps_random(uint64_t *state);

/* Page content that depends on every argument. kind: */
enum ps_fill { FILL_TEXT /* compresses well */, FILL_NOISE /* does not */, FILL_HALF };
void ps_fill(uint8_t *page, uint32_t size, enum ps_fill kind, uint64_t seed);
uint32_t ps_crc(const uint8_t *page, uint32_t size);

struct co_id ps_id(uint8_t n); /* all bytes n */

/* The options of a store in DIR/store. */
struct ps_store_options ps_test_store(const char *dir, char path[96]);

/* A writer of records: keeps the database's newest pages as a SQLite writer would. */
struct ps_scribe {
    struct co_id cluster, timeline;
    uint32_t page_size;
    lsn_t lsn;
    struct wal_digest digest;
    term_t term;
    uint64_t time_us;
    struct wal_builder *builder;
    uint8_t *pages; /* 1..max */
    lsn_t *versions;
    pgno_t max, db_pages;
};
void ps_scribe_init(struct ps_scribe *w, uint32_t page_size, pgno_t max);
void ps_scribe_free(struct ps_scribe *w);
uint8_t *ps_scribe_page(struct ps_scribe *w, pgno_t pgno);
/* Commits these pages with new content (ascending), as deltas where there is a version; the record
 * is appended to `out`. */
void ps_scribe_txn(struct ps_scribe *w, struct co_buf *out, const pgno_t *pgnos, uint32_t n,
                   enum ps_fill kind, uint64_t seed);
/* Commits pages that the caller has changed in place (no deltas). */
void ps_scribe_images(struct ps_scribe *w, struct co_buf *out, const pgno_t *pgnos, uint32_t n);
void ps_scribe_config(struct ps_scribe *w, struct co_buf *out);
/* Goes on writing on a branch that begins there, with the pages as they are. */
void ps_scribe_branch(struct ps_scribe *w, const struct co_id *timeline, lsn_t lsn,
                      const struct wal_digest *digest);
/* The chain that ingest of a new timeline begins with. */
struct ps_chain ps_scribe_chain(const struct ps_scribe *w);

#endif
