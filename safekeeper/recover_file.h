/*
 * recover_file.h - the scan of a log at start: where it ends, and whether it may end there.
 *
 * From the start LSN on, records are followed while they are *live*: sound (wal_check, digest), of
 * this cluster and timeline, at their own LSN, chained to the record before, and written by the
 * term that the durable history names for that LSN (below the history's floor the chain alone
 * decides). Let x be the first LSN where that fails.
 *
 *   - x is below what is known to have been durable here (sealed or commit LSN of the control
 * block): rot. Refused: sentence with timeline, file, LSN and what to do. Nothing is changed.
 *   - somewhere behind x stands a sound record of this timeline, at its own LSN, whose writer knew
 * more than x to be committed (its sealed LSN): either rot of what was acknowledged here and not
 * sealed yet, or a loss of power while this node was slower than the two others, which had it.
 * Nobody can tell from here, so the log ends at x and is *in doubt*: suspect_lsn says how far it
 * may have reached. The caller makes that durable, then cuts (sk_recover_cut), and says it in its
 * votes.
 *   - the bytes at x are a record of a newer format: refused, CO_ERR_VERSION.
 *   - otherwise x is where a crash cut a write that nobody was told about: the log ends at x and
 * everything behind is made zero.
 *
 * The unsealed tail [sealed, x) is then written again and synced, not trusted: the page cache may
 * hold bytes that a failed fsync never brought to the disk. Only after that the caller may seal it.
 *
 * A record that cannot be told from one that was never written stays undetected: rot in the last
 * record before it was sealed (0.1 s after the last write, or at the next control write).
 */
#ifndef CORALLITE_SAFEKEEPER_RECOVER_FILE_H
#define CORALLITE_SAFEKEEPER_RECOVER_FILE_H

#include "safekeeper/log_file.h"

struct sk_recover {
    struct sk_owner owner;
    lsn_t start_lsn;
    struct wal_digest start_digest;
    lsn_t sealed_lsn, commit_lsn, floor_lsn; /* of the control block */
    struct q_history history;                /* borrowed for the call */
};

struct sk_recovered {
    uint64_t records;    /* live ones found */
    uint64_t torn_bytes; /* not zero behind the end, cut off */
    uint64_t rewritten_bytes;
    lsn_t suspect_lsn; /* 0: no doubt; else the cut is left to sk_recover_cut */
};

/* Opens DIR/timelines/<id>/log, scans, cuts and rewrites. On success *log ends at x, all flushed.
 * CO_ERR_CORRUPT, CO_ERR_VERSION, CO_ERR_IO, each with a sentence, leave the files as they were. */
CO_MUST_CHECK int sk_recover_log(const char *dir, const struct sk_recover *from, struct sk_log *log,
                                 struct sk_recovered *found);
/* The first steps of that alone, for who mends a log (mend_sock.c). begin: opens it as an empty
 * one. follow: takes the live records behind its end; *why it went no further. CO_ERR_VERSION: a
 * record of a newer format is there (no sentence). */
CO_MUST_CHECK int sk_recover_begin(const char *dir, const struct sk_recover *from,
                                   struct sk_log *log);
CO_MUST_CHECK int sk_recover_follow(const struct sk_recover *from, struct sk_log *log,
                                    const char **why);
/* Makes zero what lies behind the end of a log in doubt. */
CO_MUST_CHECK int sk_recover_cut(struct sk_log *log);

#endif
