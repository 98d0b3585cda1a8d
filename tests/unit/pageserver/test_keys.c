#include <criterion/criterion.h>

#include "pageserver/keys.h"

TestSuite(keys, .timeout = 20);

static int page_cmp(struct ps_page_key a, struct ps_page_key b)
{
    uint8_t x[PS_PAGE_KEY_BYTES], y[PS_PAGE_KEY_BYTES];
    ps_page_key_put(x, &a);
    ps_page_key_put(y, &b);
    return memcmp(x, y, sizeof x);
}

Test(keys, memcmp_order_of_page_keys_is_the_lookup_order)
{
    /* A lookup is one seek: timeline, page, then versions from new to old, chunks ascending. */
    struct ps_page_key k = {.no = 258, .pgno = 70000, .lsn = 5000, .chunk = 3}, o;
    o = k, o.no = 259, o.pgno = 1;
    cr_assert_lt(page_cmp(k, o), 0, "timelines ascend");
    o = k, o.pgno = 70001, o.lsn = UINT64_MAX, o.chunk = 0;
    cr_assert_lt(page_cmp(k, o), 0, "pages ascend");
    o = k, o.lsn = 4999, o.chunk = 0;
    cr_assert_lt(page_cmp(k, o), 0, "an older version comes later");
    o = k, o.lsn = 1ull << 40, o.chunk = 200;
    cr_assert_gt(page_cmp(k, o), 0, "a newer version comes before");
    o = k, o.chunk = 4;
    cr_assert_lt(page_cmp(k, o), 0, "chunks ascend");
}

Test(keys, the_seek_for_an_lsn_passes_newer_versions_and_stops_at_the_one_at_or_below)
{
    /* I13: newest version at or below the LSN. */
    struct ps_page_key want = {.no = 1, .pgno = 9, .lsn = 100};
    struct ps_page_key at = {.no = 1, .pgno = 9, .lsn = 100},
                       above = {.no = 1, .pgno = 9, .lsn = 101, .chunk = 255};
    struct ps_page_key below = {.no = 1, .pgno = 9, .lsn = 99};
    cr_assert_lt(page_cmp(above, want), 0);
    cr_assert_eq(page_cmp(at, want), 0);
    cr_assert_gt(page_cmp(below, want), 0);
}

Test(keys, commits_and_times_ascend)
{
    /* Change lists are read forward, "newest at or before" is one step back. */
    uint8_t a[PS_TIME_KEY_BYTES], b[PS_TIME_KEY_BYTES];
    ps_commit_key_put(a, &(struct ps_commit_key){.no = 1, .lsn = 255, .chunk = 300});
    ps_commit_key_put(b, &(struct ps_commit_key){.no = 1, .lsn = 256, .chunk = 0});
    cr_assert_lt(memcmp(a, b, PS_COMMIT_KEY_BYTES), 0);
    ps_commit_key_put(b, &(struct ps_commit_key){.no = 1, .lsn = 255, .chunk = 301});
    cr_assert_lt(memcmp(a, b, PS_COMMIT_KEY_BYTES), 0);
    ps_time_key_put(a, &(struct ps_time_key){.no = 1, .time_us = 7, .lsn = 900});
    ps_time_key_put(b, &(struct ps_time_key){.no = 1, .time_us = 8, .lsn = 1});
    cr_assert_lt(memcmp(a, b, PS_TIME_KEY_BYTES), 0);
    ps_time_key_put(b, &(struct ps_time_key){.no = 1, .time_us = 7, .lsn = 901});
    cr_assert_lt(memcmp(a, b, PS_TIME_KEY_BYTES), 0, "equal times: the newest LSN last");
}

Test(keys, what_was_put_is_got_and_other_lengths_are_refused)
{
    /* Bytes from disk are checked, not asserted. */
    uint8_t bytes[PS_PAGE_KEY_BYTES];
    struct ps_page_key k = {.no = 4000000000u,
                            .pgno = 4294967294u,
                            .lsn = 0x123456789abcdef,
                            .chunk = 129},
                       got;
    ps_page_key_put(bytes, &k);
    cr_assert(ps_page_key_get(co_span_of(bytes, sizeof bytes), &got));
    cr_assert(got.no == k.no && got.pgno == k.pgno && got.lsn == k.lsn && got.chunk == k.chunk);
    cr_assert_not(ps_page_key_get(co_span_of(bytes, sizeof bytes - 1), &got));
    struct ps_commit_key c;
    cr_assert_not(ps_commit_key_get(co_span_of(bytes, 13), &c));
    struct ps_time_key t;
    cr_assert_not(ps_time_key_get(co_span_of(bytes, 17), &t));
}
