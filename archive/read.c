#include "archive/read.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/message.h"

/* -- Which --------------------------------------------------------------------------------------
 */

#define FOUND 1

static int first_cluster(void *arg, const char *name, uint64_t size)
{
    (void)size;
    return ar_parse_cluster(name, arg) ? FOUND : 0;
}

int ar_clusters(struct ar_store *store, struct co_id out[AR_CLUSTERS_MAX], uint32_t *n)
{
    char after[CO_ID_TEXT + 1] = "";
    int rc = FOUND;
    for (*n = 0; rc == FOUND && *n < AR_CLUSTERS_MAX;) {
        rc = ar_list(store, "", *n ? after : NULL, first_cluster, &out[*n]);
        if (rc != FOUND)
            break;
        co_id_format(&out[*n], after);
        after[CO_ID_TEXT - 1] = '0'; /* what sorts behind "<id>/" */
        after[CO_ID_TEXT] = 0;
        ++*n;
    }
    if (rc && rc != FOUND)
        return rc;
    return *n ? 0
              : co_fail(CO_ERR_NOT_FOUND, "the archive %s has nothing of any cluster",
                        ar_url(store));
}

static int note_writer(void *arg, const char *name, uint64_t size)
{
    uint64_t generation, *newest = arg;
    (void)size;
    if (ar_parse_writer(name, &generation) && generation > *newest)
        *newest = generation;
    return 0;
}

int ar_newest_writer(struct ar_store *store, const struct co_id *cluster, uint64_t *generation)
{
    char prefix[AR_NAME_TEXT];
    *generation = 0;
    return ar_list(store, ar_name_writers(cluster, prefix), NULL, note_writer, generation);
}

static int note_state(void *arg, const char *name, uint64_t size)
{
    struct ar_place place, *newest = arg;
    (void)size;
    if (ar_parse_state(name, &place)) /* ascending, so the last one counts */
        *newest = place;
    return 0;
}

int ar_newest_state(struct ar_store *store, const struct co_id *cluster, struct ar_place *place,
                    Corallite__ArchiveState **out)
{
    char name[AR_NAME_TEXT], id[CO_ID_TEXT];
    struct ar_place newest = {.generation = 0};
    struct co_buf bytes = {0};
    struct co_id said;
    *out = NULL;
    int rc = ar_list(store, ar_name_states(cluster, name), NULL, note_state, &newest);
    if (!rc && co_id_is_zero(&newest.cluster))
        rc = co_fail(CO_ERR_NOT_FOUND, "the archive %s has no manifest of cluster %s",
                     ar_url(store), co_id_format(cluster, id));
    if (!rc)
        rc = ar_get(store, ar_name_state(&newest, name), 0, AR_OBJECT_MAX_BYTES, &bytes, NULL);
    if (!rc)
        rc = ar_state_decode(co_buf_span(&bytes), name, out);
    co_buf_free(&bytes);
    if (rc)
        return rc;
    rc = msg_get16("cluster", (*out)->has_cluster, &(*out)->cluster, said.b);
    if (rc || !co_id_eq(&said, cluster) || (*out)->generation != newest.generation ||
        (*out)->sequence != newest.sequence) {
        corallite__archive_state__free_unpacked(*out, NULL);
        *out = NULL;
        return co_fail(CO_ERR_CORRUPT, "the archive's object %s holds another one's content", name);
    }
    if (place)
        *place = newest;
    return 0;
}

/* -- Logs ---------------------------------------------------------------------------------------
 */

struct chunks {
    struct ar_chunk *c;
    uint32_t n, cap;
};

static int note_chunk(void *arg, const char *name, uint64_t size)
{
    struct chunks *all = arg;
    struct co_id timeline;
    struct ar_chunk chunk;
    (void)size;
    if (!ar_parse_log(name, &timeline, &chunk))
        return 0;
    if (all->n == all->cap) {
        uint32_t cap = all->cap ? 2 * all->cap : 64;
        struct ar_chunk *c = realloc(all->c, cap * sizeof *c);
        if (!c)
            return co_fail(CO_ERR_NOMEM, "no memory for a list of %u objects", cap);
        all->c = c;
        all->cap = cap;
    }
    all->c[all->n++] = chunk;
    return 0;
}

int ar_chunks(struct ar_store *store, const struct co_id *cluster, const struct co_id *timeline,
              struct ar_chunk **out, uint32_t *n)
{
    char prefix[AR_NAME_TEXT];
    struct chunks all = {0};
    int rc = ar_list(store, ar_name_logs(cluster, timeline, prefix), NULL, note_chunk, &all);
    if (rc)
        free(all.c);
    *out = rc ? NULL : all.c;
    *n = rc ? 0 : all.n;
    return rc;
}

int ar_chunk_get(struct ar_store *store, const struct co_id *cluster, const struct co_id *timeline,
                 const struct ar_chunk *chunk, struct co_buf *out)
{
    char name[AR_NAME_TEXT];
    struct wal_digest sum;
    uint64_t size;
    size_t before = out->len, len = (size_t)(chunk->end - chunk->begin);
    int rc = ar_get(store, ar_name_log(cluster, timeline, chunk, name), 0, len, out, &size);
    if (rc)
        return rc;
    if (size != len || out->len - before != len)
        return co_fail(CO_ERR_CORRUPT,
                       "the archive's object %s is cut: it has %llu bytes where %zu were written",
                       name, (unsigned long long)size, len);
    ar_sum(co_span_of(out->data + before, len), &sum);
    if (memcmp(sum.b, chunk->sum.b, sizeof sum.b) != 0)
        return co_fail(CO_ERR_CORRUPT,
                       "the archive's object %s is damaged: its bytes are not those that its name "
                       "was made of",
                       name);
    return 0;
}

/* Of those that have the byte at `lsn` the one that reaches furthest. */
static const struct ar_chunk *choose(const struct ar_chunk *c, uint32_t n, lsn_t lsn)
{
    const struct ar_chunk *best = NULL;
    for (uint32_t i = 0; i < n && c[i].begin <= lsn; i++)
        if (c[i].end > lsn && (!best || c[i].end > best->end))
            best = &c[i];
    return best;
}

static int lacks(struct ar_store *store, const struct ar_line *line, const struct ar_chunk *c,
                 uint32_t n, lsn_t lsn)
{
    char id[CO_ID_TEXT], from[LSN_TEXT], to[LSN_TEXT];
    lsn_t next = line->end;
    for (uint32_t i = 0; i < n; i++)
        if (c[i].begin > lsn && c[i].begin < next)
            next = c[i].begin;
    return co_fail(CO_ERR_CORRUPT,
                   "the archive %s lacks a part of %s: no object has the log of timeline %s from "
                   "LSN %s to %s",
                   ar_url(store), line->name, co_id_format(&line->id, id), lsn_format(lsn, from),
                   lsn_format(next, to));
}

static int feed_chunk(struct ar_store *store, const struct co_id *cluster,
                      const struct ar_line *line, const struct ar_chunk *chunk,
                      struct ar_walk *walk, const struct ar_sink *sink)
{
    struct co_buf bytes = {0};
    char name[AR_NAME_TEXT], why[CO_SENTENCE_MAX / 2];
    lsn_t from = ar_walk_next(walk), to = chunk->end < line->end ? chunk->end : line->end;
    int rc = ar_chunk_get(store, cluster, &line->id, chunk, &bytes);
    if (!rc) {
        rc = ar_walk_feed(walk, co_span_of(bytes.data + (from - chunk->begin), (size_t)(to - from)),
                          sink);
        if (rc == CO_ERR_CORRUPT) {
            snprintf(why, sizeof why, "%s", co_sentence());
            rc = co_fail(rc, "the archive's object %s: %s",
                         ar_name_log(cluster, &line->id, chunk, name), why);
        }
    }
    co_buf_free(&bytes);
    return rc;
}

void ar_walk_line(struct ar_walk *walk, const struct co_id *cluster, const struct ar_line *line)
{
    const struct ar_kept *k = &line->kept;
    ar_walk_init(walk, cluster, &line->id, ar_line_from(line), k->lsn ? &k->digest : &line->base);
    walk->term = k->term;
    walk->config = k->config;
    walk->time_us = k->time_us;
}

int ar_read_log(struct ar_store *store, const struct co_id *cluster, const struct ar_line *line,
                struct ar_walk *walk, const struct ar_sink *sink)
{
    struct ar_chunk *c;
    uint32_t n;
    int rc = ar_chunks(store, cluster, &line->id, &c, &n);
    while (!rc && ar_walk_next(walk) < line->end) {
        const struct ar_chunk *chunk = choose(c, n, ar_walk_next(walk));
        rc = chunk ? feed_chunk(store, cluster, line, chunk, walk, sink)
                   : lacks(store, line, c, n, ar_walk_next(walk));
    }
    free(c);
    if (!rc && (walk->end != line->end ||
                memcmp(walk->digest.b, line->digest.b, sizeof line->digest.b) != 0))
        rc = co_fail(CO_ERR_CORRUPT,
                     "the archive's log of %s is sound, but not the one of which its manifest "
                     "tells: they end differently",
                     line->name);
    return rc;
}
