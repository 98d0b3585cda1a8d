/*
 * store.h - where an archive lies: named objects that never change. A directory (dir_file.c) or
 * whatever else keeps bytes under names; the archive is written against this and nothing else.
 *
 * An object is there whole or not at all, under its name for ever, until it is removed; whoever
 * has been told that it is there finds it after any crash or power loss. Nothing is ever
 * overwritten: what changes (a manifest) gets a new name each time, and the conditional put decides
 * between two who want the same one.
 *
 * Names: 1 to AR_NAME_MAX_BYTES of [a-z0-9._-], in parts parted by single '/', no part empty or
 * beginning with '.'. Object names are not prefixes of each other's directories: where "a/b" is an
 * object, "a/b/c" is none.
 *
 * Threads: calls block, for seconds where a network is slow, so they belong on a worker's thread; a
 * store has one user at a time. ar_cancel alone may come from any thread.
 *
 * Errors carry a sentence that names the object and the place.
 *   CO_ERR_NOT_FOUND  there is no such object (get); the place is not there (open)
 *   CO_ERR_EXISTS     the name is taken: by other bytes (put), by anything (put_if_absent)
 *   CO_ERR_INVAL      the URL, or a name, is none
 *   CO_ERR_TOO_LARGE  more than AR_OBJECT_MAX_BYTES
 *   CO_ERR_FULL, CO_ERR_READONLY   the place takes nothing more, or not from us
 *   CO_ERR_CONNECT, CO_ERR_TIMEOUT, CO_ERR_BUSY, CO_ERR_IO   ask again later
 *   CO_ERR_CANCELED   ar_cancel was called
 * After any error but INVAL, TOO_LARGE and EXISTS a put may have taken place nevertheless; it is
 * repeated with the same bytes.
 */
#ifndef CORALLITE_ARCHIVE_STORE_H
#define CORALLITE_ARCHIVE_STORE_H

#include <stdbool.h>

#include "common/bytes.h"
#include "proto/limits.h"

#define AR_NAME_MAX_BYTES   400u
#define AR_URL_MAX_BYTES    1024u
#define AR_OBJECT_MAX_BYTES (64 * CO_MIB)

struct ar_store;

struct ar_options {
    bool make;           /* a directory that is not there is made (its parent exists) */
    bool read_only;      /* nothing is made or written, leftovers are not cleared either */
    uint32_t timeout_ms; /* of one call where there is a network; 0: 60 s */
};

/* "dir:/absolute/path", "s3://bucket/prefix?..." (s3_url.h). Options may be NULL: all zero. */
CO_MUST_CHECK int ar_open(const char *url, const struct ar_options *options, struct ar_store **out);
void ar_close(struct ar_store *store); /* NULL: nothing */
/* The URL as opened, without anything secret. Borrowed while the store is open. */
const char *ar_url(const struct ar_store *store);
/* The call that runs now and every later one end soon with CO_ERR_CANCELED. Any thread. */
void ar_cancel(struct ar_store *store);

/* 0: the object is there, with these bytes, durably; also when it was before. */
CO_MUST_CHECK int ar_put(struct ar_store *store, const char *name, struct co_span bytes);
/* 0: there was none, and of all who tried at once this caller alone was told 0. A caller whose own
 * earlier try may have taken place reads what is there and knows it by its content. */
CO_MUST_CHECK int ar_put_if_absent(struct ar_store *store, const char *name, struct co_span bytes);
/* Appends the bytes [offset, offset + length) of an object to `out`, fewer where it ends before;
 * *size_bytes (may be NULL) is the whole object's. Length 0 only asks for the size. */
CO_MUST_CHECK int ar_get(struct ar_store *store, const char *name, uint64_t offset, size_t length,
                         struct co_buf *out, uint64_t *size_bytes);
/* All names that begin with `prefix` (any string, "" for all) and are greater than `after` (NULL:
 * from the first), in the order of strcmp. What `fn` returns other than 0 ends it and is returned.
 * `fn` may call nothing of this store. What is put or removed meanwhile may be missed. */
typedef int (*ar_list_fn)(void *arg, const char *name, uint64_t size_bytes);
CO_MUST_CHECK int ar_list(struct ar_store *store, const char *prefix, const char *after,
                          ar_list_fn fn, void *arg);
/* 0 also when there is none. */
CO_MUST_CHECK int ar_remove(struct ar_store *store, const char *name);

/* 0, or CO_ERR_INVAL with a sentence. */
CO_MUST_CHECK int ar_name_check(const char *name);

#endif
