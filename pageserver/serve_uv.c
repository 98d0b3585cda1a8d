/*
 * serve_uv.c - the sessions of computes and tools; asks; and everything about names of databases:
 * OPEN, CREATE, DROP, DB_LIST, SERVER_STATUS.
 *
 * A request about names or moments that cannot be answered yet (the registry is not known, a
 * creation or a drop is under way, the log has to come) becomes an ask; every change of the
 * registry and of a log that is waited for looks at all asks again, a timer does so every AGAIN_MS
 * while there are any, and ends those whose time is over with a sentence that says what is missing.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/server_uv.h"
#include "proto/hello.h"
#include "proto/message.h"
#include "proto/net_sock.h"
#include "proto/unpack.h"

#define MODULE          "pageserver/serve"
#define AGAIN_MS        10u
#define ASKS_MAX        1024u /* of one session */
#define DEADLINE_MAX_MS 600000u
uint32_t ps_ask_ms = 8000;

/* -- Answers ----------------------------------------------------------------------------------- */

/* How many there are. */
static uint32_t fill_safekeepers(const struct ps_server *s,
                                 Corallite__Safekeeper out[CO_MEMBERS_MAX],
                                 Corallite__Safekeeper *list[CO_MEMBERS_MAX])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->reg.n_nodes; i++) {
        if (!s->nodes[i].id)
            continue;
        corallite__safekeeper__init(&out[n]);
        out[n].has_node = out[n].has_port = out[n].has_connected = 1;
        out[n].node = s->nodes[i].id;
        out[n].host = (char *)(uintptr_t)s->nodes[i].host;
        out[n].port = s->nodes[i].port;
        out[n].connected = s->nodes[i].ready;
        list[n] = &out[n];
        n++;
    }
    return n;
}

/* tl NULL: there is no such database. */
static void send_opened(struct ps_session *session, uint64_t request, const struct ps_timeline *tl)
{
    const struct ps_server *s = session->s;
    Corallite__Opened opened = CORALLITE__OPENED__INIT;
    Corallite__Safekeeper node[CO_MEMBERS_MAX], *list[CO_MEMBERS_MAX];
    struct ps_meta_wire wire;
    if (tl) {
        ps_meta_to_wire(&tl->meta, &wire);
        opened.timeline = &wire.wire;
        opened.has_last_record_lsn = 1;
        opened.last_record_lsn = tl->chain.last_lsn;
    }
    opened.n_safekeepers = fill_safekeepers(s, node, list);
    opened.has_cluster = 1;
    opened.cluster = msg_bytes16(s->identity.cluster.b);
    opened.safekeepers = list;
    peer_send(session->peer, FRAME_OPENED, request, &opened.base, co_span_of(NULL, 0));
}

struct listing {
    Corallite__DbListed wire;
    Corallite__DbListed__Db *db, **list;
    char **branches;
    const struct ps_timeline **tl; /* by database, main first */
};

static int by_database(const void *a, const void *b)
{
    const struct ps_meta *x = &(*(const struct ps_timeline *const *)a)->meta;
    const struct ps_meta *y = &(*(const struct ps_timeline *const *)b)->meta;
    int c = strcmp(x->database_name, y->database_name);
    if (!c)
        c = memcmp(x->database.b, y->database.b, sizeof x->database.b);
    if (c)
        return c;
    int first = (strcmp(x->branch, "main") != 0) - (strcmp(y->branch, "main") != 0);
    return first ? first : strcmp(x->branch, y->branch);
}

/* What is told of a database beside its branches is told of main. */
static void fill_db(Corallite__DbListed__Db *db, const struct ps_timeline *tl)
{
    corallite__db_listed__db__init(db);
    db->name = (char *)(uintptr_t)tl->meta.database_name;
    db->has_id = db->has_created_us = db->has_last_record_lsn = db->has_last_commit_us = 1;
    db->has_db_pages = db->has_page_size = db->has_state = 1;
    db->id = msg_bytes16(tl->meta.database.b);
    db->created_us = tl->meta.created_us;
    db->last_record_lsn = tl->chain.last_lsn;
    db->last_commit_us = tl->chain.newest.time_us;
    db->db_pages = tl->chain.newest.db_pages;
    db->page_size = tl->chain.page_size;
    db->state = (Corallite__TimelineState)tl->meta.state;
}

static void fill_list(const struct ps_server *s, struct listing *l)
{
    size_t n = 0;
    for (const struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        if (ps_timeline_lives(tl))
            l->tl[n++] = tl;
    qsort(l->tl, n, sizeof(const struct ps_timeline *), by_database);
    l->wire.databases = l->list;
    for (size_t i = 0; i < n; i++) {
        Corallite__DbListed__Db *db = &l->db[l->wire.n_databases];
        if (i == 0 || !co_id_eq(&l->tl[i]->meta.database, &l->tl[i - 1]->meta.database)) {
            l->list[l->wire.n_databases++] = db;
            fill_db(db, l->tl[i]);
            db->branches = &l->branches[i];
        }
        db = l->list[l->wire.n_databases - 1];
        l->branches[i] = (char *)(uintptr_t)l->tl[i]->meta.branch;
        db->n_branches++;
    }
}

static void send_db_list(struct ps_session *session, uint64_t request)
{
    struct ps_server *s = session->s;
    struct listing l = {.wire = CORALLITE__DB_LISTED__INIT};
    size_t max = s->reg.n + 1;
    l.db = calloc(max, sizeof *l.db);
    l.list = calloc(max, sizeof(Corallite__DbListed__Db *));
    l.branches = calloc(max, sizeof(char *));
    l.tl = calloc(max, sizeof(const struct ps_timeline *));
    if (!l.db || !l.list || !l.branches || !l.tl) {
        peer_send_error(session->peer, request, co_fail(CO_ERR_NOMEM, "no memory for the list"));
        goto done;
    }
    fill_list(s, &l);
    if (corallite__db_listed__get_packed_size(&l.wire) > frame_body_max(FRAME_DB_LISTED))
        peer_send_error(
            session->peer, request,
            co_fail(CO_ERR_TOO_LARGE, "%zu databases do not fit one answer", l.wire.n_databases));
    else
        peer_send(session->peer, FRAME_DB_LISTED, request, &l.wire.base, co_span_of(NULL, 0));
done:
    free(l.db);
    free(l.list);
    free(l.branches);
    free((void *)l.tl);
}

static void send_status(struct ps_session *session, uint64_t request)
{
    struct ps_server *s = session->s;
    Corallite__ServerStatus st = CORALLITE__SERVER_STATUS__INIT;
    Corallite__Safekeeper node[CO_MEMBERS_MAX], *list[CO_MEMBERS_MAX];
    struct ps_store_stats store;
    char http[300];
    ps_store_stats(s->store, &store);
    st.has_cluster = st.has_disk = st.has_uptime_us = st.has_lmdb_bytes = st.has_records = 1;
    st.has_pages_served = st.has_bytes_in = st.has_bytes_out = 1;
    st.cluster = msg_bytes16(s->identity.cluster.b);
    st.disk = msg_bytes16(s->identity.disk.b);
    st.uptime_us = co_now_us() - s->started_us;
    st.lmdb_bytes = store.used_bytes;
    st.records = co_metric_get(&ps_m_records);
    st.pages_served = co_metric_get(&ps_m_pages);
    st.has_lag_bytes = 1;
    st.lag_bytes = co_metric_get(&ps_m_lag_bytes);
    st.bytes_in = co_metric_get(&ps_m_bytes_in);
    st.bytes_out = co_metric_get(&ps_m_bytes_out);
    for (struct ps_session *o = s->sessions; o; o = o->next) {
        st.bytes_in += peer_bytes_in(o->peer);
        st.bytes_out += peer_bytes_out(o->peer);
    }
    st.n_safekeepers = fill_safekeepers(s, node, list);
    st.safekeepers = list;
    char follows[300];
    if (s->options->follow) {
        net_format(s->options->follow_host, s->options->follow_port, follows);
        st.follows = follows;
        st.has_owner_heard_us = ps_follow_heard_us(s) != 0;
        st.owner_heard_us = st.has_owner_heard_us ? co_now_us() - ps_follow_heard_us(s) : 0;
    }
    if (s->http) {
        snprintf(http, sizeof http, "%s:%u", s->options->http_host, co_http_port(s->http));
        st.http_address = http;
    }
    ps_archive_status(s, &st);
    peer_send(session->peer, FRAME_SERVER_STATUS_OK, request, &st.base, co_span_of(NULL, 0));
}

/* -- Asks -------------------------------------------------------------------------------------- */

/* Each returns true when the ask was answered. */

static bool refuse(const struct ps_ask *ask, int rc)
{
    peer_send_error(ask->session->peer, ask->request, rc);
    return true;
}

static bool try_open(struct ps_server *s, struct ps_ask *ask)
{
    struct ps_timeline *tl = ps_reg_find_name(&s->reg, ask->db, ask->branch);
    if (tl && ps_timeline_open(tl)) {
        send_opened(ask->session, ask->request, tl);
        return true;
    }
    if (tl || !s->reg.heard)
        return false; /* being created; or the safekeepers may know it */
    if (ps_reg_find_db(&s->reg, ask->db))
        return refuse(ask, ps_no_branch(s, ask->db, ask->branch));
    send_opened(ask->session, ask->request, NULL);
    return true;
}

static int database_id_taken(const struct ps_ask *ask, const struct ps_timeline *tl)
{
    return co_fail(CO_ERR_EXISTS,
                   "database '%s' cannot be created with this id: it is %s '%s'; leave the id out, "
                   "or choose another",
                   ask->db, tl->meta.state == PS_DROPPED ? "that of the dropped" : "that of",
                   tl->meta.database_name);
}

static bool try_create(struct ps_server *s, struct ps_ask *ask)
{
    struct ps_timeline *tl = ps_reg_find_name(&s->reg, ask->db, ask->branch);
    if (tl || !s->reg.heard)
        return tl && try_open(s, ask);
    if (ps_reg_find_db(&s->reg, ask->db))
        return refuse(ask, ps_no_branch(s, ask->db, ask->branch)); /* main was dropped or renamed */
    for (tl = s->reg.all; tl; tl = tl->next)
        if (!co_id_is_zero(&ask->database) && co_id_eq(&tl->meta.database, &ask->database))
            return refuse(ask, database_id_taken(ask, tl));
    if (s->reg.follows)
        return refuse(ask, ps_follow_refuse(s, "a new database"));
    int rc = ps_catalog_create(s, ask->db, ask->branch, &ask->database, &tl);
    /* Else answered once it is active on a majority and stored here. */
    return rc && rc != CO_ERR_AGAIN ? refuse(ask, rc) : false;
}

/* Which database, and may it be dropped? */
static int check_drop(struct ps_server *s, struct ps_ask *ask)
{
    const struct ps_timeline *any = ps_reg_find_db(&s->reg, ask->db);
    if (!any)
        return co_fail(CO_ERR_NOT_FOUND,
                       "there is no database '%s' to drop; `corallite db list` shows those there "
                       "are",
                       ask->db);
    for (const struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        if (tl->meta.is_protected && ps_timeline_lives(tl) &&
            co_id_eq(&tl->meta.database, &any->meta.database))
            return co_fail(CO_ERR_READONLY,
                           "branch '%s/%s' is protected, so the database is not dropped; "
                           "`corallite branch protect --off %s/%s` comes first",
                           ask->db, tl->meta.branch, ask->db, tl->meta.branch);
    ask->database = any->meta.database;
    ps_pins_drop_database(s, &ask->database);
    return 0;
}

/* Is nothing left of a dropped timeline, here and on every safekeeper? */
static bool is_purged(const struct ps_server *s, const struct ps_timeline *tl)
{
    bool all = tl->purged && tl->meta.purged;
    for (uint32_t i = 0; i < s->reg.n_nodes; i++)
        all = all && tl->held[i] >= tl->meta.version;
    return all;
}

/* Every branch of the database becomes DROPPED; answered once all are, on a majority and here. */
static bool try_drop(struct ps_server *s, struct ps_ask *ask)
{
    bool pending = false;
    if (!s->reg.heard)
        return false;
    int rc = co_id_is_zero(&ask->database) ? check_drop(s, ask) : 0;
    if (rc)
        return refuse(ask, rc);
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next) {
        if (!co_id_eq(&tl->meta.database, &ask->database))
            continue;
        if (tl->meta.state != PS_DROPPED) {
            ps_reg_change(&s->reg, tl, PS_DROPPED);
            ps_catalog_drive(s, tl);
        }
        pending |= tl->stored < tl->meta.version;
        pending |= ask->b.purge && !is_purged(s, tl);
    }
    if (pending)
        return false;
    peer_send(ask->session->peer, FRAME_DROPPED, ask->request, NULL, co_span_of(NULL, 0));
    return true;
}

/* What only the owner of the catalog does; NULL: anybody answers it. */
static const char *owners_part(const struct ps_ask *ask)
{
    switch (ask->kind) {
    case PS_ASK_DROP:
        return "the drop of a database";
    case PS_ASK_BRANCH_CREATE:
        return "a new branch";
    case PS_ASK_BRANCH_CHANGE:
        return "a change of a branch";
    case PS_ASK_RESTORE:
        return "a restore";
    case PS_ASK_PIN:
        return "a change of pins";
    case PS_ASK_GC:
        return ask->b.dry ? NULL : "the collection of garbage";
    default:
        return NULL;
    }
}

/* A follower answers about names when it has asked a majority of the safekeepers since: what was
 * acknowledged before the question is then known. False: not yet, or *refused. */
static bool may_answer(struct ps_server *s, struct ps_ask *ask, bool *refused)
{
    const char *what = owners_part(ask);
    *refused = what != NULL;
    if (what)
        return !refuse(ask, ps_follow_refuse(s, what));
    if (!ask->fresh)
        ask->fresh = ps_fresh_round(s);
    return ps_fresh(s, ask->fresh);
}

static bool try_ask(struct ps_server *s, struct ps_ask *ask)
{
    bool refused;
    if (s->reg.follows && !may_answer(s, ask, &refused))
        return refused;
    switch (ask->kind) {
    case PS_ASK_OPEN:
        return try_open(s, ask);
    case PS_ASK_CREATE:
        return try_create(s, ask);
    case PS_ASK_DROP:
        return try_drop(s, ask);
    case PS_ASK_LIST:
        if (!s->reg.heard && !s->reg.n)
            return false;
        send_db_list(ask->session, ask->request);
        return true;
    case PS_ASK_PIN:
    case PS_ASK_PIN_LIST:
        return ps_pin_try(s, ask);
    case PS_ASK_GC:
        return ps_gc_try(s, ask);
    default:
        return ps_branch_try(s, ask);
    }
}

static void give_up(struct ps_server *s, struct ps_ask *ask)
{
    char missing[600] = "";
    size_t n = 0;
    int late = ask->b.version || !ask->moment.begun || ask->moment.tl
                   ? 0
                   : ps_moment_late(s, &ask->moment, ask->patience_ms);
    if (late) {
        peer_send_error(ask->session->peer, ask->request, late);
        return;
    }
    for (uint32_t i = 0; i < s->reg.n_nodes && n < sizeof missing; i++)
        if (!s->nodes[i].ready && s->nodes[i].id)
            n +=
                (size_t)snprintf(missing + n, sizeof missing - n, "%s%u at %.60s:%u", n ? ", " : "",
                                 s->nodes[i].id, s->nodes[i].host, s->nodes[i].port);
    if (ask->kind == PS_ASK_DROP && ask->b.purge && !co_id_is_zero(&ask->database)) {
        peer_send_error(ask->session->peer, ask->request,
                        co_fail(CO_ERR_NO_QUORUM,
                                "%s is dropped, and what it left is being removed; that is not "
                                "done on every safekeeper yet%s%s, and goes on in the background",
                                ask->db, n ? ", missing: " : "", missing));
        return;
    }
    const char *name = ask->kind == PS_ASK_LIST ? "the list of databases" : ask->db;
    int rc =
        ps_nodes_enough(s)
            ? co_fail(CO_ERR_NO_QUORUM,
                      "%s: a majority of the safekeepers did not confirm within %u ms; it "
                      "goes on in the background, ask again",
                      name, ask->patience_ms)
            : co_fail(CO_ERR_NO_QUORUM,
                      "%s: %u of %u safekeepers are connected to the pageserver, %u are "
                      "needed; missing: %s",
                      name, ps_nodes_ready(s), s->reg.n_nodes, ps_reg_majority(&s->reg), missing);
    peer_send_error(ask->session->peer, ask->request, rc);
}

static void free_ask(struct ps_ask *ask)
{
    ask->session->n_asks--;
    ps_pin_forget(ask);
    ps_gc_forget(ask);
    free(ask);
}

static void on_again(uv_timer_t *timer)
{
    ps_serve_asks(timer->data);
}

static void keep_ask(struct ps_server *s, struct ps_ask *ask)
{
    ask->next = s->asks;
    s->asks = ask;
    s->moments |= ask->kind >= PS_ASK_RESOLVE;
    if (s->moments && !uv_is_active((uv_handle_t *)&s->again))
        uv_timer_start(&s->again, on_again, AGAIN_MS, 0);
}

void ps_serve_asks(struct ps_server *s)
{
    uint64_t now = uv_now(&s->loop);
    /* Taken off first: answering may change the registry, which leads here again. */
    struct ps_ask *asks = s->asks, *next;
    s->asks = NULL;
    s->moments = false;
    for (; asks; asks = next) {
        next = asks->next;
        bool done = try_ask(s, asks);
        if (!done && now >= asks->deadline_ms) {
            give_up(s, asks);
            done = true;
        }
        if (done)
            free_ask(asks);
        else
            keep_ask(s, asks);
    }
}

static void forget_asks(struct ps_session *session)
{
    for (struct ps_ask **at = &session->s->asks, *ask; (ask = *at);) {
        if (ask->session == session) {
            *at = ask->next;
            free_ask(ask);
        } else {
            at = &ask->next;
        }
    }
}

int ps_take_name(const char *what, const char *wire, const char *otherwise,
                 char out[CO_NAME_MAX_BYTES + 1])
{
    if ((!wire || !*wire) && otherwise)
        wire = otherwise;
    if (!wire)
        return co_fail(CO_ERR_PROTOCOL, "the request names no %s", what);
    int rc = name_check(wire);
    if (!rc)
        snprintf(out, CO_NAME_MAX_BYTES + 1, "%s", wire);
    return rc;
}

void ps_serve_ask(struct ps_session *session, const struct ps_ask *wanted, uint32_t deadline_ms)
{
    struct ps_server *s = session->s;
    struct ps_ask *ask = session->n_asks < ASKS_MAX ? malloc(sizeof *ask) : NULL;
    if (!ask) {
        peer_send_error(session->peer, wanted->request,
                        session->n_asks < ASKS_MAX
                            ? co_fail(CO_ERR_NOMEM, "no memory")
                            : co_fail(CO_ERR_BUSY, "%u requests of this connection wait already",
                                      session->n_asks));
        return;
    }
    *ask = *wanted;
    ask->session = session;
    ask->patience_ms = deadline_ms ? deadline_ms : ps_ask_ms;
    if (ask->patience_ms > DEADLINE_MAX_MS)
        ask->patience_ms = DEADLINE_MAX_MS;
    ask->deadline_ms = uv_now(&s->loop) + ask->patience_ms;
    session->n_asks++;
    if (try_ask(s, ask))
        free_ask(ask);
    else
        keep_ask(s, ask);
}

static int read_open(struct co_span message, struct ps_ask *ask)
{
    Corallite__Open *m = message_unpack(&corallite__open__descriptor, message);
    if (!m)
        return CO_ERR_PROTOCOL;
    int rc = ps_take_name("database", m->database, NULL, ask->db);
    if (!rc)
        rc = ps_take_name("branch", m->branch, "main", ask->branch);
    protobuf_c_message_free_unpacked(&m->base, NULL);
    return rc;
}

static int read_create(struct co_span message, struct ps_ask *ask)
{
    Corallite__Create *m = message_unpack(&corallite__create__descriptor, message);
    if (!m)
        return CO_ERR_PROTOCOL;
    int rc = ps_take_name("database", m->database, NULL, ask->db);
    if (!rc)
        rc = msg_get16("database id", m->has_database_id, &m->database_id, ask->database.b);
    snprintf(ask->branch, sizeof ask->branch, "main");
    protobuf_c_message_free_unpacked(&m->base, NULL);
    return rc;
}

static int read_drop(struct co_span message, struct ps_ask *ask)
{
    Corallite__Drop *m = message_unpack(&corallite__drop__descriptor, message);
    if (!m)
        return CO_ERR_PROTOCOL;
    int rc = ps_take_name("database", m->database, NULL, ask->db);
    ask->b.purge = m->purge;
    protobuf_c_message_free_unpacked(&m->base, NULL);
    return rc;
}

/* A request about names. */
static void on_ask(struct ps_session *session, enum ps_ask_kind kind, uint64_t request,
                   struct co_span message)
{
    struct ps_ask ask = {.kind = kind, .request = request};
    int rc = kind == PS_ASK_OPEN     ? read_open(message, &ask)
             : kind == PS_ASK_CREATE ? read_create(message, &ask)
             : kind == PS_ASK_DROP   ? read_drop(message, &ask)
                                     : 0;
    if (rc)
        peer_send_error(session->peer, request, rc);
    else
        ps_serve_ask(session, &ask, ask.b.purge ? DEADLINE_MAX_MS : 0);
}

/* -- Sessions ---------------------------------------------------------------------------------- */

static int on_hello(void *owner, struct peer *peer, const Corallite__Hello *hello,
                    const Corallite__HelloOk *unused)
{
    struct ps_server *s = owner;
    struct co_id cluster, disk;
    (void)unused;
    int rc = msg_get16("cluster", hello->has_cluster, &hello->cluster, cluster.b);
    if (!rc)
        rc = msg_get16("disk", hello->has_expect_disk, &hello->expect_disk, disk.b);
    if (rc)
        return rc;
    if (hello->has_cluster && !co_id_eq(&cluster, &s->identity.cluster))
        return co_fail(CO_ERR_CLUSTER, "this pageserver belongs to another cluster than you do");
    if (hello->has_expect_disk && !co_id_eq(&disk, &s->identity.disk))
        return co_fail(CO_ERR_NODE, "this pageserver has another disk than the one you expect");
    struct ps_session *session = calloc(1, sizeof *session);
    if (!session)
        return co_fail(CO_ERR_NOMEM, "no memory for a session");
    session->s = s;
    session->peer = peer;
    session->next = s->sessions;
    session->prev = &s->sessions;
    if (session->next)
        session->next->prev = &session->next;
    s->sessions = session;
    peer_set_data(peer, session);
    co_metric_add(&ps_m_sessions, 1);

    Corallite__HelloOk ok = CORALLITE__HELLO_OK__INIT;
    char build[] = CO_BUILD_VERSION;
    ok.has_protocol = ok.has_cluster = ok.has_node = ok.has_disk = ok.has_time_us = 1;
    ok.protocol = CO_PROTOCOL_VERSION;
    ok.cluster = msg_bytes16(s->identity.cluster.b);
    ok.disk = msg_bytes16(s->identity.disk.b);
    ok.time_us = co_wall_us();
    ok.build = build;
    peer_send(peer, FRAME_HELLO_OK, 0, &ok.base, co_span_of(NULL, 0));
    return 0;
}

static int on_frame(void *owner, struct peer *peer, const struct frame_header *frame,
                    struct co_span body)
{
    struct ps_session *session = peer_data(peer);
    struct co_span message = co_span_of(body.data, frame->message_bytes);
    (void)owner;
    switch (frame->type) {
    case FRAME_OPEN:
        on_ask(session, PS_ASK_OPEN, frame->request_id, message);
        break;
    case FRAME_CREATE:
        on_ask(session, PS_ASK_CREATE, frame->request_id, message);
        break;
    case FRAME_DROP:
        on_ask(session, PS_ASK_DROP, frame->request_id, message);
        break;
    case FRAME_DB_LIST:
        on_ask(session, PS_ASK_LIST, frame->request_id, message);
        break;
    case FRAME_GET_PAGES:
    case FRAME_CHANGES_SINCE:
        ps_pages_frame(session, frame->type, frame->request_id, message);
        break;
    case FRAME_SERVER_STATUS:
        send_status(session, frame->request_id);
        break;
    case FRAME_FOLLOW: {
        int rc = ps_follow_asked(session, frame->request_id, message);
        if (rc)
            peer_send_error(peer, frame->request_id, rc);
        break;
    }
    case FRAME_VERIFY:
        ps_verify_frame(session, frame->request_id, message);
        break;
    case FRAME_REPAIR:
        ps_repair_frame(session, frame->request_id, message);
        break;
    case FRAME_ARCHIVE_PRUNE:
        ps_archive_prune_frame(session, frame->request_id, message);
        break;
    case FRAME_PONG:
        break;
    default:
        if (ps_branch_frame(session, frame, message))
            break;
        peer_send_error(peer, frame->request_id,
                        co_fail(CO_ERR_PROTOCOL, "a pageserver does not take %s",
                                frame_type_name(frame->type)));
    }
    return 0;
}

static void on_close(void *owner, struct peer *peer, const char *reason)
{
    struct ps_session *session = peer_data(peer);
    (void)owner;
    co_debug(MODULE, "session ends addr=%s: %s", peer_address(peer), reason);
    ps_pages_forget(session);
    ps_loops_forget(session);
    ps_repair_forget(session);
    ps_archive_forget(session);
    forget_asks(session);
    co_metric_add(&ps_m_bytes_in, peer_bytes_in(peer));
    co_metric_add(&ps_m_bytes_out, peer_bytes_out(peer));
    co_metric_set(&ps_m_sessions, co_metric_get(&ps_m_sessions) - 1);
    *session->prev = session->next;
    if (session->next)
        session->next->prev = session->prev;
    free(session);
}

int ps_serve_start(struct ps_server *s)
{
    struct peer_handler handler = {s, on_hello, on_frame, on_close};
    int rc = uv_timer_init(&s->loop, &s->again);
    co_assert(rc == 0);
    s->again.data = s;
    return peer_listen(&s->loop, s->options->listen_host, s->options->listen_port, &handler,
                       &s->listener);
}

void ps_serve_close(struct ps_server *s)
{
    if (s->listener)
        peer_server_close(s->listener);
    s->listener = NULL;
    if (s->again.data)
        uv_close((uv_handle_t *)&s->again, NULL);
    s->again.data = NULL;
}
