/* test_daemon.c - the real process: start, serve, die, come back. */
#include <sys/socket.h>

#include "common/crc32c.h"
#include "safekeeper/followers_file.h"
#include "tests/unit/safekeeper/daemon_fixture.h"
#include "tests/unit/slower.h"

static void setup(void)
{
    fixture_setup();
    fixture()->owner.cluster = cluster_id();
}

TestSuite(daemon, .init = setup, .fini = fixture_teardown, .timeout = 60);

static const char *const fresh[] = {"--cluster", CLUSTER_TEXT, NULL};
static const struct q_term term_1[] = {{1, LSN_FIRST}};
static const struct q_history history_1 = {.n = 1, .e = term_1};
#define ACTIVE  CORALLITE__TIMELINE_STATE__TIMELINE_ACTIVE
#define DROPPED CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED
#define SEALED  CORALLITE__TIMELINE_STATE__TIMELINE_SEALED

/* A new safekeeper with one timeline, led by us in term 1. */
static void start_and_lead(struct sk_process *p, struct sk_talk *t)
{
    daemon_start(p, fresh);
    talk_open(t, p);
    cr_assert_eq(talk_put(t, 1, ACTIVE), 0);
    talk_lead(t, 1, &history_1, LSN_FIRST);
}

/* Appends n records of term 1, waits until all are acknowledged, then says they are committed. */
static void write_records(struct sk_talk *t, struct tip *tip, int n, struct co_buf *all)
{
    struct q_msg m;
    AUTO_BUF none = {0};
    for (int i = 0; i < n; i++) {
        AUTO_BUF one = {0};
        lsn_t begin = tip->lsn;
        if (begin == LSN_FIRST)
            make_config(tip, 1, &one);
        else
            make_record(tip, 1 + (uint32_t)i % 3, &one);
        talk_append(t, 1, begin, LSN_FIRST, &one);
        cr_assert_eq(co_buf_append(all, one.data, one.len), 0);
    }
    do
        talk_expect(t, FRAME_ACK, &m);
    while (m.flush_lsn < tip->lsn);
    cr_assert_eq(m.flush_lsn, tip->lsn);
    talk_append(t, 1, tip->lsn, tip->lsn, &none);
    do
        talk_expect(t, FRAME_ACK, &m);
    while (m.commit_lsn < tip->lsn);
}

static void expect_stream(struct sk_talk *t, const struct co_buf *all)
{
    AUTO_BUF part = {0};
    lsn_t at = LSN_FIRST, commit, flush;
    while (at - LSN_FIRST < all->len) {
        cr_assert_eq(talk_stream(t, at, 1000, &part, &commit, &flush), 0, "%s", co_sentence());
        cr_assert_gt(part.len, 0, "nothing at %llu", (unsigned long long)at);
        cr_assert_eq(memcmp(part.data, all->data + (at - LSN_FIRST), part.len), 0);
        at += part.len;
    }
    cr_assert_eq(at - LSN_FIRST, all->len);
}

Test(daemon, acknowledged_records_survive_kill_9)
{
    /* P1, promise 1: PUT, VOTE, ELECTED, APPEND, ACK; kill -9; all is there. */
    struct sk_process p;
    struct sk_talk t;
    struct tip tip = tip_first();
    AUTO_BUF all = {0};
    struct q_msg m;
    daemon_start(&p, fresh);
    talk_open(&t, &p);
    cr_assert_eq(talk_put(&t, 1, ACTIVE), 0, "%s", co_sentence());
    talk_lead(&t, 1, &history_1, LSN_FIRST);
    write_records(&t, &tip, 40, &all);
    expect_stream(&t, &all);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGKILL), -SIGKILL);

    daemon_start(&p, NULL);
    talk_open(&t, &p);
    talk_send(&t, &(struct q_msg){.type = FRAME_READ_POS, .read_id = 5, .want_history = true});
    talk_expect(&t, FRAME_POS, &m);
    cr_assert_eq(m.read_id, 5);
    cr_assert_eq(m.term, 1);
    cr_assert_eq(m.last_log_term, 1);
    cr_assert_eq(m.flush_lsn, tip.lsn);
    cr_assert_eq(m.history.n, 1);
    cr_assert_eq(m.config.n, 3, "the CONFIG record of the log");
    /* The vote is remembered: nobody else gets term 1, its leader goes on. */
    talk_send(&t, &(struct q_msg){.type = FRAME_VOTE, .term = 1, .nonce = {{0x99}}});
    talk_expect(&t, FRAME_VOTED, &m);
    cr_assert_not(m.granted);
    AUTO_BUF more = {0};
    make_record(&tip, 2, &more);
    cr_assert_eq(co_buf_append(&all, more.data, more.len), 0);
    talk_append(&t, 1, tip.lsn - more.len, tip.lsn - more.len, &more);
    do
        talk_expect(&t, FRAME_ACK, &m);
    while (m.flush_lsn < tip.lsn);
    AUTO_BUF none = {0};
    talk_append(&t, 1, tip.lsn, tip.lsn, &none);
    talk_expect(&t, FRAME_ACK, &m);
    cr_assert_eq(m.commit_lsn, tip.lsn);
    expect_stream(&t, &all);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

Test(daemon, clean_stop_without_a_lease_leaves_the_mark)
{
    /* S7: quiet_until only where a lease may be out. */
    struct sk_process p;
    struct sk_talk t;
    struct q_msg m;
    struct tip tip = tip_first();
    AUTO_BUF all = {0};
    start_and_lead(&p, &t);
    write_records(&t, &tip, 3, &all);
    talk_send(&t, &(struct q_msg){.type = FRAME_RELEASE, .term = 1, .nonce = talk_nonce});
    talk_send(&t, &(struct q_msg){.type = FRAME_READ_POS, .read_id = 1});
    talk_expect(&t, FRAME_POS, &m);
    cr_assert_not(m.lease_held);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);

    daemon_start(&p, NULL);
    talk_open(&t, &p);
    talk_send(&t, &(struct q_msg){.type = FRAME_VOTE, .term = 2, .nonce = {{0x77}}});
    talk_expect(&t, FRAME_VOTED, &m);
    cr_assert(m.granted, "no lease was out, so nobody need wait for one");
    cr_assert_eq(m.flush_lsn, tip.lsn);
    cr_assert_eq(m.commit_lsn, tip.lsn, "a clean stop notes the commit LSN");
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGKILL), -SIGKILL);

    /* Now one may be out. */
    daemon_start(&p, NULL);
    talk_open(&t, &p);
    talk_send(&t, &(struct q_msg){.type = FRAME_VOTE, .term = 3, .nonce = {{0x55}}});
    talk_expect(&t, FRAME_VOTED, &m);
    cr_assert(!m.granted || m.term == 3);
    talk_close(&t);
    daemon_stop(&p, SIGTERM);
}

Test(daemon, a_timeline_is_born_with_its_term)
{
    /* Terms up to it are other timelines': nobody is elected in one, also after a restart. */
    struct sk_process p;
    struct sk_talk t;
    struct q_msg m;
    daemon_start(&p, fresh);
    talk_open(&t, &p);
    cr_assert_eq(talk_put_born(&t, 1, ACTIVE, 1000), 0);
    for (int i = 0; i < 2; i++) {
        talk_send(&t, &(struct q_msg){.type = FRAME_READ_POS, .read_id = 1});
        talk_expect(&t, FRAME_POS, &m);
        cr_assert_eq(m.term, 1000);
        talk_send(&t, &(struct q_msg){.type = FRAME_VOTE, .term = 1000, .nonce = {{0x77}}});
        talk_expect(&t, FRAME_VOTED, &m);
        cr_assert(!m.granted && m.term == 1000);
        if (i == 0) {
            talk_close(&t);
            daemon_stop(&p, SIGKILL);
            daemon_start(&p, NULL);
            talk_open(&t, &p);
        }
    }
    talk_send(&t, &(struct q_msg){.type = FRAME_VOTE, .term = 1001, .nonce = {{0x77}}});
    talk_expect(&t, FRAME_VOTED, &m);
    cr_assert(m.granted && m.term == 1001);
    talk_close(&t);
    daemon_stop(&p, SIGTERM);
}

Test(daemon, stream_waits_for_what_is_committed)
{
    /* H3: flushed is not enough; a long poll wakes when the commit LSN passes. */
    struct sk_process p;
    struct sk_talk t, reader;
    struct q_msg m;
    struct tip tip = tip_first();
    AUTO_BUF one = {0}, got = {0}, none = {0};
    lsn_t commit, flush;
    daemon_start(&p, fresh);
    talk_open(&t, &p);
    talk_open(&reader, &p);
    cr_assert_eq(talk_put(&t, 1, ACTIVE), 0);
    talk_lead(&t, 1, &history_1, LSN_FIRST);
    make_config(&tip, 1, &one);
    talk_append(&t, 1, LSN_FIRST, LSN_FIRST, &one);
    talk_expect(&t, FRAME_ACK, &m);
    cr_assert_eq(m.flush_lsn, tip.lsn);
    uint64_t before = co_now_us();
    cr_assert_eq(talk_stream(&reader, LSN_FIRST, 150, &got, &commit, &flush), 0);
    cr_assert_eq(got.len, 0, "nothing is committed");
    cr_assert_eq(flush, tip.lsn);
    cr_assert_geq(co_now_us() - before, 140000);
    talk_append(&t, 1, tip.lsn, tip.lsn, &none);
    cr_assert_eq(talk_stream(&reader, LSN_FIRST, 3000, &got, &commit, &flush), 0);
    cr_assert_eq(got.len, one.len);
    cr_assert_eq(commit, tip.lsn);
    cr_assert_eq(talk_stream(&reader, LSN_FIRST + 8, 0, &got, &commit, &flush), CO_ERR_INVAL);
    cr_assert_eq(talk_stream(&reader, 8, 0, &got, &commit, &flush), CO_ERR_INVAL);
    talk_close(&reader);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

Test(daemon, truncation_by_a_new_leader_is_carried_out)
{
    /* S2: an uncommitted tail goes; the log goes on with the new leader's records. */
    struct sk_process p;
    struct sk_talk t;
    struct q_msg m;
    struct tip tip = tip_first(), keep;
    AUTO_BUF all = {0}, lost = {0}, fresh_record = {0}, none = {0};
    start_and_lead(&p, &t);
    write_records(&t, &tip, 3, &all);
    keep = tip;
    make_record(&tip, 3, &lost);
    talk_append(&t, 1, keep.lsn, keep.lsn, &lost);
    talk_expect(&t, FRAME_ACK, &m);
    cr_assert_eq(m.flush_lsn, tip.lsn);

    struct q_term terms[] = {{1, LSN_FIRST}, {2, keep.lsn}};
    struct q_history history = {.n = 2, .e = terms};
    talk_lead(&t, 2, &history, keep.lsn);
    keep.term = 2;
    lsn_t begin = keep.lsn;
    make_record(&keep, 1, &fresh_record);
    talk_append(&t, 2, begin, begin, &fresh_record);
    talk_expect(&t, FRAME_ACK, &m);
    cr_assert_eq(m.flush_lsn, keep.lsn);
    talk_append(&t, 2, keep.lsn, keep.lsn, &none);
    talk_expect(&t, FRAME_ACK, &m);
    cr_assert_eq(m.commit_lsn, keep.lsn);
    cr_assert_eq(co_buf_append(&all, fresh_record.data, fresh_record.len), 0);
    expect_stream(&t, &all);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGKILL), -SIGKILL);
    daemon_start(&p, NULL);
    talk_open(&t, &p);
    talk_send(&t, &(struct q_msg){.type = FRAME_READ_POS, .read_id = 1});
    talk_expect(&t, FRAME_POS, &m);
    cr_assert_eq(m.flush_lsn, keep.lsn);
    cr_assert_eq(m.last_log_term, 2);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

Test(daemon, donor_serves_fetch_from_its_files)
{
    /* R2: what others lack is fetched; older than the memory ring. */
    struct sk_process p;
    struct sk_talk t;
    struct q_msg m;
    struct tip tip = tip_first();
    AUTO_BUF all = {0};
    start_and_lead(&p, &t);
    write_records(&t, &tip, 600, &all);
    cr_assert_gt(all.len, 2 * CO_MIB);
    for (lsn_t at = LSN_FIRST; at < tip.lsn;) {
        talk_send(
            &t, &(struct q_msg){.type = FRAME_FETCH, .term = 1, .from_lsn = at, .to_lsn = tip.lsn});
        talk_expect(&t, FRAME_DATA, &m);
        cr_assert_eq(m.from_lsn, at);
        cr_assert_gt(m.payload.len, 0);
        cr_assert_eq(memcmp(m.payload.data, all.data + (at - LSN_FIRST), m.payload.len), 0);
        at += m.payload.len;
    }
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

Test(daemon, unknown_and_dropped_timelines_get_typed_errors)
{
    /* M18 */
    struct sk_process p;
    struct sk_talk t;
    struct frame_header frame;
    struct co_span body;
    AUTO_BUF got = {0};
    lsn_t commit, flush;
    daemon_start(&p, fresh);
    talk_open(&t, &p);
    cr_assert_eq(talk_stream(&t, LSN_FIRST, 0, &got, &commit, &flush), CO_ERR_NOT_FOUND);
    cr_assert_eq(talk_put(&t, 1, ACTIVE), 0);
    talk_lead(&t, 1, &history_1, LSN_FIRST);
    cr_assert_eq(talk_put(&t, 2, DROPPED), 0);
    cr_assert_eq(talk_put(&t, 3, ACTIVE), CO_ERR_DROPPED);
    cr_assert_eq(talk_stream(&t, LSN_FIRST, 0, &got, &commit, &flush), CO_ERR_DROPPED);
    static const enum frame_type types[] = {FRAME_VOTE, FRAME_APPEND};
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 2; i++) {
            talk_send(&t, &(struct q_msg){.type = types[i], .term = 2, .nonce = talk_nonce});
            cr_assert(talk_next(&t, 5000 * (int)slower(), &frame, &body));
            cr_assert_eq(frame.type, FRAME_ERROR);
            Corallite__Error *e = corallite__error__unpack(NULL, frame.message_bytes, body.data);
            cr_assert(e && e->code == CO_ERR_DROPPED);
            corallite__error__free_unpacked(e, NULL);
        }
        talk_close(&t);
        cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
        daemon_start(&p, NULL);
        talk_open(&t, &p);
    }
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

static void expect_error(struct sk_talk *t, int code, const char *word)
{
    struct frame_header frame;
    struct co_span body;
    cr_assert(talk_next(t, 5000 * (int)slower(), &frame, &body), "no answer");
    cr_assert_eq(frame.type, FRAME_ERROR, "%s", frame_type_name(frame.type));
    Corallite__Error *e = corallite__error__unpack(NULL, frame.message_bytes, body.data);
    cr_assert(e && e->sentence);
    cr_assert_eq(e->code, code, "%d %s", e->code, e->sentence);
    cr_assert(strstr(e->sentence, word), "%s", e->sentence);
    corallite__error__free_unpacked(e, NULL);
}

Test(daemon, sealed_timeline_is_read_and_told_how_far_it_is_committed_but_not_written)
{
    /* S14: votes and records get READONLY, before and after a restart; streams and positions go
     * on; a heartbeat still says that what was acknowledged before the seal is committed. */
    struct sk_process p;
    struct sk_talk t;
    struct tip tip = tip_first();
    struct q_msg m;
    lsn_t commit, flush;
    AUTO_BUF all = {0};
    AUTO_BUF one = {0};
    AUTO_BUF none = {0};
    AUTO_BUF got = {0};
    start_and_lead(&p, &t);
    write_records(&t, &tip, 3, &all);
    lsn_t before = tip.lsn;
    make_record(&tip, 1, &one);
    talk_append(&t, 1, before, before, &one);
    do
        talk_expect(&t, FRAME_ACK, &m);
    while (m.flush_lsn < tip.lsn);
    cr_assert_eq(talk_put(&t, 2, SEALED), 0);
    talk_append(&t, 1, tip.lsn, tip.lsn, &none);
    do
        talk_expect(&t, FRAME_ACK, &m);
    while (m.commit_lsn < tip.lsn);
    cr_assert_eq(co_buf_append(&all, one.data, one.len), 0);
    lsn_t end = tip.lsn;
    one.len = 0;
    make_record(&tip, 1, &one);
    for (int round = 0; round < 2; round++) {
        talk_append(&t, 1, end, end, &one);
        expect_error(&t, CO_ERR_READONLY, "reopen");
        talk_expect(&t, FRAME_ACK, &m); /* what else it says is a heartbeat */
        talk_send(&t, &(struct q_msg){.type = FRAME_VOTE, .term = 2, .nonce = talk_nonce});
        expect_error(&t, CO_ERR_READONLY, "sealed");
        talk_send(&t, &(struct q_msg){.type = FRAME_READ_POS, .read_id = 7});
        talk_expect(&t, FRAME_POS, &m);
        cr_assert_eq(m.flush_lsn, end);
        cr_assert_eq(talk_stream(&t, LSN_FIRST, 0, &got, &commit, &flush), 0);
        cr_assert_eq(got.len, all.len, "%zu of %zu bytes", got.len, all.len);
        talk_close(&t);
        cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
        daemon_start(&p, NULL);
        talk_open(&t, &p);
    }
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

Test(daemon, a_record_that_is_refused_tells_how_far_a_sealed_timeline_is_committed)
{
    /* Its writer was told that the record before it is committed, acknowledged that, and sent the
     * next one; then came the seal. Nothing else may come from it any more. */
    struct sk_process p;
    struct sk_talk t;
    struct tip tip = tip_first();
    struct q_msg m;
    lsn_t commit, flush;
    AUTO_BUF all = {0};
    AUTO_BUF one = {0};
    AUTO_BUF got = {0};
    start_and_lead(&p, &t);
    make_record(&tip, 1, &all);
    talk_append(&t, 1, LSN_FIRST, LSN_FIRST, &all);
    do
        talk_expect(&t, FRAME_ACK, &m);
    while (m.flush_lsn < tip.lsn);
    cr_assert_eq(m.commit_lsn, LSN_FIRST);
    cr_assert_eq(talk_put(&t, 2, SEALED), 0);
    lsn_t end = tip.lsn;
    make_record(&tip, 1, &one);
    talk_append(&t, 1, end, end, &one);
    expect_error(&t, CO_ERR_READONLY, "reopen");
    cr_assert_eq(talk_stream(&t, LSN_FIRST, 0, &got, &commit, &flush), 0);
    cr_assert_eq(commit, end);
    cr_assert_eq(flush, end, "the record itself is not taken");
    cr_assert_eq(got.len, all.len);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

Test(daemon, sealed_timeline_is_filled_by_the_tool_alone_and_votes_for_nobody)
{
    /* A new safekeeper gets the committed log of what is sealed. A compute cannot bring a record in
     * the same way, and the tool gets no vote with which it could make one. */
    struct sk_process p;
    struct sk_talk t, tool;
    struct tip tip = tip_first();
    struct q_msg m;
    AUTO_BUF all = {0};
    AUTO_BUF one = {0};
    daemon_start(&p, fresh);
    talk_open(&t, &p);
    cr_assert_eq(talk_put(&t, 1, SEALED), 0);
    make_config(&tip, 1, &all);
    make_record(&tip, 2, &all);
    lsn_t end = tip.lsn;
    struct q_term terms[] = {{1, LSN_FIRST}, {5, end}};
    struct q_msg elected = {.type = FRAME_ELECTED,
                            .term = 5,
                            .nonce = talk_nonce,
                            .history = {.n = 2, .e = terms},
                            .start_lsn = LSN_FIRST};
    talk_open_as(&tool, &p, CORALLITE__ROLE__ROLE_TOOL);
    talk_send(&tool, &(struct q_msg){.type = FRAME_VOTE, .term = 4, .nonce = talk_nonce});
    expect_error(&tool, CO_ERR_READONLY, "sealed");
    talk_send(&tool, &elected);
    talk_expect(&tool, FRAME_ACK, &m);
    talk_append(&t, 5, LSN_FIRST, end, &all);
    expect_error(&t, CO_ERR_READONLY, "reopen");
    talk_append(&tool, 5, LSN_FIRST, end, &all);
    do
        talk_expect(&tool, FRAME_ACK, &m);
    while (m.flush_lsn < end);
    /* A record that the term of the filler wrote itself is none of the history. */
    make_record(&tip, 1, &one);
    talk_append(&tool, 5, end, end, &one);
    talk_send(&tool, &(struct q_msg){.type = FRAME_READ_POS, .read_id = 7});
    talk_expect(&tool, FRAME_POS, &m);
    cr_assert_eq(m.flush_lsn, end);
    cr_assert_eq(m.commit_lsn, end);
    talk_close(&tool);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
    daemon_start(&p, NULL);
    talk_open(&t, &p);
    expect_stream(&t, &all);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

Test(daemon, hello_of_another_cluster_node_or_disk_is_refused)
{
    /* O1, O2 */
    struct sk_process p;
    daemon_start(&p, fresh);
    for (int i = 0; i < 4; i++) {
        struct co_id cluster = cluster_id(), disk = {{9}};
        struct psock s = {.fd = -1};
        if (i == 0)
            cluster.b[0] ^= 1;
        Corallite__Hello hello = talk_hello(&cluster);
        if (i == 1) {
            hello.has_expect_node = 1;
            hello.expect_node = 2;
        } else if (i == 2) {
            hello.has_expect_disk = 1;
            hello.expect_disk = msg_bytes16(disk.b);
        } else if (i == 3) {
            hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION + 1;
        }
        int rc = psock_connect(&s, "127.0.0.1", p.port, &hello, in_5_s(), NULL);
        static const int want[] = {CO_ERR_CLUSTER, CO_ERR_NODE, CO_ERR_NODE, CO_ERR_VERSION};
        cr_assert_eq(rc, want[i], "%d: %d %s", i, rc, co_sentence());
        psock_close(&s);
    }
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

Test(daemon, who_comes_to_follow_while_the_file_is_written_is_in_it_too)
{
    /* One file at a time, the newest content each time. Under ASan: what was written is let go. */
    struct sk_process p;
    struct psock s[SK_FOLLOWERS_MAX];
    struct sk_followers f = {0};
    char dir[SK_PATH_MAX];
    daemon_start(&p, fresh);
    daemon_dir(dir);
    for (uint8_t i = 0; i < SK_FOLLOWERS_MAX; i++) {
        struct co_id cluster = cluster_id(), disk = {{0x50, i}};
        Corallite__Hello hello = talk_hello(&cluster);
        hello.role = CORALLITE__ROLE__ROLE_PAGESERVER;
        hello.has_follower = 1;
        hello.follower = msg_bytes16(disk.b);
        s[i] = (struct psock){.fd = -1};
        cr_assert_eq(psock_connect(&s[i], "127.0.0.1", p.port, &hello, in_5_s(), NULL), 0, "%s",
                     co_sentence());
    }
    for (int i = 0; i < 500 * (int)slower() && sk_followers_count(&f) < SK_FOLLOWERS_MAX; i++) {
        usleep(10000);
        cr_assert_eq(sk_followers_load(dir, &f), 0, "%s", co_sentence());
    }
    cr_assert_eq(sk_followers_count(&f), SK_FOLLOWERS_MAX);
    for (int i = 0; i < (int)SK_FOLLOWERS_MAX; i++)
        psock_close(&s[i]);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

static void one_timeline_then_stop(lsn_t *second)
{
    struct sk_process p;
    struct sk_talk t;
    struct tip tip = tip_first();
    AUTO_BUF all = {0};
    start_and_lead(&p, &t);
    write_records(&t, &tip, 1, &all);
    *second = tip.lsn;
    write_records(&t, &tip, 4, &all);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

/* It gives neither a vote nor an acknowledgement nor a record, and says why. */
static void expect_refused(struct sk_talk *t, const char *word)
{
    struct q_term terms[] = {{2, LSN_FIRST}};
    AUTO_BUF got = {0};
    lsn_t commit, flush;
    talk_send(t, &(struct q_msg){.type = FRAME_VOTE, .term = 2, .nonce = talk_nonce});
    expect_error(t, CO_ERR_CORRUPT, word);
    talk_send(t, &(struct q_msg){.type = FRAME_ELECTED,
                                 .term = 2,
                                 .nonce = talk_nonce,
                                 .history = {.n = 1, .e = terms},
                                 .start_lsn = LSN_FIRST});
    expect_error(t, CO_ERR_CORRUPT, word);
    talk_append(t, 2, LSN_FIRST, LSN_FIRST, &got);
    expect_error(t, CO_ERR_CORRUPT, word);
    talk_send(t, &(struct q_msg){.type = FRAME_READ_POS, .read_id = 1});
    expect_error(t, CO_ERR_CORRUPT, word);
    cr_assert_eq(talk_stream(t, LSN_FIRST, 0, &got, &commit, &flush), CO_ERR_CORRUPT);
}

Test(daemon, rot_is_refused_at_start_by_its_timeline_alone_and_named)
{
    /* D5: timeline, file, LSN and what to do. It votes and acknowledges nothing; others do. */
    lsn_t second;
    char path[SK_PATH_MAX], id[CO_ID_TEXT], at[LSN_TEXT];
    struct sk_process p;
    struct sk_talk t;
    struct q_msg m;
    one_timeline_then_stop(&second);
    co_id_format(&fixture()->owner.timeline, id);
    daemon_timeline_path(path, "/log/0000000000000000.seg");
    flip(path, segment_offset(second) + 300);
    lsn_format(second, at);
    daemon_start(&p, NULL);
    const char *const words[] = {id, at, "0000000000000000.seg", "replace", "damaged=1"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        cr_assert(strstr(p.text, words[i]), "'%s' in %s", words[i], p.text);
    talk_open(&t, &p);
    expect_refused(&t, at);
    uint8_t damaged = fixture()->owner.timeline.b[7];
    fixture()->owner.timeline.b[7] = 99;
    cr_assert_eq(talk_put(&t, 1, ACTIVE), 0);
    talk_send(&t, &(struct q_msg){.type = FRAME_VOTE, .term = 1, .nonce = talk_nonce});
    talk_expect(&t, FRAME_VOTED, &m);
    cr_assert(m.granted);
    fixture()->owner.timeline.b[7] = damaged;
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
    /* Nothing was changed by that: with the byte as it was it is whole. */
    flip(path, segment_offset(second) + 300);
    daemon_start(&p, NULL);
    cr_assert(strstr(p.text, "damaged=0"), "%s", p.text);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

Test(daemon, files_of_another_safekeeper_refuse_the_start)
{
    /* A whole directory that is another's is no damage of one timeline. */
    lsn_t second;
    char control[SK_PATH_MAX], timeline[SK_PATH_MAX], other[SK_PATH_MAX], command[3 * SK_PATH_MAX];
    struct sk_process p;
    struct sk_talk t;
    one_timeline_then_stop(&second);
    daemon_start(&p, NULL);
    talk_open(&t, &p);
    uint8_t was = fixture()->owner.timeline.b[7];
    daemon_timeline_path(timeline, "");
    daemon_timeline_path(control, "/control");
    fixture()->owner.timeline.b[7] = 99;
    cr_assert_eq(talk_put(&t, 1, ACTIVE), 0);
    daemon_timeline_path(other, "/control");
    fixture()->owner.timeline.b[7] = was;
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
    snprintf(command, sizeof command, "cp '%s' '%s'", other, control);
    cr_assert_eq(system(command), 0);
    daemon_refuses(NULL, (const char *const[]){"were mixed", timeline, NULL});
}

Test(daemon, failed_write_ends_the_service_and_nothing_is_acknowledged)
{
    /* S6, D2: never retried, never acknowledged, exit with a sentence. */
    struct sk_process p;
    struct sk_talk t;
    struct tip tip = tip_first();
    AUTO_BUF all = {0}, one = {0};
    char segment[SK_PATH_MAX], aside[SK_PATH_MAX];
    start_and_lead(&p, &t);
    write_records(&t, &tip, 3, &all);
    usleep(800000); /* idle work is done, descriptors are closed */
    daemon_timeline_path(segment, "/log/0000000000000000.seg");
    daemon_path(aside, "aside");
    cr_assert_eq(rename(segment, aside), 0);
    cr_assert_eq(symlink("/dev/full", segment), 0);
    lsn_t begin = tip.lsn;
    make_record(&tip, 1, &one);
    talk_append(&t, 1, begin, begin, &one);
    cr_assert_not(daemon_listen(&p, NULL));
    cr_assert(strstr(p.text, "stopping: cannot write"), "%s", p.text);
    cr_assert(strstr(p.text, "0000000000000000.seg"), "%s", p.text);
    cr_assert_eq(daemon_wait(&p), 1);
    struct pollfd pf = {.fd = t.sock.fd, .events = POLLIN};
    uint8_t byte;
    while (poll(&pf, 1, 100) > 0 && recv(t.sock.fd, &byte, 1, 0) > 0)
        cr_assert_fail("something was answered after the write had failed");
    talk_close(&t);
    /* The disk is well again: the node comes back with what it had acknowledged. */
    cr_assert_eq(rename(aside, segment), 0);
    daemon_start(&p, NULL);
    talk_open(&t, &p);
    struct q_msg m;
    talk_send(&t, &(struct q_msg){.type = FRAME_READ_POS, .read_id = 1});
    talk_expect(&t, FRAME_POS, &m);
    cr_assert_eq(m.flush_lsn, begin);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

/* A frame with a right CRC and any type around 64 bytes. */
static void rubbish_frame(uint16_t type, const uint8_t message[64], struct co_buf *out)
{
    uint8_t h[FRAME_HEADER_BYTES] = {0};
    co_put32(h, 64);
    co_put16(h + 4, type);
    co_put64(h + 8, 7);
    co_put32(h + 20, 64);
    co_put32(h + 16, co_crc32c(co_crc32c(0, h, sizeof h), message, 64));
    cr_assert_eq(co_buf_append(out, h, sizeof h), 0);
    cr_assert_eq(co_buf_append(out, message, 64), 0);
}

Test(daemon, rubbish_on_the_socket_neither_kills_nor_hangs)
{
    /* Promise 7. */
    struct sk_process p;
    struct sk_talk t;
    struct q_msg m;
    struct tip tip = tip_first();
    AUTO_BUF all = {0};
    start_and_lead(&p, &t);
    write_records(&t, &tip, 3, &all);
    for (int i = 0; i < 60; i++) {
        struct sk_talk bad;
        AUTO_BUF bytes = {0};
        uint8_t message[64];
        talk_open(&bad, &p);
        co_random_bytes(message, sizeof message);
        rubbish_frame((uint16_t)(i % 64), message, &bytes);
        int rc = psock_queue(&bad.sock, co_buf_span(&bytes));
        (void)rc;
        /* A message of the right form with mad numbers. */
        struct q_msg mad = {.type = i % 2 ? FRAME_APPEND : FRAME_FETCH,
                            .timeline = fixture()->owner.timeline,
                            .term = 1,
                            .nonce = talk_nonce,
                            .begin_lsn = (lsn_t)-8,
                            .from_lsn = LSN_FIRST + 8 * (lsn_t)i,
                            .to_lsn = (lsn_t)-1,
                            .commit_lsn = LSN_FIRST,
                            .payload = co_span_of(message, i % 2 ? 64 : 0)};
        bytes.len = 0;
        cr_assert_eq(qmsg_encode(&mad, &bytes), 0);
        struct sk_talk other;
        talk_open(&other, &p);
        rc = psock_queue(&other.sock, co_buf_span(&bytes));
        talk_close(&other);
        talk_close(&bad);
    }
    talk_send(&t, &(struct q_msg){.type = FRAME_READ_POS, .read_id = 9});
    talk_expect(&t, FRAME_POS, &m);
    cr_assert_eq(m.flush_lsn, tip.lsn);
    expect_stream(&t, &all);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

Test(daemon, appends_that_arrive_during_a_sync_share_the_next_one)
{
    /* Group commit: fewer syncs than appends, and a status that tells. */
    struct sk_process p;
    struct sk_talk t;
    struct tip tip = tip_first();
    AUTO_BUF all = {0}, body = {0};
    struct frame_header frame;
    start_and_lead(&p, &t);
    write_records(&t, &tip, 500, &all);
    talk_close(&t);
    talk_open(&t, &p);
    cr_assert_eq(psock_call(&t.sock, FRAME_NODE_STATUS, NULL, (struct co_span){0}, in_5_s(), &frame,
                            &body, NULL),
                 0, "%s", co_sentence());
    Corallite__NodeStatus *st =
        corallite__node_status__unpack(NULL, frame.message_bytes, body.data);
    cr_assert(st);
    cr_assert_eq(st->records, 500);
    cr_assert_eq(st->node, 1);
    cr_assert_eq(st->timelines, 1);
    cr_assert_gt(st->syncs, 0);
    cr_assert_lt(st->syncs, 400, "%llu syncs for 500 pipelined appends",
                 (unsigned long long)st->syncs);
    cr_assert_eq(st->n_timeline, 1);
    cr_assert_str_eq(st->timeline[0]->name, "shop/main");
    cr_assert_eq(st->timeline[0]->records, 500);
    cr_assert_eq(st->timeline[0]->commit_lsn, tip.lsn);
    cr_assert_gt(st->timeline[0]->bytes_in, all.len);
    corallite__node_status__free_unpacked(st, NULL);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

Test(daemon, damage_found_later_halts_that_timeline_alone)
{
    /* G6: fail-stop for the one, service for the others. */
    struct sk_process p;
    struct sk_talk t;
    struct q_msg m;
    char control[SK_PATH_MAX];
    daemon_start(&p, fresh);
    talk_open(&t, &p);
    cr_assert_eq(talk_put(&t, 1, ACTIVE), 0);
    daemon_timeline_path(control, "/control");
    flip(control, 80);
    flip(control, 4096 + 80);
    talk_send(&t, &(struct q_msg){.type = FRAME_VOTE, .term = 1, .nonce = talk_nonce});
    expect_error(&t, CO_ERR_CORRUPT, "control");
    talk_send(&t, &(struct q_msg){.type = FRAME_READ_POS, .read_id = 1});
    expect_error(&t, CO_ERR_CORRUPT, "halted");
    fixture()->owner.timeline.b[7] = 99;
    cr_assert_eq(talk_put(&t, 1, ACTIVE), 0);
    talk_send(&t, &(struct q_msg){.type = FRAME_VOTE, .term = 1, .nonce = talk_nonce});
    talk_expect(&t, FRAME_VOTED, &m);
    cr_assert(m.granted);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

Test(daemon, contradiction_halts_the_timeline_and_is_remembered)
{
    /* I5, G6: a leader that asks to truncate below the commit LSN is not obeyed. */
    struct sk_process p;
    struct sk_talk t;
    struct q_msg m;
    struct tip tip = tip_first();
    AUTO_BUF all = {0};
    start_and_lead(&p, &t);
    write_records(&t, &tip, 4, &all);
    struct q_term terms[] = {{2, LSN_FIRST}};
    talk_send(&t, &(struct q_msg){.type = FRAME_VOTE, .term = 2, .nonce = talk_nonce});
    talk_expect(&t, FRAME_VOTED, &m);
    talk_send(&t, &(struct q_msg){.type = FRAME_ELECTED,
                                  .term = 2,
                                  .nonce = talk_nonce,
                                  .history = {.n = 1, .e = terms},
                                  .start_lsn = LSN_FIRST});
    for (int round = 0; round < 2; round++) {
        talk_send(&t, &(struct q_msg){.type = FRAME_READ_POS, .read_id = 1});
        expect_error(&t, CO_ERR_HALTED, "truncate below");
        talk_close(&t);
        cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
        daemon_start(&p, NULL);
        talk_open(&t, &p);
    }
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

Test(daemon, stops_cleanly_under_load_with_connections_open)
{
    /* SIGTERM: what was acknowledged is sealed, exit 0, in bounded time. */
    struct sk_process p;
    struct sk_talk t, idle;
    struct q_msg m;
    struct tip tip = tip_first();
    lsn_t acked = LSN_FIRST;
    daemon_start(&p, fresh);
    talk_open(&t, &p);
    talk_open(&idle, &p);
    cr_assert_eq(talk_put(&t, 1, ACTIVE), 0);
    talk_lead(&t, 1, &history_1, LSN_FIRST);
    for (int i = 0; i < 200; i++) {
        AUTO_BUF one = {0};
        lsn_t begin = tip.lsn;
        make_record(&tip, 2, &one);
        talk_append(&t, 1, begin, LSN_FIRST, &one);
        if (i == 100) {
            talk_expect(&t, FRAME_ACK, &m);
            acked = m.flush_lsn;
        }
    }
    uint64_t before = co_now_us();
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
    cr_assert_lt(co_now_us() - before, 4000000 * slower());
    talk_close(&t);
    talk_close(&idle);
    daemon_start(&p, NULL);
    talk_open(&t, &p);
    talk_send(&t, &(struct q_msg){.type = FRAME_READ_POS, .read_id = 1});
    talk_expect(&t, FRAME_POS, &m);
    cr_assert_geq(m.flush_lsn, acked);
    cr_assert_gt(acked, LSN_FIRST);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

Test(daemon, missing_directory_and_missing_registry_are_refused)
{
    /* D8, M18: listed but missing on disk is a halt; so is a registry that is gone. */
    lsn_t second;
    char from[SK_PATH_MAX], to[SK_PATH_MAX], id[CO_ID_TEXT];
    one_timeline_then_stop(&second);
    co_id_format(&fixture()->owner.timeline, id);
    daemon_timeline_path(from, "");
    snprintf(to, sizeof to, "%s/aside", fixture()->dir);
    cr_assert_eq(rename(from, to), 0);
    daemon_refuses(NULL, (const char *const[]){id, "missing", NULL});
    cr_assert_eq(rename(to, from), 0);
    daemon_path(from, "registry");
    cr_assert_eq(rename(from, to), 0);
    daemon_refuses(NULL, (const char *const[]){"registry", NULL});
}

Test(daemon, port_in_use_and_bad_options_get_sentences)
{
    /* The rule: bad input gets a sentence. */
    struct sk_process p, other;
    char address[64];
    daemon_start(&p, fresh);
    snprintf(address, sizeof address, "127.0.0.1:%u", p.port);
    char dir[SK_PATH_MAX];
    snprintf(dir, sizeof dir, "%s/other", fixture()->dir);
    daemon_refuses(
        (const char *const[]){"--cluster", CLUSTER_TEXT, "--dir", dir, "--listen", address, NULL},
        (const char *const[]){"in use", address, NULL});
    daemon_refuses(fresh, (const char *const[]){"sk", NULL}); /* the directory is in use */
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
    static const char *const bad[][3] = {{"--listen", "0.0.0.0:0", "--insecure-listen"},
                                         {"--node", "0", "--node"},
                                         {"--cluster", "xyz", "--cluster"},
                                         {"--log-level", "loud", "log level"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        daemon_spawn(&other, (const char *const[]){bad[i][0], bad[i][1], NULL});
        daemon_listen(&other, NULL);
        cr_assert_eq(daemon_wait(&other), 2, "%s", other.text);
        cr_assert(strstr(other.text, bad[i][2]), "%s", other.text);
    }
}
