/* stock_calls.c - the C interface beyond SQL: hooks, backup, blobs, threads, forks, the end. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/stock.h"

#define RW     (SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)
#define ROWS   "WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i LIMIT "
#define FILL   ROWS "500) INSERT INTO t SELECT x, printf('%0200d', x) FROM i"
#define CREATE "CREATE TABLE t(a INTEGER PRIMARY KEY, b)"

static sqlite3 *filled(const char *name)
{
    sqlite3 *db = stock_open(name);

    if (quiet(db, CREATE ";" FILL))
        die("fill: %s", sqlite3_errmsg(db));
    return db;
}

/* -- hooks ---------------------------------------------------------------------------------------
 */

static int veto;

static int on_commit(void *arg)
{
    say("  commit hook %s", (const char *)arg);
    return veto;
}

static void on_rollback(void *arg)
{
    say("  rollback hook %s", (const char *)arg);
}

static void on_update(void *arg, int op, const char *db, const char *table, sqlite3_int64 rowid)
{
    (void)arg;
    say("  update hook %d %s.%s %lld", op, db, table, (long long)rowid);
}

static void on_preupdate(void *arg, sqlite3 *db, int op, const char *schema, const char *table,
                         sqlite3_int64 old, sqlite3_int64 new)
{
    sqlite3_value *value = NULL;

    (void)arg;
    if (op != SQLITE_INSERT)
        sqlite3_preupdate_old(db, 1, &value);
    say("  preupdate hook %d %s.%s %lld %lld of %d columns, depth %d: %.20s", op, schema, table,
        (long long)old, (long long)new, sqlite3_preupdate_count(db), sqlite3_preupdate_depth(db),
        value ? (const char *)sqlite3_value_text(value) : "");
}

static int wal_calls;

static int on_wal(void *arg, sqlite3 *db, const char *schema, int frames)
{
    (void)arg;
    (void)db;
    wal_calls++;
    say("  wal hook %s", schema);
    if (frames < 1)
        say("  of %d frames", frames);
    return SQLITE_OK;
}

static int on_trace(unsigned kind, void *context, void *p, void *x)
{
    (void)context;
    if (kind == SQLITE_TRACE_STMT)
        say("  trace %s", (const char *)x);
    else if (kind == SQLITE_TRACE_ROW)
        say("  trace row of %s", sqlite3_sql(p));
    else if (kind == SQLITE_TRACE_PROFILE)
        say("  profile of %s", sqlite3_sql(p));
    else
        say("  trace close");
    return 0;
}

static int authorizer_calls, deny;

static int on_authorize(void *arg, int action, const char *a, const char *b, const char *c,
                        const char *d)
{
    (void)arg;
    authorizer_calls++;
    if (action == deny)
        say("  deny %d %s %s %s %s", action, a ? a : "-", b ? b : "-", c ? c : "-", d ? d : "-");
    return action == deny ? SQLITE_DENY : SQLITE_OK;
}

static void hooks(void)
{
    sqlite3 *db;

    stock_load();
    db = stock_open("db");
    sqlite3_commit_hook(db, on_commit, "one");
    sqlite3_rollback_hook(db, on_rollback, "two");
    sqlite3_update_hook(db, on_update, NULL);
    sqlite3_preupdate_hook(db, on_preupdate, NULL);
    sqlite3_wal_hook(db, on_wal, NULL);
    run(db, CREATE);
    run(db, "INSERT INTO t VALUES(1, 'a'), (2, 'b'); UPDATE t SET b = 'c' WHERE a = 2");
    run(db, "BEGIN; INSERT INTO t VALUES(3, 'x'); DELETE FROM t WHERE a = 1; ROLLBACK");
    run(db, "BEGIN; INSERT INTO t VALUES(3, 'x'); COMMIT");
    run(db, "BEGIN; COMMIT; BEGIN IMMEDIATE; COMMIT; BEGIN; SELECT * FROM t; COMMIT");
    run(db, "SAVEPOINT s; INSERT INTO t VALUES(4, 'y'); RELEASE s");
    run(db, "INSERT INTO t VALUES(4, 'again')");
    run(db, "CREATE TEMP TABLE x(a); INSERT INTO x VALUES(1)");
    veto = 1;
    run(db, "INSERT INTO t VALUES(5, 'vetoed')");
    run(db, "BEGIN; INSERT INTO t VALUES(5, 'vetoed')");
    run(db, "COMMIT");
    say("autocommit %d", sqlite3_get_autocommit(db));
    veto = 0;
    run(db, "REPLACE INTO t VALUES(1, 'r'); DELETE FROM t; VACUUM; SELECT count(*) FROM t");
    say("wal hook calls %d", wal_calls);
    sqlite3_commit_hook(db, NULL, NULL);
    sqlite3_rollback_hook(db, NULL, NULL);
    sqlite3_update_hook(db, NULL, NULL);
    sqlite3_preupdate_hook(db, NULL, NULL);
    sqlite3_wal_hook(db, NULL, NULL);
    sqlite3_trace_v2(
        db, SQLITE_TRACE_STMT | SQLITE_TRACE_ROW | SQLITE_TRACE_PROFILE | SQLITE_TRACE_CLOSE,
        on_trace, NULL);
    run(db, "INSERT INTO t VALUES(7, 'z'); SELECT a FROM t; BEGIN; COMMIT");
    sqlite3_set_authorizer(db, on_authorize, NULL);
    deny = SQLITE_DELETE;
    run(db, "DELETE FROM t");
    deny = SQLITE_ATTACH;
    run(db, "ATTACH ':memory:' AS m");
    deny = SQLITE_PRAGMA;
    run(db, "PRAGMA user_version");
    run(db, "PRAGMA journal_mode");
    say("authorizer calls %d", authorizer_calls);
    sqlite3_set_authorizer(db, NULL, NULL);
    stock_close(db);
}

/* Inside a hook: what may be asked there. */
static int look_in_commit(void *arg)
{
    sqlite3 *db = arg;

    say("  in the commit hook: autocommit %d, state %d, changes %d", sqlite3_get_autocommit(db),
        sqlite3_txn_state(db, "main"), sqlite3_total_changes(db));
    return 0;
}

static int look_in_wal(void *arg, sqlite3 *db, const char *schema, int frames)
{
    int log = -2, done = -2;
    int rc = sqlite3_wal_checkpoint_v2(db, schema, SQLITE_CHECKPOINT_PASSIVE, &log, &done);

    (void)arg;
    (void)frames;
    say("  in the wal hook: state %d, checkpoint %d, all of it %d", sqlite3_txn_state(db, schema),
        rc, log == done);
    return quiet(db, "SELECT count(*) FROM t") ? SQLITE_ERROR : SQLITE_OK;
}

static void hooks_that_ask(void)
{
    sqlite3 *db;

    stock_load();
    db = filled("db");
    sqlite3_commit_hook(db, look_in_commit, db);
    sqlite3_wal_hook(db, look_in_wal, NULL);
    run(db, "INSERT INTO t(b) VALUES('x'); BEGIN; DELETE FROM t WHERE a < 5; COMMIT");
    stock_close(db);
}

/* -- interrupt, progress -------------------------------------------------------------------------
 */

static int progress_left;

static int on_progress(void *arg)
{
    (void)arg;
    return progress_left-- <= 0;
}

static void interrupt_here(sqlite3_context *context, int n, sqlite3_value **values)
{
    (void)n;
    if (sqlite3_value_int(values[0]) == 100)
        sqlite3_interrupt(sqlite3_context_db_handle(context));
    sqlite3_result_int(context, 1);
}

static int interrupt_commit(void *arg)
{
    sqlite3_interrupt(arg);
    return 0;
}

static void interrupt(void)
{
    sqlite3 *db;
    sqlite3_stmt *s;

    stock_load();
    db = filled("db");
    sqlite3_create_function(db, "stop", 1, SQLITE_UTF8, NULL, interrupt_here, NULL, NULL);
    run(db, "UPDATE t SET b = 'x' WHERE stop(a)");
    run(db, "SELECT count(*), sum(length(b)) FROM t");
    run(db, "BEGIN; INSERT INTO t(b) VALUES('in the transaction'); SELECT count(*) FROM t");
    run(db, "SELECT sum(stop(a)) FROM t");
    say("autocommit %d", sqlite3_get_autocommit(db));
    run(db, "UPDATE t SET b = 'x' WHERE stop(a)");
    say("autocommit %d", sqlite3_get_autocommit(db));
    run(db, "SELECT count(*) FROM t; ROLLBACK");
    /* Interrupted while it commits: it is in the database as a whole or not at all, as it says. */
    sqlite3_commit_hook(db, interrupt_commit, db);
    run(db, "BEGIN; INSERT INTO t(b) VALUES('interrupted')");
    run(db, "COMMIT");
    say("autocommit %d", sqlite3_get_autocommit(db));
    run(db, "INSERT INTO t(b) VALUES('interrupted too')");
    sqlite3_commit_hook(db, NULL, NULL);
    run(db, "SELECT count(*) FROM t WHERE b LIKE 'interrupted%'");
    s = prepare(db, "SELECT a FROM t");
    step(s);
    sqlite3_interrupt(db);
    step(s);
    step(s);
    sqlite3_finalize(s);
    sqlite3_interrupt(db); /* nothing runs: it has no effect */
    run(db, "SELECT count(*) FROM t");
    progress_left = 5;
    sqlite3_progress_handler(db, 50, on_progress, NULL);
    run(db, "SELECT count(*) FROM t x, t y");
    progress_left = 3;
    run(db, "BEGIN; UPDATE t SET b = upper(b)");
    progress_left = 1 << 30;
    say("autocommit %d", sqlite3_get_autocommit(db));
    run(db, "ROLLBACK");
    progress_left = 1;
    run(db, "VACUUM");
    progress_left = 1 << 30;
    run(db, "SELECT count(*), sum(length(b)) FROM t; PRAGMA integrity_check");
    sqlite3_progress_handler(db, 0, NULL, NULL);
    stock_close(db);
}

/* -- backup --------------------------------------------------------------------------------------
 */

static void copy(const char *what, sqlite3 *to, const char *to_name, sqlite3 *from,
                 const char *from_name, int pages)
{
    sqlite3_backup *b = sqlite3_backup_init(to, to_name, from, from_name);
    int rc = SQLITE_OK, steps = 0;

    if (!b) {
        say("%s: init %d %s", what, sqlite3_extended_errcode(to), sqlite3_errmsg(to));
        return;
    }
    do {
        rc = sqlite3_backup_step(b, pages);
        steps++;
    } while (rc == SQLITE_OK && steps < 1000);
    say("%s: %d after %d steps, %d of %d left", what, rc, steps, sqlite3_backup_remaining(b),
        sqlite3_backup_pagecount(b));
    rc = sqlite3_backup_finish(b);
    say("%s: finish %d %s", what, rc, rc ? sqlite3_errmsg(to) : "");
}

static void some_steps(sqlite3_backup *b)
{
    int rc = sqlite3_backup_step(b, 5);

    say("step %d, %d of %d left", rc, sqlite3_backup_remaining(b), sqlite3_backup_pagecount(b));
}

static sqlite3 *plain_file(const char *name)
{
    sqlite3 *db;
    int rc = stock_open_rc(stock_file(name), RW, &db);

    if (rc)
        die("open %s: %d", name, rc);
    return db;
}

static void backup(void)
{
    sqlite3 *db, *other, *memory, *file, *copied, *second;
    sqlite3_backup *b;

    stock_load();
    db = filled("db");
    if (sqlite3_open(":memory:", &memory))
        die("memory");
    copy("to memory", memory, "main", db, "main", -1);
    run(memory, "SELECT count(*), sum(length(b)) FROM t; PRAGMA integrity_check");
    file = plain_file("copy");
    copy("to a file", file, "main", db, "main", 3);
    run(file, "SELECT count(*), sum(length(b)) FROM t; PRAGMA integrity_check");
    differs("journal mode of a copy made by the connection that created the database", "%s",
            text(file, "PRAGMA journal_mode"));
    other = stock_open("other");
    copy("to another", other, "main", db, "main", 7);
    run(other, "SELECT count(*), sum(length(b)) FROM t; PRAGMA integrity_check");
    run(memory, "DELETE FROM t WHERE a > 3");
    copy("back", db, "main", memory, "main", 2);
    run(db, "SELECT count(*) FROM t; PRAGMA integrity_check; INSERT INTO t VALUES(900, 'after')");
    run(memory, "PRAGMA page_size = 1024; VACUUM; SELECT count(*) FROM t");
    copy("of another page size", db, "main", memory, "main", -1);
    run(db, "SELECT count(*) FROM t; PRAGMA page_size");
    copy("of another page size to a new one", copied = stock_open("new"), "main", memory, "main",
         -1);
    run(copied, "SELECT count(*) FROM t; PRAGMA integrity_check");
    /* The source changes on the way: by its own connection and by another. */
    run(other, "BEGIN; " FILL " WHERE x > 1000; COMMIT");
    b = sqlite3_backup_init(memory, "main", other, "main");
    say("step %d", sqlite3_backup_step(b, 5));
    run(other, "UPDATE t SET b = 'changed' WHERE a = 1");
    some_steps(b);
    second = stock_open("other");
    run(second, "UPDATE t SET b = 'changed again' WHERE a = 2");
    some_steps(b);
    say("step %d", sqlite3_backup_step(b, -1));
    say("finish %d", sqlite3_backup_finish(b));
    run(memory, "SELECT b FROM t WHERE a < 3; PRAGMA integrity_check");
    /* The destination is used: by a reader, by a writer; and given up half way. */
    run(second, "BEGIN; SELECT count(*) FROM t");
    copy("over a reader", other, "main", memory, "main", -1);
    run(second, "COMMIT; BEGIN IMMEDIATE");
    copy("over a writer", other, "main", memory, "main", -1);
    run(second, "ROLLBACK");
    b = sqlite3_backup_init(other, "main", db, "main");
    say("step %d", sqlite3_backup_step(b, 1));
    run(second, "SELECT count(*) FROM t");
    run(second, "INSERT INTO t VALUES(5000, 'x')");
    say("given up %d", sqlite3_backup_finish(b));
    run(other, "SELECT count(*) FROM t; PRAGMA integrity_check");
    copy("to itself", db, "main", db, "main", -1);
    copy("to no schema", db, "nosuch", memory, "main", -1);
    run(db, "BEGIN; INSERT INTO t VALUES(7000, 'open')");
    copy("from a transaction", memory, "main", db, "main", -1);
    copy("into a transaction", db, "main", file, "main", -1);
    run(db, "ROLLBACK");
    stock_close(second);
    stock_close(copied);
    stock_close(other);
    stock_close(file);
    stock_close(memory);
    stock_close(db);
}

static void vacuum_into(void)
{
    char sql[1200];
    sqlite3 *db, *copied, *reader;
    int rc;

    stock_load();
    db = filled("db");
    snprintf(sql, sizeof sql, "VACUUM INTO '%s'", stock_file("into"));
    say("into a file %d", quiet(db, sql));
    rc = quiet(db, sql);
    say("into the same file %d %s", rc, sqlite3_errmsg(db));
    copied = plain_file("into");
    run(copied, "SELECT count(*), sum(length(b)) FROM t; PRAGMA integrity_check");
    stock_close(copied);
    snprintf(sql, sizeof sql, "VACUUM INTO '%s'", stock_uri("into", ""));
    say("into another database %d", quiet(db, sql));
    rc = quiet(db, sql);
    say("into the same database %d %s", rc, sqlite3_errmsg(db));
    copied = stock_open("into");
    run(copied, "SELECT count(*), sum(length(b)) FROM t; PRAGMA integrity_check");
    run(copied, "INSERT INTO t(b) VALUES('goes on'); SELECT count(*) FROM t");
    stock_close(copied);
    reader = stock_open_more("db", "mode=ro", SQLITE_OPEN_READONLY);
    snprintf(sql, sizeof sql, "VACUUM INTO '%s'", stock_uri("from-ro", ""));
    say("from a read-only connection %d", quiet(reader, sql));
    run(reader, "VACUUM");
    stock_close(reader);
    snprintf(sql, sizeof sql, "BEGIN; VACUUM INTO '%s'", stock_uri("no", ""));
    rc = quiet(db, sql);
    say("in a transaction %d %s", rc, sqlite3_errmsg(db));
    run(db,
        "COMMIT; DELETE FROM t WHERE a % 2; VACUUM; PRAGMA freelist_count; SELECT count(*) FROM t");
    stock_close(db);
}

static void serialize(void)
{
    sqlite3 *db, *memory;
    sqlite3_int64 n = 0, n2 = 0;
    unsigned char *image;

    stock_load();
    db = filled("db");
    say("no copy %d", sqlite3_serialize(db, "main", &n, SQLITE_SERIALIZE_NOCOPY) == NULL);
    image = sqlite3_serialize(db, "main", &n, 0);
    say("%d: %lld bytes, %.15s", image != NULL, (long long)n, (char *)image);
    if (sqlite3_open(":memory:", &memory))
        die("memory");
    image[18] = image[19] = 1; /* memory has no WAL */
    say("deserialize %d",
        sqlite3_deserialize(memory, "main", image, n, n,
                            SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_RESIZEABLE));
    run(memory, "SELECT count(*), sum(length(b)) FROM t; PRAGMA integrity_check");
    run(memory, "INSERT INTO t(b) VALUES('more'); SELECT count(*) FROM t");
    /* In a transaction it is the transaction's state. */
    run(db, "BEGIN; DELETE FROM t WHERE a > 100");
    image = sqlite3_serialize(db, "main", &n2, 0);
    say("%d: as long %d", image != NULL, n == n2);
    sqlite3_free(image);
    image = sqlite3_malloc64(4096);
    say("deserialize in a transaction %d",
        sqlite3_deserialize(db, "main", image, 0, 4096, SQLITE_DESERIALIZE_FREEONCLOSE));
    run(db, "ROLLBACK");
    /* It takes the place of the schema; the database that was there is let go. */
    image = sqlite3_serialize(memory, "main", &n, 0);
    say("in its place %d",
        sqlite3_deserialize(db, "main", image, n, n,
                            SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_READONLY));
    run(db, "SELECT count(*) FROM t; INSERT INTO t(b) VALUES('x')");
    stock_close(db);
    stock_close(memory);
    db = stock_open("db");
    run(db, "SELECT count(*) FROM t");
    stock_close(db);
}

/* -- blobs ---------------------------------------------------------------------------------------
 */

static void blobs(void)
{
    sqlite3 *db, *other;
    sqlite3_blob *b = NULL, *w = NULL;
    char bytes[64];
    int rc;

    stock_load();
    db = stock_open("db");
    run(db, "CREATE TABLE t(a INTEGER PRIMARY KEY, b, c UNIQUE); CREATE TABLE w(a PRIMARY KEY, b) "
            "WITHOUT ROWID; INSERT INTO t VALUES(1, zeroblob(100000), 'u'), (2, x'0102', 'v'), (3, "
            "5, 'w')");
    say("open %d", sqlite3_blob_open(db, "main", "t", "b", 1, 0, &b));
    say("bytes %d, read %d, beyond %d", sqlite3_blob_bytes(b),
        sqlite3_blob_read(b, bytes, 10, 99990), sqlite3_blob_read(b, bytes, 10, 99991));
    say("write to a reading one %d", sqlite3_blob_write(b, "x", 1, 0));
    say("state %d", sqlite3_txn_state(db, "main"));
    say("open for writing %d", sqlite3_blob_open(db, "main", "t", "b", 1, 1, &w));
    say("state %d, autocommit %d", sqlite3_txn_state(db, "main"), sqlite3_get_autocommit(db));
    say("write %d", sqlite3_blob_write(w, "hello", 5, 50000));
    rc = sqlite3_blob_read(b, bytes, 5, 50000);
    say("read it %d %.5s", rc, bytes);
    other = stock_open("db");
    run(other, "SELECT substr(b, 50001, 5) FROM t WHERE a = 1; INSERT INTO t VALUES(9, 9, 9)");
    say("close %d %d", sqlite3_blob_close(w), sqlite3_blob_close(b));
    say("state %d", sqlite3_txn_state(db, "main"));
    run(other, "SELECT substr(b, 50001, 5) FROM t WHERE a = 1; INSERT INTO t VALUES(9, 9, 9)");
    say("open %d", sqlite3_blob_open(db, "main", "t", "b", 1, 1, &w));
    say("reopen %d", sqlite3_blob_reopen(w, 2));
    say("bytes %d", sqlite3_blob_bytes(w));
    say("reopen a number %d", sqlite3_blob_reopen(w, 3));
    say("close %d", sqlite3_blob_close(w));
    say("open %d", sqlite3_blob_open(db, "main", "t", "b", 2, 1, &w));
    run(db, "UPDATE t SET b = x'99' WHERE a = 2");
    say("expired %d", sqlite3_blob_read(w, bytes, 1, 0));
    say("close %d", sqlite3_blob_close(w));
    rc = sqlite3_blob_open(db, "main", "t", "c", 1, 1, &w);
    say("indexed %d %s", rc, sqlite3_errmsg(db));
    rc = sqlite3_blob_open(db, "main", "w", "b", 1, 0, &w);
    say("no rowid %d %s", rc, sqlite3_errmsg(db));
    rc = sqlite3_blob_open(db, "main", "t", "b", 77, 0, &w);
    say("no row %d %s", rc, sqlite3_errmsg(db));
    run(db, "BEGIN");
    say("open %d", sqlite3_blob_open(db, "main", "t", "b", 1, 1, &w));
    say("write %d", sqlite3_blob_write(w, "again", 5, 0));
    run(db, "ROLLBACK");
    say("after the rollback %d", sqlite3_blob_read(w, bytes, 5, 0));
    say("close %d", sqlite3_blob_close(w));
    run(db, "SELECT hex(substr(b, 1, 5)) FROM t WHERE a = 1; PRAGMA integrity_check");
    stock_close(other);
    stock_close(db);
}

/* -- the end of connections ----------------------------------------------------------------------
 */

static void closing(void)
{
    sqlite3 *db, *other;
    sqlite3_stmt *s;
    sqlite3_blob *blob;
    sqlite3_backup *b;

    stock_load();
    db = filled("db");
    other = stock_open("db");
    s = prepare(db, "SELECT a FROM t LIMIT 3");
    step(s);
    stock_close(db); /* busy */
    say("close_v2 %d", sqlite3_close_v2(db));
    step(s);
    run(other, "INSERT INTO t(b) VALUES('beside a zombie')");
    step(s);
    step(s);
    say("finalize %d", sqlite3_finalize(s));
    db = stock_open("db");
    run(db, "BEGIN; INSERT INTO t(b) VALUES('never'); SAVEPOINT x; DELETE FROM t");
    stock_close(db);
    run(other, "SELECT count(*) FROM t; INSERT INTO t(b) VALUES('free again')");
    db = stock_open("db");
    run(db, "BEGIN IMMEDIATE; INSERT INTO t(b) VALUES('never')");
    s = prepare(db, "SELECT a FROM t LIMIT 2");
    step(s);
    say("close_v2 %d", sqlite3_close_v2(db));
    run(other, "INSERT INTO t(b) VALUES('is it free?')");
    step(s);
    say("finalize %d", sqlite3_finalize(s));
    run(other, "INSERT INTO t(b) VALUES('now it is'); SELECT count(*) FROM t");
    db = stock_open("db");
    say("blob %d", sqlite3_blob_open(db, "main", "t", "b", 1, 1, &blob));
    stock_close(db);
    say("close_v2 %d", sqlite3_close_v2(db));
    say("blob %d", sqlite3_blob_close(blob));
    db = stock_open("db");
    b = sqlite3_backup_init(other, "temp", db, "main");
    say("backup %d", b ? sqlite3_backup_step(b, 1) : sqlite3_errcode(other));
    stock_close(db);
    say("close_v2 %d", sqlite3_close_v2(db));
    say("finish %d", b ? sqlite3_backup_finish(b) : 0);
    say("none %d %d", sqlite3_close(NULL), sqlite3_close_v2(NULL));
    stock_close(other);
    db = stock_open("db");
    run(db, "SELECT count(*) FROM t; PRAGMA integrity_check");
    stock_close(db);
}

static void shutdown_and_again(void)
{
    sqlite3 *db;
    int i;

    stock_load();
    for (i = 0; i < 3; i++) {
        db = stock_open("db");
        run(db, "CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES(1); SELECT count(*) FROM t");
        if (on_corallite) {
            differs(i ? "functions after sqlite3_shutdown()"
                      : "functions before sqlite3_shutdown()",
                    "%d", quiet(db, "SELECT corallite_last_error()"));
        } else {
            differs(i ? "functions after sqlite3_shutdown()"
                      : "functions before sqlite3_shutdown()",
                    "-");
        }
        stock_close(db);
        say("shutdown %d", sqlite3_shutdown());
        say("initialize %d", sqlite3_initialize());
    }
    say("shutdown %d", sqlite3_shutdown());
    say("config %d", sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0));
    stock_load(); /* again: it brings the functions back */
    db = stock_open("db");
    run(db, "INSERT INTO t VALUES(1); SELECT count(*) FROM t");
    if (on_corallite && quiet(db, "SELECT corallite_last_error()"))
        die("functions after loading again");
    stock_close(db);
}

/* -- threads and forks ---------------------------------------------------------------------------
 */

#define THREADS 8
#define EACH    25

static void *own_connection(void *arg)
{
    sqlite3 *db = stock_open("db");
    long bad = 0;

    sqlite3_busy_timeout(db, 60000);
    for (int i = 0; i < EACH; i++)
        bad +=
            quiet(
                db,
                "BEGIN IMMEDIATE; UPDATE s SET n = n + 1; INSERT INTO t(b) VALUES('x'); COMMIT") !=
            0;
    bad += sqlite3_close(db) != 0;
    *(long *)arg = bad;
    return NULL;
}

static void *shared_connection(void *arg)
{
    sqlite3 *db = *(sqlite3 **)arg;

    for (int i = 0; i < EACH; i++)
        quiet(db, "UPDATE s SET n = n + 1");
    return NULL;
}

static void threads(void)
{
    pthread_t thread[THREADS];
    long bad[THREADS];
    sqlite3 *db;

    stock_load();
    db = filled("db");
    run(db, "CREATE TABLE s(n); INSERT INTO s VALUES(0)");
    for (int i = 0; i < THREADS; i++)
        pthread_create(&thread[i], NULL, own_connection, &bad[i]);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        say("thread: %ld refused", bad[i]);
    }
    run(db, "SELECT n FROM s; SELECT count(*) FROM t; PRAGMA integrity_check");
    for (int i = 0; i < THREADS; i++)
        pthread_create(&thread[i], NULL, shared_connection, &db);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    run(db, "SELECT n FROM s; PRAGMA integrity_check");
    stock_close(db);
}

static int child_status(pid_t pid)
{
    int status;

    if (waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* A child with connections of its own, which is all that SQLite allows. */
static void fork_and_open(void)
{
    static sqlite3
        *db; /* the child may not close it, and valgrind looks whether it is lost there */
    sqlite3 *mine;
    pid_t pid;

    stock_load();
    db = filled("db");
    for (int i = 0; i < 3; i++) {
        pid = fork();
        if (pid == 0) {
            mine = stock_open("db");
            sqlite3_busy_timeout(mine, 20000);
            _exit(quiet(mine, "INSERT INTO t(b) VALUES('of the child')") != 0 ||
                  number(mine, "SELECT count(*) FROM t") != 501 + 2 * i ||
                  sqlite3_close(mine) != 0);
        }
        say("child %d", child_status(pid));
        sqlite3_busy_timeout(db, 20000);
        run(db, "INSERT INTO t(b) VALUES('of the parent'); SELECT count(*) FROM t");
    }
    stock_close(db);
}

/* The parent's handles in the child: SQLite forbids it; here it is defined (S15). */
static void fork_and_go_on(void)
{
    sqlite3 *db, *reading, *writing;
    sqlite3_stmt *s;
    pid_t pid;

    stock_load();
    db = filled("db");
    reading = stock_open("db");
    writing = stock_open("db");
    s = prepare(reading, "SELECT a FROM t WHERE a > ?");
    step(s);
    run(reading, "BEGIN; SELECT count(*) FROM t");
    run(writing, "BEGIN IMMEDIATE; INSERT INTO t(b) VALUES('of the parent')");
    if (!on_corallite) {
        differs("in a forked child: a handle without a transaction", "undefined");
        differs("in a forked child: reading on in a transaction", "undefined");
        differs("in a forked child: COMMIT of the parent's transaction", "undefined");
        differs("in a forked child: the same handle after ROLLBACK", "undefined");
        differs("in a forked child: closing the parent's handles", "undefined");
    } else {
        pid = fork();
        if (pid == 0) {
            /* Pages that SQLite has in its own cache are not asked for. */
            differs("in a forked child: a handle without a transaction", "%d",
                    number(db, "SELECT count(*) FROM t") == 500 ? SQLITE_OK : -1);
            sqlite3_db_release_memory(reading);
            differs("in a forked child: reading on in a transaction", "%d",
                    quiet(reading, "SELECT sum(length(b)), sum(a) FROM t") & 0xff);
            differs("in a forked child: COMMIT of the parent's transaction", "%d",
                    quiet(writing, "COMMIT") & 0xff);
            quiet(reading, "ROLLBACK");
            quiet(writing, "ROLLBACK");
            sqlite3_finalize(s);
            differs("in a forked child: the same handle after ROLLBACK", "%d %d",
                    number(writing, "SELECT count(*) FROM t") == 500 ? SQLITE_OK : -1,
                    number(reading, "SELECT count(*) FROM t") == 500 ? SQLITE_OK : -1);
            differs("in a forked child: closing the parent's handles", "%d %d %d",
                    sqlite3_close(db), sqlite3_close(reading), sqlite3_close(writing));
            _exit(0);
        }
        if (child_status(pid))
            die("the child");
    }
    sqlite3_finalize(s);
    run(writing, "COMMIT");
    run(reading, "SELECT count(*) FROM t; COMMIT; SELECT count(*) FROM t");
    run(db, "INSERT INTO t(b) VALUES('still the parent'); PRAGMA integrity_check");
    stock_close(db);
    stock_close(reading);
    stock_close(writing);
}

/* -- what a connection can be asked --------------------------------------------------------------
 */

static void control(sqlite3 *db, const char *name, int op, int value)
{
    sqlite3_int64 arg[2] = {value, 0}; /* as large as any of them writes */
    int rc = sqlite3_file_control(db, "main", op, arg);
    int out;

    memcpy(&out, arg, sizeof out);
    say("%s(%d): %d, %d", name, value, rc, rc ? 0 : out);
}

static void file_controls(void)
{
    sqlite3 *db;
    sqlite3_file *file = NULL;
    sqlite3_vfs *vfs = NULL;
    char *text = NULL;
    unsigned version = 0, again = 0;
    int n = -1;

    stock_load();
    db = filled("db");
    control(db, "LAST_ERRNO", SQLITE_FCNTL_LAST_ERRNO, 0);
    control(db, "CHUNK_SIZE", SQLITE_FCNTL_CHUNK_SIZE, 65536);
    control(db, "SIZE_HINT", SQLITE_FCNTL_SIZE_HINT, 0);
    control(db, "PERSIST_WAL", SQLITE_FCNTL_PERSIST_WAL, -1);
    control(db, "PERSIST_WAL", SQLITE_FCNTL_PERSIST_WAL, 1);
    control(db, "PERSIST_WAL", SQLITE_FCNTL_PERSIST_WAL, -1);
    control(db, "PERSIST_WAL", SQLITE_FCNTL_PERSIST_WAL, 0);
    control(db, "POWERSAFE_OVERWRITE", SQLITE_FCNTL_POWERSAFE_OVERWRITE, -1);
    control(db, "HAS_MOVED", SQLITE_FCNTL_HAS_MOVED, 7);
    control(db, "RESERVE_BYTES", SQLITE_FCNTL_RESERVE_BYTES, -1);
    control(db, "EXTERNAL_READER", SQLITE_FCNTL_EXTERNAL_READER, 0);
    control(db, "RESET_CACHE", SQLITE_FCNTL_RESET_CACHE, 0);
    control(db, "CKSM_FILE", SQLITE_FCNTL_CKSM_FILE, 0);
    control(db, "nothing", 12345, 0);
    control(db, "LOCKSTATE", SQLITE_FCNTL_LOCKSTATE, -7);
    control(db, "MMAP_SIZE", SQLITE_FCNTL_MMAP_SIZE, -1);
    n = sqlite3_file_control(db, "main", SQLITE_FCNTL_TEMPFILENAME, &text);
    say("TEMPFILENAME %d", n);
    sqlite3_free(text);
    text = NULL;
    n = sqlite3_file_control(db, "main", SQLITE_FCNTL_VFSNAME, &text);
    differs("SQLITE_FCNTL_VFSNAME", "%d %s", n, text ? text : "-");
    sqlite3_free(text);
    say("VFS_POINTER %d", sqlite3_file_control(db, "main", SQLITE_FCNTL_VFS_POINTER, &vfs));
    say("FILE_POINTER %d %d", sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &file),
        file != NULL && file->pMethods != NULL);
    say("JOURNAL_POINTER %d",
        sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file));
    say("DATA_VERSION %d", sqlite3_file_control(db, "main", SQLITE_FCNTL_DATA_VERSION, &version));
    quiet(db, "INSERT INTO t(b) VALUES('x')");
    say("DATA_VERSION %d, moved %d",
        sqlite3_file_control(db, "main", SQLITE_FCNTL_DATA_VERSION, &again), version != again);
    say("no schema %d", sqlite3_file_control(db, "nosuch", SQLITE_FCNTL_DATA_VERSION, &again));
    differs("sqlite3_db_filename()", "%s",
            !on_corallite ? "the path of the file"
            : strcmp(sqlite3_db_filename(db, "main"), "corallite:file-controls-db/main") == 0
                ? "corallite:DB/main"
                : "?");
    stock_close(db);
    db = stock_open_more("db", "psow=1&cache=private", RW);
    say("psow %s %d %lld, none %d, key %s",
        sqlite3_uri_parameter(sqlite3_db_filename(db, "main"), "psow"),
        sqlite3_uri_boolean(sqlite3_db_filename(db, "main"), "psow", 0),
        (long long)sqlite3_uri_int64(sqlite3_db_filename(db, "main"), "psow", 7),
        sqlite3_uri_parameter(sqlite3_db_filename(db, "main"), "no") == NULL,
        sqlite3_uri_key(sqlite3_db_filename(db, "main"), on_corallite ? 1 : 0));
    say("uri parameter %s, readonly %d %d",
        sqlite3_uri_parameter(sqlite3_db_filename(db, "main"), "x") ? "?" : "none",
        sqlite3_db_readonly(db, "main"), sqlite3_db_readonly(db, "nosuch"));
    say("names of files %d %d",
        strstr(sqlite3_filename_wal(sqlite3_db_filename(db, "main")), "-wal") != NULL,
        strcmp(sqlite3_filename_database(sqlite3_filename_wal(sqlite3_db_filename(db, "main"))),
               sqlite3_db_filename(db, "main")) == 0);
    say("system errno %d", sqlite3_system_errno(db));
    stock_close(db);
}

/* What SQLite asks of the VFS of the main database on behalf of the whole connection. */
static void extensions(void)
{
    sqlite3_vfs *vfs = NULL;
    sqlite3 *db;
    char *error = NULL, bytes[16];
    void *library;
    int rc;

    stock_load();
    db = filled("db");
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
    rc = sqlite3_load_extension(db, "/nonexistent/extension", NULL, &error);
    say("an extension that is not there: %d %d", rc, error && strstr(error, "cannot open") != NULL);
    sqlite3_free(error);
    error = NULL;
    rc = sqlite3_load_extension(db, getenv("CORALLITE_EXTENSION"), "nosuch", &error);
    say("an entry that is not there: %d %d", rc, error && strstr(error, "nosuch") != NULL);
    sqlite3_free(error);
    rc = sqlite3_load_extension(db, getenv("CORALLITE_EXTENSION"), NULL, NULL);
    say("an extension: %d", rc);
    run(db, "SELECT corallite_last_error() IS NULL OR 1; SELECT load_extension('/nonexistent')");
    sqlite3_file_control(db, "main", SQLITE_FCNTL_VFS_POINTER, &vfs);
    library = vfs->xDlOpen(vfs, getenv("CORALLITE_EXTENSION"));
    say("library %d, symbol %d", library != NULL,
        library ? vfs->xDlSym(vfs, library, "nosuch") == NULL : 0);
    vfs->xDlError(vfs, sizeof bytes, bytes);
    if (library)
        vfs->xDlClose(vfs, library);
    say("random %d", vfs->xRandomness(vfs, sizeof bytes, bytes));
    run(db, "SELECT abs(julianday('now') - 2461000) < 100000, length(randomblob(8))");
    stock_close(db);
}

/* Says a counter of the connection; as it is, or only whether it counted. */
static void counter(sqlite3 *db, const char *what, int op, bool exactly)
{
    int now = -1, high = -1, rc = sqlite3_db_status(db, op, &now, &high, 1);

    say("%s: %d, %d", what, rc, exactly ? now : now > 0);
}

static void status(void)
{
    sqlite3 *db;
    int now, high, rc;

    stock_load();
    db = filled("db");
    counter(db, "writes until then", SQLITE_DBSTATUS_CACHE_WRITE, false);
    run(db, "SELECT count(*), sum(length(b)) FROM t");
    sqlite3_db_status(db, SQLITE_DBSTATUS_CACHE_MISS, &now, &high, 1);
    run(db, "SELECT count(*), sum(length(b)) FROM t");
    counter(db, "hits", SQLITE_DBSTATUS_CACHE_HIT, false);
    counter(db, "misses", SQLITE_DBSTATUS_CACHE_MISS, true);
    counter(db, "writes", SQLITE_DBSTATUS_CACHE_WRITE, true);
    run(db, "BEGIN; UPDATE t SET b = upper(b)");
    say("flush %d", sqlite3_db_cacheflush(db));
    counter(db, "writes", SQLITE_DBSTATUS_CACHE_WRITE, true);
    say("flush %d", sqlite3_db_cacheflush(db));
    counter(db, "writes", SQLITE_DBSTATUS_CACHE_WRITE, true);
    say("release %d", sqlite3_db_release_memory(db));
    run(db,
        "SELECT count(*), sum(length(b)) FROM t; ROLLBACK; SELECT count(*), sum(length(b)) FROM t");
    counter(db, "spills", SQLITE_DBSTATUS_CACHE_SPILL, true);
    counter(db, "misses", SQLITE_DBSTATUS_CACHE_MISS, true);
    rc = sqlite3_db_release_memory(db);
    say("release %d", rc);
    counter(db, "foreign keys", SQLITE_DBSTATUS_DEFERRED_FKS, true);
    say("memory %d", sqlite3_status(SQLITE_STATUS_MEMORY_USED, &now, &high, 0));
    run(db, "PRAGMA shrink_memory; SELECT count(*) FROM t");
    say("reset %d", sqlite3_db_config(db, SQLITE_DBCONFIG_RESET_DATABASE, 1, NULL));
    run(db, "VACUUM");
    say("reset %d", sqlite3_db_config(db, SQLITE_DBCONFIG_RESET_DATABASE, 0, NULL));
    run(db, "SELECT count(*) FROM sqlite_schema; CREATE TABLE n(a); INSERT INTO n VALUES(1); "
            "PRAGMA integrity_check");
    stock_close(db);
    db = stock_open("db");
    run(db, "SELECT name FROM sqlite_schema; SELECT a FROM n");
    stock_close(db);
}

const struct stock_case cases[] = {
    {"hooks", hooks},
    {"hooks-that-ask", hooks_that_ask},
    {"interrupt", interrupt},
    {"backup", backup},
    {"vacuum-into", vacuum_into},
    {"serialize", serialize},
    {"blobs", blobs},
    {"closing", closing},
    {"shutdown", shutdown_and_again},
    {"threads", threads},
    {"fork-and-open", fork_and_open},
    {"fork-and-go-on", fork_and_go_on},
    {"file-controls", file_controls},
    {"extensions", extensions},
    {"status", status},
    {NULL, NULL},
};
