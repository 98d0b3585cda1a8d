/*
 * clock.c - a wall clock that jumps, for one process: preloaded (LD_PRELOAD) into a daemon or a
 * client of the chaos runs.
 *
 * $CHAOS_CLOCK is a file of 8 bytes, how many nanoseconds this process's wall clock is ahead
 * (signed); it is mapped, so whoever writes it makes the clock jump at that moment. The monotonic
 * clocks are the kernel's: a wall clock that is set does not move those.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ll

static _Atomic(int64_t) none, *ahead = &none;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CHAOS_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at = fd >= 0 ? mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (at != MAP_FAILED)
        ahead = at;
    if (fd >= 0)
        close(fd);
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *out)
{
    if (!real) /* others may ask before the constructor has run */
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(id, out);
    if (rc || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE))
        return rc;
    int64_t ns = out->tv_sec * SECOND + out->tv_nsec + atomic_load(ahead);
    out->tv_sec = ns / SECOND;
    out->tv_nsec = ns % SECOND;
    return 0;
}

__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict out,
                                                        void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *out = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return 0;
}

__attribute__((visibility("default"))) time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}
