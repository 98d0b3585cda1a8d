/* test_turn_rules.c - rules M6, M9 and the lease: whose turn it is to write. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "compute-vfs/vfs.h"
#include "mem_backend.h"
#include "sql.h"
#include "tests/unit/slower.h"

TestSuite(turn, .init = sql_init, .timeout = 60);

struct later {
    pthread_t thread;
    sqlite3 *db;
    unsigned ms;
};

static void *commit_later(void *arg)
{
    struct later *l = arg;

    usleep(l->ms * 1000);
    sql_rc(l->db, "commit");
    return NULL;
}

struct timed {
    pthread_t thread;
    sqlite3 *db;
    uint64_t took;
    int rc;
};

static void *insert_timed(void *arg)
{
    struct timed *t = arg;
    uint64_t began = co_now_us();

    t->rc = sql_rc(t->db, "insert into t values(1)");
    t->took = co_now_us() - began;
    return NULL;
}

Test(turn, busy_timeout_is_time)
{
    /* M6 */
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    struct later later = {.db = a, .ms = 600};
    uint64_t began;

    sql_do(a, "create table y(v)");
    sql_int(b, "select count(*) from y");
    sql_do(a, "begin immediate");
    sqlite3_busy_timeout(b, 1000);
    pthread_create(&later.thread, NULL, commit_later, &later);
    began = co_now_us();
    cr_assert_eq(sql_rc(b, "insert into y values(1)"), SQLITE_OK);
    cr_assert_geq(co_now_us() - began, 500000);
    cr_assert_lt(co_now_us() - began, 900000 * slower());
    pthread_join(later.thread, NULL);
    sql_close(a);
    sql_close(b);
}

Test(turn, a_sleeper_is_woken_when_the_turn_comes)
{
    /* M6: SQLite would sleep from the 228th to the 328th millisecond */
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    uint64_t best = UINT64_MAX;

    sql_do(a, "create table y(v)");
    sqlite3_busy_timeout(b, 5000);
    for (int i = 0; i < 4; i++) {
        struct later later = {.db = a, .ms = 245};
        uint64_t began, took;

        sql_do(a, "begin immediate");
        began = co_now_us();
        pthread_create(&later.thread, NULL, commit_later, &later);
        cr_assert_eq(sql_rc(b, "insert into y values(1)"), SQLITE_OK);
        took = co_now_us() - began;
        best = took < best ? took : best;
        pthread_join(later.thread, NULL);
    }
    cr_assert_lt(best, 290000);
    sql_close(a);
    sql_close(b);
}

Test(turn, a_timeout_ends_in_busy_and_not_early)
{
    /* M6 */
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    uint64_t began;

    sql_do(a, "create table y(v); begin immediate");
    sqlite3_busy_timeout(b, 300);
    began = co_now_us();
    cr_assert_eq(sql_rc(b, "insert into y values(1)"), SQLITE_BUSY);
    cr_assert_geq(co_now_us() - began, 290000);
    cr_assert_lt(co_now_us() - began, 600000 * slower());
    sql_do(a, "rollback");
    sql_close(a);
    sql_close(b);
}

Test(turn, a_write_is_not_refused_because_commits_are_on_their_way)
{
    /* M6: it has the turn before its snapshot, so that this is the tip */
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    struct sql_thread *first, *second;

    sql_do(a, "create table y(v)");
    sql_int(b, "select count(*) from y");
    mem.freeze = true;
    first = sql_start(a, "insert into y values(1)");
    SQL_UNTIL(mem_in_flight("db"));
    SQL_UNTIL(sql_rc(b, "begin immediate") == SQLITE_OK); /* it ships, then gives its turn back */
    cr_assert(mem_in_flight("db") && !sql_ended(first), "its commit is still on its way");
    second = sql_start(b, "insert into y values(2); commit");
    usleep(50000);
    cr_assert(!sql_ended(second), "without a busy timeout: it waits for its commit");
    mem.freeze = false;
    cr_assert_eq(sql_join(first), SQLITE_OK);
    cr_assert_eq(sql_join(second), SQLITE_OK);
    cr_assert_eq(sql_int(a, "select sum(v) from y"), 3);
    sql_close(a);
    sql_close(b);
}

static int refusals;

static int count_and_sleep(void *arg, int calls)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(CV_VFS_NAME);

    (void)arg;
    (void)calls;
    refusals++;
    vfs->xSleep(vfs, 100000);
    return 1;
}

Test(turn, who_has_a_busy_handler_waits_for_a_short_transaction_without_being_refused)
{
    /* M6: each refusal costs a second snapshot */
    sqlite3 *a = sql_open("db"), *b = sql_open("db");
    int before = 0;

    sql_do(a, "create table y(v)");
    sqlite3_busy_handler(b, count_and_sleep, NULL);
    refusals = 0;
    for (int i = 0; i < 5; i++) {
        struct later later = {.db = a, .ms = 5};

        before = refusals;
        sql_do(a, "begin immediate");
        pthread_create(&later.thread, NULL, commit_later, &later);
        cr_assert_eq(sql_rc(b, "insert into y values(1)"), SQLITE_OK);
        pthread_join(later.thread, NULL);
        if (i == 0)
            cr_assert_geq(refusals, 1, "that it has one is not known before");
        else if (refusals == before)
            break; /* a machine that stands still for 15 ms is no failure */
    }
    cr_assert_eq(refusals, before);
    sql_close(a);
    sql_close(b);
}

struct contender {
    pthread_t thread;
    sqlite3 *db;
    uint64_t until;
    unsigned n;
};

static void *insert_until(void *arg)
{
    struct contender *c = arg;

    while (co_now_us() < c->until) {
        cr_assert_eq(sql_rc(c->db, "insert into y values(1)"), SQLITE_OK);
        c->n++;
    }
    return NULL;
}

Test(turn, who_is_being_woken_is_overtaken_and_not_for_long)
{
    /* M6: the turn does not stand idle meanwhile, and everybody has it */
    struct contender c[6] = {0};
    unsigned all = 0;

    for (int i = 0; i < 6; i++) {
        c[i].db = sql_open("db");
        sqlite3_busy_timeout(c[i].db, 20000);
        if (i == 0)
            sql_do(c[0].db, "create table y(v)");
    }
    for (int i = 0; i < 6; i++) {
        c[i].until = co_now_us() + 1000000;
        pthread_create(&c[i].thread, NULL, insert_until, &c[i]);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(c[i].thread, NULL);
        all += c[i].n;
    }
    for (int i = 0; i < 6; i++)
        cr_assert_gt(c[i].n, all / 6 / 5, "%u of %u", c[i].n, all);
    cr_assert_eq(sql_int(c[0].db, "select count(*) from y"), all);
    for (int i = 0; i < 6; i++)
        sql_close(c[i].db);
}

Test(turn, the_vfs_sleeps_as_long_as_it_is_told)
{
    /* M6: sqlite3_sleep() and SQLite's own back-off come here too */
    sqlite3_vfs *vfs = sqlite3_vfs_find("corallite");
    uint64_t began = co_now_us();

    vfs->xSleep(vfs, 40000);
    cr_assert_geq(co_now_us() - began, 40000);
}

Test(turn, a_refused_writer_that_does_not_come_again_holds_nobody_up)
{
    /* M6: a reservation lapses */
    sqlite3 *a = sql_open("db"), *b = sql_open("db"), *c = sql_open("db");
    uint64_t began;

    sql_do(a, "create table y(v); begin immediate");
    cr_assert_eq(sql_rc(b, "insert into y values(1)"), SQLITE_BUSY);
    sql_do(a, "commit");
    began = co_now_us();
    cr_assert_eq(sql_rc(c, "insert into y values(2)"), SQLITE_OK, "without a busy timeout");
    cr_assert_lt(co_now_us() - began, 100000 * slower());
    sql_close(b);
    sql_close(a);
    sql_close(c);
}

Test(turn, a_connection_that_closes_while_its_turn_is_reserved_is_forgotten)
{
    sqlite3 *a = sql_open("db"), *b = sql_open("db"), *c = sql_open("db");

    sql_do(a, "create table y(v); begin immediate");
    cr_assert_eq(sql_rc(b, "insert into y values(1)"), SQLITE_BUSY);
    cr_assert_eq(sql_rc(c, "insert into y values(1)"), SQLITE_BUSY);
    sql_close(b);
    sql_do(a, "commit");
    sql_close(c);
    sql_do(a, "insert into y values(2)");
    sql_close(a);
}

Test(turn, the_first_write_of_a_process_elects_inside_the_call)
{
    /* M9 */
    sqlite3 *a;

    mem.lead_delay_us = 300000;
    a = sql_open("db");
    cr_assert_eq(sql_rc(a, "create table t(v)"), SQLITE_OK, "no busy timeout");
    sql_close(a);
}

Test(turn, an_idle_holder_lets_go_within_the_call)
{
    /* M9 */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");
    uint64_t began;

    sql_do(a, "create table t(v); insert into t values(1)");
    usleep(50000);
    began = co_now_us();
    cr_assert_eq(sql_rc(b, "insert into t values(2)"), SQLITE_OK);
    cr_assert_lt(co_now_us() - began, 1000000 * slower()); /* 20 ms on a quiet machine */
    cr_assert_eq(sql_rc(a, "insert into t values(3)"), SQLITE_OK);
    cr_assert_eq(sql_int(b, "select count(*) from t"), 3);
    sql_close(a);
    sql_close(b);
}

Test(turn, who_waits_before_the_election_has_returned_is_not_forgotten)
{
    /* M9: the lease goes on to them once its hold is over. */
    sqlite3 *a = sql_open("db");

    mem.wait_at_lead = true;
    sql_do(a, "create table t(v)");
    for (int i = 0; i < 300 * (int)slower() && mem_count.releases == 0; i++)
        usleep(10000);
    cr_assert_eq(mem_count.releases, 1);
    sql_close(a);
}

Test(turn, an_open_transaction_elsewhere_is_busy_soon)
{
    /* M9: its holder says so to whoever waits */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");
    uint64_t began;

    sql_do(a, "create table t(v)");
    sql_do(a, "begin immediate");
    began = co_now_us();
    cr_assert_eq(sql_rc(b, "insert into t values(2)"), SQLITE_BUSY);
    cr_assert_geq(co_now_us() - began, 50000, "a short one is waited for");
    cr_assert_lt(co_now_us() - began, 2500000 * slower()); /* 0.1 s on a quiet machine */
    cr_assert_geq(mem_count.writings, 1);
    sql_do(a, "insert into t values(1); commit");
    sqlite3_busy_timeout(b, 5000); /* that the lease is free again it hears a moment later */
    sql_do(b, "insert into t values(2)");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 2);
    sql_close(a);
    sql_close(b);
}

Test(turn, an_open_transaction_is_told_of_ten_times_a_second)
{
    /* M9: "somebody waits" acknowledges what is told, and is no reason to tell it again at once */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");

    sql_do(a, "create table t(v)");
    sql_do(a, "begin immediate");
    cr_assert_eq(sql_rc(b, "insert into t values(2)"), SQLITE_BUSY);
    cr_assert_geq(mem_count.writings, 1);
    unsigned before = mem_count.writings;
    uint64_t began = co_now_us();
    usleep(1000000);
    unsigned told = mem_count.writings - before;
    cr_assert_leq(told, (co_now_us() - began) / 100000 + 2);
    cr_assert_geq(told, 2, "and it goes on, since who waits may have come meanwhile");
    sql_do(a, "rollback");
    sql_close(a);
    sql_close(b);
}

Test(turn, a_busy_timeout_counts_what_was_waited_for_the_lease_too)
{
    /* M6: SQLite adds up its own pauses only, so each further try has to be a short one: what is
     * known to be in use is not waited for. */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");
    uint64_t began;

    sql_do(a, "create table t(v)");
    sql_do(a, "begin immediate");
    sqlite3_busy_timeout(b, 1000);
    began = co_now_us();
    cr_assert_eq(sql_rc(b, "insert into t values(2)"), SQLITE_BUSY);
    cr_assert_geq(co_now_us() - began, 990000);
    cr_assert_lt(co_now_us() - began, 2500000 * slower()); /* 1.02 s on a quiet machine */
    sql_do(a, "insert into t values(1); commit");
    cr_assert_eq(sql_rc(b, "insert into t values(2)"), SQLITE_OK);
    cr_assert_eq(sql_int(a, "select count(*) from t"), 2);
    sql_close(a);
    sql_close(b);
}

Test(turn, a_sleeper_is_woken_when_the_lease_comes)
{
    /* M6: from another process; SQLite's pauses are of 100 ms after a while */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");
    sqlite3_vfs *vfs = sqlite3_vfs_find("corallite");
    struct later later = {.db = a, .ms = 200};
    uint64_t began;

    sql_do(a, "create table t(v)");
    sqlite3_busy_timeout(b, 1);
    sql_do(a, "begin immediate");
    cr_assert_eq(sql_rc(b, "insert into t values(2)"), SQLITE_BUSY);
    pthread_create(&later.thread, NULL, commit_later, &later);
    began = co_now_us();
    vfs->xSleep(vfs, 3000000);
    cr_assert_geq(co_now_us() - began, 190000, "not before it is free");
    cr_assert_lt(co_now_us() - began, 1500000 * slower());
    cr_assert_eq(sql_rc(b, "insert into t values(2)"), SQLITE_OK);
    pthread_join(later.thread, NULL);
    sql_close(a);
    sql_close(b);
}

Test(turn, a_short_transaction_elsewhere_is_waited_for)
{
    /* M9: its end is awaited within the call, and nobody is told anything. (What it has committed
     * then stands between the other's snapshot and the tip: without a busy handler that is BUSY.)
     */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");

    sql_do(a, "create table t(v)");
    sql_do(b, "insert into t values(0)");
    for (int i = 0; i < 5; i++) {
        struct later later = {.db = a, .ms = 20};

        sql_do(a, "begin immediate; insert into t values(1)");
        pthread_create(&later.thread, NULL, commit_later, &later);
        cr_assert_eq(sql_rc(b, "insert into t values(2)"), SQLITE_BUSY);
        pthread_join(later.thread, NULL);
        cr_assert_eq(sql_rc(b, "insert into t values(3)"), SQLITE_OK, "it has the lease");
    }
    cr_assert_eq(mem_count.writings, 0);
    sql_close(a);
    sql_close(b);
}

Test(turn, who_sleeps_beside_one_who_is_refused_for_another_process_sleeps_his_time)
{
    /* M6: BUSY because of another process wakes nobody here; each early waking would be counted as
     * a full pause by SQLite. */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db"), *c = sql_open_other("db");
    struct timed w[2] = {{.db = b}, {.db = c}};

    sql_do(a, "create table t(v)");
    sql_do(a, "begin immediate");
    for (int i = 0; i < 2; i++) {
        sqlite3_busy_timeout(w[i].db, 600);
        pthread_create(&w[i].thread, NULL, insert_timed, &w[i]);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(w[i].thread, NULL);
        cr_assert_eq(w[i].rc, SQLITE_BUSY);
        cr_assert_geq(w[i].took, 590000);
        cr_assert_lt(w[i].took, 2000000);
    }
    sql_do(a, "rollback");
    sql_close(a);
    sql_close(b);
    sql_close(c);
}

struct sleeper {
    pthread_t thread;
    sqlite3 *db;
    uint64_t until;
    unsigned sleeps, cut_short;
};

static int sleep_and_look(void *arg, int calls)
{
    struct sleeper *s = arg;
    sqlite3_vfs *vfs = sqlite3_vfs_find(CV_VFS_NAME);
    uint64_t began = co_now_us();

    (void)calls;
    vfs->xSleep(vfs, 20000);
    s->sleeps++;
    s->cut_short += co_now_us() - began < 19000;
    return co_now_us() < s->until;
}

static void *insert_in_vain(void *arg)
{
    struct sleeper *s = arg;

    sql_rc(s->db, "insert into t values(1)");
    return NULL;
}

Test(turn, who_is_refused_for_another_process_cuts_nobodys_sleep_short)
{
    /* M6: while one asks for the lease the others find the turn taken, and have a place in the
     * queue when the answer is no. */
    sqlite3 *a = sql_open("db");
    struct sleeper s[3] = {0};

    sql_do(a, "create table t(v)");
    sql_do(a, "begin immediate");
    for (int i = 0; i < 3; i++) {
        s[i].db = sql_open_other("db");
        s[i].until = co_now_us() + 1000000;
        sqlite3_busy_handler(s[i].db, sleep_and_look, &s[i]);
        pthread_create(&s[i].thread, NULL, insert_in_vain, &s[i]);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(s[i].thread, NULL);
    sql_do(a, "rollback");
    for (int i = 0; i < 3; i++) {
        cr_assert_geq(s[i].sleeps, 1);
        cr_assert_eq(s[i].cut_short, 0, "%u of %u sleeps", s[i].cut_short, s[i].sleeps);
        sql_close(s[i].db);
    }
    sql_close(a);
}

Test(turn, a_term_lost_to_a_minority_does_not_cost_an_open_transaction)
{
    /* R6: the lease is kept for it, whoever waits */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");
    unsigned leads;

    sql_do(a, "create table t(v)");
    sql_do(a, "begin immediate");
    leads = mem_count.leads;
    mem_contest("db");
    cr_assert_eq(sql_rc(b, "insert into t values(2)"), SQLITE_BUSY);
    cr_assert_geq(mem_count.leads, leads + 2, "by the keeper, not by COMMIT");
    sql_do(a, "insert into t values(1); commit");
    sqlite3_busy_timeout(b, 5000);
    sql_do(b, "insert into t values(2)");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 2);
    sql_close(a);
    sql_close(b);
}

Test(turn, a_term_lost_to_a_minority_while_idle_gives_the_lease_back)
{
    /* R6, M9 */
    sqlite3 *a = sql_open("db"), *b = sql_open_other("db");
    uint64_t began;

    sql_do(a, "create table t(v)");
    mem_contest("db");
    began = co_now_us();
    cr_assert_eq(sql_rc(b, "insert into t values(2)"), SQLITE_OK);
    cr_assert_lt(co_now_us() - began, 2500000 * slower()); /* 20 ms on a quiet machine */
    sql_close(a);
    sql_close(b);
}

Test(turn, the_last_close_gives_the_lease_up)
{
    sqlite3 *a = sql_open("db"), *b;
    uint64_t began;

    sql_do(a, "create table t(v)");
    mem.hold_lease = true; /* nobody is asked */
    sql_close(a);
    b = sql_open_other("db");
    began = co_now_us();
    sql_do(b, "insert into t values(1)");
    cr_assert_lt(co_now_us() - began, 200000 * slower());
    sql_close(b);
}
