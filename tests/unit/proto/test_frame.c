#include <criterion/criterion.h>

#include "proto/frame.h"
#include "proto/limits.h"
#include "tests/unit/proto/random.h"

TestSuite(frame, .timeout = 20);

/* A type of each sort, for the cases below. */
static const struct {
    unsigned type;
    uint64_t body_max;
    bool payload;
} sorts[] = {
    {FRAME_HELLO, CO_FRAME_HELLO_MAX_BYTES, false},
    {FRAME_OPENED, CO_FRAME_CONTROL_MAX_BYTES, false},
    {FRAME_VOTED, CO_FRAME_HISTORY_MAX_BYTES, false},
    {FRAME_DB_LISTED, CO_FRAME_PAGES_MAX_BYTES, false},
    {FRAME_PAGES, CO_FRAME_PAGES_MAX_BYTES, true},
    {FRAME_APPEND, CO_FRAME_RECORDS_MAX_BYTES, true},
};
#define N_SORTS (sizeof sorts / sizeof *sorts)

static void raw_header(uint8_t out[FRAME_HEADER_BYTES], unsigned type, uint32_t body,
                       uint32_t message)
{
    memset(out, 0, FRAME_HEADER_BYTES);
    co_put32(out, body);
    co_put16(out + 4, (uint16_t)type);
    co_put32(out + 20, message);
}

Test(frame, has_these_very_bytes)
{
    /* A change of the frame format must be noticed: old and new programs would not understand each
     * other. CRC computed by an independent implementation. */
    static const uint8_t want[] = {0x08, 0x00, 0x00, 0x00, 0x15, 0x00, 0x00, 0x00, 0x88, 0x77, 0x66,
                                   0x55, 0x44, 0x33, 0x22, 0x11, 0x19, 0x54, 0xe8, 0x1f, 0x03, 0x00,
                                   0x00, 0x00, 'a',  'b',  'c',  'd',  'e',  'f',  'g',  'h'};
    struct co_buf out = {0};
    cr_assert_eq(frame_append(&out, FRAME_APPEND, 0x1122334455667788u, co_span_of("abc", 3),
                              co_span_of("defgh", 5)),
                 0);
    cr_assert_eq(out.len, sizeof want);
    cr_expect_eq(co_get32(out.data + 16), 0x1fe85419u, "CRC is %08x", co_get32(out.data + 16));
    cr_expect_arr_eq(out.data, want, sizeof want);
    co_buf_free(&out);
}

Test(frame, comes_back_as_it_was_sent)
{
    struct rnd r = rnd_begin("frame");
    for (int i = 0; i < 2000; i++) {
        size_t k = rnd_below(&r, N_SORTS);
        uint8_t bytes[4096];
        uint32_t message = rnd_below(&r, 2048),
                 payload = sorts[k].payload ? rnd_below(&r, 2048) : 0;
        uint64_t id = rnd_any(&r);
        struct co_buf out = {0};
        struct frame_header h;
        rnd_fill(&r, bytes, sizeof bytes);
        cr_assert_eq(frame_append(&out, sorts[k].type, id, co_span_of(bytes, message),
                                  co_span_of(bytes + message, payload)),
                     0);
        cr_assert_eq(out.len, FRAME_HEADER_BYTES + message + payload);
        cr_assert_eq(frame_parse(out.data, &h), 0, "%s", co_sentence());
        cr_assert(h.type == sorts[k].type && h.request_id == id && h.flags == 0);
        cr_assert(h.body_bytes == message + payload && h.message_bytes == message);
        cr_assert_eq(frame_verify(out.data, co_span_of(out.data + FRAME_HEADER_BYTES,
                                                       out.len - FRAME_HEADER_BYTES)),
                     0);
        cr_assert_eq(memcmp(out.data + FRAME_HEADER_BYTES, bytes, message + payload), 0);
        co_buf_free(&out);
    }
}

Test(frame, every_flipped_bit_is_refused)
{
    /* N7: a damaged stream closes the connection and is never acted upon. */
    struct co_buf out = {0};
    cr_assert_eq(frame_append(&out, FRAME_APPEND, 7, co_span_of("message", 7),
                              co_span_of("payload of some bytes", 21)),
                 0);
    for (size_t bit = 0; bit < out.len * 8; bit++) {
        struct frame_header h;
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int rc = frame_parse(out.data, &h);
        if (rc == 0)
            rc = frame_verify(
                out.data, co_span_of(out.data + FRAME_HEADER_BYTES, out.len - FRAME_HEADER_BYTES));
        cr_assert_eq(rc, CO_ERR_PROTOCOL, "bit %zu", bit);
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    co_buf_free(&out);
}

Test(frame, bounds_are_checked_before_the_body_is_read)
{
    /* H2: a length is compared with the bound of its type before anything is allocated. */
    for (size_t k = 0; k < N_SORTS; k++) {
        uint8_t bytes[FRAME_HEADER_BYTES];
        struct frame_header h;
        cr_expect_eq(frame_body_max(sorts[k].type), sorts[k].body_max);
        uint32_t max = (uint32_t)sorts[k].body_max, message = sorts[k].payload ? 0 : max;
        raw_header(bytes, sorts[k].type, max, message);
        cr_expect_eq(frame_parse(bytes, &h), 0, "%s", co_sentence());
        raw_header(bytes, sorts[k].type, max + 1, message);
        cr_expect_eq(frame_parse(bytes, &h), CO_ERR_PROTOCOL);
        raw_header(bytes, sorts[k].type, UINT32_MAX, message);
        cr_expect_eq(frame_parse(bytes, &h), CO_ERR_PROTOCOL);
        raw_header(bytes, sorts[k].type, 10, 11);
        cr_expect_eq(frame_parse(bytes, &h), CO_ERR_PROTOCOL, "message longer than the body");
        raw_header(bytes, sorts[k].type, 10, 9);
        cr_expect_eq(frame_parse(bytes, &h), sorts[k].payload ? 0 : CO_ERR_PROTOCOL,
                     "payload only where there is one");
    }
}

Test(frame, a_message_beside_a_large_payload_has_its_own_bound)
{
    /* A message grows when it is unpacked: 1 GiB of one must never be. */
    uint8_t bytes[FRAME_HEADER_BYTES];
    struct frame_header h;
    uint32_t max = CO_FRAME_HISTORY_MAX_BYTES;
    raw_header(bytes, FRAME_APPEND, max + 10, max);
    cr_expect_eq(frame_parse(bytes, &h), 0);
    raw_header(bytes, FRAME_APPEND, max + 10, max + 1);
    cr_expect_eq(frame_parse(bytes, &h), CO_ERR_PROTOCOL);
    raw_header(bytes, FRAME_PAGES, 100000, CO_FRAME_CONTROL_MAX_BYTES + 1);
    cr_expect_eq(frame_parse(bytes, &h), CO_ERR_PROTOCOL);
}

Test(frame, unknown_types_and_flags_are_refused)
{
    for (unsigned type = 0; type < 70000; type++) {
        if (type > UINT16_MAX) {
            cr_assert_eq(frame_body_max(type), 0);
            cr_assert_str_eq(frame_type_name(type), "?");
            continue;
        }
        uint8_t bytes[FRAME_HEADER_BYTES];
        struct frame_header h;
        raw_header(bytes, type, 0, 0);
        bool known = strcmp(frame_type_name(type), "?") != 0;
        cr_assert_eq(frame_parse(bytes, &h), known ? 0 : CO_ERR_PROTOCOL, "type %u", type);
        cr_assert_eq(known, frame_body_max(type) != 0);
        bytes[6] = 1;
        cr_assert_eq(frame_parse(bytes, &h), CO_ERR_PROTOCOL, "flags with type %u", type);
    }
}

Test(frame, every_type_of_the_list_has_a_name)
{
    static const unsigned types[] = {
        1,  2,  3,  4,  5,  16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 68, 69, 70, 71, 72, 73,
        74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 108};
    unsigned known = 0;
    for (unsigned type = 0; type < 300; type++)
        known += frame_body_max(type) != 0;
    cr_assert_eq(known, sizeof types / sizeof *types);
    for (size_t i = 0; i < known; i++)
        cr_assert_str_neq(frame_type_name(types[i]), "?");
    cr_assert_str_eq(frame_type_name(FRAME_REJECT_CONFIG), "REJECT_CONFIG");
}

Test(frame, a_sender_over_the_bound_hears_it_and_sends_nothing)
{
    struct co_buf out = {0};
    uint8_t *big = calloc(1, CO_FRAME_HELLO_MAX_BYTES + 1);
    cr_assert(big);
    cr_assert_eq(frame_append(&out, FRAME_HELLO, 1, co_span_of(big, CO_FRAME_HELLO_MAX_BYTES + 1),
                              co_span_of(NULL, 0)),
                 CO_ERR_TOO_LARGE);
    cr_assert_eq(out.len, 0);
    cr_assert_eq(frame_append(&out, FRAME_HELLO, 1, co_span_of(big, CO_FRAME_HELLO_MAX_BYTES),
                              co_span_of(NULL, 0)),
                 0);
    free(big);
    co_buf_free(&out);
}

Test(frame, of_no_bytes_at_all_is_sound)
{
    struct co_buf out = {0};
    struct frame_header h;
    cr_assert_eq(frame_append(&out, FRAME_PING, 0, co_span_of(NULL, 0), co_span_of(NULL, 0)), 0);
    cr_assert_eq(out.len, FRAME_HEADER_BYTES);
    cr_assert_eq(frame_parse(out.data, &h), 0);
    cr_assert_eq(frame_verify(out.data, co_span_of(NULL, 0)), 0);
    co_buf_free(&out);
}
