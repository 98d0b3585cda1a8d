#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "proto/btree_page.h"
#include "cli/btree_record.h"
#include "cli/btree_seek.h"

TestSuite(btree, .timeout = 10);

#define PAGE 512u

Test(btree, varints_are_of_one_to_nine_bytes)
{
    /* rule: SQLite's varint; the ninth byte counts with all its bits; what is cut off is none */
    static const uint8_t most[9] = {255, 255, 255, 255, 255, 255, 255, 255, 255};
    static const uint8_t two[2] = {0x81, 0x01};
    uint64_t v = 0;
    cr_assert_eq(bt_get_varint(two, 2, &v), 2);
    cr_assert_eq(v, 129);
    cr_assert_eq(bt_get_varint(most, 9, &v), 9);
    cr_assert_eq(v, UINT64_MAX);
    for (size_t n = 0; n < 9; n++)
        cr_assert_eq(bt_get_varint(most, n, &v), 0);
}

/* A leaf of a table with one cell at the end of the page. */
static void make_leaf(uint8_t page[PAGE], const uint8_t *cell, unsigned n)
{
    memset(page, 0, PAGE);
    page[0] = BT_TABLE_LEAF;
    page[4] = 1;
    page[8] = (uint8_t)((PAGE - n) >> 8);
    page[9] = (uint8_t)(PAGE - n);
    memcpy(page + PAGE - n, cell, n);
}

Test(btree, a_cell_is_read_within_its_page)
{
    /* rule: every offset and length of a page is compared with its bound */
    static const uint8_t cell[] = {3, 5, 2, 9, 8};
    uint8_t data[PAGE];
    struct bt_page page;
    struct bt_cell c;
    make_leaf(data, cell, sizeof cell);
    cr_assert_eq(bt_page_open(&page, data, PAGE, 2), 0);
    cr_assert_eq(bt_page_cell(&page, 0, &c), 0);
    cr_assert_eq(c.rowid, 5);
    cr_assert_eq(c.bytes, 3);
    cr_assert_eq(c.local_bytes, 3);
    cr_assert_eq(c.overflow, 0);

    data[PAGE - sizeof cell] = 4; /* one byte more than there is */
    cr_assert_eq(bt_page_cell(&page, 0, &c), CO_ERR_CORRUPT);
    data[8] = 0xff; /* outside */
    cr_assert_eq(bt_page_cell(&page, 0, &c), CO_ERR_CORRUPT);
    data[8] = data[9] = 0; /* in the header */
    cr_assert_eq(bt_page_cell(&page, 0, &c), CO_ERR_CORRUPT);
    data[3] = 0xff; /* cells without end */
    cr_assert_eq(bt_page_open(&page, data, PAGE, 2), CO_ERR_CORRUPT);
    data[0] = 0; /* an overflow page */
    cr_assert_eq(bt_page_open(&page, data, PAGE, 2), CO_ERR_CORRUPT);
}

Test(btree, a_long_record_goes_on_elsewhere)
{
    /* rule: how much of a record stays on its leaf is as the file format says */
    uint8_t cell[PAGE] = {0x8f, 0x50, 1}, data[PAGE]; /* 2,000 bytes, rowid 1 */
    struct bt_page page;
    struct bt_cell c;
    unsigned least = (PAGE - 12) * 32 / 255 - 23, local = least + (2000 - least) % (PAGE - 4);
    if (local > PAGE - 35)
        local = least;
    cell[3 + local + 3] = 7;
    make_leaf(data, cell, 3 + local + 4);
    cr_assert_eq(bt_page_open(&page, data, PAGE, 2), 0);
    cr_assert_eq(bt_page_cell(&page, 0, &c), 0);
    cr_assert_eq(c.bytes, 2000);
    cr_assert_eq(c.local_bytes, local);
    cr_assert_eq(c.overflow, 7);
    data[PAGE - 1] = 0; /* it goes on nowhere */
    cr_assert_eq(bt_page_cell(&page, 0, &c), CO_ERR_CORRUPT);
}

Test(btree, a_record_tells_its_values_or_how_much_of_it_is_wanted)
{
    /* rule: NULL, integers of each width, constants, reals, texts and blobs; bounds are checked */
    static const uint8_t record[] = {8,    0,    1,   9, 7, 19,   16,  2, /* header */
                                     0xff,                                /* -1 */
                                     0x3f, 0xf8, 0,   0, 0, 0,    0,   0, /* 1.5 */
                                     'a',  'b',  'c', 1, 2, 0xff, 0xfe};
    struct bt_value v[7];
    uint64_t need = 0;
    cr_assert_eq(bt_record_values(co_span_of(record, sizeof record), 7, v, &need), 0);
    cr_assert_eq(v[0].type, BT_NULL);
    cr_assert_eq(v[1].integer, -1);
    cr_assert_eq(v[2].integer, 1);
    cr_assert(v[3].type == BT_REAL && v[3].real > 1.4999 && v[3].real < 1.5001);
    cr_assert(v[4].type == BT_TEXT && v[4].bytes.len == 3 && v[4].bytes.data[2] == 'c');
    cr_assert(v[5].type == BT_BLOB && v[5].bytes.len == 2);
    cr_assert_eq(v[6].integer, -2);
    cr_assert_eq(bt_record_values(co_span_of(record, 4), 2, v, &need), CO_ERR_AGAIN);
    cr_assert_eq(need, 8);
    cr_assert_eq(bt_record_values(co_span_of(record, 9), 4, v, &need), CO_ERR_AGAIN);
    cr_assert_eq(need, 17);
    cr_assert_eq(bt_record_values(co_span_of(record, sizeof record), 8, v, &need), CO_ERR_CORRUPT);
    static const uint8_t reserved[] = {2, 10};
    cr_assert_eq(bt_record_values(co_span_of(reserved, 2), 1, v, &need), CO_ERR_CORRUPT);
    static const uint8_t no_header[] = {0, 0};
    cr_assert_eq(bt_record_values(co_span_of(no_header, 2), 1, v, &need), CO_ERR_CORRUPT);
}

static struct bt_value text(const char *s)
{
    return (struct bt_value){.type = BT_TEXT, .bytes = co_span_of(s, strlen(s))};
}

Test(btree, keys_are_ordered_as_sqlite_orders)
{
    /* rule: NULL, numbers, texts by their collation, blobs; DESC turns a column round */
    struct bt_key key = {.n = 1};
    struct bt_value null = {.type = BT_NULL}, two = {.type = BT_INTEGER, .integer = 2},
                    more = {.type = BT_REAL, .real = 2.5}, a = text("abc"), b = text("ABD"),
                    spaces = text("abc  "), blob = {.type = BT_BLOB};
    cr_assert_lt(bt_key_compare(&key, &null, &two), 0);
    cr_assert_lt(bt_key_compare(&key, &two, &more), 0);
    cr_assert_lt(bt_key_compare(&key, &more, &a), 0);
    cr_assert_lt(bt_key_compare(&key, &a, &blob), 0);
    cr_assert_gt(bt_key_compare(&key, &a, &b), 0);
    cr_assert_lt(bt_key_compare(&key, &a, &spaces), 0);
    key.column[0].collation = BT_NOCASE;
    cr_assert_lt(bt_key_compare(&key, &a, &b), 0);
    key.column[0].collation = BT_RTRIM;
    cr_assert_eq(bt_key_compare(&key, &a, &spaces), 0);
    key.column[0].descending = true;
    cr_assert_gt(bt_key_compare(&key, &null, &two), 0);
    struct bt_value big = {.type = BT_INTEGER, .integer = INT64_MAX},
                    near = {.type = BT_REAL, .real = 9223372036854775808.0};
    key.column[0].descending = false;
    cr_assert_lt(bt_key_compare(&key, &big, &near), 0);
    cr_assert_gt(bt_key_compare(&key, &near, &big), 0);
    /* around 2^53 + 1, which no double holds, around a fraction, and below all integers */
    struct bt_value odd = {.type = BT_INTEGER, .integer = 9007199254740993},
                    even = {.type = BT_REAL, .real = 9007199254740992.0},
                    minus = {.type = BT_INTEGER, .integer = -2},
                    below = {.type = BT_REAL, .real = -2.5},
                    least = {.type = BT_INTEGER, .integer = INT64_MIN},
                    same = {.type = BT_REAL, .real = -9223372036854775808.0},
                    lower = {.type = BT_REAL, .real = -1e300};
    cr_assert_gt(bt_key_compare(&key, &odd, &even), 0);
    cr_assert_gt(bt_key_compare(&key, &minus, &below), 0);
    cr_assert_lt(bt_key_compare(&key, &below, &minus), 0);
    cr_assert_eq(bt_key_compare(&key, &least, &same), 0);
    cr_assert_gt(bt_key_compare(&key, &least, &lower), 0);
    cr_assert_lt(bt_key_compare(&key, &more, &odd), 0);
}

static uint8_t pages[4][PAGE];

static int read_page(void *context, pgno_t pgno, uint8_t *out)
{
    (void)context;
    memcpy(out, pages[pgno - 1], PAGE);
    return 0;
}

static bool go_on(void *context, pgno_t pgno)
{
    (void)pgno;
    return ++*(unsigned *)context < 1000;
}

Test(btree, no_walk_goes_round)
{
    /* rule: a loop in the list of free pages, in a b-tree or in a chain ends with a sentence */
    struct bt_file f;
    bool found;
    struct bt_bounds bounds;
    pages[0][100] = BT_TABLE_INNER;
    pages[0][111] = 2; /* right child of page 1 */
    pages[1][0] = BT_TABLE_INNER;
    pages[1][11] = 2; /* its own child */
    pages[0][35] = 3; /* first trunk */
    pages[2][3] = 3;  /* goes on at itself */
    cr_assert_eq(bt_file_open(&f, read_page, NULL, PAGE, 4), 0);
    cr_assert_eq(bt_seek_rowid(&f, 1, 5, 4, &found, &bounds), CO_ERR_CORRUPT);
    cr_assert_eq(bt_seek_rowid(&f, 1, 5, 2, &found, &bounds), 0);
    cr_assert(found);
    unsigned visits = 0;
    cr_assert_eq(bt_each_free(&f, go_on, &visits), CO_ERR_CORRUPT);
    cr_assert_lt(visits, 10);
    /* a loop of trunks that are full of leaves: no more pages are free than there are */
    pages[2][7] = 100;
    visits = 0;
    cr_assert_eq(bt_each_free(&f, go_on, &visits), CO_ERR_CORRUPT);
    cr_assert_leq(visits, 4);
    struct bt_cell cell = {.bytes = 100000, .overflow = 3};
    struct bt_value value;
    memset(pages[2] + 4, 0xff, 9); /* a header without end */
    cr_assert_eq(bt_cell_values(&f, &cell, 1, 0, &value), CO_ERR_CORRUPT);
    cr_assert_eq(bt_file_read(&f, 5, f.spare), CO_ERR_CORRUPT);
    bt_file_close(&f);
}
