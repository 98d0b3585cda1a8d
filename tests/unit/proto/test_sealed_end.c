/* test_sealed_end.c - how far a sealed log is committed. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "proto/sealed_end.h"

TestSuite(sealed_end, .timeout = 60);

#define START 8u
#define TERMS 12u

static struct wal_config three = {.n = 3,
                                  .members = {{.node_id = 1}, {.node_id = 2}, {.node_id = 3}}};

static struct q_term first[] = {{1, 8}};
static struct q_term second[] = {{1, 8}, {3, 40}};

static struct sealed_copy copy(uint32_t node, lsn_t flush, lsn_t commit, struct q_term *e,
                               uint32_t n)
{
    return (struct sealed_copy){node, flush, commit, {n, e}, NULL};
}

static struct sealed_log log_of(struct sealed_copy a, struct sealed_copy b)
{
    return (struct sealed_log){.config = &three, .start = START, .copy = {a, b}, .n = 2};
}

static lsn_t end_of(const struct sealed_log *l, uint32_t *holder)
{
    lsn_t end = 0;
    cr_assert_eq(sealed_end(l, &end, holder), 0, "%s", co_sentence());
    return end;
}

static bool is_open(const struct sealed_log *l, uint32_t i, lsn_t end)
{
    bool open = false;
    cr_assert_eq(sealed_is_open(l, i, end, &open), 0);
    return open;
}

Test(sealed_end, what_two_of_three_have_is_committed_though_nobody_was_told)
{
    struct sealed_log l = log_of(copy(1, 80, 40, first, 1), copy(3, 72, 48, first, 1));
    uint32_t holder;
    cr_assert_eq(end_of(&l, &holder), 72);
    /* Node 2 may have the rest too. */
    cr_assert(is_open(&l, 0, 72));
    cr_assert_not(is_open(&l, 1, 72));
    l.copy[l.n++] = copy(2, 72, 8, first, 1);
    cr_assert_eq(end_of(&l, &holder), 72);
    cr_assert_not(is_open(&l, 0, 72), "all have told");
}

Test(sealed_end, logs_of_different_terms_are_not_alike)
{
    /* Node 1 has what a leader of term 1 wrote and nobody else got; term 3 begins at 40. */
    struct sealed_log l = log_of(copy(1, 96, 32, first, 1), copy(2, 64, 40, second, 2));
    uint32_t holder;
    cr_assert_eq(end_of(&l, &holder), 40);
    cr_assert_eq(holder, 1);
    cr_assert(is_open(&l, 0, 40) && is_open(&l, 1, 40), "with node 3 either may be");
    l.copy[l.n++] = copy(3, 56, 8, second, 2);
    cr_assert_eq(end_of(&l, &holder), 56);
    cr_assert_not(is_open(&l, 0, 56));
}

Test(sealed_end, one_alone_knows_what_it_knows)
{
    struct sealed_log l = log_of(copy(1, 96, 48, first, 1), copy(2, 8, 8, first, 1));
    uint32_t holder;
    cr_assert_eq(end_of(&l, &holder), 48);
    cr_assert_eq(holder, 0);
    l.n = 1;
    cr_assert_eq(end_of(&l, &holder), 48);
}

Test(sealed_end, what_was_heard_to_be_committed_is_where_a_log_has_it)
{
    /* Node 3 acknowledged it, and its disk is lost; node 1 has the word alone, node 2 the records.
     * Found by level B, seed 11310097. */
    struct sealed_log l = log_of(copy(1, 40, 40, first, 1), copy(2, 64, 40, second, 2));
    uint32_t holder;
    sealed_hear(&l.known, 56, 3);
    sealed_hear(&l.known, 48, 2);
    cr_assert_eq(end_of(&l, &holder), 56);
    cr_assert_eq(holder, 1);
    sealed_hear(&l.known, 56, 4);
    cr_assert_eq(end_of(&l, &holder), 40, "a longer log of an older term is not that one");
    l.known.log_term = 3;
    sealed_hear(&l.known, 72, 3);
    cr_assert_eq(end_of(&l, &holder), 40, "nobody who told has it");
    l.known.lsn = 32;
    cr_assert_eq(end_of(&l, &holder), 40);
}

Test(sealed_end, what_a_branch_grew_from_is_where_a_log_has_it)
{
    /* Node 3 was told that it is committed, and its disk is lost; node 2 has it and was not told.
     * Found by level B, seed 13303379. */
    struct sealed_log l = log_of(copy(1, 40, 40, first, 1), copy(2, 64, 40, second, 2));
    uint32_t holder;
    sealed_hear_read(&l.read, 56, 0);
    cr_assert_eq(end_of(&l, &holder), 40, "of which term is not known");
    sealed_hear_read(&l.read, 48, 2);
    cr_assert_eq(end_of(&l, &holder), 40, "there is more that was read");
    sealed_hear_read(&l.read, 56, 4);
    cr_assert_eq(end_of(&l, &holder), 40, "this log may be of an older term");
    sealed_hear_read(&l.read, 56, 3);
    sealed_hear_read(&l.read, 56, 0);
    sealed_hear_read(&l.read, 40, 1);
    cr_assert_eq(end_of(&l, &holder), 56);
    cr_assert_eq(holder, 1);
    cr_assert(is_open(&l, 1, 56), "node 3 may have the rest");
    sealed_hear_read(&l.read, 72, 3);
    cr_assert_eq(end_of(&l, &holder), 40, "nobody who told has it");
}

Test(sealed_end, while_members_change_both_groups_have_to_have_it)
{
    struct wal_config joint = {.n = 3,
                               .members = {{.node_id = 1}, {.node_id = 2}, {.node_id = 3}},
                               .n_new = 3,
                               .new_members = {{.node_id = 1}, {.node_id = 2}, {.node_id = 4}}};
    struct sealed_log l = log_of(copy(1, 80, 8, first, 1), copy(3, 80, 8, first, 1));
    uint32_t holder;
    l.config = &joint;
    l.copy[l.n++] = copy(2, 40, 8, first, 1);
    l.copy[l.n++] = copy(4, 8, 8, first, 1);
    cr_assert_eq(end_of(&l, &holder), 40);
    cr_assert(is_open(&l, 0, 40), "a majority of the old ones has it");
    l.copy[3] = copy(4, 80, 8, first, 1);
    cr_assert_eq(end_of(&l, &holder), 80);
}

Test(sealed_end, a_term_that_begins_at_two_places_is_damage)
{
    static struct q_term other[] = {{1, 8}, {3, 56}};
    struct sealed_log l = log_of(copy(1, 80, 40, second, 2), copy(2, 80, 40, other, 2));
    uint32_t holder;
    lsn_t end;
    cr_assert_eq(sealed_end(&l, &end, &holder), CO_ERR_CORRUPT);
}

/* Two who brought copies on when another one was away each time took the same term for it. */
Test(sealed_end, a_term_that_wrote_nothing_is_no_difference)
{
    static struct q_term longer[] = {{1, 8}, {2, 80}}, shorter[] = {{1, 8}, {2, 40}};
    struct sealed_log l = log_of(copy(1, 80, 80, longer, 2), copy(2, 40, 40, shorter, 2));
    uint32_t holder;
    lsn_t same;
    l.copy[l.n++] = copy(3, 80, 8, first, 1);
    cr_assert_eq(end_of(&l, &holder), 80);
    cr_assert_eq(sealed_alike(&l, 0, 1, &same), 0, "%s", co_sentence());
    cr_assert_eq(same, 40);
}

/* The list is joint already, the log is not yet: 1 and 3 were enough for its writer. */
Test(sealed_end, a_majority_of_those_whom_the_log_names_is_one)
{
    struct wal_config joint = {.n = 3,
                               .members = {{.node_id = 1}, {.node_id = 2}, {.node_id = 3}},
                               .n_new = 3,
                               .new_members = {{.node_id = 1}, {.node_id = 2}, {.node_id = 4}}};
    struct wal_config own = three;
    struct sealed_log l = log_of(copy(1, 80, 40, first, 1), copy(2, 40, 40, first, 1));
    uint32_t holder;
    own.version = 1;
    l.config = &joint;
    l.copy[l.n++] = copy(3, 80, 40, first, 1);
    l.copy[l.n++] = copy(4, 8, 8, first, 1);
    cr_assert_eq(end_of(&l, &holder), 40);
    for (uint32_t i = 0; i < l.n; i++)
        l.copy[i].config = &own;
    cr_assert_eq(end_of(&l, &holder), 80);
}

/* -- logs as elections and appends leave them, sealed one by one ----------------------------------
 */

struct node {
    struct q_term e[TERMS];
    uint32_t n;
    lsn_t flush;
    bool sealed;
};

static struct node nodes[5];
static unsigned n_nodes;
static uint64_t state;

static unsigned below(unsigned n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % n;
}

static lsn_t alike(const struct node *a, const struct node *b)
{
    struct q_history ha = {a->n, a->e}, hb = {b->n, b->e};
    lsn_t out;
    ha = q_history_cut(&ha, a->flush);
    hb = q_history_cut(&hb, b->flush);
    cr_assert_eq(q_diverge(&ha, a->flush, &hb, b->flush, START, START, &out), 0);
    return out;
}

static term_t last_term(const struct node *x)
{
    struct q_history h = {x->n, (struct q_term *)(uintptr_t)x->e};
    h = q_history_cut(&h, x->flush);
    return h.n ? h.e[h.n - 1].term : 0;
}

static void adopt(struct node *x, const struct node *leader)
{
    if (x == leader)
        return;
    x->flush = alike(x, leader);
    memcpy(x->e, leader->e, sizeof x->e);
    x->n = leader->n;
}

/* A term: elected by a majority that is not sealed, it appends to some, in order; a node may be
 * sealed at any moment. What a majority has of its own records is acknowledged. */
static void reign(term_t term, lsn_t *acknowledged)
{
    unsigned voters[5], n = 0, most = n_nodes / 2 + 1;
    for (unsigned i = 0; i < n_nodes; i++)
        if (!nodes[i].sealed && (below(3) || n < most))
            voters[n++] = i;
    if (n < most)
        return;
    struct node leader = nodes[voters[0]];
    for (unsigned i = 1; i < n; i++) {
        const struct node *x = &nodes[voters[i]];
        term_t mine = last_term(&leader), theirs = last_term(x);
        if (theirs > mine || (theirs == mine && x->flush > leader.flush))
            leader = *x;
    }
    struct q_history cut = {leader.n, leader.e};
    leader.n = q_history_cut(&cut, leader.flush).n;
    leader.e[leader.n++] = (struct q_term){term, leader.flush};
    bool adopted[5] = {false};
    lsn_t base = leader.flush;
    for (unsigned steps = below(40); steps > 0; steps--) {
        unsigned i = below(n_nodes);
        struct node *x = &nodes[i];
        if (below(8) == 0)
            leader.flush += 8;
        if (below(40) == 0)
            x->sealed = true;
        if (x->sealed)
            continue;
        if (!adopted[i])
            adopt(x, &leader), adopted[i] = true;
        else if (x->flush < leader.flush)
            x->flush += 8;
        for (lsn_t lsn = leader.flush; lsn > base && lsn > *acknowledged; lsn -= 8) {
            unsigned have = 0;
            for (unsigned k = 0; k < n_nodes; k++)
                have += adopted[k] && nodes[k].flush >= lsn;
            if (have >= most)
                *acknowledged = lsn;
        }
    }
}

static void check_subset(unsigned subset, lsn_t acknowledged, const struct wal_config *config)
{
    struct sealed_log l = {.config = config, .start = START};
    unsigned most = n_nodes / 2 + 1;
    for (unsigned i = 0; i < n_nodes; i++)
        if (subset & (1u << i))
            l.copy[l.n++] =
                (struct sealed_copy){i + 1, nodes[i].flush, START, {nodes[i].n, nodes[i].e}, NULL};
    if (l.n < most)
        return;
    uint32_t holder;
    lsn_t end = end_of(&l, &holder);
    unsigned have = 0;
    for (unsigned i = 0; i < n_nodes; i++)
        have += alike(&nodes[l.copy[holder].node - 1], &nodes[i]) >= end;
    cr_assert(have >= most || end == START, "a minority has it");
    if (l.n == n_nodes)
        cr_assert_geq(end, acknowledged, "an acknowledged record is not in it");
    /* Who has what was acknowledged is not to be cut below it. */
    for (uint32_t i = 0; i < l.n && end < acknowledged; i++) {
        unsigned same = 0;
        const struct node *x = &nodes[l.copy[i].node - 1];
        for (unsigned k = 0; k < n_nodes; k++)
            same += alike(x, &nodes[k]) >= acknowledged;
        if (same >= most)
            cr_assert(is_open(&l, i, end));
    }
}

Test(sealed_end, whatever_was_acknowledged_is_in_it)
{
    unsigned longer = 0;
    for (unsigned round = 0; round < 20000; round++) {
        struct wal_config config = {0};
        lsn_t acknowledged = START;
        state = round * 2654435761u + 1;
        n_nodes = round % 2 ? 5 : 3;
        memset(nodes, 0, sizeof nodes);
        for (unsigned i = 0; i < n_nodes; i++) {
            nodes[i].flush = START;
            config.members[config.n++].node_id = i + 1;
        }
        for (term_t term = 1; term < TERMS; term++)
            reign(term, &acknowledged);
        for (unsigned i = 0; i < n_nodes; i++)
            nodes[i].sealed = true;
        for (unsigned subset = 1; subset < 1u << n_nodes; subset++)
            check_subset(subset, acknowledged, &config);
        longer += acknowledged > START;
    }
    cr_assert_gt(longer, 10000);
}
