/*
 * qhist.h - comparing term histories, and what a majority is. Shared by both sides of the quorum
 * log; pure functions, no allocation.
 *
 * A history may be collapsed: its first entry then is the one in force at a floor below which every
 * member's log is known to be the same (rule M16). Nothing has to say where that floor was: it was
 * not below the first entry's start, so two histories agree at least below the later of their two
 * first starts.
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
 * part: every record below *out is in both. `start` is the first LSN of the timeline.
 * CO_ERR_CORRUPT with a sentence: one term begins at two places, so one of the two is damaged. */
CO_MUST_CHECK int q_diverge(const struct q_history *a, lsn_t a_end, const struct q_history *b,
                            lsn_t b_end, lsn_t start, lsn_t *out);

/* Is a set of nodes a majority of the configuration's members (of both sets while joint)?
 * Nodes outside the configuration count for nothing, a node named twice counts once. */
bool q_is_quorum(const struct wal_config *config, const uint32_t *nodes, uint32_t n);
bool q_is_member(const struct wal_config *config, uint32_t node);

#endif
