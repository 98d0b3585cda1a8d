/* test_pacer.c - commits, and a pageserver that does not come near: real threads, a pageserver in
 * memory. The rules themselves are in test_pace.c; one that is away:
 * tests/integration/test_pace.py. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock_file.h"
#include "mem_backend.h"
#include "sql.h"

TestSuite(pacer, .init = sql_init, .timeout = 60);

#define INSERT "insert into t values(randomblob(700000))"

static sqlite3 *open_with(const char *more)
{
    int rc;
    sqlite3 *db =
        sql_open_rc("db", "127.0.0.1:1", more, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &rc);
    cr_assert(db, "open: %d", rc);
    return db;
}

/* The line of PRAGMA corallite_status, as a number. */
static long long line(sqlite3 *db, const char *name)
{
    char pattern[60];
    const char *text = sql_text(db, "pragma corallite_status"), *at;
    snprintf(pattern, sizeof pattern, "\n%s=", name);
    at = strstr(text, pattern);
    cr_assert(at, "%s is not in %s", name, text);
    return atoll(at + strlen(pattern));
}

/* How the pageserver is, as the pacer's thread was told last; it may be told a moment later. */
static bool becomes(sqlite3 *db, const char *what)
{
    char text[40];
    snprintf(text, sizeof text, "\npageserver=%s\n", what);
    SQL_UNTIL(strstr(sql_text(db, "pragma corallite_status"), text));
    return strstr(sql_text(db, "pragma corallite_status"), text);
}

/* At the hard limit nothing begins, until the pageserver moves; then all goes on. */
Test(pacer, at_the_limit_a_writer_waits_for_the_pageserver)
{
    sqlite3 *db = open_with("&lag_mb=4"), *b = sql_open("db");
    sql_do(db, "create table t(x)");
    mem.hold_ingest = true;
    for (int i = 0; i < 6; i++)
        sql_do(db, INSERT);
    cr_assert_gt(line(db, "pageserver_lag_bytes"), 4 << 20);
    cr_assert(becomes(db, "behind"));
    struct sql_thread *t = sql_start(db, INSERT);
    for (int i = 0; i < 300; i++)
        sql_nap();
    cr_assert(!sql_ended(t), "it waits");
    cr_assert_eq(sql_int(b, "select count(*) from t"), 6, "who reads does not");
    mem.hold_ingest = false;
    cr_assert_eq(sql_join(t), SQLITE_OK);
    cr_assert_gt(line(db, "waits_for_ingest"), 0);
    SQL_UNTIL(line(db, "pageserver_lag_bytes") < 1 << 20);
    cr_assert_lt(line(db, "pageserver_lag_bytes"), 1 << 20, "less is not asked about");
    cr_assert_eq(line(db, "commits_slowed"), 0);
    cr_assert(becomes(db, "near"));
    sql_close(b);
    sql_close(db);
}

/* lag_mb=0: as if it were not there. */
Test(pacer, without_a_limit_nobody_waits)
{
    sqlite3 *db = open_with("&lag_mb=0");
    sql_do(db, "create table t(x)");
    mem.hold_ingest = true;
    for (int i = 0; i < 12; i++)
        sql_do(db, INSERT);
    cr_assert_eq(line(db, "waits_for_ingest"), 0);
    mem.hold_ingest = false;
    sql_close(db);
}
