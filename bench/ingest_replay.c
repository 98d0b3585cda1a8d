/*
 * ingest_replay.c - a prepared log into a page store, by the product's own functions and nothing
 * else: no network, no daemon. For a profiler, and for the part of row 12 that is the store's.
 *
 *   build/bench/ingest_replay [--dir DIR] [--pages 1] [--mb 100] [--content noise|half|text]
 *                             [--batch KIB] [--sync 1] [--spread 0]
 *
 * The log: records of --pages new pages each, beside one page that every record changes a little
 * (as the right edge of a tree is), until there are --mb MB of page images. With --spread 1 the
 * pages are those of a database of that size in a random order. It is handed over in batches of
 * --batch KiB, each of which is durable when the next one begins. Then every page is read back and
 * compared. Prints one line of JSON.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bench/lib/measure.h"
#include "common/assert.h"
#include "common/crc32c.h"
#include "pageserver/ingest.h"

#define SIZE 4096u

static struct ps_line line = {.no = 1, .id = {{7}}};
static struct wal_builder *builder;
static struct co_buf records;
static uint8_t *pages;
static lsn_t *versions, tip;
static struct wal_digest digest;
static uint64_t rng = 88172645463325252u;
static int pages_a_record, mb, batch_kib, with_sync, spread;
static const char *dir, *content;
static size_t images;

static void must(int rc, const char *what)
{
    if (rc)
        bm_die("%s: %s", what, co_sentence());
}

static uint64_t any(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng;
}

static uint8_t *page_of(pgno_t pgno)
{
    return pages + (size_t)(pgno - 1) * SIZE;
}

static void fill(pgno_t pgno)
{
    static const char words[] = "the quick brown fox jumps over the lazy dog, and so on; ";
    uint8_t *p = page_of(pgno);
    for (size_t i = 0; i < SIZE; i += 8) {
        bool noise = content[0] == 'n' || (content[0] == 'h' && i % 128 < 64);
        if (noise)
            co_put64(p + i, any());
        else
            memcpy(p + i, words + (i + pgno) % 48, 8);
    }
    co_put32(p, pgno);
}

static int by_number(const void *a, const void *b)
{
    return *(const pgno_t *)a < *(const pgno_t *)b ? -1 : *(const pgno_t *)a > *(const pgno_t *)b;
}

/* One record: page 1, a little changed, and the others new. */
static void make_record(pgno_t *pgnos, uint32_t n, pgno_t db_pages)
{
    struct co_buf record = {0};
    static uint8_t before[SIZE];
    qsort(pgnos, n, sizeof *pgnos, by_number);
    wal_builder_reset(builder, SIZE);
    memcpy(before, page_of(1), SIZE);
    co_put64(page_of(1) + 24, tip);
    must(wal_builder_page(builder, 1, page_of(1), versions[1] ? before : NULL, versions[1]),
         "page");
    for (uint32_t i = 0; i < n; i++) {
        fill(pgnos[i]);
        must(wal_builder_page(builder, pgnos[i], page_of(pgnos[i]), NULL, 0), "page");
        images++;
    }
    struct wal_stamp stamp = {.cluster = {{1}},
                              .timeline = line.id,
                              .term = 1,
                              .begin_lsn = tip,
                              .sealed_lsn = tip,
                              .time_us = 1700000000000000u + tip,
                              .prev_digest = digest,
                              .db_pages = db_pages};
    wal_builder_seal(builder, &stamp, &record, &digest);
    must(co_buf_append(&records, record.data, record.len), "record");
    tip += record.len;
    versions[1] = tip;
    for (uint32_t i = 0; i < n; i++)
        versions[pgnos[i]] = tip;
    co_buf_free(&record);
}

static void make_log(pgno_t n_pages)
{
    pgno_t *order = malloc(n_pages * sizeof *order);
    if (!order)
        bm_die("no memory");
    for (pgno_t i = 0; i < n_pages; i++)
        order[i] = i + 1;
    for (pgno_t i = n_pages - 1; spread && i > 1; i--) {
        pgno_t j = 1 + (pgno_t)(any() % i), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (pgno_t i = 1; i < n_pages; i += (pgno_t)pages_a_record) {
        uint32_t n =
            (uint32_t)pages_a_record < n_pages - i ? (uint32_t)pages_a_record : n_pages - i;
        make_record(order + i, n, n_pages);
    }
    free(order);
}

/* The batches that the puller would make: whole records, but for those larger than a batch. */
static size_t batch_at(size_t from)
{
    size_t n = 0;
    while (from + n < records.len && n < (size_t)batch_kib * 1024) {
        struct wal_header h;
        must(wal_peek(co_span_of(records.data + from + n, records.len - from - n), &h), "peek");
        if (h.total_bytes > CO_BATCH_BYTES)
            return n ? n : (size_t)h.total_bytes;
        n += (size_t)h.total_bytes;
    }
    return n;
}

static double processor_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double replay(struct ps_txn *txn, uint32_t *n_batches, double *cpu_s)
{
    struct ps_chain chain = {.cluster = {{1}}, .timeline = line.id, .last_lsn = LSN_FIRST};
    struct ps_partial partial = {0};
    uint64_t began = bm_now_ns();
    double cpu_began = processor_s();
    *n_batches = 0;
    for (size_t at = 0; at < records.len; ++*n_batches) {
        size_t n = batch_at(at);
        uint32_t done;
        must(ps_ingest_store(txn, &line, &chain, &partial, co_span_of(records.data + at, n), &done),
             "ingest");
        at += n;
    }
    if (chain.last_lsn != tip)
        bm_die("not all of the log was taken");
    ps_partial_free(&partial);
    *cpu_s = processor_s() - cpu_began;
    return (double)(bm_now_ns() - began) / 1e9;
}

static void compare(struct ps_store *store, pgno_t n_pages)
{
    struct ps_txn *read;
    static uint8_t found[SIZE];
    must(ps_read_new(store, &read), "read");
    must(ps_read_renew(read), "read");
    for (pgno_t i = 1; i <= n_pages; i++) {
        lsn_t version;
        uint32_t crc;
        must(ps_page_get(read, &line, i, tip, SIZE, found, &version, &crc), "read back");
        if (memcmp(found, page_of(i), SIZE) != 0 || version != versions[i])
            bm_die("page %u is not what was written", i);
    }
    ps_read_free(read);
}

int main(int argc, char **argv)
{
    char path[300];
    dir = bm_option(argc, argv, "--dir", "/var/tmp");
    content = bm_option(argc, argv, "--content", "noise");
    pages_a_record = (int)bm_number(argc, argv, "--pages", 1);
    mb = (int)bm_number(argc, argv, "--mb", 100);
    batch_kib = (int)bm_number(argc, argv, "--batch", 1024);
    with_sync = (int)bm_number(argc, argv, "--sync", 1);
    spread = (int)bm_number(argc, argv, "--spread", 0);
    pgno_t n_pages = (pgno_t)((uint64_t)mb * 1000000 / SIZE) + 1;
    pages = calloc(n_pages, SIZE);
    versions = calloc(n_pages + 1, sizeof *versions);
    if (!pages || !versions)
        bm_die("no memory");
    must(wal_builder_new(&builder), "builder");
    tip = LSN_FIRST;
    fill(1);
    make_log(n_pages);

    struct ps_store *store;
    struct ps_txn *txn;
    uint32_t n_batches;
    snprintf(path, sizeof path, "%s/ingest-replay-%d", dir, (int)getpid());
    struct ps_store_options options = {
        .dir = path, .cluster = {{1}}, .disk = {{2}}, .no_sync = !with_sync};
    must(ps_store_open(&options, &store), "store");
    must(ps_write_new(store, &txn), "writer");
    double cpu_s, took = replay(txn, &n_batches, &cpu_s);
    compare(store, n_pages);
    struct ps_store_stats stats;
    ps_store_stats(store, &stats);
    printf("{\"mb_per_s\": %.1f, \"took_s\": %.3f, \"cpu_s\": %.3f, \"log_mb\": %.1f, \"images\": "
           "%zu, "
           "\"batches\": %u, \"store_mb\": %.1f}\n",
           (double)images * SIZE / 1e6 / took, took, cpu_s, (double)records.len / 1e6, images,
           n_batches, (double)stats.used_bytes / 1e6);
    ps_write_free(txn);
    ps_store_close(store);
    char file[400];
    snprintf(file, sizeof file, "%s/data.mdb", path);
    unlink(file);
    snprintf(file, sizeof file, "%s/lock.mdb", path);
    unlink(file);
    rmdir(path);
    wal_builder_free(builder);
    co_buf_free(&records);
    free(pages);
    free(versions);
    return 0;
}
