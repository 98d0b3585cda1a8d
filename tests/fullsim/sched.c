/* sched.c - virtual time, randomness, threads as coroutines and the processes that they belong to.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "tests/fullsim/fullsim.h"

#define STACK_BYTES (512u * 1024u)

struct sim sim;

const char *const fault_name[N_FAULTS] = {
#define X(name, text) text,
    FAULTS(X)
#undef X
};
const char *const probe_name[N_PROBES] = {
#define X(name, text) text,
    PROBES(X)
#undef X
};

/* ---- randomness --------------------------------------------------------------------------------
 */

static struct {
    uint64_t a, b;
} streams[N_STREAMS];

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = *x += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t draw(enum stream r)
{
    uint64_t a = streams[r].a, b = streams[r].b, v = a + b;
    b ^= a;
    streams[r].a = ((a << 24) | (a >> 40)) ^ b ^ (b << 16);
    streams[r].b = (b << 37) | (b >> 27);
    return v;
}

uint32_t below(enum stream r, uint32_t n)
{
    return n ? (uint32_t)((draw(r) >> 33) % n) : 0;
}

bool chance(enum stream r, uint32_t ppm)
{
    return ppm != 0 && below(r, 1000000) < ppm;
}

bool fault_now(enum fault f)
{
    if (sim.healed || sim.faults >= sim.fault_limit || !(sim.fault_mask >> f & 1))
        return false;
    sim.faults++;
    sim.by_fault[f]++;
    fold(0xfa000000u + f);
    trace("fault %s", fault_name[f]);
    return true;
}

bool fault(enum fault f)
{
    enum stream r = f <= F_SPLIT ? R_NET : f == F_TORN || f == F_EIO ? R_DISK : R_NEMESIS;
    return chance(r, sim.w.ppm[f]) && fault_now(f);
}

void probe(enum probe p)
{
    sim.by_probe[p]++;
}

/* ---- the trace ---------------------------------------------------------------------------------
 */

void fold(uint64_t v)
{
    sim.hash = (sim.hash ^ v) * 1099511628211ull;
    sim.hash ^= sim.hash >> 29;
}

void fold_bytes(const void *data, size_t len)
{
    fold(co_crc32c((uint32_t)len, data, len));
}

void trace(const char *format, ...)
{
    va_list args;
    if (!sim.trace)
        return;
    printf("%12.6f %-10s ", (double)sim.now / 1e6, sim.current ? sim.current->proc->name : "-");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

/* ---- events ------------------------------------------------------------------------------------
 */

struct event {
    uint64_t t, seq;
    event_fn *fn;
    void *a;
    uint64_t b;
};

static struct event *heap;
static uint32_t n_heap, cap_heap;
static struct coroutine scheduler;
static struct task *tasks[MAX_TASKS];
static struct task *waiters[MAX_TASKS]; /* those that wait on something */
static uint32_t n_waiters;
static void *free_stacks[MAX_TASKS];
static uint32_t n_free_stacks;
static struct task *to_bury;

static bool sooner(const struct event *a, const struct event *b)
{
    return a->t != b->t ? a->t < b->t : a->seq < b->seq;
}

void after(uint64_t delay_us, event_fn *fn, void *a, uint64_t b)
{
    struct event e = {.t = sim.now + delay_us, .seq = ++sim.seq, .fn = fn, .a = a, .b = b};
    if (n_heap == cap_heap) {
        cap_heap = cap_heap ? cap_heap * 2 : 1024;
        heap = realloc(heap, cap_heap * sizeof *heap);
        co_assert(heap != NULL);
    }
    uint32_t i = n_heap++;
    for (; i > 0 && sooner(&e, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = e;
}

static struct event pop(void)
{
    struct event first = heap[0], last = heap[--n_heap];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= n_heap)
            break;
        if (child + 1 < n_heap && sooner(&heap[child + 1], &heap[child]))
            child++;
        if (!sooner(&heap[child], &last))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return first;
}

/* ---- tasks -------------------------------------------------------------------------------------
 */

static void stop_waiting(struct task *t)
{
    if (!t->wait_on)
        return;
    t->wait_on = NULL;
    for (uint32_t i = 0; i < n_waiters; i++) {
        if (waiters[i] == t) {
            memmove(&waiters[i], &waiters[i + 1], (--n_waiters - i) * sizeof *waiters);
            return;
        }
    }
}

static void bury(void)
{
    if (to_bury && to_bury->stack) {
        free_stacks[n_free_stacks++] = to_bury->stack;
        to_bury->stack = NULL;
    }
    to_bury = NULL;
}

static void resume(struct task *t)
{
    t->blocked = t->waking = false;
    stop_waiting(t);
    sim.current = t;
    sim.switches++;
    coroutine_switch(&scheduler, &t->stand);
    sim.current = NULL;
    bury();
}

static void on_wake(void *a, uint64_t b)
{
    struct task *t = a;
    bool timed_out = b & 1;
    if (t->dead || t->ended || !t->blocked || t->gen != b >> 1)
        return;
    if (t->proc->paused_until > sim.now) {
        after(t->proc->paused_until - sim.now, on_wake, a, b);
        return;
    }
    fold((uint64_t)t->id << 1 | timed_out);
    t->timed_out = timed_out;
    resume(t);
}

bool task_block(const void *on, uint64_t until)
{
    struct task *t = sim.current;
    co_assert(t != NULL);
    t->gen++;
    t->looks = 0;
    t->blocked = true;
    t->waking = false;
    t->timed_out = false;
    t->wait_on = on;
    if (on)
        waiters[n_waiters++] = t;
    if (until != NEVER)
        after(until > sim.now ? until - sim.now : 0, on_wake, t, t->gen << 1 | 1);
    coroutine_switch(&t->stand, &scheduler);
    return !t->timed_out;
}

void task_sleep(uint64_t us)
{
    (void)task_block(NULL, sim.now + us);
}

void task_wake(struct task *t)
{
    if (t->dead || t->ended || !t->blocked || t->waking)
        return;
    t->waking = true;
    stop_waiting(t);
    after(below(R_SCHED, sim.w.wake_us + 1), on_wake, t, t->gen << 1);
}

bool task_wake_one(const void *on)
{
    for (uint32_t i = 0; i < n_waiters; i++) {
        if (waiters[i]->wait_on == on) {
            task_wake(waiters[i]);
            return true;
        }
    }
    return false;
}

void task_wake_all(const void *on)
{
    while (task_wake_one(on))
        ;
}

bool task_gone(uint32_t id)
{
    return tasks[id]->dead;
}

static void task_main(unsigned id)
{
    struct task *t = tasks[id];
    t->result = t->fn(t->arg);
    t->ended = true;
    task_wake_all(t);
    to_bury = t;
    coroutine_switch(&t->stand, &scheduler);
    abort();
}

struct task *task_new(struct proc *p, void *(*fn)(void *), void *arg)
{
    struct task *t = calloc(1, sizeof *t);
    co_assert(t != NULL && sim.n_tasks < MAX_TASKS);
    t->id = sim.n_tasks++;
    tasks[t->id] = t;
    t->proc = p;
    t->fn = fn;
    t->arg = arg;
    if (n_free_stacks) {
        t->stack = free_stacks[--n_free_stacks];
    } else {
        t->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
        co_assert(t->stack != MAP_FAILED);
        mprotect(t->stack, 4096, PROT_NONE);
    }
    coroutine_make(&t->stand, t->stack, STACK_BYTES, task_main, t->id);
    t->gen = 1;
    t->blocked = t->waking = true;
    after(below(R_SCHED, sim.w.wake_us + 1), on_wake, t, t->gen << 1);
    return t;
}

/* ---- processes ---------------------------------------------------------------------------------
 */

struct proc *proc_new(const char *name, uint32_t host)
{
    co_assert(sim.n_procs < MAX_PROCS && host < MAX_HOSTS);
    struct proc *p = &sim.proc[sim.n_procs];
    *p = (struct proc){.id = sim.n_procs++, .host = host, .alive = true};
    snprintf(p->name, sizeof p->name, "%s", name);
    return p;
}

void proc_kill(struct proc *p)
{
    bool mine = sim.current && sim.current->proc == p;
    p->alive = false;
    for (uint32_t i = 0; i < sim.n_tasks; i++) {
        struct task *t = tasks[i];
        if (t->proc != p || t->dead || t->ended)
            continue;
        t->dead = true;
        stop_waiting(t);
        if (t != sim.current && t->stack) {
            free_stacks[n_free_stacks++] = t->stack;
            t->stack = NULL;
        }
    }
    if (!mine)
        return;
    to_bury = sim.current;
    coroutine_switch(&sim.current->stand, &scheduler);
    abort();
}

/* A clock of a host runs a little fast or slow, and begins anywhere. */
uint64_t local_us(const struct proc *p)
{
    int64_t rate = p ? sim.w.rate_ppm[p->host] : 0;
    uint64_t begin = p ? (p->host + 1) * 1000000000ull : 1000000000ull;
    return begin + sim.now + (uint64_t)((int64_t)sim.now * rate / 1000000);
}

uint64_t global_us(const struct proc *p, uint64_t local)
{
    int64_t rate = p ? sim.w.rate_ppm[p->host] : 0;
    uint64_t begin = p ? (p->host + 1) * 1000000000ull : 1000000000ull;
    if (local <= begin)
        return 0;
    return (uint64_t)((int64_t)(local - begin) * 1000000 / (1000000 + rate)) + 1;
}

/* ---- the whole ---------------------------------------------------------------------------------
 */

void sched_begin(uint64_t seed)
{
    sim.seed = seed;
    sim.now = 1000000;
    sim.hash = 14695981039346656037ull ^ seed;
    for (unsigned i = 0; i < N_STREAMS; i++) {
        uint64_t x = seed * 0x2545f4914f6cdd1dull + i;
        streams[i].a = splitmix(&x);
        streams[i].b = splitmix(&x);
    }
}

void sched_run(uint64_t until)
{
    while (n_heap && !sim.over && heap[0].t <= until) {
        struct event e = pop();
        if (e.t > sim.now)
            sim.now = e.t;
        sim.events++;
        e.fn(e.a, e.b);
    }
}
