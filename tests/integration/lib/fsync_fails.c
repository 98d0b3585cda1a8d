/*
 * fsync_fails.c - preloaded into a daemon: while the file named by FSYNC_FAILS exists, fdatasync of
 * a log segment answers EIO and brings nothing to the disk, as a disk does that has gone bad; and
 * so does a write to one of the two pages of an LMDB file that tell where its newest state is.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define META_PAGES (2 * 4096) /* of an LMDB file */

__attribute__((visibility("default"))) int fdatasync(int fd);
__attribute__((visibility("default"))) ssize_t pwrite64(int fd, const void *data, size_t len,
                                                        off64_t at);
__attribute__((visibility("default"))) ssize_t pwrite(int fd, const void *data, size_t len,
                                                      off_t at);

/* The disk is bad, and fd a file with this in its path. */
static int fails(int fd, const char *file)
{
    const char *flag = getenv("FSYNC_FAILS");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    return flag && access(flag, F_OK) == 0 && strstr(path, file);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
    static ssize_t (*next)(int, const void *, size_t, off64_t);
    if (at < META_PAGES && fails(fd, "data.mdb")) {
        errno = EIO;
        return -1;
    }
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "pwrite64");
    return next(fd, data, len, at);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    return pwrite64(fd, data, len, at);
}

int fdatasync(int fd)
{
    static int (*next)(int);
    if (fails(fd, ".seg")) {
        errno = EIO;
        return -1;
    }
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "fdatasync");
    return next(fd);
}
