/* extension.c - the entry point of corallite.so, and the SQL functions of every connection. */
#include <string.h>

#include "compute-vfs/errors.h"
#include "compute-vfs/vfs.h"

SQLITE_EXTENSION_INIT1

#define NEEDED      3039000 /* sqlite3_db_name */
#define NEEDED_TEXT "3.39.0"

/* -- functions -----------------------------------------------------------------------------------
 */

static void last_error(sqlite3_context *context, int n, sqlite3_value **values)
{
    char sentence[CO_SENTENCE_MAX];

    (void)n;
    (void)values;
    cv_last_error(sentence);
    if (sentence[0])
        sqlite3_result_text(context, sentence, -1, SQLITE_TRANSIENT);
    else
        sqlite3_result_null(context);
}

static struct cv_conn *conn_named(sqlite3 *db, const char *name)
{
    const char *filename = sqlite3_db_filename(db, name);

    return filename ? cv_conn_of_name(filename) : NULL;
}

struct cv_conn *cv_conn_of_schema(sqlite3 *db, const char *schema)
{
    struct cv_conn *c = NULL;
    const char *name;

    if (schema)
        return conn_named(db, schema);
    for (int i = 0; !c && (name = sqlite3_db_name(db, i)); i++)
        if (i != 1)
            c = conn_named(db, name);
    return c;
}

static void commit_status(sqlite3_context *context, int n, sqlite3_value **values)
{
    struct cv_conn *c = cv_conn_of_schema(sqlite3_context_db_handle(context), NULL);
    const char *id = (const char *)sqlite3_value_text(values[0]);
    const char *word;

    (void)n;
    if (!c)
        sqlite3_result_error(context, "no Corallite database is open on this connection", -1);
    else if (!id)
        sqlite3_result_null(context);
    else if (cv_ending_status(c, id, &word))
        sqlite3_result_error(context, co_sentence(), -1);
    else
        sqlite3_result_text(context, word, -1, SQLITE_STATIC);
}

/* corallite_wait(LSN [, ms]): returns the LSN once every new transaction here sees it. */
static void wait_for(sqlite3_context *context, int n, sqlite3_value **values)
{
    struct cv_conn *c = cv_conn_of_schema(sqlite3_context_db_handle(context), NULL);
    const char *text = (const char *)sqlite3_value_text(values[0]);
    sqlite3_int64 ms = n > 1 ? sqlite3_value_int64(values[1]) : CO_READ_TIMEOUT_MS;
    lsn_t lsn;

    if (!c) {
        sqlite3_result_error(context, "no Corallite database is open on this connection", -1);
        return;
    }
    if (!text)
        return;
    if (ms < 0 || ms > UINT32_MAX) {
        sqlite3_result_error(context, "corallite_wait(LSN, MS): MS is from 0 to 4294967295", -1);
        return;
    }
    if (cv_conn_usable(c))
        sqlite3_result_error(context, "this process is a fork of the one that began", -1);
    else if (lsn_parse(text, &lsn) || cv_database_wait_for(c->db, lsn, (uint32_t)ms))
        sqlite3_result_error(context, co_sentence(), -1);
    else
        sqlite3_result_value(context, values[0]);
}

static int add_functions(sqlite3 *db)
{
    int rc = sqlite3_create_function(db, "corallite_last_error", 0, SQLITE_UTF8, NULL, last_error,
                                     NULL, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_create_function(db, "corallite_commit_status", 1,
                                     SQLITE_UTF8 | SQLITE_DIRECTONLY, NULL, commit_status, NULL,
                                     NULL);
    for (int n = 1; n <= 2 && rc == SQLITE_OK; n++)
        rc = sqlite3_create_function(db, "corallite_wait", n, SQLITE_UTF8 | SQLITE_DIRECTONLY, NULL,
                                     wait_for, NULL, NULL);
    return rc == SQLITE_OK ? cv_tables_add(db) : rc;
}

static int on_connection(sqlite3 *db, char **error, const sqlite3_api_routines *api)
{
    (void)error;
    (void)api;
    return add_functions(db);
}

/* -- entry
 * ----------------------------------------------------------------------------------------- */

__attribute__((visibility("default"))) int sqlite3_corallite_init(sqlite3 *db, char **error,
                                                                  const sqlite3_api_routines *api);

int sqlite3_corallite_init(sqlite3 *db, char **error, const sqlite3_api_routines *api)
{
    int rc;

    SQLITE_EXTENSION_INIT2(api);
    if (sqlite3_libversion_number() < NEEDED) {
        *error = sqlite3_mprintf("Corallite needs SQLite " NEEDED_TEXT " or newer; this is %s",
                                 sqlite3_libversion());
        return SQLITE_ERROR;
    }
    rc = cv_vfs_register();
    if (rc == SQLITE_OK)
        rc = sqlite3_auto_extension((void (*)(void))on_connection);
    if (rc == SQLITE_OK)
        rc = add_functions(db);
    return rc == SQLITE_OK ? SQLITE_OK_LOAD_PERMANENTLY : rc;
}
