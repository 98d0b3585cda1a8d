#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cluster.h"
#include "common/assert.h"
#include "common/clock_file.h"

#define LOCK_WAIT_MS 10000u

void cluster_path(const struct cluster *c, const char *sub, const char *name, const char *suffix,
                  char out[PATH_MAX])
{
    int n = snprintf(out, PATH_MAX, "%s/%s/%s%s", c->dir, sub, name, suffix);
    co_assert(n > 0 && n < PATH_MAX);
}

int cluster_default_dir(char out[CLUSTER_DIR_MAX])
{
    const char *own = getenv("CORALLITE_DIR"), *data = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    int n;
    if (own && *own)
        n = snprintf(out, CLUSTER_DIR_MAX, "%s", own);
    else if (data && *data == '/')
        n = snprintf(out, CLUSTER_DIR_MAX, "%s/corallite", data);
    else if (home && *home == '/')
        n = snprintf(out, CLUSTER_DIR_MAX, "%s/.local/share/corallite", home);
    else
        return co_fail(CO_ERR_INVAL,
                       "HOME is not set, so there is no default directory; give --dir");
    if (n >= (int)CLUSTER_DIR_MAX)
        return co_fail(CO_ERR_TOO_LARGE, "the directory's name is longer than %u bytes",
                       CLUSTER_DIR_MAX);
    return 0;
}

/* `dir` (NULL: the default) made absolute, though it may not exist yet. */
static int absolute(const char *dir, char out[CLUSTER_DIR_MAX])
{
    if (!dir)
        return cluster_default_dir(out);
    char cwd[CLUSTER_DIR_MAX] = "";
    if (dir[0] == 0)
        return co_fail(CO_ERR_INVAL, "--dir is empty; give a directory");
    if (dir[0] != '/' && !getcwd(cwd, sizeof cwd))
        return co_fail_errno(CO_ERR_IO, errno, "the working directory cannot be told");
    int n = snprintf(out, CLUSTER_DIR_MAX, "%s%s%s", cwd, cwd[0] ? "/" : "", dir);
    if (n >= (int)CLUSTER_DIR_MAX)
        return co_fail(CO_ERR_TOO_LARGE, "the directory's name is longer than %u bytes",
                       CLUSTER_DIR_MAX);
    return 0;
}

/* D/cluster's name: no longer than the node directories' that cluster_path makes. */
static void own_file(const struct cluster *c, const char *name, char out[PATH_MAX])
{
    int n = snprintf(out, PATH_MAX, "%s/%s", c->dir, name);
    co_assert(n > 0 && n < PATH_MAX);
}

int cluster_open(const char *dir, struct cluster *out)
{
    char path[PATH_MAX], text[CLUSTER_TEXT_MAX] = "";
    *out = (struct cluster){0};
    int rc = absolute(dir, out->dir);
    if (rc)
        return rc;
    own_file(out, "cluster", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return co_fail(
            CO_ERR_NOT_FOUND,
            "there is no cluster in %s; `corallite up%s%s` makes one, --dir names another",
            out->dir, dir ? " --dir " : "", dir ? dir : "");
    if (fd < 0)
        return co_fail_errno(CO_ERR_IO, errno, "%s cannot be read", path);
    ssize_t n = read(fd, text, sizeof text - 1);
    int saved = errno;
    close(fd);
    if (n < 0)
        return co_fail_errno(CO_ERR_IO, saved, "%s cannot be read", path);
    rc = cluster_parse(text, path, out);
    if (rc)
        return rc;
    char real[PATH_MAX];
    if (realpath(out->dir, real) && strlen(real) < CLUSTER_DIR_MAX)
        memcpy(out->dir, real, strlen(real) + 1);
    return 0;
}

/* Makes the directory and its parents. */
static int make_dirs(const char *path)
{
    char part[PATH_MAX];
    int n = snprintf(part, sizeof part, "%s", path);
    co_assert(n > 0 && n < (int)sizeof part);
    for (char *at = part + 1;; at++) {
        if (*at != '/' && *at != 0)
            continue;
        char was = *at;
        *at = 0;
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return co_fail_errno(CO_ERR_IO, errno, "the directory %s cannot be made", part);
        if (!was)
            return 0;
        *at = was;
    }
}

int cluster_save(const struct cluster *c)
{
    char path[PATH_MAX], temporary[PATH_MAX], text[CLUSTER_TEXT_MAX];
    own_file(c, "cluster", path);
    own_file(c, "cluster.new", temporary);
    unsigned len = cluster_format(c, text);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return co_fail_errno(CO_ERR_IO, errno, "%s cannot be written", temporary);
    bool good = write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
    int saved = errno;
    close(fd);
    if (!good)
        return co_fail_errno(CO_ERR_IO, saved, "%s cannot be written", temporary);
    if (rename(temporary, path) != 0)
        return co_fail_errno(CO_ERR_IO, errno, "%s cannot be renamed", temporary);
    int dir = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fsync(dir) != 0) {
        int rc = co_fail_errno(CO_ERR_IO, errno, "%s cannot be synced", c->dir);
        if (dir >= 0)
            close(dir);
        return rc;
    }
    close(dir);
    return 0;
}

/* The id must not be drawn anew over data of an older cluster whose `cluster` file is gone. */
static int refuse_leftovers(const struct cluster *c)
{
    for (unsigned i = 0; i < c->n; i++) {
        char path[PATH_MAX];
        own_file(c, c->at[i].name, path);
        if (access(path, F_OK) == 0)
            return co_fail(CO_ERR_EXISTS,
                           "%s is there but %s/cluster is not, so the data's cluster is not known; "
                           "restore that file from a copy, or take an empty --dir",
                           path, c->dir);
    }
    return 0;
}

int cluster_lock(const struct cluster *c)
{
    char path[PATH_MAX];
    static const char *const subs[] = {"log", "run"};
    for (size_t i = 0; i < 2; i++) {
        own_file(c, subs[i], path);
        int rc = make_dirs(path);
        if (rc)
            return rc;
    }
    own_file(c, "lock", path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return co_fail_errno(CO_ERR_IO, errno, "%s cannot be opened", path);
    for (unsigned waited = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; waited += 50) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            int rc = co_fail_errno(CO_ERR_IO, errno, "%s cannot be locked", path);
            close(fd);
            return rc;
        }
        if (waited >= LOCK_WAIT_MS) {
            close(fd);
            return co_fail(CO_ERR_BUSY,
                           "another corallite up or down has been at work in %s for %u s; wait for "
                           "it, or stop it",
                           c->dir, LOCK_WAIT_MS / 1000);
        }
        usleep(50000);
    }
    return 0; /* the descriptor stays open: its end is the lock's */
}

int cluster_open_or_make(const char *dir, uint16_t port_base, const struct co_id *id,
                         struct cluster *out, bool *made)
{
    *made = false;
    int rc = cluster_open(dir, out);
    if (rc && rc != CO_ERR_NOT_FOUND)
        return rc;
    rc = make_dirs(out->dir);
    if (rc)
        return rc;
    char real[PATH_MAX];
    if (!realpath(out->dir, real) || strlen(real) >= CLUSTER_DIR_MAX)
        return co_fail_errno(CO_ERR_IO, errno, "%s cannot be resolved", out->dir);
    rc = cluster_lock(out);
    if (!rc)
        rc = cluster_open(real,
                          out); /* again: somebody may have made it while the lock was theirs */
    if (rc != CO_ERR_NOT_FOUND)
        return rc;
    cluster_default(out);
    rc = refuse_leftovers(out);
    if (rc)
        return rc;
    out->id = id ? *id : co_id_random();
    out->archive[0] = out->keep_log[0] = 0;
    out->port_base = port_base;
    *made = true;
    return cluster_save(out);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path) != 0 && errno != ENOENT ? errno : 0;
}

static int purge_one(const struct cluster *c, const char *name)
{
    char path[PATH_MAX];
    own_file(c, name, path);
    if (access(path, F_OK) != 0)
        return 0;
    int err = nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return err ? co_fail_errno(CO_ERR_IO, err > 0 ? err : errno, "%s cannot be removed", path) : 0;
}

/* "safekeeper-4", "pageserver-2", "safekeeper-1.restoring": of one that has left, too. */
static bool is_of_a_daemon(const char *name)
{
    static const char *const kinds[] = {"safekeeper-", "pageserver-"};
    for (size_t i = 0; i < 2; i++) {
        size_t len = strlen(kinds[i]);
        if (strncmp(name, kinds[i], len) != 0)
            continue;
        len += strspn(name + len, "0123456789");
        return name[len - 1] != '-' && (!name[len] || strcmp(name + len, ".restoring") == 0);
    }
    return strcmp(name, "pageserver") == 0;
}

static int purge_daemons(const struct cluster *c)
{
    int rc = 0;
    DIR *dir = opendir(c->dir);
    if (!dir)
        return co_fail_errno(CO_ERR_IO, errno, "%s cannot be read", c->dir);
    for (struct dirent *e; !rc && (e = readdir(dir)) != NULL;)
        if (is_of_a_daemon(e->d_name))
            rc = purge_one(c, e->d_name);
    closedir(dir);
    return rc;
}

int cluster_purge(const struct cluster *c)
{
    static const char *const own[] = {"log", "run", "cluster.new", "cluster", "lock"};
    int rc = purge_daemons(c);
    for (size_t i = 0; !rc && i < sizeof own / sizeof *own; i++)
        rc = purge_one(c, own[i]);
    if (rc)
        return rc;
    if (rmdir(c->dir) != 0 && errno != ENOTEMPTY && errno != EEXIST && errno != EBUSY)
        return co_fail_errno(CO_ERR_IO, errno, "%s cannot be removed", c->dir);
    return 0;
}
