/* file_main.c - sqlite3_io_methods of the main database file. */
#include <stdlib.h>
#include <string.h>

#include "compute-vfs/errors.h"
#include "compute-vfs/vfs.h"
#include "proto/bulk.h"

#define FILE_HEADER_BYTES 100

uint64_t cv_lock_byte_at = 0x40000000;

static struct cv_conn *conn_of(sqlite3_file *file)
{
    return ((struct cv_file *)file)->conn;
}

static int main_close(sqlite3_file *file)
{
    cv_conn_close(conn_of(file));
    file->pMethods = NULL;
    return SQLITE_OK;
}

/* -- reading -------------------------------------------------------------------------------------
 */

static uint32_t page_size_of(struct cv_conn *c)
{
    uint32_t page_size;

    pthread_mutex_lock(&c->db->lock);
    page_size = c->db->page_size;
    pthread_mutex_unlock(&c->db->lock);
    return page_size;
}

/* A database that is still empty has the page size that the URI wants. */
static void empty_header(const struct cv_conn *c, uint8_t *out, int n, sqlite3_int64 at)
{
    uint32_t size = c->uri.page_size == 65536 ? 1 : c->uri.page_size;

    memset(out, 0, (size_t)n);
    for (int i = 0; i < 2; i++)
        if (16 + i >= at && 16 + i < at + n)
            out[16 + i - at] = (uint8_t)(size >> (8 - 8 * i));
}

/* Copies [at, at + n) of the state; pages that it does not have read as zeros. */
static int read_at(struct cv_conn *c, const struct cv_snapshot *s, uint8_t *out, uint32_t n,
                   uint64_t at)
{
    uint32_t page_size = page_size_of(c);
    uint8_t *whole = NULL;
    bool cut = false;
    int rc = 0;

    while (!rc && n > 0) {
        uint64_t index = at / page_size;
        uint32_t from = (uint32_t)(at % page_size), part = page_size - from;
        uint8_t *to = out;

        c->ahead.never = (pgno_t)(cv_lock_byte_at / page_size) + 1;
        if (part > n)
            part = n;
        if (index >= s->db_pages) {
            memset(out, 0, n);
            cut = true;
            break;
        }
        if (part < page_size && !whole && !(whole = malloc(page_size)))
            return SQLITE_IOERR_NOMEM;
        if (part < page_size)
            to = whole;
        if (index == cv_lock_byte_at / page_size)
            memset(to, 0, page_size);
        else
            rc = cv_database_read_page(c->db, c->fixed ? NULL : &c->handle, &c->ahead, s,
                                       (pgno_t)(index + 1), to, page_size, CO_READ_TIMEOUT_MS);
        if (!rc && index == 0)
            to[CV_SCHEMA_MARK_AT] ^= c->schema_mark;
        if (!rc && to == whole)
            memcpy(out, whole + from, part);
        out += part;
        at += part;
        n -= part;
    }
    free(whole);
    if (rc)
        return cv_report_sentence(rc == CO_ERR_NOMEM ? SQLITE_IOERR_NOMEM : SQLITE_IOERR_READ);
    return cut ? SQLITE_IOERR_SHORT_READ : SQLITE_OK;
}

/* What is known without a transaction: asked for once, then as good as the last answer. */
static int visible(struct cv_conn *c, struct cv_snapshot *out)
{
    struct cv_pin_request request = {.timeout_ms = CO_READ_TIMEOUT_MS};
    bool speculative, known;
    int rc;

    pthread_mutex_lock(&c->db->lock);
    known = c->db->known_valid;
    *out = (struct cv_snapshot){c->db->known.txn, c->db->known.db_pages, c->db->epoch};
    pthread_mutex_unlock(&c->db->lock);
    if (known && !c->at)
        return SQLITE_OK;
    if (c->at)
        rc = cv_database_pin_at(c->db, &c->handle, &c->moment, request.timeout_ms);
    else
        rc = cv_database_pin(c->db, &c->handle, &request, &speculative);
    if (rc)
        return cv_report_sentence(SQLITE_IOERR_READ);
    *out = c->handle.pin;
    cv_database_unpin(c->db, &c->handle);
    return SQLITE_OK;
}

/* SQLite reads without a lock only the file's header, at open (M12). */
static int read_unlocked(struct cv_conn *c, uint8_t *out, int n, sqlite3_int64 at)
{
    struct cv_snapshot s;
    int rc;

    if (at + n > FILE_HEADER_BYTES)
        return cv_report(SQLITE_IOERR_READ, "%s: a read of %d bytes without a snapshot", c->uri.db,
                         n);
    rc = visible(c, &s);
    if (rc)
        return rc;
    if (s.lsn == LSN_NONE) {
        empty_header(c, out, n, at);
        return SQLITE_IOERR_SHORT_READ;
    }
    return read_at(c, &s, out, (uint32_t)n, (uint64_t)at);
}

static int main_read(sqlite3_file *file, void *out, int n, sqlite3_int64 at)
{
    struct cv_conn *c = conn_of(file);
    int rc = cv_conn_usable(c);

    if (rc)
        return rc;
    if (!c->reading && !c->fixed)
        return read_unlocked(c, out, n, at);
    if (c->speculative && !c->slot0 && at != 0) { /* M7 */
        rc = cv_lock_settle(c);
        if (rc)
            return rc;
    }
    if (c->handle.pin.lsn == LSN_NONE) {
        memset(out, 0, (size_t)n);
        return SQLITE_IOERR_SHORT_READ;
    }
    return read_at(c, &c->handle.pin, out, (uint32_t)n, (uint64_t)at);
}

static int main_size(sqlite3_file *file, sqlite3_int64 *out)
{
    struct cv_conn *c = conn_of(file);
    struct cv_snapshot s;
    int rc = cv_conn_usable(c);

    if (rc)
        return rc;
    if (c->size_lie) {
        c->size_lie = false;
        *out = 1;
        return SQLITE_OK;
    }
    if (c->reading || c->fixed)
        s = c->handle.pin;
    else
        rc = visible(c, &s);
    if (!rc)
        *out = (sqlite3_int64)s.db_pages * page_size_of(c);
    return rc;
}

/* -- what never happens to it --------------------------------------------------------------------
 */

static int refuse_write(struct cv_conn *c)
{
    return cv_report(SQLITE_IOERR_LOCK,
                     "%s: SQLite tried to write the database file itself, which only ever happens "
                     "outside WAL mode; a Corallite database is always in WAL mode",
                     c->uri.db);
}

static int main_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 at)
{
    (void)data;
    (void)n;
    (void)at;
    return refuse_write(conn_of(file));
}

static int main_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    (void)size;
    return refuse_write(conn_of(file));
}

static int main_sync(sqlite3_file *file, int flags)
{
    (void)file;
    (void)flags;
    return SQLITE_OK;
}

/* More than SHARED would be: leave WAL mode, go exclusive, or checkpoint at close (M12). */
static int main_lock(sqlite3_file *file, int level)
{
    struct cv_conn *c = conn_of(file);

    if (level > SQLITE_LOCK_SHARED)
        return SQLITE_BUSY;
    if (c->file_lock < level)
        c->file_lock = level;
    return SQLITE_OK;
}

static int main_unlock(sqlite3_file *file, int level)
{
    struct cv_conn *c = conn_of(file);

    if (c->file_lock > level)
        c->file_lock = level;
    return SQLITE_OK;
}

static int main_check_reserved(sqlite3_file *file, int *out)
{
    (void)file;
    *out = 0;
    return SQLITE_OK;
}

/* -- control -------------------------------------------------------------------------------------
 */

/* A name that is free, as the platform's VFS would give it. */
static char *temporary_name(void)
{
    const char *dir = getenv("SQLITE_TMPDIR");
    sqlite3_uint64 n;

    if (!dir)
        dir = getenv("TMPDIR");
    sqlite3_randomness(sizeof n, &n);
    return sqlite3_mprintf("%s/etilqs_%016llx", dir ? dir : "/tmp", n);
}

/* Questions and hints of whoever has a plain file in mind: answered as for one, where there is an
 * answer. */
static int control_as_file(struct cv_conn *c, int op, void *arg)
{
    int *n = arg;

    switch (op) {
    case SQLITE_FCNTL_LOCKSTATE:
        *n = c->file_lock;
        return SQLITE_OK;
    case SQLITE_FCNTL_LAST_ERRNO:
    case SQLITE_FCNTL_HAS_MOVED:
    case SQLITE_FCNTL_EXTERNAL_READER:
        *n = 0;
        return SQLITE_OK;
    case SQLITE_FCNTL_PERSIST_WAL: /* there is none to keep or to delete */
        if (*n < 0)
            *n = c->persist_wal;
        else
            c->persist_wal = *n != 0;
        return SQLITE_OK;
    case SQLITE_FCNTL_POWERSAFE_OVERWRITE:
        *n = 1;
        return SQLITE_OK;
    case SQLITE_FCNTL_MMAP_SIZE:
        *(sqlite3_int64 *)arg = 0;
        return SQLITE_OK;
    case SQLITE_FCNTL_TEMPFILENAME:
        *(char **)arg = temporary_name();
        return *(char **)arg ? SQLITE_OK : SQLITE_NOMEM;
    case SQLITE_FCNTL_CHUNK_SIZE:
    case SQLITE_FCNTL_SIZE_HINT:
        return SQLITE_OK;
    default:
        return SQLITE_NOTFOUND;
    }
}

static int main_control(sqlite3_file *file, int op, void *arg)
{
    struct cv_conn *c = conn_of(file);
    int rc;

    switch (op) {
    case SQLITE_FCNTL_PDB:
        c->owner = arg;
        return SQLITE_OK;
    case SQLITE_FCNTL_VFSNAME:
        *(char **)arg = sqlite3_mprintf("%s", CV_VFS_NAME);
        return SQLITE_OK;
    case SQLITE_FCNTL_COMMIT_PHASETWO:
        rc = cv_conn_usable(c);
        return rc ? rc : cv_ending_wait(c);
    case BULK_CONTROL:
        rc = cv_conn_usable(c);
        return rc ? rc : cv_bulk(c, arg);
    case SQLITE_FCNTL_PRAGMA:
        rc = cv_conn_forked(c) ? SQLITE_NOTFOUND : SQLITE_OK;
        return rc ? rc : cv_pragma(c, arg);
    default:
        return control_as_file(c, op, arg);
    }
}

static int main_sector_size(sqlite3_file *file)
{
    (void)file;
    return 4096;
}

/* Without POWERSAFE_OVERWRITE SQLite would repeat the commit frame as padding. */
static int main_characteristics(sqlite3_file *file)
{
    (void)file;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE | SQLITE_IOCAP_SEQUENTIAL |
           SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN;
}

/* -- wal-index -----------------------------------------------------------------------------------
 */

static int main_shm_map(sqlite3_file *file, int region, int bytes, int extend, volatile void **out)
{
    int rc = cv_shm_map(&conn_of(file)->shm, (uint32_t)region, (uint32_t)bytes, extend, out);

    return rc ? cv_report_sentence(rc == CO_ERR_NOMEM ? SQLITE_IOERR_NOMEM : SQLITE_FULL)
              : SQLITE_OK;
}

static int main_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return cv_lock(conn_of(file), offset, n, flags);
}

static void main_shm_barrier(sqlite3_file *file)
{
    (void)file;
    __sync_synchronize();
}

static int main_shm_unmap(sqlite3_file *file, int delete_it)
{
    struct cv_conn *c = conn_of(file);

    (void)delete_it;
    if (c->slot0)
        (void)cv_lock(c, 0, 1, SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE);
    if (c->reading) {
        c->slots = 0;
        (void)cv_lock(c, 3, 1, SQLITE_SHM_UNLOCK | SQLITE_SHM_SHARED);
    }
    cv_shm_free(&c->shm);
    c->header_valid = false;
    memset(&c->header, 0, sizeof c->header);
    return SQLITE_OK;
}

const sqlite3_io_methods cv_main_methods = {
    .iVersion = 2,
    .xClose = main_close,
    .xRead = main_read,
    .xWrite = main_write,
    .xTruncate = main_truncate,
    .xSync = main_sync,
    .xFileSize = main_size,
    .xLock = main_lock,
    .xUnlock = main_unlock,
    .xCheckReservedLock = main_check_reserved,
    .xFileControl = main_control,
    .xSectorSize = main_sector_size,
    .xDeviceCharacteristics = main_characteristics,
    .xShmMap = main_shm_map,
    .xShmLock = main_shm_lock,
    .xShmBarrier = main_shm_barrier,
    .xShmUnmap = main_shm_unmap,
};
