/* What other loops may know (pageserver/view.h): W1 to W4. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>

#include "pageserver/view.h"

static struct ps_view *view;
static struct ps_line line[3000];

static void setup(void)
{
    cr_assert_eq(ps_view_new(&view), 0);
    for (uint32_t i = 0; i < 3000; i++) {
        line[i].no = i + 1;
        co_put32(line[i].id.b, i * 7);
        co_put32(line[i].id.b + 4, i);
    }
}

static void teardown(void)
{
    ps_view_free(view);
}

TestSuite(view, .init = setup, .fini = teardown, .timeout = 60);

static struct ps_readable readable(uint32_t i, lsn_t reached, lsn_t cutoff)
{
    return (struct ps_readable){.line = &line[i],
                                .start_lsn = LSN_FIRST,
                                .reached = reached,
                                .cutoff = cutoff,
                                .page_size = 4096};
}

static void put(uint32_t i, lsn_t reached, lsn_t cutoff)
{
    struct ps_readable r = readable(i, reached, cutoff);
    ps_view_put(view, &r);
}

Test(view, tells_of_a_timeline_what_was_put_last_and_of_others_nothing)
{
    /* What is not here is a question for the main loop. */
    struct ps_glance g;
    cr_assert(!ps_view_look(view, &line[1].id, &g));
    put(1, 500, 0);
    put(1, 900, 0);
    cr_assert(ps_view_look(view, &line[1].id, &g));
    cr_assert_eq(g.r.reached, 900);
    cr_assert_eq(g.r.line, &line[1]);
    cr_assert(!ps_view_look(view, &line[2].id, &g));
    ps_view_take(view, &line[2].id);
    cr_assert(!ps_view_look(view, &line[2].id, &g));
}

Test(view, finds_each_of_many)
{
    /* It grows; ids may fall into one bucket. */
    struct ps_glance g;
    for (uint32_t i = 0; i < 3000; i++)
        put(i, 1000 + i, 0);
    for (uint32_t i = 0; i < 3000; i++) {
        cr_assert(ps_view_look(view, &line[i].id, &g));
        cr_assert_eq(g.r.reached, 1000 + i);
    }
}

Test(view, what_was_taken_is_not_held_by_who_looked_before)
{
    /* W2: a drop or a rebuild, and whoever puts it again meanwhile. */
    struct ps_glance before, after;
    put(1, 900, 0);
    cr_assert(ps_view_look(view, &line[1].id, &before));
    cr_assert(ps_view_hold(view, &before, 900, 900));
    ps_view_take(view, &line[1].id);
    cr_assert(!ps_view_hold(view, &before, 900, 900), "it is not readable");
    put(1, 900, 0);
    cr_assert(!ps_view_hold(view, &before, 900, 900), "it is another one");
    cr_assert(ps_view_look(view, &line[1].id, &after));
    cr_assert(ps_view_hold(view, &after, 900, 900));
}

Test(view, holds_nothing_below_a_cut_that_came_after_the_look)
{
    /* W3 */
    struct ps_glance g;
    put(1, 900, 0);
    cr_assert(ps_view_look(view, &line[1].id, &g));
    cr_assert_eq(ps_view_cut(view, &line[1].id, 600), 600);
    cr_assert(!ps_view_hold(view, &g, 599, 599));
    cr_assert(ps_view_hold(view, &g, 600, 600));
}

Test(view, a_cut_stops_at_what_was_held_until_the_main_loop_was_told)
{
    /* W4 */
    struct ps_glance g;
    put(1, 900, 0);
    cr_assert(ps_view_look(view, &line[1].id, &g));
    cr_assert(ps_view_hold(view, &g, 700, 700));
    cr_assert(ps_view_hold(view, &g, 400, 400));
    cr_assert(ps_view_hold(view, &g, 800, 800));
    cr_assert(ps_view_hold(view, &g, 100, 0), "no moment: nothing is noted");
    cr_assert_eq(ps_view_cut(view, &line[1].id, 600), 400);
    cr_assert(ps_view_hold(view, &g, 400, 400));
    cr_assert_eq(ps_view_reads(view, &line[1].id), 400);
    cr_assert_eq(ps_view_reads(view, &line[1].id), 0);
    cr_assert_eq(ps_view_cut(view, &line[1].id, 600), 600);
    cr_assert(!ps_view_hold(view, &g, 400, 400));
    cr_assert_eq(ps_view_cut(view, &line[1].id, 500), 500, "never back");
    cr_assert(!ps_view_hold(view, &g, 500, 500));
}

static void add_up(void *arg, const struct co_id *id, lsn_t oldest)
{
    lsn_t *sum = arg;
    (void)id;
    *sum += oldest;
}

Test(view, tells_all_that_was_held_once)
{
    /* So that the main loop need not ask for each timeline. */
    struct ps_glance g;
    lsn_t sum = 0;
    for (uint32_t i = 0; i < 100; i++) {
        put(i, 900, 0);
        cr_assert(ps_view_look(view, &line[i].id, &g));
        cr_assert(ps_view_hold(view, &g, 300, 300));
        cr_assert(ps_view_hold(view, &g, 500, 500));
    }
    ps_view_reads_all(view, add_up, &sum);
    cr_assert_eq(sum, 30000);
    ps_view_reads_all(view, add_up, &sum);
    cr_assert_eq(sum, 30000);
}

/* -- Several threads --------------------------------------------------------------------------- */

/* The store of this test: what GC has removed, and whether the timeline is there at all. */
static _Atomic lsn_t removed;
static atomic_bool gone, stop;
static _Atomic unsigned wrong, held;

static void *read_on(void *arg)
{
    struct ps_glance g;
    (void)arg;
    while (!atomic_load(&stop)) {
        if (!ps_view_look(view, &line[1].id, &g))
            continue;
        /* the snapshot: what it lacks now it lacks for good */
        bool was_gone = atomic_load(&gone);
        lsn_t lacks = atomic_load(&removed), at = g.r.cutoff + 1;
        if (!ps_view_hold(view, &g, at, at))
            continue;
        held++;
        wrong += was_gone || lacks > at;
    }
    return NULL;
}

Test(view, who_holds_has_a_snapshot_that_lacks_nothing)
{
    /* W2 and W3, with a collector and a rebuild beside readers. */
    pthread_t thread[3];
    lsn_t cut = 10;
    put(1, 1000000, 10);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, read_on, NULL), 0);
    for (unsigned i = 0; i < 3000 || (held < 1000 && i < 1000000); i++) {
        (void)ps_view_reads(view, &line[1].id);
        cut = ps_view_cut(view, &line[1].id, cut + 2);
        atomic_store(&removed, cut);
        if (i % 5)
            continue;
        ps_view_take(view, &line[1].id);
        atomic_store(&gone, true);
        atomic_store(&gone, false);
        put(1, 1000000, cut);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    cr_assert_eq(wrong, 0);
    cr_assert_gt(held, 0);
}
