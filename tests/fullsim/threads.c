/*
 * threads.c - what the product's threads call: pthread_*, clocks, random sources, sleeps. The
 * linker sends these here (--wrap); SQLite and LMDB, which are shared libraries, keep the real
 * ones.
 *
 * A mutex is its first word: the task that has it, plus one; zero is free, as in the initializers.
 * A dead process's mutex is free: what the product shares between connections of one process is
 * shared here by all of them.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "common/assert.h"
#include "common/metrics.h"
#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/wrap.h"

static uint32_t n_keys;

struct proc *here(void)
{
    return sim.current ? sim.current->proc : NULL;
}

/* Now and then a thread is overtaken where it could be: at a lock, or when it looks at a clock. */
static void maybe_preempt(void)
{
    if (sim.current && chance(R_SCHED, sim.w.preempt_ppm))
        task_sleep(1 + below(R_SCHED, 60));
}

static uint32_t *word(pthread_mutex_t *m)
{
    return (uint32_t *)(void *)m;
}

static uint32_t me(void)
{
    return sim.current ? sim.current->id + 1 : MAX_TASKS + 1;
}

static bool held(pthread_mutex_t *m)
{
    uint32_t owner = *word(m);
    return owner != 0 && !(owner <= MAX_TASKS && task_gone(owner - 1));
}

int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *a)
{
    (void)a;
    memset(m, 0, sizeof *m);
    return 0;
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *m)
{
    co_assert(!held(m));
    return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
    maybe_preempt();
    while (held(m)) {
        co_assert(*word(m) != me());
        (void)task_block(m, NEVER);
    }
    *word(m) = me();
    return 0;
}

int __wrap_pthread_mutex_trylock(pthread_mutex_t *m)
{
    if (held(m))
        return EBUSY;
    *word(m) = me();
    return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
    co_assert(*word(m) == me());
    *word(m) = 0;
    task_wake_one(m);
    return 0;
}

int __wrap_pthread_condattr_init(pthread_condattr_t *a)
{
    memset(a, 0, sizeof *a);
    return 0;
}
int __wrap_pthread_condattr_destroy(pthread_condattr_t *a)
{
    (void)a;
    return 0;
}
int __wrap_pthread_condattr_setclock(pthread_condattr_t *a, clockid_t clock)
{
    (void)a;
    co_assert(clock == CLOCK_MONOTONIC);
    return 0;
}
int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *a)
{
    (void)a;
    memset(c, 0, sizeof *c);
    return 0;
}
int __wrap_pthread_cond_destroy(pthread_cond_t *c)
{
    (void)c;
    return 0;
}
int __wrap_pthread_cond_signal(pthread_cond_t *c)
{
    task_wake_one(c);
    return 0;
}
int __wrap_pthread_cond_broadcast(pthread_cond_t *c)
{
    task_wake_all(c);
    return 0;
}

static bool wait_on(pthread_cond_t *c, pthread_mutex_t *m, uint64_t until)
{
    co_assert(*word(m) == me());
    *word(m) = 0;
    task_wake_one(m);
    bool woken = task_block(c, until);
    while (held(m))
        (void)task_block(m, NEVER);
    *word(m) = me();
    return woken;
}

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    (void)wait_on(c, m, NEVER);
    return 0;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *at)
{
    uint64_t local = (uint64_t)at->tv_sec * 1000000u + ((uint64_t)at->tv_nsec + 999) / 1000u;
    return wait_on(c, m, global_us(here(), local)) ? 0 : ETIMEDOUT;
}

/* A semaphore is its first word. */
static uint32_t *count(sem_t *s)
{
    return (uint32_t *)(void *)s;
}

int __wrap_sem_init(sem_t *s, int shared, unsigned value)
{
    (void)shared;
    memset(s, 0, sizeof *s);
    *count(s) = value;
    return 0;
}

int __wrap_sem_destroy(sem_t *s)
{
    (void)s;
    return 0;
}

int __wrap_sem_post(sem_t *s)
{
    (*count(s))++;
    task_wake_one(s);
    return 0;
}

int __wrap_sem_clockwait(sem_t *s, clockid_t clock, const struct timespec *at)
{
    uint64_t local = (uint64_t)at->tv_sec * 1000000u + ((uint64_t)at->tv_nsec + 999) / 1000u;

    co_assert(clock == CLOCK_MONOTONIC);
    maybe_preempt();
    while (*count(s) == 0) {
        if (!task_block(s, global_us(here(), local)) && *count(s) == 0) {
            errno = ETIMEDOUT;
            return -1;
        }
    }
    (*count(s))--;
    return 0;
}

int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *a, void *(*fn)(void *), void *arg)
{
    (void)a;
    *out = (pthread_t)(uintptr_t)task_new(here(), fn, arg);
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **result)
{
    struct task *t = (struct task *)(uintptr_t)thread;
    while (!t->ended)
        (void)task_block(t, NEVER);
    if (result)
        *result = t->result;
    return 0;
}

int __wrap_pthread_attr_init(pthread_attr_t *a)
{
    (void)a;
    return 0;
}
int __wrap_pthread_attr_destroy(pthread_attr_t *a)
{
    (void)a;
    return 0;
}
int __wrap_pthread_attr_setdetachstate(pthread_attr_t *a, int state)
{
    (void)a;
    (void)state;
    return 0;
}
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    (void)how;
    (void)set;
    (void)old;
    return 0;
}
int __wrap_pthread_atfork(void (*a)(void), void (*b)(void), void (*c)(void))
{
    (void)a;
    (void)b;
    (void)c;
    return 0;
}
int __wrap_pthread_once(pthread_once_t *once, void (*fn)(void))
{
    if (*once == 0) {
        *once = 1;
        fn();
    }
    return 0;
}

/* A thread's own memory is a task's. */
static void *of_nobody[MAX_KEYS];

int __wrap_pthread_key_create(pthread_key_t *key, void (*destroy)(void *))
{
    (void)destroy;
    co_assert(n_keys < MAX_KEYS);
    *key = n_keys++;
    return 0;
}
void *__wrap_pthread_getspecific(pthread_key_t key)
{
    return (sim.current ? sim.current->specific : of_nobody)[key];
}
int __wrap_pthread_setspecific(pthread_key_t key, const void *value)
{
    (sim.current ? sim.current->specific : of_nobody)[key] = (void *)(uintptr_t)value;
    return 0;
}

/* ---- time: each look at a clock takes a microsecond, so that nobody looks at it for ever --------
 */

/* So often a thread may look at the clock without ever waiting, were it for its turn. */
#define SPIN_LOOKS 200000u

int __wrap_clock_gettime(clockid_t which, struct timespec *out)
{
    uint64_t us;
    sim.now++;
    if (sim.current && ++sim.current->looks > SPIN_LOOKS)
        violation("a thread has looked at the clock %u times and waited for nothing: it spins",
                  SPIN_LOOKS);
    maybe_preempt();
    us = local_us(here());
    if (which == CLOCK_REALTIME) /* wall clocks are near each other, as NTP has them */
        us = WALL_EPOCH_US + sim.now + (here() ? here()->host * 1500u : 0);
    out->tv_sec = (time_t)(us / 1000000u);
    out->tv_nsec = (long)(us % 1000000u * 1000u);
    return 0;
}

int __wrap_nanosleep(const struct timespec *t, struct timespec *left)
{
    (void)left;
    task_sleep((uint64_t)t->tv_sec * 1000000u + (uint64_t)t->tv_nsec / 1000u);
    return 0;
}

ssize_t __wrap_getrandom(void *out, size_t len, unsigned flags)
{
    uint8_t *p = out;
    (void)flags;
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)(draw(R_ENTROPY) >> 40);
    return (ssize_t)len;
}

/* Several daemons of one kind live in this process; their metrics would be the same object. */
void __wrap_co_metric_register(struct co_metric *metric)
{
    (void)metric;
}

void __wrap_peer_metrics_register(const unsigned *types, unsigned n)
{
    (void)types;
    (void)n;
}
