/*
 * page_overflow.c - changed pages that are no pages of a b-tree.
 *
 * A long row's tail can be overwritten in place: then its leaf stays as it is, and an overflow page
 * is all that changed. Such a page is in use on both sides, and in neither the leaf of its row has
 * changed. So what is free on a side, or belongs on a side to a row of a changed page, is
 * explained; for the rest the pointer map of auto_vacuum names the row's leaf. Without one
 * everything is compared.
 */
#include "cli/page_overflow.h"

#include <stdlib.h>

#include "common/assert.h"

/* Pages that are read to follow chains: so many, and so many more for each changed page. */
#define READS_MIN      256u
#define READS_PER_PAGE 4u
#define CHAIN_MAX      100000u /* back along a chain by the pointer map */
#define NEAR_PAGES     128u    /* looked at before an overflow page */
#define NEAR_READS     2048u   /* of all chains that are followed from there */

static bool is_open(const struct pd_page *p)
{
    return !p->explained && p->kind[0] == PD_OTHER && p->kind[1] == PD_OTHER;
}

static void explain(struct pd_work *w, struct pd_page *p)
{
    w->n_open -= is_open(p);
    p->explained = true;
}

static int by_number(const void *key, const void *page)
{
    pgno_t a = *(const pgno_t *)key, b = ((const struct pd_page *)page)->pgno;
    return (a > b) - (a < b);
}

static struct pd_page *changed_page(const struct pd_work *w, pgno_t pgno)
{
    return bsearch(&pgno, w->pages, w->n_pages, sizeof *w->pages, by_number);
}

/* -- free pages ----------------------------------------------------------------------------------
 */

static bool explain_free(void *context, pgno_t pgno)
{
    struct pd_work *w = context;
    struct pd_page *p = changed_page(w, pgno);
    if (p)
        explain(w, p);
    return w->n_open > 0;
}

/* -- rows of changed pages -----------------------------------------------------------------------
 */

static int follow(struct pd_work *w, int side, pgno_t pgno, size_t *reads)
{
    struct bt_file *f = &w->d->file[side];
    while (pgno) {
        struct pd_page *p = changed_page(w, pgno);
        if (p && p->kind[side] == PD_OTHER) {
            explain(w, p);
            pgno = p->next[side];
            if (p->pgno == pgno || *reads == 0)
                return 0;
            (*reads)--;
            continue;
        }
        if (*reads == 0)
            return 0;
        (*reads)--;
        int rc = bt_file_read(f, pgno, f->spare);
        if (rc)
            return rc;
        pgno = co_get32be(f->spare);
    }
    return 0;
}

/* Only a page that hangs in a tree counts: the old content of a free page says nothing. */
static int explain_rows(struct pd_work *w, int side, const struct pd_page *p, size_t *reads)
{
    struct bt_file *f = &w->d->file[side];
    struct bt_page page;
    struct bt_cell cell;
    int owner = p->owner[side];
    int rc = bt_file_read(f, p->pgno, w->image[side]);
    if (!rc)
        rc = bt_page_open(&page, w->image[side], f->usable, p->pgno);
    if (!rc && owner == PD_NOBODY && bt_kind_is_index(page.kind))
        rc = pd_find_index(w, side, p->pgno, &page, &owner);
    if (rc || owner == PD_NOBODY || page.kind == BT_TABLE_INNER)
        return rc;
    for (unsigned i = 0; i < page.n_cells && !rc; i++) {
        rc = bt_page_cell(&page, i, &cell);
        if (!rc && cell.overflow)
            rc = follow(w, side, cell.overflow, reads);
    }
    return rc;
}

/* -- the pointer map -----------------------------------------------------------------------------
 */

static int take_by_map(struct pd_work *w, pgno_t pgno)
{
    for (unsigned i = 0; i < CHAIN_MAX; i++) {
        bool first;
        int rc = bt_map_parent(&w->d->file[0], pgno, &first, &pgno);
        if (rc)
            return rc;
        if (first)
            return pd_take_page(w, 0, pgno);
    }
    return co_fail(CO_ERR_CORRUPT, "a chain of overflow pages is too long");
}

/* -- the pages before ----------------------------------------------------------------------------
 */

static int chain_has(struct bt_file *f, pgno_t head, pgno_t pgno, unsigned *reads, bool *has)
{
    *has = head == pgno;
    while (!*has && head && *reads) {
        (*reads)--;
        int rc = bt_file_read(f, head, f->spare);
        if (rc == CO_ERR_CORRUPT)
            return 0; /* the old content of a free page */
        if (rc)
            return rc;
        head = co_get32be(f->spare);
        *has = head == pgno;
    }
    return 0;
}

/* Does a row of this page, which may be any page, reach the overflow page? */
static int page_has(struct pd_work *w, pgno_t leaf, pgno_t pgno, unsigned *reads, bool *has)
{
    struct bt_file *f = &w->d->file[0];
    struct bt_page page;
    struct bt_cell cell;
    int rc = bt_file_read(f, leaf, w->image[0]);
    *has = false;
    if (rc)
        return rc;
    int kind = bt_kind_of(w->image[0], leaf);
    if (kind != BT_TABLE_LEAF || bt_page_open(&page, w->image[0], f->usable, leaf) != 0)
        return 0;
    for (unsigned i = 0; i < page.n_cells && !rc && !*has; i++)
        if (bt_page_cell(&page, i, &cell) == 0 && cell.overflow)
            rc = chain_has(f, cell.overflow, pgno, reads, has);
    if (!rc && *has) { /* a free page may still hold the row: then it is in no tree */
        struct bt_bounds bounds;
        int owner;
        rc = pd_find_table(w, 0, leaf, &page, &owner, &bounds);
        *has = !rc && owner != PD_NOBODY;
    }
    return rc;
}

static int take_nearby(struct pd_work *w, struct pd_page *p)
{
    unsigned reads = NEAR_READS;
    for (pgno_t back = 1; back <= NEAR_PAGES && back < p->pgno && reads; back++) {
        bool has;
        int rc = page_has(w, p->pgno - back, p->pgno, &reads, &has);
        if (!rc && has) {
            explain(w, p);
            return pd_take_page(w, 0, p->pgno - back);
        }
        if (rc)
            return rc;
    }
    w->d->whole = true;
    w->d->why = "a long row was overwritten in place";
    return 0;
}

int pd_see_overflow(struct pd_work *w)
{
    size_t reads = READS_MIN + READS_PER_PAGE * w->n_pages;
    int rc = 0;
    for (size_t i = 0; i < w->n_pages; i++)
        w->n_open += is_open(&w->pages[i]);
    for (int side = 0; side < 2 && !rc && w->n_open; side++)
        rc = bt_each_free(&w->d->file[side], explain_free, w);
    for (int side = 0; side < 2 && !rc; side++)
        for (size_t i = 0; i < w->n_pages && !rc && w->n_open; i++)
            if (w->pages[i].kind[side] > PD_OTHER)
                rc = explain_rows(w, side, &w->pages[i], &reads);
    for (size_t i = 0; i < w->n_pages && !rc && w->n_open && !w->d->whole; i++) {
        if (!is_open(&w->pages[i]))
            continue;
        rc = w->d->file[0].auto_vacuum ? take_by_map(w, w->pages[i].pgno)
                                       : take_nearby(w, &w->pages[i]);
    }
    return rc;
}
