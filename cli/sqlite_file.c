#include "cli/sqlite_file.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli/process_file.h"
#include "cli/progress_file.h"

#define BUSY_MS      10000
#define PAGES_A_STEP 64
#define STEPS_A_LOOK 20000 /* of SQLite's machine, between two looks at clock and signals */

/* Keeps the extension loaded, and tells its last error. */
static sqlite3 *loader;
static volatile sig_atomic_t interrupted;

/* -- the library ---------------------------------------------------------------------------------
 */

static int load(const char *path)
{
    char *message = NULL;
    int rc = 0;
    if (sqlite3_open(":memory:", &loader) != SQLITE_OK ||
        sqlite3_db_config(loader, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL) != SQLITE_OK)
        rc = co_fail(CO_ERR_NOMEM, "SQLite cannot be started");
    else if (sqlite3_load_extension(loader, path, NULL, &message) != SQLITE_OK)
        rc = co_fail(CO_ERR_IO, "the extension %s cannot be loaded: %s", path,
                     message ? message : "SQLite does not say why");
    sqlite3_free(message);
    return rc;
}

int sqlite_begin(const struct client_target *target)
{
    char address[CLIENT_SERVERS_TEXT], path[PATH_MAX];
    client_servers(target, address);
    /* Its sentences are told by this command. */
    if (setenv("CORALLITE_SERVER", address, 1) != 0 || setenv("CORALLITE_LOG", "off", 1) != 0)
        return co_fail_errno(CO_ERR_NOMEM, errno, "the environment cannot be set");
    int rc = process_find("corallite.so", path);
    return rc ? rc : load(path);
}

static const char *extension_sentence(sqlite3_stmt **s)
{
    *s = NULL;
    if (!loader ||
        sqlite3_prepare_v2(loader, "SELECT corallite_last_error()", -1, s, NULL) != SQLITE_OK ||
        sqlite3_step(*s) != SQLITE_ROW)
        return NULL;
    const char *text = (const char *)sqlite3_column_text(*s, 0);
    return text && text[0] ? text : NULL;
}

int sqlite_fail(int code, const char *what, const char *message)
{
    sqlite3_stmt *s;
    const char *ours = extension_sentence(&s);
    code = co_fail(code, "%s: %s", what, ours ? ours : message);
    sqlite3_finalize(s);
    return code;
}

int sqlite_failed(sqlite3 *db, const char *what)
{
    int code = db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM, rc;
    const char *message = db ? sqlite3_errmsg(db) : "out of memory";
    switch (code & 0xff) {
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        rc = CO_ERR_CORRUPT;
        break;
    case SQLITE_BUSY:
        rc = CO_ERR_BUSY;
        break;
    case SQLITE_FULL:
        rc = CO_ERR_FULL;
        break;
    case SQLITE_READONLY:
        rc = CO_ERR_READONLY;
        break;
    default:
        rc = CO_ERR_IO;
    }
    return sqlite_fail(rc, what, message);
}

int sqlite_open(const char *name, int flags, sqlite3 **out)
{
    int rc = 0;
    if (sqlite3_open_v2(name, out, flags, NULL) != SQLITE_OK) {
        rc = sqlite_failed(*out, name);
        sqlite3_close(*out);
        *out = NULL;
        return rc;
    }
    sqlite3_busy_timeout(*out, BUSY_MS);
    sqlite3_extended_result_codes(*out, 1);
    return 0;
}

int sqlite_exec(sqlite3 *db, const char *sql, const char *what)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : sqlite_failed(db, what);
}

int sqlite_number(sqlite3 *db, const char *sql, const char *what, int64_t *out)
{
    sqlite3_stmt *s = NULL;
    int rc = 0;
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK || sqlite3_step(s) != SQLITE_ROW)
        rc = sqlite_failed(db, what);
    else
        *out = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return rc;
}

int sqlite_hold(sqlite3 *db, const char *what)
{
    int64_t ignored;
    int rc = sqlite_exec(db, "BEGIN", what);
    return rc ? rc : sqlite_number(db, "SELECT count(*) FROM sqlite_schema", what, &ignored);
}

static int on_steps(void *bar)
{
    progress_show(bar, 0, 0);
    return interrupted != 0;
}

void sqlite_watch(sqlite3 *db, struct progress *bar)
{
    sqlite3_progress_handler(db, bar ? STEPS_A_LOOK : 0, bar ? on_steps : NULL, bar);
}

/* -- copying -------------------------------------------------------------------------------------
 */

static void on_signal(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

void sqlite_catch_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &action, NULL);
}

bool sqlite_interrupted(void)
{
    return interrupted != 0;
}

static int run_backup(sqlite3_backup *b, sqlite3 *to, const char *what, int64_t page_size,
                      uint64_t *bytes)
{
    struct progress bar;
    int step;
    progress_begin(&bar, what);
    do {
        step = interrupted ? SQLITE_INTERRUPT : sqlite3_backup_step(b, PAGES_A_STEP);
        int total = sqlite3_backup_pagecount(b), left = sqlite3_backup_remaining(b);
        *bytes = (uint64_t)total * (uint64_t)page_size;
        progress_show(&bar, (uint64_t)(total - left) * (uint64_t)page_size, *bytes);
    } while (step == SQLITE_OK);
    progress_end(&bar);
    int end = sqlite3_backup_finish(b);
    if (step == SQLITE_INTERRUPT)
        return co_fail(CO_ERR_CANCELED, "%s was interrupted; nothing was kept", what);
    return step == SQLITE_DONE && end == SQLITE_OK ? 0 : sqlite_failed(to, what);
}

int sqlite_copy(sqlite3 *from, sqlite3 *to, const char *what, uint64_t *bytes)
{
    int64_t page_size = 0;
    int rc = sqlite_number(from, "PRAGMA page_size", what, &page_size);
    if (rc)
        return rc;
    sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
    if (!b)
        return sqlite_failed(to, what);
    return run_backup(b, to, what, page_size, bytes);
}
