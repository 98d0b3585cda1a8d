/* The objects of a timeline's log: what is merged, trimmed, taken away, and what a crash in between
 * leaves. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "pageserver/archiver_int.h"
#include "pageserver/metrics.h"

static char base[64], url[80];
static struct ps_archiver a;
static struct ps_archived t;
static uint8_t log_bytes[24 * 1024 * 1024];

static void setup(void)
{
    uint32_t x = 1;
    snprintf(base, sizeof base, "/tmp/co_archchunk_XXXXXX");
    cr_assert(mkdtemp(base));
    snprintf(url, sizeof url, "dir:%s", base);
    a = (struct ps_archiver){.cluster = {{1}}};
    t = (struct ps_archived){.id = {{2}}, .end = LSN_FIRST, .listed = true};
    cr_assert_eq(ar_open(url, NULL, &a.store), 0);
    for (size_t i = 0; i < sizeof log_bytes; i++)
        log_bytes[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
}

static void teardown(void)
{
    char command[100];
    ar_close(a.store);
    free(t.chunks);
    snprintf(command, sizeof command, "rm -rf '%s'", base);
    cr_assert_eq(system(command), 0);
}

TestSuite(archive_chunks, .init = setup, .fini = teardown, .timeout = 60);

static struct co_span part(lsn_t begin, lsn_t end)
{
    return co_span_of(log_bytes + (begin - LSN_FIRST), (size_t)(end - begin));
}

/* As a round does: put, then the end moves on, then small ones are merged. */
static void grow(size_t len)
{
    lsn_t begin = t.end;
    cr_assert_eq(ps_chunks_put(&a, &t, begin, part(begin, begin + len)), 0, "%s", co_sentence());
    t.end = begin + len;
    cr_assert_eq(ps_chunks_merge(&a, &t), 0, "%s", co_sentence());
}

static void put_raw(lsn_t begin, lsn_t end)
{
    struct ps_archived other = {.id = t.id};
    cr_assert_eq(ps_chunks_put(&a, &other, begin, part(begin, end)), 0);
    free(other.chunks);
}

/* The objects that are there, in order; what is known of them is the same. */
static struct ar_chunk *there(uint32_t *n)
{
    struct ar_chunk *all;
    cr_assert_eq(ar_chunks(a.store, &a.cluster, &t.id, &all, n), 0);
    return all;
}

/* From the first byte to the end there is no gap, and every byte is right. */
static uint32_t expect_whole(lsn_t end)
{
    uint32_t n;
    struct ar_chunk *all = there(&n);
    struct co_buf bytes = {0};
    lsn_t at = LSN_FIRST;
    for (uint32_t i = 0; i < n; i++) {
        cr_assert_eq(all[i].begin, at, "a gap or an overlap at %llx", (unsigned long long)at);
        bytes.len = 0;
        cr_assert_eq(ar_chunk_get(a.store, &a.cluster, &t.id, &all[i], &bytes), 0);
        cr_assert_eq(memcmp(bytes.data, part(at, all[i].end).data, bytes.len), 0);
        at = all[i].end;
    }
    cr_assert_eq(at, end);
    co_buf_free(&bytes);
    free(all);
    return n;
}

Test(archive_chunks, years_of_small_commits_are_few_objects)
{
    /* 600 rounds of 200 bytes: some dozens of objects, and each byte was written a few times. */
    uint64_t before = co_metric_get(&ps_m_archive_bytes);
    for (int i = 0; i < 600; i++)
        grow(200);
    cr_assert_leq(expect_whole(t.end), 2 * 16u);
    cr_assert_eq(t.n, expect_whole(t.end));
    cr_assert_leq(co_metric_get(&ps_m_archive_bytes) - before,
                  4 * 3000 * 200ull + 3000 * 200ull * 8);
}

Test(archive_chunks, full_objects_are_left_alone)
{
    /* What is large is not written again when small ones come behind it. */
    grow(14 * 1024 * 1024);
    uint64_t puts = co_metric_get(&ps_m_archive_bytes);
    for (int i = 0; i < 40; i++)
        grow(1000);
    cr_assert_lt(co_metric_get(&ps_m_archive_bytes) - puts, 1024 * 1024u);
    uint32_t n;
    struct ar_chunk *all = there(&n);
    cr_assert_eq(all[0].end - all[0].begin, 14 * 1024 * 1024u);
    cr_assert_leq(n, 18u);
    free(all);
    expect_whole(t.end);
}

Test(archive_chunks, no_object_is_larger_than_a_chunk)
{
    /* Middling ones are merged up to 16 MiB. */
    for (int i = 0; i < 40; i++)
        grow(500000);
    uint32_t n;
    struct ar_chunk *all = there(&n);
    for (uint32_t i = 0; i < n; i++)
        cr_assert_leq(all[i].end - all[i].begin, AR_CHUNK_BYTES);
    free(all);
    expect_whole(t.end);
}

Test(archive_chunks, what_a_crash_left_beside_a_merged_one_goes)
{
    /* The small ones that the merged one covers. */
    put_raw(LSN_FIRST, LSN_FIRST + 800);
    put_raw(LSN_FIRST, LSN_FIRST + 8);
    put_raw(LSN_FIRST + 200, LSN_FIRST + 400);
    put_raw(LSN_FIRST + 800, LSN_FIRST + 900);
    t.end = LSN_FIRST + 900;
    t.listed = false;
    cr_assert_eq(ps_chunks_list(&a, &t), 0, "%s", co_sentence());
    cr_assert_eq(expect_whole(t.end), 2u);
    cr_assert_eq(t.n, 2u);
}

Test(archive_chunks, what_no_manifest_tells_of_goes)
{
    /* V4: beyond the end; of one that straddles it the part before stays, under a name of its own.
     */
    put_raw(LSN_FIRST, LSN_FIRST + 480);
    put_raw(LSN_FIRST + 480, LSN_FIRST + 900);
    put_raw(LSN_FIRST + 900, LSN_FIRST + 2000);
    put_raw(LSN_FIRST + 5000, LSN_FIRST + 6000);
    t.end = LSN_FIRST + 640;
    t.listed = false;
    cr_assert_eq(ps_chunks_list(&a, &t), 0, "%s", co_sentence());
    cr_assert_eq(expect_whole(LSN_FIRST + 640), 2u);
    t.end = LSN_FIRST; /* nothing of it counts */
    t.listed = false;
    cr_assert_eq(ps_chunks_list(&a, &t), 0);
    cr_assert_eq(t.n, 0u);
    cr_assert_eq(expect_whole(LSN_FIRST), 0u);
}

Test(archive_chunks, overlapping_ones_are_not_merged)
{
    /* The begin of a large record that came in two rounds: each stays as it is. */
    put_raw(LSN_FIRST, LSN_FIRST + 1000);
    put_raw(LSN_FIRST + 600, LSN_FIRST + 1600);
    t.end = LSN_FIRST + 1600;
    t.listed = false;
    cr_assert_eq(ps_chunks_list(&a, &t), 0);
    for (int i = 0; i < 14; i++)
        grow(8);
    uint32_t n;
    struct ar_chunk *all = there(&n);
    cr_assert(n >= 2 && all[0].end == LSN_FIRST + 1000 && all[1].begin == LSN_FIRST + 600);
    free(all);
}

Test(archive_chunks, removed_means_nothing_is_left)
{
    /* Of this timeline; of others nothing goes. */
    struct ps_archived other = {.id = {{3}}};
    grow(100);
    grow(100);
    cr_assert_eq(ps_chunks_put(&a, &other, LSN_FIRST, part(LSN_FIRST, LSN_FIRST + 8)), 0);
    cr_assert_eq(ps_chunks_remove(&a, &t.id), 0);
    cr_assert_eq(expect_whole(LSN_FIRST), 0u);
    t.id = other.id;
    cr_assert_eq(expect_whole(LSN_FIRST + 8), 1u);
    free(other.chunks);
}
