/*
 * roff.h - manual pages: plain text made safe for roff. What it is told comes from tables in the
 * programs, so nothing is escaped twice and nothing is a request by accident. Pure.
 */
#ifndef CORALLITE_COMMON_ROFF_H
#define CORALLITE_COMMON_ROFF_H

#include <stdio.h>

/* ".TH NAME SECTION" with the version in the footer and no date: pages of one build are equal. */
void roff_head(FILE *out, const char *name, int section, const char *version, const char *manual);
/* ".SH TITLE" */
void roff_section(FILE *out, const char *title);
/* Running text; an empty line begins a paragraph. */
void roff_text(FILE *out, const char *text);
/* Lines as they are. */
void roff_lines(FILE *out, const char *lines);
/* "TERM ARGUMENT" and what it means; argument may be NULL. */
void roff_item(FILE *out, const char *term, const char *argument, const char *text);
/* "name \\- summary" of the section NAME. */
void roff_name(FILE *out, const char *name, const char *summary);
/* "NAME(SECTION), ..."; names end with NULL. */
void roff_see_also(FILE *out, const char *const pages[][2]);

#endif
