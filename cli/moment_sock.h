/* moment_sock.h - what a reference stands for, by the pageserver's clock. */
#ifndef CORALLITE_CLI_MOMENT_SOCK_H
#define CORALLITE_CLI_MOMENT_SOCK_H

#include "cli/args.h"
#include "cli/ref.h"
#include "proto/corallite.pb-c.h"

/* *out is the caller's, to free with corallite__resolved__free_unpacked. */
CO_MUST_CHECK int moment_resolve(const struct cli_args *args, const struct ref *r,
                                 Corallite__Resolved **out);

#endif
