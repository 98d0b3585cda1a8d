#include "pageserver/page_codec.h"

#include <stdbool.h>
#include <stdlib.h>
#include <zstd.h>

#include "common/assert.h"
#include "common/crc32c.h"

/* Level 1: at page size higher levels cost time and gain nothing. */
#define LEVEL 1

struct ps_codec {
    ZSTD_CCtx *cctx;
    ZSTD_DCtx *dctx;
    uint8_t *packed; /* room for the bound of the largest page */
    size_t packed_cap;
    /* decoding */
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
    *n_chunks = value.data[2];
    return ps_decode_more(codec, co_span_of(value.data + PS_HEAD_BYTES, value.len - PS_HEAD_BYTES));
}

int ps_decode_more(struct ps_codec *codec, struct co_span value)
{
    if (value.len > codec->packed_cap - codec->got)
        return co_fail(CO_ERR_CORRUPT, "its chunks are longer than a page can be");
    memcpy(codec->packed + codec->got, value.data, value.len);
    codec->got += value.len;
    return 0;
}

int ps_decode_end(struct ps_codec *codec, uint8_t *out, uint32_t *crc)
{
    if (codec->encoding == PS_ZSTD) {
        size_t n =
            ZSTD_decompressDCtx(codec->dctx, out, codec->page_size, codec->packed, codec->got);
        if (ZSTD_isError(n))
            return co_fail(CO_ERR_CORRUPT, "it does not decompress: %s", ZSTD_getErrorName(n));
        if (n != codec->page_size)
            return co_fail(CO_ERR_CORRUPT, "it decompresses to %zu bytes of %u", n,
                           codec->page_size);
    } else {
        if (codec->got != codec->page_size)
            return co_fail(CO_ERR_CORRUPT, "it has %zu bytes of %u", codec->got, codec->page_size);
        memcpy(out, codec->packed, codec->got);
    }
    uint32_t found = co_crc32c(0, out, codec->page_size);
    if (found != codec->crc)
        return co_fail(CO_ERR_CORRUPT, "its CRC-32C is %08x and should be %08x", found, codec->crc);
    *crc = found;
    return 0;
}
