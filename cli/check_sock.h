/* check_sock.h - what `corallite check` asks of the daemons, and its look through SQLite. */
#ifndef CORALLITE_CLI_CHECK_SOCK_H
#define CORALLITE_CLI_CHECK_SOCK_H

#include "cli/check.h"
#include "cli/client_sock.h"
#include "cli/progress_file.h"

/* Reads every page of the branch at its LSN and verifies each. A page that is not as it should be
 * is a problem of the branch; an error: the pages cannot be read at all. CO_ERR_CANCELED. */
CO_MUST_CHECK int check_pages(struct client *c, struct check_branch *b, struct progress *bar);

/* The branches of a database, or of all (NULL), as the pageserver lists them. */
CO_MUST_CHECK int check_branches(struct client *c, const char *database, struct check_list *out);
/* Fills r->nodes, compares catalog and logs. `only` as in check_catalog. */
CO_MUST_CHECK int check_safekeepers(struct client *c, struct check_report *r, const char *only);

/* PRAGMA integrity_check and foreign_key_check at the LSN. CO_ERR_CANCELED. */
CO_MUST_CHECK int check_structure(struct check_branch *b);

#endif
