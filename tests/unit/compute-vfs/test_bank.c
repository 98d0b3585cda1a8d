/* test_bank.c - sums that hold for every reader while many threads write, spill and lose terms. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem_backend.h"
#include "sql.h"
#include "tests/unit/slower.h"

TestSuite(bank, .init = sql_init, .timeout = 120);

#define ACCOUNTS 300
#define TOTAL    "300000"

static atomic_bool stop;
static atomic_uint committed, refused, failed, sums, bad_sums, uncertain;

static void make_bank(void)
{
    sqlite3 *db = sql_open("bank");

    sql_do(db, "create table acct(id integer primary key, bal int, pad blob);"
               "create table log(id integer primary key, t text);"
               "create index by_text on log(t);"
               "with recursive s(i) as (select 0 union all select i+1 from s where i<299) "
               "insert into acct select i, 1000, randomblob(200) from s");
    sql_close(db);
}

struct worker {
    pthread_t thread;
    unsigned id;
    bool other_compute, small_cache;
};

static sqlite3 *connect_worker(const struct worker *w)
{
    sqlite3 *db = w->other_compute ? sql_open_other("bank") : sql_open("bank");

    sqlite3_busy_timeout(db, 60000);
    if (w->small_cache)
        sql_rc(db, "pragma cache_size = 10");
    return db;
}

static void *write_on(void *arg)
{
    struct worker *w = arg;
    sqlite3 *db = connect_worker(w);
    unsigned seed = w->id * 7919 + 1;

    while (!stop) {
        char sql[1024];
        int from = rand_r(&seed) % ACCOUNTS, to = rand_r(&seed) % ACCOUNTS, rc;

        snprintf(sql, sizeof sql,
                 "begin immediate; update acct set bal = bal - 7, pad = randomblob(200) where id = "
                 "%d; %s update acct set bal = bal + 7 where id = %d; insert into log(t) "
                 "values(hex(randomblob(20))); commit;",
                 from,
                 w->small_cache ? "update acct set pad = randomblob(200) where id % 3 = 1;" : "",
                 to);
        rc = sql_rc(db, sql);
        if (rc == SQLITE_OK)
            committed++;
        else if ((rc & 0xff) == SQLITE_BUSY || rc == SQLITE_IOERR_WRITE || rc == SQLITE_IOERR_READ)
            refused++;
        else if (rc == SQLITE_IOERR_FSYNC)
            uncertain++;
        else if (failed++ < 3)
            fprintf(stderr, "write: %d %s\n", rc, sqlite3_errmsg(db));
        if (rc && !sqlite3_get_autocommit(db))
            sql_rc(db, "rollback");
    }
    sqlite3_close(db);
    return NULL;
}

static void *read_on(void *arg)
{
    struct worker *w = arg;
    sqlite3 *db = connect_worker(w);

    while (!stop) {
        const char *sum = sql_text(db, "select sum(bal) from acct");

        if (strcmp(sum, TOTAL) == 0)
            sums++;
        else if (strncmp(sum, "ERROR", 5) == 0)
            refused++;
        else if (bad_sums++ < 3)
            fprintf(stderr, "sum: %s\n", sum);
    }
    sqlite3_close(db);
    return NULL;
}

static void run_bank(unsigned writers, unsigned readers, unsigned ms, bool two_computes,
                     bool small_cache, void (*every_ms)(unsigned))
{
    struct worker w[32];
    unsigned n = 0;

    for (; n < writers + readers; n++) {
        w[n] = (struct worker){
            .id = n, .other_compute = two_computes && n % 2, .small_cache = small_cache};
        pthread_create(&w[n].thread, NULL, n < writers ? write_on : read_on, &w[n]);
    }
    for (unsigned i = 0; i < ms; i++) {
        usleep(1000 * slower()); /* as much is to happen between two faults, and in all */
        if (every_ms)
            every_ms(i);
    }
    stop = true;
    for (unsigned i = 0; i < n; i++)
        pthread_join(w[i].thread, NULL);
    fprintf(stderr, "committed=%u refused=%u uncertain=%u failed=%u sums=%u\n", committed, refused,
            uncertain, failed, sums);
}

static void check_bank(void)
{
    sqlite3 *db = sql_open("bank");

    cr_assert_str_eq(sql_text(db, "pragma integrity_check"), "ok");
    cr_assert_str_eq(sql_text(db, "select sum(bal) from acct"), TOTAL);
    cr_assert_eq(bad_sums, 0);
    cr_assert_eq(failed, 0);
    cr_assert_geq(sql_int(db, "select count(*) from log"), (long long)committed);
    cr_assert_leq(sql_int(db, "select count(*) from log"), (long long)(committed + uncertain));
    cr_assert_gt(committed, 20);
    sql_close(db);
}

Test(bank, sums_hold_for_16_threads_with_caches_that_spill)
{
    mem.delay_us = 1000;
    make_bank();
    run_bank(12, 4, 3000, false, true, NULL);
    check_bank();
    cr_assert_eq(refused, 0);
    cr_assert_gt(sums, 10);
}

Test(bank, sums_hold_across_two_computes)
{
    mem.delay_us = 500;
    make_bank();
    run_bank(6, 4, 3000, true, true, NULL);
    check_bank();
    cr_assert_gt(sums, 10);
}

static void lose_now_and_then(unsigned ms)
{
    if (ms % 37 == 36)
        mem_lose_term("bank", ms % 3);
}

Test(bank, a_term_that_is_lost_again_and_again_loses_whole_transactions_only)
{
    /* M8 */
    mem.delay_us = 2000;
    make_bank();
    run_bank(6, 4, 3000, true, true, lose_now_and_then);
    check_bank();
    cr_assert_gt(sums, 10);
}

Test(bank, more_writers_commit_more)
{
    unsigned one;

    mem.delay_us = 2000 * slower(); /* longer than what a commit costs the processor */
    make_bank();
    run_bank(1, 0, 1500, false, false, NULL);
    one = committed;
    committed = 0;
    stop = false;
    run_bank(8, 0, 1500, false, false, NULL);
    cr_assert_gt(committed, one * 3 / 2, "1 writer: %u, 8 writers: %u", one, committed);
}
