/*
 * start_file.h - one daemon of a local cluster: started as its place in the cluster wants, and
 * waited for until it answers as the one that it should be.
 */
#ifndef CORALLITE_CLI_START_FILE_H
#define CORALLITE_CLI_START_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/cluster.h"
#include "proto/nodes.h"

struct started {
    int pid; /* 0: it ran already */
    long long log_offset;
};

/* Starts node `index` unless it runs. `list` (of a pageserver; may be NULL or empty): who the
 * safekeepers are, if they were ever changed. */
CO_MUST_CHECK int start_node(const struct cluster *c, unsigned index, const struct nodes *list,
                             bool take_over, struct started *s);
/* Until it is ready. It ended: its last words are the sentence. */
CO_MUST_CHECK int start_wait(const struct cluster *c, unsigned index, const struct started *s,
                             uint64_t since_us);
/* Takes the progress that start_wait shows on a terminal away. */
void end_progress(void);

/* The newest list of the safekeepers that those which run keep; version 0: never changed. */
void start_ask_list(const struct cluster *c, struct nodes *out);
/* Was this safekeeper replaced? One with a number above all members' is a spare. */
bool start_has_left(const struct cluster *c, unsigned index, const struct nodes *list);
/* Stops it, and the cluster does not know it any more; its data stays. */
CO_MUST_CHECK int start_let_go(struct cluster *c, unsigned index);

#endif
