/*
 * bell_file.h - one thread sleeps until another one rings.
 *
 * Other than a condition it has no lock of its own: who is woken goes on at once, even if whoever
 * rings holds a lock. It may lie on the sleeper's stack: ringing touches nothing of it once the
 * sleeper can return.
 *
 * One sleeper, one ring. Who did not wait to the end makes sure, by a lock that ringing is done
 * under, that nobody rings any more before the bell is gone.
 */
#ifndef CORALLITE_COMMON_BELL_FILE_H
#define CORALLITE_COMMON_BELL_FILE_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct co_bell {
    sem_t sem;
    atomic_bool rung;
};

void co_bell_init(struct co_bell *bell);
void co_bell_destroy(struct co_bell *bell);
/* What was written before is seen by the sleeper after. */
void co_bell_ring(struct co_bell *bell);
/* Sleeps for `us` at most, signals or not. true: it was rung. */
bool co_bell_wait(struct co_bell *bell, uint64_t us);

#endif
