/*
 * gc.h - what may go: the moments that stay readable, and whether one of them sees a version. Pure.
 *
 * A plan holds the timelines of one database. A timeline keeps the moments in [from, to] of its own
 * log and single further ones (points: pins, moments that somebody reads); a branch is a point of
 * its ancestor for the pages that it has not written itself before the first moment that it keeps.
 *
 * The version of a page written at `a` and overwritten at `b` is what every moment in [a, b) sees.
 * It is needed if the timeline keeps one there at which the database still reached that page, or if
 * a branch begins there that sees it. (A database that shrank and grows again writes the pages that
 * it gains anew: a version that lies beyond the end at one moment is never seen by a later one.)
 *
 * A plan is a snapshot. It stays right while it is carried out: what is kept later, a new pin or a
 * branch, can only be of a moment that is readable, hence kept; what is given up meanwhile goes the
 * next time.
 */
#ifndef CORALLITE_PAGESERVER_GC_H
#define CORALLITE_PAGESERVER_GC_H

#include <stdbool.h>

#include "pageserver/keys.h"

#define PS_GC_NO_LINE UINT32_MAX
#define PS_GC_END     UINT64_MAX /* the `b` of what was not overwritten; the `to` of what goes on */

/* A moment, and how many pages the database had. */
struct ps_gc_point {
    lsn_t lsn;
    uint32_t db_pages;
};

struct ps_gc_line {
    tlno_t no;
    uint32_t parent;          /* place in the plan, PS_GC_NO_LINE: a root */
    struct ps_gc_point start; /* where its own log begins */
    struct ps_gc_point from;  /* at or above start; its pages: 0 when the database was empty */
    lsn_t to;                 /* below from: the timeline itself keeps nothing */
    struct ps_gc_point *points;
    uint32_t n_points, cap_points;
    uint32_t *children; /* by where they begin; made by ps_gc_finish */
    uint32_t n_children;
};

struct ps_gc_plan {
    struct ps_gc_line *lines; /* ancestors before their branches */
    uint32_t n, cap;
};

/* Adds a timeline (its parent was added before); *at is its place. CO_ERR_NOMEM. */
CO_MUST_CHECK int ps_gc_add(struct ps_gc_plan *plan, const struct ps_gc_line *line, uint32_t *at);
/* Keeps one moment of a timeline, or, where that lies below its begin, of the ancestor that has it.
 */
CO_MUST_CHECK int ps_gc_keep(struct ps_gc_plan *plan, uint32_t at, struct ps_gc_point point);
/* All is added. */
CO_MUST_CHECK int ps_gc_finish(struct ps_gc_plan *plan);
void ps_gc_free(struct ps_gc_plan *plan);

/* The LSN of the oldest version of a page that a timeline has itself; PS_GC_END: none. */
typedef int (*ps_gc_oldest_fn)(void *arg, tlno_t no, pgno_t pgno, lsn_t *lsn);

/* Is what was written at `a` and overwritten at `b` needed? pgno 0: a commit. An error is the
 * function's. */
CO_MUST_CHECK int ps_gc_needed(const struct ps_gc_plan *plan, uint32_t at, pgno_t pgno, lsn_t a,
                               lsn_t b, ps_gc_oldest_fn oldest, void *arg, bool *needed);

#endif
