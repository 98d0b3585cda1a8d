/*
 * turn.c - the writer's turn (slot 0 of SQLite's wal-index locks) and the lease that it needs.
 *
 * In what order the connections of this process get the turn: queue.c. Between processes the same
 * holds, in other ways (M9). A lease that is held idle, or in use for a short transaction, is
 * waited for in the call. Of a longer one its holder's keeper tells those who wait, and their
 * applications hear BUSY: how long to try is their busy handlers' business.
 */
#include <signal.h>
#include <string.h>
#include <time.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/mutation.h"
#include "compute-vfs/queue.h"

#define QUIET_US 3000u /* no write for so long: an idle holder */

static int keeper_start(struct cv_database *db);

/* -- the lease -----------------------------------------------------------------------------------
 */

static int at_tip(const struct cv_database *db, const struct cv_handle *h)
{
    bool there = h->snapshot_lsn == db->tip.txn || co_mutated(STALE_WRITE);

    return !h->dead && h->pin.epoch == db->epoch && there ? 0 : CO_ERR_AGAIN;
}

/* Waits until nobody else is electing or releasing. Lock held. */
static int take_role(struct cv_database *db)
{
    uint64_t until = co_now_us() + CV_LEAD_TIMEOUT_MS * 1000ull;

    while (db->role_busy)
        if (!cv_wait_until(db, until))
            return co_fail(CO_ERR_TIMEOUT, "%s: the right to write is being changed for too long",
                           db->uri.db);
    db->role_busy = true;
    return 0;
}

static int begin_leading(struct cv_database *db, const struct cv_lead *lead)
{
    if (lead->term <= db->lost_term)
        return co_fail(CO_ERR_BUSY, "%s: another writer took the right to write at once",
                       db->uri.db);
    if (db->tip.pos > db->known.pos) /* an earlier term of which no more was heard */
        cv_era_end(db, false);
    if (db->known.pos != lead->tip_lsn) /* somebody has committed since: deposed already */
        return co_fail(CO_ERR_BUSY, "%s: another writer took the right to write at once",
                       db->uri.db);
    db->leading = true;
    db->term = lead->term;
    db->digest = lead->digest;
    db->received_lsn = LSN_NONE;
    if (lead->time_us > db->time_us)
        db->time_us = lead->time_us;
    db->led_at_us = db->active_at_us = co_now_us();
    return 0;
}

/* How long to try for the lease: M9 for the first, M6 for who has just been refused. */
static uint32_t patience_ms(struct cv_database *db)
{
    bool again;

    pthread_mutex_lock(&db->lock);
    again = db->not_led_at_us && co_now_us() - db->not_led_at_us < CV_LEAD_AGAIN_US;
    pthread_mutex_unlock(&db->lock);
    return again ? CV_LEAD_AGAIN_MS : CV_LEAD_TIMEOUT_MS;
}

static void note_try(struct cv_database *db, bool failed)
{
    pthread_mutex_lock(&db->lock);
    db->not_led_at_us = failed ? co_now_us() : 0;
    pthread_mutex_unlock(&db->lock);
}

static int become_leader(struct cv_database *db, bool (*in_vain)(void *db))
{
    struct cv_lead lead = {0};
    uint64_t began = co_now_us();

    cv_database_seek_safekeepers(db);
    int rc = db->log->ops->lead(db->log, patience_ms(db), in_vain, db, &lead);
    note_try(db, rc != 0);
    if (rc)
        return rc;
    rc = cv_database_close_gap(db, lead.tip_lsn, CO_READ_TIMEOUT_MS);
    pthread_mutex_lock(&db->lock);
    cv_waited(db, CV_FOR_LEASE, began);
    if (!rc)
        rc = begin_leading(db, &lead);
    pthread_mutex_unlock(&db->lock);
    if (rc)
        db->log->ops->release(db->log);
    return rc;
}

/* Something changed that the keeper's plan depends on. Lock held. */
static void tell_keeper(struct cv_database *db)
{
    if (db->others_wait || db->release_due || db->contested || db->stop)
        pthread_cond_signal(&db->keeper_wake);
}

static void role_is_free(struct cv_database *db)
{
    db->role_busy = false;
    pthread_cond_broadcast(&db->changed);
    tell_keeper(db);
}

/* Lock held, but not while it elects. */
static int lead(struct cv_database *db, struct cv_handle *h)
{
    int rc = keeper_start(db);

    if (!rc && db->leading && !db->role_busy)
        return at_tip(db, h);
    if (!rc)
        rc = take_role(db);
    if (!rc) {
        if (!db->leading) {
            pthread_mutex_unlock(&db->lock);
            rc = become_leader(db, NULL);
            pthread_mutex_lock(&db->lock);
        }
        role_is_free(db);
    }
    if (!rc)
        rc = at_tip(db, h);
    return rc;
}

int cv_turn_lead(struct cv_database *db, struct cv_handle *h)
{
    int rc;

    pthread_mutex_lock(&db->lock);
    rc = lead(db, h);
    pthread_mutex_unlock(&db->lock);
    return rc;
}

/* -- taking turns --------------------------------------------------------------------------------
 */

/* Waits for somebody's reservation to be used or to lapse. Lock held. */
static void wait_for_reservation(struct cv_database *db, struct cv_handle *h)
{
    while (db->reserved && db->reserved != h && !db->writer) {
        cv_wait_until(db, db->reserved_until_us);
        cv_queue_lapse(db);
    }
}

static void stale(struct cv_database *db, struct cv_handle *h, bool comes_again)
{
    if (comes_again && !db->writer && !db->reserved)
        cv_queue_reserve(db, h, co_now_us());
    else if (comes_again)
        cv_queue_add(db, h);
    pthread_cond_broadcast(&db->changed);
}

/* Whether somebody else has the turn, or has it reserved and is on his way. */
static bool is_taken(struct cv_database *db, struct cv_handle *h, bool comes_again)
{
    if (!comes_again)
        h->outside_us = 0;
    cv_queue_lapse(db);
    if (comes_again && h->patient && db->reserved && db->reserved != h)
        return true;
    wait_for_reservation(db, h);
    return db->writer != NULL;
}

static int take(struct cv_database *db, struct cv_handle *h, bool comes_again, enum cv_turn *out)
{
    int rc;

    co_assert(db->writer != h);
    *out = CV_TURN_BUSY;
    if (is_taken(db, h, comes_again)) {
        if (comes_again)
            cv_queue_add(db, h);
        return 0;
    }
    if (db->reserved == h)
        db->reserved = NULL;
    *out = CV_TURN_STALE;
    if (h->dead || (db->leading && at_tip(db, h))) {
        stale(db, h, comes_again);
        return 0;
    }
    db->writer = h;
    db->writer_since_us = co_now_us();
    h->has_turn = true;
    cv_queue_remove(db, h);
    pthread_cond_broadcast(&db->changed);
    rc = lead(db, h);
    if (!rc) {
        h->outside_us = 0;
        *out = CV_TURN_GRANTED;
        return 0;
    }
    db->writer = NULL;
    h->has_turn = false;
    if (rc == CO_ERR_AGAIN) {
        stale(db, h, comes_again);
        return 0;
    }
    if (rc == CO_ERR_LOCKED) {
        /* Nobody here can have it: whoever sleeps is not woken, or his time would run too fast. */
        pthread_cond_broadcast(&db->changed);
        if (comes_again && !h->outside_us)
            h->outside_us = co_now_us();
        *out = CV_TURN_BUSY;
        return 0;
    }
    cv_queue_next(db);
    return rc;
}

int cv_turn_take(struct cv_database *db, struct cv_handle *h, bool comes_again, enum cv_turn *out)
{
    int rc;

    cv_pacer_gate(db);
    pthread_mutex_lock(&db->lock);
    rc = take(db, h, comes_again, out);
    if (comes_again) {
        h->refused = rc || *out != CV_TURN_GRANTED;
        h->patient = h->patient && !h->refused; /* until it sleeps */
    }
    pthread_mutex_unlock(&db->lock);
    return rc;
}

/* Nobody writes in this term any more; the keeper tells the log. Lock held. */
static void begin_release(struct cv_database *db)
{
    db->role_busy = true;
    db->leading = false;
    db->others_wait = false;
    db->release_due = true;
    tell_keeper(db);
}

bool cv_turn_is_wanted(struct cv_database *db)
{
    bool wanted;

    pthread_mutex_lock(&db->lock);
    wanted = db->queue_first && !db->others_wait;
    pthread_mutex_unlock(&db->lock);
    return wanted;
}

void cv_turn_give_back(struct cv_database *db, struct cv_handle *h)
{
    pthread_mutex_lock(&db->lock);
    co_assert(db->writer == h && h->has_turn);
    db->writer = NULL;
    h->has_turn = false;
    db->active_at_us = co_now_us();
    /* A busy holder lets others have it after its time: the next local writer asks for it anew. */
    if (db->others_wait && db->leading && !db->role_busy &&
        db->active_at_us - db->led_at_us >= CO_LEASE_HOLD_US)
        begin_release(db);
    cv_queue_next(db);
    tell_keeper(db);
    pthread_mutex_unlock(&db->lock);
}

/* -- the keeper ----------------------------------------------------------------------------------
 */

/* When the lease is to be given up, 0: not yet known. Lock held. */
static uint64_t release_at(const struct cv_database *db)
{
    uint64_t held, quiet;

    if (!db->others_wait || !db->leading || db->role_busy || db->writer)
        return 0;
    held = db->led_at_us + CO_LEASE_HOLD_US;
    quiet = db->reserved || db->queue_first ? UINT64_MAX : db->active_at_us + QUIET_US;
    return quiet < held ? quiet : held;
}

/* When those who wait are to hear that a transaction is open, 0: not yet. Lock held. */
static uint64_t tell_writing_at(const struct cv_database *db)
{
    uint64_t at = db->writer_since_us > db->led_at_us ? db->writer_since_us : db->led_at_us;

    if (!db->others_wait || !db->leading || db->role_busy || !db->writer)
        return 0;
    return (db->told_writing_us > at ? db->told_writing_us : at) + CV_TELL_WRITING_US;
}

static void tell_writing(struct cv_database *db)
{
    db->told_writing_us = co_now_us();
    pthread_mutex_unlock(&db->lock);
    db->log->ops->writing(db->log);
    pthread_mutex_lock(&db->lock);
}

static void release(struct cv_database *db)
{
    pthread_mutex_unlock(&db->lock);
    db->log->ops->release(db->log);
    pthread_mutex_lock(&db->lock);
    db->release_due = false;
    role_is_free(db);
}

/* No transaction that can still be committed is open, or the keeper is to end. */
static bool nobody_writes(void *arg)
{
    struct cv_database *db = arg;
    bool nobody;

    pthread_mutex_lock(&db->lock);
    nobody = db->stop || !db->writer || db->writer->dead;
    pthread_mutex_unlock(&db->lock);
    return nobody;
}

/* R6: a higher term was seen, perhaps at a minority only. For a transaction that is open the lease
 * is taken again before anybody else can write; else it goes back. Lock held. */
static void contest(struct cv_database *db)
{
    int rc = CO_ERR_LOST;

    db->contested = false;
    if (db->leading || db->role_busy)
        return;
    db->role_busy = true;
    if (db->writer && !db->writer->dead) {
        pthread_mutex_unlock(&db->lock);
        rc = become_leader(db, nobody_writes);
        pthread_mutex_lock(&db->lock);
    }
    if (!rc && db->writer && at_tip(db, db->writer) == 0) {
        role_is_free(db);
        return;
    }
    if (!rc)
        db->leading = false; /* somebody has written: the lease is of no use to it */
    release(db);
}

static void *keep(void *arg)
{
    struct cv_database *db = arg;

    pthread_mutex_lock(&db->lock);
    while (!db->stop) {
        uint64_t at = db->writer ? tell_writing_at(db) : release_at(db);

        if (db->release_due && !db->shipping && db->first_unshipped == db->n_flights)
            release(db);
        else if (db->contested)
            contest(db);
        else if (at == 0)
            pthread_cond_wait(&db->keeper_wake, &db->lock);
        else if (at > co_now_us())
            (void)cv_wait_on(db, &db->keeper_wake, at);
        else if (db->writer)
            tell_writing(db);
        else
            begin_release(db);
    }
    pthread_mutex_unlock(&db->lock);
    return NULL;
}

/* Lock held. */
static int keeper_start(struct cv_database *db)
{
    sigset_t all, before;
    int rc;

    if (db->keeper_runs)
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&db->keeper, NULL, keep, db);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    db->keeper_runs = rc == 0;
    return rc ? co_fail_errno(CO_ERR_NOMEM, rc, "no thread for the lease can be had") : 0;
}

void cv_keeper_stop(struct cv_database *db)
{
    pthread_mutex_lock(&db->lock);
    db->stop = true;
    tell_keeper(db);
    pthread_mutex_unlock(&db->lock);
    if (db->keeper_runs)
        pthread_join(db->keeper, NULL);
    db->keeper_runs = false;
}
