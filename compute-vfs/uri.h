/*
 * uri.h - what a database is called and how it is to be opened: file:DB[/BRANCH]?vfs=corallite&...
 *
 * Pure: the VFS feeds it the name, the environment and the URI's parameters one by one.
 */
#ifndef CORALLITE_COMPUTE_VFS_URI_H
#define CORALLITE_COMPUTE_VFS_URI_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "compute-vfs/choice.h"
#include "proto/limits.h"
#include "proto/lsn.h"
#include "proto/when.h"

#define CV_SERVER_MAX     (2u * (CO_HOST_MAX_BYTES + 8)) /* "HOST:PORT", or several with commas */
#define CV_PATH_MAX       (CV_SERVER_MAX + 2 * (CO_NAME_MAX_BYTES + 1) + LSN_TEXT + 16)
#define CV_CACHE_MB_MAX   (1u << 20)
#define CV_LAG_MB_MAX     1048576u
#define CV_LAG_MB_DEFAULT 256u
#define CV_CACHE_DIR_MAX  256u /* bytes, with the end */
#define CV_CACHE_DIR_MB   1024u

#define CV_SERVER_DEFAULT "127.0.0.1:6400" /* where `corallite up` puts the pageserver */

enum cv_durability {
    CV_AS_SYNCHRONOUS, /* as PRAGMA synchronous says */
    CV_FULL,           /* COMMIT waits for a majority of disks */
    CV_NORMAL,         /* for a majority of memories */
    CV_OFF,            /* for nothing */
};

struct cv_uri {
    /* The server whose databases need not name it: the same for all URIs of a process, since it
     * decides how an identity is spelled. */
    const char *usual_server;
    char server[CV_SERVER_MAX];
    char db[CO_NAME_MAX_BYTES + 1], branch[CO_NAME_MAX_BYTES + 1];
    uint32_t commit_timeout_ms, staleness_ms, cache_mb;
    uint32_t lag_mb;                  /* hard limit of pace.h; 0: none */
    uint32_t page_size;               /* 0: SQLite's choice */
    char cache_dir[CV_CACHE_DIR_MAX]; /* "": no pages are kept on disk */
    uint32_t cache_dir_mb;
    enum cv_durability durability;
    bool create, immutable;
    bool shared; /* cache=shared */
    bool server_said, create_said,
        no_create_mode;   /* as the URI's parameters say, for cv_uri_check */
    char at[WHEN_AT_MAX]; /* as written; "": the live database */
    bool has_moment;      /* `moment` is what `at` stands for */
    lsn_t moment;
};

/* Everything at its default. */
void cv_uri_init(struct cv_uri *uri);
/* "DB" or "DB/BRANCH". CO_ERR_NAME with a proposal. */
CO_MUST_CHECK int cv_uri_name(struct cv_uri *uri, const char *name);
/* A parameter of the URI. CO_ERR_INVAL: unknown, or a value that cannot be. One that begins with _
 * is between a driver and its user (Go's has many), and is passed by. */
CO_MUST_CHECK int cv_uri_param(struct cv_uri *uri, const char *key, const char *value);

/* Is it a parameter of ours? Where a program hands plain names over, the others are its own. */
bool cv_uri_knows(const char *key);

/* A whole URI that a driver handed over as if it were a plain name, whatever the driver has put
 * before it: its "file:DB[/BRANCH]?...vfs=corallite...", or NULL when `name` is no such thing. */
const char *cv_uri_within(const char *name);
/* Reads that. A plain name has no place for more than server= and at=. CO_ERR_NAME, CO_ERR_INVAL.
 */
CO_MUST_CHECK int cv_uri_text(struct cv_uri *uri, const char *text);
/* What each of them may say, all may not say together. CO_ERR_INVAL. */
CO_MUST_CHECK int cv_uri_check(const struct cv_uri *uri);
/* Of two parameters of one name SQLite would take the first and say nothing; is it one of ours? */
bool cv_uri_is_ours(const char *key);

/* The identity of a branch in this process: "corallite:DB/BRANCH" at the usual server, else
 * "corallite://SERVER/DB/BRANCH". */
void cv_uri_path(const struct cv_uri *uri, char out[CV_PATH_MAX]);
/* The same, and "@LSN" behind it for a moment: what sqlite3_db_filename() tells, and all that
 * SQLite's shared cache compares (S17). */
void cv_uri_filename(const struct cv_uri *uri, char out[CV_PATH_MAX]);
/* Is it written so? No name of a database is. */
bool cv_uri_is_path(const char *name);
/* Reads either back. CO_ERR_NAME. */
CO_MUST_CHECK int cv_uri_from_path(struct cv_uri *uri, const char *path);

/* "250" (ms), "3s", "5m", "2h", "7d". */
CO_MUST_CHECK int cv_parse_ms(const char *what, const char *text, uint32_t *out);

#endif
