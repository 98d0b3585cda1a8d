#include "pageserver/writer_uv.h"

#include <stdlib.h>

#include "common/assert.h"
#include "pageserver/metrics.h"

struct queue {
    struct ps_job *first, **last;
};

struct ps_writer {
    uv_thread_t thread;
    uv_async_t async;
    uv_mutex_t mutex; /* the rest */
    uv_cond_t cond;
    struct queue todo, finished;
    bool stop;
    struct ps_txn *txn; /* the thread's */
};

static void put(struct queue *q, struct ps_job *job)
{
    if (!q->first)
        q->last = &q->first;
    job->next = NULL;
    *q->last = job;
    q->last = &job->next;
}

static struct ps_job *take_all(struct queue *q)
{
    struct ps_job *all = q->first;
    q->first = NULL;
    return all;
}

static void run_job(struct ps_writer *w, struct ps_job *job)
{
    uint64_t begun = uv_hrtime();
    job->rc = job->run(job, w->txn);
    co_histogram_add(&ps_m_write_time, (uv_hrtime() - begun) / 1000);
    job->why[0] = 0;
    if (job->rc)
        memcpy(job->why, co_sentence(), strlen(co_sentence()) + 1);
}

static void thread_main(void *arg)
{
    struct ps_writer *w = arg;
    uv_mutex_lock(&w->mutex);
    for (;;) {
        struct ps_job *job = w->todo.first;
        if (!job && w->stop)
            break;
        if (!job) {
            uv_cond_wait(&w->cond, &w->mutex);
            continue;
        }
        w->todo.first = job->next;
        uv_mutex_unlock(&w->mutex);
        run_job(w, job);
        uv_mutex_lock(&w->mutex);
        put(&w->finished, job);
        uv_async_send(&w->async);
    }
    uv_mutex_unlock(&w->mutex);
}

static void finish(struct ps_writer *w)
{
    uv_mutex_lock(&w->mutex);
    struct ps_job *job = take_all(&w->finished), *next;
    uv_mutex_unlock(&w->mutex);
    for (; job; job = next) {
        next = job->next;
        job->done(job);
    }
}

static void on_async(uv_async_t *async)
{
    finish(async->data);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

int ps_writer_start(uv_loop_t *loop, struct ps_store *store, struct ps_writer **out)
{
    struct ps_writer *w = calloc(1, sizeof *w);
    if (!w)
        return co_fail(CO_ERR_NOMEM, "no memory for the writer");
    int rc = ps_write_new(store, &w->txn);
    if (rc) {
        free(w);
        return rc;
    }
    w->async.data = w;
    rc = uv_mutex_init(&w->mutex);
    co_assert(rc == 0);
    rc = uv_cond_init(&w->cond);
    co_assert(rc == 0);
    rc = uv_async_init(loop, &w->async, on_async);
    co_assert(rc == 0);
    rc = uv_thread_create(&w->thread, thread_main, w);
    if (rc) {
        ps_write_free(w->txn);
        uv_close((uv_handle_t *)&w->async, on_closed);
        return co_fail(CO_ERR_NOMEM, "the writer's thread cannot be made: %s", uv_strerror(rc));
    }
    *out = w;
    return 0;
}

void ps_writer_give(struct ps_writer *w, struct ps_job *job)
{
    uv_mutex_lock(&w->mutex);
    put(&w->todo, job);
    uv_cond_signal(&w->cond);
    uv_mutex_unlock(&w->mutex);
}

void ps_writer_stop(struct ps_writer *w)
{
    if (!w)
        return;
    uv_mutex_lock(&w->mutex);
    w->stop = true;
    uv_cond_signal(&w->cond);
    uv_mutex_unlock(&w->mutex);
    uv_thread_join(&w->thread);
    finish(w);
    ps_write_free(w->txn);
    uv_cond_destroy(&w->cond);
    uv_mutex_destroy(&w->mutex);
    uv_close((uv_handle_t *)&w->async, on_closed);
}
