/*
 * bulk.c - whole pages into an empty branch, in many commits (proto/bulk.h).
 *
 * A batch goes the way of any transaction (commit.h), from a WAL of its own, but the turn is kept
 * from the first to the last, and a commit is waited for only when BEHIND more were shipped: pages
 * are compressed while earlier ones are on their way.
 */
#include <stdlib.h>
#include <string.h>

#include "common/clock_file.h"
#include "compute-vfs/errors.h"
#include "compute-vfs/vfs.h"
#include "proto/bulk.h"

#define BEHIND 16u /* commits on their way: of a MiB each */
#define TRIES  5u
#define TRY_MS CO_READ_TIMEOUT_MS

struct cv_bulk {
    struct cv_walbuf wal;
    struct cv_commit commit;
    struct cv_ticket ticket[BEHIND];
    uint64_t n; /* commits that were shipped */
    bool wrote;
};

void cv_bulk_free(struct cv_conn *c)
{
    struct cv_bulk *b = c->bulk;

    if (!b)
        return;
    if (c->db && !cv_conn_forked(c)) {
        if (c->handle.has_turn)
            cv_turn_give_back(c->db, &c->handle);
        cv_database_unpin(c->db, &c->handle);
    }
    cv_commit_free(&b->commit);
    cv_walbuf_free(&b->wal);
    free(b);
    c->bulk = NULL;
}

/* The head, and the turn to write behind it. */
static int take_turn(struct cv_conn *c)
{
    /* Commits of another connection may be on their way still: the tip, not what is durable. */
    struct cv_pin_request request = {.want_tip = true, .timeout_ms = TRY_MS};
    enum cv_turn turn = CV_TURN_STALE;
    bool speculative;

    for (unsigned i = 0; i < TRIES; i++) {
        int rc = cv_database_pin(c->db, &c->handle, &request, &speculative);

        if (rc)
            return rc;
        rc = cv_turn_take(c->db, &c->handle, false, &turn);
        if (rc == 0 && turn == CV_TURN_GRANTED)
            return 0;
        cv_database_unpin(c->db, &c->handle);
        if (rc && rc != CO_ERR_BUSY && rc != CO_ERR_LOCKED)
            return rc;
    }
    return co_fail(CO_ERR_BUSY, "%s/%s is being written by somebody else", c->uri.db,
                   c->uri.branch);
}

static int ensure_born(struct cv_conn *c)
{
    bool born;

    pthread_mutex_lock(&c->db->lock);
    born = c->db->born;
    pthread_mutex_unlock(&c->db->lock);
    return born ? 0 : cv_database_create(c->db, TRY_MS);
}

static int begin(struct cv_conn *c, struct bulk_request *r)
{
    int rc;

    if (c->bulk || c->reading || c->slot0 || c->readonly || c->at)
        return co_fail(CO_ERR_INVAL, "%s: pages can be written only outside of transactions",
                       c->uri.db);
    c->bulk = calloc(1, sizeof *c->bulk);
    if (!c->bulk)
        return co_fail(CO_ERR_NOMEM, "no memory for an import");
    cv_walbuf_init(&c->bulk->wal);
    rc = ensure_born(c);
    if (!rc)
        rc = take_turn(c);
    if (rc) {
        cv_bulk_free(c);
        return rc;
    }
    r->db_pages = c->handle.pin.lsn == LSN_NONE ? 0 : c->handle.pin.db_pages;
    pthread_mutex_lock(&c->db->lock);
    r->page_size = r->db_pages ? c->db->page_size : 0;
    pthread_mutex_unlock(&c->db->lock);
    return 0;
}

static bool is_lock_page(const struct bulk_request *r, pgno_t pgno)
{
    return (uint64_t)(pgno - 1) * r->page_size == cv_lock_byte_at;
}

static int check_range(const struct bulk_request *r)
{
    if (r->n >= 1 && r->n <= bulk_most(r->page_size) && r->first >= 1 && r->first <= r->db_pages &&
        r->n - 1 <= r->db_pages - r->first)
        return 0;
    return co_fail(CO_ERR_INVAL, "pages %u and %u more of %u cannot be taken at once", r->first,
                   r->n, r->db_pages);
}

static int read_pages(struct cv_conn *c, const struct bulk_request *r)
{
    int rc = check_range(r);

    if (!rc && (c->bulk->wrote || r->db_pages > c->handle.pin.db_pages))
        rc = co_fail(CO_ERR_INVAL, "%s has no such pages to read", c->uri.db);
    for (uint32_t i = 0; !rc && i < r->n; i++) {
        uint8_t *page = r->data + (size_t)i * r->page_size;

        if (is_lock_page(r, r->first + i))
            memset(page, 0, r->page_size);
        else
            rc = cv_database_read_page(c->db, &c->handle, &c->ahead, &c->handle.pin, r->first + i,
                                       page, r->page_size, TRY_MS);
    }
    return rc;
}

/* The pages as frames, as SQLite would have written them. */
static int fill_wal(struct cv_walbuf *wal, const struct bulk_request *r, uint32_t *frames)
{
    int rc = 0;

    *frames = 0;
    cv_walbuf_truncate(wal, 0);
    for (uint32_t i = 0; !rc && i < r->n; i++) {
        uint8_t header[CV_WAL_FRAME_HEADER] = {0};
        uint64_t at = cv_frame_at(*frames + 1, r->page_size);

        if (is_lock_page(r, r->first + i))
            continue;
        co_put32be(header, r->first + i);
        rc = cv_walbuf_write(wal, at, header, sizeof header);
        if (!rc)
            rc = cv_walbuf_write(wal, at + sizeof header, r->data + (size_t)i * r->page_size,
                                 r->page_size);
        ++*frames;
    }
    return rc;
}

static int wait_for(struct cv_conn *c, const struct cv_ticket *t)
{
    int rc = cv_era_wait(c->db, t, false, c->uri.commit_timeout_ms);

    if (rc)
        return co_fail(rc,
                       "%s/%s: commits of the import were lost, or a majority of the safekeepers "
                       "did not answer for %u ms; what was committed before is there",
                       c->uri.db, c->uri.branch, c->uri.commit_timeout_ms);
    cv_pacer_commit(c->db, t);
    return 0;
}

static int write_pages(struct cv_conn *c, const struct bulk_request *r)
{
    struct cv_bulk *b = c->bulk;
    struct cv_ticket *ticket = &b->ticket[b->n % BEHIND];
    struct cv_commit_input in = {.wal = &b->wal,
                                 .first_frame = 1,
                                 .page_size = r->page_size,
                                 .db_pages = r->db_pages,
                                 .timeout_ms = c->uri.commit_timeout_ms};
    int rc = check_range(r);

    if (!rc && b->n >= BEHIND)
        rc = wait_for(c, ticket);
    if (!rc)
        rc = fill_wal(&b->wal, r, &in.last_frame);
    if (rc || in.last_frame == 0)
        return rc;
    rc = cv_commit_build(c->db, &c->handle, &b->commit, &in);
    if (rc == CO_ERR_AGAIN)
        rc = co_fail(CO_ERR_LOST, "%s/%s: another writer took over", c->uri.db, c->uri.branch);
    if (!rc)
        rc = cv_commit_publish(c->db, &c->handle, &b->commit, ticket);
    if (rc)
        return rc;
    cv_commit_ship(c->db);
    b->n++;
    b->wrote = true;
    return 0;
}

static int end(struct cv_conn *c)
{
    struct cv_bulk *b = c->bulk;
    int rc = 0;

    for (uint64_t i = b->n > BEHIND ? b->n - BEHIND : 0; !rc && i < b->n; i++)
        rc = wait_for(c, &b->ticket[i % BEHIND]);
    c->header_valid = false;
    cv_bulk_free(c);
    return rc;
}

static int code_of(int rc)
{
    return rc == CO_ERR_FULL || rc == CO_ERR_TOO_LARGE ? SQLITE_FULL
           : rc == CO_ERR_BUSY                         ? SQLITE_BUSY
           : rc == CO_ERR_NOMEM                        ? SQLITE_NOMEM
                                                       : SQLITE_IOERR;
}

int cv_bulk(struct cv_conn *c, struct bulk_request *r)
{
    int rc;

    if (r->what == BULK_BEGIN)
        rc = begin(c, r);
    else if (!c->bulk)
        rc = co_fail(CO_ERR_INVAL, "%s: no import has begun", c->uri.db);
    else if (r->what == BULK_READ)
        rc = read_pages(c, r);
    else if (r->what == BULK_WRITE)
        rc = write_pages(c, r);
    else
        rc = end(c);
    return rc ? cv_report_sentence(code_of(rc)) : SQLITE_OK;
}
