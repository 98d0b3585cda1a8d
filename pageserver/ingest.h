/*
 * ingest.h - committed records become page versions: the rules. Pure; the store is behind a sink.
 *
 * I12: only records that chain are taken. Each must be whole and sound, belong to this cluster and
 * timeline, begin where the last one ended and carry its digest, and its own digest must be what
 * its content says. Anything else halts the timeline with a sentence: the log contradicts itself,
 * and guessing would serve wrong pages. Damage that a CRC shows (CO_ERR_CORRUPT) is no
 * contradiction: the same bytes are asked for elsewhere.
 *
 * A record that is larger than CO_BATCH_BYTES comes in pieces, and is applied piece by piece: its
 * versions are put as they come, invisible until the record is whole and its CRC and digest are
 * proven. Until then nothing about it is believed: what contradicts the chain halts the timeline
 * only when the CRC says that the writer wrote it so; otherwise it is damage, and what was put goes
 * again.
 *
 * A delta's base is the version valid at its base LSN, read back through the sink, which sees what
 * this batch has put already. Base and result are checked against the CRCs of the entry.
 */
#ifndef CORALLITE_PAGESERVER_INGEST_H
#define CORALLITE_PAGESERVER_INGEST_H

#include "pageserver/store_lmdb.h"
#include "proto/wal.h"
#include "proto/wal_stream.h"

/* Where the log of a timeline is, as far as it was taken. */
struct ps_chain {
    struct co_id cluster, timeline;
    lsn_t last_lsn;
    struct wal_digest digest; /* of the record that ends there */
    term_t term;              /* the same; 0: it came before this start */
    struct ps_commit newest;  /* newest TXN; lsn 0: none, the database is empty */
    uint32_t page_size;       /* of the timeline; 0: not known yet */
};

/* The log goes on here, behind a record that was taken in an earlier life, or elsewhere. */
static inline void ps_chain_resume(struct ps_chain *chain, lsn_t lsn, struct wal_digest digest)
{
    chain->last_lsn = lsn;
    chain->digest = digest;
    chain->term = 0;
}

/* A large record on its way in. Zeroed memory is none. */
struct ps_partial {
    struct wal_stream *stream;
    bool active;   /* some of it came */
    pgno_t *pgnos; /* of the versions that were put */
    uint32_t n, cap;
    int verdict; /* of what has come so far, if the CRC proves it; 0: fine */
    char why[CO_SENTENCE_MAX];
};
void ps_partial_reset(struct ps_partial *p);
void ps_partial_free(struct ps_partial *p);

struct ps_sink {
    void *owner;
    /* The page as it was at lsn. CO_ERR_NOT_FOUND, CO_ERR_CORRUPT. */
    int (*base)(void *owner, pgno_t pgno, lsn_t lsn, uint32_t page_size, uint8_t *out);
    /* A version; `zstd` as in ps_encode. */
    int (*put)(void *owner, pgno_t pgno, lsn_t lsn, const uint8_t *page, uint32_t page_size,
               uint32_t crc, struct co_span zstd);
    /* All versions of a transaction were put. */
    int (*commit)(void *owner, const struct ps_commit *commit, const pgno_t *pgnos, uint32_t n);
    /* The record is done; `chain` stands behind it. */
    int (*done)(void *owner, const struct ps_chain *chain);
    /* What was done so far is made durable: before a large record, and behind it. */
    int (*settle)(void *owner);
    void *dctx; /* ZSTD_DCtx for reuse, or NULL */
};

/* Checks the record at the front of `bytes` against the chain. CO_ERR_HALTED: it contradicts the
 * chain. CO_ERR_CORRUPT, CO_ERR_VERSION: damaged, too new. CO_ERR_PROTOCOL: not whole. */
CO_MUST_CHECK int ps_chain_check(const struct ps_chain *chain, struct co_span bytes,
                                 struct wal_header *out);

/* Takes all records of `bytes`, back to back: whole ones, but that a large one may have begun in an
 * earlier call (`partial`), and may end in a later one. The chain advances record by record; on an
 * error it stands behind the last one that was done. *n_records counts them. */
CO_MUST_CHECK int ps_ingest(struct ps_chain *chain, struct ps_partial *partial,
                            struct co_span bytes, const struct ps_sink *sink, uint32_t *n_records);

/* ingest_lmdb.c: the same into the store, in as many write transactions as CO_INGEST_TXN_BYTES asks
 * for; each holds whole records with their progress, but for the first parts of a large record,
 * which stay invisible. On return *chain is what is durable, also after an error; then `partial` is
 * none, and the large record is to be brought again from its begin. Called on the writer's thread;
 * `txn` is not open. */
CO_MUST_CHECK int ps_ingest_store(struct ps_txn *txn, const struct ps_line *line,
                                  struct ps_chain *chain, struct ps_partial *partial,
                                  struct co_span bytes, uint32_t *n_records);

/* For tests: called after each LMDB transaction of an ingest. NULL: none. */
extern void (*ps_ingest_after_commit)(void);

#endif
