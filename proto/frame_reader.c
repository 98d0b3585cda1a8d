#include "proto/frame_reader.h"

#include <stdlib.h>

#include "common/assert.h"

/* Length of the frame at the start, header included; 0 while its header is not whole. */
static size_t announced(const struct frame_reader *r)
{
    if (r->len - r->start < FRAME_HEADER_BYTES)
        return 0;
    return FRAME_HEADER_BYTES + (size_t)co_get32(r->data + r->start);
}

static int resize(struct frame_reader *r, size_t cap)
{
    uint8_t *data = realloc(r->data, cap);
    if (!data)
        return co_fail(CO_ERR_NOMEM,
                       "%zu bytes of memory for a received frame were wanted and could not be had",
                       cap);
    r->data = data;
    r->cap = cap;
    return 0;
}

/* Moves what is left to the front. An emptied buffer of a large frame is given back. */
static void compact(struct frame_reader *r)
{
    size_t left = r->len - r->start;
    if (left && r->start)
        memmove(r->data, r->data + r->start, left);
    r->start = 0;
    r->len = left;
    if (!left && r->cap > READER_CHUNK_BYTES)
        frame_reader_free(r);
}

/* The next larger room: twice the present one, but not beyond the end of a large frame (R2). */
static int grow(struct frame_reader *r, size_t frame_end)
{
    size_t cap = r->cap ? 2 * r->cap : READER_FIRST_BYTES;
    if (frame_end && cap < READER_CHUNK_BYTES)
        cap = READER_CHUNK_BYTES;
    return resize(r, frame_end && cap > frame_end ? frame_end : cap);
}

int frame_reader_space(struct frame_reader *r, uint8_t **at, size_t *room)
{
    size_t total = announced(r), have = r->len - r->start;
    bool large = total > READER_CHUNK_BYTES && have < total;
    if (r->start && have <= r->start && (!have || large || r->cap - r->len < r->cap / 4))
        compact(r);
    if (r->len == r->cap || (r->filled && r->cap < READER_CHUNK_BYTES)) {
        int rc = grow(r, large ? r->start + total : 0);
        if (rc)
            return rc;
        r->filled = false;
    }
    *at = r->data + r->len;
    *room = r->cap - r->len;
    return 0;
}

void frame_reader_commit(struct frame_reader *r, size_t n)
{
    co_assert(n <= r->cap - r->len);
    r->len += n;
    r->filled = r->len == r->cap;
}

/* Looks at the first frame without taking it. */
static int look(struct frame_reader *r, struct frame_header *frame, struct co_span *body)
{
    if (r->len - r->start < FRAME_HEADER_BYTES)
        return CO_ERR_AGAIN;
    const uint8_t *at = r->data + r->start;
    int rc = frame_parse(at, frame);
    if (rc)
        return rc;
    if (r->body_limit && frame->body_bytes > r->body_limit)
        return co_fail(CO_ERR_PROTOCOL,
                       "a frame %s of %u bytes came where at most %u are allowed before Hello",
                       frame_type_name(frame->type), frame->body_bytes, r->body_limit);
    if (r->len - r->start < FRAME_HEADER_BYTES + (size_t)frame->body_bytes)
        return CO_ERR_AGAIN;
    *body = co_span_of(at + FRAME_HEADER_BYTES, frame->body_bytes);
    return frame_verify(at, *body);
}

int frame_reader_next(struct frame_reader *r, struct frame_header *frame, struct co_span *body)
{
    int rc = look(r, frame, body);
    if (!rc)
        r->start += FRAME_HEADER_BYTES + body->len;
    return rc;
}

int frame_reader_take(struct frame_reader *r, struct frame_header *frame, struct co_buf *body)
{
    struct co_span span;
    int rc = look(r, frame, &span);
    if (rc)
        return rc;
    size_t total = FRAME_HEADER_BYTES + span.len;
    if (total > READER_CHUNK_BYTES && r->start == 0 && r->len == total) {
        co_buf_free(body);
        memmove(r->data, span.data, span.len);
        *body = (struct co_buf){.data = r->data, .len = span.len, .cap = r->cap};
        r->data = NULL;
        frame_reader_free(r);
        return 0;
    }
    rc = co_buf_append(body, span.data, span.len);
    if (!rc)
        r->start += total;
    return rc;
}

void frame_reader_free(struct frame_reader *r)
{
    free(r->data);
    *r = (struct frame_reader){.body_limit = r->body_limit};
}
