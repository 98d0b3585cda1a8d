#include "pageserver/page_codec.h"

#include <stdbool.h>
#include <stdlib.h>
#include <zstd.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "proto/wal_delta.h"

/* Level 1: at page size higher levels cost time and gain nothing. */
#define LEVEL 1

struct ps_codec {
    ZSTD_CCtx *cctx;
    ZSTD_DCtx *dctx;
    uint8_t *packed; /* room for the bound of the largest page */
    size_t packed_cap;
    /* decoding: the chunks lie in `packed` one behind the other, but for an only one */
    const uint8_t *only; /* NULL: not an only one */
    size_t got;
    uint32_t page_size, crc;
    uint8_t encoding;
};

int ps_codec_new(struct ps_codec **out)
{
    struct ps_codec *codec = calloc(1, sizeof *codec);
    if (!codec)
        return co_fail(CO_ERR_NOMEM, "no memory for a page codec");
    codec->packed_cap = ZSTD_compressBound(CO_PAGE_SIZE_MAX);
    codec->packed = malloc(codec->packed_cap);
    codec->cctx = ZSTD_createCCtx();
    codec->dctx = ZSTD_createDCtx();
    if (!codec->packed || !codec->cctx || !codec->dctx) {
        ps_codec_free(codec);
        return co_fail(CO_ERR_NOMEM, "no memory for a page codec");
    }
    *out = codec;
    return 0;
}

void ps_codec_free(struct ps_codec *codec)
{
    if (!codec)
        return;
    ZSTD_freeCCtx(codec->cctx);
    ZSTD_freeDCtx(codec->dctx);
    free(codec->packed);
    free(codec);
}

void *ps_codec_dctx(struct ps_codec *codec)
{
    return codec->dctx;
}

static uint32_t chunks_of(size_t bytes, uint32_t chunk_max)
{
    return (uint32_t)((PS_HEAD_BYTES + bytes + chunk_max - 1) / chunk_max);
}

/* Compression pays when it saves a chunk or at least a sixteenth of the page. */
static bool pays(size_t packed, uint32_t page_size, uint32_t chunk_max)
{
    return chunks_of(packed, chunk_max) < chunks_of(page_size, chunk_max) ||
           packed + page_size / 16 <= page_size;
}

void ps_encode(struct ps_codec *codec, const uint8_t *page, uint32_t page_size, uint32_t crc,
               struct co_span zstd, uint32_t chunk_max, struct ps_image *out)
{
    co_assert(page_size <= CO_PAGE_SIZE_MAX && chunk_max >= PS_CHUNK_MIN);
    uint8_t encoding = PS_ZSTD;
    if (!zstd.len) {
        size_t n = ZSTD_compressCCtx(codec->cctx, codec->packed, codec->packed_cap, page, page_size,
                                     LEVEL);
        zstd = co_span_of(codec->packed, ZSTD_isError(n) ? page_size : n);
    }
    if (!pays(zstd.len, page_size, chunk_max)) {
        encoding = PS_RAW;
        zstd = co_span_of(page, page_size);
    }
    out->body = zstd;
    out->chunk_max = chunk_max;
    out->n_chunks = chunks_of(zstd.len, chunk_max);
    co_assert(out->n_chunks < 256);
    out->head[0] = encoding;
    out->head[1] = 0;
    out->head[2] = (uint8_t)out->n_chunks;
    out->head[3] = (uint8_t)__builtin_ctz(page_size);
    co_put32(out->head + 4, crc);
}

size_t ps_chunk_bytes(const struct ps_image *image, uint32_t i)
{
    size_t all = PS_HEAD_BYTES + image->body.len;
    size_t from = (size_t)i * image->chunk_max;
    return all - from < image->chunk_max ? all - from : image->chunk_max;
}

void ps_chunk_write(const struct ps_image *image, uint32_t i, uint8_t *out)
{
    size_t n = ps_chunk_bytes(image, i);
    if (i == 0) {
        memcpy(out, image->head, PS_HEAD_BYTES);
        memcpy(out + PS_HEAD_BYTES, image->body.data, n - PS_HEAD_BYTES);
    } else {
        memcpy(out, image->body.data + (size_t)i * image->chunk_max - PS_HEAD_BYTES, n);
    }
}

int ps_decode_begin(struct ps_codec *codec, struct co_span value, uint32_t page_size,
                    uint32_t *n_chunks)
{
    if (value.len < PS_HEAD_BYTES || value.data[2] == 0)
        return co_fail(CO_ERR_CORRUPT, "its first chunk of %zu bytes has no sound head", value.len);
    if (value.data[0] != PS_RAW && value.data[0] != PS_ZSTD)
        return co_fail(CO_ERR_VERSION, "it has encoding %u, which this build does not know",
                       value.data[0]);
    if (value.data[3] >= 32 || page_size != 1u << value.data[3])
        return co_fail(CO_ERR_CORRUPT, "it is kept with another page size than %u", page_size);
    codec->encoding = value.data[0];
    codec->page_size = page_size;
    codec->crc = co_get32(value.data + 4);
    codec->got = 0;
    codec->only = NULL;
    *n_chunks = value.data[2];
    struct co_span bytes = co_span_of(value.data + PS_HEAD_BYTES, value.len - PS_HEAD_BYTES);
    if (*n_chunks > 1)
        return ps_decode_more(codec, bytes);
    codec->only = bytes.data;
    codec->got = bytes.len;
    return 0;
}

int ps_decode_more(struct ps_codec *codec, struct co_span value)
{
    if (codec->only || value.len > codec->packed_cap - codec->got)
        return co_fail(CO_ERR_CORRUPT, "its chunks are longer than a page can be");
    memcpy(codec->packed + codec->got, value.data, value.len);
    codec->got += value.len;
    return 0;
}

int ps_decode_page(struct ps_codec *codec, uint8_t *out, uint32_t *crc)
{
    const uint8_t *from = codec->only ? codec->only : codec->packed;
    if (codec->encoding == PS_ZSTD) {
        size_t n = ZSTD_decompressDCtx(codec->dctx, out, codec->page_size, from, codec->got);
        if (ZSTD_isError(n))
            return co_fail(CO_ERR_CORRUPT, "it does not decompress: %s", ZSTD_getErrorName(n));
        if (n != codec->page_size)
            return co_fail(CO_ERR_CORRUPT, "it decompresses to %zu bytes of %u", n,
                           codec->page_size);
    } else {
        if (codec->got != codec->page_size)
            return co_fail(CO_ERR_CORRUPT, "it has %zu bytes of %u", codec->got, codec->page_size);
        memcpy(out, from, codec->got);
    }
    *crc = codec->crc;
    return 0;
}

int ps_decode_end(struct ps_codec *codec, uint8_t *out, uint32_t *crc)
{
    int rc = ps_decode_page(codec, out, crc);
    return rc ? rc : ps_check_crc(out, codec->page_size, *crc);
}

int ps_check_crc(const uint8_t *page, uint32_t page_size, uint32_t want)
{
    uint32_t found = co_crc32c(0, page, page_size);
    if (found != want)
        return co_fail(CO_ERR_CORRUPT, "its CRC-32C is %08x and should be %08x", found, want);
    return 0;
}

/* -- Packs ------------------------------------------------------------------------------------- */

#define VARINT_MAX 10u

static int bad_pack(void)
{
    return co_fail(CO_ERR_CORRUPT, "the pack of its deltas is malformed");
}

int ps_pack_next(struct co_span *rest, lsn_t prev, struct ps_pack_entry *out)
{
    const uint8_t *p = rest->data;
    size_t left = rest->len, used;
    uint64_t gap, length;
    if (!left)
        return CO_ERR_NOT_FOUND;
    used = co_get_varint(p, left, &gap);
    if (!used || gap == 0 || gap > UINT64_MAX - prev)
        return bad_pack();
    p += used;
    left -= used;
    used = co_get_varint(p, left, &length);
    if (!used || left - used < 4 || length > left - used - 4)
        return bad_pack();
    p += used;
    out->lsn = prev + gap;
    out->crc = co_get32(p);
    out->runs = co_span_of(p + 4, (size_t)length);
    *rest = co_span_of(p + 4 + length, left - used - 4 - (size_t)length);
    return 0;
}

uint64_t ps_pack_count(struct co_span pack)
{
    struct ps_pack_entry e;
    uint64_t n = 0;
    for (lsn_t prev = 0; ps_pack_next(&pack, prev, &e) == 0; prev = e.lsn)
        n++;
    return n;
}

size_t ps_pack_make(const uint8_t *before, lsn_t prev, const uint8_t *page, uint32_t page_size,
                    uint32_t crc, lsn_t lsn, size_t runs_max, uint8_t *out, size_t cap)
{
    uint8_t head[2 * VARINT_MAX + 4], runs[PS_PACK_MAX];
    if (runs_max > sizeof runs)
        runs_max = sizeof runs;
    size_t n = wal_delta_make(before, page, page_size, runs, runs_max);
    if (n == WAL_DELTA_NONE)
        return 0;
    size_t at = co_put_varint(head, lsn - prev);
    at += co_put_varint(head + at, n);
    co_put32(head + at, crc);
    at += 4;
    if (at + n > cap)
        return 0;
    memcpy(out, head, at);
    memcpy(out + at, runs, n);
    return at + n;
}

int ps_pack_apply(const struct ps_pack_entry *entry, uint8_t *page, uint32_t page_size)
{
    return wal_delta_apply(entry->runs, page, page_size) ? 0 : bad_pack();
}
