/* tree.h - the branches of a database as a tree, for people. Pure: it prints where it is told. */
#ifndef CORALLITE_CLI_TREE_H
#define CORALLITE_CLI_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"
#include "common/id.h"
#include "proto/corallite.pb-c.h"

/* A branch whose ancestor is not in the list (it was dropped) stands at the left. Children come in
 * the order of their branch points. now_us: the wall clock, for what is left of a life. */
CO_MUST_CHECK int tree_print(const Corallite__BranchListed *list, uint64_t now_us, FILE *out);

#endif
