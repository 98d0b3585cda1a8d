/*
 * quorum_reign.h - what the driver of the log remembers about one term it led: which records are
 * open, and, once the term is lost, which of them were kept; and the queue of what its owner has
 * still to be told. Pure data: no lock, no clock, no I/O; the driver's lock is held around every
 * call.
 *
 * A term's records form a sequence and a later leader keeps a prefix of it. So "was it kept?" is
 * asked of a few records only: first the oldest open one (most often none was kept), then by
 * halves.
 *
 * Invariants
 *   open records are dense: the end of one is the begin of the next, the first begins at durable.
 *   at an undecided wreck: everything below open[lo] is kept, everything from open[hi] on is lost.
 */
#ifndef CORALLITE_COMPUTE_VFS_QUORUM_REIGN_H
#define CORALLITE_COMPUTE_VFS_QUORUM_REIGN_H

#include <stdbool.h>
#include <stdint.h>

#include "compute-vfs/log.h"

struct cv_reign {
    term_t term;
    uint64_t time_us;  /* of the last record at its start, 0 if unknown */
    lsn_t durable_lsn; /* committed in this term as far as it was told */
    lsn_t tip_lsn;     /* end of what was appended */
    bool told;         /* the owner knows the term */
    bool lost;
    /* ends of the open records; the first begins at durable_lsn */
    lsn_t *ends;
    size_t first, n, cap; /* open are ends[first .. n) */
    /* of a lost one */
    size_t lo, hi;        /* boundary between kept and lost lies in [lo, hi] */
    bool probed;          /* the oldest was asked about */
    bool forgotten;       /* nobody knows any more */
    uint64_t req;         /* question under way, 0: none */
    uint64_t asked_us;    /* when */
    uint64_t next_try_us; /* not before */
    struct cv_reign *next;
};

CO_MUST_CHECK int cv_reign_new(term_t term, lsn_t tip, uint64_t time_us, struct cv_reign **out);
void cv_reign_free(struct cv_reign *r);

/* Room for one more record; cv_reign_append cannot fail after it. */
CO_MUST_CHECK int cv_reign_reserve(struct cv_reign *r);
void cv_reign_append(struct cv_reign *r, lsn_t end);
/* Takes the newest back: it never left. */
void cv_reign_unappend(struct cv_reign *r);
void cv_reign_durable(struct cv_reign *r, lsn_t lsn);
static inline bool cv_reign_open(const struct cv_reign *r)
{
    return r->first < r->n;
}

/* The term is lost. From here on probe and answer find the boundary. */
void cv_reign_lose(struct cv_reign *r);
/* true: everything is known, *kept is the end of what was kept. Else *begin is the begin LSN of the
 * record to ask about. */
bool cv_reign_decided(const struct cv_reign *r, lsn_t *kept, lsn_t *begin);
void cv_reign_answer(struct cv_reign *r, bool kept);

/* -- What the owner has still to be told ---------------------------------------------------------
 */

enum cv_tale_kind {
    CV_TALE_DURABLE,
    CV_TALE_RECEIVED,
    CV_TALE_PROGRESS,
    CV_TALE_LOST,
    CV_TALE_RESOLVED,
    CV_TALE_WAITER,
    CV_TALE_WON
};

struct cv_tale {
    enum cv_tale_kind kind;
    term_t term;
    lsn_t lsn;
    bool contested; /* LOST */
    bool anew;      /* WAITER */
    char reason[160];
};

/* Bounded by its make: progress is merged (the newest LSN of a term stands for all), and a term is
 * lost and resolved once, which takes the thread that empties the queue. */
#define CV_TALES_MAX 64u
struct cv_tales {
    struct cv_tale q[CV_TALES_MAX];
    uint32_t head, n;
    uint32_t grave; /* LOST and RESOLVED among them */
};

void cv_tales_add(struct cv_tales *t, enum cv_tale_kind kind, term_t term, lsn_t lsn,
                  const char *reason);
/* LOST */
void cv_tales_add_lost(struct cv_tales *t, term_t term, bool contested, const char *reason);
void cv_tales_add_waiter(struct cv_tales *t, bool anew);
/* false: empty */
bool cv_tales_take(struct cv_tales *t, struct cv_tale *out);
/* Tells one. */
void cv_tale_tell(const struct cv_tale *tale, const struct cv_log_events *events);

#endif
