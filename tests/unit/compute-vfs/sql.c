#include "sql.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem_backend.h"

int sqlite3_corallite_init(sqlite3 *db, char **error, const void *api);

void sql_init(void)
{
    sqlite3 *db;

    setenv("CORALLITE_LOG", "off", 1);
    unsetenv("CORALLITE_SERVER");
    mem_reset();
    cv_backend_use(&mem_backend);
    /* Makes SQLite hand its table of functions to the entry point, as loading the extension does.
     * The connection itself is refused: the entry point answers "loaded for good". */
    sqlite3_auto_extension((void (*)(void))sqlite3_corallite_init);
    sqlite3_open(":memory:", &db);
    sqlite3_close(db);
    sqlite3_cancel_auto_extension((void (*)(void))sqlite3_corallite_init);
    cr_assert(sqlite3_vfs_find("corallite"));
}

sqlite3 *sql_open_rc(const char *name, const char *server, const char *more, int flags, int *rc)
{
    char uri[1024];
    sqlite3 *db;

    snprintf(uri, sizeof uri, "file:%s?vfs=corallite&server=%s%s", name, server, more);
    *rc = sqlite3_open_v2(uri, &db, flags | SQLITE_OPEN_URI, NULL);
    if (*rc) {
        *rc = sqlite3_extended_errcode(db);
        sqlite3_close(db);
        return NULL;
    }
    return db;
}

static sqlite3 *open_at(const char *name, const char *server)
{
    int rc;
    sqlite3 *db = sql_open_rc(name, server, "", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &rc);

    cr_assert(db, "open %s: %d", name, rc);
    return db;
}

sqlite3 *sql_open(const char *name)
{
    return open_at(name, "127.0.0.1:1");
}

sqlite3 *sql_open_other(const char *name)
{
    return open_at(name, "127.0.0.1:2");
}

int sql_rc(sqlite3 *db, const char *sql)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);

    return rc ? sqlite3_extended_errcode(db) : rc;
}

void sql_do(sqlite3 *db, const char *sql)
{
    char *error = NULL;
    int rc = sqlite3_exec(db, sql, NULL, NULL, &error);

    cr_assert_eq(rc, SQLITE_OK, "%.200s: %d %s", sql, sqlite3_extended_errcode(db), error);
}

long long sql_int(sqlite3 *db, const char *sql)
{
    const char *text = sql_text(db, sql);

    if (strncmp(text, "ERROR", 5) == 0)
        return -2;
    return *text ? atoll(text) : -1;
}

const char *sql_text(sqlite3 *db, const char *sql)
{
    static _Thread_local char out[8192];
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

    out[0] = 0;
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW && sqlite3_column_text(stmt, 0))
        snprintf(out, sizeof out, "%s", (const char *)sqlite3_column_text(stmt, 0));
    else if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        snprintf(out, sizeof out, "ERROR %d", sqlite3_extended_errcode(db));
    sqlite3_finalize(stmt);
    return out;
}

void sql_close(sqlite3 *db)
{
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
}

void sql_use_lsn_again(sqlite3 *a, sqlite3 *b, char lost[SQL_LSN])
{
    sql_do(a, "create table t(id integer primary key, v int); insert into t values(1, 1000)");
    cr_assert_eq(sql_int(b, "select v from t"), 1000);
    sql_do(a, "pragma synchronous = normal");
    mem.freeze = mem.receive = true;
    sql_do(a, "update t set v = 1001 where id = 1");
    cr_assert_eq(sql_int(a, "select v from t"), 1001, "its own commit");
    snprintf(lost, SQL_LSN, "%s", sql_text(a, "pragma corallite_lsn"));
    mem_lose_term("db", 0);
    mem.freeze = false;
    sql_do(b, "update t set v = 1002 where id = 1");
    cr_assert_str_eq(sql_text(b, "pragma corallite_lsn"), lost, "the same LSN again");
}

struct sql_thread {
    pthread_t thread;
    sqlite3 *db;
    const char *sql;
    int rc;
    atomic_int ended;
};

static void *run(void *arg)
{
    struct sql_thread *t = arg;

    t->rc = sql_rc(t->db, t->sql);
    t->ended = 1;
    return NULL;
}

struct sql_thread *sql_start(sqlite3 *db, const char *sql)
{
    struct sql_thread *t = calloc(1, sizeof *t);

    t->db = db;
    t->sql = sql;
    pthread_create(&t->thread, NULL, run, t);
    return t;
}

int sql_ended(struct sql_thread *t)
{
    return t->ended;
}

int sql_join(struct sql_thread *t)
{
    int rc;

    pthread_join(t->thread, NULL);
    rc = t->rc;
    free(t);
    return rc;
}

void sql_nap(void)
{
    usleep(1000);
}
