/*
 * program.h - what a daemon says of itself: one table from which --help, the manual page and the
 * parser's list of options are made, so that they cannot differ. Pure.
 */
#ifndef CORALLITE_COMMON_PROGRAM_H
#define CORALLITE_COMMON_PROGRAM_H

#include <getopt.h>
#include <stdio.h>

struct co_option {
    const char *name;  /* "dir", without the hyphens; NULL ends a table */
    int id;            /* what the parser returns; not 0, not '?' */
    const char *value; /* "DIR"; NULL: a flag */
    const char *help;
};

#define CO_OPTIONS_MAX 32

struct co_program {
    const char *name;     /* "corallite-safekeeper" */
    const char *summary;  /* one line, without a full stop */
    const char *synopsis; /* behind the name */
    const char *details;  /* paragraphs */
    const struct co_option *options;
    const char *examples; /* lines that can be pasted */
    const char *const (*see_also)[2];
};

/* The table as getopt_long(3) wants it; asserts that there is room. */
void co_program_getopt(const struct co_program *p, struct option out[CO_OPTIONS_MAX + 1]);
void co_program_help(const struct co_program *p, FILE *out);
/* The manual page, of section 8. */
void co_program_man(const struct co_program *p, const char *version, FILE *out);
/* `text`, its lines broken before column `width`, all but the first behind `indent` spaces. */
void co_print_wrapped(FILE *out, const char *text, unsigned indent, unsigned width);

#endif
