/* test_moments.c - at= and PRAGMA corallite_at, branches, restored and dropped ones. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compute-vfs/database.h"
#include "mem_backend.h"
#include "sql.h"

TestSuite(moments, .init = sql_init, .timeout = 60);

#define HERE "127.0.0.1:1"
#define RW   (SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)

/* "&at=lsn:..." of an LSN. */
static const char *at_lsn(lsn_t lsn)
{
    static char text[60];

    snprintf(text, sizeof text, "&at=lsn:%016" PRIx64, lsn);
    return text;
}

static sqlite3 *open_at(const char *name, const char *server, const char *more)
{
    int rc;
    sqlite3 *db = sql_open_rc(name, server, more, RW, &rc);

    cr_assert(db, "open %s%s: %d", name, more, rc);
    return db;
}

/* A database with v = 1..n, one commit each; lsns[i] is the end of the commit of i (0: the schema).
 */
static sqlite3 *make(int n, lsn_t lsns[])
{
    sqlite3 *a = sql_open("db");
    char sql[80];

    sql_do(a, "create table t(v integer primary key, pad); insert into t values(0, 'x')");
    lsns[0] = mem_head("db");
    for (int i = 1; i <= n; i++) {
        snprintf(sql, sizeof sql, "insert into t values(%d, zeroblob(1500))", i);
        sql_do(a, sql);
        lsns[i] = mem_head("db");
    }
    return a;
}

static const char *last_error(sqlite3 *db)
{
    return sql_text(db, "select corallite_last_error()");
}

/* -- opening -------------------------------------------------------------------------------------
 */

Test(moments, every_commit_can_be_opened_and_stays_what_it_was)
{
    lsn_t lsns[11];
    sqlite3 *a = make(10, lsns), *m[11];

    for (int i = 0; i <= 10; i++)
        m[i] = open_at("db", i % 2 ? HERE : "127.0.0.1:2", at_lsn(lsns[i]));
    sql_do(a, "delete from t; vacuum; create table later(x)");
    for (int i = 0; i <= 10; i++) {
        cr_expect_eq(sql_int(m[i], "select count(*) from t"), i + 1);
        cr_expect_eq(sql_int(m[i], "select max(v) from t"), i);
        cr_expect_eq(sql_int(m[i], "select count(*) from sqlite_master"), 1);
        cr_expect_str_eq(sql_text(m[i], "pragma integrity_check"), "ok");
        sql_close(m[i]);
    }
    sql_close(a);
}

Test(moments, a_moment_is_read_only_and_never_asks_for_the_lease)
{
    lsn_t lsns[3];
    sqlite3 *a = make(2, lsns), *m = open_at("db", HERE, at_lsn(lsns[1]));
    unsigned leads = mem_count.leads;

    cr_assert_eq(sqlite3_db_readonly(m, "main"), 1);
    cr_assert_eq(sql_rc(m, "insert into t values(9, 9)"), SQLITE_READONLY);
    sql_do(m, "begin immediate; select * from t; commit"); /* SQLite makes it a read */
    cr_assert_eq(sql_int(m, "select count(*) from t"), 2);
    cr_assert_eq(mem_count.leads, leads);
    sql_close(m);
    sql_close(a);
}

Test(moments, times_and_pins_are_resolved_once)
{
    lsn_t lsns[3];
    sqlite3 *a = make(2, lsns), *m;

    mem_pin("db", "monday", lsns[1]);
    m = open_at("db", HERE, "&at=pin:monday");
    cr_assert_eq(sql_int(m, "select count(*) from t"), 2);
    sql_close(m);
    m = open_at("db", HERE, "&at=latest");
    sql_do(a, "insert into t values(3, 'x')");
    cr_assert_eq(sql_int(m, "select count(*) from t"), 3, "latest was what it was at the open");
    sql_close(m);
    m = open_at("db", HERE, "&at=1%20hour%20ago");
    cr_assert_eq(sql_int(m, "select count(*) from sqlite_master"), 0, "it did not exist then");
    cr_assert_eq(sql_int(m, "pragma page_count"), 0);
    cr_assert_str_eq(sql_text(m, "pragma corallite_lsn"), "0000000000000000");
    cr_assert_neq(sql_rc(m, "create table x(y)"), SQLITE_OK);
    sql_close(m);
    sql_close(a);
}

Test(moments, a_moment_that_cannot_be_is_told_at_open)
{
    lsn_t lsns[2];
    sqlite3 *a = make(1, lsns);
    int rc;

    cr_assert_null(sql_open_rc("db", HERE, "&at=yesteryear", RW, &rc));
    cr_assert_eq(rc & 0xff, SQLITE_CANTOPEN);
    cr_assert(strstr(last_error(a), "no moment"));
    cr_assert_null(sql_open_rc("db", HERE, "&at=pin:none", RW, &rc));
    cr_assert(strstr(last_error(a), "no pin none"));
    cr_assert_null(sql_open_rc("db", HERE, at_lsn(lsns[1] + 80000), RW, &rc));
    cr_assert_null(sql_open_rc("nosuch", HERE, "&at=-1m", RW, &rc));
    cr_assert_eq(rc & 0xff, SQLITE_CANTOPEN);
    cr_assert_null(sql_open_rc("db", HERE, "&at=", RW, &rc));
    cr_assert(strstr(last_error(a), "at= is empty"));
    cr_assert(!mem_exists("nosuch"), "a moment never creates");
    sql_close(a);
}

Test(moments, two_moments_of_one_branch_are_two_files_to_the_shared_cache)
{
    /* S17 */
    lsn_t lsns[3];
    sqlite3 *a = make(2, lsns), *one, *two, *again;
    char more[100];

    snprintf(more, sizeof more, "&cache=shared%s", at_lsn(lsns[0]));
    one = open_at("db", HERE, more);
    snprintf(more, sizeof more, "&cache=shared%s", at_lsn(lsns[1]));
    two = open_at("db", HERE, more);
    again = open_at("db", HERE, more);
    cr_assert_eq(sql_int(one, "select count(*) from t"), 1);
    cr_assert_eq(sql_int(two, "select count(*) from t"), 2);
    cr_assert_eq(sql_int(again, "select count(*) from t"), 2);
    cr_assert_str_eq(sqlite3_db_filename(two, "main"), sqlite3_db_filename(again, "main"));
    cr_assert_str_neq(sqlite3_db_filename(one, "main"), sqlite3_db_filename(two, "main"));
    cr_assert_eq(sql_rc(two, "pragma corallite_at = 'latest'"), SQLITE_ERROR,
                 "it would move the other one too");
    sql_close(one);
    sql_close(two);
    sql_close(again);
    sql_close(a);
}

Test(moments, moments_and_branches_are_attached_beside_each_other)
{
    lsn_t lsns[4];
    sqlite3 *a = make(3, lsns);
    char sql[200];

    mem_branch("db", "dev", lsns[1]);
    snprintf(sql, sizeof sql, "attach 'file:db?vfs=corallite&server=" HERE "%s' as before",
             at_lsn(lsns[2]));
    sql_do(a, sql);
    sql_do(a, "attach 'file:db/dev?vfs=corallite&server=" HERE "' as dev");
    sql_do(a, "attach 'file:plain?mode=memory&vfs=unix' as plain");
    sql_do(a, "create table plain.t(v, pad); insert into plain.t select * from before.t");
    cr_assert_eq(sql_int(a, "select v from main.t except select v from before.t"), 3);
    cr_assert_eq(sql_int(a, "select count(*) from dev.t"), 2);
    cr_assert_eq(sql_int(a, "select count(*) from plain.t"), 3);
    sql_do(a, "insert into dev.t values(77, 'x'); insert into main.t values(4, 'y')");
    cr_assert_eq(sql_int(a, "select count(*) from before.t"), 3);
    cr_assert_eq(sql_int(a, "select count(*) from dev.t"), 3);
    cr_assert_eq(sql_int(a, "select count(*) from main.t where v = 77"), 0);
    cr_assert_eq(sql_rc(a, "insert into before.t values(5, 5)"), SQLITE_READONLY);
    sql_close(a);
}

Test(moments, a_moment_shares_the_cache_of_its_branch)
{
    lsn_t lsns[4];
    sqlite3 *a = make(3, lsns), *m;
    unsigned gets;

    sql_int(a, "select sum(length(pad)) from t");
    gets = mem_count.gets;
    m = open_at("db", HERE, at_lsn(lsns[3]));
    cr_assert_eq(sql_int(m, "select count(*) from t"), 4);
    cr_assert_eq(mem_count.gets, gets, "every page was there");
    sql_close(m);
    m = open_at("db", HERE, at_lsn(lsns[2]));
    cr_assert_eq(sql_int(m, "select sum(v) from t"), 3);
    sql_close(m);
    gets = mem_count.gets;
    m = open_at("db", HERE, at_lsn(lsns[2]));
    cr_assert_eq(sql_int(m, "select sum(v) from t"), 3);
    cr_assert_eq(mem_count.gets, gets, "what one handle fetched serves the next");
    sql_close(m);
    sql_close(a);
}

Test(moments, what_others_wrote_up_to_the_moment_is_never_an_older_page_of_the_cache)
{
    /* An open version stands for what the process knows: a moment beyond that makes it learn. */
    lsn_t lsns[3];
    sqlite3 *a = make(2, lsns), *b = sql_open_other("db"), *m;

    cr_assert_eq(sql_int(a, "select count(*) from t"), 3);
    sql_do(b, "insert into t values(50, zeroblob(3000)); delete from t where v = 1");
    m = open_at("db", HERE, "&at=latest");
    cr_assert_eq(sql_int(m, "select count(*) from t"), 3);
    cr_assert_eq(sql_int(m, "select max(v) from t"), 50);
    cr_assert_eq(sql_int(a, "select max(v) from t"), 50);
    sql_close(m);
    sql_close(b);
    sql_close(a);
}

Test(moments, history_is_read_without_a_quorum)
{
    lsn_t lsns[4];
    sqlite3 *m;

    sql_close(make(3, lsns));
    mem.refuse = true;
    m = open_at("db", HERE, at_lsn(lsns[1]));
    cr_assert_eq(sql_int(m, "select count(*) from t"), 2);
    sql_close(m);
}

Test(moments, a_forked_child_stands_at_the_same_moment)
{
    /* S15 */
    lsn_t lsns[3];
    sqlite3 *a = make(2, lsns), *m = open_at("db", HERE, at_lsn(lsns[1]));
    int status;
    pid_t pid;

    cr_assert_eq(sql_int(m, "select count(*) from t"), 2);
    pid = fork();
    if (pid == 0)
        _exit(sql_int(m, "select count(*) from t") != 2);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%x", status);
    mem_restore("db", lsns[0], "kept");
    pid = fork();
    if (pid == 0) {
        int rc = sql_rc(m, "select count(*) from t where v >= 0") & 0xff;

        _exit(rc != SQLITE_IOERR || !strstr(last_error(m), "branch was reset, reopen"));
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%x", status);
    cr_assert_eq(sql_int(m, "select count(*) from t"), 2, "the parent reads on");
    sql_close(m);
    sql_close(a);
}

Test(moments, a_commit_in_flight_is_in_no_moment)
{
    /* Its LSN may come to hold another record (M8). */
    lsn_t lsns[3], head;
    sqlite3 *a = make(2, lsns), *b, *m;

    mem.freeze = true;
    sql_do(a, "pragma synchronous = off; insert into t values(60, 'lost')");
    mem_lose_term("db", 0);
    mem.freeze = false;
    b = sql_open_other("db");
    sql_do(b, "insert into t values(61, 'kept')");
    head = mem_head("db");
    m = open_at("db", HERE, at_lsn(head));
    cr_assert_eq(sql_int(m, "select max(v) from t"), 61);
    cr_assert_eq(sql_int(m, "select count(*) from t where v = 60"), 0);
    sql_close(m);
    sql_close(b);
    sql_close(a);
}

/* -- PRAGMA corallite_at -------------------------------------------------------------------------
 */

static int move(sqlite3 *db, lsn_t lsn)
{
    char sql[80];

    snprintf(sql, sizeof sql, "pragma corallite_at = 'lsn:%016" PRIx64 "'", lsn);
    return sql_rc(db, sql);
}

Test(moments, a_reading_handle_moves_between_moments)
{
    lsn_t lsns[4];
    sqlite3 *a = make(3, lsns), *m = open_at("db", HERE, at_lsn(lsns[1]));

    for (int i = 0; i < 12; i++) {
        cr_assert_eq(move(m, lsns[i % 4]), SQLITE_OK);
        cr_assert_eq(sql_int(m, "select count(*) from t"), i % 4 + 1);
    }
    sql_do(a, "alter table t add column more default 'm'");
    cr_assert_eq(sql_rc(m, "pragma corallite_at = 'latest'"), SQLITE_OK);
    cr_assert_str_eq(sql_text(m, "select more from t"), "m");
    cr_assert_eq(move(m, lsns[0]), SQLITE_OK);
    cr_assert_str_eq(sql_text(m, "select more from t"), "ERROR 1", "no such column then");
    cr_assert_eq(sql_rc(m, "pragma corallite_at = '-1h'"), SQLITE_OK);
    cr_assert_eq(sql_int(m, "select count(*) from sqlite_master"), 0);
    cr_assert_eq(move(m, lsns[2]), SQLITE_OK);
    cr_assert_eq(sql_int(m, "select count(*) from t"), 3);
    sql_close(m);
    sql_close(a);
}

Test(moments, a_read_only_handle_leaves_the_head_and_comes_back)
{
    lsn_t lsns[3];
    sqlite3 *a = make(2, lsns), *r = open_at("db", "127.0.0.1:2", "&mode=ro");

    cr_assert_str_eq(sql_text(r, "pragma corallite_at"), "latest");
    cr_assert_eq(move(r, lsns[0]), SQLITE_OK);
    cr_assert_eq(sql_int(r, "select count(*) from t"), 1);
    cr_assert_eq(strlen(sql_text(r, "pragma corallite_at")), 16);
    cr_assert_str_eq(sql_text(r, "pragma corallite_at = latest"), "latest");
    sql_do(a, "insert into t values(3, 'x')");
    cr_assert_eq(sql_int(r, "select count(*) from t"), 4, "it follows the head again");
    sql_close(r);
    sql_close(a);
}

Test(moments, nobody_moves_within_a_transaction_nor_with_the_right_to_write)
{
    lsn_t lsns[3];
    sqlite3 *a = make(2, lsns), *m = open_at("db", HERE, at_lsn(lsns[1]));
    sqlite3_stmt *stmt;

    cr_assert_eq(move(a, lsns[0]), SQLITE_ERROR);
    cr_assert(strstr(last_error(a), "mode=ro"));
    sql_do(m, "begin");
    cr_assert_eq(move(m, lsns[0]), SQLITE_ERROR);
    cr_assert(strstr(last_error(m), "a transaction sees one moment"));
    sql_do(m, "commit");
    cr_assert_eq(sqlite3_prepare_v2(m, "select v from t", -1, &stmt, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_step(stmt), SQLITE_ROW);
    cr_assert_eq(move(m, lsns[0]), SQLITE_ERROR);
    sqlite3_finalize(stmt);
    cr_assert_eq(sql_int(m, "select count(*) from t"), 2);
    cr_assert_eq(move(m, lsns[2] + 80000), SQLITE_ERROR);
    cr_assert_eq(sql_int(m, "select count(*) from t"), 2, "it stands where it stood");
    sql_close(m);
    sql_close(a);
}

/* -- branches ------------------------------------------------------------------------------------
 */

Test(moments, a_branch_goes_its_own_way)
{
    lsn_t lsns[3];
    sqlite3 *a = make(2, lsns), *d, *m;

    mem_branch("db", "dev", lsns[1]);
    d = sql_open("db/dev");
    cr_assert_str_eq(sql_text(d, "pragma corallite_branch"), "dev");
    cr_assert_str_eq(sql_text(a, "pragma corallite_branch"), "main");
    cr_assert_eq(sql_int(d, "select count(*) from t"), 2);
    sql_do(d, "insert into t values(70, 'dev'); delete from t where v = 0");
    sql_do(a, "insert into t values(3, 'main')");
    cr_assert_eq(sql_int(d, "select count(*) from t"), 2);
    cr_assert_eq(sql_int(a, "select count(*) from t"), 4);
    m = open_at("db/dev", HERE, at_lsn(lsns[0]));
    cr_assert_eq(sql_int(m, "select count(*) from t"), 1, "a moment before the branch");
    sql_close(m);
    m = open_at("db/dev", HERE, at_lsn(lsns[1]));
    cr_assert_eq(sql_int(m, "select count(*) from t"), 2, "the branch point");
    sql_close(m);
    sql_close(d);
    sql_close(a);
}

Test(moments, a_branch_that_is_not_there_is_no_new_one)
{
    int rc;
    lsn_t lsns[2];
    sqlite3 *a = make(1, lsns);

    cr_assert_null(sql_open_rc("db/nosuch", HERE, "", RW, &rc));
    cr_assert_eq(rc & 0xff, SQLITE_CANTOPEN);
    cr_assert(strstr(last_error(a), "no branch db/nosuch"));
    sql_close(a);
}

Test(moments, after_a_reset_open_handles_read_on_and_cannot_write)
{
    /* S14 */
    lsn_t lsns[4];
    sqlite3 *a = make(3, lsns), *m = open_at("db", HERE, at_lsn(lsns[2])), *b, *kept;
    int rc;

    mem_restore("db", lsns[1], "before");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 4, "still what was there");
    cr_assert_eq(sql_rc(a, "insert into t values(9, 9)"), SQLITE_READONLY);
    cr_assert(strstr(last_error(a), "branch was reset, reopen"), "%s", last_error(a));
    cr_assert_eq(sql_int(a, "select count(*) from t"), 4);
    cr_assert_eq(sql_int(m, "select count(*) from t"), 3);
    cr_assert_eq(move(m, lsns[0]), SQLITE_ERROR);
    cr_assert(strstr(last_error(m), "branch was reset, reopen"));
    b = sql_open("db");
    cr_assert_eq(sql_int(b, "select count(*) from t"), 2);
    sql_do(b, "insert into t values(100, 'new')");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 4);
    kept = sql_open_rc("db/before", HERE, "", RW, &rc);
    cr_assert_eq(sqlite3_db_readonly(kept, "main"), 1);
    cr_assert_eq(sql_int(kept, "select count(*) from t"), 4);
    sql_close(kept);
    sql_close(b);
    sql_close(m);
    sql_close(a);
}

Test(moments, a_dropped_branch_fails_at_the_next_transaction_with_a_sentence)
{
    /* S14 */
    lsn_t lsns[3];
    sqlite3 *a = make(2, lsns), *d;

    mem_branch("db", "dev", lsns[2]);
    d = sql_open("db/dev");
    sql_do(d, "begin");
    cr_assert_eq(sql_int(d, "select count(*) from t"), 3);
    mem_drop("db/dev");
    cr_assert_eq(sql_int(d, "select count(*) from t"), 3, "its snapshot stays");
    sql_do(d, "commit");
    cr_assert_eq(sql_rc(d, "select count(*) from t") & 0xff, SQLITE_IOERR);
    cr_assert(strstr(last_error(d), "dropped"));
    cr_assert_eq(sql_int(a, "select count(*) from t"), 3);
    sql_close(d);
    sql_close(a);
}
