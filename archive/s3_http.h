/*
 * s3_http.h - one request to a store: signed anew for each try, sent, tried again while that can
 * help.
 *
 * A client has one connection, which is kept open, and one user at a time; cancel and deadline end
 * a transfer or a wait within a second. Redirections are not followed: they would send a signature
 * elsewhere.
 */
#ifndef CORALLITE_ARCHIVE_S3_HTTP_H
#define CORALLITE_ARCHIVE_S3_HTTP_H

#include <stdatomic.h>

#include "archive/s3_retry.h"
#include "archive/s3_sign.h"
#include "archive/s3_url.h"

#define S3_ID_TEXT 33

struct s3_client;

struct s3_request {
    const char *method, *name; /* name: the key below the prefix; NULL: the bucket itself */
    struct s3_pair query[6], headers[6]; /* beside those of the signature */
    unsigned n_query, n_headers;
    struct co_span body;
    size_t answer_max_bytes; /* of a good answer's body; more is an error */
    const char *doing;       /* "put", for sentences */
    bool writing;
};

struct s3_answer {
    long status;
    struct co_buf body;
    struct s3_trouble trouble;                   /* of a status of 300 and above */
    char etag[100];                              /* without its quotes */
    char sha256[S3_SHA256_TEXT], id[S3_ID_TEXT]; /* x-amz-meta-corallite-*; "" none */
    char encryption[32];                         /* x-amz-server-side-encryption */
    char date[40];
    uint64_t length;       /* content-length. UINT64_MAX: not told, also below */
    uint64_t first, total; /* of a content-range: its first byte, and the size of the whole */
};

/* Credentials are read from the environment here. `canceled` is borrowed as long as the client is
 * there. */
CO_MUST_CHECK int s3_client_new(const struct s3_url *url, const char *archive_url,
                                uint32_t timeout_ms, atomic_bool *canceled, struct s3_client **out);
void s3_client_free(struct s3_client *c);

/* Calls made from now on share one deadline. */
void s3_begin(struct s3_client *c);
/* 0: the store answered, with whatever status it will not change (2xx, 3xx, 4xx, 501...); the
 * caller frees `a` with s3_answer_free in any case. Else CO_ERR_CONNECT, TIMEOUT, BUSY, CANCELED,
 * IO or NOMEM, with a sentence. */
CO_MUST_CHECK int s3_call(struct s3_client *c, const struct s3_request *r, struct s3_answer *a);
void s3_answer_free(struct s3_answer *a);
/* The sentence for a status that the caller did not expect. */
CO_MUST_CHECK int s3_refused(struct s3_client *c, const struct s3_request *r,
                             const struct s3_answer *a);
/* Waits before try number `tries` + 1; CO_ERR_CANCELED or TIMEOUT. */
CO_MUST_CHECK int s3_pause(struct s3_client *c, unsigned tries, const char *what);

#endif
