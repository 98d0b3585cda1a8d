/* archive.h - where a local cluster archives, and clusters made of an archive (archive/read.h). */
#ifndef CORALLITE_CLI_ARCHIVE_H
#define CORALLITE_CLI_ARCHIVE_H

#include "archive/state.h"
#include "cli/args.h"
#include "cli/cluster.h"
#include "proto/corallite.pb-c.h"

/* Takes up's --archive into account ("none": no archive any more): checks that it can be opened, a
 * directory is made, and keeps it with the cluster. CO_ERR_BUSY: the pageserver runs with
 * another. */
CO_MUST_CHECK int archive_settle(struct cluster *c, const char *wanted);

/* Takes up's --keep-log into account (SIZE or "all"), and keeps it with the cluster. CO_ERR_BUSY: a
 * safekeeper runs with another. */
CO_MUST_CHECK int archive_settle_keep(struct cluster *c, const char *wanted);
/* What has to be known of an archive that was `before` ("": none) and is now another, or of a
 * --keep-log without one: a sentence on standard error. */
void archive_warn(const struct cluster *c, const char *before, const char *keep_wanted);

/* up's --from-archive: a new cluster, not started, with three safekeepers made of the newest
 * manifest, which *state is (the caller's to free). A failure leaves nothing of it. */
CO_MUST_CHECK int archive_restore(const char *url, const struct cli_args *args, uint16_t port_base,
                                  struct cluster *out, Corallite__ArchiveState **state);

/* The index of a branch's snapshot, and with `every_part` all its rows, are what they should be. */
CO_MUST_CHECK int archive_check_snapshot(struct ar_store *store, const struct co_id *cluster,
                                         const struct ar_line *line, bool every_part);

#endif
