/* admin_uv.c - TIMELINE_PUT, TIMELINE_LIST and NODE_STATUS: what the pageserver and the tool ask.
 */
#include "safekeeper/server.h"

#include <stdlib.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "proto/message.h"

#define PUTS_MAX         1024u
#define LIST_PAGE_BYTES  (256 * CO_KIB)
#define LIST_PAGE_MAX    1024u
#define STATUS_LINES_MAX 400u

/* -- TIMELINE_PUT
 * ---------------------------------------------------------------------------------- */

static void start_put(struct sk_server *s);

static struct peer *peer_of(struct sk_server *s, sk_conn_t conn)
{
    return s->host.find(s->host.owner, conn);
}

static void answer_put(struct sk_put_request *p, int rc, const char *sentence)
{
    struct sk_server *s = p->server;
    struct peer *peer = peer_of(s, p->conn);
    const struct sk_entry *entry = sk_registry_find(&s->registry, &p->entry.id);
    Corallite__TimelinePutOk ok = CORALLITE__TIMELINE_PUT_OK__INIT;
    if (peer && (rc || !entry)) {
        co_fail(rc ? rc : CO_ERR_BUG, "%s", sentence);
        peer_send_error(peer, p->request_id, rc ? rc : CO_ERR_BUG);
    } else if (peer) {
        ok.timeline = entry->message;
        peer_send(peer, FRAME_TIMELINE_PUT_OK, p->request_id, &ok.base, (struct co_span){0});
    }
    s->puts = p->next;
    if (!s->puts)
        s->puts_tail = &s->puts;
    sk_entry_release(&p->entry);
    co_buf_free(&p->registry.buf);
    free(p);
}

/* Store thread: the directory first, then the entry that lists it (G4). */
static int write_put(struct sk_job *job)
{
    struct sk_put_request *p = job->owner;
    struct sk_birth birth = sk_birth_of(p->server, &p->entry);
    int rc =
        p->what == SK_PUT_CREATE && p->entry.state != CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED
            ? sk_files_create(p->server->options.dir, &birth)
            : 0;
    return rc ? rc : sk_registry_write(p->server->options.dir, &p->registry);
}

static void apply_put(struct sk_put_request *p)
{
    struct sk_server *s = p->server;
    char id[CO_ID_TEXT], sentence[CO_SENTENCE_MAX];
    struct co_id key = p->entry.id;
    co_info("safekeeper/server", "timeline %s id=%s name=%s state=%d version=%llu",
            p->what == SK_PUT_CREATE ? "created" : "changed", co_id_format(&key, id), p->entry.name,
            (int)p->entry.state, (unsigned long long)p->entry.version);
    if (p->what == SK_PUT_CREATE)
        p->entry.rest_lsn = p->entry.start_lsn;
    sk_registry_written(&s->registry, &p->registry);
    s->generation++;
    if (sk_registry_put(&s->registry, &p->entry)) {
        sk_server_fail(s, CO_ERR_NOMEM, co_sentence());
        return;
    }
    p->entry.id = key;
    struct sk_entry *entry = sk_registry_find(&s->registry, &key);
    if (entry->state == CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED && entry->open) {
        co_fail(CO_ERR_DROPPED, "timeline %s (%s) was dropped", id, entry->name);
        memcpy(sentence, co_sentence(), sizeof sentence);
        sk_timeline_refuse(entry->open, CO_ERR_DROPPED, sentence);
        sk_timeline_close(entry->open);
    }
    sk_remove_files(s, entry);
}

static void on_put_written(struct sk_job *job)
{
    struct sk_put_request *p = job->owner;
    struct sk_server *s = p->server;
    int rc = job->rc;
    if (rc == CO_ERR_IO || rc == CO_ERR_FULL)
        sk_server_fail(s, rc, job->sentence);
    if (!rc)
        apply_put(p);
    answer_put(p, rc, job->sentence);
    start_put(s);
    sk_server_go_on_stopping(s);
}

static void start_put(struct sk_server *s)
{
    while (s->puts) {
        struct sk_put_request *p = s->puts;
        int rc = sk_registry_judge(&s->registry, &p->entry, &p->what);
        if (!rc && p->what != SK_PUT_NOTHING)
            rc = sk_registry_encode(&s->registry, &p->entry, &p->registry);
        if (rc || p->what == SK_PUT_NOTHING) {
            answer_put(p, rc, co_sentence());
            continue;
        }
        p->job = (struct sk_job){
            .kind = SK_JOB_CALL, .call = write_put, .done = on_put_written, .owner = p};
        sk_store_submit(s->stores[0], &p->job);
        return;
    }
}

static int put_request(struct sk_server *s, struct peer *peer, uint64_t request_id,
                       const Corallite__TimelinePut *m)
{
    uint32_t waiting = 0;
    for (const struct sk_put_request *p = s->puts; p; p = p->next)
        waiting++;
    if (waiting >= PUTS_MAX)
        return co_fail(CO_ERR_BUSY, "%u changes of timelines wait already; ask again later",
                       waiting);
    struct sk_put_request *p = calloc(1, sizeof *p);
    if (!p)
        return co_fail(CO_ERR_NOMEM, "no memory for a change of a timeline");
    int rc = m->timeline ? sk_entry_parse(m->timeline, &p->entry)
                         : co_fail(CO_ERR_INVAL, "TIMELINE_PUT without a timeline");
    if (rc) {
        free(p);
        return rc;
    }
    p->server = s;
    p->conn = peer_id(peer);
    p->request_id = request_id;
    bool first = !s->puts;
    *s->puts_tail = p;
    s->puts_tail = &p->next;
    if (first)
        start_put(s);
    return 0;
}

/* -- TIMELINE_LIST
 * --------------------------------------------------------------------------------- */

static int list_timelines(struct sk_server *s, struct peer *peer, uint64_t request_id,
                          const Corallite__TimelineList *m)
{
    struct co_id after;
    struct sk_client *client = sk_find_client(s, peer_id(peer));
    int rc = msg_get16("after", m->has_after, &m->after, after.b);
    if (rc)
        return rc;
    bool begins = m->has_watch && m->watch && !client->watches;
    if (begins)
        s->watched = client->watches = true;
    struct sk_entry *e = sk_registry_after(&s->registry, m->has_after ? &after : NULL);
    const struct sk_entry *end = s->registry.e + s->registry.n;
    Corallite__Timeline *list[LIST_PAGE_MAX];
    uint64_t commits[LIST_PAGE_MAX];
    Corallite__TimelineListed listed = CORALLITE__TIMELINE_LISTED__INIT;
    size_t bytes = 0;
    listed.has_generation = 1;
    listed.generation = s->generation;
    /* Who begins to watch wants the commit LSNs, whatever it knows. */
    if (m->has_known && m->known == s->generation && !begins && !m->has_after)
        e = NULL;
    for (; e && e < end && bytes < LIST_PAGE_BYTES && listed.n_timelines < LIST_PAGE_MAX; e++) {
        if (client->watches)
            commits[listed.n_commit_lsn++] = sk_rest_commit(s, e);
        list[listed.n_timelines++] = e->message;
        bytes += corallite__timeline__get_packed_size(e->message) + 8;
    }
    listed.timelines = list;
    listed.commit_lsn = commits;
    listed.has_more = 1;
    listed.has_news = client->watches; /* of which there are none yet: it will tell */
    listed.more = e && e < end;
    for (uint32_t i = 0; i < s->registry.n && !listed.has_pageserver; i++) {
        const Corallite__Timeline *t = s->registry.e[i].message;
        listed.has_pageserver = t->has_pageserver;
        listed.pageserver = t->pageserver;
    }
    peer_send(peer, FRAME_TIMELINE_LISTED, request_id, &listed.base, (struct co_span){0});
    return 0;
}

/* -- NODE_STATUS
 * ----------------------------------------------------------------------------------- */

/* Of one at rest: what it was closed with. */
static void line_at_rest(const struct sk_server *s, const struct sk_entry *e,
                         Corallite__NodeStatus__PerTimeline *line)
{
    struct sk_control control;
    if (!sk_server_peek(s, e, &control))
        return;
    line->has_term = line->has_flush_lsn = line->has_commit_lsn = line->has_lease_held = 1;
    line->term = control.term;
    line->flush_lsn = control.sealed_lsn;
    line->commit_lsn = control.commit_lsn;
}

static void status_line(const struct sk_server *s, struct sk_entry *e,
                        Corallite__NodeStatus__PerTimeline *line)
{
    struct sk_view v;
    corallite__node_status__per_timeline__init(line);
    line->has_id = 1;
    line->id = msg_bytes16(e->id.b);
    line->name = e->name;
    if (!e->open) {
        line_at_rest(s, e, line);
        return;
    }
    line->has_bytes_in = line->has_records = 1;
    sk_timeline_count(e->open, &line->bytes_in, &line->records);
    const char *refusal = sk_timeline_refusal(e->open);
    line->refused = *refusal ? (char *)(uintptr_t)refusal : NULL;
    if (!sk_timeline_view(e->open, &v))
        return;
    line->has_term = line->has_flush_lsn = line->has_commit_lsn = line->has_lease_held = 1;
    line->term = v.term;
    line->flush_lsn = v.flush_lsn;
    line->commit_lsn = v.commit_lsn;
    line->lease_held = v.lease_held;
}

static int node_status(struct sk_server *s, struct peer *peer, uint64_t request_id)
{
    Corallite__NodeStatus st = CORALLITE__NODE_STATUS__INIT;
    Corallite__NodeStatus__PerTimeline *lines = calloc(STATUS_LINES_MAX, sizeof *lines);
    Corallite__NodeStatus__PerTimeline **list = calloc(STATUS_LINES_MAX, sizeof(void *));
    uint64_t log_bytes;
    if (!lines || !list) {
        free(lines);
        free(list);
        return co_fail(CO_ERR_NOMEM, "no memory for a status");
    }
    st.has_node = st.has_disk = st.has_timelines = st.has_uptime_us = st.has_log_bytes = 1;
    st.has_records = st.has_syncs = st.has_bytes_in = st.has_bytes_out = 1;
    st.node = s->options.identity->node;
    st.disk = msg_bytes16(s->options.identity->disk.b);
    st.timelines = s->registry.n;
    st.uptime_us = co_now_us() - s->started_us;
    sk_store_count(&st.records, &st.syncs, &log_bytes);
    st.log_bytes = sk_stored_bytes(s, log_bytes);
    for (uint32_t i = 0; i < s->n_clients; i++) {
        st.bytes_in += peer_bytes_in(s->clients[i].peer);
        st.bytes_out += peer_bytes_out(s->clients[i].peer);
    }
    st.has_starts = 1;
    st.starts = s->options.lives->starts;
    st.regressed = s->options.lives->regressed[0] ? s->options.lives->regressed : NULL;
    st.bytes_in += s->closed_in;
    st.bytes_out += s->closed_out;
    for (uint32_t i = 0; i < s->registry.n && st.n_timeline < STATUS_LINES_MAX; i++) {
        if (s->registry.e[i].state == CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED)
            continue;
        list[st.n_timeline] = &lines[st.n_timeline];
        status_line(s, &s->registry.e[i], list[st.n_timeline++]);
    }
    st.timeline = list;
    peer_send(peer, FRAME_NODE_STATUS_OK, request_id, &st.base, (struct co_span){0});
    free(lines);
    free(list);
    return 0;
}

/* -- NODES
 * ----------------------------------------------------------------------------------------- */

static void send_nodes(struct sk_server *s, struct peer *peer, uint64_t request_id)
{
    struct nodes_message m;
    nodes_fill(&s->nodes, &m);
    peer_send(peer, FRAME_NODES_OK, request_id, &m.pb.base, (struct co_span){0});
}

static int write_nodes(struct sk_job *job)
{
    struct sk_nodes_request *r = job->owner;
    return sk_nodes_save(r->server->options.dir, &r->nodes);
}

static void on_nodes_written(struct sk_job *job)
{
    struct sk_nodes_request *r = job->owner;
    struct sk_server *s = r->server;
    struct peer *peer = peer_of(s, r->conn);
    s->nodes_put = NULL;
    if (job->rc) {
        sk_server_fail(s, job->rc, job->sentence);
    } else {
        s->nodes = r->nodes;
        co_info("safekeeper/server",
                "safekeepers of the cluster changed version=%u members=%u replacing=%s",
                s->nodes.config.version, s->nodes.config.n, s->nodes.config.n_new ? "yes" : "no");
        if (peer)
            send_nodes(s, peer, r->request_id);
    }
    free(r);
    sk_server_go_on_stopping(s);
}

static int nodes_request(struct sk_server *s, struct peer *peer, uint64_t request_id,
                         const Corallite__Nodes *m)
{
    struct nodes nodes;
    int rc = nodes_read(m, &nodes);
    if (rc)
        return rc;
    if (nodes.config.version <= s->nodes.config.version) {
        send_nodes(s, peer, request_id);
        return 0;
    }
    if (s->options.lives->regressed[0])
        return co_fail(CO_ERR_REGRESSED, "%s", s->options.lives->regressed);
    if (s->nodes_put)
        return co_fail(CO_ERR_BUSY, "another change of the list of safekeepers is being written");
    struct sk_nodes_request *r = calloc(1, sizeof *r);
    if (!r)
        return co_fail(CO_ERR_NOMEM, "no memory for a list of safekeepers");
    *r = (struct sk_nodes_request){
        .server = s, .conn = peer_id(peer), .request_id = request_id, .nodes = nodes};
    r->job = (struct sk_job){
        .kind = SK_JOB_CALL, .call = write_nodes, .done = on_nodes_written, .owner = r};
    s->nodes_put = r;
    sk_store_submit(s->stores[0], &r->job);
    return 0;
}

/* -- Dispatch
 * -------------------------------------------------------------------------------------- */

/* Refusals of a sound request are an answer; only malformed ones close the connection. */
static int answered(struct peer *peer, uint64_t request_id, int rc)
{
    if (!rc || rc == CO_ERR_PROTOCOL)
        return rc;
    peer_send_error(peer, request_id, rc);
    return 0;
}

int sk_admin_frame(struct sk_server *s, struct peer *peer, const struct frame_header *frame,
                   struct co_span message)
{
    int rc = 0;
    uint64_t id = frame->request_id;
    if (frame->type == FRAME_NODE_STATUS)
        return answered(peer, id, node_status(s, peer, id));
    if (frame->type == FRAME_NODES) {
        Corallite__Nodes *m = peer_unpack(&corallite__nodes__descriptor, message);
        rc = m ? nodes_request(s, peer, id, m) : CO_ERR_PROTOCOL;
        if (m)
            corallite__nodes__free_unpacked(m, NULL);
    } else if (frame->type == FRAME_PAGESERVERS) {
        Corallite__Pageservers *m = peer_unpack(&corallite__pageservers__descriptor, message);
        rc = m ? sk_pageservers(s, peer, id, sk_follower_of(s, peer), m) : CO_ERR_PROTOCOL;
        if (m)
            corallite__pageservers__free_unpacked(m, NULL);
    } else if (frame->type == FRAME_TIMELINE_PUT) {
        Corallite__TimelinePut *m = peer_unpack(&corallite__timeline_put__descriptor, message);
        rc = m ? put_request(s, peer, id, m) : CO_ERR_PROTOCOL;
        if (m)
            corallite__timeline_put__free_unpacked(m, NULL);
    } else {
        Corallite__TimelineList *m = peer_unpack(&corallite__timeline_list__descriptor, message);
        rc = m ? list_timelines(s, peer, id, m) : CO_ERR_PROTOCOL;
        if (m)
            corallite__timeline_list__free_unpacked(m, NULL);
    }
    return answered(peer, id, rc);
}
