/*
 * store.h - what was found in the pageserver's store, and what mends it: gathered by store_sock.c,
 * mended by repair_sock.c, shown here. Pure but for printing.
 */
#ifndef CORALLITE_CLI_STORE_H
#define CORALLITE_CLI_STORE_H

#include <jansson.h>

#include "cli/check.h"
#include "proto/corallite.pb-c.h"
#include "proto/wal.h"

#define STORE_KIND         24
#define STORE_FINDINGS_MAX 10000u

/* Kinds of damage, by their words in docs/damage.md. */
struct store_kind {
    const char *word;
    Corallite__RepairAction action;
    const char *otherwise; /* what a person can do where there is no action */
};
/* NULL: no such kind in this build. */
const struct store_kind *store_kind_of(const char *word);
const char *store_action_word(Corallite__RepairAction action); /* "rebuild", "none" */

struct store_finding {
    char kind[STORE_KIND];
    struct co_id timeline; /* zero: none */
    char name[CHECK_NAME]; /* DB/BRANCH, DB of a pin, or "" */
    char pin[CO_NAME_MAX_BYTES + 1];
    uint32_t pgno, no;
    lsn_t lsn;
    char text[CO_SENTENCE_MAX];
};

struct store_line {
    struct co_id timeline;
    char name[CHECK_NAME];
    uint32_t no;
    lsn_t start, last, newest;
    struct wal_digest digest; /* at last, by the store */
    uint64_t lag_bytes, versions;
};

struct store_report {
    struct store_finding *findings; /* malloc'ed, as lines */
    uint32_t n_findings;
    struct store_line *lines;
    uint32_t n_lines;
    uint64_t versions, commits; /* looked at */
    uint64_t n_more;            /* findings beyond STORE_FINDINGS_MAX: counted only */
};
void store_free(struct store_report *s);
/* CO_ERR_NOMEM */
CO_MUST_CHECK int store_add(struct store_report *s, const struct store_finding *f);
CO_MUST_CHECK int store_add_line(struct store_report *s, const struct store_line *l);

void store_print(const struct store_report *s);
/* NULL: no memory */
json_t *store_json(const struct store_report *s);

#endif
