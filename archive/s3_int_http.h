/* s3_int_http.h - what the files of an archive in a bucket share. */
#ifndef CORALLITE_ARCHIVE_S3_INT_HTTP_H
#define CORALLITE_ARCHIVE_S3_INT_HTTP_H

#include "archive/s3_http.h"
#include "archive/store_int.h"
#include "proto/limits.h"

/* What is ours in the bucket and no object: a part that begins with a dot is no object's name. */
#define S3_OWN      ".corallite/"
#define S3_PROBE    S3_OWN "conditional"
#define S3_CLAIM    S3_OWN "claims/" /* ../NAME/.of/SECONDS-ID */

#define S3_NAME_MAX (AR_NAME_MAX_BYTES + 100)

enum s3_conditional { S3_UNTRIED, S3_HAS_CONDITIONS, S3_HAS_NONE };

struct s3_store {
    struct ar_store base;
    struct s3_client *client;
    struct s3_url url;
    enum s3_conditional conditional;
};

/* What is known of an object without its bytes. */
struct s3_seen {
    bool there;
    uint64_t size;
    char sha256[S3_SHA256_TEXT], id[S3_ID_TEXT]; /* "" not told */
};

/* Is there an object, and whose? */
CO_MUST_CHECK int s3_look(struct s3_store *s, const char *name, struct s3_seen *out);
/* As ar_get. */
CO_MUST_CHECK int s3_get(struct s3_store *s, const char *name, uint64_t offset, size_t length,
                         struct co_buf *out, uint64_t *size_bytes);
/* Every key below the archive's prefix that begins with `prefix` and is greater than `after`,
 * whatever its name is; otherwise as ar_list. renew: each page has the whole time of a call. */
CO_MUST_CHECK int s3_keys_each(struct s3_store *s, const char *prefix, const char *after,
                               ar_list_fn fn, void *arg, bool renew);
CO_MUST_CHECK int s3_delete(struct s3_store *s, const char *name);

/* ar_put, ar_put_if_absent (s3_put_http.c). */
CO_MUST_CHECK int s3_put(struct s3_store *s, const char *name, struct co_span bytes,
                         bool if_absent);

/* A put on its way: what the object will carry beside its bytes. */
struct s3_new {
    const char *name;
    struct co_span bytes;
    char id[S3_ID_TEXT], sha256[S3_SHA256_TEXT];
    bool conditional; /* the store is to refuse a name that is taken */
};
enum { S3_TAKEN = 1, S3_UNCONDITIONAL = 2 }; /* beside 0 and errors */
/* In one request: 0, S3_TAKEN, S3_UNCONDITIONAL (the store cannot decide), or an error. */
CO_MUST_CHECK int s3_put_whole(struct s3_store *s, const struct s3_new *n);
/* In parts (s3_parts_http.c); the same. What was sent is taken back when it fails. */
CO_MUST_CHECK int s3_put_parts(struct s3_store *s, const struct s3_new *n);
/* Compares an answer's ETag with the bytes it stands for, where it is their MD5. */
CO_MUST_CHECK int s3_check_etag(struct s3_store *s, const char *name, const struct s3_answer *a,
                                struct co_span bytes);
/* Was a put that is answered "taken" (or not at all) the one that took it? */
CO_MUST_CHECK int s3_is_ours(struct s3_store *s, const struct s3_new *n, bool *ours);

/* With the store's name to oneself, where it has no conditional writes (s3_claim_http.c): looks,
 * and puts. */
CO_MUST_CHECK int s3_put_claimed(struct s3_store *s, struct s3_new *n);

#endif
