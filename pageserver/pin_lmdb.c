/* pin_lmdb.c - table pin: named moments. */
#include <stdio.h>

#include "common/assert.h"
#include "pageserver/store_int_lmdb.h"
#include "proto/name.h"

#define ROW_FORMAT  1u
#define ROW_BYTES   48u
#define KEY_MAX     (16 + CO_NAME_MAX_BYTES)
#define AT_TIMELINE 8
#define AT_LSN      24
#define AT_TIME     32
#define AT_CREATED  40

static size_t make_key(const struct co_id *database, const char *name, uint8_t out[KEY_MAX])
{
    size_t n = strlen(name);
    co_assert(n >= 1 && n <= CO_NAME_MAX_BYTES);
    memcpy(out, database->b, 16);
    memcpy(out + 16, name, n);
    return 16 + n;
}

int ps_pin_put(struct ps_txn *txn, const struct ps_pin_row *pin)
{
    uint8_t key[KEY_MAX], row[ROW_BYTES] = {ROW_FORMAT};
    size_t n = make_key(&pin->database, pin->name, key);
    memcpy(row + AT_TIMELINE, pin->timeline.b, 16);
    co_put64(row + AT_LSN, pin->lsn);
    co_put64(row + AT_TIME, pin->time_us);
    co_put64(row + AT_CREATED, pin->created_us);
    return ps_put(txn, T_PIN, co_span_of(key, n), co_span_of(row, sizeof row));
}

int ps_pin_delete(struct ps_txn *txn, const struct co_id *database, const char *name)
{
    co_assert(txn->live && txn->write);
    uint8_t key[KEY_MAX];
    MDB_val k = ps_val(key, make_key(database, name, key));
    int rc = mdb_del(txn->txn, txn->store->dbi[T_PIN], &k, NULL);
    return rc && rc != MDB_NOTFOUND ? ps_lmdb_fail(txn->store, rc, "deleting a pin") : 0;
}

static int decode(const struct ps_txn *txn, struct co_span key, struct co_span row,
                  struct ps_pin_row *out)
{
    *out = (struct ps_pin_row){0};
    if (row.len >= 1 && row.data[0] != ROW_FORMAT)
        return co_fail(CO_ERR_VERSION, "%s: a pin's row has format %u, this build knows %u",
                       txn->store->dir, row.data[0], ROW_FORMAT);
    if (row.len != ROW_BYTES || key.len <= 16 || key.len > KEY_MAX)
        return co_fail(CO_ERR_CORRUPT, "%s: a pin's row is damaged", txn->store->dir);
    memcpy(out->database.b, key.data, 16);
    memcpy(out->name, key.data + 16, key.len - 16);
    memcpy(out->timeline.b, row.data + AT_TIMELINE, 16);
    out->lsn = co_get64(row.data + AT_LSN);
    out->time_us = co_get64(row.data + AT_TIME);
    out->created_us = co_get64(row.data + AT_CREATED);
    /* With a zero in it the name would be shorter than the key, and nobody would find the row. */
    if (strlen(out->name) != key.len - 16 || name_check(out->name))
        return co_fail(CO_ERR_CORRUPT, "%s: a pin's name is damaged", txn->store->dir);
    return 0;
}

int ps_pin_get(struct ps_txn *txn, const struct co_id *database, const char *name,
               struct ps_pin_row *out)
{
    co_assert(txn->live);
    uint8_t key[KEY_MAX];
    MDB_val k = ps_val(key, make_key(database, name, key)), v;
    int rc = mdb_get(txn->txn, txn->store->dbi[T_PIN], &k, &v);
    if (rc == MDB_NOTFOUND)
        return CO_ERR_NOT_FOUND;
    return rc ? ps_lmdb_fail(txn->store, rc, "reading a pin")
              : decode(txn, ps_span(k), ps_span(v), out);
}

int ps_pin_each(struct ps_txn *txn, ps_pin_fn fn, void *arg)
{
    co_assert(txn->live);
    MDB_cursor *cursor;
    MDB_val k, v;
    int rc = mdb_cursor_open(txn->txn, txn->store->dbi[T_PIN], &cursor), ours = 0;
    if (rc)
        return ps_lmdb_fail(txn->store, rc, "reading the pins");
    while (!ours && (rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0) {
        struct ps_pin_row pin;
        ours = decode(txn, ps_span(k), ps_span(v), &pin);
        if (!ours)
            ours = fn(arg, &pin);
    }
    mdb_cursor_close(cursor);
    if (ours)
        return ours;
    return rc == MDB_NOTFOUND ? 0 : ps_lmdb_fail(txn->store, rc, "reading the pins");
}
