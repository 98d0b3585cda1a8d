#include "safekeeper/recent.h"

#include <stdlib.h>

int sk_message_new(const struct frame_header *frame, struct co_span body, struct sk_message **out)
{
    struct sk_message *m = calloc(1, sizeof *m);
    if (!m)
        return co_fail(CO_ERR_NOMEM, "no memory for a message");
    m->refs = 1;
    m->frame = *frame;
    int rc = co_buf_append(&m->body, body.data, body.len);
    if (!rc)
        rc = qmsg_decode(frame, co_buf_span(&m->body), &m->scratch, &m->msg);
    if (rc) {
        sk_message_drop(m);
        return rc;
    }
    *out = m;
    return 0;
}

struct sk_message *sk_message_hold(struct sk_message *m)
{
    m->refs++;
    return m;
}

void sk_message_drop(struct sk_message *m)
{
    if (!m || --m->refs)
        return;
    co_buf_free(&m->body);
    qmsg_scratch_free(&m->scratch);
    free(m);
}

static void drop_oldest(struct sk_recent *r)
{
    r->bytes -= r->slot[r->head].bytes.len;
    sk_message_drop(r->slot[r->head].message);
    r->head = (r->head + 1) % SK_RECENT_SLOTS;
    r->n--;
}

void sk_recent_clear(struct sk_recent *r)
{
    while (r->n)
        drop_oldest(r);
}

void sk_recent_add(struct sk_recent *r, struct sk_message *m, lsn_t lsn, struct co_span bytes,
                   uint64_t max_bytes)
{
    if (r->n) {
        uint32_t last = (r->head + r->n - 1) % SK_RECENT_SLOTS;
        if (r->slot[last].lsn + r->slot[last].bytes.len != lsn)
            sk_recent_clear(r);
    }
    if (m->body.len > max_bytes) {
        sk_recent_clear(r);
        return;
    }
    while (r->n == SK_RECENT_SLOTS || (r->n && r->bytes + bytes.len > max_bytes))
        drop_oldest(r);
    uint32_t i = (r->head + r->n++) % SK_RECENT_SLOTS;
    r->slot[i].message = sk_message_hold(m);
    r->slot[i].lsn = lsn;
    r->slot[i].bytes = bytes;
    r->bytes += bytes.len;
}

static size_t record_bytes(struct co_span bytes)
{
    struct wal_header h;
    return bytes.len && wal_peek(bytes, &h) == 0 && h.total_bytes <= bytes.len
               ? (size_t)h.total_bytes
               : 0;
}

bool sk_recent_read(const struct sk_recent *r, lsn_t from, lsn_t to, uint64_t max_bytes,
                    struct co_buf *out)
{
    lsn_t at = from;
    size_t start = out->len;
    for (uint32_t k = 0; k < r->n && at < to; k++) {
        uint32_t i = (r->head + k) % SK_RECENT_SLOTS;
        struct co_span bytes = r->slot[i].bytes;
        lsn_t lsn = r->slot[i].lsn;
        if (at == from && lsn > from)
            return false;
        for (size_t n; (n = record_bytes(bytes)) != 0;) {
            if (lsn >= at) {
                if (lsn != at || lsn + n > to ||
                    (out->len > start && out->len - start + n > max_bytes))
                    return out->len > start;
                if (co_buf_append(out, bytes.data, n))
                    return out->len > start;
                at = lsn + n;
            }
            lsn += n;
            bytes.data += n;
            bytes.len -= n;
        }
    }
    return out->len > start;
}

uint64_t sk_count_records(struct co_span bytes)
{
    uint64_t count = 0;
    for (size_t n; (n = record_bytes(bytes)) != 0; count++) {
        bytes.data += n;
        bytes.len -= n;
    }
    return count;
}
