/*
 * pace.h - how fast commits may come, so that the pageserver stays near. Pure: no clock, no I/O.
 *
 * The pageserver says how far it has ingested the log; what was committed beyond is its lag, in
 * bytes of the log. A commit is paid for after it is durable: it returns when its bytes, at the
 * rate allowed, have passed. That rate is the measured rate of the pageserver times a share of it:
 *
 *     lag <= soft    no bound
 *     between        (1 - x) / x, where x goes from 0 at the soft limit to 1 at the hard one
 *     lag >= hard    nothing begins
 *
 * so that with more to commit than can be ingested the lag comes to rest in the middle (x = 1/2,
 * where both rates are the same), approaches it from either side without passing it, and is far
 * from the hard limit. What is under way when the limit is reached still lands: the lag exceeds it
 * by the open transactions at most.
 *
 * A pageserver that has made no progress for CV_PACE_AWAY_US is away, whether it is dead, stalled
 * or cut off: nobody is slowed or stopped for it. The log keeps what it lacks, and no commit makes
 * a reader's wait for it shorter. When it comes back with more to do than the limits allow (it
 * `owes`), commits go on at half its rate at least until the debt is worked off: neither a stop,
 * nor a lag that grows. Decision 42.
 */
#ifndef CORALLITE_COMPUTE_VFS_PACE_H
#define CORALLITE_COMPUTE_VFS_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/lsn.h"

#define CV_PACE_AWAY_US   10000000u
#define CV_PACE_WAIT_US   2000000u /* no commit pays for longer; a large one is made up for later */
#define CV_PACE_ANSWER_MS 1000u    /* how long an answer is waited for */
#define CV_PACE_ASK_BYTES                                                                          \
    (1u << 20) /* less than this behind, the pageserver is not asked at first */

struct cv_pace {
    uint64_t soft_bytes, hard_bytes;
    lsn_t end;         /* of the newest commit; 0: none yet */
    lsn_t ingested;    /* as it was said last, or where the first commit began */
    uint64_t asked_us; /* when the newest answer came, or failed to */
    uint64_t said_us;  /* when the newest answer came; 0: never */
    uint64_t moved_us; /* when the pageserver last moved, or was not behind */
    uint64_t rate;     /* bytes a second it ingests when it is behind; 0: not known */
    uint64_t due_us;   /* all commits so far are paid for then */
    bool asking;       /* it was so far behind that it is asked until it is level */
    bool silent, away, owes;
};

/* Knows nothing yet. The soft limit is a quarter of the hard one; hard_bytes 0: there is none. */
void cv_pace_init(struct cv_pace *p, uint64_t hard_bytes);
/* A commit of [begin, end) was made. Returns when it may return: now_us, or later. */
uint64_t cv_pace_commit(struct cv_pace *p, uint64_t now_us, lsn_t begin, lsn_t end);
/* The pageserver said that it has everything up to `ingested`; or did not answer. */
void cv_pace_said(struct cv_pace *p, uint64_t now_us, lsn_t ingested);
void cv_pace_silent(struct cv_pace *p, uint64_t now_us);
/* The log ends here: commits beyond were lost. */
void cv_pace_cut(struct cv_pace *p, lsn_t end);

uint64_t cv_pace_lag(const struct cv_pace *p);
/* Is a commit that is to return at due_us to wait on? May a transaction begin? Both to be asked
 * again after each answer, and every some ten ms: silence makes a pageserver away. */
bool cv_pace_is_due(struct cv_pace *p, uint64_t now_us, uint64_t due_us);
bool cv_pace_may_begin(struct cv_pace *p, uint64_t now_us);
/* When the pageserver is to be asked next; 0: not before there are more commits. */
uint64_t cv_pace_ask_at(const struct cv_pace *p, uint64_t now_us);
/* Bytes a second that commits may come at now; UINT64_MAX: no bound. */
uint64_t cv_pace_allowed(const struct cv_pace *p);

#endif
