/*
 * rows.c - small loads on SQLite's C interface; the same program for a file and for Corallite.
 *
 *   rows MODE --uri URI [--extension FILE] [--threads 1] [--seconds 2] [--warm 0.3]
 *             [--synchronous full] [--cache-kib 2000]
 *
 *   insert   one row a transaction
 *   batch    --batch rows a transaction (1000); counts transactions
 *   blob     one row of --bytes random bytes a transaction: as many new pages as they fill
 *   update   one row of the keys 1 .. --rows a transaction, its number changed
 *   read     one row by its key, of the keys 1 .. --rows, each connection warmed by a scan first;
 *            with --hold 1 the process has committed before, so that it holds the lease
 *   query    --sql, which answers one number, --times (1) over, each on a new connection; the time
 *            has the opening in it; and the memory of the process before it closes the last
 *   fill     makes --rows rows of --bytes bytes (100), half of them random, 10,000 a transaction
 *   count    how many rows have an id above --after (0), and their sum; with --check 1 what
 *            integrity_check says
 *
 * The sum of what the operations return is the sum of k that the table has grown by (insert, batch,
 * blob), how much larger it has become (update), or the number of rows found (read).
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/row.h"
#include "bench/lib/sqlite_client.h"

static int batch, rows, bytes, argc_;
static char **argv_;

struct client {
    sqlite3 *db;
    sqlite3_stmt *statement;
    struct row row;
    uint8_t *bytes; /* of fill and blob */
};

static struct client *client_new(int no, const char *sql)
{
    struct client *c = calloc(1, sizeof *c);
    if (c == NULL)
        bm_die("no memory");
    c->db = sq_open();
    c->statement = sq_prepare(c->db, sql);
    row_begin(&c->row, no);
    c->bytes = malloc((size_t)bytes + 16);
    if (c->bytes == NULL)
        bm_die("no memory for %d bytes", bytes);
    memset(c->bytes, 'x', (size_t)bytes);
    return c;
}

static void client_close(void *client)
{
    struct client *c = client;
    sqlite3_finalize(c->statement);
    if (sqlite3_close(c->db) != SQLITE_OK)
        bm_die("close: %s", sqlite3_errmsg(c->db));
    free(c->bytes);
    free(c);
}

static void *insert_open(void *context, int no)
{
    (void)context;
    return client_new(no, "INSERT INTO t(k, v) VALUES(?, ?)");
}

static uint64_t insert_once(void *client, uint64_t n)
{
    struct client *c = client;
    (void)n;
    row_next(&c->row);
    sqlite3_bind_int64(c->statement, 1, (sqlite3_int64)c->row.k);
    sqlite3_bind_blob(c->statement, 2, c->row.v, ROW_BYTES, SQLITE_STATIC);
    sq_run(c->db, c->statement);
    return c->row.k;
}

static uint64_t batch_once(void *client, uint64_t n)
{
    struct client *c = client;
    uint64_t sum = 0;
    sq_exec(c->db, "BEGIN IMMEDIATE");
    for (int i = 0; i < batch; i++)
        sum += insert_once(client, n);
    sq_exec(c->db, "COMMIT");
    return sum;
}

/* A row whose first `random` bytes of --bytes are random. */
static uint64_t insert_bytes(struct client *c, size_t random)
{
    row_next(&c->row);
    for (size_t i = 0; i < random; i += 8) {
        uint64_t eight = bm_random(&c->row.state);
        memcpy(c->bytes + i, &eight, sizeof eight);
    }
    sqlite3_bind_int64(c->statement, 1, (sqlite3_int64)c->row.k);
    sqlite3_bind_blob(c->statement, 2, c->bytes, bytes, SQLITE_STATIC);
    sq_run(c->db, c->statement);
    return c->row.k;
}

static uint64_t blob_once(void *client, uint64_t n)
{
    (void)n;
    return insert_bytes(client, (size_t)bytes);
}

static void *update_open(void *context, int no)
{
    (void)context;
    return client_new(no, "UPDATE t SET k = k + 1 WHERE id = ?");
}

static uint64_t update_once(void *client, uint64_t n)
{
    struct client *c = client;
    (void)n;
    sqlite3_bind_int64(c->statement, 1,
                       1 + (sqlite3_int64)(bm_random(&c->row.state) % (uint64_t)rows));
    sq_run(c->db, c->statement);
    if (sqlite3_changes(c->db) != 1)
        bm_die("a row that should be there is not");
    return 1;
}

static void *read_open(void *context, int no)
{
    (void)context;
    struct client *c = client_new(no, "SELECT k, v FROM t WHERE id = ?");
    if (bm_number(argc_, argv_, "--hold", 0) && no == 0)
        sq_exec(c->db, "UPDATE t SET k = k WHERE id = 1");
    sq_exec(c->db, "SELECT sum(length(v)) FROM t");
    return c;
}

static uint64_t read_once(void *client, uint64_t n)
{
    struct client *c = client;
    (void)n;
    sqlite3_bind_int64(c->statement, 1,
                       1 + (sqlite3_int64)(bm_random(&c->row.state) % (uint64_t)rows));
    if (sqlite3_step(c->statement) != SQLITE_ROW ||
        sqlite3_column_bytes(c->statement, 1) != ROW_BYTES)
        bm_die("a row that should be there is not: %s", sqlite3_errmsg(c->db));
    uint64_t k = (uint64_t)sqlite3_column_int64(c->statement, 0);
    sqlite3_reset(c->statement);
    return k != 0;
}

/* Memory of this process that no file stands behind. */
static long long anonymous_kib(void)
{
    char line[200];
    long long kib = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && kib < 0 && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %lld", &kib) != 1)
            kib = -1;
    if (f)
        fclose(f);
    return kib;
}

static int query(void)
{
    const char *sql = bm_option(argc_, argv_, "--sql", NULL);
    int times = (int)bm_number(argc_, argv_, "--times", 1);
    uint64_t *ns = calloc((size_t)(times > 0 ? times : 1), sizeof *ns), began = bm_now_ns();
    struct bm_result result;
    char extra[100];
    long long value = 0, kib = 0;
    if (sql == NULL || ns == NULL || times < 1)
        bm_die("--sql and --times are wanted");
    for (int i = 0; i < times; i++) {
        uint64_t before = bm_now_ns();
        sqlite3 *db = sq_open();
        value = sq_value(db, sql);
        ns[i] = bm_now_ns() - before;
        kib = anonymous_kib();
        sqlite3_close(db);
    }
    bm_summarize(ns, (size_t)times, began, bm_now_ns(), &result);
    snprintf(extra, sizeof extra, "\"value\": %lld, \"anonymous_kib\": %lld", value, kib);
    bm_print(&result, extra);
    free(ns);
    return 0;
}

static int fill(void)
{
    struct client *c = insert_open(NULL, 0);
    uint64_t sum = 0;
    for (int done = 0; done < rows;) {
        sq_exec(c->db, "BEGIN IMMEDIATE");
        for (int i = 0; i < 10000 && done < rows; i++, done++)
            sum += insert_bytes(c, (size_t)bytes / 2);
        sq_exec(c->db, "COMMIT");
    }
    client_close(c);
    printf("{\"n\": %d, \"all_sum\": %llu}\n", rows, (unsigned long long)sum);
    return 0;
}

static int count(void)
{
    sqlite3 *db = sq_open();
    char sql[100];
    long long after = bm_number(argc_, argv_, "--after", 0), n, sum;
    snprintf(sql, sizeof sql, "SELECT count(*) FROM t WHERE id > %lld", after);
    n = sq_value(db, sql);
    snprintf(sql, sizeof sql, "SELECT coalesce(sum(k), 0) FROM t WHERE id > %lld", after);
    sum = sq_value(db, sql);
    printf("{\"n\": %lld, \"sum\": %lld", n, sum);
    if (bm_number(argc_, argv_, "--check", 0)) {
        sqlite3_stmt *s = sq_prepare(db, "PRAGMA integrity_check");
        if (sqlite3_step(s) != SQLITE_ROW)
            bm_die("integrity_check: %s", sqlite3_errmsg(db));
        printf(", \"integrity\": \"%.20s\"", (const char *)sqlite3_column_text(s, 0));
        sqlite3_finalize(s);
    }
    printf("}\n");
    sqlite3_close(db);
    return 0;
}

static const struct mode {
    const char *name;
    void *(*open)(void *context, int no);
    uint64_t (*once)(void *client, uint64_t n);
} modes[] = {
    {"insert", insert_open, insert_once}, {"batch", insert_open, batch_once},
    {"blob", insert_open, blob_once},     {"update", update_open, update_once},
    {"read", read_open, read_once},
};

static void run(const char *name)
{
    struct bm_load load = bm_load_options(argc_, argv_);
    struct bm_result result;
    load.close = client_close;
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(name, modes[i].name) == 0)
            load.open = modes[i].open, load.once = modes[i].once;
    }
    if (load.open == NULL)
        bm_die("the modes are insert, batch, blob, update, read, query, fill, count");
    bm_run(&load, &result);
    bm_print(&result, NULL);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";

    argc_ = argc, argv_ = argv;
    batch = (int)bm_number(argc, argv, "--batch", 1000);
    rows = (int)bm_number(argc, argv, "--rows", 1000);
    bytes = (int)bm_number(argc, argv, "--bytes", ROW_BYTES);
    sq_options(argc, argv);
    if (strcmp(mode, "query") == 0)
        return query();
    sqlite3 *db = sq_open();
    sq_exec(db, "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, k INT, v BLOB)");
    sqlite3_close(db);
    if (strcmp(mode, "fill") == 0)
        return fill();
    if (strcmp(mode, "count") == 0)
        return count();
    run(mode);
    return 0;
}
