#include "cli/args.h"

#include <string.h>

#include "common/assert.h"

/* -- Nearest words ------------------------------------------------------------------------------
 */

#define WORD_MAX 40u

size_t cli_distance(const char *a, const char *b)
{
    size_t la = strnlen(a, WORD_MAX), lb = strnlen(b, WORD_MAX);
    size_t row[3][WORD_MAX + 1]; /* the last three rows of the usual table */
    for (size_t j = 0; j <= lb; j++)
        row[0][j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t *now = row[i % 3], *before = row[(i - 1) % 3], *earlier = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t best = before[j - 1] + (a[i - 1] != b[j - 1]);
            if (before[j] + 1 < best)
                best = before[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                earlier[j - 2] + 1 < best)
                best = earlier[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[la % 3][lb];
}

const char *cli_nearest(const char *word, const char *const candidates[], size_t n)
{
    const char *best = NULL;
    size_t best_distance = strlen(word) / 3 + 1;
    for (size_t i = 0; i < n; i++) {
        size_t d = cli_distance(word, candidates[i]);
        if (d < best_distance || (d == best_distance && best == NULL)) {
            best = candidates[i];
            best_distance = d;
        }
    }
    return best;
}

/* -- Options ------------------------------------------------------------------------------------
 */

static size_t count_options(const struct cli_option *options)
{
    size_t n = 0;
    while (options && options[n].name)
        n++;
    co_assert(n <= CLI_OPTIONS_MAX);
    return n;
}

static int unknown_option(const struct cli_grammar *g, const char *word)
{
    const char *names[CLI_OPTIONS_MAX + 1];
    size_t n = count_options(g->options);
    for (size_t i = 0; i < n; i++)
        names[i] = g->options[i].name;
    names[n++] = "--help";
    char bare[WORD_MAX];
    size_t len = strcspn(word, "=");
    if (len >= sizeof bare)
        len = sizeof bare - 1;
    memcpy(bare, word, len);
    bare[len] = 0;
    const char *near = cli_nearest(bare, names, n);
    if (near)
        return co_fail(CO_ERR_INVAL, "'corallite %s' has no option '%s'; did you mean '%s'?",
                       g->verb, bare, near);
    return co_fail(CO_ERR_INVAL, "'corallite %s' has no option '%s'; see: corallite %s --help",
                   g->verb, bare, g->verb);
}

/* The option that `word` names: "--name", "--name=value" (then *value is set) or "-n". */
static const struct cli_option *find_option(const struct cli_grammar *g, const char *word,
                                            const char **value)
{
    *value = NULL;
    for (const struct cli_option *o = g->options; o && o->name; o++) {
        size_t len = strlen(o->name);
        if (strncmp(word, o->name, len) == 0 && (word[len] == 0 || word[len] == '=')) {
            if (word[len] == '=')
                *value = word + len + 1;
            return o;
        }
        if (o->letter && word[1] == o->letter && word[2] == 0)
            return o;
    }
    return NULL;
}

/* Takes the option at argv[*i], and its value when that is the next word. */
static int take_option(const struct cli_grammar *g, int argc, char **argv, int *i,
                       struct cli_args *out)
{
    const char *word = argv[*i], *value;
    const struct cli_option *o = find_option(g, word, &value);
    if (!o)
        return unknown_option(g, word);
    if (!o->value && value)
        return co_fail(CO_ERR_INVAL, "'%s' takes no value; there is '%s'", o->name, word);
    if (o->value && !value) {
        if (*i + 1 >= argc)
            return co_fail(CO_ERR_INVAL, "'%s' needs a value: %s %s", o->name, o->name, o->value);
        value = argv[++*i];
    }
    size_t slot = (size_t)(o - g->options);
    if (out->values[slot] && o->value)
        return co_fail(CO_ERR_INVAL, "'%s' is given twice", o->name);
    out->values[slot] = value ? value : "";
    return 0;
}

static int check_words(const struct cli_grammar *g, const struct cli_args *args)
{
    if (args->help)
        return 0;
    if (args->n_words < g->min_words)
        return co_fail(
            CO_ERR_INVAL,
            "'corallite %s' wants %d argument%s and there %s %d; see: corallite %s --help", g->verb,
            g->min_words, g->min_words == 1 ? "" : "s", args->n_words == 1 ? "is" : "are",
            args->n_words, g->verb);
    if (g->max_words >= 0 && args->n_words > g->max_words)
        return co_fail(CO_ERR_INVAL,
                       "'%s' is too much for 'corallite %s'; see: corallite %s --help",
                       args->words[g->max_words], g->verb, g->verb);
    return 0;
}

int cli_parse(const struct cli_grammar *g, int argc, char **argv, struct cli_args *out)
{
    *out = (struct cli_args){.options = g->options, .words = argv};
    count_options(g->options);
    bool words_only = false;
    for (int i = 0; i < argc; i++) {
        char *word = argv[i];
        if (words_only || word[0] != '-' || word[1] == 0) {
            out->words[out->n_words++] = word;
            words_only = words_only || g->passes_on;
        } else if (strcmp(word, "--") == 0) {
            words_only = true;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            out->help = true;
        } else {
            int rc = take_option(g, argc, argv, &i, out);
            if (rc)
                return rc;
        }
    }
    return check_words(g, out);
}

const char *cli_value(const struct cli_args *args, const char *name)
{
    size_t i = 0, n = count_options(args->options);
    while (i < n && strcmp(args->options[i].name, name) != 0)
        i++;
    co_assert(i < n); /* the option is in the verb's table */
    return args->values[i];
}

bool cli_has(const struct cli_args *args, const char *name)
{
    return cli_value(args, name) != NULL;
}
