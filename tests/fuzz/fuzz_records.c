/*
 * fuzz_records.c - WAL records: whole, in pieces, and as the writer makes them.
 *
 *   byte 0, bits 0..1: 0 bytes as they come, 1 with lengths, CRC and digest mended, 2 a record that
 *                      the builder makes, 3 such a record with bytes changed
 *           bits 2..6: sizes of the pieces
 *
 * What holds: wal_peek, wal_check and wal_stream agree; the entries of a sound record are as many
 * and as ordered as it says; a configuration is written again byte by byte; what the builder made
 * is sound, and gives the pages back.
 */
#include "common/crc32c.h"
#include "pageserver/ingest.h"
#include "proto/wal_format.h"
#include "proto/wal_stream.h"
#include "tests/fuzz/fuzz.h"

#define PAGE  512u
#define PAGES 6u

static const struct wal_stamp stamp = {.cluster = {{1}},
                                       .timeline = {{2}},
                                       .term = 3,
                                       .begin_lsn = 8192,
                                       .sealed_lsn = 4096,
                                       .time_us = 1700000000000000u,
                                       .commit_uuid = {{4}},
                                       .prev_digest = {{5}},
                                       .db_pages = 100};

/* The lengths, the digest and the CRC that the rest asks for, so that mutation gets behind them. */
static void mend(uint8_t *record, size_t len)
{
    struct wal_header h;
    if (len < WAL_HEADER_BYTES + WAL_TRAILER_BYTES)
        return;
    uint64_t begin = co_get64(record + 64);
    co_put64(record + 8, len);
    co_put64(record + 72, begin);
    co_put64(record + 80, begin + len);
    co_put32(record + len - 4, co_get32((const uint8_t *)"LAWC"));
    co_put32(record + len - 8, co_crc32c(0, record, len - 8));
    if (wal_check(co_span_of(record, len), &h))
        return;
    struct wal_digest digest;
    wal_digest_of(record, h.kind, h.n_entries,
                  co_span_of(record + WAL_HEADER_BYTES, len - WAL_HEADER_BYTES - WAL_TRAILER_BYTES),
                  &digest);
    memcpy(record + len - WAL_TRAILER_BYTES, digest.b, sizeof digest.b);
    co_put32(record + len - 8, co_crc32c(0, record, len - 8));
}

/* Walks a sound transaction; with `base` makes each page. */
static void walk(struct co_span record, const struct wal_header *h)
{
    struct wal_cursor c;
    struct wal_entry e;
    uint32_t n = 0;
    pgno_t last = 0;
    AUTO_FREE uint8_t *page = calloc(1, h->page_size + 1);
    wal_cursor_init(&c, record, h);
    while (wal_cursor_next(&c, &e)) {
        n++;
        FUZZ_CHECK(e.data.data >= record.data);
        FUZZ_CHECK(e.data.data + e.data.len <= record.data + record.len);
        if (h->kind != WAL_TXN)
            continue;
        FUZZ_CHECK(e.pgno > last && e.pgno <= h->db_pages);
        FUZZ_CHECK(e.encoding == WAL_IMAGE ? e.data.len == h->page_size
                                           : e.data.len < h->page_size);
        last = e.pgno;
        if (wal_apply(&e, h->page_size, page, page, NULL) == 0)
            FUZZ_CHECK(co_crc32c(0, page, h->page_size) == e.page_crc);
    }
    FUZZ_CHECK(n == h->n_entries);
}

static void on_config(struct co_span record, const struct wal_header *h)
{
    struct wal_config config;
    AUTO_BUF again = {0};
    struct wal_digest digest;
    FUZZ_CHECK(wal_read_config(record, h, &config) == 0 && wal_config_check(&config) == 0);
    struct wal_stamp s = {.cluster = h->cluster,
                          .timeline = h->timeline,
                          .term = h->term,
                          .begin_lsn = h->begin_lsn,
                          .sealed_lsn = h->sealed_lsn,
                          .time_us = h->time_us,
                          .commit_uuid = h->commit_uuid,
                          .prev_digest = h->prev_digest};
    FUZZ_CHECK(wal_build_config(&config, &s, &again, &digest) == 0);
    if (wal_check_digest(record, h) == 0)
        FUZZ_CHECK(fuzz_same(record, co_buf_span(&again)));
}

/* The same record in pieces. 0, or the error of the first step that refused it. */
static int in_pieces(struct co_span record, size_t piece, uint32_t *entries)
{
    static struct wal_stream *s;
    int rc = 0;
    *entries = 0;
    if (!s)
        FUZZ_CHECK(wal_stream_new(&s) == 0);
    wal_stream_reset(s);
    enum wal_stream_step step = WAL_STREAM_MORE;
    while (!rc && step != WAL_STREAM_END) {
        uint64_t got = wal_stream_got(s), left = wal_stream_left(s);
        size_t n = got ? piece : WAL_HEADER_BYTES + piece;
        if (n > left)
            n = (size_t)left;
        if (n > record.len - got)
            n = record.len - (size_t)got;
        if (n == 0) {
            rc = CO_ERR_AGAIN;
            break;
        }
        AUTO_FREE uint8_t *bytes = fuzz_copy(co_span_of(record.data + got, n), false);
        struct wal_entry entry;
        rc = wal_stream_feed(s, co_span_of(bytes, n));
        do {
            if (!rc)
                rc = wal_stream_next(s, &step, &entry);
            if (!rc && step == WAL_STREAM_ENTRY)
                ++*entries;
        } while (!rc && step == WAL_STREAM_ENTRY);
    }
    if (!rc)
        FUZZ_CHECK(wal_stream_got(s) == wal_stream_header(s)->total_bytes);
    return rc;
}

static void on_chain(struct co_span bytes, const struct wal_header *h)
{
    struct ps_chain chain = {.cluster = h->cluster,
                             .timeline = h->timeline,
                             .last_lsn = h->begin_lsn,
                             .digest = h->prev_digest};
    struct wal_header again;
    if (ps_chain_check(&chain, bytes, &again) == 0)
        FUZZ_CHECK(again.end_lsn == h->end_lsn);
}

static void on_bytes(const uint8_t *data, size_t len, size_t piece)
{
    struct wal_header h, peeked;
    uint32_t entries;
    AUTO_FREE uint8_t *exact = fuzz_copy(co_span_of(data, len), false);
    struct co_span all = co_span_of(exact, len);
    int peek = wal_peek(all, &peeked), rc = wal_check(all, &h);
    FUZZ_CHECK(peek != 0 || len >= WAL_HEADER_BYTES);
    if (rc == 0) {
        struct co_span record = co_span_of(exact, (size_t)h.total_bytes);
        FUZZ_CHECK(peek == 0 && peeked.total_bytes == h.total_bytes && h.total_bytes <= len);
        FUZZ_CHECK(h.end_lsn == h.begin_lsn + h.total_bytes && h.sealed_lsn <= h.begin_lsn);
        walk(record, &h);
        if (h.kind == WAL_CONFIG)
            on_config(record, &h);
        on_chain(all, &h);
        /* One byte less is not whole. */
        FUZZ_CHECK(wal_check(co_span_of(exact, record.len - 1), &peeked) == CO_ERR_AGAIN);
    }
    if (len >= WAL_HEADER_BYTES && (peek || peeked.kind == WAL_TXN)) {
        bool sound = rc == 0 && wal_check_digest(all, &h) == 0;
        FUZZ_CHECK((in_pieces(all, piece, &entries) == 0) == sound);
        FUZZ_CHECK(!sound || entries == h.n_entries);
    }
}

/* A transaction of a few pages that the input describes. */
static void build(struct fuzz_in *in, struct co_buf *out)
{
    static struct wal_builder *b;
    uint8_t base[PAGES][PAGE], page[PAGES][PAGE], again[PAGE];
    struct wal_digest digest;
    struct wal_header h;
    struct wal_cursor c;
    struct wal_entry e;
    unsigned n = (unsigned)fuzz_number(in, 1) % (PAGES + 1);
    if (!b)
        FUZZ_CHECK(wal_builder_new(&b) == 0);
    wal_builder_reset(b, PAGE);
    for (unsigned i = 0; i < n; i++) {
        bool has_base = fuzz_bool(in);
        struct co_span s = fuzz_span(in, (size_t)fuzz_number(in, 1));
        memset(base[i], (int)fuzz_number(in, 1), PAGE);
        memcpy(page[i], base[i], PAGE);
        size_t at = (size_t)fuzz_number(in, 2) % PAGE;
        memcpy(page[i] + at, s.data, s.len < PAGE - at ? s.len : PAGE - at);
        FUZZ_CHECK(wal_builder_page(b, 1 + i * 3, page[i], has_base ? base[i] : NULL,
                                    has_base ? 4096 : 0) == 0);
    }
    wal_builder_seal(b, &stamp, out, &digest);
    FUZZ_CHECK(wal_check(co_buf_span(out), &h) == 0 && h.total_bytes == out->len);
    FUZZ_CHECK(wal_check_digest(co_buf_span(out), &h) == 0 && h.n_entries == n);
    FUZZ_CHECK(memcmp(h.digest.b, digest.b, sizeof digest.b) == 0);
    wal_cursor_init(&c, co_buf_span(out), &h);
    for (unsigned i = 0; i < n; i++) {
        FUZZ_CHECK(wal_cursor_next(&c, &e) && e.pgno == 1 + i * 3);
        FUZZ_CHECK(wal_apply(&e, PAGE, base[i], again, NULL) == 0);
        FUZZ_CHECK(memcmp(again, page[i], PAGE) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    unsigned how = (unsigned)fuzz_number(&in, 1);
    size_t piece = 1 + (how >> 2) * 5;
    if (how >= FUZZ_SECOND) {
        fuzz_pages(in);
        return 0;
    }
    AUTO_BUF record = {0};
    if ((how & 3) >= 2)
        build(&in, &record);
    else
        FUZZ_CHECK(co_buf_append(&record, in.p, in.n) == 0);
    if ((how & 3) == 3)
        for (int i = 0; i < 3 && in.n; i++)
            record.data[fuzz_number(&in, 2) % record.len] ^= (uint8_t)fuzz_number(&in, 1);
    if ((how & 3) == 1 || ((how & 3) == 3 && how & 4))
        mend(record.data, record.len);
    on_bytes(record.data, record.len, piece);
    return 0;
}
