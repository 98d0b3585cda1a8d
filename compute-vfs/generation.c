#include "compute-vfs/generation.h"

#include <pthread.h>
#include <stdatomic.h>

static atomic_uint generation = 1;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void in_child(void)
{
    atomic_fetch_add(&generation, 1);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, in_child);
}

unsigned cv_generation(void)
{
    pthread_once(&fork_once, watch_forks);
    return atomic_load_explicit(&generation, memory_order_relaxed);
}
