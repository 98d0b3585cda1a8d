/*
 * qmsg.h - the messages of the quorum log, as the cores see them.
 *
 * One plain struct; which fields a type uses is the table below. proposer and acceptor speak only
 * this; qmsg_encode and qmsg_decode (qmsg.c) turn it into frame + protobuf + payload and back, for
 * the sockets. A field that a type does not use is zero.
 *
 *   every message: type, timeline, config_version, term (the sender's, but READ_POS: 0)
 *
 *   VOTE      nonce, waited_us (for the lease until now)   compute -> safekeeper
 *   VOTED     nonce (echoed), granted, lease_held, flush_lsn, commit_lsn, floor_lsn, start_lsn,
 *             digest (at flush_lsn), history (cut at flush_lsn), config (in force at flush_lsn),
 *             suspect_lsn, suspect_term (of the last log term there): see below; base_lsn; or, not
 *             asked for, writing: the lease that you wait for is in use
 *   FETCH     from_lsn, to_lsn, fragment_at                proposer -> donor
 *   DATA      from_lsn, to_lsn (of a fragment: end of its record), flush_lsn, history, fragment,
 *             fragment_at, payload: records from from_lsn on (may be fewer than asked); or without
 *             one base_lsn, digest, config: see below
 *   ELECTED   nonce, history, start_lsn (where streaming to this safekeeper begins), sent_us
 *   APPEND    nonce, begin_lsn, commit_lsn, floor_lsn (history may be collapsed below), sent_us,
 *             want_received, fragment, fragment_at, writing (a transaction is open: for those who
 *             wait), payload: records (none: a heartbeat, renews the lease); or without one
 *             base_lsn, digest, config
 *   ACK       nonce (echoed), flush_lsn, write_lsn, commit_lsn, sent_us (echoed), waiters,
 *             staged_bytes, disk_full, base_lsn
 *   RELEASE   nonce: the lease is given up
 *   READ_POS  read_id, want_history
 *   POS       read_id, term, last_log_term, flush_lsn, commit_lsn, config, history (if wanted),
 *             lease_held, suspect_lsn, disk_full
 *   REJECT    term (mine, higher than yours)
 *   REJECT_CONFIG  config (mine, newer than yours)
 *   WAITER    -        pushed to the connection of the lease's holder
 *   FREE      -        pushed to the one whose turn it is, of those whose VOTE was refused because
 *                      of a lease
 *   REGRESSED known    it has proof that its disk went back in time, and takes no part any more
 *
 *   and what is known of safekeepers beside their disks (proto/known.h): known in VOTE, VOTED (the
 *   sender's own entry first), ELECTED, APPEND; fresh in VOTED; known_commit and known_log_term in
 * POS
 *
 * Fragments. A record that is larger than CO_BATCH_BYTES travels in pieces. With `fragment` the
 * payload is not whole records but the bytes from fragment_at on of the one record that begins at
 * begin_lsn (DATA: from_lsn); a FETCH asks for the record at from_lsn from fragment_at on. All LSNs
 * stay boundaries of records: an offset within a record is never one. staged_bytes: so much of the
 * record that begins at write_lsn lies on the safekeeper's disk, and counts for nothing.
 *
 * Suspect. A safekeeper whose start found its log ending below something that it may have
 * acknowledged (damage, or a crash that looks like it) says so with suspect_lsn > flush_lsn until a
 * leader has brought the log back. Its VOTED counts only for a donor whose log is at least
 * (suspect_term, suspect_lsn); its POS counts for no read.
 *
 * Base. A safekeeper may drop the begin of its log once an archive has it. base_lsn of a VOTED or
 * an ACK: from there on the sender keeps it (0: from the timeline's start on). A FETCH below it is
 * answered by a DATA without records, with base_lsn, and digest and configuration in force there. A
 * leader that knows that place to be committed hands it on as an APPEND to whoever ends below it:
 * your log begins here.
 *
 * The codec carries exactly these: a field that the type does not use is not sent, and is zero
 * after decoding whatever the sender wrote. Absent means zero. Checked while decoding: lengths and
 * bounds, that every LSN is a multiple of LSN_ALIGN, that a history ascends, that a configuration
 * is one. What the numbers mean to each other is the cores' business.
 */
#ifndef CORALLITE_PROTO_QMSG_H
#define CORALLITE_PROTO_QMSG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/id.h"
#include "proto/frame.h"
#include "proto/known.h"
#include "proto/lsn.h"
#include "proto/wal.h"

/* Term history: (term, start) ascending in term, non-decreasing in start; says which term wrote
 * each LSN range. Entries wholly below the floor have been collapsed: the first entry then stands
 * for the term at the floor. n <= CO_HISTORY_MAX. */
struct q_term {
    term_t term;
    lsn_t start;
};
struct q_history {
    uint32_t n;
    const struct q_term *e; /* borrowed with the message */
};

struct q_msg {
    enum frame_type type;
    struct co_id timeline;
    uint32_t config_version;
    term_t term;
    struct co_id nonce;
    bool granted, lease_held, want_received, want_history, writing;
    bool disk_full; /* set by the shell of a safekeeper: it takes no records until there is room */
    term_t last_log_term;
    lsn_t begin_lsn, start_lsn, from_lsn, to_lsn;
    lsn_t flush_lsn, write_lsn, commit_lsn, floor_lsn;
    lsn_t suspect_lsn, base_lsn;
    term_t suspect_term;
    uint64_t sent_us, waited_us;
    uint32_t waiters;
    uint64_t read_id;
    bool fragment;
    uint64_t fragment_at, staged_bytes;
    struct wal_digest digest;
    struct wal_config config; /* version 0: absent */
    struct q_history history;
    struct q_known_list known;
    bool fresh;         /* since its start it has followed no leader */
    lsn_t known_commit; /* it has heard that so much is committed; 0: nothing beyond commit_lsn */
    term_t known_log_term;  /*   and whose log has all of it has adopted this term or a later one */
    struct co_span payload; /* borrowed with the message */
};

/* Appends the whole frame (request id 0) to `out`; takes no memory but what `out` grows by.
 * CO_ERR_TOO_LARGE when the payload is more than a frame may hold, CO_ERR_NOMEM; `out` is then as
 * it was. */
CO_MUST_CHECK int qmsg_encode(const struct q_msg *msg, struct co_buf *out);

/* Memory that a decoded message borrows from; reusable, freed by qmsg_scratch_free. Zeroed memory
 * is an empty one. It keeps little: what a long history needed goes with the next short message. */
struct qmsg_scratch {
    struct q_term *terms;
    uint32_t cap;
    uint8_t *arena; /* of the protobuf tree while a message is decoded; not borrowed from */
    struct q_known known[Q_KNOWN_MAX];
};
/* Decodes the body of a frame of a quorum type. *out borrows from `body` and `scratch`.
 * CO_ERR_PROTOCOL, CO_ERR_NOMEM, with a sentence. */
CO_MUST_CHECK int qmsg_decode(const struct frame_header *frame, struct co_span body,
                              struct qmsg_scratch *scratch, struct q_msg *out);
void qmsg_scratch_free(struct qmsg_scratch *scratch);

/* -- Term histories, shared by both cores ------------------------------------------------------ */

/* Term that wrote the byte at `lsn`: of the last entry with start <= lsn; 0 if there is none. */
term_t q_term_at(const struct q_history *h, lsn_t lsn);
/* Term of the last entry with start <= flush. */
term_t q_last_log_term(const struct q_history *h, lsn_t flush);
/* Strictly ascending terms, non-decreasing starts. */
bool q_history_valid(const struct q_history *h);

#endif
