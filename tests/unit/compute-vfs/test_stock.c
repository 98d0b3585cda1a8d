/* test_stock.c - rules M11, M12, S15, S17 and the table "stock SQLite against the VFS". */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem_backend.h"
#include "sql.h"

TestSuite(stock, .init = sql_init, .timeout = 60);

/* -- a new database ------------------------------------------------------------------------------
 */

Test(stock, a_new_database_is_empty_and_takes_its_form_from_pragmas)
{
    /* M11 */
    sqlite3 *a = sql_open("db"), *b;
    uint8_t page[8192];

    cr_assert(!mem_exists("db"), "opening makes nothing");
    cr_assert_eq(sql_int(a, "select count(*) from sqlite_master"), 0);
    cr_assert(!mem_exists("db"), "nor does reading");
    sql_do(a, "pragma page_size = 8192; pragma auto_vacuum = full; pragma encoding = 'UTF-16le'");
    sql_do(a, "create table p(v); insert into p values('x')");
    cr_assert(mem_exists("db"));
    cr_assert_eq(mem_count.creates, 1);
    b = sql_open_other("db");
    cr_assert_eq(sql_int(b, "pragma page_size"), 8192);
    cr_assert_eq(sql_int(b, "pragma auto_vacuum"), 1);
    cr_assert_str_eq(sql_text(b, "pragma encoding"), "UTF-16le");
    cr_assert_str_eq(sql_text(b, "pragma integrity_check"), "ok");
    cr_assert(mem_page("db", 1, page, sizeof page));
    cr_assert_eq(page[18], 2);
    cr_assert_eq(page[19], 2);
    sql_close(a);
    sql_close(b);
}

Test(stock, vacuum_into_makes_a_database)
{
    /* M11 */
    sqlite3 *m, *b;

    cr_assert_eq(sqlite3_open_v2("file:x?mode=memory", &m,
                                 SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                                 "unix"),
                 SQLITE_OK);
    sql_do(m, "create table p(v); insert into p values(1),(2),(3)");
    sql_do(m, "vacuum into 'file:copy?vfs=corallite&server=127.0.0.1:1'");
    sql_close(m);
    b = sql_open("copy");
    cr_assert_eq(sql_int(b, "select count(*) from p"), 3);
    cr_assert_str_eq(sql_text(b, "pragma integrity_check"), "ok");
    sql_close(b);
}

Test(stock, the_uri_can_say_the_page_size_of_a_new_database)
{
    int rc;
    sqlite3 *a = sql_open_rc("db", "127.0.0.1:1", "&page_size=1024",
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &rc);

    sql_do(a, "create table t(v)");
    cr_assert_eq(sql_int(a, "pragma page_size"), 1024);
    sql_close(a);
    a = sql_open_rc("db", "127.0.0.1:1", "&page_size=65536", SQLITE_OPEN_READWRITE, &rc);
    cr_assert_eq(sql_int(a, "pragma page_size"), 1024, "later it is what it is");
    sql_close(a);
}

Test(stock, two_that_create_the_same_database_both_write_to_it)
{
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");

    cr_assert_eq(sql_int(a, "select count(*) from sqlite_master"), 0);
    cr_assert_eq(sql_int(b, "select count(*) from sqlite_master"), 0);
    sql_do(a, "create table t(v)");
    sql_do(b, "create table u(v); insert into t values(1)");
    cr_assert_eq(sql_int(a, "select count(*) from sqlite_master"), 2);
    sql_close(a);
    sql_close(b);
}

Test(stock, a_writer_with_another_page_size_adapts_to_what_is_there)
{
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");

    sql_do(b, "pragma page_size = 16384");
    sql_do(a, "pragma page_size = 512; create table t(v); insert into t values(7)");
    cr_assert_eq(sql_int(b, "select v from t"), 7);
    sql_do(b, "insert into t values(8)");
    cr_assert_eq(sql_int(b, "pragma page_size"), 512);
    cr_assert_eq(sql_int(a, "select count(*) from t"), 2);
    sql_close(a);
    sql_close(b);
}

/* -- pragmas and modes ---------------------------------------------------------------------------
 */

Test(stock, modes_that_cannot_be_are_answered_with_what_is)
{
    sqlite3 *a = sql_open("db");

    cr_assert_str_eq(sql_text(a, "pragma journal_mode"), "wal");
    cr_assert_str_eq(sql_text(a, "pragma journal_mode = delete"), "wal");
    cr_assert_str_eq(sql_text(a, "pragma journal_mode = off"), "wal");
    cr_assert_str_eq(sql_text(a, "pragma locking_mode = exclusive"), "normal");
    cr_assert_str_eq(sql_text(a, "pragma mmap_size = 1000000"), "0");
    sql_do(a, "create table t(v)");
    cr_assert_str_eq(sql_text(a, "pragma journal_mode = memory"), "wal");
    sql_do(a, "pragma page_size = 1024; vacuum");
    cr_assert_eq(sql_int(a, "pragma page_size"), 4096);
    cr_assert_str_eq(sql_text(a, "pragma wal_checkpoint"), "0");
    cr_assert_str_eq(sql_text(a, "pragma wal_checkpoint(full)"), "0");
    cr_assert_str_eq(sql_text(a, "pragma wal_checkpoint(restart)"), "0");
    cr_assert_str_eq(sql_text(a, "pragma wal_checkpoint(truncate)"), "0");
    cr_assert_eq(sql_int(a, "pragma synchronous"), 2);
    sql_do(a, "insert into t values(1)");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 1);
    sql_close(a);
}

Test(stock, exclusive_mode_from_another_main_never_loses_a_write)
{
    /* M12: pragmas without a schema go around the PRAGMA hook */
    sqlite3 *m, *f;
    int rc;

    cr_assert_eq(sqlite3_open_v2(":memory:", &m,
                                 SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                                 "unix"),
                 SQLITE_OK);
    sql_do(m, "attach 'file:db?vfs=corallite&server=127.0.0.1:1' as r; create table r.q(v)");
    sql_rc(m, "pragma journal_mode = delete");
    sql_do(m, "insert into r.q values(1)");
    f = sql_open("db");
    cr_assert_eq(sql_int(f, "select count(*) from q"), 1);
    sql_rc(m, "pragma locking_mode = exclusive");
    rc = sql_rc(m, "insert into r.q values(2)");
    cr_assert_eq(sql_int(f, "select count(*) from q"), rc == SQLITE_OK ? 2 : 1);
    rc = sql_rc(m, "attach 'file:db2?vfs=corallite&server=127.0.0.1:1' as r2");
    rc = rc ? rc : sql_rc(m, "create table r2.q(v)");
    cr_assert_eq(mem_transactions("db2"), rc ? 0 : 1);
    sqlite3_close(m);
    sql_do(f, "insert into q values(3)");
    cr_assert_str_eq(sql_text(f, "pragma integrity_check"), "ok");
    sql_close(f);
}

Test(stock, the_file_methods_refuse_what_only_happens_outside_wal_mode)
{
    /* M12 */
    sqlite3 *a = sql_open("db");
    sqlite3_file *file, *wal;
    char bytes[4096] = {0};

    sql_do(a, "create table t(v)");
    sqlite3_file_control(a, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    sqlite3_file_control(a, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal);
    cr_assert_eq(file->pMethods->xLock(file, SQLITE_LOCK_SHARED), SQLITE_OK);
    cr_assert_eq(file->pMethods->xLock(file, SQLITE_LOCK_RESERVED), SQLITE_BUSY);
    cr_assert_eq(file->pMethods->xLock(file, SQLITE_LOCK_EXCLUSIVE), SQLITE_BUSY);
    cr_assert_eq(file->pMethods->xWrite(file, bytes, 100, 0), SQLITE_IOERR_LOCK);
    cr_assert_eq(file->pMethods->xTruncate(file, 0), SQLITE_IOERR_LOCK);
    cr_assert_eq(file->pMethods->xRead(file, bytes, 4096, 0), SQLITE_IOERR_READ);
    cr_assert_eq(file->pMethods->xRead(file, bytes, 100, 0), SQLITE_OK);
    cr_assert_eq(memcmp(bytes, "SQLite format 3", 16), 0);
    cr_assert_eq(wal->pMethods->xWrite(wal, bytes, 32, 0), SQLITE_IOERR_LOCK);
    sql_close(a);
}

Test(stock, immutable_is_one_state_for_good_and_nolock_is_refused)
{
    /* M12 */
    sqlite3 *a = sql_open("db"), *i;
    int rc;

    sql_do(a, "create table t(v); insert into t values(1)");
    i = sql_open_rc("db", "127.0.0.1:1", "&immutable=1", SQLITE_OPEN_READWRITE, &rc);
    cr_assert(i);
    sql_do(a, "insert into t values(2)");
    cr_assert_eq(sql_int(i, "select count(*) from t"), 1);
    cr_assert_eq(sql_rc(i, "insert into t values(3)"), SQLITE_READONLY);
    sql_close(i);
    cr_assert_null(sql_open_rc("db", "127.0.0.1:1", "&nolock=1", SQLITE_OPEN_READWRITE, &rc));
    cr_assert_eq(rc & 0xff, SQLITE_CANTOPEN);
    sql_close(a);
}

Test(stock, a_read_only_handle_reads_and_never_asks_for_the_lease)
{
    sqlite3 *a = sql_open("db"), *r;
    unsigned leads;
    int rc;

    sql_do(a, "create table t(v); insert into t values(1)");
    leads = mem_count.leads;
    r = sql_open_rc("db", "127.0.0.1:2", "&mode=ro", SQLITE_OPEN_READWRITE, &rc);
    cr_assert_eq(sql_int(r, "select v from t"), 1);
    sql_do(a, "update t set v = 2");
    cr_assert_eq(sql_int(r, "select v from t"), 2);
    cr_assert_eq(sql_rc(r, "update t set v = 3"), SQLITE_READONLY);
    cr_assert_eq(mem_count.leads, leads);
    sql_close(r);
    sql_close(a);
}

Test(stock, an_extension_can_be_loaded_on_a_connection_of_ours)
{
    /* SQLite asks the VFS of the main database for it */
    sqlite3 *a = sql_open("db");
    char *error = NULL;

    sqlite3_db_config(a, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
    cr_assert_eq(sqlite3_load_extension(a, "/nonexistent/thing", NULL, &error), SQLITE_ERROR);
    cr_assert(strstr(error, "cannot open shared object file"), "%s", error);
    sqlite3_free(error);
    sql_close(a);
}

Test(stock, synchronous_in_a_transaction_changes_nothing)
{
    /* SQLite refuses it there; taken for OFF, the COMMIT would wait for nothing */
    sqlite3 *a = sql_open("db");

    sql_do(a,
           "create table t(v); pragma synchronous = normal; pragma corallite_commit_timeout = 50");
    sql_do(a, "begin; insert into t values(1)");
    cr_assert_eq(sql_rc(a, "pragma synchronous = off"), SQLITE_ERROR);
    mem.freeze = true;
    cr_assert_eq(sql_rc(a, "commit"), SQLITE_IOERR_FSYNC);
    mem.freeze = false;
    sqlite3_close(a);
}

Test(stock, words_for_synchronous_mean_what_they_mean_to_sqlite)
{
    static const char *const off[] = {"off", "no", "false", "0", "7"}, *const normal[] = {"normal",
                                                                                          "on", "1",
                                                                                          "what"};
    sqlite3 *a = sql_open("db");
    char sql[100];

    sql_do(a, "create table t(v); pragma corallite_commit_timeout = 50");
    mem.receive = true; /* a majority of memories has it, no disk */
    for (int i = 0; i < 4; i++) {
        snprintf(sql, sizeof sql, "pragma synchronous = %s; pragma synchronous", normal[i]);
        sql_do(a, sql);
        cr_assert_eq(sql_int(a, "pragma synchronous"), 1, "%s", normal[i]);
        sql_do(a, "insert into t values(1)");
    }
    mem.receive = false;
    mem.freeze = true;
    for (int i = 0; i < 5; i++) {
        snprintf(sql, sizeof sql, "pragma synchronous = %s", off[i]);
        sql_do(a, sql);
        cr_assert_eq(sql_int(a, "pragma synchronous"), 0, "%s", off[i]);
        sql_do(a, "insert into t values(1)");
    }
    mem.freeze = false;
    sql_close(a);
}

Test(stock, what_is_asked_of_a_file_is_answered_as_for_a_file)
{
    sqlite3 *a = sql_open("db");
    sqlite3_int64 size = -1;
    int n = -1;

    sql_do(a, "create table t(v)");
    cr_assert_eq(sqlite3_file_control(a, "main", SQLITE_FCNTL_PERSIST_WAL, &n), SQLITE_OK);
    cr_assert_eq(n, 0);
    n = 1;
    cr_assert_eq(sqlite3_file_control(a, "main", SQLITE_FCNTL_PERSIST_WAL, &n), SQLITE_OK);
    n = -1;
    cr_assert_eq(sqlite3_file_control(a, "main", SQLITE_FCNTL_PERSIST_WAL, &n), SQLITE_OK);
    cr_assert_eq(n, 1);
    cr_assert_eq(sqlite3_file_control(a, "main", SQLITE_FCNTL_HAS_MOVED, &n), SQLITE_OK);
    cr_assert_eq(n, 0);
    cr_assert_eq(sqlite3_file_control(a, "main", SQLITE_FCNTL_MMAP_SIZE, &size), SQLITE_OK);
    cr_assert_eq(size, 0);
    cr_assert_eq(sqlite3_file_control(a, "main", SQLITE_FCNTL_LOCKSTATE, &n), SQLITE_OK);
    cr_assert_eq(n, SQLITE_LOCK_SHARED);
    cr_assert_eq(sqlite3_file_control(a, "main", 12345, &n), SQLITE_NOTFOUND);
    sql_close(a);
}

/* -- names ---------------------------------------------------------------------------------------
 */

static const char *why(const char *name, const char *server, const char *more, int flags, int code)
{
    static char out[1100];
    sqlite3 *m;
    int rc;

    cr_assert_null(sql_open_rc(name, server, more, flags | SQLITE_OPEN_READWRITE, &rc));
    cr_assert_eq(rc & 0xff, code);
    sqlite3_open(":memory:", &m);
    snprintf(out, sizeof out, "%s", sql_text(m, "select corallite_last_error()"));
    sqlite3_close(m);
    return out;
}

Test(stock, wrong_input_gets_a_sentence)
{
    cr_assert(strstr(why("nosuch", "h:1", "", 0, SQLITE_CANTOPEN), "no database nosuch"));
    cr_assert(strstr(why("nosuch", "h:1", "&mode=ro", SQLITE_OPEN_CREATE, SQLITE_CANTOPEN),
                     "no database nosuch"));
    cr_assert(strstr(why("nosuch", "h:1", "&create=0", SQLITE_OPEN_CREATE, SQLITE_CANTOPEN),
                     "may not create"));
    cr_assert(
        strstr(why("x/dev", "h:1", "", SQLITE_OPEN_CREATE, SQLITE_CANTOPEN), "no branch x/dev"));
    cr_assert(strstr(why("my%20shop", "h:1", "", SQLITE_OPEN_CREATE, SQLITE_CANTOPEN), "my-shop"));
    cr_assert(
        strstr(why("x", "h:1", "&colour=red", SQLITE_OPEN_CREATE, SQLITE_CANTOPEN), "known are"));
    cr_assert(strstr(why("x", "h:1", "&token=s", SQLITE_OPEN_CREATE, SQLITE_CANTOPEN),
                     "not in this version"));
    cr_assert(strstr(why("x", "h:1", "&create=1&mode=ro", SQLITE_OPEN_CREATE, SQLITE_CANTOPEN),
                     "contradict"));
    cr_assert(
        strstr(why("x", "h:1", "&staleness=1&staleness=2", SQLITE_OPEN_CREATE, SQLITE_CANTOPEN),
               "staleness= is there twice"));
    cr_assert(strstr(why("corallite://h:2/x/main", "h:1", "", SQLITE_OPEN_CREATE, SQLITE_CANTOPEN),
                     "are two"));
    cr_assert(strstr(why("corallite://h:1/x/main@0000000000001000", "h:1", "&at=latest",
                         SQLITE_OPEN_CREATE, SQLITE_CANTOPEN),
                     "are two"));
    cr_assert(strstr(why("x", "nowhere", "", SQLITE_OPEN_CREATE, SQLITE_CANTOPEN), "HOST:PORT"));
    mem.fail_open = CO_ERR_CONNECT;
    cr_assert(strstr(why("x", "h:1", "", SQLITE_OPEN_CREATE, SQLITE_CANTOPEN), "127.0.0.1:1"));
}

Test(stock, a_page_that_cannot_be_had_is_an_error_and_then_is_not)
{
    sqlite3 *a = sql_open("db"), *b;

    sql_do(a, "create table t(v); insert into t values(1)");
    b = sql_open_other("db");
    mem.fail_get = CO_ERR_CONNECT;
    cr_assert_eq(sql_rc(b, "select * from t") & 0xff, SQLITE_IOERR);
    cr_assert(strstr(sql_text(b, "select corallite_last_error()"), "does not answer"));
    mem.fail_get = 0;
    cr_assert_eq(sql_int(b, "select v from t"), 1);
    sql_close(a);
    sql_close(b);
}

Test(stock, the_file_name_is_the_identity)
{
    /* S17 */
    sqlite3 *a = sql_open("db");

    cr_assert_str_eq(sqlite3_db_filename(a, "main"), "corallite://127.0.0.1:1/db/main");
    sql_close(a);
}

Test(stock, the_status_pragmas_tell)
{
    sqlite3 *a = sql_open("db");

    sql_do(a, "create table t(v)");
    cr_assert(strstr(sql_text(a, "pragma corallite_status"), "role=writer"));
    cr_assert(strstr(sql_text(a, "pragma corallite_status"), "safekeeper_1_bytes_out="));
    cr_assert(strstr(sql_text(a, "pragma corallite_stats"), "commits=1"));
    cr_assert_eq(sql_int(a, "pragma corallite_commit_timeout"), 30000);
    cr_assert_eq(sql_int(a, "pragma corallite_commit_timeout = '2s'"), 2000);
    cr_assert_eq(sql_rc(a, "pragma corallite_commit_timeout = 'soon'"), SQLITE_ERROR);
    cr_assert_eq(sql_rc(a, "pragma corallite_nonsense"), SQLITE_ERROR);
    sql_close(a);
}

/* -- transactions --------------------------------------------------------------------------------
 */

Test(stock, a_commit_by_others_moves_data_version_and_an_own_one_does_not)
{
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    long long version;

    sql_do(a, "create table t(v)");
    version = sql_int(a, "pragma data_version");
    sql_do(a, "insert into t values(1)");
    sql_int(a, "select * from t");
    cr_assert_eq(sql_int(a, "pragma data_version"), version);
    sql_do(b, "insert into t values(1)");
    cr_assert_neq(sql_int(a, "pragma data_version"), version);
    sql_close(a);
    sql_close(b);
}

Test(stock, a_stale_deferred_writer_is_refused_as_in_sqlite)
{
    sqlite3 *a = sql_open("db"), *b = sql_open("db");

    sql_do(a, "create table t(v)");
    sqlite3_busy_timeout(b, 1000);
    sql_do(b, "begin");
    sql_int(b, "select count(*) from t");
    sql_do(a, "insert into t values(1)");
    cr_assert_eq(sql_rc(b, "insert into t values(2)"), SQLITE_BUSY_SNAPSHOT);
    sql_do(b, "rollback; insert into t values(2)");
    sql_close(a);
    sql_close(b);
}

Test(stock, the_database_attached_to_itself)
{
    sqlite3 *a = sql_open("db");

    sql_do(a, "create table t(v); insert into t values(1)");
    sql_do(a, "attach 'file:db?vfs=corallite&server=127.0.0.1:1' as again");
    cr_assert_eq(sql_int(a, "select count(*) from again.t"), 1);
    sql_do(a, "insert into t values(2)");
    cr_assert_eq(sql_int(a, "select count(*) from again.t"), 2);
    cr_assert_eq(sql_rc(a, "begin; insert into main.t values(3); insert into again.t values(4)") &
                     0xff,
                 SQLITE_BUSY);
    sql_do(a, "rollback; detach again");
    sql_close(a);
}

Test(stock, backup_both_ways)
{
    sqlite3 *a = sql_open("db"), *m, *c = sql_open("copy");
    sqlite3_backup *backup;

    sql_do(a, "create table t(v); with recursive s(i) as (select 1 union all select i+1 from s "
              "where i < 2000) insert into t select hex(randomblob(50)) from s");
    sqlite3_open_v2(":memory:", &m, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix");
    backup = sqlite3_backup_init(m, "main", a, "main");
    cr_assert_eq(sqlite3_backup_step(backup, -1), SQLITE_DONE);
    sqlite3_backup_finish(backup);
    cr_assert_eq(sql_int(m, "select count(*) from t"), 2000);
    backup = sqlite3_backup_init(c, "main", m, "main");
    cr_assert_eq(sqlite3_backup_step(backup, -1), SQLITE_DONE);
    sqlite3_backup_finish(backup);
    cr_assert_eq(sql_int(c, "select count(*) from t"), 2000);
    cr_assert_str_eq(sql_text(c, "pragma integrity_check"), "ok");
    sql_close(a);
    sql_close(m);
    sql_close(c);
}

Test(stock, shared_cache_works)
{
    int rc;
    sqlite3 *a = sql_open_rc("db", "127.0.0.1:1", "&cache=shared",
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &rc);
    sqlite3 *b = sql_open_rc("db", "127.0.0.1:1", "&cache=shared",
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &rc);

    sql_do(a, "create table t(v); insert into t values(1)");
    sql_do(b, "insert into t values(2)");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 2);
    sql_close(a);
    sql_do(b, "insert into t values(3)");
    sql_close(b);
}

Test(stock, a_super_journal_is_refused_with_a_sentence)
{
    /* M4: its name in the other journals would lead nowhere after a crash */
    sqlite3 *a = sql_open("db");
    char dir[] = "/tmp/corallite-sj-XXXXXX", sql[300];

    cr_assert(mkdtemp(dir));
    snprintf(sql, sizeof sql,
             "attach 'file:%s/1.db?vfs=unix' as one; attach 'file:%s/2.db?vfs=unix' as two;"
             "create table t(v); create table one.t(v); create table two.t(v)",
             dir, dir);
    sql_do(a, sql);
    sql_do(a, "begin; insert into main.t values(1); insert into one.t values(1); commit");
    cr_assert_eq(sql_rc(a, "begin; insert into main.t values(2); insert into one.t values(2); "
                           "insert into two.t values(2); commit") &
                     0xff,
                 SQLITE_CANTOPEN);
    if (!sqlite3_get_autocommit(a))
        sql_do(a, "rollback");
    cr_assert_eq(sql_int(a, "select count(*) from main.t"), 1);
    cr_assert_eq(sql_int(a, "select count(*) from two.t"), 0);
    sql_close(a);
    snprintf(sql, sizeof sql, "rm -r %s", dir);
    cr_assert_eq(system(sql), 0);
}

/* -- fork ----------------------------------------------------------------------------------------
 */

Test(stock, a_child_attaches_anew_and_cannot_go_on_with_its_parents_transaction)
{
    /* S15 */
    sqlite3 *a = sql_open("db");
    int status;
    pid_t pid;

    sql_do(a, "create table t(v); insert into t values(1)");
    sql_do(a, "begin; select * from t");
    pid = fork();
    if (pid == 0) {
        int bad = sql_rc(a, "select v, hex(randomblob(1)) from t, sqlite_master") == SQLITE_OK;

        sql_rc(a, "rollback");
        /* The transaction's pages may come from SQLite's own cache; it cannot write. */
        bad = sql_rc(a, "begin; select * from t; rollback") != SQLITE_OK;
        bad |= sql_int(a, "select count(*) from t") != 1;
        sqlite3_close(a);
        _exit(bad);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%x", status);
    sql_do(a, "insert into t values(2); commit");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 2);
    pid = fork();
    if (pid == 0) {
        int bad = sql_int(a, "select count(*) from t") != 2;

        sqlite3_close(a);
        _exit(bad);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%x", status);
    sql_close(a);
}

Test(stock, a_child_cannot_commit_what_its_parent_began)
{
    /* S15 */
    sqlite3 *a = sql_open("db");
    unsigned shipped;
    int status;
    pid_t pid;

    sql_do(a, "create table t(v)");
    sql_do(a, "begin immediate; insert into t values(1)");
    shipped = mem_count.appends;
    pid = fork();
    if (pid == 0) {
        int rc = sql_rc(a, "commit");

        _exit(rc == SQLITE_OK || mem_count.appends != shipped);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%x", status);
    sql_do(a, "commit");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 1);
    sql_close(a);
}

Test(stock, a_child_reads_on_in_the_state_of_an_immutable_handle)
{
    /* S15 */
    sqlite3 *a = sql_open("db"), *i;
    int status, rc;
    pid_t pid;

    sql_do(a, "create table t(v); insert into t values(1)");
    i = sql_open_rc("db", "127.0.0.1:1", "&immutable=1", SQLITE_OPEN_READWRITE, &rc);
    cr_assert_eq(sql_int(i, "select count(*) from t"), 1);
    sql_do(a, "insert into t values(2); create table u(v)");
    sqlite3_db_release_memory(i);
    pid = fork();
    if (pid == 0) {
        int bad = sql_int(i, "select count(*) from t") != 1;

        bad |= sql_rc(i, "insert into t values(3)") != SQLITE_READONLY;
        bad |= sql_rc(i, "pragma corallite_at = latest") != SQLITE_ERROR;
        bad |= sqlite3_close(i) != SQLITE_OK;
        _exit(bad);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%x", status);
    cr_assert_eq(sql_int(i, "select count(*) from t"), 1);
    sql_close(i);
    sql_close(a);
}
