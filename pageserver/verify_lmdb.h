/*
 * verify_lmdb.h - is what the store holds of a timeline sound? In small steps, so that reads and
 * ingest go on beside it.
 *
 * What is looked at, in this order (enum ps_verify_phase)
 *   commits  each row decodes; it has its row in table time; each page that it lists has a version
 *            at its LSN
 *   times    each row of table time belongs to a commit of that time
 *   pages    each image and each pack decodes to a page with its CRC; each version was written by a
 *            commit, and there are no more versions than commits list
 *   moments  at each moment that is kept (the newest, the oldest, pins, branch points) every page
 * of the database has a version usage    the counts that table usage keeps
 *
 * Below the cutoff of garbage collection commits and versions go one by one; there only what every
 * version has to be is asked for, and what the moments that are kept need. What was ingested after
 * the timeline was begun is left to the next run: counts that moved meanwhile are not compared.
 *
 * A step looks at some PS_VERIFY_STEP_BYTES of pages. It holds no state: the cursor has it all, and
 * comes from outside, so nothing in it is believed further than a wrong finding.
 *
 * Threads: those of the read transaction.
 */
#ifndef CORALLITE_PAGESERVER_VERIFY_LMDB_H
#define CORALLITE_PAGESERVER_VERIFY_LMDB_H

#include "pageserver/store_lmdb.h"

#define PS_VERIFY_STEP_BYTES     CO_MIB /* of decoded pages; a row counts as PS_VERIFY_ROW_BYTES */
#define PS_VERIFY_ROW_BYTES      1024u
#define PS_VERIFY_FINDINGS_MAX   64u /* of one step: it ends there */
#define PS_VERIFY_SENTENCE_BYTES 400u

enum ps_verify_phase {
    PS_VERIFY_COMMITS = 1,
    PS_VERIFY_TIMES,
    PS_VERIFY_PAGES,
    PS_VERIFY_MOMENTS,
    PS_VERIFY_USAGE,
    PS_VERIFY_DONE,
};

/* Where a walk through one timeline is. */
struct ps_verify_at {
    enum ps_verify_phase phase;
    lsn_t lsn;
    pgno_t pgno;
    uint64_t time_us; /* of the moments: pages that this one lacks */
    uint32_t index;
    lsn_t upto, cutoff;            /* when it began */
    struct ps_usage counted, told; /* told: when it began */
    uint64_t listed, found;
};

struct ps_verify_line {
    const struct ps_line *line;
    bool strict;  /* the timeline keeps its moments from the cutoff on */
    lsn_t cutoff; /* now */
    lsn_t upto;   /* its last-record LSN now */
    /* The next moment that is kept above `after`; LSN_NONE: none. *pin: its name, or NULL. */
    lsn_t (*moment)(void *arg, lsn_t after, const char **pin);
    void *arg;
};

struct ps_found {
    const char *kind; /* a word of docs/damage.md */
    pgno_t pgno;      /* 0: none */
    lsn_t lsn;
    char text[PS_VERIFY_SENTENCE_BYTES];
};

struct ps_verify_step {
    struct ps_found found[PS_VERIFY_FINDINGS_MAX];
    uint32_t n;
    uint64_t cost, versions, commits; /* looked at */
};

/* The begin of a timeline. */
CO_MUST_CHECK int ps_verify_begin(struct ps_txn *txn, const struct ps_verify_line *line,
                                  struct ps_verify_at *at);
/* Goes on until the step is full or the timeline is done. What is unsound is found, not an error;
 * CO_ERR_CORRUPT: the tree itself is damaged. */
CO_MUST_CHECK int ps_verify_step(struct ps_txn *txn, const struct ps_verify_line *line,
                                 struct ps_verify_at *at, struct ps_verify_step *step);

/* The first number above `after` of which any table has rows; 0: none. */
CO_MUST_CHECK int ps_verify_next_no(struct ps_txn *txn, tlno_t after, tlno_t *out);
/* The newest commit of the timeline itself; LSN_NONE: it has none. */
CO_MUST_CHECK int ps_verify_newest(struct ps_txn *txn, tlno_t no, lsn_t *out,
                                   struct wal_digest *digest);

#endif
