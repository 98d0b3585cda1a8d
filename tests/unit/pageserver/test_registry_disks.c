/* R10 of registry.h: a number is one disk for ever. */
#include "tests/unit/pageserver/registry_rig.h"

static void setup(void)
{
    registry_begin(ps_id(2));
}
TestSuite(registry_disks, .init = setup, .fini = teardown, .timeout = 20);

/* Born with nodes 1 to 3; disks 0: not named. */
static struct ps_meta born(uint8_t id, uint8_t a, uint8_t b, uint8_t c)
{
    const uint8_t disk[3] = {a, b, c};
    char name[8];
    snprintf(name, sizeof name, "db%u", id);
    struct ps_meta m = meta(id, name, PS_ACTIVE, 2);
    m.config = (struct wal_config){.version = 1, .n = 3};
    for (uint32_t i = 0; i < 3; i++) {
        m.config.members[i].node_id = i + 1;
        if (disk[i])
            m.config.members[i].disk_uuid = ps_id(disk[i]);
    }
    return m;
}

static void said(uint32_t node, uint8_t disk)
{
    struct co_id id = ps_id(disk);
    ps_reg_said(&reg, node, &id);
}

static void load(struct ps_meta m)
{
    struct ps_timeline *tl;
    cr_assert_eq(ps_reg_load(&reg, 1, false, &m, &tl), 0);
}

static bool is_named(const struct ps_timeline *tl, uint32_t i, uint8_t disk)
{
    struct co_id id = ps_id(disk);
    return co_id_eq(&tl->meta.config.members[i].disk_uuid, &id);
}

Test(registry_disks, an_empty_directory_in_the_place_of_a_lost_disk_is_none_of_a_majority)
{
    load(born(9, 11, 12, 13));
    said(0, 99);
    said(2, 13);
    cr_assert(ps_reg_is_other(&reg, 0) && !ps_reg_is_other(&reg, 2));
    ps_reg_list_done(&reg, 0);
    cr_assert(!ps_reg_list_done(&reg, 2), "the third alone is no majority");
    said(1, 12);
    cr_assert(ps_reg_list_done(&reg, 1));
}

Test(registry_disks, whom_the_others_timelines_name_is_known_before_they_count)
{
    /* A new pageserver: the empty one came first, and nothing was known. */
    said(0, 99);
    cr_assert(!ps_reg_is_other(&reg, 0));
    cr_assert(!ps_reg_list_done(&reg, 0));
    said(2, 13);
    heard(2, born(9, 11, 12, 13));
    cr_assert(ps_reg_is_other(&reg, 0));
    cr_assert(!ps_reg_list_done(&reg, 2));
}

Test(registry_disks, what_it_holds_does_not_count)
{
    load(born(9, 11, 12, 13));
    for (uint8_t i = 0; i < 3; i++)
        said(i, (uint8_t)(11 + i));
    all_listed();
    struct ps_meta m = born(8, 11, 12, 13);
    m.state = PS_CREATING;
    struct ps_timeline *tl = heard(1, m);
    said(0, 99);
    heard(0, m);
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING);
    heard(2, m);
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_CHANGED);
}

Test(registry_disks, the_disk_of_one_that_was_away_at_the_birth_is_named_when_it_is_back)
{
    struct ps_timeline *tl = heard(1, born(9, 0, 12, 13));
    said(1, 12);
    said(2, 13);
    ps_reg_list_done(&reg, 1);
    ps_reg_list_done(&reg, 2);
    ps_reg_name_disks(&reg, tl);
    cr_assert_eq(tl->meta.version, 2, "nothing is known of it");
    said(0, 11);
    ps_reg_name_disks(&reg, tl);
    cr_assert(tl->meta.version == 3 && tl->meta.state == PS_ACTIVE && is_named(tl, 0, 11));
    cr_assert(ps_reg_lacks(&reg, tl, 1), "the safekeepers are told");
    ps_reg_name_disks(&reg, tl);
    cr_assert_eq(tl->meta.version, 3, "once");
    said(0, 99);
    cr_assert(ps_reg_is_other(&reg, 0));
}

Test(registry_disks, who_follows_or_has_not_heard_a_majority_names_nothing)
{
    struct ps_timeline *tl = heard(1, born(9, 0, 12, 13));
    said(0, 11);
    ps_reg_name_disks(&reg, tl);
    cr_assert_eq(tl->meta.version, 2, "no majority was heard");
    reg.follows = true;
    ps_reg_list_done(&reg, 1);
    ps_reg_list_done(&reg, 2);
    ps_reg_name_disks(&reg, tl);
    cr_assert_eq(tl->meta.version, 2, "it follows");
}

Test(registry_disks, what_another_timeline_names_is_not_overruled_by_who_answers)
{
    /* The other one answers, and a timeline that does not name it gets the disk that it stands for.
     */
    load(born(9, 11, 12, 13));
    struct ps_timeline *tl = heard(1, born(8, 0, 12, 13));
    said(0, 99);
    said(1, 12);
    said(2, 13);
    ps_reg_list_done(&reg, 1);
    ps_reg_list_done(&reg, 2);
    ps_reg_name_disks(&reg, tl);
    cr_assert(is_named(tl, 0, 11));
    struct wal_config c;
    ps_reg_birth_config(&reg, &c);
    struct co_id id = ps_id(11);
    cr_assert(co_id_eq(&c.members[0].disk_uuid, &id));
}

Test(registry_disks, of_two_disks_that_are_named_neither_counts)
{
    /* By a build that did not look: a database was born with each. */
    load(born(9, 11, 12, 13));
    load(born(8, 99, 12, 13));
    said(0, 99);
    cr_assert(ps_reg_is_other(&reg, 0));
    said(0, 11);
    cr_assert(ps_reg_is_other(&reg, 0));
    said(1, 12);
    cr_assert(!ps_reg_is_other(&reg, 1));
}

Test(registry_disks, the_list_names_them_too_and_a_place_is_taken_by_another_number)
{
    load(born(9, 11, 12, 13));
    said(0, 11);
    struct wal_config list = {.version = 3, .n = 3};
    for (uint32_t i = 0; i < 3; i++)
        list.members[i] =
            (struct wal_member){.node_id = i + 2, .disk_uuid = ps_id((uint8_t)(12 + i))};
    ps_reg_slot(&reg, 0, 0);
    ps_reg_slot(&reg, 0, 4);
    ps_reg_members(&reg, &list);
    cr_assert(!ps_reg_is_other(&reg, 0), "nobody answers yet");
    said(0, 99);
    cr_assert(ps_reg_is_other(&reg, 0));
    said(0, 14);
    cr_assert(!ps_reg_is_other(&reg, 0));
    ps_reg_slot(&reg, 0, 1);
    said(0, 14);
    cr_assert(ps_reg_is_other(&reg, 0), "number 1 is named by its timeline");
}
