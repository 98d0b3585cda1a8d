/* test_rest.c - many timelines in the real process: few are open, and nobody notices. */
#include "tests/unit/safekeeper/daemon_fixture.h"
#include "tests/unit/slower.h"

static void setup(void)
{
    fixture_setup();
    fixture()->owner.cluster = cluster_id();
}

TestSuite(rest, .init = setup, .fini = fixture_teardown, .timeout = 60);

#define ACTIVE CORALLITE__TIMELINE_STATE__TIMELINE_ACTIVE

static const char *const fresh[] = {"--cluster", CLUSTER_TEXT, NULL};
static const char *const one_open[] = {"--cluster", CLUSTER_TEXT, "--open-timelines", "1", NULL};
static const struct q_term term_1[] = {{1, LSN_FIRST}};
static const struct q_history history_1 = {.n = 1, .e = term_1};

/* What follows is about this timeline. */
static void turn_to(uint8_t k)
{
    fixture()->owner.timeline.b[0] = k;
}

/* Leads it in term 1, and commits n records. */
static void write_some(struct sk_talk *t, struct tip *tip, int n, struct co_buf *all)
{
    struct q_msg m;
    AUTO_BUF none = {0};
    *tip = tip_first();
    talk_lead(t, 1, &history_1, LSN_FIRST);
    for (int i = 0; i < n; i++) {
        AUTO_BUF one = {0};
        lsn_t begin = tip->lsn;
        if (i == 0)
            make_config(tip, 1, &one);
        else
            make_record(tip, 1, &one);
        talk_append(t, 1, begin, LSN_FIRST, &one);
        cr_assert_eq(co_buf_append(all, one.data, one.len), 0);
    }
    do
        talk_expect(t, FRAME_ACK, &m);
    while (m.flush_lsn < tip->lsn);
    talk_append(t, 1, tip->lsn, tip->lsn, &none);
    do
        talk_expect(t, FRAME_ACK, &m);
    while (m.commit_lsn < tip->lsn);
}

/* Its control block, as it lies on the disk. */
static struct sk_control control_of(uint8_t k)
{
    struct sk_owner owner = fixture()->owner;
    struct sk_control_file file;
    struct sk_control control;
    char path[SK_PATH_MAX], id[CO_ID_TEXT];
    turn_to(k);
    owner.timeline = fixture()->owner.timeline;
    cr_assert_eq(sk_io_path(path, "%s/sk/timelines/%s/control", fixture()->dir,
                            co_id_format(&owner.timeline, id)),
                 0);
    /* The disk is the daemon's own: its id is in the block. */
    AUTO_BUF bytes = {0};
    cr_assert_eq(sk_io_read_all(path, 1 << 20, &bytes), 0, "%s", co_sentence());
    memcpy(owner.disk.b, bytes.data + 56, 16);
    owner.node = 1;
    cr_assert_eq(sk_control_open(path, &owner, &file, &control), 0, "%s", co_sentence());
    sk_control_close(&file);
    return control;
}

static bool closed_within(uint8_t k, int seconds)
{
    for (int i = 0; i < seconds * 20; i++) {
        if (control_of(k).clean)
            return true;
        usleep(50000);
    }
    return false;
}

static void expect_all(struct sk_talk *t, const struct co_buf *all)
{
    AUTO_BUF part = {0};
    lsn_t at = LSN_FIRST, commit, flush;
    while (at - LSN_FIRST < all->len) {
        cr_assert_eq(talk_stream(t, at, 1000, &part, &commit, &flush), 0, "%s", co_sentence());
        cr_assert_gt(part.len, 0);
        cr_assert_eq(memcmp(part.data, all->data + (at - LSN_FIRST), part.len), 0);
        at += part.len;
    }
}

Test(rest, idle_timelines_are_closed_but_for_those_that_are_led_and_open_again)
{
    /* The rule: a timeline that is closed and opened knows what a restart would have known. */
    struct sk_process p;
    struct sk_talk t[4];
    struct tip tip[4];
    struct co_buf all[4] = {{0}};
    struct q_msg m;
    daemon_start(&p, one_open);
    for (uint8_t k = 1; k <= 3; k++) {
        turn_to(k);
        talk_open(&t[k], &p);
        cr_assert_eq(talk_put(&t[k], 1, ACTIVE), 0, "%s", co_sentence());
        write_some(&t[k], &tip[k], 3 + k, &all[k]);
    }
    talk_close(&t[1]);
    talk_close(&t[2]);
    cr_assert(closed_within(1, 20) && closed_within(2, 20));
    cr_assert_not(control_of(3).clean, "its leader is there");
    for (uint8_t k = 1; k <= 2; k++) {
        turn_to(k);
        talk_open(&t[k], &p);
        talk_send(&t[k], &(struct q_msg){.type = FRAME_READ_POS, .read_id = k});
        talk_expect(&t[k], FRAME_POS, &m);
        cr_assert_eq(m.flush_lsn, tip[k].lsn);
        cr_assert_eq(m.commit_lsn, tip[k].lsn);
        expect_all(&t[k], &all[k]);
        talk_send(&t[k], &(struct q_msg){.type = FRAME_VOTE, .term = 1, .nonce = {{0x99}}});
        talk_expect(&t[k], FRAME_VOTED, &m);
        cr_assert_not(m.granted, "the vote of term 1 is remembered");
        talk_send(&t[k], &(struct q_msg){.type = FRAME_VOTE, .term = 2, .nonce = {{0x77}}});
        talk_expect(&t[k], FRAME_VOTED, &m);
        cr_assert(m.granted, "the lease had run out before it was closed: nobody waits for it");
    }
    /* The leader that stayed goes on where it was. */
    AUTO_BUF more = {0};
    turn_to(3);
    make_record(&tip[3], 2, &more);
    talk_append(&t[3], 1, tip[3].lsn - more.len, tip[3].lsn - more.len, &more);
    do
        talk_expect(&t[3], FRAME_ACK, &m);
    while (m.flush_lsn < tip[3].lsn);
    for (uint8_t k = 1; k <= 3; k++) {
        talk_close(&t[k]);
        co_buf_free(&all[k]);
    }
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

/* TIMELINE_LIST with `watch`: how many were told, each committed at `lsn` (0: any but 0). */
static uint32_t watch(struct sk_talk *t, lsn_t lsn)
{
    Corallite__TimelineList list = CORALLITE__TIMELINE_LIST__INIT;
    uint32_t n = 0;
    struct co_id after;
    list.has_watch = list.watch = 1;
    for (bool more = true; more;) {
        struct frame_header frame;
        AUTO_BUF body = {0};
        cr_assert_eq(psock_call(&t->sock, FRAME_TIMELINE_LIST, &list.base, (struct co_span){0},
                                in_5_s(), &frame, &body, NULL),
                     0, "%s", co_sentence());
        Corallite__TimelineListed *m =
            corallite__timeline_listed__unpack(NULL, frame.message_bytes, body.data);
        cr_assert(m && m->has_news && m->n_commit_lsn == m->n_timelines);
        for (size_t i = 0; i < m->n_timelines; i++)
            cr_assert(lsn ? m->commit_lsn[i] == lsn : m->commit_lsn[i] != 0, "%llu",
                      (unsigned long long)m->commit_lsn[i]);
        n += (uint32_t)m->n_timelines;
        more = m->more;
        if (more)
            memcpy(after.b, m->timelines[m->n_timelines - 1]->id.data, 16);
        list.has_after = more;
        list.after = msg_bytes16(after.b);
        corallite__timeline_listed__free_unpacked(m, NULL);
    }
    return n;
}

Test(rest, watcher_is_told_where_a_commit_lsn_moved)
{
    /* The rule: nobody has to ask for each of many timelines whether there is something new. */
    struct sk_process p;
    struct sk_talk t, watcher;
    struct tip tip;
    AUTO_BUF all = {0};
    lsn_t told = 0;
    daemon_start(&p, fresh);
    talk_open(&t, &p);
    talk_open(&watcher, &p);
    cr_assert_eq(watch(&watcher, 0), 0);
    cr_assert_eq(talk_put(&t, 1, ACTIVE), 0);
    write_some(&t, &tip, 5, &all);
    while (told != tip.lsn) {
        struct frame_header frame;
        struct co_span body;
        cr_assert(talk_next(&watcher, 5000 * (int)slower(), &frame, &body),
                  "nothing was told within 5 s");
        cr_assert_eq(frame.type, FRAME_TIMELINE_LISTED);
        cr_assert_eq(frame.request_id, 0);
        Corallite__TimelineListed *m =
            corallite__timeline_listed__unpack(NULL, frame.message_bytes, body.data);
        cr_assert(m && m->has_news && m->n_commit_lsn == 1 && m->news.len == 16);
        cr_assert_eq(memcmp(m->news.data, fixture()->owner.timeline.b, 16), 0);
        cr_assert_gt(m->commit_lsn[0], told);
        told = m->commit_lsn[0];
        corallite__timeline_listed__free_unpacked(m, NULL);
    }
    talk_close(&t);
    talk_close(&watcher);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
    daemon_start(&p, NULL);
    talk_open(&watcher, &p);
    cr_assert_eq(watch(&watcher, tip.lsn), 1, "the same after a restart");
    talk_close(&watcher);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}

Test(rest, disk_that_fails_when_a_timeline_is_opened_ends_the_process)
{
    /* D4: the start, which does the same, would not have gone on either. Found by tests/fullsim,
     * seed 773453458: the timeline was refused until somebody started the process again. */
    struct sk_process p;
    struct sk_talk t;
    char path[SK_PATH_MAX], id[CO_ID_TEXT];
    daemon_start(&p, fresh);
    talk_open(&t, &p);
    for (uint8_t k = 1; k <= 20; k++) {
        turn_to(k);
        cr_assert_eq(talk_put(&t, 1, ACTIVE), 0, "%s", co_sentence());
    }
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
    cr_assert_eq(sk_io_path(path, "%s/sk/timelines/%s/control", fixture()->dir,
                            co_id_format(&fixture()->owner.timeline, id)),
                 0);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(mkdir(path, 0700), 0);
    daemon_start(&p, NULL);
    talk_open(&t, &p);
    talk_send(&t, &(struct q_msg){.type = FRAME_READ_POS, .read_id = 1});
    cr_assert_eq(daemon_wait(&p), 1);
    talk_close(&t);
}

Test(rest, start_opens_few_of_many_and_knows_how_far_all_are)
{
    /* The rule: a start costs what is in use, not what there is. */
    struct sk_process p;
    struct sk_talk t;
    daemon_start(&p, fresh);
    talk_open(&t, &p);
    for (uint8_t k = 1; k <= 60; k++) {
        turn_to(k);
        cr_assert_eq(talk_put(&t, 1, ACTIVE), 0, "%s", co_sentence());
    }
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGKILL), -SIGKILL);
    daemon_start(&p, NULL);
    cr_assert(strstr(p.text, "timelines=60 open=16 later=44"), "%s", p.text);
    talk_open(&t, &p);
    cr_assert_eq(watch(&t, LSN_FIRST), 60);
    for (uint8_t k = 17; k <= 60; k++)
        cr_assert(control_of(k).clean, "%u was opened", k);
    talk_close(&t);
    cr_assert_eq(daemon_stop(&p, SIGTERM), 0);
}
