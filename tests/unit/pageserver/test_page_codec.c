#include <criterion/criterion.h>

#include "pageserver/page_codec.h"
#include "tests/unit/pageserver/ps_util.h"

static struct ps_codec *codec;
static uint8_t page[CO_PAGE_SIZE_MAX], back[CO_PAGE_SIZE_MAX], chunk[CO_PAGE_SIZE_MAX];

static void setup(void)
{
    cr_assert_eq(ps_codec_new(&codec), 0);
}
static void teardown(void)
{
    ps_codec_free(codec);
}
TestSuite(page_codec, .init = setup, .fini = teardown, .timeout = 30);

static int round_trip(uint32_t size, uint32_t chunk_max, uint32_t *n_chunks, size_t *bytes)
{
    struct ps_codec *other; /* what is stored depends on nothing that the encoder keeps */
    struct ps_image image;
    uint32_t n = 0, crc = 0;
    cr_assert_eq(ps_codec_new(&other), 0);
    ps_encode(codec, page, size, ps_crc(page, size), co_span_of(NULL, 0), chunk_max, &image);
    *n_chunks = image.n_chunks;
    *bytes = 0;
    int rc = 0;
    for (uint32_t i = 0; i < image.n_chunks && !rc; i++) {
        size_t len = ps_chunk_bytes(&image, i);
        cr_assert_leq(len, chunk_max, "P3: no value needs more than one overflow page");
        *bytes += len;
        ps_chunk_write(&image, i, chunk);
        rc = i ? ps_decode_more(other, co_span_of(chunk, len))
               : ps_decode_begin(other, co_span_of(chunk, len), size, &n);
    }
    cr_assert_eq(n, image.n_chunks);
    if (!rc)
        rc = ps_decode_end(other, back, &crc);
    ps_codec_free(other);
    return rc;
}

Test(page_codec, pages_of_every_size_and_kind_come_back)
{
    /* P2 and P3, for all page sizes, every kind of content, every size of chunk. */
    static const uint32_t chunks[] = {PS_CHUNK_MIN, PS_CHUNK_INLINE_MAX, PS_CHUNK_MAX};
    for (uint32_t size = CO_PAGE_SIZE_MIN; size <= CO_PAGE_SIZE_MAX; size *= 2)
        for (int kind = FILL_TEXT; kind <= FILL_HALF; kind++)
            for (int c = 0; c < 3; c++) {
                uint32_t n;
                size_t bytes;
                ps_fill(page, size, (enum ps_fill)kind, size);
                memset(back, 0xee, sizeof back);
                cr_assert_eq(round_trip(size, chunks[c], &n, &bytes), 0, "%s", co_sentence());
                cr_assert_eq(memcmp(page, back, size), 0);
                cr_assert_leq(bytes, size + PS_HEAD_BYTES, "never larger than raw and a head");
                if (kind == FILL_TEXT)
                    cr_assert_lt(bytes, size / 2, "text compresses");
            }
}

Test(page_codec, a_page_compressed_in_its_record_is_taken_as_it_is)
{
    /* The writer compressed it already: not done twice, and the same page comes back. */
    struct ps_image first, again;
    uint32_t n, crc;
    ps_fill(page, 4096, FILL_TEXT, 5);
    ps_encode(codec, page, 4096, ps_crc(page, 4096), co_span_of(NULL, 0), PS_CHUNK_MAX, &first);
    size_t len = first.body.len;
    memcpy(chunk, first.body.data, len);
    ps_encode(codec, page, 4096, ps_crc(page, 4096), co_span_of(chunk, len), PS_CHUNK_MAX, &again);
    cr_assert_eq(again.body.data, chunk);
    uint8_t value[4096];
    ps_chunk_write(&again, 0, value);
    cr_assert_eq(ps_decode_begin(codec, co_span_of(value, ps_chunk_bytes(&again, 0)), 4096, &n), 0);
    cr_assert_eq(ps_decode_end(codec, back, &crc), 0);
    cr_assert_eq(memcmp(page, back, 4096), 0);
}

Test(page_codec, damage_is_found)
{
    /* P2: with the CRC it was written with, or not at all. */
    struct ps_image image;
    uint8_t value[5000];
    uint32_t n, crc;
    int found = 0, tried = 0;
    for (int kind = FILL_TEXT; kind <= FILL_NOISE; kind++) {
        uint32_t size = kind == FILL_TEXT ? 4096 : 2048;
        ps_fill(page, size, (enum ps_fill)kind, 8);
        ps_encode(codec, page, size, ps_crc(page, size), co_span_of(NULL, 0), PS_CHUNK_MAX, &image);
        size_t len = ps_chunk_bytes(&image, 0);
        for (size_t at = 4; at < len; at += len / 13 + 1) {
            ps_chunk_write(&image, 0, value);
            value[at] ^= 0x10;
            int rc = ps_decode_begin(codec, co_span_of(value, len), size, &n);
            if (!rc)
                rc = ps_decode_end(codec, back, &crc);
            /* a bit that zstd does not use may change nothing: then the page is right */
            cr_assert(rc == CO_ERR_CORRUPT || (rc == 0 && memcmp(page, back, size) == 0),
                      "byte %zu: %d", at, rc);
            found += rc != 0;
            tried++;
            /* the encoder's scratch was used by the decoder: encode anew */
            ps_encode(codec, page, size, ps_crc(page, size), co_span_of(NULL, 0), PS_CHUNK_MAX,
                      &image);
        }
    }
    cr_assert_geq(found, tried - 3);
}

Test(page_codec, packs_that_make_no_sense_are_refused)
{
    /* Bytes from disk: an LSN that does not grow, lengths beyond the end, runs beyond the page. */
    static const struct {
        uint8_t len, bytes[9];
    } bad[] = {{1, {8}},                               /* no length */
               {1, {0x80}},                            /* a number cut short */
               {6, {0, 0, 1, 2, 3, 4}},                /* the version before once more */
               {5, {8, 0, 1, 2, 3}},                   /* no CRC */
               {6, {8, 1, 1, 2, 3, 4}},                /* no runs */
               {9, {8, 3, 1, 2, 3, 4, 0x80, 0x7f, 1}}, /* a run behind the end of the page */
               {8, {8, 2, 1, 2, 3, 4, 0, 9}}};         /* a run without its bytes */
    struct ps_pack_entry e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct co_span rest = co_span_of(bad[i].bytes, bad[i].len);
        int rc = ps_pack_next(&rest, 1000, &e);
        if (!rc)
            rc = ps_pack_apply(&e, back, 4096);
        cr_assert_eq(rc, CO_ERR_CORRUPT, "case %zu: %d", i, rc);
    }
    struct co_span rest = co_span_of(bad[0].bytes, 0);
    cr_assert_eq(ps_pack_next(&rest, 1000, &e), CO_ERR_NOT_FOUND);
}

Test(page_codec, a_pack_gives_every_version_back)
{
    /* What is made is what is taken, and what does not fit is not made. */
    uint8_t pack[PS_PACK_MAX], now[4096];
    size_t len = 0, n;
    lsn_t prev = 1000;
    uint32_t made = 0;
    ps_fill(page, 4096, FILL_NOISE, 4);
    memcpy(now, page, sizeof now);
    while (len < sizeof pack) {
        uint8_t before[4096];
        memcpy(before, now, sizeof before);
        co_put32(now + (made * 331u) % 4000, made + 1);
        n = ps_pack_make(before, prev, now, 4096, ps_crc(now, 4096), prev + 8 * (made + 1), 500,
                         pack + len, sizeof pack - len);
        if (!n) {
            memcpy(now, before, sizeof now);
            break;
        }
        prev += 8 * (made + 1);
        len += n;
        made++;
    }
    cr_assert(made > 100 && len > sizeof pack - 30);
    struct co_span rest = co_span_of(pack, len);
    struct ps_pack_entry e = {.lsn = 1000};
    for (uint32_t i = 0; i < made; i++) {
        cr_assert_eq(ps_pack_next(&rest, e.lsn, &e), 0);
        cr_assert_eq(ps_pack_apply(&e, page, 4096), 0);
        cr_assert_eq(ps_check_crc(page, 4096, e.crc), 0);
    }
    cr_assert(rest.len == 0 && e.lsn == prev && memcmp(page, now, 4096) == 0);
    ps_fill(now, 4096, FILL_NOISE, 5);
    cr_assert_eq(ps_pack_make(page, 1, now, 4096, 0, 2, 2000, pack, sizeof pack), 0,
                 "more than runs_max");
}

Test(page_codec, heads_that_make_no_sense_are_refused)
{
    /* Bytes from disk: lengths, sizes and encodings are checked before they are used. */
    uint8_t head[PS_HEAD_BYTES] = {PS_RAW, 0, 1, 12};
    uint32_t n, crc;
    cr_assert_eq(ps_decode_begin(codec, co_span_of(head, 7), 4096, &n), CO_ERR_CORRUPT);
    cr_assert_eq(ps_decode_begin(codec, co_span_of(head, 8), 8192, &n), CO_ERR_CORRUPT);
    head[3] = 40;
    cr_assert_eq(ps_decode_begin(codec, co_span_of(head, 8), 4096, &n), CO_ERR_CORRUPT);
    head[3] = 12;
    head[2] = 0;
    cr_assert_eq(ps_decode_begin(codec, co_span_of(head, 8), 4096, &n), CO_ERR_CORRUPT);
    head[2] = 1;
    cr_assert_eq(ps_decode_begin(codec, co_span_of(head, 8), 4096, &n), 0);
    cr_assert_eq(ps_decode_end(codec, back, &crc), CO_ERR_CORRUPT, "too short");
    head[0] = 3;
    cr_assert_eq(ps_decode_begin(codec, co_span_of(head, 8), 4096, &n), CO_ERR_VERSION);
}
