/*
 * stock_random.c - calls in an order drawn from a seed, on several connections of one process, with
 * statements, blobs and backups left open between them. STOCK_SEED and STOCK_CALLS decide it; what
 * is written down depends on nothing else, so both sides make the same calls for as long as they
 * hear the same answers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/stock.h"

#define RW     (SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)
#define CONNS  5
#define STMTS  3
#define TABLES 4

struct conn {
    sqlite3 *db;
    sqlite3_stmt *stmt[STMTS];
    sqlite3_blob *blob;
    sqlite3_backup *backup;
    sqlite3 *copy; /* where the backup goes */
    unsigned version;
    int veto, progress_left, busy_left;
    bool attached;
};

static struct conn conns[CONNS];
static uint64_t state;

static unsigned draw(unsigned n)
{
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(state >> 33) % n;
}

/* -- hooks ---------------------------------------------------------------------------------------
 */

static int on_commit(void *arg)
{
    struct conn *c = arg;

    return c->veto > 0 && c->veto-- == 1;
}

static int on_progress(void *arg)
{
    struct conn *c = arg;

    return c->progress_left > 0 && c->progress_left-- == 1;
}

static int on_busy(void *arg, int n)
{
    struct conn *c = arg;

    (void)n;
    return c->busy_left > 0 && c->busy_left-- > 1;
}

static long hooked;

static int on_wal(void *arg, sqlite3 *db, const char *schema, int frames)
{
    (void)arg;
    (void)db;
    (void)schema;
    hooked += frames > 0;
    return SQLITE_OK;
}

static void on_update(void *arg, int op, const char *db, const char *table, sqlite3_int64 rowid)
{
    (void)arg;
    (void)db;
    (void)table;
    hooked = hooked * 31 + op + (long)rowid;
    hooked &= 0xffffff;
}

/* -- statements ----------------------------------------------------------------------------------
 */

static const char *pattern(void)
{
    static const char *const changes[] = {
        "INSERT INTO t%T VALUES(NULL, %n, printf('%%0*d', %n %% 700, %n))",
        "INSERT INTO t%T SELECT NULL, b, c FROM t%U LIMIT 40",
        "WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i LIMIT %n %% 150 + 1) "
        "INSERT INTO "
        "t%T SELECT NULL, x, zeroblob(x * 13) FROM i",
        "INSERT OR REPLACE INTO t%T VALUES(%n %% 90, %n, zeroblob(%n %% 9000))",
        "INSERT OR ROLLBACK INTO t%T VALUES(%n %% 90, 'r', 'r')",
        "INSERT OR FAIL INTO t%T VALUES(NULL, 'f', 'f'), (%n %% 90, 'f', 'f')",
        "UPDATE t%T SET b = b + 1 WHERE a %% 3 = %n %% 3",
        "UPDATE t%T SET c = zeroblob(%n %% 4000) WHERE a = %n %% 90",
        "DELETE FROM t%T WHERE a %% 5 = %n %% 5",
        "DELETE FROM t%T",
        "DELETE FROM t%T WHERE a < %n %% 50 RETURNING a",
    };
    static const char *const reads[] = {
        "SELECT a, b, length(c) FROM t%T",
        "SELECT count(*), sum(a), sum(length(c)) FROM t%T",
        "SELECT x.a, y.b FROM t%T x JOIN t%U y ON x.b = y.b ORDER BY 1, 2 LIMIT 20",
        "SELECT name FROM sqlite_schema ORDER BY 1",
        "SELECT b FROM t%T GROUP BY b ORDER BY count(*), b",
        "SELECT * FROM temp.x%T",
        "SELECT count(*) FROM o.t%T",
    };
    static const char *const ends[] = {
        "BEGIN",     "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE", "COMMIT",        "COMMIT",
        "COMMIT",    "ROLLBACK",        "ROLLBACK",        "SAVEPOINT a",   "SAVEPOINT b",
        "RELEASE a", "RELEASE b",       "ROLLBACK TO a",   "ROLLBACK TO b",
    };
    static const char *const schema[] = {
        "CREATE TABLE t%T(a INTEGER PRIMARY KEY, b, c)",
        "DROP TABLE t%T",
        "CREATE INDEX IF NOT EXISTS i%T ON t%T(b)",
        "DROP INDEX IF EXISTS i%T",
        "ALTER TABLE t%T ADD COLUMN d%U DEFAULT 'd'",
        "ALTER TABLE t%T DROP COLUMN d%U",
        "VACUUM",
        "REINDEX",
        "ANALYZE",
        "CREATE TEMP TABLE IF NOT EXISTS x%T AS SELECT * FROM t%U",
        "DROP TABLE IF EXISTS temp.x%T",
        "CREATE TABLE IF NOT EXISTS o.t%T(a, b, c)",
        "INSERT INTO o.t%T SELECT a, b, c FROM main.t%U",
        "CREATE TABLE IF NOT EXISTS t%T(a INTEGER PRIMARY KEY, b, c)",
        "CREATE TABLE IF NOT EXISTS t%T(a INTEGER PRIMARY KEY, b, c)",
    };
    static const char *const pragmas[] = {
        "PRAGMA cache_size = %n",
        "PRAGMA cache_size = 3",
        "PRAGMA cache_spill = 1",
        "PRAGMA max_page_count = 30",
        "PRAGMA max_page_count = 100000",
        "PRAGMA user_version = %n",
        "PRAGMA user_version",
        "PRAGMA page_count",
        "PRAGMA freelist_count",
        "PRAGMA schema_version",
        "PRAGMA synchronous = %n",
        "PRAGMA synchronous",
        "PRAGMA integrity_check",
        "PRAGMA incremental_vacuum(3)",
        "PRAGMA auto_vacuum = %T",
        "PRAGMA journal_mode",
        "PRAGMA locking_mode",
        "PRAGMA secure_delete = %T",
        "PRAGMA read_uncommitted = %T",
        "PRAGMA query_only = 1",
        "PRAGMA query_only = 0",
        "PRAGMA query_only = 0",
        "PRAGMA optimize",
        "PRAGMA shrink_memory",
        "PRAGMA foreign_key_check",
        "PRAGMA quick_check",
        "PRAGMA reverse_unordered_selects = 0",
    };
    unsigned kind = draw(100);

#define ONE_OF(list) list[draw((unsigned)(sizeof list / sizeof *list))]
    if (kind < 40)
        return ONE_OF(changes);
    if (kind < 58)
        return ONE_OF(reads);
    if (kind < 82)
        return ONE_OF(ends);
    return kind < 91 ? ONE_OF(schema) : ONE_OF(pragmas);
}

static const char *sql(void)
{
    static char out[600];
    const char *p = pattern();
    size_t n = 0;

    for (; *p && n < sizeof out - 20; p++) {
        if (*p != '%' || !p[1]) {
            out[n++] = *p;
            continue;
        }
        p++;
        if (*p == 'T' || *p == 'U')
            n += (size_t)sprintf(out + n, "%u", draw(TABLES));
        else if (*p == 'n')
            n += (size_t)sprintf(out + n, "%u", draw(1000));
        else
            out[n++] = *p;
    }
    out[n] = 0;
    return out;
}

/* All rows as one number. */
static unsigned digest_row(sqlite3_stmt *s, unsigned h)
{
    for (int i = 0; i < sqlite3_column_count(s); i++) {
        const unsigned char *bytes = sqlite3_column_blob(s, i);
        int n = sqlite3_column_bytes(s, i);

        h = h * 33 + (unsigned)sqlite3_column_type(s, i);
        for (int k = 0; k < n; k++)
            h = h * 33 + bytes[k];
    }
    return h;
}

static void execute(struct conn *c, int i)
{
    const char *what = sql();
    sqlite3_stmt *s = NULL;
    unsigned h = 0, rows = 0;
    int rc = sqlite3_prepare_v2(c->db, what, -1, &s, NULL);

    while (rc == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW) {
        h = digest_row(s, h);
        rows++;
    }
    rc = rc ? rc : sqlite3_finalize(s);
    say("%d %s: %d %s, %u rows %08x, %d changes, %d", i, what, rc, rc ? sqlite3_errmsg(c->db) : "",
        rows, h, sqlite3_total_changes(c->db), sqlite3_get_autocommit(c->db));
}

static void statements(struct conn *c, int i)
{
    int k = (int)draw(STMTS), n = (int)draw(6);
    unsigned h = 0;
    int rc = SQLITE_OK;

    if (!c->stmt[k]) {
        const char *what = sql();

        rc = sqlite3_prepare_v2(c->db, what, -1, &c->stmt[k], NULL);
        say("%d prepare %d %s: %d", i, k, what, rc);
    }
    if (!c->stmt[k])
        return;
    if (draw(5) == 0) {
        bool keep = draw(2);

        rc = keep ? sqlite3_reset(c->stmt[k]) : sqlite3_finalize(c->stmt[k]);
        say("%d %s %d: %d", i, keep ? "reset" : "finalize", k, rc);
        c->stmt[k] = keep ? c->stmt[k] : NULL;
        return;
    }
    if (draw(12) == 0)
        sqlite3_interrupt(c->db);
    for (; n >= 0 && (rc = sqlite3_step(c->stmt[k])) == SQLITE_ROW; n--)
        h = digest_row(c->stmt[k], h);
    say("%d step %d: %d %08x, busy %d, readonly %d", i, k, rc, h, sqlite3_stmt_busy(c->stmt[k]),
        sqlite3_stmt_readonly(c->stmt[k]));
    if (rc != SQLITE_ROW) {
        rc = sqlite3_finalize(c->stmt[k]);
        c->stmt[k] = NULL;
        say("%d finalize %d: %d", i, k, rc);
    }
}

/* -- the rest of the interface -------------------------------------------------------------------
 */

static void blobs(struct conn *c, int i)
{
    char bytes[300], table[8];
    int n, at, rc;

    if (!c->blob) {
        snprintf(table, sizeof table, "t%u", draw(TABLES));
        rc = sqlite3_blob_open(c->db, "main", table, "c", draw(40), (int)draw(2), &c->blob);
        say("%d blob of %s: %d %d", i, table, rc, sqlite3_blob_bytes(c->blob));
        if (rc) {
            sqlite3_blob_close(c->blob);
            c->blob = NULL;
        }
        return;
    }
    n = sqlite3_blob_bytes(c->blob);
    at = (int)draw((unsigned)n + 2);
    memset(bytes, (int)draw(256), sizeof bytes);
    switch (draw(5)) {
    case 0:
        rc = sqlite3_blob_read(c->blob, bytes, (int)draw(300), at);
        break;
    case 1:
    case 2:
        rc = sqlite3_blob_write(c->blob, bytes, (int)draw(300), at);
        break;
    case 3:
        rc = sqlite3_blob_reopen(c->blob, draw(40));
        break;
    default:
        rc = sqlite3_blob_close(c->blob);
        c->blob = NULL;
    }
    say("%d blob: %d %02x", i, rc, (unsigned char)bytes[0]);
}

static void end_backup(struct conn *c, int i)
{
    int rc;

    if (!c->backup)
        return;
    rc = sqlite3_backup_finish(c->backup);
    say("%d backup ends: %d, %lld", i, rc, number(c->copy, "SELECT count(*) FROM sqlite_schema"));
    sqlite3_close(c->copy);
    c->backup = NULL;
    c->copy = NULL;
}

static void backups(struct conn *c, int i)
{
    int rc;

    if (!c->backup) {
        if (sqlite3_open_v2(":memory:", &c->copy, RW, "unix"))
            die("memory");
        c->backup = sqlite3_backup_init(c->copy, "main", c->db, draw(8) ? "main" : "temp");
        say("%d backup %d", i, c->backup != NULL);
        if (!c->backup) {
            sqlite3_close(c->copy);
            c->copy = NULL;
        }
        return;
    }
    rc = sqlite3_backup_step(c->backup, draw(4) ? (int)draw(6) : -1);
    say("%d backup: %d, %d of %d", i, rc, sqlite3_backup_remaining(c->backup),
        sqlite3_backup_pagecount(c->backup));
    if (rc != SQLITE_OK || draw(10) == 0)
        end_backup(c, i);
}

static void looks(struct conn *c, int i)
{
    unsigned version = 0;
    sqlite3_int64 size = 0;
    int rc;

    switch (draw(8)) {
    case 0:
        say("%d states %d %d %d, autocommit %d", i, sqlite3_txn_state(c->db, "main"),
            sqlite3_txn_state(c->db, "temp"), sqlite3_txn_state(c->db, NULL),
            sqlite3_get_autocommit(c->db));
        break;
    case 1:
        rc = sqlite3_db_cacheflush(c->db);
        say("%d flush %d", i, rc);
        break;
    case 2:
        rc = sqlite3_db_release_memory(c->db);
        say("%d release %d", i, rc);
        break;
    case 3:
        say("%d changes %d, errors %d", i, sqlite3_changes(c->db), sqlite3_errcode(c->db));
        break;
    case 4:
        rc = sqlite3_file_control(c->db, "main", SQLITE_FCNTL_DATA_VERSION, &version);
        say("%d data version: %d, moved %d", i, rc, version != c->version);
        c->version = version;
        break;
    case 5:
        sqlite3_free(sqlite3_serialize(c->db, "main", &size, 0));
        say("%d serialize %lld", i, (long long)size);
        break;
    case 6:
        say("%d last row %lld, hooks %ld", i, (long long)sqlite3_last_insert_rowid(c->db), hooked);
        break;
    default:
        say("%d data_version %d", i, quiet(c->db, "PRAGMA data_version"));
    }
}

static void switches(struct conn *c, int i)
{
    char attach[1200];

    switch (draw(6)) {
    case 0:
        c->veto = (int)draw(3);
        break;
    case 1:
        c->progress_left = (int)draw(30);
        break;
    case 2:
        c->busy_left = (int)draw(4);
        break;
    case 3:
        sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, (int)draw(2), NULL);
        break;
    default:
        snprintf(attach, sizeof attach, "ATTACH '%s' AS o", stock_uri("other", ""));
        say("%d %s: %d", i, c->attached ? "detach" : "attach",
            quiet(c->db, c->attached ? "DETACH o" : attach));
        c->attached =
            number(c->db, "SELECT count(*) FROM pragma_database_list WHERE name = 'o'") > 0;
    }
}

static void open_one(struct conn *c, int i)
{
    static const char *const more[] = {"", "", "", "mode=ro", "cache=shared", "mode=rw"};
    const char *with = more[draw(6)];
    int rc = stock_open_rc(stock_uri("db", with), RW, &c->db);

    say("%d open %s: %d", i, with, rc);
    if (!c->db)
        return;
    /* On a plain file the writer after a checkpoint begins the shared WAL anew, and every reader's
     * page cache with it, be it for a transaction that is rolled back. */
    sqlite3_wal_autocheckpoint(c->db, 0);
    sqlite3_commit_hook(c->db, on_commit, c);
    sqlite3_progress_handler(c->db, 60, on_progress, c);
    sqlite3_busy_handler(c->db, on_busy, c);
    sqlite3_wal_hook(c->db, on_wal, c);
    sqlite3_update_hook(c->db, on_update, c);
}

static void close_one(struct conn *c, int i)
{
    bool late = draw(3) == 0;
    int rc;

    end_backup(c, i);
    /* One that has expired (0 bytes) does not keep its connection, and would lock what is freed. */
    if (late && sqlite3_blob_bytes(c->blob) == 0) {
        say("%d blob at the end %d", i, sqlite3_blob_close(c->blob));
        c->blob = NULL;
    }
    if (late) {
        say("%d close_v2 %d", i, sqlite3_close_v2(c->db));
        for (int k = 0; k < STMTS; k++)
            if (c->stmt[k])
                say("%d late finalize %d", i, sqlite3_finalize(c->stmt[k]));
        say("%d late blob %d", i, sqlite3_blob_close(c->blob));
    } else {
        for (int k = 0; k < STMTS; k++)
            sqlite3_finalize(c->stmt[k]);
        sqlite3_blob_close(c->blob);
        rc = sqlite3_close(c->db);
        say("%d close %d", i, rc);
    }
    memset(c, 0, sizeof *c);
}

static void call(void)
{
    int i = (int)draw(CONNS);
    struct conn *c = &conns[i];
    unsigned what = draw(100);

    if (!c->db)
        open_one(c, i);
    else if (what < 52)
        execute(c, i);
    else if (what < 72)
        statements(c, i);
    else if (what < 80)
        blobs(c, i);
    else if (what < 84)
        backups(c, i);
    else if (what < 92)
        looks(c, i);
    else if (what < 98)
        switches(c, i);
    else
        close_one(c, i);
}

static void any_order(void)
{
    const char *seed = getenv("STOCK_SEED"), *calls = getenv("STOCK_CALLS");
    long n = calls ? atol(calls) : 400;
    sqlite3 *db;

    state = seed ? strtoull(seed, NULL, 10) : 1;
    draw(2);
    stock_load();
    db = stock_open("other");
    run(db, "CREATE TABLE t0(a, b, c)");
    stock_close(db);
    db = stock_open("db");
    for (int i = 0; i < TABLES; i++) {
        char create[200];

        snprintf(create, sizeof create,
                 "CREATE TABLE t%d(a INTEGER PRIMARY KEY, b, c); INSERT INTO t%d VALUES(1, 1, "
                 "zeroblob(9000)), (2, 2, zeroblob(100))",
                 i, i);
        run(db, create);
    }
    stock_close(db);
    for (long k = 0; k < n; k++)
        call();
    for (int i = 0; i < CONNS; i++)
        if (conns[i].db)
            close_one(&conns[i], i);
    db = stock_open("db");
    run(db,
        "PRAGMA integrity_check; PRAGMA page_count; PRAGMA freelist_count; SELECT name, rootpage, "
        "sql FROM sqlite_schema ORDER BY 1");
    for (int i = 0; i < TABLES; i++) {
        char look[80];

        snprintf(look, sizeof look, "SELECT * FROM t%d ORDER BY a", i);
        run(db, look);
    }
    stock_close(db);
}

const struct stock_case cases[] = {
    {"any-order", any_order},
    {NULL, NULL},
};
