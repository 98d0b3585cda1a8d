/*
 * changes_sock.h - which pages changed between two moments of one database, on one branch or on two
 * that have a common past; by the pageserver's lists, without a page being read.
 */
#ifndef CORALLITE_CLI_CHANGES_SOCK_H
#define CORALLITE_CLI_CHANGES_SOCK_H

#include "cli/args.h"
#include "proto/corallite.pb-c.h"
#include "proto/lsn.h"

struct changes {
    pgno_t *pages; /* ascending; free() */
    size_t n;
    bool all; /* no common past, or so much that listing it does not pay */
};

CO_MUST_CHECK int changes_between(const struct cli_args *args, const Corallite__Resolved *a,
                                  const Corallite__Resolved *b, struct changes *out);

#endif
