/* test_daemon.c - the whole pageserver in a process of its own, against three fake safekeepers. */
#include "tests/unit/pageserver/daemon_fixture.h"
#include "tests/unit/slower.h"

TestSuite(daemon, .init = setup, .fini = teardown, .timeout = 60);

/* -- Tests ------------------------------------------------------------------------------------- */

Test(daemon, creates_ingests_and_serves)
{
    /* The whole way: CREATE, records, GET_PAGES, CHANGES_SINCE, list. */
    pgno_t p[] = {1, 2, 3};
    int status[4];
    struct ps_meta m = create("shop"), again, held;
    cr_assert_eq(name_call(FRAME_CREATE, "shop", &again), 0);
    cr_assert(co_id_eq(&m.id, &again.id), "created once");
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &again), 0);
    cr_assert(co_id_eq(&m.id, &again.id));
    cr_assert_eq(name_call(FRAME_OPEN, "nothing", &again), CO_ERR_NOT_FOUND);
    cr_assert_eq(m.config.n, 3);
    uint32_t on = 0;
    for (uint32_t i = 0; i < 3; i++)
        on += fake_holds(&fake, i, "shop", &held) && held.state == PS_ACTIVE;
    cr_assert_geq(on, 2, "M18: durable on a majority before it is answered");

    begin_log(&m, 4096);
    cr_assert_eq(get_pages(&m.id, scribe.lsn, 0, 5000, 1, 1, status, NULL), 0);
    cr_assert_eq(status[0], CO_ERR_NOT_FOUND, "an empty database has no page");
    commit(&m.id, p, 3, 1);
    lsn_t first = scribe.lsn;
    expect_pages(&m.id, 1, 3, 5000);
    commit(&m.id, p + 1, 2, 2);
    expect_pages(&m.id, 1, 3, 5000);
    cr_assert_eq(get_pages(&m.id, scribe.lsn, 0, 0, 1, 4, status, NULL), 0);
    cr_assert_eq(status[3], CO_ERR_NOT_FOUND);

    Corallite__ChangesSince cs = CORALLITE__CHANGES_SINCE__INIT;
    struct reply r;
    cs.has_timeline = cs.has_since = 1;
    cs.timeline = msg_bytes16(m.id.b);
    cs.since = first;
    cr_assert_eq(call(FRAME_CHANGES_SINCE, &cs.base, &r), 0, "%s", co_sentence());
    Corallite__Changes *c = message_of(&corallite__changes__descriptor, &r);
    cr_assert(c->upto == scribe.lsn && c->txn_lsn == scribe.lsn && c->db_pages == 3);
    cr_assert(c->page_size == 4096 && !c->all && c->time_us == scribe.time_us);
    struct co_span rest =
        co_span_of(r.body.data + r.frame.message_bytes, r.body.len - r.frame.message_bytes);
    pgno_t *got;
    uint32_t n, db_pages;
    lsn_t lsn;
    cr_assert_eq(changes_get_commit(&rest, first, &lsn, &db_pages, &got, &n), 0);
    cr_assert(lsn == scribe.lsn && n == 2 && got[0] == 2 && got[1] == 3 && rest.len == 0);
    free(got);
    protobuf_c_message_free_unpacked(&c->base, NULL);
    reply_free(&r);

    Corallite__DbList dl = CORALLITE__DB_LIST__INIT;
    cr_assert_eq(call(FRAME_DB_LIST, &dl.base, &r), 0);
    Corallite__DbListed *l = message_of(&corallite__db_listed__descriptor, &r);
    cr_assert_eq(l->n_databases, 1);
    cr_assert_str_eq(l->databases[0]->name, "shop");
    cr_assert_eq(l->databases[0]->db_pages, 3);
    protobuf_c_message_free_unpacked(&l->base, NULL);
    reply_free(&r);
}

Test(daemon, a_commit_is_readable_within_milliseconds)
{
    /* A record that is committed should be readable within about a millisecond on loopback. */
    pgno_t p[] = {1};
    struct ps_meta m = create("fast");
    uint64_t us[100];
    begin_log(&m, 4096);
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t begin = co_now_us();
        commit(&m.id, p, 1, i);
        expect_pages(&m.id, 1, 1, 5000);
        us[i] = co_now_us() - begin;
    }
    for (int i = 1; i < 100; i++)
        for (int j = i; j > 0 && us[j] < us[j - 1]; j--) {
            uint64_t t = us[j];
            us[j] = us[j - 1], us[j - 1] = t;
        }
    fprintf(stderr, "readable after commit: median %llu us, 90 %% %llu us\n",
            (unsigned long long)us[50], (unsigned long long)us[90]);
    cr_assert_lt(us[50], 50000, "generous: the machine is shared");
}

Test(daemon, large_pages_come_back_256_at_a_time)
{
    /* S16: a full answer of 64 KiB pages fits. */
    static pgno_t p[256];
    struct ps_meta m = create("large");
    begin_log(&m, 65536);
    for (pgno_t i = 0; i < 256; i++)
        p[i] = i + 1;
    ps_scribe_txn(&scribe, &records, p, 256, FILL_HALF, 5);
    fake_append(&fake, &m.id, &records);
    for (pgno_t first = 1; first <= 256; first += 64)
        expect_pages(&m.id, first, 64, 20000);
    struct reply r;
    cr_assert_eq(get_pages(&m.id, scribe.lsn, 0, 0, 1, 256, NULL, &r), 0);
    cr_assert_geq(r.body.len, 256u * 65536u);
    reply_free(&r);
}

/* GET_PAGES of `first` and n - 1 more, and `chain` pages behind; which came, in `got`. */
static uint32_t get_chain(const struct co_id *tl, pgno_t first, uint32_t n, uint32_t chain,
                          pgno_t got[CO_GETPAGES_MAX])
{
    Corallite__GetPages m = CORALLITE__GET_PAGES__INIT;
    static pgno_t pgnos[CO_GETPAGES_MAX];
    struct reply r;
    m.has_timeline = m.has_lsn = m.has_deadline_ms = m.has_chain = 1;
    m.timeline = msg_bytes16(tl->b);
    m.lsn = scribe.lsn;
    m.deadline_ms = 5000;
    m.chain = chain;
    for (uint32_t i = 0; i < n; i++)
        pgnos[i] = first + i;
    m.n_pages = n;
    m.pages = pgnos;
    cr_assert_eq(call(FRAME_GET_PAGES, &m.base, &r), 0, "%s", co_sentence());
    Corallite__Pages *p = message_of(&corallite__pages__descriptor, &r);
    uint32_t came = (uint32_t)p->n_pages;
    cr_assert_leq(came, CO_GETPAGES_MAX);
    const uint8_t *at = r.body.data + r.frame.message_bytes;
    for (uint32_t i = 0; i < came; i++) {
        got[i] = p->pages[i]->pgno;
        if (i >= n)
            cr_assert_eq(p->pages[i]->status, 0);
        if (p->pages[i]->status)
            continue;
        cr_assert_eq(memcmp(at, ps_scribe_page(&scribe, got[i]), scribe.page_size), 0);
        cr_assert_eq(p->pages[i]->crc, ps_crc(at, scribe.page_size));
        at += scribe.page_size;
    }
    cr_assert_eq(at, r.body.data + r.body.len);
    protobuf_c_message_free_unpacked(&p->base, NULL);
    reply_free(&r);
    return came;
}

Test(daemon, pages_of_a_chain_come_along)
{
    /* From the last page that was asked for on, as far as the chain, the bound and sense go. */
    static const pgno_t next[] = {9, 0, 7, 300, 4, 6, 5, 10, 262145, 0};
    static pgno_t p[10], got[CO_GETPAGES_MAX];
    struct ps_meta m = create("chains");
    begin_log(&m, 4096);
    for (pgno_t i = 0; i < 10; i++) {
        p[i] = i + 1;
        memset(ps_scribe_page(&scribe, i + 1), (int)i, 4096);
        co_put32be(ps_scribe_page(&scribe, i + 1), next[i]);
    }
    ps_scribe_images(&scribe, &records, p, 10);
    fake_append(&fake, &m.id, &records);
    records.len = 0;

    cr_assert_eq(get_chain(&m.id, 1, 3, 3, got), 6); /* 3 -> 7 -> 5 -> 4 */
    cr_assert(got[2] == 3 && got[3] == 7 && got[4] == 5 && got[5] == 4);
    cr_assert_eq(get_chain(&m.id, 1, 3, 100, got), 6, "4 names a page beyond the end");
    cr_assert_eq(get_chain(&m.id, 1, 3, 0, got), 3);
    cr_assert_eq(get_chain(&m.id, 2, 1, 9, got), 1, "a last page");
    cr_assert_eq(get_chain(&m.id, 1, 1, 9, got), 2, "9 names SQLite's lock page");
    cr_assert_eq(get_chain(&m.id, 11, 1, 9, got), 1, "a page that there is not");
    cr_assert_eq(get_chain(&m.id, 6, 1, UINT32_MAX, got), CO_GETPAGES_MAX, "6 names itself");
    cr_assert_eq(got[CO_GETPAGES_MAX - 1], 6);
    cr_assert_eq(get_chain(&m.id, 1, CO_GETPAGES_MAX, 9, got), CO_GETPAGES_MAX, "no room");
}

Test(daemon, a_deadline_that_passes_says_what_was_wanted_what_there_is_and_from_where)
{
    /* G8: no wait without a bound; LAG carries wanted, have, source. */
    pgno_t p[] = {1};
    int status[1];
    struct reply r;
    struct ps_meta m = create("shop");
    begin_log(&m, 4096);
    commit(&m.id, p, 1, 1);
    expect_pages(&m.id, 1, 1, 5000);
    uint64_t begin = co_now_us();
    cr_assert_eq(get_pages(&m.id, scribe.lsn + 800, 0, 150, 1, 1, NULL, &r), CO_ERR_LAG);
    uint64_t ms = (co_now_us() - begin) / 1000;
    cr_assert(ms >= 140 && ms < 5000, "%llu ms", (unsigned long long)ms);
    cr_assert_eq(r.error->wanted_lsn, scribe.lsn + 800);
    cr_assert_eq(r.error->have_lsn, scribe.lsn);
    cr_assert(strstr(r.error->source, "safekeeper "), "%s", r.error->source);
    cr_assert(strstr(r.error->sentence, "after waiting 150 ms"), "%s", r.error->sentence);
    reply_free(&r);
    cr_assert_eq(get_pages(&m.id, scribe.lsn + 800, 0, 0, 1, 1, NULL, &r), CO_ERR_LAG);
    reply_free(&r);
    cr_assert_eq(get_pages(&m.id, scribe.lsn + 800, scribe.lsn, 0, 1, 1, status, NULL), 0,
                 "not modified since: no need to wait");
    cr_assert_eq(status[0], 0);
}

Test(daemon, a_large_record_that_is_taken_in_again_and_again_is_no_progress)
{
    /* G8: who waits for it is told so; and its pieces are not asked for ever more often. */
    static pgno_t p[256];
    struct reply r;
    uint64_t seen = 0;
    struct ps_meta m = create("large");
    begin_log(&m, 65536);
    for (pgno_t i = 0; i < 256; i++)
        p[i] = i + 1;
    ps_scribe_txn(&scribe, &records, p, 256, FILL_HALF, 5);
    records.data[records.len - 100] ^= 1;
    fake_append(&fake, &m.id, &records);
    uint32_t same = 0;
    for (uint64_t until = co_now_us() + 20000000; same < 2 && co_now_us() < until;) {
        cr_assert_eq(get_pages(&m.id, scribe.lsn, 0, 3000, 1, 1, NULL, &r), CO_ERR_LAG);
        same = seen && r.error->progress == seen ? same + 1 : 0; /* once it had all of it */
        seen = r.error->progress;
        reply_free(&r);
    }
    cr_assert_eq(same, 2);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(get_pages(&m.id, scribe.lsn, 0, 700, 1, 1, NULL, &r), CO_ERR_LAG);
        cr_assert_eq(r.error->progress, seen, "%llx", (unsigned long long)r.error->progress);
        reply_free(&r);
    }
}

Test(daemon, reading_goes_on_when_a_safekeeper_is_silent_frozen_or_gone)
{
    /* The feed switches: any one of three may fail in any way. */
    pgno_t p[] = {1, 2};
    struct ps_meta m = create("shop");
    begin_log(&m, 4096);
    for (uint32_t i = 0; i < 3; i++) {
        fake_set_silent(&fake, i, true);
        commit(&m.id, p, 2, i);
        expect_pages(&m.id, 1, 2, 10000);
        fake_set_silent(&fake, i, false);
    }
    for (uint32_t i = 0; i < 3; i++) {
        fake_set_frozen(&fake, i, true);
        for (uint64_t k = 0; k < 5; k++) {
            commit(&m.id, p, 2, 10 + i * 10 + k);
            expect_pages(&m.id, 1, 2, 10000);
        }
        fake_set_frozen(&fake, i, false);
    }
    for (uint32_t i = 0; i < 3; i++) {
        fake_set_up(&fake, i, false);
        commit(&m.id, p, 2, 100 + i);
        expect_pages(&m.id, 1, 2, 10000);
        fake_set_up(&fake, i, true);
    }
}

Test(daemon, killed_it_goes_on_where_it_was)
{
    /* P2: restarts at its durable LSN. And without safekeepers it serves what it has. */
    pgno_t p[] = {1, 2, 3};
    struct ps_meta m = create("shop"), again;
    begin_log(&m, 4096);
    for (uint64_t i = 0; i < 20; i++)
        commit(&m.id, p, 3, i);
    expect_pages(&m.id, 1, 3, 5000);
    int status = stop_daemon(SIGKILL);
    cr_assert(WIFSIGNALED(status));
    commit(&m.id, p, 3, 99);
    start_daemon();
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &again), 0);
    cr_assert(co_id_eq(&m.id, &again.id));
    expect_pages(&m.id, 1, 3, 5000);

    stop_daemon(SIGKILL);
    for (uint32_t i = 0; i < 3; i++)
        fake_set_up(&fake, i, false);
    start_daemon();
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &again), 0, "what it knows is served");
    expect_pages(&m.id, 1, 3, 0);
    cr_assert_eq(name_call(FRAME_OPEN, "other", &again), CO_ERR_NO_QUORUM, "it cannot know");
    cr_assert(strstr(co_sentence(), "0 of 3 safekeepers are connected"), "%s", co_sentence());
    cr_assert_eq(name_call(FRAME_CREATE, "other", &again), CO_ERR_NO_QUORUM);
}

Test(daemon, a_log_that_contradicts_itself_halts_its_timeline_and_no_other)
{
    /* I12 */
    pgno_t p[] = {1};
    struct reply r;
    struct ps_meta other = create("other"), m = create("shop");
    begin_log(&m, 4096);
    commit(&m.id, p, 1, 1);
    expect_pages(&m.id, 1, 1, 5000);
    lsn_t good = scribe.lsn;
    scribe.digest.b[0] ^= 1;
    commit(&m.id, p, 1, 2);
    cr_assert_eq(get_pages(&m.id, scribe.lsn, 0, 5000, 1, 1, NULL, &r), CO_ERR_HALTED, "%s",
                 co_sentence());
    cr_assert(strstr(r.error->sentence, "follows another record"), "%s", r.error->sentence);
    reply_free(&r);
    int status[1];
    cr_assert_eq(get_pages(&m.id, good, 0, 0, 1, 1, status, NULL), 0, "what came before is served");
    ps_scribe_free(&scribe);
    begin_log(&other, 4096);
    commit(&other.id, p, 1, 1);
    expect_pages(&other.id, 1, 1, 5000);
}

Test(daemon, a_dropped_database_is_gone_and_its_name_free)
{
    /* M18: a tombstone on a majority; S14: DROPPED is a typed error. */
    pgno_t p[] = {1};
    struct reply r;
    struct ps_meta m = create("shop"), held, again;
    begin_log(&m, 4096);
    commit(&m.id, p, 1, 1);
    expect_pages(&m.id, 1, 1, 5000);
    cr_assert_eq(drop("shop"), 0, "%s", co_sentence());
    uint32_t on = 0;
    for (uint32_t i = 0; i < 3; i++)
        on += fake_holds(&fake, i, "shop", &held) && held.state == PS_DROPPED;
    cr_assert_geq(on, 2);
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &again), CO_ERR_NOT_FOUND);
    cr_assert_eq(get_pages(&m.id, scribe.lsn, 0, 0, 1, 1, NULL, &r), CO_ERR_DROPPED);
    reply_free(&r);
    cr_assert_eq(drop("shop"), CO_ERR_NOT_FOUND);
    cr_assert(strstr(co_sentence(), "no database 'shop'"), "%s", co_sentence());
    again = create("shop");
    cr_assert_not(co_id_eq(&m.id, &again.id));
}

Test(daemon, a_member_that_was_away_is_repaired)
{
    /* M18: the pageserver repairs the missing member in the background. */
    struct ps_meta held;
    fake_set_up(&fake, 2, false);
    struct ps_meta m = create("shop");
    cr_assert_not(fake_holds(&fake, 2, "shop", &held));
    fake_set_up(&fake, 2, true);
    for (int i = 0; i < 1000 * (int)slower() && !fake_holds(&fake, 2, "shop", &held); i++)
        usleep(10000);
    cr_assert(fake_holds(&fake, 2, "shop", &held));
    cr_assert(co_id_eq(&held.id, &m.id) && held.state == PS_ACTIVE);
}

/* -- While a safekeeper is replaced ------------------------------------------------------------ */

/* Safekeeper 3 leaves, 4 comes; nobody is there. */
static struct nodes three_by_four(void)
{
    struct nodes list = {.config = {.version = 2, .n = 3, .n_new = 3}, .n = 4};
    for (uint32_t i = 0; i < 4; i++) {
        list.at[i].node = i + 1;
        list.at[i].port = i < 3 ? fake.node[i].port : free_port();
        snprintf(list.at[i].host, sizeof list.at[i].host, "127.0.0.1");
        if (i < 3)
            list.config.members[i].node_id = i + 1;
        if (i != 2)
            list.config.new_members[i < 2 ? i : 2].node_id = i + 1;
    }
    return list;
}

static size_t safekeepers_of_the_daemon(void)
{
    struct reply r;
    cr_assert_eq(call(FRAME_SERVER_STATUS, NULL, &r), 0, "%s", co_sentence());
    Corallite__ServerStatus *st = message_of(&corallite__server_status__descriptor, &r);
    size_t n = st->n_safekeepers;
    protobuf_c_message_free_unpacked(&st->base, NULL);
    reply_free(&r);
    return n;
}

static int ask_for(const char *db)
{
    Corallite__Create m = CORALLITE__CREATE__INIT;
    struct reply r;
    m.database = TEXT(db);
    int rc = call(FRAME_CREATE, &m.base, &r);
    reply_free(&r);
    return rc;
}

static void expect_members(const struct ps_meta *m, uint32_t last)
{
    cr_assert_eq(m->config.n, 3);
    cr_assert_eq(m->config.n_new, 0, "not one that is leaving");
    cr_assert_eq(m->config.members[0].node_id, 1);
    cr_assert_eq(m->config.members[1].node_id, 2);
    cr_assert_eq(m->config.members[2].node_id, last);
}

Test(daemon, what_is_made_while_a_safekeeper_is_replaced_is_born_with_those_that_stay)
{
    /* Decision 67: it need not be moved, and nobody who leaves is ever needed for it. */
    struct nodes list = three_by_four();
    struct ps_meta held;
    fake_tell_nodes(&fake, 0, &list);
    cr_assert_eq(safekeepers_of_the_daemon(), 4);
    cr_assert_eq(ask_for("shop"), 0, "%s", co_sentence());
    cr_assert(fake_holds(&fake, 0, "shop", &held));
    expect_members(&held, 4);
}

Test(daemon, a_new_list_of_safekeepers_waits_for_what_was_begun_with_the_old_one)
{
    /* Decision 67: who replaces a safekeeper waits until the pageserver has the list, and looks
     * then: nothing may come later that knows the old members only. */
    struct nodes list = three_by_four();
    struct ps_meta held;
    fake_set_up(&fake, 1, false);
    fake_set_up(&fake, 2, false);
    cr_assert_eq(ask_for("shop"), CO_ERR_NO_QUORUM, "begun, and on one of three");
    cr_assert(fake_holds(&fake, 0, "shop", &held) && held.state == PS_CREATING);
    fake_tell_nodes(&fake, 0, &list);
    cr_assert_eq(safekeepers_of_the_daemon(), 3, "the list is not taken");
    cr_assert_eq(ask_for("later"), CO_ERR_NO_QUORUM);
    cr_assert_not(fake_holds(&fake, 0, "later", &held), "nothing is begun meanwhile");
    fake_set_up(&fake, 1, true);
    fake_tell_nodes(&fake, 0, &list);
    for (int i = 0; i < 1000 * (int)slower() && safekeepers_of_the_daemon() != 4; i++)
        usleep(10000);
    cr_assert_eq(safekeepers_of_the_daemon(), 4, "taken as soon as it is made");
    cr_assert(fake_holds(&fake, 0, "shop", &held) && held.state == PS_ACTIVE);
    expect_members(&held, 3);
    cr_assert_eq(ask_for("later"), 0, "%s", co_sentence());
    cr_assert(fake_holds(&fake, 0, "later", &held));
    expect_members(&held, 4);
}

Test(daemon, a_new_list_of_safekeepers_does_not_wait_for_ever)
{
    /* Decision 67: what cannot be made, as on a full disk, holds nobody up for good. */
    struct nodes list = three_by_four();
    fake_set_up(&fake, 1, false);
    fake_set_up(&fake, 2, false);
    cr_assert_eq(ask_for("shop"), CO_ERR_NO_QUORUM, "begun, and on one of three");
    fake_tell_nodes(&fake, 0, &list);
    cr_assert_eq(safekeepers_of_the_daemon(), 3, "it waits");
    for (int i = 0; i < 3000 * (int)slower() && safekeepers_of_the_daemon() != 4; i++)
        usleep(10000);
    cr_assert_eq(safekeepers_of_the_daemon(), 4);
}

Test(daemon, a_creation_that_a_crash_cut_off_is_driven_on)
{
    /* M18: whoever finds a CREATING database drives it on. */
    struct ps_meta m = create("first"), opened;
    stop_daemon(SIGKILL);
    m.id = ps_id(0x33), m.database = ps_id(0x34);
    m.state = PS_CREATING, m.version = 1;
    snprintf(m.database_name, sizeof m.database_name, "half");
    fake_put(&fake, 0, &m); /* on a majority: any majority that lists first knows it */
    fake_put(&fake, 1, &m);
    start_daemon();
    cr_assert_eq(name_call(FRAME_OPEN, "half", &opened), 0, "%s", co_sentence());
    cr_assert(co_id_eq(&opened.id, &m.id) && opened.state == PS_ACTIVE);
}

Test(daemon, a_second_pageserver_refuses_and_takes_over_only_when_told)
{
    /* S13; and an empty pageserver comes back whole from the safekeepers. */
    pgno_t p[] = {1, 2};
    struct ps_meta m = create("shop"), opened;
    create("gone");
    cr_assert_eq(drop("gone"), 0);
    begin_log(&m, 4096);
    commit(&m.id, p, 2, 1);
    expect_pages(&m.id, 1, 2, 5000);
    int status;
    pid_t second = spawn("second", free_port(), false);
    cr_assert_eq(waitpid(second, &status, 0), second);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);

    stop_daemon(SIGKILL);
    port = free_port();
    daemon_pid = spawn("second", port, true);
    reach(&client, port);
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &opened), 0, "%s", co_sentence());
    cr_assert(co_id_eq(&opened.id, &m.id));
    cr_assert_eq(name_call(FRAME_OPEN, "gone", &opened), CO_ERR_NOT_FOUND, "not resurrected");
    expect_pages(&m.id, 1, 2, 10000);

    pid_t first = spawn("ps", free_port(), false);
    cr_assert_eq(waitpid(first, &status, 0), first);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1, "the old one is not the one any more");
}

Test(daemon, what_a_lost_pageserver_left_at_one_safekeeper_is_taken_over_when_that_is_back)
{
    /* S13 */
    struct ps_meta m = create("shop"), opened;
    stop_daemon(SIGKILL);
    m.id = ps_id(0x33), m.database = ps_id(0x34);
    m.state = PS_CREATING, m.version = 1;
    snprintf(m.database_name, sizeof m.database_name, "half");
    fake_put(&fake, 2, &m);
    fake_set_up(&fake, 2, false);
    port = free_port();
    daemon_pid = spawn("second", port, true);
    reach(&client, port);
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &opened), 0, "%s", co_sentence());
    cr_assert_eq(name_call(FRAME_OPEN, "half", &opened), CO_ERR_NOT_FOUND);
    fake_set_up(&fake, 2, true);
    int rc = CO_ERR_NOT_FOUND;
    for (int i = 0; i < 1000 * (int)slower() && rc == CO_ERR_NOT_FOUND; i++) {
        usleep(10000);
        rc = name_call(FRAME_OPEN, "half", &opened);
    }
    cr_assert_eq(rc, 0, "%s", co_sentence());
    cr_assert_not(co_id_eq(&opened.pageserver, &m.pageserver));
}

/* What the pageserver of `owner` was about to make, on a safekeeper that is away. */
static void leave_half(struct ps_meta owner)
{
    owner.id = ps_id(0x33), owner.database = ps_id(0x34);
    owner.state = PS_CREATING, owner.version = 1;
    snprintf(owner.database_name, sizeof owner.database_name, "half");
    fake_put(&fake, 2, &owner);
    fake_set_up(&fake, 2, false);
}

static void start_on(const char *sub, bool take_over)
{
    port = free_port();
    daemon_pid = spawn(sub, port, take_over);
    reach(&client, port);
}

static void expect_found(const char *db, struct ps_meta *opened)
{
    int rc = CO_ERR_NOT_FOUND;
    for (int i = 0; i < 1000 * (int)slower() && rc == CO_ERR_NOT_FOUND; i++) {
        usleep(10000);
        rc = name_call(FRAME_OPEN, db, opened);
    }
    cr_assert_eq(rc, 0, "%s", co_sentence());
}

Test(daemon, what_a_lost_pageserver_left_is_taken_over_after_a_restart_too)
{
    /* S13: the word was given once; the store remembers it. */
    struct ps_meta m = create("shop"), opened, half;
    stop_daemon(SIGKILL);
    leave_half(m);
    start_on("second", true);
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &opened), 0, "%s", co_sentence());
    stop_daemon(SIGKILL);
    start_on("second", false);
    cr_assert_eq(name_call(FRAME_OPEN, "half", &half), CO_ERR_NOT_FOUND);
    fake_set_up(&fake, 2, true);
    expect_found("half", &half);
    cr_assert_not(co_id_eq(&half.pageserver, &m.pageserver));
}

Test(daemon, a_take_over_that_a_crash_cut_off_needs_no_second_word)
{
    /* It is in the store before anything of it is in a registry. */
    struct ps_meta m = create("shop"), opened;
    stop_daemon(SIGKILL);
    fake_set_up(&fake, 1, false);
    fake_set_up(&fake, 2, false);
    start_on("second", true); /* no majority has told it anything */
    stop_daemon(SIGKILL);
    fake_set_up(&fake, 1, true);
    fake_set_up(&fake, 2, true);
    start_on("second", false);
    expect_found("shop", &opened);
    cr_assert(co_id_eq(&opened.id, &m.id));
    cr_assert_not(co_id_eq(&opened.pageserver, &m.pageserver));
}

Test(daemon, a_take_over_that_only_a_minority_heard_of_is_taken_over)
{
    /* S13: one disk took over from this one and was lost; one safekeeper alone knows of it, and
     * comes back when its place has been taken again. */
    struct ps_meta m = create("shop"), other = m, held;
    stop_daemon(SIGKILL);
    other.pageserver = ps_id(0x66), other.version++, other.taken_us = 1000;
    fake_put(&fake, 2, &other);
    fake_set_up(&fake, 2, false);
    start_on("ps", true);
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &held), 0, "%s", co_sentence());
    fake_set_up(&fake, 2, true);
    for (int i = 0; i < 1000 * (int)slower(); i++) {
        cr_assert(fake_holds(&fake, 2, "shop", &held));
        if (co_id_eq(&held.pageserver, &m.pageserver))
            break;
        usleep(10000);
    }
    cr_assert(co_id_eq(&held.pageserver, &m.pageserver), "it is this one's again");
    cr_assert_gt(held.version, other.version);
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &held), 0, "%s", co_sentence());
}

static void expect_end(pid_t pid)
{
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

Test(daemon, of_two_that_took_over_from_each_other_the_later_one_is_the_owner)
{
    /* S13: a disk that was left behind takes over itself: promoted there and back. */
    struct ps_meta m = create("shop"), opened, late;
    stop_daemon(SIGKILL);
    start_on("second", true);
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &opened), 0, "%s", co_sentence());
    pid_t second = daemon_pid;
    psock_close(&client);
    start_on("ps", true);                            /* by mistake while the other runs */
    for (int i = 0; i < 1000 * (int)slower(); i++) { /* it may answer before it has taken it */
        cr_assert_eq(name_call(FRAME_OPEN, "shop", &opened), 0, "%s", co_sentence());
        if (co_id_eq(&opened.pageserver, &m.pageserver))
            break;
        usleep(10000);
    }
    cr_assert(co_id_eq(&opened.pageserver, &m.pageserver));
    fake_set_up(&fake, 2, false);
    fake_set_up(&fake, 2, true); /* it tells the other one */
    expect_end(second);
    late = create("late");
    cr_assert(co_id_eq(&late.pageserver, &m.pageserver));
    second = spawn("second", free_port(), false);
    expect_end(second);
    cr_assert_eq(name_call(FRAME_OPEN, "late", &opened), 0, "%s", co_sentence());
    cr_assert(co_id_eq(&opened.pageserver, &m.pageserver), "nobody has taken it");
}

Test(daemon, who_follows_has_been_told_to_take_over_no_more)
{
    /* Told to, and killed before it could; then it follows: that word is not kept for a later
     * start that was forgotten to be told anything. */
    struct ps_meta m = create("shop"), held;
    pid_t owner = daemon_pid;
    uint16_t at = port;
    psock_close(&client);
    fake_set_up(&fake, 1, false);
    fake_set_up(&fake, 2, false);
    start_on("second", true);
    stop_daemon(SIGKILL);
    fake_set_up(&fake, 1, true);
    fake_set_up(&fake, 2, true);
    spawn_follows = at;
    start_on("second", false);
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &held), 0, "%s", co_sentence());
    stop_daemon(SIGKILL);
    spawn_follows = 0;
    expect_end(spawn("second", free_port(), false));
    cr_assert(fake_holds(&fake, 0, "shop", &held));
    cr_assert(co_id_eq(&held.pageserver, &m.pageserver), "nobody has taken it");
    daemon_pid = owner;
}

static size_t connected_safekeepers(void)
{
    struct reply r;
    size_t n = 0;
    cr_assert_eq(call(FRAME_SERVER_STATUS, NULL, &r), 0, "%s", co_sentence());
    Corallite__ServerStatus *st = message_of(&corallite__server_status__descriptor, &r);
    for (size_t i = 0; i < st->n_safekeepers; i++)
        n += st->safekeepers[i]->connected != 0;
    protobuf_c_message_free_unpacked(&st->base, NULL);
    reply_free(&r);
    return n;
}

Test(daemon, who_follows_is_not_the_owner_by_what_it_left_itself)
{
    /* S13: the former owner follows, and a safekeeper comes back with what it was about to make. */
    struct ps_meta m = create("shop"), opened;
    stop_daemon(SIGKILL);
    leave_half(m);
    start_on("second", true);
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &opened), 0, "%s", co_sentence());
    spawn_follows = port;
    stop_daemon(SIGKILL); /* or it would take that over at once */
    start_on("ps", false);
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &opened), 0, "%s", co_sentence());
    fake_set_up(&fake, 2, true);
    for (int i = 0; i < 1000 * (int)slower() && connected_safekeepers() < 3; i++)
        usleep(10000);
    cr_assert_eq(connected_safekeepers(), 3);
    for (int i = 0; i < 30; i++) {
        usleep(10000);
        cr_assert_eq(name_call(FRAME_OPEN, "shop", &opened), 0, "%s", co_sentence());
    }
}

Test(daemon, bad_requests_get_sentences_and_the_connection_lives)
{
    /* Promise 7: no input on any socket crashes, hangs or bloats a daemon. */
    struct ps_meta m = create("shop"), out;
    struct co_id unknown = ps_id(0x99);
    struct reply r;
    cr_assert_eq(get_pages(&m.id, 5000, 0, 0, 1, 0, NULL, &r), CO_ERR_INVAL);
    reply_free(&r);
    cr_assert_eq(get_pages(&m.id, 5000, 0, 0, 1, 257, NULL, &r), CO_ERR_INVAL);
    cr_assert(strstr(r.error->sentence, "257"), "%s", r.error->sentence);
    reply_free(&r);
    cr_assert_eq(get_pages(&m.id, 5000, 0, 0, 0, 1, NULL, &r), CO_ERR_INVAL);
    reply_free(&r);
    cr_assert_eq(get_pages(&m.id, 0, 0, 0, 1, 1, NULL, &r), CO_ERR_INVAL);
    reply_free(&r);
    cr_assert_eq(get_pages(&unknown, 5000, 0, 0, 1, 1, NULL, &r), CO_ERR_NOT_FOUND);
    reply_free(&r);
    cr_assert_eq(name_call(FRAME_CREATE, "my shop!", &out), CO_ERR_NAME);
    cr_assert(strstr(co_sentence(), "my-shop"), "a valid name is proposed: %s", co_sentence());
    cr_assert_eq(name_call(FRAME_CREATE, "", &out), CO_ERR_NAME);
    Corallite__GetPages none = CORALLITE__GET_PAGES__INIT;
    cr_assert_eq(call(FRAME_GET_PAGES, &none.base, &r), CO_ERR_NOT_FOUND);
    reply_free(&r);
    cr_assert_eq(call(FRAME_READ_POS, NULL, &r), CO_ERR_PROTOCOL);
    reply_free(&r);
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &out), 0, "the connection still serves");
}

Test(daemon, waits_of_a_client_that_goes_away_are_forgotten)
{
    /* G8 */
    struct ps_meta m = create("shop"), out;
    Corallite__GetPages g = CORALLITE__GET_PAGES__INIT;
    uint32_t one = 1;
    struct co_buf frames = {0};
    uint8_t packed[128];
    g.has_timeline = g.has_lsn = g.has_deadline_ms = 1;
    g.timeline = msg_bytes16(m.id.b);
    g.lsn = 1 << 20;
    g.deadline_ms = 60000;
    g.n_pages = 1;
    g.pages = &one;
    size_t n = corallite__get_pages__pack(&g, packed);
    for (uint64_t i = 1; i <= 50; i++)
        cr_assert_eq(frame_append(&frames, FRAME_GET_PAGES, i, co_span_of(packed, n), NOTHING), 0);
    struct psock other;
    reach(&other, port);
    cr_assert_eq(psock_queue(&other, co_buf_span(&frames)), 0);
    co_buf_free(&frames);
    usleep(100000);
    psock_close(&other);
    begin_log(&m, 4096); /* the log moves on: nobody is there to be told */
    usleep(100000);
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &out), 0);
}

Test(daemon, sigterm_ends_it_with_0)
{
    /* A clean stop, also with requests under way. */
    pgno_t p[] = {1};
    struct ps_meta m = create("shop");
    begin_log(&m, 4096);
    commit(&m.id, p, 1, 1);
    uint64_t begin = co_now_us();
    int status = stop_daemon(SIGTERM);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
    cr_assert_lt(co_now_us() - begin, 5000000u * slower());
}

Test(daemon, a_port_in_use_is_said_and_ends_it_with_1)
{
    /* Bad input gets a sentence. */
    int status;
    char log[96], text[2000] = "";
    pid_t second = spawn("second", port, false);
    cr_assert_eq(waitpid(second, &status, 0), second);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    snprintf(log, sizeof log, "%s/second.log", dir);
    FILE *f = fopen(log, "r");
    cr_assert_not_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    cr_assert(strstr(text, "in use"), "%s", text);
}
