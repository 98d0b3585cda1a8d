/*
 * btree_page.h - one page of a b-tree of SQLite's file format, read. Pure.
 *
 * Whatever is read is untrusted: each offset and number is compared with its bound, and what does
 * not hold is CO_ERR_CORRUPT with a sentence.
 */
#ifndef CORALLITE_PROTO_BTREE_PAGE_H
#define CORALLITE_PROTO_BTREE_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "proto/lsn.h"

/* The first byte of a page of a b-tree. */
enum bt_kind {
    BT_INDEX_INNER = 2,
    BT_TABLE_INNER = 5,
    BT_INDEX_LEAF = 10,
    BT_TABLE_LEAF = 13,
};

struct bt_page {
    const uint8_t *data; /* borrowed */
    uint32_t usable;     /* page size less what is reserved */
    uint32_t header;     /* where its header begins: 100 on page 1 */
    int kind;            /* enum bt_kind */
    unsigned n_cells;
    pgno_t right; /* of an inner page: the child behind the last cell */
};

struct bt_cell {
    pgno_t child;   /* of an inner page: holds what is not above this cell */
    int64_t rowid;  /* of a table */
    uint64_t bytes; /* of the record; 0 on an inner page of a table */
    const uint8_t *local;
    uint32_t local_bytes; /* so many of them are on this page */
    pgno_t overflow;      /* page with the next; 0: that is all */
};

/* SQLite's varint at the front of n bytes; 0: it ends behind them. */
size_t bt_get_varint(const uint8_t *p, size_t n, uint64_t *out);

/* What the first byte says: a kind, or 0. */
int bt_kind_of(const uint8_t *data, pgno_t pgno);
static inline bool bt_kind_is_leaf(int kind)
{
    return kind == BT_TABLE_LEAF || kind == BT_INDEX_LEAF;
}
static inline bool bt_kind_is_table(int kind)
{
    return kind == BT_TABLE_LEAF || kind == BT_TABLE_INNER;
}
static inline bool bt_kind_is_index(int kind)
{
    return kind == BT_INDEX_LEAF || kind == BT_INDEX_INNER;
}

/* `data` is a page of at least `usable` bytes. */
CO_MUST_CHECK int bt_page_open(struct bt_page *page, const uint8_t *data, uint32_t usable,
                               pgno_t pgno);
/* Cell i < n_cells. */
CO_MUST_CHECK int bt_page_cell(const struct bt_page *page, unsigned i, struct bt_cell *out);
/* Child i <= n_cells of an inner page. */
CO_MUST_CHECK int bt_page_child(const struct bt_page *page, unsigned i, pgno_t *out);

/* All children of an inner page in the order of their keys, as they stand there: their number. 0,
 * without a sentence: it is no inner page, makes no sense, or has more than `most`. */
unsigned bt_page_children(const uint8_t *data, uint32_t usable, pgno_t pgno, pgno_t *out,
                          unsigned most);
/* The page that follows this one in its chain: of overflow pages, or of trunks of the freelist. As
 * it stands there; 0: it is the last. Of a page of a b-tree it is a number of 2^25 and more. */
pgno_t bt_chain_next(const uint8_t *data);

#endif
