/*
 * wal_stream.c - see wal_stream.h.
 *
 * `look` makes the next n bytes lie in one place without taking them: in the piece itself when it
 * has them all, else in `carry`, where what the pieces brought is put together. `take` moves on and
 * counts the bytes in the CRC. An entry is looked at in three steps: the short header tells whether
 * it is a delta and how long its data is; that is judged before room is made for the data.
 */
#include "proto/wal_stream.h"

#include <stdlib.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "proto/wal_format.h"

struct wal_stream {
    struct wal_header header;
    bool begun, ended;
    uint64_t fed, at; /* bytes that were fed; that were taken */
    uint32_t entries_left;
    pgno_t last;
    uint32_t crc;
    struct wal_hash hash;
    struct co_span in;
    size_t carried;
    uint8_t carry[WE_DELTA_BYTES + CO_PAGE_SIZE_MAX];
};

int wal_stream_new(struct wal_stream **out)
{
    struct wal_stream *s = malloc(sizeof *s);
    if (!s)
        return co_fail(CO_ERR_NOMEM, "no memory to check a large log record with");
    wal_stream_reset(s);
    *out = s;
    return 0;
}

void wal_stream_free(struct wal_stream *s)
{
    free(s);
}

void wal_stream_reset(struct wal_stream *s)
{
    s->begun = s->ended = false;
    s->fed = s->at = 0;
    s->carried = 0;
    s->in = (struct co_span){0};
}

const struct wal_header *wal_stream_header(const struct wal_stream *s)
{
    return s->begun ? &s->header : NULL;
}

uint64_t wal_stream_got(const struct wal_stream *s)
{
    return s->fed;
}

uint64_t wal_stream_left(const struct wal_stream *s)
{
    return s->begun ? s->header.total_bytes - s->fed : UINT64_MAX;
}

static int corrupt(const struct wal_stream *s, const char *what)
{
    char begin[LSN_TEXT];
    return co_fail(CO_ERR_CORRUPT, "the log record at %s is damaged: %s",
                   lsn_format(s->header.begin_lsn, begin), what);
}

static int begin(struct wal_stream *s, struct co_span piece)
{
    int rc = wal_peek(piece, &s->header);
    if (rc == CO_ERR_AGAIN)
        return co_fail(CO_ERR_CORRUPT, "a log record came in pieces of which the first is too "
                                       "short to hold its header");
    if (rc)
        return rc;
    if (s->header.kind != WAL_TXN)
        return corrupt(s, "it came in pieces and is no transaction");
    s->begun = true;
    s->entries_left = s->header.n_entries;
    s->last = 0;
    s->crc = co_crc32c(0, piece.data, WAL_HEADER_BYTES);
    wal_hash_begin(&s->hash, piece.data);
    s->at = WAL_HEADER_BYTES;
    s->in.data += WAL_HEADER_BYTES;
    s->in.len -= WAL_HEADER_BYTES;
    return 0;
}

int wal_stream_feed(struct wal_stream *s, struct co_span piece)
{
    co_assert(!s->ended && s->in.len == 0);
    s->in = piece;
    if (!s->begun) {
        int rc = begin(s, piece);
        if (rc)
            return rc;
    }
    if (piece.len > s->header.total_bytes - s->fed)
        return corrupt(s, "more bytes came than it has");
    s->fed += piece.len;
    return 0;
}

/* The next n bytes in one place; NULL: they are not there yet, what is there was kept. */
static const uint8_t *look(struct wal_stream *s, size_t n)
{
    co_assert(n <= sizeof s->carry);
    if (s->carried == 0 && s->in.len >= n)
        return s->in.data;
    if (s->carried < n) {
        size_t more = n - s->carried < s->in.len ? n - s->carried : s->in.len;
        if (more)
            memcpy(s->carry + s->carried, s->in.data, more);
        s->carried += more;
        s->in.data += more;
        s->in.len -= more;
    }
    return s->carried >= n ? s->carry : NULL;
}

/* Takes n bytes that were looked at. */
static void take(struct wal_stream *s, const uint8_t *bytes, size_t n)
{
    s->crc = co_crc32c(s->crc, bytes, n);
    s->at += n;
    if (s->carried) {
        co_assert(s->carried == n);
        s->carried = 0;
    } else {
        s->in.data += n;
        s->in.len -= n;
    }
}

/* Bytes before the trailer that were not taken yet. */
static uint64_t room(const struct wal_stream *s)
{
    return s->header.total_bytes - WAL_TRAILER_BYTES - s->at;
}

static int next_entry(struct wal_stream *s, enum wal_stream_step *step, struct wal_entry *e)
{
    if (room(s) < WE_SHORT_BYTES)
        return corrupt(s, "an entry reaches beyond it");
    const uint8_t *p = look(s, WE_SHORT_BYTES);
    if (!p)
        return 0;
    size_t data = wal_get24(p + WE_DATA_BYTES);
    size_t fixed = p[WE_ENCODING] == WAL_DELTA ? WE_DELTA_BYTES : WE_SHORT_BYTES;
    if (data > CO_PAGE_SIZE_MAX || fixed + data > room(s))
        return corrupt(s, "an entry reaches beyond it");
    p = look(s, fixed + data);
    if (!p)
        return 0;
    struct co_span rest = co_span_of(p, fixed + data);
    bool taken = wal_take_entry(&rest, WAL_TXN, e);
    co_assert(taken && rest.len == 0);
    const char *fault = wal_entry_fault(&s->header, e, s->last);
    if (fault)
        return corrupt(s, fault);
    s->last = e->pgno;
    s->entries_left--;
    wal_hash_entry(&s->hash, e);
    take(s, p, fixed + data);
    *step = WAL_STREAM_ENTRY;
    return 0;
}

static int end(struct wal_stream *s, enum wal_stream_step *step)
{
    if (room(s) >= LSN_ALIGN)
        return corrupt(s, "it is longer than its entries");
    size_t padding = (size_t)room(s);
    const uint8_t *p = look(s, padding + WAL_TRAILER_BYTES);
    if (!p)
        return 0;
    const uint8_t *trailer = p + padding;
    for (size_t i = 0; i < padding; i++)
        if (p[i])
            return corrupt(s, "its padding is not zero");
    if (co_get32(trailer + WT_MAGIC) != WAL_END_MAGIC)
        return corrupt(s, "its end is not where its header says");
    if (co_get32(trailer + WT_CRC) != co_crc32c(s->crc, p, padding + WT_CRC))
        return corrupt(s, "its CRC does not match its bytes");
    wal_hash_end(&s->hash, &s->header.digest);
    if (memcmp(s->header.digest.b, trailer + WT_DIGEST, sizeof s->header.digest.b) != 0)
        return corrupt(s, "its digest is not that of its contents");
    take(s, p, padding + WAL_TRAILER_BYTES);
    s->ended = true;
    *step = WAL_STREAM_END;
    return 0;
}

int wal_stream_next(struct wal_stream *s, enum wal_stream_step *step, struct wal_entry *entry)
{
    co_assert(s->begun && !s->ended);
    *step = WAL_STREAM_MORE;
    return s->entries_left ? next_entry(s, step, entry) : end(s, step);
}
