/*
 * measure.h - what every program of bench/ does the same way: the clock, threads that repeat one
 * operation for some seconds, percentiles, and one line of JSON on standard output.
 *
 * A program tells what one operation is (struct bm_load); bm_run() repeats it in threads, each with
 * a client of its own, first untimed, then timed. Each operation returns a number; their sum and
 * count are what the program compares afterwards with what the system under test really holds.
 * Programs of a benchmark: what goes wrong ends the process with a sentence, and nothing is
 * counted.
 */
#ifndef CORALLITE_BENCH_LIB_MEASURE_H
#define CORALLITE_BENCH_LIB_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* CLOCK_MONOTONIC. */
uint64_t bm_now_ns(void);

/* xorshift64; the state must not be 0. */
uint64_t bm_random(uint64_t *state);

/* Prints "PROGRAM: sentence" on standard error and ends the process with status 1. */
_Noreturn void bm_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "--name VALUE" pairs of the command line: the value, or what stands for its absence. */
const char *bm_option(int argc, char **argv, const char *name, const char *otherwise);
long long bm_number(int argc, char **argv, const char *name, long long otherwise);
double bm_seconds(int argc, char **argv, const char *name, double otherwise);

/* One load. `context` is borrowed for the run. Called from the thread that the client belongs to.
 */
struct bm_load {
    void *context;
    int threads;
    double warm_s, run_s;
    double start_s; /* of bm_now_ns(): nobody begins before; so several processes begin at once */
    uint64_t most;  /* operations a thread at most; 0: no such bound */
    void *(*open)(void *context, int no);       /* a client of thread `no`, 0 .. threads - 1 */
    uint64_t (*once)(void *client, uint64_t n); /* the n-th operation, untimed ones counted too */
    void (*close)(void *client);
};

struct bm_result {
    uint64_t all_n, all_sum; /* every operation, the untimed ones too */
    uint64_t n;              /* timed ones */
    double wall_s, per_s;
    double began_s, ended_s; /* of bm_now_ns() */
    double p50_us, p90_us, p99_us, max_us;
    uint64_t least_n, most_n; /* of one thread */
};

void bm_run(const struct bm_load *load, struct bm_result *result);

/* --threads (1), --seconds (2), --warm (0.3), --start-at, --most. */
struct bm_load bm_load_options(int argc, char **argv);

/* Times kept by a program that has a loop of its own. Sorts ns[]. */
void bm_summarize(uint64_t *ns, size_t n, uint64_t began_ns, uint64_t ended_ns,
                  struct bm_result *result);

/* The line. `extra` is more members, as JSON, without a comma in front; or NULL. */
void bm_print(const struct bm_result *result, const char *extra);

#endif
