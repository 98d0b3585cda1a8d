#include <criterion/criterion.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"

TestSuite(args, .timeout = 10);

static const struct cli_option options[] = {{"--dir", 'd', "D", ""},
                                            {"--port-base", 'p', "P", ""},
                                            {"--yes", 'y', NULL, ""},
                                            {NULL, 0, NULL, NULL}};

static int parse(bool passes_on, int max_words, struct cli_args *out, int argc, char **argv)
{
    const struct cli_grammar g = {
        .verb = "test", .options = options, .max_words = max_words, .passes_on = passes_on};
    return cli_parse(&g, argc, argv, out);
}

#define PARSE(passes_on, max_words, out, ...)                                                      \
    parse(passes_on, max_words, out, (int)(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)),      \
          (char *[]){__VA_ARGS__})

Test(args, every_spelling_of_an_option_is_read)
{
    /* "--name value", "--name=value", "-n value" and flags mean the same. */
    struct cli_args a;
    char *argv[] = {"--dir", "/x", "one", "--port-base=7", "-y", "two"};
    cr_assert_eq(parse(false, 2, &a, 6, argv), 0);
    cr_assert_str_eq(cli_value(&a, "--dir"), "/x");
    cr_assert_str_eq(cli_value(&a, "--port-base"), "7");
    cr_assert(cli_has(&a, "--yes"));
    cr_assert_eq(a.n_words, 2);
    cr_assert_str_eq(a.words[0], "one");
    cr_assert_str_eq(a.words[1], "two");
}

Test(args, absent_options_are_absent)
{
    struct cli_args a;
    cr_assert_eq(PARSE(false, 1, &a, "word"), 0);
    cr_assert_null(cli_value(&a, "--dir"));
    cr_assert_not(cli_has(&a, "--yes"));
}

Test(args, a_wrong_option_gets_the_nearest_right_one)
{
    struct cli_args a;
    cr_assert_eq(PARSE(false, 1, &a, "--dri"), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "'--dir'"), "%s", co_sentence());
}

Test(args, a_missing_value_and_a_value_too_many_are_refused)
{
    struct cli_args a;
    cr_assert_eq(PARSE(false, 1, &a, "--dir"), CO_ERR_INVAL);
    cr_assert_eq(PARSE(false, 1, &a, "--yes=1"), CO_ERR_INVAL);
    cr_assert_eq(PARSE(false, 1, &a, "--dir", "a", "--dir", "b"), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "twice"));
}

Test(args, too_many_words_are_refused)
{
    struct cli_args a;
    cr_assert_eq(PARSE(false, 1, &a, "one", "two"), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "'two'"));
}

Test(args, what_follows_the_first_word_is_passed_on_untouched)
{
    /* `corallite sql`: options of sqlite3 are not ours, even where they look like ours. */
    struct cli_args a;
    char *argv[] = {"--dir", "/x", "shop", "-json", "--dir", "--help", "select 1"};
    cr_assert_eq(parse(true, -1, &a, 7, argv), 0);
    cr_assert_str_eq(cli_value(&a, "--dir"), "/x");
    cr_assert_not(a.help);
    cr_assert_eq(a.n_words, 5);
    cr_assert_str_eq(a.words[0], "shop");
    cr_assert_str_eq(a.words[1], "-json");
    cr_assert_str_eq(a.words[2], "--dir");
    cr_assert_str_eq(a.words[4], "select 1");
}

Test(args, two_hyphens_end_the_options)
{
    struct cli_args a;
    char *argv[] = {"--", "--yes"}; /* words are borrowed from it */
    cr_assert_eq(parse(false, 1, &a, 2, argv), 0);
    cr_assert_str_eq(a.words[0], "--yes");
    cr_assert_not(cli_has(&a, "--yes"));
}

Test(args, help_is_never_an_error)
{
    const struct cli_grammar g = {.verb = "test", .options = options, .min_words = 2};
    struct cli_args a;
    char *argv[] = {"-h"};
    cr_assert_eq(cli_parse(&g, 1, argv, &a), 0);
    cr_assert(a.help);
}

Test(args, distance_counts_each_kind_of_slip_once)
{
    cr_assert_eq(cli_distance("status", "status"), 0);
    cr_assert_eq(cli_distance("satus", "status"), 1, "a letter missing");
    cr_assert_eq(cli_distance("sttaus", "status"), 1, "two letters swapped");
    cr_assert_eq(cli_distance("statuss", "status"), 1, "a letter too many");
    cr_assert_eq(cli_distance("ststus", "status"), 1, "a wrong letter");
    cr_assert_eq(cli_distance("", "up"), 2);
}

Test(args, a_word_far_from_all_gets_no_proposal)
{
    static const char *const words[] = {"up", "down", "status"};
    cr_assert_str_eq(cli_nearest("dwon", words, 3), "down");
    cr_assert_null(cli_nearest("elephant", words, 3));
}

Test(args, every_verb_is_found_by_its_own_name_and_says_how_to_use_it)
{
    for (size_t i = 0; i < cli_n_verbs; i++) {
        char name[32], *words[2] = {name, NULL};
        int n = 1, used = 0;
        strcpy(name, cli_verbs[i].name);
        char *space = strchr(name, ' ');
        if (space) {
            *space = 0;
            words[n++] = space + 1;
        }
        cr_assert_eq(cli_find_verb(n, words, &used), &cli_verbs[i], "%s", cli_verbs[i].name);
        cr_assert_eq(used, n);
        cr_assert(strstr(cli_verbs[i].examples, cli_verbs[i].name), "%s has an example",
                  cli_verbs[i].name);
    }
}

Test(args, a_wrong_verb_gets_the_nearest_right_one)
{
    char *words[] = {"statsu"}, *pair[] = {"db", "lits"};
    int used;
    cr_assert_null(cli_find_verb(1, words, &used));
    cr_assert_eq(cli_unknown_verb(1, words), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "corallite status"));
    cr_assert_eq(cli_unknown_verb(2, pair), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "corallite db list"));
}
