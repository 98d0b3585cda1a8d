#include "archive/walk.h"

#include <stdio.h>

void ar_walk_init(struct ar_walk *w, const struct co_id *cluster, const struct co_id *timeline,
                  lsn_t start, const struct wal_digest *digest)
{
    *w = (struct ar_walk){
        .cluster = *cluster, .timeline = *timeline, .end = start, .digest = *digest};
}

void ar_walk_free(struct ar_walk *w)
{
    co_buf_free(&w->pending);
    wal_stream_free(w->stream);
    w->stream = NULL;
}

void ar_walk_rewind(struct ar_walk *w)
{
    w->pending.len = 0;
    w->large = false;
}

lsn_t ar_walk_next(const struct ar_walk *w)
{
    return w->end + (w->large ? wal_stream_got(w->stream) : w->pending.len);
}

static int bad(const struct ar_walk *w, const char *what)
{
    char id[CO_ID_TEXT], lsn[LSN_TEXT], why[CO_SENTENCE_MAX / 2];
    snprintf(why, sizeof why, "%s", what);
    return co_fail(CO_ERR_CORRUPT, "the log of timeline %s is not sound at LSN %s: %s",
                   co_id_format(&w->timeline, id), lsn_format(w->end, lsn), why);
}

/* Is it the record that comes next? */
static int follows(const struct ar_walk *w, const struct wal_header *h)
{
    if (!co_id_eq(&h->cluster, &w->cluster) || !co_id_eq(&h->timeline, &w->timeline))
        return bad(w, "a record of another timeline or cluster is there");
    if (h->begin_lsn != w->end)
        return bad(w, "a record of another place is there");
    if (memcmp(h->prev_digest.b, w->digest.b, sizeof w->digest.b) != 0)
        return bad(w, "the record there does not follow the one before");
    if (h->term < w->term)
        return bad(w, "the record there is of an older term than the one before");
    return 0;
}

static void advance(struct ar_walk *w, const struct wal_header *h)
{
    w->end = h->end_lsn;
    w->digest = h->digest;
    w->term = h->term;
    if (h->kind == WAL_TXN)
        w->time_us = h->time_us;
    w->records++;
}

static int take_whole(struct ar_walk *w, struct co_span record, const struct ar_sink *sink)
{
    struct wal_header h;
    int rc = wal_check(record, &h);
    if (rc == CO_ERR_AGAIN)
        return bad(w, "the record there ends too early");
    if (!rc)
        rc = wal_check_digest(record, &h);
    if (rc)
        return rc == CO_ERR_NOMEM || rc == CO_ERR_VERSION ? rc : bad(w, co_sentence());
    rc = follows(w, &h);
    if (!rc && h.kind == WAL_CONFIG)
        rc = wal_read_config(record, &h, &w->config);
    if (!rc && sink && sink->whole)
        rc = sink->whole(sink->owner, record, &h);
    if (!rc)
        advance(w, &h);
    return rc;
}

/* The next bytes of a large record, of which some came. *used: how many of them are its. */
static int take_piece(struct ar_walk *w, struct co_span bytes, const struct ar_sink *sink,
                      size_t *used)
{
    enum wal_stream_step step = WAL_STREAM_ENTRY;
    struct wal_entry entry;
    uint64_t at = wal_stream_got(w->stream), left = wal_stream_left(w->stream);
    size_t n = bytes.len < CO_BATCH_BYTES ? bytes.len : (size_t)CO_BATCH_BYTES;
    struct co_span piece = co_span_of(bytes.data, left < n ? (size_t)left : n);
    int rc = wal_stream_feed(w->stream, piece);
    while (!rc && step == WAL_STREAM_ENTRY)
        rc = wal_stream_next(w->stream, &step, &entry);
    if (rc)
        return rc == CO_ERR_NOMEM || rc == CO_ERR_VERSION ? rc : bad(w, co_sentence());
    const struct wal_header *h = wal_stream_header(w->stream);
    bool last = step == WAL_STREAM_END;
    if (at == 0)
        rc = follows(w, h);
    if (!rc && sink && sink->piece)
        rc = sink->piece(sink->owner, w->end, at, piece, last ? h : NULL);
    *used = piece.len;
    if (rc || !last)
        return rc;
    struct wal_header done = *h;
    advance(w, &done);
    w->large = false;
    return 0;
}

static int begin_large(struct ar_walk *w)
{
    int rc = w->stream ? 0 : wal_stream_new(&w->stream);
    if (rc)
        return rc;
    wal_stream_reset(w->stream);
    w->large = true;
    return 0;
}

/* What can be made of `pending`; *more: more bytes are needed first. */
static int step(struct ar_walk *w, struct co_span bytes, const struct ar_sink *sink, size_t *used,
                bool *more)
{
    struct wal_header h;
    *used = 0;
    *more = bytes.len == 0;
    if (*more)
        return 0;
    if (w->large)
        return take_piece(w, bytes, sink, used);
    int rc = wal_peek(bytes, &h);
    if (rc == CO_ERR_AGAIN) {
        *more = true;
        return 0;
    }
    if (rc)
        return rc == CO_ERR_VERSION ? rc : bad(w, co_sentence());
    if (h.total_bytes > CO_BATCH_BYTES)
        return begin_large(w);
    if (bytes.len < h.total_bytes) {
        *more = true;
        return 0;
    }
    *used = (size_t)h.total_bytes;
    return take_whole(w, co_span_of(bytes.data, *used), sink);
}

int ar_walk_feed(struct ar_walk *w, struct co_span bytes, const struct ar_sink *sink)
{
    int rc = 0;
    bool more = false;
    size_t used;
    if (w->pending
            .len) { /* at most a small record: what is needed of `bytes` is not known before */
        rc = co_buf_append(&w->pending, bytes.data, bytes.len);
        bytes = co_buf_span(&w->pending);
    }
    size_t done = 0;
    while (!rc && !more) {
        rc = step(w, co_span_of(bytes.data + done, bytes.len - done), sink, &used, &more);
        if (!rc)
            done += used;
    }
    if (rc)
        return rc;
    if (w->pending.len)
        co_buf_consume(&w->pending, done);
    else if (done < bytes.len)
        rc = co_buf_append(&w->pending, bytes.data + done, bytes.len - done);
    return rc;
}
