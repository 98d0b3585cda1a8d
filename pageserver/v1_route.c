#include "pageserver/v1_route.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/http_text.h"
#include "proto/when.h"

#define DB         "/v1/databases/{database}"
#define BRANCH     DB "/branches/{branch}"
#define SEGMENTS   8u
#define EXPIRY_MAX 1000000u

const struct v1_route v1_routes[V1_N] = {
    [V1_OPENAPI] = {"GET", "/v1/openapi.json", {0}, {{0}}},
    [V1_STATUS] = {"GET", "/v1/status", {0}, {{0}}},
    [V1_DATABASES] = {"GET", "/v1/databases", {0}, {{0}}},
    [V1_DATABASE_CREATE] = {"POST",
                            "/v1/databases",
                            {0},
                            {{"name", V1_TEXT, true}, {"id", V1_TEXT, false}}},
    [V1_DATABASE] = {"GET", DB, {0}, {{0}}},
    [V1_DATABASE_DROP] = {"DELETE", DB, {0}, {{0}}},
    [V1_BRANCHES] = {"GET", DB "/branches", {0}, {{0}}},
    [V1_BRANCH_CREATE] = {"POST",
                          DB "/branches",
                          {0},
                          {{"name", V1_TEXT, true},
                           {"from", V1_TEXT, false},
                           {"at", V1_TEXT, false},
                           {"expires", V1_TEXT_OR_NULL, false},
                           {"id", V1_TEXT, false}}},
    [V1_BRANCH] = {"GET", BRANCH, {0}, {{0}}},
    [V1_BRANCH_CHANGE] = {"PATCH",
                          BRANCH,
                          {0},
                          {{"name", V1_TEXT, false},
                           {"protected", V1_BOOL, false},
                           {"expires", V1_TEXT_OR_NULL, false}}},
    [V1_BRANCH_DROP] = {"DELETE", BRANCH, {0}, {{0}}},
    [V1_RESTORE] = {"POST",
                    BRANCH "/restore",
                    {0},
                    {{"from", V1_TEXT, false},
                     {"at", V1_TEXT, false},
                     {"keep_as", V1_TEXT, false},
                     {"id", V1_TEXT, false}}},
    [V1_MOMENT] = {"GET", BRANCH "/moment", {"at"}, {{0}}},
    [V1_LOG] = {"GET", BRANCH "/log", {"at", "before", "limit"}, {{0}}},
    [V1_CHANGES] = {"GET", BRANCH "/changes", {"since", "upto"}, {{0}}},
    [V1_EXPORT] = {"GET", BRANCH "/export", {"at"}, {{0}}},
    [V1_PINS] = {"GET", DB "/pins", {0}, {{0}}},
    [V1_PIN_CREATE] = {"POST",
                       DB "/pins",
                       {0},
                       {{"name", V1_TEXT, true},
                        {"branch", V1_TEXT, false},
                        {"at", V1_TEXT, false}}},
    [V1_PIN] = {"GET", DB "/pins/{pin}", {0}, {{0}}},
    [V1_PIN_DROP] = {"DELETE", DB "/pins/{pin}", {0}, {{0}}},
};

/* -- Paths ------------------------------------------------------------------------------------- */

struct segments {
    char at[SEGMENTS][V1_VALUE_MAX];
    size_t n;
};

/* Takes a path apart first and undoes the escapes then, so that %2F is no slash. */
static int split(const char *path, struct segments *s)
{
    s->n = 0;
    while (*path == '/') {
        size_t len = strcspn(++path, "/");
        if (s->n == SEGMENTS)
            return co_fail(CO_ERR_NOT_FOUND, "no path of this service has so many parts");
        int rc = co_http_unescape("a part of the path", path, len, s->at[s->n], V1_VALUE_MAX);
        if (rc)
            return rc;
        s->n++;
        path += len;
    }
    return 0;
}

static char *place_of(struct v1_match *m, const char *parameter)
{
    return strncmp(parameter, "{database}", 10) == 0 ? m->database
           : strncmp(parameter, "{branch}", 8) == 0  ? m->branch
                                                     : m->pin;
}

/* Does the pattern fit? The values of its parameters are kept. */
static bool fits(const char *pattern, const struct segments *s, struct v1_match *m)
{
    size_t i = 0;
    for (; *pattern == '/'; i++) {
        size_t len = strcspn(++pattern, "/");
        if (i == s->n)
            return false;
        if (*pattern == '{')
            snprintf(place_of(m, pattern), V1_VALUE_MAX, "%s", s->at[i]);
        else if (strlen(s->at[i]) != len || memcmp(pattern, s->at[i], len) != 0)
            return false;
        pattern += len;
    }
    return i == s->n;
}

static int check_names(const struct v1_match *m, const char *pattern)
{
    int rc = strstr(pattern, "{database}") ? name_check(m->database) : 0;
    if (!rc && strstr(pattern, "{branch}"))
        rc = name_check(m->branch);
    if (!rc && strstr(pattern, "{pin}"))
        rc = name_check(m->pin);
    return rc;
}

static void allow_more(char allow[64], const char *method)
{
    size_t n = strlen(allow);
    snprintf(allow + n, 64 - n, "%s%s", n ? ", " : "", method);
}

/* -- Arguments --------------------------------------------------------------------------------- */

static int unknown_arg(const struct v1_route *route, const char *name)
{
    char known[100] = "none";
    size_t n = 0;
    for (unsigned i = 0; i < V1_ARGS && route->args[i]; i++)
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", route->args[i]);
    return co_fail(CO_ERR_INVAL, "there is no argument '%.60s' here; there is: %s", name, known);
}

static int take_arg(const struct v1_route *route, const struct co_http_arg *arg, struct v1_match *m)
{
    char name[V1_VALUE_MAX], what[V1_VALUE_MAX + 20];
    int rc = co_http_unescape("the name of an argument", arg->name, strlen(arg->name), name,
                              sizeof name);
    if (rc)
        return rc;
    unsigned i = 0;
    while (i < V1_ARGS && route->args[i] && strcmp(route->args[i], name) != 0)
        i++;
    if (i == V1_ARGS || !route->args[i])
        return unknown_arg(route, name);
    if (m->has_arg[i])
        return co_fail(CO_ERR_INVAL, "the argument '%s' is given twice", name);
    m->has_arg[i] = true;
    snprintf(what, sizeof what, "the argument '%s'", name);
    return co_http_unescape(what, arg->value, strlen(arg->value), m->arg[i], V1_VALUE_MAX);
}

static int take_args(const struct co_http_request *request, struct v1_match *m)
{
    int rc = 0;
    if (request->n_args > CO_HTTP_ARGS_MAX)
        return co_fail(CO_ERR_INVAL, "there are more than %u arguments", CO_HTTP_ARGS_MAX);
    for (unsigned i = 0; i < request->n_args && !rc; i++)
        rc = take_arg(&v1_routes[m->what], &request->args[i], m);
    return rc;
}

const char *v1_arg(const struct v1_match *m, const char *name)
{
    const struct v1_route *route = &v1_routes[m->what];
    for (unsigned i = 0; i < V1_ARGS && route->args[i]; i++)
        if (strcmp(route->args[i], name) == 0)
            return m->has_arg[i] ? m->arg[i] : NULL;
    return NULL;
}

int v1_match(const struct co_http_request *request, struct v1_match *out, char allow[64])
{
    const char *method = strcmp(request->method, "HEAD") == 0 ? "GET" : request->method;
    const char *pattern = NULL;
    struct segments s;
    struct v1_match m;
    int rc = split(request->path, &s);
    bool found = false;
    allow[0] = 0;
    for (unsigned i = 0; i < V1_N && !rc; i++) {
        memset(&m, 0, sizeof m);
        if (!fits(v1_routes[i].path, &s, &m))
            continue;
        pattern = v1_routes[i].path;
        if (strcmp(v1_routes[i].method, method) == 0) {
            m.what = (enum v1_what)i;
            *out = m;
            found = true;
        }
        allow_more(allow, v1_routes[i].method);
        if (strcmp(v1_routes[i].method, "GET") == 0)
            allow_more(allow, "HEAD");
    }
    if (rc)
        return rc;
    if (!pattern)
        return co_fail(CO_ERR_NOT_FOUND,
                       "there is nothing at this path; /v1/openapi.json lists what there is");
    if (!found)
        return co_fail(CO_ERR_READONLY, "%s takes %s, not %.20s", pattern, allow, request->method);
    rc = check_names(out, pattern);
    return rc ? rc : take_args(request, out);
}

/* -- Bodies ------------------------------------------------------------------------------------ */

static const struct v1_field *field_of(const struct v1_route *route, const char *name)
{
    for (unsigned i = 0; i < V1_FIELDS && route->fields[i].name; i++)
        if (strcmp(route->fields[i].name, name) == 0)
            return &route->fields[i];
    return NULL;
}

static int unknown_field(const struct v1_route *route, const char *name)
{
    char known[100] = "";
    size_t n = 0;
    for (unsigned i = 0; i < V1_FIELDS && route->fields[i].name; i++)
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "",
                              route->fields[i].name);
    return co_fail(CO_ERR_INVAL, "there is no field \"%.60s\" here; there is: %s", name,
                   n ? known : "none");
}

static int check_field(const struct v1_field *f, const json_t *value)
{
    static const char *const wanted[] = {"text", "true or false", "text or null"};
    bool good = f->type == V1_BOOL
                    ? json_is_boolean(value)
                    : json_is_string(value) || (f->type == V1_TEXT_OR_NULL && json_is_null(value));
    if (!good)
        return co_fail(CO_ERR_INVAL, "\"%s\" is to be %s", f->name, wanted[f->type]);
    if (json_string_length(value) >= V1_VALUE_MAX)
        return co_fail(CO_ERR_INVAL, "\"%s\" is longer than %u bytes", f->name, V1_VALUE_MAX - 1);
    return 0;
}

static int check_body(const struct v1_route *route, json_t *body)
{
    const char *name;
    json_t *value;
    if (!json_is_object(body))
        return co_fail(CO_ERR_INVAL, "the body is to be a JSON object");
    json_object_foreach(body, name, value)
    {
        const struct v1_field *f = field_of(route, name);
        int rc = f ? check_field(f, value) : unknown_field(route, name);
        if (rc)
            return rc;
    }
    for (unsigned i = 0; i < V1_FIELDS && route->fields[i].name; i++)
        if (route->fields[i].required && !json_object_get(body, route->fields[i].name))
            return co_fail(CO_ERR_INVAL, "the body lacks \"%s\"", route->fields[i].name);
    return 0;
}

int v1_body(const struct v1_route *route, struct co_span body, json_t **out)
{
    json_error_t error;
    *out = json_loadb((const char *)body.data, body.len, JSON_REJECT_DUPLICATES, &error);
    if (!*out)
        return co_fail(CO_ERR_INVAL, "the body is not JSON (line %d, column %d: %s)", error.line,
                       error.column, error.text);
    int rc = check_body(route, *out);
    if (rc) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

/* -- Values ------------------------------------------------------------------------------------ */

static uint64_t unit_seconds(const char *suffix)
{
    static const struct {
        const char *letter;
        uint64_t seconds;
    } units[] = {{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}, {"w", 604800}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(suffix, units[i].letter) == 0)
            return units[i].seconds;
    return 0;
}

int v1_expiry(const char *text, uint64_t now_us, uint64_t *out_us)
{
    struct when when;
    char *end = NULL;
    errno = 0;
    unsigned long long n = isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
    if (n > 0 && n <= EXPIRY_MAX && errno == 0 && unit_seconds(end)) {
        *out_us = now_us + n * unit_seconds(end) * 1000000u;
        return 0;
    }
    /* A date; when_parse refuses what is later than now. */
    if (end && *end == '-' && when_parse(text, UINT64_MAX / 2, &when) == 0 &&
        when.kind == WHEN_TIME && when.time_us) {
        *out_us = when.time_us;
        return 0;
    }
    return co_fail(CO_ERR_INVAL,
                   "'%.60s' is no time to live: 24h (s, m, h, d or w), or a date such as "
                   "2026-01-02T03:04:05Z is wanted",
                   text);
}

unsigned v1_status_of(int code)
{
    switch (code) {
    case CO_ERR_INVAL:
    case CO_ERR_NAME:
        return 400;
    case CO_ERR_NOT_FOUND:
        return 404;
    case CO_ERR_EXISTS:
    case CO_ERR_READONLY:
    case CO_ERR_TOO_LARGE:
    case CO_ERR_BUSY:
        return 409;
    case CO_ERR_DROPPED:
    case CO_ERR_GONE:
        return 410;
    case CO_ERR_FULL:
        return 507;
    default:
        return co_error_class(code) == CO_CLASS_RETRY ? 503 : 500;
    }
}
