/* sqlite.h - SQLite as a loadable extension sees it: every call goes through the table of the
 * program that loaded us. One set of object files serves the extension and the tests. */
#ifndef CORALLITE_COMPUTE_VFS_SQLITE_H
#define CORALLITE_COMPUTE_VFS_SQLITE_H

#include <sqlite3ext.h>

extern const sqlite3_api_routines *sqlite3_api; /* extension.c */

#endif
