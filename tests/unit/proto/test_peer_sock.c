#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "proto/limits.h"
#include "proto/net_sock.h"
#include "proto/peer_sock.h"
#include "tests/unit/proto/peer_fixture.h"
#include "tests/unit/slower.h"

static struct served served;
static struct psock s;

static void setup(void)
{
    served_start(&served);
}

static void teardown(void)
{
    psock_close(&s);
    served_stop(&served);
}

static void no_server(void)
{
    s.fd = -1;
}

static void close_only(void)
{
    psock_close(&s);
}

TestSuite(psock, .init = setup, .fini = teardown, .timeout = 30);
TestSuite(psock_alone, .init = no_server, .fini = close_only, .timeout = 30);

static void greet(void)
{
    Corallite__Hello hello = some_hello();
    cr_assert_eq(psock_connect(&s, "127.0.0.1", served.port, &hello, in_ms(5000), NULL), 0, "%s",
                 co_sentence());
}

static int call(unsigned type, size_t len, struct frame_header *frame, struct co_buf *body)
{
    struct co_buf payload = {0};
    cr_assert_eq(co_buf_append_zeros(&payload, len), 0);
    for (size_t i = 0; i < len; i++)
        payload.data[i] = 'q';
    int rc = psock_call(&s, type, NULL, co_buf_span(&payload), in_ms(10000), frame, body, NULL);
    co_buf_free(&payload);
    return rc;
}

/* -- Calls ------------------------------------------------------------------------------------- */

Test(psock, gets_answers_of_all_sizes)
{
    /* One request, the answer that echoes its id, whole, whatever its size. */
    static const size_t sizes[] = {1, 100, 65512, 65513, 1 << 20, 3 << 20};
    greet();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct frame_header frame;
        struct co_buf body;
        cr_assert_eq(call(FRAME_APPEND, sizes[i], &frame, &body), 0, "%s", co_sentence());
        cr_assert_eq(frame.type, FRAME_DATA);
        cr_assert_eq(body.len, sizes[i]);
        cr_assert_eq(body.data[0], 'q');
        cr_assert_eq(body.data[body.len - 1], 'q');
        co_buf_free(&body);
    }
    cr_assert_geq(s.bytes_in, 4u << 20);
    cr_assert_geq(s.bytes_out, 4u << 20);
}

Test(psock, gives_the_answer_to_hello)
{
    /* HelloOk is the caller's. */
    Corallite__Hello hello = some_hello();
    Corallite__HelloOk *ok = NULL;
    cr_assert_eq(psock_connect(&s, "127.0.0.1", served.port, &hello, in_ms(5000), &ok), 0);
    cr_assert_not_null(ok);
    cr_assert_eq(ok->node, 2u);
    corallite__hello_ok__free_unpacked(ok, NULL);
}

Test(psock, turns_an_error_into_its_code_and_sentence)
{
    /* An Error answer is this call's failure; the connection goes on. */
    struct frame_header frame;
    struct co_buf body;
    Corallite__Error *error = NULL;
    greet();
    cr_assert_eq(
        psock_call(&s, FRAME_DROP, NULL, (struct co_span){0}, in_ms(5000), &frame, &body, &error),
        CO_ERR_NOT_FOUND);
    cr_assert_str_eq(co_sentence(), "there is no such thing here");
    cr_assert_not_null(error);
    cr_assert_eq(error->code, CO_ERR_NOT_FOUND);
    corallite__error__free_unpacked(error, NULL);
    cr_assert_eq(call(FRAME_APPEND, 3, &frame, &body), 0);
    co_buf_free(&body);
}

Test(psock, skips_what_it_did_not_ask_for)
{
    /* Pushed frames (id 0) may come before the answer. */
    struct frame_header frame;
    struct co_buf body;
    greet();
    cr_assert_eq(call(FRAME_DB_LIST, 0, &frame, &body), 0);
    cr_assert_eq(frame.type, FRAME_DB_LISTED);
    co_buf_free(&body);
}

Test(psock, closes_when_no_answer_comes_in_time)
{
    /* After a deadline the answer could be taken for the next one: the socket is closed. */
    struct frame_header frame;
    struct co_buf body;
    greet();
    uint64_t begin = co_now_us();
    cr_assert_eq(
        psock_call(&s, FRAME_READ_POS, NULL, (struct co_span){0}, in_ms(150), &frame, &body, NULL),
        CO_ERR_TIMEOUT);
    cr_assert_geq(co_now_us() - begin, 150000u);
    cr_assert_lt(co_now_us() - begin, 2000000u * slower());
    cr_assert_eq(s.fd, -1);
    cr_assert_eq(call(FRAME_APPEND, 3, &frame, &body), CO_ERR_CLOSED);
}

Test(psock, reads_the_sentence_with_which_a_server_leaves)
{
    /* The reason arrives before the end and is what the caller gets; afterwards it is closed. */
    struct frame_header frame;
    struct co_buf body;
    greet();
    cr_assert_eq(call(FRAME_RELEASE, 0, &frame, &body), CO_ERR_INVAL);
    cr_assert_str_eq(co_sentence(), "that was one too many");
    cr_assert_eq(call(FRAME_APPEND, 3, &frame, &body), CO_ERR_CLOSED);
    cr_assert_eq(s.fd, -1);
    cr_assert(strstr(co_sentence(), "127.0.0.1:"), "%s", co_sentence());
}

/* -- Connecting -------------------------------------------------------------------------------- */

Test(psock, is_told_why_it_is_refused)
{
    /* An Error in place of HelloOk. */
    static char stranger[] = "stranger";
    Corallite__Hello hello = some_hello();
    hello.program = stranger;
    cr_assert_eq(psock_connect(&s, "127.0.0.1", served.port, &hello, in_ms(5000), NULL),
                 CO_ERR_CLUSTER);
    cr_assert_str_eq(co_sentence(), "strangers are not served here");
    cr_assert_eq(s.fd, -1);
}

Test(psock, refuses_another_node_than_it_expects)
{
    /* The client verifies whom it reached. */
    Corallite__Hello hello = some_hello();
    Corallite__HelloOk *ok = NULL;
    hello.has_expect_node = 1;
    hello.expect_node = 1;
    cr_assert_eq(psock_connect(&s, "127.0.0.1", served.port, &hello, in_ms(5000), &ok),
                 CO_ERR_NODE);
    cr_assert_null(ok);
    cr_assert_eq(s.fd, -1);
}

Test(psock, is_not_inherited_and_does_not_delay)
{
    /* A guest in somebody's process leaves no descriptor to that program's children. */
    int on = 0;
    unsigned gone = 0;
    socklen_t len = sizeof on;
    greet();
    cr_assert(fcntl(s.fd, F_GETFD) & FD_CLOEXEC);
    cr_assert(fcntl(s.fd, F_GETFL) & O_NONBLOCK);
    cr_assert_eq(getsockopt(s.fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
    cr_assert_eq(on, 1);
    cr_assert_eq(getsockopt(s.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &gone, &len), 0);
    cr_assert_eq(gone, 10000u);
    cr_assert_eq(getsockopt(s.fd, SOL_SOCKET, SO_KEEPALIVE, &on, &len), 0);
    cr_assert_eq(on, 1);
    int idle_s = 0, interval_s = 0, probes = 0;
    cr_assert_eq(getsockopt(s.fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, &len), 0);
    cr_assert_eq(getsockopt(s.fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, &len), 0);
    cr_assert_eq(getsockopt(s.fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, &len), 0);
    cr_assert_leq(idle_s + interval_s * probes, 11, "a wait for an answer counts on this bound");
    cr_assert(net_is_local(s.fd));
}

Test(psock, reaches_a_server_by_name)
{
    /* Names are looked up, and all their addresses are tried. */
    Corallite__Hello hello = some_hello();
    cr_assert_eq(psock_connect(&s, "localhost", served.port, &hello, in_ms(5000), NULL), 0, "%s",
                 co_sentence());
}

Test(psock_alone, says_who_could_not_be_reached_where_and_what_to_do)
{
    /* What was wanted, what there was, what to do. */
    Corallite__Hello hello = some_hello();
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    char want[64];
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* bound, not listening: refused */
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    uint64_t begin = co_now_us();
    cr_assert_eq(psock_connect(&s, "127.0.0.1", ntohs(at.sin_port), &hello, in_ms(30000), NULL),
                 CO_ERR_CONNECT);
    cr_assert_lt(co_now_us() - begin, 1000000u * slower(), "a refusal is told at once");
    snprintf(want, sizeof want, "cannot reach the pageserver at 127.0.0.1:%u", ntohs(at.sin_port));
    cr_assert(strstr(co_sentence(), want), "%s", co_sentence());
    cr_assert(strstr(co_sentence(), "(Connection refused)"), "%s", co_sentence());
    cr_assert(strstr(co_sentence(), "`corallite status`"));
    close(fd);
}

Test(psock_alone, has_a_sentence_for_a_name_that_is_none)
{
    /* Name trouble is a connection failure that says so. */
    Corallite__Hello hello = some_hello();
    cr_assert_eq(psock_connect(&s, "no-such-host.invalid", 6400, &hello, in_ms(5000), NULL),
                 CO_ERR_CONNECT);
    cr_assert(strstr(co_sentence(), "no-such-host.invalid"), "%s", co_sentence());
}

/* Listens without ever accepting; *full: the queue is full, so that connecting hangs. */
static uint16_t dumb_listener(int backlog, bool full, int fds[4])
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(fds[0], (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(listen(fds[0], backlog), 0);
    cr_assert_eq(getsockname(fds[0], (struct sockaddr *)&at, &len), 0);
    for (int i = 1; full && i < 4; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(fds[i], (struct sockaddr *)&at, sizeof at);
    }
    return ntohs(at.sin_port);
}

Test(psock_alone, keeps_its_deadline_while_connecting)
{
    /* Whichever of the caller's deadline and CO_CONNECT_TIMEOUT_MS comes first. */
    int fds[4];
    Corallite__Hello hello = some_hello();
    uint16_t port = dumb_listener(0, true, fds);
    uint64_t begin = co_now_us();
    cr_assert_eq(psock_connect(&s, "127.0.0.1", port, &hello, in_ms(200), NULL), CO_ERR_CONNECT);
    cr_assert(strstr(co_sentence(), "timed out"), "%s", co_sentence());
    cr_assert_lt(co_now_us() - begin, 1500000u * slower());
    begin = co_now_us();
    cr_assert_eq(psock_connect(&s, "127.0.0.1", port, &hello, in_ms(60000), NULL), CO_ERR_CONNECT);
    cr_assert_lt(co_now_us() - begin, 3000000u * slower(), "\"not there\" is said within 3 s");
}

Test(psock_alone, keeps_its_deadline_while_it_waits_to_be_greeted)
{
    /* The kernel takes connections for a stopped server too. */
    int fds[4];
    Corallite__Hello hello = some_hello();
    uint16_t port = dumb_listener(5, false, fds);
    uint64_t begin = co_now_us();
    cr_assert_eq(psock_connect(&s, "127.0.0.1", port, &hello, in_ms(200), NULL), CO_ERR_TIMEOUT);
    cr_assert(strstr(co_sentence(), "did not answer in time"), "%s", co_sentence());
    cr_assert_lt(co_now_us() - begin, 1500000u * slower());
    cr_assert_eq(s.fd, -1);
}

/* -- A server that misbehaves ------------------------------------------------------------------ */

/* Accepts one connection, greets it, reads a request, and sends `answer` as it is. */
struct rude {
    int listener;
    uint16_t port;
    struct co_buf greeting, answer;
    bool reset; /* ends without reading on: the connection is reset */
    pthread_t thread;
};

static void *be_rude(void *arg)
{
    struct rude *r = arg;
    char some[4096];
    int fd = accept(r->listener, NULL, NULL);
    if (fd < 0)
        return NULL;
    if (recv(fd, some, sizeof some, 0) > 0)
        (void)!send(fd, r->greeting.data, r->greeting.len, MSG_NOSIGNAL);
    if (r->answer.len && recv(fd, some, sizeof some, 0) > 0)
        (void)!send(fd, r->answer.data, r->answer.len, MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    if (!r->reset)
        (void)!recv(fd, some, sizeof some, 0);
    close(fd);
    return NULL;
}

static void rude_start(struct rude *r)
{
    int fds[4];
    r->port = dumb_listener(5, false, fds);
    r->listener = fds[0];
    cr_assert_eq(pthread_create(&r->thread, NULL, be_rude, r), 0);
}

static void rude_stop(struct rude *r)
{
    psock_close(&s);
    pthread_join(r->thread, NULL);
    close(r->listener);
    co_buf_free(&r->greeting);
    co_buf_free(&r->answer);
}

static void put(struct co_buf *out, unsigned type, uint64_t id, const void *payload, size_t len)
{
    cr_assert_eq(frame_append(out, type, id, (struct co_span){0}, co_span_of(payload, len)), 0);
}

static void rude_connect(struct rude *r)
{
    Corallite__Hello hello = some_hello();
    put(&r->greeting, FRAME_HELLO_OK, 0, NULL, 0);
    rude_start(r);
    cr_assert_eq(psock_connect(&s, "127.0.0.1", r->port, &hello, in_ms(5000), NULL), 0);
}

static int rude_call(struct rude *r)
{
    struct frame_header frame = {0};
    struct co_buf body;
    rude_connect(r);
    int rc =
        psock_call(&s, FRAME_READ_POS, NULL, (struct co_span){0}, in_ms(5000), &frame, &body, NULL);
    cr_assert(rc == 0 || s.fd == -1);
    cr_assert(rc != 0 || frame.type == FRAME_DATA);
    co_buf_free(&body);
    return rc;
}

Test(psock_alone, refuses_an_answer_with_a_bad_crc)
{
    /* Damage on the way never reaches the caller. */
    struct rude r = {0};
    put(&r.answer, FRAME_DATA, 1, "abc", 3);
    r.answer.data[FRAME_HEADER_BYTES] ^= 1;
    cr_assert_eq(rude_call(&r), CO_ERR_PROTOCOL);
    cr_assert(strstr(co_sentence(), "CRC"), "%s", co_sentence());
    rude_stop(&r);
}

Test(psock_alone, refuses_an_answer_to_something_else)
{
    /* An answer echoes the id of the request; any other id means that the two have lost count. */
    struct rude r = {0};
    put(&r.answer, FRAME_DATA, 42, "abc", 3);
    cr_assert_eq(rude_call(&r), CO_ERR_PROTOCOL);
    cr_assert(strstr(co_sentence(), "42"), "%s", co_sentence());
    rude_stop(&r);
}

Test(psock_alone, tells_an_end_in_the_middle_of_an_answer)
{
    /* Half an answer is no answer. */
    struct rude r = {0};
    put(&r.answer, FRAME_DATA, 1, "abcdefgh", 8);
    r.answer.len -= 3;
    cr_assert_eq(rude_call(&r), CO_ERR_CLOSED);
    cr_assert(strstr(co_sentence(), "in the middle of a frame"), "%s", co_sentence());
    rude_stop(&r);
}

Test(psock_alone, answers_pings_while_it_waits)
{
    /* A PING is no answer, even when its id looks like one. */
    struct rude r = {0};
    put(&r.answer, FRAME_PING, 1, NULL, 0);
    put(&r.answer, FRAME_DATA, 1, "abc", 3);
    cr_assert_eq(rude_call(&r), 0, "%s", co_sentence());
    rude_stop(&r);
}

Test(psock_alone, is_not_greeted_by_another_kind_of_server)
{
    /* An HTTP server, say, has the port. */
    static const char http[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    struct rude r = {0};
    Corallite__Hello hello = some_hello();
    cr_assert_eq(co_buf_append(&r.greeting, http, sizeof http), 0);
    rude_start(&r);
    cr_assert_eq(psock_connect(&s, "127.0.0.1", r.port, &hello, in_ms(5000), NULL),
                 CO_ERR_PROTOCOL);
    cr_assert_eq(s.fd, -1);
    rude_stop(&r);
}

/* -- Non-blocking use -------------------------------------------------------------------------- */

static void wait_in(void)
{
    struct pollfd p = {.fd = s.fd,
                       .events = (short)(psock_wants_out(&s) ? POLLIN | POLLOUT : POLLIN)};
    cr_assert_gt(poll(&p, 1, 5000), 0);
}

Test(psock, works_without_blocking)
{
    /* Many requests in flight, answers in order, nothing lost while both directions are full. */
    enum { N = 300, EACH = 100000 };
    struct co_buf frame = {0};
    uint8_t *payload = calloc(1, EACH);
    uint64_t queued = 0, got = 0;
    greet();
    while (got < N) {
        struct frame_header h;
        struct co_span body;
        if (queued < N) {
            frame.len = 0;
            payload[0] = (uint8_t)queued;
            put(&frame, FRAME_APPEND, ++queued, payload, EACH);
            cr_assert_eq(psock_queue(&s, co_buf_span(&frame)), 0);
        } else {
            wait_in();
        }
        cr_assert_eq(psock_pump_out(&s), 0);
        cr_assert_eq(psock_pump_in(&s), 0);
        int rc;
        while ((rc = psock_next(&s, &h, &body)) == 0) {
            cr_assert_eq(h.request_id, ++got);
            cr_assert_eq(body.len, (size_t)EACH);
            cr_assert_eq(body.data[0], (uint8_t)(got - 1));
        }
        cr_assert_eq(rc, CO_ERR_AGAIN);
    }
    cr_assert_not(psock_wants_out(&s));
    cr_assert_lt(s.out.cap, 4u << 20, "memory of a long queue is given back");
    co_buf_free(&frame);
    free(payload);
}

/* Receives until the connection ends; the frames of `type` that came before. */
static unsigned until_the_end(unsigned type)
{
    struct frame_header h;
    struct co_span body;
    unsigned n = 0;
    int rc;
    for (;;) {
        wait_in();
        rc = psock_pump_in(&s);
        if (rc)
            break; /* nothing may be left in the reader */
        while (psock_next(&s, &h, &body) == 0)
            n += h.type == type;
    }
    cr_assert_eq(rc, CO_ERR_CLOSED);
    return n;
}

Test(psock_alone, tells_the_end_after_what_came_before_it)
{
    /* Sending into a connection that was reset is told by pump_in, behind what arrived. */
    struct rude r = {.reset = true};
    struct co_buf frame = {0};
    put(&r.answer, FRAME_DATA, 1, "abc", 3);
    put(&frame, FRAME_READ_POS, 1, NULL, 0);
    rude_connect(&r);
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(psock_queue(&s, co_buf_span(&frame)), 0, "%s", co_sentence());
        usleep(10000);
    }
    cr_assert_eq(until_the_end(FRAME_DATA), 1u);
    co_buf_free(&frame);
    rude_stop(&r);
}

Test(psock_alone, tells_the_end_after_a_frame_that_fills_the_buffer)
{
    /* The end may be seen in the same call as the last bytes: those come first. */
    static uint8_t payload[READER_FIRST_BYTES - FRAME_HEADER_BYTES];
    struct rude r = {0};
    struct co_buf frame = {0};
    put(&r.answer, FRAME_DATA, 1, payload, sizeof payload);
    put(&frame, FRAME_READ_POS, 1, NULL, 0);
    rude_connect(&r);
    frame_reader_free(&s.in); /* as large as at first */
    cr_assert_eq(psock_queue(&s, co_buf_span(&frame)), 0);
    usleep(50000);
    cr_assert_eq(until_the_end(FRAME_DATA), 1u);
    co_buf_free(&frame);
    rude_stop(&r);
}

Test(psock_alone, answers_pings_between_frames)
{
    /* psock_next hands no PING out. */
    struct rude r = {0};
    struct co_buf frame = {0};
    put(&r.answer, FRAME_PING, 1, NULL, 0);
    put(&r.answer, FRAME_DATA, 1, "abc", 3);
    put(&frame, FRAME_READ_POS, 1, NULL, 0);
    rude_connect(&r);
    uint64_t sent = s.bytes_out + frame.len;
    cr_assert_eq(psock_queue(&s, co_buf_span(&frame)), 0);
    cr_assert_eq(until_the_end(FRAME_PING), 0u);
    cr_assert_eq(s.bytes_out, sent + FRAME_HEADER_BYTES, "a PONG");
    co_buf_free(&frame);
    rude_stop(&r);
}

/* -- Addresses --------------------------------------------------------------------------------- */

Test(psock_alone, splits_addresses)
{
    /* HOST:PORT, [V6]:PORT, HOST. */
    char host[256];
    uint16_t port;
    cr_assert_eq(psock_split_address("db1:7000", 6400, host, &port), 0);
    cr_assert_str_eq(host, "db1");
    cr_assert_eq(port, 7000);
    cr_assert_eq(psock_split_address("db1", 6400, host, &port), 0);
    cr_assert_eq(port, 6400);
    cr_assert_eq(psock_split_address("[::1]", 6400, host, &port), 0);
    cr_assert_str_eq(host, "::1");
    cr_assert_eq(psock_split_address("[fe80::1%eth0]:9", 6400, host, &port), 0);
    cr_assert_str_eq(host, "fe80::1%eth0");
    cr_assert_eq(port, 9);
    cr_assert_eq(psock_split_address("::1", 6400, host, &port), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "brackets"), "%s", co_sentence());
    cr_assert_eq(psock_split_address("db1:0", 6400, host, &port), CO_ERR_INVAL);
    cr_assert_eq(psock_split_address("", 6400, host, &port), CO_ERR_INVAL);
}

Test(psock_alone, resolves_addresses_in_digits)
{
    /* Digits need no resolver. */
    struct net_addresses to;
    char text[300];
    cr_assert_eq(net_resolve("127.0.0.1", 6400, 0, &to), 0);
    cr_assert_eq(to.n, 1u);
    net_format_sockaddr(&to.at[0], text);
    cr_assert_str_eq(text, "127.0.0.1:6400");
    cr_assert_eq(net_resolve("::1", 6400, 0, &to), 0);
    net_format_sockaddr(&to.at[0], text);
    cr_assert_str_eq(text, "[::1]:6400");
}

Test(psock_alone, does_not_wait_for_a_slow_resolver)
{
    /* The deadline holds while a name is looked up; the helper cleans up behind itself. */
    struct net_addresses to;
    uint64_t begin = co_now_us();
    int rc = net_resolve("localhost", 6400, begin, &to); /* passed already */
    cr_assert(rc == CO_ERR_TIMEOUT || rc == 0);
    cr_assert_lt(co_now_us() - begin, 1000000u * slower());
    usleep(100000);
}
