#include "mem_backend.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "proto/btree_page.h"
#include "proto/changes.h"
#include "proto/when.h"

struct mem_switches mem;
struct mem_counts mem_count;

struct page_version {
    struct page_version *older;
    lsn_t lsn;
    uint8_t data[];
};

struct commit {
    lsn_t begin, end;
    term_t term;
    uint32_t db_pages, n;
    pgno_t *pgnos;
    uint64_t time_us, bytes;
    uint8_t *record; /* NULL: of a parent */
    bool txn;
    struct wal_digest digest;
    char branch[64]; /* it was committed to */
};

struct mem_log;

struct mem_db {
    struct mem_db *next;
    char name[140]; /* "" dropped */
    char parent[64];
    struct mem_pin {
        char name[64];
        lsn_t lsn;
    } pins[8];
    bool dropped;
    struct cv_timeline timeline;
    uint32_t page_size;
    struct commit *commits;
    uint32_t n_commits, cap_commits;
    struct page_version **pages;
    uint32_t cap_pages;
    lsn_t end; /* committed */
    lsn_t ingested;
    struct wal_digest digest;
    uint64_t time_us;
    term_t term, first_term; /* the leader of first_term begins the log */
    struct mem_log *leader;
    uint64_t writing_until_us; /* as the leader said last */
    struct mem_log *locked;    /* its lead() ended because of that */
    term_t held_term;          /* hold_resolve */
    lsn_t held_kept;
    struct mem_log *held_log;
};

struct flight {
    struct flight *next;
    struct co_buf record;
    uint64_t due_us;
};

struct mem_log {
    struct cv_log base;
    struct cv_log_events events;
    struct mem_db *db;
    term_t term;
    struct flight *first, *last;
    lsn_t tip;
    bool releasing, stop;
    bool contested;   /* its term is lost, it still has the lease */
    unsigned telling; /* events under way */
    pthread_t thread;
};

static pthread_mutex_t G = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* A child must not inherit G from a thread that it does not have. First of all handlers, so that G
 * comes last, as in a call: conn.c holds its own lock there. */
static void lock_g(void)
{
    pthread_mutex_lock(&G);
}

static void unlock_g(void)
{
    pthread_mutex_unlock(&G);
}

/* Threads that waited are not in the child, and a broadcast would wait for them to go. */
static void unlock_g_in_child(void)
{
    changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    unlock_g();
}
__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(lock_g, unlock_g, unlock_g_in_child);
}
static struct mem_db *dbs;

static bool wait_ms(uint64_t until_us)
{
    uint64_t now = co_now_us();
    struct timespec at;

    if (now >= until_us)
        return false;
    clock_gettime(CLOCK_REALTIME, &at);
    uint64_t left = until_us - now + (uint64_t)at.tv_nsec / 1000;
    if (until_us - now > 5000)
        left = 5000 + (uint64_t)at.tv_nsec / 1000; /* switches are not signalled */
    at.tv_sec += (time_t)(left / 1000000);
    at.tv_nsec = (long)(left % 1000000) * 1000;
    pthread_cond_timedwait(&changed, &G, &at);
    return true;
}

static struct mem_db *find(const char *name)
{
    struct mem_db *db = dbs;

    while (db && strcmp(db->name, name) != 0)
        db = db->next;
    return db;
}

/* -- the state of a database ---------------------------------------------------------------------
 */

static struct page_version *version_at(struct mem_db *db, pgno_t pgno, lsn_t lsn)
{
    struct page_version *v = pgno < db->cap_pages ? db->pages[pgno] : NULL;

    while (v && v->lsn > lsn)
        v = v->older;
    return v;
}

static const char *branch_of(const struct mem_db *db)
{
    const char *slash = strchr(db->name, '/');

    return slash ? slash + 1 : "main";
}

static void add_version(struct mem_db *db, const struct wal_header *h, const struct wal_entry *e)
{
    struct page_version *v = calloc(1, sizeof *v + h->page_size), *base;
    int rc;

    if (e->pgno >= db->cap_pages) {
        uint32_t cap = e->pgno * 2 + 64;

        db->pages = realloc(db->pages, cap * sizeof *db->pages);
        memset(db->pages + db->cap_pages, 0, (cap - db->cap_pages) * sizeof *db->pages);
        db->cap_pages = cap;
    }
    base = version_at(db, e->pgno, h->base_lsn);
    if (e->encoding == WAL_DELTA)
        co_assert(base && base->lsn == e->base_lsn);
    rc = wal_apply(e, h->page_size, e->encoding == WAL_DELTA ? base->data : NULL, v->data, NULL);
    co_assert(rc == 0);
    v->lsn = h->end_lsn;
    v->older = db->pages[e->pgno];
    db->pages[e->pgno] = v;
}

static void commit_record(struct mem_db *db, struct co_span record)
{
    struct wal_header h;
    struct wal_cursor cursor;
    struct wal_entry entry;
    struct commit *c;

    co_assert(wal_check(record, &h) == 0 && wal_check_digest(record, &h) == 0);
    co_assert(h.begin_lsn == db->end && h.total_bytes == record.len);
    co_assert(memcmp(&h.prev_digest, &db->digest, sizeof h.prev_digest) == 0);
    co_assert(h.time_us > db->time_us || h.kind == WAL_CONFIG);
    if (db->n_commits == db->cap_commits) {
        db->cap_commits = db->cap_commits ? db->cap_commits * 2 : 256;
        db->commits = realloc(db->commits, db->cap_commits * sizeof *db->commits);
    }
    c = &db->commits[db->n_commits++];
    *c = (struct commit){.begin = h.begin_lsn,
                         .end = h.end_lsn,
                         .term = h.term,
                         .db_pages = h.db_pages,
                         .time_us = h.time_us,
                         .bytes = record.len,
                         .txn = h.kind == WAL_TXN,
                         .digest = h.digest};
    snprintf(c->branch, sizeof c->branch, "%s", branch_of(db));
    c->record = malloc(record.len);
    memcpy(c->record, record.data, record.len);
    if (c->txn) {
        db->page_size = h.page_size;
        c->pgnos = calloc(h.n_entries + 1, sizeof *c->pgnos);
        wal_cursor_init(&cursor, record, &h);
        while (wal_cursor_next(&cursor, &entry)) {
            add_version(db, &h, &entry);
            c->pgnos[c->n++] = entry.pgno;
        }
    }
    db->end = h.end_lsn;
    db->digest = h.digest;
    db->time_us = h.time_us;
    if (!mem.hold_ingest)
        db->ingested = db->end;
}

static void append_config(struct mem_db *db)
{
    struct wal_stamp stamp = {.cluster = db->timeline.cluster,
                              .timeline = db->timeline.timeline,
                              .term = db->term,
                              .begin_lsn = db->end,
                              .sealed_lsn = db->end,
                              .time_us = co_wall_us(),
                              .prev_digest = db->digest};
    struct wal_digest digest;
    struct co_buf record = {0};

    if (stamp.time_us <= db->time_us)
        stamp.time_us = db->time_us + 1;
    co_assert(wal_build_config(&db->timeline.config, &stamp, &record, &digest) == 0);
    commit_record(db, co_buf_span(&record));
    co_buf_free(&record);
}

static struct mem_db *make(const char *name)
{
    struct mem_db *db = calloc(1, sizeof *db);

    snprintf(db->name, sizeof db->name, "%s", name);
    db->timeline.cluster = co_id_random();
    db->timeline.timeline = co_id_random();
    db->timeline.database = co_id_random();
    db->timeline.start_lsn = LSN_FIRST;
    db->timeline.config.version = 1;
    db->timeline.config.n = 3;
    db->timeline.n_safekeepers = 3;
    for (uint32_t i = 0; i < 3; i++) {
        db->timeline.config.members[i].node_id = i + 1;
        db->timeline.safekeepers[i].node = i + 1;
    }
    db->end = db->ingested = LSN_FIRST;
    db->first_term = 1;
    db->next = dbs;
    dbs = db;
    return db;
}

/* -- the log -------------------------------------------------------------------------------------
 */

static struct flight *take_flights(struct mem_log *log)
{
    struct flight *f = log->first;

    log->first = log->last = NULL;
    return f;
}

static void free_flights(struct flight *f)
{
    while (f) {
        struct flight *next = f->next;

        co_buf_free(&f->record);
        free(f);
        f = next;
    }
}

static void one_durable(struct mem_log *log)
{
    struct flight *f = log->first;

    log->first = f->next;
    if (!log->first)
        log->last = NULL;
    commit_record(log->db, co_buf_span(&f->record));
    f->next = NULL;
    free_flights(f);
}

/* An event is over; log_close() and an election wait for that. G held. */
static void told(struct mem_log *log)
{
    log->telling--;
    pthread_cond_broadcast(&changed);
}

/* G held; dropped around the call. */
static void tell_durable(struct mem_log *log, term_t term, lsn_t lsn)
{
    log->telling++;
    pthread_mutex_unlock(&G);
    log->events.durable(log->events.owner, term, lsn);
    pthread_mutex_lock(&G);
    told(log);
}

/* G held; dropped around the call. */
static void tell_won(struct mem_db *db)
{
    struct mem_log *log = db->locked;

    db->locked = NULL;
    if (!log)
        return;
    log->telling++;
    pthread_mutex_unlock(&G);
    log->events.won(log->events.owner);
    pthread_mutex_lock(&G);
    told(log);
}

static void *quorum(void *arg)
{
    struct mem_log *log = arg;

    pthread_mutex_lock(&G);
    while (!log->stop) {
        uint64_t now = co_now_us();

        if (log->first && !mem.refuse && !mem.freeze && log->first->due_us <= now) {
            term_t term = log->term;

            while (log->first && log->first->due_us <= now)
                one_durable(log);
            if (!mem.lag_events)
                tell_durable(log, term, log->db->end);
        } else if (!log->first && log->releasing && log->db->leader == log) {
            log->db->leader = NULL;
            log->releasing = false;
            tell_won(log->db);
            pthread_cond_broadcast(&changed);
        } else if (log->first && !mem.refuse && !mem.freeze) {
            wait_ms(log->first->due_us);
        } else {
            wait_ms(now + 2000);
        }
    }
    pthread_mutex_unlock(&G);
    return NULL;
}

/* G held; dropped around the events. */
static void depose(struct mem_log *log, unsigned keep, bool contested)
{
    term_t term = log->term;
    struct mem_db *db = log->db;
    lsn_t kept;

    for (; keep > 0 && log->first; keep--)
        one_durable(log);
    kept = db->end;
    free_flights(take_flights(log));
    log->releasing = false;
    log->contested = contested;
    if (db->leader == log && !contested)
        db->leader = NULL;
    db->term++;
    log->telling++;
    pthread_mutex_unlock(&G);
    log->events.lost(log->events.owner, term, contested, "a test took the term away");
    if (!mem.hold_resolve)
        log->events.resolved(log->events.owner, term, kept);
    pthread_mutex_lock(&G);
    if (mem.hold_resolve) {
        db->held_term = term;
        db->held_kept = kept;
        db->held_log = log;
    }
    told(log);
}

static int refuses(struct mem_log *log, bool writing)
{
    bool dropped, sealed;

    pthread_mutex_lock(&G);
    dropped = log->db->dropped;
    sealed = log->db->timeline.sealed;
    pthread_mutex_unlock(&G);
    if (dropped)
        return co_fail(CO_ERR_DROPPED, "the branch was dropped");
    return sealed && writing ? co_fail(CO_ERR_READONLY, "the timeline is sealed") : 0;
}

static int log_lead(struct cv_log *base, uint32_t timeout_ms, bool (*interrupted)(void *),
                    void *arg, struct cv_lead *out)
{
    struct mem_log *log = (struct mem_log *)base;
    struct mem_db *db = log->db;
    uint64_t until = co_now_us() + timeout_ms * 1000ull;
    bool asked = false;

    (void)interrupted;
    (void)arg;
    mem_count.leads++;
    if (mem.lead_delay_us)
        usleep(mem.lead_delay_us);
    if (refuses(log, true))
        return refuses(log, true);
    pthread_mutex_lock(&G);
    if (mem.lease_lapsed && db->leader != log && db->leader && !db->leader->first)
        db->leader = NULL;
    while (mem.refuse || (db->leader && !(db->leader == log && log->contested)) || log->first ||
           log->telling) {
        if (db->leader && db->leader != log && !asked && !mem.hold_lease) {
            struct mem_log *other = db->leader;

            asked = true;
            other->telling++;
            pthread_mutex_unlock(&G);
            other->events.waiter(other->events.owner, true);
            pthread_mutex_lock(&G);
            told(other);
            continue;
        }
        if (db->leader && db->leader != log && co_now_us() < db->writing_until_us) {
            db->locked = log;
            pthread_mutex_unlock(&G);
            return co_fail(CO_ERR_LOCKED, "the other one has a transaction open");
        }
        if (!wait_ms(until)) {
            pthread_mutex_unlock(&G);
            return co_fail(mem.refuse ? CO_ERR_NO_QUORUM : CO_ERR_BUSY, "no lease in %u ms",
                           timeout_ms);
        }
    }
    db->leader = log;
    log->contested = false;
    log->term = ++db->term;
    if (db->term == db->first_term)
        append_config(db);
    log->tip = db->end;
    *out = (struct cv_lead){log->term, db->end, db->digest, db->time_us};
    pthread_mutex_unlock(&G);
    if (mem.wait_at_lead)
        log->events.waiter(log->events.owner, true);
    return 0;
}

/* The bytes of a record, however it was kept. */
static void whole(struct cv_record *record)
{
    struct cv_spilled *s = record->spilled;

    if (!s)
        return;
    co_assert(co_buf_append_zeros(&record->bytes, (size_t)s->header.total_bytes) == 0);
    co_assert(cv_spilled_read(s, 0, record->bytes.data, record->bytes.len) == 0);
    mem_count.spilled++;
    cv_spilled_free(s);
    record->spilled = NULL;
}

static void log_append(struct cv_log *base, term_t term, struct cv_record *taken_record,
                       bool want_received)
{
    struct co_buf *record = &taken_record->bytes;
    struct mem_log *log = (struct mem_log *)base;
    bool taken = false;
    lsn_t end = 0;

    whole(taken_record);
    mem_count.appends++;
    pthread_mutex_lock(&G);
    if (log->db->leader == log && log->term == term && !log->releasing) {
        struct flight *f = calloc(1, sizeof *f);
        struct wal_header h;

        co_assert(wal_peek(co_buf_span(record), &h) == 0 && h.begin_lsn == log->tip);
        end = log->tip = h.end_lsn;
        f->record = *record;
        f->due_us = co_now_us() + mem.delay_us;
        if (log->last)
            log->last->next = f;
        else
            log->first = f;
        log->last = f;
        taken = true;
        log->telling++;
        pthread_cond_broadcast(&changed);
    } else {
        co_buf_free(record);
    }
    pthread_mutex_unlock(&G);
    memset(record, 0, sizeof *record);
    if (!taken)
        return;
    if (mem.receive && want_received)
        log->events.received(log->events.owner, term, end);
    pthread_mutex_lock(&G);
    told(log);
    pthread_mutex_unlock(&G);
}

static int log_position(struct cv_log *base, uint32_t timeout_ms, lsn_t *out)
{
    struct mem_log *log = (struct mem_log *)base;

    (void)timeout_ms;
    mem_count.positions++;
    if (mem.refuse)
        return co_fail(CO_ERR_NO_QUORUM, "a majority of the safekeepers does not answer");
    if (refuses(log, false))
        return refuses(log, false);
    pthread_mutex_lock(&G);
    *out = log->db->end;
    pthread_mutex_unlock(&G);
    return 0;
}

static int log_follow(struct cv_log *base, uint32_t timeout_ms, lsn_t since, lsn_t *out,
                      struct co_buf *records)
{
    struct mem_db *db = ((struct mem_log *)base)->db;
    int rc = log_position(base, timeout_ms, out);

    pthread_mutex_lock(&G);
    for (uint32_t i = 0; !rc && mem.follow && i < db->n_commits; i++) {
        const struct commit *c = &db->commits[i];

        if (c->begin >= since && c->end <= *out && c->record)
            rc = co_buf_append(records, c->record, c->bytes);
    }
    if (mem.follow_damaged && records->len)
        records->data[records->len - 100] ^= 1;
    pthread_mutex_unlock(&G);
    return rc;
}

static void log_release(struct cv_log *base)
{
    struct mem_log *log = (struct mem_log *)base;

    mem_count.releases++;
    pthread_mutex_lock(&G);
    if (log->db->leader == log) {
        log->releasing = true;
        log->db->writing_until_us = 0;
    }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&G);
}

static void log_writing(struct cv_log *base)
{
    struct mem_log *log = (struct mem_log *)base;

    mem_count.writings++;
    pthread_mutex_lock(&G);
    if (log->db->leader == log)
        log->db->writing_until_us = co_now_us() + 250000;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&G);
    log->events.waiter(log->events.owner, false); /* as it is acknowledged */
}

static void log_abandon(struct cv_log *base, term_t term)
{
    struct mem_log *log = (struct mem_log *)base;

    mem_count.abandons++;
    pthread_mutex_lock(&G);
    if (log->db->leader == log && log->term == term)
        depose(log, 0, false);
    pthread_mutex_unlock(&G);
}

static int log_status(struct cv_log *base, term_t term, lsn_t begin_lsn, uint32_t timeout_ms,
                      enum cv_verdict *out)
{
    struct mem_db *db = ((struct mem_log *)base)->db;

    (void)timeout_ms;
    pthread_mutex_lock(&G);
    *out = term < db->term || !db->leader ? CV_NOT_COMMITTED : CV_UNKNOWN;
    for (uint32_t i = 0; i < db->n_commits; i++)
        if (db->commits[i].begin == begin_lsn)
            *out = db->commits[i].term == term ? CV_COMMITTED : CV_NOT_COMMITTED;
    pthread_mutex_unlock(&G);
    return 0;
}

static void log_close(struct cv_log *base, uint32_t deadline_ms)
{
    struct mem_log *log = (struct mem_log *)base;
    uint64_t until = co_now_us() + deadline_ms * 1000ull;

    pthread_mutex_lock(&G);
    while (log->first && wait_ms(until))
        ;
    log->stop = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&G);
    pthread_join(log->thread, NULL);
    pthread_mutex_lock(&G);
    if (log->db->leader == log)
        log->db->leader = NULL;
    if (log->db->held_log == log)
        log->db->held_log = NULL;
    if (log->db->locked == log)
        log->db->locked = NULL;
    while (log->telling) /* another log's thread tells this one's owner that he has won */
        pthread_cond_wait(&changed, &G);
    free_flights(take_flights(log));
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&G);
    free(log);
}

static void log_stats(struct cv_log *base, struct cv_log_stats *out)
{
    (void)base;
    memset(out, 0, sizeof *out);
    out->records = mem_count.appends;
    out->elections = mem_count.leads;
    out->connected = 3;
}

static bool log_sealed(struct cv_log *base)
{
    return refuses((struct mem_log *)base, true) == CO_ERR_READONLY;
}

static int log_no_room(struct cv_log *base)
{
    (void)base;
    return 0;
}

static uint32_t log_no_quorum_ms(struct cv_log *base, size_t size, char *missing)
{
    (void)base;
    if (missing != NULL)
        snprintf(missing, size, "%s", mem.no_quorum_ms > 0 ? "safekeeper 2 at mem:2 (away)" : "");
    return mem.no_quorum_ms;
}

static const struct cv_log_ops log_ops = {
    .close = log_close,
    .lead = log_lead,
    .append = log_append,
    .position = log_position,
    .follow = log_follow,
    .release = log_release,
    .writing = log_writing,
    .abandon = log_abandon,
    .status = log_status,
    .stats = log_stats,
    .sealed = log_sealed,
    .no_quorum_ms = log_no_quorum_ms,
    .no_room = log_no_room,
};

static int open_log(const struct cv_timeline *timeline, const struct cv_log_events *events,
                    struct cv_log **out)
{
    struct mem_log *log = calloc(1, sizeof *log);

    log->base.ops = &log_ops;
    log->events = *events;
    pthread_mutex_lock(&G);
    for (log->db = dbs; !co_id_eq(&log->db->timeline.timeline, &timeline->timeline);
         log->db = log->db->next)
        ;
    pthread_mutex_unlock(&G);
    pthread_create(&log->thread, NULL, quorum, log);
    *out = &log->base;
    return 0;
}

/* -- the pageserver ------------------------------------------------------------------------------
 */

static struct mem_db *find_branch(const char *name, const char *branch)
{
    char whole[140];

    if (strcmp(branch, "main") == 0)
        return find(name);
    snprintf(whole, sizeof whole, "%s/%s", name, branch);
    return find(whole);
}

static int pages_open(struct cv_pages *p, const char *name, const char *branch, uint32_t timeout_ms,
                      struct cv_timeline *out)
{
    struct mem_db *db;

    (void)p;
    (void)timeout_ms;
    mem_count.opens++;
    if (mem.fail_open)
        return co_fail(mem.fail_open, "no connection to the pageserver at 127.0.0.1:1");
    pthread_mutex_lock(&G);
    db = find_branch(name, branch);
    if (db)
        *out = db->timeline;
    pthread_mutex_unlock(&G);
    return db ? 0 : co_fail(CO_ERR_NOT_FOUND, "there is no %s/%s", name, branch);
}

static int pages_create(struct cv_pages *p, const char *name, uint32_t timeout_ms,
                        struct cv_timeline *out)
{
    struct mem_db *db;

    (void)p;
    (void)timeout_ms;
    mem_count.creates++;
    pthread_mutex_lock(&G);
    db = find(name);
    if (!db)
        db = make(name);
    *out = db->timeline;
    pthread_mutex_unlock(&G);
    return 0;
}

static struct mem_db *by_timeline(const struct co_id *id)
{
    struct mem_db *db = dbs;

    while (db && !co_id_eq(&db->timeline.timeline, id))
        db = db->next;
    return db;
}

/* G held */
static int wait_for_ingest(struct mem_db *db, lsn_t lsn, uint32_t timeout_ms)
{
    uint64_t until = co_now_us() + timeout_ms * 1000ull;

    while (db->ingested < lsn) {
        if (!mem.hold_ingest)
            db->ingested = db->end;
        mem_count.lags += db->ingested < lsn;
        if (db->ingested < lsn && !wait_ms(until))
            return co_fail(CO_ERR_LAG, "the pageserver has %llx, wanted is %llx",
                           (unsigned long long)db->ingested, (unsigned long long)lsn);
    }
    return 0;
}

static int pages_get(struct cv_pages *p, const struct co_id *timeline, lsn_t lsn, lsn_t since,
                     uint32_t page_size, struct cv_page *pages, uint32_t n, uint32_t timeout_ms)
{
    struct mem_db *db;
    int rc;

    (void)p;
    mem_count.gets++;
    if (mem.fail_get)
        return co_fail(mem.fail_get, "the pageserver at 127.0.0.1:1 does not answer");
    pthread_mutex_lock(&G);
    db = by_timeline(timeline);
    co_assert(since <= lsn && page_size == db->page_size);
    rc = wait_for_ingest(db, since, timeout_ms);
    for (uint32_t i = 0; !rc && i < n; i++) {
        bool chain = pages[i].pgno == 0;
        if (chain && pages[i - 1].status == CO_OK && !mem.no_chains)
            pages[i].pgno = bt_chain_next(pages[i - 1].data);
        /* it answers with what it has ingested, as the real one does */
        struct page_version *v =
            version_at(db, pages[i].pgno, lsn < db->ingested ? lsn : db->ingested);

        pages[i].status = v ? CO_OK : CO_ERR_NOT_FOUND;
        mem_count.pages += !chain || v;
        if (v) {
            pages[i].lsn = v->lsn;
            memcpy(pages[i].data, v->data, page_size);
        }
    }
    pthread_mutex_unlock(&G);
    return rc;
}

static int pages_changes(struct cv_pages *p, const struct co_id *timeline, lsn_t since, lsn_t upto,
                         uint32_t timeout_ms, struct cv_changes *out)
{
    lsn_t prev = since;
    struct mem_db *db;
    int rc;

    (void)p;
    mem_count.changes++;
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&G);
    db = by_timeline(timeline);
    rc = wait_for_ingest(db, upto, timeout_ms);
    if (upto == 0) {
        if (!mem.hold_ingest)
            db->ingested = db->end;
        upto = db->ingested;
    }
    out->upto = upto;
    out->all = mem.all_changed && since;
    for (uint32_t i = 0; !rc && i < db->n_commits; i++) {
        struct commit *c = &db->commits[i];

        if (!c->txn || c->end > upto)
            continue;
        out->txn_lsn = c->end;
        out->db_pages = c->db_pages;
        out->page_size = db->page_size;
        out->time_us = c->time_us;
        if (since && c->end > since && !out->all) {
            rc = changes_put_commit(&out->list, prev, c->end, c->db_pages, c->pgnos, c->n);
            prev = c->end;
        }
    }
    pthread_mutex_unlock(&G);
    while (mem.hold_changes && upto >= mem.hold_changes)
        usleep(1000);
    return rc;
}

/* -- history */

static const struct commit *commit_at(const struct mem_db *db, const struct when *when)
{
    const struct commit *found = NULL;

    for (uint32_t i = 0; i < db->n_commits; i++) {
        const struct commit *c = &db->commits[i];

        if (c->txn && (when->kind != WHEN_LSN || c->end <= when->lsn) &&
            (when->kind != WHEN_TIME || c->time_us <= when->time_us))
            found = c;
    }
    return found;
}

static int find_moment(struct mem_db *db, const char *at, const struct commit **out)
{
    struct when when;
    int rc = when_parse(at, co_wall_us(), &when);

    if (rc)
        return rc;
    if (when.kind == WHEN_PIN) {
        struct mem_pin *pin = db->pins;

        while (pin < db->pins + 8 && strcmp(pin->name, when.pin) != 0)
            pin++;
        if (pin == db->pins + 8)
            return co_fail(CO_ERR_NOT_FOUND, "there is no pin %s", when.pin);
        when = (struct when){.kind = WHEN_LSN, .lsn = pin->lsn};
    }
    if (when.kind == WHEN_LSN && when.lsn > db->end)
        return co_fail(CO_ERR_INVAL, "%016llx is beyond the end", (unsigned long long)when.lsn);
    *out = commit_at(db, &when);
    return 0;
}

static int pages_resolve(struct cv_pages *p, const char *name, const char *branch, const char *at,
                         uint32_t timeout_ms, struct cv_moment *out)
{
    const struct commit *c = NULL;
    struct mem_db *db;
    int rc;

    (void)p;
    (void)timeout_ms;
    mem_count.resolves++;
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&G);
    db = find_branch(name, branch);
    rc =
        db ? find_moment(db, at, &c) : co_fail(CO_ERR_NOT_FOUND, "there is no %s/%s", name, branch);
    if (!rc) {
        out->timeline = db->timeline.timeline;
        out->head_lsn = mem.hold_ingest ? db->ingested : db->end;
    }
    if (c) {
        out->lsn = c->end;
        out->time_us = c->time_us;
        out->db_pages = c->db_pages;
        out->page_size = db->page_size;
    }
    pthread_mutex_unlock(&G);
    return rc;
}

static int pages_log(struct cv_pages *p, const char *name, const char *branch, const char *at,
                     lsn_t before_lsn, uint32_t limit, uint32_t timeout_ms, struct cv_logged *out,
                     uint32_t *n, bool *more)
{
    const struct commit *newest = NULL;
    struct mem_db *db;
    int rc;

    (void)p;
    (void)timeout_ms;
    mem_count.logs++;
    *n = 0;
    *more = false;
    pthread_mutex_lock(&G);
    db = find_branch(name, branch);
    rc = db ? find_moment(db, at, &newest)
            : co_fail(CO_ERR_NOT_FOUND, "there is no %s/%s", name, branch);
    for (uint32_t i = !rc && newest ? db->n_commits : 0; i-- > 0;) {
        const struct commit *c = &db->commits[i];

        if (!c->txn || c->end > newest->end || (before_lsn && c->end >= before_lsn))
            continue;
        *more = *n == limit;
        if (*more)
            break;
        out[*n] = (struct cv_logged){c->end, c->time_us, c->db_pages, c->n, {0}};
        snprintf(out[*n].branch, sizeof out->branch, "%.60s", c->branch);
        ++*n;
        mem_count.logged++;
    }
    pthread_mutex_unlock(&G);
    return rc;
}

static void describe(const struct mem_db *db, struct cv_branch *out)
{
    const struct commit *head = commit_at(db, &(struct when){.kind = WHEN_HEAD});

    snprintf(out->name, sizeof out->name, "%.60s", branch_of(db));
    snprintf(out->parent, sizeof out->parent, "%.60s", db->parent);
    out->timeline = db->timeline.timeline;
    out->root = !db->parent[0];
    out->sealed = db->timeline.sealed;
    out->start_lsn = out->root ? LSN_NONE : db->timeline.start_lsn;
    out->head_lsn = head ? head->end : LSN_NONE;
    out->head_us = head ? head->time_us : 0;
    out->db_pages = head ? head->db_pages : 0;
    out->page_size = db->page_size;
}

static int pages_branches(struct cv_pages *p, const char *name, uint32_t timeout_ms,
                          struct cv_branch **out, uint32_t *n)
{
    size_t len = strlen(name);

    (void)p;
    (void)timeout_ms;
    *out = calloc(100, sizeof **out);
    *n = 0;
    pthread_mutex_lock(&G);
    for (struct mem_db *db = dbs; db && *n < 100; db = db->next)
        if (strncmp(db->name, name, len) == 0 && (db->name[len] == 0 || db->name[len] == '/'))
            describe(db, &(*out)[(*n)++]);
    pthread_mutex_unlock(&G);
    return *n ? 0 : co_fail(CO_ERR_NOT_FOUND, "there is no database %s", name);
}

static void pages_close(struct cv_pages *p)
{
    free(p);
}

static void pages_stats(struct cv_pages *p, struct cv_pages_stats *out)
{
    (void)p;
    memset(out, 0, sizeof *out);
    out->round_trips = mem_count.gets + mem_count.changes + mem_count.opens;
    out->pages = mem_count.pages;
}

static const struct cv_pages_ops pages_ops = {
    .close = pages_close,
    .open = pages_open,
    .create = pages_create,
    .get = pages_get,
    .changes = pages_changes,
    .resolve = pages_resolve,
    .log = pages_log,
    .branches = pages_branches,
    .stats = pages_stats,
};

static int open_pages(const char *server, struct cv_pages **out)
{
    (void)server;
    *out = calloc(1, sizeof **out);
    (*out)->ops = &pages_ops;
    return 0;
}

const struct cv_backend mem_backend = {.pages = open_pages, .log = open_log};

/* -- what a test does ----------------------------------------------------------------------------
 */

static void free_db(struct mem_db *db)
{
    for (uint32_t i = 0; i < db->cap_pages; i++) {
        while (db->pages[i]) {
            struct page_version *older = db->pages[i]->older;

            free(db->pages[i]);
            db->pages[i] = older;
        }
    }
    for (uint32_t i = 0; i < db->n_commits; i++)
        free(db->commits[i].pgnos), free(db->commits[i].record);
    free(db->commits);
    free(db->pages);
    free(db);
}

void mem_reset(void)
{
    pthread_mutex_lock(&G);
    while (dbs) {
        struct mem_db *next = dbs->next;

        free_db(dbs);
        dbs = next;
    }
    pthread_mutex_unlock(&G);
    memset(&mem, 0, sizeof mem);
    memset(&mem_count, 0, sizeof mem_count);
}

/* G held. The commits and pages of `from` up to `lsn`, under a new identity. */
static struct mem_db *copy(const struct mem_db *from, const char *name, lsn_t lsn)
{
    struct mem_db *db = make(name);
    struct co_id id = db->timeline.timeline;

    db->timeline = from->timeline;
    db->timeline.timeline = id;
    db->timeline.start_lsn = lsn;
    db->timeline.sealed = false;
    db->page_size = from->page_size;
    db->term = 0;
    db->end = db->ingested = lsn;
    snprintf(db->parent, sizeof db->parent, "%.60s", branch_of(from));
    db->commits = calloc(from->n_commits + 1, sizeof *db->commits);
    db->cap_commits = from->n_commits + 1;
    for (uint32_t i = 0; i < from->n_commits && from->commits[i].end <= lsn; i++) {
        struct commit *c = &db->commits[db->n_commits++];

        *c = from->commits[i];
        c->record = NULL;
        c->pgnos = calloc(c->n + 1, sizeof *c->pgnos);
        if (c->n)
            memcpy(c->pgnos, from->commits[i].pgnos, c->n * sizeof *c->pgnos);
        db->digest = c->digest;
        db->time_us = c->time_us;
    }
    db->timeline.base_digest = db->digest;
    db->cap_pages = from->cap_pages;
    db->pages = calloc(db->cap_pages + 1, sizeof *db->pages);
    for (uint32_t i = 0; i < from->cap_pages; i++) {
        struct page_version **to = &db->pages[i];

        for (struct page_version *v = from->pages[i]; v; v = v->older) {
            if (v->lsn > lsn)
                continue;
            *to = calloc(1, sizeof *v + db->page_size);
            (*to)->lsn = v->lsn;
            memcpy((*to)->data, v->data, db->page_size);
            to = &(*to)->older;
        }
    }
    return db;
}

void mem_branch(const char *name, const char *branch, lsn_t lsn)
{
    char whole[140];
    struct mem_db *db;

    pthread_mutex_lock(&G);
    db = find(name);
    snprintf(whole, sizeof whole, "%.63s/%s", name, branch);
    copy(db, whole, lsn ? lsn : db->timeline.start_lsn);
    pthread_mutex_unlock(&G);
}

void mem_restore(const char *name, lsn_t lsn, const char *keep_as)
{
    struct mem_db *db;

    pthread_mutex_lock(&G);
    db = find(name);
    co_assert(!db->leader || !db->leader->first);
    if (db->leader)
        depose(db->leader, 0, false);
    db->timeline.sealed = true;
    snprintf(db->name, sizeof db->name, "%.63s/%s", name, keep_as);
    copy(db, name, lsn);
    pthread_mutex_unlock(&G);
}

void mem_drop(const char *name)
{
    struct mem_db *db;

    pthread_mutex_lock(&G);
    db = find(name);
    db->dropped = true;
    db->name[0] = 0;
    pthread_mutex_unlock(&G);
}

void mem_rewind(const char *name, lsn_t lsn)
{
    struct mem_db *db;

    pthread_mutex_lock(&G);
    db = find(name);
    co_assert(!db->leader);
    while (db->n_commits && db->commits[db->n_commits - 1].end > lsn) {
        struct commit *c = &db->commits[--db->n_commits];

        free(c->pgnos);
        free(c->record);
    }
    co_assert(db->n_commits);
    db->end = db->ingested = lsn;
    db->digest = db->commits[db->n_commits - 1].digest;
    db->time_us = db->commits[db->n_commits - 1].time_us;
    for (uint32_t i = 0; i < db->cap_pages; i++) {
        while (db->pages[i] && db->pages[i]->lsn > lsn) {
            struct page_version *older = db->pages[i]->older;

            free(db->pages[i]);
            db->pages[i] = older;
        }
    }
    pthread_mutex_unlock(&G);
}

void mem_pin(const char *name, const char *pin, lsn_t lsn)
{
    struct mem_db *db;
    int i = 0;

    pthread_mutex_lock(&G);
    db = find(name);
    while (db->pins[i].name[0])
        i++;
    snprintf(db->pins[i].name, sizeof db->pins[i].name, "%s", pin);
    db->pins[i].lsn = lsn;
    pthread_mutex_unlock(&G);
}

lsn_t mem_head(const char *name)
{
    const struct commit *c;

    pthread_mutex_lock(&G);
    c = commit_at(find(name), &(struct when){.kind = WHEN_HEAD});
    pthread_mutex_unlock(&G);
    return c ? c->end : LSN_NONE;
}

void mem_lose_term(const char *name, unsigned keep)
{
    struct mem_db *db;

    pthread_mutex_lock(&G);
    db = find(name);
    if (db && db->leader)
        depose(db->leader, keep, false);
    pthread_mutex_unlock(&G);
}

void mem_contest(const char *name)
{
    struct mem_db *db;

    pthread_mutex_lock(&G);
    db = find(name);
    if (db && db->leader)
        depose(db->leader, 0, true);
    pthread_mutex_unlock(&G);
}

void mem_resolve(const char *name)
{
    struct mem_db *db;

    pthread_mutex_lock(&G);
    db = find(name);
    if (db && db->held_log) {
        struct mem_log *log = db->held_log;

        db->held_log = NULL;
        pthread_mutex_unlock(&G);
        log->events.resolved(log->events.owner, db->held_term, db->held_kept);
        pthread_mutex_lock(&G);
    }
    pthread_mutex_unlock(&G);
}

void mem_append_config(const char *name)
{
    pthread_mutex_lock(&G);
    append_config(find(name));
    pthread_mutex_unlock(&G);
}

lsn_t mem_position(const char *name)
{
    struct mem_db *db;
    lsn_t lsn;

    pthread_mutex_lock(&G);
    db = find(name);
    lsn = db ? db->end : 0;
    pthread_mutex_unlock(&G);
    return lsn;
}

unsigned mem_transactions(const char *name)
{
    struct mem_db *db;
    unsigned n = 0;

    pthread_mutex_lock(&G);
    db = find(name);
    for (uint32_t i = 0; db && i < db->n_commits; i++)
        n += db->commits[i].txn;
    pthread_mutex_unlock(&G);
    return n;
}

unsigned mem_in_flight(const char *name)
{
    struct mem_db *db;
    unsigned n = 0;

    pthread_mutex_lock(&G);
    db = find(name);
    for (struct flight *f = db && db->leader ? db->leader->first : NULL; f; f = f->next)
        n++;
    pthread_mutex_unlock(&G);
    return n;
}

bool mem_page(const char *name, pgno_t pgno, uint8_t *out, uint32_t size)
{
    struct page_version *v;
    struct mem_db *db;

    pthread_mutex_lock(&G);
    db = find(name);
    v = db ? version_at(db, pgno, db->end) : NULL;
    if (v)
        memcpy(out, v->data, size);
    pthread_mutex_unlock(&G);
    return v != NULL;
}

bool mem_exists(const char *name)
{
    bool yes;

    pthread_mutex_lock(&G);
    yes = find(name) != NULL;
    pthread_mutex_unlock(&G);
    return yes;
}

uint64_t mem_last_record_bytes(const char *name)
{
    struct mem_db *db;
    uint64_t n;

    pthread_mutex_lock(&G);
    db = find(name);
    n = db && db->n_commits ? db->commits[db->n_commits - 1].bytes : 0;
    pthread_mutex_unlock(&G);
    return n;
}
