/* sealed_end.c - see sealed_end.h. */
#include "proto/sealed_end.h"

#include "common/assert.h"

struct q_history sealed_terms(const struct q_history *h, lsn_t end)
{
    struct q_history out = q_history_cut(h, end);

    while (out.n > 1 && out.e[out.n - 1].start >= end)
        out.n--;
    return out;
}

int sealed_alike(const struct sealed_log *l, uint32_t i, uint32_t j, lsn_t *out)
{
    const struct sealed_copy *a = &l->copy[i], *b = &l->copy[j];
    struct q_history ha = sealed_terms(&a->history, a->flush);
    struct q_history hb = sealed_terms(&b->history, b->flush);

    *out = a->flush;
    if (i == j)
        return 0;
    return q_diverge(&ha, a->flush, &hb, b->flush, l->start,
                     a->commit < b->commit ? a->commit : b->commit, out);
}

/* The nodes whose copies are the same as that of i up to `lsn` at least. */
static int holders(const struct sealed_log *l, uint32_t i, lsn_t lsn, uint32_t *node, uint32_t *n)
{
    *n = 0;
    for (uint32_t k = 0; k < l->n; k++) {
        lsn_t same;
        int rc = sealed_alike(l, i, k, &same);
        if (rc)
            return rc;
        if (same >= lsn)
            node[(*n)++] = l->copy[k].node;
    }
    return 0;
}

static bool is_majority(const struct sealed_log *l, uint32_t i, const uint32_t *node, uint32_t n)
{
    const struct wal_config *own = l->copy[i].config;

    return q_is_quorum(l->config, node, n) || (own && own->version && q_is_quorum(own, node, n));
}

void sealed_hear(struct sealed_word *known, lsn_t known_commit, term_t known_log_term)
{
    known->lsn = known_commit > known->lsn ? known_commit : known->lsn;
    known->log_term = known_log_term > known->log_term ? known_log_term : known->log_term;
}

/* Each word alone is true; at one LSN the older term asks less of a copy. */
void sealed_hear_read(struct sealed_word *read, lsn_t lsn, term_t log_term)
{
    bool less = log_term && (!read->log_term || log_term < read->log_term);

    if (lsn > read->lsn || (lsn == read->lsn && less))
        *read = (struct sealed_word){lsn, log_term};
}

/* As of a donor (proposer_known.c): this log has all that is said to be committed. */
static bool has(const struct sealed_copy *c, const struct sealed_word *word)
{
    struct q_history h = sealed_terms(&c->history, c->flush);

    return c->flush >= word->lsn && h.n > 0 && h.e[h.n - 1].term >= word->log_term;
}

static void take_word(const struct sealed_log *l, const struct sealed_word *word, lsn_t *end,
                      uint32_t *holder)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (word->lsn > *end && has(&l->copy[i], word)) {
            *end = word->lsn;
            *holder = i;
        }
}

int sealed_end(const struct sealed_log *l, lsn_t *end, uint32_t *holder)
{
    uint32_t node[NODES_MAX], n;

    co_assert(l->n > 0);
    *holder = 0;
    for (uint32_t i = 1; i < l->n; i++)
        if (l->copy[i].commit > l->copy[*holder].commit)
            *holder = i;
    *end = l->copy[*holder].commit;
    take_word(l, &l->known, end, holder);
    if (l->read.log_term)
        take_word(l, &l->read, end, holder);
    for (uint32_t i = 0; i < l->n; i++) {
        for (uint32_t j = 0; j < l->n; j++) {
            lsn_t same;
            int rc = sealed_alike(l, i, j, &same);
            if (!rc && same > *end)
                rc = holders(l, i, same, node, &n);
            if (rc)
                return rc;
            if (same > *end && is_majority(l, i, node, n)) {
                *end = same;
                *holder = i;
            }
        }
    }
    return 0;
}

/* Members who have not told may have anything. */
static void add_silent(const struct sealed_log *l, const struct wal_member *member,
                       uint32_t n_members, uint32_t *node, uint32_t *n)
{
    for (uint32_t m = 0; m < n_members; m++) {
        bool told = false;
        for (uint32_t k = 0; k < l->n; k++)
            told |= l->copy[k].node == member[m].node_id;
        if (!told)
            node[(*n)++] = member[m].node_id;
    }
}

/* A majority of either group: when it was written the log may have had one of them alone. */
int sealed_is_open(const struct sealed_log *l, uint32_t i, lsn_t end, bool *open)
{
    struct wal_config before = *l->config, after;
    uint32_t may[NODES_MAX + 2 * CO_MEMBERS_MAX], n;

    *open = false;
    if (l->copy[i].flush <= end)
        return 0;
    int rc = holders(l, i, end + 1, may, &n);
    if (rc)
        return rc;
    add_silent(l, l->config->members, l->config->n, may, &n);
    add_silent(l, l->config->new_members, l->config->n_new, may, &n);
    before.n_new = 0;
    q_config_end(l->config, &after);
    *open = q_is_quorum(&before, may, n) || q_is_quorum(&after, may, n);
    return 0;
}
