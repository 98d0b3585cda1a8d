#include "compute-vfs/ahead.h"

void cv_ahead_free(struct cv_ahead *a)
{
    cv_siblings_free(&a->siblings);
}

void cv_ahead_saw(struct cv_ahead *a, pgno_t pgno, lsn_t version, const uint8_t *data,
                  uint32_t page_size, uint32_t db_pages)
{
    cv_run_saw(&a->run, pgno);
    cv_siblings_saw(&a->siblings, pgno, version, data, page_size);
    cv_chain_saw(&a->chain, pgno, data, db_pages);
}

/* Whatever a page says its children are: what may be asked for is kept. */
static void keep_possible(const struct cv_ahead *a, uint32_t db_pages, struct cv_wish *w)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < w->n; i++)
        if (w->also[i] != 0 && w->also[i] <= db_pages && w->also[i] != a->never)
            w->also[n++] = w->also[i];
    w->n = n;
}

void cv_ahead_missed(struct cv_ahead *a, pgno_t pgno, uint32_t db_pages, uint32_t page_size,
                     struct cv_wish *out)
{
    uint32_t most = CV_AHEAD_MAX_BYTES / page_size, run;
    bool known, scan;

    most = most > CV_AHEAD_MAX ? CV_AHEAD_MAX : most;
    run = cv_run_missed(&a->run, pgno, most);
    out->n = cv_siblings_missed(&a->siblings, pgno, most, out->also, &known, &scan);
    out->chain = cv_chain_missed(&a->chain, pgno, known, most);
    if (out->chain && out->chain + 1 >= run)
        out->n = 0;
    else
        out->chain = 0;
    if (!out->chain && !scan)
        for (out->n = 0; out->n + 1 < run; out->n++)
            out->also[out->n] = pgno + out->n + 1;
    keep_possible(a, db_pages, out);
}
