/*
 * refill_uv.c - what the safekeepers keep of a log no more comes from the archive.
 *
 *   feed (TRUNCATED) --> thread: manifest, objects, archive/walk.h --> `ready` --> feed --> writer
 *
 * A thread reads, checks and chains the log from where the timeline is, and puts whole records and
 * pieces of large ones where the loop fetches them: READY_MAX bytes at most, then it waits. One
 * timeline at a time, the others ask again. It ends with the manifest's end, which lies at or above
 * what any safekeeper has dropped, and the feed goes on with the safekeepers. Where the archive was
 * pruned there is a snapshot instead (repair_uv.c).
 *
 * Threads: a refill's fields below the mutex are both's; the rest is the loop's while no thread
 * runs, and the thread's while it does.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "archive/read.h"
#include "common/assert.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/server_uv.h"

#define MODULE    "pageserver/refill"
#define READY_MAX (8 * CO_MIB)

struct ps_refill {
    struct ps_server *s;
    uv_async_t async;
    pthread_t thread;
    /* what is wanted */
    struct co_id timeline;
    lsn_t from;
    struct wal_digest digest;
    /* the thread's */
    struct ar_walk walk;
    /* under the mutex */
    pthread_mutex_t mutex;
    pthread_cond_t room;
    struct ar_store *store;
    struct co_buf ready;
    struct ps_refilled end; /* behind what is ready */
    bool done, stop;
    bool pruned; /* the archive's log begins above what is wanted */
    int rc;
    char why[CO_SENTENCE_MAX];
};

/* -- The thread -------------------------------------------------------------------------------- */

/* Waits until the loop has taken enough. */
static int hand_over(struct ps_refill *r, struct co_span bytes, const struct ps_refilled *end)
{
    pthread_mutex_lock(&r->mutex);
    while (!r->stop && r->ready.len > 0 && r->ready.len + bytes.len > READY_MAX)
        pthread_cond_wait(&r->room, &r->mutex);
    int rc = r->stop ? co_fail(CO_ERR_CANCELED, "the pageserver stops")
                     : co_buf_append(&r->ready, bytes.data, bytes.len);
    if (!rc)
        r->end = *end;
    pthread_mutex_unlock(&r->mutex);
    if (!rc)
        uv_async_send(&r->async);
    return rc;
}

static int on_whole(void *owner, struct co_span record, const struct wal_header *h)
{
    return hand_over(owner, record, &(struct ps_refilled){.lsn = h->end_lsn});
}

static int on_piece(void *owner, lsn_t lsn, uint64_t at, struct co_span bytes,
                    const struct wal_header *last)
{
    struct ps_refill *r = owner;
    struct ps_refilled end = {.lsn = lsn,
                              .part = at + bytes.len,
                              .part_total = at + bytes.len + wal_stream_left(r->walk.stream)};
    if (last)
        end = (struct ps_refilled){.lsn = last->end_lsn};
    return hand_over(r, bytes, &end);
}

static int find_line(struct ps_refill *r, const Corallite__ArchiveState *state, struct ar_line *out)
{
    char id[CO_ID_TEXT], have[LSN_TEXT], want[LSN_TEXT];
    for (size_t i = 0; i < state->n_lines; i++) {
        int rc = ar_line_read(state->lines[i], out);
        if (rc)
            return rc;
        if (!co_id_eq(&out->id, &r->timeline))
            continue;
        r->pruned = ar_line_from(out) > r->from;
        if (r->pruned)
            return co_fail(CO_ERR_TRUNCATED,
                           "the log of %s was pruned: the archive %s has it from LSN %s on",
                           out->name, ar_url(r->store), lsn_format(ar_line_from(out), have));
        if (out->end > r->from)
            return 0;
        return co_fail(CO_ERR_TRUNCATED,
                       "the archive %s has the log of timeline %s up to LSN %s, and what follows "
                       "LSN %s is wanted: is it the archive that was written to before?",
                       ar_url(r->store), co_id_format(&r->timeline, id), lsn_format(out->end, have),
                       lsn_format(r->from, want));
    }
    return co_fail(CO_ERR_TRUNCATED,
                   "the archive %s has nothing of timeline %s, of which no safekeeper keeps the "
                   "begin: is it the archive that was written to before?",
                   ar_url(r->store), co_id_format(&r->timeline, id));
}

static int read_all(struct ps_refill *r)
{
    Corallite__ArchiveState *state = NULL;
    struct ar_line line;
    struct ar_sink sink = {r, on_whole, on_piece};
    struct ar_store *store;
    int rc = ar_open(r->s->options->archive, &(struct ar_options){.read_only = true}, &store);
    if (rc)
        return rc;
    pthread_mutex_lock(&r->mutex);
    r->store = store;
    bool stop = r->stop;
    pthread_mutex_unlock(&r->mutex);
    if (stop)
        return co_fail(CO_ERR_CANCELED, "the pageserver stops");
    rc = ar_newest_state(store, &r->s->identity.cluster, NULL, &state);
    if (!rc)
        rc = find_line(r, state, &line);
    if (!rc)
        rc = ar_read_log(store, &r->s->identity.cluster, &line, &r->walk, &sink);
    if (state)
        corallite__archive_state__free_unpacked(state, NULL);
    return rc;
}

static void *thread_main(void *arg)
{
    struct ps_refill *r = arg;
    ar_walk_init(&r->walk, &r->s->identity.cluster, &r->timeline, r->from, &r->digest);
    int rc = read_all(r);
    pthread_mutex_lock(&r->mutex);
    r->rc = rc;
    snprintf(r->why, sizeof r->why, "%s", rc ? co_sentence() : "");
    struct ar_store *store = r->store;
    r->store = NULL; /* whoever stops it looks */
    r->done = true;
    pthread_mutex_unlock(&r->mutex);
    ar_close(store);
    ar_walk_free(&r->walk);
    uv_async_send(&r->async);
    return NULL;
}

/* -- The loop ---------------------------------------------------------------------------------- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct ps_refill *r = handle->data;
    co_buf_free(&r->ready);
    pthread_cond_destroy(&r->room);
    pthread_mutex_destroy(&r->mutex);
    free(r);
}

static void finish(struct ps_refill *r)
{
    pthread_join(r->thread, NULL);
    r->s->refill = NULL;
    uv_close((uv_handle_t *)&r->async, on_handle_closed);
}

void ps_refill_take(struct ps_server *s)
{
    struct ps_refill *r = s->refill;
    struct ps_timeline *tl = r ? ps_reg_find(&s->reg, &r->timeline) : NULL;
    if (!r)
        return;
    pthread_mutex_lock(&r->mutex);
    int taken = r->ready.len == 0 ? 1 : ps_feed_refilled(tl, co_buf_span(&r->ready), &r->end);
    if (taken)
        r->ready.len = 0;
    if (taken < 0)
        r->stop = true; /* nobody wants it any more */
    bool done = r->done && taken;
    pthread_cond_signal(&r->room);
    pthread_mutex_unlock(&r->mutex);
    if (!done)
        return;
    int rc = r->rc;
    bool pruned = r->pruned;
    char why[CO_SENTENCE_MAX];
    snprintf(why, sizeof why, "%s", r->why);
    finish(r);
    ps_feed_refill_end(s, tl, rc, why, pruned);
}

static void on_async(uv_async_t *async)
{
    struct ps_refill *r = async->data;
    if (r->s->refill == r)
        ps_refill_take(r->s);
}

int ps_refill_begin(struct ps_server *s, const struct ps_timeline *tl)
{
    char id[CO_ID_TEXT], lsn[LSN_TEXT];
    if (!s->options->archive[0])
        return co_fail(CO_ERR_TRUNCATED,
                       "no safekeeper keeps the log of timeline %s from LSN %s on, and this "
                       "pageserver has no archive to take it from: start it with --archive, which "
                       "the pageserver before it had",
                       co_id_format(&tl->meta.id, id), lsn_format(tl->chain.last_lsn, lsn));
    if (s->refill)
        return co_fail(CO_ERR_BUSY, "another timeline is being read from the archive");
    struct ps_refill *r = calloc(1, sizeof *r);
    if (!r)
        return co_fail(CO_ERR_NOMEM, "no memory to read the archive");
    r->s = s;
    r->timeline = tl->meta.id;
    r->from = tl->chain.last_lsn;
    r->digest = tl->chain.digest;
    pthread_mutex_init(&r->mutex, NULL);
    pthread_cond_init(&r->room, NULL);
    int rc = uv_async_init(&s->loop, &r->async, on_async);
    co_assert(rc == 0);
    r->async.data = r;
    s->refill = r;
    int err = pthread_create(&r->thread, NULL, thread_main, r);
    if (err) {
        s->refill = NULL;
        uv_close((uv_handle_t *)&r->async, on_handle_closed);
        return co_fail_errno(CO_ERR_NOMEM, err, "no thread to read the archive with");
    }
    co_info(MODULE, "from the archive timeline=%s from=%s", co_id_format(&tl->meta.id, id),
            lsn_format(r->from, lsn));
    return 0;
}

void ps_refill_close(struct ps_server *s)
{
    struct ps_refill *r = s->refill;
    if (!r)
        return;
    pthread_mutex_lock(&r->mutex);
    r->stop = true;
    if (r->store)
        ar_cancel(r->store);
    pthread_cond_signal(&r->room);
    pthread_mutex_unlock(&r->mutex);
    finish(r);
}
