/*
 * archive_uv.c - the loop's side of the archiver: what it is given to do and when, and what is told
 * of it. The tick looks after it once a second; a task that is worked off is taken back then.
 *
 * A round begins `archive_every_ms` after the one before began, if there is anything new: log,
 * names or pins. A pin is nowhere but here, so it is archived at once, or when the round that is
 * under way has ended.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/archiver.h"
#include "pageserver/server_uv.h"
#include "proto/unpack.h"

#define MODULE      "pageserver/archive"
#define IDLE_MS     600000u  /* a round without anything new */
#define PATIENCE_US 2000000u /* so long a pin waits for the archive */

struct ps_archive {
    struct ps_archiver *thread;
    bool out;      /* a task is out */
    bool out_work; /* with something new in it: all of that is not archived yet */
    bool soon;
    uint64_t asked, given, done; /* what is to be there soon, by number: the newest of each */
    uint64_t began_ms;           /* the newest round; 0: none yet */
    uint64_t names;              /* what the newest task knew of names: sum of versions */
    uint64_t behind_us;          /* since when not all is archived; 0: all is */
    uint64_t manifest_us;        /* wall clock */
    uint64_t lag_bytes;
    bool deposed, failing;
    bool again;                /* a snapshot is under way */
    enum ps_prune prune;       /* asked for, and not done */
    struct ps_session *pruner; /* who asked; NULL: it is gone */
    uint64_t prune_request;
    struct ps_pruned pruned; /* by the rounds until now */
    char why[CO_SENTENCE_MAX];
};

/* -- A task ------------------------------------------------------------------------------------ */

static struct ps_archive_task *new_task(const struct ps_server *s)
{
    struct ps_archive_task *task = calloc(1, sizeof *task);
    if (task) {
        task->lines = calloc(s->reg.n ? s->reg.n : 1, sizeof *task->lines);
        task->pins = calloc(s->n_pins ? s->n_pins : 1, sizeof *task->pins);
    }
    if (!task || !task->lines || !task->pins) {
        co_error(MODULE, "no memory to archive; tried again later");
        ps_archive_task_free(task);
        return NULL;
    }
    return task;
}

static void fill_task(struct ps_server *s, struct ps_archive_task *task)
{
    task->time_us = co_wall_us();
    for (struct ps_timeline *tl = s->reg.all; tl && task->n_lines < s->reg.n; tl = tl->next) {
        struct ps_archive_line *l = &task->lines[task->n_lines++];
        l->meta = tl->meta;
        l->last = tl->chain.last_lsn;
        l->no = tl->line.no;
        l->cutoff = tl->cutoff;
        l->rebuilding = tl->rebuilding;
        l->known = ps_feed_known(s, tl);
        l->owner = tl;
    }
    for (const struct ps_pin *p = s->pins; p && task->n_pins < s->n_pins; p = p->next)
        task->pins[task->n_pins++] = p->row;
    for (uint32_t i = 0; i < s->reg.n_nodes; i++) {
        const struct ps_node *node = &s->nodes[i];
        if (!node->id || !node->ready)
            continue;
        task->nodes[task->n_nodes].id = node->id;
        snprintf(task->nodes[task->n_nodes].host, sizeof task->nodes[0].host, "%s", node->host);
        task->nodes[task->n_nodes++].port = node->port;
    }
}

/* Changes with every change of a name or of anything else about a timeline. */
static uint64_t names_of(const struct ps_server *s)
{
    uint64_t sum = s->reg.n;
    for (const struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        sum += tl->meta.version;
    return sum;
}

static void give(struct ps_server *s)
{
    struct ps_archive *a = s->archive;
    struct ps_archive_task *task = new_task(s);
    if (!task)
        return;
    task->prune = a->prune;
    fill_task(s, task);
    a->names = names_of(s);
    a->began_ms = uv_now(&s->loop);
    a->soon = false;
    a->given = a->asked;
    a->out = true;
    ps_archiver_give(a->thread, task);
}

/* -- What came of it --------------------------------------------------------------------------- */

static void tell(struct ps_archive *a, const struct ps_archive_task *task)
{
    bool news = task->rc ? !a->failing || strcmp(a->why, task->why) != 0 : a->failing;
    if (task->rc && news)
        co_warn(MODULE, "what is new is not archived, tried again code=%s: %s",
                co_error_name(task->rc), task->why);
    else if (news)
        co_info(MODULE, "archives again");
    a->failing = task->rc != 0;
    snprintf(a->why, sizeof a->why, "%s", task->why);
}

static void answer_prune(struct ps_archive *a, int rc)
{
    const struct ps_pruned *p = &a->pruned;
    Corallite__ArchivePruned m = CORALLITE__ARCHIVE_PRUNED__INIT;
    char *notes[PS_PRUNE_NOTES];
    m.has_branches = m.has_log_objects = m.has_log_bytes = m.has_stray_objects = 1;
    m.has_stray_bytes = m.has_manifests = 1;
    m.branches = p->branches;
    m.log_objects = p->log_objects;
    m.log_bytes = p->log_bytes;
    m.stray_objects = p->stray_objects;
    m.stray_bytes = p->stray_bytes;
    m.manifests = p->manifests;
    for (uint32_t i = 0; i < p->n_notes; i++)
        notes[i] = (char *)(uintptr_t)p->notes[i];
    m.notes = notes;
    m.n_notes = p->n_notes;
    if (a->pruner && rc)
        peer_send_error(a->pruner->peer, a->prune_request, rc);
    else if (a->pruner)
        peer_send(a->pruner->peer, FRAME_ARCHIVE_PRUNED, a->prune_request, &m.base,
                  co_span_of(NULL, 0));
    a->prune = PS_PRUNE_NONE;
    a->pruner = NULL;
}

static void take_pruned(struct ps_archive *a, const struct ps_archive_task *task)
{
    struct ps_pruned *sum = &a->pruned;
    const struct ps_pruned *p = &task->pruned;
    if (task->prune == PS_PRUNE_NONE)
        return;
    sum->branches += p->branches;
    sum->log_objects += p->log_objects;
    sum->log_bytes += p->log_bytes;
    sum->stray_objects += p->stray_objects;
    sum->stray_bytes += p->stray_bytes;
    sum->manifests += p->manifests;
    for (uint32_t i = 0; i < p->n_notes && sum->n_notes < PS_PRUNE_NOTES; i++)
        memcpy(sum->notes[sum->n_notes++], p->notes[i], sizeof p->notes[i]);
    if (task->rc || !task->prune_again)
        answer_prune(a, task->rc ? co_fail(task->rc, "%s", task->why) : 0);
}

static void take(struct ps_server *s)
{
    struct ps_archive *a = s->archive;
    struct ps_archive_task *task = a->out ? ps_archiver_take(a->thread) : NULL;
    if (!task)
        return;
    a->out = false;
    tell(a, task);
    a->deposed = task->deposed;
    a->again = task->again;
    take_pruned(a, task);
    if (task->manifest_us)
        a->manifest_us = task->manifest_us;
    if (task->rc)
        a->names = 0; /* they are told anew */
    else
        a->done = a->given;
    for (uint32_t i = 0; i < task->n_lines; i++) {
        struct ps_timeline *tl = task->lines[i].owner;
        tl->archived = task->lines[i].end;
        if (task->lines[i].stands > tl->archive_told)
            tl->archive_told = task->lines[i].stands;
        tl->snapshot = task->lines[i].snap;
        if (task->lines[i].removed && !tl->archive_removed) {
            tl->archive_removed = true;
            ps_catalog_drive(s, tl);
        }
    }
    ps_archive_task_free(task);
}

/* Bytes that are committed and not archived. */
static uint64_t lag_of(const struct ps_server *s, const struct ps_timeline *tl)
{
    lsn_t known = ps_feed_known(s, tl);
    lsn_t have = tl->archived > tl->meta.start_lsn ? tl->archived : tl->meta.start_lsn;
    return ps_timeline_fed(tl) && known > have ? known - have : 0;
}

/* What a lost pageserver would have to replay of it. */
static uint64_t replay_of(const struct ps_timeline *tl)
{
    lsn_t from = tl->snapshot > tl->meta.start_lsn ? tl->snapshot : tl->meta.start_lsn;
    return ps_timeline_fed(tl) && tl->archived > from ? tl->archived - from : 0;
}

static bool wants_removal(const struct ps_timeline *tl)
{
    return tl->meta.state == PS_DROPPED && !tl->meta.purged && !tl->archive_removed;
}

/* Also: is there anything that a round could do? */
static bool measure(struct ps_server *s)
{
    struct ps_archive *a = s->archive;
    bool work = false;
    uint64_t replay = 0;
    a->lag_bytes = 0;
    for (const struct ps_timeline *tl = s->reg.all; tl; tl = tl->next) {
        a->lag_bytes += lag_of(s, tl);
        replay += replay_of(tl);
        work |= wants_removal(tl) || (ps_timeline_fed(tl) && tl->chain.last_lsn > tl->archived &&
                                      tl->chain.last_lsn > tl->meta.start_lsn);
    }
    work |= a->names != names_of(s) || a->soon || !a->manifest_us || (a->out && a->out_work);
    if (!work && a->lag_bytes == 0)
        a->behind_us = 0;
    else if (!a->behind_us)
        a->behind_us = co_now_us();
    co_metric_set(&ps_m_archive_lag, a->lag_bytes);
    co_metric_set(&ps_m_archive_replay, replay);
    co_metric_set(&ps_m_archive_behind, a->behind_us ? (co_now_us() - a->behind_us) / 1000000 : 0);
    co_metric_set(&ps_m_archive_ok, !a->failing);
    return work;
}

/* -- Life -------------------------------------------------------------------------------------- */

void ps_archive_tick(struct ps_server *s)
{
    struct ps_archive *a = s->archive;
    if (!a)
        return;
    take(s);
    bool work = measure(s);
    uint64_t since = uv_now(&s->loop) - a->began_ms;
    if (a->out || a->deposed || !s->ready || !s->reg.heard)
        return;
    if (!a->began_ms || a->soon || a->prune ||
        ((work || a->again) && since >= s->options->archive_every_ms) || since >= IDLE_MS) {
        a->out_work = work;
        give(s);
    }
}

static void give_soon(struct ps_server *s)
{
    struct ps_archive *a = s->archive;
    if (!a->soon || a->out || a->deposed || !a->began_ms || !s->reg.heard || s->closing)
        return;
    a->out_work = true;
    give(s);
}

static int begin_prune(struct ps_server *s, const Corallite__ArchivePrune *m)
{
    struct ps_archive *a = s->archive;
    if (!a)
        return co_fail(CO_ERR_NOT_FOUND, "this pageserver %s",
                       s->options->follow ? "follows another one, which has the archive: ask that"
                                          : "has no archive");
    if (a->prune)
        return co_fail(CO_ERR_BUSY, "the archive is being pruned already");
    if (a->deposed)
        return co_fail(CO_ERR_STALE_TERM, "%s", a->why);
    a->prune = m->dry_run ? PS_PRUNE_DRY : PS_PRUNE_DO;
    a->pruned = (struct ps_pruned){0};
    return 0;
}

void ps_archive_prune_frame(struct ps_session *session, uint64_t request, struct co_span message)
{
    struct ps_server *s = session->s;
    Corallite__ArchivePrune *m = message_unpack(&corallite__archive_prune__descriptor, message);
    int rc = m ? begin_prune(s, m) : CO_ERR_PROTOCOL;
    if (m)
        protobuf_c_message_free_unpacked(&m->base, NULL);
    if (rc) {
        peer_send_error(session->peer, request, rc);
        return;
    }
    s->archive->pruner = session;
    s->archive->prune_request = request;
}

void ps_archive_forget(struct ps_session *session)
{
    struct ps_archive *a = session->s->archive;
    if (a && a->pruner == session)
        a->pruner = NULL;
}

void ps_archive_soon(struct ps_server *s, struct ps_archive_mark *mark)
{
    struct ps_archive *a = s->archive;
    if (!a)
        return;
    *mark = (struct ps_archive_mark){++a->asked, co_now_us()};
    a->soon = true;
    ps_archiver_hurry(a->thread);
    give_soon(s);
}

bool ps_archive_has(struct ps_server *s, const struct ps_archive_mark *mark)
{
    struct ps_archive *a = s->archive;
    if (!a || !mark->number)
        return true;
    take(s);
    give_soon(s);
    return a->done >= mark->number || a->failing || a->deposed ||
           co_now_us() - mark->since_us > PATIENCE_US;
}

bool ps_archive_lets_go(const struct ps_server *s, const struct ps_timeline *tl)
{
    return !s->archive || tl->archive_removed;
}

void ps_archive_status(struct ps_server *s, Corallite__ServerStatus *out)
{
    struct ps_archive *a = s->archive;
    if (!a)
        return;
    (void)measure(s);
    out->archive = (char *)(uintptr_t)s->options->archive;
    out->has_archive_lag_bytes = out->has_archive_behind_us = out->has_archived_us = 1;
    out->archive_lag_bytes = a->lag_bytes;
    out->archive_behind_us = a->behind_us ? co_now_us() - a->behind_us + 1 : 0;
    out->archived_us = a->manifest_us;
    if (a->failing)
        out->archive_trouble = a->why;
}

int ps_archive_start(struct ps_server *s)
{
    if (!s->options->archive[0] || s->options->follow)
        return 0; /* who follows reads what is there (refill_uv.c) */
    s->archive = calloc(1, sizeof *s->archive);
    if (!s->archive)
        return co_fail(CO_ERR_NOMEM, "no memory to archive with");
    struct ps_archiver_options options = {.url = s->options->archive,
                                          .cluster = s->identity.cluster,
                                          .disk = s->identity.disk,
                                          .store = s->store,
                                          .snapshot_every = s->options->snapshot_every};
    return ps_archiver_start(&options, &s->archive->thread);
}

void ps_archive_close(struct ps_server *s)
{
    if (!s->archive)
        return;
    ps_archiver_stop(s->archive->thread);
    free(s->archive);
    s->archive = NULL;
}

/* -- After the loss of a pageserver's disk ----------------------------------------------------- */

struct recovered {
    struct ps_txn *txn;
    uint32_t n;
};

/* Of two of one name the younger counts: the archive may be behind, and so may a store that was a
 * follower's. */
static int put_pin(void *arg, const struct ps_pin_row *pin)
{
    struct recovered *r = arg;
    struct ps_pin_row have;
    int rc = ps_pin_get(r->txn, &pin->database, pin->name, &have);
    if (rc == CO_ERR_NOT_FOUND || (!rc && have.created_us < pin->created_us)) {
        r->n++;
        rc = ps_pin_put(r->txn, pin);
    }
    return rc;
}

/* Also into a store that was a follower's: what the lost one had told last has not come to it. Who
 * has this word does not begin without, since its own first manifest would be without them. */
int ps_archive_recover(struct ps_server *s)
{
    struct recovered r = {0};
    if (!s->options->archive[0] || !s->options->take_over)
        return 0;
    int rc = ps_write_new(s->store, &r.txn);
    if (!rc)
        rc = ps_write_begin(r.txn);
    if (!rc)
        rc = ps_archive_read(s->options->archive, &s->identity.cluster, put_pin, &r, &s->snapshots);
    if (!rc)
        rc = ps_write_commit(r.txn);
    else if (r.txn)
        ps_write_abort(r.txn);
    ps_write_free(r.txn);
    if (rc) {
        char why[CO_SENTENCE_MAX - 200];
        snprintf(why, sizeof why, "%s", co_sentence());
        return co_fail(rc,
                       "the pins that the lost pageserver had could not be read: %s. Without "
                       "--archive they are given up",
                       why);
    }
    co_info(MODULE, "pins from the archive n=%u", r.n);
    return 0;
}
