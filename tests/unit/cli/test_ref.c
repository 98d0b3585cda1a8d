#include <criterion/criterion.h>
#include <string.h>

#include "cli/ref.h"
#include "cli/text.h"

TestSuite(ref, .timeout = 10);

#define NOW 1800000000000000ull

static struct ref r, of;

Test(ref, is_a_database_a_branch_and_a_moment)
{
    /* rule: DB[/BRANCH][@MOMENT], main and the head when they are not written */
    cr_assert_eq(ref_parse("shop", NOW, &r), 0);
    cr_assert_str_eq(r.db, "shop");
    cr_assert_str_eq(r.branch, "main");
    cr_assert_str_eq(r.at, "");
    cr_assert_eq(ref_parse("shop/try@-5m", NOW, &r), 0);
    cr_assert_str_eq(r.branch, "try");
    cr_assert_str_eq(r.at, "-5m");
    cr_assert_eq(ref_parse("shop@5m", NOW, &r), CO_ERR_INVAL);
    cr_assert_eq(ref_parse("shop@", NOW, &r), CO_ERR_INVAL);
    cr_assert_eq(ref_parse("my shop@-5m", NOW, &r), CO_ERR_NAME);
}

Test(ref, source_of_a_restore_is_a_moment_or_another_branch)
{
    /* rule: --to takes moments with a slash (0/1A40, -2h) and DB/BRANCH[@MOMENT] apart */
    cr_assert_eq(ref_parse("shop/try", NOW, &of), 0);
    cr_assert_eq(ref_parse_source("-10m", &of, NOW, &r), 0);
    cr_assert_str_eq(r.branch, "try");
    cr_assert_str_eq(r.at, "-10m");
    cr_assert_eq(ref_parse_source("0/1A40", &of, NOW, &r), 0);
    cr_assert_str_eq(r.branch, "try");
    cr_assert_str_eq(r.at, "0/1A40");
    cr_assert_eq(ref_parse_source("shop/kept", &of, NOW, &r), 0);
    cr_assert_str_eq(r.branch, "kept");
    cr_assert_str_eq(r.at, "");
    cr_assert_eq(ref_parse_source("shop@-10m", &of, NOW, &r), 0);
    cr_assert_str_eq(r.branch, "main");
    cr_assert_eq(ref_parse_source("books/kept@-1m", &of, NOW, &r), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "--from"), "the sentence names what does it: %s",
              co_sentence());
    cr_assert_eq(ref_parse_source("kept", &of, NOW, &r), CO_ERR_INVAL);
}

Test(ref, lifetimes_need_a_unit_and_are_not_zero)
{
    /* rule: a wrong lifetime is refused, never guessed */
    static const char *const wrong[] = {"",    "0h",  "24",          "h", "-1h",
                                        "1hh", "1 h", "9999999999d", "1y"};
    uint64_t us = 0;
    cr_assert_eq(ref_parse_lifetime("24h", &us), 0);
    cr_assert_eq(us, 86400000000ull);
    cr_assert_eq(ref_parse_lifetime("30s", &us), 0);
    cr_assert_eq(us, 30000000ull);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_assert_eq(ref_parse_lifetime(wrong[i], &us), CO_ERR_INVAL, "'%s'", wrong[i]);
}

Test(ref, uri_holds_what_was_resolved)
{
    /* rule: what is opened is the resolved transaction, whatever time passes */
    char uri[REF_URI], text[64];
    cr_assert_eq(ref_parse("shop/try@-5m", NOW, &r), 0);
    cr_assert_str_eq(ref_uri(&r, 0x1a40, uri),
                     "file:shop/try?vfs=corallite&at=lsn:0000000000001a40");
    cr_assert_str_eq(ref_uri(&r, 0, uri), "file:shop/try?vfs=corallite");
    cr_assert_str_eq(text_percent("5 min&x=1%", text, sizeof text), "5%20min%26x%3D1%25");
    cr_assert_eq(strlen(text_percent("ab&&&&&", text, 8)), 5, "cut at a whole one: %s", text);
}
