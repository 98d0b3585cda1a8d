#include "compute-vfs/record.h"

#include <stdlib.h>
#include <string.h>

#include "common/assert.h"

int cv_spilled_new(struct cv_spilled **out)
{
    struct cv_spilled *s = calloc(1, sizeof *s);

    if (!s)
        return co_fail(CO_ERR_NOMEM, "no memory for a large transaction");
    cv_walbuf_init(&s->body);
    s->body.limit = 0; /* all of it in the file */
    *out = s;
    return 0;
}

void cv_spilled_free(struct cv_spilled *s)
{
    if (!s)
        return;
    cv_walbuf_free(&s->body);
    co_buf_free(&s->rest);
    free(s);
}

void cv_record_free(struct cv_record *r)
{
    co_buf_free(&r->bytes);
    cv_spilled_free(r->spilled);
    r->spilled = NULL;
}

int cv_spilled_drain(struct cv_spilled *s, struct wal_builder *b)
{
    struct co_span bytes;
    uint64_t at;
    int rc = wal_builder_drain(b, &bytes, &at);

    return rc || !bytes.len
               ? rc
               : cv_walbuf_write(&s->body, at - WAL_HEADER_BYTES, bytes.data, bytes.len);
}

void cv_spilled_seal(struct cv_spilled *s, struct wal_builder *b, const struct wal_stamp *stamp)
{
    struct wal_digest digest;
    int rc;

    wal_builder_seal_drained(b, stamp, s->head, &s->rest, &s->rest_at, &digest);
    co_assert(s->rest_at == WAL_HEADER_BYTES + s->body.len);
    rc = wal_peek(co_span_of(s->head, sizeof s->head), &s->header);
    co_assert(rc == 0 && s->header.total_bytes == s->rest_at + s->rest.len);
    s->header.digest = digest;
}

/* The part of [at, at + len) that lies below `end`. */
static size_t below(uint64_t end, uint64_t at, size_t len)
{
    if (at >= end)
        return 0;
    return len < end - at ? len : (size_t)(end - at);
}

int cv_spilled_read(struct cv_spilled *s, uint64_t at, uint8_t *out, size_t len)
{
    size_t n = below(WAL_HEADER_BYTES, at, len);
    bool cut = false;
    int rc = 0;

    co_assert(at + len <= s->header.total_bytes);
    if (n)
        memcpy(out, s->head + at, n);
    at += n;
    out += n;
    len -= n;
    n = below(s->rest_at, at, len);
    if (n)
        rc = cv_walbuf_read(&s->body, at - WAL_HEADER_BYTES, out, n, &cut);
    co_assert(!cut);
    if (!rc && n < len)
        memcpy(out + n, s->rest.data + (at + n - s->rest_at), len - n);
    return rc;
}
