/*
 * catalog_uv.c - the timelines: carries out what registry.c decides. They are put on the
 * safekeepers that lack them and stored here, and what was dropped goes.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/server_uv.h"
#include "proto/message.h"

#define MODULE         "pageserver/catalog"
#define PURGE_ROWS     2000u
#define PURGE_EVERY_MS 20u
#define REBUILT_MS     1000u

static void purge_next(struct ps_server *s);

/* -- Rows in the store ------------------------------------------------------------------------- */

struct row_job {
    struct ps_job job;
    struct ps_server *s;
    struct ps_timeline *tl;
    struct ps_meta meta; /* as it is to be stored */
    bool purge, purged;
    bool load; /* it begins with a snapshot of the archive */
};

static int row_run(struct ps_job *job, struct ps_txn *txn)
{
    struct row_job *row = (struct row_job *)job;
    int rc = ps_write_begin(txn);
    if (!rc && row->purge)
        rc = ps_purge_step(txn, row->tl->line.no, PURGE_ROWS, &row->purged);
    if (!rc && (!row->purge || row->purged))
        rc = ps_timeline_put(txn, row->tl->line.no, row->purged, &row->meta);
    if (!rc && row->load)
        rc = ps_rebuild_mark(txn, row->tl->line.no, PS_REBUILD_SNAPSHOT);
    if (!rc)
        return ps_write_commit(txn);
    ps_write_abort(txn);
    return rc;
}

/* What was hidden and is needed by nobody any more is dropped. */
void ps_catalog_sweep(struct ps_server *s)
{
    struct ps_timeline *tl;
    while ((tl = ps_reg_sweep(&s->reg)))
        ps_catalog_drive(s, tl);
}

/* A restore waits for what it replaces to be sealed. */
static void drive_restore_of(struct ps_server *s, struct ps_timeline *tl)
{
    struct ps_timeline *restore = ps_reg_restoring(&s->reg, tl);
    if (restore)
        ps_catalog_drive(s, restore);
}

static void row_done(struct ps_job *job)
{
    struct row_job *row = (struct row_job *)job;
    struct ps_server *s = row->s;
    struct ps_timeline *tl = row->tl;
    char name[PS_META_NAME_TEXT], id[CO_ID_TEXT];
    tl->storing = 0;
    if (job->rc) {
        co_error(MODULE, "a timeline could not be stored, will be tried again timeline=%s: %s",
                 co_id_format(&tl->meta.id, id), job->why); /* by the tick */
    } else {
        tl->stored = row->meta.version;
        tl->stored_state = row->meta.state;
        co_info(MODULE, "timeline stored name=%s id=%s state=%s version=%llu",
                ps_meta_name(&row->meta, name), co_id_format(&tl->meta.id, id),
                msg_state_name((Corallite__TimelineState)row->meta.state),
                (unsigned long long)row->meta.version);
    }
    bool load = row->load && !job->rc;
    free(row);
    if (s->closing)
        return;
    if (load)
        ps_repair_load(s, tl);
    if (ps_timeline_fed(tl)) {
        ps_lineage_open(s, tl);
    } else if (tl->meta.state == PS_DROPPED) {
        ps_feed_close(tl);
        ps_catalog_sweep(s);
        purge_next(s);
    }
    if (!ps_timeline_open(tl))
        ps_pages_wake(s, tl); /* who reads it is told */
    ps_catalog_drive(s, tl);
    if (tl->stored_state == PS_SEALED || tl->stored_state == PS_DROPPED)
        drive_restore_of(s, tl);
    if (tl->stored_state == PS_SEALED)
        ps_settle_look(s);
    ps_serve_asks(s);
}

static struct row_job *row_new(struct ps_server *s, struct ps_timeline *tl,
                               void (*done)(struct ps_job *))
{
    struct row_job *row = calloc(1, sizeof *row);
    if (!row)
        return NULL; /* the tick tries again */
    row->job.run = row_run;
    row->job.done = done;
    row->s = s;
    row->tl = tl;
    row->meta = tl->meta;
    return row;
}

static void store(struct ps_server *s, struct ps_timeline *tl)
{
    struct row_job *row = row_new(s, tl, row_done);
    if (!row)
        return;
    if (!tl->line.no) {
        tl->line.no = s->next_no++;
        ps_lineage_link(s, tl);
        tl->from_snapshot = ps_state_readable(tl->meta.state) && ps_load_has(s, &tl->meta.id);
        tl->rebuilding |= tl->from_snapshot;
    }
    row->load = tl->from_snapshot && !tl->stored;
    row->purged = tl->purged;
    tl->storing = tl->meta.version;
    ps_writer_give(s->writer, &row->job);
}

/* -- What was dropped goes, a little at a time ---------------------------------------------------
 */

/* Nothing of it is left here: safekeepers may remove its files. */
static void tell_purged(struct ps_server *s, struct ps_timeline *tl)
{
    if (!s->reg.heard || s->reg.follows || tl->stored_state != PS_DROPPED || !tl->purged ||
        tl->meta.purged || tl->storing || !ps_archive_lets_go(s, tl))
        return;
    tl->meta.purged = true;
    ps_reg_change(&s->reg, tl, PS_DROPPED);
    ps_catalog_drive(s, tl);
}

static void purge_done(struct ps_job *job)
{
    struct row_job *row = (struct row_job *)job;
    struct ps_server *s = row->s;
    s->purging = false;
    if (job->rc)
        co_error(MODULE, "pages of a dropped timeline could not be deleted: %s", job->why);
    else if (row->purged)
        row->tl->purged = true;
    if (!s->closing)
        tell_purged(s, row->tl);
    free(row);
    if (!s->closing)
        purge_next(s);
}

/* Branches keep seeing their ancestor's pages after it was dropped. */
static bool has_children(const struct ps_server *s, const struct ps_timeline *of)
{
    for (const struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        if (co_id_eq(&tl->meta.ancestor, &of->meta.id) && !tl->purged)
            return true;
    return false;
}

static void on_purge(uv_timer_t *timer)
{
    struct ps_server *s = timer->data;
    struct ps_timeline *tl = s->reg.all;
    bool later = false; /* what is being rebuilt goes when that has ended */
    while (tl && (tl->stored_state != PS_DROPPED || tl->purged || tl->storing ||
                  has_children(s, tl) || tl->rebuilding)) {
        later |= tl->rebuilding;
        tl = tl->next;
    }
    if (!tl && later)
        uv_timer_start(&s->purge, on_purge, REBUILT_MS, 0);
    struct row_job *row = tl && !s->purging ? row_new(s, tl, purge_done) : NULL;
    if (!row)
        return;
    row->purge = true;
    s->purging = true;
    ps_writer_give(s->writer, &row->job);
}

static void purge_next(struct ps_server *s)
{
    if (!s->purging && !uv_is_active((uv_handle_t *)&s->purge))
        uv_timer_start(&s->purge, on_purge, PURGE_EVERY_MS, 0);
}

/* -- Driving a timeline ------------------------------------------------------------------------ */

static void put_on_node(struct ps_server *s, struct ps_timeline *tl, struct ps_node *node)
{
    struct ps_meta_wire wire;
    Corallite__TimelinePut put = CORALLITE__TIMELINE_PUT__INIT;
    ps_meta_to_wire(&tl->meta, &wire);
    put.timeline = &wire.wire;
    tl->asked[node->index] = ++s->last_request;
    peer_send(node->peer, FRAME_TIMELINE_PUT, s->last_request, &put.base, co_span_of(NULL, 0));
}

static void warn_both_active(struct ps_server *s, struct ps_timeline *tl)
{
    struct ps_timeline *o = ps_reg_find_name(&s->reg, tl->meta.database_name, tl->meta.branch);
    char name[PS_META_NAME_TEXT], a[CO_ID_TEXT], b[CO_ID_TEXT];
    if (o && o != tl && o->meta.state != PS_CREATING && ps_timeline_open(tl))
        co_error(MODULE, "two timelines have one name, only one can be opened name=%s ids=%s,%s",
                 ps_meta_name(&tl->meta, name), co_id_format(&tl->meta.id, a),
                 co_id_format(&o->meta.id, b));
}

void ps_catalog_drive(struct ps_server *s, struct ps_timeline *tl)
{
    enum ps_next next;
    ps_loops_publish(s, tl); /* its state may have changed */
    if (s->closing)
        return;
    ps_reg_name_disks(&s->reg, tl);
    do {
        for (uint32_t i = 0; i < s->reg.n_nodes; i++)
            if (s->nodes[i].ready && ps_reg_lacks(&s->reg, tl, i))
                put_on_node(s, tl, &s->nodes[i]);
        next = ps_reg_next(&s->reg, tl);
    } while (next == PS_NEXT_CHANGED);
    if (next == PS_NEXT_SEALED)
        ps_catalog_drive(s, ps_reg_find(&s->reg, &tl->meta.replaces));
    if (next == PS_NEXT_STORE && !tl->storing) {
        warn_both_active(s, tl);
        store(s, tl);
    }
}

void ps_catalog_drive_all(struct ps_server *s)
{
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next) {
        tell_purged(s, tl);
        ps_catalog_drive(s, tl);
    }
}

/* -- Life -------------------------------------------------------------------------------------- */

static int load_one(void *arg, tlno_t no, bool purged, const struct ps_meta *meta)
{
    struct ps_server *s = arg;
    struct ps_timeline *tl;
    return ps_reg_load(&s->reg, no, purged, meta, &tl);
}

/* Commits above the last-record LSN were never there (P1): the row of the progress is damaged. They
 * are ingested again. */
static int look_above(struct ps_server *s, struct ps_timeline *tl)
{
    char id[CO_ID_TEXT], at[LSN_TEXT], above[LSN_TEXT];
    lsn_t lsn;
    int rc = ps_commit_from(s->read, tl->line.no, tl->chain.last_lsn + 1, &lsn);
    if (rc == CO_ERR_NOT_FOUND || tl->rebuilding)
        return 0;
    if (rc)
        return rc;
    tl->was_behind = true;
    co_warn(MODULE,
            "the store says that a timeline was ingested to one LSN and has commits above it, they "
            "are fetched from the log again timeline=%s last_lsn=%s commit=%s",
            co_id_format(&tl->meta.id, id), lsn_format(tl->chain.last_lsn, at),
            lsn_format(lsn, above));
    return 0;
}

int ps_catalog_load_progress(struct ps_server *s, struct ps_timeline *tl)
{
    struct ps_progress p;
    enum ps_rebuild how;
    int rc = ps_rebuild_pending(s->read, tl->line.no, &how);
    tl->rebuilding = !rc && how != PS_REBUILD_NONE;
    tl->from_snapshot = !rc && how == PS_REBUILD_SNAPSHOT;
    if (!rc)
        rc = ps_cutoff_get(s->read, tl->line.no, &tl->cutoff);
    if (!rc)
        rc = ps_progress_get(s->read, tl->line.no, &p);
    if (rc == CO_ERR_NOT_FOUND)
        return look_above(s, tl);
    if (rc)
        return rc;
    ps_chain_resume(&tl->chain, p.last_lsn, p.digest);
    rc = look_above(s, tl);
    if (!rc)
        rc = ps_commit_at(s->read, &tl->line, p.last_lsn, &tl->chain.newest);
    if (rc == CO_ERR_NOT_FOUND) {
        tl->chain.newest = (struct ps_commit){0};
        return 0;
    }
    tl->chain.page_size = tl->chain.newest.page_size;
    return rc;
}

int ps_catalog_load(struct ps_server *s)
{
    uint64_t taken_us = 0, life_us = 0;
    int rc = ps_reg_init(&s->reg, &s->identity.cluster, &s->identity.disk, s->options->n_nodes);
    s->reg.follows = s->options->follow;
    if (!rc)
        rc = ps_read_renew(s->read);
    if (!rc)
        rc = ps_timeline_next_no(s->read, &s->next_no);
    if (!rc)
        rc = ps_taken_get(s->read, &taken_us);
    if (!rc)
        rc = ps_life_get(s->read, &life_us);
    if (!rc)
        rc = ps_timeline_each(s->read, load_one, s);
    for (struct ps_timeline *tl = s->reg.all; !rc && tl; tl = tl->next)
        ps_lineage_link(s, tl);
    for (struct ps_timeline *tl = s->reg.all; !rc && tl; tl = tl->next)
        if (ps_state_readable(tl->stored_state))
            rc = ps_catalog_load_progress(s, tl);
    ps_read_reset(s->read);
    return rc ? rc : ps_owner_note(s, taken_us, life_us);
}

int ps_catalog_start(struct ps_server *s)
{
    int rc = uv_timer_init(&s->loop, &s->purge);
    co_assert(rc == 0);
    s->purge.data = s;
    ps_nodes_start(s);
    ps_repair_resume(s);
    ps_lineage_settle(s);
    purge_next(s);
    return 0;
}

void ps_catalog_tick(struct ps_server *s)
{
    ps_nodes_tick(s);
    ps_catalog_drive_all(s);
}

void ps_catalog_close(struct ps_server *s)
{
    ps_nodes_close(s);
    uv_close((uv_handle_t *)&s->purge, NULL);
}

int ps_catalog_create(struct ps_server *s, const char *db, const char *branch,
                      const struct co_id *database, struct ps_timeline **out)
{
    struct ps_meta meta = {.id = co_id_random(), .start_lsn = LSN_FIRST};
    meta.database = co_id_is_zero(database) ? co_id_random() : *database;
    snprintf(meta.database_name, sizeof meta.database_name, "%s", db);
    snprintf(meta.branch, sizeof meta.branch, "%s", branch);
    return ps_catalog_begin(s, &meta, out);
}

int ps_catalog_begin(struct ps_server *s, struct ps_meta *meta, struct ps_timeline **out)
{
    if (s->list_waits_ms)
        return CO_ERR_AGAIN;
    meta->state = PS_CREATING;
    meta->created_us = co_wall_us();
    meta->pageserver = s->identity.disk;
    meta->taken_us = s->reg.taken_us;
    ps_reg_birth_config(&s->reg, &meta->config);
    int rc = ps_reg_create(&s->reg, meta, out);
    if (!rc)
        ps_catalog_drive(s, *out);
    return rc;
}
