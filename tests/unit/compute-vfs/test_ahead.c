/* test_ahead.c - which of the guesses is believed, and what is never asked for. */
#include "compute-vfs/ahead.h"

#include <criterion/criterion.h>

#include "trees.h"

#define PAGES 100000u

TestSuite(ahead, .timeout = 20);

static struct cv_ahead a;
static struct cv_wish wish;
static uint8_t page[TREE_PAGE];

static void begin(void)
{
    a = (struct cv_ahead){0};
}

static void end(void)
{
    cv_ahead_free(&a);
}

static uint32_t miss(pgno_t pgno)
{
    cv_ahead_missed(&a, pgno, PAGES, TREE_PAGE, &wish);
    cr_assert_leq(wish.n + wish.chain + 1, CV_AHEAD_MAX);
    return wish.n;
}

static void saw_inner(pgno_t pgno, const pgno_t *child, unsigned n)
{
    make_inner(page, child, n);
    cv_ahead_saw(&a, pgno, 8, page, TREE_PAGE, PAGES);
}

/* Every other page of the file is another table's: those are not fetched. */
Test(ahead, keys_before_the_file, .init = begin, .fini = end)
{
    pgno_t child[300];
    unsigned asked = 0;
    for (unsigned i = 0; i < 300; i++)
        child[i] = 100 + 2 * i;
    saw_inner(3, child, 300);
    for (unsigned k = 0; k < 300;) {
        uint32_t n = miss(child[k]);
        for (uint32_t i = 0; i < n; i++)
            cr_assert_eq(wish.also[i] % 2, 0, "page %u", wish.also[i]);
        asked += n + 1;
        k += n + 1;
    }
    cr_assert_eq(asked, 300);
}

/* Pages of which nothing is known follow each other in the file. */
Test(ahead, the_file_where_no_parent_is_known, .init = begin, .fini = end)
{
    cr_assert_eq(miss(10), 0);
    cr_assert_eq(miss(11), 1);
    cr_assert_eq(wish.also[0], 12);
    cr_assert_eq(miss(13), 3);
    cr_assert_eq(wish.also[2], 16);
}

/* A chain before the file; the file where it knows more. */
Test(ahead, chain_or_file, .init = begin, .fini = end)
{
    make_link(page, 777);
    cv_ahead_saw(&a, 500, 8, page, TREE_PAGE, PAGES);
    cr_assert_eq(miss(777), 0);
    cr_assert_eq(wish.chain, 1);
    miss(9000), miss(9001), miss(9003);
    make_link(page, 9007);
    cv_ahead_saw(&a, 9006, 8, page, TREE_PAGE, PAGES);
    cr_assert_eq(miss(9007), 7);
    cr_assert_eq(wish.chain, 0);
}

/* One guess at a time, also for a page that is a child here and the next of a chain there, in the
 * middle of a run. */
Test(ahead, one_guess_at_a_time, .init = begin, .fini = end)
{
    pgno_t child[200];
    for (unsigned i = 0; i < 200; i++)
        child[i] = 1000 + i;

    saw_inner(3, child, 200);
    for (unsigned k = 0; k < 200;) {
        make_link(page, child[k]);
        cv_ahead_saw(&a, 700, 8, page, TREE_PAGE, PAGES);
        a.run.end = k ? child[k] : 90000, a.run.n = 64;
        k += miss(child[k]) + 1;
        cr_assert(wish.n == 0 || wish.chain == 0);
    }
}

/* A page may say anything: what comes out are pages of the database, and not SQLite's lock page. */
Test(ahead, a_hostile_page, .init = begin, .fini = end)
{
    pgno_t child[] = {20, 21, 0, PAGES + 1, UINT32_MAX, 50, 20, PAGES, 1};
    a.never = 50;
    saw_inner(3, child, 9);
    cr_assert_eq(miss(21), 0);
    cr_assert_eq(miss(PAGES), 0);
    for (int i = 0; i < 200; i++)
        for (unsigned k = 0; k < 9; k++) {
            if (child[k] == 0 || child[k] > PAGES)
                continue;
            miss(child[k]);
            for (uint32_t w = 0; w < wish.n; w++)
                cr_assert(wish.also[w] >= 1 && wish.also[w] <= PAGES && wish.also[w] != 50);
        }
    saw_inner(3, (pgno_t[]){3, 3, 3}, 3); /* its own child */
    miss(3), miss(3), miss(3);
    cr_assert_leq(wish.n, 2);
}

/* Never beyond the end of the database, the lock page, or the bound in bytes. */
Test(ahead, bounds, .init = begin, .fini = end)
{
    miss(PAGES - 4), miss(PAGES - 3);
    cr_assert_eq(miss(PAGES - 1), 1);
    begin();
    a.never = 20;
    miss(10), miss(11), miss(13);
    cr_assert_eq(miss(17), 6, "18 to 24, but 20");
    begin();
    for (pgno_t pgno = 10; pgno < 200;) {
        cv_ahead_missed(&a, pgno, PAGES, 65536, &wish);
        cr_assert_leq((wish.n + wish.chain + 1) * 65536, CV_AHEAD_MAX_BYTES);
        pgno += wish.n + 1;
    }
}

Test(ahead, page_one_has_its_header_behind_the_file_s, .init = begin, .fini = end)
{
    pgno_t child[] = {30, 20, 40};
    uint8_t inner[TREE_PAGE];
    make_inner(inner, child, 3);
    memcpy(page, inner, TREE_PAGE);
    memcpy(page, "SQLite format 3", 16);
    memcpy(page + 100, inner, 200);
    cv_ahead_saw(&a, 1, 8, page, TREE_PAGE, PAGES);
    cr_assert_eq(miss(30), 0);
    cr_assert_eq(miss(20), 1);
    cr_assert_eq(wish.also[0], 40);
}
