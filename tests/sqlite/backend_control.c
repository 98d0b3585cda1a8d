/*
 * backend_control.c - the control: the unix VFS, always in WAL mode, with its files where no test
 * looks, and the two PRAGMAs answered that Corallite answers. What fails here as well is due to
 * that, and not to where Corallite keeps pages.
 */
#include "harness.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define FORMAT_AT 18 /* of page 1: two bytes, 2 in WAL mode */

struct control_file {
    sqlite3_file base;
    struct control_file *next; /* of the open main databases */
    const char *path;          /* SQLite's pointer; NULL for a WAL */
    const char *hidden;        /* where it really is; owned */
    bool size_lie;             /* as in Corallite: the next xFileSize answers 1 */
    sqlite3_file *real;        /* in the memory behind this */
};

static sqlite3_vfs *platform;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct control_file *first;

static struct control_file *of_name(const char *path, bool wal)
{
    struct control_file *f;

    pthread_mutex_lock(&lock);
    for (f = first; f && (wal ? sqlite3_filename_wal(f->path) : f->path) != path; f = f->next)
        ;
    pthread_mutex_unlock(&lock);
    return f;
}

#define REAL(file) (((struct control_file *)(file))->real)

/* -- methods -------------------------------------------------------------------------------------
 */

static int c_close(sqlite3_file *file)
{
    struct control_file *f = (struct control_file *)file, **at;
    int rc;

    pthread_mutex_lock(&lock);
    for (at = &first; *at && *at != f; at = &(*at)->next)
        ;
    if (*at)
        *at = f->next;
    pthread_mutex_unlock(&lock);
    rc = f->real->pMethods->xClose(f->real);
    if (f->path)
        sqlite3_free_filename(f->hidden);
    file->pMethods = NULL;
    return rc;
}

static int c_read(sqlite3_file *file, void *out, int n, sqlite3_int64 at)
{
    int rc = REAL(file)->pMethods->xRead(REAL(file), out, n, at);

    if (((struct control_file *)file)->path && rc == SQLITE_OK && at == 0 && n >= FORMAT_AT + 2)
        memset((char *)out + FORMAT_AT, 2, 2);
    return rc;
}

static int c_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 at)
{
    if (!((struct control_file *)file)->path)
        count_wal_write(data, n, at);
    return REAL(file)->pMethods->xWrite(REAL(file), data, n, at);
}

static int c_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return REAL(file)->pMethods->xTruncate(REAL(file), size);
}

static int c_sync(sqlite3_file *file, int flags)
{
    return REAL(file)->pMethods->xSync(REAL(file), flags);
}

static int c_size(sqlite3_file *file, sqlite3_int64 *out)
{
    struct control_file *f = (struct control_file *)file;

    if (f->size_lie) {
        f->size_lie = false;
        *out = 1;
        return SQLITE_OK;
    }
    return f->real->pMethods->xFileSize(f->real, out);
}

static int c_lock(sqlite3_file *file, int level)
{
    return REAL(file)->pMethods->xLock(REAL(file), level);
}

static int c_unlock(sqlite3_file *file, int level)
{
    return REAL(file)->pMethods->xUnlock(REAL(file), level);
}

static int c_check_reserved(sqlite3_file *file, int *out)
{
    return REAL(file)->pMethods->xCheckReservedLock(REAL(file), out);
}

static int c_control(sqlite3_file *file, int op, void *arg)
{
    if (op == SQLITE_FCNTL_PRAGMA) {
        char **pragma = arg;
        const char *answer = strcasecmp(pragma[1], "journal_mode") == 0   ? "wal"
                             : strcasecmp(pragma[1], "locking_mode") == 0 ? "normal"
                                                                          : NULL;
        if (answer) {
            pragma[0] = sqlite3_mprintf("%s", answer);
            return pragma[0] ? SQLITE_OK : SQLITE_NOMEM;
        }
    }
    return REAL(file)->pMethods->xFileControl(REAL(file), op, arg);
}

static int c_sector(sqlite3_file *file)
{
    return REAL(file)->pMethods->xSectorSize(REAL(file));
}

static int c_characteristics(sqlite3_file *file)
{
    return REAL(file)->pMethods->xDeviceCharacteristics(REAL(file));
}

static int c_shm_map(sqlite3_file *file, int region, int bytes, int extend, volatile void **out)
{
    return REAL(file)->pMethods->xShmMap(REAL(file), region, bytes, extend, out);
}

static int c_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return REAL(file)->pMethods->xShmLock(REAL(file), offset, n, flags);
}

static void c_shm_barrier(sqlite3_file *file)
{
    REAL(file)->pMethods->xShmBarrier(REAL(file));
}

static int c_shm_unmap(sqlite3_file *file, int delete_it)
{
    return REAL(file)->pMethods->xShmUnmap(REAL(file), delete_it);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = c_close,
    .xRead = c_read,
    .xWrite = c_write,
    .xTruncate = c_truncate,
    .xSync = c_sync,
    .xFileSize = c_size,
    .xLock = c_lock,
    .xUnlock = c_unlock,
    .xCheckReservedLock = c_check_reserved,
    .xFileControl = c_control,
    .xSectorSize = c_sector,
    .xDeviceCharacteristics = c_characteristics,
    .xShmMap = c_shm_map,
    .xShmLock = c_shm_lock,
    .xShmBarrier = c_shm_barrier,
    .xShmUnmap = c_shm_unmap,
};

/* -- the backend ---------------------------------------------------------------------------------
 */

static int begin(sqlite3_vfs *vfs)
{
    platform = vfs;
    if (getenv("HARNESS_HIDDEN"))
        return SQLITE_OK;
    fprintf(stderr, "HARNESS_HIDDEN is not set\n");
    return SQLITE_ERROR;
}

static char *hidden_path(const char *name, const char *suffix)
{
    return sqlite3_mprintf("%s/%s%s", getenv("HARNESS_HIDDEN"), name, suffix);
}

static const char *hidden_filename(const char *name)
{
    char *path = hidden_path(name, ""), *journal = hidden_path(name, "-journal"),
         *wal = hidden_path(name, "-wal");
    const char *made = NULL;

    if (path && journal && wal)
        made = sqlite3_create_filename(path, journal, wal, 0, NULL);
    sqlite3_free(path);
    sqlite3_free(journal);
    sqlite3_free(wal);
    return made;
}

static int open_real(struct control_file *f, const char *name, int flags, int *out)
{
    int rc;

    f->real = (sqlite3_file *)(f + 1);
    f->real->pMethods = NULL;
    rc = platform->xOpen(platform, name, f->real, flags, out);
    if (rc == SQLITE_OK)
        f->base.pMethods = &methods;
    return rc;
}

static int open_main(const char *name, sqlite3_filename path, sqlite3_file *file, int flags,
                     int *out)
{
    struct control_file *f = (struct control_file *)file;
    int how = (flags & ~(SQLITE_OPEN_READONLY | SQLITE_OPEN_EXCLUSIVE)) | SQLITE_OPEN_READWRITE |
              SQLITE_OPEN_CREATE; /* who may only read makes its wal-index all the same */
    int rc;

    memset(f, 0, sizeof *f);
    f->hidden = hidden_filename(name);
    if (!f->hidden)
        return SQLITE_NOMEM;
    rc = open_real(f, f->hidden, how, NULL);
    if (rc) {
        sqlite3_free_filename(f->hidden);
        return rc;
    }
    if (out)
        *out = flags;
    f->path = path;
    pthread_mutex_lock(&lock);
    f->next = first;
    first = f;
    pthread_mutex_unlock(&lock);
    return SQLITE_OK;
}

static int open_wal(sqlite3_filename wal, sqlite3_file *file, int flags, int *out)
{
    struct control_file *f = (struct control_file *)file, *main_file = of_name(wal, true);

    if (!main_file)
        return SQLITE_CANTOPEN;
    memset(f, 0, sizeof *f);
    return open_real(f, sqlite3_filename_wal(main_file->hidden), flags, out);
}

static bool wal_exists(const char *wal)
{
    struct control_file *f = of_name(wal, true);

    if (f)
        f->size_lie = true;
    return f != NULL;
}

static void wal_delete(const char *wal)
{
    struct control_file *f = of_name(wal, true);

    if (f)
        (void)platform->xDelete(platform, sqlite3_filename_wal(f->hidden), 0);
}

static bool is_open(const char *filename)
{
    return of_name(filename, false) != NULL;
}

static void drop(const char *name)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};

    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char *path = hidden_path(name, suffixes[i]);

        if (path)
            unlink(path);
        sqlite3_free(path);
    }
}

static int file_object(void)
{
    return (int)sizeof(struct control_file) + platform->szOsFile;
}

const struct backend backend_control = {
    .name = "control",
    .begin = begin,
    .open = open_main,
    .open_wal = open_wal,
    .wal_exists = wal_exists,
    .wal_delete = wal_delete,
    .is_open = is_open,
    .drop = drop,
    .file_object = file_object,
};
