/*
 * page_codec.h - how one version of one page lies in the store: encoded, cut into chunks. Pure.
 *
 * Chunk 0 begins with a head, the others are bytes alone:
 *    0  1  encoding: 1 raw, 2 zstd
 *    1  1  flags: 0
 *    2  1  number of chunks, 1..
 *    3  1  log2 of the page size
 *    4  4  CRC-32C of the page (little-endian), as the writer computed it
 *    8     the first bytes of the encoded page
 * The encoded page is the concatenation of the chunks. No chunk is longer than chunk_max bytes, so
 * that no value of the store takes more than one overflow page of LMDB: a value of 4081 bytes takes
 * two, and a search for two adjacent free pages gets slow in a fragmented file. PS_CHUNK_MAX was
 * chosen by measuring; figures in docs/STORAGE.md.
 *
 * The versions that follow an image and differ little from the one before each lie together in one
 * more value beside it, the pack (chunk number PS_PACK_CHUNK); a read takes the image and the pack,
 * and applies what is at or below its LSN. An entry of a pack:
 *       varint  LSN less that of the version before (of the image, for the first)
 *       varint  length of the runs
 *    4          CRC-32C of the page that results
 *               runs (proto/wal_delta.h) that turn the version before into this one
 *
 * A codec belongs to one thread.
 */
#ifndef CORALLITE_PAGESERVER_PAGE_CODEC_H
#define CORALLITE_PAGESERVER_PAGE_CODEC_H

#include <stdint.h>

#include "common/bytes.h"
#include "proto/limits.h"
#include "proto/lsn.h"

#define PS_CHUNK_MAX        4080u /* bytes of an LMDB value that fit one overflow page */
#define PS_CHUNK_INLINE_MAX 2013u /* bytes of a value that stay in the leaf with a page key */
#define PS_CHUNK_MIN        512u  /* least chunk_max: 64 KiB then take 130 chunks, < 256 */
#define PS_HEAD_BYTES       8u

#define PS_PACK_CHUNK       255u
/* A pack stays in the leaf. It also bounds what a read applies and a put copies. */
#define PS_PACK_MAX PS_CHUNK_INLINE_MAX

enum ps_encoding { PS_RAW = 1, PS_ZSTD = 2 };

struct ps_codec;

CO_MUST_CHECK int ps_codec_new(struct ps_codec **out);
void ps_codec_free(struct ps_codec *codec);
/* The codec's ZSTD_DCtx, for wal_apply. */
void *ps_codec_dctx(struct ps_codec *codec);

/* An encoded page: n_chunks values. `body` is borrowed from the codec (or the page) until its next
 * use. */
struct ps_image {
    uint8_t head[PS_HEAD_BYTES];
    struct co_span body;
    uint32_t n_chunks, chunk_max;
};

/* Encodes. `zstd` is the page compressed already (as it stands in a WAL record); or the page
 * itself, when that is known to gain nothing; or empty: it is tried. */
void ps_encode(struct ps_codec *codec, const uint8_t *page, uint32_t page_size, uint32_t crc,
               struct co_span zstd, uint32_t chunk_max, struct ps_image *out);
/* Length of chunk i's value; and the value itself, into out[that length]. */
size_t ps_chunk_bytes(const struct ps_image *image, uint32_t i);
void ps_chunk_write(const struct ps_image *image, uint32_t i, uint8_t *out);

/* Takes chunk 0; says how many chunks there are. An only one is borrowed until the end. Errors:
 * CO_ERR_CORRUPT with a sentence that lacks only the place; CO_ERR_VERSION for an encoding this
 * build does not know. */
CO_MUST_CHECK int ps_decode_begin(struct ps_codec *codec, struct co_span value, uint32_t page_size,
                                  uint32_t *n_chunks);
/* Takes each further chunk in order. */
CO_MUST_CHECK int ps_decode_more(struct ps_codec *codec, struct co_span value);
/* Makes the page in out[page_size]; its CRC is still to be checked. */
CO_MUST_CHECK int ps_decode_page(struct ps_codec *codec, uint8_t *out, uint32_t *crc);
/* The same, checked. */
CO_MUST_CHECK int ps_decode_end(struct ps_codec *codec, uint8_t *out, uint32_t *crc);

struct ps_pack_entry {
    lsn_t lsn;
    uint32_t crc;
    struct co_span runs;
};
/* Takes the next entry of a pack off *rest; `prev` is the LSN of the version before it.
 * CO_ERR_NOT_FOUND: *rest is empty. CO_ERR_CORRUPT with a sentence that lacks only the place. */
CO_MUST_CHECK int ps_pack_next(struct co_span *rest, lsn_t prev, struct ps_pack_entry *out);
/* How many entries a pack has; of a damaged one those before the damage. */
uint64_t ps_pack_count(struct co_span pack);
/* Makes the entry that turns `before` into `page`, in out[cap]; its length. 0: it does not fit, or
 * would have more than runs_max bytes of runs. */
size_t ps_pack_make(const uint8_t *before, lsn_t prev, const uint8_t *page, uint32_t page_size,
                    uint32_t crc, lsn_t lsn, size_t runs_max, uint8_t *out, size_t cap);
/* Applies an entry to page[page_size]. */
CO_MUST_CHECK int ps_pack_apply(const struct ps_pack_entry *entry, uint8_t *page,
                                uint32_t page_size);
/* Is this the page with that CRC? CO_ERR_CORRUPT. */
CO_MUST_CHECK int ps_check_crc(const uint8_t *page, uint32_t page_size, uint32_t want);

#endif
