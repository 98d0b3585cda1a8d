/* store_int_lmdb.h - what the *_lmdb.c files of the store share. Included by them only. */
#ifndef CORALLITE_PAGESERVER_STORE_INT_LMDB_H
#define CORALLITE_PAGESERVER_STORE_INT_LMDB_H

#include <lmdb.h>

#include "pageserver/store_lmdb.h"

enum ps_table { T_META, T_TIMELINE, T_PROGRESS, T_PAGE, T_COMMIT, T_TIME, T_PIN, T_COUNT };

struct ps_store {
    MDB_env *env;
    MDB_dbi dbi[T_COUNT];
    char dir[512];
    uint64_t map_bytes;
    uint32_t chunk_max;
};

struct ps_txn {
    struct ps_store *store;
    MDB_txn *txn; /* NULL: a write transaction that has not begun */
    MDB_cursor *page, *commit;
    struct ps_codec *codec;
    bool write;
    bool live; /* begun and not ended */
    uint64_t cost;
};

/* LMDB's code as ours, with a sentence: "<doing> in <dir>: <why>; <what to do>". */
int ps_lmdb_fail(const struct ps_store *store, int rc, const char *doing);
/* mdb_put with the transaction's cost kept. */
int ps_put(struct ps_txn *txn, enum ps_table table, struct co_span key, struct co_span value);
/* mdb_del likewise. *had: there was one. */
int ps_del(struct ps_txn *txn, enum ps_table table, struct co_span key, bool *had);

static inline MDB_val ps_val(const void *data, size_t len)
{
    return (MDB_val){len, (void *)(uintptr_t)data};
}
static inline struct co_span ps_span(MDB_val v)
{
    return co_span_of(v.mv_data, v.mv_size);
}

#endif
