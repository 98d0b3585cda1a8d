/*
 * view.h - what another thread may know of the timelines to read their pages: an explicit copy,
 * under a lock. Memory only: no I/O, no clock.
 *
 * The main loop owns the registry and puts here what can be read of each timeline; other loops look
 * here and nowhere else. What is not here, or does not suffice (the LSN has not come, the moment is
 * an ancestor's or below the cut), is a question for the main loop.
 *
 * A read has this order, and is right by it:
 *
 *   1. ps_view_look      how far the timeline can be read
 *   2. a read transaction of the store begins: all that 1 told of is in it
 *   3. ps_view_hold      it is still the same, and the moment is not below the cut
 *   4. pages are read
 *
 * Invariants
 *   W1 what is told to be reached is in the store before it is put here.
 *   W2 what is taken away from the store (a drop, a rebuild) is taken from the view before; put
 *      again, it is another generation, and a read that looked before does not hold it.
 *   W3 garbage of a timeline is collected below a cut that is here before. So a transaction that
 *      began before 3 lacks nothing that a moment at or above the cut of 3 sees.
 *   W4 a cut never passes a moment that was held and that the main loop has not been told of
 *      (ps_view_reads): it stays readable as long as if the main loop had read it.
 *
 * Threads: any, but one for what says "main loop".
 */
#ifndef CORALLITE_PAGESERVER_VIEW_H
#define CORALLITE_PAGESERVER_VIEW_H

#include "pageserver/store_lmdb.h"

struct ps_view;
struct ps_view_entry;

/* What answers need of a timeline, on whatever loop. */
struct ps_readable {
    const struct ps_line *line; /* immutable, lives as long as the store is open */
    lsn_t start_lsn;            /* its own log begins there; below it moments are its ancestor's */
    lsn_t reached;              /* it can be read up to here */
    lsn_t cutoff;               /* its own log is readable from here on */
    uint32_t page_size;         /* 0: not known yet */
    struct ps_commit newest;    /* at or below `reached`; lsn 0: none, the database is empty */
};

/* One that was looked at. */
struct ps_glance {
    struct ps_readable r;
    struct ps_view_entry *entry;
    uint64_t generation;
};

CO_MUST_CHECK int ps_view_new(struct ps_view **out);
void ps_view_free(struct ps_view *view);

/* -- Main loop --------------------------------------------------------------------------------- */

/* The timeline is readable so. Without memory it is not in the view, and the main loop reads it. */
void ps_view_put(struct ps_view *view, const struct ps_readable *r);
/* It is not readable. */
void ps_view_take(struct ps_view *view, const struct co_id *timeline);
/* Moves the cut to `lsn`, or to the oldest moment that was held since ps_view_reads if that is
 * older; never back. How far it is then. */
lsn_t ps_view_cut(struct ps_view *view, const struct co_id *timeline, lsn_t lsn);
/* The oldest moment of the timeline that was held since the last call; 0: none. */
lsn_t ps_view_reads(struct ps_view *view, const struct co_id *timeline);
/* The same of all that were held; fn may call what is above. */
typedef void (*ps_view_fn)(void *arg, const struct co_id *timeline, lsn_t oldest);
void ps_view_reads_all(struct ps_view *view, ps_view_fn fn, void *arg);

/* -- Any thread -------------------------------------------------------------------------------- */

/* false: it is not readable, or not known here. */
bool ps_view_look(struct ps_view *view, const struct co_id *timeline, struct ps_glance *out);
/* Is it what it was, and is everything from `from` on readable? Then `lsn` is noted as read (0: no
 * moment). */
bool ps_view_hold(struct ps_view *view, const struct ps_glance *glance, lsn_t from, lsn_t lsn);

#endif
