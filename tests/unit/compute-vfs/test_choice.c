/* test_choice.c - which of several pageservers is asked: rules C1 to C4 of choice.h. */
#include <criterion/criterion.h>

#include "compute-vfs/choice.h"

#define S 1000000ull

static struct cv_choice c;
static struct cv_try order[CV_SERVERS_MAX];

static void setup(void)
{
    cv_choice_init(&c, 3);
}
TestSuite(choice, .init = setup, .timeout = 20);

static void expect(uint64_t now, uint32_t a, uint32_t b, uint32_t d)
{
    cv_choice_order(&c, now, order);
    cr_assert(order[0].server == a && order[1].server == b && order[2].server == d,
              "at %llu: %u %u %u", (unsigned long long)now, order[0].server, order[1].server,
              order[2].server);
}

Test(choice, the_first_is_asked_while_it_is_there)
{
    /* C1: and its place is what counts, not who answered last. */
    expect(1 * S, 0, 1, 2);
    cv_choice_answered(&c, 1);
    expect(2 * S, 0, 1, 2);
    cr_assert_not(order[0].probe || order[1].probe || order[2].probe);
}

Test(choice, who_failed_is_asked_last_and_not_never)
{
    /* C2, C3 */
    cv_choice_failed(&c, 0, 10 * S);
    expect(10 * S, 1, 2, 0);
    cr_assert(order[2].probe);
    cv_choice_failed(&c, 1, 10 * S);
    expect(10 * S + 1, 2, 0, 1);
    cv_choice_failed(&c, 2, 10 * S);
    expect(10 * S + 2, 0, 1, 2);
}

Test(choice, one_question_at_a_time_looks_whether_it_is_back)
{
    /* C2: else every thread of a process would wait for a server that stays silent. */
    cv_choice_failed(&c, 0, 10 * S);
    expect(10 * S + CV_AWAY_MIN_US - 1, 1, 2, 0);
    expect(10 * S + CV_AWAY_MIN_US, 0, 1, 2);
    cr_assert(order[0].probe && !order[1].probe);
    expect(10 * S + CV_AWAY_MIN_US, 1, 2, 0);
    cv_choice_answered(&c, 0);
    expect(10 * S + CV_AWAY_MIN_US, 0, 1, 2);
    cr_assert_not(order[0].probe);
}

Test(choice, a_probe_whose_end_nobody_told_does_not_last_for_ever)
{
    /* A question that was given up in between must not keep the server away. */
    cv_choice_failed(&c, 0, 10 * S);
    expect(12 * S, 0, 1, 2);
    expect(12 * S + 1, 1, 2, 0);
    expect(12 * S + CV_AWAY_MIN_US, 0, 1, 2);
}

Test(choice, it_is_away_longer_each_time_up_to_a_bound)
{
    /* C2 */
    uint64_t now = 10 * S, away = CV_AWAY_MIN_US;
    for (int i = 0; i < 8; i++) {
        cv_choice_failed(&c, 0, now);
        expect(now + away - 1, 1, 2, 0);
        now += away;
        expect(now, 0, 1, 2);
        away = away * 2 > CV_AWAY_MAX_US ? CV_AWAY_MAX_US : away * 2;
    }
    cv_choice_answered(&c, 0);
    cv_choice_failed(&c, 0, now);
    expect(now + CV_AWAY_MIN_US, 0, 1, 2);
}

Test(choice, many_that_fail_at_once_are_one_failure)
{
    /* C2: 16 threads whose connections broke do not make it ten seconds. */
    for (uint64_t i = 0; i < 16; i++)
        cv_choice_failed(&c, 0, 10 * S + i);
    expect(10 * S + CV_AWAY_MIN_US, 0, 1, 2);
}

Test(choice, those_behind_one_that_is_there_are_not_probed)
{
    /* C2: nobody would go to them. */
    cv_choice_failed(&c, 2, 10 * S);
    expect(20 * S, 0, 1, 2);
    cr_assert(order[2].probe);
    cv_choice_failed(&c, 0, 20 * S);
    expect(20 * S, 1, 0, 2);
}

Test(choice, a_try_is_short_while_there_is_another_and_grows)
{
    /* C4 */
    struct cv_try t = {.server = 0}, probe = {.server = 0, .probe = true};
    cr_assert_eq(cv_choice_bound_us(&c, t, 0, 4 * S), CV_TRY_SHORT_US);
    cr_assert_eq(cv_choice_bound_us(&c, t, 2, 4 * S), 4 * CV_TRY_SHORT_US);
    cr_assert_eq(cv_choice_bound_us(&c, t, 60, 4 * S), 4 * S);
    cr_assert_eq(cv_choice_bound_us(&c, probe, 0, 4 * S), CV_PROBE_US);
    cr_assert(CV_TRY_SHORT_US + CV_PROBE_US < S, "reads fail over within a second");
    cv_choice_init(&c, 1);
    cr_assert_eq(cv_choice_bound_us(&c, t, 0, 4 * S), 4 * S);
}

Test(choice, a_single_one_is_always_asked)
{
    cv_choice_init(&c, 1);
    cv_choice_order(&c, S, order);
    cr_assert_eq(order[0].server, 0);
    cv_choice_failed(&c, 0, S);
    cv_choice_order(&c, S, order);
    cr_assert_eq(order[0].server, 0);
}
