/* random.h - random inputs for tests: a seed that is printed, so that a failure can be repeated
 * with CORALLITE_TEST_SEED=N. */
#ifndef CORALLITE_TESTS_PROTO_RANDOM_H
#define CORALLITE_TESTS_PROTO_RANDOM_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock_file.h"

struct rnd {
    uint64_t seed, state;
};

/* splitmix64 */
static inline uint64_t rnd_next(struct rnd *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline struct rnd rnd_begin(const char *what)
{
    struct rnd r;
    const char *fixed = getenv("CORALLITE_TEST_SEED");
    if (fixed)
        r.seed = strtoull(fixed, NULL, 10);
    else
        co_random_bytes(&r.seed, sizeof r.seed);
    r.state = r.seed;
    fprintf(stderr, "%s: CORALLITE_TEST_SEED=%" PRIu64 "\n", what, r.seed);
    return r;
}

/* 0 .. n-1 */
static inline uint32_t rnd_below(struct rnd *r, uint32_t n)
{
    return (uint32_t)((rnd_next(r) >> 32) * n >> 32);
}

static inline void rnd_fill(struct rnd *r, uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)rnd_next(r);
}

/* A number of random magnitude, so that every length of a varint comes up. */
static inline uint64_t rnd_any(struct rnd *r)
{
    return rnd_next(r) >> rnd_below(r, 64);
}

#endif
