/*
 * follow.c - what others committed, out of the log itself (M13).
 *
 * Who reads strictly while another process commits would have to ask the pageserver which pages
 * changed, and that one has to pull, apply and sync the commits first. The safekeepers have their
 * records in memory and hand them out with the position. A record names its pages, and holds what
 * changed in them: pages that are in the cache go on to their new version.
 *
 * A record is taken only if it is sound, of this timeline, and begins where what is known ends; and
 * its digest chain holds, from the second on, and from the first where the digest before it is
 * known. Anything else is left out, with all that follows: the gap is closed by the pageserver.
 */
#include <stdlib.h>
#include <string.h>

#include "common/mutation.h"
#include "compute-vfs/database.h"

/* The next record, if it follows what came before. */
static bool take(const struct cv_database *db, struct co_span rest, lsn_t at,
                 const struct wal_digest *before, struct wal_header *h)
{
    if (wal_check(rest, h) || wal_check_digest(co_span_of(rest.data, (size_t)h->total_bytes), h))
        return false;
    return h->begin_lsn == at && co_id_eq(&h->cluster, &db->timeline.cluster) &&
           co_id_eq(&h->timeline, &db->timeline.timeline) &&
           (!before || memcmp(before->b, h->prev_digest.b, sizeof before->b) == 0);
}

/* Makes the new version of a page that is in the cache. Lock held. Without memory, or where the
 * base is not at hand, there is none: then it is fetched when it is read. */
static void renew(struct cv_database *db, const struct wal_header *h, const struct wal_entry *e)
{
    struct cv_version *v = cv_version_new(e->pgno, h->page_size);
    lsn_t base_lsn;
    bool made = v &&
                cv_cache_peek(db->cache, e->pgno, h->begin_lsn, cv_version_data(v), h->page_size,
                              &base_lsn) &&
                (e->encoding != WAL_DELTA || e->base_lsn == base_lsn) &&
                wal_apply(e, h->page_size, cv_version_data(v), cv_version_data(v), NULL) == 0;

    cv_cache_change(db->cache, e->pgno, h->end_lsn);
    if (made)
        cv_cache_fetched(db->cache, v, h->end_lsn, h->end_lsn);
    else
        cv_version_free(v);
}

static void apply_txn(struct cv_database *db, struct co_span record, const struct wal_header *h)
{
    struct wal_cursor cursor;
    struct wal_entry e;

    wal_cursor_init(&cursor, record, h);
    if (co_mutated(CHANGE_MISSED))
        (void)wal_cursor_next(&cursor, &e);
    while (wal_cursor_next(&cursor, &e))
        renew(db, h, &e);
    db->known.txn = h->end_lsn;
    db->known.db_pages = h->db_pages;
    db->known.txn_us = h->time_us;
    if (h->time_us > db->time_us)
        db->time_us = h->time_us;
}

/* Lock held. */
static bool apply(struct cv_database *db, struct co_span record, const struct wal_header *h)
{
    if (h->begin_lsn < db->known.pos)
        return h->end_lsn <= db->known.pos; /* another thread has learned it meanwhile */
    if (h->begin_lsn > db->known.pos || cv_database_check_page_size(db, h->page_size))
        return false;
    if (h->kind == WAL_TXN)
        apply_txn(db, record, h);
    db->known.pos = h->end_lsn;
    db->tip = db->known;
    db->followed_digest = h->digest;
    db->followed_lsn = h->end_lsn;
    return true;
}

void cv_database_follow(struct cv_database *db, lsn_t since, struct co_span records)
{
    struct wal_digest before;
    struct wal_header h;
    bool chained;

    pthread_mutex_lock(&db->lock);
    /* Not if this process has begun to write: what it has on its way comes first. */
    bool fits = db->known_valid && !db->leading && db->tip.pos == db->known.pos;
    chained = db->followed_lsn == since;
    before = db->followed_digest;
    while (fits && records.len && take(db, records, since, chained ? &before : NULL, &h) &&
           apply(db, co_span_of(records.data, (size_t)h.total_bytes), &h)) {
        chained = true;
        before = h.digest;
        since = h.end_lsn;
        records.data += h.total_bytes;
        records.len -= (size_t)h.total_bytes;
        db->n_followed++;
    }
    pthread_cond_broadcast(&db->changed);
    pthread_mutex_unlock(&db->lock);
}
