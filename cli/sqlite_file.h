/*
 * sqlite_file.h - the stock SQLite library with the extension loaded, as any program has it;
 * copying one database into another, page by page.
 *
 * A failure's sentence is the extension's when it has one, else SQLite's.
 */
#ifndef CORALLITE_CLI_SQLITE_FILE_H
#define CORALLITE_CLI_SQLITE_FILE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/client_sock.h"
#include "cli/progress_file.h"
#include "cli/ref.h"

/* Loads the extension and lets it speak to this server. Once a process. */
CO_MUST_CHECK int sqlite_begin(const struct client_target *target);
/* *out is the caller's, for sqlite3_close; NULL after a failure. */
CO_MUST_CHECK int sqlite_open(const char *uri_or_path, int flags, sqlite3 **out);
/* What SQLite said of the last failure; `what` was being done. Returns CO_ERR_IO or a nearer one.
 */
int sqlite_failed(sqlite3 *db, const char *what);
/* The same of a failure that is not a connection's: `message` is SQLite's. Returns `code`. */
int sqlite_fail(int code, const char *what, const char *message);
/* Runs statements that return nothing. */
CO_MUST_CHECK int sqlite_exec(sqlite3 *db, const char *sql, const char *what);
/* A PRAGMA's or SELECT's one number. */
CO_MUST_CHECK int sqlite_number(sqlite3 *db, const char *sql, const char *what, int64_t *out);

/* A read transaction that begins now: what the connection sees does not change any more. */
CO_MUST_CHECK int sqlite_hold(sqlite3 *db, const char *what);

/*
 * Copies all pages in one transaction of `to`, exactly: page size, encoding, auto_vacuum, ids of
 * rows and of the application are kept. `from` is in a transaction (sqlite_hold). Ends with
 * CO_ERR_CANCELED, and `to` as it was, after SIGINT or SIGTERM.
 */
CO_MUST_CHECK int sqlite_copy(sqlite3 *from, sqlite3 *to, const char *what, uint64_t *bytes);
/* From now on SIGINT, SIGTERM and SIGHUP end a copy and not the process; each of them once, so that
 * a second Ctrl-C ends whatever still waits. */
void sqlite_catch_signals(void);
/* While a statement of `db` runs: shows the bar, and ends the statement with SQLITE_INTERRUPT after
 * a signal. NULL: no longer. */
void sqlite_watch(sqlite3 *db, struct progress *bar);
bool sqlite_interrupted(void);

#endif
