#include "safekeeper/registry.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/message.h"
#include "proto/name.h"

/* -- Entries ---------------------------------------------------------------------------------- */

void sk_entry_release(struct sk_entry *entry)
{
    if (entry->message)
        corallite__timeline__free_unpacked(entry->message, NULL);
    entry->message = NULL;
}

static int parse_config(const Corallite__Config *c, struct wal_config *out)
{
    int rc = msg_config_read(c, out);
    if (!rc && !out->n)
        rc = co_fail(CO_ERR_INVAL, "a timeline needs a configuration that names its safekeepers");
    return rc;
}

/* A deep copy, through the packed form. */
static int copy_message(const Corallite__Timeline *m, Corallite__Timeline **out)
{
    size_t len = corallite__timeline__get_packed_size(m);
    if (len > SK_ENTRY_MAX)
        return co_fail(CO_ERR_TOO_LARGE, "a timeline's description takes at most %d bytes, not %zu",
                       SK_ENTRY_MAX, len);
    uint8_t *bytes = malloc(len ? len : 1);
    if (!bytes)
        return co_fail(CO_ERR_NOMEM, "no memory for a timeline's description");
    corallite__timeline__pack(m, bytes);
    *out = corallite__timeline__unpack(NULL, len, bytes);
    free(bytes);
    return *out ? 0 : co_fail(CO_ERR_NOMEM, "no memory for a timeline's description");
}

static bool bytes_ok(protobuf_c_boolean has, const ProtobufCBinaryData *b)
{
    return !has || b->len == 16;
}

static int check_fields(const Corallite__Timeline *m)
{
    if (!m->has_id || m->id.len != 16)
        return co_fail(CO_ERR_INVAL, "a timeline's id has 16 bytes");
    if (!bytes_ok(m->has_database, &m->database) || !bytes_ok(m->has_ancestor, &m->ancestor) ||
        !bytes_ok(m->has_base_digest, &m->base_digest) ||
        !bytes_ok(m->has_pageserver, &m->pageserver) || !bytes_ok(m->has_replaces, &m->replaces))
        return co_fail(CO_ERR_INVAL,
                       "a timeline's database, ancestor, digest, pageserver and replaced timeline "
                       "are 16 bytes each, or absent");
    if (!m->has_version || m->version == 0 || !m->has_state ||
        m->state < CORALLITE__TIMELINE_STATE__TIMELINE_CREATING ||
        m->state > CORALLITE__TIMELINE_STATE__TIMELINE_SEALED)
        return co_fail(CO_ERR_INVAL,
                       "a timeline needs a version of 1 or more and a state CREATING, ACTIVE, "
                       "SEALED or DROPPED");
    if (!m->has_start_lsn || m->start_lsn < LSN_FIRST || m->start_lsn % LSN_ALIGN)
        return co_fail(CO_ERR_INVAL,
                       "a timeline's start LSN is a multiple of %u and at least %llu, not %llu",
                       LSN_ALIGN, (unsigned long long)LSN_FIRST, (unsigned long long)m->start_lsn);
    int rc = m->database_name ? name_check(m->database_name) : 0;
    if (!rc && m->branch)
        rc = name_check(m->branch);
    if (!rc && m->keep_as)
        rc = name_check(m->keep_as);
    return rc;
}

int sk_entry_parse(const Corallite__Timeline *m, struct sk_entry *out)
{
    *out = (struct sk_entry){0};
    int rc = check_fields(m);
    if (!rc)
        rc = parse_config(m->config, &out->config);
    if (rc)
        return rc;
    memcpy(out->id.b, m->id.data, 16);
    out->start_lsn = m->start_lsn;
    if (m->has_base_digest)
        memcpy(out->base_digest.b, m->base_digest.data, 16);
    out->born_term = m->born_term;
    out->version = m->version;
    out->state = m->state;
    snprintf(out->name, sizeof out->name, "%s/%s", m->database_name ? m->database_name : "?",
             m->branch ? m->branch : "?");
    return copy_message(m, &out->message);
}

/* -- The array -------------------------------------------------------------------------------- */

void sk_registry_free(struct sk_registry *r)
{
    for (uint32_t i = 0; i < r->n; i++)
        sk_entry_release(&r->e[i]);
    free(r->e);
    *r = (struct sk_registry){0};
}

/* Index of the first entry whose id is not below (or, `above`: is above) id. */
static uint32_t position(const struct sk_registry *r, const struct co_id *id, bool above)
{
    uint32_t lo = 0, hi = r->n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        int c = memcmp(r->e[mid].id.b, id->b, sizeof id->b);
        if (c < 0 || (above && c == 0))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct sk_entry *sk_registry_find(const struct sk_registry *r, const struct co_id *id)
{
    uint32_t i = position(r, id, false);
    return i < r->n && co_id_eq(&r->e[i].id, id) ? &r->e[i] : NULL;
}

struct sk_entry *sk_registry_after(const struct sk_registry *r, const struct co_id *after)
{
    uint32_t i = after ? position(r, after, true) : 0;
    return i < r->n ? &r->e[i] : NULL;
}

int sk_registry_judge(const struct sk_registry *r, const struct sk_entry *entry, enum sk_put *what)
{
    char id[CO_ID_TEXT];
    const struct sk_entry *have = sk_registry_find(r, &entry->id);
    *what = SK_PUT_CREATE;
    if (!have) {
        if (r->n >= CO_TIMELINES_MAX)
            return co_fail(CO_ERR_FULL, "this safekeeper knows %u timelines already, the limit",
                           CO_TIMELINES_MAX);
        return 0;
    }
    *what = SK_PUT_NOTHING;
    if (have->start_lsn != entry->start_lsn ||
        memcmp(have->base_digest.b, entry->base_digest.b, sizeof have->base_digest.b))
        return co_fail(CO_ERR_INVAL,
                       "timeline %s begins at LSN %016llx here; one that begins at %016llx or with "
                       "another digest is a different timeline and needs an id of its own",
                       co_id_format(&entry->id, id), (unsigned long long)have->start_lsn,
                       (unsigned long long)entry->start_lsn);
    if (entry->version <= have->version)
        return 0;
    if (have->state == CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED &&
        entry->state != CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED)
        return co_fail(CO_ERR_DROPPED,
                       "timeline %s was dropped; that is for ever. Create a new one",
                       co_id_format(&entry->id, id));
    if (have->state == CORALLITE__TIMELINE_STATE__TIMELINE_SEALED &&
        entry->state != CORALLITE__TIMELINE_STATE__TIMELINE_SEALED &&
        entry->state != CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED)
        return co_fail(CO_ERR_READONLY, "timeline %s was sealed; that is for ever. Branch from it",
                       co_id_format(&entry->id, id));
    *what = SK_PUT_CHANGE;
    return 0;
}

int sk_registry_put(struct sk_registry *r, struct sk_entry *entry)
{
    uint32_t i = position(r, &entry->id, false);
    r->sequence++;
    if (i < r->n && co_id_eq(&r->e[i].id, &entry->id)) {
        const struct sk_entry *was = &r->e[i];
        memcpy(entry->durable, was->durable, sizeof entry->durable);
        entry->archived = was->archived;
        entry->open = was->open;
        entry->holders = was->holders;
        entry->rest_lsn = was->rest_lsn;
        entry->rest_base = was->rest_base;
        entry->trim_look = was->trim_look;
        entry->trim_opened = was->trim_opened;
        entry->closed_us = was->closed_us;
        entry->here = was->here;
        sk_entry_release(&r->e[i]);
    } else {
        if (r->n == r->cap) {
            uint32_t cap = r->cap ? r->cap * 2 : 16;
            struct sk_entry *e = realloc(r->e, cap * sizeof *e);
            if (!e)
                return co_fail(CO_ERR_NOMEM, "no memory for another timeline");
            r->e = e;
            r->cap = cap;
        }
        memmove(&r->e[i + 1], &r->e[i], (r->n - i) * sizeof *r->e);
        r->n++;
    }
    r->e[i] = *entry;
    entry->message = NULL;
    return 0;
}
