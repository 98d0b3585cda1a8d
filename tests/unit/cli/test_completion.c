/* What is wanted at the end of a command line, by the table of verbs. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdio.h>
#include <string.h>

#include "cli/completion.h"

TestSuite(completion, .timeout = 10, .init = cr_redirect_stdout);

static struct completion read_line(int n, const char *words[])
{
    struct completion c;
    completion_read(n, (char **)words, &c);
    return c;
}
#define READ(...)                                                                                  \
    read_line((int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)),                       \
              (const char *[]){__VA_ARGS__})

Test(completion, an_argument_is_of_the_kind_that_the_verb_says)
{
    cr_expect_str_eq(READ("branch", "create", "").kind, "DB/BRANCH");
    cr_expect_str_eq(READ("pin", "create", "--json", "shop", "").kind, "NAME");
    cr_expect_null(READ("log", "shop", "").kind);
    cr_expect_str_eq(READ("sql", "shop", "-cmd", "").kind, "FILE");
}

Test(completion, the_value_of_an_option_is_of_the_kind_that_the_option_says)
{
    cr_expect_str_eq(READ("restore", "shop", "--to", "").kind, "REF");
    cr_expect_str_eq(READ("restore", "shop", "-t", "x").kind, "REF");
    cr_expect_str_eq(READ("export", "-o", "x.db", "sh").kind, "REF");
    struct completion c = READ("branch", "create", "shop/x", "--at=pin");
    cr_expect_str_eq(c.kind, "MOMENT");
    cr_expect_str_eq(c.head, "--at=");
    cr_expect_str_eq(c.begin, "pin");
}

Test(completion, nothing_is_known_of_what_is_no_verb)
{
    cr_expect_null(READ("nonsense", "create", "").verb);
    cr_expect_null(READ("").verb);
    cr_expect_null(read_line(0, NULL).verb);
}

Test(completion, each_first_word_once)
{
    struct completion c = READ("");
    (void)c;
    char text[4096];
    fflush(stdout);
    FILE *said = cr_get_redirected_stdout();
    size_t n = fread(text, 1, sizeof text - 1, said);
    text[n] = 0;
    const char *first = strstr(text, "branch\n");
    cr_assert_not_null(first);
    cr_expect_null(strstr(first + 1, "branch\n"));
    cr_expect_not_null(strstr(text, "version\n"));
}
