#include "proto/wal_format.h"
#include "tests/unit/proto/wal_fixture.h"

TestSuite(wal_read, .timeout = 30);

static struct fx_record fx;

static void setup(void)
{
    struct rnd r = rnd_begin("wal_read");
    fx_record(&r, &fx);
}

static void teardown(void)
{
    co_buf_free(&fx.bytes);
}

TestSuite(wal_damage, .init = setup, .fini = teardown, .timeout = 30);

/* -- Golden bytes -------------------------------------------------------------------------------
 */

/* Header of a record with fx_stamp at 8192, followed by entries and trailer. */
#define GOLDEN_IDS                                                                                 \
    0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e,      \
        0x1f, /* cluster */                                                                        \
        0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e,  \
        0x2f,                      /* timeline */                                                  \
        7, 0, 0, 0, 0, 0, 0, 0,    /* term */                                                      \
        0, 0x20, 0, 0, 0, 0, 0, 0, /* begin 8192 */                                                \
        0, 0x20, 0, 0, 0, 0, 0, 0  /* base 8192 */
#define GOLDEN_REST                                                                                \
    0, 0x10, 0, 0, 0, 0, 0, 0,                          /* sealed 4096 */                          \
        0x00, 0x40, 0x1e, 0x18, 0x24, 0x0a, 0x06, 0x00, /* time */                                 \
        0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e,  \
        0x3f, /* commit */                                                                         \
        0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e,  \
        0x4f /* prev digest */

Test(wal_read, golden_delta_record)
{
    /* The byte table of wal.h, written out; digest and CRCs by an independent implementation. */
    static const uint8_t want[] = {
        'C',         'W',  'A',  'L',  1,    0,    144,  0,    200,  0,    0,    0,
        0,           0,    0,    0,                               /* total */
        1,           0,    0,    0,    0,    2,    0,    0,       /* TXN, page size 512 */
        GOLDEN_IDS,  0xc8, 0x20, 0,    0,    0,    0,    0,    0, /* end 8392 */
        GOLDEN_REST, 10,   0,    0,    0,    1,    0,    0,    0, /* 10 pages, 1 entry */
        3,           0,    0,    0,    2,    5,    0,    0,       /* page 3, delta of 5 bytes */
        0x96,        0xab, 0x65, 0xdc, 0,    0x10, 0,    0,    0,    0,    0,    0, /* base 4096 */
        0xc0,        0xed, 0xfc, 0x30, 100,  3,    'a',  'b',  'c',  0,    0,    0, /* padding */
        0x75,        0x56, 0xdf, 0x1f, 0x75, 0x85, 0xd2, 0xeb, 0xc7, 0x85, 0xc9, 0x7e,
        0xeb,        0x76, 0xa0, 0xcc, 0x39, 0xb7, 0xd0, 0x54, 'L',  'A',  'W',  'C'};
    uint8_t base[512] = {0}, page[512] = {0};
    struct wal_builder *b;
    struct wal_stamp stamp = fx_stamp(10);
    struct co_buf record;
    struct wal_digest digest;
    memcpy(page + 100, "abc", 3);
    cr_assert_eq(wal_builder_new(&b), 0);
    wal_builder_reset(b, 512);
    cr_assert_eq(wal_builder_page(b, 3, page, base, 4096), 0);
    wal_builder_seal(b, &stamp, &record, &digest);
    cr_assert_eq(record.len, sizeof want);
    for (size_t i = 0; i < sizeof want; i++)
        cr_expect_eq(record.data[i], want[i], "byte %zu is %02x", i, record.data[i]);
    struct wal_header h;
    cr_assert_eq(wal_check(co_span_of(want, sizeof want), &h), 0);
    cr_assert_eq(wal_check_digest(co_span_of(want, sizeof want), &h), 0);
    co_buf_free(&record);
    wal_builder_free(b);
}

static const struct wal_config joint = {
    .version = 9,
    .n = 1,
    .n_new = 2,
    .members = {{.node_id = 4, .disk_uuid = {"ABCDEFGHIJKLMNOP"}}},
    .new_members = {{.node_id = 4, .disk_uuid = {"ABCDEFGHIJKLMNOP"}}, {.node_id = 5}},
};

Test(wal_read, golden_config_record)
{
    static const uint8_t want[] = {
        'C',         'W',  'A',  'L',  1,    0,    144,  0,    0,    1,    0,    0,    0,
        0,           0,    0,                                     /* total 256 */
        2,           0,    0,    0,    0,    0,    0,    0,       /* CONFIG */
        GOLDEN_IDS,  0,    0x21, 0,    0,    0,    0,    0,    0, /* end 8448 */
        GOLDEN_REST, 9,    0,    0,    0,    3,    0,    0,    0, /* version 9, 3 entries */
        4,           0,    0,    0,    0,    16,   0,    0,    0,    0,    0,    0, /* node 4,
                                                                                       member */
        'A',         'B',  'C',  'D',  'E',  'F',  'G',  'H',  'I',  'J',  'K',  'L',  'M',
        'N',         'O',  'P',  4,    0,    0,    0,    1,    16,   0,    0,    0,    0,
        0,           0, /* node 4, new member */
        'A',         'B',  'C',  'D',  'E',  'F',  'G',  'H',  'I',  'J',  'K',  'L',  'M',
        'N',         'O',  'P',  5,    0,    0,    0,    1,    16,   0,    0,    0,    0,
        0,           0, /* node 5, new member, disk not known */
        0,           0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
        0,           0,    0,    0,    0,    0,    0, /* padding */
        0x2d,        0xea, 0xdc, 0x64, 0x0a, 0x99, 0x4d, 0x81, 0xe1, 0xdf, 0x8e, 0xe6, 0x38,
        0x3a,        0x8c, 0xc2, 0x41, 0x8a, 0x8c, 0x84, 'L',  'A',  'W',  'C'};
    struct wal_stamp stamp = fx_stamp(77 /* ignored */);
    struct wal_digest digest;
    struct wal_config got;
    struct wal_header h;
    struct co_buf record;
    cr_assert_eq(wal_build_config(&joint, &stamp, &record, &digest), 0, "%s", co_sentence());
    cr_assert_eq(record.len, sizeof want);
    for (size_t i = 0; i < sizeof want; i++)
        cr_expect_eq(record.data[i], want[i], "byte %zu is %02x", i, record.data[i]);
    cr_assert_eq(wal_check(co_span_of(want, sizeof want), &h), 0, "%s", co_sentence());
    cr_assert_eq(wal_check_digest(co_span_of(want, sizeof want), &h), 0);
    cr_assert_eq(wal_read_config(co_span_of(want, sizeof want), &h, &got), 0);
    cr_assert_eq(memcmp(&got, &joint, sizeof got), 0);
    co_buf_free(&record);
}

/* -- Configurations -----------------------------------------------------------------------------
 */

Test(wal_read, every_configuration_comes_back)
{
    struct rnd r = rnd_begin("wal_read");
    for (int i = 0; i < 2000; i++) {
        struct wal_config c = {.version = 1 + rnd_below(&r, UINT32_MAX)}, got;
        struct wal_stamp stamp = fx_stamp(0);
        struct wal_digest digest;
        struct wal_header h;
        struct co_buf record;
        c.n = 1 + rnd_below(&r, CO_MEMBERS_MAX);
        c.n_new = rnd_below(&r, CO_MEMBERS_MAX + 1);
        for (uint32_t k = 0; k < c.n; k++) {
            c.members[k].node_id = 10 * k + 1 + rnd_below(&r, 9);
            rnd_fill(&r, c.members[k].disk_uuid.b, 16);
        }
        for (uint32_t k = 0; k < c.n_new; k++)
            c.new_members[k].node_id = 10 * k + 1 + rnd_below(&r, 9);
        cr_assert_eq(wal_build_config(&c, &stamp, &record, &digest), 0);
        cr_assert_eq(wal_check(co_buf_span(&record), &h), 0, "%s", co_sentence());
        cr_assert_eq(wal_check_digest(co_buf_span(&record), &h), 0);
        cr_assert_eq(wal_read_config(co_buf_span(&record), &h, &got), 0);
        cr_assert_eq(memcmp(&got, &c, sizeof c), 0);
        co_buf_free(&record);
    }
}

Test(wal_read, what_is_no_configuration_is_not_built)
{
    struct wal_stamp stamp = fx_stamp(0);
    struct wal_digest digest;
    struct co_buf record;
    struct wal_config c = joint;
    c.version = 0;
    cr_expect_eq(wal_build_config(&c, &stamp, &record, &digest), CO_ERR_INVAL);
    c = joint;
    c.n = 0;
    cr_expect_eq(wal_build_config(&c, &stamp, &record, &digest), CO_ERR_INVAL);
    c = joint;
    c.n_new = CO_MEMBERS_MAX + 1;
    cr_expect_eq(wal_build_config(&c, &stamp, &record, &digest), CO_ERR_INVAL);
    c = joint;
    c.new_members[1].node_id = 4;
    cr_expect_eq(wal_build_config(&c, &stamp, &record, &digest), CO_ERR_INVAL);
    cr_expect(strstr(co_sentence(), "ascend"), "%s", co_sentence());
}

Test(wal_read, a_transaction_is_no_configuration)
{
    struct rnd r = rnd_begin("wal_read");
    struct wal_header h;
    struct wal_config got;
    fx_record(&r, &fx);
    cr_assert_eq(wal_check(co_buf_span(&fx.bytes), &h), 0);
    cr_assert_eq(wal_read_config(co_buf_span(&fx.bytes), &h, &got), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "it is a transaction"), "%s", co_sentence());
    co_buf_free(&fx.bytes);
}

Test(wal_read, members_that_contradict_are_refused_though_the_crc_is_right)
{
    static const struct {
        const char *why;
        size_t at;
        uint8_t value;
    } rows[] = {
        {"version 0", WH_DB_PAGES, 0},
        {"no entries", WH_N_ENTRIES, 0},
        {"fewer entries than there are", WH_N_ENTRIES, 2},
        {"a page size", WH_PAGE_SIZE + 1, 2},
        {"node 0", 144, 0},
        {"a third kind of member", 148, 2},
        {"a member after new members", 144 + 2 * 28 + 4, 0},
        {"a disk id of 15 bytes", 149, 15},
        {"a disk id of 17 bytes", 149, 17},
        {"bytes that are zero", 152, 1},
        {"new node ids that fall", 144 + 28, 6},
    };
    struct wal_stamp stamp = fx_stamp(0);
    struct wal_digest digest;
    struct wal_header h;
    struct co_buf record;
    cr_assert_eq(wal_build_config(&joint, &stamp, &record, &digest), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t *copy = fx_exact(record.data, record.len);
        copy[rows[i].at] = rows[i].value;
        fx_mend(copy, record.len);
        cr_expect_eq(wal_check(co_span_of(copy, record.len), &h), CO_ERR_CORRUPT, "%s",
                     rows[i].why);
        free(copy);
    }
    co_buf_free(&record);
}

/* -- Damage -------------------------------------------------------------------------------------
 */

Test(wal_damage, every_flipped_bit_is_refused)
{
    /* D5: bit rot is found by the record itself, and never takes it for one that is not whole. */
    struct wal_header h;
    uint8_t *copy = fx_exact(fx.bytes.data, fx.bytes.len);
    struct co_span record = {copy, fx.bytes.len};
    cr_assert_eq(wal_check(record, &h), 0, "%s", co_sentence());
    for (size_t bit = 0; bit < record.len * 8; bit++) {
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int rc = wal_check(record, &h);
        cr_assert(rc == CO_ERR_CORRUPT || (rc == CO_ERR_VERSION && bit / 8 < 6), "bit %zu: %s", bit,
                  co_error_name(rc));
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(copy);
}

Test(wal_damage, every_overwritten_byte_is_refused)
{
    struct wal_header h;
    uint8_t *copy = fx_exact(fx.bytes.data, fx.bytes.len);
    for (size_t i = 0; i < fx.bytes.len; i++)
        for (unsigned k = 1; k < 256; k += 1 + (unsigned)i % 7) {
            copy[i] ^= (uint8_t)k;
            int rc = wal_check(co_span_of(copy, fx.bytes.len), &h);
            cr_assert(rc == CO_ERR_CORRUPT || rc == CO_ERR_VERSION, "byte %zu", i);
            copy[i] ^= (uint8_t)k;
        }
    free(copy);
}

Test(wal_damage, every_truncation_asks_for_more)
{
    /* A record that is not whole yet is AGAIN at each length, and nothing beyond it is read. */
    for (size_t len = 0; len < fx.bytes.len; len++) {
        struct wal_header h;
        uint8_t *copy = fx_exact(fx.bytes.data, len);
        cr_assert_eq(wal_check(co_span_of(copy, len), &h), CO_ERR_AGAIN, "%zu bytes", len);
        cr_assert_eq(wal_peek(co_span_of(copy, len), &h),
                     len < WAL_HEADER_BYTES ? CO_ERR_AGAIN : 0);
        free(copy);
    }
}

Test(wal_damage, bytes_behind_a_record_do_not_matter)
{
    struct wal_header h;
    struct co_buf two = {0};
    cr_assert_eq(co_buf_append(&two, fx.bytes.data, fx.bytes.len), 0);
    cr_assert_eq(co_buf_append(&two, "rubbish!", 8), 0);
    cr_assert_eq(wal_check(co_buf_span(&two), &h), 0);
    cr_assert_eq(h.total_bytes, fx.bytes.len);
    cr_assert_eq(wal_check_digest(co_buf_span(&two), &h), 0);
    co_buf_free(&two);
}

Test(wal_damage, zeros_and_foreign_bytes_are_no_record)
{
    /* What lies behind the end of a log in a zero-filled segment. */
    struct wal_header h;
    static const uint8_t zeros[4096];
    for (size_t len = 1; len < 200; len++)
        cr_assert_eq(wal_check(co_span_of(zeros, len), &h), CO_ERR_CORRUPT);
    cr_assert_eq(wal_check(co_span_of("CWAX", 4), &h), CO_ERR_CORRUPT);
    cr_assert_eq(wal_check(co_span_of("CW", 2), &h), CO_ERR_AGAIN);
    cr_assert_eq(wal_check(co_span_of(NULL, 0), &h), CO_ERR_AGAIN);
}

Test(wal_damage, the_digest_covers_header_pages_and_chain)
{
    /* I9: what a record says of its pages and of the record before cannot be exchanged, even by
     * somebody who makes the CRC right again. */
    struct wal_header h;
    static const size_t places[] = {
        WH_CLUSTER,  WH_TIMELINE,           WH_TERM,          WH_TIME, WH_COMMIT, WH_PREV_DIGEST,
        WH_DB_PAGES, 144 /* page number */, 144 + WE_PAGE_CRC};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        uint8_t *copy = fx_exact(fx.bytes.data, fx.bytes.len);
        struct co_span record = {copy, fx.bytes.len};
        copy[places[i]] ^= 1;
        fx_mend(copy, fx.bytes.len);
        cr_assert_eq(wal_check(record, &h), 0, "place %zu: %s", places[i], co_sentence());
        cr_assert_eq(wal_check_digest(record, &h), CO_ERR_CORRUPT, "place %zu", places[i]);
        free(copy);
    }
}

/* A change of a field that the header itself contradicts, with the CRC made right again. */
Test(wal_damage, headers_that_contradict_themselves_are_refused)
{
    static const struct {
        const char *why;
        size_t at, bytes;
        uint64_t value;
        int rc;
    } rows[] = {
        {"a newer format", WH_VERSION, 2, 3, CO_ERR_VERSION},
        {"format 0", WH_VERSION, 2, 0, CO_ERR_CORRUPT},
        {"another header length", WH_HEADER_BYTES, 2, 152, CO_ERR_CORRUPT},
        {"total too short", WH_TOTAL, 8, 160, CO_ERR_CORRUPT},
        {"total 0", WH_TOTAL, 8, 0, CO_ERR_CORRUPT},
        {"total unaligned", WH_TOTAL, 8, 1001, CO_ERR_CORRUPT},
        {"total too long", WH_TOTAL, 8, CO_TXN_MAX_BYTES + 8, CO_ERR_CORRUPT},
        {"total of 64 bits", WH_TOTAL, 8, UINT64_MAX - 7, CO_ERR_CORRUPT},
        {"kind 0", WH_KIND, 1, 0, CO_ERR_CORRUPT},
        {"kind 3", WH_KIND, 1, 3, CO_ERR_CORRUPT},
        {"configuration", WH_KIND, 1, 2, CO_ERR_CORRUPT},
        {"reserved byte", WH_ZERO + 2, 1, 1, CO_ERR_CORRUPT},
        {"page size 0", WH_PAGE_SIZE, 4, 0, CO_ERR_CORRUPT},
        {"page size 256", WH_PAGE_SIZE, 4, 256, CO_ERR_CORRUPT},
        {"page size 1000", WH_PAGE_SIZE, 4, 1000, CO_ERR_CORRUPT},
        {"page size 128 KiB", WH_PAGE_SIZE, 4, 131072, CO_ERR_CORRUPT},
        {"another page size", WH_PAGE_SIZE, 4, 1024, CO_ERR_CORRUPT},
        {"term 0", WH_TERM, 8, 0, CO_ERR_CORRUPT},
        {"begin elsewhere (W1)", WH_BEGIN, 8, 8200, CO_ERR_CORRUPT},
        {"begin off a record", WH_BEGIN, 8, 8193, CO_ERR_CORRUPT},
        {"base elsewhere (W1)", WH_BASE, 8, 8184, CO_ERR_CORRUPT},
        {"end elsewhere (W1)", WH_END, 8, 8192, CO_ERR_CORRUPT},
        {"sealed after its begin (W5)", WH_SEALED, 8, 8200, CO_ERR_CORRUPT},
        {"sealed off a record", WH_SEALED, 8, 4097, CO_ERR_CORRUPT},
        {"no pages though it has entries (W2)", WH_DB_PAGES, 4, 0, CO_ERR_CORRUPT},
        {"fewer pages than its entries name (W2)", WH_DB_PAGES, 4, 22, CO_ERR_CORRUPT},
        {"one entry fewer", WH_N_ENTRIES, 4, FX_PAGES - 1, CO_ERR_CORRUPT},
        {"one entry more", WH_N_ENTRIES, 4, FX_PAGES + 1, CO_ERR_CORRUPT},
        {"entries without end", WH_N_ENTRIES, 4, UINT32_MAX, CO_ERR_CORRUPT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wal_header h;
        uint8_t *copy = fx_exact(fx.bytes.data, fx.bytes.len), value[8];
        co_put64(value, rows[i].value);
        memcpy(copy + rows[i].at, value, rows[i].bytes);
        fx_mend(copy, fx.bytes.len);
        cr_expect_eq(wal_check(co_span_of(copy, fx.bytes.len), &h), rows[i].rc, "%s", rows[i].why);
        cr_expect_gt(strlen(co_sentence()), 20);
        free(copy);
    }
}

Test(wal_damage, a_begin_at_the_end_of_all_positions_does_not_overflow)
{
    struct wal_header h;
    uint8_t *copy = fx_exact(fx.bytes.data, fx.bytes.len);
    lsn_t begin = UINT64_MAX - 7;
    co_put64(copy + WH_BEGIN, begin);
    co_put64(copy + WH_BASE, begin);
    co_put64(copy + WH_END, begin + fx.bytes.len);
    fx_mend(copy, fx.bytes.len);
    cr_assert_eq(wal_check(co_span_of(copy, fx.bytes.len), &h), CO_ERR_CORRUPT);
    begin = 0;
    co_put64(copy + WH_BEGIN, begin);
    co_put64(copy + WH_BASE, begin);
    co_put64(copy + WH_END, begin + fx.bytes.len);
    co_put64(copy + WH_SEALED, 0);
    fx_mend(copy, fx.bytes.len);
    cr_assert_eq(wal_check(co_span_of(copy, fx.bytes.len), &h), CO_ERR_CORRUPT, "LSN 0 is none");
    free(copy);
}

/* What the header says by itself is looked at before any of its lengths is used. */
Test(wal_damage, a_header_alone_is_refused_for_each_of_its_fields)
{
    static const struct {
        const char *why;
        size_t at, bytes;
        uint64_t value;
        bool moves_end; /* end LSN is made to agree */
    } rows[] = {
        {"total 0", WH_TOTAL, 8, 0, true},
        {"total shorter than header and trailer", WH_TOTAL, 8, 160, true},
        {"total unaligned", WH_TOTAL, 8, 1004, true},
        {"total beyond the largest transaction", WH_TOTAL, 8, CO_TXN_MAX_BYTES + 8, true},
        {"total of 64 bits", WH_TOTAL, 8, UINT64_MAX - 7, true},
        {"sealed after its begin", WH_SEALED, 8, 8200, false},
        {"term 0", WH_TERM, 8, 0, false},
        {"more entries than fit", WH_N_ENTRIES, 4, UINT32_MAX, false},
        {"first reserved byte", WH_ZERO, 1, 1, false},
        {"second reserved byte", WH_ZERO + 1, 1, 1, false},
        {"third reserved byte", WH_ZERO + 2, 1, 1, false},
        {"page size 0", WH_PAGE_SIZE, 4, 0, false},
        {"page size 256", WH_PAGE_SIZE, 4, 256, false},
        {"page size 131072", WH_PAGE_SIZE, 4, 131072, false},
        {"page size 1536", WH_PAGE_SIZE, 4, 1536, false},
        {"kind 0", WH_KIND, 1, 0, false},
        {"a configuration with a page size", WH_KIND, 1, 2, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wal_header h;
        uint8_t *copy = fx_exact(fx.bytes.data, WAL_HEADER_BYTES), value[8];
        co_put64(value, rows[i].value);
        memcpy(copy + rows[i].at, value, rows[i].bytes);
        if (rows[i].moves_end)
            co_put64(copy + WH_END, 8192 + rows[i].value);
        cr_expect_eq(wal_peek(co_span_of(copy, WAL_HEADER_BYTES), &h), CO_ERR_CORRUPT, "%s",
                     rows[i].why);
        free(copy);
    }
    struct wal_header h;
    uint8_t *copy = fx_exact(fx.bytes.data, WAL_HEADER_BYTES);
    co_put16(copy + WH_VERSION, 2); /* of a record over 1 GiB */
    co_put64(copy + WH_TOTAL, CO_TXN_MAX_BYTES);
    co_put64(copy + WH_END, 8192 + CO_TXN_MAX_BYTES);
    cr_expect_eq(wal_peek(co_span_of(copy, WAL_HEADER_BYTES), &h), 0, "the largest is possible");
    co_put64(copy + WH_BEGIN, 0);
    co_put64(copy + WH_BASE, 0);
    co_put64(copy + WH_SEALED, 0);
    co_put64(copy + WH_END, CO_TXN_MAX_BYTES);
    cr_expect_eq(wal_peek(co_span_of(copy, WAL_HEADER_BYTES), &h), CO_ERR_CORRUPT, "LSN 0");
    free(copy);
}

Test(wal_damage, a_beginning_tells_its_version_as_soon_as_it_is_there)
{
    struct wal_header h;
    cr_expect_eq(wal_peek(co_span_of("CWAL\3", 5), &h), CO_ERR_AGAIN);
    cr_expect_eq(wal_peek(co_span_of("CWAL\3\0", 6), &h), CO_ERR_VERSION);
    cr_expect_eq(wal_peek(co_span_of("CWAL\2\0", 6), &h), CO_ERR_AGAIN);
    cr_expect_eq(wal_peek(co_span_of("CWAL\0\0", 6), &h), CO_ERR_CORRUPT);
    cr_expect_eq(wal_peek(co_span_of("CWAL\1\0\x90", 7), &h), CO_ERR_AGAIN);
    cr_expect_eq(wal_peek(co_span_of("CWAL\1\0\x90\0", 8), &h), CO_ERR_AGAIN);
    cr_expect_eq(wal_peek(co_span_of("CWAL\1\0\x98\0", 8), &h), CO_ERR_CORRUPT);
}

/* -- Records made by hand: sound but for what their entries say ----------------------------------
 */

struct hand {
    uint8_t entries[2048];
    size_t len;
    uint32_t n;
};

static void hand_add(struct hand *e, pgno_t pgno, unsigned encoding, size_t data)
{
    uint8_t *p = e->entries + e->len;
    size_t fixed = encoding == WAL_DELTA ? WE_DELTA_BYTES : WE_SHORT_BYTES;
    memset(p, 0, fixed + data);
    co_put32(p + WE_PGNO, pgno);
    p[WE_ENCODING] = (uint8_t)encoding;
    wal_put24(p + WE_DATA_BYTES, (uint32_t)data);
    if (encoding == WAL_DELTA)
        co_put64(p + WE_BASE_LSN, 4096);
    e->len += fixed + data;
    e->n++;
}

/* wal_check of a record with these entries, `padding` bytes behind them, the last of which is
 * `last`. */
static int check_by_hand(const struct hand *e, enum wal_kind kind, size_t padding, uint8_t last)
{
    size_t total = WAL_HEADER_BYTES + e->len + padding + WAL_TRAILER_BYTES;
    uint8_t *p = calloc(1, total);
    struct wal_header h;
    cr_assert(p && total % 8 == 0);
    memcpy(p, fx.bytes.data, WAL_HEADER_BYTES);
    co_put64(p + WH_TOTAL, total);
    co_put64(p + WH_END, 8192 + total);
    p[WH_KIND] = (uint8_t)kind;
    co_put32(p + WH_PAGE_SIZE, kind == WAL_TXN ? 512 : 0);
    co_put32(p + WH_N_ENTRIES, e->n);
    memcpy(p + WAL_HEADER_BYTES, e->entries, e->len);
    if (padding)
        p[WAL_HEADER_BYTES + e->len + padding - 1] = last;
    co_put32(p + total - 4, WAL_END_MAGIC);
    fx_mend(p, total);
    int rc = wal_check(co_span_of(p, total), &h);
    free(p);
    return rc;
}

Test(wal_damage, lengths_of_entries_are_bound_to_the_page)
{
    static const struct {
        unsigned encoding;
        size_t data;
        int rc;
    } rows[] = {
        {WAL_IMAGE, 511, CO_ERR_CORRUPT},
        {WAL_IMAGE, 512, 0},
        {WAL_IMAGE, 513, CO_ERR_CORRUPT},
        {WAL_ZSTD, 0, CO_ERR_CORRUPT},
        {WAL_ZSTD, 1, 0},
        {WAL_ZSTD, 511, 0},
        {WAL_ZSTD, 512, CO_ERR_CORRUPT},
        {WAL_DELTA, 0, 0},
        {WAL_DELTA, 511, 0},
        {WAL_DELTA, 512, CO_ERR_CORRUPT},
        {3, 512, CO_ERR_CORRUPT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct hand e = {.len = 0};
        hand_add(&e, 5, rows[i].encoding, rows[i].data);
        cr_expect_eq(check_by_hand(&e, WAL_TXN, (8 - e.len % 8) % 8, 0), rows[i].rc,
                     "encoding %u of %zu bytes", rows[i].encoding, rows[i].data);
    }
}

Test(wal_damage, padding_is_short_and_zero)
{
    /* One meaning, one record: nothing hides behind the entries. */
    struct hand e = {.len = 0};
    hand_add(&e, 5, WAL_ZSTD, 1); /* 13 bytes */
    cr_expect_eq(check_by_hand(&e, WAL_TXN, 3, 0), 0, "%s", co_sentence());
    cr_expect_eq(check_by_hand(&e, WAL_TXN, 3, 1), CO_ERR_CORRUPT);
    cr_expect_eq(check_by_hand(&e, WAL_TXN, 11, 0), CO_ERR_CORRUPT);
    hand_add(&e, 6, WAL_ZSTD, 7); /* 32 bytes */
    cr_expect_eq(check_by_hand(&e, WAL_TXN, 0, 0), 0, "%s", co_sentence());
    cr_expect_eq(check_by_hand(&e, WAL_TXN, 8, 0), CO_ERR_CORRUPT);
}

Test(wal_damage, eight_members_of_a_kind_are_too_many)
{
    for (unsigned is_new = 0; is_new < 2; is_new++)
        for (uint32_t n = CO_MEMBERS_MAX; n <= CO_MEMBERS_MAX + 1; n++) {
            struct hand e = {.len = 0};
            if (is_new)
                hand_add(&e, 1, 0, 16);
            for (uint32_t i = 0; i < n; i++)
                hand_add(&e, 1 + i, is_new, 16);
            int rc = check_by_hand(&e, WAL_CONFIG, (8 - e.len % 8) % 8, 0);
            cr_expect_eq(rc, n > CO_MEMBERS_MAX ? CO_ERR_CORRUPT : 0, "%s", co_sentence());
            cr_expect(rc == 0 || strstr(co_sentence(), "more members"), "before they are copied");
        }
}

Test(wal_damage, an_entry_that_does_not_fit_is_not_taken)
{
    struct hand e = {.len = 0};
    struct wal_entry out;
    hand_add(&e, 5, WAL_DELTA, 10);
    for (size_t len = 0; len <= e.len; len++) {
        uint8_t *copy = fx_exact(e.entries, len);
        struct co_span rest = {copy, len};
        cr_assert_eq(wal_take_entry(&rest, WAL_TXN, &out), len == e.len, "%zu bytes", len);
        cr_assert_eq(rest.len, len == e.len ? 0 : len);
        free(copy);
    }
    e = (struct hand){.len = 0};
    hand_add(&e, 5, WAL_ZSTD, 0);
    struct co_span rest = {e.entries, e.len};
    cr_assert(wal_take_entry(&rest, WAL_TXN, &out), "an entry of a header only");
}

/* Offset of the i-th entry. */
static size_t entry_at(uint32_t i)
{
    size_t at = WAL_HEADER_BYTES;
    for (; i; i--) {
        const uint8_t *p = fx.bytes.data + at;
        at += (p[WE_ENCODING] == WAL_DELTA ? 24u : 12u) + wal_get24(p + WE_DATA_BYTES);
    }
    return at;
}

Test(wal_damage, entries_that_contradict_the_record_are_refused)
{
    /* Entries 0, 1, 4, 5 have bases (deltas), 3 and 7 are images or zstd. */
    static const struct {
        const char *why;
        uint32_t entry;
        size_t at, bytes;
        uint64_t value;
    } rows[] = {
        {"page 0", 0, WE_PGNO, 4, 0},
        {"the page of the entry before (W2)", 1, WE_PGNO, 4, 2},
        {"a page before that (W2)", 2, WE_PGNO, 4, 4},
        {"a page beyond the database (W2)", 7, WE_PGNO, 4, 101},
        {"encoding 3", 2, WE_ENCODING, 1, 3},
        {"encoding 255", 2, WE_ENCODING, 1, 255},
        {"a delta said to be an image", 0, WE_ENCODING, 1, 0},
        {"a compressed image said to be an image", 6, WE_ENCODING, 1, 0},
        {"one byte more", 3, WE_DATA_BYTES, 3, 0xffffff},
        {"a base after the record (W4)", 0, WE_BASE_LSN, 8, 8200},
        {"a base off a record", 0, WE_BASE_LSN, 8, 4097},
        {"no base", 0, WE_BASE_LSN, 8, 0},
    };
    cr_assert_eq(fx.bytes.data[entry_at(0) + WE_ENCODING], WAL_DELTA);
    cr_assert_eq(fx.bytes.data[entry_at(6) + WE_ENCODING], WAL_ZSTD);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wal_header h;
        uint8_t *copy = fx_exact(fx.bytes.data, fx.bytes.len), value[8];
        co_put64(value, rows[i].value);
        memcpy(copy + entry_at(rows[i].entry) + rows[i].at, value, rows[i].bytes);
        fx_mend(copy, fx.bytes.len);
        cr_expect_eq(wal_check(co_span_of(copy, fx.bytes.len), &h), CO_ERR_CORRUPT, "%s",
                     rows[i].why);
        free(copy);
    }
}

Test(wal_damage, random_damage_under_a_right_crc_never_does_harm)
{
    /* H8: a writer with a valid key may send anything. Whatever passes must be safe to walk. */
    struct rnd r = rnd_begin("wal_damage");
    static uint8_t out[65536], base[65536];
    for (int i = 0; i < 30000; i++) {
        struct wal_header h;
        struct wal_cursor c;
        struct wal_entry e;
        uint8_t *copy = fx_exact(fx.bytes.data, fx.bytes.len);
        struct co_span record = {copy, fx.bytes.len};
        for (uint32_t k = 0; k <= rnd_below(&r, 4); k++) {
            uint32_t from = rnd_below(&r, 3) ? WAL_HEADER_BYTES : 8;
            copy[from + rnd_below(&r, (uint32_t)record.len - from - 8)] = (uint8_t)rnd_next(&r);
        }
        fx_mend(copy, record.len);
        if (wal_check(record, &h) == 0) {
            uint32_t n = 0;
            (void)!wal_check_digest(record, &h);
            for (wal_cursor_init(&c, record, &h); wal_cursor_next(&c, &e); n++) {
                int rc = wal_apply(&e, h.page_size, base, out, NULL);
                cr_assert(rc == 0 || rc == CO_ERR_CORRUPT);
            }
            cr_assert_eq(n, h.n_entries);
        }
        free(copy);
    }
}

/* -- Applying -----------------------------------------------------------------------------------
 */

Test(wal_damage, a_page_is_believed_only_with_the_right_base_and_result)
{
    /* W3 and promise 5: CRC of the base before, of the result after. */
    struct wal_header h;
    struct wal_cursor c;
    struct wal_entry e;
    uint8_t out[FX_PAGE_SIZE], in_place[FX_PAGE_SIZE];
    cr_assert_eq(wal_check(co_buf_span(&fx.bytes), &h), 0);
    wal_cursor_init(&c, co_buf_span(&fx.bytes), &h);
    for (uint32_t i = 0; wal_cursor_next(&c, &e); i++) {
        const uint8_t *base = e.encoding == WAL_DELTA ? fx.base[i] : NULL;
        cr_assert_eq(wal_apply(&e, FX_PAGE_SIZE, base, out, NULL), 0, "%s", co_sentence());
        cr_assert_eq(memcmp(out, fx.page[i], FX_PAGE_SIZE), 0);
        struct wal_entry wrong = e;
        wrong.page_crc ^= 1;
        cr_assert_eq(wal_apply(&wrong, FX_PAGE_SIZE, base, out, NULL), CO_ERR_CORRUPT);
        cr_assert_eq(wal_apply(&e, 2 * FX_PAGE_SIZE, NULL, out, NULL), CO_ERR_CORRUPT);
        if (e.encoding != WAL_DELTA)
            continue;
        memcpy(in_place, base, FX_PAGE_SIZE);
        cr_assert_eq(wal_apply(&e, FX_PAGE_SIZE, in_place, in_place, NULL), 0);
        cr_assert_eq(memcmp(in_place, fx.page[i], FX_PAGE_SIZE), 0);
        memcpy(in_place, base, FX_PAGE_SIZE);
        in_place[7] ^= 4;
        cr_assert_eq(wal_apply(&e, FX_PAGE_SIZE, in_place, in_place, NULL), CO_ERR_CORRUPT);
        cr_assert(strstr(co_sentence(), "base"), "%s", co_sentence());
        in_place[7] ^= 4;
        cr_assert_eq(memcmp(in_place, base, FX_PAGE_SIZE), 0, "a wrong base is left as it is");
        cr_assert_eq(wal_apply(&e, FX_PAGE_SIZE, NULL, out, NULL), CO_ERR_CORRUPT);
    }
}

Test(wal_damage, compressed_data_that_is_none_is_refused)
{
    static const uint8_t bomb[] = {0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x10, 2, 0, 0x80, 0};
    uint8_t *out = malloc(512);
    struct wal_entry e = {.pgno = 1, .encoding = WAL_ZSTD, .data = {bomb, sizeof bomb}};
    cr_assert(out);
    cr_expect_eq(wal_apply(&e, 512, NULL, out, NULL), CO_ERR_CORRUPT, "says it holds 256 MiB");
    e.data = co_span_of("not zstd at all", 15);
    cr_expect_eq(wal_apply(&e, 512, NULL, out, NULL), CO_ERR_CORRUPT);
    e.encoding = (enum wal_encoding)9;
    cr_expect_eq(wal_apply(&e, 512, NULL, out, NULL), CO_ERR_CORRUPT);
    free(out);
}
