/*
 * qhist.h - comparing term histories, and what a majority is. Shared by both sides of the quorum
 * log; pure functions, no allocation.
 *
 * A history may be collapsed (rule M16): its first entry then is the one in force at a floor up to
 * which every member has flushed under one and the same history. So two members' histories have an
 * entry in common, and one entry in common (term and start) says that the logs are the same below
 * that start. Two histories without one come together when a node joins that was no member while
 * the floor moved on; maybe with the tail of a change of members that came to nothing. Then only
 * what is known to be committed is the same for sure.
 */
#ifndef CORALLITE_PROTO_QHIST_H
#define CORALLITE_PROTO_QHIST_H

#include <stdbool.h>

#include "proto/qmsg.h"

/* The part of `h` that a log ending at `end` can vouch for: entries with start <= end. Borrows. */
struct q_history q_history_cut(const struct q_history *h, lsn_t end);

/* Index of the entry in force at `lsn` (the last with start <= lsn); 0 if there is none. */
uint32_t q_history_index(const struct q_history *h, lsn_t lsn);

/* Where the log with history `a` (cut at its end a_end) and the log with history `b` (cut at b_end)
 * part: every record below *out is in both. `start` is the first LSN of the timeline. `known`: so
 * far both are the same by other knowledge, as what one of them knows to be committed; it counts
 * when one is collapsed and they have no entry in common. CO_ERR_CORRUPT with a sentence: one term
 * begins at two places, so one of the two is damaged. */
CO_MUST_CHECK int q_diverge(const struct q_history *a, lsn_t a_end, const struct q_history *b,
                            lsn_t b_end, lsn_t start, lsn_t known, lsn_t *out);

/* Is a set of nodes a majority of the configuration's members (of both sets while joint)?
 * Nodes outside the configuration count for nothing, a node named twice counts once. */
bool q_is_quorum(const struct wal_config *config, const uint32_t *nodes, uint32_t n);
bool q_is_member(const struct wal_config *config, uint32_t node);
/* The members that a configuration ends with, alone (n, members; no version): of a joint one the
 * new ones. */
void q_config_end(const struct wal_config *config, struct wal_config *out);
/* One of the two groups alone. */
bool q_in_group(const struct wal_member *members, uint32_t n, uint32_t node);
bool q_same_group(const struct wal_member *a, uint32_t n_a, const struct wal_member *b,
                  uint32_t n_b);

/* The step from one configuration towards `target` (n, members; the rest is ignored): joint first,
 * then the target alone, or back to the old members while joint. Only one step at a time, and only
 * when the one before is committed. false: `from` is joint with other members than these; *out is
 * `from` itself when there is nothing to do. */
bool q_config_step(const struct wal_config *from, const struct wal_config *target,
                   struct wal_config *out);

/* Has a node left, by the configuration that comes after `before` in its log? `left`: it had. */
bool q_left(bool left, const struct wal_config *before, const struct wal_config *now,
            uint32_t node);

#endif
