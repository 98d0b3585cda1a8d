/*
 * page_overflow.h - page_diff.c and page_overflow.c between them: what is known about the changed
 * pages. Pure.
 */
#ifndef CORALLITE_CLI_PAGE_OVERFLOW_H
#define CORALLITE_CLI_PAGE_OVERFLOW_H

#include "cli/page_diff.h"

#define PD_NOBODY (-1)

enum { PD_ABSENT = 0, PD_OTHER = 1 }; /* beside enum bt_kind: overflow, trunk or free page */

/* A page that is not the same on both sides. */
struct pd_page {
    pgno_t pgno;
    int kind[2];
    int owner[2];   /* tree in which it was found */
    pgno_t next[2]; /* PD_OTHER: the number that it begins with */
    bool explained;
};

/* A child of a changed inner page that was found in a tree. */
struct pd_child {
    uint32_t tree;
    pgno_t pgno;
    struct pd_range range; /* of a table */
};

struct pd_children {
    struct pd_child *list;
    size_t n, cap;
};

struct pd_work {
    struct page_diff *d;
    struct pd_page *pages; /* ascending */
    size_t n_pages;
    struct pd_children children[2];
    size_t n_open;    /* overflow pages that are not explained yet */
    bool keys_wanted; /* there is a table WITHOUT ROWID */
    size_t last;      /* tree that was found last */
    uint8_t *image[2];
    uint8_t *visited[2]; /* pages of indexes whose keys were handed out, a bit each */
};

/* The tree in which a page hangs, or PD_NOBODY. */
CO_MUST_CHECK int pd_find_table(struct pd_work *w, int side, pgno_t pgno,
                                const struct bt_page *page, int *owner, struct bt_bounds *bounds);
CO_MUST_CHECK int pd_find_index(struct pd_work *w, int side, pgno_t pgno,
                                const struct bt_page *page, int *owner);
/* Takes all rows of a page of a b-tree for changed. */
CO_MUST_CHECK int pd_take_page(struct pd_work *w, int side, pgno_t pgno);
/* Changed overflow pages: whose they are. */
CO_MUST_CHECK int pd_see_overflow(struct pd_work *w);

#endif
