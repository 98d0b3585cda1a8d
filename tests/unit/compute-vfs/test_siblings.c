/* test_siblings.c - which children of an inner page are asked for at the miss of one. */
#include "compute-vfs/siblings.h"

#include <criterion/criterion.h>

#include "trees.h"

#define MOST     64u
#define CHILDREN 200u

TestSuite(siblings, .timeout = 20);

static struct cv_siblings s;
static pgno_t also[MOST];
static bool known, scan;

static void forget(void)
{
    cv_siblings_free(&s);
}

/* Child k of parent p, in no order that a file would have. */
static pgno_t child_of(pgno_t p, unsigned k)
{
    return 1000 * p + 1 + k * 77 % 1000;
}

static void saw_n(pgno_t p, lsn_t version, unsigned n)
{
    uint8_t page[TREE_PAGE];
    pgno_t child[600];
    for (unsigned k = 0; k < n; k++)
        child[k] = child_of(p, k);
    make_inner(page, child, n);
    cv_siblings_saw(&s, p, version, page, TREE_PAGE);
}

static void saw(pgno_t p)
{
    saw_n(p, 8, CHILDREN);
}

static uint32_t miss(pgno_t pgno)
{
    return cv_siblings_missed(&s, pgno, MOST, also, &known, &scan);
}

/* A scan from child `from` on; the requests that it needs. Each page is asked for once. */
static unsigned scan_up(pgno_t p, unsigned from, unsigned to)
{
    unsigned requests = 0;
    for (unsigned k = from; k < to; requests++) {
        uint32_t n = miss(child_of(p, k));
        for (uint32_t i = 0; i < n; i++)
            cr_assert_eq(also[i], child_of(p, k + 1 + i));
        k += n + 1;
        cr_assert_leq(k, CHILDREN);
    }
    return requests;
}

/* A scan asks for the next ones in the order of the keys, more and more, none twice, none beyond.
 */
Test(siblings, a_scan_follows_the_keys, .fini = forget)
{
    saw(3);
    cr_assert_eq(scan_up(3, 0, CHILDREN), 9, "1 2 4 8 16 32 64 64, and what is left");
    cr_assert(known && scan);
}

Test(siblings, a_scan_downwards_too, .fini = forget)
{
    /* rule: ORDER BY ... DESC is a scan */
    unsigned requests = 0;
    saw(3);
    for (unsigned left = CHILDREN; left > 0; requests++) {
        uint32_t n = miss(child_of(3, left - 1));
        for (uint32_t i = 0; i < n; i++)
            cr_assert_eq(also[i], child_of(3, left - 2 - i));
        left -= n + 1;
    }
    cr_assert_eq(requests, 9);
}

Test(siblings, scattered_reads_ask_for_one_page, .fini = forget)
{
    /* rule: a point query fetches what it needs */
    unsigned more = 0;
    uint64_t state = 99;
    saw_n(3, 8, 580);
    for (int i = 0; i < 2000; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        more += miss(child_of(3, (unsigned)(state >> 33) % 580));
    }
    cr_assert_leq(more, 40, "%u", more);
    cr_assert_eq(miss(500000), 0);
    cr_assert(!known && !scan);
}

Test(siblings, the_next_inner_page_goes_on, .fini = forget)
{
    /* rule: the first child behind the last one of a scan continues it; the first child of a page
     * elsewhere does not */
    uint8_t root[TREE_PAGE];
    pgno_t inner[] = {3, 5, 4, 7};
    make_inner(root, inner, 4);
    cv_siblings_saw(&s, 2, 8, root, TREE_PAGE);
    saw(3);
    scan_up(3, 0, CHILDREN);
    saw(5);
    cr_assert_eq(miss(child_of(5, 0)), MOST - 1);
    saw(7);
    cr_assert_eq(miss(child_of(7, 0)), 0);
    saw(4);
    cr_assert_eq(miss(child_of(4, 0)), 0, "5 was not read to its end");
}

Test(siblings, what_is_cached_is_a_step, .fini = forget)
{
    /* rule: a scan goes on over children that need not be asked for */
    uint8_t leaf[TREE_PAGE];
    make_leaf(leaf);
    saw(3);
    cr_assert_eq(miss(child_of(3, 10)), 0);
    for (unsigned k = 11; k < 20; k++)
        cv_siblings_saw(&s, child_of(3, k), 8, leaf, TREE_PAGE);
    cr_assert_eq(miss(child_of(3, 20)), 1);
    cr_assert_eq(also[0], child_of(3, 21));
}

Test(siblings, one_that_did_not_come_does_not_end_a_scan, .fini = forget)
{
    saw(3);
    scan_up(3, 0, 31); /* 15 to 30 were asked for last */
    cr_assert_eq(miss(child_of(3, 20)), 0);
    cr_assert_eq(miss(child_of(3, 30)), 0);
    cr_assert_eq(miss(child_of(3, 33)), 31);
}

Test(siblings, a_scan_that_comes_back_is_one, .fini = forget)
{
    /* rule: pages that fell out of the cache are scanned as they were at first */
    unsigned requests = 0;
    saw(3);
    scan_up(3, 0, 63); /* 31 to 62 were asked for last */
    for (unsigned k = 40; k < CHILDREN; requests++)
        k += miss(child_of(3, k)) + 1;
    cr_assert_leq(requests, 9, "%u", requests);
}

Test(siblings, a_page_that_changed_is_read_anew, .fini = forget)
{
    uint8_t page[TREE_PAGE];
    pgno_t child[] = {11, 12, 13};
    saw(3);
    scan_up(3, 0, 3);
    make_inner(page, child, 3);
    cv_siblings_saw(&s, 3, 16, page, TREE_PAGE);
    cr_assert_eq(miss(child_of(3, 3)), 0);
    cr_assert_not(known);
    cr_assert_eq(miss(11), 0);
    cr_assert_eq(miss(12), 1);
    cr_assert_eq(also[0], 13);
    page[4] = 0xff, page[3] = 0xff; /* and now it makes no sense */
    cv_siblings_saw(&s, 3, 24, page, TREE_PAGE);
    cr_assert_eq(miss(12), 0);
    cr_assert_not(known);
}

Test(siblings, the_pages_read_last_are_remembered, .fini = forget)
{
    /* rule: memory is bounded; a parent that helps stays */
    saw(3);
    for (pgno_t p = 10; p < 10 + 3 * CV_PARENTS; p++) {
        saw(p);
        miss(child_of(3, p));
        cr_assert(known);
    }
    miss(child_of(10, 0));
    cr_assert_not(known);
    miss(child_of(9 + 3 * CV_PARENTS, 5));
    cr_assert(known);
}

Test(siblings, the_room_of_the_caller_is_the_bound, .fini = forget)
{
    saw(3);
    for (unsigned k = 0, n; k < CHILDREN; k += n + 1) {
        n = cv_siblings_missed(&s, child_of(3, k), 4, also, &known, &scan);
        cr_assert_leq(n, 3u);
    }
    saw(4);
    for (unsigned k = 0; k < 20; k++)
        cr_assert_eq(cv_siblings_missed(&s, child_of(4, k), 1, also, &known, &scan), 0);
}
