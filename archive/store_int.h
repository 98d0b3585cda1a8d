/* store_int.h - what an implementation of store.h gives. A new one is a file with its open
 * function, declared here, and a row in store.c's table of schemes. store.c has checked names,
 * lengths and read_only before an implementation is called. */
#ifndef CORALLITE_ARCHIVE_STORE_INT_H
#define CORALLITE_ARCHIVE_STORE_INT_H

#include <stdatomic.h>

#include "archive/store.h"

struct ar_store;

struct ar_ops {
    void (*close)(struct ar_store *store); /* frees it */
    int (*put)(struct ar_store *store, const char *name, struct co_span bytes);
    int (*put_if_absent)(struct ar_store *store, const char *name, struct co_span bytes);
    int (*get)(struct ar_store *store, const char *name, uint64_t offset, size_t length,
               struct co_buf *out, uint64_t *size_bytes);
    int (*list)(struct ar_store *store, const char *prefix, const char *after, ar_list_fn fn,
                void *arg);
    int (*remove)(struct ar_store *store, const char *name);
};

/* The first member of an implementation's own struct. The implementation fills `ops`; store.c the
 * rest. */
struct ar_store {
    const struct ar_ops *ops;
    struct ar_options options;
    atomic_bool canceled;
    char url[AR_URL_MAX_BYTES];
};

/* `rest` is what follows "scheme:" in the URL. */
typedef int (*ar_open_fn)(const char *rest, const struct ar_options *options,
                          struct ar_store **out);
CO_MUST_CHECK int ar_dir_open(const char *rest, const struct ar_options *options,
                              struct ar_store **out);
CO_MUST_CHECK int ar_s3_open(const char *rest, const struct ar_options *options,
                             struct ar_store **out);

#endif
