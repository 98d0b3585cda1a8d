/* wal_fixture.h - pages, stamps and records for the tests of the WAL record. */
#ifndef CORALLITE_TESTS_PROTO_WAL_FIXTURE_H
#define CORALLITE_TESTS_PROTO_WAL_FIXTURE_H

#include <criterion/criterion.h>

#include "common/crc32c.h"
#include "proto/wal.h"
#include "tests/unit/proto/random.h"

static inline struct wal_stamp fx_stamp(uint32_t db_pages)
{
    struct wal_stamp s = {.term = 7,
                          .begin_lsn = 8192,
                          .sealed_lsn = 4096,
                          .time_us = 1700000000000000u,
                          .db_pages = db_pages};
    for (int i = 0; i < 16; i++) {
        s.cluster.b[i] = (uint8_t)(0x10 + i);
        s.timeline.b[i] = (uint8_t)(0x20 + i);
        s.commit_uuid.b[i] = (uint8_t)(0x30 + i);
        s.prev_digest.b[i] = (uint8_t)(0x40 + i);
    }
    return s;
}

/* A page that zstd makes smaller (kind 0: text), cannot (1: random), or of one byte (2). */
static inline void fx_page(struct rnd *r, uint8_t *page, uint32_t page_size, int kind)
{
    static const char words[] = "the coral grows in layers that date themselves ";
    if (kind == 1)
        rnd_fill(r, page, page_size);
    else if (kind == 2)
        memset(page, (int)rnd_below(r, 256), page_size);
    else
        for (uint32_t i = 0; i < page_size; i++)
            page[i] = rnd_below(r, 8) ? (uint8_t)words[i % (sizeof words - 1)]
                                      : (uint8_t)rnd_below(r, 256);
}

/* Changes up to `spots` places of the page, each up to `length` bytes. */
static inline void fx_change(struct rnd *r, uint8_t *page, uint32_t page_size, uint32_t spots,
                             uint32_t length)
{
    for (uint32_t i = 0; i < spots; i++) {
        uint32_t at = rnd_below(r, page_size), n = 1 + rnd_below(r, length);
        for (uint32_t k = at; k < at + n && k < page_size; k++)
            page[k] = (uint8_t)rnd_next(r);
    }
}

/* A copy without a byte to spare, so that the sanitizer sees a read past the end. */
static inline uint8_t *fx_exact(const uint8_t *data, size_t len)
{
    uint8_t *p = malloc(len ? len : 1);
    cr_assert(p);
    if (len)
        memcpy(p, data, len);
    return p;
}

/* Makes CRC and end magic right again after a test has changed bytes of a record. */
static inline void fx_mend(uint8_t *record, size_t len)
{
    co_put32(record + len - 8, co_crc32c(0, record, len - 8));
}

/* A record of 8 pages that holds every encoding; the pages and their bases are for wal_apply. */
#define FX_PAGES     8u
#define FX_PAGE_SIZE 512u
struct fx_record {
    struct co_buf bytes;
    struct wal_digest digest;
    uint8_t base[FX_PAGES][FX_PAGE_SIZE], page[FX_PAGES][FX_PAGE_SIZE];
};

static inline void fx_record(struct rnd *r, struct fx_record *fx)
{
    struct wal_builder *b;
    struct wal_stamp stamp = fx_stamp(100);
    cr_assert_eq(wal_builder_new(&b), 0);
    wal_builder_reset(b, FX_PAGE_SIZE);
    for (uint32_t i = 0; i < FX_PAGES; i++) {
        fx_page(r, fx->base[i], FX_PAGE_SIZE, i % 3 == 1);
        memcpy(fx->page[i], fx->base[i], FX_PAGE_SIZE);
        fx_change(r, fx->page[i], FX_PAGE_SIZE, 3, 10);
        cr_assert_eq(wal_builder_page(b, 2 + 3 * i, fx->page[i], i % 4 < 2 ? fx->base[i] : NULL,
                                      i % 4 < 2 ? 4096 + 8 * i : 0),
                     0);
    }
    wal_builder_seal(b, &stamp, &fx->bytes, &fx->digest);
    wal_builder_free(b);
}

#endif
