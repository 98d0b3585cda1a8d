#include "pageserver/v1_json.h"

#include <stdio.h>
#include <string.h>

#include "common/http_text.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "proto/when.h"

json_t *v1_json_id(ProtobufCBinaryData data)
{
    struct co_id id = {{0}};
    char text[CO_ID_TEXT];
    if (data.len == sizeof id.b)
        memcpy(id.b, data.data, sizeof id.b);
    return json_string(co_id_format(&id, text));
}

json_t *v1_json_lsn(lsn_t lsn)
{
    char text[LSN_TEXT];
    return lsn ? json_string(lsn_format(lsn, text)) : json_null();
}

json_t *v1_json_time(uint64_t time_us)
{
    char text[WHEN_TEXT];
    return time_us ? json_string(when_format(time_us, text)) : json_null();
}

json_t *v1_json_number(uint64_t number)
{
    return json_integer(number > INT64_MAX ? INT64_MAX : (json_int_t)number);
}

static json_t *bytes_of(uint32_t pages, uint32_t page_size)
{
    return v1_json_number((uint64_t)pages * page_size);
}

static json_t *address_of(const Corallite__Safekeeper *node)
{
    char text[CO_HOST_MAX_BYTES + 16];
    const char *host = node->host ? node->host : "";
    bool v6 = strchr(host, ':') != NULL;
    snprintf(text, sizeof text, "%s%.255s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", node->port);
    return json_string(text);
}

/* A sentence may quote what came, and cut it in the middle of a character. */
json_t *v1_json_error(const char *code, const char *sentence)
{
    char text[CO_SENTENCE_MAX];
    snprintf(text, sizeof text, "%s", sentence);
    if (!co_is_utf8(text, strlen(text)))
        for (char *p = text; *p; p++)
            if ((unsigned char)*p >= 0x80)
                *p = '?';
    return json_pack("{s:{s:s,s:s}}", "error", "code", code, "sentence", text);
}

json_t *v1_json_database(const Corallite__DbListed__Db *db)
{
    json_t *branches = json_array();
    for (size_t i = 0; i < db->n_branches; i++)
        json_array_append_new(branches, json_string(db->branches[i]));
    return json_pack(
        "{s:s,s:o,s:s,s:o,s:o,s:o,s:o,s:I,s:I,s:o}", "name", db->name ? db->name : "", "id",
        v1_json_id(db->id), "state", msg_state_name(db->state), "branches", branches, "created",
        v1_json_time(db->created_us), "last_commit", v1_json_time(db->last_commit_us),
        "last_record_lsn", v1_json_lsn(db->last_record_lsn), "pages", (json_int_t)db->db_pages,
        "page_size", (json_int_t)db->page_size, "bytes", bytes_of(db->db_pages, db->page_size));
}

json_t *v1_json_branch(const char *database, const Corallite__BranchListed__Branch *b)
{
    const Corallite__Timeline *t = b->timeline;
    bool child = t->ancestor.len != 0;
    const char *parent = b->ancestor_name && b->ancestor_name[0] ? b->ancestor_name : NULL;
    return json_pack("{s:s,s:s,s:o,s:s,s:s?,s:o,s:o,s:o,s:o,s:o,s:I,s:I,s:o,s:b,s:o}", "database",
                     database, "branch", t->branch ? t->branch : "", "timeline", v1_json_id(t->id),
                     "state", msg_state_name(t->state), "parent", parent, "branch_lsn",
                     v1_json_lsn(child ? t->ancestor_lsn : 0), "branch_time",
                     v1_json_time(child ? b->ancestor_time_us : 0), "created",
                     v1_json_time(t->created_us), "head_lsn", v1_json_lsn(b->head_lsn), "head_time",
                     v1_json_time(b->head_time_us), "pages", (json_int_t)b->db_pages, "page_size",
                     (json_int_t)b->page_size, "bytes", bytes_of(b->db_pages, b->page_size),
                     "protected", (int)t->protected_, "expires", v1_json_time(t->expires_us));
}

json_t *v1_json_moment(const Corallite__Resolved *m)
{
    const Corallite__Timeline *t = m->timeline;
    return json_pack("{s:s,s:s,s:o,s:o,s:o,s:I,s:I,s:o,s:o,s:b}", "database",
                     t->database_name ? t->database_name : "", "branch", t->branch ? t->branch : "",
                     "timeline", v1_json_id(t->id), "lsn", v1_json_lsn(m->lsn), "time",
                     v1_json_time(m->time_us), "pages", (json_int_t)m->db_pages, "page_size",
                     (json_int_t)m->page_size, "bytes", bytes_of(m->db_pages, m->page_size),
                     "head_lsn", v1_json_lsn(m->head_lsn), "rounded", (int)m->rounded);
}

json_t *v1_json_pin(const Corallite__Pins__One *p)
{
    const char *branch = p->branch && p->branch[0] ? p->branch : NULL;
    return json_pack("{s:s,s:s?,s:o,s:o,s:o}", "name", p->name ? p->name : "", "branch", branch,
                     "lsn", v1_json_lsn(p->lsn), "time", v1_json_time(p->time_us), "created",
                     v1_json_time(p->created_us));
}

static json_t *commit_json(const Corallite__Logged__Commit *c, uint32_t page_size)
{
    const char *branch = c->branch && c->branch[0] ? c->branch : NULL;
    return json_pack("{s:o,s:o,s:I,s:I,s:o,s:s?,s:o}", "lsn", v1_json_lsn(c->lsn), "time",
                     v1_json_time(c->time_us), "pages_changed", (json_int_t)c->pages_changed,
                     "pages", (json_int_t)c->db_pages, "bytes", bytes_of(c->db_pages, page_size),
                     "branch", branch, "timeline", v1_json_id(c->timeline));
}

json_t *v1_json_log(const Corallite__Logged *log)
{
    json_t *commits = json_array();
    bool more = log->more && log->n_commits;
    for (size_t i = 0; i < log->n_commits; i++)
        json_array_append_new(commits, commit_json(log->commits[i], log->page_size));
    return json_pack("{s:o,s:I,s:o}", "commits", commits, "page_size", (json_int_t)log->page_size,
                     "next", v1_json_lsn(more ? log->commits[log->n_commits - 1]->lsn : 0));
}

json_t *v1_json_restored(const char *database, const char *branch, const Corallite__Branched *m)
{
    char path[2 * CO_NAME_MAX_BYTES + 60];
    snprintf(path, sizeof path, "/v1/databases/%s/branches/%s/restore", database, branch);
    return json_pack("{s:s,s:s,s:o,s:o,s:o,s:s,s:{s:s,s:s,s:{s:s}}}", "database", database,
                     "branch", branch, "timeline", v1_json_id(m->timeline->id), "lsn",
                     v1_json_lsn(m->lsn), "time", v1_json_time(m->time_us), "kept_as", m->kept_as,
                     "undo", "method", "POST", "path", path, "body", "from", m->kept_as);
}

json_t *v1_json_pageserver(const Corallite__ServerStatus *s, const char *address)
{
    const char *http = s->http_address && s->http_address[0] ? s->http_address : NULL;
    return json_pack("{s:s,s:s?,s:o,s:I,s:o,s:o,s:o,s:o,s:o}", "address", address, "http", http,
                     "disk", v1_json_id(s->disk), "uptime_seconds",
                     (json_int_t)(s->uptime_us / 1000000), "store_bytes",
                     v1_json_number(s->lmdb_bytes), "records", v1_json_number(s->records),
                     "pages_served", v1_json_number(s->pages_served), "bytes_in",
                     v1_json_number(s->bytes_in), "bytes_out", v1_json_number(s->bytes_out));
}

json_t *v1_json_safekeeper(const Corallite__Safekeeper *node, const Corallite__NodeStatus *s,
                           const char *trouble)
{
    const char *regressed = s ? s->regressed : NULL;
    json_t *o =
        json_pack("{s:I,s:o,s:b,s:b,s:s?,s:s?}", "node", (json_int_t)node->node, "address",
                  address_of(node), "connected", (int)node->connected, "up", (int)(s && !regressed),
                  "trouble", s ? regressed : trouble, "regressed", regressed);
    json_t *more =
        !s ? json_object()
           : json_pack("{s:o,s:I,s:I,s:o,s:o,s:o,s:o,s:o}", "disk", v1_json_id(s->disk),
                       "uptime_seconds", (json_int_t)(s->uptime_us / 1000000), "timelines",
                       (json_int_t)s->timelines, "log_bytes", v1_json_number(s->log_bytes),
                       "records", v1_json_number(s->records), "syncs", v1_json_number(s->syncs),
                       "bytes_in", v1_json_number(s->bytes_in), "bytes_out",
                       v1_json_number(s->bytes_out));
    bool whole = o && more && json_object_update(o, more) == 0;
    json_decref(more);
    if (whole)
        return o;
    json_decref(o);
    return NULL;
}

json_t *v1_json_copy(const Corallite__Safekeeper *node, const Corallite__NodeStatus__PerTimeline *t)
{
    static const Corallite__NodeStatus__PerTimeline none;
    bool known = t != NULL;
    if (!t)
        t = &none;
    return json_pack("{s:I,s:o,s:b,s:o,s:o,s:o,s:b}", "node", (json_int_t)node->node, "address",
                     address_of(node), "known", (int)known, "term", v1_json_number(t->term),
                     "flush_lsn", v1_json_lsn(t->flush_lsn), "commit_lsn",
                     v1_json_lsn(t->commit_lsn), "lease_held", (int)t->lease_held);
}
