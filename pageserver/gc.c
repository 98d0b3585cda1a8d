#include "pageserver/gc.h"

#include <stdlib.h>

#include "common/assert.h"
#include "common/error.h"

static int no_memory(void)
{
    return co_fail(CO_ERR_NOMEM, "no memory for a plan of what may go");
}

int ps_gc_add(struct ps_gc_plan *plan, const struct ps_gc_line *line, uint32_t *at)
{
    co_assert(line->parent == PS_GC_NO_LINE || line->parent < plan->n);
    if (plan->n == plan->cap) {
        uint32_t cap = plan->cap ? plan->cap * 2 : 16;
        struct ps_gc_line *more = realloc(plan->lines, cap * sizeof *more);
        if (!more)
            return no_memory();
        plan->lines = more;
        plan->cap = cap;
    }
    *at = plan->n++;
    plan->lines[*at] = *line;
    plan->lines[*at].points = NULL;
    plan->lines[*at].children = NULL;
    plan->lines[*at].n_points = plan->lines[*at].cap_points = plan->lines[*at].n_children = 0;
    return 0;
}

int ps_gc_keep(struct ps_gc_plan *plan, uint32_t at, struct ps_gc_point point)
{
    struct ps_gc_line *line = &plan->lines[at];
    while (line->parent != PS_GC_NO_LINE && point.lsn < line->start.lsn)
        line = &plan->lines[line->parent];
    if (line->n_points == line->cap_points) {
        uint32_t cap = line->cap_points ? line->cap_points * 2 : 4;
        struct ps_gc_point *more = realloc(line->points, cap * sizeof *more);
        if (!more)
            return no_memory();
        line->points = more;
        line->cap_points = cap;
    }
    line->points[line->n_points++] = point;
    return 0;
}

static int by_lsn(const void *x, const void *y)
{
    const struct ps_gc_point *a = x, *b = y;
    return (a->lsn > b->lsn) - (a->lsn < b->lsn);
}

struct child {
    lsn_t start;
    uint32_t at;
};

static int by_start(const void *x, const void *y)
{
    const struct child *a = x, *b = y;
    return a->start != b->start ? (a->start > b->start) - (a->start < b->start)
                                : (a->at > b->at) - (a->at < b->at);
}

int ps_gc_finish(struct ps_gc_plan *plan)
{
    struct child *all = calloc(plan->n + 1, sizeof *all);
    if (!all)
        return no_memory();
    for (uint32_t i = 0; i < plan->n; i++) {
        struct ps_gc_line *line = &plan->lines[i];
        all[i] = (struct child){line->start.lsn, i};
        if (line->n_points)
            qsort(line->points, line->n_points, sizeof *line->points, by_lsn);
        if (line->parent != PS_GC_NO_LINE)
            plan->lines[line->parent].n_children++;
    }
    qsort(all, plan->n, sizeof *all, by_start);
    int rc = 0;
    for (uint32_t i = 0; i < plan->n; i++) {
        struct ps_gc_line *line = &plan->lines[i];
        line->children = line->n_children ? calloc(line->n_children, sizeof(uint32_t)) : NULL;
        if (line->n_children && !line->children)
            rc = no_memory();
        line->n_children = 0;
    }
    for (uint32_t i = 0; !rc && i < plan->n; i++) {
        uint32_t parent = plan->lines[all[i].at].parent;
        if (parent != PS_GC_NO_LINE) {
            struct ps_gc_line *up = &plan->lines[parent];
            up->children[up->n_children++] = all[i].at;
        }
    }
    free(all);
    return rc;
}

void ps_gc_free(struct ps_gc_plan *plan)
{
    for (uint32_t i = 0; i < plan->n; i++) {
        free(plan->lines[i].points);
        free(plan->lines[i].children);
    }
    free(plan->lines);
    *plan = (struct ps_gc_plan){0};
}

/* -- Who sees what ----------------------------------------------------------------------------- */

struct look {
    const struct ps_gc_plan *plan;
    pgno_t pgno; /* 0: a commit */
    ps_gc_oldest_fn oldest;
    void *arg;
    int rc;
};

static bool reaches(const struct look *l, const struct ps_gc_point *point)
{
    return l->pgno <= point->db_pages;
}

static bool sees_through(struct look *l, uint32_t at);

/* The first child that begins at or above lsn. */
static uint32_t first_child(const struct look *l, const struct ps_gc_line *line, lsn_t lsn)
{
    uint32_t low = 0, high = line->n_children;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (l->plan->lines[line->children[mid]].start.lsn < lsn)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The first moment at which the timeline is looked at for this page. False: there is none. */
static bool first_moment(struct look *l, const struct ps_gc_line *line, struct ps_gc_point *out)
{
    bool any = line->from.lsn <= line->to;
    *out = line->from;
    if (line->n_points && (!any || line->points[0].lsn < out->lsn)) {
        *out = line->points[0];
        any = true;
    }
    for (uint32_t i = 0; i < line->n_children; i++) {
        const struct ps_gc_line *child = &l->plan->lines[line->children[i]];
        if (any && child->start.lsn >= out->lsn)
            break;
        if (sees_through(l, line->children[i])) {
            *out = child->start;
            return true;
        }
    }
    return any;
}

/* Does the branch see its ancestor's version? It does at the first moment that it keeps, or never:
 * unless it has written the page itself by then, or was cut off before it. */
static bool sees_through(struct look *l, uint32_t at)
{
    const struct ps_gc_line *line = &l->plan->lines[at];
    struct ps_gc_point first;
    lsn_t own = PS_GC_END;
    if (!reaches(l, &line->start) || !first_moment(l, line, &first) || !reaches(l, &first))
        return false;
    if (first.lsn <= line->start.lsn || l->pgno == 0)
        return true; /* its own versions are all newer */
    if (!l->rc)
        l->rc = l->oldest(l->arg, line->no, l->pgno, &own);
    return own > first.lsn;
}

/* The first point at or above lsn. */
static uint32_t first_point(const struct ps_gc_line *line, lsn_t lsn)
{
    uint32_t low = 0, high = line->n_points;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (line->points[mid].lsn < lsn)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Is there a moment of the range in [a, b) that reaches the page? What was written within the range
 * was reached when it was written. */
static bool range_needs(const struct look *l, const struct ps_gc_line *line, lsn_t a, lsn_t b)
{
    if (line->from.lsn > line->to || b <= line->from.lsn || a > line->to)
        return false;
    return a > line->from.lsn || reaches(l, &line->from);
}

int ps_gc_needed(const struct ps_gc_plan *plan, uint32_t at, pgno_t pgno, lsn_t a, lsn_t b,
                 ps_gc_oldest_fn oldest, void *arg, bool *needed)
{
    struct look l = {.plan = plan, .pgno = pgno, .oldest = oldest, .arg = arg};
    const struct ps_gc_line *line = &plan->lines[at];
    bool found = range_needs(&l, line, a, b);
    /* As with the branches: reached at the first moment in [a, b), or at none of them. */
    uint32_t p = first_point(line, a);
    if (!found && p < line->n_points && line->points[p].lsn < b)
        found = reaches(&l, &line->points[p]);
    for (uint32_t i = first_child(&l, line, a); !found && i < line->n_children; i++) {
        if (plan->lines[line->children[i]].start.lsn >= b)
            break;
        found = sees_through(&l, line->children[i]);
    }
    *needed = found;
    return l.rc;
}
