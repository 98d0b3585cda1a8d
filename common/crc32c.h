/*
 * crc32c.h - CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), as iSCSI and ext4 use it.
 * Uses the SSE4.2 instruction where the processor has it; the table is the portable fallback.
 */
#ifndef CORALLITE_COMMON_CRC32C_H
#define CORALLITE_COMMON_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC of `len` bytes that follow bytes whose CRC is `crc` (0 to begin with):
 * co_crc32c(co_crc32c(0, a), b) is the CRC of a followed by b. */
uint32_t co_crc32c(uint32_t crc, const void *data, size_t len);

/* CRC of a followed by b, from the CRC of each and the length of b. */
uint32_t co_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b);

/* The table version, for the test that compares the two. */
uint32_t co_crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif
