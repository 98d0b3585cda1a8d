/*
 * store_round_uv.c - a round of the store: jobs in the order they came, one sync for what they
 * appended, reports; and idle work. Whoever has the files does it (store_uv.c).
 */
#include <stdio.h>

#include "common/assert.h"
#include "safekeeper/store_int.h"

/* A sync that took longer sends the next rounds to the store thread, until it has seen so many that
 * were short: the loop thread is not to wait for a slow disk. */
#define HERE_SYNC_US 5000u
#define WARY_ROUNDS  16u

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
struct co_metric sk_m_direct_rounds = {
    .name = "corallite_safekeeper_direct_rounds_total",
    .help = "Rounds of appends that the loop thread wrote and synced by itself.",
    .kind = CO_COUNTER};
static struct co_metric m_control = {.name = "corallite_safekeeper_control_writes_total",
                                     .help = "Votes, terms and histories made durable.",
                                     .kind = CO_COUNTER};

static struct co_metric m_dropped = {
    .name = "corallite_safekeeper_segments_dropped_total",
    .help = "Segments that went because the archive and every pageserver have them.",
    .kind = CO_COUNTER};

void sk_store_register_metrics(void)
{
    struct co_metric *all[] = {&m_records,          &m_bytes,    &m_appends,          &m_syncs,
                               &m_sync_time.metric, &m_sync_max, &sk_m_direct_rounds, &m_control,
                               &m_dropped};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        co_metric_register(all[i]);
}

uint64_t sk_store_dropped_bytes(void)
{
    return co_metric_get(&m_dropped) * sk_segment_bytes;
}

void sk_store_count(uint64_t *records, uint64_t *syncs, uint64_t *bytes)
{
    *records = co_metric_get(&m_records);
    *syncs = co_metric_get(&m_syncs);
    *bytes = co_metric_get(&m_bytes);
}

/* -- Reporting ------------------------------------------------------------------ */

/* Nobody waits for an APPEND: its end is told with the sync of its round, which comes in any case.
 */
static void report(struct sk_store *s, struct sk_job *job)
{
    bool awaited = job->kind != SK_JOB_APPEND;
    if (job->rc)
        snprintf(job->sentence, sizeof job->sentence, "%s", co_sentence());
    pthread_mutex_lock(&s->mutex);
    sk_jobs_push(&s->done, job);
    bool here = s->here;
    pthread_mutex_unlock(&s->mutex);
    if (awaited && !here)
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
    bool here = s->here;
    pthread_mutex_unlock(&s->mutex);
    if (!here)
        uv_async_send(&s->async);
}

/* -- Work ----------------------------------------------------------------------- */

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
    if (us > t->store->sync_us)
        t->store->sync_us = us;
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
    if (!rc)
        rc = sk_log_at(&t->files->log, job->lsn, &job->out_digest, &job->out_config);
    if (!rc && !job->out_config.version)
        job->out_config = t->files->control.base.config; /* none is kept: the one at the begin */
    return rc;
}

/* Where the log may begin, for the core to decide. */
static void find_trim_point(const struct sk_files *f, struct sk_job *job)
{
    struct sk_mark at;
    job->out_lsn = 0;
    if (!sk_log_trim_point(&f->log, job->lsn, &at))
        return;
    job->out_lsn = at.lsn;
    job->out_digest = at.digest;
    job->out_config = f->control.base.config;
    for (uint32_t i = 0; i < f->log.n_configs && f->log.configs[i].end_lsn <= at.lsn; i++)
        job->out_config = f->log.configs[i].config;
}

static int rebase(struct sk_stored *t, const struct sk_job *job)
{
    lsn_t end = t->files->log.end_lsn;
    uint64_t first = t->files->log.segments.first;
    int rc = sk_files_rebase(t->files, job->durable);
    if (!rc && t->files->log.end_lsn == end)
        co_metric_add(&m_dropped, t->files->log.segments.first - first);
    co_metric_add(&m_control, 1);
    return rc;
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
    case SK_JOB_REBASE:
        return rebase(t, job);
    case SK_JOB_TRIM:
        find_trim_point(t->files, job);
        return 0;
    case SK_JOB_WITNESS:
        return sk_files_witness(t->files, &job->known);
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
        if (bytes < SK_LARGE_ROUND_BYTES)
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

int sk_round_close_files(struct sk_job *job)
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

int sk_round(struct sk_store *s, struct sk_job *job)
{
    s->sync_us = 0;
    while (job) {
        struct sk_job *next = job->next;
        struct sk_stored *t = job->timeline;
        job->rc = 0;
        int rc = carry_out(job);
        if (rc) {
            s->undone = job;
            return rc;
        }
        if (t)
            tend(t);
        report(s, job);
        job = next;
    }
    int rc = sync_dirty(s);
    if (s->sync_us > HERE_SYNC_US)
        s->wary = WARY_ROUNDS;
    else if (s->wary > 0)
        s->wary--;
    return rc;
}

/* One step of idle work, then the next timeline's turn; *more: there is another. */
int sk_round_idle(struct sk_store *s, bool *more)
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
