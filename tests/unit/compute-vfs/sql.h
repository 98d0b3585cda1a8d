/* sql.h - short ways to run SQL in tests. Connections are opened on the memory backend. */
#ifndef CORALLITE_TESTS_SQL_H
#define CORALLITE_TESTS_SQL_H

#include <sqlite3.h>

/* Puts the memory backend in place and registers the VFS. Call it in .init. */
void sql_init(void);

/* Opens "file:NAME?vfs=corallite&server=HOST" + more; NULL and the code in *rc on failure. `name`
 * may carry "&...": it is put behind the server. */
sqlite3 *sql_open_rc(const char *name, const char *server, const char *more, int flags, int *rc);
/* The usual one; asserts success. */
sqlite3 *sql_open(const char *name);
/* As another compute: a database object and a log of its own. */
sqlite3 *sql_open_other(const char *name);

/* Extended result code of running it all. */
int sql_rc(sqlite3 *db, const char *sql);
/* Asserts SQLITE_OK. */
void sql_do(sqlite3 *db, const char *sql);
/* First column of the first row; -1 none, -2 error. */
long long sql_int(sqlite3 *db, const char *sql);
/* Static buffer of the thread. "" none; "ERROR n" */
const char *sql_text(sqlite3 *db, const char *sql);
/* Closes; asserts that nothing is left open. */
void sql_close(sqlite3 *db);

/* M8. A commit of `a` at "db", received and not durable, is lost with its term, and `b`, another
 * compute, commits at the very LSN, which is told. t(id, v) has the one row (1, 1002) then. */
#define SQL_LSN 32
void sql_use_lsn_again(sqlite3 *a, sqlite3 *b, char lost[SQL_LSN]);

/* Another thread that runs `sql` on `db`. sql_join tells its code. */
struct sql_thread;
struct sql_thread *sql_start(sqlite3 *db, const char *sql);
int sql_join(struct sql_thread *t);
/* Whether it has come to its end. */
int sql_ended(struct sql_thread *t);
/* Waits (at most 5 s) until the condition holds. */
#define SQL_UNTIL(cond)                                                                            \
    for (int until_ = 0; !(cond) && until_ < 5000; until_++)                                       \
    sql_nap()
void sql_nap(void);

#endif
