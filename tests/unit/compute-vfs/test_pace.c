/*
 * test_pace.c - commits that keep the pageserver near: single rules, and whole plants in a
 * simulation of 1 ms steps: clients that commit as fast as they may, a pageserver that ingests in
 * batches at some rate, and answers that come late or not at all.
 */
#include "compute-vfs/pace.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define MIB  1048576ull
#define HARD (256 * MIB)
#define SOFT (64 * MIB)
#define SEC  1000000ull

TestSuite(pace, .timeout = 60);

static struct cv_pace fresh(void)
{
    struct cv_pace p;
    cv_pace_init(&p, HARD);
    return p;
}

/* -- the simulation ----------------------------------------------------------------------------
 */

#define CLIENTS_MAX 64u
#define LATENCY_US  3000u

struct plant {
    uint64_t bytes;          /* of one commit */
    unsigned clients;        /* each has one commit under way */
    uint64_t work_us;        /* what a commit takes when nothing slows it */
    uint64_t rate;           /* of the pageserver, bytes a second */
    uint64_t batch;          /* it becomes visible in pieces of so much */
    uint64_t stop_us, go_us; /* it stands still in between, and does not answer */
    uint64_t on_us, off_us;  /* as by SIGSTOP and SIGCONT in turn; 0: not */
    uint64_t idle_us;        /* the clients rest from here on; 0: never */
};

struct sim {
    struct plant plant;
    struct cv_pace pace;
    uint64_t now, asked_at, room;
    lsn_t end, done, shown, answer;
    bool asked;
    struct {
        uint64_t busy_until, due, began;
        bool paying;
    } client[CLIENTS_MAX];
    uint64_t committed, longest_us; /* longest that one commit, or one begin, was held up */
    uint64_t most_lag;
};

static bool stands_still(const struct sim *s)
{
    const struct plant *p = &s->plant;
    bool duty = p->on_us && s->now % (p->on_us + p->off_us) >= p->on_us;
    return duty || (s->now >= p->stop_us && s->now < p->go_us);
}

static void ingest(struct sim *s)
{
    if (stands_still(s))
        return;
    s->room += s->plant.rate / 1000;
    uint64_t n = s->end - s->done < s->room ? s->end - s->done : s->room;
    s->done += n;
    s->room -= n;
    if (s->done == s->end)
        s->room = 0;
    if (s->done == s->end || s->done - s->shown >= s->plant.batch)
        s->shown = s->done;
}

static void ask(struct sim *s)
{
    if (s->asked && s->now >= s->asked_at + LATENCY_US && !stands_still(s)) {
        s->asked = false;
        cv_pace_said(&s->pace, s->now, s->answer);
    } else if (s->asked && s->now >= s->asked_at + CV_PACE_ANSWER_MS * 1000) {
        s->asked = false;
        cv_pace_silent(&s->pace, s->now);
    }
    uint64_t at = cv_pace_ask_at(&s->pace, s->now);
    if (s->asked || at == 0 || at > s->now)
        return;
    s->asked = true;
    s->answer = s->shown;
    s->asked_at = s->now;
}

static void held(struct sim *s, uint64_t since)
{
    if (s->now - since > s->longest_us)
        s->longest_us = s->now - since;
}

static void client(struct sim *s, unsigned i)
{
    if (s->client[i].paying) {
        if (!cv_pace_is_due(&s->pace, s->now, s->client[i].due))
            return;
        held(s, s->client[i].began);
        s->client[i].paying = false;
        s->client[i].began = s->now;
        s->client[i].busy_until = 0;
    }
    if (s->client[i].busy_until == 0) {
        if (!cv_pace_may_begin(&s->pace, s->now) || (s->plant.idle_us && s->now > s->plant.idle_us))
            return;
        held(s, s->client[i].began);
        s->client[i].busy_until = s->now + s->plant.work_us;
    }
    if (s->now < s->client[i].busy_until)
        return;
    s->end += s->plant.bytes;
    s->committed += s->plant.bytes;
    s->client[i].due = cv_pace_commit(&s->pace, s->now, s->end - s->plant.bytes, s->end);
    s->client[i].began = s->now;
    s->client[i].paying = true;
}

static void run_until(struct sim *s, uint64_t until)
{
    for (; s->now < until; s->now += 1000) {
        ingest(s);
        ask(s);
        for (unsigned i = 0; i < s->plant.clients; i++)
            client(s, i);
        if (s->end - s->shown > s->most_lag)
            s->most_lag = s->end - s->shown;
    }
}

static struct sim begin(struct plant plant)
{
    struct sim s = {.plant = plant, .pace = fresh(), .end = 4096, .done = 4096, .shown = 4096};
    s.now = 1000 * SEC;
    s.plant.stop_us += plant.go_us ? s.now : 0;
    s.plant.go_us += plant.go_us ? s.now : 0;
    s.plant.idle_us += plant.idle_us ? s.now : 0;
    for (unsigned i = 0; i < plant.clients; i++)
        s.client[i].began = s.now;
    return s;
}

static uint64_t lag(const struct sim *s)
{
    return s->end - s->shown;
}

/* Bytes committed in the next `us`. */
static uint64_t next(struct sim *s, uint64_t us)
{
    uint64_t before = s->committed;
    run_until(s, s->now + us);
    return s->committed - before;
}

/* -- at rest -----------------------------------------------------------------------------------
 */

/* A pageserver that keeps up costs nothing. */
Test(pace, who_keeps_up_slows_nobody)
{
    struct sim s = begin((struct plant){
        .bytes = 65536, .clients = 8, .work_us = 10000, .rate = 100 * MIB, .batch = MIB});
    uint64_t found = next(&s, 20 * SEC);
    cr_assert_geq(found, 8 * 65536 * 20ull * 90, "%llu", (unsigned long long)found);
    cr_assert_leq(s.longest_us, 1000);
}

/* Whatever the plant: commits come to the pageserver's rate, evenly, and the lag stays in the
 * middle, far from both ends. */
static void comes_to_rest(struct plant plant)
{
    struct sim s = begin(plant);
    uint64_t middle = (SOFT + HARD) / 2;
    char what[200];
    snprintf(what, sizeof what, "%llu B x %u at %llu MiB/s in batches of %llu",
             (unsigned long long)plant.bytes, plant.clients, (unsigned long long)(plant.rate / MIB),
             (unsigned long long)plant.batch);
    /* As long as it takes to fall behind, and some more. */
    run_until(&s, s.now + 40 * SEC + 600 * MIB / (plant.rate / 1000) * 1000);
    cr_assert_leq(s.most_lag, HARD + plant.clients * plant.bytes, "%s: lag %llu", what,
                  (unsigned long long)s.most_lag);
    uint64_t least = UINT64_MAX, most = 0, sum = 0;
    for (int i = 0; i < 20; i++) {
        uint64_t found = next(&s, 2 * SEC);
        least = found < least ? found : least;
        most = found > most ? found : most;
        sum += found;
        cr_assert(lag(&s) > middle / 2 && lag(&s) < middle * 5 / 4, "%s: lag %llu MiB", what,
                  (unsigned long long)(lag(&s) / MIB));
    }
    uint64_t mean = sum / 20, slack = 2 * plant.bytes * plant.clients + plant.batch;
    cr_assert_leq(most - least, mean / 4 + slack, "%s: %llu to %llu a second", what,
                  (unsigned long long)least / 2, (unsigned long long)most / 2);
    cr_assert(mean / 2 > plant.rate * 9 / 10 && mean / 2 < plant.rate * 11 / 10, "%s: %llu", what,
              (unsigned long long)mean / 2);
    cr_assert_leq(s.longest_us, 4 * SEC, "%s: %llu us", what, (unsigned long long)s.longest_us);
}

Test(pace, commits_come_to_the_pageservers_rate_and_do_not_oscillate)
{
    static const uint64_t rates[] = {2 * MIB, 15 * MIB, 100 * MIB, 800 * MIB};
    static const uint64_t batches[] = {65536, MIB, 16 * MIB};
    static const unsigned clients[] = {1, 8, 64};
    for (int r = 0; r < 4; r++)
        for (int b = 0; b < 3; b++)
            for (int c = 0; c < 3; c++) {
                /* Enough to want more than there is, in commits of a sensible size. */
                uint64_t bytes = rates[r] / 100 / clients[c] * 2;
                comes_to_rest((struct plant){.bytes = bytes + 512,
                                             .clients = clients[c],
                                             .work_us = 5000,
                                             .rate = rates[r],
                                             .batch = batches[b]});
            }
}

/* Many small commits, and few large ones. */
Test(pace, the_size_of_commits_does_not_matter)
{
    comes_to_rest((struct plant){
        .bytes = 600, .clients = 64, .work_us = 1000, .rate = 15 * MIB, .batch = 65536});
    comes_to_rest((struct plant){
        .bytes = 8 * MIB, .clients = 4, .work_us = 20000, .rate = 50 * MIB, .batch = 8 * MIB});
}

/* Stopped and let go on in turn, as a machine that is short of processors: slower, not stuck. */
Test(pace, a_pageserver_that_stutters_is_a_slow_one)
{
    struct sim s = begin((struct plant){.bytes = 256 << 10,
                                        .clients = 8,
                                        .work_us = 5000,
                                        .rate = 100 * MIB,
                                        .batch = MIB,
                                        .on_us = 200000,
                                        .off_us = 800000});
    run_until(&s, s.now + 60 * SEC);
    cr_assert_leq(s.most_lag, HARD + 8 * (256 << 10), "%llu", (unsigned long long)s.most_lag);
    for (int i = 0; i < 10; i++) {
        uint64_t found = next(&s, 5 * SEC);
        cr_assert(found > 5 * 14 * MIB && found < 5 * 27 * MIB, "%llu MiB in 5 s",
                  (unsigned long long)(found / MIB));
    }
    cr_assert_leq(s.longest_us, 4 * SEC);
    cr_assert(!s.pace.away);
}

/* -- gone --------------------------------------------------------------------------------------
 */

/* For an hour: commits go on as fast as they come after some seconds, and nobody ever waits long.
 */
Test(pace, nobody_waits_for_one_that_is_gone)
{
    struct sim s = begin((struct plant){.bytes = 1 << 20,
                                        .clients = 4,
                                        .work_us = 50000,
                                        .rate = 200 * MIB,
                                        .batch = 8 * MIB,
                                        .stop_us = 5 * SEC,
                                        .go_us = 3605 * SEC});
    run_until(&s, s.plant.stop_us);
    uint64_t usual = next(&s, SEC);
    cr_assert_geq(usual, 60 * MIB);
    run_until(&s, s.plant.stop_us + 15 * SEC);
    for (int i = 0; i < 3580; i += 10)
        cr_assert_geq(next(&s, 10 * SEC), usual * 10 * 9 / 10, "second %d", i);
    cr_assert(s.pace.away);
    cr_assert_leq(s.longest_us, CV_PACE_AWAY_US + SEC);
    /* Back, with an hour's log to take in. */
    run_until(&s, s.plant.go_us + 2 * SEC);
    cr_assert(!s.pace.away && s.pace.owes);
    s.longest_us = 0;
    uint64_t before = lag(&s), steps = 0;
    while (lag(&s) > HARD) {
        uint64_t found = next(&s, 5 * SEC);
        cr_assert_geq(found, usual, "commits go on: %llu", (unsigned long long)found);
        cr_assert_lt(lag(&s), before, "and the lag falls");
        before = lag(&s);
        cr_assert_lt(++steps, 1000u, "it does not catch up");
    }
    cr_assert_leq(s.longest_us, 2 * SEC);
    run_until(&s, s.now + 30 * SEC);
    cr_assert(!s.pace.owes);
    cr_assert_lt(lag(&s), HARD);
}

/* The debt is worked off though commits want more than the pageserver can take. */
Test(pace, a_debt_is_worked_off_under_full_load)
{
    struct sim s = begin((struct plant){.bytes = 1 << 20,
                                        .clients = 16,
                                        .work_us = 10000,
                                        .rate = 100 * MIB,
                                        .batch = 4 * MIB,
                                        .stop_us = 5 * SEC,
                                        .go_us = 20 * SEC});
    run_until(&s, s.plant.go_us + 2 * SEC);
    uint64_t debt = lag(&s);
    cr_assert_gt(debt, 1024 * MIB);
    while (lag(&s) > HARD) {
        uint64_t was = lag(&s), found = next(&s, 4 * SEC);
        cr_assert_geq(found, 4 * 30 * MIB);
        cr_assert_lt(lag(&s), was);
    }
    s.most_lag = 0;
    run_until(&s, s.now + 60 * SEC);
    cr_assert_leq(s.most_lag, HARD + 17 * MIB);
    cr_assert_geq(next(&s, 10 * SEC), 10 * 90 * MIB);
}

/* Commits end while the pageserver is far behind: whoever waits is let go. */
Test(pace, nobody_is_left_waiting)
{
    for (uint64_t idle = 3; idle < 12; idle++) {
        struct sim s = begin((struct plant){.bytes = 4 << 20,
                                            .clients = 16,
                                            .work_us = 10000,
                                            .rate = 20 * MIB,
                                            .batch = 16 * MIB,
                                            .stop_us = (idle % 3) * SEC,
                                            .go_us = idle % 2 ? 3600 * SEC : (idle % 3) * SEC,
                                            .idle_us = idle * SEC});
        run_until(&s, s.plant.idle_us + CV_PACE_AWAY_US + CV_PACE_WAIT_US);
        for (unsigned i = 0; i < 16; i++)
            cr_assert(!s.client[i].paying, "client %u still pays %llu s after the last commit", i,
                      (unsigned long long)((s.now - s.plant.idle_us) / SEC));
    }
}

/* -- single rules ------------------------------------------------------------------------------
 */

Test(pace, a_small_lag_is_not_asked_about)
{
    struct cv_pace p = fresh();
    uint64_t now = SEC;
    cr_assert_eq(cv_pace_commit(&p, now, 4096, 5000), now);
    cr_assert_eq(cv_pace_ask_at(&p, now), 0);
    cr_assert_eq(cv_pace_commit(&p, now, 5000, 5000 + CV_PACE_ASK_BYTES), now);
    cr_assert_eq(cv_pace_ask_at(&p, now), now);
    cv_pace_said(&p, now + 100, 5000 + CV_PACE_ASK_BYTES);
    cr_assert_eq(cv_pace_ask_at(&p, now), 0);
}

/* Long pauses between small commits do not make it away. */
Test(pace, who_was_not_asked_is_not_away)
{
    struct cv_pace p = fresh();
    lsn_t at = 4096;
    for (uint64_t now = SEC; now < 1000 * SEC; now += 30 * SEC, at += 1000) {
        cv_pace_commit(&p, now, at, at + 1000);
        cr_assert(!p.away);
    }
}

/* At the hard limit nothing begins; one answer that it moved lets it go on. */
Test(pace, at_the_hard_limit_nothing_begins)
{
    struct cv_pace p = fresh();
    cv_pace_commit(&p, SEC, 4096, 4096 + HARD);
    cr_assert(!cv_pace_may_begin(&p, SEC));
    cv_pace_said(&p, SEC + 1000, 4096 + MIB);
    cr_assert(cv_pace_may_begin(&p, SEC + 1000));
}

/* An answer of before, or of a pageserver that begins anew, takes nothing back. */
Test(pace, what_was_ingested_stays_so)
{
    struct cv_pace p = fresh();
    cv_pace_commit(&p, SEC, 4096, 4096 + 10 * MIB);
    cv_pace_said(&p, SEC, 4096 + 9 * MIB);
    cv_pace_said(&p, 2 * SEC, 4096);
    cr_assert_eq(cv_pace_lag(&p), MIB);
}

/* Commits that were lost are no lag. */
Test(pace, a_lost_term_is_no_lag)
{
    struct cv_pace p = fresh();
    cv_pace_commit(&p, SEC, 4096, 4096 + 300 * MIB);
    cv_pace_cut(&p, 4096);
    cr_assert_eq(cv_pace_lag(&p), 0);
    cr_assert(cv_pace_may_begin(&p, SEC));
}
