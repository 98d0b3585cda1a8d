#include "tests/unit/pageserver/ps_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/crc32c.h"

char *ps_tmp(char out[64])
{
    snprintf(out, 64, "/tmp/corallite-ps-XXXXXX");
    char *dir = mkdtemp(out);
    co_assert(dir);
    return dir;
}

void ps_tmp_remove(const char *dir)
{
    char command[128];
    co_assert(strncmp(dir, "/tmp/corallite-ps-", 18) == 0);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    int rc = system(command);
    co_assert(rc == 0);
}

uint64_t ps_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

void ps_fill(uint8_t *page, uint32_t size, enum ps_fill kind, uint64_t seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    for (uint32_t i = 0; i < size; i++) {
        (void)ps_random(&x);
        bool noise = kind == FILL_NOISE || (kind == FILL_HALF && i % 2);
        page[i] = noise ? (uint8_t)(x >> 24) : (uint8_t)("corallite keeps "[i % 16]);
    }
    co_put64(page, seed); /* at least this differs */
}

uint32_t ps_crc(const uint8_t *page, uint32_t size)
{
    return co_crc32c(0, page, size);
}

struct co_id ps_id(uint8_t n)
{
    struct co_id id;
    memset(id.b, n, sizeof id.b);
    return id;
}

struct ps_store_options ps_test_store(const char *dir, char path[96])
{
    snprintf(path, 96, "%s/store", dir);
    return (struct ps_store_options){.dir = path,
                                     .map_bytes = 4 * CO_GIB,
                                     .cluster = ps_id(1),
                                     .disk = ps_id(2),
                                     .no_sync = true};
}

void ps_scribe_init(struct ps_scribe *w, uint32_t page_size, pgno_t max)
{
    *w = (struct ps_scribe){.cluster = ps_id(1),
                            .timeline = ps_id(7),
                            .page_size = page_size,
                            .lsn = LSN_FIRST,
                            .term = 3,
                            .time_us = 1700000000000000,
                            .max = max};
    w->pages = calloc(max + 1, page_size);
    w->versions = calloc(max + 1, sizeof *w->versions);
    co_assert(w->pages && w->versions);
    int rc = wal_builder_new(&w->builder);
    co_assert(rc == 0);
}

void ps_scribe_free(struct ps_scribe *w)
{
    wal_builder_free(w->builder);
    free(w->pages);
    free(w->versions);
}

uint8_t *ps_scribe_page(struct ps_scribe *w, pgno_t pgno)
{
    co_assert(pgno <= w->max);
    return w->pages + (size_t)pgno * w->page_size;
}

static struct wal_stamp stamp(struct ps_scribe *w)
{
    w->time_us += 1000;
    return (struct wal_stamp){.cluster = w->cluster,
                              .timeline = w->timeline,
                              .term = w->term,
                              .begin_lsn = w->lsn,
                              .sealed_lsn = w->lsn,
                              .time_us = w->time_us,
                              .commit_uuid = ps_id(9),
                              .prev_digest = w->digest,
                              .db_pages = w->db_pages};
}

static void append(struct ps_scribe *w, struct co_buf *out, struct co_buf *record)
{
    w->lsn += record->len;
    int rc = co_buf_append(out, record->data, record->len);
    co_assert(rc == 0);
    co_buf_free(record);
}

static void seal(struct ps_scribe *w, struct co_buf *out, const pgno_t *pgnos, uint32_t n)
{
    struct co_buf record = {0};
    struct wal_stamp st = stamp(w);
    wal_builder_seal(w->builder, &st, &record, &w->digest);
    append(w, out, &record);
    for (uint32_t i = 0; i < n; i++)
        w->versions[pgnos[i]] = w->lsn;
}

static void grow(struct ps_scribe *w, pgno_t pgno)
{
    if (pgno > w->db_pages)
        w->db_pages = pgno;
}

void ps_scribe_txn(struct ps_scribe *w, struct co_buf *out, const pgno_t *pgnos, uint32_t n,
                   enum ps_fill kind, uint64_t seed)
{
    uint8_t *base = malloc(w->page_size);
    co_assert(base);
    wal_builder_reset(w->builder, w->page_size);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *page = ps_scribe_page(w, pgnos[i]);
        bool has = w->versions[pgnos[i]] != 0;
        memcpy(base, page, w->page_size);
        if (has && kind == FILL_TEXT)
            co_put64(page + 64, seed + i + 1); /* a small change */
        else
            ps_fill(page, w->page_size, kind, seed + pgnos[i]);
        int rc =
            wal_builder_page(w->builder, pgnos[i], page, has ? base : NULL, w->versions[pgnos[i]]);
        co_assert(rc == 0);
        grow(w, pgnos[i]);
    }
    free(base);
    seal(w, out, pgnos, n);
}

void ps_scribe_images(struct ps_scribe *w, struct co_buf *out, const pgno_t *pgnos, uint32_t n)
{
    wal_builder_reset(w->builder, w->page_size);
    for (uint32_t i = 0; i < n; i++) {
        int rc = wal_builder_page(w->builder, pgnos[i], ps_scribe_page(w, pgnos[i]), NULL, 0);
        co_assert(rc == 0);
        grow(w, pgnos[i]);
    }
    seal(w, out, pgnos, n);
}

void ps_scribe_config(struct ps_scribe *w, struct co_buf *out)
{
    struct wal_config config = {.version = 1, .n = 1, .members = {{.node_id = 1}}};
    struct wal_stamp st = stamp(w);
    struct co_buf record = {0};
    int rc = wal_build_config(&config, &st, &record, &w->digest);
    co_assert(rc == 0);
    append(w, out, &record);
}

void ps_scribe_branch(struct ps_scribe *w, const struct co_id *timeline, lsn_t lsn,
                      const struct wal_digest *digest)
{
    w->timeline = *timeline;
    w->lsn = lsn;
    w->digest = *digest;
    memset(w->versions, 0, (w->max + 1) * sizeof *w->versions); /* no deltas */
}

struct ps_chain ps_scribe_chain(const struct ps_scribe *w)
{
    return (struct ps_chain){.cluster = w->cluster, .timeline = w->timeline, .last_lsn = LSN_FIRST};
}
