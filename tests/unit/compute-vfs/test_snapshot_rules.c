/* test_snapshot_rules.c - rules M1, M2, M5, M7, M8, M13: what a transaction sees. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "compute-vfs/commit.h"
#include "mem_backend.h"
#include "sql.h"
#include "tests/unit/slower.h"

TestSuite(snapshot, .init = sql_init, .timeout = 60);

#define BIG                                                                                        \
    "create table big(id integer primary key, v int, pad blob);"                                   \
    "with recursive s(i) as (select 1 union all select i+1 from s where i < 1000) "                \
    "insert into big select i, 0, randomblob(300) from s;"

/* A commit of `db` that is shipped and waits for the quorum. */
static struct sql_thread *start_commit(sqlite3 *db, const char *sql)
{
    struct sql_thread *t;
    unsigned before = mem_count.appends;

    mem.freeze = true;
    t = sql_start(db, sql);
    SQL_UNTIL(mem_count.appends > before);
    cr_assert_gt(mem_count.appends, before);
    return t;
}

static void let_go(struct sql_thread *t, int expected)
{
    mem.freeze = false;
    cr_assert_eq(sql_join(t), expected);
}

Test(snapshot, a_write_transaction_that_spills_goes_on_reading_the_tip)
{
    /* M1 */
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    struct sql_thread *t;

    sql_do(a, BIG "create table other(v); insert into other values(1);");
    sql_do(b, "pragma cache_size = 10; select count(*) from big");
    sqlite3_busy_timeout(b, 5000);
    t = start_commit(a, "update other set v = 2; ");
    sql_do(b, "begin immediate");
    sql_do(b, "update big set v = v + 1, pad = randomblob(300)");
    cr_assert_eq(sql_int(b, "select v from other"), 2, "the tip, not the visible LSN");
    let_go(t, SQLITE_OK);
    sql_do(b, "commit");
    cr_assert_str_eq(sql_text(a, "pragma integrity_check"), "ok");
    cr_assert_eq(sql_int(a, "select sum(v) from big"), 1000);
    cr_assert_eq(sql_int(a, "select v from other"), 2);
    sql_close(a);
    sql_close(b);
}

Test(snapshot, a_write_after_a_foreign_commit_is_refused_while_the_old_select_is_open)
{
    /* M2: no lost update */
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    sqlite3_stmt *open;

    sql_do(a, "create table k(a integer primary key, b, pad);"
              "insert into k values(1,0,randomblob(3000)),(2,0,randomblob(3000)),"
              "(3,0,randomblob(3000)),(4,0,randomblob(3000))");
    sqlite3_prepare_v2(a, "select a, b from k", -1, &open, NULL);
    cr_assert_eq(sqlite3_step(open), SQLITE_ROW);
    sql_do(a, "update k set b = b + 1 where a = 1");
    sql_do(b, "update k set b = b + 100 where a = 2");
    cr_assert_eq(sqlite3_step(open), SQLITE_ROW);
    cr_assert_eq(sqlite3_column_int(open, 1), 0, "the open SELECT keeps its snapshot");
    cr_assert_eq(sql_rc(a, "update k set b = b + 1 where a = 2"), SQLITE_BUSY_SNAPSHOT);
    sqlite3_finalize(open);
    cr_assert_eq(sql_int(a, "select b from k where a = 2"), 100);
    sql_close(a);
    sql_close(b);
}

Test(snapshot, a_loop_over_a_select_may_update_row_by_row)
{
    /* M2: own commits under the same read lock count as the snapshot */
    sqlite3 *a = sql_open("db");
    sqlite3_stmt *open;
    int rows = 0;

    sql_do(a, BIG);
    sqlite3_prepare_v2(a, "select id from big where id <= 50", -1, &open, NULL);
    while (sqlite3_step(open) == SQLITE_ROW) {
        char sql[100];

        snprintf(sql, sizeof sql, "update big set v = v + 1 where id = %d",
                 sqlite3_column_int(open, 0));
        sql_do(a, sql);
        rows++;
    }
    sqlite3_finalize(open);
    cr_assert_eq(rows, 50);
    cr_assert_eq(sql_int(a, "select sum(v) from big"), 50);
    cr_assert_eq(mem_transactions("db"), 2 + 50);
    sql_close(a);
}

Test(snapshot, a_new_connection_reads_while_another_one_writes)
{
    /* M5 */
    sqlite3 *a = sql_open("db"), *b;
    uint64_t began;
    unsigned leads;

    sql_do(a, "create table y(v); insert into y values(5)");
    sql_do(a, "begin immediate");
    leads = mem_count.leads;
    began = co_now_us();
    b = sql_open("db");
    cr_assert_eq(sql_int(b, "select v from y"), 5);
    cr_assert_lt(co_now_us() - began, 200000 * slower());
    cr_assert_eq(mem_count.leads, leads, "a reader asks for no lease");
    cr_assert_str_eq(sql_text(b, "pragma wal_checkpoint(truncate)"), "0");
    sql_do(a, "rollback");
    sql_close(b);
    b = sql_open_other("db");
    cr_assert_eq(sql_int(b, "select v from y"), 5);
    cr_assert_eq(mem_count.leads, leads);
    sql_close(a);
    sql_close(b);
}

Test(snapshot, a_rolled_back_writer_reads_what_is_durable)
{
    /* M7: the wish for the tip is remembered for a retry only */
    sqlite3 *a = sql_open("db"), *c = sql_open("db");
    struct sql_thread *t;
    uint64_t began;
    int rc;

    sql_do(a, "create table z(v); insert into z values(1)");
    sql_do(c, "pragma corallite_commit_timeout = 9000");
    sql_do(c, "begin");
    cr_assert_eq(sql_int(c, "select v from z"), 1);
    t = start_commit(a, "update z set v = 777");
    /* SQLITE_BUSY as long as A, having appended, has not yet given its turn back */
    SQL_UNTIL((rc = sql_rc(c, "update z set v = 5")) != SQLITE_BUSY);
    cr_assert_eq(rc, SQLITE_BUSY_SNAPSHOT);
    sql_do(c, "rollback");
    began = co_now_us();
    cr_assert_eq(sql_int(c, "select v from z"), 1, "A's COMMIT has not returned");
    cr_assert_lt(co_now_us() - began, 8000000 * slower(), "it does not wait for the commit");
    let_go(t, SQLITE_OK);
    cr_assert_eq(sql_int(c, "select v from z"), 777);
    sql_close(a);
    sql_close(c);
}

Test(snapshot, a_read_of_the_tip_waits_until_the_tip_is_durable)
{
    /* M7 */
    sqlite3 *a = sql_open("db"), *b = sql_open("db"), *c = sql_open("db");
    struct sql_thread *t, *reader;

    sql_do(a, "create table z(v); insert into z values(1); create table seen(v)");
    sql_int(c, "select v from z");
    t = start_commit(a, "update z set v = 777");
    sql_do(b, "begin immediate");
    /* Within the 100 ms in which C is expected to retry; under valgrind some readers come later. */
    for (unsigned i = 0;; i++) {
        cr_assert_eq(sql_rc(c, "update z set v = 5"), SQLITE_BUSY);
        reader = sql_start(c, "select v from z");
        usleep(150000);
        if (!sql_ended(reader))
            break;
        cr_assert_lt(i + 1, slower(), "the read of the tip did not wait");
        cr_assert_eq(sql_join(reader), SQLITE_OK);
    }
    let_go(t, SQLITE_OK);
    cr_assert_eq(sql_join(reader), SQLITE_OK);
    sql_do(b, "commit");
    sql_close(a);
    sql_close(b);
    sql_close(c);
}

Test(snapshot, a_statement_that_may_write_and_only_reads_waits_for_the_tip_too)
{
    /* M7: its snapshot was the tip, as that of one who will write */
    sqlite3 *a = sql_open("db"), *c = sql_open("db");
    struct sql_thread *t, *reader;

    sql_do(a, "create table z(v); insert into z values(1)");
    sql_int(c, "select v from z");
    sqlite3_busy_timeout(c, 5000); /* A, having appended, may not have given its turn back yet */
    t = start_commit(a, "create table seen(v)");
    reader = sql_start(c, "create table if not exists z(v)");
    usleep(150000);
    cr_assert(!sql_ended(reader));
    let_go(t, SQLITE_OK);
    cr_assert_eq(sql_join(reader), SQLITE_OK);
    sql_close(a);
    sql_close(c);
}

static int row_while_in_flight;

static int on_row(void *arg, int n, char **values, char **names)
{
    (void)arg;
    (void)n;
    (void)names;
    if (atoi(values[0]) == 777 && mem_in_flight("db"))
        row_while_in_flight = 1;
    return 0;
}

Test(snapshot, no_row_of_a_commit_in_flight_is_shown_to_a_reader)
{
    /* M7 */
    sqlite3 *a = sql_open("db"), *b = sql_open("db"), *c = sql_open("db");
    struct sql_thread *t;

    sql_do(a, "create table z(v); insert into z values(1)");
    sql_do(c, "pragma corallite_commit_timeout = 300");
    sql_int(c, "select v from z");
    sqlite3_busy_timeout(b, 5000); /* A, having appended, may not have given its turn back yet */
    t = start_commit(a, "update z set v = 777");
    sql_do(b, "begin immediate");
    cr_assert_eq(sql_rc(c, "update z set v = 5"), SQLITE_BUSY);
    sqlite3_exec(c, "select v from z", on_row, NULL, NULL); /* gives up after 300 ms */
    cr_assert_eq(row_while_in_flight, 0);
    mem.freeze = false;
    sql_join(t);
    (void)sql_rc(b, "rollback");
    sql_close(a);
    sql_close(b);
    sql_close(c);
}

Test(snapshot, an_empty_write_transaction_waits_for_what_it_has_read)
{
    /* M7 */
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    struct sql_thread *t, *w;

    sql_do(a, "create table z(v); insert into z values(1)");
    sqlite3_busy_timeout(b, 5000);
    t = start_commit(a, "update z set v = 2");
    sql_do(b, "begin immediate");
    cr_assert_eq(sql_int(b, "select v from z"), 2);
    w = sql_start(b, "commit");
    usleep(100000);
    cr_assert(!sql_ended(w), "COMMIT waits");
    let_go(t, SQLITE_OK);
    cr_assert_eq(sql_join(w), SQLITE_OK);
    sql_close(a);
    sql_close(b);
}

Test(snapshot, an_lsn_that_was_lost_and_used_again_is_another_state)
{
    /* M8 */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");
    char lost[SQL_LSN];

    sql_use_lsn_again(a, b, lost);
    cr_assert_eq(sql_int(a, "select v from t"), 1002);
    sql_do(a, "pragma synchronous = full; update t set v = v + 1");
    cr_assert_eq(sql_int(b, "select v from t"), 1003);
    sql_close(a);
    sql_close(b);
}

Test(snapshot, a_transaction_on_lost_ground_is_told_so_and_the_next_one_works)
{
    /* M8 */
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    struct sql_thread *t;

    sql_do(a, BIG);
    sql_do(b, "pragma cache_size = 2");
    sqlite3_busy_timeout(b, 5000);
    t = start_commit(a, "update big set v = 1");
    sql_do(b, "begin immediate; update big set v = v + 1 where id = 1");
    mem_lose_term("db", 0);
    mem.freeze = false;
    cr_assert_eq(sql_join(t), SQLITE_IOERR_WRITE);
    cr_assert_eq(sql_rc(b, "select sum(v) from big"), SQLITE_IOERR_READ);
    cr_assert_neq(sql_rc(b, "commit"), SQLITE_OK);
    if (!sqlite3_get_autocommit(b))
        sql_do(b, "rollback");
    cr_assert_eq(sql_int(b, "select sum(v) from big"), 0);
    sql_do(b, "update big set v = 3 where id = 1");
    cr_assert_eq(sql_int(a, "select sum(v) from big"), 3);
    cr_assert_str_eq(sql_text(a, "pragma integrity_check"), "ok");
    sql_close(a);
    sql_close(b);
}

Test(snapshot, a_page_that_comes_after_its_snapshot_was_lost_is_not_used)
{
    /* M8: page 1 is read before the tip is settled. It was asked for at an LSN that another's term
     * holds by the time it comes: as large as the file was there, SQLite would call it malformed.
     */
    sqlite3 *a = sql_open("db"), *c = sql_open("db"), *b = sql_open_other("db");
    struct sql_thread *t, *reader;
    unsigned gets;

    cv_commit_spill_bytes = 20000; /* and so page 1 is not in the cache */
    sql_do(a, "pragma auto_vacuum = 1");
    sql_do(a, BIG);
    cr_assert_eq(sql_int(c, "select count(*) from big"), 1000);
    t = start_commit(a, "begin; update big set pad = randomblob(300) where id <= 200; "
                        "delete from big where id > 200; commit");
    cr_assert_eq(sql_rc(c, "begin immediate"), SQLITE_BUSY);
    gets = mem_count.gets;
    reader = sql_start(c, "select count(*) from big");
    usleep(100000);
    cr_assert_eq(mem_count.gets, gets, "nobody can have it yet");
    mem_lose_term("db", 0);
    mem.freeze = false;
    cr_assert_eq(sql_join(t), SQLITE_IOERR_WRITE);
    sql_do(b, "update big set pad = randomblob(300); update big set pad = randomblob(300)");
    cr_assert_eq(sql_join(reader), SQLITE_IOERR_READ);
    cr_assert_eq(sql_int(c, "select count(*) from big"), 1000);
    sql_close(a);
    sql_close(b);
    sql_close(c);
}

Test(snapshot, a_page_of_a_commit_that_was_lost_is_not_waited_for)
{
    /* M8: nobody writes behind it, so no pageserver ever gets as far */
    sqlite3 *a = sql_open("db"), *c = sql_open("db");
    struct sql_thread *t, *reader;
    uint64_t began;

    cv_commit_spill_bytes = 20000; /* and so page 1 is not in the cache */
    sql_do(a, "pragma auto_vacuum = 1");
    sql_do(a, BIG);
    cr_assert_eq(sql_int(c, "select count(*) from big"), 1000);
    t = start_commit(a, "begin; update big set pad = randomblob(300) where id <= 200; "
                        "delete from big where id > 200; commit");
    cr_assert_eq(sql_rc(c, "begin immediate"), SQLITE_BUSY);
    reader = sql_start(c, "select count(*) from big");
    usleep(100000);
    cr_assert_not(sql_ended(reader));
    began = co_now_us();
    mem_lose_term("db", 0);
    mem.freeze = false;
    cr_assert_eq(sql_join(t), SQLITE_IOERR_WRITE);
    cr_assert_eq(sql_join(reader), SQLITE_IOERR_READ);
    cr_assert_lt(co_now_us() - began, 5000000 * slower());
    cr_assert_eq(sql_int(c, "select count(*) from big"), 1000);
    sql_close(a);
    sql_close(c);
}

Test(snapshot, a_commit_on_lost_ground_is_refused_at_its_commit_frame)
{
    /* M8 */
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    struct sql_thread *t;

    sql_do(a, "create table t(v); insert into t values(1)");
    sqlite3_busy_timeout(b, 5000);
    t = start_commit(a, "update t set v = 2");
    sql_do(b, "begin immediate; update t set v = v * 10");
    mem_lose_term("db", 0);
    mem.freeze = false;
    cr_assert_eq(sql_join(t), SQLITE_IOERR_WRITE);
    cr_assert_eq(sql_rc(b, "commit"), SQLITE_BUSY_SNAPSHOT);
    cr_assert_eq(sqlite3_get_autocommit(b), 1, "rolled back");
    cr_assert_eq(sql_int(b, "select v from t"), 1);
    sql_do(b, "update t set v = 4");
    cr_assert_eq(sql_int(a, "select v from t"), 4);
    sql_close(a);
    sql_close(b);
}

Test(snapshot, pages_that_another_compute_changed_are_fetched_anew)
{
    /* M13 */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");

    sql_do(a, BIG);
    for (int i = 1; i <= 20; i++) {
        char sql[100];

        cr_assert_eq(sql_int(b, "select sum(v) from big"), i - 1);
        snprintf(sql, sizeof sql, "update big set v = v + 1 where id = %d", i * 37);
        sql_do(a, sql);
        mem.all_changed = i % 5 == 0; /* "too much to list" */
    }
    cr_assert_eq(sql_int(b, "select sum(v) from big"), 20);
    sql_close(a);
    sql_close(b);
}

Test(snapshot, what_another_compute_committed_is_read_out_of_the_log)
{
    /* M13: changes and cached pages come with the records; the pageserver stays where it is. */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");
    unsigned changes, gets;

    sql_do(a, BIG);
    cr_assert_eq(sql_int(b, "select sum(v) from big"), 0);
    mem.follow = mem.hold_ingest = true;
    changes = mem_count.changes;
    gets = mem_count.gets;
    for (int i = 1; i <= 20; i++) {
        char sql[100];

        snprintf(sql, sizeof sql, "update big set v = v + 1 where id = %d", i * 37);
        sql_do(a, sql);
        cr_assert_eq(sql_int(b, "select sum(v) from big"), i);
    }
    cr_assert_eq(mem_count.changes, changes);
    cr_assert_eq(mem_count.gets, gets);
    mem.hold_ingest = false;
    sql_do(a, "insert into big select id + 1000, 1, randomblob(300) from big");
    cr_assert_eq(sql_int(b, "select sum(v) from big"), 1020, "new pages are fetched");
    cr_assert_str_eq(sql_text(b, "pragma integrity_check"), "ok");
    sql_do(b, "update big set v = 0");
    cr_assert_eq(sql_int(a, "select sum(v) from big"), 0);
    sql_close(a);
    sql_close(b);
}

Test(snapshot, a_record_that_is_not_sound_tells_nothing)
{
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");
    unsigned changes;

    sql_do(a, BIG);
    cr_assert_eq(sql_int(b, "select sum(v) from big"), 0);
    mem.follow = mem.follow_damaged = true;
    changes = mem_count.changes;
    sql_do(a, "update big set v = 1 where id = 500");
    cr_assert_eq(sql_int(b, "select sum(v) from big"), 1);
    cr_assert_eq(mem_count.changes, changes + 1, "the pageserver tells what changed");
    sql_close(a);
    sql_close(b);
}

/* The first one reads what it has learned at its open, and asks no more. */
static void *open_and_look(void *arg)
{
    sqlite3 **db = arg;
    int rc;

    *db = sql_open_rc("db", "127.0.0.1:2", "&staleness=60000",
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &rc);
    sql_int(*db, "select v from t");
    return NULL;
}

Test(snapshot, two_that_learn_at_once_in_a_new_process_miss_no_change)
{
    /* M13: an answer that was asked for when nothing was known lists no changes. When it comes,
     * another connection may have learned an older state and filled the cache with it. */
    sqlite3 *a = sql_open("db"), *b = NULL, *c = NULL;
    pthread_t first, second;
    unsigned asked;
    lsn_t older;

    sql_do(a, "create table t(v); insert into t values(1)");
    older = mem_position("db");
    mem.hold_changes = 1;
    asked = mem_count.changes;
    pthread_create(&first, NULL, open_and_look, &b);
    SQL_UNTIL(mem_count.changes > asked);
    sql_do(a, "update t set v = 2");
    pthread_create(&second, NULL, open_and_look, &c);
    SQL_UNTIL(mem_count.changes > asked + 1);
    cr_assert_eq(mem_count.changes, asked + 2);
    mem.hold_changes = older + 1;
    pthread_join(first, NULL);
    mem.hold_changes = 0;
    pthread_join(second, NULL);
    cr_assert_eq(sql_int(c, "select v from t"), 2);
    cr_assert_eq(sql_int(b, "select v from t"), 2);
    sql_do(c, "update t set v = v + 1");
    cr_assert_eq(sql_int(a, "select v from t"), 3, "no write is built on it either");
    sql_close(a);
    sql_close(b);
    sql_close(c);
}

Test(snapshot, pages_that_did_not_change_stay_in_the_cache)
{
    /* M13: closing the gap tells which */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");
    unsigned fetched;

    sql_do(a, BIG);
    sql_int(b, "select sum(v) from big");
    sql_do(a, "update big set v = 1 where id = 1");
    fetched = mem_count.pages;
    cr_assert_eq(sql_int(b, "select sum(v) from big"), 1);
    cr_assert_leq(mem_count.pages - fetched, 2);
    cr_assert_gt(mem_count.pages, 60);
    sql_close(a);
    sql_close(b);
}

Test(snapshot, a_page_that_did_not_change_does_not_wait_for_ingest)
{
    /* M13: not-modified-since */
    sqlite3 *a = sql_open("db"), *b;

    sql_do(a, BIG "create table small(v); insert into small values(0)");
    sql_close(a);
    b = sql_open_other("db");
    sql_do(b, "update small set v = 1");
    mem.hold_ingest = true;
    sql_do(b, "update small set v = 2");
    cr_assert_eq(sql_int(b, "select sum(v) from big"), 0);
    cr_assert_eq(sql_int(b, "select v from small"), 2);
    mem.hold_ingest = false;
    sql_close(b);
}

Test(snapshot, what_comes_along_in_a_chain_is_as_new_as_what_is_asked_for)
{
    /* M13: the pageserver has a page of the chain as it was before a change that is known here */
    sqlite3 *a = sql_open("db"), *b;
    sqlite3_blob *blob;
    struct sql_thread *t;
    unsigned lags;

    sql_do(a, "create table small(v); create table big(id integer primary key, b); "
              "insert into big values(1, zeroblob(1000000))");
    b = sql_open_other("db");
    sql_int(b, "select count(*) from small");
    mem.follow = mem.hold_ingest = true;
    cr_assert_eq(sqlite3_blob_open(a, "main", "big", "b", 1, 1, &blob), SQLITE_OK);
    cr_assert_eq(sqlite3_blob_write(blob, "changed", 7, 600000), SQLITE_OK);
    cr_assert_eq(sqlite3_blob_close(blob), SQLITE_OK);
    lags = mem_count.lags;
    t = sql_start(b, "create temp table seen as select instr(b, x'6368616e676564') as at from big");
    SQL_UNTIL(mem_count.lags > lags || sql_ended(t));
    mem.hold_ingest = false;
    cr_assert_eq(sql_join(t), SQLITE_OK);
    cr_assert_eq(sql_int(b, "select at from seen"), 600001);
    sql_close(a);
    sql_close(b);
}

Test(snapshot, a_configuration_in_the_log_moves_no_reader)
{
    /* S2 */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");
    long long version;
    char before[32];

    sql_do(a, "create table t(v); insert into t values(1)");
    sql_close(a);
    sql_int(b, "select v from t");
    version = sql_int(b, "pragma data_version");
    snprintf(before, sizeof before, "%s", sql_text(b, "pragma corallite_lsn"));
    mem_append_config("db");
    cr_assert_eq(sql_int(b, "select v from t"), 1);
    cr_assert_eq(sql_int(b, "pragma data_version"), version);
    cr_assert_str_eq(sql_text(b, "pragma corallite_lsn"), before);
    sql_do(b, "insert into t values(2)");
    cr_assert_eq(sql_int(b, "select count(*) from t"), 2);
    sql_close(b);
}

Test(snapshot, one_question_to_the_quorum_a_read_transaction)
{
    /* S1 */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");
    unsigned asked;

    sql_do(a, "create table t(v); insert into t values(1)");
    sql_int(b, "select v from t");
    sql_do(a, "insert into t values(2)");
    asked = mem_count.positions;
    cr_assert_eq(sql_int(b, "select count(*) from t"), 2, "the header was rewritten");
    cr_assert_eq(mem_count.positions - asked, 1);
    sql_close(a);
    sql_close(b);
}

Test(snapshot, with_staleness_a_read_asks_nobody)
{
    int rc;
    sqlite3 *a = sql_open("db");
    sqlite3 *b;
    unsigned positions, changes, pages;

    sql_do(a, "create table t(v); insert into t values(1)");
    b = sql_open_rc("db", "127.0.0.1:2", "&staleness=1h", SQLITE_OPEN_READWRITE, &rc);
    cr_assert_eq(sql_int(b, "select count(*) from t"), 1);
    positions = mem_count.positions;
    changes = mem_count.changes;
    pages = mem_count.pages;
    for (int i = 0; i < 50; i++)
        cr_assert_eq(sql_int(b, "select count(*) from t"), 1);
    cr_assert_eq(mem_count.positions, positions);
    cr_assert_eq(mem_count.changes, changes);
    cr_assert_eq(mem_count.pages, pages);
    sql_close(a);
    sql_close(b);
}

Test(snapshot, with_staleness_a_read_is_no_older_than_that)
{
    int rc;
    sqlite3 *a = sql_open("db");
    sqlite3 *b;

    sql_do(a, "create table t(v)");
    b = sql_open_rc("db", "127.0.0.1:2", "&staleness=100", SQLITE_OPEN_READWRITE, &rc);
    for (int i = 1; i <= 5; i++) {
        sql_int(b, "select count(*) from t");
        sql_do(a, "insert into t values(1)");
        usleep(101 * 1000);
        cr_assert_eq(sql_int(b, "select count(*) from t"), i);
    }
    sql_close(a);
    sql_close(b);
}

Test(snapshot, staleness_never_hides_what_this_process_was_told_is_done)
{
    /* M10 */
    int rc;
    sqlite3 *a, *b;

    a = sql_open_rc("db", "127.0.0.1:1", "&staleness=1h",
                    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &rc);
    sql_do(a, "create table t(v)");
    b = sql_open_rc("db", "127.0.0.1:1", "&staleness=1h", SQLITE_OPEN_READWRITE, &rc);
    for (int i = 1; i < 20; i++) {
        sql_do(a, "insert into t values(1)");
        cr_assert_eq(sql_int(b, "select count(*) from t"), i);
    }
    sql_close(a);
    sql_close(b);
}

Test(snapshot, a_refused_writer_that_only_reads_then_sees_what_others_have_committed)
{
    /* M7: the tip of a leader whose lease has lapsed is no newer than what it knows (level B found
     * this) */
    sqlite3 *a = sql_open("db"), *c = sql_open("db"), *other = sql_open_other("db");

    sql_do(a, "create table z(v); insert into z values(1)");
    sql_int(c, "select v from z");
    sql_do(a, "begin immediate");
    cr_assert_eq(sql_rc(c, "begin immediate"), SQLITE_BUSY);
    sql_do(a, "rollback");
    mem.lease_lapsed = true;
    sql_do(other, "update z set v = 2");
    mem.lease_lapsed = false;
    /* within the 100 ms in which C is expected to retry */
    cr_assert_eq(sql_int(c, "select v from z"), 2);
    sql_close(a);
    sql_close(c);
    sql_close(other);
}

static void *open_and_read(void *arg)
{
    sqlite3 *db = sql_open_other("db");

    *(long long *)arg = sql_int(db, "select v from z where id = 300");
    sql_close(db);
    return NULL;
}

Test(snapshot, two_that_learn_at_once_where_the_log_is_miss_no_change)
{
    /* M13: the state of the older one was learned while the newer one was on its way, and nobody
     * listed what lies between (level B found this) */
    sqlite3 *a = sql_open("db"), *past;
    char at[64];
    long long seen = 0;
    pthread_t reader;
    unsigned asked;
    int rc;

    sql_do(a, "create table z(id integer primary key, v int, pad);"
              "with recursive s(i) as (select 1 union all select i+1 from s where i < 600) "
              "insert into z select i, 1, randomblob(200) from s");
    snprintf(at, sizeof at, "&at=lsn:%016llx", (unsigned long long)mem_head("db"));
    mem.hold_ingest = true;
    sql_do(a, "update z set v = 2 where id = 300");
    /* A compute that knows nothing: one thread asks for the head, and waits for its ingest ... */
    asked = mem_count.changes;
    pthread_create(&reader, NULL, open_and_read, &seen);
    SQL_UNTIL(mem_count.changes > asked);
    /* ... another for a moment before it, and reads there. */
    past = sql_open_rc("db", "127.0.0.1:2", at, SQLITE_OPEN_READWRITE, &rc);
    cr_assert(past, "%d", rc);
    cr_assert_eq(sql_int(past, "select v from z where id = 300"), 1);
    mem.hold_ingest = false;
    pthread_join(reader, NULL);
    cr_assert_eq(seen, 2);
    cr_assert_eq(sql_int(past, "select v from z where id = 300"), 1);
    sql_close(past);
    sql_close(a);
}
