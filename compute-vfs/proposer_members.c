/*
 * proposer_members.c - the members change: CONFIG records in the log.
 *
 * A configuration is in force for a leader from the moment it stands in its log, committed or not:
 * pr->config is the last one at or below the tip. Members change in two steps, each a record:
 *
 *   members A --> A and B, joint --> B alone        (or back to A)
 *
 * While joint every quorum needs a majority of A and one of B. A step is taken only by a leader
 * whose own start is committed, and only when the CONFIG record before is committed: so no two of
 * them are ever open, and any two quorums that can count at one time have a node in common.
 *
 * A leader that finds a joint configuration in its donor's log, and by the time that its start is
 * committed has found every new member as far as that, takes the second step before it is READY. So
 * whoever began it need not come back. If a new member is not that far, it goes on joint: writing
 * works, and the new one is fed as any member that lags.
 *
 * Who has left is told so, once that is committed: it gets the log up to and with the CONFIG record
 * that does not name it any more. If it cannot be reached, nothing is lost: it still thinks itself
 * a member, and its vote counts in no quorum that could be enough.
 */
#include "compute-vfs/proposer_core.h"

#include "common/mutation.h"

int pr_config_append(struct pr_proposer *pr, const struct wal_config *config, uint64_t now,
                     uint64_t wall_us)
{
    lsn_t begin = pr->tip_lsn;
    struct wal_stamp stamp = {.cluster = pr->o.cluster,
                              .timeline = pr->o.timeline,
                              .term = pr->term,
                              .begin_lsn = begin,
                              .sealed_lsn = pr->commit_lsn ? pr->commit_lsn : begin,
                              .time_us = wall_us > pr->time_us ? wall_us : pr->time_us,
                              .commit_uuid = pr->nonce,
                              .prev_digest = pr->tip_digest};
    struct co_buf record = {0};
    struct wal_digest digest;
    int rc = wal_build_config(config, &stamp, &record, &digest);
    if (rc == 0) {
        rc = pr_tail_add(pr, &record, false, now);
    }
    co_buf_free(&record);
    if (rc || pr->tip_lsn == begin) {
        return rc;
    }
    pr->time_us = stamp.time_us;
    pr->gone = pr->config;
    pr->config_before = pr->config;
    pr->config = *config;
    pr->config_lsn = pr->tip_lsn;
    pr->config_told = false;
    pr_know_config(pr, config);
    return 0;
}

static void refuse(struct pr_proposer *pr, const char *reason)
{
    pr_emit(pr, PR_CHANGE_REFUSED)->reason = reason;
}

int pr_change(struct pr_proposer *pr, const struct wal_config *target, uint64_t now,
              uint64_t wall_us)
{
    struct wal_config next;
    if (pr->state != PR_LEADER || pr->releasing) {
        refuse(pr, "this compute does not lead the log");
        return 0;
    }
    if (pr->commit_lsn < pr->config_lsn && !co_mutated(CONFIG_OVERLAP)) {
        refuse(pr, "the change of members before is not committed yet");
        return 0;
    }
    if (!q_config_step(&pr->config, target, &next)) {
        refuse(pr, "a change to other members is under way");
        return 0;
    }
    if (next.version == pr->config.version) {
        pr->config_told = false;
        pr_members_committed(pr);
        return 0;
    }
    int rc = wal_config_check(&next);
    return rc ? rc : pr_config_append(pr, &next, now, wall_us);
}

/* Is every new member as far as our own start? */
static bool caught_up(const struct pr_proposer *pr)
{
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_node *n = &pr->nodes[i];
        if (q_in_group(pr->config.new_members, pr->config.n_new, n->node) &&
            (!n->adopted || n->match_lsn < pr->start_lsn)) {
            return false;
        }
    }
    return true;
}

bool pr_members_due(const struct pr_proposer *pr)
{
    return pr->state == PR_RECOVER && pr->config.n_new > 0 && pr->quorum_lsn >= pr->config_lsn &&
           caught_up(pr);
}

/* Without memory it is tried again with the next event. */
void pr_members_finish(struct pr_proposer *pr, uint64_t now, uint64_t wall_us)
{
    struct wal_config target = {.n = pr->config.n_new}, next;
    memcpy(target.members, pr->config.new_members, sizeof target.members);
    if (q_config_step(&pr->config, &target, &next) &&
        pr_config_append(pr, &next, now, wall_us) == 0) {
        pr->ready_lsn = pr->tip_lsn;
    }
}

void pr_members_committed(struct pr_proposer *pr)
{
    if (pr->config_told || !pr->announced || pr->commit_lsn < pr->config_lsn) {
        return;
    }
    pr->config_told = true;
    struct pr_action *a = pr_emit(pr, PR_CONFIG);
    a->term = pr->term;
    a->lsn = pr->config_lsn;
    a->config = pr->config;
}

bool pr_is_told(const struct pr_proposer *pr, const struct pr_node *n)
{
    return pr->commit_lsn >= pr->config_lsn && q_is_member(&pr->gone, n->node) &&
           n->match_lsn < pr->config_lsn;
}

bool pr_is_driven(const struct pr_proposer *pr, const struct pr_node *n)
{
    return n->up && !n->broken && (q_is_member(&pr->config, n->node) || pr_is_told(pr, n));
}
