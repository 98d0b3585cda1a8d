/* test_ahead.c - how many pages a miss asks for. */
#include "compute-vfs/ahead.h"

#include <criterion/criterion.h>

#define PAGES 100000u

TestSuite(ahead, .timeout = 20);

/* A miss of `pgno`; as many as are said are asked for. */
static uint32_t miss(struct cv_ahead *a, pgno_t pgno)
{
    uint32_t n = cv_ahead_missed(a, pgno, PAGES, 4096);
    cv_ahead_asked(a, n);
    return n;
}

/* Misses that follow each other ask for more and more, up to a bound. */
Test(ahead, a_scan_asks_for_more_and_more)
{
    static const uint32_t wanted[] = {1, 2, 4, 8, 16, 32, 64, 64};
    struct cv_ahead a = {0};
    pgno_t pgno = 10;
    for (unsigned i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        cr_assert_eq(miss(&a, pgno), wanted[i], "request %u", i);
        pgno += wanted[i];
    }
}

/* An inner node elsewhere does not end a run. */
Test(ahead, one_page_elsewhere_does_not_end_a_run)
{
    struct cv_ahead a = {0};
    miss(&a, 10), miss(&a, 11), miss(&a, 13);
    cr_assert_eq(miss(&a, 5000), 1);
    cr_assert_eq(miss(&a, 17), 8);
    cr_assert_eq(miss(&a, 7000), 1);
    cr_assert_eq(miss(&a, 25 + CV_AHEAD_GAP), 16, "a small gap is an inner node in between");
}

/* Reads here and there ask for what they need. */
Test(ahead, scattered_reads_ask_for_one_page)
{
    struct cv_ahead a = {0};
    uint64_t state = 12345, pages = 0;
    for (int i = 0; i < 10000; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        pages += miss(&a, 1 + (pgno_t)((state >> 33) % PAGES));
    }
    cr_assert_leq(pages, 10010u);
}

/* Downwards is no run; a new run elsewhere is. */
Test(ahead, a_run_begins_anywhere)
{
    struct cv_ahead a = {0};
    for (pgno_t pgno = 500; pgno > 480; pgno -= 3)
        cr_assert_eq(miss(&a, pgno), 1);
    cr_assert_eq(miss(&a, 9000), 1);
    cr_assert_eq(miss(&a, 9001), 2);
    cr_assert_eq(miss(&a, 9003), 4);
}

/* Never beyond the end of the database, the lock page, or the bound in bytes. */
Test(ahead, bounds)
{
    struct cv_ahead a = {0};
    miss(&a, PAGES - 5), miss(&a, PAGES - 4), miss(&a, PAGES - 2);
    cr_assert_eq(miss(&a, PAGES + 1), 1, "a page beyond the end");
    a = (struct cv_ahead){0};
    miss(&a, PAGES - 4), miss(&a, PAGES - 3);
    cr_assert_eq(miss(&a, PAGES - 1), 2);
    a = (struct cv_ahead){.never = 20};
    miss(&a, 10), miss(&a, 11), miss(&a, 13);
    cr_assert_eq(miss(&a, 17), 3);
    a = (struct cv_ahead){0};
    for (pgno_t pgno = 10, n = 1; pgno < 200; pgno += n) {
        n = cv_ahead_missed(&a, pgno, PAGES, 65536);
        cv_ahead_asked(&a, n);
        cr_assert_leq(n * 65536, CV_AHEAD_MAX_BYTES);
    }
}

/* Fewer may be asked for than were proposed: the next miss is where those end. */
Test(ahead, fewer_than_proposed)
{
    struct cv_ahead a = {0};
    miss(&a, 10), miss(&a, 11), miss(&a, 13);
    cr_assert_eq(cv_ahead_missed(&a, 17, PAGES, 4096), 8);
    cv_ahead_asked(&a, 3);
    cr_assert_eq(miss(&a, 20), 6);
}
