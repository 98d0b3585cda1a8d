/* help.c - the texts of verbs.c as an overview, as a verb's help, and as JSON. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/terminal_file.h"
#include "common/program.h"

#define LEFT  24u /* where the explanation of an option begins */
#define WIDTH 100u

static unsigned width(void)
{
    unsigned n = terminal_width(1);
    return n < WIDTH ? n : WIDTH;
}

static void heading(const char *text)
{
    printf("\n%s%s%s\n", terminal_tone(TONE_STRONG), text, terminal_end());
}

static void one_line(const struct cli_verb *v)
{
    printf("  %-16s ", v->name);
    co_print_wrapped(stdout, v->summary, 19, width());
}

bool cli_help_family(const char *first)
{
    size_t n = 0, len = strlen(first);
    for (size_t i = 0; i < cli_n_verbs; i++) {
        if (strncmp(cli_verbs[i].name, first, len) != 0 || cli_verbs[i].name[len] != ' ')
            continue;
        if (n++ == 0)
            printf("usage: corallite %s VERB [arguments]        corallite %s VERB --help tells "
                   "more\n\n",
                   first, first);
        one_line(&cli_verbs[i]);
    }
    return n > 0;
}

void cli_help_all(void)
{
    puts("corallite - SQLite databases on a quorum log, read lazily from anywhere\n");
    puts("usage: corallite VERB [arguments]        corallite VERB --help tells more\n");
    for (size_t i = 0; i < cli_n_verbs; i++)
        one_line(&cli_verbs[i]);
    heading("To begin with:");
    puts("  corallite up\n  corallite sql shop\n");
    puts("Exit codes: " CLI_EXITS ".");
}

void cli_help_verb(const struct cli_verb *v)
{
    printf("corallite %s - ", v->name);
    co_print_wrapped(stdout, v->summary, 13 + (unsigned)strlen(v->name), width());
    printf("\nusage: corallite %s ", v->name);
    co_print_wrapped(stdout, v->synopsis, 17 + (unsigned)strlen(v->name), width());
    if (v->details[0]) {
        putchar('\n');
        co_print_wrapped(stdout, v->details, 0, width());
    }
    if (v->options[0].name)
        heading("options:");
    for (const struct cli_option *o = v->options; o->name; o++) {
        char left[64], letter[8] = "";
        if (o->letter)
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        snprintf(left, sizeof left, "%s%s%s%s", letter, o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        printf("  %-*s ", (int)LEFT, left);
        co_print_wrapped(stdout, o->help, LEFT + 3, width());
    }
    heading("examples:");
    for (const char *line = v->examples; *line;) {
        size_t len = strcspn(line, "\n");
        printf("  %.*s\n", (int)len, line);
        line += len + (line[len] == '\n');
    }
    heading("exit codes:");
    printf("  %s\n", v->exits ? v->exits : CLI_EXITS);
}

/* -- as JSON -------------------------------------------------------------------------------------
 */

static json_t *option_json(const struct cli_option *o)
{
    char letter[3] = {'-', o->letter, 0};
    return json_pack("{s:s,s:s?,s:s?,s:s}", "name", o->name, "letter", o->letter ? letter : NULL,
                     "value", o->value, "help", o->help);
}

static json_t *verb_json(const struct cli_verb *v)
{
    json_t *options = json_array(), *examples = json_array();
    int bad = 0;
    for (const struct cli_option *o = v->options; o->name; o++)
        bad |= json_array_append_new(options, option_json(o));
    for (const char *line = v->examples; *line;) {
        size_t len = strcspn(line, "\n");
        bad |= json_array_append_new(examples, json_stringn(line, len));
        line += len + (line[len] == '\n');
    }
    json_t *o =
        bad ? NULL
            : json_pack("{s:s,s:s,s:s,s:s,s:i,s:i,s:s,s:O,s:O}", "name", v->name, "synopsis",
                        v->synopsis, "summary", v->summary, "details", v->details, "min_arguments",
                        v->min_words, "max_arguments", v->max_words, "exit_codes",
                        v->exits ? v->exits : CLI_EXITS, "options", options, "examples", examples);
    json_decref(options);
    json_decref(examples);
    return o;
}

int cli_help_json(const struct cli_verb *only)
{
    json_t *all = json_array();
    if (only) {
        json_decref(all);
        return cli_print_json(verb_json(only));
    }
    for (size_t i = 0; i < cli_n_verbs; i++)
        if (json_array_append_new(all, verb_json(&cli_verbs[i])) != 0) {
            json_decref(all);
            return co_fail(CO_ERR_NOMEM, "there is no memory for the answer");
        }
    return cli_print_json(all);
}
