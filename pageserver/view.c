#include "pageserver/view.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/assert.h"

#define BUCKETS_FIRST 1024u

/* Made once a timeline, and kept. */
struct ps_view_entry {
    struct co_id id;
    struct ps_readable r;
    bool readable;
    uint64_t generation;
    lsn_t held; /* the oldest moment since the main loop was told; 0: none */
    struct ps_view_entry *next, *next_held;
};

struct ps_view {
    pthread_mutex_t lock; /* the rest */
    struct ps_view_entry **bucket, *first_held;
    uint32_t n, n_buckets;
};

int ps_view_new(struct ps_view **out)
{
    struct ps_view *v = calloc(1, sizeof *v);
    if (v)
        v->bucket = calloc(BUCKETS_FIRST, sizeof(struct ps_view_entry *));
    if (!v || !v->bucket) {
        free(v);
        return co_fail(CO_ERR_NOMEM, "no memory for what can be read");
    }
    v->n_buckets = BUCKETS_FIRST;
    int rc = pthread_mutex_init(&v->lock, NULL);
    co_assert(rc == 0);
    *out = v;
    return 0;
}

void ps_view_free(struct ps_view *v)
{
    if (!v)
        return;
    for (uint32_t i = 0; i < v->n_buckets; i++)
        for (struct ps_view_entry *e = v->bucket[i], *next; e; e = next) {
            next = e->next;
            free(e);
        }
    free(v->bucket);
    pthread_mutex_destroy(&v->lock);
    free(v);
}

/* -- Under the lock ---------------------------------------------------------------------------- */

static struct ps_view_entry **bucket_of(struct ps_view_entry **bucket, uint32_t n,
                                        const struct co_id *id)
{
    return &bucket[co_get32(id->b) & (n - 1)]; /* ids are random */
}

static struct ps_view_entry *find(const struct ps_view *v, const struct co_id *id)
{
    struct ps_view_entry *e = *bucket_of(v->bucket, v->n_buckets, id);
    while (e && !co_id_eq(&e->id, id))
        e = e->next;
    return e;
}

/* Without memory it stays as it is, and look-ups take longer. */
static void grow(struct ps_view *v)
{
    uint32_t n = 2 * v->n_buckets;
    struct ps_view_entry **bucket = calloc(n, sizeof(struct ps_view_entry *));
    if (!bucket)
        return;
    for (uint32_t i = 0; i < v->n_buckets; i++)
        for (struct ps_view_entry *e = v->bucket[i], *next; e; e = next) {
            struct ps_view_entry **at = bucket_of(bucket, n, &e->id);
            next = e->next;
            e->next = *at;
            *at = e;
        }
    free(v->bucket);
    v->bucket = bucket;
    v->n_buckets = n;
}

static struct ps_view_entry *add(struct ps_view *v, const struct co_id *id)
{
    struct ps_view_entry *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    if (++v->n > v->n_buckets)
        grow(v);
    struct ps_view_entry **at = bucket_of(v->bucket, v->n_buckets, id);
    e->id = *id;
    e->next = *at;
    *at = e;
    return e;
}

static void note(struct ps_view *v, struct ps_view_entry *e, lsn_t lsn)
{
    if (!lsn)
        return;
    if (!e->held) {
        e->next_held = v->first_held;
        v->first_held = e;
    }
    if (!e->held || lsn < e->held)
        e->held = lsn;
}

static void unlink_held(struct ps_view *v, struct ps_view_entry *e)
{
    struct ps_view_entry **at = &v->first_held;
    while (*at != e)
        at = &(*at)->next_held;
    *at = e->next_held;
    e->held = 0;
}

/* -- Main loop --------------------------------------------------------------------------------- */

void ps_view_put(struct ps_view *v, const struct ps_readable *r)
{
    pthread_mutex_lock(&v->lock);
    struct ps_view_entry *e = find(v, &r->line->id);
    if (!e)
        e = add(v, &r->line->id);
    if (e) {
        e->r = *r;
        e->readable = true;
    }
    pthread_mutex_unlock(&v->lock);
}

void ps_view_take(struct ps_view *v, const struct co_id *timeline)
{
    pthread_mutex_lock(&v->lock);
    struct ps_view_entry *e = find(v, timeline);
    if (e && e->readable) {
        e->readable = false;
        e->generation++;
    }
    pthread_mutex_unlock(&v->lock);
}

lsn_t ps_view_cut(struct ps_view *v, const struct co_id *timeline, lsn_t lsn)
{
    pthread_mutex_lock(&v->lock);
    struct ps_view_entry *e = find(v, timeline);
    if (e && e->held && e->held < lsn)
        lsn = e->held;
    if (e && lsn > e->r.cutoff)
        e->r.cutoff = lsn;
    pthread_mutex_unlock(&v->lock);
    return lsn;
}

lsn_t ps_view_reads(struct ps_view *v, const struct co_id *timeline)
{
    lsn_t oldest = 0;
    pthread_mutex_lock(&v->lock);
    struct ps_view_entry *e = find(v, timeline);
    if (e && e->held) {
        oldest = e->held;
        unlink_held(v, e);
    }
    pthread_mutex_unlock(&v->lock);
    return oldest;
}

void ps_view_reads_all(struct ps_view *v, ps_view_fn fn, void *arg)
{
    bool more = true;
    /* Those that are held again meanwhile are told of next time. */
    for (uint32_t i = 0; more; i++) {
        struct co_id id = {0};
        lsn_t oldest = 0;
        pthread_mutex_lock(&v->lock);
        struct ps_view_entry *e = v->first_held;
        more = i < v->n;
        if (e && more) {
            id = e->id;
            oldest = e->held;
            unlink_held(v, e);
        }
        pthread_mutex_unlock(&v->lock);
        more = oldest != 0;
        if (more)
            fn(arg, &id, oldest);
    }
}

/* -- Any thread -------------------------------------------------------------------------------- */

bool ps_view_look(struct ps_view *v, const struct co_id *timeline, struct ps_glance *out)
{
    pthread_mutex_lock(&v->lock);
    struct ps_view_entry *e = find(v, timeline);
    bool readable = e && e->readable;
    if (readable)
        *out = (struct ps_glance){.r = e->r, .entry = e, .generation = e->generation};
    pthread_mutex_unlock(&v->lock);
    return readable;
}

bool ps_view_hold(struct ps_view *v, const struct ps_glance *glance, lsn_t from, lsn_t lsn)
{
    struct ps_view_entry *e = glance->entry;
    pthread_mutex_lock(&v->lock);
    bool holds = e->readable && e->generation == glance->generation && from >= e->r.cutoff;
    if (holds)
        note(v, e, lsn);
    pthread_mutex_unlock(&v->lock);
    return holds;
}
