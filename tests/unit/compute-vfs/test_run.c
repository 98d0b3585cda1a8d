/* test_run.c - how many pages that follow each other a miss asks for. */
#include "compute-vfs/run.h"

#include <criterion/criterion.h>

#define PAGES 100000u
#define MOST  64u

TestSuite(run, .timeout = 20);

static uint32_t miss(struct cv_run *r, pgno_t pgno)
{
    return cv_run_missed(r, pgno, MOST);
}

/* Misses that follow each other ask for more and more, up to a bound. */
Test(run, a_scan_asks_for_more_and_more)
{
    static const uint32_t wanted[] = {1, 2, 4, 8, 16, 32, 64, 64};
    struct cv_run r = {0};
    pgno_t pgno = 10;
    for (unsigned i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        cr_assert_eq(miss(&r, pgno), wanted[i], "request %u", i);
        pgno += wanted[i];
    }
}

/* An inner node elsewhere does not end a run. */
Test(run, one_page_elsewhere_does_not_end_a_run)
{
    struct cv_run r = {0};
    miss(&r, 10), miss(&r, 11), miss(&r, 13);
    cr_assert_eq(miss(&r, 5000), 1);
    cr_assert_eq(miss(&r, 17), 8);
    cr_assert_eq(miss(&r, 7000), 1);
    cr_assert_eq(miss(&r, 25 + CV_RUN_GAP), 16, "a small gap is an inner node in between");
}

/* Reads here and there ask for what they need. */
Test(run, scattered_reads_ask_for_one_page)
{
    struct cv_run r = {0};
    uint64_t state = 12345, pages = 0;
    for (int i = 0; i < 10000; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        pages += miss(&r, 1 + (pgno_t)((state >> 33) % PAGES));
    }
    cr_assert_leq(pages, 10010u);
}

/* Downwards is no run; a new run elsewhere is. */
Test(run, a_run_begins_anywhere)
{
    struct cv_run r = {0};
    for (pgno_t pgno = 500; pgno > 480; pgno -= 3)
        cr_assert_eq(miss(&r, pgno), 1);
    cr_assert_eq(miss(&r, 9000), 1);
    cr_assert_eq(miss(&r, 9001), 2);
    cr_assert_eq(miss(&r, 9003), 4);
}

/* Pages that came otherwise belong to the run. */
Test(run, what_is_cached_is_a_step)
{
    struct cv_run r = {0};
    miss(&r, 10);
    for (pgno_t pgno = 11; pgno < 30; pgno++)
        cv_run_saw(&r, pgno);
    cr_assert_eq(miss(&r, 30), 2);
    cv_run_saw(&r, 500);
    cr_assert_eq(miss(&r, 32), 4);
    miss(&r, 700);
    cv_run_saw(&r, 701), cv_run_saw(&r, 702), cv_run_saw(&r, 703);
    cr_assert_eq(miss(&r, 704), 2, "one that begins elsewhere too");
}

/* Never more than the caller has room for. */
Test(run, bounds)
{
    struct cv_run r = {0};
    for (pgno_t pgno = 10, n = 1; pgno < 200; pgno += n) {
        n = cv_run_missed(&r, pgno, 4);
        cr_assert(n >= 1 && n <= 4);
    }
    cr_assert_eq(cv_run_missed(&r, r.end, 1), 1);
}
