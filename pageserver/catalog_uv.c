/*
 * catalog_uv.c - the connections to the safekeepers and their registries of timelines: carries out
 * what registry.c decides.
 *
 * A connection: Hello, TIMELINE_LIST until all is told, then it is listed. Lost ones are made again
 * after 100 ms, 200 ms, ... 2 s. A safekeeper that says nothing for SILENT_MS, asked by a PING
 * every second, is taken for gone.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/server_uv.h"
#include "proto/message.h"
#include "proto/net_sock.h"
#include "proto/unpack.h"

#define MODULE         "pageserver/catalog"
#define RETRY_MIN_MS   100u
#define RETRY_MAX_MS   2000u
#define SILENT_MS      5000u
#define PURGE_ROWS     2000u
#define PURGE_EVERY_MS 20u
#define REBUILT_MS     1000u

static void purge_next(struct ps_server *s);

/* -- Rows in the store ------------------------------------------------------------------------- */

struct row_job {
    struct ps_job job;
    struct ps_server *s;
    struct ps_timeline *tl;
    struct ps_meta meta; /* as it is to be stored */
    bool purge, purged;
    bool load; /* it begins with a snapshot of the archive */
};

static int row_run(struct ps_job *job, struct ps_txn *txn)
{
    struct row_job *row = (struct row_job *)job;
    int rc = ps_write_begin(txn);
    if (!rc && row->purge)
        rc = ps_purge_step(txn, row->tl->line.no, PURGE_ROWS, &row->purged);
    if (!rc && (!row->purge || row->purged))
        rc = ps_timeline_put(txn, row->tl->line.no, row->purged, &row->meta);
    if (!rc && row->load)
        rc = ps_rebuild_mark(txn, row->tl->line.no, PS_REBUILD_SNAPSHOT);
    if (!rc)
        return ps_write_commit(txn);
    ps_write_abort(txn);
    return rc;
}

/* What was hidden and is needed by nobody any more is dropped. */
static void sweep(struct ps_server *s)
{
    struct ps_timeline *tl;
    while ((tl = ps_reg_sweep(&s->reg)))
        ps_catalog_drive(s, tl);
}

/* A restore waits for what it replaces to be sealed. */
static void drive_restore_of(struct ps_server *s, struct ps_timeline *tl)
{
    struct ps_timeline *restore = ps_reg_restoring(&s->reg, tl);
    if (restore)
        ps_catalog_drive(s, restore);
}

static void row_done(struct ps_job *job)
{
    struct row_job *row = (struct row_job *)job;
    struct ps_server *s = row->s;
    struct ps_timeline *tl = row->tl;
    char name[PS_META_NAME_TEXT], id[CO_ID_TEXT];
    tl->storing = 0;
    if (job->rc) {
        co_error(MODULE, "a timeline could not be stored, will be tried again timeline=%s: %s",
                 co_id_format(&tl->meta.id, id), job->why); /* by the tick */
    } else {
        tl->stored = row->meta.version;
        tl->stored_state = row->meta.state;
        co_info(MODULE, "timeline stored name=%s id=%s state=%s version=%llu",
                ps_meta_name(&row->meta, name), co_id_format(&tl->meta.id, id),
                row->meta.state == PS_ACTIVE ? "active" : "dropped",
                (unsigned long long)row->meta.version);
    }
    bool load = row->load && !job->rc;
    free(row);
    if (s->closing)
        return;
    if (load)
        ps_repair_load(s, tl);
    if (ps_timeline_fed(tl)) {
        ps_lineage_open(s, tl);
    } else if (tl->meta.state == PS_DROPPED) {
        ps_feed_close(tl);
        sweep(s);
        purge_next(s);
    }
    if (!ps_timeline_open(tl))
        ps_pages_wake(s, tl); /* who reads it is told */
    ps_catalog_drive(s, tl);
    if (tl->stored_state == PS_SEALED || tl->stored_state == PS_DROPPED)
        drive_restore_of(s, tl);
    ps_serve_asks(s);
}

static struct row_job *row_new(struct ps_server *s, struct ps_timeline *tl,
                               void (*done)(struct ps_job *))
{
    struct row_job *row = calloc(1, sizeof *row);
    if (!row)
        return NULL; /* the tick tries again */
    row->job.run = row_run;
    row->job.done = done;
    row->s = s;
    row->tl = tl;
    row->meta = tl->meta;
    return row;
}

static void store(struct ps_server *s, struct ps_timeline *tl)
{
    struct row_job *row = row_new(s, tl, row_done);
    if (!row)
        return;
    if (!tl->line.no) {
        tl->line.no = s->next_no++;
        ps_lineage_link(s, tl);
        tl->from_snapshot = ps_state_readable(tl->meta.state) && ps_load_has(s, &tl->meta.id);
        tl->rebuilding |= tl->from_snapshot;
    }
    row->load = tl->from_snapshot && !tl->stored;
    row->purged = tl->purged;
    tl->storing = tl->meta.version;
    ps_writer_give(s->writer, &row->job);
}

/* -- What was dropped goes, a little at a time ---------------------------------------------------
 */

/* Nothing of it is left here: safekeepers may remove its files. */
static void tell_purged(struct ps_server *s, struct ps_timeline *tl)
{
    if (!s->reg.heard || s->reg.follows || tl->stored_state != PS_DROPPED || !tl->purged ||
        tl->meta.purged || tl->storing || !ps_archive_lets_go(s, tl))
        return;
    tl->meta.purged = true;
    ps_reg_change(&s->reg, tl, PS_DROPPED);
    ps_catalog_drive(s, tl);
}

static void purge_done(struct ps_job *job)
{
    struct row_job *row = (struct row_job *)job;
    struct ps_server *s = row->s;
    s->purging = false;
    if (job->rc)
        co_error(MODULE, "pages of a dropped timeline could not be deleted: %s", job->why);
    else if (row->purged)
        row->tl->purged = true;
    if (!s->closing)
        tell_purged(s, row->tl);
    free(row);
    if (!s->closing)
        purge_next(s);
}

/* Branches keep seeing their ancestor's pages after it was dropped. */
static bool has_children(const struct ps_server *s, const struct ps_timeline *of)
{
    for (const struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        if (co_id_eq(&tl->meta.ancestor, &of->meta.id) && !tl->purged)
            return true;
    return false;
}

static void on_purge(uv_timer_t *timer)
{
    struct ps_server *s = timer->data;
    struct ps_timeline *tl = s->reg.all;
    bool later = false; /* what is being rebuilt goes when that has ended */
    while (tl && (tl->stored_state != PS_DROPPED || tl->purged || tl->storing ||
                  has_children(s, tl) || tl->rebuilding)) {
        later |= tl->rebuilding;
        tl = tl->next;
    }
    if (!tl && later)
        uv_timer_start(&s->purge, on_purge, REBUILT_MS, 0);
    struct row_job *row = tl && !s->purging ? row_new(s, tl, purge_done) : NULL;
    if (!row)
        return;
    row->purge = true;
    s->purging = true;
    ps_writer_give(s->writer, &row->job);
}

static void purge_next(struct ps_server *s)
{
    if (!s->purging && !uv_is_active((uv_handle_t *)&s->purge))
        uv_timer_start(&s->purge, on_purge, PURGE_EVERY_MS, 0);
}

/* -- Driving a timeline ------------------------------------------------------------------------ */

static void put_on_node(struct ps_server *s, struct ps_timeline *tl, struct ps_node *node)
{
    struct ps_meta_wire wire;
    Corallite__TimelinePut put = CORALLITE__TIMELINE_PUT__INIT;
    ps_meta_to_wire(&tl->meta, &wire);
    put.timeline = &wire.wire;
    tl->asked[node->index] = ++s->last_request;
    peer_send(node->peer, FRAME_TIMELINE_PUT, s->last_request, &put.base, co_span_of(NULL, 0));
}

static void warn_both_active(struct ps_server *s, struct ps_timeline *tl)
{
    struct ps_timeline *o = ps_reg_find_name(&s->reg, tl->meta.database_name, tl->meta.branch);
    char name[PS_META_NAME_TEXT], a[CO_ID_TEXT], b[CO_ID_TEXT];
    if (o && o != tl && o->meta.state != PS_CREATING && ps_timeline_open(tl))
        co_error(MODULE, "two timelines have one name, only one can be opened name=%s ids=%s,%s",
                 ps_meta_name(&tl->meta, name), co_id_format(&tl->meta.id, a),
                 co_id_format(&o->meta.id, b));
}

void ps_catalog_drive(struct ps_server *s, struct ps_timeline *tl)
{
    enum ps_next next;
    ps_loops_publish(s, tl); /* its state may have changed */
    if (s->closing)
        return;
    do {
        for (uint32_t i = 0; i < s->reg.n_nodes; i++)
            if (s->nodes[i].ready && ps_reg_lacks(&s->reg, tl, i))
                put_on_node(s, tl, &s->nodes[i]);
        next = ps_reg_next(&s->reg, tl);
    } while (next == PS_NEXT_CHANGED);
    if (next == PS_NEXT_SEALED)
        ps_catalog_drive(s, ps_reg_find(&s->reg, &tl->meta.replaces));
    if (next == PS_NEXT_STORE && !tl->storing) {
        warn_both_active(s, tl);
        store(s, tl);
    }
}

static void drive_all(struct ps_server *s)
{
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next) {
        tell_purged(s, tl);
        ps_catalog_drive(s, tl);
    }
}

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
    if (s->reg.listed[node->index]) { /* once more */
        node->list_request = 0;
        if (!ps_owner_check(s))
            return;
        if (s->fresh > node->round)
            ask_list(node, NULL);
        if (node->told_new) {
            drive_all(s);
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
    drive_all(s);
    sweep(s);
    ps_lineage_settle(s);
    ps_feeds_node(s, node->index, true);
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

static int node_hello(void *owner, struct peer *peer, const Corallite__Hello *hello,
                      const Corallite__HelloOk *ok)
{
    struct ps_node *node = owner;
    (void)peer;
    (void)hello;
    int rc = msg_get16("disk", ok->has_disk, &ok->disk, node->disk.b);
    if (rc)
        return rc;
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
        return ps_moment_pos(node->s, node->index, frame, body);
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
    (void)peer;
    if (!s->closing && node->id && (node->ready || node->failures == 0 || node->failures % 30 == 0))
        co_warn(MODULE, "no safekeeper node=%u addr=%s:%u: %s", node->id, node->host, node->port,
                reason);
    bool was_ready = node->ready;
    node->peer = NULL;
    node->ready = false;
    node->list_request = 0;
    retry_later(node);
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
    for (uint32_t i = 0; i < s->reg.config.n + s->reg.config.n_new; i++) {
        const struct wal_member *m = i < s->reg.config.n
                                         ? &s->reg.config.members[i]
                                         : &s->reg.config.new_members[i - s->reg.config.n];
        if (m->node_id == node->id && !co_id_is_zero(&m->disk_uuid)) { /* O2, D8 */
            hello.has_expect_disk = 1;
            hello.expect_disk = msg_bytes16(m->disk_uuid.b);
        }
    }
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

/* -- Life -------------------------------------------------------------------------------------- */

static int load_one(void *arg, tlno_t no, bool purged, const struct ps_meta *meta)
{
    struct ps_server *s = arg;
    struct ps_timeline *tl;
    return ps_reg_load(&s->reg, no, purged, meta, &tl);
}

/* Commits above the last-record LSN were never there (P1): the row of the progress is damaged. They
 * are ingested again. */
static int look_above(struct ps_server *s, struct ps_timeline *tl)
{
    char id[CO_ID_TEXT], at[LSN_TEXT], above[LSN_TEXT];
    lsn_t lsn;
    int rc = ps_commit_from(s->read, tl->line.no, tl->chain.last_lsn + 1, &lsn);
    if (rc == CO_ERR_NOT_FOUND || tl->rebuilding)
        return 0;
    if (rc)
        return rc;
    tl->was_behind = true;
    co_warn(MODULE,
            "the store says that a timeline was ingested to one LSN and has commits above it, they "
            "are fetched from the log again timeline=%s last_lsn=%s commit=%s",
            co_id_format(&tl->meta.id, id), lsn_format(tl->chain.last_lsn, at),
            lsn_format(lsn, above));
    return 0;
}

int ps_catalog_load_progress(struct ps_server *s, struct ps_timeline *tl)
{
    struct ps_progress p;
    enum ps_rebuild how;
    int rc = ps_rebuild_pending(s->read, tl->line.no, &how);
    tl->rebuilding = !rc && how != PS_REBUILD_NONE;
    tl->from_snapshot = !rc && how == PS_REBUILD_SNAPSHOT;
    if (!rc)
        rc = ps_cutoff_get(s->read, tl->line.no, &tl->cutoff);
    if (!rc)
        rc = ps_progress_get(s->read, tl->line.no, &p);
    if (rc == CO_ERR_NOT_FOUND)
        return look_above(s, tl);
    if (rc)
        return rc;
    tl->chain.last_lsn = p.last_lsn;
    tl->chain.digest = p.digest;
    rc = look_above(s, tl);
    if (!rc)
        rc = ps_commit_at(s->read, &tl->line, p.last_lsn, &tl->chain.newest);
    if (rc == CO_ERR_NOT_FOUND) {
        tl->chain.newest = (struct ps_commit){0};
        return 0;
    }
    tl->chain.page_size = tl->chain.newest.page_size;
    return rc;
}

int ps_catalog_load(struct ps_server *s)
{
    uint64_t taken_us = 0;
    int rc = ps_reg_init(&s->reg, &s->identity.cluster, &s->identity.disk, s->options->n_nodes);
    s->reg.follows = s->options->follow;
    if (!rc)
        rc = ps_read_renew(s->read);
    if (!rc)
        rc = ps_timeline_next_no(s->read, &s->next_no);
    if (!rc)
        rc = ps_taken_get(s->read, &taken_us);
    if (!rc)
        rc = ps_timeline_each(s->read, load_one, s);
    for (struct ps_timeline *tl = s->reg.all; !rc && tl; tl = tl->next)
        ps_lineage_link(s, tl);
    for (struct ps_timeline *tl = s->reg.all; !rc && tl; tl = tl->next)
        if (ps_state_readable(tl->stored_state))
            rc = ps_catalog_load_progress(s, tl);
    ps_read_reset(s->read);
    return rc ? rc : ps_owner_note(s, taken_us);
}

int ps_catalog_start(struct ps_server *s)
{
    int rc = uv_timer_init(&s->loop, &s->purge);
    co_assert(rc == 0);
    s->purge.data = s;
    ps_nodes_start(s);
    ps_repair_resume(s);
    ps_lineage_settle(s);
    purge_next(s);
    return 0;
}

void ps_catalog_tick(struct ps_server *s)
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
    drive_all(s);
}

void ps_catalog_close(struct ps_server *s)
{
    for (uint32_t i = 0; i < s->reg.n_nodes; i++) {
        struct ps_node *node = &s->nodes[i];
        if (node->peer)
            peer_close(node->peer, "the pageserver stops");
        uv_close((uv_handle_t *)&node->timer, NULL);
    }
    uv_close((uv_handle_t *)&s->purge, NULL);
}

/* The disks of those that were reached. */
static void know_disks(const struct ps_server *s, struct wal_member *members, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < s->reg.n_nodes; k++)
            if (s->nodes[k].id == members[i].node_id && !co_id_is_zero(&s->nodes[k].disk))
                members[i].disk_uuid = s->nodes[k].disk;
}

int ps_catalog_create(struct ps_server *s, const char *db, const char *branch,
                      const struct co_id *database, struct ps_timeline **out)
{
    struct ps_meta meta = {.id = co_id_random(), .start_lsn = LSN_FIRST};
    meta.database = co_id_is_zero(database) ? co_id_random() : *database;
    snprintf(meta.database_name, sizeof meta.database_name, "%s", db);
    snprintf(meta.branch, sizeof meta.branch, "%s", branch);
    return ps_catalog_begin(s, &meta, out);
}

int ps_catalog_begin(struct ps_server *s, struct ps_meta *meta, struct ps_timeline **out)
{
    if (s->list_waits_ms)
        return CO_ERR_AGAIN;
    meta->state = PS_CREATING;
    meta->version = 1;
    meta->created_us = co_wall_us();
    meta->pageserver = s->identity.disk;
    meta->taken_us = s->reg.taken_us;
    ps_reg_birth_config(&s->reg, &meta->config);
    know_disks(s, meta->config.members, meta->config.n);
    int rc = ps_reg_create(&s->reg, meta, out);
    if (!rc)
        ps_catalog_drive(s, *out);
    return rc;
}
