/*
 * known.h - what is known of a safekeeper beside its own disk: what it told others while it had it.
 *
 * A disk may go back in time: an older image is put back, or it said that it had synced and had
 * not. Such a node is sound in itself, and has forgotten votes and records that others counted on.
 * So everybody who hears from a safekeeper remembers what it said, leaders pass it on, and the
 * other safekeepers keep it on their disks (safekeeper/acceptor_witness.c). Each entry is a set of
 * statements that the node itself has made once; so a node whose state is less than an entry about
 * it has *regressed*, whatever came late or twice on the way, and it alone can see that for sure:
 * its state only grows while it runs, and what it said it said before.
 *
 * Pure functions, no allocation.
 */
#ifndef CORALLITE_PROTO_KNOWN_H
#define CORALLITE_PROTO_KNOWN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"
#include "proto/lsn.h"

/* On the wire an array of u64, in this order; 0: nothing is known. */
struct q_known {
    uint64_t node;
    uint64_t starts;   /* so many times it was started, */
    uint64_t start_id; /*   and the random number of that start */
    uint64_t term;     /* it voted in this term or followed its leader, */
    lsn_t flush_lsn;   /*   and in this very term it acknowledged so much */
    /* it acknowledged so much that was committed, and counted for it: no leader ever cuts that */
    lsn_t commit_lsn;
    /* and the log that it had it in had adopted this term, as those of a majority had: what of it
     * is cut since is in a later term's. A longer log of an older term is not that one. */
    uint64_t log_term;
};

#define Q_KNOWN_MAX (2u * CO_MEMBERS_MAX)

struct q_known_list {
    uint32_t n;
    const struct q_known *e; /* borrowed with the message */
};

/* Adds what `from` says to what `to` says of the same node. True: that was news. */
bool q_known_merge(struct q_known *to, const struct q_known *from);

/* A safekeeper as it is now: started `starts` times (0: not known), lastly as start_id, it knows
 * `term`, and its log reaches, or may have reached before it was found damaged, to `reach` with
 * log_term as its last term. */
struct q_stand {
    uint64_t starts, start_id;
    term_t term, log_term;
    lsn_t reach;
};

/* Is this more than it can have said? */
bool q_known_denies(const struct q_known *e, const struct q_stand *s);

/* The entry of a node, NULL: none. */
const struct q_known *q_known_of(const struct q_known *e, uint32_t n, uint64_t node);

/* The largest LSN that any entry knows to be committed; 0: none. */
lsn_t q_known_commit(const struct q_known *e, uint32_t n);
/* The last term that a log with all of that has adopted at least. */
term_t q_known_log_term(const struct q_known *e, uint32_t n);

#endif
