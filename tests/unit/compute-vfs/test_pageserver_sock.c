#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "common/crc32c.h"
#include "compute-vfs/pageserver_sock.h"
#include "fake_server.h"
#include "tests/unit/slower.h"

#define PAGE 1024u

/* What the fake pageserver lies about. */
enum lie {
    HONEST,
    WRONG_TIMELINE,
    WRONG_PAGE,
    WRONG_ORDER,
    WRONG_LSN,
    WRONG_CRC,
    FUTURE_VERSION,
    SHORT_PAYLOAD,
    WRONG_SIZE,
    FEWER_PAGES,
    ALWAYS_AGAIN,
    MORE_PAGES,   /* one more than was asked for, of a chain too */
    NO_SUCH_PAGE, /* in the chain: page 0 */
};

static struct {
    struct fake_server server;
    enum lie lie;
    unsigned requests;
    unsigned at_most;    /* pages of a reply; the rest is AGAIN. 0: all */
    unsigned lag;        /* so many requests are answered LAG */
    uint64_t reached;    /*   by one that says how far it has got, if not 0 */
    bool again;          /*   and has to begin anew each time */
    unsigned close_next; /* so many requests are answered by closing the connection */
    unsigned swallow;    /* so many requests are never answered */
    unsigned creating;   /* so many opens find the database being created */
    pgno_t corrupt;
    unsigned chain_ends; /* behind so many pages; 0: the server knows nothing of chains */
    uint32_t chain_asked;
    char database_id[3][16];
    unsigned creates;
    unsigned ancestors; /* of what is opened, each with a record more than the next one */
    bool upside_down;
    uint32_t deadline_ms;
} fx;

static struct cv_pages *pages;
static struct co_id timeline;
static char address[64];

static void page_bytes(pgno_t pgno, lsn_t lsn, uint8_t out[PAGE])
{
    memset(out, (int)(pgno * 7 + lsn), PAGE);
    memcpy(out, &pgno, sizeof pgno);
}

static void answer_pages(struct fake_conn *c, const struct frame_header *frame, struct co_span body)
{
    Corallite__GetPages *get = corallite__get_pages__unpack(NULL, frame->message_bytes, body.data);
    Corallite__Pages reply = CORALLITE__PAGES__INIT;
    static Corallite__Pages__Page page[CO_GETPAGES_MAX];
    static Corallite__Pages__Page *list[CO_GETPAGES_MAX];
    struct co_buf payload = {0};
    uint8_t bytes[PAGE];
    unsigned sent = 0;

    fx.deadline_ms = get->deadline_ms;
    fx.chain_asked = get->chain;
    size_t more = get->chain < fx.chain_ends ? get->chain : fx.chain_ends;
    if (fx.lie == MORE_PAGES)
        more = get->chain + 1;
    for (size_t i = 0; i < get->n_pages + more; i++) {
        pgno_t pgno = i < get->n_pages ? get->pages[i] : page[i - 1].pgno + 5;
        corallite__pages__page__init(&page[i]);
        list[i] = &page[i];
        page[i].has_pgno = page[i].has_status = page[i].has_lsn = page[i].has_crc = 1;
        page[i].pgno = pgno;
        if (pgno > 1000) {
            page[i].status = CO_ERR_NOT_FOUND;
        } else if (pgno == fx.corrupt) {
            page[i].status = CO_ERR_CORRUPT;
        } else if ((fx.at_most > 0 && sent >= fx.at_most) || fx.lie == ALWAYS_AGAIN) {
            page[i].status = CO_ERR_AGAIN;
        } else {
            page_bytes(pgno, get->lsn, bytes);
            page[i].lsn = fx.lie == FUTURE_VERSION ? get->lsn + 8 : get->lsn;
            page[i].crc = co_crc32c(0, bytes, PAGE) + (fx.lie == WRONG_CRC && i == 1);
            cr_assert_eq(co_buf_append(&payload, bytes, PAGE), 0);
            sent++;
        }
    }
    if (fx.lie == WRONG_PAGE)
        page[0].pgno++;
    if (fx.lie == WRONG_ORDER) {
        list[0] = &page[1];
        list[1] = &page[0];
    }
    if (fx.lie == SHORT_PAYLOAD)
        payload.len--;
    reply.has_timeline = reply.has_lsn = reply.has_page_size = 1;
    reply.timeline = get->timeline;
    if (fx.lie == WRONG_TIMELINE)
        reply.timeline.data[3] ^= 1;
    reply.lsn = get->lsn + (fx.lie == WRONG_LSN ? 8 : 0);
    reply.page_size = fx.lie == WRONG_SIZE ? 512 : PAGE;
    if (fx.lie == NO_SUCH_PAGE)
        page[get->n_pages].pgno = 0;
    reply.n_pages = get->n_pages + more - (fx.lie == FEWER_PAGES);
    reply.pages = list;
    fake_send(c, FRAME_PAGES, frame->request_id, &reply.base, co_buf_span(&payload));
    co_buf_free(&payload);
    corallite__get_pages__free_unpacked(get, NULL);
}

static void answer_opened(struct fake_conn *c, uint64_t request_id, bool found)
{
    Corallite__Opened opened = CORALLITE__OPENED__INIT;
    Corallite__Timeline t = CORALLITE__TIMELINE__INIT;
    Corallite__Config config = CORALLITE__CONFIG__INIT;
    Corallite__Member member[3];
    Corallite__Member *members[3];
    Corallite__Safekeeper sk[3];
    Corallite__Safekeeper *sks[3];
    static uint8_t database[16] = {9};

    for (unsigned i = 0; i < 3; i++) {
        corallite__member__init(&member[i]);
        corallite__safekeeper__init(&sk[i]);
        member[i].has_node = sk[i].has_node = sk[i].has_port = 1;
        member[i].node = sk[i].node = i + 1;
        sk[i].host = (char *)"127.0.0.1";
        sk[i].port = 6410 + 2 * i;
        members[i] = &member[i];
        sks[i] = &sk[i];
    }
    config.has_version = 1;
    config.version = 1;
    config.n_members = 3;
    config.members = members;
    t.has_id = t.has_database = t.has_start_lsn = t.has_state = 1;
    t.id = (ProtobufCBinaryData){16, timeline.b};
    t.database = (ProtobufCBinaryData){16, database};
    t.start_lsn = LSN_FIRST;
    t.config = &config;
    t.state = CORALLITE__TIMELINE_STATE__TIMELINE_ACTIVE;
    if (fx.creating > 0) {
        fx.creating--;
        t.state = CORALLITE__TIMELINE_STATE__TIMELINE_CREATING;
    }
    opened.has_cluster = 1;
    opened.cluster = (ProtobufCBinaryData){16, fx.server.cluster.b};
    opened.n_safekeepers = 3;
    opened.safekeepers = sks;
    opened.timeline = found ? &t : NULL;
    Corallite__Resolved__Ancestor up[CO_BRANCH_DEPTH_MAX + 1], *ups[CO_BRANCH_DEPTH_MAX + 1];
    uint8_t id[16] = {7};
    for (unsigned i = 0; i < fx.ancestors; i++) {
        corallite__resolved__ancestor__init(&up[i]);
        up[i].has_timeline = up[i].has_lsn = 1;
        up[i].timeline = (ProtobufCBinaryData){16, id};
        up[i].lsn = LSN_FIRST + 8 * (fx.upside_down ? i : fx.ancestors - i);
        ups[i] = &up[i];
        t.start_lsn = up[i].lsn > t.start_lsn ? up[i].lsn : t.start_lsn;
    }
    opened.n_ancestors = fx.ancestors;
    opened.ancestors = ups;
    fake_send(c, FRAME_OPENED, request_id, &opened.base, co_span_of(NULL, 0));
}

static void answer_changes(struct fake_conn *c, const struct frame_header *frame,
                           struct co_span body)
{
    Corallite__ChangesSince *since =
        corallite__changes_since__unpack(NULL, frame->message_bytes, body.data);
    Corallite__Changes reply = CORALLITE__CHANGES__INIT;

    reply.has_timeline = reply.has_since = reply.has_upto = reply.has_txn_lsn = 1;
    reply.has_db_pages = reply.has_page_size = 1;
    reply.timeline = since->timeline;
    if (fx.lie == WRONG_TIMELINE)
        reply.timeline.data[3] ^= 1;
    reply.since = since->since;
    reply.upto = since->upto != 0 ? since->upto : 9000;
    if (fx.lie == WRONG_LSN)
        reply.upto += 8;
    reply.txn_lsn = fx.lie == FUTURE_VERSION ? reply.upto + 8 : 8000;
    reply.db_pages = 17;
    reply.page_size = fx.lie == WRONG_SIZE ? 1000 : PAGE;
    fake_send(c, FRAME_CHANGES, frame->request_id, &reply.base, co_span_of("list", 4));
    corallite__changes_since__free_unpacked(since, NULL);
}

static bool on_frame(void *owner, struct fake_conn *c, const struct frame_header *frame,
                     struct co_span body)
{
    (void)owner;
    fx.requests++;
    if (fx.close_next > 0) {
        fx.close_next--;
        return false;
    }
    if (fx.swallow > 0) {
        fx.swallow--;
        return true;
    }
    if (fx.lag > 0) {
        fx.lag--;
        if (fx.reached)
            fake_send_lag(c, frame->request_id, fx.reached - (fx.again ? fx.lag % 3 : 0));
        else
            fake_send_error(c, frame->request_id, CO_ERR_LAG,
                            "wanted 8, have 0, from safekeeper 1");
        return true;
    }
    if (frame->type == FRAME_GET_PAGES)
        answer_pages(c, frame, body);
    if (frame->type == FRAME_CHANGES_SINCE)
        answer_changes(c, frame, body);
    if (frame->type == FRAME_OPEN) {
        Corallite__Open *open = corallite__open__unpack(NULL, frame->message_bytes, body.data);
        answer_opened(c, frame->request_id, strcmp(open->database, "shop") == 0);
        corallite__open__free_unpacked(open, NULL);
    }
    if (frame->type == FRAME_CREATE) {
        Corallite__Create *create =
            corallite__create__unpack(NULL, frame->message_bytes, body.data);
        memcpy(fx.database_id[fx.creates++ % 3], create->database_id.data, 16);
        corallite__create__free_unpacked(create, NULL);
        answer_opened(c, frame->request_id, true);
    }
    return true;
}

static void setup(void)
{
    memset(&fx, 0, sizeof fx);
    fake_server_init(&fx.server);
    fx.server.on_frame = on_frame;
    fx.server.cluster = co_id_random();
    timeline = co_id_random();
    fake_server_start(&fx.server);
    snprintf(address, sizeof address, "127.0.0.1:%u", (unsigned)fx.server.port);
    cr_assert_eq(cv_pageserver_open(address, &pages), 0);
}

static void teardown(void)
{
    pages->ops->close(pages);
    fake_server_stop(&fx.server);
}

TestSuite(pageserver_sock, .init = setup, .fini = teardown, .timeout = 30);

static uint8_t room[CO_GETPAGES_MAX][PAGE];

static int get(struct cv_page *p, pgno_t first, uint32_t n, uint32_t timeout_ms)
{
    memset(p, 0, n * sizeof *p);
    for (uint32_t i = 0; i < n; i++) {
        p[i].pgno = first + i;
        p[i].data = room[i];
    }
    memset(room, 0, sizeof room);
    return pages->ops->get(pages, &timeline, 8192, 4096, PAGE, p, n, timeout_ms);
}

static void assert_good(const struct cv_page *p, uint32_t n)
{
    uint8_t want[PAGE];

    for (uint32_t i = 0; i < n; i++) {
        page_bytes(p[i].pgno, 8192, want);
        cr_assert_eq(p[i].status, CO_OK);
        cr_assert_eq(p[i].lsn, 8192);
        cr_assert_arr_eq(p[i].data, want, PAGE);
    }
}

Test(pageserver_sock, opens_a_database_with_all_that_the_log_needs)
{
    /* pages.h: open gives cluster, timeline, configuration and safekeepers */
    struct cv_timeline t;

    cr_assert_eq(pages->ops->open(pages, "shop", "main", 1000, &t), 0, "%s", co_sentence());
    cr_assert(co_id_eq(&t.cluster, &fx.server.cluster));
    cr_assert(co_id_eq(&t.timeline, &timeline));
    cr_assert_eq(t.start_lsn, LSN_FIRST);
    cr_assert_eq(t.config.version, 1);
    cr_assert_eq(t.config.n, 3);
    cr_assert_eq(t.n_safekeepers, 3);
    cr_assert_eq(t.safekeepers[2].node, 3);
    cr_assert_eq(t.safekeepers[2].port, 6414);
}

Test(pageserver_sock, opens_a_branch_with_its_ancestors)
{
    /* pages.h: nearest first; a list that no branch can have is refused */
    struct cv_timeline t;

    fx.ancestors = CO_BRANCH_DEPTH_MAX;
    cr_assert_eq(pages->ops->open(pages, "shop", "dev", 1000, &t), 0, "%s", co_sentence());
    cr_assert_eq(t.n_ancestors, CO_BRANCH_DEPTH_MAX);
    cr_assert(t.ancestors[0].lsn == t.start_lsn && t.ancestors[0].timeline.b[0] == 7);
    cr_assert_eq(t.ancestors[CO_BRANCH_DEPTH_MAX - 1].lsn, LSN_FIRST + 8);
    fx.upside_down = true;
    cr_assert_eq(pages->ops->open(pages, "shop", "dev", 1000, &t), CO_ERR_PROTOCOL);
    fx.upside_down = false;
    fx.ancestors++;
    cr_assert_eq(pages->ops->open(pages, "shop", "dev", 1000, &t), CO_ERR_PROTOCOL);
}

Test(pageserver_sock, an_unknown_database_is_not_found_and_named)
{
    /* pages.h: CO_ERR_NOT_FOUND */
    struct cv_timeline t;

    cr_assert_eq(pages->ops->open(pages, "nope", "main", 1000, &t), CO_ERR_NOT_FOUND);
    cr_assert_not_null(strstr(co_sentence(), "nope/main"));
    cr_assert_not_null(strstr(co_sentence(), address));
}

Test(pageserver_sock, waits_for_a_database_that_is_being_created)
{
    /* M18: whoever opens a CREATING database drives it on */
    struct cv_timeline t;

    fx.creating = 3;
    cr_assert_eq(pages->ops->open(pages, "shop", "main", 5000, &t), 0, "%s", co_sentence());
    cr_assert_eq(fx.requests, 4);
}

Test(pageserver_sock, creates_once_however_often_it_has_to_ask)
{
    /* creating is idempotent by id: the id stays when the connection breaks */
    struct cv_timeline t;

    fx.lag = 2;
    cr_assert_eq(pages->ops->create(pages, "new", 5000, &t), 0, "%s", co_sentence());
    fx.creating = 1;
    cr_assert_eq(pages->ops->create(pages, "new", 5000, &t), 0, "%s", co_sentence());
    cr_assert_eq(fx.creates, 3);
    cr_assert_arr_neq(fx.database_id[0], fx.database_id[1], 16, "two calls are two databases");
    cr_assert_arr_eq(fx.database_id[1], fx.database_id[2], 16, "one call is one");
}

Test(pageserver_sock, brings_pages_and_counts_them)
{
    /* stats are what `fetches under 20 pages` is read from */
    struct cv_page p[20];
    struct cv_pages_stats stats;

    cr_assert_eq(get(p, 5, 20, 1000), 0, "%s", co_sentence());
    assert_good(p, 20);
    pages->ops->stats(pages, &stats);
    cr_assert_eq(stats.round_trips, 1);
    cr_assert_eq(stats.pages, 20);
    cr_assert_gt(stats.bytes_in, 20u * PAGE);
    cr_assert_lt(stats.bytes_in, 20u * PAGE + 1000u);
    cr_assert_gt(stats.bytes_out, 24u);
}

Test(pageserver_sock, one_connection_serves_one_thread_for_ever)
{
    /* pooled: no connection a question */
    struct cv_page p[1];

    for (unsigned i = 0; i < 100; i++)
        cr_assert_eq(get(p, i + 1, 1, 1000), 0);
    cr_assert_eq(fx.server.hellos, 1);
}

Test(pageserver_sock, asks_again_for_what_did_not_fit)
{
    /* S16: the rest of a reply has status AGAIN */
    struct cv_page p[100];

    fx.at_most = 7;
    cr_assert_eq(get(p, 1, 100, 2000), 0, "%s", co_sentence());
    assert_good(p, 100);
    cr_assert_eq(fx.requests, 15);
}

Test(pageserver_sock, a_server_that_gives_nothing_is_not_asked_for_ever)
{
    /* no wait without a bound */
    struct cv_page p[3];

    fx.lie = ALWAYS_AGAIN;
    cr_assert_eq(get(p, 1, 3, 2000), CO_ERR_PROTOCOL);
    cr_assert_eq(fx.requests, 1);
}

Test(pageserver_sock, pages_beyond_the_end_are_not_found)
{
    /* pages.h: NOT_FOUND is a page's status, not the call's */
    struct cv_page p[4];

    cr_assert_eq(get(p, 999, 4, 1000), 0);
    assert_good(p, 2);
    cr_assert_eq(p[2].status, CO_ERR_NOT_FOUND);
    cr_assert_eq(p[3].status, CO_ERR_NOT_FOUND);
}

Test(pageserver_sock, a_damaged_page_is_told_and_the_others_are_served)
{
    /* promise 5: missing or damaged is an error, never zeros */
    struct cv_page p[3];

    fx.corrupt = 11;
    cr_assert_eq(get(p, 10, 3, 1000), 0);
    cr_assert_eq(p[0].status, CO_OK);
    cr_assert_eq(p[1].status, CO_ERR_CORRUPT);
    cr_assert_eq(p[2].status, CO_OK);
    cr_assert_not_null(strstr(co_sentence(), "page 11"));
}

Test(pageserver_sock, a_page_whose_bytes_do_not_match_its_checksum_is_corrupt)
{
    /* promise 5: the checksum travels from the commit to the read */
    struct cv_page p[3];

    fx.lie = WRONG_CRC;
    cr_assert_eq(get(p, 10, 3, 1000), 0);
    cr_assert_eq(p[0].status, CO_OK);
    cr_assert_eq(p[1].status, CO_ERR_CORRUPT);
    cr_assert_eq(p[1].data[100], 0, "bytes that are not believed are not given out");
    cr_assert_not_null(strstr(co_sentence(), address));
}

Test(pageserver_sock, a_version_from_after_the_snapshot_is_corrupt)
{
    /* I13: version LSN <= snapshot LSN */
    struct cv_page p[1];

    fx.lie = FUTURE_VERSION;
    cr_assert_eq(get(p, 10, 1, 1000), 0);
    cr_assert_eq(p[0].status, CO_ERR_CORRUPT);
}

Test(pageserver_sock, answers_that_do_not_fit_the_question_are_refused)
{
    /* the client verifies timeline, LSN, page numbers, order and sizes */
    static const enum lie lies[] = {WRONG_TIMELINE, WRONG_PAGE,    WRONG_ORDER, WRONG_LSN,
                                    WRONG_SIZE,     SHORT_PAYLOAD, FEWER_PAGES};
    struct cv_page p[3];

    for (unsigned i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        fx.lie = lies[i];
        cr_expect_eq(get(p, 10, 3, 1000), CO_ERR_PROTOCOL, "lie %u", i);
        cr_expect_not_null(strstr(co_sentence(), address), "lie %u: %s", i, co_sentence());
    }
    fx.lie = HONEST;
    cr_assert_eq(get(p, 10, 3, 1000), 0, "and none of them does harm to the next question");
    assert_good(p, 3);
}

/* As get(), the last `chain` of them by the chain. */
static int get_chain(struct cv_page *p, pgno_t first, uint32_t n, uint32_t chain)
{
    memset(p, 0, (n + chain) * sizeof *p);
    for (uint32_t i = 0; i < n + chain; i++) {
        p[i].pgno = i < n ? first + i : 0;
        p[i].data = room[i];
    }
    memset(room, 0, sizeof room);
    return pages->ops->get(pages, &timeline, 8192, 4096, PAGE, p, n + chain, 1000);
}

Test(pageserver_sock, pages_of_a_chain_come_along)
{
    /* pages.h: their numbers are told; where there are none the status is NOT_FOUND */
    struct cv_page p[20];

    fx.chain_ends = 4;
    cr_assert_eq(get_chain(p, 10, 2, 6), 0, "%s", co_sentence());
    cr_assert_eq(fx.requests, 1);
    assert_good(p, 6);
    for (uint32_t i = 2; i < 6; i++)
        cr_assert_eq(p[i].pgno, 11 + 5 * (i - 1));
    for (uint32_t i = 6; i < 8; i++)
        cr_assert(p[i].pgno == 0 && p[i].status == CO_ERR_NOT_FOUND);
    cr_assert_eq(get_chain(p, 10, 3, 2), 0);
    assert_good(p, 5);
    fx.at_most = 2; /* the answer has no room for all: no chain then */
    cr_assert_eq(get_chain(p, 10, 5, 2), 0);
    assert_good(p, 5);
}

Test(pageserver_sock, a_server_of_before_sends_no_chains)
{
    struct cv_page p[20];

    cr_assert_eq(get_chain(p, 10, 2, 6), 0, "%s", co_sentence());
    assert_good(p, 2);
    cr_assert(p[2].pgno == 0 && p[2].status == CO_ERR_NOT_FOUND);
    cr_assert_eq(fx.chain_asked, 6);
    cr_assert_eq(get(p, 10, 2, 1000), 0);
    cr_assert_eq(fx.chain_asked, 0);
}

Test(pageserver_sock, a_chain_that_does_not_fit_the_question_is_refused)
{
    static const enum lie lies[] = {MORE_PAGES, NO_SUCH_PAGE, SHORT_PAYLOAD, WRONG_SIZE,
                                    WRONG_PAGE};
    struct cv_page p[20];

    fx.chain_ends = 4;
    for (unsigned i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        fx.lie = lies[i];
        cr_expect_eq(get_chain(p, 10, 1, 3), CO_ERR_PROTOCOL, "lie %u", i);
    }
    fx.lie = MORE_PAGES;
    cr_expect_eq(get(p, 10, 2, 1000), CO_ERR_PROTOCOL, "more than was asked for");
    fx.lie = WRONG_CRC;
    cr_assert_eq(get_chain(p, 10, 1, 3), 0);
    cr_assert_eq(p[0].status, CO_OK);
    cr_assert_eq(p[1].status, CO_ERR_CORRUPT);
}

Test(pageserver_sock, a_broken_connection_is_only_latency)
{
    /* pages.h: a connection that breaks is opened anew within the call */
    struct cv_page p[3];

    cr_assert_eq(get(p, 1, 3, 1000), 0);
    fx.close_next = 2;
    cr_assert_eq(get(p, 1, 3, 5000), 0, "%s", co_sentence());
    assert_good(p, 3);
    fake_server_kick(&fx.server);
    cr_assert_eq(get(p, 1, 3, 5000), 0, "%s", co_sentence());
    assert_good(p, 3);
}

static void *restart_later(void *arg)
{
    (void)arg;
    usleep(1500000);
    fake_server_start(&fx.server);
    return NULL;
}

Test(pageserver_sock, a_restarting_server_is_only_latency)
{
    /* a pageserver that was reached once may be away for as long as the caller's timeout */
    struct cv_page p[3];
    pthread_t thread;

    cr_assert_eq(get(p, 1, 3, 1000), 0);
    fake_server_stop(&fx.server);
    pthread_create(&thread, NULL, restart_later, NULL);
    uint64_t begin = co_now_us();
    cr_assert_eq(get(p, 1, 3, 20000), 0, "%s", co_sentence());
    cr_assert_geq(co_now_us() - begin, 1000000u);
    assert_good(p, 3);
    pthread_join(thread, NULL);
}

Test(pageserver_sock, waits_for_a_log_that_lags)
{
    /* LAG is retried within the caller's timeout; the server is told how long it may wait */
    struct cv_page p[1];

    fx.lag = 3;
    cr_assert_eq(get(p, 1, 1, 5000), 0, "%s", co_sentence());
    cr_assert_eq(fx.requests, 4);
    cr_assert_gt(fx.deadline_ms, 3000u);
    cr_assert_lt(fx.deadline_ms, 5000u);
}

Test(pageserver_sock, a_lag_that_does_not_end_is_told_with_the_servers_words)
{
    /* no wait is unbounded; the sentence has wanted, have, source */
    struct cv_page p[1];
    uint64_t begin = co_now_us();

    fx.lag = 100000;
    cr_assert_eq(get(p, 1, 1, 500), CO_ERR_LAG);
    cr_assert_lt(co_now_us() - begin, 1500000u * slower());
    cr_assert_not_null(strstr(co_sentence(), "wanted 8, have 0"), "%s", co_sentence());
}

Test(pageserver_sock, silence_ends_at_the_deadline)
{
    /* no wait without a bound */
    struct cv_page p[1];
    uint64_t begin = co_now_us();

    cr_assert_eq(get(p, 1, 1, 1000), 0);
    fx.server.mute = true;
    cr_assert_eq(get(p, 1, 1, 300), CO_ERR_TIMEOUT);
    cr_assert_lt(co_now_us() - begin, 1500000u * slower());
    cr_assert_not_null(strstr(co_sentence(), address), "%s", co_sentence());
}

Test(pageserver_sock, a_connection_whose_other_end_vanished_is_only_latency)
{
    /* a host that lost its power, or a length field that was damaged on its way: no answer ever
     * comes on this connection */
    struct cv_page p[1];

    cr_assert_eq(get(p, 1, 1, 1000), 0);
    fx.swallow = 1;
    uint64_t begin = co_now_us();
    cr_assert_eq(get(p, 1, 1, 20000), 0, "%s", co_sentence());
    cr_assert_lt(co_now_us() - begin, 9000000u * slower(), "much sooner than the caller's timeout");
    assert_good(p, 1);
}

Test(pageserver_sock, a_server_that_is_not_there_is_told_within_three_seconds)
{
    /* the first contact fails fast, whatever the timeout, and names the address */
    struct cv_pages *absent;
    struct cv_timeline t;

    fake_server_stop(&fx.server);
    cr_assert_eq(cv_pageserver_open(address, &absent), 0);
    uint64_t begin = co_now_us();
    cr_assert_eq(absent->ops->open(absent, "shop", "main", 30000, &t), CO_ERR_CONNECT);
    cr_assert_lt(co_now_us() - begin, 3000000u * slower());
    cr_assert_not_null(strstr(co_sentence(), address), "%s", co_sentence());
    absent->ops->close(absent);
}

Test(pageserver_sock, an_address_that_is_none_is_refused)
{
    /* bad input gets a sentence */
    struct cv_pages *p = NULL;

    cr_assert_eq(cv_pageserver_open("host:port:more", &p), CO_ERR_INVAL);
    cr_assert_null(p);
    cr_assert_gt(strlen(co_sentence()), 10u);
}

Test(pageserver_sock, brings_changes_and_checks_them)
{
    /* M13: what changed in (since, upto] */
    struct cv_changes changes;

    cr_assert_eq(pages->ops->changes(pages, &timeline, 4096, 9000, 1000, &changes), 0);
    cr_assert_eq(changes.upto, 9000);
    cr_assert_eq(changes.txn_lsn, 8000);
    cr_assert_eq(changes.db_pages, 17);
    cr_assert_eq(changes.page_size, PAGE);
    cr_assert_eq(changes.list.len, 4);
    co_buf_free(&changes.list);

    static const enum lie lies[] = {WRONG_TIMELINE, WRONG_LSN, FUTURE_VERSION, WRONG_SIZE};
    for (unsigned i = 0; i < 4; i++) {
        fx.lie = lies[i];
        cr_expect_eq(pages->ops->changes(pages, &timeline, 4096, 9000, 1000, &changes),
                     CO_ERR_PROTOCOL, "lie %u", i);
        cr_expect_null(changes.list.data);
    }
}

static void *ask_often(void *arg)
{
    struct cv_page p = {.pgno = 3};
    uint8_t bytes[PAGE], want[PAGE];
    long *failures = arg;

    p.data = bytes;
    page_bytes(3, 8192, want);
    for (unsigned i = 0; i < 200; i++) {
        if (pages->ops->get(pages, &timeline, 8192, 0, PAGE, &p, 1, 10000 * slower()) != 0 ||
            p.status != 0 || memcmp(bytes, want, PAGE) != 0)
            ++*failures;
    }
    return NULL;
}

Test(pageserver_sock, many_threads_share_the_pool)
{
    /* any thread may call; connections are not mixed up, also when they break */
    pthread_t thread[16];
    long failures[16] = {0};

    for (unsigned i = 0; i < 16; i++)
        pthread_create(&thread[i], NULL, ask_often, &failures[i]);
    for (unsigned i = 0; i < 5; i++) {
        usleep(5000);
        fake_server_kick(&fx.server);
    }
    for (unsigned i = 0; i < 16; i++) {
        pthread_join(thread[i], NULL);
        cr_expect_eq(failures[i], 0);
    }
    cr_assert_leq(fx.server.hellos, 16u * 7u);
}

Test(pageserver_sock, a_forked_child_is_refused_and_can_close)
{
    /* S15: the child must not use the parent's sockets */
    struct cv_page p[1];

    cr_assert_eq(get(p, 1, 1, 1000), 0);
    /* The server's threads are not in the child: what they hold would be a leak there. */
    pthread_mutex_lock(&fx.server.lock);
    pid_t pid = fork();
    if (pid != 0)
        pthread_mutex_unlock(&fx.server.lock);
    if (pid == 0) {
        int rc = get(p, 1, 1, 1000);
        pages->ops->close(pages);
        _exit(rc == CO_ERR_CLOSED ? 0 : 1);
    }
    int status = -1;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
    cr_assert_eq(get(p, 1, 1, 1000), 0, "the parent's connection is unharmed");
    cr_assert_eq(fx.server.hellos, 1);
}

/* -- two of them: choice.h over sockets --------------------------------------------------------
 */

Test(pageserver_sock, one_that_takes_in_the_same_again_and_again_does_not_get_on)
{
    struct cv_page p[1];
    uint64_t begin_us = co_now_us();

    fx.lag = 100000;
    fx.reached = 8192;
    fx.again = true;
    cr_assert_eq(get(p, 1, 1, 1500), CO_ERR_LAG);
    cr_assert_lt(co_now_us() - begin_us, 4000000 * slower());
}

static struct {
    struct fake_server server;
    int says;         /* an error to every request; 0: it answers */
    uint64_t reached; /* so far it has got, which is not far enough; 0: it answers */
    unsigned requests;
} second;

static bool on_second(void *owner, struct fake_conn *c, const struct frame_header *frame,
                      struct co_span body)
{
    (void)owner;
    second.requests++;
    if (second.reached)
        fake_send_lag(c, frame->request_id, second.reached);
    else if (second.says)
        fake_send_error(c, frame->request_id, second.says, "it is for 127.0.0.1:1 alone");
    else if (frame->type == FRAME_GET_PAGES)
        answer_pages(c, frame, body);
    else
        answer_opened(c, frame->request_id, true);
    return true;
}

static void setup_two(void)
{
    char both[140];

    setup();
    pages->ops->close(pages);
    memset(&second, 0, sizeof second);
    fake_server_init(&second.server);
    second.server.on_frame = on_second;
    second.server.cluster = fx.server.cluster;
    fake_server_start(&second.server);
    snprintf(both, sizeof both, "%s,127.0.0.1:%u", address, (unsigned)second.server.port);
    cr_assert_eq(cv_pageserver_open(both, &pages), 0);
}

static void teardown_two(void)
{
    pages->ops->close(pages);
    fake_server_stop(&second.server);
    fake_server_stop(&fx.server);
}

TestSuite(two_pageservers, .init = setup_two, .fini = teardown_two, .timeout = 30);

static uint64_t timed_get(void)
{
    struct cv_page p[2];
    uint64_t begin_us = co_now_us();

    cr_assert_eq(get(p, 5, 2, 10000), 0, "%s", co_sentence());
    assert_good(p, 2);
    return co_now_us() - begin_us;
}

Test(two_pageservers, one_that_is_gone_is_left_at_once_and_taken_again_when_it_is_back)
{
    (void)timed_get();
    /* Under valgrind what is done for the first time takes longer than one try may (C4). */
    for (unsigned i = 1; i < 10 * slower() && second.requests > 0; i++) {
        usleep(200000);
        fx.requests = second.requests = 0;
        (void)timed_get();
    }
    cr_assert(fx.requests == 1 && second.requests == 0);
    fake_server_stop(&fx.server);
    cr_assert_lt(timed_get(), 1000000 * slower());
    cr_assert_eq(second.requests, 1);
    fake_server_start(&fx.server);
    (void)timed_get();
    cr_assert(fx.requests == 1 && second.requests == 2, "it is away for a second");
    for (int i = 0; i < 40 && fx.requests == 1; i++) {
        usleep(100000);
        (void)timed_get();
    }
    unsigned at_second = second.requests;
    (void)timed_get();
    cr_assert(fx.requests == 3 && second.requests == at_second);
}

Test(two_pageservers, one_that_says_nothing_is_left_within_a_second)
{
    (void)timed_get();
    fx.server.mute = true;
    uint64_t first_us = timed_get();
    cr_assert(first_us > 300000 && first_us < 1000000 * slower(), "%llu us",
              (unsigned long long)first_us);
    cr_assert_lt(timed_get(), 300000 * slower(), "the next question does not wait for it");
}

Test(two_pageservers, what_one_has_not_the_other_may_have)
{
    /* A follower that has not heard, one that is behind, one whose log halted, a full one. */
    static const int no[] = {CO_ERR_NOT_FOUND, CO_ERR_GONE,      CO_ERR_LAG,
                             CO_ERR_HALTED,    CO_ERR_NO_QUORUM, CO_ERR_BUSY};

    fake_server_stop(&fx.server);
    (void)timed_get(); /* the second is the one that is asked first now */
    fake_server_start(&fx.server);
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        second.says = no[i];
        cr_assert_lt(timed_get(), 1000000 * slower(), "%s", co_error_name(no[i]));
    }
}

Test(two_pageservers, what_the_owner_alone_can_do_is_asked_of_the_owner)
{
    struct cv_timeline out;
    char both[140];

    pages->ops->close(pages);
    snprintf(both, sizeof both, "127.0.0.1:%u,%s", (unsigned)second.server.port, address);
    cr_assert_eq(cv_pageserver_open(both, &pages), 0);
    second.says = CO_ERR_FOLLOWER;
    cr_assert_eq(pages->ops->create(pages, "shop", 10000, &out), 0, "%s", co_sentence());
    cr_assert(fx.creates == 1 && second.requests == 1);
}

Test(two_pageservers, without_the_owner_that_is_a_sentence_soon)
{
    struct cv_timeline out;
    uint64_t begin_us = co_now_us();

    second.says = CO_ERR_FOLLOWER;
    fake_server_stop(&fx.server);
    cr_assert_eq(pages->ops->create(pages, "shop", 20000, &out), CO_ERR_FOLLOWER);
    cr_assert(strstr(co_sentence(), "alone") && strstr(co_sentence(), "cannot be reached now"),
              "%s", co_sentence());
    cr_assert_lt(co_now_us() - begin_us, 6000000 * slower());
}

Test(two_pageservers, a_clear_no_is_not_asked_about_again)
{
    struct cv_page p[1];

    fake_server_stop(&fx.server);
    second.says = CO_ERR_DROPPED;
    cr_assert_eq(get(p, 1, 1, 5000), CO_ERR_DROPPED);
    cr_assert_eq(second.requests, 1);
}

Test(two_pageservers, two_that_stand_still_at_different_places_are_not_taken_for_one_that_gets_on)
{
    /* What the one says is no progress of the other's: else the time begins anew for ever. */
    struct cv_page p[1];
    uint64_t begin_us = co_now_us();

    fx.lag = 100000;
    fx.reached = 4096;
    second.reached = 8192;
    cr_assert_eq(get(p, 1, 1, 1500), CO_ERR_LAG);
    cr_assert_lt(co_now_us() - begin_us, 3000000 * slower());
}

Test(two_pageservers, both_gone_is_told_in_time)
{
    struct cv_page p[1];
    uint64_t begin_us = co_now_us();

    fake_server_stop(&fx.server);
    fake_server_stop(&second.server);
    cr_assert_eq(get(p, 1, 1, 30000), CO_ERR_CONNECT);
    cr_assert_lt(co_now_us() - begin_us, 3000000 * slower(), "nobody was ever reached");
    fake_server_start(&fx.server);
    fake_server_start(&second.server);
}
