/*
 * plain_path.h - ordinary paths of database files as names of Corallite databases.
 *
 * A program that only knows plain paths can keep its databases in Corallite: a list of patterns
 * says which paths are meant, and each path stands for one database, by a rule that anybody can
 * work out again (docs/default-vfs.md). Pure.
 */
#ifndef CORALLITE_PROTO_PLAIN_PATH_H
#define CORALLITE_PROTO_PLAIN_PATH_H

#include <stdbool.h>

#include "common/error.h"
#include "proto/limits.h"

#define PLAIN_PATTERNS_MAX_BYTES 4096u

/* "GLOB[,GLOB...]". CO_ERR_INVAL: empty, too long, or a pattern that can match no absolute path. */
CO_MUST_CHECK int plain_path_check(const char *patterns);

/*
 * Does a pattern of the list match the absolute path? One with a / is compared with the whole path,
 * one without with its last part. `*` and `?` stand for any characters, a / among them.
 */
bool plain_path_matches(const char *patterns, const char *path);

/*
 * The database that an absolute path (no "//", no "/./", no "/../") stands for. Its first / is left
 * out; letters, digits and '.' stand for themselves; '/' becomes "-", '-' becomes "_-", '_' becomes
 * "__", any other byte "_" and two hex digits. That can be read back, so no two paths have one
 * name.
 *
 * Where the result is no name (longer than 63, or beginning with '.' or '_') it is the end of the
 * path, up to 29 of those characters, "_h" and the first 32 hex digits of the path's SHA-256. No
 * name of the first kind has "_h" in it.
 */
void plain_path_database(const char *path, char out[CO_NAME_MAX_BYTES + 1]);

#endif
