#include "compute-vfs/pace.h"

#define ASK_US        250000u  /* between two questions */
#define ASK_BEHIND_US 50000u   /* beyond the soft limit */
#define ASK_AGAIN_US  100000u  /* after one that was not answered in CV_PACE_ANSWER_MS */
#define RATE_US       1000000u /* the measured rate is that of the last second or so */
#define RATE_MIN      (64u << 10)
#define ONE           1024u /* fixed point */

void cv_pace_init(struct cv_pace *p, uint64_t hard_bytes)
{
    *p = (struct cv_pace){.hard_bytes = hard_bytes ? hard_bytes : UINT64_MAX,
                          .soft_bytes = hard_bytes ? hard_bytes / 4 : UINT64_MAX};
}

uint64_t cv_pace_lag(const struct cv_pace *p)
{
    return p->end > p->ingested ? p->end - p->ingested : 0;
}

/* The share of the pageserver's rate that commits may have at this lag, times ONE; UINT64_MAX: all
 * they want. */
static uint64_t share_at(const struct cv_pace *p, uint64_t lag)
{
    if (lag <= p->soft_bytes)
        return UINT64_MAX;
    return lag >= p->hard_bytes ? 0 : (p->hard_bytes - lag) * ONE / (lag - p->soft_bytes);
}

uint64_t cv_pace_allowed(const struct cv_pace *p)
{
    uint64_t share = share_at(p, cv_pace_lag(p)), rate;

    if (p->away || p->rate == 0 || share / ONE > (1u << 20))
        return UINT64_MAX;
    if (p->owes && share < ONE / 2)
        share = ONE / 2;
    rate = (p->rate < (1ull << 40) ? p->rate : 1ull << 40) / ONE * share;
    return rate > RATE_MIN ? rate : RATE_MIN;
}

/* Silence for so long: it is away, and owes when it comes back. */
static void look(struct cv_pace *p, uint64_t now)
{
    if (p->away || cv_pace_lag(p) == 0 || now < p->moved_us + CV_PACE_AWAY_US)
        return;
    p->away = true;
    p->owes = false;
    p->due_us = 0;
}

uint64_t cv_pace_commit(struct cv_pace *p, uint64_t now, lsn_t begin, lsn_t end)
{
    uint64_t rate, cost;

    if (p->end == LSN_NONE) {
        p->ingested = begin;
        p->moved_us = now;
    }
    if (cv_pace_lag(p) < CV_PACE_ASK_BYTES && !p->asking) /* nobody asked it whether it moved */
        p->moved_us = now;
    if (end > p->end)
        p->end = end;
    look(p, now);
    rate = cv_pace_allowed(p);
    if (rate == UINT64_MAX)
        return now;
    if (p->due_us < now)
        p->due_us = now;
    cost = (end - begin < (1ull << 40) ? end - begin : 1ull << 40) * 1000000 / rate;
    p->due_us += cost;
    if (p->due_us > now + CV_PACE_WAIT_US)
        p->due_us = now + CV_PACE_WAIT_US;
    return p->due_us;
}

/* What it did since the last answer: its rate, when it had something to do all the time; else it is
 * at least that. */
static void measure(struct cv_pace *p, uint64_t now, lsn_t ingested)
{
    uint64_t took = now - p->said_us, found;

    if (p->said_us == 0 || took == 0 || cv_pace_lag(p) == 0 || p->away)
        return;
    found = (ingested - p->ingested) * 1000000 / took;
    if (ingested >= p->end && found <= p->rate)
        return; /* it had less to do than it could */
    if (p->rate == 0 || took >= RATE_US)
        p->rate = found;
    else
        p->rate = (p->rate * (RATE_US - took) + found * took) / RATE_US;
    if (p->rate == 0)
        p->rate = 1;
}

void cv_pace_said(struct cv_pace *p, uint64_t now, lsn_t ingested)
{
    p->asked_us = now;
    if (ingested < p->ingested) /* it lost its disk, or the answer is an old one */
        ingested = p->ingested;
    measure(p, now, ingested);
    if (ingested > p->ingested || ingested >= p->end) {
        bool back = p->away;

        p->ingested = ingested;
        p->moved_us = now;
        p->away = false;
        if (back && cv_pace_lag(p) > p->soft_bytes)
            p->owes = true;
    }
    p->said_us = now;
    p->silent = false;
    if (share_at(p, cv_pace_lag(p)) >= ONE / 2)
        p->owes = false;
    p->asking = cv_pace_lag(p) > 0;
    look(p, now);
}

void cv_pace_silent(struct cv_pace *p, uint64_t now)
{
    p->asked_us = now;
    p->silent = true;
    look(p, now);
}

void cv_pace_cut(struct cv_pace *p, lsn_t end)
{
    if (p->end > end)
        p->end = end;
}

bool cv_pace_is_due(struct cv_pace *p, uint64_t now, uint64_t due)
{
    look(p, now);
    return now >= due || cv_pace_allowed(p) == UINT64_MAX;
}

bool cv_pace_may_begin(struct cv_pace *p, uint64_t now)
{
    look(p, now);
    return p->away || p->owes || cv_pace_lag(p) < p->hard_bytes;
}

uint64_t cv_pace_ask_at(const struct cv_pace *p, uint64_t now)
{
    uint64_t lag = cv_pace_lag(p);

    if (lag == 0 || (lag < CV_PACE_ASK_BYTES && !p->asking))
        return 0;
    if (p->asked_us == 0)
        return now;
    if (p->silent)
        return p->asked_us + ASK_AGAIN_US;
    return p->asked_us + (lag > p->soft_bytes ? ASK_BEHIND_US : ASK_US);
}
