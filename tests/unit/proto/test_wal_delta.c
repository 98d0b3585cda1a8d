#include "proto/wal_delta.h"

#include "tests/unit/proto/wal_fixture.h"

TestSuite(wal_delta, .timeout = 30);

static size_t make(const uint8_t *base, const uint8_t *page, uint8_t *out)
{
    return wal_delta_make(base, page, 512, out, 512);
}

Test(wal_delta, golden_bytes)
{
    /* Run lists lie in logs for years: the format of wal.h, written out. */
    uint8_t base[512] = {0}, page[512] = {0}, out[512];
    cr_assert_eq(make(base, page, out), 0, "pages that are alike have an empty list");
    page[0] = 1;
    page[200] = 2;
    page[201] = 3;
    page[511] = 4;
    static const uint8_t want[] = {0, 1, 1, 0xc7, 1, 2, 2, 3, 0xb5, 2, 1, 4};
    cr_assert_eq(make(base, page, out), sizeof want);
    cr_assert_arr_eq(out, want, sizeof want);
}

Test(wal_delta, runs_merge_when_two_would_cost_more)
{
    uint8_t base[512] = {0}, page[512] = {0}, out[512];
    page[10] = page[13] = 9; /* two equal bytes between: one run of 4 bytes costs as much as two */
    cr_assert_eq(make(base, page, out), 6);
    static const uint8_t one[] = {10, 4, 9, 0, 0, 9};
    cr_assert_arr_eq(out, one, sizeof one);
    page[13] = 0;
    page[14] = 9; /* three: two runs are shorter */
    static const uint8_t two[] = {10, 1, 9, 3, 1, 9};
    cr_assert_eq(make(base, page, out), sizeof two);
    cr_assert_arr_eq(out, two, sizeof two);
}

Test(wal_delta, turns_any_base_into_any_page)
{
    struct rnd r = rnd_begin("wal_delta");
    static uint8_t base[65536], page[65536], work[65536];
    for (int i = 0; i < 3000; i++) {
        uint32_t size = 512u << (i % 40 == 0 ? rnd_below(&r, 8) : rnd_below(&r, 3));
        fx_page(&r, base, size, rnd_below(&r, 3) == 0 ? 1 : 0);
        memcpy(page, base, size);
        fx_change(&r, page, size, rnd_below(&r, 12), 1 + rnd_below(&r, 60));
        if (rnd_below(&r, 30) == 0)
            fx_page(&r, page, size, 1);
        uint8_t *exact_base = fx_exact(base, size), *exact_page = fx_exact(page, size);
        uint8_t *out = malloc(2 * size);
        cr_assert(out);
        size_t n = wal_delta_make(exact_base, exact_page, size, out, 2 * size);
        cr_assert_neq(n, WAL_DELTA_NONE);
        cr_assert_leq(n, size + 4, "never longer than one run over all");
        memcpy(work, base, size);
        uint8_t *runs = fx_exact(out, n);
        cr_assert(wal_delta_apply(co_span_of(runs, n), work, size));
        cr_assert_eq(memcmp(work, page, size), 0);
        free(runs);
        free(out);
        free(exact_base);
        free(exact_page);
    }
}

Test(wal_delta, stays_within_the_room_it_was_given)
{
    struct rnd r = rnd_begin("wal_delta");
    uint8_t base[512], page[512], full[1024];
    for (int i = 0; i < 200; i++) {
        fx_page(&r, base, 512, 0);
        memcpy(page, base, 512);
        fx_change(&r, page, 512, 5, 20);
        size_t n = wal_delta_make(base, page, 512, full, sizeof full);
        for (size_t cap = 0; cap <= n + 1; cap++) {
            uint8_t *out = malloc(cap ? cap : 1);
            cr_assert(out);
            size_t got = wal_delta_make(base, page, 512, out, cap);
            cr_assert_eq(got, cap < n ? WAL_DELTA_NONE : n);
            cr_assert(cap < n || memcmp(out, full, n) == 0);
            free(out);
        }
    }
}

Test(wal_delta, malformed_lists_are_refused)
{
    static const struct {
        const char *why;
        uint8_t bytes[16];
        size_t len;
        bool ok;
    } rows[] = {
        {"nothing", {0}, 0, true},
        {"a run", {1, 2, 7, 7}, 4, true},
        {"the last byte", {0xff, 3, 1, 7}, 4, true},
        {"a gap to the end and no run", {0x80, 4}, 2, false},
        {"a gap beyond the page", {0x81, 4, 1, 7}, 4, false},
        {"a run beyond the page", {0xff, 3, 2, 7, 7}, 5, false},
        {"second run beyond the page", {0, 1, 7, 0xff, 3, 1, 7}, 7, false},
        {"a run of no bytes", {1, 0}, 2, false},
        {"a gap and no length", {1}, 1, false},
        {"half a varint", {0x80}, 1, false},
        {"half a length", {1, 0x80}, 2, false},
        {"a run cut short", {1, 3, 7, 7}, 4, false},
        {"a length of 64 bits",
         {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 7},
         12,
         false},
        {"a gap of 64 bits",
         {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 7},
         12,
         false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t *runs = fx_exact(rows[i].bytes, rows[i].len), *page = calloc(1, 512);
        cr_assert(page);
        cr_expect_eq(wal_delta_apply(co_span_of(runs, rows[i].len), page, 512), rows[i].ok, "%s",
                     rows[i].why);
        free(runs);
        free(page);
    }
}

Test(wal_delta, random_lists_never_reach_beyond_the_page)
{
    struct rnd r = rnd_begin("wal_delta");
    for (int i = 0; i < 50000; i++) {
        uint8_t bytes[64];
        uint32_t n = rnd_below(&r, sizeof bytes);
        rnd_fill(&r, bytes, n);
        for (uint32_t k = 0; k < n; k += 1 + rnd_below(&r, 8))
            bytes[k] &= 15;
        uint8_t *runs = fx_exact(bytes, n), *page = calloc(1, 512);
        cr_assert(page);
        bool ok = wal_delta_apply(co_span_of(runs, n), page, 512);
        cr_assert(!ok || n == 0 || n >= 3);
        free(runs);
        free(page);
    }
}
