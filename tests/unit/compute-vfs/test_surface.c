/* test_surface.c - what SQL can ask: PRAGMAs, functions, table-valued functions. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compute-vfs/database.h"
#include "mem_backend.h"
#include "sql.h"

TestSuite(surface, .init = sql_init, .timeout = 60);

static sqlite3 *with_commits(int n)
{
    sqlite3 *a = sql_open("db");

    sql_do(a, "create table t(v)");
    for (int i = 1; i < n; i++)
        sql_do(a, "insert into t values(randomblob(10))");
    return a;
}

/* -- corallite_log -------------------------------------------------------------------------------
 */

Test(surface, the_log_has_every_commit_newest_first)
{
    sqlite3 *a = with_commits(5);

    cr_assert_eq(sql_int(a, "select count(*) from corallite_log"), 5);
    cr_assert_str_eq(sql_text(a, "select lsn from corallite_log"),
                     sql_text(a, "pragma corallite_lsn"));
    cr_assert_eq(sql_int(a, "select group_concat(lsn) = (select group_concat(lsn) from "
                            "(select lsn from corallite_log order by lsn desc)) "
                            "from (select lsn from corallite_log)"),
                 1);
    cr_assert_eq(sql_int(a, "select count(*) from corallite_log where branch = 'main' and "
                            "db_pages = 2 and pages_changed between 1 and 2 and "
                            "time like '2%T%Z' and abs(julianday(time) - julianday()) < 0.01"),
                 5);
    cr_assert_eq(sql_int(a, "select count(*) from (select lsn from corallite_log order by lsn)"),
                 5);
    sql_close(a);
}

Test(surface, a_limit_costs_what_it_shows)
{
    sqlite3 *a = with_commits(1500);

    cr_assert_eq(sql_int(a, "select count(*) from (select * from corallite_log limit 5)"), 5);
    cr_assert_eq(mem_count.logs, 1);
    cr_assert_leq(mem_count.logged, 64);
    sql_text(a, "select lsn from corallite_log order by lsn desc limit 1");
    sql_text(a, "select lsn from corallite_log order by time desc limit 1");
    cr_assert_eq(mem_count.logs, 3, "its order is known");
    cr_assert_eq(sql_int(a, "select count(*) from corallite_log"), 1500);
    cr_assert_eq(sql_int(a, "select count(distinct lsn) from corallite_log"), 1500);
    sql_close(a);
}

Test(surface, bounds_on_lsn_and_time_are_used)
{
    sqlite3 *a = with_commits(600);
    char sql[200], lsn[20], time[40];
    unsigned logged;

    snprintf(lsn, sizeof lsn, "%s",
             sql_text(a, "select lsn from corallite_log limit 1 offset 500"));
    snprintf(time, sizeof time, "%s",
             sql_text(a, "select time from corallite_log limit 1 offset 10"));
    logged = mem_count.logged;
    snprintf(sql, sizeof sql, "select count(*) from corallite_log where lsn < '%s'", lsn);
    cr_assert_eq(sql_int(a, sql), 99);
    cr_assert_leq(mem_count.logged - logged, 99);
    snprintf(sql, sizeof sql, "select count(*) from corallite_log where lsn = '%s'", lsn);
    cr_assert_eq(sql_int(a, sql), 1);
    snprintf(sql, sizeof sql, "select count(*) from corallite_log where lsn >= '%s'", lsn);
    cr_assert_eq(sql_int(a, sql), 501);
    snprintf(sql, sizeof sql, "select count(*) from corallite_log where lsn > '%s'", lsn);
    cr_assert_eq(sql_int(a, sql), 500);
    snprintf(sql, sizeof sql, "select count(*) from corallite_log where lsn <= '%s'", lsn);
    cr_assert_eq(sql_int(a, sql), 100);
    logged = mem_count.logged;
    snprintf(sql, sizeof sql, "select count(*) from corallite_log where time >= '%s'", time);
    cr_assert_eq(sql_int(a, sql), 11);
    cr_assert_leq(mem_count.logged - logged, 64, "nothing older was asked for");
    cr_assert_eq(sql_int(a, "select count(*) from corallite_log where lsn < 5"), 600,
                 "a number is compared as text, by SQLite");
    cr_assert_eq(sql_int(a, "select count(*) from corallite_log where lsn < '0000000000000000'"),
                 0);
    sql_close(a);
}

Test(surface, the_log_of_a_branch_goes_on_in_its_parents)
{
    sqlite3 *a = with_commits(4), *d, *m;
    char lsn[60];

    mem_branch("db", "dev", mem_head("db"));
    sql_do(a, "insert into t values(1)");
    d = sql_open("db/dev");
    sql_do(d, "insert into t values(2); insert into t values(3)");
    cr_assert_eq(sql_int(d, "select count(*) from corallite_log"), 6);
    cr_assert_eq(sql_int(d, "select count(*) from corallite_log where branch = 'dev'"), 2);
    cr_assert_eq(sql_int(a, "select count(*) from corallite_log('main', 'dev')"), 6);
    cr_assert_eq(sql_int(a, "select count(*) from corallite_log('main', 'dev', '-1h')"), 0);
    sql_do(a, "attach 'file:db/dev?vfs=corallite&server=127.0.0.1:1' as other");
    cr_assert_eq(sql_int(a, "select count(*) from corallite_log('other')"), 6);
    cr_assert_eq(sql_int(a, "select count(*) from corallite_log"), 5);
    cr_assert_eq(sql_rc(a, "select * from corallite_log('temp')"), SQLITE_ERROR);
    cr_assert_eq(sql_rc(a, "select * from corallite_log('main', 'nosuch')"), SQLITE_ERROR);
    snprintf(lsn, sizeof lsn, "&at=%s",
             sql_text(a, "select lsn from corallite_log limit 1 "
                         "offset 2"));
    int rc;
    m = sql_open_rc("db", "127.0.0.1:1", lsn, SQLITE_OPEN_READWRITE, &rc);
    cr_assert_eq(sql_int(m, "select count(*) from corallite_log"), 3, "a moment has its past");
    sql_close(m);
    sql_close(d);
    sql_close(a);
}

Test(surface, a_database_that_does_not_exist_yet_has_no_history)
{
    sqlite3 *a = sql_open("db"), *m;

    cr_assert_eq(sql_int(a, "select count(*) from corallite_log"), 0);
    cr_assert_eq(sql_int(a, "select count(*) from corallite_branches"), 0);
    sqlite3_open_v2(":memory:", &m, SQLITE_OPEN_READWRITE, "unix");
    cr_assert_eq(sql_rc(m, "select * from corallite_log"), SQLITE_ERROR);
    cr_assert(strstr(sqlite3_errmsg(m), "no Corallite database"));
    sqlite3_close(m);
    sql_close(a);
}

/* -- corallite_branches --------------------------------------------------------------------------
 */

Test(surface, the_branches_are_listed_with_their_origin)
{
    sqlite3 *a = with_commits(3);
    char lsn[20];

    snprintf(lsn, sizeof lsn, "%016" PRIx64, mem_head("db"));
    mem_branch("db", "dev", mem_head("db"));
    cr_assert_eq(sql_int(a, "select count(*) from corallite_branches"), 2);
    cr_assert_str_eq(sql_text(a, "select parent from corallite_branches where name = 'dev'"),
                     "main");
    cr_assert_str_eq(sql_text(a, "select parent_lsn from corallite_branches where name = 'dev'"),
                     lsn);
    cr_assert_eq(sql_int(a, "select count(*) from corallite_branches('main') where parent is null "
                            "and parent_lsn is null and name = 'main' and sealed = 0 and "
                            "page_size = 4096 and expires is null and length(timeline) = 32"),
                 1);
    cr_assert_eq(sql_rc(a, "select * from corallite_branches('nosuch')"), SQLITE_ERROR);
    sql_close(a);
}

/* -- functions and PRAGMAs -----------------------------------------------------------------------
 */

Test(surface, wait_returns_once_a_commit_of_somebody_else_is_seen)
{
    int rc;
    sqlite3 *a = with_commits(2);
    sqlite3 *b = sql_open_rc("db", "127.0.0.1:2", "&staleness=1h", SQLITE_OPEN_READWRITE, &rc);
    char sql[100];

    cr_assert_eq(sql_int(b, "select count(*) from t"), 1);
    sql_do(a, "insert into t values(5)");
    cr_assert_eq(sql_int(b, "select count(*) from t"), 1, "stale, as it wants to be");
    snprintf(sql, sizeof sql, "select corallite_wait('%s')", sql_text(a, "pragma corallite_lsn"));
    cr_assert_eq(strlen(sql_text(b, sql)), 16);
    cr_assert_eq(sql_int(b, "select count(*) from t"), 2);
    cr_assert_eq(sql_rc(b, "select corallite_wait('00000000ffffffff', 30)"), SQLITE_ERROR);
    cr_assert(strstr(sqlite3_errmsg(b), "was not there within 30 ms"), "%s", sqlite3_errmsg(b));
    cr_assert_eq(sql_rc(b, "select corallite_wait('soon')"), SQLITE_ERROR);
    cr_assert_eq(sql_rc(b, "select corallite_wait('1000', -1)"), SQLITE_ERROR);
    sql_close(b);
    sql_close(a);
}

Test(surface, wait_takes_the_id_of_a_commit)
{
    int rc;
    sqlite3 *a = with_commits(2);
    sqlite3 *b = sql_open_rc("db", "127.0.0.1:2", "&staleness=1h", SQLITE_OPEN_READWRITE, &rc);
    char sql[100], id[60];

    cr_assert_eq(sql_int(b, "select count(*) from t"), 1);
    sql_do(a, "insert into t values(5)");
    snprintf(id, sizeof id, "%s", sql_text(a, "pragma corallite_last_commit"));
    snprintf(sql, sizeof sql, "select corallite_wait('%s')", id);
    cr_assert_str_eq(sql_text(b, sql), id);
    cr_assert_eq(sql_int(b, "select count(*) from t"), 2);
    /* The same place in a term that never wrote there. */
    snprintf(sql, sizeof sql, "select corallite_wait('9%s', 30)", id);
    cr_assert_eq(sql_rc(b, sql), SQLITE_ERROR);
    cr_assert(strstr(sqlite3_errmsg(b), "in the database"), "%s", sqlite3_errmsg(b));
    cr_assert_eq(sql_rc(b, "select corallite_wait('7:00000000ffffff00', 30)"), SQLITE_ERROR);
    cr_assert_eq(sql_rc(b, "select corallite_wait('seven:0000000000001000')"), SQLITE_ERROR);
    sql_close(b);
    sql_close(a);
}

static long long stat_of(sqlite3 *db, const char *name)
{
    char sql[100];
    const char *text = sql_text(db, "pragma corallite_stats"), *at;

    snprintf(sql, sizeof sql, "%s=", name);
    at = strstr(text, sql);
    cr_assert(at, "%s in %s", name, text);
    return atoll(at + strlen(sql));
}

Test(surface, stats_count_from_the_last_reset)
{
    sqlite3 *a;

    mem.delay_us = 5000; /* so that there is something to wait for */
    a = with_commits(4);
    cr_assert_eq(stat_of(a, "commits"), 4);
    cr_assert_gt(stat_of(a, "waits_for_commit"), 0);
    cr_assert_gt(stat_of(a, "waits_for_lease"), 0);
    cr_assert_gt(stat_of(a, "cache_pages"), 0);
    sql_do(a, "pragma corallite_stats = reset");
    cr_assert_eq(stat_of(a, "commits"), 0);
    cr_assert_eq(stat_of(a, "waits_for_commit"), 0);
    cr_assert_gt(stat_of(a, "cache_pages"), 0, "a gauge stays");
    cr_assert_eq(stat_of(a, "safekeepers_connected"), 3);
    sql_do(a, "insert into t values(1)");
    cr_assert_eq(stat_of(a, "commits"), 1);
    cr_assert_eq(sql_rc(a, "pragma corallite_stats = nothing"), SQLITE_ERROR);
    sql_close(a);
}

Test(surface, the_status_of_a_moment_tells_it)
{
    sqlite3 *a = with_commits(2), *m;
    int rc;

    m = sql_open_rc("db", "127.0.0.1:1", "&at=latest", SQLITE_OPEN_READWRITE, &rc);
    cr_assert(strstr(sql_text(m, "pragma corallite_status"), "\nat_time=2"));
    cr_assert(strstr(sql_text(m, "pragma corallite_status"), "branch=main"));
    cr_assert_null(strstr(sql_text(a, "pragma corallite_status"), "\nat="));
    sql_close(m);
    sql_close(a);
}
