/*
 * cache.c - a chained hash of pages, each the list of its versions from the newest down; four lists
 * for the places of a version. What is asked for is nearly always the newest version, and a page
 * that every commit changes has thousands: so only the newest stands in the hash.
 */
#include "compute-vfs/cache.h"

#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/mutation.h"
#include "compute-vfs/change_map.h"

enum place { PENDING, FRESH, PROBATION, PROTECTED, PLACES };

struct cv_version {
    struct cv_version *chain;         /* of a page's newest: the next page of the bucket */
    struct cv_version *newer, *older; /* same page, descending by `from` */
    struct cv_version *prev, *next;   /* same place; next was put there before */
    lsn_t from, to;
    pgno_t pgno;
    uint32_t size;
    enum place place;
    uint8_t data[];
};

struct list {
    struct cv_version *newest, *oldest;
    uint64_t bytes, n;
};

struct cv_cache {
    struct cv_version **buckets;
    uint64_t n_buckets; /* a power of two */
    uint64_t n_pages;   /* with at least one version */
    struct list lists[PLACES];
    uint64_t budget, fresh_budget;
    struct cv_change_map changes;
    uint64_t hits, misses, evicted;
};

/* -- lists and hash ------------------------------------------------------------------------------
 */

static void list_remove(struct cv_cache *c, struct cv_version *v)
{
    struct list *l = &c->lists[v->place];

    if (v->prev)
        v->prev->next = v->next;
    else
        l->newest = v->next;
    if (v->next)
        v->next->prev = v->prev;
    else
        l->oldest = v->prev;
    v->prev = v->next = NULL;
    l->bytes -= v->size;
    l->n--;
}

static void list_add_newest(struct cv_cache *c, struct cv_version *v, enum place place)
{
    struct list *l = &c->lists[place];

    v->place = place;
    v->prev = NULL;
    v->next = l->newest;
    if (l->newest)
        l->newest->prev = v;
    else
        l->oldest = v;
    l->newest = v;
    l->bytes += v->size;
    l->n++;
}

static void list_add_oldest(struct cv_cache *c, struct cv_version *v, enum place place)
{
    struct list *l = &c->lists[place];

    v->place = place;
    v->next = NULL;
    v->prev = l->oldest;
    if (l->oldest)
        l->oldest->next = v;
    else
        l->newest = v;
    l->oldest = v;
    l->bytes += v->size;
    l->n++;
}

static struct cv_version **bucket(const struct cv_cache *c, pgno_t pgno)
{
    return &c->buckets[(pgno * 0x9e3779b97f4a7c15ull >> 20) & (c->n_buckets - 1)];
}

/* The newest version of a page, or NULL: where it stands, or would stand, in its bucket. */
static struct cv_version **newest_at(const struct cv_cache *c, pgno_t pgno)
{
    struct cv_version **at = bucket(c, pgno);

    while (*at && (*at)->pgno != pgno)
        at = &(*at)->chain;
    return at;
}

static void hash_remove(struct cv_cache *c, struct cv_version *v)
{
    if (v->older)
        v->older->newer = v->newer;
    if (v->newer) {
        v->newer->older = v->older;
        return;
    }
    struct cv_version **at = newest_at(c, v->pgno);

    co_assert(*at == v);
    if (v->older) {
        v->older->chain = v->chain;
        *at = v->older;
    } else {
        *at = v->chain;
        c->n_pages--;
    }
}

/* Without memory the chains only get longer. */
static void hash_grow(struct cv_cache *c)
{
    struct cv_version **old = c->buckets, **grown;
    uint64_t n_old = c->n_buckets;

    if (c->n_pages < n_old)
        return;
    grown = calloc(n_old * 2, sizeof *grown);
    if (!grown)
        return;
    c->buckets = grown;
    c->n_buckets = n_old * 2;
    for (uint64_t i = 0; i < n_old; i++) {
        struct cv_version *v = old[i], *next;

        for (; v; v = next) {
            struct cv_version **at = bucket(c, v->pgno);

            next = v->chain;
            v->chain = *at;
            *at = v;
        }
    }
    free(old);
}

static void hash_add(struct cv_cache *c, struct cv_version *v)
{
    struct cv_version **at, *newer = NULL, *older;

    hash_grow(c);
    at = newest_at(c, v->pgno);
    for (older = *at; older && older->from > v->from; older = older->older)
        newer = older;
    v->newer = newer;
    v->older = older;
    if (older)
        older->newer = v;
    if (newer) {
        newer->older = v;
        return;
    }
    c->n_pages += older == NULL;
    v->chain = older ? older->chain : NULL;
    *at = v;
}

static void drop(struct cv_cache *c, struct cv_version *v)
{
    hash_remove(c, v);
    list_remove(c, v);
    free(v);
}

/* -- eviction ------------------------------------------------------------------------------------
 */

/* A version that only older snapshots can see goes to the old end at once. */
static void settle(struct cv_cache *c, struct cv_version *v)
{
    if (v->to == CV_OPEN)
        list_add_newest(c, v, PROBATION);
    else
        list_add_oldest(c, v, PROBATION);
}

static void evict(struct cv_cache *c)
{
    struct list *probation = &c->lists[PROBATION], *protected = &c->lists[PROTECTED];
    struct list *fresh = &c->lists[FRESH];

    while (fresh->bytes > c->fresh_budget) {
        struct cv_version *v = fresh->oldest;

        list_remove(c, v);
        settle(c, v);
    }
    while (protected->bytes > c->budget / 5 * 4) {
        struct cv_version *v = protected->oldest;

        list_remove(c, v);
        list_add_newest(c, v, PROBATION);
    }
    while (probation->n && probation->bytes + protected->bytes > c->budget) {
        drop(c, probation->oldest);
        c->evicted++;
    }
}

/* -- life ----------------------------------------------------------------------------------------
 */

int cv_cache_new(uint64_t budget_bytes, uint64_t fresh_budget_bytes, struct cv_cache **out)
{
    struct cv_cache *c = calloc(1, sizeof *c);

    if (!c)
        return co_fail(CO_ERR_NOMEM, "no memory for a page cache");
    c->n_buckets = 1024;
    c->buckets = calloc(c->n_buckets, sizeof *c->buckets);
    if (!c->buckets) {
        free(c);
        return co_fail(CO_ERR_NOMEM, "no memory for a page cache");
    }
    c->budget = budget_bytes;
    c->fresh_budget = fresh_budget_bytes;
    *out = c;
    return 0;
}

static void drop_place(struct cv_cache *c, enum place place)
{
    while (c->lists[place].oldest)
        drop(c, c->lists[place].oldest);
}

void cv_cache_free(struct cv_cache *c)
{
    if (!c)
        return;
    for (int i = 0; i < PLACES; i++)
        drop_place(c, (enum place)i);
    cv_change_map_free(&c->changes);
    free(c->buckets);
    free(c);
}

void cv_cache_begin(struct cv_cache *c, lsn_t lsn)
{
    drop_place(c, FRESH);
    drop_place(c, PROBATION);
    drop_place(c, PROTECTED);
    cv_change_map_begin(&c->changes, lsn);
}

struct cv_version *cv_version_new(pgno_t pgno, uint32_t size)
{
    struct cv_version *v = malloc(sizeof *v + size);

    if (!v)
        return NULL;
    memset(v, 0, sizeof *v);
    v->pgno = pgno;
    v->size = size;
    return v;
}

uint8_t *cv_version_data(struct cv_version *v)
{
    return v->data;
}

pgno_t cv_version_pgno(const struct cv_version *v)
{
    return v->pgno;
}

void cv_version_set_pgno(struct cv_version *v, pgno_t pgno)
{
    co_assert(v->pgno == 0);
    v->pgno = pgno;
}

void cv_version_range(const struct cv_version *v, lsn_t *from, lsn_t *to)
{
    *from = v->from;
    *to = v->to;
}

void cv_version_free(struct cv_version *v)
{
    free(v);
}

/* -- looking up ----------------------------------------------------------------------------------
 */

static struct cv_version *find(struct cv_cache *c, pgno_t pgno, lsn_t lsn)
{
    struct cv_version *v = *newest_at(c, pgno);

    while (v && v->from > lsn)
        v = v->older;
    return v && lsn < v->to ? v : NULL;
}

bool cv_cache_peek(struct cv_cache *c, pgno_t pgno, lsn_t lsn, uint8_t *out, uint32_t size,
                   lsn_t *version_lsn)
{
    struct cv_version *v = find(c, pgno, lsn);

    if (!v || v->size != size)
        return false;
    memcpy(out, v->data, size);
    *version_lsn = v->from;
    return true;
}

bool cv_cache_has(struct cv_cache *c, pgno_t pgno, lsn_t lsn, uint32_t size)
{
    const struct cv_version *v = find(c, pgno, lsn);

    return v && v->size == size;
}

bool cv_cache_get(struct cv_cache *c, pgno_t pgno, lsn_t lsn, uint8_t *out, uint32_t size,
                  lsn_t *version_lsn)
{
    struct cv_version *v = find(c, pgno, lsn);

    if (!v || v->size != size) {
        c->misses++;
        return false;
    }
    c->hits++;
    memcpy(out, v->data, size);
    *version_lsn = v->from;
    if (v->place == PROBATION || v->place == PROTECTED) {
        list_remove(c, v);
        list_add_newest(c, v, PROTECTED);
        evict(c);
    }
    return true;
}

/* -- what happened -------------------------------------------------------------------------------
 */

void cv_cache_change(struct cv_cache *c, pgno_t pgno, lsn_t lsn)
{
    struct cv_version *v = *newest_at(c, pgno); /* no other can be open (C1) */

    cv_change_map_note(&c->changes, pgno, lsn);
    if (!v || v->to != CV_OPEN || v->from >= lsn)
        return;
    v->to = lsn;
    if (v->place != PENDING) {
        list_remove(c, v);
        list_add_oldest(c, v, PROBATION);
    }
}

void cv_cache_publish(struct cv_cache *c, struct cv_version *v, lsn_t lsn)
{
    cv_cache_change(c, v->pgno, lsn);
    v->from = lsn;
    v->to = CV_OPEN;
    hash_add(c, v);
    list_add_newest(c, v, PENDING);
    evict(c);
}

void cv_cache_fetched(struct cv_cache *c, struct cv_version *v, lsn_t version_lsn, lsn_t at_lsn)
{
    lsn_t newest = cv_change_map_newest(&c->changes, v->pgno);
    bool open = (at_lsn >= c->changes.began && newest <= at_lsn) || co_mutated(FETCHED_OPEN);

    co_assert(version_lsn <= at_lsn);
    for (struct cv_version *have = *newest_at(c, v->pgno); have; have = have->older) {
        if (have->from > version_lsn)
            continue;
        if (have->from < version_lsn || have->size != v->size)
            break;
        if (open)
            have->to = CV_OPEN;
        else if (have->to <= at_lsn)
            have->to = at_lsn + 1;
        free(v);
        return;
    }
    v->from = version_lsn;
    v->to = open ? CV_OPEN : at_lsn + 1;
    hash_add(c, v);
    list_add_newest(c, v, PROBATION);
    evict(c);
}

/* How many versions of a page are looked at for one that nobody can see: a snapshot of long ago may
 * hold thousands. */
#define LOOK_BACK 4

/* They are durable as well, being older: so no rollback opens them again. */
static void drop_older(struct cv_cache *c, struct cv_version *v, lsn_t oldest)
{
    for (int i = 0; i < LOOK_BACK && v->older && v->older->to > oldest; i++)
        v = v->older;
    while (v->older && v->older->to <= oldest)
        drop(c, v->older);
}

void cv_cache_durable(struct cv_cache *c, lsn_t lsn, lsn_t oldest)
{
    struct list *pending = &c->lists[PENDING];

    while (pending->oldest && pending->oldest->from <= lsn) {
        struct cv_version *v = pending->oldest;

        list_remove(c, v);
        if (v->to == CV_OPEN)
            list_add_newest(c, v, FRESH);
        else
            list_add_oldest(c, v, PROBATION);
        drop_older(c, v, oldest);
    }
    evict(c);
}

void cv_cache_ingested(struct cv_cache *c, lsn_t lsn)
{
    struct list *fresh = &c->lists[FRESH];

    while (fresh->oldest && fresh->oldest->from <= lsn) {
        struct cv_version *v = fresh->oldest;

        list_remove(c, v);
        settle(c, v);
    }
    evict(c);
}

void cv_cache_rollback(struct cv_cache *c, lsn_t lsn)
{
    for (int i = 0; i < PLACES; i++) {
        struct cv_version *v = c->lists[i].newest, *older;

        for (; v; v = older) {
            older = v->next;
            if (v->from > lsn)
                drop(c, v);
            else if (v->to > lsn)
                v->to = CV_OPEN; /* valid at `lsn`, which is again the end of what is known */
        }
    }
    cv_change_map_rollback(&c->changes, lsn);
}

lsn_t cv_cache_not_modified_since(const struct cv_cache *c, pgno_t pgno, lsn_t lsn)
{
    lsn_t newest = cv_change_map_newest(&c->changes, pgno);

    return newest <= lsn ? newest : lsn;
}

lsn_t cv_cache_newest(const struct cv_cache *c, pgno_t pgno)
{
    return cv_change_map_newest(&c->changes, pgno);
}

uint64_t cv_cache_told(const struct cv_cache *c)
{
    return c->changes.noted;
}

struct cv_version *cv_cache_next(const struct cv_cache *c, struct cv_version *v)
{
    int place = v ? (int)v->place + 1 : 0;

    if (v && v->next)
        return v->next;
    while (place < PLACES && !c->lists[place].newest)
        place++;
    return place < PLACES ? c->lists[place].newest : NULL;
}

void cv_cache_stats(const struct cv_cache *c, struct cv_cache_stats *out)
{
    memset(out, 0, sizeof *out);
    out->hits = c->hits;
    out->misses = c->misses;
    out->evicted = c->evicted;
    for (int i = 0; i < PLACES; i++) {
        out->pages += c->lists[i].n;
        out->bytes += c->lists[i].bytes;
    }
    out->pending = c->lists[PENDING].n;
    out->fresh = c->lists[FRESH].n;
}
