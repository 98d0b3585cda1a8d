/*
 * args.h - command lines: options by a table, positional words, nearest words for mistakes.
 *
 * "--name value", "--name=value", "-n value", flags, and "--" after which everything is a word.
 * Pure: it prints nothing and exits nowhere.
 */
#ifndef CORALLITE_CLI_ARGS_H
#define CORALLITE_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

struct cli_option {
    const char *name;  /* "--dir"; NULL ends a table */
    char letter;       /* 'd' for "-d"; 0: none */
    const char *value; /* what it takes, for the help: "D"; NULL: a flag */
    const char *help;
};

#define CLI_OPTIONS_MAX 12

struct cli_args {
    const struct cli_option *options;
    const char *values[CLI_OPTIONS_MAX]; /* by position in the table; NULL: not given; flag: "" */
    char **words;                        /* borrowed from argv, which is reordered */
    int n_words;
    bool help; /* --help or -h was among them */
};

/* What a verb takes (the part of struct cli_verb that parsing needs). */
struct cli_grammar {
    const char *verb;
    const struct cli_option *options;
    int min_words, max_words;
    bool passes_on;
};

/* Parses argv[0..argc) (what follows the verb). CO_ERR_INVAL with a sentence. */
CO_MUST_CHECK int cli_parse(const struct cli_grammar *grammar, int argc, char **argv,
                            struct cli_args *out);

/* The value of an option of the table, NULL when it was not given. */
const char *cli_value(const struct cli_args *args, const char *name);
bool cli_has(const struct cli_args *args, const char *name);

/* How many letters must be inserted, removed, replaced or swapped to make one word of the other. */
size_t cli_distance(const char *a, const char *b);
/* The candidate nearest to `word`, NULL when none is near (more than a third of it differs). */
const char *cli_nearest(const char *word, const char *const candidates[], size_t n);

#endif
