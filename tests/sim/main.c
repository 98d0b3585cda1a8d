/* main.c - command line of the simulator; see tests/sim/README.md. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/sim.h"

#ifdef CO_MUTATIONS
enum co_mutation co_mutation;
#endif

#define U(x) ((unsigned long long)(x))

static const struct mistake {
    enum co_mutation m;
    const char *name, *text;
    uint64_t seeds;
    bool slow;
} mistakes[] = {
#define CO_X(name, text, seeds, slow) {CO_MUTATION_##name, #name, text, seeds, slow},
    CO_MUTATION_LIST(CO_X)
#undef CO_X
};
#define N_MISTAKES (sizeof mistakes / sizeof mistakes[0])

struct options {
    uint64_t seed, runs;
    double seconds;
    const char *mutation, *log, *commit;
    uint32_t twice_percent;
    bool trace, shrink, mutations, slow, keep_going;
};

static double clock_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void set_mutation(enum co_mutation m)
{
#ifdef CO_MUTATIONS
    co_mutation = m;
#else
    (void)m;
#endif
}

/* ---- shrinking ---------------------------------------------------------------------------------
 */

/* The fewest faults, then the fewest classes, then the shortest time that still fail. */
static void shrink(struct sim *s, uint64_t seed)
{
    struct stats waste = {0}, *st = s->st;
    bool traced = s->trace;
    uint64_t until = NEVER, lo = 0, hi;
    uint32_t mask = ~0u;
    s->st = &waste;
    s->trace = false;
    (void)run(s, seed, NEVER, mask, until);
    hi = s->faults;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (run(s, seed, mid, mask, until)) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    for (uint32_t f = 0; f < N_FAULTS; f++) {
        if (run(s, seed, hi, mask & ~(1u << f), until)) {
            mask &= ~(1u << f);
        }
    }
    for (uint64_t step = 4000000; step >= 100000; step /= 2) {
        (void)run(s, seed, hi, mask, until);
        uint64_t shorter = until == NEVER ? s->w.heal_us : until;
        if (shorter > step && run(s, seed, hi, mask, shorter - step)) {
            until = shorter - step;
        }
    }
    s->trace = traced;
    int rc = run(s, seed, hi, mask, until);
    printf("shrunk: seed %llu fails%s with %llu faults of:", U(seed), rc ? "" : " NO MORE",
           U(s->faults));
    for (uint32_t f = 0; f < N_FAULTS; f++) {
        if (s->by_fault[f]) {
            printf(" %s=%llu", fault_name[f], U(s->by_fault[f]));
        }
    }
    printf(", healed at %.1f s\n  %s\n", (double)s->w.heal_us / 1e6, s->why);
    s->st = st;
}

/* ---- many seeds --------------------------------------------------------------------------------
 */

static double cpu_s(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static void summary(const struct stats *st, double seconds, uint64_t hash)
{
    double n = st->seeds ? (double)st->seeds : 1;
    printf("sim: %s seeds=%llu faults/seed=%.0f commits/seed=%.0f elections=%llu strict=%llu "
           "lease=%llu unknown=%llu committed=%llu not=%llu too-old=%llu fetched=%llu "
           "truncations=%llu restarts=%llu fragments=%llu in-fragments=%llu unstaged=%llu "
           "changes=%llu finished=%llu refused=%llu contested=%llu regained=%llu trims=%llu "
           "based=%llu based-again=%llu images=%llu lies=%llu by-word=%llu displaced=%llu "
           "noticed=%llu failures=%llu "
           "seeds/h/core=%.0f hash=%016llx\n",
           st->failures ? "FAIL" : "PASS", U(st->seeds), (double)st->faults / n,
           (double)st->acked / n, U(st->elections), U(st->strict_reads), U(st->lease_reads),
           U(st->unknown), U(st->committed), U(st->not_committed), U(st->too_old), U(st->fetched),
           U(st->truncations), U(st->restarts), U(st->fragments), U(st->in_fragments),
           U(st->unstaged), U(st->changes), U(st->finished), U(st->refused_changes),
           U(st->contested), U(st->regained), U(st->trims), U(st->based), U(st->based_again),
           U(st->images), U(st->lies), U(st->words), U(st->displaced), U(st->refused_nodes),
           U(st->failures), n / seconds * 3600, U(hash));
}

/* One line for whoever keeps a book of the ranges that were run (tools/sim-ranges). */
static int note(const struct options *o, const struct stats *st, double seconds, uint64_t hash)
{
    FILE *f = fopen(o->log, "a");
    if (!f) {
        perror(o->log);
        return 1;
    }
    fprintf(f,
            "level=A commit=%s seeds=%llu..%llu faults=%llu commits=%llu failures=%llu "
            "seeds_per_hour=%.0f hash=%016llx\n",
            o->commit ? o->commit : "unknown", U(o->seed), U(o->seed + st->seeds - 1),
            U(st->faults), U(st->acked), U(st->failures), (double)st->seeds / seconds * 3600,
            U(hash));
    if (fclose(f)) {
        perror(o->log);
        return 1;
    }
    return 0;
}

static int many(struct sim *s, const struct options *o)
{
    double begin = clock_s(), cpu_begin = cpu_s();
    uint64_t hash = 0, twice = 0;
    for (uint64_t i = 0; i < o->runs; i++) {
        uint64_t seed = o->seed + i;
        if (o->seconds > 0 && clock_s() - begin >= o->seconds) {
            break;
        }
        int bad = run(s, seed, NEVER, ~0u, NEVER);
        uint64_t h = s->hash;
        hash = (hash ^ h) * 1099511628211ull;
        if (bad) {
            printf("FAIL seed %llu: %s\n  replay: tests/sim --seed %llu --runs 1 --trace%s%s\n",
                   U(seed), s->why, U(seed), o->mutation ? " --mutation " : "",
                   o->mutation ? o->mutation : "");
            if (o->shrink) {
                shrink(s, seed);
            }
            if (!o->keep_going && s->st->failures >= 10) {
                break;
            }
        }
        if (!bad && i % 100 < o->twice_percent) {
            struct stats waste = {0}, *st = s->st;
            s->st = &waste;
            (void)run(s, seed, NEVER, ~0u, NEVER);
            s->st = st;
            twice++;
            if (s->hash != h) {
                printf("FAIL seed %llu: two runs differ: hash %016llx, then %016llx\n", U(seed),
                       U(h), U(s->hash));
                s->st->failures++;
            }
        }
    }
    if (s->st->seeds == 0) {
        printf("sim: FAIL no seed was run\n");
        return 1;
    }
    if (s->st->seeds) {
        printf("sim: faults");
        for (uint32_t f = 0; f < N_FAULTS; f++) {
            printf(" %s=%llu", fault_name[f], U(s->st->by_fault[f]));
        }
        printf("\n");
    }
    if (twice) {
        printf("sim: %llu seeds were run twice and compared\n", U(twice));
    }
    double seconds = cpu_s() - cpu_begin;
    summary(s->st, seconds, hash);
    int rc = o->log ? note(o, s->st, seconds, hash) : 0;
    return rc || s->st->failures != 0;
}

/* ---- mistakes ----------------------------------------------------------------------------------
 */

#ifdef CO_MUTATIONS
/* Seeds until it is found from this start; 0: not within the limit. */
static uint64_t hunt(struct sim *s, uint64_t start, uint64_t limit)
{
    for (uint64_t i = 0; i < limit; i++) {
        if (run(s, start + i, NEVER, ~0u, NEVER)) {
            return i + 1;
        }
    }
    return 0;
}
#endif

static int mutations(struct sim *s, const struct options *o)
{
#ifndef CO_MUTATIONS
    (void)s;
    (void)o;
    fprintf(stderr,
            "sim: this build has no mistakes in it; make mutations builds the one that has\n");
    return 2;
#else
    unsigned found = 0, tried = 0;
    uint64_t drawn = o->seed ? o->seed : (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();
    int null = open("/dev/null", O_WRONLY);
    dup2(null, STDERR_FILENO); /* assertions that fail on purpose */
    printf("drawn start: %llu\n", U(drawn));
    for (size_t i = 0; i < N_MISTAKES; i++) {
        const struct mistake *m = &mistakes[i];
        if ((o->mutation && strcmp(o->mutation, m->name)) ||
            (!o->mutation && m->slow && !o->slow)) {
            continue;
        }
        uint64_t limit = 16 * (m->seeds < 10 ? 10 : m->seeds), need[3], last = 0;
        bool all = true;
        char why[sizeof s->why] = "";
        double begin = clock_s();
        for (unsigned k = 0; k < 3; k++) {
            drawn = drawn * 6364136223846793005u + 1442695040888963407u;
            set_mutation(m->m);
            need[k] = hunt(s, drawn >> 20, limit);
            set_mutation(CO_MUTATION_NONE);
            if (need[k]) {
                memcpy(why, s->why, sizeof why);
                last = s->seed;
            }
            all &= need[k] != 0;
        }
        tried++;
        found += all;
        printf("%-6s %-24s %6llu %6llu %6llu of %6llu  %5.1f s  %s\n      seed %llu: "
               "%s\n",
               all ? "found" : "MISSED", m->name, U(need[0]), U(need[1]), U(need[2]), U(limit),
               clock_s() - begin, m->text, U(last), why);
        fflush(stdout);
    }
    printf("mutations: %s %u of %u mistakes found, each from three starts\n",
           found == tried && tried ? "PASS" : "FAIL", found, tried);
    return found != tried || tried == 0;
#endif
}

/* ---- command line ------------------------------------------------------------------------------
 */

static int usage(int rc)
{
    fputs(
        "usage: sim [--seed N] [--runs N] [--seconds S] [--twice-percent P] [--trace] [--shrink]\n"
        "           [--keep-going] [--mutation NAME] [--mutations [--slow]] [--list]\n"
        "           [--log FILE [--commit TEXT]]   appends a line about the seeds that were run\n",
        rc ? stderr : stdout);
    return rc;
}

static int list(void)
{
    for (size_t i = 0; i < N_MISTAKES; i++) {
        printf("%-24s %6llu%s  %s\n", mistakes[i].name, U(mistakes[i].seeds),
               mistakes[i].slow ? " slow" : "     ", mistakes[i].text);
    }
    return 0;
}

static int parse(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(a, "--trace")) {
            o->trace = true;
        } else if (!strcmp(a, "--shrink")) {
            o->shrink = true;
        } else if (!strcmp(a, "--keep-going")) {
            o->keep_going = true;
        } else if (!strcmp(a, "--mutations")) {
            o->mutations = true;
        } else if (!strcmp(a, "--slow")) {
            o->slow = true;
        } else if (!strcmp(a, "--list")) {
            exit(list());
        } else if (!strcmp(a, "--help")) {
            exit(usage(0));
        } else if (v && !strcmp(a, "--seed")) {
            o->seed = strtoull(v, NULL, 10), i++;
        } else if (v && !strcmp(a, "--runs")) {
            o->runs = strtoull(v, NULL, 10), i++;
        } else if (v && !strcmp(a, "--seconds")) {
            o->seconds = strtod(v, NULL), i++;
        } else if (v && !strcmp(a, "--twice-percent")) {
            o->twice_percent = (uint32_t)strtoul(v, NULL, 10), i++;
        } else if (v && !strcmp(a, "--mutation")) {
            o->mutation = v, i++;
        } else if (v && !strcmp(a, "--log")) {
            o->log = v, i++;
        } else if (v && !strcmp(a, "--commit")) {
            o->commit = v, i++;
        } else {
            fprintf(stderr, "sim: what is '%s'?\n", a);
            return usage(2);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct options o = {.runs = 0, .twice_percent = 1};
    int rc = parse(argc, argv, &o);
    if (rc) {
        return rc;
    }
    struct stats st = {0};
    struct sim *s = calloc(1, sizeof *s);
    if (!s) {
        return 1;
    }
    s->st = &st;
    s->trace = o.trace;
    if (o.mutations) {
        rc = mutations(s, &o);
    } else {
        if (o.mutation) {
            size_t i = 0;
            while (i < N_MISTAKES && strcmp(mistakes[i].name, o.mutation)) {
                i++;
            }
            if (i == N_MISTAKES) {
                fprintf(stderr, "sim: no mistake is named '%s'; --list names them\n", o.mutation);
                return 2;
            }
            set_mutation(mistakes[i].m);
        }
        o.seed = o.seed ? o.seed : 1;
        o.runs = o.runs ? o.runs : o.seconds > 0 ? NEVER : 1000;
        rc = many(s, &o);
    }
    sim_free(s);
    free(s);
    return rc;
}
