/*
 * oracle.c - what must hold. It sees what crosses the seams between the product's files, by the
 * linker's --wrap: each step of a proposer, each pin, each page that a connection reads, each page
 * that the pageserver finds. It changes nothing.
 *
 *   I8, I9, I11  the committed log is one chain; nothing that is committed is ever displaced
 *   I13          a page read at a snapshot, and one found by the pageserver, is the newest version
 *                at or below it
 *   I15          a pin sees every commit that was acknowledged before it was asked for
 *   I17          OK: there, once; "not committed": never there; told later: as it is
 *   I18          a branch's log begins with its parent's digest
 *   W3           a record's pages follow from it and from the version that it names
 */
#include "tests/fullsim/oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "compute-vfs/database.h"
#include "compute-vfs/proposer.h"
#include "compute-vfs/record.h"
#include "pageserver/store_lmdb.h"
#include "pageserver/view.h"
#include "tests/fullsim/fullsim.h"

#define SLOTS 16384u

struct timeline timelines[MAX_TIMELINES];
uint32_t n_timelines;
struct txn txns[MAX_TXNS + 1];
uint32_t n_txns;
struct run_stats run_stats;

static struct record *by_digest[SLOTS];
static ZSTD_DCtx *dctx;

/* ---- records -----------------------------------------------------------------------------------
 */

static uint32_t slot_of(const struct wal_digest *d)
{
    uint32_t v;
    memcpy(&v, d->b, sizeof v);
    return v % SLOTS;
}

static bool same(const struct wal_digest *a, const struct wal_digest *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static struct record *find(const struct wal_digest *d)
{
    struct record *r = by_digest[slot_of(d)];
    while (r && !same(&r->h.digest, d))
        r = r->same;
    return r;
}

static struct record *find_written(const struct co_id *timeline, term_t term, lsn_t end)
{
    for (uint32_t i = 0; i < SLOTS; i++)
        for (struct record *r = by_digest[i]; r; r = r->same)
            if (r->h.end_lsn == end && r->h.term == term && co_id_eq(&r->h.timeline, timeline))
                return r;
    return NULL;
}

static void see_record(struct co_span bytes, uint64_t txn)
{
    struct wal_header h;
    if (wal_check(bytes, &h) || wal_check_digest(bytes, &h))
        violation("a proposer sends a record that is not sound: %s", co_sentence());
    struct record *r = find(&h.digest);
    if (r) {
        if (txn && !r->txn)
            r->txn = txn;
        return;
    }
    r = calloc(1, sizeof *r);
    co_assert(r != NULL);
    r->h = h;
    r->txn = txn;
    r->bytes = malloc(h.total_bytes);
    co_assert(r->bytes != NULL);
    memcpy(r->bytes, bytes.data, h.total_bytes);
    uint32_t at = slot_of(&h.digest);
    for (struct record *o = by_digest[at]; o; o = o->same)
        co_assert(!same(&o->h.digest, &h.digest));
    r->same = by_digest[at];
    by_digest[at] = r;
    run_stats.records++;
    trace("record %s term=%llu [%llx, %llx) pages=%u txn=%llu",
          h.kind == WAL_TXN ? "txn" : "config", (unsigned long long)h.term,
          (unsigned long long)h.begin_lsn, (unsigned long long)h.end_lsn, h.n_entries,
          (unsigned long long)txn);
}

static void see_records(struct co_span bytes)
{
    while (bytes.len) {
        struct wal_header h;
        if (wal_peek(bytes, &h) || h.total_bytes > bytes.len)
            return; /* not whole */
        see_record(co_span_of(bytes.data, h.total_bytes), 0);
        bytes = co_span_of(bytes.data + h.total_bytes, bytes.len - h.total_bytes);
    }
}

/* ---- the committed log -------------------------------------------------------------------------
 */

struct timeline *timeline_of(const struct co_id *id)
{
    for (uint32_t i = 0; i < n_timelines; i++)
        if (co_id_eq(&timelines[i].id, id))
            return &timelines[i];
    return NULL;
}

struct timeline *timeline_make(const struct co_id *id, const char *branch, struct timeline *parent,
                               lsn_t base)
{
    struct timeline *t = timeline_of(id);
    if (t)
        return t;
    co_assert(n_timelines < MAX_TIMELINES);
    t = &timelines[n_timelines++];
    *t = (struct timeline){.id = *id, .parent = parent, .base = base, .end = base};
    snprintf(t->branch, sizeof t->branch, "%s", branch);
    if (!parent)
        return t;
    t->page_size = parent->page_size;
    struct record *r = gold_at(parent, base);
    if (r && r->h.end_lsn == base)
        t->base_digest = t->end_digest = r->h.digest;
    else
        violation("branch %s was made at %llx, where no transaction of %s ends", branch,
                  (unsigned long long)base, parent->branch);
    return t;
}

struct record *gold_at(struct timeline *t, lsn_t lsn)
{
    for (; t; t = t->parent) {
        for (uint32_t i = t->n_gold; i > 0; i--) {
            struct record *r = t->gold[i - 1];
            if (r->h.end_lsn <= lsn && r->h.kind == WAL_TXN)
                return r;
        }
        if (t->base < lsn)
            lsn = t->base;
    }
    return NULL;
}

bool txn_is_at(const struct txn *x, const struct timeline *t, lsn_t lsn)
{
    for (; t; t = t->parent) {
        if (co_id_eq(&x->timeline, &t->id))
            return x->committed && x->end <= lsn;
        if (t->base < lsn)
            lsn = t->base;
    }
    return false;
}

uint32_t size_at(struct timeline *t, lsn_t lsn)
{
    struct record *r = gold_at(t, lsn);
    return r ? r->h.db_pages : 0;
}

static const struct image *newest_at(const struct versions *all, lsn_t lsn)
{
    uint32_t lo = 0, hi = all->n; /* those below lo are at or below lsn, those from hi on above */
    if (hi && all->v[hi - 1]->lsn <= lsn)
        return all->v[hi - 1];
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (all->v[mid]->lsn <= lsn)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? all->v[lo - 1] : NULL;
}

const uint8_t *page_at(struct timeline *t, pgno_t pgno, lsn_t lsn)
{
    for (; t; t = t->parent) {
        const struct image *v = pgno < t->cap_pages ? newest_at(&t->pages[pgno], lsn) : NULL;
        if (v)
            return v->data;
        if (t->base < lsn)
            lsn = t->base;
    }
    return NULL;
}

lsn_t any_lsn(struct timeline *t)
{
    struct timeline *of = t;
    lsn_t limit = NEVER;
    if (t->parent && below(R_WORK, 2)) {
        limit = t->base;
        of = t->parent;
    }
    if (!of->n_gold)
        return 0;
    for (uint32_t tries = 0; tries < 8; tries++) {
        struct record *r = of->gold[below(R_WORK, of->n_gold)];
        if (r->h.kind == WAL_TXN && r->h.end_lsn <= limit)
            return r->h.end_lsn;
    }
    return 0;
}

static void put_image(struct timeline *t, pgno_t pgno, lsn_t lsn, struct image *v)
{
    if (pgno >= t->cap_pages) {
        uint32_t cap = pgno * 2 + 64;
        t->pages = realloc(t->pages, cap * sizeof *t->pages);
        co_assert(t->pages != NULL);
        memset(t->pages + t->cap_pages, 0, (cap - t->cap_pages) * sizeof *t->pages);
        t->cap_pages = cap;
    }
    struct versions *all = &t->pages[pgno];
    if (all->n == all->cap) {
        all->cap = all->cap ? all->cap * 2 : 4;
        all->v = realloc(all->v, all->cap * sizeof(struct image *));
        co_assert(all->v != NULL);
    }
    co_assert(all->n == 0 || all->v[all->n - 1]->lsn <= lsn);
    v->lsn = lsn;
    all->v[all->n++] = v;
}

/* W3, by the simulator's own copy of the pages. */
static void apply(struct timeline *t, struct record *r)
{
    struct wal_cursor c;
    struct wal_entry e;
    t->page_size = r->h.page_size;
    wal_cursor_init(&c, co_span_of(r->bytes, r->h.total_bytes), &r->h);
    while (wal_cursor_next(&c, &e)) {
        struct image *v = malloc(sizeof *v + r->h.page_size);
        co_assert(v != NULL);
        const uint8_t *base = e.encoding == WAL_DELTA ? page_at(t, e.pgno, r->h.base_lsn) : NULL;
        if (wal_apply(&e, r->h.page_size, base, v->data, dctx))
            violation("record [%llx, %llx) of %s cannot be applied: %s",
                      (unsigned long long)r->h.begin_lsn, (unsigned long long)r->h.end_lsn,
                      t->branch, co_sentence());
        if (e.encoding == WAL_DELTA) {
            probe(P_DELTA);
            if (t->parent && e.base_lsn <= t->base)
                probe(P_DELTA_OF_ANCESTOR);
        }
        put_image(t, e.pgno, r->h.end_lsn, v);
    }
}

static void note_config(struct timeline *t, struct record *r)
{
    struct wal_config config;
    if (wal_read_config(co_span_of(r->bytes, r->h.total_bytes), &r->h, &config))
        violation("a committed configuration of %s cannot be read: %s", t->branch, co_sentence());
    t->joint = config.n_new > 0;
    if (t->joint)
        probe(P_JOINT);
    trace("members of %s: %u, and %u to come", t->branch, config.n, config.n_new);
}

static void note_gold(struct timeline *t, struct record *r)
{
    struct record *before = gold_at(t, t->end);
    struct txn *x = r->txn ? &txns[r->txn] : NULL;
    r->gold = true;
    if (t->n_gold == t->cap_gold) {
        t->cap_gold = t->cap_gold ? t->cap_gold * 2 : 64;
        t->gold = realloc(t->gold, t->cap_gold * sizeof *t->gold);
        co_assert(t->gold != NULL);
    }
    if (t->n_gold && t->gold[t->n_gold - 1]->h.term < r->h.term)
        probe(P_TWO_TERMS);
    t->gold[t->n_gold++] = r;
    t->end = r->h.end_lsn;
    t->end_digest = r->h.digest;
    fold(r->h.end_lsn ^ r->h.term << 40);
    if (r->h.kind != WAL_TXN) {
        note_config(t, r);
        return;
    }
    apply(t, r);
    if (t->joint)
        probe(P_JOINT_COMMIT);
    if (t->parent)
        probe(P_BRANCH_WRITE);
    if (before && r->h.db_pages < before->h.db_pages)
        probe(P_SHRUNK);
    if (r->h.n_entries > 100)
        probe(P_BIG);
    if (!x)
        violation("a committed transaction [%llx, %llx) is of nobody",
                  (unsigned long long)r->h.begin_lsn, (unsigned long long)r->h.end_lsn);
    if (x->committed)
        violation("transaction %llu is committed twice", (unsigned long long)x->id);
    if (x->state == T_NOT_COMMITTED)
        violation("transaction %llu was told not to be committed, and is, at [%llx, %llx)",
                  (unsigned long long)x->id, (unsigned long long)r->h.begin_lsn,
                  (unsigned long long)r->h.end_lsn);
    x->committed = true;
    if (x->state == T_KILLED)
        probe(P_OTHERS_COMMIT);
    if (r->h.total_bytes > CO_BATCH_BYTES)
        probe(P_LARGE);
    if (r->h.total_bytes > (sim.w.fragment_bytes ? sim.w.fragment_bytes : CO_BATCH_BYTES))
        probe(P_FRAGMENTS);
    if (x->spilled)
        probe(P_SPILLED);
    if (x->vacuum)
        probe(P_VACUUM);
    if (x->ddl)
        probe(P_DDL);
    if (x->savepoint)
        probe(P_SAVEPOINT);
    trace("committed %s [%llx, %llx) term=%llu txn=%llu", t->branch,
          (unsigned long long)r->h.begin_lsn, (unsigned long long)r->h.end_lsn,
          (unsigned long long)r->h.term, (unsigned long long)r->txn);
}

/* The record of this digest, and all before it, are committed. */
static void extend(struct timeline *t, const struct wal_digest *digest, lsn_t lsn)
{
    struct record *chain[4096];
    uint32_t n = 0;
    struct wal_digest d = *digest;
    if (lsn <= t->end) {
        for (uint32_t i = 0; i < t->n_gold; i++)
            if (t->gold[i]->h.end_lsn == lsn && !same(&t->gold[i]->h.digest, digest))
                violation("%s has two committed records that end at %llx", t->branch,
                          (unsigned long long)lsn);
        return;
    }
    while (!same(&d, &t->end_digest)) {
        struct record *r = find(&d);
        if (!r && !t->n_gold && !t->parent) { /* the digest that a database is born with */
            t->base = t->end = n ? chain[n - 1]->h.begin_lsn : lsn;
            t->base_digest = t->end_digest = d;
            break;
        }
        if (!r || r->h.end_lsn <= t->end || n == 4096)
            violation("%s: what is committed at %llx does not follow from what was committed at "
                      "%llx",
                      t->branch, (unsigned long long)lsn, (unsigned long long)t->end);
        chain[n++] = r;
        d = r->h.prev_digest;
    }
    if (n && !t->n_gold && !t->parent)
        t->base = t->end = chain[n - 1]->h.begin_lsn; /* where a database is born */
    if (n && chain[n - 1]->h.begin_lsn != t->end)
        violation("%s: a gap in the committed log at %llx", t->branch, (unsigned long long)t->end);
    while (n)
        note_gold(t, chain[--n]);
}

struct record *record_of(const struct wal_digest *digest)
{
    return find(digest);
}

void record_committed(struct timeline *t, const struct record *r)
{
    extend(t, &r->h.digest, r->h.end_lsn);
}

/* ---- proposers ---------------------------------------------------------------------------------
 */

static struct {
    struct pr_proposer *pr;
    struct co_id timeline;
} proposers[MAX_PROCS];
static uint32_t n_proposers;

int __real_pr_new(const struct pr_options *options, struct pr_proposer **out);
int __wrap_pr_new(const struct pr_options *options, struct pr_proposer **out);
int __wrap_pr_new(const struct pr_options *options, struct pr_proposer **out)
{
    struct pr_options mine = *options;
    if (sim.w.fragment_bytes)
        mine.batch_bytes = mine.fragment_bytes = sim.w.fragment_bytes;
    int rc = __real_pr_new(&mine, out);
    if (!rc) {
        co_assert(n_proposers < MAX_PROCS);
        proposers[n_proposers].pr = *out;
        proposers[n_proposers++].timeline = options->timeline;
        /* The tool walks also what no compute knows yet: branches whose making was not answered. */
        work_restore_seen(&options->timeline);
        if (here()->host != HOST_TOOL && !timeline_of(&options->timeline))
            timeline_make(&options->timeline, "main", NULL, 0);
    }
    return rc;
}

void __real_pr_free(struct pr_proposer *pr);
void __wrap_pr_free(struct pr_proposer *pr);
void __wrap_pr_free(struct pr_proposer *pr)
{
    for (uint32_t i = n_proposers; pr && i > 0; i--) {
        if (proposers[i - 1].pr == pr) {
            proposers[i - 1] = proposers[--n_proposers];
            break;
        }
    }
    __real_pr_free(pr);
}

static struct timeline *timeline_of_proposer(const struct pr_proposer *pr)
{
    for (uint32_t i = n_proposers; i > 0; i--)
        if (proposers[i - 1].pr == pr)
            return timeline_of(&proposers[i - 1].timeline);
    return NULL;
}

static void see_action(struct timeline *t, const struct pr_action *a)
{
    struct record *r;
    switch (a->kind) {
    case PR_SEND:
        if (a->msg.type == FRAME_APPEND && a->msg.payload.len && !a->msg.fragment && !a->spilled)
            see_records(a->msg.payload);
        return;
    default:
        break;
    }
    if (!t) /* not known yet: the tool's */
        return;
    switch (a->kind) {
    case PR_READY:
        trace("ready %s term=%llu tip=%llx", t->branch, (unsigned long long)a->term,
              (unsigned long long)a->lsn);
        extend(t, &a->digest, a->lsn);
        return;
    case PR_DURABLE:
        r = find_written(&t->id, a->term, a->lsn);
        if (r)
            extend(t, &r->h.digest, a->lsn);
        else if (a->lsn > t->end)
            violation("%s: committed to %llx in term %llu, and no record ends there", t->branch,
                      (unsigned long long)a->lsn, (unsigned long long)a->term);
        return;
    case PR_LOST:
        trace("lost %s term=%llu %s", t->branch, (unsigned long long)a->term, a->reason);
        return;
    default:
        return;
    }
}

static bool leads(const struct pr_view *v)
{
    return v->state == PR_RECOVER || v->state == PR_LEADER;
}

/* Committed up to there, says an action of somebody who leads. */
static lsn_t told(const struct pr_action *a)
{
    if (a->kind == PR_SEND && a->msg.type == FRAME_APPEND)
        return a->msg.commit_lsn;
    return a->kind == PR_POSITION ? a->lsn : 0;
}

/* What it holds to be committed lies on the way back from the end of the log that it leads, or led
 * until this step: an election that only settles a dead writer's tail ends within the step that
 * commits it, and what it commits is told as a position. */
static void see_commit(struct timeline *t, const struct pr_view *before, const struct pr_view *now,
                       const struct pr_actions *out)
{
    const struct pr_view *v = leads(now) ? now : leads(before) ? before : NULL;
    lsn_t commit = leads(now) ? now->commit_lsn : 0;
    if (!v || !t)
        return;
    for (uint32_t i = 0; i < out->n; i++)
        if (told(&out->a[i]) > commit)
            commit = told(&out->a[i]);
    if (commit <= t->end)
        return;
    struct record *r = find(&v->tip_digest);
    while (r && r->h.end_lsn > commit)
        r = find(&r->h.prev_digest);
    if (r && r->h.end_lsn == commit)
        extend(t, &r->h.digest, commit);
}

/* ---- records, before the log takes them: not always from the thread that made them -------------
 */

void __real_wal_builder_seal(struct wal_builder *b, const struct wal_stamp *stamp,
                             struct co_buf *out, struct wal_digest *digest);
void __wrap_wal_builder_seal(struct wal_builder *b, const struct wal_stamp *stamp,
                             struct co_buf *out, struct wal_digest *digest);
void __wrap_wal_builder_seal(struct wal_builder *b, const struct wal_stamp *stamp,
                             struct co_buf *out, struct wal_digest *digest)
{
    __real_wal_builder_seal(b, stamp, out, digest);
    if (sim.current && sim.current->txn)
        sim.current->txn->uuid = stamp->commit_uuid;
}

/* Built in a file. */
void __real_cv_spilled_seal(struct cv_spilled *s, struct wal_builder *b,
                            const struct wal_stamp *stamp);
void __wrap_cv_spilled_seal(struct cv_spilled *s, struct wal_builder *b,
                            const struct wal_stamp *stamp);
void __wrap_cv_spilled_seal(struct cv_spilled *s, struct wal_builder *b,
                            const struct wal_stamp *stamp)
{
    struct txn *x = sim.current->txn;
    __real_cv_spilled_seal(s, b, stamp);
    if (!x)
        violation("a record is built for a transaction that nobody began");
    x->uuid = stamp->commit_uuid;
    co_assert(co_buf_reserve(&x->sealed, s->header.total_bytes) == 0);
    x->sealed.len = s->header.total_bytes;
    if (cv_spilled_read(s, 0, x->sealed.data, x->sealed.len))
        violation("a record that was built in a file cannot be read: %s", co_sentence());
}

static struct txn *txn_of(const struct co_id *uuid)
{
    for (uint32_t i = n_txns; i > 0; i--)
        if (co_id_eq(&txns[i].uuid, uuid))
            return &txns[i];
    return NULL;
}

int __real_pr_step(struct pr_proposer *pr, const struct pr_event *event, struct pr_actions *out);
int __wrap_pr_step(struct pr_proposer *pr, const struct pr_event *event, struct pr_actions *out);
int __wrap_pr_step(struct pr_proposer *pr, const struct pr_event *event, struct pr_actions *out)
{
    struct timeline *t = timeline_of_proposer(pr);
    if (event->kind == PR_EV_APPEND) {
        struct txn *x = event->spilled ? txn_of(&event->spilled->header.commit_uuid) : NULL;
        struct wal_header h;
        const struct co_buf *record = x ? &x->sealed : event->record;
        if (!record || wal_check(co_buf_span(record), &h))
            violation("a record is appended that is not sound");
        if (!x)
            x = txn_of(&h.commit_uuid);
        if (!x || x->has_record)
            violation("a record is appended for a transaction that nobody began, or twice");
        x->has_record = true;
        x->timeline = t->id;
        x->term = h.term;
        x->begin = h.begin_lsn;
        x->end = h.end_lsn;
        see_record(co_buf_span(record), x->id);
        x->spilled = event->spilled != NULL;
    }
    struct pr_view before, now;
    pr_view(pr, &before);
    int rc = __real_pr_step(pr, event, out);
    for (uint32_t i = 0; !rc && i < out->n; i++)
        see_action(t, &out->a[i]);
    pr_view(pr, &now);
    if (!rc)
        see_commit(t, &before, &now, out);
    return rc;
}

/* ---- readers -----------------------------------------------------------------------------------
 */

/* Above what is known to be committed a process reads what it wrote itself: the version that
 * follows from one of the records that end there. */
static bool fits_written(const struct co_id *timeline, lsn_t lsn, pgno_t pgno, uint32_t crc,
                         struct timeline *t)
{
    for (uint32_t i = 0; i < SLOTS; i++) {
        for (struct record *r = by_digest[i]; r; r = r->same) {
            if (r->h.end_lsn != lsn || !co_id_eq(&r->h.timeline, timeline))
                continue;
            for (struct record *at = r; at; at = find(&at->h.prev_digest)) {
                struct wal_cursor c;
                struct wal_entry e;
                bool found = false, fits = false;
                if (at->gold || at->h.kind != WAL_TXN) {
                    const uint8_t *page = at->gold ? page_at(t, pgno, at->h.end_lsn) : NULL;
                    if (!at->gold)
                        continue;
                    if (page && co_crc32c(0, page, t->page_size) == crc)
                        return true;
                    break;
                }
                wal_cursor_init(&c, co_span_of(at->bytes, at->h.total_bytes), &at->h);
                while (!found && wal_cursor_next(&c, &e)) {
                    found = e.pgno == pgno;
                    fits = found && e.page_crc == crc;
                }
                if (fits)
                    return true;
                if (found)
                    break;
            }
        }
    }
    return false;
}

/* Read in the moment between publication and the log: checked when all records are known. Another
 * record may end at the same LSN: `digest` tells which one it is, if it was the tip. */
static struct early {
    struct co_id timeline;
    bool is_tip;
    struct wal_digest digest;
    lsn_t lsn;
    pgno_t pgno;
    uint32_t crc;
} early[4096];
static uint32_t n_early;

static bool is_written(const struct co_id *timeline, lsn_t end)
{
    for (uint32_t i = 0; i < SLOTS; i++)
        for (struct record *r = by_digest[i]; r; r = r->same)
            if (r->h.end_lsn == end && co_id_eq(&r->h.timeline, timeline))
                return true;
    return false;
}

static void check_early(void)
{
    for (uint32_t i = 0; i < n_early; i++) {
        const struct early *e = &early[i];
        struct timeline *t = timeline_of(&e->timeline);
        bool written = e->is_tip ? find(&e->digest) != NULL : is_written(&e->timeline, e->lsn);
        if (written && !fits_written(&e->timeline, e->lsn, e->pgno, e->crc, t))
            violation("I13: page %u of %s was read at %llx, and no record that ends there makes it",
                      e->pgno, t->branch, (unsigned long long)e->lsn);
    }
}

/* Of which commit this content is, for the sentence; 0: of none. */
static lsn_t whose(struct timeline *t, pgno_t pgno, const uint8_t *data, uint32_t page_size)
{
    for (; t; t = t->parent)
        for (uint32_t i = pgno < t->cap_pages ? t->pages[pgno].n : 0; i > 0; i--)
            if (memcmp(t->pages[pgno].v[i - 1]->data, data, page_size) == 0)
                return t->pages[pgno].v[i - 1]->lsn;
    return 0;
}

int __real_cv_database_read_page(struct cv_database *db, struct cv_handle *h,
                                 struct cv_ahead *ahead, const struct cv_snapshot *snapshot,
                                 pgno_t pgno, uint8_t *out, uint32_t page_size,
                                 uint32_t timeout_ms);
int __wrap_cv_database_read_page(struct cv_database *db, struct cv_handle *h,
                                 struct cv_ahead *ahead, const struct cv_snapshot *snapshot,
                                 pgno_t pgno, uint8_t *out, uint32_t page_size,
                                 uint32_t timeout_ms);
int __wrap_cv_database_read_page(struct cv_database *db, struct cv_handle *h,
                                 struct cv_ahead *ahead, const struct cv_snapshot *snapshot,
                                 pgno_t pgno, uint8_t *out, uint32_t page_size, uint32_t timeout_ms)
{
    int rc = __real_cv_database_read_page(db, h, ahead, snapshot, pgno, out, page_size, timeout_ms);
    struct timeline *t = timeline_of(&db->timeline.timeline);
    if (rc || !t)
        return rc;
    run_stats.pages_checked++;
    fold((uint64_t)pgno << 32 ^ snapshot->lsn);
    bool known = db->known_valid && snapshot->lsn <= db->known.pos;
    const uint8_t *want = snapshot->lsn <= t->end ? page_at(t, pgno, snapshot->lsn) : NULL;
    if (want && page_size == t->page_size && memcmp(want, out, page_size) == 0) {
        if (snapshot->lsn < t->end)
            run_stats.past_pages++;
        if (t->parent && snapshot->lsn <= t->base)
            probe(P_BRANCH_READ);
        return 0;
    }
    if (!known && fits_written(&t->id, snapshot->lsn, pgno, co_crc32c(0, out, page_size), t))
        return 0;
    bool is_tip = snapshot->lsn == db->tip.pos,
         unwritten = is_tip ? find(&db->digest) == NULL : !is_written(&t->id, snapshot->lsn);
    if (!known && unwritten && n_early < 4096) {
        early[n_early++] = (struct early){t->id,         is_tip, db->digest,
                                          snapshot->lsn, pgno,   co_crc32c(0, out, page_size)};
        return 0;
    }
    violation("I13: page %u of %s read at %llx is not what was committed there (known %llx, end "
              "%llx, %s; it is that of %llx)",
              pgno, t->branch, (unsigned long long)snapshot->lsn, (unsigned long long)db->known.pos,
              (unsigned long long)t->end, want ? "another content" : "no such page",
              (unsigned long long)whose(t, pgno, out, page_size));
}

void __real_cv_chain_brought(struct cv_chain *c, uint32_t asked, uint32_t came);
void __wrap_cv_chain_brought(struct cv_chain *c, uint32_t asked, uint32_t came);
void __wrap_cv_chain_brought(struct cv_chain *c, uint32_t asked, uint32_t came)
{
    if (came)
        probe(P_CHAIN);
    __real_cv_chain_brought(c, asked, came);
}

/* What comes along of a chain is as of what the pageserver has, which may be less (pages.h); who
 * asked decides. A page that was asked for by its number is compared again when it is read. */
static bool is_as_here(struct ps_txn *txn, const struct ps_line *line, struct timeline *t,
                       pgno_t pgno, lsn_t lsn, const uint8_t *page)
{
    struct ps_commit here;
    const uint8_t *want;
    if (ps_commit_at(txn, line, lsn, &here) || here.lsn >= lsn)
        return false;
    want = page_at(t, pgno, here.lsn);
    return want && memcmp(want, page, t->page_size) == 0;
}

int __real_ps_page_get(struct ps_txn *txn, const struct ps_line *line, pgno_t pgno, lsn_t lsn,
                       uint32_t page_size, uint8_t *out, lsn_t *version, uint32_t *crc);
int __wrap_ps_page_get(struct ps_txn *txn, const struct ps_line *line, pgno_t pgno, lsn_t lsn,
                       uint32_t page_size, uint8_t *out, lsn_t *version, uint32_t *crc);
int __wrap_ps_page_get(struct ps_txn *txn, const struct ps_line *line, pgno_t pgno, lsn_t lsn,
                       uint32_t page_size, uint8_t *out, lsn_t *version, uint32_t *crc)
{
    int rc = __real_ps_page_get(txn, line, pgno, lsn, page_size, out, version, crc);
    struct timeline *t = timeline_of(&line->id);
    /* What was dropped nobody reads: it is only the ingest that asks, beside the collector. Those
     * that grew from it ask by their own names. */
    if (rc || !t || lsn > t->end || t->gone)
        return rc;
    const uint8_t *want = page_at(t, pgno, lsn);
    run_stats.pages_checked++;
    if (here()->host > HOST_PAGES)
        probe(P_SECOND_READ);
    if (here() == pages_proc(here()->host) && !pages_owner_is_up())
        probe(P_FOLLOWER_READ);
    if ((!want || memcmp(want, out, page_size) != 0) && !is_as_here(txn, line, t, pgno, lsn, out))
        violation("I13: the pageserver has page %u of %s at %llx as of %llx, which is not what was "
                  "committed there",
                  pgno, t->branch, (unsigned long long)lsn, (unsigned long long)*version);
    return 0;
}

static void note_pin(const struct cv_database *db, const struct cv_handle *h, uint64_t asked_us)
{
    const struct timeline *t = timeline_of(&db->timeline.timeline);
    sim.current->pin_line = t;
    sim.current->pin = h->pin.lsn;
    sim.current->pin_us = asked_us;
    sim.current->pin_known =
        db->known_valid && h->pin.lsn <= db->known.pos && t && h->pin.lsn <= t->end;
}

int __real_cv_database_pin_at(struct cv_database *db, struct cv_handle *h,
                              const struct cv_moment *moment, uint32_t timeout_ms);
int __wrap_cv_database_pin_at(struct cv_database *db, struct cv_handle *h,
                              const struct cv_moment *moment, uint32_t timeout_ms);
int __wrap_cv_database_pin_at(struct cv_database *db, struct cv_handle *h,
                              const struct cv_moment *moment, uint32_t timeout_ms)
{
    uint64_t asked_us = sim.now;
    int rc = __real_cv_database_pin_at(db, h, moment, timeout_ms);
    if (!rc)
        note_pin(db, h, asked_us);
    return rc;
}

int __real_cv_database_pin(struct cv_database *db, struct cv_handle *h,
                           const struct cv_pin_request *request, bool *speculative);
int __wrap_cv_database_pin(struct cv_database *db, struct cv_handle *h,
                           const struct cv_pin_request *request, bool *speculative);
int __wrap_cv_database_pin(struct cv_database *db, struct cv_handle *h,
                           const struct cv_pin_request *request, bool *speculative)
{
    struct timeline *before = db->born ? timeline_of(&db->timeline.timeline) : NULL;
    lsn_t floor = before ? before->acked_end : 0;
    uint64_t asked_us = sim.now;
    int rc = __real_cv_database_pin(db, h, request, speculative);
    if (rc)
        return rc;
    /* A writer that died before it told of its last commit, and then a restore (docs/limits.md).
     * What was told may end with a configuration; a pin is at a transaction. */
    if (before && (before->sealed || before->dropping) && sealed_told(before) < floor) {
        const struct record *r = gold_at(before, sealed_told(before));
        floor = r ? r->h.end_lsn : 0;
    }
    if (*speculative)
        probe(P_SPECULATIVE_PIN);
    run_stats.reads_checked++;
    note_pin(db, h, asked_us);
    trace("pin %llx%s%s", (unsigned long long)h->pin.lsn, *speculative ? " speculative" : "",
          request->want_tip ? " (wants the tip)" : "");
    if (request->staleness_ms == 0 && !*speculative && h->pin.lsn < floor)
        violation("I15: a transaction of %s was pinned at %llx, and a commit that ends at %llx was "
                  "acknowledged before it was asked for",
                  before->branch, (unsigned long long)h->pin.lsn, (unsigned long long)floor);
    run_stats.strict_pins += request->staleness_ms == 0;
    return rc;
}

enum cv_found __real_cv_tier_find(struct cv_tier *tier, const struct cv_want *want, uint8_t *out,
                                  uint32_t page_size, struct cv_slot *slot);
enum cv_found __wrap_cv_tier_find(struct cv_tier *tier, const struct cv_want *want, uint8_t *out,
                                  uint32_t page_size, struct cv_slot *slot);
enum cv_found __wrap_cv_tier_find(struct cv_tier *tier, const struct cv_want *want, uint8_t *out,
                                  uint32_t page_size, struct cv_slot *slot)
{
    enum cv_found found = __real_cv_tier_find(tier, want, out, page_size, slot);
    if (found == CV_FOUND)
        probe(P_DISK_READ);
    if (found == CV_FOUND_UNPROVEN)
        probe(P_DISK_ASKED);
    return found;
}

/* What a compute keeps on its disk is what was committed, at both ends of the stretch that it is to
 * be good for (M8). */
void __real_cv_tier_keep(struct cv_tier *tier, struct cv_kept *kept, uint32_t n);
void __wrap_cv_tier_keep(struct cv_tier *tier, struct cv_kept *kept, uint32_t n);
void __wrap_cv_tier_keep(struct cv_tier *tier, struct cv_kept *kept, uint32_t n)
{
    struct timeline *t = timeline_of(cv_tier_timeline(tier));
    for (uint32_t i = 0; t && i < 2 * n; i++) {
        const struct cv_slot *slot = &kept[i / 2].slot;
        lsn_t end = i % 2 ? slot->known_to : slot->from;
        const uint8_t *want = end <= t->end ? page_at(t, slot->pgno, end) : NULL;
        if (!want || slot->page_size != t->page_size ||
            memcmp(want, kept[i / 2].page, t->page_size) != 0)
            violation("M8: page %u of %s is kept on disk for [%llx, %llx], and is not what was "
                      "committed at %llx (end %llx)",
                      slot->pgno, t->branch, (unsigned long long)slot->from,
                      (unsigned long long)slot->known_to, (unsigned long long)end,
                      (unsigned long long)t->end);
    }
    __real_cv_tier_keep(tier, kept, n);
}

/* ---- probes ------------------------------------------------------------------------------------
 */

struct ps_server;
struct ps_timeline;
void __real_ps_feed_wanted(struct ps_server *s, struct ps_timeline *tl);
void __wrap_ps_feed_wanted(struct ps_server *s, struct ps_timeline *tl);
void __wrap_ps_feed_wanted(struct ps_server *s, struct ps_timeline *tl)
{
    probe(P_INGEST_WAIT);
    __real_ps_feed_wanted(s, tl);
}

/* Called on loops that are not the main one. */
bool __real_ps_view_hold(struct ps_view *view, const struct ps_glance *glance, lsn_t from,
                         lsn_t lsn);
bool __wrap_ps_view_hold(struct ps_view *view, const struct ps_glance *glance, lsn_t from,
                         lsn_t lsn);
bool __wrap_ps_view_hold(struct ps_view *view, const struct ps_glance *glance, lsn_t from,
                         lsn_t lsn)
{
    bool held = __real_ps_view_hold(view, glance, from, lsn);
    if (held)
        probe(P_OTHER_LOOP);
    return held;
}

void __real_cv_cache_rollback(struct cv_cache *c, lsn_t lsn);
void __wrap_cv_cache_rollback(struct cv_cache *c, lsn_t lsn);
void __wrap_cv_cache_rollback(struct cv_cache *c, lsn_t lsn)
{
    struct cv_cache_stats before, now;
    cv_cache_stats(c, &before);
    __real_cv_cache_rollback(c, lsn);
    cv_cache_stats(c, &now);
    if (now.pages < before.pages)
        probe(P_EPOCH_DROP);
}

void __real_cv_cache_begin(struct cv_cache *c, lsn_t lsn);
void __wrap_cv_cache_begin(struct cv_cache *c, lsn_t lsn);
void __wrap_cv_cache_begin(struct cv_cache *c, lsn_t lsn)
{
    probe(P_ALL_CHANGED);
    __real_cv_cache_begin(c, lsn);
}

int __real_changes_get_commit(struct co_span *in, lsn_t prev, lsn_t *lsn, uint32_t *db_pages,
                              pgno_t **pgnos, uint32_t *n);
int __wrap_changes_get_commit(struct co_span *in, lsn_t prev, lsn_t *lsn, uint32_t *db_pages,
                              pgno_t **pgnos, uint32_t *n);
int __wrap_changes_get_commit(struct co_span *in, lsn_t prev, lsn_t *lsn, uint32_t *db_pages,
                              pgno_t **pgnos, uint32_t *n)
{
    int rc = __real_changes_get_commit(in, prev, lsn, db_pages, pgnos, n);
    if (!rc)
        probe(P_GAP_CLOSED);
    return rc;
}

/* ---- transactions ------------------------------------------------------------------------------
 */

struct txn *txn_begin(uint32_t client, struct timeline *t, bool full)
{
    if (n_txns == MAX_TXNS)
        return NULL;
    struct txn *x = &txns[++n_txns];
    *x = (struct txn){.id = n_txns, .state = T_OPEN, .client = client, .full = full};
    if (t)
        x->timeline = t->id;
    run_stats.begun++;
    return x;
}

void txn_sql(struct txn *t, const char *sql)
{
    if (co_buf_append(&t->sql, sql, strlen(sql)) || co_buf_append(&t->sql, ";\n", 2))
        abort();
}

void txn_end(struct txn *t, enum txn_state state, const char *commit_id)
{
    char id[64] = "";
    if (t->state != T_OPEN)
        return;
    trace("txn %llu %s", (unsigned long long)t->id,
          state == T_ACKED     ? "acknowledged"
          : state == T_UNKNOWN ? "unknown"
          : state == T_NOTHING ? "wrote nothing"
                               : "not committed");
    fold(t->id << 8 | (uint64_t)state);
    if (state == T_ACKED && !t->has_record)
        state = T_NOTHING;
    if (state == T_NOT_COMMITTED && t->has_record)
        probe(P_SURELY_NOT);
    t->state = state;
    t->told_us = sim.now;
    if (t->has_record)
        lsn_commit_id_format(t->term, t->begin, id);
    if (commit_id && t->has_record && strcmp(commit_id, id) != 0)
        violation("transaction %llu is %s, and its connection calls it %s",
                  (unsigned long long)t->id, id, commit_id);
    if (state == T_NOT_COMMITTED && t->committed)
        violation("transaction %llu is committed, and its COMMIT said that it is not",
                  (unsigned long long)t->id);
    if (state == T_ACKED) {
        struct record *r;
        struct timeline *tl = timeline_of(&t->timeline);
        run_stats.commits++;
        if (!t->full || !tl)
            return;
        r = find_written(&t->timeline, t->term, t->end);
        if (!r || !r->gold)
            violation("I17: transaction %llu was acknowledged, and no majority has it",
                      (unsigned long long)t->id);
        if (t->end > tl->acked_end)
            tl->acked_end = t->end;
    }
    if (state == T_UNKNOWN)
        run_stats.unknown++;
}

void txn_verdict(struct txn *t, const char *word)
{
    bool yes = strcmp(word, "committed") == 0;
    t->told_us = sim.now;
    fold(t->id << 8 | yes);
    if (yes != t->committed)
        violation("I17: transaction %llu is called %s, and it %s in the log",
                  (unsigned long long)t->id, word, t->committed ? "is" : "is not");
    if (yes) {
        run_stats.kept++;
        probe(P_UNKNOWN_KEPT);
        t->state = T_ACKED;
    } else {
        run_stats.lost++;
        probe(P_UNKNOWN_LOST);
        t->state = T_NOT_COMMITTED; /* it must never come */
    }
}

bool txn_has_to_be_known(const struct txn *x)
{
    const struct timeline *t = timeline_of(&x->timeline);
    return !t->sealed && !t->dropping;
}

void txns_killed(uint32_t client)
{
    for (uint32_t i = 1; i <= n_txns; i++) {
        if (txns[i].client != client || txns[i].state != T_OPEN)
            continue;
        txns[i].state = T_KILLED;
        if (txns[i].has_record && txns[i].committed)
            probe(P_OTHERS_COMMIT);
    }
}

void oracle_begin(void)
{
    dctx = ZSTD_createDCtx();
}

void oracle_end(void)
{
    check_early();
    for (uint32_t i = 1; i <= n_txns; i++) {
        struct txn *x = &txns[i];
        if (x->state == T_ACKED && x->full && !x->committed)
            violation("I17: transaction %llu was acknowledged and is not in the log",
                      (unsigned long long)x->id);
        if (x->state == T_KILLED && x->has_record && !x->committed)
            probe(P_KILLED_COMMIT_LOST);
        if (x->seen && !x->committed)
            violation(
                "M7: transaction %llu was read by another connection, and it is not in the log",
                (unsigned long long)x->id);
        if (x->state == T_UNKNOWN && txn_has_to_be_known(x))
            violation("transaction %llu was never resolved", (unsigned long long)x->id);
    }
}
