/*
 * fsync_fails.c - preloaded into a safekeeper: while the file named by FSYNC_FAILS exists,
 * fdatasync of a log segment answers EIO and brings nothing to the disk, as a disk does that has
 * gone bad.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((visibility("default"))) int fdatasync(int fd);

int fdatasync(int fd)
{
    static int (*next)(int);
    const char *flag = getenv("FSYNC_FAILS");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    if (flag && access(flag, F_OK) == 0 && strstr(path, ".seg")) {
        errno = EIO;
        return -1;
    }
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "fdatasync");
    return next(fd);
}
