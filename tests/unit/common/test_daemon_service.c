/* The service side of daemon_http: bodies, workers, streams, bounds. */
#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/daemon_http.h"
#include "common/metrics.h"
#include "tests/unit/slower.h"

#define BODY_MAX 100u
#define CHUNK    ((size_t)200000)
#define CHUNKS   100u

static struct co_http *http;
static atomic_int running, ended, gate;

static void reply(struct co_http_answer *answer, unsigned status, const char *text)
{
    struct co_buf body = {0};
    if (co_buf_append(&body, text, strlen(text)))
        abort();
    co_http_reply(answer, status, "text/x-service", &body);
}

/* Chunks of one letter each; "cut" ends after three of them. */
static void stream(struct co_http_answer *answer, bool cut)
{
    if (co_http_stream(answer, "text/x-stream", CHUNK * CHUNKS)) {
        reply(answer, 503, co_sentence());
        return;
    }
    co_http_header(answer, "X-Late", "yes");
    for (unsigned i = 0; i < (cut ? 3 : CHUNKS); i++) {
        struct co_buf chunk = {0};
        if (co_buf_append_zeros(&chunk, CHUNK))
            abort();
        memset(chunk.data, 'a' + (int)(i % 26), CHUNK);
        int rc = co_http_write(answer, &chunk);
        co_buf_free(&chunk);
        if (rc)
            break;
    }
}

static void serve(void *owner, const struct co_http_request *r, struct co_http_answer *answer)
{
    char text[1000];
    (void)owner;
    atomic_fetch_add(&running, 1);
    if (strcmp(r->path, "/v1/wait") == 0)
        while (!atomic_load(&gate))
            usleep(1000);
    if (strcmp(r->path, "/v1/stream") == 0 || strcmp(r->path, "/v1/cut") == 0) {
        stream(answer, r->path[4] == 'c');
    } else if (strcmp(r->path, "/v1/silent") != 0) {
        int n = snprintf(text, sizeof text, "%s %s %s %.*s", r->method, r->path,
                         r->content_type ? r->content_type : "-", (int)r->body.len, r->body.data);
        for (unsigned i = 0; i < r->n_args && i < CO_HTTP_ARGS_MAX && n < 900; i++)
            n += snprintf(text + n, sizeof text - (size_t)n, " %s=%s", r->args[i].name,
                          r->args[i].value);
        co_http_header(answer, "X-Service", "yes");
        reply(answer, 201, text);
    }
    atomic_fetch_sub(&running, 1);
    atomic_fetch_add(&ended, 1);
}

static void refuse(void *owner, unsigned status, const char *sentence,
                   struct co_http_answer *answer)
{
    char text[300];
    (void)owner;
    snprintf(text, sizeof text, "refused: %s", sentence);
    reply(answer, status, text);
}

static void setup(void)
{
    struct co_http_service service = {.prefix = "/v1",
                                      .body_max = BODY_MAX,
                                      .workers = 2,
                                      .waiting = 3,
                                      .streams = 1,
                                      .serve = serve,
                                      .refuse = refuse};
    cr_assert_eq(co_http_start_service("127.0.0.1", 0, NULL, NULL, &service, &http), 0, "%s",
                 co_sentence());
}

static void teardown(void)
{
    atomic_store(&gate, 1);
    co_http_stop(http);
}

TestSuite(http_service, .init = setup, .fini = teardown, .timeout = 60);

static int dial(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(co_http_port(http))};
    struct timeval patience = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* All until the end, at most `cap`. */
static size_t hear(int fd, char *out, size_t cap)
{
    size_t got = 0;
    for (ssize_t n; got < cap - 1; got += (size_t)n)
        if ((n = recv(fd, out + got, cap - 1 - got, 0)) <= 0)
            break;
    out[got] = 0;
    close(fd);
    return got;
}

static char heard[20000];

static const char *ask(const char *request)
{
    int fd = dial();
    say(fd, request);
    hear(fd, heard, sizeof heard);
    return heard;
}

#define HEAD "Host: localhost\r\nConnection: close\r\n"

static int begin_wait(void)
{
    int fd = dial();
    say(fd, "GET /v1/wait HTTP/1.1\r\n" HEAD "\r\n");
    return fd;
}

static void until(atomic_int *what, int value)
{
    for (int i = 0; i < 10000 * (int)slower() && atomic_load(what) != value; i++)
        usleep(1000);
    cr_assert_eq(atomic_load(what), value);
}

Test(http_service, takes_every_method_with_its_body_and_arguments)
{
    /* Texts come as they were sent, escapes and all; the answer is the service's. */
    const char *got = ask("PATCH /v1/a%2Fb?x=1%20+2&y HTTP/1.1\r\n" HEAD
                          "Content-Type: text/z\r\nContent-Length: 5\r\n\r\nhello");
    cr_assert(strstr(got, "HTTP/1.1 201"), "%s", got);
    cr_assert(strstr(got, "X-Service: yes") && strstr(got, "text/x-service"), "%s", got);
    cr_assert(strstr(got, "\r\n\r\nPATCH /v1/a%2Fb text/z hello x=1%20 2 y="), "%s", got);
    got = ask("POST /v1 HTTP/1.1\r\n" HEAD
              "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    cr_assert(strstr(got, "\r\n\r\nPOST /v1 - abcde"), "%s", got);
    got = ask("BREW /v1/x HTTP/1.1\r\n" HEAD "\r\n");
    cr_assert(strstr(got, "\r\n\r\nBREW /v1/x - "), "%s", got);
    cr_assert(strstr(ask("GET /v12 HTTP/1.1\r\n" HEAD "\r\n"), "HTTP/1.1 404"), "%s", heard);
}

Test(http_service, an_answer_is_given_even_where_the_service_gives_none)
{
    /* No client waits for ever. */
    cr_assert(strstr(ask("GET /v1/silent HTTP/1.1\r\n" HEAD "\r\n"), "HTTP/1.1 500"), "%s", heard);
}

Test(http_service, refuses_a_body_that_is_too_long)
{
    /* By its length at once; where no length was told as soon as it shows; never handed over. */
    char request[BODY_MAX + 300], body[BODY_MAX + 2];
    memset(body, 'x', sizeof body - 1);
    body[sizeof body - 1] = 0;
    snprintf(request, sizeof request, "POST /v1/x HTTP/1.1\r\n" HEAD "Content-Length: %u\r\n\r\n%s",
             BODY_MAX + 1, body);
    cr_assert(strstr(ask(request), "HTTP/1.1 413"), "%s", heard);
    cr_assert(strstr(heard, "refused: a body has at most 100 bytes"), "%s", heard);
    snprintf(request, sizeof request,
             "POST /v1/x HTTP/1.1\r\n" HEAD
             "Transfer-Encoding: chunked\r\n\r\n65\r\n%s\r\n0\r\n\r\n",
             body);
    cr_assert(strstr(ask(request), "HTTP/1.1 413"), "%s", heard);
    snprintf(request, sizeof request, "POST /v1/x HTTP/1.1\r\n" HEAD "Content-Length: %u\r\n\r\n%s",
             BODY_MAX, body + 1);
    cr_assert(strstr(ask(request), "HTTP/1.1 201"), "%s", heard);
    cr_assert_eq(atomic_load(&ended), 1);
}

Test(http_service, asks_for_host_origin_and_one_length_first)
{
    /* What makes a request doubtful is refused before anybody carries it out. */
    cr_assert(strstr(ask("POST /v1/x HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"),
                     "HTTP/1.1 403"));
    cr_assert(strstr(ask("POST /v1/x HTTP/1.1\r\n" HEAD "Origin: http://evil.example\r\n\r\n"),
                     "HTTP/1.1 403"));
    cr_assert(strstr(ask("POST /v1/x HTTP/1.1\r\n" HEAD
                         "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
                     "HTTP/1.1 400"),
              "%s", heard);
    cr_assert(strstr(ask("POST /v1/x HTTP/1.1\r\nConnection: close\r\n\r\n"), "HTTP/1.1 400"));
    cr_assert_eq(atomic_load(&ended), 0);
}

Test(http_service, does_not_hold_up_the_quick_pages)
{
    /* Both workers busy, three requests waiting: further ones are told so, /metrics answers. */
    int waiting[5];
    waiting[0] = begin_wait();
    waiting[1] = begin_wait();
    until(&running, 2);
    for (int i = 2; i < 5; i++)
        waiting[i] = begin_wait();
    /* The three are read before the fourth, in the order in which they came. */
    for (int i = 0; i < 2000 * (int)slower() && !strstr(heard, "HTTP/1.1 503"); i++) {
        int fd = dial();
        say(fd, "GET /v1/more HTTP/1.1\r\n" HEAD "\r\n");
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 50) == 1)
            hear(fd, heard, sizeof heard);
        else
            close(fd);
    }
    cr_assert(strstr(heard, "refused: too many requests wait"), "%s", heard);
    cr_assert(strstr(ask("GET /metrics HTTP/1.1\r\n" HEAD "\r\n"), "HTTP/1.1 200"));
    cr_assert(strstr(ask("GET /healthz HTTP/1.1\r\n" HEAD "\r\n"), "ok\n"));
    atomic_store(&gate, 1);
    for (int i = 0; i < 5; i++) {
        hear(waiting[i], heard, sizeof heard);
        cr_assert(strstr(heard, "HTTP/1.1 201"), "%d: %s", i, heard);
    }
}

Test(http_service, answers_pipelined_requests_in_order)
{
    /* Twenty at once on one connection: twenty answers, each to its own. */
    char request[4000] = "", *p = heard;
    size_t n = 0;
    for (int i = 0; i < 20; i++)
        n += (size_t)snprintf(request + n, sizeof request - n,
                              "POST /v1/r%d HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: "
                              "3\r\n\r\n%03d",
                              i, i == 19 ? "Connection: close\r\n" : "", i);
    ask(request);
    for (int i = 0; i < 20; i++) {
        char wanted[60];
        snprintf(wanted, sizeof wanted, "\r\n\r\nPOST /v1/r%d - %03d", i, i);
        p = strstr(p, wanted);
        cr_assert(p, "answer %d is missing or out of order", i);
    }
}

Test(http_service, streams_what_does_not_fit_into_memory)
{
    /* Every byte in its place, with headers that were set after the begin; one stream at a time. */
    size_t size = CHUNK * CHUNKS, cap = size + 2000;
    char *all = malloc(cap);
    int first = dial();
    say(first, "GET /v1/stream HTTP/1.1\r\n" HEAD "\r\n");
    until(&running, 1); /* it cannot end before it is read from */
    cr_assert(strstr(ask("GET /v1/stream HTTP/1.1\r\n" HEAD "\r\n"), "HTTP/1.1 503"), "%s", heard);
    size_t got = hear(first, all, cap);
    char *body = strstr(all, "\r\n\r\n") + 4;
    cr_assert(strstr(all, "X-Late: yes\r\n"));
    cr_assert_eq(got - (size_t)(body - all), size);
    for (size_t i = 0; i < size; i += 1000)
        cr_assert_eq(body[i], 'a' + (int)(i / CHUNK % 26), "at %zu", i);
    free(all);
}

Test(http_service, cuts_a_stream_that_ends_early)
{
    /* Nobody takes a part for the whole. */
    char *all = malloc(CHUNK * 4);
    int fd = dial();
    say(fd, "GET /v1/cut HTTP/1.1\r\n" HEAD "\r\n");
    size_t got = hear(fd, all, CHUNK * 4);
    cr_assert(strstr(all, "Content-Length: 20000000"), "%.300s", all);
    cr_assert_leq(got, CHUNK * 3 + 1000);
    free(all);
    until(&ended, 1);
}

Test(http_service, ends_a_stream_whose_client_is_gone)
{
    /* The worker is free again, and so is its place. */
    for (int i = 0; i < 3; i++) {
        int fd = dial();
        say(fd, "GET /v1/stream HTTP/1.1\r\n" HEAD "\r\n");
        cr_assert_gt(recv(fd, heard, 100, 0), 0);
        struct linger hard = {1, 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        close(fd);
        until(&ended, i + 1);
    }
    cr_assert(strstr(ask("HEAD /v1/stream HTTP/1.1\r\n" HEAD "\r\n"), "Content-Length: 20000000"),
              "%s", heard);
    until(&ended, 4);
}

/* Sends one byte of the request at a time until the other side has enough; how many it took. */
static size_t trickle(const char *request)
{
    int fd = dial();
    size_t n = 0;
    char end;
    for (; request[n] && recv(fd, &end, 1, MSG_DONTWAIT) != 0; n++) {
        if (send(fd, request + n, 1, MSG_NOSIGNAL) < 0)
            break;
        usleep(50000);
    }
    close(fd);
    return n;
}

static void shorter(void)
{
    co_http_limits = (struct co_http_limits){.receive_ms = 300, .send_ms = 1000};
    setup();
}

TestSuite(http_late, .init = shorter, .fini = teardown, .timeout = 60);

Test(http_late, a_sender_that_trickles_is_cut)
{
    /* However steadily it sends: a head, or a body, has to be whole in time. */
    static const char head[] =
        "GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-Padding: 0123456789012345";
    static const char post[] =
        "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90\r\n\r\n";
    char slow[300];
    cr_assert_lt(trickle(head), sizeof head - 1);
    snprintf(slow, sizeof slow, "%s0123456789012345678901234567890123456789", post);
    int fd = dial();
    char end;
    say(fd, post);
    cr_assert_eq(recv(fd, &end, 1, 0), 0);
    close(fd);
    cr_assert_lt(trickle(slow), strlen(slow));
    cr_assert_eq(atomic_load(&ended), 0);
}

Test(http_late, a_request_that_waits_is_not_late)
{
    /* The bound is for the sender, not for the service. */
    int fd = begin_wait();
    usleep(1200000);
    atomic_store(&gate, 1);
    hear(fd, heard, sizeof heard);
    cr_assert(strstr(heard, "HTTP/1.1 201"), "%s", heard);
}

Test(http_late, a_reader_that_does_not_read_is_cut)
{
    /* Its worker is free again. */
    int fd = dial();
    say(fd, "GET /v1/stream HTTP/1.1\r\n" HEAD "\r\n");
    until(&running, 1);
    until(&ended, 1);
    cr_assert_lt(hear(fd, heard, sizeof heard), CHUNK * CHUNKS);
}

Test(http_service, ends_while_requests_are_under_way)
{
    /* co_http_stop ends streams, answers what waits, and comes back. */
    int stream_fd = dial(), waiting = begin_wait();
    say(stream_fd, "GET /v1/stream HTTP/1.1\r\n" HEAD "\r\n");
    until(&running, 2);
    atomic_store(&gate, 1);
    co_http_stop(http);
    cr_assert_eq(atomic_load(&running), 0);
    close(stream_fd);
    close(waiting);
    setup();
}
