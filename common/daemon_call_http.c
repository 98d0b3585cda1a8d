/* daemon_call_http.c - a request of a service, on the HTTP thread: its parts are collected within
 * their bounds, it is handed to a worker, and what that replied is sent. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "common/clock_file.h"
#include "common/daemon_int_http.h"

/* A body that is too long is read on for so many times its bound, so that its sender hears why. */
#define DISCARD_FACTOR 16u

bool http_is_service(const struct co_http *http, const char *path)
{
    size_t n;
    if (!http->has_service)
        return false;
    n = strlen(http->service.prefix);
    return strncmp(path, http->service.prefix, n) == 0 && (path[n] == '/' || path[n] == 0);
}

/* -- What was asked ---------------------------------------------------------------------------- */

/* All texts of a request lie behind each other in `names`; until it is complete they are offsets,
 * for it moves when it grows. */
struct collector {
    struct co_http_answer *call;
    size_t at[2 * CO_HTTP_ARGS_MAX];
    bool failed;
};

static size_t keep(struct collector *k, const char *text)
{
    size_t at = k->call->names.len;
    if (co_buf_append(&k->call->names, text, strlen(text) + 1))
        k->failed = true;
    return at;
}

static enum MHD_Result take_arg(void *arg, enum MHD_ValueKind kind, const char *name,
                                const char *value)
{
    struct collector *k = arg;
    struct co_http_request *r = &k->call->request;
    (void)kind;
    if (r->n_args < CO_HTTP_ARGS_MAX) {
        k->at[2 * r->n_args] = keep(k, name ? name : "");
        k->at[2 * r->n_args + 1] = keep(k, value ? value : "");
    }
    r->n_args += r->n_args <= CO_HTTP_ARGS_MAX;
    return MHD_YES;
}

static bool collect(struct co_http_answer *call, const char *path, const char *method)
{
    struct collector k = {.call = call};
    struct co_http_request *r = &call->request;
    const char *type =
        MHD_lookup_connection_value(call->c, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
    size_t path_at = keep(&k, path), method_at = keep(&k, method);
    size_t type_at = type ? keep(&k, type) : 0;
    (void)MHD_get_connection_values(call->c, MHD_GET_ARGUMENT_KIND, take_arg, &k);
    if (k.failed)
        return false;
    const char *base = (const char *)call->names.data;
    r->path = base + path_at;
    r->method = base + method_at;
    r->content_type = type ? base + type_at : NULL;
    for (unsigned i = 0; i < r->n_args && i < CO_HTTP_ARGS_MAX; i++)
        r->args[i] = (struct co_http_arg){base + k.at[2 * i], base + k.at[2 * i + 1]};
    return true;
}

struct co_http_answer *http_call_new(struct co_http *http, struct MHD_Connection *c,
                                     const char *path, const char *method)
{
    struct co_http_answer *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->http = http;
    call->c = c;
    call->refs = 1;
    call->begun_us = co_now_us();
    call->head = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    pthread_mutex_init(&call->mutex, NULL);
    co_condition_init(&call->cond);
    if (collect(call, path, method))
        return call;
    http_call_drop(call);
    return NULL;
}

void http_call_completed(struct co_http_answer *call)
{
    pthread_mutex_lock(&call->mutex);
    call->canceled = true;
    if (call->answered)
        http_count(call->status, co_now_us() - call->begun_us);
    pthread_cond_signal(&call->cond);
    pthread_mutex_unlock(&call->mutex);
    http_call_drop(call);
}

/* -- What is answered -------------------------------------------------------------------------- */

/* libmicrohttpd wants bytes to send. */
static ssize_t next_bytes(void *arg, uint64_t pos, char *out, size_t max)
{
    struct co_http_answer *call = arg;
    ssize_t n = 0;
    (void)pos;
    pthread_mutex_lock(&call->mutex);
    if (call->sent == call->sending.len && call->waiting.len) {
        co_buf_free(&call->sending);
        call->sending = call->waiting;
        call->waiting = (struct co_buf){0};
        call->sent = 0;
        pthread_cond_signal(&call->cond);
    }
    if (call->sent < call->sending.len) {
        size_t left = call->sending.len - call->sent;
        n = (ssize_t)(left < max ? left : max);
        memcpy(out, call->sending.data + call->sent, (size_t)n);
        call->sent += (size_t)n;
    } else if (call->failed) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else {
        call->suspended = true; /* until the worker has more */
        MHD_suspend_connection(call->c);
    }
    pthread_mutex_unlock(&call->mutex);
    return n;
}

static struct MHD_Response *make_response(struct co_http_answer *call)
{
    struct MHD_Response *r;
    if (call->streaming)
        return MHD_create_response_from_callback(call->size, CO_HTTP_CHUNK_BYTES / 4, next_bytes,
                                                 call, NULL);
    r = MHD_create_response_from_buffer(call->reply.len, call->reply.data, MHD_RESPMEM_MUST_FREE);
    if (r)
        call->reply = (struct co_buf){0};
    return r;
}

/* last: the connection ends with this answer. */
static enum MHD_Result send_answer(struct co_http_answer *call, bool last)
{
    http_phase(call->http, call->c, call->streaming ? HTTP_STREAMING : HTTP_SENDING);
    struct MHD_Response *r = make_response(call);
    if (!r)
        return MHD_NO;
    if (call->type)
        (void)MHD_add_response_header(r, "Content-Type", call->type);
    (void)MHD_add_response_header(r, "Cache-Control", "no-store");
    (void)MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    for (unsigned i = 0; i < call->n_headers; i++)
        (void)MHD_add_response_header(r, call->header[i][0], call->header[i][1]);
    if (last)
        (void)MHD_add_response_header(r, "Connection", "close");
    enum MHD_Result queued = MHD_queue_response(call->c, call->status, r);
    MHD_destroy_response(r);
    return queued;
}

enum MHD_Result http_call_refuse(struct co_http_answer *call, unsigned status, const char *sentence,
                                 bool last)
{
    const struct co_http_service *s = &call->http->service;
    s->refuse(s->owner, status, sentence, call);
    return send_answer(call, last);
}

/* -- Parts ------------------------------------------------------------------------------------- */

static enum MHD_Result take_body(struct co_http_answer *call, const char *upload, size_t len)
{
    size_t max = call->http->service.body_max;
    if (!call->too_large && call->body.len + len <= max)
        return co_buf_append(&call->body, upload, len) ? MHD_NO : MHD_YES;
    call->too_large = true;
    call->discarded += len;
    return call->discarded > DISCARD_FACTOR * (uint64_t)max ? MHD_NO : MHD_YES;
}

static enum MHD_Result hand_over(struct co_http_answer *call)
{
    char sentence[200];
    if (call->too_large) {
        snprintf(sentence, sizeof sentence, "a body has at most %zu bytes; this one has more",
                 call->http->service.body_max);
        return http_call_refuse(call, MHD_HTTP_CONTENT_TOO_LARGE, sentence, true);
    }
    call->request.body = co_buf_span(&call->body);
    http_phase(call->http, call->c, HTTP_WORKING);
    if (http_work_give(call))
        return MHD_YES;
    return http_call_refuse(call, MHD_HTTP_SERVICE_UNAVAILABLE,
                            "too many requests wait already; try again in a second", false);
}

enum MHD_Result http_call_on(struct co_http_answer *call, const char *upload, size_t *upload_size)
{
    pthread_mutex_lock(&call->mutex);
    bool answered = call->answered;
    pthread_mutex_unlock(&call->mutex);
    if (answered)
        return send_answer(call, false);
    if (*upload_size) {
        enum MHD_Result taken = take_body(call, upload, *upload_size);
        *upload_size = 0;
        return taken;
    }
    return hand_over(call);
}
