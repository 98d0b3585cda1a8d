/*
 * orders.c - a mix of two transactions in the manner of TPC-C: New-Order (half), which reads and
 * changes 5 to 15 stocks, and Payment (half). Not TPC-C: two of its five transactions, smaller
 * tables
 * (--items 10000, 300 customers a district), no waiting between them.
 *
 *   orders make|run|check --uri URI [--extension FILE] [--warehouses 10] [--items 10000]
 *                         [--threads 8] [--seconds 5] [--warm 0.3]
 *
 * run: the sum is the cents of all payments, plus 2^40 for each order. check prints what the tables
 * hold, after their own consistency (TPC-C 3.3.2.1 to 3.3.2.4 in short) and integrity_check.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/sqlite_client.h"

#define DISTRICTS 10
#define CUSTOMERS 300
#define ORDER     ((uint64_t)1 << 40)

static int warehouses, items;

enum {
    TAX,
    DISTRICT,
    NEXT,
    ADD_ORDER,
    PRICE,
    STOCK,
    TAKE,
    LINE,
    PAY_W,
    PAY_D,
    PAY_C,
    HISTORY,
    KINDS
};

static const char *const text[KINDS] = {
    [TAX] = "SELECT w_tax FROM warehouse WHERE w = ?1",
    [DISTRICT] = "SELECT d_next FROM district WHERE w = ?1 AND d = ?2",
    [NEXT] = "UPDATE district SET d_next = d_next + 1 WHERE w = ?1 AND d = ?2",
    [ADD_ORDER] = "INSERT INTO orders VALUES(?1, ?2, ?3, ?4, ?5)",
    [PRICE] = "SELECT i_price FROM item WHERE i = ?1",
    [STOCK] = "SELECT s_quantity FROM stock WHERE w = ?1 AND i = ?2",
    [TAKE] = "UPDATE stock SET s_quantity = ?3, s_ytd = s_ytd + ?4 WHERE w = ?1 AND i = ?2",
    [LINE] = "INSERT INTO order_line VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [PAY_W] = "UPDATE warehouse SET w_ytd = w_ytd + ?2 WHERE w = ?1",
    [PAY_D] = "UPDATE district SET d_ytd = d_ytd + ?3 WHERE w = ?1 AND d = ?2",
    [PAY_C] = "UPDATE customer SET c_balance = c_balance - ?4 WHERE w = ?1 AND d = ?2 AND c = ?3",
    [HISTORY] = "INSERT INTO history VALUES(?1, ?2, ?3, ?4, 'payment')",
};

struct client {
    sqlite3 *db;
    sqlite3_stmt *s[KINDS];
    uint64_t random;
};

static long long draw(struct client *c, long long n)
{
    return 1 + (long long)(bm_random(&c->random) % (uint64_t)n);
}

/* Binds numbers and runs; the first column of the first row, or 0. */
static long long ask(struct client *c, int kind, int n, const long long *numbers)
{
    sqlite3_stmt *s = c->s[kind];
    long long value = 0;
    for (int i = 0; i < n; i++)
        sqlite3_bind_int64(s, i + 1, numbers[i]);
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        value = sqlite3_column_int64(s, 0);
    else if (rc != SQLITE_DONE)
        bm_die("%s: %s", text[kind], sqlite3_errmsg(c->db));
    else if (sqlite3_column_count(s) != 0)
        bm_die("%s: there is no such row", text[kind]);
    if (!sqlite3_stmt_readonly(s) && sqlite3_changes(c->db) != 1)
        bm_die("%s: there is no such row", text[kind]);
    sqlite3_reset(s);
    return value;
}

#define ASK(c, kind, ...)                                                                          \
    ask(c, kind, sizeof((long long[]){__VA_ARGS__}) / sizeof(long long), (long long[]){__VA_ARGS__})

static void *client_open(void *context, int no)
{
    struct client *c = calloc(1, sizeof *c);
    (void)context;
    if (c == NULL)
        bm_die("no memory");
    c->db = sq_open();
    for (int i = 0; i < KINDS; i++)
        c->s[i] = sq_prepare(c->db, text[i]);
    c->random = bm_now_ns() * 0x9e3779b97f4a7c15u + (uint64_t)no + 1;
    return c;
}

static void client_close(void *client)
{
    struct client *c = client;
    for (int i = 0; i < KINDS; i++)
        sqlite3_finalize(c->s[i]);
    sqlite3_close(c->db);
    free(c);
}

static uint64_t new_order(struct client *c, long long w, long long d)
{
    long long lines = 4 + draw(c, 11);
    ASK(c, TAX, w);
    long long o = ASK(c, DISTRICT, w, d);
    ASK(c, NEXT, w, d);
    ASK(c, ADD_ORDER, w, d, o, draw(c, CUSTOMERS), lines);
    for (long long l = 1; l <= lines; l++) {
        long long i = draw(c, items), quantity = draw(c, 10), price = ASK(c, PRICE, i);
        long long have = ASK(c, STOCK, w, i);
        ASK(c, TAKE, w, i, have >= quantity + 10 ? have - quantity : have - quantity + 91,
            quantity);
        ASK(c, LINE, w, d, o, l, i, quantity, price * quantity);
    }
    return ORDER;
}

static uint64_t payment(struct client *c, long long w, long long d)
{
    long long amount = draw(c, 500000), customer = draw(c, CUSTOMERS);
    ASK(c, PAY_W, w, amount);
    ASK(c, PAY_D, w, d, amount);
    ASK(c, PAY_C, w, d, customer, amount);
    ASK(c, HISTORY, w, d, customer, amount);
    return (uint64_t)amount;
}

static uint64_t client_once(void *client, uint64_t n)
{
    struct client *c = client;
    long long w = draw(c, warehouses), d = draw(c, DISTRICTS);
    (void)n;
    sq_exec(c->db, "BEGIN IMMEDIATE");
    uint64_t done = bm_random(&c->random) & 1024 ? new_order(c, w, d) : payment(c, w, d);
    sq_exec(c->db, "COMMIT");
    return done;
}

static void make(void)
{
    sqlite3 *db = sq_open();
    char sql[1500];
    snprintf(
        sql, sizeof sql,
        "BEGIN; CREATE TABLE number(n INTEGER PRIMARY KEY);"
        "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < %d)"
        " INSERT INTO number SELECT i FROM r;"
        "CREATE TABLE warehouse(w INTEGER PRIMARY KEY, w_tax INT, w_ytd INT, w_name TEXT);"
        "INSERT INTO warehouse SELECT n, n %% 20, 0, 'warehouse ' || n FROM number WHERE n <= %d;"
        "CREATE TABLE district(w INT, d INT, d_ytd INT, d_next INT, d_name TEXT, PRIMARY KEY(w, "
        "d));"
        "INSERT INTO district SELECT w, n, 0, 1, 'district ' || n FROM warehouse, number WHERE n "
        "<= %d;"
        "CREATE TABLE customer(w INT, d INT, c INT, c_balance INT, c_data TEXT, PRIMARY KEY(w, d, "
        "c));"
        "INSERT INTO customer SELECT w, d, n, 0, hex(randomblob(100)) FROM district, number"
        " WHERE n <= %d;"
        "CREATE TABLE item(i INTEGER PRIMARY KEY, i_price INT, i_name TEXT);"
        "INSERT INTO item SELECT n, 100 + n %% 9900, 'item ' || n FROM number WHERE n <= %d;",
        items > CUSTOMERS ? items : CUSTOMERS, warehouses, DISTRICTS, CUSTOMERS, items);
    sq_exec(db, sql);
    sq_exec(db,
            "CREATE TABLE stock(w INT, i INT, s_quantity INT, s_ytd INT, s_data TEXT,"
            " PRIMARY KEY(w, i));"
            "INSERT INTO stock SELECT w, i, 50, 0, hex(randomblob(25)) FROM warehouse, item;"
            "CREATE TABLE orders(w INT, d INT, o INT, c INT, lines INT, PRIMARY KEY(w, d, o));"
            "CREATE TABLE order_line(w INT, d INT, o INT, l INT, i INT, quantity INT, amount INT,"
            " PRIMARY KEY(w, d, o, l));"
            "CREATE TABLE history(w INT, d INT, c INT, amount INT, data TEXT); COMMIT");
    sqlite3_close(db);
}

static void check(void)
{
    static const char *const consistent[] = {
        "SELECT (SELECT sum(w_ytd) FROM warehouse) = (SELECT sum(d_ytd) FROM district)",
        "SELECT (SELECT sum(d_next - 1) FROM district) = (SELECT count(*) FROM orders)",
        "SELECT (SELECT coalesce(sum(lines), 0) FROM orders) = (SELECT count(*) FROM order_line)",
        "SELECT (SELECT sum(w_ytd) FROM warehouse) = (SELECT -sum(c_balance) FROM customer)",
        "SELECT (SELECT sum(w_ytd) FROM warehouse) = (SELECT coalesce(sum(amount), 0) FROM "
        "history)",
        "SELECT (SELECT sum(s_ytd) FROM stock) = (SELECT coalesce(sum(quantity), 0) FROM "
        "order_line)",
        "SELECT integrity_check = 'ok' FROM pragma_integrity_check",
    };
    sqlite3 *db = sq_open();
    for (size_t i = 0; i < sizeof consistent / sizeof *consistent; i++) {
        if (sq_value(db, consistent[i]) != 1)
            bm_die("not so: %s", consistent[i]);
    }
    printf("{\"orders\": %lld, \"paid\": %lld}\n", sq_value(db, "SELECT count(*) FROM orders"),
           sq_value(db, "SELECT sum(w_ytd) FROM warehouse"));
    sqlite3_close(db);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    struct bm_load load = bm_load_options(argc, argv);
    struct bm_result result;

    warehouses = (int)bm_number(argc, argv, "--warehouses", 10);
    items = (int)bm_number(argc, argv, "--items", 10000);
    sq_options(argc, argv);
    if (strcmp(mode, "make") == 0) {
        make();
        printf("{}\n");
    } else if (strcmp(mode, "check") == 0) {
        check();
    } else if (strcmp(mode, "run") == 0) {
        load.open = client_open, load.once = client_once, load.close = client_close;
        bm_run(&load, &result);
        bm_print(&result, NULL);
    } else {
        bm_die("the modes are make, run, check");
    }
    return 0;
}
