/* test_pageserver_moments.c - questions about history over a socket: nothing is believed. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock_file.h"
#include "compute-vfs/pageserver_sock.h"
#include "fake_server.h"

static struct {
    struct fake_server server;
    /* what the next answer lies about */
    bool no_timeline, odd_lsn, no_pages, odd_page_size, short_id;
    bool too_many, unordered, above, empty_but_more, no_name;
    unsigned lag;
    char at[100];
    uint64_t before;
    uint32_t limit;
} fx;

static struct cv_pages *pages;
static struct co_id timeline;

static Corallite__Timeline wire_timeline(void)
{
    Corallite__Timeline t = CORALLITE__TIMELINE__INIT;

    t.has_id = 1;
    t.id = (ProtobufCBinaryData){fx.short_id ? 15 : 16, timeline.b};
    return t;
}

static void answer_resolve(struct fake_conn *c, const struct frame_header *f, struct co_span body)
{
    Corallite__Resolve *ask = corallite__resolve__unpack(NULL, f->message_bytes, body.data);
    Corallite__Resolved reply = CORALLITE__RESOLVED__INIT;
    Corallite__Timeline t = wire_timeline();

    snprintf(fx.at, sizeof fx.at, "%s/%s@%s", ask->database, ask->branch, ask->at);
    corallite__resolve__free_unpacked(ask, NULL);
    reply.timeline = fx.no_timeline ? NULL : &t;
    reply.has_lsn = reply.has_time_us = reply.has_db_pages = reply.has_page_size = 1;
    reply.has_head_lsn = 1;
    reply.lsn = fx.odd_lsn ? 8001 : 8000;
    reply.time_us = 77;
    reply.db_pages = fx.no_pages ? 0 : 12;
    reply.page_size = fx.odd_page_size ? 1000 : 4096;
    reply.head_lsn = 9600;
    fake_send(c, FRAME_RESOLVED, f->request_id, &reply.base, co_span_of(NULL, 0));
}

static void answer_log(struct fake_conn *c, const struct frame_header *f, struct co_span body)
{
    Corallite__Log *ask = corallite__log__unpack(NULL, f->message_bytes, body.data);
    Corallite__Logged reply = CORALLITE__LOGGED__INIT;
    Corallite__Logged__Commit commit[3], *list[3];

    fx.before = ask->before_lsn;
    fx.limit = ask->limit;
    corallite__log__free_unpacked(ask, NULL);
    for (unsigned i = 0; i < 3; i++) {
        corallite__logged__commit__init(&commit[i]);
        commit[i].has_lsn = commit[i].has_time_us = commit[i].has_pages_changed = 1;
        commit[i].lsn = 8000 - 800 * i;
        commit[i].pages_changed = i + 1;
        commit[i].branch = (char *)"dev";
        list[i] = &commit[i];
    }
    if (fx.unordered)
        commit[1].lsn = 8000;
    if (fx.above)
        commit[0].lsn = 8800;
    reply.n_commits = fx.empty_but_more ? 0 : 2 + fx.too_many;
    reply.commits = list;
    reply.has_more = 1;
    reply.more = 1;
    fake_send(c, FRAME_LOGGED, f->request_id, &reply.base, co_span_of(NULL, 0));
}

static void answer_branches(struct fake_conn *c, const struct frame_header *f)
{
    Corallite__BranchListed reply = CORALLITE__BRANCH_LISTED__INIT;
    Corallite__BranchListed__Branch branch[2], *list[2];
    Corallite__Timeline t[2] = {wire_timeline(), wire_timeline()};
    static uint8_t parent[16] = {1};

    for (unsigned i = 0; i < 2; i++) {
        corallite__branch_listed__branch__init(&branch[i]);
        branch[i].timeline = &t[i];
        branch[i].has_head_lsn = 1;
        branch[i].head_lsn = 8000;
        list[i] = &branch[i];
    }
    t[0].branch = (char *)"main";
    t[1].branch = fx.no_name ? NULL : (char *)"dev";
    t[1].has_ancestor = t[1].has_ancestor_lsn = t[1].has_state = t[1].has_protected_ = 1;
    t[1].ancestor = (ProtobufCBinaryData){16, parent};
    t[1].ancestor_lsn = 7200;
    t[1].protected_ = 1;
    t[1].state = CORALLITE__TIMELINE_STATE__TIMELINE_SEALED;
    branch[1].ancestor_name = (char *)"main";
    reply.n_branches = 2;
    reply.branches = list;
    fake_send(c, FRAME_BRANCH_LISTED, f->request_id, &reply.base, co_span_of(NULL, 0));
}

static bool on_frame(void *owner, struct fake_conn *c, const struct frame_header *frame,
                     struct co_span body)
{
    (void)owner;
    if (fx.lag > 0) {
        fx.lag--;
        fake_send_error(c, frame->request_id, CO_ERR_LAG, "not yet");
    } else if (frame->type == FRAME_RESOLVE) {
        answer_resolve(c, frame, body);
    } else if (frame->type == FRAME_LOG) {
        answer_log(c, frame, body);
    } else if (frame->type == FRAME_BRANCH_LIST) {
        answer_branches(c, frame);
    }
    return true;
}

static void setup(void)
{
    char address[64];

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

TestSuite(pageserver_moments, .init = setup, .fini = teardown, .timeout = 30);

static int resolve(struct cv_moment *out)
{
    return pages->ops->resolve(pages, "shop", "dev", "-5m", 2000, out);
}

Test(pageserver_moments, a_moment_is_asked_for_as_it_was_written)
{
    /* it is resolved by the pageserver's clock */
    struct cv_moment m;

    fx.lag = 2;
    cr_assert_eq(resolve(&m), 0, "%s", co_sentence());
    cr_assert_str_eq(fx.at, "shop/dev@-5m");
    cr_assert(co_id_eq(&m.timeline, &timeline));
    cr_assert_eq(m.lsn, 8000);
    cr_assert_eq(m.time_us, 77);
    cr_assert_eq(m.db_pages, 12);
    cr_assert_eq(m.page_size, 4096);
    cr_assert_eq(m.head_lsn, 9600);
}

Test(pageserver_moments, a_moment_that_cannot_be_is_refused)
{
    bool *const lies[] = {&fx.no_timeline, &fx.odd_lsn, &fx.no_pages, &fx.odd_page_size,
                          &fx.short_id};
    struct cv_moment m;

    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        *lies[i] = true;
        cr_expect_eq(resolve(&m), CO_ERR_PROTOCOL, "lie %zu", i);
        *lies[i] = false;
        cr_expect_eq(resolve(&m), 0);
    }
}

static int log_of(lsn_t before, struct cv_logged *out, uint32_t *n, bool *more)
{
    return pages->ops->log(pages, "shop", "dev", "", before, 2, 2000, out, n, more);
}

Test(pageserver_moments, the_log_comes_in_pages_newest_first)
{
    struct cv_logged rows[2];
    uint32_t n;
    bool more;

    cr_assert_eq(log_of(8008, rows, &n, &more), 0, "%s", co_sentence());
    cr_assert_eq(fx.before, 8008);
    cr_assert_eq(fx.limit, 2);
    cr_assert_eq(n, 2);
    cr_assert(more);
    cr_assert_eq(rows[0].lsn, 8000);
    cr_assert_eq(rows[1].lsn, 7200);
    cr_assert_eq(rows[1].pages_changed, 2);
    cr_assert_str_eq(rows[1].branch, "dev");
}

Test(pageserver_moments, a_log_out_of_order_or_out_of_bounds_is_refused)
{
    /* rows[] has room for `limit`; a page that does not go down would be asked for for ever */
    bool *const lies[] = {&fx.too_many, &fx.unordered, &fx.above, &fx.empty_but_more};
    struct cv_logged rows[2];
    uint32_t n;
    bool more;

    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        *lies[i] = true;
        cr_expect_eq(log_of(8008, rows, &n, &more), CO_ERR_PROTOCOL, "lie %zu", i);
        *lies[i] = false;
        cr_expect_eq(log_of(8008, rows, &n, &more), 0);
    }
}

Test(pageserver_moments, branches_come_with_origin_and_state)
{
    struct cv_branch *list;
    uint32_t n;

    cr_assert_eq(pages->ops->branches(pages, "shop", 2000, &list, &n), 0, "%s", co_sentence());
    cr_assert_eq(n, 2);
    cr_assert(list[0].root && !list[0].sealed && !list[0].guarded);
    cr_assert_str_eq(list[1].name, "dev");
    cr_assert_str_eq(list[1].parent, "main");
    cr_assert_eq(list[1].start_lsn, 7200);
    cr_assert(!list[1].root && list[1].sealed && list[1].guarded);
    free(list);
    fx.no_name = true;
    cr_assert_eq(pages->ops->branches(pages, "shop", 2000, &list, &n), CO_ERR_PROTOCOL);
}
