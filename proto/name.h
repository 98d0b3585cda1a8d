/* name.h - names of databases and branches: [A-Za-z0-9][A-Za-z0-9._-]{0,62}. */
#ifndef CORALLITE_PROTO_NAME_H
#define CORALLITE_PROTO_NAME_H

#include "common/error.h"
#include "proto/limits.h"

/* 0, or CO_ERR_NAME with a sentence that proposes a valid name made from this one. */
CO_MUST_CHECK int name_check(const char *name);

/* Writes a valid name made from any text ("my shop!" -> "my-shop"; "" -> "db"). */
void name_propose(const char *text, char out[CO_NAME_MAX_BYTES + 1]);

/* Splits "DB" or "DB/BRANCH" (branch "main" when absent) and checks both. */
CO_MUST_CHECK int name_split(const char *text, char db[CO_NAME_MAX_BYTES + 1],
                             char branch[CO_NAME_MAX_BYTES + 1]);

#endif
