#include <criterion/criterion.h>
#include <signal.h>

#include "common/bytes.h"
#include "tests/unit/proto/random.h"

TestSuite(bytes, .timeout = 20);

/* The address sanitizer asks for this: it is to refuse what cannot be had as malloc does, instead
 * of stopping the test that is about that. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

Test(bytes, little_and_big_endian_places)
{
    /* Formats are little-endian, LMDB keys big-endian: memcmp order is number order there. */
    uint8_t p[8];
    co_put16(p, 0x0102);
    cr_expect(p[0] == 2 && p[1] == 1 && co_get16(p) == 0x0102);
    co_put32(p, 0x01020304);
    static const uint8_t le32[] = {4, 3, 2, 1};
    cr_expect(memcmp(p, le32, 4) == 0 && co_get32(p) == 0x01020304);
    co_put64(p, 0x0102030405060708);
    static const uint8_t le64[] = {8, 7, 6, 5, 4, 3, 2, 1};
    cr_expect(memcmp(p, le64, 8) == 0 && co_get64(p) == 0x0102030405060708);
    co_put32be(p, 0x01020304);
    static const uint8_t be32[] = {1, 2, 3, 4};
    cr_expect(memcmp(p, be32, 4) == 0 && co_get32be(p) == 0x01020304);
    co_put64be(p, 0x0102030405060708);
    static const uint8_t be64[] = {1, 2, 3, 4, 5, 6, 7, 8};
    cr_expect(memcmp(p, be64, 8) == 0 && co_get64be(p) == 0x0102030405060708);
}

Test(bytes, numbers_come_back_from_any_address)
{
    struct rnd r = rnd_begin("bytes");
    uint8_t p[16], q[16];
    for (int i = 0; i < 20000; i++) {
        uint64_t v = rnd_any(&r), w = rnd_any(&r);
        size_t at = rnd_below(&r, 9);
        co_put64(p + at, v);
        cr_assert_eq(co_get64(p + at), v);
        co_put32(p + at, (uint32_t)v);
        cr_assert_eq(co_get32(p + at), (uint32_t)v);
        co_put16(p + at, (uint16_t)v);
        cr_assert_eq(co_get16(p + at), (uint16_t)v);
        co_put64be(p, v);
        co_put64be(q, w);
        int order = memcmp(p, q, 8);
        cr_assert_eq((order > 0) - (order < 0), (v > w) - (v < w));
        co_put32be(p + at, (uint32_t)v);
        cr_assert_eq(co_get32be(p + at), (uint32_t)v);
    }
}

Test(bytes, varints_at_the_edges_of_each_length)
{
    uint8_t p[CO_VARINT_MAX];
    for (unsigned bits = 0; bits < 64; bits++) {
        uint64_t edge = 1ull << bits, rows[] = {edge - 1, edge, edge + 1, UINT64_MAX};
        for (int i = 0; i < 4; i++) {
            uint64_t got = ~rows[i];
            size_t n = co_put_varint(p, rows[i]);
            size_t want = 1;
            while (want < 10 && rows[i] >> (7 * want))
                want++;
            cr_assert_eq(n, want);
            cr_assert_eq(co_get_varint(p, n, &got), n);
            cr_assert_eq(got, rows[i]);
            for (size_t cut = 0; cut < n; cut++)
                cr_assert_eq(co_get_varint(p, cut, &got), 0, "ends early");
        }
    }
}

Test(bytes, varints_beyond_64_bits_are_refused)
{
    static const uint8_t two[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2};
    static const uint8_t eleven[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x81, 0};
    static const uint8_t most[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1};
    uint64_t v;
    cr_expect_eq(co_get_varint(two, sizeof two, &v), 0);
    cr_expect_eq(co_get_varint(eleven, sizeof eleven, &v), 0);
    cr_expect_eq(co_get_varint(most, sizeof most, &v), 10);
    cr_expect_eq(v, UINT64_MAX);
}

Test(bytes, a_buffer_grows_and_keeps_its_bytes)
{
    struct rnd r = rnd_begin("bytes");
    static uint8_t model[100000], piece[500];
    size_t len = 0;
    struct co_buf buf = {0};
    while (len < sizeof model - sizeof piece) {
        size_t n = rnd_below(&r, sizeof piece + 1);
        switch (rnd_below(&r, 4)) {
        case 0:
            cr_assert_eq(co_buf_append_zeros(&buf, n), 0);
            memset(model + len, 0, n);
            len += n;
            break;
        case 1:
            n = n < len ? n / 4 : 0;
            co_buf_consume(&buf, n);
            memmove(model, model + n, len - n);
            len -= n;
            break;
        default:
            rnd_fill(&r, piece, n);
            cr_assert_eq(co_buf_append(&buf, piece, n), 0);
            memcpy(model + len, piece, n);
            len += n;
        }
        cr_assert(buf.len == len && buf.cap >= len);
    }
    cr_assert_eq(memcmp(buf.data, model, len), 0);
    co_buf_free(&buf);
    cr_assert(buf.data == NULL && buf.len == 0 && buf.cap == 0);
}

Test(bytes, what_was_reserved_does_not_move)
{
    struct co_buf buf = {0};
    cr_assert_eq(co_buf_append(&buf, "abc", 3), 0);
    cr_assert_eq(co_buf_reserve(&buf, 1000), 0);
    cr_assert(buf.len == 3 && buf.cap >= 1003);
    const uint8_t *before = buf.data;
    cr_assert_eq(co_buf_append_zeros(&buf, 1000), 0);
    cr_assert_eq(buf.data, before);
    co_buf_free(&buf);
}

Test(bytes, memory_that_cannot_be_had_leaves_the_buffer)
{
    /* P6: CO_ERR_NOMEM, a sentence, and nothing has changed. */
    struct co_buf buf = {0};
    cr_assert_eq(co_buf_append(&buf, "abc", 3), 0);
    struct co_buf before = buf;
    cr_expect_eq(co_buf_reserve(&buf, SIZE_MAX), CO_ERR_NOMEM);
    cr_expect_eq(co_buf_reserve(&buf, SIZE_MAX - 3), CO_ERR_NOMEM);
    cr_expect_eq(co_buf_append_zeros(&buf, PTRDIFF_MAX), CO_ERR_NOMEM);
    cr_expect(buf.data == before.data && buf.len == 3 && buf.cap == before.cap);
    cr_expect_eq(memcmp(buf.data, "abc", 3), 0);
    cr_expect_gt(strlen(co_sentence()), 10);
    co_buf_free(&buf);
}

Test(bytes, nothing_can_be_appended_to_nothing)
{
    struct co_buf buf = {0};
    cr_assert_eq(co_buf_append(&buf, NULL, 0), 0);
    co_buf_consume(&buf, 0);
    cr_assert_eq(buf.len, 0);
    co_buf_free(&buf);
}

Test(bytes, consuming_more_than_there_is_aborts, .signal = SIGABRT)
{
    struct co_buf buf = {0};
    cr_assert_eq(co_buf_append(&buf, "abc", 3), 0);
    co_buf_consume(&buf, 4);
}
