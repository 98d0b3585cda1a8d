#include "common/roff.h"

#include <stdbool.h>
#include <string.h>

/* One line: backslashes, hyphens that can be pasted, no request at its begin. In prose `words` are
 * bold; in examples a backtick is one. */
static void put_line(FILE *out, const char *text, size_t n, bool prose)
{
    static const struct {
        char letter;
        const char *as;
    } special[] = {{'\\', "\\e"},   {'-', "\\-"},   {'^', "\\(ha"}, {'~', "\\(ti"},
                   {'\'', "\\(aq"}, {'`', "\\(ga"}, {'"', "\\(dq"}};
    bool bold = false;
    if (n && (*text == '.' || *text == '\''))
        fputs("\\&", out);
    for (size_t i = 0; i < n; i++) {
        const char *as = NULL;
        for (size_t k = 0; k < sizeof special / sizeof *special; k++)
            if (text[i] == special[k].letter)
                as = special[k].as;
        if (prose && text[i] == '`') {
            bold = !bold;
            as = bold ? "\\fB" : "\\fR";
        }
        if (as)
            fputs(as, out);
        else
            fputc(text[i], out);
    }
    if (bold)
        fputs("\\fR", out);
}

void roff_text(FILE *out, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        if (n == 0) {
            fputs(".PP\n", out);
        } else {
            put_line(out, text, n, true);
            fputc('\n', out);
        }
        text += n + (text[n] == '\n');
    }
}

void roff_lines(FILE *out, const char *lines)
{
    fputs(".EX\n", out);
    while (*lines) {
        size_t n = strcspn(lines, "\n");
        put_line(out, lines, n, false);
        fputc('\n', out);
        lines += n + (lines[n] == '\n');
    }
    fputs(".EE\n", out);
}

void roff_head(FILE *out, const char *name, int section, const char *version, const char *manual)
{
    fprintf(out, ".TH ");
    put_line(out, name, strlen(name), false);
    fprintf(out, " %d \"\" \"corallite %s\" \"%s\"\n", section, version, manual);
    /* No hyphenation, and a ragged right margin: commands are to be read and pasted. */
    fputs(".nh\n.ad l\n", out);
}

void roff_section(FILE *out, const char *title)
{
    fprintf(out, ".SH %s\n", title);
}

void roff_item(FILE *out, const char *term, const char *argument, const char *text)
{
    fputs(".TP\n\\fB", out);
    put_line(out, term, strlen(term), false);
    fputs("\\fR", out);
    if (argument) {
        fputs(" \\fI", out);
        put_line(out, argument, strlen(argument), false);
        fputs("\\fR", out);
    }
    fputc('\n', out);
    roff_text(out, text);
}

void roff_name(FILE *out, const char *name, const char *summary)
{
    roff_section(out, "NAME");
    put_line(out, name, strlen(name), false);
    fputs(" \\- ", out);
    put_line(out, summary, strlen(summary), false);
    fputc('\n', out);
}

void roff_see_also(FILE *out, const char *const pages[][2])
{
    roff_section(out, "SEE ALSO");
    for (size_t i = 0; pages[i][0]; i++) {
        fputs("\\fB", out);
        put_line(out, pages[i][0], strlen(pages[i][0]), false);
        fprintf(out, "\\fR(%s)%s\n", pages[i][1], pages[i + 1][0] ? "," : "");
    }
}
