#include <criterion/criterion.h>

#include "proto/lsn.h"
#include "tests/unit/proto/random.h"

TestSuite(lsn, .timeout = 20);

Test(lsn, prints_sixteen_digits_that_sort_as_time_does)
{
    /* Text order of printed LSNs is their order as numbers. */
    struct rnd r = rnd_begin("lsn");
    for (int i = 0; i < 10000; i++) {
        char a[LSN_TEXT], b[LSN_TEXT];
        lsn_t x = rnd_any(&r), y = rnd_any(&r);
        cr_assert_eq(strlen(lsn_format(x, a)), 16);
        int order = strcmp(a, lsn_format(y, b));
        cr_assert_eq((x > y) - (x < y), (order > 0) - (order < 0), "%s %s", a, b);
    }
    char text[LSN_TEXT];
    cr_assert_str_eq(lsn_format(0x1a40, text), "0000000000001a40");
    cr_assert_str_eq(lsn_format(UINT64_MAX, text), "ffffffffffffffff");
}

Test(lsn, reads_what_it_prints)
{
    struct rnd r = rnd_begin("lsn");
    for (int i = 0; i < 10000; i++) {
        char text[LSN_TEXT];
        lsn_t x = rnd_any(&r), y = ~x;
        cr_assert_eq(lsn_parse(lsn_format(x, text), &y), 0);
        cr_assert_eq(x, y);
    }
}

Test(lsn, reads_every_spelling)
{
    static const struct {
        const char *text;
        lsn_t lsn;
    } rows[] = {
        {"0000000000001a40", 0x1a40},
        {"0000000000001A40", 0x1a40},
        {"1700000000000000", 0x1700000000000000}, /* 16 digits are never a time */
        {"ffffffffffffffff", UINT64_MAX},
        {"FEDCBA9876543210", 0xfedcba9876543210},
        {"0/1A40", 0x1a40},
        {"1/0", 0x100000000},
        {"ffffffff/ffffffff", UINT64_MAX},
        {"lsn:0000000000001a40", 0x1a40},
        {"lsn:1a40", 0x1a40},
        {"lsn:1640", 0x1640},
        {"lsn:0/1a40", 0x1a40},
        {"lsn:0", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lsn_t lsn = 77;
        cr_expect_eq(lsn_parse(rows[i].text, &lsn), 0, "%s: %s", rows[i].text, co_sentence());
        cr_expect_eq(lsn, rows[i].lsn, "%s", rows[i].text);
    }
}

Test(lsn, refuses_what_is_no_position)
{
    static const char *const rows[] = {
        "",
        "lsn:",
        "/",
        "0/",
        "/0",
        "0/123456789",
        "123456789/0",
        "0/1/2",
        "0x1a40",
        " 0/1",
        "0/1 ",
        "LSN:0/1",
        "lsn:lsn:0/1",
        "now",
        "time:1640",
        "lsn:0/1 ",
        "lsn:g",
        "-1",
        "+5",
        "0/-1",
        "lsn:-1",
        "00000000000001a40",
        "lsn:00000000000001a40",
        "000000000000001g",
        "000000000000000\xff",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lsn_t lsn = 77;
        cr_expect_eq(lsn_parse(rows[i], &lsn), CO_ERR_INVAL, "'%s'", rows[i]);
        cr_expect_eq(lsn, 77, "'%s' left nothing behind", rows[i]);
    }
}

Test(lsn, a_number_that_could_be_a_time_is_refused_with_both_spellings)
{
    static const char *const rows[] = {"1640", "1a40",           "1700000000", "000000000001a40",
                                       "0",    "00000000000001a"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lsn_t lsn;
        char want[64];
        cr_assert_eq(lsn_parse(rows[i], &lsn), CO_ERR_INVAL);
        snprintf(want, sizeof want, "lsn:%s or time:%s", rows[i], rows[i]);
        cr_expect(strstr(co_sentence(), want), "%s", co_sentence());
    }
}

Test(lsn, commit_ids_come_back)
{
    struct rnd r = rnd_begin("lsn");
    for (int i = 0; i < 10000; i++) {
        char text[LSN_COMMIT_ID_TEXT];
        term_t term = rnd_any(&r) | 1, t;
        lsn_t lsn = rnd_any(&r), l;
        cr_assert_eq(lsn_commit_id_parse(lsn_commit_id_format(term, lsn, text), &t, &l), 0);
        cr_assert(t == term && l == lsn, "%s", text);
    }
    char text[LSN_COMMIT_ID_TEXT];
    cr_assert_str_eq(lsn_commit_id_format(UINT64_MAX, UINT64_MAX, text),
                     "18446744073709551615:ffffffffffffffff");
}

Test(lsn, a_term_says_whose_it_may_be)
{
    /* Blocks follow each other, and begin anew with each archive that the cluster was made of. */
    const term_t a = TERMS_A_TIMELINE, all = TERMS_A_CLUSTER;
    cr_assert(term_is_of(1, 0) && term_is_of(a, 0) && !term_is_of(a + 1, 0) && !term_is_of(0, 0));
    cr_assert(!term_is_of(a, a) && term_is_of(a + 1, a) && term_is_of(2 * a, a));
    cr_assert(!term_is_of(2 * a + 1, a));
    cr_assert(term_is_of(all + a + 1, a) && term_is_of(a + 1, all + a));
    cr_assert(!term_is_of(all + a, a) && term_is_of(all, all - a) && term_is_of(all + 1, 0));
    cr_assert(TERM_BORN_MAX % a == 0);
    cr_assert(term_is_of(TERM_BORN_MAX + a, TERM_BORN_MAX));
}

Test(lsn, refuses_what_is_no_commit_id)
{
    static const char *const rows[] = {
        "",
        ":",
        "7",
        "7:",
        ":0000000000001a40",
        "0:0000000000001a40",
        "x:0000000000001a40",
        "7:1a40",
        "7:0/1a40",
        "7:lsn:0000000000001a40",
        "7:0000000000001a40 ",
        "7:0000000000001a4g",
        "18446744073709551616:0000000000001a40",
        "-7:0000000000001a40",
        "7 :0000000000001a40",
        "184467440737095516150:0000000000001a40",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        term_t term = 1;
        lsn_t lsn = 2;
        cr_expect_eq(lsn_commit_id_parse(rows[i], &term, &lsn), CO_ERR_INVAL, "'%s'", rows[i]);
        cr_expect(term == 1 && lsn == 2);
    }
}
