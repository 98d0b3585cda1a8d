/*
 * fuzz_quorum.c - the messages of the quorum log, and a safekeeper's core that is sent them.
 *
 *   byte 0: bits 0..3 which type; bit 4: a message alone, else a conversation
 *
 * A message that decodes is written and decoded again: the same bytes. Its history and its
 * configuration are what they must be, and comparing histories agrees with itself.
 *
 * A conversation is fed to an acceptor, whose disk is played here: whatever a peer sends (H8), the
 * asserts of the core hold, and term, commit, flush and write LSN do not contradict each other.
 * Records in it are built here with the right place and digest when the input asks for it, because
 * no mutation finds a SHA-256.
 */
#include "proto/qhist.h"
#include "proto/qmsg.h"
#include "safekeeper/acceptor.h"
#include "tests/fuzz/fuzz.h"

static const enum frame_type types[16] = {
    FRAME_VOTE,   FRAME_VOTED,    FRAME_FETCH, FRAME_DATA,   FRAME_ELECTED,       FRAME_APPEND,
    FRAME_ACK,    FRAME_RELEASE,  FRAME_POS,   FRAME_REJECT, FRAME_REJECT_CONFIG, FRAME_WAITER,
    FRAME_APPEND, FRAME_READ_POS, FRAME_FREE,  FRAME_VOTE};

static struct frame_header header_of(enum frame_type type, size_t message, size_t payload)
{
    return (struct frame_header){.type = (uint16_t)type,
                                 .body_bytes = (uint32_t)(message + payload),
                                 .message_bytes = (uint32_t)message};
}

static bool has_payload(enum frame_type type)
{
    return type == FRAME_DATA || type == FRAME_APPEND;
}

/* -- A message alone --------------------------------------------------------------------------- */

static void encode_and_back(const struct q_msg *msg)
{
    AUTO_BUF once = {0}, twice = {0};
    struct qmsg_scratch scratch = {0};
    struct frame_header h;
    struct q_msg again;
    FUZZ_CHECK(qmsg_encode(msg, &once) == 0);
    FUZZ_CHECK(frame_parse(once.data, &h) == 0);
    struct co_span body = co_span_of(once.data + FRAME_HEADER_BYTES, once.len - FRAME_HEADER_BYTES);
    FUZZ_CHECK(frame_verify(once.data, body) == 0);
    FUZZ_CHECK(qmsg_decode(&h, body, &scratch, &again) == 0);
    FUZZ_CHECK(qmsg_encode(&again, &twice) == 0);
    FUZZ_CHECK(fuzz_same(co_buf_span(&once), co_buf_span(&twice)));
    FUZZ_CHECK(fuzz_same(msg->payload, again.payload));
    qmsg_scratch_free(&scratch);
}

static void compare_histories(const struct q_history *h, lsn_t a_end, lsn_t b_end)
{
    lsn_t ab, ba, start = h->n ? h->e[0].start : LSN_FIRST;
    a_end = a_end < start ? start : a_end;
    b_end = b_end < start ? start : b_end;
    struct q_history a = q_history_cut(h, a_end), b = q_history_cut(h, b_end);
    FUZZ_CHECK(a.n <= h->n && q_history_valid(&a));
    FUZZ_CHECK(q_diverge(&a, a_end, &b, b_end, start, start, &ab) == 0);
    FUZZ_CHECK(q_diverge(&b, b_end, &a, a_end, start, start, &ba) == 0);
    FUZZ_CHECK(ab == ba && ab <= a_end && ab <= b_end);
    FUZZ_CHECK(q_history_index(h, a_end) < (h->n ? h->n : 1));
    FUZZ_CHECK(q_last_log_term(h, a_end) == q_term_at(h, a_end));
}

static void one_message(enum frame_type type, struct fuzz_in in)
{
    size_t payload = has_payload(type) ? (size_t)fuzz_number(&in, 2) % (in.n + 1) : 0;
    struct frame_header h = header_of(type, in.n - payload, payload);
    AUTO_FREE uint8_t *body = fuzz_copy(co_span_of(in.p, in.n), false);
    struct qmsg_scratch scratch = {0};
    struct q_msg msg;
    if (qmsg_decode(&h, co_span_of(body, in.n), &scratch, &msg) == 0) {
        FUZZ_CHECK(msg.type == type && q_history_valid(&msg.history));
        FUZZ_CHECK(msg.config.version == 0 || wal_config_check(&msg.config) == 0);
        if (msg.config.version) {
            const uint32_t some[] = {1, 2, 2, msg.config.members[0].node_id};
            FUZZ_CHECK(q_is_member(&msg.config, some[3]));
            (void)q_is_quorum(&msg.config, some, 4);
        }
        compare_histories(&msg.history, msg.flush_lsn, msg.commit_lsn);
        encode_and_back(&msg);
    }
    qmsg_scratch_free(&scratch);
}

/* -- A conversation with an acceptor ----------------------------------------------------------- */

#define STEPS_MAX 64u
#define LOG_MAX   ((size_t)1 << 20)

/* A safekeeper's disk, as far as the core asks for it. */
struct disk {
    struct co_buf log;  /* from LSN_FIRST on */
    struct co_buf part; /* staged */
    struct {
        lsn_t end;
        struct wal_digest digest;
        struct wal_config config;
    } at[1024]; /* boundaries, ascending; at[0]: the start */
    unsigned n;
    bool halted, truncated;
};

static struct sk_acceptor *acceptor_new(struct disk *d, const struct wal_config *config)
{
    struct sk_acceptor *sk;
    struct sk_boot boot = {
        .cluster = {{1}},
        .timeline = {{2}},
        .durable = {.no_lease = true, .commit_lsn = LSN_FIRST, .floor_lsn = LSN_FIRST},
        .start_lsn = LSN_FIRST,
        .flush_lsn = LSN_FIRST,
        .config = *config,
        .now_us = 1000000,
        .lease_us = CO_LEASE_US,
        .history_keep = 2};
    d->at[0].end = LSN_FIRST;
    d->at[0].config = *config;
    d->n = 1;
    FUZZ_CHECK(sk_acceptor_new(&boot, &sk) == 0);
    return sk;
}

static lsn_t end_of(const struct disk *d)
{
    return d->at[d->n - 1].end;
}

static void take_record(struct disk *d, struct co_span record)
{
    struct wal_header h;
    struct wal_config config = d->at[d->n - 1].config;
    FUZZ_CHECK(wal_check(record, &h) == 0 && wal_check_digest(record, &h) == 0);
    FUZZ_CHECK(h.begin_lsn == end_of(d) && h.total_bytes == record.len);
    FUZZ_CHECK(memcmp(h.prev_digest.b, d->at[d->n - 1].digest.b, 16) == 0);
    if (h.kind == WAL_CONFIG)
        FUZZ_CHECK(wal_read_config(record, &h, &config) == 0);
    FUZZ_CHECK(d->n < sizeof d->at / sizeof *d->at);
    d->at[d->n].end = h.end_lsn;
    d->at[d->n].digest = h.digest;
    d->at[d->n].config = config;
    d->n++;
    FUZZ_CHECK(co_buf_append(&d->log, record.data, record.len) == 0);
}

static void append(struct disk *d, const struct sk_action *a)
{
    struct co_span rest = a->bytes;
    FUZZ_CHECK(a->lsn == end_of(d));
    if (a->fragment) {
        FUZZ_CHECK(a->fragment_at == d->part.len);
        FUZZ_CHECK(co_buf_append(&d->part, rest.data, rest.len) == 0);
        if (a->record) {
            take_record(d, co_buf_span(&d->part));
            d->part.len = 0;
        }
        return;
    }
    FUZZ_CHECK(d->part.len == 0);
    while (rest.len) {
        struct wal_header h;
        FUZZ_CHECK(wal_check(rest, &h) == 0);
        take_record(d, co_span_of(rest.data, (size_t)h.total_bytes));
        rest.data += h.total_bytes;
        rest.len -= (size_t)h.total_bytes;
    }
}

static void truncate_at(struct disk *d, lsn_t lsn)
{
    while (end_of(d) > lsn)
        d->n--;
    FUZZ_CHECK(end_of(d) == lsn); /* only at a boundary */
    d->log.len = (size_t)(lsn - LSN_FIRST);
    d->part.len = 0;
    d->truncated = true;
}

static void execute(struct disk *d, const struct sk_actions *actions)
{
    for (uint32_t i = 0; i < actions->n && !d->halted; i++) {
        const struct sk_action *a = &actions->a[i];
        if (a->kind == SK_APPEND)
            append(d, a);
        else if (a->kind == SK_TRUNCATE)
            truncate_at(d, a->lsn);
        else if (a->kind == SK_SEND)
            encode_and_back(&a->msg);
        else if (a->kind == SK_READ)
            FUZZ_CHECK(a->lsn >= LSN_FIRST && a->to_lsn <= end_of(d));
        else if (a->kind == SK_HALT)
            d->halted = true;
    }
}

static void step(struct sk_acceptor *sk, struct disk *d, const struct sk_event *first)
{
    struct sk_actions actions = {0};
    struct sk_view was, is;
    sk_view(sk, first->now_us, &was);
    FUZZ_CHECK(sk_step(sk, first, &actions) == 0);
    execute(d, &actions);
    while (d->truncated && !d->halted) {
        struct sk_event e = {.kind = SK_EV_TRUNCATED,
                             .now_us = first->now_us,
                             .lsn = end_of(d),
                             .digest = d->at[d->n - 1].digest,
                             .config = d->at[d->n - 1].config};
        d->truncated = false;
        FUZZ_CHECK(sk_step(sk, &e, &actions) == 0);
        execute(d, &actions);
    }
    sk_view(sk, first->now_us, &is);
    FUZZ_CHECK(is.term >= was.term && is.commit_lsn >= was.commit_lsn);
    FUZZ_CHECK(is.start_lsn <= is.commit_lsn && is.commit_lsn <= is.flush_lsn);
    FUZZ_CHECK(is.flush_lsn <= is.write_lsn && is.write_lsn == end_of(d));
    FUZZ_CHECK(is.staged == d->part.len && q_history_valid(&is.history));
    sk_actions_free(&actions);
}

/* A record that fits at the end of the log, of as many bytes as the input says. */
static void make_record(struct disk *d, term_t term, struct fuzz_in *in, struct co_buf *out)
{
    static struct wal_builder *b;
    struct wal_digest digest;
    uint8_t page[512] = {0};
    if (!b)
        FUZZ_CHECK(wal_builder_new(&b) == 0);
    wal_builder_reset(b, sizeof page);
    uint32_t n = (uint32_t)fuzz_number(in, 1) % 4;
    for (uint32_t i = 1; i <= n; i++) {
        co_put64(page, fuzz_number(in, 2));
        FUZZ_CHECK(wal_builder_page(b, i, page, NULL, 0) == 0);
    }
    struct wal_stamp stamp = {.cluster = {{1}},
                              .timeline = {{2}},
                              .term = term,
                              .begin_lsn = end_of(d),
                              .sealed_lsn = LSN_FIRST,
                              .time_us = 1000000 + d->n,
                              .prev_digest = d->at[d->n - 1].digest,
                              .db_pages = n};
    wal_builder_seal(b, &stamp, out, &digest);
}

/* Makes a message likely: to this timeline, in a small term, from one of few senders. */
static void aim(struct q_msg *msg, const struct sk_view *view, unsigned how)
{
    msg->timeline = (struct co_id){{2}};
    msg->config_version = view->config.version;
    if (how & 1)
        msg->term = view->term + (msg->type == FRAME_VOTE);
    if (how & 2)
        msg->nonce = (struct co_id){{(uint8_t)(how >> 6 & 1)}};
    if (how & 4)
        msg->begin_lsn = msg->start_lsn = view->write_lsn;
    if (how & 8)
        msg->commit_lsn = view->flush_lsn;
}

static void send(struct sk_acceptor *sk, struct disk *d, struct fuzz_in *in, uint64_t now_us)
{
    enum frame_type type = types[fuzz_number(in, 1) & 15];
    unsigned how = (unsigned)fuzz_number(in, 1);
    struct co_span bytes = fuzz_span(in, (size_t)fuzz_number(in, 1));
    struct frame_header h = header_of(type, bytes.len, 0);
    struct qmsg_scratch scratch = {0};
    AUTO_BUF record = {0};
    struct q_term mine[2];
    struct sk_view view;
    struct q_msg msg;
    sk_view(sk, now_us, &view);
    if (qmsg_decode(&h, bytes, &scratch, &msg) == 0) {
        aim(&msg, &view, how);
        if (has_payload(type) && how & 16 && msg.term) {
            make_record(d, msg.term, in, &record);
            size_t at = how & 32 ? d->part.len : 0;
            size_t n = how & 32 ? (size_t)fuzz_number(in, 1) : record.len;
            at = at < record.len ? at : record.len;
            n = n < record.len - at ? n : record.len - at;
            msg.payload = co_span_of(record.data + at, n);
            msg.fragment = n != record.len;
            msg.fragment_at = msg.fragment ? at : 0;
        }
        if (type == FRAME_ELECTED && how & 16) { /* the history that a right leader would have */
            mine[0] = (struct q_term){1, LSN_FIRST};
            mine[1] = (struct q_term){msg.term, msg.start_lsn};
            msg.history = (struct q_history){msg.term > 1 ? 2 : 1, mine};
            if (!q_history_valid(&msg.history))
                msg.history.n = 1;
        }
        struct sk_event e = {
            .kind = SK_EV_MSG, .now_us = now_us, .conn = 1 + (how >> 7), .msg = &msg};
        step(sk, d, &e);
    }
    qmsg_scratch_free(&scratch);
}

static void conversation(struct fuzz_in in)
{
    struct wal_config config = {.version = 1, .n = 3};
    for (uint32_t i = 0; i < 3; i++)
        config.members[i].node_id = i + 1;
    static struct disk d;
    d = (struct disk){0};
    struct sk_acceptor *sk = acceptor_new(&d, &config);
    uint64_t now_us = 2000000;
    for (unsigned i = 0; i < STEPS_MAX && in.n && !d.halted && d.log.len < LOG_MAX; i++) {
        unsigned what = (unsigned)fuzz_number(&in, 1);
        now_us += (uint64_t)(what >> 4) * 300000;
        struct sk_event e = {.now_us = now_us, .conn = 1 + (what >> 3 & 1)};
        switch (what & 7) {
        case 0: /* what was written is on the disk now */
            e.kind = SK_EV_FLUSHED;
            e.lsn = end_of(&d);
            e.staged = d.part.len;
            step(sk, &d, &e);
            break;
        case 1:
            e.kind = SK_EV_CLOSED;
            e.local = what & 16;
            step(sk, &d, &e);
            break;
        case 2:
            e.kind = SK_EV_TIMER;
            step(sk, &d, &e);
            break;
        default:
            send(sk, &d, &in, now_us);
        }
    }
    sk_acceptor_free(sk);
    co_buf_free(&d.log);
    co_buf_free(&d.part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    unsigned how = (unsigned)fuzz_number(&in, 1);
    if (how & 16)
        one_message(types[how & 15], in);
    else
        conversation(in);
    return 0;
}
