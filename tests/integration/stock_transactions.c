/* stock_transactions.c - transactions of several connections, and what SQL has beyond the usual. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/stock.h"

#define RW (SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)
#define FILL                                                                                       \
    "WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i LIMIT 300) INSERT INTO t(b) "  \
    "SELECT printf('%0300d', x) FROM i"
#define CREATE "CREATE TABLE t(a INTEGER PRIMARY KEY, b)"

static sqlite3 *filled(const char *name)
{
    sqlite3 *db = stock_open(name);

    if (quiet(db, CREATE ";" FILL))
        die("fill: %s", sqlite3_errmsg(db));
    return db;
}

/* -- busy ----------------------------------------------------------------------------------------
 */

static int busy_calls;

static int on_busy(void *arg, int n)
{
    (void)arg;
    busy_calls++;
    return n < 3;
}

static void states(const char *what, sqlite3 *a, sqlite3 *b)
{
    say("%s: states %d %d, autocommit %d %d", what, sqlite3_txn_state(a, NULL),
        sqlite3_txn_state(b, "main"), sqlite3_get_autocommit(a), sqlite3_get_autocommit(b));
}

static void busy(void)
{
    sqlite3 *a, *b;
    sqlite3_stmt *s;

    stock_load();
    a = filled("db");
    b = stock_open("db");
    sqlite3_busy_handler(b, on_busy, NULL);
    run(a, "BEGIN IMMEDIATE");
    states("one writes", a, b);
    run(b, "INSERT INTO t(b) VALUES('x')");
    say("busy calls %d", busy_calls);
    run(b, "BEGIN IMMEDIATE");
    run(b, "BEGIN EXCLUSIVE");
    run(b, "BEGIN; INSERT INTO t(b) VALUES('x')");
    states("refused in a transaction", a, b);
    run(b, "SELECT count(*) FROM t");
    states("and reads", a, b);
    busy_calls = 0;
    run(b, "INSERT INTO t(b) VALUES('x')");
    say("busy calls %d", busy_calls);
    run(a, "INSERT INTO t(b) VALUES('of a'); COMMIT");
    busy_calls = 0;
    run(b, "INSERT INTO t(b) VALUES('on an old snapshot')");
    say("busy calls %d", busy_calls);
    states("stale", a, b);
    run(b, "SELECT count(*) FROM t; ROLLBACK; INSERT INTO t(b) VALUES('anew'); SELECT count(*) "
           "FROM t");
    sqlite3_busy_timeout(b, 50);
    run(b, "PRAGMA busy_timeout");
    run(a, "SAVEPOINT s; INSERT INTO t(b) VALUES('held')");
    run(b, "DELETE FROM t WHERE a = 1");
    run(a, "ROLLBACK TO s; SELECT count(*) FROM t");
    states("rolled back to a savepoint", a, b);
    run(b, "DELETE FROM t WHERE a = 1");
    run(a, "RELEASE s");
    run(b, "DELETE FROM t WHERE a = 1");
    /* A read in the middle, and writes of its own connection and of another. */
    s = prepare(a, "SELECT a FROM t ORDER BY a");
    step(s);
    run(a, "UPDATE t SET b = 'own' WHERE a = 5");
    states("an own write under an open read", a, b);
    run(a, "UPDATE t SET b = 'own again' WHERE a = 6");
    run(b, "UPDATE t SET b = 'other' WHERE a = 7");
    run(a, "UPDATE t SET b = 'stale' WHERE a = 8");
    step(s);
    sqlite3_reset(s);
    run(a, "UPDATE t SET b = 'fresh' WHERE a = 8; SELECT a, b FROM t WHERE a BETWEEN 5 AND 8");
    sqlite3_finalize(s);
    run(a, "BEGIN; SELECT count(*) FROM t; COMMIT; BEGIN; COMMIT; ROLLBACK");
    stock_close(a);
    stock_close(b);
}

/* -- statements that are open when transactions end ----------------------------------------------
 */

static void pending(void)
{
    sqlite3 *a, *b;
    sqlite3_stmt *s, *w;

    stock_load();
    a = filled("db");
    b = stock_open("db");
    run(a, "BEGIN; INSERT INTO t(b) VALUES('x')");
    s = prepare(a, "SELECT a FROM t");
    step(s);
    run(a, "COMMIT");
    step(s);
    states("committed under an open read", a, b);
    run(b, "INSERT INTO t(b) VALUES('y')");
    step(s);
    sqlite3_reset(s);
    run(a, "BEGIN; INSERT INTO t(b) VALUES('z')");
    step(s);
    run(a, "ROLLBACK");
    step(s);
    sqlite3_reset(s);
    run(a, "BEGIN; CREATE TABLE u(a)");
    step(s);
    run(a, "ROLLBACK");
    step(s);
    sqlite3_reset(s);
    w = prepare(a, "INSERT INTO t(b) VALUES('r') RETURNING a");
    step(w);
    states("returning", a, b);
    run(b, "INSERT INTO t(b) VALUES('beside it')");
    step(w);
    say("reset %d", sqlite3_reset(w));
    run(b, "INSERT INTO t(b) VALUES('beside it')");
    step(w);
    say("finalize %d", sqlite3_finalize(w));
    /* The schema changes under a prepared statement. */
    step(s);
    sqlite3_reset(s);
    run(b, "ALTER TABLE t ADD COLUMN c DEFAULT 'new'; CREATE INDEX i ON t(b)");
    step(s);
    run(b, "DROP INDEX i; CREATE TABLE v(x); DROP TABLE v");
    step(s);
    sqlite3_reset(s);
    sqlite3_finalize(s);
    s = prepare(a, "SELECT * FROM t WHERE a = 1");
    step(s);
    say("columns %d", sqlite3_column_count(s));
    sqlite3_reset(s);
    run(b, "DROP TABLE t");
    step(s);
    say("finalize %d", sqlite3_finalize(s));
    say("message %s", sqlite3_errmsg(a));
    run(a, "PRAGMA schema_version; SELECT count(*) FROM sqlite_schema; VACUUM; PRAGMA "
           "integrity_check");
    s = prepare(a, "SELECT 1 UNION SELECT 2");
    step(s);
    run(a, "VACUUM");
    sqlite3_finalize(s);
    stock_close(a);
    stock_close(b);
}

/* -- constraints, savepoints, deferred foreign keys ----------------------------------------------
 */

static void conflicts(void)
{
    sqlite3 *a, *b;

    stock_load();
    a = filled("db");
    b = stock_open("db");
    for (int i = 0; i < 5; i++) {
        static const char *const how[] = {"ROLLBACK", "ABORT", "FAIL", "IGNORE", "REPLACE"};
        char sql[200];

        run(a, "BEGIN; INSERT INTO t VALUES(1000, 'first')");
        snprintf(sql, sizeof sql, "INSERT OR %s INTO t VALUES(1001, 'x'), (1000, 'y'), (1002, 'z')",
                 how[i]);
        run(a, sql);
        say("autocommit %d, changes %d", sqlite3_get_autocommit(a), sqlite3_changes(a));
        run(a, "SELECT a, b FROM t WHERE a >= 1000");
        if (!sqlite3_get_autocommit(a))
            run(a, "COMMIT");
        run(b, "SELECT count(*) FROM t; DELETE FROM t WHERE a >= 1000");
    }
    run(a, "PRAGMA foreign_keys = on; CREATE TABLE p(a PRIMARY KEY); CREATE TABLE c(a REFERENCES p "
           "DEFERRABLE INITIALLY DEFERRED); BEGIN; INSERT INTO c VALUES(1)");
    run(a, "COMMIT");
    states("a commit that a key refuses", a, b);
    run(b, "SELECT count(*) FROM c; INSERT INTO p VALUES(9)");
    run(a, "INSERT INTO p VALUES(1); COMMIT; SELECT * FROM c");
    run(a, "SAVEPOINT a; INSERT INTO t(b) VALUES('1'); SAVEPOINT b; UPDATE t SET b = 'gone'; "
           "SAVEPOINT c; DELETE FROM t");
    run(a, "ROLLBACK TO c; SELECT count(*), count(DISTINCT b) FROM t; ROLLBACK TO b; "
           "SELECT count(*), count(DISTINCT b) FROM t; RELEASE b; RELEASE nosuch");
    run(a, "PRAGMA cache_size = 5; UPDATE t SET b = printf('%0500d', a); SAVEPOINT d; "
           "UPDATE t SET b = printf('%0900d', a); ROLLBACK TO d; SELECT sum(length(b)) FROM t");
    run(b, "SELECT sum(length(b)) FROM t");
    run(a, "RELEASE a; PRAGMA integrity_check");
    run(b, "SELECT sum(length(b)) FROM t; PRAGMA integrity_check");
    run(a, "SAVEPOINT x; ROLLBACK; RELEASE x");
    run(a, "BEGIN; BEGIN");
    run(a, "SAVEPOINT x; COMMIT; ROLLBACK TO x");
    stock_close(a);
    stock_close(b);
}

/* -- SQLITE_FULL ---------------------------------------------------------------------------------
 */

static void full(void)
{
    sqlite3 *a, *b;
    char sql[80];

    stock_load();
    a = filled("db");
    b = stock_open("db");
    snprintf(sql, sizeof sql, "PRAGMA max_page_count = %lld", number(a, "PRAGMA page_count") + 2);
    run(a, sql);
    run(a, "INSERT INTO t(b) VALUES(zeroblob(100000))");
    say("autocommit %d", sqlite3_get_autocommit(a));
    run(a, "BEGIN; INSERT INTO t(b) VALUES('fits'); INSERT INTO t(b) VALUES(zeroblob(100000))");
    say("autocommit %d", sqlite3_get_autocommit(a));
    run(a, "SELECT count(*) FROM t");
    if (!sqlite3_get_autocommit(a))
        run(a, "COMMIT");
    run(b, "SELECT count(*) FROM t; PRAGMA integrity_check; INSERT INTO t(b) "
           "VALUES(zeroblob(100000))");
    run(a, "SELECT count(*) FROM t; INSERT INTO t(b) VALUES('now it is larger than allowed')");
    run(a, "DELETE FROM t WHERE length(b) > 1000; VACUUM; PRAGMA max_page_count = 1");
    run(a,
        "CREATE TABLE one_more(x); PRAGMA max_page_count = 1073741823; CREATE TABLE one_more(x)");
    run(a, "PRAGMA integrity_check");
    stock_close(a);
    stock_close(b);
}

/* -- checkpoints ---------------------------------------------------------------------------------
 */

static void checkpoint(sqlite3 *db, const char *what, const char *schema, int mode)
{
    int log = -7, done = -7, rc = sqlite3_wal_checkpoint_v2(db, schema, mode, &log, &done);

    say("%s, mode %d: %d, all of it %d", what, mode, rc, log == done);
}

static void checkpoints(void)
{
    sqlite3 *a, *b;
    sqlite3_stmt *s;

    stock_load();
    a = filled("db");
    b = stock_open("db");
    for (int mode = SQLITE_CHECKPOINT_PASSIVE; mode <= SQLITE_CHECKPOINT_TRUNCATE; mode++) {
        quiet(a, "INSERT INTO t(b) VALUES('x')");
        checkpoint(a, "idle", "main", mode);
        checkpoint(b, "all schemas", NULL, mode);
        checkpoint(b, "by name", "temp", mode);
        checkpoint(a, "no such", "nosuch", mode);
        quiet(a, "BEGIN");
        checkpoint(a, "begun", "main", mode);
        quiet(a, "SELECT count(*) FROM t");
        checkpoint(a, "reading", "main", mode);
        quiet(a, "INSERT INTO t(b) VALUES('x')");
        checkpoint(a, "writing", "main", mode);
        quiet(a, "COMMIT");
    }
    checkpoint(a, "no mode", "main", 17);
    for (int mode = SQLITE_CHECKPOINT_PASSIVE; mode <= SQLITE_CHECKPOINT_TRUNCATE; mode++) {
        int rc, n = -7;

        /* A reader of an old state and a writer: there is nobody to wait for here. */
        s = prepare(b, "SELECT a FROM t");
        sqlite3_step(s);
        quiet(a, "INSERT INTO t(b) VALUES('x')");
        rc = sqlite3_wal_checkpoint_v2(a, "main", mode, &n, NULL);
        differs(mode == SQLITE_CHECKPOINT_PASSIVE   ? "checkpoint PASSIVE beside a reader"
                : mode == SQLITE_CHECKPOINT_FULL    ? "checkpoint FULL beside a reader"
                : mode == SQLITE_CHECKPOINT_RESTART ? "checkpoint RESTART beside a reader"
                                                    : "checkpoint TRUNCATE beside a reader",
                "%d", rc);
        sqlite3_finalize(s);
        quiet(b, "BEGIN IMMEDIATE");
        rc = sqlite3_wal_checkpoint_v2(a, "main", mode, &n, NULL);
        differs(mode == SQLITE_CHECKPOINT_PASSIVE   ? "checkpoint PASSIVE beside a writer"
                : mode == SQLITE_CHECKPOINT_FULL    ? "checkpoint FULL beside a writer"
                : mode == SQLITE_CHECKPOINT_RESTART ? "checkpoint RESTART beside a writer"
                                                    : "checkpoint TRUNCATE beside a writer",
                "%d", rc);
        quiet(b, "COMMIT");
    }
    run(a, "PRAGMA wal_autocheckpoint = 0; PRAGMA wal_autocheckpoint; SELECT count(*) FROM t");
    say("autocheckpoint %d", sqlite3_wal_autocheckpoint(a, 1));
    run(a, "INSERT INTO t(b) VALUES('x'); PRAGMA wal_autocheckpoint; PRAGMA integrity_check");
    stock_close(a);
    stock_close(b);
}

static int frames_seen;

static int on_wal(void *arg, sqlite3 *db, const char *schema, int frames)
{
    (void)arg;
    (void)db;
    (void)schema;
    frames_seen = frames;
    return SQLITE_OK;
}

static void wal_hook_frames(void)
{
    int first;
    sqlite3 *a;

    stock_load();
    a = filled("db");
    sqlite3_wal_hook(a, on_wal, NULL);
    quiet(a, "UPDATE t SET b = 'x' WHERE a = 1");
    first = frames_seen;
    quiet(a, "UPDATE t SET b = 'y' WHERE a = 1");
    differs("frames in the WAL after one more commit, as the wal hook is told", "%s",
            frames_seen > first ? "more" : "those of that commit");
    stock_close(a);
}

/* -- shared cache --------------------------------------------------------------------------------
 */

static int notified;

static void on_unlock(void **args, int n)
{
    (void)args;
    notified += n;
}

static void shared_cache(void)
{
    int flags = RW | SQLITE_OPEN_SHAREDCACHE;
    sqlite3 *a, *b, *c;
    sqlite3_stmt *s;

    stock_load();
    c = filled("db"); /* a connection of its own, beside */
    a = stock_open_more("db", "cache=shared", flags);
    b = stock_open_more("db", "cache=shared", flags);
    run(a, "BEGIN; INSERT INTO t(b) VALUES('x')");
    run(b, "SELECT count(*) FROM t");
    run(b, "INSERT INTO t(b) VALUES('y')");
    run(c, "SELECT count(*) FROM t; INSERT INTO t(b) VALUES('z')");
    run(b, "PRAGMA read_uncommitted = 1; SELECT count(*) FROM t");
    run(a, "COMMIT");
    run(b, "SELECT count(*) FROM t; PRAGMA read_uncommitted = 0");
    run(a, "BEGIN; UPDATE t SET b = 'held' WHERE a = 1");
    s = prepare(b, "SELECT b FROM t WHERE a = 1");
    say("locked %d", sqlite3_step(s));
    say("extended %d", sqlite3_extended_errcode(b));
    sqlite3_reset(s);
    say("notify %d", sqlite3_unlock_notify(b, on_unlock, NULL));
    say("notified %d", notified);
    run(a, "COMMIT");
    say("notified %d", notified);
    step(s);
    sqlite3_finalize(s);
    run(a, "BEGIN; CREATE TABLE n(x)");
    run(b, "SELECT count(*) FROM t");
    run(a, "COMMIT");
    run(b, "SELECT count(*) FROM n");
    s = prepare(b, "SELECT a FROM t");
    step(s);
    run(a, "DROP TABLE n");
    run(a, "DELETE FROM t");
    sqlite3_finalize(s);
    run(a, "DROP TABLE n; DELETE FROM t WHERE a > 10");
    run(c, "SELECT count(*) FROM t; INSERT INTO t(b) VALUES('of the other cache')");
    run(b, "SELECT count(*) FROM t; BEGIN IMMEDIATE");
    run(a, "BEGIN IMMEDIATE");
    run(c, "BEGIN IMMEDIATE");
    run(b, "COMMIT");
    run(a, "PRAGMA integrity_check; PRAGMA data_version");
    stock_close(a);
    run(b, "INSERT INTO t(b) VALUES('alone'); SELECT count(*) FROM t");
    stock_close(b);
    stock_close(c);
}

/* -- what is built in ----------------------------------------------------------------------------
 */

static int on_changeset(void *arg, int why, sqlite3_changeset_iter *iter)
{
    (void)arg;
    (void)iter;
    say("  conflict %d", why);
    return SQLITE_CHANGESET_OMIT;
}

static void sessions(sqlite3 *a, sqlite3 *b)
{
    sqlite3_session *session = NULL;
    void *changes = NULL;
    int n = 0;

    say("session %d", sqlite3session_create(a, "main", &session));
    say("attach %d", sqlite3session_attach(session, NULL));
    run(a, "INSERT INTO k VALUES(7, 'seven'); UPDATE k SET v = 'ONE' WHERE a = 1; DELETE FROM k "
           "WHERE a = 2");
    say("changeset %d", sqlite3session_changeset(session, &n, &changes));
    say("of %d bytes", n);
    say("apply %d", sqlite3changeset_apply(b, n, changes, NULL, on_changeset, NULL));
    run(b, "SELECT * FROM k");
    sqlite3_free(changes);
    sqlite3session_delete(session);
}

static void features(void)
{
    sqlite3 *a, *b;

    stock_load();
    a = stock_open("db");
    b = stock_open("other");
    run(a, "CREATE TABLE w(a, b, PRIMARY KEY(b, a)) WITHOUT ROWID; INSERT INTO w VALUES(1, 2), (0, "
           "2), "
           "(3, 1); SELECT * FROM w");
    run(a, "CREATE TABLE g(a INT, d AS (a * 2), s TEXT AS (printf('%05d', a)) STORED); CREATE "
           "INDEX gi "
           "ON g(d); INSERT INTO g VALUES(1), (2), (3); SELECT * FROM g WHERE d > 2; UPDATE g SET "
           "a = 9 "
           "WHERE d = 2; SELECT * FROM g ORDER BY d");
    run(a, "CREATE TABLE s(a INT, b TEXT, c ANY) STRICT; INSERT INTO s VALUES(1, 'x', x'00')");
    run(a, "INSERT INTO s VALUES('no', 'x', 1)");
    run(a,
        "CREATE VIRTUAL TABLE f USING fts5(t); INSERT INTO f VALUES('a coral reef'), ('a cup of a "
        "coral'); SELECT rowid, highlight(f, 0, '<', '>') FROM f('coral') ORDER BY rowid; INSERT "
        "INTO "
        "f(f) VALUES('optimize'); INSERT INTO f(f) VALUES('integrity-check'); BEGIN; INSERT INTO f "
        "VALUES('never'); ROLLBACK; SELECT count(*) FROM f('never')");
    run(a,
        "CREATE VIRTUAL TABLE f4 USING fts4(t); INSERT INTO f4 VALUES('one two'), ('two three'); "
        "SELECT docid, snippet(f4) FROM f4 WHERE f4 MATCH 'two'");
    run(a, "CREATE VIRTUAL TABLE r USING rtree(id, x0, x1); INSERT INTO r VALUES(1, 0, 10), (2, 5, "
           "15); "
           "SELECT id FROM r WHERE x0 <= 4; SELECT rtreecheck('r')");
    run(a, "SELECT json_extract('{\"a\":[1,2]}', '$.a[1]'), '{\"b\":5}' ->> 'b'; SELECT value FROM "
           "json_each('[1,2,3]')");
    run(a,
        "SELECT a, sum(a) OVER (ORDER BY a), lag(a) OVER w, row_number() OVER w FROM w WINDOW w AS "
        "(ORDER BY a DESC)");
    run(a, "CREATE TABLE k(a INTEGER PRIMARY KEY, v); INSERT INTO k VALUES(1, 'one'), (2, 'two') "
           "RETURNING a + 1; INSERT INTO k VALUES(1, 'x') ON CONFLICT(a) DO UPDATE SET v = v || "
           "excluded.v RETURNING v; UPDATE k SET v = g.a FROM g WHERE k.a = g.rowid RETURNING *");
    run(a, "CREATE TRIGGER k1 AFTER UPDATE ON k BEGIN INSERT INTO w VALUES(new.a, old.v); END; "
           "UPDATE k "
           "SET v = 'one' WHERE a = 1; UPDATE k SET v = 'two' WHERE a = 2; SELECT * FROM w");
    run(a,
        "CREATE VIEW vk AS SELECT v FROM k; CREATE TRIGGER vt INSTEAD OF INSERT ON vk BEGIN INSERT "
        "INTO k(v) VALUES(new.v); END; INSERT INTO vk VALUES('three'); SELECT count(*) FROM k");
    run(a, "SELECT name, sum(pageno > 0), sum(ncell) FROM dbstat GROUP BY name ORDER BY name");
    run(a, "CREATE TABLE au(a INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO au VALUES(NULL); "
           "DELETE FROM "
           "au; INSERT INTO au VALUES(NULL); SELECT * FROM au; SELECT * FROM sqlite_sequence");
    run(a, "ANALYZE; SELECT * FROM sqlite_stat1 ORDER BY 1, 2; REINDEX; PRAGMA optimize");
    run(a, "CREATE TABLE e AS SELECT zeroblob(2000000) AS big; SELECT length(big) FROM e; UPDATE e "
           "SET big "
           "= randomblob(3000000); SELECT length(big) FROM e; DROP TABLE e; PRAGMA freelist_count");
    run(a, "ALTER TABLE k RENAME COLUMN v TO vv; ALTER TABLE k RENAME TO kk; ALTER TABLE kk RENAME "
           "TO k; "
           "ALTER TABLE k RENAME COLUMN vv TO v; SELECT sql FROM sqlite_schema WHERE name = 'k'");
    run(b,
        "CREATE TABLE k(a INTEGER PRIMARY KEY, v); INSERT INTO k VALUES(1, 'there'), (2, 'two')");
    sessions(a, b);
    run(a, "PRAGMA integrity_check; PRAGMA foreign_key_check; VACUUM; PRAGMA integrity_check");
    stock_close(a);
    stock_close(b);
}

/* -- temp tables, ATTACH -------------------------------------------------------------------------
 */

static void temp_tables(void)
{
    sqlite3 *a, *r;

    stock_load();
    a = filled("db");
    for (int store = 0; store < 3; store++) {
        char sql[60];

        snprintf(sql, sizeof sql, "PRAGMA temp_store = %d", store);
        run(a, sql);
        run(a,
            "CREATE TEMP TABLE x AS SELECT * FROM t; CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN "
            "INSERT INTO x VALUES(new.a, new.b); END; CREATE TEMP VIEW v AS SELECT count(*) FROM "
            "x");
        run(a, "INSERT INTO t(b) VALUES('both'); SELECT * FROM v");
        run(a, "BEGIN; INSERT INTO t(b) VALUES('neither'); INSERT INTO temp.x SELECT * FROM t; "
               "SAVEPOINT s; DELETE FROM x; ROLLBACK TO s; SELECT * FROM v; ROLLBACK; SELECT * "
               "FROM v");
        run(a, "CREATE INDEX temp.xi ON x(b); SELECT count(*) FROM x WHERE b = 'both'; PRAGMA "
               "temp.page_count; PRAGMA temp.integrity_check");
        run(a, "SELECT b, count(*) FROM t GROUP BY substr(b, 3) ORDER BY 2 DESC, 1 LIMIT 2");
        run(a, "DROP VIEW v; DROP TRIGGER g; DROP TABLE x");
    }
    r = stock_open_more("db", "mode=ro", SQLITE_OPEN_READONLY);
    run(r, "CREATE TEMP TABLE x AS SELECT * FROM t; SELECT count(*) FROM x; DELETE FROM x; DROP "
           "TABLE x");
    run(r, "INSERT INTO t(b) VALUES('no')");
    run(r, "BEGIN IMMEDIATE");
    run(r, "ROLLBACK");
    say("readonly %d %d", sqlite3_db_readonly(r, "main"), sqlite3_db_readonly(r, "temp"));
    run(r, "PRAGMA user_version = 5");
    run(r, "VACUUM");
    differs("checkpoint on a read-only connection", "%d", quiet(r, "PRAGMA wal_checkpoint"));
    run(a, "INSERT INTO t(b) VALUES('seen')");
    run(r, "SELECT b FROM t WHERE b = 'seen'; PRAGMA integrity_check");
    run(a, "PRAGMA query_only = 1; DELETE FROM t");
    stock_close(r);
    stock_close(a);
}

static void attach(void)
{
    char sql[1300], name[20];
    sqlite3 *a, *b, *p;
    int limit;

    stock_load();
    a = filled("db");
    limit = sqlite3_limit(a, SQLITE_LIMIT_ATTACHED, -1);
    say("limit %d", limit);
    for (int i = 1; i <= limit + 1; i++) {
        snprintf(name, sizeof name, "x%d", i % 3); /* some of them twice or more */
        snprintf(sql, sizeof sql, "ATTACH '%s' AS x%d",
                 i % 4 == 0 ? stock_file(name) : stock_uri(name, ""), i);
        say("attach %d: %d", i, quiet(a, sql));
    }
    run(a, "DETACH nosuch");
    run(a, "DETACH x10; ATTACH '' AS e; CREATE TABLE e.t(a); INSERT INTO e.t VALUES(1); DETACH e; "
           "ATTACH "
           "':memory:' AS m; CREATE TABLE m.t(a); INSERT INTO m.t VALUES(2); SELECT * FROM m.t; "
           "DETACH m");
    run(a,
        "CREATE TABLE x1.t(v); CREATE TABLE x2.t(v); CREATE TABLE x3.t(v); CREATE TABLE x4.t(v)");
    run(a, "BEGIN; INSERT INTO main.t(b) VALUES('m'); INSERT INTO x1.t VALUES('1'); COMMIT");
    run(a, "BEGIN; INSERT INTO x2.t VALUES('2'); INSERT INTO x4.t VALUES('file'); INSERT INTO x3.t "
           "VALUES('3'); ROLLBACK");
    run(a, "BEGIN; INSERT INTO x2.t VALUES('2'); INSERT INTO x4.t VALUES('file'); INSERT INTO x3.t "
           "VALUES('3'); COMMIT");
    run(a, "SELECT (SELECT count(*) FROM x1.t), (SELECT count(*) FROM x2.t), (SELECT count(*) FROM "
           "x3.t), (SELECT count(*) FROM x4.t)");
    /* x7 is the same database as x1. */
    run(a, "SELECT * FROM x7.t; BEGIN; INSERT INTO x1.t VALUES('a')");
    run(a, "INSERT INTO x7.t VALUES('b')");
    run(a, "COMMIT; SELECT * FROM x7.t");
    run(a, "BEGIN; SELECT * FROM x5.t");
    run(a, "DETACH x5");
    run(a, "COMMIT; DETACH x5; DETACH x6; DETACH main");
    run(a,
        "CREATE TABLE x1.k AS SELECT * FROM main.t; INSERT INTO x2.t SELECT a FROM x1.k; SELECT "
        "count(*), sum(v) FROM x2.t; CREATE TEMP TABLE y AS SELECT * FROM x1.k JOIN x2.t ON a = v; "
        "SELECT count(*) FROM y");
    run(a, "PRAGMA x1.user_version = 17; PRAGMA x7.user_version; PRAGMA user_version; PRAGMA "
           "x1.integrity_check; VACUUM x1; PRAGMA integrity_check");
    say("states %d %d", sqlite3_txn_state(a, "x1"), sqlite3_txn_state(a, NULL));
    b = stock_open("x1");
    run(b, "BEGIN IMMEDIATE; INSERT INTO t VALUES('of b')");
    run(a, "BEGIN; INSERT INTO x2.t VALUES('x'); INSERT INTO x1.t VALUES('refused')");
    run(b, "COMMIT");
    run(a, "INSERT INTO x1.t VALUES('accepted'); COMMIT; SELECT count(*) FROM x1.t");
    stock_close(b);
    stock_close(a);
    /* A plain file is main. */
    if (stock_open_rc(stock_file("main"), RW, &p))
        die("a plain main");
    snprintf(sql, sizeof sql, "ATTACH '%s' AS c", stock_uri("db", ""));
    say("attach %d", quiet(p, sql));
    run(p,
        "CREATE TABLE t(v); BEGIN; INSERT INTO t VALUES(1); INSERT INTO c.t(b) VALUES('of a plain "
        "main'); COMMIT; SELECT count(*) FROM c.t; SELECT * FROM main.t");
    b = stock_open("db");
    sqlite3_busy_timeout(p, 40);
    run(b, "BEGIN IMMEDIATE");
    run(p, "BEGIN; INSERT INTO t VALUES(2); INSERT INTO c.t(b) VALUES('refused')");
    run(b, "COMMIT");
    run(p, "INSERT INTO c.t(b) VALUES('accepted'); COMMIT; SELECT count(*) FROM c.t; SELECT * FROM "
           "main.t; DETACH c");
    stock_close(b);
    stock_close(p);
}

/* -- opening -------------------------------------------------------------------------------------
 */

static void try_open(const char *what, const char *name, const char *more, int flags)
{
    sqlite3 *db;
    int rc = stock_open_rc(stock_uri(name, more), flags, &db);

    say("%s: %d", what, rc);
    if (rc)
        return;
    run(db, "SELECT count(*) FROM sqlite_schema");
    run(db, "CREATE TABLE IF NOT EXISTS made(x)");
    say("readonly %d", sqlite3_db_readonly(db, "main"));
    stock_close(db);
}

static void opening(void)
{
    sqlite3 *db;
    int rc;

    stock_load();
    try_open("not there, mode=ro", "no1", "mode=ro", RW);
    try_open("not there, mode=rw", "no2", "mode=rw", RW);
    try_open("not there, read-only", "no3", "", SQLITE_OPEN_READONLY);
    try_open("not there, no CREATE", "no4", "", SQLITE_OPEN_READWRITE);
    try_open("mode beyond the flags", "no5", "mode=rwc", SQLITE_OPEN_READONLY);
    db = filled("db");
    stock_close(db);
    try_open("mode=ro", "db", "mode=ro", RW);
    try_open("mode=rw", "db", "mode=rw", RW);
    try_open("mode=rwc", "db", "mode=rwc", RW);
    try_open("mode=memory", "db", "mode=memory", RW);
    try_open("mode=memory, shared", "db", "mode=memory&cache=shared", RW);
    try_open("no such mode", "db", "mode=sideways", RW);
    try_open("no such cache", "db", "cache=cold", RW);
    try_open("cache=private", "db", "cache=private", RW);
    try_open("read-only", "db", "", SQLITE_OPEN_READONLY);
    try_open("psow=0", "db", "psow=0", RW);
    try_open("psow=1", "db", "psow=1", RW);
    try_open("no mutex", "db", "", RW | SQLITE_OPEN_NOMUTEX);
    try_open("full mutex", "db", "", RW | SQLITE_OPEN_FULLMUTEX);
    try_open("private cache", "db", "", RW | SQLITE_OPEN_PRIVATECACHE);
    try_open("extended codes", "db", "", RW | SQLITE_OPEN_EXRESCODE);
    try_open("no link", "db", "", RW | SQLITE_OPEN_NOFOLLOW);
    try_open("memory", "db", "", RW | SQLITE_OPEN_MEMORY);
    try_open("immutable=1", "db", "immutable=1", RW);
    try_open("immutable=0", "db", "immutable=0", RW);
    try_open("immutable=1, read-only", "db", "immutable=1&mode=ro", SQLITE_OPEN_READONLY);
    /* SQLite cannot read a WAL without locks: a plain file says so at the first statement. */
    rc = stock_open_rc(stock_uri("db", "nolock=1"), RW, &db);
    say("nolock=1: %d", rc ? rc : quiet(db, "SELECT * FROM t"));
    sqlite3_close(db);
}

const struct stock_case cases[] = {
    {"busy", busy},
    {"pending", pending},
    {"conflicts", conflicts},
    {"full", full},
    {"checkpoints", checkpoints},
    {"wal-hook-frames", wal_hook_frames},
    {"shared-cache", shared_cache},
    {"features", features},
    {"temp-tables", temp_tables},
    {"attach", attach},
    {"opening", opening},
    {NULL, NULL},
};
