/* test_commit_rules.c - rules M3, M4, M8 (codes), M10, S22: what COMMIT says and what is so. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "compute-vfs/commit.h"
#include "mem_backend.h"
#include "sql.h"
#include "tests/unit/slower.h"

TestSuite(commit, .init = sql_init, .timeout = 60);

static int no_region(sqlite3_file *file, int region, int bytes, int extend, volatile void **out);
static const sqlite3_io_methods *real_methods;
static sqlite3_io_methods patched;

static int no_region(sqlite3_file *file, int region, int bytes, int extend, volatile void **out)
{
    if (region == 0)
        return real_methods->xShmMap(file, region, bytes, extend, out);
    *out = NULL;
    return SQLITE_IOERR_NOMEM;
}

Test(commit, what_sqlite_rolls_back_after_the_commit_frame_was_never_shipped)
{
    /* M3 */
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    sqlite3_file *file;
    int rc;

    sql_do(a, "create table h(id integer primary key, pad); pragma cache_size = 100000");
    sqlite3_file_control(a, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    real_methods = file->pMethods;
    patched = *real_methods;
    patched.xShmMap = no_region;
    file->pMethods = &patched;
    rc = sql_rc(a, "with recursive s(i) as (select 0 union all select i+1 from s where i < 4999) "
                   "insert into h select i, zeroblob(3900) from s");
    file->pMethods = real_methods;
    cr_assert_neq(rc, SQLITE_OK);
    cr_assert_eq(mem_count.appends, 1);
    cr_assert_eq(sql_int(b, "select count(*) from h"), 0);
    cr_assert_eq(sql_int(a, "select count(*) from h"), 0);
    sql_do(a, "insert into h(pad) values(zeroblob(3900))");
    cr_assert_eq(sql_int(b, "select count(*) from h"), 1);
    cr_assert_str_eq(sql_text(b, "pragma integrity_check"), "ok");
    sql_close(a);
    sql_close(b);
}

static struct sql_thread *commit_frozen(sqlite3 *db, const char *sql)
{
    unsigned before = mem_count.appends;
    struct sql_thread *t;

    mem.freeze = true;
    t = sql_start(db, sql);
    SQL_UNTIL(mem_count.appends > before);
    cr_assert_gt(mem_count.appends, before);
    return t;
}

Test(commit, a_refusal_by_the_quorum_reaches_a_transaction_over_several_files)
{
    /* M4: SQLite ignores COMMIT_PHASETWO behind a super-journal */
    char dir[] = "/tmp/corallite-m4-XXXXXX", sql[400];
    sqlite3 *m, *f = sql_open("db");
    struct sql_thread *t;

    sql_do(f, "create table t(v)");
    cr_assert(mkdtemp(dir));
    snprintf(sql, sizeof sql, "file:%s/m1.db", dir);
    cr_assert_eq(sqlite3_open_v2(
                     sql, &m, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, "unix"),
                 SQLITE_OK);
    snprintf(sql, sizeof sql,
             "attach '%s/m2.db' as m2; attach 'file:db?vfs=corallite&server=127.0.0.1:1' as r;"
             "create table main.t(v); create table m2.t(v)",
             dir);
    sql_do(m, sql);
    t = commit_frozen(m, "begin; insert into main.t values(1); insert into m2.t values(1);"
                         "insert into r.t values(1); commit");
    mem_lose_term("db", 0);
    mem.freeze = false;
    cr_assert_eq(sql_join(t), SQLITE_IOERR_WRITE);
    if (!sqlite3_get_autocommit(m))
        sql_do(m, "rollback");
    cr_assert_eq(sql_int(f, "select count(*) from t"), 0);
    cr_assert_eq(sql_int(m, "select count(*) from main.t"), 0);
    sql_do(m, "begin; insert into main.t values(1); insert into m2.t values(1);"
              "insert into r.t values(1); commit");
    cr_assert_eq(sql_int(f, "select count(*) from t"), 1);
    sql_close(m);
    sql_close(f);
    snprintf(sql, sizeof sql, "rm -r %s", dir);
    cr_assert_eq(system(sql), 0);
}

Test(commit, a_lost_commit_is_ioerr_write_and_does_not_come_back)
{
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");
    struct sql_thread *t;

    sql_do(a, "create table t(v)");
    t = commit_frozen(a, "insert into t values(1)");
    mem_lose_term("db", 0);
    mem.freeze = false;
    cr_assert_eq(sql_join(t), SQLITE_IOERR_WRITE);
    cr_assert(strstr(sql_text(a, "select corallite_last_error()"), "is not in the database"));
    cr_assert_eq(sql_int(a, "select count(*) from t"), 0);
    cr_assert_eq(sql_int(b, "select count(*) from t"), 0);
    sql_do(a, "insert into t values(2)");
    cr_assert_eq(sql_int(b, "select count(*) from t"), 1);
    cr_assert_str_eq(sql_text(a, "pragma integrity_check"), "ok");
    sql_close(a);
    sql_close(b);
}

Test(commit, a_commit_that_the_new_term_kept_is_ok)
{
    sqlite3 *a = sql_open("db");
    struct sql_thread *t;

    sql_do(a, "create table t(v)");
    t = commit_frozen(a, "insert into t values(1)");
    mem_lose_term("db", 1);
    mem.freeze = false;
    cr_assert_eq(sql_join(t), SQLITE_OK);
    cr_assert_eq(sql_int(a, "select count(*) from t"), 1);
    sql_do(a, "insert into t values(2)");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 2);
    sql_close(a);
}

Test(commit, the_fate_of_a_lost_term_is_waited_for)
{
    sqlite3 *a = sql_open("db");
    struct sql_thread *t;

    sql_do(a, "create table t(v)");
    mem.hold_resolve = true;
    t = commit_frozen(a, "insert into t values(1)");
    mem_lose_term("db", 1);
    usleep(50000);
    mem_resolve("db");
    mem.freeze = false;
    cr_assert_eq(sql_join(t), SQLITE_OK);
    cr_assert_eq(sql_int(a, "select count(*) from t"), 1);
    sql_close(a);
}

Test(commit, unknown_names_an_id_that_can_be_asked_about)
{
    /* M8, M14 */
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    struct sql_thread *t, *u;
    char id[64], ask[200];
    uint64_t began;

    sql_do(a, "create table t(v)");
    sql_do(a, "pragma corallite_commit_timeout = 400");
    sqlite3_busy_timeout(b, 5000);
    mem.hold_resolve = true;
    began = co_now_us();
    t = commit_frozen(a, "insert into t values(1)");
    u = sql_start(b, "insert into t values(2)"); /* its own timeout is 30 s */
    cr_assert_eq(sql_join(t), SQLITE_IOERR_FSYNC);
    cr_assert_eq(sql_join(u), SQLITE_IOERR_FSYNC, "the whole pipeline is given up");
    cr_assert_lt(co_now_us() - began, 3000000 * slower());
    cr_assert_geq(co_now_us() - began, 390000);
    cr_assert_eq(mem_count.abandons, 1);
    snprintf(id, sizeof id, "%s", sql_text(a, "pragma corallite_last_commit"));
    cr_assert(strstr(sql_text(a, "select corallite_last_error()"), "corallite_commit_status"));
    mem.freeze = mem.hold_resolve = false;
    mem_resolve("db");
    snprintf(ask, sizeof ask, "select corallite_commit_status('%s')", id);
    cr_assert_str_eq(sql_text(a, ask), "not committed");
    sql_do(a, "insert into t values(3)");
    snprintf(ask, sizeof ask, "select corallite_commit_status('%s')",
             sql_text(a, "pragma corallite_last_commit"));
    cr_assert_str_eq(sql_text(a, ask), "committed");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 1);
    sql_close(a);
    sql_close(b);
}

/* Commits of others go on while `t`, whose time is 400 ms, waits; how long it took. */
static uint64_t beside_others(sqlite3 *other, struct sql_thread *t)
{
    uint64_t began = co_now_us();

    while (!sql_ended(t) && co_now_us() - began < 8000000) {
        /* It may be refused in the moment in which the other one's term is given up. */
        (void)sqlite3_exec(other, "insert into t values(2)", NULL, NULL, NULL);
        usleep(50000);
    }
    return co_now_us() - began;
}

Test(commit, what_a_later_term_commits_does_not_prolong_the_wait_for_the_fate_of_a_lost_one)
{
    /* Nobody may ever know it: the safekeepers keep no history so old. */
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    struct sql_thread *t;

    sql_do(a, "create table t(v); pragma corallite_commit_timeout = 400");
    mem.hold_resolve = true;
    t = commit_frozen(a, "insert into t values(1)");
    mem_lose_term("db", 0);
    mem.freeze = false;
    cr_assert_lt(beside_others(b, t), 4000000);
    cr_assert_eq(sql_join(t), SQLITE_IOERR_FSYNC);
    sql_close(a);
    sql_close(b);
}

Test(commit, what_memories_take_does_not_prolong_the_wait_for_disks)
{
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    struct sql_thread *t;

    sql_do(a, "create table t(v); pragma corallite_commit_timeout = 400");
    sql_do(b, "pragma synchronous = normal");
    mem.receive = true;
    t = commit_frozen(a, "insert into t values(1)");
    cr_assert_lt(beside_others(b, t), 4000000);
    mem.freeze = false;
    cr_assert_eq(sql_join(t), SQLITE_IOERR_FSYNC);
    sql_close(a);
    sql_close(b);
}

Test(commit, without_a_quorum_for_long_the_commit_frame_is_refused_cleanly)
{
    sqlite3 *a = sql_open("db");
    unsigned appends;

    sql_do(a, "create table t(v); insert into t values(1)");
    appends = mem_count.appends;
    mem.no_quorum_ms = 40000;
    cr_assert_eq(sql_rc(a, "insert into t values(2)"), SQLITE_IOERR_WRITE);
    cr_assert(strstr(sql_text(a, "select corallite_last_error()"), "majority"));
    cr_assert(strstr(sql_text(a, "select corallite_last_error()"), "safekeeper 2 at mem:2 (away)"));
    cr_assert_eq(mem_count.appends, appends);
    cr_assert_eq(sqlite3_get_autocommit(a), 1);
    mem.no_quorum_ms = 0;
    cr_assert_eq(sql_int(a, "select count(*) from t"), 1);
    sql_do(a, "insert into t values(2)");
    sql_close(a);
}

Test(commit, a_commit_that_returned_early_is_seen_by_every_connection_of_the_process)
{
    /* M10 */
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    uint64_t began;

    sql_do(a, "create table t(v); pragma synchronous = normal");
    mem.delay_us = 300000;
    mem.receive = true;
    began = co_now_us();
    sql_do(a, "insert into t values(1)");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 1, "its own connection at once");
    cr_assert_lt(co_now_us() - began, 200000 * slower(), "NORMAL waits for memory only");
    cr_assert_eq(sql_int(b, "select count(*) from t"), 1);
    cr_assert_geq(co_now_us() - began, 250000, "the other one when it is durable");
    mem.delay_us = 0;
    sql_do(b, "insert into t values(2)");
    sql_close(a);
    sql_close(b);
}

Test(commit, close_waits_for_what_returned_early)
{
    /* M10 */
    sqlite3 *a = sql_open("db"), *b = sql_open("db");

    sql_do(a, "create table t(v); pragma synchronous = off");
    mem.delay_us = 200000;
    sql_do(a, "insert into t values(1)");
    cr_assert_eq(mem_in_flight("db"), 1, "OFF waits for nothing");
    sql_close(a);
    cr_assert_eq(mem_in_flight("db"), 0);
    cr_assert_eq(mem_transactions("db"), 2);
    sql_close(b);
}

Test(commit, full_waits_for_disks_and_the_uri_can_say_otherwise)
{
    sqlite3 *a = sql_open("db"), *b;
    uint64_t began;
    int rc;

    sql_do(a, "create table t(v)");
    mem.delay_us = 150000;
    mem.receive = true;
    began = co_now_us();
    sql_do(a, "insert into t values(1)");
    cr_assert_geq(co_now_us() - began, 140000);
    sql_close(a);
    b = sql_open_rc("db", "127.0.0.1:1", "&durability=off", SQLITE_OPEN_READWRITE, &rc);
    cr_assert(b);
    began = co_now_us();
    sql_do(b, "insert into t values(2)");
    cr_assert_lt(co_now_us() - began, 100000 * slower());
    sql_close(b);
}

Test(commit, a_rolled_back_commit_leaves_nothing_to_wait_for)
{
    /* S22 */
    sqlite3 *a = sql_open("db");
    struct sql_thread *t;

    sql_do(a, "create table t(v)");
    t = commit_frozen(a, "insert into t values(1)");
    mem_lose_term("db", 0);
    mem.freeze = false;
    cr_assert_eq(sql_join(t), SQLITE_IOERR_WRITE);
    sql_do(a, "begin immediate; commit");
    sql_do(a, "begin immediate; rollback");
    sql_do(a, "begin immediate; insert into t values(1); commit");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 1);
    sql_close(a);
}

Test(commit, a_small_update_ships_a_delta)
{
    sqlite3 *a = sql_open("db");

    sql_do(a, "create table t(id integer primary key, v int, pad blob);"
              "with recursive s(i) as (select 1 union all select i+1 from s where i < 500) "
              "insert into t select i, 1000, randomblob(300) from s");
    sql_do(a, "update t set v = 1001 where id = 250");
    cr_assert_lt(mem_last_record_bytes("db"), 300);
    sql_close(a);
}

Test(commit, a_transaction_that_is_too_large_is_full_and_leaves_nothing)
{
    /* S10 */
    sqlite3 *a = sql_open("db");
    unsigned appends;

    sql_do(a, "create table t(v)");
    appends = mem_count.appends;
    cv_commit_max_bytes = 4 << 20;
    cr_assert_eq(sql_rc(a, "insert into t values(zeroblob(5000000))"), SQLITE_FULL);
    cr_assert(strstr(sql_text(a, "select corallite_last_error()"), "smaller parts"));
    cr_assert_eq(mem_count.appends, appends);
    cr_assert_eq(sql_int(a, "select count(*) from t"), 0);
    sql_do(a, "insert into t values(zeroblob(3000000))");
    cr_assert_eq(sql_int(a, "select length(v) from t"), 3000000);
    sql_close(a);
}

Test(commit, a_large_transaction_is_built_into_a_file)
{
    /* S10: what it leaves in memory is the knowledge of what changed; its content is the same. */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");
    char want[80];

    cv_commit_spill_bytes = 20000;
    sql_do(a, "pragma cache_size = 4; create table t(id integer primary key, v blob)");
    sql_do(a, "begin; with recursive s(i) as (select 1 union all select i+1 from s where i < 400) "
              "insert into t select i, randomblob(900) from s; commit");
    cr_assert_eq(mem_count.spilled, 1);
    cr_assert_str_eq(sql_text(b, "pragma integrity_check"), "ok");
    snprintf(want, sizeof want, "%s",
             sql_text(a, "select substr(hex(v), 1, 70) from t where id = 400"));
    cr_assert_str_eq(sql_text(b, "select substr(hex(v), 1, 70) from t where id = 400"), want);
    sql_do(b, "begin; update t set v = zeroblob(900); commit");
    cr_assert_eq(mem_count.spilled, 2, "of deltas, too");
    cr_assert_eq(sql_int(a, "select count(*) from t where v = zeroblob(900)"), 400);
    sql_do(a, "begin; update t set v = randomblob(900); rollback");
    cr_assert_eq(mem_count.spilled, 2);
    sql_close(a);
    sql_close(b);
}

Test(commit, later_writers_queue_behind_a_large_transaction_and_readers_go_on)
{
    sqlite3 *a = sql_open("db"), *b = sql_open("db"), *c = sql_open("db");
    struct sql_thread *t;

    sql_do(a, "create table t(v)");
    cv_commit_spill_bytes = 20000;
    t = commit_frozen(a, "insert into t values(zeroblob(60000))");
    cr_assert_eq(sql_rc(b, "insert into t values(2)"), SQLITE_BUSY);
    cr_assert_eq(sql_int(c, "select count(*) from t"), 0);
    mem.freeze = false;
    cr_assert_eq(sql_join(t), SQLITE_OK);
    sql_do(b, "insert into t values(2)");
    cr_assert_eq(sql_int(c, "select count(*) from t"), 2);
    sql_close(a);
    sql_close(b);
    sql_close(c);
}

Test(commit, a_large_transaction_that_is_lost_leaves_no_trace)
{
    sqlite3 *a = sql_open("db");
    struct sql_thread *t;

    sql_do(a, "create table t(v); insert into t values(1)");
    cv_commit_spill_bytes = 20000;
    t = commit_frozen(a, "insert into t values(zeroblob(60000))");
    mem_lose_term("db", 0);
    mem.freeze = false;
    cr_assert_eq(sql_join(t), SQLITE_IOERR_WRITE);
    cr_assert_eq(sql_int(a, "select count(*) from t"), 1);
    cr_assert_str_eq(sql_text(a, "pragma integrity_check"), "ok");
    sql_do(a, "insert into t values(zeroblob(60000))");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 2);
    sql_close(a);
}

Test(commit, each_step_of_a_commit_is_told_to_whom_asked)
{
    sqlite3 *a;
    char number[12], steps[20] = {0};
    int fds[2];

    cr_assert_eq(pipe(fds), 0);
    snprintf(number, sizeof number, "%d", fds[1]);
    setenv("CORALLITE_TRACE_FD", number, 1);
    a = sql_open("db");
    sql_do(a, "create table t(v)");
    cr_assert_eq(read(fds[0], steps, sizeof steps - 1), 4);
    cr_assert_str_eq(steps, "FSWR");
    sql_close(a);
}

Test(commit, the_last_frame_of_a_page_is_the_one_that_counts)
{
    /* the same page spilled, changed, rolled back to and written again */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");

    sql_do(a, "create table t(id integer primary key, v int, pad blob); pragma cache_size = 2;"
              "with recursive s(i) as (select 1 union all select i+1 from s where i < 300) "
              "insert into t select i, 0, zeroblob(400) from s");
    sql_do(a, "begin");
    for (int i = 0; i < 5; i++) {
        sql_do(a, "update t set v = v + 1, pad = randomblob(400)");
        sql_do(a, "savepoint s; update t set v = 1000, pad = zeroblob(400); rollback to s");
    }
    sql_do(a, "commit");
    cr_assert_eq(sql_int(b, "select sum(v) from t"), 1500);
    cr_assert_eq(sql_int(b, "select count(*) from t where pad = zeroblob(400)"), 0);
    cr_assert_str_eq(sql_text(b, "pragma integrity_check"), "ok");
    sql_close(a);
    sql_close(b);
}

/* A change of the schema is lost, and somebody else's gives the schema the same number. What SQLite
 * remembers of the lost one must not be taken for that. */
Test(commit, the_schema_of_a_lost_commit_is_forgotten)
{
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");
    char before[30];

    sql_do(a, "create table t(v, w); insert into t values(1, 2)");
    cr_assert_eq(sql_int(b, "select count(*) from t"), 1);
    for (int large = 0; large < 2; large++) {
        cv_commit_spill_bytes = large ? 600 : cv_commit_spill_bytes;
        mem.freeze = true;
        sql_do(a, "pragma synchronous = off");
        sql_do(a, large ? "begin; create index j on t(w); commit" : "create index i on t(v)");
        cr_assert_eq(sql_int(a, "select count(*) from t where v = 1"), 1);
        mem_lose_term("db", 0);
        mem.freeze = false;
        sql_do(b, large ? "create table y(x)" : "create table z(x)");
        snprintf(before, sizeof before, "%s", sql_text(b, "pragma schema_version"));
        sql_do(a, "pragma synchronous = full");
        sql_do(a, "insert into t values(2, 3)");
        cr_assert_eq(sql_int(a, "select count(*) from t where v > 0"), 2 + large);
        cr_assert_eq(sql_int(a, "select count(*) from sqlite_schema where type = 'index'"), 0);
        sql_do(a, large ? "insert into y values(1)" : "insert into z values(1)");
        /* Its commits leave the number as it is for others. */
        cr_assert_str_eq(sql_text(b, "pragma schema_version"), before);
        cr_assert_str_eq(sql_text(a, "pragma integrity_check"), "ok");
        cr_assert_str_eq(sql_text(b, "pragma integrity_check"), "ok");
        sql_do(a, large ? "create index n on y(x)" : "create index m on z(x)");
        cr_assert_eq(sql_int(b, "pragma schema_version"), atoi(before) + 1);
        sql_do(a, large ? "drop index n" : "drop index m");
        cr_assert_str_eq(sql_text(b, "pragma integrity_check"), "ok");
    }
    sql_close(a);
    sql_close(b);
}

Test(commit, a_database_that_is_made_again_has_no_mark)
{
    sqlite3 *a = sql_open("db"), *b;

    sql_do(a, "pragma synchronous = off");
    for (int i = 0; i < 3; i++) {
        mem.freeze = true;
        sql_do(a, "create table t(v)");
        mem_lose_term("db", 0);
        mem.freeze = false;
        cr_assert_eq(sql_int(a, "select count(*) from sqlite_schema"), 0);
    }
    sql_do(a, "pragma synchronous = full");
    sql_do(a, "create table t(v)");
    sql_do(a, "insert into t values(1)");
    b = sql_open_other("db");
    cr_assert_eq(sql_int(b, "pragma schema_version"), 1);
    cr_assert_eq(sql_int(a, "pragma schema_version"), 1);
    cr_assert_eq(sql_int(b, "select count(*) from t"), 1);
    sql_close(a);
    sql_close(b);
}
