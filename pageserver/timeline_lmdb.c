/* timeline_lmdb.c - table timeline, moments in the pageserver's own life, and the deletion of what
 * was dropped. */
#include "common/assert.h"
#include "pageserver/store_int_lmdb.h"

#define ROW_HEAD_BYTES 8u
#define ROW_FORMAT     1u

static int next_no(struct ps_txn *txn, tlno_t *out)
{
    MDB_val k = ps_val("next", 4), v;
    int rc = mdb_get(txn->txn, txn->store->dbi[T_META], &k, &v);
    if (rc && rc != MDB_NOTFOUND)
        return ps_lmdb_fail(txn->store, rc, "reading the next number");
    if (!rc && v.mv_size != 4)
        return co_fail(CO_ERR_CORRUPT, "%s: the next number has %zu bytes", txn->store->dir,
                       v.mv_size);
    *out = rc ? 1 : co_get32(v.mv_data);
    return 0;
}

int ps_timeline_next_no(struct ps_txn *txn, tlno_t *out)
{
    co_assert(txn->live);
    return next_no(txn, out);
}

static int put_moment(struct ps_txn *txn, const char *name, uint64_t us)
{
    uint8_t row[8];
    co_put64(row, us);
    return ps_put(txn, T_META, co_span_of(name, strlen(name)), co_span_of(row, sizeof row));
}

static int get_moment(struct ps_txn *txn, const char *name, uint64_t *us)
{
    co_assert(txn->live);
    MDB_val k = ps_val(name, strlen(name)), v;
    int rc = mdb_get(txn->txn, txn->store->dbi[T_META], &k, &v);
    if (rc && rc != MDB_NOTFOUND)
        return ps_lmdb_fail(txn->store, rc, "reading a row of table meta");
    if (!rc && v.mv_size != 8)
        return co_fail(CO_ERR_CORRUPT, "%s: a row of table meta has %zu bytes instead of 8",
                       txn->store->dir, v.mv_size);
    *us = rc ? 0 : co_get64(v.mv_data);
    return 0;
}

int ps_taken_put(struct ps_txn *txn, uint64_t us)
{
    return put_moment(txn, "taken", us);
}

int ps_taken_get(struct ps_txn *txn, uint64_t *us)
{
    return get_moment(txn, "taken", us);
}

int ps_life_put(struct ps_txn *txn, uint64_t us)
{
    return put_moment(txn, "life", us);
}

int ps_life_get(struct ps_txn *txn, uint64_t *us)
{
    return get_moment(txn, "life", us);
}

int ps_timeline_put(struct ps_txn *txn, tlno_t no, bool purged, const struct ps_meta *meta)
{
    uint8_t head[ROW_HEAD_BYTES] = {ROW_FORMAT, purged}, number[4];
    struct co_buf row = {0};
    tlno_t next;
    co_put32(head + 4, no);
    int rc = co_buf_append(&row, head, sizeof head);
    if (!rc)
        rc = ps_meta_pack(meta, &row);
    if (!rc)
        rc = ps_put(txn, T_TIMELINE, co_span_of(meta->id.b, 16), co_buf_span(&row));
    co_buf_free(&row);
    if (!rc)
        rc = next_no(txn, &next);
    if (rc || next > no)
        return rc;
    co_put32(number, no + 1);
    return ps_put(txn, T_META, co_span_of("next", 4), co_span_of(number, 4));
}

static int one_row(struct ps_txn *txn, struct co_span row, ps_timeline_fn fn, void *arg)
{
    struct ps_meta meta;
    if (row.len < ROW_HEAD_BYTES)
        return co_fail(CO_ERR_CORRUPT, "%s: a timeline's row is cut short", txn->store->dir);
    if (row.data[0] != ROW_FORMAT)
        return co_fail(CO_ERR_VERSION, "%s: a timeline's row has format %u, this build knows %u",
                       txn->store->dir, row.data[0], ROW_FORMAT);
    if (ps_meta_unpack(co_span_of(row.data + ROW_HEAD_BYTES, row.len - ROW_HEAD_BYTES), &meta))
        return co_fail(
            CO_ERR_CORRUPT,
            "%s: a timeline's row is damaged; move the directory away, an empty store is "
            "filled again from the safekeepers",
            txn->store->dir);
    return fn(arg, co_get32(row.data + 4), row.data[1] != 0, &meta);
}

int ps_timeline_each(struct ps_txn *txn, ps_timeline_fn fn, void *arg)
{
    co_assert(txn->live);
    MDB_cursor *cursor;
    MDB_val k, v;
    int rc = mdb_cursor_open(txn->txn, txn->store->dbi[T_TIMELINE], &cursor);
    if (rc)
        return ps_lmdb_fail(txn->store, rc, "reading the timelines");
    int ours = 0;
    while (!ours && (rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0)
        ours = one_row(txn, ps_span(v), fn, arg);
    mdb_cursor_close(cursor);
    if (ours)
        return ours;
    return rc == MDB_NOTFOUND ? 0 : ps_lmdb_fail(txn->store, rc, "reading the timelines");
}

/* -- Purge ------------------------------------------------------------------------------------- */

/* Deletes at most *left rows whose key begins with the number; all of them: *left stays above 0. */
static int purge_table(struct ps_txn *txn, enum ps_table table, tlno_t no, uint32_t *left)
{
    uint8_t prefix[4];
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn->txn, txn->store->dbi[table], &cursor);
    if (rc)
        return ps_lmdb_fail(txn->store, rc, "deleting what was dropped");
    co_put32be(prefix, no);
    while (*left > 0) {
        MDB_val k = ps_val(prefix, sizeof prefix), v;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
        if (rc || k.mv_size < 4 || co_get32be(k.mv_data) != no)
            break;
        rc = mdb_cursor_del(cursor, 0);
        if (rc)
            break;
        txn->cost += 4096;
        --*left;
    }
    mdb_cursor_close(cursor);
    return rc && rc != MDB_NOTFOUND ? ps_lmdb_fail(txn->store, rc, "deleting what was dropped") : 0;
}

int ps_purge_step(struct ps_txn *txn, tlno_t no, uint32_t max, bool *done)
{
    co_assert(txn->live && txn->write);
    static const enum ps_table tables[] = {T_PAGE, T_COMMIT, T_TIME, T_PROGRESS, T_USAGE, T_GC};
    uint32_t left = max;
    for (size_t i = 0; i < sizeof tables / sizeof *tables && left; i++) {
        int rc = purge_table(txn, tables[i], no, &left);
        if (rc)
            return rc;
    }
    *done = left > 0;
    return 0;
}

/* -- Rebuilding -------------------------------------------------------------------------------- */

#define MARK       "rebuild"
#define MARK_BYTES (sizeof MARK - 1)

static void mark_key(tlno_t no, uint8_t out[MARK_BYTES + 4])
{
    memcpy(out, MARK, MARK_BYTES);
    co_put32be(out + MARK_BYTES, no);
}

int ps_rebuild_mark(struct ps_txn *txn, tlno_t no, enum ps_rebuild how)
{
    uint8_t key[MARK_BYTES + 4], value[1] = {(uint8_t)how};
    mark_key(no, key);
    return ps_put(txn, T_META, co_span_of(key, sizeof key), co_span_of(value, sizeof value));
}

int ps_rebuild_end(struct ps_txn *txn, tlno_t no)
{
    uint8_t key[MARK_BYTES + 4];
    bool had;
    mark_key(no, key);
    return ps_del(txn, T_META, co_span_of(key, sizeof key), &had);
}

int ps_rebuild_step(struct ps_txn *txn, tlno_t no, enum ps_rebuild how, uint32_t max, bool *done)
{
    co_assert(txn->live && txn->write);
    /* The progress first: without it nothing of the rest is visible, whenever a crash comes. */
    static const enum ps_table tables[] = {T_PROGRESS, T_PAGE, T_COMMIT, T_TIME, T_USAGE};
    uint32_t left = max;
    int rc = ps_rebuild_mark(txn, no, how);
    for (size_t i = 0; !rc && i < sizeof tables / sizeof *tables && left; i++)
        rc = purge_table(txn, tables[i], no, &left);
    *done = !rc && left > 0;
    return *done && how == PS_REBUILD_LOG ? ps_rebuild_end(txn, no) : rc;
}

int ps_rebuild_pending(struct ps_txn *txn, tlno_t no, enum ps_rebuild *out)
{
    uint8_t key[MARK_BYTES + 4];
    co_assert(txn->live);
    mark_key(no, key);
    MDB_val k = ps_val(key, sizeof key), v;
    int rc = mdb_get(txn->txn, txn->store->dbi[T_META], &k, &v);
    *out = rc ? PS_REBUILD_NONE
           : v.mv_size == 1 && *(const uint8_t *)v.mv_data == PS_REBUILD_SNAPSHOT
               ? PS_REBUILD_SNAPSHOT
               : PS_REBUILD_LOG;
    return rc && rc != MDB_NOTFOUND ? ps_lmdb_fail(txn->store, rc, "looking for a rebuild") : 0;
}
