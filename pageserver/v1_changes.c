#include "pageserver/v1_changes.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/changes.h"

static int by_number(const void *a, const void *b)
{
    pgno_t x = *(const pgno_t *)a, y = *(const pgno_t *)b;
    return x < y ? -1 : x > y;
}

/* All pages of all commits, as they come. */
static int gather(struct co_span list, lsn_t since, struct co_buf *all, uint32_t *commits)
{
    lsn_t at = since;
    uint32_t pages, n;
    pgno_t *pgnos;
    int rc;
    *commits = 0;
    while ((rc = changes_get_commit(&list, at, &at, &pages, &pgnos, &n)) == 0) {
        ++*commits;
        rc = co_buf_append(all, pgnos, n * sizeof *pgnos);
        free(pgnos);
        if (rc)
            return rc;
    }
    return rc == CO_ERR_AGAIN ? 0 : rc;
}

int v1_changes_text(struct co_span list, lsn_t since, uint32_t db_pages, struct co_buf *out,
                    uint32_t *commits)
{
    struct co_buf all = {0};
    pgno_t last = 0;
    int rc = gather(list, since, &all, commits);
    pgno_t *pgnos = (pgno_t *)(void *)all.data;
    size_t n = all.len / sizeof *pgnos;
    if (!rc && n)
        qsort(pgnos, n, sizeof *pgnos, by_number);
    if (!rc)
        rc = co_buf_append(out, "[", 1);
    for (size_t i = 0; i < n && !rc; i++) {
        char number[16];
        if (pgnos[i] == last || pgnos[i] > db_pages)
            continue;
        int len = snprintf(number, sizeof number, "%s%u", last ? "," : "", pgnos[i]);
        last = pgnos[i];
        rc = co_buf_append(out, number, (size_t)len);
    }
    co_buf_free(&all);
    return rc ? rc : co_buf_append(out, "]", 1);
}
