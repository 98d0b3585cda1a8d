/*
 * member_plan.h - where a replacement takes a timeline: from whatever members its log has to those
 * of the list of safekeepers. Pure.
 *
 * Mostly the log has the members that were, and one is exchanged. But it may be in the middle of an
 * earlier replacement, or have been missed by one or more: born with older members, and made by a
 * majority after the tool had looked for the last time (decision 67). Each step is one that the
 * log allows (q_config_step): a joint configuration is ended before another begins.
 */
#ifndef CORALLITE_CLI_MEMBER_PLAN_H
#define CORALLITE_CLI_MEMBER_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/wal.h"

/* False: the log has the members that `list` ends with, and no others. True: *target is what to ask
 * its leader for next (n and members; ascending). Disks that the list does not know are those that
 * the log knows. */
bool member_plan(const struct wal_config *log, const struct wal_config *list,
                 struct wal_config *target);

/* May this joint configuration be ended, with these nodes as far as what is committed? A majority
 * of its new members must be, else nothing could be committed then; and `node`, if it is one of
 * them: it takes somebody's place. */
bool member_plan_fed(const struct wal_config *log, uint32_t node, const uint32_t *fed, uint32_t n);

#endif
