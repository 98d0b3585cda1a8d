#include "compute-vfs/quorum_reign.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"

int cv_reign_new(term_t term, lsn_t tip, uint64_t time_us, struct cv_reign **out)
{
    struct cv_reign *r = calloc(1, sizeof *r);

    *out = NULL;
    if (r == NULL)
        return co_fail(CO_ERR_NOMEM, "no memory to lead the log");
    r->term = term;
    r->time_us = time_us;
    r->durable_lsn = r->tip_lsn = tip;
    *out = r;
    return 0;
}

void cv_reign_free(struct cv_reign *r)
{
    if (r == NULL)
        return;
    free(r->ends);
    free(r);
}

int cv_reign_reserve(struct cv_reign *r)
{
    if (r->n < r->cap)
        return 0;
    if (r->first > 0 && r->first >= r->cap / 2) {
        memmove(r->ends, r->ends + r->first, (r->n - r->first) * sizeof *r->ends);
        r->n -= r->first;
        r->first = 0;
        return 0;
    }
    size_t cap = r->cap > 0 ? r->cap * 2 : 64;
    lsn_t *ends = realloc(r->ends, cap * sizeof *ends);
    if (ends == NULL)
        return co_fail(CO_ERR_NOMEM, "no memory for another commit in flight");
    r->ends = ends;
    r->cap = cap;
    return 0;
}

void cv_reign_append(struct cv_reign *r, lsn_t end)
{
    co_assert(r->n < r->cap && end > r->tip_lsn && !r->lost);
    r->ends[r->n++] = end;
    r->tip_lsn = end;
}

void cv_reign_unappend(struct cv_reign *r)
{
    co_assert(r->n > r->first);
    r->n--;
    r->tip_lsn = r->n > r->first ? r->ends[r->n - 1] : r->durable_lsn;
}

void cv_reign_durable(struct cv_reign *r, lsn_t lsn)
{
    if (lsn <= r->durable_lsn)
        return;
    co_assert(lsn <= r->tip_lsn);
    r->durable_lsn = lsn;
    while (r->first < r->n && r->ends[r->first] <= lsn)
        r->first++;
    if (r->first == r->n)
        r->first = r->n = 0;
}

void cv_reign_lose(struct cv_reign *r)
{
    r->lost = true;
    r->lo = r->first;
    r->hi = r->n;
}

/* Which record is asked about next: the oldest, then the middle of what is left. */
static size_t probe_at(const struct cv_reign *r)
{
    return r->probed ? r->lo + (r->hi - r->lo) / 2 : r->lo;
}

bool cv_reign_decided(const struct cv_reign *r, lsn_t *kept, lsn_t *begin)
{
    co_assert(r->lost && r->lo <= r->hi);
    size_t at = r->lo == r->hi ? r->lo : probe_at(r);
    lsn_t before = at > r->first ? r->ends[at - 1] : r->durable_lsn;
    bool decided = r->lo == r->hi;

    *(decided ? kept : begin) = before;
    return decided;
}

void cv_reign_answer(struct cv_reign *r, bool kept)
{
    co_assert(r->lost && r->lo < r->hi);
    size_t at = probe_at(r);

    if (kept)
        r->lo = at + 1;
    else
        r->hi = at;
    r->probed = true;
}

/* The newest told-to-be of this kind and term, if nothing of weight stands behind it. */
static struct cv_tale *mergeable(struct cv_tales *t, enum cv_tale_kind kind, term_t term)
{
    for (uint32_t i = t->n; i > 0; i--) {
        struct cv_tale *tale = &t->q[(t->head + i - 1) % CV_TALES_MAX];
        if (tale->kind == kind && tale->term == term)
            return tale;
        if (tale->kind == CV_TALE_LOST || tale->kind == CV_TALE_RESOLVED)
            return NULL;
    }
    return NULL;
}

void cv_tales_add(struct cv_tales *t, enum cv_tale_kind kind, term_t term, lsn_t lsn,
                  const char *reason)
{
    bool grave = kind == CV_TALE_LOST || kind == CV_TALE_RESOLVED;
    struct cv_tale *tale = grave ? NULL : mergeable(t, kind, term);

    if (tale == NULL) {
        co_assert(t->n < CV_TALES_MAX);
        tale = &t->q[(t->head + t->n++) % CV_TALES_MAX];
        memset(tale, 0, sizeof *tale);
        t->grave += grave;
    }
    tale->kind = kind;
    tale->term = term;
    if (lsn > tale->lsn)
        tale->lsn = lsn;
    snprintf(tale->reason, sizeof tale->reason, "%s", reason != NULL ? reason : "");
}

void cv_tales_add_lost(struct cv_tales *t, term_t term, bool contested, const char *reason)
{
    cv_tales_add(t, CV_TALE_LOST, term, 0, reason);
    t->q[(t->head + t->n - 1) % CV_TALES_MAX].contested = contested;
}

void cv_tales_add_waiter(struct cv_tales *t, bool anew)
{
    cv_tales_add(t, CV_TALE_WAITER, 0, 0, NULL);
    struct cv_tale *tale = mergeable(t, CV_TALE_WAITER, 0);
    tale->anew = tale->anew || anew;
}

bool cv_tales_take(struct cv_tales *t, struct cv_tale *out)
{
    if (t->n == 0)
        return false;
    *out = t->q[t->head];
    t->head = (t->head + 1) % CV_TALES_MAX;
    t->n--;
    t->grave -= out->kind == CV_TALE_LOST || out->kind == CV_TALE_RESOLVED;
    return true;
}

void cv_tale_tell(const struct cv_tale *tale, const struct cv_log_events *events)
{
    switch (tale->kind) {
    case CV_TALE_DURABLE:
        events->durable(events->owner, tale->term, tale->lsn);
        break;
    case CV_TALE_RECEIVED:
        events->received(events->owner, tale->term, tale->lsn);
        break;
    case CV_TALE_PROGRESS:
        events->progress(events->owner, tale->term);
        break;
    case CV_TALE_LOST:
        events->lost(events->owner, tale->term, tale->contested, tale->reason);
        break;
    case CV_TALE_RESOLVED:
        events->resolved(events->owner, tale->term, tale->lsn);
        break;
    case CV_TALE_WAITER:
        events->waiter(events->owner, tale->anew);
        break;
    case CV_TALE_WON:
        events->won(events->owner);
        break;
    }
}
