/*
 * proxy.c - chaos-proxy --listen PORT --to HOST:PORT: a TCP proxy that misbehaves on demand.
 *
 * Prints "listening PORT" and then takes one command a line on standard input, each answered by one
 * line, "ok", "error ..." or the figures. The end of standard input ends it. "in" is the way from
 * the one who connects to the target, "out" the way back; without either, both are meant.
 *
 *   delay MS [in|out]   every byte is handed on so much later, in order
 *   stall [in|out]      bytes are taken (up to 1 MiB a connection) and kept
 *   cut [in|out]        bytes are taken and vanish: a network that loses one direction
 *   corrupt [in|out]    one bit of the next byte that is handed on is turned
 *   halfopen            the target loses its present connections, the other side is not told
 *   refuse              new connections are refused
 *   resume              ends stall, cut, refuse and delay; connections that lost bytes or their
 *                       other end are reset, as by a host that knows nothing of them
 *   reset               every connection is reset, on both sides
 *   stats               "in=BYTES out=BYTES lost=BYTES connections=NOW total=EVER", handed on
 *   quit
 *
 * One thread, poll(2), nothing of the product. A connection is two pipes of chunks with a time
 * each.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 512
#define CHUNK_BYTES     16384u
#define KEPT_BYTES      (1u << 20) /* of one pipe; beyond, it is not read from */

enum way { IN, OUT, BOTH };

struct chunk {
    struct chunk *next;
    uint64_t due_ms;
    size_t len, sent; /* len 0: the end */
    uint8_t data[CHUNK_BYTES];
};

struct pipe {
    struct chunk *first, **last;
    size_t kept;
    bool ended, done; /* the end was received; was handed on */
};

struct connection {
    int fd[2]; /* the one who connected, the target (-1: half open) */
    struct pipe pipe[2];
    bool used, connecting, lost_bytes;
};

static struct connection connections[CONNECTIONS_MAX];
static struct {
    bool stall, cut, corrupt;
    uint64_t delay_ms, bytes;
} ways[2];
static uint64_t lost, total;
static int listener = -1;
static bool refusing;
static struct sockaddr_in here = {.sin_family = AF_INET};
static struct sockaddr_storage target;
static socklen_t target_len;

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

/* -- Connections ------------------------------------------------------------------------------- */

static void close_fd(int *fd, bool reset)
{
    struct linger at_once = {.l_onoff = 1};
    if (*fd < 0)
        return;
    if (reset)
        setsockopt(*fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(*fd);
    *fd = -1;
}

static void empty(struct pipe *p)
{
    while (p->first) {
        struct chunk *c = p->first;
        p->first = c->next;
        free(c);
    }
    p->last = &p->first;
    p->kept = 0;
}

static void drop(struct connection *c, bool reset)
{
    close_fd(&c->fd[0], reset);
    close_fd(&c->fd[1], reset);
    empty(&c->pipe[IN]);
    empty(&c->pipe[OUT]);
    c->used = false;
}

static void take_connection(void)
{
    int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct connection *c = connections;
    if (fd < 0)
        return;
    while (c < connections + CONNECTIONS_MAX && c->used)
        c++;
    int to = socket(target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c == connections + CONNECTIONS_MAX || to < 0) {
        close_fd(&fd, true);
        close_fd(&to, true);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(to, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *c = (struct connection){.fd = {fd, to}, .used = true, .connecting = true};
    c->pipe[IN].last = &c->pipe[IN].first;
    c->pipe[OUT].last = &c->pipe[OUT].first;
    total++;
    if (connect(to, (struct sockaddr *)&target, target_len) && errno != EINPROGRESS)
        drop(c, true);
}

static bool half_open(const struct connection *c)
{
    return c->fd[1] < 0;
}

/* -- Pipes: `w` is the way, fd[w] its source, fd[!w] its sink -----------------------------------
 */

static bool wants_in(const struct connection *c, int w)
{
    return !c->pipe[w].ended && c->pipe[w].kept < KEPT_BYTES && !c->connecting;
}

static bool wants_out(const struct connection *c, int w, uint64_t now)
{
    const struct chunk *first = c->pipe[w].first;
    return first && first->due_ms <= now && !ways[w].stall && !half_open(c) && !c->connecting;
}

static void receive(struct connection *c, int w)
{
    struct pipe *p = &c->pipe[w];
    struct chunk *k = malloc(sizeof *k);
    if (!k)
        abort();
    ssize_t n = recv(c->fd[w], k->data, sizeof k->data, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        free(k);
    } else if (n < 0 || (n == 0 && half_open(c))) {
        free(k);
        drop(c, true);
    } else if (n > 0 && (ways[w].cut || half_open(c))) {
        free(k);
        lost += (uint64_t)n;
        c->lost_bytes = true;
    } else {
        k->next = NULL;
        k->len = (size_t)n;
        k->sent = 0;
        k->due_ms = now_ms() + ways[w].delay_ms;
        *p->last = k;
        p->last = &k->next;
        p->kept += k->len;
        p->ended = n == 0;
    }
}

/* Hands on the first chunk; false when the connection is gone or the sink takes no more. */
static bool hand_on(struct connection *c, int w)
{
    struct pipe *p = &c->pipe[w];
    struct chunk *k = p->first;
    if (k->len && ways[w].corrupt) {
        k->data[k->sent] ^= 0x10;
        ways[w].corrupt = false;
    }
    ssize_t n = k->len ? send(c->fd[!w], k->data + k->sent, k->len - k->sent, MSG_NOSIGNAL) : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n < 0) {
        drop(c, true);
        return false;
    }
    k->sent += (size_t)n;
    p->kept -= (size_t)n;
    ways[w].bytes += (uint64_t)n;
    if (k->sent < k->len)
        return false;
    if (!k->len) {
        shutdown(c->fd[!w], SHUT_WR);
        p->done = true;
    }
    p->first = k->next;
    if (!p->first)
        p->last = &p->first;
    free(k);
    if (c->pipe[IN].done && c->pipe[OUT].done) {
        drop(c, false);
        return false;
    }
    return true;
}

static void finish_connect(struct connection *c)
{
    int err = 0;
    socklen_t len = sizeof err;
    getsockopt(c->fd[1], SOL_SOCKET, SO_ERROR, &err, &len);
    c->connecting = false;
    if (err)
        drop(c, true);
}

/* What poll said about the two ends of a connection. */
static void serve(struct connection *c, short client, short server)
{
    if (c->connecting) {
        if (server)
            finish_connect(c);
        return;
    }
    if (client & (POLLIN | POLLHUP | POLLERR) && wants_in(c, IN))
        receive(c, IN);
    if (c->used && server & (POLLIN | POLLHUP | POLLERR) && wants_in(c, OUT))
        receive(c, OUT);
    /* Without waiting for POLLOUT: what has just come is mostly handed on at once. */
    uint64_t now = now_ms();
    for (int w = IN; w <= OUT; w++)
        while (c->used && wants_out(c, w, now))
            if (!hand_on(c, w))
                break;
}

/* -- Commands ---------------------------------------------------------------------------------- */

static int start_listening(void)
{
    int on = 1;
    socklen_t len = sizeof here;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listener < 0 || bind(listener, (struct sockaddr *)&here, sizeof here) ||
        listen(listener, 128) || getsockname(listener, (struct sockaddr *)&here, &len))
        return -1;
    return 0;
}

static void each(void (*f)(struct connection *))
{
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (connections[i].used)
            f(&connections[i]);
}

static void make_half_open(struct connection *c)
{
    close_fd(&c->fd[1], true);
    empty(&c->pipe[IN]);
    empty(&c->pipe[OUT]);
    c->connecting = false;
    c->pipe[IN].ended = false; /* it is read from, so that its end is noticed */
}

static void reset(struct connection *c)
{
    drop(c, true);
}

static void reset_if_incomplete(struct connection *c)
{
    if (c->lost_bytes || half_open(c))
        drop(c, true);
}

static void resume(void)
{
    for (int w = IN; w <= OUT; w++) {
        ways[w].stall = ways[w].cut = false;
        ways[w].delay_ms = 0;
        for (int i = 0; i < CONNECTIONS_MAX; i++)
            for (struct chunk *k = connections[i].used ? connections[i].pipe[w].first : NULL; k;
                 k = k->next)
                k->due_ms = 0;
    }
    each(reset_if_incomplete);
    refusing = false;
}

static void print_stats(void)
{
    unsigned n = 0;
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        n += connections[i].used;
    printf("in=%llu out=%llu lost=%llu connections=%u total=%llu\n",
           (unsigned long long)ways[IN].bytes, (unsigned long long)ways[OUT].bytes,
           (unsigned long long)lost, n, (unsigned long long)total);
}

/* Returns what is wrong with the command, NULL: nothing. */
static const char *obey(const char *line)
{
    char word[16] = "", a[16] = "", b[16] = "";
    int n = sscanf(line, "%15s %15s %15s", word, a, b);
    bool delay = strcmp(word, "delay") == 0;
    const char *which = delay ? b : a;
    int w = strcmp(which, "in") == 0 ? IN : strcmp(which, "out") == 0 ? OUT : BOTH;
    if (n < 1 || (*which && w == BOTH) || (delay && (n < 2 || a[strspn(a, "0123456789")])))
        return "the command or its arguments are not known";
    for (int i = IN; i <= OUT; i++) {
        if (w != BOTH && w != i)
            continue;
        ways[i].delay_ms = delay ? strtoull(a, NULL, 10) : ways[i].delay_ms;
        ways[i].stall |= strcmp(word, "stall") == 0;
        ways[i].cut |= strcmp(word, "cut") == 0;
        ways[i].corrupt |= strcmp(word, "corrupt") == 0;
    }
    if (strcmp(word, "halfopen") == 0)
        each(make_half_open);
    else if (strcmp(word, "reset") == 0)
        each(reset);
    else if (strcmp(word, "resume") == 0)
        resume();
    else if (strcmp(word, "refuse") == 0)
        refusing = true;
    else if (strcmp(word, "quit") == 0)
        exit(0);
    else if (!delay && strcmp(word, "stall") && strcmp(word, "cut") && strcmp(word, "corrupt") &&
             strcmp(word, "stats"))
        return "the command is not known";
    if (refusing)
        close_fd(&listener, false);
    else if (listener < 0 && start_listening())
        return "the port cannot be listened on again";
    return NULL;
}

static void read_commands(void)
{
    static char buf[1024];
    static size_t len;
    ssize_t n = read(STDIN_FILENO, buf + len, sizeof buf - 1 - len);
    if (n <= 0)
        exit(0);
    len += (size_t)n;
    buf[len] = 0;
    for (char *end; (end = memchr(buf, '\n', len));) {
        *end = 0;
        const char *wrong = obey(buf);
        if (wrong)
            printf("error %s\n", wrong);
        else if (strncmp(buf, "stats", 5) == 0)
            print_stats();
        else
            puts("ok");
        len -= (size_t)(end + 1 - buf);
        memmove(buf, end + 1, len);
    }
    if (len == sizeof buf - 1)
        len = 0;
}

/* -- The loop ---------------------------------------------------------------------------------- */

static int timeout_ms(uint64_t now)
{
    uint64_t least = 60000;
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        for (int w = IN; connections[i].used && w <= OUT; w++) {
            const struct chunk *k = connections[i].pipe[w].first;
            if (k && !ways[w].stall && k->due_ms > now && k->due_ms - now < least)
                least = k->due_ms - now;
        }
    return (int)least;
}

static void run(void)
{
    static struct pollfd p[2 + 2 * CONNECTIONS_MAX];
    for (;;) {
        uint64_t now = now_ms();
        p[0] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
        p[1] = (struct pollfd){.fd = listener, .events = POLLIN};
        for (int i = 0; i < CONNECTIONS_MAX; i++)
            for (int e = 0; e < 2; e++) {
                struct connection *c = &connections[i];
                int out = c->used && (wants_out(c, !e, now) || (e && c->connecting));
                int in = c->used && c->fd[e] >= 0 && wants_in(c, e);
                /* poll reports errors unasked: an end that is not asked for is left out. */
                p[2 + 2 * i + e] =
                    (struct pollfd){.fd = in || out ? c->fd[e] : -1,
                                    .events = (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0))};
            }
        if (poll(p, 2 + 2 * CONNECTIONS_MAX, timeout_ms(now)) < 0 && errno != EINTR)
            return;
        for (int i = 0; i < CONNECTIONS_MAX; i++)
            if (connections[i].used)
                serve(&connections[i], p[2 + 2 * i].revents, p[3 + 2 * i].revents);
        if (listener >= 0 && p[1].revents)
            take_connection();
        if (p[0].revents)
            read_commands();
    }
}

static int parse_target(const char *text)
{
    char host[256];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || (size_t)(colon - text) >= sizeof host)
        return -1;
    snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
    if (getaddrinfo(host, colon + 1, &hints, &list))
        return -1;
    memcpy(&target, list->ai_addr, list->ai_addrlen);
    target_len = list->ai_addrlen;
    freeaddrinfo(list);
    return 0;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 5 || strcmp(argv[1], "--listen") || strcmp(argv[3], "--to") ||
        parse_target(argv[4])) {
        fprintf(stderr, "usage: chaos-proxy --listen PORT --to HOST:PORT\n");
        return 2;
    }
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    here.sin_port = htons((uint16_t)atoi(argv[2]));
    if (start_listening()) {
        fprintf(stderr, "chaos-proxy: cannot listen on port %s: %s\n", argv[2], strerror(errno));
        return 1;
    }
    printf("listening %u\n", ntohs(here.sin_port));
    run();
    return 1;
}
