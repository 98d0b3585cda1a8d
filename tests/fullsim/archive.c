/*
 * archive.c - what must hold of the archive (V1 to V9 of pageserver/archiver.h), as its medium has
 * it (vault.c).
 *
 * At each manifest: what it tells of is there and durable, without gaps, and ends where the
 * committed log has that digest. Whenever a safekeeper is told that so much is archived: the newest
 * manifest that is durable tells so. At the end: the archive gets everything that is committed, and
 * each record that it has is read back and compared, with the product's own code.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/read.h"
#include "common/assert.h"
#include "safekeeper/segment_file.h"
#include "safekeeper/server.h"
#include "tests/fullsim/client.h"
#include "tests/fullsim/vault.h"

#define URL        "dir:/sim/archive"
#define MAX_CHUNKS 1024u
#define PATIENCE   120000000u /* so long it may take to archive all, once nobody writes any more */

/* ---- what is there -----------------------------------------------------------------------------
 */

static struct {
    struct ar_chunk all[MAX_CHUNKS];
    uint32_t n;
} chunks;

static void note_chunk(void *arg, const char *name, const uint8_t *bytes, size_t len)
{
    struct co_id id;
    struct ar_chunk *c = &chunks.all[chunks.n];
    (void)arg;
    (void)bytes;
    co_assert(chunks.n < MAX_CHUNKS);
    if (ar_parse_log(name, &id, c) && c->end - c->begin == len)
        chunks.n++;
}

static void list_below(const char *kind, const struct co_id *id, vault_fn *fn, void *arg)
{
    char dir[AR_NAME_TEXT], a[CO_ID_TEXT], b[CO_ID_TEXT];
    snprintf(dir, sizeof dir, "%s/%s/%s", co_id_format(&cluster_id, a), kind, co_id_format(id, b));
    vault_each(dir, true, fn, arg);
}

/* How far objects that are durable go from `at` without a gap. */
static lsn_t reach_of(const struct co_id *id, lsn_t at)
{
    bool further = true;
    chunks.n = 0;
    list_below("log", id, note_chunk, NULL);
    while (further) {
        further = false;
        for (uint32_t i = 0; i < chunks.n; i++)
            if (chunks.all[i].begin <= at && chunks.all[i].end > at) {
                at = chunks.all[i].end;
                further = true;
            }
    }
    return at;
}

struct wanted {
    const char *name;
    bool found;
};

static void note_name(void *arg, const char *name, const uint8_t *bytes, size_t len)
{
    struct wanted *w = arg;
    (void)bytes;
    (void)len;
    w->found |= strcmp(name, w->name) == 0;
}

static bool has_index(const struct ar_line *l)
{
    struct ar_snap_name at = {l->snap.lsn, l->snap.generation, AR_SNAP_INDEX, l->snap.sum};
    char name[AR_NAME_TEXT];
    struct wanted w = {ar_name_snap(&cluster_id, &l->id, &at, name), false};
    list_below("snap", &l->id, note_name, &w);
    return w.found;
}

/* ---- manifests ---------------------------------------------------------------------------------
 */

/* The committed log has this digest there. Configurations behind its end may be the tool's, of a
 * branch whose making was not answered yet: then nobody has noted that they are committed. */
static bool is_committed(struct timeline *t, lsn_t end, const struct wal_digest *digest)
{
    const struct wal_digest *want = NULL;
    const struct record *r = record_of(digest);
    while (end > t->end && r && r->h.end_lsn == end && r->h.kind != WAL_TXN) {
        end = r->h.begin_lsn;
        digest = &r->h.prev_digest;
        r = record_of(digest);
    }
    if (end == t->base)
        want = &t->base_digest;
    for (uint32_t i = t->n_gold; i > 0 && !want; i--)
        if (t->gold[i - 1]->h.end_lsn == end)
            want = &t->gold[i - 1]->h.digest;
    return want && memcmp(want, digest, sizeof *want) == 0;
}

static void check_line(const struct ar_line *l)
{
    struct timeline *t = timeline_of(&l->id);
    lsn_t reach = reach_of(&l->id, ar_line_from(l));
    if (reach < l->end)
        violation(
            "V1: a manifest tells of the log of %s up to %llx, and what is there ends at %llx",
            l->name, (unsigned long long)l->end, (unsigned long long)reach);
    if (l->snap.lsn && !has_index(l))
        violation("V1: a manifest tells of a snapshot of %s at %llx that is not there", l->name,
                  (unsigned long long)l->snap.lsn);
    if (t && !sim.restored && (t->n_gold || t->parent) && l->end > l->start &&
        !is_committed(t, l->end, &l->digest))
        violation("V2: a manifest tells of the log of %s up to %llx, and that is not what was "
                  "committed (end %llx)",
                  l->name, (unsigned long long)l->end, (unsigned long long)t->end);
    if (l->end > l->start)
        probe(P_ARCHIVED);
    if (l->snap.lsn)
        probe(P_SNAPSHOT);
}

static Corallite__ArchiveState *decode(const char *name, const uint8_t *bytes, size_t len)
{
    Corallite__ArchiveState *state = NULL;
    if (ar_state_decode(co_span_of(bytes, len), name, &state))
        violation("a manifest cannot be read: %s", co_sentence());
    return state;
}

void archive_named(const char *name, const uint8_t *bytes, size_t len)
{
    struct ar_place place;
    uint64_t generation;
    struct ar_line line;
    if (ar_parse_writer(name, &generation) && generation > 1)
        probe(P_GENERATION);
    if (!ar_parse_state(name, &place))
        return;
    trace("manifest %s", name);
    Corallite__ArchiveState *state = decode(name, bytes, len);
    for (size_t i = 0; i < state->n_lines; i++) {
        if (ar_line_read(state->lines[i], &line))
            violation("a manifest cannot be read: %s", co_sentence());
        check_line(&line);
    }
    corallite__archive_state__free_unpacked(state, NULL);
}

/* ---- what is told to be archived ---------------------------------------------------------------
 */

struct newest {
    char name[AR_NAME_TEXT];
    const uint8_t *bytes;
    size_t len;
};

static void note_state(void *arg, const char *name, const uint8_t *bytes, size_t len)
{
    struct newest *n = arg;
    if (strcmp(name, n->name) <= 0)
        return;
    snprintf(n->name, sizeof n->name, "%s", name);
    n->bytes = bytes;
    n->len = len;
}

/* NULL: there is none. Else the caller's to free. */
static Corallite__ArchiveState *durable_state(void)
{
    struct newest n = {.name = ""};
    char dir[AR_NAME_TEXT], text[CO_ID_TEXT];
    snprintf(dir, sizeof dir, "%s/state", co_id_format(&cluster_id, text));
    vault_each(dir, true, note_state, &n);
    return n.bytes ? decode(n.name, n.bytes, n.len) : NULL;
}

/* A manifest does not tell of what was dropped, and a safekeeper may hear later of the drop than
 * the pageserver: of that all may go. */
static lsn_t durable_end(const struct co_id *id)
{
    Corallite__ArchiveState *state = durable_state();
    const struct timeline *t = timeline_of(id);
    struct ar_line line;
    lsn_t end = t && t->dropping ? NEVER : 0;
    for (size_t i = 0; state && i < state->n_lines; i++)
        if (ar_line_read(state->lines[i], &line) == 0 && co_id_eq(&line.id, id))
            end = line.end;
    if (state)
        corallite__archive_state__free_unpacked(state, NULL);
    return end;
}

bool archive_has_pin(const char *name, uint64_t lsn)
{
    Corallite__ArchiveState *state = durable_state();
    bool has = false;
    for (size_t i = 0; state && i < state->n_pins; i++)
        has |= strcmp(state->pins[i]->name, name) == 0 && state->pins[i]->lsn == lsn;
    if (state)
        corallite__archive_state__free_unpacked(state, NULL);
    return has;
}

void __real_sk_archived_told(struct sk_server *s, uint32_t slot, const struct co_id *timeline,
                             lsn_t archived);
void __wrap_sk_archived_told(struct sk_server *s, uint32_t slot, const struct co_id *timeline,
                             lsn_t archived);
void __wrap_sk_archived_told(struct sk_server *s, uint32_t slot, const struct co_id *timeline,
                             lsn_t archived)
{
    lsn_t end = archived ? durable_end(timeline) : 0;
    if (archived > end)
        violation("V8: safekeeper %u is told that a log is archived up to %llx, and the newest "
                  "manifest that is durable says %llx",
                  here()->host, (unsigned long long)archived, (unsigned long long)end);
    __real_sk_archived_told(s, slot, timeline, archived);
}

/* What goes from a safekeeper is in the archive, whatever happens to that now. */
int __real_sk_segments_drop(struct sk_segments *s, lsn_t lsn);
int __wrap_sk_segments_drop(struct sk_segments *s, lsn_t lsn);
int __wrap_sk_segments_drop(struct sk_segments *s, lsn_t lsn)
{
    lsn_t end = durable_end(&s->owner.timeline);
    if (lsn > end)
        violation("safekeeper %u drops its log up to %llx, and the archive has it up to %llx",
                  here()->host, (unsigned long long)lsn, (unsigned long long)end);
    probe(P_TRIMMED);
    return __real_sk_segments_drop(s, lsn);
}

struct ps_timeline;
struct ps_refilled;
int __real_ps_feed_refilled(struct ps_timeline *tl, struct co_span bytes,
                            const struct ps_refilled *end);
int __wrap_ps_feed_refilled(struct ps_timeline *tl, struct co_span bytes,
                            const struct ps_refilled *end);
int __wrap_ps_feed_refilled(struct ps_timeline *tl, struct co_span bytes,
                            const struct ps_refilled *end)
{
    int taken = __real_ps_feed_refilled(tl, bytes, end);
    if (taken > 0 && bytes.len)
        probe(P_REFILLED);
    return taken;
}

struct ps_txn;
int __real_ps_snap_write(struct ps_txn *txn, uint32_t no, lsn_t lsn, struct co_span rows);
int __wrap_ps_snap_write(struct ps_txn *txn, uint32_t no, lsn_t lsn, struct co_span rows);
int __wrap_ps_snap_write(struct ps_txn *txn, uint32_t no, lsn_t lsn, struct co_span rows)
{
    probe(P_LOADED);
    return __real_ps_snap_write(txn, no, lsn, rows);
}

/* ---- at the end --------------------------------------------------------------------------------
 */

/* Of a sealed log nobody may have told the end (docs/limits.md). */
static lsn_t end_of(const struct timeline *t)
{
    lsn_t told = t->sealed ? sealed_told(t) : t->end;
    return told < t->end ? told : t->end;
}

static const struct timeline *lacking(const Corallite__ArchiveState *state)
{
    struct ar_line line;
    for (uint32_t i = 0; i < n_timelines; i++) {
        bool has = timelines[i].gone;
        for (size_t k = 0; k < state->n_lines && !has; k++)
            has = ar_line_read(state->lines[k], &line) == 0 &&
                  co_id_eq(&line.id, &timelines[i].id) && line.end >= end_of(&timelines[i]);
        if (!has)
            return &timelines[i];
    }
    return NULL;
}

static Corallite__ArchiveState *wait_for_all(struct ar_store *store)
{
    uint64_t until = sim.now + PATIENCE;
    for (;;) {
        Corallite__ArchiveState *state = NULL;
        int rc = ar_newest_state(store, &cluster_id, NULL, &state);
        const struct timeline *lacks = rc ? NULL : lacking(state);
        if (!rc && !lacks && work_pins_archived())
            return state;
        if (sim.now > until)
            violation("no liveness: two minutes after the last commit the archive lacks some of "
                      "%s: %s",
                      lacks ? lacks->branch : "the pins", rc ? co_sentence() : "");
        if (state)
            corallite__archive_state__free_unpacked(state, NULL);
        task_sleep(200000);
    }
}

static const struct record *record_at(const struct timeline *t, lsn_t begin)
{
    for (uint32_t i = 0; i < t->n_gold; i++)
        if (t->gold[i]->h.begin_lsn == begin)
            return t->gold[i];
    violation("the archive has a record of %s at %llx, where none was committed", t->branch,
              (unsigned long long)begin);
}

static int on_piece(void *owner, lsn_t lsn, uint64_t at, struct co_span bytes,
                    const struct wal_header *last)
{
    const struct timeline *t = owner;
    const struct record *r = record_at(t, lsn);
    (void)last;
    if (at + bytes.len > r->h.total_bytes || memcmp(r->bytes + at, bytes.data, bytes.len) != 0)
        violation("the archive has other bytes of the record of %s at %llx", t->branch,
                  (unsigned long long)lsn);
    return 0;
}

static int on_whole(void *owner, struct co_span record, const struct wal_header *h)
{
    const struct timeline *t = owner;
    if (h->kind != WAL_TXN && h->begin_lsn >= t->end) /* as above */
        return 0;
    return on_piece(owner, h->begin_lsn, 0, record, h);
}

static void check_snapshot(struct ar_store *store, const struct ar_line *l)
{
    Corallite__ArchiveSnapshot *index;
    struct co_buf rows = {0};
    int rc = ar_snap_index_get(store, &cluster_id, &l->id, &l->snap, &index);
    for (uint32_t i = 0; !rc && i < index->n_parts; i++) {
        rows.len = 0;
        rc = ar_snap_part_get(store, &cluster_id, &l->id, &l->snap, index, i, &rows);
    }
    if (rc)
        violation("the snapshot of %s at %llx cannot be read: %s", l->name,
                  (unsigned long long)l->snap.lsn, co_sentence());
    co_buf_free(&rows);
    corallite__archive_snapshot__free_unpacked(index, NULL);
}

static void read_line(struct ar_store *store, const struct ar_line *l)
{
    struct timeline *t = timeline_of(&l->id);
    struct ar_sink sink = {t, on_whole, on_piece};
    struct ar_walk walk;
    ar_walk_line(&walk, &cluster_id, l);
    if (ar_read_log(store, &cluster_id, l, &walk, t ? &sink : NULL))
        violation("the log of %s in the archive cannot be read: %s", l->name, co_sentence());
    ar_walk_free(&walk);
    if (l->snap.lsn)
        check_snapshot(store, l);
    probe(P_ARCHIVE_READ);
}

void archive_check(void)
{
    struct ar_store *store;
    struct ar_line line;
    trace("check the archive");
    if (ar_open(URL, &(struct ar_options){.read_only = true}, &store))
        violation("the archive cannot be opened: %s", co_sentence());
    Corallite__ArchiveState *state = wait_for_all(store);
    for (size_t i = 0; i < state->n_lines; i++)
        if (ar_line_read(state->lines[i], &line) == 0)
            read_line(store, &line);
    corallite__archive_state__free_unpacked(state, NULL);
    ar_close(store);
}
