#include "common/bell_file.h"

#include <errno.h>

#include "common/assert.h"
#include "common/clock_file.h"

void co_bell_init(struct co_bell *bell)
{
    int rc = sem_init(&bell->sem, 0, 0);
    co_assert(rc == 0);
    atomic_init(&bell->rung, false);
}

void co_bell_destroy(struct co_bell *bell)
{
    sem_destroy(&bell->sem);
}

void co_bell_ring(struct co_bell *bell)
{
    atomic_store_explicit(&bell->rung, true, memory_order_release);
    sem_post(&bell->sem);
}

bool co_bell_wait(struct co_bell *bell, uint64_t us)
{
    struct timespec at = co_deadline(us);

    while (sem_clockwait(&bell->sem, CLOCK_MONOTONIC, &at) != 0) {
        if (errno != EINTR)
            return false;
    }
    co_assert(atomic_load_explicit(&bell->rung, memory_order_acquire));
    return true;
}
