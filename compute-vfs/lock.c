/* lock.c - SQLite's wal-index locks: where snapshots are decided and turns are taken. */
#include <string.h>

#include "common/clock_file.h"
#include "common/mutation.h"
#include "common/thread_memory.h"
#include "compute-vfs/errors.h"
#include "compute-vfs/vfs.h"

#define WRITE_LOCK      0
#define CHECKPOINT_LOCK 1
#define FIRST_READ_SLOT 3

/* -- waking the refused --------------------------------------------------------------------------
 */

/* The connection that a thread was just refused on; xSleep is not told. */
struct refusal {
    uint64_t database, handle;
};
static struct co_thread_memory refusals;

__attribute__((constructor)) static void make_refusals(void)
{
    co_thread_memory_make(&refusals, sizeof(struct refusal));
}

/* Without memory nothing is remembered: the thread then sleeps for as long as SQLite says. */
static void remember_refusal(const struct cv_conn *c)
{
    struct refusal *here = co_thread_memory(&refusals);

    if (here)
        *here = (struct refusal){c->db->serial, c->handle.id};
}

static void forget_refusal(void)
{
    struct refusal *here = co_thread_memory(&refusals);

    if (here)
        *here = (struct refusal){0, 0};
}

bool cv_lock_sleep(int us)
{
    const struct refusal *here = co_thread_memory(&refusals);
    struct cv_database *db;
    bool slept;

    if (!here || here->database == 0 || us <= 0)
        return false;
    db = cv_database_find(here->database);
    if (!db)
        return false;
    slept = cv_turn_sleep(db, here->handle, (uint64_t)us);
    cv_database_unref(db);
    return slept;
}

/* -- read slots ----------------------------------------------------------------------------------
 */

static bool stands_for(const struct cv_conn *c, const struct cv_snapshot *s)
{
    if (!c->header_valid)
        return s->lsn == LSN_NONE && cv_shm_max_frame(&c->shm) == 0 && c->header.lsn == LSN_NONE;
    return (c->header.epoch == s->epoch || co_mutated(EPOCH_IS_LSN)) && c->header.lsn == s->lsn;
}

/* Makes SQLite notice that it is to see something else (V4). */
static void rewrite(struct cv_conn *c, const struct cv_snapshot *s)
{
    uint32_t page_size;

    pthread_mutex_lock(&c->db->lock);
    page_size = c->db->page_size;
    pthread_mutex_unlock(&c->db->lock);
    cv_shm_rewrite(&c->shm, s->db_pages, page_size);
    cv_walbuf_truncate(&c->wal, 0);
    c->header_own = false;
    c->decided = true;
}

/* SQLite has read from a state that may be lost, its schema too, and knows that by its number, the
 * schema cookie. Somebody else's change may have given another schema the same number since: so it
 * is shown another one, and reads the schema anew. Of an empty database SQLite reads no page 1 but
 * makes one. */
static void mark_schema(struct cv_conn *c)
{
    bool lost = !c->header_valid || c->header.epoch != c->handle.pin.epoch;

    if (c->handle.pin.db_pages == 0)
        c->schema_mark = 0;
    else if (lost && c->header.lsn != LSN_NONE)
        c->schema_mark++;
}

static void forgo(struct cv_conn *c)
{
    if (c->expected)
        cv_turn_forgo(c->db, &c->handle);
    c->expected = false;
}

static int decide(struct cv_conn *c)
{
    struct cv_pin_request request = {
        .want_tip = c->want_tip_until_us > co_now_us(),
        .staleness_ms = c->uri.staleness_ms,
        .timeout_ms = CO_READ_TIMEOUT_MS,
    };
    int rc;

    if (!request.want_tip && !c->at && !c->readonly && cv_conn_is_writing(c))
        request.want_tip = c->expected = cv_turn_expect(c->db, &c->handle);
    if (c->header_valid && c->header_own) {
        request.own_lsn = c->header.lsn;
        request.own_db_pages = c->header.db_pages;
        request.own_epoch = c->header.epoch;
    }
    c->want_tip_until_us = 0;
    if (c->at)
        rc = cv_database_pin_at(c->db, &c->handle, &c->moment, request.timeout_ms);
    else
        rc = cv_database_pin(c->db, &c->handle, &request, &c->speculative);
    if (rc) {
        forgo(c);
        return cv_report_sentence(SQLITE_IOERR);
    }
    mark_schema(c);
    if (!stands_for(c, &c->handle.pin))
        rewrite(c, &c->handle.pin);
    c->header = c->handle.pin;
    c->header_valid = true;
    return SQLITE_OK;
}

/* The first slot decides the snapshot. SQLite holds one at a time; others may ask for more. */
static int lock_read(struct cv_conn *c, int offset)
{
    bool decided = c->decided;

    if ((c->slot0 && !co_mutated(PIN_LOST)) || c->reading) { /* V1 */
        c->slots |= (uint8_t)(1u << offset);
        return SQLITE_OK;
    }
    c->decided = false;
    c->refused = false;
    if (!decided || cv_database_repin(c->db, &c->handle, &c->header)) {
        int rc = decide(c);

        if (rc)
            return rc;
    }
    c->slots = (uint8_t)(1u << offset);
    c->reading = true;
    return SQLITE_OK;
}

int cv_lock_settle(struct cv_conn *c)
{
    struct cv_ticket ticket = {.epoch = c->handle.pin.epoch, .end_lsn = c->handle.pin.lsn};
    int rc;

    if (!c->speculative || co_mutated(TIP_NOT_SETTLED))
        return SQLITE_OK;
    pthread_mutex_lock(&c->db->lock);
    ticket.term = c->db->term;
    pthread_mutex_unlock(&c->db->lock);
    cv_era_hurry(c->db);
    rc = cv_era_wait(c->db, &ticket, false, c->uri.commit_timeout_ms);
    c->speculative = false;
    if (rc)
        return cv_report(
            SQLITE_IOERR,
            "%s: the newest commits, which this transaction was to build on, were lost "
            "or did not reach a majority of safekeepers within %u ms",
            c->uri.db, c->uri.commit_timeout_ms);
    return SQLITE_OK;
}

static void end_reading(struct cv_conn *c)
{
    c->reading = false;
    if (cv_conn_forked(c))
        return;
    /* After a rewrite SQLite comes back at once; after a refusal it has shown nothing to anybody.
     */
    if (!c->decided && !c->refused)
        (void)cv_lock_settle(c);
    if (!c->decided) {
        c->speculative = false;
        forgo(c);
    }
    cv_database_unpin(c->db, &c->handle);
    if (c->wal.len > CV_WALBUF_MEMORY / 16)
        cv_walbuf_free(&c->wal);
}

static void unlock_read(struct cv_conn *c, int offset)
{
    c->slots &= (uint8_t) ~(1u << offset);
    if (c->reading && (!c->slot0 || co_mutated(PIN_LOST)) && !c->slots) /* V1 */
        end_reading(c);
}

/* -- slot 0 --------------------------------------------------------------------------------------
 */

static int refuse(struct cv_conn *c, bool outside, int code)
{
    c->refused = true;
    if (outside) {
        c->want_tip_until_us = co_now_us() + CV_WANT_TIP_US;
        remember_refusal(c);
    }
    return code;
}

static int turn_code(int rc)
{
    switch (rc) {
    case CO_ERR_BUSY:
    case CO_ERR_TIMEOUT:
    case CO_ERR_NO_QUORUM:
    case CO_ERR_CANCELED:
        return SQLITE_BUSY;
    case CO_ERR_NOMEM:
        return SQLITE_NOMEM;
    default:
        return SQLITE_IOERR_LOCK;
    }
}

static int tell_refused(const struct cv_conn *c, int rc)
{
    /* S14: a restore gave the name to another timeline and kept this one. */
    if (rc == CO_ERR_READONLY)
        return cv_report(
            SQLITE_READONLY,
            "%s/%s: branch was reset, reopen: this connection still has what was there "
            "before, which is kept under another name and can only be read",
            c->uri.db, c->uri.branch);
    return cv_report_sentence(turn_code(rc));
}

static int ensure_born(struct cv_conn *c)
{
    bool born;

    pthread_mutex_lock(&c->db->lock);
    born = c->db->born;
    pthread_mutex_unlock(&c->db->lock);
    return born ? 0 : cv_database_create(c->db, CO_READ_TIMEOUT_MS);
}

static void begin_writing(struct cv_conn *c)
{
    c->slot0 = true;
    c->granted_frame = cv_shm_max_frame(&c->shm);
    c->speculative = false;
    c->synced = c->wrote = false;
    c->lost_code = 0;
    /* S22, M7: COMMIT waits at least for what it has built on. */
    c->has_wait = true;
    pthread_mutex_lock(&c->db->lock);
    c->wait = (struct cv_ticket){
        .epoch = c->handle.pin.epoch, .term = c->db->term, .end_lsn = c->handle.snapshot_lsn};
    pthread_mutex_unlock(&c->db->lock);
}

static int lock_write(struct cv_conn *c)
{
    enum cv_turn turn;
    bool outside;
    int rc;

    if (c->checkpointing) { /* M5: nothing to checkpoint, nobody to keep out */
        c->slot0_local = true;
        return SQLITE_OK;
    }
    if (c->readonly)
        return SQLITE_READONLY;
    if (!c->reading)
        return cv_report(SQLITE_IOERR_LOCK, "%s: a write without a snapshot", c->uri.db);
    rc = ensure_born(c);
    if (rc)
        return cv_report_sentence(turn_code(rc));
    outside = !cv_conn_in_transaction(c);
    c->expected = false;
    rc = cv_turn_take(c->db, &c->handle, outside, &turn);
    if (rc)
        return refuse(c, false, tell_refused(c, rc));
    if (turn == CV_TURN_BUSY)
        return refuse(c, outside, SQLITE_BUSY);
    if (turn == CV_TURN_STALE)
        return refuse(c, outside, SQLITE_BUSY_SNAPSHOT);
    begin_writing(c);
    return SQLITE_OK;
}

static void unlock_write(struct cv_conn *c)
{
    if (c->slot0_local) {
        c->slot0_local = false;
    } else if (c->slot0) {
        if (!cv_conn_forked(c))
            cv_ending_unlock(c);
        c->slot0 = false;
        if (c->reading && !c->slots) /* it was let go of meanwhile, and not taken again */
            end_reading(c);
    }
}

/* ------------------------------------------------------------------------------------------------
 */

static void unlock(struct cv_conn *c, int offset, int flags)
{
    if (offset >= FIRST_READ_SLOT && (flags & SQLITE_SHM_SHARED))
        unlock_read(c, offset);
    else if (offset == WRITE_LOCK && (flags & SQLITE_SHM_EXCLUSIVE))
        unlock_write(c);
    else if (offset == CHECKPOINT_LOCK)
        c->checkpointing = false;
}

int cv_lock(struct cv_conn *c, int offset, int n, int flags)
{
    int rc;

    (void)n;
    if (flags & SQLITE_SHM_UNLOCK) {
        unlock(c, offset, flags);
        return SQLITE_OK;
    }
    rc = cv_conn_usable(c);
    if (rc) {
        /* V1 kept the read slot while SQLite changed it under slot 0; it will not be given back. */
        if (offset >= FIRST_READ_SLOT && c->slot0)
            c->reading = false;
        return rc;
    }
    forget_refusal();
    if (offset >= FIRST_READ_SLOT && (flags & SQLITE_SHM_SHARED))
        return lock_read(c, offset);
    if (offset == WRITE_LOCK && (flags & SQLITE_SHM_EXCLUSIVE))
        return lock_write(c);
    if (offset == CHECKPOINT_LOCK && (flags & SQLITE_SHM_EXCLUSIVE))
        c->checkpointing = true;
    return SQLITE_OK; /* nobody else sees the private wal-index */
}
