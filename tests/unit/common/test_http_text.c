#include <criterion/criterion.h>

#include "common/http_text.h"

TestSuite(http_text, .timeout = 20);

static int undo(const char *text, char out[32])
{
    return co_http_unescape("it", text, strlen(text), out, 32);
}

Test(http_text, undoes_percent_escapes_once)
{
    /* A name arrives as it was meant, and %25 is not undone twice. */
    char out[32];
    cr_assert_eq(undo("sh%6Fp%2f%41", out), 0);
    cr_assert_str_eq(out, "shop/A");
    cr_assert_eq(undo("%2541", out), 0);
    cr_assert_str_eq(out, "%41");
    cr_assert_eq(undo("", out), 0);
    cr_assert_str_eq(out, "");
    cr_assert_eq(undo("%C3%A4", out), 0);
    cr_assert_str_eq(out, "\xc3\xa4");
}

Test(http_text, refuses_escapes_that_are_none)
{
    /* A sentence, never a byte behind the end. */
    static const char *const bad[] = {"%", "a%", "a%4", "%zz", "%4g", "%-1", "%%41"};
    char out[32];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_eq(undo(bad[i], out), CO_ERR_INVAL, "%s", bad[i]);
        cr_assert(strstr(co_sentence(), "hex digits"), "%s", co_sentence());
    }
    cr_assert_eq(co_http_unescape("it", "%414", 2, out, sizeof out), CO_ERR_INVAL);
}

Test(http_text, refuses_nul_bad_text_and_too_much)
{
    /* What C would cut, what JSON could not hold, and what is longer than its place. */
    char out[32];
    cr_assert_eq(undo("a%00b", out), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "NUL"));
    cr_assert_eq(undo("%ff", out), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "UTF-8"));
    cr_assert_eq(undo("0123456789012345678901234567890", out), 0);
    cr_assert_eq(undo("01234567890123456789012345678901", out), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "31 bytes"), "%s", co_sentence());
}

Test(http_text, knows_utf8)
{
    /* Shortest forms only, no surrogates, nothing above U+10FFFF, nothing cut off. */
    static const char *const good[] = {"",
                                       "a",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xe0\x9f\xbf",
                                      "\xe2\x82",
                                      "\xed\xa0\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "a\xffz",
                                      "\xc2\x41"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        cr_assert(co_is_utf8(good[i], strlen(good[i])), "good %zu", i);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_not(co_is_utf8(bad[i], strlen(bad[i])), "bad %zu", i);
}

Test(http_text, knows_json_by_its_type)
{
    /* Parameters may follow; what only begins alike is something else. */
    cr_assert(co_http_is_json("application/json"));
    cr_assert(co_http_is_json("Application/JSON; charset=utf-8"));
    cr_assert(co_http_is_json("application/json ;x"));
    cr_assert_not(co_http_is_json("application/jsonp"));
    cr_assert_not(co_http_is_json("text/plain"));
    cr_assert_not(co_http_is_json("text/plain; application/json"));
    cr_assert_not(co_http_is_json(""));
    cr_assert_not(co_http_is_json(NULL));
}
