/*
 * qmsg.c - the messages of the quorum log on the wire, and questions about term histories.
 *
 * uses[] is the table of qmsg.h in code: encode writes and decode reads these fields and no others.
 * Encoding packs straight into the output buffer from memory on the stack. Decoding unpacks into
 * an arena whose size follows from the length of the message and from what a sound one can need
 * (ARENA_*): hostile input is refused when the arena is full, so it cannot be amplified.
 *
 * No I/O, no clock, no globals; one scratch a thread.
 */
#include "proto/qmsg.h"

#include <stdlib.h>

#include "common/assert.h"
#include "proto/corallite.pb-c.h"
#include "proto/message.h"

/* -- Which type uses which field --------------------------------------------------------------- */

enum {
    U_NONCE = 1u << 0,
    U_GRANTED = 1u << 1,
    U_LEASE = 1u << 2,
    U_WANT_RECEIVED = 1u << 3,
    U_WANT_HISTORY = 1u << 4,
    U_LAST_TERM = 1u << 5,
    U_BEGIN = 1u << 6,
    U_START = 1u << 7,
    U_FROM = 1u << 8,
    U_TO = 1u << 9,
    U_FLUSH = 1u << 10,
    U_WRITE = 1u << 11,
    U_COMMIT = 1u << 12,
    U_FLOOR = 1u << 13,
    U_SENT = 1u << 14,
    U_WAITERS = 1u << 15,
    U_READ_ID = 1u << 16,
    U_DIGEST = 1u << 17,
    U_CONFIG = 1u << 18,
    U_HISTORY = 1u << 19,
    U_PAYLOAD = 1u << 20,
    U_FRAGMENT = 1u << 21,
    U_FRAGMENT_AT = 1u << 22,
    U_STAGED = 1u << 23,
    U_SUSPECT = 1u << 24,
    U_WAITED = 1u << 25,
    U_WRITING = 1u << 26,
    U_SUSPECT_TERM = 1u << 27,
    U_DISK_FULL = 1u << 28,
    U_BASE = 1u << 29,
    U_KNOWN = 1u << 31, /* it is a type of the quorum log at all */
};

static uint32_t uses(unsigned type)
{
    switch (type) {
    case FRAME_VOTE:
        return U_KNOWN | U_NONCE | U_WAITED;
    case FRAME_RELEASE:
        return U_KNOWN | U_NONCE;
    case FRAME_VOTED:
        return U_KNOWN | U_NONCE | U_GRANTED | U_LEASE | U_FLUSH | U_COMMIT | U_FLOOR | U_START |
               U_DIGEST | U_HISTORY | U_CONFIG | U_WRITING | U_SUSPECT | U_SUSPECT_TERM | U_BASE;
    case FRAME_FETCH:
        return U_KNOWN | U_FROM | U_TO | U_FRAGMENT_AT;
    case FRAME_DATA:
        return U_KNOWN | U_FROM | U_TO | U_FLUSH | U_HISTORY | U_PAYLOAD | U_FRAGMENT |
               U_FRAGMENT_AT | U_BASE | U_DIGEST | U_CONFIG;
    case FRAME_ELECTED:
        return U_KNOWN | U_NONCE | U_HISTORY | U_START | U_SENT;
    case FRAME_APPEND:
        return U_KNOWN | U_NONCE | U_BEGIN | U_COMMIT | U_FLOOR | U_SENT | U_WANT_RECEIVED |
               U_PAYLOAD | U_FRAGMENT | U_FRAGMENT_AT | U_WRITING | U_BASE | U_DIGEST | U_CONFIG;
    case FRAME_ACK:
        return U_KNOWN | U_NONCE | U_FLUSH | U_WRITE | U_COMMIT | U_SENT | U_WAITERS | U_STAGED |
               U_DISK_FULL | U_BASE;
    case FRAME_READ_POS:
        return U_KNOWN | U_READ_ID | U_WANT_HISTORY;
    case FRAME_POS:
        return U_KNOWN | U_READ_ID | U_LAST_TERM | U_FLUSH | U_COMMIT | U_CONFIG | U_HISTORY |
               U_LEASE | U_SUSPECT | U_DISK_FULL;
    case FRAME_REJECT_CONFIG:
        return U_KNOWN | U_CONFIG;
    case FRAME_REJECT:
    case FRAME_WAITER:
    case FRAME_FREE:
    case FRAME_REGRESSED:
        return U_KNOWN;
    default:
        return 0;
    }
}

/* What is known of safekeepers beside their disks. */
enum { W_KNOWN = 1, W_FRESH = 2, W_COMMIT = 4 };

static unsigned witness_uses(unsigned type)
{
    switch (type) {
    case FRAME_VOTED:
        return W_KNOWN | W_FRESH;
    case FRAME_VOTE:
    case FRAME_ELECTED:
    case FRAME_APPEND:
    case FRAME_REGRESSED:
        return W_KNOWN;
    case FRAME_POS:
        return W_COMMIT;
    default:
        return 0;
    }
}

/* The plain numbers, which encode and decode treat alike: X(bit, field, is it an LSN?). */
#define NUMBERS(X)                                                                                 \
    X(U_GRANTED, granted, false)                                                                   \
    X(U_LEASE, lease_held, false)                                                                  \
    X(U_WANT_RECEIVED, want_received, false)                                                       \
    X(U_WANT_HISTORY, want_history, false)                                                         \
    X(U_LAST_TERM, last_log_term, false)                                                           \
    X(U_BEGIN, begin_lsn, true)                                                                    \
    X(U_START, start_lsn, true)                                                                    \
    X(U_FROM, from_lsn, true)                                                                      \
    X(U_TO, to_lsn, true)                                                                          \
    X(U_FLUSH, flush_lsn, true)                                                                    \
    X(U_WRITE, write_lsn, true)                                                                    \
    X(U_COMMIT, commit_lsn, true)                                                                  \
    X(U_FLOOR, floor_lsn, true)                                                                    \
    X(U_SENT, sent_us, false)                                                                      \
    X(U_WAITED, waited_us, false)                                                                  \
    X(U_WAITERS, waiters, false)                                                                   \
    X(U_READ_ID, read_id, false)                                                                   \
    X(U_FRAGMENT, fragment, false)                                                                 \
    X(U_FRAGMENT_AT, fragment_at, false)                                                           \
    X(U_STAGED, staged_bytes, false)                                                               \
    X(U_WRITING, writing, false)                                                                   \
    X(U_SUSPECT, suspect_lsn, true)                                                                \
    X(U_SUSPECT_TERM, suspect_term, false)                                                         \
    X(U_DISK_FULL, disk_full, false)                                                               \
    X(U_BASE, base_lsn, true)

/* -- Encoding ---------------------------------------------------------------------------------- */

#define KNOWN_NUMBERS 7u /* of an entry */

_Static_assert(sizeof(struct q_term) == 2 * sizeof(uint64_t), "a history is an array of u64");

_Static_assert(sizeof(struct q_known) == KNOWN_NUMBERS * sizeof(uint64_t), "as is `known`");

static void fill_witness(const struct q_msg *msg, Corallite__Quorum *pb)
{
    unsigned used = witness_uses(msg->type);
    if ((used & W_KNOWN) && msg->known.n) {
        co_assert(msg->known.n <= Q_KNOWN_MAX);
        pb->n_known = KNOWN_NUMBERS * (size_t)msg->known.n;
        pb->known = (uint64_t *)msg->known.e;
    }
    pb->has_fresh = (used & W_FRESH) && msg->fresh;
    pb->fresh = msg->fresh;
    pb->has_known_commit = (used & W_COMMIT) && msg->known_commit;
    pb->known_commit = msg->known_commit;
    pb->has_known_log_term = pb->has_known_commit && msg->known_log_term;
    pb->known_log_term = msg->known_log_term;
}

/* Everything but the configuration, which needs memory. Borrows from `msg`. */
static void fill(const struct q_msg *msg, uint32_t used, Corallite__Quorum *pb)
{
    corallite__quorum__init(pb);
    pb->has_timeline = 1;
    pb->timeline = msg_bytes16(msg->timeline.b);
    pb->has_config_version = msg->config_version != 0;
    pb->config_version = msg->config_version;
    pb->has_term = msg->term != 0;
    pb->term = msg->term;
#define X(bit, field, lsn)                                                                         \
    pb->has_##field = (used & (bit)) && msg->field;                                                \
    pb->field = msg->field;
    NUMBERS(X)
#undef X
    pb->has_nonce = (used & U_NONCE) && !co_id_is_zero(&msg->nonce);
    pb->nonce = msg_bytes16(msg->nonce.b);
    pb->has_digest = (used & U_DIGEST) && (msg->type == FRAME_VOTED || msg->base_lsn);
    pb->digest = msg_bytes16(msg->digest.b);
    if ((used & U_HISTORY) && msg->history.n) {
        co_assert(msg->history.n <= CO_HISTORY_MAX);
        pb->n_history = 2 * (size_t)msg->history.n;
        pb->history = (uint64_t *)msg->history.e;
    }
    fill_witness(msg, pb);
}

int qmsg_encode(const struct q_msg *msg, struct co_buf *out)
{
    uint32_t used = uses(msg->type);
    Corallite__Quorum pb;
    struct msg_config config;
    struct co_span payload = used & U_PAYLOAD ? msg->payload : (struct co_span){0};

    co_assert(used);
    fill(msg, used, &pb);
    if ((used & U_CONFIG) && msg->config.version) {
        msg_config_fill(&msg->config, &config);
        pb.config = &config.pb;
    }
    size_t bytes = corallite__quorum__get_packed_size(&pb);
    uint64_t max = frame_body_max(msg->type);
    if (payload.len > max || bytes > max - payload.len)
        return co_fail(CO_ERR_TOO_LARGE,
                       "a %s of %zu bytes of records is more than one frame may hold (%llu)",
                       frame_type_name(msg->type), payload.len, (unsigned long long)max);
    int rc = co_buf_reserve(out, FRAME_HEADER_BYTES + bytes + payload.len);
    if (rc)
        return rc;
    uint8_t *header = out->data + out->len, *body = header + FRAME_HEADER_BYTES;
    corallite__quorum__pack(&pb, body);
    if (payload.len)
        memcpy(body + bytes, payload.data, payload.len);
    /* Over the copy, which is in the processor's cache by now. */
    frame_write(header, msg->type, 0, co_span_of(body, bytes),
                co_span_of(body + bytes, payload.len));
    out->len += FRAME_HEADER_BYTES + bytes + payload.len;
    return 0;
}

/* -- Decoding ---------------------------------------------------------------------------------- */

/* What a sound message needs beside its history: the message, a full configuration, and the tables
 * that protobuf-c keeps while it reads. Kept from message to message. */
#define ARENA_KEPT_BYTES ((size_t)8192)
#define ARENA_MAX_BYTES  (ARENA_KEPT_BYTES + 2 * sizeof(uint64_t) * CO_HISTORY_MAX)
/* A history takes 8 bytes of memory for each byte on the wire at most. */
#define ARENA_FACTOR 8u

/* Histories longer than this are not kept room for. */
#define TERMS_KEPT 1024u

struct arena {
    uint8_t *p;
    size_t left;
};

static void *arena_alloc(void *data, size_t size)
{
    struct arena *arena = data;
    size_t whole = (size + 15) & ~(size_t)15;
    if (whole < size || whole > arena->left)
        return NULL;
    void *p = arena->p;
    arena->p += whole;
    arena->left -= whole;
    return p;
}

static void arena_free(void *data, void *p)
{
    (void)data;
    (void)p;
}

static int no_memory(size_t bytes)
{
    return co_fail(CO_ERR_NOMEM, "%zu bytes to decode a message could not be had", bytes);
}

/* Memory for a message of `bytes` bytes; *own is to be freed when it is not NULL. */
static int arena_open(struct qmsg_scratch *scratch, size_t bytes, struct arena *arena,
                      uint8_t **own)
{
    size_t want = ARENA_KEPT_BYTES;
    *own = NULL;
    if (bytes > 256) {
        /* bytes <= CO_FRAME_HISTORY_MAX_BYTES, so this does not overflow */
        want = ARENA_KEPT_BYTES + ARENA_FACTOR * bytes;
        if (want > ARENA_MAX_BYTES)
            want = ARENA_MAX_BYTES;
        *own = malloc(want);
        if (!*own)
            return no_memory(want);
        *arena = (struct arena){*own, want};
        return 0;
    }
    if (!scratch->arena)
        scratch->arena = malloc(want);
    if (!scratch->arena)
        return no_memory(want);
    *arena = (struct arena){scratch->arena, want};
    return 0;
}

/* Room for n terms in scratch. */
static int keep_terms(struct qmsg_scratch *scratch, uint32_t n)
{
    if (n <= scratch->cap && (n > TERMS_KEPT || scratch->cap <= TERMS_KEPT))
        return 0;
    free(scratch->terms);
    scratch->cap = 0;
    scratch->terms = n ? malloc(n * sizeof *scratch->terms) : NULL;
    if (n && !scratch->terms)
        return no_memory(n * sizeof *scratch->terms);
    scratch->cap = n;
    return 0;
}

static int read_history(const Corallite__Quorum *pb, struct qmsg_scratch *scratch,
                        struct q_history *out)
{
    if (pb->n_history % 2 || pb->n_history / 2 > CO_HISTORY_MAX)
        return co_fail(CO_ERR_PROTOCOL,
                       "a term history of %zu numbers came; it has two a term and at most %u terms",
                       pb->n_history, CO_HISTORY_MAX);
    uint32_t n = (uint32_t)(pb->n_history / 2);
    int rc = keep_terms(scratch, n);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < n; i++) {
        scratch->terms[i] = (struct q_term){pb->history[2 * i], pb->history[2 * i + 1]};
        if (scratch->terms[i].start % LSN_ALIGN)
            return co_fail(CO_ERR_PROTOCOL, "a term history came with a start off a record");
    }
    *out = (struct q_history){n, n ? scratch->terms : NULL};
    if (!q_history_valid(out))
        return co_fail(CO_ERR_PROTOCOL, "a term history came that does not ascend");
    return 0;
}

static int read_witness(const Corallite__Quorum *pb, struct qmsg_scratch *scratch,
                        struct q_msg *out)
{
    unsigned used = witness_uses(out->type);
    size_t n = used & W_KNOWN ? pb->n_known : 0;
    if (n % KNOWN_NUMBERS || n / KNOWN_NUMBERS > Q_KNOWN_MAX)
        return co_fail(CO_ERR_PROTOCOL,
                       "%zu numbers came about safekeepers; there are %u of each, of at most %u", n,
                       KNOWN_NUMBERS, Q_KNOWN_MAX);
    if (n)
        memcpy(scratch->known, pb->known, n * sizeof(uint64_t));
    out->known = (struct q_known_list){(uint32_t)(n / KNOWN_NUMBERS), n ? scratch->known : NULL};
    for (uint32_t i = 0; i < out->known.n; i++)
        if (scratch->known[i].flush_lsn % LSN_ALIGN || scratch->known[i].commit_lsn % LSN_ALIGN)
            return co_fail(CO_ERR_PROTOCOL, "an LSN came about a safekeeper that is off a record");
    out->fresh = (used & W_FRESH) && pb->fresh;
    out->known_commit = used & W_COMMIT ? pb->known_commit : 0;
    out->known_log_term = out->known_commit ? pb->known_log_term : 0;
    if (out->known_commit % LSN_ALIGN)
        return co_fail(CO_ERR_PROTOCOL, "a known commit LSN came that is off a record");
    return 0;
}

static int read_number(const char *name, uint64_t value, bool lsn)
{
    if (lsn && value % LSN_ALIGN)
        return co_fail(CO_ERR_PROTOCOL, "a message came with %s %llx, which is no multiple of %u",
                       name, (unsigned long long)value, LSN_ALIGN);
    return 0;
}

static int read_fields(const Corallite__Quorum *pb, uint32_t used, struct qmsg_scratch *scratch,
                       struct q_msg *out)
{
    int rc;
    if (!pb->has_timeline)
        return co_fail(CO_ERR_PROTOCOL, "a %s came without a timeline", frame_type_name(out->type));
    if ((rc = msg_get16("timeline id", true, &pb->timeline, out->timeline.b)))
        return rc;
    out->config_version = pb->config_version;
    out->term = pb->term;
#define X(bit, field, lsn)                                                                         \
    if (used & (bit)) {                                                                            \
        if ((rc = read_number(#field, (uint64_t)pb->field, lsn)))                                  \
            return rc;                                                                             \
        out->field = pb->field;                                                                    \
    }
    NUMBERS(X)
#undef X
    if ((used & U_NONCE) && (rc = msg_get16("nonce", pb->has_nonce, &pb->nonce, out->nonce.b)))
        return rc;
    if ((used & U_DIGEST) && (rc = msg_get16("digest", pb->has_digest, &pb->digest, out->digest.b)))
        return rc;
    if ((used & U_CONFIG) && (rc = msg_config_read(pb->config, &out->config)))
        return rc;
    if ((rc = read_witness(pb, scratch, out)))
        return rc;
    return used & U_HISTORY ? read_history(pb, scratch, &out->history) : 0;
}

int qmsg_decode(const struct frame_header *frame, struct co_span body, struct qmsg_scratch *scratch,
                struct q_msg *out)
{
    uint32_t used = uses(frame->type);
    struct arena arena;
    uint8_t *own;

    memset(out, 0, sizeof *out);
    if (!used)
        return co_fail(CO_ERR_PROTOCOL, "a %s frame came where the quorum log was spoken",
                       frame_type_name(frame->type));
    /* frame_parse said so; the header may yet have been made by somebody else */
    if (frame->body_bytes != body.len || frame->message_bytes > body.len ||
        frame->message_bytes > CO_FRAME_HISTORY_MAX_BYTES)
        return co_fail(CO_ERR_PROTOCOL, "a %s frame came with lengths that contradict each other",
                       frame_type_name(frame->type));
    int rc = arena_open(scratch, frame->message_bytes, &arena, &own);
    if (rc)
        return rc;
    ProtobufCAllocator allocator = {arena_alloc, arena_free, &arena};
    Corallite__Quorum *pb = corallite__quorum__unpack(&allocator, frame->message_bytes, body.data);
    out->type = (enum frame_type)frame->type;
    rc = pb ? read_fields(pb, used, scratch, out)
            : co_fail(CO_ERR_PROTOCOL, "the message of a %s frame (%u bytes) cannot be decoded",
                      frame_type_name(frame->type), frame->message_bytes);
    free(own);
    if (rc) {
        memset(out, 0, sizeof *out);
        return rc;
    }
    if (used & U_PAYLOAD)
        out->payload =
            co_span_of(body.data + frame->message_bytes, body.len - frame->message_bytes);
    return 0;
}

void qmsg_scratch_free(struct qmsg_scratch *scratch)
{
    free(scratch->terms);
    free(scratch->arena);
    *scratch = (struct qmsg_scratch){0};
}
