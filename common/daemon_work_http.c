/* daemon_work_http.c - the workers of a service, and what they call: reply, stream, write, abort.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/daemon_int_http.h"

void http_call_drop(struct co_http_answer *call)
{
    struct co_http *http = call->http;
    pthread_mutex_lock(&http->mutex);
    bool last = --call->refs == 0;
    pthread_mutex_unlock(&http->mutex);
    if (!last)
        return;
    pthread_mutex_destroy(&call->mutex);
    pthread_cond_destroy(&call->cond);
    co_buf_free(&call->names);
    co_buf_free(&call->body);
    co_buf_free(&call->reply);
    co_buf_free(&call->sending);
    co_buf_free(&call->waiting);
    free(call);
}

/* -- What a service calls ---------------------------------------------------------------------- */

void co_http_header(struct co_http_answer *call, const char *name, const char *value)
{
    co_assert(call->n_headers < HTTP_HEADERS_MAX);
    snprintf(call->header[call->n_headers][0], sizeof call->header[0][0], "%s", name);
    snprintf(call->header[call->n_headers][1], sizeof call->header[0][1], "%s", value);
    call->n_headers++;
}

void co_http_reply(struct co_http_answer *call, unsigned status, const char *type,
                   struct co_buf *body)
{
    pthread_mutex_lock(&call->mutex);
    co_assert(!call->answered);
    call->answered = true;
    call->status = status;
    call->type = type;
    call->reply = *body;
    pthread_mutex_unlock(&call->mutex);
    *body = (struct co_buf){0};
}

static bool take_stream(struct co_http *http)
{
    pthread_mutex_lock(&http->mutex);
    bool free_one = http->n_streams < http->service.streams;
    http->n_streams += free_one;
    pthread_mutex_unlock(&http->mutex);
    return free_one;
}

int co_http_stream(struct co_http_answer *call, const char *type, uint64_t size)
{
    if (!take_stream(call->http))
        return co_fail(CO_ERR_AGAIN,
                       "%u answers of this kind are on their way, as many as there "
                       "may be at once; ask again later",
                       call->http->service.streams);
    pthread_mutex_lock(&call->mutex);
    co_assert(!call->answered);
    call->answered = call->streaming = true;
    call->status = MHD_HTTP_OK;
    call->type = type;
    call->size = size;
    call->suspended = true; /* it has been since the worker has the call */
    pthread_mutex_unlock(&call->mutex);
    return 0;
}

/* Holding the call's mutex: the client has taken the chunk before, or is gone. */
static void wait_for_room(struct co_http_answer *call)
{
    uint64_t late = co_now_us() + co_http_limits.send_ms * 1000;
    while (call->waiting.len && !call->canceled && !atomic_load(&call->http->stopping) &&
           co_now_us() < late) {
        struct timespec until;
        http_soon(&until);
        (void)pthread_cond_timedwait(&call->cond, &call->mutex, &until);
    }
    if (!call->waiting.len || call->canceled)
        return;
    call->canceled = call->failed = true; /* too slow. Not completed yet: the socket is there */
    shutdown(MHD_get_connection_info(call->c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd,
             SHUT_RDWR);
}

/* Holding the call's mutex: next_bytes has something to look at again. */
static void wake(struct co_http_answer *call)
{
    if (call->suspended)
        MHD_resume_connection(call->c);
    call->suspended = false;
}

int co_http_write(struct co_http_answer *call, struct co_buf *chunk)
{
    pthread_mutex_lock(&call->mutex);
    co_assert(call->streaming);
    if (call->head)
        call->canceled = true;
    wait_for_room(call);
    bool gone = call->canceled;
    if (!gone) {
        call->written += chunk->len;
        call->waiting = *chunk;
        *chunk = (struct co_buf){0};
    }
    wake(call);
    pthread_mutex_unlock(&call->mutex);
    return gone ? co_fail(CO_ERR_CANCELED, "the client did not take the answer") : 0;
}

void co_http_abort(struct co_http_answer *call)
{
    pthread_mutex_lock(&call->mutex);
    call->failed = true;
    wake(call);
    pthread_mutex_unlock(&call->mutex);
}

/* -- Workers ----------------------------------------------------------------------------------- */

bool http_work_give(struct co_http_answer *call)
{
    struct co_http *http = call->http;
    pthread_mutex_lock(&http->mutex);
    bool taken = !http->stopping && http->n_waiting < http->service.waiting;
    if (taken) {
        MHD_suspend_connection(call->c);
        call->refs++;
        call->next = NULL;
        *http->last = call;
        http->last = &call->next;
        http->n_waiting++;
        pthread_cond_signal(&http->cond);
    }
    pthread_mutex_unlock(&http->mutex);
    return taken;
}

static struct co_http_answer *take(struct co_http *http)
{
    pthread_mutex_lock(&http->mutex);
    while (!http->first && !http->stopping)
        pthread_cond_wait(&http->cond, &http->mutex);
    struct co_http_answer *call = http->first;
    if (call) {
        http->first = call->next;
        if (!http->first)
            http->last = &http->first;
        http->n_waiting--;
    }
    pthread_mutex_unlock(&http->mutex);
    return call;
}

/* serve has returned: the connection goes on with what there is. */
static void finish(struct co_http_answer *call)
{
    struct co_http *http = call->http;
    if (!call->answered)
        http->service.refuse(http->service.owner, 500, "the request was not answered", call);
    if (!call->streaming) {
        MHD_resume_connection(call->c);
        return;
    }
    pthread_mutex_lock(&http->mutex);
    http->n_streams--;
    pthread_mutex_unlock(&http->mutex);
    pthread_mutex_lock(&call->mutex);
    call->failed |= call->written < call->size;
    wake(call);
    pthread_mutex_unlock(&call->mutex);
}

static void *work(void *arg)
{
    struct co_http *http = arg;
    struct co_http_answer *call;
    while ((call = take(http))) {
        pthread_mutex_lock(&http->mutex);
        bool stopping = http->stopping;
        pthread_mutex_unlock(&http->mutex);
        if (stopping)
            http->service.refuse(http->service.owner, 503, "the daemon is stopping", call);
        else
            http->service.serve(http->service.owner, &call->request, call);
        finish(call);
        http_call_drop(call);
    }
    return NULL;
}

int http_work_start(struct co_http *http)
{
    http->last = &http->first;
    if (!http->has_service)
        return 0;
    http->threads = calloc(http->service.workers, sizeof *http->threads);
    if (!http->threads)
        return co_fail(CO_ERR_NOMEM, "no memory for the HTTP side");
    for (; http->n_threads < http->service.workers; http->n_threads++)
        if (pthread_create(&http->threads[http->n_threads], NULL, work, http) != 0)
            return co_fail(CO_ERR_NOMEM, "a thread of the HTTP side cannot be made");
    return 0;
}

/* Every worker returns what it has, so that no connection stays suspended. */
void http_work_stop(struct co_http *http)
{
    pthread_mutex_lock(&http->mutex);
    http->stopping = true;
    pthread_cond_broadcast(&http->cond);
    pthread_mutex_unlock(&http->mutex);
    for (unsigned i = 0; i < http->n_threads; i++)
        pthread_join(http->threads[i], NULL);
    free(http->threads);
}
