/*
 * plain_app.c - a program that knows nothing of Corallite: what test_preload.py runs under
 * LD_PRELOAD.
 *
 * It loads no extension, names no VFS unless told to, and uses SQLite in the ways that a library in
 * front of it could break: sqlite3_config() before the first open, sqlite3_shutdown() in between,
 * all three ways to open, a VFS of its own as the default. Arguments: a path that is a database,
 * one that is none. Prints "ok" lines; ends with 1 and a sentence at the first thing that is not as
 * it should be.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("not ok line %d: ", __LINE__);                                                  \
            printf(__VA_ARGS__);                                                                   \
            putchar('\n');                                                                         \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* The first value of a statement's first row, as text; "" when there is none. */
static const char *value(sqlite3 *db, const char *sql)
{
    static char text[500];
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &s, NULL);

    CHECK(rc == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
    rc = sqlite3_step(s);
    CHECK(rc == SQLITE_ROW || rc == SQLITE_DONE, "%s: %s", sql, sqlite3_errmsg(db));
    snprintf(text, sizeof text, "%s",
             rc == SQLITE_ROW && sqlite3_column_text(s, 0) ? (const char *)sqlite3_column_text(s, 0)
                                                           : "");
    sqlite3_finalize(s);
    return text;
}

static void is_database(sqlite3 *db, const char *how)
{
    const char *file = sqlite3_db_filename(db, "main");

    CHECK(strncmp(file, "corallite:", 10) == 0, "%s: the main database is %s", how, file);
    value(db, "CREATE TABLE IF NOT EXISTS t(a)");
    value(db, "INSERT INTO t VALUES('row')");
    CHECK(strcmp(value(db, "SELECT a FROM t"), "row") == 0, "%s: no row", how);
    CHECK(strcmp(value(db, "PRAGMA corallite_branch"), "main") == 0, "%s: no PRAGMA", how);
    value(db, "SELECT corallite_last_error()"); /* the functions are there as well */
    sqlite3_close(db);
    printf("ok %s\n", how);
}

static void is_file(sqlite3 *db, const char *how)
{
    const char *file = sqlite3_db_filename(db, "main");

    CHECK(file[0] == '/', "%s: the main database is %s", how, file);
    value(db, "CREATE TABLE IF NOT EXISTS t(a)");
    sqlite3_close(db);
    printf("ok %s\n", how);
}

static sqlite3 *open_v2(const char *name, const char *vfs)
{
    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(name, &db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, vfs);

    CHECK(rc == SQLITE_OK, "sqlite3_open_v2(%s): %s", name, sqlite3_errmsg(db));
    return db;
}

/* For ASCII names. */
static sqlite3 *open16(const char *name)
{
    unsigned short wide[400] = {0};
    sqlite3 *db = NULL;

    for (size_t i = 0; name[i] && i < 399; i++)
        wide[i] = (unsigned char)name[i];
    CHECK(sqlite3_open16(wide, &db) == SQLITE_OK, "sqlite3_open16(%s)", name);
    return db;
}

int main(int argc, char **argv)
{
    sqlite3 *db = NULL;
    static sqlite3_vfs own;

    CHECK(argc == 3, "usage: plain_app DATABASE FILE");
    /* S20: whoever registers a VFS before this has initialised SQLite, and this is SQLITE_MISUSE.
     */
    CHECK(sqlite3_config(SQLITE_CONFIG_SERIALIZED) == SQLITE_OK, "sqlite3_config() is refused");
    CHECK(sqlite3_open(argv[1], &db) == SQLITE_OK, "sqlite3_open(%s)", argv[1]);
    is_database(db, "sqlite3_open");
    is_database(open_v2(argv[1], NULL), "sqlite3_open_v2");
    is_database(open16(argv[1]), "sqlite3_open16");
    is_database(open_v2("file:by-uri?vfs=corallite", NULL), "a URI without loading anything");
    is_file(open_v2(argv[2], NULL), "a path that does not match");
    is_file(open_v2(argv[1], "unix"), "a VFS that the program names itself");
    remove(argv[1]);

    CHECK(sqlite3_shutdown() == SQLITE_OK, "sqlite3_shutdown()");
    CHECK(sqlite3_config(SQLITE_CONFIG_MULTITHREAD) == SQLITE_OK, "sqlite3_config(), again");
    is_database(open_v2(argv[1], NULL), "after sqlite3_shutdown()");

    own = *sqlite3_vfs_find("unix");
    own.zName = "own";
    own.pNext = NULL;
    CHECK(sqlite3_vfs_register(&own, 1) == SQLITE_OK, "a VFS of its own");
    is_file(open_v2(argv[1], NULL), "a default VFS that the program chose later");
    remove(argv[1]);
    puts("ok all");
    return 0;
}
