/* test_path.c - the main path on the memory backend, through stock SQLite. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "mem_backend.h"
#include "sql.h"

TestSuite(path, .init = sql_init, .timeout = 60);

Test(path, rows_written_by_one_compute_are_read_by_another)
{
    sqlite3 *a = sql_open("shop"), *b;

    sql_do(a, "create table t(a integer primary key, b)");
    sql_do(a, "insert into t values (1,'one'),(2,'two')");
    cr_assert_eq(sql_int(a, "select count(*) from t"), 2);
    b = sql_open_other("shop");
    cr_assert_str_eq(sql_text(b, "select b from t where a = 2"), "two");
    cr_assert_str_eq(sql_text(b, "pragma integrity_check"), "ok");
    sql_do(a, "insert into t values (3,'three')");
    cr_assert_eq(sql_int(b, "select count(*) from t"), 3, "reads are strict");
    sql_close(a);
    sql_close(b);
}
