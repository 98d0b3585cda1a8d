#include "compute-vfs/run.h"

#include <stdbool.h>

static bool continues(pgno_t end, pgno_t pgno)
{
    return end != 0 && pgno >= end && pgno - end <= CV_RUN_GAP;
}

void cv_run_saw(struct cv_run *r, pgno_t pgno)
{
    if (pgno == r->end)
        r->end++;
    else if (pgno == r->other)
        r->other++;
}

uint32_t cv_run_missed(struct cv_run *r, pgno_t pgno, uint32_t most)
{
    uint32_t n = 1;

    if (continues(r->end, pgno)) {
        n = r->n * 2;
    } else if (continues(r->other, pgno)) {
        n = 2;
        r->other = 0;
    } else {
        r->other = pgno + 1;
        if (r->end == 0)
            r->end = r->other, r->other = 0, r->n = 1;
        return 1;
    }
    n = n > most ? most : n;
    r->end = pgno + n;
    r->n = n;
    return n;
}
