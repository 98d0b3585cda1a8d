/*
 * stock_memory.c - every allocation fails: of SQLite, of the extension, of the libraries that it
 * uses, in whatever thread; once, or from there to the end of the call. The call says so (or goes
 * on without the memory), the database is as before or as after, the connection goes on, and
 * nothing is lost of the heap.
 *
 * The program's own malloc() takes the place of the C library's for the whole process.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/stock.h"

#define RW        (SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)
#define NEVER     (1L << 40)
#define EACH_MOST 40
#define SETTLING  3 /* blocks that libraries keep after their first use */

/* -- the heap ------------------------------------------------------------------------------------
 */

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

static atomic_long live;
static atomic_long countdown; /* 0: nothing fails */
static atomic_bool failed;
static bool for_good;              /* all after it fail too, in this thread */
static _Thread_local bool calling; /* inside the call that is tried */

static bool fails(void)
{
    if (for_good && !calling)
        return false;
    if (countdown == 0 || (atomic_fetch_sub(&countdown, 1) > 1 && !(for_good && failed)))
        return false;
    if (for_good)
        countdown = 1;
    failed = true;
    errno = ENOMEM;
    return true;
}

#define EXPORT __attribute__((visibility("default")))

EXPORT void *malloc(size_t n)
{
    void *p = fails() ? NULL : __libc_malloc(n);

    live += p != NULL;
    return p;
}

EXPORT void *calloc(size_t n, size_t size)
{
    void *p = fails() ? NULL : __libc_calloc(n, size);

    live += p != NULL;
    return p;
}

EXPORT void *realloc(void *old, size_t n)
{
    void *p = fails() ? NULL : __libc_realloc(old, n);

    live += p != NULL && old == NULL;
    return p;
}

EXPORT void free(void *p)
{
    live -= p != NULL;
    __libc_free(p);
}

/* -- what is tried -------------------------------------------------------------------------------
 */

/* Each begins and ends with the connection that it is given; it may leave a transaction open. */
struct work {
    const char *name;
    const char *before; /* without failures */
    int (*run)(sqlite3 *db, const char *sql);
    const char *sql;
    bool changes; /* the rows of t */
};

static int plainly(sqlite3 *db, const char *sql)
{
    return quiet(db, sql);
}

static int with_blob(sqlite3 *db, const char *sql)
{
    sqlite3_blob *blob = NULL;
    int rc = sqlite3_blob_open(db, "main", "t", "b", 1, 1, &blob), closed;

    (void)sql;
    if (rc == SQLITE_OK)
        rc = sqlite3_blob_write(blob, "blob", 4, 0);
    closed = sqlite3_blob_close(blob);
    return rc ? rc : closed;
}

static int with_backup(sqlite3 *db, const char *sql)
{
    sqlite3 *to = NULL;
    sqlite3_backup *b = NULL;
    int rc = sqlite3_open_v2(":memory:", &to, RW, "unix");

    (void)sql;
    if (rc == SQLITE_OK && !(b = sqlite3_backup_init(to, "main", db, "main")))
        rc = sqlite3_extended_errcode(to);
    if (b) {
        rc = sqlite3_backup_step(b, -1);
        sqlite3_backup_finish(b);
        rc = rc == SQLITE_DONE ? SQLITE_OK : rc;
    }
    sqlite3_close(to);
    return rc;
}

static int with_another(sqlite3 *db, const char *sql)
{
    sqlite3 *other = NULL;
    int rc = stock_open_rc(stock_uri("db", ""), RW, &other);

    (void)db;
    if (rc == SQLITE_OK)
        rc = quiet(other, sql);
    sqlite3_close(other);
    return rc;
}

static int with_attach(sqlite3 *db, const char *sql)
{
    char attach[300];
    int rc;

    (void)sql;
    snprintf(attach, sizeof attach, "ATTACH '%s' AS x", stock_uri("b", ""));
    rc = quiet(db, attach);
    if (rc == SQLITE_OK)
        rc = quiet(db, "SELECT count(*) FROM x.sqlite_schema; DETACH x");
    return rc;
}

/* What the next try cannot have left over. */
static void tidy(sqlite3 *db)
{
    if (!sqlite3_get_autocommit(db))
        quiet(db, "ROLLBACK");
    quiet(db, "DETACH x");
}

struct errand {
    sqlite3 *db;
    const char *sql;
    int rc;
};

static void *run_errand(void *arg)
{
    struct errand *e = arg;

    calling = true;
    e->rc = quiet(e->db, e->sql);
    return NULL;
}

/* A thread that has never called the extension: what each thread has must not need memory either.
 */
static int in_new_thread(sqlite3 *db, const char *sql)
{
    struct errand errand = {db, sql, SQLITE_OK};
    pthread_t thread;

    if (pthread_create(&thread, NULL, run_errand, &errand))
        return SQLITE_NOMEM;
    pthread_join(thread, NULL);
    return errand.rc;
}

#define MANY                                                                                       \
    "WITH RECURSIVE i(x) AS (SELECT 10 UNION ALL SELECT x + 1 FROM i LIMIT 200) INSERT INTO t "    \
    "SELECT x, printf('%0400d', x) FROM i"

static const struct work works[] = {
    {"select", "", plainly, "SELECT count(*), sum(length(b)) FROM t", false},
    {"insert", "", plainly, "INSERT INTO t VALUES(7, 'seven')", true},
    {"commit", "BEGIN; INSERT INTO t VALUES(7, 'seven'); DELETE FROM t WHERE a = 2", plainly,
     "COMMIT", true},
    {"rollback", "BEGIN; INSERT INTO t VALUES(7, 'seven')", plainly, "ROLLBACK", false},
    {"many rows", "PRAGMA cache_size = 5", plainly, "BEGIN; " MANY "; COMMIT", true},
    {"savepoints", "PRAGMA cache_size = 5", plainly,
     "SAVEPOINT a; " MANY "; SAVEPOINT b; DELETE FROM t; ROLLBACK TO b; RELEASE a", true},
    {"vacuum", "", plainly, "VACUUM", false},
    {"schema", "", plainly, "CREATE TABLE u(x); CREATE INDEX ui ON u(x); DROP TABLE u", false},
    {"attach", "", with_attach, "", false},
    {"checkpoint", "", plainly, "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode", false},
    {"blob", "", with_blob, "", true},
    {"backup", "", with_backup, "", false},
    {"a new thread", "", in_new_thread, "INSERT INTO t VALUES(7, 'seven')", true},
    {"open and write", "", with_another, "INSERT INTO t VALUES(8, 'eight')", true},
    {"open and read", "", with_another, "SELECT count(*) FROM t", false},
};

/* -- trying --------------------------------------------------------------------------------------
 */

static long long checksum(sqlite3 *db)
{
    return number(db, "SELECT count(*) * 1000000 + sum(a) * 1000 + sum(length(b)) + "
                      "sum(unicode(b)) FROM t");
}

static void fresh(sqlite3 *db)
{
    int rc =
        quiet(db, "BEGIN; DROP TABLE IF EXISTS u; DROP TABLE IF EXISTS t; CREATE TABLE t(a "
                  "INTEGER PRIMARY KEY, b); INSERT INTO t VALUES(1, 'one '), (2, 'two'); COMMIT");

    if (rc)
        die("fresh: %d %s", rc, sqlite3_errmsg(db));
}

static bool is_of_memory(int rc)
{
    return rc == SQLITE_NOMEM || rc == SQLITE_IOERR_NOMEM || (rc & 0xff) == SQLITE_NOMEM;
}

static struct {
    int tries, refused, after;
    int odd[8], n_odd;
} tally;

static void note_code(int rc)
{
    if (is_of_memory(rc))
        return;
    for (int i = 0; i < tally.n_odd; i++)
        if (tally.odd[i] == rc)
            return;
    if (tally.n_odd < 8)
        tally.odd[tally.n_odd++] = rc;
}

static sqlite3 *db, *look;

/* Lets the n-th allocation fail; tells how many were left when it did not come to it. */
static long try_once(const struct work *w, long n, long long *after)
{
    long long was, is;
    long left;
    bool hit;
    int rc;

    fresh(db);
    was = checksum(db);
    if (quiet(db, w->before))
        die("%s: before: %s", w->name, sqlite3_errmsg(db));
    failed = false;
    calling = true;
    countdown = n;
    rc = w->run(db, w->sql);
    left = countdown;
    countdown = 0;
    calling = false;
    hit = failed;
    tidy(db);
    is = checksum(look);
    if (!hit) {
        if (rc)
            die("%s: %d without a failure", w->name, rc);
        *after = is;
    } else if (is != was && is != *after) {
        die("%s, allocation %ld, code %d: neither before nor after: %lld %lld %lld", w->name, n, rc,
            was, is, *after);
    } else if (!rc && w->changes && is == was) {
        die("%s, allocation %ld: OK, and nothing was done", w->name, n);
    }
    if (checksum(db) != is)
        die("%s, allocation %ld: its own connection sees %lld, another %lld", w->name, n,
            checksum(db), is);
    if (strcmp(text(look, "PRAGMA integrity_check"), "ok") != 0 ||
        quiet(db, "INSERT INTO t VALUES(99999, 'goes on')"))
        die("%s, allocation %ld: does not go on: %s", w->name, n, sqlite3_errmsg(db));
    tally.tries += hit;
    tally.refused += hit && rc;
    tally.after += hit && rc && is != was;
    if (hit && rc)
        note_code(rc);
    return left;
}

/* All of them, or EACH_MOST spread over them from a place drawn at random. */
static long stride(long total, long *first)
{
    long step = getenv("STOCK_ALL") ? 1 : 1 + total / EACH_MOST;

    sqlite3_randomness(sizeof *first, first);
    *first = 1 + labs(*first % step);
    return step;
}

static void try_all(const struct work *w)
{
    long long after = 0;
    long total, first, step, before = 0, kept;

    memset(&tally, 0, sizeof tally);
    for (int round = 0; round < 3; round++) { /* the first one brings in what libraries keep */
        for_good = false;
        db = stock_open("db");
        look = stock_open("db");
        total = NEVER - try_once(w, NEVER, &after);
        step = stride(total, &first);
        for_good = round == 2;
        for (long n = first; round && n <= total; n += step)
            try_once(w, n, &after);
        if (sqlite3_close(look) || sqlite3_close(db))
            die("%s: close", w->name);
        before = round ? before : live;
    }
    kept = live - before;
    printf("%s: %d failures among %ld allocations, %d calls refused, %d of them done; kept %ld "
           "blocks; codes beside NOMEM",
           w->name, tally.tries, total, tally.refused, tally.after, kept);
    for (int i = 0; i < tally.n_odd; i++)
        printf(" %d", tally.odd[i]);
    puts("");
    fflush(stdout);
    if (tally.tries == 0)
        die("%s: nothing failed", w->name);
    if (kept > SETTLING)
        die("%s: %ld blocks were never freed", w->name, kept);
}

static void memory(void)
{
    stock_load();
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
        try_all(&works[i]);
}

const struct stock_case cases[] = {
    {"memory", memory},
    {NULL, NULL},
};
