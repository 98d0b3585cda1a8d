/*
 * example.c - Corallite from C: open, write, branch, look back.
 *
 *   cc -o example examples/c/example.c -lsqlite3
 *   eval "$(corallite env)" && ./example
 */
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* SQL with its values filled in as sqlite3_mprintf() does; prints the first column of each row. */
static void run(sqlite3 *db, const char *label, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    char *sql = sqlite3_vmprintf(format, values);
    va_end(values);
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
        exit(1);
    }
    while (sqlite3_step(statement) == SQLITE_ROW)
        printf("%-8s%s\n", label, sqlite3_column_text(statement, 0));
    if (sqlite3_finalize(statement) != SQLITE_OK) { /* what a step failed with */
        fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
        exit(1);
    }
    sqlite3_free(sql);
}

static sqlite3 *open_uri(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    char *uri = sqlite3_vmprintf(format, values);
    va_end(values);
    sqlite3 *db;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI;
    if (sqlite3_open_v2(uri, &db, flags, NULL) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", uri, sqlite3_errmsg(db));
        exit(1);
    }
    sqlite3_busy_timeout(db, 5000); /* writers of other processes take turns with us */
    sqlite3_free(uri);
    return db;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "example-c", *extension = getenv("CORALLITE_EXTENSION");
    char branch[40], command[200], lsn[17] = "";

    /* Once a process: any connection loads the extension, and its VFS stays for all. */
    sqlite3 *loader;
    char *message = NULL;
    sqlite3_open(":memory:", &loader);
    sqlite3_db_config(loader, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
    if (!extension || sqlite3_load_extension(loader, extension, NULL, &message) != SQLITE_OK) {
        fprintf(stderr, "%s\n", message ? message : "first: eval \"$(corallite env)\"");
        return 1;
    }

    /* Open and write. COMMIT returns when a majority of the safekeepers has it on disk. */
    sqlite3 *db = open_uri("file:%s?vfs=corallite", name);
    run(db, "", "CREATE TABLE IF NOT EXISTS item(name TEXT PRIMARY KEY, price REAL)");
    run(db, "", "BEGIN IMMEDIATE");
    run(db, "", "INSERT OR REPLACE INTO item VALUES(%Q, %f)", "shell", 2.5);
    run(db, "", "COMMIT");

    /* Where are we? Each commit is a place to come back to. */
    sqlite3_stmt *ask;
    sqlite3_prepare_v2(db, "PRAGMA corallite_lsn", -1, &ask, NULL);
    if (sqlite3_step(ask) == SQLITE_ROW)
        snprintf(lsn, sizeof lsn, "%s", sqlite3_column_text(ask, 0));
    sqlite3_finalize(ask);
    run(db, "", "UPDATE item SET price = 3.0 WHERE name = 'shell'");
    run(db, "now", "SELECT name || ' ' || price FROM item");

    /* A branch is a database of its own that begins as this one is, in milliseconds. */
    snprintf(branch, sizeof branch, "try-%ld", (long)getpid());
    snprintf(command, sizeof command, "corallite branch create %.63s/%s >/dev/null", name, branch);
    if (system(command) != 0)
        return 1;
    sqlite3 *other = open_uri("file:%s/%s?vfs=corallite", name, branch);
    run(other, "", "UPDATE item SET price = 9.9 WHERE name = 'shell'");
    run(other, "branch", "SELECT name || ' ' || price FROM item");
    run(db, "now", "SELECT name || ' ' || price FROM item");

    /* The past: an LSN, a time, -10m, pin:NAME. Read-only. */
    sqlite3 *before = open_uri("file:%s?vfs=corallite&at=%s", name, lsn);
    run(before, "past", "SELECT name || ' ' || price FROM item");

    sqlite3_close(before);
    sqlite3_close(other);
    sqlite3_close(db);
    sqlite3_close(loader);
    return 0;
}
