/* test_flows.c - whole stories, each told to a plain file as well: the dumps must be equal. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem_backend.h"
#include "sql.h"

TestSuite(flows, .init = sql_init, .timeout = 90);

static const char *const story[] = {
    "create table author(id integer primary key, name text unique)",
    ("create table book(id integer primary key, author int references author, title text, pages "
     "int)"),
    ("with recursive s(i) as (select 1 union all select i+1 from s where i < 200) "
     "insert into author select i, 'author ' || i from s"),
    ("with recursive s(i) as (select 1 union all select i+1 from s where i < 5000) "
     "insert into book select i, i % 200 + 1, 'title ' || (i * 7919 % 5003), i % 900 from s"),
    "create index by_author on book(author, pages)",
    ("create view thick as select name, title from author join book on author.id = author where "
     "pages > 800"),
    "create table journal(t text)",
    "create trigger told after delete on book begin insert into journal values(old.title); end",
    "delete from book where id % 13 = 0",
    "alter table book add column price real default 9.5",
    "alter table book rename column pages to n_pages",
    "update book set price = n_pages / 10.0 where author < 50",
    "savepoint one",
    "update book set title = title || ' (second edition)'",
    "savepoint two",
    "delete from book",
    "rollback to two",
    "insert into author values(1000, 'late')",
    "rollback to one",
    "insert into author values(1001, 'later')",
    "release one",
    "begin",
    "create table gone(x)",
    "insert into gone select zeroblob(2000) from book",
    "rollback",
    "create table wide(id integer primary key, b blob)",
    "insert into wide values(1, zeroblob(100000)), (2, zeroblob(300000))",
    "delete from wide where id = 1",
    "vacuum",
    "drop table journal",
    "create table without_rowid(k text primary key, v) without rowid",
    "insert into without_rowid select name, id from author",
    "reindex",
    "analyze",
    "pragma user_version = 42",
    "pragma application_id = 77",
};

/* A sum over everything that is in the database. */
static void dump(sqlite3 *db, char *out, size_t size)
{
    static const char *const questions[] = {
        "select group_concat(sql, ';') from (select sql from sqlite_master order by name)",
        ("select count(*) || '/' || sum(length(title)) || '/' || sum(price) || '/' || "
         "group_concat(substr(title, -4)) from (select * from book order by id)"),
        "select group_concat(name) from (select name from author order by id)",
        "select group_concat(title) from (select title from thick order by title)",
        "select sum(length(b)) from wide",
        "select group_concat(k || v) from without_rowid",
        "pragma user_version",
        "pragma application_id",
        "pragma page_count",
        "pragma freelist_count",
    };
    size_t n = 0;

    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++)
        n += (size_t)snprintf(out + n, size - n, "%s\n", sql_text(db, questions[i]));
    cr_assert_lt(n, size);
}

static void tell(sqlite3 *db, int cache)
{
    char pragma[60];

    snprintf(pragma, sizeof pragma, "pragma cache_size = %d", cache);
    sql_do(db, pragma);
    for (size_t i = 0; i < sizeof story / sizeof *story; i++)
        sql_do(db, story[i]);
}

/* The same by SQLite alone; of the file nothing is left. */
static void tell_plain(int page_size, int cache, char *out, size_t size)
{
    char name[] = "/tmp/corallite-plain-XXXXXX", sql[100];
    sqlite3 *file;
    int fd = mkstemp(name);

    cr_assert_geq(fd, 0);
    close(fd);
    cr_assert_eq(sqlite3_open_v2(name, &file, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix"),
                 SQLITE_OK);
    snprintf(sql, sizeof sql, "pragma page_size = %d", page_size);
    sql_do(file, sql);
    sql_do(file, "pragma journal_mode = wal");
    tell(file, cache);
    dump(file, out, size);
    sqlite3_close(file);
    snprintf(sql, sizeof sql, "rm -f %s %s-wal %s-shm", name, name, name);
    cr_assert_eq(system(sql), 0);
}

static void compare(int page_size, int cache)
{
    static char ours[100000], plain[100000];
    sqlite3 *a = sql_open("db"), *b;
    char sql[100];

    tell_plain(page_size, cache, plain, sizeof plain);
    snprintf(sql, sizeof sql, "pragma page_size = %d", page_size);
    sql_do(a, sql);
    tell(a, cache);
    dump(a, ours, sizeof ours);
    cr_expect_str_eq(ours, plain, "seen by the writer");
    b = sql_open_other("db");
    cr_assert_eq(sql_int(b, "pragma page_size"), page_size);
    dump(b, ours, sizeof ours);
    cr_expect_str_eq(ours, plain, "seen by another compute");
    cr_expect_str_eq(sql_text(b, "pragma integrity_check"), "ok");
    cr_expect_str_eq(sql_text(b, "pragma foreign_key_check"), "");
    sql_close(a);
    sql_close(b);
}

Test(flows, the_story_in_pages_of_4096_bytes)
{
    compare(4096, 2000);
}

Test(flows, the_story_with_a_cache_that_spills)
{
    compare(4096, 5);
}

Test(flows, the_story_in_pages_of_512_bytes)
{
    compare(512, 10);
}

Test(flows, the_story_in_pages_of_1024_bytes)
{
    compare(1024, 10);
}

Test(flows, the_story_in_pages_of_65536_bytes)
{
    compare(65536, 10);
}

Test(flows, a_transaction_larger_than_the_memory_of_its_wal)
{
    /* the private WAL goes to a temporary file beyond 64 MiB */
    sqlite3 *a = sql_open("db"), *b;

    sql_do(a, "create table big(id integer primary key, b blob)");
    sql_do(a, "begin");
    for (int i = 0; i < 9; i++)
        sql_do(a, "insert into big(b) values(randomblob(10000000))");
    cr_assert_eq(sql_int(a, "select sum(length(b)) from big"), 90000000);
    sql_do(a, "commit");
    b = sql_open_other("db");
    cr_assert_eq(sql_int(b, "select sum(length(b)) from big"), 90000000);
    cr_assert_str_eq(sql_text(b, "pragma quick_check"), "ok");
    sql_close(a);
    sql_close(b);
}

Test(flows, a_database_larger_than_the_cache)
{
    int rc;
    sqlite3 *a = sql_open_rc("db", "127.0.0.1:1", "&cache_mb=1",
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &rc);

    sql_do(a, "pragma cache_size = 20; create table t(id integer primary key, v, pad)");
    for (int i = 0; i < 10; i++)
        sql_do(a, "with recursive s(i) as (select 1 union all select i+1 from s where i < 1000) "
                  "insert into t(v, pad) select 1, randomblob(800) from s");
    sql_do(a, "update t set v = v + 1 where id % 2 = 0");
    cr_assert_eq(sql_int(a, "select sum(v) from t"), 15000);
    cr_assert_gt(mem_count.gets, 100, "pages were evicted and fetched");
    cr_assert_str_eq(sql_text(a, "pragma integrity_check"), "ok");
    sql_close(a);
}

/* A scan by a compute that has nothing asks for many pages at a time, for hardly more than there
 * are, and finds what is there; also what changed meanwhile, under it and before the next one. */
Test(flows, a_scan_asks_for_many_pages_at_a_time)
{
    sqlite3 *a = sql_open("shop");
    sql_do(a, "create table t(id integer primary key, k int, b blob)");
    sql_do(a, "with recursive s(i) as (select 1 union all select i+1 from s where i < 30000) "
              "insert into t select i, i * 7919 % 1000003, randomblob(100) from s");
    long long sum = sql_int(a, "select sum(k) from t");
    sqlite3 *b = sql_open_other("shop");
    long long pages = sql_int(b, "pragma page_count");
    unsigned gets = mem_count.gets, got = mem_count.pages;

    cr_assert_gt(pages, 700);
    cr_assert_eq(sql_int(b, "select sum(k) from t"), sum);
    cr_expect_lt(mem_count.gets - gets, pages / 20);
    cr_expect_lt(mem_count.pages - got, pages + pages / 10);
    sql_do(a, "update t set k = k + 1 where id % 3000 = 0");
    cr_assert_eq(sql_int(b, "select sum(k) from t"), sum + 10);
    sql_close(b);
    b = sql_open_other("shop");
    sql_do(b, "begin");
    cr_assert_eq(sql_int(b, "select k from t where id = 1"), 7919);
    sql_do(a, "update t set k = 0");
    cr_assert_eq(sql_int(b, "select sum(k) from t"), sum + 10, "of the moment it began at");
    sql_do(b, "commit");
    cr_assert_eq(sql_int(b, "select sum(k) from t"), 0);
    /* Single rows here and there ask for single pages. */
    sql_close(b);
    b = sql_open_other("shop");
    sql_int(b, "select k from t where id = 1");
    gets = mem_count.gets, got = mem_count.pages;
    for (int i = 1; i <= 40; i++) {
        char sql[80];
        snprintf(sql, sizeof sql, "select k from t where id = %d", 1 + i * 7717 % 30000);
        sql_int(b, sql);
    }
    cr_expect_leq(mem_count.pages - got, mem_count.gets - gets + 4);
    sql_close(b);
    sql_close(a);
}

/* Pages of a and b in turn, so that neither table's follow each other in the file. */
static void fill_in_turn(sqlite3 *db)
{
    sql_do(db, "create table a(id integer primary key, k int, pad); "
               "create table b(id integer primary key, k int, pad); "
               "create trigger both after insert on a begin "
               "insert into b values(new.id, new.k, randomblob(900)); end;"
               "with recursive s(i) as (select 1 union all select i+1 from s where i < 8000) "
               "insert into a select i, i, randomblob(900) from s; drop trigger both");
}

/* A scan in the order of the keys asks for its own pages, wherever they lie. */
Test(flows, a_scan_of_a_table_that_grew_beside_another)
{
    sqlite3 *a = sql_open("shop");
    fill_in_turn(a);
    sqlite3 *b = sql_open_other("shop");
    long long pages = sql_int(b, "pragma page_count") / 2;
    unsigned gets = mem_count.gets, got = mem_count.pages;

    cr_assert_eq(sql_int(b, "select sum(k) from a"), 8000 * 8001 / 2);
    cr_expect_lt(mem_count.gets - gets, pages / 20);
    cr_expect_lt(mem_count.pages - got, pages + pages / 20);
    gets = mem_count.gets, got = mem_count.pages;
    cr_assert_eq(sql_int(b, "select sum(k) from (select k from b order by id desc limit -1)"),
                 8000 * 8001 / 2);
    cr_expect_lt(mem_count.gets - gets, pages / 20);
    cr_expect_lt(mem_count.pages - got, pages + pages / 20);
    sql_close(b);
    sql_close(a);
}

/* The pages of a long record come along, wherever they lie; where the pageserver sends none, they
 * are asked for. */
Test(flows, a_long_record_in_scattered_pages)
{
    sqlite3 *a = sql_open("shop");
    fill_in_turn(a);
    sql_do(a, "drop table b; create table big(id integer primary key, b); "
              "insert into big values(1, randomblob(4000000))");
    for (int before = 0; before < 2; before++) {
        char sum[80];
        snprintf(sum, sizeof sum, "%s", sql_text(a, "select substr(hex(b), -60) from big"));
        mem.no_chains = before;
        sqlite3 *b = sql_open_other("shop");
        unsigned gets = mem_count.gets, got = mem_count.pages;

        cr_assert_str_eq(sql_text(b, "select substr(hex(b), -60) from big"), sum);
        if (!before) {
            cr_expect_lt(mem_count.gets - gets, 50);
            cr_expect_lt(mem_count.pages - got, 1000);
        }
        sql_close(b);
    }
    sql_close(a);
}
