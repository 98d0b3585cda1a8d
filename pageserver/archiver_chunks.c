/*
 * archiver_chunks.c - the objects of one timeline's log.
 *
 * A round puts what has come since the one before, however little. So that years of a quiet
 * database are not millions of objects, small ones are merged: MERGE_N neighbours of one size level
 * become one of the next, so that each byte is written some four times in all. The merged one is
 * there before the small ones go; a crash in between leaves both, and the next listing takes away
 * what another one covers.
 */
#include <stdlib.h>

#include "pageserver/archiver_int.h"
#include "pageserver/metrics.h"

#define MERGE_N    16u
#define FULL_BYTES (AR_CHUNK_BYTES / 4 * 3)
#define CLASSES    4u /* below 4 KiB, 64 KiB, 1 MiB, full */

static uint64_t class_limit(unsigned level)
{
    static const uint64_t limits[CLASSES] = {4 * CO_KIB, 64 * CO_KIB, CO_MIB, FULL_BYTES};
    return limits[level];
}

static int remove_chunk(struct ps_archiver *a, const struct ps_archived *t,
                        const struct ar_chunk *chunk)
{
    char name[AR_NAME_TEXT];
    return ar_remove(a->store, ar_name_log(&a->cluster, &t->id, chunk, name));
}

/* What lies below the begin; a crash may have left it (V7). */
static int prune_chunk(struct ps_archiver *a, const struct ps_archived *t,
                       const struct ar_chunk *chunk)
{
    int rc = remove_chunk(a, t, chunk);
    if (!rc && a->pruning) {
        a->pruning->log_objects++;
        a->pruning->log_bytes += chunk->end - chunk->begin;
    }
    return rc;
}

static int keep(struct ps_archived *t, const struct ar_chunk *chunk)
{
    if (t->n == t->cap) {
        uint32_t cap = t->cap ? 2 * t->cap : 16;
        struct ar_chunk *c = realloc(t->chunks, cap * sizeof *c);
        if (!c)
            return co_fail(CO_ERR_NOMEM, "no memory for a list of %u objects", cap);
        t->chunks = c;
        t->cap = cap;
    }
    t->chunks[t->n++] = *chunk;
    return 0;
}

static int put_chunk(struct ps_archiver *a, struct ps_archived *t, lsn_t begin,
                     struct co_span bytes, struct ar_chunk *out)
{
    char name[AR_NAME_TEXT];
    *out = (struct ar_chunk){.begin = begin, .end = begin + bytes.len};
    ar_sum(bytes, &out->sum);
    int rc = ar_put(a->store, ar_name_log(&a->cluster, &t->id, out, name), bytes);
    if (!rc) {
        co_metric_add(&ps_m_archive_bytes, bytes.len);
        co_metric_add(&ps_m_archive_puts, 1);
    }
    return rc;
}

int ps_chunks_put(struct ps_archiver *a, struct ps_archived *t, lsn_t begin, struct co_span bytes)
{
    struct ar_chunk chunk;
    int rc = put_chunk(a, t, begin, bytes, &chunk);
    return rc ? rc : keep(t, &chunk);
}

/* -- Listing ----------------------------------------------------------------------------------- */

/* One that straddles the end is put again as far as it counts. */
static int trim(struct ps_archiver *a, struct ps_archived *t, struct ar_chunk *chunk)
{
    struct co_buf bytes = {0};
    struct ar_chunk shorter;
    int rc = ar_chunk_get(a->store, &a->cluster, &t->id, chunk, &bytes);
    if (!rc)
        rc = put_chunk(a, t, chunk->begin, co_span_of(bytes.data, (size_t)(t->end - chunk->begin)),
                       &shorter);
    if (!rc)
        rc = remove_chunk(a, t, chunk);
    if (!rc)
        *chunk = shorter;
    co_buf_free(&bytes);
    return rc;
}

static bool covered(const struct ps_archived *t, const struct ar_chunk *chunk)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (t->chunks[i].begin <= chunk->begin && t->chunks[i].end >= chunk->end)
            return true;
    return false;
}

/* Of two with the same begin the longer one first, so that it is known when the other is judged. */
static int by_place(const void *a, const void *b)
{
    const struct ar_chunk *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end > y->end ? -1 : x->end < y->end;
}

int ps_chunks_list(struct ps_archiver *a, struct ps_archived *t)
{
    struct ar_chunk *all;
    uint32_t n;
    if (t->listed)
        return 0;
    t->n = 0;
    int rc = ar_chunks(a->store, &a->cluster, &t->id, &all, &n);
    if (!rc && n)
        qsort(all, n, sizeof *all, by_place);
    for (uint32_t i = 0; i < n && !rc; i++) {
        if (all[i].end <= t->kept_told) {
            rc = prune_chunk(a, t, &all[i]);
            continue;
        }
        if (all[i].begin >= t->end || covered(t, &all[i])) {
            rc = remove_chunk(a, t, &all[i]);
            continue;
        }
        if (all[i].end > t->end)
            rc = trim(a, t, &all[i]);
        if (!rc)
            rc = keep(t, &all[i]);
    }
    free(all);
    t->listed = !rc;
    return rc;
}

/* -- Merging ----------------------------------------------------------------------------------- */

static unsigned class_of(const struct ar_chunk *c)
{
    unsigned level = 0;
    while (level < CLASSES && c->end - c->begin >= class_limit(level))
        level++;
    return level;
}

/* The newest run of chunks of this level, one behind the other; those behind it are smaller, and
 * left alone: so each byte is written again once a level. */
static uint32_t run_of(const struct ps_archived *t, unsigned level, uint32_t *from, uint64_t *bytes)
{
    uint32_t last = t->n, n = 0;
    *bytes = 0;
    while (last > 0 && class_of(&t->chunks[last - 1]) < level)
        last--;
    for (; n < last && class_of(&t->chunks[last - 1 - n]) == level; n++) {
        const struct ar_chunk *c = &t->chunks[last - 1 - n];
        if ((n > 0 && c->end != c[1].begin) || *bytes + (c->end - c->begin) > AR_CHUNK_BYTES)
            break;
        *bytes += c->end - c->begin;
    }
    *from = last - n;
    return n;
}

static int merge(struct ps_archiver *a, struct ps_archived *t, uint32_t from, uint32_t n)
{
    struct ar_chunk *first = &t->chunks[from], merged;
    struct co_buf bytes = {0};
    int rc = 0;
    for (uint32_t i = 0; i < n && !rc; i++)
        rc = ar_chunk_get(a->store, &a->cluster, &t->id, &first[i], &bytes);
    if (!rc)
        rc = put_chunk(a, t, first->begin, co_buf_span(&bytes), &merged);
    co_buf_free(&bytes);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < n && !rc; i++)
        rc = remove_chunk(a, t, &first[i]);
    if (rc) { /* what is left is covered; the next listing says so */
        t->listed = false;
        return rc;
    }
    *first = merged;
    memmove(first + 1, first + n, (t->n - from - n) * sizeof *first);
    t->n -= n - 1;
    return 0;
}

int ps_chunks_merge(struct ps_archiver *a, struct ps_archived *t)
{
    for (unsigned level = 0; level < CLASSES && t->listed; level++) {
        uint64_t bytes;
        uint32_t from, n = run_of(t, level, &from, &bytes);
        if (n >= MERGE_N || (n >= 2 && bytes >= FULL_BYTES))
            return merge(a, t, from, n);
    }
    return 0;
}

int ps_chunks_remove(struct ps_archiver *a, const struct co_id *timeline)
{
    struct ar_chunk *all;
    struct ps_archived of = {.id = *timeline};
    uint32_t n;
    int rc = ar_chunks(a->store, &a->cluster, timeline, &all, &n);
    for (uint32_t i = 0; i < n && !rc; i++)
        rc = remove_chunk(a, &of, &all[i]);
    free(all);
    return rc;
}
