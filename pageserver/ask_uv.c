/*
 * ask_uv.c - requests about moments and branches, from the wire into asks. Every field is
 * untrusted: names are checked, lengths compared, absent ones given their meaning.
 */
#include <stdio.h>

#include "pageserver/server_uv.h"
#include "proto/message.h"
#include "proto/unpack.h"

#define LOG_MAX 1000u

static int take_at(const char *wire, char out[WHEN_AT_MAX])
{
    if (wire && strlen(wire) >= WHEN_AT_MAX)
        return co_fail(CO_ERR_INVAL, "a moment has at most %d characters; this one has %zu",
                       WHEN_AT_MAX - 1, strlen(wire));
    snprintf(out, WHEN_AT_MAX, "%s", wire ? wire : "");
    return 0;
}

static int take_names(const char *db, const char *branch, const char *otherwise, struct ps_ask *ask)
{
    int rc = ps_take_name("database", db, NULL, ask->db);
    return rc ? rc : ps_take_name("branch", branch, otherwise, ask->branch);
}

static int read_resolve(const void *message, struct ps_ask *ask, uint32_t *deadline_ms)
{
    const Corallite__Resolve *m = message;
    ask->kind = PS_ASK_RESOLVE;
    *deadline_ms = m->deadline_ms;
    int rc = take_names(m->database, m->branch, "main", ask);
    return rc ? rc : take_at(m->at, ask->moment.at);
}

static int read_create(const void *message, struct ps_ask *ask, uint32_t *deadline_ms)
{
    const Corallite__BranchCreate *m = message;
    ask->kind = PS_ASK_BRANCH_CREATE;
    *deadline_ms = m->deadline_ms;
    ask->b.expires_us = m->expires_us;
    int rc = take_names(m->database, m->branch, NULL, ask);
    if (!rc)
        rc = ps_take_name("branch", m->from_branch, "main", ask->b.from);
    if (!rc)
        rc = take_at(m->at, ask->moment.at);
    return rc ? rc : msg_get16("branch id", m->has_id, &m->id, ask->b.id.b);
}

static int read_change(const void *message, struct ps_ask *ask, uint32_t *deadline_ms)
{
    const Corallite__BranchChange *m = message;
    (void)deadline_ms;
    ask->kind = PS_ASK_BRANCH_CHANGE;
    ask->b.has_protect = m->has_protect;
    ask->b.protect = m->protect;
    ask->b.has_expires = m->has_expires_us;
    ask->b.expires_us = m->expires_us;
    ask->b.drop = m->drop;
    ask->b.has_retention = m->has_retention_us;
    ask->b.retention_us = m->retention_us;
    int rc = take_names(m->database, m->branch, NULL, ask);
    if (!rc && m->rename_to)
        rc = ps_take_name("new name", m->rename_to, NULL, ask->b.name);
    return rc;
}

static int read_restore(const void *message, struct ps_ask *ask, uint32_t *deadline_ms)
{
    const Corallite__Restore *m = message;
    ask->kind = PS_ASK_RESTORE;
    *deadline_ms = m->deadline_ms;
    int rc = take_names(m->database, m->branch, "main", ask);
    if (!rc)
        rc = ps_take_name("branch", m->to_branch, ask->branch, ask->b.from);
    if (!rc && m->keep_as && *m->keep_as)
        rc = ps_take_name("name to keep it as", m->keep_as, NULL, ask->b.name);
    if (!rc)
        rc = take_at(m->at, ask->moment.at);
    return rc ? rc : msg_get16("branch id", m->has_id, &m->id, ask->b.id.b);
}

static int read_list(const void *message, struct ps_ask *ask, uint32_t *deadline_ms)
{
    const Corallite__BranchList *m = message;
    (void)deadline_ms;
    ask->kind = PS_ASK_BRANCH_LIST;
    return take_names(m->database, NULL, "main", ask);
}

static int read_log(const void *message, struct ps_ask *ask, uint32_t *deadline_ms)
{
    const Corallite__Log *m = message;
    (void)deadline_ms;
    ask->kind = PS_ASK_LOG;
    ask->b.before_lsn = m->before_lsn;
    ask->b.limit = m->limit;
    if (m->limit > LOG_MAX)
        return co_fail(CO_ERR_INVAL,
                       "a log is told %u commits at a time at most; %u were asked for", LOG_MAX,
                       m->limit);
    int rc = take_names(m->database, m->branch, "main", ask);
    return rc ? rc : take_at(m->at, ask->moment.at);
}

static int read_pin(const void *message, struct ps_ask *ask, uint32_t *deadline_ms)
{
    const Corallite__Pin *m = message;
    (void)deadline_ms;
    ask->kind = PS_ASK_PIN;
    ask->b.drop = m->drop;
    int rc = take_names(m->database, m->branch, "main", ask);
    if (!rc)
        rc = ps_take_name("pin", m->name, NULL, ask->b.name);
    return rc ? rc : take_at(m->at, ask->moment.at);
}

static int read_pin_list(const void *message, struct ps_ask *ask, uint32_t *deadline_ms)
{
    const Corallite__PinList *m = message;
    (void)deadline_ms;
    ask->kind = PS_ASK_PIN_LIST;
    return take_names(m->database, NULL, "main", ask);
}

static int read_gc(const void *message, struct ps_ask *ask, uint32_t *deadline_ms)
{
    const Corallite__Gc *m = message;
    ask->kind = PS_ASK_GC;
    ask->b.dry = m->dry_run;
    *deadline_ms = m->deadline_ms;
    int rc = take_names(m->database, NULL, "main", ask);
    return rc ? rc : take_at(m->before, ask->moment.at);
}

struct reader {
    enum frame_type type;
    const ProtobufCMessageDescriptor *message;
    int (*read)(const void *message, struct ps_ask *ask, uint32_t *deadline_ms);
};

static const struct reader readers[] = {
    {FRAME_RESOLVE, &corallite__resolve__descriptor, read_resolve},
    {FRAME_BRANCH_CREATE, &corallite__branch_create__descriptor, read_create},
    {FRAME_BRANCH_CHANGE, &corallite__branch_change__descriptor, read_change},
    {FRAME_RESTORE, &corallite__restore__descriptor, read_restore},
    {FRAME_BRANCH_LIST, &corallite__branch_list__descriptor, read_list},
    {FRAME_LOG, &corallite__log__descriptor, read_log},
    {FRAME_PIN, &corallite__pin__descriptor, read_pin},
    {FRAME_PIN_LIST, &corallite__pin_list__descriptor, read_pin_list},
    {FRAME_GC, &corallite__gc__descriptor, read_gc},
};

bool ps_branch_frame(struct ps_session *session, const struct frame_header *frame,
                     struct co_span message)
{
    const struct reader *r = readers, *end = readers + sizeof readers / sizeof *readers;
    struct ps_ask ask = {.request = frame->request_id};
    uint32_t deadline_ms = 0;
    while (r < end && r->type != frame->type)
        r++;
    if (r == end)
        return false;
    void *m = message_unpack(r->message, message);
    int rc = m ? r->read(m, &ask, &deadline_ms) : CO_ERR_PROTOCOL;
    if (m)
        protobuf_c_message_free_unpacked(m, NULL);
    if (rc)
        peer_send_error(session->peer, frame->request_id, rc);
    else
        ps_serve_ask(session, &ask, deadline_ms);
    return true;
}
