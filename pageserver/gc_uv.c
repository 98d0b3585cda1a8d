/*
 * gc_uv.c - when garbage is collected, and what stays readable.
 *
 * A run is of one database: the cut of each branch is worked out and published, so that no read
 * below it begins any more, and made durable; then the plan is made (gc.h), and carried out on the
 * writer's thread in small steps, between which ingest has its turn.
 *
 * The cut of a branch moves forward only. It is the newest commit at the time that retention or
 * `gc --before` asks for, or whatever was read within the last ps_gc_ttl_us, if that is older.
 * After a start nothing is collected for as long: who reads at an old moment asks again by then.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/follow.h"
#include "pageserver/gc_lmdb.h"
#include "pageserver/server_uv.h"

#define MODULE      "pageserver/gc"
#define STEP_GROUPS 500u
#define STEP_GAP_MS 3u

uint64_t ps_gc_ttl_us = 60000000;
uint64_t ps_gc_every_us = 60000000;

struct ps_gc_work {
    struct ps_job job;
    struct ps_server *s;
    struct ps_ask *ask; /* NULL: nobody waits */
    struct co_id database;
    struct ps_gc_plan plan;
    struct ps_gc_run run;
    uint64_t before_us; /* a dry run's; 0: none */
    bool cutting;       /* the cuts are being stored */
    bool held;          /* some would lie further but for who reads there */
    struct {
        tlno_t no;
        lsn_t lsn;
    } * cuts;
    uint32_t n_cuts;
    uint64_t begun_us;
    uv_timer_t timer;
    int rc;
};

/* -- What can be read ---------------------------------------------------------------------------
 */

void ps_gc_note_read(struct ps_server *s, struct ps_timeline *tl, lsn_t lsn)
{
    uint64_t now = uv_now(&s->loop) * 1000;
    while (!co_id_is_zero(&tl->meta.ancestor) && lsn < tl->meta.start_lsn) {
        struct ps_timeline *up = ps_reg_find(&s->reg, &tl->meta.ancestor);
        if (!up)
            return;
        tl = up;
    }
    if (lsn < tl->cutoff)
        return; /* a pin or a branch point: kept by that */
    if (now - tl->reads_us >= ps_gc_ttl_us) {
        tl->read_before = now - tl->reads_us < 2 * ps_gc_ttl_us ? tl->read_now : 0;
        tl->read_now = 0;
        tl->reads_us = now;
    }
    if (!tl->read_now || lsn < tl->read_now)
        tl->read_now = lsn;
}

/* What was read on other loops. */
static void on_read_elsewhere(void *arg, const struct co_id *timeline, lsn_t lsn)
{
    struct ps_server *s = arg;
    struct ps_timeline *tl = ps_reg_find(&s->reg, timeline);
    if (tl)
        ps_gc_note_read(s, tl, lsn);
}

lsn_t ps_gc_oldest_read(struct ps_server *s, struct ps_timeline *tl)
{
    lsn_t elsewhere = s->view ? ps_view_reads(s->view, &tl->meta.id) : 0;
    if (elsewhere)
        ps_gc_note_read(s, tl, elsewhere);
    uint64_t age = uv_now(&s->loop) * 1000 - tl->reads_us;
    lsn_t oldest = PS_GC_END;
    if (tl->read_now && age < 2 * ps_gc_ttl_us)
        oldest = tl->read_now;
    if (tl->read_before && age < ps_gc_ttl_us && tl->read_before < oldest)
        oldest = tl->read_before;
    return oldest;
}

/* Is this very moment of the timeline's own log kept, whatever its cut? */
static bool is_kept(const struct ps_server *s, const struct ps_timeline *tl, lsn_t lsn)
{
    for (const struct ps_pin *p = s->pins; p; p = p->next)
        if (p->row.lsn == lsn && co_id_eq(&p->row.database, &tl->meta.database)) {
            /* a pin below a branch's begin is its ancestor's moment */
            const struct ps_timeline *of = ps_reg_find(&s->reg, &p->row.timeline);
            while (of && !co_id_is_zero(&of->meta.ancestor) && lsn < of->meta.start_lsn)
                of = ps_reg_find(&s->reg, &of->meta.ancestor);
            if (of == tl)
                return true;
        }
    for (const struct ps_timeline *c = s->reg.all; c; c = c->next)
        if (c->meta.state != PS_DROPPED && c->meta.ancestor_lsn == lsn &&
            co_id_eq(&c->meta.ancestor, &tl->meta.id))
            return true;
    return false;
}

/* The timeline in whose own log a moment lies. */
static const struct ps_timeline *owner_of(const struct ps_server *s, const struct ps_timeline *tl,
                                          lsn_t lsn)
{
    while (!co_id_is_zero(&tl->meta.ancestor) && lsn < tl->meta.start_lsn) {
        const struct ps_timeline *up = ps_reg_find(&s->reg, &tl->meta.ancestor);
        if (!up)
            break;
        tl = up;
    }
    return tl;
}

static int gone(const struct ps_timeline *tl, const struct ps_timeline *owner, const char *moment)
{
    char name[PS_META_NAME_TEXT], have[LSN_TEXT];
    return co_fail(CO_ERR_GONE,
                   "%s at %s is not kept any more: its history is readable from LSN %s on, and at "
                   "its pins; `corallite retention set` says how long it is kept",
                   ps_meta_name(&tl->meta, name), moment, lsn_format(owner->cutoff, have));
}

int ps_gc_check(const struct ps_server *s, const struct ps_timeline *tl, lsn_t lsn)
{
    char at[LSN_TEXT], moment[LSN_TEXT + 8];
    const struct ps_timeline *owner = owner_of(s, tl, lsn);
    if (lsn >= owner->cutoff || is_kept(s, owner, lsn))
        return 0;
    snprintf(moment, sizeof moment, "LSN %s", lsn_format(lsn, at));
    return gone(tl, owner, moment);
}

int ps_gc_check_time(const struct ps_server *s, const struct ps_timeline *tl, uint64_t time_us,
                     lsn_t found)
{
    char at[WHEN_TEXT];
    const struct ps_timeline *owner = owner_of(s, tl, found);
    /* Nothing that early: the database was empty, or what was there is gone. */
    if (found >= owner->cutoff && time_us >= tl->meta.erased_us)
        return 0;
    return gone(tl, owner, when_format(time_us, at));
}

bool ps_gc_lists_all(const struct ps_server *s, const struct ps_timeline *tl, lsn_t since)
{
    for (; tl; tl = ps_reg_find(&s->reg, &tl->meta.ancestor)) {
        lsn_t from = since > tl->meta.start_lsn ? since : tl->meta.start_lsn;
        if (from < tl->cutoff)
            return false;
        if (since >= tl->meta.start_lsn)
            break;
    }
    return true;
}

/* -- Where the cuts are --------------------------------------------------------------------------
 */

static bool is_of(const struct ps_timeline *tl, const struct co_id *database)
{
    return tl->meta.state != PS_DROPPED && co_id_eq(&tl->meta.database, database);
}

/* The time before which nothing of it is kept; 0: all is. */
static uint64_t cut_time(const struct ps_timeline *tl, uint64_t now_us, uint64_t before_us)
{
    uint64_t cut = tl->meta.retention_us && tl->meta.retention_us < now_us
                       ? now_us - tl->meta.retention_us
                       : 0;
    if (tl->meta.erased_us > cut)
        cut = tl->meta.erased_us;
    return before_us > cut ? before_us : cut;
}

/* In the loop's read transaction. */
static int find_cut(struct ps_gc_work *w, struct ps_timeline *tl, uint64_t before_us, lsn_t *out)
{
    struct ps_server *s = w->s;
    uint64_t time = cut_time(tl, co_wall_us(), before_us);
    lsn_t lsn = 0, read = ps_gc_oldest_read(s, tl);
    int rc = 0;
    *out = tl->cutoff > tl->meta.start_lsn ? tl->cutoff : tl->meta.start_lsn;
    if (!ps_timeline_fed(tl) || !tl->based)
        return 0;
    if (s->reg.follows && !w->run.dry)
        lsn = ps_follow_cut(tl);
    else if (time)
        rc = ps_commit_at_time(s->read, &tl->line, time, &lsn);
    if (rc)
        return rc == CO_ERR_NOT_FOUND ? 0 : rc;
    w->held |= read < lsn;
    if (read < lsn)
        lsn = read;
    if (lsn > *out)
        *out = lsn;
    return 0;
}

static int point_at(struct ps_server *s, const struct ps_timeline *tl, lsn_t lsn,
                    struct ps_gc_point *out)
{
    struct ps_commit c = {0};
    int rc = ps_commit_at(s->read, &tl->line, lsn, &c);
    *out = (struct ps_gc_point){lsn, c.db_pages};
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

/* The last moment at which somebody reads through it. */
static lsn_t last_branch(const struct ps_server *s, const struct ps_timeline *tl)
{
    lsn_t last = 0;
    for (const struct ps_timeline *c = s->reg.all; c; c = c->next)
        if (c->meta.state != PS_DROPPED && c->meta.ancestor_lsn > last &&
            co_id_eq(&c->meta.ancestor, &tl->meta.id))
            last = c->meta.ancestor_lsn;
    return last;
}

static int plan_line(struct ps_gc_work *w, struct ps_timeline *tl)
{
    struct ps_server *s = w->s;
    struct ps_timeline *up =
        co_id_is_zero(&tl->meta.ancestor) ? NULL : ps_reg_find(&s->reg, &tl->meta.ancestor);
    struct ps_gc_line line = {.no = tl->line.no, .parent = PS_GC_NO_LINE, .to = PS_GC_END};
    lsn_t from = tl->meta.start_lsn;
    int rc = 0;
    if (tl->gc_at != PS_GC_NO_LINE)
        return 0;
    if (up && is_of(up, &w->database)) {
        rc = plan_line(w, up); /* as deep as branches are: bounded by CO_BRANCH_DEPTH_MAX */
        line.parent = up->gc_at;
    }
    if (!rc)
        rc = point_at(s, tl, tl->meta.start_lsn, &line.start);
    if (!rc && w->run.dry)
        rc = find_cut(w, tl, w->before_us, &from);
    else if (tl->cutoff > from)
        from = tl->cutoff;
    if (!rc)
        rc = point_at(s, tl, from, &line.from);
    if (tl->meta.hidden)
        line.to = last_branch(s, tl);
    return rc ? rc : ps_gc_add(&w->plan, &line, &tl->gc_at);
}

static int plan_pins(struct ps_gc_work *w)
{
    struct ps_server *s = w->s;
    int rc = 0;
    for (const struct ps_pin *p = s->pins; p && !rc; p = p->next) {
        const struct ps_timeline *tl = ps_reg_find(&s->reg, &p->row.timeline);
        struct ps_gc_point point;
        if (!p->row.lsn || !tl || !is_of(tl, &w->database))
            continue;
        rc = point_at(s, tl, p->row.lsn, &point);
        if (!rc)
            rc = ps_gc_keep(&w->plan, tl->gc_at, point);
    }
    return rc;
}

static int make_plan(struct ps_gc_work *w)
{
    struct ps_server *s = w->s;
    int rc = ps_read_renew(s->read);
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        tl->gc_at = PS_GC_NO_LINE;
    for (struct ps_timeline *tl = s->reg.all; !rc && tl; tl = tl->next)
        if (is_of(tl, &w->database))
            rc = plan_line(w, tl);
    if (!rc)
        rc = plan_pins(w);
    ps_read_reset(s->read);
    return rc ? rc : ps_gc_finish(&w->plan);
}

/* The cuts that move: from now on nobody begins to read below them, nor to make a pin or a branch
 * there. Those that began to be made before are in the writer's queue, or here, before the plan is
 * made, for that comes when the writer has stored the cuts. */
static int find_cuts(struct ps_gc_work *w)
{
    struct ps_server *s = w->s;
    lsn_t lsn;
    int rc = ps_read_renew(s->read);
    w->cuts = calloc(s->reg.n + 1, sizeof *w->cuts);
    if (!rc && !w->cuts)
        rc = co_fail(CO_ERR_NOMEM, "no memory to collect garbage with");
    for (struct ps_timeline *tl = s->reg.all; !rc && tl; tl = tl->next) {
        if (!is_of(tl, &w->database) || !tl->line.no)
            continue;
        rc = find_cut(w, tl, 0, &lsn);
        if (!rc && s->view && lsn > tl->cutoff)
            lsn = ps_view_cut(s->view, &tl->meta.id, lsn); /* somebody may have begun to read */
        if (rc || lsn <= tl->cutoff || lsn <= tl->meta.start_lsn)
            continue;
        tl->cutoff = lsn;
        w->cuts[w->n_cuts].no = tl->line.no;
        w->cuts[w->n_cuts++].lsn = lsn;
    }
    ps_read_reset(s->read);
    return rc;
}

bool ps_gc_cutting(const struct ps_server *s)
{
    return s->gc && s->gc->cutting;
}

/* -- A run ---------------------------------------------------------------------------------------
 */

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void end(struct ps_gc_work *w, int rc)
{
    struct ps_server *s = w->s;
    const struct ps_gc_found *f = &w->run.found;
    if (rc)
        co_error(MODULE, "garbage was not collected: %s", co_sentence());
    else if (!w->run.dry && (f->versions || f->commits))
        co_info(MODULE,
                "collected versions=%llu bytes=%llu commits=%llu pages_looked_at=%llu "
                "duration_ms=%llu",
                (unsigned long long)f->versions, (unsigned long long)f->bytes,
                (unsigned long long)f->commits, (unsigned long long)f->pages,
                (unsigned long long)(co_now_us() - w->begun_us) / 1000);
    if (!w->run.dry) {
        co_metric_add(&ps_m_gc_runs, 1);
        co_metric_add(&ps_m_gc_versions, f->versions);
        co_metric_add(&ps_m_gc_bytes, f->bytes);
    }
    if (w->ask) {
        w->ask->b.gc = NULL;
        w->ask->b.done = true;
        w->ask->b.rc = rc;
        w->ask->b.found = *f;
        w->ask->b.held = w->held;
    }
    ps_gc_free(&w->plan);
    free(w->cuts);
    s->gc = NULL;
    uv_close((uv_handle_t *)&w->timer, on_timer_closed);
    if (!s->closing)
        ps_serve_asks(s);
}

/* On the writer's thread. */
static int work_run(struct ps_job *job, struct ps_txn *txn)
{
    struct ps_gc_work *w = (struct ps_gc_work *)job;
    int rc = ps_write_begin(txn);
    for (uint32_t i = 0; w->cutting && !rc && i < w->n_cuts; i++)
        rc = ps_cutoff_put(txn, w->cuts[i].no, w->cuts[i].lsn);
    if (!rc && !w->cutting)
        rc = ps_gc_step(txn, &w->run, STEP_GROUPS);
    if (!rc && !w->run.dry)
        return ps_write_commit(txn);
    ps_write_abort(txn);
    return rc;
}

static void on_timer(uv_timer_t *timer)
{
    struct ps_gc_work *w = timer->data;
    if (w->s->closing)
        end(w, 0);
    else
        ps_writer_give(w->s->writer, &w->job);
}

static void work_done(struct ps_job *job)
{
    struct ps_gc_work *w = (struct ps_gc_work *)job;
    int rc = job->rc ? co_fail(job->rc, "%s", job->why) : 0;
    if (!rc && w->cutting) {
        w->cutting = false;
        rc = make_plan(w);
    }
    if (rc || w->run.done || w->s->closing)
        end(w, rc);
    else
        uv_timer_start(&w->timer, on_timer, STEP_GAP_MS, 0);
}

static int begin(struct ps_server *s, const struct co_id *database, bool dry, uint64_t before_us,
                 struct ps_ask *ask)
{
    struct ps_gc_work *w = calloc(1, sizeof *w);
    if (!w)
        return co_fail(CO_ERR_NOMEM, "no memory to collect garbage with");
    w->job = (struct ps_job){.run = work_run, .done = work_done};
    w->s = s;
    w->database = *database;
    w->run = (struct ps_gc_run){.plan = &w->plan, .dry = dry};
    w->before_us = before_us;
    w->cutting = !dry;
    w->begun_us = co_now_us();
    uv_timer_init(&s->loop, &w->timer);
    w->timer.data = w;
    int rc = dry ? make_plan(w) : find_cuts(w);
    if (rc) {
        ps_gc_free(&w->plan);
        free(w->cuts);
        uv_close((uv_handle_t *)&w->timer, on_timer_closed);
        return rc;
    }
    s->gc = w;
    w->ask = ask;
    if (ask)
        ask->b.gc = w;
    for (struct ps_timeline *tl = s->reg.all; tl && !dry; tl = tl->next)
        if (co_id_eq(&tl->meta.database, database))
            tl->gc_us = co_now_us();
    ps_writer_give(s->writer, &w->job);
    return 0;
}

void ps_gc_forget(struct ps_ask *ask)
{
    if (ask->b.gc)
        ask->b.gc->ask = NULL;
    ask->b.gc = NULL;
}

void ps_gc_close(struct ps_server *s)
{
    /* A step that the writer has is finished first, and ends the run. */
    if (s->gc && uv_is_active((uv_handle_t *)&s->gc->timer)) {
        uv_timer_stop(&s->gc->timer);
        end(s->gc, 0);
    }
}

/* -- When ----------------------------------------------------------------------------------------
 */

bool ps_gc_whole(const struct ps_server *s, const struct co_id *database)
{
    for (const struct ps_timeline *tl = s->reg.all; tl; tl = tl->next) {
        if (!is_of(tl, database) || !ps_timeline_fed(tl))
            continue;
        if (tl->rebuilding || tl->cutoff > tl->chain.last_lsn ||
            last_branch(s, tl) > tl->chain.last_lsn)
            return false;
        for (const struct ps_pin *p = s->pins; p; p = p->next)
            if (co_id_eq(&p->row.timeline, &tl->meta.id) && p->row.lsn > tl->chain.last_lsn)
                return false;
    }
    return true;
}

/* How long until who read before the start has been heard of again. */
static uint64_t quiet_us(const struct ps_server *s)
{
    uint64_t up = co_now_us() - s->started_us;
    return up < ps_gc_ttl_us ? ps_gc_ttl_us - up : 0;
}

static bool is_due(const struct ps_timeline *tl, uint64_t now, bool follows)
{
    if (follows) /* it is the owner that says when */
        return ps_timeline_fed(tl) && ps_follow_cut(tl) > tl->cutoff &&
               now - tl->gc_us >= ps_gc_every_us;
    uint64_t every = tl->meta.retention_us ? tl->meta.retention_us / 100 : 60 * ps_gc_every_us;
    if (!ps_timeline_fed(tl) ||
        (!tl->meta.retention_us && !tl->meta.hidden &&
         (!tl->meta.erased_us || tl->cutoff))) /* what was erased is looked at until it is cut */
        return false;
    return now - tl->gc_us >= (every > ps_gc_every_us ? every : ps_gc_every_us);
}

void ps_gc_tick(struct ps_server *s)
{
    uint64_t now = co_now_us();
    if (s->view)
        ps_view_reads_all(s->view, on_read_elsewhere, s);
    if (!s->reg.heard || s->gc || quiet_us(s))
        return;
    struct ps_timeline *tl = s->reg.all;
    while (tl && !(is_due(tl, now, s->reg.follows) && ps_gc_whole(s, &tl->meta.database)))
        tl = tl->next;
    if (tl && begin(s, &tl->meta.database, false, 0, NULL))
        co_error(MODULE, "%s", co_sentence());
}

/* -- GC ------------------------------------------------------------------------------------------
 */

static int send_done(const struct ps_ask *ask)
{
    Corallite__GcDone w = CORALLITE__GC_DONE__INIT;
    const struct ps_gc_found *f = &ask->b.found;
    w.has_versions = w.has_bytes = w.has_commits = w.has_pages = 1;
    w.versions = f->versions;
    w.bytes = f->bytes;
    w.commits = f->commits;
    w.pages = f->pages;
    w.has_held = w.held = ask->b.held;
    peer_send(ask->session->peer, FRAME_GC_DONE, ask->request, &w.base, co_span_of(NULL, 0));
    return 0;
}

static int find_database(struct ps_server *s, struct ps_ask *ask)
{
    const struct ps_timeline *tl = ps_reg_find_db(&s->reg, ask->db);
    if (!s->reg.heard)
        return CO_ERR_AGAIN;
    if (!tl)
        return ps_no_branch(s, ask->db, "main");
    ask->database = tl->meta.database;
    if (!*ask->moment.at)
        return 0;
    int rc = when_parse(ask->moment.at, co_wall_us(), &ask->moment.when);
    if (!rc && ask->moment.when.kind != WHEN_TIME)
        rc = co_fail(CO_ERR_INVAL, "what is to be erased is named by a time, such as -30d");
    if (!rc && ask->moment.when.time_us > co_wall_us())
        rc = co_fail(CO_ERR_INVAL, "what is still to come cannot be erased; name an earlier time");
    return rc;
}

/* Notes durably, with each branch, that nothing before is to be kept. */
static void begin_erasing(struct ps_server *s, struct ps_ask *ask)
{
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next) {
        if (!is_of(tl, &ask->database) || tl->meta.erased_us >= ask->moment.when.time_us ||
            tl->meta.state == PS_CREATING)
            continue;
        tl->meta.erased_us = ask->moment.when.time_us;
        ps_reg_change(&s->reg, tl, tl->meta.state);
        ps_catalog_drive(s, tl);
    }
    ask->b.version = 1;
}

static int try_gc(struct ps_server *s, struct ps_ask *ask)
{
    if (ask->b.gc)
        return CO_ERR_AGAIN;
    if (ask->b.done)
        return ask->b.rc ? co_fail(ask->b.rc,
                                   "the garbage of '%s' could not be collected, see the "
                                   "log of the pageserver",
                                   ask->db)
                         : send_done(ask);
    int rc = co_id_is_zero(&ask->database) ? find_database(s, ask) : 0;
    if (!rc && !ask->b.dry && quiet_us(s))
        rc = co_fail(CO_ERR_BUSY,
                     "the pageserver was started a moment ago, and nothing is collected before "
                     "its readers are known: ask again in %llu s",
                     (unsigned long long)(quiet_us(s) / 1000000 + 1));
    if (rc)
        return rc;
    if (*ask->moment.at && !ask->b.dry && !ask->b.version)
        begin_erasing(s, ask);
    for (const struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        if (is_of(tl, &ask->database) && tl->stored < tl->meta.version)
            return CO_ERR_AGAIN;
    if (s->gc || !ps_gc_whole(s, &ask->database))
        return CO_ERR_AGAIN;
    rc = begin(s, &ask->database, ask->b.dry, *ask->moment.at ? ask->moment.when.time_us : 0, ask);
    return rc ? rc : CO_ERR_AGAIN;
}

bool ps_gc_try(struct ps_server *s, struct ps_ask *ask)
{
    int rc = try_gc(s, ask);
    if (rc && rc != CO_ERR_AGAIN)
        peer_send_error(ask->session->peer, ask->request, rc);
    return rc != CO_ERR_AGAIN;
}
