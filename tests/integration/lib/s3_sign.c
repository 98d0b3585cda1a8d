/*
 * s3_sign.c - signs what it is told with archive/s3_sign.c, for test_archive_s3.py. A request a
 * line, its parts in hex between blanks, "-" for an empty one:
 *
 *   KEY SECRET REGION TIME METHOD PATH BODY N_QUERY {NAME VALUE} N_HEADERS {NAME VALUE}
 *
 * and for each a line: what is sent as target, a blank, the value of Authorization in hex.
 */
#include <stdio.h>
#include <stdlib.h>

#include "archive/s3_sign.h"

static char line[1 << 20], *cursor;

static char *word(void)
{
    return strtok_r(NULL, " \n", &cursor);
}

/* The next part of the line, decoded in place. */
static char *part(size_t *len)
{
    char *begin = word(), *out = begin;
    if (!begin)
        exit(2);
    for (const char *p = strcmp(begin, "-") ? begin : begin + 1; *p; p += 2) {
        unsigned byte;
        if (sscanf(p, "%2x", &byte) != 1)
            exit(2);
        *out++ = (char)byte;
    }
    *out = 0;
    if (len)
        *len = (size_t)(out - begin);
    return begin;
}

static unsigned pairs(struct s3_pair *out)
{
    const char *text = word();
    unsigned n = text ? (unsigned)atoi(text) : S3_PAIRS_MAX + 1;
    if (n > S3_PAIRS_MAX)
        exit(2);
    for (unsigned i = 0; i < n; i++) {
        out[i].name = part(NULL);
        out[i].value = part(NULL);
    }
    return n;
}

int main(void)
{
    while (fgets(line, sizeof line, stdin)) {
        struct s3_message m = {0};
        struct s3_keys keys;
        struct co_buf target = {0}, authorization = {0};
        char digest[S3_SHA256_TEXT];
        size_t len;
        cursor = line;
        keys.id = part(NULL);
        keys.secret = part(NULL);
        const char *region = part(NULL), *time = part(NULL);
        m.method = part(NULL);
        m.path = part(NULL);
        const char *body = part(&len);
        s3_sha256_text(co_span_of(body, len), digest);
        m.payload_sha256 = digest;
        m.n_query = pairs(m.query);
        m.n_headers = pairs(m.headers);
        if (s3_target(&m, &target) || s3_authorization(&m, &keys, region, time, &authorization))
            return 1;
        printf("%.*s ", (int)target.len, (const char *)target.data);
        for (size_t i = 0; i < authorization.len; i++)
            printf("%02x", authorization.data[i]);
        putchar('\n');
        co_buf_free(&target);
        co_buf_free(&authorization);
    }
    return 0;
}
