/* test_store.c - who does a round of the store, and that it is the same round. */
#include "safekeeper/store_int.h"
#include "tests/unit/safekeeper/fixture.h"

#define TIMELINES 2

static uv_loop_t loop;
static struct sk_store *store[2];
static struct sk_files *files[TIMELINES];
static struct sk_stored *stored[TIMELINES];
static lsn_t flushed[TIMELINES];
static struct sk_store *in[TIMELINES]; /* the store of each */
static unsigned done, failures;
static char order[16];

static void on_flushed(void *owner, lsn_t lsn, uint64_t staged)
{
    (void)staged;
    *(lsn_t *)owner = lsn;
}

static void on_failed(void *owner, const char *sentence)
{
    (void)owner;
    (void)sentence;
    failures++;
}

static void on_done(struct sk_job *job)
{
    order[done++] = (char)('0' + job->kind);
}

/* Two stores of one loop; the first timeline in the first, the other one in `where`. Zeros lie
 * ahead. */
static void begin(unsigned where)
{
    struct sk_store_events events = {.failed = on_failed};
    cr_assert_eq(uv_loop_init(&loop), 0);
    cr_assert_eq(sk_store_new(&loop, &events, NULL, &store[0]), 0);
    cr_assert_eq(sk_store_new(&loop, &events, store[0], &store[1]), 0);
    for (unsigned i = 0; i < TIMELINES; i++) {
        fixture()->owner.timeline.b[1] = (uint8_t)i;
        files[i] = fixture_timeline();
        cr_assert_eq(sk_files_keep_ahead(files[i]), 0, "%s", co_sentence());
        cr_assert_not(sk_files_wants_ahead(files[i]));
        in[i] = store[i > 0 ? where : 0];
        cr_assert_eq(sk_store_attach(in[i], files[i], on_flushed, &flushed[i], &stored[i]), 0);
    }
}

/* Appends a record of one page to timeline i; where its log ends then. */
static lsn_t append_as(unsigned i, bool unhurried)
{
    static struct tip tip[TIMELINES];
    static struct co_buf bytes[16];
    static struct sk_job jobs[16];
    static unsigned n;
    struct sk_job *job = &jobs[n];
    cr_assert(n < 16);
    if (tip[i].lsn == 0)
        tip[i] = tip_first();
    lsn_t lsn = tip[i].lsn;
    fixture()->owner.timeline.b[1] = (uint8_t)i;
    make_record(&tip[i], 1, &bytes[n]);
    *job = (struct sk_job){.kind = SK_JOB_APPEND,
                           .timeline = stored[i],
                           .lsn = lsn,
                           .bytes = co_buf_span(&bytes[n]),
                           .unhurried = unhurried,
                           .done = on_done};
    n++;
    sk_store_submit(in[i], job);
    return tip[i].lsn;
}

static lsn_t append(unsigned i)
{
    return append_as(i, false);
}

/* Turns of the loop until timeline i is flushed that far. */
static void await(unsigned i, lsn_t lsn)
{
    uint64_t end = uv_hrtime() + 5000000000u;
    while (flushed[i] < lsn) {
        cr_assert(uv_hrtime() < end, "not flushed: %llu", (unsigned long long)flushed[i]);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    cr_assert_eq(flushed[i], lsn);
}

static void end(void)
{
    for (unsigned i = 0; i < TIMELINES; i++)
        sk_store_detach(stored[i]);
    for (unsigned i = 0; i < 2; i++)
        sk_store_close(store[i]);
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert_eq(uv_loop_close(&loop), 0, "a handle is left");
    cr_assert_eq(failures, 0);
}

/* How far the first one is sealed, as its control block on the disk says: the one in memory is the
 * store thread's. */
static lsn_t sealed(void)
{
    struct sk_owner owner = fixture()->owner;
    struct sk_control_file file;
    struct sk_control control;
    char path[SK_PATH_MAX], id[CO_ID_TEXT];
    owner.timeline.b[1] = 0;
    cr_assert_eq(sk_io_path(path, "%s/timelines/%s/control", fixture()->dir,
                            co_id_format(&owner.timeline, id)),
                 0);
    cr_assert_eq(sk_control_open(path, &owner, &file, &control), 0, "%s", co_sentence());
    sk_control_close(&file);
    return control.sealed_lsn;
}

static uint64_t direct(void)
{
    return co_metric_get(&sk_m_direct_rounds);
}

TestSuite(store, .init = fixture_setup, .fini = fixture_teardown, .timeout = 30);

/* Its writer was answered already: the loop does not sleep in its sync, and it comes by itself. */
Test(store, append_that_nobody_waits_for_is_the_store_thread_s)
{
    begin(0);
    uint64_t before = direct();
    (void)append_as(0, true);
    cr_assert_not_null(store[0]->gathered.head, "it waits for others");
    uv_run(&loop, UV_RUN_NOWAIT);
    lsn_t lsn = append_as(0, true);
    cr_assert_not_null(store[0]->gathered.head);
    await(0, lsn);
    cr_assert_eq(direct(), before);
    end();
}

Test(store, append_that_somebody_waits_for_takes_the_others_along)
{
    begin(0);
    (void)append_as(0, true);
    lsn_t lsn = append(0);
    uv_run(&loop, UV_RUN_NOWAIT);
    cr_assert_null(store[0]->gathered.head);
    await(0, lsn);
    end();
}

Test(store, hurry_sends_off_what_was_gathered)
{
    begin(0);
    lsn_t lsn = append_as(0, true);
    sk_store_hurry(store[0]);
    uv_run(&loop, UV_RUN_NOWAIT);
    cr_assert_null(store[0]->gathered.head);
    await(0, lsn);
    sk_store_hurry(store[0]);
    cr_assert_not(store[0]->hurried, "there is nothing");
    end();
}

/* A small append, when nothing else is in hand, needs no other thread. */
Test(store, lone_append_is_synced_by_the_loop_thread)
{
    begin(0);
    cr_assert_eq(direct(), 0);
    lsn_t lsn = append(0);
    cr_assert_eq(direct(), 0, "not before the turn is over");
    await(0, lsn);
    cr_assert_eq(direct(), 1);
    for (unsigned i = 1; i < 5; i++) /* slow disks, idle work: any of these may go elsewhere */
        await(0, append(0));
    cr_assert_eq(done, 5);
    end();
}

/* What gathers in one turn shares one sync. */
Test(store, appends_of_one_turn_are_one_round)
{
    uint64_t records, before, after, bytes;
    begin(0);
    sk_store_count(&records, &before, &bytes);
    append(0);
    append(0);
    await(0, append(0));
    sk_store_count(&records, &after, &bytes);
    cr_assert_eq(after - before, 1);
    cr_assert_eq(direct(), 1);
    end();
}

/* As soon as two timelines have work the store threads do it, side by side. */
Test(store, two_timelines_of_a_store_go_to_its_thread)
{
    begin(0);
    lsn_t one = append(0), two = append(1);
    await(0, one);
    await(1, two);
    cr_assert_eq(direct(), 0);
    end();
}

Test(store, two_stores_with_work_do_it_on_their_threads)
{
    begin(1);
    lsn_t one = append(0), two = append(1);
    await(0, one);
    await(1, two);
    cr_assert_eq(direct(), 0);
    end();
}

/* Q1: a job that follows appends in the same turn is carried out after them. */
Test(store, order_is_kept_when_another_job_follows)
{
    begin(0);
    lsn_t lsn = append(0);
    struct sk_job flush = {.kind = SK_JOB_FLUSH, .timeline = stored[0], .done = on_done};
    sk_store_submit(in[0], &flush);
    await(0, lsn);
    uint64_t until = uv_hrtime() + 5000000000u;
    while (done < 2 && uv_hrtime() < until)
        uv_run(&loop, UV_RUN_NOWAIT);
    cr_assert_str_eq(order, "01");
    cr_assert_eq(flush.out_lsn, lsn);
    cr_assert_eq(direct(), 0);
    end();
}

/* The store thread, which had no part in it, tends the files when nothing comes any more: seals. */
Test(store, idle_work_follows_direct_rounds)
{
    begin(0);
    usleep(2 * STORE_IDLE_MS * 1000); /* it sleeps without an end now, or is about to */
    lsn_t lsn = append(0);
    await(0, lsn);
    cr_assert_eq(direct(), 1);
    sleep(1); /* many times STORE_IDLE_MS */
    cr_assert_eq(sealed(), lsn);
    end();
}

/* The loop thread leaves a log that wants zeros ahead to the store thread, which writes them. */
Test(store, log_without_zeros_ahead_goes_to_the_store_thread)
{
    begin(0);
    files[0]->log.segments.prepared_lsn = files[0]->log.end_lsn;
    await(0, append(0));
    cr_assert_eq(direct(), 0);
    end();
}
