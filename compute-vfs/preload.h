/* preload.h - what preload.c needs of the extension. Threads: any. */
#ifndef CORALLITE_COMPUTE_VFS_PRELOAD_H
#define CORALLITE_COMPUTE_VFS_PRELOAD_H

#include <stdbool.h>

#include <sqlite3.h>

struct sqlite3_api_routines;

/* The entry point of the extension. */
int sqlite3_corallite_init(sqlite3 *db, char **error, const struct sqlite3_api_routines *api);
/* Has it been called, by whomever, with an SQLite that will do? */
bool cv_extension_serves(void);
/* Puts back what sqlite3_shutdown() takes away. An SQLite code; a failure has been told. */
int cv_extension_again(void);

#endif
