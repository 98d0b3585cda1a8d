/* qhist.c - see qhist.h. */
#include "proto/qhist.h"

#include "common/mutation.h"

struct q_history q_history_cut(const struct q_history *h, lsn_t end)
{
    uint32_t n = h->n;
    while (n > 0 && h->e[n - 1].start > end) {
        n--;
    }
    return (struct q_history){n, h->e};
}

uint32_t q_history_index(const struct q_history *h, lsn_t lsn)
{
    uint32_t i = 0;
    while (i + 1 < h->n && h->e[i + 1].start <= lsn) {
        i++;
    }
    return i;
}

static lsn_t min_lsn(lsn_t a, lsn_t b)
{
    return a < b ? a : b;
}

/* Does the history say nothing of the log's begin? It may be collapsed above the log's whole end,
 * as that of a new member which took it from a leader: then nothing of it is in force here. */
static bool forgets(const struct q_history *h, lsn_t end, lsn_t start)
{
    return h->n > 0 ? h->e[0].start > start : end > start;
}

int q_diverge(const struct q_history *a, lsn_t a_end, const struct q_history *b, lsn_t b_end,
              lsn_t start, lsn_t known, lsn_t *out)
{
    bool collapsed = forgets(a, a_end, start) || forgets(b, b_end, start);
    lsn_t same = collapsed ? known : start;
    uint32_t i = 0, j = 0;
    while (i < a->n && j < b->n && a->e[i].term != b->e[j].term) {
        if (a->e[i].term < b->e[j].term) { /* the other one has forgotten it */
            i++;
        } else {
            j++;
        }
    }
    while (i < a->n && j < b->n && a->e[i].term == b->e[j].term) {
        if (a->e[i].start != b->e[j].start) {
            return co_fail(CO_ERR_CORRUPT,
                           "term %llu begins at %016llx in one history and at %016llx in another; "
                           "one of the two logs is damaged or belongs elsewhere",
                           (unsigned long long)a->e[i].term, (unsigned long long)a->e[i].start,
                           (unsigned long long)b->e[j].start);
        }
        i++;
        j++;
        lsn_t a_stop = i < a->n ? a->e[i].start : a_end;
        lsn_t b_stop = j < b->n ? b->e[j].start : b_end;
        same = min_lsn(a_stop, b_stop);
    }
    *out = min_lsn(same, min_lsn(a_end, b_end));
    return 0;
}

static bool majority(const struct wal_member *members, uint32_t n_members, const uint32_t *nodes,
                     uint32_t n)
{
    uint32_t have = 0;
    for (uint32_t i = 0; i < n_members; i++) {
        for (uint32_t k = 0; k < n; k++) {
            if (nodes[k] == members[i].node_id) {
                have++;
                break;
            }
        }
    }
    return co_mutated(QUORUM_OF_ONE) ? have > 0 : 2 * have > n_members;
}

bool q_is_quorum(const struct wal_config *config, const uint32_t *nodes, uint32_t n)
{
    return config->n > 0 && majority(config->members, config->n, nodes, n) &&
           (config->n_new == 0 || majority(config->new_members, config->n_new, nodes, n));
}

bool q_in_group(const struct wal_member *members, uint32_t n, uint32_t node)
{
    for (uint32_t i = 0; i < n; i++) {
        if (members[i].node_id == node) {
            return true;
        }
    }
    return false;
}

bool q_is_member(const struct wal_config *config, uint32_t node)
{
    return q_in_group(config->members, config->n, node) ||
           q_in_group(config->new_members, config->n_new, node);
}

void q_config_end(const struct wal_config *config, struct wal_config *out)
{
    bool joint = config->n_new > 0;
    *out = (struct wal_config){.n = joint ? config->n_new : config->n};
    memcpy(out->members, joint ? config->new_members : config->members, sizeof out->members);
}

bool q_same_group(const struct wal_member *a, uint32_t n_a, const struct wal_member *b,
                  uint32_t n_b)
{
    for (uint32_t i = 0; n_a == n_b && i < n_a; i++) {
        if (a[i].node_id != b[i].node_id) {
            return false;
        }
    }
    return n_a == n_b;
}

bool q_config_step(const struct wal_config *from, const struct wal_config *target,
                   struct wal_config *out)
{
    bool old = q_same_group(target->members, target->n, from->members, from->n);
    bool new = q_same_group(target->members, target->n, from->new_members, from->n_new);
    *out = *from;
    if (from->n_new == 0 && old) {
        return true;
    }
    if (from->n_new > 0 && !old && !new) {
        return false;
    }
    out->version++;
    if (from->n_new > 0 || co_mutated(CONFIG_NOT_JOINT)) {
        out->n = target->n;
        memcpy(out->members, target->members, sizeof out->members);
        out->n_new = 0;
        memset(out->new_members, 0, sizeof out->new_members);
    } else {
        out->n_new = target->n;
        memcpy(out->new_members, target->members, sizeof out->new_members);
    }
    return true;
}

bool q_left(bool left, const struct wal_config *before, const struct wal_config *now, uint32_t node)
{
    if (node == 0 || q_is_member(now, node)) {
        return false;
    }
    return left || q_is_member(before, node);
}
