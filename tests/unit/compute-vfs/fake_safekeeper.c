#include "fake_safekeeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "proto/limits.h"
#include "proto/qhist.h"

static lsn_t flush_lsn(const struct fake_sk *sk)
{
    return LSN_FIRST + sk->log.len;
}

static struct q_history history_of(const struct fake_sk *sk)
{
    return (struct q_history){.n = sk->n_history, .e = sk->history};
}

static void send_msg(struct fake_conn *c, const struct q_msg *msg)
{
    struct co_buf out = {0};

    co_assert(qmsg_encode(msg, &out) == 0);
    fake_send_raw(c, co_buf_span(&out));
    co_buf_free(&out);
}

static struct q_msg message(const struct fake_sk *sk, enum frame_type type)
{
    return (struct q_msg){.type = type,
                          .timeline = sk->timeline,
                          .config_version = sk->config.version,
                          .term = sk->term};
}

/* Digest of the record that ends the log. */
static struct wal_digest digest_of(const struct fake_sk *sk)
{
    struct wal_digest digest = {{0}};

    for (size_t at = 0; at < sk->log.len;) {
        struct wal_header h;
        co_assert(wal_check(co_span_of(sk->log.data + at, sk->log.len - at), &h) == 0);
        digest = h.digest;
        at += h.total_bytes;
    }
    return digest;
}

static void voted(struct fake_sk *sk, struct fake_conn *c, const struct q_msg *m, bool granted,
                  bool leased)
{
    struct q_msg v = message(sk, FRAME_VOTED);

    v.nonce = m->nonce;
    v.granted = granted;
    v.lease_held = leased;
    v.flush_lsn = flush_lsn(sk);
    v.commit_lsn = sk->commit_lsn;
    v.floor_lsn = v.start_lsn = LSN_FIRST;
    v.digest = digest_of(sk);
    v.history = history_of(sk);
    v.config = sk->config;
    send_msg(c, &v);
}

static void on_vote(struct fake_sk *sk, struct fake_conn *c, const struct q_msg *m)
{
    /* the nonces of one compute differ in their last 4 bytes only */
    bool leased =
        co_now_us() < sk->lease_until_us && memcmp(sk->lease_nonce.b, m->nonce.b, 12) != 0;

    sk->votes++;
    if (sk->no_votes)
        return;
    bool granted =
        !leased && (m->term > sk->term || (m->term == sk->term && co_id_eq(&sk->nonce, &m->nonce)));
    if (granted) {
        sk->term = m->term;
        sk->nonce = m->nonce;
    }
    voted(sk, c, m, granted, leased);
    if (!leased)
        return;
    struct q_msg waiter = message(sk, FRAME_WAITER);
    if (sk->holder != NULL)
        send_msg(sk->holder, &waiter);
    for (unsigned i = 0; i < 8; i++) {
        if (sk->waiting[i] == NULL || sk->waiting[i] == c) {
            sk->waiting[i] = c;
            break;
        }
    }
}

static void free_lease(struct fake_sk *sk)
{
    struct q_msg freed = message(sk, FRAME_FREE);

    sk->lease_until_us = 0;
    sk->holder = NULL;
    for (unsigned i = 0; i < 8; i++) {
        if (sk->waiting[i] != NULL)
            send_msg(sk->waiting[i], &freed);
        sk->waiting[i] = NULL;
    }
}

static void extend_lease(struct fake_sk *sk, struct fake_conn *c, const struct q_msg *m)
{
    sk->lease_nonce = m->nonce;
    sk->lease_until_us = co_now_us() + sk->lease_us;
    sk->holder = c;
}

static void ack(struct fake_sk *sk, struct fake_conn *c, const struct q_msg *m)
{
    struct q_msg a = message(sk, FRAME_ACK);

    a.nonce = m->nonce;
    a.flush_lsn = a.write_lsn = flush_lsn(sk);
    a.staged_bytes = sk->staged.len;
    a.commit_lsn = sk->commit_lsn;
    a.sent_us = m->sent_us;
    if (!sk->no_acks)
        send_msg(c, &a);
}

static bool reject(struct fake_sk *sk, struct fake_conn *c, const struct q_msg *m)
{
    struct q_msg r = message(sk, FRAME_REJECT);

    if (m->term >= sk->term)
        return false;
    send_msg(c, &r);
    return true;
}

static void on_elected(struct fake_sk *sk, struct fake_conn *c, const struct q_msg *m)
{
    if (reject(sk, c, m))
        return;
    sk->term = m->term;
    sk->nonce = m->nonce;
    bool adopted = sk->n_history > 0 && sk->history[sk->n_history - 1].term == m->term;
    if (!adopted) {
        struct q_history ours = history_of(sk);
        lsn_t part = 0;
        co_assert(q_diverge(&m->history, UINT64_MAX, &ours, flush_lsn(sk), LSN_FIRST, LSN_FIRST,
                            &part) == 0);
        if (part != m->start_lsn) { /* S2: not what it takes us for */
            voted(sk, c, m, true, false);
            return;
        }
        co_assert(part >= sk->commit_lsn);
        sk->log.len = m->start_lsn - LSN_FIRST;
        co_buf_free(&sk->staged);
        co_assert(m->history.n <= 256);
        memcpy(sk->history, m->history.e, m->history.n * sizeof sk->history[0]);
        sk->n_history = m->history.n;
    }
    extend_lease(sk, c, m);
    ack(sk, c, m);
}

/* The next bytes of a record; with the last of them it is in the log. */
static void stage(struct fake_sk *sk, const struct q_msg *m)
{
    struct wal_header h;
    if (m->begin_lsn != flush_lsn(sk) || m->fragment_at > sk->staged.len ||
        sk->staged.len - m->fragment_at >= m->payload.len)
        return;
    size_t skip = sk->staged.len - m->fragment_at;
    co_assert(co_buf_append(&sk->staged, m->payload.data + skip, m->payload.len - skip) == 0);
    co_assert(wal_peek(co_buf_span(&sk->staged), &h) == 0);
    if (sk->staged.len < h.total_bytes)
        return;
    co_assert(wal_check(co_buf_span(&sk->staged), &h) == 0);
    co_assert(co_buf_append(&sk->log, sk->staged.data, sk->staged.len) == 0);
    co_buf_free(&sk->staged);
}

static void on_append(struct fake_sk *sk, struct fake_conn *c, const struct q_msg *m)
{
    sk->appends++;
    if (sk->no_appends || reject(sk, c, m) || m->term != sk->term)
        return;
    lsn_t flush = flush_lsn(sk);
    if (m->fragment) {
        stage(sk, m);
    } else if (m->payload.len > 0 && m->begin_lsn <= flush &&
               m->begin_lsn + m->payload.len > flush) {
        size_t skip = flush - m->begin_lsn;
        co_assert(co_buf_append(&sk->log, m->payload.data + skip, m->payload.len - skip) == 0);
    }
    lsn_t commit = m->commit_lsn < flush_lsn(sk) ? m->commit_lsn : flush_lsn(sk);
    if (commit > sk->commit_lsn)
        sk->commit_lsn = commit;
    extend_lease(sk, c, m);
    for (unsigned i = 0; i < 8 && m->writing; i++) {
        struct q_msg told = message(sk, FRAME_VOTED);
        told.lease_held = told.writing = true;
        if (sk->waiting[i] != NULL)
            send_msg(sk->waiting[i], &told);
    }
    ack(sk, c, m);
}

static void on_fetch(struct fake_sk *sk, struct fake_conn *c, const struct q_msg *m)
{
    struct q_msg data = message(sk, FRAME_DATA);
    lsn_t to = m->to_lsn < flush_lsn(sk) ? m->to_lsn : flush_lsn(sk);

    data.from_lsn = m->from_lsn;
    data.flush_lsn = flush_lsn(sk);
    data.history = history_of(sk);
    if (to > m->from_lsn) {
        struct co_span all = {sk->log.data + (m->from_lsn - LSN_FIRST), to - m->from_lsn};
        struct wal_header h;
        size_t n = 0;
        co_assert(wal_peek(all, &h) == 0);
        if (h.total_bytes > CO_BATCH_BYTES) {
            uint64_t left = h.total_bytes - m->fragment_at;
            data.fragment = true;
            data.fragment_at = m->fragment_at;
            data.to_lsn = h.end_lsn;
            data.payload = co_span_of(all.data + m->fragment_at,
                                      left < CO_BATCH_BYTES ? left : CO_BATCH_BYTES);
        } else {
            while (n < all.len && wal_peek(co_span_of(all.data + n, all.len - n), &h) == 0 &&
                   n + h.total_bytes <= CO_BATCH_BYTES)
                n += h.total_bytes;
            data.payload = co_span_of(all.data, n);
        }
    }
    send_msg(c, &data);
}

static void on_read_pos(struct fake_sk *sk, struct fake_conn *c, const struct q_msg *m)
{
    struct q_msg pos = message(sk, FRAME_POS);
    struct q_history h = history_of(sk);

    sk->read_pos++;
    pos.read_id = m->read_id;
    pos.last_log_term = q_last_log_term(&h, flush_lsn(sk));
    pos.flush_lsn = flush_lsn(sk);
    pos.commit_lsn = sk->commit_lsn;
    pos.config = sk->config;
    pos.lease_held = co_now_us() < sk->lease_until_us;
    if (m->want_history)
        pos.history = h;
    send_msg(c, &pos);
}

static bool on_frame(void *owner, struct fake_conn *c, const struct frame_header *frame,
                     struct co_span body)
{
    struct fake_sk *sk = owner;
    struct q_msg m;

    sk->bytes_in += FRAME_HEADER_BYTES + body.len;
    if (sk->error != 0) {
        fake_send_error(c, 0, sk->error, "the test says so");
        return true;
    }
    if (frame->type == FRAME_STREAM) { /* a compute reads the record of an old commit: not here */
        fake_send_error(c, frame->request_id, CO_ERR_AGAIN, "this one has not committed so far");
        return true;
    }
    co_assert(qmsg_decode(frame, body, &sk->scratch, &m) == 0);
    if (sk->sealed && (m.type == FRAME_VOTE || (m.type == FRAME_APPEND && m.payload.len > 0))) {
        fake_send_error(c, 0, CO_ERR_READONLY, "the branch was reset");
        return true;
    }
    switch (m.type) {
    case FRAME_VOTE:
        on_vote(sk, c, &m);
        break;
    case FRAME_ELECTED:
        on_elected(sk, c, &m);
        break;
    case FRAME_APPEND:
        on_append(sk, c, &m);
        break;
    case FRAME_FETCH:
        on_fetch(sk, c, &m);
        break;
    case FRAME_READ_POS:
        on_read_pos(sk, c, &m);
        break;
    case FRAME_RELEASE:
        sk->releases++;
        if (co_id_eq(&m.nonce, &sk->lease_nonce))
            free_lease(sk);
        break;
    default:
        co_assert(false); /* a compute does not send this */
    }
    return true;
}

static void on_close(void *owner, struct fake_conn *c)
{
    struct fake_sk *sk = owner;

    for (unsigned i = 0; i < 8; i++) {
        if (sk->waiting[i] == c)
            sk->waiting[i] = NULL;
    }
    if (sk->holder == c)
        free_lease(sk);
}

lsn_t fake_sk_flush(struct fake_sk *sk)
{
    pthread_mutex_lock(&sk->server.lock);
    lsn_t lsn = flush_lsn(sk);
    pthread_mutex_unlock(&sk->server.lock);
    return lsn;
}

void fake_sk_kill(struct fake_sk *sk)
{
    fake_server_stop(&sk->server);
}

void fake_sk_restart(struct fake_sk *sk)
{
    fake_server_start(&sk->server);
}

void fake_cluster_start(struct fake_cluster *c)
{
    struct co_id cluster = co_id_random(), timeline = co_id_random();
    struct wal_config config = {.version = 1, .n = 3};

    memset(c, 0, sizeof *c);
    for (uint32_t i = 0; i < 3; i++)
        config.members[i].node_id = i + 1;
    c->timeline = (struct cv_timeline){.cluster = cluster,
                                       .timeline = timeline,
                                       .database = co_id_random(),
                                       .start_lsn = LSN_FIRST,
                                       .config = config,
                                       .n_safekeepers = 3};
    for (uint32_t i = 0; i < 3; i++) {
        struct fake_sk *sk = &c->sk[i];
        fake_server_init(&sk->server);
        sk->server.cluster = cluster;
        sk->server.node = i + 1;
        sk->server.owner = sk;
        sk->server.on_frame = on_frame;
        sk->server.on_close = on_close;
        sk->timeline = timeline;
        sk->config = config;
        sk->commit_lsn = LSN_FIRST;
        sk->lease_us = CO_LEASE_US;
        fake_server_start(&sk->server);
        struct cv_safekeeper *to = &c->timeline.safekeepers[i];
        to->node = i + 1;
        to->port = sk->server.port;
        snprintf(to->host, sizeof to->host, "127.0.0.1");
    }
}

void fake_cluster_stop(struct fake_cluster *c)
{
    for (unsigned i = 0; i < 3; i++) {
        fake_server_stop(&c->sk[i].server);
        co_buf_free(&c->sk[i].log);
        qmsg_scratch_free(&c->sk[i].scratch);
    }
}

void fake_cluster_usurp(struct fake_cluster *c, lsn_t keep)
{
    term_t term = 0;

    for (unsigned i = 0; i < 3; i++)
        pthread_mutex_lock(&c->sk[i].server.lock);
    for (unsigned i = 0; i < 3; i++)
        term = c->sk[i].term > term ? c->sk[i].term : term;
    term++;
    for (unsigned i = 0; i < 3; i++) {
        struct fake_sk *sk = &c->sk[i];
        if (flush_lsn(sk) > keep)
            sk->log.len = keep - LSN_FIRST;
        sk->term = term;
        memset(&sk->nonce, 0xee, sizeof sk->nonce);
        sk->lease_nonce = sk->nonce;
        sk->lease_until_us = 0;
        sk->holder = NULL;
        co_assert(sk->n_history < 256);
        sk->history[sk->n_history++] = (struct q_term){.term = term, .start = keep};
        sk->commit_lsn = keep;
    }
    for (unsigned i = 0; i < 3; i++)
        pthread_mutex_unlock(&c->sk[i].server.lock);
}
