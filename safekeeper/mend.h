/*
 * mend.h - a safekeeper's log that is damaged below its seal, mended from the other members.
 *
 * For a data directory whose daemon refuses to start. Of each timeline that does not open because
 * its log is damaged: from the first record on that is not live, the committed records of another
 * member, or where none has them those of the archive, are fetched and written in its place, until
 * the node's own records follow again or everything that was durable here is back.
 *
 *   N1 A record is written only when it is proven to be the one that was here: sound, of this
 *      timeline, at this LSN, chained to what lies before it here, and of the term that this node's
 *      own history names for the LSN. One timeline, term and LSN have one content (I8), and what a
 *      member streams is committed.
 *   N2 Control block and history are not changed: term, vote and seal stay what they were. A crash
 *      in the middle leaves a log that is still damaged below its seal, and refused.
 *   N3 What is overwritten is copied to DIR/aside before.
 *
 * What this cannot mend is refused as before, with a sentence: a control block or a history that
 * are damaged (what this node promised is lost: replace it), records that were durable here and
 * that no other member has committed.
 *
 * Threads: one; the directory is locked by its identity.
 */
#ifndef CORALLITE_SAFEKEEPER_MEND_H
#define CORALLITE_SAFEKEEPER_MEND_H

#include "common/identity_file.h"
#include "proto/limits.h"

struct sk_mend_peer {
    uint32_t node;
    char host[256];
    uint16_t port;
};

/* archive: a URL (archive/store.h), or NULL.
 * Looks at every timeline of the directory and prints a line for each that was mended or cannot be.
 * 0: each opens now. CO_ERR_CORRUPT with a sentence: some do not. Others: nothing was looked at. */
CO_MUST_CHECK int sk_mend(const char *dir, const struct co_identity *identity,
                          const struct sk_mend_peer *peers, uint32_t n_peers, const char *archive);

#endif
