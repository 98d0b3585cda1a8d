/* v1_branch_sock.c - the branches of a database: listed, made, shown, changed, restored, dropped.
 */
#include <stdio.h>
#include <string.h>

#include "common/clock_file.h"
#include "pageserver/v1_json.h"
#include "pageserver/v1_sock.h"

static int list(struct v1_call *c, Corallite__BranchListed **out)
{
    Corallite__BranchList q = CORALLITE__BRANCH_LIST__INIT;
    q.database = c->m.database;
    int rc = v1_ask(c, FRAME_BRANCH_LIST, &q.base, FRAME_BRANCH_LISTED,
                    &corallite__branch_listed__descriptor, out);
    if (rc)
        return rc;
    for (size_t i = 0; i < (*out)->n_branches; i++)
        if (!(*out)->branches[i]->timeline) {
            corallite__branch_listed__free_unpacked(*out, NULL);
            *out = NULL;
            return co_fail(CO_ERR_PROTOCOL, "the list of branches names one without a timeline");
        }
    return 0;
}

int v1_branches(struct v1_call *c)
{
    Corallite__BranchListed *m = NULL;
    int rc = list(c, &m);
    if (rc)
        return rc;
    json_t *all = json_array();
    for (size_t i = 0; i < m->n_branches; i++)
        json_array_append_new(all, v1_json_branch(c->m.database, m->branches[i]));
    corallite__branch_listed__free_unpacked(m, NULL);
    return v1_reply(c, 200, json_pack("{s:o}", "branches", all));
}

/* The branch with this name now, or of this timeline whatever its name. */
static int show(struct v1_call *c, unsigned status, const char *name, const struct co_id *timeline)
{
    Corallite__BranchListed *m = NULL;
    json_t *value = NULL;
    int rc = list(c, &m);
    if (rc)
        return rc;
    for (size_t i = 0; i < m->n_branches && !value; i++) {
        const Corallite__Timeline *t = m->branches[i]->timeline;
        bool is_it = timeline ? t->id.len == sizeof timeline->b &&
                                    memcmp(t->id.data, timeline->b, sizeof timeline->b) == 0
                              : t->branch && strcmp(t->branch, name) == 0;
        if (is_it)
            value = v1_json_branch(c->m.database, m->branches[i]);
    }
    corallite__branch_listed__free_unpacked(m, NULL);
    if (!value)
        return co_fail(
            CO_ERR_NOT_FOUND,
            "database '%s' has no branch '%s'; GET /v1/databases/%s/branches lists those "
            "there are",
            c->m.database, name, c->m.database);
    return v1_reply(c, status, value);
}

int v1_branch(struct v1_call *c)
{
    return show(c, 200, c->m.branch, NULL);
}

/* Sends what makes or changes a branch. */
static int change(struct v1_call *c, unsigned type, const ProtobufCMessage *q,
                  Corallite__Branched **out)
{
    int rc = v1_ask(c, type, q, FRAME_BRANCHED, &corallite__branched__descriptor, out);
    if (rc || ((*out)->timeline && (*out)->timeline->id.len == 16))
        return rc;
    corallite__branched__free_unpacked(*out, NULL);
    *out = NULL;
    return co_fail(CO_ERR_PROTOCOL, "the pageserver did not say what it did");
}

static int show_changed(struct v1_call *c, unsigned status, Corallite__Branched *m)
{
    struct co_id timeline;
    char name[V1_VALUE_MAX];
    memcpy(timeline.b, m->timeline->id.data, sizeof timeline.b);
    snprintf(name, sizeof name, "%s", m->timeline->branch ? m->timeline->branch : "");
    corallite__branched__free_unpacked(m, NULL);
    return show(c, status, name, &timeline);
}

int v1_branch_create(struct v1_call *c)
{
    Corallite__BranchCreate q = CORALLITE__BRANCH_CREATE__INIT;
    Corallite__Branched *m = NULL;
    struct co_id id;
    char location[2 * V1_VALUE_MAX];
    const char *expires = v1_text(c, "expires"), *from = v1_text(c, "from");
    int rc = name_check(v1_text(c, "name"));
    if (!rc && from)
        rc = name_check(from);
    if (!rc && expires)
        rc = v1_expiry(expires, co_wall_us(), &q.expires_us);
    if (!rc)
        rc = v1_take_id(c, &id);
    if (rc)
        return rc;
    q.database = c->m.database;
    q.branch = (char *)(uintptr_t)v1_text(c, "name");
    q.from_branch = (char *)(uintptr_t)from;
    q.at = (char *)(uintptr_t)v1_text(c, "at");
    q.has_expires_us = expires != NULL;
    q.has_id = q.has_deadline_ms = 1;
    q.id = (ProtobufCBinaryData){sizeof id.b, id.b};
    q.deadline_ms = V1_WAIT_MS;
    rc = change(c, FRAME_BRANCH_CREATE, &q.base, &m);
    if (rc)
        return rc;
    snprintf(location, sizeof location, "/v1/databases/%.63s/branches/%.63s", c->m.database,
             q.branch);
    co_http_header(c->answer, "Location", location);
    return show_changed(c, 201, m);
}

int v1_branch_change(struct v1_call *c)
{
    Corallite__BranchChange q = CORALLITE__BRANCH_CHANGE__INIT;
    Corallite__Branched *m = NULL;
    const char *name = v1_text(c, "name"), *expires = v1_text(c, "expires");
    const json_t *protect = json_object_get(c->body, "protected");
    int rc = name ? name_check(name) : 0;
    if (!rc && expires)
        rc = v1_expiry(expires, co_wall_us(), &q.expires_us);
    if (!rc && json_object_size(c->body) == 0)
        rc = co_fail(CO_ERR_INVAL,
                     "no change is asked for: \"name\", \"protected\" or \"expires\" is wanted");
    if (rc)
        return rc;
    q.database = c->m.database;
    q.branch = c->m.branch;
    q.rename_to = (char *)(uintptr_t)name;
    q.has_protect = protect != NULL;
    q.protect = json_is_true(protect);
    q.has_expires_us = json_object_get(c->body, "expires") != NULL; /* null: never */
    rc = change(c, FRAME_BRANCH_CHANGE, &q.base, &m);
    return rc ? rc : show_changed(c, 200, m);
}

int v1_branch_drop(struct v1_call *c)
{
    Corallite__BranchChange q = CORALLITE__BRANCH_CHANGE__INIT;
    Corallite__Branched *m = NULL;
    q.database = c->m.database;
    q.branch = c->m.branch;
    q.has_drop = q.drop = 1;
    int rc = change(c, FRAME_BRANCH_CHANGE, &q.base, &m);
    if (rc)
        return rc;
    corallite__branched__free_unpacked(m, NULL);
    return v1_reply(c, 200, json_pack("{s:s}", "dropped", c->m.branch));
}

int v1_restore(struct v1_call *c)
{
    Corallite__Restore q = CORALLITE__RESTORE__INIT;
    Corallite__Branched *m = NULL;
    struct co_id id;
    const char *from = v1_text(c, "from"), *at = v1_text(c, "at"), *keep = v1_text(c, "keep_as");
    int rc = from ? name_check(from) : 0;
    if (!rc && keep)
        rc = name_check(keep);
    if (!rc && !from && !at)
        rc = co_fail(CO_ERR_INVAL, "to which moment? \"at\" (such as \"-10m\"), or \"from\" (a "
                                   "branch), or both are wanted");
    if (!rc)
        rc = v1_take_id(c, &id);
    if (rc)
        return rc;
    q.database = c->m.database;
    q.branch = c->m.branch;
    q.to_branch = (char *)(uintptr_t)from;
    q.at = (char *)(uintptr_t)at;
    q.keep_as = (char *)(uintptr_t)keep;
    q.has_id = q.has_deadline_ms = 1;
    q.id = (ProtobufCBinaryData){sizeof id.b, id.b};
    q.deadline_ms = V1_WAIT_MS;
    rc = change(c, FRAME_RESTORE, &q.base, &m);
    if (rc)
        return rc;
    if (m->kept_as && m->kept_as[0])
        rc = v1_reply(c, 200, v1_json_restored(c->m.database, c->m.branch, m));
    else
        rc = co_fail(CO_ERR_NOT_FOUND,
                     "%s was restored with this id before, and the branch that kept its former "
                     "content is gone",
                     c->m.branch);
    corallite__branched__free_unpacked(m, NULL);
    return rc;
}
