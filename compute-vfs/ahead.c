#include "compute-vfs/ahead.h"

#include <stdbool.h>

static bool continues(pgno_t end, pgno_t pgno)
{
    return end != 0 && pgno >= end && pgno - end <= CV_AHEAD_GAP;
}

uint32_t cv_ahead_missed(struct cv_ahead *a, pgno_t pgno, uint32_t db_pages, uint32_t page_size)
{
    uint32_t most = CV_AHEAD_MAX_BYTES / page_size, n = 1;

    if (continues(a->end, pgno)) {
        n = a->n * 2;
    } else if (continues(a->other, pgno)) {
        n = 2;
        a->other = 0;
    } else {
        a->first = 0;
        a->other = pgno + 1;
        if (a->end == 0)
            a->end = a->other, a->other = 0, a->n = 1;
        return 1;
    }
    if (most > CV_AHEAD_MAX)
        most = CV_AHEAD_MAX;
    n = n > most ? most : n;
    if (pgno >= db_pages)
        n = 1;
    else if (n > db_pages - pgno + 1)
        n = db_pages - pgno + 1;
    if (pgno < a->never && n > a->never - pgno)
        n = a->never - pgno;
    a->first = pgno;
    return n > 0 ? n : 1;
}

void cv_ahead_asked(struct cv_ahead *a, uint32_t n)
{
    if (a->first == 0 || n == 0)
        return; /* a miss that belongs to no run */
    a->end = a->first + n;
    a->n = n;
}
