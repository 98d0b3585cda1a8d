/*
 * mem_backend.h - a quorum and a pageserver in memory, with switches, in place of the network.
 *
 * Databases are known by name only ("shop" is shop/main, "shop/dev" another branch); the server
 * part of a URI does not matter to it. So two servers' names in one process are two computes (two
 * database objects, two logs) on one database.
 *
 * A quorum makes records durable `delay_us` after they were appended, and tells so from a thread of
 * its own. A newer leader deposes an older one only when that one's lease is free, released, or
 * taken away with mem_lose_term().
 */
#ifndef CORALLITE_TESTS_MEM_BACKEND_H
#define CORALLITE_TESTS_MEM_BACKEND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "compute-vfs/backend.h"

struct mem_switches {
    atomic_uint delay_us;       /* from append to durable */
    atomic_bool refuse;         /* nothing becomes durable; elections and positions fail */
    atomic_bool freeze;         /* nothing becomes durable, all else works */
    atomic_bool receive;        /* records in flight count as received at once */
    atomic_bool hold_ingest;    /* the pageserver stays where it is */
    atomic_bool hold_resolve;   /* the fate of a lost term is told by mem_resolve() only */
    atomic_bool hold_lease;     /* a leader does not let go for others */
    atomic_bool lease_lapsed;   /* lead() displaces a leader, who does not hear of it */
    atomic_int fail_get;        /* pages->get answers this code */
    atomic_int fail_open;       /* pages->open answers this code */
    atomic_uint no_quorum_ms;   /* what no_quorum_ms() answers */
    atomic_bool all_changed;    /* changes answers `all` */
    atomic_ullong hold_changes; /* answers of changes for this LSN and beyond wait; 0: none */
    atomic_uint lead_delay_us;  /* an election takes so long */
    atomic_bool wait_at_lead;   /* somebody waits for a lease before lead() has returned it */
    atomic_bool follow;         /* records come with a position */
    atomic_bool follow_damaged; /* and the last one is not what it was */
    atomic_bool no_chains;      /* a pageserver of before: it sends no pages of a chain along */
    atomic_bool lag_events;     /* durable is not told, though it is */
};
extern struct mem_switches mem;

struct mem_counts {
    atomic_uint opens, creates, gets, pages, lags /* waits for ingest, or more */, changes,
        positions, leads, appends, spilled, releases, writings, abandons, resolves, logs, logged;
};
extern struct mem_counts mem_count;

extern const struct cv_backend mem_backend;

/* Forgets every database, all switches and counts. No connection may be open. */
void mem_reset(void);

/* The leader of `db` is deposed by a newer term that keeps the first `keep` records in flight. */
void mem_lose_term(const char *db, unsigned keep);
/* A minority saw a higher term: the leader of `db` is deposed, keeps nothing that is in flight, and
 * has the lease until it releases it. */
void mem_contest(const char *db);
/* Tells the fate that hold_resolve held back. */
void mem_resolve(const char *db);
/* A branch of `db` as it was at `lsn` (0: its start). */
void mem_branch(const char *db, const char *name, lsn_t lsn);
/* As a restore does (S14): `db` is what it was at `lsn`, a timeline of its own; what it was is
 * sealed as `keep_as`. Nothing may be in flight. */
void mem_restore(const char *db, lsn_t lsn, const char *keep_as);
/* The name is gone, its log refuses everything, its pages stay. */
void mem_drop(const char *db);
/* As when the cluster is made anew of a copy or an archive: nothing above `lsn` exists any more, in
 * the same timeline. Nobody may have it open. */
void mem_rewind(const char *db, lsn_t lsn);
void mem_pin(const char *db, const char *pin, lsn_t lsn);
/* End of the newest committed transaction. */
lsn_t mem_head(const char *db);
/* A record of configuration is appended by nobody in particular; moves the position, not a reader.
 */
void mem_append_config(const char *db);
/* Newest committed position, number of committed transactions, of records in flight. */
lsn_t mem_position(const char *db);
unsigned mem_transactions(const char *db);
unsigned mem_in_flight(const char *db);
/* Copies page 1 as it is stored now. */
bool mem_page(const char *db, pgno_t pgno, uint8_t *out, uint32_t size);
bool mem_exists(const char *db);
/* Bytes of the newest committed record. */
uint64_t mem_last_record_bytes(const char *db);

#endif
