/* test_wal_stream.c - a record in pieces is taken exactly when it would be taken whole. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "proto/wal_format.h"
#include "proto/wal_stream.h"
#include "tests/unit/proto/random.h"
#include "tests/unit/proto/wal_fixture.h"

static struct wal_stream *s;
static void setup(void)
{
    cr_assert_eq(wal_stream_new(&s), 0);
}
static void teardown(void)
{
    wal_stream_free(s);
}
TestSuite(wal_stream, .init = setup, .fini = teardown, .timeout = 30);

/* Feeds the record in pieces of random length; 0: it ended sound. *entries counts. */
static int in_pieces(struct rnd *r, struct co_span record, uint32_t longest, uint32_t *entries)
{
    enum wal_stream_step step = WAL_STREAM_MORE;
    size_t at = 0;
    *entries = 0;
    wal_stream_reset(s);
    while (at < record.len) {
        size_t n = (at ? 1 : WAL_HEADER_BYTES) + rnd_below(r, longest);
        n = n < record.len - at ? n : record.len - at;
        uint8_t *exact = fx_exact(record.data + at, n); /* the sanitizer sees what is read beyond */
        int rc = wal_stream_feed(s, co_span_of(exact, n));
        while (!rc) {
            struct wal_entry e;
            rc = wal_stream_next(s, &step, &e);
            if (rc || step != WAL_STREAM_ENTRY)
                break;
            ++*entries;
        }
        free(exact);
        if (rc)
            return rc;
        at += n;
        if (step == WAL_STREAM_END)
            break;
    }
    return step == WAL_STREAM_END && at == record.len ? 0 : CO_ERR_AGAIN;
}

Test(wal_stream, a_sound_record_is_sound_wherever_it_is_cut)
{
    struct rnd r = rnd_begin("wal_stream cut");
    for (int round = 0; round < 300; round++) {
        struct fx_record fx = {.bytes = {0}};
        struct wal_header want;
        uint32_t entries;
        fx_record(&r, &fx);
        cr_assert_eq(wal_check(co_buf_span(&fx.bytes), &want), 0);
        cr_assert_eq(in_pieces(&r, co_buf_span(&fx.bytes), 1 + rnd_below(&r, 700), &entries), 0,
                     "%s", co_sentence());
        cr_assert_eq(entries, FX_PAGES);
        cr_assert_eq(memcmp(wal_stream_header(s), &want, sizeof want), 0);
        cr_assert_eq(wal_stream_left(s), 0);
        co_buf_free(&fx.bytes);
    }
}

Test(wal_stream, its_entries_are_those_of_the_whole_record)
{
    struct rnd r = rnd_begin("wal_stream entries");
    struct fx_record fx = {.bytes = {0}};
    struct wal_header h;
    struct wal_cursor cursor;
    enum wal_stream_step step;
    fx_record(&r, &fx);
    cr_assert_eq(wal_check(co_buf_span(&fx.bytes), &h), 0);
    wal_cursor_init(&cursor, co_buf_span(&fx.bytes), &h);
    for (size_t at = 0; at < fx.bytes.len;) {
        size_t n = at ? 1 : WAL_HEADER_BYTES;
        struct wal_entry got, want;
        cr_assert_eq(wal_stream_feed(s, co_span_of(fx.bytes.data + at, n)), 0);
        cr_assert_eq(wal_stream_next(s, &step, &got), 0);
        if (step == WAL_STREAM_ENTRY) {
            cr_assert(wal_cursor_next(&cursor, &want));
            cr_assert(got.pgno == want.pgno && got.encoding == want.encoding &&
                      got.page_crc == want.page_crc && got.base_lsn == want.base_lsn &&
                      got.base_crc == want.base_crc && got.data.len == want.data.len &&
                      memcmp(got.data.data, want.data.data, got.data.len) == 0);
            cr_assert_eq(wal_stream_next(s, &step, &got), 0);
            cr_assert_eq(step, WAL_STREAM_MORE);
        }
        at += n;
    }
    co_buf_free(&fx.bytes);
}

Test(wal_stream, any_flipped_bit_is_seen_by_the_end)
{
    /* W: what wal_check or wal_check_digest refuses, the pieces refuse. */
    struct rnd r = rnd_begin("wal_stream flips");
    struct fx_record fx = {.bytes = {0}};
    fx_record(&r, &fx);
    for (size_t i = 0; i < fx.bytes.len; i++) {
        uint32_t entries;
        uint8_t bit = (uint8_t)(1u << rnd_below(&r, 8));
        fx.bytes.data[i] ^= bit;
        cr_assert_neq(in_pieces(&r, co_buf_span(&fx.bytes), 100, &entries), 0, "byte %zu", i);
        fx.bytes.data[i] ^= bit;
    }
    co_buf_free(&fx.bytes);
}

Test(wal_stream, a_wrong_digest_under_a_right_crc_is_refused)
{
    struct rnd r = rnd_begin("wal_stream digest");
    struct fx_record fx = {.bytes = {0}};
    struct wal_header h;
    uint32_t entries;
    fx_record(&r, &fx);
    fx.bytes.data[fx.bytes.len - WAL_TRAILER_BYTES] ^= 1;
    fx_mend(fx.bytes.data, fx.bytes.len);
    cr_assert_eq(wal_check(co_buf_span(&fx.bytes), &h), 0);
    cr_assert_eq(in_pieces(&r, co_buf_span(&fx.bytes), 100, &entries), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "digest"), "%s", co_sentence());
    co_buf_free(&fx.bytes);
}

Test(wal_stream, a_first_piece_without_the_header_and_bytes_beyond_the_end_are_refused)
{
    struct rnd r = rnd_begin("wal_stream bounds");
    struct fx_record fx = {.bytes = {0}};
    enum wal_stream_step step;
    struct wal_entry e;
    fx_record(&r, &fx);
    cr_assert_eq(wal_stream_feed(s, co_span_of(fx.bytes.data, WAL_HEADER_BYTES - 1)),
                 CO_ERR_CORRUPT);
    wal_stream_reset(s);
    cr_assert_eq(co_buf_append_zeros(&fx.bytes, 8), 0);
    cr_assert_eq(wal_stream_feed(s, co_buf_span(&fx.bytes)), CO_ERR_CORRUPT);
    wal_stream_reset(s);
    cr_assert_eq(wal_stream_feed(s, co_span_of(fx.bytes.data, 200)), 0);
    do
        cr_assert_eq(wal_stream_next(s, &step, &e), 0);
    while (step == WAL_STREAM_ENTRY);
    cr_assert_eq(wal_stream_feed(s, co_span_of(fx.bytes.data + 200, fx.bytes.len - 200)),
                 CO_ERR_CORRUPT);
    co_buf_free(&fx.bytes);
}

Test(wal_stream, a_configuration_never_comes_in_pieces)
{
    struct wal_config config = {.version = 1, .n = 3};
    struct wal_stamp stamp = fx_stamp(0);
    struct wal_digest digest;
    struct co_buf record;
    for (uint32_t i = 0; i < 3; i++)
        config.members[i].node_id = i + 1;
    cr_assert_eq(wal_build_config(&config, &stamp, &record, &digest), 0);
    cr_assert_eq(wal_stream_feed(s, co_buf_span(&record)), CO_ERR_CORRUPT);
    co_buf_free(&record);
}

Test(wal_stream, the_format_version_is_bound_to_the_length)
{
    /* An older release refuses version 2 with a sentence; it must not meet it under version 1. */
    struct rnd r = rnd_begin("wal_stream version");
    struct fx_record fx = {.bytes = {0}};
    struct wal_header h;
    fx_record(&r, &fx);
    co_put16(fx.bytes.data + WH_VERSION, 2);
    cr_assert_eq(wal_peek(co_buf_span(&fx.bytes), &h), CO_ERR_CORRUPT);
    co_put64(fx.bytes.data + WH_TOTAL, CO_GIB + 8);
    co_put64(fx.bytes.data + WH_END, co_get64(fx.bytes.data + WH_BEGIN) + CO_GIB + 8);
    cr_assert_eq(wal_peek(co_buf_span(&fx.bytes), &h), 0, "%s", co_sentence());
    co_put16(fx.bytes.data + WH_VERSION, 1);
    cr_assert_eq(wal_peek(co_buf_span(&fx.bytes), &h), CO_ERR_CORRUPT);
    co_put16(fx.bytes.data + WH_VERSION, 3);
    cr_assert_eq(wal_peek(co_buf_span(&fx.bytes), &h), CO_ERR_VERSION);
    co_buf_free(&fx.bytes);
}
