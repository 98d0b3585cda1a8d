/*
 * net.c - TCP between virtual hosts: connections that deliver bytes in order, late, in pieces, or
 * not at all; and the C library's calls that use them, with poll and eventfd.
 *
 * A connection is a pair of ends. What is sent travels as a segment with a time of arrival. On a
 * link that is cut segments are held, as TCP holds them by repeating, and go on when it heals;
 * after TCP_USER_TIMEOUT both ends give up. A message of the log is therefore lost only with its
 * connection: that single messages are lost, repeated or overtake each other is level A's.
 *
 * An end whose other end went without a word (half-open) learns of it as the kernel would tell it:
 * by TCP_USER_TIMEOUT when it has sent something since, else by keep-alive; each only if the
 * product asked for it (net_tune), else never.
 *
 * Addresses: 10.0.N.HOST. N is ignored, so that computes which live in one real process may call
 * one pageserver by different names and share nothing (compute-vfs/database.c keeps its objects by
 * name).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include "common/assert.h"
#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/wrap.h"

#define FD_BASE       100000
#define MAX_SOCKS     60000
#define KEEP_ALIVE_US 11000000u /* net_tune's: idle for 5 s, then three probes, 2 s each */

enum kind { SOCK_FRESH, SOCK_LISTENING, SOCK_DIALING, SOCK_OPEN, SOCK_CLOSED, EVENT_FD };

#define WATCHERS 4 /* threads that may poll one socket at a time */

struct segment {
    struct segment *next;
    struct sock *to, *from;
    uint32_t len, off;
    bool fin, held;
    uint64_t sent_at;
    uint8_t data[];
};

struct queue {
    struct segment *first, **last;
};

struct sock {
    int fd;
    enum kind kind;
    struct proc *owner;
    uint32_t host, far_host;
    uint16_t port, far_port;
    struct sock *peer;     /* NULL: it has gone, or never was */
    struct queue in, held; /* arrived; sent and held up */
    uint64_t last_arrival; /* of what was sent */
    size_t travelling;     /* sent by this end and not taken by the other's program */
    bool fin_sent, fin_in, reset;
    bool keep_alive, unanswered; /* SO_KEEPALIVE; it sent something that nobody will ever read */
    uint64_t user_timeout_us;    /* TCP_USER_TIMEOUT; 0: not asked for */
    int error;
    struct task *watcher[WATCHERS]; /* tasks that poll it, or the one of its loop */
    struct sock *backlog[64];
    uint32_t n_backlog;
    uint64_t count; /* EVENT_FD */
    uint32_t more;  /* descriptors beside the first: all have its number */
};

static struct sock *socks[MAX_SOCKS]; /* by descriptor */
static uint32_t n_socks;
static struct sock *live[MAX_SOCKS]; /* those that were not closed yet, in the same order */
static uint32_t n_live, n_closed;    /* and so many of them were */
static uint16_t next_port = 20000;
static uint64_t clogged_until[MAX_HOSTS][MAX_HOSTS];

static void put(struct queue *q, struct segment *s)
{
    if (!q->first)
        q->last = &q->first;
    s->next = NULL;
    *q->last = s;
    q->last = &s->next;
}

static struct segment *take(struct queue *q)
{
    struct segment *s = q->first;
    if (s)
        q->first = s->next;
    return s;
}

static struct sock *sock_new(struct proc *p, enum kind kind)
{
    struct sock *s = calloc(1, sizeof *s);
    co_assert(s && n_socks < MAX_SOCKS);
    s->fd = FD_BASE + (int)n_socks;
    socks[n_socks++] = s;
    live[n_live++] = s;
    s->kind = kind;
    s->owner = p;
    s->host = p ? p->host : 0;
    return s;
}

/* Before all of them are gone through. */
static void drop_closed(void)
{
    uint32_t n = 0;
    if (!n_closed)
        return;
    for (uint32_t i = 0; i < n_live; i++)
        if (live[i]->kind != SOCK_CLOSED)
            live[n++] = live[i];
    n_live = n;
    n_closed = 0;
}

struct sock *sock_of(int fd)
{
    return fd >= FD_BASE && fd < FD_BASE + (int)n_socks ? socks[fd - FD_BASE] : NULL;
}

int sock_fd(const struct sock *s)
{
    return s->fd;
}

void sock_name(const struct sock *s, bool remote, uint32_t *host, uint16_t *port)
{
    *host = remote ? s->far_host : s->host;
    *port = remote ? s->far_port : s->port;
}

static void watch(struct sock *s, struct task *t)
{
    uint32_t i = 0;
    while (i < WATCHERS && s->watcher[i] && s->watcher[i] != t)
        i++;
    co_assert(i < WATCHERS);
    s->watcher[i] = t;
}

static void unwatch(struct sock *s, const struct task *t)
{
    for (uint32_t i = 0; i < WATCHERS; i++)
        if (s->watcher[i] == t)
            s->watcher[i] = NULL;
}

void sock_watch(struct sock *s, struct task *t)
{
    watch(s, t);
}

static void something(struct sock *s)
{
    for (uint32_t i = 0; i < WATCHERS; i++)
        if (s->watcher[i])
            task_wake(s->watcher[i]);
}

static uint64_t latency(uint32_t from, uint32_t to)
{
    uint64_t us = sim.w.delay_min_us + below(R_NET, sim.w.delay_max_us - sim.w.delay_min_us + 1);
    if (from == to)
        us /= 4;
    if (fault(F_SPIKE))
        us += below(R_NET, sim.w.spike_us);
    if (clogged_until[from][to] > sim.now)
        us += clogged_until[from][to] - sim.now;
    return us + 1;
}

/* ---- the end of a connection -------------------------------------------------------------------
 */

static void drop_all(struct queue *q)
{
    for (struct segment *s; (s = take(q));)
        free(s);
}

/* This end learns that the connection is no more. */
static void broken(struct sock *s, int error)
{
    if (s->kind != SOCK_OPEN && s->kind != SOCK_DIALING)
        return;
    if (s->reset)
        return;
    s->reset = true;
    s->error = error;
    drop_all(&s->held);
    something(s);
}

static void on_reset(void *a, uint64_t b)
{
    struct sock *s = a;
    if (s->kind == SOCK_CLOSED)
        return;
    drop_all(&s->in); /* as the kernel does */
    broken(s, (int)b);
}

static void on_keep_alive(void *a, uint64_t b)
{
    struct sock *s = a;
    if (s->kind != SOCK_OPEN || s->reset || s->unanswered) /* the kernel does not probe then */
        return;
    probe(P_KEPT_ALIVE);
    broken(s, (int)b);
}

static void on_unanswered(void *a, uint64_t b)
{
    struct sock *s = a;
    if (s->kind != SOCK_OPEN || s->reset)
        return;
    probe(P_UNANSWERED);
    broken(s, (int)b);
}

/* The other end went without a word. */
static void lost(struct sock *s)
{
    s->peer = NULL;
    if (s->keep_alive)
        after(KEEP_ALIVE_US, on_keep_alive, s, ETIMEDOUT);
}

static void sent_to_nobody(struct sock *s)
{
    if (!s->unanswered && s->user_timeout_us)
        after(s->user_timeout_us, on_unanswered, s, ETIMEDOUT);
    s->unanswered = true;
}

static void reset_peer(struct sock *s)
{
    struct sock *far = s->peer;
    s->peer = NULL;
    if (!far)
        return;
    lost(far);
    if (!sim.cut[s->host][far->host])
        after(latency(s->host, far->host), on_reset, far, ECONNRESET);
}

/* ---- segments ----------------------------------------------------------------------------------
 */

static void on_arrival(void *a, uint64_t b)
{
    struct segment *g = a;
    struct sock *to = g->to;
    (void)b;
    if (to->kind == SOCK_CLOSED) {
        /* Nobody is there any more: the sender is told. */
        if (g->from->peer == to)
            lost(g->from);
        if (!g->fin && g->from->kind == SOCK_OPEN && !sim.cut[to->host][g->from->host])
            after(latency(to->host, g->from->host), on_reset, g->from, ECONNRESET);
        free(g);
        return;
    }
    if (to->reset || to->peer != g->from) {
        free(g);
        return;
    }
    if (g->fin) {
        to->fin_in = true;
        free(g);
    } else {
        put(&to->in, g);
    }
    something(to);
}

static void dispatch(struct segment *g)
{
    uint64_t at = sim.now + latency(g->from->host, g->to->host);
    if (at <= g->from->last_arrival)
        at = g->from->last_arrival;
    g->from->last_arrival = at;
    after(at - sim.now, on_arrival, g, 0);
}

static void on_user_timeout(void *a, uint64_t b)
{
    struct sock *s = a;
    if (s->held.first && s->held.first->sent_at <= b && s->kind == SOCK_OPEN) {
        struct sock *far = s->peer;
        broken(s, ETIMEDOUT);
        s->peer = NULL;
        if (far) {
            far->peer = NULL;
            after(1000000, on_reset, far, ETIMEDOUT); /* its keep-alive finds out */
        }
    }
}

static void ship(struct sock *s, const uint8_t *data, uint32_t len, bool fin)
{
    struct segment *g = malloc(sizeof *g + len);
    co_assert(g != NULL);
    *g = (struct segment){.to = s->peer, .from = s, .len = len, .fin = fin, .sent_at = sim.now};
    if (len)
        memcpy(g->data, data, len);
    s->travelling += len;
    if (sim.cut[s->host][s->peer->host] || s->held.first) {
        put(&s->held, g);
        if (s->user_timeout_us)
            after(s->user_timeout_us, on_user_timeout, s, sim.now);
    } else {
        dispatch(g);
    }
}

static void release_held(struct sock *s)
{
    for (struct segment *g; (g = take(&s->held));) {
        if (s->peer == g->to)
            dispatch(g);
        else
            free(g);
    }
}

/* ---- what the programs do ----------------------------------------------------------------------
 */

bool sock_connecting(const struct sock *s)
{
    return s->kind == SOCK_DIALING && !s->reset;
}

bool sock_readable(const struct sock *s)
{
    if (s->kind == EVENT_FD)
        return s->count > 0;
    if (s->kind == SOCK_LISTENING)
        return s->n_backlog > 0;
    return s->reset || ((s->kind == SOCK_OPEN) && (s->in.first || s->fin_in));
}

bool sock_writable(const struct sock *s)
{
    return s->reset || (s->kind == SOCK_OPEN && s->travelling < sim.w.send_room);
}

long sock_send(struct sock *s, const void *data, size_t len)
{
    const uint8_t *p = data;
    size_t room, sent = 0;
    if (s->reset || s->fin_sent)
        return s->error == ETIMEDOUT ? -ETIMEDOUT : -EPIPE;
    if (s->kind != SOCK_OPEN)
        return -ENOTCONN;
    room = s->travelling < sim.w.send_room ? sim.w.send_room - s->travelling : 0;
    if (!room)
        return -EAGAIN;
    if (len > room)
        len = room;
    fold_bytes(data, len);
    if (!s->peer) { /* half open */
        sent_to_nobody(s);
        return (long)len;
    }
    while (sent < len) {
        uint32_t n = (uint32_t)(len - sent);
        if (n > 1 && fault(F_SPLIT))
            n = 1 + below(R_NET, n - 1);
        ship(s, p + sent, n, false);
        sent += n;
    }
    return (long)len;
}

long sock_recv(struct sock *s, void *data, size_t len)
{
    uint8_t *p = data;
    size_t got = 0;
    while (got < len && s->in.first) {
        struct segment *g = s->in.first;
        size_t n = g->len - g->off < len - got ? g->len - g->off : len - got;
        memcpy(p + got, g->data + g->off, n);
        g->off += (uint32_t)n;
        got += n;
        if (g->from->travelling >= n)
            g->from->travelling -= n;
        something(g->from); /* it may send again */
        if (g->off == g->len)
            free(take(&s->in));
    }
    if (got)
        return (long)got;
    if (s->reset)
        return -s->error;
    if (s->fin_in)
        return 0;
    return s->kind == SOCK_OPEN ? -EAGAIN : -ENOTCONN;
}

void sock_finish(struct sock *s)
{
    if (s->kind != SOCK_OPEN || s->fin_sent || s->reset)
        return;
    s->fin_sent = true;
    if (s->peer)
        ship(s, NULL, 0, true);
}

/* A connection that goes to another loop of its process; who watched it does not any more. */
int __wrap_net_duplicate(int fd);
int __wrap_net_duplicate(int fd)
{
    struct sock *s = sock_of(fd);
    co_assert(s && s->kind != SOCK_CLOSED);
    s->more++;
    return fd;
}

void sock_close(struct sock *s)
{
    if (s->kind == SOCK_CLOSED)
        return;
    if (s->more) {
        s->more--;
        memset(s->watcher, 0, sizeof s->watcher);
        return;
    }
    if (s->kind == SOCK_OPEN && !s->reset) {
        if (s->in.first)
            reset_peer(s); /* closed with something unread */
        else
            sock_finish(s);
    }
    for (uint32_t i = 0; i < s->n_backlog; i++)
        sock_close(s->backlog[i]);
    s->n_backlog = 0;
    drop_all(&s->in);
    s->kind = SOCK_CLOSED;
    n_closed++;
    memset(s->watcher, 0, sizeof s->watcher);
}

int sock_error(struct sock *s)
{
    int error = s->error;
    if (s->kind != SOCK_OPEN)
        s->error = 0;
    return error;
}

/* ---- connecting --------------------------------------------------------------------------------
 */

struct sock *sock_listen(struct proc *p, uint16_t port)
{
    struct sock *s = sock_new(p, SOCK_LISTENING);
    s->port = port;
    p->listened = true;
    return s;
}

static struct sock *listener_at(uint32_t host, uint16_t port)
{
    drop_closed();
    for (uint32_t i = 0; i < n_live; i++)
        if (live[i]->kind == SOCK_LISTENING && live[i]->host == host && live[i]->port == port)
            return live[i];
    return NULL;
}

static void on_established(void *a, uint64_t b)
{
    struct sock *s = a;
    (void)b;
    if (s->kind != SOCK_DIALING || s->reset)
        return;
    s->kind = SOCK_OPEN;
    something(s);
}

static void on_refused(void *a, uint64_t b)
{
    broken(a, (int)b);
}

static void on_syn(void *a, uint64_t tries)
{
    struct sock *s = a, *l, *far;
    if (s->kind != SOCK_DIALING || s->reset)
        return;
    if (sim.cut[s->host][s->far_host] || sim.cut[s->far_host][s->host]) {
        if (tries < 6)
            after(1000000, on_syn, s, tries + 1); /* repeated */
        else
            broken(s, ETIMEDOUT);
        return;
    }
    l = listener_at(s->far_host, s->far_port);
    if (!l || l->n_backlog == 64) {
        after(latency(s->far_host, s->host), on_refused, s, ECONNREFUSED);
        return;
    }
    far = sock_new(l->owner, SOCK_OPEN);
    far->host = l->host;
    far->port = l->port;
    far->far_host = s->host;
    far->far_port = s->port;
    far->peer = s;
    s->peer = far;
    l->backlog[l->n_backlog++] = far;
    something(l);
    uint64_t wait = latency(s->far_host, s->host);
    far->last_arrival = sim.now + wait; /* nothing overtakes the answer */
    after(wait, on_established, s, 0);
}

struct sock *sock_connect(struct proc *p, uint32_t host, uint16_t port)
{
    struct sock *s = sock_new(p, SOCK_DIALING);
    s->far_host = host;
    s->far_port = port;
    s->port = next_port++;
    after(latency(s->host, host), on_syn, s, 0);
    return s;
}

struct sock *sock_accept(struct sock *l)
{
    struct sock *s;
    if (!l->n_backlog)
        return NULL;
    s = l->backlog[0];
    memmove(&l->backlog[0], &l->backlog[1], --l->n_backlog * sizeof *l->backlog);
    return s;
}

/* ---- faults ------------------------------------------------------------------------------------
 */

/* silent: the host lost its power; nobody is told. */
void net_proc_died(struct proc *p, bool silent)
{
    drop_closed();
    for (uint32_t i = 0; i < n_live; i++) {
        struct sock *s = live[i];
        if (s->owner != p || s->kind == SOCK_CLOSED)
            continue;
        s->more = 0;
        if (silent) {
            if (s->peer)
                lost(s->peer);
            s->peer = NULL;
            s->reset = true;
        }
        sock_close(s);
    }
}

void net_cut(uint32_t a, uint32_t b, bool on)
{
    sim.cut[a][b] = on;
    if (on)
        return;
    for (uint32_t i = 0; i < n_socks; i++)
        if (socks[i]->held.first && socks[i]->host == a && socks[i]->far_host == b)
            release_held(socks[i]);
}

void net_heal(void)
{
    for (uint32_t a = 0; a < MAX_HOSTS; a++)
        for (uint32_t b = 0; b < MAX_HOSTS; b++) {
            clogged_until[a][b] = 0;
            if (sim.cut[a][b])
                net_cut(a, b, false);
        }
}

void net_clog(uint32_t a, uint32_t b, uint64_t us)
{
    clogged_until[a][b] = sim.now + us;
}

static struct sock *any_open(void)
{
    uint32_t n = 0, at;
    drop_closed();
    for (uint32_t i = 0; i < n_live; i++)
        n += live[i]->kind == SOCK_OPEN && live[i]->peer && !live[i]->reset;
    at = below(R_NEMESIS, n);
    for (uint32_t i = 0; i < n_live; i++)
        if (live[i]->kind == SOCK_OPEN && live[i]->peer && !live[i]->reset && at-- == 0)
            return live[i];
    return NULL;
}

/* What travels is lost. half: one end does not hear of it. */
void net_reset_one(bool half)
{
    struct sock *s = any_open(), *far = s ? s->peer : NULL;
    if (!s)
        return;
    s->peer = NULL; /* what is on its way finds nobody */
    lost(far);
    on_reset(s, ECONNRESET);
    if (!half)
        on_reset(far, ECONNRESET);
}

void net_corrupt_one(void)
{
    for (uint32_t tries = 0; tries < 20; tries++) {
        struct sock *s = any_open();
        struct segment *g = s ? s->in.first : NULL;
        if (!g || g->off >= g->len)
            continue;
        g->data[g->off + below(R_NEMESIS, g->len - g->off)] ^= (uint8_t)(1u << below(R_NEMESIS, 8));
        return;
    }
}

/* ---- the C library's calls ---------------------------------------------------------------------
 */

static uint32_t host_of(const struct sockaddr *a)
{
    return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) & 0xff;
}

int __wrap_socket(int domain, int type, int protocol)
{
    (void)type;
    (void)protocol;
    co_assert(domain == AF_INET);
    return sock_new(here(), SOCK_FRESH)->fd;
}

int __wrap_connect(int fd, const struct sockaddr *a, socklen_t len)
{
    struct sock *s = sock_of(fd);
    (void)len;
    co_assert(s && s->kind == SOCK_FRESH);
    s->kind = SOCK_DIALING;
    s->far_host = host_of(a);
    s->far_port = ntohs(((const struct sockaddr_in *)(const void *)a)->sin_port);
    s->port = next_port++;
    after(latency(s->host, s->far_host), on_syn, s, 0);
    errno = EINPROGRESS;
    return -1;
}

static ssize_t answer(long n)
{
    if (n >= 0)
        return n;
    errno = (int)-n;
    return -1;
}

ssize_t __wrap_send(int fd, const void *data, size_t len, int flags)
{
    (void)flags;
    return answer(sock_send(sock_of(fd), data, len));
}

ssize_t __wrap_recv(int fd, void *data, size_t len, int flags)
{
    (void)flags;
    return answer(sock_recv(sock_of(fd), data, len));
}

int __wrap_shutdown(int fd, int how)
{
    if (how == SHUT_WR)
        sock_finish(sock_of(fd));
    return 0;
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    struct sock *s = sock_of(fd);
    (void)len;
    co_assert(s != NULL);
    if (level == SOL_SOCKET && name == SO_KEEPALIVE)
        s->keep_alive = *(const int *)value != 0;
    if (level == IPPROTO_TCP && name == TCP_USER_TIMEOUT)
        s->user_timeout_us = *(const unsigned *)value * 1000ull;
    return 0;
}

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    (void)level;
    (void)len;
    co_assert(name == SO_ERROR);
    *(int *)value = sock_error(sock_of(fd));
    return 0;
}

void net_sockaddr(uint32_t host, uint16_t port, struct sockaddr_in *out)
{
    *out = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    out->sin_addr.s_addr = htonl(0x0a000000u | host);
}

static int name_of(int fd, bool remote, struct sockaddr *a, socklen_t *len)
{
    uint32_t host;
    uint16_t port;
    sock_name(sock_of(fd), remote, &host, &port);
    net_sockaddr(host, port, (struct sockaddr_in *)(void *)a);
    *len = sizeof(struct sockaddr_in);
    return 0;
}

int __wrap_getsockname(int fd, struct sockaddr *a, socklen_t *len)
{
    return name_of(fd, false, a, len);
}

int __wrap_getpeername(int fd, struct sockaddr *a, socklen_t *len)
{
    return name_of(fd, true, a, len);
}

int __wrap_eventfd(unsigned count, int flags)
{
    struct sock *s = sock_new(here(), EVENT_FD);
    (void)flags;
    s->count = count;
    return s->fd;
}

/* read, write and close of a descriptor that is one of ours: disk.c asks. */
ssize_t net_read(struct sock *s, void *data, size_t len)
{
    if (s->kind != EVENT_FD)
        return answer(sock_recv(s, data, len));
    if (!s->count)
        return answer(-EAGAIN);
    co_assert(len == 8);
    memcpy(data, &s->count, 8);
    s->count = 0;
    return 8;
}

ssize_t net_write(struct sock *s, const void *data, size_t len)
{
    uint64_t n;
    if (s->kind != EVENT_FD)
        return answer(sock_send(s, data, len));
    co_assert(len == 8);
    memcpy(&n, data, 8);
    s->count += n;
    something(s);
    return 8;
}

static int look(struct pollfd *p, nfds_t n)
{
    int ready = 0;
    for (nfds_t i = 0; i < n; i++) {
        struct sock *s = sock_of(p[i].fd);
        p[i].revents = 0;
        if (p[i].fd < 0)
            continue;
        co_assert(s != NULL);
        if ((p[i].events & POLLIN) && sock_readable(s))
            p[i].revents |= POLLIN;
        if ((p[i].events & POLLOUT) && sock_writable(s))
            p[i].revents |= POLLOUT;
        if (s->reset)
            p[i].revents |= POLLERR | POLLHUP;
        ready += p[i].revents != 0;
    }
    return ready;
}

static int poll_until(struct pollfd *p, nfds_t n, uint64_t until)
{
    for (;;) {
        int ready = look(p, n);
        if (ready || sim.now >= until)
            return ready;
        for (nfds_t i = 0; i < n; i++)
            if (p[i].fd >= 0)
                watch(sock_of(p[i].fd), sim.current);
        (void)task_block(NULL, until);
        for (nfds_t i = 0; i < n; i++)
            if (p[i].fd >= 0 && sock_of(p[i].fd))
                unwatch(sock_of(p[i].fd), sim.current);
    }
}

int __wrap_poll(struct pollfd *p, nfds_t n, int timeout_ms)
{
    sim.now++;
    return poll_until(p, n, timeout_ms < 0 ? NEVER : sim.now + (uint64_t)timeout_ms * 1000u);
}

int __wrap_ppoll(struct pollfd *p, nfds_t n, const struct timespec *t, const sigset_t *mask)
{
    (void)mask;
    sim.now++;
    return poll_until(
        p, n, t ? sim.now + (uint64_t)t->tv_sec * 1000000u + (uint64_t)t->tv_nsec / 1000u : NEVER);
}

int __wrap___ppoll_chk(struct pollfd *p, nfds_t n, const struct timespec *t, const sigset_t *mask,
                       size_t len)
{
    (void)len;
    return __wrap_ppoll(p, n, t, mask);
}

int __wrap___poll_chk(struct pollfd *p, nfds_t n, int timeout_ms, size_t len)
{
    (void)len;
    return __wrap_poll(p, n, timeout_ms);
}

ssize_t __wrap___recv_chk(int fd, void *data, size_t len, size_t room, int flags)
{
    (void)room;
    return __wrap_recv(fd, data, len, flags);
}
