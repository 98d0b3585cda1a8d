/*
 * completion.h - what may stand where the cursor is: from the table of verbs (pure), and names from
 * the server.
 */
#ifndef CORALLITE_CLI_COMPLETION_H
#define CORALLITE_CLI_COMPLETION_H

#include "cli/cli.h"

/* What is wanted at the end of a command line. */
struct completion {
    const struct cli_verb *verb; /* NULL: its name is what is being written */
    const char *kind;            /* "REF", "DB", "FILE", ...; NULL: nothing is known */
    const char *begin;           /* what stands there already */
    char head[64];               /* stands before `begin` in the same word: "--server=" */
};

/* words[0..n): what follows `corallite`, the last one being written (it may be empty). Says what is
 * wanted, and prints the candidates that need no server: verbs, options, languages. */
void completion_read(int n, char *words[], struct completion *out);
/* Prints one candidate when it begins as `begin` does. */
void completion_offer(const struct completion *c, const char *candidate);

/* completion_sock.c: names; nothing when the server does not answer at once. */
void completion_names(const struct completion *c, int n, char *words[]);

#endif
