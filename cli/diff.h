/*
 * diff.h - what `corallite diff` is made of: two databases attached as "a" and "b" to one
 * connection, and where the differences go.
 */
#ifndef CORALLITE_CLI_DIFF_H
#define CORALLITE_CLI_DIFF_H

#include <jansson.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "proto/lsn.h"

enum diff_form { DIFF_TEXT, DIFF_JSON, DIFF_SQL };

struct diff {
    sqlite3 *db;
    enum diff_form form;
    bool schema_only;
    bool summary;   /* how many rows, not which; not of DIFF_SQL */
    json_t *tables; /* DIFF_JSON: an object, by table */
    bool different;
};

/* -- diff_rows_file.c -- */

/* Rows of a table whose definition is the same in both: those of its plan. */
CO_MUST_CHECK int diff_rows(struct diff *d, const char *table);
/* DIFF_SQL: every row of b's table as an INSERT. */
CO_MUST_CHECK int diff_insert_all(struct diff *d, const char *table);
/* DIFF_SQL: before the first line that changes something, the lines that begin. */
CO_MUST_CHECK int diff_begin_sql(struct diff *d);

/* -- diff_plan_file.c: which rows are looked at -- */

enum diff_how {
    DIFF_ALL,    /* every row */
    DIFF_NONE,   /* no page of the table changed */
    DIFF_RANGES, /* rowids in temp.diff_range(tree, lo, hi) */
    DIFF_KEYS,   /* primary keys in temp."diff_key N"(k1, k2, ...) */
};

struct diff_plan {
    enum diff_how how;
    int tree; /* N of the temporary table */
};

struct diff_moment {
    uint32_t page_size;
    pgno_t n_pages;
};

/*
 * Plans by the pages that changed: `changed`, ascending, holds each page whose content differs
 * between a and b. Both are in a read transaction. *why (may be NULL): why everything has to be
 * compared after all, NULL if it has not.
 */
CO_MUST_CHECK int diff_plan_pages(struct diff *d, const struct diff_moment moments[2],
                                  const pgno_t *changed, size_t n, const char **why);
/* Without a plan it is DIFF_ALL. */
CO_MUST_CHECK int diff_plan_of(struct diff *d, const char *table, struct diff_plan *out);

/* -- diff_value_file.c: values as SQL and as JSON -- */

/* A literal that SQLite reads back to the very value. */
void diff_put_value(sqlite3_str *q, sqlite3_stmt *s, int column);
json_t *diff_value_json(sqlite3_stmt *s, int column);

#endif
