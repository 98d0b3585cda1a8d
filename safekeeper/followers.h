/*
 * followers.h - the pageservers that follow this safekeeper's logs, and how far each is durable.
 *
 * A pageserver is known by the disk id of its directory. It is known from its first Hello on, and
 * for ever: until somebody says that it does not follow any more (`corallite pageserver forget`).
 * Who follows is durable (followers_file.h); how far they are is not: after a start it counts as
 * nothing until they have said it again, which they do with every STREAM.
 *
 * So what every one of them has of a timeline (sk_followers_floor) is never more than what they
 * have on disk, and what a follower lacks that is away, or that never came to this timeline, lies
 * above it. Pure.
 */
#ifndef CORALLITE_SAFEKEEPER_FOLLOWERS_H
#define CORALLITE_SAFEKEEPER_FOLLOWERS_H

#include "common/id.h"
#include "proto/corallite.pb-c.h"
#include "proto/limits.h"
#include "proto/lsn.h"

#define SK_FOLLOWERS_MAX 8u

struct sk_follower {
    struct co_id disk;                   /* zero: the slot is free */
    char address[CO_HOST_MAX_BYTES + 8]; /* where it serves, as it said; "" */
    uint64_t heard_us; /* wall clock of its last STREAM; 0: none since the start */
};

struct sk_followers {
    struct sk_follower e[SK_FOLLOWERS_MAX];
};

/* The slot of a pageserver; SK_FOLLOWERS_MAX: it is not known. */
uint32_t sk_followers_find(const struct sk_followers *f, const struct co_id *disk);
uint32_t sk_followers_count(const struct sk_followers *f);
/* *slot is its own from now on. *changed: who follows, or where it serves, has changed and is to be
 * made durable. CO_ERR_FULL: there are SK_FOLLOWERS_MAX. */
CO_MUST_CHECK int sk_followers_add(struct sk_followers *f, const struct co_id *disk,
                                   const char *address, uint32_t *slot, bool *changed);
/* It follows no more. The caller sets durable[slot] of every timeline to LSN_NONE. */
void sk_followers_forget(struct sk_followers *f, uint32_t slot);
/* Of a timeline with these positions: every pageserver that follows has all below on its disk.
 * LSN_NONE: one of them has not said anything yet, or nobody follows: nothing may go. */
lsn_t sk_followers_floor(const struct sk_followers *f, const lsn_t durable[SK_FOLLOWERS_MAX]);

/* From the wire, and from the file. CO_ERR_PROTOCOL: two of one disk, none, too many. */
CO_MUST_CHECK int sk_followers_from_wire(const Corallite__Pageservers *message,
                                         struct sk_followers *out);
/* The message, who and where only; it borrows from `f` and `out`. */
struct sk_followers_message {
    Corallite__Pageservers pb;
    Corallite__Pageservers__One one[SK_FOLLOWERS_MAX], *list[SK_FOLLOWERS_MAX];
    uint32_t slot[SK_FOLLOWERS_MAX]; /* of each */
};
void sk_followers_to_wire(const struct sk_followers *f, struct sk_followers_message *out);

#endif
