#include "pageserver/v1_sock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/clock_file.h"
#include "common/http_text.h"
#include "pageserver/v1_json.h"
#include "pageserver/v1_openapi.h"
#include "proto/unpack.h"

#define JSON_TYPE "application/json"
#define BODY_MAX  (64 * CO_KIB)
#define WAITING   64u
#define STREAMS   4u
#define KEEPER_MS 1000u

/* -- Replies ----------------------------------------------------------------------------------- */

void v1_reply_text(struct v1_call *c, unsigned status, struct co_buf *text)
{
    co_http_reply(c->answer, status, JSON_TYPE, text);
}

static int put(const char *text, size_t len, void *out)
{
    return co_buf_append(out, text, len);
}

static int dump(json_t *value, struct co_buf *out)
{
    int rc = value ? json_dump_callback(value, put, out, JSON_COMPACT) : -1;
    json_decref(value);
    if (!rc)
        rc = co_buf_append(out, "\n", 1);
    if (!rc)
        return 0;
    co_buf_free(out);
    return co_fail(CO_ERR_NOMEM, "there is no memory for the answer");
}

int v1_reply(struct v1_call *c, unsigned status, json_t *value)
{
    struct co_buf text = {0};
    int rc = dump(value, &text);
    if (!rc)
        v1_reply_text(c, status, &text);
    return rc;
}

static void reply_error(struct co_http_answer *answer, unsigned status, const char *code,
                        const char *sentence)
{
    struct co_buf text = {0};
    if (status == 503)
        co_http_header(answer, "Retry-After", "1");
    if (dump(v1_json_error(code, sentence), &text))
        co_buf_free(&text); /* no memory: the status has to do */
    co_http_reply(answer, status, JSON_TYPE, &text);
}

/* What daemon_http refuses by itself. */
static void refuse(void *owner, unsigned status, const char *sentence,
                   struct co_http_answer *answer)
{
    (void)owner;
    const char *code = status == 400   ? "INVAL"
                       : status == 403 ? "FORBIDDEN"
                       : status == 413 ? "TOO_LARGE"
                       : status == 503 ? "BUSY"
                                       : "BUG";
    reply_error(answer, status, code, sentence);
}

/* -- Asking the server ------------------------------------------------------------------------- */

/* keeper: the safekeeper that is meant; NULL: a pageserver. */
static int connect_to(const struct ps_v1 *v1, const char *host, uint16_t port,
                      const Corallite__Safekeeper *keeper, uint32_t timeout_ms, struct psock *s)
{
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    hello.has_protocol_min = hello.has_protocol_max = hello.has_role = hello.has_cluster = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    hello.role = CORALLITE__ROLE__ROLE_TOOL;
    hello.cluster =
        (ProtobufCBinaryData){sizeof v1->cluster.b, (uint8_t *)(uintptr_t)v1->cluster.b};
    if (keeper) {
        hello.has_expect_node = 1;
        hello.expect_node = keeper->node;
        hello.has_expect_disk = keeper->has_disk;
        hello.expect_disk = keeper->disk;
    }
    hello.program = (char *)(uintptr_t) "corallite-http";
    return psock_connect(s, host, port, &hello, co_now_us() + timeout_ms * 1000ull, NULL);
}

static int ask(struct psock *s, unsigned type, const ProtobufCMessage *request,
               unsigned answer_type, uint32_t timeout_ms, struct frame_header *frame,
               struct co_buf *body)
{
    int rc = psock_call(s, type, request, (struct co_span){0}, co_now_us() + timeout_ms * 1000ull,
                        frame, body, NULL);
    if (rc || frame->type == answer_type)
        return rc;
    co_buf_free(body);
    return co_fail(CO_ERR_PROTOCOL, "%s answered %s with a frame %s", s->address,
                   frame_type_name(type), frame_type_name(frame->type));
}

static int unpack(const ProtobufCMessageDescriptor *type, const struct frame_header *frame,
                  const struct co_buf *body, void *out)
{
    void *message = message_unpack(type, co_span_of(body->data, frame->message_bytes));
    *(void **)out = message;
    return message ? 0 : CO_ERR_PROTOCOL;
}

/* Nothing has come, and it has not ended. */
static bool is_quiet(const struct psock *s)
{
    char byte;
    return recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* A connection that an earlier call has left, or a new one: a busy client would otherwise use up
 * the ports that connections are given. */
static int reach_server(struct v1_call *c)
{
    struct ps_v1 *v1 = c->v1;
    pthread_mutex_lock(&v1->mutex);
    if (v1->n_idle)
        c->server = v1->idle[--v1->n_idle];
    pthread_mutex_unlock(&v1->mutex);
    if (c->server.fd >= 0 && is_quiet(&c->server))
        return 0;
    psock_close(&c->server);
    return connect_to(v1, v1->host, v1->port, NULL, CO_CONNECT_TIMEOUT_MS, &c->server);
}

static void leave_server(struct v1_call *c)
{
    struct ps_v1 *v1 = c->v1;
    bool large = c->server.in.cap > CO_MIB; /* after a long list */
    pthread_mutex_lock(&v1->mutex);
    if (c->server.fd >= 0 && !large && v1->n_idle < V1_WORKERS) {
        v1->idle[v1->n_idle++] = c->server;
        c->server = (struct psock){.fd = -1};
    }
    pthread_mutex_unlock(&v1->mutex);
    psock_close(&c->server);
}

int v1_ask_raw(struct v1_call *c, unsigned type, const ProtobufCMessage *request,
               unsigned answer_type, struct frame_header *frame, struct co_buf *body)
{
    int rc = c->server.fd >= 0 ? 0 : reach_server(c);
    return rc ? rc : ask(&c->server, type, request, answer_type, V1_ANSWER_MS, frame, body);
}

int v1_ask(struct v1_call *c, unsigned type, const ProtobufCMessage *request, unsigned answer_type,
           const ProtobufCMessageDescriptor *answer, void *out)
{
    struct frame_header frame;
    struct co_buf body = {0};
    int rc = v1_ask_raw(c, type, request, answer_type, &frame, &body);
    if (!rc && out)
        rc = unpack(answer, &frame, &body, out);
    co_buf_free(&body);
    return rc;
}

int v1_ask_keeper(const struct v1_call *c, const Corallite__Safekeeper *keeper,
                  Corallite__NodeStatus **out)
{
    struct frame_header frame;
    struct co_buf body = {0};
    struct psock s;
    int rc = connect_to(c->v1, keeper->host ? keeper->host : "", (uint16_t)keeper->port, keeper,
                        KEEPER_MS, &s);
    if (rc)
        return rc;
    rc = ask(&s, FRAME_NODE_STATUS, NULL, FRAME_NODE_STATUS_OK, KEEPER_MS, &frame, &body);
    if (!rc)
        rc = unpack(&corallite__node_status__descriptor, &frame, &body, out);
    co_buf_free(&body);
    psock_close(&s);
    return rc;
}

/* -- Fields ------------------------------------------------------------------------------------ */

const char *v1_text(const struct v1_call *c, const char *name)
{
    return json_string_value(json_object_get(c->body, name));
}

int v1_take_id(const struct v1_call *c, struct co_id *out)
{
    const char *text = v1_text(c, "id");
    *out = co_id_random();
    if (!text)
        return 0;
    if (co_id_parse(text, out) || co_id_is_zero(out))
        return co_fail(CO_ERR_INVAL,
                       "\"id\" is to be 32 hex digits that you choose (not all 0), so that the "
                       "same request sent again makes nothing twice");
    return 0;
}

/* -- The service ------------------------------------------------------------------------------- */

static int v1_openapi(struct v1_call *c)
{
    struct co_buf text = {0};
    int rc = co_buf_append(&text, v1_openapi_json, (size_t)(v1_openapi_json_end - v1_openapi_json));
    if (!rc)
        v1_reply_text(c, 200, &text);
    return rc;
}

static v1_run *const runs[V1_N] = {
    [V1_OPENAPI] = v1_openapi,
    [V1_STATUS] = v1_status,
    [V1_DATABASES] = v1_databases,
    [V1_DATABASE_CREATE] = v1_database_create,
    [V1_DATABASE] = v1_database,
    [V1_DATABASE_DROP] = v1_database_drop,
    [V1_BRANCHES] = v1_branches,
    [V1_BRANCH_CREATE] = v1_branch_create,
    [V1_BRANCH] = v1_branch,
    [V1_BRANCH_CHANGE] = v1_branch_change,
    [V1_BRANCH_DROP] = v1_branch_drop,
    [V1_RESTORE] = v1_restore,
    [V1_MOMENT] = v1_moment,
    [V1_LOG] = v1_log,
    [V1_CHANGES] = v1_changes,
    [V1_EXPORT] = v1_export,
    [V1_PINS] = v1_pins,
    [V1_PIN_CREATE] = v1_pin_create,
    [V1_PIN] = v1_pin,
    [V1_PIN_DROP] = v1_pin_drop,
};

/* A form of a web page can post text, never application/json without asking first, and that is
 * refused. DELETE it cannot send at all; so without a body it needs no type. */
static unsigned check_type(const struct v1_call *c, const struct co_http_request *r)
{
    const char *method = c->route->method;
    if (strcmp(method, "GET") == 0 && r->body.len) {
        co_fail(CO_ERR_INVAL, "%s takes no body", r->method);
        return 400;
    }
    bool typed = r->body.len || strcmp(method, "POST") == 0 || strcmp(method, "PATCH") == 0;
    if (!typed || co_http_is_json(r->content_type))
        return 0;
    co_fail(CO_ERR_INVAL, "%s here takes Content-Type: application/json; there is %s", method,
            r->content_type ? "another" : "none");
    return 415;
}

static int take_body(struct v1_call *c, const struct co_http_request *r)
{
    bool takes = strcmp(c->route->method, "POST") == 0 || strcmp(c->route->method, "PATCH") == 0;
    return takes || r->body.len ? v1_body(c->route, r->body, &c->body) : 0;
}

static void serve(void *owner, const struct co_http_request *request, struct co_http_answer *answer)
{
    struct v1_call c = {.v1 = owner, .answer = answer, .server = {.fd = -1}};
    char allow[64];
    int rc = v1_match(request, &c.m, allow);
    if (rc == CO_ERR_READONLY) {
        co_http_header(answer, "Allow", allow);
        reply_error(answer, 405, "METHOD_NOT_ALLOWED", co_sentence());
        return;
    }
    if (!rc)
        c.route = &v1_routes[c.m.what];
    unsigned status = rc ? v1_status_of(rc) : check_type(&c, request);
    if (status) {
        reply_error(answer, status,
                    status == 415 ? "MEDIA_TYPE" : co_error_name(rc ? rc : CO_ERR_INVAL),
                    co_sentence());
        return;
    }
    rc = take_body(&c, request);
    if (!rc)
        rc = runs[c.m.what](&c);
    if (rc)
        reply_error(answer, v1_status_of(rc), co_error_name(rc), co_sentence());
    json_decref(c.body);
    leave_server(&c);
}

void v1_close(struct ps_v1 *v1)
{
    while (v1->n_idle)
        psock_close(&v1->idle[--v1->n_idle]);
    pthread_mutex_destroy(&v1->mutex);
}

void v1_service(struct ps_v1 *v1, struct co_http_service *out)
{
    pthread_mutex_init(&v1->mutex, NULL);
    v1->n_idle = 0;
    *out = (struct co_http_service){.prefix = "/v1",
                                    .body_max = BODY_MAX,
                                    .workers = V1_WORKERS,
                                    .waiting = WAITING,
                                    .streams = STREAMS,
                                    .owner = v1,
                                    .serve = serve,
                                    .refuse = refuse};
}
