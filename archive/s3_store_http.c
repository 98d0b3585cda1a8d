/*
 * s3_store_http.c - an archive in a bucket: opening, reading, listing, removing.
 *
 * An object is a key below the prefix, of that name. Writing is in s3_put_http.c. What a request is
 * and when it is tried again: s3_http.h.
 */
#include <stdio.h>
#include <stdlib.h>

#include "archive/s3_int_http.h"
#include "archive/s3_xml.h"

#define LIST_MAX_BYTES (8 * CO_MIB)

static struct s3_store *of(struct ar_store *store)
{
    return (struct s3_store *)store;
}

/* -- reading --------------------------------------------------------------------------------------
 */

int s3_look(struct s3_store *s, const char *name, struct s3_seen *out)
{
    struct s3_answer a;
    const struct s3_request r = {.method = "HEAD", .name = name, .doing = "look for"};
    *out = (struct s3_seen){.there = false};
    int rc = s3_call(s->client, &r, &a);
    if (!rc && a.status == 200) {
        out->there = true;
        out->size = a.length;
        memcpy(out->sha256, a.sha256, sizeof out->sha256);
        memcpy(out->id, a.id, sizeof out->id);
    } else if (!rc && a.status != 404) {
        rc = s3_refused(s->client, &r, &a);
    }
    s3_answer_free(&a);
    return rc;
}

static int not_found(const struct s3_store *s, const char *name)
{
    return co_fail(CO_ERR_NOT_FOUND, "there is no %s in the archive %s", name, s->base.url);
}

static int cut_short(const struct s3_store *s, const char *name)
{
    return co_fail(
        CO_ERR_IO,
        "cannot get %s from the archive %s: what the store sent is not what was put; ask again, "
        "and look at the store if it stays so",
        name, s->base.url);
}

/* The bytes of a good answer, `a.total` being the whole's size. */
static int take_bytes(struct s3_store *s, const char *name, const struct s3_answer *a,
                      uint64_t offset, size_t length, struct co_buf *out)
{
    /* 200: the store knows no ranges, and sends the whole. */
    uint64_t skip = a->status == 200 && offset < a->body.len ? offset : 0;
    size_t n = a->body.len - (size_t)skip;
    if (a->status == 200 && offset >= a->body.len)
        n = 0;
    if (a->status == 206 && (a->first != offset || a->total < offset || n > length ||
                             (n < length && offset + n != a->total)))
        return cut_short(s, name);
    if (n > length)
        n = length;
    char digest[S3_SHA256_TEXT];
    bool whole = a->body.len == a->total && offset == 0;
    if (whole && a->sha256[0]) {
        s3_sha256_text(co_buf_span(&a->body), digest);
        if (strcmp(digest, a->sha256) != 0)
            return cut_short(s, name);
    }
    return co_buf_append(out, a->body.data + skip, n);
}

int s3_get(struct s3_store *s, const char *name, uint64_t offset, size_t length, struct co_buf *out,
           uint64_t *size_bytes)
{
    struct s3_answer a;
    char range[60];
    uint64_t last =
        length ? length - 1 : 0; /* one byte, to learn the size: a HEAD has no reason to tell */
    last = last > AR_OBJECT_MAX_BYTES ? AR_OBJECT_MAX_BYTES : last;
    if (length == 0)
        offset = 0;
    if (offset > INT64_MAX - last)
        offset = INT64_MAX - last;
    snprintf(range, sizeof range, "bytes=%llu-%llu", (unsigned long long)offset,
             (unsigned long long)(offset + last));
    const struct s3_request r = {.method = "GET",
                                 .name = name,
                                 .headers = {{"range", range}},
                                 .n_headers = 1,
                                 .answer_max_bytes = AR_OBJECT_MAX_BYTES,
                                 .doing = "get"};
    int rc = s3_call(s->client, &r, &a);
    uint64_t total = a.status == 200 ? a.body.len : a.total;
    a.total = total;
    if (rc) {
    } else if (a.status == 416) { /* it begins behind its end, or is empty */
        struct s3_seen seen;
        rc = s3_look(s, name, &seen);
        rc = rc ? rc : seen.there ? 0 : not_found(s, name);
        total = seen.size;
    } else if (a.status == 404 && strcmp(a.trouble.code, "NoSuchBucket") != 0) {
        rc = not_found(s, name);
    } else if (a.status != 200 && a.status != 206) {
        rc = s3_refused(s->client, &r, &a);
    } else if (total == UINT64_MAX) {
        rc = cut_short(s, name);
    } else if (length) {
        rc = take_bytes(s, name, &a, offset, length, out);
    }
    if (!rc && size_bytes)
        *size_bytes = total;
    s3_answer_free(&a);
    return rc;
}

/* -- listing --------------------------------------------------------------------------------------
 */

/* A page of a list, as it is read. */
struct page {
    struct s3_store *s;
    ar_list_fn fn;
    void *arg;
    char last[S3_XML_TEXT_MAX + 1]; /* the greatest key so far, with the prefix */
    char key[S3_XML_TEXT_MAX + 1], token[S3_XML_TEXT_MAX + 1];
    uint64_t size;
    bool more;
};

static int bad_list(const struct page *p, const char *what)
{
    return co_fail(CO_ERR_IO, "cannot list the archive %s: the store's answer %s", p->s->base.url,
                   what);
}

static int take_key(struct page *p)
{
    size_t n = strlen(p->s->url.prefix);
    int order = strcmp(p->key, p->last);
    if (strncmp(p->key, p->s->url.prefix, n) != 0)
        return bad_list(p, "has a key that was not asked for");
    if (order < 0)
        return bad_list(p, "is not in the order of the keys; such a store cannot hold an archive");
    if (order == 0) /* was told before: `after`, or the end of the page before */
        return 0;
    snprintf(p->last, sizeof p->last, "%s", p->key);
    return p->fn(p->arg, p->key + n, p->size);
}

static int take_element(struct page *p, const struct s3_xml_event *e)
{
    char *end;
    if (!e->text) {
        if (strcmp(e->path, "ListBucketResult/Contents") != 0)
            return 0;
        int rc = p->key[0] ? take_key(p) : bad_list(p, "has an object without a key");
        p->key[0] = 0;
        return rc;
    }
    if (strcmp(e->path, "ListBucketResult/Contents/Key") == 0) {
        snprintf(p->key, sizeof p->key, "%s", e->text);
    } else if (strcmp(e->path, "ListBucketResult/Contents/Size") == 0) {
        p->size = strtoull(e->text, &end, 10);
        if (*end || end == e->text || *e->text == '-')
            return bad_list(p, "has a size that is no number");
    } else if (strcmp(e->path, "ListBucketResult/IsTruncated") == 0) {
        p->more = strcmp(e->text, "true") == 0;
    } else if (strcmp(e->path, "ListBucketResult/NextContinuationToken") == 0) {
        snprintf(p->token, sizeof p->token, "%s", e->text);
    }
    return 0;
}

static int read_page(struct page *p, struct co_span body)
{
    struct s3_xml *x = malloc(sizeof *x);
    struct s3_xml_event e;
    bool is_list = false, told = false;
    if (!x)
        return co_fail(CO_ERR_NOMEM, "no memory for a list of the archive %s", p->s->base.url);
    int rc;
    s3_xml_init(x, body);
    p->more = false;
    while ((rc = s3_xml_next(x, &e)) == 1) {
        is_list = strncmp(e.path, "ListBucketResult", 16) == 0;
        rc = take_element(p, &e);
        told = rc != 0;
        if (told)
            break;
    }
    free(x);
    if (!told && rc)
        rc = bad_list(p, "cannot be read");
    else if (!rc && !is_list)
        rc = bad_list(p, "is no list");
    return rc;
}

/* One page. First: from `after` on; else from the token on. */
static int ask_page(struct page *p, const char *prefix, const char *after, bool first)
{
    struct s3_answer a;
    struct s3_request r = {.method = "GET",
                           .query = {{"list-type", "2"}, {"prefix", prefix}},
                           .n_query = 2,
                           .answer_max_bytes = LIST_MAX_BYTES,
                           .doing = "list"};
    char token[sizeof p->token];
    if (!first) {
        snprintf(token, sizeof token, "%s", p->token);
        r.query[r.n_query++] = (struct s3_pair){"continuation-token", token};
    } else if (after) {
        r.query[r.n_query++] = (struct s3_pair){"start-after", after};
    }
    p->token[0] = 0;
    int rc = s3_call(p->s->client, &r, &a);
    if (!rc)
        rc =
            a.status == 200 ? read_page(p, co_buf_span(&a.body)) : s3_refused(p->s->client, &r, &a);
    s3_answer_free(&a);
    return rc;
}

int s3_keys_each(struct s3_store *s, const char *prefix, const char *after, ar_list_fn fn,
                 void *arg, bool renew)
{
    char full_prefix[1200], full_after[1200];
    struct page *p = calloc(1, sizeof *p);
    if (!p)
        return co_fail(CO_ERR_NOMEM, "no memory for a list of the archive %s", s->base.url);
    *p = (struct page){.s = s, .fn = fn, .arg = arg};
    snprintf(full_prefix, sizeof full_prefix, "%s%.900s", s->url.prefix, prefix);
    snprintf(full_after, sizeof full_after, "%s%.900s", s->url.prefix, after ? after : "");
    if (after)
        snprintf(p->last, sizeof p->last, "%s", full_after);
    int rc = 0;
    for (bool first = true; first || (!rc && p->more); first = false) {
        if (renew)
            s3_begin(s->client);
        if (!first && !p->token[0])
            rc = bad_list(p, "goes on and does not say where");
        else
            rc = ask_page(p, full_prefix, after ? full_after : NULL, first);
    }
    free(p);
    return rc;
}

/* -- the seam -------------------------------------------------------------------------------------
 */

int s3_delete(struct s3_store *s, const char *name)
{
    struct s3_answer a;
    const struct s3_request r = {.method = "DELETE",
                                 .name = name,
                                 .doing = "remove",
                                 .answer_max_bytes = CO_KIB,
                                 .writing = true};
    int rc = s3_call(s->client, &r, &a);
    bool gone =
        a.status / 100 == 2 || (a.status == 404 && strcmp(a.trouble.code, "NoSuchBucket") != 0);
    if (!rc && !gone)
        rc = s3_refused(s->client, &r, &a);
    s3_answer_free(&a);
    return rc;
}

static void on_close(struct ar_store *store)
{
    s3_client_free(of(store)->client);
    free(store);
}

static int on_put(struct ar_store *store, const char *name, struct co_span bytes)
{
    s3_begin(of(store)->client);
    return s3_put(of(store), name, bytes, false);
}

static int on_put_if_absent(struct ar_store *store, const char *name, struct co_span bytes)
{
    s3_begin(of(store)->client);
    return s3_put(of(store), name, bytes, true);
}

static int on_get(struct ar_store *store, const char *name, uint64_t offset, size_t length,
                  struct co_buf *out, uint64_t *size_bytes)
{
    s3_begin(of(store)->client);
    return s3_get(of(store), name, offset, length, out, size_bytes);
}

struct listing {
    ar_list_fn fn;
    void *arg;
};

/* What others put there, and what is ours but no object, is passed over. */
static int on_key(void *arg, const char *name, uint64_t size)
{
    const struct listing *l = arg;
    return ar_name_check(name) ? 0 : l->fn(l->arg, name, size);
}

static int on_list(struct ar_store *store, const char *prefix, const char *after, ar_list_fn fn,
                   void *arg)
{
    struct listing l = {fn, arg};
    return s3_keys_each(of(store), prefix, after, on_key, &l, true);
}

static int on_remove(struct ar_store *store, const char *name)
{
    s3_begin(of(store)->client);
    return s3_delete(of(store), name);
}

/* Are credentials, region and bucket right? Said at the open, not at the first put. */
static int try_bucket(struct s3_store *s)
{
    struct s3_answer a;
    const struct s3_request r = {
        .method = "GET",
        .query = {{"list-type", "2"}, {"prefix", s->url.prefix}, {"max-keys", "1"}},
        .n_query = 3,
        .answer_max_bytes = LIST_MAX_BYTES,
        .doing = "open"};
    s3_begin(s->client);
    int rc = s3_call(s->client, &r, &a);
    if (!rc && a.status != 200) {
        rc = s3_refused(s->client, &r, &a);
        if (strcmp(a.trouble.code, "NoSuchBucket") == 0)
            rc = CO_ERR_NOT_FOUND;
    }
    s3_answer_free(&a);
    return rc;
}

int ar_s3_open(const char *rest, const struct ar_options *options, struct ar_store **out)
{
    static const struct ar_ops ops = {on_close, on_put,  on_put_if_absent,
                                      on_get,   on_list, on_remove};
    struct s3_store *s = calloc(1, sizeof *s);
    if (!s)
        return co_fail(CO_ERR_NOMEM, "no memory for an archive");
    s->base.ops = &ops;
    snprintf(s->base.url, sizeof s->base.url, "s3:%s", rest);
    const char *region = getenv("AWS_REGION");
    int rc = s3_url_parse(rest, getenv("AWS_ENDPOINT_URL"),
                          region ? region : getenv("AWS_DEFAULT_REGION"), &s->url);
    rc = rc ? rc
            : s3_client_new(&s->url, s->base.url, options->timeout_ms, &s->base.canceled,
                            &s->client);
    rc = rc ? rc : try_bucket(s);
    if (rc)
        on_close(&s->base);
    else
        *out = &s->base;
    return rc;
}
