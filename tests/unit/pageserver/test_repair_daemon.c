/* test_repair_daemon.c - a whole pageserver that fetches a timeline from the log again, against
 * three fake safekeepers. */
#include "tests/unit/pageserver/daemon_fixture.h"
#include "tests/unit/slower.h"

TestSuite(repair_daemon, .init = setup, .fini = teardown, .timeout = 60);

static struct ps_meta tl;

static void shop(uint32_t commits)
{
    pgno_t p[2] = {1, 2};
    tl = create("shop");
    begin_log(&tl, 4096);
    for (uint32_t i = 0; i < commits; i++) {
        p[1] = 2 + i % 30;
        commit(&tl.id, p, 2, i + 1);
    }
    expect_pages(&tl.id, 1, 3, 5000);
}

static int repair(const struct co_id *id, lsn_t *until)
{
    Corallite__Repair m = CORALLITE__REPAIR__INIT;
    struct reply r;
    m.has_action = m.has_timeline = 1;
    m.action = CORALLITE__REPAIR_ACTION__REPAIR_REBUILD;
    m.timeline = msg_bytes16(id->b);
    int rc = call(FRAME_REPAIR, &m.base, &r);
    if (!rc) {
        Corallite__Repaired *d = message_of(&corallite__repaired__descriptor, &r);
        *until = d->until_lsn;
        protobuf_c_message_free_unpacked(&d->base, NULL);
    }
    reply_free(&r);
    return rc;
}

Test(repair_daemon, everything_comes_back_and_reads_wait_for_it)
{
    uint64_t before, after;
    lsn_t until = 0;
    shop(60);
    cr_assert_eq(verify(&before), 0);
    cr_assert_gt(before, 60);
    cr_assert_eq(repair(&tl.id, &until), 0, "%s", co_sentence());
    cr_assert_eq(until, scribe.lsn);
    expect_pages(&tl.id, 1, 3, 5000); /* waits, and is right */
    cr_assert_eq(verify(&after), 0);
    cr_assert_eq(after, before);
    commit(&tl.id, (pgno_t[]){1, 5}, 2, 99); /* and it goes on */
    expect_pages(&tl.id, 1, 3, 5000);
}

Test(repair_daemon, a_branch_waits_for_its_ancestor)
{
    struct ps_meta child;
    uint64_t versions;
    lsn_t until = 0;
    int status;
    shop(60);
    cr_assert_eq(branch_at("child", scribe.lsn, &child), 0, "%s", co_sentence());
    for (uint32_t i = 0; i < 3; i++)
        fake_set_silent(&fake, i, true); /* no log comes: what is taken away stays away */
    cr_assert_eq(get_pages(&child.id, scribe.lsn, 0, 3000, 1, 1, &status, NULL), 0);
    cr_assert_eq(repair(&tl.id, &until), 0, "%s", co_sentence());
    int rc = get_pages(&child.id, scribe.lsn, 0, 300, 1, 1, &status, NULL);
    cr_assert_eq(rc, CO_ERR_LAG, "a page of the branch is served without its ancestor: %d", rc);
    for (uint32_t i = 0; i < 3; i++)
        fake_set_silent(&fake, i, false);
    expect_pages(&child.id, 1, 3, 20000);
    cr_assert_eq(verify(&versions), 0);
}

Test(repair_daemon, what_a_kill_cuts_off_goes_on_at_the_next_start)
{
    uint64_t versions;
    lsn_t until = 0;
    shop(300);
    for (uint32_t i = 0; i < 3; i++)
        fake_set_frozen(&fake, i, true);
    cr_assert_eq(repair(&tl.id, &until), 0, "%s", co_sentence());
    stop_daemon(SIGKILL);
    for (uint32_t i = 0; i < 3; i++)
        fake_set_frozen(&fake, i, false);
    start_daemon();
    expect_pages(&tl.id, 1, 3, 10000);
    cr_assert_eq(verify(&versions), 0);
    cr_assert_gt(versions, 300);
}

static int collect(uint32_t deadline_ms)
{
    Corallite__Gc gc = CORALLITE__GC__INIT;
    struct reply r;
    gc.database = TEXT("shop");
    gc.has_deadline_ms = 1;
    gc.deadline_ms = deadline_ms;
    int rc = call(FRAME_GC, &gc.base, &r);
    reply_free(&r);
    return rc;
}

Test(repair_daemon, nothing_is_collected_before_it_is_whole)
{
    struct ps_meta child;
    lsn_t until = 0;
    int rc = CO_ERR_BUSY;
    shop(60);
    cr_assert_eq(branch_at("child", scribe.lsn, &child), 0, "%s", co_sentence());
    for (int i = 0; i < 500 * (int)slower() && rc == CO_ERR_BUSY;
         i++) { /* not so soon after a start */
        rc = collect(3000);
        usleep(rc ? 10000 : 0);
    }
    cr_assert_eq(rc, 0, "%s", co_sentence());
    for (uint32_t i = 0; i < 3; i++)
        fake_set_silent(&fake, i, true);
    cr_assert_eq(repair(&tl.id, &until), 0, "%s", co_sentence());
    cr_assert_neq(collect(300), 0, "a plan was made of a timeline that is not there");
    for (uint32_t i = 0; i < 3; i++)
        fake_set_silent(&fake, i, false);
    expect_pages(&child.id, 1, 3, 20000);
    cr_assert_eq(collect(10000), 0, "%s", co_sentence());
    expect_pages(&child.id, 1, 3, 5000);
}

Test(repair_daemon, what_makes_no_sense_is_refused)
{
    Corallite__Repair m = CORALLITE__REPAIR__INIT;
    Corallite__Verify v = CORALLITE__VERIFY__INIT;
    Corallite__VerifyAt at = CORALLITE__VERIFY_AT__INIT;
    struct co_id nobody = ps_id(9);
    struct reply r;
    lsn_t until;
    shop(2);
    cr_assert_eq(repair(&nobody, &until), CO_ERR_NOT_FOUND);
    cr_assert_eq(call(FRAME_REPAIR, &m.base, &r), CO_ERR_PROTOCOL);
    reply_free(&r);
    m.has_action = m.has_no = 1;
    m.action = CORALLITE__REPAIR_ACTION__REPAIR_ORPHAN;
    m.no = 1; /* that of the shop */
    cr_assert_eq(call(FRAME_REPAIR, &m.base, &r), CO_ERR_INVAL);
    reply_free(&r);
    m.action = CORALLITE__REPAIR_ACTION__REPAIR_PIN;
    m.pin = TEXT("nosuch");
    cr_assert_eq(call(FRAME_REPAIR, &m.base, &r), CO_ERR_NOT_FOUND);
    reply_free(&r);
    v.at = &at;
    at.has_no = at.has_phase = 1;
    at.no = 1; /* a phase that there is not */
    cr_assert_eq(call(FRAME_VERIFY, &v.base, &r), CO_ERR_PROTOCOL);
    reply_free(&r);
    expect_pages(&tl.id, 1, 3, 5000);
}
