#include "archive/s3_retry.h"

#include <stdio.h>

#include "archive/s3_xml.h"

static void copy_printable(char *out, size_t cap, const char *text)
{
    size_t n = 0;
    for (; *text && n + 1 < cap; text++)
        out[n++] = *text >= 0x20 && *text < 0x7f ? *text : '?';
    out[n] = 0;
}

void s3_trouble_read(struct co_span body, struct s3_trouble *out)
{
    struct s3_xml x;
    struct s3_xml_event e;
    *out = (struct s3_trouble){.code = ""};
    s3_xml_init(&x, body);
    while (s3_xml_next(&x, &e) == 1) {
        if (!e.text)
            continue;
        if (strcmp(e.path, "Error/Code") == 0)
            copy_printable(out->code, sizeof out->code, e.text);
        else if (strcmp(e.path, "Error/Message") == 0)
            copy_printable(out->message, sizeof out->message, e.text);
        else if (strcmp(e.path, "Error/Region") == 0)
            copy_printable(out->region, sizeof out->region, e.text);
    }
}

static bool one_of(const char *code, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(code, *list) == 0)
            return true;
    return false;
}

bool s3_is_temporary(long status, const char *code)
{
    static const char *const codes[] = {"ConditionalRequestConflict",
                                        "InternalError",
                                        "OperationAborted",
                                        "RequestTimeout",
                                        "ServiceUnavailable",
                                        "SlowDown",
                                        "Throttling",
                                        "TooManyRequests",
                                        NULL};
    return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
           status == 504 || one_of(code, codes);
}

uint32_t s3_wait_ms(unsigned tries, uint32_t random)
{
    uint32_t most = S3_WAIT_MAX_MS;
    if (tries < 8 && S3_WAIT_MIN_MS << tries < S3_WAIT_MAX_MS)
        most = (uint32_t)S3_WAIT_MIN_MS << tries;
    return random % (most + 1);
}

bool s3_is_unconditional(long status, const char *code)
{
    static const char *const codes[] = {"", "NotImplemented", "InvalidArgument", "InvalidRequest",
                                        NULL};
    return status == 501 || (status == 400 && one_of(code, codes));
}

/* The part of the sentence behind "cannot put a/b in the archive s3://...: ", and the code. */
static int explain(const struct s3_context *c, long status, const struct s3_trouble *t, char *out,
                   size_t cap)
{
    static const char *const late[] = {"ExpiredToken", "TokenRefreshRequired", "InvalidToken",
                                       NULL};
    static const char *const elsewhere[] = {"PermanentRedirect", "TemporaryRedirect",
                                            "AuthorizationHeaderMalformed",
                                            "IllegalLocationConstraintException", NULL};
    static const char *const room[] = {"QuotaExceeded", "InsufficientStorage", "EntityTooLarge",
                                       NULL};
    if (strcmp(t->code, "RequestTimeTooSkewed") == 0) {
        snprintf(out, cap,
                 "the clocks differ too much: it is %s here and %s there; set this "
                 "machine's clock (NTP)",
                 c->our_time, *c->their_time ? c->their_time : "another time");
        return CO_ERR_IO;
    }
    if (one_of(t->code, late)) {
        snprintf(out, cap,
                 "the session token is not valid (any more): start with new "
                 "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN");
        return CO_ERR_IO;
    }
    if (strcmp(t->code, "InvalidAccessKeyId") == 0) {
        snprintf(out, cap, "the store does not know the access key in AWS_ACCESS_KEY_ID");
        return CO_ERR_IO;
    }
    if (strcmp(t->code, "SignatureDoesNotMatch") == 0) {
        snprintf(out, cap,
                 "the store refuses the signature: AWS_SECRET_ACCESS_KEY does not belong to "
                 "AWS_ACCESS_KEY_ID, or something on the way changes requests");
        return CO_ERR_IO;
    }
    if (status == 301 || status == 302 || status == 307 || status == 308 ||
        one_of(t->code, elsewhere)) {
        snprintf(out, cap, "the bucket %s is not there but %s%s; say so in the URL by %s",
                 c->bucket, *t->region ? "in the region " : "elsewhere", t->region,
                 *t->region ? "region=" : "region= or endpoint=");
        return CO_ERR_INVAL;
    }
    if (strcmp(t->code, "NoSuchBucket") == 0) {
        snprintf(out, cap, "there is no bucket %s at %s; make it first", c->bucket, c->origin);
        return CO_ERR_IO;
    }
    if (status == 507 || one_of(t->code, room)) {
        snprintf(out, cap, "the store takes nothing more (%s); make room or raise the quota",
                 t->code);
        return CO_ERR_FULL;
    }
    if (status == 401 || status == 403) {
        snprintf(out, cap,
                 "these credentials may not do that (%s); they need to list the bucket and "
                 "to get, put and delete below the prefix",
                 *t->code ? t->code : "403");
        return c->writing ? CO_ERR_READONLY : CO_ERR_IO;
    }
    snprintf(out, cap, "the store answered %ld %s%s%s", status, t->code, *t->message ? ": " : "",
             t->message);
    return s3_is_temporary(status, t->code) ? CO_ERR_BUSY : CO_ERR_IO;
}

int s3_fail(const struct s3_context *c, long status, const struct s3_trouble *t)
{
    char why[400];
    int code = explain(c, status, t, why, sizeof why);
    return co_fail(code, "cannot %s %s in the archive %s: %s", c->doing, c->name, c->url, why);
}
