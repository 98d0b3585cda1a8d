#include "pageserver/ingest.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"

static int contradiction(const struct ps_chain *chain, const char *what)
{
    char id[CO_ID_TEXT], at[LSN_TEXT];
    return co_fail(CO_ERR_HALTED,
                   "timeline %s is halted at LSN %s: the next record %s; nothing behind it is "
                   "taken, pages up to there are served",
                   co_id_format(&chain->timeline, id), lsn_format(chain->last_lsn, at), what);
}

static int check_identity(const struct ps_chain *chain, const struct wal_header *h)
{
    if (!co_id_eq(&h->cluster, &chain->cluster))
        return contradiction(chain, "is of another cluster");
    if (!co_id_eq(&h->timeline, &chain->timeline))
        return contradiction(chain, "is of another timeline");
    if (h->begin_lsn != chain->last_lsn)
        return contradiction(chain, h->begin_lsn > chain->last_lsn ? "begins behind a gap"
                                                                   : "begins before this LSN");
    if (memcmp(h->prev_digest.b, chain->digest.b, sizeof chain->digest.b) != 0)
        return contradiction(chain, "follows another record than the one that ends here");
    return 0;
}

static int check_page_size(const struct ps_chain *chain, const struct wal_header *h)
{
    uint32_t size = h->page_size;
    if (h->kind != WAL_TXN)
        return 0;
    if (size < CO_PAGE_SIZE_MIN || size > CO_PAGE_SIZE_MAX || (size & (size - 1)))
        return contradiction(chain, "has a page size that SQLite does not know");
    if (chain->page_size && size != chain->page_size)
        return contradiction(chain, "has another page size than those before it");
    return 0;
}

int ps_chain_check(const struct ps_chain *chain, struct co_span bytes, struct wal_header *out)
{
    int rc = wal_check(bytes, out);
    if (rc == CO_ERR_AGAIN)
        return co_fail(CO_ERR_PROTOCOL, "a batch of %zu bytes ends within a record", bytes.len);
    if (!rc)
        rc = check_identity(chain, out);
    if (!rc)
        rc = check_page_size(chain, out);
    if (rc)
        return rc;
    if (wal_check_digest(co_span_of(bytes.data, (size_t)out->total_bytes), out))
        return contradiction(chain, "has another digest than its content");
    return 0;
}

/* Scratch of one ps_ingest call. */
struct work {
    uint8_t *base, *page;    /* CO_PAGE_SIZE_MAX each */
    struct ps_partial small; /* only its list of pages is used */
};

static int remember(struct ps_partial *w, pgno_t pgno)
{
    if (w->n == w->cap) {
        uint32_t cap = w->cap ? w->cap * 2 : 64;
        pgno_t *more = realloc(w->pgnos, cap * sizeof *more);
        if (!more)
            return co_fail(CO_ERR_NOMEM, "no memory for a list of %u pages", cap);
        w->pgnos = more;
        w->cap = cap;
    }
    w->pgnos[w->n++] = pgno;
    return 0;
}

static int bad_entry(const struct ps_chain *chain, pgno_t pgno)
{
    char what[700];
    int n =
        snprintf(what, sizeof what, "cannot be applied to page %u (%.600s)", pgno, co_sentence());
    co_assert(n > 0);
    return contradiction(chain, what);
}

static int take_entry(const struct ps_chain *chain, const struct wal_header *h,
                      const struct wal_entry *e, const struct ps_sink *sink, struct work *w,
                      struct ps_partial *list)
{
    const uint8_t *base = NULL;
    if (e->encoding == WAL_DELTA) {
        if (e->base_lsn > h->begin_lsn)
            return contradiction(chain, "has a delta against something newer than its begin");
        int rc = sink->base(sink->owner, e->pgno, e->base_lsn, h->page_size, w->base);
        if (rc == CO_ERR_NOT_FOUND)
            return bad_entry(chain, e->pgno);
        if (rc)
            return rc;
        base = w->base;
    }
    if (wal_apply(e, h->page_size, base, w->page, sink->dctx))
        return bad_entry(chain, e->pgno);
    /* What its writer tried in vain to compress is not tried again. */
    struct co_span zstd = e->encoding == WAL_ZSTD    ? e->data
                          : e->encoding == WAL_IMAGE ? co_span_of(w->page, h->page_size)
                                                     : co_span_of(NULL, 0);
    int rc = sink->put(sink->owner, e->pgno, h->end_lsn, w->page, h->page_size, e->page_crc, zstd);
    return rc ? rc : remember(list, e->pgno);
}

static struct ps_commit commit_of(const struct wal_header *h)
{
    return (struct ps_commit){.lsn = h->end_lsn,
                              .time_us = h->time_us,
                              .db_pages = h->db_pages,
                              .page_size = h->page_size,
                              .digest = h->digest};
}

static int take_txn(const struct ps_chain *chain, const struct wal_header *h, struct co_span record,
                    const struct ps_sink *sink, struct work *w)
{
    struct wal_cursor cursor;
    struct wal_entry entry;
    w->small.n = 0;
    wal_cursor_init(&cursor, record, h);
    while (wal_cursor_next(&cursor, &entry)) {
        int rc = take_entry(chain, h, &entry, sink, w, &w->small);
        if (rc)
            return rc;
    }
    struct ps_commit commit = commit_of(h);
    return sink->commit(sink->owner, &commit, w->small.pgnos, w->small.n);
}

/* As it stands behind this record, but for what a TXN says of the database. */
static struct ps_chain behind(const struct ps_chain *chain, const struct wal_header *h)
{
    struct ps_chain next = *chain;
    next.last_lsn = h->end_lsn;
    next.digest = h->digest;
    next.term = h->term;
    return next;
}

static int take_record(struct ps_chain *chain, struct co_span bytes, const struct ps_sink *sink,
                       struct work *w, size_t *used)
{
    struct wal_header h;
    int rc = ps_chain_check(chain, bytes, &h);
    if (rc)
        return rc;
    struct ps_chain next = behind(chain, &h);
    if (h.kind == WAL_TXN) {
        rc = take_txn(chain, &h, co_span_of(bytes.data, (size_t)h.total_bytes), sink, w);
        next.page_size = h.page_size;
        next.newest = commit_of(&h);
    }
    if (!rc)
        rc = sink->done(sink->owner, &next);
    if (rc)
        return rc;
    *chain = next;
    *used = (size_t)h.total_bytes;
    return 0;
}

/* -- A large record, piece by piece ------------------------------------------------------------ */

void ps_partial_reset(struct ps_partial *p)
{
    p->active = false;
    p->n = 0;
    p->verdict = 0;
    if (p->stream)
        wal_stream_reset(p->stream);
}

void ps_partial_free(struct ps_partial *p)
{
    wal_stream_free(p->stream);
    free(p->pgnos);
    *p = (struct ps_partial){0};
}

/* What co_sentence() says is so if the CRC proves the record. */
static void suspect(struct ps_partial *p, int rc)
{
    p->verdict = rc;
    snprintf(p->why, sizeof p->why, "%s", co_sentence());
}

static int begin_partial(const struct ps_chain *chain, struct ps_partial *p, struct co_span piece,
                         const struct ps_sink *sink)
{
    if (!p->stream && wal_stream_new(&p->stream))
        return CO_ERR_NOMEM;
    ps_partial_reset(p);
    int rc = sink->settle(sink->owner);
    if (!rc)
        rc = wal_stream_feed(p->stream, piece);
    if (rc)
        return rc;
    p->active = true;
    const struct wal_header *h = wal_stream_header(p->stream);
    rc = check_identity(chain, h);
    if (!rc)
        rc = check_page_size(chain, h);
    if (rc)
        suspect(p, rc);
    return 0;
}

static int end_partial(struct ps_chain *chain, struct ps_partial *p, const struct ps_sink *sink)
{
    const struct wal_header *h = wal_stream_header(p->stream);
    struct ps_chain next = behind(chain, h);
    struct ps_commit commit = commit_of(h);
    if (p->verdict)
        return co_fail(p->verdict, "%s", p->why);
    next.page_size = h->page_size;
    next.newest = commit;
    int rc = sink->commit(sink->owner, &commit, p->pgnos, p->n);
    if (!rc)
        rc = sink->done(sink->owner, &next);
    if (!rc)
        rc = sink->settle(sink->owner);
    if (rc)
        return rc;
    *chain = next;
    ps_partial_reset(p);
    return 0;
}

/* The next bytes of the large record: *used of them are its own. *whole: it is done. */
static int take_piece(struct ps_chain *chain, struct ps_partial *p, uint64_t left,
                      struct co_span bytes, const struct ps_sink *sink, struct work *w,
                      size_t *used, bool *whole)
{
    enum wal_stream_step step;
    struct wal_entry entry;
    *used = left < bytes.len ? (size_t)left : bytes.len;
    *whole = false;
    struct co_span piece = co_span_of(bytes.data, *used);
    int rc = p->active ? wal_stream_feed(p->stream, piece) : begin_partial(chain, p, piece, sink);
    while (!rc) {
        rc = wal_stream_next(p->stream, &step, &entry);
        if (rc || step != WAL_STREAM_ENTRY)
            break;
        if (p->verdict)
            continue;
        rc = take_entry(chain, wal_stream_header(p->stream), &entry, sink, w, p);
        if (rc == CO_ERR_HALTED) {
            suspect(p, rc);
            rc = 0;
        }
    }
    if (!rc && step == WAL_STREAM_END) {
        *whole = true;
        rc = end_partial(chain, p, sink);
    }
    return rc;
}

/* Does a record begin here that comes in pieces? How many bytes of it are to come. */
static bool is_large(const struct ps_partial *p, struct co_span bytes, uint64_t *left)
{
    struct wal_header h;
    if (p->active) {
        *left = wal_stream_left(p->stream);
        return true;
    }
    if (wal_peek(bytes, &h) || h.total_bytes <= CO_BATCH_BYTES || h.kind != WAL_TXN)
        return false;
    *left = h.total_bytes;
    return true;
}

int ps_ingest(struct ps_chain *chain, struct ps_partial *partial, struct co_span bytes,
              const struct ps_sink *sink, uint32_t *n_records)
{
    struct work w = {.base = malloc(CO_PAGE_SIZE_MAX), .page = malloc(CO_PAGE_SIZE_MAX)};
    int rc = w.base && w.page ? 0 : co_fail(CO_ERR_NOMEM, "no memory to ingest with");
    *n_records = 0;
    while (!rc && bytes.len) {
        size_t used = 0;
        uint64_t left;
        bool whole = true;
        if (is_large(partial, bytes, &left))
            rc = take_piece(chain, partial, left, bytes, sink, &w, &used, &whole);
        else
            rc = take_record(chain, bytes, sink, &w, &used);
        if (!rc && whole)
            ++*n_records;
        bytes = co_span_of(bytes.data + used, bytes.len - used);
    }
    free(w.base);
    free(w.page);
    free(w.small.pgnos);
    return rc;
}
