/*
 * gc_steady.c - do page store and safekeepers stay as large as what is visible, however long it
 * runs?
 *
 * A database of PAGES pages takes one-row updates, day after day of a clock of its own; each hour
 * of that clock its garbage is collected with a retention of one day. Records are built, ingested
 * and collected by the product's own functions, in a store on disk without syncs. Prints, for each
 * day: the file, what of it is in use, what the database has and a day's log, and the ratio that
 * counts. Three safekeepers' logs take the same records, each hour the log goes into an archive,
 * and they drop what is there but for KEEP_LOG, by the product's own functions as well; what they
 * take is what `du` says. Beside it a thread looks random pages of the head up: how long that takes
 * while there is only ingest, and while garbage is collected.
 *
 *   build/bench/gc_steady [DIR [VERSIONS [DAYS [PAGES]]]]     make gc-steady
 */
#define _XOPEN_SOURCE 700
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "pageserver/gc_lmdb.h"
#include "pageserver/archiver_int.h"
#include "pageserver/ingest.h"
#include "safekeeper/timeline_file.h"

#define SIZE     4096u
#define DAY_US   86400000000ull
#define HOUR_US  3600000000ull
#define BATCH    (256 * CO_KIB)
#define KEEPERS  3
#define KEEP_LOG CO_MIB /* what --keep-log would say */

static struct ps_store *store;
static struct ps_txn *txn;
static struct ps_line line = {.no = 1, .id = {{7}}};
static struct ps_chain chain;
static struct ps_partial partial;
static struct wal_builder *builder;
static struct co_buf records;
static uint8_t *pages;
static lsn_t *versions, tip, cutoff;
static struct wal_digest digest;
static uint32_t n_pages = 20000;
static uint64_t rng = 88172645463325252u, now_us = 1700000000000000u, log_bytes, collected;

static struct {
    char dir[600];
    struct sk_files *files;
} keepers[KEEPERS];
static struct ps_archiver archiver;
static struct ps_archived archived;
static struct co_buf unarchived; /* of the log, behind archived.end */

static atomic_int phase;      /* 0 ingest, 1 collecting, 2 the end */
static _Atomic uint64_t head; /* newest LSN that is durable */

static void must(int rc, const char *what)
{
    if (!rc)
        return;
    fprintf(stderr, "gc_steady: %s: %s\n", what, co_sentence());
    exit(1);
}

static uint64_t any(uint64_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (rng >> 11) % n;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* -- The safekeepers and the archive ----------------------------------------------------------- */

static void begin_keepers(const char *dir)
{
    char root[SK_PATH_MAX], url[PATH_MAX + 20], *real = realpath(dir, NULL);
    struct sk_birth birth = {.owner = {.cluster = chain.cluster, .timeline = line.id},
                             .start_lsn = LSN_FIRST};
    for (uint32_t i = 0; i < KEEPERS; i++) {
        snprintf(keepers[i].dir, sizeof keepers[i].dir, "%s/sk-%u", dir, i + 1);
        birth.owner.node = i + 1;
        must(sk_io_mkdir(keepers[i].dir), "a safekeeper");
        must(sk_files_root(keepers[i].dir, root), "a safekeeper");
        must(sk_io_mkdir(root), "a safekeeper");
        must(sk_files_create(keepers[i].dir, &birth), "a safekeeper");
        must(sk_files_open(keepers[i].dir, &birth, &keepers[i].files), "a safekeeper");
    }
    co_assert(real);
    snprintf(url, sizeof url, "dir:%s/archive", real);
    free(real);
    archiver.cluster = chain.cluster;
    archived = (struct ps_archived){.id = line.id, .end = LSN_FIRST, .listed = true};
    must(ar_open(url, &(struct ar_options){.make = true}, &archiver.store), "an archive");
}

static void append(void)
{
    for (uint32_t i = 0; i < KEEPERS; i++)
        must(sk_log_append(&keepers[i].files->log, tip - records.len, co_buf_span(&records)),
             "an append");
    must(co_buf_append(&unarchived, records.data, records.len), "an append");
}

static void archive(void)
{
    for (size_t done = 0; done < unarchived.len;) {
        size_t n = unarchived.len - done < AR_CHUNK_BYTES ? unarchived.len - done : AR_CHUNK_BYTES;
        must(ps_chunks_put(&archiver, &archived, archived.end,
                           co_span_of(unarchived.data + done, n)),
             "archiving");
        archived.end += n;
        done += n;
    }
    unarchived.len = 0;
    must(ps_chunks_merge(&archiver, &archived), "archiving");
}

/* What a safekeeper does in an hour: all of it is committed and on the store's disk. */
static void keep(struct sk_files *f)
{
    struct q_term term = {.term = 1, .start = LSN_FIRST};
    struct sk_durable d = {
        .term = 1, .commit_lsn = tip, .history = &term, .n_history = 1, .base = f->control.base};
    struct sk_mark at;
    bool more = true;
    must(sk_log_sync(&f->log), "a sync");
    must(sk_files_persist(f, &d, !f->n_history, 0), "a control block");
    if (archived.end > KEEP_LOG && sk_log_trim_point(&f->log, archived.end - KEEP_LOG, &at)) {
        d.base = (struct sk_base){.lsn = at.lsn, .digest = at.digest};
        d.base.config = (struct wal_config){.version = 1, .n = 1, .members = {{.node_id = 1}}};
        must(sk_files_rebase(f, &d), "a base");
    }
    while (more && sk_files_wants_idle(f))
        must(sk_files_idle(f, &more), "idle work");
}

static void hour_of_keepers(void)
{
    archive();
    for (uint32_t i = 0; i < KEEPERS; i++)
        keep(keepers[i].files);
}

static uint64_t du_bytes;

static int add_blocks(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)path, (void)flag, (void)ftw;
    du_bytes += (uint64_t)st->st_blocks * 512;
    return 0;
}

static double du(const char *dir)
{
    du_bytes = 0;
    co_assert(nftw(dir, add_blocks, 16, FTW_PHYS) == 0);
    return (double)du_bytes;
}

static void end_keepers(void)
{
    for (uint32_t i = 0; i < KEEPERS; i++)
        sk_files_close(keepers[i].files);
    ar_close(archiver.store);
    free(archived.chunks);
    co_buf_free(&unarchived);
}

/* -- The page store ---------------------------------------------------------------------------- */

static void ingest(void)
{
    uint32_t n;
    if (records.len)
        append();
    if (records.len)
        must(ps_ingest_store(txn, &line, &chain, &partial, co_buf_span(&records), &n), "ingest");
    records.len = 0;
    atomic_store(&head, chain.last_lsn);
}

static void seal(void)
{
    struct co_buf record = {0};
    struct wal_stamp st = {.cluster = chain.cluster,
                           .timeline = chain.timeline,
                           .term = 1,
                           .begin_lsn = tip,
                           .sealed_lsn = tip,
                           .time_us = now_us,
                           .prev_digest = digest,
                           .db_pages = n_pages};
    wal_builder_seal(builder, &st, &record, &digest);
    tip += record.len;
    log_bytes += record.len;
    must(co_buf_append(&records, record.data, record.len), "a record");
    co_buf_free(&record);
    if (records.len >= BATCH)
        ingest();
}

/* 60 rows of 64 bytes a page: a number, a price, words. */
static void fill(uint8_t *page, uint32_t p)
{
    memset(page, 0, SIZE);
    for (uint32_t row = 1; row < SIZE / 64; row++) {
        int n = snprintf((char *)page + (size_t)row * 64, 40, "article %u of shelf %u", row, p);
        co_assert(n > 0);
        co_put64(page + (size_t)row * 64 + 48, any(UINT64_MAX));
    }
}

static void load(void)
{
    for (uint32_t p = 1; p <= n_pages;) {
        wal_builder_reset(builder, SIZE);
        uint32_t first = p;
        for (; p <= n_pages && p < first + 100; p++) {
            fill(pages + (size_t)p * SIZE, p);
            must(wal_builder_page(builder, p, pages + (size_t)p * SIZE, NULL, 0), "a page");
        }
        seal();
        for (uint32_t i = first; i < p; i++)
            versions[i] = tip;
    }
}

/* A price changes; four of five times on a fifth of the pages. */
static void update(void)
{
    uint8_t before[SIZE];
    uint32_t p = 1 + (uint32_t)any(any(5) ? n_pages / 5 : n_pages);
    uint8_t *page = pages + (size_t)p * SIZE;
    memcpy(before, page, SIZE);
    co_put64(page + (1 + any(SIZE / 64 - 1)) * 64 + 48, any(UINT64_MAX));
    wal_builder_reset(builder, SIZE);
    must(wal_builder_page(builder, p, page, before, versions[p]), "a page");
    seal();
    versions[p] = tip;
}

/* -- Who reads meanwhile ----------------------------------------------------------------------- */

#define SAMPLES 4000000u

static double *took[2];
static uint32_t n_took[2];

static void *read_on(void *arg)
{
    static uint8_t page[SIZE];
    struct ps_txn *read;
    uint64_t seed = 42;
    (void)arg;
    must(ps_read_new(store, &read), "reading");
    for (;;) {
        int now_in = atomic_load(&phase);
        lsn_t version, at = atomic_load(&head);
        uint32_t crc;
        if (now_in == 2)
            break;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        double t = now();
        must(ps_read_renew(read), "reading");
        must(ps_page_get(read, &line, 1 + (uint32_t)((seed >> 33) % n_pages), at, SIZE, page,
                         &version, &crc),
             "reading");
        ps_read_reset(read);
        if (n_took[now_in] < SAMPLES)
            took[now_in][n_took[now_in]++] = now() - t;
        usleep(200);
    }
    ps_read_free(read);
    return NULL;
}

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static void tell_reads(void)
{
    static const char *const names[] = {"ingest alone", "collecting"};
    for (int i = 0; i < 2; i++) {
        uint32_t n = n_took[i];
        if (!n)
            continue;
        qsort(took[i], n, sizeof(double), by_value);
        printf("look-ups, %-12s: %u, median %.0f us, 99 %% %.0f us\n", names[i], n,
               took[i][n / 2] * 1e6, took[i][(uint64_t)n * 99 / 100] * 1e6);
    }
}

static void collect(void)
{
    struct ps_gc_plan plan = {0};
    struct ps_gc_line l = {
        .no = 1, .parent = PS_GC_NO_LINE, .start = {LSN_FIRST, 0}, .to = PS_GC_END};
    lsn_t lsn = 0;
    uint32_t at;
    must(ps_write_begin(txn), "gc");
    if (ps_commit_at_time(txn, &line, now_us - DAY_US, &lsn) == 0 && lsn > cutoff)
        cutoff = lsn;
    must(ps_cutoff_put(txn, 1, cutoff), "gc");
    must(ps_write_commit(txn), "gc");
    if (!cutoff)
        return;
    l.from = (struct ps_gc_point){cutoff, n_pages};
    must(ps_gc_add(&plan, &l, &at), "gc");
    must(ps_gc_finish(&plan), "gc");
    struct ps_gc_run run = {.plan = &plan};
    while (!run.done) {
        must(ps_write_begin(txn), "gc");
        must(ps_gc_step(txn, &run, 500), "gc");
        must(ps_write_commit(txn), "gc");
    }
    collected += run.found.versions;
    ps_gc_free(&plan);
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "build/gc-steady";
    uint64_t total = argc > 2 ? strtoull(argv[2], NULL, 10) : 2000000;
    uint64_t days = argc > 3 ? strtoull(argv[3], NULL, 10) : 20;
    char file[600], place[700];
    double worst = 0;
    if (argc > 4)
        n_pages = (uint32_t)strtoul(argv[4], NULL, 10);
    snprintf(file, sizeof file, "%s/data.mdb", dir);
    unlink(file);
    struct ps_store_options o = {
        .dir = dir, .map_bytes = 64 * CO_GIB, .cluster = {{1}}, .disk = {{2}}, .no_sync = true};
    must(ps_store_open(&o, &store), "opening");
    must(ps_write_new(store, &txn), "opening");
    must(wal_builder_new(&builder), "opening");
    pages = calloc(n_pages + 1, SIZE);
    versions = calloc(n_pages + 1, sizeof *versions);
    co_assert(pages && versions && days && total >= days * 24);
    chain = (struct ps_chain){.cluster = o.cluster, .timeline = line.id, .last_lsn = LSN_FIRST};
    tip = LSN_FIRST;
    begin_keepers(dir);
    load();
    ingest();
    hour_of_keepers();
    printf(
        "%u pages of %u bytes, %llu versions in %llu days, retention one day, collected hourly\n",
        n_pages, SIZE, (unsigned long long)total, (unsigned long long)days);
    printf("three safekeepers that keep %llu KiB of what is archived; MiB:\n",
           (unsigned long long)KEEP_LOG / CO_KIB);
    printf("%4s %10s %12s %8s %8s %8s %8s %9s %8s %8s %6s %8s %8s\n", "day", "versions",
           "collected", "file", "in tree", "db", "day's", "du sk-1", "du all", "archive", "ratio",
           "ingest s", "gc s");
    pthread_t reader;
    for (int i = 0; i < 2; i++)
        co_assert((took[i] = calloc(SAMPLES, sizeof(double))));
    co_assert(pthread_create(&reader, NULL, read_on, NULL) == 0);
    uint64_t per_hour = total / days / 24, made = 0;
    for (uint64_t d = 1; d <= days; d++) {
        double ingest_s = 0, gc_s = 0, t;
        uint64_t before = log_bytes;
        for (int h = 0; h < 24; h++) {
            t = now();
            for (uint64_t i = 0; i < per_hour; i++, made++) {
                now_us += HOUR_US / per_hour;
                update();
            }
            ingest();
            hour_of_keepers();
            ingest_s += now() - t;
            t = now();
            atomic_store(&phase, 1);
            collect();
            atomic_store(&phase, 0);
            gc_s += now() - t;
        }
        struct ps_usage u;
        struct stat st;
        must(ps_write_begin(txn), "counting");
        must(ps_usage_get(txn, 1, &u), "counting");
        ps_write_abort(txn);
        co_assert(stat(file, &st) == 0);
        double mib = (double)CO_MIB, db = (double)n_pages * SIZE,
               day = (double)(log_bytes - before);
        double of_one = du(keepers[0].dir), disks = (double)st.st_size;
        for (uint32_t i = 0; i < KEEPERS; i++)
            disks += du(keepers[i].dir);
        snprintf(place, sizeof place, "%s/archive", dir);
        worst = disks / (db + day) > worst ? disks / (db + day) : worst;
        printf("%4llu %10llu %12llu %8.1f %8.1f %8.1f %8.1f %9.1f %8.1f %8.1f %6.2f %8.1f %8.1f\n",
               (unsigned long long)d, (unsigned long long)made, (unsigned long long)collected,
               (double)st.st_size / mib, (double)(u.page_bytes + u.commit_bytes) / mib, db / mib,
               day / mib, of_one / mib, disks / mib, du(place) / mib, disks / (db + day), ingest_s,
               gc_s);
        fflush(stdout);
    }
    atomic_store(&phase, 2);
    pthread_join(reader, NULL);
    tell_reads();
    printf(
        "file and safekeepers: at most %.2fx of the database and a day's log (1.3x is allowed)\n",
        worst);
    for (int i = 0; i < 2; i++)
        free(took[i]);
    end_keepers();
    ps_write_free(txn);
    ps_store_close(store);
    wal_builder_free(builder);
    ps_partial_free(&partial);
    co_buf_free(&records);
    free(pages);
    free(versions);
    return worst > 1.3;
}
