/*
 * vfs.h - one connection to a database: what stands between SQLite's calls and the database object.
 *
 * SQLite uses a connection from one thread at a time, so nothing here is locked; what other
 * connections touch lies in the database object.
 *
 * States, told by the wal-index locks that SQLite takes on the private wal-index:
 *
 *   idle --read slot--> reading --slot 0--> writing --commit frame--> built --unlock 0--> waiting
 *    ^                     |  ^                |                                            |
 *    +---- read slot ------+  +--- unlock 0 ---+ (rollback)           COMMIT_PHASETWO ------+
 *
 * Invariants
 *   V1 while slot 0 is held the snapshot does not change, whatever SQLite does with read slots
 * (M1). V2 xRead serves handle.pin; slot 0 is granted at handle.snapshot_lsn == tip only (M2). V3
 * nothing leaves the process before SQLite has committed in its wal-index (M3), but with other
 *      files in the transaction (M4).
 *   V4 the header of the wal-index stands for `header`; it is rewritten whenever a read transaction
 *      is to see something else, and then only (S2).
 *   V5 a connection that stands at a moment, or whose branch is sealed, is read-only from its open
 * to its close.
 */
#ifndef CORALLITE_COMPUTE_VFS_VFS_H
#define CORALLITE_COMPUTE_VFS_VFS_H

#include "compute-vfs/commit.h"
#include "compute-vfs/database.h"
#include "compute-vfs/shm.h"
#include "compute-vfs/sqlite.h"
#include "compute-vfs/uri.h"
#include "compute-vfs/walbuf.h"

#define CV_VFS_NAME "corallite"

struct cv_conn {
    sqlite3_filename
        name; /* SQLite's own, as it was given to xOpen: the same at every layer above */
    struct cv_conn *next; /* of the open ones */
    struct cv_database *db;
    struct cv_handle handle;
    struct cv_ahead ahead; /* of reads */
    unsigned generation;   /* of the process that opened it (S15) */
    struct cv_uri uri;
    bool readonly;
    int file_lock;   /* SQLite's lock on the main file: told to PRAGMA lock_status, else nothing */
    sqlite3 **owner; /* SQLITE_FCNTL_PDB; NULL until told */

    struct cv_shm shm;
    struct cv_walbuf wal;
    uint32_t wal_page_size;
    struct cv_commit commit;
    struct cv_bulk *bulk; /* an import under way; else NULL */

    uint8_t slots;             /* read slots held, a bit each */
    struct cv_snapshot header; /* what the wal-index header stands for */
    uint8_t schema_mark;       /* on the schema cookie as SQLite sees it here (lock.c) */
    bool header_valid;
    bool header_own;  /* by a commit of this connection */
    bool decided;     /* just rewritten: the next lock takes it without asking (S1) */
    bool reading;     /* a read slot is held: `slots` is not 0 */
    bool speculative; /* the pin may still be lost and nothing has been waited for (M7) */
    bool refused;     /* slot 0 was refused under this pin */
    bool expected;    /* the turn was reserved before the pin, and not asked for yet */
    bool slot0, slot0_local, checkpointing;
    bool size_lie;    /* the next xFileSize answers 1 (M11) */
    bool persist_wal; /* SQLITE_FCNTL_PERSIST_WAL as it was set */
    bool fixed;       /* immutable=1: pinned for good */
    bool at;          /* stands at `moment`, not at the head */
    struct cv_moment moment;
    uint64_t want_tip_until_us;

    bool wrote;                 /* `wait` is an own commit */
    bool synced;                /* xSync on the WAL since the commit frame: synchronous=FULL */
    int level;                  /* PRAGMA synchronous as it was seen: 0 OFF, 1 NORMAL, 2 FULL */
    uint32_t granted_frame;     /* mxFrame of the wal-index when slot 0 was granted */
    uint32_t shipped_frame;     /* shipped at the commit frame already (M4); 0: none */
    bool has_wait;              /* there is something to wait for in COMMIT_PHASETWO */
    struct cv_ticket wait;      /* own commit, else the pinned LSN */
    int lost_code;              /* the publication failed: for COMMIT_PHASETWO */
    struct cv_ticket unsettled; /* newest own commit that is not known to be durable, lost or told
                                   of; end_lsn 0: none */
    char last_id[LSN_COMMIT_ID_TEXT];
};

/* What SQLite holds; `conn` is shared by the main database and its WAL. */
struct cv_file {
    sqlite3_file base;
    struct cv_conn *conn;
};

extern const sqlite3_io_methods cv_main_methods, cv_wal_methods;

/* The page that holds this byte is never used by SQLite: 1 GiB, but in its own tests, which move it
 * down to meet it at all. */
extern uint64_t cv_lock_byte_at;

/* vfs.c */
CO_MUST_CHECK int cv_vfs_register(void);
/* After cv_vfs_register(): ours, and the one that was the default before anything of ours. */
sqlite3_vfs *cv_vfs_ours(void);
sqlite3_vfs *cv_vfs_platform(void);

/* default.c: the VFS "corallite-default", for programs that hand over plain paths. */
#define CV_VFS_DEFAULT "corallite-default"
/* As $CORALLITE_DEFAULT says (where that says nothing: only if `always`, and with no patterns).
 * Once it was the default, only makes it so again where sqlite3_shutdown() has undone that.
 * CO_ERR_* with a sentence. */
CO_MUST_CHECK int cv_default_from_environment(bool always);
/* Makes it the process's default, with these patterns; "": only whole URIs are ours. CO_ERR_* with
 * a sentence. */
CO_MUST_CHECK int cv_default_set(const char *patterns);
/* The patterns, in memory for sqlite3_free(); NULL: it is not the default, or no memory. */
char *cv_default_patterns(void);

/* conn.c: opening, closing, forks. SQLite codes; a failure has been told. */
int cv_conn_open(sqlite3_filename name, int flags, struct cv_conn **out);
void cv_conn_close(struct cv_conn *conn);
/* Reads name, environment and URI parameters. CO_ERR_* with a sentence. */
CO_MUST_CHECK int cv_conn_uri(sqlite3_filename name, struct cv_uri *out);
/* Environment and URI parameters only; `own`: a parameter that is not known is the program's own.
 */
CO_MUST_CHECK int cv_conn_parameters(sqlite3_filename name, bool own, struct cv_uri *out);
/* Set by whoever makes this VFS serve names that are not written by our rules (a default VFS): it
 * puts name and parameters into `out`, which has the defaults and the environment. NULL: ours. */
extern int (*cv_conn_namer)(sqlite3_filename name, struct cv_uri *out);
/* The open connection whose database, or whose WAL, SQLite calls by this very pointer. A shim VFS
 * above us hides our files, but never the names. NULL: none of ours. */
struct cv_conn *cv_conn_of_name(const char *name);
struct cv_conn *cv_conn_of_wal(const char *wal);
/* SQLITE_OK; SQLITE_IOERR in a child for a transaction that was open at the fork (S15). */
int cv_conn_usable(struct cv_conn *conn);
/* True in a child of the process that opened it. */
bool cv_conn_forked(const struct cv_conn *conn);
/* True while the schema of this file has a transaction open. */
bool cv_conn_in_transaction(struct cv_conn *conn);
/* True when the connection runs a statement that may write, and has no other file than this one: a
 * read lock that it takes without a transaction is followed by slot 0. A guess: most are right. */
bool cv_conn_is_writing(struct cv_conn *conn);
/* Number of schemas of the connection in a write transaction, temp not counted (M4). */
int cv_conn_writing_schemas(struct cv_conn *conn);

/* The Corallite database that the connection knows by this name; without a name that of main, else
 * the first one. NULL: there is none. */
struct cv_conn *cv_conn_of_schema(sqlite3 *db, const char *schema);

/* bulk.c: whole pages, past SQLite (proto/bulk.h). An SQLite code; a failure has been told. */
struct bulk_request;
int cv_bulk(struct cv_conn *c, struct bulk_request *request);
/* Ends an import as it is; what is on its way is not waited for. */
void cv_bulk_free(struct cv_conn *c);

/* moment.c: at= and PRAGMA corallite_at. */
/* Turns uri->at into an LSN, unless the name has brought one. CO_ERR_* with a sentence. */
CO_MUST_CHECK int cv_moment_of_uri(struct cv_uri *uri);
/* Goes to the moment that `text` names. CO_ERR_* with a sentence; then it stands where it stood. */
CO_MUST_CHECK int cv_moment_enter(struct cv_conn *conn, const char *text);
/* CO_ERR_NOT_FOUND when the moment is none of the connection's timeline. */
CO_MUST_CHECK int cv_moment_check(struct cv_conn *conn, const struct cv_moment *moment);
/* PRAGMA corallite_at [= text]: its answer (to be freed with sqlite3_free), or a sentence. */
CO_MUST_CHECK int cv_moment_pragma(struct cv_conn *conn, const char *text, char **out);

/* lock.c: xShmLock. */
int cv_lock(struct cv_conn *conn, int offset, int n, int flags);
/* xSleep: true when it slept for us. */
bool cv_lock_sleep(int us);
/* M7: waits until the pin cannot be lost. SQLITE_OK or SQLITE_IOERR. */
int cv_lock_settle(struct cv_conn *conn);

/* ending.c: the commit frame, the unlock of slot 0, and COMMIT_PHASETWO. */
int cv_ending_commit_frame(struct cv_conn *conn, uint32_t frame, uint32_t db_pages);
void cv_ending_unlock(struct cv_conn *conn);
int cv_ending_wait(struct cv_conn *conn);
/* "committed", "not committed", "unknown". */
int cv_ending_status(struct cv_conn *conn, const char *id, const char **out);

/* pragmas.c */
int cv_pragma(struct cv_conn *conn, char **arg);
/* The LSN that the connection sees. */
lsn_t cv_pragma_lsn(struct cv_conn *conn);
/* stats.c: "name=value" a line, since the last reset. NULL without memory. */
char *cv_stats_text(struct cv_conn *conn);
void cv_stats_reset(struct cv_conn *conn);
/* tables.c: the table-valued functions. */
int cv_tables_add(sqlite3 *db);
#endif
