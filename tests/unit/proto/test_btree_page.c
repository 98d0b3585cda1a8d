/* test_btree_page.c - children of an inner page, chains: what is taken from a page, whatever it
 * says. */
#include "proto/btree_page.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/bytes.h"

#define PAGE 512u
#define MOST (PAGE / 7)

TestSuite(btree_page, .timeout = 10);

static uint8_t page[PAGE];
static pgno_t out[MOST];

/* An inner page whose header is at `header`, with these children; cells from the end down. */
static void make(int kind, unsigned header, const pgno_t *child, unsigned n)
{
    uint8_t *h = page + header;
    memset(page, 0, PAGE);
    h[0] = (uint8_t)kind;
    h[4] = (uint8_t)(n - 1);
    co_put32be(h + 8, child[n - 1]);
    for (unsigned i = 0; i + 1 < n; i++) {
        unsigned at = PAGE - 6 * (i + 1);
        h[12 + 2 * i] = (uint8_t)(at >> 8);
        h[13 + 2 * i] = (uint8_t)at;
        co_put32be(page + at, child[i]);
    }
}

Test(btree_page, children_in_the_order_of_their_keys)
{
    static const pgno_t child[] = {70000, 3, 9, 4};
    for (int i = 0; i < 3; i++) {
        make(i == 1 ? BT_INDEX_INNER : BT_TABLE_INNER, i == 2 ? 100 : 0, child, 4);
        cr_assert_eq(bt_page_children(page, PAGE, i == 2 ? 1 : 2, out, MOST), 4);
        cr_assert_arr_eq(out, child, sizeof child);
    }
    make(BT_TABLE_INNER, 0, child + 3, 1);
    cr_assert_eq(bt_page_children(page, PAGE, 2, out, MOST), 1);
    cr_assert_eq(out[0], 4);
}

Test(btree_page, a_page_without_children_has_none)
{
    static const pgno_t child[] = {2, 3};
    static const int kinds[] = {BT_TABLE_LEAF, BT_INDEX_LEAF, 0, 1, 255};
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        make(kinds[i], 0, child, 2);
        cr_assert_eq(bt_page_children(page, PAGE, 2, out, MOST), 0);
    }
}

Test(btree_page, a_page_that_makes_no_sense_has_none)
{
    /* rule: each offset and number is compared with its bound */
    static const pgno_t child[] = {2, 3, 4};
    make(BT_TABLE_INNER, 0, child, 3);
    cr_assert_eq(bt_page_children(page, PAGE, 2, out, 2), 0, "more than there is room for");
    cr_assert_eq(bt_page_children(page, PAGE, 2, out, 3), 3);
    page[14] = 1, page[15] = 0xfd; /* a cell of which three bytes are on the page */
    cr_assert_eq(bt_page_children(page, PAGE, 2, out, MOST), 0);
    page[14] = 0xff;
    cr_assert_eq(bt_page_children(page, PAGE, 2, out, MOST), 0);
    make(BT_TABLE_INNER, 0, child, 3);
    page[3] = 0xff; /* cells without end */
    cr_assert_eq(bt_page_children(page, PAGE, 2, out, MOST), 0);
    page[3] = 0, page[4] = 251; /* whose pointers do not fit */
    cr_assert_eq(bt_page_children(page, PAGE, 2, out, 400), 0);
}

Test(btree_page, a_page_of_a_tree_names_no_page_that_follows)
{
    /* rule: who follows a chain stops at a page of a b-tree, unless the database has 2^25 pages */
    static const pgno_t child[] = {2, 3};
    make(BT_INDEX_INNER, 0, child, 2);
    cr_assert_geq(bt_chain_next(page), 1u << 25);
    co_put32be(page, 77);
    cr_assert_eq(bt_chain_next(page), 77);
}
