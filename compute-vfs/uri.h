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
#include "proto/limits.h"

#define CV_SERVER_MAX     (CO_HOST_MAX_BYTES + 8) /* "HOST:PORT" */
#define CV_PATH_MAX       (CV_SERVER_MAX + 2 * (CO_NAME_MAX_BYTES + 1) + 4)
#define CV_CACHE_MB_MAX   (1u << 20)

#define CV_SERVER_DEFAULT "127.0.0.1:6400" /* where `corallite up` puts the pageserver */

enum cv_durability {
    CV_AS_SYNCHRONOUS, /* as PRAGMA synchronous says */
    CV_FULL,           /* COMMIT waits for a majority of disks */
    CV_NORMAL,         /* for a majority of memories */
    CV_OFF,            /* for nothing */
};

struct cv_uri {
    char server[CV_SERVER_MAX];
    char db[CO_NAME_MAX_BYTES + 1], branch[CO_NAME_MAX_BYTES + 1];
    uint32_t commit_timeout_ms, staleness_ms, cache_mb,
        page_size; /* page_size 0: SQLite's choice */
    enum cv_durability durability;
    bool create, immutable;
};

/* Everything at its default. */
void cv_uri_init(struct cv_uri *uri);
/* "DB" or "DB/BRANCH". CO_ERR_NAME with a proposal. */
CO_MUST_CHECK int cv_uri_name(struct cv_uri *uri, const char *name);
/* A parameter of the URI. CO_ERR_INVAL: unknown, or a value that cannot be. */
CO_MUST_CHECK int cv_uri_param(struct cv_uri *uri, const char *key, const char *value);

/* "/SERVER/DB/BRANCH": the identity of a database in this process, and what sqlite3_db_filename()
 * tells. */
void cv_uri_path(const struct cv_uri *uri, char out[CV_PATH_MAX]);
/* Reads it back. CO_ERR_NAME. */
CO_MUST_CHECK int cv_uri_from_path(struct cv_uri *uri, const char *path);

/* "250" (ms), "3s", "5m", "2h", "7d". */
CO_MUST_CHECK int cv_parse_ms(const char *what, const char *text, uint32_t *out);

#endif
