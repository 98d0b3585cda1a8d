/*
 * vfs.c - sqlite3_vfs "corallite": which names are ours, and what SQLite is told about the files
 * around a database.
 *
 * Ours are the main database and its WAL. Temporary, transient and statement-journal files are
 * passed to the platform's VFS, whose file object then lies in the memory that SQLite made for
 * ours. A rollback journal never exists.
 */
#include "compute-vfs/vfs.h"

#include <stdio.h>
#include <string.h>

#include "compute-vfs/errors.h"

static sqlite3_vfs *platform;

static bool ends_in(const char *name, const char *suffix)
{
    size_t n = strlen(name), s = strlen(suffix);

    return n > s && strcmp(name + n - s, suffix) == 0;
}

/* -- opening -------------------------------------------------------------------------------------
 */

static int open_main(sqlite3_filename name, struct cv_file *file, int flags, int *out_flags)
{
    int rc = cv_conn_open(name, flags, &file->conn);

    if (rc)
        return rc;
    file->base.pMethods = &cv_main_methods;
    if (out_flags) {
        *out_flags = flags;
        if (file->conn->readonly)
            *out_flags =
                (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
    }
    return SQLITE_OK;
}

static int open_wal(sqlite3_filename name, struct cv_file *file, int flags, int *out_flags)
{
    struct cv_conn *c = cv_conn_of_wal(name);

    if (!c)
        return SQLITE_CANTOPEN;
    file->conn = c;
    file->base.pMethods = &cv_wal_methods;
    if (out_flags)
        *out_flags = flags;
    return SQLITE_OK;
}

static int vfs_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags,
                    int *out_flags)
{
    struct cv_file *ours = (struct cv_file *)file;

    (void)vfs;
    file->pMethods = NULL;
    if (flags & SQLITE_OPEN_MAIN_DB)
        return open_main(name, ours, flags, out_flags);
    if (flags & SQLITE_OPEN_WAL)
        return open_wal(name, ours, flags, out_flags);
    if (flags & SQLITE_OPEN_MAIN_JOURNAL)
        return cv_report(SQLITE_CANTOPEN,
                         "%s: SQLite wants a rollback journal; a Corallite "
                         "database is always in WAL mode",
                         name);
    /* The other files' journals would name a super-journal that their own VFS cannot find after a
     * crash, and so not be rolled back. */
    if (flags & SQLITE_OPEN_SUPER_JOURNAL)
        return cv_report(SQLITE_CANTOPEN,
                         "a transaction over several rollback-journal files needs one of them, not "
                         "a Corallite database, as main; or put them in WAL mode");
    return platform->xOpen(platform, name, file, flags, out_flags);
}

/* -- names ---------------------------------------------------------------------------------------
 */

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
    (void)vfs;
    (void)name;
    (void)sync_dir;
    return SQLITE_OK;
}

/* A new database is truly empty. For SQLite to open it in WAL mode all the same, its WAL must be
 * there and its size not 0: the next xFileSize answers 1, once (M11). */
static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    struct cv_conn *c;

    (void)vfs;
    *out = 0;
    if (flags != SQLITE_ACCESS_EXISTS || !ends_in(name, "-wal"))
        return SQLITE_OK;
    c = cv_conn_of_wal(name);
    if (c) {
        c->size_lie = true;
        *out = 1;
    }
    return SQLITE_OK;
}

/* The identity of a database in this process: shared cache compares nothing else (S17). */
static int vfs_full_pathname(sqlite3_vfs *vfs, const char *name, int n, char *out)
{
    char path[CV_PATH_MAX];
    struct cv_uri uri;

    (void)vfs;
    if (cv_conn_uri(name, &uri))
        return cv_report_sentence(SQLITE_CANTOPEN);
    if (uri.has_moment && uri.at[0]) /* by whoever opens; what this function makes has both */
        return cv_report(SQLITE_CANTOPEN,
                         "at= and the moment in %.400s are two: leave one of them out", name);
    if (cv_moment_of_uri(&uri))
        return cv_report_sentence(SQLITE_CANTOPEN);
    cv_uri_filename(&uri, path);
    if ((int)strlen(path) >= n)
        return SQLITE_CANTOPEN;
    snprintf(out, (size_t)n, "%s", path);
    return SQLITE_OK;
}

/* -- the platform's ------------------------------------------------------------------------------
 */

/* load_extension() asks the VFS of the main database. */
static void *vfs_dl_open(sqlite3_vfs *vfs, const char *path)
{
    (void)vfs;
    return platform->xDlOpen(platform, path);
}

static void vfs_dl_error(sqlite3_vfs *vfs, int n, char *out)
{
    (void)vfs;
    platform->xDlError(platform, n, out);
}

static void (*vfs_dl_sym(sqlite3_vfs *vfs, void *library, const char *symbol))(void)
{
    (void)vfs;
    return platform->xDlSym(platform, library, symbol);
}

static void vfs_dl_close(sqlite3_vfs *vfs, void *library)
{
    (void)vfs;
    platform->xDlClose(platform, library);
}

static int vfs_randomness(sqlite3_vfs *vfs, int n, char *out)
{
    (void)vfs;
    return platform->xRandomness(platform, n, out);
}

/* The full time, but for a connection of this thread whose turn has come (M6). */
static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
    (void)vfs;
    return cv_lock_sleep(us) ? us : platform->xSleep(platform, us);
}

static int vfs_current_time(sqlite3_vfs *vfs, double *out)
{
    (void)vfs;
    return platform->xCurrentTime(platform, out);
}

static int vfs_current_time_64(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
    (void)vfs;
    return platform->xCurrentTimeInt64(platform, out);
}

static int vfs_last_error(sqlite3_vfs *vfs, int n, char *out)
{
    char sentence[CO_SENTENCE_MAX];

    (void)vfs;
    cv_last_error(sentence);
    if (n > 0 && out)
        snprintf(out, (size_t)n, "%s", sentence);
    return 0;
}

static sqlite3_vfs corallite = {
    .iVersion = 2,
    .mxPathname = CV_PATH_MAX + 16,
    .zName = CV_VFS_NAME,
    .xOpen = vfs_open,
    .xDelete = vfs_delete,
    .xAccess = vfs_access,
    .xFullPathname = vfs_full_pathname,
    .xDlOpen = vfs_dl_open,
    .xDlError = vfs_dl_error,
    .xDlSym = vfs_dl_sym,
    .xDlClose = vfs_dl_close,
    .xRandomness = vfs_randomness,
    .xSleep = vfs_sleep,
    .xCurrentTime = vfs_current_time,
    .xGetLastError = vfs_last_error,
    .xCurrentTimeInt64 = vfs_current_time_64,
};

sqlite3_vfs *cv_vfs_ours(void)
{
    return &corallite;
}

sqlite3_vfs *cv_vfs_platform(void)
{
    return platform;
}

int cv_vfs_register(void)
{
    if (sqlite3_vfs_find(CV_VFS_NAME))
        return SQLITE_OK;
    platform = sqlite3_vfs_find(NULL);
    if (!platform)
        return SQLITE_ERROR;
    if (!platform->xDlOpen) /* built without extensions */
        corallite.xDlOpen = NULL;
    corallite.szOsFile = (int)sizeof(struct cv_file);
    if (platform->szOsFile > corallite.szOsFile)
        corallite.szOsFile = platform->szOsFile;
    return sqlite3_vfs_register(&corallite, 0);
}
