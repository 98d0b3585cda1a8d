/*
 * stock.h - programs that use SQLite as anybody does, once on a plain WAL file and once on
 * Corallite. A program writes down what it was told, a line a call; the driver (test_stock.py) runs
 * it on both and compares the lines.
 *
 * say()      a line that has to be the same on both
 * differs()  a line that may not be: its key is a row of "Differences" in docs/pragmas.md, which
 *            names both answers
 */
#ifndef CORALLITE_TESTS_STOCK_H
#define CORALLITE_TESTS_STOCK_H

/* As Debian builds it. */
#define SQLITE_ENABLE_PREUPDATE_HOOK 1
#define SQLITE_ENABLE_SESSION        1
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

struct stock_case {
    const char *name;
    void (*run)(void);
};
/* Of the program; the last one has no name. */
extern const struct stock_case cases[];

/* Whether this run is the one on Corallite; a directory for plain files of both. */
extern bool on_corallite;
extern const char *stock_dir;

void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void differs(const char *key, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Ends the program: it could not do its work. */
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* The URI of a database of this run, and of a plain file on both sides. Static buffers in turns. */
const char *stock_uri(const char *name, const char *more);
const char *stock_file(const char *name);

/* Loads the extension, as the very first connection of a program does. */
void stock_load(void);
/* Extended result code; *out is NULL on failure. */
int stock_open_rc(const char *uri, int flags, sqlite3 **out);
/* The database "name" of this run, read and write, created in WAL mode; must succeed. */
sqlite3 *stock_open(const char *name);
sqlite3 *stock_open_more(const char *name, const char *more, int flags);
/* Closes and says so. */
void stock_close(sqlite3 *db);

/* Runs all the statements and says the code and the rows of each. The last extended code. */
int run(sqlite3 *db, const char *sql);
/* The same, and says nothing. */
int quiet(sqlite3 *db, const char *sql);
/* The first column of the first row, -1 without one. */
long long number(sqlite3 *db, const char *sql);
/* The same as text; a static buffer, "" without one. */
const char *text(sqlite3 *db, const char *sql);
/* One step of a statement: says code and row. */
int step(sqlite3_stmt *stmt);
sqlite3_stmt *prepare(sqlite3 *db, const char *sql);

#endif
