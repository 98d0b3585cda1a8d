/* test_follow.c - a pageserver that follows: it decides nothing (R6), and what of the owner's
 * answers counts (F1 to F3). */
#include <stdlib.h>

#include "pageserver/follow.h"
#include "proto/message.h"
#include "tests/unit/pageserver/registry_rig.h"

static void setup(void)
{
    registry_begin(ps_id(3));
    reg.follows = true;
}
TestSuite(follow, .init = setup, .fini = teardown, .timeout = 20);

Test(follow, a_creation_is_left_to_the_owner)
{
    /* R6 */
    struct ps_timeline *tl = heard(0, meta(9, "shop", PS_CREATING, 1));
    heard(1, tl->meta);
    heard(2, tl->meta);
    all_listed();
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING);
    cr_assert(tl->meta.state == PS_CREATING && tl->meta.version == 1);
}

Test(follow, what_a_majority_holds_is_stored_and_nothing_is_sent)
{
    /* R6: the member that lacks it is the owner's to repair. */
    struct ps_timeline *tl = heard(0, meta(9, "shop", PS_ACTIVE, 2));
    all_listed();
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING, "one of three is no majority");
    heard(2, tl->meta);
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_STORE);
    cr_assert_not(ps_reg_lacks(&reg, tl, 1));
    tl->stored = 2, tl->stored_state = PS_ACTIVE;
    cr_assert(ps_timeline_open(tl));
    heard(0, meta(9, "shop", PS_DROPPED, 3));
    heard(1, meta(9, "shop", PS_DROPPED, 3));
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_STORE);
    cr_assert_not(ps_timeline_open(tl));
}

Test(follow, two_creations_of_one_name_are_left_to_the_owner)
{
    /* R6 beside R2 and R4 */
    struct ps_meta restore = meta(30, "shop", PS_CREATING, 1);
    restore.replaces = ps_id(10);
    struct ps_timeline *young = heard(0, meta(20, "shop", PS_CREATING, 1));
    struct ps_timeline *old = heard(1, meta(10, "shop", PS_CREATING, 1));
    all_listed();
    struct ps_timeline *late = heard(0, restore);
    cr_assert(young->meta.version == 1 && old->meta.version == 1 && late->meta.version == 1);
    cr_assert_null(ps_reg_sweep(&reg));
}

Test(follow, every_field_of_a_newer_version_is_taken)
{
    /* Retention and what was erased change; a follower hears of them from the registries only. */
    struct ps_timeline *tl = heard(0, meta(9, "shop", PS_ACTIVE, 2));
    struct ps_meta m = meta(9, "shop", PS_ACTIVE, 3);
    m.retention_us = 5;
    m.erased_us = 6;
    m.expires_us = 7;
    m.taken_us = 8;
    m.is_protected = true;
    snprintf(m.branch, sizeof m.branch, "other");
    heard(1, m);
    cr_assert(tl->meta.retention_us == 5 && tl->meta.erased_us == 6 && tl->meta.expires_us == 7);
    cr_assert_eq(tl->meta.taken_us, 8);
    cr_assert(tl->meta.is_protected);
    cr_assert_eq(ps_reg_find_name(&reg, "shop", "other"), tl);
    m.state = PS_DROPPED;
    m.version = 4;
    m.purged = true;
    heard(1, m);
    cr_assert(tl->meta.purged);
}

/* -- The owner's answers -----------------------------------------------------------------------
 */

static Corallite__Followed__Line line[2], *lines[2] = {&line[0], &line[1]};
static struct co_id ids[2];

/* Timelines 9 and 10 at these versions, with these cuts. */
static Corallite__Followed answer(uint64_t v9, lsn_t cut9, uint64_t v10, lsn_t cut10)
{
    Corallite__Followed m = CORALLITE__FOLLOWED__INIT;
    for (int i = 0; i < 2; i++) {
        ids[i] = ps_id((uint8_t)(9 + i));
        corallite__followed__line__init(&line[i]);
        line[i].has_timeline = 1;
        line[i].timeline = msg_bytes16(ids[i].b);
        line[i].version = i ? v10 : v9;
        line[i].cut_lsn = i ? cut10 : cut9;
    }
    m.n_lines = 2;
    m.lines = lines;
    return m;
}

static bool take(Corallite__Followed m)
{
    bool counted;
    cr_assert_eq(ps_follow_take(&reg, &m, &counted), 0, "%s", co_sentence());
    return counted;
}

Test(follow, a_cut_counts_only_when_all_that_the_owner_knew_is_known_here)
{
    /* F2: a branch that begins at an old moment would lose its pages else. */
    struct ps_timeline *a = heard(0, meta(9, "shop", PS_ACTIVE, 2));
    a->chain.last_lsn = 10000;
    cr_assert_not(take(answer(2, 4096, 1, 0)), "timeline 10 was not heard of");
    cr_assert_eq(ps_follow_cut(a), 0);
    heard(0, meta(10, "other", PS_ACTIVE, 2));
    cr_assert_not(take(answer(2, 4096, 3, 0)), "an older version of timeline 10");
    cr_assert_eq(ps_follow_cut(a), 0);
    cr_assert(take(answer(2, 4096, 2, 0)));
    cr_assert_eq(ps_follow_cut(a), 4096);
}

Test(follow, while_cuts_are_moved_none_counts)
{
    /* F2: a pin below may still be on its way to the owner's store. */
    struct ps_timeline *a = heard(0, meta(9, "shop", PS_ACTIVE, 2));
    heard(0, meta(10, "other", PS_ACTIVE, 2));
    a->chain.last_lsn = 10000;
    Corallite__Followed m = answer(2, 4096, 2, 0);
    m.cutting = 1;
    cr_assert_not(take(m));
    cr_assert_eq(ps_follow_cut(a), 0);
}

Test(follow, a_cut_ahead_of_what_was_ingested_waits)
{
    /* F3 */
    struct ps_timeline *a = heard(0, meta(9, "shop", PS_ACTIVE, 2));
    heard(0, meta(10, "other", PS_ACTIVE, 2));
    a->chain.last_lsn = 4000;
    cr_assert(take(answer(2, 4096, 2, 0)));
    cr_assert_eq(ps_follow_cut(a), 0);
    a->chain.last_lsn = 4096;
    cr_assert_eq(ps_follow_cut(a), 4096);
    cr_assert(take(answer(2, 2048, 2, 0)));
    cr_assert_eq(ps_follow_cut(a), 4096, "it moves forward only");
}

Test(follow, pins_are_checked)
{
    Corallite__Followed m = CORALLITE__FOLLOWED__INIT;
    Corallite__Followed__Pin pin = CORALLITE__FOLLOWED__PIN__INIT, *list[1] = {&pin};
    struct co_id id = ps_id(9);
    struct ps_pin_row *rows;
    size_t n;
    m.n_pins = 1;
    m.pins = list;
    pin.has_database = pin.has_timeline = pin.has_lsn = 1;
    pin.database = pin.timeline = msg_bytes16(id.b);
    pin.lsn = 4096;
    cr_assert_eq(ps_follow_pins(&m, &rows, &n), CO_ERR_PROTOCOL, "no name");
    pin.name = (char[]){"../x"};
    cr_assert_eq(ps_follow_pins(&m, &rows, &n), CO_ERR_PROTOCOL);
    pin.name = (char[]){"before"};
    pin.database.len = 15;
    cr_assert_eq(ps_follow_pins(&m, &rows, &n), CO_ERR_PROTOCOL);
    pin.database.len = 16;
    cr_assert_eq(ps_follow_pins(&m, &rows, &n), 0);
    cr_assert(n == 1 && rows[0].lsn == 4096 && strcmp(rows[0].name, "before") == 0);
    free(rows);
}
