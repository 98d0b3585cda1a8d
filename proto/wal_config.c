/* wal_config.c - what makes a configuration one; its record is built and read in wal_build.c and
 * wal_read.c. */
#include "proto/wal.h"

static int check_group(const char *what, const struct wal_member *members, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (members[i].node_id == 0)
            return co_fail(CO_ERR_INVAL, "a %s has node id 0; node ids begin at 1", what);
        if (i > 0 && members[i].node_id <= members[i - 1].node_id)
            return co_fail(CO_ERR_INVAL, "a %s has node id %u after %u; node ids ascend", what,
                           members[i].node_id, members[i - 1].node_id);
    }
    return 0;
}

int wal_config_check(const struct wal_config *config)
{
    if (config->version == 0)
        return co_fail(CO_ERR_INVAL, "a configuration has version 0; versions begin at 1");
    if (config->n == 0 || config->n > CO_MEMBERS_MAX || config->n_new > CO_MEMBERS_MAX)
        return co_fail(CO_ERR_INVAL,
                       "a configuration has %u members and %u new ones; 1 to %d and 0 to %d are "
                       "possible",
                       config->n, config->n_new, CO_MEMBERS_MAX, CO_MEMBERS_MAX);
    int rc = check_group("member", config->members, config->n);
    return rc ? rc : check_group("new member", config->new_members, config->n_new);
}
