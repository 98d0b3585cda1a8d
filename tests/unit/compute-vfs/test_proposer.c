/* test_proposer.c - the proposer's rules one by one: R1 to R8, N5, S5, the lease, strict positions,
 * the three rules that resolve an unknown commit, catching up. The safekeepers here are messages
 * written by hand; what happens when they are real is the simulator's business. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "compute-vfs/proposer_core.h"

#define L_US 3000000u

static struct pr_proposer *pr;
static struct pr_actions acts;
static struct wal_builder *builder;
static uint64_t now = 1000000;
static struct wal_digest tip_digest;
static const struct co_id cluster = {{1}}, timeline = {{2}};
static struct co_id used; /* nonce of the newest VOTE or ELECTED */
static term_t used_term;

static struct wal_config three(uint32_t version)
{
    struct wal_config c = {.version = version, .n = 3};
    for (uint32_t i = 0; i < 3; i++) {
        c.members[i].node_id = i + 1;
    }
    return c;
}

static struct pr_options options(void)
{
    return (struct pr_options){.cluster = cluster,
                               .timeline = timeline,
                               .nonce = {{7, 7, 7}},
                               .seed = 42,
                               .config = three(1),
                               .lease_us = L_US,
                               .renew_us = 1000000,
                               .resend_us = 1000000,
                               .batch_bytes = 1u << 20,
                               .window_bytes = 1u << 24,
                               .tail_bytes = 1u << 24};
}

static void make(struct pr_options o)
{
    pr_free(pr);
    cr_assert_eq(pr_new(&o, &pr), 0);
}

static void setup(void)
{
    make(options());
    cr_assert_eq(wal_builder_new(&builder), 0);
}

static void teardown(void)
{
    pr_free(pr);
    pr_actions_free(&acts);
    wal_builder_free(builder);
}

TestSuite(proposer, .init = setup, .fini = teardown, .timeout = 30);

/* ---- helpers ---- */

static void event(struct pr_event e)
{
    e.now_us = now;
    e.wall_us = now;
    cr_assert_eq(pr_step(pr, &e, &acts), 0);
    for (uint32_t i = 0; i < acts.n; i++) {
        const struct q_msg *m = &acts.a[i].msg;
        if (acts.a[i].kind == PR_SEND && (m->type == FRAME_VOTE || m->type == FRAME_ELECTED)) {
            used = m->nonce;
            used_term = m->term;
        }
    }
}

static void kind(enum pr_event_kind k)
{
    event((struct pr_event){.kind = k});
}

static void up(uint32_t node)
{
    event((struct pr_event){.kind = PR_EV_UP, .node = node});
}

static void receive(uint32_t node, struct q_msg m)
{
    m.timeline = timeline;
    event((struct pr_event){.kind = PR_EV_MSG, .node = node, .msg = &m});
}

static const struct q_msg *sent(uint32_t node, enum frame_type type)
{
    for (uint32_t i = 0; i < acts.n; i++) {
        if (acts.a[i].kind == PR_SEND && acts.a[i].node == node && acts.a[i].msg.type == type) {
            return &acts.a[i].msg;
        }
    }
    return NULL;
}

static const struct pr_action *told(enum pr_action_kind k)
{
    for (uint32_t i = 0; i < acts.n; i++) {
        if (acts.a[i].kind == k) {
            return &acts.a[i];
        }
    }
    return NULL;
}

static struct pr_view view(void)
{
    struct pr_view v;
    pr_view(pr, &v);
    return v;
}

static void wait_us(uint64_t us)
{
    now += us;
    kind(PR_EV_TIMER);
}

static struct q_msg pos(term_t term, term_t llt, lsn_t flush, lsn_t commit)
{
    return (struct q_msg){.type = FRAME_POS,
                          .term = term,
                          .last_log_term = llt,
                          .flush_lsn = flush,
                          .commit_lsn = commit,
                          .config = three(1)};
}

static struct q_msg voted(uint32_t n, const struct q_term *h, lsn_t flush, lsn_t commit)
{
    return (struct q_msg){.type = FRAME_VOTED,
                          .term = used_term,
                          .nonce = used,
                          .granted = true,
                          .flush_lsn = flush,
                          .commit_lsn = commit,
                          .start_lsn = LSN_FIRST,
                          .config = three(1),
                          .history = {n, h}};
}

static struct q_msg ack(lsn_t flush)
{
    return (struct q_msg){.type = FRAME_ACK,
                          .term = used_term,
                          .nonce = used,
                          .flush_lsn = flush,
                          .write_lsn = flush,
                          .sent_us = now};
}

/* All three up, LEAD, and heard of by two: VOTE is out. */
static void campaign(term_t term_seen)
{
    for (uint32_t k = 1; k <= 3; k++) {
        up(k);
    }
    kind(PR_EV_LEAD);
    receive(1, pos(term_seen, 0, LSN_FIRST, LSN_FIRST));
    receive(2, pos(term_seen, 0, LSN_FIRST, LSN_FIRST));
    cr_assert_not_null(sent(1, FRAME_VOTE));
}

static const struct q_term h1[] = {{1, LSN_FIRST}};

/* Leader of term 2 at `start`, READY by nodes 1 and 2; node 3 has said nothing. */
static void lead(lsn_t start)
{
    campaign(1);
    receive(1, voted(1, h1, start, start));
    receive(2, voted(1, h1, start, start));
    receive(1, ack(start));
    receive(2, ack(start));
    cr_assert_eq(view().state, PR_LEADER);
}

static struct co_buf record(void)
{
    static const uint8_t empty[512];
    static uint8_t fill;
    uint8_t page[512] = {++fill, 1};
    struct pr_view v = view();
    struct wal_stamp stamp = {.cluster = cluster,
                              .timeline = timeline,
                              .term = v.term,
                              .begin_lsn = v.tip_lsn,
                              .sealed_lsn = LSN_FIRST,
                              .prev_digest = v.tip_digest,
                              .db_pages = 1};
    struct co_buf out = {0};
    wal_builder_reset(builder, 512);
    cr_assert_eq(wal_builder_page(builder, 1, page, empty, LSN_FIRST), 0);
    wal_builder_seal(builder, &stamp, &out, &tip_digest);
    return out;
}

static lsn_t append_wanting(bool received)
{
    struct co_buf r = record();
    lsn_t end = view().tip_lsn + r.len;
    event((struct pr_event){.kind = PR_EV_APPEND, .record = &r, .want_received = received});
    cr_assert_eq(r.data, NULL);
    return end;
}

static lsn_t append(void)
{
    return append_wanting(false);
}

/* ---- R1 ---- */

Test(proposer, a_candidate_that_hears_no_quorum_raises_no_term)
{
    /* N5: VOTE only once a majority was heard. */
    up(1);
    up(2);
    up(3);
    kind(PR_EV_LEAD);
    cr_assert_not_null(sent(1, FRAME_READ_POS));
    receive(1, pos(4, 0, LSN_FIRST, LSN_FIRST));
    for (int i = 0; i < 50; i++) {
        cr_assert_null(sent(1, FRAME_VOTE));
        wait_us(100000);
        if (sent(1, FRAME_READ_POS)) {
            receive(1, pos(4, 0, LSN_FIRST, LSN_FIRST));
        }
    }
}

Test(proposer, a_held_lease_is_waited_for_without_disturbing_the_others)
{
    /* 3.6, S9: where a lease runs VOTE only registers; the free ones are not asked; FREE ends it.
     */
    struct q_msg held = pos(4, 0, LSN_FIRST, LSN_FIRST);
    held.lease_held = true;
    for (uint32_t k = 1; k <= 3; k++) {
        up(k);
    }
    kind(PR_EV_LEAD);
    receive(1, held);
    cr_assert_not_null(sent(1, FRAME_VOTE));
    receive(2, held);
    receive(3, pos(4, 0, LSN_FIRST, LSN_FIRST));
    cr_assert_null(sent(3, FRAME_VOTE));
    receive(1, (struct q_msg){.type = FRAME_FREE, .term = 4});
    cr_assert_not_null(sent(3, FRAME_VOTE));
    cr_assert_eq(sent(3, FRAME_VOTE)->term, 5);
}

Test(proposer, that_the_lease_is_in_use_is_known_until_it_is_free)
{
    /* M9 */
    struct q_msg held = pos(4, 0, LSN_FIRST, LSN_FIRST);
    struct q_msg writing = {.type = FRAME_VOTED, .term = 4, .lease_held = true, .writing = true};
    held.lease_held = true;
    for (uint32_t k = 1; k <= 3; k++) {
        up(k);
    }
    receive(1, writing);
    cr_assert_eq(view().in_use_until_us, 0, "nobody wants to know");
    kind(PR_EV_LEAD);
    receive(1, held);
    receive(2, held);
    cr_assert_eq(view().in_use_until_us, 0, "held, but perhaps idle");
    writing.nonce = used;
    receive(2, writing);
    cr_assert_gt(view().in_use_until_us, now + 100000, "longer than until it is said again");
    cr_assert_leq(view().in_use_until_us, now + 500000, "not much longer");
    cr_assert_eq(view().state, PR_CAMPAIGN);
    receive(1, (struct q_msg){.type = FRAME_FREE, .term = 4});
    cr_assert_eq(view().in_use_until_us, 0);
}

Test(proposer, who_asks_for_the_lease_is_told_apart_from_who_waits_still)
{
    /* M9 */
    lead(5000);
    struct q_msg m = ack(view().tip_lsn);
    m.waiters = 1;
    receive(1, m);
    cr_assert_not_null(told(PR_WAITER), "an ACK is all that says so to a leader who came later");
    cr_assert_not(told(PR_WAITER)->anew);
    receive(1, (struct q_msg){.type = FRAME_WAITER, .term = used_term});
    cr_assert(told(PR_WAITER) && told(PR_WAITER)->anew);
}

Test(proposer, a_transaction_that_is_open_is_said_in_a_heartbeat)
{
    /* M9: to those that have adopted us; the others know of no lease of ours */
    kind(PR_EV_WRITING);
    cr_assert_null(sent(1, FRAME_APPEND));
    lead(5000);
    kind(PR_EV_WRITING);
    cr_assert(sent(1, FRAME_APPEND) && sent(1, FRAME_APPEND)->writing);
    cr_assert_eq(sent(1, FRAME_APPEND)->payload.len, 0);
    cr_assert(sent(2, FRAME_APPEND) && sent(2, FRAME_APPEND)->writing);
    cr_assert_null(sent(3, FRAME_APPEND));
    append();
    cr_assert_not(sent(1, FRAME_APPEND)->writing);
}

Test(proposer, the_donor_is_the_most_advanced_by_term_then_lsn)
{
    /* R1: a longer log of an older term is not the donor. */
    static const struct q_term old[] = {{1, LSN_FIRST}}, newer[] = {{1, LSN_FIRST}, {2, 5000}};
    campaign(3);
    receive(1, voted(1, old, 9000, LSN_FIRST));
    receive(2, voted(2, newer, 5000, LSN_FIRST));
    struct pr_view v = view();
    cr_assert_eq(v.state, PR_RECOVER);
    cr_assert_eq(v.start_lsn, 5000);
    const struct q_msg *m = sent(1, FRAME_ELECTED);
    cr_assert_eq(m->start_lsn, 5000, "the longer tail of the older term goes");
    cr_assert_eq(m->history.n, 3);
    cr_assert_eq(m->history.e[2].term, 4);
    cr_assert_eq(m->history.e[2].start, 5000);
}

/* Its log ends at 5000 and may have reached 9000 in term 1. */
static struct q_msg in_doubt(void)
{
    struct q_msg m = voted(1, h1, 5000, LSN_FIRST);
    m.suspect_lsn = 9000;
    m.suspect_term = 1;
    return m;
}

Test(proposer, the_vote_of_a_log_in_doubt_counts_for_no_donor_that_may_lack_what_it_forgot)
{
    campaign(3);
    receive(1, in_doubt());
    receive(2, voted(1, h1, 7000, LSN_FIRST));
    cr_assert_eq(view().state, PR_CAMPAIGN, "the second is the only one that counts");
    receive(3, voted(1, h1, 6000, LSN_FIRST));
    cr_assert_eq(view().state, PR_RECOVER, "two without doubt are a majority");
    cr_assert_eq(view().start_lsn, 7000);
}

Test(proposer, the_vote_of_a_log_in_doubt_counts_for_a_donor_that_reaches_as_far)
{
    campaign(3);
    receive(1, in_doubt());
    receive(2, voted(1, h1, 9000, LSN_FIRST));
    cr_assert_eq(view().state, PR_RECOVER);
}

Test(proposer, the_vote_of_a_log_in_doubt_counts_for_a_donor_of_a_later_term)
{
    static const struct q_term later[] = {{1, LSN_FIRST}, {2, 7000}};
    campaign(3);
    receive(1, in_doubt());
    receive(2, voted(2, later, 7000, LSN_FIRST));
    cr_assert_eq(view().state, PR_RECOVER);
}

Test(proposer, a_term_and_nonce_serve_one_campaign)
{
    /* I1: a late vote of a campaign that ended must not elect; found by the simulator. */
    campaign(1);
    term_t first = used_term;
    struct q_msg late = voted(1, h1, 5000, LSN_FIRST);
    receive(1, late);
    wait_us(600000); /* no second vote: refused */
    cr_assert_not_null(told(PR_REFUSED));
    cr_assert_not_null(sent(1, FRAME_RELEASE), "the vote is given back");
    receive(2, late);
    cr_assert_eq(view().state, PR_CAMPAIGN);
    for (int i = 0; i < 20 && used_term == first; i++) {
        wait_us(200000);
        receive(1, pos(first, 0, LSN_FIRST, LSN_FIRST));
        receive(2, pos(1, 0, LSN_FIRST, LSN_FIRST));
    }
    cr_assert_gt(used_term, first);
    cr_assert_neq(memcmp(used.b, late.nonce.b, 16), 0);
    cr_assert_eq(memcmp(used.b, late.nonce.b, 12), 0, "the same compute still");
}

Test(proposer, votes_that_were_given_back_while_others_were_heard_elect_nobody)
{
    /* Found by the simulator: their RELEASE, late and twice, ended the lease of the leadership that
     * the next campaign had by them at once. */
    campaign(1);
    term_t first = used_term;
    struct q_msg one = voted(1, h1, LSN_FIRST, LSN_FIRST), two = one;
    one.fresh = true; /* so the third is heard for a moment */
    receive(1, one);
    receive(2, two);
    cr_assert_eq(view().state, PR_CAMPAIGN);
    kind(PR_EV_ABANDON);
    cr_assert_not_null(sent(1, FRAME_RELEASE));
    wait_us(200000);
    kind(PR_EV_LEAD);
    cr_assert_eq(view().state, PR_CAMPAIGN);
    receive(1, pos(first, 0, LSN_FIRST, LSN_FIRST));
    receive(2, pos(first, 0, LSN_FIRST, LSN_FIRST));
    cr_assert_not_null(sent(1, FRAME_VOTE), "they are asked for anew");
    cr_assert_gt(used_term, first);
}

Test(proposer, the_first_leader_writes_the_configuration)
{
    /* 3.11: an empty log begins with a CONFIG record, committed before READY. */
    campaign(0);
    receive(1, voted(0, NULL, LSN_FIRST, LSN_FIRST));
    receive(2, voted(0, NULL, LSN_FIRST, LSN_FIRST));
    receive(1, ack(LSN_FIRST));
    const struct q_msg *m = sent(1, FRAME_APPEND);
    struct wal_header h;
    cr_assert(m && m->payload.len > 0);
    cr_assert_eq(wal_check(m->payload, &h), 0);
    cr_assert_eq(h.kind, WAL_CONFIG);
    lsn_t end = h.end_lsn;
    receive(2, ack(LSN_FIRST));
    cr_assert_null(told(PR_READY));
    receive(1, ack(end));
    receive(2, ack(end));
    cr_assert_eq(told(PR_READY)->lsn, end);
    cr_assert_eq(memcmp(told(PR_READY)->digest.b, h.digest.b, 16), 0);
}

Test(proposer, ready_comes_when_a_quorum_adopted_and_not_before)
{
    /* R4: adoption by a quorum; votes do not count as acknowledgements (R3). */
    campaign(1);
    receive(1, voted(1, h1, 5000, 4800));
    receive(2, voted(1, h1, 5000, 4800));
    cr_assert_eq(view().commit_lsn, 4800);
    receive(1, ack(5000));
    cr_assert_null(told(PR_READY));
    receive(2, ack(4800));
    cr_assert_null(told(PR_READY), "adopted, but its log ends before our start");
    receive(2, ack(5000));
    cr_assert_eq(told(PR_READY)->lsn, 5000);
}

Test(proposer, a_newer_configuration_is_taken_up)
{
    /* S21 */
    campaign(1);
    receive(1, (struct q_msg){.type = FRAME_REJECT_CONFIG, .config = three(5)});
    cr_assert_eq(view().config.version, 5);
}

/* ---- members ---- */

static struct wal_config members(uint32_t a, uint32_t b, uint32_t c)
{
    return (struct wal_config){.n = 3, .members = {{.node_id = a}, {.node_id = b}, {.node_id = c}}};
}

static void change(struct wal_config target)
{
    event((struct pr_event){.kind = PR_EV_CHANGE, .config = &target});
}

/* Nodes 1 and 2 have all up to the tip. */
static void catch_up(void)
{
    lsn_t tip = view().tip_lsn;
    receive(1, ack(tip));
    receive(2, ack(tip));
}

Test(proposer, members_change_in_two_steps_each_after_the_one_before_is_committed)
{
    lead(5000);
    change(members(1, 3, 4));
    cr_assert(view().config.version == 2 && view().config.n_new == 3, "in force at once");
    lsn_t joint = view().tip_lsn;
    cr_assert_eq(sent(1, FRAME_APPEND)->payload.len, joint - 5000);
    change(members(1, 3, 4));
    cr_assert_not_null(told(PR_CHANGE_REFUSED), "the joint one is not committed");
    cr_assert_eq(view().tip_lsn, joint);
    receive(1, ack(joint));
    receive(2, ack(joint));
    cr_assert_null(told(PR_CONFIG), "a majority of the old ones alone");
    receive(3, ack(joint));
    cr_assert_eq(told(PR_CONFIG)->lsn, joint);
    change(members(1, 2, 4));
    cr_assert_not_null(told(PR_CHANGE_REFUSED), "on the way to others");
    change(members(1, 3, 4));
    cr_assert(view().config.n_new == 0 && view().config.members[2].node_id == 4);
    lsn_t end = view().tip_lsn;
    receive(1, ack(end));
    receive(2, ack(end));
    cr_assert_null(told(PR_CONFIG), "node 2 is no member");
    receive(3, ack(end));
    cr_assert_eq(told(PR_CONFIG)->config.version, 3);
}

Test(proposer, who_has_left_is_told_once_that_is_committed)
{
    lead(5000);
    receive(3, ack(5000));
    change(members(1, 3, 4));
    lsn_t joint = view().tip_lsn;
    for (uint32_t k = 1; k <= 3; k++) {
        receive(k, ack(joint));
    }
    change(members(1, 3, 4));
    lsn_t end = view().tip_lsn;
    cr_assert_null(sent(2, FRAME_APPEND), "not before it is committed");
    receive(1, ack(end));
    receive(3, ack(end));
    cr_assert_eq(view().untold, 1);
    cr_assert_eq(sent(2, FRAME_APPEND)->payload.len, end - joint);
    receive(2, ack(end));
    cr_assert_eq(view().untold, 0);
    append();
    cr_assert_null(sent(2, FRAME_APPEND), "and nothing after it");
}

Test(proposer, the_term_of_one_that_has_left_deposes_nobody)
{
    /* R6 speaks of members: one that left gives its vote to whoever asks for it */
    lead(5000);
    receive(3, ack(5000));
    change(members(1, 3, 4));
    catch_up();
    receive(3, ack(view().tip_lsn));
    change(members(1, 3, 4));
    receive(1, ack(view().tip_lsn));
    receive(3, ack(view().tip_lsn));
    cr_assert_not_null(told(PR_CONFIG));
    receive(2, (struct q_msg){.type = FRAME_REJECT, .term = used_term + 3});
    cr_assert_null(told(PR_LOST));
    cr_assert_eq(view().state, PR_LEADER);
}

Test(proposer, a_joint_configuration_can_be_taken_back)
{
    lead(5000);
    change(members(1, 3, 4));
    catch_up();
    receive(3, ack(view().tip_lsn));
    change(members(1, 2, 3));
    cr_assert(view().config.n_new == 0 && view().config.members[1].node_id == 2);
    catch_up();
    cr_assert_eq(told(PR_CONFIG)->config.version, 3);
}

Test(proposer, whoever_finds_a_joint_configuration_finishes_it)
{
    /* The new members have all up to the start: the second step comes before READY. */
    struct wal_config joint = three(2);
    joint.n_new = 3;
    joint.new_members[0].node_id = 1;
    joint.new_members[1].node_id = 3;
    joint.new_members[2].node_id = 4;
    campaign(1);
    up(4);
    for (uint32_t k = 1; k <= 4; k++) {
        struct q_msg m = voted(1, h1, 5000, 5000);
        m.config = joint;
        receive(k, m);
    }
    receive(2, ack(5000));
    receive(3, ack(5000));
    cr_assert_eq(view().state, PR_RECOVER, "a majority of the old ones, not of the new");
    receive(4, ack(5000));
    cr_assert_not_null(told(PR_READY), "node 1 lags: it goes on joint");
    cr_assert_eq(view().config.n_new, 3);

    make(options());
    campaign(1);
    up(4);
    for (uint32_t k = 1; k <= 4; k++) {
        struct q_msg m = voted(1, h1, 5000, 5000);
        m.config = joint;
        receive(k, m);
    }
    receive(1, ack(5000));
    receive(4, ack(5000));
    receive(3, ack(5000));
    cr_assert_null(told(PR_READY));
    cr_assert(view().config.version == 3 && view().config.n_new == 0);
    lsn_t end = view().tip_lsn;
    receive(3, ack(end));
    receive(4, ack(end));
    cr_assert(told(PR_READY)->lsn == end && told(PR_READY)->config.version == 3);
}

Test(proposer, an_old_name_of_the_members_is_told_and_asked_again)
{
    /* S21: the VOTE goes out once more, with the version that is known now. */
    campaign(1);
    receive(1, (struct q_msg){.type = FRAME_REJECT_CONFIG, .config = three(5)});
    cr_assert_eq(sent(1, FRAME_VOTE)->config_version, 5);
}

/* ---- R3, R5, R6, R8 ---- */

Test(proposer, a_commit_is_what_a_quorum_of_this_term_has)
{
    /* R3 */
    lead(5000);
    lsn_t end = append();
    cr_assert_eq(sent(1, FRAME_APPEND)->payload.len, end - 5000);
    receive(1, ack(end));
    cr_assert_null(told(PR_DURABLE));
    struct q_msg other = ack(end);
    other.term = used_term - 1;
    receive(2, other);
    cr_assert_null(told(PR_DURABLE), "an ACK of an older term");
    other = ack(end);
    other.nonce.b[0]++;
    receive(2, other);
    cr_assert_null(told(PR_DURABLE), "an ACK for another leader");
    receive(2, ack(end));
    cr_assert_eq(told(PR_DURABLE)->lsn, end);
}

Test(proposer, nothing_below_the_own_start_is_committed_by_counting)
{
    /* R3, Raft's figure 8: q >= start. */
    campaign(2);
    receive(1, voted(1, h1, 6000, LSN_FIRST));
    receive(2, voted(1, h1, 5000, LSN_FIRST));
    receive(1, ack(5000));
    receive(2, ack(5000));
    cr_assert_eq(view().commit_lsn, LSN_FIRST);
    receive(1, ack(6000));
    receive(2, ack(6000));
    cr_assert_eq(view().state, PR_LEADER);
    cr_assert_eq(view().commit_lsn, 6000);
}

Test(proposer, commits_are_pipelined)
{
    /* No APPEND waits for the ACK of the one before. */
    lead(5000);
    lsn_t a = append();
    cr_assert_eq(sent(2, FRAME_APPEND)->begin_lsn, 5000);
    append();
    cr_assert_eq(sent(2, FRAME_APPEND)->begin_lsn, a);
}

Test(proposer, behind_two_appends_commits_are_gathered_into_one)
{
    /* One that is synced, one that is synced next: what comes behind them goes out together, to
     * each safekeeper when it has answered, and again when nobody answers. */
    lead(5000);
    lsn_t a = append();
    lsn_t b = append();
    append();
    cr_assert_null(sent(1, FRAME_APPEND), "a third one");
    lsn_t d = append();
    cr_assert_null(sent(1, FRAME_APPEND), "a fourth one");
    receive(1, ack(a));
    cr_assert_eq(sent(1, FRAME_APPEND)->begin_lsn, b);
    cr_assert_eq(sent(1, FRAME_APPEND)->payload.len, d - b);
    cr_assert_null(sent(2, FRAME_APPEND), "it has not answered");
    struct q_msg in_memory = ack(5000);
    in_memory.write_lsn = a;
    receive(2, in_memory);
    cr_assert_eq(sent(2, FRAME_APPEND)->begin_lsn, b, "that it received is an answer");
    append();
    cr_assert_null(sent(1, FRAME_APPEND), "two are on their way again");
    wait_us(1000000);
    cr_assert_eq(sent(1, FRAME_APPEND)->begin_lsn, a);
    cr_assert_eq(sent(1, FRAME_APPEND)->payload.len, view().tip_lsn - a, "and all that came since");
}

Test(proposer, what_a_repetition_sends_in_pieces_is_not_held_back_by_what_was_sent_before)
{
    /* A batch takes one record. That two were on their way before a connection was lost, or before
     * nobody answered, says nothing of what is sent again. */
    struct pr_options o = options();
    o.batch_bytes = 1;
    make(o);
    lead(5000);
    lsn_t a = append();
    lsn_t b = append();
    lsn_t c = append();
    event((struct pr_event){.kind = PR_EV_DOWN, .node = 1});
    up(1);
    receive(1, ack(5000));
    cr_assert_eq(sent(1, FRAME_APPEND)->begin_lsn, 5000);
    receive(1, ack(a));
    cr_assert_not_null(sent(1, FRAME_APPEND), "the second one is on its way, and the third goes");
    cr_assert_eq(sent(1, FRAME_APPEND)->begin_lsn, b);
    wait_us(1000000);
    cr_assert_eq(sent(2, FRAME_APPEND)->begin_lsn, 5000, "this one has not answered at all");
    receive(2, ack(a));
    cr_assert_not_null(sent(2, FRAME_APPEND));
    cr_assert_eq(sent(2, FRAME_APPEND)->begin_lsn, b);
    receive(1, ack(c));
    receive(2, ack(c));
    cr_assert_eq(view().commit_lsn, c);
}

Test(proposer, what_a_lost_term_sent_holds_back_nothing_of_the_next)
{
    /* Its LSNs come again: that two APPENDs ended there says nothing of those of this term. */
    static const struct q_term h2[] = {{1, LSN_FIRST}, {2, 5000}};
    lead(5000);
    append();
    append();
    kind(PR_EV_ABANDON);
    cr_assert_eq(told(PR_LOST)->term, 2);
    kind(PR_EV_LEAD);
    receive(1, pos(2, 0, LSN_FIRST, LSN_FIRST));
    receive(2, pos(2, 0, LSN_FIRST, LSN_FIRST));
    cr_assert_not_null(sent(1, FRAME_VOTE));
    receive(1, voted(2, h2, 5000, 5000));
    receive(2, voted(2, h2, 5000, 5000));
    receive(1, ack(5000));
    receive(2, ack(5000));
    cr_assert_eq(view().state, PR_LEADER);
    lsn_t a = append();
    cr_assert_eq(sent(1, FRAME_APPEND)->begin_lsn, 5000);
    lsn_t b = append();
    cr_assert_not_null(sent(1, FRAME_APPEND), "one is on its way");
    cr_assert_eq(sent(1, FRAME_APPEND)->begin_lsn, a);
    receive(1, ack(b));
    receive(2, ack(b));
    cr_assert_eq(view().commit_lsn, b);
}

Test(proposer, acks_before_the_sync_are_asked_for_where_somebody_waits_for_them)
{
    /* synchronous=NORMAL waits for a majority of memories; FULL has no use for the extra message.
     */
    lead(5000);
    lsn_t end = append_wanting(true);
    cr_assert(sent(1, FRAME_APPEND)->want_received);
    struct q_msg in_memory = ack(5000);
    in_memory.write_lsn = end;
    receive(1, in_memory);
    cr_assert_null(told(PR_RECEIVED));
    receive(2, in_memory);
    cr_assert_eq(told(PR_RECEIVED)->lsn, end);
    cr_assert_null(told(PR_DURABLE));
    end = append();
    cr_assert(!sent(1, FRAME_APPEND)->want_received);
    receive(1, ack(end));
    receive(2, ack(end));
    cr_assert_eq(told(PR_DURABLE)->lsn, end);
    cr_assert_null(told(PR_RECEIVED), "DURABLE says it");
}

Test(proposer, what_one_that_went_away_had_only_in_memory_counts_no_more)
{
    /* A majority of memories at one time: its process may have ended with the connection. */
    lead(5000);
    lsn_t end = append_wanting(true);
    struct q_msg in_memory = ack(5000);
    in_memory.write_lsn = end;
    receive(1, in_memory);
    event((struct pr_event){.kind = PR_EV_DOWN, .node = 1});
    receive(2, in_memory);
    cr_assert_null(told(PR_RECEIVED));
    receive(3, in_memory);
    cr_assert_eq(told(PR_RECEIVED)->lsn, end);
}

Test(proposer, the_window_bounds_what_is_in_flight)
{
    /* G8 */
    struct pr_options o = options();
    o.window_bytes = 300;
    make(o);
    lead(5000);
    append();
    append();
    append();
    cr_assert_null(sent(1, FRAME_APPEND));
    receive(1, ack(view().tip_lsn));
    append();
    cr_assert_not_null(sent(1, FRAME_APPEND));
    cr_assert_null(sent(2, FRAME_APPEND));
}

Test(proposer, a_higher_term_ends_the_leadership)
{
    /* R6 */
    lead(5000);
    append();
    term_t led = used_term;
    receive(3, (struct q_msg){.type = FRAME_REJECT, .term = led + 3});
    cr_assert_eq(told(PR_LOST)->term, led);
    cr_assert(told(PR_LOST)->contested);
    cr_assert_eq(view().state, PR_CAMPAIGN);
    struct co_buf late = {0};
    cr_assert_eq(co_buf_append_zeros(&late, 200), 0);
    event((struct pr_event){.kind = PR_EV_APPEND, .record = &late});
    cr_assert_null(sent(1, FRAME_APPEND), "what comes late for a lost term goes nowhere");
    cr_assert_null(late.data);
}

Test(proposer, a_leader_that_a_minority_deposes_keeps_its_lease_for_a_term_above)
{
    /* R6: nobody who waits gets in between; the safekeepers do not hold our lease against us. */
    static const struct q_term h2[] = {{1, LSN_FIRST}, {2, 5000}};
    struct q_msg held = pos(2, 1, 5000, 5000);
    held.lease_held = true;
    lead(5000);
    term_t seen = used_term + 3;
    wait_us(900000);
    receive(3, (struct q_msg){.type = FRAME_REJECT, .term = seen});
    cr_assert_null(sent(1, FRAME_RELEASE));
    cr_assert_null(sent(2, FRAME_RELEASE));
    cr_assert_not_null(sent(1, FRAME_READ_POS), "at once");
    receive(1, held);
    receive(2, held);
    cr_assert_eq(used_term, seen + 1);
    receive(1, voted(2, h2, 5000, 5000));
    receive(2, voted(2, h2, 5000, 5000));
    receive(1, ack(5000));
    receive(2, ack(5000));
    cr_assert_eq(told(PR_READY)->lsn, 5000);
    cr_assert_eq(view().state, PR_LEADER);
}

Test(proposer, a_deposed_leader_that_is_not_wanted_gives_its_lease_back)
{
    /* R6: ABANDON before any VOTE is out: the safekeepers know the lease by the term that was lost.
     */
    lead(5000);
    term_t led = used_term;
    struct co_id nonce = used;
    unsigned released = 0;
    wait_us(900000);
    receive(3, (struct q_msg){.type = FRAME_REJECT, .term = led + 3});
    cr_assert_null(sent(1, FRAME_VOTE));
    kind(PR_EV_ABANDON);
    for (uint32_t i = 0; i < acts.n; i++) {
        const struct q_msg *m = &acts.a[i].msg;
        released += acts.a[i].kind == PR_SEND && m->type == FRAME_RELEASE && m->term == led &&
                    co_id_eq(&m->nonce, &nonce);
    }
    cr_assert_eq(released, 3);
    kind(PR_EV_ABANDON);
    cr_assert_null(sent(1, FRAME_RELEASE), "once");
}

Test(proposer, a_deposed_leader_that_is_not_wanted_gives_its_votes_back)
{
    /* R6: the owner says ABANDON */
    struct q_msg held = pos(2, 1, 5000, 5000);
    held.lease_held = true;
    lead(5000);
    wait_us(900000);
    receive(3, (struct q_msg){.type = FRAME_REJECT, .term = used_term + 3});
    receive(1, held);
    receive(1, voted(1, h1, 5000, 5000));
    kind(PR_EV_ABANDON);
    cr_assert_not_null(sent(1, FRAME_RELEASE));
    cr_assert_eq(sent(1, FRAME_RELEASE)->term, used_term);
    cr_assert_null(told(PR_LOST), "told already");
    cr_assert_eq(view().state, PR_FOLLOW);
    wait_us(10000000);
    cr_assert_null(sent(1, FRAME_READ_POS));
}

Test(proposer, abandon_gives_up_the_term)
{
    /* R5: the position keeps its content, so giving up a commit is giving up the term. */
    lead(5000);
    append();
    kind(PR_EV_ABANDON);
    cr_assert_not_null(told(PR_LOST));
    cr_assert_not_null(sent(1, FRAME_RELEASE));
    kind(PR_EV_LEAD);
    cr_assert_eq(view().tip_lsn, 0, "nothing of the old tail is kept");
}

Test(proposer, a_leader_steps_down_for_want_of_progress_only)
{
    /* R8 */
    struct pr_options o = options();
    o.progress_us = 2000000;
    make(o);
    lead(5000);
    wait_us(60000000);
    cr_assert_null(told(PR_LOST), "nothing in flight, nothing to step down for");
    append();
    wait_us(1500000);
    receive(1, ack(view().tip_lsn)); /* slow, but it moves */
    wait_us(1500000);
    cr_assert_null(told(PR_LOST));
    wait_us(600000);
    cr_assert_not_null(told(PR_LOST));
}

Test(proposer, release_waits_for_what_is_in_flight)
{
    /* 3.6: the next writer finds a log without an open tail. */
    lead(5000);
    lsn_t end = append();
    kind(PR_EV_RELEASE);
    cr_assert_null(sent(1, FRAME_RELEASE));
    receive(1, ack(end));
    receive(2, ack(end));
    cr_assert_eq(told(PR_DURABLE)->lsn, end);
    cr_assert_not_null(sent(1, FRAME_RELEASE));
    cr_assert_not_null(told(PR_RELEASED));
    cr_assert_null(told(PR_LOST));
    cr_assert_eq(view().state, PR_FOLLOW);
    cr_assert_eq(view().lease_until_us, 0, "no lease read after a release");
}

/* ---- S5, lease, resend ---- */

Test(proposer, an_idle_commit_is_told_within_a_millisecond)
{
    /* S5 */
    lead(5000);
    lsn_t end = append();
    receive(1, ack(end));
    receive(2, ack(end));
    cr_assert_null(sent(1, FRAME_APPEND), "another commit may follow and carry it");
    uint64_t at = told(PR_TIMER)->at_us;
    cr_assert_leq(at, now + 1000);
    now = at;
    kind(PR_EV_TIMER);
    cr_assert_eq(sent(1, FRAME_APPEND)->commit_lsn, end);
    cr_assert_eq(sent(1, FRAME_APPEND)->payload.len, 0);
    now += 2000;
    kind(PR_EV_TIMER);
    cr_assert_null(sent(1, FRAME_APPEND), "once");
}

Test(proposer, the_lease_counts_from_the_sending_less_a_margin)
{
    /* S5: L - 1 % - 2 ms from when the acknowledged message was sent, at a quorum. */
    lead(5000);
    uint64_t lead_at = now;
    cr_assert_eq(view().lease_until_us, lead_at + L_US - L_US / 100 - 2000);
    now += 1000000;
    struct q_msg a = ack(5000);
    now += 500000; /* it took so long to come back */
    receive(1, a);
    cr_assert_eq(view().lease_until_us, lead_at + L_US - L_US / 100 - 2000, "one is no quorum");
    receive(2, a);
    cr_assert_eq(view().lease_until_us, a.sent_us + L_US - L_US / 100 - 2000);
    event((struct pr_event){.kind = PR_EV_DOWN, .node = 1});
    event((struct pr_event){.kind = PR_EV_DOWN, .node = 2});
    cr_assert_eq(view().lease_until_us, 0, "a safekeeper here ends the lease with the connection");
}

Test(proposer, the_lease_is_renewed)
{
    /* S5 */
    lead(5000);
    wait_us(1000001);
    cr_assert_not_null(sent(1, FRAME_APPEND));
    cr_assert_eq(sent(1, FRAME_APPEND)->sent_us, now);
}

Test(proposer, a_new_connection_starts_again_from_what_was_acknowledged)
{
    /* PR_EV_DOWN, PR_EV_UP */
    lead(5000);
    lsn_t end = append();
    receive(1, ack(end));
    event((struct pr_event){.kind = PR_EV_DOWN, .node = 2});
    append();
    cr_assert_null(sent(2, FRAME_APPEND));
    up(2);
    cr_assert_null(sent(2, FRAME_APPEND), "where it is now, it is asked first");
    cr_assert_not_null(sent(2, FRAME_ELECTED));
    receive(2, ack(5000));
    cr_assert_eq(sent(2, FRAME_APPEND)->begin_lsn, 5000);
}

Test(proposer, what_is_not_acknowledged_is_sent_again)
{
    /* resend_us */
    lead(5000);
    append();
    wait_us(1000001);
    cr_assert_eq(sent(1, FRAME_APPEND)->begin_lsn, 5000);
    cr_assert_gt(sent(1, FRAME_APPEND)->payload.len, 0);
}

Test(proposer, the_history_floor_is_what_all_members_have)
{
    /* M16 */
    lead(5000);
    lsn_t end = append();
    receive(1, ack(end));
    receive(2, ack(end));
    wait_us(1000);
    cr_assert_eq(sent(1, FRAME_APPEND)->floor_lsn, 0, "node 3 is not heard of");
    receive(3, ack(5000));
    wait_us(1000001);
    cr_assert_eq(sent(1, FRAME_APPEND)->floor_lsn, 5000);
}

Test(proposer, a_safekeeper_that_ends_within_a_record_counts_for_nothing)
{
    /* Its log is another one; found by the simulator as a read beyond the tail. */
    lead(5000);
    lsn_t end = append();
    receive(3, ack(end - 8));
    receive(1, ack(end));
    cr_assert_null(told(PR_DURABLE));
    cr_assert_neq(view().commit_lsn, end - 8);
    receive(2, ack(end));
    cr_assert_eq(told(PR_DURABLE)->lsn, end);
}

/* ---- catch-up ---- */

Test(proposer, a_safekeeper_10000_commits_behind_is_fed_from_another)
{
    /* Below the tail in memory: FETCH from one that has it, passed on as APPEND. */
    struct pr_options o = options();
    o.tail_bytes = 4096;
    make(o);
    lead(5000);
    struct co_buf log = {0};
    for (int i = 0; i < 10000; i++) {
        struct co_buf r = record();
        cr_assert_eq(co_buf_append(&log, r.data, r.len), 0);
        event((struct pr_event){.kind = PR_EV_APPEND, .record = &r});
        receive(1, ack(view().tip_lsn));
        receive(2, ack(view().tip_lsn));
    }
    lsn_t tip = view().tip_lsn;
    cr_assert_eq(view().commit_lsn, tip);
    receive(3, ack(5000));
    lsn_t has = 5000;
    int rounds = 0;
    while (has < tip && rounds++ < 200) {
        /* the next FETCH goes out as soon as the DATA of the one before is passed on */
        uint32_t from = sent(1, FRAME_FETCH) ? 1 : 2;
        const struct q_msg *f = sent(from, FRAME_FETCH);
        struct q_msg data = {.type = FRAME_DATA, .term = used_term, .flush_lsn = tip};
        if (f) {
            cr_assert_eq(f->from_lsn, has);
            size_t len = (size_t)(f->to_lsn - f->from_lsn), at = (size_t)(has - 5000), n = 0;
            while (n < len && n < 200000) {
                n += (size_t)co_get64(log.data + at + n + 8);
            }
            data.from_lsn = has;
            data.payload = co_span_of(log.data + at, n);
            receive(from, data);
        }
        lsn_t before = has;
        for (uint32_t i = 0; i < acts.n; i++) {
            const struct q_msg *m = &acts.a[i].msg;
            if (acts.a[i].kind == PR_SEND && acts.a[i].node == 3 && m->type == FRAME_APPEND) {
                cr_assert_eq(m->begin_lsn, has);
                cr_assert_eq(memcmp(m->payload.data, log.data + (has - 5000), m->payload.len), 0);
                has += m->payload.len;
            }
        }
        cr_assert_gt(has, before);
        if (rounds > 1 && !sent(1, FRAME_FETCH) && !sent(2, FRAME_FETCH)) {
            receive(3, ack(has)); /* what is in memory still follows behind an answer */
        }
    }
    cr_assert_eq(has, tip);
    receive(3, ack(has));
    cr_assert_eq(view().member[2].match_lsn, tip);
    cr_assert_lt(rounds, 50, "in large pieces");
    co_buf_free(&log);
}

/* ---- strict positions ---- */

static void ask(uint64_t req)
{
    event((struct pr_event){.kind = PR_EV_POSITION, .req = req});
}

static struct q_msg answer_pos(term_t llt, lsn_t flush, lsn_t commit)
{
    struct q_msg m = pos(llt, llt, flush, commit);
    for (uint32_t k = 1; k <= 3; k++) {
        if (sent(k, FRAME_READ_POS)) {
            m.read_id = sent(k, FRAME_READ_POS)->read_id;
        }
    }
    return m;
}

Test(proposer, the_lease_holder_reads_without_a_round_trip)
{
    /* 3.8 lease read; I16: not when the lease is over. */
    lead(5000);
    ask(1);
    cr_assert_eq(told(PR_POSITION)->lsn, 5000);
    now += L_US;
    ask(2);
    cr_assert_null(told(PR_POSITION));
    cr_assert_not_null(sent(1, FRAME_READ_POS));
}

Test(proposer, a_strict_position_is_not_the_largest_commit_lsn)
{
    /* 3.8: P is the most advanced log of a quorum; the answer is a commit LSN that reaches it. */
    up(1);
    up(2);
    up(3);
    ask(9);
    struct q_msg a = answer_pos(3, 6000, 5000), b = answer_pos(2, 7000, 5000);
    receive(1, a);
    cr_assert_null(told(PR_POSITION), "one is no quorum");
    receive(2, b);
    cr_assert_null(told(PR_POSITION), "P is 6000 of term 3, nobody says it is committed");
    wait_us(1001);
    cr_assert_not_null(sent(1, FRAME_READ_POS), "so it is asked again");
    a = answer_pos(3, 6400, 6000);
    receive(1, a);
    cr_assert_eq(told(PR_POSITION)->req, 9);
    cr_assert_eq(told(PR_POSITION)->lsn, 6000);
}

static unsigned asked(void)
{
    unsigned set = 0;
    for (uint32_t k = 1; k <= 3; k++) {
        set |= sent(k, FRAME_READ_POS) ? 1u << k : 0;
    }
    return set;
}

Test(proposer, a_position_is_asked_of_the_quorum_that_was_fastest)
{
    /* A quorum is enough; the third is asked when one of them is slow, which is remembered. */
    up(1);
    up(2);
    up(3);
    ask(1);
    cr_assert_eq(asked(), 1u << 1 | 1u << 2);
    struct q_msg a = answer_pos(3, 6000, 6000);
    now += 100;
    receive(1, a);
    cr_assert_null(told(PR_POSITION));
    now += PR_REST_US - 100;
    kind(PR_EV_TIMER);
    cr_assert_eq(asked(), 1u << 3, "2 is silent");
    receive(3, a);
    cr_assert_eq(told(PR_POSITION)->lsn, 6000);
    receive(2, a);
    ask(2);
    cr_assert_eq(asked(), 1u << 1 | 1u << 3);
    a = answer_pos(3, 6000, 6000);
    event((struct pr_event){.kind = PR_EV_DOWN, .node = 1});
    event((struct pr_event){.kind = PR_EV_DOWN, .node = 3});
    up(3);
    cr_assert_eq(asked(), 1u << 3, "who comes up meanwhile");
    receive(3, a);
    wait_us(PR_REST_US);
    cr_assert_neq(asked() & 1u << 2, 0);
    receive(2, a);
    cr_assert_eq(told(PR_POSITION)->req, 2);
}

Test(proposer, a_calm_writer_tells_its_commit_at_once)
{
    /* S5: in a loop of commits the next record tells, else a heartbeat within PR_TELL_US. */
    lsn_t end = 0;
    lead(5000);
    for (unsigned i = 0; i < PR_CALM; i++) {
        cr_assert_null(sent(1, FRAME_APPEND), "one pause makes no calm");
        now += PR_CALM_US;
        end = append();
        receive(1, ack(end));
        receive(2, ack(end));
    }
    cr_assert_eq(sent(1, FRAME_APPEND)->commit_lsn, end);
    cr_assert_eq(sent(2, FRAME_APPEND)->commit_lsn, end);
    now += PR_CALM_US - 1;
    end = append();
    receive(1, ack(end));
    receive(2, ack(end));
    cr_assert_null(sent(1, FRAME_APPEND), "the next one comes soon");
    wait_us(PR_TELL_US);
    cr_assert_eq(sent(1, FRAME_APPEND)->commit_lsn, end);
}

Test(proposer, hurry_asks_those_who_have_not_flushed)
{
    lead(5000);
    lsn_t end = append_wanting(true);
    cr_assert(sent(1, FRAME_APPEND)->want_received);
    receive(2, ack(end));
    kind(PR_EV_HURRY);
    cr_assert_null(sent(2, FRAME_APPEND));
    cr_assert_eq(sent(1, FRAME_APPEND)->payload.len, 0);
    cr_assert_not(sent(1, FRAME_APPEND)->want_received);
}

Test(proposer, the_position_of_a_log_in_doubt_counts_for_no_read)
{
    up(1);
    up(2);
    up(3);
    ask(9);
    struct q_msg a = answer_pos(3, 6000, 6000), b = a;
    b.suspect_lsn = 7000;
    receive(1, a);
    receive(2, b);
    cr_assert_null(told(PR_POSITION), "what was committed at 7000 may be on the third alone");
    receive(3, a);
    cr_assert_eq(told(PR_POSITION)->lsn, 6000);
}

static void ask_for_two_seconds_and_more(bool second_answers)
{
    up(1);
    up(2);
    ask(9);
    for (int i = 0; i < 1000 && view().state == PR_FOLLOW; i++) {
        if (sent(1, FRAME_READ_POS)) {
            struct q_msg a = answer_pos(1, 6000, 6000), b = answer_pos(1, 5000, 5000);
            b.suspect_lsn = 6000;
            receive(1, a);
            if (second_answers) {
                receive(2, b);
            }
        }
        wait_us(5000);
    }
}

Test(proposer, a_log_in_doubt_is_made_whole_by_an_own_election_when_the_third_is_away)
{
    /* Found by the simulator as a standstill: one log was halted by rot, another one in doubt. A
     * vote of that counts for a donor that has all it may have forgotten. */
    ask_for_two_seconds_and_more(true);
    cr_assert_eq(view().state, PR_CAMPAIGN);
}

Test(proposer, without_a_majority_nothing_is_settled)
{
    ask_for_two_seconds_and_more(false);
    cr_assert_eq(view().state, PR_FOLLOW);
}

Test(proposer, answers_slower_than_the_repetition_of_the_question_count)
{
    /* 3.8: each answer was given after the question came; found by the simulator as a standstill.
     */
    up(1);
    up(2);
    up(3);
    ask(9);
    struct q_msg first = answer_pos(1, 5000, 5000), second;
    wait_us(300000);
    second = answer_pos(1, 5000, 5000);
    cr_assert_gt(second.read_id, first.read_id);
    receive(1, first);
    wait_us(300000);
    cr_assert_not_null(sent(1, FRAME_READ_POS));
    receive(2, second);
    cr_assert_eq(told(PR_POSITION)->lsn, 5000);
}

Test(proposer, answers_of_before_the_question_do_not_count)
{
    /* 3.8: what was true before a commit was acknowledged is stale. */
    up(1);
    up(2);
    up(3);
    ask(1);
    struct q_msg old = answer_pos(1, 5000, 5000);
    event((struct pr_event){.kind = PR_EV_CANCEL, .req = 1});
    ask(2);
    receive(1, old);
    receive(2, old);
    cr_assert_null(told(PR_POSITION));
}

Test(proposer, campaigns_wait_longer_where_nobody_was_in_time)
{
    /* G7: a network slower than resend_us / 2 still elects. */
    campaign(1);
    uint64_t first = now;
    while (!told(PR_REFUSED)) {
        wait_us(10000);
    }
    first = now - first;
    for (int i = 0; i < 200 && !sent(1, FRAME_VOTE); i++) {
        wait_us(10000);
        receive(1, pos(1, 0, LSN_FIRST, LSN_FIRST));
        if (!sent(1, FRAME_VOTE)) {
            receive(2, pos(1, 0, LSN_FIRST, LSN_FIRST));
        }
    }
    uint64_t second = now;
    while (!told(PR_REFUSED)) {
        wait_us(10000);
    }
    cr_assert_geq(now - second, 2 * first - 20000);
}

Test(proposer, an_open_tail_is_settled_by_an_own_election)
{
    /* 3.8, S6: nobody leads; then the lease that was only for that is given back, without READY. */
    up(1);
    up(2);
    up(3);
    ask(9);
    for (int i = 0; i < 400 && view().state == PR_FOLLOW; i++) {
        if (sent(1, FRAME_READ_POS)) {
            struct q_msg a = answer_pos(1, 6000, 5000);
            receive(1, a);
            receive(2, a);
        }
        wait_us(5000);
    }
    cr_assert_eq(view().state, PR_CAMPAIGN);
    for (int i = 0; i < 100 && !sent(1, FRAME_VOTE); i++) {
        receive(1, pos(1, 1, 6000, 5000));
        receive(2, pos(1, 1, 6000, 5000));
        if (!sent(1, FRAME_VOTE)) {
            wait_us(20000);
        }
    }
    receive(1, voted(1, h1, 6000, 5000));
    receive(2, voted(1, h1, 6000, 5000));
    receive(1, ack(6000));
    receive(2, ack(6000));
    cr_assert_eq(told(PR_POSITION)->lsn, 6000);
    cr_assert_null(told(PR_READY));
    cr_assert_not_null(sent(1, FRAME_RELEASE));
    cr_assert_eq(view().state, PR_FOLLOW);
}

/* ---- resolve ---- */

struct case_of {
    const char *name;
    term_t t;
    lsn_t b;
    struct {
        term_t term, llt;
        lsn_t flush, commit;
        uint32_t n;
        struct q_term h[4];
    } sk[3];
    int verdict; /* -1: still open */
};

#define OPEN (-1)
#define NONE                                                                                       \
    {                                                                                              \
        0, 0, 0, 0, 0,                                                                             \
        {                                                                                          \
            {                                                                                      \
                0, 0                                                                               \
            }                                                                                      \
        }                                                                                          \
    }

static const struct case_of cases[] = {
    {"rule 1: committed beyond b, by its term",
     2,
     5000,
     {{2, 2, 6000, 5400, 2, {{1, 4096}, {2, 5000}}}, NONE, NONE},
     PR_COMMITTED},
    {"rule 2: committed beyond b, by another term",
     2,
     5000,
     {{3, 3, 6000, 5400, 2, {{1, 4096}, {3, 5000}}}, NONE, NONE},
     PR_NOT_COMMITTED},
    {"flushed beyond b, but not known to be committed",
     2,
     5000,
     {{2, 2, 6000, 5000, 2, {{1, 4096}, {2, 5000}}},
      {2, 2, 6000, 5000, 2, {{1, 4096}, {2, 5000}}},
      NONE},
     OPEN},
    {"rule 3: a quorum adopted the same newer term at or below b",
     2,
     5000,
     {{4, 4, 5000, 5000, 2, {{1, 4096}, {4, 5000}}},
      {4, 4, 5000, 5000, 2, {{1, 4096}, {4, 5000}}},
      NONE},
     PR_NOT_COMMITTED},
    {"one safekeeper that adopted a newer term is no evidence",
     2,
     5000,
     {{4, 4, 5000, 5000, 2, {{1, 4096}, {4, 5000}}}, {2, 1, 5000, 5000, 1, {{1, 4096}}}, NONE},
     OPEN},
    {"two that adopted different newer terms are none",
     2,
     5000,
     {{4, 4, 5000, 5000, 2, {{1, 4096}, {4, 5000}}},
      {3, 3, 5000, 5000, 2, {{1, 4096}, {3, 5000}}},
      NONE},
     OPEN},
    {"a history that merely contains the term is none: the node has moved on",
     2,
     5000,
     {{4, 4, 5000, 5000, 3, {{1, 4096}, {3, 5000}, {4, 5000}}},
      {3, 3, 5000, 5000, 2, {{1, 4096}, {3, 5000}}},
      NONE},
     OPEN},
    {"a vote in the newer term without adoption is none",
     2,
     5000,
     {{4, 1, 5000, 5000, 1, {{1, 4096}}}, {4, 4, 5000, 5000, 2, {{1, 4096}, {4, 5000}}}, NONE},
     OPEN},
    {"a newer term that starts above b keeps the record",
     2,
     5000,
     {{4, 4, 6000, 5000, 3, {{1, 4096}, {2, 5000}, {4, 6000}}},
      {4, 4, 6000, 5000, 3, {{1, 4096}, {2, 5000}, {4, 6000}}},
      NONE},
     OPEN},
    {"history that does not reach back: nobody can tell",
     2,
     5000,
     {{9, 9, 8000, 8000, 1, {{9, 7000}}}, {9, 9, 8000, 8000, 1, {{9, 7000}}}, NONE},
     PR_UNKNOWN},
};

Test(proposer, an_unknown_commit_is_resolved_by_three_rules_and_nothing_weaker)
{
    /* 3.7 */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct case_of *c = &cases[i];
        make(options());
        up(1);
        up(2);
        up(3);
        event((struct pr_event){
            .kind = PR_EV_RESOLVE, .req = 5, .resolve_term = c->t, .resolve_lsn = c->b});
        cr_assert(sent(1, FRAME_READ_POS)->want_history);
        uint64_t id = sent(1, FRAME_READ_POS)->read_id;
        int verdict = OPEN;
        for (uint32_t k = 0; k < 3; k++) {
            if (c->sk[k].n == 0) {
                continue;
            }
            struct q_msg m = pos(c->sk[k].term, c->sk[k].llt, c->sk[k].flush, c->sk[k].commit);
            m.read_id = id;
            m.lease_held = true;
            m.history = (struct q_history){c->sk[k].n, c->sk[k].h};
            receive(k + 1, m);
            if (told(PR_RESOLVED)) {
                verdict = (int)told(PR_RESOLVED)->verdict;
            }
        }
        cr_expect_eq(verdict, c->verdict, "%s: got %d", c->name, verdict);
    }
}

Test(proposer, a_leader_resolves_from_its_own_log)
{
    /* 3.7: rules 1 to 3 with the leader's history; its own open commit stays open. */
    lead(5000);
    struct pr_event e = {.kind = PR_EV_RESOLVE, .req = 1, .resolve_term = 1, .resolve_lsn = 4800};
    event(e);
    cr_assert_eq(told(PR_RESOLVED)->verdict, PR_COMMITTED);
    e.resolve_lsn = 5000;
    event(e);
    cr_assert_eq(told(PR_RESOLVED)->verdict, PR_NOT_COMMITTED, "its place is ours now");
    e.resolve_term = used_term;
    append();
    event(e);
    cr_assert_null(told(PR_RESOLVED));
    receive(1, ack(view().tip_lsn));
    receive(2, ack(view().tip_lsn));
    cr_assert_eq(told(PR_RESOLVED)->verdict, PR_COMMITTED);
}

Test(proposer, a_cancelled_question_is_not_answered)
{
    /* PR_EV_CANCEL */
    up(1);
    up(2);
    ask(9);
    struct q_msg a = answer_pos(1, 5000, 5000);
    event((struct pr_event){.kind = PR_EV_CANCEL, .req = 9});
    receive(1, a);
    receive(2, a);
    cr_assert_null(told(PR_POSITION));
}

/* ---- S10: fragments ---- */

/* A record that the shell keeps, named 9. */
static lsn_t append_spilled(void)
{
    struct co_buf r = record();
    struct pr_spilled s = {.id = 9};
    cr_assert_eq(wal_check(co_buf_span(&r), &s.header), 0);
    lsn_t end = s.header.end_lsn;
    event((struct pr_event){.kind = PR_EV_APPEND, .spilled = &s});
    co_buf_free(&r);
    return end;
}

static struct q_msg ack_staged(lsn_t flush, uint64_t staged)
{
    struct q_msg m = ack(flush);
    m.staged_bytes = staged;
    return m;
}

static void make_small_fragments(uint64_t window)
{
    struct pr_options o = options();
    o.fragment_bytes = 100;
    o.window_bytes = window;
    make(o);
    lead(5000);
}

Test(proposer, a_large_record_goes_in_fragments_within_the_window)
{
    make_small_fragments(150);
    lsn_t end = append_spilled();
    const struct q_msg *m = sent(1, FRAME_APPEND);
    cr_assert(m && m->fragment && m->begin_lsn == 5000 && m->fragment_at == 0);
    cr_assert_eq(m->payload.len, 100);
    cr_assert_null(m->payload.data, "the shell reads it");
    cr_assert_eq(told(PR_SEND)->spilled, 9u);
    uint64_t total = end - 5000;
    for (uint64_t had = 100; had < total; had += 100) {
        receive(1, ack_staged(5000, had));
        cr_assert_not_null(told(PR_PROGRESS));
        cr_assert_null(told(PR_DURABLE), "staged bytes are no commit");
        receive(2, ack_staged(5000, had));
    }
    cr_assert_eq(view().commit_lsn, 5000);
    receive(1, ack(end));
    receive(2, ack(end));
    cr_assert_eq(told(PR_DURABLE)->lsn, end);
}

Test(proposer, after_a_reconnect_it_goes_on_where_the_safekeeper_is)
{
    make_small_fragments(1u << 20);
    append_spilled();
    receive(1, ack_staged(5000, 100));
    for (uint64_t staged = 0; staged <= 100; staged += 100) {
        event((struct pr_event){.kind = PR_EV_DOWN, .node = 1});
        up(1);
        cr_assert_null(sent(1, FRAME_APPEND), "what it has now is not known yet");
        receive(1, ack_staged(5000, staged));
        const struct q_msg *m = sent(1, FRAME_APPEND);
        cr_assert(m && m->fragment && m->fragment_at == staged, "what is staged is not sent again");
    }
    receive(1, ack_staged(5000, 0));
    wait_us(1000001); /* nothing moved: once more from the begin */
    const struct q_msg *m = sent(1, FRAME_APPEND);
    cr_assert(m && m->fragment_at == 0);
}

Test(proposer, moving_bytes_are_progress)
{
    /* R8: a leader is not given up while a large record is on its way. */
    struct pr_options o = options();
    o.fragment_bytes = 20;
    o.window_bytes = 20;
    o.progress_us = 2000000;
    make(o);
    lead(5000);
    append_spilled();
    for (uint64_t had = 20; had < 160; had += 20) {
        wait_us(1500000);
        receive(1, ack_staged(5000, had));
        cr_assert_eq(view().state, PR_LEADER);
    }
    wait_us(2000001);
    cr_assert_not_null(told(PR_LOST), "and when nothing moves any more it is");
}

Test(proposer, a_spilled_record_is_given_back_when_everybody_has_it_or_the_term_ends)
{
    make_small_fragments(1u << 20);
    lsn_t end = append_spilled();
    for (uint32_t k = 1; k <= 3; k++) {
        if (k == 3) {
            receive(3, ack(5000)); /* adoption */
        }
        receive(k, ack(end));
    }
    kind(PR_EV_TIMER);
    cr_assert_eq(told(PR_FORGET)->spilled, 9u);
    append_spilled();
    kind(PR_EV_ABANDON);
    cr_assert_not_null(told(PR_LOST));
    kind(PR_EV_TIMER);
    cr_assert_eq(told(PR_FORGET)->spilled, 9u);
}

Test(proposer, a_fragment_of_the_donor_goes_on_to_whoever_lags)
{
    /* R2: also of a record that is in nobody's memory. */
    struct pr_options o = options();
    o.tail_bytes = 0;
    o.fragment_bytes = 100;
    make(o);
    lead(5000);
    struct co_buf r = record();
    uint8_t copy[512];
    size_t len = r.len;
    memcpy(copy, r.data, len);
    event((struct pr_event){.kind = PR_EV_APPEND, .record = &r});
    receive(1, ack(5000 + len));
    receive(2, ack(5000 + len));
    receive(3, voted(1, h1, 5000, 5000));
    receive(3, ack_staged(5000, 0));
    const struct q_msg *m = sent(1, FRAME_FETCH);
    m = m ? m : sent(2, FRAME_FETCH);
    cr_assert(m && m->from_lsn == 5000 && m->fragment_at == 0);
    uint32_t from = sent(1, FRAME_FETCH) ? 1 : 2;
    struct q_msg data = {.type = FRAME_DATA,
                         .term = used_term,
                         .from_lsn = 5000,
                         .to_lsn = 5000 + len,
                         .fragment = true,
                         .payload = co_span_of(copy, 150)};
    receive(from, data);
    m = sent(3, FRAME_APPEND);
    cr_assert(m && m->fragment && m->begin_lsn == 5000 && m->payload.len == 150);
    m = sent(from, FRAME_FETCH);
    cr_assert(m && m->from_lsn == 5000 && m->fragment_at == 150, "and the next is asked for");
    data.fragment_at = 150;
    data.payload = co_span_of(copy + 150, len - 150);
    receive(from, data);
    m = sent(3, FRAME_APPEND);
    cr_assert(m && m->fragment_at == 150);
    receive(3, ack(5000 + len));
    cr_assert_eq(view().member[2].match_lsn, 5000 + len);
}

/* ---- disks that went back in time (proposer_known.c) ---- */

static const struct q_known *known_of(const struct q_msg *m, uint64_t node)
{
    cr_assert_not_null(m);
    const struct q_known *e = q_known_of(m->known.e, m->known.n, node);
    cr_assert_not_null(e);
    return e;
}

Test(proposer, the_vote_of_one_that_has_less_than_it_said_once_does_not_count)
{
    /* Node 2 remembers that node 1 acknowledged what is committed, and node 1 has it no more. */
    struct q_known of_1 = {.node = 1, .commit_lsn = LSN_FIRST + 800};
    campaign(1);
    struct q_msg two = voted(1, h1, LSN_FIRST, LSN_FIRST);
    two.known = (struct q_known_list){1, &of_1};
    receive(1, voted(1, h1, LSN_FIRST, LSN_FIRST));
    receive(2, two);
    cr_assert_eq(view().state, PR_CAMPAIGN);
    receive(3, voted(1, h1, LSN_FIRST + 800, LSN_FIRST));
    cr_assert_eq(view().state, PR_RECOVER, "the two others are a majority");
    cr_assert_eq(view().start_lsn, LSN_FIRST + 800);
    cr_assert_eq(known_of(sent(1, FRAME_ELECTED), 1)->commit_lsn, LSN_FIRST + 800,
                 "it is told, and finds out by itself");
}

Test(proposer, the_vote_of_another_start_than_the_newest_known_does_not_count)
{
    struct q_known of_1 = {.node = 1, .starts = 5, .start_id = 55},
                   own = {.node = 1, .starts = 4, .start_id = 44};
    campaign(1);
    struct q_msg one = voted(1, h1, LSN_FIRST, LSN_FIRST), two = one;
    one.known = (struct q_known_list){1, &own};
    two.known = (struct q_known_list){1, &of_1};
    receive(1, one);
    receive(2, two);
    cr_assert_eq(view().state, PR_CAMPAIGN);
}

Test(proposer, nobody_is_elected_below_what_is_known_to_be_committed)
{
    /* Whoever has forgotten it: it is in no log of this majority. */
    struct q_known of_3 = {.node = 3, .commit_lsn = LSN_FIRST + 800};
    campaign(1);
    struct q_msg two = voted(1, h1, LSN_FIRST, LSN_FIRST);
    two.known = (struct q_known_list){1, &of_3};
    receive(1, voted(1, h1, LSN_FIRST + 792, LSN_FIRST));
    receive(2, two);
    cr_assert_eq(view().state, PR_CAMPAIGN);
    receive(3, voted(1, h1, LSN_FIRST + 800, LSN_FIRST));
    cr_assert_eq(view().state, PR_RECOVER);
}

Test(proposer, a_longer_log_of_an_older_term_has_not_what_is_known_to_be_committed)
{
    /* An image with a tail that was cut since: node 3 has forgotten more than its log is long. */
    static const struct q_term h2[] = {{1, LSN_FIRST}, {2, LSN_FIRST + 8}};
    struct q_known of_3 = {.node = 3, .commit_lsn = LSN_FIRST + 16, .log_term = 2};
    campaign(2);
    struct q_msg two = voted(1, h1, LSN_FIRST, LSN_FIRST);
    two.known = (struct q_known_list){1, &of_3};
    receive(3, voted(1, h1, LSN_FIRST + 800, LSN_FIRST));
    receive(2, two);
    cr_assert_eq(view().state, PR_CAMPAIGN, "its own vote does not count");
    receive(1, voted(1, h1, LSN_FIRST + 808, LSN_FIRST));
    cr_assert_eq(view().state, PR_CAMPAIGN, "nor is another one like it the donor");
    receive(1, voted(2, h2, LSN_FIRST + 16, LSN_FIRST));
    cr_assert_eq(view().state, PR_RECOVER);
    cr_assert_eq(view().start_lsn, LSN_FIRST + 16);
}

Test(proposer, a_leader_tells_what_each_has_acknowledged)
{
    campaign(1);
    receive(1, voted(1, h1, LSN_FIRST + 800, LSN_FIRST + 800));
    receive(2, voted(1, h1, LSN_FIRST + 800, LSN_FIRST + 800));
    receive(2, ack(LSN_FIRST + 800));
    wait_us(1000000);
    const struct q_known *of_2 = known_of(sent(2, FRAME_APPEND), 2);
    cr_assert_eq(of_2->log_term, 0, "no majority has adopted this term: the next may do without");
    receive(1, ack(LSN_FIRST + 800));
    cr_assert_eq(view().state, PR_LEADER);
    lsn_t end = append();
    receive(1, ack(end));
    receive(2, ack(end));
    cr_assert_eq(view().commit_lsn, end);
    wait_us(1000000);
    of_2 = known_of(sent(1, FRAME_APPEND), 2);
    cr_assert_eq(of_2->log_term, view().term);
    cr_assert_eq(of_2->term, view().term);
    cr_assert_eq(of_2->flush_lsn, end);
    cr_assert_eq(of_2->commit_lsn, end);
    /* Over its life, also when another node asks for it. */
    kind(PR_EV_ABANDON);
    kind(PR_EV_LEAD);
    wait_us(1000);
    receive(1, pos(2, 2, end, end));
    receive(3, pos(2, 1, LSN_FIRST, LSN_FIRST));
    cr_assert_eq(known_of(sent(3, FRAME_VOTE), 2)->commit_lsn, end);
}

Test(proposer, what_a_refused_safekeeper_acknowledged_counts_no_more)
{
    lead(LSN_FIRST + 800);
    lsn_t end = append();
    receive(1, ack(end));
    receive(1, (struct q_msg){.type = FRAME_REGRESSED, .term = used_term});
    receive(2, ack(end));
    cr_assert_eq(view().commit_lsn, LSN_FIRST + 800, "one copy is no majority");
}

static void reconnect(uint32_t node)
{
    event((struct pr_event){.kind = PR_EV_DOWN, .node = node});
    up(node);
}

Test(proposer, what_was_acknowledged_on_an_earlier_connection_counts_once_it_is_said_again)
{
    /* R3: behind the new connection may be an older disk, or a log that has lost its end. */
    lead(5000);
    lsn_t end = append();
    receive(1, ack(end));
    reconnect(1);
    receive(2, ack(end));
    cr_assert_null(told(PR_DURABLE), "node 1 may not have it any more");
    receive(1, ack(end));
    cr_assert_eq(told(PR_DURABLE)->lsn, end);
}

Test(proposer, what_was_acknowledged_before_another_came_up_does_not_complete_what_that_one_says)
{
    /* Decision 51: it may have elected somebody else and forgotten it; node 1 may have heard of
     * that. Found by level B, seed 14141577. */
    lead(5000);
    lsn_t end = append();
    struct q_msg of_before = ack(end);
    receive(1, of_before);
    now += 10;
    reconnect(2);
    cr_assert(sent(1, FRAME_APPEND) && sent(1, FRAME_APPEND)->payload.len == 0, "asked at once");
    receive(2, ack(end));
    cr_assert_null(told(PR_DURABLE));
    receive(1, of_before);
    cr_assert_null(told(PR_DURABLE), "an answer to what was sent before");
    receive(1, ack(end));
    cr_assert_eq(told(PR_DURABLE)->lsn, end);
}

Test(proposer, what_one_has_in_memory_since_before_another_came_up_does_not_count_with_that_one)
{
    lead(5000);
    lsn_t end = append_wanting(true);
    struct q_msg of_before = ack(5000);
    of_before.write_lsn = end;
    receive(1, of_before);
    now += 10;
    reconnect(2);
    receive(2, of_before);
    cr_assert_null(told(PR_RECEIVED));
    struct q_msg since = ack(5000);
    since.write_lsn = end;
    receive(2, since);
    cr_assert_null(told(PR_RECEIVED));
    receive(1, since);
    cr_assert_eq(told(PR_RECEIVED)->lsn, end);
}

Test(proposer, one_that_comes_and_goes_delays_no_commit_of_the_others)
{
    lead(5000);
    receive(3, ack(5000));
    lsn_t end = append();
    struct q_msg of_before = ack(end);
    receive(1, of_before);
    now += 10;
    reconnect(3);
    receive(2, of_before);
    cr_assert_eq(told(PR_DURABLE)->lsn, end);
}

Test(proposer, a_lease_of_before_another_came_up_is_no_quorum_with_that_one)
{
    lead(5000);
    now += 10;
    reconnect(2);
    cr_assert_eq(view().lease_until_us, 0);
    receive(2, ack(5000));
    cr_assert_eq(view().lease_until_us, 0);
    receive(1, ack(5000));
    cr_assert_eq(view().lease_until_us, now + L_US - L_US / 100 - 2000);
}

Test(proposer, what_was_acknowledged_is_told_to_one_that_comes_back)
{
    /* It may have forgotten, and then this is the proof. */
    lead(5000);
    lsn_t end = append();
    receive(1, ack(end));
    reconnect(1);
    cr_assert_eq(known_of(sent(1, FRAME_ELECTED), 1)->flush_lsn, end);
    receive(1, ack(5000));
    wait_us(1000001);
    cr_assert_eq(known_of(sent(1, FRAME_APPEND), 1)->flush_lsn, end, "and is not forgotten");
}

Test(proposer, one_that_comes_back_with_less_than_it_acknowledged_is_given_what_it_lacks)
{
    /* A log in doubt (decision 24) goes on, and needs a leader that brings it back. */
    lead(5000);
    lsn_t end = append();
    receive(1, ack(end));
    receive(2, ack(end));
    reconnect(1);
    receive(1, ack(5000));
    const struct q_msg *m = sent(1, FRAME_APPEND);
    cr_assert(m && m->begin_lsn == 5000 && m->payload.len == end - 5000);
    cr_assert_eq(view().member[0].match_lsn, 5000);
    cr_assert_eq(view().commit_lsn, end, "what is committed stays that");
}

Test(proposer, a_strict_position_reaches_what_one_of_the_majority_knows_to_be_committed)
{
    for (uint32_t k = 1; k <= 3; k++) {
        up(k);
    }
    event((struct pr_event){.kind = PR_EV_POSITION, .req = 1});
    struct q_msg one = pos(2, 1, LSN_FIRST + 800, LSN_FIRST + 800), two = one;
    one.read_id = two.read_id = sent(1, FRAME_READ_POS)->read_id;
    two.known_commit = LSN_FIRST + 1600;
    receive(1, one);
    receive(2, two);
    cr_assert_null(told(PR_POSITION), "800 would miss a commit");
    struct q_msg three_ = pos(2, 1, LSN_FIRST + 1600, LSN_FIRST + 1600);
    three_.read_id = one.read_id;
    receive(3, three_);
    cr_assert_not_null(told(PR_POSITION));
    cr_assert_eq(told(PR_POSITION)->lsn, LSN_FIRST + 1600);
}

Test(proposer, answers_that_lie_a_lease_apart_do_not_count_together)
{
    /* Node 2 answered before it heard of a commit, and node 1 after its disk had gone back behind
     * it: together they would not know of it, though each of them was honest. */
    for (uint32_t k = 1; k <= 3; k++) {
        up(k);
    }
    ask(9);
    receive(2, answer_pos(1, LSN_FIRST + 800, LSN_FIRST + 800));
    uint64_t first = now;
    do {
        wait_us(100000);
    } while (now - first <= L_US || !sent(1, FRAME_READ_POS));
    struct q_msg one = answer_pos(1, LSN_FIRST + 800, LSN_FIRST + 800), two = one;
    receive(1, one);
    cr_assert_null(told(PR_POSITION));
    two.known_commit = LSN_FIRST + 1600;
    receive(2, two);
    cr_assert_null(told(PR_POSITION), "800 would miss a commit");
    struct q_msg three_ = pos(1, 1, LSN_FIRST + 1600, LSN_FIRST + 1600);
    three_.read_id = one.read_id;
    receive(3, three_);
    cr_assert_not_null(told(PR_POSITION));
    cr_assert_eq(told(PR_POSITION)->lsn, LSN_FIRST + 1600);
}

/* The campaign is over; the next one sends VOTE. */
static void campaign_again(void)
{
    while (!told(PR_REFUSED)) {
        wait_us(10000);
    }
    for (uint32_t k = 1; !sent(1, FRAME_VOTE); k = 3 - k) {
        wait_us(10000);
        if (!sent(1, FRAME_VOTE)) {
            receive(k, pos(1, 0, LSN_FIRST, LSN_FIRST));
        }
    }
}

Test(proposer, votes_that_lie_a_lease_apart_do_not_count_together)
{
    /* As with positions: node 2 voted before it heard of a commit, node 1 with a disk that had gone
     * back behind it. A campaign takes as long as that only after some that nobody heard. */
    campaign(1);
    for (int unheard = 0; unheard < 3; unheard++) {
        campaign_again();
    }
    receive(2, voted(1, h1, LSN_FIRST, LSN_FIRST));
    for (uint64_t us = 0; us <= L_US; us += 10000) {
        wait_us(10000);
        cr_assert(!told(PR_REFUSED), "it is still waited for");
    }
    receive(1, voted(1, h1, LSN_FIRST, LSN_FIRST));
    cr_assert_eq(view().state, PR_CAMPAIGN);
    campaign_again();
    receive(1, voted(1, h1, LSN_FIRST, LSN_FIRST));
    receive(2, voted(1, h1, LSN_FIRST, LSN_FIRST));
    cr_assert_eq(view().state, PR_RECOVER, "asked again, both count");
}

Test(proposer, what_a_new_member_has_is_never_cut_only_from_its_configuration_on)
{
    /* Below that the others may have collapsed their histories before it came: then the next leader
     * finds nothing in common with it, and cuts it back to what it knows itself to be committed. */
    lead(5000);
    receive(3, ack(5000));
    change(members(1, 3, 4));
    up(4);
    lsn_t joint = view().tip_lsn;
    for (uint32_t k = 1; k <= 3; k++) {
        receive(k, ack(joint));
    }
    cr_assert_eq(view().commit_lsn, joint);
    change(members(1, 3, 4));
    receive(4, ack(4800));
    wait_us(1000000);
    cr_assert_eq(known_of(sent(1, FRAME_APPEND), 4)->flush_lsn, 4800);
    cr_assert_eq(known_of(sent(1, FRAME_APPEND), 4)->commit_lsn, 0, "it may come to nothing");
    lsn_t end = view().tip_lsn;
    receive(1, ack(end));
    receive(3, ack(end));
    cr_assert_not_null(told(PR_CONFIG));
    wait_us(1000000);
    cr_assert_eq(known_of(sent(1, FRAME_APPEND), 4)->commit_lsn, 0, "a member that lags");
    cr_assert_eq(known_of(sent(1, FRAME_APPEND), 3)->commit_lsn, end);
    receive(4, ack(end));
    wait_us(1000000);
    cr_assert_eq(known_of(sent(1, FRAME_APPEND), 4)->commit_lsn, end);
}

Test(proposer, beside_the_vote_of_a_fresh_start_those_who_are_connected_are_heard_for_a_moment)
{
    /* Nodes 1 and 2 are a majority, but node 1 may be an older image of which only node 3 knows. */
    campaign(1);
    struct q_msg one = voted(1, h1, LSN_FIRST, LSN_FIRST);
    one.fresh = true;
    receive(1, one);
    receive(2, voted(1, h1, LSN_FIRST, LSN_FIRST));
    cr_assert_eq(view().state, PR_CAMPAIGN);
    wait_us(20000);
    cr_assert_eq(view().state, PR_CAMPAIGN);
    struct q_msg three_ = voted(1, h1, LSN_FIRST, LSN_FIRST);
    three_.granted = false;
    three_.lease_held = true;
    receive(3, three_);
    cr_assert_eq(view().state, PR_RECOVER, "it answered, whatever");
}

Test(proposer, nobody_is_waited_for_who_is_not_connected_or_for_longer_than_that)
{
    campaign(1);
    struct q_msg one = voted(1, h1, LSN_FIRST, LSN_FIRST), two = one;
    one.fresh = true;
    receive(1, one);
    receive(2, two);
    cr_assert_eq(view().state, PR_CAMPAIGN);
    wait_us(130000); /* a quarter of half of resend_us */
    cr_assert_eq(view().state, PR_RECOVER);

    make(options());
    up(1);
    up(2);
    kind(PR_EV_LEAD);
    receive(1, pos(1, 0, LSN_FIRST, LSN_FIRST));
    receive(2, pos(1, 0, LSN_FIRST, LSN_FIRST));
    one.nonce = two.nonce = used;
    one.term = two.term = used_term;
    receive(1, one);
    receive(2, two);
    cr_assert_eq(view().state, PR_RECOVER);
}
