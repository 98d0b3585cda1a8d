/*
 * test_archive_prune.c - what goes from an archive and what stays (V7): whole rounds of the
 * archiver on a directory, on a place that fails at each step, and after that with a new process.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "archive/report.h"
#include "archive/store_int.h"
#include "tests/unit/pageserver/archive_rig.h"

TestSuite(archive_prune, .init = rig_begin, .fini = rig_end, .timeout = 120);

static int round_of(enum ps_prune prune)
{
    rig.task.prune = prune;
    rig.task.prune_again = false;
    rig.task.deposed = false;
    rig.task.pruned = (struct ps_pruned){0};
    return ps_archive_work(&rig.a);
}

/* So many bytes of log, at least; ingested, and as objects of some 40 KiB in the archive. */
static void grow(uint64_t bytes)
{
    for (lsn_t from = rig.chain.last_lsn; rig.chain.last_lsn < from + bytes;) {
        struct co_buf records = {0};
        lsn_t begin = rig.chain.last_lsn;
        rig_write(10, &records);
        cr_assert_eq(ps_chunks_put(&rig.a, rig_archived(), begin, co_buf_span(&records)), 0, "%s",
                     co_sentence());
        co_buf_free(&records);
        rig_reached();
    }
}

/* An archive with a snapshot, log before it and log behind it; the newest manifest tells of all. */
static void fill(void)
{
    cr_assert_eq(round_of(PS_PRUNE_NONE), 0, "%s", co_sentence());
    grow(260 * 1024);
    cr_assert_eq(round_of(PS_PRUNE_NONE), 0, "%s", co_sentence());
    cr_assert_eq(round_of(PS_PRUNE_NONE), 0, "%s", co_sentence());
    cr_assert_gt(rig_archived()->snap.lsn, LSN_FIRST);
    grow(60 * 1024);
    cr_assert_eq(round_of(PS_PRUNE_NONE), 0, "%s", co_sentence());
}

/* Everything that the newest manifest tells of is there and sound; *from: where the log begins. */
static void expect_whole(lsn_t *from)
{
    struct ar_store *s;
    Corallite__ArchiveState *state;
    struct ar_line l;
    struct ar_walk walk;
    cr_assert_eq(ar_open(rig.url, &(struct ar_options){.read_only = true}, &s), 0);
    cr_assert_eq(ar_newest_state(s, &rig.a.cluster, NULL, &state), 0, "%s", co_sentence());
    cr_assert(ar_line_find(state, &rig.line.id, &l));
    cr_assert_eq(l.end, rig.chain.last_lsn);
    *from = ar_line_from(&l);
    cr_assert_leq(*from, l.snap.lsn);
    ar_walk_line(&walk, &rig.a.cluster, &l);
    cr_assert_eq(ar_read_log(s, &rig.a.cluster, &l, &walk, NULL), 0, "%s", co_sentence());
    cr_assert_eq(walk.term, rig.scribe.term);
    cr_assert_neq(walk.config.version, 0, "the configuration below was forgotten");
    ar_walk_free(&walk);
    rig_expect_snapshot(s, &l.snap);
    corallite__archive_state__free_unpacked(state, NULL);
    ar_close(s);
}

struct count {
    lsn_t below;
    unsigned log, log_below, snap, states;
};

static int count_one(void *arg, const char *name, uint64_t size)
{
    struct count *c = arg;
    struct co_id id;
    struct ar_chunk chunk;
    struct ar_snap_name snap;
    struct ar_place place;
    (void)size;
    if (ar_parse_log(name, &id, &chunk)) {
        c->log++;
        c->log_below += chunk.end <= c->below;
    }
    c->snap += ar_parse_snap(name, &id, &snap);
    c->states += ar_parse_state(name, &place);
    return 0;
}

static struct count objects(lsn_t below)
{
    struct count c = {.below = below};
    struct ar_store *s;
    cr_assert_eq(ar_open(rig.url, &(struct ar_options){.read_only = true}, &s), 0);
    cr_assert_eq(ar_list(s, "", NULL, count_one, &c), 0);
    ar_close(s);
    return c;
}

Test(archive_prune, log_below_the_snapshot_goes_and_all_that_is_kept_can_be_read)
{
    /* V7; first what a dry run says, which changes nothing. */
    lsn_t from, snap;
    fill();
    snap = rig_archived()->snap.lsn;
    struct count before = objects(snap);
    cr_assert_gt(before.log_below, 1u);
    cr_assert_eq(round_of(PS_PRUNE_DRY), 0, "%s", co_sentence());
    struct ps_pruned would = rig.task.pruned;
    struct count after = objects(snap);
    cr_assert_eq(after.log, before.log);
    expect_whole(&from);
    cr_assert_eq(from, LSN_FIRST);
    cr_assert_eq(would.log_objects, before.log_below);
    cr_assert_eq(would.branches, 1u);
    cr_assert_eq(would.log_bytes, snap - LSN_FIRST);
    cr_assert_eq(round_of(PS_PRUNE_DO), 0, "%s", co_sentence());
    cr_assert_eq(memcmp(&rig.task.pruned, &would, offsetof(struct ps_pruned, manifests)), 0);
    cr_assert_eq(rig.task.pruned.n_notes, 0u, "%s", rig.task.pruned.notes[0]);
    after = objects(snap);
    cr_assert_eq(after.log_below, 0u);
    cr_assert_eq(after.log, before.log - before.log_below);
    cr_assert_eq(after.states, 1u, "a manifest that tells of what went is there");
    expect_whole(&from);
    cr_assert_eq(from, snap);
    /* Once is enough. */
    cr_assert_eq(round_of(PS_PRUNE_DO), 0);
    cr_assert(!rig.task.pruned.branches && !rig.task.pruned.log_objects &&
              !rig.task.pruned.stray_objects);
}

Test(archive_prune, a_process_that_starts_goes_on_where_the_log_begins_and_prunes_again)
{
    lsn_t from, first;
    fill();
    cr_assert_eq(round_of(PS_PRUNE_DO), 0, "%s", co_sentence());
    first = rig_archived()->kept.lsn;
    rig_process_ends();
    rig_process_begins();
    cr_assert_eq(round_of(PS_PRUNE_NONE), 0, "%s", co_sentence());
    cr_assert_eq(rig_archived()->kept.lsn, first);
    grow(400 * 1024);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(round_of(PS_PRUNE_NONE), 0, "%s", co_sentence());
    cr_assert_gt(rig_archived()->snap.lsn, first);
    expect_whole(&from);
    cr_assert_eq(from, first);
    cr_assert_eq(round_of(PS_PRUNE_DO), 0, "%s", co_sentence());
    expect_whole(&from);
    cr_assert_eq(from, rig_archived()->snap.lsn);
    cr_assert_eq(objects(from).log_below, 0u);
}

static void spoil(const char *of, const char *how)
{
    char command[300];
    snprintf(command, sizeof command, "f=$(find '%s' -path '*/%s/*' -type f | sort | head -1); %s",
             rig.archive, of, how);
    cr_assert_eq(system(command), 0);
}

Test(archive_prune, a_snapshot_that_is_not_sound_takes_no_log_away)
{
    /* V7: every byte of it is read before; the note says why. */
    lsn_t snap, from;
    fill();
    snap = rig_archived()->snap.lsn;
    unsigned before = objects(snap).log_below;
    spoil("snap", "printf x | dd of=\"$f\" bs=1 seek=200 conv=notrunc status=none");
    cr_assert_eq(round_of(PS_PRUNE_DO), 0, "%s", co_sentence());
    cr_assert_eq(rig.task.pruned.n_notes, 1u);
    cr_assert(strstr(rig.task.pruned.notes[0], "its log stays"), "%s", rig.task.pruned.notes[0]);
    cr_assert(!rig.task.pruned.branches && !rig.task.pruned.log_objects);
    cr_assert_eq(objects(snap).log_below, before);
    spoil("snap", "rm \"$f\"");
    cr_assert_eq(round_of(PS_PRUNE_DO), 0, "%s", co_sentence());
    cr_assert_eq(rig.task.pruned.n_notes, 1u);
    cr_assert_eq(objects(snap).log_below, before);
    (void)from;
}

Test(archive_prune, log_that_does_not_lead_to_the_snapshot_is_not_taken_away)
{
    /* V7: nor is what is damaged itself; somebody has to look at it. */
    fill();
    lsn_t snap = rig_archived()->snap.lsn;
    unsigned before = objects(snap).log_below;
    spoil("log", "printf x | dd of=\"$f\" bs=1 seek=200 conv=notrunc status=none");
    cr_assert_eq(round_of(PS_PRUNE_DO), 0, "%s", co_sentence());
    cr_assert_eq(rig.task.pruned.n_notes, 1u);
    cr_assert_eq(objects(snap).log_below, before);
}

Test(archive_prune, what_the_store_promises_beyond_the_snapshot_keeps_the_log)
{
    /* V7: its cut is above the store's; or the store is being rebuilt, or is behind it. */
    fill();
    lsn_t snap = rig_archived()->snap.lsn;
    unsigned before = objects(snap).log_below;
    struct ps_archive_line good = rig.tline;
    for (int how = 0; how < 3; how++) {
        rig.tline = good;
        rig_archived()->snap.cutoff = how == 0 ? LSN_FIRST + 8 : 0;
        rig.tline.rebuilding = how == 1;
        rig.tline.last = how == 2 ? snap - 8 : rig.tline.last;
        cr_assert_eq(round_of(PS_PRUNE_DO), 0, "%s", co_sentence());
        cr_assert_eq(rig.task.pruned.n_notes, 1u, "%d", how);
        cr_assert_eq(objects(snap).log_below, before, "%d", how);
    }
    rig.tline = good;
}

Test(archive_prune, whoever_was_replaced_takes_nothing_away)
{
    /* V3, V7: a later generation was claimed, before the round and between manifest and removal. */
    char name[AR_NAME_TEXT];
    fill();
    lsn_t snap = rig_archived()->snap.lsn;
    unsigned before = objects(snap).log_below;
    ar_name_writer(&rig.a.cluster, rig.a.generation + 1, name);
    cr_assert_eq(ar_put(rig.a.store, name, co_span_of("x", 1)), 0);
    cr_assert_eq(round_of(PS_PRUNE_DO), CO_ERR_STALE_TERM);
    cr_assert(rig.task.deposed);
    cr_assert_eq(round_of(PS_PRUNE_DRY), CO_ERR_STALE_TERM);
    cr_assert_eq(objects(snap).log_below, before);
}

Test(archive_prune, what_no_manifest_tells_of_goes_and_nothing_else)
{
    char name[AR_NAME_TEXT];
    lsn_t from;
    fill();
    struct co_id gone = ps_id(77);
    struct ar_chunk chunk = {.begin = LSN_FIRST, .end = LSN_FIRST + 8};
    struct ar_snap_name part = {.lsn = 4096, .generation = 1},
                        later = {.lsn = 4096, .generation = rig.a.generation + 1};
    struct count before = objects(0);
    cr_assert_eq(ar_put(rig.a.store, ar_name_log(&rig.a.cluster, &gone, &chunk, name),
                        co_span_of("12345678", 8)),
                 0);
    rig_put_snap(&gone, &part, "a");
    rig_put_snap(&rig.line.id, &part, "b");
    rig_put_snap(&rig.line.id, &later, "c");
    cr_assert_eq(round_of(PS_PRUNE_DRY), 0);
    cr_assert_eq(rig.task.pruned.stray_objects, 3u);
    cr_assert_eq(rig.task.pruned.stray_bytes, 10u);
    cr_assert_eq(objects(0).snap, before.snap + 3);
    rig_archived()->snap.cutoff = 0;
    cr_assert_eq(round_of(PS_PRUNE_DO), 0, "%s", co_sentence());
    cr_assert_eq(rig.task.pruned.stray_objects, 3u);
    cr_assert_eq(objects(0).snap, before.snap + 1,
                 "a later generation's was taken away, or one that is told of");
    expect_whole(&from);
}

/* -- A place that fails ------------------------------------------------------------------------ */

struct flaky {
    struct ar_store base;
    struct ar_store *in;
    int left;   /* so many changes take place */
    bool after; /* the next one too, but its answer is lost */
};

static bool fails(struct flaky *f, bool *done)
{
    *done = f->left-- > 0 || (f->left == -1 && f->after);
    return f->left < 0;
}

static int lost(void)
{
    return co_fail(CO_ERR_IO, "the place fails, as it should");
}

static void flaky_close(struct ar_store *s)
{
    ar_close(((struct flaky *)s)->in);
    free(s);
}

static int flaky_put(struct ar_store *s, const char *name, struct co_span bytes)
{
    struct flaky *f = (struct flaky *)s;
    bool done, bad = fails(f, &done);
    int rc = done ? ar_put(f->in, name, bytes) : 0;
    return bad ? lost() : rc;
}

static int flaky_put_if_absent(struct ar_store *s, const char *name, struct co_span bytes)
{
    struct flaky *f = (struct flaky *)s;
    bool done, bad = fails(f, &done);
    int rc = done ? ar_put_if_absent(f->in, name, bytes) : 0;
    return bad ? lost() : rc;
}

static int flaky_get(struct ar_store *s, const char *name, uint64_t offset, size_t length,
                     struct co_buf *out, uint64_t *size)
{
    return ar_get(((struct flaky *)s)->in, name, offset, length, out, size);
}

static int flaky_list(struct ar_store *s, const char *prefix, const char *after, ar_list_fn fn,
                      void *arg)
{
    return ar_list(((struct flaky *)s)->in, prefix, after, fn, arg);
}

static int flaky_remove(struct ar_store *s, const char *name)
{
    struct flaky *f = (struct flaky *)s;
    bool done, bad = fails(f, &done);
    int rc = done ? ar_remove(f->in, name) : 0;
    return bad ? lost() : rc;
}

static const struct ar_ops flaky_ops = {flaky_close, flaky_put,  flaky_put_if_absent,
                                        flaky_get,   flaky_list, flaky_remove};

static void make_flaky(int left, bool after)
{
    struct flaky *f = calloc(1, sizeof *f);
    f->base.ops = &flaky_ops;
    snprintf(f->base.url, sizeof f->base.url, "%s", rig.url);
    f->in = rig.a.store;
    f->left = left;
    f->after = after;
    rig.a.store = &f->base;
}

static void keep_copy(bool back)
{
    char command[400];
    if (back)
        snprintf(command, sizeof command, "rm -rf '%s'; cp -a '%s.kept' '%s'", rig.archive,
                 rig.archive, rig.archive);
    else
        snprintf(command, sizeof command, "cp -a '%s' '%s.kept'", rig.archive, rig.archive);
    cr_assert_eq(system(command), 0);
}

Test(archive_prune, a_crash_at_any_step_leaves_no_hole_and_the_next_takes_the_rest_away)
{
    /* V1, V6, V7: each change of the place in turn is the last; the answer comes, or not. */
    lsn_t from;
    fill();
    lsn_t snap = rig_archived()->snap.lsn;
    unsigned crashes = 0, before_manifest = 0;
    keep_copy(false);
    for (int step = 0; step < 200; step++)
        for (int after = 0; after < 2; after++) {
            rig_process_ends();
            keep_copy(true);
            rig_process_begins();
            cr_assert_eq(round_of(PS_PRUNE_NONE), 0, "%s", co_sentence());
            make_flaky(step, after);
            int rc = round_of(PS_PRUNE_DO);
            expect_whole(&from);
            before_manifest += from == LSN_FIRST;
            if (rc == 0) {
                cr_assert_gt(crashes, 6u, "of how many steps is it made?");
                cr_assert_gt(before_manifest, 0u);
                return;
            }
            crashes++;
            rig_process_ends();
            rig_process_begins();
            cr_assert_eq(round_of(PS_PRUNE_DO), 0, "step %d: %s", step, co_sentence());
            expect_whole(&from);
            cr_assert_eq(from, snap);
            struct count c = objects(snap);
            cr_assert_eq(c.log_below, 0u, "step %d", step);
            cr_assert_eq(c.snap, 2u);
        }
    cr_assert_fail("it never came to its end");
}

/* -- Manifests that are lost ---------------------------------------------------------------------
 */

static void remove_manifests(void)
{
    char command[200];
    snprintf(command, sizeof command, "rm -r '%s'/*/state", rig.archive);
    cr_assert_eq(system(command), 0);
}

Test(archive_prune, an_archive_that_lost_its_manifests_is_not_begun_anew)
{
    /* V9: what lies beyond the manifest goes (V4), and without one that would be all. */
    fill();
    unsigned before = objects(0).log;
    rig_process_ends();
    remove_manifests();
    rig_process_begins();
    cr_assert_eq(round_of(PS_PRUNE_NONE), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "no manifest that tells of it"), "%s", co_sentence());
    cr_assert_eq(round_of(PS_PRUNE_DO), CO_ERR_CORRUPT);
    cr_assert_eq(objects(0).log, before);
}

Test(archive_prune, the_first_object_behind_a_claim_is_a_manifest)
{
    /* V9: also where it could not be put at first. */
    cr_assert_eq(round_of(PS_PRUNE_NONE), 0, "%s", co_sentence());
    rig_process_ends();
    remove_manifests();
    rig_process_begins();
    cr_assert_eq(ar_open(rig.url, NULL, &rig.a.store), 0);
    make_flaky(1, false); /* the claim, and nothing more */
    cr_assert_eq(round_of(PS_PRUNE_NONE), CO_ERR_IO);
    cr_assert_eq(objects(0).states, 0u);
    ((struct flaky *)rig.a.store)->left = 1;
    cr_assert_eq(round_of(PS_PRUNE_NONE), 0, "%s", co_sentence());
    cr_assert_eq(objects(0).states, 1u);
}
