/* trees.h - pages of b-trees for the tests of what is asked for ahead. */
#ifndef CORALLITE_TESTS_TREES_H
#define CORALLITE_TESTS_TREES_H

#include <string.h>

#include "common/bytes.h"
#include "proto/btree_page.h"

#define TREE_PAGE 4096u

/* An inner page of a table with these children, n >= 2. */
static inline void make_inner(uint8_t page[TREE_PAGE], const pgno_t *child, unsigned n)
{
    uint8_t *pointers = page + 12;

    memset(page, 0, TREE_PAGE);
    page[0] = BT_TABLE_INNER;
    page[3] = (uint8_t)((n - 1) >> 8);
    page[4] = (uint8_t)(n - 1);
    co_put32be(page + 8, child[n - 1]);
    for (unsigned i = 0; i + 1 < n; i++) {
        unsigned at = TREE_PAGE - 5 * (i + 1);

        pointers[2 * i] = (uint8_t)(at >> 8);
        pointers[2 * i + 1] = (uint8_t)at;
        co_put32be(page + at, child[i]);
        page[at + 4] = 1;
    }
}

/* A page of a chain. */
static inline void make_link(uint8_t page[TREE_PAGE], pgno_t next)
{
    memset(page, 0xa5, TREE_PAGE);
    co_put32be(page, next);
}

static inline void make_leaf(uint8_t page[TREE_PAGE])
{
    memset(page, 0, TREE_PAGE);
    page[0] = BT_TABLE_LEAF;
}

#endif
