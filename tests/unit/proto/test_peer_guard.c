/* What a server puts up with: how many connections, how slow, how much for all (peer_guard_uv.c).
 * The bound of one address needs another host: tests/integration/test_limits.py. */
#include <criterion/criterion.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "proto/limits.h"
#include "tests/unit/proto/peer_fixture.h"
#include "tests/unit/slower.h"

static struct served served;

static void setup(void)
{
    peer_limits.sweep_ms = 20;
    served_start(&served);
}

static void teardown(void)
{
    served_stop(&served);
}

TestSuite(peer_guard, .init = setup, .fini = teardown, .timeout = 30);

/* False when the other side has ended the connection already. */
static bool try_hello(int fd, Corallite__Role role)
{
    Corallite__Hello hello = some_hello();
    uint8_t packed[256];
    struct co_buf out = {0};
    hello.role = role;
    size_t n = corallite__hello__pack(&hello, packed);
    cr_assert_eq(frame_append(&out, FRAME_HELLO, 0, co_span_of(packed, n), (struct co_span){0}), 0);
    bool sent = send(fd, out.data, out.len, MSG_NOSIGNAL) == (ssize_t)out.len;
    co_buf_free(&out);
    return sent;
}

static void say_hello(int fd, Corallite__Role role)
{
    cr_assert(try_hello(fd, role));
}

static void expect_welcome(int fd)
{
    struct frame_header frame;
    struct co_buf body;
    cr_assert(naked_frame(fd, &frame, &body));
    cr_assert_eq(frame.type, FRAME_HELLO_OK);
    co_buf_free(&body);
}

/* A client of its own that is served whatever else goes on. */
static void still_serves(void)
{
    int fd = naked_connect(served.port);
    naked_greet(fd);
    close(fd);
}

static void ask_for_much(int fd, uint64_t requests)
{
    struct co_buf all = {0};
    for (uint64_t i = 0; i < requests; i++)
        cr_assert_eq(
            frame_append(&all, FRAME_GET_PAGES, i, (struct co_span){0}, (struct co_span){0}), 0);
    naked_send(fd, all.data, all.len);
    co_buf_free(&all);
}

Test(peer_guard, keeps_places_for_daemons)
{
    /* When only reserved places are left, programs are told so and daemons are taken. */
    peer_limits.connections = 3;
    peer_limits.reserved = 1;
    int a = naked_connect(served.port), b = naked_connect(served.port);
    naked_greet(a);
    naked_greet(b);
    int c = naked_connect(served.port);
    say_hello(c, CORALLITE__ROLE__ROLE_COMPUTE);
    cr_assert(naked_error(c, CO_ERR_CONNECT, "1 places are kept for daemons"));
    cr_assert(naked_ended(c));
    close(c);
    int d = naked_connect(served.port);
    say_hello(d, CORALLITE__ROLE__ROLE_PAGESERVER);
    expect_welcome(d);
    close(a); /* a place that becomes free is given again */
    cr_assert(reached(&served.closes, 1));
    int e = naked_connect(served.port);
    say_hello(e, CORALLITE__ROLE__ROLE_COMPUTE);
    expect_welcome(e);
    close(b);
    close(d);
    close(e);
}

Test(peer_guard, gives_the_place_of_a_silent_one_to_one_who_comes)
{
    /* All places taken by connections that say nothing: who comes is taken all the same. */
    peer_limits.connections = 4;
    peer_limits.pressed_ms = 100;
    int silent[4];
    for (int i = 0; i < 4; i++)
        silent[i] = naked_connect(served.port);
    /* Before they have been silent for long enough it is refused; then it is not. */
    uint64_t begin = co_now_us();
    bool taken = false;
    while (!taken && co_now_us() - begin < 4000000) {
        struct frame_header frame;
        struct co_buf body = {0};
        int fd = naked_connect(served.port);
        taken = try_hello(fd, CORALLITE__ROLE__ROLE_TOOL) && naked_frame(fd, &frame, &body) &&
                frame.type == FRAME_HELLO_OK;
        co_buf_free(&body);
        close(fd);
        usleep(20000);
    }
    cr_assert(taken, "nobody gets in as long as the silent ones are there");
    for (int i = 0; i < 4; i++)
        close(silent[i]);
}

Test(peer_guard, lets_many_silent_ones_go_sooner)
{
    /* Beyond `greeting` a connection without Hello has pressed_ms, not hello_ms. */
    peer_limits.greeting = 2;
    peer_limits.pressed_ms = 100;
    int fd[6];
    for (int i = 0; i < 6; i++)
        fd[i] = naked_connect(served.port);
    uint64_t begin = co_now_us();
    for (int i = 0; i < 4; i++)
        cr_assert(naked_ended(fd[i]), "the oldest go, number %d", i);
    cr_assert_lt(co_now_us() - begin, 4500000u * slower(), "not for want of a Hello at last");
    say_hello(fd[4], CORALLITE__ROLE__ROLE_TOOL); /* two may stay for as long as ever */
    say_hello(fd[5], CORALLITE__ROLE__ROLE_TOOL);
    expect_welcome(fd[4]);
    expect_welcome(fd[5]);
    for (int i = 0; i < 6; i++)
        close(fd[i]);
}

Test(peer_guard, cuts_a_frame_that_trickles)
{
    /* Progress alone is not enough: a frame has an average speed, after a grace. */
    peer_limits.grace_ms = 200;
    struct co_buf frame = {0};
    uint8_t payload[400] = {0};
    int fd = naked_connect(served.port);
    naked_greet(fd);
    cr_assert_eq(frame_append(&frame, FRAME_APPEND, 7, (struct co_span){0},
                              co_span_of(payload, sizeof payload)),
                 0);
    uint64_t begin = co_now_us();
    size_t sent = 0;
    while (sent < frame.len && send(fd, frame.data + sent, 1, MSG_NOSIGNAL) == 1) {
        sent++;
        usleep(10000);
    }
    cr_assert_lt(sent, frame.len);
    cr_assert(naked_ended(fd));
    cr_assert_lt(co_now_us() - begin, 2000000u * slower());
    cr_assert(reached(&served.closes, 1));
    cr_assert(strstr(served.reason, "too slow"), "%s", served.reason);
    co_buf_free(&frame);
    close(fd);
}

/* The whole process stands still, and goes on. */
static void stand_still(useconds_t us)
{
    pid_t self = getpid(), child = fork();
    if (child == 0) {
        usleep(us);
        kill(self, SIGCONT);
        _exit(0);
    }
    cr_assert(child > 0);
    kill(self, SIGSTOP);
    waitpid(child, NULL, 0);
}

Test(peer_guard, does_not_blame_others_for_its_own_pause)
{
    /* A daemon that was stopped counts none of that time against those who were sending. */
    peer_limits.grace_ms = 200 * slower();
    struct co_buf frame = {0};
    int fd = naked_connect(served.port);
    naked_greet(fd);
    cr_assert_eq(frame_append(&frame, FRAME_APPEND, 7, (struct co_span){0}, co_span_of("0123", 4)),
                 0);
    naked_send(fd, frame.data, 10);
    usleep(50000);
    stand_still(600000 * slower());
    usleep(50000);
    naked_send(fd, frame.data + 10, frame.len - 10);
    struct frame_header h;
    struct co_buf body;
    cr_assert(naked_frame(fd, &h, &body), "the connection was cut");
    co_buf_free(&body);
    co_buf_free(&frame);
    close(fd);
}

Test(peer_guard, waits_for_a_large_frame_that_moves)
{
    /* What is fast enough is waited for, however long it takes in all. */
    peer_limits.grace_ms = 100;
    peer_limits.rate = 100000;
    struct frame_header h;
    struct co_buf frame = {0}, body;
    uint8_t payload[120000] = {0};
    int fd = naked_connect(served.port);
    naked_greet(fd);
    cr_assert_eq(frame_append(&frame, FRAME_APPEND, 7, (struct co_span){0},
                              co_span_of(payload, sizeof payload)),
                 0);
    for (size_t at = 0; at < frame.len; at += 6000) {
        naked_send(fd, frame.data + at, frame.len - at < 6000 ? frame.len - at : 6000);
        usleep(20000); /* 300,000 bytes a second at most, 0.4 s in all */
    }
    cr_assert(naked_frame(fd, &h, &body));
    cr_assert_eq(body.len, sizeof payload);
    co_buf_free(&body);
    co_buf_free(&frame);
    close(fd);
}

Test(peer_guard, cuts_a_reader_that_trickles)
{
    /* Answers must be taken at a speed too. */
    peer_limits.grace_ms = 100;
    peer_limits.rate = 1 << 20;
    int fd = naked_connect(served.port), small = 4096;
    char byte[64];
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    naked_greet(fd);
    ask_for_much(fd, 60);
    uint64_t begin = co_now_us();
    while (co_now_us() - begin < 5000000ull * slower() && served.closes == 0) {
        (void)!recv(fd, byte, sizeof byte, MSG_DONTWAIT);
        usleep(5000);
    }
    cr_assert(reached(&served.closes, 1));
    cr_assert(strstr(served.reason, "of its answers in"), "%s", served.reason);
    still_serves();
    close(fd);
}

Test(peer_guard, closes_the_one_that_owes_most)
{
    /* All queues together are bounded: the longest goes, the others stay. */
    peer_limits.output_all_bytes = 2 << 20;
    peer_limits.pause_bytes = 64 << 20;
    int small = 4096, modest = naked_connect(served.port), greedy = naked_connect(served.port);
    setsockopt(greedy, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    naked_greet(modest);
    naked_greet(greedy);
    ask_for_much(greedy, 120); /* 30 MiB */
    cr_assert(reached(&served.closes, 1));
    cr_assert(strstr(served.reason, "takes too little"), "%s", served.reason);
    ask_for_much(modest, 1);
    struct frame_header h;
    struct co_buf body;
    cr_assert(naked_frame(modest, &h, &body));
    co_buf_free(&body);
    close(modest);
    close(greedy);
}
