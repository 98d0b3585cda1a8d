/*
 * repair_uv.c - REPAIR: what the log can give back is fetched from it again.
 *
 * A rebuild takes away what came from the log of one timeline, its progress first, and lets the
 * feed begin anew. While that lasts the timeline and what grew from it answer as after a restart
 * that has not caught up: reads wait. Names, pins, cutoff and the timeline's row stay. Whoever asks
 * has proven before that a safekeeper can tell the log from its first byte to here; here it is
 * refused while none is connected that has the timeline.
 *
 * Where a snapshot of the archive is to be the begin, that is written before the feed begins
 * (load_uv.c); if it cannot be, the log gives everything, as ever. Where the log is nowhere any
 * more because the archive was pruned, a feed comes back for the snapshot.
 *
 * Everything is a job of the writer's, in the order in which it was asked for: what a feed had
 * given to it before is in the store, and taken away with the rest.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/log.h"
#include "pageserver/server_uv.h"
#include "proto/message.h"
#include "proto/unpack.h"

#define MODULE      "pageserver/repair"
#define UNLOADED_MS 10000u /* so long a snapshot that could not be loaded is not tried again */
#define ROWS        2000u  /* that one transaction takes away: a few milliseconds of the writer's */

struct ps_repair {
    struct ps_job job;
    struct ps_server *s;
    struct ps_session *session; /* NULL: gone, or nobody asked */
    uint64_t request;
    Corallite__RepairAction action;
    struct co_id timeline;
    tlno_t no;
    struct ps_pin_row pin;
    lsn_t until;
    bool drop_cutoff, done;
    bool snapshot; /* REBUILD: begins with the archive's */
    struct ps_repair *next;
};

static int run(struct ps_job *job, struct ps_txn *txn)
{
    struct ps_repair *r = (struct ps_repair *)job;
    int rc = ps_write_begin(txn);
    r->done = true;
    if (!rc && r->drop_cutoff)
        rc = ps_cutoff_put(txn, r->no, 0);
    if (!rc && r->action == CORALLITE__REPAIR_ACTION__REPAIR_REBUILD)
        rc = ps_rebuild_step(txn, r->no, r->snapshot ? PS_REBUILD_SNAPSHOT : PS_REBUILD_LOG, ROWS,
                             &r->done);
    else if (!rc && r->action == CORALLITE__REPAIR_ACTION__REPAIR_RECOUNT)
        rc = ps_usage_recount(txn, r->no);
    else if (!rc && r->action == CORALLITE__REPAIR_ACTION__REPAIR_PIN)
        rc = ps_pin_delete(txn, &r->pin.database, r->pin.name);
    else if (!rc && r->action == CORALLITE__REPAIR_ACTION__REPAIR_ORPHAN)
        rc = ps_purge_step(txn, r->no, ROWS, &r->done);
    if (!rc)
        return ps_write_commit(txn);
    ps_write_abort(txn);
    return rc;
}

static bool descends(const struct ps_server *s, const struct ps_timeline *tl,
                     const struct co_id *from)
{
    for (uint32_t depth = 0; tl && depth <= CO_BRANCH_DEPTH_MAX; depth++) {
        if (co_id_eq(&tl->meta.ancestor, from))
            return true;
        tl = co_id_is_zero(&tl->meta.ancestor) ? NULL : ps_reg_find(&s->reg, &tl->meta.ancestor);
    }
    return false;
}

/* What grew from it waits as well, until it is here again as far as they need it. */
static void stop_line(struct ps_server *s, struct ps_timeline *tl)
{
    ps_feed_close(tl);
    tl->rebuilding = true;
    tl->news = true; /* the whole log is, and nobody will tell it again */
    tl->was_behind = false;
    ps_chain_resume(&tl->chain, tl->meta.start_lsn, tl->meta.base_digest);
    tl->chain.newest = (struct ps_commit){0};
    tl->chain.page_size = 0;
    ps_loops_publish(s, tl);
    for (struct ps_timeline *c = s->reg.all; c; c = c->next)
        if (c->based && descends(s, c, &tl->meta.id)) {
            ps_feed_close(c);
            c->based = false;
            c->news = true;
            ps_loops_publish(s, c);
        }
}

/* The writer is behind all that the closed feeds had given it: what they had reached is known. */
static void start_line(struct ps_server *s, struct ps_timeline *tl)
{
    char name[PS_META_NAME_TEXT], lsn[LSN_TEXT];
    int rc = ps_read_renew(s->read);
    for (struct ps_timeline *c = s->reg.all; c && !rc; c = c->next)
        if (!c->based && c->line.no && ps_timeline_fed(c) && descends(s, c, &tl->meta.id))
            rc = ps_catalog_load_progress(s, c);
    ps_read_reset(s->read);
    if (rc)
        co_error(MODULE, "%s", co_sentence());
    tl->rebuilding = false;
    if (!co_id_is_zero(&tl->meta.ancestor))
        tl->based = false; /* so that it learns its ancestor's newest transaction again */
    co_info(MODULE, "a timeline is fetched from the log again name=%s from=%s",
            ps_meta_name(&tl->meta, name), lsn_format(tl->chain.last_lsn, lsn));
    ps_loops_publish(s, tl);
    ps_lineage_settle(s);
}

static void unlink_repair(struct ps_repair *r)
{
    struct ps_repair **at = &r->s->repairs;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
}

static void answer(struct ps_repair *r, int rc)
{
    Corallite__Repaired m = CORALLITE__REPAIRED__INIT;
    if (!r->session)
        return;
    m.has_until_lsn = r->until != 0;
    m.until_lsn = r->until;
    if (rc)
        peer_send_error(r->session->peer, r->request, rc);
    else
        peer_send(r->session->peer, FRAME_REPAIRED, r->request, &m.base, co_span_of(NULL, 0));
}

/* What was not begun is as it was. What was begun goes on with the next start: it is marked. */
static void failed(struct ps_server *s, struct ps_timeline *tl, const struct ps_repair *r)
{
    co_error(MODULE, "a repair failed: %s", r->job.why);
    if (!tl || r->action != CORALLITE__REPAIR_ACTION__REPAIR_REBUILD)
        return;
    int rc = ps_read_renew(s->read);
    if (!rc)
        rc = ps_catalog_load_progress(s, tl);
    ps_read_reset(s->read);
    if (rc || tl->rebuilding)
        co_error(MODULE, "a timeline stays unread until the pageserver is started again");
    else if (!s->closing)
        start_line(s, tl);
}

static void give_back(struct ps_repair *r)
{
    unlink_repair(r);
    free(r);
}

static void loaded(void *owner, int rc, const char *why)
{
    struct ps_repair *r = owner;
    struct ps_server *s = r->s;
    struct ps_timeline *tl = ps_reg_find(&s->reg, &r->timeline);
    char name[PS_META_NAME_TEXT];
    if (s->closing) {
        give_back(r);
        return;
    }
    if (!rc) {
        rc = ps_read_renew(s->read);
        if (!rc)
            rc = ps_catalog_load_progress(s, tl);
        ps_read_reset(s->read);
        why = rc ? co_sentence() : "";
    }
    if (!rc) {
        start_line(s, tl);
        give_back(r);
        return;
    }
    tl->unloaded_ms = uv_now(&s->loop);
    co_warn(MODULE,
            "a snapshot of the archive cannot be used, the log is replayed instead name=%s: %s",
            ps_meta_name(&tl->meta, name), why);
    r->snapshot = false;
    r->done = false;
    ps_writer_give(s->writer, &r->job);
}

static void done(struct ps_job *job)
{
    struct ps_repair *r = (struct ps_repair *)job;
    struct ps_server *s = r->s;
    struct ps_timeline *tl = ps_reg_find(&s->reg, &r->timeline);
    int rc = job->rc;
    r->drop_cutoff = r->drop_cutoff && rc;
    if (!rc && !r->done && !s->closing) {
        ps_writer_give(s->writer, &r->job);
        return;
    }
    if (rc)
        failed(s, tl, r);
    if (!rc && r->action == CORALLITE__REPAIR_ACTION__REPAIR_PIN)
        ps_pin_drop(s, &r->pin);
    if (!rc && tl && r->done && r->action == CORALLITE__REPAIR_ACTION__REPAIR_RECOUNT)
        tl->was_behind = false;
    if (!s->closing)
        answer(r, rc ? co_fail(rc, "%s", job->why) : 0);
    r->session = NULL;
    if (!rc && r->snapshot && !s->closing) {
        rc = ps_load_begin(s, tl, loaded, r);
        if (rc)
            loaded(r, rc, co_sentence());
        return;
    }
    if (!rc && tl && r->done && r->action == CORALLITE__REPAIR_ACTION__REPAIR_REBUILD &&
        !s->closing)
        start_line(s, tl);
    give_back(r);
}

static void give(struct ps_server *s, struct ps_repair *r)
{
    r->s = s;
    r->job.run = run;
    r->job.done = done;
    r->next = s->repairs;
    s->repairs = r;
    ps_writer_give(s->writer, &r->job);
}

/* -- What is asked for ---------------------------------------------------------------------------
 */

static bool is_held(const struct ps_server *s, const struct ps_timeline *tl)
{
    for (uint32_t i = 0; i < s->reg.n_nodes; i++)
        if (s->nodes[i].ready && tl->held[i])
            return true;
    return false;
}

static int check_rebuild(struct ps_server *s, struct ps_timeline *tl)
{
    char name[PS_META_NAME_TEXT], text[320];
    ps_meta_name(&tl->meta, name);
    if (s->gc)
        return co_fail(CO_ERR_BUSY, "garbage is being collected: ask again in a moment");
    if (tl->rebuilding || !ps_timeline_fed(tl))
        return co_fail(CO_ERR_BUSY, "'%s' is being %s", name,
                       tl->rebuilding ? "fetched from the log already" : "made or dropped");
    if (!is_held(s, tl))
        return co_fail(CO_ERR_NO_QUORUM, "'%s' cannot be fetched from the log now: %s", name,
                       ps_feed_source(tl, text));
    return 0;
}

static int find_pin(const struct ps_server *s, const char *name, const char *database,
                    struct ps_pin_row *out)
{
    for (const struct ps_pin *p = s->pins; p; p = p->next) {
        const struct ps_timeline *tl = ps_reg_find(&s->reg, &p->row.timeline);
        const struct ps_timeline *db = database ? ps_reg_find_db(&s->reg, database) : NULL;
        if (strcmp(p->row.name, name) != 0 || (tl && tl->meta.state != PS_DROPPED) ||
            (db && !co_id_eq(&db->meta.database, &p->row.database)))
            continue;
        *out = p->row;
        return 0;
    }
    return co_fail(CO_ERR_NOT_FOUND, "there is no pin '%.80s' of a branch that was dropped", name);
}

static int prepare(struct ps_server *s, const Corallite__Repair *m, struct ps_repair *r)
{
    struct ps_timeline *tl;
    char name[CO_NAME_MAX_BYTES + 1], database[CO_NAME_MAX_BYTES + 1];
    r->action = m->action;
    int rc = msg_get16("timeline", m->has_timeline, &m->timeline, r->timeline.b);
    tl = rc ? NULL : ps_reg_find(&s->reg, &r->timeline);
    r->no = tl ? tl->line.no : m->no;
    switch (rc ? CORALLITE__REPAIR_ACTION__REPAIR_NONE : m->action) {
    case CORALLITE__REPAIR_ACTION__REPAIR_REBUILD:
    case CORALLITE__REPAIR_ACTION__REPAIR_RECOUNT:
        if (!tl || !tl->line.no)
            return co_fail(CO_ERR_NOT_FOUND, "there is no such timeline");
        if (m->action == CORALLITE__REPAIR_ACTION__REPAIR_RECOUNT)
            return 0;
        rc = check_rebuild(s, tl);
        if (rc)
            return rc;
        r->until = tl->chain.last_lsn;
        r->drop_cutoff = tl->cutoff > tl->chain.last_lsn && !ps_feed_lag(s, tl);
        if (r->drop_cutoff)
            tl->cutoff = 0;
        stop_line(s, tl);
        return 0;
    case CORALLITE__REPAIR_ACTION__REPAIR_ORPHAN:
        for (tl = s->reg.all; tl; tl = tl->next)
            if (tl->line.no == m->no)
                break;
        return tl || !m->no ? co_fail(CO_ERR_INVAL, "number %u has a timeline", (unsigned)m->no)
                            : 0;
    case CORALLITE__REPAIR_ACTION__REPAIR_PIN:
        rc = ps_take_name("pin", m->pin, NULL, name);
        if (!rc && m->database && *m->database)
            rc = ps_take_name("database", m->database, NULL, database);
        return rc ? rc : find_pin(s, name, m->database && *m->database ? database : NULL, &r->pin);
    default:
        return rc ? rc : co_fail(CO_ERR_PROTOCOL, "REPAIR does not say what to do");
    }
}

void ps_repair_frame(struct ps_session *session, uint64_t request, struct co_span message)
{
    struct ps_server *s = session->s;
    struct ps_repair *r = calloc(1, sizeof *r);
    Corallite__Repair *m = message_unpack(&corallite__repair__descriptor, message);
    int rc = !m   ? CO_ERR_PROTOCOL
             : !r ? co_fail(CO_ERR_NOMEM, "no memory for a repair")
                  : prepare(s, m, r);
    if (m)
        protobuf_c_message_free_unpacked(&m->base, NULL);
    if (rc) {
        peer_send_error(session->peer, request, rc);
        free(r);
        return;
    }
    r->session = session;
    r->request = request;
    give(s, r);
}

void ps_repair_load(struct ps_server *s, struct ps_timeline *tl)
{
    struct ps_repair *r = calloc(1, sizeof *r);
    char name[PS_META_NAME_TEXT];
    if (!r) {
        co_error(MODULE, "no memory to rebuild %s; the next start does",
                 ps_meta_name(&tl->meta, name));
        return;
    }
    r->action = CORALLITE__REPAIR_ACTION__REPAIR_REBUILD;
    r->timeline = tl->meta.id;
    r->no = tl->line.no;
    r->snapshot = tl->from_snapshot && s->options->archive[0];
    give(s, r);
}

bool ps_repair_by_snapshot(struct ps_server *s, struct ps_timeline *tl)
{
    char name[PS_META_NAME_TEXT];
    bool lately = tl->unloaded_ms && uv_now(&s->loop) - tl->unloaded_ms < UNLOADED_MS;
    if (s->closing || s->gc || tl->rebuilding || lately || !ps_timeline_fed(tl))
        return false;
    co_warn(MODULE, "the log that follows was pruned: begins with the archive's snapshot name=%s",
            ps_meta_name(&tl->meta, name));
    ps_load_forget(s, &tl->meta.id);
    stop_line(s, tl);
    tl->from_snapshot = true;
    ps_repair_load(s, tl);
    return true;
}

void ps_repair_resume(struct ps_server *s)
{
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        if (tl->rebuilding)
            ps_repair_load(s, tl);
}

void ps_repair_forget(struct ps_session *session)
{
    for (struct ps_repair *r = session->s->repairs; r; r = r->next)
        if (r->session == session)
            r->session = NULL;
}
