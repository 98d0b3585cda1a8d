/*
 * slower.h - how many times as long everything takes under a sanitizer ($SLOWER,
 * tests/sanitized/kinds.py), for tests that set the time which something of ours needs against one
 * of their own making.
 */
#ifndef CORALLITE_TESTS_UNIT_SLOWER_H
#define CORALLITE_TESTS_UNIT_SLOWER_H

#include <stdlib.h>

static inline unsigned slower(void)
{
    const char *text = getenv("SLOWER");
    int times = text ? atoi(text) : 1;
    return times > 1 ? (unsigned)times : 1;
}

#endif
