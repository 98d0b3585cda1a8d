/*
 * bytes.h - bytes that are borrowed (co_span) and bytes that are owned (co_buf), and little-endian
 * loads and stores. All formats of Corallite are little-endian but for LMDB keys, which are
 * big-endian so that memcmp order is the lookup order.
 */
#ifndef CORALLITE_COMMON_BYTES_H
#define CORALLITE_COMMON_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/error.h"

/* Borrowed bytes. Whoever takes one says until when. */
struct co_span {
    const uint8_t *data;
    size_t len;
};

/* Owned, growing bytes. Zeroed memory is an empty buffer. */
struct co_buf {
    uint8_t *data;
    size_t len;
    size_t cap;
};

static inline struct co_span co_span_of(const void *data, size_t len)
{
    return (struct co_span){(const uint8_t *)data, len};
}

static inline struct co_span co_buf_span(const struct co_buf *buf)
{
    return (struct co_span){buf->data, buf->len};
}

/* Makes room for `more` bytes beyond len. CO_ERR_NOMEM leaves the buffer as it was. */
CO_MUST_CHECK int co_buf_reserve(struct co_buf *buf, size_t more);
/* Appends; CO_ERR_NOMEM leaves the buffer as it was. */
CO_MUST_CHECK int co_buf_append(struct co_buf *buf, const void *data, size_t len);
CO_MUST_CHECK int co_buf_append_zeros(struct co_buf *buf, size_t len);
/* Drops the first `len` bytes (len <= buf->len). */
void co_buf_consume(struct co_buf *buf, size_t len);
/* Frees and leaves an empty buffer. */
void co_buf_free(struct co_buf *buf);

static inline uint16_t co_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | (uint16_t)p[1] << 8);
}
static inline uint32_t co_get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t co_get64(const uint8_t *p)
{
    return (uint64_t)co_get32(p) | (uint64_t)co_get32(p + 4) << 32;
}
static inline void co_put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void co_put32(uint8_t *p, uint32_t v)
{
    co_put16(p, (uint16_t)v);
    co_put16(p + 2, (uint16_t)(v >> 16));
}
static inline void co_put64(uint8_t *p, uint64_t v)
{
    co_put32(p, (uint32_t)v);
    co_put32(p + 4, (uint32_t)(v >> 32));
}
static inline uint32_t co_get32be(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}
static inline uint64_t co_get64be(const uint8_t *p)
{
    return (uint64_t)co_get32be(p) << 32 | co_get32be(p + 4);
}
static inline void co_put32be(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}
static inline void co_put64be(uint8_t *p, uint64_t v)
{
    co_put32be(p, (uint32_t)(v >> 32));
    co_put32be(p + 4, (uint32_t)v);
}

/* LEB128 unsigned varint, 1 to 10 bytes. put returns the bytes written. get returns the bytes read,
 * 0 when the input ends early or the number does not fit in 64 bits. */
#define CO_VARINT_MAX 10
size_t co_put_varint(uint8_t *p, uint64_t v);
size_t co_get_varint(const uint8_t *p, size_t len, uint64_t *out);

#endif
