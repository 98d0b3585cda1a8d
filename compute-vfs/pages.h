/*
 * pages.h - the seam between the database object and the pageserver.
 *
 * Two implementations: pageserver_sock.c (pooled connections; the calling thread sends and waits by
 * itself) and tests/unit/compute-vfs/mem_backend.c. Any thread may call; every call has a deadline;
 * a connection that breaks is opened anew within it, so that a pageserver that restarts is only
 * latency. All return 0 or CO_ERR_* with a sentence that names the server's address.
 */
#ifndef CORALLITE_COMPUTE_VFS_PAGES_H
#define CORALLITE_COMPUTE_VFS_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "proto/name.h"
#include "proto/wal.h"

struct cv_safekeeper {
    uint32_t node;
    char host[CO_HOST_MAX_BYTES + 1];
    uint16_t port;
    struct co_id disk; /* that its number stands for, as the list says; zero: not known */
};

/* What is at or below the LSN, and above the next one's, is in this timeline's log. */
struct cv_ancestor {
    struct co_id timeline;
    lsn_t lsn;
};

/* A timeline as the pageserver tells it at open. */
struct cv_timeline {
    struct co_id cluster, timeline, database;
    lsn_t start_lsn;
    struct wal_digest base_digest;
    struct wal_config config;
    struct cv_safekeeper safekeepers[CO_MEMBERS_MAX];
    uint32_t n_safekeepers;
    struct cv_ancestor ancestors[CO_BRANCH_DEPTH_MAX]; /* nearest first; they never change */
    uint32_t n_ancestors;
    term_t born_term; /* for term_is_of() */
    bool sealed;      /* a restore put another in its place: it is never written again */
};

/* What a moment, as people write it (proto/when.h), stands for. */
struct cv_moment {
    struct co_id timeline;
    lsn_t lsn; /* end of the newest transaction at or before it; 0: the database was empty */
    uint64_t time_us;
    uint32_t db_pages, page_size;
    lsn_t head_lsn; /* newest that the pageserver knows; >= lsn */
};

/* A transaction of the history. */
struct cv_logged {
    lsn_t lsn;
    uint64_t time_us;
    uint32_t db_pages, pages_changed;
    char branch[CO_NAME_MAX_BYTES + 1]; /* it was committed to: the one asked for or an ancestor */
};
#define CV_LOG_MAX 1000u /* of one answer */

struct cv_branch {
    char name[CO_NAME_MAX_BYTES + 1], parent[CO_NAME_MAX_BYTES + 1]; /* "": a root, or dropped */
    struct co_id timeline;
    bool root, sealed, guarded;
    lsn_t start_lsn, head_lsn;
    uint64_t start_us, head_us, created_us, expires_us; /* 0: not known, never */
    uint32_t db_pages, page_size;
};

struct cv_page {
    pgno_t pgno;   /* in: wanted; 0: the next of the chain behind the one before. Out: its number */
    int status;    /* CO_OK; CO_ERR_NOT_FOUND: beyond the end at that LSN; CO_ERR_CORRUPT */
    lsn_t lsn;     /* of the version */
    uint32_t crc;  /* checked against the bytes by this layer */
    uint8_t *data; /* in: room for page_size bytes; filled when status is CO_OK */
};

/* What changed in (since, upto]. */
struct cv_changes {
    lsn_t upto;    /* answered for: >= the one asked for is never needed, == it */
    lsn_t txn_lsn; /* newest TXN at or below upto; 0: the database is empty */
    uint32_t db_pages;
    uint32_t page_size;
    uint64_t time_us;
    bool all; /* too much to list: every page may have changed */
    struct co_buf
        list; /* change list (proto/changes.h), first LSN relative to `since`; caller frees */
};

struct cv_pages_stats {
    uint64_t round_trips, pages, bytes_in, bytes_out;
};

struct cv_pages;

struct cv_pages_ops {
    void (*close)(struct cv_pages *p);
    /* CO_ERR_NOT_FOUND: there is no such database or branch. */
    int (*open)(struct cv_pages *p, const char *db, const char *branch, uint32_t timeout_ms,
                struct cv_timeline *out);
    /* Creates the database with branch main (or opens it if somebody was faster). */
    int (*create)(struct cv_pages *p, const char *db, uint32_t timeout_ms, struct cv_timeline *out);
    /* Pages at `lsn`; `not_modified_since`: having ingested this far is enough. n <= 256. 0 when
     * every page has a status. Those of a chain come last and behind one with a number; they are as
     * the pageserver has them, which may have got no further than not_modified_since, and where it
     * sends none the status is CO_ERR_NOT_FOUND and the number 0. */
    int (*get)(struct cv_pages *p, const struct co_id *timeline, lsn_t lsn,
               lsn_t not_modified_since, uint32_t page_size, struct cv_page *pages, uint32_t n,
               uint32_t timeout_ms);
    /* since 0: only the state at upto. Waits until upto is ingested. */
    int (*changes)(struct cv_pages *p, const struct co_id *timeline, lsn_t since, lsn_t upto,
                   uint32_t timeout_ms, struct cv_changes *out);
    /* CO_ERR_INVAL: no moment, or one that cannot be; CO_ERR_NOT_FOUND. */
    int (*resolve)(struct cv_pages *p, const char *db, const char *branch, const char *at,
                   uint32_t timeout_ms, struct cv_moment *out);
    /* The transactions at or before `at` (""; the head) and below before_lsn (0: no bound), newest
     * first: at most `limit` <= CV_LOG_MAX of them. *more: there are older ones. */
    int (*log)(struct cv_pages *p, const char *db, const char *branch, const char *at,
               lsn_t before_lsn, uint32_t limit, uint32_t timeout_ms, struct cv_logged *out,
               uint32_t *n, bool *more);
    /* Caller frees *out. */
    int (*branches)(struct cv_pages *p, const char *db, uint32_t timeout_ms, struct cv_branch **out,
                    uint32_t *n);
    void (*stats)(struct cv_pages *p, struct cv_pages_stats *out);
};

struct cv_pages {
    const struct cv_pages_ops *ops;
};

#endif
