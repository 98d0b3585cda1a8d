#include "archive/s3_sign.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"

#define DIGEST_BYTES 32

static int append(struct co_buf *out, const char *text)
{
    return co_buf_append(out, text, strlen(text));
}

static void hex(const uint8_t *bytes, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

void s3_sha256_text(struct co_span bytes, char out[S3_SHA256_TEXT])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    co_assert(EVP_Digest(bytes.len ? bytes.data : (const uint8_t *)"", bytes.len, digest, NULL,
                         EVP_sha256(), NULL) == 1);
    hex(digest, DIGEST_BYTES, out);
}

void s3_md5_text(struct co_span bytes, char out[S3_MD5_TEXT])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    out[0] = 0;
    if (EVP_Digest(bytes.len ? bytes.data : (const uint8_t *)"", bytes.len, digest, NULL, EVP_md5(),
                   NULL) == 1)
        hex(digest, 16, out);
}

/* -- escapes --------------------------------------------------------------------------------------
 */

static int append_escaped(struct co_buf *out, const char *text, bool keep_slash)
{
    int rc = co_buf_reserve(out, 3 * strlen(text));
    for (const char *p = text; !rc && *p; p++) {
        char c = *p, escape[4];
        bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '.' || c == '_' || c == '~' || (keep_slash && c == '/');
        if (!plain)
            snprintf(escape, sizeof escape, "%%%02X", (unsigned char)c);
        rc = plain ? co_buf_append(out, p, 1) : co_buf_append(out, escape, 3);
    }
    return rc;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The arguments escaped, in the order of their names and then values: each is "name\1value" while
 * they are sorted, because \1 comes before every byte that an escaped name may have. */
static int append_query(struct co_buf *out, const struct s3_message *m)
{
    struct co_buf one[S3_PAIRS_MAX] = {{0}};
    const char *order[S3_PAIRS_MAX];
    int rc = 0;
    co_assert(m->n_query <= S3_PAIRS_MAX);
    for (unsigned i = 0; i < m->n_query && !rc; i++) {
        rc = append_escaped(&one[i], m->query[i].name, false);
        rc = rc ? rc : append(&one[i], "\1");
        rc = rc ? rc : append_escaped(&one[i], m->query[i].value, false);
        rc = rc ? rc : co_buf_append(&one[i], "", 1);
        order[i] = (const char *)one[i].data;
    }
    if (!rc)
        qsort(order, m->n_query, sizeof *order, by_text);
    for (unsigned i = 0; i < m->n_query && !rc; i++) {
        const char *value = strchr(order[i], '\1');
        rc = i ? append(out, "&") : 0;
        rc = rc ? rc : co_buf_append(out, order[i], (size_t)(value - order[i]));
        rc = rc ? rc : append(out, "=");
        rc = rc ? rc : append(out, value + 1);
    }
    for (unsigned i = 0; i < m->n_query; i++)
        co_buf_free(&one[i]);
    return rc;
}

int s3_target(const struct s3_message *m, struct co_buf *out)
{
    int rc = append_escaped(out, m->path, true);
    if (!rc && m->n_query)
        rc = append(out, "?");
    return rc ? rc : append_query(out, m);
}

/* -- the canonical request ------------------------------------------------------------------------
 */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct s3_pair *const *)a)->name,
                  (*(const struct s3_pair *const *)b)->name);
}

static void sort_headers(const struct s3_message *m, const struct s3_pair *order[S3_PAIRS_MAX])
{
    co_assert(m->n_headers <= S3_PAIRS_MAX);
    for (unsigned i = 0; i < m->n_headers; i++)
        order[i] = &m->headers[i];
    qsort(order, m->n_headers, sizeof *order, by_name);
}

/* Blanks at both ends go, several in a row are one. */
static int append_trimmed(struct co_buf *out, const char *value)
{
    int rc = 0;
    bool blank = false, begun = false;
    for (; *value && !rc; value++) {
        if (*value == ' ' || *value == '\t') {
            blank = begun;
            continue;
        }
        if (blank)
            rc = append(out, " ");
        blank = false;
        begun = true;
        rc = rc ? rc : co_buf_append(out, value, 1);
    }
    return rc;
}

static int append_names(struct co_buf *out, const struct s3_message *m,
                        const struct s3_pair *const *order)
{
    int rc = 0;
    for (unsigned i = 0; i < m->n_headers && !rc; i++) {
        rc = i ? append(out, ";") : 0;
        rc = rc ? rc : append(out, order[i]->name);
    }
    return rc;
}

static int append_canonical(struct co_buf *out, const struct s3_message *m,
                            const struct s3_pair *const *order)
{
    int rc = append(out, m->method);
    rc = rc ? rc : append(out, "\n");
    rc = rc ? rc : append_escaped(out, m->path, true);
    rc = rc ? rc : append(out, "\n");
    rc = rc ? rc : append_query(out, m);
    rc = rc ? rc : append(out, "\n");
    for (unsigned i = 0; i < m->n_headers && !rc; i++) {
        rc = append(out, order[i]->name);
        rc = rc ? rc : append(out, ":");
        rc = rc ? rc : append_trimmed(out, order[i]->value);
        rc = rc ? rc : append(out, "\n");
    }
    rc = rc ? rc : append(out, "\n");
    rc = rc ? rc : append_names(out, m, order);
    rc = rc ? rc : append(out, "\n");
    return rc ? rc : append(out, m->payload_sha256);
}

/* -- the signature --------------------------------------------------------------------------------
 */

static void keyed(const uint8_t *key, size_t key_len, const char *text, uint8_t out[DIGEST_BYTES])
{
    unsigned n = DIGEST_BYTES;
    co_assert(HMAC(EVP_sha256(), key, (int)key_len, (const uint8_t *)text, strlen(text), out, &n));
}

static void signing_key(const char *secret, const char *day, const char *region,
                        uint8_t key[DIGEST_BYTES])
{
    char first[300];
    int n = snprintf(first, sizeof first, "AWS4%s", secret);
    co_assert(n > 0 && (size_t)n < sizeof first);
    uint8_t a[DIGEST_BYTES], b[DIGEST_BYTES];
    keyed((const uint8_t *)first, (size_t)n, day, a);
    keyed(a, sizeof a, region, b);
    keyed(b, sizeof b, "s3", a);
    keyed(a, sizeof a, "aws4_request", key);
    OPENSSL_cleanse(first, sizeof first);
    OPENSSL_cleanse(a, sizeof a);
    OPENSSL_cleanse(b, sizeof b);
}

int s3_authorization(const struct s3_message *m, const struct s3_keys *keys, const char *region,
                     const char *time, struct co_buf *out)
{
    const struct s3_pair *order[S3_PAIRS_MAX];
    struct co_buf canonical = {0};
    char day[9], scope[120], digest[S3_SHA256_TEXT], to_sign[300], signature[S3_SHA256_TEXT];
    uint8_t key[DIGEST_BYTES], mac[DIGEST_BYTES];
    co_assert(strlen(time) == S3_TIME_TEXT - 1 && strlen(region) < 64);
    sort_headers(m, order);
    int rc = append_canonical(&canonical, m, order);
    if (rc)
        goto done;
    s3_sha256_text(co_buf_span(&canonical), digest);
    snprintf(day, sizeof day, "%.8s", time);
    snprintf(scope, sizeof scope, "%s/%s/s3/aws4_request", day, region);
    snprintf(to_sign, sizeof to_sign, "AWS4-HMAC-SHA256\n%s\n%s\n%s", time, scope, digest);
    signing_key(keys->secret, day, region, key);
    keyed(key, sizeof key, to_sign, mac);
    OPENSSL_cleanse(key, sizeof key);
    hex(mac, sizeof mac, signature);

    rc = append(out, "AWS4-HMAC-SHA256 Credential=");
    rc = rc ? rc : append(out, keys->id);
    rc = rc ? rc : append(out, "/");
    rc = rc ? rc : append(out, scope);
    rc = rc ? rc : append(out, ",SignedHeaders=");
    rc = rc ? rc : append_names(out, m, order);
    rc = rc ? rc : append(out, ",Signature=");
    rc = rc ? rc : append(out, signature);
done:
    co_buf_free(&canonical);
    return rc;
}
