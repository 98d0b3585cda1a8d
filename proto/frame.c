/*
 * frame.c - headers of frames: bounds before anything else (the byte table is in frame.h).
 *
 * The table below is the whole knowledge about types: name, largest body, largest message within
 * it, and whether a raw payload may follow. The bound of the message is separate, because a message
 * is unpacked into memory and grows there, while a payload stays as it is. Pure; any thread.
 */
#include "proto/frame.h"

#include <stdbool.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "proto/limits.h"

struct frame_kind {
    const char *name; /* NULL: no such type */
    uint64_t body_max;
    uint64_t message_max; /* == body_max where there is no payload */
    bool payload;
};

#define SMALL(n)                                                                                   \
    {                                                                                              \
        (n), CO_FRAME_HELLO_MAX_BYTES, CO_FRAME_HELLO_MAX_BYTES, false                             \
    }
#define CONTROL(n)                                                                                 \
    {                                                                                              \
        (n), CO_FRAME_CONTROL_MAX_BYTES, CO_FRAME_CONTROL_MAX_BYTES, false                         \
    }
#define HISTORY(n)                                                                                 \
    {                                                                                              \
        (n), CO_FRAME_HISTORY_MAX_BYTES, CO_FRAME_HISTORY_MAX_BYTES, false                         \
    }
#define LISTED(n)                                                                                  \
    {                                                                                              \
        (n), CO_FRAME_PAGES_MAX_BYTES, CO_FRAME_PAGES_MAX_BYTES, false                             \
    }
#define RECORDS(n)                                                                                 \
    {                                                                                              \
        (n), CO_FRAME_RECORDS_MAX_BYTES, CO_FRAME_HISTORY_MAX_BYTES, true                          \
    }
#define BULK(n)                                                                                    \
    {                                                                                              \
        (n), CO_FRAME_PAGES_MAX_BYTES, CO_FRAME_CONTROL_MAX_BYTES, true                            \
    }

static const struct frame_kind kinds[] = {
    [FRAME_HELLO] = SMALL("HELLO"),
    [FRAME_HELLO_OK] = SMALL("HELLO_OK"),
    [FRAME_ERROR] = SMALL("ERROR"),
    [FRAME_PING] = SMALL("PING"),
    [FRAME_PONG] = SMALL("PONG"),

    [FRAME_VOTE] = SMALL("VOTE"),
    [FRAME_VOTED] = HISTORY("VOTED"),
    [FRAME_FETCH] = SMALL("FETCH"),
    [FRAME_DATA] = RECORDS("DATA"),
    [FRAME_ELECTED] = HISTORY("ELECTED"),
    [FRAME_APPEND] = RECORDS("APPEND"),
    [FRAME_ACK] = SMALL("ACK"),
    [FRAME_RELEASE] = SMALL("RELEASE"),
    [FRAME_READ_POS] = SMALL("READ_POS"),
    [FRAME_POS] = HISTORY("POS"),
    [FRAME_REJECT] = SMALL("REJECT"),
    [FRAME_REJECT_CONFIG] = SMALL("REJECT_CONFIG"),
    [FRAME_WAITER] = SMALL("WAITER"),
    [FRAME_FREE] = SMALL("FREE"),

    [FRAME_STREAM] = SMALL("STREAM"),
    [FRAME_STREAM_DATA] = RECORDS("STREAM_DATA"),
    [FRAME_TIMELINE_PUT] = CONTROL("TIMELINE_PUT"),
    [FRAME_TIMELINE_PUT_OK] = CONTROL("TIMELINE_PUT_OK"),
    [FRAME_TIMELINE_LIST] = SMALL("TIMELINE_LIST"),
    [FRAME_TIMELINE_LISTED] = HISTORY("TIMELINE_LISTED"),
    [FRAME_NODE_STATUS] = SMALL("NODE_STATUS"),
    [FRAME_NODE_STATUS_OK] = LISTED("NODE_STATUS_OK"),
    [FRAME_NODES] = CONTROL("NODES"),
    [FRAME_NODES_OK] = CONTROL("NODES_OK"),

    [FRAME_FOLLOW] = LISTED("FOLLOW"),
    [FRAME_FOLLOWED] = LISTED("FOLLOWED"),
    [FRAME_PAGESERVERS] = CONTROL("PAGESERVERS"),
    [FRAME_PAGESERVERS_OK] = LISTED("PAGESERVERS_OK"),
    [FRAME_VERIFY] = SMALL("VERIFY"),
    [FRAME_VERIFIED] = HISTORY("VERIFIED"),
    [FRAME_REPAIR] = SMALL("REPAIR"),
    [FRAME_REPAIRED] = SMALL("REPAIRED"),

    [FRAME_OPEN] = SMALL("OPEN"),
    [FRAME_OPENED] = CONTROL("OPENED"),
    [FRAME_CREATE] = SMALL("CREATE"),
    [FRAME_DROP] = SMALL("DROP"),
    [FRAME_DROPPED] = SMALL("DROPPED"),
    [FRAME_DB_LIST] = SMALL("DB_LIST"),
    [FRAME_DB_LISTED] = LISTED("DB_LISTED"),
    [FRAME_GET_PAGES] = CONTROL("GET_PAGES"),
    [FRAME_PAGES] = BULK("PAGES"),
    [FRAME_CHANGES_SINCE] = SMALL("CHANGES_SINCE"),
    [FRAME_CHANGES] = BULK("CHANGES"),
    [FRAME_SERVER_STATUS] = SMALL("SERVER_STATUS"),
    [FRAME_SERVER_STATUS_OK] = CONTROL("SERVER_STATUS_OK"),
    [FRAME_RESOLVE] = SMALL("RESOLVE"),
    [FRAME_RESOLVED] = SMALL("RESOLVED"),
    [FRAME_BRANCH_CREATE] = SMALL("BRANCH_CREATE"),
    [FRAME_BRANCH_CHANGE] = SMALL("BRANCH_CHANGE"),
    [FRAME_RESTORE] = SMALL("RESTORE"),
    [FRAME_BRANCHED] = SMALL("BRANCHED"),
    [FRAME_BRANCH_LIST] = SMALL("BRANCH_LIST"),
    [FRAME_BRANCH_LISTED] = LISTED("BRANCH_LISTED"),
    [FRAME_LOG] = SMALL("LOG"),
    [FRAME_LOGGED] = LISTED("LOGGED"),
    [FRAME_PIN] = SMALL("PIN"),
    [FRAME_PIN_LIST] = SMALL("PIN_LIST"),
    [FRAME_PINS] = LISTED("PINS"),
    [FRAME_GC] = SMALL("GC"),
    [FRAME_GC_DONE] = SMALL("GC_DONE"),
    [FRAME_ARCHIVE_PRUNE] = SMALL("ARCHIVE_PRUNE"),
    [FRAME_ARCHIVE_PRUNED] = CONTROL("ARCHIVE_PRUNED"),

    [FRAME_REGRESSED] = SMALL("REGRESSED"),
};

_Static_assert(CO_FRAME_RECORDS_MAX_BYTES <= UINT32_MAX, "the length field has 32 bits");
_Static_assert(CO_GETPAGES_MAX *CO_PAGE_SIZE_MAX + CO_FRAME_CONTROL_MAX_BYTES <=
                   CO_FRAME_PAGES_MAX_BYTES,
               "a full answer to GET_PAGES fits");

static const struct frame_kind *kind_of(unsigned type)
{
    if (type >= sizeof kinds / sizeof *kinds || !kinds[type].name)
        return NULL;
    return &kinds[type];
}

const char *frame_type_name(unsigned type)
{
    const struct frame_kind *kind = kind_of(type);
    return kind ? kind->name : "?";
}

uint64_t frame_body_max(unsigned type)
{
    const struct frame_kind *kind = kind_of(type);
    return kind ? kind->body_max : 0;
}

int frame_parse(const uint8_t bytes[FRAME_HEADER_BYTES], struct frame_header *out)
{
    struct frame_header h = {
        .body_bytes = co_get32(bytes),
        .type = co_get16(bytes + 4),
        .flags = co_get16(bytes + 6),
        .request_id = co_get64(bytes + 8),
        .crc = co_get32(bytes + 16),
        .message_bytes = co_get32(bytes + 20),
    };
    const struct frame_kind *kind = kind_of(h.type);
    if (!kind)
        return co_fail(CO_ERR_PROTOCOL, "a frame of the unknown type %u came", h.type);
    if (h.flags)
        return co_fail(CO_ERR_PROTOCOL, "a %s frame came with the unknown flags 0x%x", kind->name,
                       h.flags);
    if (h.body_bytes > kind->body_max)
        return co_fail(CO_ERR_PROTOCOL, "a %s frame of %u bytes came; the limit is %llu",
                       kind->name, h.body_bytes, (unsigned long long)kind->body_max);
    if (h.message_bytes > h.body_bytes || h.message_bytes > kind->message_max)
        return co_fail(CO_ERR_PROTOCOL,
                       "a %s frame came whose message has %u bytes, its body %u; the limit of the "
                       "message is %llu",
                       kind->name, h.message_bytes, h.body_bytes,
                       (unsigned long long)kind->message_max);
    if (!kind->payload && h.message_bytes != h.body_bytes)
        return co_fail(CO_ERR_PROTOCOL, "a %s frame came with %u bytes of payload; it has none",
                       kind->name, h.body_bytes - h.message_bytes);
    *out = h;
    return 0;
}

static uint32_t header_crc(const uint8_t bytes[FRAME_HEADER_BYTES])
{
    uint8_t copy[FRAME_HEADER_BYTES];
    memcpy(copy, bytes, sizeof copy);
    co_put32(copy + 16, 0);
    return co_crc32c(0, copy, sizeof copy);
}

int frame_verify(const uint8_t bytes[FRAME_HEADER_BYTES], struct co_span body)
{
    uint32_t stated = co_get32(bytes + 16);
    uint32_t actual = co_crc32c(header_crc(bytes), body.data, body.len);
    if (body.len != co_get32(bytes) || stated != actual)
        return co_fail(CO_ERR_PROTOCOL,
                       "a %s frame of %u bytes came damaged: its CRC is %08x, its bytes give %08x",
                       frame_type_name(co_get16(bytes + 4)), co_get32(bytes), stated, actual);
    return 0;
}

void frame_write(uint8_t out[FRAME_HEADER_BYTES], unsigned type, uint64_t request_id,
                 struct co_span message, struct co_span payload)
{
    const struct frame_kind *kind = kind_of(type);
    co_assert(kind && (kind->payload || payload.len == 0));
    co_assert(message.len <= kind->message_max && payload.len <= kind->body_max - message.len);
    co_put32(out, (uint32_t)(message.len + payload.len));
    co_put16(out + 4, (uint16_t)type);
    co_put16(out + 6, 0);
    co_put64(out + 8, request_id);
    co_put32(out + 16, 0);
    co_put32(out + 20, (uint32_t)message.len);
    uint32_t crc = co_crc32c(0, out, FRAME_HEADER_BYTES);
    crc = co_crc32c(crc, message.data, message.len);
    crc = co_crc32c(crc, payload.data, payload.len);
    co_put32(out + 16, crc);
}

/* Is the frame one that the other side would take? A sender that is over a bound hears of it here,
 * not through a closed connection. */
static int check_outgoing(unsigned type, size_t message, size_t payload)
{
    const struct frame_kind *kind = kind_of(type);
    co_assert(kind && (kind->payload || payload == 0));
    if (message > kind->message_max || payload > kind->body_max - message)
        return co_fail(CO_ERR_TOO_LARGE,
                       "a %s frame with a message of %zu and a payload of %zu bytes is more than "
                       "a frame may hold (%llu, together %llu)",
                       kind->name, message, payload, (unsigned long long)kind->message_max,
                       (unsigned long long)kind->body_max);
    return 0;
}

int frame_append(struct co_buf *out, unsigned type, uint64_t request_id, struct co_span message,
                 struct co_span payload)
{
    int rc = check_outgoing(type, message.len, payload.len);
    if (rc)
        return rc;
    rc = co_buf_reserve(out, FRAME_HEADER_BYTES + message.len + payload.len);
    if (rc)
        return rc;
    uint8_t *p = out->data + out->len;
    frame_write(p, type, request_id, message, payload);
    p += FRAME_HEADER_BYTES;
    if (message.len)
        memcpy(p, message.data, message.len);
    if (payload.len)
        memcpy(p + message.len, payload.data, payload.len);
    out->len += FRAME_HEADER_BYTES + message.len + payload.len;
    return 0;
}
