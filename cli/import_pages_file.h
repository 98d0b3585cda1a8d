/*
 * import_pages_file.h - the pages of a file into a branch, as they lie there, in many commits.
 *
 * The source is read past SQLite's page cache, under the read transaction that the caller holds;
 * one whose WAL has content is copied to a temporary file first. What an import that was cut off
 * has left in the branch is compared page by page and stays where it is the same.
 */
#ifndef CORALLITE_CLI_IMPORT_PAGES_FILE_H
#define CORALLITE_CLI_IMPORT_PAGES_FILE_H

#include <sqlite3.h>
#include <stdint.h>

#include "common/error.h"

struct import_pages {
    uint64_t bytes; /* of the source */
    uint64_t kept;  /* of them, those that were there already */
};

/* `from` is held (sqlite_hold); `uri` opens the branch. CO_ERR_CANCELED after a signal. */
CO_MUST_CHECK int import_pages(sqlite3 *from, const char *path, const char *uri,
                               struct import_pages *out);

#endif
