/* man_file.c - manual pages from the texts of verbs.c: corallite(1), and one page a verb. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "common/program.h"
#include "common/roff.h"

#define MANUAL "User Commands"
#define PAGE   64

static const struct co_option environment[] = {
    {"CORALLITE_DIR", 1, NULL, "directory of the local cluster (~/.local/share/corallite)"},
    {"CORALLITE_SERVER", 1, NULL, "address of the pageserver, HOST:PORT"},
    {"CORALLITE_PROGRESS", 1, NULL,
     "`off`: no progress bars; a number: milliseconds before one appears (1000)"},
    {"NO_COLOR", 1, NULL, "set to anything: no colour on a terminal"},
    {"TMPDIR", 1, NULL, "where `export -o -` keeps its temporary file (/tmp)"},
    {0}};

/* "corallite-db-create" */
static const char *page_of(const struct cli_verb *v, char out[PAGE])
{
    snprintf(out, PAGE, "corallite-%s", v->name);
    for (char *c = out; *c; c++)
        if (*c == ' ')
            *c = '-';
    return out;
}

static void put_environment(FILE *out)
{
    roff_section(out, "ENVIRONMENT");
    for (const struct co_option *o = environment; o->name; o++)
        roff_item(out, o->name, NULL, o->help);
}

void cli_man_all(FILE *out)
{
    static const char *const see[][2] = {{"corallite-pageserver", "8"},
                                         {"corallite-safekeeper", "8"},
                                         {"sqlite3", "1"},
                                         {NULL, NULL}};
    char page[PAGE + 8];
    roff_head(out, "corallite", 1, CO_BUILD_VERSION, MANUAL);
    roff_name(out, "corallite", "SQLite databases on a quorum log, read lazily from anywhere");
    roff_section(out, "SYNOPSIS");
    roff_item(out, "corallite", "VERB [arguments]", "");
    roff_section(out, "DESCRIPTION");
    roff_text(out, "Starts and looks after a local Corallite cluster, manages its databases, "
                   "branches and moments, and opens them with the stock sqlite3 shell. A database "
                   "is named `DB[/BRANCH][@MOMENT]`: `shop`, `shop/try`, `shop@-10m`, "
                   "`shop@2026-01-02T03:04:05Z`, `shop@pin:good`.");
    roff_section(out, "VERBS");
    for (size_t i = 0; i < cli_n_verbs; i++) {
        char text[400];
        page_of(&cli_verbs[i], page);
        snprintf(text, sizeof text, "%s; `%s`(1)", cli_verbs[i].summary, page);
        roff_item(out, cli_verbs[i].name, cli_verbs[i].synopsis, text);
    }
    roff_section(out, "EXIT STATUS");
    roff_text(out, CLI_EXITS ". A verb whose codes mean more says so on its page.");
    put_environment(out);
    roff_see_also(out, see);
}

void cli_man_verb(const struct cli_verb *v, FILE *out)
{
    static const char *const see[][2] = {{"corallite", "1"}, {"sqlite3", "1"}, {NULL, NULL}};
    char page[PAGE], name[PAGE];
    page_of(v, page);
    snprintf(name, sizeof name, "corallite %s", v->name);
    roff_head(out, page, 1, CO_BUILD_VERSION, MANUAL);
    roff_name(out, page, v->summary);
    roff_section(out, "SYNOPSIS");
    roff_item(out, name, v->synopsis, "");
    roff_section(out, "DESCRIPTION");
    roff_text(out, v->summary);
    roff_text(out, "\n");
    roff_text(out, v->details);
    if (v->options->name)
        roff_section(out, "OPTIONS");
    for (const struct cli_option *o = v->options; o->name; o++) {
        char option[64];
        snprintf(option, sizeof option, o->letter ? "%s, -%c" : "%s", o->name, o->letter);
        roff_item(out, option, o->value, o->help);
    }
    roff_section(out, "EXIT STATUS");
    roff_text(out, v->exits ? v->exits : CLI_EXITS);
    roff_section(out, "EXAMPLES");
    roff_lines(out, v->examples);
    put_environment(out);
    roff_see_also(out, see);
}

/* v NULL: corallite(1) */
static int write_page(const char *directory, const struct cli_verb *v)
{
    char path[PATH_MAX], page[PAGE];
    if (snprintf(path, sizeof path, "%s/%s.1", directory, v ? page_of(v, page) : "corallite") >=
        (int)sizeof path)
        return co_fail(CO_ERR_TOO_LARGE, "the path %.100s... is too long", directory);
    FILE *out = fopen(path, "w");
    if (!out)
        return co_fail_errno(CO_ERR_IO, errno, "%s cannot be written", path);
    if (v)
        cli_man_verb(v, out);
    else
        cli_man_all(out);
    int bad = ferror(out);
    return fclose(out) != 0 || bad ? co_fail(CO_ERR_IO, "%s cannot be written", path) : 0;
}

int cli_man_dir(const char *directory)
{
    int rc = write_page(directory, NULL);
    for (size_t i = 0; i < cli_n_verbs && !rc; i++)
        rc = write_page(directory, &cli_verbs[i]);
    return rc;
}
