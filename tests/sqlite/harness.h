/*
 * harness.h - Corallite, or the control, as the default VFS of SQLite's own test programs.
 *
 * Those programs open plain paths, and look at, copy and delete the files that they expect there.
 * So a path gets a *stand-in*: a small file that names the database which the path stands for.
 * Deleting it deletes the database (dropped at the next look), renaming it renames, and a copy is
 * made by prelude.tcl, as a branch. Opening an empty file, or one that is not there, makes a new
 * database. A file that holds anything else is somebody's bytes: "file is not a database".
 *
 * What is behind a stand-in is the backend's: Corallite, or for the control a file in WAL mode in a
 * directory that no test knows. So both sides differ in nothing but where the pages are.
 *
 * Environment: HARNESS_BACKEND (corallite, control, none), HARNESS_NAME (what the databases' names
 * begin with), HARNESS_COUNTS (a file of counters, shared by all processes of a script),
 * HARNESS_HIDDEN (the control's directory), CORALLITE_SERVER.
 */
#ifndef CORALLITE_TESTS_SQLITE_HARNESS_H
#define CORALLITE_TESTS_SQLITE_HARNESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <sqlite3.h>

/* -- counts.c: what a run did, seen from outside it ----------------------------------------------
 */

/* The order is that of run.py. */
enum count {
    COUNT_MAIN,    /* main databases opened by the backend */
    COUNT_FOREIGN, /* by another VFS */
    COUNT_BYTES,   /* refused: the file is no stand-in */
    COUNT_CREATED, /* databases that came into being */
    COUNT_DROPPED,
    COUNT_COPIED,  /* stand-ins copied behind our back: refused */
    COUNT_COMMITS, /* frames that SQLite has marked as the end of a transaction */
    COUNTS,
};
/* One more; the number before. */
uint64_t count(enum count what);
/* Looks at a write to a WAL. */
void count_wal_write(const void *data, int n, sqlite3_int64 at);

/* -- standin.c -----------------------------------------------------------------------------------
 */

#define STANDIN_NAME_MAX 128

/* What `path` stands for; makes it when the flags say so. *flags loses SQLITE_OPEN_READWRITE for a
 * file that may not be written. SQLITE_CANTOPEN, SQLITE_NOTADB. */
int standin_open(const char *path, int *flags, char name[STANDIN_NAME_MAX]);
bool standin_is(const char *path);
/* Remembers who has it open, by SQLite's pointer. */
void standin_opened(const char *path, const char *name, const char *filename);
/* Drops what lost its stand-in and is not open any more. */
void standin_sweep(void);

/* bytes_file.c */
void bytes_file_open(sqlite3_file *file);

/* -- backends ------------------------------------------------------------------------------------
 */

struct backend {
    const char *name;
    int (*begin)(sqlite3_vfs *platform); /* SQLite code */
    int (*open)(const char *name, sqlite3_filename path, sqlite3_file *file, int flags, int *out);
    int (*open_wal)(sqlite3_filename wal, sqlite3_file *file, int flags, int *out);
    bool (*wal_exists)(const char *wal);
    void (*wal_delete)(const char *wal);
    bool (*is_open)(const char *filename);
    void (*drop)(const char *name);
    int (*sleep)(int us);     /* NULL: the platform's */
    int (*file_object)(void); /* bytes of its sqlite3_file */
};

extern const struct backend backend_corallite, backend_control;
/* The one of this process; NULL: none. */
const struct backend *backend(void);

#endif
