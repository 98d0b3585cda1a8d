/* counts.c - counters in a file that all processes of a script map, so that a crash loses none. */
#include "harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic uint64_t own[COUNTS];
static _Atomic uint64_t *counts = own;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void map_file(void)
{
    const char *path = getenv("HARNESS_COUNTS");
    int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
    void *at;

    if (fd < 0)
        return;
    if (ftruncate(fd, sizeof own) == 0) {
        at = mmap(NULL, sizeof own, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (at != MAP_FAILED)
            counts = at;
    }
    close(fd);
}

uint64_t count(enum count what)
{
    pthread_once(&once, map_file);
    return atomic_fetch_add(&counts[what], 1);
}
