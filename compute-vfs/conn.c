/* conn.c - a connection's beginning and end, and what it asks of the SQLite handle above it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compute-vfs/errors.h"
#include "compute-vfs/vfs.h"

#define STATEMENTS_LOOKED_AT 64 /* of a connection, the newest: a look has its price */

/* -- names and parameters ------------------------------------------------------------------------
 */

static int from_environment(struct cv_uri *uri)
{
    static const char *const known[][2] = {
        {"CORALLITE_SERVER", "server"},         {"CORALLITE_CACHE_MB", "cache_mb"},
        {"CORALLITE_STALENESS", "staleness"},   {"CORALLITE_COMMIT_TIMEOUT", "commit_timeout"},
        {"CORALLITE_DURABILITY", "durability"}, {"CORALLITE_CREATE", "create"},
        {"CORALLITE_PAGE_SIZE", "page_size"},   {"CORALLITE_LAG_MB", "lag_mb"},
        {"CORALLITE_CACHE_DIR", "cache_dir"},   {"CORALLITE_CACHE_DIR_MB", "cache_dir_mb"},
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *value = getenv(known[i][0]);
        char sentence[CO_SENTENCE_MAX];

        if (!value || !*value)
            continue;
        if (cv_uri_param(uri, known[i][1], value)) {
            memcpy(sentence, co_sentence(), sizeof sentence);
            return co_fail(CO_ERR_INVAL, "%s in the environment: %.900s", known[i][0], sentence);
        }
    }
    return 0;
}

/* The server that this process's identities leave out: decided once, or one name could come to mean
 * two databases (S17). */
static char usual[CV_SERVER_MAX];

static void decide_usual(void)
{
    struct cv_uri uri;
    const char *value = getenv("CORALLITE_SERVER");

    cv_uri_init(&uri);
    if (value && *value && cv_uri_param(&uri, "server", value))
        cv_uri_init(&uri); /* told to whoever opens something */
    memcpy(usual, uri.server, sizeof usual);
}

static const char *usual_server(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, decide_usual);
    return usual;
}

int (*cv_conn_namer)(sqlite3_filename name, struct cv_uri *out);

/* sqlite3_uri_parameter() knows only the first of a name. */
static int check_twice(sqlite3_filename name, int i, const char *key)
{
    for (int k = 0; k < i; k++)
        if (cv_uri_is_ours(key) && strcmp(sqlite3_uri_key(name, k), key) == 0)
            return co_fail(CO_ERR_INVAL, "%.60s= is there twice in the URI: write it once", key);
    return 0;
}

int cv_conn_parameters(sqlite3_filename name, bool own, struct cv_uri *out)
{
    const char *key;
    int rc;

    cv_uri_init(out);
    out->usual_server = usual_server();
    rc = from_environment(out);
    out->server_said = out->create_said = false;
    for (int i = 0; !rc && (key = sqlite3_uri_key(name, i)); i++) {
        if (own && !cv_uri_knows(key))
            continue;
        rc = check_twice(name, i, key);
        if (!rc)
            rc = cv_uri_param(out, key, sqlite3_uri_parameter(name, key));
    }
    return rc ? rc : cv_uri_check(out);
}

/* SQLite hands the name over with its URI parameters behind it, in xFullPathname and in xOpen.
 * Where the program did not ask for our VFS (default.c), it may have parameters of its own. */
int cv_conn_uri(sqlite3_filename name, struct cv_uri *out)
{
    bool is_path = cv_uri_is_path(name);
    const char *vfs = is_path ? sqlite3_uri_parameter(name, "vfs") : CV_VFS_NAME;
    bool own = cv_conn_namer || !vfs || strcmp(vfs, CV_VFS_NAME) != 0;
    int rc = cv_conn_parameters(name, own, out);

    if (!rc && cv_conn_namer)
        return cv_conn_namer(name, out);
    if (!rc)
        rc = is_path ? cv_uri_from_path(out, name) : cv_uri_name(out, name);
    return rc;
}

/* -- the open ones -------------------------------------------------------------------------------
 */

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cv_conn *first_open;

/* A child has the list as it was, and the lock free. */
static void lock_open(void)
{
    pthread_mutex_lock(&open_lock);
}

static void unlock_open(void)
{
    pthread_mutex_unlock(&open_lock);
}

static void watch_forks(void)
{
    pthread_atfork(lock_open, unlock_open, unlock_open);
}

static void enter(struct cv_conn *c)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, watch_forks);
    lock_open();
    c->next = first_open;
    first_open = c;
    unlock_open();
}

static void leave(struct cv_conn *c)
{
    struct cv_conn **at;

    lock_open();
    for (at = &first_open; *at != c; at = &(*at)->next)
        ;
    *at = c->next;
    unlock_open();
}

struct cv_conn *cv_conn_of_name(const char *name)
{
    struct cv_conn *c;

    lock_open();
    for (c = first_open; c && c->name != name; c = c->next)
        ;
    unlock_open();
    return c;
}

struct cv_conn *cv_conn_of_wal(const char *wal)
{
    struct cv_conn *c;

    lock_open();
    for (c = first_open; c && sqlite3_filename_wal(c->name) != wal; c = c->next)
        ;
    unlock_open();
    return c;
}

/* -- life ----------------------------------------------------------------------------------------
 */

static int open_code(int rc)
{
    return rc == CO_ERR_NOMEM ? SQLITE_NOMEM : SQLITE_CANTOPEN;
}

/* immutable=1: one state for as long as the handle lives (M12). */
static int fix(struct cv_conn *c)
{
    struct cv_pin_request request = {.timeout_ms = CO_READ_TIMEOUT_MS};
    bool speculative;
    int rc = cv_database_pin(c->db, &c->handle, &request, &speculative);

    c->fixed = rc == 0;
    return rc;
}

/* The name that xFullPathname made has the LSN. */
static int go_to_moment(struct cv_conn *c)
{
    char text[WHEN_AT_MAX], lsn[LSN_TEXT];

    snprintf(text, sizeof text, "lsn:%s", lsn_format(c->uri.moment, lsn));
    return cv_moment_enter(c, text);
}

static bool is_sealed(struct cv_database *db)
{
    bool sealed;

    pthread_mutex_lock(&db->lock);
    sealed = db->born && db->timeline.sealed;
    pthread_mutex_unlock(&db->lock);
    return sealed;
}

int cv_conn_open(sqlite3_filename name, int flags, struct cv_conn **out)
{
    struct cv_conn *c = calloc(1, sizeof *c);
    bool may_create;
    int rc;

    if (!c)
        return SQLITE_NOMEM;
    c->name = name;
    c->generation = cv_generation();
    c->level = 2;
    cv_walbuf_init(&c->wal);
    rc = cv_conn_uri(name, &c->uri);
    if (rc)
        goto failed;
    c->readonly = !(flags & SQLITE_OPEN_READWRITE) || c->uri.immutable || c->uri.has_moment;
    may_create =
        (flags & SQLITE_OPEN_CREATE) && c->uri.create && !c->uri.immutable && !c->uri.has_moment;
    rc = cv_database_open(&c->uri, may_create, &c->handle, &c->db);
    if (rc)
        goto failed;
    c->readonly = c->readonly || is_sealed(c->db);
    if (c->uri.has_moment)
        rc = go_to_moment(c);
    else if (is_sealed(c->db))
        rc = cv_moment_enter(c, "latest"); /* it has no other; the safekeepers need not be asked */
    else if (c->uri.immutable)
        rc = fix(c);
    if (rc) {
        cv_database_close(c->db, &c->handle, 0);
        goto failed;
    }
    enter(c);
    *out = c;
    return SQLITE_OK;
failed:
    free(c);
    return cv_report_sentence(open_code(rc));
}

bool cv_conn_forked(const struct cv_conn *c)
{
    return c->generation != cv_generation();
}

/* The state of an immutable=1 handle, by its LSN. */
static int fix_again(struct cv_conn *c, lsn_t lsn)
{
    char text[WHEN_AT_MAX], digits[LSN_TEXT];
    int rc;

    snprintf(text, sizeof text, "lsn:%s", lsn_format(lsn, digits));
    rc = cv_moment_enter(c, text);
    return rc ? rc : cv_database_pin_at(c->db, &c->handle, &c->moment, CO_READ_TIMEOUT_MS);
}

/* The parent's object stays as it was at the fork: its locks may be held by nobody. */
static int attach_again(struct cv_conn *c)
{
    lsn_t fixed_lsn = c->handle.pin.lsn;
    int rc;

    memset(&c->handle, 0, sizeof c->handle);
    cv_commit_discard(&c->commit);
    c->header_valid = c->decided = c->slot0 = c->speculative = c->has_wait = false;
    c->db = NULL;
    rc = cv_database_open(&c->uri, c->uri.create && !c->readonly, &c->handle, &c->db);
    if (rc)
        return cv_report_sentence(SQLITE_IOERR);
    /* The name may mean another timeline by now. */
    if ((c->at && cv_moment_check(c, &c->moment)) || (c->fixed && fix_again(c, fixed_lsn))) {
        cv_database_close(c->db, &c->handle, 0);
        c->db = NULL;
        return cv_report_sentence(SQLITE_IOERR);
    }
    c->generation = cv_generation();
    return SQLITE_OK;
}

int cv_conn_usable(struct cv_conn *c)
{
    if (!cv_conn_forked(c))
        return SQLITE_OK;
    if (c->reading || c->slot0)
        return cv_report(SQLITE_IOERR,
                         "%s: this process is a fork of the one that began the transaction; only "
                         "the parent can go on with it",
                         c->uri.db);
    return attach_again(c);
}

void cv_conn_close(struct cv_conn *c)
{
    leave(c);
    cv_bulk_free(c);
    if (!cv_conn_forked(c) && c->db) {
        if (c->slot0)
            cv_turn_give_back(c->db, &c->handle);
        cv_database_unpin(c->db, &c->handle);
        /* M10: what returned with NORMAL or OFF is not left to its fate. */
        cv_era_hurry(c->db);
        if (c->unsettled.end_lsn &&
            cv_era_wait(c->db, &c->unsettled, false, c->uri.commit_timeout_ms))
            cv_report(SQLITE_IOERR,
                      "%s: closed while commit %s was not known to be durable; ask for it with "
                      "corallite_commit_status('%s')",
                      c->uri.db, c->last_id, c->last_id);
        cv_database_close(c->db, &c->handle, c->uri.commit_timeout_ms);
    }
    cv_commit_free(&c->commit);
    cv_walbuf_free(&c->wal);
    cv_shm_free(&c->shm);
    cv_ahead_free(&c->ahead);
    free(c);
}

/* -- asking SQLite
 * --------------------------------------------------------------------------------- */

static const char *schema_of(sqlite3 *db, sqlite3_filename filename)
{
    const char *name;

    for (int i = 0; (name = sqlite3_db_name(db, i)); i++)
        if (i != 1 && sqlite3_db_filename(db, name) == filename)
            return name;
    return NULL;
}

bool cv_conn_in_transaction(struct cv_conn *c)
{
    const char *name = c->owner && *c->owner ? schema_of(*c->owner, c->name) : NULL;

    return name && sqlite3_txn_state(*c->owner, name) != SQLITE_TXN_NONE;
}

bool cv_conn_is_writing(struct cv_conn *c)
{
    sqlite3_stmt *s;
    int n = 0;

    if (!c->owner || !*c->owner || sqlite3_db_name(*c->owner, 2) || cv_conn_in_transaction(c))
        return false;
    for (s = sqlite3_next_stmt(*c->owner, NULL); s && n < STATEMENTS_LOOKED_AT; n++) {
        if (sqlite3_stmt_busy(s) && !sqlite3_stmt_readonly(s))
            return true;
        s = sqlite3_next_stmt(*c->owner, s);
    }
    return false;
}

int cv_conn_writing_schemas(struct cv_conn *c)
{
    const char *name;
    int n = 0;

    if (!c->owner || !*c->owner)
        return 1;
    for (int i = 0; (name = sqlite3_db_name(*c->owner, i)); i++)
        if (i != 1 && sqlite3_txn_state(*c->owner, name) == SQLITE_TXN_WRITE)
            n++;
    return n;
}
