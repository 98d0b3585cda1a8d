/*
 * page_format.c - how large may one value of the page store be?
 *
 * Makes a database with SQLite itself (a table with an index, rows of text and numbers), takes its
 * pages, and puts them as versions into the very store of the pageserver with different bounds of a
 * chunk; then looks versions up at random. Prints for each page size and bound: bytes on disk a
 * version, put and lookup times.
 *
 * Build and run (after `make`):
 *   cc -std=c11 -D_GNU_SOURCE -O2 -I. -Ibuild/gen bench/page_format.c build/libpageserver.a \
 *      build/libproto.a build/libcommon.a -lsqlite3 -llmdb -lzstd -lprotobuf-c -lcrypto -luv \
 *      -lmicrohttpd -lm -o build/page_format && build/page_format [DIR]
 */
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "pageserver/store_lmdb.h"

#define VERSIONS 4u /* of each page */
#define BATCH    200u
#define LOOKUPS  200000u

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void must(int rc, const char *what)
{
    if (rc) {
        fprintf(stderr, "page_format: %s: %s\n", what, co_sentence());
        exit(1);
    }
}

static void sql(sqlite3 *db, const char *text)
{
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK) {
        fprintf(stderr, "page_format: %s: %s\n", text, sqlite3_errmsg(db));
        exit(1);
    }
}

/* A shop's orders: names from a small vocabulary, numbers, a note of random length, two indexes. */
static uint8_t *make_database(const char *path, uint32_t page_size, uint32_t *n_pages)
{
    sqlite3 *db;
    char text[512];
    unlink(path);
    if (sqlite3_open(path, &db) != SQLITE_OK)
        exit(1);
    snprintf(text, sizeof text, "PRAGMA page_size=%u; PRAGMA journal_mode=off;", page_size);
    sql(db, text);
    sql(db, "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer TEXT, product TEXT, amount REAL,"
            " at TEXT, token BLOB, note TEXT)");
    sql(db, "CREATE INDEX by_customer ON orders(customer, at)");
    sql(db, "CREATE INDEX by_token ON orders(token)");
    sql(db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 120000) "
            "INSERT INTO orders SELECT i, 'customer-' || abs(random() % 5000) || '@example.org', "
            "CASE abs(random() % 4) WHEN 0 THEN 'espresso' WHEN 1 THEN 'flat white' WHEN 2 THEN "
            "'filter' ELSE 'beans, 1 kg' END, round(abs(random() % 10000) / 100.0, 2), "
            "datetime(1700000000 + i * 17, 'unixepoch'), randomblob(16), "
            "hex(randomblob(abs(random() % 40))) FROM n");
    sqlite3_close(db);
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st))
        exit(1);
    uint8_t *bytes = malloc((size_t)st.st_size);
    if (!bytes || fread(bytes, 1, (size_t)st.st_size, f) != (size_t)st.st_size)
        exit(1);
    fclose(f);
    *n_pages = (uint32_t)((uint64_t)st.st_size / page_size);
    return bytes;
}

static uint64_t rng_state = 88172645463325252u;
static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

static uint64_t disk_bytes(const char *dir)
{
    char path[400];
    struct stat st;
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    return stat(path, &st) ? 0 : (uint64_t)st.st_size;
}

static void clean(const char *dir)
{
    char path[400];
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/lock.mdb", dir);
    unlink(path);
}

/* Puts VERSIONS of every page in random order, BATCH to a transaction; the first BATCHes sync. */
static double put_all(struct ps_store *store, const uint8_t *pages, uint32_t n, uint32_t size)
{
    struct ps_txn *txn;
    uint32_t total = n * VERSIONS, *order = malloc(total * sizeof *order);
    uint8_t *page = malloc(size);
    if (!order || !page)
        exit(1);
    for (uint32_t i = 0; i < total; i++)
        order[i] = i;
    for (uint32_t i = total - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(rng() % (i + 1)), t = order[i];
        order[i] = order[j], order[j] = t;
    }
    must(ps_write_new(store, &txn), "begin");
    uint64_t begin = now_ns();
    for (uint32_t i = 0; i < total; i++) {
        uint32_t p = order[i] % n, version = order[i] / n;
        if (i % BATCH == 0)
            must(ps_write_begin(txn), "begin");
        memcpy(page, pages + (size_t)p * size, size);
        for (uint32_t k = 0; k < version * 8; k++) /* a few rows of it changed */
            page[size / 2 + (k * 97) % (size / 2)] ^= (uint8_t)(version * 31 + k);
        must(ps_page_put(txn, 1, p + 1, 1000 * (version + 1), page, size, co_crc32c(0, page, size),
                         co_span_of(NULL, 0)),
             "put");
        if (i % BATCH == BATCH - 1 || i == total - 1)
            must(ps_write_commit(txn), "commit");
    }
    double us = (double)(now_ns() - begin) / 1e3 / total;
    ps_write_free(txn);
    free(order);
    free(page);
    return us;
}

static double look_up(struct ps_store *store, uint32_t n, uint32_t size)
{
    struct ps_txn *txn;
    struct ps_line line = {.no = 1};
    uint8_t *page = malloc(size);
    lsn_t version;
    uint32_t crc;
    must(ps_read_new(store, &txn), "read");
    uint64_t begin = now_ns();
    for (uint32_t i = 0; i < LOOKUPS; i++) {
        lsn_t lsn = 1000 + rng() % (1000 * VERSIONS);
        must(ps_read_renew(txn), "renew");
        must(ps_page_get(txn, &line, (pgno_t)(rng() % n) + 1, lsn, size, page, &version, &crc),
             "lookup");
        ps_read_reset(txn);
    }
    double us = (double)(now_ns() - begin) / 1e3 / LOOKUPS;
    ps_read_free(txn);
    free(page);
    return us;
}

static void one(const char *dir, const uint8_t *pages, uint32_t n, uint32_t size, uint32_t chunk)
{
    struct ps_store_options o = {
        .dir = dir, .map_bytes = 64 * CO_GIB, .chunk_max_bytes = chunk, .no_sync = true};
    struct ps_store *store;
    clean(dir);
    must(ps_store_open(&o, &store), "open");
    double put = put_all(store, pages, n, size);
    double get = look_up(store, n, size);
    ps_store_close(store);
    printf("%6u %6u %8u %10.0f %7.2f %9.2f %9.2f\n", size, chunk, n * VERSIONS,
           (double)disk_bytes(dir) / (n * VERSIONS),
           (double)disk_bytes(dir) / ((double)n * VERSIONS * size), put, get);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const uint32_t sizes[] = {1024, 4096, 8192, 32768};
    static const uint32_t chunks[] = {640, 1000, PS_CHUNK_INLINE_MAX, PS_CHUNK_MAX};
    char dir[256], path[300], store[300];
    snprintf(dir, sizeof dir, "%s", argc > 1 ? argv[1] : "/tmp/corallite-page-format");
    if (mkdir(dir, 0700) && errno != EEXIST) {
        perror(dir);
        return 1;
    }
    snprintf(path, sizeof path, "%s/shop.db", dir);
    snprintf(store, sizeof store, "%s/store", dir);
    printf("%6s %6s %8s %10s %7s %9s %9s\n", "page", "chunk", "versions", "B/version", "ratio",
           "put us", "lookup us");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint32_t n;
        uint8_t *pages = make_database(path, sizes[i], &n);
        uint32_t use = n < 40000000 / sizes[i] ? n : 40000000 / sizes[i];
        for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++)
            one(store, pages, use, sizes[i], chunks[c]);
        free(pages);
    }
    clean(store);
    rmdir(store);
    unlink(path);
    rmdir(dir);
    return 0;
}
