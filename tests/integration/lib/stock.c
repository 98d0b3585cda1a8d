/* stock.c - what the stock programs share: `PROGRAM plain|corallite DIR CASE`. */
#include "stock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool on_corallite;
const char *stock_dir;

static char tag[60]; /* of the case: a database of another case is another one */

void say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

void differs(const char *key, const char *format, ...)
{
    va_list args;

    printf("! %s: ", key);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

void die(const char *format, ...)
{
    va_list args;

    printf("BROKEN ");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
    exit(3);
}

static char *buffer(void)
{
    static _Thread_local char ring[8][1024];
    static _Thread_local unsigned next;

    return ring[next++ % 8];
}

const char *stock_uri(const char *name, const char *more)
{
    char *out = buffer();

    if (on_corallite)
        snprintf(out, 1024, "file:%s-%s?vfs=corallite%s%s", tag, name, *more ? "&" : "", more);
    else
        snprintf(out, 1024, "file:%s/%s-%s%s%s", stock_dir, tag, name, *more ? "?" : "", more);
    return out;
}

const char *stock_file(const char *name)
{
    char *out = buffer();

    snprintf(out, 1024, "file:%s/%s-%s-%s?vfs=unix", stock_dir, tag,
             on_corallite ? "ours" : "plain", name);
    return out;
}

void stock_load(void)
{
    const char *path = getenv("CORALLITE_EXTENSION");
    char *error = NULL;
    sqlite3 *db;

    if (!on_corallite)
        return;
    if (!path || sqlite3_open(":memory:", &db))
        die("no extension to load");
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
    if (sqlite3_load_extension(db, path, NULL, &error))
        die("load %s: %s", path, error);
    sqlite3_close(db);
}

int stock_open_rc(const char *uri, int flags, sqlite3 **out)
{
    int rc = sqlite3_open_v2(uri, out, flags | SQLITE_OPEN_URI, NULL);

    if (rc) {
        rc = sqlite3_extended_errcode(*out);
        sqlite3_close(*out);
        *out = NULL;
        return rc;
    }
    sqlite3_extended_result_codes(*out, 1);
    return rc;
}

sqlite3 *stock_open_more(const char *name, const char *more, int flags)
{
    sqlite3 *db;
    int rc = stock_open_rc(stock_uri(name, more), flags, &db);

    if (rc)
        die("open %s: %d", stock_uri(name, more), rc);
    if (!(flags & SQLITE_OPEN_READONLY) && quiet(db, "PRAGMA journal_mode = wal"))
        die("WAL mode: %s", sqlite3_errmsg(db));
    return db;
}

sqlite3 *stock_open(const char *name)
{
    return stock_open_more(name, "", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
}

void stock_close(sqlite3 *db)
{
    say("close %d", sqlite3_close(db));
}

/* A value as text that tells its type. */
static void print_value(sqlite3_stmt *stmt, int i)
{
    switch (sqlite3_column_type(stmt, i)) {
    case SQLITE_INTEGER:
        printf("%lld", sqlite3_column_int64(stmt, i));
        break;
    case SQLITE_FLOAT:
        printf("%.12g", sqlite3_column_double(stmt, i));
        break;
    case SQLITE_TEXT:
        printf("'%s'", (const char *)sqlite3_column_text(stmt, i));
        break;
    case SQLITE_BLOB: {
        const unsigned char *bytes = sqlite3_column_blob(stmt, i);
        int n = sqlite3_column_bytes(stmt, i);

        printf("x%d'", n);
        for (int k = 0; k < n && k < 16; k++)
            printf("%02x", bytes[k]);
        putchar('\'');
        break;
    }
    default:
        printf("NULL");
    }
}

static void print_row(sqlite3_stmt *stmt)
{
    int n = sqlite3_column_count(stmt);

    for (int i = 0; i < n; i++) {
        if (i)
            putchar('|');
        print_value(stmt, i);
    }
}

int step(sqlite3_stmt *stmt)
{
    int rc = sqlite3_step(stmt);

    printf("  step %d ", rc);
    if (rc == SQLITE_ROW)
        print_row(stmt);
    putchar('\n');
    return rc;
}

sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

    if (rc)
        say("prepare %s: %d %s", sql, rc, sqlite3_errmsg(db));
    return stmt;
}

static int run_one(sqlite3 *db, sqlite3_stmt *stmt, bool loud)
{
    int rc;

    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (!loud)
            continue;
        printf("  ");
        print_row(stmt);
        putchar('\n');
    }
    rc = sqlite3_finalize(stmt);
    return rc ? sqlite3_extended_errcode(db) : rc;
}

static int run_all(sqlite3 *db, const char *sql, bool loud)
{
    int rc = SQLITE_OK;

    while (!rc && *sql) {
        sqlite3_stmt *stmt = NULL;
        const char *rest = NULL;

        rc = sqlite3_prepare_v2(db, sql, -1, &stmt, &rest);
        if (rc)
            rc = sqlite3_extended_errcode(db);
        if (loud && (rc || stmt))
            printf("%.*s\n", (int)(rest && rest > sql ? rest - sql : 80), sql);
        if (!rc && stmt)
            rc = run_one(db, stmt, loud);
        if (loud && (rc || stmt))
            say("  -> %d%s%s", rc, rc ? " " : "", rc ? sqlite3_errmsg(db) : "");
        sql = rest ? rest : "";
        while (*sql == ' ' || *sql == ';' || *sql == '\n')
            sql++;
    }
    return rc;
}

int run(sqlite3 *db, const char *sql)
{
    return run_all(db, sql, true);
}

int quiet(sqlite3 *db, const char *sql)
{
    return run_all(db, sql, false);
}

long long number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    long long n = -1;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW)
        n = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return n;
}

const char *text(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    char *out = buffer();

    *out = 0;
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW && sqlite3_column_text(stmt, 0))
        snprintf(out, 1024, "%s", (const char *)sqlite3_column_text(stmt, 0));
    sqlite3_finalize(stmt);
    return out;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (const struct stock_case *c = cases; c->name; c++)
            puts(c->name);
        return 0;
    }
    if (argc != 4) {
        fprintf(stderr, "usage: %s plain|corallite DIR CASE, or --list\n", argv[0]);
        return 2;
    }
    on_corallite = strcmp(argv[1], "corallite") == 0;
    stock_dir = argv[2];
    for (const struct stock_case *c = cases; c->name; c++) {
        if (strcmp(c->name, argv[3]) != 0)
            continue;
        snprintf(tag, sizeof tag, "%s%s", c->name, getenv("STOCK_TAG") ? getenv("STOCK_TAG") : "");
        c->run();
        puts("end");
        return 0;
    }
    fprintf(stderr, "there is no case %s\n", argv[3]);
    return 2;
}
