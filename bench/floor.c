/*
 * floor.c - the least that a commit on three machines can cost here: one record to three processes,
 * which write it to space that was written before, sync it, and acknowledge; two acknowledgements
 * end the round. No protocol, no checks, one record at a time. With --sync 0 the receivers only
 * keep it.
 *
 *   floor --dir DIR [--bytes 512] [--seconds 2] [--sync 1] [--receivers 3]
 *
 * With one receiver and --sync 0 it is a loopback round trip.
 *
 * At the end each file is read back: it must hold every record, in order, or nothing is reported.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/lib/measure.h"

#define RECEIVERS 3           /* at most */
#define FILE_MAX  (64u << 20) /* the files are this long from the start */

static int receivers = RECEIVERS;

static void read_all(int fd, void *to, size_t n)
{
    for (size_t got = 0; got < n;) {
        ssize_t k = read(fd, (char *)to + got, n - got);
        if (k <= 0)
            bm_die("a connection ended early");
        got += (size_t)k;
    }
}

/* A receiver: reads records of a size until the connection ends. */
static void receive(int fd, const char *path, size_t bytes, bool sync)
{
    char *record = malloc(bytes);
    off_t at = 0;
    int file = open(path, O_WRONLY);
    if (record == NULL || (file < 0 && sync))
        bm_die("%s: %s", path, strerror(errno));
    for (;;) {
        ssize_t k = recv(fd, record, bytes, MSG_WAITALL);
        if (k == 0)
            _exit(0);
        if (k != (ssize_t)bytes)
            bm_die("a record came in part");
        if (sync && (pwrite(file, record, bytes, at) != k || fdatasync(file) != 0))
            bm_die("%s: %s", path, strerror(errno));
        at += k;
        if (write(fd, "k", 1) != 1)
            _exit(0);
    }
}

static void prepare(const char *path)
{
    static char zeros[1 << 20];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        bm_die("%s: %s", path, strerror(errno));
    for (unsigned i = 0; i < FILE_MAX / sizeof zeros; i++) {
        if (write(fd, zeros, sizeof zeros) != (ssize_t)sizeof zeros)
            bm_die("%s: %s", path, strerror(errno));
    }
    if (fsync(fd) != 0)
        bm_die("%s: %s", path, strerror(errno));
    close(fd);
}

/* A receiver in a process of its own, and a TCP connection to it. */
static pid_t start(const char *path, size_t bytes, bool sync, int *fd)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (listener < 0 || bind(listener, (struct sockaddr *)&addr, sizeof addr) != 0 ||
        listen(listener, 1) != 0 || getsockname(listener, (struct sockaddr *)&addr, &len) != 0)
        bm_die("no listening socket: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        bm_die("no process: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int in = accept(listener, NULL, NULL);
        setsockopt(in, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        receive(in, path, bytes, sync);
    }
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(*fd, (struct sockaddr *)&addr, sizeof addr) != 0)
        bm_die("no connection: %s", strerror(errno));
    setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    close(listener);
    return pid;
}

/* The record numbered n: a number and a pattern. */
static void fill(char *record, size_t bytes, uint64_t n)
{
    memset(record, (int)('a' + n % 23), bytes);
    memcpy(record, &n, sizeof n);
}

static void verify(const char *path, size_t bytes, uint64_t n)
{
    char *have = malloc(bytes), *want = malloc(bytes);
    int fd = open(path, O_RDONLY);
    if (fd < 0 || have == NULL || want == NULL)
        bm_die("%s: %s", path, strerror(errno));
    for (uint64_t i = 0; i < n; i++) {
        fill(want, bytes, i);
        read_all(fd, have, bytes);
        if (memcmp(have, want, bytes) != 0)
            bm_die("%s: record %llu is not what was sent", path, (unsigned long long)i);
    }
    close(fd);
    free(have);
    free(want);
}

/* Waits until a majority has acknowledged n records. */
static void await(const int *fd, uint64_t *acked, uint64_t n)
{
    struct pollfd p[RECEIVERS];
    char acks[64];
    for (int i = 0; i < receivers; i++)
        p[i] = (struct pollfd){.fd = fd[i], .events = POLLIN};
    for (;;) {
        int have = 0;
        for (int i = 0; i < receivers; i++)
            have += acked[i] >= n;
        if (have > receivers / 2)
            return;
        if (poll(p, (nfds_t)receivers, 10000) <= 0)
            bm_die("no acknowledgement within 10 s");
        for (int i = 0; i < receivers; i++) {
            if (p[i].revents == 0)
                continue;
            ssize_t k = read(fd[i], acks, sizeof acks);
            if (k <= 0)
                bm_die("a receiver ended");
            acked[i] += (uint64_t)k;
        }
    }
}

int main(int argc, char **argv)
{
    const char *dir = bm_option(argc, argv, "--dir", ".");
    size_t bytes = (size_t)bm_number(argc, argv, "--bytes", 512);
    bool sync = bm_number(argc, argv, "--sync", 1) != 0;
    double seconds = bm_seconds(argc, argv, "--seconds", 2);
    uint64_t most = FILE_MAX / (bytes ? bytes : 1), acked[RECEIVERS] = {0}, n = 0;
    char path[RECEIVERS][512];
    int fd[RECEIVERS];
    pid_t pid[RECEIVERS];

    receivers = (int)bm_number(argc, argv, "--receivers", RECEIVERS);
    if (bytes < 8 || bytes > 1 << 20 || receivers < 1 || receivers > RECEIVERS)
        bm_die("--bytes: 8 to 1048576; --receivers: 1 to %d", RECEIVERS);
    if (!sync)
        most = 1 << 22;
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < receivers; i++) {
        snprintf(path[i], sizeof path[i], "%s/floor-%d", dir, i + 1);
        if (sync)
            prepare(path[i]);
        pid[i] = start(path[i], bytes, sync, &fd[i]);
    }
    char *record = malloc(bytes);
    uint64_t *ns = malloc(most * sizeof *ns), warm = most / 20 < 200 ? most / 20 : 200, began = 0;
    if (record == NULL || ns == NULL)
        bm_die("no memory");
    uint64_t end = UINT64_MAX, timed = 0, before = bm_now_ns();
    while (n < most && before < end) {
        fill(record, bytes, n);
        if (n == warm) {
            began = before = bm_now_ns();
            end = began + (uint64_t)(seconds * 1e9);
        }
        for (int i = 0; i < receivers; i++) {
            if (send(fd[i], record, bytes, 0) != (ssize_t)bytes)
                bm_die("a receiver does not take records: %s", strerror(errno));
        }
        await(fd, acked, ++n);
        uint64_t now = bm_now_ns();
        if (n > warm)
            ns[timed++] = now - before;
        before = now;
    }
    for (int i = 0; i < receivers; i++) {
        shutdown(fd[i], SHUT_WR);
        int status;
        if (waitpid(pid[i], &status, 0) != pid[i] || status != 0)
            bm_die("receiver %d failed", i + 1);
        if (sync) {
            verify(path[i], bytes, n);
            unlink(path[i]);
        }
    }
    struct bm_result result;
    bm_summarize(ns, timed, began, before, &result);
    bm_print(&result, NULL);
    return 0;
}
