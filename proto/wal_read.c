/*
 * wal_read.c - reading records, every byte of which is untrusted.
 *
 * Order of wal_check: the header by itself (its lengths are bounded and agree with each other
 * before any is used), then whether the record is whole, then the CRC over all of it, then the
 * entries. Whoever gets past it may walk the entries without fear; what an entry's data says is
 * looked at by wal_apply.
 */
#include "common/crc32c.h"
#include "proto/wal_format.h"

/* -- Header ------------------------------------------------------------------------------------ */

static int corrupt(const uint8_t *header, const char *what)
{
    char begin[LSN_TEXT];
    return co_fail(CO_ERR_CORRUPT, "the log record at %s is damaged: %s",
                   header ? lsn_format(co_get64(header + WH_BEGIN), begin) : "an unknown position",
                   what);
}

/* Magic, version and length of the header, as far as `bytes` goes. */
static int check_beginning(struct co_span bytes)
{
    uint8_t magic[4];
    co_put32(magic, WAL_MAGIC);
    size_t n = bytes.len < sizeof magic ? bytes.len : sizeof magic;
    if (n && memcmp(bytes.data, magic, n) != 0)
        return co_fail(CO_ERR_CORRUPT, "no log record begins here");
    if (bytes.len < WH_HEADER_BYTES)
        return 0;
    unsigned version = co_get16(bytes.data + WH_VERSION);
    if (version > WAL_VERSION_LARGE)
        return co_fail(CO_ERR_VERSION,
                       "a log record has format version %u, this release reads up to %u; use a "
                       "newer release",
                       version, WAL_VERSION_LARGE);
    if (version == 0)
        return corrupt(NULL, "it has format version 0");
    if (bytes.len >= WH_TOTAL && co_get16(bytes.data + WH_HEADER_BYTES) != WAL_HEADER_BYTES)
        return corrupt(NULL, "its header has another length");
    return 0;
}

static void decode_header(const uint8_t *p, struct wal_header *h)
{
    *h = (struct wal_header){
        .kind = (enum wal_kind)p[WH_KIND],
        .total_bytes = co_get64(p + WH_TOTAL),
        .page_size = co_get32(p + WH_PAGE_SIZE),
        .term = co_get64(p + WH_TERM),
        .begin_lsn = co_get64(p + WH_BEGIN),
        .base_lsn = co_get64(p + WH_BASE),
        .end_lsn = co_get64(p + WH_END),
        .sealed_lsn = co_get64(p + WH_SEALED),
        .time_us = co_get64(p + WH_TIME),
        .db_pages = co_get32(p + WH_DB_PAGES),
        .n_entries = co_get32(p + WH_N_ENTRIES),
    };
    memcpy(h->cluster.b, p + WH_CLUSTER, sizeof h->cluster.b);
    memcpy(h->timeline.b, p + WH_TIMELINE, sizeof h->timeline.b);
    memcpy(h->commit_uuid.b, p + WH_COMMIT, sizeof h->commit_uuid.b);
    memcpy(h->prev_digest.b, p + WH_PREV_DIGEST, sizeof h->prev_digest.b);
}

/* What is wrong with a decoded header, NULL if nothing is. */
static const char *header_fault(const uint8_t *p, const struct wal_header *h)
{
    uint64_t end, fixed = WAL_HEADER_BYTES + WAL_TRAILER_BYTES;
    if (h->total_bytes < fixed || h->total_bytes > CO_TXN_MAX_BYTES || h->total_bytes % LSN_ALIGN)
        return "its length is not possible";
    if (co_get16(p + WH_VERSION) != wal_version_of(h->total_bytes))
        return "its format version is not that of its length";
    if (h->begin_lsn == LSN_NONE || h->begin_lsn % LSN_ALIGN || h->base_lsn != h->begin_lsn ||
        __builtin_add_overflow(h->begin_lsn, h->total_bytes, &end) || h->end_lsn != end)
        return "its begin, base, end and length contradict each other";
    if (h->sealed_lsn > h->begin_lsn || h->sealed_lsn % LSN_ALIGN)
        return "its sealed position is not possible";
    if (h->term == 0)
        return "it has term 0";
    if ((uint64_t)h->n_entries * WE_SHORT_BYTES > h->total_bytes - fixed)
        return "it is too short for its entries";
    if (p[WH_ZERO] | p[WH_ZERO + 1] | p[WH_ZERO + 2])
        return "its header has bytes set that are zero in this version";
    switch (p[WH_KIND]) {
    case WAL_TXN:
        if (!wal_page_size_valid(h->page_size))
            return "its page size is not possible";
        return NULL;
    case WAL_CONFIG:
        if (h->page_size != 0)
            return "it is a configuration and has a page size";
        if (h->n_entries > 2 * CO_MEMBERS_MAX)
            return "it has more members than are possible";
        return NULL;
    default:
        return "it is of an unknown kind";
    }
}

int wal_peek(struct co_span bytes, struct wal_header *out)
{
    int rc = check_beginning(bytes);
    if (rc)
        return rc;
    if (bytes.len < WAL_HEADER_BYTES)
        return CO_ERR_AGAIN;
    decode_header(bytes.data, out);
    const char *fault = header_fault(bytes.data, out);
    return fault ? corrupt(bytes.data, fault) : 0;
}

/* -- Entries ----------------------------------------------------------------------------------- */

bool wal_take_entry(struct co_span *rest, enum wal_kind kind, struct wal_entry *out)
{
    const uint8_t *p = rest->data;
    if (rest->len < WE_SHORT_BYTES)
        return false;
    bool delta = kind == WAL_TXN && p[WE_ENCODING] == WAL_DELTA;
    size_t fixed = delta ? WE_DELTA_BYTES : WE_SHORT_BYTES, data = wal_get24(p + WE_DATA_BYTES);
    if (rest->len < fixed || rest->len - fixed < data)
        return false;
    out->pgno = co_get32(p + WE_PGNO);
    out->encoding = (enum wal_encoding)p[WE_ENCODING];
    out->page_crc = co_get32(p + WE_PAGE_CRC);
    out->base_lsn = delta ? co_get64(p + WE_BASE_LSN) : LSN_NONE;
    out->base_crc = delta ? co_get32(p + WE_BASE_CRC) : 0;
    out->data = co_span_of(p + fixed, data);
    rest->data += fixed + data;
    rest->len -= fixed + data;
    return true;
}

/* All that lies between header and trailer. */
static struct co_span entries_of(struct co_span record, const struct wal_header *h)
{
    return co_span_of(record.data + WAL_HEADER_BYTES,
                      (size_t)h->total_bytes - WAL_HEADER_BYTES - WAL_TRAILER_BYTES);
}

const char *wal_entry_fault(const struct wal_header *h, const struct wal_entry *e, pgno_t last)
{
    if (e->pgno <= last || e->pgno > h->db_pages)
        return "its page numbers do not ascend within the database";
    switch ((unsigned)e->encoding) {
    case WAL_IMAGE:
        return e->data.len == h->page_size ? NULL : "an image has not the size of a page";
    case WAL_ZSTD:
        return e->data.len && e->data.len < h->page_size ? NULL
                                                         : "a compressed image has a wrong size";
    case WAL_DELTA:
        if (e->data.len >= h->page_size)
            return "a delta is as long as a page";
        if (e->base_lsn == LSN_NONE || e->base_lsn > h->begin_lsn || e->base_lsn % LSN_ALIGN)
            return "a delta's base is not before the record";
        return NULL;
    default:
        return "an entry has an unknown encoding";
    }
}

static const char *config_fault(struct co_span entries, const struct wal_header *h,
                                struct wal_config *out)
{
    struct wal_entry e;
    *out = (struct wal_config){.version = h->db_pages};
    for (uint32_t i = 0; i < h->n_entries; i++) {
        if (!wal_take_entry(&entries, WAL_CONFIG, &e) || e.page_crc != 0 ||
            e.data.len != sizeof(struct co_id))
            return "a member is malformed";
        struct wal_member *list = out->members;
        uint32_t *n = &out->n;
        if (e.encoding == 1) {
            list = out->new_members;
            n = &out->n_new;
        } else if (e.encoding != 0 || out->n_new != 0) {
            return "its members are out of order";
        }
        if (*n == CO_MEMBERS_MAX)
            return "it has more members than are possible";
        list[*n].node_id = e.pgno;
        memcpy(list[*n].disk_uuid.b, e.data.data, sizeof list[*n].disk_uuid.b);
        ++*n;
    }
    return wal_config_check(out) ? "it is no configuration" : NULL;
}

/* Walks all entries; what is left must be the zero padding. */
static const char *entries_fault(struct co_span record, const struct wal_header *h)
{
    struct co_span rest = entries_of(record, h);
    struct wal_entry e;
    struct wal_config config;
    const char *fault = h->kind == WAL_CONFIG ? config_fault(rest, h, &config) : NULL;
    pgno_t last = 0;

    for (uint32_t i = 0; i < h->n_entries && !fault; i++) {
        if (!wal_take_entry(&rest, h->kind, &e))
            return "an entry reaches beyond it";
        if (h->kind == WAL_TXN)
            fault = wal_entry_fault(h, &e, last);
        last = e.pgno;
    }
    if (fault)
        return fault;
    if (rest.len >= LSN_ALIGN)
        return "it is longer than its entries";
    for (size_t i = 0; i < rest.len; i++)
        if (rest.data[i])
            return "its padding is not zero";
    return NULL;
}

/* -- Records ----------------------------------------------------------------------------------- */

int wal_check(struct co_span bytes, struct wal_header *out)
{
    int rc = wal_peek(bytes, out);
    if (rc)
        return rc;
    if (bytes.len < out->total_bytes)
        return CO_ERR_AGAIN;
    size_t before = (size_t)out->total_bytes - WAL_TRAILER_BYTES;
    const uint8_t *trailer = bytes.data + before;
    if (co_get32(trailer + WT_MAGIC) != WAL_END_MAGIC)
        return corrupt(bytes.data, "its end is not where its header says");
    if (co_get32(trailer + WT_CRC) != co_crc32c(0, bytes.data, before + WT_CRC))
        return corrupt(bytes.data, "its CRC does not match its bytes");
    memcpy(out->digest.b, trailer + WT_DIGEST, sizeof out->digest.b);
    const char *fault = entries_fault(bytes, out);
    return fault ? corrupt(bytes.data, fault) : 0;
}

int wal_check_digest(struct co_span record, const struct wal_header *header)
{
    struct wal_digest actual;
    wal_digest_of(record.data, header->kind, header->n_entries, entries_of(record, header),
                  &actual);
    if (memcmp(actual.b, header->digest.b, sizeof actual.b) != 0)
        return corrupt(record.data, "its digest is not that of its contents");
    return 0;
}

void wal_cursor_init(struct wal_cursor *c, struct co_span record, const struct wal_header *header)
{
    *c = (struct wal_cursor){entries_of(record, header), header->n_entries, header->kind};
}

bool wal_cursor_next(struct wal_cursor *c, struct wal_entry *out)
{
    if (c->left == 0 || !wal_take_entry(&c->rest, c->kind, out))
        return false;
    c->left--;
    return true;
}

int wal_read_config(struct co_span record, const struct wal_header *header, struct wal_config *out)
{
    if (header->kind != WAL_CONFIG)
        return corrupt(record.data, "a configuration was wanted and it is a transaction");
    const char *fault = config_fault(entries_of(record, header), header, out);
    return fault ? corrupt(record.data, fault) : 0;
}
