#include "safekeeper/server.h"

#include <stdlib.h>
#include <sys/statvfs.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/process_file.h"
#include "proto/message.h"
#include "proto/peer_metrics.h"

#define HOUSEKEEPING_MS 1000u
#define MEASURE         500u /* timelines whose files are counted in one housekeeping */
/* Of a large disk not five percent but this much is kept free. */
#define RESERVE_MIN_BYTES (8 * CO_MIB)
#define RESERVE_MAX_BYTES (4 * CO_GIB)

static struct co_metric m_connections = {.name = "corallite_safekeeper_connections",
                                         .help = "Connections after their Hello.",
                                         .kind = CO_GAUGE};
static struct co_metric m_timelines = {.name = "corallite_safekeeper_timelines",
                                       .help = "Timelines in the registry, dropped ones included.",
                                       .kind = CO_GAUGE};
static struct co_metric m_open = {.name = "corallite_safekeeper_open_timelines",
                                  .help = "Timelines that are open.",
                                  .kind = CO_GAUGE};
static struct co_metric m_free = {.name = "corallite_safekeeper_disk_free_bytes",
                                  .help = "Free bytes of the data directory's disk.",
                                  .kind = CO_GAUGE};
static struct co_metric m_refused = {.name = "corallite_safekeeper_refused_appends_total",
                                     .help = "Appends refused because the disk is nearly full.",
                                     .kind = CO_COUNTER};

static struct co_metric m_full = {
    .name = "corallite_safekeeper_disk_full",
    .help = "1 while appends are refused because the disk is nearly full.",
    .kind = CO_GAUGE};
static struct co_metric m_log_bytes = {.name = "corallite_safekeeper_log_stored_bytes",
                                       .help = "Bytes of log on disk.",
                                       .kind = CO_GAUGE};

static const unsigned types[] = {FRAME_VOTE,        FRAME_FETCH,        FRAME_ELECTED,
                                 FRAME_APPEND,      FRAME_RELEASE,      FRAME_READ_POS,
                                 FRAME_STREAM,      FRAME_TIMELINE_PUT, FRAME_TIMELINE_LIST,
                                 FRAME_NODE_STATUS, FRAME_NODES,        FRAME_PAGESERVERS};

/* -- Clients
 * --------------------------------------------------------------------------------------- */

static uint32_t client_position(const struct sk_server *s, sk_conn_t conn)
{
    uint32_t lo = 0, hi = s->n_clients;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (s->clients[mid].conn < conn)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct sk_client *sk_find_client(const struct sk_server *s, sk_conn_t conn)
{
    uint32_t i = client_position(s, conn);
    return i < s->n_clients && s->clients[i].conn == conn ? &s->clients[i] : NULL;
}

static struct peer *find_peer(void *owner, sk_conn_t conn)
{
    struct sk_client *c = sk_find_client(owner, conn);
    return c ? c->peer : NULL;
}

static int add_client(struct sk_server *s, struct peer *peer, uint32_t follower, bool tool)
{
    if (s->n_clients == s->cap_clients) {
        uint32_t cap = s->cap_clients ? s->cap_clients * 2 : 16;
        struct sk_client *c = realloc(s->clients, cap * sizeof *c);
        if (!c)
            return co_fail(CO_ERR_NOMEM, "this safekeeper has no memory for another connection");
        s->clients = c;
        s->cap_clients = cap;
    }
    uint32_t i = client_position(s, peer_id(peer));
    memmove(&s->clients[i + 1], &s->clients[i], (s->n_clients - i) * sizeof *s->clients);
    s->clients[i] =
        (struct sk_client){.conn = peer_id(peer), .peer = peer, .follower = follower, .tool = tool};
    co_metric_set(&m_connections, ++s->n_clients);
    return 0;
}

uint32_t sk_follower_of(const struct sk_server *s, const struct peer *peer)
{
    const struct sk_client *c = sk_find_client(s, peer_id(peer));
    return c ? c->follower : SK_FOLLOWERS_MAX;
}

/* -- Frames
 * ---------------------------------------------------------------------------------------- */

/* The timeline of a request, opened if need be. NULL: the request was answered with an error. */
static struct sk_timeline *timeline_for(struct sk_server *s, struct peer *peer,
                                        const struct frame_header *frame, const struct co_id *id)
{
    bool holds = frame->type != FRAME_STREAM && frame->type != FRAME_READ_POS;
    char text[CO_ID_TEXT];
    struct sk_entry *e = sk_registry_find(&s->registry, id);
    if (e && e->state == CORALLITE__TIMELINE_STATE__TIMELINE_SEALED)
        holds = false; /* nobody writes it */
    int rc = 0;
    if (!e)
        rc =
            co_fail(CO_ERR_NOT_FOUND,
                    "safekeeper %u does not know timeline %s; the pageserver makes timelines known "
                    "(TIMELINE_PUT) and repairs one that is missing here",
                    s->options.identity->node, co_id_format(id, text));
    else if (e->state == CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED)
        rc = co_fail(CO_ERR_DROPPED, "timeline %s (%s) was dropped", co_id_format(id, text),
                     e->name);
    else if (!e->open)
        rc = sk_server_open(s, e, NULL);
    if (!rc)
        rc = sk_touch(s, sk_find_client(s, peer_id(peer)), id, holds);
    if (!rc)
        return e->open;
    peer_send_error(peer, frame->request_id, rc);
    return NULL;
}

/* What would change a sealed timeline. A heartbeat carries on what was acknowledged: it tells how
 * far the log is committed, and without it the last commit before the seal could not be read. It
 * may be the refused record that tells so, and its sender need not say it again.
 *
 * The tool may bring records: it fills a safekeeper that takes another's place with what is
 * committed (cli/member_sealed_sock.c). It gets no vote either, so nothing new can be among them,
 * and the acceptor takes only what chains to what it has. */
static int check_sealed(const struct sk_server *s, const struct peer *peer,
                        const struct sk_message *m)
{
    const struct sk_entry *e = sk_registry_find(&s->registry, &m->msg.timeline);
    const struct sk_client *from = sk_find_client(s, peer_id(peer));
    char id[CO_ID_TEXT];
    bool brings = m->msg.type == FRAME_APPEND && m->msg.payload.len > 0 && !(from && from->tool);
    bool writes = m->msg.type == FRAME_VOTE || brings;
    if (!e || e->state != CORALLITE__TIMELINE_STATE__TIMELINE_SEALED || !writes)
        return 0;
    co_id_format(&e->id, id);
    if (e->message->hidden)
        return co_fail(CO_ERR_DROPPED, "timeline %s (%s) was dropped", id, e->name);
    return co_fail(
        CO_ERR_READONLY,
        "timeline %s is sealed and takes no more records: the branch was reset, and what "
        "it was before is kept as %s; reopen it",
        id, e->name);
}

static void look_at_disk(struct sk_server *s);

static int quorum_frame(struct sk_server *s, struct peer *peer, const struct frame_header *frame,
                        struct co_span body)
{
    struct sk_message *m;
    int rc = sk_message_new(frame, body, &m);
    if (rc)
        return rc;
    /* What comes in between two looks at the disk must not reach into the reserve either. */
    if (frame->type == FRAME_APPEND && m->msg.payload.len && !atomic_load(&s->disk_full)) {
        uint64_t takes = m->msg.payload.len;
        if (takes > s->room_bytes)
            look_at_disk(s);
        if (takes > s->room_bytes)
            atomic_store(&s->disk_full, true);
        else
            s->room_bytes -= takes;
    }
    if (frame->type == FRAME_APPEND && m->msg.payload.len && atomic_load(&s->disk_full)) {
        co_metric_add(&m_refused, 1);
        co_fail(
            CO_ERR_FULL,
            "the disk of safekeeper %u has less than its reserve free; it takes no records until "
            "there is room in %s",
            s->options.identity->node, s->options.dir);
        peer_send_error(peer, frame->request_id, CO_ERR_FULL);
        sk_message_drop(m);
        return 0;
    }
    rc = check_sealed(s, peer, m);
    if (rc)
        peer_send_error(peer, frame->request_id, rc);
    if (rc && frame->type != FRAME_APPEND) {
        sk_message_drop(m);
        return 0;
    }
    if (rc)
        m->msg.payload = co_span_of(NULL, 0); /* what it says beside its records holds */
    if (sk_park(s, peer, &m->msg.timeline, frame, body)) {
        sk_message_drop(m);
        return 0;
    }
    struct sk_timeline *t = timeline_for(s, peer, frame, &m->msg.timeline);
    if (t)
        sk_timeline_message(t, peer, m);
    else
        sk_message_drop(m);
    return 0;
}

static int stream_frame(struct sk_server *s, struct peer *peer, const struct frame_header *frame,
                        struct co_span body)
{
    struct co_id id;
    struct co_span message = co_span_of(body.data, frame->message_bytes);
    Corallite__Stream *m = peer_unpack(&corallite__stream__descriptor, message);
    if (!m)
        return CO_ERR_PROTOCOL;
    int rc = msg_get16("timeline", m->has_timeline, &m->timeline, id.b);
    if (!rc && m->has_durable_lsn)
        sk_follower_told(s, sk_follower_of(s, peer), &id, m->durable_lsn);
    if (!rc && !sk_park(s, peer, &id, frame, body)) {
        struct sk_timeline *t = timeline_for(s, peer, frame, &id);
        if (t)
            sk_timeline_stream(t, peer, frame->request_id, m);
    }
    corallite__stream__free_unpacked(m, NULL);
    return rc;
}

int sk_server_frame(struct sk_server *s, struct peer *peer, const struct frame_header *frame,
                    struct co_span body)
{
    struct co_span message = co_span_of(body.data, frame->message_bytes);
    if (s->stopping || sk_regressed_refuses(s, peer, frame))
        return 0;
    switch (frame->type) {
    case FRAME_VOTE:
    case FRAME_FETCH:
    case FRAME_ELECTED:
    case FRAME_APPEND:
    case FRAME_RELEASE:
    case FRAME_READ_POS:
        return quorum_frame(s, peer, frame, body);
    case FRAME_STREAM:
        return stream_frame(s, peer, frame, body);
    case FRAME_TIMELINE_PUT:
    case FRAME_TIMELINE_LIST:
    case FRAME_NODE_STATUS:
    case FRAME_NODES:
    case FRAME_PAGESERVERS:
        return sk_admin_frame(s, peer, frame, message);
    default:
        return co_fail(CO_ERR_PROTOCOL, "%s is not a request to a safekeeper",
                       frame_type_name(frame->type));
    }
}

static int on_frame(void *owner, struct peer *peer, const struct frame_header *frame,
                    struct co_span body)
{
    return sk_server_frame(owner, peer, frame, body);
}

/* -- Connections
 * ----------------------------------------------------------------------------------- */

static int check_hello(struct sk_server *s, const Corallite__Hello *h)
{
    const struct co_identity *me = s->options.identity;
    char a[CO_ID_TEXT], b[CO_ID_TEXT];
    struct co_id cluster, disk;
    int rc = msg_get16("cluster", h->has_cluster, &h->cluster, cluster.b);
    if (!rc)
        rc = msg_get16("expect_disk", h->has_expect_disk, &h->expect_disk, disk.b);
    if (rc)
        return rc;
    if (h->has_cluster && !co_id_eq(&cluster, &me->cluster))
        return co_fail(CO_ERR_CLUSTER,
                       "this is safekeeper %u of cluster %s, not of cluster %s: check the address",
                       me->node, co_id_format(&me->cluster, a), co_id_format(&cluster, b));
    if (!h->has_cluster && h->role != CORALLITE__ROLE__ROLE_TOOL)
        return co_fail(
            CO_ERR_CLUSTER,
            "a safekeeper is spoken to by computes and pageservers of its own cluster; the "
            "Hello names no cluster");
    if (h->has_expect_node && h->expect_node && h->expect_node != me->node)
        return co_fail(CO_ERR_NODE, "this is safekeeper %u, not %u: the addresses are mixed up",
                       me->node, h->expect_node);
    if (h->has_expect_disk && !co_id_is_zero(&disk) && !co_id_eq(&disk, &me->disk))
        return co_fail(
            CO_ERR_NODE,
            "safekeeper %u has data directory %s here, not %s: two directories use one "
            "node id. An empty one in the place of a lost disk counts for nothing; build "
            "it anew: corallite safekeeper replace %u%s",
            me->node, co_id_format(&me->disk, a), co_id_format(&disk, b), me->node,
            h->role == CORALLITE__ROLE__ROLE_PAGESERVER
                ? ". Where all were made of the archive, the pageserver's directory is the old "
                  "one, of what was lost: give it an empty one, with --take-over"
                : "");
    return 0;
}

static int on_hello(void *owner, struct peer *peer, const Corallite__Hello *hello,
                    const Corallite__HelloOk *ok)
{
    struct sk_server *s = owner;
    const struct co_identity *me = s->options.identity;
    (void)ok;
    uint32_t follower = SK_FOLLOWERS_MAX;
    int rc = check_hello(s, hello);
    if (!rc)
        rc = sk_follower_hello(s, hello, &follower);
    if (!rc)
        rc = add_client(s, peer, follower, hello->role == CORALLITE__ROLE__ROLE_TOOL);
    if (rc)
        return rc;
    Corallite__HelloOk answer = CORALLITE__HELLO_OK__INIT;
    answer.has_protocol = answer.has_cluster = answer.has_node = answer.has_disk =
        answer.has_time_us = 1;
    answer.protocol = CO_PROTOCOL_VERSION;
    answer.cluster = msg_bytes16(me->cluster.b);
    answer.node = me->node;
    answer.disk = msg_bytes16(me->disk.b);
    answer.time_us = co_wall_us();
    answer.build = (char *)(uintptr_t)CO_BUILD_VERSION;
    peer_send(peer, FRAME_HELLO_OK, 0, &answer.base, (struct co_span){0});
    return 0;
}

static void on_close(void *owner, struct peer *peer, const char *reason)
{
    struct sk_server *s = owner;
    struct sk_client *c = sk_find_client(s, peer_id(peer));
    co_assert(c);
    /* `local` only when the other end went away by itself: see acceptor.h. */
    bool local = peer_is_local(peer) && peer_code(peer) == CO_ERR_CLOSED;
    co_debug("safekeeper/server", "connection closed peer=%s reason=%s", peer_address(peer),
             reason);
    struct sk_client gone = *c;
    s->closed_in += peer_bytes_in(peer);
    s->closed_out += peer_bytes_out(peer);
    uint32_t i = client_position(s, gone.conn);
    memmove(&s->clients[i], &s->clients[i + 1], (s->n_clients - i - 1) * sizeof *s->clients);
    co_metric_set(&m_connections, --s->n_clients);
    sk_touched_end(s, &gone, local);
    sk_server_go_on_stopping(s);
}

/* -- Housekeeping
 * ---------------------------------------------------------------------------------- */

static void look_at_disk(struct sk_server *s)
{
    struct statvfs v;
    if (statvfs(s->options.dir, &v))
        return;
    uint64_t total = (uint64_t)v.f_blocks * v.f_frsize, left = (uint64_t)v.f_bavail * v.f_frsize;
    uint64_t reserve = total / 100 * SK_RESERVE_PERCENT;
    if (reserve < RESERVE_MIN_BYTES)
        reserve = RESERVE_MIN_BYTES;
    if (reserve > RESERVE_MAX_BYTES)
        reserve = RESERVE_MAX_BYTES;
    bool full = left < reserve, filling = left < total / 100 * (100 - SK_WARN_PERCENT);
    uint64_t records, syncs, appended;
    sk_store_count(&records, &syncs, &appended);
    co_metric_set(&m_log_bytes, sk_stored_bytes(s, appended));
    co_metric_set(&m_free, left);
    co_metric_set(&m_full, full);
    /* What was told, not the flag: an append that found no room has set that already. */
    if (full != s->told_full)
        co_warn("safekeeper/server", "%s dir=%s free_bytes=%llu reserve_bytes=%llu",
                full ? "the disk is nearly full: no records are taken" : "there is room again",
                s->options.dir, (unsigned long long)left, (unsigned long long)reserve);
    else if (filling && !s->told_disk)
        co_warn("safekeeper/server", "the disk is filling dir=%s free_bytes=%llu", s->options.dir,
                (unsigned long long)left);
    s->told_disk = filling;
    s->told_full = full;
    atomic_store(&s->disk_full, full);
    s->room_bytes = left > reserve ? left - reserve : 0;
}

static void on_housekeeping(uv_timer_t *timer)
{
    struct sk_server *s = timer->data;
    uint64_t now = co_now_us();
    if (s->stopping) {
        sk_server_fail(s, CO_ERR_TIMEOUT,
                       "the safekeeper could not stop cleanly in time; its files are as after a "
                       "crash, nothing that was acknowledged is lost");
        return;
    }
    look_at_disk(s);
    co_metric_set(&m_open, s->n_open);
    co_metric_set(&m_timelines, s->registry.n);
    for (uint32_t i = 0; i < s->n_open; i++)
        sk_timeline_rest(s->open[i].t, now);
    sk_trim_tick(s);
    sk_rest_idle(s, now);
    sk_server_measure(s, MEASURE);
}

static void on_news(uv_timer_t *timer)
{
    struct sk_server *s = timer->data;
    if (s->watched && !s->stopping)
        sk_rest_news(s);
}

/* -- Life
 * ------------------------------------------------------------------------------------------ */

void sk_server_fail(struct sk_server *s, int rc, const char *sentence)
{
    atomic_store(&s->healthy, false);
    s->options.done(s->options.owner, rc, sentence);
}

static void on_store_failed(void *owner, const char *sentence)
{
    sk_server_fail(owner, CO_ERR_IO, sentence);
}

static void on_timeline_failed(void *owner, int code, const char *sentence)
{
    sk_server_fail(owner, code, sentence);
}

static void on_regressed(void *owner, struct sk_timeline *t, const struct q_known *proof)
{
    struct sk_view v;
    if (sk_timeline_view(t, &v))
        sk_regressed_proven(owner, sk_timeline_id(t), &v, proof);
}

static void on_timeline_opened(void *owner, struct sk_timeline *t)
{
    (void)owner;
    (void)t;
}

static void on_timeline_closed(void *owner, struct sk_timeline *t)
{
    struct sk_server *s = owner;
    sk_rest_closed(s, t);
    sk_server_go_on_stopping(s);
}

int sk_server_start(uv_loop_t *loop, const struct sk_server_options *options,
                    struct sk_server **out)
{
    struct co_metric *all[] = {&m_connections, &m_timelines, &m_open,     &m_free,
                               &m_refused,     &m_full,      &m_log_bytes};
    struct sk_server *s = calloc(1, sizeof *s);
    if (!s)
        return co_fail(CO_ERR_NOMEM, "no memory for a server");
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        co_metric_register(all[i]);
    co_process_metrics();
    peer_metrics_register(types, sizeof types / sizeof *types);
    sk_store_register_metrics();
    sk_timeline_register_metrics();
    sk_trim_register_metrics();
    s->options = *options;
    s->loop = loop;
    s->puts_tail = &s->puts;
    s->parked_tail = &s->parked;
    if (!s->options.keep_open)
        s->options.keep_open = SK_KEEP_OPEN;
    if (!s->options.idle_us)
        s->options.idle_us = SK_IDLE_CLOSE_US;
    s->started_us = co_now_us();
    sk_regressed_begin(s);
    co_random_bytes(&s->generation, sizeof s->generation);
    s->host = (struct sk_host){.owner = s,
                               .loop = loop,
                               .data_dir = options->dir,
                               .disk_full = &s->disk_full,
                               .lives = s->options.lives,
                               .regressed = on_regressed,
                               .find = find_peer,
                               .opened = on_timeline_opened,
                               .closed = on_timeline_closed,
                               .failed = on_timeline_failed};
    struct sk_store_events events = {.owner = s, .failed = on_store_failed};
    int rc = 0;
    for (uint32_t i = 0; i < SK_STORES && !rc; i++)
        rc = sk_store_new(loop, &events, i > 0 ? s->stores[i - 1] : NULL, &s->stores[i]);
    if (!rc)
        rc = sk_server_load(s);
    struct peer_handler handler = {
        .owner = s, .on_hello = on_hello, .on_frame = on_frame, .on_close = on_close};
    if (!rc)
        rc = peer_listen(loop, options->host, options->port, &handler, &s->listener);
    if (rc)
        return rc; /* the process ends: nothing is taken down piece by piece */
    uv_timer_init(loop, &s->timer);
    s->timer.data = s;
    uv_timer_start(&s->timer, on_housekeeping, HOUSEKEEPING_MS, HOUSEKEEPING_MS);
    uv_timer_init(loop, &s->news);
    s->news.data = s;
    uv_timer_start(&s->news, on_news, SK_NEWS_MS, SK_NEWS_MS);
    look_at_disk(s);
    co_metric_set(&m_timelines, s->registry.n);
    atomic_store(&s->healthy, true);
    *out = s;
    return 0;
}

uint16_t sk_server_port(const struct sk_server *server)
{
    return peer_server_port(server->listener);
}

bool sk_server_healthy(const struct sk_server *server)
{
    return atomic_load(&server->healthy);
}

void sk_server_stop(struct sk_server *s)
{
    if (s->stopping)
        return;
    s->stopping = true;
    atomic_store(&s->healthy, false);
    uv_timer_start(&s->timer, on_housekeeping, SK_STOP_TIMEOUT_MS, 0);
    peer_server_close(s->listener);
    for (uint32_t i = 0; i < s->registry.n; i++)
        if (s->registry.e[i].open)
            sk_timeline_close(s->registry.e[i].open);
    sk_server_go_on_stopping(s);
}

/* Called whenever something ended: the last one ends the server. */
void sk_server_go_on_stopping(struct sk_server *s)
{
    if (!s->stopping || s->stores_closed || s->n_open || s->puts || s->nodes_put ||
        s->followers_write || s->n_removing || s->n_clients)
        return;
    s->stores_closed = true;
    for (uint32_t i = 0; i < SK_STORES; i++)
        sk_store_close(s->stores[i]);
    uv_close((uv_handle_t *)&s->timer, NULL);
    uv_close((uv_handle_t *)&s->news, NULL);
    free(s->open);
    sk_registry_free(&s->registry);
    free(s->clients);
    s->clients = NULL;
    s->options.done(s->options.owner, 0, "");
}
