#include "common/program.h"

#include <stdbool.h>
#include <string.h>

#include "common/assert.h"
#include "common/roff.h"

#define HELP_INDENT 26
#define HELP_WIDTH  96

static const char exit_codes[] =
    "0 stopped by SIGTERM or SIGINT, 1 failed (standard error says why), "
    "2 wrong use.";

void co_program_getopt(const struct co_program *p, struct option out[CO_OPTIONS_MAX + 1])
{
    size_t n = 0;
    for (const struct co_option *o = p->options; o->name; o++) {
        co_assert(n < CO_OPTIONS_MAX);
        out[n++] = (struct option){
            .name = o->name, .has_arg = o->value ? required_argument : no_argument, .val = o->id};
    }
    out[n] = (struct option){0};
}

void co_print_wrapped(FILE *out, const char *text, unsigned indent, unsigned width)
{
    unsigned column = indent;
    while (*text) {
        size_t n = strcspn(text, " \n");
        if (column > indent && column + n + 1 > width) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', out);
            column++;
        }
        fwrite(text, 1, n, out);
        column += (unsigned)n;
        text += n;
        if (*text == '\n') {
            fprintf(out, "\n%*s", text[1] ? (int)indent : 0, "");
            column = indent;
        }
        text += *text != 0;
    }
    fputc('\n', out);
}

void co_program_help(const struct co_program *p, FILE *out)
{
    fprintf(out, "usage: %s %s\n\n", p->name, p->synopsis);
    co_print_wrapped(out, p->details, 0, HELP_WIDTH);
    fputs("\noptions:\n", out);
    for (const struct co_option *o = p->options; o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        fprintf(out, "  %-*s", HELP_INDENT - 2, left);
        if (strlen(left) > HELP_INDENT - 3)
            fprintf(out, "\n%*s", HELP_INDENT, "");
        co_print_wrapped(out, o->help, HELP_INDENT, HELP_WIDTH);
    }
    fprintf(out, "\nexample:\n");
    for (const char *line = p->examples; *line; line += strcspn(line, "\n") + 1)
        fprintf(out, "  %.*s\n", (int)strcspn(line, "\n"), line);
    fprintf(out, "\nExit codes: %s\n", exit_codes);
}

void co_program_man(const struct co_program *p, const char *version, FILE *out)
{
    roff_head(out, p->name, 8, version, "System Administration");
    roff_name(out, p->name, p->summary);
    roff_section(out, "SYNOPSIS");
    roff_item(out, p->name, p->synopsis, "");
    roff_section(out, "DESCRIPTION");
    roff_text(out, p->details);
    roff_section(out, "OPTIONS");
    for (const struct co_option *o = p->options; o->name; o++) {
        char name[64];
        snprintf(name, sizeof name, "--%s", o->name);
        roff_item(out, name, o->value, o->help);
    }
    roff_section(out, "EXIT STATUS");
    roff_text(out, exit_codes);
    roff_section(out, "EXAMPLE");
    roff_lines(out, p->examples);
    roff_see_also(out, p->see_also);
}
