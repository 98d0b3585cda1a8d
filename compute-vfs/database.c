/* database.c - the registry of databases of this process, and their birth and end. */
#include "compute-vfs/database.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/clock_file.h"

#define OPEN_TIMEOUT_MS 2900u /* an absent server is told within three seconds */

/* One registry a generation: a child must not wait for a lock that a thread of its parent held. */
struct registry {
    unsigned generation;
    struct registry *parents; /* stays behind, as it was at the fork */
    pthread_mutex_t lock;
    struct cv_database *first;
    uint64_t next_id;
};

/* NULL without memory: then this process has no object yet. */
static struct registry *registry(void)
{
    static _Atomic(struct registry *) current;
    struct registry *r = atomic_load(&current), *made;

    if (r && r->generation == cv_generation())
        return r;
    made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    made->generation = cv_generation();
    made->parents = r;
    made->next_id = 1;
    pthread_mutex_init(&made->lock, NULL);
    if (atomic_compare_exchange_strong(&current, &r, made))
        return made;
    free(made);
    return r;
}

/* -- objects -------------------------------------------------------------------------------------
 */

static void object_free(struct cv_database *db)
{
    if (db->log)
        db->log->ops->close(db->log, 0);
    if (db->pages)
        db->pages->ops->close(db->pages);
    cv_tier_close(db->tier);
    cv_cache_free(db->cache);
    free(db->flights);
    pthread_cond_destroy(&db->changed);
    pthread_cond_destroy(&db->keeper_wake);
    pthread_cond_destroy(&db->pacer_wake);
    pthread_cond_destroy(&db->pace_changed);
    pthread_mutex_destroy(&db->lock);
    free(db);
}

static int object_new(const struct cv_uri *uri, struct cv_database **out)
{
    struct cv_database *db = calloc(1, sizeof *db);
    uint64_t budget = (uint64_t)uri->cache_mb << 20;
    int rc;

    if (!db)
        return co_fail(CO_ERR_NOMEM, "no memory for a database object");
    pthread_mutex_init(&db->lock, NULL);
    co_condition_init(&db->changed);
    co_condition_init(&db->keeper_wake);
    co_condition_init(&db->pacer_wake);
    co_condition_init(&db->pace_changed);
    cv_pace_init(&db->pace, (uint64_t)uri->lag_mb << 20);
    db->uri = *uri;
    db->generation = cv_generation();
    cv_uri_path(uri, db->path);
    rc = cv_cache_new(budget, budget, &db->cache);
    if (!rc)
        rc = cv_backend()->pages(uri->server, &db->pages);
    if (rc) {
        object_free(db);
        return rc;
    }
    *out = db;
    return 0;
}

/* Gives the object its timeline and its log. 0 also when another thread did it. */
static int be_born(struct cv_database *db, const struct cv_timeline *timeline)
{
    struct cv_log_events events = cv_database_events;
    struct cv_log *log = NULL;
    struct cv_tier *tier = NULL;
    int rc = 0;

    events.owner = db;
    pthread_mutex_lock(&db->lock);
    while (db->being_born)
        pthread_cond_wait(&db->changed, &db->lock);
    if (!db->born) {
        db->being_born = true;
        pthread_mutex_unlock(&db->lock);
        rc = cv_backend()->log(timeline, &events, &log);
        if (!rc && db->uri.cache_dir[0])
            tier = cv_tier_open(db->uri.cache_dir, db->uri.cache_dir_mb, &timeline->timeline);
        pthread_mutex_lock(&db->lock);
        db->being_born = false;
        if (!rc) {
            db->timeline = *timeline;
            db->log = log;
            db->tier = tier;
            db->born = true;
        }
        pthread_cond_broadcast(&db->changed);
    }
    pthread_mutex_unlock(&db->lock);
    return rc;
}

static bool is_of(struct cv_database *db, const struct cv_timeline *timeline)
{
    bool same;

    pthread_mutex_lock(&db->lock);
    same = !db->born || (timeline && co_id_eq(&db->timeline.timeline, &timeline->timeline));
    pthread_mutex_unlock(&db->lock);
    return same;
}

/* -- finding -------------------------------------------------------------------------------------
 */

static struct cv_database *find_path(struct registry *r, const char *path)
{
    struct cv_database *db;

    if (!r)
        return NULL;
    pthread_mutex_lock(&r->lock);
    for (db = r->first; db && strcmp(db->path, path) != 0; db = db->next)
        ;
    if (db)
        db->refs++;
    pthread_mutex_unlock(&r->lock);
    return db;
}

struct cv_database *cv_database_find(uint64_t serial)
{
    struct registry *r = registry();
    struct cv_database *db;

    if (!r)
        return NULL;
    pthread_mutex_lock(&r->lock);
    for (db = r->first; db && db->serial != serial; db = db->next)
        ;
    if (db)
        db->refs++;
    pthread_mutex_unlock(&r->lock);
    return db;
}

/* What is in memory and good up to the newest transaction goes to the disk, as far as it is
 * committed; as good as all that was read is there already. No other thread uses the object any
 * more. */
static void keep_on_disk(struct cv_database *db)
{
    struct cv_version *v = NULL;

    if (!db->tier || !db->known_valid)
        return;
    cv_tier_learned(db->tier, db->page_size, db->known.txn, cv_cache_told(db->cache), false);
    while ((v = cv_cache_next(db->cache, v))) {
        struct cv_kept kept = {{.pgno = cv_version_pgno(v),
                                .page_size = db->page_size,
                                .known_to = db->known.txn,
                                .known_us = db->known.txn_us},
                               cv_version_data(v)};
        lsn_t to;

        cv_version_range(v, &kept.slot.from, &to);
        if (kept.slot.from <= db->known.txn && to > db->known.txn &&
            !cv_tier_has(db->tier, &kept.slot))
            cv_tier_keep(db->tier, &kept, 1);
    }
}

static void end_object(struct cv_database *db, uint32_t timeout_ms)
{
    cv_keeper_stop(db);
    cv_pacer_stop(db);
    if (db->log)
        db->log->ops->close(db->log, timeout_ms);
    db->log = NULL;
    keep_on_disk(db);
    object_free(db);
}

static void unref(struct cv_database *db, uint32_t timeout_ms)
{
    struct registry *r = registry();
    struct cv_database **at;
    bool last;

    pthread_mutex_lock(&r->lock);
    last = --db->refs == 0;
    if (last) {
        for (at = &r->first; *at != db; at = &(*at)->next)
            ;
        *at = db->next;
    }
    pthread_mutex_unlock(&r->lock);
    if (last)
        end_object(db, timeout_ms);
}

void cv_database_unref(struct cv_database *db)
{
    unref(db, CO_COMMIT_TIMEOUT_MS);
}

/* The name means another timeline now (dropped and made again): open handles keep theirs. */
static void forget_path(struct registry *r, struct cv_database *db)
{
    pthread_mutex_lock(&r->lock);
    db->path[0] = 0;
    pthread_mutex_unlock(&r->lock);
}

static void add_handle(struct cv_database *db, struct cv_handle *h)
{
    struct registry *r = registry();
    memset(h, 0, sizeof *h);
    pthread_mutex_lock(&r->lock);
    h->id = r->next_id++;
    pthread_mutex_unlock(&r->lock);
    pthread_mutex_lock(&db->lock);
    h->next = db->handles;
    if (db->handles)
        db->handles->prev = h;
    db->handles = h;
    pthread_mutex_unlock(&db->lock);
}

/* What the pageserver knows about the name: *found. */
static int ask(struct cv_database *db, struct cv_timeline *timeline, bool *found)
{
    int rc = db->pages->ops->open(db->pages, db->uri.db, db->uri.branch, OPEN_TIMEOUT_MS, timeline);

    *found = rc == 0;
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

static int refuse_absent(const struct cv_uri *uri, bool may_create)
{
    if (strcmp(uri->branch, "main") != 0)
        return co_fail(CO_ERR_NOT_FOUND, "there is no branch %s/%s at %s: opening never makes one",
                       uri->db, uri->branch, uri->server);
    if (!may_create)
        return co_fail(CO_ERR_NOT_FOUND,
                       "there is no database %s at %s, and this connection may not create it: open "
                       "it without mode=ro or create=0, or run: corallite db create %s",
                       uri->db, uri->server, uri->db);
    return 0;
}

/* Puts a new object in the registry, or gives back the one that was faster. */
static struct cv_database *enter(struct registry *r, struct cv_database *db)
{
    struct cv_database *there;

    pthread_mutex_lock(&r->lock);
    for (there = r->first; there && strcmp(there->path, db->path) != 0; there = there->next)
        ;
    if (there) {
        there->refs++;
    } else {
        db->serial = r->next_id++;
        db->refs = 1;
        db->next = r->first;
        r->first = db;
    }
    pthread_mutex_unlock(&r->lock);
    return there;
}

int cv_database_open(const struct cv_uri *uri, bool may_create, struct cv_handle *h,
                     struct cv_database **out)
{
    struct registry *r = registry();
    struct cv_timeline *timeline = calloc(1, sizeof *timeline);
    struct cv_database *db, *there;
    char path[CV_PATH_MAX];
    bool found, fresh = false;
    int rc;

    if (!timeline || !r) {
        free(timeline);
        return co_fail(CO_ERR_NOMEM, "no memory for a database object");
    }
    cv_uri_path(uri, path);
    db = find_path(r, path);
    if (!db) {
        rc = object_new(uri, &db);
        if (rc)
            goto done;
        fresh = true;
    }
    rc = ask(db, timeline, &found);
    if (!rc && !found)
        rc = refuse_absent(uri, may_create);
    if (rc)
        goto drop;
    if (!fresh && !is_of(db, found ? timeline : NULL)) {
        forget_path(r, db);
        unref(db, uri->commit_timeout_ms);
        rc = object_new(uri, &db);
        if (rc)
            goto done;
        fresh = true;
    }
    if (fresh && (there = enter(r, db))) {
        object_free(db);
        db = there;
    }
    fresh = false;
    if (found)
        rc = be_born(db, timeline);
    if (rc)
        goto drop;
    add_handle(db, h);
    *out = db;
    goto done;
drop:
    if (fresh)
        object_free(db);
    else
        unref(db, 0);
done:
    free(timeline);
    return rc;
}

void cv_database_close(struct cv_database *db, struct cv_handle *h, uint32_t timeout_ms)
{
    pthread_mutex_lock(&db->lock);
    co_assert(!h->has_turn);
    cv_turn_forget(db, h);
    if (h->prev)
        h->prev->next = h->next;
    else
        db->handles = h->next;
    if (h->next)
        h->next->prev = h->prev;
    pthread_mutex_unlock(&db->lock);
    unref(db, timeout_ms);
}

/* -- coming into being ---------------------------------------------------------------------------
 */

int cv_database_create(struct cv_database *db, uint32_t timeout_ms)
{
    struct cv_timeline *timeline = calloc(1, sizeof *timeline);
    int rc;

    if (!timeline)
        return co_fail(CO_ERR_NOMEM, "no memory for a timeline");
    rc = db->pages->ops->create(db->pages, db->uri.db, timeout_ms, timeline);
    if (!rc)
        rc = be_born(db, timeline);
    free(timeline);
    return rc;
}

int cv_database_resolve(const struct cv_uri *uri, struct cv_moment *out)
{
    struct cv_pages *pages = NULL;
    struct cv_database *db;
    char path[CV_PATH_MAX];
    int rc;

    cv_uri_path(uri, path);
    db = find_path(registry(), path);
    if (db) {
        rc = db->pages->ops->resolve(db->pages, uri->db, uri->branch, uri->at, CO_READ_TIMEOUT_MS,
                                     out);
        cv_database_unref(db);
        return rc;
    }
    rc = cv_backend()->pages(uri->server, &pages);
    if (rc)
        return rc;
    rc = pages->ops->resolve(pages, uri->db, uri->branch, uri->at, CO_READ_TIMEOUT_MS, out);
    pages->ops->close(pages);
    return rc;
}

int cv_database_look_again(struct cv_database *db, uint32_t timeout_ms)
{
    struct cv_timeline *timeline = calloc(1, sizeof *timeline);
    int rc;

    if (!timeline)
        return co_fail(CO_ERR_NOMEM, "no memory for a timeline");
    rc = db->pages->ops->open(db->pages, db->uri.db, db->uri.branch, timeout_ms, timeline);
    if (!rc)
        rc = be_born(db, timeline);
    else if (rc == CO_ERR_NOT_FOUND)
        rc = 0;
    free(timeline);
    return rc;
}

void cv_database_seek_safekeepers(struct cv_database *db)
{
    const struct cv_log_ops *ops = db->log->ops;
    struct cv_timeline *t;
    uint64_t now = co_now_us();
    bool due;

    if (!ops->found || ops->no_quorum_ms(db->log, 0, NULL) < CV_SEEK_MS)
        return;
    pthread_mutex_lock(&db->lock);
    due = now >= db->sought_us + CV_SEEK_MS * 1000;
    if (due)
        db->sought_us = now;
    pthread_mutex_unlock(&db->lock);
    t = due ? calloc(1, sizeof *t) : NULL;
    if (t && db->pages->ops->open(db->pages, db->uri.db, db->uri.branch, CV_SEEK_MS, t) == 0)
        ops->found(db->log, t->safekeepers, t->n_safekeepers);
    free(t);
}
