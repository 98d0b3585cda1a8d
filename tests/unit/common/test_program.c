/* Help, manual page and parser of a daemon from one table. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "common/program.h"
#include "common/roff.h"

TestSuite(program, .timeout = 10);

static const struct co_option options[] = {
    {"dir", 'd', "DIR", "where it is"}, {"quiet", 'q', NULL, "says nothing"}, {0}};
static const struct co_program program = {
    .name = "x",
    .summary = "does it",
    .synopsis = "--dir DIR",
    .details = "One.\n\nTwo.",
    .options = options,
    .examples = "x --dir /a\n",
    .see_also = (const char *const[][2]){{"y", "1"}, {"z", "8"}, {NULL, NULL}}};

static char *text;
static size_t n_text;
static FILE *out;

static void begin(void)
{
    out = open_memstream(&text, &n_text);
    cr_assert_not_null(out);
}

static void end(void)
{
    free(text);
}

static const char *said(void)
{
    fclose(out);
    return text;
}

Test(program, the_parser_gets_each_option)
{
    struct option o[CO_OPTIONS_MAX + 1];
    co_program_getopt(&program, o);
    cr_expect_str_eq(o[0].name, "dir");
    cr_expect_eq(o[0].has_arg, required_argument);
    cr_expect_eq(o[1].has_arg, no_argument);
    cr_expect_eq(o[1].val, 'q');
    cr_expect_null(o[2].name);
}

Test(program, help_has_each_option, .init = begin, .fini = end)
{
    co_program_help(&program, out);
    const char *t = said();
    cr_expect(strstr(t, "usage: x --dir DIR\n"));
    cr_expect(strstr(t, "  --dir DIR               where it is\n"));
    cr_expect(strstr(t, "  --quiet                 says nothing\n"));
    cr_expect(strstr(t, "One.\n\nTwo.\n"));
    cr_expect(strstr(t, "Exit codes: 0 "));
}

Test(program, the_page_is_of_section_8_and_has_each_option, .init = begin, .fini = end)
{
    co_program_man(&program, "1.2", out);
    const char *t = said();
    cr_expect(strstr(t, ".TH x 8 \"\" \"corallite 1.2\""));
    cr_expect(strstr(t, ".TP\n\\fB\\-\\-dir\\fR \\fIDIR\\fR\nwhere it is\n"));
    cr_expect(strstr(t, "One.\n.PP\nTwo.\n"));
    cr_expect(strstr(t, "\\fBy\\fR(1),\n\\fBz\\fR(8)\n"));
}

Test(program, nothing_is_a_request_by_accident, .init = begin, .fini = end)
{
    roff_text(out, ".sh it\n'quoted' and \\fB, a `word`, a ` that is left");
    roff_lines(out, ".x `cmd` ~ ^ \"q\"\n");
    const char *t = said();
    cr_expect(strstr(t, "\\&.sh it\n"));
    cr_expect(
        strstr(t, "\\&\\(aqquoted\\(aq and \\efB, a \\fBword\\fR, a \\fB that is left\\fR\n"));
    cr_expect(strstr(t, ".EX\n\\&.x \\(gacmd\\(ga \\(ti \\(ha \\(dqq\\(dq\n.EE\n"));
}

Test(program, lines_are_broken_before_the_width, .init = begin, .fini = end)
{
    co_print_wrapped(out, "aaa bbb ccc ddd", 2, 10);
    cr_expect_str_eq(said(), "aaa bbb\n  ccc ddd\n");
}
