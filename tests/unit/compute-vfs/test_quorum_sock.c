#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "compute-vfs/quorum_sock.h"
#include "fake_safekeeper.h"
#include "tests/unit/slower.h"

/* One compute: a log and everything that it was told. */
struct side {
    struct cv_log *log;
    struct cv_lead lead;
    lsn_t tip;
    struct wal_digest digest;
    struct wal_builder *builder;
    lsn_t ends[4096]; /* of the records of this term, ends[0] is its start */
    unsigned n;

    pthread_mutex_t lock;
    /* written under `lock`, read by the test as they are */
    _Atomic term_t durable_term, received_term, lost_term, resolved_term;
    _Atomic lsn_t durable, received, kept;
    bool want_received;
    atomic_uint progress; /* told so often that bytes of a large record move */
    atomic_uint n_lost, n_contested, n_resolved, n_waiter, n_won;
    char reason[160];
    unsigned told_here; /* durable, told on the thread of the test */
    char disorder[160]; /* first breach of the order of events */
};

static struct fake_cluster fc;
static struct side a, b;
static pthread_t test_thread;

static void breach(struct side *s, const char *what)
{
    if (s->disorder[0] == 0)
        snprintf(s->disorder, sizeof s->disorder, "%s", what);
}

static void on_durable(void *owner, term_t term, lsn_t lsn)
{
    struct side *s = owner;

    pthread_mutex_lock(&s->lock);
    if (term == s->durable_term && lsn <= s->durable)
        breach(s, "durable LSN did not grow");
    if (term <= s->lost_term)
        breach(s, "durable after lost");
    s->durable_term = term;
    s->durable = lsn;
    s->told_here += pthread_equal(pthread_self(), test_thread) != 0;
    pthread_mutex_unlock(&s->lock);
}

static void on_received(void *owner, term_t term, lsn_t lsn)
{
    struct side *s = owner;

    pthread_mutex_lock(&s->lock);
    s->received_term = term;
    s->received = lsn;
    pthread_mutex_unlock(&s->lock);
}

static void on_progress(void *owner, term_t term)
{
    struct side *s = owner;

    pthread_mutex_lock(&s->lock);
    s->progress += term == s->lead.term;
    pthread_mutex_unlock(&s->lock);
}

static void on_lost(void *owner, term_t term, bool contested, const char *reason)
{
    struct side *s = owner;

    pthread_mutex_lock(&s->lock);
    if (term <= s->lost_term)
        breach(s, "a term lost twice");
    s->lost_term = term;
    s->n_lost++;
    s->n_contested += contested;
    snprintf(s->reason, sizeof s->reason, "%s", reason);
    pthread_mutex_unlock(&s->lock);
}

static void on_resolved(void *owner, term_t term, lsn_t kept)
{
    struct side *s = owner;

    pthread_mutex_lock(&s->lock);
    if (term > s->lost_term)
        breach(s, "resolved before lost");
    s->resolved_term = term;
    s->kept = kept;
    s->n_resolved++;
    pthread_mutex_unlock(&s->lock);
}

static void on_waiter(void *owner, bool anew)
{
    struct side *s = owner;

    (void)anew;
    pthread_mutex_lock(&s->lock);
    s->n_waiter++;
    pthread_mutex_unlock(&s->lock);
}

static void on_won(void *owner)
{
    struct side *s = owner;

    pthread_mutex_lock(&s->lock);
    s->n_won++;
    pthread_mutex_unlock(&s->lock);
}

static void side_open(struct side *s)
{
    struct cv_log_events events = {.owner = s,
                                   .durable = on_durable,
                                   .received = on_received,
                                   .progress = on_progress,
                                   .lost = on_lost,
                                   .resolved = on_resolved,
                                   .waiter = on_waiter,
                                   .won = on_won};

    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    cr_assert_eq(wal_builder_new(&s->builder), 0);
    cr_assert_eq(cv_quorum_open(&fc.timeline, &events, &s->log), 0, "%s", co_sentence());
}

static void side_close(struct side *s)
{
    if (s->log != NULL)
        s->log->ops->close(s->log, 3000);
    s->log = NULL;
    wal_builder_free(s->builder);
    s->builder = NULL;
    cr_expect_eq(s->disorder[0], 0, "%s", s->disorder);
}

static int lead(struct side *s, uint32_t timeout_ms)
{
    int rc = s->log->ops->lead(s->log, timeout_ms, NULL, NULL, &s->lead);

    if (rc == 0) {
        s->tip = s->lead.tip_lsn;
        s->digest = s->lead.digest;
        s->ends[0] = s->tip;
        s->n = 0;
    }
    return rc;
}

/* Appends one record of n pages that cannot be compressed. */
static void append_pages(struct side *s, uint32_t page_size, pgno_t n)
{
    static uint8_t page[65536];
    struct co_buf record = {0};
    struct wal_stamp stamp = {.cluster = fc.timeline.cluster,
                              .timeline = fc.timeline.timeline,
                              .term = s->lead.term,
                              .begin_lsn = s->tip,
                              .time_us = co_wall_us(),
                              .commit_uuid = co_id_random(),
                              .prev_digest = s->digest,
                              .db_pages = n};

    wal_builder_reset(s->builder, page_size);
    for (pgno_t pgno = 1; pgno <= n; pgno++) {
        co_random_bytes(page, page_size);
        cr_assert_eq(wal_builder_page(s->builder, pgno, page, NULL, 0), 0);
    }
    wal_builder_seal(s->builder, &stamp, &record, &s->digest);
    s->tip += record.len;
    s->ends[++s->n] = s->tip;
    struct cv_record given = {.bytes = record};
    s->log->ops->append(s->log, s->lead.term, &given, s->want_received);
    cr_assert(given.bytes.len == 0 && !given.spilled, "append takes the record");
}

/* Appends one small record. */
static void append(struct side *s)
{
    append_pages(s, 512, 1);
}

/* Waits until *what reaches want, at most ms. */
#define UNTIL(cond, ms)                                                                            \
    ({                                                                                             \
        uint64_t end_us_ = co_now_us() + (ms)*1000u;                                               \
        while (!(cond) && co_now_us() < end_us_)                                                   \
            usleep(1000);                                                                          \
        (cond);                                                                                    \
    })

static lsn_t durable_of(struct side *s)
{
    pthread_mutex_lock(&s->lock);
    lsn_t lsn = s->durable_term == s->lead.term ? s->durable : 0;
    pthread_mutex_unlock(&s->lock);
    return lsn;
}

static bool is_durable(struct side *s, uint32_t ms)
{
    return UNTIL(durable_of(s) >= s->tip, ms);
}

static bool is_resolved(struct side *s, term_t term, uint32_t ms)
{
    return UNTIL(s->resolved_term == term, ms);
}

/* All three have all of it. */
static bool is_everywhere(struct side *s, uint32_t ms)
{
    return UNTIL(fake_sk_flush(&fc.sk[0]) == s->tip && fake_sk_flush(&fc.sk[1]) == s->tip &&
                     fake_sk_flush(&fc.sk[2]) == s->tip,
                 ms);
}

static void setup(void)
{
    test_thread = pthread_self();
    fake_cluster_start(&fc);
    side_open(&a);
}

static void teardown(void)
{
    side_close(&a);
    if (b.log != NULL)
        side_close(&b);
    fake_cluster_stop(&fc);
}

TestSuite(quorum_sock, .init = setup, .fini = teardown, .timeout = 40);

/* -- commits ------------------------------------------------------------------------------------
 */

Test(quorum_sock, leads_and_commits)
{
    /* R3, R4: own start committed first; a record is durable at a majority before it is told */
    cr_assert_eq(lead(&a, 3000), 0, "%s", co_sentence());
    cr_assert_gt(a.lead.tip_lsn, LSN_FIRST, "the first leader's CONFIG record");
    for (unsigned i = 0; i < 100; i++)
        append(&a);
    cr_assert(is_durable(&a, 3000));
    unsigned have = 0;
    for (unsigned i = 0; i < 3; i++)
        have += fake_sk_flush(&fc.sk[i]) >= a.tip;
    cr_assert_geq(have, 2u);
    cr_assert(is_everywhere(&a, 2000));
    cr_assert_arr_eq(fc.sk[0].log.data, fc.sk[2].log.data, fc.sk[0].log.len);
}

/* -- threads that wait for their commit ----------------------------------------------------------
 */

/* Waits as a committing thread does. */
static bool assisted(struct side *s, uint32_t ms)
{
    uint64_t end_us = co_now_us() + ms * 1000u;

    while (durable_of(s) < s->tip && co_now_us() < end_us) {
        if (s->log->ops->attend(s->log))
            s->log->ops->assist(s->log, end_us);
        else
            usleep(100);
    }
    return durable_of(s) >= s->tip;
}

/* Whoever waits alone reads the acknowledgements itself: no other thread has to wake it. */
Test(quorum_sock, a_thread_that_waits_hears_it_itself)
{
    cr_assert_not(a.log->ops->attend(a.log), "there is no term to wait in");
    cr_assert_eq(lead(&a, 5000), 0, "%s", co_sentence());
    /* On a busy machine the background thread may be first, and how often is chance: of a hundred
     * times a loaded machine saw 53. */
    unsigned n = 0;
    for (; n < 2000 && a.told_here < 60; n++) {
        append(&a);
        cr_assert(assisted(&a, 5000));
    }
    cr_expect_geq(a.told_here, 60, "%u of %u", a.told_here, n);
}

/* One at a time; and when it has left, or others wait, the background thread hears as ever. */
Test(quorum_sock, one_thread_reads_and_then_the_background_again)
{
    cr_assert_eq(lead(&a, 5000), 0, "%s", co_sentence());
    append(&a);
    cr_assert(assisted(&a, 5000));
    bool mine = false;
    cr_assert(UNTIL(mine = mine || a.log->ops->attend(a.log), 1000));
    cr_assert_not(a.log->ops->attend(a.log), "somebody does already");
    a.log->ops->assist(a.log, co_now_us() + 1000);
    append(&a);
    cr_assert(is_durable(&a, 5000), "nobody assists");
    append(&a);
    a.log->ops->relieve(a.log);
    cr_assert(is_durable(&a, 5000), "others wait");
}

/* A connection that breaks under a thread that reads it is made anew by the background thread. */
Test(quorum_sock, connections_that_break_while_a_thread_reads_them)
{
    cr_assert_eq(lead(&a, 5000), 0, "%s", co_sentence());
    for (int i = 0; i < 60; i++) {
        append(&a);
        if (i % 6 == 3)
            fake_server_kick(&fc.sk[i / 6 % 3].server);
        cr_assert(assisted(&a, 5000));
    }
    cr_assert(is_everywhere(&a, 5000));
}

Test(quorum_sock, a_second_call_of_lead_costs_nothing)
{
    /* log.h: becomes, or is, leader */
    cr_assert_eq(lead(&a, 3000), 0);
    term_t term = a.lead.term;
    append(&a);
    cr_assert(is_everywhere(&a, 5000), "the vote of the third, too, has been asked for");
    uint64_t votes = fc.sk[0].votes;
    lsn_t tip = a.tip;
    cr_assert_eq(lead(&a, 3000), 0);
    cr_assert_eq(a.lead.term, term);
    cr_assert_eq(a.lead.tip_lsn, tip);
    cr_assert_eq(fc.sk[0].votes, votes);
}

Test(quorum_sock, one_safekeeper_down_is_nothing)
{
    /* G7: two of three */
    fake_sk_kill(&fc.sk[1]);
    cr_assert_eq(lead(&a, 3000), 0, "%s", co_sentence());
    append(&a);
    cr_assert(is_durable(&a, 1000));
    cr_assert_eq(a.log->ops->no_quorum_ms(a.log, 0, NULL), 0);
}

Test(quorum_sock, a_commit_waits_for_a_majority_and_goes_on_when_one_returns)
{
    /* a leader without a quorum waits: it does not step down by itself */
    cr_assert_eq(lead(&a, 3000), 0);
    append(&a);
    cr_assert(is_durable(&a, 1000));
    fake_sk_kill(&fc.sk[0]);
    fake_sk_kill(&fc.sk[2]);
    append(&a);
    cr_assert_not(is_durable(&a, 1500));
    char missing[CV_MISSING_MAX];
    cr_assert_gt(a.log->ops->no_quorum_ms(a.log, sizeof missing, missing), 1000u);
    cr_assert_not_null(strstr(missing, "safekeeper 1 at "), "%s", missing);
    cr_assert_not_null(strstr(missing, "safekeeper 3 at "), "%s", missing);
    cr_assert_null(strstr(missing, "safekeeper 2 at "), "%s", missing);
    fake_sk_restart(&fc.sk[2]);
    cr_assert(is_durable(&a, 5000));
    cr_assert_eq(a.n_lost, 0);
    cr_assert_eq(a.log->ops->no_quorum_ms(a.log, 0, NULL), 0);
}

Test(quorum_sock, a_returning_safekeeper_catches_up)
{
    /* N8, P1: what it missed is sent again */
    cr_assert_eq(lead(&a, 3000), 0);
    fake_sk_kill(&fc.sk[1]);
    for (unsigned i = 0; i < 500; i++)
        append(&a);
    cr_assert(is_durable(&a, 5000));
    fake_sk_restart(&fc.sk[1]);
    cr_assert(UNTIL(fake_sk_flush(&fc.sk[1]) == a.tip, 5000));
    cr_assert_arr_eq(fc.sk[0].log.data, fc.sk[1].log.data, fc.sk[0].log.len);
}

Test(quorum_sock, connections_that_break_lose_nothing)
{
    /* N1: dropped messages are sent again, each record once */
    cr_assert_eq(lead(&a, 3000), 0);
    for (unsigned i = 0; i < 300; i++) {
        append(&a);
        if (i % 30 == 7)
            fake_server_kick(&fc.sk[i % 3].server);
        if (i % 10 == 0)
            usleep(3000);
    }
    cr_assert(is_durable(&a, 10000));
    cr_assert_eq(a.n_lost, 0, "%s", a.reason);
    cr_assert(is_everywhere(&a, 8000));
}

Test(quorum_sock, a_safekeeper_that_stops_reading_stops_nobody)
{
    /* N8: quorum of the two fast ones; what waits for the slow one is bounded */
    cr_assert_eq(lead(&a, 3000), 0);
    pthread_mutex_lock(&fc.sk[2].server.lock); /* its threads hang where they are */
    for (unsigned i = 0; i < 2000; i++)
        append(&a);
    bool durable = is_durable(&a, 10000);
    pthread_mutex_unlock(&fc.sk[2].server.lock);
    cr_assert(durable);
}

Test(quorum_sock, a_large_record_is_sent_once)
{
    /* S10: a safekeeper that is busy with one is not sent it again and again, nor given up */
    cr_assert_eq(lead(&a, 3000), 0);
    cr_assert(is_everywhere(&a, 2000));
    uint64_t before = fc.sk[0].bytes_in;
    lsn_t begin = a.tip;
    for (unsigned i = 0; i < 3; i++)
        pthread_mutex_lock(&fc.sk[i].server.lock); /* busy for longer than the core has patience */
    append_pages(&a, 65536, 320);
    usleep(2200000);
    for (unsigned i = 0; i < 3; i++)
        pthread_mutex_unlock(&fc.sk[i].server.lock);
    cr_assert(is_durable(&a, 10000));
    cr_assert(is_everywhere(&a, 5000));
    usleep(300000);
    cr_assert_lt(fc.sk[0].bytes_in - before, (a.tip - begin) * 3 / 2);
    cr_assert_gt(a.progress, 0, "and whoever waits hears that it moves");
    cr_assert_eq(a.n_lost, 0);
    cr_assert_leq(fc.sk[0].server.hellos, 1u, "its connection was kept");
}

/* -- becoming leader ----------------------------------------------------------------------------
 */

Test(quorum_sock, without_a_majority_lead_names_who_is_missing)
{
    /* M9: bounded; the sentence names addresses */
    char address[64];

    fake_sk_kill(&fc.sk[0]);
    fake_sk_kill(&fc.sk[2]);
    uint64_t begin = co_now_us();
    cr_assert_eq(lead(&a, 700), CO_ERR_NO_QUORUM);
    cr_assert_lt(co_now_us() - begin, 1500000u * slower());
    snprintf(address, sizeof address, "127.0.0.1:%u", (unsigned)fc.sk[2].server.port);
    cr_assert_not_null(strstr(co_sentence(), address), "%s", co_sentence());
    snprintf(address, sizeof address, "127.0.0.1:%u", (unsigned)fc.sk[1].server.port);
    cr_assert_null(strstr(co_sentence(), address), "%s", co_sentence());
}

static bool stop_now(void *arg)
{
    ++*(unsigned *)arg;
    return *(unsigned *)arg >= 5;
}

Test(quorum_sock, lead_can_be_interrupted)
{
    /* log.h: `interrupted` is asked every few ms */
    unsigned asked = 0;

    fake_sk_kill(&fc.sk[0]);
    fake_sk_kill(&fc.sk[2]);
    uint64_t begin = co_now_us();
    cr_assert_eq(a.log->ops->lead(a.log, 20000, stop_now, &asked, &a.lead), CO_ERR_CANCELED);
    cr_assert_lt(co_now_us() - begin, 500000u * slower());
}

Test(quorum_sock, a_clock_that_is_far_off_does_not_write)
{
    /* S12: against the median of the safekeepers', naming the difference */
    side_close(&a);
    for (unsigned i = 0; i < 3; i++)
        fc.sk[i].server.clock_ahead_us = 120 * 1000000;
    side_open(&a);
    cr_assert_eq(lead(&a, 3000), CO_ERR_CLOCK);
    cr_assert_not_null(strstr(co_sentence(), "120 s behind"), "%s", co_sentence());
    cr_assert_eq(fc.sk[0].votes, 0, "nothing was begun");
}

Test(quorum_sock, one_wrong_clock_among_the_safekeepers_is_outvoted)
{
    /* S12: median */
    side_close(&a);
    fc.sk[1].server.clock_ahead_us = -500 * 1000000ll;
    side_open(&a);
    cr_assert_eq(lead(&a, 3000), 0, "%s", co_sentence());
}

Test(quorum_sock, foreign_safekeepers_are_not_believed)
{
    /* O1: another cluster, another node */
    side_close(&a);
    pthread_mutex_lock(&fc.sk[0].server.lock);
    fc.sk[0].server.cluster = co_id_random();
    pthread_mutex_unlock(&fc.sk[0].server.lock);
    fc.sk[1].server.node = 7;
    side_open(&a);
    cr_assert_eq(lead(&a, 800), CO_ERR_NO_QUORUM);
    cr_assert_not_null(strstr(co_sentence(), "cluster"), "%s", co_sentence());
    cr_assert_not_null(strstr(co_sentence(), "node 7"), "%s", co_sentence());
    cr_assert_eq(fc.sk[0].votes + fc.sk[1].votes, 0);
}

/* Its directory is another one from now on. */
static struct co_id exchange(struct fake_sk *sk)
{
    struct co_id disk = co_id_random();
    pthread_mutex_lock(&sk->server.lock);
    sk->server.disk = disk;
    pthread_mutex_unlock(&sk->server.lock);
    fake_server_kick(&sk->server);
    return disk;
}

Test(quorum_sock, another_disk_than_the_list_names_is_not_believed)
{
    /* decision 76: the log does not name who came by a replacement */
    side_close(&a);
    for (unsigned i = 0; i < 2; i++) {
        fc.timeline.safekeepers[i].disk = co_id_random();
        exchange(&fc.sk[i]);
    }
    side_open(&a);
    cr_assert_eq(lead(&a, 800), CO_ERR_NO_QUORUM);
    cr_assert_not_null(strstr(co_sentence(), "disk"), "%s", co_sentence());
    cr_assert_eq(fc.sk[0].votes + fc.sk[1].votes, 0);
    side_close(&a);
    fc.timeline.config.members[0].disk_uuid = exchange(&fc.sk[0]);
    side_open(&a);
    cr_assert_eq(lead(&a, 3000), 0, "what the log names counts more: %s", co_sentence());
}

Test(quorum_sock, who_was_met_first_is_expected_from_then_on)
{
    struct co_id first[2];
    for (unsigned i = 0; i < 2; i++)
        first[i] = exchange(&fc.sk[i]);
    side_close(&a);
    side_open(&a);
    cr_assert_eq(lead(&a, 3000), 0);
    append(&a);
    cr_assert(is_durable(&a, 1000) && is_everywhere(&a, 3000));
    for (unsigned i = 0; i < 2; i++)
        exchange(&fc.sk[i]);
    append(&a);
    cr_assert_not(is_durable(&a, 1500));
    for (unsigned i = 0; i < 2; i++) {
        pthread_mutex_lock(&fc.sk[i].server.lock);
        fc.sk[i].server.disk = first[i];
        pthread_mutex_unlock(&fc.sk[i].server.lock);
    }
    cr_assert(is_durable(&a, 5000));
}

Test(quorum_sock, a_dropped_timeline_says_so)
{
    /* M18: DROPPED is a typed refusal */
    for (unsigned i = 0; i < 3; i++)
        fc.sk[i].error = CO_ERR_DROPPED;
    uint64_t begin = co_now_us();
    cr_assert_eq(lead(&a, 5000), CO_ERR_DROPPED);
    cr_assert_lt(co_now_us() - begin, 2000000u * slower());
    lsn_t lsn;
    cr_assert_eq(a.log->ops->position(a.log, 1000, &lsn), CO_ERR_DROPPED);
}

static void seal(void)
{
    for (unsigned i = 0; i < 3; i++) {
        pthread_mutex_lock(&fc.sk[i].server.lock);
        fc.sk[i].sealed = true;
        pthread_mutex_unlock(&fc.sk[i].server.lock);
    }
}

/* A safekeeper knows so much to be committed. */
static void tell(unsigned sk, lsn_t lsn)
{
    pthread_mutex_lock(&fc.sk[sk].server.lock);
    fc.sk[sk].commit_lsn = lsn;
    pthread_mutex_unlock(&fc.sk[sk].server.lock);
}

/* `a` has written two records, which are acknowledged; then all are sealed, and `b` was told so.
 * The end of the first record. */
static lsn_t sealed_behind_two(void)
{
    cr_assert_eq(lead(&a, 3000), 0);
    append(&a);
    lsn_t first = a.tip;
    append(&a);
    cr_assert(is_durable(&a, 5000));
    a.log->ops->release(a.log);
    seal();
    side_open(&b);
    cr_assert_eq(lead(&b, 8000), CO_ERR_READONLY);
    return first;
}

Test(quorum_sock, a_sealed_timeline_is_not_led)
{
    /* S14 */
    lsn_t lsn;

    cr_assert_eq(lead(&a, 3000), 0);
    append(&a);
    cr_assert(is_durable(&a, 5000));
    a.log->ops->release(a.log);
    seal();
    side_open(&b);
    uint64_t begin = co_now_us();
    cr_assert_eq(lead(&b, 8000), CO_ERR_READONLY);
    cr_assert_lt(co_now_us() - begin, 4000000u * slower());
    int rc = b.log->ops->position(b.log, 1000, &lsn);
    cr_assert(rc == 0 || rc == CO_ERR_READONLY, "%d %s", rc, co_sentence());
}

Test(quorum_sock, a_sealed_timeline_ends_where_a_majority_says)
{
    /* S14: two records, and one safekeeper alone was told that the first is committed. A read of
     * what was put aside may not be older than that. */
    lsn_t lsn = 0, first = sealed_behind_two();

    for (unsigned i = 0; i < 3; i++)
        tell(i, i == 1 ? first : LSN_FIRST);
    /* Safekeeper 1 answers, or a majority without it does: ask until it is among them. */
    for (unsigned i = 0; i < 40 && lsn != first; i++) {
        uint64_t begin = co_now_us();
        cr_assert_eq(b.log->ops->position(b.log, 3000, &lsn), CO_ERR_READONLY);
        /* The second record is waited for once, CV_SEAL_ASK_US. */
        cr_assert_lt(co_now_us() - begin, (i == 0 ? 1900000u : 900000u) * slower());
        cr_assert(lsn == first || lsn == LSN_FIRST, "%llx", (unsigned long long)lsn);
    }
    cr_assert_eq(lsn, first);
}

static void *tell_later(void *end)
{
    usleep(300000);
    for (unsigned i = 1; i < 3; i++)
        tell(i, *(lsn_t *)end);
    return NULL;
}

Test(quorum_sock, what_was_acknowledged_beside_the_first_seal_is_waited_for)
{
    /* Its writer has not told them yet (level B, seed 12300645). */
    pthread_t teller;
    lsn_t lsn = 0, first = sealed_behind_two();

    for (unsigned i = 0; i < 3; i++)
        tell(i, first);
    cr_assert_eq(pthread_create(&teller, NULL, tell_later, &a.tip), 0);
    int rc = b.log->ops->position(b.log, 3000, &lsn);
    cr_assert(rc == 0 || rc == CO_ERR_READONLY, "%d %s", rc, co_sentence());
    cr_assert_eq(lsn, a.tip);
    pthread_join(teller, NULL);
}

Test(quorum_sock, a_record_that_came_after_the_seal_is_surely_lost)
{
    /* S14: not "unknown", and what was kept before it stays kept */
    cr_assert_eq(lead(&a, 3000), 0);
    append(&a);
    cr_assert(is_durable(&a, 5000));
    lsn_t kept = a.tip;
    seal();
    append(&a);
    uint64_t begin = co_now_us();
    cr_assert(UNTIL(a.resolved_term == a.lead.term, 8000), "lost %u", a.n_lost);
    cr_assert_lt(co_now_us() - begin, 4000000u * slower());
    cr_assert_eq(a.kept, kept);
    cr_assert(a.log->ops->sealed(a.log));
    cr_assert_eq(lead(&a, 1000), CO_ERR_READONLY);
}

Test(quorum_sock, a_fresh_log_leads_at_once)
{
    /* M9: the first write of a process does not wait for a round that began before it was connected
     */
    side_open(&b);
    uint64_t begin = co_now_us();
    cr_assert_eq(lead(&b, 3000), 0, "%s", co_sentence());
    cr_assert_lt(co_now_us() - begin, 250000u * slower());
}

Test(quorum_sock, an_idle_holder_hands_over_within_the_call)
{
    /* M9, S9: the waiter is told to the holder at once, the release to the waiter */
    side_open(&b);
    cr_assert_eq(lead(&a, 3000), 0);
    append(&a);
    cr_assert(is_durable(&a, 1000));
    lsn_t tip = a.tip;
    term_t term = a.lead.term;

    struct cv_lead got;
    uint64_t begin = co_now_us();
    int rc = CO_ERR_TIMEOUT;
    /* a's owner releases when it hears of a waiter */
    for (unsigned i = 0; i < 40 && rc != 0; i++) {
        rc = b.log->ops->lead(b.log, 50, NULL, NULL, &got);
        if (a.n_waiter > 0)
            a.log->ops->release(a.log);
    }
    cr_assert_eq(rc, 0, "%s", co_sentence());
    cr_assert_lt(co_now_us() - begin, 1500000u * slower(), "well below the lease");
    cr_assert_gt(got.term, term);
    cr_assert_eq(got.tip_lsn, tip);
    cr_assert(is_resolved(&a, term, 1000));
    cr_assert_eq(a.kept, tip, "nothing was open");
}

Test(quorum_sock, a_holder_that_does_not_let_go_is_busy)
{
    /* log.h: CO_ERR_BUSY, with why */
    side_open(&b);
    cr_assert_eq(lead(&a, 3000), 0);
    uint64_t begin = co_now_us();
    cr_assert_eq(lead(&b, 600), CO_ERR_BUSY, "%s", co_sentence());
    cr_assert_lt(co_now_us() - begin, 1200000u * slower());
    append(&a);
    cr_assert(is_durable(&a, 1000), "the holder is not harmed");
    cr_assert_geq(a.n_waiter, 1u);
}

Test(quorum_sock, a_holder_that_says_that_it_writes_ends_the_wait)
{
    /* M9: and its word does not outlive its lease */
    struct cv_lead got;
    int rc = CO_ERR_BUSY;

    side_open(&b);
    cr_assert_eq(lead(&a, 3000), 0);
    uint64_t begin = co_now_us();
    while (rc != CO_ERR_LOCKED && co_now_us() < begin + 2000000) {
        rc = b.log->ops->lead(b.log, 20, NULL, NULL, &got);
        a.log->ops->writing(a.log);
    }
    cr_assert_eq(rc, CO_ERR_LOCKED, "%d %s", rc, co_sentence());
    begin = co_now_us();
    cr_assert_eq(lead(&b, 3000), CO_ERR_LOCKED, "known: not asked for again");
    cr_assert_lt(co_now_us() - begin, 200000u * slower());
    cr_assert_eq(b.n_won, 0);
    a.log->ops->release(a.log);
    cr_assert(UNTIL(b.n_won == 1, 1000), "told, so that a sleeper can be woken");
    cr_assert(UNTIL(b.log->ops->lead(b.log, 3000, NULL, NULL, &got) == 0, 1000), "%s",
              co_sentence());
}

Test(quorum_sock, a_term_lost_to_a_minority_is_led_again_before_who_waits)
{
    /* R6: one safekeeper has voted for somebody whom nobody follows */
    struct cv_lead got;
    int rc;

    side_open(&b);
    cr_assert_eq(lead(&a, 3000), 0);
    append(&a);
    cr_assert(is_durable(&a, 1000));
    lsn_t tip = a.tip;
    cr_assert_neq(b.log->ops->lead(b.log, 300, NULL, NULL, &got), 0, "it waits");
    pthread_mutex_lock(&fc.sk[2].server.lock);
    fc.sk[2].term += 5;
    pthread_mutex_unlock(&fc.sk[2].server.lock);
    append(&a); /* learns of it */
    cr_assert(UNTIL(a.n_lost == 1, 3000));
    cr_assert_eq(a.n_contested, 1);
    rc = b.log->ops->lead(b.log, 50, NULL, NULL, &got);
    cr_assert(rc == CO_ERR_BUSY || rc == CO_ERR_TIMEOUT, "%d %s", rc, co_sentence());
    cr_assert_eq(lead(&a, 3000), 0, "%s", co_sentence());
    cr_assert_geq(a.lead.tip_lsn, tip);
    a.log->ops->release(a.log);
    cr_assert(UNTIL(b.log->ops->lead(b.log, 3000, NULL, NULL, &got) == 0, 1000));
}

Test(quorum_sock, a_contested_lease_that_is_not_wanted_goes_on_at_once)
{
    /* R6, M9 */
    struct cv_lead got;

    side_open(&b);
    cr_assert_eq(lead(&a, 3000), 0);
    pthread_mutex_lock(&fc.sk[2].server.lock);
    fc.sk[2].term += 5;
    pthread_mutex_unlock(&fc.sk[2].server.lock);
    append(&a);
    cr_assert(UNTIL(a.n_lost == 1, 3000));
    a.log->ops->release(a.log);
    uint64_t begin = co_now_us();
    cr_assert_eq(b.log->ops->lead(b.log, 2500, NULL, NULL, &got), 0, "%s", co_sentence());
    cr_assert_lt(co_now_us() - begin, 1500000u * slower(), "well below the lease");
}

Test(quorum_sock, closing_frees_the_lease_at_once)
{
    /* 2-compute-vfs: closing the last connection releases the lease */
    side_open(&b);
    cr_assert_eq(lead(&a, 3000), 0);
    append(&a);
    side_close(&a);
    uint64_t begin = co_now_us();
    cr_assert_eq(lead(&b, 3000), 0, "%s", co_sentence());
    cr_assert_lt(co_now_us() - begin, 1000000u * slower());
    side_open(&a);
}

/* -- positions ----------------------------------------------------------------------------------
 */

Test(quorum_sock, the_holder_knows_the_position_without_asking)
{
    /* 3.8, lease read: 0 round trips */
    lsn_t lsn;

    cr_assert_eq(lead(&a, 3000), 0);
    append(&a);
    cr_assert(is_durable(&a, 1000));
    uint64_t asked = fc.sk[0].read_pos + fc.sk[1].read_pos + fc.sk[2].read_pos;
    for (unsigned i = 0; i < 1000; i++) {
        cr_assert_eq(a.log->ops->position(a.log, 1000, &lsn), 0);
        cr_assert_eq(lsn, a.tip);
    }
    cr_assert_eq(fc.sk[0].read_pos + fc.sk[1].read_pos + fc.sk[2].read_pos, asked);
}

Test(quorum_sock, another_compute_sees_every_acknowledged_commit)
{
    /* I15: not older than any commit acknowledged before the call */
    side_open(&b);
    cr_assert_eq(lead(&a, 3000), 0);
    for (unsigned i = 0; i < 50; i++) {
        lsn_t lsn = 0;
        append(&a);
        cr_assert(is_durable(&a, 1000));
        cr_assert_eq(b.log->ops->position(b.log, 2000, &lsn), 0, "%s", co_sentence());
        cr_assert_geq(lsn, a.tip);
    }
}

struct asker {
    pthread_t thread;
    unsigned n, old; /* answers, and those that lacked an acknowledged commit */
    int rc;
};

static void *ask_often(void *arg)
{
    struct asker *k = arg;

    while (k->n < 200 && k->rc == 0) {
        lsn_t lsn, known = durable_of(&a);
        k->rc = b.log->ops->position(b.log, 3000, &lsn);
        k->old += lsn < known;
        k->n++;
    }
    return NULL;
}

/* Threads that ask at once share the connections: one reads, the others are not forgotten. */
Test(quorum_sock, questions_of_several_threads)
{
    struct asker asker[3] = {0};

    side_open(&b);
    cr_assert_eq(lead(&a, 3000), 0);
    append(&a);
    cr_assert(is_durable(&a, 3000));
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(pthread_create(&asker[i].thread, NULL, ask_often, &asker[i]), 0);
    for (unsigned i = 0; i < 100; i++) {
        append(&a);
        cr_assert(assisted(&a, 5000));
    }
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(asker[i].thread, NULL);
        cr_expect_eq(asker[i].rc, 0);
        cr_expect_eq(asker[i].n, 200);
        cr_expect_eq(asker[i].old, 0, "%u answers were not strict", asker[i].old);
    }
}

Test(quorum_sock, no_position_without_a_majority)
{
    /* a minority cannot know; bounded */
    lsn_t lsn;

    fake_sk_kill(&fc.sk[0]);
    fake_sk_kill(&fc.sk[1]);
    uint64_t begin = co_now_us();
    cr_assert_eq(a.log->ops->position(a.log, 500, &lsn), CO_ERR_NO_QUORUM);
    cr_assert_lt(co_now_us() - begin, 1200000u * slower());
}

Test(quorum_sock, a_dead_writers_open_tail_is_settled_by_the_reader)
{
    /* S6: the records of a writer that is no more: kept or not, but decided */
    lsn_t lsn = 0;

    side_open(&b);
    for (unsigned i = 0; i < 3; i++)
        fc.sk[i].lease_us = 500000;
    cr_assert_eq(lead(&a, 3000), 0);
    append(&a);
    cr_assert(is_durable(&a, 1000));
    lsn_t committed = a.tip;
    cr_assert(is_everywhere(&a, 2000));
    for (unsigned i = 0; i < 3; i++)
        fc.sk[i].no_acks = true;
    append(&a);
    cr_assert(UNTIL(fake_sk_flush(&fc.sk[0]) == a.tip && fake_sk_flush(&fc.sk[1]) == a.tip, 2000));
    a.log->ops->close(a.log, 0);
    a.log = NULL;
    for (unsigned i = 0; i < 3; i++)
        fc.sk[i].no_acks = false;
    cr_assert_eq(b.log->ops->position(b.log, 15000, &lsn), 0, "%s", co_sentence());
    cr_assert_geq(lsn, committed);
    cr_assert_eq(b.n_lost, 0, "the owner hears nothing of an election that it did not ask for");
}

/* -- lost terms ---------------------------------------------------------------------------------
 */

/* Term lost to somebody who kept the first `kept` of 5 open records. */
static void lose_and_keep(unsigned kept)
{
    cr_assert_eq(lead(&a, 3000), 0);
    append(&a);
    cr_assert(is_durable(&a, 1000));
    cr_assert(is_everywhere(&a, 2000));
    for (unsigned i = 0; i < 3; i++)
        fc.sk[i].no_acks = true;
    for (unsigned i = 0; i < 5; i++)
        append(&a);
    cr_assert(is_everywhere(&a, 8000)); /* unanswered, the later ones go with a repetition */
    term_t term = a.lead.term;
    fake_cluster_usurp(&fc, a.ends[1 + kept]);
    for (unsigned i = 0; i < 3; i++)
        fc.sk[i].no_acks = false;
    cr_assert(is_resolved(&a, term, 8000), "lost: %u", a.n_lost);
    cr_assert_eq(a.lost_term, term);
    cr_assert_eq(a.kept, a.ends[1 + kept]);
}

Test(quorum_sock, a_lost_term_with_nothing_kept)
{
    /* M8: lost, then what was kept */
    lose_and_keep(0);
}

Test(quorum_sock, a_lost_term_with_some_kept)
{
    /* M8: the boundary between kept and lost is found */
    lose_and_keep(2);
}

Test(quorum_sock, a_lost_term_with_all_kept)
{
    /* M8: outcome told never contradicts the log */
    lose_and_keep(5);
}

Test(quorum_sock, a_fate_that_nobody_remembers_blocks_nobody)
{
    /* M16: histories are collapsed; what was in flight before that stays unknown, and life goes on
     */
    enum cv_verdict verdict;

    cr_assert_eq(lead(&a, 3000), 0);
    cr_assert(is_everywhere(&a, 2000));
    for (unsigned i = 0; i < 3; i++)
        fc.sk[i].no_acks = true;
    append(&a);
    cr_assert(is_everywhere(&a, 2000));
    fake_cluster_usurp(&fc, a.tip);
    for (unsigned i = 0; i < 3; i++) {
        pthread_mutex_lock(&fc.sk[i].server.lock);
        fc.sk[i].history[0] = fc.sk[i].history[fc.sk[i].n_history - 1];
        fc.sk[i].n_history = 1;
        fc.sk[i].no_acks = false;
        pthread_mutex_unlock(&fc.sk[i].server.lock);
    }
    term_t old = a.lead.term;
    lsn_t begin = a.ends[0];
    cr_assert(UNTIL(a.lost_term == old, 3000));
    cr_assert_eq(lead(&a, 8000), 0, "%s", co_sentence());
    cr_assert_eq(a.n_resolved, 0, "no verdict is made up");
    uint64_t asked_us = co_now_us();
    cr_assert_eq(a.log->ops->status(a.log, old, begin, 5000, &verdict), CO_ERR_TIMEOUT);
    cr_assert_eq(verdict, CV_UNKNOWN);
    cr_assert_lt(co_now_us() - asked_us, 2000000u * slower(), "told at once");
}

Test(quorum_sock, lead_waits_until_the_fate_of_the_last_term_is_told)
{
    /* M8: the new term builds on what is known to be kept */
    lose_and_keep(2);
    term_t old = a.lead.term;
    lsn_t kept = a.kept;
    cr_assert_eq(lead(&a, 8000), 0, "%s", co_sentence());
    cr_assert_gt(a.lead.term, old);
    cr_assert_eq(a.lead.tip_lsn, kept);
    append(&a);
    cr_assert(is_durable(&a, 2000));
}

Test(quorum_sock, lead_right_after_a_loss_tells_first_and_returns_then)
{
    /* quorum_sock.h: lead returns only after the fate of earlier terms was told */
    cr_assert_eq(lead(&a, 3000), 0);
    term_t old = a.lead.term;
    cr_assert(is_everywhere(&a, 2000));
    for (unsigned i = 0; i < 3; i++)
        fc.sk[i].no_acks = true;
    append(&a);
    cr_assert(is_everywhere(&a, 2000));
    lsn_t tip = a.tip;
    a.log->ops->abandon(a.log, old);
    for (unsigned i = 0; i < 3; i++)
        fc.sk[i].no_acks = false;
    cr_assert_eq(lead(&a, 10000), 0, "%s", co_sentence());
    cr_assert_eq(a.resolved_term, old, "told before lead returned");
    cr_assert_eq(a.kept, tip);
    cr_assert_eq(a.lead.tip_lsn, tip);
}

Test(quorum_sock, an_abandoned_term_is_settled_without_being_asked)
{
    /* log.h: abandon: `lost` follows, then `resolved`; the lease is given back afterwards */
    cr_assert_eq(lead(&a, 3000), 0);
    term_t old = a.lead.term;
    lsn_t before = a.tip;
    for (unsigned i = 0; i < 3; i++)
        fc.sk[i].no_appends = true;
    append(&a);
    append(&a);
    usleep(50000);
    a.log->ops->abandon(a.log, old);
    cr_assert(UNTIL(a.lost_term == old, 1000));
    for (unsigned i = 0; i < 3; i++)
        fc.sk[i].no_appends = false;
    cr_assert(is_resolved(&a, old, 15000));
    cr_assert_eq(a.kept, before, "what never arrived is not kept");
    cr_assert_eq(a.n_lost, 1);
    side_open(&b);
    cr_assert_eq(lead(&b, 2000), 0, "nobody holds the lease: %s", co_sentence());
    cr_assert_eq(b.lead.tip_lsn, before);
}

Test(quorum_sock, appends_of_a_lost_term_go_nowhere)
{
    /* M8: a record built under an older term is refused */
    cr_assert_eq(lead(&a, 3000), 0);
    a.log->ops->abandon(a.log, a.lead.term);
    cr_assert(UNTIL(a.lost_term == a.lead.term, 1000));
    uint64_t appends = fc.sk[0].appends;
    append(&a);
    usleep(100000);
    cr_assert_eq(fc.sk[0].appends, appends);
}

Test(quorum_sock, status_tells_committed_from_never)
{
    /* 3.7: by (term, begin LSN) */
    enum cv_verdict verdict;

    lose_and_keep(2);
    const struct cv_log_ops *ops = a.log->ops;
    cr_assert_eq(ops->status(a.log, a.lead.term, a.ends[0], 3000, &verdict), 0);
    cr_assert_eq(verdict, CV_COMMITTED);
    cr_assert_eq(ops->status(a.log, a.lead.term, a.ends[2], 3000, &verdict), 0);
    cr_assert_eq(verdict, CV_COMMITTED);
    cr_assert_eq(ops->status(a.log, a.lead.term, a.ends[3], 3000, &verdict), 0);
    cr_assert_eq(verdict, CV_NOT_COMMITTED);
    cr_assert_eq(ops->status(a.log, a.lead.term, a.ends[5], 3000, &verdict), 0);
    cr_assert_eq(verdict, CV_NOT_COMMITTED);
    for (unsigned i = 0; i < 3; i++)
        fake_sk_kill(&fc.sk[i]);
    side_open(&b);
    cr_assert_eq(ops->status(b.log, a.lead.term, a.ends[5], 300, &verdict), CO_ERR_TIMEOUT);
    cr_assert_eq(verdict, CV_UNKNOWN);
}

/* -- ends ---------------------------------------------------------------------------------------
 */

static void *ack_again(void *arg)
{
    (void)arg;
    usleep(400000);
    for (unsigned i = 0; i < 3; i++)
        fc.sk[i].no_appends = false;
    return NULL;
}

Test(quorum_sock, close_waits_for_what_is_in_flight)
{
    /* M10: sqlite3_close waits for what this process has in flight */
    pthread_t thread;

    cr_assert_eq(lead(&a, 3000), 0);
    for (unsigned i = 0; i < 3; i++)
        fc.sk[i].no_appends = true;
    append(&a);
    lsn_t tip = a.tip;
    pthread_create(&thread, NULL, ack_again, NULL);
    side_close(&a);
    pthread_join(thread, NULL);
    cr_assert_eq(a.durable, tip);
    cr_assert(UNTIL(fc.sk[0].releases + fc.sk[1].releases + fc.sk[2].releases >= 2, 1000));
    side_open(&a);
}

Test(quorum_sock, close_does_not_outlive_its_deadline)
{
    /* no wait without a bound */
    cr_assert_eq(lead(&a, 3000), 0);
    for (unsigned i = 0; i < 3; i++)
        fc.sk[i].no_appends = true;
    append(&a);
    uint64_t begin = co_now_us();
    a.log->ops->close(a.log, 300);
    a.log = NULL;
    cr_assert_lt(co_now_us() - begin, 1000000u * slower());
}

Test(quorum_sock, counts_what_goes_over_the_wire)
{
    /* `corallite status` and the outside agree: frames included */
    struct cv_log_stats stats;

    cr_assert_eq(lead(&a, 3000), 0);
    for (unsigned i = 0; i < 100; i++)
        append(&a);
    cr_assert(is_durable(&a, 3000));
    cr_assert(UNTIL(fake_sk_flush(&fc.sk[0]) == a.tip, 1000));
    usleep(50000);
    a.log->ops->stats(a.log, &stats);
    cr_assert_eq(stats.records, 100);
    cr_assert_eq(stats.elections, 1);
    cr_assert_eq(stats.connected, 3);
    uint64_t in = fc.sk[0].bytes_in;
    cr_assert_geq(stats.bytes_out[0], in);
    cr_assert_leq(stats.bytes_out[0], in + 500, "greeting and pings");
}

Test(quorum_sock, a_forked_child_says_nothing_to_anybody)
{
    /* S15, P7 */
    cr_assert_eq(lead(&a, 3000), 0);
    append(&a);
    cr_assert(is_durable(&a, 1000));
    uint64_t appends = fc.sk[0].appends + fc.sk[1].appends + fc.sk[2].appends;
    pid_t pid = fork();
    if (pid == 0) {
        lsn_t lsn;
        struct cv_lead got;
        enum cv_verdict verdict;
        bool ok = a.log->ops->position(a.log, 1000, &lsn) == CO_ERR_CLOSED;
        ok = ok && a.log->ops->lead(a.log, 1000, NULL, NULL, &got) == CO_ERR_CLOSED;
        ok = ok && a.log->ops->status(a.log, 1, 4096, 1000, &verdict) == CO_ERR_CLOSED;
        a.log->ops->release(a.log);
        a.log->ops->abandon(a.log, a.lead.term);
        a.log->ops->close(a.log, 1000);
        _exit(ok ? 0 : 1);
    }
    int status = -1;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
    usleep(100000);
    cr_assert_leq(fc.sk[0].appends + fc.sk[1].appends + fc.sk[2].appends, appends + 6,
                  "no more than heartbeats");
    cr_assert_eq(fc.sk[0].releases, 0);
    append(&a);
    cr_assert(is_durable(&a, 1000), "the parent goes on");
    cr_assert_eq(a.n_lost, 0);
}
