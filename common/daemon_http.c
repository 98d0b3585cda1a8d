/*
 * daemon_http.c - the HTTP side of a daemon, on libmicrohttpd's own thread.
 *
 * Why Host and Origin are looked at: the daemons listen on loopback without a password, and any web
 * page in a browser on this machine can send requests there. The browser keeps the page from
 * reading the answer unless the page's own name was made to point at 127.0.0.1; such a request has
 * that name as its Host. So a Host must be an address in digits, "localhost", or the very name that
 * was given to --listen, and an Origin, if there is one, must be such a host too.
 */
#include "common/daemon_http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/main_file.h"
#include "common/metrics.h"

#define CONNECTIONS_MAX 64u
#define IDLE_S          30u
#define HEAD_BYTES      16384u /* of one connection: its request line and headers */

struct co_http {
    struct MHD_Daemon *daemon;
    co_http_fn fn;
    void *owner;
    char host[256];
    uint16_t port;
};

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
    unsigned hosts;
    bool refused;
};

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
    }
    return MHD_YES;
}

/* -- Answering --------------------------------------------------------------------------------- */

/* Takes `body`. */
static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *type,
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
    enum MHD_Result queued = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return queued;
}

static enum MHD_Result answer_text(struct MHD_Connection *c, unsigned status, const char *text)
{
    struct co_buf body = {0};
    if (co_buf_append(&body, text, strlen(text)))
        return MHD_NO;
    return answer(c, status, "text/plain; charset=utf-8", &body);
}

static enum MHD_Result answer_metrics(struct MHD_Connection *c)
{
    struct co_buf body = {0};
    if (co_metrics_render(&body)) {
        co_buf_free(&body);
        return MHD_NO;
    }
    return answer(c, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", &body);
}

static enum MHD_Result answer_get(struct co_http *http, struct MHD_Connection *c, const char *path)
{
    struct co_buf body = {0};
    const char *type = "text/plain; charset=utf-8";
    if (strcmp(path, "/metrics") == 0)
        return answer_metrics(c);
    int status = http->fn ? http->fn(http->owner, path, &body, &type) : MHD_HTTP_NOT_FOUND;
    if (status != MHD_HTTP_NOT_FOUND)
        return answer(c, status < 100 || status > 599 ? 500u : (unsigned)status, type, &body);
    co_buf_free(&body);
    if (strcmp(path, "/healthz") == 0)
        return answer_text(c, MHD_HTTP_OK, "ok\n"); /* this thread runs, at least */
    return answer_text(c, MHD_HTTP_NOT_FOUND, "there is nothing here; try /healthz or /metrics\n");
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *path,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
    struct co_http *http = cls;
    struct headers headers = {.http = http};
    (void)version;
    (void)upload;
    (void)state;
    *upload_size = 0;
    (void)MHD_get_connection_values(c, MHD_HEADER_KIND, look_at_header, &headers);
    if (headers.hosts != 1)
        return answer_text(c, MHD_HTTP_BAD_REQUEST, "a request has one Host header\n");
    if (headers.refused)
        return answer_text(c, MHD_HTTP_FORBIDDEN,
                           "refused: the Host (and the Origin, if any) must be an address in "
                           "digits, localhost, or the name given to --http\n");
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_text(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    return answer_get(http, c, path);
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

int co_http_start(const char *host, uint16_t port, co_http_fn fn, void *owner, struct co_http **out)
{
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
    snprintf(http->host, sizeof http->host, "%s", host);
    sigset_t all, old; /* signals are for the daemon's own threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    http->daemon =
        MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL, 0, NULL, NULL, on_request,
                         http, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                         CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S,
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_BYTES, MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!http->daemon) {
        close(fd);
        free(http);
        return co_fail(CO_ERR_IO, "the HTTP side on %s port %u cannot start", host, port);
    }
    *out = http;
    return 0;
}

uint16_t co_http_port(const struct co_http *http)
{
    return http->port;
}

void co_http_stop(struct co_http *http)
{
    if (!http)
        return;
    MHD_stop_daemon(http->daemon);
    free(http);
}
