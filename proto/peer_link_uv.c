/*
 * peer_link_uv.c - how a connection on a loop comes to be: accepted by a server, or dialled.
 *
 * Dialling: a host in digits is tried at once; a name goes to uv_getaddrinfo, whose request is
 * memory of its own, so that a peer can be closed while the resolver still thinks. The addresses
 * are tried in turn, each with its share of CO_CONNECT_TIMEOUT_MS.
 */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "proto/hello.h"
#include "proto/limits.h"
#include "proto/peer_impl.h"
#include "proto/peer_metrics.h"
#include "proto/unpack.h"

/* -- Listening --------------------------------------------------------------------------------- */

void peer_server_free_if_done(struct peer_server *s)
{
    if (s->closing && !s->listening && !s->guarding && !s->n_peers)
        free(s);
}

void peer_server_lost(struct peer *p)
{
    struct peer_server *s = p->server;
    if (p->prev)
        p->prev->next = p->next;
    else
        s->peers = p->next;
    if (p->next)
        p->next->prev = p->prev;
    s->n_peers--;
    s->n_closing--;
    peer_server_free_if_done(s);
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct peer_server *s = handle->data;
    s->listening = false;
    peer_server_free_if_done(s);
}

static void on_surplus_closed(uv_handle_t *handle)
{
    free(handle);
}

/* There is no memory for another connection: it is taken and closed, so that its sender learns at
 * once. */
static void turn_away(struct peer_server *s)
{
    uv_tcp_t *tcp = malloc(sizeof *tcp);
    co_warn("proto/peer", "%s has no memory for another connection", s->address);
    if (!tcp)
        return;
    if (uv_tcp_init(s->loop, tcp)) {
        free(tcp);
        return;
    }
    (void)uv_accept((uv_stream_t *)&s->listener, (uv_stream_t *)tcp);
    uv_close((uv_handle_t *)tcp, on_surplus_closed);
}

void peer_server_link(struct peer_server *s, struct peer *p)
{
    p->server = s;
    p->next = s->peers;
    if (p->next)
        p->next->prev = p;
    s->peers = p;
    s->n_peers++;
    p->begun_ms = uv_now(s->loop);
    if (!s->beyond)
        peer_count_connections(1);
}

static int open_tcp(struct peer *p)
{
    int rc = uv_tcp_init(p->loop, &p->tcp);
    p->tcp.data = p;
    p->tcp_open = rc == 0;
    if (!rc)
        p->handles++;
    return rc;
}

static void name_peer(struct peer *p)
{
    struct sockaddr_storage at;
    int len = sizeof at;
    if (uv_tcp_getpeername(&p->tcp, (struct sockaddr *)&at, &len) == 0)
        net_format_sockaddr(&at, p->address);
    else
        snprintf(p->address, sizeof p->address, "a peer that is gone");
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct peer_server *s = stream->data;
    if (status) {
        co_warn("proto/peer", "%s cannot take a connection: %s", s->address, uv_strerror(status));
        return;
    }
    struct peer *p = peer_new(s->loop, &s->handler);
    if (!p) {
        turn_away(s);
        return;
    }
    peer_server_link(s, p);
    int rc = open_tcp(p);
    if (!rc)
        rc = uv_accept(stream, (uv_stream_t *)&p->tcp);
    if (rc) {
        peer_abort(p, CO_ERR_CLOSED, uv_strerror(rc));
        return;
    }
    name_peer(p);
    peer_connected(p);
}

static int listen_failed(const struct peer_server *s, int uv_code)
{
    if (uv_code == UV_EADDRINUSE)
        return co_fail(CO_ERR_IO,
                       "cannot listen on %s: the port is in use by another program; stop it, or "
                       "choose another port with --listen",
                       s->address);
    return co_fail(CO_ERR_IO, "cannot listen on %s: %s", s->address, uv_strerror(uv_code));
}

static int start_listening(struct peer_server *s, const struct net_addresses *at)
{
    struct sockaddr_storage bound;
    int len = sizeof bound;
    int rc = uv_tcp_init(s->loop, &s->listener);
    if (rc)
        return listen_failed(s, rc);
    s->listening = true;
    s->listener.data = s;
    unsigned i = 0; /* of a name that stands for both kinds, the IPv4 address */
    while (i + 1 < at->n && at->at[i].ss_family != AF_INET)
        i++;
    rc = uv_tcp_bind(&s->listener, (const struct sockaddr *)&at->at[i], 0);
    if (!rc)
        rc = uv_listen((uv_stream_t *)&s->listener, 1024, on_connection);
    if (!rc)
        rc = peer_guard_start(s);
    if (!rc)
        rc = uv_tcp_getsockname(&s->listener, (struct sockaddr *)&bound, &len);
    if (rc)
        return listen_failed(s, rc);
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&bound;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&bound;
    s->port = ntohs(bound.ss_family == AF_INET6 ? v6->sin6_port : v4->sin_port);
    return 0;
}

int peer_listen(uv_loop_t *loop, const char *host, uint16_t port,
                const struct peer_handler *handler, struct peer_server **out)
{
    struct net_addresses at;
    peer_ignore_sigpipe();
    int rc = net_resolve(host, port, co_now_us() + CO_CONNECT_TIMEOUT_MS * 1000ull, &at);
    if (rc) {
        char why[CO_SENTENCE_MAX];
        snprintf(why, sizeof why, "%s", co_sentence());
        return co_fail(CO_ERR_IO, "cannot listen on '%.255s': %s", host, why);
    }
    struct peer_server *s = calloc(1, sizeof *s);
    if (!s)
        return co_fail(CO_ERR_NOMEM, "no memory for a server");
    s->loop = loop;
    s->handler = *handler;
    net_format(host, port, s->address);
    rc = start_listening(s, &at);
    if (rc) {
        peer_server_close(s);
        return rc;
    }
    net_format(host, s->port, s->address);
    *out = s;
    return 0;
}

uint16_t peer_server_port(const struct peer_server *s)
{
    return s->port;
}

void peer_server_close(struct peer_server *s)
{
    if (s->closing)
        return;
    s->closing = true;
    if (s->listening)
        uv_close((uv_handle_t *)&s->listener, on_listener_closed);
    for (struct peer *p = s->peers; p; p = p->next)
        peer_leave(p, false, CO_ERR_CANCELED, "this daemon is being stopped");
    peer_guard_stop(s);
    peer_server_free_if_done(s);
}

/* -- Dialling ---------------------------------------------------------------------------------- */

/* A look-up that the resolver works on; `peer` is NULL once nobody waits for it. */
struct lookup {
    uv_getaddrinfo_t req;
    struct peer *peer;
};

struct peer_dial {
    Corallite__Hello *hello; /* ours */
    char wanted[32];
    uint64_t until_ms; /* uv_now */
    struct net_addresses to;
    unsigned next; /* of them, to be tried */
    int last_error;
    struct lookup *lookup;
    uv_connect_t connect;
};

static void dial_next(struct peer *p);

void peer_dial_free(struct peer *p)
{
    struct peer_dial *d = p->dial;
    if (!d)
        return;
    if (d->lookup)
        d->lookup->peer = NULL;
    if (d->hello)
        corallite__hello__free_unpacked(d->hello, NULL);
    free(d);
    p->dial = NULL;
}

int peer_dial_check(struct peer *p, const Corallite__HelloOk *ok)
{
    return hello_check_answer(p->dial->hello, ok, p->address);
}

static void dial_failed(struct peer *p)
{
    char why[700];
    snprintf(why, sizeof why, "cannot reach %s at %s (%s); is it running? `corallite status` tells",
             p->dial->wanted, p->address, uv_strerror(p->dial->last_error));
    peer_abort(p, CO_ERR_CONNECT, why);
}

static void on_redial(uv_handle_t *handle)
{
    struct peer *p = handle->data;
    p->tcp_open = false;
    if (p->state == PEER_DIALING)
        dial_next(p);
    peer_unhold(p);
}

/* This address did not do: the next one, with a new socket. */
static void dial_on(struct peer *p, int uv_code)
{
    p->dial->last_error = uv_code;
    if (p->tcp_open && !uv_is_closing((uv_handle_t *)&p->tcp))
        uv_close((uv_handle_t *)&p->tcp, on_redial);
}

static void on_connect(uv_connect_t *req, int status)
{
    struct peer *p = req->data;
    if (p->state != PEER_DIALING || uv_is_closing((uv_handle_t *)&p->tcp))
        return;
    if (status)
        dial_on(p, status);
    else
        peer_connected(p);
}

static void dial_next(struct peer *p)
{
    struct peer_dial *d = p->dial;
    uint64_t now = uv_now(p->loop);
    if (d->next == d->to.n || now >= d->until_ms) {
        dial_failed(p);
        return;
    }
    unsigned i = d->next++;
    d->last_error = UV_ETIMEDOUT;
    int rc = open_tcp(p);
    if (rc) {
        d->last_error = rc;
        dial_failed(p);
        return;
    }
    peer_timer(p, (d->until_ms - now) / (d->to.n - i) + 1);
    d->connect.data = p;
    rc = uv_tcp_connect(&d->connect, &p->tcp, (const struct sockaddr *)&d->to.at[i], on_connect);
    if (rc)
        dial_on(p, rc);
}

void peer_dial_timeout(struct peer *p)
{
    if (p->tcp_open)
        dial_on(p, UV_ETIMEDOUT);
    else
        dial_failed(p); /* the resolver has not answered */
}

static void on_lookup(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct lookup *l = (struct lookup *)req->data;
    struct peer *p = l->peer;
    free(l);
    if (p && p->state == PEER_DIALING) {
        struct net_addresses *to = &p->dial->to;
        p->dial->lookup = NULL;
        for (struct addrinfo *a = status ? NULL : list; a && to->n < NET_ADDRESSES_MAX;
             a = a->ai_next) {
            if (a->ai_addrlen <= sizeof to->at[0])
                memcpy(&to->at[to->n++], a->ai_addr, a->ai_addrlen);
        }
        p->dial->last_error = status ? status : UV_EAI_NONAME;
        dial_next(p);
    }
    uv_freeaddrinfo(list);
}

static int look_up(struct peer *p, const char *host, uint16_t port)
{
    char service[8];
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct lookup *l = calloc(1, sizeof *l);
    if (!l)
        return UV_ENOMEM;
    snprintf(service, sizeof service, "%u", port);
    l->req.data = l;
    l->peer = p;
    int rc = uv_getaddrinfo(p->loop, &l->req, on_lookup, host, service, &hints);
    if (rc)
        free(l);
    else
        p->dial->lookup = l;
    return rc;
}

/* A copy of the caller's Hello, and its frame as the first thing to be sent. */
static int keep_hello(struct peer *p, const Corallite__Hello *hello)
{
    char text[32];
    struct co_buf packed = {0};
    p->dial = calloc(1, sizeof *p->dial);
    if (!p->dial)
        return co_fail(CO_ERR_NOMEM, "no memory for a connection");
    int rc = co_buf_reserve(&packed, corallite__hello__get_packed_size(hello) + 1);
    if (rc)
        return rc;
    packed.len = corallite__hello__pack(hello, packed.data);
    p->dial->hello = message_unpack(&corallite__hello__descriptor, co_buf_span(&packed));
    co_buf_free(&packed);
    if (!p->dial->hello)
        return CO_ERR_NOMEM;
    const char *wanted = hello_wanted(p->dial->hello, text);
    snprintf(p->dial->wanted, sizeof p->dial->wanted, "%s", wanted);
    peer_send(p, FRAME_HELLO, 0, &hello->base, (struct co_span){0});
    return p->code;
}

int peer_connect(uv_loop_t *loop, const char *host, uint16_t port, const Corallite__Hello *hello,
                 const struct peer_handler *handler, struct peer **out)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    peer_ignore_sigpipe();
    struct peer *p = peer_new(loop, handler);
    if (!p)
        return co_fail(CO_ERR_NOMEM, "no memory for a connection");
    net_format(host, port, p->address);
    int rc = keep_hello(p, hello);
    if (rc) {
        peer_abort(p, rc, "no memory");
        return rc;
    }
    struct net_addresses *to = &p->dial->to;
    uv_update_time(loop);
    p->dial->until_ms = uv_now(loop) + peer_limits.connect_ms;
    if (uv_ip4_addr(host, port, &v4) == 0) {
        memcpy(&to->at[to->n++], &v4, sizeof v4);
    } else if (uv_ip6_addr(host, port, &v6) == 0) {
        memcpy(&to->at[to->n++], &v6, sizeof v6);
    } else {
        peer_timer(p, peer_limits.connect_ms);
        p->dial->last_error = UV_ETIMEDOUT;
        rc = look_up(p, host, port);
    }
    p->owes_close = true; /* from here on a failure is told by on_close */
    *out = p;
    if (rc) {
        p->dial->last_error = rc;
        dial_failed(p);
    } else if (to->n) {
        dial_next(p);
    }
    return 0;
}
