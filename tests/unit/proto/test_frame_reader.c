#include <criterion/criterion.h>

#include "proto/frame_reader.h"
#include "proto/limits.h"

TestSuite(frame_reader, .timeout = 20);

static void feed(struct frame_reader *r, const uint8_t *data, size_t len)
{
    while (len) {
        uint8_t *at;
        size_t room;
        cr_assert_eq(frame_reader_space(r, &at, &room), 0);
        cr_assert_gt(room, 0u);
        size_t n = len < room ? len : room;
        memcpy(at, data, n);
        frame_reader_commit(r, n);
        data += n;
        len -= n;
    }
}

static struct co_buf frame_of(uint64_t id, size_t len)
{
    struct co_buf payload = {0}, out = {0};
    cr_assert_eq(co_buf_append_zeros(&payload, len), 0);
    for (size_t i = 0; i < len; i++)
        payload.data[i] = (uint8_t)(i * 7 + id);
    cr_assert_eq(frame_append(&out, FRAME_APPEND, id, (struct co_span){0}, co_buf_span(&payload)),
                 0);
    co_buf_free(&payload);
    return out;
}

Test(frame_reader, wants_more_until_the_last_byte)
{
    /* A frame is handed out when it is whole, not before. */
    struct frame_reader r = {0};
    struct frame_header frame;
    struct co_span body;
    struct co_buf f = frame_of(5, 50);
    for (size_t i = 0; i < f.len; i++) {
        cr_assert_eq(frame_reader_next(&r, &frame, &body), CO_ERR_AGAIN);
        cr_assert_eq(frame_reader_partial(&r), i > 0);
        feed(&r, f.data + i, 1);
    }
    cr_assert_eq(frame_reader_next(&r, &frame, &body), 0);
    cr_assert_eq(frame.request_id, 5u);
    cr_assert_eq(body.len, 50u);
    cr_assert_eq(memcmp(body.data, f.data + FRAME_HEADER_BYTES, 50), 0);
    cr_assert_not(frame_reader_partial(&r));
    co_buf_free(&f);
    frame_reader_free(&r);
}

Test(frame_reader, has_room_by_what_arrived_not_by_what_was_announced)
{
    /* R1: a header that announces megabytes costs its sender the megabytes, not us. */
    struct frame_reader r = {0};
    struct frame_header frame;
    struct co_span body;
    uint8_t *at;
    size_t room;
    struct co_buf f = frame_of(5, 0);
    co_put32(f.data, (uint32_t)CO_FRAME_RECORDS_MAX_BYTES);
    feed(&r, f.data, f.len);
    for (size_t have = f.len; have < 2 << 20; have += room) {
        cr_assert_eq(frame_reader_next(&r, &frame, &body), CO_ERR_AGAIN);
        cr_assert_eq(frame_reader_space(&r, &at, &room), 0);
        cr_assert_leq(r.cap, 2 * have > READER_CHUNK_BYTES ? 2 * have : READER_CHUNK_BYTES);
        memset(at, 0, room);
        frame_reader_commit(&r, room);
    }
    co_buf_free(&f);
    frame_reader_free(&r);
}

Test(frame_reader, receives_a_large_frame_in_one_piece_that_ends_with_it)
{
    /* R2: no byte of the next frame gets behind a large one, and its memory is given back after. */
    struct frame_reader r = {0};
    struct frame_header frame;
    struct co_span body;
    struct co_buf f = frame_of(9, 3000000);
    unsigned moves = 0;
    const uint8_t *where = NULL;
    for (size_t sent = 0; sent < f.len;) {
        uint8_t *at;
        size_t room;
        cr_assert_eq(frame_reader_next(&r, &frame, &body), CO_ERR_AGAIN);
        cr_assert_eq(frame_reader_space(&r, &at, &room), 0);
        moves += r.data != where;
        where = r.data;
        if (sent >= FRAME_HEADER_BYTES)
            cr_assert_leq(room, f.len - sent);
        size_t n = room < 10000 ? room : 10000;
        n = n < f.len - sent ? n : f.len - sent;
        memcpy(at, f.data + sent, n);
        frame_reader_commit(&r, n);
        sent += n;
    }
    cr_assert_leq(moves, 10u, "the buffer doubles");
    cr_assert_eq(r.cap, f.len);
    cr_assert_eq(frame_reader_next(&r, &frame, &body), 0);
    cr_assert_eq(memcmp(body.data, f.data + FRAME_HEADER_BYTES, body.len), 0);
    uint8_t *at;
    size_t room;
    cr_assert_eq(frame_reader_space(&r, &at, &room), 0);
    cr_assert_leq(r.cap, READER_CHUNK_BYTES);
    co_buf_free(&f);
    frame_reader_free(&r);
}

Test(frame_reader, passes_the_memory_of_a_large_frame_on)
{
    /* take: a large answer is not copied into a second buffer of its size. */
    struct frame_reader r = {0};
    struct frame_header frame;
    struct co_buf f = frame_of(9, 3000000), body = {0};
    feed(&r, f.data, f.len);
    const uint8_t *was = r.data;
    cr_assert_eq(frame_reader_take(&r, &frame, &body), 0);
    cr_assert_eq(body.data, was);
    cr_assert_null(r.data);
    cr_assert_eq(body.len, 3000000u);
    cr_assert_eq(memcmp(body.data, f.data + FRAME_HEADER_BYTES, body.len), 0);
    co_buf_free(&body);
    feed(&r, f.data, 100); /* and it goes on with the next */
    cr_assert_eq(frame_reader_take(&r, &frame, &body), CO_ERR_AGAIN);
    feed(&r, f.data + 100, f.len - 100);
    cr_assert_eq(frame_reader_take(&r, &frame, &body), 0);
    co_buf_free(&body);
    co_buf_free(&f);
    frame_reader_free(&r);
}

Test(frame_reader, keeps_frames_of_mixed_sizes_apart_however_they_arrive)
{
    /* Any cutting of any row of frames gives the same frames. */
    static const size_t sizes[] = {0,     1,     40, 4072,   4096, 65511, 65512,
                                   65513, 70000, 5,  200000, 0,    7};
    enum { N = sizeof sizes / sizeof *sizes };
    struct co_buf all = {0};
    for (size_t i = 0; i < N; i++) {
        struct co_buf f = frame_of(i, sizes[i]);
        cr_assert_eq(co_buf_append(&all, f.data, f.len), 0);
        co_buf_free(&f);
    }
    for (size_t step = 1; step < all.len; step = step * 3 + 1) {
        struct frame_reader r = {0};
        size_t seen = 0;
        for (size_t sent = 0; sent < all.len; sent += step) {
            struct frame_header frame;
            struct co_span body;
            feed(&r, all.data + sent, step < all.len - sent ? step : all.len - sent);
            /* Every other step leaves whole frames lying in the reader. */
            while (((sent / step) & 1 || sent + step >= all.len) &&
                   frame_reader_next(&r, &frame, &body) == 0) {
                cr_assert_eq(frame.request_id, seen);
                cr_assert_eq(body.len, sizes[seen]);
                seen++;
            }
        }
        cr_assert_eq(seen, (size_t)N, "step %zu", step);
        frame_reader_free(&r);
    }
    co_buf_free(&all);
}

Test(frame_reader, refuses_damage_and_lengths_out_of_bounds)
{
    /* A stream that cannot be trusted is an error, each time it is asked. */
    struct frame_reader r = {.body_limit = 100};
    struct frame_header frame;
    struct co_span body;
    struct co_buf f = frame_of(1, 101);
    feed(&r, f.data, FRAME_HEADER_BYTES);
    cr_assert_eq(frame_reader_next(&r, &frame, &body), CO_ERR_PROTOCOL);
    cr_assert(strstr(co_sentence(), "before Hello"));
    cr_assert_eq(frame_reader_next(&r, &frame, &body), CO_ERR_PROTOCOL);
    frame_reader_free(&r);
    cr_assert_eq(r.body_limit, 100u, "the bound outlives the bytes");
    r.body_limit = 0;
    f.data[60] ^= 1;
    feed(&r, f.data, f.len);
    cr_assert_eq(frame_reader_next(&r, &frame, &body), CO_ERR_PROTOCOL);
    frame_reader_free(&r);
    co_buf_free(&f);
}

Test(frame_reader, is_small_while_little_is_said)
{
    /* Thousands of quiet connections must not hold a chunk each. */
    struct frame_reader r = {0};
    struct frame_header frame;
    struct co_span body;
    struct co_buf f = frame_of(1, 500), big = {0};
    for (int i = 0; i < 100; i++) {
        feed(&r, f.data, f.len);
        cr_assert_eq(frame_reader_next(&r, &frame, &body), 0);
    }
    cr_assert_leq(r.cap, READER_FIRST_BYTES);
    for (int i = 0; i < 400; i++)
        cr_assert_eq(co_buf_append(&big, f.data, f.len), 0);
    feed(&r, big.data, big.len);
    while (frame_reader_next(&r, &frame, &body) == 0)
        ;
    cr_assert_geq(r.cap, READER_CHUNK_BYTES, "and grows with the traffic");
    frame_reader_free(&r);
    co_buf_free(&f);
    co_buf_free(&big);
}
