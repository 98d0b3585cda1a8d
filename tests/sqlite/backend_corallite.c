/* backend_corallite.c - the product's own objects behind the harness, and drops at the pageserver.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/client_sock.h"
#include "compute-vfs/vfs.h"
#undef sqlite3_vfs_find
#undef sqlite3_vfs_register
#include "harness.h"

#define DROP_TIMEOUT_MS 30000u

int sqlite3_corallite_init(sqlite3 *db, char **error, const sqlite3_api_routines *api);

static sqlite3_vfs *ours;

/* -- names ---------------------------------------------------------------------------------------
 */

static _Thread_local const char *opening;

/* The stand-in says the database; of the URI only what every VFS of SQLite understands is heeded,
 * since its author knew of no other. */
static int name_it(sqlite3_filename path, struct cv_uri *out)
{
    static const char *const heeded[] = {"cache", "immutable", "nolock"};
    int rc = cv_uri_name(out, opening ? opening : path);

    for (size_t i = 0; !rc && i < sizeof heeded / sizeof *heeded; i++) {
        const char *value = sqlite3_uri_parameter(path, heeded[i]);

        if (value)
            rc = cv_uri_param(out, heeded[i], value);
    }
    return rc;
}

/* -- SQLite's table of functions, which only an extension is given --------------------------------
 */

static int with_api(sqlite3 *db, char **error, const sqlite3_api_routines *api)
{
    return sqlite3_corallite_init(db, error, api) == SQLITE_OK_LOAD_PERMANENTLY ? SQLITE_OK
                                                                                : SQLITE_ERROR;
}

static int begin(sqlite3_vfs *platform)
{
    void (*entry)(void) = (void (*)(void))with_api;
    sqlite3 *db = NULL;
    int rc;

    (void)platform;
    rc = sqlite3_auto_extension(entry);
    if (rc == SQLITE_OK)
        rc = sqlite3_open(":memory:", &db);
    sqlite3_close(db);
    sqlite3_reset_auto_extension();
    ours = sqlite3_vfs_find(CV_VFS_NAME);
    cv_conn_namer = name_it;
    return rc ? rc : ours ? SQLITE_OK : SQLITE_ERROR;
}

/* -- files ---------------------------------------------------------------------------------------
 */

/* SQLite's scripts also look at what its own VFSes count: files open, syncs; and have them fail a
 * write as a full disk would. Weak: only testfixture has these. */
extern int sqlite3_open_file_count __attribute__((weak));
extern int sqlite3_diskfull_pending __attribute__((weak));
extern int sqlite3_diskfull __attribute__((weak));
extern int sqlite3_io_error_hit __attribute__((weak));

static void count_open(int n)
{
    if (&sqlite3_open_file_count)
        sqlite3_open_file_count += n;
}

static int counted_main_close(sqlite3_file *file)
{
    count_open(-1);
    return cv_main_methods.xClose(file);
}

static int counted_wal_close(sqlite3_file *file)
{
    count_open(-1);
    return cv_wal_methods.xClose(file);
}

static bool simulated_full(void)
{
    if (!&sqlite3_diskfull_pending || sqlite3_diskfull_pending == 0)
        return false;
    if (sqlite3_diskfull_pending > 1) {
        sqlite3_diskfull_pending--;
        return false;
    }
    sqlite3_diskfull = sqlite3_io_error_hit = 1;
    return true;
}

static int open_main(const char *name, sqlite3_filename path, sqlite3_file *file, int flags,
                     int *out)
{
    static sqlite3_io_methods counted;
    int rc;

    cv_lock_byte_at = (uint32_t)sqlite3_test_control(SQLITE_TESTCTRL_PENDING_BYTE, 0);
    opening = name;
    rc = ours->xOpen(ours, path, file, flags | SQLITE_OPEN_CREATE, out);
    opening = NULL;
    if (rc == SQLITE_OK) {
        counted = cv_main_methods;
        counted.xClose = counted_main_close;
        file->pMethods = &counted;
        count_open(1);
    }
    return rc;
}

/* Ours is asked for syncs at the WAL; each makes COMMIT wait for a majority of disks. */
extern int sqlite3_sync_count __attribute__((weak));
extern int sqlite3_fullsync_count __attribute__((weak));

static int counted_sync(sqlite3_file *file, int flags)
{
    if (&sqlite3_sync_count)
        sqlite3_sync_count++;
    if (&sqlite3_fullsync_count && (flags & 0x0F) == SQLITE_SYNC_FULL)
        sqlite3_fullsync_count++;
    return cv_wal_methods.xSync(file, flags);
}

static int counted_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 at)
{
    if (simulated_full())
        return SQLITE_FULL;
    count_wal_write(data, n, at);
    return cv_wal_methods.xWrite(file, data, n, at);
}

static int open_wal(sqlite3_filename wal, sqlite3_file *file, int flags, int *out)
{
    static sqlite3_io_methods counted;
    int rc = ours->xOpen(ours, wal, file, flags, out);

    if (rc == SQLITE_OK) {
        counted = cv_wal_methods;
        counted.xClose = counted_wal_close;
        counted.xSync = counted_sync;
        counted.xWrite = counted_write;
        file->pMethods = &counted;
        count_open(1);
    }
    return rc;
}

static bool wal_exists(const char *wal)
{
    int there = 0;

    return ours->xAccess(ours, wal, SQLITE_ACCESS_EXISTS, &there) == SQLITE_OK && there;
}

static void wal_delete(const char *wal)
{
    (void)ours->xDelete(ours, wal, 0);
}

static bool is_open(const char *filename)
{
    return cv_conn_of_name(filename) != NULL;
}

static int sleep_us(int us)
{
    return ours->xSleep(ours, us);
}

static int file_object(void)
{
    return ours->szOsFile;
}

/* -- drops ---------------------------------------------------------------------------------------
 */

static int call(struct client *c, const char *db, const char *branch)
{
    if (strcmp(branch, "main") != 0) {
        Corallite__BranchChange q = CORALLITE__BRANCH_CHANGE__INIT;

        q.database = (char *)db;
        q.branch = (char *)branch;
        q.has_drop = q.drop = 1;
        return client_call(c, FRAME_BRANCH_CHANGE, &q.base, FRAME_BRANCHED, NULL, DROP_TIMEOUT_MS,
                           NULL);
    }
    Corallite__Drop q = CORALLITE__DROP__INIT;
    q.database = (char *)db;
    return client_call(c, FRAME_DROP, &q.base, FRAME_DROPPED, NULL, DROP_TIMEOUT_MS, NULL);
}

/* Dropping a database drops its branches, and those are copies that some path still stands for:
 * prelude.tcl leaves a mark. It ends with the cluster. */
static bool has_copies(const char *db)
{
    const char *hidden = getenv("HARNESS_HIDDEN");
    char path[4096];

    snprintf(path, sizeof path, "%s/copied-%s", hidden ? hidden : ".", db);
    return access(path, F_OK) == 0;
}

static void drop(const char *name)
{
    const char *server = getenv("CORALLITE_SERVER");
    char host[CO_HOST_MAX_BYTES + 1], text[STANDIN_NAME_MAX], *slash;
    struct client c;
    uint16_t port;
    int rc;

    snprintf(text, sizeof text, "%s", name);
    slash = strchr(text, '/');
    if (slash)
        *slash = 0;
    if (!slash && has_copies(text))
        return;
    rc = psock_split_address(server ? server : CV_SERVER_DEFAULT, CLUSTER_PORT_BASE, host, &port);
    if (!rc)
        rc = client_connect(&c, host, port, NULL, 0, DROP_TIMEOUT_MS);
    if (!rc) {
        rc = call(&c, text, slash ? slash + 1 : "main");
        client_close(&c);
    }
    /* One that was never written does not exist. */
    if (rc && rc != CO_ERR_NOT_FOUND)
        fprintf(stderr, "harness: %s was not dropped: %s\n", name, co_sentence());
}

const struct backend backend_corallite = {
    .name = "corallite",
    .begin = begin,
    .open = open_main,
    .open_wal = open_wal,
    .wal_exists = wal_exists,
    .wal_delete = wal_delete,
    .is_open = is_open,
    .drop = drop,
    .sleep = sleep_us,
    .file_object = file_object,
};
