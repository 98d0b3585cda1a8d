/*
 * page_diff.h - which rows may differ between two moments of a database, told by the pages that
 * changed. Pure. Why it is complete: docs/decisions/0017.
 *
 * For each table whose rows are wanted the answer is a set of rowids (ranges) or, WITHOUT ROWID, of
 * primary keys, that holds every row which is not the same in both, and some that are; or that
 * cheap means do not tell: then everything is to be compared.
 */
#ifndef CORALLITE_CLI_PAGE_DIFF_H
#define CORALLITE_CLI_PAGE_DIFF_H

#include "cli/btree_seek.h"

struct pd_range {
    int64_t lo, hi; /* both belong to it */
};

/* A b-tree: of a table, of an index, or of a table WITHOUT ROWID. */
struct pd_tree {
    pgno_t root[2];          /* 0: not there on that side */
    bool index;              /* not a table with rowids */
    bool wanted;             /* rows are compared: the same definition and root on both sides */
    struct bt_key key;       /* of an index: by what it is ordered */
    struct pd_range *ranges; /* out; ascending, apart; free with page_diff_free */
    size_t n_ranges;
};

struct page_diff {
    struct bt_file file[2];
    struct pd_tree *trees; /* the caller's */
    size_t n_trees;
    /* A primary key of a wanted table WITHOUT ROWID; may come more than once. */
    int (*key)(void *context, size_t tree, const struct bt_value *values, unsigned n);
    void *context;
    bool whole;      /* out: it cannot be told; ranges and keys mean nothing */
    const char *why; /* out: of that */
};

/* `changed`: every page whose content is not the same at both moments, ascending; pages that lie
 * beyond one database's end may be left out. Fails only where reading, `key` or memory does. */
CO_MUST_CHECK int page_diff_run(struct page_diff *d, const pgno_t *changed, size_t n);
void page_diff_free(struct page_diff *d);

#endif
