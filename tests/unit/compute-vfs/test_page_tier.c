/*
 * test_page_tier.c - cache_dir: what a process keeps on disk is of use to the next one, and is
 * never wrong. A database object that is closed and opened anew is another process here.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#include "compute-vfs/page_tier.h"
#include "mem_backend.h"
#include "sql.h"

#define TABLE                                                                                      \
    "create table t(id integer primary key, v, pad);"                                              \
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < 300)"                \
    "insert into t select i, 0, zeroblob(900) from n"
#define SUM "select sum(v * id) + sum(length(pad)) from t"

static char dir[64];
static int mb; /* of a file */

static void setup(void)
{
    sql_init();
    mb = 4;
    snprintf(dir, sizeof dir, "/tmp/corallite-tier-XXXXXX");
    cr_assert(mkdtemp(dir));
}

static void teardown(void)
{
    char path[400];
    DIR *d = opendir(dir);

    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        (void)unlink(path);
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

TestSuite(page_tier, .init = setup, .fini = teardown, .timeout = 60);

static sqlite3 *open_more(const char *name, const char *server, const char *more)
{
    char all[300];
    sqlite3 *db;
    int rc;

    snprintf(all, sizeof all, "&cache_dir=%s&cache_dir_mb=%d%s", dir, mb, more);
    db = sql_open_rc(name, server, all, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &rc);
    cr_assert(db, "open %s: %d", name, rc);
    return db;
}

static sqlite3 *open_kept(const char *name)
{
    return open_more(name, "127.0.0.1:1", "");
}

static long long stat_of(sqlite3 *db, const char *name)
{
    const char *text = sql_text(db, "pragma corallite_stats"), *at = strstr(text, name);

    cr_assert(at, "%s in %s", name, text);
    return atoll(at + strlen(name) + 1);
}

/* The one file of pages below dir. */
static void file_of(char out[400])
{
    DIR *d = opendir(dir);
    int n = 0;

    for (struct dirent *e; d && (e = readdir(d));)
        if (strstr(e->d_name, ".pages")) {
            snprintf(out, 400, "%s/%s", dir, e->d_name);
            n++;
        }
    closedir(d);
    cr_assert_eq(n, 1);
}

/* Writes the table, and leaves it on disk. */
static void leave(const char *name)
{
    sqlite3 *db = open_kept(name);

    sql_do(db, TABLE);
    sql_close(db);
    mem_count.pages = 0;
}

static sqlite3 *elsewhere(const char *name, const char *sql)
{
    sqlite3 *db = sql_open_other(name);

    sql_do(db, sql);
    return db;
}

Test(page_tier, a_second_process_reads_what_the_first_had_without_asking_for_pages)
{
    struct stat st;
    char path[400];
    sqlite3 *db;

    leave("db");
    file_of(path);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
    db = open_kept("db");
    cr_assert_eq(sql_int(db, SUM), 300 * 900);
    cr_assert_eq(mem_count.pages, 0);
    cr_assert_gt(stat_of(db, "disk_hits"), 70);
    cr_assert_gt(stat_of(db, "disk_bytes_read"), 70 * 4096);
    cr_assert_str_eq(sql_text(db, "pragma integrity_check"), "ok");
    sql_close(db);
}

Test(page_tier, what_was_fetched_is_kept_without_a_close)
{
    sqlite3 *a = sql_open("db"), *b, *c;

    sql_do(a, TABLE);
    b = open_more("db", "127.0.0.1:2", "");
    cr_assert_eq(sql_int(b, SUM), 300 * 900);
    mem_count.pages = 0;
    c = open_more("db", "127.0.0.1:3", "");
    cr_assert_eq(sql_int(c, SUM), 300 * 900);
    cr_assert_eq(mem_count.pages, 0);
    cr_assert_gt(stat_of(b, "disk_bytes_written"), 70 * 4096);
    cr_assert_gt(stat_of(b, "disk_misses"), 1);
    sql_close(a);
    sql_close(b);
    sql_close(c);
}

/* Row 8: the question that is asked anyway is asked with another LSN. */
Test(page_tier, an_open_asks_nothing_more)
{
    unsigned changes, positions, opens, gets;
    sqlite3 *db;

    leave("db");
    db = sql_open("db");
    mem_count.changes = mem_count.positions = mem_count.opens = mem_count.gets = 0;
    sql_close(db);
    db = sql_open("db");
    sql_int(db, "select v from t where id = 7");
    changes = mem_count.changes;
    positions = mem_count.positions;
    opens = mem_count.opens;
    gets = mem_count.gets;
    cr_assert_gt(gets, 1);
    sql_close(db);
    mem_count.changes = mem_count.positions = mem_count.opens = mem_count.gets = 0;
    db = open_kept("db");
    sql_int(db, "select v from t where id = 7");
    cr_assert_eq(mem_count.changes, changes);
    cr_assert_eq(mem_count.positions, positions);
    cr_assert_eq(mem_count.opens, opens);
    cr_assert_eq(mem_count.gets, 0);
    sql_close(db);
}

Test(page_tier, what_somebody_else_changed_meanwhile_is_not_believed)
{
    sqlite3 *db;

    leave("db");
    sql_close(elsewhere("db", "update t set v = 1 where id in (5, 200)"));
    mem_count.pages = 0;
    db = open_kept("db");
    cr_assert_eq(sql_int(db, SUM), 300 * 900 + 205);
    cr_assert_gt(mem_count.pages, 0);
    cr_assert_lt(mem_count.pages, 10);
    cr_assert_str_eq(sql_text(db, "pragma integrity_check"), "ok");
    /* and while it is open */
    sql_close(elsewhere("db", "update t set v = 2 where id = 6"));
    cr_assert_eq(sql_int(db, SUM), 300 * 900 + 205 + 12);
    sql_close(db);
}

Test(page_tier, what_a_process_learns_out_of_the_log_is_kept_at_its_close)
{
    sqlite3 *db, *other;

    leave("db");
    mem.follow = true;
    db = open_kept("db");
    cr_assert_eq(sql_int(db, SUM), 300 * 900);
    other = elsewhere("db", "update t set v = 1 where id = 5");
    cr_assert_eq(sql_int(db, SUM), 300 * 900 + 5);
    sql_close(db);
    mem_count.pages = 0;
    db = open_kept("db");
    cr_assert_eq(sql_int(db, SUM), 300 * 900 + 5);
    cr_assert_eq(mem_count.pages, 0);
    sql_close(db);
    sql_close(other);
}

Test(page_tier, damage_anywhere_is_a_miss_and_is_made_good)
{
    char path[400];
    sqlite3 *db;

    for (unsigned round = 0; round < 3; round++) {
        struct stat st;
        int fd;

        mem_reset();
        teardown();
        cr_assert_eq(mkdir(dir, 0700), 0);
        leave("db");
        file_of(path);
        fd = open(path, O_RDWR);
        cr_assert_eq(fstat(fd, &st), 0);
        /* of each page, of each set of slots, of the head */
        for (off_t at = round == 1   ? 700
                        : round == 2 ? 4096
                                     : 0;
             at < st.st_size; at += round == 0   ? 997
                                    : round == 1 ? 4096
                                                 : 32) {
            uint8_t byte;

            cr_assert_eq(pread(fd, &byte, 1, at), 1);
            byte ^= 4;
            cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
            if (round == 2 && at > 60000)
                break;
        }
        close(fd);
        db = open_kept("db");
        cr_assert_eq(sql_int(db, SUM), 300 * 900);
        cr_assert_str_eq(sql_text(db, "pragma integrity_check"), "ok");
        cr_assert_gt(mem_count.pages, 30);
        sql_close(db);
        mem_count.pages = 0;
        db = open_kept("db");
        cr_assert_eq(sql_int(db, SUM), 300 * 900);
        cr_assert_eq(mem_count.pages, 0, "round %u: %u pages", round, mem_count.pages);
        sql_close(db);
    }
}

Test(page_tier, a_file_that_is_cut_short_or_of_another_kind_is_begun_anew)
{
    char path[400];
    sqlite3 *db;

    for (int round = 0; round < 3; round++) {
        leave("db");
        file_of(path);
        if (round < 2)
            cr_assert_eq(truncate(path, round ? 5000 : 0), 0);
        else
            cr_assert_eq(unlink(path), 0);
        db = open_kept("db");
        cr_assert_eq(sql_int(db, SUM), 300 * 900);
        cr_assert_gt(mem_count.pages, 30);
        sql_close(db);
        mem_count.pages = 0;
        db = open_kept("db");
        cr_assert_eq(sql_int(db, SUM), 300 * 900);
        cr_assert_eq(mem_count.pages, 0);
        sql_do(db, "drop table t");
        sql_close(db);
    }
}

Test(page_tier, a_file_that_is_cut_short_under_a_process_switches_it_off)
{
    char path[400];
    sqlite3 *db;

    leave("db");
    db = open_kept("db");
    file_of(path);
    cr_assert_eq(truncate(path, 100), 0);
    cr_assert_eq(sql_int(db, SUM), 300 * 900);
    cr_assert(strstr(sql_text(db, "select corallite_last_error()"), "it is cut short"));
    sql_do(db, "update t set v = 1");
    sql_close(db);
}

Test(page_tier, the_file_of_another_timeline_is_not_believed)
{
    char path[400], aside[400], to[400];
    sqlite3 *db = open_kept("other");

    sql_do(db, TABLE);
    sql_do(db, "update t set v = 9");
    sql_close(db);
    file_of(path);
    snprintf(aside, sizeof aside, "%s/aside", dir);
    cr_assert_eq(rename(path, aside), 0);
    leave("db");
    file_of(to);
    cr_assert_eq(rename(aside, to), 0);
    db = open_kept("db");
    cr_assert_eq(sql_int(db, SUM), 300 * 900);
    cr_assert_gt(mem_count.pages, 30);
    sql_close(db);
}

/* M8 */
Test(page_tier, what_a_lost_term_takes_back_was_never_kept)
{
    sqlite3 *a = open_kept("db"), *b = sql_open_other("db");
    char lost[SQL_LSN];

    sql_use_lsn_again(a, b, lost);
    sql_close(a);
    a = open_kept("db");
    cr_assert_str_eq(sql_text(a, "pragma corallite_lsn"), lost);
    cr_assert_eq(sql_int(a, "select v from t"), 1002);
    sql_close(a);
    sql_close(b);
}

/* M8: another connection's commit is on its way, and this one stands on it. What it reads of pages
 * that did not change is on disk, and what it fetches is not put there. */
Test(page_tier, a_snapshot_that_may_be_lost_reads_from_the_disk_what_is_committed_and_keeps_nothing)
{
    sqlite3 *a, *writer;
    long long written;

    leave("db");
    sql_close(elsewhere("db", "update t set v = 1 where id = 200"));
    a = open_kept("db");
    sql_do(a, "pragma synchronous = normal; pragma cache_size = 5");
    mem.freeze = mem.receive = true;
    sql_do(a, "update t set v = 7 where id = 5");
    written = stat_of(a, "disk_bytes_written");
    mem_count.pages = 0;
    sql_do(a, "begin immediate");
    cr_assert_eq(sql_int(a, SUM), 300 * 900 + 200 + 35);
    cr_assert_gt(stat_of(a, "disk_hits"), 60);
    cr_assert_gt(mem_count.pages, 0, "the page of row 200");
    cr_assert_lt(mem_count.pages, 5);
    cr_assert_lt(stat_of(a, "disk_bytes_written") - written, 4096 + 384, "slots only, no page");
    sql_do(a, "rollback");
    mem_lose_term("db", 0);
    mem.freeze = false;
    writer = elsewhere("db", "update t set v = 3 where id = 6");
    cr_assert_eq(sql_int(a, SUM), 300 * 900 + 200 + 18);
    sql_close(a);
    a = open_kept("db");
    cr_assert_eq(sql_int(a, SUM), 300 * 900 + 200 + 18);
    sql_close(a);
    sql_close(writer);
}

/* The newest commit that the next process knows proves what is on disk; else it is asked for, once.
 */
Test(page_tier, after_commits_of_others_one_question_more_is_asked)
{
    unsigned changes;
    sqlite3 *db, *other;

    leave("db");
    other = elsewhere("db", "update t set v = 1 where id = 300");
    db = sql_open("db");
    mem_count.changes = 0;
    sql_close(db);
    db = sql_open("db");
    sql_int(db, SUM);
    changes = mem_count.changes;
    sql_close(db);
    mem_count.changes = 0;
    db = open_kept("db");
    cr_assert_eq(sql_int(db, SUM), 300 * 900 + 300);
    cr_assert_eq(mem_count.changes, changes + 1);
    sql_close(db);
    sql_close(other);
}

/* Each session's pages are asked for once, and then they are the next one's own. */
Test(page_tier, pages_of_many_sessions_are_soon_those_of_one)
{
    sqlite3 *db, *other;
    char sql[80];

    leave("db");
    other = elsewhere("db", "create table u(v); insert into u values (0)");
    for (int i = 1; i <= 10; i++) {
        snprintf(sql, sizeof sql, "update t set v = 1 where id = %d", i * 20);
        sql_do(other, sql);
        db = open_kept("db");
        snprintf(sql, sizeof sql, "select v from t where id = %d", i * 20);
        cr_assert_eq(sql_int(db, sql), 1);
        sql_close(db);
    }
    for (unsigned round = 0; round < 2; round++) {
        sql_do(other, "update u set v = v + 1");
        mem_count.pages = mem_count.changes = 0;
        db = open_kept("db");
        cr_assert_eq(sql_int(db, SUM), 300 * 900 + 1100);
        cr_assert_eq(mem_count.pages, 0);
        cr_assert_leq(mem_count.changes, round ? 3u : 13u, "%u questions", mem_count.changes);
        sql_close(db);
    }
    sql_close(other);
}

Test(page_tier, there_are_not_more_questions_than_it_is_worth)
{
    static uint8_t page[4096];
    const struct co_id id = {{7}};
    struct cv_want want = {.lsn = 200, .newest = 50, .known = 200, .known_us = 20};
    struct cv_slot slot;
    struct cv_tier *t;
    unsigned asked = 0, found = 0;

    for (pgno_t pgno = 1; pgno <= CV_TIER_QUESTIONS + 50; pgno++) {
        struct cv_kept kept = {{pgno, sizeof page, 50, 100, 10, 0, 0}, page};

        t = cv_tier_open(dir, 4, &id);
        cr_assert(t);
        cv_tier_keep(t, &kept, 1);
        cv_tier_close(t);
    }
    t = cv_tier_open(dir, 4, &id);
    for (want.pgno = 1; want.pgno <= CV_TIER_QUESTIONS + 50; want.pgno++) {
        enum cv_found is = cv_tier_find(t, &want, page, sizeof page, &slot);

        if (is == CV_FOUND_UNPROVEN) {
            asked++;
            cv_tier_prove(t, &slot, true);
            is = cv_tier_find(t, &want, page, sizeof page, &slot);
        }
        found += is == CV_FOUND;
    }
    cr_assert_eq(asked, CV_TIER_QUESTIONS);
    cr_assert_eq(found, CV_TIER_QUESTIONS);
    cv_tier_close(t);
}

/* A cluster that was made anew of a copy has the LSNs again, and other commits there. */
Test(page_tier, what_a_log_that_went_back_does_not_have_is_not_believed)
{
    lsn_t then, lost;
    sqlite3 *db;

    for (int more = 0; more < 3; more++) {
        leave("db");
        then = mem_position("db");
        db = open_kept("db");
        sql_do(db, "update t set v = 3 where id = 5");
        cr_assert_eq(sql_int(db, SUM), 300 * 900 + 15);
        sql_close(db);
        lost = mem_head("db");
        mem_rewind("db", then);
        db = elsewhere("db", "update t set v = 2 where id = 5");
        cr_assert_eq(mem_head("db"), lost, "the same LSN again");
        for (int i = 0; i < more; i++)
            sql_do(db, "update t set v = v + 1 where id = 200");
        sql_close(db);
        mem_count.pages = 0;
        db = open_kept("db");
        cr_assert_eq(sql_int(db, SUM), 300 * 900 + 10 + 200 * more);
        cr_assert_str_eq(sql_text(db, "pragma integrity_check"), "ok");
        cr_assert_gt(mem_count.pages, 0);
        sql_do(db, "update t set v = v + 1");
        cr_assert_eq(sql_int(db, SUM), 300 * 900 + 10 + 200 * more + 45150);
        sql_do(db, "drop table t");
        sql_close(db);
    }
}

Test(page_tier, when_nobody_can_tell_what_changed_the_file_is_begun_anew)
{
    sqlite3 *db;

    leave("db");
    sql_close(elsewhere("db", "update t set v = 1 where id = 5"));
    mem.all_changed = true;
    mem_count.pages = 0;
    db = open_kept("db");
    cr_assert_eq(sql_int(db, SUM), 300 * 900 + 5);
    cr_assert_gt(mem_count.pages, 30);
    sql_close(db);
    mem.all_changed = false;
    sql_close(elsewhere("db", "update t set v = 1 where id = 6"));
    mem_count.pages = 0;
    db = open_kept("db");
    cr_assert_eq(sql_int(db, SUM), 300 * 900 + 11);
    cr_assert_lt(mem_count.pages, 10);
    sql_close(db);
}

Test(page_tier, pages_that_are_read_outlive_many_changes_of_others)
{
    sqlite3 *db, *other;

    mb = 1;
    db = open_kept("db");
    sql_do(db, TABLE);
    sql_close(db);
    other = elsewhere("db", "create table u(v); insert into u values (0)");
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 100; i++) /* more than a quarter of the slots of 1 MiB */
            sql_do(other, "update u set v = v + 1");
        mem_count.pages = 0;
        db = open_kept("db");
        cr_assert_eq(sql_int(db, SUM), 300 * 900);
        cr_assert_lt(mem_count.pages, 10, "round %d: %u", round, mem_count.pages);
        sql_close(db);
    }
    sql_close(other);
}

Test(page_tier, what_was_of_no_use_for_long_is_not_believed)
{
    sqlite3 *db, *other;

    mb = 1;
    leave("db");
    other = elsewhere("db", "update t set v = 1 where id = 5;"
                            "create table u(v); insert into u values (0)");
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 100; i++) /* the base moves on */
            sql_do(other, "update u set v = v + 1");
        db = open_kept("db");
        cr_assert_eq(sql_int(db, "select v from t where id = 200"), 0);
        sql_close(db);
    }
    db = open_kept("db");
    cr_assert_eq(sql_int(db, SUM), 300 * 900 + 5);
    sql_close(db);
    sql_close(other);
}

Test(page_tier, a_moment_of_the_past_is_read_from_the_disk)
{
    char more[60];
    sqlite3 *db;

    leave("db");
    snprintf(more, sizeof more, "&at=lsn:%016llx", (unsigned long long)mem_head("db"));
    sql_close(elsewhere("db", "update t set v = 1 where id % 10 = 0"));
    mem_count.pages = 0;
    db = open_more("db", "127.0.0.1:1", more);
    cr_assert_eq(sql_int(db, SUM), 300 * 900);
    cr_assert_eq(mem_count.pages, 0);
    sql_close(db);
}

Test(page_tier, branches_and_what_a_restore_makes_have_files_of_their_own)
{
    lsn_t then;
    sqlite3 *db;

    leave("db");
    then = mem_head("db");
    sql_close(elsewhere("db", "update t set v = 1 where id = 5"));
    mem_branch("db", "dev", then);
    db = open_kept("db/dev");
    cr_assert_eq(sql_int(db, SUM), 300 * 900);
    sql_do(db, "update t set v = 2 where id = 6");
    cr_assert_eq(sql_int(db, SUM), 300 * 900 + 12);
    sql_close(db);
    db = open_kept("db");
    cr_assert_eq(sql_int(db, SUM), 300 * 900 + 5);
    sql_close(db);
    db = open_kept("db/dev");
    mem_count.pages = 0;
    cr_assert_eq(sql_int(db, SUM), 300 * 900 + 12);
    cr_assert_eq(mem_count.pages, 0);
    sql_close(db);
    mem_restore("db", then, "before");
    db = open_kept("db");
    cr_assert_eq(sql_int(db, SUM), 300 * 900, "the restored one");
    sql_close(db);
    db = open_kept("db/before");
    cr_assert_eq(sql_int(db, SUM), 300 * 900 + 5);
    sql_close(db);
}

Test(page_tier, a_disk_that_takes_no_more_is_left_alone_and_nothing_else_happens)
{
    struct rlimit limit = {8192, RLIM_INFINITY};
    sqlite3 *a = elsewhere("db", TABLE), *db = open_kept("db");
    long long written;

    cr_assert_eq(sql_int(db, "select v from t where id = 1"), 0);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(sql_int(db, SUM), 300 * 900);
    cr_assert(strstr(sql_text(db, "select corallite_last_error()"), "cannot write"));
    written = stat_of(db, "disk_bytes_written");
    sql_do(db, "update t set v = 1");
    limit.rlim_cur = RLIM_INFINITY; /* once is enough: it is not tried again */
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    sql_do(a, "update t set v = 2");
    mem_count.pages = 0;
    cr_assert_eq(sql_int(db, SUM), 300 * 900 + 2 * 45150);
    cr_assert_gt(mem_count.pages, 50);
    cr_assert_eq(stat_of(db, "disk_bytes_written"), written);
    sql_close(a);
    sql_close(db);
    limit.rlim_cur = 8192;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    /* Where the limit is there at the open, no signal comes either. */
    signal(SIGXFSZ, SIG_DFL);
    db = open_kept("db");
    cr_assert(strstr(sql_text(db, "select corallite_last_error()"), "ulimit"));
    cr_assert_eq(sql_int(db, SUM), 300 * 900 + 2 * 45150);
    sql_close(db);
}

Test(page_tier, a_directory_that_others_can_write_is_not_used)
{
    sqlite3 *db;
    char text[40];

    cr_assert_eq(chmod(dir, 0777), 0);
    leave("db");
    db = open_kept("db");
    cr_assert(strstr(sql_text(db, "select corallite_last_error()"), "others may write it"));
    cr_assert_eq(sql_int(db, SUM), 300 * 900);
    cr_assert_eq(stat_of(db, "disk_hits"), 0);
    sql_close(db);
    /* nor one that cannot be made */
    snprintf(text, sizeof text, "%.30s", dir);
    snprintf(dir, sizeof dir, "%s/no/such", text);
    db = open_kept("db");
    cr_assert_eq(sql_int(db, SUM), 300 * 900);
    sql_close(db);
    snprintf(dir, sizeof dir, "%s", text);
}

Test(page_tier, a_link_in_the_place_of_the_file_is_not_followed)
{
    char victim[400], path[400];
    struct stat st;
    sqlite3 *db;

    leave("db");
    file_of(path);
    cr_assert_eq(unlink(path), 0);
    snprintf(victim, sizeof victim, "%s/victim", dir);
    close(open(victim, O_CREAT | O_WRONLY | O_TRUNC, 0600));
    cr_assert_eq(symlink(victim, path), 0);
    db = open_kept("db");
    cr_assert_eq(sql_int(db, SUM), 300 * 900);
    sql_close(db);
    cr_assert_eq(stat(victim, &st), 0);
    cr_assert_eq(st.st_size, 0);
    (void)unlink(victim);
}

static void old_file(const char *name, int age_s, char path[400])
{
    static uint8_t bytes[12 << 20];
    struct utimbuf then = {time(NULL) - age_s, time(NULL) - age_s};
    int fd;

    snprintf(path, 400, "%s/%s", dir, name);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    memset(bytes, 1, sizeof bytes);
    cr_assert_eq(write(fd, bytes, sizeof bytes), (ssize_t)sizeof bytes);
    close(fd);
    cr_assert_eq(utime(path, &then), 0);
}

Test(page_tier, the_files_that_were_used_longest_ago_make_room)
{
    char a[400], b[400], c[400], d[400];

    old_file("0123456789abcdef0123456789abcdef.pages", 500, a);
    old_file("1123456789abcdef0123456789abcdef.pages", 400, b);
    old_file("2123456789abcdef0123456789abcdef.pages", 600, c);
    old_file("3123456789abcdef0123456789abcdef.txt", 700, d);
    leave("db"); /* three of 12 MiB, and the bound is 32 */
    cr_assert_neq(access(c, F_OK), 0);
    cr_assert_eq(access(a, F_OK), 0);
    cr_assert_eq(access(b, F_OK), 0);
    cr_assert_eq(access(d, F_OK), 0, "none of ours");
}

struct side {
    sqlite3 *db;
    int wrong;
};

static void *look_on(void *arg)
{
    struct side *s = arg;

    for (int i = 0; i < 200; i++)
        s->wrong += sql_int(s->db, "select (select sum(v) from t) - (select sum(v) from u)") != 0;
    return NULL;
}

/* Two that read and one that writes, all on the same file. */
Test(page_tier, processes_share_a_file_beside_a_writer)
{
    struct side side[2];
    pthread_t thread[2];
    sqlite3 *w;

    leave("db");
    w = open_kept("db");
    sql_do(w, "create table u(id integer primary key, v, pad); insert into u select * from t");
    for (int i = 0; i < 2; i++) {
        side[i].wrong = 0;
        side[i].db = open_more("db", i ? "127.0.0.1:3" : "127.0.0.1:4", "&cache_mb=1");
        sql_do(side[i].db, "pragma cache_size = 5");
        pthread_create(&thread[i], NULL, look_on, &side[i]);
    }
    for (int i = 1; i <= 200; i++) {
        char sql[200];

        snprintf(
            sql, sizeof sql,
            "begin; update t set v = %d where id = %d; update u set v = %d where id = %d; commit",
            i, i * 7 % 300 + 1, i, i * 11 % 300 + 1);
        sql_do(w, sql);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(thread[i], NULL);
        cr_assert_eq(side[i].wrong, 0);
        sql_close(side[i].db);
    }
    sql_close(w);
    w = open_kept("db");
    cr_assert_eq(sql_int(w, "select (select sum(v) from t) - (select sum(v) from u)"), 0);
    cr_assert_str_eq(sql_text(w, "pragma integrity_check"), "ok");
    sql_close(w);
}

Test(page_tier, a_child_opens_the_file_anew)
{
    sqlite3 *db;
    int status;
    pid_t pid;

    leave("db");
    db = open_kept("db");
    cr_assert_eq(sql_int(db, "select v from t where id = 1"), 0);
    pid = fork();
    if (pid == 0)
        _exit(sql_int(db, SUM) == 300 * 900 && stat_of(db, "disk_hits") > 60 ? 0 : 1);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
    cr_assert_eq(sql_int(db, SUM), 300 * 900);
    sql_close(db);
}

Test(page_tier, a_large_transaction_is_seen_by_whoever_kept_pages)
{
    sqlite3 *db;

    leave("db");
    sql_close(elsewhere("db", "insert into t select id + 1000, 1, zeroblob(900) from t;"
                              "create table big(v); insert into big values (zeroblob(6000000));"
                              "update t set v = 2"));
    db = open_kept("db");
    cr_assert_eq(sql_int(db, "select sum(v) from t"), 1200);
    sql_do(db, "create table big2(v); insert into big2 values (zeroblob(6000000)); vacuum");
    cr_assert_eq(sql_int(db, "select sum(v) from t"), 1200);
    sql_close(db);
    db = open_kept("db");
    cr_assert_eq(sql_int(db, "select sum(v) from t"), 1200);
    cr_assert_str_eq(sql_text(db, "pragma integrity_check"), "ok");
    sql_close(db);
}
