/*
 * page_diff.c - see page_diff.h.
 *
 * Each changed page is read as it was on both sides and looked for from the roots: a page that the
 * way to its own first key leads over is part of that tree. From there:
 *
 *   a leaf of a table      the rowids that it may hold, by the keys above it, are a range
 *   an inner page          its children are noted; a child that has a place on one side only takes
 *                          its whole range (or its keys) with it, for pages that are freed or put
 *                          elsewhere are not written themselves
 *   a page of an index     WITHOUT ROWID: its keys. One that is found nowhere may be the old
 *                          content of a free page: its keys and its children's are taken all the
 * same an overflow page       page_overflow.c
 */
#include "cli/page_diff.h"

#include <stdlib.h>

#include "cli/page_overflow.h"
#include "common/assert.h"

#define PAGES_MAX (1u << 25) /* from here on a next page's number may look like a kind */

/* -- findings ------------------------------------------------------------------------------------
 */

static int no_memory(void)
{
    return co_fail(CO_ERR_NOMEM, "there is no memory to compare pages");
}

static int add_range(struct pd_tree *t, int64_t lo, int64_t hi)
{
    if ((t->n_ranges & (t->n_ranges - 1)) == 0) { /* full at the powers of two */
        size_t n = t->n_ranges ? 2 * t->n_ranges : 1;
        struct pd_range *more = realloc(t->ranges, n * sizeof *more);
        if (!more)
            return no_memory();
        t->ranges = more;
    }
    t->ranges[t->n_ranges++] = (struct pd_range){lo, hi};
    return 0;
}

static int by_lo(const void *a, const void *b)
{
    int64_t x = ((const struct pd_range *)a)->lo, y = ((const struct pd_range *)b)->lo;
    return (x > y) - (x < y);
}

static void merge_ranges(struct pd_tree *t)
{
    size_t n = 0;
    if (t->n_ranges > 1)
        qsort(t->ranges, t->n_ranges, sizeof *t->ranges, by_lo);
    for (size_t i = 0; i < t->n_ranges; i++) {
        struct pd_range r = t->ranges[i];
        if (n && (t->ranges[n - 1].hi == INT64_MAX || r.lo <= t->ranges[n - 1].hi + 1)) {
            if (r.hi > t->ranges[n - 1].hi)
                t->ranges[n - 1].hi = r.hi;
        } else {
            t->ranges[n++] = r;
        }
    }
    t->n_ranges = n;
}

static int add_child(struct pd_work *w, int side, struct pd_child child)
{
    struct pd_children *list = &w->children[side];
    if (list->n == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 256;
        struct pd_child *more = realloc(list->list, cap * sizeof *more);
        if (!more)
            return no_memory();
        list->list = more;
        list->cap = cap;
    }
    list->list[list->n++] = child;
    return 0;
}

/* -- tables with rowids --------------------------------------------------------------------------
 */

/* The rowid by which a page is looked for; false: it has none. */
static int first_rowid(const struct bt_page *page, int64_t *rowid, bool *has)
{
    struct bt_cell cell;
    *has = page->n_cells > 0;
    if (!*has)
        return 0;
    int rc = bt_page_cell(page, 0, &cell);
    *rowid = cell.rowid;
    return rc;
}

int pd_find_table(struct pd_work *w, int side, pgno_t pgno, const struct bt_page *page, int *owner,
                  struct bt_bounds *bounds)
{
    struct page_diff *d = w->d;
    int64_t rowid = 0;
    bool has, found = false;
    int rc = first_rowid(page, &rowid, &has);
    *owner = PD_NOBODY;
    /* Neighbours are mostly of one table: the last one that was right is tried first. */
    for (size_t i = 0; i < d->n_trees && !rc && !found; i++) {
        size_t k = i == 0 ? w->last : (i <= w->last ? i - 1 : i);
        const struct pd_tree *t = &d->trees[k];
        if (t->index || !t->root[side] || (!has && t->root[side] != pgno))
            continue;
        rc = bt_seek_rowid(&d->file[side], t->root[side], rowid, pgno, &found, bounds);
        if (!rc && found) {
            *owner = (int)k;
            w->last = k;
        }
    }
    if (!rc && !found && !has && page->kind == BT_TABLE_INNER)
        rc = co_fail(CO_ERR_CORRUPT, "an inner page without a cell");
    return rc;
}

static int note_table_children(struct pd_work *w, int side, const struct bt_page *page, int owner,
                               struct bt_bounds bounds)
{
    struct bt_cell cell = {0};
    int64_t lo = bounds.lo;
    int rc = 0;
    for (unsigned i = 0; i <= page->n_cells && !rc; i++) {
        struct pd_child child = {.tree = (uint32_t)owner, .range = {lo, bounds.hi}};
        if (i < page->n_cells) {
            rc = bt_page_cell(page, i, &cell);
            child.range.hi = cell.rowid;
            lo = cell.rowid < INT64_MAX ? cell.rowid + 1 : cell.rowid;
        }
        if (!rc)
            rc = bt_page_child(page, i, &child.pgno);
        if (!rc)
            rc = add_child(w, side, child);
    }
    return rc;
}

static int see_table_page(struct pd_work *w, int side, struct pd_page *p,
                          const struct bt_page *page)
{
    struct bt_bounds bounds;
    int rc = pd_find_table(w, side, p->pgno, page, &p->owner[side], &bounds);
    if (rc || p->owner[side] == PD_NOBODY || !w->d->trees[p->owner[side]].wanted)
        return rc;
    if (page->kind == BT_TABLE_LEAF)
        return add_range(&w->d->trees[p->owner[side]], bounds.lo, bounds.hi);
    return note_table_children(w, side, page, p->owner[side], bounds);
}

/* -- indexes, and tables WITHOUT ROWID -----------------------------------------------------------
 */

int pd_find_index(struct pd_work *w, int side, pgno_t pgno, const struct bt_page *page, int *owner)
{
    struct page_diff *d = w->d;
    struct bt_file *f = &d->file[side];
    struct bt_value values[BT_KEY_COLUMNS_MAX];
    struct bt_cell cell;
    bool found = false;
    int rc = 0;
    *owner = PD_NOBODY;
    for (size_t i = 0; i < d->n_trees && !rc && !found; i++) {
        const struct pd_tree *t = &d->trees[i];
        if (!t->index || !t->root[side])
            continue;
        found = t->root[side] == pgno;
        if (!found && page->n_cells) {
            rc = bt_page_cell(page, 0, &cell);
            if (!rc)
                rc = bt_cell_values(f, &cell, t->key.n, 0, values);
            if (!rc)
                rc = bt_seek_key(f, t->root[side], &t->key, values, pgno, &found);
            if (rc == CO_ERR_CORRUPT) /* no record of this tree, then */
                rc = 0;
        }
        if (found)
            *owner = (int)i;
    }
    return rc;
}

/* Hands out the keys of a page to a table, or to all: PD_NOBODY. */
static int put_keys(struct pd_work *w, int side, const struct bt_page *page, int owner)
{
    struct page_diff *d = w->d;
    struct bt_value values[BT_KEY_COLUMNS_MAX];
    struct bt_cell cell;
    int rc = 0;
    for (unsigned i = 0; i < page->n_cells && !rc; i++) {
        rc = bt_page_cell(page, i, &cell);
        for (size_t t = 0; t < d->n_trees && !rc; t++) {
            const struct pd_tree *tree = &d->trees[t];
            if (!tree->index || !tree->wanted || (owner != PD_NOBODY && (size_t)owner != t))
                continue;
            rc = bt_cell_values(&d->file[side], &cell, tree->key.n, 0, values);
            if (!rc)
                rc = d->key(d->context, t, values, tree->key.n);
            else if (rc == CO_ERR_CORRUPT && owner == PD_NOBODY)
                rc = 0; /* no row of this table */
        }
    }
    return rc;
}

/* The keys of all pages from one on. A page that is seen twice is not of a tree: it has been told.
 */
static int put_subtree(struct pd_work *w, int side, pgno_t pgno, int owner, int depth)
{
    struct bt_file *f = &w->d->file[side];
    struct bt_page page;
    if (depth >= BT_DEPTH_MAX)
        return co_fail(CO_ERR_CORRUPT, "a b-tree is too deep");
    if (pgno == 0 || pgno > f->n_pages)
        return owner == PD_NOBODY ? 0 : co_fail(CO_ERR_CORRUPT, "a child lies outside");
    if (w->visited[side][pgno / 8] & (1u << pgno % 8))
        return 0;
    w->visited[side][pgno / 8] |= (uint8_t)(1u << pgno % 8);
    int rc = bt_file_read(f, pgno, f->levels[depth]);
    if (!rc && owner == PD_NOBODY && !bt_kind_is_index(bt_kind_of(f->levels[depth], pgno)))
        return 0; /* it has become something else long ago */
    if (!rc)
        rc = bt_page_open(&page, f->levels[depth], f->usable, pgno);
    if (!rc)
        rc = put_keys(w, side, &page, owner);
    for (unsigned i = 0; !rc && page.kind == BT_INDEX_INNER && i <= page.n_cells; i++) {
        pgno_t child;
        rc = bt_page_child(&page, i, &child);
        if (!rc)
            rc = put_subtree(w, side, child, owner, depth + 1);
    }
    return rc;
}

static int see_index_page(struct pd_work *w, int side, struct pd_page *p,
                          const struct bt_page *page)
{
    if (!w->keys_wanted)
        return 0;
    int rc = pd_find_index(w, side, p->pgno, page, &p->owner[side]);
    int owner = p->owner[side];
    if (rc || (owner != PD_NOBODY && !w->d->trees[owner].wanted))
        return rc;
    rc = put_keys(w, side, page, owner);
    for (unsigned i = 0; !rc && page->kind == BT_INDEX_INNER && i <= page->n_cells; i++) {
        struct pd_child child = {.tree = (uint32_t)owner};
        rc = bt_page_child(page, i, &child.pgno);
        if (!rc && owner == PD_NOBODY)
            rc = put_subtree(w, side, child.pgno, owner, 0);
        else if (!rc)
            rc = add_child(w, side, child);
    }
    return rc;
}

/* -- the changed pages ---------------------------------------------------------------------------
 */

static int see_side(struct pd_work *w, int side, struct pd_page *p, const uint8_t *data)
{
    struct bt_page page;
    p->kind[side] = PD_OTHER;
    p->next[side] = co_get32be(data);
    if (!bt_kind_of(data, p->pgno)) {
        if (data[0] > 1)
            return co_fail(CO_ERR_CORRUPT, "a page is of no kind");
        return 0;
    }
    int rc = bt_page_open(&page, data, w->d->file[side].usable, p->pgno);
    if (rc)
        return rc;
    p->kind[side] = page.kind;
    return bt_kind_is_table(page.kind) ? see_table_page(w, side, p, &page)
                                       : see_index_page(w, side, p, &page);
}

static int see_page(struct pd_work *w, pgno_t pgno)
{
    struct pd_page p = {.pgno = pgno, .owner = {PD_NOBODY, PD_NOBODY}};
    bool there[2];
    int rc = 0;
    if (bt_is_map_page(&w->d->file[0], pgno))
        return 0;
    for (int side = 0; side < 2 && !rc; side++) {
        there[side] = pgno <= w->d->file[side].n_pages;
        if (there[side])
            rc = bt_file_read(&w->d->file[side], pgno, w->image[side]);
    }
    if (!rc && there[0] && there[1] &&
        memcmp(w->image[0], w->image[1], w->d->file[0].page_size) == 0)
        return 0;
    for (int side = 0; side < 2 && !rc; side++)
        if (there[side])
            rc = see_side(w, side, &p, w->image[side]);
    if (!rc)
        w->pages[w->n_pages++] = p;
    return rc;
}

/* -- children with a place on one side only ------------------------------------------------------
 */

static int by_child(const void *a, const void *b)
{
    const struct pd_child *x = a, *y = b;
    if (x->tree != y->tree)
        return x->tree < y->tree ? -1 : 1;
    return (x->pgno > y->pgno) - (x->pgno < y->pgno);
}

static int see_moved(struct pd_work *w, int side, const struct pd_child *child)
{
    struct pd_tree *t = &w->d->trees[child->tree];
    if (!t->index)
        return add_range(t, child->range.lo, child->range.hi);
    return put_subtree(w, side, child->pgno, (int)child->tree, 0);
}

static int see_children(struct pd_work *w)
{
    struct pd_children *c = w->children;
    size_t i = 0, k = 0;
    int rc = 0;
    for (int side = 0; side < 2; side++)
        if (c[side].n)
            qsort(c[side].list, c[side].n, sizeof *c[side].list, by_child);
    while (!rc && (i < c[0].n || k < c[1].n)) {
        int order = i >= c[0].n ? 1 : k >= c[1].n ? -1 : by_child(&c[0].list[i], &c[1].list[k]);
        if (order < 0)
            rc = see_moved(w, 0, &c[0].list[i]);
        else if (order > 0)
            rc = see_moved(w, 1, &c[1].list[k]);
        i += order <= 0;
        k += order >= 0;
    }
    return rc;
}

int pd_take_page(struct pd_work *w, int side, pgno_t pgno)
{
    struct bt_file *f = &w->d->file[side];
    struct bt_page page;
    struct bt_bounds bounds;
    int owner, rc = bt_file_read(f, pgno, w->image[side]);
    if (!rc)
        rc = bt_page_open(&page, w->image[side], f->usable, pgno);
    if (rc)
        return rc;
    if (bt_kind_is_index(page.kind))
        return put_keys(w, side, &page, PD_NOBODY);
    rc = pd_find_table(w, side, pgno, &page, &owner, &bounds);
    if (!rc && owner == PD_NOBODY)
        rc = co_fail(CO_ERR_CORRUPT, "a long row belongs to no table");
    if (rc || !w->d->trees[owner].wanted)
        return rc;
    return add_range(&w->d->trees[owner], bounds.lo, bounds.hi);
}

/* -- all of it -----------------------------------------------------------------------------------
 */

static int begin(struct pd_work *w, size_t n)
{
    struct page_diff *d = w->d;
    for (size_t i = 0; i < d->n_trees; i++)
        w->keys_wanted = w->keys_wanted || (d->trees[i].index && d->trees[i].wanted);
    w->pages = calloc(n ? n : 1, sizeof *w->pages);
    for (int side = 0; side < 2; side++) {
        w->image[side] = malloc(d->file[side].page_size);
        w->visited[side] = calloc(1, d->file[side].n_pages / 8 + 1);
        if (!w->image[side] || !w->visited[side])
            return no_memory();
    }
    return w->pages ? 0 : no_memory();
}

static void end(struct pd_work *w)
{
    free(w->pages);
    for (int side = 0; side < 2; side++) {
        free(w->image[side]);
        free(w->visited[side]);
        free(w->children[side].list);
    }
}

static const char *cannot_be_compared(const struct page_diff *d)
{
    const struct bt_file *a = &d->file[0], *b = &d->file[1];
    if (a->page_size != b->page_size || a->usable != b->usable || a->auto_vacuum != b->auto_vacuum)
        return "the pages are of another form";
    return a->n_pages >= PAGES_MAX || b->n_pages >= PAGES_MAX ? "there are too many pages" : NULL;
}

int page_diff_run(struct page_diff *d, const pgno_t *changed, size_t n)
{
    struct pd_work w = {.d = d};
    d->why = cannot_be_compared(d);
    d->whole = d->why != NULL;
    int rc = d->whole || n == 0 ? 0 : begin(&w, n);
    for (size_t i = 0; i < n && !rc && !d->whole; i++)
        rc = see_page(&w, changed[i]);
    if (!rc && !d->whole)
        rc = see_children(&w);
    if (!rc && !d->whole)
        rc = pd_see_overflow(&w);
    end(&w);
    for (size_t i = 0; i < d->n_trees; i++)
        merge_ranges(&d->trees[i]);
    if (rc == CO_ERR_CORRUPT) { /* nothing is concluded from what is not understood */
        d->whole = true;
        d->why = "the pages are not understood";
        rc = 0;
    }
    return rc;
}

void page_diff_free(struct page_diff *d)
{
    for (int side = 0; side < 2; side++)
        bt_file_close(&d->file[side]);
    for (size_t i = 0; i < d->n_trees; i++)
        free(d->trees[i].ranges);
}
