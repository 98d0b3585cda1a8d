#include <criterion/criterion.h>
#include <stdio.h>

#include "pageserver/registry.h"
#include "tests/unit/pageserver/ps_util.h"

static struct ps_registry reg;
static struct co_id cluster, self;

static void setup(void)
{
    cluster = ps_id(1);
    self = ps_id(2);
    cr_assert_eq(ps_reg_init(&reg, &cluster, &self, 3), 0);
}
static void teardown(void)
{
    ps_reg_free(&reg);
}
TestSuite(registry, .init = setup, .fini = teardown, .timeout = 20);

static struct ps_meta meta(uint8_t id, const char *name, enum ps_state state, uint64_t version)
{
    struct ps_meta m = {.id = ps_id(id),
                        .database = ps_id((uint8_t)(id + 100)),
                        .branch = "main",
                        .start_lsn = LSN_FIRST,
                        .state = state,
                        .version = version,
                        .created_us = 1000u + id,
                        .pageserver = self};
    snprintf(m.database_name, sizeof m.database_name, "%s", name);
    return m;
}

static struct ps_timeline *heard(uint32_t node, struct ps_meta m)
{
    struct ps_timeline *tl;
    cr_assert_eq(ps_reg_heard(&reg, node, &m, &tl), 0);
    return tl;
}

static void all_listed(void)
{
    for (uint32_t i = 0; i < 3; i++)
        ps_reg_list_done(&reg, i);
}

Test(registry, a_creation_is_active_only_on_a_majority_and_counts_only_when_stored)
{
    /* M18: CREATING on a majority, then ACTIVE on a majority, then the row here. */
    struct ps_timeline *tl;
    all_listed();
    struct ps_meta m = meta(9, "shop", PS_CREATING, 1);
    cr_assert_eq(ps_reg_create(&reg, &m, &tl), 0);
    cr_assert(ps_reg_lacks(&reg, tl, 0) && ps_reg_lacks(&reg, tl, 2));
    heard(0, m);
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING, "one of three is no majority");
    heard(1, m);
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_CHANGED);
    cr_assert(tl->meta.state == PS_ACTIVE && tl->meta.version == 2);
    cr_assert(ps_reg_lacks(&reg, tl, 0), "the new version is sent to all");
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING);
    heard(2, tl->meta);
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING);
    heard(1, tl->meta);
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_STORE);
    cr_assert_not(ps_timeline_open(tl));
    tl->stored = 2, tl->stored_state = PS_ACTIVE;
    cr_assert(ps_timeline_open(tl));
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING);
    cr_assert(ps_reg_lacks(&reg, tl, 0), "the member that was away is repaired");
}

Test(registry, nothing_is_decided_before_a_majority_was_heard)
{
    /* R1: a minority may not know of a tombstone. */
    struct ps_timeline *tl = heard(0, meta(9, "shop", PS_CREATING, 1));
    heard(1, meta(9, "shop", PS_CREATING, 1));
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING);
    cr_assert_not(ps_reg_list_done(&reg, 0));
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING);
    cr_assert_not(ps_reg_lacks(&reg, tl, 0));
    cr_assert(ps_reg_list_done(&reg, 1));
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_CHANGED, "what a crash left is driven on");
    cr_assert_not(ps_reg_lacks(&reg, tl, 2), "nobody is sent anything before it listed");
}

Test(registry, the_higher_version_wins_and_the_others_are_repaired)
{
    /* M18: a dropped name is not resurrected by a member that was away. */
    struct ps_timeline *tl = heard(0, meta(9, "shop", PS_ACTIVE, 2));
    heard(1, meta(9, "shop", PS_DROPPED, 3));
    heard(2, meta(9, "shop", PS_ACTIVE, 2));
    all_listed();
    cr_assert_eq(tl->meta.state, PS_DROPPED);
    cr_assert_null(ps_reg_find_name(&reg, "shop", "main"));
    cr_assert(ps_reg_lacks(&reg, tl, 0) && ps_reg_lacks(&reg, tl, 2));
    cr_assert_not(ps_reg_lacks(&reg, tl, 1));
    heard(2, meta(9, "shop", PS_DROPPED, 3));
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_STORE);
}

Test(registry, of_two_creations_of_one_name_the_older_stays)
{
    /* R2: one was cut off by a crash, the other came after it. */
    struct ps_timeline *young = heard(0, meta(20, "shop", PS_CREATING, 1));
    struct ps_timeline *old = heard(1, meta(10, "shop", PS_CREATING, 1));
    all_listed();
    cr_assert_eq(old->meta.state, PS_CREATING);
    cr_assert_eq(young->meta.state, PS_DROPPED);
    cr_assert_eq(young->meta.version, 2);
    cr_assert_eq(ps_reg_find_name(&reg, "shop", "main"), old);
}

Test(registry, an_active_timeline_is_never_dropped_by_a_creation)
{
    /* R3 */
    struct ps_timeline *active = heard(0, meta(20, "shop", PS_ACTIVE, 2));
    all_listed();
    struct ps_timeline *older = heard(1, meta(10, "shop", PS_CREATING, 1));
    cr_assert_eq(active->meta.state, PS_ACTIVE);
    cr_assert_eq(older->meta.state, PS_DROPPED);
    cr_assert_eq(ps_reg_find_name(&reg, "shop", "main"), active);
}

Test(registry, a_safekeeper_that_lists_again_is_believed_anew)
{
    /* It may have come back with an empty disk: what it lacks is put there again. */
    struct ps_timeline *tl = heard(0, meta(9, "shop", PS_ACTIVE, 2));
    heard(1, meta(9, "shop", PS_ACTIVE, 2));
    all_listed();
    cr_assert_not(ps_reg_lacks(&reg, tl, 0));
    ps_reg_list_begins(&reg, 0);
    cr_assert_not(ps_reg_lacks(&reg, tl, 0), "not while it is telling");
    ps_reg_list_done(&reg, 0);
    cr_assert(ps_reg_lacks(&reg, tl, 0));
}

Test(registry, another_pageservers_timeline_is_seen)
{
    /* S13 */
    struct ps_meta m = meta(9, "shop", PS_ACTIVE, 2);
    heard(0, m);
    all_listed();
    cr_assert_null(ps_reg_foreign(&reg));
    m.pageserver = ps_id(66), m.version = 3;
    struct ps_timeline *tl = heard(1, m);
    cr_assert_eq(ps_reg_foreign(&reg), tl);
    ps_reg_change(&reg, tl, PS_ACTIVE); /* a take-over */
    cr_assert_null(ps_reg_foreign(&reg));
    cr_assert_eq(tl->meta.version, 4);
}

Test(registry, many_timelines_are_found_by_id_and_name)
{
    /* The indexes grow. */
    for (uint32_t i = 0; i < 5000; i++) {
        char name[32];
        struct ps_timeline *tl;
        snprintf(name, sizeof name, "db%u", i);
        struct ps_meta m = meta(1, name, PS_ACTIVE, 2);
        co_put32(m.id.b, i * 2654435761u);
        cr_assert_eq(ps_reg_load(&reg, i + 1, false, &m, &tl), 0);
    }
    for (uint32_t i = 0; i < 5000; i++) {
        char name[32];
        snprintf(name, sizeof name, "db%u", i);
        struct ps_timeline *tl = ps_reg_find_name(&reg, name, "main");
        cr_assert(tl && tl->line.no == i + 1);
        cr_assert_eq(ps_reg_find(&reg, &tl->meta.id), tl);
    }
    cr_assert_null(ps_reg_find_name(&reg, "db5000", "main"));
}
