#include "cli/process_file.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/assert.h"

/* Reads a small file as text; false when there is none. */
static bool read_text(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, out, size - 1);
    close(fd);
    out[n > 0 ? n : 0] = 0;
    return n > 0;
}

static void boot_id(char out[64])
{
    if (!read_text("/proc/sys/kernel/random/boot_id", out, 64))
        snprintf(out, 64, "unknown");
    out[strcspn(out, "\n")] = 0;
}

static bool start_ticks(int pid, uint64_t *out)
{
    char path[64], stat[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (!read_text(path, stat, sizeof stat) || !cluster_parse_stat(stat, out))
        return false;
    const char *state = strrchr(stat, ')');
    return !(state && strncmp(state, ") Z", 3) == 0); /* a zombie has ended */
}

int process_alive(const struct cluster *c, unsigned index)
{
    char path[PATH_MAX], text[160], boot[64];
    struct cluster_pid p;
    uint64_t ticks;
    cluster_path(c, "run", c->at[index].name, ".pid", path);
    if (!read_text(path, text, sizeof text) || !cluster_parse_pid(text, &p))
        return 0;
    boot_id(boot);
    if (strcmp(boot, p.boot) != 0 || !start_ticks(p.pid, &ticks) || ticks != p.start_ticks)
        return 0;
    return p.pid;
}

void process_signal(const struct cluster *c, unsigned index, int signal_number)
{
    int pid = process_alive(c, index);
    if (pid)
        kill(pid, signal_number);
}

void process_forget(const struct cluster *c, unsigned index)
{
    char path[PATH_MAX];
    cluster_path(c, "run", c->at[index].name, ".pid", path);
    unlink(path);
}

static int write_pid_file(const struct cluster *c, unsigned index, int pid)
{
    char path[PATH_MAX], temporary[PATH_MAX], text[160], boot[64];
    uint64_t ticks = 0;
    start_ticks(pid, &ticks); /* a process that ended at once is seen as not alive */
    boot_id(boot);
    int len = snprintf(text, sizeof text, "%d %llu %s\n", pid, (unsigned long long)ticks, boot);
    cluster_path(c, "run", c->at[index].name, ".pid", path);
    cluster_path(c, "run", c->at[index].name, ".new", temporary);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return co_fail_errno(CO_ERR_IO, errno, "%s cannot be written", temporary);
    bool good = write(fd, text, (size_t)len) == len;
    int saved = errno;
    close(fd);
    if (!good)
        return co_fail_errno(CO_ERR_IO, saved, "%s cannot be written", temporary);
    if (rename(temporary, path) != 0)
        return co_fail_errno(CO_ERR_IO, errno, "%s cannot be renamed", temporary);
    return 0;
}

int process_start(const struct cluster *c, unsigned index, char *const argv[], int *pid,
                  long long *log_offset)
{
    char log[PATH_MAX];
    cluster_path(c, "log", c->at[index].name, ".log", log);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return co_fail_errno(CO_ERR_IO, errno, "%s cannot be written", log);
    *log_offset = lseek(fd, 0, SEEK_END);

    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, fd, 1);
    posix_spawn_file_actions_adddup2(&files, fd, 2);
    /* Nothing of the caller's stays open: `corallite up | cat` must end. */
    posix_spawn_file_actions_addclosefrom_np(&files, 3);
    posix_spawn_file_actions_addchdir_np(&files, "/");
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    pid_t child;
    int err = posix_spawn(&child, argv[0], &files, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    close(fd);
    if (err)
        return co_fail_errno(CO_ERR_IO, err, "%s cannot be started", argv[0]);
    *pid = child;
    return write_pid_file(c, index, child);
}

/* Copies the last line (of `len` bytes of text) that has `needle` in it; false when none has. */
static bool last_line(const char *text, const char *needle, char out[512])
{
    const char *end = text + strlen(text);
    while (end > text) {
        const char *stop = end[-1] == '\n' ? end - 1 : end, *start = stop;
        while (start > text && start[-1] != '\n')
            start--;
        char line[1024];
        snprintf(line, sizeof line, "%.*s", (int)(stop - start), start);
        if (*line && strstr(line, needle)) {
            snprintf(out, 512, "%.500s", cluster_log_message(line));
            return true;
        }
        end = start;
    }
    return false;
}

void process_last_words(const struct cluster *c, unsigned index, long long log_offset,
                        char out[512])
{
    char path[PATH_MAX];
    static char text[32768];
    out[0] = 0;
    cluster_path(c, "log", c->at[index].name, ".log", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    off_t size = lseek(fd, 0, SEEK_END), from = log_offset;
    if (size - from > (off_t)sizeof text - 1)
        from = size - ((off_t)sizeof text - 1);
    ssize_t n = pread(fd, text, sizeof text - 1, from);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    if (!last_line(text, "Z error ", out))
        last_line(text, "", out);
}

int process_port_free(const char *what, uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, CLUSTER_HOST, &at.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        return co_fail_errno(CO_ERR_IO, errno, "no socket can be made");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* as the daemons do */
    int rc = 0;
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 1) != 0)
        rc = co_fail(CO_ERR_BUSY,
                     "port %u of " CLUSTER_HOST ", which %s wants, is in use by another program "
                     "(`ss -ltnp` tells which); stop it, or choose other ports: --port-base P or "
                     "--port-base auto",
                     (unsigned)port, what);
    close(fd);
    return rc;
}

int process_own_dir(char out[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (n <= 0)
        return co_fail_errno(CO_ERR_IO, errno, "/proc/self/exe cannot be read");
    out[n] = 0;
    char *slash = strrchr(out, '/');
    co_assert(slash);
    *(slash == out ? slash + 1 : slash) = 0;
    return 0;
}

int process_find(const char *name, char out[PATH_MAX])
{
    static const char *const where[] = {"", "../lib/corallite/"};
    char dir[PATH_MAX], path[PATH_MAX];
    int rc = process_own_dir(dir);
    if (rc)
        return rc;
    for (size_t i = 0; i < 2; i++) {
        int n = snprintf(path, sizeof path, "%.3800s/%s%s", dir, where[i], name);
        co_assert(n > 0 && n < (int)sizeof path);
        if (access(path, R_OK) == 0 && realpath(path, out))
            return 0;
    }
    return co_fail(CO_ERR_NOT_FOUND,
                   "%s is neither beside the corallite command in %s nor in ../lib/corallite; run "
                   "`make`, or `make install`",
                   name, dir);
}
