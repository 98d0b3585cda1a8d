#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "cli/member_plan.h"
#include "proto/qhist.h"

TestSuite(member_plan, .timeout = 10);

static void group(struct wal_member *m, uint32_t *n, const char *nodes)
{
    for (*n = 0; *nodes; nodes++)
        m[(*n)++].node_id = (uint32_t)(*nodes - '0');
}

/* "123", or "123>234" for a joint one. */
static struct wal_config config(const char *text)
{
    struct wal_config c = {.version = 7};
    char old[8] = "";
    const char *arrow = strchr(text, '>');
    memcpy(old, text, arrow ? (size_t)(arrow - text) : strlen(text));
    group(c.members, &c.n, old);
    if (arrow)
        group(c.new_members, &c.n_new, arrow + 1);
    return c;
}

static bool is(const struct wal_config *c, const char *text)
{
    struct wal_config want = config(text);
    return c->n_new == 0 && q_same_group(c->members, c->n, want.members, want.n);
}

/* All the way, by the steps that a log allows; how many records that takes. */
static int walk(const char *log, const char *list, char *by, size_t size)
{
    struct wal_config at = config(log), to = config(list), target, next;
    int records = 0;
    *by = 0;
    while (member_plan(&at, &to, &target)) {
        cr_assert_lt(records, 9, "it does not end");
        cr_assert(q_config_step(&at, &target, &next), "a step that no leader would take");
        cr_assert_eq(next.version, at.version + 1);
        at = next;
        records++;
        for (uint32_t i = 0; at.n_new == 0 && i < at.n; i++)
            snprintf(by + strlen(by), size - strlen(by), "%u", at.members[i].node_id);
        if (at.n_new == 0)
            snprintf(by + strlen(by), size - strlen(by), " ");
    }
    return records;
}

Test(member_plan, a_log_ends_with_the_members_of_the_list_wherever_it_was)
{
    static const struct {
        const char *log, *list, *by;
        int records;
    } cases[] = {
        {"123", "123>234", "234 ", 2},         /* the ordinary one */
        {"123>234", "123>234", "234 ", 1},     /* broken off in the middle */
        {"234", "123>234", "", 0},             /* done, or born so */
        {"123", "234", "234 ", 2},             /* after the list has changed */
        {"123", "234>345", "345 ", 2},         /* missed by the replacement before */
        {"123", "345", "345 ", 2},             /* and by two */
        {"123>234", "234>345", "234 345 ", 3}, /* in the middle of the one before */
        {"123>234", "456", "234 456 ", 3},     /* of one long ago */
        {"12345", "12345>12346", "12346 ", 2}, /* of five */
        {"1", "1>2", "2 ", 2},                 /* of one */
    };
    char by[40];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int n = walk(cases[i].log, cases[i].list, by, sizeof by);
        cr_assert_eq(n, cases[i].records, "%s to %s: %d records", cases[i].log, cases[i].list, n);
        cr_assert_str_eq(by, cases[i].by, "%s to %s", cases[i].log, cases[i].list);
    }
}

Test(member_plan, disks_are_those_of_the_list_and_else_those_of_the_log)
{
    struct wal_config log = config("123"), list = config("123>234"), target;
    struct co_id two = {{2}}, old = {{22}}, four = {{4}};
    log.members[1].disk_uuid = two;
    log.members[2].disk_uuid = old;
    list.new_members[1].disk_uuid = (struct co_id){{3}};
    list.new_members[2].disk_uuid = four;
    cr_assert(member_plan(&log, &list, &target));
    cr_assert(is(&target, "234"));
    cr_assert(co_id_eq(&target.members[0].disk_uuid, &two), "the list does not know it");
    cr_assert_eq(target.members[1].disk_uuid.b[0], 3);
    cr_assert(co_id_eq(&target.members[2].disk_uuid, &four));
}

Test(member_plan, a_joint_one_is_ended_when_the_new_one_and_a_majority_have_all)
{
    struct wal_config ours = config("123>234"), other = config("123>234");
    const uint32_t all[] = {2, 3, 4}, old[] = {1, 2, 3}, one[] = {4}, two[] = {2, 4};
    cr_assert(member_plan_fed(&ours, 4, all, 3));
    cr_assert(member_plan_fed(&ours, 4, two, 2));
    cr_assert_not(member_plan_fed(&ours, 4, old, 3), "the new one lags");
    cr_assert_not(member_plan_fed(&ours, 4, one, 1), "nothing could be committed then");
    cr_assert_not(member_plan_fed(&ours, 4, NULL, 0));
    cr_assert(member_plan_fed(&other, 5, old, 3), "5 is none of these: it comes with the next");
    cr_assert_not(member_plan_fed(&other, 5, one, 1));
}
