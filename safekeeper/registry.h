/*
 * registry.h - all timelines that this safekeeper ever held, tombstones included. Pure;
 * registry_file.h keeps them.
 *
 * Why it exists: without it a directory that was lost would look like a timeline that never was,
 * and this node would vote again in terms that it has voted in.
 *
 * Invariants
 *   G1 an entry is never removed; a dropped timeline stays DROPPED, a sealed one can only be
 *      dropped.
 *   G2 the higher version wins; an equal or lower one changes nothing.
 *   G3 where a timeline begins (start LSN, ancestor, base digest) never changes.
 *   G4 an entry is written only after the timeline's directory is durable.
 *
 * In memory: an array sorted by id. Threads: the loop thread.
 */
#ifndef CORALLITE_SAFEKEEPER_REGISTRY_H
#define CORALLITE_SAFEKEEPER_REGISTRY_H

#include "proto/corallite.pb-c.h"
#include "proto/wal.h"
#include "safekeeper/followers.h"

#define SK_ENTRY_MAX 8192 /* bytes of a packed Timeline message */

struct sk_entry {
    struct co_id id;
    lsn_t start_lsn;
    struct wal_digest base_digest;
    struct wal_config config; /* at birth */
    term_t born_term;
    uint64_t version;
    Corallite__TimelineState state;
    char name[2 * (CO_NAME_MAX_BYTES + 1)]; /* DB/BRANCH */
    Corallite__Timeline *message;           /* owned */
    lsn_t durable[SK_FOLLOWERS_MAX]; /* what each pageserver that follows has on disk; in memory */
    lsn_t
        archived; /* so far the archive has it, as its owner says; LSN_NONE: not known; in memory */
    /* of the server (rest_uv.c) */
    void *open;         /* what serves it, or NULL */
    uint32_t holders;   /* connections that lead it, or have wanted to */
    lsn_t rest_lsn;     /* commit LSN while it is not open; 0: not known */
    lsn_t rest_base;    /* where its log begins while it is not open; 0: not known */
    bool trim_look;     /* while it is not open more was told that may go (trim_uv.c) */
    bool trim_opened;   /*   and so it was opened */
    uint64_t closed_us; /* when it was closed to rest; 0: it was not */
    bool here;          /* start: its directory is there */
};

struct sk_registry {
    struct sk_entry *e;
    uint32_t n, cap;
    uint64_t sequence; /* one more with every change */
    /* of the file: bytes of its base, and where the next change goes; 0: as a whole */
    uint64_t base_bytes, end_bytes;
    uint64_t rewrite_bytes; /* so many bytes of changes are left to gather; 0: SK_REWRITE_BYTES */
};

void sk_registry_free(struct sk_registry *r);

/* Borrowed until the next sk_registry_put. */
struct sk_entry *sk_registry_find(const struct sk_registry *r, const struct co_id *id);
/* First entry with an id above `after` (NULL: the first of all). */
struct sk_entry *sk_registry_after(const struct sk_registry *r, const struct co_id *after);

/* Checks a message from the network and makes an entry of it. The message stays the caller's.
 * CO_ERR_INVAL, CO_ERR_NAME. */
CO_MUST_CHECK int sk_entry_parse(const Corallite__Timeline *message, struct sk_entry *out);
void sk_entry_release(struct sk_entry *entry);

enum sk_put { SK_PUT_NOTHING, SK_PUT_CHANGE, SK_PUT_CREATE };
/* What `entry` would do to the registry (G1 to G3). CO_ERR_DROPPED: the stored one is a tombstone
 * and the new one is newer and none; CO_ERR_READONLY: the same of a sealed one; CO_ERR_INVAL:
 * begins elsewhere. */
CO_MUST_CHECK int sk_registry_judge(const struct sk_registry *r, const struct sk_entry *entry,
                                    enum sk_put *what);
/* Puts it in memory. Takes the entry (emptied). Keeps what the server knows of a replaced
 * one. CO_ERR_NOMEM. */
CO_MUST_CHECK int sk_registry_put(struct sk_registry *r, struct sk_entry *entry);

#endif
