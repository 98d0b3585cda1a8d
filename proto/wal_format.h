/*
 * wal_format.h - offsets of the record's byte table (wal.h), and what its builder and its reader
 * share. For wal_*.c only.
 */
#ifndef CORALLITE_PROTO_WAL_FORMAT_H
#define CORALLITE_PROTO_WAL_FORMAT_H

#include "proto/wal.h"

#define WAL_VERSION       1u
#define WAL_VERSION_LARGE 2u

#define WAL_MAGIC         0x4c415743u /* "CWAL" */
#define WAL_END_MAGIC     0x4357414cu /* "LAWC" */

enum {
    WH_MAGIC = 0,
    WH_VERSION = 4,
    WH_HEADER_BYTES = 6,
    WH_TOTAL = 8,
    WH_KIND = 16,
    WH_ZERO = 17,
    WH_PAGE_SIZE = 20,
    WH_CLUSTER = 24,
    WH_TIMELINE = 40,
    WH_TERM = 56,
    WH_BEGIN = 64,
    WH_BASE = 72,
    WH_END = 80,
    WH_SEALED = 88,
    WH_TIME = 96,
    WH_COMMIT = 104,
    WH_PREV_DIGEST = 120,
    WH_DB_PAGES = 136,
    WH_N_ENTRIES = 140,
    WH_END_OF_HEADER = 144,

    WE_PGNO = 0,
    WE_ENCODING = 4,
    WE_DATA_BYTES = 5,
    WE_PAGE_CRC = 8,
    WE_BASE_LSN = 12,
    WE_BASE_CRC = 20,
    WE_SHORT_BYTES = 12, /* entry header: image, zstd image, member */
    WE_DELTA_BYTES = 24, /* entry header: delta */

    WT_DIGEST = 0, /* in the trailer */
    WT_CRC = 16,
    WT_MAGIC = 20,
    WT_END_OF_TRAILER = 24,
};

_Static_assert(WH_END_OF_HEADER == WAL_HEADER_BYTES, "the byte table of wal.h");
_Static_assert(WT_END_OF_TRAILER == WAL_TRAILER_BYTES, "the byte table of wal.h");

static inline uint32_t wal_get24(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
}

static inline void wal_put24(uint8_t *p, uint32_t v)
{
    co_put16(p, (uint16_t)v);
    p[2] = (uint8_t)(v >> 16);
}

static inline bool wal_page_size_valid(uint32_t n)
{
    return n >= CO_PAGE_SIZE_MIN && n <= CO_PAGE_SIZE_MAX && (n & (n - 1)) == 0;
}

/* Takes the entry at the front of *rest. false: it does not fit. Lengths only; what an entry says
 * is checked by wal_check. wal_read.c */
bool wal_take_entry(struct co_span *rest, enum wal_kind kind, struct wal_entry *out);

/* What is wrong with an entry of a TXN that follows page `last`, NULL if nothing is. wal_read.c */
const char *wal_entry_fault(const struct wal_header *h, const struct wal_entry *e, pgno_t last);

/* The digest of a TXN whose entries come one by one. Cannot fail. wal_digest.c */
struct wal_hash {
    _Alignas(8) uint8_t state[128];
};
void wal_hash_begin(struct wal_hash *h, const uint8_t header[WAL_HEADER_BYTES]);
void wal_hash_entry(struct wal_hash *h, const struct wal_entry *e);
/* The same of many: page number and CRC of the page, 4 bytes each, back to back. */
void wal_hash_said(struct wal_hash *h, struct co_span said);
void wal_hash_end(struct wal_hash *h, struct wal_digest *out);

/* The format version of a record of so many bytes: a release that takes at most 1 GiB must not
 * call a larger one damaged. */
static inline unsigned wal_version_of(uint64_t total_bytes)
{
    return total_bytes > CO_GIB ? WAL_VERSION_LARGE : WAL_VERSION;
}

/* Digest of a record by its header and its entries, which are sound. Cannot fail. wal_digest.c */
void wal_digest_of(const uint8_t header[WAL_HEADER_BYTES], enum wal_kind kind, uint32_t n_entries,
                   struct co_span entries, struct wal_digest *out);

#endif
