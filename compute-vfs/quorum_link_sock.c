/*
 * quorum_link_sock.c - the connection to one safekeeper, without ever blocking:
 *
 *   IDLE -(back-off over)-> CONNECTING -> HELLO (ours sent) -> UP -(error, silence, queue full)->
 * IDLE
 *
 * The core hears PR_EV_UP when HelloOk has proved who is there, and PR_EV_DOWN when an UP
 * connection ends. Only a host name that is no numeric address can make it wait, for the resolver,
 * at most CV_RESOLVE_US, and only before the first connection and after failed ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "compute-vfs/quorum_int.h"
#include "proto/hello.h"
#include "proto/message.h"
#include "proto/unpack.h"

/* What the log names counts more than the list: it is older. */
static void know_disk(struct cv_link *l, const struct wal_member *members, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (members[i].node_id == l->sk.node && !co_id_is_zero(&members[i].disk_uuid))
            l->disk = members[i].disk_uuid;
    }
}

void cv_link_init(struct cv_link *l, const struct cv_safekeeper *sk,
                  const struct wal_config *config)
{
    memset(l, 0, sizeof *l);
    l->sk = *sk;
    l->disk = sk->disk;
    l->s.fd = -1;
    l->backoff_us = CV_BACKOFF_MIN_US;
    l->error = CO_ERR_CONNECT;
    snprintf(l->why, sizeof l->why, "not reached yet");
    net_format(sk->host, sk->port, l->address);
    know_disk(l, config->members, config->n);
    know_disk(l, config->new_members, config->n_new);
}

void cv_link_close(struct cv_link *l)
{
    l->bytes_in += l->s.bytes_in;
    l->bytes_out += l->s.bytes_out;
    l->s.bytes_in = l->s.bytes_out = 0;
    psock_close(&l->s);
    l->state = CV_LINK_IDLE;
    l->broken = false;
}

static void say_why(struct cv_link *l, int code, const char *format, ...) CO_PRINTF(3, 4);
static void say_why(struct cv_link *l, int code, const char *format, ...)
{
    va_list ap;

    l->error = code;
    va_start(ap, format);
    vsnprintf(l->why, sizeof l->why, format, ap);
    va_end(ap);
}

/* Ends the connection (l->error and l->why are said already) and sets the time of the next try. */
static void drop(struct cv_quorum *q, struct cv_link *l)
{
    bool was_up = l->state == CV_LINK_UP;

    if (l->state == CV_LINK_CONNECTING)
        l->addr_at++;
    cv_link_close(l);
    l->retry_at_us = co_now_us() + l->backoff_us;
    l->backoff_us = l->backoff_us * 2 > CV_BACKOFF_MAX_US ? CV_BACKOFF_MAX_US : l->backoff_us * 2;
    if (!was_up)
        return;
    cv_quorum_count_links(q);
    struct pr_event down = {.kind = PR_EV_DOWN, .node = l->sk.node};
    /* Without memory for the step the core only learns later, from the lack of answers. */
    if (cv_quorum_step(q, &down) != 0)
        q->timer_at_us = co_now_us() + CV_RETRY_US;
}

/* The next address to try. A name that failed at all of its addresses is asked for anew. */
static int next_address(struct cv_link *l, uint64_t now_us)
{
    if (l->addr_at < l->addr.n)
        return 0;
    l->addr_at = 0;
    l->addr.n = 0;
    int rc = net_resolve(l->sk.host, l->sk.port, now_us + CV_RESOLVE_US, &l->addr);
    if (rc != 0) {
        l->addr.n = 0;
        say_why(l, CO_ERR_CONNECT, "%s", co_sentence());
    }
    return rc;
}

static void start(struct cv_quorum *q, struct cv_link *l, uint64_t now_us)
{

    if (next_address(l, now_us) != 0) {
        drop(q, l);
        return;
    }
    const struct sockaddr *addr = (const struct sockaddr *)&l->addr.at[l->addr_at];
    memset(&l->s, 0, sizeof l->s);
    l->generation++;
    l->s.next_request = 1;
    snprintf(l->s.address, sizeof l->s.address, "%s", l->address);
    l->s.fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->s.fd < 0) {
        say_why(l, CO_ERR_CONNECT, "no socket: %s", strerror(errno));
        drop(q, l);
        return;
    }
    net_tune(l->s.fd);
    l->s.in.body_limit = CO_FRAME_CONTROL_MAX_BYTES;
    l->state = CV_LINK_CONNECTING;
    l->deadline_us = now_us + CO_CONNECT_TIMEOUT_MS * 1000u;
    if (connect(l->s.fd, addr, l->addr.len[l->addr_at]) != 0 && errno != EINPROGRESS) {
        say_why(l, CO_ERR_CONNECT, "%s", strerror(errno));
        drop(q, l);
    }
}

int cv_link_request(struct cv_quorum *q, struct cv_link *l, unsigned type, uint64_t req,
                    const ProtobufCMessage *message)
{
    uint8_t packed[CO_FRAME_HELLO_MAX_BYTES];
    struct co_span body = {packed, 0};

    if (message != NULL) {
        if (protobuf_c_message_get_packed_size(message) > sizeof packed)
            return CO_ERR_INVAL;
        body.len = protobuf_c_message_pack(message, packed);
    }
    q->frame.len = 0;
    int rc = frame_append(&q->frame, type, req, body, co_span_of(NULL, 0));
    if (rc == 0)
        rc = psock_queue(&l->s, co_buf_span(&q->frame));
    return rc;
}

int cv_link_queue(struct cv_quorum *q, struct cv_link *l, unsigned type,
                  const ProtobufCMessage *message)
{
    return cv_link_request(q, l, type, type == FRAME_HELLO ? 1 : 0, message);
}

static void make_hello(struct cv_quorum *q, struct cv_link *l, Corallite__Hello *hello)
{
    hello->has_protocol_min = hello->has_protocol_max = 1;
    hello->protocol_min = hello->protocol_max = CO_PROTOCOL_VERSION;
    hello->has_cluster = 1;
    hello->cluster = (ProtobufCBinaryData){16, q->timeline.cluster.b};
    hello->has_role = 1;
    hello->role = CORALLITE__ROLE__ROLE_COMPUTE;
    hello->has_expect_node = 1;
    hello->expect_node = l->sk.node;
    hello->has_expect_disk = !co_id_is_zero(&l->disk);
    hello->expect_disk = (ProtobufCBinaryData){16, l->disk.b};
    hello->program = program_invocation_short_name;
}

/* The connection stands: says who we are and whom we expect. */
static void connected(struct cv_quorum *q, struct cv_link *l, uint64_t now_us)
{
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    int err = 0;
    socklen_t len = sizeof err;

    if (getsockopt(l->s.fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
        err = errno;
    if (err != 0) {
        say_why(l, CO_ERR_CONNECT, "%s", strerror(err));
        drop(q, l);
        return;
    }
    make_hello(q, l, &hello);
    l->state = CV_LINK_HELLO;
    l->deadline_us = now_us + CO_HELLO_TIMEOUT_MS * 1000u;
    if (cv_link_queue(q, l, FRAME_HELLO, &hello.base) != 0) {
        say_why(l, CO_ERR_CLOSED, "%s", co_sentence());
        drop(q, l);
    }
}

/* HelloOk proves who is there. 0, or the link's error is said. */
static int check_hello_ok(struct cv_quorum *q, struct cv_link *l, struct co_span message)
{
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    Corallite__HelloOk *ok = message_unpack(&corallite__hello_ok__descriptor, message);

    make_hello(q, l, &hello);
    int rc = ok == NULL ? CO_ERR_PROTOCOL : hello_check_answer(&hello, ok, l->address);
    if (rc == 0 && co_id_is_zero(&l->disk)) /* whom we spoke to once we expect from then on */
        rc = msg_get16("disk", ok->has_disk, &ok->disk, l->disk.b);
    if (rc != 0) {
        say_why(l, rc, "%s", co_sentence());
    } else if (ok->has_time_us) {
        l->clock_known = true;
        l->clock_ahead_us = (int64_t)(ok->time_us - co_wall_us());
    }
    if (ok != NULL)
        corallite__hello_ok__free_unpacked(ok, NULL);
    return rc;
}

/* It serves the timeline: what it refused before is over. */
static void serves(struct cv_link *l)
{
    l->backoff_us = CV_BACKOFF_MIN_US;
    l->refuses = false;
    l->error = 0;
    l->why[0] = 0;
}

static int on_hello_answer(struct cv_quorum *q, struct cv_link *l, const struct frame_header *frame,
                           struct co_span message)
{
    if (frame->type != FRAME_HELLO_OK) {
        say_why(l, CO_ERR_PROTOCOL, "it answered %s to our greeting", frame_type_name(frame->type));
        return CO_ERR_PROTOCOL;
    }
    int rc = check_hello_ok(q, l, message);
    if (rc != 0)
        return rc;
    l->s.in.body_limit = 0;
    l->sent_lsn = l->acked_lsn = LSN_NONE;
    l->full = false;
    l->state = CV_LINK_UP;
    if (!l->refuses)
        serves(l);
    cv_quorum_count_links(q);
    struct pr_event up = {.kind = PR_EV_UP, .node = l->sk.node};
    return cv_quorum_step(q, &up);
}

/* It refuses what we asked. The connection is begun anew after a pause that grows: the core then
 * asks again at once, for instance a safekeeper that has only now been told of a new timeline. */
static int on_error(struct cv_quorum *q, struct cv_link *l, struct co_span message)
{
    Corallite__Error *error = message_unpack(&corallite__error__descriptor, message);
    int code = error == NULL ? CO_ERR_PROTOCOL : error_take(error, l->address);

    if (code == CO_ERR_READONLY) {
        corallite__error__free_unpacked(error, NULL);
        if (!l->sealed)
            l->sealed_at_us = co_now_us();
        l->sealed = true;
        return 0;
    }
    if (code == CO_ERR_FULL && l->state == CV_LINK_UP) { /* it goes on voting and answering */
        corallite__error__free_unpacked(error, NULL);
        say_why(l, code, "%s", co_sentence());
        l->full = true;
        cv_quorum_show(q);
        return 0;
    }
    say_why(l, code, "%s", co_sentence());
    l->refuses = l->state == CV_LINK_UP;
    if (error != NULL)
        corallite__error__free_unpacked(error, NULL);
    return code;
}

static int on_frame(struct cv_quorum *q, struct cv_link *l, const struct frame_header *frame,
                    struct co_span body)
{
    struct co_span message = {body.data, frame->message_bytes};

    if (frame->type == FRAME_ERROR && l->state == CV_LINK_UP && frame->request_id != 0) {
        cv_follow_refused(q, frame->request_id); /* nothing else that we ask has a number */
        return 0;
    }
    if (frame->type == FRAME_ERROR)
        return on_error(q, l, message);
    if (l->state == CV_LINK_HELLO)
        return on_hello_answer(q, l, frame, message);
    if (frame->type == FRAME_STREAM_DATA)
        return cv_follow_told(q, frame, body);
    if (frame->type == FRAME_PONG)
        return 0;
    if (frame->type == FRAME_NODES_OK)
        return cv_nodes_told(q, message);

    struct q_msg msg;
    int rc = qmsg_decode(frame, body, &q->scratch, &msg);
    if (rc != 0) {
        say_why(l, rc, "%s", co_sentence());
        return rc;
    }
    if (!co_id_eq(&msg.timeline, &q->timeline.timeline)) {
        say_why(l, CO_ERR_PROTOCOL, "it speaks of another timeline");
        return CO_ERR_PROTOCOL;
    }
    if (msg.type == FRAME_VOTED || msg.type == FRAME_ACK || msg.type == FRAME_POS)
        serves(l);
    if (msg.type == FRAME_ACK || msg.type == FRAME_POS)
        l->full = msg.disk_full;
    if (msg.type == FRAME_ACK && msg.write_lsn + msg.staged_bytes > l->acked_lsn)
        l->acked_lsn = msg.write_lsn + msg.staged_bytes;
    if (msg.type == FRAME_ACK && l->sealed && msg.sent_us > l->sealed_at_us) {
        l->sealed_known = true;
        l->sealed_end = msg.write_lsn;
    }
    if (msg.type == FRAME_POS && !msg.suspect_lsn && msg.read_id >= l->pos_round) {
        l->pos_round = msg.read_id;
        l->pos_flush = msg.flush_lsn;
        l->pos_commit = msg.commit_lsn;
    }
    struct pr_event event = {.kind = PR_EV_MSG, .node = l->sk.node, .msg = &msg};
    return cv_quorum_step(q, &event);
}

static void heard(struct cv_link *l, uint64_t now_us)
{
    l->heard_us = now_us;
    l->pings = 0;
}

void cv_link_io(struct cv_quorum *q, struct cv_link *l)
{
    uint64_t now_us = co_now_us();
    uint64_t before = l->s.bytes_in;

    if (l->state == CV_LINK_CONNECTING) {
        connected(q, l, now_us);
        return;
    }
    size_t waiting = l->s.out.len - l->s.out_sent;
    int rc = psock_pump_out(&l->s);
    if (rc == 0 && l->s.out.len - l->s.out_sent < waiting) {
        heard(l, now_us); /* it takes what we send: it lives */
        l->drained_us = now_us;
    }
    int in = psock_pump_in(&l->s); /* what came before the end is still used */
    if (l->s.bytes_in != before)
        heard(l, now_us);
    for (;;) {
        struct frame_header frame;
        struct co_span body;
        int next = psock_next(&l->s, &frame, &body);
        if (next == CO_ERR_AGAIN)
            break;
        if (next != 0)
            say_why(l, next, "%s", co_sentence());
        else
            next = on_frame(q, l, &frame, body);
        if (next != 0) {
            if (l->error == 0)
                say_why(l, next, "%s", co_error_text(next));
            drop(q, l);
            return;
        }
    }
    if (rc == 0)
        rc = in;
    if (rc != 0 && rc != CO_ERR_AGAIN) {
        if (l->error == 0 || l->error == CO_ERR_CONNECT)
            say_why(l, CO_ERR_CLOSED, "it closed the connection");
        drop(q, l);
    }
}

/* How long the records that it has been sent may keep it busy: nothing else is heard before they
 * are checked and written. */
static uint64_t busy_us(const struct cv_link *l)
{
    return l->sent_lsn > l->acked_lsn && l->acked_lsn > 0
               ? (l->sent_lsn - l->acked_lsn) / CV_SLOW_BYTES_PER_US
               : 0;
}

/* Time is counted in PINGs, so that a process that was stopped for a while blames nobody else. */
static uint64_t tick_up(struct cv_quorum *q, struct cv_link *l, uint64_t now_us)
{
    uint64_t ping_at = (l->heard_us > l->pinged_us ? l->heard_us : l->pinged_us) + CV_PING_US;

    if (now_us < ping_at)
        return ping_at;
    if (l->pings >= (CV_DEAD_US + busy_us(l)) / CV_PING_US) {
        say_why(l, CO_ERR_CONNECT, "it has been silent for %u s", (unsigned)l->pings);
        drop(q, l);
        return l->retry_at_us;
    }
    l->pings++;
    l->pinged_us = now_us;
    if (!psock_wants_out(&l->s) && cv_link_queue(q, l, FRAME_PING, NULL) != 0)
        l->broken = true;
    return now_us + CV_PING_US;
}

uint64_t cv_link_tick(struct cv_quorum *q, struct cv_link *l, uint64_t now_us)
{
    if (l->broken)
        drop(q, l);
    if (l->state == CV_LINK_IDLE) {
        /* Everybody waits for this one: no long pauses. */
        if (!cv_quorum_has(q) && l->retry_at_us > now_us + CV_HURRY_US)
            l->retry_at_us = now_us + CV_HURRY_US;
        if (now_us < l->retry_at_us)
            return l->retry_at_us;
        start(q, l, now_us);
        heard(l, now_us);
        return l->state == CV_LINK_IDLE ? l->retry_at_us : l->deadline_us;
    }
    if (l->state != CV_LINK_UP) {
        if (now_us < l->deadline_us)
            return l->deadline_us;
        say_why(l, CO_ERR_CONNECT, "it does not answer");
        drop(q, l);
        return l->retry_at_us;
    }
    return tick_up(q, l, now_us);
}

short cv_link_wants(const struct cv_link *l)
{
    if (l->state == CV_LINK_IDLE || l->s.fd < 0)
        return 0;
    if (l->state == CV_LINK_CONNECTING)
        return POLLOUT;
    return (short)(POLLIN | (psock_wants_out(&l->s) ? POLLOUT : 0));
}

/* Records that are on their way on this very connection are not sent once more while they can still
 * be expected to arrive: the core asks for that after a second without an answer, which a large
 * record takes easily. What is not sent counts as lost, which every message may be. */
static bool needless(struct cv_link *l, const struct q_msg *msg, uint64_t now_us)
{
    if (psock_wants_out(&l->s) && l->s.out.len - l->s.out_sent > CV_QUEUE_MAX_BYTES)
        return true; /* it does not keep up; the silence of a dead one is seen elsewhere */
    if (msg->type == FRAME_ELECTED)
        l->sent_lsn = l->acked_lsn = LSN_NONE; /* from here on LSNs may stand for other records */
    if (msg->type != FRAME_APPEND || msg->payload.len == 0)
        return false;
    lsn_t from = msg->begin_lsn + msg->fragment_at;
    if (from < l->sent_lsn &&
        (psock_wants_out(&l->s) || now_us < l->drained_us + CV_PING_US + busy_us(l)))
        return true;
    if (l->acked_lsn == LSN_NONE)
        l->acked_lsn = from;
    if (from + msg->payload.len > l->sent_lsn)
        l->sent_lsn = from + msg->payload.len;
    return false;
}

void cv_link_send(struct cv_quorum *q, struct cv_link *l, const struct q_msg *msg)
{
    uint64_t now_us = co_now_us();
    struct q_msg heartbeat;

    if (l->state != CV_LINK_UP || l->broken)
        return;
    if (l->sealed && msg->type == FRAME_APPEND && msg->payload.len > 0) {
        heartbeat = *msg; /* what it would not take; the rest it still has to know */
        heartbeat.payload = co_span_of(NULL, 0);
        msg = &heartbeat;
    }
    if (needless(l, msg, now_us))
        return;
    q->frame.len = 0;
    int rc = qmsg_encode(msg, &q->frame);
    if (rc == 0)
        rc = psock_queue(&l->s, co_buf_span(&q->frame));
    l->drained_us = now_us;
    if (rc != 0) {
        say_why(l, rc, "%s", co_sentence());
        l->broken = true;
    }
    if (q->frame.cap > 4 * CO_MIB)
        co_buf_free(&q->frame);
}
