/*
 * test_archive_snap.c - when a snapshot is made, when a manifest may tell of it (V5), and when the
 * one before may go (V6). The archiver's own functions, round by round, on a directory and a store.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "pageserver/archiver_int.h"
#include "pageserver/registry.h"
#include "tests/unit/pageserver/ps_util.h"

#define SIZE  4096u
#define PAGES 40u

static char dir[64], path[96], archive[96], url[120];
static struct ps_archiver a;
static struct ps_archive_task task;
static struct ps_archive_line tline;
static struct ps_archived *t;
static struct ps_store *store;
static struct ps_txn *wr;
static struct ps_line line = {.no = 1, .id = {{0x11}}};
static struct ps_chain chain;
static struct ps_partial partial;
static struct ps_scribe scribe;
static uint64_t seed;

static void setup(void)
{
    ps_tmp(dir);
    struct ps_store_options o = ps_test_store(dir, path);
    cr_assert_eq(ps_store_open(&o, &store), 0, "%s", co_sentence());
    cr_assert_eq(ps_write_new(store, &wr), 0);
    ps_scribe_init(&scribe, SIZE, PAGES);
    chain = ps_scribe_chain(&scribe);
    line.id = chain.timeline;
    snprintf(archive, sizeof archive, "%s/archive", dir);
    snprintf(url, sizeof url, "dir:%s", archive);
    a = (struct ps_archiver){.url = url, .cluster = {{1}}, .pages = store, .task = &task};
    a.by_id = calloc(4096, sizeof *a.by_id);
    a.generation = 2;
    a.snapshot_every = 100 * 1024;
    cr_assert_eq(ar_open(url, &(struct ar_options){.make = true}, &a.store), 0, "%s",
                 co_sentence());
    cr_assert_eq(
        ar_put(a.store, ar_name_writer(&a.cluster, 2, (char[AR_NAME_TEXT]){0}), co_span_of("x", 1)),
        0);
    tline = (struct ps_archive_line){.no = 1};
    tline.meta.id = line.id;
    tline.meta.state = PS_ACTIVE;
    tline.meta.start_lsn = LSN_FIRST;
    task = (struct ps_archive_task){.lines = &tline, .n_lines = 1};
    t = ps_archived_find(&a, &line.id, true);
}
static void teardown(void)
{
    ar_close(a.store);
    ps_snaps_free(&a);
    free(t);
    free(a.by_id);
    ps_partial_free(&partial);
    ps_scribe_free(&scribe);
    ps_write_free(wr);
    ps_store_close(store);
    ps_tmp_remove(dir);
}
TestSuite(archive_snap, .init = setup, .fini = teardown, .timeout = 60);

/* So many bytes of log, at least; ingested and archived. */
static void grow(uint64_t bytes)
{
    for (lsn_t from = chain.last_lsn; chain.last_lsn < from + bytes; seed++) {
        struct co_buf records = {0};
        pgno_t pgnos[PAGES];
        uint32_t taken, n;
        for (n = 0; n < (seed ? 8 : PAGES); n++)
            pgnos[n] = seed ? 1 + n * 4 + seed % 4 : 1 + n;
        ps_scribe_txn(&scribe, &records, pgnos, n, FILL_NOISE, seed);
        cr_assert_eq(ps_ingest_store(wr, &line, &chain, &partial, co_buf_span(&records), &taken), 0,
                     "%s", co_sentence());
        co_buf_free(&records);
    }
    tline.last = tline.known = t->end = chain.last_lsn;
    t->digest = chain.digest;
}

/* A round, less the log and the manifest. */
static void round_once(void)
{
    ps_snaps_adopt(&a);
    cr_assert_eq(ps_snaps_replaced(&a), 0, "%s", co_sentence());
    cr_assert_eq(ps_snaps_work(&a), 0, "%s", co_sentence());
}

static int count_one(void *arg, const char *name, uint64_t size)
{
    struct co_id id;
    struct ar_snap_name at;
    (void)size;
    cr_assert(ar_parse_snap(name, &id, &at));
    ++*(unsigned *)arg;
    return 0;
}

static unsigned objects(void)
{
    char prefix[AR_NAME_TEXT];
    unsigned n = 0;
    cr_assert_eq(ar_list(a.store, ar_name_snaps(&a.cluster, &line.id, prefix), NULL, count_one, &n),
                 0);
    return n;
}

static void expect_whole(const struct ar_snap *snap)
{
    Corallite__ArchiveSnapshot *index;
    struct co_buf rows = {0};
    cr_assert_eq(ar_snap_index_get(a.store, &a.cluster, &line.id, snap, &index), 0, "%s",
                 co_sentence());
    for (uint32_t i = 0; i < index->n_parts; i++)
        cr_assert_eq(ar_snap_part_get(a.store, &a.cluster, &line.id, snap, index, i, &rows), 0);
    cr_assert_eq(rows.len, index->raw_bytes);
    cr_assert_eq(memcmp(index->digest.data, t->digest.b, 16) == 0, snap->lsn == t->end);
    corallite__archive_snapshot__free_unpacked(index, NULL);
    co_buf_free(&rows);
}

Test(archive_snap, one_is_made_when_the_log_has_grown_and_told_of_a_round_later)
{
    /* Not below the size that was asked for; not in the round that made it. */
    a.snapshot_every = 300 * 1024;
    grow(200 * 1024);
    round_once();
    cr_assert(!a.making && !objects());
    grow(100 * 1024);
    round_once();
    cr_assert(a.making && objects());
    cr_assert_eq(t->snap.lsn, 0u);
    lsn_t at = t->end;
    grow(1);
    round_once();
    cr_assert_not(a.making);
    cr_assert_eq(t->snap.lsn, at);
    cr_assert_eq(t->snap.generation, 2u);
    expect_whole(&t->snap);
}

Test(archive_snap, of_a_large_one_the_next_comes_after_half_of_what_it_takes)
{
    /* So that a log of a hundred times the size asked for is not followed by a hundred copies. */
    a.snapshot_every = 20 * 1024;
    grow(2000 * 1024);
    round_once();
    round_once();
    uint64_t bytes = t->snap.bytes;
    cr_assert_gt(bytes, 200 * 1024u);
    grow(bytes / 2 - 40 * 1024);
    round_once();
    cr_assert_not(a.making);
    grow(60 * 1024);
    round_once();
    cr_assert(a.making);
}

Test(archive_snap, what_was_cut_dropped_hidden_or_rebuilt_meanwhile_is_not_told_of)
{
    /* V5: each in turn, between the round that made it and the next; what was put goes when the
     * next one is begun. */
    for (int how = 0; how < 4; how++) {
        grow(250 * 1024);
        round_once();
        cr_assert(a.making);
        struct ps_archive_line before = tline;
        if (how == 0)
            tline.cutoff = t->end + 8;
        if (how == 1)
            tline.meta.state = PS_DROPPED;
        if (how == 2)
            tline.meta.hidden = true;
        if (how == 3)
            tline.rebuilding = true;
        ps_snaps_adopt(&a);
        cr_assert(!a.making && !t->snap.lsn, "%d", how);
        cr_assert_eq(ps_snaps_work(&a), 0);
        cr_assert_not(a.making);
        tline = before;
        round_once();
        cr_assert_not(a.making, "it was not tried again at once");
    }
    grow(250 * 1024);
    tline.cutoff = t->end;
    round_once();
    round_once();
    cr_assert_eq(t->snap.cutoff, tline.cutoff);
    expect_whole(&t->snap);
    cr_assert_eq(objects(), 2u, "what was given up is still there");
}

Test(archive_snap, the_one_before_goes_only_after_a_manifest_and_while_the_generation_is_ours)
{
    /* V6: told of no more, and nobody has claimed the archive since. */
    grow(150 * 1024);
    round_once();
    round_once();
    struct ar_snap first = t->snap;
    grow(400 * 1024);
    round_once();
    ps_snaps_adopt(&a);
    cr_assert_neq(t->snap.lsn, first.lsn);
    expect_whole(&first); /* until the manifest is written */
    cr_assert_eq(
        ar_put(a.store, ar_name_writer(&a.cluster, 3, (char[AR_NAME_TEXT]){0}), co_span_of("y", 1)),
        0);
    cr_assert_eq(ps_snaps_replaced(&a), CO_ERR_STALE_TERM);
    cr_assert(task.deposed);
    expect_whole(&first);
    cr_assert_eq(ar_remove(a.store, ar_name_writer(&a.cluster, 3, (char[AR_NAME_TEXT]){0})), 0);
    cr_assert_eq(ps_snaps_replaced(&a), 0);
    cr_assert_eq(objects(), 2u);
    expect_whole(&t->snap);
}

Test(archive_snap, nothing_of_a_later_generation_is_taken_away)
{
    /* Neither what is left over, nor with a timeline that was dropped. */
    char name[AR_NAME_TEXT];
    struct ar_snap_name later = {.lsn = 4096, .generation = 3, .number = 1},
                        older = {.lsn = 4096, .generation = 1, .number = 1};
    cr_assert_eq(
        ar_put(a.store, ar_name_snap(&a.cluster, &line.id, &later, name), co_span_of("a", 1)), 0);
    cr_assert_eq(
        ar_put(a.store, ar_name_snap(&a.cluster, &line.id, &older, name), co_span_of("b", 1)), 0);
    grow(150 * 1024);
    round_once();
    cr_assert_eq(objects(), 3u); /* the later one, a part and the index */
    cr_assert_eq(ps_snaps_remove(&a, &line.id), 0);
    cr_assert_eq(objects(), 1u);
}

Test(archive_snap, a_store_that_is_damaged_gives_none_and_the_round_goes_on)
{
    /* It is told in the log; the log is archived, and it is tried again when that has grown. */
    grow(150 * 1024);
    cr_assert_eq(ps_write_begin(wr), 0);
    cr_assert_eq(ps_progress_put(wr, 1, &(struct ps_progress){.last_lsn = LSN_FIRST}), 0);
    cr_assert_eq(ps_write_commit(wr), 0);
    round_once();
    cr_assert(!a.making && t->snap_tried == t->end && !objects());
    round_once();
    cr_assert_not(a.making);
    grow(150 * 1024);
    round_once();
    cr_assert(a.making);
}
