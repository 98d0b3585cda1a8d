/*
 * acceptor_witness.h - what an acceptor knows of the other safekeepers, and what others know of it.
 *
 * A part of the acceptor core, in files of its own: no I/O, no clock. Leaders pass on what each
 * member has acknowledged and voted (proto/known.h). An acceptor keeps what is said of others, on
 * its disk too (SK_WITNESS), and tells it with its votes; what is said of itself it compares with
 * itself. Only more than it has is proof that its disk went back in time: everything it ever said
 * was durable first, so after a crash, a torn tail, a failed sync or a restart it has at least
 * that, and a log that was found damaged says itself how far it may have reached.
 *
 * W1 nobody waits for a witness: it is written soon (SK_WITNESS_LAG_US), not before an answer.
 * W2 what is behind here and acknowledged there is written at once, once in SK_WITNESS_SOON_US: the
 *    log of a witness that has the records itself speaks as well as its memory.
 */
#ifndef CORALLITE_SAFEKEEPER_ACCEPTOR_WITNESS_H
#define CORALLITE_SAFEKEEPER_ACCEPTOR_WITNESS_H

#include <stdbool.h>

#include "proto/known.h"

#define SK_WITNESS_LAG_US  1000000u
#define SK_WITNESS_SOON_US 50000u

struct sk_witness {
    uint64_t starts, start_id; /* of this node; 0: not counted */
    struct q_known known[Q_KNOWN_MAX];
    uint32_t n;
    struct q_known told[Q_KNOWN_MAX]; /* what the message under way carries, ours first */
    bool dirty;
    bool fresh; /* no leader was followed since the start: nobody may have compared us with more
                   than one other */
    uint64_t written_us; /* SK_WITNESS was given out last; 0: never */
    bool regressed;
};

struct sk_acceptor;
struct sk_actions;
struct sk_boot;
struct sk_event;
struct q_msg;

void sk_witness_boot(struct sk_acceptor *sk, const struct sk_boot *boot);
/* What comes with a message. False: it is proof that this disk went back in time; the actions say
 * so, and nothing else may happen. */
bool sk_witness_hear(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out);
/* Puts what is known in a VOTED. */
void sk_witness_tell(struct sk_acceptor *sk, struct q_msg *voted);
/* What is not on the disk yet goes there. */
void sk_witness_write(struct sk_acceptor *sk, uint64_t now_us, struct sk_actions *out);
/* The largest LSN that is known to be committed, beyond what is so of the own log: that may reach
 * as far and be of an older term. 0: none. *log_term: of the logs that have it. */
lsn_t sk_witness_beyond(const struct sk_acceptor *sk, term_t *log_term);

#endif
