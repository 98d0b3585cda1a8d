/*
 * ingest_lmdb.c - the sink of ingest into the store.
 *
 * A write transaction is ended when its cost (an upper estimate of the pages that it has dirtied)
 * passes SOFT_BYTES: between two records with the progress behind the last; within a record without
 * any, so that the versions put so far stay invisible until the transaction with the record's end.
 * A crash in between leaves them there, and ingesting the record again writes the same keys. A
 * large record that turns out to be damaged takes its versions with it, before it is asked for
 * elsewhere.
 */
#include "common/assert.h"
#include "pageserver/ingest.h"

/* Leaves room under the hard bound for one page, the commit row of a large record, and the branch
 * pages of the trees, which the estimate does not count. */
#define SOFT_BYTES (CO_INGEST_TXN_BYTES * 3 / 4)

void (*ps_ingest_after_commit)(void);

struct apply {
    struct ps_txn *txn;
    const struct ps_line *line;
    struct ps_chain *durable; /* what committed transactions cover */
    struct ps_chain reached;  /* behind the last whole record */
};

static int end_txn(struct apply *a)
{
    int rc = 0;
    if (a->reached.last_lsn != a->durable->last_lsn) {
        struct ps_progress p = {a->reached.last_lsn, a->reached.digest};
        rc = ps_progress_put(a->txn, a->line->no, &p);
    }
    if (!rc)
        rc = ps_write_commit(a->txn);
    if (rc)
        return rc;
    *a->durable = a->reached;
    if (ps_ingest_after_commit)
        ps_ingest_after_commit();
    return 0;
}

/* Ends a transaction that has grown large and begins the next. */
static int make_room(struct apply *a)
{
    if (ps_write_cost(a->txn) < SOFT_BYTES)
        return 0;
    int rc = end_txn(a);
    return rc ? rc : ps_write_begin(a->txn);
}

static int on_base(void *owner, pgno_t pgno, lsn_t lsn, uint32_t page_size, uint8_t *out)
{
    struct apply *a = owner;
    lsn_t version;
    uint32_t crc;
    return ps_page_get(a->txn, a->line, pgno, lsn, page_size, out, &version, &crc);
}

static int on_put(void *owner, pgno_t pgno, lsn_t lsn, const uint8_t *page, uint32_t page_size,
                  uint32_t crc, struct co_span zstd)
{
    struct apply *a = owner;
    int rc = make_room(a);
    return rc ? rc : ps_page_put(a->txn, a->line->no, pgno, lsn, page, page_size, crc, zstd);
}

static int on_settle(void *owner)
{
    struct apply *a = owner;
    int rc = end_txn(a);
    return rc ? rc : ps_write_begin(a->txn);
}

static int on_commit(void *owner, const struct ps_commit *commit, const pgno_t *pgnos, uint32_t n)
{
    struct apply *a = owner;
    /* The row of a very large record gets a transaction of its own. */
    if (n > CO_INGEST_TXN_BYTES / 32) {
        int rc = on_settle(a);
        if (rc)
            return rc;
    }
    return ps_commit_put(a->txn, a->line->no, commit, pgnos, n);
}

static int on_done(void *owner, const struct ps_chain *chain)
{
    struct apply *a = owner;
    a->reached = *chain;
    return 0;
}

/* Takes `bytes` and makes them durable. *work: how far it came before an error. */
static int take(struct ps_txn *txn, const struct ps_line *line, struct ps_chain *chain,
                struct ps_partial *partial, struct co_span bytes, struct ps_chain *work,
                uint32_t *n_records)
{
    struct apply a = {.txn = txn, .line = line, .durable = chain, .reached = *chain};
    struct ps_sink sink = {
        &a, on_base, on_put, on_commit, on_done, on_settle, ps_codec_dctx(ps_txn_codec(txn))};
    *work = *chain;
    *n_records = 0;
    int rc = ps_write_begin(txn);
    if (rc)
        return rc;
    rc = ps_ingest(work, partial, bytes, &sink, n_records);
    if (!rc)
        rc = end_txn(&a);
    if (rc)
        ps_write_abort(txn);
    return rc;
}

/* Takes back the versions of a record that was not what it should be. Of what cannot be taken back
 * the next ingest writes most again; the sentence of the failure stays. */
static void undo(struct ps_txn *txn, const struct ps_line *line, const struct ps_partial *p)
{
    char why[CO_SENTENCE_MAX];
    memcpy(why, co_sentence(), sizeof why);
    lsn_t lsn = wal_stream_header(p->stream) ? wal_stream_header(p->stream)->end_lsn : 0;
    int rc = lsn && p->n ? ps_write_begin(txn) : 0;
    for (uint32_t i = 0; !rc && lsn && i < p->n; i++) {
        rc = ps_page_delete(txn, line->no, p->pgnos[i], lsn);
        if (!rc && ps_write_cost(txn) >= SOFT_BYTES) {
            rc = ps_write_commit(txn);
            if (!rc)
                rc = ps_write_begin(txn);
        }
    }
    if (!rc && lsn && p->n)
        rc = ps_write_commit(txn);
    if (rc)
        ps_write_abort(txn);
    (void)co_fail(CO_ERR_CORRUPT, "%s", why);
}

int ps_ingest_store(struct ps_txn *txn, const struct ps_line *line, struct ps_chain *chain,
                    struct ps_partial *partial, struct co_span bytes, uint32_t *n_records)
{
    struct ps_chain work;
    lsn_t from = chain->last_lsn + (partial->active ? wal_stream_got(partial->stream) : 0);
    int rc = take(txn, line, chain, partial, bytes, &work, n_records);
    if (rc && partial->active) {
        if (rc == CO_ERR_CORRUPT || rc == CO_ERR_HALTED)
            undo(txn, line, partial);
        ps_partial_reset(partial);
        return rc;
    }
    if (rc && work.last_lsn > chain->last_lsn) {
        /* A record was refused: what stands before it in the batch is sound all the same. LSNs are
         * byte positions, so the good part is as long as the chain advanced. */
        char why[CO_SENTENCE_MAX];
        uint32_t n;
        memcpy(why, co_sentence(), sizeof why);
        struct co_span good = co_span_of(bytes.data + (chain->last_lsn - from),
                                         (size_t)(work.last_lsn - chain->last_lsn));
        if (take(txn, line, chain, partial, good, &work, &n))
            return rc; /* the store's own trouble, told by co_sentence() */
        return co_fail(rc, "%s", why);
    }
    return rc;
}
