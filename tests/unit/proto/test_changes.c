#include <criterion/criterion.h>
#include <signal.h>

#include "proto/changes.h"
#include "tests/unit/proto/random.h"

TestSuite(changes, .timeout = 20);

/* A copy without a byte to spare, so that a read past its end is one past an allocation. */
static uint8_t *exact(const uint8_t *data, size_t len)
{
    uint8_t *p = malloc(len ? len : 1);
    cr_assert(p);
    memcpy(p, data, len);
    return p;
}

Test(changes, have_these_very_bytes)
{
    /* The list lies in the pageserver's store: a change of the format must be noticed. */
    static const pgno_t first[] = {1, 2, 300}, second[] = {UINT32_MAX};
    static const uint8_t want[] = {
        0x88, 0x02, 0xac, 0x02, 0x03, 0x01, 0x01, 0xaa, 0x02, /* +264, 300 pages, 3: 1 2 300 */
        0x08, 0x00, 0x00,                                     /* +8, 0 pages, none */
        0x01, 0x07, 0x01, 0xff, 0xff, 0xff, 0xff, 0x0f,       /* +1, 7 pages, 1 */
    };
    struct co_buf out = {0};
    cr_assert_eq(changes_put_commit(&out, 4096, 4360, 300, first, 3), 0);
    cr_assert_eq(changes_put_commit(&out, 4360, 4368, 0, NULL, 0), 0);
    cr_assert_eq(changes_put_commit(&out, 4368, 4369, 7, second, 1), 0);
    cr_assert_eq(out.len, sizeof want);
    cr_assert_arr_eq(out.data, want, sizeof want);
    co_buf_free(&out);
}

Test(changes, come_back_in_order)
{
    struct rnd r = rnd_begin("changes");
    for (int round = 0; round < 300; round++) {
        struct {
            lsn_t lsn;
            uint32_t db_pages, n;
            pgno_t pgnos[64];
        } commits[8];
        uint32_t n_commits = rnd_below(&r, 9);
        lsn_t since = rnd_any(&r) / 2, prev = since;
        struct co_buf out = {0};
        for (uint32_t i = 0; i < n_commits; i++) {
            pgno_t last = 0;
            commits[i].lsn = prev + 1 + (rnd_any(&r) >> 8);
            commits[i].db_pages = (uint32_t)rnd_any(&r);
            commits[i].n = rnd_below(&r, 65);
            for (uint32_t k = 0; k < commits[i].n; k++)
                last = commits[i].pgnos[k] = last + 1 + (uint32_t)(rnd_any(&r) >> 39);
            cr_assert_eq(changes_put_commit(&out, prev, commits[i].lsn, commits[i].db_pages,
                                            commits[i].pgnos, commits[i].n),
                         0);
            prev = commits[i].lsn;
        }
        struct co_span rest = co_buf_span(&out);
        prev = since;
        for (uint32_t i = 0; i < n_commits; i++) {
            lsn_t lsn;
            uint32_t db_pages, n;
            pgno_t *pgnos;
            cr_assert_eq(changes_get_commit(&rest, prev, &lsn, &db_pages, &pgnos, &n), 0);
            cr_assert(lsn == commits[i].lsn && db_pages == commits[i].db_pages &&
                      n == commits[i].n);
            cr_assert_eq(n && memcmp(pgnos, commits[i].pgnos, n * sizeof *pgnos), 0);
            free(pgnos);
            prev = lsn;
        }
        lsn_t lsn;
        uint32_t a, b;
        pgno_t *pgnos;
        cr_assert_eq(changes_get_commit(&rest, prev, &lsn, &a, &pgnos, &b), CO_ERR_AGAIN);
        co_buf_free(&out);
    }
}

Test(changes, every_truncation_is_refused)
{
    static const pgno_t pages[] = {5, 500, 70000};
    struct co_buf out = {0};
    cr_assert_eq(changes_put_commit(&out, 0, 1u << 30, 70000, pages, 3), 0);
    for (size_t len = 1; len < out.len; len++) {
        uint8_t *copy = exact(out.data, len);
        struct co_span rest = {copy, len};
        lsn_t lsn = 1;
        uint32_t db_pages, n;
        pgno_t *pgnos;
        cr_assert_eq(changes_get_commit(&rest, 0, &lsn, &db_pages, &pgnos, &n), CO_ERR_PROTOCOL);
        cr_assert(rest.data == copy && rest.len == len && lsn == 1, "nothing was moved or written");
        free(copy);
    }
    co_buf_free(&out);
}

Test(changes, a_count_beyond_the_bytes_takes_no_memory)
{
    /* H2: 5 bytes must not ask for 16 GiB. */
    static const uint8_t bomb[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 1, 1, 1};
    struct co_span rest = {bomb, sizeof bomb};
    pgno_t *pgnos;
    uint32_t n;
    cr_assert_eq(changes_get_pages(&rest, &pgnos, &n), CO_ERR_PROTOCOL);
    cr_assert(strstr(co_sentence(), "count"), "%s", co_sentence());
}

Test(changes, refuses_what_does_not_ascend_or_fit)
{
    static const struct {
        const char *why;
        uint8_t bytes[16];
        size_t len;
    } rows[] = {
        {"step 0", {8, 1, 1, 0}, 4},
        {"the same page twice", {8, 1, 2, 5, 0}, 5},
        {"a page beyond 32 bits", {8, 1, 1, 0x80, 0x80, 0x80, 0x80, 0x10}, 8},
        {"a sum beyond 32 bits", {8, 1, 2, 0xff, 0xff, 0xff, 0xff, 0x0f, 1}, 9},
        {"LSN that stands still", {0, 1, 0}, 3},
        {"LSN that overflows", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 0}, 12},
        {"size beyond 32 bits", {8, 0x80, 0x80, 0x80, 0x80, 0x10, 0}, 7},
        {"varint of eleven bytes",
         {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 1, 0},
         13},
        {"no count", {8, 1}, 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t *copy = exact(rows[i].bytes, rows[i].len);
        struct co_span rest = {copy, rows[i].len};
        lsn_t lsn;
        uint32_t db_pages, n;
        pgno_t *pgnos;
        cr_expect_eq(changes_get_commit(&rest, 4096, &lsn, &db_pages, &pgnos, &n), CO_ERR_PROTOCOL,
                     "%s", rows[i].why);
        free(copy);
    }
}

Test(changes, random_bytes_never_do_harm)
{
    struct rnd r = rnd_begin("changes");
    for (int i = 0; i < 100000; i++) {
        uint8_t bytes[24];
        uint32_t len = rnd_below(&r, sizeof bytes + 1);
        rnd_fill(&r, bytes, len);
        if (rnd_below(&r, 2))
            for (uint32_t k = 0; k < len; k++)
                bytes[k] &= 7;
        uint8_t *copy = exact(bytes, len);
        struct co_span rest = {copy, len};
        lsn_t lsn = 0;
        uint32_t db_pages, n;
        pgno_t *pgnos;
        int rc;
        while ((rc = changes_get_commit(&rest, lsn, &lsn, &db_pages, &pgnos, &n)) == 0) {
            for (uint32_t k = 1; k < n; k++)
                cr_assert_gt(pgnos[k], pgnos[k - 1]);
            free(pgnos);
        }
        cr_assert(rc == CO_ERR_AGAIN || rc == CO_ERR_PROTOCOL);
        free(copy);
    }
}

Test(changes, the_largest_numbers_come_back)
{
    static const pgno_t last[] = {UINT32_MAX};
    struct co_buf out = {0};
    cr_assert_eq(changes_put_commit(&out, 0, UINT64_MAX, UINT32_MAX, last, 1), 0);
    struct co_span rest = co_buf_span(&out);
    lsn_t lsn;
    uint32_t db_pages, n;
    pgno_t *pgnos;
    cr_assert_eq(changes_get_commit(&rest, 0, &lsn, &db_pages, &pgnos, &n), 0);
    cr_assert(lsn == UINT64_MAX && db_pages == UINT32_MAX && n == 1 && pgnos[0] == UINT32_MAX);
    free(pgnos);
    co_buf_free(&out);
}

Test(changes, writing_pages_that_do_not_ascend_aborts, .signal = SIGABRT)
{
    static const pgno_t twice[] = {7, 7};
    struct co_buf out = {0};
    (void)!changes_put_pages(&out, twice, 2);
}

Test(changes, writing_a_commit_that_stands_still_aborts, .signal = SIGABRT)
{
    struct co_buf out = {0};
    (void)!changes_put_commit(&out, 8, 8, 1, NULL, 0);
}
