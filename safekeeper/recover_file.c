#include "safekeeper/recover_file.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "common/mutation.h"

#define WINDOW_BYTES CO_MIB
/* The first window, and then twice as much each time: most logs are small. */
#define FIRST_WINDOW_BYTES (64 * CO_KIB)
/* No header of a record lies across this many bytes. */
#define OVERLAP_BYTES WAL_HEADER_BYTES
/* Zeros are skipped by so much. */
#define BLOCK_BYTES (64 * CO_KIB)

struct scan {
    const struct sk_recover *from;
    struct sk_log *log;
    struct co_buf window; /* bytes of [window_lsn, window_lsn + len) */
    lsn_t window_lsn;
    uint64_t window_bytes; /* of the last one; 0: there was none */
    const char *why;       /* what was wrong at the end */
    int code;              /* CO_ERR_VERSION, or 0 */
};

/* Makes the window hold `len` bytes from lsn on, or as many as there are. */
static int fill(struct scan *s, lsn_t lsn, uint64_t len)
{
    uint64_t there = sk_segments_end(&s->log->segments) - lsn;
    if (len > there)
        len = there;
    if (lsn >= s->window_lsn && lsn + len <= s->window_lsn + s->window.len)
        return 0;
    if (s->window_bytes < WINDOW_BYTES)
        s->window_bytes = s->window_bytes ? 2 * s->window_bytes : FIRST_WINDOW_BYTES;
    uint64_t want = len < s->window_bytes ? s->window_bytes : len;
    if (want > there)
        want = there;
    s->window.len = 0;
    s->window_lsn = lsn;
    int rc = co_buf_reserve(&s->window, (size_t)want);
    if (!rc)
        rc = sk_segments_read(&s->log->segments, lsn, s->window.data, (size_t)want);
    if (!rc)
        s->window.len = (size_t)want;
    return rc;
}

static struct co_span at(const struct scan *s, lsn_t lsn)
{
    size_t skip = (size_t)(lsn - s->window_lsn);
    return co_span_of(s->window.data + skip, s->window.len - skip);
}

static bool all_zero(struct co_span bytes)
{
    return bytes.len == 0 ||
           (bytes.data[0] == 0 && memcmp(bytes.data, bytes.data + 1, bytes.len - 1) == 0);
}

/* Brings the whole record that begins at lsn into the window, if it is a sound one of this timeline
 * that stands where it says. One larger than a window is read through and left where it is: *out is
 * empty, and its digest was proven. 1: yes, *out and *h; 0: no, *why and *code tell; negative:
 * cannot read. */
static int sound_record(struct scan *s, lsn_t lsn, struct co_span *out, struct wal_header *h)
{
    int rc = fill(s, lsn, WAL_HEADER_BYTES);
    if (rc)
        return rc;
    s->code = 0;
    struct co_span head = at(s, lsn);
    if (head.len < WAL_HEADER_BYTES) {
        s->why = "the log's last segment ends";
        return 0;
    }
    rc = wal_peek(head, h);
    if (rc == CO_ERR_VERSION) {
        s->code = rc;
        s->why = "a record of a newer format begins";
        return 0;
    }
    if (rc || h->begin_lsn != lsn || h->total_bytes > sk_segments_end(&s->log->segments) - lsn) {
        s->why = "the header is not that of a record";
        return 0;
    }
    if (h->total_bytes > WINDOW_BYTES) {
        *out = (struct co_span){0};
        rc = sk_log_check_large(s->log, h, &s->why);
        if (rc <= 0)
            return rc;
    } else {
        rc = fill(s, lsn, h->total_bytes);
        if (rc)
            return rc;
        *out = co_span_of(at(s, lsn).data, (size_t)h->total_bytes);
        rc = wal_check(*out, h);
        if (rc == CO_ERR_NOMEM)
            return rc;
        if (rc && !co_mutated(TORN_ACCEPTED)) {
            s->why = "the record's checksum or form is wrong";
            return 0;
        }
    }
    if (!co_id_eq(&h->cluster, &s->from->owner.cluster) ||
        !co_id_eq(&h->timeline, &s->from->owner.timeline)) {
        s->why = "the record is one of another timeline";
        return 0;
    }
    return 1;
}

/* 1 live, 0 not, negative: cannot read. */
static int live_record(struct scan *s, lsn_t lsn, struct co_span *out, struct wal_header *h)
{
    int rc = sound_record(s, lsn, out, h);
    if (rc <= 0)
        return rc;
    if (memcmp(h->prev_digest.b, s->log->end_digest.b, sizeof h->prev_digest.b)) {
        s->why = "the record does not chain to the one before";
        return 0;
    }
    if (out->len && wal_check_digest(*out, h) && !co_mutated(TORN_ACCEPTED)) {
        s->why = "the record's digest is wrong";
        return 0;
    }
    if (lsn >= s->from->floor_lsn && h->term != q_term_at(&s->from->history, lsn)) {
        s->why = "the record is of a term that did not write here";
        return 0;
    }
    return 1;
}

static int follow(struct scan *s)
{
    struct co_span record;
    struct wal_header h;
    int rc;
    while ((rc = live_record(s, s->log->end_lsn, &record, &h)) == 1) {
        rc = sk_log_note(s->log, record, &h);
        if (rc)
            return rc;
        s->log->records++;
    }
    return rc;
}

static int refuse(struct scan *s, lsn_t durable_lsn, const char *evidence)
{
    char text[LSN_TEXT];
    return co_fail(
        s->code ? s->code : CO_ERR_CORRUPT,
        "the log is damaged: %s at %s, but everything below LSN %s was durable here "
        "(%s). Nothing was changed. Start it once with --mend, which fetches the records "
        "from the other members, or replace this safekeeper",
        s->why, sk_log_place(s->log, s->log->end_lsn), lsn_format(durable_lsn, text), evidence);
}

/* Looks at everything behind the end x for a record that proves x was durable; counts what is not
 * zero on the way. */
static int look_behind(struct scan *s, uint64_t *torn_bytes, lsn_t *evidence)
{
    const char *why = s->why;
    int code = s->code;
    lsn_t x = s->log->end_lsn, end = sk_segments_end(&s->log->segments), lsn = x;
    *torn_bytes = 0;
    *evidence = 0;
    for (;;) {
        /* Most of a segment was never written: a thousand small logs are read in a moment. */
        int rc = sk_segments_next_data(&s->log->segments, lsn, &lsn);
        if (!rc && lsn >= end)
            break;
        if (!rc)
            rc = fill(s, lsn, BLOCK_BYTES);
        if (rc)
            return rc;
        struct co_span part = at(s, lsn);
        if (all_zero(part)) {
            lsn += part.len;
            continue;
        }
        if (part.len > BLOCK_BYTES && all_zero(co_span_of(part.data, BLOCK_BYTES))) {
            lsn += BLOCK_BYTES - OVERLAP_BYTES;
            continue;
        }
        if (part.len > BLOCK_BYTES)
            part.len = BLOCK_BYTES;
        lsn_t stop = lsn + (part.len > OVERLAP_BYTES ? part.len - OVERLAP_BYTES : part.len);
        for (; lsn < stop; lsn += LSN_ALIGN) {
            struct co_span record;
            struct wal_header h;
            rc = fill(s, lsn, LSN_ALIGN);
            if (rc)
                return rc;
            struct co_span word = at(s, lsn);
            if (!all_zero(co_span_of(word.data, word.len < LSN_ALIGN ? word.len : LSN_ALIGN)))
                *torn_bytes = lsn + LSN_ALIGN - x;
            if (lsn == x || word.len < 4 || memcmp(word.data, "CWAL", 4))
                continue;
            rc = sound_record(s, lsn, &record, &h);
            if (rc < 0)
                return rc;
            if (rc == 1 && h.sealed_lsn > x && h.sealed_lsn > *evidence)
                *evidence = h.sealed_lsn;
        }
    }
    s->why = why;
    s->code = code;
    return 0;
}

static int rewrite(struct scan *s, struct sk_recovered *found)
{
    struct sk_log *log = s->log;
    lsn_t lsn = s->from->sealed_lsn;
    co_assert(lsn <= log->end_lsn || co_mutated(ROT_IS_TORN));
    while (lsn < log->end_lsn) {
        uint64_t n = log->end_lsn - lsn < WINDOW_BYTES ? log->end_lsn - lsn : WINDOW_BYTES;
        int rc = fill(s, lsn, n);
        if (!rc && !co_mutated(TAIL_NOT_REWRITTEN))
            rc = sk_segments_write(&log->segments, lsn, co_span_of(at(s, lsn).data, (size_t)n));
        if (rc)
            return rc;
        lsn += n;
        found->rewritten_bytes += n;
    }
    return sk_log_sync(log);
}

/* The end is written again as well: a cut whose sync failed shows as zeros in the page cache, and
 * the record that was cut off may still be on the disk. Where the next one would begin is enough.
 */
static int rewrite_end(struct scan *s)
{
    static const uint8_t zeros[512];
    struct sk_segments *segments = &s->log->segments;
    lsn_t end = s->log->end_lsn;
    uint64_t room = sk_segments_end(segments) > end ? sk_segments_end(segments) - end : 0;
    return room == 0 ? 0
                     : sk_segments_write(
                           segments, end,
                           co_span_of(zeros, room < sizeof zeros ? (size_t)room : sizeof zeros));
}

static int settle(struct scan *s, struct sk_recovered *found)
{
    const struct sk_recover *from = s->from;
    lsn_t known = from->sealed_lsn > from->commit_lsn ? from->sealed_lsn : from->commit_lsn;
    if (s->log->end_lsn < known && !co_mutated(ROT_IS_TORN))
        return refuse(s, known, "the control block says so");
    lsn_t evidence;
    int rc = look_behind(s, &found->torn_bytes, &evidence);
    if (rc)
        return rc;
    if (evidence && !co_mutated(ROT_IS_TORN)) {
        lsn_t reached = s->log->end_lsn + found->torn_bytes;
        reached = (reached + LSN_ALIGN - 1) / LSN_ALIGN * LSN_ALIGN;
        found->suspect_lsn = evidence > reached ? evidence : reached;
    }
    if (s->code)
        return co_fail(s->code,
                       "%s at %s. Start the newer corallite-safekeeper that wrote it; nothing was "
                       "changed",
                       s->why, sk_log_place(s->log, s->log->end_lsn));
    rc = rewrite(s, found);
    if (!rc && found->torn_bytes && !found->suspect_lsn && !co_mutated(TAIL_NOT_ZEROED))
        rc = sk_segments_cut(&s->log->segments, s->log->end_lsn);
    else if (!rc && !found->torn_bytes)
        rc = rewrite_end(s);
    if (!rc) /* also what a process wrote that was killed before its sync */
        rc = sk_segments_sync_from(&s->log->segments, from->sealed_lsn < s->log->end_lsn
                                                          ? from->sealed_lsn
                                                          : s->log->end_lsn);
    if (!rc)
        rc = sk_segments_set_end(&s->log->segments, s->log->end_lsn);
    return rc;
}

int sk_recover_cut(struct sk_log *log)
{
    int rc = sk_segments_cut(&log->segments, log->end_lsn);
    return rc ? rc : sk_segments_set_end(&log->segments, log->end_lsn);
}

int sk_recover_begin(const char *dir, const struct sk_recover *from, struct sk_log *log)
{
    *log = (struct sk_log){.start_lsn = from->start_lsn,
                           .end_lsn = from->start_lsn,
                           .flushed_lsn = from->start_lsn,
                           .end_digest = from->start_digest};
    return sk_segments_open(dir, &from->owner, from->start_lsn, &log->segments);
}

int sk_recover_follow(const struct sk_recover *from, struct sk_log *log, const char **why)
{
    struct scan s = {.from = from, .log = log};
    int rc = follow(&s);
    co_buf_free(&s.window);
    *why = s.why;
    return rc ? rc : s.code;
}

int sk_recover_log(const char *dir, const struct sk_recover *from, struct sk_log *log,
                   struct sk_recovered *found)
{
    struct scan s = {.from = from, .log = log};
    *found = (struct sk_recovered){0};
    int rc = sk_recover_begin(dir, from, log);
    if (rc)
        return rc;
    rc = follow(&s);
    if (!rc)
        rc = settle(&s, found);
    found->records = log->records;
    log->records = 0;
    co_buf_free(&s.window);
    if (rc)
        sk_log_close(log);
    return rc;
}
