#include "safekeeper/mend_archive.h"

#include <stdio.h>
#include <stdlib.h>

#include "archive/report.h"

/* A place that is not there, or slow, is the archive's trouble and not this node's disk's. */
static int theirs(int rc)
{
    char why[CO_SENTENCE_MAX - 8];
    if (rc == 0 || rc == CO_ERR_CORRUPT || rc == CO_ERR_VERSION || rc == CO_ERR_NOMEM)
        return rc;
    snprintf(why, sizeof why, "%s", co_sentence());
    return co_fail(rc == CO_ERR_NOT_FOUND ? rc : CO_ERR_CONNECT, "%s", why);
}

static void forget(struct sk_mend_archive *a)
{
    free(a->chunks);
    a->chunks = NULL;
    a->n = 0;
    a->held = (struct ar_chunk){0};
    a->timeline = (struct co_id){{0}};
}

/* Which objects there are of this timeline, and up to where they count. */
static int choose(struct sk_mend_archive *a, const struct co_id *cluster,
                  const struct co_id *timeline)
{
    Corallite__ArchiveState *state;
    struct ar_line line;
    char id[CO_ID_TEXT];
    forget(a);
    int rc = a->store ? 0 : ar_open(a->url, &(struct ar_options){.read_only = true}, &a->store);
    if (!rc)
        rc = ar_newest_state(a->store, cluster, NULL, &state);
    if (rc)
        return rc;
    if (ar_line_find(state, timeline, &line))
        a->end = line.end;
    else
        rc = co_fail(CO_ERR_NOT_FOUND, "the archive %s tells nothing of timeline %s",
                     ar_url(a->store), co_id_format(timeline, id));
    corallite__archive_state__free_unpacked(state, NULL);
    if (!rc)
        rc = ar_chunks(a->store, cluster, timeline, &a->chunks, &a->n);
    a->cluster = *cluster;
    a->timeline = rc ? (struct co_id){{0}} : *timeline;
    return rc;
}

/* Holds the object that has the byte at `lsn` and reaches furthest. */
static int hold(struct sk_mend_archive *a, lsn_t lsn)
{
    const struct ar_chunk *best = NULL;
    char at[LSN_TEXT], id[CO_ID_TEXT];
    if (lsn >= a->held.begin && lsn < a->held.end)
        return 0;
    for (uint32_t i = 0; i < a->n; i++)
        if (a->chunks[i].begin <= lsn && a->chunks[i].end > lsn &&
            (!best || a->chunks[i].end > best->end))
            best = &a->chunks[i];
    if (!best)
        return co_fail(
            CO_ERR_CORRUPT,
            "the archive %s lacks a part: no object has the log of timeline %s at LSN %s",
            ar_url(a->store), co_id_format(&a->timeline, id), lsn_format(lsn, at));
    a->bytes.len = 0;
    a->held = (struct ar_chunk){0};
    int rc = ar_chunk_get(a->store, &a->cluster, &a->timeline, best, &a->bytes);
    if (!rc)
        a->held = *best;
    return rc;
}

/* Bytes [lsn, lsn + max), fewer at the end of what is archived. */
static int get(struct sk_mend_archive *a, lsn_t lsn, size_t max, struct co_buf *out)
{
    lsn_t to = lsn < a->end && a->end - lsn < max ? a->end : lsn + max;
    int rc = 0;
    for (; !rc && lsn < to && lsn < a->end;) {
        rc = hold(a, lsn);
        if (rc)
            break;
        lsn_t upto = a->held.end < to ? a->held.end : to;
        rc = co_buf_append(out, a->bytes.data + (lsn - a->held.begin), (size_t)(upto - lsn));
        lsn = upto;
    }
    return rc;
}

/* How much of it is whole records; 0 and *large: the first is larger than a batch. */
static size_t whole_records(struct co_span bytes, bool *large)
{
    size_t done = 0;
    *large = false;
    while (done < bytes.len) {
        struct wal_header h;
        if (wal_peek(co_span_of(bytes.data + done, bytes.len - done), &h))
            break;
        *large = done == 0 && h.total_bytes > CO_BATCH_BYTES;
        if (h.total_bytes > bytes.len - done)
            break;
        done += (size_t)h.total_bytes;
    }
    return done;
}

int sk_mend_archive_read(struct sk_mend_archive *a, const struct co_id *cluster,
                         const struct co_id *timeline, lsn_t lsn, uint64_t at, struct co_buf *out,
                         bool *fragment)
{
    size_t before = out->len;
    int rc = co_id_eq(&a->timeline, timeline) ? 0 : choose(a, cluster, timeline);
    if (!rc)
        rc = get(a, lsn + at, CO_BATCH_BYTES, out);
    *fragment = at != 0;
    if (rc || at || out->len == before)
        return theirs(rc);
    size_t whole = whole_records(co_span_of(out->data + before, out->len - before), fragment);
    if (!*fragment && whole == 0)
        return co_fail(CO_ERR_CORRUPT, "its log there is no record");
    if (!*fragment)
        out->len = before + whole;
    return 0;
}

void sk_mend_archive_close(struct sk_mend_archive *a)
{
    forget(a);
    co_buf_free(&a->bytes);
    ar_close(a->store);
    a->store = NULL;
}
