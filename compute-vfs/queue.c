/*
 * queue.c - whose turn it is among the connections of this process (M6).
 *
 * A refused connection that will come again gets a place in a queue. When the turn is free the
 * first in the queue has it reserved for CV_RESERVATION_US and is woken; who does not come loses
 * his place. A newcomer waits for a reservation to be used or to lapse, so he hears BUSY only
 * because of a transaction that is really open. Not so one who came to xSleep when he was last
 * refused: he has a busy handler, and gets his place in the queue at once. (All who wait for one
 * reservation are woken together, and all but one for nothing.)
 *
 * Who is about to write waits here before he pins a snapshot, so that this is the tip
 * (cv_turn_expect). While such a one is only being woken, others who run overtake him.
 */
#include "compute-vfs/queue.h"

#include "common/bell_file.h"
#include "common/clock_file.h"

void cv_queue_add(struct cv_database *db, struct cv_handle *h)
{
    h->seen_us = co_now_us();
    if (h->queued)
        return;
    h->queued = true;
    h->queue_next = NULL;
    if (db->queue_last)
        db->queue_last->queue_next = h;
    else
        db->queue_first = h;
    db->queue_last = h;
}

static void enqueue_first(struct cv_database *db, struct cv_handle *h)
{
    h->queued = true;
    h->queue_next = db->queue_first;
    db->queue_first = h;
    if (!db->queue_last)
        db->queue_last = h;
}

static struct cv_handle *dequeue(struct cv_database *db)
{
    struct cv_handle *h = db->queue_first;

    if (!h)
        return NULL;
    db->queue_first = h->queue_next;
    if (!db->queue_first)
        db->queue_last = NULL;
    h->queued = false;
    return h;
}

/* A thread that sleeps until the turn is reserved for a handle; on its stack. */
struct cv_sleeper {
    struct co_bell bell;
    uint64_t since_us;
    bool rung;
};

/* Who sleeps for this handle returns, and needs no lock for it: whoever wakes him has it still. */
static void wake(struct cv_database *db, struct cv_handle *h)
{
    struct cv_sleeper *s = h->sleeper;

    if (!s)
        return;
    h->sleeper = NULL;
    h->seen_us = co_now_us();
    cv_waited(db, CV_FOR_TURN, s->since_us);
    s->rung = true;
    co_bell_ring(&s->bell); /* s may be gone from here on */
}

void cv_queue_reserve(struct cv_database *db, struct cv_handle *h, uint64_t now)
{
    db->reserved = h;
    db->reserved_until_us = now + CV_RESERVATION_US;
    wake(db, h);
}

/* The turn is free and not reserved: it goes to the first who is still there. */
void cv_queue_next(struct cv_database *db)
{
    uint64_t now = co_now_us();
    struct cv_handle *h;

    db->reserved = NULL;
    while ((h = dequeue(db))) {
        if (!h->sleeper && now - h->seen_us > CV_QUEUE_STALE_US)
            continue;
        cv_queue_reserve(db, h, now);
        break;
    }
    pthread_cond_broadcast(&db->changed);
}

void cv_queue_lapse(struct cv_database *db)
{
    if (db->reserved && !db->writer && co_now_us() >= db->reserved_until_us)
        cv_queue_next(db);
}

void cv_queue_remove(struct cv_database *db, struct cv_handle *h)
{
    struct cv_handle **at = &db->queue_first, *last = NULL;

    for (; *at && *at != h; at = &(*at)->queue_next)
        last = *at;
    if (*at) {
        *at = h->queue_next;
        if (db->queue_last == h)
            db->queue_last = last;
        h->queued = false;
    }
    if (db->reserved == h)
        cv_queue_next(db);
}

void cv_turn_forget(struct cv_database *db, struct cv_handle *h)
{
    wake(db, h);
    cv_queue_remove(db, h);
}

static struct cv_handle *handle_of(struct cv_database *db, uint64_t id)
{
    struct cv_handle *h = db->handles;

    while (h && h->id != id)
        h = h->next;
    return h;
}

/* Sleeps until the turn is reserved for h, or until then. The lock is held, and is not afterwards:
 * h may be closed meanwhile. true: it came to that. */
static bool await_turn(struct cv_database *db, struct cv_handle *h, uint64_t until_us)
{
    struct cv_sleeper me = {.since_us = co_now_us()};
    uint64_t now = me.since_us;
    bool woken = true;

    co_bell_init(&me.bell);
    while (db->reserved != h && now < until_us) {
        uint64_t wake_us = until_us;

        if (db->reserved && !db->writer && db->reserved_until_us < until_us)
            wake_us = db->reserved_until_us;
        h->sleeper = &me;
        pthread_mutex_unlock(&db->lock);
        if (co_bell_wait(&me.bell, wake_us > now ? wake_us - now : 0))
            goto rung;
        pthread_mutex_lock(&db->lock);
        if (me.rung)
            goto rung_late;
        h->sleeper = NULL; /* and h is there: it would have rung */
        h->seen_us = now = co_now_us();
        cv_queue_lapse(db);
    }
    woken = db->reserved == h;
    cv_waited(db, CV_FOR_TURN, me.since_us);
rung_late:
    pthread_mutex_unlock(&db->lock);
rung:
    co_bell_destroy(&me.bell);
    return woken;
}

bool cv_turn_sleep(struct cv_database *db, uint64_t handle_id, uint64_t us)
{
    struct cv_handle *h;

    pthread_mutex_lock(&db->lock);
    h = handle_of(db, handle_id);
    if (!h || h->sleeper) {
        pthread_mutex_unlock(&db->lock);
        return false;
    }
    h->patient = true;
    (void)await_turn(db, h, co_now_us() + us);
    return true;
}

void cv_turn_won(struct cv_database *db)
{
    struct cv_handle *first = NULL;

    if (db->writer || db->reserved)
        return;
    for (struct cv_handle *h = db->handles; h; h = h->next)
        if (h->sleeper && h->outside_us && (!first || h->outside_us < first->outside_us))
            first = h;
    if (first)
        cv_queue_reserve(db, first, co_now_us());
}

/* -- before the snapshot --------------------------------------------------------------------------
 */

/* The turn goes to h if nobody has it, or has it reserved and is on his way. Whoever is only being
 * woken is overtaken by one who runs already, unless he has waited for long: to be woken takes
 * several times as long as a short transaction, and the turn would stand idle for that time. */
static bool grab(struct cv_database *db, struct cv_handle *h, uint64_t now)
{
    struct cv_handle *other = db->reserved != h ? db->reserved : NULL;

    if (db->writer)
        return false;
    if (other && !(other->expecting && now - other->expects_us < CV_OVERTAKE_US))
        return false;
    if (other)
        enqueue_first(db, other);
    if (h->queued)
        cv_queue_remove(db, h);
    cv_queue_reserve(db, h, now);
    return true;
}

bool cv_turn_expect(struct cv_database *db, struct cv_handle *h)
{
    uint64_t now = co_now_us(), until = now + CV_EXPECT_US;
    bool reserved = false;

    cv_pacer_gate(db);
    pthread_mutex_lock(&db->lock);
    cv_queue_lapse(db);
    h->expects_us = now;
    /* A refused one comes back by xSleep: SQLite counts what he waits. */
    while (db->leading && !h->refused && now < until) {
        reserved = grab(db, h, now);
        if (reserved || !h->patient || h->sleeper)
            break;
        cv_queue_add(db, h);
        h->expecting = true;
        (void)await_turn(db, h, until);
        pthread_mutex_lock(&db->lock);
        h->expecting = false;
        now = co_now_us();
    }
    pthread_mutex_unlock(&db->lock);
    return reserved;
}

void cv_turn_forgo(struct cv_database *db, struct cv_handle *h)
{
    pthread_mutex_lock(&db->lock);
    cv_queue_remove(db, h);
    pthread_mutex_unlock(&db->lock);
}
