/*
 * store_lmdb.h - the pageserver's store: every version of every page, every commit, in one LMDB
 * environment.
 *
 * Tables (keys: keys.h)
 * - meta, "store": magic "CORALPS1", u32 format version, u32 0, cluster id, disk id
 * - meta, "next": u32, the number that the next timeline gets
 * - meta, "taken": u64, wall clock in us when this pageserver took the catalog over (registry.h,
 *   R8); absent or 0: never
 * - meta, "rebuild", timeline no. u32 (big-endian): u8 how (enum ps_rebuild): what came from the
 *   log is being taken away, or what a snapshot has is being written
 * - timeline, timeline id: u8 format 1, u8 purged, u16 0, u32 number, packed Timeline
 * - progress, line key: u64 last-record LSN, 16 digest there
 * - page, page key: chunk of an encoded page, or (chunk 255) a pack (page_codec.h)
 * - commit, commit key: chunk of {u64 time us, u32 pages in the database, u32 page size, 16 digest,
 *   page list (proto/changes.h)}
 * - time, time key: nothing
 * - pin, database id, name: u8 format 1, u8[7] 0, timeline id, u64 LSN, u64 time us, u64 created
 *   us. Of this store alone: nothing else holds pins
 * - usage, line key: u64 versions, images among them, bytes of table page, commits, bytes of tables
 *   commit and time; bytes are those of keys, values and LMDB's 8 an entry
 * - gc, line key: u64 LSN from which on the timeline is read (gc_lmdb.h)
 *
 * Invariants
 *   P1 one write transaction holds whole records: pages, commit and time row, and the progress that
 *      covers them. What lies above the progress is invisible (a large record's first part) and is
 *      written again, to the same keys, when the record is ingested again.
 *   P2 a page comes back with the CRC it was written with, or not at all.
 *   P3 no value needs more than one overflow page.
 *   P4 numbers of timelines are never used again.
 *   P5 the first record of a store says its format; a newer one is refused.
 *
 * Threads: one write transaction at a time, begun and ended by one thread (the writer's). Read
 * transactions belong to the thread that uses them and are renewed for each request: a reader that
 * stays open keeps LMDB from reusing pages.
 *
 * Durability: a commit syncs the data but not LMDB's meta page (MDB_NOMETASYNC). A power loss can
 * take back the newest transaction, whole; the next one's sync makes it sure. The log still has it.
 *
 * Errors carry sentences. CO_ERR_CORRUPT: the file or a page is damaged; CO_ERR_FULL: map or disk.
 */
#ifndef CORALLITE_PAGESERVER_STORE_LMDB_H
#define CORALLITE_PAGESERVER_STORE_LMDB_H

#include <stdbool.h>
#include <stdint.h>

#include "pageserver/keys.h"
#include "pageserver/page_codec.h"
#include "pageserver/timeline_meta.h"

/* 2: packs, and table usage. A store of format 1 becomes one of format 2 when it is opened. */
#define PS_STORE_FORMAT    2u
#define PS_MAP_BYTES       (1024 * CO_GIB)
#define PS_MAP_LEAST_BYTES CO_GIB

struct ps_store;

struct ps_store_options {
    const char *dir;          /* made when absent (its parent exists) */
    uint64_t map_bytes;       /* Address space, not disk; never changed live. 0: PS_MAP_BYTES, or,
                               * where that is not to be had, half as much until it is */
    struct co_id cluster;     /* checked against the store's */
    struct co_id disk;        /* identity of the data directory, checked too */
    uint32_t chunk_max_bytes; /* 0: PS_CHUNK_MAX; others for the benchmark */
    bool no_sync;             /* for the benchmark and tests that need no disk */
};

CO_MUST_CHECK int ps_store_open(const struct ps_store_options *options, struct ps_store **out);
void ps_store_close(struct ps_store *store);

struct ps_store_stats {
    uint64_t used_bytes, map_bytes; /* of the map */
    uint32_t readers;
};
void ps_store_stats(struct ps_store *store, struct ps_store_stats *out);
/* A write of the disk failed in a place after which LMDB answers every call with an error: the
 * process has to end and begin anew. Nothing that was committed is lost. Any thread. */
bool ps_store_given_up(const struct ps_store *store);
/* Makes what was committed durable, the newest transaction too. The writer's thread. CO_ERR_IO. */
CO_MUST_CHECK int ps_store_sync(struct ps_store *store);
/* Frees what readers of processes that died hold: until then LMDB uses no page again that was freed
 * after they began. Now and then; any thread. */
void ps_store_clear_readers(struct ps_store *store);

/* -- Transactions ------------------------------------------------------------------------------ */

struct ps_txn;

/* A read transaction that has not begun; renew begins it at the newest state, reset ends it. */
CO_MUST_CHECK int ps_read_new(struct ps_store *store, struct ps_txn **out);
CO_MUST_CHECK int ps_read_renew(struct ps_txn *txn);
void ps_read_reset(struct ps_txn *txn);
void ps_read_free(struct ps_txn *txn);

/* A write transaction, reusable likewise: begin, then commit or abort. */
CO_MUST_CHECK int ps_write_new(struct ps_store *store, struct ps_txn **out);
CO_MUST_CHECK int ps_write_begin(struct ps_txn *txn);
CO_MUST_CHECK int ps_write_commit(struct ps_txn *txn);
void ps_write_abort(struct ps_txn *txn);
void ps_write_free(struct ps_txn *txn); /* aborts what is open */
/* Upper estimate of the bytes that the open write transaction has dirtied. */
uint64_t ps_write_cost(const struct ps_txn *txn);
struct ps_codec *ps_txn_codec(struct ps_txn *txn);

/* -- Pages ------------------------------------------------------------------------------------- */

/* A timeline as lookups see it. Immutable once made, alive as long as the store. */
struct ps_line {
    tlno_t no;
    struct co_id id;
    const struct ps_line *ancestor; /* NULL: a root */
    lsn_t ancestor_lsn;
};

/* Writes a version, newer than those there are: into the pack of the page's newest image, or as an
 * image, `zstd` as in ps_encode. */
CO_MUST_CHECK int ps_page_put(struct ps_txn *txn, tlno_t no, pgno_t pgno, lsn_t lsn,
                              const uint8_t *page, uint32_t page_size, uint32_t crc,
                              struct co_span zstd);

/* The newest version at or below `lsn`, the ancestors' included. CO_ERR_NOT_FOUND: there is none.
 * CO_ERR_CORRUPT: it is damaged; the sentence names timeline, page and LSN. */
CO_MUST_CHECK int ps_page_get(struct ps_txn *txn, const struct ps_line *line, pgno_t pgno,
                              lsn_t lsn, uint32_t page_size, uint8_t *out, lsn_t *version,
                              uint32_t *crc);

/* Takes a version away that nobody can have seen. 0 also when there is none. */
CO_MUST_CHECK int ps_page_delete(struct ps_txn *txn, tlno_t no, pgno_t pgno, lsn_t lsn);

/* -- Commits ----------------------------------------------------------------------------------- */

struct ps_commit {
    lsn_t lsn; /* end of the record */
    uint64_t time_us;
    uint32_t db_pages, page_size;
    struct wal_digest digest;
};

/* Writes the commit row with its page list, and the time row. */
CO_MUST_CHECK int ps_commit_put(struct ps_txn *txn, tlno_t no, const struct ps_commit *commit,
                                const pgno_t *pgnos, uint32_t n);
/* The newest commit at or below `lsn`, the ancestors' included. CO_ERR_NOT_FOUND: none. */
CO_MUST_CHECK int ps_commit_at(struct ps_txn *txn, const struct ps_line *line, lsn_t lsn,
                               struct ps_commit *out);
/* Newest commit at or before a time (equal times: the newest LSN). CO_ERR_NOT_FOUND: none. */
CO_MUST_CHECK int ps_commit_at_time(struct ps_txn *txn, const struct ps_line *line,
                                    uint64_t time_us, lsn_t *out);
/* As ps_commit_at; also whose commit it is, and how many pages it changed. */
CO_MUST_CHECK int ps_commit_whose(struct ps_txn *txn, const struct ps_line *line, lsn_t lsn,
                                  struct ps_commit *out, const struct ps_line **owner,
                                  uint32_t *n_pages);
/* The first commit of this one timeline at or above lsn. CO_ERR_NOT_FOUND: none. */
CO_MUST_CHECK int ps_commit_from(struct ps_txn *txn, tlno_t no, lsn_t lsn, lsn_t *out);
/* Appends the change list (proto/changes.h) of the commits in (since, upto]. *all and an empty list
 * when it would be longer than limit_bytes. */
CO_MUST_CHECK int ps_commit_changes(struct ps_txn *txn, const struct ps_line *line, lsn_t since,
                                    lsn_t upto, size_t limit_bytes, struct co_buf *list, bool *all);

/* -- What a timeline takes --------------------------------------------------------------------- */

struct ps_usage {
    uint64_t versions, images; /* of pages; images: those that lie there whole */
    uint64_t page_bytes;       /* of versions */
    uint64_t commits, commit_bytes;
};
/* All zero when it has nothing. */
CO_MUST_CHECK int ps_usage_get(struct ps_txn *txn, tlno_t no, struct ps_usage *out);
/* The same by looking at every entry; for tests and `check`. */
CO_MUST_CHECK int ps_usage_count(struct ps_txn *txn, tlno_t no, struct ps_usage *out);
/* Writes what that finds; nothing else of the timeline changed in this transaction. */
CO_MUST_CHECK int ps_usage_recount(struct ps_txn *txn, tlno_t no);

struct ps_progress {
    lsn_t last_lsn; /* last-record LSN; every record below is in the store */
    struct wal_digest digest;
};
CO_MUST_CHECK int ps_progress_put(struct ps_txn *txn, tlno_t no, const struct ps_progress *p);
/* CO_ERR_NOT_FOUND: nothing was ingested yet. */
CO_MUST_CHECK int ps_progress_get(struct ps_txn *txn, tlno_t no, struct ps_progress *out);

/* -- Timelines --------------------------------------------------------------------------------- */

/* Writes a timeline's row and keeps "next" above `no`. The row of an ACTIVE timeline is the
 * catalog's row of its name: the names are indexed in memory (registry.h). */
CO_MUST_CHECK int ps_timeline_put(struct ps_txn *txn, tlno_t no, bool purged,
                                  const struct ps_meta *meta);
/* Calls fn for every timeline; an error of fn ends it and is returned. */
typedef int (*ps_timeline_fn)(void *arg, tlno_t no, bool purged, const struct ps_meta *meta);
CO_MUST_CHECK int ps_timeline_each(struct ps_txn *txn, ps_timeline_fn fn, void *arg);
CO_MUST_CHECK int ps_timeline_next_no(struct ps_txn *txn, tlno_t *out);
/* When this pageserver took the catalog over (registry.h, R8); 0: it never did. */
CO_MUST_CHECK int ps_taken_put(struct ps_txn *txn, uint64_t us);
CO_MUST_CHECK int ps_taken_get(struct ps_txn *txn, uint64_t *us);
/* Where the versions of its last life began (R12); 0: there was none. */
CO_MUST_CHECK int ps_life_put(struct ps_txn *txn, uint64_t us);
CO_MUST_CHECK int ps_life_get(struct ps_txn *txn, uint64_t *us);

/* -- Pins -------------------------------------------------------------------------------------- */

struct ps_pin_row {
    struct co_id database;
    char name[CO_NAME_MAX_BYTES + 1];
    struct co_id timeline;
    lsn_t lsn; /* 0: the database was empty then */
    uint64_t time_us, created_us;
};
CO_MUST_CHECK int ps_pin_put(struct ps_txn *txn, const struct ps_pin_row *pin);
/* CO_ERR_NOT_FOUND without a sentence: there is none of this name. */
CO_MUST_CHECK int ps_pin_get(struct ps_txn *txn, const struct co_id *database, const char *name,
                             struct ps_pin_row *out);
/* 0 also when there is none. */
CO_MUST_CHECK int ps_pin_delete(struct ps_txn *txn, const struct co_id *database, const char *name);
typedef int (*ps_pin_fn)(void *arg, const struct ps_pin_row *pin);
CO_MUST_CHECK int ps_pin_each(struct ps_txn *txn, ps_pin_fn fn, void *arg);

/* Deletes at most `max` rows of what timeline `no` holds; *done when nothing is left. */
CO_MUST_CHECK int ps_purge_step(struct ps_txn *txn, tlno_t no, uint32_t max, bool *done);

/* The same of what came from the log, to be fetched from it again: cutoff, row and pins stay. What
 * is under way is marked (table meta) until it is done, so that it goes on after a crash; where a
 * snapshot is to be written afterwards the mark stays until ps_rebuild_end. */
enum ps_rebuild {
    PS_REBUILD_LOG = 0, /* from the log */
    PS_REBUILD_SNAPSHOT =
        1, /* a snapshot of the archive (snapshot_lmdb.h), and the log behind it */
    PS_REBUILD_NONE = 255,
};
CO_MUST_CHECK int ps_rebuild_mark(struct ps_txn *txn, tlno_t no, enum ps_rebuild how);
CO_MUST_CHECK int ps_rebuild_step(struct ps_txn *txn, tlno_t no, enum ps_rebuild how, uint32_t max,
                                  bool *done);
CO_MUST_CHECK int ps_rebuild_end(struct ps_txn *txn, tlno_t no);
CO_MUST_CHECK int ps_rebuild_pending(struct ps_txn *txn, tlno_t no, enum ps_rebuild *out);

#endif
