/*
 * proxy.c - chaos-proxy --listen PORT --to A.B.C.D:PORT: a TCP proxy that misbehaves on demand.
 *
 * Prints "listening PORT" and then takes one command a line on standard input, each answered by one
 * line, "ok", "error: ..." or the figures. The end of standard input ends it. "in" is the way from
 * the one who connects to the target, "out" the way back; without either, both are meant.
 *
 *   delay MS [in|out]   every byte is handed on so much later, in order
 *   jitter MS [in|out]  each piece is handed on later by up to so much beside the delay, in order
 *   stall [in|out]      bytes are taken (up to 1 MiB a connection) and kept
 *   cut [in|out]        bytes are taken and vanish: a network that loses one direction
 *   corrupt [in|out]    one bit of the next byte that is handed on is turned
 *   halfopen            the target loses its present connections, the other side is not told
 *   refuse              new connections are refused
 *   resume              ends stall, cut, refuse, delay and jitter; connections that lost bytes or
 * their other end are reset, as by a host that knows nothing of them reset               every
 * connection is reset, on both sides stats               "in=BYTES out=BYTES lost=BYTES
 * connections=NOW total=EVER", handed on quit
 *
 * One thread, poll(2), nothing of the product. A connection is two pipes of chunks with a time
 * each.
 */
#include <arpa/inet.h>
#include <errno.h>
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
    uint64_t delay_ms, jitter_ms, bytes;
} ways[2];
static uint64_t lost, total, last_due_ms;
static int listener = -1;
static bool refusing;
static struct sockaddr_in here = {.sin_family = AF_INET}, target = {.sin_family = AF_INET};

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
    int to = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
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
    if (connect(to, (struct sockaddr *)&target, sizeof target) && errno != EINPROGRESS)
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
    } else if (ways[w].cut || half_open(c)) {
        free(k);
        lost += (uint64_t)n;
        c->lost_bytes = true;
        p->ended = n == 0;
    } else {
        k->next = NULL;
        k->len = (size_t)n;
        k->sent = 0;
        k->due_ms = now_ms() + ways[w].delay_ms +
                    (ways[w].jitter_ms ? (uint64_t)rand() % (ways[w].jitter_ms + 1) : 0);
        last_due_ms = k->due_ms > last_due_ms ? k->due_ms : last_due_ms;
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

/* What poll said about the two ends of a connection. */
static void serve(struct connection *c, short client, short server)
{
    if (c->connecting && server) {
        int err = 0;
        socklen_t len = sizeof err;
        getsockopt(c->fd[1], SOL_SOCKET, SO_ERROR, &err, &len);
        c->connecting = false;
        if (err)
            drop(c, true);
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

static void make_half_open(struct connection *c)
{
    close_fd(&c->fd[1], true);
    empty(&c->pipe[IN]);
    empty(&c->pipe[OUT]);
    c->connecting = false;
    c->pipe[IN].ended = false; /* it is read from, so that its end is noticed */
}

static void resume(void)
{
    refusing = false;
    for (int w = IN; w <= OUT; w++) {
        ways[w].stall = ways[w].cut = false;
        ways[w].delay_ms = ways[w].jitter_ms = 0;
    }
    for (struct connection *c = connections; c < connections + CONNECTIONS_MAX; c++) {
        if (c->used && (c->lost_bytes || half_open(c)))
            drop(c, true);
        for (int w = IN; c->used && w <= OUT; w++)
            for (struct chunk *k = c->pipe[w].first; k; k = k->next)
                k->due_ms = 0;
    }
}

/* A command that is about the present connections; the number of them, for the figures. */
static unsigned each(const char *word)
{
    unsigned n = 0;
    for (struct connection *c = connections; c < connections + CONNECTIONS_MAX; c++) {
        n += c->used;
        if (c->used && strcmp(word, "reset") == 0)
            drop(c, true);
        else if (c->used && strcmp(word, "halfopen") == 0)
            make_half_open(c);
    }
    return n;
}

static bool known(const char *word)
{
    char spaced[20];
    snprintf(spaced, sizeof spaced, " %s ", word);
    return strstr(" delay jitter stall cut corrupt halfopen refuse reset stats resume quit ",
                  spaced);
}

/* One line; standard input is unbuffered, so that poll knows of the next. */
static void obey(void)
{
    char line[100];
    if (!fgets(line, sizeof line, stdin))
        exit(0);
    char word[16] = "", a[16] = "", b[16] = "";
    int n = sscanf(line, "%15s %15s %15s", word, a, b);
    bool delay = strcmp(word, "delay") == 0, jitter = strcmp(word, "jitter") == 0;
    bool takes_ms = delay || jitter;
    const char *which = takes_ms ? b : a;
    int w = strcmp(which, "in") == 0 ? IN : strcmp(which, "out") == 0 ? OUT : BOTH;
    if (!known(word) || (*which && w == BOTH) ||
        (takes_ms && (n < 2 || a[strspn(a, "0123456789")]))) {
        printf("error: not a command: %s", line);
        return;
    }
    for (int i = IN; i <= OUT; i++) {
        if (w != BOTH && w != i)
            continue;
        ways[i].delay_ms = delay ? strtoull(a, NULL, 10) : ways[i].delay_ms;
        ways[i].jitter_ms = jitter ? strtoull(a, NULL, 10) : ways[i].jitter_ms;
        ways[i].stall |= strcmp(word, "stall") == 0;
        ways[i].cut |= strcmp(word, "cut") == 0;
        ways[i].corrupt |= strcmp(word, "corrupt") == 0;
    }
    unsigned present = each(word);
    refusing |= strcmp(word, "refuse") == 0;
    if (strcmp(word, "resume") == 0)
        resume();
    else if (strcmp(word, "quit") == 0)
        exit(0);
    if (refusing)
        close_fd(&listener, false);
    if (!refusing && listener < 0 && start_listening())
        printf("error: the port cannot be listened on again\n");
    else if (strcmp(word, "stats") == 0)
        printf("in=%llu out=%llu lost=%llu connections=%u total=%llu\n",
               (unsigned long long)ways[IN].bytes, (unsigned long long)ways[OUT].bytes,
               (unsigned long long)lost, present, (unsigned long long)total);
    else
        puts("ok");
}

/* -- The loop ---------------------------------------------------------------------------------- */

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
        if (poll(p, 2 + 2 * CONNECTIONS_MAX, now < last_due_ms ? 1 : 60000) < 0 && errno != EINTR)
            return;
        for (int i = 0; i < CONNECTIONS_MAX; i++)
            if (connections[i].used)
                serve(&connections[i], p[2 + 2 * i].revents, p[3 + 2 * i].revents);
        if (listener >= 0 && p[1].revents)
            take_connection();
        if (p[0].revents)
            obey();
    }
}

int main(int argc, char **argv)
{
    char host[16];
    unsigned short port, to;
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    if (argc != 5 || strcmp(argv[1], "--listen") || sscanf(argv[2], "%hu", &port) != 1 ||
        strcmp(argv[3], "--to") || sscanf(argv[4], "%15[0-9.]:%hu", host, &to) != 2 ||
        inet_pton(AF_INET, host, &target.sin_addr) != 1) {
        fprintf(stderr, "usage: chaos-proxy --listen PORT --to A.B.C.D:PORT\n");
        return 2;
    }
    target.sin_port = htons(to);
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    here.sin_port = htons(port);
    if (start_listening()) {
        fprintf(stderr, "chaos-proxy: cannot listen on port %s: %s\n", argv[2], strerror(errno));
        return 1;
    }
    printf("listening %u\n", ntohs(here.sin_port));
    run();
    return 1;
}
