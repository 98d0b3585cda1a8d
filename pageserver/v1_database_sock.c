/* v1_database_sock.c - /v1/databases: listed, made, shown with its positions, dropped. */
#include <string.h>

#include "pageserver/v1_json.h"
#include "pageserver/v1_sock.h"

static int list(struct v1_call *c, Corallite__DbListed **out)
{
    Corallite__DbList q = CORALLITE__DB_LIST__INIT;
    return v1_ask(c, FRAME_DB_LIST, &q.base, FRAME_DB_LISTED, &corallite__db_listed__descriptor,
                  out);
}

static const Corallite__DbListed__Db *named(const Corallite__DbListed *m, const char *name)
{
    for (size_t i = 0; i < m->n_databases; i++)
        if (m->databases[i]->name && strcmp(m->databases[i]->name, name) == 0)
            return m->databases[i];
    return NULL;
}

int v1_databases(struct v1_call *c)
{
    Corallite__DbListed *m = NULL;
    int rc = list(c, &m);
    if (rc)
        return rc;
    json_t *all = json_array();
    for (size_t i = 0; i < m->n_databases; i++)
        json_array_append_new(all, v1_json_database(m->databases[i]));
    corallite__db_listed__free_unpacked(m, NULL);
    return v1_reply(c, 200, json_pack("{s:o}", "databases", all));
}

/* -- One ----------------------------------------------------------------------------------------
 */

static const Corallite__NodeStatus__PerTimeline *find(const Corallite__NodeStatus *s,
                                                      const Corallite__Timeline *t)
{
    for (size_t i = 0; s && i < s->n_timeline; i++)
        if (s->timeline[i]->id.len == t->id.len &&
            memcmp(s->timeline[i]->id.data, t->id.data, t->id.len) == 0)
            return s->timeline[i];
    return NULL;
}

/* Where each safekeeper and the pageserver are in the log of this branch. */
static json_t *positions(const struct v1_call *c, const Corallite__Opened *o)
{
    json_t *copies = json_array();
    lsn_t commit = 0, have = o->last_record_lsn;
    for (size_t i = 0; i < o->n_safekeepers; i++) {
        const Corallite__Safekeeper *k = o->safekeepers[i];
        Corallite__NodeStatus *s = NULL;
        (void)!v1_ask_keeper(c, k, &s);
        const Corallite__NodeStatus__PerTimeline *t = find(s, o->timeline);
        if (t && t->commit_lsn > commit)
            commit = t->commit_lsn;
        json_array_append_new(copies, v1_json_copy(k, t));
        if (s)
            corallite__node_status__free_unpacked(s, NULL);
    }
    return json_pack("{s:s,s:o,s:o,s:o,s:o,s:o}", "branch", o->timeline->branch, "timeline",
                     v1_json_id(o->timeline->id), "last_record_lsn", v1_json_lsn(have),
                     "commit_lsn", v1_json_lsn(commit), "lag_bytes",
                     v1_json_number(commit > have ? commit - have : 0), "safekeepers", copies);
}

static int open_branch(struct v1_call *c, const char *branch, Corallite__Opened **out)
{
    Corallite__Open q = CORALLITE__OPEN__INIT;
    q.database = c->m.database;
    q.branch = (char *)(uintptr_t)branch;
    int rc = v1_ask(c, FRAME_OPEN, &q.base, FRAME_OPENED, &corallite__opened__descriptor, out);
    if (rc || (*out)->timeline)
        return rc;
    corallite__opened__free_unpacked(*out, NULL);
    *out = NULL;
    return co_fail(CO_ERR_NOT_FOUND, "there is no database '%s'", c->m.database);
}

/* The database as it is listed; its positions are those of main, or of the branch listed first. */
static int show(struct v1_call *c, unsigned status)
{
    Corallite__DbListed *m = NULL;
    Corallite__Opened *o = NULL;
    json_t *value = NULL;
    int rc = list(c, &m);
    if (rc)
        return rc;
    const Corallite__DbListed__Db *db = named(m, c->m.database);
    if (!db)
        rc = co_fail(CO_ERR_NOT_FOUND,
                     "there is no database '%s'; GET /v1/databases lists those there are",
                     c->m.database);
    else
        rc = open_branch(c, db->n_branches ? db->branches[0] : "main", &o);
    if (!rc)
        value = v1_json_database(db);
    corallite__db_listed__free_unpacked(m, NULL);
    if (rc)
        return rc;
    json_object_set_new(value, "positions", positions(c, o));
    corallite__opened__free_unpacked(o, NULL);
    return v1_reply(c, status, value);
}

int v1_database(struct v1_call *c)
{
    return show(c, 200);
}

int v1_database_create(struct v1_call *c)
{
    Corallite__Create q = CORALLITE__CREATE__INIT;
    Corallite__Opened *m = NULL;
    struct co_id id;
    char location[V1_VALUE_MAX + 20];
    const char *name = v1_text(c, "name");
    int rc = name_check(name);
    if (!rc)
        rc = v1_take_id(c, &id);
    if (rc)
        return rc;
    snprintf(c->m.database, sizeof c->m.database, "%s", name);
    q.database = c->m.database;
    q.has_database_id = 1;
    q.database_id = (ProtobufCBinaryData){sizeof id.b, id.b};
    rc = v1_ask(c, FRAME_CREATE, &q.base, FRAME_OPENED, &corallite__opened__descriptor, &m);
    if (rc)
        return rc;
    /* The server answers with what has the name: another id means that it was there. */
    if (!m->timeline || m->timeline->database.len != sizeof id.b ||
        memcmp(m->timeline->database.data, id.b, sizeof id.b) != 0)
        rc = co_fail(CO_ERR_EXISTS,
                     "a database '%s' exists already; choose another name, or drop "
                     "that one first",
                     name);
    corallite__opened__free_unpacked(m, NULL);
    if (rc)
        return rc;
    snprintf(location, sizeof location, "/v1/databases/%s", name);
    co_http_header(c->answer, "Location", location);
    return show(c, 201);
}

int v1_database_drop(struct v1_call *c)
{
    Corallite__Drop q = CORALLITE__DROP__INIT;
    q.database = c->m.database;
    int rc = v1_ask(c, FRAME_DROP, &q.base, FRAME_DROPPED, NULL, NULL);
    return rc ? rc : v1_reply(c, 200, json_pack("{s:s}", "dropped", c->m.database));
}
