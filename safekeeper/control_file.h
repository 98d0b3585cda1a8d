/*
 * control_file.h - the control block of a timeline: what a voter must never forget.
 *
 * DIR/timelines/<id>/control, two slots of 4096 bytes. A write with sequence s goes to slot s % 2,
 * so the previous one stays whole while the new one is being written.
 *
 *   slot (little-endian)
 *      0   8  magic "CORALCTL"
 *      8   4  format version: 1; 2 with a suspect LSN, which an older build must not overlook; 3
 *             with a base
 *     12   4  node id
 *     16   8  sequence
 *     24  16  cluster id
 *     40  16  timeline id
 *     56  16  disk uuid
 *     72   8  term
 *     80  16  nonce that got this node's vote in that term
 *     96   8  start LSN of the timeline
 *    104  16  chain digest there
 *    120   8  commit LSN (lazy lower bound)
 *    128   8  sealed LSN: everything below was durable when this block was written
 *    136   8  floor LSN
 *    144   4  flags: 1 no lease is out, 2 closed cleanly, 4 halted
 *    148   4  number of history entries
 *    152   8  sequence of the history copy
 *    160  16  digest of the history's entries
 *    176  16  boot id of the kernel that it was written under
 *    192 512  halted: a sentence, zero-terminated
 *    704   8  suspect LSN: the log may have reached so far before it was cut; 0: no doubt
 *    712   8  suspect term
 *    720   8  base LSN: the log is kept from here on; 0: from its start
 *    728  16  chain digest there
 *    744   4  flags: 1 by the configuration there this node has left, 2 the log is being emptied
 *    748   4  the configuration there: version
 *    752   4  number of members
 *    756   4  number of new members
 *    760 280  members, then new members, each {node id u32, disk uuid}; the rest zero
 *   1040      zero
 *   4092   4  CRC-32C of the bytes before
 *
 * Invariants
 *   C1 the newest sound slot holds; a slot with the wrong parity of its sequence is not sound.
 *   C2 both slots unsound: the file is refused, never guessed.
 *   C4 before the first write after an open the slot that was read is written again.
 *   C3 a history that the block names is on disk before the block is.
 *   C5 the block says where the log begins before any file below is removed; while it says that
 *      the log is being emptied, no file of it counts.
 *
 * A slot that is unsound may be a write that a crash interrupted (then nobody relied on it) or rot.
 * So that rot of one slot forgets no vote, the owner writes the block once more when it is idle
 * after a change: then both slots tell the same term and vote.
 *
 * Threads: one user a file.
 */
#ifndef CORALLITE_SAFEKEEPER_CONTROL_FILE_H
#define CORALLITE_SAFEKEEPER_CONTROL_FILE_H

#include <stdbool.h>

#include "common/id.h"
#include "safekeeper/acceptor.h"
#include "safekeeper/io_file.h"

#define SK_CONTROL_SLOT_BYTES 4096u
#define SK_HALTED_TEXT        512
#define SK_CONTROL_VERSION    3u
#define SK_CONTROL_LAST       (UINT64_MAX - 1) /* sequence; the next one is not read */

/* Whose files these are: checked at every open. */
struct sk_owner {
    struct co_id cluster, timeline, disk;
    uint32_t node;
};

struct sk_control {
    uint64_t sequence; /* set by the write */
    struct sk_owner owner;
    term_t term;
    struct co_id voted_nonce;
    lsn_t start_lsn, commit_lsn, sealed_lsn, floor_lsn;
    struct wal_digest start_digest;
    bool no_lease, clean;
    uint32_t history_n;
    uint64_t history_sequence;
    struct wal_digest history_digest;
    struct co_id boot_id;
    char halted[SK_HALTED_TEXT]; /* "": not halted */
    lsn_t suspect_lsn;           /* 0: no doubt */
    term_t suspect_term;
    struct sk_base base; /* lsn 0: the log is kept from its start on */
    bool emptying;       /* it is to be empty, and begin at the base */
};

struct sk_control_file {
    int fd;
    char path[SK_PATH_MAX];
    uint64_t sequence; /* of the newest sound slot */
};

/* Makes the file with both slots (sequences 1 and 2), durable but for the directory entry. */
CO_MUST_CHECK int sk_control_create(const char *path, struct sk_control *control);
/* Opens and reads. CO_ERR_CORRUPT (both slots unsound, or another owner's), CO_ERR_VERSION,
 * CO_ERR_NOT_FOUND. */
CO_MUST_CHECK int sk_control_open(const char *path, const struct sk_owner *owner,
                                  struct sk_control_file *file, struct sk_control *out);
/* Writes the next sequence; durable on return. CO_ERR_CORRUPT: there is none. */
CO_MUST_CHECK int sk_control_write(struct sk_control_file *file, struct sk_control *control);
/* Writes the block that was read once more into its own slot, the same bytes; durable on return. At
 * start: the slot that was read may be one whose sync failed, in the page cache only, and the next
 * write goes over the other one. */
CO_MUST_CHECK int sk_control_renew(struct sk_control_file *file, struct sk_control *control);
void sk_control_close(struct sk_control_file *file);

#endif
