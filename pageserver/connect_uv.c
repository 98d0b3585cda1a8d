/*
 * connect_uv.c - the connections to the safekeepers: what is asked of each, and what it tells.
 *
 * A connection: Hello, TIMELINE_LIST until all is told, then it is listed. Lost ones are made again
 * after 100 ms, 200 ms, ... 2 s. A safekeeper that says nothing for SILENT_MS, asked by a PING
 * every second, is taken for gone.
 */
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "pageserver/server_uv.h"
#include "proto/message.h"
#include "proto/net_sock.h"
#include "proto/unpack.h"

#define MODULE       "pageserver/catalog"
#define RETRY_MIN_MS 100u
#define RETRY_MAX_MS 2000u
#define SILENT_MS    5000u

/* -- Listing ----------------------------------------------------------------------------------- */

static void ask_list(struct ps_node *node, const struct co_id *after)
{
    struct ps_server *s = node->s;
    Corallite__TimelineList list = CORALLITE__TIMELINE_LIST__INIT;
    if (after) {
        list.has_after = 1;
        list.after = msg_bytes16(after->b);
    } else {
        list.has_known = node->generation != 0;
        list.known = node->generation;
        node->next_generation = 0;
        node->told_new = false;
        node->round = s->fresh;
    }
    list.has_watch = list.watch = 1;
    node->list_request = ++s->last_request;
    peer_send(node->peer, FRAME_TIMELINE_LIST, s->last_request, &list.base, co_span_of(NULL, 0));
}

/* -- A follower asks again and again ----------------------------------------------------------- */

uint64_t ps_fresh_round(struct ps_server *s)
{
    s->fresh++;
    for (uint32_t i = 0; i < s->reg.n_nodes; i++)
        if (s->nodes[i].ready && !s->nodes[i].list_request)
            ask_list(&s->nodes[i], NULL);
    return s->fresh;
}

bool ps_fresh(const struct ps_server *s, uint64_t round)
{
    bool has[CO_MEMBERS_MAX] = {false};
    for (uint32_t i = 0; i < s->reg.n_nodes; i++)
        has[i] = s->nodes[i].ready && s->reg.listed[i] && s->nodes[i].round_told >= round;
    return ps_reg_quorum(&s->reg, has);
}

static void list_complete(struct ps_node *node)
{
    struct ps_server *s = node->s;
    node->generation = node->next_generation;
    node->round_told = node->round;
    ps_nodes_refuse_others(s); /* whom its timelines name is known now */
    if (!node->ready)
        return;
    if (s->reg.listed[node->index]) { /* once more */
        node->list_request = 0;
        if (!ps_owner_check(s))
            return;
        if (s->fresh > node->round)
            ask_list(node, NULL);
        if (node->told_new) {
            ps_catalog_drive_all(s);
            ps_lineage_settle(s);
            ps_health_update(s);
        }
        ps_serve_asks(s);
        return;
    }
    bool heard_before = s->reg.heard;
    bool heard = ps_reg_list_done(&s->reg, node->index);
    node->list_request = 0;
    node->failures = 0;
    co_info(MODULE, "safekeeper connected node=%u addr=%s:%u timelines=%u", node->id, node->host,
            node->port, s->reg.n);
    if (!heard)
        co_info(MODULE, "waiting for a majority of the safekeepers connected=%u needed=%u",
                ps_nodes_ready(s), ps_reg_majority(&s->reg));
    if (!ps_owner_check(s))
        return;
    if (heard && !heard_before) {
        s->ready = true;
        co_info("pageserver", "ready listen=%s:%u safekeepers=%u/%u timelines=%u",
                s->options->listen_host, peer_server_port(s->listener), ps_nodes_ready(s),
                s->reg.n_nodes, s->reg.n);
    }
    ps_catalog_drive_all(s);
    ps_catalog_sweep(s);
    ps_lineage_settle(s);
    ps_feeds_node(s, node->index, true);
    ps_settle_node(s);
    ps_health_update(s);
    ps_serve_asks(s);
}

static int take_listed(struct ps_node *node, const Corallite__TimelineListed *listed)
{
    struct ps_meta meta;
    struct ps_timeline *tl;
    if (!node->next_generation && listed->has_generation)
        node->next_generation = listed->generation; /* the first page's: what came later is asked */
    node->told_new |= listed->n_timelines > 0;
    for (size_t i = 0; i < listed->n_timelines; i++) {
        int rc = ps_meta_from_wire(listed->timelines[i], &meta);
        if (!rc)
            rc = ps_reg_heard(&node->s->reg, node->index, &meta, &tl);
        if (rc)
            return rc;
        if (i < listed->n_commit_lsn)
            ps_feed_news(node->s, node->index, tl, listed->commit_lsn[i]);
    }
    node->tells = listed->has_news;
    if (!listed->more || listed->n_timelines == 0)
        list_complete(node);
    else
        ask_list(node, &meta.id);
    return 0;
}

/* Commit LSNs that moved on this safekeeper. */
static int take_news(struct ps_node *node, const Corallite__TimelineListed *listed)
{
    size_t n = listed->n_commit_lsn;
    if (!listed->has_news || listed->news.len != n * sizeof(struct co_id))
        return co_fail(CO_ERR_PROTOCOL, "news came of %zu timelines with %zu positions",
                       listed->has_news ? listed->news.len / sizeof(struct co_id) : 0, n);
    for (size_t i = 0; i < n; i++) {
        struct co_id id;
        memcpy(id.b, listed->news.data + i * sizeof id.b, sizeof id.b);
        struct ps_timeline *tl = ps_reg_find(&node->s->reg, &id);
        if (tl)
            ps_feed_news(node->s, node->index, tl, listed->commit_lsn[i]);
    }
    return 0;
}

static int on_listed(struct ps_node *node, const struct frame_header *frame, struct co_span message)
{
    if (frame->request_id && frame->request_id != node->list_request)
        return 0;
    Corallite__TimelineListed *listed =
        message_unpack(&corallite__timeline_listed__descriptor, message);
    if (!listed)
        return CO_ERR_PROTOCOL;
    int rc = frame->request_id ? take_listed(node, listed) : take_news(node, listed);
    protobuf_c_message_free_unpacked(&listed->base, NULL);
    return rc;
}

static int on_put_ok(struct ps_node *node, const struct frame_header *frame, struct co_span message)
{
    struct ps_server *s = node->s;
    struct ps_meta meta;
    struct ps_timeline *tl = NULL;
    Corallite__TimelinePutOk *ok = message_unpack(&corallite__timeline_put_ok__descriptor, message);
    if (!ok)
        return CO_ERR_PROTOCOL;
    int rc = ok->timeline ? ps_meta_from_wire(ok->timeline, &meta)
                          : co_fail(CO_ERR_PROTOCOL, "TIMELINE_PUT_OK came without a timeline");
    protobuf_c_message_free_unpacked(&ok->base, NULL);
    if (!rc)
        rc = ps_reg_heard(&s->reg, node->index, &meta, &tl);
    if (rc)
        return rc;
    if (tl->asked[node->index] == frame->request_id)
        tl->asked[node->index] = 0;
    if (!ps_reg_is_foreign(&s->reg, tl) || ps_owner_check(s)) {
        ps_catalog_drive(s, tl);
        ps_serve_asks(s);
    }
    return 0;
}

/* -- Connections ------------------------------------------------------------------------------- */

uint32_t ps_nodes_ready(const struct ps_server *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->reg.n_nodes; i++)
        n += s->nodes[i].ready && s->reg.listed[i];
    return n;
}

bool ps_nodes_enough(const struct ps_server *s)
{
    bool has[CO_MEMBERS_MAX] = {false};
    for (uint32_t i = 0; i < s->reg.n_nodes; i++)
        has[i] = s->nodes[i].ready && s->reg.listed[i];
    return ps_reg_quorum(&s->reg, has);
}

/* R10. Where we know in time whom to expect, the other daemon says it. */
static int refuse(const struct ps_node *node)
{
    const struct ps_registry *reg = &node->s->reg;
    char named[CO_ID_TEXT], said[CO_ID_TEXT];
    return co_fail(
        CO_ERR_NODE,
        "safekeeper %u has data directory %s, and its number stands for %s: an empty one "
        "that was started in the place of a lost disk counts for nothing; build it anew "
        "by `corallite safekeeper replace`",
        node->id, co_id_format(&reg->said[node->index], said),
        reg->two_disks[node->index] ? "two others, which came one after the other"
                                    : co_id_format(&reg->disk[node->index], named));
}

void ps_nodes_refuse_others(struct ps_server *s)
{
    for (uint32_t i = 0; i < s->reg.n_nodes; i++) {
        struct ps_node *node = &s->nodes[i];
        if (!node->ready || !node->id || !ps_reg_is_other(&s->reg, i))
            continue;
        (void)refuse(node);
        ps_reg_list_begins(&s->reg, i);
        peer_close(node->peer, co_sentence());
    }
}

static int node_hello(void *owner, struct peer *peer, const Corallite__Hello *hello,
                      const Corallite__HelloOk *ok)
{
    struct ps_node *node = owner;
    (void)peer;
    (void)hello;
    struct co_id disk;
    int rc = msg_get16("disk", ok->has_disk, &ok->disk, disk.b);
    if (rc)
        return rc;
    ps_reg_said(&node->s->reg, node->index, &disk);
    if (ps_reg_is_other(&node->s->reg, node->index))
        return refuse(node);
    node->ready = true;
    node->heard_ms = uv_now(&node->s->loop);
    node->generation = 0;
    ps_durable_forget(node->s, node->index);
    ps_reg_list_begins(&node->s->reg, node->index);
    ps_nodes_ask(node); /* answered before the list is */
    ask_list(node, NULL);
    return 0;
}

static int node_error(struct ps_node *node, const struct frame_header *frame,
                      struct co_span message)
{
    struct ps_server *s = node->s;
    Corallite__Error *error = message_unpack(&corallite__error__descriptor, message);
    if (!error)
        return CO_ERR_PROTOCOL;
    co_warn(MODULE, "safekeeper refused node=%u code=%s: %s", node->id, co_error_name(error->code),
            error->sentence ? error->sentence : "");
    int code = error->code;
    protobuf_c_message_free_unpacked(&error->base, NULL);
    if (ps_feed_error(s, node->index, frame->request_id, code))
        return 0;
    if (frame->request_id && frame->request_id == node->list_request)
        return co_fail(CO_ERR_PROTOCOL, "safekeeper %u does not list its timelines", node->id);
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        if (tl->asked[node->index] == frame->request_id)
            tl->asked[node->index] = 0; /* asked again by the tick */
    return 0;
}

static int on_quorum(struct ps_node *node, const struct frame_header *frame, struct co_span body)
{
    struct qmsg_scratch scratch = {0};
    struct q_msg msg;
    int rc = qmsg_decode(frame, body, &scratch, &msg);
    if (!rc && msg.type == FRAME_POS)
        ps_moment_pos(node->s, node->index, &msg);
    if (!rc)
        ps_settle_heard(node->s, node->index, &msg);
    qmsg_scratch_free(&scratch);
    return rc;
}

static int node_frame(void *owner, struct peer *peer, const struct frame_header *frame,
                      struct co_span body)
{
    struct ps_node *node = owner;
    (void)peer;
    struct co_span message = co_span_of(body.data, frame->message_bytes);
    node->heard_ms = uv_now(&node->s->loop);
    switch (frame->type) {
    case FRAME_TIMELINE_LISTED:
        return on_listed(node, frame, message);
    case FRAME_TIMELINE_PUT_OK:
        return on_put_ok(node, frame, message);
    case FRAME_NODES_OK:
        return ps_nodes_told(node, frame, message);
    case FRAME_STREAM_DATA:
        return ps_feed_data(node->s, node->index, frame, body);
    case FRAME_POS:
    case FRAME_ACK:
    case FRAME_VOTED:
    case FRAME_REJECT:
    case FRAME_WAITER:
        return on_quorum(node, frame, body);
    case FRAME_ERROR:
        return node_error(node, frame, message);
    case FRAME_PONG:
        return 0;
    default:
        return co_fail(CO_ERR_PROTOCOL, "a safekeeper sent %s, which a pageserver does not take",
                       frame_type_name(frame->type));
    }
}

static void on_retry(uv_timer_t *timer)
{
    ps_node_connect(timer->data);
}

static void retry_later(struct ps_node *node)
{
    uint64_t ms = RETRY_MIN_MS << (node->failures < 5 ? node->failures : 5);
    node->failures++;
    if (!node->s->closing && node->id)
        uv_timer_start(&node->timer, on_retry, ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS, 0);
}

static void node_close(void *owner, struct peer *peer, const char *reason)
{
    struct ps_node *node = owner;
    struct ps_server *s = node->s;
    bool again = !node->ready && node->failures % 30 != 0 && peer_code(peer) == node->told;
    if (!s->closing && node->id && !again) {
        node->told = peer_code(peer);
        co_warn(MODULE, "no safekeeper node=%u addr=%s:%u: %s", node->id, node->host, node->port,
                reason);
    }
    bool was_ready = node->ready;
    node->peer = NULL;
    node->ready = false;
    node->list_request = 0;
    retry_later(node);
    ps_settle_node_gone(s, node->index);
    if (!was_ready || s->closing)
        return;
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        tl->asked[node->index] = 0;
    ps_feeds_node(s, node->index, false);
    ps_health_update(s);
}

void ps_node_connect(struct ps_node *node)
{
    struct ps_server *s = node->s;
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    char program[] = "corallite-pageserver " CO_BUILD_VERSION;
    hello.has_protocol_min = hello.has_protocol_max = hello.has_cluster = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    hello.cluster = msg_bytes16(s->identity.cluster.b);
    hello.has_role = hello.has_expect_node = 1;
    hello.role = CORALLITE__ROLE__ROLE_PAGESERVER;
    hello.expect_node = node->id;
    hello.has_expect_disk = !co_id_is_zero(&s->reg.disk[node->index]); /* R10 */
    hello.expect_disk = msg_bytes16(s->reg.disk[node->index].b);
    hello.program = program;
    char address[300];
    snprintf(address, sizeof address, "%s", s->options->advertise);
    if (!*address)
        net_format(s->options->listen_host, peer_server_port(s->listener), address);
    hello.has_follower = 1;
    hello.follower = msg_bytes16(s->identity.disk.b);
    hello.address = address;
    struct peer_handler handler = {node, node_hello, node_frame, node_close};
    if (peer_connect(&s->loop, node->host, node->port, &hello, &handler, &node->peer)) {
        node->peer = NULL;
        retry_later(node);
    }
}

void ps_nodes_tick(struct ps_server *s)
{
    uint64_t now = uv_now(&s->loop);
    for (uint32_t i = 0; i < s->reg.n_nodes; i++) {
        struct ps_node *node = &s->nodes[i];
        if (!node->ready)
            continue;
        if (now - node->heard_ms > SILENT_MS)
            peer_close(node->peer, "it does not answer");
        else
            ps_nodes_ask(node); /* and so it has to say something */
        if (s->reg.follows && node->ready && !node->list_request)
            ask_list(node, NULL);
    }
}

void ps_nodes_close(struct ps_server *s)
{
    for (uint32_t i = 0; i < s->reg.n_nodes; i++) {
        struct ps_node *node = &s->nodes[i];
        if (node->peer)
            peer_close(node->peer, "the pageserver stops");
        uv_close((uv_handle_t *)&node->timer, NULL);
    }
}
