#include <criterion/criterion.h>

#include "proto/name.h"
#include "tests/unit/proto/random.h"

TestSuite(name, .timeout = 20);

#define X63 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz01234567890"

Test(name, allowed_and_refused)
{
    /* [A-Za-z0-9][A-Za-z0-9._-]{0,62} and nothing else. */
    static const char *const good[] = {"a",       "Z",   "0",   "shop",   "my-shop",
                                       "a.b_c-d", "a--", "a..", "1.2.3_", X63};
    static const char *const bad[] = {"",      "-a", ".a", "_a",       "a b", "a/b",
                                      "a\n",   " a", "a ", "\xc3\xbc", "a:b", "a@b",
                                      X63 "x", "..", ".",  "a\\b",     "a'b", "a\x7f"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        cr_expect_eq(name_check(good[i]), 0, "'%s': %s", good[i], co_sentence());
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_eq(name_check(bad[i]), CO_ERR_NAME, "'%s'", bad[i]);
    for (int c = 1; c < 256; c++) {
        char text[3] = {'a', (char)c, 0};
        bool ok = c < 128 && strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                    "0123456789._-",
                                    c);
        cr_expect_eq(name_check(text), ok ? 0 : CO_ERR_NAME, "character %d", c);
    }
}

Test(name, proposals)
{
    static const char *const rows[][2] = {
        {"my shop!", "my-shop"},
        {"", "db"},
        {"!!!", "db"},
        {"shop", "shop"},
        {"  a  b  ", "a-b"},
        {"a - b", "a-b"},
        {"a- b", "a-b"},
        {"a -b", "a-b"},
        {"../../etc/passwd", "etc-passwd"},
        {"-a", "a"},
        {"a--b", "a--b"},
        {"caf\xc3\xa9 24", "caf-24"},
        {"_x", "x"},
        {"a/", "a"},
        {X63 "x", X63},
        {"a.db", "a.db"},
        {"...", "db"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[CO_NAME_MAX_BYTES + 1];
        name_propose(rows[i][0], out);
        cr_expect_str_eq(out, rows[i][1], "'%s' -> '%s'", rows[i][0], out);
    }
}

Test(name, every_proposal_is_valid_and_stays_itself)
{
    struct rnd r = rnd_begin("name");
    for (int i = 0; i < 20000; i++) {
        char text[140], out[CO_NAME_MAX_BYTES + 1], again[CO_NAME_MAX_BYTES + 1];
        uint32_t n = rnd_below(&r, sizeof text);
        bool plain = rnd_below(&r, 2);
        for (uint32_t k = 0; k < n; k++)
            text[k] = plain ? "ab-._ !/"[rnd_below(&r, 8)] : (char)(1 + rnd_below(&r, 255));
        text[n] = 0;
        name_propose(text, out);
        cr_assert_eq(name_check(out), 0, "'%s' -> '%s'", text, out);
        name_propose(out, again);
        cr_assert_str_eq(out, again);
    }
}

Test(name, a_refusal_proposes_a_name_and_hides_control_characters)
{
    cr_assert_eq(name_check("my shop!\n"), CO_ERR_NAME);
    cr_expect(strstr(co_sentence(), "'my-shop'"), "%s", co_sentence());
    cr_expect(strstr(co_sentence(), "'my shop!?'"), "%s", co_sentence());
    cr_expect_not(strchr(co_sentence(), '\n'));
}

Test(name, a_refusal_of_a_long_text_shows_its_beginning)
{
    char text[200], want[60];
    memset(text, '~', sizeof text - 1);
    text[sizeof text - 1] = 0;
    memset(want, '~', sizeof want);
    memcpy(want + 44, "...'", 5);
    cr_assert_eq(name_check(text), CO_ERR_NAME);
    cr_expect(strstr(co_sentence(), want), "%s", co_sentence());
    text[47] = 0; /* 47 characters are shown whole */
    cr_assert_eq(name_check(text), CO_ERR_NAME);
    cr_expect_not(strstr(co_sentence(), "..."), "%s", co_sentence());
}

Test(name, more_than_one_slash_is_called_by_its_name)
{
    char db[CO_NAME_MAX_BYTES + 1], branch[CO_NAME_MAX_BYTES + 1];
    cr_assert_eq(name_split("a/b/c", db, branch), CO_ERR_NAME);
    cr_expect(strstr(co_sentence(), "more than one /"), "%s", co_sentence());
}

Test(name, splits_database_and_branch)
{
    static const char *const good[][3] = {
        {"shop", "shop", "main"}, {"shop/dev", "shop", "dev"}, {X63 "/" X63, X63, X63}};
    static const char *const bad[] = {
        "",        "/",          "a/",    "/a",    "a/b/c",         "a//b",
        X63 "x/a", "a/" X63 "x", "a b/c", "a/b c", X63 X63 X63 "/a"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char db[CO_NAME_MAX_BYTES + 1], branch[CO_NAME_MAX_BYTES + 1];
        memset(db, 'x', sizeof db);
        memset(branch, 'x', sizeof branch);
        cr_assert_eq(name_split(good[i][0], db, branch), 0, "%s", co_sentence());
        cr_expect_str_eq(db, good[i][1]);
        cr_expect_str_eq(branch, good[i][2]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char db[CO_NAME_MAX_BYTES + 1] = "x", branch[CO_NAME_MAX_BYTES + 1] = "y";
        cr_expect_eq(name_split(bad[i], db, branch), CO_ERR_NAME, "'%s'", bad[i]);
        cr_expect(db[0] == 'x' && branch[0] == 'y', "'%s' left something behind", bad[i]);
    }
}
