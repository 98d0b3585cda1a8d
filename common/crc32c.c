#include "common/crc32c.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

/* -DCO_PORTABLE leaves every instruction out that not all processors have (`make portable`). */
#if defined(__x86_64__) && !defined(CO_PORTABLE)
#define HAVE_SSE42 1
#else
#define HAVE_SSE42 0
#endif

static uint32_t table[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* In the field of the polynomials, where bit 31 stands for 1 and bit 30 for x. */
static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t bit = 1u << 31; bit; bit >>= 1) {
        if (a & bit)
            product ^= b;
        b = b & 1 ? b >> 1 ^ 0x82f63b78u : b >> 1;
    }
    return product;
}

/* What a CRC is multiplied with when `len` bytes more follow: x to the power of 8 * len. */
static uint32_t power_of(uint64_t len)
{
    uint32_t shift = 1u << 31, power = 1u << 23; /* 1; x to the 8th: one byte further */
    for (; len; len >>= 1) {
        if (len & 1)
            shift = multiply(power, shift);
        power = multiply(power, power);
    }
    return shift;
}

#if HAVE_SSE42
/* The instruction takes three cycles and can begin every cycle: so three parts of the bytes are
 * summed up side by side, and put together by a multiplication, for which there are tables. Of a
 * page of 4 KiB the long lanes take all but 64 bytes. */
#define LANE_LONG  1344u
#define LANE_SHORT 168u
static bool have_instruction;
static uint32_t over_long[4][256], over_short[4][256];

static void prepare_lanes(uint32_t over[4][256], uint32_t lane)
{
    uint32_t power = power_of(lane);
    for (uint32_t k = 0; k < 4; k++)
        for (uint32_t i = 0; i < 256; i++)
            over[k][i] = multiply(power, i << 8 * k);
}
#endif

static void prepare(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
        table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            table[t][i] = table[t - 1][i] >> 8 ^ table[0][table[t - 1][i] & 0xff];
#if HAVE_SSE42
    have_instruction = __builtin_cpu_supports("sse4.2");
    prepare_lanes(over_long, LANE_LONG);
    prepare_lanes(over_short, LANE_SHORT);
#endif
}

/* Eight bytes a step ("slicing by 8"). */
uint32_t co_crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    pthread_once(&once, prepare);
    crc = ~crc;
    for (; len >= 8; len -= 8, p += 8) {
        uint32_t a = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                            (uint32_t)p[3] << 24);
        crc = table[7][a & 0xff] ^ table[6][a >> 8 & 0xff] ^ table[5][a >> 16 & 0xff] ^
              table[4][a >> 24] ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    for (; len; len--)
        crc = crc >> 8 ^ table[0][(crc ^ *p++) & 0xff];
    return ~crc;
}

#if HAVE_SSE42
static inline uint64_t shifted(uint64_t crc, const uint32_t over[4][256])
{
    return over[0][crc & 0xff] ^ over[1][crc >> 8 & 0xff] ^ over[2][crc >> 16 & 0xff] ^
           over[3][crc >> 24 & 0xff];
}

/* Goes on by three lanes. */
__attribute__((target("sse4.2"))) static inline uint64_t
three_lanes(uint64_t c, const uint8_t *p, size_t lane, const uint32_t over[4][256])
{
    uint64_t second = 0, third = 0;
    for (size_t i = 0; i < lane; i += 8) {
        uint64_t a, b, d;
        memcpy(&a, p + i, 8);
        memcpy(&b, p + lane + i, 8);
        memcpy(&d, p + 2 * lane + i, 8);
        c = __builtin_ia32_crc32di(c, a);
        second = __builtin_ia32_crc32di(second, b);
        third = __builtin_ia32_crc32di(third, d);
    }
    return shifted(shifted(c, over) ^ second, over) ^ third;
}

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const void *data,
                                                                 size_t len)
{
    const uint8_t *p = data;
    uint64_t c = ~crc;
    for (; len >= 3 * LANE_LONG; len -= 3 * LANE_LONG, p += 3 * LANE_LONG)
        c = three_lanes(c, p, LANE_LONG, over_long);
    for (; len >= 3 * LANE_SHORT; len -= 3 * LANE_SHORT, p += 3 * LANE_SHORT)
        c = three_lanes(c, p, LANE_SHORT, over_short);
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        c = __builtin_ia32_crc32di(c, word);
    }
    uint32_t c32 = (uint32_t)c;
    for (; len; len--)
        c32 = __builtin_ia32_crc32qi(c32, *p++);
    return ~c32;
}
#endif

uint32_t co_crc32c(uint32_t crc, const void *data, size_t len)
{
    pthread_once(&once, prepare);
#if HAVE_SSE42
    if (have_instruction)
        return by_instruction(crc, data, len);
#endif
    return co_crc32c_portable(crc, data, len);
}

uint32_t co_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b)
{
    return multiply(power_of(len_b), crc_a) ^ crc_b;
}
