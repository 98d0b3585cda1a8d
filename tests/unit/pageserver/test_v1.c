/* /v1 without a server: routes, bodies, values; and docs/openapi.json against the table. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "pageserver/v1_changes.h"
#include "pageserver/v1_json.h"
#include "pageserver/v1_openapi.h"
#include "pageserver/v1_route.h"
#include "proto/changes.h"

TestSuite(v1, .timeout = 20);

static struct v1_match m;
static char allow[64];

static int match(const char *method, const char *path, const char *name, const char *value)
{
    struct co_http_request r = {.method = method, .path = path};
    if (name) {
        r.args[0] = (struct co_http_arg){name, value};
        r.n_args = 1;
    }
    memset(&m, 0, sizeof m);
    return v1_match(&r, &m, allow);
}

/* -- Routes -------------------------------------------------------------------------------------
 */

Test(v1, a_path_is_taken_apart_before_its_escapes_are_undone)
{
    /* %2F within a name is no slash; an escaped letter is that letter. */
    cr_assert_eq(match("GET", "/v1/databases/shop/branches/tr%79", NULL, NULL), 0);
    cr_assert_eq(m.what, V1_BRANCH);
    cr_assert_str_eq(m.database, "shop");
    cr_assert_str_eq(m.branch, "try");
    cr_assert_eq(match("GET", "/v1/databases/shop%2Fbranches", NULL, NULL), CO_ERR_NAME);
    cr_assert_eq(match("DELETE", "/v1/databases/shop/pins/p.1", NULL, NULL), 0);
    cr_assert_eq(m.what, V1_PIN_DROP);
    cr_assert_str_eq(m.pin, "p.1");
}

Test(v1, a_name_that_is_none_is_refused)
{
    /* Before anybody is asked: what looks like a path, is empty, or is too long. */
    static const char *const bad[] = {
        "..",    ".",    "%2e%2e",
        "a%20b", "-x",   "%C3%A4",
        "a%5Cb", "a%27", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    char path[300];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(path, sizeof path, "/v1/databases/%s", bad[i]);
        cr_assert_eq(match("GET", path, NULL, NULL), CO_ERR_NAME, "%s", bad[i]);
        snprintf(path, sizeof path, "/v1/databases/shop/branches/%s/log", bad[i]);
        cr_assert_eq(match("GET", path, NULL, NULL), CO_ERR_NAME, "%s", bad[i]);
    }
    cr_assert_eq(match("GET", "/v1/databases/%00", NULL, NULL), CO_ERR_INVAL);
    cr_assert_eq(match("GET", "/v1/databases/%f", NULL, NULL), CO_ERR_INVAL);
    cr_assert_eq(match("GET", "/v1/databases/%ff", NULL, NULL), CO_ERR_INVAL);
}

Test(v1, there_is_nothing_at_other_paths)
{
    /* No prefix, no slash too many, no part too few. */
    static const char *const bad[] = {"/v1",
                                      "/v1/",
                                      "/v1/databases/",
                                      "/v1/databases/a/",
                                      "/v1/databases//branches",
                                      "/v1/database",
                                      "/v1/databases/a/branches/b/log/x",
                                      "/v1/databasesx",
                                      "/v1/databases/a/branches/b/log/x/y/z/w",
                                      "/v1/statu",
                                      "/v1/status/"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int rc = match("GET", bad[i], NULL, NULL);
        cr_assert(rc == CO_ERR_NOT_FOUND || rc == CO_ERR_NAME, "%s: %d", bad[i], rc);
    }
}

Test(v1, another_method_is_told_those_there_are)
{
    /* HEAD goes where GET goes. */
    cr_assert_eq(match("PUT", "/v1/databases", NULL, NULL), CO_ERR_READONLY);
    cr_assert_str_eq(allow, "GET, HEAD, POST");
    cr_assert_eq(match("OPTIONS", "/v1/databases/a/branches/b", NULL, NULL), CO_ERR_READONLY);
    cr_assert_str_eq(allow, "GET, HEAD, PATCH, DELETE");
    cr_assert_eq(match("GET", "/v1/databases/a/branches/b/restore", NULL, NULL), CO_ERR_READONLY);
    cr_assert_str_eq(allow, "POST");
    cr_assert_eq(match("get", "/v1/status", NULL, NULL), CO_ERR_READONLY);
    cr_assert_eq(match("HEAD", "/v1/status", NULL, NULL), 0);
}

Test(v1, arguments_are_known_and_given_once)
{
    /* A misspelt argument is not passed over in silence. */
    struct co_http_request r = {
        .method = "GET", .path = "/v1/databases/a/branches/b/log", .n_args = 2};
    cr_assert_eq(match("GET", r.path, "limit", "1%30"), 0);
    cr_assert_str_eq(v1_arg(&m, "limit"), "10");
    cr_assert_null(v1_arg(&m, "at"));
    cr_assert_eq(match("GET", r.path, "Limit", "1"), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "at, before, limit"), "%s", co_sentence());
    cr_assert_eq(match("GET", "/v1/status", "x", ""), CO_ERR_INVAL);
    cr_assert_eq(match("GET", r.path, "at", "%"), CO_ERR_INVAL);
    r.args[0] = r.args[1] = (struct co_http_arg){"at", "-1m"};
    cr_assert_eq(v1_match(&r, &m, allow), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "twice"), "%s", co_sentence());
    r.n_args = CO_HTTP_ARGS_MAX + 1;
    cr_assert_eq(v1_match(&r, &m, allow), CO_ERR_INVAL);
}

/* -- Bodies -------------------------------------------------------------------------------------
 */

static int body(enum v1_what what, const char *text)
{
    json_t *value = NULL;
    int rc = v1_body(&v1_routes[what], co_span_of(text, strlen(text)), &value);
    cr_assert_eq(rc == 0, value != NULL);
    json_decref(value);
    return rc;
}

Test(v1, a_body_has_the_fields_of_its_route)
{
    /* Nothing unknown, nothing missing, nothing of another type, nothing twice, nothing behind it.
     */
    static const char *const bad[] = {"",
                                      "{",
                                      "[]",
                                      "null",
                                      "\"x\"",
                                      "{}",
                                      "{\"name\":1}",
                                      "{\"name\":null}",
                                      "{\"name\":\"a\",\"nme\":\"b\"}",
                                      "{\"name\":\"a\",\"name\":\"b\"}",
                                      "{\"name\":\"a\"} x",
                                      "{\"name\":\"\\u0000\"}",
                                      "{\"name\":\"\xff\"}",
                                      "{\"name\":\"a\",\"id\":[[[]]]}",
                                      "{\"name\":\"a\",\"id\":true}",
                                      "{'name':'a'}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_eq(body(V1_DATABASE_CREATE, bad[i]), CO_ERR_INVAL, "%s", bad[i]);
    cr_assert_eq(body(V1_DATABASE_CREATE, "{\"name\":\"a\",\"id\":\"b\"}"), 0);
    cr_assert_eq(body(V1_BRANCH_CHANGE, "{\"expires\":null,\"protected\":false}"), 0);
    cr_assert_eq(body(V1_BRANCH_CHANGE, "{\"protected\":\"no\"}"), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "true or false"), "%s", co_sentence());
    cr_assert_eq(body(V1_DATABASE_DROP, "{\"really\":true}"), CO_ERR_INVAL);
}

Test(v1, a_deep_or_long_body_is_refused)
{
    /* The parser's stack and our memory have bounds. */
    enum { N = 60000 };
    char *deep = malloc(N + 1), longer[V1_VALUE_MAX + 20];
    memset(deep, '[', N);
    deep[N] = 0;
    cr_assert_eq(body(V1_DATABASE_CREATE, deep), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "depth"), "%s", co_sentence());
    free(deep);
    snprintf(longer, sizeof longer, "{\"name\":\"%0*d\"}", (int)V1_VALUE_MAX, 1);
    cr_assert_eq(body(V1_DATABASE_CREATE, longer), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "longer"), "%s", co_sentence());
}

/* -- Values -------------------------------------------------------------------------------------
 */

Test(v1, an_expiry_is_a_span_or_a_date)
{
    /* Anything else gets both spellings. */
    static const char *const bad[] = {
        "",         "24",     "h",          "-1h",          "0h",
        "1y",       "24hh",   "2026",       "tomorrow",     "99999999999999999999h",
        "1000001s", "latest", "2026-13-01", "5 minutes ago"};
    uint64_t at = 0, now = 1000000;
    cr_assert_eq(v1_expiry("24h", now, &at), 0);
    cr_assert_eq(at, now + 86400000000u);
    cr_assert_eq(v1_expiry("2w", now, &at), 0);
    cr_assert_eq(at, now + 14 * 86400000000u);
    cr_assert_eq(v1_expiry("2096-01-02T03:04:05Z", now, &at), 0);
    cr_assert_eq(at, 3976311845000000u);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_eq(v1_expiry(bad[i], now, &at), CO_ERR_INVAL, "%s", bad[i]);
        cr_assert(strstr(co_sentence(), "24h"), "%s", co_sentence());
    }
}

Test(v1, errors_have_the_status_that_a_client_acts_on)
{
    /* 4xx: do not send it again; 503: do; 500: tell somebody. */
    cr_assert_eq(v1_status_of(CO_ERR_NAME), 400u);
    cr_assert_eq(v1_status_of(CO_ERR_NOT_FOUND), 404u);
    cr_assert_eq(v1_status_of(CO_ERR_EXISTS), 409u);
    cr_assert_eq(v1_status_of(CO_ERR_READONLY), 409u);
    cr_assert_eq(v1_status_of(CO_ERR_DROPPED), 410u);
    cr_assert_eq(v1_status_of(CO_ERR_LAG), 503u);
    cr_assert_eq(v1_status_of(CO_ERR_NO_QUORUM), 503u);
    cr_assert_eq(v1_status_of(CO_ERR_CONNECT), 503u);
    cr_assert_eq(v1_status_of(CO_ERR_FULL), 507u);
    cr_assert_eq(v1_status_of(CO_ERR_CORRUPT), 500u);
    cr_assert_eq(v1_status_of(CO_ERR_PROTOCOL), 500u);
}

Test(v1, an_error_is_json_whatever_it_quotes)
{
    /* A sentence may hold bytes of a request, or half a character. */
    json_t *e = v1_json_error("INVAL", "what is \xc3");
    cr_assert(e);
    cr_assert_str_eq(json_string_value(json_object_get(json_object_get(e, "error"), "sentence")),
                     "what is ?");
    json_decref(e);
}

Test(v1, changed_pages_are_told_once_and_in_order)
{
    /* The union of all commits, without what is no more. */
    static const pgno_t one[] = {1, 7, 900}, two[] = {2, 7};
    struct co_buf list = {0}, text = {0};
    uint32_t commits = 0;
    cr_assert_eq(changes_put_commit(&list, 4096, 5000, 900, one, 3), 0);
    cr_assert_eq(changes_put_commit(&list, 5000, 6000, 10, two, 2), 0);
    cr_assert_eq(v1_changes_text(co_buf_span(&list), 4096, 10, &text, &commits), 0);
    cr_assert_eq(commits, 2u);
    cr_assert_eq(co_buf_append(&text, "", 1), 0);
    cr_assert_str_eq((char *)text.data, "[1,2,7]");
    text.len = 0;
    cr_assert_eq(v1_changes_text(co_span_of(list.data, list.len - 1), 4096, 10, &text, &commits),
                 CO_ERR_PROTOCOL);
    text.len = 0;
    cr_assert_eq(v1_changes_text((struct co_span){0}, 4096, 10, &text, &commits), 0);
    cr_assert_eq(text.len, 2u);
    co_buf_free(&list);
    co_buf_free(&text);
}

/* -- docs/openapi.json --------------------------------------------------------------------------
 */

static json_t *openapi(void)
{
    json_error_t error;
    json_t *doc = json_loadb(v1_openapi_json, (size_t)(v1_openapi_json_end - v1_openapi_json),
                             JSON_REJECT_DUPLICATES, &error);
    cr_assert(doc, "line %d: %s", error.line, error.text);
    return doc;
}

static const json_t *operation(const json_t *doc, const struct v1_route *r)
{
    char method[16];
    size_t i = 0;
    for (; r->method[i]; i++)
        method[i] = (char)(r->method[i] | 0x20);
    method[i] = 0;
    return json_object_get(json_object_get(json_object_get(doc, "paths"), r->path), method);
}

/* The parameter, behind its $ref if it is one. */
static const json_t *resolved(const json_t *doc, const json_t *parameter)
{
    const char *ref = json_string_value(json_object_get(parameter, "$ref"));
    static const char prefix[] = "#/components/parameters/";
    if (!ref)
        return parameter;
    cr_assert(strncmp(ref, prefix, sizeof prefix - 1) == 0, "%s", ref);
    return json_object_get(json_object_get(json_object_get(doc, "components"), "parameters"),
                           ref + sizeof prefix - 1);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

Test(v1, the_description_has_every_route_and_no_other)
{
    /* Method and path, both ways. */
    json_t *doc = openapi();
    const char *path, *method;
    json_t *item, *op;
    size_t described = 0;
    for (unsigned i = 0; i < V1_N; i++)
        cr_assert(operation(doc, &v1_routes[i]), "%s %s is not described", v1_routes[i].method,
                  v1_routes[i].path);
    json_object_foreach(json_object_get(doc, "paths"), path, item)
    {
        json_object_foreach(item, method, op)
        {
            described++;
        }
    }
    cr_assert_eq(described, (size_t)V1_N);
    json_decref(doc);
}

Test(v1, the_description_has_every_argument_and_no_other)
{
    /* Those of the path and those of the query. */
    json_t *doc = openapi();
    for (unsigned i = 0; i < V1_N; i++) {
        const struct v1_route *r = &v1_routes[i];
        const json_t *list = json_object_get(operation(doc, r), "parameters");
        size_t wanted = 0, braces = 0;
        for (const char *p = r->path; *p; p++)
            braces += *p == '{';
        while (wanted < V1_ARGS && r->args[wanted])
            wanted++;
        cr_assert_eq(json_array_size(list), wanted + braces, "%s %s", r->method, r->path);
        for (size_t k = 0; k < json_array_size(list); k++) {
            const json_t *p = resolved(doc, json_array_get(list, k));
            char brace[80];
            bool found = false;
            snprintf(brace, sizeof brace, "{%s}", text_of(p, "name"));
            for (size_t a = 0; a < wanted; a++)
                found |= strcmp(text_of(p, "in"), "query") == 0 &&
                         strcmp(r->args[a], text_of(p, "name")) == 0;
            found |= strcmp(text_of(p, "in"), "path") == 0 && strstr(r->path, brace) != NULL;
            cr_assert(found, "%s %s does not know %s", r->method, r->path, text_of(p, "name"));
        }
    }
    json_decref(doc);
}

static bool is_required(const json_t *schema, const char *name)
{
    const json_t *list = json_object_get(schema, "required");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), name) == 0)
            return true;
    return false;
}

Test(v1, the_description_has_every_field_and_no_other)
{
    /* Name, type, whether it may be null, whether it must be there; and nothing beside them. */
    json_t *doc = openapi();
    for (unsigned i = 0; i < V1_N; i++) {
        const struct v1_route *r = &v1_routes[i];
        const json_t *content = json_object_get(
            json_object_get(json_object_get(operation(doc, r), "requestBody"), "content"),
            "application/json");
        const json_t *schema = json_object_get(content, "schema");
        const json_t *fields = json_object_get(schema, "properties");
        size_t n = 0;
        for (; n < V1_FIELDS && r->fields[n].name; n++) {
            const struct v1_field *f = &r->fields[n];
            const json_t *p = json_object_get(fields, f->name);
            cr_assert(p, "%s %s: %s is not described", r->method, r->path, f->name);
            cr_assert_str_eq(text_of(p, "type"), f->type == V1_BOOL ? "boolean" : "string");
            cr_assert_eq(json_is_true(json_object_get(p, "nullable")), f->type == V1_TEXT_OR_NULL,
                         "%s", f->name);
            cr_assert_eq(is_required(schema, f->name), f->required, "%s", f->name);
        }
        cr_assert_eq(json_object_size(fields), n, "%s %s", r->method, r->path);
        if (n)
            cr_assert(json_is_false(json_object_get(schema, "additionalProperties")));
    }
    json_decref(doc);
}
