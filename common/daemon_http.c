/*
 * daemon_http.c - the HTTP side of a daemon, on libmicrohttpd's own thread.
 *
 * Why Host and Origin are looked at: the daemons listen on loopback without a password, and any web
 * page in a browser on this machine can send requests there. The browser keeps the page from
 * reading the answer unless the page's own name was made to point at 127.0.0.1; such a request has
 * that name as its Host. So a Host must be an address in digits, "localhost", or the very name that
 * was given to --listen, and an Origin, if there is one, must be such a host too.
 */
#include "common/daemon_int_http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "common/main_file.h"
#include "common/metrics.h"

#define HEAD_BYTES 32768u /* of one connection: its request line and headers, what it sends */

#define LOOK_NS    500000000 /* between looks at what is late */

/* libmicrohttpd's MAX_EVENTS; the listening socket and its own wake-up are beside the connections.
 */
_Static_assert(CO_HTTP_CONNECTIONS_MAX + 2 < 128, "see daemon_http.h");

struct co_http_limits co_http_limits = {.receive_ms = 20000, .send_ms = 60000};

/* -- What is counted --------------------------------------------------------------------------- */

#define REQUESTS(digit)                                                                            \
    {                                                                                              \
        .name = "corallite_http_requests_total",                                                   \
        .help = "HTTP requests answered, by class of the status code.", .kind = CO_COUNTER,        \
        .labels = "code=\"" digit "xx\""                                                           \
    }
static struct co_metric m_requests[] = {REQUESTS("2"), REQUESTS("4"), REQUESTS("5")};
static struct co_metric m_connections = {.name = "corallite_http_connections",
                                         .help = "HTTP connections that are open.",
                                         .kind = CO_GAUGE};
static struct co_metric m_late = {
    .name = "corallite_http_late_connections_total",
    .help = "HTTP connections cut because a request or an answer took too long to cross them.",
    .kind = CO_COUNTER};
static struct co_histogram m_duration =
    CO_HISTOGRAM_OF("corallite_http_request_duration_seconds",
                    "Time from the head of a request of the service to the end of its answer.");

static void register_metrics(void)
{
    for (size_t i = 0; i < sizeof m_requests / sizeof *m_requests; i++)
        co_metric_register(&m_requests[i]);
    co_metric_register(&m_connections);
    co_metric_register(&m_late);
}

static void register_service_metrics(void)
{
    co_metric_register(&m_duration.metric);
}

static void count(unsigned status)
{
    co_metric_add(&m_requests[status < 400 ? 0 : status < 500 ? 1 : 2], 1);
}

void http_count(unsigned status, uint64_t us)
{
    count(status);
    co_histogram_add(&m_duration, us);
}

/* -- Who may ask ------------------------------------------------------------------------------- */

/* "HOST", "HOST:PORT", "[V6]:PORT": an address or name of ours? */
static bool host_allowed(const struct co_http *http, const char *value)
{
    char host[256];
    uint16_t port;
    struct in6_addr any;
    int rc = co_split_address("Host", value, 80, host, &port);
    if (rc)
        return false;
    return strcasecmp(host, "localhost") == 0 || strcasecmp(host, http->host) == 0 ||
           inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

static bool origin_allowed(const struct co_http *http, const char *value)
{
    static const char scheme[] = "http://";
    return strncasecmp(value, scheme, sizeof scheme - 1) == 0 &&
           host_allowed(http, value + sizeof scheme - 1);
}

struct headers {
    const struct co_http *http;
    unsigned hosts, lengths, encodings;
    uint64_t length;
    bool refused;
};

static bool has_body(const struct headers *h)
{
    return h->encodings || h->length;
}

/* What every request must keep to; 0, or the status and a sentence. */
static unsigned check_headers(const struct headers *h, const char **sentence)
{
    if (h->hosts != 1) {
        *sentence = "a request has one Host header";
        return MHD_HTTP_BAD_REQUEST;
    }
    if (h->lengths + h->encodings > 1) {
        *sentence = "a request says once how long its body is";
        return MHD_HTTP_BAD_REQUEST;
    }
    *sentence = "refused: the Host (and the Origin, if any) must be an address in digits, "
                "localhost, or the name given to --http";
    return h->refused ? MHD_HTTP_FORBIDDEN : 0;
}

static enum MHD_Result look_at_header(void *arg, enum MHD_ValueKind kind, const char *name,
                                      const char *value)
{
    struct headers *h = arg;
    (void)kind;
    if (strcasecmp(name, "Host") == 0) {
        h->hosts++;
        h->refused |= !host_allowed(h->http, value ? value : "");
    } else if (strcasecmp(name, "Origin") == 0) {
        h->refused |= !origin_allowed(h->http, value ? value : "");
    } else if (strcasecmp(name, "Content-Length") == 0) {
        h->lengths++;
        h->length = strtoull(value ? value : "", NULL, 10);
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        h->encodings++;
    }
    return MHD_YES;
}

/* -- Answering --------------------------------------------------------------------------------- */

struct quick {
    struct co_http *http;
    struct MHD_Connection *c;
    bool last; /* the connection ends with the answer */
};

/* Takes `body`. */
static enum MHD_Result answer(const struct quick *q, unsigned status, const char *type,
                              struct co_buf *body)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(body->len, body->data, MHD_RESPMEM_MUST_FREE);
    if (!r) {
        co_buf_free(body);
        return MHD_NO;
    }
    *body = (struct co_buf){0};
    if (type)
        (void)MHD_add_response_header(r, "Content-Type", type);
    (void)MHD_add_response_header(r, "Cache-Control", "no-store");
    (void)MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        (void)MHD_add_response_header(r, "Allow", "GET, HEAD");
    if (q->last)
        (void)MHD_add_response_header(r, "Connection", "close");
    count(status);
    http_phase(q->http, q->c, HTTP_SENDING);
    enum MHD_Result queued = MHD_queue_response(q->c, status, r);
    MHD_destroy_response(r);
    return queued;
}

static enum MHD_Result answer_text(const struct quick *q, unsigned status, const char *text)
{
    struct co_buf body = {0};
    if (co_buf_append(&body, text, strlen(text)) || co_buf_append(&body, "\n", 1)) {
        co_buf_free(&body);
        return MHD_NO;
    }
    return answer(q, status, "text/plain; charset=utf-8", &body);
}

static enum MHD_Result answer_metrics(const struct quick *q)
{
    struct co_buf body = {0};
    if (co_metrics_render(&body)) {
        co_buf_free(&body);
        return MHD_NO;
    }
    return answer(q, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", &body);
}

static enum MHD_Result answer_get(const struct quick *q, const char *path)
{
    struct co_http *http = q->http;
    struct co_buf body = {0};
    const char *type = "text/plain; charset=utf-8";
    if (strcmp(path, "/metrics") == 0)
        return answer_metrics(q);
    int status = http->fn ? http->fn(http->owner, path, &body, &type) : MHD_HTTP_NOT_FOUND;
    if (status != MHD_HTTP_NOT_FOUND)
        return answer(q, status < 100 || status > 599 ? 500u : (unsigned)status, type, &body);
    co_buf_free(&body);
    if (strcmp(path, "/healthz") == 0)
        return answer_text(q, MHD_HTTP_OK, "ok"); /* this thread runs, at least */
    return answer_text(q, MHD_HTTP_NOT_FOUND,
                       http->has_service ? "there is nothing here; try /healthz, /metrics or /v1"
                                         : "there is nothing here; try /healthz or /metrics");
}

static enum MHD_Result on_quick(const struct quick *q, const struct headers *headers,
                                const char *path, const char *method)
{
    const char *sentence;
    unsigned status = check_headers(headers, &sentence);
    if (status)
        return answer_text(q, status, sentence);
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_text(q, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD");
    return answer_get(q, path);
}

static enum MHD_Result on_service(struct co_http_answer *call, const struct headers *headers)
{
    char text[200];
    const char *sentence;
    size_t max = call->http->service.body_max;
    unsigned status = check_headers(headers, &sentence);
    if (status)
        return http_call_refuse(call, status, sentence, has_body(headers));
    if (headers->length <= max)
        return MHD_YES;
    snprintf(text, sizeof text, "a body has at most %zu bytes; this one has %llu", max,
             (unsigned long long)headers->length);
    return http_call_refuse(call, MHD_HTTP_CONTENT_TOO_LARGE, text, true);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *path,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
    struct co_http *http = cls;
    struct headers headers = {.http = http};
    (void)version;
    if (*state)
        return http_call_on(*state, upload, upload_size);
    (void)MHD_get_connection_values(c, MHD_HEADER_KIND, look_at_header, &headers);
    if (!http_is_service(http, path)) {
        struct quick q = {http, c, has_body(&headers)};
        return on_quick(&q, &headers, path, method);
    }
    *state = http_call_new(http, c, path, method);
    return *state ? on_service(*state, &headers) : MHD_NO;
}

/* Paths and arguments stay as they were sent: whoever takes them apart undoes the escapes. */
static size_t leave_escaped(void *cls, struct MHD_Connection *c, char *text)
{
    (void)cls;
    (void)c;
    return strlen(text);
}

static void on_completed(void *cls, struct MHD_Connection *c, void **state,
                         enum MHD_RequestTerminationCode why)
{
    (void)why;
    if (*state)
        http_call_completed(*state);
    *state = NULL;
    http_phase(cls, c, HTTP_RECEIVING);
}

/* -- Bounds of time ---------------------------------------------------------------------------- */

static void on_connection(void *cls, struct MHD_Connection *c, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct co_http *http = cls;
    struct http_conn *conn = *context;
    pthread_mutex_lock(&http->mutex);
    if (what == MHD_CONNECTION_NOTIFY_STARTED && (conn = calloc(1, sizeof *conn))) {
        conn->fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        conn->since_us = co_now_us();
        conn->next = http->conns;
        conn->prev = &http->conns;
        if (conn->next)
            conn->next->prev = &conn->next;
        http->conns = conn;
        co_metric_add(&m_connections, 1);
    } else if (what == MHD_CONNECTION_NOTIFY_CLOSED && conn) {
        *conn->prev = conn->next;
        if (conn->next)
            conn->next->prev = conn->prev;
        free(conn);
        conn = NULL;
        co_metric_sub(&m_connections, 1);
    }
    pthread_mutex_unlock(&http->mutex);
    *context = conn;
}

void http_phase(struct co_http *http, struct MHD_Connection *c, enum http_phase phase)
{
    struct http_conn *conn =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    if (!conn)
        return;
    pthread_mutex_lock(&http->mutex);
    conn->phase = phase;
    conn->since_us = co_now_us();
    pthread_mutex_unlock(&http->mutex);
}

/* Holding the mutex: a connection that is in the list has not been closed. */
static void cut_late(struct co_http *http)
{
    const uint64_t bound_us[] = {
        [HTTP_RECEIVING] = co_http_limits.receive_ms * 1000,
        [HTTP_SENDING] = co_http_limits.send_ms * 1000,
        [HTTP_WORKING] = UINT64_MAX, /* the worker has its own */
        [HTTP_STREAMING] = UINT64_MAX,
    };
    uint64_t now = co_now_us();
    for (struct http_conn *conn = http->conns; conn; conn = conn->next) {
        if (now - conn->since_us <= bound_us[conn->phase])
            continue;
        shutdown(conn->fd, SHUT_RDWR);
        conn->since_us = now;
        co_metric_add(&m_late, 1);
    }
}

void http_soon(struct timespec *out)
{
    clock_gettime(CLOCK_MONOTONIC, out);
    out->tv_nsec += LOOK_NS;
    out->tv_sec += out->tv_nsec / 1000000000;
    out->tv_nsec %= 1000000000;
}

static void *watch(void *arg)
{
    struct co_http *http = arg;
    pthread_mutex_lock(&http->mutex);
    while (!http->stopping) {
        struct timespec until;
        cut_late(http);
        http_soon(&until);
        (void)pthread_cond_timedwait(&http->watch, &http->mutex, &until);
    }
    pthread_mutex_unlock(&http->mutex);
    return NULL;
}

/* -- Starting ---------------------------------------------------------------------------------- */

static int listen_failed(const char *host, uint16_t port, int err)
{
    if (err == EADDRINUSE)
        return co_fail(CO_ERR_IO,
                       "cannot listen on %s port %u for HTTP: the port is in use by another "
                       "program; stop it, or choose another port with --http",
                       host, port);
    return co_fail_errno(CO_ERR_IO, err, "cannot listen on %s port %u for HTTP", host, port);
}

/* A listening socket; *port is filled in. */
static int listen_on(const char *host, uint16_t *port, int *out)
{
    char service[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    snprintf(service, sizeof service, "%u", *port);
    int rc = getaddrinfo(host, service, &hints, &list);
    if (rc)
        return co_fail(CO_ERR_IO, "cannot listen for HTTP: there is no host '%.200s' (%s)", host,
                       gai_strerror(rc));
    const struct addrinfo *a = list; /* of a name that stands for both kinds, the IPv4 address */
    while (a->ai_family != AF_INET && a->ai_next)
        a = a->ai_next;
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    int on = 1, fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
              bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 64) == 0 &&
              getsockname(fd, (struct sockaddr *)&at, &len) == 0;
    int err = errno;
    freeaddrinfo(list);
    if (!ok) {
        if (fd >= 0)
            close(fd);
        return listen_failed(host, *port, err);
    }
    *port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                           : ((struct sockaddr_in *)&at)->sin_port);
    *out = fd;
    return 0;
}

static void init_locks(struct co_http *http)
{
    pthread_mutex_init(&http->mutex, NULL);
    pthread_cond_init(&http->cond, NULL);
    co_condition_init(&http->watch);
}

/* Takes fd when it succeeds. */
static int start_threads(struct co_http *http, int fd)
{
    int rc = http_work_start(http);
    if (rc)
        return rc;
    http->watching = pthread_create(&http->watcher, NULL, watch, http) == 0;
    if (!http->watching)
        return co_fail(CO_ERR_NOMEM, "a thread of the HTTP side cannot be made");
    http->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
        on_request, http, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
        CO_HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)(co_http_limits.send_ms / 1000), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HEAD_BYTES, MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, http, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, http, MHD_OPTION_END);
    return http->daemon ? 0
                        : co_fail(CO_ERR_IO, "the HTTP side on %s port %u cannot start", http->host,
                                  http->port);
}

int co_http_start_service(const char *host, uint16_t port, co_http_fn fn, void *owner,
                          const struct co_http_service *service, struct co_http **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT, service_once = PTHREAD_ONCE_INIT;
    int fd = -1;
    int rc = listen_on(host, &port, &fd);
    if (rc)
        return rc;
    struct co_http *http = calloc(1, sizeof *http);
    if (!http) {
        close(fd);
        return co_fail(CO_ERR_NOMEM, "no memory for the HTTP side");
    }
    http->fn = fn;
    http->owner = owner;
    http->port = port;
    http->has_service = service != NULL;
    if (service)
        http->service = *service;
    snprintf(http->host, sizeof http->host, "%s", host);
    init_locks(http);
    pthread_once(&once, register_metrics);
    if (service)
        pthread_once(&service_once, register_service_metrics);
    sigset_t all, old; /* signals are for the daemon's own threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = start_threads(http, fd);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!rc) {
        *out = http;
        return 0;
    }
    close(fd);
    co_http_stop(http);
    return rc;
}

int co_http_start(const char *host, uint16_t port, co_http_fn fn, void *owner, struct co_http **out)
{
    return co_http_start_service(host, port, fn, owner, NULL, out);
}

uint16_t co_http_port(const struct co_http *http)
{
    return http->port;
}

void co_http_stop(struct co_http *http)
{
    if (!http)
        return;
    http_work_stop(http);
    pthread_mutex_lock(&http->mutex);
    pthread_cond_signal(&http->watch);
    pthread_mutex_unlock(&http->mutex);
    if (http->watching)
        pthread_join(http->watcher, NULL);
    if (http->daemon)
        MHD_stop_daemon(http->daemon);
    pthread_mutex_destroy(&http->mutex);
    pthread_cond_destroy(&http->cond);
    pthread_cond_destroy(&http->watch);
    free(http);
}
