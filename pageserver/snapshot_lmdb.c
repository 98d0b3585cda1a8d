#include "pageserver/snapshot_lmdb.h"

#include <stdlib.h>

#include "common/assert.h"
#include "pageserver/store_int_lmdb.h"

#define NO_BYTES   4u /* of the timeline's number, before each key */
#define PS_LSN_BAD UINT64_MAX

static const struct {
    enum ps_table table;
    uint32_t key_bytes;
    uint32_t group_bytes; /* of the key that the entries of a group have in common */
} tables[] = {
    {T_PAGE, PS_PAGE_KEY_BYTES, PS_PAGE_KEY_BYTES - 1},
    {T_COMMIT, PS_COMMIT_KEY_BYTES, PS_COMMIT_KEY_BYTES - 2},
};
#define N_TABLES (sizeof tables / sizeof *tables)

/* -- Out --------------------------------------------------------------------------------------- */

static int add_row(struct ps_snap_out *o, struct co_span key, struct co_span value,
                   struct co_buf *rows)
{
    uint8_t head[1 + PS_PAGE_KEY_BYTES + CO_VARINT_MAX];
    size_t n = 1 + key.len - NO_BYTES;
    head[0] = (uint8_t)(o->table + 1);
    memcpy(head + 1, key.data + NO_BYTES, key.len - NO_BYTES);
    n += co_put_varint(head + n, value.len);
    int rc = co_buf_append(rows, head, n);
    if (!rc && value.len)
        rc = co_buf_append(rows, value.data, value.len);
    o->rows += !rc;
    return rc;
}

/* LSN of an entry, whichever table it is of. */
static lsn_t lsn_of(const struct ps_snap_out *o, struct co_span key)
{
    struct ps_page_key p = {0};
    struct ps_commit_key c = {0};
    if (o->table == 0)
        return ps_page_key_get(key, &p) ? p.lsn : PS_LSN_BAD;
    return ps_commit_key_get(key, &c) ? c.lsn : PS_LSN_BAD;
}

/* How much of a pack is at or below the LSN, and the last of its versions. */
static int trim(const struct ps_snap_out *o, lsn_t image_lsn, struct co_span *pack, lsn_t *last)
{
    struct co_span rest = *pack;
    struct ps_pack_entry e = {.lsn = image_lsn};
    size_t used = 0;
    int rc;
    while (!(rc = ps_pack_next(&rest, e.lsn, &e)) && e.lsn <= o->lsn) {
        used = pack->len - rest.len;
        *last = e.lsn;
    }
    pack->len = used;
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

/* A group of versions is put whole, when its newest version reads as it was written: everything
 * before that in the group was made to get there. */
static int check_group(struct ps_txn *txn, const struct ps_snap_out *o, pgno_t pgno, lsn_t last,
                       uint32_t log2)
{
    struct ps_line own = {.no = o->line->no, .id = o->line->id};
    uint8_t *page;
    lsn_t version;
    uint32_t crc;
    if (log2 < 9 || log2 > 16)
        return co_fail(CO_ERR_CORRUPT, "page %u has a head that makes no sense", pgno);
    page = malloc(CO_PAGE_SIZE_MAX);
    int rc = page ? ps_page_get(txn, &own, pgno, last, 1u << log2, page, &version, &crc)
                  : co_fail(CO_ERR_NOMEM, "no memory for a page");
    free(page);
    return rc;
}

/* The entries of a group, from where the cursor stands; it then stands behind them. */
static int take_group(struct ps_txn *txn, struct ps_snap_out *o, MDB_cursor *cursor, MDB_val *key,
                      MDB_val *value, struct co_buf *rows, int *found)
{
    lsn_t lsn = lsn_of(o, ps_span(*key)), last = lsn;
    uint32_t log2 = 0, group = tables[o->table].group_bytes;
    bool wanted = lsn <= o->lsn, first = true;
    int rc =
        lsn == PS_LSN_BAD ? co_fail(CO_ERR_CORRUPT, "%s: a key is malformed", txn->store->dir) : 0;
    memcpy(o->key, key->mv_data, key->mv_size);
    for (*found = 0; !rc && !*found && key->mv_size == tables[o->table].key_bytes &&
                     memcmp(key->mv_data, o->key, group) == 0;
         *found = mdb_cursor_get(cursor, key, value, MDB_NEXT), first = false) {
        struct co_span v = ps_span(*value);
        if (!wanted)
            continue;
        if (first && o->table == 0 && v.len >= PS_HEAD_BYTES)
            log2 = v.data[3];
        if (o->table == 0 && ((const uint8_t *)key->mv_data)[group] == PS_PACK_CHUNK)
            rc = trim(o, lsn, &v, &last);
        if (!rc && v.len)
            rc = add_row(o, ps_span(*key), v, rows);
    }
    /* What follows is behind every entry of this group. */
    memset(o->key + group, 0xff, tables[o->table].key_bytes - group);
    return rc || !wanted || o->table != 0 ? rc
                                          : check_group(txn, o, co_get32be(o->key + 4), last, log2);
}

/* Puts the cursor where the reading goes on. */
static int seek(struct ps_snap_out *o, MDB_cursor *cursor, MDB_val *key, MDB_val *value)
{
    uint32_t len = tables[o->table].key_bytes;
    uint8_t from[PS_PAGE_KEY_BYTES] = {0};
    if (o->begun)
        memcpy(from, o->key, len);
    else
        co_put32be(from, o->line->no);
    MDB_val want = ps_val(from, len);
    *key = want;
    int rc = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
    if (!rc && o->begun && key->mv_size == len && memcmp(key->mv_data, from, len) == 0)
        rc = mdb_cursor_get(cursor, key, value, MDB_NEXT);
    return rc;
}

static int read_table(struct ps_txn *txn, struct ps_snap_out *o, size_t max, struct co_buf *rows)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    int found = mdb_cursor_open(txn->txn, txn->store->dbi[tables[o->table].table], &cursor), rc = 0;
    if (found)
        return ps_lmdb_fail(txn->store, found, "reading a snapshot");
    found = seek(o, cursor, &key, &value);
    while (!rc && !found && rows->len < max && key.mv_size >= NO_BYTES &&
           co_get32be(key.mv_data) == o->line->no) {
        rc = take_group(txn, o, cursor, &key, &value, rows, &found);
        o->begun = true;
    }
    bool more = !found && key.mv_size >= NO_BYTES && co_get32be(key.mv_data) == o->line->no;
    mdb_cursor_close(cursor);
    if (rc || (found && found != MDB_NOTFOUND))
        return rc ? rc : ps_lmdb_fail(txn->store, found, "reading a snapshot");
    if (!more) {
        o->table++;
        o->begun = false;
    }
    return 0;
}

int ps_snap_read(struct ps_txn *txn, struct ps_snap_out *out, size_t max, struct co_buf *rows)
{
    struct ps_progress p;
    co_assert(txn->live);
    int rc = ps_progress_get(txn, out->line->no, &p);
    if (!rc && p.last_lsn < out->lsn)
        rc = co_fail(CO_ERR_NOT_FOUND, "the store does not reach to the LSN of a snapshot");
    while (!rc && out->table < N_TABLES && rows->len < max)
        rc = read_table(txn, out, max, rows);
    out->done = out->table == N_TABLES;
    return rc;
}

/* -- In ---------------------------------------------------------------------------------------- */

/* The commonest case by far: the keys ascend, and are the last of their table. So the leaves are
 * full, and nothing is looked up. */
static int put_row(struct ps_txn *txn, enum ps_table table, struct co_span key,
                   struct co_span value, bool *append)
{
    MDB_val k = ps_val(key.data, key.len), v = ps_val(value.data, value.len);
    int rc = *append ? mdb_put(txn->txn, txn->store->dbi[table], &k, &v, MDB_APPEND) : MDB_KEYEXIST;
    if (rc == MDB_KEYEXIST) {
        *append = false;
        return ps_put(txn, table, key, value);
    }
    return rc ? ps_lmdb_fail(txn->store, rc, "writing a snapshot") : 0;
}

static int bad(const char *what)
{
    return co_fail(CO_ERR_CORRUPT, "a part of a snapshot is not what it should be: %s", what);
}

static void count(struct ps_usage_change *u, uint8_t table, struct co_span key,
                  struct co_span value)
{
    bool first = !key.data[key.len - 1] && (table == 0 || !key.data[key.len - 2]);
    int64_t bytes = (int64_t)(value.len + key.len + 8);
    if (table == 1) {
        u->commits += first;
        u->commit_bytes += bytes + (first ? PS_TIME_KEY_BYTES + 8 : 0);
        return;
    }
    u->images += first;
    u->versions += first;
    if (key.data[key.len - 1] == PS_PACK_CHUNK)
        u->versions += (int64_t)ps_pack_count(value);
    u->page_bytes += bytes;
}

/* The time row of a commit whose first chunk this is: both begin with its time. */
static int put_time(struct ps_txn *txn, tlno_t no, struct co_span key, struct co_span value,
                    bool *append)
{
    struct ps_commit_key k;
    uint8_t bytes[PS_TIME_KEY_BYTES];
    if (!ps_commit_key_get(key, &k) || k.chunk != 0)
        return 0;
    if (value.len < 8)
        return bad("a commit without a time");
    struct ps_time_key t = {.no = no, .time_us = co_get64(value.data), .lsn = k.lsn};
    ps_time_key_put(bytes, &t);
    return put_row(txn, T_TIME, co_span_of(bytes, sizeof bytes), co_span_of("", 0), append);
}

/* Takes the next row off *rest. */
static int next_row(struct co_span *rest, tlno_t no, uint8_t *table, uint8_t key[PS_PAGE_KEY_BYTES],
                    uint32_t *key_len, struct co_span *value)
{
    uint64_t len;
    *table = (uint8_t)(rest->data[0] - 1);
    if (*table >= N_TABLES)
        return bad("a row of no table");
    *key_len = tables[*table].key_bytes;
    size_t at = 1 + *key_len - NO_BYTES;
    if (rest->len < at)
        return bad("it ends within a key");
    co_put32be(key, no);
    memcpy(key + NO_BYTES, rest->data + 1, *key_len - NO_BYTES);
    size_t n = co_get_varint(rest->data + at, rest->len - at, &len);
    if (!n || len > rest->len - at - n || len > PS_CHUNK_MAX)
        return bad("it ends within a value");
    *value = co_span_of(rest->data + at + n, (size_t)len);
    *rest = co_span_of(rest->data + at + n + len, rest->len - at - n - (size_t)len);
    return 0;
}

int ps_snap_write(struct ps_txn *txn, tlno_t no, lsn_t lsn, struct co_span rows)
{
    struct ps_usage_change change = {0};
    struct ps_snap_out at = {.lsn = lsn};
    uint8_t key[PS_PAGE_KEY_BYTES];
    uint32_t key_len = 0;
    struct co_span value;
    bool append[N_TABLES + 1] = {true, true, true}; /* and of table time */
    int rc = 0;
    co_assert(txn->live && txn->write);
    while (!rc && rows.len) {
        rc = next_row(&rows, no, &at.table, key, &key_len, &value);
        if (!rc && lsn_of(&at, co_span_of(key, key_len)) > lsn)
            rc = bad("a row of a later LSN");
        if (!rc)
            rc = put_row(txn, tables[at.table].table, co_span_of(key, key_len), value,
                         &append[at.table]);
        if (!rc && at.table == 1)
            rc = put_time(txn, no, co_span_of(key, key_len), value, &append[N_TABLES]);
        if (!rc)
            count(&change, at.table, co_span_of(key, key_len), value);
    }
    return rc ? rc : ps_usage_add(txn, no, &change);
}
