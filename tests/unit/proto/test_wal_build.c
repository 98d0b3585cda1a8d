#include <signal.h>
#include <zstd.h>

#include "tests/unit/proto/wal_fixture.h"

TestSuite(wal_build, .timeout = 30);

static struct wal_builder *builder(uint32_t page_size)
{
    struct wal_builder *b;
    cr_assert_eq(wal_builder_new(&b), 0);
    wal_builder_reset(b, page_size);
    return b;
}

/* Seals, checks what the record says of itself, and returns its only entry. */
static struct wal_entry only_entry(struct wal_builder *b, struct co_buf *record)
{
    struct wal_stamp stamp = fx_stamp(10);
    struct wal_digest digest;
    struct wal_header h;
    struct wal_cursor c;
    struct wal_entry e;
    uint64_t bytes = wal_builder_bytes(b);
    wal_builder_seal(b, &stamp, record, &digest);
    cr_assert_eq(record->len, bytes);
    cr_assert_eq(wal_check(co_buf_span(record), &h), 0, "%s", co_sentence());
    cr_assert_eq(wal_check_digest(co_buf_span(record), &h), 0, "%s", co_sentence());
    cr_assert_eq(memcmp(&h.digest, &digest, sizeof digest), 0);
    wal_cursor_init(&c, co_buf_span(record), &h);
    cr_assert(wal_cursor_next(&c, &e));
    struct wal_entry none;
    cr_assert_not(wal_cursor_next(&c, &none));
    return e;
}

Test(wal_build, the_smallest_encoding_is_taken)
{
    struct rnd r = rnd_begin("wal_build");
    static uint8_t base[4096], page[4096];
    struct wal_builder *b = builder(4096);
    struct co_buf record;

    fx_page(&r, base, 4096, 1);
    memcpy(page, base, 4096);
    page[100]++;
    cr_assert_eq(wal_builder_page(b, 3, page, base, 4096), 0);
    struct wal_entry e = only_entry(b, &record);
    cr_assert(e.encoding == WAL_DELTA && e.data.len == 3, "one byte changed: a delta");
    cr_assert(e.pgno == 3 && e.base_lsn == 4096);
    cr_assert_eq(e.base_crc, co_crc32c(0, base, 4096));
    cr_assert_eq(e.page_crc, co_crc32c(0, page, 4096));
    co_buf_free(&record);

    wal_builder_reset(b, 4096);
    cr_assert_eq(wal_builder_page(b, 1, base, NULL, 0), 0);
    e = only_entry(b, &record);
    cr_assert(e.encoding == WAL_IMAGE && e.data.len == 4096, "noise without base: an image");
    co_buf_free(&record);

    wal_builder_reset(b, 4096);
    fx_page(&r, page, 4096, 2);
    cr_assert_eq(wal_builder_page(b, 1, page, NULL, 0), 0);
    e = only_entry(b, &record);
    cr_assert(e.encoding == WAL_ZSTD && e.data.len < 100, "one byte repeated: compressed");
    co_buf_free(&record);

    wal_builder_reset(b, 4096);
    cr_assert_eq(wal_builder_page(b, 1, page, base, 8), 0);
    e = only_entry(b, &record);
    cr_assert(e.encoding == WAL_ZSTD, "all is different, and compresses better");
    co_buf_free(&record);

    wal_builder_reset(b, 4096);
    for (int i = 0; i < 4096; i++)
        page[i] = (uint8_t)(base[i] ^ (rnd_next(&r) | 1));
    cr_assert_eq(wal_builder_page(b, 1, page, base, 8), 0);
    e = only_entry(b, &record);
    cr_assert(e.encoding == WAL_IMAGE, "other noise over noise: an image, though a base was there");
    co_buf_free(&record);

    wal_builder_reset(b, 4096);
    memcpy(page, base, 4096);
    rnd_fill(&r, page, 2000);
    cr_assert_eq(wal_builder_page(b, 1, page, base, 8), 0);
    e = only_entry(b, &record);
    cr_assert(e.encoding == WAL_DELTA && e.data.len < 2010, "half of it noise: zstd cannot win");
    co_buf_free(&record);
    wal_builder_free(b);
}

Test(wal_build, compression_is_tried_only_when_the_delta_is_long)
{
    /* A quarter of the page: below it the time that zstd takes is worth more than the bytes. */
    static uint8_t base[4096], page[4096];
    struct wal_builder *b = builder(4096);
    for (size_t changed = 1000; changed <= 1100; changed += 100) {
        struct co_buf record;
        wal_builder_reset(b, 4096);
        for (size_t i = 0; i < changed; i++)
            page[i] = (uint8_t)('a' + i % 8);
        cr_assert_eq(wal_builder_page(b, 1, page, base, 4096), 0);
        struct wal_entry e = only_entry(b, &record);
        cr_expect_eq(e.encoding, changed == 1000 ? WAL_DELTA : WAL_ZSTD, "%zu changed", changed);
        co_buf_free(&record);
    }
    wal_builder_free(b);
}

Test(wal_build, a_record_may_build_on_all_that_lies_before_it)
{
    /* W4, W5: base and sealed position may be the begin itself. */
    static uint8_t base[512], page[512];
    struct wal_builder *b = builder(512);
    struct wal_stamp stamp = fx_stamp(1);
    struct co_buf record;
    struct wal_digest digest;
    struct wal_header h;
    page[9] = 1;
    stamp.sealed_lsn = stamp.begin_lsn;
    cr_assert_eq(wal_builder_page(b, 1, page, base, stamp.begin_lsn), 0);
    wal_builder_seal(b, &stamp, &record, &digest);
    cr_assert_eq(wal_check(co_buf_span(&record), &h), 0, "%s", co_sentence());
    cr_assert_eq(h.sealed_lsn, h.begin_lsn);
    co_buf_free(&record);
    wal_builder_free(b);
}

Test(wal_build, a_base_without_a_proper_position_is_not_used)
{
    /* The position of a cached page came from a server: it must not stop the program. */
    static uint8_t base[512], page[512];
    static const lsn_t rows[] = {LSN_NONE, 4097, UINT64_MAX};
    struct wal_builder *b = builder(512);
    page[0] = 1;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct co_buf record;
        wal_builder_reset(b, 512);
        cr_assert_eq(wal_builder_page(b, 1, page, base, rows[i]), 0);
        struct wal_entry e = only_entry(b, &record);
        cr_expect_neq(e.encoding, WAL_DELTA);
        co_buf_free(&record);
    }
    wal_builder_free(b);
}

Test(wal_build, no_entry_is_larger_than_the_page_itself)
{
    /* Admission and limits count on it: 12 bytes and the page are the most that a page costs. */
    struct rnd r = rnd_begin("wal_build");
    static uint8_t base[4096], page[4096];
    struct wal_builder *b = builder(512);
    for (int i = 0; i < 1500; i++) {
        uint32_t size = 512u << rnd_below(&r, 4);
        wal_builder_reset(b, size);
        fx_page(&r, base, size, (int)rnd_below(&r, 3));
        fx_page(&r, page, size, (int)rnd_below(&r, 3));
        memcpy(page, base, rnd_below(&r, size + 1));
        cr_assert_eq(wal_builder_page(b, 1, page, rnd_below(&r, 2) ? base : NULL, 8), 0);
        struct co_buf record;
        struct wal_entry e = only_entry(b, &record);
        cr_assert_leq(e.data.len + (e.encoding == WAL_DELTA ? 24 : 12), size + 12);
        co_buf_free(&record);
    }
    wal_builder_free(b);
}

Test(wal_build, every_page_comes_back)
{
    struct rnd r = rnd_begin("wal_build");
    static uint8_t bases[24][65536], pages[24][65536], out[65536];
    struct wal_builder *b = builder(512);
    ZSTD_DCtx *dctx = ZSTD_createDCtx();
    cr_assert(dctx);
    for (int round = 0; round < 150; round++) {
        uint32_t size = 512u << (round % 15 == 0 ? rnd_below(&r, 8) : rnd_below(&r, 4));
        uint32_t n = rnd_below(&r, 25);
        pgno_t pgnos[24], last = 0;
        bool has_base[24];
        struct wal_stamp stamp = fx_stamp(0);
        struct wal_digest digest;
        struct wal_header h;
        struct co_buf record;
        wal_builder_reset(b, size);
        for (uint32_t i = 0; i < n; i++) {
            pgnos[i] = last += 1 + rnd_below(&r, 1000);
            has_base[i] = rnd_below(&r, 3) != 0;
            fx_page(&r, bases[i], size, (int)rnd_below(&r, 3));
            memcpy(pages[i], bases[i], size);
            fx_change(&r, pages[i], size, rnd_below(&r, 6), 1 + rnd_below(&r, size / 2));
            cr_assert_eq(
                wal_builder_page(b, last, pages[i], has_base[i] ? bases[i] : NULL, 4096 + 8 * i),
                0);
        }
        stamp.db_pages = last + rnd_below(&r, 2);
        stamp.begin_lsn = 8 * (600 + (rnd_any(&r) >> 8));
        uint64_t bytes = wal_builder_bytes(b);
        wal_builder_seal(b, &stamp, &record, &digest);
        cr_assert_eq(record.len, bytes);
        cr_assert_eq(wal_check(co_buf_span(&record), &h), 0, "%s", co_sentence());
        cr_assert_eq(wal_check_digest(co_buf_span(&record), &h), 0);
        cr_assert(h.n_entries == n && h.db_pages == stamp.db_pages && h.page_size == size);
        struct wal_cursor c;
        struct wal_entry e;
        wal_cursor_init(&c, co_buf_span(&record), &h);
        for (uint32_t i = 0; i < n; i++) {
            cr_assert(wal_cursor_next(&c, &e));
            cr_assert_eq(e.pgno, pgnos[i]);
            cr_assert(e.encoding != WAL_DELTA || (has_base[i] && e.base_lsn == 4096 + 8 * i));
            const uint8_t *base = e.encoding == WAL_DELTA ? bases[i] : NULL;
            cr_assert_eq(wal_apply(&e, size, base, out, rnd_below(&r, 2) ? dctx : NULL), 0, "%s",
                         co_sentence());
            cr_assert_eq(memcmp(out, pages[i], size), 0);
        }
        cr_assert_not(wal_cursor_next(&c, &e));
        co_buf_free(&record);
    }
    ZSTD_freeDCtx(dctx);
    wal_builder_free(b);
}

Test(wal_build, the_header_says_what_the_stamp_said)
{
    struct wal_stamp stamp = fx_stamp(10);
    uint8_t page[512] = {1};
    struct wal_builder *b = builder(512);
    struct co_buf record;
    struct wal_digest digest;
    struct wal_header h, peeked;
    cr_assert_eq(wal_builder_page(b, 10, page, NULL, 0), 0);
    wal_builder_seal(b, &stamp, &record, &digest);
    cr_assert_eq(wal_check(co_buf_span(&record), &h), 0);
    cr_expect(h.kind == WAL_TXN && h.page_size == 512 && h.db_pages == 10 && h.n_entries == 1);
    cr_expect(h.term == 7 && h.begin_lsn == 8192 && h.base_lsn == 8192 && h.sealed_lsn == 4096);
    cr_expect(h.end_lsn == 8192 + record.len && h.total_bytes == record.len);
    cr_expect_eq(h.time_us, 1700000000000000u);
    cr_expect(co_id_eq(&h.cluster, &stamp.cluster) && co_id_eq(&h.timeline, &stamp.timeline));
    cr_expect(co_id_eq(&h.commit_uuid, &stamp.commit_uuid));
    cr_expect_eq(memcmp(&h.prev_digest, &stamp.prev_digest, 16), 0);
    cr_expect_eq(wal_peek(co_span_of(record.data, WAL_HEADER_BYTES), &peeked), 0);
    memset(&h.digest, 0, sizeof h.digest);
    cr_expect_eq(memcmp(&h, &peeked, sizeof h), 0, "peek tells the same but the digest");
    co_buf_free(&record);
    wal_builder_free(b);
}

Test(wal_build, a_transaction_without_pages_is_a_record)
{
    struct wal_builder *b = builder(4096);
    for (uint32_t db_pages = 0; db_pages < 3; db_pages++) {
        struct wal_stamp stamp = fx_stamp(db_pages);
        struct co_buf record;
        struct wal_digest digest;
        struct wal_header h;
        wal_builder_reset(b, 4096);
        cr_assert_eq(wal_builder_bytes(b), 168);
        wal_builder_seal(b, &stamp, &record, &digest);
        cr_assert_eq(record.len, 168);
        cr_assert_eq(wal_check(co_buf_span(&record), &h), 0, "%s", co_sentence());
        cr_assert_eq(wal_check_digest(co_buf_span(&record), &h), 0);
        cr_assert(h.n_entries == 0 && h.db_pages == db_pages);
        co_buf_free(&record);
    }
    wal_builder_free(b);
}

Test(wal_build, a_reset_forgets_what_was_collected)
{
    struct rnd r = rnd_begin("wal_build");
    static uint8_t page[4096];
    struct wal_builder *b = builder(4096);
    struct co_buf first, second;
    fx_page(&r, page, 4096, 0);
    cr_assert_eq(wal_builder_page(b, 7, page, NULL, 0), 0);
    (void)only_entry(b, &first);
    wal_builder_reset(b, 4096);
    cr_assert_eq(wal_builder_page(b, 9, page, NULL, 0), 0);
    wal_builder_reset(b, 512);
    wal_builder_reset(b, 4096);
    cr_assert_eq(wal_builder_page(b, 7, page, NULL, 0), 0);
    (void)only_entry(b, &second);
    cr_assert_eq(first.len, second.len);
    cr_assert_eq(memcmp(first.data, second.data, first.len), 0);
    co_buf_free(&first);
    co_buf_free(&second);
    wal_builder_free(b);
}

Test(wal_build, small_records_hold_no_memory_beyond_their_bytes)
{
    /* A writer keeps thousands of records for a safekeeper that lags. */
    struct rnd r = rnd_begin("wal_build");
    static uint8_t page[65536];
    struct wal_builder *b = builder(65536);
    struct co_buf small, large;
    fx_page(&r, page, sizeof page, 2);
    cr_assert_eq(wal_builder_page(b, 1, page, NULL, 0), 0);
    (void)only_entry(b, &small);
    cr_assert(small.len < 300 && small.cap == small.len);
    wal_builder_reset(b, 65536);
    fx_page(&r, page, sizeof page, 1);
    cr_assert_eq(wal_builder_page(b, 1, page, NULL, 0), 0);
    struct wal_entry e = only_entry(b, &large);
    cr_assert(e.data.len == 65536 && large.cap == large.len);
    co_buf_free(&small);
    co_buf_free(&large);
    wal_builder_free(b);
}

Test(wal_build, a_transaction_over_the_limit_is_refused_and_the_rest_stays_whole, .timeout = 60)
{
    /* S10: transactions over 4 GiB are CO_ERR_FULL with a sentence, before anything is sent. Memory
     * is that of what was not drained. */
    static uint8_t page[65536];
    struct rnd r = rnd_begin("wal_build");
    struct wal_builder *b = builder(65536);
    struct wal_header h;
    struct co_buf rest;
    struct co_span gone;
    struct wal_digest digest;
    uint8_t head[WAL_HEADER_BYTES];
    uint64_t at;
    fx_page(&r, page, sizeof page, 1);
    pgno_t pgno = 0;
    int rc = 0;
    while (rc == 0 && pgno < 80000) {
        rc = wal_builder_page(b, ++pgno, page, NULL, 0);
        if (wal_builder_held(b) > CO_MIB)
            cr_assert_eq(wal_builder_drain(b, &gone, &at), 0);
    }
    cr_assert_eq(rc, CO_ERR_FULL);
    cr_assert(strstr(co_sentence(), "4096 MiB"), "%s", co_sentence());
    cr_assert_eq(pgno - 1, (CO_TXN_MAX_BYTES - 168) / (65536 + 12));
    cr_assert_leq(wal_builder_bytes(b), CO_TXN_MAX_BYTES);
    struct wal_stamp stamp = fx_stamp(pgno);
    wal_builder_seal_drained(b, &stamp, head, &rest, &at, &digest);
    cr_assert_eq(wal_peek(co_span_of(head, sizeof head), &h), 0, "%s", co_sentence());
    cr_assert_eq(h.n_entries, pgno - 1);
    cr_assert_eq(h.total_bytes, at + rest.len);
    cr_assert_eq(co_get16(head + 4), 2, "over 1 GiB it is of format version 2");
    co_buf_free(&rest);
    wal_builder_free(b);
}

Test(wal_build, a_drained_record_has_the_very_bytes_of_one_built_whole)
{
    struct rnd r = rnd_begin("wal_build drained");
    for (int round = 0; round < 60; round++) {
        struct wal_builder *whole = builder(512), *parts = builder(512);
        struct co_buf record, rest, put = {0};
        struct wal_digest want, got;
        uint8_t page[512], head[WAL_HEADER_BYTES];
        uint64_t at;
        uint32_t n = 1 + rnd_below(&r, 40);
        for (pgno_t p = 1; p <= n; p++) {
            struct co_span gone;
            fx_page(&r, page, sizeof page, (int)rnd_below(&r, 3));
            cr_assert_eq(wal_builder_page(whole, p, page, NULL, 0), 0);
            cr_assert_eq(wal_builder_page(parts, p, page, NULL, 0), 0);
            if (rnd_below(&r, 4))
                continue;
            cr_assert_eq(wal_builder_drain(parts, &gone, &at), 0);
            cr_assert_eq(at, WAL_HEADER_BYTES + put.len);
            cr_assert_eq(co_buf_append(&put, gone.data, gone.len), 0);
        }
        cr_assert_eq(wal_builder_bytes(whole), wal_builder_bytes(parts));
        struct wal_stamp stamp = fx_stamp(n);
        wal_builder_seal(whole, &stamp, &record, &want);
        wal_builder_seal_drained(parts, &stamp, head, &rest, &at, &got);
        cr_assert_eq(at, WAL_HEADER_BYTES + put.len);
        cr_assert_eq(co_buf_append(&put, rest.data, rest.len), 0);
        cr_assert_eq(put.len + WAL_HEADER_BYTES, record.len);
        cr_assert_eq(memcmp(head, record.data, sizeof head), 0);
        cr_assert_eq(memcmp(put.data, record.data + sizeof head, put.len), 0);
        cr_assert_eq(memcmp(&want, &got, sizeof want), 0);
        co_buf_free(&record);
        co_buf_free(&rest);
        co_buf_free(&put);
        wal_builder_free(whole);
        wal_builder_free(parts);
    }
}

/* -- Misuse by this program's own code stops it -------------------------------------------------
 */

static uint8_t some_page[512];

Test(wal_build, pages_out_of_order_abort, .signal = SIGABRT)
{
    struct wal_builder *b = builder(512);
    cr_assert_eq(wal_builder_page(b, 5, some_page, NULL, 0), 0);
    (void)!wal_builder_page(b, 5, some_page, NULL, 0);
}

Test(wal_build, a_page_beyond_the_database_aborts_at_seal, .signal = SIGABRT)
{
    struct wal_builder *b = builder(512);
    struct wal_stamp stamp = fx_stamp(4);
    struct co_buf record;
    struct wal_digest digest;
    cr_assert_eq(wal_builder_page(b, 5, some_page, NULL, 0), 0);
    wal_builder_seal(b, &stamp, &record, &digest);
}

Test(wal_build, a_base_newer_than_the_record_aborts_at_seal, .signal = SIGABRT)
{
    struct wal_builder *b = builder(512);
    struct wal_stamp stamp = fx_stamp(5);
    struct co_buf record;
    struct wal_digest digest;
    cr_assert_eq(wal_builder_page(b, 5, some_page, some_page, stamp.begin_lsn + 8), 0);
    wal_builder_seal(b, &stamp, &record, &digest);
}

Test(wal_build, sealing_twice_aborts, .signal = SIGABRT)
{
    struct wal_builder *b = builder(512);
    struct wal_stamp stamp = fx_stamp(5);
    struct co_buf record;
    struct wal_digest digest;
    wal_builder_seal(b, &stamp, &record, &digest);
    wal_builder_seal(b, &stamp, &record, &digest);
}

static void seal_with(struct wal_stamp stamp)
{
    struct wal_builder *b = builder(512);
    struct co_buf record;
    struct wal_digest digest;
    wal_builder_seal(b, &stamp, &record, &digest);
}

Test(wal_build, a_stamp_without_term_aborts, .signal = SIGABRT)
{
    struct wal_stamp stamp = fx_stamp(5);
    stamp.term = 0;
    seal_with(stamp);
}

Test(wal_build, a_stamp_at_no_position_aborts, .signal = SIGABRT)
{
    struct wal_stamp stamp = fx_stamp(5);
    stamp.begin_lsn = stamp.sealed_lsn = LSN_NONE;
    seal_with(stamp);
}

Test(wal_build, a_stamp_off_a_record_aborts, .signal = SIGABRT)
{
    struct wal_stamp stamp = fx_stamp(5);
    stamp.begin_lsn += 4;
    seal_with(stamp);
}

Test(wal_build, a_stamp_sealed_after_its_begin_aborts, .signal = SIGABRT)
{
    struct wal_stamp stamp = fx_stamp(5);
    stamp.sealed_lsn = stamp.begin_lsn + 8;
    seal_with(stamp);
}
