#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "compute-vfs/quorum_reign.h"

TestSuite(quorum_reign, .timeout = 10);

/* A term with n open records of 8 bytes that begin at 4096. */
static struct cv_reign *reign_of(unsigned n)
{
    struct cv_reign *r = NULL;

    cr_assert_eq(cv_reign_new(3, 4096, 0, &r), 0);
    for (unsigned i = 0; i < n; i++) {
        cr_assert_eq(cv_reign_reserve(r), 0);
        cv_reign_append(r, r->tip_lsn + 8);
    }
    return r;
}

/* Answers every question as if everything below `kept` had been kept; counts the questions. */
static lsn_t settle(struct cv_reign *r, lsn_t kept, unsigned *questions)
{
    lsn_t end = 0, begin = 0;

    *questions = 0;
    while (!cv_reign_decided(r, &end, &begin)) {
        cv_reign_answer(r, begin < kept);
        ++*questions;
        cr_assert_leq(*questions, 64u);
    }
    return end;
}

Test(quorum_reign, nothing_open_needs_no_question)
{
    /* a term lost with nothing open is resolved at its last durable LSN */
    struct cv_reign *r = reign_of(5);
    unsigned questions;

    cv_reign_durable(r, 4096 + 40);
    cr_assert_not(cv_reign_open(r));
    cv_reign_lose(r);
    cr_assert_eq(settle(r, 0, &questions), 4096 + 40);
    cr_assert_eq(questions, 0);
    cv_reign_free(r);
}

Test(quorum_reign, finds_every_boundary_with_few_questions)
{
    /* what was kept is a prefix: the boundary is found wherever it lies, and by halves */
    for (unsigned durable = 0; durable <= 3; durable++) {
        for (unsigned kept = durable; kept <= 40; kept++) {
            struct cv_reign *r = reign_of(40);
            unsigned questions;
            cv_reign_durable(r, 4096 + 8 * durable);
            cv_reign_lose(r);
            cr_assert_eq(settle(r, 4096 + 8 * kept, &questions), 4096 + 8 * kept);
            cr_assert_leq(questions, 8u);
            if (kept == durable)
                cr_assert_eq(questions, 1u,
                             "most often nothing was kept: the oldest is asked first");
            cv_reign_free(r);
        }
    }
}

Test(quorum_reign, remembers_only_what_is_open)
{
    /* a long reign does not grow its memory */
    struct cv_reign *r = reign_of(0);

    for (unsigned i = 0; i < 100000; i++) {
        cr_assert_eq(cv_reign_reserve(r), 0);
        cv_reign_append(r, r->tip_lsn + 8);
        if (i >= 10)
            cv_reign_durable(r, r->tip_lsn - 80);
    }
    cr_assert_leq(r->cap, 128u);
    cr_assert(cv_reign_open(r));
    cv_reign_durable(r, r->tip_lsn);
    cr_assert_not(cv_reign_open(r));
    cv_reign_free(r);
}

Test(quorum_reign, a_record_that_never_left_is_taken_back)
{
    /* a step of the core that had no memory did not happen */
    struct cv_reign *r = reign_of(2);

    cv_reign_unappend(r);
    cr_assert_eq(r->tip_lsn, 4096 + 8);
    cv_reign_unappend(r);
    cr_assert_eq(r->tip_lsn, 4096);
    cr_assert_not(cv_reign_open(r));
    cv_reign_free(r);
}

Test(quorum_reign, progress_is_merged_and_endings_are_not)
{
    /* the queue is bounded: the newest LSN of a term stands for all before it */
    struct cv_tales t = {0};
    struct cv_tale tale;

    for (lsn_t lsn = 8; lsn <= 8000; lsn += 8) {
        cv_tales_add(&t, CV_TALE_DURABLE, 1, lsn, NULL);
        cv_tales_add(&t, CV_TALE_RECEIVED, 1, lsn + 8, NULL);
        cv_tales_add_waiter(&t, lsn == 80);
    }
    cv_tales_add(&t, CV_TALE_LOST, 1, 0, "a newer term");
    cv_tales_add(&t, CV_TALE_RESOLVED, 1, 8000, NULL);
    cv_tales_add(&t, CV_TALE_DURABLE, 2, 8008, NULL);
    cr_assert_eq(t.n, 6);
    cr_assert_eq(t.grave, 2);

    static const enum cv_tale_kind want[] = {CV_TALE_DURABLE, CV_TALE_RECEIVED, CV_TALE_WAITER,
                                             CV_TALE_LOST,    CV_TALE_RESOLVED, CV_TALE_DURABLE};
    static const lsn_t lsn[] = {8000, 8008, 0, 0, 8000, 8008};
    for (unsigned i = 0; i < 6; i++) {
        cr_assert(cv_tales_take(&t, &tale));
        cr_assert_eq(tale.kind, want[i]);
        cr_assert_eq(tale.lsn, lsn[i]);
        cr_assert_eq(tale.anew, tale.kind == CV_TALE_WAITER);
    }
    cr_assert_eq(t.grave, 0);
    cr_assert_not(cv_tales_take(&t, &tale));
}

Test(quorum_reign, what_follows_an_ending_is_not_merged_into_what_precedes_it)
{
    /* events keep their order: a durable LSN told after `lost` stays after it */
    struct cv_tales t = {0};
    struct cv_tale tale;

    cv_tales_add_waiter(&t, true);
    cv_tales_add(&t, CV_TALE_LOST, 1, 0, "x");
    cv_tales_add_waiter(&t, false);
    cr_assert_eq(t.n, 3);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert(cv_tales_take(&t, &tale));
        cr_assert_eq(tale.kind, i == 1 ? CV_TALE_LOST : CV_TALE_WAITER);
        cr_assert_eq(tale.anew, i == 0);
    }
}
