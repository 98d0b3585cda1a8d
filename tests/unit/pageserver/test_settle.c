/* test_settle.c - where a log ends that a restore sealed while its writer died (settle_uv.c). */
#include "tests/unit/pageserver/daemon_fixture.h"

TestSuite(settle, .init = setup, .fini = teardown, .timeout = 120);

static lsn_t known, end; /* to be committed, by all; on some disks */
static struct ps_meta old;

static lsn_t write_page(void)
{
    pgno_t p = 1;
    ps_scribe_images(&scribe, &records, &p, 1);
    fake_append(&fake, &old.id, &records);
    records.len = 0;
    return scribe.lsn;
}

/* A commit that all know, and one that those have for whom `has` is set and that nobody was told
 * of. */
static void a_writer_dies(const bool has[FAKE_NODES])
{
    old = create("shop");
    begin_log(&old, 4096);
    known = write_page();
    for (uint32_t i = 0; i < FAKE_NODES; i++)
        fake_set_frozen(&fake, i, true);
    end = write_page();
    for (uint32_t i = 0; i < FAKE_NODES; i++)
        if (has[i])
            fake_set_has(&fake, &old.id, i, end);
}

static void restore(void)
{
    Corallite__Restore m = CORALLITE__RESTORE__INIT;
    struct reply r;
    m.database = TEXT("shop");
    m.branch = TEXT("main");
    m.keep_as = TEXT("kept");
    m.at = TEXT("lsn:0");
    cr_assert_eq(call(FRAME_RESTORE, &m.base, &r), 0, "%s", co_sentence());
    reply_free(&r);
}

static lsn_t head(void)
{
    Corallite__Resolve m = CORALLITE__RESOLVE__INIT;
    struct reply r;
    m.database = TEXT("shop");
    m.branch = TEXT("kept");
    m.at = TEXT("");
    m.has_deadline_ms = 1;
    m.deadline_ms = 10000;
    cr_assert_eq(call(FRAME_RESOLVE, &m.base, &r), 0, "%s", co_sentence());
    Corallite__Resolved *a = message_of(&corallite__resolved__descriptor, &r);
    lsn_t lsn = a->lsn;
    protobuf_c_message_free_unpacked(&a->base, NULL);
    reply_free(&r);
    return lsn;
}

static struct fake_told told(uint32_t node)
{
    return fake_told(&fake, &old.id, node);
}

static uint32_t elected(void)
{
    return told(0).elected + told(1).elected + told(2).elected;
}

static void wait_for_head(lsn_t lsn)
{
    for (int i = 0; i < 3000 * (int)slower() && head() != lsn; i++)
        usleep(10000);
    cr_assert_eq(head(), lsn);
}

Test(settle, what_two_have_is_told_to_them_and_is_durable_there)
{
    a_writer_dies((const bool[]){true, true, false});
    restore();
    cr_assert_eq(head(), end, "a reader at once sees no less than one that comes later");
    for (uint32_t i = 0; i < 2; i++) {
        /* The head may be answered before the last message came. */
        for (int k = 0; k < 3000 * (int)slower() && told(i).kept < end; k++)
            usleep(10000);
        struct fake_told t = told(i);
        cr_assert_eq(t.commit, end);
        cr_assert(t.elected == 1 && t.kept == end && t.released == 1, "%u, %llx, %u", t.elected,
                  (unsigned long long)t.kept, t.released);
        cr_assert_eq(t.start, end);
        cr_assert_gt(t.term_start, end + CO_GIB, "nothing can be cut by it");
    }
    cr_assert_eq(told(2).elected, 0, "it has not what is told");
    stop_daemon(SIGKILL);
    start_daemon();
    cr_assert_eq(head(), end);
    cr_assert_eq(elected(), 2, "who knows is not told again");
}

Test(settle, what_one_has_of_three_that_answer_is_out)
{
    a_writer_dies((const bool[]){false, true, false});
    restore();
    cr_assert_eq(head(), known);
    cr_assert_eq(elected(), 0);
}

Test(settle, who_is_away_is_waited_for_by_nobody_and_asked_when_it_comes)
{
    a_writer_dies((const bool[]){true, true, false});
    fake_set_up(&fake, 1, false);
    restore();
    cr_assert_eq(head(), known, "nobody knows whether a majority has it");
    cr_assert_eq(elected(), 0);
    fake_set_up(&fake, 1, true);
    wait_for_head(end);
}

Test(settle, who_was_away_and_has_what_another_knows_is_told_when_it_comes)
{
    /* Else it is forgotten with the disk of the one that knows (level B, seed 12200435). */
    a_writer_dies((const bool[]){true, true, false});
    fake_set_frozen(&fake, 0, false); /* its writer told it */
    fake_set_up(&fake, 1, false);
    restore();
    wait_for_head(end);
    cr_assert_eq(elected(), 0);
    fake_set_up(&fake, 1, true);
    for (int k = 0; k < 3000 * (int)slower() && told(1).kept < end; k++)
        usleep(10000);
    cr_assert_eq(told(1).kept, end);
}

Test(settle, a_copy_in_doubt_counts_for_nothing)
{
    a_writer_dies((const bool[]){true, true, false});
    fake_set_doubts(&fake, 1, true);
    restore();
    cr_assert_eq(head(), known);
    cr_assert_eq(elected(), 0);
    fake_set_doubts(&fake, 1, false);
    wait_for_head(end);
}

Test(settle, one_that_does_not_answer_is_not_waited_for)
{
    a_writer_dies((const bool[]){true, true, false});
    fake_set_mute(&fake, 2, true);
    restore();
    wait_for_head(end);
}

Test(settle, who_follows_tells_nobody)
{
    a_writer_dies((const bool[]){true, true, false});
    for (uint32_t i = 0; i < FAKE_NODES; i++)
        fake_set_doubts(&fake, i, true); /* the owner finds out nothing */
    restore();
    cr_assert_eq(head(), known);
    stop_daemon(SIGKILL);
    for (uint32_t i = 0; i < FAKE_NODES; i++)
        fake_set_doubts(&fake, i, false);
    spawn_follows = free_port(); /* nobody is there */
    port = free_port();
    daemon_pid = spawn("second", port, false);
    spawn_follows = 0;
    reach(&client, port);
    cr_assert_eq(head(), known);
    cr_assert_eq(elected(), 0);
    stop_daemon(SIGKILL);
    start_daemon();
    cr_assert_eq(head(), end, "the first answer waits until that is found out");
}

/* One of two that have it was told, a pageserver read it there; then that one is away for good. */
static void the_one_that_knows_goes(bool branched)
{
    struct ps_meta dev;
    a_writer_dies((const bool[]){true, true, false});
    fake_set_frozen(&fake, 1, false);
    int status;
    cr_assert_eq(get_pages(&old.id, end, 0, 10000 * slower(), 1, 1, &status, NULL), 0, "%s",
                 co_sentence());
    if (branched) {
        cr_assert_eq(branch_at("dev", end, &dev), 0, "%s", co_sentence());
        cr_assert_eq(dev.base_term, 3);
    }
    fake_set_up(&fake, 1, false);
}

static void expect_end(void)
{
    restore();
    wait_for_head(end);
    for (int k = 0; k < 3000 * (int)slower() && told(0).kept < end; k++)
        usleep(10000);
    cr_assert_eq(told(0).kept, end);
}

Test(settle, what_was_read_here_is_in_it)
{
    the_one_that_knows_goes(false);
    expect_end();
}

Test(settle, what_a_branch_grew_from_is_in_it_whoever_forgot_it)
{
    /* Level B, seed 13303379. */
    the_one_that_knows_goes(true);
    stop_daemon(SIGKILL);
    port = free_port();
    daemon_pid = spawn("second", port, true); /* its store is empty */
    reach(&client, port);
    expect_end();
}
