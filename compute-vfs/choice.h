/*
 * choice.h - which of several pageservers is asked.
 *
 * - C1: the first of the list that is not away is asked: one answers nearly everything, and its
 *   cache is warm.
 * - C2: one that did not answer, or is behind, is away: for a second, then two, four, five. What it
 *   is asked next when that is over is a probe: one question at a time, and it may not take long
 *   (CV_PROBE_US), so that a server that stays silent costs little. One answer, and it is there.
 * - C3: within one question every server is tried, those that are away last: they may be there.
 * - C4: a try does not take longer than CV_TRY_SHORT_US while there is another server to go to,
 *   twice as long in the next round, and so on.
 *
 * Pure: times go in, an order comes out. Not thread-safe.
 */
#ifndef CORALLITE_COMPUTE_VFS_CHOICE_H
#define CORALLITE_COMPUTE_VFS_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

#define CV_SERVERS_MAX  4u
#define CV_AWAY_MIN_US  1000000u
#define CV_AWAY_MAX_US  5000000u
#define CV_PROBE_US     100000u
#define CV_TRY_SHORT_US 400000u

struct cv_choice {
    uint32_t n;
    struct {
        uint64_t away_until_us; /* 0: it is there */
        uint64_t away_us;       /* how long it was away last */
        uint64_t probed_us;     /* a probe began; 0: none is under way */
    } server[CV_SERVERS_MAX];
};

struct cv_try {
    uint32_t server;
    bool probe; /* CV_PROBE_US and no longer */
};

void cv_choice_init(struct cv_choice *c, uint32_t n);
/* All servers, in the order in which a question that is asked now tries them. Begins a probe where
 * one is due: cv_choice_answered or cv_choice_failed follows, or another may begin a second later.
 */
void cv_choice_order(struct cv_choice *c, uint64_t now_us, struct cv_try out[CV_SERVERS_MAX]);
/* How long a try of round 0, 1, ... may take; at most `most_us`. */
uint64_t cv_choice_bound_us(const struct cv_choice *c, struct cv_try t, unsigned round,
                            uint64_t most_us);
void cv_choice_answered(struct cv_choice *c, uint32_t server);
void cv_choice_failed(struct cv_choice *c, uint32_t server, uint64_t now_us);

#endif
