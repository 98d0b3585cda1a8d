/* find_verb.c - which row of verbs.c a command line means, and what was meant when there is none.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

#define WORDS_MAX 48u /* verbs that are compared with a mistake */
#define FIRST_MAX 16u

const struct cli_verb *cli_find_verb(int argc, char *const argv[], int *used)
{
    for (size_t i = 0; i < cli_n_verbs; i++) {
        const char *name = cli_verbs[i].name, *space = strchr(name, ' ');
        size_t first = space ? (size_t)(space - name) : strlen(name);
        if (argc < 1 || strlen(argv[0]) != first || strncmp(argv[0], name, first) != 0)
            continue;
        if (space && (argc < 2 || strcmp(argv[1], space + 1) != 0))
            continue;
        *used = space ? 2 : 1;
        return &cli_verbs[i];
    }
    return NULL;
}

/* Second words of the verbs that begin with `first` ("db"); their number. */
static size_t second_words(const char *first, const char *out[], size_t cap)
{
    size_t n = 0, len = strlen(first);
    for (size_t i = 0; i < cli_n_verbs && n < cap; i++)
        if (strncmp(cli_verbs[i].name, first, len) == 0 && cli_verbs[i].name[len] == ' ')
            out[n++] = cli_verbs[i].name + len + 1;
    return n;
}

/* "create, list, drop" */
static const char *listed(const char *const words[], size_t n, char out[200])
{
    size_t len = 0;
    out[0] = 0;
    for (size_t i = 0; i < n && len < 199; i++)
        len += (size_t)snprintf(out + len, 200 - len, "%s%s", i ? ", " : "", words[i]);
    return out;
}

static int unknown_second(int argc, char *const argv[], const char *const words[], size_t n)
{
    char all[200];
    const char *near = argc >= 2 ? cli_nearest(argv[1], words, n) : NULL;
    if (near)
        return co_fail(CO_ERR_INVAL,
                       "'corallite %s' has no '%.60s'; did you mean 'corallite %s %s'?", argv[0],
                       argv[1], argv[0], near);
    return co_fail(CO_ERR_INVAL, "'corallite %s' is followed by one of: %s", argv[0],
                   listed(words, n, all));
}

/* The first words of all verbs, each once; borrowed from `texts`. */
static size_t first_words(char texts[][FIRST_MAX], const char *out[], size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < cli_n_verbs && n < cap; i++) {
        size_t len = strcspn(cli_verbs[i].name, " ");
        if (n > 0 && strlen(out[n - 1]) == len && strncmp(out[n - 1], cli_verbs[i].name, len) == 0)
            continue; /* verbs of one family stand together */
        snprintf(texts[n], FIRST_MAX, "%.*s", (int)len, cli_verbs[i].name);
        out[n] = texts[n];
        n++;
    }
    return n;
}

int cli_unknown_verb(int argc, char *const argv[])
{
    char texts[WORDS_MAX][FIRST_MAX];
    const char *words[WORDS_MAX] = {0};
    size_t n = argc >= 1 ? second_words(argv[0], words, WORDS_MAX) : 0;
    if (argc >= 1 && argv[0][0] == '-')
        return co_fail(
            CO_ERR_INVAL,
            "'%.60s' stands before the verb, and options stand behind it: corallite VERB "
            "%.60s; `corallite help` names the verbs",
            argv[0], argv[0]);
    if (n > 0)
        return unknown_second(argc, argv, words, n);
    n = first_words(texts, words, WORDS_MAX);
    const char *near = argc >= 1 ? cli_nearest(argv[0], words, n) : NULL;
    if (near)
        return co_fail(CO_ERR_INVAL, "there is no verb '%.60s'; did you mean 'corallite %s'?",
                       argv[0], near);
    return co_fail(CO_ERR_INVAL, "there is no verb '%.60s'; `corallite help` names them",
                   argc >= 1 ? argv[0] : "");
}
