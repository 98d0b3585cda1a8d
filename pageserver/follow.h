/*
 * follow.h - a pageserver that follows, and what it may collect.
 *
 * One pageserver of a cluster owns the catalog: it decides about names, retention, pins and
 * garbage, and its disk is in every timeline's entry (S13). A follower pulls the same logs into a
 * store of its own and hears of the catalog from the safekeepers (registry.h, R6). Two things only
 * the owner knows: where its cuts are, and the pins. The follower asks for them once a second
 * (FOLLOW), and says at which moments it is read itself, so that the owner's cuts stay behind these
 * as well.
 *
 * - F1: a follower never cuts beyond the owner. So a moment that can be read at the owner can be
 *   read here, and a reader goes on at its LSN when the owner is lost.
 * - F2: a cut counts only if all that the owner knew when it told it is known here, in that
 * version: a branch that begins below it would lose its pages else. Pins come in the same answer.
 * - F3: and only up to where the log was ingested.
 *
 * Pure: what an answer means. follow_uv.c has the connection.
 */
#ifndef CORALLITE_PAGESERVER_FOLLOW_H
#define CORALLITE_PAGESERVER_FOLLOW_H

#include "pageserver/registry.h"
#include "pageserver/store_lmdb.h"

/* Takes the owner's cuts, if they count (F2). *counted says so. CO_ERR_PROTOCOL. */
CO_MUST_CHECK int ps_follow_take(struct ps_registry *reg, const Corallite__Followed *m,
                                 bool *counted);
/* The pins of an answer; *rows is the caller's to free. CO_ERR_PROTOCOL, CO_ERR_NOMEM. */
CO_MUST_CHECK int ps_follow_pins(const Corallite__Followed *m, struct ps_pin_row **rows, size_t *n);

/* How far a follower may cut this timeline now (F3); 0: not at all. */
static inline lsn_t ps_follow_cut(const struct ps_timeline *tl)
{
    return tl->owner_cut <= tl->chain.last_lsn ? tl->owner_cut : 0;
}

#endif
