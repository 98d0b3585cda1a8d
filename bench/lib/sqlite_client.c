#include "bench/lib/sqlite_client.h"

#include <stdio.h>
#include <string.h>

static struct {
    const char *uri, *synchronous;
    int cache_kib, busy_ms;
    sqlite3 *loader;
} options;

void sq_options(int argc, char **argv)
{
    options.uri = bm_option(argc, argv, "--uri", NULL);
    options.synchronous = bm_option(argc, argv, "--synchronous", "full");
    options.cache_kib = (int)bm_number(argc, argv, "--cache-kib", 2000);
    options.busy_ms = (int)bm_number(argc, argv, "--busy-ms", 20000);
    if (options.uri == NULL)
        bm_die("--uri is needed");
    const char *extension = bm_option(argc, argv, "--extension", "");
    if (*extension == 0)
        return;
    char *why = NULL;
    if (sqlite3_open(":memory:", &options.loader) != SQLITE_OK ||
        sqlite3_enable_load_extension(options.loader, 1) != SQLITE_OK ||
        sqlite3_load_extension(options.loader, extension, NULL, &why) != SQLITE_OK)
        bm_die("%s: %s", extension, why ? why : "cannot be loaded");
}

void sq_exec(sqlite3 *db, const char *sql)
{
    char *why = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        bm_die("%s: %s", sql, why ? why : "failed");
}

sqlite3 *sq_open(void)
{
    sqlite3 *db;
    char sql[200];
    int rc = sqlite3_open_v2(
        options.uri, &db,
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK)
        bm_die("%s: %s", options.uri, db ? sqlite3_errmsg(db) : "no memory");
    sqlite3_busy_timeout(db, options.busy_ms);
    snprintf(sql, sizeof sql,
             "PRAGMA journal_mode=wal; PRAGMA synchronous=%s; PRAGMA cache_size=-%d",
             options.synchronous, options.cache_kib);
    sq_exec(db, sql);
    return db;
}

sqlite3_stmt *sq_prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
        bm_die("%s: %s", sql, sqlite3_errmsg(db));
    return statement;
}

int sq_run(sqlite3 *db, sqlite3_stmt *statement)
{
    int rows = 0, rc;
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW)
        rows++;
    if (rc != SQLITE_DONE)
        bm_die("%s: %s", sqlite3_sql(statement), sqlite3_errmsg(db));
    sqlite3_reset(statement);
    return rows;
}

long long sq_value(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement = sq_prepare(db, sql);
    if (sqlite3_step(statement) != SQLITE_ROW)
        bm_die("%s: %s", sql, sqlite3_errmsg(db));
    long long value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return value;
}
