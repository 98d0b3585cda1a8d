/*
 * s3_put_http.c - putting an object into a bucket under a name that is free.
 *
 * Each object carries the SHA-256 of its bytes and an id that was drawn for this put, as metadata.
 * The store decides by "If-None-Match: *" who gets a name; an answer that got lost is settled by
 * the id. Whether the store has such conditions is asked once, with an object that is there: some
 * do not know the header and overwrite. Those get s3_claim_http.c.
 */
#include <stdio.h>

#include "archive/s3_int_http.h"
#include "common/clock_file.h"
#include "common/id.h"
#include "common/log.h"

#define WHOLE_MAX_BYTES (16 * CO_MIB) /* what is larger travels in parts */

int s3_check_etag(struct s3_store *s, const char *name, const struct s3_answer *a,
                  struct co_span bytes)
{
    char md5[S3_MD5_TEXT];
    bool is_md5 = strlen(a->etag) == 32 && strspn(a->etag, "0123456789abcdef") == 32 &&
                  strncmp(a->encryption, "aws:kms", 7) != 0;
    if (!is_md5)
        return 0;
    s3_md5_text(bytes, md5);
    if (!md5[0] || strcmp(md5, a->etag) == 0)
        return 0;
    return co_fail(
        CO_ERR_IO,
        "the store has other bytes of %s in the archive %s than were sent: its MD5 is %s, ours %s",
        name, s->base.url, a->etag, md5);
}

int s3_is_ours(struct s3_store *s, const struct s3_new *n, bool *ours)
{
    struct s3_seen seen;
    int rc = s3_look(s, n->name, &seen);
    *ours = !rc && seen.there && strcmp(seen.id, n->id) == 0;
    return rc;
}

int s3_put_whole(struct s3_store *s, const struct s3_new *n)
{
    struct s3_answer a;
    struct s3_request r = {
        .method = "PUT",
        .name = n->name,
        .headers = {{"x-amz-meta-corallite-id", n->id}, {"x-amz-meta-corallite-sha256", n->sha256}},
        .n_headers = 2,
        .body = n->bytes,
        .answer_max_bytes = CO_KIB,
        .doing = "put",
        .writing = true};
    if (n->conditional)
        r.headers[r.n_headers++] = (struct s3_pair){"if-none-match", "*"};
    int rc = s3_call(s->client, &r, &a);
    if (rc) {
    } else if (a.status == 200 || a.status == 201 || a.status == 204) {
        rc = s3_check_etag(s, n->name, &a, n->bytes);
    } else if (n->conditional && a.status == 412) {
        bool ours = false;
        rc = s3_is_ours(s, n, &ours); /* by a try whose answer was lost? libcurl tries again, too */
        rc = rc || ours ? rc : S3_TAKEN;
    } else if (n->conditional && s3_is_unconditional(a.status, a.trouble.code)) {
        rc = S3_UNCONDITIONAL;
    } else {
        rc = s3_refused(s->client, &r, &a);
    }
    s3_answer_free(&a);
    return rc;
}

static void prepare(struct s3_new *n, const char *name, struct co_span bytes)
{
    struct co_id id = co_id_random();
    *n = (struct s3_new){.name = name, .bytes = bytes, .conditional = true};
    co_id_format(&id, n->id);
    s3_sha256_text(bytes, n->sha256);
}

/* Puts the probe twice, if need be: the second is refused where there are conditions. */
static int try_conditions(struct s3_store *s)
{
    struct s3_new n;
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++) {
        prepare(&n, S3_PROBE, co_span_of("", 0));
        rc = s3_put_whole(s, &n);
    }
    if (rc < 0)
        return rc;
    s->conditional = rc == S3_TAKEN ? S3_HAS_CONDITIONS : S3_HAS_NONE;
    if (s->conditional == S3_HAS_NONE)
        co_warn("archive/s3",
                "the store has no conditional writes: names are claimed before they are "
                "written, with some requests more for each archive=%s",
                s->base.url);
    return 0;
}

/* Are these the bytes that are there? By their digest if the store has it, else by themselves. */
static int same(struct s3_store *s, const struct s3_new *n, bool *equal)
{
    struct s3_seen seen;
    struct co_buf there = {0};
    int rc = s3_look(s, n->name, &seen);
    *equal = false;
    if (rc || !seen.there || seen.size != n->bytes.len)
        return rc;
    if (seen.sha256[0]) {
        *equal = strcmp(seen.sha256, n->sha256) == 0;
        return 0;
    }
    if (n->bytes.len)
        rc = s3_get(s, n->name, 0, n->bytes.len, &there, NULL);
    *equal = !rc && there.len == n->bytes.len &&
             (there.len == 0 || memcmp(there.data, n->bytes.data, there.len) == 0);
    co_buf_free(&there);
    return rc;
}

static int put_conditional(struct s3_store *s, struct s3_new *n, bool if_absent)
{
    int rc = S3_UNCONDITIONAL;
    /* Large ones are few, and known not to be raced for: their sum is in their name. Not all stores
     * have conditions on parts: some say so, Ceph 16 overlooks them. */
    if (n->bytes.len > WHOLE_MAX_BYTES && !if_absent) {
        struct s3_seen seen;
        rc = s3_look(s, n->name, &seen);
        rc = rc ? rc : seen.there ? S3_TAKEN : s3_put_parts(s, n);
    }
    return rc == S3_UNCONDITIONAL ? s3_put_whole(s, n) : rc;
}

int s3_put(struct s3_store *s, const char *name, struct co_span bytes, bool if_absent)
{
    struct s3_new n;
    bool equal = false;
    prepare(&n, name, bytes);
    int rc = s->conditional == S3_UNTRIED ? try_conditions(s) : 0;
    if (!rc && s->conditional == S3_HAS_CONDITIONS)
        rc = put_conditional(s, &n, if_absent);
    else if (!rc)
        rc = s3_put_claimed(s, &n);
    if (rc == S3_TAKEN) {
        rc = if_absent ? 0 : same(s, &n, &equal);
        if (!rc && !equal)
            rc = co_fail(CO_ERR_EXISTS, "%s is in the archive %s already%s", name, s->base.url,
                         if_absent ? "" : ", with other bytes");
    } else if (rc > 0) {
        rc = co_fail(
            CO_ERR_IO,
            "cannot put %s in the archive %s: the store had conditional writes a while ago, and "
            "refuses one now",
            name, s->base.url);
    }
    return rc;
}
