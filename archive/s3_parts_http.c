/*
 * s3_parts_http.c - a large object in parts (multipart upload): begun, its parts put one after the
 * other and each compared with its MD5, ended as a whole. What is not ended is taken back, so that
 * nobody pays for parts that no list shows; where that fails too, or the process dies, a lifecycle
 * rule of the bucket does it (docs).
 */
#include <stdio.h>
#include <stdlib.h>

#include "archive/s3_int_http.h"
#include "archive/s3_xml.h"

#define PART_BYTES (8 * CO_MIB)
#define PARTS_MAX  ((unsigned)(AR_OBJECT_MAX_BYTES / PART_BYTES) + 1)
#define ENDS_MAX   4 /* tries to end it, when the store says in a good answer that it could not */

struct upload {
    struct s3_store *s;
    const struct s3_new *n;
    char id[1025];
    char etags[PARTS_MAX][100];
    unsigned parts;
};

/* The text of one element of a small answer; "" when there is none. */
static void find_text(struct co_span body, const char *path, char *out, size_t cap)
{
    struct s3_xml x;
    struct s3_xml_event e;
    out[0] = 0;
    s3_xml_init(&x, body);
    while (s3_xml_next(&x, &e) == 1)
        if (e.text && strcmp(e.path, path) == 0 && strlen(e.text) < cap)
            snprintf(out, cap, "%s", e.text);
}

static int begin(struct upload *u)
{
    struct s3_answer a;
    const struct s3_request r = {.method = "POST",
                                 .name = u->n->name,
                                 .query = {{"uploads", ""}},
                                 .n_query = 1,
                                 .headers = {{"x-amz-meta-corallite-id", u->n->id},
                                             {"x-amz-meta-corallite-sha256", u->n->sha256}},
                                 .n_headers = 2,
                                 .answer_max_bytes = 64 * CO_KIB,
                                 .doing = "begin to put",
                                 .writing = true};
    int rc = s3_call(u->s->client, &r, &a);
    if (!rc && a.status != 200)
        rc = a.status == 501 ? S3_UNCONDITIONAL : s3_refused(u->s->client, &r, &a);
    if (!rc)
        find_text(co_buf_span(&a.body), "InitiateMultipartUploadResult/UploadId", u->id,
                  sizeof u->id);
    if (!rc && !u->id[0])
        rc = co_fail(
            CO_ERR_IO,
            "cannot put %s in the archive %s: the store begins an upload and does not name it",
            u->n->name, u->s->base.url);
    s3_answer_free(&a);
    return rc;
}

static int put_part(struct upload *u, struct co_span bytes)
{
    struct s3_answer a;
    char number[12];
    snprintf(number, sizeof number, "%u", u->parts + 1);
    const struct s3_request r = {.method = "PUT",
                                 .name = u->n->name,
                                 .query = {{"partNumber", number}, {"uploadId", u->id}},
                                 .n_query = 2,
                                 .body = bytes,
                                 .answer_max_bytes = CO_KIB,
                                 .doing = "put a part of",
                                 .writing = true};
    int rc = s3_call(u->s->client, &r, &a);
    if (!rc && a.status != 200)
        rc = s3_refused(u->s->client, &r, &a);
    rc = rc ? rc : s3_check_etag(u->s, u->n->name, &a, bytes);
    if (!rc && (!a.etag[0] || strpbrk(a.etag, "<>&\"")))
        rc = co_fail(
            CO_ERR_IO,
            "cannot put %s in the archive %s: the store does not name a part that it has taken",
            u->n->name, u->s->base.url);
    memcpy(u->etags[u->parts], a.etag, sizeof a.etag);
    u->parts += !rc;
    s3_answer_free(&a);
    return rc;
}

static int put_parts(struct upload *u)
{
    const struct co_span all = u->n->bytes;
    int rc = 0;
    for (size_t at = 0; at < all.len && !rc; at += PART_BYTES) {
        size_t n = all.len - at < PART_BYTES ? all.len - at : PART_BYTES;
        rc = put_part(u, co_span_of(all.data + at, n));
    }
    return rc;
}

static int manifest(const struct upload *u, struct co_buf *out)
{
    char line[200];
    int rc = co_buf_append(out, "<CompleteMultipartUpload>", 25);
    for (unsigned i = 0; i < u->parts && !rc; i++) {
        int n = snprintf(line, sizeof line,
                         "<Part><PartNumber>%u</PartNumber><ETag>\"%s\"</ETag></Part>", i + 1,
                         u->etags[i]);
        rc = co_buf_append(out, line, (size_t)n);
    }
    return rc ? rc : co_buf_append(out, "</CompleteMultipartUpload>", 26);
}

/* What an answer to the end means. *again: the store says with status 200 that it could not do it
 * now. */
static int judge_end(struct upload *u, const struct s3_request *r, struct s3_answer *a, bool *again)
{
    bool ours = false;
    if (a->status == 200) {
        s3_trouble_read(co_buf_span(&a->body), &a->trouble);
        if (!a->trouble.code[0])
            return 0;
        *again = s3_is_temporary(a->status, a->trouble.code);
        return s3_refused(u->s->client, r, a);
    }
    if (a->status == 412 ||
        a->status == 404) { /* taken; or ended before, and the answer was lost */
        int rc = s3_is_ours(u->s, u->n, &ours);
        if (rc || ours)
            return rc;
    }
    if (a->status == 412)
        return S3_TAKEN;
    return s3_is_unconditional(a->status, a->trouble.code) ? S3_UNCONDITIONAL
                                                           : s3_refused(u->s->client, r, a);
}

static int end(struct upload *u)
{
    struct co_buf body = {0};
    bool again = true;
    int rc = manifest(u, &body);
    const struct s3_request r = {.method = "POST",
                                 .name = u->n->name,
                                 .query = {{"uploadId", u->id}},
                                 .n_query = 1,
                                 .headers = {{"if-none-match", "*"}},
                                 .n_headers = 1,
                                 .body = co_buf_span(&body),
                                 .answer_max_bytes = 64 * CO_KIB,
                                 .doing = "end to put",
                                 .writing = true};
    for (unsigned tries = 0; again && rc >= 0 && tries < ENDS_MAX; tries++) {
        struct s3_answer a;
        again = false;
        rc = tries ? s3_pause(u->s->client, tries, "end an upload") : rc;
        if (rc)
            break;
        rc = s3_call(u->s->client, &r, &a);
        rc = rc ? rc : judge_end(u, &r, &a, &again);
        if (again && tries + 1 < ENDS_MAX)
            rc = 0;
        s3_answer_free(&a);
    }
    co_buf_free(&body);
    return rc;
}

static void take_back(struct upload *u)
{
    struct s3_answer a;
    char why[CO_SENTENCE_MAX];
    snprintf(why, sizeof why, "%s", co_sentence());
    const struct s3_request r = {.method = "DELETE",
                                 .name = u->n->name,
                                 .query = {{"uploadId", u->id}},
                                 .n_query = 1,
                                 .answer_max_bytes = CO_KIB,
                                 .doing = "take back",
                                 .writing = true};
    (void)!s3_call(u->s->client, &r, &a);
    s3_answer_free(&a);
    co_fail(CO_ERR_IO, "%s", why); /* the sentence of what went wrong stays */
}

int s3_put_parts(struct s3_store *s, const struct s3_new *n)
{
    struct upload *u = calloc(1, sizeof *u);
    if (!u)
        return co_fail(CO_ERR_NOMEM, "no memory for an upload to the archive %s", s->base.url);
    u->s = s;
    u->n = n;
    int rc = begin(u);
    if (!rc) {
        rc = put_parts(u);
        rc = rc ? rc : end(u);
        if (rc)
            take_back(u);
    }
    free(u);
    return rc;
}
