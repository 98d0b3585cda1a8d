/*
 * restore_file.h - a safekeeper's directory made of an archive (archive/read.h), when every copy of
 * the log in the cluster is lost.
 *
 * All members are restored alike, each by itself: the result is a function of the manifest. Each
 * then has the same log, all of it committed, in the same configuration.
 *
 *   - The cluster's id stays: it is in every record.
 *   - Who votes is new: the members given, any disks. Where the log itself names members (one was
 *     replaced once), a configuration is appended.
 *   - Every timeline is born TERMS_A_CLUSTER later than in the lost cluster, and its terms go on
 *     from there: what that one did after its last archived commit, and in timelines that the
 *     archive does not know or no longer knows, cannot be taken for what the new one does.
 *
 * The directory appears under its name when it is whole.
 */
#ifndef CORALLITE_SAFEKEEPER_RESTORE_FILE_H
#define CORALLITE_SAFEKEEPER_RESTORE_FILE_H

#include <stdbool.h>

#include "common/id.h"
#include "proto/wal.h"

struct sk_restore {
    const char *url, *dir; /* dir: absent or empty */
    uint32_t node;
    const struct co_id *cluster; /* NULL: the only one that is in the archive */
    uint32_t members[CO_MEMBERS_MAX];
    uint32_t n_members; /* ascending; `node` among them */
};

/* Says on stdout what came back, a line a branch. Errors name the object that is missing or
 * damaged. */
CO_MUST_CHECK int sk_restore(const struct sk_restore *options);

#endif
