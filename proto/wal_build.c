/*
 * wal_build.c - making records.
 *
 * The builder writes entries straight into the record's own buffer, behind room for the header.
 * wal_builder_page reserves, with the page, what seal will need (padding and trailer), so seal
 * takes no memory that it cannot do without.
 *
 * A record that is too large for memory is drained: what was collected goes to the caller, who
 * keeps it elsewhere; of it stay its length, its CRC (CRCs of pieces combine), and page number and
 * page CRC of each entry, which the digest wants once the header is known.
 *
 * Small records leave in memory of their own size, because a writer keeps many of them until every
 * safekeeper has them; the buffer, grown for whole pages, stays for the next transaction. Large
 * ones leave with the buffer.
 */
#include <stdlib.h>
#include <zstd.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "proto/wal_delta.h"
#include "proto/wal_format.h"

#define ZSTD_LEVEL 1 /* higher ones buy nothing at the size of a page */

/* Records up to this are copied out of the builder's buffer. */
#define COPY_MAX_BYTES ((size_t)65536)

/* What seal adds at most. */
#define ENDING_BYTES (LSN_ALIGN - 1 + WAL_TRAILER_BYTES)

struct wal_builder {
    struct co_buf record; /* room for the header, then the entries so far; empty after seal */
    uint64_t drained;     /* bytes of entries that were given away before those */
    uint32_t drained_crc;
    struct co_buf said; /* of drained entries: page number and page CRC, 4 bytes each */
    uint32_t page_size, n_entries;
    pgno_t last_pgno;
    lsn_t newest_base;
    bool open; /* between reset and seal */
    ZSTD_CCtx *zstd;
    uint8_t compressed[CO_PAGE_SIZE_MAX];
};

int wal_builder_new(struct wal_builder **out)
{
    struct wal_builder *b = calloc(1, sizeof *b);
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    if (!b || !zstd ||
        ZSTD_isError(ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL))) {
        ZSTD_freeCCtx(zstd);
        free(b);
        return co_fail(CO_ERR_NOMEM, "memory to build transactions in could not be had");
    }
    b->zstd = zstd;
    *out = b;
    return 0;
}

void wal_builder_free(struct wal_builder *b)
{
    if (!b)
        return;
    ZSTD_freeCCtx(b->zstd);
    co_buf_free(&b->record);
    co_buf_free(&b->said);
    free(b);
}

/* Room for the header, and for seal; `more` beside it. */
static int make_room(struct wal_builder *b, size_t more)
{
    if (b->record.len >= WAL_HEADER_BYTES)
        return co_buf_reserve(&b->record, more + ENDING_BYTES);
    int rc = co_buf_reserve(&b->record, WAL_HEADER_BYTES + more + ENDING_BYTES);
    if (!rc)
        b->record.len = WAL_HEADER_BYTES;
    return rc;
}

void wal_builder_reset(struct wal_builder *b, uint32_t page_size)
{
    co_assert(wal_page_size_valid(page_size));
    b->record.len = 0;
    b->drained = 0;
    b->drained_crc = 0;
    co_buf_free(&b->said);
    b->page_size = page_size;
    b->n_entries = 0;
    b->last_pgno = 0;
    b->newest_base = LSN_NONE;
    b->open = true;
    /* Without memory now, wal_builder_page tries again and says so. */
    if (make_room(b, 0))
        b->record.len = 0;
}

/* Bytes of a record whose header and entries have `len` bytes. */
static uint64_t total_bytes(uint64_t len)
{
    return (len + LSN_ALIGN - 1) / LSN_ALIGN * LSN_ALIGN + WAL_TRAILER_BYTES;
}

uint64_t wal_builder_bytes(const struct wal_builder *b)
{
    return total_bytes(b->drained + (b->record.len ? b->record.len : WAL_HEADER_BYTES));
}

size_t wal_builder_held(const struct wal_builder *b)
{
    return b->record.len > WAL_HEADER_BYTES ? b->record.len - WAL_HEADER_BYTES : 0;
}

/* Puts the smallest encoding of the page as an entry to `entry`, which has room for a delta entry
 * header and a whole page. Returns the entry's length. */
static size_t put_entry(struct wal_builder *b, uint8_t *entry, const uint8_t *page,
                        const uint8_t *base, lsn_t base_lsn)
{
    const size_t page_size = b->page_size, extra = WE_DELTA_BYTES - WE_SHORT_BYTES;
    size_t data = page_size; /* of an image, to be beaten */
    enum wal_encoding encoding = WAL_IMAGE;

    if (base) {
        size_t delta =
            wal_delta_make(base, page, b->page_size, entry + WE_DELTA_BYTES, page_size - extra - 1);
        if (delta != WAL_DELTA_NONE) {
            encoding = WAL_DELTA;
            data = delta;
        }
    }
    if (encoding == WAL_IMAGE || data > page_size / 4) {
        size_t room = (encoding == WAL_DELTA ? data + extra : data) - 1;
        size_t n = ZSTD_compress2(b->zstd, b->compressed, room, page, page_size);
        if (!ZSTD_isError(n)) { /* else it is not smaller, or there is no memory: do without */
            encoding = WAL_ZSTD;
            data = n;
        }
    }
    entry[WE_ENCODING] = (uint8_t)encoding;
    wal_put24(entry + WE_DATA_BYTES, (uint32_t)data);
    co_put32(entry + WE_PAGE_CRC, co_crc32c(0, page, page_size));
    if (encoding == WAL_DELTA) {
        co_put64(entry + WE_BASE_LSN, base_lsn);
        co_put32(entry + WE_BASE_CRC, co_crc32c(0, base, page_size));
        return WE_DELTA_BYTES + data;
    }
    memcpy(entry + WE_SHORT_BYTES, encoding == WAL_ZSTD ? b->compressed : page, data);
    return WE_SHORT_BYTES + data;
}

int wal_builder_page(struct wal_builder *b, pgno_t pgno, const uint8_t *page, const uint8_t *base,
                     lsn_t base_lsn)
{
    co_assert(b->open);
    co_assert(pgno > b->last_pgno);
    /* The LSN came with the page from a server; a base without a proper one is not used. */
    if (base_lsn == LSN_NONE || base_lsn % LSN_ALIGN)
        base = NULL;
    int rc = make_room(b, WE_DELTA_BYTES + b->page_size);
    if (rc)
        return rc;
    uint8_t *entry = b->record.data + b->record.len;
    co_put32(entry + WE_PGNO, pgno);
    size_t bytes = put_entry(b, entry, page, base, base_lsn);
    if (total_bytes(b->drained + b->record.len + bytes) > CO_TXN_MAX_BYTES)
        return co_fail(CO_ERR_FULL,
                       "a transaction of more than %llu MiB of changes is not possible; commit in "
                       "smaller steps",
                       CO_TXN_MAX_BYTES / CO_MIB);
    if (entry[WE_ENCODING] == WAL_DELTA && base_lsn > b->newest_base)
        b->newest_base = base_lsn;
    b->record.len += bytes;
    b->last_pgno = pgno;
    b->n_entries++;
    return 0;
}

/* What a header says beside its stamp. */
struct content {
    enum wal_kind kind;
    uint32_t page_size, size_field, n_entries;
};

static void put_header(uint8_t *p, uint64_t total, const struct content *c,
                       const struct wal_stamp *stamp)
{
    memset(p, 0, WAL_HEADER_BYTES);
    co_put32(p + WH_MAGIC, WAL_MAGIC);
    co_put16(p + WH_VERSION, (uint16_t)wal_version_of(total));
    co_put16(p + WH_HEADER_BYTES, WAL_HEADER_BYTES);
    co_put64(p + WH_TOTAL, total);
    p[WH_KIND] = (uint8_t)c->kind;
    co_put32(p + WH_PAGE_SIZE, c->page_size);
    memcpy(p + WH_CLUSTER, stamp->cluster.b, sizeof stamp->cluster.b);
    memcpy(p + WH_TIMELINE, stamp->timeline.b, sizeof stamp->timeline.b);
    co_put64(p + WH_TERM, stamp->term);
    co_put64(p + WH_BEGIN, stamp->begin_lsn);
    co_put64(p + WH_BASE, stamp->begin_lsn);
    co_put64(p + WH_END, stamp->begin_lsn + total);
    co_put64(p + WH_SEALED, stamp->sealed_lsn);
    co_put64(p + WH_TIME, stamp->time_us);
    memcpy(p + WH_COMMIT, stamp->commit_uuid.b, sizeof stamp->commit_uuid.b);
    memcpy(p + WH_PREV_DIGEST, stamp->prev_digest.b, sizeof stamp->prev_digest.b);
    co_put32(p + WH_DB_PAGES, c->size_field);
    co_put32(p + WH_N_ENTRIES, c->n_entries);
}

static void check_stamp(const struct wal_stamp *stamp, uint64_t total)
{
    uint64_t end;
    co_assert(stamp->term != 0 && stamp->begin_lsn != LSN_NONE);
    co_assert(stamp->begin_lsn % LSN_ALIGN == 0 && stamp->sealed_lsn <= stamp->begin_lsn);
    co_assert(stamp->sealed_lsn % LSN_ALIGN == 0);
    co_assert(!__builtin_add_overflow(stamp->begin_lsn, total, &end));
}

/* Turns a buffer of header room and entries, with room for the ending, into a record. */
static void finish(struct co_buf *record, const struct content *c, const struct wal_stamp *stamp,
                   struct wal_digest *digest)
{
    struct co_span entries = {record->data + WAL_HEADER_BYTES, record->len - WAL_HEADER_BYTES};
    uint64_t total = total_bytes(record->len);

    co_assert(total <= record->cap);
    check_stamp(stamp, total);

    uint8_t *trailer = record->data + total - WAL_TRAILER_BYTES;
    put_header(record->data, total, c, stamp);
    memset(record->data + record->len, 0, (size_t)(trailer - record->data) - record->len);
    wal_digest_of(record->data, c->kind, c->n_entries, entries, digest);
    memcpy(trailer + WT_DIGEST, digest->b, sizeof digest->b);
    co_put32(trailer + WT_CRC, co_crc32c(0, record->data, total - WAL_TRAILER_BYTES + WT_CRC));
    co_put32(trailer + WT_MAGIC, WAL_END_MAGIC);
    record->len = total;
}

static void check_open(const struct wal_builder *b, const struct wal_stamp *stamp)
{
    co_assert(b->open);
    co_assert(b->record.len >= WAL_HEADER_BYTES);
    co_assert(b->last_pgno <= stamp->db_pages);    /* W2 */
    co_assert(b->newest_base <= stamp->begin_lsn); /* W4 */
}

int wal_builder_drain(struct wal_builder *b, struct co_span *bytes, uint64_t *at)
{
    co_assert(b->open && b->record.len >= WAL_HEADER_BYTES);
    struct co_span entries =
        co_span_of(b->record.data + WAL_HEADER_BYTES, b->record.len - WAL_HEADER_BYTES);
    struct wal_entry e;
    size_t said = b->said.len;
    *bytes = entries;
    *at = WAL_HEADER_BYTES + b->drained;
    while (wal_take_entry(&entries, WAL_TXN, &e)) {
        uint8_t two[8];
        co_put32(two, e.pgno);
        co_put32(two + 4, e.page_crc);
        int rc = co_buf_append(&b->said, two, sizeof two);
        if (rc) {
            b->said.len = said;
            return rc;
        }
    }
    b->drained_crc = co_crc32c(b->drained_crc, bytes->data, bytes->len);
    b->drained += bytes->len;
    b->record.len = WAL_HEADER_BYTES;
    return 0;
}

void wal_builder_seal_drained(struct wal_builder *b, const struct wal_stamp *stamp,
                              uint8_t head[WAL_HEADER_BYTES], struct co_buf *rest, uint64_t *at,
                              struct wal_digest *digest)
{
    const struct content content = {WAL_TXN, b->page_size, stamp->db_pages, b->n_entries};
    struct co_buf *r = &b->record;
    struct co_span entries = co_span_of(r->data + WAL_HEADER_BYTES, r->len - WAL_HEADER_BYTES);
    uint64_t total = total_bytes(b->drained + r->len);
    size_t len = (size_t)(total - b->drained); /* of header, entries here, padding and trailer */
    struct wal_hash hash;
    struct wal_entry e;

    check_open(b, stamp);
    check_stamp(stamp, total);
    co_assert(len <= r->cap);
    put_header(head, total, &content, stamp);
    wal_hash_begin(&hash, head);
    wal_hash_said(&hash, co_buf_span(&b->said));
    uint8_t *trailer = r->data + len - WAL_TRAILER_BYTES;
    memset(r->data + r->len, 0, (size_t)(trailer - r->data) - r->len);
    while (wal_take_entry(&entries, WAL_TXN, &e))
        wal_hash_entry(&hash, &e);
    wal_hash_end(&hash, digest);
    memcpy(trailer + WT_DIGEST, digest->b, sizeof digest->b);
    uint32_t crc =
        co_crc32c_combine(co_crc32c(0, head, WAL_HEADER_BYTES), b->drained_crc, b->drained);
    crc = co_crc32c(crc, r->data + WAL_HEADER_BYTES,
                    len - WAL_HEADER_BYTES - WAL_TRAILER_BYTES + WT_CRC);
    co_put32(trailer + WT_CRC, crc);
    co_put32(trailer + WT_MAGIC, WAL_END_MAGIC);
    *at = WAL_HEADER_BYTES + b->drained;
    r->len = len;
    co_buf_consume(r, WAL_HEADER_BYTES);
    *rest = *r;
    *r = (struct co_buf){0};
    b->open = false;
}

void wal_builder_seal(struct wal_builder *b, const struct wal_stamp *stamp, struct co_buf *out,
                      struct wal_digest *digest)
{
    const struct content content = {WAL_TXN, b->page_size, stamp->db_pages, b->n_entries};

    check_open(b, stamp);
    co_assert(b->drained == 0);
    finish(&b->record, &content, stamp, digest);
    b->open = false;

    size_t len = b->record.len;
    uint8_t *copy = len <= COPY_MAX_BYTES ? malloc(len) : NULL;
    if (copy) {
        memcpy(copy, b->record.data, len);
        *out = (struct co_buf){copy, len, len};
        b->record.len = 0;
        return;
    }
    /* A large record, or no memory for a copy: the buffer itself goes, cut to size if it can be. */
    uint8_t *cut = realloc(b->record.data, len);
    if (cut) {
        b->record.data = cut;
        b->record.cap = len;
    }
    *out = b->record;
    b->record = (struct co_buf){0};
}

int wal_build_config(const struct wal_config *config, const struct wal_stamp *stamp,
                     struct co_buf *out, struct wal_digest *digest)
{
    struct co_buf record = {0};
    int rc = wal_config_check(config);
    if (rc)
        return rc;
    uint32_t n = config->n + config->n_new;
    size_t entry_bytes = WE_SHORT_BYTES + sizeof config->members[0].disk_uuid.b;
    rc = co_buf_append_zeros(&record, WAL_HEADER_BYTES + n * entry_bytes);
    if (!rc)
        rc = co_buf_reserve(&record, ENDING_BYTES);
    if (rc) {
        co_buf_free(&record);
        return rc;
    }
    uint8_t *entry = record.data + WAL_HEADER_BYTES;
    for (uint32_t i = 0; i < n; i++, entry += entry_bytes) {
        bool is_new = i >= config->n;
        const struct wal_member *m =
            is_new ? &config->new_members[i - config->n] : &config->members[i];
        co_put32(entry + WE_PGNO, m->node_id);
        entry[WE_ENCODING] = is_new;
        wal_put24(entry + WE_DATA_BYTES, sizeof m->disk_uuid.b);
        memcpy(entry + WE_SHORT_BYTES, m->disk_uuid.b, sizeof m->disk_uuid.b);
    }
    const struct content content = {WAL_CONFIG, 0, config->version, n};
    finish(&record, &content, stamp, digest);
    *out = record;
    return 0;
}
