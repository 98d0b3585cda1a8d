/*
 * pacer.c - the pageserver is asked how far it is, and commits wait as pace.h says.
 *
 * A thread of its own asks, so that a pageserver that does not answer holds nobody up; it begins
 * when this process has committed more than CV_PACE_ASK_BYTES that the pageserver is not known to
 * have. A commit waits after it is durable and after slot 0 was given back; a transaction that may
 * not begin waits before it has the turn: nobody stands behind somebody who waits here. The
 * pageserver needs nothing of those who wait, so they cannot wait for each other.
 */
#include <signal.h>

#include "common/clock_file.h"
#include "compute-vfs/database.h"

#define LOOK_US 50000u /* who waits looks again: silence is no event */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Lock held, but not while the pageserver is asked. */
static void ask(struct cv_database *db)
{
    struct co_id timeline = db->timeline.timeline;
    struct cv_changes changes = {0};

    pthread_mutex_unlock(&db->lock);
    int rc = db->pages->ops->changes(db->pages, &timeline, 0, 0, CV_PACE_ANSWER_MS, &changes);
    co_buf_free(&changes.list);
    pthread_mutex_lock(&db->lock);
    if (rc)
        cv_pace_silent(&db->pace, co_now_us());
    else
        cv_pace_said(&db->pace, co_now_us(), changes.upto);
    pthread_cond_broadcast(&db->pace_changed);
}

static void *pace(void *arg)
{
    struct cv_database *db = arg;

    pthread_mutex_lock(&db->lock);
    while (!db->stop) {
        uint64_t now = co_now_us(), at = cv_pace_ask_at(&db->pace, now);

        db->pacer_until_us = at == 0 ? UINT64_MAX : at > now ? at : 0;
        if (at == 0)
            pthread_cond_wait(&db->pacer_wake, &db->lock);
        else if (at > now)
            (void)cv_wait_on(db, &db->pacer_wake, at);
        else
            ask(db);
    }
    pthread_mutex_unlock(&db->lock);
    return NULL;
}

/* Lock held. Without a thread nobody is slowed: the next commit tries again. */
static void start(struct cv_database *db)
{
    sigset_t all, before;

    if (db->pacer_runs || db->stop)
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    db->pacer_runs = pthread_create(&db->pacer, NULL, pace, db) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Lock held. Begins it, or wakes it if it sleeps for longer than until the next question: each
 * commit comes by here, and a thread that is woken for nothing costs more than the commit. */
static void see_to_it(struct cv_database *db, uint64_t now)
{
    uint64_t at = cv_pace_ask_at(&db->pace, now);

    if (at == 0)
        return;
    start(db);
    if (at < db->pacer_until_us)
        pthread_cond_signal(&db->pacer_wake);
}

void cv_pacer_commit(struct cv_database *db, const struct cv_ticket *ticket)
{
    uint64_t now = co_now_us(), began = now, due;

    pthread_mutex_lock(&db->lock);
    if (ticket->epoch != db->epoch) {
        pthread_mutex_unlock(&db->lock);
        return;
    }
    due = cv_pace_commit(&db->pace, now, ticket->begin_lsn, ticket->end_lsn);
    see_to_it(db, now);
    if (db->pacer_runs && !cv_pace_is_due(&db->pace, now, due)) {
        while (!cv_pace_is_due(&db->pace, now, due)) {
            (void)cv_wait_on(db, &db->pace_changed, earlier(due, now + LOOK_US));
            now = co_now_us();
        }
        cv_waited(db, CV_FOR_INGEST, began);
    }
    pthread_mutex_unlock(&db->lock);
}

void cv_pacer_gate(struct cv_database *db)
{
    uint64_t began = co_now_us(), now = began;

    pthread_mutex_lock(&db->lock);
    if (db->pacer_runs && !cv_pace_may_begin(&db->pace, now)) {
        while (!cv_pace_may_begin(&db->pace, now)) {
            (void)cv_wait_on(db, &db->pace_changed, now + LOOK_US);
            now = co_now_us();
        }
        cv_waited(db, CV_FOR_INGEST, began);
    }
    pthread_mutex_unlock(&db->lock);
}

void cv_pacer_stop(struct cv_database *db)
{
    pthread_mutex_lock(&db->lock);
    db->stop = true;
    pthread_cond_signal(&db->pacer_wake);
    pthread_mutex_unlock(&db->lock);
    if (db->pacer_runs)
        pthread_join(db->pacer, NULL);
    db->pacer_runs = false;
}
