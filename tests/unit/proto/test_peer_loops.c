/* Connections that move to other loops (proto/peer_loops_uv.h). The server of this test answers at
 * home with the request's id as payload, and on another loop with the number of the loop before it.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "common/log.h"
#include "proto/limits.h"
#include "proto/peer_loops_uv.h"
#include "tests/unit/proto/peer_fixture.h"

static struct {
    uv_loop_t loop;
    uv_async_t stop;
    pthread_t thread;
    struct peer_server *server;
    struct peer_loops *loops;
    uint16_t port;
    uv_timer_t later;
    struct peer *waiting;
    uint64_t waiting_for;
    int left_open;
    _Atomic uint64_t bytes_in, bytes_out;
    _Atomic unsigned hellos, closes, at_home, elsewhere, by_loop[3];
} home;

static int on_hello(void *owner, struct peer *peer, const Corallite__Hello *hello,
                    const Corallite__HelloOk *ok)
{
    Corallite__HelloOk answer = CORALLITE__HELLO_OK__INIT;
    (void)owner;
    (void)hello;
    (void)ok;
    home.hellos++;
    answer.has_protocol = 1;
    answer.protocol = CO_PROTOCOL_VERSION;
    peer_send(peer, FRAME_HELLO_OK, 0, &answer.base, (struct co_span){0});
    return 0;
}

static void echo(struct peer *peer, uint64_t id, uint8_t where)
{
    uint8_t payload[9] = {where};
    co_put64(payload + 1, id);
    peer_send(peer, FRAME_DATA, id, NULL, co_span_of(payload, sizeof payload));
}

static void on_later(uv_timer_t *timer)
{
    (void)timer;
    echo(home.waiting, home.waiting_for, 0);
}

/* GET_PAGES moves; APPEND, DATA echo; DROP is answered later, from a timer; STREAM closes; RELEASE
 * is an error; LOG a large answer. */
static int on_frame(void *owner, struct peer *peer, const struct frame_header *frame,
                    struct co_span body)
{
    struct co_buf big = {0};
    (void)owner;
    (void)body;
    home.at_home++;
    switch (frame->type) {
    case FRAME_GET_PAGES:
        peer_loops_move(home.loops, peer);
        break;
    case FRAME_DROP:
        home.waiting = peer;
        home.waiting_for = frame->request_id;
        uv_timer_start(&home.later, on_later, 20, 0);
        return 0;
    case FRAME_STREAM:
        echo(peer, frame->request_id, 0);
        peer_close(peer, "it wanted to");
        return 0;
    case FRAME_RELEASE:
        return co_fail(CO_ERR_INVAL, "that was one too many");
    case FRAME_LOG:
        cr_assert_eq(co_buf_append_zeros(&big, BIG_ANSWER_BYTES), 0);
        peer_send_take(peer, FRAME_PAGES, frame->request_id, NULL, &big);
        return 0;
    case FRAME_FREE:
        peer_server_close(home.server);
        home.server = NULL;
        return 0;
    default:
        break;
    }
    echo(peer, frame->request_id, 0);
    return 0;
}

static bool answer(void *owner, unsigned which, struct peer *peer, const struct frame_header *frame,
                   struct co_span body)
{
    (void)owner;
    (void)body;
    if (frame->type != FRAME_DATA)
        return false;
    home.elsewhere++;
    home.by_loop[which]++;
    echo(peer, frame->request_id, (uint8_t)(which + 1));
    return true;
}

static void on_close(void *owner, struct peer *peer, const char *reason)
{
    (void)owner;
    (void)reason;
    home.bytes_in += peer_bytes_in(peer);
    home.bytes_out += peer_bytes_out(peer);
    home.closes++;
}

static void on_stop(uv_async_t *handle)
{
    if (home.server)
        peer_server_close(home.server);
    peer_loops_close(home.loops);
    uv_close((uv_handle_t *)&home.later, NULL);
    uv_close((uv_handle_t *)handle, NULL);
}

static void *serve(void *arg)
{
    (void)arg;
    uv_run(&home.loop, UV_RUN_DEFAULT);
    home.left_open = uv_loop_close(&home.loop);
    return NULL;
}

static void setup(void)
{
    struct peer_handler handler = {NULL, on_hello, on_frame, on_close};
    co_log_set_level(CO_LOG_ERROR);
    cr_assert_eq(uv_loop_init(&home.loop), 0);
    cr_assert_eq(uv_async_init(&home.loop, &home.stop, on_stop), 0);
    cr_assert_eq(uv_timer_init(&home.loop, &home.later), 0);
    cr_assert_eq(peer_listen(&home.loop, "127.0.0.1", 0, &handler, &home.server), 0);
    cr_assert_eq(peer_loops_start(&home.loop, 3, answer, NULL, &home.loops), 0);
    home.port = peer_server_port(home.server);
    cr_assert_eq(pthread_create(&home.thread, NULL, serve, NULL), 0);
}

static void end(void)
{
    uv_async_send(&home.stop);
    pthread_join(home.thread, NULL);
    cr_assert_eq(home.left_open, 0, "every handle is closed");
    cr_assert_eq(home.hellos, home.closes, "every accepted peer is told of once");
}

TestSuite(peer_loops, .init = setup, .fini = end, .timeout = 60);

static void ask(int fd, unsigned type, uint64_t id)
{
    struct co_buf out = {0};
    cr_assert_eq(frame_append(&out, type, id, (struct co_span){0}, (struct co_span){0}), 0);
    naked_send(fd, out.data, out.len);
    co_buf_free(&out);
}

/* Which loop answered. */
static uint8_t expect(int fd, uint64_t id)
{
    struct frame_header frame;
    struct co_buf body;
    cr_assert(naked_frame(fd, &frame, &body), "an answer to %llu", (unsigned long long)id);
    cr_assert_eq(frame.type, FRAME_DATA);
    cr_assert_eq(frame.request_id, id);
    cr_assert_geq(body.len, 9);
    uint8_t where = body.data[0];
    co_buf_free(&body);
    return where;
}

/* Connected and moved. */
static int moved(void)
{
    int fd = naked_connect(home.port);
    naked_greet(fd);
    ask(fd, FRAME_GET_PAGES, 1);
    cr_assert_eq(expect(fd, 1), 0);
    return fd;
}

Test(peer_loops, answers_there_what_can_be_answered_there_and_at_home_what_cannot)
{
    /* A client does not notice where it is. */
    int fd = moved();
    for (uint64_t id = 2; id < 200; id += 2) {
        ask(fd, FRAME_DATA, id);
        cr_assert_gt(expect(fd, id), 0);
        ask(fd, FRAME_APPEND, id + 1);
        cr_assert_eq(expect(fd, id + 1), 0);
    }
    close(fd);
    cr_assert(reached(&home.closes, 1));
}

Test(peer_loops, frames_are_handled_in_the_order_in_which_they_came)
{
    /* Also those behind the one with which it moves, and those behind one that is home's. */
    struct co_buf all = {0};
    int fd = naked_connect(home.port);
    naked_greet(fd);
    for (uint64_t id = 1; id <= 300; id++)
        cr_assert_eq(frame_append(&all,
                                  id == 5       ? FRAME_GET_PAGES
                                  : id % 3 == 0 ? FRAME_APPEND
                                                : FRAME_DATA,
                                  id, (struct co_span){0}, (struct co_span){0}),
                     0);
    naked_send(fd, all.data, all.len);
    co_buf_free(&all);
    for (uint64_t id = 1; id <= 300; id++)
        cr_assert_eq(expect(fd, id) > 0, id > 5 && id % 3 != 0);
    close(fd);
}

Test(peer_loops, connections_go_where_there_are_fewest)
{
    int fd[9];
    unsigned count[4] = {0};
    for (int i = 0; i < 9; i++) {
        fd[i] = moved();
        ask(fd[i], FRAME_DATA, 9);
        count[expect(fd[i], 9)]++;
    }
    for (int i = 1; i < 4; i++)
        cr_assert_eq(count[i], 3);
    for (int i = 0; i < 9; i++)
        close(fd[i]);
}

Test(peer_loops, what_the_home_loop_sends_later_comes)
{
    /* A request that waits at home does not hold up those behind it. */
    int fd = moved();
    ask(fd, FRAME_DROP, 7);
    ask(fd, FRAME_DATA, 8);
    uint64_t first = 8;
    cr_assert_gt(expect(fd, first), 0);
    cr_assert_eq(expect(fd, 7), 0);
    close(fd);
}

Test(peer_loops, it_is_closed_from_home_with_what_was_sent_before)
{
    int fd = moved();
    ask(fd, FRAME_STREAM, 7);
    cr_assert_eq(expect(fd, 7), 0);
    cr_assert(naked_ended(fd));
    close(fd);
    cr_assert(reached(&home.closes, 1));
}

Test(peer_loops, an_error_of_the_home_loop_is_told_and_ends_it)
{
    int fd = moved();
    ask(fd, FRAME_RELEASE, 7);
    cr_assert(naked_error(fd, CO_ERR_INVAL, "one too many"));
    cr_assert(naked_ended(fd));
    close(fd);
}

Test(peer_loops, bytes_that_are_no_frame_end_it)
{
    int fd = moved();
    naked_send(fd, "these are no frames, for sure they are not", 40);
    cr_assert(naked_error(fd, CO_ERR_PROTOCOL, ""));
    cr_assert(naked_ended(fd));
    close(fd);
    cr_assert(reached(&home.closes, 1));
}

Test(peer_loops, who_takes_no_answers_in_is_not_read_from)
{
    /* The pause of a slow reader holds for answers of the home loop too: all of them are 100 MiB,
     * and beyond 24 MiB the connection would be over. */
    struct co_buf all = {0};
    struct frame_header frame;
    struct co_buf body;
    peer_limits.output_bytes = 24 * CO_MIB;
    int fd = moved();
    for (uint64_t id = 2; id < 402; id++)
        cr_assert_eq(frame_append(&all, FRAME_LOG, id, (struct co_span){0}, (struct co_span){0}),
                     0);
    naked_send(fd, all.data, all.len);
    co_buf_free(&all);
    cr_assert(reached(&home.at_home, 20));
    usleep(300000); /* not read for a while: nothing is judged by it */
    cr_assert_lt(home.at_home, 200);
    for (uint64_t id = 2; id < 402; id++) {
        cr_assert(naked_frame(fd, &frame, &body));
        cr_assert_eq(frame.request_id, id);
        co_buf_free(&body);
    }
    close(fd);
}

Test(peer_loops, one_that_is_gone_while_its_frame_is_at_home_is_told_of_once)
{
    for (int i = 0; i < 50; i++) {
        int fd = moved();
        ask(fd, FRAME_APPEND, 7);
        close(fd);
    }
    cr_assert(reached(&home.closes, 50));
}

Test(peer_loops, the_end_of_the_server_is_the_end_of_those_that_moved)
{
    int fd[6];
    for (int i = 0; i < 6; i++)
        fd[i] = moved();
    ask(fd[0], FRAME_FREE, 7);
    for (int i = 0; i < 6; i++) {
        cr_assert(naked_ended(fd[i]));
        close(fd[i]);
    }
    cr_assert(reached(&home.closes, 6));
}

Test(peer_loops, its_bytes_are_counted_wherever_they_went)
{
    int fd = moved();
    for (uint64_t id = 2; id < 12; id++) {
        ask(fd, FRAME_DATA, id);
        (void)expect(fd, id);
    }
    close(fd);
    cr_assert(reached(&home.closes, 1));
    cr_assert_geq(home.bytes_in, 11 * FRAME_HEADER_BYTES);
    cr_assert_geq(home.bytes_out, 11 * (FRAME_HEADER_BYTES + 9));
}
