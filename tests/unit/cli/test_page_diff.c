/*
 * Which rows may differ, told by the pages that changed: compared with what reading everything
 * tells, over random databases and random work on them. PAGE_DIFF_SEED and PAGE_DIFF_RUNS: more of
 * it.
 */
#include <criterion/criterion.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/diff.h"

TestSuite(page_diff, .timeout = 300);

/* -- chance --------------------------------------------------------------------------------------
 */

static uint64_t state;

static void seed(uint64_t n)
{
    state = n * 0x9e3779b97f4a7c15ull + 1;
}

static unsigned below(unsigned n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 33) % n;
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* -- databases -----------------------------------------------------------------------------------
 */

static void exec(sqlite3 *db, const char *sql)
{
    char *message = NULL;
    sqlite3_exec(db, sql, NULL, NULL, &message);
    cr_assert(message == NULL, "%s: %s", sql, message);
}

static int64_t number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s = NULL;
    cr_assert_eq(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK, "%s: %s", sql,
                 sqlite3_errmsg(db));
    cr_assert_eq(sqlite3_step(s), SQLITE_ROW, "%s: %s", sql, sqlite3_errmsg(db));
    int64_t value = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return value;
}

struct image {
    unsigned char *data;
    size_t bytes;
};

static struct image image_of(sqlite3 *db)
{
    sqlite3_int64 n = 0;
    unsigned char *data = sqlite3_serialize(db, "main", &n, 0);
    cr_assert(data != NULL);
    return (struct image){data, (size_t)n};
}

static void put_image(sqlite3 *db, const char *schema, struct image image)
{
    unsigned char *copy = sqlite3_malloc64(image.bytes);
    cr_assert(copy != NULL);
    memcpy(copy, image.data, image.bytes);
    cr_assert_eq(sqlite3_deserialize(
                     db, schema, copy, (sqlite3_int64)image.bytes, (sqlite3_int64)image.bytes,
                     SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_RESIZEABLE),
                 SQLITE_OK);
}

static sqlite3 *open_image(struct image image)
{
    sqlite3 *db = NULL;
    cr_assert_eq(sqlite3_open(":memory:", &db), SQLITE_OK);
    put_image(db, "main", image);
    return db;
}

/* -- work ----------------------------------------------------------------------------------------
 */

struct kind {
    const char *name, *create;
    const char *same;   /* but for v */
    const char *insert; /* ?1: a number; ?2: a value */
    const char *where;  /* a stretch of rows, from ?1 on, ?2 long */
    bool blobs;         /* column v can be written in place */
};

static const struct kind kinds[] = {
    {"t1", "CREATE TABLE t1(id INTEGER PRIMARY KEY, v, b)", "y.id = x.id AND y.b IS x.b",
     "INSERT OR REPLACE INTO t1 VALUES(CASE ?1 % 50 WHEN 7 THEN 9223372036854775807 - ?1 / 50"
     " WHEN 8 THEN -9223372036854775807 - 1 + ?1 / 50 ELSE ?1 END, ?2, ?1 % 7)",
     "id >= ?1 AND id < ?1 + ?2", true},
    {"t2", "CREATE TABLE t2(a TEXT PRIMARY KEY, v)", "y.rowid = x.rowid AND y.a IS x.a",
     "INSERT OR REPLACE INTO t2 VALUES('key ' || (?1 * 7919 % 10007), ?2)",
     "rowid >= ?1 AND rowid < ?1 + ?2", true},
    {"t3", "CREATE TABLE t3(a, v); CREATE INDEX t3_a ON t3(a DESC, v); CREATE INDEX t3_v ON t3(v)",
     "y.rowid = x.rowid AND y.a IS x.a", "INSERT INTO t3 VALUES(?1 % 100, ?2)",
     "a >= ?1 % 100 AND a < ?1 % 100 + ?2 / 10", false},
    {"w1",
     "CREATE TABLE w1(k2 INT, v, k1 TEXT COLLATE NOCASE, PRIMARY KEY(k1, k2 DESC)) WITHOUT ROWID;"
     "CREATE INDEX w1_v ON w1(v)",
     "y.k1 = x.k1 COLLATE BINARY AND y.k2 = x.k2",
     "INSERT OR REPLACE INTO w1 VALUES(?1 % 10, ?2, char(65 + ?1 % 26,"
     " 65 + ?1 % 2 * 32 + ?1 % 25) || ?1 / 10)",
     "k1 >= char(65 + ?1 % 26) AND k1 < char(65 + ?1 % 26, 97 + ?2 % 26)", false},
    {"w2", "CREATE TABLE w2(k PRIMARY KEY, v) WITHOUT ROWID", "y.k = x.k",
     "INSERT OR REPLACE INTO w2 VALUES(CASE ?1 % 3 WHEN 0 THEN ?1 WHEN 1 THEN ?1 / 3.0"
     " ELSE zeroblob(?1 % 5 * 300) || ?1 END, ?2)",
     "k >= ?1 AND k < ?1 + ?2", false},
};
#define KINDS (sizeof kinds / sizeof *kinds)

static unsigned page_size;

static unsigned some_length(void)
{
    unsigned page = page_size > 4096 && below(20) ? 1024 : page_size;
    switch (below(8)) {
    case 0:
        return below(4 * page);
    case 1:
        return below(page);
    default:
        return below(60);
    }
}

/* Runs a statement with ?1, ?2 bound to numbers, or ?2 to a value. */
static void run(sqlite3 *db, const char *sql, int64_t one, int64_t two, bool value)
{
    sqlite3_stmt *s = NULL;
    cr_assert_eq(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK, "%s: %s", sql,
                 sqlite3_errmsg(db));
    sqlite3_bind_int64(s, 1, one);
    if (value) {
        unsigned n = (unsigned)two;
        unsigned char *bytes = malloc(n + 1);
        for (unsigned i = 0; i < n; i++)
            bytes[i] = (unsigned char)('a' + (i < 4 || i + 4 > n ? below(26) : i % 26));
        if (below(2))
            sqlite3_bind_blob(s, 2, bytes, (int)n, SQLITE_TRANSIENT);
        else
            sqlite3_bind_text(s, 2, (char *)bytes, (int)n, SQLITE_TRANSIENT);
        free(bytes);
    } else {
        sqlite3_bind_int64(s, 2, two);
    }
    int step = sqlite3_step(s);
    cr_assert(step == SQLITE_DONE, "%s: %s", sql, sqlite3_errmsg(db));
    sqlite3_finalize(s);
}

static bool has(sqlite3 *db, const char *table)
{
    char sql[120];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM sqlite_schema WHERE name = '%s'", table);
    return number(db, sql) != 0;
}

/* Bytes in the middle or at the end of a long value, where they lie. */
static void overwrite(sqlite3 *db, const struct kind *k)
{
    char sql[160];
    sqlite3_blob *blob = NULL;
    snprintf(sql, sizeof sql,
             "SELECT coalesce((SELECT rowid FROM %s WHERE length(v) > %u AND typeof(v) = 'blob'"
             " ORDER BY rowid * %u %% 101 LIMIT 1), 0)",
             k->name, page_size, below(100) + 1);
    int64_t row = number(db, sql);
    if (!row || sqlite3_blob_open(db, "main", k->name, "v", row, 1, &blob) != SQLITE_OK)
        return;
    int n = sqlite3_blob_bytes(blob);
    int at = below(2) ? n - 5 : (int)below((unsigned)n - 5);
    cr_assert_eq(sqlite3_blob_write(blob, "\1\2\3\4", 4, at), SQLITE_OK);
    sqlite3_blob_close(blob);
}

static void work_once(sqlite3 *db, unsigned rows)
{
    const struct kind *k = &kinds[below(KINDS)];
    char sql[300];
    unsigned what = below(100);
    if (!has(db, k->name)) {
        exec(db, k->create);
        return;
    }
    if (what < 40) {
        unsigned n = below(8) ? below(4) + 1 : below(rows) + 1, from = below(10000);
        for (unsigned i = 0; i < n; i++)
            run(db, k->insert, below(2) ? from + i : below(10000), some_length(), true);
    } else if (what < 60) {
        snprintf(sql, sizeof sql, "UPDATE %s SET v = coalesce(v, '') || ?1 WHERE %s", k->name,
                 k->where);
        run(db, sql, below(10000), below(30) + 1, false);
    } else if (what < 80) {
        snprintf(sql, sizeof sql, "DELETE FROM %s WHERE %s", k->name, k->where);
        run(db, sql, below(10000), below(6) ? below(40) + 1 : below(5000), false);
    } else if (what < 90) {
        if (k->blobs)
            overwrite(db, k);
    } else if (what < 92) {
        snprintf(sql, sizeof sql, "DELETE FROM %s", k->name);
        exec(db, sql);
    } else if (what < 94) {
        snprintf(sql, sizeof sql, "DROP TABLE %s", k->name);
        exec(db, sql);
    } else if (what < 96) {
        exec(db, "PRAGMA incremental_vacuum");
    } else if (what < 97) {
        if (sqlite3_get_autocommit(db))
            exec(db, "VACUUM");
    } else if (what < 98) {
        exec(db, "REINDEX");
    } else {
        snprintf(sql, sizeof sql, "CREATE TABLE other_%u(x)", below(1000000));
        exec(db, sql);
    }
}

static void work(sqlite3 *db, unsigned times, unsigned rows)
{
    char sql[60];
    snprintf(sql, sizeof sql, "PRAGMA cache_size = %u", below(2) ? 10 : 2000);
    exec(db, sql);
    exec(db, below(2) ? "PRAGMA secure_delete = 0" : "PRAGMA secure_delete = 1");
    for (unsigned i = 0; i < times; i++) {
        bool together = below(2);
        if (together && sqlite3_get_autocommit(db))
            exec(db, "SAVEPOINT s");
        work_once(db, rows);
        if (!sqlite3_get_autocommit(db))
            exec(db, below(8) ? "RELEASE s" : "ROLLBACK TO s; RELEASE s");
    }
}

/* -- the comparison ------------------------------------------------------------------------------
 */

static pgno_t *changed_pages(struct image a, struct image b, size_t *n)
{
    size_t pages = (a.bytes < b.bytes ? a.bytes : b.bytes) / page_size;
    pgno_t *list = malloc((pages + 1) * sizeof *list);
    *n = 0;
    for (size_t i = 0; i < pages; i++) /* a page that is listed need not differ */
        if (memcmp(a.data + i * page_size, b.data + i * page_size, page_size) != 0 ||
            below(50) == 0)
            list[(*n)++] = (pgno_t)i + 1;
    return list;
}

static struct {
    unsigned all, none, ranges, keys, differ, looked, rows;
} seen;

/* Each row that differs, by the bytes of its values, is among those that are looked at. */
static void check_table(struct diff *d, const struct kind *k, uint64_t run_seed)
{
    struct diff_plan plan;
    char sql[1500], covered[400];
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM a.sqlite_schema AS x JOIN b.sqlite_schema AS y USING (name, sql)"
             " WHERE name = '%s'",
             k->name);
    if (!number(d->db, sql))
        return;
    cr_assert_eq(diff_plan_of(d, k->name, &plan), 0, "%s", co_sentence());
    switch (plan.how) {
    case DIFF_ALL:
        seen.all++;
        return;
    case DIFF_NONE:
        seen.none++;
        snprintf(covered, sizeof covered, "0");
        break;
    case DIFF_RANGES:
        seen.ranges++;
        snprintf(covered, sizeof covered,
                 "EXISTS (SELECT 1 FROM temp.diff_range AS r WHERE r.tree = %d AND x.rowid"
                 " BETWEEN r.lo AND r.hi)",
                 plan.tree);
        break;
    case DIFF_KEYS:
        seen.keys++;
        snprintf(covered, sizeof covered,
                 k->name[1] == '1' ? "EXISTS (SELECT 1 FROM temp.\"diff_key %d\" AS r WHERE x.k1 IS"
                                     " r.k1 AND x.k2 IS r.k2)"
                                   : "EXISTS (SELECT 1 FROM temp.\"diff_key %d\" AS r WHERE x.k IS"
                                     " r.k1)",
                 plan.tree);
    }
    for (int side = 0; side < 2; side++) {
        char in = "ab"[side], other = "ba"[side];
        snprintf(sql, sizeof sql,
                 "SELECT count(*) FROM %c.%s AS x WHERE NOT EXISTS (SELECT 1 FROM %c.%s AS y WHERE"
                 " %s AND y.v IS x.v AND typeof(y.v) = typeof(x.v))",
                 in, k->name, other, k->name, k->same);
        int64_t rows = number(d->db, sql);
        seen.differ += rows != 0;
        snprintf(sql + strlen(sql), sizeof sql - strlen(sql), " AND NOT %s", covered);
        int64_t missed = number(d->db, sql);
        cr_assert_eq(missed, 0, "seed %llu: %lld of %lld rows of %s that differ are missed in %c",
                     (unsigned long long)run_seed, (long long)missed, (long long)rows, k->name, in);
    }
}

/* False: SQLite itself cannot read them. */
static bool attach_images(struct diff *d, struct image a, struct image b, const char *encoding)
{
    char sql[80];
    cr_assert_eq(sqlite3_open(":memory:", &d->db), SQLITE_OK);
    snprintf(sql, sizeof sql, "PRAGMA encoding = '%s'", encoding);
    exec(d->db, sql);
    exec(d->db, "ATTACH ':memory:' AS a; ATTACH ':memory:' AS b");
    put_image(d->db, "a", a);
    put_image(d->db, "b", b);
    return sqlite3_exec(
               d->db,
               "SELECT count(*) FROM a.sqlite_schema; SELECT count(*) FROM b.sqlite_schema;"
               "SELECT count(*) FROM pragma_table_list",
               NULL, NULL, NULL) == SQLITE_OK;
}

static struct diff_moment moment(struct image image)
{
    return (struct diff_moment){page_size, (pgno_t)(image.bytes / page_size)};
}

static const char *const encodings[] = {"UTF-8", "UTF-8", "UTF-16le", "UTF-16be"};

/* A past and what came of it: twice where there are two branches. */
static void make_pair(uint64_t n, struct image *a, struct image *b, const char **encoding)
{
    static const unsigned sizes[] = {512, 512, 512, 1024, 1024, 4096, 65536};
    char sql[200];
    sqlite3 *db = NULL;
    seed(n);
    page_size = sizes[below(7)];
    *encoding = encodings[below(4)];
    cr_assert_eq(sqlite3_open_v2("file:/page_diff?vfs=memdb", &db,
                                 SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                                 NULL),
                 SQLITE_OK);
    snprintf(sql, sizeof sql,
             "PRAGMA page_size = %u; PRAGMA encoding = '%s'; PRAGMA auto_vacuum = %u", page_size,
             *encoding, below(2) ? 0 : below(3));
    exec(db, sql);
    exec(db, "BEGIN");
    for (size_t i = 0; i < KINDS; i++) {
        exec(db, kinds[i].create);
        for (unsigned rows = below(5) ? below(50) : below(3000); rows > 0; rows--)
            run(db, kinds[i].insert, below(10000), some_length() / 4, true);
    }
    exec(db, "COMMIT");
    work(db, 15 + below(40), 400);
    struct image past = image_of(db);
    if (below(3) == 0) { /* two branches */
        sqlite3 *other = open_image(past);
        work(other, below(5), 40);
        *a = image_of(other);
        sqlite3_close(other);
        sqlite3_free(past.data);
    } else {
        *a = past;
    }
    if (below(4)) {
        work(db, 1 + below(8), 60);
    } else {
        for (unsigned i = below(3) + 1; i > 0; i--)
            if (has(db, kinds[i % 2].name))
                overwrite(db, &kinds[i % 2]);
    }
    *b = image_of(db);
    sqlite3_close(db);
}

Test(page_diff, every_row_that_differs_is_found_by_the_pages_that_changed)
{
    /* rule: docs/decisions/0017: no row that differs is missed, whatever was done in between */
    uint64_t from = from_environment("PAGE_DIFF_SEED", 1);
    uint64_t runs = from_environment("PAGE_DIFF_RUNS", 100);
    for (uint64_t n = from; n < from + runs; n++) {
        struct image a, b;
        struct diff d = {.form = DIFF_TEXT};
        const char *encoding, *why;
        size_t n_changed;
        make_pair(n, &a, &b, &encoding);
        cr_assert(attach_images(&d, a, b, encoding));
        struct diff_moment moments[2] = {moment(a), moment(b)};
        pgno_t *changed = changed_pages(a, b, &n_changed);
        cr_assert_eq(diff_plan_pages(&d, moments, changed, n_changed, &why), 0, "seed %llu: %s",
                     (unsigned long long)n, co_sentence());
        for (size_t i = 0; i < KINDS; i++)
            check_table(&d, &kinds[i], n);
        free(changed);
        sqlite3_close(d.db);
        sqlite3_free(a.data);
        sqlite3_free(b.data);
    }
    if (getenv("PAGE_DIFF_RUNS"))
        printf("tables: %u compared whole, %u untouched, %u by ranges, %u by keys; %u differ\n",
               seen.all, seen.none, seen.ranges, seen.keys, seen.differ);
    cr_assert_gt(seen.ranges, runs / 4, "only %u tables were compared by ranges", seen.ranges);
    cr_assert_gt(seen.keys, runs / 4, "only %u tables were compared by keys", seen.keys);
    cr_assert_gt(seen.none, runs / 4, "only %u tables were left out", seen.none);
    cr_assert_gt(seen.differ, runs / 2, "only %u tables differ", seen.differ);
    cr_assert_lt(seen.all, seen.none + seen.ranges + seen.keys, "%u tables were compared whole",
                 seen.all);
}

/* A few bytes of a few pages, never of page 1, from which SQLite reads the definitions. */
static void damage(struct image image)
{
    unsigned pages = (unsigned)(image.bytes / page_size);
    for (unsigned i = below(20) + 1; i > 0 && pages > 1; i--) {
        size_t page = below(pages - 1) + 1, at = below(4) ? below(20) : below(page_size);
        image.data[page * page_size + at] = (unsigned char)below(256);
    }
}

Test(page_diff, damaged_pages_do_no_harm)
{
    /* rule: what is read from pages is untrusted; what is not understood is compared as a whole */
    uint64_t from = from_environment("PAGE_DIFF_SEED", 1000);
    uint64_t runs = from_environment("PAGE_DIFF_RUNS", 40);
    unsigned understood = 0, not_understood = 0;
    for (uint64_t n = from; n < from + runs; n++) {
        struct image a, b;
        struct diff d = {.form = DIFF_TEXT};
        const char *encoding, *why;
        size_t n_changed;
        make_pair(n, &a, &b, &encoding);
        damage(a);
        damage(b);
        bool readable = attach_images(&d, a, b, encoding);
        struct diff_moment moments[2] = {moment(a), moment(b)};
        pgno_t *changed = changed_pages(a, b, &n_changed);
        int rc = diff_plan_pages(&d, moments, changed, n_changed, &why);
        cr_assert(!readable || rc == 0 || rc == CO_ERR_IO, "seed %llu: %s", (unsigned long long)n,
                  co_sentence());
        understood += rc == 0 && !why;
        not_understood += rc == 0 && why;
        free(changed);
        sqlite3_close(d.db);
        sqlite3_free(a.data);
        sqlite3_free(b.data);
    }
    cr_assert_gt(not_understood, 0, "no damage was seen in any of %u", understood);
}
