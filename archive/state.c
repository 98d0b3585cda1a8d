#include "archive/state.h"

#include <stdio.h>

#include "archive/framed.h"
#include "proto/message.h"
#include "proto/name.h"
#include "proto/unpack.h"

#define LINES_FIELD 6u
#define PINS_FIELD  7u
static const char magic[8] = {'C', 'O', 'R', 'A', 'L', 'A', 'R', 'S'};

/* A message is the sequence of its fields, in any order (protobuf's encoding). */
static int add_field(unsigned number, const ProtobufCMessage *message, struct co_buf *out)
{
    uint8_t head[2 * CO_VARINT_MAX];
    size_t n = protobuf_c_message_get_packed_size(message);
    size_t k = co_put_varint(head, number << 3 | 2u);
    k += co_put_varint(head + k, n);
    int rc = co_buf_append(out, head, k);
    if (!rc)
        rc = co_buf_reserve(out, n);
    if (!rc)
        out->len += protobuf_c_message_pack(message, out->data + out->len);
    return rc;
}

int ar_state_begin(const Corallite__ArchiveState *head, struct co_buf *out)
{
    size_t n = corallite__archive_state__get_packed_size(head);
    int rc = co_buf_append_zeros(out, AR_FRAMED_HEAD);
    if (!rc)
        rc = co_buf_reserve(out, n);
    if (!rc)
        out->len += corallite__archive_state__pack(head, out->data + out->len);
    return rc;
}

int ar_state_add_line(const Corallite__ArchiveState__Line *line, struct co_buf *out)
{
    return add_field(LINES_FIELD, &line->base, out);
}

int ar_state_add_pin(const Corallite__ArchiveState__Pin *pin, struct co_buf *out)
{
    return add_field(PINS_FIELD, &pin->base, out);
}

int ar_state_seal(struct co_buf *out, bool kept)
{
    size_t n = out->len - AR_FRAMED_HEAD;
    if (out->len > AR_OBJECT_MAX_BYTES)
        return co_fail(CO_ERR_TOO_LARGE,
                       "a manifest of %zu bytes is larger than an archive's object may be", n);
    ar_framed_seal(out->data, n, magic, kept ? AR_STATE_VERSION : 1);
    return 0;
}

int ar_state_decode(struct co_span bytes, const char *name, Corallite__ArchiveState **out)
{
    struct ar_line line;
    struct co_span message;
    *out = NULL;
    int rc = ar_framed_open(bytes, name, magic, AR_STATE_VERSION, "manifest", &message);
    if (rc)
        return rc;
    Corallite__ArchiveState *state = message_unpack(&corallite__archive_state__descriptor, message);
    if (!state)
        return ar_damaged(name, "it is no message");
    for (size_t i = 0; i < state->n_lines; i++)
        if (ar_line_read(state->lines[i], &line)) {
            corallite__archive_state__free_unpacked(state, NULL);
            return co_fail(CO_ERR_CORRUPT, "the archive's object %s has an entry that is none",
                           name);
        }
    *out = state;
    return 0;
}

static int read_snap(const Corallite__ArchiveSnapshotAt *wire, struct ar_snap *out)
{
    if (!wire)
        return 0;
    *out = (struct ar_snap){.lsn = wire->lsn,
                            .generation = wire->generation,
                            .bytes = wire->bytes,
                            .cutoff = wire->cutoff};
    return msg_get16("sum of a snapshot", wire->has_sum, &wire->sum, out->sum.b);
}

static int read_kept(const Corallite__ArchiveKept *wire, struct ar_kept *out)
{
    if (!wire)
        return 0;
    out->lsn = wire->lsn;
    out->term = wire->term;
    out->time_us = wire->time_us;
    int rc = msg_get16("digest of a kept begin", wire->has_digest, &wire->digest, out->digest.b);
    return rc ? rc : msg_config_read(wire->config, &out->config);
}

int ar_line_read(const Corallite__ArchiveState__Line *line, struct ar_line *out)
{
    const Corallite__Timeline *t = line->timeline;
    *out = (struct ar_line){.timeline = t};
    if (!t)
        return co_fail(CO_ERR_CORRUPT, "an entry of a manifest has no timeline");
    int rc = msg_get16("timeline", t->has_id, &t->id, out->id.b);
    if (!rc)
        rc = msg_get16("ancestor", t->has_ancestor, &t->ancestor, out->ancestor.b);
    if (!rc)
        rc = msg_get16("base digest", t->has_base_digest, &t->base_digest, out->base.b);
    if (!rc)
        rc = msg_get16("digest", line->has_digest, &line->digest, out->digest.b);
    if (!rc)
        rc = read_snap(line->snapshot, &out->snap);
    if (!rc)
        rc = read_kept(line->kept, &out->kept);
    if (rc)
        return rc;
    out->start = t->has_start_lsn ? t->start_lsn : LSN_FIRST;
    out->ancestor_lsn = t->ancestor_lsn;
    out->end = line->end_lsn;
    out->known = line->known_lsn;
    out->time_us = line->time_us;
    if (out->snap.lsn > out->end || (out->snap.lsn && out->snap.cutoff > out->snap.lsn))
        return co_fail(CO_ERR_CORRUPT, "an entry of a manifest has a snapshot of no place");
    if (out->kept.lsn && (out->kept.lsn <= out->start || out->kept.lsn % LSN_ALIGN ||
                          out->kept.lsn > out->snap.lsn || !out->kept.term))
        return co_fail(CO_ERR_CORRUPT, "an entry of a manifest has a log that begins nowhere");
    if (co_id_is_zero(&out->id) || !t->database_name || !t->branch || out->end < out->start ||
        out->end % LSN_ALIGN || strlen(t->database_name) > CO_NAME_MAX_BYTES ||
        strlen(t->branch) > CO_NAME_MAX_BYTES)
        return co_fail(CO_ERR_CORRUPT, "an entry of a manifest has no name, no id or no place");
    snprintf(out->name, sizeof out->name, "%s/%s", t->database_name, t->branch);
    return 0;
}
