/*
 * default_vfs.c - the VFS that SQLite's test programs get as their default one: databases go to the
 * backend by their stand-ins, everything else to the platform's VFS. Linked into the programs and
 * called at each sqlite3_initialize() (SQLITE_EXTRA_INIT).
 *
 * The unix VFSes are watched as well: a main database that one of them opens is counted, so that a
 * run that went around the backend cannot pass for one that did not.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sqlite3_vfs *platform;
static const struct backend *chosen;

const struct backend *backend(void)
{
    return chosen;
}

/* -- other VFSes ---------------------------------------------------------------------------------
 */

#define WATCHED_MAX 16

static struct {
    sqlite3_vfs *vfs;
    int (*open)(sqlite3_vfs *, const char *, sqlite3_file *, int, int *);
} watched[WATCHED_MAX];
static _Thread_local int inside; /* the backend's own use of the platform's VFS */

static int watched_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    int i = 0;

    while (watched[i].vfs != vfs)
        i++;
    if ((flags & SQLITE_OPEN_MAIN_DB) && !inside)
        count(COUNT_FOREIGN);
    return watched[i].open(vfs, name, file, flags, out);
}

static void watch(void)
{
    static const char *const names[] = {"unix", "unix-dotfile", "unix-excl", "unix-none"};
    int n = 0;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        sqlite3_vfs *vfs = sqlite3_vfs_find(names[i]);

        if (!vfs || vfs->xOpen == watched_open)
            continue;
        watched[n].vfs = vfs;
        watched[n++].open = vfs->xOpen;
        vfs->xOpen = watched_open;
    }
}

/* -- files ---------------------------------------------------------------------------------------
 */

static int open_main(sqlite3_filename path, sqlite3_file *file, int flags, int *out)
{
    char name[STANDIN_NAME_MAX];
    int rc;

    standin_sweep();
    rc = standin_open(path, &flags, name);
    if (rc == SQLITE_NOTADB) {
        bytes_file_open(file);
        if (out)
            *out = flags;
        return SQLITE_OK;
    }
    if (rc)
        return rc;
    count(COUNT_MAIN);
    inside++;
    rc = chosen->open(name, path, file, flags, out);
    inside--;
    if (!rc)
        standin_opened(path, name, path);
    return rc;
}

static int vfs_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags,
                    int *out)
{
    int rc;

    (void)vfs;
    file->pMethods = NULL;
    if (flags & SQLITE_OPEN_MAIN_DB)
        return open_main(name, file, flags, out);
    if (flags & SQLITE_OPEN_WAL) {
        inside++;
        rc = chosen->open_wal(name, file, flags, out);
        inside--;
        return rc;
    }
    if (flags & SQLITE_OPEN_MAIN_JOURNAL)
        return SQLITE_CANTOPEN; /* always in WAL mode */
    return platform->xOpen(platform, name, file, flags, out);
}

/* The database's path when `name` is that of its journal or its WAL, and a stand-in. */
static bool belongs_to_standin(const char *name, const char *suffix)
{
    size_t n = strlen(name), s = strlen(suffix);
    char path[4096]; /* not from SQLite's allocator, which scripts make fail */

    if (n <= s || n - s >= sizeof path || strcmp(name + n - s, suffix) != 0)
        return false;
    memcpy(path, name, n - s);
    path[n - s] = 0;
    return standin_is(path);
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
    (void)vfs;
    if (belongs_to_standin(name, "-wal")) {
        chosen->wal_delete(name);
        return SQLITE_OK;
    }
    if (belongs_to_standin(name, "-journal"))
        return SQLITE_OK;
    return platform->xDelete(platform, name, sync_dir);
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    (void)vfs;
    if (flags == SQLITE_ACCESS_EXISTS && belongs_to_standin(name, "-wal")) {
        *out = chosen->wal_exists(name);
        return SQLITE_OK;
    }
    if (flags == SQLITE_ACCESS_EXISTS && belongs_to_standin(name, "-journal")) {
        *out = 0;
        return SQLITE_OK;
    }
    return platform->xAccess(platform, name, flags, out);
}

/* -- the platform's ------------------------------------------------------------------------------
 */

static int vfs_full_pathname(sqlite3_vfs *vfs, const char *name, int n, char *out)
{
    (void)vfs;
    return platform->xFullPathname(platform, name, n, out);
}

static void *vfs_dl_open(sqlite3_vfs *vfs, const char *name)
{
    (void)vfs;
    return platform->xDlOpen(platform, name);
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

static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
    (void)vfs;
    return chosen->sleep ? chosen->sleep(us) : platform->xSleep(platform, us);
}

static int vfs_time(sqlite3_vfs *vfs, double *out)
{
    (void)vfs;
    return platform->xCurrentTime(platform, out);
}

static int vfs_time_64(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
    (void)vfs;
    return platform->xCurrentTimeInt64(platform, out);
}

static int vfs_last_error(sqlite3_vfs *vfs, int n, char *out)
{
    (void)vfs;
    return platform->xGetLastError(platform, n, out);
}

static int vfs_set_call(sqlite3_vfs *vfs, const char *name, sqlite3_syscall_ptr call)
{
    (void)vfs;
    return platform->xSetSystemCall(platform, name, call);
}

static sqlite3_syscall_ptr vfs_get_call(sqlite3_vfs *vfs, const char *name)
{
    (void)vfs;
    return platform->xGetSystemCall(platform, name);
}

static const char *vfs_next_call(sqlite3_vfs *vfs, const char *name)
{
    (void)vfs;
    return platform->xNextSystemCall(platform, name);
}

/* -- registering ---------------------------------------------------------------------------------
 */

static sqlite3_vfs harness = {
    .iVersion = 3,
    .zName = "harness",
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
    .xCurrentTime = vfs_time,
    .xGetLastError = vfs_last_error,
    .xCurrentTimeInt64 = vfs_time_64,
    .xSetSystemCall = vfs_set_call,
    .xGetSystemCall = vfs_get_call,
    .xNextSystemCall = vfs_next_call,
};

static int choose(void)
{
    const char *wanted = getenv("HARNESS_BACKEND");
    int rc;

    if (!wanted || strcmp(wanted, "none") == 0)
        return SQLITE_OK;
    if (strcmp(wanted, "corallite") == 0)
        chosen = &backend_corallite;
    else if (strcmp(wanted, "control") == 0)
        chosen = &backend_control;
    if (!chosen) {
        fprintf(stderr, "HARNESS_BACKEND=%s is none of corallite, control, none\n", wanted);
        return SQLITE_ERROR;
    }
    watch();
    rc = chosen->begin(platform);
    harness.mxPathname = platform->mxPathname;
    harness.szOsFile = chosen->file_object();
    if (harness.szOsFile < platform->szOsFile)
        harness.szOsFile = platform->szOsFile;
    return rc;
}

int harness_init(const char *unused);

int harness_init(const char *unused)
{
    static int begun;
    int rc = SQLITE_OK;

    (void)unused;
    if (!begun) {
        begun = 1;
        platform = sqlite3_vfs_find(NULL);
        rc = choose();
    }
    /* sqlite3_initialize() has made the platform's the default again. */
    return rc || !chosen ? rc : sqlite3_vfs_register(&harness, 1);
}
