/*
 * load_uv.c - a snapshot of the archive, written into the store: what a timeline's rows were at an
 * LSN, so that the log is replayed from there only.
 *
 * The caller (repair_uv.c) has taken away what there was, and marked the timeline; reads wait. One
 * load after the other. Of one: a thread of libuv's pool fetches and checks the next part while the
 * writer puts the one before. The last transaction has the cut and the progress and takes the mark
 * away: until then nothing of it is visible, and after a crash it is begun anew.
 *
 * Whatever fails, the archive gone or an object damaged, is told to the caller, who has the log.
 */
#include <stdio.h>
#include <stdlib.h>

#include "archive/read.h"
#include "common/assert.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/archiver.h"
#include "pageserver/server_uv.h"
#include "pageserver/snapshot_lmdb.h"

#define MODULE "pageserver/load"

struct ps_load {
    struct ps_job job; /* the writer's */
    uv_work_t work;    /* the pool's */
    struct ps_server *s;
    struct ps_timeline *tl;
    ps_load_fn done;
    void *owner;
    /* the pool's while `fetching`, else the loop's */
    uv_mutex_t mutex; /* of `store`: closing reaches into it */
    struct ar_store *store;
    struct ar_snap snap;
    Corallite__ArchiveSnapshot *index;
    struct co_buf fetched;
    uint32_t n_fetched;
    int fetch_rc;
    char fetch_why[CO_SENTENCE_MAX];

    struct co_buf writing;
    uint32_t n_written;
    bool begun, fetching, busy, have, last;
    int rc;
    char why[CO_SENTENCE_MAX];
    uint64_t begun_us;
    struct ps_load *next;
};

static void go_on(struct ps_load *l);

/* -- Fetching ---------------------------------------------------------------------------------- */

static int open_archive(struct ps_load *l)
{
    struct ar_store *store = NULL;
    int rc = ar_open(l->s->options->archive, &(struct ar_options){.read_only = true}, &store);
    uv_mutex_lock(&l->mutex);
    l->store = store;
    uv_mutex_unlock(&l->mutex);
    return rc;
}

/* Which one: known from the start of a take-over, else by the newest manifest. */
static int choose(struct ps_load *l)
{
    struct ps_snapshots all;
    char id[CO_ID_TEXT];
    if (l->snap.lsn)
        return 0;
    int rc = ps_archive_read(l->s->options->archive, &l->s->identity.cluster, NULL, NULL, &all);
    if (rc)
        return rc;
    const struct ps_snapshot *found = ps_snapshot_find(&all, &l->tl->meta.id);
    if (found)
        l->snap = found->snap;
    free(all.all);
    return found ? 0
                 : co_fail(CO_ERR_NOT_FOUND, "the archive %s has no snapshot of timeline %s",
                           ar_url(l->store), co_id_format(&l->tl->meta.id, id));
}

static void fetch(uv_work_t *work)
{
    struct ps_load *l = work->data;
    const struct co_id *cluster = &l->s->identity.cluster, *id = &l->tl->meta.id;
    int rc = l->store ? 0 : open_archive(l);
    if (!rc && !l->index)
        rc = choose(l);
    if (!rc && !l->index)
        rc = ar_snap_index_get(l->store, cluster, id, &l->snap, &l->index);
    if (!rc && l->n_fetched < l->index->n_parts)
        rc = ar_snap_part_get(l->store, cluster, id, &l->snap, l->index, l->n_fetched, &l->fetched);
    l->fetch_rc = rc;
    snprintf(l->fetch_why, sizeof l->fetch_why, "%s", rc ? co_sentence() : "");
}

static void failed(struct ps_load *l, int rc, const char *why)
{
    if (l->rc)
        return;
    l->rc = rc;
    snprintf(l->why, sizeof l->why, "%s", why);
}

static void fetch_done(uv_work_t *work, int status)
{
    struct ps_load *l = work->data;
    l->fetching = false;
    if (status)
        failed(l, CO_ERR_CANCELED, "the pageserver stops");
    else if (l->fetch_rc)
        failed(l, l->fetch_rc, l->fetch_why);
    else
        l->have = true;
    go_on(l);
}

static void fetch_next(struct ps_load *l)
{
    l->work.data = l;
    l->fetching = true;
    int rc = uv_queue_work(&l->s->loop, &l->work, fetch, fetch_done);
    co_assert(rc == 0);
}

/* -- Writing ----------------------------------------------------------------------------------- */

static int finish(struct ps_load *l, struct ps_txn *txn)
{
    struct ps_progress p = {.last_lsn = l->snap.lsn};
    memcpy(p.digest.b, l->index->digest.data, sizeof p.digest.b);
    int rc = l->snap.cutoff ? ps_cutoff_put(txn, l->tl->line.no, l->snap.cutoff) : 0;
    if (!rc)
        rc = ps_progress_put(txn, l->tl->line.no, &p);
    return rc ? rc : ps_rebuild_end(txn, l->tl->line.no);
}

static int write_run(struct ps_job *job, struct ps_txn *txn)
{
    struct ps_load *l = (struct ps_load *)job;
    int rc = ps_write_begin(txn);
    if (!rc && l->last)
        rc = finish(l, txn);
    else if (!rc)
        rc = ps_snap_write(txn, l->tl->line.no, l->snap.lsn, co_buf_span(&l->writing));
    if (!rc)
        return ps_write_commit(txn);
    ps_write_abort(txn);
    return rc;
}

static void write_done(struct ps_job *job)
{
    struct ps_load *l = (struct ps_load *)job;
    l->busy = false;
    if (job->rc)
        failed(l, job->rc, job->why);
    else
        l->n_written++;
    go_on(l);
}

static void write_next(struct ps_load *l)
{
    struct co_buf written = l->writing;
    l->have = false;
    l->writing = l->fetched;
    l->fetched = written; /* its memory is used again */
    l->fetched.len = 0;
    l->n_fetched++;
    l->job = (struct ps_job){.run = write_run, .done = write_done};
    l->busy = true;
    ps_writer_give(l->s->writer, &l->job);
}

/* -- Life -------------------------------------------------------------------------------------- */

/* Has something come that makes it useless? */
static bool is_vain(struct ps_load *l)
{
    if (l->s->closing)
        failed(l, CO_ERR_CANCELED, "the pageserver stops");
    else if (l->tl->meta.state == PS_DROPPED)
        failed(l, CO_ERR_NOT_FOUND, "the timeline was dropped meanwhile");
    return l->rc != 0;
}

/* It is the first. */
static void retire(struct ps_load *l)
{
    struct ps_server *s = l->s;
    char name[PS_META_NAME_TEXT], lsn[LSN_TEXT];
    s->loads = l->next;
    if (!l->rc) {
        co_metric_add(&ps_m_archive_loads, 1);
        co_info(MODULE, "snapshot loaded name=%s lsn=%s rows=%llu bytes=%llu duration_ms=%llu",
                ps_meta_name(&l->tl->meta, name), lsn_format(l->snap.lsn, lsn),
                (unsigned long long)l->index->rows, (unsigned long long)l->index->raw_bytes,
                (unsigned long long)(co_now_us() - l->begun_us) / 1000);
    }
    l->done(l->owner, l->rc, l->why);
    if (l->index)
        corallite__archive_snapshot__free_unpacked(l->index, NULL);
    ar_close(l->store);
    co_buf_free(&l->fetched);
    co_buf_free(&l->writing);
    uv_mutex_destroy(&l->mutex);
    free(l);
}

static void end(struct ps_load *l)
{
    struct ps_server *s = l->s;
    retire(l);
    while (s->loads && is_vain(s->loads))
        retire(s->loads);
    if (s->loads)
        go_on(s->loads);
}

static void go_on(struct ps_load *l)
{
    if (is_vain(l) || l->last) {
        if (!l->fetching && !l->busy)
            end(l);
        return;
    }
    if (!l->begun) {
        l->begun = true;
        l->begun_us = co_now_us();
        fetch_next(l);
        return;
    }
    if (l->have && !l->busy && l->n_fetched < l->index->n_parts)
        write_next(l);
    if (!l->fetching && !l->have && l->n_fetched < l->index->n_parts)
        fetch_next(l);
    if (!l->busy && !l->fetching && l->n_written == l->index->n_parts) {
        l->last = l->busy = true;
        l->job = (struct ps_job){.run = write_run, .done = write_done};
        ps_writer_give(l->s->writer, &l->job);
    }
}

void ps_load_forget(struct ps_server *s, const struct co_id *timeline)
{
    for (uint32_t i = 0; i < s->snapshots.n; i++)
        if (co_id_eq(&s->snapshots.all[i].timeline, timeline))
            s->snapshots.all[i].snap = (struct ar_snap){0};
}

bool ps_load_has(const struct ps_server *s, const struct co_id *timeline)
{
    return ps_snapshot_find(&s->snapshots, timeline) != NULL;
}

int ps_load_begin(struct ps_server *s, struct ps_timeline *tl, ps_load_fn done, void *owner)
{
    struct ps_load *l = calloc(1, sizeof *l), **at = &s->loads;
    const struct ps_snapshot *found = ps_snapshot_find(&s->snapshots, &tl->meta.id);
    if (!l)
        return co_fail(CO_ERR_NOMEM, "no memory to load a snapshot");
    int rc = uv_mutex_init(&l->mutex);
    co_assert(rc == 0);
    l->s = s;
    l->tl = tl;
    l->done = done;
    l->owner = owner;
    if (found)
        l->snap = found->snap;
    while (*at)
        at = &(*at)->next;
    *at = l;
    if (s->loads == l)
        go_on(l);
    return 0;
}

void ps_loads_close(struct ps_server *s)
{
    struct ps_load *l = s->loads;
    if (!l)
        return;
    uv_mutex_lock(&l->mutex);
    if (l->store)
        ar_cancel(l->store);
    uv_mutex_unlock(&l->mutex);
}
