#include <criterion/criterion.h>

#include "common/crc32c.h"
#include "tests/unit/proto/random.h"

TestSuite(crc32c, .timeout = 20);

Test(crc32c, known_values)
{
    /* RFC 3720, B.4, and the check value of the CRC catalogues. */
    uint8_t bytes[32];
    cr_expect_eq(co_crc32c(0, "123456789", 9), 0xe3069283u);
    cr_expect_eq(co_crc32c(0, "", 0), 0);
    cr_expect_eq(co_crc32c(0, NULL, 0), 0);
    memset(bytes, 0, sizeof bytes);
    cr_expect_eq(co_crc32c(0, bytes, 32), 0x8a9136aau);
    memset(bytes, 0xff, sizeof bytes);
    cr_expect_eq(co_crc32c(0, bytes, 32), 0x62a8ab43u);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    cr_expect_eq(co_crc32c(0, bytes, 32), 0x46dd794eu);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    cr_expect_eq(co_crc32c(0, bytes, 32), 0x113fdb5cu);
    cr_expect_eq(co_crc32c_portable(0, "123456789", 9), 0xe3069283u);
}

/* One bit at a time, from the definition. */
static uint32_t by_definition(const uint8_t *p, size_t n)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

Test(crc32c, instruction_table_and_definition_agree)
{
    /* Files and streams pass between machines with and without the instruction. */
    struct rnd r = rnd_begin("crc32c");
    static uint8_t bytes[5000];
    rnd_fill(&r, bytes, sizeof bytes);
    for (int i = 0; i < 3000; i++) {
        size_t n = i < 300 ? (size_t)i : rnd_below(&r, 4096), at = rnd_below(&r, 64);
        uint32_t want = by_definition(bytes + at, n);
        cr_assert_eq(co_crc32c(0, bytes + at, n), want, "%zu bytes at %zu", n, at);
        cr_assert_eq(co_crc32c_portable(0, bytes + at, n), want, "%zu bytes at %zu", n, at);
    }
}

Test(crc32c, goes_on_where_it_stopped)
{
    /* CRC of a followed by b from the CRC of a: frames are summed up in pieces. */
    struct rnd r = rnd_begin("crc32c");
    static uint8_t bytes[1000];
    rnd_fill(&r, bytes, sizeof bytes);
    uint32_t whole = co_crc32c(0, bytes, sizeof bytes);
    for (size_t cut = 0; cut <= sizeof bytes; cut++) {
        uint32_t first = co_crc32c(0, bytes, cut);
        cr_assert_eq(co_crc32c(first, bytes + cut, sizeof bytes - cut), whole);
        cr_assert_eq(co_crc32c_portable(first, bytes + cut, sizeof bytes - cut), whole);
    }
}

Test(crc32c, crcs_of_pieces_combine_to_that_of_the_whole)
{
    uint8_t bytes[5000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 7);
    for (size_t cut = 0; cut <= sizeof bytes; cut += 1 + cut / 5) {
        uint32_t a = co_crc32c(0, bytes, cut), b = co_crc32c(0, bytes + cut, sizeof bytes - cut);
        cr_assert_eq(co_crc32c_combine(a, b, sizeof bytes - cut),
                     co_crc32c(0, bytes, sizeof bytes));
    }
    /* Zeros of a length that nobody has in memory, in two ways. */
    uint32_t zeros = 0, one = co_crc32c(0, "\0", 1), power = one;
    uint64_t len = 1;
    for (int i = 0; i < 33; i++, len *= 2)
        power = co_crc32c_combine(power, power, len);
    zeros = co_crc32c_combine(power, one, 1);
    cr_assert_eq(co_crc32c_combine(one, power, len), zeros);
}
