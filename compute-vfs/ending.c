/* ending.c - how a write transaction ends: commit frame, unlock of slot 0, COMMIT_PHASETWO. */
#include <string.h>

#include "common/assert.h"
#include "compute-vfs/errors.h"
#include "compute-vfs/trace.h"
#include "compute-vfs/vfs.h"

#define STATUS_MS 5000u /* for the question what became of a commit */

/* -- levels --------------------------------------------------------------------------------------
 */

/* What COMMIT waits for. SQLite tells FULL by an xSync after the commit frame; OFF only by the
 * PRAGMA, seen on its way. */
static enum cv_durability level(const struct cv_conn *c, bool synced)
{
    if (c->uri.durability != CV_AS_SYNCHRONOUS)
        return c->uri.durability;
    if (synced)
        return CV_FULL;
    return c->level == 0 ? CV_OFF : CV_NORMAL;
}

/* The same before SQLite can have told. */
static enum cv_durability expected_level(const struct cv_conn *c)
{
    return level(c, c->level >= 2);
}

/* -- outcomes ------------------------------------------------------------------------------------
 */

static int tell_lost(struct cv_conn *c)
{
    c->header_valid = false;
    if (!c->wrote)
        return cv_report(SQLITE_IOERR_WRITE,
                         "%s: what this transaction read was lost with the term of its writer; "
                         "roll back and begin again",
                         c->uri.db);
    if (c->db->log->ops->sealed(c->db->log))
        return cv_report(
            SQLITE_IOERR_WRITE,
            "%s/%s: branch was reset, reopen: the transaction (commit %s) is not in the "
            "database, neither as it is now nor as it was before",
            c->uri.db, c->uri.branch, c->last_id);
    return cv_report(
        SQLITE_IOERR_WRITE,
        "%s: the transaction (commit %s) is not in the database: another writer's term "
        "began, or the database was dropped, before a majority of safekeepers had it. It is safe "
        "to run it again",
        c->uri.db, c->last_id);
}

static int tell_unknown(struct cv_conn *c)
{
    c->header_valid = false;
    if (!c->wrote)
        return cv_report(
            SQLITE_IOERR_FSYNC,
            "%s: it is not known whether what this transaction read is in the database", c->uri.db);
    char missing[CV_MISSING_MAX];

    (void)c->db->log->ops->no_quorum_ms(c->db->log, sizeof missing, missing);
    return cv_report(
        SQLITE_IOERR_FSYNC,
        "%s: outcome unknown: no majority of safekeepers answered for %u ms; missing: %s. "
        "Whether the transaction is in the database is told by SELECT "
        "corallite_commit_status('%s')",
        c->uri.db, c->uri.commit_timeout_ms, missing[0] != 0 ? missing : "none now", c->last_id);
}

static int wait_for(struct cv_conn *c, const struct cv_ticket *t, enum cv_durability d)
{
    int rc;

    if (d == CV_OFF) {
        cv_era_returns(c->db, t);
        return SQLITE_OK;
    }
    cv_trace(CV_TRACE_WAITING);
    rc = cv_era_wait(c->db, t, d == CV_NORMAL, c->uri.commit_timeout_ms);
    cv_trace(CV_TRACE_RETURNED);
    if (rc || d == CV_FULL)
        c->unsettled.end_lsn = LSN_NONE;
    if (rc == CO_ERR_LOST)
        return tell_lost(c);
    if (rc)
        return tell_unknown(c);
    return SQLITE_OK;
}

/* -- publishing ----------------------------------------------------------------------------------
 */

/* `wait` is what COMMIT will wait for. */
static int publish(struct cv_conn *c, enum cv_durability wait)
{
    uint32_t db_pages = c->commit.db_pages;
    struct cv_ticket ticket;
    int rc;

    c->commit.want_received = wait == CV_NORMAL;
    rc = cv_commit_publish(c->db, &c->handle, &c->commit, &ticket);
    if (rc)
        return rc;
    c->wrote = true;
    c->wait = c->unsettled = ticket;
    lsn_commit_id_format(ticket.term, ticket.begin_lsn, c->last_id);
    c->header = (struct cv_snapshot){ticket.end_lsn, db_pages, ticket.epoch};
    c->header_valid = c->header_own = true;
    return 0;
}

/* Other files take part: SQLite may ignore what COMMIT_PHASETWO says, so the quorum has its say
 * before SQLite goes on (M4). */
static int commit_now(struct cv_conn *c)
{
    uint32_t frame = c->commit.frame;
    int rc = publish(c, expected_level(c));

    if (rc) {
        c->header_valid = false;
        return cv_report_sentence(SQLITE_IOERR_WRITE);
    }
    cv_commit_ship(c->db);
    c->shipped_frame = frame;
    c->has_wait = false;
    return wait_for(c, &c->wait, expected_level(c));
}

static int refuse_code(int rc)
{
    switch (rc) {
    case CO_ERR_FULL:
    case CO_ERR_TOO_LARGE:
        return SQLITE_FULL;
    case CO_ERR_NOMEM:
        return SQLITE_IOERR_NOMEM;
    default:
        return SQLITE_IOERR_WRITE;
    }
}

int cv_ending_commit_frame(struct cv_conn *c, uint32_t frame, uint32_t db_pages)
{
    struct cv_commit_input in = {
        .wal = &c->wal,
        .first_frame = cv_shm_max_frame(&c->shm) + 1,
        .last_frame = frame,
        .page_size = c->wal_page_size,
        .db_pages = db_pages,
        .timeout_ms = c->uri.commit_timeout_ms,
        .schema_mark = c->schema_mark,
    };
    bool again = c->commit.frame != 0; /* repeated as padding: the sync may have come before it */
    int rc;

    if (c->shipped_frame) { /* the same, after the quorum had its say */
        c->shipped_frame = frame;
        return SQLITE_OK;
    }
    rc = cv_commit_build(c->db, &c->handle, &c->commit, &in);
    if (!again)
        c->synced = false;
    if (rc == CO_ERR_AGAIN)
        return cv_report(SQLITE_BUSY_SNAPSHOT,
                         "%s: another writer took over while this transaction was open; it is not "
                         "committed. Begin again",
                         c->uri.db);
    if (rc)
        return cv_report_sentence(refuse_code(rc));
    return cv_conn_writing_schemas(c) > 1 ? commit_now(c) : SQLITE_OK;
}

void cv_ending_unlock(struct cv_conn *c)
{
    /* M3: only now is it sure that SQLite committed. */
    bool committed = c->commit.frame && cv_shm_max_frame(&c->shm) == c->commit.frame;

    bool large = cv_commit_is_large(&c->commit);

    if (committed && publish(c, level(c, c->synced))) {
        c->lost_code = cv_report_sentence(SQLITE_IOERR_WRITE);
        c->header_valid = false;
    } else if (committed && large) {
        /* Nobody can read its pages before the pageserver has them, so nobody writes on them: later
         * writers queue behind. What became of it COMMIT_PHASETWO asks again, and is told at once.
         */
        cv_commit_ship(c->db);
        (void)!cv_era_wait(c->db, &c->wait, false, c->uri.commit_timeout_ms);
    }
    /* It committed something else than what was built: whatever the reason, not in silence. */
    if (!committed && !c->shipped_frame && cv_shm_max_frame(&c->shm) != 0 &&
        cv_shm_max_frame(&c->shm) != c->granted_frame) {
        c->lost_code = cv_report(SQLITE_IOERR_WRITE,
                                 "%s: SQLite ended a transaction at frame %u, and no record was "
                                 "made of it; it is not in the database",
                                 c->uri.db, cv_shm_max_frame(&c->shm));
        c->header_valid = false;
    }
    /* The record is out and SQLite failed after all: it is to see what is there. */
    if (c->shipped_frame && cv_shm_max_frame(&c->shm) != c->shipped_frame)
        c->header_valid = false;
    c->shipped_frame = 0;
    cv_commit_discard(&c->commit);
    cv_shm_all_backfilled(&c->shm);
    /* Whoever waits for the turn in this process is woken first, and runs while the record is sent.
     * Where nobody does, or other processes ask for the lease, it is sent at once: a term that is
     * lost meanwhile takes with it what the log has not got. */
    if (committed && !cv_turn_is_wanted(c->db))
        cv_commit_ship(c->db);
    cv_turn_give_back(c->db, &c->handle);
    if (committed)
        cv_commit_ship(c->db);
}

int cv_ending_wait(struct cv_conn *c)
{
    int rc;

    if (c->lost_code) {
        rc = c->lost_code;
        c->lost_code = 0;
        c->has_wait = false;
        return rc;
    }
    if (!c->has_wait)
        return SQLITE_OK;
    c->has_wait = false;
    rc = wait_for(c, &c->wait, c->wrote ? level(c, c->synced) : expected_level(c));
    if (rc == SQLITE_OK && c->wrote)
        cv_pacer_commit(c->db, &c->wait);
    return rc;
}

static struct cv_log *log_of(struct cv_database *db)
{
    pthread_mutex_lock(&db->lock);
    struct cv_log *log = db->log;
    pthread_mutex_unlock(&db->lock);
    return log;
}

/* Somebody else may have made the database since it was opened here. */
static int find_log(struct cv_database *db, struct cv_log **out)
{
    int rc = 0;

    *out = log_of(db);
    if (!*out)
        rc = cv_database_look_again(db, STATUS_MS);
    if (!*out && !rc)
        *out = log_of(db);
    if (!*out && !rc)
        rc = co_fail(CO_ERR_NOT_FOUND, "%s has no commits yet", db->uri.db);
    return rc;
}

int cv_ending_status(struct cv_conn *c, const char *id, const char **out)
{
    static const char *const words[] = {[CV_UNKNOWN] = "unknown",
                                        [CV_COMMITTED] = "committed",
                                        [CV_NOT_COMMITTED] = "not committed"};
    enum cv_verdict verdict = CV_UNKNOWN;
    term_t term;
    lsn_t begin;
    struct cv_log *log = NULL;
    int rc = lsn_commit_id_parse(id, &term, &begin);

    if (!rc)
        rc = find_log(c->db, &log);
    if (!rc)
        cv_database_seek_safekeepers(c->db);
    if (!rc)
        rc = log->ops->status(log, term, begin, STATUS_MS, &verdict);
    if (rc == CO_ERR_TIMEOUT || rc == CO_ERR_NO_QUORUM)
        rc = 0;
    *out = words[verdict];
    return rc;
}
