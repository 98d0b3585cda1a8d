/*
 * test_gc.c - garbage collection against a model: random histories of branches, pins, cuts, shrunk
 * databases and drops. After each run every moment that is kept reads as before, and what the store
 * still has is exactly what those moments see.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "pageserver/gc_lmdb.h"
#include "tests/unit/pageserver/ps_util.h"

#define SIZE     512u
#define PAGES    6u
#define LINES    7
#define COMMITS  160
#define VERSIONS 600
#define PINS     12

struct version {
    pgno_t pgno;
    lsn_t lsn;
    bool used;
    uint8_t bytes[SIZE];
};

struct mline {
    bool there, hidden;
    int parent; /* -1: the root */
    struct ps_line line;
    struct ps_gc_point start, commit[COMMITS];
    int n_commits;
    struct version version[VERSIONS];
    int n_versions;
    lsn_t from;
    struct ps_gc_point pin[PINS];
    int n_pins;
    uint8_t now[PAGES + 1][SIZE];
    uint32_t db_pages;
    lsn_t lsn;
};

static char dir[64], path[96];
static struct ps_store *store;
static struct ps_txn *wr, *rd;
static struct mline model[LINES];
static tlno_t next_no = 1;
static uint64_t rng;

static uint32_t any(uint32_t n)
{
    return (uint32_t)(ps_random(&rng) >> 33) % n;
}

static void setup(void)
{
    ps_tmp(dir);
    struct ps_store_options o = ps_test_store(dir, path);
    cr_assert_eq(ps_store_open(&o, &store), 0, "%s", co_sentence());
    cr_assert_eq(ps_write_new(store, &wr), 0);
    cr_assert_eq(ps_read_new(store, &rd), 0);
}
static void teardown(void)
{
    ps_read_free(rd);
    ps_write_free(wr);
    ps_store_close(store);
    ps_tmp_remove(dir);
}
TestSuite(gc, .init = setup, .fini = teardown, .timeout = 300);

/* -- The model ---------------------------------------------------------------------------------
 */

static lsn_t last_child(int of)
{
    lsn_t last = 0;
    for (int i = 0; i < LINES; i++)
        if (model[i].there && model[i].parent == of && model[i].start.lsn > last)
            last = model[i].start.lsn;
    return last;
}

static lsn_t to_of(int i)
{
    return model[i].hidden ? last_child(i) : PS_GC_END;
}

static struct ps_gc_point state_at(const struct mline *m, lsn_t lsn)
{
    struct ps_gc_point p = m->start;
    for (int c = 0; c < m->n_commits && m->commit[c].lsn <= lsn; c++)
        p = m->commit[c];
    p.lsn = lsn;
    return p;
}

static struct version *find(int i, pgno_t pgno, lsn_t lsn)
{
    struct version *best = NULL;
    for (; i >= 0; lsn = model[i].start.lsn < lsn ? model[i].start.lsn : lsn, i = model[i].parent) {
        struct mline *m = &model[i];
        for (int v = 0; v < m->n_versions; v++)
            if (m->version[v].pgno == pgno && m->version[v].lsn <= lsn &&
                (!best || m->version[v].lsn > best->lsn))
                best = &m->version[v];
        if (best)
            return best;
    }
    return NULL;
}

/* The moments at which timeline i is read. */
static int moments(int i, struct ps_gc_point out[COMMITS + PINS + 1])
{
    const struct mline *m = &model[i];
    int n = 0;
    if (m->from <= to_of(i))
        out[n++] = state_at(m, m->from);
    for (int c = 0; c < m->n_commits; c++)
        if (m->commit[c].lsn > m->from && m->commit[c].lsn <= to_of(i))
            out[n++] = m->commit[c];
    for (int p = 0; p < m->n_pins; p++)
        out[n++] = m->pin[p];
    return n;
}

static bool is_alive(int i)
{
    struct ps_gc_point at[COMMITS + PINS + 1];
    bool alive = moments(i, at) > 0;
    for (int c = 0; c < LINES && !alive; c++)
        alive = model[c].there && model[c].parent == i && is_alive(c);
    return alive;
}

/* -- What happens ------------------------------------------------------------------------------
 */

static void write_page(struct mline *m, pgno_t p, lsn_t lsn)
{
    if (any(4) == 0)
        ps_fill(m->now[p], SIZE, any(2) ? FILL_NOISE : FILL_TEXT, rng);
    else
        co_put32(m->now[p] + any(SIZE - 4), (uint32_t)rng);
    struct version *v = &m->version[m->n_versions++];
    *v = (struct version){.pgno = p, .lsn = lsn};
    memcpy(v->bytes, m->now[p], SIZE);
    cr_assert_eq(ps_page_put(wr, m->line.no, p, lsn, v->bytes, SIZE, ps_crc(v->bytes, SIZE),
                             co_span_of(NULL, 0)),
                 0, "%s", co_sentence());
}

static void commit(struct mline *m)
{
    pgno_t pgnos[PAGES];
    uint32_t n = 0, size = any(8) == 0 ? 1 + any(PAGES) : m->db_pages;
    if (m->n_commits == COMMITS || m->n_versions + (int)PAGES > VERSIONS)
        return;
    lsn_t lsn = m->lsn + 8 * (1 + any(40));
    cr_assert_eq(ps_write_begin(wr), 0);
    for (pgno_t p = 1; p <= size; p++)
        if (p > m->db_pages || any(3) == 0) {
            write_page(m, p, lsn);
            pgnos[n++] = p;
        }
    struct ps_commit c = {.lsn = lsn, .time_us = lsn, .db_pages = size, .page_size = SIZE};
    cr_assert_eq(ps_commit_put(wr, m->line.no, &c, pgnos, n), 0);
    cr_assert_eq(ps_write_commit(wr), 0);
    m->commit[m->n_commits++] = (struct ps_gc_point){lsn, size};
    m->db_pages = size;
    m->lsn = lsn;
}

static void branch(int from)
{
    struct ps_gc_point at[COMMITS + PINS + 1];
    int i = 0, n = moments(from, at);
    while (i < LINES && model[i].there)
        i++;
    if (i == LINES || !n || model[from].hidden)
        return;
    struct mline *m = &model[i];
    memset(m, 0, sizeof *m);
    m->there = true;
    m->parent = from;
    m->start = at[any((uint32_t)n)];
    m->from = m->lsn = m->start.lsn;
    m->db_pages = m->start.db_pages;
    m->line = (struct ps_line){
        .no = next_no++, .ancestor = &model[from].line, .ancestor_lsn = m->start.lsn};
    for (pgno_t p = 1; p <= m->db_pages; p++)
        memcpy(m->now[p], find(from, p, m->start.lsn)->bytes, SIZE);
}

static void pin(struct mline *m, int i)
{
    struct ps_gc_point at[COMMITS + PINS + 1];
    int n = moments(i, at);
    if (any(3) == 0 && m->n_pins)
        m->n_pins--;
    else if (n && m->n_pins < PINS && !m->hidden)
        m->pin[m->n_pins++] = at[any((uint32_t)n)];
}

static void drop(int i)
{
    struct mline *m = &model[i];
    bool done = false;
    m->n_pins = 0;
    if (m->parent < 0)
        return;
    if (last_child(i)) {
        m->hidden = true;
        return;
    }
    while (!done) {
        cr_assert_eq(ps_write_begin(wr), 0);
        cr_assert_eq(ps_purge_step(wr, m->line.no, 50, &done), 0);
        cr_assert_eq(ps_write_commit(wr), 0);
    }
    m->there = false;
    if (model[m->parent].hidden && !last_child(m->parent))
        drop(m->parent);
}

/* Ancestors first; -1: i was added before. */
static int plan_of(struct ps_gc_plan *plan, int i, uint32_t at[LINES], bool added[LINES])
{
    const struct mline *m = &model[i];
    if (added[i])
        return 0;
    if (m->parent >= 0)
        plan_of(plan, m->parent, at, added);
    added[i] = true;
    struct ps_gc_line line = {.no = m->line.no,
                              .parent = m->parent < 0 ? PS_GC_NO_LINE : at[m->parent],
                              .start = m->start,
                              .from = state_at(m, m->from),
                              .to = to_of(i)};
    cr_assert_eq(ps_gc_add(plan, &line, &at[i]), 0);
    for (int p = 0; p < m->n_pins; p++)
        cr_assert_eq(ps_gc_keep(plan, at[i], m->pin[p]), 0);
    return 0;
}

static void cut(struct mline *m)
{
    lsn_t from = m->n_commits ? m->commit[any((uint32_t)m->n_commits)].lsn : m->from;
    if (from > m->from)
        m->from = from;
}

static struct ps_gc_found collect(bool dry)
{
    struct ps_gc_plan plan = {0};
    uint32_t at[LINES];
    bool added[LINES] = {false};
    for (int i = 0; i < LINES; i++)
        if (model[i].there)
            plan_of(&plan, i, at, added);
    cr_assert_eq(ps_gc_finish(&plan), 0);
    struct ps_gc_run run = {.plan = &plan, .dry = dry};
    while (!run.done) {
        cr_assert_eq(ps_write_begin(wr), 0);
        cr_assert_eq(ps_gc_step(wr, &run, 1 + any(30)), 0, "%s", co_sentence());
        if (dry)
            ps_write_abort(wr);
        else
            cr_assert_eq(ps_write_commit(wr), 0);
    }
    ps_gc_free(&plan);
    return run.found;
}

/* -- What must hold ----------------------------------------------------------------------------
 */

static void check_moment(uint64_t seed, int i, struct ps_gc_point at)
{
    uint8_t back[SIZE];
    lsn_t version;
    uint32_t crc;
    struct ps_commit c;
    for (pgno_t p = 1; p <= at.db_pages; p++) {
        struct version *v = find(i, p, at.lsn);
        cr_assert_not_null(v);
        int rc = ps_page_get(rd, &model[i].line, p, at.lsn, SIZE, back, &version, &crc);
        cr_assert_eq(rc, 0, "seed %llu: %s", (unsigned long long)seed, co_sentence());
        cr_assert(version == v->lsn && memcmp(back, v->bytes, SIZE) == 0, "seed %llu",
                  (unsigned long long)seed);
        v->used = true;
    }
    if (at.db_pages) {
        cr_assert_eq(ps_commit_at(rd, &model[i].line, at.lsn, &c), 0, "seed %llu",
                     (unsigned long long)seed);
        cr_assert_eq(c.db_pages, at.db_pages);
    }
}

/* The commits that a moment, a branch or the timeline's end stands on. */
static uint64_t commits_needed(int i)
{
    struct ps_gc_point at[COMMITS + PINS + 1];
    const struct mline *m = &model[i];
    bool need[COMMITS + 1] = {false};
    uint64_t n = 0;
    lsn_t stand[COMMITS + PINS + 1 + LINES];
    int stands = moments(i, at);
    for (int k = 0; k < stands; k++)
        stand[k] = at[k].lsn;
    for (int c = 0; c < LINES; c++)
        if (model[c].there && model[c].parent == i && is_alive(c))
            stand[stands++] = model[c].start.lsn;
    for (int k = 0; k < stands; k++) {
        int c = m->n_commits - 1;
        while (c >= 0 && m->commit[c].lsn > stand[k])
            c--;
        if (c >= 0)
            need[c] = true;
    }
    if (m->n_commits)
        need[m->n_commits - 1] = true;
    for (int c = 0; c < m->n_commits; c++)
        n += need[c];
    return n;
}

static void check(uint64_t seed, bool exact)
{
    struct ps_gc_point at[COMMITS + PINS + 1];
    cr_assert_eq(ps_read_renew(rd), 0);
    for (int i = 0; i < LINES; i++)
        for (int v = 0; v < model[i].n_versions; v++)
            model[i].version[v].used = false;
    for (int i = 0; i < LINES; i++)
        for (int k = 0, n = model[i].there ? moments(i, at) : 0; k < n; k++)
            check_moment(seed, i, at[k]);
    for (int i = 0; i < LINES; i++) {
        struct ps_usage kept, counted;
        uint64_t used = 0;
        if (!model[i].there)
            continue;
        for (int v = 0; v < model[i].n_versions; v++)
            used += model[i].version[v].used;
        cr_assert_eq(ps_usage_get(rd, model[i].line.no, &kept), 0);
        cr_assert_eq(ps_usage_count(rd, model[i].line.no, &counted), 0);
        cr_assert(kept.versions == counted.versions && kept.images == counted.images &&
                      kept.page_bytes == counted.page_bytes && kept.commits == counted.commits &&
                      kept.commit_bytes == counted.commit_bytes,
                  "seed %llu: counts", (unsigned long long)seed);
        if (!exact)
            continue;
        cr_assert_eq(counted.versions, used, "seed %llu, timeline %d: %llu versions, %llu are seen",
                     (unsigned long long)seed, i, (unsigned long long)counted.versions,
                     (unsigned long long)used);
        cr_assert_eq(counted.commits, commits_needed(i), "seed %llu, timeline %d: %llu commits",
                     (unsigned long long)seed, i, (unsigned long long)counted.commits);
    }
    ps_read_reset(rd);
}

static void clear(void)
{
    for (int i = 0; i < LINES; i++) {
        bool done = !model[i].there;
        while (!done) {
            cr_assert_eq(ps_write_begin(wr), 0);
            cr_assert_eq(ps_purge_step(wr, model[i].line.no, 5000, &done), 0);
            cr_assert_eq(ps_write_commit(wr), 0);
        }
    }
}

static void one_history(uint64_t seed)
{
    rng = seed * 0x9e3779b97f4a7c15u + 77;
    memset(model, 0, sizeof model);
    model[0] = (struct mline){.there = true,
                              .parent = -1,
                              .start = {LSN_FIRST, 0},
                              .from = LSN_FIRST,
                              .lsn = LSN_FIRST,
                              .line = {.no = next_no++}};
    for (uint32_t step = 0, n = 40 + any(160); step < n; step++) {
        int i = (int)any(LINES);
        struct mline *m = &model[i];
        uint32_t what = any(20);
        if (!m->there || (m->hidden && what < 15))
            continue;
        if (what < 13)
            commit(m);
        else if (what < 15)
            branch(i);
        else if (what < 17)
            pin(m, i);
        else if (what < 18)
            drop(i);
        else
            cut(m);
        if (any(12) == 0) {
            struct ps_gc_found dry = collect(true);
            check(seed, false);
            struct ps_gc_found found = collect(false);
            cr_assert(dry.versions == found.versions && dry.commits == found.commits,
                      "seed %llu: a dry run finds the same", (unsigned long long)seed);
            check(seed, true);
        }
    }
    collect(false);
    check(seed, true);
    clear();
}

Test(gc, random_histories_read_the_same_and_nothing_unseen_stays)
{
    /* Exactness, both ways, over histories that nobody thought of. CORALLITE_GC_CASES: how many;
     * CORALLITE_GC_SEED: the first. */
    const char *cases = getenv("CORALLITE_GC_CASES"), *first = getenv("CORALLITE_GC_SEED");
    uint64_t n = cases ? strtoull(cases, NULL, 10) : 2000,
             seed = first ? strtoull(first, NULL, 10) : 1;
    for (uint64_t i = 0; i < n; i++)
        one_history(seed + i);
}
