/*
 * file_wal.c - sqlite3_io_methods of the WAL, which is private to the connection and a staging
 * buffer only: SQLite overwrites frames and rolls back to earlier ones in it as it likes. What
 * matters is the frame whose header has a size: its page is the last write of a commit.
 */
#include <string.h>

#include "compute-vfs/errors.h"
#include "compute-vfs/vfs.h"

static struct cv_conn *conn_of(sqlite3_file *file)
{
    return ((struct cv_file *)file)->conn;
}

static int code_of(int rc)
{
    return rc == CO_ERR_NOMEM  ? SQLITE_IOERR_NOMEM
           : rc == CO_ERR_FULL ? SQLITE_FULL
                               : SQLITE_IOERR_WRITE;
}

static int wal_close(sqlite3_file *file)
{
    file->pMethods = NULL;
    return SQLITE_OK;
}

static int wal_read(sqlite3_file *file, void *out, int n, sqlite3_int64 at)
{
    struct cv_conn *c = conn_of(file);
    bool cut;
    int rc = cv_walbuf_read(&c->wal, (uint64_t)at, out, (size_t)n, &cut);

    if (rc)
        return cv_report_sentence(SQLITE_IOERR_READ);
    return cut ? SQLITE_IOERR_SHORT_READ : SQLITE_OK;
}

/* Tells whether this write completes a frame that commits, and which. Where a shim hides that we
 * have POWERSAFE_OVERWRITE, SQLite repeats the commit frame up to the end of a sector, and writes
 * the last one in two pieces. */
static bool completes_commit(struct cv_conn *c, uint64_t at, uint32_t n, uint32_t *frame,
                             uint32_t *db_pages)
{
    uint64_t frame_bytes = CV_WAL_FRAME_HEADER + (uint64_t)c->wal_page_size;
    uint64_t end = at + n;
    uint8_t header[8];
    bool cut;

    if (c->wal_page_size == 0 || n > c->wal_page_size || at < CV_WAL_HEADER_BYTES ||
        (end - CV_WAL_HEADER_BYTES) % frame_bytes != 0)
        return false;
    if (cv_walbuf_read(&c->wal, end - frame_bytes, header, sizeof header, &cut))
        return false;
    *frame = (uint32_t)((end - CV_WAL_HEADER_BYTES) / frame_bytes);
    *db_pages = co_get32be(header + 4);
    return *db_pages != 0;
}

static int wal_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 at)
{
    struct cv_conn *c = conn_of(file);
    uint32_t frame, db_pages;
    int rc = cv_conn_usable(c);

    if (rc)
        return rc;
    if (!c->slot0) /* M12: locking_mode=exclusive came around us */
        return cv_report(SQLITE_IOERR_LOCK,
                         "%s: SQLite writes without the writer lock; PRAGMA locking_mode must be "
                         "normal for a Corallite database",
                         c->uri.db);
    if (at == 0)
        cv_walbuf_truncate(&c->wal, 0); /* SQLite begins it anew: nobody needs what was in it */
    rc = cv_walbuf_write(&c->wal, (uint64_t)at, data, (size_t)n);
    if (rc)
        return cv_report_sentence(code_of(rc));
    if (at == 0 && n == (int)CV_WAL_HEADER_BYTES)
        c->wal_page_size = co_get32be((const uint8_t *)data + 8);
    else if (completes_commit(c, (uint64_t)at, (uint32_t)n, &frame, &db_pages))
        return cv_ending_commit_frame(c, frame, db_pages);
    return SQLITE_OK;
}

static int wal_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    cv_walbuf_truncate(&conn_of(file)->wal, (uint64_t)size);
    return SQLITE_OK;
}

static int wal_sync(sqlite3_file *file, int flags)
{
    struct cv_conn *c = conn_of(file);

    (void)flags;
    if (c->commit.frame)
        c->synced = true; /* synchronous=FULL or EXTRA */
    return SQLITE_OK;
}

static int wal_size(sqlite3_file *file, sqlite3_int64 *out)
{
    *out = (sqlite3_int64)conn_of(file)->wal.len;
    return SQLITE_OK;
}

static int wal_lock(sqlite3_file *file, int level)
{
    (void)file;
    (void)level;
    return SQLITE_OK;
}

static int wal_check_reserved(sqlite3_file *file, int *out)
{
    (void)file;
    *out = 0;
    return SQLITE_OK;
}

static int wal_control(sqlite3_file *file, int op, void *arg)
{
    (void)file;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int wal_sector_size(sqlite3_file *file)
{
    (void)file;
    return 4096;
}

static int wal_characteristics(sqlite3_file *file)
{
    (void)file;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE | SQLITE_IOCAP_SEQUENTIAL;
}

const sqlite3_io_methods cv_wal_methods = {
    .iVersion = 1,
    .xClose = wal_close,
    .xRead = wal_read,
    .xWrite = wal_write,
    .xTruncate = wal_truncate,
    .xSync = wal_sync,
    .xFileSize = wal_size,
    .xLock = wal_lock,
    .xUnlock = wal_lock,
    .xCheckReservedLock = wal_check_reserved,
    .xFileControl = wal_control,
    .xSectorSize = wal_sector_size,
    .xDeviceCharacteristics = wal_characteristics,
};
