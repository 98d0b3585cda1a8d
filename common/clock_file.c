#include "common/clock_file.h"

#include <sys/random.h>

#include "common/assert.h"

static uint64_t read_us(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

uint64_t co_now_us(void)
{
    return read_us(CLOCK_BOOTTIME);
}

uint64_t co_wall_us(void)
{
    return read_us(CLOCK_REALTIME);
}

void co_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attr);
    pthread_condattr_destroy(&attr);
}

struct timespec co_deadline(uint64_t us)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    us += (uint64_t)at.tv_nsec / 1000;
    at.tv_sec += (time_t)(us / 1000000);
    at.tv_nsec = (long)(us % 1000000) * 1000 + at.tv_nsec % 1000;
    return at;
}

void co_random_bytes(void *out, unsigned len)
{
    uint8_t *p = out;
    while (len) {
        ssize_t n = getrandom(p, len, 0);
        co_assert(n > 0);
        p += n;
        len -= (unsigned)n;
    }
}

struct co_id co_id_random(void)
{
    struct co_id id;
    co_random_bytes(id.b, sizeof id.b);
    return id;
}
