/* timeline_life_uv.c - a timeline's shell from opening to closing. */
#include "safekeeper/timeline.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/mutation.h"
#include "proto/qhist.h"

static struct co_metric m_halted = {.name = "corallite_safekeeper_halted_timelines",
                                    .help = "Timelines that are not served because of damage.",
                                    .kind = CO_GAUGE};

void sk_timeline_register_metrics(void)
{
    co_metric_register(&m_halted);
    sk_register_shell_metrics();
    sk_register_stream_metrics();
}

void sk_become_halted(struct sk_timeline *t, int code, const char *sentence)
{
    char id[CO_ID_TEXT];
    snprintf(t->refusal, sizeof t->refusal, "timeline %s is halted on node %u: %s",
             co_id_format(&t->birth.owner.timeline, id), t->birth.owner.node, sentence);
    t->refuse_code = code;
    t->state = SK_HALTED;
    t->counted = true;
    co_metric_set(&m_halted, co_metric_get(&m_halted) + 1);
    co_error("safekeeper/timeline", "%s", t->refusal);
    sk_refuse_queue(t);
    sk_end_streams(t, code, t->refusal);
}

/* Has a configuration in the log named this node, and the last one does not? */
static bool has_left(const struct sk_timeline *t, const struct sk_files *files)
{
    const struct sk_log *log = &files->log;
    const struct sk_base *base = &files->control.base;
    const struct wal_config *before = base->lsn ? &base->config : &t->birth_config;
    bool left = base->left;
    for (uint32_t i = 0; i < log->n_configs; i++) {
        left = q_left(left, before, &log->configs[i].config, t->birth.owner.node);
        before = &log->configs[i].config;
    }
    return left;
}

static int start_acceptor(struct sk_timeline *t, struct sk_files *files)
{
    struct sk_boot boot = {
        .cluster = t->birth.owner.cluster,
        .timeline = t->birth.owner.timeline,
        .durable = {.term =
                        files->control.term > t->birth.term ? files->control.term : t->birth.term,
                    .voted_nonce = files->control.voted_nonce,
                    .commit_lsn = files->control.commit_lsn,
                    .no_lease = files->control.no_lease,
                    .floor_lsn = files->control.floor_lsn,
                    .base = files->control.base,
                    .suspect_lsn = files->control.suspect_lsn,
                    .suspect_term = files->control.suspect_term,
                    .history = files->history,
                    .n_history = files->n_history},
        .start_lsn = t->birth.start_lsn,
        .start_digest = t->birth.start_digest,
        .flush_lsn = files->log.flushed_lsn,
        .digest = files->log.end_digest,
        .config = files->log.n_configs      ? files->log.configs[files->log.n_configs - 1].config
                  : files->control.base.lsn ? files->control.base.config
                                            : t->birth_config,
        .node = t->birth.owner.node,
        .left = has_left(t, files),
        .now_us = t->quiet_us,
        .lease_us = CO_LEASE_US,
        .starts = t->host.lives ? t->host.lives->starts : 0,
        .start_id = t->host.lives ? t->host.lives->start_id : 0,
        .known = {co_mutated(WITNESS_UNREAD) ? 0 : files->witness.n, files->witness.known},
    };
    return sk_acceptor_new(&boot, &t->acceptor);
}

/* The files were read: t->files, or job->rc. */
static void take_files(struct sk_timeline *t, int rc, const char *sentence)
{
    struct sk_files *files = t->files;
    t->files = NULL;
    t->state = SK_SERVING;
    if (!rc && files->control.halted[0]) {
        rc = CO_ERR_HALTED;
        sentence = files->control.halted;
    } else if (!rc) {
        rc = start_acceptor(t, files);
        sentence = co_sentence();
    }
    if (!rc) {
        rc = sk_store_attach(t->store, files, sk_on_flushed, t, &t->stored);
        sentence = co_sentence();
    }
    if (rc) {
        /* To who asks, files of another node are damage of this one's. */
        sk_become_halted(t, rc == CO_ERR_NODE ? CO_ERR_CORRUPT : rc, sentence);
        sk_files_close(files);
    }
    t->host.opened(t->host.owner, t);
}

static int open_call(struct sk_job *job)
{
    struct sk_timeline *t = job->owner;
    return sk_files_open(t->host.data_dir, &t->birth, &t->files);
}

static void on_opened(struct sk_job *job)
{
    struct sk_timeline *t = job->owner;
    t->asleep = false;
    if (job->rc == CO_ERR_IO) /* as at a start: a disk that fails is not believed any further */
        t->host.failed(t->host.owner, job->rc, job->sentence);
    take_files(t, job->rc, job->sentence);
    sk_pump(t);
    sk_finish_close(t);
}

static void init_timers(struct sk_timeline *t)
{
    uv_timer_init(t->host.loop, &t->timer);
    uv_timer_init(t->host.loop, &t->stream_timer);
    t->timer.data = t->stream_timer.data = t;
    t->handles = 2;
}

static struct sk_timeline *make(const struct sk_host *host, const struct sk_birth *birth)
{
    struct sk_timeline *t = calloc(1, sizeof *t);
    if (!t) {
        (void)co_fail(CO_ERR_NOMEM, "no memory to open a timeline");
        return NULL;
    }
    t->host = *host;
    t->birth = *birth;
    t->tail = &t->head;
    t->used_us = co_now_us();
    init_timers(t);
    return t;
}

int sk_timeline_new_damaged(const struct sk_host *host, const struct sk_birth *birth,
                            const char *sentence, struct sk_timeline **out)
{
    struct sk_timeline *t = *out = make(host, birth);
    if (!t)
        return CO_ERR_NOMEM;
    sk_become_halted(t, CO_ERR_CORRUPT, sentence);
    t->host.opened(t->host.owner, t);
    return 0;
}

int sk_timeline_new(const struct sk_host *host, struct sk_store *store,
                    const struct sk_birth *birth, const struct wal_config *birth_config,
                    struct sk_files *files, uint64_t quiet_us, struct sk_timeline **out)
{
    struct sk_timeline *t = *out = make(host, birth);
    if (!t) {
        sk_files_close(files);
        return CO_ERR_NOMEM;
    }
    t->store = store;
    t->birth_config = *birth_config;
    t->quiet_us = quiet_us;
    if (files) {
        t->files = files;
        take_files(t, 0, "");
        return 0;
    }
    t->asleep = true;
    t->job = (struct sk_job){.kind = SK_JOB_CALL, .call = open_call, .done = on_opened, .owner = t};
    sk_store_submit(store, &t->job);
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct sk_timeline *t = handle->data;
    if (--t->handles)
        return;
    if (t->counted)
        co_metric_set(&m_halted, co_metric_get(&m_halted) - 1);
    sk_recent_clear(&t->recent);
    sk_message_drop(t->current);
    t->host.closed(t->host.owner, t);
    sk_actions_free(&t->actions);
    sk_acceptor_free(t->acceptor);
    free(t);
}

static void on_settled(struct sk_job *job)
{
    struct sk_timeline *t = job->owner;
    t->asleep = false;
    t->settled = true;
    sk_finish_close(t);
}

void sk_finish_close(struct sk_timeline *t)
{
    if (!t->closing || t->asleep || t->jobs || t->pumping || t->state == SK_CLOSING ||
        (!t->refuse_code && (t->head || t->truncated || t->at < t->actions.n)))
        return;
    if (!t->settled && t->stored && t->state == SK_SERVING) {
        t->asleep = true;
        t->job = (struct sk_job){
            .kind = SK_JOB_SETTLE, .timeline = t->stored, .done = on_settled, .owner = t};
        sk_store_submit(t->store, &t->job);
        return;
    }
    if (t->state == SK_HALTED)
        co_metric_set(&m_halted, co_metric_get(&m_halted) - 1);
    t->state = SK_CLOSING;
    sk_refuse_queue(t);
    if (t->stored)
        sk_store_detach(t->stored);
    t->stored = NULL;
    uv_close((uv_handle_t *)&t->timer, on_handle_closed);
    uv_close((uv_handle_t *)&t->stream_timer, on_handle_closed);
}

void sk_timeline_close(struct sk_timeline *t)
{
    if (t->closing)
        return;
    struct sk_queued q = {.kind = SK_EV_SHUTDOWN};
    if (!t->refuse_code && t->state != SK_HALTED && sk_enqueue(t, &q))
        sk_lost_event(t);
    sk_end_streams(t, 0, "");
    t->closing = true;
    sk_pump(t);
    sk_finish_close(t);
}

void sk_timeline_refuse(struct sk_timeline *t, int code, const char *sentence)
{
    if (t->refuse_code)
        return;
    snprintf(t->refusal, sizeof t->refusal, "%s", sentence);
    t->refuse_code = code;
    sk_refuse_queue(t);
    sk_end_streams(t, code, sentence);
}

void sk_timeline_rest(struct sk_timeline *t, uint64_t now_us)
{
    if (now_us - t->used_us > SK_IDLE_RELEASE_US && !t->asleep && !t->jobs)
        sk_recent_clear(&t->recent);
}

bool sk_timeline_idle(const struct sk_timeline *t, uint64_t now_us, uint64_t idle_us)
{
    struct sk_view v;
    if (t->state != SK_SERVING || t->refuse_code || t->closing || t->asleep || t->pumping ||
        t->jobs || t->head || t->truncated || t->flushed_lsn || t->timer_due || t->trim_due ||
        t->streams || t->at < t->actions.n || now_us - t->used_us < idle_us)
        return false;
    sk_view(t->acceptor, now_us, &v);
    return !v.lease_held && !v.waiters && !v.staged;
}

uint64_t sk_timeline_used_us(const struct sk_timeline *t)
{
    return t->used_us;
}

bool sk_timeline_closing(const struct sk_timeline *t)
{
    return t->closing && !t->refuse_code;
}

enum sk_timeline_state sk_timeline_state(const struct sk_timeline *t)
{
    return t->state;
}

const struct co_id *sk_timeline_id(const struct sk_timeline *t)
{
    return &t->birth.owner.timeline;
}

bool sk_timeline_view(const struct sk_timeline *t, struct sk_view *out)
{
    if (!t->acceptor)
        return false;
    sk_view(t->acceptor, co_now_us(), out);
    return true;
}

const char *sk_timeline_refusal(const struct sk_timeline *t)
{
    return t->counted ? t->refusal : "";
}

void sk_timeline_count(const struct sk_timeline *t, uint64_t *bytes_in, uint64_t *records)
{
    *bytes_in = t->bytes_in;
    *records = t->records;
}
