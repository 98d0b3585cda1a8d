#include "tests/unit/pageserver/fake_keepers.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/assert.h"
#include "proto/message.h"
#include "proto/qmsg.h"
#include "proto/unpack.h"

#define NOTHING co_span_of(NULL, 0)

static lsn_t *commit_of(struct fake *f, const struct co_id *id, uint32_t node, struct co_buf **log)
{
    for (uint32_t i = 0; i < f->n_lines; i++)
        if (co_id_eq(&f->line[i].id, id)) {
            *log = &f->line[i].log;
            return &f->line[i].commit[node];
        }
    return NULL;
}

/* With the byte that its disk has lost. */
static void send_part(const struct fake_poll *p, lsn_t rot, const Corallite__StreamData *d,
                      struct co_span part)
{
    lsn_t begin = p->from + (d->fragment ? p->fragment_at : 0);
    struct co_buf copy = {0};
    co_assert(co_buf_append(&copy, part.data, part.len) == 0);
    if (rot >= begin && rot < begin + part.len)
        copy.data[rot - begin] ^= 0x10;
    peer_send(p->peer, FRAME_STREAM_DATA, p->request, &d->base, co_buf_span(&copy));
    co_buf_free(&copy);
}

/* Answers a poll if there is something; true: answered. */
static bool answer(struct fake *f, const struct fake_poll *p)
{
    struct co_buf *log;
    lsn_t *commit = commit_of(f, &p->timeline, p->node, &log);
    if (f->node[p->node].silent || !commit || *commit <= p->from)
        return false;
    lsn_t start = 0;
    for (uint32_t i = 0; i < f->n_lines; i++)
        if (&f->line[i].log == log)
            start = f->line[i].start;
    co_assert(p->from >= start);
    Corallite__StreamData d = CORALLITE__STREAM_DATA__INIT;
    d.has_timeline = d.has_from_lsn = d.has_commit_lsn = d.has_flush_lsn = 1;
    d.timeline = msg_bytes16(p->timeline.b);
    d.from_lsn = p->from;
    d.commit_lsn = d.flush_lsn = *commit;
    struct co_span all = {log->data + (p->from - start), (size_t)(*commit - p->from)};
    struct wal_header h;
    size_t n = 0;
    if (wal_peek(all, &h) == 0 && h.total_bytes > CO_BATCH_BYTES) {
        uint64_t left = h.total_bytes - p->fragment_at;
        d.has_fragment = d.has_fragment_at = d.fragment = 1;
        d.fragment_at = p->fragment_at;
        n = left < CO_BATCH_BYTES ? left : CO_BATCH_BYTES;
        all.data += p->fragment_at;
    } else {
        while (n < all.len && wal_peek(co_span_of(all.data + n, all.len - n), &h) == 0 &&
               n + h.total_bytes <= CO_BATCH_BYTES)
            n += h.total_bytes;
        n = n ? n : all.len; /* what a test made unsound goes as it is */
    }
    send_part(p, f->node[p->node].rot, &d, co_span_of(all.data, n));
    return true;
}

static void answer_all(struct fake *f)
{
    for (uint32_t i = 0; i < f->n_polls;)
        if (answer(f, &f->poll[i]))
            f->poll[i] = f->poll[--f->n_polls];
        else
            i++;
}

static int on_hello(void *owner, struct peer *peer, const Corallite__Hello *hello,
                    const Corallite__HelloOk *unused)
{
    struct fake_node *n = owner;
    struct co_id disk = {{(uint8_t)(n->index + 1)}};
    (void)unused, (void)hello;
    Corallite__HelloOk ok = CORALLITE__HELLO_OK__INIT;
    ok.has_protocol = ok.has_cluster = ok.has_node = ok.has_disk = 1;
    ok.protocol = CO_PROTOCOL_VERSION;
    ok.cluster = msg_bytes16(n->fake->cluster.b);
    ok.node = n->index + 1;
    ok.disk = msg_bytes16(disk.b);
    peer_send(peer, FRAME_HELLO_OK, 0, &ok.base, NOTHING);
    return 0;
}

/* Two timelines a page, so that paging is tried. */
static void list(struct fake_node *n, struct peer *peer, uint64_t request, struct co_span message)
{
    Corallite__TimelineList *m = message_unpack(&corallite__timeline_list__descriptor, message);
    Corallite__TimelineListed listed = CORALLITE__TIMELINE_LISTED__INIT;
    struct ps_meta_wire wire[2];
    Corallite__Timeline *list_of[2];
    struct co_id after = {{0}};
    co_assert(m);
    if (m->has_after)
        memcpy(after.b, m->after.data, 16);
    protobuf_c_message_free_unpacked(&m->base, NULL);
    listed.timelines = list_of;
    listed.has_more = 1;
    for (;;) {
        struct ps_meta *next = NULL;
        for (uint32_t i = 0; i < n->n; i++)
            if (memcmp(n->meta[i].id.b, after.b, 16) > 0 &&
                (!next || memcmp(n->meta[i].id.b, next->id.b, 16) < 0))
                next = &n->meta[i];
        if (!next)
            break;
        if (listed.n_timelines == 2) {
            listed.more = 1;
            break;
        }
        ps_meta_to_wire(next, &wire[listed.n_timelines]);
        list_of[listed.n_timelines] = &wire[listed.n_timelines].wire;
        listed.n_timelines++;
        after = next->id;
    }
    peer_send(peer, FRAME_TIMELINE_LISTED, request, &listed.base, NOTHING);
}

static struct ps_meta *keep(struct fake_node *n, const struct ps_meta *meta)
{
    uint32_t i = 0;
    while (i < n->n && !co_id_eq(&n->meta[i].id, &meta->id))
        i++;
    co_assert(i < FAKE_LINES);
    if (i == n->n)
        n->n++;
    else if (n->meta[i].version >= meta->version)
        return &n->meta[i];
    n->meta[i] = *meta;
    return &n->meta[i];
}

static void put(struct fake_node *n, struct peer *peer, uint64_t request, struct co_span message)
{
    Corallite__TimelinePut *m = message_unpack(&corallite__timeline_put__descriptor, message);
    Corallite__TimelinePutOk ok = CORALLITE__TIMELINE_PUT_OK__INIT;
    struct ps_meta meta;
    struct ps_meta_wire wire;
    co_assert(m && m->timeline);
    int rc = ps_meta_from_wire(m->timeline, &meta);
    co_assert(rc == 0);
    protobuf_c_message_free_unpacked(&m->base, NULL);
    ps_meta_to_wire(keep(n, &meta), &wire);
    ok.timeline = &wire.wire;
    peer_send(peer, FRAME_TIMELINE_PUT_OK, request, &ok.base, NOTHING);
}

static void tell_nodes(struct fake_node *n, struct peer *peer, uint64_t request)
{
    struct nodes_message m;
    if (n->fake->nodes.config.version == 0)
        return;
    nodes_fill(&n->fake->nodes, &m);
    peer_send(peer, FRAME_NODES_OK, request, &m.pb.base, NOTHING);
    n->told_nodes++;
}

static void stream(struct fake_node *n, struct peer *peer, uint64_t request, struct co_span message)
{
    struct fake *f = n->fake;
    Corallite__Stream *m = message_unpack(&corallite__stream__descriptor, message);
    struct fake_poll p = {.peer = peer, .node = n->index, .request = request};
    co_assert(m && m->timeline.len == 16);
    memcpy(p.timeline.b, m->timeline.data, 16);
    p.from = m->from_lsn;
    p.fragment_at = m->has_fragment_at ? m->fragment_at : 0;
    protobuf_c_message_free_unpacked(&m->base, NULL);
    if (!answer(f, &p)) {
        co_assert(f->n_polls < sizeof f->poll / sizeof *f->poll);
        f->poll[f->n_polls++] = p;
    }
}

static lsn_t start_of(const struct fake *f, const struct co_id *id)
{
    for (uint32_t i = 0; i < FAKE_NODES; i++)
        for (uint32_t k = 0; k < f->node[i].n; k++)
            if (co_id_eq(&f->node[i].meta[k].id, id))
                return f->node[i].meta[k].start_lsn;
    return LSN_FIRST;
}

static struct fake_line *line_of(struct fake *f, const struct co_id *id)
{
    for (uint32_t i = 0; i < f->n_lines; i++)
        if (co_id_eq(&f->line[i].id, id))
            return &f->line[i];
    return NULL;
}

static lsn_t flushed(const struct fake_line *l, uint32_t node)
{
    lsn_t lsn = l->has[node] > l->commit[node] ? l->has[node] : l->commit[node];
    return lsn + (node == 0 ? l->tail : 0);
}

static void say(struct peer *peer, const struct q_msg *m)
{
    struct co_buf out = {0};
    int rc = qmsg_encode(m, &out);
    co_assert(rc == 0);
    peer_send_raw(peer, &out);
}

static void read_pos(struct fake_node *n, struct peer *peer, const struct q_msg *m)
{
    struct fake_line *l = line_of(n->fake, &m->timeline);
    struct q_term term = {.term = 3, .start = start_of(n->fake, &m->timeline)};
    struct q_msg pos = {.type = FRAME_POS, .timeline = m->timeline, .read_id = m->read_id};
    pos.term = l && l->told[n->index].term ? l->told[n->index].term : 3;
    pos.commit_lsn = l ? l->commit[n->index] : term.start;
    pos.flush_lsn = l ? flushed(l, n->index) : term.start;
    pos.last_log_term = 3;
    if (m->want_history)
        pos.history = (struct q_history){1, &term};
    if (l && m->want_history)
        l->told[n->index].kept = pos.commit_lsn;
    if (n->mute && m->want_history)
        return;
    if (n->doubts)
        pos.suspect_lsn = pos.flush_lsn + 8;
    say(peer, &pos);
}

/* ELECTED, APPEND without records, RELEASE: as a leader's who cuts nothing. */
static void lead(struct fake_node *n, struct peer *peer, const struct q_msg *m)
{
    struct fake_line *l = line_of(n->fake, &m->timeline);
    struct q_msg ack = {
        .type = FRAME_ACK, .timeline = m->timeline, .term = m->term, .nonce = m->nonce};
    co_assert(l);
    struct fake_told *t = &l->told[n->index];
    lsn_t flush = flushed(l, n->index), *commit = &l->commit[n->index];
    if (m->type == FRAME_RELEASE) {
        t->released++;
        return;
    }
    co_assert(m->type == FRAME_ELECTED ? m->term > t->term : m->term == t->term);
    t->term = m->term;
    if (m->type == FRAME_ELECTED) {
        t->elected++;
        t->start = m->start_lsn;
        t->term_start = m->history.e[m->history.n - 1].start;
    } else {
        t->commit = m->commit_lsn;
        lsn_t told = t->commit < flush ? t->commit : flush;
        *commit = told > *commit ? told : *commit;
        answer_all(n->fake);
    }
    ack.flush_lsn = ack.write_lsn = flush;
    ack.commit_lsn = *commit;
    say(peer, &ack);
}

static void quorum(struct fake_node *n, struct peer *peer, const struct frame_header *frame,
                   struct co_span body)
{
    struct qmsg_scratch scratch = {0};
    struct q_msg m;
    int rc = qmsg_decode(frame, body, &scratch, &m);
    co_assert(rc == 0);
    if (m.type == FRAME_READ_POS)
        read_pos(n, peer, &m);
    else
        lead(n, peer, &m);
    qmsg_scratch_free(&scratch);
}

static int on_frame(void *owner, struct peer *peer, const struct frame_header *frame,
                    struct co_span body)
{
    struct fake_node *n = owner;
    struct co_span message = co_span_of(body.data, frame->message_bytes);
    uv_mutex_lock(&n->fake->mutex);
    if (n->silent && frame->type != FRAME_STREAM)
        ;
    else if (frame->type == FRAME_TIMELINE_LIST)
        list(n, peer, frame->request_id, message);
    else if (frame->type == FRAME_NODES)
        tell_nodes(n, peer, frame->request_id);
    else if (frame->type == FRAME_TIMELINE_PUT)
        put(n, peer, frame->request_id, message);
    else if (frame->type == FRAME_STREAM)
        stream(n, peer, frame->request_id, message);
    else if (frame->type == FRAME_READ_POS || frame->type == FRAME_ELECTED ||
             frame->type == FRAME_APPEND || frame->type == FRAME_RELEASE)
        quorum(n, peer, frame, body);
    uv_mutex_unlock(&n->fake->mutex);
    return 0;
}

static void on_close(void *owner, struct peer *peer, const char *reason)
{
    struct fake *f = ((struct fake_node *)owner)->fake;
    (void)reason;
    uv_mutex_lock(&f->mutex);
    for (uint32_t i = 0; i < f->n_polls;)
        if (f->poll[i].peer == peer)
            f->poll[i] = f->poll[--f->n_polls];
        else
            i++;
    uv_mutex_unlock(&f->mutex);
}

static void set_listener(struct fake_node *n)
{
    struct peer_handler h = {n, on_hello, on_frame, on_close};
    if (n->want_up && !n->up) {
        int rc = peer_listen(&n->fake->loop, "127.0.0.1", n->port, &h, &n->server);
        if (rc)
            return; /* the old one is going: asked again */
        n->port = peer_server_port(n->server);
    } else if (!n->want_up && n->up) {
        peer_server_close(n->server);
    }
    n->up = n->want_up;
}

static void on_async(uv_async_t *async)
{
    struct fake *f = async->data;
    uv_mutex_lock(&f->mutex);
    for (uint32_t i = 0; i < FAKE_NODES; i++) {
        f->node[i].want_up &= !f->stop;
        set_listener(&f->node[i]);
    }
    answer_all(f);
    bool stop = f->stop;
    uv_mutex_unlock(&f->mutex);
    if (stop)
        uv_close((uv_handle_t *)async, NULL);
}

static void run(void *arg)
{
    struct fake *f = arg;
    uv_run(&f->loop, UV_RUN_DEFAULT);
}

void fake_start(struct fake *f, const struct co_id *cluster)
{
    *f = (struct fake){.cluster = *cluster};
    int rc = uv_loop_init(&f->loop) | uv_mutex_init(&f->mutex) |
             uv_async_init(&f->loop, &f->async, on_async);
    co_assert(rc == 0);
    f->async.data = f;
    for (uint32_t i = 0; i < FAKE_NODES; i++) {
        f->node[i] = (struct fake_node){.fake = f, .index = i, .want_up = true};
        set_listener(&f->node[i]);
        co_assert(f->node[i].up);
    }
    rc = uv_thread_create(&f->thread, run, f);
    co_assert(rc == 0);
}

void fake_stop(struct fake *f)
{
    uv_mutex_lock(&f->mutex);
    f->stop = true;
    uv_mutex_unlock(&f->mutex);
    uv_async_send(&f->async);
    uv_thread_join(&f->thread);
    for (uint32_t i = 0; i < f->n_lines; i++)
        co_buf_free(&f->line[i].log);
    uv_loop_close(&f->loop);
    uv_mutex_destroy(&f->mutex);
}

static void catch_up(struct fake *f)
{
    for (uint32_t l = 0; l < f->n_lines; l++)
        for (uint32_t i = 0; i < FAKE_NODES; i++)
            if (!f->node[i].frozen)
                f->line[l].commit[i] = f->line[l].start + f->line[l].log.len;
}

void fake_append(struct fake *f, const struct co_id *timeline, const struct co_buf *records)
{
    uv_mutex_lock(&f->mutex);
    uint32_t l = 0;
    while (l < f->n_lines && !co_id_eq(&f->line[l].id, timeline))
        l++;
    co_assert(l < FAKE_LINES);
    if (l == f->n_lines) {
        f->line[l].id = *timeline;
        f->line[l].start = start_of(f, timeline);
        for (uint32_t i = 0; i < FAKE_NODES; i++)
            f->line[l].commit[i] = f->line[l].start;
        f->n_lines++;
    }
    int rc = co_buf_append(&f->line[l].log, records->data, records->len);
    co_assert(rc == 0);
    catch_up(f);
    uv_mutex_unlock(&f->mutex);
    uv_async_send(&f->async);
}

void fake_set_up(struct fake *f, uint32_t node, bool up)
{
    for (bool done = false; !done; usleep(1000)) {
        uv_mutex_lock(&f->mutex);
        f->node[node].want_up = up;
        done = f->node[node].up == up;
        uv_mutex_unlock(&f->mutex);
        uv_async_send(&f->async);
    }
}

void fake_set_silent(struct fake *f, uint32_t node, bool silent)
{
    uv_mutex_lock(&f->mutex);
    f->node[node].silent = silent;
    uv_mutex_unlock(&f->mutex);
    uv_async_send(&f->async);
}

void fake_tell_nodes(struct fake *f, uint32_t by, const struct nodes *nodes)
{
    uv_mutex_lock(&f->mutex);
    f->nodes = *nodes;
    f->node[by].told_nodes = 0;
    uv_mutex_unlock(&f->mutex);
    for (bool told = false; !told; usleep(1000)) {
        uv_mutex_lock(&f->mutex);
        told = f->node[by].told_nodes >= 2; /* what it told first was looked at */
        uv_mutex_unlock(&f->mutex);
    }
}

void fake_set_frozen(struct fake *f, uint32_t node, bool frozen)
{
    uv_mutex_lock(&f->mutex);
    f->node[node].frozen = frozen;
    catch_up(f);
    uv_mutex_unlock(&f->mutex);
    uv_async_send(&f->async);
}

void fake_set_tail(struct fake *f, const struct co_id *timeline, lsn_t bytes)
{
    uv_mutex_lock(&f->mutex);
    for (uint32_t i = 0; i < f->n_lines; i++)
        if (co_id_eq(&f->line[i].id, timeline))
            f->line[i].tail = bytes;
    uv_mutex_unlock(&f->mutex);
}

void fake_set_has(struct fake *f, const struct co_id *timeline, uint32_t node, lsn_t lsn)
{
    uv_mutex_lock(&f->mutex);
    struct fake_line *l = line_of(f, timeline);
    co_assert(l);
    l->has[node] = lsn;
    uv_mutex_unlock(&f->mutex);
}

void fake_set_doubts(struct fake *f, uint32_t node, bool doubts)
{
    uv_mutex_lock(&f->mutex);
    f->node[node].doubts = doubts;
    uv_mutex_unlock(&f->mutex);
}

void fake_set_mute(struct fake *f, uint32_t node, bool mute)
{
    uv_mutex_lock(&f->mutex);
    f->node[node].mute = mute;
    uv_mutex_unlock(&f->mutex);
}

void fake_set_rot(struct fake *f, uint32_t node, lsn_t lsn)
{
    uv_mutex_lock(&f->mutex);
    f->node[node].rot = lsn;
    uv_mutex_unlock(&f->mutex);
}

struct fake_told fake_told(struct fake *f, const struct co_id *timeline, uint32_t node)
{
    uv_mutex_lock(&f->mutex);
    struct fake_line *l = line_of(f, timeline);
    co_assert(l);
    struct fake_told told = l->told[node];
    uv_mutex_unlock(&f->mutex);
    return told;
}

bool fake_holds_id(struct fake *f, uint32_t node, const struct co_id *id, struct ps_meta *out)
{
    bool found = false;
    uv_mutex_lock(&f->mutex);
    for (uint32_t i = 0; i < f->node[node].n; i++)
        if (co_id_eq(&f->node[node].meta[i].id, id)) {
            *out = f->node[node].meta[i];
            found = true;
        }
    uv_mutex_unlock(&f->mutex);
    return found;
}

void fake_lose(struct fake *f, uint32_t node, const struct co_id *id)
{
    struct fake_node *n = &f->node[node];
    uv_mutex_lock(&f->mutex);
    for (uint32_t i = 0; i < n->n; i++)
        if (co_id_eq(&n->meta[i].id, id))
            n->meta[i] = n->meta[--n->n];
    uv_mutex_unlock(&f->mutex);
}

bool fake_holds(struct fake *f, uint32_t node, const char *db, struct ps_meta *out)
{
    bool found = false;
    uv_mutex_lock(&f->mutex);
    for (uint32_t i = 0; i < f->node[node].n; i++)
        if (strcmp(f->node[node].meta[i].database_name, db) == 0) {
            *out = f->node[node].meta[i];
            found = true;
        }
    uv_mutex_unlock(&f->mutex);
    return found;
}

void fake_put(struct fake *f, uint32_t node, const struct ps_meta *meta)
{
    uv_mutex_lock(&f->mutex);
    keep(&f->node[node], meta);
    uv_mutex_unlock(&f->mutex);
}
