/*
 * sealed_end.h - how far a sealed log is committed, by what its keepers tell of their copies.
 *
 * Nobody is elected for it and nobody writes it any more, so what a majority has alike stays so for
 * ever, and is committed. Whatever was acknowledged is among that, also where its writer died
 * before it told anybody; what a majority was sealed without is not, as its writer may have been
 * told (decision 53). A majority of those who keep it now, or of those whom the log itself names:
 * the list of safekeepers and the members in a log do not change at one moment.
 *
 * Who brings a copy on, or tells it what is committed, takes a term for that which writes nothing.
 * Two who do so at different times may take the same term: it says nothing of what a copy holds.
 *
 * Pure.
 */
#ifndef CORALLITE_PROTO_SEALED_END_H
#define CORALLITE_PROTO_SEALED_END_H

#include "proto/nodes.h"
#include "proto/qhist.h"

/* As the node told it after it was sealed. Borrows. */
struct sealed_copy {
    uint32_t node;
    lsn_t flush, commit;
    struct q_history history;
    const struct wal_config *config; /* the last one in it; NULL: not told */
};

/* So far it is committed, and a log that has that has adopted this term or a later one. LSN 0:
 * nothing is said. */
struct sealed_word {
    lsn_t lsn;
    term_t log_term;
};

struct sealed_log {
    const struct wal_config *config; /* who keeps it */
    lsn_t start;
    struct sealed_copy copy[NODES_MAX];
    uint32_t n;
    /* What any of them, or one whose copy does not count, has heard of others (decision 51). Who
     * acknowledged it may have lost his disk since. */
    struct sealed_word known;
    /* What was read of it: a branch grew from there, a pageserver has taken it (decision 77). Term
     * 0: of which one is not known, and no copy is shown to have it. */
    struct sealed_word read;
};

/* A POS that one of them gave. */
void sealed_hear(struct sealed_word *known, lsn_t known_commit, term_t known_log_term);

/* It was read up to there by somebody who had a record of this term, and no newer one. */
void sealed_hear_read(struct sealed_word *read, lsn_t lsn, term_t log_term);

/* The terms of a history that wrote something below `end`; its first one always, which may stand
 * for more (M16). Borrows. */
struct q_history sealed_terms(const struct q_history *h, lsn_t end);

/* *holder: a copy that has all of it. There is one copy at least. CO_ERR_CORRUPT: two contradict
 * each other. */
CO_MUST_CHECK int sealed_end(const struct sealed_log *l, lsn_t *end, uint32_t *holder);

/* So far two copies are the same. CO_ERR_CORRUPT. */
CO_MUST_CHECK int sealed_alike(const struct sealed_log *l, uint32_t i, uint32_t j, lsn_t *out);

/* May what copy `i` has behind `end` be committed after all, together with keepers that have not
 * told? Then it must not be cut. */
CO_MUST_CHECK int sealed_is_open(const struct sealed_log *l, uint32_t i, lsn_t end, bool *open);

#endif
