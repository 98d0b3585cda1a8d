/* member_plan.c - see member_plan.h. */
#include "cli/member_plan.h"

#include "proto/qhist.h"

static void know_disk(struct wal_member *to, const struct wal_member *from, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (from[i].node_id == to->node_id && co_id_is_zero(&to->disk_uuid))
            to->disk_uuid = from[i].disk_uuid;
}

bool member_plan(const struct wal_config *log, const struct wal_config *list,
                 struct wal_config *target)
{
    if (log->n_new > 0) {
        q_config_end(log, target);
        return true;
    }
    q_config_end(list, target);
    for (uint32_t i = 0; i < target->n; i++)
        know_disk(&target->members[i], log->members, log->n);
    return !q_same_group(target->members, target->n, log->members, log->n);
}

bool member_plan_fed(const struct wal_config *log, uint32_t node, const uint32_t *fed, uint32_t n)
{
    struct wal_config end;
    bool has = !q_in_group(log->new_members, log->n_new, node);
    q_config_end(log, &end);
    for (uint32_t i = 0; i < n; i++)
        has |= fed[i] == node;
    return has && q_is_quorum(&end, fed, n);
}
