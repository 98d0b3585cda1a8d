/*
 * v1_route.h - what there is below /v1: one table of methods, paths, query arguments and fields of
 * bodies, and the checks that follow from it. Pure.
 *
 * docs/openapi.json describes the same for the world; a unit test compares the two both ways.
 */
#ifndef CORALLITE_PAGESERVER_V1_ROUTE_H
#define CORALLITE_PAGESERVER_V1_ROUTE_H

#include <jansson.h>
#include <stdbool.h>

#include "common/daemon_http.h"
#include "proto/name.h"

enum v1_what {
    V1_OPENAPI,
    V1_STATUS,
    V1_DATABASES,
    V1_DATABASE_CREATE,
    V1_DATABASE,
    V1_DATABASE_DROP,
    V1_BRANCHES,
    V1_BRANCH_CREATE,
    V1_BRANCH,
    V1_BRANCH_CHANGE,
    V1_BRANCH_DROP,
    V1_RESTORE,
    V1_MOMENT,
    V1_LOG,
    V1_CHANGES,
    V1_EXPORT,
    V1_PINS,
    V1_PIN_CREATE,
    V1_PIN,
    V1_PIN_DROP,
    V1_N
};

enum v1_type { V1_TEXT, V1_BOOL, V1_TEXT_OR_NULL };

struct v1_field { /* of a body */
    const char *name;
    enum v1_type type;
    bool required;
};

#define V1_ARGS   3u
#define V1_FIELDS 5u

struct v1_route {
    const char *method, *path;         /* "/v1/databases/{database}" */
    const char *args[V1_ARGS];         /* of the query, all optional; NULL after the last */
    struct v1_field fields[V1_FIELDS]; /* name NULL after the last */
};

extern const struct v1_route v1_routes[V1_N];

#define V1_VALUE_MAX 128u

/* A request as the table understands it. */
struct v1_match {
    enum v1_what what;
    char database[V1_VALUE_MAX], branch[V1_VALUE_MAX], pin[V1_VALUE_MAX]; /* "": not in the path */
    char arg[V1_ARGS][V1_VALUE_MAX];
    bool has_arg[V1_ARGS];
};

/* Finds the route. 0; or CO_ERR_INVAL, CO_ERR_NAME, CO_ERR_NOT_FOUND with a sentence; or
 * CO_ERR_READONLY: the path has other methods, which `allow` lists. */
CO_MUST_CHECK int v1_match(const struct co_http_request *request, struct v1_match *out,
                           char allow[64]);
/* The argument of this name; NULL: it was not given. */
const char *v1_arg(const struct v1_match *m, const char *name);

/* Reads a body and compares it with the route's fields: an object, known fields only, each of its
 * type, those required there. CO_ERR_INVAL with a sentence. *out is the caller's. */
CO_MUST_CHECK int v1_body(const struct v1_route *route, struct co_span body, json_t **out);

/* "24h" from now, or a moment by date ("2026-01-02T03:04:05Z"). CO_ERR_INVAL. */
CO_MUST_CHECK int v1_expiry(const char *text, uint64_t now_us, uint64_t *out_us);

/* Status code for an error of ours. */
unsigned v1_status_of(int code);

#endif
