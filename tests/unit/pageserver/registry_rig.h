/* registry_rig.h - a registry that hears of timelines from three safekeepers, for the tests of the
 * two who have one. */
#ifndef CORALLITE_TESTS_REGISTRY_RIG_H
#define CORALLITE_TESTS_REGISTRY_RIG_H

#include <criterion/criterion.h>
#include <stdio.h>

#include "pageserver/registry.h"
#include "tests/unit/pageserver/ps_util.h"

static struct ps_registry reg;
static struct co_id maker; /* the pageserver that made what meta() tells of */

/* Of the pageserver 2 in cluster 1. */
static void registry_begin(struct co_id made_by)
{
    struct co_id cluster = ps_id(1), self = ps_id(2);
    maker = made_by;
    cr_assert_eq(ps_reg_init(&reg, &cluster, &self, 3), 0);
}

static void teardown(void)
{
    ps_reg_free(&reg);
}

static struct ps_meta meta(uint8_t id, const char *name, enum ps_state state, uint64_t version)
{
    struct ps_meta m = {.id = ps_id(id),
                        .database = ps_id((uint8_t)(id + 100)),
                        .branch = "main",
                        .start_lsn = LSN_FIRST,
                        .state = state,
                        .version = version,
                        .created_us = 1000u + id,
                        .pageserver = maker};
    snprintf(m.database_name, sizeof m.database_name, "%s", name);
    return m;
}

static struct ps_timeline *heard(uint32_t node, struct ps_meta m)
{
    struct ps_timeline *tl;
    cr_assert_eq(ps_reg_heard(&reg, node, &m, &tl), 0);
    return tl;
}

static inline void all_listed(void)
{
    for (uint32_t i = 0; i < 3; i++)
        ps_reg_list_done(&reg, i);
}

#endif
