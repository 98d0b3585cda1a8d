#include "compute-vfs/commit.h"

#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/mutation.h"
#include "compute-vfs/trace.h"

/* A page of the transaction and the last frame that holds it. */
struct written {
    pgno_t pgno;
    uint32_t frame;
};

uint64_t cv_commit_spill_bytes = CV_SPILL_BYTES, cv_commit_max_bytes = CO_TXN_MAX_BYTES;

void cv_commit_discard(struct cv_commit *c)
{
    for (uint32_t i = 0; i < c->n; i++)
        cv_version_free(c->versions[i]);
    c->n = 0;
    cv_spilled_free(c->spilled);
    c->spilled = NULL;
    free(c->pgnos);
    c->pgnos = NULL;
    c->n_pgnos = 0;
    c->frame = 0;
}

void cv_commit_free(struct cv_commit *c)
{
    cv_commit_discard(c);
    free(c->versions);
    wal_builder_free(c->builder);
    memset(c, 0, sizeof *c);
}

/* -- what was written ----------------------------------------------------------------------------
 */

static int by_page(const void *a, const void *b)
{
    const struct written *x = a, *y = b;

    if (x->pgno != y->pgno)
        return x->pgno < y->pgno ? -1 : 1;
    return x->frame < y->frame ? -1 : 1;
}

/* The pages of the frames, ascending, each once: of several frames of a page the last one wins.
 * Pages beyond the end (spilled, then cut off) do not count. */
static int collect(const struct cv_commit_input *in, struct written **out, uint32_t *out_n)
{
    uint32_t frames = in->last_frame - in->first_frame + 1, n = 0, kept = 0;
    struct written *w = malloc(frames * sizeof *w);
    uint8_t header[4];
    bool cut;

    if (!w)
        return co_fail(CO_ERR_NOMEM, "no memory for a commit of %u frames", frames);
    for (uint32_t f = in->first_frame; f <= in->last_frame; f++) {
        int rc = cv_walbuf_read(in->wal, cv_frame_at(f, in->page_size), header, 4, &cut);

        if (rc) {
            free(w);
            return rc;
        }
        w[n].pgno = co_get32be(header);
        w[n].frame = f;
        if (w[n].pgno >= 1 && w[n].pgno <= in->db_pages)
            n++;
    }
    qsort(w, n, sizeof *w, by_page);
    for (uint32_t i = 0; i < n; i++)
        if (i + 1 == n || w[i + 1].pgno != w[i].pgno)
            w[kept++] = w[i];
    *out = w;
    *out_n = kept;
    return 0;
}

/* -- building ------------------------------------------------------------------------------------
 */

static int reserve_versions(struct cv_commit *c, uint32_t n)
{
    struct cv_version **grown;

    if (n <= c->cap)
        return 0;
    grown = realloc(c->versions, n * sizeof *grown);
    if (!grown)
        return co_fail(CO_ERR_NOMEM, "no memory for a commit of %u pages", n);
    c->versions = grown;
    c->cap = n;
    return 0;
}

/* What only SQLite's copy of page 1 says. */
static void put_right(const struct cv_commit_input *in, uint8_t *page)
{
    page[18] = page[19] = 2; /* whoever opens it opens it in WAL mode (M11) */
    page[CV_SCHEMA_MARK_AT] ^= in->schema_mark;
}

static int add_page(struct cv_database *db, lsn_t base_lsn, struct cv_commit *c,
                    const struct cv_commit_input *in, const struct written *w, uint8_t *base)
{
    struct cv_version *v = cv_version_new(w->pgno, in->page_size);
    uint64_t at = cv_frame_at(w->frame, in->page_size) + CV_WAL_FRAME_HEADER;
    lsn_t version_lsn = LSN_NONE;
    bool cut, have;
    uint8_t *page;
    int rc;

    if (!v)
        return co_fail(CO_ERR_NOMEM, "no memory for a page");
    page = cv_version_data(v);
    rc = cv_walbuf_read(in->wal, at, page, in->page_size, &cut);
    if (rc) {
        cv_version_free(v);
        return rc;
    }
    if (w->pgno == 1)
        put_right(in, page);
    pthread_mutex_lock(&db->lock);
    if (co_mutated(DELTA_WRONG_BASE))
        base_lsn = db->known.txn;
    have = cv_cache_peek(db->cache, w->pgno, base_lsn, base, in->page_size, &version_lsn);
    pthread_mutex_unlock(&db->lock);
    c->versions[c->n++] = v;
    return wal_builder_page(c->builder, w->pgno, page, have ? base : NULL, version_lsn);
}

/* The same of a large transaction: no version is kept, and entries go to the file. */
static int spill_page(struct cv_database *db, lsn_t base_lsn, struct cv_commit *c,
                      const struct cv_commit_input *in, const struct written *w, uint8_t *page,
                      uint8_t *base)
{
    uint64_t at = cv_frame_at(w->frame, in->page_size) + CV_WAL_FRAME_HEADER;
    lsn_t version_lsn = LSN_NONE;
    bool cut, have;
    int rc = cv_walbuf_read(in->wal, at, page, in->page_size, &cut);

    if (rc)
        return rc;
    if (w->pgno == 1)
        put_right(in, page);
    pthread_mutex_lock(&db->lock);
    have = cv_cache_peek(db->cache, w->pgno, base_lsn, base, in->page_size, &version_lsn);
    pthread_mutex_unlock(&db->lock);
    rc = wal_builder_page(c->builder, w->pgno, page, have ? base : NULL, version_lsn);
    if (!rc && wal_builder_held(c->builder) >= CV_SPILL_STEP_BYTES)
        rc = cv_spilled_drain(c->spilled, c->builder);
    c->pgnos[c->n_pgnos++] = w->pgno;
    return rc;
}

static int spill_pages(struct cv_database *db, struct cv_handle *h, struct cv_commit *c,
                       const struct cv_commit_input *in, const struct written *w, uint32_t n,
                       uint8_t *base)
{
    uint8_t *page = malloc(in->page_size);
    int rc = cv_spilled_new(&c->spilled);

    c->pgnos = malloc(n * sizeof *c->pgnos);
    if (!rc && (!page || !c->pgnos))
        rc = co_fail(CO_ERR_NOMEM, "no memory for a commit of %u pages", n);
    for (uint32_t i = 0; !rc && i < n; i++)
        rc = spill_page(db, h->snapshot_lsn, c, in, &w[i], page, base);
    free(page);
    return rc;
}

static int add_pages(struct cv_database *db, struct cv_handle *h, struct cv_commit *c,
                     const struct cv_commit_input *in)
{
    struct written *w = NULL;
    uint8_t *base = malloc(in->page_size);
    uint32_t n = 0;
    int rc;

    if (!base)
        return co_fail(CO_ERR_NOMEM, "no memory for a page");
    rc = collect(in, &w, &n);
    if (!rc && (uint64_t)n * in->page_size > cv_commit_max_bytes)
        rc = co_fail(CO_ERR_FULL,
                     "%s: the transaction changes %u pages of %u bytes; %llu MiB is the most that "
                     "one may change. Commit in smaller parts",
                     db->uri.db, n, in->page_size, (unsigned long long)(cv_commit_max_bytes >> 20));
    if (!rc && (uint64_t)n * in->page_size > cv_commit_spill_bytes) {
        rc = spill_pages(db, h, c, in, w, n, base);
    } else {
        if (!rc)
            rc = reserve_versions(c, n);
        for (uint32_t i = 0; !rc && i < n; i++)
            rc = add_page(db, h->snapshot_lsn, c, in, &w[i], base);
    }
    free(w);
    free(base);
    return rc;
}

/* -- admission: what is known to fail fails here
 * --------------------------------------------------- */

static int wait_for_room(struct cv_database *db, uint32_t timeout_ms)
{
    uint64_t started = co_now_us();
    int rc = 0;

    pthread_mutex_lock(&db->lock);
    while (!rc && db->inflight_bytes > CV_INFLIGHT_MAX_BYTES) {
        uint64_t since = db->progress_us > started ? db->progress_us : started;

        if (!cv_wait_until(db, since + (uint64_t)timeout_ms * 1000))
            rc = co_fail(CO_ERR_NO_QUORUM,
                         "%s: %llu MiB of commits are on their way to the safekeepers and none got "
                         "there for %u ms",
                         db->uri.db, (unsigned long long)(db->inflight_bytes >> 20), timeout_ms);
    }
    pthread_mutex_unlock(&db->lock);
    return rc;
}

/* The term may have ended while the transaction was open: it goes on in a new one if nobody else
 * has written. A majority that is away may come back. */
static int lead_again(struct cv_database *db, struct cv_handle *h, uint32_t timeout_ms)
{
    uint64_t until = co_now_us() + (uint64_t)timeout_ms * 1000;
    int rc;

    do
        rc = cv_turn_lead(db, h);
    while ((rc == CO_ERR_NO_QUORUM || rc == CO_ERR_TIMEOUT) && co_now_us() < until);
    return rc == CO_ERR_BUSY || rc == CO_ERR_LOCKED ? CO_ERR_AGAIN : rc;
}

static int admit(struct cv_database *db, struct cv_handle *h, const struct cv_commit_input *in)
{
    char missing[CV_MISSING_MAX];
    uint32_t none_ms = db->log->ops->no_quorum_ms(db->log, sizeof missing, missing);
    int rc = 0;

    if (none_ms > in->timeout_ms)
        return co_fail(CO_ERR_NO_QUORUM,
                       "%s: fewer than a majority of the safekeepers have answered for %u ms; the "
                       "transaction is not committed. Missing: %s",
                       db->uri.db, none_ms, missing);
    rc = db->log->ops->no_room(db->log);
    if (!rc)
        rc = wait_for_room(db, in->timeout_ms);
    if (!rc)
        rc = lead_again(db, h, in->timeout_ms);
    return rc;
}

static int check_form(struct cv_database *db, uint32_t page_size)
{
    int rc = 0;

    pthread_mutex_lock(&db->lock);
    if (db->page_size && db->page_size != page_size)
        rc = co_fail(CO_ERR_INVAL, "%s has pages of %u bytes, not %u", db->uri.db, db->page_size,
                     page_size);
    pthread_mutex_unlock(&db->lock);
    return rc;
}

static int reserve_flight(struct cv_database *db)
{
    int rc = 0;

    pthread_mutex_lock(&db->lock);
    if (db->n_flights == db->cap_flights && db->first_flight > db->cap_flights / 2) {
        db->n_flights -= db->first_flight;
        db->first_unshipped -= db->first_flight;
        memmove(db->flights, db->flights + db->first_flight, db->n_flights * sizeof *db->flights);
        db->first_flight = 0;
    }
    if (db->n_flights == db->cap_flights) {
        uint32_t cap = db->cap_flights ? db->cap_flights * 2 : 64;
        struct cv_flight *grown = realloc(db->flights, cap * sizeof *grown);

        if (grown) {
            db->flights = grown;
            db->cap_flights = cap;
        } else {
            rc = co_fail(CO_ERR_NOMEM, "no memory for a commit");
        }
    }
    pthread_mutex_unlock(&db->lock);
    return rc;
}

int cv_commit_build(struct cv_database *db, struct cv_handle *h, struct cv_commit *c,
                    const struct cv_commit_input *in)
{
    int rc = 0;

    co_assert(h->has_turn && in->first_frame >= 1 && in->first_frame <= in->last_frame);
    cv_commit_discard(c);
    rc = check_form(db, in->page_size);
    if (!rc)
        rc = admit(db, h, in);
    if (!rc && !c->builder)
        rc = wal_builder_new(&c->builder);
    if (rc)
        return rc;
    wal_builder_reset(c->builder, in->page_size);
    rc = add_pages(db, h, c, in);
    if (!rc)
        rc = reserve_flight(db);
    if (rc) {
        cv_commit_discard(c);
        return rc;
    }
    c->frame = in->last_frame;
    c->db_pages = in->db_pages;
    c->page_size = in->page_size;
    c->uuid = co_id_random();
    cv_trace(CV_TRACE_COMMIT_FRAME);
    return 0;
}

/* -- publishing ----------------------------------------------------------------------------------
 */

static int begin_stamp(struct cv_database *db, struct cv_handle *h, const struct cv_commit *c,
                       struct wal_stamp *stamp)
{
    uint64_t now = co_wall_us();

    if (!db->leading || h->dead || h->pin.epoch != db->epoch ||
        (h->snapshot_lsn != db->tip.txn && !co_mutated(STALE_WRITE)))
        return CO_ERR_LOST;
    db->time_us = now > db->time_us ? now : db->time_us + 1;
    *stamp = (struct wal_stamp){
        .cluster = db->timeline.cluster,
        .timeline = db->timeline.timeline,
        .term = db->term,
        .begin_lsn = db->tip.pos,
        .sealed_lsn = db->known.pos,
        .time_us = db->time_us,
        .commit_uuid = c->uuid,
        .prev_digest = db->digest,
        .db_pages = c->db_pages,
    };
    return 0;
}

/* Lock held. The record becomes the tip. */
static void advance_tip(struct cv_database *db, struct cv_handle *h, struct cv_commit *c,
                        const struct wal_stamp *stamp, const struct wal_digest *digest,
                        struct cv_record *record)
{
    lsn_t end = stamp->begin_lsn + cv_record_bytes(record);

    for (uint32_t i = 0; i < c->n; i++)
        cv_cache_publish(db->cache, c->versions[i], end);
    c->n = 0;
    for (uint32_t i = 0; i < c->n_pgnos; i++)
        cv_cache_change(db->cache, c->pgnos[i], end);
    db->flights[db->n_flights++] = (struct cv_flight){.begin_lsn = stamp->begin_lsn,
                                                      .end_lsn = end,
                                                      .db_pages = c->db_pages,
                                                      .term = stamp->term,
                                                      .time_us = stamp->time_us,
                                                      .record = *record,
                                                      .want_received = c->want_received};
    db->inflight_bytes += end - stamp->begin_lsn;
    db->tip = (struct cv_position){end, end, c->db_pages, stamp->time_us};
    db->digest = *digest;
    db->page_size = c->page_size;
    db->n_commits++;
    h->snapshot_lsn = end;
}

int cv_commit_publish(struct cv_database *db, struct cv_handle *h, struct cv_commit *c,
                      struct cv_ticket *ticket)
{
    struct wal_stamp stamp;
    struct wal_digest digest;
    struct cv_record record = {0};
    int rc;

    pthread_mutex_lock(&db->lock);
    rc = begin_stamp(db, h, c, &stamp);
    ticket->epoch = db->epoch;
    pthread_mutex_unlock(&db->lock);
    if (rc)
        goto lost;
    ticket->term = stamp.term;
    ticket->begin_lsn = stamp.begin_lsn;
    if (c->spilled) {
        cv_spilled_seal(c->spilled, c->builder, &stamp);
        digest = c->spilled->header.digest;
        record.spilled = c->spilled;
        c->spilled = NULL;
    } else {
        wal_builder_seal(c->builder, &stamp, &record.bytes, &digest);
    }
    ticket->end_lsn = stamp.begin_lsn + cv_record_bytes(&record);
    pthread_mutex_lock(&db->lock);
    /* Only the handle with the turn moves the tip on; a lost term moves it back. */
    if (db->leading && db->term == stamp.term && db->epoch == ticket->epoch)
        advance_tip(db, h, c, &stamp, &digest, &record);
    else
        rc = CO_ERR_LOST;
    pthread_mutex_unlock(&db->lock);
    if (rc) {
        cv_record_free(&record);
        goto lost;
    }
    cv_commit_discard(c);
    return 0;
lost:
    cv_commit_discard(c);
    return co_fail(
        CO_ERR_LOST,
        "%s: the right to write was lost at the moment of the commit; the transaction is "
        "not committed",
        db->uri.db);
}

/* Records of others, too, that they publish meanwhile: each comes with a transaction of its own, so
 * who ships is soon alone again. */
void cv_commit_ship(struct cv_database *db)
{
    pthread_mutex_lock(&db->lock);
    if (db->shipping) {
        pthread_mutex_unlock(&db->lock);
        return;
    }
    db->shipping = true;
    while (db->first_unshipped < db->n_flights) {
        struct cv_flight f = db->flights[db->first_unshipped];

        db->flights[db->first_unshipped++].record = (struct cv_record){0};
        pthread_mutex_unlock(&db->lock);
        db->log->ops->append(db->log, f.term, &f.record, f.want_received);
        cv_record_free(&f.record);
        cv_trace(CV_TRACE_SHIPPED);
        pthread_mutex_lock(&db->lock);
    }
    db->shipping = false;
    if (db->release_due)
        pthread_cond_signal(&db->keeper_wake);
    pthread_mutex_unlock(&db->lock);
}
