/*
 * changes.c - page lists and change lists (the format is in changes.h). Reading trusts nothing:
 * a count is compared with the bytes that are left before memory is taken for it, numbers ascend
 * and fit their types. Pure; any thread.
 */
#include "proto/changes.h"

#include <stdbool.h>
#include <stdlib.h>

#include "common/assert.h"

int changes_put_pages(struct co_buf *out, const pgno_t *pgnos, uint32_t n)
{
    /* A page number has at most 5 bytes; room for the worst case saves a check for each. */
    int rc = co_buf_reserve(out, CO_VARINT_MAX + (size_t)n * 5);
    if (rc)
        return rc;
    uint8_t *p = out->data + out->len;
    pgno_t last = 0;
    p += co_put_varint(p, n);
    for (uint32_t i = 0; i < n; i++) {
        co_assert(pgnos[i] > last);
        p += co_put_varint(p, pgnos[i] - last);
        last = pgnos[i];
    }
    out->len = (size_t)(p - out->data);
    return 0;
}

int changes_put_commit(struct co_buf *out, lsn_t prev, lsn_t lsn, uint32_t db_pages,
                       const pgno_t *pgnos, uint32_t n)
{
    co_assert(lsn > prev);
    size_t before = out->len;
    int rc = co_buf_reserve(out, 2 * CO_VARINT_MAX);
    if (rc)
        return rc;
    out->len += co_put_varint(out->data + out->len, lsn - prev);
    out->len += co_put_varint(out->data + out->len, db_pages);
    rc = changes_put_pages(out, pgnos, n);
    if (rc)
        out->len = before;
    return rc;
}

/* Reads a number of at most `max`; false when there is none. */
static bool take(struct co_span *rest, uint64_t max, uint64_t *out)
{
    size_t n = co_get_varint(rest->data, rest->len, out);
    if (n == 0 || *out > max)
        return false;
    rest->data += n;
    rest->len -= n;
    return true;
}

static int malformed(const char *what)
{
    return co_fail(CO_ERR_PROTOCOL, "a list of changed pages is malformed: %s", what);
}

int changes_get_pages(struct co_span *rest, pgno_t **pgnos, uint32_t *n)
{
    struct co_span in = *rest;
    uint64_t count, step;
    pgno_t *list = NULL, last = 0;

    if (!take(&in, UINT32_MAX, &count))
        return malformed("it has no count");
    /* Each page number takes a byte at least. */
    if (count > in.len)
        return malformed("its count is more than its bytes can hold");
    if (count && !(list = malloc((size_t)count * sizeof *list)))
        return co_fail(CO_ERR_NOMEM, "memory for %llu page numbers could not be had",
                       (unsigned long long)count);
    for (uint32_t i = 0; i < count; i++) {
        if (!take(&in, UINT32_MAX - last, &step) || step == 0) {
            free(list);
            return malformed("its page numbers do not ascend, or it ends early");
        }
        last += (pgno_t)step;
        list[i] = last;
    }
    *rest = in;
    *pgnos = list;
    *n = (uint32_t)count;
    return 0;
}

int changes_get_commit(struct co_span *rest, lsn_t prev, lsn_t *lsn, uint32_t *db_pages,
                       pgno_t **pgnos, uint32_t *n)
{
    struct co_span in = *rest;
    uint64_t step, size;
    if (in.len == 0)
        return CO_ERR_AGAIN;
    if (!take(&in, UINT64_MAX - prev, &step) || step == 0)
        return malformed("its log positions do not ascend");
    if (!take(&in, UINT32_MAX, &size))
        return malformed("a commit has no database size");
    int rc = changes_get_pages(&in, pgnos, n);
    if (rc)
        return rc;
    *rest = in;
    *lsn = prev + step;
    *db_pages = (uint32_t)size;
    return 0;
}
