/* era.c - what became of the commits on their way: events of the log, and waiting for them. */
#include "compute-vfs/database.h"

#include "common/assert.h"
#include "common/bell_file.h"
#include "common/clock_file.h"
#include "common/mutation.h"

/* A thread that waits for what becomes of one commit; on its stack. It alone is woken when that is
 * decided: with many writers, waking all of them for each would cost more than the commits. It
 * finds all that it needs here, so that those who are woken together do not queue up for the
 * database's lock, which whoever wakes them still holds. */
struct cv_waiter {
    struct cv_waiter *next; /* in the list until it is decided */
    const struct cv_ticket *ticket;
    uint64_t started_us;
    bool received;
    bool assisted; /* it has been reading the log's connections */
    struct co_bell bell;
    bool decided; /* the bell is rung, or about to be */
    int outcome;
};

bool cv_wait_on(struct cv_database *db, pthread_cond_t *condition, uint64_t until_us)
{
    uint64_t now = co_now_us(), left = until_us > now ? until_us - now : 0;
    struct timespec at;

    if (left == 0)
        return false;
    at = co_deadline(left);
    pthread_cond_timedwait(condition, &db->lock, &at);
    return true;
}

static void relieve(struct cv_database *db)
{
    if (db->log && db->log->ops->relieve)
        db->log->ops->relieve(db->log);
}

bool cv_wait_until(struct cv_database *db, uint64_t until_us)
{
    relieve(db);
    return cv_wait_on(db, &db->changed, until_us);
}

/* -- outcomes ------------------------------------------------------------------------------------
 */

static struct cv_era *find_era(struct cv_database *db, uint64_t epoch)
{
    for (uint32_t i = 0; i < CV_ERAS_MAX && i < db->n_eras; i++)
        if (db->eras[i].epoch == epoch)
            return &db->eras[i];
    return NULL;
}

/* The outcome as it is known now: 0, CO_ERR_LOST, CO_ERR_UNKNOWN, or CO_ERR_AGAIN: not yet. */
static int outcome(struct cv_database *db, const struct cv_ticket *t, bool received)
{
    const struct cv_era *era;

    if (t->epoch == db->epoch) {
        if (db->known.pos >= t->end_lsn || (received && db->received_lsn >= t->end_lsn))
            return 0;
        return CO_ERR_AGAIN;
    }
    era = find_era(db, t->epoch);
    if (!era)
        return CO_ERR_UNKNOWN;
    if (t->end_lsn <= era->durable_lsn)
        return 0;
    if (era->resolved)
        return t->end_lsn <= era->kept_lsn ? 0 : CO_ERR_LOST;
    if (era->given_up && co_mutated(UNKNOWN_SAID_LOST))
        return CO_ERR_LOST;
    return era->given_up ? CO_ERR_UNKNOWN : CO_ERR_AGAIN;
}

void cv_waited(struct cv_database *db, enum cv_cause cause, uint64_t since_us)
{
    db->waits[cause].n++;
    db->waits[cause].us += co_now_us() - since_us;
}

/* A COMMIT is about to say so. Lock held. */
static void returns(struct cv_database *db, const struct cv_ticket *t)
{
    if (t->epoch == db->epoch && t->end_lsn > db->returned_lsn)
        db->returned_lsn = t->end_lsn;
}

void cv_era_returns(struct cv_database *db, const struct cv_ticket *ticket)
{
    pthread_mutex_lock(&db->lock);
    returns(db, ticket);
    pthread_mutex_unlock(&db->lock);
}

/* Lock held. */
static struct cv_waiter *take_decided(struct cv_database *db)
{
    struct cv_waiter *w = db->decided;

    db->decided = NULL;
    return w;
}

/* Wakes those whose commit is decided. With or without the lock: without it they do not run into
 * it. */
static void ring(struct cv_waiter *w)
{
    while (w) {
        struct cv_waiter *next = w->next;

        co_bell_ring(&w->bell); /* w may be gone from here on */
        w = next;
    }
}

static void unlock_and_ring(struct cv_database *db)
{
    struct cv_waiter *w = take_decided(db);

    pthread_mutex_unlock(&db->lock);
    ring(w);
}

/* Everybody whose commit has an outcome now is to be woken by whoever gives the lock back; whoever
 * waits for anything at all is woken. */
static void decided(struct cv_database *db)
{
    for (struct cv_waiter **at = &db->waiters; *at;) {
        struct cv_waiter *w = *at;
        int rc = outcome(db, w->ticket, w->received);

        if (rc == CO_ERR_AGAIN) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        cv_waited(db, CV_FOR_COMMIT, w->started_us);
        if (rc == 0)
            returns(db, w->ticket);
        w->outcome = rc;
        w->decided = true;
        w->next = db->decided;
        db->decided = w;
    }
    pthread_cond_broadcast(&db->changed);
}

/* Nobody here reads what lies below. Lock held. */
static lsn_t oldest_read(const struct cv_database *db)
{
    lsn_t oldest = db->known.txn;

    for (const struct cv_handle *h = db->handles; h; h = h->next)
        if (h->pinned && h->pin.lsn < oldest)
            oldest = h->pin.lsn;
    return oldest;
}

void cv_era_durable(struct cv_database *db, lsn_t lsn)
{
    bool moved = false;

    while (db->first_flight < db->n_flights && db->flights[db->first_flight].end_lsn <= lsn) {
        const struct cv_flight *f = &db->flights[db->first_flight++];

        db->known = (struct cv_position){f->end_lsn, f->end_lsn, f->db_pages, f->time_us};
        db->inflight_bytes -= f->end_lsn - f->begin_lsn;
        moved = true;
    }
    if (db->first_flight == db->n_flights)
        db->first_flight = db->first_unshipped = db->n_flights = 0;
    if (!moved)
        return;
    cv_cache_durable(db->cache, db->known.pos, oldest_read(db));
    db->progress_us = co_now_us();
    decided(db);
}

/* Handles whose snapshot lies above what is surely kept are dead (M8). */
static void kill_handles(struct cv_database *db)
{
    for (struct cv_handle *h = db->handles; h; h = h->next)
        if (h->pinned && (h->pin.lsn > db->known.txn || h->snapshot_lsn > db->known.txn))
            h->dead = true;
}

void cv_era_end(struct cv_database *db, bool give_up)
{
    db->leading = false;
    if (db->term > db->lost_term)
        db->lost_term = db->term;
    if (db->tip.pos > db->known.pos) {
        db->eras[db->n_eras++ % CV_ERAS_MAX] = (struct cv_era){.epoch = db->epoch,
                                                               .term = db->term,
                                                               .durable_lsn = db->known.pos,
                                                               .progress_us = db->progress_us,
                                                               .given_up = give_up};
        db->epoch++;
        for (uint32_t i = db->first_unshipped; i < db->n_flights; i++)
            cv_record_free(&db->flights[i].record); /* the log would not take it any more */
        db->first_flight = db->first_unshipped = db->n_flights = 0;
        db->inflight_bytes = 0;
        db->tip = db->known;
        cv_pace_cut(&db->pace, db->known.pos);
        db->received_lsn = LSN_NONE;
        if (db->returned_lsn > db->known.txn)
            db->returned_lsn = db->known.txn;
        if (!co_mutated(CACHE_KEPT))
            cv_cache_rollback(db->cache, db->known.pos);
        if (!co_mutated(HANDLES_SURVIVE))
            kill_handles(db);
    }
    decided(db);
    ring(take_decided(db));
}

void cv_era_hurry(struct cv_database *db)
{
    pthread_mutex_lock(&db->lock);
    bool due = db->returned_lsn > db->known.txn;
    pthread_mutex_unlock(&db->lock);
    if (due && db->log && db->log->ops->hurry)
        db->log->ops->hurry(db->log);
}

/* -- events --------------------------------------------------------------------------------------
 */

static bool is_current(const struct cv_database *db, term_t term)
{
    return term == db->term && term > db->lost_term;
}

static void on_durable(void *owner, term_t term, lsn_t lsn)
{
    struct cv_database *db = owner;

    pthread_mutex_lock(&db->lock);
    if (is_current(db, term))
        cv_era_durable(db, lsn);
    unlock_and_ring(db);
}

static void on_received(void *owner, term_t term, lsn_t lsn)
{
    struct cv_database *db = owner;

    pthread_mutex_lock(&db->lock);
    if (is_current(db, term) && lsn > db->received_lsn) {
        db->received_lsn = lsn;
        db->received_us = co_now_us();
        decided(db);
    }
    unlock_and_ring(db);
}

static void on_progress(void *owner, term_t term)
{
    struct cv_database *db = owner;

    pthread_mutex_lock(&db->lock);
    if (is_current(db, term))
        db->progress_us = co_now_us();
    pthread_mutex_unlock(&db->lock);
}

static void on_lost(void *owner, term_t term, bool contested, const char *reason)
{
    struct cv_database *db = owner;

    (void)reason;
    pthread_mutex_lock(&db->lock);
    if (is_current(db, term))
        cv_era_end(db, false);
    else if (term > db->lost_term)
        db->lost_term = term; /* before lead() returned it */
    if (contested && !db->role_busy) {
        db->contested = true;
        pthread_cond_signal(&db->keeper_wake);
    }
    pthread_mutex_unlock(&db->lock);
}

static void on_resolved(void *owner, term_t term, lsn_t kept_lsn)
{
    struct cv_database *db = owner;

    pthread_mutex_lock(&db->lock);
    for (uint32_t i = 0; i < CV_ERAS_MAX; i++) {
        struct cv_era *era = &db->eras[i];

        if (i < db->n_eras && era->term == term && !era->resolved) {
            era->resolved = true;
            era->kept_lsn = kept_lsn;
        }
    }
    decided(db);
    unlock_and_ring(db);
}

/* What is told to those who wait is acknowledged by "somebody waits": that alone is no reason to
 * tell it again. */
static void on_waiter(void *owner, bool anew)
{
    struct cv_database *db = owner;

    pthread_mutex_lock(&db->lock);
    db->others_wait = true;
    if (anew)
        db->told_writing_us = 0;
    pthread_cond_signal(&db->keeper_wake);
    pthread_mutex_unlock(&db->lock);
}

static void on_won(void *owner)
{
    struct cv_database *db = owner;

    pthread_mutex_lock(&db->lock);
    cv_turn_won(db);
    pthread_mutex_unlock(&db->lock);
}

const struct cv_log_events cv_database_events = {
    .durable = on_durable,
    .received = on_received,
    .progress = on_progress,
    .lost = on_lost,
    .resolved = on_resolved,
    .waiter = on_waiter,
    .won = on_won,
};

/* -- waiting -------------------------------------------------------------------------------------
 */

/* The whole pipeline is given up: every waiter hears UNKNOWN at once. Lock held; returns true when
 * the log is to be told. */
static bool give_up(struct cv_database *db, const struct cv_ticket *t)
{
    struct cv_era *era;

    if (t->epoch == db->epoch) {
        cv_era_end(db, true);
        return true;
    }
    era = find_era(db, t->epoch);
    if (era)
        era->given_up = true;
    decided(db);
    ring(take_decided(db));
    return false;
}

/* A commit that is waited for alone: its thread hears the acknowledgements itself, instead of being
 * woken by the log's. Several are woken, each when its own is decided. Lock held, but not while the
 * log is looked at. false: nothing was done. */
static bool assist(struct cv_database *db, struct cv_waiter *me, uint64_t until_us)
{
    const struct cv_log_ops *ops = db->log->ops;

    if (db->waiters != me || me->next) {
        if (me->assisted)
            relieve(db);
        me->assisted = false;
        return false;
    }
    if (!ops->attend || co_now_us() >= until_us || !ops->attend(db->log))
        return false;
    me->assisted = true;
    pthread_mutex_unlock(&db->lock);
    ops->assist(db->log, until_us);
    pthread_mutex_lock(&db->lock);
    return true;
}

/* Since when nothing came that its commit gets on by. What is received is no progress of one that
 * is to be on disks, nor is what a later term does of one whose term was lost. Lock held. */
static uint64_t quiet_since(struct cv_database *db, const struct cv_waiter *me)
{
    const struct cv_era *era =
        me->ticket->epoch == db->epoch ? NULL : find_era(db, me->ticket->epoch);
    uint64_t progress_us = era ? era->progress_us : db->progress_us;

    if (me->received && !era && db->received_us > progress_us)
        progress_us = db->received_us;
    return progress_us > me->started_us ? progress_us : me->started_us;
}

/* Waits for the outcome of `me`, which is in the list. The lock is held, and is not afterwards.
 * true: the log is to be told that its term was given up. */
static bool await(struct cv_database *db, struct cv_waiter *me, uint32_t timeout_ms)
{
    bool tell = false;

    while (!me->decided) {
        uint64_t until = quiet_since(db, me) + (uint64_t)timeout_ms * 1000, now = co_now_us();

        if (now >= until) {
            tell = give_up(db, me->ticket) || tell;
            continue;
        }
        if (assist(db, me, until))
            continue;
        pthread_mutex_unlock(&db->lock);
        if (co_bell_wait(&me->bell, until - now))
            return tell;
        pthread_mutex_lock(&db->lock);
    }
    if (me->assisted && db->waiters)
        relieve(db);
    pthread_mutex_unlock(&db->lock);
    while (!co_bell_wait(&me->bell, 1000000)) /* it is rung, or being rung */
        ;
    return tell;
}

int cv_era_wait(struct cv_database *db, const struct cv_ticket *ticket, bool received,
                uint32_t timeout_ms)
{
    struct cv_waiter me = {.ticket = ticket, .received = received, .started_us = co_now_us()};

    pthread_mutex_lock(&db->lock);
    int rc = outcome(db, ticket, received);
    if (rc == 0)
        returns(db, ticket);
    if (rc != CO_ERR_AGAIN) {
        pthread_mutex_unlock(&db->lock);
        return rc;
    }
    co_bell_init(&me.bell);
    me.next = db->waiters;
    db->waiters = &me;
    bool tell = await(db, &me, timeout_ms);
    co_bell_destroy(&me.bell);
    if (tell)
        db->log->ops->abandon(db->log, ticket->term);
    return me.outcome;
}
