#include <criterion/criterion.h>

#include "proto/corallite.pb-c.h"
#include "proto/message.h"
#include "proto/qmsg.h"
#include "tests/unit/proto/random.h"

TestSuite(qmsg, .timeout = 30);

static const enum frame_type types[] = {
    FRAME_VOTE,   FRAME_VOTED,         FRAME_FETCH,   FRAME_DATA,     FRAME_ELECTED,
    FRAME_APPEND, FRAME_ACK,           FRAME_RELEASE, FRAME_READ_POS, FRAME_POS,
    FRAME_REJECT, FRAME_REJECT_CONFIG, FRAME_WAITER,  FRAME_FREE,     FRAME_REGRESSED,
};
#define N_TYPES (sizeof types / sizeof *types)

static struct co_id random_id(struct rnd *r)
{
    struct co_id id;
    rnd_fill(r, id.b, sizeof id.b);
    return id;
}

static void random_config(struct rnd *r, struct wal_config *c)
{
    *c = (struct wal_config){.version = 1 + (uint32_t)(rnd_any(r) >> 33)};
    c->n = 1 + rnd_below(r, CO_MEMBERS_MAX);
    c->n_new = rnd_below(r, CO_MEMBERS_MAX + 1);
    uint32_t node = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        c->members[i].node_id = node += 1 + rnd_below(r, 5);
        if (rnd_below(r, 4))
            c->members[i].disk_uuid = random_id(r);
    }
    node = 0;
    for (uint32_t i = 0; i < c->n_new; i++) {
        c->new_members[i].node_id = node += 1 + rnd_below(r, 5);
        if (rnd_below(r, 4))
            c->new_members[i].disk_uuid = random_id(r);
    }
}

static uint32_t random_terms(struct rnd *r, struct q_term *terms, uint32_t max)
{
    uint32_t n = rnd_below(r, max + 1);
    struct q_term last = {0, LSN_FIRST};
    for (uint32_t i = 0; i < n; i++) {
        last.term += 1 + rnd_below(r, 300);
        last.start += 8ull * rnd_below(r, 100000) * rnd_below(r, 3);
        terms[i] = last;
    }
    return n;
}

static lsn_t random_lsn(struct rnd *r)
{
    return rnd_any(r) & ~7ull;
}

/* Every field set, whatever the type uses. */
static void random_msg(struct rnd *r, struct q_msg *m, struct q_term *terms, uint32_t max_terms,
                       const uint8_t *payload, uint32_t max_payload)
{
    *m = (struct q_msg){
        .type = types[rnd_below(r, N_TYPES)],
        .timeline = random_id(r),
        .config_version = (uint32_t)rnd_any(r),
        .term = rnd_any(r),
        .nonce = random_id(r),
        .granted = rnd_below(r, 2),
        .lease_held = rnd_below(r, 2),
        .want_received = rnd_below(r, 2),
        .want_history = rnd_below(r, 2),
        .last_log_term = rnd_any(r),
        .begin_lsn = random_lsn(r),
        .start_lsn = random_lsn(r),
        .from_lsn = random_lsn(r),
        .to_lsn = random_lsn(r),
        .flush_lsn = random_lsn(r),
        .write_lsn = random_lsn(r),
        .commit_lsn = random_lsn(r),
        .floor_lsn = random_lsn(r),
        .sent_us = rnd_any(r),
        .waited_us = rnd_any(r),
        .writing = rnd_below(r, 2),
        .suspect_lsn = random_lsn(r),
        .suspect_term = rnd_any(r),
        .disk_full = rnd_below(r, 2),
        .base_lsn = random_lsn(r),
        .waiters = (uint32_t)rnd_any(r),
        .read_id = rnd_any(r),
    };
    rnd_fill(r, m->digest.b, sizeof m->digest.b);
    if (rnd_below(r, 4))
        random_config(r, &m->config);
    m->history = (struct q_history){random_terms(r, terms, max_terms), terms};
    static struct q_known known[Q_KNOWN_MAX];
    for (uint32_t i = 0; i < Q_KNOWN_MAX; i++)
        known[i] = (struct q_known){rnd_any(r),    rnd_any(r),    rnd_any(r), rnd_any(r),
                                    random_lsn(r), random_lsn(r), rnd_any(r)};
    m->known = (struct q_known_list){rnd_below(r, Q_KNOWN_MAX + 1), known};
    m->fresh = rnd_below(r, 2);
    m->known_commit = random_lsn(r);
    m->known_log_term = rnd_any(r);
    m->payload = co_span_of(payload, rnd_below(r, max_payload + 1));
}

/* A digest travels with a base only. */
static void use_base(const struct q_msg *m, struct q_msg *u)
{
    u->base_lsn = m->base_lsn;
    u->config = m->config;
    if (m->base_lsn)
        u->digest = m->digest;
}

/* The message with the fields of its type only: the table of qmsg.h, written a second time. */
static struct q_msg only_used(const struct q_msg *m)
{
    struct q_msg u = {.type = m->type,
                      .timeline = m->timeline,
                      .config_version = m->config_version,
                      .term = m->term};
    switch (m->type) {
    case FRAME_REGRESSED:
        u.known = m->known;
        break;
    case FRAME_VOTE:
        u.known = m->known;
        u.nonce = m->nonce;
        u.waited_us = m->waited_us;
        break;
    case FRAME_RELEASE:
        u.nonce = m->nonce;
        break;
    case FRAME_VOTED:
        u.known = m->known;
        u.fresh = m->fresh;
        u.nonce = m->nonce;
        u.granted = m->granted;
        u.suspect_lsn = m->suspect_lsn;
        u.suspect_term = m->suspect_term;
        u.lease_held = m->lease_held;
        u.flush_lsn = m->flush_lsn;
        u.commit_lsn = m->commit_lsn;
        u.floor_lsn = m->floor_lsn;
        u.start_lsn = m->start_lsn;
        u.digest = m->digest;
        u.history = m->history;
        u.config = m->config;
        u.writing = m->writing;
        u.base_lsn = m->base_lsn;
        break;
    case FRAME_FETCH:
        u.from_lsn = m->from_lsn;
        u.to_lsn = m->to_lsn;
        u.fragment_at = m->fragment_at;
        break;
    case FRAME_DATA:
        u.from_lsn = m->from_lsn;
        u.to_lsn = m->to_lsn;
        u.fragment = m->fragment;
        u.fragment_at = m->fragment_at;
        u.flush_lsn = m->flush_lsn;
        u.history = m->history;
        u.payload = m->payload;
        use_base(m, &u);
        break;
    case FRAME_ELECTED:
        u.known = m->known;
        u.nonce = m->nonce;
        u.history = m->history;
        u.start_lsn = m->start_lsn;
        u.sent_us = m->sent_us;
        break;
    case FRAME_APPEND:
        u.known = m->known;
        u.nonce = m->nonce;
        u.begin_lsn = m->begin_lsn;
        u.commit_lsn = m->commit_lsn;
        u.floor_lsn = m->floor_lsn;
        u.sent_us = m->sent_us;
        u.want_received = m->want_received;
        u.fragment = m->fragment;
        u.fragment_at = m->fragment_at;
        u.writing = m->writing;
        u.payload = m->payload;
        use_base(m, &u);
        break;
    case FRAME_ACK:
        u.nonce = m->nonce;
        u.flush_lsn = m->flush_lsn;
        u.write_lsn = m->write_lsn;
        u.commit_lsn = m->commit_lsn;
        u.sent_us = m->sent_us;
        u.waiters = m->waiters;
        u.staged_bytes = m->staged_bytes;
        u.disk_full = m->disk_full;
        u.base_lsn = m->base_lsn;
        break;
    case FRAME_READ_POS:
        u.read_id = m->read_id;
        u.want_history = m->want_history;
        break;
    case FRAME_POS:
        u.known_commit = m->known_commit;
        u.known_log_term = m->known_commit ? m->known_log_term : 0;
        u.read_id = m->read_id;
        u.last_log_term = m->last_log_term;
        u.flush_lsn = m->flush_lsn;
        u.commit_lsn = m->commit_lsn;
        u.config = m->config;
        u.history = m->history;
        u.lease_held = m->lease_held;
        u.suspect_lsn = m->suspect_lsn;
        u.disk_full = m->disk_full;
        break;
    case FRAME_REJECT_CONFIG:
        u.config = m->config;
        break;
    default:
        break;
    }
    return u;
}

static void assert_same(const struct q_msg *a, const struct q_msg *b)
{
    const char *name = frame_type_name(a->type);
    struct q_msg x = *a, y = *b;
    cr_assert_eq(x.history.n, y.history.n, "%s", name);
    cr_assert(x.history.n == 0 ||
                  memcmp(x.history.e, y.history.e, x.history.n * sizeof *x.history.e) == 0,
              "%s", name);
    cr_assert_eq(x.payload.len, y.payload.len, "%s", name);
    cr_assert(x.payload.len == 0 || memcmp(x.payload.data, y.payload.data, x.payload.len) == 0);
#define SAME(field) cr_assert_eq(x.field, y.field, "%s: " #field, name)
    SAME(type);
    SAME(config_version);
    SAME(term);
    SAME(granted);
    SAME(lease_held);
    SAME(want_received);
    SAME(want_history);
    SAME(last_log_term);
    SAME(begin_lsn);
    SAME(start_lsn);
    SAME(from_lsn);
    SAME(to_lsn);
    SAME(flush_lsn);
    SAME(write_lsn);
    SAME(commit_lsn);
    SAME(floor_lsn);
    SAME(sent_us);
    SAME(waited_us);
    SAME(writing);
    SAME(suspect_lsn);
    SAME(suspect_term);
    SAME(disk_full);
    SAME(base_lsn);
    SAME(waiters);
    SAME(read_id);
    SAME(fresh);
    SAME(known_commit);
    SAME(known_log_term);
    SAME(known.n);
#undef SAME
    cr_assert(x.known.n == 0 || memcmp(x.known.e, y.known.e, x.known.n * sizeof *x.known.e) == 0,
              "%s", name);
    cr_assert(co_id_eq(&x.timeline, &y.timeline) && co_id_eq(&x.nonce, &y.nonce), "%s", name);
    cr_assert_eq(memcmp(&x.digest, &y.digest, sizeof x.digest), 0, "%s", name);
    cr_assert_eq(memcmp(&x.config, &y.config, sizeof x.config), 0, "%s", name);
}

static int decode(const struct co_buf *frame, struct qmsg_scratch *scratch, struct q_msg *out)
{
    struct frame_header h;
    struct co_span body = {frame->data + FRAME_HEADER_BYTES, frame->len - FRAME_HEADER_BYTES};
    int rc = frame_parse(frame->data, &h);
    if (!rc)
        rc = frame_verify(frame->data, body);
    return rc ? rc : qmsg_decode(&h, body, scratch, out);
}

Test(qmsg, every_type_carries_its_fields_and_no_others)
{
    struct rnd r = rnd_begin("qmsg");
    struct qmsg_scratch scratch = {0};
    static struct q_term terms[64];
    static uint8_t payload[512];
    rnd_fill(&r, payload, sizeof payload);
    for (int i = 0; i < 20000; i++) {
        struct q_msg m, got, want;
        struct co_buf out = {0};
        random_msg(&r, &m, terms, 64, payload, sizeof payload);
        cr_assert_eq(qmsg_encode(&m, &out), 0, "%s", co_sentence());
        cr_assert_eq(decode(&out, &scratch, &got), 0, "%s: %s", frame_type_name(m.type),
                     co_sentence());
        want = only_used(&m);
        assert_same(&want, &got);
        struct co_buf lean = {0};
        cr_assert_eq(qmsg_encode(&want, &lean), 0);
        cr_assert(lean.len == out.len && memcmp(lean.data, out.data, lean.len) == 0,
                  "%s: a field that is not its own was sent", frame_type_name(m.type));
        co_buf_free(&lean);
        co_buf_free(&out);
    }
    qmsg_scratch_free(&scratch);
}

Test(qmsg, an_ack_has_these_very_bytes)
{
    /* The wire format, written out: old and new programs must understand each other. */
    static const uint8_t want[] = {
        0x0a, 0x10, 0,    1,    2,    3,    4,    5,    6,
        7,    8,    9,    10,   11,   12,   13,   14,   15, /* 1 timeline */
        0x10, 0x03,                                         /* 2 config version */
        0x18, 0x07,                                         /* 3 term */
        0x22, 0x10, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6,
        0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, /* 4 nonce */
        0x30, 0x80, 0x20,                                     /* 6 commit LSN 4096 */
        0x38, 0xc8, 0x21,                                     /* 7 flush LSN 4296 */
        0x40, 0xd0, 0x21,                                     /* 8 write LSN 4304 */
        0x50, 0xe8, 0x07,                                     /* 10 sent 1000 */
        0x98, 0x01, 0x02,                                     /* 19 waiters */
    };
    struct q_msg m = {.type = FRAME_ACK,
                      .config_version = 3,
                      .term = 7,
                      .commit_lsn = 4096,
                      .flush_lsn = 4296,
                      .write_lsn = 4304,
                      .sent_us = 1000,
                      .waiters = 2,
                      .read_id = 99 /* not one of ACK's */};
    for (int i = 0; i < 16; i++) {
        m.timeline.b[i] = (uint8_t)i;
        m.nonce.b[i] = (uint8_t)(0xa0 + i);
    }
    struct co_buf out = {0};
    cr_assert_eq(qmsg_encode(&m, &out), 0);
    cr_assert_eq(out.len, FRAME_HEADER_BYTES + sizeof want);
    cr_assert_arr_eq(out.data + FRAME_HEADER_BYTES, want, sizeof want);
    co_buf_free(&out);
}

Test(qmsg, a_full_history_passes_and_its_memory_is_not_kept)
{
    struct rnd r = rnd_begin("qmsg");
    struct qmsg_scratch scratch = {0};
    struct q_term *terms = malloc(CO_HISTORY_MAX * sizeof *terms);
    cr_assert(terms);
    for (uint32_t i = 0; i < CO_HISTORY_MAX; i++)
        terms[i] = (struct q_term){UINT64_MAX / 2 + i, UINT64_MAX / 2 + 1 + 8ull * i};
    struct q_msg m = {.type = FRAME_POS, .timeline = random_id(&r)}, got;
    m.history = (struct q_history){CO_HISTORY_MAX, terms};
    struct co_buf out = {0};
    cr_assert_eq(qmsg_encode(&m, &out), 0);
    cr_assert_eq(decode(&out, &scratch, &got), 0, "%s", co_sentence());
    assert_same(&m, &got);
    out.len = 0;
    m.history.n = 3;
    cr_assert_eq(qmsg_encode(&m, &out), 0);
    cr_assert_eq(decode(&out, &scratch, &got), 0);
    assert_same(&m, &got);
    cr_assert_leq(scratch.cap, 1024);
    co_buf_free(&out);
    free(terms);
    qmsg_scratch_free(&scratch);
}

/* A frame of `type` around a message that the test made by hand. */
static int decode_message(enum frame_type type, const Corallite__Quorum *pb)
{
    uint8_t *bytes = malloc(2 * CO_MIB);
    cr_assert(bytes);
    size_t len = corallite__quorum__get_packed_size(pb);
    cr_assert_leq(len, 2 * CO_MIB);
    corallite__quorum__pack(pb, bytes);
    struct co_buf frame = {0};
    struct qmsg_scratch scratch = {0};
    struct q_msg got;
    cr_assert_eq(frame_append(&frame, type, 0, co_span_of(bytes, len), co_span_of(NULL, 0)), 0);
    int rc = decode(&frame, &scratch, &got);
    co_buf_free(&frame);
    qmsg_scratch_free(&scratch);
    free(bytes);
    return rc;
}

static uint8_t id_bytes[32];
#define BYTES(n) ((ProtobufCBinaryData){(n), id_bytes})

Test(qmsg, ids_of_a_wrong_length_are_refused)
{
    for (unsigned n = 0; n <= 17; n++) {
        Corallite__Quorum pb = CORALLITE__QUORUM__INIT;
        pb.has_timeline = 1;
        pb.timeline = BYTES(n);
        cr_expect_eq(decode_message(FRAME_VOTED, &pb), n == 16 ? 0 : CO_ERR_PROTOCOL);
        pb.timeline = BYTES(16);
        pb.has_nonce = 1;
        pb.nonce = BYTES(n);
        cr_expect_eq(decode_message(FRAME_VOTED, &pb), n == 16 ? 0 : CO_ERR_PROTOCOL);
        pb.has_nonce = 0;
        pb.has_digest = 1;
        pb.digest = BYTES(n);
        cr_expect_eq(decode_message(FRAME_VOTED, &pb), n == 16 ? 0 : CO_ERR_PROTOCOL);
        cr_expect_eq(decode_message(FRAME_WAITER, &pb), 0, "WAITER has no digest to look at");
    }
    Corallite__Quorum none = CORALLITE__QUORUM__INIT;
    cr_expect_eq(decode_message(FRAME_VOTE, &none), CO_ERR_PROTOCOL, "no timeline");
}

Test(qmsg, positions_off_a_record_are_refused)
{
    Corallite__Quorum pb = CORALLITE__QUORUM__INIT;
    pb.has_timeline = 1;
    pb.timeline = BYTES(16);
    pb.has_flush_lsn = 1;
    for (uint64_t i = 0; i < 16; i++) {
        pb.flush_lsn = 4096 + i;
        cr_expect_eq(decode_message(FRAME_ACK, &pb), i % 8 ? CO_ERR_PROTOCOL : 0);
    }
    cr_expect_eq(decode_message(FRAME_VOTE, &pb), 0, "VOTE has no flush_lsn to look at");
}

Test(qmsg, histories_that_are_none_are_refused)
{
    static const struct {
        const char *why;
        size_t n;
        uint64_t e[6];
        int rc;
    } rows[] = {
        {"empty", 0, {0}, 0},
        {"one", 2, {1, 4096}, 0},
        {"a term that wrote nothing", 4, {1, 4096, 2, 4096}, 0},
        {"half an entry", 3, {1, 4096, 2}, CO_ERR_PROTOCOL},
        {"the same term twice", 4, {1, 4096, 1, 8192}, CO_ERR_PROTOCOL},
        {"terms that fall", 4, {2, 4096, 1, 8192}, CO_ERR_PROTOCOL},
        {"starts that fall", 4, {1, 8192, 2, 4096}, CO_ERR_PROTOCOL},
        {"a start off a record", 2, {1, 4097}, CO_ERR_PROTOCOL},
        {"terms beyond 63 bits", 4, {1ull << 63, 8, (1ull << 63) + 1, 8}, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Corallite__Quorum pb = CORALLITE__QUORUM__INIT;
        pb.has_timeline = 1;
        pb.timeline = BYTES(16);
        pb.n_history = rows[i].n;
        pb.history = (uint64_t *)rows[i].e;
        cr_expect_eq(decode_message(FRAME_ELECTED, &pb), rows[i].rc, "%s", rows[i].why);
    }
}

Test(qmsg, configurations_that_are_none_are_refused)
{
    /* O4: misordered, duplicated and empty member lists never reach a core. */
    static const struct {
        const char *why;
        uint32_t version, n, nodes[8], n_new, new_nodes[8];
        unsigned disk_bytes;
        int rc;
    } rows[] = {
        {"three members", 1, 3, {1, 2, 3}, 0, {0}, 16, 0},
        {"joint", 2, 3, {1, 2, 3}, 3, {1, 2, 4}, 16, 0},
        {"no disk id yet", 1, 1, {1}, 0, {0}, 0, 0},
        {"version 0", 0, 3, {1, 2, 3}, 0, {0}, 16, CO_ERR_PROTOCOL},
        {"nobody", 1, 0, {0}, 0, {0}, 16, CO_ERR_PROTOCOL},
        {"only new ones", 1, 0, {0}, 1, {1}, 16, CO_ERR_PROTOCOL},
        {"node 0", 1, 2, {0, 1}, 0, {0}, 16, CO_ERR_PROTOCOL},
        {"twice the same", 1, 2, {1, 1}, 0, {0}, 16, CO_ERR_PROTOCOL},
        {"misordered", 1, 2, {2, 1}, 0, {0}, 16, CO_ERR_PROTOCOL},
        {"twice the same new", 1, 1, {1}, 2, {2, 2}, 16, CO_ERR_PROTOCOL},
        {"eight", 1, 8, {1, 2, 3, 4, 5, 6, 7, 8}, 0, {0}, 16, CO_ERR_PROTOCOL},
        {"eight new", 1, 1, {1}, 8, {1, 2, 3, 4, 5, 6, 7, 8}, 16, CO_ERR_PROTOCOL},
        {"short disk id", 1, 1, {1}, 0, {0}, 15, CO_ERR_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Corallite__Quorum pb = CORALLITE__QUORUM__INIT;
        Corallite__Config config = CORALLITE__CONFIG__INIT;
        Corallite__Member members[16], *list[16];
        pb.has_timeline = 1;
        pb.timeline = BYTES(16);
        pb.config = &config;
        config.has_version = 1;
        config.version = rows[i].version;
        for (uint32_t k = 0; k < rows[i].n + rows[i].n_new; k++) {
            corallite__member__init(&members[k]);
            members[k].has_node = 1;
            members[k].node = k < rows[i].n ? rows[i].nodes[k] : rows[i].new_nodes[k - rows[i].n];
            members[k].has_disk = rows[i].disk_bytes != 0;
            members[k].disk = BYTES(rows[i].disk_bytes);
            list[k] = &members[k];
        }
        config.n_members = rows[i].n;
        config.members = list;
        config.n_new_members = rows[i].n_new;
        config.new_members = list + rows[i].n;
        cr_expect_eq(decode_message(FRAME_REJECT_CONFIG, &pb), rows[i].rc, "%s: %s", rows[i].why,
                     co_sentence());
        if (rows[i].n > CO_MEMBERS_MAX || rows[i].n_new > CO_MEMBERS_MAX)
            cr_expect(strstr(co_sentence(), "the limit is 7"), "before they are copied: %s",
                      co_sentence());
    }
}

Test(qmsg, amplification_is_refused)
{
    /* H2: two bytes of an empty member become 64 of memory; a megabyte of them must not pass. */
    size_t n = CO_MIB;
    uint8_t *message = malloc(n + 6);
    cr_assert(message);
    /* 22 config, length n, then n / 2 times 2 members, length 0 */
    message[0] = 0xb2;
    message[1] = 0x01;
    size_t at = 2 + co_put_varint(message + 2, n);
    for (size_t i = 0; i < n; i += 2) {
        message[at++] = 0x12;
        message[at++] = 0x00;
    }
    struct co_buf frame = {0};
    struct qmsg_scratch scratch = {0};
    struct q_msg got;
    cr_assert_eq(frame_append(&frame, FRAME_POS, 0, co_span_of(message, at), co_span_of(NULL, 0)),
                 0);
    cr_assert_eq(decode(&frame, &scratch, &got), CO_ERR_PROTOCOL);
    cr_assert(strstr(co_sentence(), "cannot be decoded"), "%s", co_sentence());
    /* likewise fields that nobody knows */
    for (size_t i = 0; i < at; i += 2) {
        message[i] = 0x78 + 0x80;
        message[i + 1] = 0x01;
    }
    frame.len = 0;
    cr_assert_eq(frame_append(&frame, FRAME_POS, 0, co_span_of(message, at), co_span_of(NULL, 0)),
                 0);
    cr_assert_eq(decode(&frame, &scratch, &got), CO_ERR_PROTOCOL);
    free(message);
    co_buf_free(&frame);
    qmsg_scratch_free(&scratch);
}

Test(qmsg, every_truncation_is_refused_or_a_shorter_message)
{
    struct rnd r = rnd_begin("qmsg");
    struct qmsg_scratch scratch = {0};
    static struct q_term terms[8];
    for (int i = 0; i < 50; i++) {
        struct q_msg m, got;
        struct co_buf out = {0};
        random_msg(&r, &m, terms, 8, NULL, 0);
        cr_assert_eq(qmsg_encode(&m, &out), 0);
        for (size_t len = 0; len < out.len - FRAME_HEADER_BYTES; len++) {
            uint8_t *copy = malloc(len ? len : 1);
            cr_assert(copy);
            memcpy(copy, out.data + FRAME_HEADER_BYTES, len);
            struct frame_header h = {.type = (uint16_t)m.type,
                                     .body_bytes = (uint32_t)len,
                                     .message_bytes = (uint32_t)len};
            int rc = qmsg_decode(&h, co_span_of(copy, len), &scratch, &got);
            cr_assert(rc == CO_ERR_PROTOCOL || (rc == 0 && len >= 18));
            cr_assert(rc == 0 || got.type == 0, "nothing is left of a message that was refused");
            free(copy);
        }
        co_buf_free(&out);
    }
    qmsg_scratch_free(&scratch);
}

Test(qmsg, damaged_messages_never_do_harm)
{
    struct rnd r = rnd_begin("qmsg");
    struct qmsg_scratch scratch = {0};
    static struct q_term terms[40];
    for (int i = 0; i < 20000; i++) {
        struct q_msg m, got;
        struct co_buf out = {0};
        random_msg(&r, &m, terms, 40, NULL, 0);
        cr_assert_eq(qmsg_encode(&m, &out), 0);
        size_t len = out.len - FRAME_HEADER_BYTES;
        uint8_t *body = malloc(len);
        cr_assert(body);
        memcpy(body, out.data + FRAME_HEADER_BYTES, len);
        for (uint32_t k = 0; k <= rnd_below(&r, 3); k++)
            body[rnd_below(&r, (uint32_t)len)] = (uint8_t)rnd_next(&r);
        struct frame_header h = {
            .type = (uint16_t)m.type, .body_bytes = (uint32_t)len, .message_bytes = (uint32_t)len};
        int rc = qmsg_decode(&h, co_span_of(body, len), &scratch, &got);
        cr_assert(rc == 0 || rc == CO_ERR_PROTOCOL, "%d %s", rc, co_sentence());
        if (rc == 0) {
            cr_assert(q_history_valid(&got.history) && got.history.n <= CO_HISTORY_MAX);
            cr_assert(got.config.version == 0 || wal_config_check(&got.config) == 0);
        }
        free(body);
        co_buf_free(&out);
    }
    qmsg_scratch_free(&scratch);
}

Test(qmsg, types_of_others_and_lengths_that_lie_are_refused)
{
    struct qmsg_scratch scratch = {0};
    struct q_msg got;
    static const uint8_t body[18] = {0x0a, 0x10}; /* a timeline: all that a message must have */
    static const struct {
        const char *why;
        unsigned type;
        uint32_t body_bytes, message_bytes;
        int rc;
    } rows[] = {
        {"sound", FRAME_APPEND, 18, 18, 0},
        {"not of the quorum log", FRAME_STREAM, 18, 18, CO_ERR_PROTOCOL},
        {"no type at all", 999, 18, 18, CO_ERR_PROTOCOL},
        {"a body longer than it is", FRAME_APPEND, 19, 18, CO_ERR_PROTOCOL},
        {"a body shorter than it is", FRAME_APPEND, 17, 18, CO_ERR_PROTOCOL},
        {"a message longer than the body", FRAME_APPEND, 18, 19, CO_ERR_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t *copy = malloc(sizeof body);
        cr_assert(copy);
        memcpy(copy, body, sizeof body);
        struct frame_header h = {.type = (uint16_t)rows[i].type,
                                 .body_bytes = rows[i].body_bytes,
                                 .message_bytes = rows[i].message_bytes};
        cr_expect_eq(qmsg_decode(&h, co_span_of(copy, sizeof body), &scratch, &got), rows[i].rc,
                     "%s", rows[i].why);
        free(copy);
    }
    qmsg_scratch_free(&scratch);
}

Test(qmsg, a_history_beyond_its_bound_is_refused_before_memory_is_taken_for_it)
{
    /* H2: each byte of these is a number of eight; half a megabyte is what a history may need. */
    size_t n = CO_MIB;
    uint8_t *message = calloc(1, n + 32);
    struct co_buf frame = {0};
    struct qmsg_scratch scratch = {0};
    struct q_msg got;
    cr_assert(message);
    message[0] = 0x0a;
    message[1] = 0x10;
    message[18] = 0xba; /* 23, packed */
    message[19] = 0x01;
    size_t at = 20 + co_put_varint(message + 20, n) + n;
    cr_assert_eq(frame_append(&frame, FRAME_POS, 0, co_span_of(message, at), co_span_of(NULL, 0)),
                 0);
    cr_assert_eq(decode(&frame, &scratch, &got), CO_ERR_PROTOCOL);
    cr_assert(strstr(co_sentence(), "cannot be decoded"), "%s", co_sentence());
    free(message);
    co_buf_free(&frame);
    qmsg_scratch_free(&scratch);
}

Test(qmsg, a_scratch_is_used_again)
{
    /* It is on the commit path: no memory is taken for one message after another. */
    struct q_term terms[] = {{1, 4096}, {2, 8192}, {3, 8192}};
    struct q_msg m = {.type = FRAME_ELECTED, .history = {3, terms}}, got;
    struct qmsg_scratch scratch = {0}, first = {0};
    for (uint32_t n = 3; n > 0; n--) {
        struct co_buf out = {0};
        m.history.n = n;
        cr_assert_eq(qmsg_encode(&m, &out), 0);
        cr_assert_eq(decode(&out, &scratch, &got), 0);
        if (n == 3)
            first = scratch;
        cr_assert(scratch.terms == first.terms && scratch.arena == first.arena);
        cr_assert(got.history.n == n && got.history.e == scratch.terms);
        co_buf_free(&out);
    }
    qmsg_scratch_free(&scratch);
}

Test(qmsg, too_many_records_for_a_frame_are_refused_and_nothing_is_written)
{
    struct co_buf out = {0};
    struct q_msg m = {.type = FRAME_APPEND};
    m.payload = co_span_of(id_bytes, CO_FRAME_RECORDS_MAX_BYTES + 1); /* never read */
    cr_assert_eq(qmsg_encode(&m, &out), CO_ERR_TOO_LARGE);
    m.payload.len = SIZE_MAX;
    cr_assert_eq(qmsg_encode(&m, &out), CO_ERR_TOO_LARGE);
    cr_assert_eq(out.len, 0);
}

/* -- Term histories ---------------------------------------------------------------------------- */

Test(history, says_which_term_wrote_a_position)
{
    /* term_at(lsn) is the term of the last entry with start <= lsn. */
    static const struct q_term e[] = {{3, 4096}, {5, 4200}, {6, 4200}, {9, 5000}};
    static const struct {
        lsn_t lsn;
        term_t term;
    } rows[] = {{0, 0},    {4095, 0}, {4096, 3}, {4199, 3},      {4200, 6},
                {4999, 6}, {5000, 9}, {5001, 9}, {UINT64_MAX, 9}};
    struct q_history h = {4, e}, none = {0, NULL};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_expect_eq(q_term_at(&h, rows[i].lsn), rows[i].term, "%lu", rows[i].lsn);
        cr_expect_eq(q_last_log_term(&h, rows[i].lsn), rows[i].term);
        cr_expect_eq(q_term_at(&none, rows[i].lsn), 0);
    }
}

Test(history, the_search_agrees_with_a_walk)
{
    struct rnd r = rnd_begin("history");
    for (int i = 0; i < 20000; i++) {
        struct q_term e[20];
        struct q_history h = {random_terms(&r, e, 20), e};
        cr_assert(q_history_valid(&h));
        lsn_t lsn = h.n && rnd_below(&r, 2) ? e[rnd_below(&r, h.n)].start + rnd_below(&r, 3) - 1
                                            : rnd_below(&r, 1u << 24);
        term_t walked = 0;
        for (uint32_t k = 0; k < h.n && e[k].start <= lsn; k++)
            walked = e[k].term;
        cr_assert_eq(q_term_at(&h, lsn), walked);
    }
}
