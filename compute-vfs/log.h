/*
 * log.h - the seam between the database object and the quorum log of one timeline.
 *
 * Two implementations: quorum_sock.c (proposer core, sockets to the safekeepers, one background
 * thread) and tests/unit/compute-vfs/mem_backend.c (in memory, with switches for delay, refusal and
 * loss).
 *
 * Calls that block take a deadline and never outlive it. `events` are called on any thread, with no
 * lock of the log held; they must not call back into the log and must not block for long.
 */
#ifndef CORALLITE_COMPUTE_VFS_LOG_H
#define CORALLITE_COMPUTE_VFS_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "compute-vfs/record.h"
#include "proto/wal.h"

/* What the log tells its owner. LSNs only ever grow within a term. */
struct cv_log_events {
    void *owner;
    /* A majority has everything up to lsn on disk: it is committed. */
    void (*durable)(void *owner, term_t term, lsn_t lsn);
    /* A majority has everything up to lsn in memory. */
    void (*received)(void *owner, term_t term, lsn_t lsn);
    /* Leadership of `term` ended: nothing more will become durable in it by itself; appends are
     * refused. The log goes on by itself to find out what was kept, and says it with `resolved`.
     * contested: perhaps only a minority follows another term, and nobody writes in it. The lease
     * was not given back: lead() at once wins it again before others can, release() lets it go. */
    void (*lost)(void *owner, term_t term, bool contested, const char *reason);
    /* Of the records appended in `term`: those that end at or below kept_lsn are committed, all
     * others surely are not and never will be. */
    void (*resolved)(void *owner, term_t term, lsn_t kept_lsn);
    /* Bytes of a large record of `term` arrive at some safekeeper: a wait for it is not in vain. */
    void (*progress)(void *owner, term_t term);
    /* Another compute waits for the lease. anew: it has just asked for it; else it does still,
     * which is told as often as safekeepers acknowledge anything. */
    void (*waiter)(void *owner, bool anew);
    /* The lease came after the lead() that asked for it had given up: the next one returns at once.
     * If none comes for some 300 ms it goes back. */
    void (*won)(void *owner);
};

/* Where a new leader begins. */
struct cv_lead {
    term_t term;
    lsn_t tip_lsn;            /* end of the log; committed */
    struct wal_digest digest; /* there */
    uint64_t time_us;         /* of the last record if known, else 0 */
};

enum cv_verdict { CV_UNKNOWN, CV_COMMITTED, CV_NOT_COMMITTED };

struct cv_log_stats {
    uint64_t bytes_out[CO_MEMBERS_MAX]; /* to each safekeeper, frames included, since start */
    uint64_t bytes_in;
    uint64_t records, elections;
    uint32_t connected;
};

struct cv_log;
struct cv_safekeeper; /* pages.h */

struct cv_log_ops {
    /* Frees; waits up to deadline_ms for what is in flight and releases the lease first. */
    void (*close)(struct cv_log *log, uint32_t deadline_ms);
    /* Becomes (or is) leader: elects when the lease is free, asks an idle holder for it. Blocks.
     * `interrupted` (may be NULL) is asked every few ms. CO_ERR_TIMEOUT, CO_ERR_NO_QUORUM,
     * CO_ERR_LOCKED (at once: its holder says that a write transaction is open there), CO_ERR_BUSY
     * (held by a compute that did not let go), CO_ERR_CANCELED, CO_ERR_DROPPED. */
    int (*lead)(struct cv_log *log, uint32_t timeout_ms, bool (*interrupted)(void *), void *arg,
                struct cv_lead *out);
    /* Takes a record (emptied) sealed for (term, tip). Never blocks, never fails: a loss is told by
     * events. want_received: somebody will wait for `received`, which is told of such records only.
     */
    void (*append)(struct cv_log *log, term_t term, struct cv_record *record, bool want_received);
    /* Strict position: the newest committed LSN, not older than any commit acknowledged before the
     * call. No round trip while the own lease runs. May settle a dead writer's open tail by an
     * election. */
    int (*position)(struct cv_log *log, uint32_t timeout_ms, lsn_t *out);
    /* position(), and beside it the log's bytes from `since` up to there, when a safekeeper has
     * them at hand: *records (empty before, the caller's to free) stays empty when it has not, when
     * they are too many, or when nothing is new. Not checked in any way. May be NULL. */
    int (*follow)(struct cv_log *log, uint32_t timeout_ms, lsn_t since, lsn_t *out,
                  struct co_buf *records);
    /* Gives the lease up when all that is in flight is committed; returns at once. */
    void (*release)(struct cv_log *log);
    /* A write transaction is open here while others wait for the lease: tells them, so that their
     * lead() ends. Holds for some 500 ms; returns at once. */
    void (*writing)(struct cv_log *log);
    /* Somebody waits until what was appended with want_received is durable, which has no hurry
     * else. Returns at once. May be NULL. */
    void (*hurry)(struct cv_log *log);
    /* Leaves `term` with commits in flight: `lost` follows, then (when it can be known) `resolved`.
     */
    void (*abandon)(struct cv_log *log, term_t term);
    /* Outcome of the record that began at begin_lsn in term, in this log or, where that is below
     * its begin, in the ancestor's that the branch reads there. CO_ERR_TIMEOUT leaves CV_UNKNOWN.
     */
    int (*status)(struct cv_log *log, term_t term, lsn_t begin_lsn, uint32_t timeout_ms,
                  enum cv_verdict *out);
    void (*stats)(struct cv_log *log, struct cv_log_stats *out);
    /* A restore put another timeline in this one's place: it was told so by a safekeeper. Nothing
     * is led or committed any more; lead() and, where the end is open, position() answer
     * CO_ERR_READONLY. Of position() *out is then what a majority knows to be committed. */
    bool (*sealed)(struct cv_log *log);
    /* May be NULL. A thread that waits for `durable` or `received` and is the only one reads the
     * connections by itself, which saves waking it. attend: true if it shall; assist must follow,
     * and returns when something was told or after until_us, some ms at most. attend may be called
     * with locks held that `events` take, if what is waited for was seen to be missing under them.
     * relieve: others wait now; as after attend said false, they hear by `events`. */
    bool (*attend)(struct cv_log *log);
    void (*assist)(struct cv_log *log, uint64_t until_us);
    void (*relieve)(struct cv_log *log);
    /* How long (ms) there has been no quorum, 0 while there is one. `missing` (may be NULL) is
     * given the safekeepers that do not answer, each with its address and the reason, for a
     * sentence. */
    uint32_t (*no_quorum_ms)(struct cv_log *log, size_t size, char *missing);
    /* Where the safekeepers are, as the pageserver tells: for a log that reaches no majority of
     * those it knows. Connections that stand are kept. Returns at once. May be NULL. */
    void (*found)(struct cv_log *log, const struct cv_safekeeper *at, uint32_t n);
    /* CO_ERR_FULL with a sentence while so many disks are full that no majority takes records. */
    int (*no_room)(struct cv_log *log);
};

/* Of no_quorum_ms; leaves room for the rest of a sentence. */
#define CV_MISSING_MAX 700

/* Implementations begin with this. */
struct cv_log {
    const struct cv_log_ops *ops;
};

#endif
