/*
 * read.c - a page as of a snapshot: from the cache, from the pages on disk (page_tier.h), or from
 * the pageserver, and then with those that are likely to be read next (ahead.h). Those go to the
 * cache only. One is asked for only if it is not cached and the pageserver needs to have got no
 * further for it than for the page that is waited for; of a chain, whose pages nobody knows before
 * they are there, the same decides whether one is kept. One that cannot be had is nothing.
 *
 * The disk has only what is committed, and is asked for such only (M8): what a transaction sees
 * above that is looked for there as of the end of what is known to be committed, if the page has
 * not changed since.
 */
#include <string.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/mutation.h"
#include "compute-vfs/database.h"

static int dead(const struct cv_database *db)
{
    return co_fail(CO_ERR_LOST,
                   "%s: this transaction was built on a commit that another writer's term has "
                   "displaced; roll it back and begin again",
                   db->uri.db);
}

static int check_page(const struct cv_database *db, const struct cv_page *page, lsn_t lsn)
{
    if (page->status == CO_ERR_NOT_FOUND)
        return co_fail(CO_ERR_CORRUPT, "%s: page %u at %016llx is not at the pageserver %s",
                       db->uri.db, page->pgno, (unsigned long long)lsn, db->uri.server);
    if (page->status)
        return co_fail(page->status, "%s: page %u at %016llx: the pageserver %s says %s",
                       db->uri.db, page->pgno, (unsigned long long)lsn, db->uri.server,
                       co_error_text(page->status));
    if (page->lsn > lsn)
        return co_fail(CO_ERR_PROTOCOL, "%s: page %u was wanted at %016llx and came as of %016llx",
                       db->uri.db, page->pgno, (unsigned long long)lsn,
                       (unsigned long long)page->lsn);
    return 0;
}

_Static_assert(CV_AHEAD_MAX <= CV_KEEP_MAX, "what is fetched at once is kept at once");

/* One request: the page that is wanted, and then what comes along. */
struct batch {
    struct cv_version *version[CV_AHEAD_MAX];
    struct cv_page page[CV_AHEAD_MAX];
    uint32_t n;
    lsn_t since; /* how far the pageserver must have got */
};

static void drop(struct batch *b)
{
    for (uint32_t i = 0; i < b->n; i++)
        cv_version_free(b->version[i]);
}

/* pgno 0: the next of the chain. Without memory for what comes along there is less of it. */
static bool add(struct batch *b, pgno_t pgno, uint32_t page_size)
{
    struct cv_version *v = cv_version_new(pgno, page_size);

    co_assert(b->n < CV_AHEAD_MAX);
    if (!v)
        return false;
    b->version[b->n] = v;
    b->page[b->n++] = (struct cv_page){.pgno = pgno, .data = cv_version_data(v)};
    return true;
}

/* Lock held. */
static bool is_useful(const struct cv_database *db, pgno_t pgno, lsn_t lsn, lsn_t since,
                      uint32_t page_size)
{
    return cv_cache_not_modified_since(db->cache, pgno, lsn) <= since &&
           !cv_cache_has(db->cache, pgno, lsn, page_size);
}

/* The answer has to reach beyond what is known to be committed here. Lock held. */
static bool is_ahead(const struct cv_database *db, const struct cv_handle *h, lsn_t since)
{
    return h && h->pinned && !h->dead && since > db->known.pos && db->tip.pos > db->known.pos;
}

/* M8. The pageserver answers from the committed log. As far as that has to reach beyond what is
 * known to be committed here, it is this process's log only if its own commits came through: that
 * is waited for, and before it is asked: of what is lost it may never hear. Lock held, but not
 * while it waits. Whether the snapshot is what the answer is about. */
static int check_history(struct cv_database *db, const struct cv_handle *h, lsn_t since,
                         uint64_t until_us)
{
    if (is_ahead(db, h, since)) {
        pthread_mutex_unlock(&db->lock);
        cv_era_hurry(db);
        pthread_mutex_lock(&db->lock);
    }
    while (is_ahead(db, h, since))
        if (!cv_wait_until(db, until_us))
            return co_fail(CO_ERR_TIMEOUT,
                           "%s: it is not known yet whether the commits that this transaction is "
                           "built on are in the database",
                           db->uri.db);
    return h && h->dead ? dead(db) : 0;
}

/* Is a page that came along as part of a chain what would have been asked for, had it been known?
 * Lock held. */
static bool is_as_of(struct cv_database *db, const struct cv_snapshot *snapshot, pgno_t pgno,
                     lsn_t since)
{
    return pgno != 0 && pgno <= snapshot->db_pages &&
           cv_cache_not_modified_since(db->cache, pgno, snapshot->lsn) <= since;
}

/* -- the pages on disk ---------------------------------------------------------------------------
 */

/* What the disk is to be asked for; false: for nothing. Lock held. */
static bool want_of(const struct cv_database *db, const struct cv_snapshot *snapshot, pgno_t pgno,
                    struct cv_want *out)
{
    const struct cv_position *known = &db->known;
    lsn_t newest = cv_cache_newest(db->cache, pgno), lsn = snapshot->lsn;

    if (!db->tier || !db->known_valid)
        return false;
    if (lsn > known->txn) {
        if (newest > known->txn || lsn > db->tip.pos || snapshot->epoch != db->epoch)
            return false;
        lsn = known->txn;
    }
    *out = (struct cv_want){pgno, lsn, newest, known->txn, known->txn_us};
    return true;
}

/* Asks the pageserver whether the commit that a slot names is part of the log. */
static int prove(struct cv_database *db, const struct cv_slot *slot, uint32_t timeout_ms)
{
    uint64_t began = co_now_us();
    struct cv_changes at = {0};
    int rc = db->pages->ops->changes(db->pages, &db->timeline.timeline, slot->known_to,
                                     slot->known_to, timeout_ms, &at);

    co_buf_free(&at.list);
    if (rc && rc != CO_ERR_GONE)
        return rc;
    cv_tier_prove(db->tier, slot,
                  !rc && at.txn_lsn == slot->known_to && at.time_us == slot->known_us);
    pthread_mutex_lock(&db->lock);
    cv_waited(db, CV_FOR_CHANGES, began);
    pthread_mutex_unlock(&db->lock);
    return 0;
}

/* CO_ERR_NOT_FOUND, without a sentence: it is not there. */
static int look_on_disk(struct cv_database *db, const struct cv_want *want, struct cv_version *v,
                        uint32_t page_size, uint32_t timeout_ms, lsn_t *from)
{
    enum cv_found found = CV_NOT_FOUND;
    struct cv_slot slot;

    for (int i = 0; i < 2; i++) {
        found = cv_tier_find(db->tier, want, cv_version_data(v), page_size, &slot);
        if (found == CV_FOUND_UNPROVEN && i == 0) {
            int rc = prove(db, &slot, timeout_ms);
            if (rc)
                return rc;
        } else {
            break;
        }
    }
    *from = slot.from;
    return found == CV_FOUND ? 0 : CO_ERR_NOT_FOUND;
}

static int from_disk(struct cv_database *db, const struct cv_handle *h, const struct cv_want *want,
                     uint8_t *out, uint32_t page_size, uint32_t timeout_ms, lsn_t *from)
{
    struct cv_version *v = cv_version_new(want->pgno, page_size);
    bool is_dead;
    int rc = v ? look_on_disk(db, want, v, page_size, timeout_ms, from) : CO_ERR_NOT_FOUND;

    if (rc) {
        cv_version_free(v);
        return rc;
    }
    memcpy(out, cv_version_data(v), page_size);
    pthread_mutex_lock(&db->lock);
    is_dead = h && h->dead;
    cv_cache_fetched(db->cache, v, *from, want->lsn);
    pthread_mutex_unlock(&db->lock);
    return is_dead ? dead(db) : 0;
}

/* What came from the pageserver stays on disk, if it is good up to the newest transaction that is
 * known to be committed: it was read as of one that is, and has not changed since. */
static void keep_on_disk(struct cv_database *db, const struct cv_snapshot *snapshot,
                         const struct batch *b, uint32_t page_size)
{
    struct cv_kept kept[CV_AHEAD_MAX];
    uint32_t n = 0;

    pthread_mutex_lock(&db->lock);
    const struct cv_position *known = co_mutated(DISK_UNCOMMITTED) ? &db->tip : &db->known;
    for (uint32_t i = 0; i < b->n && db->known_valid && snapshot->lsn <= known->txn; i++) {
        const struct cv_page *page = &b->page[i];

        if (page->status == 0 && page->lsn <= snapshot->lsn &&
            cv_cache_newest(db->cache, page->pgno) <= snapshot->lsn &&
            is_as_of(db, snapshot, page->pgno, b->since))
            kept[n++] = (struct cv_kept){{.pgno = page->pgno,
                                          .page_size = page_size,
                                          .from = page->lsn,
                                          .known_to = known->txn,
                                          .known_us = known->txn_us},
                                         page->data};
    }
    pthread_mutex_unlock(&db->lock);
    cv_tier_keep(db->tier, kept, n);
}

/* -- the pageserver ------------------------------------------------------------------------------
 */

static bool is_sound(struct cv_database *db, const struct batch *b, uint32_t i,
                     const struct cv_snapshot *snapshot)
{
    if (cv_version_pgno(b->version[i]) != 0)
        return true; /* it was known */
    cv_version_set_pgno(b->version[i], b->page[i].pgno);
    return is_as_of(db, snapshot, b->page[i].pgno, b->since);
}

static int fetch(struct cv_database *db, const struct cv_handle *h,
                 const struct cv_snapshot *snapshot, struct batch *b, uint8_t *out,
                 uint32_t page_size, uint32_t timeout_ms)
{
    uint64_t began = co_now_us();
    int rc;

    pthread_mutex_lock(&db->lock);
    rc = check_history(db, h, b->since, began + timeout_ms * 1000ull);
    pthread_mutex_unlock(&db->lock);
    if (!rc)
        rc = db->pages->ops->get(db->pages, &db->timeline.timeline, snapshot->lsn, b->since,
                                 page_size, b->page, b->n, timeout_ms);
    if (!rc && db->tier)
        keep_on_disk(db, snapshot, b, page_size);
    pthread_mutex_lock(&db->lock);
    if (!rc)
        rc = check_history(db, h, b->since, began + timeout_ms * 1000ull);
    if (!rc)
        rc = check_page(db, &b->page[0], snapshot->lsn);
    if (rc) {
        pthread_mutex_unlock(&db->lock);
        drop(b);
        return rc;
    }
    memcpy(out, b->page[0].data, page_size);
    cv_waited(db, CV_FOR_PAGES, began);
    bool kept = snapshot->epoch == db->epoch || snapshot->lsn <= db->known.txn;
    for (uint32_t i = 0; i < b->n; i++) {
        if (kept && b->page[i].status == 0 && b->page[i].lsn <= snapshot->lsn &&
            is_sound(db, b, i, snapshot))
            cv_cache_fetched(db->cache, b->version[i], b->page[i].lsn, snapshot->lsn);
        else
            cv_version_free(b->version[i]);
    }
    cv_cache_ingested(db->cache, b->since);
    pthread_mutex_unlock(&db->lock);
    return 0;
}

/* The page, and with it what the guess allows. Lock held. */
static bool gather(struct cv_database *db, const struct cv_snapshot *snapshot, pgno_t pgno,
                   const struct cv_wish *wish, uint32_t page_size, struct batch *b)
{
    b->since = cv_cache_not_modified_since(db->cache, pgno, snapshot->lsn);
    if (!add(b, pgno, page_size))
        return false;
    for (uint32_t i = 0; i < wish->n; i++)
        if (is_useful(db, wish->also[i], snapshot->lsn, b->since, page_size) &&
            !add(b, wish->also[i], page_size))
            break;
    for (uint32_t i = 0; i < wish->chain && add(b, 0, page_size); i++)
        ;
    return true;
}

/* So many pages of a chain came. */
static uint32_t came(const struct batch *b, const struct cv_wish *wish)
{
    uint32_t n = 0;

    while (n < wish->chain && n + 1 < b->n && b->page[n + 1].status == 0)
        n++;
    return n;
}

int cv_database_read_page(struct cv_database *db, struct cv_handle *h, struct cv_ahead *ahead,
                          const struct cv_snapshot *snapshot, pgno_t pgno, uint8_t *out,
                          uint32_t page_size, uint32_t timeout_ms)
{
    struct batch b; /* large: a hit has no use for it */
    struct cv_wish wish;
    struct cv_want want;
    lsn_t version_lsn;
    bool hit, is_dead, memory = true;
    int rc = 0;

    co_assert(snapshot->lsn != LSN_NONE);
    b.n = wish.n = wish.chain = 0;
    pthread_mutex_lock(&db->lock);
    is_dead = h && h->dead;
    hit = !is_dead && cv_cache_get(db->cache, pgno, snapshot->lsn, out, page_size, &version_lsn);
    if (!is_dead && !hit && want_of(db, snapshot, pgno, &want)) {
        pthread_mutex_unlock(&db->lock);
        rc = from_disk(db, h, &want, out, page_size, timeout_ms, &version_lsn);
        if (rc && rc != CO_ERR_NOT_FOUND)
            return rc;
        hit = rc == 0;
        rc = 0;
        pthread_mutex_lock(&db->lock);
        is_dead = h && h->dead;
    }
    if (!is_dead && !hit) {
        cv_ahead_missed(ahead, pgno, snapshot->db_pages, page_size, &wish);
        memory = gather(db, snapshot, pgno, &wish, page_size, &b);
    }
    pthread_mutex_unlock(&db->lock);
    if (is_dead)
        return dead(db);
    if (!memory)
        return co_fail(CO_ERR_NOMEM, "no memory for a page");
    if (!hit) {
        rc = fetch(db, h, snapshot, &b, out, page_size, timeout_ms);
        version_lsn = b.page[0].lsn;
    }
    if (rc)
        return rc;
    cv_ahead_saw(ahead, pgno, version_lsn, out, page_size, snapshot->db_pages);
    if (wish.chain)
        cv_chain_brought(&ahead->chain, wish.chain, came(&b, &wish));
    return 0;
}
