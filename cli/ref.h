/*
 * ref.h - references to a branch at a moment, as words of the command line: DB[/BRANCH][@MOMENT].
 * Pure.
 */
#ifndef CORALLITE_CLI_REF_H
#define CORALLITE_CLI_REF_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "proto/when.h"

struct ref {
    char db[CO_NAME_MAX_BYTES + 1];
    char branch[CO_NAME_MAX_BYTES + 1]; /* "main" when none was written */
    char at[WHEN_AT_MAX];               /* "": the head */
};

/* CO_ERR_INVAL, CO_ERR_NAME. The moment is checked by `now_us`, which is this machine's clock; what
 * it stands for is for the pageserver to say. */
CO_MUST_CHECK int ref_parse(const char *text, uint64_t now_us, struct ref *out);
/* The same where a moment makes no sense: `what` says of which ("a branch to drop"). */
CO_MUST_CHECK int ref_parse_head(const char *text, const char *what, struct ref *out);
/* DB/BRANCH where the branch must be written; of_verb for the sentence ("branch create"). */
CO_MUST_CHECK int ref_parse_branch(const char *text, const char *of_verb, struct ref *out);

/* What `restore DB --to TEXT` means: a moment of the branch itself, or DB/BRANCH[@MOMENT] of the
 * same database. `of` and `out` are two. */
CO_MUST_CHECK int ref_parse_source(const char *text, const struct ref *of, uint64_t now_us,
                                   struct ref *out);

/* "24h", "90m", "2d", "1w", "30s" in microseconds. */
CO_MUST_CHECK int ref_parse_lifetime(const char *text, uint64_t *us);

/* "DB", or "DB/BRANCH" when it is not main. */
#define REF_TEXT (2 * CO_NAME_MAX_BYTES + 2)
char *ref_format(const char *db, const char *branch, char out[REF_TEXT]);

/* The URI that the VFS opens; lsn 0: the head. */
#define REF_URI (REF_TEXT + 64)
char *ref_uri(const struct ref *r, lsn_t lsn, char out[REF_URI]);

#endif
