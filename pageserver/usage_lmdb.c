/*
 * usage_lmdb.c - table usage: what a timeline takes in the store, kept in the same transactions as
 * what it counts, so that asking costs one look-up.
 */
#include "common/assert.h"
#include "pageserver/store_int_lmdb.h"

#define ROW_BYTES 40u

static void decode(const uint8_t *row, struct ps_usage *out)
{
    out->versions = co_get64(row);
    out->images = co_get64(row + 8);
    out->page_bytes = co_get64(row + 16);
    out->commits = co_get64(row + 24);
    out->commit_bytes = co_get64(row + 32);
}

int ps_usage_get(struct ps_txn *txn, tlno_t no, struct ps_usage *out)
{
    const uint8_t *row;
    int rc =
        ps_row_get(txn, T_USAGE, no, ROW_BYTES, "usage", "reading what a timeline takes", &row);
    *out = (struct ps_usage){0};
    if (!rc)
        decode(row, out);
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

static int put(struct ps_txn *txn, tlno_t no, const struct ps_usage *u)
{
    uint8_t key[PS_LINE_KEY_BYTES], row[ROW_BYTES];
    co_put32be(key, no);
    co_put64(row, u->versions);
    co_put64(row + 8, u->images);
    co_put64(row + 16, u->page_bytes);
    co_put64(row + 24, u->commits);
    co_put64(row + 32, u->commit_bytes);
    return ps_put(txn, T_USAGE, co_span_of(key, sizeof key), co_span_of(row, sizeof row));
}

int ps_usage_flush(struct ps_txn *txn)
{
    struct ps_usage u;
    const struct ps_usage_change *c = &txn->usage;
    if (!txn->usage_no)
        return 0;
    int rc = ps_usage_get(txn, txn->usage_no, &u);
    if (rc)
        return rc;
    u.versions += (uint64_t)c->versions;
    u.images += (uint64_t)c->images;
    u.page_bytes += (uint64_t)c->page_bytes;
    u.commits += (uint64_t)c->commits;
    u.commit_bytes += (uint64_t)c->commit_bytes;
    rc = put(txn, txn->usage_no, &u);
    txn->usage_no = 0;
    txn->usage = (struct ps_usage_change){0};
    return rc;
}

int ps_usage_add(struct ps_txn *txn, tlno_t no, const struct ps_usage_change *change)
{
    struct ps_usage_change *c = &txn->usage;
    if (txn->usage_no != no) {
        int rc = ps_usage_flush(txn);
        if (rc)
            return rc;
        txn->usage_no = no;
    }
    c->versions += change->versions;
    c->images += change->images;
    c->page_bytes += change->page_bytes;
    c->commits += change->commits;
    c->commit_bytes += change->commit_bytes;
    return 0;
}

/* -- Counting anew -----------------------------------------------------------------------------
 */

static int count_pages(struct ps_txn *txn, tlno_t no, struct ps_usage *u)
{
    struct ps_page_key k = {.no = no, .lsn = UINT64_MAX};
    uint8_t bytes[PS_PAGE_KEY_BYTES];
    ps_page_key_put(bytes, &k);
    MDB_val key = ps_val(bytes, sizeof bytes), value;
    int rc = mdb_cursor_get(txn->page, &key, &value, MDB_SET_RANGE);
    for (; !rc && ps_page_key_get(ps_span(key), &k) && k.no == no;
         rc = mdb_cursor_get(txn->page, &key, &value, MDB_NEXT)) {
        u->versions += k.chunk == 0               ? 1
                       : k.chunk == PS_PACK_CHUNK ? ps_pack_count(ps_span(value))
                                                  : 0;
        u->images += k.chunk == 0;
        u->page_bytes += value.mv_size + key.mv_size + 8;
    }
    return rc && rc != MDB_NOTFOUND ? ps_lmdb_fail(txn->store, rc, "counting pages") : 0;
}

static int count_commits(struct ps_txn *txn, tlno_t no, struct ps_usage *u)
{
    struct ps_commit_key k = {.no = no};
    uint8_t bytes[PS_COMMIT_KEY_BYTES];
    ps_commit_key_put(bytes, &k);
    MDB_val key = ps_val(bytes, sizeof bytes), value;
    int rc = mdb_cursor_get(txn->commit, &key, &value, MDB_SET_RANGE);
    for (; !rc && ps_commit_key_get(ps_span(key), &k) && k.no == no;
         rc = mdb_cursor_get(txn->commit, &key, &value, MDB_NEXT)) {
        u->commits += k.chunk == 0;
        u->commit_bytes += value.mv_size + key.mv_size + 8;
        u->commit_bytes += k.chunk == 0 ? PS_TIME_KEY_BYTES + 8 : 0;
    }
    return rc && rc != MDB_NOTFOUND ? ps_lmdb_fail(txn->store, rc, "counting commits") : 0;
}

int ps_usage_count(struct ps_txn *txn, tlno_t no, struct ps_usage *out)
{
    co_assert(txn->live);
    *out = (struct ps_usage){0};
    int rc = txn->write ? ps_recent_flush_all(txn) : 0;
    if (!rc)
        rc = count_pages(txn, no, out);
    return rc ? rc : count_commits(txn, no, out);
}

int ps_usage_rebuild(struct ps_txn *txn)
{
    tlno_t next;
    int rc = ps_timeline_next_no(txn, &next);
    for (tlno_t no = 1; !rc && no < next; no++) {
        struct ps_usage u;
        rc = ps_usage_count(txn, no, &u);
        if (!rc && (u.versions || u.commits))
            rc = put(txn, no, &u);
    }
    return rc;
}

int ps_usage_recount(struct ps_txn *txn, tlno_t no)
{
    struct ps_usage u;
    co_assert(txn->live && txn->write && !txn->usage_no);
    int rc = ps_usage_count(txn, no, &u);
    return rc ? rc : put(txn, no, &u);
}
