/* store_int_lmdb.h - what the *_lmdb.c files of the store share. Included by them only. */
#ifndef CORALLITE_PAGESERVER_STORE_INT_LMDB_H
#define CORALLITE_PAGESERVER_STORE_INT_LMDB_H

#include <lmdb.h>
#include <stdatomic.h>

#include "pageserver/store_lmdb.h"

enum ps_table {
    T_META,
    T_TIMELINE,
    T_PROGRESS,
    T_PAGE,
    T_COMMIT,
    T_TIME,
    T_PIN,
    T_USAGE,
    T_GC,
    T_COUNT
};

#define PS_PUT_COST 4096u /* what one put or deletion dirties, at most: a leaf */

/* Versions that a write transaction read or wrote last, one of the pages whose numbers end alike:
 * what comes in next is often a change of one of them. None in a read transaction. What is put
 * behind a version that is the newest stays here until the slot is wanted or somebody looks the
 * group up (recent_lmdb.c): a page that every commit changes is written once a transaction. */
#define PS_RECENT_SLOTS 64u
struct ps_recent {
    tlno_t no; /* 0: none */
    pgno_t pgno;
    lsn_t image_lsn, lsn;
    uint32_t page_size, image_bytes;
    uint32_t pack_bytes; /* of its group's pack, up to it */
    uint32_t crc;
    bool newest; /* of its page in this timeline: it was written in this transaction */
    bool dirty;  /* newest, and the store has less of the pack than `pack` */
    uint8_t *page;
    uint8_t pack[PS_PACK_MAX]; /* of the newest: pack_bytes */
};

struct ps_usage_change {
    int64_t versions, images, page_bytes, commits, commit_bytes;
};

struct ps_store {
    MDB_env *env;
    MDB_dbi dbi[T_COUNT];
    char dir[512];
    uint64_t map_bytes;
    uint32_t chunk_max;
    atomic_bool given_up; /* by LMDB */
};

struct ps_txn {
    struct ps_store *store;
    MDB_txn *txn; /* NULL: a write transaction that has not begun */
    MDB_cursor *page, *commit;
    struct ps_codec *codec;
    bool write;
    bool live; /* begun and not ended */
    uint64_t cost;
    struct ps_recent *recent; /* PS_RECENT_SLOTS; NULL in a read transaction */
    uint8_t *scratch;         /* a page; NULL in a read transaction */
    tlno_t usage_no;          /* whose usage changes in this transaction; 0: none yet */
    struct ps_usage_change usage;
};

/* LMDB's code as ours, with a sentence: "<doing> in <dir>: <why>; <what to do>". */
int ps_lmdb_fail(struct ps_store *store, int rc, const char *doing);
/* mdb_put with the transaction's cost kept. */
int ps_put(struct ps_txn *txn, enum ps_table table, struct co_span key, struct co_span value);
/* mdb_del likewise. *had: there was one. */
int ps_del(struct ps_txn *txn, enum ps_table table, struct co_span key, bool *had);

/* The row of timeline `no` in a table that has one of `size` bytes for each; borrowed from the map.
 * CO_ERR_NOT_FOUND without a sentence: none. `doing`, `name`: for the sentences of other errors. */
int ps_row_get(struct ps_txn *txn, enum ps_table table, tlno_t no, uint32_t size, const char *name,
               const char *doing, const uint8_t **row);

/* recent_lmdb.c */
static inline struct ps_recent *ps_recent_of(const struct ps_txn *txn, pgno_t pgno)
{
    return &txn->recent[pgno % PS_RECENT_SLOTS];
}
/* Writes what a slot has and the store has not; all slots. */
int ps_recent_flush(struct ps_txn *txn, struct ps_recent *r);
int ps_recent_flush_all(struct ps_txn *txn);
/* Before a group of this page is looked up or changed in the store; nothing in a read transaction.
 */
int ps_recent_settle(struct ps_txn *txn, tlno_t no, pgno_t pgno);
/* The same, and the slot has it no more. */
int ps_recent_leave(struct ps_txn *txn, tlno_t no, pgno_t pgno);
/* Empties all slots without writing. */
void ps_recent_forget(struct ps_txn *txn);

/* commit_lmdb.c */
/* Takes a commit's rows away. */
int ps_commit_delete(struct ps_txn *txn, tlno_t no, lsn_t lsn);
/* usage_lmdb.c: counts what this transaction changes of timeline `no`; ps_usage_flush writes it. */
int ps_usage_add(struct ps_txn *txn, tlno_t no, const struct ps_usage_change *change);
int ps_usage_flush(struct ps_txn *txn);
/* Counts every timeline anew (a store of format 1 has no counts). */
int ps_usage_rebuild(struct ps_txn *txn);
/* page_lmdb.c: writes the group of an image anew, with those of its versions that are to be kept;
 * the rest is gone. CO_ERR_NOT_FOUND: no such image. */
typedef bool (*ps_keep_fn)(void *arg, lsn_t lsn);
int ps_group_rewrite(struct ps_txn *txn, tlno_t no, pgno_t pgno, lsn_t image_lsn, ps_keep_fn keep,
                     void *arg);

static inline MDB_val ps_val(const void *data, size_t len)
{
    return (MDB_val){len, (void *)(uintptr_t)data};
}
static inline struct co_span ps_span(MDB_val v)
{
    return co_span_of(v.mv_data, v.mv_size);
}

#endif
