/* test_chain.c - how many pages of a chain are asked for. */
#include "compute-vfs/chain.h"

#include <criterion/criterion.h>

#include "trees.h"

#define PAGES 100000u
#define MOST  64u

TestSuite(chain, .timeout = 20);

static uint8_t page[TREE_PAGE];

static void saw_link(struct cv_chain *c, pgno_t pgno, pgno_t next)
{
    make_link(page, next);
    cv_chain_saw(c, pgno, page, PAGES);
}

static void saw_leaf(struct cv_chain *c)
{
    make_leaf(page);
    cv_chain_saw(c, 50, page, PAGES);
}

/* Reads `used` of a chain of `n` pages behind a leaf; requests, and pages that were asked for. */
static unsigned read_chain(struct cv_chain *c, pgno_t first, unsigned n, unsigned used,
                           unsigned *pages)
{
    unsigned requests = 0, have = 0;
    saw_leaf(c);
    for (unsigned i = 0; i < used; i++) {
        pgno_t pgno = first + 7 * i;
        uint32_t more = 0, came = 0;
        bool missed = i >= have;
        if (missed) {
            more = cv_chain_missed(c, pgno, false, MOST);
            came = more < n - i - 1 ? more : n - i - 1;
            have = i + 1 + came;
            requests++;
            *pages += 1 + came;
        }
        saw_link(c, pgno, i + 1 < n ? pgno + 7 : 0);
        if (missed)
            cv_chain_brought(c, more, came);
    }
    return requests;
}

Test(chain, a_long_record_needs_few_requests)
{
    struct cv_chain c = {0};
    unsigned pages = 0;
    cr_assert_leq(read_chain(&c, 1000, 5000, 5000, &pages), 6 + 5000 / MOST + 1);
    cr_assert_eq(pages, 5000);
}

Test(chain, the_next_record_comes_at_once)
{
    /* rule: as many as of the one before */
    struct cv_chain c = {0};
    unsigned pages = 0;
    cr_assert_eq(read_chain(&c, 1000, 5, 5, &pages), 3);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(read_chain(&c, 2000, 5, 5, &pages), 1);
    cr_assert_eq(pages, 55);
}

Test(chain, the_begin_of_a_record_is_one_page)
{
    /* rule: who wants no more gets no more; after a record that was read whole once too many */
    struct cv_chain c = {0};
    unsigned pages = 0;
    for (int i = 0; i < 10; i++)
        cr_assert_eq(read_chain(&c, 1000, 20, 1, &pages), 1);
    cr_assert_eq(pages, 10);
    read_chain(&c, 2000, 20, 20, &pages);
    cr_assert_eq(pages, 30);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(read_chain(&c, 1000, 20, 1, &pages), 1);
    cr_assert_eq(pages, 30 + 20 + 9);
}

Test(chain, no_chain_begins_where_none_can)
{
    struct cv_chain c = {0};
    pgno_t child[] = {7, 8};
    unsigned pages = 0;
    read_chain(&c, 1000, 20, 20, &pages);
    cr_assert_eq(cv_chain_missed(&c, 60, true, MOST), 0, "a child of a known inner page");
    make_inner(page, child, 2);
    cv_chain_saw(&c, 3, page, PAGES);
    cr_assert_eq(cv_chain_missed(&c, 61, false, MOST), 0, "an inner page was read last");
    saw_leaf(&c);
    cr_assert_eq(cv_chain_missed(&c, 62, false, MOST), 19);
    cr_assert_eq(cv_chain_missed(&c, 62, false, 1), 0, "no room");
}

Test(chain, numbers_beyond_the_database_are_none)
{
    struct cv_chain c = {0};
    saw_link(&c, 1000, PAGES + 1);
    cr_assert_eq(c.next, 0);
    saw_link(&c, 1000, PAGES);
    cr_assert_eq(c.next, PAGES);
}

Test(chain, a_server_that_sends_none_is_not_asked_again)
{
    struct cv_chain c = {0};
    saw_link(&c, 1000, 1007);
    cr_assert_eq(cv_chain_missed(&c, 1007, false, MOST), 1);
    saw_link(&c, 1007, 0);
    cv_chain_brought(&c, 1, 0);
    cr_assert_not(c.refused, "the chain was at its end");
    saw_link(&c, 2000, 2007);
    cr_assert_eq(cv_chain_missed(&c, 2007, false, MOST), 1);
    saw_link(&c, 2007, 2014);
    cv_chain_brought(&c, 1, 0);
    cr_assert_eq(cv_chain_missed(&c, 2014, false, MOST), 0);
}
