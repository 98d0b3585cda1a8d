/*
 * recent.h - the newest records of a timeline, in the messages that they came in.
 *
 * A message is counted: the event queue, the jobs of the store and this ring hold it. The ring is
 * gapless and ascending; what is older than SK_RECENT bytes falls out. No I/O; one thread.
 */
#ifndef CORALLITE_SAFEKEEPER_RECENT_H
#define CORALLITE_SAFEKEEPER_RECENT_H

#include "proto/qmsg.h"

struct sk_message {
    uint32_t refs;
    struct frame_header frame;
    struct co_buf body;
    struct qmsg_scratch scratch;
    struct q_msg msg; /* borrows from body and scratch */
};

/* Copies the body and decodes it. One reference, the caller's. CO_ERR_PROTOCOL, CO_ERR_NOMEM. */
CO_MUST_CHECK int sk_message_new(const struct frame_header *frame, struct co_span body,
                                 struct sk_message **out);
struct sk_message *sk_message_hold(struct sk_message *m);
void sk_message_drop(struct sk_message *m);

#define SK_RECENT_SLOTS 256u

struct sk_recent {
    struct {
        struct sk_message *message;
        lsn_t lsn;
        struct co_span bytes; /* whole records, in the message */
    } slot[SK_RECENT_SLOTS];
    uint32_t head, n;
    uint64_t bytes;
};

/* Takes notice of an append. Holds the message unless it is larger than max_bytes; then the ring is
 * empty. */
void sk_recent_add(struct sk_recent *r, struct sk_message *m, lsn_t lsn, struct co_span bytes,
                   uint64_t max_bytes);
void sk_recent_clear(struct sk_recent *r);
/* Appends whole records of [from, to) to out, at most max_bytes but at least one. false: `from` is
 * not in the ring (or no memory): ask the files. */
bool sk_recent_read(const struct sk_recent *r, lsn_t from, lsn_t to, uint64_t max_bytes,
                    struct co_buf *out);
/* Number of records in bytes that were checked. */
uint64_t sk_count_records(struct co_span bytes);

#endif
