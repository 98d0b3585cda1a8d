/*
 * fuzz_frames.c - a stream of bytes becomes frames, a frame's message becomes a structure.
 *
 *   byte 0, bit 0: mend the CRCs of the frames, so that what lies behind them is reached
 *           bit 1: the receive sizes of the first reader come from the input
 *   the rest: the stream
 *
 * What holds: however the bytes arrive, the same frames come out and the stream breaks at the same
 * place; a reader's memory follows what it was given (R1); a frame that was read is written again
 * byte by byte; a message that was unpacked can be packed, and is the same when it is unpacked
 * again.
 */
#include "common/crc32c.h"
#include "pageserver/answer_uv.h"
#include "pageserver/follow.h"
#include "pageserver/timeline_meta.h"
#include "proto/frame_reader.h"
#include "proto/hello.h"
#include "proto/message.h"
#include "proto/qmsg.h"
#include "proto/nodes.h"
#include "proto/unpack.h"
#include "safekeeper/registry_file.h"
#include "tests/fuzz/fuzz.h"

static const ProtobufCMessageDescriptor *const messages[] = {
    [FRAME_NODES] = &corallite__nodes__descriptor,
    [FRAME_HELLO] = &corallite__hello__descriptor,
    [FRAME_HELLO_OK] = &corallite__hello_ok__descriptor,
    [FRAME_ERROR] = &corallite__error__descriptor,
    [FRAME_STREAM] = &corallite__stream__descriptor,
    [FRAME_STREAM_DATA] = &corallite__stream_data__descriptor,
    [FRAME_TIMELINE_PUT] = &corallite__timeline_put__descriptor,
    [FRAME_TIMELINE_PUT_OK] = &corallite__timeline_put_ok__descriptor,
    [FRAME_TIMELINE_LIST] = &corallite__timeline_list__descriptor,
    [FRAME_TIMELINE_LISTED] = &corallite__timeline_listed__descriptor,
    [FRAME_NODE_STATUS_OK] = &corallite__node_status__descriptor,
    [FRAME_FOLLOW] = &corallite__follow__descriptor,
    [FRAME_FOLLOWED] = &corallite__followed__descriptor,
    [FRAME_PAGESERVERS] = &corallite__pageservers__descriptor,
    [FRAME_PAGESERVERS_OK] = &corallite__pageservers__descriptor,
    [FRAME_OPEN] = &corallite__open__descriptor,
    [FRAME_OPENED] = &corallite__opened__descriptor,
    [FRAME_CREATE] = &corallite__create__descriptor,
    [FRAME_DROP] = &corallite__drop__descriptor,
    [FRAME_DB_LIST] = &corallite__db_list__descriptor,
    [FRAME_DB_LISTED] = &corallite__db_listed__descriptor,
    [FRAME_GET_PAGES] = &corallite__get_pages__descriptor,
    [FRAME_PAGES] = &corallite__pages__descriptor,
    [FRAME_CHANGES_SINCE] = &corallite__changes_since__descriptor,
    [FRAME_CHANGES] = &corallite__changes__descriptor,
    [FRAME_SERVER_STATUS_OK] = &corallite__server_status__descriptor,
    [FRAME_RESOLVE] = &corallite__resolve__descriptor,
    [FRAME_RESOLVED] = &corallite__resolved__descriptor,
    [FRAME_BRANCH_CREATE] = &corallite__branch_create__descriptor,
    [FRAME_BRANCH_CHANGE] = &corallite__branch_change__descriptor,
    [FRAME_RESTORE] = &corallite__restore__descriptor,
    [FRAME_BRANCHED] = &corallite__branched__descriptor,
    [FRAME_BRANCH_LIST] = &corallite__branch_list__descriptor,
    [FRAME_BRANCH_LISTED] = &corallite__branch_listed__descriptor,
    [FRAME_LOG] = &corallite__log__descriptor,
    [FRAME_LOGGED] = &corallite__logged__descriptor,
    [FRAME_PIN] = &corallite__pin__descriptor,
    [FRAME_PIN_LIST] = &corallite__pin_list__descriptor,
    [FRAME_PINS] = &corallite__pins__descriptor,
};

/* -- Messages ---------------------------------------------------------------------------------- */

static void pack(const ProtobufCMessage *m, struct co_buf *out)
{
    FUZZ_CHECK(co_buf_reserve(out, protobuf_c_message_get_packed_size(m) + 1) == 0);
    out->len = protobuf_c_message_pack(m, out->data);
}

static void on_timeline(const Corallite__Timeline *wire)
{
    struct ps_meta meta, again;
    struct sk_entry entry = {0};
    if (wire && ps_meta_from_wire(wire, &meta) == 0) {
        AUTO_BUF bytes = {0};
        FUZZ_CHECK(ps_meta_pack(&meta, &bytes) == 0);
        FUZZ_CHECK(ps_meta_unpack(co_buf_span(&bytes), &again) == 0);
        AUTO_BUF more = {0};
        FUZZ_CHECK(ps_meta_pack(&again, &more) == 0);
        FUZZ_CHECK(fuzz_same(co_buf_span(&bytes), co_buf_span(&more)));
    }
    if (wire && sk_entry_parse(wire, &entry) == 0) {
        FUZZ_CHECK(entry.start_lsn % LSN_ALIGN == 0 && wal_config_check(&entry.config) == 0);
        sk_entry_release(&entry);
    }
}

/* A follower believes no more of it than its names and the timelines that it knows. */
static void on_followed(const Corallite__Followed *m)
{
    struct co_id id = {{1}};
    struct ps_registry reg;
    struct ps_pin_row *rows;
    size_t n;
    bool counted;
    FUZZ_CHECK(ps_reg_init(&reg, &id, &id, 3) == 0);
    if (ps_follow_take(&reg, m, &counted) == 0)
        FUZZ_CHECK(!counted || m->n_lines == 0);
    ps_reg_free(&reg);
    if (ps_follow_pins(m, &rows, &n))
        return;
    FUZZ_CHECK(n == m->n_pins);
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK(name_check(rows[i].name) == 0);
    free(rows);
}

static void on_pageservers(const Corallite__Pageservers *m)
{
    struct sk_followers f, again;
    struct sk_followers_message out;
    if (sk_followers_from_wire(m, &f))
        return;
    FUZZ_CHECK(sk_followers_count(&f) == m->n_pageservers);
    sk_followers_to_wire(&f, &out);
    FUZZ_CHECK(sk_followers_from_wire(&out.pb, &again) == 0);
    FUZZ_CHECK(memcmp(&f, &again, sizeof f) == 0);
}

/* GET_PAGES or CHANGES_SINCE, as a loop of the pageserver takes it. */
static void on_request(unsigned type, struct co_span message)
{
    static struct ps_request r;
    memset(&r, 0xa5, sizeof r);
    if (ps_request_take(type, 1, message, &r))
        return;
    FUZZ_CHECK(r.request == 1 && r.changes == (type == FRAME_CHANGES_SINCE));
    if (r.changes)
        return;
    FUZZ_CHECK(r.n >= 1 && r.n + r.chain <= CO_GETPAGES_MAX && r.lsn && r.need <= r.lsn);
    for (uint32_t i = 0; i < r.n; i++)
        FUZZ_CHECK(r.pgnos[i]);
}

/* What the receivers do with a message before they believe it. */
static void on_message(unsigned type, const ProtobufCMessage *m)
{
    if (type == FRAME_HELLO) {
        const Corallite__Hello *hello = (const Corallite__Hello *)m;
        Corallite__HelloOk ok = CORALLITE__HELLO_OK__INIT;
        char text[32];
        (void)hello_wanted(hello, text);
        (void)!hello_check_range(hello);
        (void)!hello_check_answer(hello, &ok, "here");
    } else if (type == FRAME_HELLO_OK) {
        Corallite__Hello hello = CORALLITE__HELLO__INIT;
        (void)!hello_check_answer(&hello, (const Corallite__HelloOk *)m, "here");
    } else if (type == FRAME_ERROR) {
        FUZZ_CHECK(error_take((const Corallite__Error *)m, "here") < 0);
        for (const char *p = co_sentence(); *p; p++)
            FUZZ_CHECK((unsigned char)*p >= ' ');
    } else if (type == FRAME_NODES) {
        struct nodes nodes, again;
        struct nodes_message out;
        if (nodes_read((const Corallite__Nodes *)m, &nodes))
            return;
        FUZZ_CHECK(nodes.n <= NODES_MAX);
        nodes_fill(&nodes, &out);
        FUZZ_CHECK(nodes_read(&out.pb, &again) == 0 && again.n == nodes.n);
    } else if (type == FRAME_FOLLOWED) {
        on_followed((const Corallite__Followed *)m);
    } else if (type == FRAME_PAGESERVERS_OK) {
        on_pageservers((const Corallite__Pageservers *)m);
    } else if (type == FRAME_TIMELINE_PUT) {
        on_timeline(((const Corallite__TimelinePut *)m)->timeline);
    } else if (type == FRAME_TIMELINE_LISTED) {
        const Corallite__TimelineListed *listed = (const Corallite__TimelineListed *)m;
        for (size_t i = 0; i < listed->n_timelines; i++)
            on_timeline(listed->timelines[i]);
    }
}

static void on_body(unsigned type, struct co_span message)
{
    const ProtobufCMessageDescriptor *d =
        type < sizeof messages / sizeof *messages ? messages[type] : NULL;
    AUTO_BUF once = {0}, twice = {0};
    ProtobufCMessage *m = d ? message_unpack(d, message) : NULL;
    if (type == FRAME_GET_PAGES || type == FRAME_CHANGES_SINCE)
        on_request(type, message);
    if (!m)
        return;
    on_message(type, m);
    bool unknown = fuzz_has_unknown(m);
    pack(m, &once);
    protobuf_c_message_free_unpacked(m, NULL);
    m = message_unpack(d, co_buf_span(&once));
    /* Shorter numbers can bring the same message below what its memory may cost (unpack.h). */
    FUZZ_CHECK(m || unknown || strstr(co_sentence(), "far more memory"));
    if (!m)
        return;
    pack(m, &twice);
    protobuf_c_message_free_unpacked(m, NULL);
    FUZZ_CHECK(fuzz_same(co_buf_span(&once), co_buf_span(&twice)));
}

/* -- The stream -------------------------------------------------------------------------------- */

static void mend(uint8_t *data, size_t n)
{
    struct frame_header h;
    while (n >= FRAME_HEADER_BYTES && frame_parse(data, &h) == 0 &&
           h.body_bytes <= n - FRAME_HEADER_BYTES) {
        co_put32(data + 16, 0);
        co_put32(data + 16, co_crc32c(0, data, FRAME_HEADER_BYTES + h.body_bytes));
        data += FRAME_HEADER_BYTES + h.body_bytes;
        n -= FRAME_HEADER_BYTES + h.body_bytes;
    }
}

/* What came out of a stream: the whole frames written again, and how it ended. */
struct outcome {
    struct co_buf frames;
    int code;
};

static void on_frame(struct outcome *out, const struct frame_header *h, struct co_span body,
                     bool deep)
{
    struct co_span message = co_span_of(body.data, h->message_bytes), payload = {0};
    if (body.len)
        payload = co_span_of(body.data + h->message_bytes, body.len - h->message_bytes);
    FUZZ_CHECK(h->body_bytes == body.len && h->message_bytes <= h->body_bytes);
    FUZZ_CHECK(h->body_bytes <= frame_body_max(h->type));
    FUZZ_CHECK(frame_append(&out->frames, h->type, h->request_id, message, payload) == 0);
    if (deep) {
        AUTO_FREE uint8_t *exact = fuzz_copy(message, false);
        on_body(h->type, co_span_of(exact, message.len));
    }
}

/* R1, in the long run: its room is bounded by all that it ever received. */
static void put(struct frame_reader *r, struct co_span bytes, size_t before)
{
    size_t received = before;
    while (bytes.len) {
        uint8_t *at;
        size_t room;
        FUZZ_CHECK(frame_reader_space(r, &at, &room) == 0 && room > 0);
        size_t n = bytes.len < room ? bytes.len : room;
        memcpy(at, bytes.data, n);
        frame_reader_commit(r, n);
        bytes.data += n;
        bytes.len -= n;
        received += n;
        FUZZ_CHECK(r->cap <= READER_CHUNK_BYTES || r->cap <= 2 * received);
    }
}

/* Hands frames out by next, or by take; in pieces of `piece` bytes. */
static struct outcome split(struct co_span stream, size_t piece, bool take, uint32_t body_limit)
{
    struct frame_reader r = {.body_limit = body_limit};
    struct outcome out = {.code = CO_ERR_AGAIN};
    size_t size = stream.len;
    while (stream.len && out.code == CO_ERR_AGAIN) {
        size_t n = stream.len < piece ? stream.len : piece;
        put(&r, co_span_of(stream.data, n), size - stream.len);
        stream.data += n;
        stream.len -= n;
        for (;;) {
            struct frame_header h;
            struct co_span body;
            AUTO_BUF own = {0};
            out.code = take ? frame_reader_take(&r, &h, &own) : frame_reader_next(&r, &h, &body);
            if (out.code)
                break;
            on_frame(&out, &h, take ? co_buf_span(&own) : body, !take);
        }
    }
    frame_reader_free(&r);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    uint64_t how = fuzz_number(&in, 1);
    size_t piece = how & 2 ? 1 + (size_t)fuzz_number(&in, 2) : 7;
    AUTO_FREE uint8_t *stream = fuzz_copy(co_span_of(in.p, in.n), false);
    if (how & 1)
        mend(stream, in.n);
    struct co_span all = co_span_of(stream, in.n);
    uint32_t limit = how & 4 ? (uint32_t)(how >> 3) * 64 : 0;
    struct outcome a = split(all, piece, false, limit);
    struct outcome b = split(all, SIZE_MAX, true, limit);
    FUZZ_CHECK(a.code == b.code || !all.len);
    FUZZ_CHECK(fuzz_same(co_buf_span(&a.frames), co_buf_span(&b.frames)));
    FUZZ_CHECK(fuzz_same(co_buf_span(&a.frames), co_span_of(stream, a.frames.len)));
    co_buf_free(&a.frames);
    co_buf_free(&b.frames);
    return 0;
}
