/* test_shim.c - a VFS above ours, and what a stock program asks of the VFS beside files. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem_backend.h"
#include "sql.h"

/* -- a shim that hides our files in its own, as SQLite's own vfslog, vfsstat and quota do
 * ----------
 */

struct shim_file {
    sqlite3_file base;
    sqlite3_file *real;
};

static sqlite3_vfs *below;

#define REAL(f) (((struct shim_file *)(f))->real)

static int s_close(sqlite3_file *f)
{
    int rc = REAL(f)->pMethods->xClose(REAL(f));

    f->pMethods = NULL;
    return rc;
}
static int s_read(sqlite3_file *f, void *out, int n, sqlite3_int64 at)
{
    return REAL(f)->pMethods->xRead(REAL(f), out, n, at);
}
static int s_write(sqlite3_file *f, const void *data, int n, sqlite3_int64 at)
{
    return REAL(f)->pMethods->xWrite(REAL(f), data, n, at);
}
static int s_truncate(sqlite3_file *f, sqlite3_int64 n)
{
    return REAL(f)->pMethods->xTruncate(REAL(f), n);
}
static int s_sync(sqlite3_file *f, int flags)
{
    return REAL(f)->pMethods->xSync(REAL(f), flags);
}
static int s_size(sqlite3_file *f, sqlite3_int64 *out)
{
    return REAL(f)->pMethods->xFileSize(REAL(f), out);
}
static int s_lock(sqlite3_file *f, int level)
{
    return REAL(f)->pMethods->xLock(REAL(f), level);
}
static int s_unlock(sqlite3_file *f, int level)
{
    return REAL(f)->pMethods->xUnlock(REAL(f), level);
}
static int s_reserved(sqlite3_file *f, int *out)
{
    return REAL(f)->pMethods->xCheckReservedLock(REAL(f), out);
}
static int s_control(sqlite3_file *f, int op, void *arg)
{
    return REAL(f)->pMethods->xFileControl(REAL(f), op, arg);
}
/* What the shim says instead of us; 0: what we say. */
static int shim_sector;

static int s_sector(sqlite3_file *f)
{
    if (shim_sector)
        return shim_sector;
    return REAL(f)->pMethods->xSectorSize(REAL(f));
}
static int s_characteristics(sqlite3_file *f)
{
    if (shim_sector)
        return 0;
    return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f));
}
static int s_shm_map(sqlite3_file *f, int region, int n, int extend, volatile void **out)
{
    return REAL(f)->pMethods->xShmMap(REAL(f), region, n, extend, out);
}
static int s_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return REAL(f)->pMethods->xShmLock(REAL(f), offset, n, flags);
}
static void s_shm_barrier(sqlite3_file *f)
{
    REAL(f)->pMethods->xShmBarrier(REAL(f));
}
static int s_shm_unmap(sqlite3_file *f, int delete_it)
{
    return REAL(f)->pMethods->xShmUnmap(REAL(f), delete_it);
}

static const sqlite3_io_methods shim_methods = {
    .iVersion = 2,
    .xClose = s_close,
    .xRead = s_read,
    .xWrite = s_write,
    .xTruncate = s_truncate,
    .xSync = s_sync,
    .xFileSize = s_size,
    .xLock = s_lock,
    .xUnlock = s_unlock,
    .xCheckReservedLock = s_reserved,
    .xFileControl = s_control,
    .xSectorSize = s_sector,
    .xDeviceCharacteristics = s_characteristics,
    .xShmMap = s_shm_map,
    .xShmLock = s_shm_lock,
    .xShmBarrier = s_shm_barrier,
    .xShmUnmap = s_shm_unmap,
};

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out)
{
    int rc;

    (void)vfs;
    f->pMethods = NULL;
    REAL(f) = (sqlite3_file *)((struct shim_file *)f + 1);
    rc = below->xOpen(below, name, REAL(f), flags, out);
    if (REAL(f)->pMethods)
        f->pMethods = &shim_methods;
    return rc;
}

static void shim_init(void)
{
    static sqlite3_vfs shim;

    sql_init();
    below = sqlite3_vfs_find("corallite");
    cr_assert(below);
    shim = *below;
    shim.zName = "shim";
    shim.xOpen = shim_open;
    shim.szOsFile = below->szOsFile + (int)sizeof(struct shim_file);
    cr_assert_eq(sqlite3_vfs_register(&shim, 0), SQLITE_OK);
}

static sqlite3 *open_shimmed(const char *uri)
{
    sqlite3 *db;
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                             "shim");

    cr_assert_eq(rc, SQLITE_OK, "%s: %s", uri, sqlite3_errmsg(db));
    return db;
}

TestSuite(shim, .init = shim_init, .timeout = 60);

Test(shim, a_vfs_above_ours_may_wrap_the_files)
{
    /* Connections are known by SQLite's name pointer, never by their file object. */
    sqlite3 *a = open_shimmed("file:db?server=127.0.0.1:1"), *b;

    sql_do(a, "create table t(v); begin; insert into t values(1),(2); commit");
    b = sql_open("db");
    cr_assert_eq(sql_int(b, "select count(*) from t"), 2);
    sql_do(b, "insert into t values(3)");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 3);
    cr_assert_str_eq(sql_text(a, "pragma integrity_check"), "ok");
    sql_close(a);
    sql_close(b);
}

Test(shim, the_transaction_above_is_found_through_a_shim)
{
    /* M7: a refusal inside a transaction must not make the next plain read pin the tip. */
    sqlite3 *a = open_shimmed("file:db?server=127.0.0.1:1"), *b = sql_open("db");

    sql_do(a, "create table t(v)");
    sql_do(a, "begin");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 0);
    sql_do(b, "insert into t values(1)");
    cr_assert_eq(sql_rc(a, "insert into t values(2)"), SQLITE_BUSY_SNAPSHOT);
    sql_do(a, "rollback");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 1);
    sql_close(a);
    sql_close(b);
}

Test(shim, functions_find_the_database_behind_a_shim)
{
    sqlite3 *a = open_shimmed("file:db?server=127.0.0.1:1");
    char ask[200];

    sql_do(a, "create table t(v)");
    cr_assert_eq(sql_int(a, "select count(*) > 0 from corallite_log"), 1);
    snprintf(ask, sizeof ask, "select corallite_commit_status('%s')",
             sql_text(a, "pragma corallite_last_commit"));
    cr_assert_str_eq(sql_text(a, ask), "committed");
    sql_close(a);
}

Test(shim, a_commit_frame_that_is_repeated_as_padding_is_one_commit)
{
    /* Without POWERSAFE_OVERWRITE SQLite fills the sector up, the last frame in two pieces: the
     * commit was lost, and COMMIT said OK. */
    const int sectors[] = {512, 4096, 65536};

    for (size_t i = 0; i < 3; i++) {
        char name[8], uri[64];
        sqlite3 *a, *b;

        shim_sector = sectors[i];
        snprintf(name, sizeof name, "db%zu", i);
        snprintf(uri, sizeof uri, "file:%s?server=127.0.0.1:1", name);
        a = open_shimmed(uri);
        sql_do(a, "pragma page_size=1024; pragma cache_size=5; create table t(i integer primary "
                  "key, v)");
        for (int k = 1; k <= 20; k++) {
            sql_do(a, "begin; insert into t(v) values(randomblob(1500)); insert into t(v) "
                      "select randomblob(300) from t limit 10; commit");
            b = sql_open_other(name);
            cr_assert_eq(sql_int(b, "select max(i) from t"), sql_int(a, "select max(i) from t"),
                         "commit %d, sectors of %d", k, sectors[i]);
            cr_assert_str_eq(sql_text(b, "pragma integrity_check"), "ok");
            sql_close(b);
        }
        cr_assert_str_eq(sql_text(a, "pragma integrity_check"), "ok");
        sql_close(a);
    }
    shim_sector = 0;
}

/* -- beside files --------------------------------------------------------------------------------
 */

TestSuite(beside, .init = sql_init, .timeout = 60);

Test(beside, load_extension_is_the_platforms)
{
    /* SQLite asks the VFS of main for dlopen(), and would call NULL. */
    sqlite3 *a = sql_open("db");
    char *error = NULL;

    sqlite3_enable_load_extension(a, 1);
    cr_assert_eq(sqlite3_load_extension(a, "/nonexistent/extension", NULL, &error), SQLITE_ERROR);
    cr_assert(error && strstr(error, "/nonexistent/extension"), "%s", error);
    sqlite3_free(error);
    sql_close(a);
}

Test(beside, lock_state_is_what_sqlite_asked_for)
{
    sqlite3 *a = sql_open("db");
    int state = -1;

    sql_do(a, "create table t(v)");
    cr_assert_eq(sqlite3_file_control(a, "main", SQLITE_FCNTL_LOCKSTATE, &state), SQLITE_OK);
    cr_assert_eq(state, 1, "in WAL mode SQLite keeps SHARED: %d", state);
    sql_close(a);
}

Test(beside, file_controls_that_any_file_answers)
{
    static const struct {
        int op, in, out;
    } cases[] = {{SQLITE_FCNTL_PERSIST_WAL, -1, 0},      {SQLITE_FCNTL_PERSIST_WAL, 1, 1},
                 {SQLITE_FCNTL_PERSIST_WAL, -1, 1},      {SQLITE_FCNTL_POWERSAFE_OVERWRITE, -1, 1},
                 {SQLITE_FCNTL_LAST_ERRNO, 7, 0},        {SQLITE_FCNTL_HAS_MOVED, 7, 0},
                 {SQLITE_FCNTL_CHUNK_SIZE, 32768, 32768}};
    sqlite3 *a = sql_open("db");
    char *name = NULL;

    sql_do(a, "create table t(v)");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int value = cases[i].in;

        cr_assert_eq(sqlite3_file_control(a, "main", cases[i].op, &value), SQLITE_OK, "%zu", i);
        cr_assert_eq(value, cases[i].out, "%zu: %d", i, value);
    }
    cr_assert_eq(sqlite3_file_control(a, "main", SQLITE_FCNTL_TEMPFILENAME, &name), SQLITE_OK);
    cr_assert(name && strstr(name, "/etilqs_"), "%s", name);
    sqlite3_free(name);
    sql_do(a, "insert into t values(1)");
    sql_close(a);
}

static int shm(sqlite3 *db, int slot, int flags)
{
    sqlite3_file *f = NULL;

    cr_assert_eq(sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f), SQLITE_OK);
    return f->pMethods->xShmLock(f, slot, 1, flags);
}

Test(beside, read_slots_in_any_order_neither_abort_nor_stick)
{
    /* V1. SQLite holds one slot at a time, but who calls xShmLock is not ours to choose. */
    const int take = SQLITE_SHM_LOCK | SQLITE_SHM_SHARED,
              drop = SQLITE_SHM_UNLOCK | SQLITE_SHM_SHARED;
    sqlite3 *a = sql_open("db"), *b = sql_open("db");

    sql_do(a, "create table t(v)");
    cr_assert_eq(shm(a, 3, take), SQLITE_OK);
    cr_assert_eq(shm(a, 5, take), SQLITE_OK);
    cr_assert_eq(shm(a, 3, drop), SQLITE_OK);
    cr_assert_eq(shm(a, 0, SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE), SQLITE_OK);
    cr_assert_eq(shm(a, 5, drop), SQLITE_OK); /* as walRestartLog() does, but nothing follows */
    cr_assert_eq(shm(a, 0, SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE), SQLITE_OK);
    cr_assert_eq(shm(a, 5, drop), SQLITE_OK);
    sql_do(b, "insert into t values(1)");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 1, "the snapshot of before has gone");
    sql_do(a, "insert into t values(2)");
    sql_close(a);
    sql_close(b);
}
