#include "cli/completion.h"

#include <string.h>

/* The n-th words of the verbs that begin with `first` (NULL: first words), each once. */
static void offer_verbs(const struct completion *c, const char *first)
{
    size_t skip = first ? strlen(first) : 0;
    const char *last = "";
    for (size_t i = 0; i < cli_n_verbs; i++) {
        const char *name = cli_verbs[i].name;
        char word[32];
        if (first && (strncmp(name, first, skip) != 0 || name[skip] != ' '))
            continue;
        name += first ? skip + 1 : 0;
        snprintf(word, sizeof word, "%.*s", (int)strcspn(name, " "), name);
        if (strcmp(word, last) != 0)
            completion_offer(c, word);
        last = cli_verbs[i].name; /* verbs of one family stand together */
        if (!first && strchr(last, ' ')) {
            while (i + 1 < cli_n_verbs && strncmp(cli_verbs[i + 1].name, word, strlen(word)) == 0 &&
                   cli_verbs[i + 1].name[strlen(word)] == ' ')
                i++;
        }
    }
}

void completion_offer(const struct completion *c, const char *candidate)
{
    if (strncmp(candidate, c->begin, strlen(c->begin)) == 0)
        printf("%s%s\n", c->head, candidate);
}

static void offer_kind(const struct completion *c)
{
    static const struct {
        const char *kind, *words[10];
    } known[] = {
        {"LANGUAGE", {"c", "python", "node", "perl", "php", "go", "env"}},
        {"SHELL", {"bash", "zsh", "fish"}},
        {"DAEMON", {"safekeeper-1", "safekeeper-2", "safekeeper-3", "pageserver", "pageserver-2"}},
        {"MOMENT", {"latest", "-5m", "-1h", "-24h"}},
        {"TIME", {"1h", "24h", "7d"}},
        {"HOST:PORT", {"127.0.0.1:6400"}},
        {"P", {"auto", "6400"}},
        {"FILE", {":files"}},
        {"D", {":dirs"}},
        {"DIR", {":dirs"}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        for (size_t k = 0; strcmp(known[i].kind, c->kind) == 0 && known[i].words[k]; k++) {
            if (known[i].words[k][0] == ':') /* told to the shell, which knows files */
                puts(known[i].words[k]);
            else
                completion_offer(c, known[i].words[k]);
        }
}

static const struct cli_option *option_of(const struct cli_verb *v, const char *word, size_t n)
{
    for (const struct cli_option *o = v->options; o->name; o++)
        if ((strlen(o->name) == n && strncmp(o->name, word, n) == 0) ||
            (n == 2 && o->letter && word[0] == '-' && word[1] == o->letter))
            return o;
    return NULL;
}

/* Counts arguments before the last word; *option: the one whose value the last word is. */
static int arguments_before(const struct cli_verb *v, int n, char *words[],
                            const struct cli_option **option)
{
    int arguments = 0;
    *option = NULL;
    for (int i = 0; i < n - 1; i++) {
        const struct cli_option *o = NULL;
        if (words[i][0] == '-' && words[i][1])
            o = option_of(v, words[i], strlen(words[i]));
        else
            arguments++;
        if (o && o->value && ++i == n - 1)
            *option = o;
    }
    return arguments;
}

static void read_word(struct completion *c, int n, char *words[])
{
    const struct cli_option *option;
    const char *equals = strchr(c->begin, '=');
    int at = arguments_before(c->verb, n, words, &option);
    if (!option && c->begin[0] == '-' && equals) {
        option = option_of(c->verb, c->begin, (size_t)(equals - c->begin));
        snprintf(c->head, sizeof c->head, "%.*s", (int)(equals - c->begin) + 1, c->begin);
        c->begin = equals + 1;
    }
    if (option) {
        c->kind = option->value;
    } else if (c->begin[0] == '-' && !(c->verb->passes_on && at)) {
        for (const struct cli_option *o = c->verb->options; o->name; o++)
            completion_offer(c, o->name);
        completion_offer(c, "--help");
    } else if (at < 2 && c->verb->words[at]) {
        c->kind = c->verb->words[at];
    } else if (c->verb->passes_on) {
        c->kind = "FILE";
    }
    if (c->kind)
        offer_kind(c);
}

void completion_read(int n, char *words[], struct completion *c)
{
    int used = 0;
    *c = (struct completion){.begin = n > 0 ? words[n - 1] : ""};
    if (n <= 1) {
        offer_verbs(c, NULL);
        return;
    }
    if (strcmp(words[0], "help") == 0 && c->begin[0] != '-') {
        offer_verbs(c, n > 2 ? words[1] : NULL);
        return;
    }
    c->verb = cli_find_verb(n - 1, words, &used);
    if (c->verb)
        read_word(c, n - used, words + used);
    else if (n == 2)
        offer_verbs(c, words[0]);
}
