/* main.c - the command line: many seeds, one seed, shrinking, ranges with a log, mistakes. */
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/wrap.h"

/* Names that come with the VFS's extension. */
int sqlite3_corallite_init(sqlite3 *db, char **error, const void *api);

struct options {
    struct run_options run;
    uint64_t runs;
    double seconds;
    uint32_t twice_percent;
    bool shrink, mutations, quick, probes, list;
    const char *mutation, *log, *commit;
};

struct totals {
    uint64_t seeds, failures, faults, commits, begun, pages, hash, twice, unknown, kept, lost, past,
        branches, replayed, records, strict;
    uint64_t by_fault[N_FAULTS], by_probe[N_PROBES];
};

static const struct mistake {
    enum co_mutation m;
    const char *name, *text;
    uint64_t seeds;
} mistakes[] = {
#define X(name, text, seeds) {CO_MUTATION_##name, #name, text, seeds},
    CO_SYSTEM_MUTATION_LIST(X)
#undef X
};
#define QUICK_SEEDS 30u /* found within so many */
#define N_MISTAKES  (sizeof mistakes / sizeof mistakes[0])

static double cpu_s(void)
{
    struct rusage me, children;
    getrusage(RUSAGE_SELF, &me);
    getrusage(RUSAGE_CHILDREN, &children);
    return (double)(me.ru_utime.tv_sec + me.ru_stime.tv_sec + children.ru_utime.tv_sec +
                    children.ru_stime.tv_sec) +
           (double)(me.ru_utime.tv_usec + me.ru_stime.tv_usec + children.ru_utime.tv_usec +
                    children.ru_stime.tv_usec) /
               1e6;
}

static double wall_s(void)
{
    struct timespec t;
    __real_clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* SQLite's own pause of a busy handler, behind the VFS's: in virtual time, like every other. */
static int sleep_virtual(sqlite3_vfs *vfs, int us)
{
    (void)vfs;
    task_sleep((uint64_t)us);
    return us;
}

/* SQLite gets its VFS once, before the children are forked. */
static void load(void)
{
    sqlite3 *db;
    sqlite3_initialize();
    sqlite3_vfs_find(NULL)->xSleep = sleep_virtual;
    if (!getenv("FULLSIM_LOG"))
        co_log_set_level(CO_LOG_OFF);
    setenv("CORALLITE_LOG", "off", 1);
    unsetenv("CORALLITE_SERVER");
    sqlite3_auto_extension((void (*)(void))sqlite3_corallite_init);
    sqlite3_open(":memory:", &db);
    sqlite3_close(db);
    sqlite3_cancel_auto_extension((void (*)(void))sqlite3_corallite_init);
}

/* ---- shrinking ---------------------------------------------------------------------------------
 */

static bool fails(struct run_options o, struct outcome *out)
{
    o.trace = false;
    run_seed(&o, out);
    return out->failed;
}

/* The fewest faults, then the fewest classes, then the shortest work, then the earliest healing
 * that still fail. Each candidate is one more run of the seed. */
static void shrink(struct run_options o)
{
    struct outcome out;
    if (!fails(o, &out))
        return;
    uint64_t lo = 0, hi = out.faults;
    while (lo < hi) {
        o.fault_limit = lo + (hi - lo) / 2;
        if (fails(o, &out))
            hi = o.fault_limit;
        else
            lo = o.fault_limit + 1;
    }
    o.fault_limit = hi;
    for (uint32_t f = 0; f < N_FAULTS; f++) {
        o.fault_mask &= ~(1u << f);
        if (!fails(o, &out))
            o.fault_mask |= 1u << f;
    }
    for (uint32_t txns = 256; txns > 0; txns /= 2) {
        struct run_options less = o;
        less.txn_limit = (o.txn_limit > 300 ? 300 : o.txn_limit);
        if (less.txn_limit <= txns)
            continue;
        less.txn_limit -= txns;
        if (fails(less, &out))
            o = less;
    }
    for (uint64_t step = 32000000; step >= 500000; step /= 2) {
        struct run_options less = o;
        less.until_us = o.until_us == NEVER ? 64000000 : o.until_us;
        if (less.until_us <= step + 1000000)
            continue;
        less.until_us -= step;
        if (fails(less, &out))
            o = less;
    }
    bool still = fails(o, &out);
    printf("shrunk: seed %" PRIu64 " fails%s with %" PRIu64 " faults of:", o.seed,
           still ? "" : " NO MORE", out.faults);
    for (uint32_t f = 0; f < N_FAULTS; f++)
        if (out.by_fault[f])
            printf(" %s=%" PRIu64, fault_name[f], out.by_fault[f]);
    printf(", %" PRIu64 " transactions, %.1f virtual seconds\n  %s\n", out.stats.begun,
           (double)out.virtual_us / 1e6, out.why);
    printf("  replay: fullsim --seed %" PRIu64 " --faults %" PRIu64 " --mask %x --txns %u --until "
           "%" PRIu64 " --trace\n",
           o.seed, o.fault_limit, o.fault_mask, o.txn_limit, o.until_us);
}

/* ---- many seeds --------------------------------------------------------------------------------
 */

static void add(struct totals *t, const struct outcome *o)
{
    t->seeds++;
    t->failures += o->failed;
    t->faults += o->faults;
    t->commits += o->stats.commits;
    t->begun += o->stats.begun;
    t->pages += o->stats.pages_checked;
    t->unknown += o->stats.unknown;
    t->kept += o->stats.kept;
    t->lost += o->stats.lost;
    t->past += o->stats.past_pages;
    t->branches += o->stats.branches;
    t->replayed += o->stats.replayed;
    t->records += o->stats.records;
    t->strict += o->stats.strict_pins;
    t->hash = (t->hash ^ o->hash) * 1099511628211ull;
    for (uint32_t f = 0; f < N_FAULTS; f++)
        t->by_fault[f] += o->by_fault[f];
    for (uint32_t p = 0; p < N_PROBES; p++)
        t->by_probe[p] += o->by_probe[p];
}

static void tell_failure(const struct options *o, const struct outcome *out)
{
    printf("FAIL seed %" PRIu64 ": %s\n  replay: build/tests/fullsim --seed %" PRIu64
           " --trace%s%s\n",
           out->seed, out->why, out->seed, o->mutation ? " --mutation " : "",
           o->mutation ? o->mutation : "");
    fflush(stdout);
}

/* Seeds whose runs differ have something in them that the seed does not decide. */
static void again(struct run_options o, const struct outcome *first, struct totals *t)
{
    struct outcome second;
    o.trace = false;
    run_seed(&o, &second);
    t->twice++;
    if (second.hash == first->hash && second.failed == first->failed)
        return;
    t->failures++;
    printf("FAIL seed %" PRIu64 ": two runs differ: hash %016" PRIx64 ", then %016" PRIx64 "\n",
           o.seed, first->hash, second.hash);
}

static void write_log(const struct options *o, const struct totals *t, double seconds)
{
    FILE *f = fopen(o->log, "a");
    if (!f) {
        fprintf(stderr, "fullsim: %s cannot be written\n", o->log);
        exit(2);
    }
    fprintf(f,
            "level=B commit=%s seeds=%" PRIu64 "..%" PRIu64 " faults=%" PRIu64 " commits=%" PRIu64
            " failures=%" PRIu64 " seeds_per_hour=%.0f hash=%016" PRIx64 "\n",
            o->commit ? o->commit : "unknown", o->run.seed, o->run.seed + t->seeds - 1, t->faults,
            t->commits, t->failures, (double)t->seeds / seconds * 3600, t->hash);
    fclose(f);
}

/* So many times the seeds, when a situation was not met yet. */
#define PROBE_PATIENCE 5u
#define WIDE_SEEDS     1000u

/* Some are met once in 150 seeds: a run has to be wide before it may want them. */
static bool is_due(const struct totals *t, uint32_t p)
{
    bool rare = p == P_SEALED_END || p == P_DISK_TORN || p == P_REFILLED;
    return !rare || t->seeds >= WIDE_SEEDS;
}

static uint32_t never_met(const struct totals *t)
{
    uint32_t missing = 0;
    for (uint32_t p = 0; p < N_PROBES; p++)
        missing += t->by_probe[p] == 0 && is_due(t, p);
    return missing;
}

static uint32_t tell_probes(const struct totals *t)
{
    for (uint32_t p = 0; p < N_PROBES; p++)
        printf("  %8" PRIu64 "  %s%s\n", t->by_probe[p], probe_name[p],
               t->by_probe[p] ? ""
               : is_due(t, p) ? "   <- never"
                              : "   (rare)");
    return never_met(t);
}

/* A rare situation is given more seeds before it counts as lost. */
static bool goes_on(const struct options *o, const struct totals *t, uint64_t i)
{
    return i < o->runs || (o->probes && i < PROBE_PATIENCE * o->runs && never_met(t) > 0);
}

static int many(const struct options *o)
{
    struct totals t = {0};
    double begun = wall_s(), cpu = cpu_s();
    struct outcome out;
    for (uint64_t i = 0; goes_on(o, &t, i); i++) {
        struct run_options run = o->run;
        run.seed += i;
        if (o->seconds > 0 && wall_s() - begun >= o->seconds)
            break;
        run_seed(&run, &out);
        add(&t, &out);
        if (out.failed) {
            tell_failure(o, &out);
            if (o->shrink)
                shrink(run);
            if (t.failures >= 20)
                break;
        } else if (i % 100 < o->twice_percent) {
            again(run, &out, &t);
        }
    }
    cpu = cpu_s() - cpu;
    if (t.seeds == 0) {
        printf("fullsim: FAIL no seed was run\n");
        return 1;
    }
    if (o->log)
        write_log(o, &t, cpu);
    double n = (double)t.seeds;
    if (o->run.trace || o->probes) {
        for (uint32_t f = 0; f < N_FAULTS; f++)
            printf("  %s=%" PRIu64, fault_name[f], t.by_fault[f]);
        printf("\n");
    }
    uint32_t missing = o->probes ? tell_probes(&t) : 0;
    if (missing)
        printf("fullsim: %u situations were never met: the simulator has lost a knob\n", missing);
    printf("fullsim: %s seeds=%" PRIu64
           " faults/seed=%.0f commits/seed=%.0f transactions/seed=%.0f "
           "pages-compared=%" PRIu64 " of-the-past=%" PRIu64 " strict-pins=%" PRIu64
           " branches=%" PRIu64 " replayed=%" PRIu64 " unknown=%" PRIu64 " kept=%" PRIu64
           " lost=%" PRIu64 " twice=%" PRIu64 " failures=%" PRIu64
           " seeds/h/core=%.0f hash=%016" PRIx64 "\n",
           t.failures || missing ? "FAIL" : "PASS", t.seeds, (double)t.faults / n,
           (double)t.commits / n, (double)t.begun / n, t.pages, t.past, t.strict, t.branches,
           t.replayed, t.unknown, t.kept, t.lost, t.twice, t.failures, n / cpu * 3600, t.hash);
    return t.failures || missing;
}

/* ---- mistakes ----------------------------------------------------------------------------------
 */

static int hunt_all(const struct options *o)
{
#ifndef CO_MUTATIONS
    (void)o;
    fprintf(stderr, "fullsim: this build has no mistakes in it; make fullsim-mutations builds the "
                    "one that has\n");
    return 2;
#else
    uint64_t drawn = o->run.seed != 1 ? o->run.seed : (uint64_t)time(NULL) * 1000003u;
    unsigned found = 0, tried = 0;
    int null = __real_open("/dev/null", O_WRONLY);
    dup2(null, STDERR_FILENO); /* assertions that fail on purpose */
    printf("drawn start: %" PRIu64 "\n", drawn);
    for (size_t i = 0; i < N_MISTAKES; i++) {
        const struct mistake *m = &mistakes[i];
        struct run_options run = o->run;
        struct outcome out = {0};
        uint64_t limit = 16 * m->seeds, need = 0;
        double begun = cpu_s();
        if (o->mutation ? strcmp(o->mutation, m->name) != 0 : o->quick && m->seeds > QUICK_SEEDS)
            continue;
        drawn = drawn * 6364136223846793005u + 1442695040888963407u;
        run.mutation = m->m;
        for (uint64_t k = 0; k < limit && !need; k++) {
            run.seed = (drawn >> 24) + k;
            run_seed(&run, &out);
            need = out.failed && !out.too_long ? k + 1 : 0;
        }
        tried++;
        found += need != 0;
        printf("%-6s %-22s %4" PRIu64 " of %4" PRIu64 "  %5.1f s  %s\n      seed %" PRIu64 ": %s\n",
               need ? "found" : "MISSED", m->name, need, limit, cpu_s() - begun, m->text, out.seed,
               out.why);
        fflush(stdout);
    }
    printf("fullsim mutations: %s %u of %u mistakes found\n",
           found == tried && tried ? "PASS" : "FAIL", found, tried);
    return found != tried || !tried;
#endif
}

/* ---- command line ------------------------------------------------------------------------------
 */

static const char usage_text[] =
    "usage: fullsim [--seed N | --from N] [--runs N | --count N] [--seconds S]\n"
    "               [--log FILE [--commit TEXT]] [--twice-percent P] [--probes] [--shrink] "
    "[--trace]\n"
    "               [--faults N] [--mask HEX] [--txns N] [--until US]\n"
    "               [--mutation NAME] [--mutations [--quick]] [--list]\n"
    "  --from A --count N --log FILE   a range, and a line about it at the end of FILE\n"
    "  --probes    tells how often each rare situation was met; one that was not in five times\n"
    "              the seeds fails the run\n"
    "  --faults, --mask, --txns, --until   what --shrink found: no more than so many faults, of\n"
    "              these classes, transactions, microseconds before everything is healed\n";

static void parse(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        const struct {
            const char *name;
            bool *flag;
        } flags[] = {{"--trace", &o->run.trace}, {"--shrink", &o->shrink},
                     {"--probes", &o->probes},   {"--mutations", &o->mutations},
                     {"--quick", &o->quick},     {"--list", &o->list}};
        bool known = false;
        for (size_t k = 0; k < sizeof flags / sizeof *flags; k++)
            if (strcmp(a, flags[k].name) == 0)
                *flags[k].flag = known = true;
        if (known)
            continue;
        if (strcmp(a, "--help") == 0) {
            fputs(usage_text, stdout);
            exit(0);
        }
        i++;
        if (v && (!strcmp(a, "--seed") || !strcmp(a, "--from")))
            o->run.seed = strtoull(v, NULL, 10);
        else if (v && (!strcmp(a, "--runs") || !strcmp(a, "--count")))
            o->runs = strtoull(v, NULL, 10);
        else if (v && !strcmp(a, "--seconds"))
            o->seconds = strtod(v, NULL);
        else if (v && !strcmp(a, "--log"))
            o->log = v;
        else if (v && !strcmp(a, "--commit"))
            o->commit = v;
        else if (v && !strcmp(a, "--twice-percent"))
            o->twice_percent = (uint32_t)strtoul(v, NULL, 10);
        else if (v && !strcmp(a, "--faults"))
            o->run.fault_limit = strtoull(v, NULL, 10);
        else if (v && !strcmp(a, "--mask"))
            o->run.fault_mask = (uint32_t)strtoul(v, NULL, 16);
        else if (v && !strcmp(a, "--txns"))
            o->run.txn_limit = (uint32_t)strtoul(v, NULL, 10);
        else if (v && !strcmp(a, "--until"))
            o->run.until_us = strtoull(v, NULL, 10);
        else if (v && !strcmp(a, "--mutation"))
            o->mutation = v;
        else {
            fprintf(stderr, "fullsim: what is '%s'?\n%s", a, usage_text);
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    struct options o = {.run = {.seed = 1,
                                .fault_limit = NEVER,
                                .fault_mask = ~0u,
                                .txn_limit = UINT32_MAX,
                                .until_us = NEVER},
                        .twice_percent = 1};
    parse(argc, argv, &o);
    if (o.list) {
        for (size_t i = 0; i < N_MISTAKES; i++)
            printf("%-22s %4" PRIu64 "  %s\n", mistakes[i].name, mistakes[i].seeds,
                   mistakes[i].text);
        return 0;
    }
    load();
    if (o.mutations)
        return hunt_all(&o);
    for (size_t i = 0; o.mutation && i < N_MISTAKES; i++)
        if (strcmp(mistakes[i].name, o.mutation) == 0)
            o.run.mutation = mistakes[i].m;
    if (o.mutation && o.run.mutation == CO_MUTATION_NONE) {
        fprintf(stderr, "fullsim: no mistake is named '%s'; --list names them\n", o.mutation);
        return 2;
    }
    o.runs = o.runs ? o.runs : o.seconds > 0 ? NEVER : 1;
    return many(&o);
}
