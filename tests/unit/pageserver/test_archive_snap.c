/*
 * test_archive_snap.c - when a snapshot is made, when a manifest may tell of it (V5), and when the
 * one before may go (V6). The archiver's own functions, round by round, on a directory and a store.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/pageserver/archive_rig.h"

static struct ps_archived *t;

static void claim(uint64_t generation)
{
    char name[AR_NAME_TEXT];
    ar_name_writer(&rig.a.cluster, generation, name);
    cr_assert_eq(ar_put(rig.a.store, name, co_span_of("x", 1)), 0);
}

static void setup(void)
{
    rig_begin();
    rig.a.generation = 2;
    cr_assert_eq(ar_open(rig.url, NULL, &rig.a.store), 0, "%s", co_sentence());
    claim(2);
    t = rig_archived();
}
TestSuite(archive_snap, .init = setup, .fini = rig_end, .timeout = 60);

/* So many bytes of log, at least; ingested and archived. */
static void grow(uint64_t bytes)
{
    for (lsn_t from = rig.chain.last_lsn; rig.chain.last_lsn < from + bytes;) {
        struct co_buf records = {0};
        rig_write(8, &records);
        co_buf_free(&records);
    }
    rig_reached();
}

/* A round, less the log and the manifest. */
static void round_once(void)
{
    ps_snaps_adopt(&rig.a);
    cr_assert_eq(ps_snaps_replaced(&rig.a), 0, "%s", co_sentence());
    cr_assert_eq(ps_snaps_work(&rig.a), 0, "%s", co_sentence());
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
    cr_assert_eq(ar_list(rig.a.store, ar_name_snaps(&rig.a.cluster, &rig.line.id, prefix), NULL,
                         count_one, &n),
                 0);
    return n;
}

static void expect_whole(const struct ar_snap *snap)
{
    rig_expect_snapshot(rig.a.store, snap);
}

Test(archive_snap, one_is_made_when_the_log_has_grown_and_told_of_a_round_later)
{
    /* Not below the size that was asked for; not in the round that made it. */
    rig.a.snapshot_every = 300 * 1024;
    grow(200 * 1024);
    round_once();
    cr_assert(!rig.a.making && !objects());
    grow(100 * 1024);
    round_once();
    cr_assert(rig.a.making && objects());
    cr_assert_eq(t->snap.lsn, 0u);
    lsn_t at = t->end;
    grow(1);
    round_once();
    cr_assert_not(rig.a.making);
    cr_assert_eq(t->snap.lsn, at);
    cr_assert_eq(t->snap.generation, 2u);
    expect_whole(&t->snap);
}

Test(archive_snap, of_a_large_one_the_next_comes_after_half_of_what_it_takes)
{
    /* So that a log of a hundred times the size asked for is not followed by a hundred copies. */
    rig.a.snapshot_every = 20 * 1024;
    grow(2000 * 1024);
    round_once();
    round_once();
    uint64_t bytes = t->snap.bytes;
    cr_assert_gt(bytes, 200 * 1024u);
    grow(bytes / 2 - 40 * 1024);
    round_once();
    cr_assert_not(rig.a.making);
    grow(60 * 1024);
    round_once();
    cr_assert(rig.a.making);
}

Test(archive_snap, what_was_cut_dropped_hidden_or_rebuilt_meanwhile_is_not_told_of)
{
    /* V5: each in turn, between the round that made it and the next; what was put goes when the
     * next one is begun. */
    for (int how = 0; how < 4; how++) {
        grow(250 * 1024);
        round_once();
        cr_assert(rig.a.making);
        struct ps_archive_line before = rig.tline;
        if (how == 0)
            rig.tline.cutoff = t->end + 8;
        if (how == 1)
            rig.tline.meta.state = PS_DROPPED;
        if (how == 2)
            rig.tline.meta.hidden = true;
        if (how == 3)
            rig.tline.rebuilding = true;
        ps_snaps_adopt(&rig.a);
        cr_assert(!rig.a.making && !t->snap.lsn, "%d", how);
        cr_assert_eq(ps_snaps_work(&rig.a), 0);
        cr_assert_not(rig.a.making);
        rig.tline = before;
        round_once();
        cr_assert_not(rig.a.making, "it was not tried again at once");
    }
    grow(250 * 1024);
    rig.tline.cutoff = t->end;
    round_once();
    round_once();
    cr_assert_eq(t->snap.cutoff, rig.tline.cutoff);
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
    ps_snaps_adopt(&rig.a);
    cr_assert_neq(t->snap.lsn, first.lsn);
    expect_whole(&first); /* until the manifest is written */
    claim(3);
    cr_assert_eq(ps_snaps_replaced(&rig.a), CO_ERR_STALE_TERM);
    cr_assert(rig.task.deposed);
    expect_whole(&first);
    cr_assert_eq(ar_remove(rig.a.store, ar_name_writer(&rig.a.cluster, 3, (char[AR_NAME_TEXT]){0})),
                 0);
    cr_assert_eq(ps_snaps_replaced(&rig.a), 0);
    cr_assert_eq(objects(), 2u);
    expect_whole(&t->snap);
}

Test(archive_snap, nothing_of_a_later_generation_is_taken_away)
{
    /* Neither what is left over, nor with a timeline that was dropped. */
    struct ar_snap_name later = {.lsn = 4096, .generation = 3, .number = 1},
                        older = {.lsn = 4096, .generation = 1, .number = 1};
    rig_put_snap(&rig.line.id, &later, "a");
    rig_put_snap(&rig.line.id, &older, "b");
    grow(150 * 1024);
    round_once();
    cr_assert_eq(objects(), 3u); /* the later one, a part and the index */
    cr_assert_eq(ps_snaps_remove(&rig.a, &rig.line.id), 0);
    cr_assert_eq(objects(), 1u);
}

Test(archive_snap, a_store_that_is_damaged_gives_none_and_the_round_goes_on)
{
    /* It is told in the log; the log is archived, and it is tried again when that has grown. */
    grow(150 * 1024);
    cr_assert_eq(ps_write_begin(rig.wr), 0);
    cr_assert_eq(ps_progress_put(rig.wr, 1, &(struct ps_progress){.last_lsn = LSN_FIRST}), 0);
    cr_assert_eq(ps_write_commit(rig.wr), 0);
    round_once();
    cr_assert(!rig.a.making && t->snap_tried == t->end && !objects());
    round_once();
    cr_assert_not(rig.a.making);
    grow(150 * 1024);
    round_once();
    cr_assert(rig.a.making);
}
