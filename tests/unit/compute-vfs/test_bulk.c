/* test_bulk.c - whole pages into an empty branch, past SQLite (proto/bulk.h). */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem_backend.h"
#include "proto/bulk.h"
#include "sql.h"

TestSuite(bulk, .init = sql_init, .timeout = 60);

#define PAGE 4096u

static int ask(sqlite3 *db, struct bulk_request *r)
{
    return sqlite3_file_control(db, "main", BULK_CONTROL, r);
}

static struct bulk_request begin(sqlite3 *db)
{
    struct bulk_request r = {.what = BULK_BEGIN};
    cr_assert_eq(ask(db, &r), SQLITE_OK);
    return r;
}

/* The bytes of a database that SQLite made; *pages of them. */
static uint8_t *made(const char *sql, uint32_t *pages)
{
    sqlite3 *db;
    sqlite3_int64 size;
    cr_assert_eq(sqlite3_open(":memory:", &db), SQLITE_OK);
    sql_do(db, sql);
    uint8_t *bytes = sqlite3_serialize(db, "main", &size, 0);
    cr_assert(bytes && size % PAGE == 0);
    *pages = (uint32_t)(size / PAGE);
    sqlite3_close(db);
    return bytes;
}

#define TABLE                                                                                      \
    "pragma page_size=4096; create table t(a integer primary key, b);"                             \
    "with recursive i(x) as (select 1 union all select x + 1 from i where x < 3000)"               \
    " insert into t select x, randomblob(500) from i"

static int write_some(sqlite3 *db, uint8_t *bytes, pgno_t first, uint32_t n)
{
    struct bulk_request r = {.what = BULK_WRITE,
                             .page_size = PAGE,
                             .db_pages = first + n - 1,
                             .first = first,
                             .n = n,
                             .data = bytes + (size_t)(first - 1) * PAGE};
    return ask(db, &r);
}

/* What was written is a database, for everybody, in as many commits as there were writes. */
Test(bulk, pages_that_were_written_are_a_database)
{
    uint32_t pages;
    uint8_t *bytes = made(TABLE, &pages);
    sqlite3 *db = sql_open("db"), *other;
    struct bulk_request r = begin(db), end = {.what = BULK_END};
    unsigned commits = mem_transactions("db"), n = 0;
    cr_assert_eq(r.db_pages, 0u);
    for (pgno_t at = 1; at <= pages; at += 20, n++)
        cr_assert_eq(write_some(db, bytes, at, pages - at + 1 < 20 ? pages - at + 1 : 20),
                     SQLITE_OK);
    cr_assert_eq(ask(db, &end), SQLITE_OK);
    cr_assert_eq(mem_transactions("db") - commits, n);
    cr_assert_gt(n, 16u, "more than are on their way at once");
    other = sql_open_other("db");
    cr_assert_str_eq(sql_text(other, "pragma integrity_check"), "ok");
    cr_assert_eq(sql_int(other, "select count(*) from t"), 3000);
    sql_close(other);
    cr_assert_eq(sql_int(db, "select count(*) from t"), 3000, "and for the connection itself");
    sql_do(db, "insert into t values(9999, 1)");
    sql_close(db);
    sqlite3_free(bytes);
}

/* One that ends in the middle leaves a prefix, which can be read back and gone on with. */
Test(bulk, it_goes_on_behind_what_is_there)
{
    uint32_t pages;
    uint8_t *bytes = made(TABLE, &pages), *back = malloc(50 * PAGE);
    sqlite3 *db = sql_open("db");
    struct bulk_request r = begin(db), end = {.what = BULK_END};
    cr_assert_eq(write_some(db, bytes, 1, 50), SQLITE_OK);
    sql_close(db);
    db = sql_open("db");
    r = begin(db);
    cr_assert_eq(r.db_pages, 50u);
    cr_assert_eq(r.page_size, PAGE);
    r = (struct bulk_request){
        .what = BULK_READ, .page_size = PAGE, .db_pages = 50, .first = 1, .n = 50, .data = back};
    cr_assert_eq(ask(db, &r), SQLITE_OK);
    bytes[18] = bytes[19] = 2;
    cr_assert_eq(memcmp(back, bytes, 50 * PAGE), 0);
    for (pgno_t at = 51; at <= pages; at += 100)
        cr_assert_eq(write_some(db, bytes, at, pages - at + 1 < 100 ? pages - at + 1 : 100),
                     SQLITE_OK);
    cr_assert_eq(ask(db, &end), SQLITE_OK);
    cr_assert_str_eq(sql_text(db, "pragma integrity_check"), "ok");
    sql_close(db);
    free(back);
    sqlite3_free(bytes);
}

/* The turn is kept: nobody writes in between; and given back, at the end or with the connection. */
Test(bulk, nobody_writes_meanwhile)
{
    uint32_t pages;
    uint8_t *bytes = made(TABLE, &pages);
    sqlite3 *db = sql_open("db"), *other = sql_open("db");
    begin(db);
    cr_assert_eq(write_some(db, bytes, 1, 50), SQLITE_OK);
    cr_assert_neq(sql_rc(other, "begin immediate"), SQLITE_OK);
    struct bulk_request r = {.what = BULK_BEGIN};
    cr_assert_eq(ask(other, &r), SQLITE_BUSY);
    sql_close(db);
    cr_assert_neq(ask(other, &(struct bulk_request){.what = BULK_END}), SQLITE_OK, "none");
    begin(other);
    sql_close(other);
    sqlite3_free(bytes);
}

/* What makes no sense is refused. */
Test(bulk, wrong_requests_are_refused)
{
    uint8_t *bytes = calloc(4, PAGE);
    sqlite3 *db = sql_open("db");
    cr_assert_neq(write_some(db, bytes, 1, 1), SQLITE_OK, "before BEGIN");
    begin(db);
    struct bulk_request r = {.what = BULK_BEGIN};
    cr_assert_neq(ask(db, &r), SQLITE_OK, "twice");
    r = (struct bulk_request){
        .what = BULK_WRITE, .page_size = PAGE, .db_pages = 1, .first = 1, .n = 2, .data = bytes};
    cr_assert_neq(ask(db, &r), SQLITE_OK, "beyond the end");
    r.first = 0, r.n = 1;
    cr_assert_neq(ask(db, &r), SQLITE_OK, "page 0");
    r.first = 1, r.n = 100000, r.db_pages = 200000;
    cr_assert_neq(ask(db, &r), SQLITE_OK, "too many");
    r = (struct bulk_request){
        .what = BULK_READ, .page_size = PAGE, .db_pages = 1, .first = 1, .n = 1, .data = bytes};
    cr_assert_neq(ask(db, &r), SQLITE_OK, "nothing is there to be read");
    sql_close(db);
    free(bytes);
}
