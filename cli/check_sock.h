/* check_sock.h - what `corallite check` asks of the daemons, and its look through SQLite. */
#ifndef CORALLITE_CLI_CHECK_SOCK_H
#define CORALLITE_CLI_CHECK_SOCK_H

#include "cli/check.h"
#include "cli/client_sock.h"
#include "cli/progress_file.h"
#include "cli/store.h"
#include "proto/wal.h"

/* Reads every page of the branch at its LSN and verifies each. A page that is not as it should be
 * is a problem of the branch; an error: the pages cannot be read at all. CO_ERR_CANCELED. */
CO_MUST_CHECK int check_pages(struct client *c, struct check_branch *b, struct progress *bar);

/* The branches of a database, or of all (NULL), as the pageserver lists them. */
CO_MUST_CHECK int check_branches(struct client *c, const char *database, struct check_list *out);
/* Connects to the safekeepers and fills r->nodes; those that do not answer are notes. */
CO_MUST_CHECK int check_keepers_open(struct client *c, struct check_report *r);
void check_keepers_close(struct check_report *r);
/* Compares catalog and logs. `only` as in check_catalog. */
CO_MUST_CHECK int check_safekeepers(struct client *c, struct check_report *r, const char *only);

/* Compares the pages that were read with those of every other pageserver that the safekeepers know.
 * CO_ERR_CANCELED, CO_ERR_NOMEM. Keepers are open. */
CO_MUST_CHECK int check_pairs(struct client *c, struct check_report *r);
/* What a safekeeper knows of the pageservers; NULL: none says it. The caller's to free. */
Corallite__Pageservers *check_pageservers(struct check_report *r);

/* What the log of a timeline has from one record's end to another's. */
struct check_reach {
    bool found;               /* a safekeeper has it up to there, and every record is sound */
    uint32_t node, asked;     /* that one; how many answered until then */
    struct wal_digest digest; /* of the record that ends there */
    uint64_t bytes, records;
    uint64_t archived; /* of these bytes: from the archive, as no safekeeper keeps them */
};
/* Reads it from one safekeeper after the other until one has it all; where none keeps its begin,
 * that comes from the archive. CO_ERR_CANCELED. */
CO_MUST_CHECK int check_log_reaches(struct check_report *r, const struct co_id *timeline,
                                    lsn_t from, lsn_t to, struct check_reach *out);

/* reach_file.c: the log of a timeline as the archive has it, from its start on: sound and chained
 * up to *at, with *digest there, which is `to` or below. CO_ERR_NOT_FOUND: it has nothing of it. */
CO_MUST_CHECK int check_archive_reaches(const char *url, const struct co_id *cluster,
                                        const struct co_id *timeline, lsn_t to, lsn_t *at,
                                        struct wal_digest *digest, uint64_t *bytes);

/* The branches against what the pageserver's archive has of them (check_archive_file.c). An archive
 * that cannot be opened from here is a note. */
CO_MUST_CHECK int check_archive(struct client *c, struct check_report *r);

/* PRAGMA integrity_check and foreign_key_check at the LSN. CO_ERR_CANCELED. */
CO_MUST_CHECK int check_structure(struct check_branch *b);

/* store_sock.c: looks through the pageserver's store, of one database or of all (NULL), and
 * compares how far it is with the logs. Keepers are open. */
CO_MUST_CHECK int store_look(struct client *c, struct check_report *r, const char *database,
                             struct store_report *out);

#endif
