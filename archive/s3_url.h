/*
 * s3_url.h - what "s3://bucket/prefix?name=value" means: which host is asked, and where below it.
 * Pure.
 *
 *   endpoint=URL           "http(s)://host[:port][/path]"; else AWS_ENDPOINT_URL; else Amazon's of
 * the region region=WORD            else AWS_REGION, AWS_DEFAULT_REGION, us-east-1
 *   style=path|virtual     is the bucket in the path or in the host's name? virtual at Amazon, else
 * path; a bucket with a dot in its name is in the path, since no certificate would fit it
 *
 * Credentials are never part of it.
 */
#ifndef CORALLITE_ARCHIVE_S3_URL_H
#define CORALLITE_ARCHIVE_S3_URL_H

#include <stdbool.h>

#include "common/error.h"

#define S3_PREFIX_MAX_BYTES 200

struct s3_url {
    char bucket[64];
    char prefix[S3_PREFIX_MAX_BYTES + 2]; /* "" or "a/b/": what all keys begin with */
    char region[64];
    char origin[340]; /* "https://host[:port]" */
    char root[400];   /* what the path of a key begins with: "/" or "/bucket/" */
};

/* `rest` is what follows "s3:". The two from the environment may be NULL. CO_ERR_INVAL, with a
 * sentence that says what is wanted. */
CO_MUST_CHECK int s3_url_parse(const char *rest, const char *environment_endpoint,
                               const char *environment_region, struct s3_url *out);

#endif
