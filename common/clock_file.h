/* clock_file.h - the clocks and the random source of the shells. Cores never call these: time and
 * randomness come inside their events. */
#ifndef CORALLITE_COMMON_CLOCK_FILE_H
#define CORALLITE_COMMON_CLOCK_FILE_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include "common/id.h"

/* CLOCK_BOOTTIME in us: counts suspend, never set back. For leases, timers, deadlines. */
uint64_t co_now_us(void);
/* CLOCK_REALTIME in us since 1970. For the time in a record and in messages to people only. */
uint64_t co_wall_us(void);
/* A condition whose timed waits go by CLOCK_MONOTONIC, which nobody sets. */
void co_condition_init(pthread_cond_t *condition);
/* When `us` from now have passed, for timed waits that go by CLOCK_MONOTONIC. */
struct timespec co_deadline(uint64_t us);
/* From the kernel; aborts if it has none to give. */
void co_random_bytes(void *out, unsigned len);
struct co_id co_id_random(void);

#endif
