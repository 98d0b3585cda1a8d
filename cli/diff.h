/*
 * diff.h - what `corallite diff` is made of: two databases attached as "a" and "b" to one
 * connection, and where the differences go.
 */
#ifndef CORALLITE_CLI_DIFF_H
#define CORALLITE_CLI_DIFF_H

#include <jansson.h>
#include <sqlite3.h>
#include <stdbool.h>

#include "common/error.h"

enum diff_form { DIFF_TEXT, DIFF_JSON, DIFF_SQL };

struct diff {
    sqlite3 *db;
    enum diff_form form;
    json_t *tables; /* DIFF_JSON: an object, by table */
    bool different;
};

/* Rows of a table whose definition is the same in both. */
CO_MUST_CHECK int diff_rows(struct diff *d, const char *table);
/* DIFF_SQL: every row of b's table as an INSERT. */
CO_MUST_CHECK int diff_insert_all(struct diff *d, const char *table);
/* DIFF_SQL: before the first line that changes something, the lines that begin. */
CO_MUST_CHECK int diff_begin_sql(struct diff *d);

#endif
