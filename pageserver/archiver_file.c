/*
 * archiver_file.c - the archiver's thread: rounds, generations, manifests. See archiver.h.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/crc32c.h"
#include "common/log.h"
#include "common/mutation.h"
#include "pageserver/archiver_int.h"
#include "pageserver/metrics.h"
#include "proto/message.h"

#define MODULE       "pageserver/archive"
#define N_BUCKETS    4096u
#define CLAIM_TRIES  16
#define KEEP_STATES  3u
#define KEEP_WRITERS 8u
/* With nothing new the newest manifest is written again so often, so that its time says that the
 * archive was looked after. */
#define MANIFEST_IDLE_US 600000000u

void ps_archive_task_free(struct ps_archive_task *task)
{
    if (!task)
        return;
    free(task->lines);
    free(task->pins);
    free(task);
}

/* -- What is archived, by timeline ------------------------------------------------------------- */

struct ps_archived *ps_archived_find(struct ps_archiver *a, const struct co_id *id, bool make)
{
    struct ps_archived **at = &a->by_id[co_get32(id->b) % N_BUCKETS];
    while (*at && !co_id_eq(&(*at)->id, id))
        at = &(*at)->next;
    if (!*at && make) {
        *at = calloc(1, sizeof **at);
        if (*at)
            (*at)->id = *id;
        else
            co_fail(CO_ERR_NOMEM, "no memory to archive a timeline");
    }
    return *at;
}

void ps_archived_unwant(struct ps_archiver *a)
{
    for (uint32_t i = 0; i < N_BUCKETS; i++)
        for (struct ps_archived *t = a->by_id[i]; t; t = t->next)
            t->wanted = false;
}

void ps_archived_forget(struct ps_archiver *a)
{
    for (uint32_t i = 0; i < N_BUCKETS; i++)
        while (a->by_id[i]) {
            struct ps_archived *t = a->by_id[i];
            a->by_id[i] = t->next;
            free(t->chunks);
            free(t);
        }
}

/* -- Generations ------------------------------------------------------------------------------- */

static int found_one(void *arg, const char *name, uint64_t size)
{
    (void)size;
    snprintf(arg, AR_NAME_TEXT, "%s", name);
    return 1;
}

/* V9 */
static int begins_empty(struct ps_archiver *a)
{
    char prefix[AR_NAME_TEXT], found[AR_NAME_TEXT] = "", id[CO_ID_TEXT];
    snprintf(prefix, sizeof prefix, "%s/log/", co_id_format(&a->cluster, id));
    int rc = ar_list(a->store, prefix, NULL, found_one, found);
    return rc != 1 ? rc
                   : co_fail(CO_ERR_CORRUPT,
                             "the archive %s has log of this cluster (%s) and no manifest that "
                             "tells of it: put the newest one back from a copy, or begin with "
                             "another directory or prefix",
                             a->url, found);
}

static int load_state(struct ps_archiver *a)
{
    Corallite__ArchiveState *state;
    struct ar_line line;
    int rc = ar_newest_state(a->store, &a->cluster, NULL, &state);
    a->unbegun = rc == CO_ERR_NOT_FOUND;
    if (rc)
        return a->unbegun ? begins_empty(a) : rc;
    ps_archived_forget(a);
    for (size_t i = 0; i < state->n_lines && !rc; i++) {
        rc = ar_line_read(state->lines[i], &line);
        struct ps_archived *t = rc ? NULL : ps_archived_find(a, &line.id, true);
        if (!rc && !t)
            rc = CO_ERR_NOMEM;
        if (!rc) {
            t->end = line.end;
            t->digest = line.digest;
            t->time_us = line.time_us;
            t->snap = line.snap;
            t->kept = line.kept;
            t->kept_told = line.kept.lsn;
        }
    }
    corallite__archive_state__free_unpacked(state, NULL);
    return rc;
}

/* The next generation is ours, or somebody else's. An answer that was lost is found out by what is
 * there. */
static int claim_one(struct ps_archiver *a, uint64_t generation)
{
    char name[AR_NAME_TEXT], text[200], disk[CO_ID_TEXT], nonce[CO_ID_TEXT];
    struct co_buf there = {0};
    int n = snprintf(text, sizeof text, "pageserver %s\nclaim %s\n", co_id_format(&a->disk, disk),
                     co_id_format(&a->nonce, nonce));
    ar_name_writer(&a->cluster, generation, name);
    int rc = ar_put_if_absent(a->store, name, co_span_of(text, (size_t)n));
    if (rc != CO_ERR_EXISTS)
        return rc;
    rc = ar_get(a->store, name, 0, sizeof text, &there, NULL);
    if (!rc && (there.len != (size_t)n || memcmp(there.data, text, there.len) != 0))
        rc = co_fail(CO_ERR_EXISTS, "somebody else began to archive there at this moment");
    co_buf_free(&there);
    return rc;
}

static int claim(struct ps_archiver *a)
{
    uint64_t newest = 0;
    int rc = CO_ERR_EXISTS;
    for (int i = 0; i < CLAIM_TRIES && rc == CO_ERR_EXISTS; i++) {
        rc = ar_newest_writer(a->store, &a->cluster, &newest);
        if (!rc)
            rc = claim_one(a, newest + 1);
    }
    if (!rc)
        rc = load_state(a);
    if (rc)
        return rc;
    a->generation = newest + 1;
    co_info(MODULE, "archives url=%s generation=%llu", a->url, (unsigned long long)a->generation);
    return 0;
}

/* V3 */
int ps_archive_still_ours(struct ps_archiver *a)
{
    uint64_t newest;
    int rc = ar_newest_writer(a->store, &a->cluster, &newest);
    if (rc || newest == a->generation)
        return rc;
    if (newest < a->generation)
        return co_fail(CO_ERR_IO,
                       "the archive %s does not have what was written there: generation %llu is "
                       "missing. Is it another directory than before?",
                       a->url, (unsigned long long)a->generation);
    a->task->deposed = true;
    return co_fail(CO_ERR_STALE_TERM,
                   "another pageserver archives this cluster in %s (generation %llu, this one has "
                   "%llu); this one has stopped archiving",
                   a->url, (unsigned long long)newest, (unsigned long long)a->generation);
}

/* -- Manifests --------------------------------------------------------------------------------- */

static Corallite__ArchiveSnapshotAt *snap_wire(const struct ar_snap *snap,
                                               Corallite__ArchiveSnapshotAt *out)
{
    out->has_lsn = out->has_generation = out->has_sum = out->has_bytes = out->has_cutoff = 1;
    out->lsn = snap->lsn;
    out->generation = snap->generation;
    out->sum = msg_bytes16(snap->sum.b);
    out->bytes = snap->bytes;
    out->cutoff = snap->cutoff;
    return out;
}

static Corallite__ArchiveKept *kept_wire(const struct ar_kept *kept, struct msg_config *config,
                                         Corallite__ArchiveKept *out)
{
    out->has_lsn = out->has_digest = out->has_term = out->has_time_us = 1;
    out->lsn = kept->lsn;
    out->digest = msg_bytes16(kept->digest.b);
    out->term = kept->term;
    out->time_us = kept->time_us;
    if (kept->config.version) {
        msg_config_fill(&kept->config, config);
        out->config = &config->pb;
    }
    return out;
}

/* *kept: a log begins later than its timeline. */
static int add_lines(struct ps_archiver *a, struct co_buf *out, bool *kept)
{
    int rc = 0;
    *kept = false;
    for (uint32_t i = 0; i < a->task->n_lines && !rc; i++) {
        const struct ps_archive_line *l = &a->task->lines[i];
        const struct ps_archived *t = ps_archived_find(a, &l->meta.id, false);
        struct ps_meta_wire wire;
        Corallite__ArchiveState__Line line = CORALLITE__ARCHIVE_STATE__LINE__INIT;
        Corallite__ArchiveSnapshotAt snap = CORALLITE__ARCHIVE_SNAPSHOT_AT__INIT;
        Corallite__ArchiveKept begin = CORALLITE__ARCHIVE_KEPT__INIT;
        struct msg_config config;
        if (l->meta.state == PS_DROPPED)
            continue;
        ps_meta_to_wire(&l->meta, &wire);
        line.timeline = &wire.wire;
        line.has_end_lsn = line.has_digest = line.has_time_us = line.has_known_lsn = 1;
        line.end_lsn = t ? t->end : l->meta.start_lsn;
        line.digest = msg_bytes16(t ? t->digest.b : l->meta.base_digest.b);
        line.time_us = t ? t->time_us : 0;
        line.known_lsn = l->known > line.end_lsn ? l->known : line.end_lsn;
        if (t && t->snap.lsn)
            line.snapshot = snap_wire(&t->snap, &snap);
        if (t && t->kept.lsn) {
            line.kept = kept_wire(&t->kept, &config, &begin);
            *kept = true;
        }
        rc = ar_state_add_line(&line, out);
    }
    return rc;
}

static int add_pins(const struct ps_archive_task *task, struct co_buf *out)
{
    int rc = 0;
    for (uint32_t i = 0; i < task->n_pins && !rc; i++) {
        const struct ps_pin_row *p = &task->pins[i];
        Corallite__ArchiveState__Pin pin = CORALLITE__ARCHIVE_STATE__PIN__INIT;
        pin.has_database = pin.has_timeline = pin.has_lsn = pin.has_time_us = 1;
        pin.has_created_us = 1;
        pin.database = msg_bytes16(p->database.b);
        pin.name = (char *)(uintptr_t)p->name; /* never written through */
        pin.timeline = msg_bytes16(p->timeline.b);
        pin.lsn = p->lsn;
        pin.time_us = p->time_us;
        pin.created_us = p->created_us;
        rc = ar_state_add_pin(&pin, out);
    }
    return rc;
}

struct old {
    struct ps_archiver *a;
    uint32_t n; /* names seen */
    char names[32][AR_NAME_TEXT];
};

/* Keeps the newest 32 names in a ring. */
static int note_old(void *arg, const char *name, uint64_t size)
{
    struct old *old = arg;
    (void)size;
    snprintf(old->names[old->n++ % 32], AR_NAME_TEXT, "%s", name);
    return 0;
}

int ps_archive_clear_old(struct ps_archiver *a, const char *prefix, uint32_t keep, uint64_t *n)
{
    struct old old = {.a = a};
    int rc = ar_list(a->store, prefix, NULL, note_old, &old);
    uint32_t from = old.n > 32 ? old.n - 32 : 0;
    for (uint32_t i = from; !rc && i + keep < old.n; i++) {
        rc = ar_remove(a->store, old.names[i % 32]);
        if (n)
            *n += !rc;
    }
    return rc;
}

static int put_manifest(struct ps_archiver *a, struct co_buf *bytes, bool kept)
{
    char name[AR_NAME_TEXT], prefix[AR_NAME_TEXT];
    struct ar_place place = {a->cluster, a->generation, a->sequence};
    int rc = ar_state_seal(bytes, kept);
    if (!rc)
        rc = ar_put_if_absent(a->store, ar_name_state(&place, name), co_buf_span(bytes));
    if (rc)
        return rc;
    a->manifest_us = a->task->time_us;
    a->manifest_mono_us = co_now_us();
    a->written = true;
    /* Often enough that the ring of names has all that are too many. */
    if (a->sequence % 16 == 1)
        rc = ps_archive_clear_old(a, ar_name_writers(&a->cluster, prefix), KEEP_WRITERS, NULL);
    if (!rc && a->sequence % 16 == 1)
        rc = ps_archive_clear_old(a, ar_name_states(&a->cluster, prefix), KEEP_STATES, NULL);
    return rc;
}

int ps_archive_manifest(struct ps_archiver *a)
{
    struct co_buf bytes = {0};
    bool kept = false;
    Corallite__ArchiveState head = CORALLITE__ARCHIVE_STATE__INIT;
    head.has_cluster = head.has_generation = head.has_sequence = head.has_pageserver = 1;
    head.has_time_us = 1;
    head.cluster = msg_bytes16(a->cluster.b);
    head.pageserver = msg_bytes16(a->disk.b);
    head.generation = a->generation;
    head.sequence = ++a->sequence; /* also of one that fails: it may be there */
    head.time_us = a->task->time_us;
    int rc = ar_state_begin(&head, &bytes);
    size_t from = bytes.len;
    if (!rc)
        rc = add_lines(a, &bytes, &kept);
    if (!rc)
        rc = add_pins(a->task, &bytes);
    uint32_t crc = rc ? 0 : co_crc32c((uint32_t)bytes.len, bytes.data + from, bytes.len - from);
    bool idle =
        a->written && crc == a->written_crc && co_now_us() - a->manifest_mono_us < MANIFEST_IDLE_US;
    if (!rc && idle)
        a->manifest_us = a->task->time_us; /* it tells what there is now, too */
    else if (!rc)
        rc = put_manifest(a, &bytes, kept);
    if (!rc)
        a->written_crc = crc;
    else
        a->written = false;
    co_buf_free(&bytes);
    return rc;
}

/* -- A round ----------------------------------------------------------------------------------- */

static int prepare(struct ps_archiver *a)
{
    int rc = 0;
    if (!a->store) {
        struct ar_store *store = NULL;
        rc = ar_open(a->url, NULL, &store);
        pthread_mutex_lock(&a->mutex);
        a->store = store;
        if (store && a->stop)
            ar_cancel(store);
        pthread_mutex_unlock(&a->mutex);
    }
    if (!rc && !a->generation)
        rc = claim(a);
    else if (!rc)
        rc = ps_archive_still_ours(a);
    if (!rc && a->unbegun) { /* V9 */
        rc = ps_archive_manifest(a);
        a->unbegun = rc != 0;
    }
    return rc;
}

static int archive_line(struct ps_archiver *a, struct ps_archive_line *l)
{
    if (l->meta.state == PS_DROPPED) {
        int rc = l->meta.purged ? 0 : ps_chunks_remove(a, &l->meta.id);
        if (!rc && !l->meta.purged)
            rc = ps_snaps_remove(a, &l->meta.id);
        l->removed = !rc;
        a->at_archive = rc != 0;
        return rc;
    }
    struct ps_archived *t = ps_archived_find(a, &l->meta.id, true);
    a->at_archive = false;
    if (!t)
        return CO_ERR_NOMEM;
    if (t->end < l->meta.start_lsn) {
        t->end = l->meta.start_lsn;
        t->digest = l->meta.base_digest;
    }
    return t->end < l->last ? ps_archive_pull(a, l, t) : 0;
}

/* Only what failed at the archive fails for all; and damage is one timeline's. */
static bool ends_round(const struct ps_archiver *a, int rc)
{
    return rc && rc != CO_ERR_CORRUPT && a->at_archive;
}

/* V8 */
static void stand(struct ps_archiver *a)
{
    for (uint32_t i = 0; i < a->task->n_lines; i++) {
        struct ps_archived *t = ps_archived_find(a, &a->task->lines[i].meta.id, false);
        if (t && a->task->lines[i].meta.state != PS_DROPPED)
            t->stands = t->end;
        if (t)
            t->kept_told = t->kept.lsn;
    }
}

int ps_archive_work(struct ps_archiver *a)
{
    int rc = prepare(a), first = 0;
    char why[CO_SENTENCE_MAX] = "";
    if (!rc)
        ps_snaps_adopt(a);
    for (uint32_t i = 0; i < a->task->n_lines && !rc; i++) {
        rc = archive_line(a, &a->task->lines[i]);
        if (rc && rc != CO_ERR_AGAIN && !first) {
            first = rc;
            snprintf(why, sizeof why, "%s", co_sentence());
        }
        if (!ends_round(a, rc))
            rc = 0;
    }
    if (!rc)
        rc = ps_prune_plan(a);
    if (rc)
        return rc;
    rc = ps_archive_manifest(a);
    if (!rc)
        rc = ps_archive_still_ours(a);
    if (!rc)
        stand(a);
    if (!rc)
        rc = ps_snaps_replaced(a);
    if (!rc)
        rc = ps_prune_carry_out(a);
    for (uint32_t i = 0; i < a->task->n_lines && !rc; i++) {
        struct ps_archived *t = ps_archived_find(a, &a->task->lines[i].meta.id, false);
        if (t && a->task->lines[i].meta.state != PS_DROPPED)
            rc = ps_chunks_merge(a, t);
    }
    if (!rc)
        rc = ps_snaps_work(a);
    return rc ? rc : first ? co_fail(first, "%s", why) : 0;
}

static void round_of(struct ps_archiver *a)
{
    struct ps_archive_task *task = a->task;
    task->rc = ps_archive_work(a);
    if (task->rc)
        snprintf(task->why, sizeof task->why, "%s", co_sentence());
    if (task->rc)
        co_metric_add(&ps_m_archive_failures, 1);
    psock_close(&a->sock);
    task->manifest_us = a->manifest_us;
    task->again = a->making || a->later;
    for (uint32_t i = 0; i < task->n_lines; i++) {
        const struct ps_archived *t = ps_archived_find(a, &task->lines[i].meta.id, false);
        task->lines[i].end = t ? t->end : 0;
        task->lines[i].stands = t ? t->stands : 0;
        if (co_mutated(ARCHIVED_ASSUMED))
            task->lines[i].stands = task->lines[i].last;
        task->lines[i].snap = t ? t->snap.lsn : 0;
    }
}

static void *thread_main(void *arg)
{
    struct ps_archiver *a = arg;
    pthread_mutex_lock(&a->mutex);
    while (!a->stop) {
        if (!a->task) {
            pthread_cond_wait(&a->cond, &a->mutex);
            continue;
        }
        pthread_mutex_unlock(&a->mutex);
        round_of(a);
        pthread_mutex_lock(&a->mutex);
        a->done = a->task;
        a->task = NULL;
    }
    pthread_mutex_unlock(&a->mutex);
    return NULL;
}

/* -- From the loop ----------------------------------------------------------------------------- */

int ps_archiver_start(const struct ps_archiver_options *options, struct ps_archiver **out)
{
    struct ps_archiver *a = calloc(1, sizeof *a);
    if (a)
        a->by_id = calloc(N_BUCKETS, sizeof *a->by_id);
    if (!a || !a->by_id) {
        free(a);
        return co_fail(CO_ERR_NOMEM, "no memory to archive with");
    }
    a->url = options->url;
    a->cluster = options->cluster;
    a->disk = options->disk;
    a->pages = options->store;
    a->snapshot_every = options->snapshot_every;
    a->nonce = co_id_random();
    a->sock.fd = -1;
    pthread_mutex_init(&a->mutex, NULL);
    pthread_cond_init(&a->cond, NULL);
    int err = pthread_create(&a->thread, NULL, thread_main, a);
    if (err) {
        free(a->by_id);
        free(a);
        return co_fail_errno(CO_ERR_NOMEM, err, "the archiver's thread cannot be made");
    }
    *out = a;
    return 0;
}

void ps_archiver_give(struct ps_archiver *a, struct ps_archive_task *task)
{
    pthread_mutex_lock(&a->mutex);
    co_assert(!a->task && !a->done);
    atomic_store(&a->hurry, false);
    a->task = task;
    pthread_cond_signal(&a->cond);
    pthread_mutex_unlock(&a->mutex);
}

void ps_archiver_hurry(struct ps_archiver *a)
{
    atomic_store(&a->hurry, true);
}

struct ps_archive_task *ps_archiver_take(struct ps_archiver *a)
{
    pthread_mutex_lock(&a->mutex);
    struct ps_archive_task *task = a->done;
    a->done = NULL;
    pthread_mutex_unlock(&a->mutex);
    return task;
}

void ps_archiver_stop(struct ps_archiver *a)
{
    if (!a)
        return;
    atomic_store(&a->stopping, true);
    pthread_mutex_lock(&a->mutex);
    a->stop = true;
    if (a->store)
        ar_cancel(a->store);
    pthread_cond_signal(&a->cond);
    pthread_mutex_unlock(&a->mutex);
    pthread_join(a->thread, NULL);
    ps_archive_task_free(a->task);
    ps_archive_task_free(a->done);
    ar_close(a->store);
    ps_snaps_free(a);
    ps_archived_forget(a);
    free(a->by_id);
    pthread_mutex_destroy(&a->mutex);
    pthread_cond_destroy(&a->cond);
    free(a);
}
