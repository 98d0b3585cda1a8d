#include "safekeeper/registry_file.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "proto/message.h"
#include "proto/name.h"
#include "proto/unpack.h"

enum { HEADER = 32, ENTRY_HEADER = 8, AT_CRC = 24, ENTRY_MAX = 8192 };
#define FILE_MAX_BYTES (CO_TIMELINES_MAX * 1024ull + HEADER)

static const uint8_t magic[8] = {'C', 'O', 'R', 'A', 'L', 'R', 'E', 'G'};

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
    if (len > ENTRY_MAX)
        return co_fail(CO_ERR_TOO_LARGE, "a timeline's description takes at most %d bytes, not %zu",
                       ENTRY_MAX, len);
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
        entry->open = r->e[i].open;
        memcpy(entry->durable, r->e[i].durable, sizeof entry->durable);
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

/* -- The file --------------------------------------------------------------------------------- */

static int encode_entry(const struct sk_entry *entry, struct co_buf *out)
{
    size_t len = corallite__timeline__get_packed_size(entry->message);
    int rc = co_buf_reserve(out, ENTRY_HEADER + len);
    if (rc)
        return rc;
    uint8_t *p = out->data + out->len;
    corallite__timeline__pack(entry->message, p + ENTRY_HEADER);
    co_put32(p, (uint32_t)len);
    co_put32(p + 4, co_crc32c(co_crc32c(0, p, 4), p + ENTRY_HEADER, len));
    out->len += ENTRY_HEADER + len;
    return 0;
}

int sk_registry_encode(const struct sk_registry *r, const struct sk_entry *entry,
                       struct co_buf *out)
{
    uint32_t count = 0;
    out->len = 0;
    int rc = co_buf_append_zeros(out, HEADER);
    bool placed = !entry;
    for (uint32_t i = 0; i < r->n && !rc; i++) {
        int c = placed ? 1 : memcmp(entry->id.b, r->e[i].id.b, sizeof entry->id.b);
        if (!placed && c <= 0) {
            rc = encode_entry(entry, out);
            placed = true;
            count++;
        }
        if (!rc && c != 0) {
            rc = encode_entry(&r->e[i], out);
            count++;
        }
    }
    if (!rc && !placed) {
        rc = encode_entry(entry, out);
        count++;
    }
    if (rc)
        return rc;
    memcpy(out->data, magic, 8);
    co_put32(out->data + 8, CO_FORMAT_VERSION);
    co_put32(out->data + 12, count);
    co_put64(out->data + 16, r->sequence + 1);
    co_put32(out->data + AT_CRC, co_crc32c(0, out->data, AT_CRC));
    return 0;
}

int sk_registry_write(const char *dir, struct co_span bytes)
{
    return sk_io_replace(dir, "registry", bytes);
}

static int damaged(const char *dir, const char *what)
{
    return co_fail(
        CO_ERR_CORRUPT,
        "the registry %s/registry is damaged (%s). It is the list of the timelines that this "
        "safekeeper votes for, so it does not start without it. Bring the file back, or "
        "replace this safekeeper; the other members have the data",
        dir, what);
}

static int decode_entries(const char *dir, struct co_span rest, uint32_t n, struct sk_registry *out)
{
    for (uint32_t i = 0; i < n; i++) {
        if (rest.len < ENTRY_HEADER)
            return damaged(dir, "it ends early");
        size_t len = co_get32(rest.data);
        if (len > ENTRY_MAX || len > rest.len - ENTRY_HEADER)
            return damaged(dir, "an entry is longer than the file");
        const uint8_t *p = rest.data + ENTRY_HEADER;
        if (co_get32(rest.data + 4) != co_crc32c(co_crc32c(0, rest.data, 4), p, len))
            return damaged(dir, "an entry's checksum is wrong");
        Corallite__Timeline *m =
            message_unpack(&corallite__timeline__descriptor, co_span_of(p, len));
        struct sk_entry entry;
        int rc = m ? sk_entry_parse(m, &entry) : CO_ERR_CORRUPT;
        if (m)
            corallite__timeline__free_unpacked(m, NULL);
        if (rc)
            return damaged(dir, "an entry does not decode");
        if (i && memcmp(out->e[out->n - 1].id.b, entry.id.b, sizeof entry.id.b) >= 0) {
            sk_entry_release(&entry);
            return damaged(dir, "its entries are out of order");
        }
        rc = sk_registry_put(out, &entry);
        sk_entry_release(&entry);
        if (rc)
            return rc;
        rest.data += ENTRY_HEADER + len;
        rest.len -= ENTRY_HEADER + len;
    }
    return rest.len ? damaged(dir, "there is more than it says") : 0;
}

int sk_registry_read(const char *dir, struct sk_registry *out)
{
    char path[SK_PATH_MAX];
    struct co_buf file = {0};
    *out = (struct sk_registry){0};
    int rc = sk_io_path(path, "%s/registry", dir);
    if (!rc)
        rc = sk_io_read_all(path, FILE_MAX_BYTES, &file);
    if (!rc) /* it may have been renamed just before a kill: what is answered from it must stay */
        rc = sk_io_sync_dir(dir);
    if (rc)
        goto out;
    const uint8_t *p = file.data;
    if (file.len < HEADER || memcmp(p, magic, 8) ||
        co_get32(p + AT_CRC) != co_crc32c(0, p, AT_CRC)) {
        rc = damaged(dir, "its first bytes are not those of a registry");
    } else if (co_get32(p + 8) != CO_FORMAT_VERSION) {
        rc = co_fail(CO_ERR_VERSION,
                     "%s has format version %u, this build knows %u; start the newer "
                     "corallite-safekeeper that wrote it",
                     path, co_get32(p + 8), CO_FORMAT_VERSION);
    } else if (co_get32(p + 28) || co_get32(p + 12) > CO_TIMELINES_MAX) {
        rc = damaged(dir, "its first bytes are not those of a registry");
    } else {
        uint64_t sequence = co_get64(p + 16);
        rc = decode_entries(dir, co_span_of(p + HEADER, file.len - HEADER), co_get32(p + 12), out);
        out->sequence = sequence;
    }
    if (rc)
        sk_registry_free(out);
out:
    co_buf_free(&file);
    return rc;
}
