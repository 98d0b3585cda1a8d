/* page_lmdb.c - table page: versions in, versions out. */
#include "common/assert.h"
#include "common/mutation.h"
#include "pageserver/store_int_lmdb.h"

int ps_page_put(struct ps_txn *txn, tlno_t no, pgno_t pgno, lsn_t lsn, const uint8_t *page,
                uint32_t page_size, uint32_t crc, struct co_span zstd)
{
    uint8_t key[PS_PAGE_KEY_BYTES], value[PS_CHUNK_MAX + 16];
    struct ps_image image;
    struct ps_page_key k = {.no = no, .pgno = pgno, .lsn = lsn};
    ps_encode(txn->codec, page, page_size, crc, zstd, txn->store->chunk_max, &image);
    for (uint32_t i = 0; i < image.n_chunks; i++) {
        k.chunk = (uint8_t)i;
        size_t n = ps_chunk_bytes(&image, i);
        co_assert(n <= sizeof value);
        ps_chunk_write(&image, i, value);
        ps_page_key_put(key, &k);
        int rc = ps_put(txn, T_PAGE, co_span_of(key, sizeof key), co_span_of(value, n));
        if (rc)
            return rc;
    }
    return 0;
}

int ps_page_delete(struct ps_txn *txn, tlno_t no, pgno_t pgno, lsn_t lsn)
{
    uint8_t key[PS_PAGE_KEY_BYTES];
    struct ps_page_key k = {.no = no, .pgno = pgno, .lsn = lsn};
    bool had = true;
    int rc = 0;
    for (uint32_t i = 0; !rc && had && i <= UINT8_MAX; i++) {
        k.chunk = (uint8_t)i;
        ps_page_key_put(key, &k);
        rc = ps_del(txn, T_PAGE, co_span_of(key, sizeof key), &had);
    }
    return rc;
}

/* "page N of timeline T at LSN L: <what>" */
static int damaged(const struct ps_line *line, pgno_t pgno, lsn_t lsn, int code)
{
    char id[CO_ID_TEXT], at[LSN_TEXT], why[CO_SENTENCE_MAX];
    size_t n = strlen(co_sentence());
    if (n > 400)
        n = 400;
    memcpy(why, co_sentence(), n);
    why[n] = 0;
    return co_fail(code == CO_ERR_VERSION ? code : CO_ERR_CORRUPT,
                   "page %u of timeline %s at LSN %s cannot be read: %s", pgno,
                   co_id_format(&line->id, id), lsn_format(lsn, at), why);
}

/* The cursor stands on chunk 0 of `key`: reads the version whole. */
static int read_version(struct ps_txn *txn, const struct ps_line *line,
                        const struct ps_page_key *first, MDB_val value, uint32_t page_size,
                        uint8_t *out, uint32_t *crc)
{
    uint32_t n;
    int rc = first->chunk == 0 ? ps_decode_begin(txn->codec, ps_span(value), page_size, &n)
                               : co_fail(CO_ERR_CORRUPT, "its first chunk is missing");
    for (uint32_t i = 1; !rc && i < n; i++) {
        MDB_val key;
        struct ps_page_key k;
        int e = mdb_cursor_get(txn->page, &key, &value, MDB_NEXT);
        if (e && e != MDB_NOTFOUND)
            return ps_lmdb_fail(txn->store, e, "reading a page");
        if (e || !ps_page_key_get(ps_span(key), &k) || k.no != first->no || k.pgno != first->pgno ||
            k.lsn != first->lsn || k.chunk != i)
            rc = co_fail(CO_ERR_CORRUPT, "chunk %u of %u is missing", i + 1, n);
        else
            rc = ps_decode_more(txn->codec, ps_span(value));
    }
    if (!rc)
        rc = ps_decode_end(txn->codec, out, crc);
    return rc ? damaged(line, first->pgno, first->lsn, rc) : 0;
}

int ps_page_get(struct ps_txn *txn, const struct ps_line *line, pgno_t pgno, lsn_t lsn,
                uint32_t page_size, uint8_t *out, lsn_t *version, uint32_t *crc)
{
    co_assert(txn->live);
    if (co_mutated(PAGES_NEWEST))
        lsn = UINT64_MAX;
    for (; line; line = line->ancestor) {
        uint8_t bytes[PS_PAGE_KEY_BYTES];
        struct ps_page_key want = {.no = line->no, .pgno = pgno, .lsn = lsn}, found;
        ps_page_key_put(bytes, &want);
        MDB_val key = ps_val(bytes, sizeof bytes), value;
        int rc = mdb_cursor_get(txn->page, &key, &value, MDB_SET_RANGE);
        if (rc && rc != MDB_NOTFOUND)
            return ps_lmdb_fail(txn->store, rc, "looking a page up");
        if (!rc && !ps_page_key_get(ps_span(key), &found))
            return co_fail(CO_ERR_CORRUPT, "%s: a key of table page has %zu bytes instead of %u",
                           txn->store->dir, key.mv_size, PS_PAGE_KEY_BYTES);
        if (!rc && found.no == want.no && found.pgno == pgno) {
            *version = found.lsn;
            return read_version(txn, line, &found, value, page_size, out, crc);
        }
        if (line->ancestor_lsn < lsn && !co_mutated(BRANCH_ABOVE))
            lsn = line->ancestor_lsn;
    }
    char at[LSN_TEXT];
    return co_fail(CO_ERR_NOT_FOUND, "page %u has no version at or below LSN %s", pgno,
                   lsn_format(lsn, at));
}
