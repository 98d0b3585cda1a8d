/*
 * stats.c - what PRAGMA corallite_stats tells: counters of the process's database object, of its
 * cache, its pageserver and its log. A reset keeps the counters as they are and remembers where
 * they stood; gauges are not reset.
 */
#include <stdio.h>
#include <string.h>

#include "common/assert.h"
#include "compute-vfs/vfs.h"

struct stat_line {
    char name[40];
    uint64_t value;
    bool gauge;
};

struct stat_list {
    struct stat_line line[CV_STATS_MAX];
    uint32_t n;
};

static struct stat_line *add(struct stat_list *list, const char *name, uint64_t value)
{
    struct stat_line *l = &list->line[list->n++];

    co_assert(list->n <= CV_STATS_MAX);
    snprintf(l->name, sizeof l->name, "%s", name);
    l->value = value;
    return l;
}

static void gauge(struct stat_list *list, const char *name, uint64_t value)
{
    add(list, name, value)->gauge = true;
}

/* Lock held. */
static void of_object(struct stat_list *list, struct cv_database *db)
{
    static const char *const causes[CV_CAUSES] = {
        [CV_FOR_COMMIT] = "commit", [CV_FOR_POSITION] = "position", [CV_FOR_CHANGES] = "changes",
        [CV_FOR_PAGES] = "pages",   [CV_FOR_LEASE] = "lease",       [CV_FOR_TURN] = "turn",
        [CV_FOR_INGEST] = "ingest",
    };
    struct cv_cache_stats cache;
    struct cv_tier_stats disk = {0};
    char name[40];

    add(list, "commits", db->n_commits);
    add(list, "read_transactions", db->n_pins);
    add(list, "positions_asked", db->n_positions);
    add(list, "gaps_closed", db->n_gaps);
    add(list, "records_followed", db->n_followed);
    gauge(list, "inflight_bytes", db->inflight_bytes);
    for (int i = 0; i < CV_CAUSES; i++) {
        snprintf(name, sizeof name, "waits_for_%s", causes[i]);
        add(list, name, db->waits[i].n);
        snprintf(name, sizeof name, "waited_for_%s_us", causes[i]);
        add(list, name, db->waits[i].us);
    }
    gauge(list, "pageserver_lag_bytes", cv_pace_lag(&db->pace));
    gauge(list, "pageserver_bytes_per_s", db->pace.rate);
    gauge(list, "commits_slowed", cv_pace_allowed(&db->pace) != UINT64_MAX);
    cv_cache_stats(db->cache, &cache);
    add(list, "cache_hits", cache.hits);
    add(list, "cache_misses", cache.misses);
    add(list, "cache_evicted", cache.evicted);
    gauge(list, "cache_pages", cache.pages);
    gauge(list, "cache_bytes", cache.bytes);
    if (db->tier)
        cv_tier_stats(db->tier, &disk);
    add(list, "disk_hits", disk.hits);
    add(list, "disk_misses", disk.misses);
    add(list, "disk_bytes_read", disk.bytes_read);
    add(list, "disk_bytes_written", disk.bytes_written);
}

static void of_network(struct stat_list *list, struct cv_database *db)
{
    struct cv_pages_stats pages;
    struct cv_log_stats log = {0};
    char name[40];

    db->pages->ops->stats(db->pages, &pages);
    if (db->log)
        db->log->ops->stats(db->log, &log);
    add(list, "pageserver_round_trips", pages.round_trips);
    add(list, "pageserver_pages", pages.pages);
    add(list, "pageserver_bytes_in", pages.bytes_in);
    add(list, "pageserver_bytes_out", pages.bytes_out);
    add(list, "log_records", log.records);
    add(list, "log_elections", log.elections);
    add(list, "log_bytes_in", log.bytes_in);
    gauge(list, "safekeepers_connected", log.connected);
    /* The list of safekeepers is known once the database exists: last, so that no other moves. */
    for (uint32_t i = 0; i < db->timeline.n_safekeepers && i < CO_MEMBERS_MAX; i++) {
        snprintf(name, sizeof name, "safekeeper_%u_bytes_out", db->timeline.safekeepers[i].node);
        add(list, name, log.bytes_out[i]);
    }
}

static void gather(struct stat_list *list, struct cv_database *db)
{
    memset(list, 0, sizeof *list);
    pthread_mutex_lock(&db->lock);
    of_object(list, db);
    pthread_mutex_unlock(&db->lock);
    of_network(list, db);
}

void cv_stats_reset(struct cv_conn *c)
{
    struct cv_database *db = c->db;
    struct stat_list list;

    gather(&list, db);
    pthread_mutex_lock(&db->lock);
    for (uint32_t i = 0; i < list.n; i++)
        db->stats_base[i] = list.line[i].gauge ? 0 : list.line[i].value;
    pthread_mutex_unlock(&db->lock);
}

char *cv_stats_text(struct cv_conn *c)
{
    struct cv_database *db = c->db;
    sqlite3_str *s = sqlite3_str_new(NULL);
    struct stat_list list;

    gather(&list, db);
    pthread_mutex_lock(&db->lock);
    for (uint32_t i = 0; i < list.n; i++)
        sqlite3_str_appendf(s, "%s%s=%lld", i ? "\n" : "", list.line[i].name,
                            (long long)(list.line[i].value - db->stats_base[i]));
    pthread_mutex_unlock(&db->lock);
    return sqlite3_str_finish(s);
}
