/*
 * s3_retry.h - what an answer of a store means: done, again later, or a sentence for people. Pure.
 *
 * Again: 408, 429, 500, 502, 503, 504, RequestTimeout, and the conflicts of requests that meet (409
 * of a conditional one). Between two tries lies a time drawn evenly from 0 to a bound that doubles
 * from S3_WAIT_MIN_MS to S3_WAIT_MAX_MS (full jitter: those who were refused together do not come
 * back together). At most S3_TRIES tries, and never beyond the call's deadline.
 */
#ifndef CORALLITE_ARCHIVE_S3_RETRY_H
#define CORALLITE_ARCHIVE_S3_RETRY_H

#include <stdbool.h>

#include "common/bytes.h"

#define S3_TRIES       10
#define S3_WAIT_MIN_MS 100
#define S3_WAIT_MAX_MS 10000

/* What an answer with an error says of itself (from its XML, or its headers). Printable text only.
 */
struct s3_trouble {
    char code[64];     /* "SlowDown"; "" unknown */
    char message[200]; /* of the store, for people */
    char region[64];   /* where the bucket is, when the store says so */
};

/* Reads the body of an error. Whatever it is, `out` is filled with what was found. */
void s3_trouble_read(struct co_span body, struct s3_trouble *out);

bool s3_is_temporary(long status, const char *code);
/* Milliseconds before try number `tries` + 1, from 32 random bits. */
uint32_t s3_wait_ms(unsigned tries, uint32_t random);
/* Does the answer say that the store has no conditional writes? */
bool s3_is_unconditional(long status, const char *code);

/* What was asked and what came, for the sentence. */
struct s3_context {
    const char *doing, *name; /* "put", "a/b"; the name may be "" */
    const char *url;          /* of the archive */
    const char *bucket, *origin;
    const char *our_time, *their_time; /* "" unknown */
    bool writing;
};
/* co_fail()s with a sentence that says what to do, and returns its code. `status` is an error's. */
CO_MUST_CHECK int s3_fail(const struct s3_context *c, long status, const struct s3_trouble *t);

#endif
