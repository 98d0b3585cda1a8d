/*
 * registry_file.h - all timelines that this safekeeper ever held, tombstones included.
 *
 * DIR/registry, replaced as a whole (temporary file, fsync, rename, fsync of the directory):
 *      0   8  magic "CORALREG"
 *      8   4  format version (1)
 *     12   4  number of entries
 *     16   8  sequence, one more at every write
 *     24   4  CRC-32C of the bytes before
 *     28   4  zero
 *     32      entries, ascending by timeline id: {u32 length, u32 CRC-32C, a packed Timeline
 * message}
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
 * In memory: an array sorted by id. Threads: the loop thread; `sk_registry_write` alone may run on
 * another, on bytes of its own.
 */
#ifndef CORALLITE_SAFEKEEPER_REGISTRY_FILE_H
#define CORALLITE_SAFEKEEPER_REGISTRY_FILE_H

#include "proto/corallite.pb-c.h"
#include "proto/wal.h"
#include "safekeeper/followers.h"
#include "safekeeper/io_file.h"

struct sk_entry {
    struct co_id id;
    lsn_t start_lsn;
    struct wal_digest base_digest;
    struct wal_config config; /* at birth */
    uint64_t version;
    Corallite__TimelineState state;
    char name[2 * (CO_NAME_MAX_BYTES + 1)]; /* DB/BRANCH */
    Corallite__Timeline *message;           /* owned */
    void *open;                             /* of the server: what serves it, or NULL */
    lsn_t durable[SK_FOLLOWERS_MAX]; /* what each pageserver that follows has on disk; in memory */
};

struct sk_registry {
    struct sk_entry *e;
    uint32_t n, cap;
    uint64_t sequence;
};

/* CO_ERR_NOT_FOUND when there is no file. CO_ERR_CORRUPT, CO_ERR_VERSION with a sentence. */
CO_MUST_CHECK int sk_registry_read(const char *dir, struct sk_registry *out);
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
/* The bytes of the file as they will be with `entry` in it. */
CO_MUST_CHECK int sk_registry_encode(const struct sk_registry *r, const struct sk_entry *entry,
                                     struct co_buf *out);
CO_MUST_CHECK int sk_registry_write(const char *dir, struct co_span bytes);
/* Puts it in memory, after the write. Takes the entry (emptied). Keeps `open` of a replaced one. */
CO_MUST_CHECK int sk_registry_put(struct sk_registry *r, struct sk_entry *entry);

#endif
