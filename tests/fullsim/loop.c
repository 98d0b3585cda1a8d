/*
 * loop.c - as much of libuv as the daemons use, over virtual sockets and time. In the order of
 * libuv's own loop: timers, idle handles, those before it polls, what the sockets have, those
 * after, closing callbacks.
 *
 * The state of a handle that libuv keeps in private fields is a struct `own` here, kept in
 * handle->u.reserved[0]. A loop runs on one task; others wake it with uv_async_send only.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "common/assert.h"
#include "common/stop_uv.h"
#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/wrap.h"

#define READS_A_TURN 32

struct writing {
    struct writing *next;
    uv_write_t *req;
    uint8_t *data;
    size_t len, sent;
    uv_write_cb cb;
    int status;
};

enum kind { TIMERS, IDLES, PREPARES, CHECKS, OF_IO, N_KINDS };

struct list {
    struct own *first, **last;
};

struct own {
    struct own *next, *next_of_kind;
    uv_handle_t *h;
    struct proc *proc;
    bool active, closing, closed, unref;
    /* timer */
    uint64_t due_ms, repeat_ms, order;
    uv_timer_cb on_timer;
    /* idle, prepare, check, async, signal */
    uv_idle_cb on_idle;
    uv_prepare_cb on_prepare;
    uv_check_cb on_check;
    uv_async_cb on_async;
    bool pending;
    uv_signal_cb on_signal;
    int number;
    /* tcp */
    struct sock *sock;
    uint16_t port;
    uv_connection_cb on_connection;
    bool reading;
    uv_alloc_cb on_alloc;
    uv_read_cb on_read;
    struct writing *writes, **writes_tail, *written;
    size_t queued;
    uv_connect_t *connect;
    uv_connect_cb on_connect;
    uv_shutdown_t *shutdown;
    uv_shutdown_cb on_shutdown;
    uv_close_cb on_close;
};

struct loop {
    uv_loop_t *uv;
    struct proc *proc;
    struct task *task;
    struct own *first, **last;    /* all handles, as they were made */
    struct list of_kind[N_KINDS]; /* the same, those of a kind */
    uint32_t n_closing;
    uint64_t now_ms, order;
    struct loop *next;
};

static struct loop *loops;

static struct loop *of(const uv_loop_t *l)
{
    return l->internal_fields;
}

static struct own *own_of(const void *h)
{
    return ((const uv_handle_t *)h)->u.reserved[0];
}

static enum kind kind_of(uv_handle_type type)
{
    switch (type) {
    case UV_TIMER:
        return TIMERS;
    case UV_IDLE:
        return IDLES;
    case UV_PREPARE:
        return PREPARES;
    case UV_CHECK:
        return CHECKS;
    default:
        return OF_IO;
    }
}

static struct own *handle_new(uv_loop_t *l, void *handle, uv_handle_type type)
{
    uv_handle_t *h = handle;
    struct own *o = calloc(1, sizeof *o);
    co_assert(o != NULL);
    h->loop = l;
    h->type = type;
    h->u.reserved[0] = o;
    o->h = h;
    o->proc = of(l)->proc;
    o->writes_tail = &o->writes;
    *of(l)->last = o;
    of(l)->last = &o->next;
    struct list *kind = &of(l)->of_kind[kind_of(type)];
    *kind->last = o;
    kind->last = &o->next_of_kind;
    return o;
}

static void wake(struct loop *l)
{
    if (l->task)
        task_wake(l->task);
}

/* ---- loops -------------------------------------------------------------------------------------
 */

int uv_loop_init(uv_loop_t *l)
{
    struct loop *own = calloc(1, sizeof *own);
    co_assert(own != NULL);
    memset(l, 0, sizeof *l);
    l->internal_fields = own;
    own->uv = l;
    own->proc = here();
    own->last = &own->first;
    for (int k = 0; k < N_KINDS; k++)
        own->of_kind[k].last = &own->of_kind[k].first;
    own->next = loops;
    loops = own;
    uv_update_time(l);
    return 0;
}

int uv_loop_close(uv_loop_t *l)
{
    for (struct own *o = of(l)->first; o; o = o->next)
        if (!o->closed)
            return UV_EBUSY;
    return 0;
}

void uv_update_time(uv_loop_t *l)
{
    of(l)->now_ms = local_us(of(l)->proc) / 1000u;
}

uint64_t uv_now(const uv_loop_t *l)
{
    return of(l)->now_ms;
}

uint64_t uv_hrtime(void)
{
    sim.now++;
    return local_us(here()) * 1000u;
}

const char *uv_strerror(int code)
{
    return strerror(-code);
}

static bool has_io(const struct own *o)
{
    if (o->closing)
        return false;
    if (o->pending)
        return true;
    if (!o->sock)
        return false;
    if (o->on_connection && sock_readable(o->sock))
        return true;
    if (o->connect && !sock_connecting(o->sock))
        return true;
    if (o->reading && sock_readable(o->sock))
        return true;
    if (o->written || (o->writes && sock_writable(o->sock)))
        return true;
    return o->shutdown && !o->writes && !o->written;
}

static void run_timers(struct loop *l)
{
    for (;;) {
        struct own *best = NULL;
        for (struct own *o = l->of_kind[TIMERS].first; o; o = o->next_of_kind)
            if (o->active && !o->closing && o->due_ms <= l->now_ms &&
                (!best || o->due_ms < best->due_ms ||
                 (o->due_ms == best->due_ms && o->order < best->order)))
                best = o;
        if (!best)
            return;
        if (best->repeat_ms) {
            best->due_ms = l->now_ms + best->repeat_ms;
            best->order = ++l->order;
        } else {
            best->active = false;
        }
        best->on_timer((uv_timer_t *)best->h);
    }
}

static void run_idles(struct loop *l)
{
    for (struct own *o = l->of_kind[IDLES].first; o; o = o->next_of_kind)
        if (o->active && !o->closing)
            o->on_idle((uv_idle_t *)o->h);
}

static void run_prepares(struct loop *l)
{
    for (struct own *o = l->of_kind[PREPARES].first; o; o = o->next_of_kind)
        if (o->active && !o->closing)
            o->on_prepare((uv_prepare_t *)o->h);
}

static void run_checks(struct loop *l)
{
    for (struct own *o = l->of_kind[CHECKS].first; o; o = o->next_of_kind)
        if (o->active && !o->closing)
            o->on_check((uv_check_t *)o->h);
}

static void send_more(struct own *o)
{
    while (o->writes) {
        struct writing *w = o->writes;
        while (w->sent < w->len) {
            long n = sock_send(o->sock, w->data + w->sent, w->len - w->sent);
            if (n == -EAGAIN)
                return;
            if (n < 0) {
                w->status = (int)n;
                break;
            }
            w->sent += (size_t)n;
            o->queued -= (size_t)n;
        }
        o->writes = w->next;
        if (!o->writes)
            o->writes_tail = &o->writes;
        w->next = NULL;
        struct writing **end = &o->written;
        while (*end)
            end = &(*end)->next;
        *end = w;
    }
}

static void tell_written(struct own *o)
{
    while (o->written && !o->closing) {
        struct writing *w = o->written;
        o->written = w->next;
        o->queued -= w->len - w->sent;
        if (w->cb)
            w->cb(w->req, w->status);
        free(w->data);
        free(w);
    }
}

static void read_some(struct own *o)
{
    for (int i = 0; i < READS_A_TURN && o->reading && !o->closing; i++) {
        uv_buf_t buf = {0};
        o->on_alloc(o->h, 65536, &buf);
        if (!buf.base || !buf.len) {
            o->on_read((uv_stream_t *)o->h, UV_ENOBUFS, &buf);
            return;
        }
        long n = sock_recv(o->sock, buf.base, buf.len);
        if (n == -EAGAIN) {
            o->on_read((uv_stream_t *)o->h, 0, &buf);
            return;
        }
        if (n <= 0)
            o->reading = false;
        o->on_read((uv_stream_t *)o->h, n == 0 ? UV_EOF : n, &buf);
        if (n <= 0 || (size_t)n < buf.len)
            return;
    }
}

static void run_io_of(struct own *o)
{
    if (o->pending && o->on_async) {
        o->pending = false;
        o->on_async((uv_async_t *)o->h);
        return;
    }
    if (o->pending && o->on_signal) {
        o->pending = false;
        o->on_signal((uv_signal_t *)o->h, o->number);
        return;
    }
    if (!o->sock)
        return;
    if (o->on_connection) {
        for (int i = 0; i < READS_A_TURN && !o->closing && sock_readable(o->sock); i++)
            o->on_connection((uv_stream_t *)o->h, 0);
        return;
    }
    if (o->connect && !sock_connecting(o->sock)) {
        uv_connect_t *req = o->connect;
        int error = sock_error(o->sock);
        o->connect = NULL;
        o->on_connect(req, -error);
    }
    if (!o->closing && o->reading && sock_readable(o->sock))
        read_some(o);
    if (!o->closing && o->writes && sock_writable(o->sock))
        send_more(o);
    if (!o->closing)
        tell_written(o);
    if (!o->closing && o->shutdown && !o->writes && !o->written) {
        uv_shutdown_t *req = o->shutdown;
        o->shutdown = NULL;
        sock_finish(o->sock);
        o->on_shutdown(req, 0);
    }
}

static void cancel_all(struct own *o)
{
    struct writing *w;
    for (int pass = 0; pass < 2; pass++) {
        while ((w = pass ? o->writes : o->written)) {
            *(pass ? &o->writes : &o->written) = w->next;
            if (w->cb)
                w->cb(w->req, pass ? UV_ECANCELED : w->status);
            free(w->data);
            free(w);
        }
    }
    if (o->shutdown)
        o->on_shutdown(o->shutdown, UV_ECANCELED);
    if (o->connect)
        o->on_connect(o->connect, UV_ECANCELED);
    o->shutdown = NULL;
    o->connect = NULL;
}

/* Those that are over; a callback may have added some behind. */
static void drop_closed(struct loop *l)
{
    for (int k = 0; k < N_KINDS; k++) {
        struct list *kind = &l->of_kind[k];
        struct own **at = &kind->first;
        while (*at) {
            if ((*at)->closed)
                *at = (*at)->next_of_kind;
            else
                at = &(*at)->next_of_kind;
        }
        kind->last = at;
    }
    struct own **at = &l->first;
    while (*at) {
        struct own *o = *at;
        if (!o->closed) {
            at = &o->next;
            continue;
        }
        *at = o->next;
        free(o);
    }
    l->last = at;
}

static void run_closing(struct loop *l)
{
    if (!l->n_closing)
        return;
    for (struct own *o = l->first; o; o = o->next) {
        if (!o->closing || o->closed)
            continue;
        o->closed = true;
        l->n_closing--;
        cancel_all(o);
        if (o->on_close)
            o->on_close(o->h);
    }
    drop_closed(l);
}

static bool counts(const struct own *o)
{
    return o->closing || (o->active && !o->unref) || o->connect || o->writes || o->written ||
           o->reading;
}

/* Until when the loop may sleep; now: it may not. */
static uint64_t rests_until(struct loop *l)
{
    uint64_t until_ms = NEVER;
    if (l->n_closing)
        return 0;
    for (struct own *o = l->of_kind[IDLES].first; o; o = o->next_of_kind)
        if (o->active)
            return 0;
    for (struct own *o = l->of_kind[OF_IO].first; o; o = o->next_of_kind)
        if (has_io(o))
            return 0;
    for (struct own *o = l->of_kind[TIMERS].first; o; o = o->next_of_kind)
        if (o->active && o->due_ms < until_ms)
            until_ms = o->due_ms;
    if (until_ms == NEVER)
        return NEVER;
    uv_update_time(l->uv);
    return until_ms <= l->now_ms ? 0 : global_us(l->proc, until_ms * 1000u);
}

int uv_run(uv_loop_t *uv, uv_run_mode mode)
{
    struct loop *l = of(uv);
    co_assert(mode == UV_RUN_DEFAULT);
    l->task = sim.current;
    for (;;) {
        bool alive = false;
        uv_update_time(uv);
        run_timers(l);
        run_idles(l);
        run_prepares(l);
        for (struct own *o = l->first; o && !alive; o = o->next)
            alive = counts(o);
        if (!alive)
            return 0;
        uint64_t until = rests_until(l);
        if (until)
            (void)task_block(NULL, until);
        uv_update_time(uv);
        for (struct own *o = l->of_kind[OF_IO].first; o; o = o->next_of_kind)
            if (has_io(o))
                run_io_of(o);
        run_checks(l);
        run_closing(l);
    }
}

/* ---- handles -----------------------------------------------------------------------------------
 */

int uv_is_active(const uv_handle_t *h)
{
    struct own *o = own_of(h);
    return o->active && !o->closing;
}

int uv_is_closing(const uv_handle_t *h)
{
    struct own *o = own_of(h);
    return o->closing;
}

void uv_unref(uv_handle_t *h)
{
    own_of(h)->unref = true;
}

void uv_close(uv_handle_t *h, uv_close_cb cb)
{
    struct own *o = own_of(h);
    co_assert(!o->closing);
    o->closing = true;
    of(h->loop)->n_closing++;
    o->active = o->reading = false;
    o->on_close = cb;
    if (o->sock)
        sock_close(o->sock);
}

int uv_timer_init(uv_loop_t *l, uv_timer_t *h)
{
    handle_new(l, h, UV_TIMER);
    return 0;
}

int uv_timer_start(uv_timer_t *h, uv_timer_cb cb, uint64_t ms, uint64_t repeat_ms)
{
    struct own *o = own_of(h);
    struct loop *l = of(h->loop);
    if (o->closing)
        return UV_EINVAL;
    o->on_timer = cb;
    o->active = true;
    o->due_ms = l->now_ms + ms;
    o->repeat_ms = repeat_ms;
    o->order = ++l->order;
    return 0;
}

int uv_timer_stop(uv_timer_t *h)
{
    own_of(h)->active = false;
    return 0;
}

int uv_idle_init(uv_loop_t *l, uv_idle_t *h)
{
    handle_new(l, h, UV_IDLE);
    return 0;
}

int uv_idle_start(uv_idle_t *h, uv_idle_cb cb)
{
    struct own *o = own_of(h);
    if (o->closing)
        return 0;
    o->on_idle = cb;
    o->active = true;
    return 0;
}

int uv_idle_stop(uv_idle_t *h)
{
    own_of(h)->active = false;
    return 0;
}

int uv_prepare_init(uv_loop_t *l, uv_prepare_t *h)
{
    handle_new(l, h, UV_PREPARE);
    return 0;
}

int uv_prepare_start(uv_prepare_t *h, uv_prepare_cb cb)
{
    struct own *o = own_of(h);
    if (o->closing)
        return 0;
    o->on_prepare = cb;
    o->active = true;
    return 0;
}

int uv_check_init(uv_loop_t *l, uv_check_t *h)
{
    handle_new(l, h, UV_CHECK);
    return 0;
}

int uv_check_start(uv_check_t *h, uv_check_cb cb)
{
    struct own *o = own_of(h);
    if (o->closing)
        return 0;
    o->on_check = cb;
    o->active = true;
    return 0;
}

int uv_async_init(uv_loop_t *l, uv_async_t *h, uv_async_cb cb)
{
    struct own *o = handle_new(l, h, UV_ASYNC);
    o->on_async = cb;
    o->active = true;
    return 0;
}

int uv_async_send(uv_async_t *h)
{
    struct own *o = own_of(h);
    o->pending = true;
    wake(of(h->loop));
    return 0;
}

int uv_signal_init(uv_loop_t *l, uv_signal_t *h)
{
    handle_new(l, h, UV_SIGNAL);
    return 0;
}

int uv_signal_start(uv_signal_t *h, uv_signal_cb cb, int number)
{
    struct own *o = own_of(h);
    o->on_signal = cb;
    o->number = number;
    o->active = true;
    return 0;
}

/* The signals of a simulated process reach its own loop only, and never kill it. */
void co_stop_hold_signals(void)
{
}

void loop_signal(struct proc *p, int number)
{
    for (struct loop *l = loops; l; l = l->next) {
        if (l->proc != p)
            continue;
        for (struct own *o = l->of_kind[OF_IO].first; o; o = o->next_of_kind)
            if (o->on_signal && o->number == number && !o->closing)
                o->pending = true;
        wake(l);
    }
}

void loop_forget(struct proc *p)
{
    for (struct loop **at = &loops; *at;) {
        if ((*at)->proc == p)
            *at = (*at)->next;
        else
            at = &(*at)->next;
    }
}

/* ---- TCP ---------------------------------------------------------------------------------------
 */

int uv_tcp_init(uv_loop_t *l, uv_tcp_t *h)
{
    handle_new(l, h, UV_TCP);
    return 0;
}

int uv_tcp_bind(uv_tcp_t *h, const struct sockaddr *a, unsigned flags)
{
    (void)flags;
    own_of(h)->port = ntohs(((const struct sockaddr_in *)(const void *)a)->sin_port);
    return 0;
}

int uv_listen(uv_stream_t *h, int backlog, uv_connection_cb cb)
{
    struct own *o = own_of(h);
    (void)backlog;
    o->sock = sock_listen(o->proc, o->port);
    o->on_connection = cb;
    o->active = true;
    sock_watch(o->sock, sim.current);
    return 0;
}

int uv_accept(uv_stream_t *server, uv_stream_t *client)
{
    struct own *o = own_of(client);
    o->sock = sock_accept(own_of(server)->sock);
    if (!o->sock)
        return UV_EAGAIN;
    sock_watch(o->sock, sim.current);
    return 0;
}

/* From here on it wakes this loop's thread. */
int uv_tcp_open(uv_tcp_t *h, uv_os_sock_t fd)
{
    struct own *o = own_of(h);
    o->sock = sock_of(fd);
    co_assert(o->sock != NULL);
    sock_watch(o->sock, sim.current);
    return 0;
}

int uv_tcp_connect(uv_connect_t *req, uv_tcp_t *h, const struct sockaddr *a, uv_connect_cb cb)
{
    struct own *o = own_of(h);
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)a;
    req->handle = (uv_stream_t *)h;
    o->connect = req;
    o->on_connect = cb;
    o->sock = sock_connect(o->proc, ntohl(v4->sin_addr.s_addr) & 0xff, ntohs(v4->sin_port));
    sock_watch(o->sock, sim.current);
    return 0;
}

static int name_of(const uv_tcp_t *h, bool remote, struct sockaddr *a, int *len)
{
    struct own *o = own_of(h);
    uint32_t host;
    uint16_t port;
    if (!o->sock)
        return UV_ENOTCONN;
    sock_name(o->sock, remote, &host, &port);
    net_sockaddr(host, port, (struct sockaddr_in *)(void *)a);
    *len = sizeof(struct sockaddr_in);
    return 0;
}

int uv_tcp_getpeername(const uv_tcp_t *h, struct sockaddr *a, int *len)
{
    return name_of(h, true, a, len);
}

int uv_tcp_getsockname(const uv_tcp_t *h, struct sockaddr *a, int *len)
{
    return name_of(h, false, a, len);
}

int uv_fileno(const uv_handle_t *h, uv_os_fd_t *fd)
{
    struct own *o = own_of(h);
    if (!o->sock)
        return UV_EBADF;
    *fd = sock_fd(o->sock);
    return 0;
}

int uv_read_start(uv_stream_t *h, uv_alloc_cb alloc, uv_read_cb cb)
{
    struct own *o = own_of(h);
    if (o->closing)
        return UV_EINVAL;
    if (o->reading)
        return UV_EALREADY;
    o->reading = true;
    o->on_alloc = alloc;
    o->on_read = cb;
    return 0;
}

int uv_read_stop(uv_stream_t *h)
{
    own_of(h)->reading = false;
    return 0;
}

int uv_write(uv_write_t *req, uv_stream_t *h, const uv_buf_t bufs[], unsigned n, uv_write_cb cb)
{
    struct own *o = own_of(h);
    struct writing *w = calloc(1, sizeof *w);
    co_assert(w != NULL);
    for (unsigned i = 0; i < n; i++)
        w->len += bufs[i].len;
    w->data = malloc(w->len + 1);
    co_assert(w->data != NULL);
    for (size_t i = 0, at = 0; i < n; at += bufs[i++].len)
        memcpy(w->data + at, bufs[i].base, bufs[i].len);
    req->handle = h;
    w->req = req;
    w->cb = cb;
    o->queued += w->len;
    *o->writes_tail = w;
    o->writes_tail = &w->next;
    send_more(o);
    return 0;
}

int uv_try_write(uv_stream_t *h, const uv_buf_t bufs[], unsigned n)
{
    struct own *o = own_of(h);
    size_t sent = 0;
    if (o->writes)
        return UV_EAGAIN;
    for (unsigned i = 0; i < n; i++) {
        long got = sock_send(o->sock, bufs[i].base, bufs[i].len);
        if (got < 0)
            return sent ? (int)sent : (int)got;
        sent += (size_t)got;
        if ((size_t)got < bufs[i].len)
            break;
    }
    return (int)sent;
}

size_t uv_stream_get_write_queue_size(const uv_stream_t *h)
{
    return own_of(h)->queued;
}

int uv_shutdown(uv_shutdown_t *req, uv_stream_t *h, uv_shutdown_cb cb)
{
    struct own *o = own_of(h);
    if (!o->sock || o->closing)
        return UV_ENOTCONN;
    req->handle = h;
    o->shutdown = req;
    o->on_shutdown = cb;
    return 0;
}

uv_buf_t uv_buf_init(char *base, unsigned len)
{
    return (uv_buf_t){.base = base, .len = len};
}

int uv_ip4_addr(const char *text, int port, struct sockaddr_in *out)
{
    struct in_addr a;
    if (inet_pton(AF_INET, text, &a) != 1)
        return UV_EINVAL;
    *out = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    out->sin_addr = a;
    return 0;
}

int uv_ip6_addr(const char *text, int port, struct sockaddr_in6 *out)
{
    (void)text;
    (void)port;
    (void)out;
    return UV_EINVAL;
}

/* All addresses here are in digits. */
int uv_getaddrinfo(uv_loop_t *l, uv_getaddrinfo_t *req, uv_getaddrinfo_cb cb, const char *node,
                   const char *service, const struct addrinfo *hints)
{
    (void)l;
    (void)req;
    (void)cb;
    (void)node;
    (void)service;
    (void)hints;
    return UV_EAI_NONAME;
}

void uv_freeaddrinfo(struct addrinfo *list)
{
    (void)list;
}

/* libuv's pool: a thread for each piece of work. */
struct queued {
    uv_async_t ended;
    uv_work_t *req;
    uv_work_cb work;
    uv_after_work_cb done;
};

static void *work_main(void *arg)
{
    struct queued *q = arg;
    q->work(q->req);
    uv_async_send(&q->ended);
    return NULL;
}

static void free_queued(uv_handle_t *h)
{
    free(h->data);
}

static void on_worked(uv_async_t *h)
{
    struct queued *q = h->data;
    uv_close((uv_handle_t *)h, free_queued);
    q->done(q->req, 0);
}

int uv_queue_work(uv_loop_t *l, uv_work_t *req, uv_work_cb work, uv_after_work_cb done)
{
    struct queued *q = calloc(1, sizeof *q);
    co_assert(q != NULL);
    *q = (struct queued){.req = req, .work = work, .done = done};
    (void)uv_async_init(l, &q->ended, on_worked);
    q->ended.data = q;
    (void)task_new(of(l)->proc, work_main, q);
    return 0;
}

/* ---- threads -----------------------------------------------------------------------------------
 */

struct start {
    uv_thread_cb fn;
    void *arg;
};

static void *begin(void *arg)
{
    struct start s = *(struct start *)arg;
    free(arg);
    s.fn(s.arg);
    return NULL;
}

int uv_thread_create(uv_thread_t *out, uv_thread_cb fn, void *arg)
{
    struct start *s = malloc(sizeof *s);
    co_assert(s != NULL);
    *s = (struct start){.fn = fn, .arg = arg};
    return __wrap_pthread_create(out, NULL, begin, s);
}
int uv_thread_join(uv_thread_t *t)
{
    return __wrap_pthread_join(*t, NULL);
}
int uv_mutex_init(uv_mutex_t *m)
{
    return __wrap_pthread_mutex_init(m, NULL);
}
void uv_mutex_destroy(uv_mutex_t *m)
{
    __wrap_pthread_mutex_destroy(m);
}
void uv_mutex_lock(uv_mutex_t *m)
{
    __wrap_pthread_mutex_lock(m);
}
void uv_mutex_unlock(uv_mutex_t *m)
{
    __wrap_pthread_mutex_unlock(m);
}
int uv_cond_init(uv_cond_t *c)
{
    return __wrap_pthread_cond_init(c, NULL);
}
void uv_cond_destroy(uv_cond_t *c)
{
    (void)c;
}
void uv_cond_signal(uv_cond_t *c)
{
    __wrap_pthread_cond_signal(c);
}
void uv_cond_wait(uv_cond_t *c, uv_mutex_t *m)
{
    __wrap_pthread_cond_wait(c, m);
}
