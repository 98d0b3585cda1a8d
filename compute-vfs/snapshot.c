/* snapshot.c - what a read transaction sees, and the pages it reads. */
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/mutation.h"
#include "compute-vfs/database.h"
#include "proto/changes.h"

#define LOOK_AGAIN_MS 5u

/* -- closing gaps in what is known (M13) ---------------------------------------------------------
 */

/* Tells the cache of every commit in the list that it does not know yet. */
static int apply_list(struct cv_database *db, lsn_t since, struct co_span list)
{
    lsn_t prev = since, lsn;
    uint32_t db_pages, n;
    pgno_t *pgnos;
    int rc;

    while (!(rc = changes_get_commit(&list, prev, &lsn, &db_pages, &pgnos, &n))) {
        for (uint32_t i = co_mutated(CHANGE_MISSED); i < n && lsn > db->known.pos; i++)
            cv_cache_change(db->cache, pgnos[i], lsn);
        free(pgnos);
        prev = lsn;
    }
    return rc == CO_ERR_AGAIN ? 0 : rc;
}

int cv_database_check_page_size(struct cv_database *db, uint32_t page_size)
{
    if (page_size == 0)
        return 0;
    if (page_size < CO_PAGE_SIZE_MIN || page_size > CO_PAGE_SIZE_MAX ||
        (page_size & (page_size - 1)))
        return co_fail(CO_ERR_PROTOCOL, "%s told a page size of %u bytes", db->uri.server,
                       page_size);
    if (db->page_size && db->page_size != page_size)
        return co_fail(CO_ERR_CORRUPT, "%s: the page size went from %u to %u bytes", db->uri.db,
                       db->page_size, page_size);
    db->page_size = page_size;
    return 0;
}

static int apply(struct cv_database *db, lsn_t since, lsn_t upto, const struct cv_changes *ch)
{
    int rc = cv_database_check_page_size(db, ch->page_size);

    if (rc || (db->known_valid && db->known.pos >= upto))
        return rc;
    /* Somebody else's commits stand where this process thought to be writing. */
    if (db->tip.pos > db->known.pos)
        cv_era_end(db, false);
    /* Asked when nothing was known (since 0), the answer lists nothing; meanwhile another thread
     * may have learned an older state. */
    if (ch->all || since == LSN_NONE) {
        cv_cache_begin(db->cache, ch->txn_lsn ? ch->txn_lsn : upto);
    } else {
        if (!db->known_valid)
            cv_cache_begin(db->cache, since);
        rc = apply_list(db, since, co_buf_span(&ch->list));
    }
    if (rc)
        return rc;
    db->known =
        (struct cv_position){upto, ch->txn_lsn, ch->txn_lsn ? ch->db_pages : 0, ch->time_us};
    db->tip = db->known;
    db->known_valid = true;
    if (ch->time_us > db->time_us)
        db->time_us = ch->time_us;
    cv_cache_ingested(db->cache, upto);
    db->n_gaps++;
    pthread_cond_broadcast(&db->changed);
    return 0;
}

/* Where knowledge begins: where that of the pages on disk ends, so that they are of use. */
static lsn_t begin_at(struct cv_database *db, lsn_t upto)
{
    lsn_t base = db->tier ? cv_tier_base(db->tier) : LSN_NONE;

    return base <= upto ? base : LSN_NONE;
}

static void tell_disk(struct cv_database *db, bool all)
{
    uint32_t page_size;
    uint64_t told;
    lsn_t known;

    pthread_mutex_lock(&db->lock);
    page_size = db->page_size;
    told = cv_cache_told(db->cache);
    known = db->known.txn;
    pthread_mutex_unlock(&db->lock);
    cv_tier_learned(db->tier, page_size, known, told, all);
}

int cv_database_close_gap(struct cv_database *db, lsn_t upto, uint32_t timeout_ms)
{
    struct cv_changes ch = {0};
    uint64_t began;
    lsn_t since;
    bool closed, first;
    int rc;

    pthread_mutex_lock(&db->lock);
    first = !db->known_valid;
    closed = !first && db->known.pos >= upto;
    since = db->known.pos;
    pthread_mutex_unlock(&db->lock);
    if (closed)
        return 0;
    if (first)
        since = begin_at(db, upto);
    began = co_now_us();
    rc = db->pages->ops->changes(db->pages, &db->timeline.timeline, since, upto, timeout_ms, &ch);
    if (rc)
        return rc;
    pthread_mutex_lock(&db->lock);
    cv_waited(db, CV_FOR_CHANGES, began);
    rc = apply(db, since, upto, &ch);
    pthread_mutex_unlock(&db->lock);
    if (!rc && first && db->tier)
        tell_disk(db, ch.all);
    co_buf_free(&ch.list);
    return rc;
}

/* -- pins ----------------------------------------------------------------------------------------
 */

/* The log knows of commits that its events have not told yet: they come at once, or this process is
 * no longer the leader and does not know it. Returns the term to abandon, 0 for none. */
static term_t settle(struct cv_database *db, lsn_t position)
{
    uint64_t until = co_now_us() + CV_SETTLE_MS * 1000;
    term_t deposed = 0;

    pthread_mutex_lock(&db->lock);
    while (db->known_valid && position > db->known.pos && db->tip.pos > db->known.pos) {
        if (cv_wait_until(db, until))
            continue;
        deposed = db->term;
        cv_era_end(db, false);
    }
    pthread_mutex_unlock(&db->lock);
    return deposed;
}

/* Learns everything up to a position that is committed. */
static int catch_up(struct cv_database *db, lsn_t position, uint32_t timeout_ms)
{
    term_t deposed = settle(db, position);

    if (deposed)
        db->log->ops->abandon(db->log, deposed);
    return cv_database_close_gap(db, position, timeout_ms);
}

/* A sealed timeline (S14) ends where the pageserver says, or the safekeepers (*out), if that is
 * further: nobody settles its tail any more. */
static int sealed_end(struct cv_database *db, uint32_t timeout_ms, lsn_t *out)
{
    struct cv_changes ch = {0};
    int rc = db->pages->ops->changes(db->pages, &db->timeline.timeline, 0, 0, timeout_ms, &ch);

    *out = ch.upto > *out ? ch.upto : *out;
    co_buf_free(&ch.list);
    return rc;
}

/* From where on somebody else's records would be of use; LSN_NONE: from nowhere. */
static lsn_t follows_from(struct cv_database *db)
{
    lsn_t since = LSN_NONE;

    pthread_mutex_lock(&db->lock);
    if (db->log->ops->follow && db->known_valid && !db->leading && db->tip.pos == db->known.pos)
        since = db->known.pos;
    pthread_mutex_unlock(&db->lock);
    return since;
}

/* Where the log ends; what others have committed since is applied if it came along. */
static int ask_position(struct cv_database *db, uint32_t timeout_ms, lsn_t *position)
{
    lsn_t since = follows_from(db);
    struct co_buf records = {0};
    int rc;

    if (since == LSN_NONE)
        return db->log->ops->position(db->log, timeout_ms, position);
    rc = db->log->ops->follow(db->log, timeout_ms, since, position, &records);
    if (!rc && records.len)
        cv_database_follow(db, since, co_buf_span(&records));
    co_buf_free(&records);
    return rc;
}

/* A timeline that was sealed when it was opened: its log names the members that it had then, and
 * they may have been replaced since. The pageserver knows who keeps it now, and asks a majority of
 * those. CO_ERR_NOT_FOUND: it cannot be told by the name (it has another one by now, or nothing of
 * its own). */
static int kept_end(struct cv_database *db, uint32_t timeout_ms, lsn_t *out)
{
    struct cv_moment head;
    int rc = db->pages->ops->resolve(db->pages, db->uri.db, db->uri.branch, "", timeout_ms, &head);

    if (!rc && !co_id_eq(&head.timeline, &db->timeline.timeline))
        rc = CO_ERR_NOT_FOUND;
    *out = rc ? 0 : head.lsn;
    return rc;
}

/* Asks where the log ends and learns everything up to there. `tip`: what this process has written
 * itself need not be known to be committed. */
static int learn(struct cv_database *db, bool tip, uint32_t timeout_ms)
{
    uint64_t asked_us = co_now_us();
    bool enough;
    lsn_t position = 0;
    int rc = db->timeline.sealed ? kept_end(db, timeout_ms, &position) : CO_ERR_NOT_FOUND;

    cv_database_seek_safekeepers(db);
    if (rc == CO_ERR_NOT_FOUND)
        rc = ask_position(db, timeout_ms, &position);
    if (rc == CO_ERR_READONLY)
        rc = sealed_end(db, timeout_ms, &position);
    if (rc)
        return rc;
    pthread_mutex_lock(&db->lock);
    cv_waited(db, CV_FOR_POSITION, asked_us);
    db->n_positions++;
    enough = tip && db->known_valid && db->leading && position <= db->tip.pos;
    if (!enough && !(db->known_valid && position <= db->known.pos)) {
        pthread_mutex_unlock(&db->lock);
        rc = catch_up(db, position, timeout_ms);
        pthread_mutex_lock(&db->lock);
    }
    if (!rc && !enough && asked_us > db->position_at_us)
        db->position_at_us = asked_us;
    pthread_mutex_unlock(&db->lock);
    return rc;
}

/* Also for the tip: who leads asks nobody while its lease runs, and may have been displaced when it
 * does not. Lock held. */
static bool must_learn(const struct cv_database *db, const struct cv_pin_request *request)
{
    bool must = true;

    if (db->known_valid && co_mutated(STRICT_SKIPPED))
        must = false;
    else if (db->known_valid && request->staleness_ms)
        must = co_now_us() - db->position_at_us >= (uint64_t)request->staleness_ms * 1000 ||
               db->returned_lsn > db->known.txn;
    return must;
}

/* M10: nobody in this process sees less than what a COMMIT of this process has returned; its own
 * connection need not wait for that. */
static bool awaits_returned(const struct cv_database *db, const struct cv_pin_request *request)
{
    return db->returned_lsn > db->known.txn && db->tip.pos > db->known.pos &&
           !(request->own_epoch == db->epoch && request->own_lsn >= db->returned_lsn);
}

static int wait_for_returned(struct cv_database *db, const struct cv_pin_request *request,
                             uint32_t timeout_ms)
{
    uint64_t until = co_now_us() + (uint64_t)timeout_ms * 1000;

    if (awaits_returned(db, request)) {
        pthread_mutex_unlock(&db->lock);
        cv_era_hurry(db);
        pthread_mutex_lock(&db->lock);
    }
    while (awaits_returned(db, request))
        if (!cv_wait_until(db, until))
            return co_fail(CO_ERR_TIMEOUT,
                           "%s: commits that returned with synchronous=NORMAL or OFF are not on a "
                           "majority of safekeepers after %u ms",
                           db->uri.db, timeout_ms);
    return 0;
}

static void choose(struct cv_database *db, const struct cv_pin_request *request,
                   struct cv_snapshot *out, bool *speculative)
{
    const struct cv_position *at = request->want_tip ? &db->tip : &db->known;

    *speculative = at->txn > db->known.txn;
    *out = (struct cv_snapshot){at->txn, at->db_pages, db->epoch};
    if (request->own_epoch == db->epoch && request->own_lsn > at->txn) {
        out->lsn = request->own_lsn;
        out->db_pages = request->own_db_pages;
    }
}

static void pin(struct cv_handle *h, const struct cv_snapshot *snapshot)
{
    h->pin = *snapshot;
    h->snapshot_lsn = snapshot->lsn;
    h->pinned = true;
    h->dead = false;
}

/* Lock held, but not while it looks again whether somebody else made the database. */
static int is_born(struct cv_database *db, uint32_t timeout_ms, bool *born)
{
    int rc = 0;

    if (!db->born) {
        pthread_mutex_unlock(&db->lock);
        rc = cv_database_look_again(db, timeout_ms);
        pthread_mutex_lock(&db->lock);
    }
    *born = db->born;
    return rc;
}

int cv_database_pin(struct cv_database *db, struct cv_handle *h,
                    const struct cv_pin_request *request, bool *speculative)
{
    struct cv_snapshot snapshot;
    bool born, must;
    int rc;

    pthread_mutex_lock(&db->lock);
    rc = is_born(db, request->timeout_ms, &born);
    must = !rc && born && must_learn(db, request);
    pthread_mutex_unlock(&db->lock);
    if (must)
        rc = learn(db, request->want_tip, request->timeout_ms);
    if (rc)
        return rc;
    pthread_mutex_lock(&db->lock);
    if (!request->want_tip)
        rc = wait_for_returned(db, request, request->timeout_ms);
    if (!rc) {
        choose(db, request, &snapshot, speculative);
        pin(h, &snapshot);
        db->n_pins++;
    }
    pthread_mutex_unlock(&db->lock);
    return rc;
}

/* What is read at a moment goes through the cache as everything does. So first the cache must know
 * every change up to it: an open version stands for what is known, and a version of this process
 * that is not durable may stand where the moment's transaction is. */
int cv_database_pin_at(struct cv_database *db, struct cv_handle *h, const struct cv_moment *moment,
                       uint32_t timeout_ms)
{
    struct cv_snapshot snapshot = {.lsn = moment->lsn};
    bool told;
    int rc;

    pthread_mutex_lock(&db->lock);
    told = moment->lsn == LSN_NONE || (db->known_valid && db->known.pos >= moment->lsn);
    pthread_mutex_unlock(&db->lock);
    if (!told) {
        rc = catch_up(db, moment->head_lsn, timeout_ms);
        if (rc)
            return rc;
    }
    pthread_mutex_lock(&db->lock);
    snapshot.db_pages = moment->lsn == LSN_NONE ? 0 : moment->db_pages;
    snapshot.epoch = db->epoch;
    pin(h, &snapshot);
    db->n_pins++;
    pthread_mutex_unlock(&db->lock);
    return 0;
}

int cv_database_wait_for(struct cv_database *db, lsn_t lsn, uint32_t timeout_ms)
{
    uint64_t now = co_now_us(), until = now + (uint64_t)timeout_ms * 1000;
    uint64_t pause_us = LOOK_AGAIN_MS * 1000;
    lsn_t have;

    for (;; now = co_now_us()) {
        uint32_t left_ms = now < until ? (uint32_t)((until - now) / 1000) : 0;
        bool born;
        int rc;

        pthread_mutex_lock(&db->lock);
        rc = is_born(db, CO_READ_TIMEOUT_MS, &born);
        pthread_mutex_unlock(&db->lock);
        if (!rc && born)
            rc = learn(db, false, left_ms < CV_SETTLE_MS ? CV_SETTLE_MS : left_ms);
        if (rc)
            return rc;
        pthread_mutex_lock(&db->lock);
        have = db->known.pos;
        if (have < lsn && co_now_us() < until)
            cv_wait_until(db, co_now_us() + pause_us);
        pthread_mutex_unlock(&db->lock);
        if (have >= lsn)
            return 0;
        if (co_now_us() >= until)
            return co_fail(CO_ERR_TIMEOUT,
                           "%s/%s: commit %016llx was not there within %u ms; the newest is "
                           "%016llx",
                           db->uri.db, db->uri.branch, (unsigned long long)lsn, timeout_ms,
                           (unsigned long long)have);
        pause_us = pause_us < 50000 ? pause_us * 2 : pause_us;
    }
}

int cv_database_repin(struct cv_database *db, struct cv_handle *h,
                      const struct cv_snapshot *snapshot)
{
    int rc = 0;

    pthread_mutex_lock(&db->lock);
    if (snapshot->epoch == db->epoch)
        pin(h, snapshot);
    else
        rc = CO_ERR_AGAIN;
    pthread_mutex_unlock(&db->lock);
    return rc;
}

void cv_database_unpin(struct cv_database *db, struct cv_handle *h)
{
    pthread_mutex_lock(&db->lock);
    h->pinned = false;
    h->dead = false;
    pthread_mutex_unlock(&db->lock);
}
