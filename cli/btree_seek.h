/*
 * btree_seek.h - a database as it was at one moment, page by page: where a page hangs in a b-tree,
 * records with what lies on overflow pages, the free pages, the pointer map. Pure: pages come
 * through a function of the caller.
 *
 * Everything returns 0, what `read` failed with, or CO_ERR_CORRUPT when pages make no sense. No
 * walk is longer than the database has pages, or deeper than SQLite allows.
 */
#ifndef CORALLITE_CLI_BTREE_SEEK_H
#define CORALLITE_CLI_BTREE_SEEK_H

#include "proto/btree_page.h"
#include "cli/btree_record.h"

#define BT_DEPTH_MAX 20 /* SQLite's own limit */

struct bt_file {
    int (*read)(void *context, pgno_t pgno, uint8_t *out); /* fills page_size bytes */
    void *context;
    uint32_t page_size, usable;
    pgno_t n_pages;
    bool auto_vacuum;              /* there are pages of the pointer map */
    uint8_t *levels[BT_DEPTH_MAX]; /* a page a level, for the walks here */
    uint8_t *spare;                /* overflow and trunk pages */
    struct co_buf key[2];          /* records that are decoded */
};

/* Reads page 1 for what it says about the file. Free with bt_file_close, after a failure too. */
CO_MUST_CHECK int bt_file_open(struct bt_file *f, int (*read)(void *, pgno_t, uint8_t *),
                               void *context, uint32_t page_size, pgno_t n_pages);
void bt_file_close(struct bt_file *f);
/* A page; CO_ERR_CORRUPT when there is none of that number. */
CO_MUST_CHECK int bt_file_read(struct bt_file *f, pgno_t pgno, uint8_t *out);

/* Of which rowids a page is, by the keys above it: all of [lo, hi]. */
struct bt_bounds {
    int64_t lo, hi;
};

/* Does the way from `root` to a rowid lead over page `target`? */
CO_MUST_CHECK int bt_seek_rowid(struct bt_file *f, pgno_t root, int64_t rowid, pgno_t target,
                                bool *found, struct bt_bounds *bounds);
/* The same in an index, for the key of values. With a collation that is not known it may say no
 * where the answer is yes, never the other way. */
CO_MUST_CHECK int bt_seek_key(struct bt_file *f, pgno_t root, const struct bt_key *key,
                              const struct bt_value *values, pgno_t target, bool *found);

/* The first `want` values of a cell's record, which last until `slot` (0 or 1) is used again.
 * bt_seek_key uses slot 1. */
CO_MUST_CHECK int bt_cell_values(struct bt_file *f, const struct bt_cell *cell, unsigned want,
                                 int slot, struct bt_value *out);

/* Calls `visit` for each free page until it answers false. */
CO_MUST_CHECK int bt_each_free(struct bt_file *f, bool (*visit)(void *context, pgno_t pgno),
                               void *context);

/* Is this a page of the pointer map? */
bool bt_is_map_page(const struct bt_file *f, pgno_t pgno);
/* Whose page an overflow page is, by the pointer map: *first: `parent` is the page of the b-tree,
 * else the overflow page before it. */
CO_MUST_CHECK int bt_map_parent(struct bt_file *f, pgno_t pgno, bool *first, pgno_t *parent);

#endif
