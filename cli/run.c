/* run.c - a command line: finds the verb, reads its arguments, runs it, reports. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/json.h"

int cli_report(int error)
{
    if (!error)
        return CLI_DONE;
    const char *sentence = co_sentence();
    fflush(stdout);
    fprintf(stderr, "corallite: %s\n", *sentence ? sentence : co_error_text(error));
    return error == CO_ERR_INVAL || error == CO_ERR_NAME ? CLI_USAGE : CLI_FAILED;
}

int cli_version(const struct cli_args *args)
{
    if (cli_has(args, "--json"))
        return cli_report(cli_print_json(json_pack("{s:s}", "version", CO_BUILD_VERSION)));
    puts("corallite " CO_BUILD_VERSION);
    return CLI_DONE;
}

static int help_of(const struct cli_args *args, const struct cli_verb *verb)
{
    if (cli_has(args, "--json"))
        return cli_help_json(verb);
    if (cli_has(args, "--man") && verb)
        cli_man_verb(verb, stdout);
    else if (cli_has(args, "--man"))
        cli_man_all(stdout);
    else if (verb)
        cli_help_verb(verb);
    else
        cli_help_all();
    return 0;
}

/* "db create", or "db" for the verbs that begin so. */
int cli_help(const struct cli_args *args)
{
    const struct cli_verb *verb = NULL;
    const char *dir = cli_value(args, "--man-dir");
    int used;
    if (cli_has(args, "--man") + cli_has(args, "--json") + (dir != NULL) > 1)
        return cli_report(
            co_fail(CO_ERR_INVAL, "--man, --man-dir and --json contradict; give one"));
    if (dir && args->n_words)
        return cli_report(co_fail(CO_ERR_INVAL,
                                  "--man-dir writes the pages of all verbs; leave out "
                                  "'%s'",
                                  args->words[0]));
    if (dir)
        return cli_report(cli_man_dir(dir));
    bool plain = !cli_has(args, "--man") && !cli_has(args, "--json");
    if (args->n_words == 1 && plain && cli_help_family(args->words[0]))
        return CLI_DONE;
    if (args->n_words > 0) {
        verb = cli_find_verb(args->n_words, args->words, &used);
        if (!verb || used < args->n_words)
            return cli_report(cli_unknown_verb(args->n_words, args->words));
    }
    return cli_report(help_of(args, verb));
}

static int run_verb(const struct cli_verb *verb, int argc, char **argv)
{
    struct cli_args args;
    const struct cli_grammar grammar = {
        .verb = verb->name,
        .options = verb->options,
        .min_words = verb->min_words,
        .max_words = verb->max_words,
        .passes_on = verb->passes_on,
    };
    int rc = cli_parse(&grammar, argc, argv, &args);
    if (rc)
        return cli_report(rc);
    if (args.help) {
        cli_help_verb(verb);
        return CLI_DONE;
    }
    return verb->run(&args);
}

/* What was printed must have arrived: a full disk behind `>` is a failure. */
static int finish(int code)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("corallite: the output cannot be written");
        return CLI_FAILED;
    }
    return code;
}

int cli_run(int argc, char **argv)
{
    int used = 0;
    if (argc < 2) {
        cli_help_all();
        fflush(stdout);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        argv[1] = (char *)"help";
    else if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        argv[1] = (char *)"version";
    const struct cli_verb *verb = cli_find_verb(argc - 1, argv + 1, &used);
    bool asks = argc == 3 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0);
    if (!verb && asks && cli_help_family(argv[1]))
        return finish(CLI_DONE);
    if (!verb)
        return cli_report(cli_unknown_verb(argc - 1, argv + 1));
    return finish(run_verb(verb, argc - 1 - used, argv + 1 + used));
}
