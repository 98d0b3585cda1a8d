/*
 * s3_sign.h - AWS Signature Version 4 for S3: what a request must say so that the store knows who
 * asks, and that nobody has changed it. Pure: keys, time and request go in, text comes out.
 *
 * Path, query and headers are given raw, as bytes; here they are escaped once (everything but A-Z
 * a-z 0-9
 * - . _ ~, and / within the path), and what is sent is exactly what was signed (s3_target). All
 * headers that are given are signed; "host" and "x-amz-date" must be among them.
 */
#ifndef CORALLITE_ARCHIVE_S3_SIGN_H
#define CORALLITE_ARCHIVE_S3_SIGN_H

#include "common/bytes.h"

#define S3_PAIRS_MAX     16
#define S3_SHA256_TEXT   65
#define S3_MD5_TEXT      33
#define S3_TIME_TEXT     17 /* "20130524T000000Z" */
#define S3_EMPTY_PAYLOAD "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct s3_pair {
    const char *name; /* of a header: in lower case */
    const char *value;
};

struct s3_message {
    const char *method, *path; /* path: from '/' on */
    struct s3_pair query[S3_PAIRS_MAX], headers[S3_PAIRS_MAX];
    unsigned n_query, n_headers;
    const char *payload_sha256; /* hex of the body's digest */
};

struct s3_keys {
    const char *id, *secret;
};

/* Lower-case hex of a digest. The MD5 is "" where the library may not compute it. */
void s3_sha256_text(struct co_span bytes, char out[S3_SHA256_TEXT]);
void s3_md5_text(struct co_span bytes, char out[S3_MD5_TEXT]);

/* Appends path and query as they are sent: "/a%20b?x=1". */
CO_MUST_CHECK int s3_target(const struct s3_message *m, struct co_buf *out);
/* Appends the value of the header Authorization. `time` is that of x-amz-date. */
CO_MUST_CHECK int s3_authorization(const struct s3_message *m, const struct s3_keys *keys,
                                   const char *region, const char *time, struct co_buf *out);

#endif
