/*
 * archiver_snap.c - snapshots of timelines, made of the store and put into the archive.
 *
 * When: a timeline's log has grown since its newest snapshot (or since its begin) by
 * `snapshot_every`, and by half of what that one takes. So what a lost pageserver has to replay is
 * bounded, and snapshots write at most some two bytes for each byte of log, however large a
 * database is. One at a time; each round works on it for a while, so that the log does not wait.
 *
 * At what: where the archived log ends now, with the chain's digest there. The store may be
 * further; what lies above is left out.
 *
 * What if something is collected meanwhile? Garbage is what no moment at or above the cut needs, no
 * pin and no branch point. While the cut is at or below the snapshot's LSN, nothing goes that the
 * log behind it builds on. The cut moves in the loop's memory before anything goes; so the task of
 * the next round, made after the last row was read, tells whether that held (V5). A branch that is
 * dropped and only kept for those that grew from it keeps less than that: it gets none.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/archiver_int.h"
#include "pageserver/metrics.h"
#include "pageserver/registry.h"
#include "pageserver/snapshot_lmdb.h"
#include "proto/message.h"

#define MODULE     "pageserver/archive"
#define STEP_BYTES CO_MIB        /* of one read transaction: while it lasts LMDB frees nothing */
#define PART_BYTES (12 * CO_MIB) /* a part ends behind the group that passes it */
#define WORK_US    3000000u      /* of one round */

struct ps_making {
    struct co_id timeline;
    struct ps_line line;
    struct ps_snap_out out;
    struct wal_digest digest;
    struct ar_snap snap;
    uint64_t raw_bytes;
    struct part {
        struct wal_digest sum;
        uint64_t bytes;
    } * parts;
    uint32_t n_parts, cap_parts;
    bool whole; /* the index is there too */
    uint64_t begun_us;
};

/* -- Taking away ------------------------------------------------------------------------------- */

struct doomed {
    const struct ps_archiver *a;
    const struct ar_snap *only, *but; /* either, or neither: all */
    char (*names)[AR_NAME_TEXT];
    uint32_t n;
};

#define AT_ONCE 256u

static int note_doomed(void *arg, const char *name, uint64_t size)
{
    struct doomed *d = arg;
    struct ar_snap_name at;
    struct co_id timeline;
    (void)size;
    if (!ar_parse_snap(name, &timeline, &at) || at.generation > d->a->generation)
        return 0;
    if (d->only && (at.lsn != d->only->lsn || at.generation != d->only->generation))
        return 0;
    if (d->but && d->but->lsn && at.lsn == d->but->lsn && at.generation == d->but->generation)
        return 0;
    snprintf(d->names[d->n++], AR_NAME_TEXT, "%s", name);
    return d->n == AT_ONCE;
}

/* Takes a timeline's objects away: those of one snapshot, all but those of one, or all; none of a
 * later generation. The index is the last by name: what is left by a crash is no snapshot. */
static int take_away(struct ps_archiver *a, const struct co_id *timeline,
                     const struct ar_snap *only, const struct ar_snap *but)
{
    struct doomed d = {.a = a, .only = only, .but = but};
    char prefix[AR_NAME_TEXT];
    int rc = 1;
    d.names = calloc(AT_ONCE, sizeof *d.names);
    if (!d.names)
        return co_fail(CO_ERR_NOMEM, "no memory for a list of objects");
    ar_name_snaps(&a->cluster, timeline, prefix);
    while (rc == 1) {
        d.n = 0;
        rc = ar_list(a->store, prefix, NULL, note_doomed, &d);
        int more = rc;
        for (uint32_t i = 0; rc >= 0 && i < d.n; i++)
            if ((rc = ar_remove(a->store, d.names[i])))
                break;
        if (!rc)
            rc = more;
    }
    free(d.names);
    return rc;
}

int ps_snaps_remove(struct ps_archiver *a, const struct co_id *timeline)
{
    struct ps_archived *t = ps_archived_find(a, timeline, false);
    if (t)
        t->snap = t->old = (struct ar_snap){0};
    return take_away(a, timeline, NULL, NULL);
}

int ps_snaps_replaced(struct ps_archiver *a)
{
    int rc = 0;
    for (uint32_t i = 0; i < a->task->n_lines && !rc; i++) {
        struct ps_archived *t = ps_archived_find(a, &a->task->lines[i].meta.id, false);
        if (!t || !t->old.lsn)
            continue;
        rc = ps_archive_still_ours(a);
        if (!rc)
            rc = take_away(a, &t->id, &t->old, NULL);
        if (!rc)
            t->old = (struct ar_snap){0};
    }
    return rc;
}

/* -- Telling of it ----------------------------------------------------------------------------- */

static void free_making(struct ps_archiver *a)
{
    if (a->making)
        free(a->making->parts);
    free(a->making);
    a->making = NULL;
}

bool ps_snaps_is_making(const struct ps_archiver *a, const struct co_id *timeline,
                        const struct ar_snap_name *at)
{
    const struct ps_making *m = a->making;
    return m && co_id_eq(&m->timeline, timeline) && m->snap.lsn == at->lsn &&
           m->snap.generation == at->generation;
}

void ps_snaps_free(struct ps_archiver *a)
{
    free_making(a);
    ps_read_free(a->read);
    a->read = NULL;
}

static const struct ps_archive_line *line_of(const struct ps_archiver *a, const struct co_id *id)
{
    for (uint32_t i = 0; i < a->task->n_lines; i++)
        if (co_id_eq(&a->task->lines[i].meta.id, id))
            return &a->task->lines[i];
    return NULL;
}

/* May a snapshot be made of it at `lsn`, and may one that was made be told of? */
static bool is_fit(const struct ps_archive_line *l, lsn_t lsn)
{
    return l && ps_state_readable(l->meta.state) && !l->meta.hidden && !l->rebuilding && l->no &&
           l->last >= lsn && l->cutoff <= lsn;
}

/* What was put of it stays until the next one of this timeline is begun. */
static void give_up(struct ps_archiver *a, const char *why)
{
    struct ps_archived *t = ps_archived_find(a, &a->making->timeline, false);
    char id[CO_ID_TEXT];
    if (t)
        t->snap_tried = a->making->snap.lsn;
    co_warn(MODULE, "a snapshot was given up timeline=%s: %s",
            co_id_format(&a->making->timeline, id), why);
    free_making(a);
}

void ps_snaps_adopt(struct ps_archiver *a)
{
    struct ps_making *m = a->making;
    char id[CO_ID_TEXT], lsn[LSN_TEXT];
    if (!m)
        return;
    const struct ps_archive_line *l = line_of(a, &m->timeline);
    struct ps_archived *t = ps_archived_find(a, &m->timeline, false);
    if (!is_fit(l, m->snap.lsn) || !t || t->end < m->snap.lsn) {
        give_up(a, "its history was cut, or it was dropped or is being rebuilt, meanwhile");
        return;
    }
    if (!m->whole)
        return;
    m->snap.cutoff = l->cutoff;
    t->old = t->snap;
    t->snap = m->snap;
    co_info(MODULE, "snapshot timeline=%s lsn=%s rows=%llu bytes=%llu duration_ms=%llu",
            co_id_format(&m->timeline, id), lsn_format(m->snap.lsn, lsn),
            (unsigned long long)m->out.rows, (unsigned long long)m->snap.bytes,
            (unsigned long long)(co_now_us() - m->begun_us) / 1000);
    co_metric_add(&ps_m_archive_snapshots, 1);
    free_making(a);
}

/* -- Making one -------------------------------------------------------------------------------- */

static int put(struct ps_archiver *a, struct ps_making *m, uint32_t number,
               const struct co_buf *bytes, struct wal_digest *sum)
{
    char name[AR_NAME_TEXT];
    struct ar_snap_name at = {m->snap.lsn, m->snap.generation, number, .sum = {{0}}};
    ar_sum(co_buf_span(bytes), &at.sum);
    int rc =
        ar_put(a->store, ar_name_snap(&a->cluster, &m->timeline, &at, name), co_buf_span(bytes));
    if (rc)
        return rc;
    *sum = at.sum;
    m->snap.bytes += bytes->len;
    co_metric_add(&ps_m_archive_snapshot_bytes, bytes->len);
    return 0;
}

/* A read transaction a step: in between LMDB can use again what was freed. */
static int read_rows(struct ps_archiver *a, struct ps_making *m, struct co_buf *rows)
{
    int rc = a->read ? 0 : ps_read_new(a->pages, &a->read);
    while (!rc && !m->out.done && rows->len < PART_BYTES &&
           !(rows->len && atomic_load(&a->hurry))) {
        size_t upto = rows->len + STEP_BYTES;
        if (atomic_load(&a->stopping))
            return co_fail(CO_ERR_CANCELED, "the pageserver stops");
        rc = ps_read_renew(a->read);
        if (!rc)
            rc = ps_snap_read(a->read, &m->out, upto, rows);
        ps_read_reset(a->read);
    }
    return rc;
}

static int keep_part(struct ps_making *m, const struct part *part)
{
    if (m->n_parts == m->cap_parts) {
        uint32_t cap = m->cap_parts ? 2 * m->cap_parts : 16;
        struct part *parts = realloc(m->parts, cap * sizeof *parts);
        if (!parts)
            return co_fail(CO_ERR_NOMEM, "no memory for a snapshot of %u parts", cap);
        m->parts = parts;
        m->cap_parts = cap;
    }
    m->parts[m->n_parts++] = *part;
    return 0;
}

/* *damaged: the store's fault, not the archive's. A part that was not put is read again. */
static int make_part(struct ps_archiver *a, struct ps_making *m, bool *damaged)
{
    struct ps_snap_out before = m->out;
    struct co_buf rows = {0}, object = {0};
    struct ar_snap_name at = {.lsn = m->snap.lsn, .number = m->n_parts};
    struct part part;
    int rc = read_rows(a, m, &rows);
    if (!rc && rows.len > AR_SNAP_ROWS_MAX)
        rc = co_fail(CO_ERR_TOO_LARGE, "a part of a snapshot would have %zu bytes", rows.len);
    *damaged = rc && rc != CO_ERR_CANCELED;
    if (!rc && rows.len)
        rc = ar_snap_pack(&m->timeline, &at, co_buf_span(&rows), &object);
    if (!rc && rows.len)
        rc = put(a, m, m->n_parts, &object, &part.sum);
    part.bytes = object.len;
    if (!rc && rows.len)
        rc = keep_part(m, &part);
    m->raw_bytes += rc ? 0 : rows.len;
    if (rc)
        m->out = before;
    co_buf_free(&rows);
    co_buf_free(&object);
    return rc;
}

static int fill_head(struct ps_archiver *a, struct ps_making *m, Corallite__ArchiveSnapshot *head)
{
    struct ps_commit c = {0};
    int rc = ps_read_renew(a->read);
    if (!rc)
        rc = ps_commit_at(a->read, &m->line, m->snap.lsn, &c);
    ps_read_reset(a->read);
    if (rc && rc != CO_ERR_NOT_FOUND)
        return rc;
    head->has_cluster = head->has_timeline = head->has_lsn = head->has_digest = 1;
    head->has_generation = head->has_made_us = head->has_time_us = head->has_db_pages = 1;
    head->has_page_size = head->has_rows = head->has_raw_bytes = 1;
    head->cluster = msg_bytes16(a->cluster.b);
    head->timeline = msg_bytes16(m->timeline.b);
    head->lsn = m->snap.lsn;
    head->digest = msg_bytes16(m->digest.b);
    head->generation = m->snap.generation;
    head->made_us = co_wall_us();
    head->time_us = c.time_us;
    head->db_pages = c.db_pages;
    head->page_size = c.page_size;
    head->rows = m->out.rows;
    head->raw_bytes = m->raw_bytes;
    return 0;
}

static int make_index(struct ps_archiver *a, struct ps_making *m)
{
    Corallite__ArchiveSnapshot head = CORALLITE__ARCHIVE_SNAPSHOT__INIT;
    Corallite__ArchiveSnapshot__Part *wire = calloc(m->n_parts + 1, sizeof *wire);
    Corallite__ArchiveSnapshot__Part **list = calloc(m->n_parts + 1, sizeof(void *));
    struct co_buf object = {0};
    int rc = wire && list ? 0 : co_fail(CO_ERR_NOMEM, "no memory for an index");
    for (uint32_t i = 0; !rc && i < m->n_parts; i++) {
        corallite__archive_snapshot__part__init(&wire[i]);
        wire[i].has_sum = wire[i].has_bytes = 1;
        wire[i].sum = msg_bytes16(m->parts[i].sum.b);
        wire[i].bytes = m->parts[i].bytes;
        list[i] = &wire[i];
    }
    if (!rc)
        rc = fill_head(a, m, &head);
    head.n_parts = m->n_parts;
    head.parts = list;
    if (!rc)
        rc = ar_snap_index_pack(&head, &object);
    if (!rc)
        rc = put(a, m, AR_SNAP_INDEX, &object, &m->snap.sum);
    m->whole = !rc;
    co_buf_free(&object);
    free(wire);
    free(list);
    return rc;
}

/* -- When -------------------------------------------------------------------------------------- */

static bool is_due(const struct ps_archiver *a, const struct ps_archive_line *l,
                   const struct ps_archived *t)
{
    lsn_t from = t->snap.lsn > l->meta.start_lsn ? t->snap.lsn : l->meta.start_lsn;
    uint64_t grown = t->end > from ? t->end - from : 0;
    return a->snapshot_every && grown >= a->snapshot_every && grown >= t->snap.bytes / 2 &&
           (!t->snap_tried || t->end >= t->snap_tried + a->snapshot_every) && !t->old.lsn;
}

static int begin(struct ps_archiver *a, const struct ps_archive_line *l,
                 const struct ps_archived *t)
{
    /* What was put by one that did not come to its end goes first. */
    int rc = take_away(a, &t->id, NULL, &t->snap);
    struct ps_making *m = rc ? NULL : calloc(1, sizeof *m);
    if (!m)
        return rc ? rc : co_fail(CO_ERR_NOMEM, "no memory for a snapshot");
    m->timeline = m->line.id = t->id;
    m->line.no = l->no;
    m->out.line = &m->line;
    m->out.lsn = m->snap.lsn = t->end;
    m->snap.generation = a->generation;
    m->digest = t->digest;
    m->begun_us = co_now_us();
    a->making = m;
    return 0;
}

static int begin_next(struct ps_archiver *a)
{
    for (uint32_t i = 0; i < a->task->n_lines; i++) {
        const struct ps_archive_line *l = &a->task->lines[i];
        const struct ps_archived *t = ps_archived_find(a, &l->meta.id, false);
        if (!t || !is_due(a, l, t))
            continue;
        if (is_fit(l, t->end))
            return begin(a, l, t);
        a->later |= l->rebuilding; /* when that has ended it may be */
    }
    return 0;
}

int ps_snaps_work(struct ps_archiver *a)
{
    uint64_t until = co_now_us() + WORK_US;
    a->later = false;
    int rc = a->making ? 0 : begin_next(a);
    bool damaged = false;
    while (!rc && a->making && !a->making->whole && co_now_us() < until && !atomic_load(&a->hurry))
        rc = a->making->out.done ? make_index(a, a->making) : make_part(a, a->making, &damaged);
    if (rc && damaged) { /* told, and not the archive's trouble */
        give_up(a, co_sentence());
        rc = 0;
    }
    return rc;
}
