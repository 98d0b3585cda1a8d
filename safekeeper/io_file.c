#include "safekeeper/io_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/assert.h"

int sk_io_path(char path[SK_PATH_MAX], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(path, SK_PATH_MAX, format, args);
    va_end(args);
    if (n < 0 || n >= SK_PATH_MAX)
        return co_fail(CO_ERR_INVAL,
                       "the path '%.80s...' is longer than %d bytes; use a shorter --dir", path,
                       SK_PATH_MAX - 1);
    return 0;
}

int sk_io_open(const char *path, int flags, int *out_fd)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0) {
        int code = errno == ENOENT                       ? CO_ERR_NOT_FOUND
                   : errno == EEXIST && (flags & O_EXCL) ? CO_ERR_EXISTS
                   : errno == EMFILE || errno == ENFILE  ? CO_ERR_NOMEM
                                                         : CO_ERR_IO;
        return co_fail_errno(code, errno, "cannot open %s", path);
    }
    *out_fd = fd;
    return 0;
}

int sk_io_pread(int fd, void *out, size_t len, uint64_t offset, const char *path)
{
    uint8_t *p = out;
    while (len) {
        ssize_t n = pread(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return co_fail_errno(CO_ERR_IO, errno, "cannot read %zu bytes at offset %llu of %s",
                                 len, (unsigned long long)offset, path);
        if (n == 0)
            return co_fail(CO_ERR_CORRUPT, "%s ends at offset %llu, %zu bytes too early", path,
                           (unsigned long long)offset, len);
        p += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

int sk_io_pwrite(int fd, struct co_span bytes, uint64_t offset, const char *path)
{
    while (bytes.len) {
        ssize_t n = pwrite(fd, bytes.data, bytes.len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return co_fail_errno(errno == ENOSPC || errno == EDQUOT ? CO_ERR_FULL : CO_ERR_IO,
                                 n ? errno : EIO, "cannot write %zu bytes at offset %llu of %s",
                                 bytes.len, (unsigned long long)offset, path);
        bytes.data += n;
        bytes.len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int sk_io_zero(int fd, uint64_t offset, uint64_t len, const char *path)
{
    static const uint8_t zeros[256 * 1024];
    while (len) {
        size_t n = len < sizeof zeros ? (size_t)len : sizeof zeros;
        int rc = sk_io_pwrite(fd, co_span_of(zeros, n), offset, path);
        if (rc)
            return rc;
        offset += n;
        len -= n;
    }
    return 0;
}

int sk_io_sync(int fd, const char *path)
{
    if (fdatasync(fd))
        return co_fail_errno(errno == ENOSPC ? CO_ERR_FULL : CO_ERR_IO, errno,
                             "%s could not be made durable", path);
    return 0;
}

int sk_io_sync_dir(const char *dir)
{
    int fd = -1;
    int rc = sk_io_open(dir, O_RDONLY | O_DIRECTORY, &fd);
    if (rc)
        return rc;
    if (fsync(fd))
        rc = co_fail_errno(CO_ERR_IO, errno, "the directory %s could not be made durable", dir);
    close(fd);
    return rc;
}

int sk_io_mkdir(const char *dir)
{
    if (mkdir(dir, 0700) && errno != EEXIST)
        return co_fail_errno(errno == ENOSPC ? CO_ERR_FULL : CO_ERR_IO, errno,
                             "cannot make the directory %s", dir);
    return 0;
}

bool sk_io_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

static int remove_tree(const char *dir, int depth)
{
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT ? 0 : co_fail_errno(CO_ERR_IO, errno, "cannot list %s", dir);
    int rc = 0;
    for (struct dirent *e = readdir(d); e && !rc; e = readdir(d)) {
        char path[SK_PATH_MAX];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        rc = sk_io_path(path, "%s/%s", dir, e->d_name);
        if (rc || unlink(path) == 0)
            continue;
        if (errno == EISDIR && depth)
            rc = remove_tree(path, depth - 1);
        else
            rc = co_fail_errno(CO_ERR_IO, errno, "cannot remove %s", path);
    }
    closedir(d);
    if (!rc && rmdir(dir))
        rc = co_fail_errno(CO_ERR_IO, errno, "cannot remove the directory %s", dir);
    return rc;
}

int sk_io_remove_tree(const char *dir)
{
    return remove_tree(dir, 1);
}

int sk_io_read_all(const char *path, uint64_t max, struct co_buf *out)
{
    int fd = -1;
    int rc = sk_io_open(path, O_RDONLY, &fd);
    if (rc)
        return rc;
    struct stat st;
    if (fstat(fd, &st)) {
        rc = co_fail_errno(CO_ERR_IO, errno, "cannot stat %s", path);
        goto close;
    }
    if ((uint64_t)st.st_size > max) {
        rc = co_fail(CO_ERR_CORRUPT, "%s has %lld bytes, at most %llu were expected", path,
                     (long long)st.st_size, (unsigned long long)max);
        goto close;
    }
    rc = co_buf_reserve(out, (size_t)st.st_size);
    if (!rc && st.st_size > 0)
        rc = sk_io_pread(fd, out->data + out->len, (size_t)st.st_size, 0, path);
    if (!rc)
        out->len += (size_t)st.st_size;
close:
    close(fd);
    return rc;
}

int sk_io_replace(const char *dir, const char *name, struct co_span bytes)
{
    char path[SK_PATH_MAX], temporary[SK_PATH_MAX];
    int fd = -1;
    int rc = sk_io_path(path, "%s/%s", dir, name);
    if (!rc)
        rc = sk_io_path(temporary, "%s/%s.tmp", dir, name);
    if (!rc)
        rc = sk_io_open(temporary, O_WRONLY | O_CREAT | O_TRUNC, &fd);
    if (rc)
        return rc;
    rc = sk_io_pwrite(fd, bytes, 0, temporary);
    if (!rc && fsync(fd))
        rc = co_fail_errno(CO_ERR_IO, errno, "%s could not be made durable", temporary);
    close(fd);
    if (!rc && rename(temporary, path))
        rc = co_fail_errno(CO_ERR_IO, errno, "cannot rename %s to %s", temporary, path);
    if (!rc)
        rc = sk_io_sync_dir(dir);
    return rc;
}
