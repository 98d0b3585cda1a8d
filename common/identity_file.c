/*
 * identity_file.c - the identity and the lock of a data directory (byte table in identity_file.h).
 *
 * Nothing is written into a directory before it is known to be ours or empty. A first start that
 * died half-way leaves DIR/lock and perhaps DIR/identity.new; both count as empty.
 */
#include "common/identity_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/bytes.h"
#include "common/clock_file.h"
#include "common/crc32c.h"

#define IDENTITY_BYTES  128u
#define IDENTITY_FORMAT 1u
#define ROLE_BYTES      16u

static const char magic[8] = {'C', 'O', 'R', 'A', 'L', 'I', 'D', '1'};

_Static_assert(sizeof((struct co_identity *)0)->role == ROLE_BYTES, "byte table");

/* -- The 128 bytes ----------------------------------------------------------------------------- */

static void encode(const struct co_identity *id, uint8_t out[IDENTITY_BYTES])
{
    memset(out, 0, IDENTITY_BYTES);
    memcpy(out, magic, sizeof magic);
    co_put32(out + 8, IDENTITY_FORMAT);
    co_put32(out + 12, id->node);
    memcpy(out + 16, id->cluster.b, 16);
    memcpy(out + 32, id->disk.b, 16);
    memcpy(out + 48, id->role, ROLE_BYTES);
    co_put32(out + 124, co_crc32c(0, out, 124));
}

static int damaged(const char *dir, const char *why)
{
    return co_fail(CO_ERR_CORRUPT,
                   "%s/identity is damaged (%s); restore that file from a copy, or replace this "
                   "node with an empty directory",
                   dir, why);
}

/* A newer format may differ in everything behind the version; damage of the version itself shows in
 * the CRC that fits once it is put right. */
static int check_version(const char *dir, const uint8_t in[IDENTITY_BYTES], size_t len)
{
    uint8_t copy[IDENTITY_BYTES];
    uint32_t version = co_get32(in + 8);
    if (version == IDENTITY_FORMAT)
        return 0;
    memcpy(copy, in, len);
    co_put32(copy + 8, IDENTITY_FORMAT);
    if (version == 0 || (len == IDENTITY_BYTES && co_crc32c(0, copy, 124) == co_get32(copy + 124)))
        return damaged(dir, "its version number is wrong");
    return co_fail(CO_ERR_VERSION,
                   "%s was made by a newer release (format %u; this one knows up to %u); run that "
                   "release",
                   dir, version, IDENTITY_FORMAT);
}

static int decode(const char *dir, const uint8_t in[IDENTITY_BYTES], size_t len,
                  struct co_identity *out)
{
    if (len < 12)
        return damaged(dir, "it is too short");
    if (memcmp(in, magic, sizeof magic) != 0)
        return damaged(dir, "it does not begin as an identity does");
    int rc = check_version(dir, in, len);
    if (rc)
        return rc;
    if (len != IDENTITY_BYTES)
        return damaged(dir, "it is too short");
    if (co_crc32c(0, in, 124) != co_get32(in + 124) || in[48 + ROLE_BYTES - 1] != 0)
        return damaged(dir, "its checksum does not fit");
    out->node = co_get32(in + 12);
    memcpy(out->cluster.b, in + 16, 16);
    memcpy(out->disk.b, in + 32, 16);
    memcpy(out->role, in + 48, ROLE_BYTES);
    return 0;
}

/* -- Files ------------------------------------------------------------------------------------- */

static int sync_dir(int dir_fd, const char *dir)
{
    if (fsync(dir_fd))
        return co_fail_errno(CO_ERR_IO, errno, "cannot make %s durable", dir);
    return 0;
}

/* `path` was made: makes its entry in the parent durable. */
static int sync_parent(const char *path)
{
    char parent[4096];
    const char *slash = strrchr(path, '/');
    if (!slash)
        snprintf(parent, sizeof parent, ".");
    else
        snprintf(parent, sizeof parent, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return co_fail_errno(CO_ERR_IO, errno, "cannot open %s", parent);
    int rc = sync_dir(fd, parent);
    close(fd);
    return rc;
}

/* mkdir -p */
static int make_dirs(const char *dir)
{
    char path[4096];
    size_t len = strlen(dir);
    if (!len || len >= sizeof path)
        return co_fail(CO_ERR_INVAL, "--dir wants the path of a directory, not '%.80s'", dir);
    memcpy(path, dir, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (dir[i] != '/' && dir[i] != 0)
            continue;
        path[i] = 0;
        int rc = 0;
        if (mkdir(path, 0700) == 0)
            rc = sync_parent(path);
        else if (errno != EEXIST)
            rc = co_fail_errno(CO_ERR_IO, errno, "cannot make the directory %s", path);
        if (rc)
            return rc;
        path[i] = dir[i];
    }
    return 0;
}

/* Names that a directory may have without being somebody's. */
static bool ours_or_none(const char *name)
{
    static const char *const harmless[] = {".", "..", "lock", "identity.new", "lost+found"};
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        if (strcmp(name, harmless[i]) == 0)
            return true;
    return false;
}

/* 0: there is an identity, or the directory is as good as empty. */
static int check_contents(int dir_fd, const char *dir)
{
    struct stat st;
    if (fstatat(dir_fd, "identity", &st, 0) == 0)
        return 0;
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (!list) {
        int err = errno;
        if (fd >= 0)
            close(fd);
        return co_fail_errno(CO_ERR_IO, err, "cannot list %s", dir);
    }
    int rc = 0;
    for (struct dirent *e = readdir(list); e && !rc; e = readdir(list))
        if (!ours_or_none(e->d_name))
            rc = co_fail(CO_ERR_EXISTS,
                         "%s is not empty (it has '%.100s') and has no Corallite identity; give "
                         "--dir an empty or a new directory",
                         dir, e->d_name);
    closedir(list);
    return rc;
}

static int lock_dir(int dir_fd, const char *dir, int *lock_fd)
{
    char holder[24] = "";
    int fd = openat(dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return co_fail_errno(CO_ERR_IO, errno, "cannot open %s/lock", dir);
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        int err = errno;
        ssize_t n = pread(fd, holder, sizeof holder - 1, 0);
        holder[n > 0 ? strspn(holder, "0123456789") : 0] = 0;
        close(fd);
        if (err != EWOULDBLOCK)
            return co_fail_errno(CO_ERR_IO, err, "cannot lock %s/lock", dir);
        return co_fail(CO_ERR_BUSY,
                       "another process%s%s uses %s; stop it first, or give --dir another "
                       "directory",
                       *holder ? " with the id " : "", holder, dir);
    }
    int n = snprintf(holder, sizeof holder, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) || pwrite(fd, holder, (size_t)n, 0) != n) {
        int err = errno;
        close(fd);
        return co_fail_errno(CO_ERR_IO, err, "cannot write %s/lock", dir);
    }
    *lock_fd = fd;
    return 0;
}

static int write_identity(int dir_fd, const char *dir, const struct co_identity *id)
{
    uint8_t bytes[IDENTITY_BYTES];
    encode(id, bytes);
    int fd = openat(dir_fd, "identity.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return co_fail_errno(CO_ERR_IO, errno, "cannot make %s/identity.new", dir);
    ssize_t n = write(fd, bytes, sizeof bytes);
    int err = n == (ssize_t)sizeof bytes ? 0 : n < 0 ? errno : ENOSPC;
    if (!err && fsync(fd))
        err = errno;
    close(fd);
    if (!err && renameat(dir_fd, "identity.new", dir_fd, "identity"))
        err = errno;
    if (err)
        return co_fail_errno(err == ENOSPC ? CO_ERR_FULL : CO_ERR_IO, err,
                             "cannot write %s/identity", dir);
    return sync_dir(dir_fd, dir);
}

/* 0, or CO_ERR_NOT_FOUND without a sentence when there is no such file. */
static int read_identity(int dir_fd, const char *dir, struct co_identity *out)
{
    uint8_t bytes[IDENTITY_BYTES] = {0};
    int fd = openat(dir_fd, "identity", O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return CO_ERR_NOT_FOUND;
    if (fd < 0)
        return co_fail_errno(CO_ERR_IO, errno, "cannot open %s/identity", dir);
    ssize_t n = read(fd, bytes, sizeof bytes);
    int err = errno;
    close(fd);
    if (n < 0)
        return co_fail_errno(CO_ERR_IO, err, "cannot read %s/identity", dir);
    return decode(dir, bytes, (size_t)n, out);
}

/* -- Opening ----------------------------------------------------------------------------------- */

static int check_expected(const char *dir, const char *role, uint32_t node,
                          const struct co_id *cluster, const struct co_identity *have)
{
    char want_text[CO_ID_TEXT], have_text[CO_ID_TEXT];
    if (strcmp(have->role, role) != 0)
        return co_fail(CO_ERR_NODE, "%s belongs to a %s and a %s was started on it; check --dir",
                       dir, have->role, role);
    if (have->node != node)
        return co_fail(CO_ERR_NODE,
                       "%s belongs to %s %u and was started as %u; check --dir and --node", dir,
                       have->role, have->node, node);
    if (cluster && !co_id_eq(cluster, &have->cluster))
        return co_fail(CO_ERR_CLUSTER,
                       "%s belongs to cluster %s, not to %s; check --dir and --cluster", dir,
                       co_id_format(&have->cluster, have_text), co_id_format(cluster, want_text));
    return 0;
}

static int make_identity(int dir_fd, const char *dir, const char *role, uint32_t node,
                         const struct co_id *cluster, struct co_identity *out)
{
    if (!cluster)
        return co_fail(CO_ERR_INVAL,
                       "%s is a new directory: --cluster ID (32 hex digits, the same for all of "
                       "the cluster) says what it is to belong to; `corallite up` makes one",
                       dir);
    if (co_id_is_zero(cluster))
        return co_fail(CO_ERR_INVAL, "--cluster must not be all zeros");
    out->cluster = *cluster;
    out->disk = co_id_random();
    out->node = node;
    out->fresh = true;
    snprintf(out->role, sizeof out->role, "%s", role);
    return write_identity(dir_fd, dir, out);
}

int co_identity_open(const char *dir, const char *role, uint32_t node, const struct co_id *cluster,
                     struct co_identity *out)
{
    struct co_identity id = {.lock_fd = -1};
    *out = id;
    co_assert(strlen(role) < ROLE_BYTES);
    int rc = make_dirs(dir);
    if (rc)
        return rc;
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return co_fail_errno(CO_ERR_IO, errno, "cannot open the directory %s", dir);
    rc = check_contents(dir_fd, dir);
    if (!rc)
        rc = lock_dir(dir_fd, dir, &id.lock_fd);
    if (!rc)
        rc = read_identity(dir_fd, dir, &id);
    if (rc == CO_ERR_NOT_FOUND)
        rc = make_identity(dir_fd, dir, role, node, cluster, &id);
    else if (!rc)
        rc = check_expected(dir, role, node, cluster, &id);
    close(dir_fd);
    if (rc)
        co_identity_close(&id);
    else
        *out = id;
    return rc;
}

void co_identity_close(struct co_identity *identity)
{
    if (identity->lock_fd >= 0)
        close(identity->lock_fd);
    identity->lock_fd = -1;
}
