#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "proto/limits.h"
#include "tests/unit/proto/peer_fixture.h"
#include "tests/unit/proto/tcp_segments.h"
#include "tests/unit/slower.h"

static struct served served;

static void setup(void)
{
    served_start(&served);
}

static void teardown(void)
{
    served_stop(&served);
}

TestSuite(peer_server, .init = setup, .fini = teardown, .timeout = 30);
TestSuite(peer_client, .timeout = 30);

static struct co_buf frame_of(unsigned type, uint64_t id, const void *payload, size_t len)
{
    struct co_buf out = {0};
    cr_assert_eq(frame_append(&out, type, id, (struct co_span){0}, co_span_of(payload, len)), 0);
    return out;
}

static void send_frame(int fd, unsigned type, uint64_t id, const void *payload, size_t len)
{
    struct co_buf out = frame_of(type, id, payload, len);
    naked_send(fd, out.data, out.len);
    co_buf_free(&out);
}

static void expect_echo(int fd, uint64_t id, const void *payload, size_t len)
{
    struct frame_header frame;
    struct co_buf body;
    cr_assert(naked_frame(fd, &frame, &body), "an answer to %llu", (unsigned long long)id);
    cr_assert_eq(frame.type, FRAME_DATA);
    cr_assert_eq(frame.request_id, id);
    cr_assert_eq(body.len, len);
    cr_assert(!len || memcmp(body.data, payload, len) == 0);
    co_buf_free(&body);
}

/* -- Frames ------------------------------------------------------------------------------------ */

Test(peer_server, puts_together_a_frame_split_at_each_byte)
{
    /* TCP keeps no boundaries: a frame is whole wherever it was cut. */
    static const char payload[] = "forty-one bytes that are sent in two cuts";
    int fd = naked_connect(served.port);
    naked_greet(fd);
    struct co_buf frame = frame_of(FRAME_APPEND, 7, payload, sizeof payload);
    for (size_t cut = 0; cut <= frame.len; cut++) {
        naked_send(fd, frame.data, cut);
        if (cut % 8 == 0)
            usleep(2000); /* mostly in two receives, sometimes surely */
        naked_send(fd, frame.data + cut, frame.len - cut);
        expect_echo(fd, 7, payload, sizeof payload);
    }
    for (size_t i = 0; i < frame.len; i++)
        naked_send(fd, frame.data + i, 1);
    expect_echo(fd, 7, payload, sizeof payload);
    co_buf_free(&frame);
    close(fd);
}

Test(peer_server, takes_many_frames_of_one_receive)
{
    /* A receive may bring many frames, and each is answered in order. */
    struct co_buf all = {0};
    int fd = naked_connect(served.port);
    naked_greet(fd);
    for (uint32_t i = 0; i < 2000; i++)
        cr_assert_eq(frame_append(&all, FRAME_APPEND, i, (struct co_span){0}, co_span_of(&i, 4)),
                     0);
    naked_send(fd, all.data, all.len);
    for (uint32_t i = 0; i < 2000; i++)
        expect_echo(fd, i, &i, 4);
    co_buf_free(&all);
    close(fd);
}

Test(peer_server, echoes_frames_of_all_sizes)
{
    /* A frame's size decides how it is buffered (small, gathered, in one piece), never whether. */
    static const size_t sizes[] = {0,     1,     4072,  4096,   16383,   16384,
                                   65511, 65512, 65513, 131072, 1 << 20, 3 << 20};
    uint8_t *payload = malloc(3 << 20);
    cr_assert(payload);
    co_random_bytes(payload, 4096);
    for (size_t i = 4096; i < 3 << 20; i++)
        payload[i] = (uint8_t)(payload[i - 4096] + 1);
    int fd = naked_connect(served.port);
    naked_greet(fd);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        send_frame(fd, FRAME_APPEND, i, payload, sizes[i]);
        expect_echo(fd, i, payload, sizes[i]);
        send_frame(fd, FRAME_DATA, i, payload, sizes[i]);
        expect_echo(fd, i, payload, sizes[i]);
    }
    free(payload);
    close(fd);
}

Test(peer_server, writes_what_was_queued_in_one_iteration_together)
{
    /* Many small answers must not become as many system calls and segments. */
    struct frame_header frame = {0};
    struct co_buf body;
    int fd = naked_connect(served.port);
    naked_greet(fd);
    unsigned before = tcp_segments_in(fd);
    cr_assert_geq(before, 1u);
    send_frame(fd, FRAME_DB_LIST, 9, NULL, 0);
    for (int i = 0; frame.type != FRAME_DB_LISTED; i++) {
        cr_assert_leq(i, 100);
        cr_assert(naked_frame(fd, &frame, &body));
        co_buf_free(&body);
    }
    unsigned segments = tcp_segments_in(fd) - before;
    cr_assert_leq(segments, 3u, "101 frames, %u segments", segments);
    close(fd);
}

Test(peer_server, answers_a_ping)
{
    /* PING is the transport's own: the handler does not see it. */
    struct frame_header frame;
    struct co_buf body;
    int fd = naked_connect(served.port);
    naked_greet(fd);
    send_frame(fd, FRAME_PING, 77, NULL, 0);
    cr_assert(naked_frame(fd, &frame, &body));
    cr_assert_eq(frame.type, FRAME_PONG);
    cr_assert_eq(frame.request_id, 77u);
    cr_assert_eq(served.frames, 0u);
    cr_assert(served.local, "the test is on this host");
    close(fd);
}

/* -- Refusals ---------------------------------------------------------------------------------- */

static void still_serves(void)
{
    int fd = naked_connect(served.port);
    naked_greet(fd);
    send_frame(fd, FRAME_APPEND, 1, "abc", 3);
    expect_echo(fd, 1, "abc", 3);
    close(fd);
}

Test(peer_server, refuses_a_bad_crc)
{
    /* A damaged frame ends the connection with a sentence; it is never handed on. */
    int fd = naked_connect(served.port);
    naked_greet(fd);
    struct co_buf frame = frame_of(FRAME_APPEND, 7, "payload", 7);
    frame.data[FRAME_HEADER_BYTES + 3] ^= 0x10;
    naked_send(fd, frame.data, frame.len);
    cr_assert(naked_error(fd, CO_ERR_PROTOCOL, "CRC"));
    cr_assert(naked_ended(fd));
    cr_assert_eq(served.frames, 0u);
    co_buf_free(&frame);
    close(fd);
    still_serves();
}

Test(peer_server, parts_in_good_order_from_one_that_still_sends)
{
    /* Closing over unread bytes resets the connection and may take the sentence with it. */
    static char more[100000];
    char some[16];
    int fd = naked_connect(served.port);
    naked_greet(fd);
    struct co_buf bad = frame_of(FRAME_APPEND, 7, "payload", 7);
    bad.data[FRAME_HEADER_BYTES] ^= 1;
    cr_assert_eq(co_buf_append(&bad, more, sizeof more), 0);
    naked_send(fd, bad.data, bad.len);
    for (int i = 0; i < 3; i++) {
        usleep(50000);
        naked_send(fd, more, 10); /* EPIPE after a reset */
    }
    cr_assert(naked_error(fd, CO_ERR_PROTOCOL, "CRC"));
    cr_assert_eq(recv(fd, some, sizeof some, 0), 0, "an end, not a reset");
    co_buf_free(&bad);
    close(fd);
}

Test(peer_server, refuses_a_length_beyond_the_bound_at_once)
{
    /* A length is compared with its bound before anything is allocated or waited for. */
    int fd = naked_connect(served.port);
    naked_greet(fd);
    struct co_buf frame = frame_of(FRAME_STREAM, 7, NULL, 0);
    co_put32(frame.data, 0xffffff00u);
    naked_send(fd, frame.data, frame.len);
    cr_assert(naked_error(fd, CO_ERR_PROTOCOL, "limit"));
    cr_assert(naked_ended(fd));
    co_buf_free(&frame);
    close(fd);
    still_serves();
}

Test(peer_server, takes_no_large_frame_before_hello)
{
    /* Whoever has not been greeted cannot make the server hold much memory. */
    int fd = naked_connect(served.port);
    struct co_buf frame = frame_of(FRAME_APPEND, 7, NULL, 0);
    co_put32(frame.data, (uint32_t)CO_FRAME_RECORDS_MAX_BYTES);
    naked_send(fd, frame.data, frame.len);
    cr_assert(naked_error(fd, CO_ERR_PROTOCOL, "before Hello"));
    cr_assert(naked_ended(fd));
    co_buf_free(&frame);
    close(fd);
}

Test(peer_server, wants_hello_first)
{
    /* The first frame on a connection is a Hello. */
    int fd = naked_connect(served.port);
    send_frame(fd, FRAME_APPEND, 7, "abc", 3);
    cr_assert(naked_error(fd, CO_ERR_PROTOCOL, "HELLO"));
    cr_assert(naked_ended(fd));
    cr_assert_eq(served.frames, 0u);
    close(fd);
}

static void hello_with(int fd, Corallite__Hello *hello)
{
    uint8_t packed[256];
    struct co_buf out = {0};
    size_t n = corallite__hello__pack(hello, packed);
    cr_assert_eq(frame_append(&out, FRAME_HELLO, 0, co_span_of(packed, n), (struct co_span){0}), 0);
    naked_send(fd, out.data, out.len);
    co_buf_free(&out);
}

Test(peer_server, refuses_a_protocol_it_does_not_speak)
{
    /* Releases that do not belong together part with a sentence. */
    Corallite__Hello hello = some_hello();
    int fd = naked_connect(served.port);
    hello.protocol_min = CO_PROTOCOL_VERSION + 1;
    hello.protocol_max = 9;
    hello_with(fd, &hello);
    cr_assert(naked_error(fd, CO_ERR_VERSION, "protocol 3 to 9"));
    cr_assert(naked_ended(fd));
    close(fd);
}

Test(peer_server, tells_why_the_handler_refuses)
{
    /* on_hello's sentence reaches the one who is refused; on_close is not called for it. */
    static char stranger[] = "stranger";
    Corallite__Hello hello = some_hello();
    int fd = naked_connect(served.port);
    hello.program = stranger;
    hello_with(fd, &hello);
    cr_assert(naked_error(fd, CO_ERR_CLUSTER, "strangers are not served here"));
    cr_assert(naked_ended(fd));
    cr_assert_eq(served.closes, 0u);
    close(fd);
}

Test(peer_server, tells_why_a_frame_ended_the_connection)
{
    /* on_frame's error goes to the other side, with the id of its request. */
    int fd = naked_connect(served.port);
    naked_greet(fd);
    send_frame(fd, FRAME_RELEASE, 5, NULL, 0);
    send_frame(fd, FRAME_APPEND, 6, "abc", 3);
    cr_assert(naked_error(fd, CO_ERR_INVAL, "one too many"));
    cr_assert(naked_ended(fd));
    cr_assert(reached(&served.closes, 1));
    cr_assert_eq(served.frames, 1u, "nothing is handed on after it");
    cr_assert_str_eq(served.reason, "that was one too many");
    close(fd);
}

Test(peer_server, closes_in_good_order_from_within_a_frame)
{
    /* peer_close in a handler: what it sent before arrives, what comes after is not handed on. */
    int fd = naked_connect(served.port);
    naked_greet(fd);
    struct co_buf both = frame_of(FRAME_STREAM, 5, NULL, 0);
    cr_assert_eq(frame_append(&both, FRAME_APPEND, 6, (struct co_span){0}, co_span_of("abc", 3)),
                 0);
    naked_send(fd, both.data, both.len);
    cr_assert(naked_error(fd, CO_ERR_CLOSED, "goodbye"));
    cr_assert(naked_ended(fd));
    close(fd);
    cr_assert(reached(&served.closes, 1));
    cr_assert_eq(served.frames, 1u);
    cr_assert_str_eq(served.reason, "it wanted to");
    co_buf_free(&both);
}

Test(peer_server, may_be_closed_from_within_a_frame)
{
    /* A handler may close the server under the peer that it is called for. */
    int a = naked_connect(served.port), b = naked_connect(served.port);
    naked_greet(a);
    naked_greet(b);
    send_frame(a, FRAME_FREE, 5, NULL, 0);
    cr_assert(naked_ended(a));
    cr_assert(naked_ended(b));
    cr_assert(reached(&served.closes, 2));
    close(a);
    close(b);
}

/* -- Time and amount --------------------------------------------------------------------------- */

Test(peer_server, waits_for_hello_only_so_long)
{
    /* A connection that says nothing does not stay. */
    peer_limits.hello_ms = 100;
    int fd = naked_connect(served.port);
    cr_assert(naked_error(fd, CO_ERR_TIMEOUT, "no Hello came"));
    cr_assert(naked_ended(fd));
    close(fd);
}

Test(peer_server, waits_for_hello_only_so_long_even_when_it_dribbles)
{
    /* Progress does not prolong the wait for Hello. */
    peer_limits.hello_ms = 150;
    uint64_t begin = co_now_us();
    int fd = naked_connect(served.port);
    struct co_buf frame = frame_of(FRAME_HELLO, 0, NULL, 0);
    for (size_t i = 0; i + 1 < frame.len && co_now_us() - begin < 2000000; i++) {
        if (send(fd, frame.data + i, 1, MSG_NOSIGNAL) != 1)
            break;
        usleep(20000);
    }
    cr_assert(naked_ended(fd));
    cr_assert_lt(co_now_us() - begin, 2000000u * slower());
    co_buf_free(&frame);
    close(fd);
}

Test(peer_server, gives_up_a_frame_that_makes_no_progress)
{
    /* A begun frame must go on; one that does, slowly, is waited for. */
    peer_limits.frame_ms = 200;
    int fd = naked_connect(served.port);
    naked_greet(fd);
    struct co_buf frame = frame_of(FRAME_APPEND, 7, "0123456789", 10);
    for (size_t i = 0; i < frame.len; i++) {
        naked_send(fd, frame.data + i, 1);
        usleep(10000); /* 340 ms in all */
    }
    expect_echo(fd, 7, "0123456789", 10);
    usleep(300000); /* no frame has begun: no reason to close */
    naked_send(fd, frame.data, 30);
    uint64_t begin = co_now_us();
    cr_assert(naked_ended(fd));
    cr_assert_lt(co_now_us() - begin, 2000000u * slower());
    cr_assert(reached(&served.closes, 1));
    cr_assert(strstr(served.reason, "sent no more of it"), "%s", served.reason);
    co_buf_free(&frame);
    close(fd);
}

Test(peer_server, turns_away_connections_beyond_the_cap)
{
    /* The number of connections is bounded, and a place that becomes free is given again. */
    peer_limits.connections = 2;
    int a = naked_connect(served.port), b = naked_connect(served.port);
    naked_greet(a);
    naked_greet(b);
    uint64_t begin = co_now_us();
    int c = naked_connect(served.port);
    cr_assert(naked_ended(c));
    cr_assert_lt(co_now_us() - begin, 2000000u * slower(), "at once, not for want of a Hello");
    close(a);
    close(c);
    cr_assert(reached(&served.closes, 1));
    still_serves();
    close(b);
}

Test(peer_server, stops_reading_from_one_who_takes_no_answers)
{
    /* Requests of a peer that does not take its answers stay unread; later they are answered. */
    peer_limits.pause_bytes = 1 << 20;
    struct frame_header frame;
    struct co_buf body, all = {0};
    int fd = naked_connect(served.port), small = 65536;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    naked_greet(fd);
    for (uint64_t i = 0; i < 200; i++)
        cr_assert_eq(
            frame_append(&all, FRAME_GET_PAGES, i, (struct co_span){0}, (struct co_span){0}), 0);
    naked_send(fd, all.data, all.len);
    usleep(300000);
    unsigned taken = served.frames;
    cr_assert_leq(taken * BIG_ANSWER_BYTES, (size_t)24 << 20,
                  "%u of 200 requests taken: what the socket holds and the pause allows", taken);
    still_serves();
    for (uint64_t i = 0; i < 200; i++) {
        cr_assert(naked_frame(fd, &frame, &body));
        cr_assert_eq(frame.request_id, i);
        cr_assert_eq(body.len, BIG_ANSWER_BYTES);
        co_buf_free(&body);
    }
    co_buf_free(&all);
    close(fd);
}

Test(peer_server, notices_the_end_of_one_that_it_does_not_read_from)
{
    /* A paused connection that is reset must not stay for ever. */
    peer_limits.pause_bytes = 1 << 20;
    struct linger at_once = {.l_onoff = 1};
    struct co_buf all = {0};
    int fd = naked_connect(served.port), small = 65536;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    naked_greet(fd);
    for (uint64_t i = 0; i < 200; i++)
        cr_assert_eq(
            frame_append(&all, FRAME_GET_PAGES, i, (struct co_span){0}, (struct co_span){0}), 0);
    naked_send(fd, all.data, all.len);
    usleep(200000);
    close(fd);
    cr_assert(reached(&served.closes, 1));
    co_buf_free(&all);
}

Test(peer_server, closes_one_whose_output_passes_the_bound)
{
    /* The queue of a peer is bounded. */
    peer_limits.output_bytes = 8 << 20;
    struct co_buf all = {0};
    int fd = naked_connect(served.port), small = 65536;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    naked_greet(fd);
    for (uint64_t i = 0; i < 200; i++)
        cr_assert_eq(
            frame_append(&all, FRAME_GET_PAGES, i, (struct co_span){0}, (struct co_span){0}), 0);
    naked_send(fd, all.data, all.len);
    cr_assert(reached(&served.closes, 1));
    cr_assert(strstr(served.reason, "takes nothing"), "%s", served.reason);
    still_serves();
    co_buf_free(&all);
    close(fd);
}

Test(peer_server, outlives_clients_that_vanish_while_it_writes)
{
    /* Writing to a closed connection must not raise SIGPIPE (it ends a daemon). */
    signal(SIGPIPE, SIG_DFL);
    teardown();
    memset(&served, 0, sizeof served);
    served_start(&served);
    for (int i = 0; i < 20; i++) {
        struct linger at_once = {.l_onoff = 1};
        int fd = naked_connect(served.port);
        naked_greet(fd);
        for (uint64_t k = 0; k < 20; k++)
            send_frame(fd, FRAME_GET_PAGES, k, NULL, 0);
        if (i & 1)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(fd);
    }
    cr_assert(reached(&served.closes, 20));
    still_serves();
}

Test(peer_server, has_a_sentence_for_a_port_in_use)
{
    /* "port in use" is said, with what to do. */
    uv_loop_t loop;
    struct peer_handler handler = {0};
    struct peer_server *second = NULL;
    cr_assert_eq(uv_loop_init(&loop), 0);
    cr_assert_eq(peer_listen(&loop, "127.0.0.1", served.port, &handler, &second), CO_ERR_IO);
    cr_assert(strstr(co_sentence(), "in use"), "%s", co_sentence());
    cr_assert(strstr(co_sentence(), "--listen"));
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert_eq(uv_loop_close(&loop), 0);
}

/* -- The client side --------------------------------------------------------------------------- */

struct client {
    uv_loop_t loop;
    struct peer *peer;
    unsigned hellos, frames, closes;
    int hello_answer, code;
    unsigned send_type; /* sent once greeted; 0: closes instead */
    struct co_buf got;
    char reason[CO_SENTENCE_MAX];
};

static int client_hello(void *owner, struct peer *peer, const Corallite__Hello *hello,
                        const Corallite__HelloOk *ok)
{
    struct client *c = owner;
    cr_assert_null(hello);
    cr_assert_eq(ok->node, 2u);
    c->hellos++;
    if (c->send_type)
        peer_send(peer, c->send_type, 3, NULL, co_span_of("abc", 3));
    return c->hello_answer;
}

static int client_frame(void *owner, struct peer *peer, const struct frame_header *frame,
                        struct co_span body)
{
    struct client *c = owner;
    c->frames++;
    cr_assert_eq(frame->request_id, 3u);
    cr_assert_eq(co_buf_append(&c->got, body.data, body.len), 0);
    peer_close(peer, "done");
    return 0;
}

static void client_close(void *owner, struct peer *peer, const char *reason)
{
    struct client *c = owner;
    c->closes++;
    c->code = peer_code(peer);
    snprintf(c->reason, sizeof c->reason, "%s", reason);
}

/* Connects, runs until all is closed, and checks that on_close came once. */
static void run_client(struct client *c, const char *host, uint16_t port, Corallite__Hello *hello)
{
    struct peer_handler handler = {c, client_hello, client_frame, client_close};
    cr_assert_eq(uv_loop_init(&c->loop), 0);
    cr_assert_eq(peer_connect(&c->loop, host, port, hello, &handler, &c->peer), 0);
    cr_assert_eq(c->closes, 0u, "a failure is told from the loop");
    uv_run(&c->loop, UV_RUN_DEFAULT);
    cr_assert_eq(uv_loop_close(&c->loop), 0);
    cr_assert_eq(c->closes, 1u);
}

Test(peer_server, is_reached_by_a_client_on_a_loop)
{
    /* Hello, HelloOk, a request, its answer, the end. */
    Corallite__Hello hello = some_hello();
    struct client c = {.send_type = FRAME_APPEND};
    run_client(&c, "127.0.0.1", served.port, &hello);
    cr_assert_eq(c.hellos, 1u);
    cr_assert_eq(c.frames, 1u);
    cr_assert_eq(c.got.len, 3u);
    cr_assert_str_eq(c.reason, "done");
    co_buf_free(&c.got);
}

Test(peer_server, is_reached_by_name)
{
    /* A host name is looked up without blocking the loop; all its addresses are tried (localhost
     * may stand for ::1 too, where nobody listens). */
    Corallite__Hello hello = some_hello();
    struct client c = {.send_type = FRAME_APPEND};
    run_client(&c, "localhost", served.port, &hello);
    cr_assert_str_eq(c.reason, "done", "%s", c.reason);
    co_buf_free(&c.got);
}

Test(peer_server, tells_a_client_on_a_loop_why_it_is_refused)
{
    /* An Error in place of HelloOk becomes the reason and the code. */
    static char stranger[] = "stranger";
    Corallite__Hello hello = some_hello();
    struct client c = {0};
    hello.program = stranger;
    run_client(&c, "127.0.0.1", served.port, &hello);
    cr_assert_eq(c.code, CO_ERR_CLUSTER);
    cr_assert_str_eq(c.reason, "strangers are not served here");
    cr_assert_eq(c.hellos, 0u);
}

Test(peer_server, is_not_taken_for_another_node)
{
    /* The client verifies whom it reached, whatever the server thinks. */
    Corallite__Hello hello = some_hello();
    struct client c = {0};
    hello.has_expect_node = 1;
    hello.expect_node = 3;
    run_client(&c, "127.0.0.1", served.port, &hello);
    cr_assert_eq(c.code, CO_ERR_NODE);
    cr_assert(strstr(c.reason, "safekeeper 3 was wanted"), "%s", c.reason);
    cr_assert_eq(c.hellos, 0u);
}

Test(peer_server, is_left_when_the_clients_handler_refuses)
{
    /* on_hello of a client may refuse. */
    Corallite__Hello hello = some_hello();
    struct client c = {.hello_answer = CO_ERR_CLOCK};
    (void)co_fail(CO_ERR_CLOCK, "an hour apart");
    run_client(&c, "127.0.0.1", served.port, &hello);
    cr_assert_eq(c.code, CO_ERR_CLOCK);
    cr_assert_str_eq(c.reason, "an hour apart");
}

/* A port where nobody listens: had from the system, then given back. */
static uint16_t free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    close(fd);
    return ntohs(at.sin_port);
}

Test(peer_client, says_who_could_not_be_reached_where_and_what_to_do)
{
    /* "Connection refused" alone helps nobody. */
    Corallite__Hello hello = some_hello();
    struct client c = {0};
    char where[40];
    uint16_t port = free_port();
    hello.has_expect_node = 1;
    hello.expect_node = 2;
    run_client(&c, "127.0.0.1", port, &hello);
    cr_assert_eq(c.code, CO_ERR_CONNECT);
    snprintf(where, sizeof where, "safekeeper 2 at 127.0.0.1:%u", port);
    cr_assert(strstr(c.reason, where), "%s", c.reason);
    cr_assert(strstr(c.reason, "connection refused"), "%s", c.reason);
    cr_assert(strstr(c.reason, "`corallite status`"), "%s", c.reason);
}

Test(peer_client, says_that_there_is_no_such_host)
{
    /* A name that does not resolve is told like an address that does not answer. */
    Corallite__Hello hello = some_hello();
    struct client c = {0};
    run_client(&c, "no-such-host.invalid", 6400, &hello);
    cr_assert_eq(c.code, CO_ERR_CONNECT);
    cr_assert(strstr(c.reason, "no-such-host.invalid:6400"), "%s", c.reason);
}

/* A listener that never accepts, its queue full: the next connection hangs. */
static uint16_t full_listener(int fds[4])
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(fds[0], (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(listen(fds[0], 0), 0);
    cr_assert_eq(getsockname(fds[0], (struct sockaddr *)&at, &len), 0);
    for (int i = 1; i < 4; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(fds[i], (struct sockaddr *)&at, sizeof at);
    }
    return ntohs(at.sin_port);
}

Test(peer_client, gives_up_a_host_that_does_not_answer)
{
    /* No wait without a bound. */
    int fds[4];
    Corallite__Hello hello = some_hello();
    struct client c = {0};
    peer_limits.connect_ms = 200;
    uint16_t port = full_listener(fds);
    uint64_t begin = co_now_us();
    run_client(&c, "127.0.0.1", port, &hello);
    uint64_t took = co_now_us() - begin;
    cr_assert_eq(c.code, CO_ERR_CONNECT);
    cr_assert(strstr(c.reason, "timed out"), "%s", c.reason);
    cr_assert_geq(took, 190000u);
    cr_assert_lt(took, 3000000u);
}

Test(peer_client, gives_up_a_server_that_does_not_greet)
{
    /* The kernel takes connections for a stopped process too. */
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    Corallite__Hello hello = some_hello();
    struct client c = {0};
    peer_limits.hello_ms = 150;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(listen(fd, 5), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    run_client(&c, "127.0.0.1", ntohs(at.sin_port), &hello);
    cr_assert_eq(c.code, CO_ERR_TIMEOUT);
    cr_assert(strstr(c.reason, "no answer to Hello"), "%s", c.reason);
    close(fd);
}

Test(peer_client, can_be_closed_while_it_dials)
{
    /* Closing before the connection stands, or while the name is looked up, frees everything. */
    static const char *const hosts[] = {"127.0.0.1", "no-such-host.invalid"};
    for (int i = 0; i < 2; i++) {
        Corallite__Hello hello = some_hello();
        struct client c = {0};
        struct peer_handler handler = {&c, client_hello, client_frame, client_close};
        cr_assert_eq(uv_loop_init(&c.loop), 0);
        cr_assert_eq(peer_connect(&c.loop, hosts[i], 9, &hello, &handler, &c.peer), 0);
        peer_send(c.peer, FRAME_READ_POS, 1, NULL, (struct co_span){0});
        peer_close(c.peer, "changed my mind");
        peer_send(c.peer, FRAME_READ_POS, 2, NULL, (struct co_span){0});
        peer_close(c.peer, "again");
        uv_run(&c.loop, UV_RUN_DEFAULT);
        cr_assert_eq(uv_loop_close(&c.loop), 0);
        cr_assert_eq(c.closes, 1u);
        cr_assert_str_eq(c.reason, "changed my mind");
    }
}
