#include "common/bytes.h"

#include <stdlib.h>

#include "common/assert.h"

int co_buf_reserve(struct co_buf *buf, size_t more)
{
    size_t need;
    if (__builtin_add_overflow(buf->len, more, &need))
        return co_fail(CO_ERR_NOMEM, "a buffer of %zu bytes cannot grow by %zu", buf->len, more);
    if (need <= buf->cap)
        return 0;
    size_t cap = buf->cap < 64 ? 64 : buf->cap;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    uint8_t *data = realloc(buf->data, cap);
    if (!data)
        return co_fail(CO_ERR_NOMEM, "%zu bytes of memory were wanted and could not be had", cap);
    buf->data = data;
    buf->cap = cap;
    return 0;
}

int co_buf_append(struct co_buf *buf, const void *data, size_t len)
{
    int rc = co_buf_reserve(buf, len);
    if (rc)
        return rc;
    if (len)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    return 0;
}

int co_buf_append_zeros(struct co_buf *buf, size_t len)
{
    int rc = co_buf_reserve(buf, len);
    if (rc)
        return rc;
    if (len)
        memset(buf->data + buf->len, 0, len);
    buf->len += len;
    return 0;
}

void co_buf_consume(struct co_buf *buf, size_t len)
{
    co_assert(len <= buf->len);
    if (len)
        memmove(buf->data, buf->data + len, buf->len - len);
    buf->len -= len;
}

void co_buf_free(struct co_buf *buf)
{
    free(buf->data);
    *buf = (struct co_buf){0};
}

size_t co_put_varint(uint8_t *p, uint64_t v)
{
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        p[n++] = (uint8_t)(v | 0x80);
    p[n++] = (uint8_t)v;
    return n;
}

size_t co_get_varint(const uint8_t *p, size_t len, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < len && i < CO_VARINT_MAX; i++) {
        if (i == 9 && p[i] > 1)
            return 0;
        v |= (uint64_t)(p[i] & 0x7f) << (7 * i);
        if (!(p[i] & 0x80)) {
            *out = v;
            return i + 1;
        }
    }
    return 0;
}
