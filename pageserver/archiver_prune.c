/*
 * archiver_prune.c - what no kept moment needs goes from the archive, when somebody asks for it.
 *
 *   plan (before the manifest)      where each log begins from now on: at its snapshot
 *   carry out (after the manifest)  log below that; objects that no manifest tells of; manifests
 *                                   that others have replaced
 *
 * The log below a snapshot is not needed by any moment: the snapshot has all that the store kept,
 * pins and branch points included, and the store keeps no less than what it promises. From then on
 * nothing else has those moments, so the snapshot is read to its last byte before, and the log up
 * to it (V7). That reading is the cost: it is done for some seconds a round, and the log is
 * archived in between.
 *
 * What no manifest tells of: of timelines that are gone (put by a writer who did not know yet that
 * it was replaced), and of snapshots that were given up or never came to their end. Whatever a
 * later generation may have put stays.
 *
 * A crash on the way leaves objects that nothing refers to; the next prune, or for the log the next
 * listing of that timeline, takes them away.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/archiver_int.h"
#include "pageserver/registry.h"

#define MODULE  "pageserver/archive"
#define WORK_US 5000000u /* of one round */
#define AT_ONCE 256u

__attribute__((format(printf, 2, 3))) static void note(struct ps_archiver *a, const char *format,
                                                       ...)
{
    struct ps_pruned *p = &a->task->pruned;
    va_list args;
    if (p->n_notes == PS_PRUNE_NOTES)
        return;
    va_start(args, format);
    vsnprintf(p->notes[p->n_notes++], sizeof p->notes[0], format, args);
    va_end(args);
}

/* -- Where logs begin -------------------------------------------------------------------------- */

static lsn_t begin_of(const struct ps_archived *t, const struct ps_archive_line *l)
{
    return t->kept.lsn ? t->kept.lsn : l->meta.start_lsn;
}

/* Could its log begin at its snapshot? */
static bool is_ripe(struct ps_archiver *a, const struct ps_archive_line *l,
                    const struct ps_archived *t)
{
    char name[PS_META_NAME_TEXT];
    if (l->meta.state == PS_DROPPED || !t || t->snap.lsn <= begin_of(t, l) || t->kept_tried)
        return false;
    if (!l->rebuilding && l->no && l->last >= t->snap.lsn && l->cutoff >= t->snap.cutoff)
        return true;
    note(a, "%s: its log stays, because it is being rebuilt, or keeps more than its snapshot has",
         ps_meta_name(&l->meta, name));
    return false;
}

static int read_snapshot(struct ps_archiver *a, const struct ps_archived *t,
                         struct wal_digest *digest)
{
    Corallite__ArchiveSnapshot *index;
    struct co_buf rows = {0};
    int rc = ar_snap_index_get(a->store, &a->cluster, &t->id, &t->snap, &index);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < index->n_parts && !rc; i++) {
        rows.len = 0;
        rc = atomic_load(&a->stopping)
                 ? co_fail(CO_ERR_CANCELED, "the pageserver stops")
                 : ar_snap_part_get(a->store, &a->cluster, &t->id, &t->snap, index, i, &rows);
    }
    memcpy(digest->b, index->digest.data, sizeof digest->b);
    co_buf_free(&rows);
    corallite__archive_snapshot__free_unpacked(index, NULL);
    return rc;
}

/* Reads all of both: the snapshot, and the log that leads to it. */
static int prove(struct ps_archiver *a, const struct ps_archive_line *l,
                 const struct ps_archived *t, struct ar_kept *out)
{
    struct ar_walk walk;
    struct ar_line line = {.id = t->id,
                           .start = l->meta.start_lsn,
                           .base = l->meta.base_digest,
                           .end = t->snap.lsn,
                           .kept = t->kept};
    ps_meta_name(&l->meta, line.name);
    int rc = read_snapshot(a, t, &line.digest);
    if (rc)
        return rc;
    ar_walk_line(&walk, &a->cluster, &line);
    rc = ar_read_log(a->store, &a->cluster, &line, &walk, NULL);
    *out = (struct ar_kept){.lsn = walk.end,
                            .digest = walk.digest,
                            .term = walk.term,
                            .config = walk.config,
                            .time_us = walk.time_us};
    ar_walk_free(&walk);
    return rc;
}

static int move_begin(struct ps_archiver *a, const struct ps_archive_line *l, struct ps_archived *t)
{
    char name[PS_META_NAME_TEXT], from[LSN_TEXT], to[LSN_TEXT];
    struct ar_kept kept;
    int rc = prove(a, l, t, &kept);
    ps_meta_name(&l->meta, name);
    if (rc == CO_ERR_CORRUPT || rc == CO_ERR_NOT_FOUND || rc == CO_ERR_VERSION) {
        note(a, "%s: its log stays: %.300s", name, co_sentence());
        t->kept_tried = true;
        return 0;
    }
    if (rc)
        return rc;
    co_info(MODULE, "pruned name=%s from=%s to=%s", name, lsn_format(begin_of(t, l), from),
            lsn_format(kept.lsn, to));
    t->kept = kept;
    a->task->pruned.branches++;
    return 0;
}

int ps_prune_plan(struct ps_archiver *a)
{
    uint64_t until = co_now_us() + WORK_US;
    int rc = 0;
    for (uint32_t i = 0; i < a->task->n_lines && a->task->prune == PS_PRUNE_DO && !rc; i++) {
        const struct ps_archive_line *l = &a->task->lines[i];
        struct ps_archived *t = ps_archived_find(a, &l->meta.id, false);
        if (!is_ripe(a, l, t))
            continue;
        if (co_now_us() > until) {
            a->task->prune_again = true;
            break;
        }
        rc = move_begin(a, l, t);
    }
    return rc;
}

/* -- What nobody tells of ---------------------------------------------------------------------- */

struct strays {
    struct ps_archiver *a;
    char (*names)[AR_NAME_TEXT]; /* NULL: only counted */
    uint32_t n;
};

static bool is_told(const struct ps_archiver *a, const struct ps_archived *t,
                    const struct ar_snap_name *at)
{
    return (at->lsn == t->snap.lsn && at->generation == t->snap.generation) ||
           (at->lsn == t->old.lsn && at->generation == t->old.generation) ||
           ps_snaps_is_making(a, &t->id, at);
}

static bool is_stray(struct ps_archiver *a, const char *name)
{
    struct co_id id;
    struct ar_chunk chunk;
    struct ar_snap_name at;
    if (ar_parse_log(name, &id, &chunk)) {
        const struct ps_archived *t = ps_archived_find(a, &id, false);
        return !t || !t->wanted;
    }
    if (!ar_parse_snap(name, &id, &at) || at.generation > a->generation)
        return false;
    const struct ps_archived *t = ps_archived_find(a, &id, false);
    return !t || !t->wanted || !is_told(a, t, &at);
}

static int see(void *arg, const char *name, uint64_t size)
{
    struct strays *s = arg;
    if (!is_stray(s->a, name))
        return 0;
    s->a->task->pruned.stray_objects++;
    s->a->task->pruned.stray_bytes += size;
    if (s->names)
        snprintf(s->names[s->n++], AR_NAME_TEXT, "%s", name);
    return s->n == AT_ONCE;
}

/* Below one prefix. */
static int clear_strays(struct ps_archiver *a, struct strays *s, const char *prefix)
{
    int more = 1, rc = 0;
    while (more == 1 && !rc) {
        s->n = 0;
        more = ar_list(a->store, prefix, NULL, see, s);
        for (uint32_t i = 0; i < s->n && !rc; i++)
            rc = ar_remove(a->store, s->names[i]);
    }
    return rc ? rc : more;
}

static int strays(struct ps_archiver *a, bool dry)
{
    struct strays s = {.a = a};
    char id[CO_ID_TEXT], prefix[AR_NAME_TEXT];
    static const char *const kinds[] = {"log", "snap"};
    int rc = 0;
    s.names = dry ? NULL : calloc(AT_ONCE, sizeof *s.names);
    if (!dry && !s.names)
        return co_fail(CO_ERR_NOMEM, "no memory for a list of objects");
    for (int i = 0; i < 2 && !rc; i++) {
        snprintf(prefix, sizeof prefix, "%s/%s/", co_id_format(&a->cluster, id), kinds[i]);
        rc = clear_strays(a, &s, prefix);
    }
    free(s.names);
    return rc;
}

/* -- Carrying it out --------------------------------------------------------------------------- */

static void count_log(struct ps_archiver *a, const struct ps_archived *t, lsn_t below)
{
    struct ps_pruned *p = &a->task->pruned;
    uint64_t before = p->log_objects;
    for (uint32_t i = 0; i < t->n; i++)
        if (t->chunks[i].end <= below) {
            p->log_objects++;
            p->log_bytes += t->chunks[i].end - t->chunks[i].begin;
        }
    p->branches += p->log_objects > before;
}

/* Listed anew: what lies below the begin goes by that (archiver_chunks.c). */
static int clear_log(struct ps_archiver *a, const struct ps_archive_line *l, struct ps_archived *t,
                     bool dry)
{
    if (!dry && !t->kept_told)
        return 0;
    t->listed = t->listed && dry;
    int rc = ps_chunks_list(a, t);
    if (!rc && dry)
        count_log(a, t, is_ripe(a, l, t) ? t->snap.lsn : t->kept_told);
    return rc;
}

int ps_prune_carry_out(struct ps_archiver *a)
{
    bool dry = a->task->prune == PS_PRUNE_DRY;
    char prefix[AR_NAME_TEXT];
    int rc = 0;
    if (a->task->prune == PS_PRUNE_NONE)
        return 0;
    a->pruning = &a->task->pruned;
    ps_archived_unwant(a);
    for (uint32_t i = 0; i < a->task->n_lines && !rc; i++) {
        const struct ps_archive_line *l = &a->task->lines[i];
        struct ps_archived *t = ps_archived_find(a, &l->meta.id, false);
        if (!t || l->meta.state == PS_DROPPED)
            continue;
        t->wanted = true;
        rc = clear_log(a, l, t, dry);
        t->kept_tried &= a->task->prune_again;
    }
    if (!rc && !a->task->prune_again)
        rc = strays(a, dry);
    if (!rc && !dry && a->task->pruned.log_objects)
        rc = ps_archive_clear_old(a, ar_name_states(&a->cluster, prefix), 1,
                                  &a->task->pruned.manifests);
    a->pruning = NULL;
    return rc;
}
