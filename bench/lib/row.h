/*
 * row.h - the row that every system is given: a number to be summed up, and 100 bytes.
 */
#ifndef CORALLITE_BENCH_LIB_ROW_H
#define CORALLITE_BENCH_LIB_ROW_H

#include <string.h>
#include <unistd.h>

#include "bench/lib/measure.h"

#define ROW_BYTES 100

struct row {
    uint64_t state; /* of the random numbers; row_begin() sets it */
    uint64_t k;     /* below 2^40 */
    char v[ROW_BYTES];
};

/* Threads and processes draw different numbers. */
static inline void row_begin(struct row *row, int no)
{
    row->state = bm_now_ns() * 0x9e3779b97f4a7c15u + (uint64_t)getpid() * 7919 + (uint64_t)no + 1;
    memset(row->v, 'x', sizeof row->v);
}

static inline void row_next(struct row *row)
{
    static const char digits[] = "0123456789abcdef";
    row->k = bm_random(&row->state) >> 24;
    for (unsigned i = 0; i < 8; i++)
        row->v[i] = digits[(row->k >> (4 * i)) & 15];
}

#endif
