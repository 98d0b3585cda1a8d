/* test_gc_daemon.c - what a whole pageserver keeps and gives up, against three fake safekeepers. */
#include "tests/unit/pageserver/daemon_fixture.h"
#include "tests/unit/slower.h"

TestSuite(gc_daemon, .init = setup, .fini = teardown, .timeout = 60);

#define N 12
#define SECOND                                                                                     \
    (1000000ull * slower()) /* so that a cut is where the test wants it while it lasts             \
                             */

static struct ps_meta tl;
static lsn_t lsn[N];
static uint64_t us[N];

/* Twelve commits of page 1, one every ten seconds until now. */
static void shop(void)
{
    pgno_t one = 1;
    tl = create("shop");
    begin_log(&tl, 4096);
    for (int i = 0; i < N; i++) {
        scribe.time_us = co_wall_us() - (uint64_t)(N - 1 - i) * 10 * SECOND;
        commit(&tl.id, &one, 1, (uint64_t)i + 1);
        lsn[i] = scribe.lsn;
        us[i] = scribe.time_us;
    }
}

static int read_at(const struct co_id *id, lsn_t at)
{
    int status;
    int rc = get_pages(id, at, 0, 5000, 1, 1, &status, NULL);
    return rc ? rc : status;
}

static int retain(const char *branch, uint64_t retention_us)
{
    Corallite__BranchChange m = CORALLITE__BRANCH_CHANGE__INIT;
    struct reply r;
    m.database = TEXT("shop");
    m.branch = TEXT(branch);
    m.has_retention_us = 1;
    m.retention_us = retention_us;
    int rc = call(FRAME_BRANCH_CHANGE, &m.base, &r);
    reply_free(&r);
    return rc;
}

static lsn_t cutoff_of(const char *branch)
{
    Corallite__BranchList m = CORALLITE__BRANCH_LIST__INIT;
    struct reply r;
    lsn_t cutoff = 0;
    m.database = TEXT("shop");
    cr_assert_eq(call(FRAME_BRANCH_LIST, &m.base, &r), 0, "%s", co_sentence());
    Corallite__BranchListed *l = message_of(&corallite__branch_listed__descriptor, &r);
    for (size_t i = 0; i < l->n_branches; i++)
        if (strcmp(l->branches[i]->timeline->branch, branch) == 0)
            cutoff = l->branches[i]->cutoff_lsn;
    protobuf_c_message_free_unpacked(&l->base, NULL);
    reply_free(&r);
    return cutoff;
}

/* Waits for it, without reading there: who reads holds. */
static void await_cutoff(const char *branch, lsn_t want)
{
    for (int i = 0; i < 1000 * (int)slower() && cutoff_of(branch) < want; i++)
        usleep(10000);
    cr_assert_eq(cutoff_of(branch), want);
}

static int collect(bool dry, const char *before, Corallite__GcDone *out)
{
    Corallite__Gc m = CORALLITE__GC__INIT;
    struct reply r;
    m.database = TEXT("shop");
    m.has_dry_run = m.has_deadline_ms = 1;
    m.dry_run = dry;
    m.deadline_ms = 10000;
    m.before = TEXT(before);
    int rc = call(FRAME_GC, &m.base, &r);
    if (!rc) {
        Corallite__GcDone *d = message_of(&corallite__gc_done__descriptor, &r);
        *out = *d;
        protobuf_c_message_free_unpacked(&d->base, NULL);
    }
    reply_free(&r);
    return rc;
}

static int pin(const char *name, lsn_t at)
{
    Corallite__Pin m = CORALLITE__PIN__INIT;
    struct reply r;
    char text[40] = "lsn:";
    lsn_format(at, text + 4);
    m.database = TEXT("shop");
    m.name = TEXT(name);
    m.at = text;
    int rc = call(FRAME_PIN, &m.base, &r);
    reply_free(&r);
    return rc;
}

static int resolve(const char *at)
{
    Corallite__Resolve m = CORALLITE__RESOLVE__INIT;
    struct reply r;
    m.database = TEXT("shop");
    m.at = TEXT(at);
    m.has_deadline_ms = 1;
    m.deadline_ms = 5000;
    int rc = call(FRAME_RESOLVE, &m.base, &r);
    reply_free(&r);
    return rc;
}

static int changes_all(lsn_t since)
{
    Corallite__ChangesSince m = CORALLITE__CHANGES_SINCE__INIT;
    struct reply r;
    m.has_timeline = m.has_since = m.has_deadline_ms = 1;
    m.timeline = msg_bytes16(tl.id.b);
    m.since = since;
    m.deadline_ms = 5000;
    cr_assert_eq(call(FRAME_CHANGES_SINCE, &m.base, &r), 0, "%s", co_sentence());
    Corallite__Changes *c = message_of(&corallite__changes__descriptor, &r);
    int all = c->all;
    protobuf_c_message_free_unpacked(&c->base, NULL);
    reply_free(&r);
    return all;
}

Test(gc_daemon, what_is_older_than_the_retention_is_refused_but_for_pins_and_branches)
{
    /* A read below the cut is a typed error; pins and branch points are read as before; all of it
     * is so after a kill as well. */
    struct ps_meta child;
    char text[WHEN_TEXT];
    shop();
    cr_assert_eq(pin("keep", lsn[2]), 0, "%s", co_sentence());
    cr_assert_eq(branch_at("dev", lsn[3], &child), 0, "%s", co_sentence());
    cr_assert_eq(retain("main", 100000), CO_ERR_INVAL, "shorter than two ttl");
    cr_assert_eq(retain("main", 45 * SECOND), 0, "%s", co_sentence());
    await_cutoff("main", lsn[6]);
    for (int restarted = 0; restarted < 2; restarted++) {
        cr_assert_eq(read_at(&tl.id, lsn[5]), CO_ERR_GONE);
        cr_assert(strstr(co_sentence(), "shop/main at LSN") && strstr(co_sentence(), "retention"),
                  "%s", co_sentence());
        cr_assert_eq(read_at(&tl.id, lsn[0]), CO_ERR_GONE);
        cr_assert_eq(read_at(&tl.id, lsn[2]), 0, "the pin: %s", co_sentence());
        cr_assert_eq(read_at(&child.id, lsn[3]), 0, "the branch: %s", co_sentence());
        cr_assert_eq(read_at(&tl.id, lsn[3]), 0, "the branch point: %s", co_sentence());
        for (int i = 6; i < N; i++)
            cr_assert_eq(read_at(&tl.id, lsn[i]), 0, "%d: %s", i, co_sentence());
        cr_assert_eq(resolve(when_format(us[4] + SECOND, text)), CO_ERR_GONE);
        cr_assert_eq(resolve(when_format(us[7] + SECOND, text)), 0, "%s", co_sentence());
        cr_assert_eq(resolve("pin:keep"), 0, "%s", co_sentence());
        cr_assert_eq(branch_at("late", lsn[1], &child), CO_ERR_GONE);
        cr_assert(changes_all(lsn[4]) && !changes_all(lsn[6]));
        cr_assert_eq(branch_at(restarted ? "dev3" : "dev2", lsn[3], &child), 0, "%s",
                     co_sentence());
        stop_daemon(SIGKILL);
        start_daemon();
    }
}

Test(gc_daemon, nothing_goes_before_the_readers_of_the_time_before_the_start_are_known)
{
    /* S11 */
    Corallite__GcDone done;
    shop();
    cr_assert_eq(retain("main", 45 * SECOND), 0, "%s", co_sentence());
    await_cutoff("main", lsn[6]);
    stop_daemon(SIGKILL);
    start_daemon();
    cr_assert_eq(collect(false, NULL, &done), CO_ERR_BUSY);
    cr_assert(strstr(co_sentence(), "was started a moment ago"), "%s", co_sentence());
    usleep(500000 * slower());
    cr_assert_eq(collect(false, NULL, &done), 0, "%s", co_sentence());
}

Test(gc_daemon, who_reads_an_old_moment_holds_it)
{
    /* The cut does not pass what was read within the ttl. */
    shop();
    cr_assert_eq(read_at(&tl.id, lsn[1]), 0);
    cr_assert_eq(retain("main", 45 * SECOND), 0, "%s", co_sentence());
    for (int i = 0; i < 40; i++) {
        usleep(50000 * slower());
        cr_assert_eq(read_at(&tl.id, lsn[1]), 0, "round %d: %s", i, co_sentence());
    }
    cr_assert_leq(cutoff_of("main"), lsn[1]);
    await_cutoff("main", lsn[6]);
}

Test(gc_daemon, what_is_erased_is_noted_on_the_safekeepers_and_stays_erased)
{
    /* gc --before: a dry run changes nothing; the real one is durable on a majority first, so that
     * a pageserver which begins anew refuses those moments too. */
    Corallite__GcDone dry, done;
    char before[WHEN_TEXT], early[WHEN_TEXT];
    struct ps_meta held;
    shop();
    when_format(us[8] + SECOND, before);
    when_format(us[3] + SECOND, early);
    usleep(900000 * slower());
    cr_assert_eq(collect(true, before, &dry), 0, "%s", co_sentence());
    cr_assert(dry.versions == 8 && dry.commits == 8, "%llu versions, %llu commits",
              (unsigned long long)dry.versions, (unsigned long long)dry.commits);
    cr_assert_eq(resolve(early), 0);
    cr_assert_eq(collect(false, "pin:x", &done), CO_ERR_INVAL);
    cr_assert_eq(collect(false, before, &done), 0, "%s", co_sentence());
    cr_assert(done.versions == 8 && done.commits == 8);
    cr_assert_eq(resolve(early), CO_ERR_GONE);
    cr_assert_eq(read_at(&tl.id, lsn[7]), CO_ERR_GONE);
    cr_assert_eq(read_at(&tl.id, lsn[8]), 0);
    int noted = 0;
    for (uint32_t i = 0; i < 3; i++)
        noted += fake_holds(&fake, i, "shop", &held) && held.erased_us > us[8];
    cr_assert_geq(noted, 2);
    stop_daemon(SIGKILL);
    port = free_port();
    daemon_pid = spawn("other", port, true);
    reach(&client, port);
    cr_assert_eq(resolve(early), CO_ERR_GONE, "the log has it, and it is not told");
}

Test(gc_daemon, a_purged_database_leaves_nothing_and_the_safekeepers_are_told_so)
{
    /* db drop --purge is answered when every safekeeper was told that nothing is left here. */
    Corallite__Drop m = CORALLITE__DROP__INIT;
    struct reply r;
    struct ps_meta held;
    shop();
    cr_assert_eq(read_at(&tl.id, lsn[N - 1]), 0);
    m.database = TEXT("shop");
    m.has_purge = m.purge = 1;
    cr_assert_eq(call(FRAME_DROP, &m.base, &r), 0, "%s", co_sentence());
    reply_free(&r);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert(fake_holds_id(&fake, i, &tl.id, &held));
        cr_assert(held.state == PS_DROPPED && held.purged, "node %u", i);
    }
}

/* -- A pageserver that follows (follow.h) ------------------------------------------------------ */

static pid_t second_pid;
static struct psock second; /* to the follower; `client` is the owner's */

static void start_second(bool take_over)
{
    uint16_t at = free_port();
    spawn_follows = take_over ? 0 : port;
    second_pid = spawn("second", at, take_over);
    spawn_follows = 0;
    reach(&second, at);
}

static void stop_second(void)
{
    int status;
    psock_close(&second);
    kill(second_pid, SIGKILL);
    waitpid(second_pid, &status, 0);
}

/* From now on calls go to the other one. */
static void turn(void)
{
    struct psock s = client;
    client = second;
    second = s;
}

/* Retries while a follower has not heard yet, of this timeline or of anything. */
static void await_read(const struct co_id *id, lsn_t at)
{
    int rc = CO_ERR_AGAIN;
    for (int i = 0; i < 500 * (int)slower() && (rc == CO_ERR_AGAIN || rc == CO_ERR_NO_QUORUM);
         i++) {
        rc = read_at(id, at);
        usleep(10000);
    }
    cr_assert_eq(rc, 0, "%s", co_sentence());
}

Test(gc_daemon, a_follower_cuts_where_the_owner_did_and_keeps_its_pins_and_branches)
{
    /* F1, F2; and what was pinned outlives the owner. */
    struct ps_meta child;
    shop();
    cr_assert_eq(pin("keep", lsn[2]), 0, "%s", co_sentence());
    cr_assert_eq(branch_at("dev", lsn[3], &child), 0, "%s", co_sentence());
    start_second(false);
    turn();
    await_read(&tl.id, lsn[0]);
    await_read(&child.id, lsn[3]);
    cr_assert_eq(pin("here", lsn[2]), CO_ERR_FOLLOWER);
    cr_assert(strstr(co_sentence(), "owns the catalog"), "%s", co_sentence());
    cr_assert_eq(retain("main", 45 * SECOND), CO_ERR_FOLLOWER);
    cr_assert_eq(cutoff_of("main"), 0);
    turn();
    usleep(900000 * slower()); /* what was read above is out of mind */
    cr_assert_eq(retain("main", 45 * SECOND), 0, "%s", co_sentence());
    await_cutoff("main", lsn[6]);
    turn();
    await_cutoff("main", lsn[6]);
    for (int promoted = 0; promoted < 2; promoted++) {
        if (!promoted) /* a cut that a kill took back was not carried out */
            cr_assert_eq(read_at(&tl.id, lsn[5]), CO_ERR_GONE);
        cr_assert_eq(read_at(&tl.id, lsn[2]), 0, "the pin: %s", co_sentence());
        cr_assert_eq(resolve("pin:keep"), 0, "%s", co_sentence());
        cr_assert_eq(read_at(&child.id, lsn[3]), 0, "the branch: %s", co_sentence());
        cr_assert_eq(read_at(&tl.id, lsn[6]), 0, "%s", co_sentence());
        if (promoted)
            break;
        turn();
        stop_daemon(SIGKILL); /* the owner, with `client` */
        stop_second();
        start_second(true);
        turn();
        for (int i = 0; i < 500 * (int)slower() && pin("now", lsn[7]); i++)
            usleep(10000);
    }
    cr_assert_eq(pin("more", lsn[8]), 0, "%s", co_sentence());
    stop_second();
}

Test(gc_daemon, who_reads_at_the_follower_holds_back_the_owners_cut)
{
    /* F1: or a reader who is there could not go on at the owner, nor here a moment later. */
    stop_daemon(SIGKILL);
    spawn_ttl_ms = 1500;
    start_daemon();
    shop();
    start_second(false);
    turn();
    await_read(&tl.id, lsn[3]);
    turn();
    cr_assert_eq(retain("main", 45 * SECOND), 0, "%s", co_sentence());
    for (int i = 0; i < 40; i++) {
        turn();
        cr_assert_eq(read_at(&tl.id, lsn[3]), 0, "after %d ms: %s", i * 100, co_sentence());
        turn();
        cr_assert_leq(cutoff_of("main"), lsn[3]);
        usleep(100000 * slower());
    }
    for (int i = 0; i < 1500 * (int)slower() && cutoff_of("main") <= lsn[3]; i++)
        usleep(10000);
    cr_assert_geq(cutoff_of("main"), lsn[6], "nobody reads there any more");
    stop_second();
}
