/*
 * bytes_file.c - a file that is no stand-in, opened as a database: it reads as something that is
 * none, so that SQLite says "file is not a database" where it would for such a file, at the first
 * access. Its own bytes are never served: no test is to pass on pages that no backend keeps.
 */
#include "harness.h"

#include <string.h>

#define SIZE 1024

static int b_close(sqlite3_file *file)
{
    file->pMethods = NULL;
    return SQLITE_OK;
}

static int b_read(sqlite3_file *file, void *out, int n, sqlite3_int64 at)
{
    (void)file;
    memset(out, '#', (size_t)n);
    return at + n > SIZE ? SQLITE_IOERR_SHORT_READ : SQLITE_OK;
}

static int b_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 at)
{
    (void)file, (void)data, (void)n, (void)at;
    return SQLITE_READONLY;
}

static int b_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    (void)file, (void)size;
    return SQLITE_READONLY;
}

static int b_level(sqlite3_file *file, int level)
{
    (void)file, (void)level;
    return SQLITE_OK;
}

static int b_size(sqlite3_file *file, sqlite3_int64 *out)
{
    (void)file;
    *out = SIZE;
    return SQLITE_OK;
}

static int b_check_reserved(sqlite3_file *file, int *out)
{
    (void)file;
    *out = 0;
    return SQLITE_OK;
}

static int b_control(sqlite3_file *file, int op, void *arg)
{
    (void)file, (void)op, (void)arg;
    return SQLITE_NOTFOUND;
}

static int b_number(sqlite3_file *file)
{
    (void)file;
    return 0;
}

static const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = b_close,
    .xRead = b_read,
    .xWrite = b_write,
    .xTruncate = b_truncate,
    .xSync = b_level,
    .xFileSize = b_size,
    .xLock = b_level,
    .xUnlock = b_level,
    .xCheckReservedLock = b_check_reserved,
    .xFileControl = b_control,
    .xSectorSize = b_number,
    .xDeviceCharacteristics = b_number,
};

void bytes_file_open(sqlite3_file *file)
{
    file->pMethods = &methods;
}
