#include "safekeeper/store_uv.h"

#include <stdlib.h>
#include <stdio.h>
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "common/assert.h"
#include "common/metrics.h"

#define LARGE_ROUND_BYTES (64 * CO_KIB)
/* Under load idle work of other timelines is not put off for longer. */
#define TEND_EVERY_NS 1000000000ull

struct sk_stored {
    struct sk_store *store;
    struct sk_files *files;
    void (*flushed)(void *owner, lsn_t lsn, uint64_t staged);
    void *owner;
    /* store thread */
    bool dirty;           /* appended to in this round */
    bool tending;         /* in the list of those that idle work is looked for */
    uint64_t round_bytes; /* appended in this round */
    struct sk_stored *next_dirty, *next_tended;
    /* under the mutex */
    bool noted;
    lsn_t note_lsn;
    uint64_t note_staged;
    struct sk_stored *next_noted;
    struct sk_job detach;
};

struct job_list {
    struct sk_job *head, **tail;
};

struct sk_store {
    uv_async_t async;
    struct sk_store_events events;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    /* under the mutex */
    struct job_list todo, done;
    struct sk_stored *noted;
    bool stop, failed;
    char sentence[CO_SENTENCE_MAX];
    /* loop thread */
    bool failure_told;
    /* store thread */
    struct sk_stored *dirty, *tended;
};

static struct co_metric m_records = {.name = "corallite_safekeeper_records_total",
                                     .help = "Records appended to logs.",
                                     .kind = CO_COUNTER};
static struct co_metric m_bytes = {.name = "corallite_safekeeper_log_bytes_total",
                                   .help = "Bytes appended to logs.",
                                   .kind = CO_COUNTER};
static struct co_metric m_appends = {.name = "corallite_safekeeper_appends_total",
                                     .help = "Appends; divided by syncs: appends per sync.",
                                     .kind = CO_COUNTER};
static struct co_metric m_syncs = {.name = "corallite_safekeeper_syncs_total",
                                   .help = "Syncs of logs on the commit path.",
                                   .kind = CO_COUNTER};
static struct co_histogram m_sync_time =
    CO_HISTOGRAM_OF("corallite_safekeeper_sync_duration_seconds",
                    "How long syncs of logs on the commit path took.");
static struct co_metric m_sync_max = {.name = "corallite_safekeeper_sync_max_seconds",
                                      .help = "Longest sync of a log since start.",
                                      .kind = CO_GAUGE,
                                      .micros = true};
static struct co_metric m_control = {.name = "corallite_safekeeper_control_writes_total",
                                     .help = "Votes, terms and histories made durable.",
                                     .kind = CO_COUNTER};

void sk_store_register_metrics(void)
{
    struct co_metric *all[] = {&m_records,          &m_bytes,    &m_appends, &m_syncs,
                               &m_sync_time.metric, &m_sync_max, &m_control};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        co_metric_register(all[i]);
}

void sk_store_count(uint64_t *records, uint64_t *syncs, uint64_t *bytes)
{
    *records = co_metric_get(&m_records);
    *syncs = co_metric_get(&m_syncs);
    *bytes = co_metric_get(&m_bytes);
}

static void push(struct job_list *list, struct sk_job *job)
{
    job->next = NULL;
    *list->tail = job;
    list->tail = &job->next;
}

static struct sk_job *take_all(struct job_list *list)
{
    struct sk_job *head = list->head;
    list->head = NULL;
    list->tail = &list->head;
    return head;
}

/* -- Store thread: reporting ------------------------------------------------------------------ */

static void fail_store(struct sk_store *s)
{
    pthread_mutex_lock(&s->mutex);
    s->failed = true;
    snprintf(s->sentence, sizeof s->sentence, "%s", co_sentence());
    pthread_mutex_unlock(&s->mutex);
    uv_async_send(&s->async);
}

/* Nobody waits for an APPEND: its end is told with the sync of its round, which comes in any case.
 */
static void report(struct sk_store *s, struct sk_job *job)
{
    bool awaited = job->kind != SK_JOB_APPEND;
    if (job->rc)
        snprintf(job->sentence, sizeof job->sentence, "%s", co_sentence());
    pthread_mutex_lock(&s->mutex);
    push(&s->done, job);
    pthread_mutex_unlock(&s->mutex);
    if (awaited)
        uv_async_send(&s->async);
}

static void note_flushed(struct sk_stored *t)
{
    struct sk_store *s = t->store;
    pthread_mutex_lock(&s->mutex);
    t->note_lsn = t->files->log.flushed_lsn;
    t->note_staged = t->files->log.staged_flushed;
    if (!t->noted) {
        t->noted = true;
        t->next_noted = s->noted;
        s->noted = t;
    }
    pthread_mutex_unlock(&s->mutex);
    uv_async_send(&s->async);
}

/* -- Store thread: work ----------------------------------------------------------------------- */

static void tend(struct sk_stored *t)
{
    if (t->tending || !sk_files_wants_idle(t->files))
        return;
    t->tending = true;
    t->next_tended = t->store->tended;
    t->store->tended = t;
}

static bool all_flushed(const struct sk_log *log)
{
    return log->flushed_lsn == log->end_lsn && log->staged_flushed == log->staged;
}

static int sync_log(struct sk_stored *t)
{
    struct sk_log *log = &t->files->log;
    if (all_flushed(log))
        return 0;
    uint64_t before = uv_hrtime(), syncs = log->segments.syncs;
    int rc = sk_log_sync(log);
    uint64_t us = (uv_hrtime() - before) / 1000;
    co_metric_add(&m_syncs, log->segments.syncs - syncs);
    co_histogram_add(&m_sync_time, us);
    if (us > co_metric_get(&m_sync_max))
        co_metric_set(&m_sync_max, us);
    if (!rc && sk_files_seal_lags(t->files))
        rc = sk_files_seal(t->files);
    return rc;
}

static int append(struct sk_stored *t, const struct sk_job *job)
{
    struct sk_log *log = &t->files->log;
    uint64_t records = log->records;
    int rc = job->fragment ? sk_log_stage(log, job->lsn, job->fragment_at, job->bytes,
                                          job->whole ? &job->record : NULL)
                           : sk_log_append(log, job->lsn, job->bytes);
    co_metric_add(&m_records, log->records - records);
    co_metric_add(&m_bytes, job->bytes.len);
    co_metric_add(&m_appends, 1);
    t->round_bytes += job->bytes.len;
    if (!rc && !t->dirty) {
        t->dirty = true;
        t->next_dirty = t->store->dirty;
        t->store->dirty = t;
    }
    return rc;
}

static int truncate_log(struct sk_stored *t, struct sk_job *job)
{
    int rc = sk_files_truncate(t->files, job->lsn);
    /* Q2: a note that was not picked up yet must not speak of what is gone. */
    pthread_mutex_lock(&t->store->mutex);
    if (t->note_lsn > job->lsn)
        t->note_lsn = job->lsn;
    t->note_staged = 0;
    pthread_mutex_unlock(&t->store->mutex);
    return rc ? rc : sk_log_at(&t->files->log, job->lsn, &job->out_digest, &job->out_config);
}

/* Errors of it end the service; those of a READ or CALL are the job's. */
static int carry_out(struct sk_job *job)
{
    struct sk_stored *t = job->timeline;
    int rc = 0;
    switch (job->kind) {
    case SK_JOB_APPEND:
        return append(t, job);
    case SK_JOB_FLUSH:
        rc = sync_log(t);
        job->out_lsn = t->files->log.flushed_lsn;
        return rc;
    case SK_JOB_TRUNCATE:
        return truncate_log(t, job);
    case SK_JOB_PERSIST:
        co_metric_add(&m_control, 1);
        return sk_files_persist(t->files, job->durable, job->history_changed, job->lsn);
    case SK_JOB_HALT:
        return sk_files_halt(t->files, job->reason);
    case SK_JOB_SETTLE:
        return sk_files_settle(t->files);
    case SK_JOB_READ:
        job->rc = sk_log_read(&t->files->log, job->lsn, job->fragment_at, job->to_lsn,
                              job->max_bytes, &job->out, &job->out_part);
        return 0;
    case SK_JOB_CALL:
        job->rc = job->call(job);
        return 0;
    }
    return 0;
}

static int sync_dirty(struct sk_store *s)
{
    while (s->dirty) {
        struct sk_stored *t = s->dirty;
        s->dirty = t->next_dirty;
        t->dirty = false;
        uint64_t bytes = t->round_bytes;
        t->round_bytes = 0;
        if (all_flushed(&t->files->log)) {
            note_flushed(t); /* a FLUSH or TRUNCATE of this round did it */
            continue;
        }
        int rc = sync_log(t);
        if (rc)
            return rc;
        note_flushed(t);
        tend(t);
        /* A busy log of small commits has no idle time: zeros are put ahead of it after the answer.
         * In large appends the file system's share is small and a second write of all bytes is not.
         */
        if (bytes < LARGE_ROUND_BYTES)
            rc = sk_files_keep_ahead(t->files);
        if (rc)
            return rc;
    }
    return 0;
}

static void forget_tended(struct sk_store *s, struct sk_stored *gone)
{
    for (struct sk_stored **p = &s->tended; *p; p = &(*p)->next_tended)
        if (*p == gone) {
            *p = gone->next_tended;
            break;
        }
    gone->tending = false;
}

static int close_files(struct sk_job *job)
{
    struct sk_stored *t = job->owner;
    forget_tended(t->store, t);
    for (struct sk_stored **p = &t->store->dirty; *p; p = &(*p)->next_dirty)
        if (*p == t) {
            *p = t->next_dirty;
            break;
        }
    sk_files_close(t->files);
    t->files = NULL;
    return 0;
}

static int round_of(struct sk_store *s, struct sk_job *job)
{
    while (job) {
        struct sk_job *next = job->next;
        struct sk_stored *t = job->timeline;
        job->rc = 0;
        int rc = carry_out(job);
        if (rc)
            return rc;
        if (t)
            tend(t);
        report(s, job);
        job = next;
    }
    return sync_dirty(s);
}

/* One step of idle work, then the next timeline's turn; *more: there is another. */
static int idle_step(struct sk_store *s, bool *more)
{
    struct sk_stored *t = s->tended, **tail = &s->tended;
    *more = false;
    if (!t)
        return 0;
    bool again = false;
    int rc = sk_files_idle(t->files, &again);
    forget_tended(s, t);
    if (!rc && again) {
        while (*tail)
            tail = &(*tail)->next_tended;
        t->tending = true;
        t->next_tended = NULL;
        *tail = t;
    }
    *more = s->tended != NULL;
    return rc;
}

/* Waits for jobs, doing idle work when there are none for a while. NULL: stop. */
static struct sk_job *wait_for_jobs(struct sk_store *s, int *rc)
{
    struct sk_job *jobs = NULL;
    bool idle_now = false;
    *rc = 0;
    pthread_mutex_lock(&s->mutex);
    while (!(jobs = take_all(&s->todo)) && !s->stop && !*rc) {
        if (!s->tended) {
            pthread_cond_wait(&s->wake, &s->mutex);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += (idle_now ? 0 : STORE_IDLE_MS) * 1000000l;
        if (until.tv_nsec >= 1000000000l) {
            until.tv_nsec -= 1000000000l;
            until.tv_sec++;
        }
        if (pthread_cond_timedwait(&s->wake, &s->mutex, &until) != ETIMEDOUT)
            continue;
        pthread_mutex_unlock(&s->mutex);
        *rc = idle_step(s, &idle_now);
        pthread_mutex_lock(&s->mutex);
    }
    pthread_mutex_unlock(&s->mutex);
    return jobs;
}

static void *store_main(void *arg)
{
    struct sk_store *s = arg;
    uint64_t tended = uv_hrtime();
    for (;;) {
        int rc;
        struct sk_job *jobs = wait_for_jobs(s, &rc);
        if (!rc && !jobs)
            break;
        if (!rc)
            rc = round_of(s, jobs);
        if (!rc && uv_hrtime() - tended > TEND_EVERY_NS) {
            bool more;
            rc = idle_step(s, &more);
            tended = uv_hrtime();
        }
        if (rc) {
            fail_store(s);
            break;
        }
    }
    return NULL;
}

/* -- Loop thread ------------------------------------------------------------------------------ */

static void deliver(struct sk_store *s)
{
    pthread_mutex_lock(&s->mutex);
    struct sk_job *done = take_all(&s->done);
    struct sk_stored *noted = s->noted;
    s->noted = NULL;
    bool failed = s->failed && !s->failure_told;
    pthread_mutex_unlock(&s->mutex);
    if (failed) {
        s->failure_told = true;
        s->events.failed(s->events.owner, s->sentence);
    }
    while (noted) {
        struct sk_stored *t = noted;
        pthread_mutex_lock(&s->mutex);
        noted = t->next_noted;
        t->noted = false;
        lsn_t lsn = t->note_lsn;
        uint64_t staged = t->note_staged;
        pthread_mutex_unlock(&s->mutex);
        if (!s->failure_told && t->flushed)
            t->flushed(t->owner, lsn, staged);
    }
    while (done) {
        struct sk_job *job = done;
        done = job->next;
        job->done(job);
    }
}

static void on_async(uv_async_t *async)
{
    deliver(async->data);
}

int sk_store_new(uv_loop_t *loop, const struct sk_store_events *events, struct sk_store **out)
{
    struct sk_store *s = calloc(1, sizeof *s);
    if (!s)
        return co_fail(CO_ERR_NOMEM, "no memory for a store thread");
    s->events = *events;
    s->todo.tail = &s->todo.head;
    s->done.tail = &s->done.head;
    int rc = uv_async_init(loop, &s->async, on_async);
    if (rc) {
        free(s);
        return co_fail(CO_ERR_IO, "no wake-up for a store thread: %s", uv_strerror(rc));
    }
    s->async.data = s;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&s->mutex, NULL);
    int err = pthread_create(&s->thread, NULL, store_main, s);
    co_assert(err == 0); /* at start only */
    *out = s;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct sk_store *s = handle->data;
    pthread_mutex_destroy(&s->mutex);
    pthread_cond_destroy(&s->wake);
    free(s);
}

void sk_store_close(struct sk_store *s)
{
    pthread_mutex_lock(&s->mutex);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->mutex);
    pthread_join(s->thread, NULL);
    deliver(s);
    uv_close((uv_handle_t *)&s->async, on_closed);
}

int sk_store_attach(struct sk_store *s, struct sk_files *files,
                    void (*flushed)(void *owner, lsn_t lsn, uint64_t staged), void *owner,
                    struct sk_stored **out)
{
    struct sk_stored *t = calloc(1, sizeof *t);
    if (!t)
        return co_fail(CO_ERR_NOMEM, "no memory to open a timeline");
    t->store = s;
    t->files = files;
    t->flushed = flushed;
    t->owner = owner;
    *out = t;
    return 0;
}

static void on_detached(struct sk_job *job)
{
    struct sk_stored *t = job->owner;
    co_assert(!t->noted);
    free(t);
}

void sk_store_detach(struct sk_stored *t)
{
    t->flushed = NULL;
    t->detach =
        (struct sk_job){.kind = SK_JOB_CALL, .call = close_files, .done = on_detached, .owner = t};
    sk_store_submit(t->store, &t->detach);
}

void sk_store_hint_commit(struct sk_stored *t, lsn_t commit_lsn)
{
    atomic_store_explicit(&t->files->commit_hint, commit_lsn, memory_order_relaxed);
}

void sk_store_submit(struct sk_store *s, struct sk_job *job)
{
    pthread_mutex_lock(&s->mutex);
    push(&s->todo, job);
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->mutex);
}
