/*
 * fuzz_http.c - what a request of the HTTP API says: path, arguments, body; and what a store
 * answers to an archive, and its URL. (libmicrohttpd takes the request line and the headers apart;
 * the integration test http_hostile sends it rubbish.)
 *
 * A part of the harness `text`: byte 0 is FUZZ_SECOND. Then: lines "METHOD
 * path?name=value&name=value", content type, body. What holds: every value that a match hands on is
 * UTF-8, ended and no longer than its place; names have been checked; a body that is accepted has
 * the fields of its route and no other; and what /v1 answers is JSON whatever the names in a
 * message are.
 */
#include <ctype.h>
#include <jansson.h>

#include "archive/s3_retry.h"
#include "archive/s3_sign.h"
#include "archive/s3_url.h"
#include "archive/s3_xml.h"
#include "archive/store.h"
#include "common/http_text.h"
#include "pageserver/v1_json.h"
#include "pageserver/v1_route.h"
#include "proto/unpack.h"
#include "tests/fuzz/fuzz.h"

/* Cuts `text` at the first of `at`; what is behind it, or NULL. */
static char *cut(char *text, char at)
{
    char *p = text ? strchr(text, at) : NULL;
    if (p)
        *p++ = 0;
    return p;
}

static void take_args(char *query, struct co_http_request *r)
{
    for (char *next; query; query = next) {
        next = cut(query, '&');
        if (r->n_args == CO_HTTP_ARGS_MAX) {
            r->n_args++;
            return;
        }
        char *value = cut(query, '=');
        r->args[r->n_args++] = (struct co_http_arg){query, value ? value : ""};
    }
}

static void check_value(const char *value)
{
    FUZZ_CHECK(memchr(value, 0, V1_VALUE_MAX) && co_is_utf8(value, strlen(value)));
}

static void on_match(const struct v1_match *m)
{
    FUZZ_CHECK(m->what < V1_N);
    FUZZ_CHECK(!m->database[0] || name_check(m->database) == 0);
    FUZZ_CHECK(!m->branch[0] || name_check(m->branch) == 0);
    FUZZ_CHECK(!m->pin[0] || name_check(m->pin) == 0);
    for (unsigned i = 0; i < V1_ARGS; i++)
        check_value(m->arg[i]);
    const char *at = v1_arg(m, "at");
    if (at)
        check_value(at);
}

static void on_body(const struct v1_route *route, struct co_span body)
{
    json_t *object = NULL;
    const char *name;
    json_t *value;
    if (v1_body(route, body, &object)) {
        FUZZ_CHECK(!object);
        return;
    }
    json_object_foreach(object, name, value)
    {
        bool known = false;
        for (unsigned i = 0; i < V1_FIELDS && route->fields[i].name; i++)
            known |= strcmp(route->fields[i].name, name) == 0;
        FUZZ_CHECK(known && json_string_length(value) < V1_VALUE_MAX);
    }
    json_decref(object);
}

static void on_text(const char *text)
{
    char out[V1_VALUE_MAX];
    uint64_t us, now = 1700000000000000u;
    if (co_http_unescape("it", text, strlen(text), out, sizeof out) == 0)
        check_value(out);
    if (v1_expiry(text, now, &us) == 0)
        FUZZ_CHECK(us > 0);
    (void)co_http_is_json(text);
}

static void take_json(json_t *j)
{
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    json_t *again = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    FUZZ_CHECK(!text || again);
    json_decref(again);
    json_decref(j);
    free(text);
}

/* Those who call v1_json_* have looked whether an answer says of which timeline it speaks. */
static bool has_timeline(unsigned which, const void *m)
{
    return which == 1   ? ((const Corallite__BranchListed__Branch *)m)->timeline != NULL
           : which == 2 ? ((const Corallite__Resolved *)m)->timeline != NULL
           : which == 5 ? ((const Corallite__Branched *)m)->timeline != NULL
                        : true;
}

/* What comes from the other daemons and goes out as JSON. */
static void on_answer(unsigned which, struct co_span message)
{
    static const ProtobufCMessageDescriptor *const kinds[] = {
        &corallite__db_listed__db__descriptor, &corallite__branch_listed__branch__descriptor,
        &corallite__resolved__descriptor,      &corallite__pins__one__descriptor,
        &corallite__logged__descriptor,        &corallite__branched__descriptor,
        &corallite__server_status__descriptor, &corallite__node_status__per_timeline__descriptor,
        &corallite__node_status__descriptor};
    Corallite__Safekeeper node = CORALLITE__SAFEKEEPER__INIT;
    which %= sizeof kinds / sizeof *kinds;
    void *m = message_unpack(kinds[which], message);
    if (!m)
        return;
    if (!has_timeline(which, m)) {
        protobuf_c_message_free_unpacked(m, NULL);
        return;
    }
    switch (which) {
    case 0:
        take_json(v1_json_database(m));
        break;
    case 1:
        take_json(v1_json_branch("db", m));
        break;
    case 2:
        take_json(v1_json_moment(m));
        break;
    case 3:
        take_json(v1_json_pin(m));
        break;
    case 4:
        take_json(v1_json_log(m));
        break;
    case 5:
        take_json(v1_json_restored("db", "main", m));
        break;
    case 6:
        take_json(v1_json_pageserver(m, "here"));
        break;
    case 7:
        take_json(v1_json_copy(&node, m));
        break;
    default:
        take_json(v1_json_safekeeper(&node, m, NULL));
        break;
    }
    protobuf_c_message_free_unpacked(m, NULL);
}

static void on_request(char *text)
{
    char allow[64];
    struct co_http_request r = {.method = text};
    char *type = cut(text, '\n'), *body = cut(type, '\n'), *path = cut(text, ' ');
    if (!body || !path)
        return;
    struct v1_match m;
    r.path = path;
    take_args(cut(path, '?'), &r);
    if (v1_match(&r, &m, allow) == 0) {
        on_match(&m);
        on_body(&v1_routes[m.what], co_span_of(body, strlen(body)));
    }
    on_text(type);
}

/* -- a store's answers, and where it is (archive/s3_*)
 * --------------------------------------------- */

/* What a store sends as XML: an element that is told lies within the one that the document began
 * with. */
static void on_xml(struct co_span bytes)
{
    struct s3_xml x;
    struct s3_xml_event e;
    struct s3_trouble t;
    unsigned n = 0;
    int rc;
    s3_xml_init(&x, bytes);
    while ((rc = s3_xml_next(&x, &e)) == 1) {
        FUZZ_CHECK(++n <= bytes.len && *e.path && strlen(e.path) < sizeof x.path);
        FUZZ_CHECK(!e.text || strlen(e.text) <= S3_XML_TEXT_MAX);
        FUZZ_CHECK(x.depth < S3_XML_DEPTH_MAX);
    }
    FUZZ_CHECK(rc == 0 ? n > 0 : rc == CO_ERR_PROTOCOL && co_sentence()[0]);
    s3_trouble_read(bytes, &t);
    for (const char *p = t.message; *p; p++)
        FUZZ_CHECK(*p >= ' ' && *p < 0x7f);
}

/* An archive's URL, then two variables, each behind a newline. */
static void on_place(char *text)
{
    struct s3_url u;
    char *endpoint = cut(text, '\n'), *region = cut(endpoint, '\n');
    if (s3_url_parse(text, endpoint, region, &u))
        return;
    FUZZ_CHECK(u.root[0] == '/' && u.root[strlen(u.root) - 1] == '/' && !strchr(u.origin, '@'));
    FUZZ_CHECK(!u.prefix[0] || u.prefix[strlen(u.prefix) - 1] == '/');
    FUZZ_CHECK(strncmp(u.origin, "http", 4) == 0 && !strchr(strstr(u.origin, "://") + 3, '/'));
    FUZZ_CHECK(strlen(u.bucket) >= 3 && u.region[0]);
}

/* A key of any bytes is sent as what every proxy leaves alone. */
static void on_key(const char *text)
{
    struct s3_message m = {.path = text, .query = {{text, text}}, .n_query = 1};
    struct co_buf out = {0};
    FUZZ_CHECK(s3_target(&m, &out) == 0);
    for (size_t i = 0; i < out.len; i++)
        FUZZ_CHECK(isalnum(out.data[i]) || strchr("-._~/%?&=", out.data[i]));
    co_buf_free(&out);
    FUZZ_CHECK(ar_name_check(text) <= 0);
}

void fuzz_http(struct fuzz_in in)
{
    unsigned how = (unsigned)fuzz_number(&in, 1);
    AUTO_FREE char *text = (char *)fuzz_copy(co_span_of(in.p, in.n), true);
    if (how >= FUZZ_SECOND + 64)
        on_xml(co_span_of(text, in.n));
    else if (how >= FUZZ_SECOND + 32)
        on_place(text);
    else if (how >= FUZZ_SECOND)
        on_key(text);
    else if (how & 16)
        on_answer(how & 15, co_span_of(text, in.n));
    else if (how & 32)
        on_body(&v1_routes[how % V1_N], co_span_of(text, in.n));
    else if (how & 64)
        on_text(text);
    else
        on_request(text);
}
