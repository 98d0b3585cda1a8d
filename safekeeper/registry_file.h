/*
 * registry_file.h - the registry on the disk: a base, and the changes since.
 *
 * DIR/registry. The base is written as a whole (temporary file, fsync, rename, fsync of the
 * directory); a change is appended and synced, so that making a timeline costs the same whatever
 * number there is. When the changes outgrow the base it is written anew.
 *
 *      0   8  magic "CORALREG"
 *      8   4  format version: 2 (1: no padding and no changes, is read)
 *     12   4  number of entries of the base
 *     16   8  sequence of the base
 *     24   4  CRC-32C of the bytes before
 *     28   4  zero
 *     32      entries, ascending by timeline id: {u32 length, u32 CRC-32C, a packed Timeline
 *             message}; then zeros up to a multiple of 512
 *             changes, each twice; a copy begins at a multiple of 512:
 *      0   4    length of the message
 *      4   4    CRC-32C of the four bytes before, and of those behind up to the message's end
 *      8   8    sequence, one more than that of the change before
 *     16        a packed Timeline message; zeros up to a multiple of 512
 *
 * Why twice: the last change may have been cut off by a crash, and then nobody was told of it; or
 * it was told, and one of its bytes has rotted. In the first case both copies may be unsound, in
 * the second one is sound. Two unsound copies with a later change behind them are damage.
 *
 * A start that finds changes writes the base anew: the last one may be in the page cache only
 * (docs/decisions/0025).
 *
 * Threads: the loop thread; `sk_registry_write` alone may run on another, on bytes of its own.
 */
#ifndef CORALLITE_SAFEKEEPER_REGISTRY_FILE_H
#define CORALLITE_SAFEKEEPER_REGISTRY_FILE_H

#include "safekeeper/io_file.h"
#include "safekeeper/registry.h"

/* Changes beyond this, and beyond the size of the base, have it written anew. */
#define SK_REWRITE_BYTES (256 * CO_KIB)

/* CO_ERR_NOT_FOUND when there is no file. CO_ERR_CORRUPT, CO_ERR_VERSION with a sentence. */
CO_MUST_CHECK int sk_registry_read(const char *dir, struct sk_registry *out);

/* What is to be written for a change. */
struct sk_registry_bytes {
    struct co_buf buf; /* owned */
    uint64_t at;       /* where; 0: it is the whole file */
};

/* The bytes that bring `entry` into the file (NULL: none; the file as a whole). */
CO_MUST_CHECK int sk_registry_encode(const struct sk_registry *r, const struct sk_entry *entry,
                                     struct sk_registry_bytes *out);
/* Durable on return. After an error nothing more is written: the owner ends its service. */
CO_MUST_CHECK int sk_registry_write(const char *dir, const struct sk_registry_bytes *bytes);
/* Takes notice that they are written; the sk_registry_put of their entry follows. */
void sk_registry_written(struct sk_registry *r, const struct sk_registry_bytes *bytes);

#endif
