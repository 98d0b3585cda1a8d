/*
 * sealed_end.h - how far a sealed log is committed, by what its keepers tell of their copies.
 *
 * Nobody is elected for it and nobody writes it any more, so what a majority has alike stays so for
 * ever, and is committed. Whatever was acknowledged is among that, also where its writer died
 * before it told anybody; what a majority was sealed without is not, as its writer may have been
 * told (decision 53).
 *
 * Pure.
 */
#ifndef CORALLITE_CLI_SEALED_END_H
#define CORALLITE_CLI_SEALED_END_H

#include "proto/nodes.h"
#include "proto/qhist.h"

/* As the node told it after it was sealed. Borrows. */
struct sealed_copy {
    uint32_t node;
    lsn_t flush, commit;
    struct q_history history;
};

struct sealed_log {
    const struct wal_config *config; /* who keeps it */
    lsn_t start;
    struct sealed_copy copy[NODES_MAX];
    uint32_t n;
};

/* *holder: a copy that has all of it. There is one copy at least. CO_ERR_CORRUPT: two contradict
 * each other. */
CO_MUST_CHECK int sealed_end(const struct sealed_log *l, lsn_t *end, uint32_t *holder);

/* May what copy `i` has behind `end` be committed after all, together with keepers that have not
 * told? Then it must not be cut. */
CO_MUST_CHECK int sealed_is_open(const struct sealed_log *l, uint32_t i, lsn_t end, bool *open);

#endif
