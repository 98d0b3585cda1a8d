/* test_witness.c - disks that go back in time: what an acceptor believes of itself and of others,
 * and the files that it is kept in. */
#include <criterion/criterion.h>
#include "safekeeper/acceptor.h"
#include "safekeeper/lives_file.h"
#include "safekeeper/witness_file.h"
#include "tests/unit/safekeeper/fixture.h"

#define L_US 3000000u

static struct sk_acceptor *sk;
static struct sk_actions acts;
static uint64_t now = 1000000;
static const struct co_id timeline = {{2}}, nonce = {{7}};
static const struct q_term history[] = {{5, LSN_FIRST}};

/* Node 1, started for the 4th time: voted in term 5, its log ends at LSN_FIRST + 800. */
static struct sk_boot state(void)
{
    return (struct sk_boot){.timeline = timeline,
                            .durable = {.no_lease = true,
                                        .term = 5,
                                        .voted_nonce = nonce,
                                        .commit_lsn = LSN_FIRST,
                                        .floor_lsn = LSN_FIRST,
                                        .history = (struct q_term *)history,
                                        .n_history = 1},
                            .start_lsn = LSN_FIRST,
                            .flush_lsn = LSN_FIRST + 800,
                            .config = {.version = 1,
                                       .n = 3,
                                       .members = {{.node_id = 1}, {.node_id = 2}, {.node_id = 3}}},
                            .node = 1,
                            .now_us = now,
                            .lease_us = L_US,
                            .starts = 4,
                            .start_id = 44};
}

static void boot(const struct sk_boot *b)
{
    sk_acceptor_free(sk);
    cr_assert_eq(sk_acceptor_new(b, &sk), 0);
}

static void setup(void)
{
    struct sk_boot b = state();
    boot(&b);
}

static void teardown(void)
{
    sk_acceptor_free(sk);
    sk_actions_free(&acts);
}

TestSuite(witness, .init = setup, .fini = teardown, .timeout = 20);

static const struct sk_action *did(enum sk_action_kind kind)
{
    for (uint32_t i = 0; i < acts.n; i++)
        if (acts.a[i].kind == kind)
            return &acts.a[i];
    return NULL;
}

static const struct q_msg *sent(enum frame_type type)
{
    for (uint32_t i = 0; i < acts.n; i++)
        if (acts.a[i].kind == SK_SEND && acts.a[i].msg.type == type)
            return &acts.a[i].msg;
    return NULL;
}

static void hear(enum frame_type type, term_t term, uint32_t n, const struct q_known *e)
{
    struct q_msg m = {.type = type,
                      .timeline = timeline,
                      .term = term,
                      .nonce = {{9}},
                      .known = {n, e},
                      .begin_lsn = LSN_FIRST + 800};
    struct sk_event ev = {.kind = SK_EV_MSG, .now_us = now, .conn = 1, .msg = &m};
    cr_assert_eq(sk_step(sk, &ev, &acts), 0);
}

/* A VOTE that says this of node 1. */
static bool refused_by(struct q_known e)
{
    struct sk_boot b = state();
    boot(&b);
    e.node = 1;
    hear(FRAME_VOTE, 9, 1, &e);
    bool refused = did(SK_REGRESSED) != NULL;
    cr_assert_eq(refused, sent(FRAME_VOTED) == NULL, "no vote is given by one that is refused");
    cr_assert_eq(refused, did(SK_PERSIST) == NULL);
    cr_assert_eq(refused, sent(FRAME_REGRESSED) != NULL);
    return refused;
}

Test(witness, more_than_it_has_is_proof_and_what_it_has_is_none)
{
    /* Each number of an entry, at what the node has and one step beyond. */
    cr_assert(!refused_by((struct q_known){.starts = 4, .start_id = 44}));
    cr_assert(!refused_by((struct q_known){.starts = 3, .start_id = 33}));
    cr_assert(refused_by((struct q_known){.starts = 5, .start_id = 55}));
    cr_assert(refused_by((struct q_known){.starts = 4, .start_id = 45}), "two disks of one node");
    cr_assert(!refused_by((struct q_known){.term = 5}));
    cr_assert(refused_by((struct q_known){.term = 6}));
    cr_assert(!refused_by((struct q_known){.term = 5, .flush_lsn = LSN_FIRST + 800}));
    cr_assert(refused_by((struct q_known){.term = 5, .flush_lsn = LSN_FIRST + 808}));
    cr_assert(!refused_by((struct q_known){.term = 4, .flush_lsn = LSN_FIRST + 808}),
              "what was acknowledged in an older term may have been cut by the newer one");
    cr_assert(!refused_by((struct q_known){.commit_lsn = LSN_FIRST + 800}));
    cr_assert(refused_by((struct q_known){.commit_lsn = LSN_FIRST + 808}),
              "what is committed is never cut");
    cr_assert(!refused_by((struct q_known){.log_term = 5}));
    cr_assert(refused_by((struct q_known){.commit_lsn = LSN_FIRST + 8, .log_term = 6}),
              "a longer log of an older term is another one");
}

Test(witness, of_another_node_nothing_is_proof)
{
    struct q_known e = {.node = 2, .starts = 99, .term = 99, .commit_lsn = LSN_FIRST + 8000};
    hear(FRAME_VOTE, 9, 1, &e);
    cr_assert_null(did(SK_REGRESSED));
    cr_assert_not_null(sent(FRAME_VOTED));
}

Test(witness, a_log_in_doubt_says_itself_how_far_it_may_have_reached)
{
    /* Damage above the seal is mended by a leader; it must not be taken for an older image. */
    struct sk_boot b = state();
    b.durable.suspect_lsn = LSN_FIRST + 1600;
    b.durable.suspect_term = 5;
    boot(&b);
    struct q_known e = {
        .node = 1, .term = 5, .flush_lsn = LSN_FIRST + 1600, .commit_lsn = LSN_FIRST + 1600};
    hear(FRAME_VOTE, 9, 1, &e);
    cr_assert_null(did(SK_REGRESSED));
    e.commit_lsn += 8;
    hear(FRAME_VOTE, 10, 1, &e);
    cr_assert_not_null(did(SK_REGRESSED));
}

Test(witness, one_that_is_refused_does_nothing_more)
{
    struct q_known e = {.node = 1, .term = 6};
    hear(FRAME_VOTE, 9, 1, &e);
    cr_assert_not_null(did(SK_REGRESSED));
    hear(FRAME_VOTE, 10, 0, NULL);
    cr_assert_eq(acts.n, 0);
    hear(FRAME_READ_POS, 0, 0, NULL);
    cr_assert_eq(acts.n, 0);
    struct sk_view v;
    sk_view(sk, now, &v);
    cr_assert(v.regressed);
}

Test(witness, what_is_known_of_others_goes_to_the_disk_soon_and_is_told_with_the_vote)
{
    struct q_known e = {.node = 2,
                        .starts = 3,
                        .start_id = 33,
                        .term = 5,
                        .flush_lsn = LSN_FIRST + 400,
                        .commit_lsn = LSN_FIRST + 400};
    hear(FRAME_VOTE, 9, 1, &e);
    cr_assert_not_null(did(SK_WITNESS), "the first word is written at once");
    cr_assert_eq(did(SK_WITNESS)->known.n, 1);
    const struct q_msg *m = sent(FRAME_VOTED);
    cr_assert_eq(m->known.n, 2);
    cr_assert_eq(m->known.e[0].node, 1);
    cr_assert_eq(m->known.e[0].starts, 4);
    cr_assert_eq(m->known.e[0].start_id, 44);
    cr_assert_eq(memcmp(&m->known.e[1], &e, sizeof e), 0);
    /* W1: what its own log has as well is written once in a while only. */
    e.commit_lsn = e.flush_lsn += 8;
    hear(FRAME_VOTE, 10, 1, &e);
    cr_assert_null(did(SK_WITNESS));
    now += 1000000;
    hear(FRAME_VOTE, 11, 1, &e);
    cr_assert_not_null(did(SK_WITNESS));
    hear(FRAME_VOTE, 12, 1, &e);
    cr_assert_null(did(SK_WITNESS), "no news");
    /* W2: what it lacks sooner. */
    e.commit_lsn = e.flush_lsn = LSN_FIRST + 8000;
    now += 50000;
    hear(FRAME_VOTE, 13, 1, &e);
    cr_assert_not_null(did(SK_WITNESS));
    /* A clean stop leaves nothing behind. */
    e.commit_lsn += 8;
    hear(FRAME_VOTE, 14, 1, &e);
    cr_assert_null(did(SK_WITNESS));
    struct sk_event stop = {.kind = SK_EV_SHUTDOWN, .now_us = now};
    cr_assert_eq(sk_step(sk, &stop, &acts), 0);
    cr_assert_not_null(did(SK_WITNESS));
    cr_assert_eq(did(SK_WITNESS)->known.e[0].commit_lsn, e.commit_lsn);
}

Test(witness, a_position_says_what_is_known_to_be_committed_beyond_what_is_so_of_the_own_log)
{
    /* Else a reader who hears this one and one whose disk went back would miss a commit. The own
     * log may reach as far and still not have it: it is of an older term there. */
    static const lsn_t at[] = {LSN_FIRST, LSN_FIRST + 400, LSN_FIRST + 800, LSN_FIRST + 808};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        struct sk_boot b = state();
        struct q_known e = {.node = 2, .commit_lsn = at[i]};
        b.known = (struct q_known_list){1, &e};
        boot(&b);
        hear(FRAME_READ_POS, 0, 0, NULL);
        cr_assert_eq(sent(FRAME_POS)->known_commit, i ? at[i] : 0);
    }
}

/* ---- known.h ---- */

Test(witness, merging_keeps_the_most_of_each_and_of_an_older_term_no_acknowledgement)
{
    struct q_known a = {
        .node = 2, .starts = 3, .start_id = 33, .term = 5, .flush_lsn = 800, .commit_lsn = 400};
    struct q_known b = {
        .node = 2, .starts = 4, .start_id = 44, .term = 6, .flush_lsn = 480, .commit_lsn = 480};
    struct q_known m = a;
    cr_assert(q_known_merge(&m, &b));
    cr_assert_eq(m.starts, 4);
    cr_assert_eq(m.start_id, 44);
    cr_assert_eq(m.term, 6);
    cr_assert_eq(m.flush_lsn, 480, "800 was acknowledged in term 5, and may have been cut");
    cr_assert_eq(m.commit_lsn, 480);
    cr_assert(!q_known_merge(&m, &a), "nothing new");
    cr_assert(!q_known_merge(&m, &b));
}

/* ---- files ---- */

TestSuite(witness_file, .init = fixture_setup, .fini = fixture_teardown, .timeout = 20);

static void put_byte(const char *path, off_t at, uint8_t change)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    cr_assert(fd >= 0);
    cr_assert_eq(pread(fd, &byte, 1, at), 1);
    byte = (uint8_t)(byte ^ change);
    cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void put_at(const char *path, off_t at, char byte)
{
    int fd = open(path, O_RDWR);
    cr_assert(fd >= 0);
    cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

Test(witness_file, the_newest_sound_slot_counts_and_nothing_else)
{
    const char *dir = fixture()->dir;
    char path[SK_PATH_MAX];
    struct sk_witness_file f, got;
    cr_assert_eq(sk_io_path(path, "%s/witness", dir), 0);
    cr_assert_eq(sk_witness_read(dir, &timeline, &f), 0);
    cr_assert_eq(f.n, 0);
    struct q_known known[Q_KNOWN_MAX];
    for (uint32_t i = 0; i < Q_KNOWN_MAX; i++)
        known[i] = (struct q_known){i + 1, 2, 3, 4, 8 * i, 16 * i, 5 + i};
    struct q_known_list all = {Q_KNOWN_MAX, known};
    cr_assert_eq(sk_witness_store(dir, &timeline, &all, &f), 0);
    known[0].term = 77;
    cr_assert_eq(sk_witness_store(dir, &timeline, &all, &f), 0);
    cr_assert_eq(sk_witness_read(dir, &timeline, &got), 0);
    cr_assert_eq(got.n, f.n);
    cr_assert_eq(memcmp(got.known, f.known, sizeof f.known), 0);
    cr_assert(got.unsure, "what was read may be in the page cache only");
    put_at(path, 2048, 'x');
    cr_assert_eq(sk_witness_read(dir, &timeline, &got), 0);
    cr_assert_eq(got.n, f.n, "what stands behind the two slots takes nothing from them");
    put_byte(path, 100, 1); /* slot 0 has the second */
    cr_assert_eq(sk_witness_read(dir, &timeline, &got), 0);
    cr_assert_eq(got.known[0].term, 4);
    put_byte(path, 1024 + 100, 1);
    cr_assert_eq(sk_witness_read(dir, &timeline, &got), 0);
    cr_assert_eq(got.n, 0, "as one that is missing");
    static const struct co_id other = {{3}};
    put_byte(path, 100, 1);
    cr_assert_eq(sk_witness_read(dir, &other, &got), 0);
    cr_assert_eq(got.n, 0, "of another timeline");
}

Test(witness_file, what_a_start_has_read_is_written_anew_and_survives_rot_of_either_slot)
{
    /* Decision 25 */
    const char *dir = fixture()->dir;
    char path[SK_PATH_MAX];
    struct sk_witness_file f = {0}, got;
    struct q_known known = {.node = 2, .term = 4};
    cr_assert_eq(sk_io_path(path, "%s/witness", dir), 0);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(sk_witness_store(dir, &timeline, &(struct q_known_list){1, &known}, &f), 0);
        known.term++;
    }
    cr_assert_eq(sk_witness_read(dir, &timeline, &f), 0);
    cr_assert(f.unsure);
    cr_assert_eq(sk_witness_renew(dir, &timeline, &f), 0);
    cr_assert_not(f.unsure);
    for (off_t slot = 0; slot < 2; slot++) {
        put_byte(path, slot * 1024 + 100, 1);
        cr_assert_eq(sk_witness_read(dir, &timeline, &got), 0);
        cr_assert(got.n == 1 && got.known[0].term == 5);
        put_byte(path, slot * 1024 + 100, 1);
    }
    cr_assert_eq(sk_witness_store(dir, &timeline, &(struct q_known_list){1, &known}, &f), 0);
    cr_assert_eq(sk_witness_read(dir, &timeline, &got), 0);
    cr_assert_eq(got.known[0].term, 6);
}

Test(witness_file, each_start_is_counted_and_a_refusal_stays)
{
    const char *dir = fixture()->dir;
    char path[SK_PATH_MAX];
    struct sk_lives l;
    cr_assert_eq(sk_lives_begin(dir, 11, &l), 0);
    cr_assert_eq(l.starts, 1);
    cr_assert_eq(l.start_id, 11);
    cr_assert_eq(l.regressed[0], 0);
    cr_assert_eq(sk_lives_begin(dir, 12, &l), 0);
    cr_assert_eq(l.starts, 2);
    cr_assert_eq(sk_lives_regressed(dir, "its disk went back in time"), 0);
    cr_assert_eq(sk_lives_begin(dir, 13, &l), 0);
    cr_assert_eq(l.starts, 3);
    cr_assert_str_eq(l.regressed, "its disk went back in time");
    cr_assert_eq(sk_io_path(path, "%s/starts", dir), 0);
    put_byte(path, 9, 1);
    cr_assert_eq(sk_lives_begin(dir, 14, &l), CO_ERR_CORRUPT);
    cr_assert_not_null(strstr(co_sentence(), "safekeeper replace"));
}
