/*
 * oracle.h - what the simulator knows independently: every record that was ever written, which of
 * them are committed, every version of every page that follows from that, and every transaction of
 * the workload with its SQL and with what its writer was told.
 */
#ifndef CORALLITE_TESTS_FULLSIM_ORACLE_H
#define CORALLITE_TESTS_FULLSIM_ORACLE_H

#include "common/bytes.h"
#include "proto/wal.h"

#define MAX_TXNS      4096u
#define MAX_TIMELINES 24u

enum txn_state { T_OPEN, T_ACKED, T_UNKNOWN, T_NOT_COMMITTED, T_KILLED, T_NOTHING };

struct txn {
    uint64_t id;
    enum txn_state state;
    bool full; /* it was to be on a majority's disks before OK */
    bool has_record, committed, spilled, vacuum, ddl, savepoint;
    uint64_t told_us; /* when its connection was told, or asked, what became of it */
    bool seen;        /* by another connection, in a read transaction that ended well */
    uint32_t client;
    struct co_id timeline;
    term_t term;
    lsn_t begin, end;
    struct co_id uuid;    /* of the record that was built last */
    struct co_buf sealed; /*   and its bytes, if it was built in a file */
    struct co_buf sql;
};

struct record {
    struct wal_header h;
    uint8_t *bytes;
    uint64_t txn; /* of the workload; 0: a configuration */
    bool gold;
    struct record *same; /* chain of the hash */
};

/* A committed version of a page. */
struct image {
    lsn_t lsn;
    uint8_t data[];
};

/* All of one page, the oldest first. */
struct versions {
    struct image **v;
    uint32_t n, cap;
};

struct timeline {
    struct co_id id;
    char branch[64];
    struct timeline *parent;
    lsn_t base, end; /* of the committed log */
    struct wal_digest base_digest, end_digest;
    struct record **gold;
    uint32_t n_gold, cap_gold;
    struct versions *pages;
    uint32_t cap_pages, page_size;
    uint64_t restored_us; /* a restore put it under its name then; 0: none did */
    uint64_t kept_us;     /* a restore was known then to have put it aside; 0: none was */
    bool moving;          /* a restore of it was asked for, and what came of it is not known */
    bool sealed;          /* a restore has put it aside */
    bool dropping;        /* its drop was asked for, and maybe answered; it is moving, too */
    bool gone;        /* dropped, or its making was given up: nobody can read it; moving for good */
    bool joint;       /* by its newest committed configuration */
    uint32_t writers; /* connections of the workload that have it open; killed ones stay counted */
    lsn_t acked_end;  /* newest that was acknowledged with FULL to anybody */
};

extern struct timeline timelines[MAX_TIMELINES];
extern uint32_t n_timelines;
extern struct txn txns[MAX_TXNS + 1]; /* from 1 on */
extern uint32_t n_txns;

struct timeline *timeline_of(const struct co_id *id);
/* It was made: by BRANCH_CREATE, or as a database. */
struct timeline *timeline_make(const struct co_id *id, const char *branch, struct timeline *parent,
                               lsn_t base);
/* A compute opens this timeline: maybe a restore made it whose answer is still on its way, and the
 * name was moved between that compute's question and its answer (work_restore.c). */
void work_restore_seen(const struct co_id *id);
struct record *record_of(const struct wal_digest *digest); /* NULL: nobody wrote it */
/* That one, and all before it. */
void record_committed(struct timeline *t, const struct record *r);
/* The transaction at or below lsn; NULL: the database was empty. */
struct record *gold_at(struct timeline *t, lsn_t lsn);
const uint8_t *page_at(struct timeline *t, pgno_t pgno, lsn_t lsn);
/* Is the transaction in what is read there? */
bool txn_is_at(const struct txn *x, const struct timeline *t, lsn_t lsn);
uint32_t size_at(struct timeline *t, lsn_t lsn); /* in pages */
/* Any committed boundary of a transaction, ancestors' included; 0 when there is none. */
lsn_t any_lsn(struct timeline *t);

/* The workload tells what it does. */
struct txn *txn_begin(uint32_t client, struct timeline *t, bool full);
void txn_sql(struct txn *t, const char *sql);
void txn_end(struct txn *t, enum txn_state state, const char *commit_id);
void txn_verdict(struct txn *t, const char *word);
/* The process of this client was killed. */
void txns_killed(uint32_t client);
/* A tail that was open when a restore sealed the timeline stays open; so it does when that is
 * dropped. */
bool txn_has_to_be_known(const struct txn *x);

/* sealed.c: a majority of the members has more of this log than two of them know to be committed.
 */
bool sealed_owes(const struct timeline *t);

/* replay.c: the same transactions on a plain SQLite, compared. */
void replay_all(void);

#endif
