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
#if HAVE_SSE42
static bool have_instruction;
#endif
static pthread_once_t once = PTHREAD_ONCE_INIT;

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
__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const void *data,
                                                                 size_t len)
{
    const uint8_t *p = data;
    uint64_t c = ~crc;
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

/* -- Combining: in the field of the polynomials, where bit 31 stands for 1 and bit 30 for x
 * -------- */

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

uint32_t co_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b)
{
    uint32_t shift = 1u << 31, power = 1u << 23; /* 1; x to the 8th: one byte further */
    for (; len_b; len_b >>= 1) {
        if (len_b & 1)
            shift = multiply(power, shift);
        power = multiply(power, power);
    }
    return multiply(shift, crc_a) ^ crc_b;
}
