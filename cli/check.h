/*
 * check.h - what `corallite check` has found: gathered by check_*.c, shown by check.c.
 *
 * A problem is what makes a database unsound, or less safe than it is meant to be; a note is what a
 * person may want to know, and could not be looked at. Both are sentences.
 */
#ifndef CORALLITE_CLI_CHECK_H
#define CORALLITE_CLI_CHECK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"
#include "common/id.h"
#include "proto/limits.h"
#include "proto/lsn.h"

#define CHECK_NAME      (2 * CO_NAME_MAX_BYTES + 2)
#define CHECK_NODES_MAX CO_MEMBERS_MAX
#define CHECK_TEXTS_MAX 20u /* sentences of one branch; beyond them they are counted */

struct store_report; /* store.h */

/* One branch at one moment. */
struct check_branch {
    char database[CO_NAME_MAX_BYTES + 1], branch[CO_NAME_MAX_BYTES + 1];
    struct co_id timeline;
    lsn_t lsn; /* 0: there is no transaction */
    uint64_t time_us;
    uint32_t pages, page_size;
    uint32_t pages_read;   /* and verified by number, LSN and CRC */
    uint32_t *crc;         /* of each page; malloc'ed; NULL: none was read */
    bool structure_looked; /* PRAGMA integrity_check has run to its end */
    int64_t foreign_keys;  /* rows that violate one; -1: not looked */
    uint32_t copies;     /* safekeepers that have the log up to `lsn`, with the same digest; 0: not
                            compared */
    json_t *problems;    /* of strings */
    uint32_t n_problems; /* those that were left out too */
};

/* One safekeeper. */
struct check_node {
    uint32_t node;
    char address[CO_HOST_MAX_BYTES + 16];
    bool answered;
    uint32_t timelines;
};

#define CHECK_URL 600
/* A further pageserver, whose pages were compared with the first one's. */
#define CHECK_PAIRS_MAX 8u
struct check_pair {
    char address[CO_HOST_MAX_BYTES + 16];
    bool answered;
    uint32_t branches;
    uint64_t pages; /* the same in both */
};

struct check_report {
    struct check_branch *branches;
    uint32_t n_branches;
    struct check_node nodes[CHECK_NODES_MAX];
    uint32_t n_nodes;
    char archive[CHECK_URL]; /* that the pageserver writes to; "": none */
    struct check_pair pairs[CHECK_PAIRS_MAX];
    uint32_t n_pairs;
    uint32_t n_compared;       /* timelines of the catalog that were compared */
    json_t *problems, *notes;  /* of strings: of the cluster */
    struct store_report *deep; /* the store; NULL: not looked through. The caller's */
};

/* CO_ERR_NOMEM */
CO_MUST_CHECK int check_begin(struct check_report *r);
void check_free(struct check_report *r);
/* A branch more; NULL: there is no memory. Earlier pointers are no longer good. */
struct check_branch *check_add(struct check_report *r, const char *database, const char *branch);

void check_problem(struct check_branch *b, const char *format, ...) CO_PRINTF(2, 3);
void check_say(json_t *list, const char *format, ...) CO_PRINTF(2, 3);

bool check_sound(const struct check_report *r);
void check_print(const struct check_report *r);
CO_MUST_CHECK int check_print_json(const struct check_report *r);

/* -- The catalog, compared (pure) ----------------------------------------------------------------
 */

/* What one daemon holds of one timeline. */
struct check_entry {
    struct co_id id;
    char name[CHECK_NAME]; /* DB/BRANCH */
    uint64_t version;
    int state; /* Corallite__TimelineState */
    bool hidden;
    lsn_t start_lsn;
};

struct check_list {
    struct check_entry *e; /* malloc'ed */
    uint32_t n;
};

const struct check_entry *check_find(const struct check_list *list, const struct co_id *id);
/* Adds one; CO_ERR_NOMEM. */
CO_MUST_CHECK int check_list_add(struct check_list *list, const struct check_entry *entry);
/* What the pageserver lists against what each safekeeper lists. `only`: of this database, NULL: of
 * all. Fills n_compared and adds problems and notes. */
void check_catalog(struct check_report *r, const struct check_list *pageserver,
                   const struct check_list safekeepers[CHECK_NODES_MAX], const char *only);

#endif
