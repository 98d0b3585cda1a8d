/*
 * recent_lmdb.c - versions that a write transaction keeps at hand (store_int_lmdb.h).
 *
 * The right edge of a table, or a counter, changes with every commit: each change is a few bytes at
 * the end of one pack. Putting each of them into the tree would copy the pack anew every time; so
 * they gather in the slot of the page, and go into the tree once: when another page wants the slot,
 * when the group is looked up, or with the end of the transaction. Nothing of it outlives that.
 */
#include "common/mutation.h"
#include "pageserver/store_int_lmdb.h"

int ps_recent_flush(struct ps_txn *txn, struct ps_recent *r)
{
    uint8_t key[PS_PAGE_KEY_BYTES];
    struct ps_page_key k = {
        .no = r->no, .pgno = r->pgno, .lsn = r->image_lsn, .chunk = PS_PACK_CHUNK};
    if (!r->no || !r->dirty)
        return 0;
    ps_page_key_put(key, &k);
    r->dirty = false;
    return ps_put(txn, T_PAGE, co_span_of(key, sizeof key), co_span_of(r->pack, r->pack_bytes));
}

int ps_recent_flush_all(struct ps_txn *txn)
{
    int rc = 0;
    for (uint32_t i = 0; !rc && i < PS_RECENT_SLOTS && !co_mutated(PACK_UNWRITTEN); i++)
        rc = ps_recent_flush(txn, &txn->recent[i]);
    return rc;
}

int ps_recent_settle(struct ps_txn *txn, tlno_t no, pgno_t pgno)
{
    struct ps_recent *r = txn->recent ? ps_recent_of(txn, pgno) : NULL;
    bool has = r && r->no == no && r->pgno == pgno;
    return has ? ps_recent_flush(txn, r) : 0;
}

int ps_recent_leave(struct ps_txn *txn, tlno_t no, pgno_t pgno)
{
    struct ps_recent *r = ps_recent_of(txn, pgno);
    if (r->no != no || r->pgno != pgno)
        return 0;
    int rc = ps_recent_flush(txn, r);
    r->no = 0;
    return rc;
}

void ps_recent_forget(struct ps_txn *txn)
{
    for (uint32_t i = 0; i < PS_RECENT_SLOTS; i++) {
        txn->recent[i].no = 0;
        txn->recent[i].dirty = false;
    }
}
