#include "bench/lib/measure.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t bm_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t bm_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

void bm_die(const char *format, ...)
{
    va_list ap;
    fprintf(stderr, "%s: ", program_invocation_short_name);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    _Exit(1); /* other threads are in the middle of something */
}

const char *bm_option(int argc, char **argv, const char *name, const char *otherwise)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) != 0)
            continue;
        if (i + 1 == argc)
            bm_die("%s needs a value", name);
        return argv[i + 1];
    }
    return otherwise;
}

long long bm_number(int argc, char **argv, const char *name, long long otherwise)
{
    const char *text = bm_option(argc, argv, name, NULL);
    char *end;
    if (text == NULL)
        return otherwise;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end != 0 || value < 0)
        bm_die("%s %s: a number that is not negative is wanted", name, text);
    return value;
}

double bm_seconds(int argc, char **argv, const char *name, double otherwise)
{
    const char *text = bm_option(argc, argv, name, NULL);
    char *end;
    if (text == NULL)
        return otherwise;
    double value = strtod(text, &end);
    if (end == text || *end != 0 || !(value >= 0 && value < 1e9))
        bm_die("%s %s: seconds are wanted", name, text);
    return value;
}

struct bm_load bm_load_options(int argc, char **argv)
{
    return (struct bm_load){.threads = (int)bm_number(argc, argv, "--threads", 1),
                            .run_s = bm_seconds(argc, argv, "--seconds", 2),
                            .warm_s = bm_seconds(argc, argv, "--warm", 0.3),
                            .start_s = bm_seconds(argc, argv, "--start-at", 0),
                            .most = (uint64_t)bm_number(argc, argv, "--most", 0)};
}

/* ---- threads
 * -----------------------------------------------------------------------------------*/

struct worker {
    const struct bm_load *load;
    int no;
    pthread_t thread;
    pthread_barrier_t *barrier;
    uint64_t *ns;
    size_t n, room;
    uint64_t all_n, all_sum, ended_ns;
};

static void remember(struct worker *w, uint64_t ns)
{
    if (w->n == w->room) {
        w->room = w->room ? w->room * 2 : 65536;
        w->ns = realloc(w->ns, w->room * sizeof *w->ns);
        if (w->ns == NULL)
            bm_die("no memory for %zu times", w->room);
    }
    w->ns[w->n++] = ns;
}

static void wait_until(uint64_t at_ns)
{
    struct timespec at = {.tv_sec = (time_t)(at_ns / 1000000000u),
                          .tv_nsec = (long)(at_ns % 1000000000u)};
    while (bm_now_ns() < at_ns)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void *work(void *argument)
{
    struct worker *w = argument;
    const struct bm_load *load = w->load;
    void *client = load->open(load->context, w->no);
    pthread_barrier_wait(w->barrier);
    wait_until((uint64_t)(load->start_s * 1e9));
    uint64_t end = bm_now_ns() + (uint64_t)(load->warm_s * 1e9);
    while (load->warm_s > 0 && bm_now_ns() < end)
        w->all_sum += load->once(client, w->all_n++);
    pthread_barrier_wait(w->barrier);
    uint64_t now = bm_now_ns();
    end = now + (uint64_t)(load->run_s * 1e9);
    while (now < end && (load->most == 0 || w->n < load->most)) {
        w->all_sum += load->once(client, w->all_n++);
        uint64_t after = bm_now_ns();
        remember(w, after - now);
        now = after;
    }
    w->ended_ns = now;
    load->close(client);
    return NULL;
}

void bm_run(const struct bm_load *load, struct bm_result *result)
{
    pthread_barrier_t barrier;
    struct worker *workers = calloc((size_t)load->threads, sizeof *workers);
    uint64_t n = 0, all_n = 0, all_sum = 0, least = UINT64_MAX, most = 0, ended = 0;

    if (workers == NULL || load->threads < 1)
        bm_die("%d threads cannot be", load->threads);
    pthread_barrier_init(&barrier, NULL, (unsigned)load->threads + 1);
    for (int i = 0; i < load->threads; i++) {
        workers[i] = (struct worker){.load = load, .no = i, .barrier = &barrier};
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            bm_die("no thread");
    }
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    uint64_t began = bm_now_ns();
    for (int i = 0; i < load->threads; i++) {
        struct worker *w = &workers[i];
        pthread_join(w->thread, NULL);
        n += w->n, all_n += w->all_n, all_sum += w->all_sum;
        least = w->n < least ? w->n : least;
        most = w->n > most ? w->n : most;
        ended = w->ended_ns > ended ? w->ended_ns : ended;
    }
    pthread_barrier_destroy(&barrier);
    uint64_t *ns = malloc((n ? n : 1) * sizeof *ns), at = 0;
    if (ns == NULL)
        bm_die("no memory for %" PRIu64 " times", n);
    for (int i = 0; i < load->threads; i++) {
        if (workers[i].n > 0)
            memcpy(ns + at, workers[i].ns, workers[i].n * sizeof *ns);
        at += workers[i].n;
        free(workers[i].ns);
    }
    free(workers);
    bm_summarize(ns, n, began, ended, result);
    free(ns);
    result->all_n = all_n, result->all_sum = all_sum;
    result->least_n = least, result->most_n = most;
}

/* ---- figures
 * -----------------------------------------------------------------------------------*/

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

void bm_summarize(uint64_t *ns, size_t n, uint64_t began_ns, uint64_t ended_ns,
                  struct bm_result *result)
{
    if (n == 0)
        bm_die("not one operation ended in time");
    qsort(ns, n, sizeof *ns, ascending);
    *result = (struct bm_result){.n = n,
                                 .all_n = n,
                                 .wall_s = (double)(ended_ns - began_ns) / 1e9,
                                 .per_s = (double)n * 1e9 / (double)(ended_ns - began_ns),
                                 .began_s = (double)began_ns / 1e9,
                                 .ended_s = (double)ended_ns / 1e9,
                                 .p50_us = (double)ns[(n - 1) / 2] / 1e3,
                                 .p90_us = (double)ns[(n - 1) * 9 / 10] / 1e3,
                                 .p99_us = (double)ns[(n - 1) * 99 / 100] / 1e3,
                                 .max_us = (double)ns[n - 1] / 1e3,
                                 .least_n = n,
                                 .most_n = n};
}

void bm_print(const struct bm_result *r, const char *extra)
{
    printf("{\"n\": %" PRIu64 ", \"all_n\": %" PRIu64 ", \"all_sum\": %" PRIu64
           ", \"wall_s\": %.6f, \"began_s\": %.6f, \"ended_s\": %.6f, \"per_s\": %.3f, \"p50_us\": "
           "%.3f, \"p90_us\": %.3f, "
           "\"p99_us\": %.3f, \"max_us\": %.3f, \"least_n\": %" PRIu64 ", \"most_n\": %" PRIu64
           "%s%s}\n",
           r->n, r->all_n, r->all_sum, r->wall_s, r->began_s, r->ended_s, r->per_s, r->p50_us,
           r->p90_us, r->p99_us, r->max_us, r->least_n, r->most_n, extra ? ", " : "",
           extra ? extra : "");
    fflush(stdout);
}
