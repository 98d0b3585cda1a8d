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
/* The default VFS as well, so that a URI reaches us through drivers that know paths only; at each
 * call puts back what sqlite3_shutdown() has taken away. An SQLite code; a failure has been told.
 */
int cv_extension_preloaded(void);

#endif
