/*
 * sqlite_client.h - stock SQLite as the programs of bench/ use it, on a file or on Corallite.
 */
#ifndef CORALLITE_BENCH_LIB_SQLITE_CLIENT_H
#define CORALLITE_BENCH_LIB_SQLITE_CLIENT_H

#include <sqlite3.h>

#include "bench/lib/measure.h"

/*
 * Reads --uri (needed), --extension, --synchronous (full), --cache-kib (2000), --busy-ms (20000).
 * With an extension it is loaded once, for the process.
 */
void sq_options(int argc, char **argv);

/* A connection as the options say, in WAL mode. Ends the process when it cannot. */
sqlite3 *sq_open(void);

void sq_exec(sqlite3 *db, const char *sql);
sqlite3_stmt *sq_prepare(sqlite3 *db, const char *sql);
/* Steps to the end and resets; the number of rows. */
int sq_run(sqlite3 *db, sqlite3_stmt *statement);
/* The one number that a query answers. */
long long sq_value(sqlite3 *db, const char *sql);

#endif
