#include "safekeeper/store_uv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "safekeeper/store_int.h"

/* Under load idle work of other timelines is not put off for longer. */
#define TEND_EVERY_NS 1000000000ull

static void fail_store(struct sk_store *s)
{
    pthread_mutex_lock(&s->mutex);
    s->failed = true;
    snprintf(s->sentence, sizeof s->sentence, "%s", co_sentence());
    pthread_mutex_unlock(&s->mutex);
    uv_async_send(&s->async);
}

/* -- Store thread ------------------------------------------------------------------------------ */

/* When idle work is due: after a while without rounds, wherever they were done, and under load once
 * in a longer while. */
static uint64_t idle_due_ns(const struct sk_store *s, uint64_t since_ns, bool idle_now)
{
    uint64_t quiet_ns = s->here_ns > since_ns ? s->here_ns : since_ns;
    uint64_t due_ns = quiet_ns + (idle_now ? 0 : STORE_IDLE_MS) * 1000000ull;
    uint64_t latest_ns = s->tended_ns + TEND_EVERY_NS;
    return due_ns < latest_ns ? due_ns : latest_ns;
}

/* Waits while there is nothing to do, at most until idle work is due. true: it is. Mutex held. */
static bool wait_idle(struct sk_store *s, uint64_t since_ns, bool idle_now)
{
    if (s->here || !s->tended) {
        s->dozing = true;
        pthread_cond_wait(&s->wake, &s->mutex);
        s->dozing = false;
        return false;
    }
    uint64_t due_ns = idle_due_ns(s, since_ns, idle_now);
    struct timespec until = {.tv_sec = (time_t)(due_ns / 1000000000u),
                             .tv_nsec = (long)(due_ns % 1000000000u)};
    if (uv_hrtime() < due_ns)
        pthread_cond_timedwait(&s->wake, &s->mutex, &until);
    return !s->here && s->tended && !s->todo.head && !s->stop &&
           uv_hrtime() >= idle_due_ns(s, since_ns, idle_now);
}

/* Waits for jobs, doing idle work when there are none for a while. NULL: stop. */
static struct sk_job *wait_for_jobs(struct sk_store *s, int *rc)
{
    struct sk_job *jobs = NULL;
    uint64_t since_ns = uv_hrtime();
    bool idle_now = false;
    *rc = 0;
    pthread_mutex_lock(&s->mutex);
    s->working = false;
    while (!s->failed && !(jobs = sk_jobs_take(&s->todo)) && !s->stop && !*rc) {
        if (!wait_idle(s, since_ns, idle_now))
            continue;
        s->working = true;
        pthread_mutex_unlock(&s->mutex);
        *rc = sk_round_idle(s, &idle_now);
        s->tended_ns = since_ns = uv_hrtime();
        pthread_mutex_lock(&s->mutex);
        s->working = false;
    }
    s->working = jobs != NULL;
    pthread_mutex_unlock(&s->mutex);
    return jobs;
}

static void *store_main(void *arg)
{
    struct sk_store *s = arg;
    for (;;) {
        int rc;
        struct sk_job *jobs = wait_for_jobs(s, &rc);
        if (!rc && !jobs)
            break;
        if (!rc)
            rc = sk_round(s, jobs);
        if (!rc && uv_hrtime() - s->tended_ns > TEND_EVERY_NS) {
            bool more;
            rc = sk_round_idle(s, &more);
            s->tended_ns = uv_hrtime();
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
    bool failed = s->failed && !s->failure_told;
    pthread_mutex_unlock(&s->mutex);
    if (failed) { /* a daemon ends in there, with everything still in its place */
        s->failure_told = true;
        s->events.failed(s->events.owner, s->sentence);
    }
    pthread_mutex_lock(&s->mutex);
    struct sk_job *done = sk_jobs_take(&s->done);
    struct sk_stored *noted = s->noted;
    s->noted = NULL;
    pthread_mutex_unlock(&s->mutex);
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
        s->in_hand--;
        job->done(job);
    }
}

static void on_async(uv_async_t *async)
{
    deliver(async->data);
}

static struct sk_job *take_gathered(struct sk_store *s)
{
    s->gathered_bytes = 0;
    s->hurried = false;
    uv_timer_stop(&s->unhurried);
    return sk_jobs_take(&s->gathered);
}

/* Gives what was gathered to the store thread. */
static void give(struct sk_store *s)
{
    struct sk_job *jobs = take_gathered(s);
    pthread_mutex_lock(&s->mutex);
    while (jobs) {
        struct sk_job *job = jobs;
        jobs = job->next;
        s->in_hand++;
        sk_jobs_push(&s->todo, job);
    }
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->mutex);
}

/* Nobody has anything in hand, on this store or another one of the loop. */
static bool all_quiet(const struct sk_store *s)
{
    if (s->in_hand > 0)
        return false;
    for (const struct sk_store *other = s->sibling; other != s; other = other->sibling)
        if (other->in_hand > 0 || other->gathered.head)
            return false;
    return true;
}

/* Appends to one timeline, whose files need nothing but a write and a sync. */
static bool is_plain(const struct sk_store *s)
{
    const struct sk_job *first = s->gathered.head;
    for (const struct sk_job *job = first; job; job = job->next)
        if (job->timeline != first->timeline)
            return false;
    const struct sk_files *files = first->timeline->files;
    return !sk_files_wants_ahead(files) && !sk_files_seal_lags(files);
}

/* Takes the files from the store thread, if it has nothing in hand. */
static bool borrow(struct sk_store *s)
{
    if (!all_quiet(s))
        return false;
    pthread_mutex_lock(&s->mutex);
    s->here = !s->working && !s->failed && !s->stop && s->wary == 0 && is_plain(s);
    bool here = s->here;
    pthread_mutex_unlock(&s->mutex);
    return here;
}

static void give_back(struct sk_store *s)
{
    pthread_mutex_lock(&s->mutex);
    s->here = false;
    s->here_ns = uv_hrtime();
    if (s->dozing && s->tended)
        pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->mutex);
}

/* The round of what came with one turn of the loop. Two threads' wake-ups cost as much as the sync
 * of a small append: when nothing else is going on, the loop thread writes and syncs by itself. */
static void turn(struct sk_store *s)
{
    if (!s->gathered.head || !s->hurried)
        return;
    if (!borrow(s)) {
        give(s);
        return;
    }
    struct sk_job *jobs = take_gathered(s);
    for (const struct sk_job *job = jobs; job; job = job->next)
        s->in_hand++;
    int rc = sk_round(s, jobs);
    if (rc)
        fail_store(s);
    co_metric_add(&sk_m_direct_rounds, 1);
    give_back(s);
    deliver(s);
}

static void on_after_poll(uv_check_t *check)
{
    turn(check->data);
}

/* Before the loop sleeps nothing may be left that somebody waits for and nobody has in hand. */
static void on_before_poll(uv_prepare_t *prepare)
{
    struct sk_store *s = prepare->data;
    turn(s);
    if (s->gathered.head && s->hurried)
        give(s);
}

/* To the store thread: the loop is to answer the next ones meanwhile. */
static void on_unhurried(uv_timer_t *timer)
{
    give(timer->data);
}

int sk_store_new(uv_loop_t *loop, const struct sk_store_events *events, struct sk_store *sibling,
                 struct sk_store **out)
{
    struct sk_store *s = calloc(1, sizeof *s);
    if (!s)
        return co_fail(CO_ERR_NOMEM, "no memory for a store thread");
    s->events = *events;
    s->todo.tail = &s->todo.head;
    s->done.tail = &s->done.head;
    s->gathered.tail = &s->gathered.head;
    s->tended_ns = uv_hrtime();
    int rc = uv_async_init(loop, &s->async, on_async);
    if (rc) {
        free(s);
        return co_fail(CO_ERR_IO, "no wake-up for a store thread: %s", uv_strerror(rc));
    }
    s->sibling = sibling ? sibling->sibling : s;
    if (sibling)
        sibling->sibling = s;
    uv_prepare_init(loop, &s->before_poll);
    uv_check_init(loop, &s->after_poll);
    uv_timer_init(loop, &s->unhurried);
    s->async.data = s->before_poll.data = s->after_poll.data = s->unhurried.data = s;
    uv_prepare_start(&s->before_poll, on_before_poll);
    uv_check_start(&s->after_poll, on_after_poll);
    s->handles = 4;
    co_condition_init(&s->wake);
    pthread_mutex_init(&s->mutex, NULL);
    int err = pthread_create(&s->thread, NULL, store_main, s);
    co_assert(err == 0); /* at start only */
    *out = s;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct sk_store *s = handle->data;
    if (--s->handles > 0)
        return;
    pthread_mutex_destroy(&s->mutex);
    pthread_cond_destroy(&s->wake);
    free(s);
}

void sk_store_close(struct sk_store *s)
{
    if (s->gathered.head)
        give(s);
    pthread_mutex_lock(&s->mutex);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->mutex);
    pthread_join(s->thread, NULL);
    deliver(s);
    struct sk_store *before = s->sibling;
    while (before->sibling != s)
        before = before->sibling;
    before->sibling = s->sibling;
    uv_close((uv_handle_t *)&s->async, on_closed);
    uv_close((uv_handle_t *)&s->before_poll, on_closed);
    uv_close((uv_handle_t *)&s->after_poll, on_closed);
    uv_close((uv_handle_t *)&s->unhurried, on_closed);
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
    t->detach = (struct sk_job){
        .kind = SK_JOB_CALL, .call = sk_round_close_files, .done = on_detached, .owner = t};
    sk_store_submit(t->store, &t->detach);
}

void sk_store_hint_commit(struct sk_stored *t, lsn_t commit_lsn)
{
    atomic_store_explicit(&t->files->commit_hint, commit_lsn, memory_order_relaxed);
}

void sk_store_submit(struct sk_store *s, struct sk_job *job)
{
    sk_jobs_push(&s->gathered, job);
    s->gathered_bytes += job->bytes.len;
    s->hurried |= !job->unhurried;
    if (job->kind != SK_JOB_APPEND || s->gathered_bytes > SK_LARGE_ROUND_BYTES)
        give(s);
    else if (!s->hurried && !uv_is_active((uv_handle_t *)&s->unhurried))
        uv_timer_start(&s->unhurried, on_unhurried, STORE_UNHURRIED_MS, 0);
}

void sk_store_hurry(struct sk_store *s)
{
    if (s->gathered.head)
        give(s);
}
