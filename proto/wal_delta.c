/*
 * wal_delta.c - run lists.
 *
 * The pages are compared eight bytes at a time. A run is a longest stretch of bytes that all
 * differ; two runs become one when the equal bytes between them cost less than a second run's gap
 * and length would.
 */
#include "proto/wal_delta.h"

#include <endian.h>

/* The bytes at p as a number whose lowest byte comes first. */
static uint64_t load(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

static size_t lowest_byte(uint64_t v)
{
    return (size_t)__builtin_ctzll(v) / 8;
}

/* First position from `at` on where the two differ, n if there is none. */
static size_t skip_equal(const uint8_t *a, const uint8_t *b, size_t at, size_t n)
{
    for (; n - at >= 32; at += 32) {
        uint64_t any = (load(a + at) ^ load(b + at)) | (load(a + at + 8) ^ load(b + at + 8)) |
                       (load(a + at + 16) ^ load(b + at + 16)) |
                       (load(a + at + 24) ^ load(b + at + 24));
        if (any)
            break;
    }
    for (; n - at >= 8; at += 8) {
        uint64_t differs = load(a + at) ^ load(b + at);
        if (differs)
            return at + lowest_byte(differs);
    }
    while (at < n && a[at] == b[at])
        at++;
    return at;
}

/* First position from `at` on where the two are equal, n if there is none. */
static size_t skip_different(const uint8_t *a, const uint8_t *b, size_t at, size_t n)
{
    const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    for (; n - at >= 8; at += 8) {
        uint64_t differs = load(a + at) ^ load(b + at);
        uint64_t zero = (differs - ones) & ~differs & highs; /* lowest bit set: exact */
        if (zero)
            return at + lowest_byte(zero);
    }
    while (at < n && a[at] != b[at])
        at++;
    return at;
}

/* Of numbers below 2^21: no page is longer. */
static size_t varint_bytes(size_t v)
{
    return v < 0x80 ? 1 : v < 0x4000 ? 2 : 3;
}

/* Is one run over both, and the `gap` equal bytes between them, no longer than two? */
static bool better_merged(size_t first, size_t gap, size_t second)
{
    size_t merged = gap + varint_bytes(first + gap + second) - varint_bytes(first);
    return merged <= varint_bytes(gap) + varint_bytes(second);
}

size_t wal_delta_make(const uint8_t *base, const uint8_t *page, uint32_t page_size, uint8_t *out,
                      size_t cap)
{
    size_t n = page_size, written = 0, covered = 0; /* covered: end of the run before */
    size_t start = skip_equal(base, page, 0, n);

    while (start < n) {
        size_t end = skip_different(base, page, start, n);
        size_t next = n;
        while (end < n) {
            next = skip_equal(base, page, end, n);
            if (next == n)
                break;
            size_t next_end = skip_different(base, page, next, n);
            if (!better_merged(end - start, next - end, next_end - next))
                break;
            end = next_end;
            next = n;
        }
        size_t gap = start - covered, length = end - start;
        size_t need = varint_bytes(gap) + varint_bytes(length) + length;
        if (need > cap - written)
            return WAL_DELTA_NONE;
        written += co_put_varint(out + written, gap);
        written += co_put_varint(out + written, length);
        memcpy(out + written, page + start, length);
        written += length;
        covered = end;
        start = next;
    }
    return written;
}

bool wal_delta_apply(struct co_span runs, uint8_t *page, uint32_t page_size)
{
    const uint8_t *p = runs.data;
    size_t left = runs.len, at = 0;
    while (left) {
        uint64_t gap, length;
        size_t used = co_get_varint(p, left, &gap);
        if (used == 0 || gap > page_size - at)
            return false;
        p += used;
        left -= used;
        at += (size_t)gap;
        used = co_get_varint(p, left, &length);
        if (used == 0 || length == 0 || length > page_size - at || length > left - used)
            return false;
        memcpy(page + at, p + used, (size_t)length);
        p += used + length;
        left -= used + (size_t)length;
        at += (size_t)length;
    }
    return true;
}
