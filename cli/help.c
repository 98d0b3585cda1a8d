/* help.c - the texts of verbs.c as an overview, as a verb's help, and as a manual page. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

void cli_help_all(void)
{
    puts("corallite - SQLite databases on a quorum log, read lazily from anywhere\n");
    puts("usage: corallite VERB [arguments]        corallite VERB --help tells more\n");
    for (size_t i = 0; i < cli_n_verbs; i++)
        printf("  %-16s %s\n", cli_verbs[i].name, cli_verbs[i].summary);
    puts("\nTo begin with:\n  corallite up\n  corallite sql shop\n");
    puts("Exit codes: 0 done, 1 failed (stderr says why), 2 wrong use.");
}

void cli_help_verb(const struct cli_verb *v)
{
    printf("corallite %s - %s\n\nusage: corallite %s %s\n", v->name, v->summary, v->name,
           v->synopsis);
    if (v->details[0])
        printf("\n%s\n", v->details);
    if (v->options[0].name)
        puts("\noptions:");
    for (const struct cli_option *o = v->options; o->name; o++) {
        char left[64], letter[8] = "";
        if (o->letter)
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        snprintf(left, sizeof left, "%s%s%s%s", letter, o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        printf("  %-24s %s\n", left, o->help);
    }
    printf("\nexamples:\n");
    for (const char *line = v->examples; *line;) {
        size_t len = strcspn(line, "\n");
        printf("  %.*s\n", (int)len, line);
        line += len + (line[len] == '\n');
    }
}

/* Text for roff: backslashes, hyphens that can be pasted, no request at the begin of a line. */
static void man_text(const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", stdout);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text == '-')
            fputs("\\-", stdout);
        else
            putchar(*text);
        if (*text == '\n' && (text[1] == '.' || text[1] == '\''))
            fputs("\\&", stdout);
    }
}

static void man_verb(const struct cli_verb *v)
{
    printf(".SS corallite ");
    man_text(v->name);
    printf(" ");
    man_text(v->synopsis);
    printf("\n");
    man_text(v->summary);
    printf(".\n");
    if (v->details[0]) {
        printf(".PP\n");
        man_text(v->details);
        printf("\n");
    }
    for (const struct cli_option *o = v->options; o->name; o++) {
        printf(".TP\n.B ");
        man_text(o->name);
        printf(" %s\n", o->value ? o->value : "");
        man_text(o->help);
        printf("\n");
    }
    printf(".PP\n.EX\n");
    man_text(v->examples);
    printf(".EE\n");
}

void cli_help_man(const char *version)
{
    printf(".TH CORALLITE 1 \"\" \"corallite %s\" \"User Commands\"\n", version);
    puts(".SH NAME\ncorallite \\- SQLite databases on a quorum log, read lazily from anywhere");
    puts(".SH SYNOPSIS\n.B corallite\n.I VERB\n[arguments]");
    puts(".SH DESCRIPTION\nStarts and looks after a local Corallite cluster, manages its databases "
         "and opens them with the stock sqlite3 shell.");
    puts(".SH VERBS");
    for (size_t i = 0; i < cli_n_verbs; i++)
        man_verb(&cli_verbs[i]);
    puts(".SH EXIT STATUS\n0 done, 1 failed (the reason is on standard error), 2 wrong use.");
    puts(".SH ENVIRONMENT\n.TP\n.B CORALLITE_DIR\ndirectory of the local cluster\n.TP\n"
         ".B CORALLITE_SERVER\naddress of the pageserver");
    puts(".SH SEE ALSO\n.BR sqlite3 (1)");
}
