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
    wal_stream_free(log->reading);
    log->reading = NULL;
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
    co_assert(header->begin_lsn == log->end_lsn);
    co_assert(header->total_bytes == record.len || header->kind == WAL_TXN);
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
    if (lsn != log->end_lsn || log->staged)
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

int sk_log_stage(struct sk_log *log, lsn_t lsn, uint64_t at, struct co_span bytes,
                 const struct wal_header *whole)
{
    if (lsn != log->end_lsn || at != log->staged)
        return co_fail(CO_ERR_BUG, "a fragment that does not follow the one before: %s",
                       sk_log_place(log, lsn));
    int rc = sk_segments_write(&log->segments, lsn + at, bytes);
    if (rc)
        return rc;
    log->staged += bytes.len;
    if (!whole)
        return 0;
    co_assert(whole->total_bytes == log->staged);
    rc = sk_log_note(log, (struct co_span){0}, whole);
    if (rc)
        return rc;
    log->staged = log->staged_flushed = 0;
    log->records++;
    return 0;
}

int sk_log_sync(struct sk_log *log)
{
    int rc = sk_segments_sync(&log->segments);
    if (!rc) {
        log->flushed_lsn = log->end_lsn;
        log->staged_flushed = log->staged;
    }
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
    log->staged = log->staged_flushed = 0;
    log->reading_lsn = 0;
    return 0;
}

/* -- The begin -------------------------------------------------------------------------------- */

static uint64_t segment_of(lsn_t lsn)
{
    return lsn / SK_SEGMENT_DATA;
}

bool sk_log_trim_point(const struct sk_log *log, lsn_t limit, struct sk_mark *out)
{
    uint32_t i = log->n_marks;
    while (i && log->marks[i - 1].lsn > limit)
        i--;
    /* The first that frees as much: who lags is fed from what is kept. */
    while (i > 1 && segment_of(log->marks[i - 2].lsn) == segment_of(log->marks[i - 1].lsn))
        i--;
    if (!i || segment_of(log->marks[i - 1].lsn) == segment_of(log->start_lsn))
        return false;
    *out = log->marks[i - 1];
    return true;
}

static void begin_at(struct sk_log *log, const struct sk_mark *begin)
{
    uint32_t marks = 0, configs = 0;
    while (marks < log->n_marks && log->marks[marks].lsn < begin->lsn)
        marks++;
    if (marks && (marks == log->n_marks || log->marks[marks].lsn != begin->lsn))
        log->marks[--marks] = *begin;
    while (configs < log->n_configs && log->configs[configs].end_lsn <= begin->lsn)
        configs++;
    log->n_marks -= marks;
    if (marks)
        memmove(log->marks, log->marks + marks, log->n_marks * sizeof *log->marks);
    log->n_configs -= configs;
    if (configs)
        memmove(log->configs, log->configs + configs, log->n_configs * sizeof *log->configs);
    log->start_lsn = begin->lsn;
    if (log->reading_lsn < begin->lsn)
        log->reading_lsn = 0;
}

int sk_log_drop(struct sk_log *log, const struct sk_mark *begin)
{
    if (begin->lsn < log->start_lsn || begin->lsn > log->flushed_lsn)
        return co_fail(CO_ERR_BUG, "a log was to begin outside of itself: %s",
                       sk_log_place(log, begin->lsn));
    begin_at(log, begin);
    return sk_segments_drop(&log->segments, begin->lsn);
}

int sk_log_empty(struct sk_log *log, const struct sk_mark *begin)
{
    int rc = sk_segments_empty(&log->segments, begin->lsn);
    if (rc)
        return rc;
    log->n_marks = log->n_configs = 0;
    log->start_lsn = log->end_lsn = log->flushed_lsn = begin->lsn;
    log->end_digest = begin->digest;
    log->staged = log->staged_flushed = 0;
    log->reading_lsn = 0;
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

/* Of the record at a known boundary: where it ends, and its digest. A large one is not read for
 * that: its trailer states the digest. */
static int read_end(struct sk_log *log, lsn_t lsn, struct co_buf *scratch, struct wal_header *h)
{
    uint8_t head[WAL_HEADER_BYTES];
    if (lsn + sizeof head > log->end_lsn)
        return bad_record(log, lsn, true);
    int rc = sk_segments_read(&log->segments, lsn, head, sizeof head);
    if (rc)
        return rc;
    if (wal_peek(co_span_of(head, sizeof head), h) || h->begin_lsn != lsn ||
        h->total_bytes > log->end_lsn - lsn)
        return bad_record(log, lsn, true);
    if (h->total_bytes <= CO_BATCH_BYTES) {
        scratch->len = 0;
        return read_record(log, lsn, true, scratch, h);
    }
    return sk_segments_read(&log->segments, h->end_lsn - WAL_TRAILER_BYTES, h->digest.b,
                            sizeof h->digest.b);
}

/* -- Large records, in fragments -------------------------------------------------------------- */

/* Checks the bytes of the record at `lsn` as far as they are read in order. false: unsound. */
static bool follow_reader(struct sk_log *log, lsn_t lsn, uint64_t at, struct co_span bytes)
{
    enum wal_stream_step step = WAL_STREAM_MORE;
    struct wal_entry entry;
    if (at == 0) {
        if (!log->reading && wal_stream_new(&log->reading))
            return true; /* no memory to check with: the receiver checks all of it anyway */
        wal_stream_reset(log->reading);
        log->reading_lsn = lsn;
    } else if (log->reading_lsn != lsn || wal_stream_got(log->reading) != at) {
        return true; /* another reader, in between */
    }
    bool sound = wal_stream_feed(log->reading, bytes) == 0;
    while (sound) {
        sound = wal_stream_next(log->reading, &step, &entry) == 0;
        if (step != WAL_STREAM_ENTRY)
            break;
    }
    if (!sound || step == WAL_STREAM_END)
        log->reading_lsn = 0;
    return sound;
}

/* The bytes from `at` on of the large record at `from`; none if it ends above `to`. */
static int read_fragment(struct sk_log *log, lsn_t from, uint64_t at, lsn_t to,
                         const struct wal_header *h, struct co_buf *out, struct sk_part *part)
{
    char text[LSN_TEXT];
    if (at >= h->total_bytes)
        return co_fail(
            CO_ERR_INVAL, "the record at LSN %s has %llu bytes, %llu and more were asked",
            lsn_format(from, text), (unsigned long long)h->total_bytes, (unsigned long long)at);
    if (h->end_lsn > to)
        return 0;
    uint64_t left = h->total_bytes - at;
    size_t n = left < CO_BATCH_BYTES ? (size_t)left : (size_t)CO_BATCH_BYTES;
    int rc = co_buf_reserve(out, n);
    if (!rc)
        rc = sk_segments_read(&log->segments, from + at, out->data + out->len, n);
    if (rc)
        return rc;
    if (!follow_reader(log, from, at, co_span_of(out->data + out->len, n)))
        return bad_record(log, from, true);
    out->len += n;
    *part = (struct sk_part){true, at, h->end_lsn};
    return 0;
}

/* Is the record at `from` one that travels in fragments? */
static int is_large(struct sk_log *log, lsn_t from, struct wal_header *h, bool *large)
{
    uint8_t head[WAL_HEADER_BYTES];
    const struct sk_owner *owner = &log->segments.owner;
    *large = false;
    if (from + sizeof head > log->end_lsn || from % LSN_ALIGN)
        return bad_record(log, from, false);
    int rc = sk_segments_read(&log->segments, from, head, sizeof head);
    if (rc)
        return rc;
    if (wal_peek(co_span_of(head, sizeof head), h) || h->begin_lsn != from ||
        h->total_bytes > log->end_lsn - from || !co_id_eq(&h->timeline, &owner->timeline) ||
        !co_id_eq(&h->cluster, &owner->cluster))
        return bad_record(log, from, false);
    *large = h->total_bytes > CO_BATCH_BYTES;
    return 0;
}

int sk_log_check_large(struct sk_log *log, struct wal_header *header, const char **why)
{
    enum wal_stream_step step = WAL_STREAM_MORE;
    struct wal_entry entry;
    struct wal_stream *s = NULL;
    struct co_buf piece = {0};
    lsn_t at = header->begin_lsn;
    int rc = wal_stream_new(&s);
    if (!rc)
        rc = co_buf_reserve(&piece, (size_t)CO_MIB);
    *why = "the record's checksum or form is wrong";
    while (!rc && step != WAL_STREAM_END) {
        uint64_t left = header->end_lsn - at;
        size_t n = left < CO_MIB ? (size_t)left : (size_t)CO_MIB;
        rc = sk_segments_read(&log->segments, at, piece.data, n);
        if (rc)
            break;
        at += n;
        bool sound = n > 0 && wal_stream_feed(s, co_span_of(piece.data, n)) == 0;
        do
            sound = sound && wal_stream_next(s, &step, &entry) == 0;
        while (sound && step == WAL_STREAM_ENTRY);
        if (!sound)
            break;
    }
    if (!rc && step == WAL_STREAM_END) {
        *header = *wal_stream_header(s);
        rc = 1;
    }
    wal_stream_free(s);
    co_buf_free(&piece);
    return rc;
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

int sk_log_read(struct sk_log *log, lsn_t from, uint64_t at, lsn_t to, uint64_t max_bytes,
                struct co_buf *out, struct sk_part *part)
{
    struct wal_header h;
    bool large;
    co_assert(to <= log->end_lsn);
    *part = (struct sk_part){0};
    if (from >= to)
        return 0;
    if (from < log->start_lsn) {
        char text[LSN_TEXT], begin[LSN_TEXT];
        return co_fail(CO_ERR_TRUNCATED,
                       "this safekeeper keeps the log from LSN %s on, %s was asked for; what lies "
                       "below is in the archive",
                       lsn_format(log->start_lsn, begin), lsn_format(from, text));
    }
    if (max_bytes > CO_BATCH_BYTES)
        max_bytes = CO_BATCH_BYTES;
    if (at) {
        int e = is_large(log, from, &h, &large);
        if (e || large)
            return e ? e : read_fragment(log, from, at, to, &h, out, part);
    }
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
    rc = is_large(log, from, &h, &large);
    if (rc || large)
        return rc ? rc : read_fragment(log, from, 0, to, &h, out, part);
    /* One that is larger than asked for travels alone, unless it goes beyond `to`. */
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
        rc = read_end(log, at.lsn, &buf, &h);
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
