#include "safekeeper/log_file.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"

#define MARK_EVERY_BYTES CO_MIB

int sk_log_create(const char *dir, const struct sk_owner *owner, lsn_t start_lsn,
                  const struct wal_digest *digest, struct sk_log *out)
{
    *out = (struct sk_log){.start_lsn = start_lsn,
                           .end_lsn = start_lsn,
                           .flushed_lsn = start_lsn,
                           .end_digest = *digest};
    return sk_segments_create(dir, owner, start_lsn, &out->segments);
}

void sk_log_close(struct sk_log *log)
{
    sk_segments_close(&log->segments);
    free(log->marks);
    free(log->configs);
    log->marks = NULL;
    log->configs = NULL;
}

const char *sk_log_place(const struct sk_log *log, lsn_t lsn)
{
    static _Thread_local char text[512];
    char path[SK_PATH_MAX], id[CO_ID_TEXT], at[LSN_TEXT];
    uint64_t offset = 0;
    if (sk_segments_path(&log->segments, lsn, path, &offset))
        path[0] = 0;
    snprintf(text, sizeof text, "timeline %s, LSN %s (%.360s, offset %llu)",
             co_id_format(&log->segments.owner.timeline, id), lsn_format(lsn, at), path,
             (unsigned long long)offset);
    return text;
}

/* -- Index ------------------------------------------------------------------------------------ */

static int grow(void **array, uint32_t n, uint32_t *cap, size_t element)
{
    if (n < *cap)
        return 0;
    uint32_t more = *cap ? *cap * 2 : 16;
    void *p = realloc(*array, more * element);
    if (!p)
        return co_fail(CO_ERR_NOMEM, "no memory for the index of a log");
    *array = p;
    *cap = more;
    return 0;
}

int sk_log_note(struct sk_log *log, struct co_span record, const struct wal_header *header)
{
    co_assert(header->begin_lsn == log->end_lsn && header->total_bytes == record.len);
    void *p = log->marks;
    int rc = grow(&p, log->n_marks, &log->cap_marks, sizeof *log->marks);
    log->marks = p;
    p = log->configs;
    if (!rc)
        rc = grow(&p, log->n_configs, &log->cap_configs, sizeof *log->configs);
    log->configs = p;
    if (rc)
        return rc;
    if (!log->n_marks || log->end_lsn - log->marks[log->n_marks - 1].lsn >= MARK_EVERY_BYTES)
        log->marks[log->n_marks++] = (struct sk_mark){log->end_lsn, log->end_digest};
    if (header->kind == WAL_CONFIG) {
        struct sk_log_config *c = &log->configs[log->n_configs];
        c->end_lsn = header->end_lsn;
        rc = wal_read_config(record, header, &c->config);
        if (rc)
            return rc;
        log->n_configs++;
    }
    log->end_lsn = header->end_lsn;
    log->end_digest = header->digest;
    return 0;
}

/* -- Writing ---------------------------------------------------------------------------------- */

int sk_log_append(struct sk_log *log, lsn_t lsn, struct co_span records)
{
    if (lsn != log->end_lsn)
        return co_fail(CO_ERR_BUG, "append not at the end of the log: %s", sk_log_place(log, lsn));
    int rc = sk_segments_write(&log->segments, lsn, records);
    while (!rc && records.len) {
        struct wal_header h;
        rc = wal_check(records, &h);
        if (rc || h.begin_lsn != log->end_lsn)
            return co_fail(CO_ERR_BUG, "unsound bytes were to be appended: %s",
                           sk_log_place(log, log->end_lsn));
        rc = sk_log_note(log, co_span_of(records.data, (size_t)h.total_bytes), &h);
        records.data += h.total_bytes;
        records.len -= (size_t)h.total_bytes;
        log->records++;
    }
    return rc;
}

int sk_log_sync(struct sk_log *log)
{
    int rc = sk_segments_sync(&log->segments);
    if (!rc)
        log->flushed_lsn = log->end_lsn;
    return rc;
}

int sk_log_truncate(struct sk_log *log, lsn_t lsn)
{
    struct wal_digest digest;
    struct wal_config config;
    if (lsn < log->start_lsn || lsn > log->end_lsn)
        return co_fail(CO_ERR_BUG, "truncation outside of the log: %s", sk_log_place(log, lsn));
    int rc = sk_log_at(log, lsn, &digest, &config);
    if (!rc)
        rc = sk_segments_cut(&log->segments, lsn);
    if (rc)
        return rc;
    while (log->n_marks && log->marks[log->n_marks - 1].lsn >= lsn)
        log->n_marks--;
    while (log->n_configs && log->configs[log->n_configs - 1].end_lsn > lsn)
        log->n_configs--;
    log->end_lsn = log->flushed_lsn = lsn;
    log->end_digest = digest;
    return 0;
}

/* -- Reading ---------------------------------------------------------------------------------- */

static bool is_boundary(struct sk_log *log, lsn_t lsn);

static int bad_record(struct sk_log *log, lsn_t lsn, bool trusted)
{
    if (!trusted && !is_boundary(log, lsn)) {
        char text[LSN_TEXT];
        return co_fail(CO_ERR_INVAL, "LSN %s is not the begin of a record of this timeline",
                       lsn_format(lsn, text));
    }
    return co_fail(CO_ERR_CORRUPT,
                   "the log is damaged at %s: stop this safekeeper and replace it; the other "
                   "members have the record",
                   sk_log_place(log, lsn));
}

/* Reads the record at `lsn` behind what `out` holds. `trusted`: lsn is known to be a boundary. */
static int read_record(struct sk_log *log, lsn_t lsn, bool trusted, struct co_buf *out,
                       struct wal_header *h)
{
    uint8_t head[WAL_HEADER_BYTES];
    if (lsn + sizeof head > log->end_lsn || lsn % LSN_ALIGN)
        return bad_record(log, lsn, trusted);
    int rc = sk_segments_read(&log->segments, lsn, head, sizeof head);
    if (rc)
        return rc;
    if (wal_peek(co_span_of(head, sizeof head), h) || h->begin_lsn != lsn ||
        h->total_bytes > log->end_lsn - lsn)
        return bad_record(log, lsn, trusted);
    rc = co_buf_reserve(out, (size_t)h->total_bytes);
    if (!rc)
        rc = sk_segments_read(&log->segments, lsn, out->data + out->len, (size_t)h->total_bytes);
    if (rc)
        return rc;
    const struct sk_owner *owner = &log->segments.owner;
    if (wal_check(co_span_of(out->data + out->len, (size_t)h->total_bytes), h) ||
        !co_id_eq(&h->timeline, &owner->timeline) || !co_id_eq(&h->cluster, &owner->cluster) ||
        h->begin_lsn != lsn)
        return bad_record(log, lsn, trusted);
    out->len += (size_t)h->total_bytes;
    return 0;
}

/* Takes the sound records off the front of out[at..]: how many bytes they are, at most `max` but at
 * least one record if a whole one is there. */
static size_t whole_records(struct sk_log *log, lsn_t lsn, struct co_span bytes, uint64_t max)
{
    size_t used = 0;
    const struct sk_owner *owner = &log->segments.owner;
    while (used < bytes.len) {
        struct wal_header h;
        if (wal_check(co_span_of(bytes.data + used, bytes.len - used), &h) ||
            h.begin_lsn != lsn + used || !co_id_eq(&h.timeline, &owner->timeline) ||
            !co_id_eq(&h.cluster, &owner->cluster) || (used && used + h.total_bytes > max))
            break;
        used += (size_t)h.total_bytes;
    }
    return used;
}

int sk_log_read(struct sk_log *log, lsn_t from, lsn_t to, uint64_t max_bytes, struct co_buf *out)
{
    co_assert(to <= log->end_lsn);
    if (from >= to)
        return 0;
    if (from < log->start_lsn)
        return bad_record(log, from, false);
    uint64_t want = to - from < max_bytes ? to - from : max_bytes;
    int rc = co_buf_reserve(out, (size_t)want);
    if (!rc)
        rc = sk_segments_read(&log->segments, from, out->data + out->len, (size_t)want);
    if (rc)
        return rc;
    size_t used = whole_records(log, from, co_span_of(out->data + out->len, (size_t)want), want);
    if (used) {
        out->len += used;
        return 0;
    }
    /* One that is larger than asked for travels alone, unless it goes beyond `to`. */
    struct wal_header h;
    size_t before = out->len;
    rc = read_record(log, from, false, out, &h);
    if (!rc && h.end_lsn > to)
        out->len = before;
    return rc;
}

/* Walks from the mark at or below lsn; true if a record ends or begins there. */
static int walk(struct sk_log *log, lsn_t lsn, struct wal_digest *digest, bool *found)
{
    struct sk_mark at = {log->start_lsn, log->end_digest};
    uint32_t lo = 0, hi = log->n_marks;
    struct co_buf buf = {0};
    int rc = 0;
    *found = false;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (log->marks[mid].lsn <= lsn)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo)
        at = log->marks[lo - 1];
    while (at.lsn < lsn && at.lsn < log->end_lsn) {
        struct wal_header h;
        buf.len = 0;
        rc = read_record(log, at.lsn, true, &buf, &h);
        if (rc)
            break;
        at = (struct sk_mark){h.end_lsn, h.digest};
    }
    co_buf_free(&buf);
    *found = !rc && at.lsn == lsn;
    *digest = at.digest;
    return rc;
}

static bool is_boundary(struct sk_log *log, lsn_t lsn)
{
    struct wal_digest digest;
    bool found;
    /* Damage before it makes the answer unknown: then it is damage that is reported. */
    return walk(log, lsn, &digest, &found) != 0 || found;
}

int sk_log_at(struct sk_log *log, lsn_t lsn, struct wal_digest *digest, struct wal_config *config)
{
    bool found = lsn == log->end_lsn;
    int rc = 0;
    *config = (struct wal_config){0};
    *digest = log->end_digest;
    if (!found && lsn >= log->start_lsn)
        rc = walk(log, lsn, digest, &found);
    if (!rc && !found) {
        char text[LSN_TEXT];
        rc = co_fail(CO_ERR_INVAL, "LSN %s is not a record boundary of this timeline",
                     lsn_format(lsn, text));
    }
    for (uint32_t i = log->n_configs; i && !rc; i--)
        if (log->configs[i - 1].end_lsn <= lsn) {
            *config = log->configs[i - 1].config;
            break;
        }
    return rc;
}
