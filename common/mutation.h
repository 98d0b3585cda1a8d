/*
 * mutation.h - the classic mistakes, so that the simulator can prove that it would see them.
 *
 * In the product co_mutated() is the constant false and the compiler removes the mistake. Only the
 * variant that is built with -DCO_MUTATIONS (make mutations) can switch one of them on, one at a
 * time. A mistake that the simulator does not find is a hole in the simulator.
 *
 * Columns: name, text, seeds within which it was found when it was first tried (the limit is
 * sixteen times that, or chance alone would miss one of so many now and then; it costs nothing
 * where it is found), slow (needs many seeds: make mutations-slow).
 */
#ifndef CORALLITE_COMMON_MUTATION_H
#define CORALLITE_COMMON_MUTATION_H

#include <stdbool.h>

/* clang-format off */
#define CO_MUTATION_LIST(X) \
    X(COMMIT_OLD_TERM,     "an older term's record is committed by counting replicas",  39444, 1) \
    X(VOTE_NOT_PERSISTED,  "the vote is not persisted before it is answered",            1562, 0) \
    X(ACK_BEFORE_FSYNC,    "ACK before fsync",                                              4, 0) \
    X(HISTORY_NOT_PERSISTED, "an adopted history is not persisted before the ACK",          1, 0) \
    X(LSN_REUSED,          "an LSN gets other content in the same term",                    1, 0) \
    X(DONOR_BY_LSN,        "the donor is chosen by LSN alone",                            148, 0) \
    X(TAIL_NOT_TRUNCATED,  "a divergent tail is not truncated",                             1, 0) \
    X(APPEND_LOWER_TERM,   "an APPEND of a lower term is accepted",                         2, 0) \
    X(READ_WITHOUT_LEASE,  "the leader reads locally without a lease",                     27, 0) \
    X(QUORUM_OF_ONE,       "one safekeeper is a quorum",                                    1, 0) \
    X(LEASE_ONLY_FENCE,    "the lease is the only fence",                                  30, 0) \
    X(EMPTY_DISK_VOTES,    "an empty disk under an old name votes",                         2, 0) \
    X(HISTORY_BEFORE_CUT,  "history persisted before the tail is cut, records not compared with it", 148, 0) \
    X(ELECTED_AGAIN,       "a late ELECTED truncates again",                                2, 0) \
    X(UNKNOWN_IS_FAILED,   "UNKNOWN is reported as failed",                                 2, 0) \
    X(LEASE_FORGOTTEN,     "a lease is forgotten on restart",                             169, 0) \
    X(NONCE_REUSED,        "a proposer reuses its nonce after a restart",                1500, 0) \
    X(READ_MAX_COMMIT,     "a strict read trusts the largest commit LSN",                   1, 0) \
    X(LEASE_FROM_ACK,      "a lease counts from the arrival of the ACK",                  548, 0) \
    X(STALE_SNAPSHOT,      "a new leader writes from an old snapshot",                      1, 0) \
    X(MATCH_FROM_VOTE,     "a vote's flush LSN counts as an ACK",                          33, 0) \
    X(RESOLVE_FROM_ONE,    "UNKNOWN is resolved from one safekeeper's newer history",      33, 0) \
    X(RESOLVE_HISTORIES,   "UNKNOWN is resolved from a quorum of newer histories",       8262, 1) \
    X(FLOOR_OF_A_QUORUM,   "the history floor looks at a quorum, not at all members",    2000, 0) \
    X(MARK_NOT_CLEARED,    "a lease is granted while the disk says that none is out",     600, 0) \
    X(READ_AFTER_RELEASE,  "a leader reads by a lease that it has given back",            200, 0) \
    X(STALE_CONNECTION_LEASE, "a leader keeps the lease of a connection that it closed", 2000, 0) \
    X(STAGED_COUNTS,       "staged bytes of a record count in the flush LSN",               5, 0) \
    X(FRAGMENT_OLD_TERM,   "a newer term completes the staged fragments of an older one",   20, 0) \
    X(SUSPECT_COUNTS,      "the vote of a damaged log counts as if it were whole",        500, 0) \
    X(FRAGMENT_GAP,        "fragments that were lost in between leave a gap",              20, 0) \
    X(CONFIG_ONCE_COMMITTED, "a configuration is used only once it is committed",         501, 0) \
    X(CONFIG_NOT_JOINT,    "members change without a joint phase",                        200, 0) \
    X(IMAGE_VOTES,         "a disk that went back in time votes at once",                 500, 0) \
    X(WITNESS_FORGETS,     "what is known of other disks does not survive a restart",    2200, 0) \
    X(CONFIG_OVERLAP,      "a change of members overlaps an uncommitted one",            1000, 0) \
    X(TRIM_UNARCHIVED,     "a log drops what no archive has",                              50, 0) \
    X(TRIM_UNFOLLOWED,     "a log drops what a pageserver that follows lacks",             50, 0) \
    X(BASE_UNCOMMITTED,    "a log is told to begin where nothing is known to be committed", 200, 0) \
    X(BASE_WITHOUT_CONFIG, "a log begins anew without the configuration there",           500, 0) \
    X(BASE_NOT_PERSISTED,  "a log begins anew before the disk says so",                   200, 0) \
    X(APPENDS_REMEMBERED,  "where a lost term's APPENDs ended counts in the next term",    20, 0) \
    X(ACKS_OF_BEFORE,      "an ACK completes what was acknowledged before its disk went back", 1200, 1)

/* Mistakes of storage, found by crash points (tests/crash). Columns: name, text, crash points. */
#define CO_STORAGE_MUTATION_LIST(X) \
    X(TORN_ACCEPTED,       "a torn record is taken for a whole one",                   25000) \
    X(SEGMENT_EARLY,       "a cut drops segments before the seal is lowered",          25000) \
    X(CONTROL_IN_PLACE,    "the control block is written over itself",                 25000) \
    X(CONTROL_UNSYNCED,    "a start trusts a control block that only the page cache may hold", 60000) \
    X(DIRECTORY_NOT_SYNCED, "the directory of a new segment is not synced",            25000) \
    X(RENAME_NOT_SYNCED,   "a new segment is renamed before it is synced",             25000) \
    X(TAIL_NOT_REWRITTEN,  "a start trusts the unsealed tail instead of writing it again",25000) \
    X(ROT_IS_TORN,         "rot below the seal is taken for a torn tail",              25000) \
    X(TAIL_NOT_ZEROED,     "what lies behind the end is left there",                   25000) \
    X(SEAL_AHEAD,          "the seal speaks of what is not durable yet",               25000) \
    X(HISTORY_AFTER_BLOCK, "the control block names a history that is not there yet",  25000) \
    X(REGISTRY_UNSYNCED,   "a change of the registry is answered before it is synced", 25000) \
    X(REGISTRY_FROM_CACHE, "a start trusts changes of the registry that only the cache may hold", 90000) \
    X(REGISTRY_ONE_COPY,   "a change of the registry with one rotten copy is taken for cut off", 60000) \
    X(WITNESS_FROM_CACHE,  "what was read of other disks is written over before it is durable", 120000) \
    X(DROP_BEFORE_BLOCK,   "segments go before the control block says where the log begins", 60000) \
    X(EMPTIED_UNTOLD,      "a log is emptied without a word in the control block",      60000)

/* Mistakes of the storage above the log; tests/fullsim finds them. Columns: name, text, seeds. */
#define CO_SYSTEM_MUTATION_LIST(X) \
    X(DELTA_WRONG_BASE,  "a delta is made against a version that is not the one at its base",   10) \
    X(CACHE_KEPT,        "cached pages of a lost term stay",                                    30) \
    X(CHANGE_MISSED,     "closing a gap in what is known misses a changed page",                10) \
    X(FETCHED_OPEN,      "a page that was fetched for an old snapshot is taken for the newest", 10) \
    X(DISK_STALE,        "a page of the disk cache is believed beyond what it is known to be good for", 10) \
    X(DISK_UNCOMMITTED,  "a page that a lost term may take back is kept in the disk cache (M8)", 10) \
    X(EPOCH_IS_LSN,      "an LSN that a lost term had is taken for the same state (M8)",        10) \
    X(HANDLES_SURVIVE,   "a transaction on a lost snapshot goes on (M8)",                       10) \
    X(PIN_LOST,          "a writer's snapshot ends when SQLite changes its read slot (M1)",     10) \
    X(STALE_WRITE,       "a write on an old snapshot is let through (M2)",                      10) \
    X(TIP_NOT_SETTLED,   "a reader of the tip does not wait until that is committed (M7)",      30) \
    X(STRICT_SKIPPED,    "a pin does not ask where the log ends",                               10) \
    X(UNKNOWN_SAID_LOST, "an outcome that is unknown is told as a failure",                     10) \
    X(PAGES_NEWEST,      "the pageserver serves the newest version, not that at the LSN",       10) \
    X(PAGES_UNINGESTED,  "the pageserver serves before it has the log up to there",             10) \
    X(PACK_UNWRITTEN,    "what a transaction gathers of a page is not written at its end",      10) \
    X(BRANCH_ABOVE,      "a branch reads its ancestor above the branch point",                  10) \
    X(IMAGE_UNNOTICED,   "a disk that went back in time is not compared with what others know", 10) \
    X(WITNESS_UNREAD,    "what is known of other disks is not read at a start",                 100) \
    X(REGRESSED_FORGOTTEN, "a safekeeper whose disk went back takes part after a restart",      10) \
    X(ARCHIVED_UNPUT,    "a manifest tells of log whose object could not be put (V1)",          30) \
    X(ARCHIVED_ASSUMED,  "safekeepers are told that all is archived which a round was for (V8)", 10)
/* clang-format on */

enum co_mutation {
    CO_MUTATION_NONE,
#define CO_X(name, text, seeds, slow) CO_MUTATION_##name,
    CO_MUTATION_LIST(CO_X)
#undef CO_X
#define CO_X(name, text, points) CO_MUTATION_##name,
        CO_STORAGE_MUTATION_LIST(CO_X)
#undef CO_X
#define CO_X(name, text, seeds) CO_MUTATION_##name,
            CO_SYSTEM_MUTATION_LIST(CO_X)
#undef CO_X
                CO_MUTATION_COUNT
};

#ifdef CO_MUTATIONS
extern enum co_mutation co_mutation; /* set by the simulator alone */
#define co_mutated(name) (co_mutation == CO_MUTATION_##name)
#else
#define co_mutated(name) false
#endif

#endif
