/* extension.c - the entry point of corallite.so, and the SQL functions of every connection. */
#include <string.h>

#include "compute-vfs/errors.h"
#include "compute-vfs/preload.h"
#include "compute-vfs/vfs.h"

SQLITE_EXTENSION_INIT1

#define NEEDED      3039000 /* sqlite3_db_name */
#define NEEDED_TEXT "3.39.0"
#define FORKED      "this process is a fork of the one that began"

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
    else if (cv_conn_usable(c))
        sqlite3_result_error(context, FORKED, -1);
    else if (cv_ending_status(c, id, &word))
        sqlite3_result_error(context, co_sentence(), -1);
    else
        sqlite3_result_text(context, word, -1, SQLITE_STATIC);
}

/* What corallite_wait() is to wait for: an LSN, or the commit of an id; *id tells which. */
static int parse_token(const char *text, lsn_t *lsn, bool *id)
{
    term_t term;

    *id = strchr(text, ':') && strncmp(text, "lsn:", 4) != 0;
    if (!*id)
        return lsn_parse(text, lsn);
    if (lsn_commit_id_parse(text, &term, lsn))
        return CO_ERR_INVAL;
    *lsn += LSN_ALIGN; /* past its begin means up to its end: only ends of records are seen */
    return 0;
}

/* Somebody else's commit may stand where that one would have been. */
static int check_committed(struct cv_conn *c, const char *id)
{
    const char *word;
    int rc = cv_ending_status(c, id, &word);

    if (!rc && strcmp(word, "committed") != 0)
        rc =
            co_fail(CO_ERR_NOT_FOUND,
                    strcmp(word, "unknown") == 0 ? "commit %.60s is not known to be in the database"
                                                 : "commit %.60s is not in the database",
                    id);
    return rc;
}

/* corallite_wait(LSN or commit id [, ms]): returns it once every new transaction here sees it. */
static void wait_for(sqlite3_context *context, int n, sqlite3_value **values)
{
    struct cv_conn *c = cv_conn_of_schema(sqlite3_context_db_handle(context), NULL);
    const char *text = (const char *)sqlite3_value_text(values[0]);
    sqlite3_int64 ms = n > 1 ? sqlite3_value_int64(values[1]) : CO_READ_TIMEOUT_MS;
    bool id;
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
        sqlite3_result_error(context, FORKED, -1);
    else if (parse_token(text, &lsn, &id) || cv_database_wait_for(c->db, lsn, (uint32_t)ms) ||
             (id && check_committed(c, text)))
        sqlite3_result_error(context, co_sentence(), -1);
    else
        sqlite3_result_value(context, values[0]);
}

/* corallite_default([GLOBS]): from now on plain paths that match are databases (default.c). */
static void make_default(sqlite3_context *context, int n, sqlite3_value **values)
{
    const char *globs = n ? (const char *)sqlite3_value_text(values[0]) : NULL;

    if (n && !globs)
        sqlite3_result_error(context, "corallite_default(GLOBS): GLOBS is NULL", -1);
    else if (n && cv_default_set(globs))
        sqlite3_result_error(context, co_sentence(), -1);
    else
        sqlite3_result_text(context, cv_default_patterns(), -1, sqlite3_free);
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
    for (int n = 0; n <= 1 && rc == SQLITE_OK; n++)
        rc = sqlite3_create_function(db, "corallite_default", n, SQLITE_UTF8 | SQLITE_DIRECTONLY,
                                     NULL, make_default, NULL, NULL);
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

/* All our calls go through one table, so there is one SQLite a process for us: the first. */
static int take_table(char **error, const sqlite3_api_routines *api)
{
    const sqlite3_api_routines *taken = __atomic_load_n(&sqlite3_api, __ATOMIC_SEQ_CST);

    if (!api)
        return SQLITE_ERROR; /* an SQLite without loadable extensions: nothing can be called */
    if (api->libversion_number() < NEEDED) {
        *error = api->mprintf("Corallite needs SQLite " NEEDED_TEXT " or newer; this is %s",
                              api->libversion());
        return SQLITE_ERROR;
    }
    /* Written once only: connections read it while others load the extension again. */
    if (!taken && __atomic_compare_exchange_n(&sqlite3_api, &taken, api, false, __ATOMIC_SEQ_CST,
                                              __ATOMIC_SEQ_CST))
        return SQLITE_OK;
    if (taken == api)
        return SQLITE_OK;
    *error = api->mprintf("this process has two SQLite libraries, and Corallite serves the other "
                          "one (%s): open the database through that",
                          sqlite3_libversion());
    return SQLITE_ERROR;
}

/* For this process, and for whatever opens a connection from now on. A refusal of ours is told, and
 * copied to *error where there is one. */
static int set_up(bool preloaded, char **error)
{
    int rc = cv_vfs_register();

    if (rc == SQLITE_OK)
        rc = sqlite3_auto_extension((void (*)(void))on_connection);
    if (rc != SQLITE_OK || cv_default_from_environment(preloaded) == 0)
        return rc;
    if (error)
        *error = sqlite3_mprintf("%s", co_sentence());
    return cv_report_sentence(SQLITE_ERROR);
}

bool cv_extension_serves(void)
{
    return __atomic_load_n(&sqlite3_api, __ATOMIC_SEQ_CST) != NULL;
}

int cv_extension_preloaded(void)
{
    return set_up(true, NULL);
}

__attribute__((visibility("default"))) int sqlite3_corallite_init(sqlite3 *db, char **error,
                                                                  const sqlite3_api_routines *api)
{
    int rc = take_table(error, api);

    if (rc == SQLITE_OK)
        rc = set_up(false, error);
    if (rc == SQLITE_OK)
        rc = add_functions(db);
    return rc == SQLITE_OK ? SQLITE_OK_LOAD_PERMANENTLY : rc;
}
