#include "pageserver/timeline_meta.h"

#include <stdio.h>

#include "proto/unpack.h"

char *ps_meta_name(const struct ps_meta *meta, char text[PS_META_NAME_TEXT])
{
    snprintf(text, PS_META_NAME_TEXT, "%s/%s", meta->database_name, meta->branch);
    return text;
}

static int take_name(const char *what, const char *wire, char out[CO_NAME_MAX_BYTES + 1])
{
    if (!wire || name_check(wire))
        return co_fail(CO_ERR_PROTOCOL, "a timeline's %s name is missing or not allowed", what);
    snprintf(out, CO_NAME_MAX_BYTES + 1, "%s", wire);
    return 0;
}

/* What a branch is beside a name and an origin. */
static int take_branch(const Corallite__Timeline *wire, struct ps_meta *out)
{
    int rc = msg_get16("replaced timeline", wire->has_replaces, &wire->replaces, out->replaces.b);
    if (!rc && wire->keep_as && *wire->keep_as)
        rc = take_name("kept", wire->keep_as, out->keep_as);
    out->is_protected = wire->protected_;
    out->hidden = wire->hidden;
    out->dropping = wire->dropping;
    out->expires_us = wire->expires_us;
    out->retention_us = wire->retention_us;
    out->erased_us = wire->erased_us;
    out->purged = wire->purged;
    return rc;
}

int ps_meta_from_wire(const Corallite__Timeline *wire, struct ps_meta *out)
{
    *out = (struct ps_meta){0};
    int rc = msg_get16("timeline", wire->has_id, &wire->id, out->id.b);
    if (!rc)
        rc = msg_get16("database", wire->has_database, &wire->database, out->database.b);
    if (!rc)
        rc = msg_get16("ancestor", wire->has_ancestor, &wire->ancestor, out->ancestor.b);
    if (!rc)
        rc =
            msg_get16("base digest", wire->has_base_digest, &wire->base_digest, out->base_digest.b);
    if (!rc)
        rc = msg_get16("pageserver", wire->has_pageserver, &wire->pageserver, out->pageserver.b);
    if (!rc)
        rc = take_name("database", wire->database_name, out->database_name);
    if (!rc)
        rc = take_name("branch", wire->branch, out->branch);
    if (!rc)
        rc = msg_config_read(wire->config, &out->config);
    if (!rc)
        rc = take_branch(wire, out);
    if (rc)
        return rc;
    int state = (int)wire->state;
    if (co_id_is_zero(&out->id) || state < PS_CREATING || state > PS_SEALED || !wire->version)
        return co_fail(CO_ERR_PROTOCOL,
                       "a timeline came with a zero id, without a version, or in state %d", state);
    out->ancestor_lsn = wire->ancestor_lsn;
    out->start_lsn = wire->has_start_lsn ? wire->start_lsn : LSN_FIRST;
    out->state = (enum ps_state)state;
    out->version = wire->version;
    out->created_us = wire->created_us;
    out->born_term = wire->born_term;
    out->base_term = wire->base_term;
    out->taken_us = wire->taken_us;
    return 0;
}

int ps_meta_unpack(struct co_span bytes, struct ps_meta *out)
{
    Corallite__Timeline *wire = message_unpack(&corallite__timeline__descriptor, bytes);
    if (!wire)
        return CO_ERR_PROTOCOL;
    int rc = ps_meta_from_wire(wire, out);
    corallite__timeline__free_unpacked(wire, NULL);
    return rc;
}

void ps_meta_to_wire(const struct ps_meta *meta, struct ps_meta_wire *out)
{
    Corallite__Timeline *w = &out->wire;
    corallite__timeline__init(w);
    w->has_id = w->has_database = w->has_start_lsn = 1;
    w->id = msg_bytes16(meta->id.b);
    w->database = msg_bytes16(meta->database.b);
    w->database_name = (char *)(uintptr_t)meta->database_name; /* never written through */
    w->branch = (char *)(uintptr_t)meta->branch;
    if (!co_id_is_zero(&meta->ancestor)) {
        w->has_ancestor = w->has_ancestor_lsn = 1;
        w->ancestor = msg_bytes16(meta->ancestor.b);
        w->ancestor_lsn = meta->ancestor_lsn;
    }
    w->has_base_digest = 1;
    w->base_digest = msg_bytes16(meta->base_digest.b);
    w->start_lsn = meta->start_lsn;
    if (meta->config.version) {
        msg_config_fill(&meta->config, &out->config);
        w->config = &out->config.pb;
    }
    w->has_state = w->has_version = w->has_created_us = 1;
    w->state = (Corallite__TimelineState)meta->state;
    w->version = meta->version;
    w->created_us = meta->created_us;
    w->has_born_term = meta->born_term != 0;
    w->born_term = meta->born_term;
    w->has_base_term = meta->base_term != 0;
    w->base_term = meta->base_term;
    if (!co_id_is_zero(&meta->pageserver)) {
        w->has_pageserver = 1;
        w->pageserver = msg_bytes16(meta->pageserver.b);
    }
    w->has_taken_us = meta->taken_us != 0;
    w->taken_us = meta->taken_us;
    if (!co_id_is_zero(&meta->replaces)) {
        w->has_replaces = 1;
        w->replaces = msg_bytes16(meta->replaces.b);
        w->keep_as = (char *)(uintptr_t)meta->keep_as;
    }
    w->has_protected_ = w->protected_ = meta->is_protected;
    w->has_hidden = w->hidden = meta->hidden;
    w->has_dropping = w->dropping = meta->dropping;
    w->has_expires_us = meta->expires_us != 0;
    w->expires_us = meta->expires_us;
    w->has_retention_us = meta->retention_us != 0;
    w->retention_us = meta->retention_us;
    w->has_erased_us = meta->erased_us != 0;
    w->erased_us = meta->erased_us;
    w->has_purged = w->purged = meta->purged;
}

int ps_meta_pack(const struct ps_meta *meta, struct co_buf *out)
{
    struct ps_meta_wire wire;
    ps_meta_to_wire(meta, &wire);
    size_t n = corallite__timeline__get_packed_size(&wire.wire);
    int rc = co_buf_reserve(out, n);
    if (rc)
        return rc;
    out->len += corallite__timeline__pack(&wire.wire, out->data + out->len);
    return 0;
}
