/*
 * database_uv.c - databases by their names: OPEN, CREATE, DROP, DB_LIST; and SERVER_STATUS.
 *
 * Each request about names is an ask (serve_uv.c) that is looked at again until it can be answered:
 * a name that is not known here may be known to the safekeepers, as long as no majority of them was
 * heard; what was created or dropped is told of when it is so on a majority and stored here.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/clock_file.h"
#include "pageserver/server_uv.h"
#include "proto/message.h"
#include "proto/net_sock.h"

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
        const struct co_id *disk =
            co_id_is_zero(&s->reg.disk[i]) ? &s->reg.said[i] : &s->reg.disk[i];
        out[n].has_disk = !co_id_is_zero(disk);
        out[n].disk = msg_bytes16(disk->b);
        list[n] = &out[n];
        n++;
    }
    return n;
}

/* tl NULL: there is no such database. False: not now. */
static bool send_opened(struct ps_session *session, uint64_t request, const struct ps_timeline *tl)
{
    const struct ps_server *s = session->s;
    Corallite__Opened opened = CORALLITE__OPENED__INIT;
    Corallite__Safekeeper node[CO_MEMBERS_MAX], *list[CO_MEMBERS_MAX];
    struct ps_meta_wire wire;
    struct ps_ancestors up = {.n = 0};
    if (tl && !ps_lineage_list(s, tl, &up))
        return false;
    if (tl) {
        ps_meta_to_wire(&tl->meta, &wire);
        opened.n_ancestors = up.n;
        opened.ancestors = up.list;
        opened.timeline = &wire.wire;
        opened.has_last_record_lsn = 1;
        opened.last_record_lsn = tl->chain.last_lsn;
    }
    opened.n_safekeepers = fill_safekeepers(s, node, list);
    opened.has_cluster = 1;
    opened.cluster = msg_bytes16(s->identity.cluster.b);
    opened.safekeepers = list;
    peer_send(session->peer, FRAME_OPENED, request, &opened.base, co_span_of(NULL, 0));
    return true;
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

void ps_status_send(struct ps_session *session, uint64_t request)
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

static bool try_open(struct ps_server *s, struct ps_ask *ask)
{
    struct ps_timeline *tl = ps_reg_find_name(&s->reg, ask->db, ask->branch);
    if (tl && ps_timeline_open(tl))
        return send_opened(ask->session, ask->request, tl);
    if (tl || !s->reg.heard)
        return false; /* being created; or the safekeepers may know it */
    if (ps_reg_find_db(&s->reg, ask->db))
        return ps_ask_refuse(ask, ps_no_branch(s, ask->db, ask->branch));
    return send_opened(ask->session, ask->request, NULL);
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
    if (ps_reg_find_db(&s->reg, ask->db)) /* main was dropped or renamed */
        return ps_ask_refuse(ask, ps_no_branch(s, ask->db, ask->branch));
    for (tl = s->reg.all; tl; tl = tl->next)
        if (!co_id_is_zero(&ask->database) && co_id_eq(&tl->meta.database, &ask->database))
            return ps_ask_refuse(ask, database_id_taken(ask, tl));
    if (s->reg.follows)
        return ps_ask_refuse(ask, ps_follow_refuse(s, "a new database"));
    int rc = ps_catalog_create(s, ask->db, ask->branch, &ask->database, &tl);
    /* Else answered once it is active on a majority and stored here. */
    return rc && rc != CO_ERR_AGAIN ? ps_ask_refuse(ask, rc) : false;
}

/* Which database, and may it be dropped? CO_ERR_AGAIN: that is not known yet. */
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
    if (ps_pins_change(s, &any->meta.database, NULL))
        return CO_ERR_AGAIN;
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
        return rc != CO_ERR_AGAIN && ps_ask_refuse(ask, rc);
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next) {
        if (!co_id_eq(&tl->meta.database, &ask->database))
            continue;
        if (ps_timeline_stays(tl)) {
            ps_reg_drop(&s->reg, tl);
            ps_catalog_drive(s, tl);
        }
        pending |= tl->meta.state != PS_DROPPED || tl->stored < tl->meta.version;
        pending |= ask->b.purge && !is_purged(s, tl);
    }
    if (pending)
        return false;
    peer_send(ask->session->peer, FRAME_DROPPED, ask->request, NULL, co_span_of(NULL, 0));
    return true;
}

bool ps_database_try(struct ps_server *s, struct ps_ask *ask)
{
    switch (ask->kind) {
    case PS_ASK_OPEN:
        return try_open(s, ask);
    case PS_ASK_CREATE:
        return try_create(s, ask);
    case PS_ASK_DROP:
        return try_drop(s, ask);
    default: /* PS_ASK_LIST */
        if (!s->reg.heard && !s->reg.n)
            return false;
        send_db_list(ask->session, ask->request);
        return true;
    }
}
