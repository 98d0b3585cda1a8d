#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/daemon_http.h"
#include "common/metrics.h"

static struct co_http *http;
static struct co_metric metric = {.name = "corallite_test_total", .help = "x"};
static char reply[65536];

static int pages(void *owner, const char *path, struct co_buf *body, const char **content_type)
{
    if (strcmp(owner, "owner") != 0)
        return 500; /* no assertion: this is not the test's thread */
    if (strcmp(path, "/v1/hello") == 0) {
        *content_type = "application/json";
        return co_buf_append(body, "{\"hello\":1}", 11) ? 500 : 200;
    }
    if (strcmp(path, "/empty") == 0)
        return 503;
    return 404;
}

static void setup(void)
{
    static char owner[] = "owner";
    cr_assert_eq(co_http_start("127.0.0.1", 0, pages, owner, &http), 0, "%s", co_sentence());
    co_metric_register(&metric);
    co_metric_set(&metric, 7);
}

static void teardown(void)
{
    co_http_stop(http);
}

TestSuite(http, .init = setup, .fini = teardown, .timeout = 20);

/* Sends the request and receives until the end; the status, 0: no answer. */
static int ask(const char *request)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(co_http_port(http))};
    struct timeval patience = {.tv_sec = 5};
    size_t got = 0;
    int fd = socket(AF_INET, SOCK_STREAM, 0), status = 0;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    cr_assert_eq(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
    for (ssize_t n; got < sizeof reply - 1; got += (size_t)n)
        if ((n = recv(fd, reply + got, sizeof reply - 1 - got, 0)) <= 0)
            break;
    reply[got] = 0;
    close(fd);
    return sscanf(reply, "HTTP/1.1 %d", &status) == 1 ? status : 0;
}

static int ask_as(const char *method, const char *path, const char *headers)
{
    char request[2000];
    snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nConnection: close\r\n%s\r\n", method, path,
             headers);
    return ask(request);
}

static int get(const char *path)
{
    char host[64];
    snprintf(host, sizeof host, "Host: 127.0.0.1:%u\r\n", co_http_port(http));
    return ask_as("GET", path, host);
}

static const char *body_of(void)
{
    const char *p = strstr(reply, "\r\n\r\n");
    return p ? p + 4 : "";
}

Test(http, answers_metrics_and_health_by_itself)
{
    /* /metrics is built in; /healthz too, unless the daemon has one. */
    cr_assert_eq(get("/metrics"), 200);
    cr_assert(strstr(body_of(), "corallite_test_total 7\n"), "%s", reply);
    cr_assert(strstr(reply, "version=0.0.4"));
    cr_assert_eq(get("/healthz"), 200);
    cr_assert_str_eq(body_of(), "ok\n");
}

Test(http, asks_the_daemon_for_the_rest)
{
    /* Body, type and status are the daemon's; 404 means "not mine". */
    cr_assert_eq(get("/v1/hello"), 200);
    cr_assert_str_eq(body_of(), "{\"hello\":1}");
    cr_assert(strstr(reply, "application/json"));
    cr_assert_eq(get("/empty"), 503);
    cr_assert_str_eq(body_of(), "");
    cr_assert_eq(get("/nothing"), 404);
    cr_assert(strstr(body_of(), "/metrics"));
}

Test(http, answers_head_without_a_body)
{
    /* HEAD is GET without the body. */
    cr_assert_eq(ask_as("HEAD", "/v1/hello", "Host: localhost\r\n"), 200);
    cr_assert(strstr(reply, "Content-Length: 11"), "%s", reply);
    cr_assert_str_eq(body_of(), "");
}

Test(http, refuses_other_methods)
{
    /* It reads; it changes nothing. */
    static const char *const methods[] = {"PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        cr_assert_eq(ask_as(methods[i], "/metrics", "Host: localhost\r\n"), 405, "%s", methods[i]);
        cr_assert(strstr(reply, "Allow: GET, HEAD"), "%s", reply);
    }
    cr_assert_eq(ask("POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                     "Content-Length: 5\r\n\r\nhello"),
                 405);
}

Test(http, is_asked_by_address_or_localhost_only)
{
    /* A web page whose name was pointed at 127.0.0.1 must not read a daemon. */
    static const char *const good[] = {"localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80",
                                       "192.168.1.5:6401"};
    static const char *const bad[] = {
        "evil.example", "localhost.evil.example", "127.0.0.1.evil", "127.0.0.1@evil", "",
        "[::1",         "0x7f000001.x",           "localhost:80:80"};
    char header[100];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(header, sizeof header, "Host: %s\r\n", good[i]);
        cr_assert_eq(ask_as("GET", "/metrics", header), 200, "%s", good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(header, sizeof header, "Host: %s\r\n", bad[i]);
        cr_assert_eq(ask_as("GET", "/metrics", header), 403, "%s: %.40s", bad[i], reply);
        cr_assert_not(strstr(reply, "corallite_test_total"));
    }
}

Test(http, wants_one_host)
{
    /* None, or two that could be read differently, is no request of a sound client. */
    cr_assert_eq(ask_as("GET", "/metrics", ""), 400);
    cr_assert_eq(ask_as("GET", "/metrics", "Host: localhost\r\nHost: localhost\r\n"), 400);
    cr_assert_eq(ask("GET /metrics HTTP/1.0\r\n\r\n"), 400);
}

Test(http, refuses_a_foreign_origin)
{
    /* A page of another site asks with its Origin. */
    static const char *const bad[] = {"http://evil.example", "https://localhost", "null",
                                      "http://127.0.0.1.evil", "http://127.0.0.1/x"};
    char headers[200];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(headers, sizeof headers, "Host: localhost\r\nOrigin: %s\r\n", bad[i]);
        cr_assert_eq(ask_as("GET", "/metrics", headers), 403, "%s", bad[i]);
    }
    cr_assert_eq(ask_as("GET", "/metrics", "Host: localhost\r\nOrigin: http://localhost:6401\r\n"),
                 200);
}

Test(http, outlives_nonsense)
{
    /* No input crashes or hangs it. */
    static const char percent[] =
        "GET /%00%ff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    static const char *const nonsense[] = {"\r\n\r\n", "GET\r\n\r\n", "\x16\x03\x01\x02\r\n\r\n",
                                           "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", percent};
    char *huge = malloc(100000);
    memset(huge, 'h', 99999);
    huge[99999] = 0;
    memcpy(huge, "GET /", 5);
    for (size_t i = 3; i < sizeof nonsense / sizeof *nonsense; i++)
        (void)ask(nonsense[i]);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(co_http_port(http))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (size_t i = 0; i < 4; i++) {
        const char *text = i < 3 ? nonsense[i] : huge;
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
        (void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
        usleep(20000);
        close(fd);
    }
    free(huge);
    cr_assert_eq(get("/metrics"), 200);
}

Test(http, has_a_sentence_for_a_port_in_use)
{
    /* "port in use" is said, with what to do. */
    struct co_http *second = NULL;
    cr_assert_eq(co_http_start("127.0.0.1", co_http_port(http), NULL, NULL, &second), CO_ERR_IO);
    cr_assert(strstr(co_sentence(), "in use") && strstr(co_sentence(), "--http"), "%s",
              co_sentence());
    cr_assert_eq(co_http_start("no-such-host.invalid", 0, NULL, NULL, &second), CO_ERR_IO);
    cr_assert(strstr(co_sentence(), "no-such-host.invalid"), "%s", co_sentence());
}

Test(http, works_without_a_function_and_frees_its_port)
{
    /* fn may be NULL; after stop the port is free again at once. */
    struct co_http *second = NULL;
    uint16_t port = co_http_port(http);
    co_http_stop(http);
    cr_assert_eq(co_http_start("localhost", port, NULL, NULL, &second), 0, "%s", co_sentence());
    cr_assert_eq(co_http_port(second), port);
    http = second;
    cr_assert_eq(get("/v1/hello"), 404);
    cr_assert_eq(get("/healthz"), 200);
}
