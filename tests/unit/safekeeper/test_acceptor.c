/* test_acceptor.c - the safekeeper's rules one by one: S1 to S5, S7, S9, S21, M16. What happens
 * when they meet is the simulator's business. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "proto/qhist.h"
#include "safekeeper/acceptor.h"

#define L_US 3000000u

static struct sk_acceptor *sk;
static struct sk_actions acts;
static struct q_term told_history[8];
static struct wal_builder *builder;
static uint64_t now = 1000000;

static const struct co_id cluster = {{1}}, timeline = {{2}};

static struct co_id nonce(uint8_t who, uint32_t campaign)
{
    struct co_id id = {{0}};
    id.b[0] = who;
    co_put32(id.b + 12, campaign);
    return id;
}

static struct wal_config three(uint32_t version)
{
    struct wal_config c = {.version = version, .n = 3};
    for (uint32_t i = 0; i < 3; i++) {
        c.members[i].node_id = i + 1;
    }
    return c;
}

static struct sk_boot birth(void)
{
    return (struct sk_boot){
        .cluster = cluster,
        .timeline = timeline,
        .durable = {.no_lease = true, .commit_lsn = LSN_FIRST, .floor_lsn = LSN_FIRST},
        .start_lsn = LSN_FIRST,
        .flush_lsn = LSN_FIRST,
        .config = three(1),
        .now_us = now,
        .lease_us = L_US};
}

static void boot(const struct sk_boot *b)
{
    sk_acceptor_free(sk);
    cr_assert_eq(sk_acceptor_new(b, &sk), 0);
}

static void setup(void)
{
    struct sk_boot b = birth();
    boot(&b);
    cr_assert_eq(wal_builder_new(&builder), 0);
}

static void teardown(void)
{
    sk_acceptor_free(sk);
    sk_actions_free(&acts);
    wal_builder_free(builder);
}

TestSuite(acceptor, .init = setup, .fini = teardown, .timeout = 20);

/* ---- helpers ---- */

static void event(struct sk_event e)
{
    e.now_us = now;
    cr_assert_eq(sk_step(sk, &e, &acts), 0);
}

static void send(sk_conn_t conn, struct q_msg m)
{
    m.timeline = timeline;
    event((struct sk_event){.kind = SK_EV_MSG, .conn = conn, .msg = &m});
}

/* Position of the n-th action of a kind in the list, -1: there is none. */
static int find(enum sk_action_kind kind, int nth)
{
    for (uint32_t i = 0; i < acts.n; i++) {
        if (acts.a[i].kind == kind && nth-- == 0) {
            return (int)i;
        }
    }
    return -1;
}

static const struct q_msg *sent_to(sk_conn_t conn, enum frame_type type)
{
    for (uint32_t i = 0; i < acts.n; i++) {
        if (acts.a[i].kind == SK_SEND && acts.a[i].conn == conn && acts.a[i].msg.type == type) {
            return &acts.a[i].msg;
        }
    }
    return NULL;
}

static int sent_at(enum frame_type type)
{
    for (uint32_t i = 0; i < acts.n; i++) {
        if (acts.a[i].kind == SK_SEND && acts.a[i].msg.type == type) {
            return (int)i;
        }
    }
    return -1;
}

static const struct q_msg *vote(sk_conn_t conn, term_t term, struct co_id id)
{
    send(conn, (struct q_msg){.type = FRAME_VOTE, .term = term, .nonce = id});
    return sent_to(conn, FRAME_VOTED);
}

static void elected(sk_conn_t conn, struct co_id id, uint32_t n, const struct q_term *h,
                    lsn_t start)
{
    memcpy(told_history, h, n * sizeof *h);
    send(conn, (struct q_msg){.type = FRAME_ELECTED,
                              .term = h[n - 1].term,
                              .nonce = id,
                              .history = {n, told_history},
                              .start_lsn = start,
                              .sent_us = now});
}

static struct wal_digest tip;

static struct co_buf record(term_t term, lsn_t begin, uint8_t fill)
{
    static const uint8_t empty[512];
    uint8_t page[512] = {fill, fill, fill};
    struct wal_stamp stamp = {.cluster = cluster,
                              .timeline = timeline,
                              .term = term,
                              .begin_lsn = begin,
                              .sealed_lsn = LSN_FIRST,
                              .prev_digest = tip,
                              .db_pages = 1};
    struct co_buf out = {0};
    wal_builder_reset(builder, 512);
    cr_assert_eq(wal_builder_page(builder, 1, page, empty, LSN_FIRST), 0);
    wal_builder_seal(builder, &stamp, &out, &tip);
    return out;
}

static struct q_msg append(term_t term, struct co_id id, lsn_t begin, struct co_span bytes)
{
    return (struct q_msg){.type = FRAME_APPEND,
                          .term = term,
                          .nonce = id,
                          .begin_lsn = begin,
                          .sent_us = now,
                          .payload = bytes};
}

static struct sk_view view(void)
{
    struct sk_view v;
    sk_view(sk, now, &v);
    return v;
}

/* Leader `who` of term 1 on connection 10, adopted on the empty log. */
static struct co_id lead_term_1(uint8_t who)
{
    struct co_id id = nonce(who, 1);
    struct q_term h[] = {{1, LSN_FIRST}};
    cr_assert(vote(10, 1, id)->granted);
    elected(10, id, 1, h, LSN_FIRST);
    cr_assert_not_null(sent_to(10, FRAME_ACK));
    return id;
}

/* Appends and flushes one record of `term`; returns its end. */
static lsn_t grow(term_t term, struct co_id id, lsn_t begin, uint8_t fill)
{
    struct co_buf r = record(term, begin, fill);
    lsn_t end = begin + r.len;
    send(10, append(term, id, begin, co_buf_span(&r)));
    cr_assert_geq(find(SK_APPEND, 0), 0);
    event((struct sk_event){.kind = SK_EV_FLUSHED, .lsn = end});
    co_buf_free(&r);
    return end;
}

/* ---- S1 ---- */

Test(acceptor, a_vote_is_durable_before_it_is_answered)
{
    /* S1, I7: PERSIST stands before VOTED in the list. */
    const struct q_msg *v = vote(1, 5, nonce(1, 1));
    cr_assert(v->granted);
    cr_assert_lt(find(SK_PERSIST, 0), sent_at(FRAME_VOTED));
    cr_assert_geq(find(SK_PERSIST, 0), 0);
    cr_assert_eq(acts.a[find(SK_PERSIST, 0)].durable->term, 5);
}

Test(acceptor, a_term_is_voted_once)
{
    /* S1: another candidate of the same term is refused, a repeated VOTE is granted again. */
    vote(1, 5, nonce(1, 1));
    now += SK_VOTE_HOLD_US + 1;
    cr_assert_not(vote(2, 5, nonce(2, 1))->granted);
    cr_assert(vote(1, 5, nonce(1, 1))->granted);
    cr_assert_eq(find(SK_PERSIST, 0), -1, "nothing new to write");
    cr_assert_not(vote(2, 4, nonce(2, 2))->granted, "a lower term");
}

Test(acceptor, a_vote_tells_the_state_after_the_flush)
{
    /* S1: what is unflushed is flushed before the vote, and counted in it. */
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1);
    send(10, append(1, a, LSN_FIRST, co_buf_span(&r)));
    cr_assert_eq(view().flush_lsn, LSN_FIRST);
    const struct q_msg *v = vote(10, 2, nonce(1, 2));
    cr_assert(v->granted);
    cr_assert_geq(find(SK_FLUSH, 0), 0);
    cr_assert_lt(find(SK_FLUSH, 0), sent_at(FRAME_VOTED));
    cr_assert_eq(v->flush_lsn, LSN_FIRST + r.len);
    cr_assert_eq(memcmp(v->digest.b, tip.b, 16), 0);
    co_buf_free(&r);
}

Test(acceptor, a_running_lease_refuses_other_computes_only)
{
    /* S1, S5: a VOTE of another compute waits for the lease; the holder's next campaign does not.
     */
    lead_term_1(1);
    now += L_US / 2;
    const struct q_msg *v = vote(2, 2, nonce(2, 1));
    cr_assert(!v->granted && v->lease_held);
    cr_assert(vote(10, 2, nonce(1, 2))->granted);
    now += L_US + 1;
    cr_assert(vote(2, 3, nonce(2, 1))->granted);
}

Test(acceptor, candidates_that_vote_on_and_on_do_not_hold_each_other_up)
{
    /* S5: the hold of a vote runs once; three candidates with one vote each came to a standstill.
     */
    cr_assert(vote(1, 1, nonce(1, 1))->granted);
    uint64_t end = now + SK_VOTE_HOLD_US;
    for (uint32_t i = 2; i < 6; i++) {
        now += SK_VOTE_HOLD_US / 5;
        cr_assert(vote(1, i, nonce(1, i))->granted);
    }
    now = end + 1;
    cr_assert(vote(2, 9, nonce(2, 1))->granted);
}

/* ---- S5, S7, S9 ---- */

Test(acceptor, a_lease_of_before_the_restart_is_honoured)
{
    /* S5: quiet_until. */
    struct sk_boot b = birth();
    b.durable.no_lease = false;
    b.durable.term = 3;
    b.durable.voted_nonce = nonce(1, 7);
    boot(&b);
    const struct q_msg *v = vote(2, 4, nonce(2, 1));
    cr_assert(!v->granted && v->lease_held);
    cr_assert(vote(1, 4, nonce(1, 8))->granted, "but its holder may go on");
    boot(&b);
    now += L_US;
    cr_assert(vote(2, 4, nonce(2, 1))->granted);
}

/* As after kill -9 while nonce(1, 1) led term 1. */
static void restart_under(struct co_id a, struct q_term *h)
{
    struct sk_boot b = birth();
    *h = (struct q_term){1, LSN_FIRST};
    b.durable.no_lease = false;
    b.durable.term = 1;
    b.durable.voted_nonce = a;
    b.durable.history = h;
    b.durable.n_history = 1;
    boot(&b);
}

Test(acceptor, after_a_restart_the_lease_ends_with_its_holder)
{
    /* S5: the lease that may be out can only be that of whom we voted for or followed. Once it is
     * here again, its lease is known, and ends as any other: released, or with its process. Else
     * two restarts within one lease would leave nobody who may vote for the next holder. */
    struct q_term h;
    struct co_id a = nonce(1, 1);
    restart_under(a, &h);
    send(10, append(1, a, LSN_FIRST, (struct co_span){0}));
    cr_assert_not(vote(2, 2, nonce(2, 1))->granted);
    send(10, (struct q_msg){.type = FRAME_RELEASE, .term = 1, .nonce = a});
    cr_assert(vote(2, 2, nonce(2, 1))->granted, "released after an APPEND");

    restart_under(a, &h);
    send(10, (struct q_msg){.type = FRAME_RELEASE, .term = 1, .nonce = a});
    cr_assert(vote(2, 2, nonce(2, 1))->granted, "released at once");

    restart_under(a, &h);
    send(10, append(1, a, LSN_FIRST, (struct co_span){0}));
    event((struct sk_event){.kind = SK_EV_CLOSED, .conn = 10, .local = true});
    cr_assert(vote(2, 2, nonce(2, 1))->granted, "its process has ended");

    restart_under(a, &h);
    send(10, append(1, a, LSN_FIRST, (struct co_span){0}));
    event((struct sk_event){.kind = SK_EV_CLOSED, .conn = 10, .local = false});
    cr_assert_not(vote(2, 2, nonce(2, 1))->granted, "its host may have a bad network");

    restart_under(a, &h);
    send(10, (struct q_msg){.type = FRAME_RELEASE, .term = 1, .nonce = nonce(1, 2)});
    cr_assert_not(vote(2, 2, nonce(2, 1))->granted, "that was not the leader's");
}

Test(acceptor, the_mark_of_no_lease_goes_before_a_lease_is_given)
{
    /* S7: a lease must never be out while the disk says that none is. */
    struct co_id a = lead_term_1(1);
    struct q_term h = {1, LSN_FIRST};
    struct sk_boot b = birth();
    b.durable.term = 1;
    b.durable.voted_nonce = a;
    b.durable.history = &h;
    b.durable.n_history = 1;
    boot(&b);
    send(10, append(1, a, LSN_FIRST, (struct co_span){0}));
    cr_assert_lt(find(SK_PERSIST, 0), sent_at(FRAME_ACK));
    cr_assert_geq(find(SK_PERSIST, 0), 0);
    cr_assert_not(acts.a[find(SK_PERSIST, 0)].durable->no_lease);
    event((struct sk_event){.kind = SK_EV_SHUTDOWN});
    cr_assert_not(acts.a[find(SK_PERSIST, 0)].durable->no_lease, "a lease is out");
    now += L_US + 1;
    event((struct sk_event){.kind = SK_EV_SHUTDOWN});
    cr_assert(acts.a[find(SK_PERSIST, 0)].durable->no_lease);
}

Test(acceptor, the_holder_hears_of_a_waiter_and_the_waiter_of_the_release)
{
    /* S9: WAITER at once to the holder's connection, FREE to whoever was refused. */
    struct co_id a = lead_term_1(1);
    vote(2, 2, nonce(2, 1));
    cr_assert_not_null(sent_to(10, FRAME_WAITER));
    cr_assert_geq(find(SK_TIMER, 0), 0, "and if nothing is released, when the lease ends");
    send(10, (struct q_msg){.type = FRAME_RELEASE, .term = 1, .nonce = a});
    cr_assert_not_null(sent_to(2, FRAME_FREE));
    cr_assert_not(view().lease_held);
    /* an APPEND that was overtaken by the RELEASE does not bring the lease back */
    send(10, append(1, a, LSN_FIRST, (struct co_span){0}));
    cr_assert_not(view().lease_held);
    cr_assert(vote(2, 2, nonce(2, 1))->granted);
}

Test(acceptor, who_waits_hears_that_a_transaction_is_open)
{
    /* M9: the holder's word goes to each that waits, and to nobody when the lease is not its. */
    struct co_id a = lead_term_1(1);
    struct q_msg writing = append(1, a, LSN_FIRST, (struct co_span){0}), plain = writing;
    writing.writing = true;
    vote(2, 2, nonce(2, 1));
    vote(3, 2, nonce(3, 9));
    send(10, plain);
    cr_assert_null(sent_to(2, FRAME_VOTED));
    send(10, writing);
    const struct q_msg *m = sent_to(2, FRAME_VOTED);
    cr_assert(m && m->writing && m->lease_held && !m->granted);
    m = sent_to(3, FRAME_VOTED);
    cr_assert(m && m->writing && co_id_eq(&m->nonce, &(struct co_id){{3, [12] = 9}}));
    cr_assert_not_null(sent_to(10, FRAME_ACK), "it renews the lease as any heartbeat");
    /* the end of the wait, of the lease, of the term */
    event((struct sk_event){.kind = SK_EV_CLOSED, .conn = 3});
    send(10, writing);
    cr_assert_null(sent_to(3, FRAME_VOTED));
    cr_assert_not_null(sent_to(2, FRAME_VOTED));
    vote(4, 2, nonce(4, 1));
    send(10, (struct q_msg){.type = FRAME_RELEASE, .term = 1, .nonce = a});
    cr_assert_not_null(sent_to(2, FRAME_FREE));
    send(10, writing);
    cr_assert_null(sent_to(4, FRAME_VOTED), "late, from one that has given the lease back");
    cr_assert(vote(2, 2, nonce(2, 1))->granted);
    send(10, writing);
    cr_assert_null(sent_to(4, FRAME_VOTED), "an older term");
}

Test(acceptor, the_end_of_an_old_connection_leaves_the_lease_of_the_new_one)
{
    /* S5: a VOTE that was repeated on the way came over the old connection, after the leader had
     * renewed its lease over the new one; then the old one ended. Found by the simulator. */
    struct co_id a = lead_term_1(1);
    send(12, append(1, a, LSN_FIRST, (struct co_span){0}));
    cr_assert(vote(10, 1, a)->granted);
    send(10, append(1, a, LSN_FIRST, (struct co_span){0}));
    event((struct sk_event){.kind = SK_EV_CLOSED, .conn = 10, .local = true});
    cr_assert(view().lease_held);
    event((struct sk_event){.kind = SK_EV_CLOSED, .conn = 12, .local = true});
    cr_assert_not(view().lease_held);
}

Test(acceptor, who_holds_the_lease_does_not_wait_for_it)
{
    /* S9: refused here because of a lease of before the restart, and elected by the others: it
     * would ask itself to let go. */
    struct sk_boot b = birth();
    struct q_term h[] = {{4, LSN_FIRST}};
    struct co_id id = nonce(1, 1);
    b.durable.no_lease = false;
    b.durable.term = 3;
    b.durable.voted_nonce = nonce(2, 7);
    boot(&b);
    cr_assert_not(vote(10, 4, id)->granted);
    cr_assert_eq(view().waiters, 1);
    elected(10, id, 1, h, LSN_FIRST);
    cr_assert_eq(sent_to(10, FRAME_ACK)->waiters, 0);
}

Test(acceptor, a_release_of_another_candidate_of_the_term_does_not_count)
{
    /* S5: it lost, gave its vote back, and the term's leader got no lease while it thought it had
     * one; found by the simulator. */
    struct co_id loser = nonce(2, 1), leader = nonce(1, 1);
    struct q_term h[] = {{3, LSN_FIRST}};
    cr_assert(vote(2, 3, loser)->granted);
    send(2, (struct q_msg){.type = FRAME_RELEASE, .term = 3, .nonce = loser});
    elected(10, leader, 1, h, LSN_FIRST);
    cr_assert_neq(sent_to(10, FRAME_ACK)->sent_us, 0);
    cr_assert(view().lease_held);
    send(10, (struct q_msg){.type = FRAME_RELEASE, .term = 3, .nonce = leader});
    send(10, append(3, leader, LSN_FIRST, (struct co_span){0}));
    cr_assert_eq(sent_to(10, FRAME_ACK)->sent_us, 0, "an ACK without a lease says so");
}

Test(acceptor, waiters_are_told_when_the_lease_runs_out)
{
    /* S9 */
    lead_term_1(1);
    vote(2, 2, nonce(2, 1));
    now = acts.a[find(SK_TIMER, 0)].at_us;
    event((struct sk_event){.kind = SK_EV_TIMER});
    cr_assert_not_null(sent_to(2, FRAME_FREE));
}

static const struct q_msg *vote_after(sk_conn_t conn, term_t term, struct co_id id,
                                      uint64_t waited_us)
{
    send(conn,
         (struct q_msg){.type = FRAME_VOTE, .term = term, .nonce = id, .waited_us = waited_us});
    return sent_to(conn, FRAME_VOTED);
}

Test(acceptor, who_has_waited_longest_has_his_turn)
{
    /* S9: else whoever is nearest wins every time. Arrival does not decide, the time waited does.
     */
    struct co_id a = lead_term_1(1);
    now += 100000;
    vote_after(2, 2, nonce(2, 1), 1000);
    vote_after(3, 2, nonce(3, 1), 90000);
    send(10, (struct q_msg){.type = FRAME_RELEASE, .term = 1, .nonce = a});
    cr_assert_not_null(sent_to(3, FRAME_FREE));
    cr_assert_null(sent_to(2, FRAME_FREE), "one at a time");
    const struct q_msg *v = vote(10, 2, nonce(1, 2));
    cr_assert(!v->granted && v->lease_held, "who had it waits like the others");
    v = vote(2, 2, nonce(2, 1));
    cr_assert(!v->granted && v->lease_held);
    cr_assert(vote(3, 2, nonce(3, 1))->granted);
    /* those who wait are still on the list: the new holder hears of them */
    elected(3, nonce(3, 1), 1, (struct q_term[]){{2, LSN_FIRST}}, LSN_FIRST);
    cr_assert_eq(sent_to(3, FRAME_ACK)->waiters, 2);
}

Test(acceptor, a_turn_that_is_not_used_goes_to_the_next)
{
    /* S9 */
    struct co_id a = lead_term_1(1);
    now += 100000;
    vote_after(2, 2, nonce(2, 1), 2000);
    vote_after(3, 2, nonce(3, 1), 1000);
    send(10, (struct q_msg){.type = FRAME_RELEASE, .term = 1, .nonce = a});
    cr_assert_not_null(sent_to(2, FRAME_FREE));
    cr_assert_eq(acts.a[find(SK_TIMER, 0)].at_us, now + SK_TURN_US);
    now += SK_TURN_US;
    event((struct sk_event){.kind = SK_EV_TIMER});
    cr_assert_not_null(sent_to(3, FRAME_FREE));
    event((struct sk_event){.kind = SK_EV_CLOSED, .conn = 3, .local = false});
    cr_assert(vote(2, 2, nonce(2, 1))->granted, "nobody waits any more: the first who comes");
}

Test(acceptor, a_turn_is_no_lease)
{
    /* S7: after a clean stop nobody has to wait for somebody's turn. */
    struct co_id a = lead_term_1(1);
    vote(2, 2, nonce(2, 1));
    send(10, (struct q_msg){.type = FRAME_RELEASE, .term = 1, .nonce = a});
    event((struct sk_event){.kind = SK_EV_SHUTDOWN});
    cr_assert(acts.a[find(SK_PERSIST, 0)].durable->no_lease);
}

Test(acceptor, a_local_connection_takes_its_lease_with_it)
{
    /* 3.6: the end of a process on this host ends its lease; a remote one may only be cut off. */
    struct co_id a = lead_term_1(1);
    vote(2, 2, nonce(2, 1));
    event((struct sk_event){.kind = SK_EV_CLOSED, .conn = 10, .local = false});
    cr_assert(view().lease_held);
    send(11, append(1, a, LSN_FIRST, (struct co_span){0})); /* it came back on another one */
    event((struct sk_event){.kind = SK_EV_CLOSED, .conn = 10, .local = true});
    cr_assert(view().lease_held, "the lease went with the new connection");
    event((struct sk_event){.kind = SK_EV_CLOSED, .conn = 11, .local = true});
    cr_assert_not(view().lease_held);
    cr_assert_not_null(sent_to(2, FRAME_FREE));
}

/* ---- S2 ---- */

Test(acceptor, adoption_cuts_the_tail_then_writes_the_history_then_answers)
{
    /* S2, I7: TRUNCATE, PERSIST, ACK in this order; TRUNCATED follows. */
    struct co_id a = lead_term_1(1);
    lsn_t end = grow(1, a, LSN_FIRST, 1);
    grow(1, a, end, 2);
    now += L_US + 1;
    struct co_id b = nonce(2, 1);
    struct q_term h[] = {{1, LSN_FIRST}, {2, end}};
    vote(2, 2, b);
    elected(2, b, 2, h, end);
    int cut = find(SK_TRUNCATE, 0), persist = find(SK_PERSIST, 0), ack = sent_at(FRAME_ACK);
    cr_assert(0 <= cut && cut < persist && persist < ack);
    cr_assert_eq(acts.a[cut].lsn, end);
    cr_assert(acts.a[persist].history_changed);
    cr_assert_eq(acts.a[persist].durable->n_history, 2);
    cr_assert_eq(acts.a[ack].msg.flush_lsn, end);
    event((struct sk_event){.kind = SK_EV_TRUNCATED, .lsn = end, .config = three(1)});
    cr_assert_eq(view().last_log_term, 2, "a start at the end of the log counts");
}

Test(acceptor, a_late_elected_truncates_nothing)
{
    /* S2: "if my history already ends in this term, do nothing". */
    struct co_id a = lead_term_1(1);
    lsn_t end = grow(1, a, LSN_FIRST, 1);
    struct q_term h[] = {{1, LSN_FIRST}};
    elected(10, a, 1, h, LSN_FIRST);
    cr_assert_eq(find(SK_TRUNCATE, 0), -1);
    cr_assert_eq(sent_to(10, FRAME_ACK)->flush_lsn, end);
}

Test(acceptor, an_elected_that_takes_the_log_for_another_is_corrected)
{
    /* S2: a wrong start is answered with VOTED, and the new term is durable by then. */
    struct co_id a = lead_term_1(1), b = nonce(2, 1);
    lsn_t end = grow(1, a, LSN_FIRST, 1);
    struct q_term h[] = {{1, LSN_FIRST}, {2, end}};
    elected(2, b, 2, h, 0);
    cr_assert_eq(sent_to(2, FRAME_ACK), NULL);
    const struct q_msg *v = sent_to(2, FRAME_VOTED);
    cr_assert(v && v->granted && v->flush_lsn == end && v->term == 2);
    cr_assert_geq(find(SK_PERSIST, 0), 0);
    cr_assert_lt(find(SK_PERSIST, 0), sent_at(FRAME_VOTED));
}

Test(acceptor, truncation_below_the_commit_halts)
{
    /* S2, I5: never truncate below what is known to be committed. */
    struct co_id a = lead_term_1(1), b = nonce(2, 1);
    lsn_t end = grow(1, a, LSN_FIRST, 1);
    struct q_msg m = append(1, a, end, (struct co_span){0});
    m.commit_lsn = end;
    send(10, m);
    cr_assert_eq(view().commit_lsn, end);
    struct q_term h[] = {{2, LSN_FIRST}};
    elected(2, b, 1, h, LSN_FIRST);
    cr_assert_geq(find(SK_HALT, 0), 0);
    cr_assert_eq(find(SK_TRUNCATE, 0), -1);
    cr_assert(view().halted);
    cr_assert_eq(vote(3, 9, nonce(3, 1)), NULL, "a halted timeline answers nothing");
}

Test(acceptor, lower_terms_are_rejected)
{
    /* 3.3: any message of a lower term gets REJECT with the term that is in force. */
    struct co_id a = lead_term_1(1);
    now += L_US + 1;
    vote(2, 7, nonce(2, 1));
    send(10, append(1, a, LSN_FIRST, (struct co_span){0}));
    cr_assert_eq(sent_to(10, FRAME_REJECT)->term, 7);
    struct q_term h[] = {{1, LSN_FIRST}};
    elected(10, a, 1, h, LSN_FIRST);
    cr_assert_eq(sent_to(10, FRAME_REJECT)->term, 7);
    send(10, (struct q_msg){.type = FRAME_FETCH, .term = 1, .from_lsn = LSN_FIRST, .to_lsn = 8192});
    cr_assert_eq(sent_to(10, FRAME_REJECT)->term, 7);
}

/* ---- S3, S4 ---- */

Test(acceptor, an_append_is_acknowledged_when_it_is_flushed)
{
    /* S3, I6: no ACK covers what is not flushed; the ACK after the flush echoes the sender's clock.
     */
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1);
    lsn_t end = LSN_FIRST + r.len;
    send(10, append(1, a, LSN_FIRST, co_buf_span(&r)));
    cr_assert_eq(sent_to(10, FRAME_ACK), NULL);
    event((struct sk_event){.kind = SK_EV_FLUSHED, .lsn = end});
    cr_assert_eq(sent_to(10, FRAME_ACK)->flush_lsn, end);
    cr_assert_eq(sent_to(10, FRAME_ACK)->sent_us, now);
    co_buf_free(&r);
}

Test(acceptor, want_received_is_answered_at_once_without_claiming_a_flush)
{
    /* synchronous=NORMAL: write_lsn tells of memory, flush_lsn stays. */
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1);
    struct q_msg m = append(1, a, LSN_FIRST, co_buf_span(&r));
    m.want_received = true;
    send(10, m);
    cr_assert_eq(sent_to(10, FRAME_ACK)->write_lsn, LSN_FIRST + r.len);
    cr_assert_eq(sent_to(10, FRAME_ACK)->flush_lsn, LSN_FIRST);
    co_buf_free(&r);
}

Test(acceptor, position_covers_what_a_commit_without_a_sync_counts_on)
{
    /* S6: else a reader after the COMMIT would not see it while the disk is slow. */
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1);
    struct q_msg m = append(1, a, LSN_FIRST, co_buf_span(&r));
    send(10, m);
    send(5, (struct q_msg){.type = FRAME_READ_POS, .read_id = 1});
    cr_assert_eq(find(SK_FLUSH, 0), -1, "nobody was told of it");
    cr_assert_eq(sent_to(5, FRAME_POS)->flush_lsn, LSN_FIRST);
    m.want_received = true;
    m.payload = co_span_of(NULL, 0);
    m.begin_lsn = LSN_FIRST + r.len;
    send(10, m);
    cr_assert_eq(sent_to(10, FRAME_ACK)->write_lsn, LSN_FIRST + r.len);
    send(5, (struct q_msg){.type = FRAME_READ_POS, .read_id = 2});
    cr_assert_neq(find(SK_FLUSH, 0), -1);
    cr_assert_eq(sent_to(5, FRAME_POS)->flush_lsn, LSN_FIRST + r.len);
    send(5, (struct q_msg){.type = FRAME_READ_POS, .read_id = 3});
    cr_assert_eq(find(SK_FLUSH, 0), -1, "once");
    co_buf_free(&r);
}

Test(acceptor, what_is_told_with_the_history_is_all_that_is_here)
{
    /* Of a sealed log it is the last word: nothing may come on top of it (proto/sealed_end.h). */
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1);
    send(10, append(1, a, LSN_FIRST, co_buf_span(&r)));
    send(5, (struct q_msg){.type = FRAME_READ_POS, .read_id = 1, .want_history = true});
    cr_assert_neq(find(SK_FLUSH, 0), -1);
    cr_assert_eq(sent_to(5, FRAME_POS)->flush_lsn, LSN_FIRST + r.len);
    co_buf_free(&r);
}

Test(acceptor, what_is_committed_is_durable_before_it_is_told_with_the_history)
{
    /* Nobody tells a sealed log a second time (level B, seed 11500026). */
    struct co_id a = lead_term_1(1);
    lsn_t end = grow(1, a, LSN_FIRST, 1);
    send(10, (struct q_msg){
                 .type = FRAME_APPEND, .term = 1, .nonce = a, .begin_lsn = end, .commit_lsn = end});
    cr_assert_eq(find(SK_PERSIST, 0), -1);
    send(5, (struct q_msg){.type = FRAME_READ_POS, .read_id = 1});
    cr_assert_eq(find(SK_PERSIST, 0), -1, "a reader's question costs nothing");
    send(5, (struct q_msg){.type = FRAME_READ_POS, .read_id = 2, .want_history = true});
    int kept = find(SK_PERSIST, 0);
    cr_assert(kept != -1 && kept < find(SK_SEND, 0));
    cr_assert_eq(acts.a[kept].durable->commit_lsn, end);
    cr_assert_eq(sent_to(5, FRAME_POS)->commit_lsn, end);
    send(5, (struct q_msg){.type = FRAME_READ_POS, .read_id = 3, .want_history = true});
    cr_assert_eq(find(SK_PERSIST, 0), -1, "once");
}

Test(acceptor, a_gap_is_not_written)
{
    /* S3: begin above write_lsn: ACK with what there is, so that the sender goes back. */
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1), s = record(1, LSN_FIRST + r.len, 2);
    send(10, append(1, a, LSN_FIRST + r.len, co_buf_span(&s)));
    cr_assert_eq(find(SK_APPEND, 0), -1);
    cr_assert_eq(sent_to(10, FRAME_ACK)->write_lsn, LSN_FIRST);
    co_buf_free(&r);
    co_buf_free(&s);
}

Test(acceptor, what_is_there_already_is_skipped)
{
    /* S3: an overlap after a rewind appends only the rest. */
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1);
    size_t first = r.len;
    struct co_buf s = record(1, LSN_FIRST + first, 2);
    send(10, append(1, a, LSN_FIRST, co_buf_span(&r)));
    cr_assert_eq(co_buf_append(&r, s.data, s.len), 0);
    send(10, append(1, a, LSN_FIRST, co_buf_span(&r)));
    cr_assert_eq(acts.a[find(SK_APPEND, 0)].lsn, LSN_FIRST + first);
    cr_assert_eq(acts.a[find(SK_APPEND, 0)].bytes.len, s.len);
    co_buf_free(&r);
    co_buf_free(&s);
}

Test(acceptor, two_contents_for_one_term_and_position_halt)
{
    /* S3, R5, I8 */
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1);
    send(10, append(1, a, LSN_FIRST, co_buf_span(&r)));
    tip = (struct wal_digest){{0}};
    struct co_buf other = record(1, LSN_FIRST, 9);
    send(10, append(1, a, LSN_FIRST, co_buf_span(&other)));
    cr_assert_geq(find(SK_HALT, 0), 0);
    co_buf_free(&r);
    co_buf_free(&other);
}

static void refused_append(struct co_id a, struct co_buf *r, const char *why)
{
    uint64_t before = view().refused;
    send(10, append(1, a, LSN_FIRST, co_buf_span(r)));
    cr_assert_eq(acts.n, 0, "%s must not be answered", why);
    cr_assert_eq(view().refused, before + 1, "%s must be counted", why);
    cr_assert_eq(view().write_lsn, LSN_FIRST);
    co_buf_free(r);
    tip = (struct wal_digest){{0}};
}

Test(acceptor, records_that_do_not_check_are_refused)
{
    /* S3, H8: CRC, digest chain, term (live-record rule), place. */
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1);
    r.data[150] ^= 1;
    refused_append(a, &r, "a flipped bit");
    tip.b[0] = 1;
    r = record(1, LSN_FIRST, 1);
    refused_append(a, &r, "another chain");
    r = record(2, LSN_FIRST, 1);
    refused_append(a, &r, "a record of a term that the history does not name here");
    r = record(1, LSN_FIRST + 8, 1);
    refused_append(a, &r, "a record that says it begins elsewhere");
}

Test(acceptor, an_append_without_adoption_is_not_taken)
{
    /* S3: the vote alone is not enough; the history must end in this term. */
    struct co_id a = nonce(1, 1);
    vote(10, 1, a);
    struct co_buf r = record(1, LSN_FIRST, 1);
    send(10, append(1, a, LSN_FIRST, co_buf_span(&r)));
    cr_assert_eq(acts.n, 0);
    co_buf_free(&r);
}

Test(acceptor, commit_never_passes_the_flush)
{
    /* S4: commit = min(leader's commit, own flush), caught up with when the flush comes. */
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1);
    lsn_t end = LSN_FIRST + r.len;
    struct q_msg m = append(1, a, LSN_FIRST, co_buf_span(&r));
    m.commit_lsn = end;
    send(10, m);
    cr_assert_eq(view().commit_lsn, LSN_FIRST);
    cr_assert_eq(find(SK_PERSIST, 0), -1, "the control block is not on the commit path");
    event((struct sk_event){.kind = SK_EV_FLUSHED, .lsn = end});
    cr_assert_eq(acts.a[find(SK_COMMIT, 0)].lsn, end);
    cr_assert_eq(sent_to(10, FRAME_ACK)->commit_lsn, end);
    co_buf_free(&r);
}

/* ---- S21, reading, boot ---- */

Test(acceptor, an_older_configuration_is_answered_with_the_newer)
{
    /* S21 */
    struct sk_boot b = birth();
    b.config = three(2);
    boot(&b);
    send(1,
         (struct q_msg){.type = FRAME_VOTE, .term = 1, .config_version = 1, .nonce = nonce(1, 1)});
    cr_assert_eq(sent_to(1, FRAME_REJECT_CONFIG)->config.version, 2);
    cr_assert_eq(sent_to(1, FRAME_VOTED), NULL);
}

/* A CONFIG record appended by the leader of term 1; its end. */
static lsn_t configure(struct co_id id, const struct wal_config *config, lsn_t begin)
{
    struct wal_stamp stamp = {.cluster = cluster,
                              .timeline = timeline,
                              .term = 1,
                              .begin_lsn = begin,
                              .sealed_lsn = LSN_FIRST,
                              .prev_digest = view().digest};
    struct wal_digest digest;
    struct co_buf r = {0};
    cr_assert_eq(wal_build_config(config, &stamp, &r, &digest), 0);
    lsn_t end = begin + r.len;
    send(10, append(1, id, begin, co_buf_span(&r)));
    co_buf_free(&r);
    return end;
}

Test(acceptor, a_configuration_is_in_force_with_the_step_that_takes_it)
{
    struct co_id a = lead_term_1(1);
    struct wal_config joint = three(2);
    joint.n_new = 1;
    joint.new_members[0].node_id = 4;
    lsn_t end = configure(a, &joint, LSN_FIRST);
    cr_assert_lt(find(SK_APPEND, 0), find(SK_FLUSH, 0));
    cr_assert_lt(find(SK_FLUSH, 0), sent_at(FRAME_ACK));
    cr_assert_eq(sent_to(10, FRAME_ACK)->flush_lsn, end);
    cr_assert_eq(view().config.version, 2);
    send(5, (struct q_msg){.type = FRAME_READ_POS, .config_version = 1});
    cr_assert_eq(sent_to(5, FRAME_POS)->config.version, 2, "S21 is for a VOTE");
}

Test(acceptor, who_has_left_gives_no_vote_and_who_is_new_does)
{
    struct sk_boot b = birth();
    b.node = 2;
    boot(&b);
    struct co_id a = lead_term_1(1);
    struct wal_config without = three(2);
    without.members[1].node_id = 3;
    without.members[2].node_id = 4;
    lsn_t end = configure(a, &without, LSN_FIRST);
    cr_assert(view().left);
    cr_assert_null(vote(2, 9, nonce(2, 1)));
    cr_assert_eq(sent_to(2, FRAME_REJECT_CONFIG)->config.version, 2);
    cr_assert_eq(view().term, 1);
    struct q_term h[] = {{1, LSN_FIRST}, {5, end}};
    elected(3, nonce(3, 1), 2, h, end);
    cr_assert_not_null(sent_to(3, FRAME_ACK), "a leader may still bring it up to date");

    b.node = 4; /* no configuration has named it yet */
    boot(&b);
    cr_assert_not_null(vote(1, 1, nonce(1, 1)));
}

Test(acceptor, a_position_is_told_to_anybody)
{
    /* 3.8: POS carries last log term, flush, commit; the history only if it is wanted. */
    struct co_id a = lead_term_1(1);
    lsn_t end = grow(1, a, LSN_FIRST, 1);
    send(5, (struct q_msg){.type = FRAME_READ_POS, .read_id = 77});
    const struct q_msg *p = sent_to(5, FRAME_POS);
    cr_assert(p->read_id == 77 && p->term == 1 && p->last_log_term == 1 && p->flush_lsn == end);
    cr_assert(p->lease_held && p->history.n == 0 && p->commit_lsn == LSN_FIRST);
    send(5, (struct q_msg){.type = FRAME_READ_POS, .want_history = true});
    cr_assert_eq(sent_to(5, FRAME_POS)->history.n, 1);
}

Test(acceptor, fetch_serves_only_its_own_term_and_what_is_durable)
{
    /* 3.3 FETCH */
    struct co_id a = lead_term_1(1);
    lsn_t end = grow(1, a, LSN_FIRST, 1);
    send(9,
         (struct q_msg){.type = FRAME_FETCH, .term = 1, .from_lsn = LSN_FIRST, .to_lsn = 1u << 30});
    cr_assert_eq(acts.a[find(SK_READ, 0)].to_lsn, end);
    cr_assert_eq(acts.a[find(SK_READ, 0)].msg.from_lsn, LSN_FIRST);
    send(9, (struct q_msg){.type = FRAME_FETCH, .term = 2, .from_lsn = LSN_FIRST, .to_lsn = 8192});
    cr_assert_eq(acts.n, 0);
    send(9, (struct q_msg){.type = FRAME_FETCH, .term = 1, .from_lsn = end, .to_lsn = end + 8});
    cr_assert_eq(acts.n, 0);
}

Test(acceptor, a_disk_that_lost_committed_records_does_not_start)
{
    /* D6: the log is shorter than the commit LSN that the same disk remembers. */
    struct sk_boot b = birth();
    struct sk_acceptor *other = NULL;
    b.durable.commit_lsn = LSN_FIRST + 800;
    cr_assert_eq(sk_acceptor_new(&b, &other), CO_ERR_CORRUPT);
    cr_assert_not_null(strstr(co_sentence(), "lost"));
}

/* ---- a log in doubt ---- */

Test(acceptor, a_log_in_doubt_says_so_until_a_leader_has_brought_it_back)
{
    /* Its votes and positions say how far it may have reached, until it holds what a later leader
     * began with. */
    struct q_term mine[] = {{1, LSN_FIRST}, {3, LSN_FIRST + 400}};
    struct sk_boot b = birth();
    b.durable.term = 3;
    b.durable.history = mine;
    b.durable.n_history = 2;
    b.durable.suspect_lsn = LSN_FIRST + 800;
    b.durable.suspect_term = 3;
    boot(&b);
    const struct q_msg *m = vote(10, 5, nonce(1, 1));
    cr_assert(m->granted);
    cr_assert_eq(m->suspect_lsn, LSN_FIRST + 800);
    cr_assert_eq(m->suspect_term, 3, "the last log term there");
    cr_assert_eq(acts.a[find(SK_PERSIST, 0)].durable->suspect_lsn, LSN_FIRST + 800);
    send(11, (struct q_msg){.type = FRAME_READ_POS, .read_id = 1});
    cr_assert_eq(sent_to(11, FRAME_POS)->suspect_lsn, LSN_FIRST + 800);
    /* The leader's log is longer than ours: adopted, but nothing is there yet. */
    struct wal_digest before = tip;
    struct co_buf r = record(1, LSN_FIRST, 1);
    struct q_term its[] = {{1, LSN_FIRST}, {5, LSN_FIRST + r.len}};
    elected(10, nonce(1, 1), 2, its, LSN_FIRST);
    cr_assert_eq(view().suspect_lsn, LSN_FIRST + 800);
    send(10, append(5, nonce(1, 1), LSN_FIRST, co_buf_span(&r)));
    cr_assert_eq(view().suspect_lsn, LSN_FIRST + 800, "written is not flushed");
    event((struct sk_event){.kind = SK_EV_FLUSHED, .lsn = LSN_FIRST + r.len});
    cr_assert_eq(view().suspect_lsn, 0, "all that lower terms committed is here");
    co_buf_free(&r);
    tip = before;
}

/* ---- M16 ---- */

Test(acceptor, history_below_the_floor_is_forgotten_at_the_next_adoption)
{
    /* M16: and never the entries that are kept for questions. */
    struct sk_boot b = birth();
    b.history_keep = 1;
    boot(&b);
    struct co_id a = lead_term_1(1);
    lsn_t e1 = grow(1, a, LSN_FIRST, 1);
    struct q_term h[4] = {{1, LSN_FIRST}, {2, e1}};
    struct co_id n2 = nonce(1, 2);
    vote(10, 2, n2);
    elected(10, n2, 2, h, e1);
    lsn_t e2 = grow(2, n2, e1, 2);
    struct q_msg m = append(2, n2, e2, (struct co_span){0});
    m.commit_lsn = m.floor_lsn = e2;
    send(10, m);
    cr_assert_eq(view().history.n, 2, "not on the commit path");
    struct co_id n3 = nonce(1, 3);
    h[2] = (struct q_term){3, e2};
    vote(10, 3, n3);
    elected(10, n3, 3, h, e2);
    struct sk_view v = view();
    cr_assert_eq(v.history.n, 2, "others may know nothing of term 3 yet, but all know term 2");
    cr_assert(v.history.e[0].term == 2 && v.floor_lsn == e1);
}

Test(acceptor, a_collapsed_history_still_adopts_from_a_longer_one)
{
    /* M16: histories with different floors are equal below the higher one. */
    struct q_term mine = {3, 5000}, full[] = {{1, LSN_FIRST}, {2, 4800}, {3, 5000}, {4, 6000}};
    struct sk_boot b = birth();
    b.durable.term = 3;
    b.durable.history = &mine;
    b.durable.n_history = 1;
    b.durable.floor_lsn = 5000;
    b.flush_lsn = 6000;
    b.durable.commit_lsn = 5000;
    boot(&b);
    elected(1, nonce(1, 1), 4, full, 6000);
    cr_assert_not_null(sent_to(1, FRAME_ACK));
    cr_assert_eq(find(SK_TRUNCATE, 0), -1);
}

struct parted {
    const char *name;
    uint32_t na, nb;
    struct q_term a[4], b[4];
    lsn_t a_end, b_end, part; /* 0: contradiction */
};

Test(acceptor, logs_part_where_their_histories_do)
{
    /* S2, M16: the table of the divergence point; start of the timeline is 100,
     * what is committed for sure reaches 120. */
    static const struct parted t[] = {
        {"both empty", 0, 0, {{0, 0}}, {{0, 0}}, 100, 100, 100},
        {"one empty", 1, 0, {{1, 100}}, {{0, 0}}, 200, 100, 100},
        {"prefix", 1, 1, {{1, 100}}, {{1, 100}}, 300, 200, 200},
        {"new term at the end", 2, 1, {{1, 100}, {2, 200}}, {{1, 100}}, 900, 200, 200},
        {"tail of an old term", 2, 1, {{1, 100}, {2, 200}}, {{1, 100}}, 900, 260, 200},
        {"two tails", 2, 2, {{1, 100}, {3, 200}}, {{1, 100}, {2, 150}}, 900, 260, 150},
        {"different first terms", 1, 1, {{2, 100}}, {{1, 100}}, 900, 260, 100},
        {"collapsed, same term", 1, 3, {{3, 300}}, {{1, 100}, {2, 200}, {3, 300}}, 900, 400, 400},
        {"collapsed, other term at the floor",
         1,
         2,
         {{4, 300}},
         {{1, 100}, {2, 200}},
         900,
         400,
         120},
        {"collapsed, shorter log", 1, 1, {{4, 300}}, {{1, 100}}, 900, 250, 120},
        {"collapsed, nothing of it", 1, 1, {{4, 300}}, {{1, 100}}, 900, 110, 110},
        {"collapsed to nothing", 2, 0, {{1, 100}, {2, 200}}, {{0, 0}}, 900, 115, 115},
        {"collapsed to nothing, longer log", 2, 0, {{1, 100}, {2, 200}}, {{0, 0}}, 900, 150, 120},
        {"terms without a record",
         3,
         2,
         {{2, 200}, {3, 200}, {4, 200}},
         {{1, 100}, {2, 200}},
         900,
         200,
         200},
        {"one term, two starts", 2, 2, {{1, 100}, {2, 200}}, {{1, 100}, {2, 240}}, 900, 400, 0},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct q_history a = {t[i].na, t[i].a}, b = {t[i].nb, t[i].b};
        lsn_t one = 0, two = 0;
        int rc = q_diverge(&a, t[i].a_end, &b, t[i].b_end, 100, 120, &one);
        cr_expect_eq(rc, t[i].part ? 0 : CO_ERR_CORRUPT, "%s", t[i].name);
        cr_expect_eq(q_diverge(&b, t[i].b_end, &a, t[i].a_end, 100, 120, &two), rc, "%s",
                     t[i].name);
        cr_expect(rc || (one == t[i].part && two == t[i].part), "%s: %llu %llu", t[i].name,
                  (unsigned long long)one, (unsigned long long)two);
    }
}

/* ---- S10: fragments ---- */

static struct q_msg fragment(term_t term, struct co_id id, lsn_t begin, const struct co_buf *r,
                             size_t at, size_t n)
{
    struct q_msg m = append(term, id, begin, co_span_of(r->data + at, n));
    m.fragment = true;
    m.fragment_at = at;
    return m;
}

Test(acceptor, staged_bytes_count_for_nothing_before_the_record_is_whole_and_durable)
{
    /* S10, I6: what is told are ends of whole records; the record is one with its last byte. */
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1);
    send(10, fragment(1, a, LSN_FIRST, &r, 0, 150));
    int at = find(SK_APPEND, 0);
    cr_assert(at >= 0 && acts.a[at].fragment && !acts.a[at].record);
    event((struct sk_event){.kind = SK_EV_FLUSHED, .lsn = LSN_FIRST, .staged = 150});
    const struct q_msg *m = sent_to(10, FRAME_ACK);
    cr_assert(m && m->flush_lsn == LSN_FIRST && m->write_lsn == LSN_FIRST);
    cr_assert_eq(m->staged_bytes, 150);
    send(10, fragment(1, a, LSN_FIRST, &r, 100, r.len - 100)); /* overlaps: the rest is taken */
    at = find(SK_APPEND, 0);
    cr_assert(at >= 0 && acts.a[at].fragment_at == 150 && acts.a[at].bytes.len == r.len - 150);
    cr_assert(acts.a[at].record && acts.a[at].record->end_lsn == LSN_FIRST + r.len);
    cr_assert_eq(view().write_lsn, LSN_FIRST + r.len);
    cr_assert_eq(view().flush_lsn, LSN_FIRST, "not before its last byte is durable");
    event((struct sk_event){.kind = SK_EV_FLUSHED, .lsn = LSN_FIRST + r.len});
    cr_assert_eq(sent_to(10, FRAME_ACK)->flush_lsn, LSN_FIRST + r.len);
    cr_assert_eq(memcmp(view().digest.b, tip.b, 16), 0);
    co_buf_free(&r);
}

Test(acceptor, a_question_does_not_swallow_an_acknowledgement)
{
    /* What it makes durable is acknowledged: no FLUSHED will say it anew, and who fills a sealed
     * log asks for nothing twice (level B, seed 14123459). */
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1);
    send(10, fragment(1, a, LSN_FIRST, &r, 0, 150));
    cr_assert_null(sent_to(10, FRAME_ACK));
    send(5, (struct q_msg){.type = FRAME_READ_POS, .read_id = 1, .want_history = true});
    cr_assert_lt(find(SK_FLUSH, 0), find(SK_SEND, 0));
    cr_assert(sent_to(10, FRAME_ACK) && sent_to(10, FRAME_ACK)->staged_bytes == 150);
    event((struct sk_event){.kind = SK_EV_FLUSHED, .lsn = LSN_FIRST, .staged = 150});
    cr_assert_null(sent_to(10, FRAME_ACK), "once");
    send(10, fragment(1, a, LSN_FIRST, &r, 150, r.len - 150));
    send(5, (struct q_msg){.type = FRAME_READ_POS, .read_id = 2, .want_history = true});
    cr_assert(sent_to(10, FRAME_ACK) && sent_to(10, FRAME_ACK)->flush_lsn == LSN_FIRST + r.len);
    co_buf_free(&r);
}

Test(acceptor, a_vote_does_not_count_staged_bytes)
{
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1);
    send(10, fragment(1, a, LSN_FIRST, &r, 0, r.len - 8));
    const struct q_msg *v = vote(10, 2, nonce(1, 2));
    cr_assert(v->granted && v->flush_lsn == LSN_FIRST);
    co_buf_free(&r);
}

Test(acceptor, adopting_a_new_term_drops_what_is_staged)
{
    /* S10: the fragments of an older term are never completed by a newer one. */
    struct co_id a = lead_term_1(1), b = nonce(1, 2);
    struct co_buf r = record(1, LSN_FIRST, 1);
    struct q_term h[] = {{1, LSN_FIRST}, {2, LSN_FIRST}};
    send(10, fragment(1, a, LSN_FIRST, &r, 0, 160));
    cr_assert(vote(10, 2, b)->granted);
    elected(10, b, 2, h, LSN_FIRST);
    int cut = find(SK_TRUNCATE, 0);
    cr_assert(cut >= 0 && acts.a[cut].lsn == LSN_FIRST);
    cr_assert_lt(cut, sent_at(FRAME_ACK), "gone before the adoption is acknowledged");
    event((struct sk_event){.kind = SK_EV_TRUNCATED, .lsn = LSN_FIRST, .config = three(1)});
    cr_assert_eq(view().staged, 0);
    send(10, fragment(2, b, LSN_FIRST, &r, 160, r.len - 160));
    cr_assert_eq(find(SK_APPEND, 0), -1, "a gap, since nothing is staged");
    cr_assert_eq(sent_to(10, FRAME_ACK)->staged_bytes, 0);
    co_buf_free(&r);
}

Test(acceptor, a_gap_between_fragments_is_not_written)
{
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1);
    send(10, fragment(1, a, LSN_FIRST, &r, 0, 150));
    send(10, fragment(1, a, LSN_FIRST, &r, 158, 8));
    cr_assert_eq(find(SK_APPEND, 0), -1);
    cr_assert_not_null(sent_to(10, FRAME_ACK), "the sender hears at once where we are");
    send(10, fragment(1, a, LSN_FIRST, &r, 0, 150));
    cr_assert_eq(find(SK_APPEND, 0), -1, "a repetition");
    cr_assert_eq(view().refused, 0);
    co_buf_free(&r);
}

Test(acceptor, a_record_that_is_not_what_it_promised_is_dropped)
{
    /* S3 over all of it: CRC at the end, place and chain at the begin. */
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1);
    r.data[r.len - 30] ^= 1;
    send(10, fragment(1, a, LSN_FIRST, &r, 0, 150));
    send(10, fragment(1, a, LSN_FIRST, &r, 150, r.len - 150));
    cr_assert_eq(view().refused, 1);
    cr_assert_geq(find(SK_TRUNCATE, 0), 0);
    event((struct sk_event){.kind = SK_EV_TRUNCATED, .lsn = LSN_FIRST, .config = three(1)});
    cr_assert_eq(view().write_lsn, LSN_FIRST);
    r.data[r.len - 30] ^= 1;
    r.data[125] ^= 1; /* the digest of the record before */
    send(10, fragment(1, a, LSN_FIRST, &r, 0, 150));
    cr_assert_eq(find(SK_APPEND, 0), -1);
    cr_assert_eq(view().refused, 2);
    r.data[125] ^= 1;
    send(10, fragment(1, a, LSN_FIRST, &r, 0, 143));
    cr_assert_eq(view().refused, 3, "too short for its header");
    send(10, fragment(1, a, LSN_FIRST, &r, 0, r.len));
    cr_assert_eq(view().write_lsn, LSN_FIRST + r.len, "and then it comes sound");
    co_buf_free(&r);
}

Test(acceptor, a_whole_record_where_one_is_staged_drops_that_first)
{
    struct co_id a = lead_term_1(1);
    struct co_buf r = record(1, LSN_FIRST, 1);
    send(10, fragment(1, a, LSN_FIRST, &r, 0, 150));
    send(10, append(1, a, LSN_FIRST, co_buf_span(&r)));
    cr_assert_eq(find(SK_APPEND, 0), -1);
    cr_assert_geq(find(SK_TRUNCATE, 0), 0);
    event((struct sk_event){.kind = SK_EV_TRUNCATED, .lsn = LSN_FIRST, .config = three(1)});
    send(10, append(1, a, LSN_FIRST, co_buf_span(&r)));
    cr_assert_geq(find(SK_APPEND, 0), 0);
    co_buf_free(&r);
}

/* ---- the kept start ---- */

static void trim(lsn_t lsn, lsn_t archived, lsn_t followed)
{
    event((struct sk_event){.kind = SK_EV_TRIM,
                            .lsn = lsn,
                            .digest = tip,
                            .config = three(1),
                            .archived_lsn = archived,
                            .followed_lsn = followed});
}

static struct q_msg base(term_t term, struct co_id id, lsn_t lsn, lsn_t commit, uint32_t version)
{
    struct q_msg m = append(term, id, LSN_FIRST, (struct co_span){0});
    m.base_lsn = lsn;
    m.commit_lsn = commit;
    m.digest = (struct wal_digest){{7, 7}};
    m.config = three(version);
    return m;
}

Test(acceptor, a_log_loses_its_begin_only_below_commit_archive_and_followers)
{
    struct co_id a = lead_term_1(1);
    lsn_t one = grow(1, a, LSN_FIRST, 1), two = grow(1, a, one, 2);
    trim(one, two, two);
    cr_assert_eq(find(SK_REBASE, 0), -1, "it is not committed");
    struct q_msg m = append(1, a, two, (struct co_span){0});
    m.commit_lsn = two;
    send(10, m);
    trim(two, one, two);
    cr_assert_eq(find(SK_REBASE, 0), -1, "it is not archived");
    trim(two, two, one);
    cr_assert_eq(find(SK_REBASE, 0), -1, "a pageserver lacks it");
    trim(two, two, LSN_NONE);
    cr_assert_eq(find(SK_REBASE, 0), -1, "nobody has said how far he is");
    trim(one, two, two);
    int at = find(SK_REBASE, 0);
    cr_assert_geq(at, 0);
    cr_assert_eq(acts.a[at].durable->base.lsn, one);
    cr_assert_geq(acts.a[at].durable->commit_lsn, one, "the block never begins above its commit");
    cr_assert_eq(view().base_lsn, one);
    trim(one, two, two);
    cr_assert_eq(find(SK_REBASE, 0), -1, "never twice, never back");
}

Test(acceptor, a_fetch_below_the_base_is_answered_with_the_base)
{
    struct co_id a = lead_term_1(1);
    lsn_t one = grow(1, a, LSN_FIRST, 1);
    struct wal_digest there = tip;
    lsn_t two = grow(1, a, one, 2);
    struct q_msg m = append(1, a, two, (struct co_span){0});
    m.commit_lsn = two;
    send(10, m);
    tip = there;
    trim(one, two, two);
    send(10, (struct q_msg){.type = FRAME_FETCH, .term = 1, .from_lsn = LSN_FIRST, .to_lsn = two});
    cr_assert_eq(find(SK_READ, 0), -1);
    const struct q_msg *data = sent_to(10, FRAME_DATA);
    cr_assert(data && data->payload.len == 0);
    cr_assert_eq(data->from_lsn, LSN_FIRST);
    cr_assert_eq(data->base_lsn, one);
    cr_assert_eq(memcmp(data->digest.b, there.b, sizeof there.b), 0);
    cr_assert_eq(data->config.version, 1);
    send(10, (struct q_msg){.type = FRAME_FETCH, .term = 1, .from_lsn = one, .to_lsn = two});
    cr_assert_geq(find(SK_READ, 0), 0, "from the base on it has records");
}

Test(acceptor, a_log_is_told_where_it_begins_and_says_so_when_it_is_durable)
{
    struct co_id a = lead_term_1(1);
    lsn_t far = LSN_FIRST + 80000;
    send(10, base(1, a, far, far, 3));
    int rebase = find(SK_REBASE, 0), ack = sent_at(FRAME_ACK);
    cr_assert(0 <= rebase && rebase < ack);
    const struct sk_durable *d = acts.a[rebase].durable;
    cr_assert_eq(d->base.lsn, far);
    cr_assert_eq(d->commit_lsn, far);
    cr_assert_eq(d->base.config.version, 3);
    cr_assert_eq(acts.a[ack].msg.flush_lsn, far);
    cr_assert_eq(acts.a[ack].msg.base_lsn, far);
    cr_assert_eq(view().config.version, 3);
    cr_assert_eq(view().commit_lsn, far);
    tip = (struct wal_digest){{7, 7}};
    cr_assert_gt(grow(1, a, far, 1), far, "and goes on from there");
    send(10, base(1, a, far, far, 3));
    cr_assert_eq(find(SK_REBASE, 0), -1, "one that comes late changes nothing");
}

Test(acceptor, a_base_is_taken_from_its_leader_only_committed_and_with_a_configuration)
{
    struct co_id a = lead_term_1(1);
    lsn_t far = LSN_FIRST + 80000;
    send(10, base(1, a, far, far - 8, 3));
    cr_assert_eq(find(SK_REBASE, 0), -1, "not committed");
    struct q_msg m = base(1, a, far, far, 3);
    m.config = (struct wal_config){0};
    send(10, m);
    cr_assert_eq(find(SK_REBASE, 0), -1, "no configuration");
    cr_assert_eq(view().refused, 2);
    send(11, base(2, nonce(2, 1), far, far, 3));
    cr_assert_eq(find(SK_REBASE, 0), -1, "of a term that was not adopted");
    cr_assert_eq(view().write_lsn, LSN_FIRST);
}

Test(acceptor, a_start_goes_on_from_the_base)
{
    struct sk_boot b = birth();
    b.durable.base = (struct sk_base){.lsn = LSN_FIRST + 800, .config = three(2)};
    b.durable.commit_lsn = b.flush_lsn = LSN_FIRST + 800;
    b.config = three(2);
    boot(&b);
    cr_assert_eq(view().base_lsn, LSN_FIRST + 800);
    cr_assert_eq(vote(1, 1, nonce(1, 1))->base_lsn, LSN_FIRST + 800);
    b.durable.commit_lsn = LSN_FIRST;
    struct sk_acceptor *none = NULL;
    cr_assert_eq(sk_acceptor_new(&b, &none), CO_ERR_CORRUPT, "a base is committed");
}
