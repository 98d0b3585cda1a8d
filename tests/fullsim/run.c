/*
 * run.c - one seed, in a child process of its own: SQLite, LMDB and the product keep what a killed
 * virtual process held, and it goes with the child. The outcome comes back by a pipe.
 */
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/log.h"
#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/oracle.h"
#include "tests/fullsim/wrap.h"

#define CPU_LIMIT_S 60 /* of processor time: other work on the machine does not count */

static int result_fd = -1;
static bool too_long;

#ifdef CO_MUTATIONS
enum co_mutation co_mutation;
#endif

static void report(bool failed)
{
    struct outcome o = {.failed = failed,
                        .too_long = too_long,
                        .seed = sim.seed,
                        .hash = sim.hash,
                        .faults = sim.faults,
                        .events = sim.events,
                        .virtual_us = sim.now,
                        .stats = run_stats};
    memcpy(o.by_fault, sim.by_fault, sizeof o.by_fault);
    memcpy(o.by_probe, sim.by_probe, sizeof o.by_probe);
    memcpy(o.why, sim.why, sizeof o.why);
    fflush(stdout);
    ssize_t n = __real_write(result_fd, &o, sizeof o);
    _exit(n == (ssize_t)sizeof o ? 0 : 3);
}

void violation(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(sim.why, sizeof sim.why, format, args);
    va_end(args);
    trace("VIOLATION %s", sim.why);
    report(true);
    abort();
}

/* A failed assertion of the product is a finding like any other. */
static void on_abort(int number)
{
    snprintf(sim.why, sizeof sim.why, "it crashed (signal %d)", number);
    report(true);
}

void __wrap_co_assert_failed(const char *text, const char *file, int line)
{
    violation("an assertion failed: %s (%s:%d)", text, file, line);
}

/* This proves nothing about the product: no mistake counts as found by it. */
static void on_limit(int number)
{
    (void)number;
    snprintf(sim.why, sizeof sim.why, "the seed took more than %d s of processor time",
             CPU_LIMIT_S);
    too_long = true;
    report(true);
}

static void child(const struct run_options *o)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!o->trace) { /* what the command prints (member.c) */
        int null = __real_open("/dev/null", O_WRONLY);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        __real_close(null);
    }
    /* Memory that was freed stays: the kernel would clear it anew each time. */
    mallopt(M_MMAP_THRESHOLD, 1 << 21);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    mallopt(M_TOP_PAD, 1 << 19);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGABRT, on_abort);
    signal(SIGPROF, on_limit);
    const struct itimerval limit = {.it_value.tv_sec = CPU_LIMIT_S};
    setitimer(ITIMER_PROF, &limit, NULL);
#ifdef CO_MUTATIONS
    co_mutation = o->mutation;
#endif
    sim.fault_limit = o->fault_limit;
    sim.fault_mask = o->fault_mask;
    sim.txn_limit = o->txn_limit;
    sim.trace = o->trace;
    sched_begin(o->seed);
    sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, (int)o->seed | 1, NULL);
    swarm_draw();
    if (o->until_us < sim.w.heal_us)
        sim.w.heal_us = o->until_us;
    oracle_begin();
    daemons_start();
    clients_start();
    nemesis_start();
    sched_run(sim.w.heal_us);
    if (!sim.over) {
        nemesis_heal();
        sched_run(sim.now + 120000000);
        /* What is read at the end is every page at many moments, over a slow network. */
        if (!sim.over && clients_check())
            sched_run(sim.now + 600000000);
    }
    if (!sim.over)
        violation("no liveness: two minutes after everything was healed the work is not done");
    if (!sim.restored) {
        daemon_look();
        atlas_end();
    }
    oracle_end();
    replay_all();
    report(false);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)ftw;
    return kind == FTW_DP ? __real_rmdir(path) : __real_unlink(path);
}

static void remove_all(const char *dir)
{
    co_assert(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0);
}

/* Ended from outside: nothing is left behind. */
static pid_t running;
static char running_dir[128];

static void on_end(int number)
{
    (void)number;
    if (running > 0)
        kill(running, SIGKILL);
    (void)nftw(running_dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    _exit(130);
}

void run_seed(const struct run_options *o, struct outcome *out)
{
    int fd[2], status = 0;
    char dir[128];
    memset(out, 0, sizeof *out);
    out->seed = o->seed;
    out->failed = true;
    snprintf(dir, sizeof dir, "/dev/shm/fullsim.%ld.%llx", (long)getpid(),
             (unsigned long long)o->seed);
    co_assert(pipe(fd) == 0 && __real_mkdir(dir, 0700) == 0);
    fflush(stdout);
    memcpy(running_dir, dir, sizeof dir);
    signal(SIGTERM, on_end);
    signal(SIGINT, on_end);
    pid_t pid = fork();
    co_assert(pid >= 0);
    running = pid;
    if (pid == 0) {
        __real_close(fd[0]);
        result_fd = fd[1];
        memcpy(sim.dir, dir, sizeof dir);
        child(o);
        _exit(4);
    }
    __real_close(fd[1]);
    ssize_t n = __real_read(fd[0], out, sizeof *out);
    __real_close(fd[0]);
    waitpid(pid, &status, 0);
    running = 0;
    if (n != (ssize_t)sizeof *out) {
        out->failed = true;
        out->seed = o->seed;
        snprintf(out->why, sizeof out->why, "the run ended with status %x and without a result",
                 (unsigned)status);
    }
    remove_all(dir);
}
